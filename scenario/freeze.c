/*
 * Writing the choices of a run into its scenario (DESIGN 2.3): PCT's depend on the length of the run, so an edit
 * would change them all.
 */
#include "scenario/runner.h"

#include <stdlib.h>
#include <string.h>

static void add_pins(struct scenario *scn, const struct run_result *result)
{
    size_t total = scn->pin_count + result->choice_count;

    scn->pins = realloc(scn->pins, MAX(total, (size_t)1) * sizeof(*scn->pins));
    SIM_ASSERT(scn->pins);
    for (size_t i = 0; i < result->choice_count; i++) {
        const struct sim_pin *pin = &result->choices[i];

        scn->pins[scn->pin_count++] = (struct scn_pin){
            .site = pin->site, .entity = pin->entity, .ordinal = pin->ordinal, .value = pin->value};
    }
}

struct scenario *scenario_freeze(const struct scenario *scn, const struct run_options *options)
{
    struct run_options recording = {.checks = options->checks,
                                    .no_files = options->no_files,
                                    .limit_ns = options->limit_ns,
                                    .record_choices = true};
    struct scenario *frozen = scenario_copy(scn);
    struct runner *runner = runner_new();
    struct run_result result;

    runner_run(runner, scn, &recording, false, &result);
    frozen->pin_count = 0; /* the recorded answers include those of the scenario's own pins */
    add_pins(frozen, &result);
    frozen->schedule = SCN_SCHEDULE_REPLAY;
    frozen->pct_depth = 0;
    run_result_clear(&result);
    runner_free(runner);
    return frozen;
}
