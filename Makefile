# blksim: see `make help`. Out of tree: everything generated goes to build/.
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

ROOMS    := sim block jobs vm monitor faults check scenario
CC       ?= gcc
ifeq ($(origin CC),default)
CC       := gcc
endif
BUILD    ?= build/opt
OPT      ?= -O2
EXTRA    ?=
PYTHON   ?= python3

WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
            -Wvla -Wundef -Wno-unused-parameter -Werror
CPPFLAGS := -I. -Ibuild -D_GNU_SOURCE
CFLAGS   := -std=gnu11 -g -fno-omit-frame-pointer -fno-strict-overflow $(OPT) $(WARN) $(EXTRA)
LIBS     := -lboost_context -ljansson -lxxhash -lcrypto -lzstd -lz -lsqlite3 -lm

SRC_CORE := $(foreach r,$(ROOMS),$(sort $(wildcard $(r)/*.c)))
SRC_CLI  := $(sort $(wildcard cli/*.c))
SRC_TEST := $(sort $(wildcard tests/*/*_test.c))
GEN      := $(foreach t,types events sites marks,build/gen/$(t).def)
OBJ_CORE := $(SRC_CORE:%.c=$(BUILD)/%.o)
OBJ_CLI  := $(SRC_CLI:%.c=$(BUILD)/%.o)
TESTS    := $(SRC_TEST:tests/%.c=$(BUILD)/tests/%)

.PHONY: all
all: build/blksim ## the optimised command, build/blksim

# The optimised binary, wherever its objects live.
build/blksim: $(GEN) FORCE
	@$(MAKE) --no-print-directory BUILD=build/opt build/opt/blksim
	@cmp -s build/opt/blksim $@ || cp build/opt/blksim $@

.PHONY: FORCE
FORCE:

# --- tables joined from the rooms -----------------------------------------------------------------------------

build/gen/%.def: FORCE
	@mkdir -p $(@D)
	@for r in $(ROOMS); do [ -f $$r/$*.def ] && cat $$r/$*.def; done > $@.tmp || true
	@cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@

# --- objects --------------------------------------------------------------------------------------------------

$(BUILD)/%.o: %.c | $(GEN)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/libblksim.a: $(OBJ_CORE)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/blksim: $(OBJ_CLI) $(BUILD)/libblksim.a
	$(CC) $(CFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/tests/%_test: $(BUILD)/tests/%_test.o $(BUILD)/libblksim.a
	$(CC) $(CFLAGS) -o $@ $^ -lcmocka $(LIBS)

-include $(OBJ_CORE:.o=.d) $(OBJ_CLI:.o=.d) $(SRC_TEST:tests/%.c=$(BUILD)/tests/%.d)

# --- one unit while developing: make unit T=sim/disk ---------------------------------------------------------

.PHONY: unit
unit: ## build and run one test with sanitizers: make unit T=sim/disk
	@$(MAKE) --no-print-directory BUILD=build/asan OPT="-O1" EXTRA="$(SAN)" build/asan/tests/$(T)_test
	@build/asan/tests/$(T)_test

SAN := -fsanitize=address,undefined -fno-sanitize-recover=all

.PHONY: clean
clean: ## remove build/
	rm -rf build

.PHONY: help
help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'
