# blksim: see `make help`. Out of tree: everything generated goes to build/.
#
# One build directory holds one way of building: BUILD names it, CC, OPT and EXTRA say how. Targets that need another
# way call make again with these set (`$(call way,...)`); all ways share build/gen/, which the first make writes
# before anything else starts, so that -j is safe.
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
REVISION ?= $(shell git describe --always --dirty 2>/dev/null || echo unversioned)
JOBS     ?= $(shell nproc 2>/dev/null || echo 1)
# As many jobs as processors, unless -j was given.
PARALLEL  = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))

WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
            -Wvla -Wundef -Wno-unused-parameter -Werror
CPPFLAGS := -I. -Ibuild -D_GNU_SOURCE
CFLAGS   := -std=gnu11 -g -fno-omit-frame-pointer -fno-strict-overflow $(OPT) $(WARN) $(EXTRA)
LIBS     := -lboost_context -ljansson -lxxhash -lcrypto -lzstd -lz -lsqlite3 -lm

SRC_CORE  := $(foreach r,$(ROOMS),$(sort $(wildcard $(r)/*.c)))
SRC_CLI   := $(sort $(wildcard cli/*.c))
SRC_TEST  := $(sort $(wildcard tests/*/*_test.c))
SRC_BENCH := $(sort $(wildcard bench/*.c))
SRC_FUZZ  := $(sort $(wildcard fuzz/*.c))
GEN       := $(foreach t,types events sites marks,build/gen/$(t).def)
OBJ_CORE  := $(SRC_CORE:%.c=$(BUILD)/%.o)
OBJ_CLI   := $(SRC_CLI:%.c=$(BUILD)/%.o)
OBJ_BENCH := $(SRC_BENCH:%.c=$(BUILD)/%.o)
OBJ_ALL   := $(OBJ_CORE) $(OBJ_CLI) $(OBJ_BENCH) $(SRC_TEST:%.c=$(BUILD)/%.o) $(SRC_FUZZ:%.c=$(BUILD)/%.o)
TESTS     := $(SRC_TEST:tests/%.c=$(BUILD)/tests/%)

SAN      := -fsanitize=address,undefined -fno-sanitize-recover=all

# One build in its own directory: $(call way,DIRECTORY,COMPILER,OPTIMISATION,EXTRA) TARGET...
way       = $(MAKE) --no-print-directory BUILD=$(1) CC=$(2) OPT="$(3)" EXTRA="$(4)"
asan      = $(call way,build/asan,$(CC),-O1,$(SAN))

.PHONY: all
all: build/blksim ## the optimised command, build/blksim (this is what plain `make` does)

# The optimised binary, whatever BUILD is.
build/blksim: FORCE
	+@$(call way,build/opt,$(CC),$(OPT),$(EXTRA)) build/opt/blksim
	@cmp -s build/opt/blksim $@ || cp build/opt/blksim $@

.PHONY: FORCE
FORCE:

# --- tables joined from the rooms -----------------------------------------------------------------------------

# Written while the first make reads this file; those it calls find them ready.
ifndef BLKSIM_TABLES
ifneq ($(filter-out help clean deps deps-dev,$(or $(MAKECMDGOALS),all)),)
TABLES := $(shell tools/tables.sh $(ROOMS))
endif
endif
export BLKSIM_TABLES := ready

$(GEN):
	@tools/tables.sh $(ROOMS)

# --- objects --------------------------------------------------------------------------------------------------

# Changes when the compiler or its options do: then everything is built anew.
COMMAND := $(CC) $(CPPFLAGS) $(CFLAGS)
$(BUILD)/command: FORCE
	@mkdir -p $(@D)
	@echo '$(COMMAND)' | cmp -s - $@ || echo '$(COMMAND)' > $@

# Changes when a file is added or taken away.
$(BUILD)/objects: FORCE
	@mkdir -p $(@D)
	@echo '$(OBJ_CORE)' | cmp -s - $@ || echo '$(OBJ_CORE)' > $@

$(BUILD)/revision: FORCE
	@mkdir -p $(@D)
	@echo '$(REVISION)' | cmp -s - $@ || echo '$(REVISION)' > $@

# Only this object knows where it comes from.
$(BUILD)/cli/options.o: $(BUILD)/revision
$(BUILD)/cli/options.o: CPPFLAGS += -DBUILD_REVISION='"$(REVISION)"' -DBUILD_FLAGS='"$(strip $(OPT) $(EXTRA))"'

$(BUILD)/%.o: %.c $(BUILD)/command | $(GEN)
	@mkdir -p $(@D)
	@echo "  cc    $@"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/libblksim.a: $(OBJ_CORE) $(BUILD)/objects
	@rm -f $@
	@ar rcs $@ $(OBJ_CORE)

LINK = @echo "  link  $@"; $(CC) $(CFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^)

$(BUILD)/blksim: $(OBJ_CLI) $(BUILD)/libblksim.a
	$(LINK) $(LIBS)

$(BUILD)/tests/%_test: $(BUILD)/tests/%_test.o $(BUILD)/libblksim.a
	$(LINK) -lcmocka $(LIBS)

$(BUILD)/bench/bench: $(OBJ_BENCH) $(BUILD)/libblksim.a
	$(LINK) $(LIBS)

# A fuzz target is fuzz/NAME.c and its parts fuzz/NAME_*.c.
TARGETS := $(foreach f,$(SRC_FUZZ:fuzz/%.c=%),$(if $(findstring _,$(f)),,$(f)))
$(foreach t,$(TARGETS),$(eval \
    $(BUILD)/fuzz/$(t)-target $(BUILD)/fuzz/$(t)-replay: $(patsubst %.c,$(BUILD)/%.o,$(filter fuzz/$(t)_%,$(SRC_FUZZ)))))

# With a main of the fuzzer's, and with our own that replays files.
$(BUILD)/fuzz/%-target: $(BUILD)/fuzz/%.o $(BUILD)/libblksim.a
	$(LINK) $(LIBS) -fsanitize=fuzzer

$(BUILD)/fuzz/%-replay: $(BUILD)/fuzz/%.o $(BUILD)/fuzz/replay_main.o $(BUILD)/libblksim.a
	$(LINK) $(LIBS)

.PHONY: tests
tests: $(TESTS) $(BUILD)/blksim

.SECONDARY: $(OBJ_ALL)
-include $(OBJ_ALL:.o=.d)

# --- what everyone runs ---------------------------------------------------------------------------------------

.PHONY: deps
deps: ## install what building and running need (as root or with sudo), or say what is missing
	@tools/deps.sh run

.PHONY: deps-dev
deps-dev: ## install what developing needs: clang, fuzzers, coverage, debuggers, judges
	@tools/deps.sh run test dev

.PHONY: run
run: deps ## the main job: build, 1,000 seeds and a real disk image under all checkers, a summary
	@$(MAKE) --no-print-directory $(PARALLEL) build/blksim
	@tools/run.sh

.PHONY: test
test: ## build with sanitizers and run every test
	@tools/deps.sh run test
	+@$(asan) $(PARALLEL) tests
	@tools/test.sh build/asan

# --- while developing -----------------------------------------------------------------------------------------

.PHONY: unit
unit: ## one unit test with sanitizers: make unit T=sim/disk
	@[ -f 'tests/$(T)_test.c' ] || { echo "unit: T='$(T)' is no test, expected FOLDER/UNIT as in tests/FOLDER/UNIT_test.c" >&2; exit 2; }
	+@$(asan) build/asan/tests/$(T)_test
	@build/asan/tests/$(T)_test

.PHONY: asan
asan: ## the command with sanitizers, build/asan/blksim
	+@$(asan) build/asan/blksim

.PHONY: lint
lint: ## rooms, banned functions, layout, clang-tidy
	@tools/lint.sh $(ROOMS)

.PHONY: bench
bench: ## figures beside their floors: [PART=bitmaps|jobs|qcow2|requests]
	+@$(call way,build/opt,$(CC),-O2,) build/opt/bench/bench
	@build/opt/bench/bench $(PART)

.PHONY: judge
judge: all ## let real qemu-img judge what generated runs leave on their disks: [PROFILE=power] [SEEDS=1..300]
	@tools/judge.py --profile $(or $(PROFILE),power) --seeds $(or $(SEEDS),1..300)

.PHONY: determinism
determinism: build/blksim ## the same hashes from every compiler, option, heap and process count
	@tools/determinism.sh

.PHONY: mutants
mutants: build/blksim ## put known bugs back and see which checker finds them: [M=NAME] [SEEDS=N]
	@tools/mutants.sh $(M)

.PHONY: readme
readme: build/blksim ## README.md's walk-through of a failing seed, with what is printed now
	@tools/readme.sh

.PHONY: facts
facts: ## the facts of the reference and the tests that protect each: [PAGE=bitmaps]
	@tools/facts.sh $(PAGE)

.PHONY: seed-table
seed-table: ## the commits of the seed history, the tests named for each and whether these are green: [FORM=--markdown]
	+@$(asan) $(PARALLEL) $$(tools/seed-table.sh --programs build/asan) >&2
	@tools/seed-table.sh $(FORM) build/asan

.PHONY: edges
edges: ## the sharp edges of jobs, with the tests, checkers and mutants that catch each
	@tools/edges.sh

.PHONY: matrix
matrix: ## verbs and states of jobs, and all transitions, as the tests reach them; fails when one is not reached
	+@$(call way,build/opt,$(CC),-O2,) build/opt/tests/jobs/matrix_test
	@tools/job-matrix.sh build/opt/tests/jobs/matrix_test

.PHONY: hbitmap-sweep
hbitmap-sweep: ## ten million operations on a bitmap against a plain array, with sanitizers: [OPS=10000000]
	+@$(asan) build/asan/tests/block/hbitmap_model_test
	@HBITMAP_OPS=$(or $(OPS),10000000) build/asan/tests/block/hbitmap_model_test

# --- coverage -------------------------------------------------------------------------------------------------

.PHONY: coverage
coverage: ## lines and branches that tests and a sweep reach, build/reports/coverage/index.html
	+@$(call way,build/coverage,gcc,-O0,--coverage -fprofile-update=atomic) tests
	@tools/coverage.sh build/coverage

# --- fuzzing --------------------------------------------------------------------------------------------------

FUZZ_CLANG ?= clang
FUZZ_SAN   := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-sanitize-coverage=trace-cmp

.PHONY: fuzz-build
fuzz-build: ## fuzz targets: build/fuzz/NAME, NAME-cov, NAME-replay and build/afl/NAME
	@mkdir -p build/fuzz build/afl
	+@$(call way,build/fuzz/san,$(FUZZ_CLANG),-O1,$(FUZZ_SAN)) $(TARGETS:%=build/fuzz/san/fuzz/%-target)
	+@$(call way,build/fuzz/plain,$(FUZZ_CLANG),-O2,-fsanitize=fuzzer-no-link) $(TARGETS:%=build/fuzz/plain/fuzz/%-target)
	+@$(call way,build/opt,$(CC),-O2,) $(TARGETS:%=build/opt/fuzz/%-replay)
	@for t in $(TARGETS); do cp build/fuzz/san/fuzz/$$t-target build/fuzz/$$t && \
	    cp build/fuzz/plain/fuzz/$$t-target build/fuzz/$$t-cov && \
	    cp build/opt/fuzz/$$t-replay build/fuzz/$$t-replay || exit 1; done
	@if command -v afl-clang-fast >/dev/null; then \
	    $(MAKE) --no-print-directory BUILD=build/afl/obj CC=afl-clang-fast OPT=-O2 EXTRA= \
	        $(TARGETS:%=build/afl/obj/fuzz/%-target) && \
	    for t in $(TARGETS); do cp build/afl/obj/fuzz/$$t-target build/afl/$$t; done; \
	else echo "afl-clang-fast is not installed: build/afl/ is left out (make deps-dev)"; fi

.PHONY: fuzz
fuzz: $(if $(filter-out $(TARGETS),$(T)),fuzz-unknown,fuzz-build build/blksim) ## fuzz for a while: [T=scenario|image] [TIME=60]
	@tools/fuzz.sh $(or $(T),scenario) $(or $(TIME),60)

.PHONY: fuzz-unknown
fuzz-unknown:
	@echo "fuzz: there is no target '$(T)', expected one of: $(TARGETS)" >&2; exit 2

# --- housekeeping ---------------------------------------------------------------------------------------------

.PHONY: clean
clean: ## remove build/
	rm -rf build

.PHONY: help
help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | \
	    awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'
