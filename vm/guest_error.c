/*
 * What a failed guest request leads to: rerror and werror, and the BLOCK_IO_ERROR event (reference/block.md 7.5).
 */
#include <errno.h>

#include "vm/vm_int.h"

#define REPORT_INTERVAL_NS NS_PER_S

static void emit_report(struct guest *guest, const struct guest_error_report *report)
{
    SIM_EMIT(guest->host->sim, guest->host, BLOCK_IO_ERROR, guest, SIM_P(guest->name->str), SIM_P(report->node),
             SIM_P(report->operation), SIM_P(report->action), report->nospace, SIM_P(report->reason));
}

static void arm(struct guest *guest, int64_t time_ns)
{
    struct sim *sim = guest->host->sim;
    struct sim_timer *timer = &guest->report.timer;
    sim_timer_disarm(sim, timer);
    /* An event that waits is work: settling brings it out. An empty interval is not. */
    timer->idle = !guest->report.pending;
    timer->host = guest->host->number;
    sim_timer_arm(sim, timer, time_ns, guest->name->hash);
}

static void interval_over(void *opaque)
{
    struct guest *guest = opaque;
    if (guest->report.pending) {
        guest->report.pending = false;
        emit_report(guest, &guest->report);
        arm(guest, sim_now(guest->host->sim) + REPORT_INTERVAL_NS);
    }
}

void guest_error_report_init(struct guest *guest)
{
    sim_timer_init(&guest->report.timer, interval_over, guest);
}

void guest_error_report_end(struct guest *guest)
{
    if (guest->report.pending) {
        guest->report.pending = false;
        emit_report(guest, &guest->report);
    }
    sim_timer_disarm(guest->host->sim, &guest->report.timer);
}

static void report_error(struct guest *guest)
{
    struct guest_error_report *report = &guest->report;
    struct sim *sim = guest->host->sim;
    if (!sim_timer_queued(&report->timer)) {
        emit_report(guest, report);
        arm(guest, sim_now(sim) + REPORT_INTERVAL_NS);
        return;
    }
    SIM_MARK(sim, guest_error_coalesced);
    if (!report->pending) {
        report->pending = true;
        arm(guest, report->timer.time_ns);
    }
}

enum block_error_action guest_handle_error(struct guest *guest, const struct guest_req *req, int ret)
{
    SIM_ASSERT_LT(ret, 0);
    bool is_read = req->op == SIM_OP_READ;
    BlockBackend *blk = guest->blk;
    enum block_error_action action = blk_get_error_action(blk, is_read, ret);
    if (action == BLOCK_ERROR_ACTION_STOP) {
        /* Before the event: a client that queries on it must see the status. */
        blk_io_status_set_err(blk, ret);
    }
    const BlockDriverState *bs = blk_bs(blk);
    guest->report.node = bs ? bdrv_node_sim_name(bs) : NULL;
    guest->report.operation = is_read ? "read" : "write";
    guest->report.action = block_error_action_name(action);
    guest->report.nospace = blk_io_status_is_enabled(blk) && ret == -ENOSPC;
    guest->report.reason = sim_errno_text(ret);
    report_error(guest);
    if (action == BLOCK_ERROR_ACTION_STOP) {
        vm_stop_request(guest->host, RUN_STATE_IO_ERROR);
    }
    return action;
}
