/* Protects the shrinker: what does not matter goes, what matters stays, and what is left is short and round. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scenario/runner.h"

static struct scenario *parse(const char *text)
{
    Error *err = NULL;
    struct scenario *scn = scenario_parse("test.blk", text, strlen(text), &err);

    if (!scn) {
        fail_msg("%s", error_get_pretty(err));
    }
    return scn;
}

/* Shrinks text while fails says so; the result as text, caller frees. */
static char *shrunk(const char *text, bool (*fails)(void *opaque, const struct scenario *scn), void *opaque)
{
    struct scenario *scn = parse(text);
    struct scenario *small = scenario_shrink(scn, fails, opaque, NULL);
    char *result = scenario_print(small);

    scenario_free(small);
    scenario_free(scn);
    return result;
}

static void assert_shrunk(const char *text, bool (*fails)(void *opaque, const struct scenario *scn), void *opaque,
                          const char *expected)
{
    char *result = shrunk(text, fails, opaque);

    assert_string_equal(result, expected);
    free(result);
}

static const struct scn_step *step_of(const struct scenario *scn, const char *verb)
{
    for (size_t i = 0; i < scn->step_count; i++) {
        if (strcmp(scn->steps[i].verb->name, verb) == 0) {
            return &scn->steps[i];
        }
    }
    return NULL;
}

static int64_t int_of(const struct scn_step *step, const char *key)
{
    const struct qvalue *v = step ? qdict_get(step->args, key) : NULL;

    return v && v->type == QVALUE_INT ? v->integer : -1;
}

static const char drawn[] = "blksim 1\n"
                            "seed 203\n"
                            "schedule random\n"
                            "disk src size=3168768 latency=20us content=stamp\n"
                            "disk dst type=device size=3168768 queue-depth=3\n"
                            "blockdev-add driver=disk node-name=s disk=src\n"
                            "blockdev-add driver=disk node-name=d disk=dst\n"
                            "guest g node=s queue-depth=23 werror=enospc\n"
                            "try fault error disk=src errno=EIO nth=4 count=3\n"
                            "+1us workload g ops=80 min=512 max=16k\n"
                            "+4762us try io g aio_write -f 1261056 59904\n"
                            "try blockdev-mirror device=g target=d sync=full granularity=512k\n"
                            "try stop\n"
                            "try cont\n";

/* A verb is there: nothing else matters but what it needs itself. */
static bool has_verb(void *opaque, const struct scenario *scn)
{
    return step_of(scn, opaque) != NULL;
}

static void steps(void **state)
{
    char stop[] = "stop", guest[] = "guest", fault[] = "fault";

    assert_shrunk(drawn, has_verb, stop, "blksim 1\nstop\n");
    assert_shrunk(drawn, has_verb, guest, "blksim 1\nguest g\n");
    assert_shrunk(drawn, has_verb, fault, "blksim 1\ndisk src\nfault error disk=src\n");
}

/* Two disks of one size, at least a bound: neither can shrink alone. */
static bool same_size(void *opaque, const struct scenario *scn)
{
    const int64_t *bound = opaque;
    int64_t first = -1;

    for (size_t i = 0; i < scn->step_count; i++) {
        int64_t size = int_of(&scn->steps[i], "size");

        if (size >= 0 && first >= 0) {
            return size == first && size >= *bound;
        }
        first = size;
    }
    return false;
}

static void sizes_together(void **state)
{
    int64_t bound = 8 * KiB;

    assert_shrunk(drawn, same_size, &bound, "blksim 1\ndisk src size=8k\ndisk dst size=8k\n");
    bound = 3 * MiB + 1;
    assert_shrunk(drawn, same_size, &bound, "blksim 1\ndisk src size=3092k\ndisk dst size=3092k\n");
}

/* A write of some kind that begins at 0. */
static bool writes(void *opaque, const struct scenario *scn)
{
    return step_of(scn, "workload") || step_of(scn, "io write");
}

static void workload_to_write(void **state)
{
    char *text = shrunk(drawn, writes, NULL);

    assert_non_null(strstr(text, "\nio g write 0 "));
    assert_null(strstr(text, "workload"));
    free(text);
}

static bool many_ops(void *opaque, const struct scenario *scn)
{
    return int_of(step_of(scn, "workload"), "ops") >= 5;
}

static void ops_stay(void **state)
{
    assert_shrunk(drawn, many_ops, NULL, "blksim 1\nguest g\nworkload g ops=5\n");
}

