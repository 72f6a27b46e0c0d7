/*
 * Power: its loss as a step, and in the middle of one (fault power-cut).
 *
 *     power fails   the host dies with all that it had in memory; media keep what is durable and part of the rest
 *     dark          steps are left out: there is no host to do them
 *     power returns the host comes up empty; later steps open what they need
 *
 * As a step both happen at once. A power-cut may find the runner's coroutine waiting for the dead host: whatever it
 * waits for ends, and nobody looks at the outcome.
 */
#include "scenario/runner_int.h"

#include <string.h>

bool runner_loses_power(const struct scenario *scn)
{
    for (size_t i = 0; i < scn->step_count; i++) {
        const struct scn_step *step = &scn->steps[i];

        if (step->verb->run == scn_run_powerloss ||
            (step->verb->run == scn_run_fault && strcmp(step_str(step, "name", ""), "power-cut") == 0)) {
            return true;
        }
    }
    return false;
}

/* A drawn loss looks at the media as the crash left them; the others mean all that was under way. */
static void power_fails(struct runner *runner, enum disk_keep keep)
{
    if (keep == DISK_KEEP_DRAWN) {
        host_crash(runner->host);
    }
    for (struct disk *disk = disk_first(runner->sim); disk; disk = disk_next(disk)) {
        disk_power_loss_keeping(disk, keep);
    }
    if (keep != DISK_KEEP_DRAWN) {
        host_crash(runner->host);
    }
    runner->host = NULL;
    runner->dark = true;
    runner->stats.power_losses++;
    runner_forget_workloads(runner); /* their pauses would end in the dark */
}

void runner_power_returns(struct runner *runner)
{
    SIM_ASSERT(runner->dark && !runner->host);
    /* only now: media looked at the data of requests that were inside, and a step may have waited for one */
    runner_forget_requests(runner);
    runner_forget_owners(runner);
    runner->writes_out = 0;
    runner->expected_error = NULL;
    runner->host = runner_host_boot(runner, "h");
    runner->dark = false;
}

bool runner_cut_power(struct runner *runner)
{
    enum disk_keep keep;

    if (!fault_take_power_cut(runner->sim, &keep)) {
        return false;
    }
    if (runner->dark || runner->steps_done) {
        return false; /* it is too late for it: nothing would open what is left */
    }
    power_fails(runner, keep);
    runner->give_up = true;
    runner->wants = RUNNER_GOES;
    co_sleep_wake(&runner->event_wait);
    coroutine_wake(runner->co);
    return true;
}

void scn_run_powerloss(struct runner *runner, const struct scn_step *step)
{
    const char *keep = step_str(step, "keep", "drawn");

    if (!runner->dark) {
        power_fails(runner, strcmp(keep, "none") == 0  ? DISK_KEEP_NONE
                            : strcmp(keep, "all") == 0 ? DISK_KEEP_ALL
                                                       : DISK_KEEP_DRAWN);
    }
    runner_power_returns(runner);
}
