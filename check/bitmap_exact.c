/*
 * bitmap-exact: no bit missing, none extra (reference/bitmaps-qcow2.md 1 to 3). The events that change the model,
 * and when which bitmaps are held against it; the model is in check/bitmap_model.h, the comparing in
 * bitmap_compare.c.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "check/bitmap_model.h"
#include "jobs/backup.h"

void bitmap_violate(struct bitmap_models *models, const struct bitmap_model *m, const char *rule, const char *op,
                    const char *fmt, ...)
{
    const struct host *host = m ? m->host : NULL;
    const Job *job = host && host->jobs ? job_next(m->host, NULL) : NULL;
    struct violation_where where = {.host = check_host_name(host), .op = op};
    char text[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (job) {
        where.job = job_id(job);
        where.job_type = job_type_name(job->driver->job_type);
        where.phase = job_status_name(job->status);
    }
    if (!m) {
        check_violate(models->check->set, "bitmap-exact", rule, &where, "%s", text);
        return;
    }
    where.node = bdrv_get_node_name(m->bs);
    where.driver = bdrv_driver_name(m->bs);
    check_violate(models->check->set, "bitmap-exact", rule, &where, "bitmap %s of node %s (granularity %lld): %s",
                  m->name ? m->name : "(anonymous)", where.node, (long long)m->granularity, text);
}

/* --- life ------------------------------------------------------------------------------------------------- */

static void on_create(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;
    struct bitmap_model *m = bitmap_model_new(models, record->ref, record->number);

    m->tentative = m->name && bitmap_command_running(models, record->host);
    bitmap_compare_flags(models, m, NULL);
}

static void on_release(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;

    for (struct bitmap_model **link = &models->first; *link; link = &(*link)->next) {
        if ((*link)->bitmap != record->ref) {
            continue;
        }
        if ((*link)->name) {
            (*link)->bitmap = NULL; /* whether it had to go is seen when the command, or the node, is done */
        } else {
            bitmap_model_free(models, link);
        }
        return;
    }
}

