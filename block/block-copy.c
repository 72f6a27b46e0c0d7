/* Block copy: the state of one source and target, and who may touch which of its clusters (reference/jobs.md 5.5,
 * 5.9). */
#include "block/block-copy_int.h"

#include <errno.h>

#include "block/dirty-bitmap_int.h"

#define MAX_CLUSTER_BYTES ((int64_t)1 << 31) /* the largest granularity of a bitmap */

/* --- making --------------------------------------------------------------------------------------------------- */

struct info_query {
    BlockDriverState *bs;
    BlockDriverInfo info;
};

static int query_info(void *opaque)
{
    struct info_query *query = opaque;

    return bdrv_co_get_info(query->bs, &query->info);
}

int64_t block_copy_calculate_cluster_size(BlockDriverState *target, int64_t min_cluster_size, Error **errp)
{
    struct info_query query = {.bs = target};
    bool backing = bdrv_backing_chain_next(target) != NULL;
    int64_t least = MAX(BLOCK_COPY_CLUSTER_BYTES, min_cluster_size);

    SIM_ASSERT(min_cluster_size >= 0);
    if (min_cluster_size > MAX_CLUSTER_BYTES) {
        error_setg(errp, "min-cluster-size too large: %lld > %lld", (long long)min_cluster_size,
                   (long long)MAX_CLUSTER_BYTES);
        return -EINVAL;
    }
    if (min_cluster_size > 0 && !is_power_of_2((uint64_t)min_cluster_size)) {
        error_setg(errp, "min-cluster-size needs to be a power of 2");
        return -EINVAL;
    }
    int ret = bdrv_run_co(target->host, "cluster size of a target", query_info, &query);
    if (ret == -ENOTSUP && !backing) {
        SIM_EMIT(target->host->sim, target->host, block_copy_guess, target, SIM_P(target->name));
        return least;
    }
    if (ret < 0 && !backing) {
        error_setg_errno(errp, -ret,
                         "Couldn't determine the cluster size of the target image, which has no backing file");
        return ret;
    }
    /* With a backing file the target fills up what a piece of a cluster leaves. */
    return ret < 0 ? least : MAX(least, query.info.cluster_size);
}

static bool usable_bitmap(const BdrvDirtyBitmap *bitmap, int64_t length_bytes, Error **errp)
{
    if (bitmap && bdrv_dirty_bitmap_size(bitmap) != length_bytes) {
        error_setg(errp, "Bitmap '%s' is not of the length of the source", bdrv_dirty_bitmap_name(bitmap));
        return false;
    }
    return true;
}

/* What is to be copied, rounded out to clusters. */
static void fill_bitmap(BlockCopyState *s, const BdrvDirtyBitmap *wanted)
{
    int64_t offset = 0, bytes;

    bdrv_disable_dirty_bitmap(s->bitmap);
    if (s->length_bytes > 0 && !wanted) {
        bdrv_set_dirty_bitmap(s->bitmap, 0, s->length_bytes);
        return;
    }
    while (offset < s->length_bytes &&
           bdrv_dirty_bitmap_next_dirty_area(wanted, offset, s->length_bytes, INT64_MAX, &offset, &bytes)) {
        bdrv_set_dirty_bitmap(s->bitmap, offset, bytes);
        offset += bytes;
    }
}

static enum block_copy_method first_method(const struct block_copy_args *args)
{
    if (args->compress) {
        return COPY_READ_WRITE_CLUSTER;
    }
    return args->use_copy_range ? COPY_RANGE_SMALL : COPY_READ_WRITE;
}

BlockCopyState *block_copy_state_new(BdrvChild *source, BdrvChild *target, const struct block_copy_args *args,
                                     Error **errp)
{
    BlockDriverState *owner = bdrv_child_parent_bs(source);
    struct host *host = source->bs->host;
    int64_t length = source->bs->total_bytes;
    int64_t cluster = block_copy_calculate_cluster_size(target->bs, args->min_cluster_size, errp);

    if (cluster < 0 || !usable_bitmap(args->bitmap, length, errp)) {
        return NULL;
    }
    SIM_ASSERT(is_power_of_2((uint64_t)cluster));
    SIM_ASSERT_EQ(target->bs->total_bytes, length);
    BlockCopyState *s = SIM_NEW(host->arena, BlockCopyState);
    s->host = host;
    s->source = source;
    s->target = target;
    s->length_bytes = length;
    s->cluster_bytes = cluster;
    s->compress = args->compress;
    s->discard_source = args->discard_source;
    s->method = first_method(args);
    TAILQ_INIT(&s->areas);
    co_queue_init(host->sim, &s->memory_queue);
    s->bitmap = bdrv_dirty_bitmap_new(owner ? owner : source->bs, length, (uint32_t)cluster, NULL);
    fill_bitmap(s, args->bitmap);
    return s;
}

