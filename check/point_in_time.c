/*
 * target-point-in-time: a backup that succeeds leaves in its target what the source showed when the command, or the
 * transaction, took effect (reference/jobs.md 5).
 *
 * That instant is when the first backup of a command is made: everything is drained then, and the sources of all
 * backups of the command are kept at once, so that drives which do not share it are found out. What is promised
 * depends on sync: everything; what the bitmap says; of sync=top what differs from what lies below the source.
 */
#include "check/point_in_time.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

BlockDriverState *pit_node(const struct host *host, const struct sim_name *name)
{
    return name ? bdrv_find_node((struct host *)host, name->str) : NULL;
}

void pit_violate(struct point_in_time *state, const struct host *host, const struct sim_name *job, const char *rule,
                 const char *phase, const struct sim_name *node, const char *op, const char *text)
{
    BlockDriverState *bs = pit_node(host, node);
    struct violation_where where = {.host = check_host_name(host),
                                    .node = node ? node->str : NULL,
                                    .job = job ? job->str : NULL,
                                    .job_type = job ? "backup" : NULL,
                                    .phase = phase,
                                    .driver = bs ? bdrv_driver_name(bs) : NULL,
                                    .op = op};

    check_violate(state->check->set, "target-point-in-time", rule, &where, "%s%s%snode %s, %s",
                  job ? "backup " : "", job ? job->str : "", job ? ", " : "", node ? node->str : "-", text);
}

const char *pit_describe(struct point_in_time *state, const struct instant *instant, const BlockDriverState *bs,
                         int64_t offset, char buf[PIT_TEXT])
{
    char then[CHECK_CONTENT], now[CHECK_CONTENT];

    instant_content(instant, state->check, offset, then);
    if (bs) {
        check_content_of_node(check_boundary(state->check), bs, offset, now);
    }
    snprintf(buf, PIT_TEXT, "offset %" PRId64 " (sector %" PRId64 "): expected %s; seen %s", offset,
             offset / SIM_SECTOR_BYTES, then, bs ? now : "something else");
    return buf;
}

/* --- the instant of a command ------------------------------------------------------------------------------ */

static void keep_source(struct point_in_time *state, BlockDriverState *bs)
{
    struct pit_source *source = state->sources;

    bs = bdrv_skip_filters(bs);
    while (source && source->node != bdrv_node_sim_name(bs)) {
        source = source->next;
    }
    if (source) {
        return;
    }
    source = (struct pit_source *)sim_alloc(state->check->arena, SIM_TYPE_check_cell, sizeof(*source));
    *source = (struct pit_source){
        .node = bdrv_node_sim_name(bs), .instant = instant_take(state->check, bs, 0), .next = state->sources};
    state->sources = source;
}

static void keep_named(struct point_in_time *state, const struct qvalue *data)
{
    const char *device = check_dict_str(data, "device");
    BlockDriverState *bs = device ? bdrv_lookup_bs(state->call->host, device, NULL) : NULL;

    if (bs) {
        keep_source(state, bs);
    }
}

static bool is_backup(const char *name)
{
    return name && (strcmp(name, "blockdev-backup") == 0 || strcmp(name, "drive-backup") == 0);
}

/* The arguments of the command's backups, one after the other; NULL ends. */
static const struct qvalue *backup_data(const struct qmp_call *call, size_t *at)
{
    const struct qvalue *actions = qdict_get(call->args, "actions");

    if (is_backup(call->command->name)) {
        return (*at)++ == 0 ? call->args : NULL;
    }
    while (actions && actions->type == QVALUE_LIST && *at < actions->seq.count) {
        const struct qvalue *action = actions->seq.items[(*at)++];
        const struct qvalue *data = qdict_get(action, "data");

        if (is_backup(check_dict_str(action, "type")) && data && data->type == QVALUE_DICT) {
            return data;
        }
    }
    return NULL;
}

static void keep_sources(struct point_in_time *state)
{
    size_t at = 0;

    for (const struct qvalue *data; (data = backup_data(state->call, &at)) != NULL;) {
        keep_named(state, data);
    }
}

static void drop_sources(struct point_in_time *state)
{
    while (state->sources) {
        struct pit_source *source = state->sources;

        state->sources = source->next;
        instant_drop(source->instant);
        sim_free(state->check->arena, SIM_TYPE_check_cell, source, sizeof(*source));
    }
}

static struct instant *instant_of(struct point_in_time *state, BlockDriverState *source)
{
    const struct pit_source *kept = state->sources;
    const struct sim_name *name = bdrv_node_sim_name(bdrv_skip_filters(source));

    while (kept && kept->node != name) {
        kept = kept->next;
    }
    if (!kept) {
        return instant_take(state->check, source, 0);
    }
    return kept->instant ? instant_share(kept->instant) : NULL;
}

