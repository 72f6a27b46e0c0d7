/*
 * qcow2: clusters between two owners.
 *
 * A cluster whose count fell to 0 is free in the refcount block in memory, but the tables on the file may still
 * name it. Whoever got it now would write over what the old tables show: after a power loss a discarded range would
 * read another range's data, and compressed data that had been flushed would not unpack any more (6, [HOLE] early
 * reuse). So freed clusters wait here:
 *
 *     count 0 -> freed ----------------------------> stable, nobody reads or writes it -> host discard -> free
 *                (all metadata written and flushed)
 *
 * The host discard comes before anybody can have the cluster (Q04). What waits is bounded by qcow2_freed_limit: an
 * allocation beyond that flushes first.
 */
#include "block/qcow2.h"

struct qcow2_freed_range {
    int64_t offset;
    int64_t bytes;
    enum qcow2_discard_type type;
};

#define QCOW2_FREED_MIN_BYTES (1 * MiB)
#define QCOW2_FREED_MAX_BYTES (64 * MiB)
#define QCOW2_FREED_MAX_RANGES 4096u

/* First range that ends behind offset. */
static uint32_t lower_bound(const BDRVQcow2State *s, int64_t offset)
{
    uint32_t low = 0;
    uint32_t high = s->nb_freed;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->freed[middle].offset + s->freed[middle].bytes <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool qcow2_is_freed(const BDRVQcow2State *s, uint64_t cluster_index)
{
    int64_t offset = (int64_t)(cluster_index << s->cluster_bits);
    uint32_t i = lower_bound(s, offset);

    return i < s->nb_freed && s->freed[i].offset <= offset;
}

static void insert(BlockDriverState *bs, uint32_t at, struct qcow2_freed_range range)
{
    BDRVQcow2State *s = bs->opaque;

    if (s->nb_freed == s->freed_room) {
        uint32_t room = MAX(s->freed_room * 2, 16u);
        struct qcow2_freed_range *grown = qcow2_alloc(bs, room * sizeof(*grown));
        if (s->nb_freed > 0) {
            memcpy(grown, s->freed, s->nb_freed * sizeof(*grown));
        }
        qcow2_free(bs, s->freed, s->freed_room * sizeof(*grown));
        s->freed = grown;
        s->freed_room = room;
    }
    memmove(s->freed + at + 1, s->freed + at, (s->nb_freed - at) * sizeof(*s->freed));
    s->freed[at] = range;
    s->nb_freed++;
}

static void remove_at(BDRVQcow2State *s, uint32_t at)
{
    s->nb_freed--;
    memmove(s->freed + at, s->freed + at + 1, (s->nb_freed - at) * sizeof(*s->freed));
}

void qcow2_freed_add(BlockDriverState *bs, int64_t offset, int64_t bytes, enum qcow2_discard_type type)
{
    BDRVQcow2State *s = bs->opaque;
    uint32_t at = lower_bound(s, offset);

    SIM_ASSERT(bytes == s->cluster_size && offset_into_cluster(s, offset) == 0);
    if (at < s->nb_freed && s->freed[at].offset < offset + bytes) {
        return; /* it waits already: only counts that are wrong fall to 0 twice */
    }
    struct qcow2_freed_range *before = at > 0 ? &s->freed[at - 1] : NULL;
    struct qcow2_freed_range *after = at < s->nb_freed ? &s->freed[at] : NULL;
    bool joins_after = after != NULL && after->type == type && offset + bytes == after->offset;

    s->freed_bytes += bytes;
    if (before != NULL && before->type == type && before->offset + before->bytes == offset) {
        before->bytes += bytes + (joins_after ? after->bytes : 0);
        if (joins_after) {
            remove_at(s, at);
        }
    } else if (joins_after) {
        after->offset = offset;
        after->bytes += bytes;
    } else {
        insert(bs, at, (struct qcow2_freed_range){offset, bytes, type});
    }
}

void qcow2_freed_take_back(BlockDriverState *bs, uint64_t cluster_index)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t offset = (int64_t)(cluster_index << s->cluster_bits);
    uint32_t at = lower_bound(s, offset);

    if (at == s->nb_freed || s->freed[at].offset > offset) {
        return;
    }
    struct qcow2_freed_range tail = s->freed[at];
    s->freed_bytes -= s->cluster_size;
    s->freed[at].bytes = offset - tail.offset;
    tail.bytes -= s->freed[at].bytes + s->cluster_size;
    tail.offset = offset + s->cluster_size;
    if (s->freed[at].bytes == 0) {
        remove_at(s, at);
    } else {
        at++;
    }
    if (tail.bytes > 0) {
        insert(bs, at, tail);
    }
}

