/* Protects canonical text: parsing what was printed gives the same tree, and printing that gives the same text. */
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

static struct scenario *parse(const char *text)
{
    Error *err = NULL;
    struct scenario *scn = scenario_parse("f", text, strlen(text), &err);

    if (!scn) {
        fail_msg("%s in\n%s", error_get_pretty(err), text);
    }
    return scn;
}

/* Gives back the canonical text. */
static char *round_trip(const struct scenario *scn)
{
    char *text = scenario_print(scn);
    struct scenario *again = parse(text);
    char *second = scenario_print(again);

    if (!scenario_equal(scn, again)) {
        fail_msg("not the same tree:\n%s", text);
    }
    assert_string_equal(text, second);
    scenario_free(again);
    free(second);
    return text;
}

static void canonical(const char *line, const char *expected)
{
    struct scenario *scn = parse(line);
    char *text = round_trip(scn);

    assert_string_equal(text, expected);
    scenario_free(scn);
    free(text);
}

static void examples_of_all_verbs(void **state)
{
    const struct scn_verb *verb;
    size_t seen = 0;

    for (size_t i = 0; (verb = scn_verb_at(i)); i++) {
        char text[512];
        struct scenario *scn;

        assert_ptr_equal(scn_verb_find(verb->name), verb);
        assert_non_null(verb->doc);
        if (!verb->example) {
            continue;
        }
        snprintf(text, sizeof(text), HEAD "7: @1s %s%s\n", strncmp(verb->name, "expect", 6) == 0 ? "" : "try ",
                 verb->example);
        scn = parse(text);
        assert_ptr_equal(scn->steps[0].verb, verb);
        free(round_trip(scn));
        scenario_free(scn);
        seen++;
    }
    assert_true(seen > 25);
}

static void settings_and_forms(void **state)
{
    canonical(HEAD "seed 0x10\nschedule pct depth=3\nchoose disk.latency 5 1 = 2\n",
              HEAD "seed 16\nschedule pct depth=3\nchoose disk.latency 0x0000000000000005 1 = 2\n");
    canonical(HEAD "schedule calm\nseed 0\n", HEAD);
    canonical(HEAD "disk a latency=1500us size=1024k type=device discard=false\n",
              HEAD "disk a type=device size=1M latency=1500us discard=off\n");
    canonical(HEAD "io g aio_write 0 1024 -f -P 17\n", HEAD "io g aio_write -f -P 0x11 0 1k\n");
    canonical(HEAD "wait BLOCK_JOB_ERROR timeout=0.5s device=m\n",
              HEAD "wait BLOCK_JOB_ERROR timeout=500ms device=m\n");
    canonical(HEAD "expect view s 0 64k -P 3\n", HEAD "expect view s -P 0x03 0 64k\n");
    canonical(HEAD "expect job m concluded error \"No space left\"\n",
              HEAD "expect job m concluded error \"No space left\"\n");
    canonical(HEAD "img create a 1024k -f raw -q\n", HEAD "img create -f raw -q a 1M\n");
    canonical(HEAD "img create -o lazy_refcounts=true a -f qcow2 -o \"compat=1.1,cluster_size=65536\" 64M\n",
              HEAD "img create -f qcow2 -o cluster_size=64k,compat=1.1,lazy_refcounts=on a 64M\n");
    canonical(HEAD "img create -f qcow2 -b a b -F raw -o data_file=c\n",
              HEAD "img create -f qcow2 -b a -F raw -o data_file=c b\n");
    canonical(HEAD "img check a -r leaks\n", HEAD "img check -r leaks a\n");
    canonical(HEAD "io g write 0 64k -c\n", HEAD "io g write -c 0 64k\n");
    canonical(HEAD "export a \"out put.img\"\n", HEAD "export a \"out put.img\"\n");
    canonical(HEAD "1: +1000us on h try stop\n", HEAD "1: +1ms on h try stop\n");
    canonical(HEAD " { \"execute\" : \"stop\" , \\\n \"id\": 1 }\n", HEAD "{\"execute\":\"stop\",\"id\":1}\n");
}

static void values_of_commands(void **state)
{
    canonical(HEAD "blockdev-add x=\"true\" driver=raw y=true z=\"5\" w=5 v=\"\" u=\"a b\" t=null r={} q=[]\n",
              HEAD "blockdev-add driver=raw x=\"true\" y=true z=\"5\" w=5 v=\"\" u=\"a b\" t=null r={} q=[]\n");
    canonical(HEAD "blockdev-add driver=raw file={\"driver\": \"disk\", \"disk\": \"a\"}\n",
              HEAD "blockdev-add driver=raw file.driver=disk file.disk=a\n");
    canonical(HEAD "blockdev-add driver=raw x={\"a.b\": {\"c\": 1}} y={\"a\": {}, \"b\": [1, \"\\u00e4\\n\"]}\n",
              HEAD "blockdev-add driver=raw x={\"a.b\":{\"c\":1}} y={\"a\":{},\"b\":[1,\"\xc3\xa4\\n\"]}\n");
    canonical(
        HEAD "blockdev-add driver=raw x=\"q\\\"b\\\\n\\n\\x01#= {\" y=\"#a\" z=a=b w=-9223372036854775808 v=007\n",
        HEAD
        "blockdev-add driver=raw x=\"q\\\"b\\\\n\\n\\x01#= {\" y=\"#a\" z=\"a=b\" w=-9223372036854775808 v=007\n");
}

static void generated(void **state)
{
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct scenario *scn = scenario_generate("mirror", seed, NULL);
        struct scenario *copy = scenario_copy(scn);

        assert_true(scenario_equal(scn, copy));
        free(round_trip(scn));
        scenario_free(copy);
        scenario_label_all(scn);
        free(round_trip(scn));
        scenario_free(scn);
    }
}

static void single_steps(void **state)
{
    struct scenario *scn = parse(HEAD "run 10ms\nx: try cont\n");
    char *text = scn_step_print(scn, 1);

    assert_string_equal(text, "x: try cont");
    free(text);
    scenario_free(scn);
}

/* What differs in one thing is not equal. */
static void inequality(void **state)
{
    static const char *const texts[] = {
        HEAD "run 10ms\n",
        HEAD "run 11ms\n",
        HEAD "try run 10ms\n",
        HEAD "+0s run 10ms\n",
        HEAD "a: run 10ms\n",
        HEAD "on h run 10ms\n",
        HEAD "seed 1\nrun 10ms\n",
        HEAD "schedule random\nrun 10ms\n",
        HEAD "settle\n",
        HEAD "choose disk.latency 1 0 = 1\nrun 10ms\n",
        HEAD "choose disk.latency 1 0 = 2\nrun 10ms\n",
        HEAD,
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(texts); k++) {
            struct scenario *a = parse(texts[i]);
            struct scenario *b = parse(texts[k]);

            assert_int_equal(scenario_equal(a, b), i == k);
            scenario_free(a);
            scenario_free(b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/scenario/print/all-verbs", examples_of_all_verbs, NULL, NULL, NULL},
        {"/scenario/print/canonical", settings_and_forms, NULL, NULL, NULL},
        {"/scenario/print/values", values_of_commands, NULL, NULL, NULL},
        {"/scenario/print/generated", generated, NULL, NULL, NULL},
        {"/scenario/print/step", single_steps, NULL, NULL, NULL},
        {"/scenario/print/equality", inequality, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