/* --- a backup begins --------------------------------------------------------------------------------------- */

static void promise(struct pit_job *p, const Job *job)
{
    BlockDriverState *source = bdrv_skip_filters(backup_source(job));
    const BdrvDirtyBitmap *bitmap = backup_sync_bitmap(job);
    BlockDriverState *below = bdrv_cow_bs(source);

    if (p->sync == MIRROR_SYNC_TOP && bdrv_supports_backing(source)) {
        instant_differing(p->instant, below, &p->promised);
    } else if (p->sync == MIRROR_SYNC_FULL || p->sync == MIRROR_SYNC_TOP) {
        ranges_add(&p->promised, 0, MAX(p->instant->length, (int64_t)1));
    } else if (bitmap && p->sync != MIRROR_SYNC_NONE) {
        check_read_bits(bitmap, &p->promised);
    }
}

/* Of a target that nothing else shows through: what is not promised stays. */
static void keep_target(struct point_in_time *state, struct pit_job *p, const Job *job)
{
    const BlockDriverState *target = backup_target(job);
    int64_t cluster = backup_copy_state(job) ? block_copy_cluster_size(backup_copy_state(job)) : 0;
    const struct range *r;

    if (cluster == 0 || bdrv_cow_bs(bdrv_skip_filters((BlockDriverState *)target)) ||
        (p->sync != MIRROR_SYNC_BITMAP && p->sync != MIRROR_SYNC_INCREMENTAL)) {
        return;
    }
    for (int64_t at = 0; (r = ranges_next(&p->promised, at)) != NULL; at = r->end) {
        ranges_add(&p->touched, ROUND_DOWN(r->start, cluster), check_group_end(r->end, cluster));
    }
    p->before = instant_take(state->check, target, 0);
}

static void take_arguments(struct point_in_time *state, struct pit_job *p, const Job *job)
{
    const BdrvDirtyBitmap *bitmap = backup_sync_bitmap(job);
    const char *name = bitmap ? bdrv_dirty_bitmap_name(bitmap) : NULL;
    const BdrvDirtyBitmap *successor = bitmap ? bdrv_dirty_bitmap_successor(bitmap) : NULL;
    size_t at = 0;

    p->bitmap = name ? sim_strdup(state->check->arena, name) : NULL;
    p->recording = successor && bdrv_dirty_bitmap_enabled(successor);
    for (const struct qvalue *data; state->call && (data = backup_data(state->call, &at)) != NULL;) {
        p->discards_source |= check_dict_bool(data, "discard-source", false);
    }
}

static void begin(struct point_in_time *state, const Job *job)
{
    BlockDriverState *source = backup_source(job), *target = backup_target(job), *filter = backup_filter(job);
    struct check_below above, below;
    struct pit_job *p;

    if (!source || !target || !filter || !job->id) {
        return;
    }
    above = check_below(source);
    below = check_below(target);
    p = (struct pit_job *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*p));
    *p = (struct pit_job){.host = job->host,
                          .id = job->id,
                          .source = bdrv_node_sim_name(source),
                          .target = bdrv_node_sim_name(target),
                          .sync = backup_sync_mode(job),
                          .mode = backup_bitmap_mode(job),
                          .status = job->status,
                          .instant = instant_of(state, source),
                          .different = -1,
                          .spoiled = -1,
                          .lost = above.weak || above.forgets || below.weak || below.forgets,
                          .next = state->jobs};
    ranges_init(state->check->arena, &p->promised);
    ranges_init(state->check->arena, &p->touched);
    state->jobs = p;
    take_arguments(state, p, job);
    if (!p->instant) {
        p->lost = true;
        return;
    }
    promise(p, job);
    keep_target(state, p, job);
    pit_filter_add(state, filter, instant_share(p->instant));
}

/* --- looking ----------------------------------------------------------------------------------------------- */

static void look(struct pit_job *p)
{
    BlockDriverState *target = pit_node(p->host, p->target);
    const struct range *r;

    p->lost |= target && pit_is_beside(target);
    if (p->lost || !target) {
        return;
    }
    p->different = -1;
    for (int64_t at = 0; p->different < 0 && (r = ranges_next(&p->promised, at)) != NULL; at = r->end) {
        p->different = instant_difference(p->instant, target, r->start, r->end);
    }
    p->spoiled = p->before ? instant_difference_except(p->before, target, 0, INT64_MAX, &p->touched) : -1;
}

static void report(struct point_in_time *state, const struct pit_job *p)
{
    const BlockDriverState *target = pit_node(p->host, p->target);
    char text[PIT_TEXT];

    if (p->different >= 0) {
        pit_violate(state, p->host, p->id, "target-differs", "completed", p->target, mirror_sync_name(p->sync),
                    pit_describe(state, p->instant, target, p->different, text));
    }
    if (p->spoiled >= 0) {
        pit_violate(state, p->host, p->id, "target-spoiled", "completed", p->target, mirror_sync_name(p->sync),
                    pit_describe(state, p->before, target, p->spoiled, text));
    }
}

