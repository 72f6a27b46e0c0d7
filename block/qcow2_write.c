/*
 * Writes (5.4): which host clusters a piece of a request goes to, and who waits for whom.
 *
 * A request is cut into runs: clusters that stay where they are, or are new, contiguous on the host, in one slice
 * of an L2 table. A run's data is written without the lock, then its L2 entries are changed (qcow2_link.c).
 */
#include "block/qcow2_write.h"

#include <errno.h>

/* --- who waits for whom -------------------------------------------------------------------------------------- */

static int64_t end_of(const QCowL2Meta *m)
{
    return m->area_offset + m->area_bytes;
}

static void begin(BDRVQcow2State *s, struct sim *sim, QCowL2Meta *m)
{
    SIM_ASSERT_LT(0, m->area_bytes);
    co_queue_init(sim, &m->waiters);
    LIST_INSERT_HEAD(&s->cluster_allocs, m, next);
}

static void end(QCowL2Meta *m)
{
    LIST_REMOVE(m, next);
    co_queue_restart_all(&m->waiters);
}

static void wait_for(BDRVQcow2State *s, struct sim *sim, QCowL2Meta *m)
{
    SIM_MARK(sim, qcow2_alloc_waited);
    co_mutex_unlock(&s->lock);
    co_queue_wait(&m->waiters);
    co_mutex_lock(&s->lock);
}

/* A write of these bytes cannot go on beside m. */
static bool in_the_way(const BDRVQcow2State *s, const QCowL2Meta *m, int64_t offset, int64_t bytes)
{
    int64_t first = start_of_cluster(s, m->area_offset);

    if (m->kind == QCOW2_RUN_IN_PLACE ||
        !ranges_overlap(offset, bytes, first, ROUND_UP(end_of(m), s->cluster_size) - first)) {
        return false;
    }
    /* Both leave the cluster where it is: only the parts that turn into data matter. */
    return m->kind != QCOW2_RUN_KEEP || ranges_overlap(offset, bytes, m->area_offset, m->area_bytes);
}

/* Cuts the write off before what is in its way, or waits until there is nothing. */
static int64_t wait_for_others(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t left = bytes;
    QCowL2Meta *m = LIST_FIRST(&s->cluster_allocs);

    while (m != NULL) {
        int64_t first = start_of_cluster(s, m->area_offset);
        if (!in_the_way(s, m, offset, left)) {
            m = LIST_NEXT(m, next);
        } else if (offset < first) {
            left = first - offset;
            m = LIST_NEXT(m, next);
        } else {
            wait_for(s, bs->host->sim, m);
            left = bytes;
            m = LIST_FIRST(&s->cluster_allocs);
        }
    }
    SIM_ASSERT(left > 0 && left <= bytes);
    return left;
}

void qcow2_claim_begin(BlockDriverState *bs, QCowL2Meta *claim, int64_t offset, int64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t first = start_of_cluster(s, offset);

    SIM_ASSERT(offset >= 0 && bytes > 0);
    *claim = (QCowL2Meta){
        .kind = QCOW2_RUN_CLAIM,
        .guest_offset = offset,
        .bytes = bytes,
        .area_offset = first,
        .area_bytes = ROUND_UP(offset + bytes, s->cluster_size) - first,
    };
    /* It is in the list while it waits: who comes later waits behind it, so that it is sure to get its turn. */
    begin(s, bs->host->sim, claim);
    QCowL2Meta *m = LIST_NEXT(claim, next);
    while (m != NULL) {
        if (ranges_overlap(claim->area_offset, claim->area_bytes, start_of_cluster(s, m->area_offset),
                           end_of(m) - start_of_cluster(s, m->area_offset))) {
            wait_for(s, bs->host->sim, m);
            m = LIST_NEXT(claim, next); /* only what is older than the claim */
        } else {
            m = LIST_NEXT(m, next);
        }
    }
}

void qcow2_claim_end(BlockDriverState *bs, QCowL2Meta *claim)
{
    SIM_ASSERT_EQ(claim->kind, QCOW2_RUN_CLAIM);
    end(claim);
}

/* --- what is there ------------------------------------------------------------------------------------------- */

/* A cluster of the guest and what its L2 entry says. */
struct cluster {
    int64_t offset; /* the write's first byte in it */
    int64_t end;
    uint64_t entry;
    uint64_t bitmap;
    int64_t host; /* of the whole cluster, unless it is new */
    enum qcow2_run kind;
};

static bool all_data(const BDRVQcow2State *s, const struct cluster *c)
{
    unsigned first = offset_to_sc_index(s, c->offset);
    unsigned last = offset_to_sc_index(s, c->end - 1);
    uint64_t touched = ((2ULL << last) - 1) & ~((1ULL << first) - 1);

    return (c->bitmap & touched) == touched;
}

static enum qcow2_run kind_of(const BlockDriverState *bs, const struct cluster *c)
{
    const BDRVQcow2State *s = bs->opaque;
    QCow2ClusterType type = qcow2_get_cluster_type(bs, c->entry);

