/*
 * rate-limit: a job keeps to its speed, from both sides; a mirror until it is ready (reference/jobs.md 3).
 *
 *   above    what it reads from the media of its source fills a bucket that leaks at the set speed. The bucket may
 *            hold two slices and two batches (what is asked for in one go), never more.
 *   early    no operation starts before a rate sleep is over, unless the speed was raised.
 *   starved  time spent in rate sleeps is what the bytes cost, not much more.
 *
 * A slice grants max(1, speed / 10) bytes each 100 ms, so that and not the speed itself is the promise.
 *
 *     job             above: reads of                    early                  starved: paid for
 *     mirror          the medium below the source        mirror_op_begin        those reads, or operations begun
 *     active commit   the media above base               mirror_op_begin        operations begun
 *     commit          the media above base               reads of those         progress and failures
 *     stream          the media below top                reads of those         progress and failures
 *     backup          the medium below the source        -                      -
 *
 * A backup's tasks sleep in block copy, out of sight; copies that guests cause are charged and never wait, so only
 * its own pass is measured. Images read their own tables beside the data: their bucket leaks by a quarter faster,
 * and holds a mebibyte more.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "check/checkers.h"
#include "jobs/backup.h"
#include "jobs/commit.h"
#include "jobs/mirror.h"
#include "jobs/stream.h"

#define SLACK_NS (300 * NS_PER_MS)
#define CHAIN_CHUNK (512 * KiB)          /* of commit and stream */
#define COPY_BATCH (16 * MiB)            /* a task of a backup, at most */
#define TABLES_BYTES (1 * (uint64_t)MiB) /* of images, read beside the data */

struct rate {
    uint32_t host;
    const struct sim_name *id;
    const char *type;
    struct disk *source; /* medium below the source; NULL: cannot be measured, or a chain */
    struct disk *apart;  /* of a chain: the medium that is written, whose reads are no copies; NULL: no chain */
    int64_t failures;    /* told by events: what they transferred was paid for, and is no progress */
    int64_t speed;
    uint64_t quota; /* bytes in 100 ms */
    bool over;      /* ready or ending: no limit any more */
    bool ready;
    uint64_t level_bytes; /* of the bucket */
    int64_t level_ns;     /* when it was looked at */
    uint64_t batch_bytes; /* the most that one iteration copies before it looks at the limit */
    bool operates;        /* a mirror or an active commit: copies by operations that are told */
    bool sleeping;
    int64_t sleep_start_ns, sleep_end_ns;
    uint64_t slept_ns;      /* in rate sleeps since the speed was set */
    uint64_t read_bytes;    /* measured at the medium */
    uint64_t claimed_bytes; /* by the operations begun */
    struct rate *next;
};

struct rate_limit {
    struct check *check;
    struct rate *rates;
    const struct qmp_call *call; /* blockdev-mirror in hand */
};

static struct rate *find(struct rate_limit *state, uint32_t host, const struct sim_name *id)
{
    struct rate *r = state->rates;

    while (r && !(r->host == host && r->id == id)) {
        r = r->next;
    }
    return r;
}