void block_copy_state_free(BlockCopyState *s)
{
    if (!s) {
        return;
    }
    SIM_ASSERT_EQ(s->calls, 0);
    SIM_ASSERT_EQ(s->tasks, 0);
    SIM_ASSERT_EQ(s->in_flight_bytes, 0);
    SIM_ASSERT_EQ(s->memory_bytes, 0);
    SIM_ASSERT(TAILQ_EMPTY(&s->areas));
    bdrv_release_dirty_bitmap(s->bitmap);
    SIM_FREE(s->host->arena, BlockCopyState, s);
}

/* --- looking and setting ---------------------------------------------------------------------------------------
 */

int64_t block_copy_cluster_size(const BlockCopyState *s)
{
    return s->cluster_bytes;
}

int64_t block_copy_length(const BlockCopyState *s)
{
    return s->length_bytes;
}

BdrvDirtyBitmap *block_copy_dirty_bitmap(BlockCopyState *s)
{
    return s->bitmap;
}

int64_t block_copy_remaining(const BlockCopyState *s)
{
    return bdrv_get_dirty_count(s->bitmap) + s->in_flight_bytes;
}

void block_copy_set_skip_unallocated(BlockCopyState *s, bool skip)
{
    s->skip_unallocated = skip;
}

void block_copy_set_progress(BlockCopyState *s, void (*progress)(void *opaque, int64_t bytes), void *opaque)
{
    s->progress = progress;
    s->progress_opaque = opaque;
}

void block_copy_set_copied(BlockCopyState *s, void (*copied)(void *opaque, int64_t offset, int64_t bytes),
                           void *opaque)
{
    s->copied = copied;
    s->copied_opaque = opaque;
}

void block_copy_tell(BlockCopyState *s, int64_t bytes)
{
    if (s->progress) {
        s->progress(s->progress_opaque, bytes);
    }
}

void block_copy_set_speed(BlockCopyState *s, uint64_t speed)
{
    ratelimit_set_speed(&s->limit, speed);
}

unsigned block_copy_tasks(const BlockCopyState *s)
{
    return s->tasks;
}

/* --- what needs a copy ------------------------------------------------------------------------------------------
 */

/* Whole clusters inside the range; the last one ends where the disk does. */
void block_copy_round_in(const BlockCopyState *s, int64_t *offset, int64_t *bytes)
{
    int64_t start = ROUND_UP(*offset, s->cluster_bytes);
    int64_t end = *offset + *bytes;

    SIM_ASSERT(*offset >= 0 && *bytes >= 0);
    end = end < s->length_bytes ? ROUND_DOWN(end, s->cluster_bytes) : ROUND_UP(s->length_bytes, s->cluster_bytes);
    *offset = start;
    *bytes = MAX(end - start, (int64_t)0);
}

void block_copy_reset(BlockCopyState *s, int64_t offset, int64_t bytes)
{
    block_copy_round_in(s, &offset, &bytes);
    if (bytes > 0) {
        bdrv_reset_dirty_bitmap(s->bitmap, offset, block_copy_bits(s->bitmap, offset, bytes));
        block_copy_tell(s, 0);
    }
}

void block_copy_set_all_dirty(BlockCopyState *s)
{
    SIM_ASSERT_EQ(s->tasks, 0);
    if (s->length_bytes > 0) {
        bdrv_set_dirty_bitmap(s->bitmap, 0, s->length_bytes);
        block_copy_tell(s, 0);
    }
}

/* Whether the cluster at offset has an allocated byte, and in *bytes how far the like goes: whole clusters but at
 * the end. An unallocated tail is a cluster. */