/* A label stays where a draw depends on it, and only there. */
static bool labelled(void *opaque, const struct scenario *scn)
{
    for (size_t i = 0; i < scn->step_count; i++) {
        char label[24];

        if (strcmp(scn->steps[i].verb->name, "cont") == 0) {
            return strcmp(scn_step_label(scn, i, label, sizeof(label)), "11") == 0 && step_of(scn, "stop") != NULL;
        }
    }
    return false;
}

static void labels(void **state)
{
    assert_shrunk(drawn, labelled, NULL, "blksim 1\n10: stop\n11: cont\n");
    assert_shrunk("blksim 1\nstop\ndisk a\n11: cont\n", labelled, NULL, "blksim 1\nstop\n11: cont\n");
}

static bool late(void *opaque, const struct scenario *scn)
{
    const struct scn_step *step = step_of(scn, "stop");

    return step && step->delay == SCN_DELAY_RELATIVE && step->delay_ns >= 4700 * NS_PER_US;
}

static void delays(void **state)
{
    assert_shrunk("blksim 1\nseed 5\n+4762123ns try stop\n", late, NULL, "blksim 1\n+4700us stop\n");
}

/* One recorded choice of many. */
static bool pinned(void *opaque, const struct scenario *scn)
{
    for (size_t i = 0; i < scn->pin_count; i++) {
        if (scn->pins[i].ordinal == 77) {
            return true;
        }
    }
    return false;
}

struct counted {
    unsigned runs;
};

static bool pinned_counted(void *opaque, const struct scenario *scn)
{
    struct counted *counted = opaque;

    counted->runs++;
    return pinned(NULL, scn);
}

static void pins_in_chunks(void **state)
{
    struct scenario *scn = parse("blksim 1\nschedule random\nstop\n");
    struct counted counted = {0};
    struct scenario *small;

    scn->pins = calloc(1000, sizeof(*scn->pins));
    assert_non_null(scn->pins);
    scn->pin_count = 1000;
    for (unsigned i = 0; i < 1000; i++) {
        scn->pins[i].ordinal = i;
    }
    small = scenario_shrink(scn, pinned_counted, &counted, NULL);
    assert_int_equal(small->pin_count, 1);
    assert_int_equal(small->step_count, 0);
    assert_in_range(counted.runs, 1, 200);
    scenario_free(small);
    scenario_free(scn);
}

static const char three_actions[] =
    "blksim 1\n"
    "try transaction actions=[{\"type\":\"abort\",\"data\":{}},{\"type\":\"block-dirty-bitmap-merge\",\"data\":"
    "{\"node\":\"n\",\"target\":\"t\",\"bitmaps\":[\"a\",\"b\",\"c\"]}},{\"type\":\"abort\",\"data\":{}}] "
    "properties.completion-mode=individual\n";

static bool says(const struct scenario *scn, const char *what)
{
    char *text = scenario_print(scn);
    bool found = strstr(text, what) != NULL;

    free(text);
    return found;
}

static bool merges_b(void *opaque, const struct scenario *scn)
{
    return says(scn, "\"b\"") && says(scn, "block-dirty-bitmap-merge");
}

static bool merges_b_in_transaction(void *opaque, const struct scenario *scn)
{
    return merges_b(opaque, scn) && says(scn, "transaction");
}

/* Actions and sources that do not matter go; what is left alone is a command. */
static void actions_and_sources(void **state)
{
    assert_shrunk(three_actions, merges_b, NULL,
                  "blksim 1\ntry block-dirty-bitmap-merge node=n target=t bitmaps=[\"b\"]\n");
    assert_shrunk(
        three_actions, merges_b_in_transaction, NULL,
        "blksim 1\ntry transaction actions=[{\"type\":\"block-dirty-bitmap-merge\",\"data\":{\"node\":\"n\","
        "\"target\":\"t\",\"bitmaps\":[\"b\"]}}]\n");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"/scenario/shrink/steps", steps, NULL, NULL, NULL},
        {"/scenario/shrink/sizes-together", sizes_together, NULL, NULL, NULL},
        {"/scenario/shrink/workload-to-write", workload_to_write, NULL, NULL, NULL},
        {"/scenario/shrink/ops-stay", ops_stay, NULL, NULL, NULL},
        {"/scenario/shrink/labels", labels, NULL, NULL, NULL},
        {"/scenario/shrink/delays", delays, NULL, NULL, NULL},
        {"/scenario/shrink/actions-and-sources", actions_and_sources, NULL, NULL, NULL},
        {"/scenario/shrink/pins-in-chunks", pins_in_chunks, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
