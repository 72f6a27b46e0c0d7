/*
 * Run states of the VM: whether guests run (reference/block.md 7.5, DESIGN vm/).
 *
 *   prelaunch -> running <-> paused        running -> io-error -> running (cont)        any -> shutdown
 *
 * vm_stop stops the guests' devices from issuing and sends STOP, then drains and flushes everything: requests that
 * were inside come back after STOP, before vm_stop returns. A stop asked for by a device's werror/rerror=stop
 * happens from the main loop; a `cont` that races with it still gives a STOP/RESUME pair.
 */
#ifndef VM_RUNSTATE_H
#define VM_RUNSTATE_H

#include "sim/error.h"
#include "sim/sim.h"

enum run_state {
    RUN_STATE_PRELAUNCH,
    RUN_STATE_RUNNING,
    RUN_STATE_PAUSED,
    RUN_STATE_IO_ERROR,
    RUN_STATE_SHUTDOWN,
    RUN_STATE_COUNT,
};
const char *run_state_name(enum run_state state); /* "running", "io-error", ... */
bool run_state_legal(enum run_state from, enum run_state to);

/* A fresh VM runs. */
void vm_init(struct host *host);
void vm_cleanup(struct host *host); /* no guest device may be left */
enum run_state vm_run_state(const struct host *host);
bool vm_is_running(const struct host *host);
/* Main coroutine. 0 or the first flush error. When not running only the state changes, and only where
 * the diagram allows it. */
int vm_stop(struct host *host, enum run_state state);
/* From anywhere: the stop is carried out by the main loop. */
void vm_stop_request(struct host *host, enum run_state state);
/* cont: clears io-status of named backends and block jobs, RESUME, restarts devices. Refused in state shutdown. */
void vm_cont(struct host *host, Error **errp);

#endif