    if (!(c->entry & QCOW_OFLAG_COPIED) || (type != QCOW2_CLUSTER_NORMAL && type != QCOW2_CLUSTER_ZERO_ALLOC)) {
        return QCOW2_RUN_NEW;
    }
    if (type == QCOW2_CLUSTER_ZERO_ALLOC || (has_subclusters(s) && !all_data(s, c))) {
        return QCOW2_RUN_KEEP;
    }
    return QCOW2_RUN_IN_PLACE;
}

/* NULL, or what is wrong with the entry. */
static const char *look(const BlockDriverState *bs, const uint8_t *slice, unsigned index, int64_t offset,
                        int64_t end_offset, struct cluster *c)
{
    const BDRVQcow2State *s = bs->opaque;
    QCow2SubclusterType type;
    int64_t one = 1;
    int64_t host;

    SIM_ASSERT_LT(offset, end_offset);
    c->offset = offset;
    c->end = MIN(end_offset, start_of_cluster(s, offset) + s->cluster_size);
    c->entry = get_l2_entry(s, slice, index);
    c->bitmap = get_l2_bitmap(s, slice, index);
    c->host = (int64_t)(c->entry & L2E_OFFSET_MASK);
    c->kind = kind_of(bs, c);
    return qcow2_map_entries(bs, slice + (size_t)index * s->l2_entry_size, 1, offset, &one, &host, &type);
}

/* --- what must be written ------------------------------------------------------------------------------------ */

/* Subclusters of the cluster that the write does not cover whole, but that hold data which must move along. */
static uint64_t moving(const BlockDriverState *bs, const struct cluster *c)
{
    const BDRVQcow2State *s = bs->opaque;

    if (!has_subclusters(s) || qcow2_get_cluster_type(bs, c->entry) == QCOW2_CLUSTER_COMPRESSED) {
        return ((2ULL << (s->subclusters_per_cluster - 1)) - 1);
    }
    return c->bitmap & 0xffffffff;
}

static int64_t area_begin(const BlockDriverState *bs, const struct cluster *c)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t data = moving(bs, c);

    if (c->kind == QCOW2_RUN_IN_PLACE) {
        return c->offset;
    }
    if (c->kind == QCOW2_RUN_KEEP) {
        bool whole = has_subclusters(s) && ((c->bitmap >> offset_to_sc_index(s, c->offset)) & 1);
        return whole ? c->offset : ROUND_DOWN(c->offset, s->subcluster_size);
    }
    unsigned first = offset_to_sc_index(s, c->offset);
    if (data != 0) {
        first = MIN(first, (unsigned)__builtin_ctzll(data));
    }
    return start_of_cluster(s, c->offset) + ((int64_t)first << s->subcluster_bits);
}

static int64_t area_end(const BlockDriverState *bs, const struct cluster *c)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t data = moving(bs, c);

    if (c->kind == QCOW2_RUN_IN_PLACE) {
        return c->end;
    }
    if (c->kind == QCOW2_RUN_KEEP) {
        bool whole = has_subclusters(s) && ((c->bitmap >> offset_to_sc_index(s, c->end - 1)) & 1);
        return whole ? c->end : ROUND_UP(c->end, s->subcluster_size);
    }
    unsigned last = offset_to_sc_index(s, c->end - 1);
    if (data != 0) {
        last = MAX(last, 63u - (unsigned)__builtin_clzll(data));
    }
    return start_of_cluster(s, c->offset) + ((int64_t)(last + 1) << s->subcluster_bits);
}

static bool continues(const BDRVQcow2State *s, const struct cluster *before, const struct cluster *next)
{
    return next->kind == before->kind &&
           (next->kind == QCOW2_RUN_NEW || next->host == before->host + s->cluster_size);
}

/* A run from offset on: its kind, its guest range, its area, and where that is unless it is new. */
static int find_run(BlockDriverState *bs, QCowL2Meta *m, int64_t offset, int64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    struct cluster first, last, next;
    unsigned index;
    uint8_t *slice;

    int ret = qcow2_get_cluster_table(bs, offset, &slice, &index);
    if (ret < 0) {
        return ret;
    }
    const char *problem = look(bs, slice, index, offset, offset + bytes, &first);
    last = first;
    while (!problem && last.end < offset + bytes && ++index < s->l2_slice_size &&
           !look(bs, slice, index, last.end, offset + bytes, &next) && continues(s, &last, &next)) {
        last = next;
    }
    qcow2_cache_put(s->l2_table_cache, &slice);
    if (problem) {
        qcow2_signal_corruption(bs, true, -1, -1, "%s (entry %#llx, guest offset %#llx)", problem,
                                (unsigned long long)first.entry, (unsigned long long)offset);
        return -EIO;
    }
    *m = (QCowL2Meta){.kind = first.kind, .guest_offset = offset, .bytes = last.end - offset};
    m->area_offset = area_begin(bs, &first);
    m->area_bytes = area_end(bs, &last) - m->area_offset;
    if (s->data_file_is_raw) { /* which is to stay as long as the disk */
        m->area_bytes = MIN(m->area_bytes, MAX(bs->total_bytes, last.end) - m->area_offset);
    }
    m->host_offset = first.host + offset_into_cluster(s, m->area_offset);
    return 0;
}

