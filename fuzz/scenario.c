/*
 * Fuzz target: any bytes are a scenario; it runs under all checkers and must pass.
 *
 * One runner serves the whole process, so that an execution pays for what it touches. A scenario that does not pass
 * prints what `blksim run` would print and its text, then aborts: the fuzzer keeps the input, and
 * `blksim decode INPUT` gives the same text again.
 */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "scenario/runner.h"

/* Far above what a scenario of this size needs, far below what a fuzzer calls a hang. */
#define LIMIT_EVENTS 300000
#define LIMIT_NS (3600 * NS_PER_S)

static void complain(const struct scenario *scn, const struct run_result *result)
{
    const struct violation *v = result->violations;
    char *text = scenario_print(scn);

    fprintf(stderr, "%s %s  %s\n", verdict_name(result->verdict), v ? v->check : "?", v ? v->signature : "?");
    fprintf(stderr, "  seen   at %lld ns, event %llu: %s\n", v ? (long long)v->time_ns : 0,
            v ? (unsigned long long)v->event : 0, v ? v->detail : result->error ? result->error : "?");
    fprintf(stderr, "  build  fuzz target scenario\n");
    fprintf(stderr, "  again  build/blksim decode INPUT > found.blk && build/blksim run found.blk\n");
    fprintf(stderr, "--- scenario\n%s---\n", text);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static struct runner *runner;
    const struct run_options options = {.no_files = true, .limit_events = LIMIT_EVENTS, .limit_ns = LIMIT_NS};
    struct scenario *scn = scenario_decode(data, length);
    struct run_result result;
    bool passed;

    SIM_ASSERT(scn);
    if (!runner) {
        runner = runner_new();
    }
    runner_run(runner, scn, &options, false, &result);
    passed = result.verdict == VERDICT_PASS;
    if (!passed) {
        complain(scn, &result);
    }
    run_result_clear(&result);
    scenario_free(scn);
    if (!passed) {
        abort();
    }
    return 0;
}
