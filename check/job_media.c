/*
 * job-machine, media: no request of a job while it is parked, ending or over (reference/jobs.md 1.4), what it asks
 * its media about itself (4.3), what it makes of failed writes (2), and how much a backup says is to be done (5.5).
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "check/job_machine.h"
#include "jobs/backup.h"
#include "jobs/stream.h"

/* The job whose data a request moves; NULL: nobody's. */
static struct machine *moves_data(struct job_machine *state, const struct disk_req *req)
{
    if (!req || req->origin.kind != SIM_ORIGIN_JOB || !req->origin.name || !req->host ||
        !(req->op == SIM_OP_READ || check_op_writes(req->op))) {
        return NULL;
    }
    return machine_find(state, req->host->number, req->origin.name);
}

/* --- sleepers ----------------------------------------------------------------------------------------------- */

/* Jobs that do one thing after the other: one that is paused while it sleeps parks before it does the next. */
static void on_pause_count(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    struct machine *m = machine_find(state, record->host, sim_record_name(record, 0));
    const Job *job = m ? check_job_of(state->check->sim, record) : NULL;

    if (job && (block_job_is_commit(job) || block_job_is_stream(job))) {
        m->to_park = record->field[1] > 0 && (m->to_park || (job->started && !job->busy && !job->finished_run));
    }
}

static void look_for_sleeper(struct job_machine *state, struct machine *m, const struct disk_req *req)
{
    const Job *job = m->to_park ? job_find(req->host, m->id->str) : NULL;

    if (job && !job->force_cancel && !job->finished_run) {
        machine_violate(state, m, "slept-on", sim_op_name(req->op),
                        "it was paused while it slept, and goes on with a %s without having parked",
                        sim_op_name(req->op));
    }
}

/* --- requests ----------------------------------------------------------------------------------------------- */

static void on_disk_submit(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    const struct disk_req *req = record->ref;
    struct machine *m = moves_data(state, req);

    if (!m) {
        return;
    }
    m->in_flight++;
    machine_works(state, m);
    look_for_sleeper(state, m, req);
    if (((1u << m->status) & (S(PAUSED) | S(STANDBY) | S(ABORTING) | S(CONCLUDED) | S(NULL)))) {
        machine_violate(state, m, "io-while-stopped", sim_op_name(req->op),
                        "%s of %" PRId64 " bytes at %" PRId64 " on disk %s in state %s", sim_op_name(req->op),
                        req->bytes, req->offset, disk_name(req->disk)->str, job_status_name(m->status));
    } else if (m->terminal_seen) {
        machine_violate(state, m, "io-after-end", sim_op_name(req->op), "%s on disk %s after the terminal event",
                        sim_op_name(req->op), disk_name(req->disk)->str);
    }
}

/* bs, or anything that it stands on. */
static bool has_driver(const BlockDriverState *bs, const char *name)
{
    bool found = bs && strcmp(bdrv_driver_name(bs), name) == 0;

    for (BdrvChild *edge = bs && !found ? bdrv_first_child(bs) : NULL; edge && !found;
         edge = bdrv_next_child(edge)) {
        found = has_driver(bdrv_child_bs(edge), name);
    }
    return found;
}

/* A copy-on-read node in the way asks for the cluster size itself, and does without an answer (block.md 4.3). */
static bool may_be_copy_on_read(const struct machine *m, const struct disk_req *req)
{
    const Job *job = req->op == SIM_OP_GET_INFO ? job_find(req->host, m->id->str) : NULL;
    const BlockDriverState *bs = NULL;

    if (job && block_job_is_mirror(job)) {
        bs = mirror_source(job);
    } else if (job && block_job_is_backup(job)) {
        bs = backup_source(job);
    }
    return has_driver(bs, "copy-on-read");
}

/* A commit writes what it has to copy, and nothing else: what fails is an error of the job's. */
static void note_failed_write(struct machine *m, const struct disk_req *req)
{
    const Job *job = req->op == SIM_OP_WRITE && req->ret < 0 ? job_find(req->host, m->id->str) : NULL;

    /* a vote may make up for what one medium could not take */
    if (job && block_job_is_commit(job) && !has_driver(commit_base(job), "quorum")) {
        m->untold++;
    }
}

static void on_error(void *opaque, const struct sim_record *record)
{
    struct machine *m = machine_find(opaque, record->host, sim_record_name(record, 0));

    if (m) {
        m->untold = 0;
    }
}

static void on_completed(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    const struct machine *m = machine_find(state, record->host, sim_record_name(record, 1));

    if (m && !sim_record_str(record, 5) && m->untold > 0) {
        machine_violate(state, m, "error-untold", "BLOCK_JOB_COMPLETED",
                        "success, and of its last %u failed writes nobody was told", m->untold);
    }
}

/* What the job asks about its media is not under the error policies: without an answer it fails (4.3). */
static void on_disk_complete(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    const struct disk_req *req = record->ref;
    struct machine *m = moves_data(state, req);

    if (m && m->in_flight > 0) { /* none: it belongs to an earlier job of that name */
        m->in_flight--;
    }
    if (m) {
        note_failed_write(m, req);
    }
    if (!req || req->origin.kind != SIM_ORIGIN_JOB || !req->origin.name || !req->host || req->ret >= 0 ||
        req->ret == -ENOTSUP || !(req->op == SIM_OP_GETLENGTH || req->op == SIM_OP_GET_INFO)) {
        return;
    }
    m = machine_find(state, req->host->number, req->origin.name);
    if (m && !may_be_copy_on_read(m, req)) {
        m->reported = true;
    }
}

/* --- totals ------------------------------------------------------------------------------------------------- */

/* What a backup has to copy becomes less while it looks around, and never more: what is in flight is still to be
 * done, too. A cluster at the end counts whole while it is copied. */
void machine_total(struct job_machine *state, struct machine *m, const Job *job)
{
    int64_t total = job->progress_current + job->progress_remaining;
    const BlockCopyState *copy =
        block_job_is_backup(job) && backup_sync_mode(job) != MIRROR_SYNC_NONE ? backup_copy_state(job) : NULL;

    if (!copy) {
        return;
    }
    if (m->total_known && total >= m->total + block_copy_cluster_size(copy)) {
        machine_violate(state, m, "total-grew", NULL, "done and remaining were %" PRId64 " bytes, and now %" PRId64,
                        m->total, total);
    }
    m->total = m->total_known ? MIN(m->total, total) : total;
    m->total_known = true;
}

/* The job whose copy it is may be none: a filter of its own copies, too. */
static void on_copy(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    struct host *host = check_host(state->check->sim, record->host);

    for (Job *job = host ? job_next(host, NULL) : NULL; job; job = job_next(host, job)) {
        struct machine *m = job->id && block_job_is_backup(job) && backup_copy_state(job) == record->ref
                                ? machine_find(state, record->host, job->id)
                                : NULL;
        if (m && !m->gone) {
            machine_total(state, m, job);
        }
    }
}

void job_media_attach(struct job_machine *state)
{
    sim_subscribe(state->check->sim, EV_disk_submit, on_disk_submit, state);
    sim_subscribe(state->check->sim, EV_disk_complete, on_disk_complete, state);
    sim_subscribe(state->check->sim, EV_job_pause_count, on_pause_count, state);
    sim_subscribe(state->check->sim, EV_BLOCK_JOB_ERROR, on_error, state);
    sim_subscribe(state->check->sim, EV_BLOCK_JOB_COMPLETED, on_completed, state);
    sim_subscribe(state->check->sim, EV_block_copy_begin, on_copy, state);
    sim_subscribe(state->check->sim, EV_block_copy_end, on_copy, state);
}
