/*
 * The runner from inside: what its files share. See scenario/runner.h.
 *
 *   runner.c        one run from fresh world to census      run_loop.c      playing the steps
 *   run_services.c  what steps share                        run_end.c       the end of a run
 *   run_qmp.c       commands, expected refusals             run_bitmap.c    owners of dirty bitmaps
 *   run_world.c     disks, guests, faults           run_io.c        single guest requests
 *   run_workload.c  streams of guest requests               run_expect.c    waiting and expecting
 *   run_debug.c     breakpoints of blkdebug         run_img.c       images on media
 *   run_power.c     power
 *   recorder.c      events, outcomes and statistics         result.c        the result as JSON
 */
#ifndef SCENARIO_RUNNER_INT_H
#define SCENARIO_RUNNER_INT_H

#include <sys/queue.h>

#include "block/dirty-bitmap.h"
#include "faults/fault.h"
#include "jobs/mirror.h"
#include "monitor/monitor.h"
#include "scenario/runner.h"
#include "scenario/verb_run.h"
#include "vm/guest.h"

/* A QMP event as it happened, kept until the end of the run. */
struct seen_event {
    enum sim_event_kind kind;
    struct host *host;
    bool matched; /* by a wait */
    struct qvalue *fields;
    TAILQ_ENTRY(seen_event) list;
};
TAILQ_HEAD(seen_event_list, seen_event);

/* The last that is known of a job, dismissed or not. */
struct job_outcome {
    char *id;
    char *type;
    char *status; /* last state other than null */
    char *error;  /* NULL: none */
    bool cancelled;
    TAILQ_ENTRY(job_outcome) list;
};
TAILQ_HEAD(job_outcome_list, job_outcome);

/* A copy in flight, for counting guest writes that overlap it. */
struct copy_in_flight {
    const struct sim_name *job;
    int64_t offset, bytes;
};

struct workload;
struct aio_request;
struct bitmap_owner;
LIST_HEAD(workload_list, workload);
LIST_HEAD(aio_list, aio_request);
TAILQ_HEAD(bitmap_owner_list, bitmap_owner);

/* What the calm run before a PCT run measured. */
struct pct_measure {
    uint64_t steps;
};

struct runner {
    struct sim *sim;
    const struct pct_measure *pct;
    struct host *host;
    const struct scenario *scn;
    const struct run_options *options;
    struct run_result *result;
    struct check_set *checks;

    Coroutine *co; /* plays the steps */
    size_t step;   /* index of the step in hand */
    bool steps_done;
    bool finished; /* the end phase is over too */
    bool stop;     /* a violation or an end: no further steps */
    enum {
        RUNNER_GOES,    /* runs or waits for something of its own */
        RUNNER_SETTLES, /* waits until no work is pending */
    } wants;
    int64_t settle_limit_ns;
    bool settle_gave_up;
    bool cont_refused;      /* at the end: an image that was given up is not to be had, so the VM stays stopped */
    size_t relieved_step;   /* step (from 1) for which faults were stopped already */
    int64_t give_up_ns;     /* when a step that only tries is given up */
    bool give_up;           /* the step in hand only tries, and nothing it waits for can come */
    bool waits_outstanding; /* woken when a request stream ends */
    bool loses_power;       /* some step takes the power away: media keep journals */
    bool dark;              /* the power is away: no host, steps are left out */

    uint32_t next_write_id; /* stamps: write id << 32 | low bits of the sector */
    struct workload_list workloads;
    struct aio_list aios;
    struct bitmap_owner_list owners; /* of frozen bitmaps, oldest first */
    unsigned outstanding;            /* aio requests and workloads not finished */

    /* expect error CLASS TEXT, for the next command */
    const struct scn_step *expected_error;

    /* recorder.c */
    struct seen_event_list events;
    bool awaited[EV_COUNT]; /* kinds that steps name */
    struct job_outcome_list outcomes;
    CoSleep event_wait; /* the wait step, woken by each QMP event */
    struct copy_in_flight copies[64];
    unsigned copy_count;
    unsigned writes_out; /* guest requests in flight that change data */
    struct run_stats stats;
    bool broke; /* at options->break_event */
};

/* --- steps ----------------------------------------------------------------------------------------------- */

/* Violation of checker `expect` at the step in hand. */
void runner_expect_failed(struct runner *runner, const struct scn_step *step, const char *rule, const char *fmt,
                          ...) SIM_PRINTF(4, 5);
/* What a step that may be refused was told, NULL: it succeeded. Matches an `expect error` before it; else a refusal
 * is a violation unless the step only tries. */
void runner_judge_reply(struct runner *runner, const struct scn_step *step, const Error *err);
/* An `expect error` that no command followed can never fail: that is a failure. */
void runner_judge_unanswered(struct runner *runner);
uint64_t runner_step_entity(struct runner *runner, const struct scn_step *step);
/* Waits until no work is pending, at most limit_ns of virtual time (then settle_gave_up). A scenario may meet work
 * that only ends with its faults, so a settle that only tries, and the one before faults stop, give up soon. */