static void forget(struct point_in_time *state, struct pit_job **link)
{
    struct pit_job *p = *link;

    *link = p->next;
    instant_drop(p->instant);
    instant_drop(p->before);
    ranges_free(&p->promised);
    ranges_free(&p->touched);
    sim_strfree(state->check->arena, (char *)(uintptr_t)p->bitmap);
    sim_free(state->check->arena, SIM_TYPE_check_state, p, sizeof(*p));
}

/* --- events ------------------------------------------------------------------------------------------------ */

static struct pit_job **find(struct point_in_time *state, uint32_t host, const struct sim_name *id)
{
    struct pit_job **link = &state->jobs;

    while (*link && !((*link)->host->number == host && (*link)->id == id)) {
        link = &(*link)->next;
    }
    return link;
}

static void look_at_filter(struct point_in_time *state, const Job *job)
{
    const BlockDriverState *filter = job && block_job_is_backup(job) ? backup_filter(job) : NULL;
    struct pit_filter *f = filter ? pit_filter_of(state, job->host, bdrv_node_sim_name(filter)) : NULL;

    if (f) {
        pit_filter_look(state, f, job_status_name(job->status));
    }
}

static void on_status(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;
    const Job *job = check_job_of(state->check->sim, record);
    struct pit_job **link = find(state, record->host, sim_record_name(record, 0));
    enum job_status status;

    SIM_ASSERT(job_status_parse(sim_record_str(record, 1), &status));
    if (status == JOB_STATUS_NULL && *link) {
        forget(state, link);
        return;
    }
    if (!job || !block_job_is_backup(job)) {
        return;
    }
    if (status == JOB_STATUS_CREATED && state->call && state->call->host == job->host && !state->sources) {
        keep_sources(state);
    } else if (status == JOB_STATUS_RUNNING && !*link) {
        begin(state, job);
    } else if (*link) {
        (*link)->status = status;
        if (status == JOB_STATUS_WAITING) {
            look(*link); /* a target of the job's own is gone when it ends */
        } else if (status == JOB_STATUS_ABORTING) {
            look_at_filter(state, job);
        }
    }
}

static void on_end(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;
    struct pit_job *p = *find(state, record->host, sim_record_name(record, 1));
    bool success = record->kind == EV_BLOCK_JOB_COMPLETED && !sim_record_str(record, 5);

    if (!p || !p->instant) {
        return;
    }
    if (success) {
        look(p);
        if (!p->lost) {
            report(state, p);
        }
    }
    pit_bitmap_look(state, p, success);
}

static void on_command(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;

    drop_sources(state);
    state->call = record->ref;
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;

    if (state->call == record->ref) {
        drop_sources(state);
        state->call = NULL;
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;

    if (state->call && state->call->host == record->ref) {
        drop_sources(state);
        state->call = NULL;
    }
    for (struct pit_job **link = &state->jobs; *link;) {
        if ((*link)->host == record->ref) {
            forget(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct point_in_time *state = opaque;
    uint64_t now = sim_event_count(check->sim);

    for (struct pit_filter *f = state->filters; f; f = f->next) {
        /* the end follows a quiet point: without an event in between there is nothing new to see */
        if (f->looked != now) {
            pit_filter_look(state, f, "settled");
            f->looked = now;
        }
    }
}

static void *attach(struct check *check)
{
    struct point_in_time *state =
        (struct point_in_time *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));
    static const struct check_subscription subscriptions[] = {
        {EV_JOB_STATUS_CHANGE, on_status}, {EV_BLOCK_JOB_COMPLETED, on_end}, {EV_BLOCK_JOB_CANCELLED, on_end},
        {EV_qmp_command, on_command},      {EV_host_crash, on_crash},
    };

    state->check = check;
    check_subscribe(check->sim, subscriptions, ARRAY_SIZE(subscriptions), state);
    pit_filter_attach(state); /* still knows the command of a reply */
    pit_beside_attach(state);
    sim_subscribe(check->sim, EV_qmp_reply, on_reply, state);
    return state;
}

const struct check_class check_target_point_in_time = {
    .name = "target-point-in-time",
    .doc =
        "a finished backup equals the source when its command took effect, per sync mode, in one transaction for "
        "all drives; readers of that past see nothing else",
    .rules = "target-differs: a backup ended in success and its target is not what the source was at its instant\n"
             "target-spoiled: a backup by a bitmap changed its target where the bitmap says nothing\n"
             "past-differs: a filter that keeps the past would show, or showed, something else\n"
             "bitmap-lost: a backup's bitmap misses what was written since its instant, or what was not copied\n",
    .attach = attach,
    .at_settled = at_settled,
};
