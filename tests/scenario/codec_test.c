/* Protects the byte form: nothing is lost in it, and any bytes are a scenario that may run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/runner.h"

#define HEAD "blksim 1\n"

static size_t lossless(const struct scenario *scn)
{
    size_t length;
    uint8_t *bytes = scenario_encode(scn, &length);
    struct scenario *back = scenario_decode(bytes, length);

    if (!scenario_equal(scn, back)) {
        char *a = scenario_print(scn);
        char *b = scenario_print(back);

        print_message("--- before\n%s--- after\n%s", a, b);
        free(a);
        free(b);
        fail();
    }
    scenario_free(back);
    free(bytes);
    return length;
}

static void lossless_text(const char *text)
{
    Error *err = NULL;
    struct scenario *scn = scenario_parse("f", text, strlen(text), &err);

    if (!scn) {
        fail_msg("%s", error_get_pretty(err));
    }
    lossless(scn);
    scenario_free(scn);
}

static void generated(void **state)
{
    size_t bytes = 0;

    for (uint64_t seed = 0; seed < 300; seed++) {
        struct scenario *scn = scenario_generate(seed % 3 ? "mirror" : "bitmap", seed, NULL);

        bytes += lossless(scn);
        scenario_label_all(scn);
        lossless(scn);
        scenario_free(scn);
    }
    /* short enough for a fuzzer to get a grip: some bytes a step */
    assert_true(bytes / 300 < 600);
}

static void what_people_write(void **state)
{
    const struct scn_verb *verb;
    char text[512];

    lossless_text(HEAD);
    lossless_text(
        HEAD "seed 18446744073709551615\nschedule pct depth=64\nchoose disk.latency 0xffffffffffffffff 9 = 7\n");
    lossless_text(HEAD "x-1: @1234567ns on h try cont\nrun 400s\n");
    lossless_text(HEAD "disk a size=5T file=\"b c.img\"\nworkload g ops=100000\nexport a /x\n");
    lossless_text(
        HEAD "disk a\nimg create -f qcow2 -o cluster_size=512,compat=0.10,refcount_bits=1,extended_l2=on a 1E\n"
             "img create -f qcow2 -b a -F qcow2 -o data_file=a,data_file_raw=off,preallocation=full b\n"
             "img check -q -r all a\nexpect img a leaks\nio g aio_write -c 0 64k\n");
    lossless_text(HEAD "expect job m concluded error \"\xc3\xa4\\x01\"\nexpect same a b 1 2\n");
    lossless_text(
        HEAD "blockdev-add driver=qcow2 a.b.c=1 d=[1,{\"e\":null}] f={\"\":-9223372036854775808} g=true h=\"\"\n");
    lossless_text(HEAD "{\"execute\": \"job-pause\", \"arguments\": {\"id\": [[[[1]]]]}}\n");
    lossless_text(HEAD "transaction actions=[{\"data\":{},\"type\":\"abort\"}]\n");
    lossless_text(HEAD
                  "transaction actions=[{\"type\":\"block-dirty-bitmap-merge\",\"data\":{\"node\":\"s\",\"target\":"
                  "\"a\",\"bitmaps\":[\"b\",{\"node\":\"t\",\"name\":\"c\"}]}}] "
                  "properties.completion-mode=grouped\n");
    for (size_t i = 0; (verb = scn_verb_at(i)); i++) {
        if (verb->example) {
            snprintf(text, sizeof(text), HEAD "%s\n", verb->example);
            lossless_text(text);
        }
    }
}

static void many_steps(void **state)
{
    struct scenario *scn = scenario_new();

    for (int i = 0; i < 20000; i++) {
        struct scn_step *step = scenario_add(scn, scn_verb_find("run"));

        qdict_put(step->args, "time", qvalue_int(i));
    }
    lossless(scn);
    scenario_free(scn);
}

static uint64_t mix(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return sim_mix64(*state);
}