#define SETTLE_NS (3600 * NS_PER_S)
#define SETTLE_WHOLE_NS INT64_MAX /* as long as the world lasts: its limits say when that is too long */
#define SETTLE_TRY_NS (2 * NS_PER_S)
void runner_settle(struct runner *runner, int64_t limit_ns);
/* Path relative to the scenario's file; caller frees. */
char *runner_path(struct runner *runner, const char *path);
/* The guest a step names, or NULL after a violation. */
struct guest *runner_guest(struct runner *runner, const struct scn_step *step);
BlockDriverState *runner_node(struct runner *runner, const struct scn_step *step, const char *name);

/* Arguments of a checked step: absent ones give the default. */
const char *step_str(const struct scn_step *step, const char *name, const char *def);
int64_t step_int(const struct scn_step *step, const char *name, int64_t def);
bool step_bool(const struct scn_step *step, const char *name, bool def);
bool step_has(const struct scn_step *step, const char *name);

/* --- workloads and requests ------------------------------------------------------------------------------ */

/* Ends what still runs without waiting: the guests are gone (power loss). */
void runner_forget_requests(struct runner *runner);
void runner_forget_aios(struct runner *runner);
void runner_forget_workloads(struct runner *runner);
/* They issue nothing more, and end with the requests that are out. */
void runner_end_workloads(struct runner *runner);
/* Waits until no request stream uses the guest. */
void runner_wait_guest(struct runner *runner, struct guest *guest);
bool runner_guest_has_aio(struct runner *runner, const struct guest *guest);
bool runner_guest_has_workload(struct runner *runner, const struct guest *guest);
/* A request stream ended: wakes runner_wait_guest and waiting workloads. */
void runner_stream_ended(struct runner *runner);
/* Stamps for a write of whole sectors at offset; fills data otherwise. */
void runner_stamp(struct runner *runner, struct payload *data, int64_t offset, int64_t bytes);

/* --- owners of dirty bitmaps ------------------------------------------------------------------------------ */

/* Reclaims whatever is still frozen, as a job does that fails. */
void runner_reclaim_bitmaps(struct runner *runner);
/* The owners are gone with their host. */
void runner_forget_owners(struct runner *runner);

/* --- hosts ----------------------------------------------------------------------------------------------- */

struct host *runner_host_boot(struct runner *runner, const char *name);
/* Runs fn on the host's main coroutine, as a command, and waits. The runner's own coroutine belongs to no host: it
 * outlives a crash. */
void runner_on_main(struct runner *runner, host_fn *fn, void *opaque);
/* The same in a coroutine of the host beside the main one: for requests. */
void runner_in_host(struct runner *runner, const char *what, host_fn *fn, void *opaque);
/* Closes everything of a host in order; main coroutine of that host. */
void runner_host_close(struct host *host);

/* --- run_power.c ----------------------------------------------------------------------------------------- */

/* Some step of it takes the power away. */
bool runner_loses_power(const struct scenario *scn);
/* Outside of all coroutines: takes the power away if a fault says that it fails now. The runner's coroutine ends
 * what it does, and gets no answer. */
bool runner_cut_power(struct runner *runner);
void runner_power_returns(struct runner *runner);

/* --- run_debug.c ----------------------------------------------------------------------------------------- */

/* Faults stop, breakpoints go: nothing holds a request any more. */
void runner_release(struct runner *runner);
/* A fault or a breakpoint holds a request. */
bool runner_anything_held(struct runner *runner);
/* Subscribes what breakpoints need; with recorder_attach. */
void run_debug_attach(struct runner *runner);

/* --- run_loop.c, run_end.c ------------------------------------------------------------------------------- */

/* The runner's coroutine: all steps, then the end. */
void runner_main(void *opaque);
void runner_play_end(struct runner *runner);
/* Runs the world until the run is over, for better or worse. */
void runner_drive(struct runner *runner);

/* --- log.c ----------------------------------------------------------------------------------------------- */

/* Subscribes what the options ask for: log, trace, break. After reset, before the first event. */
void run_log_attach(struct runner *runner);

/* --- recorder.c, result.c -------------------------------------------------------------------------------- */

void recorder_attach(struct runner *runner);
void recorder_clear(struct runner *runner);
struct job_outcome *recorder_outcome(struct runner *runner, const char *id);
/* views: a folder for what backing nodes show, NODE.view each; NULL: no. */
struct qvalue *result_hosts(struct runner *runner, bool digest, const char *views);
/* Once all is closed: what the images of those nodes look like on their media, into `check` of each qcow2 node. */
void result_check_images(struct runner *runner, struct qvalue *hosts);

#endif