SIM_PRINTF(4, 5)
static void violate(struct rate_limit *state, const struct rate *r, const char *rule, const char *fmt, ...)
{
    struct host *host = check_host(state->check->sim, r->host);
    const Job *job = host ? job_find(host, r->id->str) : NULL;
    struct violation_where where = {.host = check_host_name(host),
                                    .job = r->id->str,
                                    .job_type = r->type,
                                    .phase = job ? job_status_name(job->status) : NULL};
    char text[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    check_violate(state->check->set, "rate-limit", rule, &where, "job %s: %s", r->id->str, text);
}

/* --- above ------------------------------------------------------------------------------------------------ */

static void leak(struct rate *r, int64_t now_ns)
{
    uint64_t quota = r->apart ? r->quota * 5 / 4 : r->quota;
    unsigned __int128 leaked = (unsigned __int128)(uint64_t)(now_ns - r->level_ns) * quota / RATE_SLICE_NS;

    SIM_ASSERT_LE(r->level_ns, now_ns);
    r->level_bytes = leaked >= r->level_bytes ? 0 : r->level_bytes - (uint64_t)leaked;
    r->level_ns = now_ns;
}

static bool measured(const struct rate *r, const struct disk_req *req)
{
    return r->apart ? req->disk != r->apart : r->source && req->disk == r->source;
}

/* Commit and stream have one thing in hand at a time: nothing while they sleep. */
static void check_asleep(struct rate_limit *state, struct rate *r, int64_t now_ns)
{
    if (r->sleeping && now_ns < r->sleep_end_ns && !r->operates) {
        violate(state, r, "early", "it reads %" PRId64 " ns before the rate sleep is over",
                r->sleep_end_ns - now_ns);
        r->sleeping = false;
    }
}

static void on_disk_submit(void *opaque, const struct sim_record *record)
{
    struct rate_limit *state = opaque;
    const struct disk_req *req = record->ref;
    struct rate *r;
    uint64_t align, bytes, limit;

    if (!req || req->op != SIM_OP_READ || req->origin.kind != SIM_ORIGIN_JOB || !req->host) {
        return;
    }
    r = find(state, req->host->number, req->origin.name);
    if (!r || r->over || r->quota == 0 || !measured(r, req)) {
        return;
    }
    check_asleep(state, r, record->time_ns);
    r->read_bytes += (uint64_t)req->bytes;
    /* what the medium's alignment may have added was never charged */
    align = disk_get_config(req->disk)->align_bytes;
    bytes = (uint64_t)req->bytes > 2 * (align - 1) ? (uint64_t)req->bytes - 2 * (align - 1) : 0;
    leak(r, record->time_ns);
    r->level_bytes += bytes;
    limit = 2 * r->quota + 2 * r->batch_bytes + (r->apart ? TABLES_BYTES : 0);
    if (r->level_bytes > limit) {
        violate(state, r, "above",
                "%" PRIu64 " bytes ahead of a speed of %" PRId64 " bytes/s, expected at most %" PRIu64,
                r->level_bytes, r->speed, limit);
        r->level_bytes = 0;
    }
}

/* --- early and starved ------------------------------------------------------------------------------------ */

static void sleep_over(struct rate *r, int64_t now_ns)
{
    if (r->sleeping) {
        r->slept_ns += (uint64_t)(MIN(now_ns, r->sleep_end_ns) - r->sleep_start_ns);
        r->sleeping = false;
    }
}

/* What the job has been charged for, at most. */
static uint64_t paid_for(const struct rate *r, const Job *job)
{
    if (r->operates || !job) {
        return MAX(r->apart ? 0 : r->read_bytes, r->claimed_bytes);
    }
    /* what failed, and the rest of the last cluster, which the next chunk finds copied */
    return (uint64_t)job->progress_current + (uint64_t)(r->failures * CHAIN_CHUNK) + 2 * MiB;
}

static void on_error(void *opaque, const struct sim_record *record)
{
    struct rate *r = find(opaque, record->host, sim_record_name(record, 0));

    if (r) {
        r->failures++;
    }
}

static void on_sleep(void *opaque, const struct sim_record *record)
{
    struct rate_limit *state = opaque;
    struct rate *r = find(state, record->host, sim_record_name(record, 0));
    unsigned __int128 cost_ns;
    uint64_t paid;

    if (!r || strcmp(sim_record_str(record, 1), "rate") != 0) {
        return;
    }
    if (r->ready && record->field[2] > 0) {
        violate(state, r, "ready-throttled", "a rate sleep of %" PRIu64 " ns although the job is ready",
                record->field[2]);
    }
    if (r->over) {
        return;
    }
    sleep_over(r, record->time_ns);
    paid = paid_for(r, check_job_of(state->check->sim, record));
    cost_ns = r->quota ? (unsigned __int128)paid * RATE_SLICE_NS / r->quota : 0;
    if (r->quota && r->slept_ns > cost_ns * 3 / 2 + SLACK_NS) {
        violate(state, r, "starved",
                "slept %" PRIu64 " ns for %" PRIu64 " bytes at %" PRId64 " bytes/s, which cost %" PRIu64 " ns",
                r->slept_ns, paid, r->speed, (uint64_t)cost_ns);
        r->slept_ns = 0;
    }
    r->sleeping = record->field[2] > 0;
    r->sleep_start_ns = record->time_ns;
    r->sleep_end_ns = (int64_t)record->field[2] > INT64_MAX - record->time_ns
                          ? INT64_MAX
                          : record->time_ns + (int64_t)record->field[2];
}

static void on_op_begin(void *opaque, const struct sim_record *record)
{
    struct rate_limit *state = opaque;
    struct rate *r = find(state, record->host, sim_record_name(record, 0));
    Coroutine *self = coroutine_self(state->check->sim);

    if (!r || r->over || (self && coroutine_origin(self)->kind == SIM_ORIGIN_GUEST)) {
        return;
    }
    r->claimed_bytes += record->field[3];
    if (r->sleeping && record->time_ns < r->sleep_end_ns) {
        violate(state, r, "early", "an operation began %" PRId64 " ns before the rate sleep was over",
                r->sleep_end_ns - record->time_ns);
    }
    sleep_over(r, record->time_ns);
}

/* --- the job ---------------------------------------------------------------------------------------------- */

static void set_speed(struct rate *r, int64_t speed, int64_t now_ns)
{
    if (speed == 0 || speed > r->speed) {
        sleep_over(r, now_ns); /* it may wake now */
    }
    r->speed = speed;
    r->quota = speed > 0 ? MAX(1, (uint64_t)speed / 10) : 0;
    r->level_bytes = 0;
    r->level_ns = now_ns;
    r->slept_ns = 0; /* the bytes stay: they may still have to be paid at the new price */
}

static void on_speed(void *opaque, const struct sim_record *record)
{
    struct rate_limit *state = opaque;
    struct rate *r = find(state, record->host, sim_record_name(record, 0));

    if (r) {
        set_speed(r, (int64_t)record->field[1], record->time_ns);
    }
}

static int64_t call_int(const struct qmp_call *call, const char *key)
{
    const struct qvalue *value = call ? qdict_get(call->args, key) : NULL;

    return value && value->type == QVALUE_INT ? value->integer : 0;
}

/* The buffer, in whole chunks: one iteration copies no more (reference/jobs.md 4.4). */
static uint64_t batch_of(const struct qmp_call *call)
{
    int64_t granularity = call_int(call, "granularity");
    int64_t buffer = call_int(call, "buf-size");

    granularity = granularity > 0 ? granularity : 64 * KiB;
    buffer = buffer > 0 ? buffer : MIRROR_DEFAULT_BUF_BYTES;
    return (uint64_t)MIN(buffer, TiB) + (uint64_t)granularity;
}

static void on_command(void *opaque, const struct sim_record *record)
{
    struct rate_limit *state = opaque;
    const struct qmp_call *call = record->ref;

    if (strcmp(call->command->name, "blockdev-mirror") == 0) {
        state->call = call;
    }
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    struct rate_limit *state = opaque;

    if (state->call == record->ref) {
        state->call = NULL;
    }
}

static struct rate *rate_get(struct rate_limit *state, const struct sim_record *record)
{
    struct rate *r = find(state, record->host, sim_record_name(record, 0));

    if (!r) {
        r = (struct rate *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*r));
        r->next = state->rates;
        state->rates = r;
    }
    *r = (struct rate){.host = record->host,
                       .id = sim_record_name(record, 0),
                       .over = true,
                       .batch_bytes = batch_of(state->call),
                       .next = r->next};
    return r;
}

