/*
 * successor-algebra, the end of a backup: which of the two ends its bitmap comes to, by bitmap-mode and outcome
 * (reference/jobs.md 5.4).
 *
 *     bitmap-mode   success      failure, cancel
 *     on-success    abdicate     reclaim
 *     never         reclaim      reclaim
 *     always        abdicate     abdicate, and what was not copied is added (target-point-in-time looks)
 */
#include "check/checkers.h"
#include "jobs/backup.h"

enum bitmap_end { END_NONE, END_ABDICATE, END_RECLAIM };
static const char *const end_names[] = {"in use still", "the successor's bits only",
                                        "its own bits and its successor's"};

struct backup_bitmap {
    struct host *host;
    const struct sim_name *id;
    const BdrvDirtyBitmap *bitmap;
    const struct sim_name *node;
    enum bitmap_sync_mode mode;
    enum bitmap_end end;
    struct backup_bitmap *next;
};

struct backup_bitmaps {
    struct check *check;
    struct backup_bitmap *first;
};

static struct backup_bitmap **find(struct backup_bitmaps *state, uint32_t host, const struct sim_name *id)
{
    struct backup_bitmap **link = &state->first;

    while (*link && !((*link)->host->number == host && (*link)->id == id)) {
        link = &(*link)->next;
    }
    return link;
}

static void forget(struct backup_bitmaps *state, struct backup_bitmap **link)
{
    struct backup_bitmap *b = *link;

    *link = b->next;
    sim_free(state->check->arena, SIM_TYPE_check_cell, b, sizeof(*b));
}

static void on_status(void *opaque, const struct sim_record *record)
{
    struct backup_bitmaps *state = opaque;
    const Job *job = check_job_of(state->check->sim, record);
    struct backup_bitmap **link = find(state, record->host, sim_record_name(record, 0));
    enum job_status status;

    SIM_ASSERT(job_status_parse(sim_record_str(record, 1), &status));
    if (*link && status == JOB_STATUS_NULL) {
        forget(state, link);
    } else if (!*link && status == JOB_STATUS_RUNNING && job && block_job_is_backup(job) &&
               backup_sync_bitmap(job) && backup_source(job)) {
        *link = (struct backup_bitmap *)sim_alloc(state->check->arena, SIM_TYPE_check_cell, sizeof(**link));
        **link = (struct backup_bitmap){.host = job->host,
                                        .id = job->id,
                                        .bitmap = backup_sync_bitmap(job),
                                        .node = bdrv_node_sim_name(backup_source(job)),
                                        .mode = backup_bitmap_mode(job)};
    }
}

static void on_thaw(void *opaque, const struct sim_record *record)
{
    struct backup_bitmaps *state = opaque;

    for (struct backup_bitmap *b = state->first; b; b = b->next) {
        if (b->bitmap == record->ref && b->end == END_NONE) {
            b->end = record->field[3] ? END_ABDICATE : END_RECLAIM;
        }
    }
}

static void on_end(void *opaque, const struct sim_record *record)
{
    struct backup_bitmaps *state = opaque;
    struct backup_bitmap *b = *find(state, record->host, sim_record_name(record, 1));
    bool success = record->kind == EV_BLOCK_JOB_COMPLETED && !sim_record_str(record, 5);
    enum bitmap_end expected;

    if (!b) {
        return;
    }
    expected = b->mode == BITMAP_SYNC_ALWAYS || (success && b->mode == BITMAP_SYNC_ON_SUCCESS) ? END_ABDICATE
                                                                                               : END_RECLAIM;
    if (b->end != expected) {
        struct violation_where where = {.host = check_host_name(b->host),
                                        .node = b->node->str,
                                        .job = b->id->str,
                                        .job_type = "backup",
                                        .phase = success ? "completed" : "failed"};

        check_violate(state->check->set, "successor-algebra", "backup-outcome", &where,
                      "the bitmap of backup %s: expected %s; seen %s", b->id->str, end_names[expected],
                      end_names[b->end]);
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct backup_bitmaps *state = opaque;

    for (struct backup_bitmap **link = &state->first; *link;) {
        if ((*link)->host == record->ref) {
            forget(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

void check_successor_backup_attach(struct check *check)
{
    struct backup_bitmaps *state =
        (struct backup_bitmaps *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));
    static const struct check_subscription subscriptions[] = {
        {EV_JOB_STATUS_CHANGE, on_status}, {EV_bitmap_thaw, on_thaw}, {EV_BLOCK_JOB_COMPLETED, on_end},
        {EV_BLOCK_JOB_CANCELLED, on_end},  {EV_host_crash, on_crash},
    };

    state->check = check;
    check_subscribe(check->sim, subscriptions, ARRAY_SIZE(subscriptions), state);
}