static int cluster_allocated(const BlockCopyState *s, int64_t offset, int64_t *bytes)
{
    int64_t pos = offset;

    for (;;) {
        int64_t num;
        int ret = bdrv_co_is_allocated(s->source->bs, pos, s->length_bytes - pos, &num);
        if (ret < 0) {
            return ret;
        }
        pos += num;
        if (ret > 0) { /* a cluster that is allocated in part is to be copied */
            *bytes = MIN(ROUND_UP(pos, s->cluster_bytes), s->length_bytes) - offset;
            return 1;
        }
        /* No length: the source ends here, whatever it said before. */
        if (num == 0 || pos >= s->length_bytes) {
            *bytes = s->length_bytes - offset;
            return 0;
        }
        if (pos - offset >= s->cluster_bytes) {
            *bytes = ROUND_DOWN(pos - offset, s->cluster_bytes);
            return 0;
        }
    }
}

int block_copy_reset_unallocated(BlockCopyState *s, int64_t offset, int64_t *count)
{
    SIM_ASSERT_EQ(offset % s->cluster_bytes, 0);
    SIM_ASSERT(offset < s->length_bytes);
    int ret = cluster_allocated(s, offset, count);

    if (ret == 0) {
        block_copy_reset(s, offset, *count);
    }
    SIM_ASSERT(ret < 0 || *count > 0);
    return MIN(ret, 0);
}

/* --- areas: tasks and holds exclude each other (5.9) -------------------------------------------------------------
 */

struct block_copy_hold *block_copy_find_area(const BlockCopyState *s, int64_t offset, int64_t bytes)
{
    struct block_copy_hold *area;

    TAILQ_FOREACH(area, &s->areas, list)
    {
        if (ranges_overlap(area->offset, area->bytes, offset, bytes)) {
            return area;
        }
    }
    return NULL;
}

struct block_copy_hold *block_copy_find_task(const BlockCopyState *s, int64_t offset, int64_t bytes)
{
    struct block_copy_hold *area;

    TAILQ_FOREACH(area, &s->areas, list)
    {
        if (area->is_task && ranges_overlap(area->offset, area->bytes, offset, bytes)) {
            return area;
        }
    }
    return NULL;
}

void block_copy_area_insert(BlockCopyState *s, struct block_copy_hold *area)
{
    SIM_ASSERT(area->bytes > 0);
    SIM_ASSERT(block_copy_find_area(s, area->offset, area->bytes) == NULL);
    area->state = s;
    co_queue_init(s->host->sim, &area->waiters);
    TAILQ_INSERT_TAIL(&s->areas, area, list);
}

void block_copy_area_remove(struct block_copy_hold *area)
{
    TAILQ_REMOVE(&area->state->areas, area, list);
    co_queue_restart_all(&area->waiters);
}

static void round_out(const BlockCopyState *s, int64_t *offset, int64_t *bytes)
{
    int64_t end = ROUND_UP(*offset + *bytes, s->cluster_bytes);

    *offset = ROUND_DOWN(*offset, s->cluster_bytes);
    *bytes = end - *offset;
}

void block_copy_wait_overlapping(BlockCopyState *s, int64_t offset, int64_t bytes)
{
    struct block_copy_hold *area;

    round_out(s, &offset, &bytes);
    while ((area = block_copy_find_area(s, offset, bytes)) != NULL) {
        SIM_MARK(s->host->sim, copy_hold_waits);
        co_queue_wait(&area->waiters);
    }
}

void block_copy_hold_begin(struct block_copy_hold *hold, BlockCopyState *s, int64_t offset, int64_t bytes)
{
    SIM_ASSERT(bytes > 0);
    round_out(s, &offset, &bytes);
    *hold = (struct block_copy_hold){.offset = offset, .bytes = bytes};
    block_copy_area_insert(s, hold);
}

void block_copy_hold_end(struct block_copy_hold *hold)
{
    SIM_ASSERT(hold->state != NULL && !hold->is_task);
    block_copy_area_remove(hold);
    hold->state = NULL;
}

bool block_copy_area_in_flight(const BlockCopyState *s, int64_t offset, int64_t bytes)
{
    return block_copy_find_task(s, offset, bytes) != NULL;
}