static struct disk *medium_of(const BlockDriverState *bs)
{
    const BlockDriverState *bottom = bs ? check_bottom(bs) : NULL;

    return bottom ? check_disk_below(bottom) : NULL;
}

/* Where to look. False: this job is not measured. */
static bool find_media(struct rate *r, const Job *job)
{
    r->operates = block_job_is_mirror(job) || block_job_is_active_commit(job);
    if (block_job_is_mirror(job)) {
        r->source = mirror_source(job) ? check_disk_below(mirror_source(job)) : NULL;
    } else if (block_job_is_backup(job)) {
        r->source = backup_source(job) ? check_disk_below(backup_source(job)) : NULL;
        r->batch_bytes = COPY_BATCH;
        return r->source != NULL;
    } else if (block_job_is_active_commit(job)) {
        r->apart = medium_of(mirror_target(job));
    } else if (block_job_is_commit(job)) {
        r->apart = medium_of(commit_base(job));
        r->batch_bytes = CHAIN_CHUNK;
    } else if (block_job_is_stream(job)) {
        r->apart = medium_of(stream_top(job));
        r->batch_bytes = 2 * MiB; /* a chunk in whole clusters */
    }
    return r->operates || r->apart;
}

static void on_status(void *opaque, const struct sim_record *record)
{
    struct rate_limit *state = opaque;
    const char *status = sim_record_str(record, 1);
    struct rate *r = find(state, record->host, sim_record_name(record, 0));
    Job *job = check_job_of(state->check->sim, record);

    if (strcmp(status, "created") == 0) {
        rate_get(state, record)->level_ns = record->time_ns;
    } else if (strcmp(status, "running") == 0 && r && r->over && job && block_job_of(job)) {
        r->over = !find_media(r, job);
        r->type = job_type_name(job->driver->job_type);
        set_speed(r, block_job_of(job)->speed, record->time_ns);
    } else if (r && strcmp(status, "paused") != 0 && strcmp(status, "running") != 0) {
        r->over = true;
        r->ready |= strcmp(status, "ready") == 0;
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct rate_limit *state = opaque;

    for (struct rate *r = state->rates; r; r = r->next) {
        r->over = r->over || r->host == ((const struct host *)record->ref)->number;
    }
}

static void *attach(struct check *check)
{
    struct rate_limit *state = (struct rate_limit *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));

    state->check = check;
    sim_subscribe(check->sim, EV_qmp_command, on_command, state);
    sim_subscribe(check->sim, EV_qmp_reply, on_reply, state);
    sim_subscribe(check->sim, EV_JOB_STATUS_CHANGE, on_status, state);
    sim_subscribe(check->sim, EV_job_speed, on_speed, state);
    sim_subscribe(check->sim, EV_job_sleep, on_sleep, state);
    sim_subscribe(check->sim, EV_BLOCK_JOB_ERROR, on_error, state);
    sim_subscribe(check->sim, EV_mirror_op_begin, on_op_begin, state);
    sim_subscribe(check->sim, EV_disk_submit, on_disk_submit, state);
    sim_subscribe(check->sim, EV_host_crash, on_crash, state);
    return state;
}

const struct check_class check_rate_limit = {
    .name = "rate-limit",
    .doc = "never above the set speed over whole slices, never starved far below it, never woken early",
    .rules = "above: more was read from the source's media than the speed allows over the time\n"
             "early: an operation, or a read, began before a rate sleep was over\n"
             "starved: the sleeps took half as long again as the bytes cost\n"
             "ready-throttled: a job waited for its limit after it was ready\n",
    .attach = attach,
};
