/*
 * Fuzz target: any bytes are a scenario; it runs under all checkers, and none of them may object.
 *
 * One runner serves the whole process, so that an execution pays for what it touches. A scenario that breaks a
 * promise prints what `blksim run` would print and its text, then aborts: the fuzzer keeps the input, and `blksim
 * decode INPUT` gives the same text again.
 */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "faults/fault.h"
#include "scenario/runner.h"

/* Far above what a scenario of this size needs, far below what a fuzzer calls a hang. Virtual time costs nothing:
 * its limit is the one that every run has. */
#define LIMIT_EVENTS 1000000

static void complain(const struct scenario *scn, const struct run_result *result)
{
    const struct violation *v = result->violations;
    char *text = scenario_print(scn);

    fprintf(stderr, "%s %s  %s\n", verdict_name(result->verdict), v ? v->check : "?", v ? v->signature : "?");
    fprintf(stderr, "  seen   at %lld ns, event %llu: %s\n", v ? (long long)v->time_ns : 0,
            v ? (unsigned long long)v->event : 0,
            v               ? v->detail
            : result->error ? result->error
                            : "?");
    fprintf(stderr, "  build  fuzz target scenario\n");
    fprintf(stderr, "  again  build/blksim decode INPUT > found.blk && build/blksim run found.blk\n");
    fprintf(stderr, "--- scenario\n%s---\n", text);
    free(text);
}

/* A fault that no correct block layer survives: whatever follows proves nothing. */
static bool has_detect_only_fault(const struct scenario *scn)
{
    for (size_t i = 0; i < scn->step_count; i++) {
        const struct scn_step *step = &scn->steps[i];
        const struct qvalue *name = strcmp(step->verb->name, "fault") == 0 ? qdict_get(step->args, "name") : NULL;
        const struct fault_class *fault = name && name->type == QVALUE_STR ? fault_find(name->str.bytes) : NULL;

        if (fault && fault->detect_only) {
            return true;
        }
    }
    return false;
}

/* An expectation or a refused command without `try` is what the bytes asked for, not what the block layer promised.
 */
static bool is_a_bug(const struct run_result *result)
{
    return result->verdict != VERDICT_PASS &&
           !(result->violations && strcmp(result->violations->check, "expect") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static struct runner *runner;
    const struct run_options options = {.no_files = true, .limit_events = LIMIT_EVENTS};
    struct scenario *scn = scenario_decode(data, length);
    struct run_result result;
    Error *err = NULL;
    bool bug;

    SIM_ASSERT(scn);
    if (has_detect_only_fault(scn) || !scenario_check(scn, &options, &err)) {
        error_free(err); /* it wants host files, say */
        scenario_free(scn);
        return 0;
    }
    if (!runner) {
        runner = runner_new();
    }
    runner_run(runner, scn, &options, false, &result);
    bug = is_a_bug(&result);
    if (bug) {
        complain(scn, &result);
    }
    run_result_clear(&result);
    scenario_free(scn);
    if (bug) {
        abort();
    }
    return 0;
}