static void may_run(const uint8_t *bytes, size_t length, size_t *steps)
{
    const struct run_options options = {.no_files = true};
    struct scenario *scn = scenario_decode(bytes, length);
    Error *err = NULL;

    assert_non_null(scn);
    if (!scenario_check(scn, &options, &err)) {
        char *text = scenario_print(scn);

        fail_msg("%s in\n%s", error_get_pretty(err), text);
    }
    assert_true(scn->step_count <= 64 + 10);
    *steps += scn->step_count;
    scenario_free(scn);
}

static void any_bytes(void **state)
{
    uint64_t random = 1;
    size_t steps = 0;
    uint8_t bytes[200];

    for (int round = 0; round < 20000; round++) {
        size_t length = (size_t)(mix(&random) % sizeof(bytes));

        for (size_t i = 0; i < length; i++) {
            bytes[i] = (uint8_t)mix(&random);
        }
        may_run(bytes, length, &steps);
    }
    /* mostly meaningful: what random bytes say is more than the preamble */
    print_message("%zu steps in 20000 inputs\n", steps);
    assert_true(steps / 20000 >= 8);
}

/* Whatever decodes can be printed, read and encoded again. */
static void decoded_is_printable(void **state)
{
    uint64_t random = 2;
    uint8_t bytes[120];

    for (int round = 0; round < 1000; round++) {
        struct scenario *scn;
        struct scenario *again;
        Error *err = NULL;
        char *text;

        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)mix(&random);
        }
        scn = scenario_decode(bytes, sizeof(bytes));
        text = scenario_print(scn);
        again = scenario_parse("f", text, strlen(text), &err);
        if (!again || !scenario_equal(scn, again)) {
            print_message("%s\n%s", text, err ? error_get_pretty(err) : "not the same\n");
            fail();
        }
        lossless(scn);
        scenario_free(scn);
        scenario_free(again);
        free(text);
    }
}

/* A changed exact form is tamed, bounds and all. */
static void changed_bytes(void **state)
{
    static const char text[] = HEAD "disk a size=900T\nguest g\nworkload g ops=100000\nrun 9000s\nexport a x\n"
                                    "expect same a a\nblock-job-pause device=x\n";
    struct scenario *scn = scenario_parse("f", text, strlen(text), NULL);
    size_t steps = 0;
    size_t length;
    uint8_t *bytes;

    assert_non_null(scn);
    bytes = scenario_encode(scn, &length);
    for (size_t i = 0; i < length; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1u << bit);
            may_run(bytes, length, &steps);
            bytes[i] ^= (uint8_t)(1u << bit);
        }
        may_run(bytes, i, &steps);
    }
    scenario_free(scn);
    free(bytes);
}

static void bounds(void **state)
{
    uint64_t random = 3;
    uint8_t bytes[200];

    for (int round = 0; round < 3000; round++) {
        struct scenario *scn;

        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)mix(&random);
        }
        scn = scenario_decode(bytes, sizeof(bytes));
        for (size_t i = 0; i < scn->step_count; i++) {
            const struct scn_step *step = &scn->steps[i];
            const struct qvalue *size =
                strcmp(step->verb->name, "disk") == 0 ? qdict_get(step->args, "size") : NULL;
            const struct qvalue *ops = qdict_get(step->args, "ops");

            assert_true(!size || size->integer <= TiB);
            assert_true(!ops || ops->integer <= 64);
            assert_true(step->delay_ns <= 10 * NS_PER_S);
            assert_true(strncmp(step->verb->name, "expect", 6) != 0);
            assert_true(step->verb->form == SCN_FORM_WORLD || step->try_);
        }
        scenario_free(scn);
    }
}

/* Fuzz bytes make transactions that are let through to the command, of every action. */
static void transactions(void **state)
{
    static const char *const types[] = {"-add\"",     "-clear\"",  "-merge\"", "-enable\"",
                                        "-disable\"", "-remove\"", "abort"};
    size_t found = 0;
    bool seen[7] = {false};
    uint64_t random = 4;
    uint8_t bytes[200];

    for (int round = 0; round < 2000; round++) {
        struct scenario *scn;

        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)mix(&random);
        }
        scn = scenario_decode(bytes, sizeof(bytes));
        for (size_t i = 0; i < scn->step_count; i++) {
            if (strcmp(scn->steps[i].verb->name, "transaction") == 0) {
                char *text = scn_step_print(scn, i);

                found += qdict_get(scn->steps[i].args, "actions")->seq.count > 1;
                for (size_t t = 0; t < 7; t++) {
                    seen[t] |= strstr(text, types[t]) != NULL;
                }
                free(text);
            }
        }
        scenario_free(scn);
    }
    assert_true(found > 100);
    for (size_t t = 0; t < 7; t++) {
        assert_true(seen[t]);
    }
}

