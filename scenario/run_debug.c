/*
 * Breakpoints of blkdebug in qemu-io's words: io GUEST break|wait_break|resume|remove_break.
 *
 * A request at a breakpoint waits for a step, like one that the fault `stuck` holds. When nothing else is left to
 * happen, or the steps are through, breakpoints go together with the faults and whoever stands there goes on.
 */
#include <errno.h>
#include <string.h>

#include "block/debug.h"
#include "scenario/runner_int.h"

#define WAIT_NS (60 * NS_PER_S)

static BlockDriverState *guest_node(struct runner *runner, const struct scn_step *step)
{
    struct guest *guest = runner_guest(runner, step);
    BlockDriverState *bs = guest ? blk_bs(guest_blk(guest)) : NULL;

    if (guest && !bs && !step->try_) {
        runner_expect_failed(runner, step, "no-medium", "guest '%s' has no medium", guest_name(guest)->str);
    }
    return bs;
}

static void judge(struct runner *runner, const struct scn_step *step, int ret)
{
    if (ret >= 0 || step->try_) {
        return;
    }
    if (ret == -ENOTSUP) {
        runner_expect_failed(runner, step, "no-blkdebug", "no blkdebug node stands below guest '%s'",
                             step_str(step, "guest", ""));
    } else {
        runner_expect_failed(runner, step, "no-break", "nothing is at a breakpoint '%s'",
                             step_str(step, "tag", ""));
    }
}

void scn_run_break(struct runner *runner, const struct scn_step *step)
{
    BlockDriverState *bs = guest_node(runner, step);

    if (bs) {
        judge(runner, step, bdrv_debug_breakpoint(bs, step_str(step, "event", ""), step_str(step, "tag", "")));
    }
}

void scn_run_resume_break(struct runner *runner, const struct scn_step *step)
{
    BlockDriverState *bs = guest_node(runner, step);

    if (bs) {
        judge(runner, step, bdrv_debug_resume(bs, step_str(step, "tag", "")));
    }
}

void scn_run_remove_break(struct runner *runner, const struct scn_step *step)
{
    BlockDriverState *bs = guest_node(runner, step);

    if (bs) {
        judge(runner, step, bdrv_debug_remove_breakpoint(bs, step_str(step, "tag", "")));
    }
}

void scn_run_wait_break(struct runner *runner, const struct scn_step *step)
{
    int64_t until = sim_now(runner->sim) + WAIT_NS;
    const char *tag = step_str(step, "tag", "");
    BlockDriverState *bs;

    /* the guest's node may be another one after each sleep */
    while ((bs = guest_node(runner, step)) && !bdrv_debug_is_suspended(bs, tag)) {
        if (runner->give_up || sim_now(runner->sim) >= until) {
            break;
        }
        co_sleep_ns_wakeable(runner->sim, &runner->event_wait, until - sim_now(runner->sim), false);
    }
    if (bs && !step->try_ && !bdrv_debug_is_suspended(bs, tag)) {
        char buf[32];

        runner_expect_failed(runner, step, "timeout", "no request stopped at '%s' within %s", tag,
                             sim_format_time(WAIT_NS, buf));
    }
}

/* --- the run as a whole ------------------------------------------------------------------------------------ */

void runner_release(struct runner *runner)
{
    fault_stop_all(runner->sim);
    for (struct host *host = host_first(runner->sim); host; host = host->next) {
        bdrv_debug_release_all(host);
    }
}

static void saw_request(void *opaque, const struct disk_req *req)
{
    *(bool *)opaque |= req->stuck;
}

bool runner_anything_held(struct runner *runner)
{
    bool held = false;

    for (struct disk *disk = disk_first(runner->sim); disk; disk = disk_next(disk)) {
        disk_each_in_flight(disk, saw_request, &held);
    }
    for (struct host *host = host_first(runner->sim); host && !held; host = host->next) {
        held = bdrv_debug_any_suspended(host);
    }
    return held;
}

static void on_suspend(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    co_sleep_wake(&runner->event_wait);
}

void run_debug_attach(struct runner *runner)
{
    sim_subscribe(runner->sim, EV_debug_suspend, on_suspend, runner);
}
