/*
 * job-machine, media: no request of a job while it is parked, ending or over (reference/jobs.md 1.4), and what it
 * asks its media about itself (4.3).
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "check/job_machine.h"

/* The job whose data a request moves; NULL: nobody's. */
static struct machine *moves_data(struct job_machine *state, const struct disk_req *req)
{
    if (!req || req->origin.kind != SIM_ORIGIN_JOB || !req->origin.name || !req->host ||
        !(req->op == SIM_OP_READ || check_op_writes(req->op))) {
        return NULL;
    }
    return machine_find(state, req->host->number, req->origin.name);
}

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
    if (((1u << m->status) & (S(PAUSED) | S(STANDBY) | S(ABORTING) | S(CONCLUDED) | S(NULL)))) {
        machine_violate(state, m, "io-while-stopped", sim_op_name(req->op),
                        "%s of %" PRId64 " bytes at %" PRId64 " on disk %s in state %s", sim_op_name(req->op),
                        req->bytes, req->offset, disk_name(req->disk)->str, job_status_name(m->status));
    } else if (m->terminal_seen) {
        machine_violate(state, m, "io-after-end", sim_op_name(req->op), "%s on disk %s after the terminal event",
                        sim_op_name(req->op), disk_name(req->disk)->str);
    }
}

/* A copy-on-read node in the way asks for the cluster size itself, and does without an answer (block.md 4.3). */
static bool may_be_copy_on_read(const struct machine *m, const struct disk_req *req)
{
    const Job *job = req->op == SIM_OP_GET_INFO ? job_find(req->host, m->id->str) : NULL;
    const BlockDriverState *bs = job && block_job_is_mirror(job) ? mirror_source(job) : NULL;

    while (bs && strcmp(bdrv_driver_name(bs), "copy-on-read") != 0) {
        bs = bdrv_primary_bs(bs);
    }
    return bs != NULL;
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
    if (!req || req->origin.kind != SIM_ORIGIN_JOB || !req->origin.name || !req->host || req->ret >= 0 ||
        req->ret == -ENOTSUP || !(req->op == SIM_OP_GETLENGTH || req->op == SIM_OP_GET_INFO)) {
        return;
    }
    m = machine_find(state, req->host->number, req->origin.name);
    if (m && !may_be_copy_on_read(m, req)) {
        m->reported = true;
    }
}

void job_media_attach(struct job_machine *state)
{
    sim_subscribe(state->check->sim, EV_disk_submit, on_disk_submit, state);
    sim_subscribe(state->check->sim, EV_disk_complete, on_disk_complete, state);
}