/* --- new clusters -------------------------------------------------------------------------------------------- */

static int allocate(BlockDriverState *bs, QCowL2Meta *m, int64_t host_hint)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t first = start_of_cluster(s, m->area_offset);
    int64_t clusters = size_to_clusters(s, end_of(m) - first);

    int64_t got = 0;
    if (host_hint > 0) {
        SIM_ASSERT_EQ(offset_into_cluster(s, host_hint), 0);
        got = qcow2_alloc_clusters_at(bs, host_hint, clusters);
        m->new_offset = host_hint;
    }
    if (got == 0) {
        m->new_offset = qcow2_alloc_clusters(bs, clusters << s->cluster_bits);
        got = m->new_offset < 0 ? m->new_offset : clusters;
    }
    if (got < 0) {
        return (int)got;
    }
    m->new_bytes = got << s->cluster_bits;
    m->host_offset = m->new_offset + offset_into_cluster(s, m->area_offset);
    return got < clusters ? 1 : 0;
}

/* Fewer clusters than wanted: the run ends with them. */
static void cut(const BDRVQcow2State *s, QCowL2Meta *m)
{
    int64_t end_offset = start_of_cluster(s, m->area_offset) + m->new_bytes;

    SIM_ASSERT(m->guest_offset < end_offset && end_offset < m->guest_offset + m->bytes);
    m->bytes = end_offset - m->guest_offset;
    m->area_bytes = end_offset - m->area_offset;
}

int qcow2_alloc_begin(BlockDriverState *bs, QCowL2Meta *m, int64_t offset, int64_t bytes, int64_t host_hint)
{
    BDRVQcow2State *s = bs->opaque;

    SIM_ASSERT(offset >= 0 && bytes > 0);
    bytes = wait_for_others(bs, offset, bytes);
    if (!qcow2_usable(bs)) {
        return -ENOMEDIUM;
    }
    int ret = find_run(bs, m, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    if (m->kind == QCOW2_RUN_NEW && has_data_file(bs)) {
        m->host_offset = m->area_offset;
    } else if (m->kind == QCOW2_RUN_NEW) {
        ret = allocate(bs, m, host_hint);
        if (ret < 0) {
            return ret;
        }
        if (ret > 0) {
            cut(s, m);
        }
    }
    SIM_ASSERT(m->bytes > 0 && m->bytes <= bytes);
    begin(s, bs->host->sim, m);
    return 0;
}

int qcow2_alloc_end(BlockDriverState *bs, QCowL2Meta *m, int ret)
{
    if (ret == 0 && m->kind != QCOW2_RUN_IN_PLACE) {
        ret = qcow2_usable(bs) ? qcow2_alloc_link(bs, m) : -ENOMEDIUM;
    }
    if (ret < 0 && m->new_bytes > 0 && qcow2_usable(bs)) {
        SIM_MARK(bs->host->sim, qcow2_alloc_failed);
        qcow2_free_new_clusters(bs, m->new_offset, m->new_bytes);
    }
    end(m); /* whatever happened: those who wait look again by themselves */
    return ret;
}

/* --- requests ------------------------------------------------------------------------------------------------ */

int qcow2_run_begin(BlockDriverState *bs, QCowL2Meta *m, int64_t offset, int64_t bytes, int64_t host_hint)
{
    BDRVQcow2State *s = bs->opaque;

    co_mutex_lock(&s->lock);
    int ret = qcow2_alloc_begin(bs, m, offset, bytes, host_hint);
    if (ret == 0) {
        ret = qcow2_pre_write_overlap_check(bs, 0, m->host_offset, m->area_bytes, true);
        if (ret < 0) {
            qcow2_alloc_end(bs, m, ret);
        }
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

int qcow2_run_end(BlockDriverState *bs, QCowL2Meta *m, int ret)
{
    BDRVQcow2State *s = bs->opaque;

    co_mutex_lock(&s->lock);
    ret = qcow2_alloc_end(bs, m, ret);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* One run. Moves *hint behind it. */
static int write_run(BlockDriverState *bs, QCowL2Meta *m, int64_t offset, int64_t bytes, const struct payload *in,
                     int64_t in_offset, int64_t *hint)
{
    int ret = qcow2_run_begin(bs, m, offset, bytes, *hint);
    if (ret < 0) {
        return ret;
    }
    *hint = m->host_offset + (m->guest_offset - m->area_offset) + m->bytes;
    return qcow2_run_end(bs, m, qcow2_write_area(bs, m, in, in_offset));
}

int qcow2_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in, uint32_t flags)
{
    int64_t hint = 0;
    QCowL2Meta m;

    if (!qcow2_usable(bs)) {
        return -ENOMEDIUM;
    }
    if (flags & BDRV_REQ_WRITE_COMPRESSED) {
        return qcow2_co_pwritev_compressed(bs, offset, bytes, in);
    }
    for (int64_t done = 0; done < bytes; done += m.bytes) {
        int ret = write_run(bs, &m, offset + done, bytes - done, in, done, &hint);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}