/* --- becoming free ---------------------------------------------------------------------------------------- */

static bool wants_discard(const BDRVQcow2State *s, enum qcow2_discard_type type)
{
    SIM_ASSERT(type < QCOW2_DISCARD_COUNT);
    return type == QCOW2_DISCARD_ALWAYS || (type != QCOW2_DISCARD_NEVER && s->discard_passthrough[type]);
}

void qcow2_host_discard(BlockDriverState *bs, BdrvChild *child, int64_t offset, int64_t bytes,
                        enum qcow2_discard_type type)
{
    int64_t end = MIN(offset + bytes, child->bs->total_bytes);

    if (wants_discard(bs->opaque, type) && offset < end) {
        (void)bdrv_co_pdiscard(child, offset, end - offset); /* a hint: that it failed changes nothing */
    }
}

/* Several ranges in one request, if they touch and one discard is right for all. */
static void discard_ranges(BlockDriverState *bs, const struct qcow2_freed_range *ranges, uint32_t count)
{
    const BDRVQcow2State *s = bs->opaque;

    for (uint32_t i = 0; i < count;) {
        struct qcow2_freed_range all = ranges[i++];
        while (i < count && ranges[i].offset == all.offset + all.bytes &&
               wants_discard(s, ranges[i].type) == wants_discard(s, all.type)) {
            all.bytes += ranges[i++].bytes;
        }
        qcow2_host_discard(bs, bs->file, all.offset, all.bytes, all.type);
    }
}

/* Those that nobody reads or writes move to the end of out, in order; the others to its beginning. Returns how many
 * stay. */
static uint32_t split(BlockDriverState *bs, struct qcow2_freed_range *out)
{
    const BDRVQcow2State *s = bs->opaque;
    uint32_t kept = 0;
    uint32_t ready = s->nb_freed;

    for (uint32_t i = s->nb_freed; i-- > 0;) {
        if (!qcow2_data_in_use(s, s->freed[i].offset, s->freed[i].bytes)) {
            out[--ready] = s->freed[i];
        }
    }
    for (uint32_t i = 0; kept < ready; i++) {
        if (qcow2_data_in_use(s, s->freed[i].offset, s->freed[i].bytes)) {
            SIM_MARK(bs->host->sim, qcow2_freed_in_use);
            out[kept++] = s->freed[i];
        }
    }
    return kept;
}

void qcow2_freed_stable(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    if (s->nb_freed == 0) {
        return;
    }
    uint32_t count = s->nb_freed;
    struct qcow2_freed_range *ranges = qcow2_alloc(bs, count * sizeof(*ranges));
    uint32_t kept = split(bs, ranges);

    /* They stay freed for everybody who looks until the discards are done; the lock keeps others from adding. */
    discard_ranges(bs, ranges + kept, count - kept);
    SIM_ASSERT_EQ(s->nb_freed, count);
    memcpy(s->freed, ranges, kept * sizeof(*ranges));
    s->nb_freed = kept;
    for (uint32_t i = kept; i < count; i++) {
        s->freed_bytes -= ranges[i].bytes;
        s->free_cluster_index = MIN(s->free_cluster_index, (uint64_t)ranges[i].offset >> s->cluster_bits);
    }
    SIM_ASSERT((s->freed_bytes == 0) == (s->nb_freed == 0));
    qcow2_free(bs, ranges, count * sizeof(*ranges));
}

bool qcow2_freed_too_many(const BDRVQcow2State *s)
{
    int64_t eighth = (int64_t)(s->free_cluster_index << s->cluster_bits) / 8;
    int64_t limit = MIN(MAX(eighth, QCOW2_FREED_MIN_BYTES), QCOW2_FREED_MAX_BYTES);

    return s->freed_bytes > limit || s->nb_freed > QCOW2_FREED_MAX_RANGES;
}

void qcow2_freed_close(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    qcow2_free(bs, s->freed, s->freed_room * sizeof(*s->freed));
    s->freed = NULL;
    s->nb_freed = s->freed_room = 0;
    s->freed_bytes = 0;
}