static void on_node_close(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;

    for (struct bitmap_model **link = &models->first; *link;) {
        if ((*link)->bs == record->ref) {
            bitmap_model_free(models, link);
        } else {
            link = &(*link)->next;
        }
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;
    const struct host *host = record->ref;

    for (struct bitmap_model **link = &models->first; *link;) {
        if ((*link)->host == host) {
            bitmap_model_free(models, link);
        } else {
            link = &(*link)->next;
        }
    }
    for (struct bitmap_command **link = &models->commands; *link;) {
        struct bitmap_command *command = *link;

        if (command->host == host->number) {
            *link = command->next;
            sim_free(models->check->arena, SIM_TYPE_check_cell, command, sizeof(*command));
        } else {
            link = &command->next;
        }
    }
}

/* An image that is repaired while it is opened reads its bitmaps once more. */
static bool is_read_again(const struct bitmap_models *models, const struct bitmap_model *m)
{
    const struct bitmap_model *now = m->flag[BITMAP_PERSISTENT] ? bitmap_model_named(models, m->bs, m->name) : NULL;

    return now && now != m && now->bitmap && now->flag[BITMAP_PERSISTENT];
}

/* Bitmaps that went or came without anybody asking. */
static void judge_life(struct bitmap_models *models, uint32_t host, const char *op)
{
    for (struct bitmap_model **link = &models->first; *link;) {
        struct bitmap_model *m = *link;

        if (m->host->number != host || (m->bitmap && !m->doomed && !m->tentative)) {
            link = &m->next;
            continue;
        }
        if (m->bitmap) {
            bitmap_violate(models, m, "bitmap-extra", op,
                           m->doomed ? "expected: it is gone, a command removed it"
                                     : "expected: it never was, the command that made it failed");
            m->doomed = m->tentative = false;
            link = &m->next;
            continue;
        }
        /* loaded, and let go again because the image could not be taken back: there it is as it was */
        bool in_image = m->flag[BITMAP_PERSISTENT] && bdrv_is_inactive(m->bs);
        if (!m->doomed && !m->tentative && !in_image && !is_read_again(models, m)) {
            bitmap_violate(models, m, "bitmap-missing", op,
                           "expected: it is there, nobody has removed it; seen: it is gone");
        }
        bitmap_model_free(models, link);
    }
}

/* --- the owner -------------------------------------------------------------------------------------------- */

/* A job's operation on its own bitmap: what it means there, and nothing anywhere else. */
static void compare_around(struct bitmap_models *models, uint32_t host, int64_t start, int64_t end)
{
    if (bitmap_command_running(models, host)) {
        return;
    }
    for (struct bitmap_model *m = models->first; m; m = m->next) {
        if (m->bitmap && m->host->number == host) {
            bitmap_compare_range(models, m, NULL, start, end, NULL);
        }
    }
}

/* A backup that failed and whose bitmap is to say what it has not copied adds that (jobs.md 5.4): what its engine
 * still has to copy, and nothing else. That no more is missing is target-point-in-time's question. */
static bool is_uncopied(const struct bitmap_model *m, int64_t start, int64_t end)
{
    for (const Job *job = job_next(m->host, NULL); job; job = job_next(m->host, job)) {
        if (block_job_is_backup(job) && job->status == JOB_STATUS_ABORTING && backup_source(job) == m->bs &&
            backup_bitmap_mode(job) == BITMAP_SYNC_ALWAYS) {
            const BdrvDirtyBitmap *left =
                block_copy_dirty_bitmap((BlockCopyState *)(uintptr_t)backup_copy_state(job));
            int64_t zero = bdrv_dirty_bitmap_next_zero(left, start, end - start);

            if (zero < 0 || zero >= end) {
                return true;
            }
        }
    }
    return false;
}

static void on_set(void *opaque, const struct sim_record *record)
{
    struct bitmap_model *m = bitmap_model_find(opaque, record->ref);
    int64_t start = (int64_t)record->field[2];
    int64_t end = start + (int64_t)record->field[3];

    if (m && (bitmap_is_owned(m) || is_uncopied(m, start, end))) {
        bitmap_must(m, start, end);
    }
    compare_around(opaque, record->host, start, end);
}

static void on_reset(void *opaque, const struct sim_record *record)
{
    struct bitmap_model *m = bitmap_model_find(opaque, record->ref);
    int64_t start = (int64_t)record->field[2];
    int64_t end = start + (int64_t)record->field[3];

    if (m && bitmap_is_owned(m)) {
        bitmap_clear(opaque, m, start, end, record->number);
    }
    compare_around(opaque, record->host, start, end);
}

/* A merge into a job's own bitmap; those that commands make are told by their replies. */
static void on_merge(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;
    struct bitmap_model *m = bitmap_model_find(models, record->ref);

    for (struct bitmap_model *source = models->first; m && bitmap_is_owned(m) && source; source = source->next) {
        if (source->bitmap && source->host == m->host && bdrv_dirty_bitmap_id(source->bitmap) == record->field[3]) {
            bitmap_merge(models, m, source);
        }
    }
}

static void on_enable(void *opaque, const struct sim_record *record)
{
    struct bitmap_model *m = bitmap_model_find(opaque, record->ref);

    /* a stored one may come back disabled (4.2) */
    bool loaded = m && m->flag[BITMAP_PERSISTENT] && !bitmap_command_running(opaque, record->host);

    if (m && (!m->name || loaded)) {
        bitmap_enable(m, record->field[2] != 0, record->number);
    }
}

/* Exports, migrations and drivers take bitmaps and mark them; commands about bitmaps only for their own time. */
static void on_busy(void *opaque, const struct sim_record *record)
{
    struct bitmap_model *m = bitmap_model_find(opaque, record->ref);

    if (m && !bitmap_command_running(opaque, record->host)) {
        m->flag[BITMAP_BUSY] = record->field[2] != 0;
    }
}

static void on_flag(void *opaque, const struct sim_record *record)
{
    struct bitmap_model *m = bitmap_model_find(opaque, record->ref);

    if (!m || bitmap_command_running(opaque, record->host)) {
        return;
    }
    for (int i = 0; i < BITMAP_FLAGS; i++) {
        if (strcmp(bitmap_flag_name(i), sim_record_str(record, 2)) == 0) {
            m->flag[i] = record->field[3] != 0;
        }
    }
    if (m->flag[BITMAP_INCONSISTENT]) {
        bitmap_enable(m, false, record->number); /* 2.1 */
    }
}

static void on_load(void *opaque, const struct sim_record *record)
{
    struct bitmap_model *m = bitmap_model_find(opaque, record->ref);

    if (m) {
        bitmap_loaded(opaque, m, record->number);
    }
}

static void on_lost(void *opaque, const struct sim_record *record)
{
    bitmap_lost(opaque, record->ref);
}

static void on_disk_complete(void *opaque, const struct sim_record *record)
{
    const struct disk_req *req = record->ref;

    if (req && req->ret < 0) {
        bitmap_request_failed(opaque, req);
    }
}

static void on_activity(void *opaque, const struct sim_record *record)
{
    if (bdrv_is_inactive(record->ref)) {
        bitmap_given_up(opaque, record->ref);
    }
}

static void on_edge_detach(void *opaque, const struct sim_record *record)
{
    bitmap_judge_stored(opaque, record);
}

static void on_resize(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;

    for (struct bitmap_model *m = models->first; m; m = m->next) {
        if (m->bs == record->ref) {
            bitmap_resize(models, m, (int64_t)record->field[1], record->number);
        }
        m->graph = MIN(m->graph, 1u); /* nodes of other lengths than the one below are windows: look again */
    }
}

/* --- successors -------------------------------------------------------------------------------------------- */

/* Not in the middle of a transaction, whose other actions are known by its reply. */
static void compare_whole(struct bitmap_models *models, struct bitmap_model *m, const char *op, bool bits)
{
    if (bitmap_command_running(models, m->host->number)) {
        return;
    }
    bitmap_compare_flags(models, m, op);
    if (bits) {
        bitmap_compare(models, m, op);
    }
}

static void on_freeze(void *opaque, const struct sim_record *record)
{
    struct bitmap_model *parent = bitmap_model_find(opaque, record->ref);
    struct bitmap_model *child = bitmap_model_find(opaque, bdrv_dirty_bitmap_successor(record->ref));

    if (parent && child) {
        bitmap_freeze(parent, child, record->number);
        compare_whole(opaque, parent, "freeze", false);
        compare_whole(opaque, child, "freeze", false);
    }
}

static void on_abdicate(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;
    struct bitmap_model *child = bitmap_model_find(models, record->ref);

    for (struct bitmap_model *m = models->first; m && child; m = m->next) {
        if (m->successor == child) {
            bitmap_abdicate(m);
            compare_whole(models, child, "abdicate", true);
            bitmap_backup_failed(child, m);
            return;
        }
    }
}

static void on_reclaim(void *opaque, const struct sim_record *record)
{
    struct bitmap_model *m = bitmap_model_find(opaque, record->ref);

    if (m && m->successor) {
        bitmap_reclaim(opaque, m, record->number);
        compare_whole(opaque, m, "reclaim", true);
    }
}

/* --- commands ---------------------------------------------------------------------------------------------- */

static void no_action(void *opaque, const char *type, const struct qvalue *data)
{
}

static void on_command(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;
    struct bitmap_command *command =
        (struct bitmap_command *)sim_alloc(models->check->arena, SIM_TYPE_check_cell, sizeof(*command));

    command->call = record->ref;
    command->host = record->host;
    command->bitmaps = check_bitmap_actions(command->call, no_action, NULL);
    command->next = models->commands;
    models->commands = command;
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;
    const struct qmp_call *call = record->ref;
    struct bitmap_command **link = &models->commands;
    struct bitmap_command *command;
    bool of_bitmaps;
    bool whole;

    while (*link && (*link)->call != call) {
        link = &(*link)->next;
    }
    command = *link;
    if (!command) {
        return;
    }
    *link = command->next;
    of_bitmaps = command->bitmaps;
    whole = of_bitmaps || strcmp(call->command->name, "block_resize") == 0;
    sim_free(models->check->arena, SIM_TYPE_check_cell, command, sizeof(*command));
    if (!models->first && !whole) {
        return;
    }
    if (!call->err) {
        bitmap_command_done(models, call, record->number);
    } else if (of_bitmaps) {
        bitmap_command_refused(models, call);
    }
    judge_life(models, record->host, call->command->name);
    for (struct bitmap_model *m = models->first; m; m = m->next) {
        if (m->host->number == record->host) {
            bitmap_compare_flags(models, m, call->command->name);
            (whole ? bitmap_compare : bitmap_compare_count)(models, m, call->command->name);
        }
    }
}

/* --- guests and jobs --------------------------------------------------------------------------------------- */

static void on_complete(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;
    const struct guest_req *req = record->ref;
    const struct flight *flight =
        models->first && check_op_writes(req->op) ? check_flight_find(check_boundary(models->check), req) : NULL;
    bool busy = flight && bitmap_command_running(models, flight->host->number);

    for (struct bitmap_model *m = flight ? models->first : NULL; m; m = m->next) {
        if (!m->bitmap || m->host != flight->host) {
            continue;
        }
        bitmap_refresh(models, m);
        /* an empty request means nothing, to its neighbours as well (edge 1) */
        if ((flight->bytes == 0 || bitmap_flight_ends(models, m, flight, req->ret)) && !busy) {
            bitmap_compare_range(models, m, flight, flight->offset, flight->offset + flight->bytes,
                                 sim_op_name(req->op));
        }
    }
}

static void on_job_event(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;

    for (struct bitmap_model *m = models->first; m; m = m->next) {
        if (m->bitmap && m->host->number == record->host && !bitmap_command_running(models, record->host)) {
            bitmap_compare(models, m, NULL);
        }
    }
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct bitmap_models *models = opaque;

    for (struct host *host = host_first(check->sim); host; host = host->next) {
        if (!bitmap_command_running(models, host->number)) {
            judge_life(models, host->number, NULL);
        }
    }
    for (struct bitmap_model *m = models->first; m; m = m->next) {
        if (!m->bitmap || bitmap_command_running(models, m->host->number)) {
            continue;
        }
        bitmap_refresh(models, m);
        if (bitmap_is_quiet(models, m)) {
            bitmap_due_settled(models, m);
        }
        bitmap_compare_flags(models, m, NULL);
        bitmap_compare(models, m, NULL);
    }
}

static void *attach(struct check *check)
{
    struct bitmap_models *models =
        (struct bitmap_models *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*models));
    static const struct check_subscription subscriptions[] = {
        {EV_bitmap_create, on_create},
        {EV_bitmap_release, on_release},
        {EV_bitmap_set, on_set},
        {EV_bitmap_reset, on_reset},
        {EV_bitmap_merge, on_merge},
        {EV_bitmap_enable, on_enable},
        {EV_bitmap_load, on_load},
        {EV_bitmap_lost, on_lost},
        {EV_edge_detach, on_edge_detach},
        {EV_node_activity, on_activity},
        {EV_disk_complete, on_disk_complete},
        {EV_bitmap_busy, on_busy},
        {EV_bitmap_flag, on_flag},
        {EV_bitmap_freeze, on_freeze},
        {EV_bitmap_abdicate, on_abdicate},
        {EV_bitmap_reclaim, on_reclaim},
        {EV_node_resize, on_resize},
        {EV_node_close, on_node_close},
        {EV_qmp_command, on_command},
        {EV_qmp_reply, on_reply},
        {EV_guest_complete, on_complete},
        {EV_BLOCK_JOB_READY, on_job_event},
        {EV_BLOCK_JOB_COMPLETED, on_job_event},
        {EV_host_crash, on_crash},
    };

    models->check = check;
    bitmap_flight_attach(models);
    check_subscribe(check->sim, subscriptions, ARRAY_SIZE(subscriptions), models);
    return models;
}

const struct check_class check_bitmap_exact = {
    .name = "bitmap-exact",
    .doc = "each bitmap equals the model's, at every operation: no bit missing, none extra beyond the documented "
           "roundings; flags, size and name as commands left them",
    .rules = "bit-missing: a guest wrote there, nobody has cleared it, and the bit is clean\n"
             "bit-extra: the bit is dirty although nobody wrote there since it was cleared\n"
             "count-wrong: the count is not that of the dirty groups\n"
             "search-wrong: searches and looks at single bits contradict each other\n"
             "size-wrong: the bitmap is not as long as its node\n"
             "flag-wrong: enabled, recording, busy, persistent, readonly or granularity is not what commands and "
             "owners made it\n"
             "bitmap-missing: a bitmap is gone, or was never made, although no command removed it\n"
             "bitmap-extra: a bitmap is there although a command removed it, or failed to make it\n"
             "stored-wrong: an image that was closed or given up does not store what a persistent bitmap held\n"
             "not-refused: a command succeeded that the state of the bitmaps forbids\n",
    .attach = attach,
    .at_settled = at_settled,
};