/* Fuzz bytes make nodes of every driver, and reopens of nodes that are there, which are let through. */
static void nodes(void **state)
{
    static const char *const drivers[] = {"raw",       "throttle", "copy-on-read", "blkdebug",
                                          "blkverify", "quorum",   "preallocate",  "null-co"};
    size_t made[8] = {0};
    size_t reopened = 0;
    uint64_t random = 5;
    uint8_t bytes[300];

    for (int round = 0; round < 2000; round++) {
        struct scenario *scn;

        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)mix(&random);
        }
        scn = scenario_decode(bytes, sizeof(bytes));
        for (size_t i = 0; i < scn->step_count; i++) {
            const struct qvalue *args = scn->steps[i].args;

            for (size_t d = 0; d < 8 && strcmp(scn->steps[i].verb->name, "blockdev-add") == 0; d++) {
                made[d] += strcmp(qdict_get(args, "driver")->str.bytes, drivers[d]) == 0;
            }
            if (strcmp(scn->steps[i].verb->name, "blockdev-reopen") == 0 &&
                qdict_get(args, "options")->seq.count > 0) {
                reopened++;
            }
        }
        scenario_free(scn);
    }
    assert_true(reopened > 100);
    for (size_t d = 0; d < 8; d++) {
        assert_true(made[d] > 20);
    }
}

/* What people write of it comes back as it was, in the short form. */
static void short_reopen(void **state)
{
    static const char text[] =
        "blksim 1\ndisk a size=1M\ndisk b size=1M\n"
        "try blockdev-add driver=disk node-name=s disk=a\ntry blockdev-add driver=disk node-name=d disk=b\n"
        "try blockdev-add driver=quorum node-name=t children=[\"s\",\"d\"] vote-threshold=1 read-pattern=fifo\n"
        "try blockdev-add driver=blkdebug node-name=n3 image=t "
        "inject-error=[{\"event\":\"write_aio\",\"once\":true,\"iotype\":\"write\"}]\n"
        "try blockdev-add driver=raw node-name=n4 file=n3 offset=64k\n"
        "try blockdev-reopen options=[{\"driver\":\"raw\",\"node-name\":\"n4\",\"file\":\"n3\",\"offset\":512}]\n"
        "try blockdev-create job-id=m options={\"driver\":\"disk\",\"disk\":\"a\",\"size\":512}\n";
    struct scenario *scn = scenario_parse("<test>", text, sizeof(text) - 1, NULL);
    size_t length;

    assert_non_null(scn);
    uint8_t *bytes = scenario_encode(scn, &length);
    struct scenario *back = scenario_decode(bytes, length);
    assert_true(scenario_equal(scn, back));
    assert_true(length < 200);
    assert_int_not_equal(bytes[0], 0xb5);
    free(bytes);
    scenario_free(back);
    scenario_free(scn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/scenario/codec/lossless/generated", generated, NULL, NULL, NULL},
        {"/scenario/codec/lossless/written", what_people_write, NULL, NULL, NULL},
        {"/scenario/codec/lossless/20000-steps", many_steps, NULL, NULL, NULL},
        {"/scenario/codec/any-bytes", any_bytes, NULL, NULL, NULL},
        {"/scenario/codec/decoded-is-text", decoded_is_printable, NULL, NULL, NULL},
        {"/scenario/codec/changed", changed_bytes, NULL, NULL, NULL},
        {"/scenario/codec/bounds", bounds, NULL, NULL, NULL},
        {"/scenario/codec/transactions", transactions, NULL, NULL, NULL},
        {"/scenario/codec/nodes", nodes, NULL, NULL, NULL},
        {"/scenario/codec/lossless/nodes", short_reopen, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
