#include "vm/runstate.h"

#include "jobs/blockjob.h"
#include "vm/vm_int.h"

static const char *const state_name[RUN_STATE_COUNT] = {
    [RUN_STATE_PRELAUNCH] = "prelaunch", [RUN_STATE_RUNNING] = "running",   [RUN_STATE_PAUSED] = "paused",
    [RUN_STATE_IO_ERROR] = "io-error",   [RUN_STATE_SHUTDOWN] = "shutdown",
};

/* Rows: from; columns: to. */
static const bool legal[RUN_STATE_COUNT][RUN_STATE_COUNT] = {
    /*                       prelaunch  running  paused  io-error  shutdown */
    [RUN_STATE_PRELAUNCH] = {false, true, false, false, true},
    [RUN_STATE_RUNNING] = {false, false, true, true, true},
    [RUN_STATE_PAUSED] = {false, true, false, false, true},
    [RUN_STATE_IO_ERROR] = {false, true, false, false, true},
    [RUN_STATE_SHUTDOWN] = {false, false, false, false, false},
};

const char *run_state_name(enum run_state state)
{
    SIM_ASSERT_LT(state, RUN_STATE_COUNT);
    return state_name[state];
}

bool run_state_legal(enum run_state from, enum run_state to)
{
    SIM_ASSERT_LT(from, RUN_STATE_COUNT);
    SIM_ASSERT_LT(to, RUN_STATE_COUNT);
    return legal[from][to];
}

void vm_init(struct host *host)
{
    SIM_ASSERT(!host->vm);
    struct VmState *vm = SIM_NEW(host->arena, VmState);
    vm->host = host;
    vm->state = RUN_STATE_RUNNING;
    host->vm = vm;
}

void vm_cleanup(struct host *host)
{
    SIM_ASSERT(host->vm);
    SIM_ASSERT(!host->vm->guests);
    SIM_FREE(host->arena, VmState, host->vm);
    host->vm = NULL;
}

enum run_state vm_run_state(const struct host *host)
{
    return host->vm->state;
}

bool vm_is_running(const struct host *host)
{
    return host->vm->state == RUN_STATE_RUNNING;
}

static void set_state(struct VmState *vm, enum run_state state)
{
    SIM_ASSERT(run_state_legal(vm->state, state));
    enum run_state from = vm->state;
    vm->state = state;
    SIM_EMIT(vm->host->sim, vm->host, run_state, NULL, SIM_P(state_name[from]), SIM_P(state_name[state]));
}

/* STOP and RESUME have no fields. */
static void emit_plain(struct host *host, enum sim_event_kind kind)
{
    const uint64_t none = 0;
    sim_emit(host->sim, host, kind, NULL, &none, 0);
}

static bool nothing_starts(void *opaque)
{
    const struct host *host = opaque;
    return !guests_starting(host);
}

int vm_stop(struct host *host, enum run_state state)
{
    struct VmState *vm = host->vm;
    SIM_ASSERT(host_in_main(host));
    SIM_ASSERT(state != RUN_STATE_RUNNING);
    if (vm->state != RUN_STATE_RUNNING) {
        if (run_state_legal(vm->state, state)) {
            set_state(vm, state);
        }
        return 0;
    }
    if (guests_active(host)) {
        SIM_MARK(host->sim, vm_stop_io);
    }
    set_state(vm, state);
    emit_plain(host, EV_STOP);
    /* A request let go a moment ago is not in flight for a drain yet: it must not slip in behind the flush. */
    host_poll(host, nothing_starts, host);
    bdrv_drain_all(host);
    return bdrv_flush_all(host);
}

/* Takes the pending request, if any. */
static bool take_stop_request(struct VmState *vm, enum run_state *state)
{
    bool requested = vm->stop_requested;
    vm->stop_requested = false;
    *state = vm->requested_state;
    return requested;
}

static void run_stop_request(void *opaque)
{
    struct host *host = opaque;
    enum run_state state;
    if (!host->vm) {
        return; /* the host is being taken down */
    }
    host->vm->stop_queued = false;
    if (take_stop_request(host->vm, &state)) {
        vm_stop(host, state);
    }
}

void vm_stop_request(struct host *host, enum run_state state)
{
    struct VmState *vm = host->vm;
    SIM_ASSERT(state != RUN_STATE_RUNNING);
    vm->stop_requested = true;
    vm->requested_state = state;
    if (!vm->stop_queued) {
        vm->stop_queued = true;
        /* As a command, not as a callback: a run-state change must not cut into a poll of the main loop. */
        host_command(host, run_stop_request, host);
    }
}

static void reset_io_status(struct host *host)
{
    for (BlockBackend *blk = blk_next(host, NULL); blk; blk = blk_next(host, blk)) {
        if (*blk_name(blk)) {
            blk_io_status_reset(blk);
        }
    }
    for (Job *job = job_next(host, NULL); job; job = job_next(host, job)) {
        BlockJob *block_job = block_job_of(job);
        if (block_job) {
            block_job_iostatus_reset(block_job);
        }
    }
}

void vm_cont(struct host *host, Error **errp)
{
    struct VmState *vm = host->vm;
    enum run_state pending;
    SIM_ASSERT(host_in_main(host));
    if (vm->state == RUN_STATE_SHUTDOWN) {
        error_setg(errp, "Resetting the Virtual Machine is required");
        return;
    }
    reset_io_status(host);
    /* Images that were given up are taken back first (8.6); the guests must not run over them. */
    if (bdrv_activate_all(host, errp) < 0) {
        return;
    }
    bool raced = take_stop_request(vm, &pending);
    if (vm->state == RUN_STATE_RUNNING) {
        if (!raced) {
            return;
        }
        /* A client that saw BLOCK_IO_ERROR with action stop waits for STOP. */
        SIM_MARK(host->sim, vm_stop_race);
        emit_plain(host, EV_STOP);
    } else {
        set_state(vm, RUN_STATE_RUNNING);
    }
    emit_plain(host, EV_RESUME);
    for (struct guest *guest = vm->guests; guest; guest = guest->next) {
        guest_restart(guest);
    }
}
