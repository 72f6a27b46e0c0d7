/*
 * Replacing the first cluster of a qcow2 image (reference/bitmaps-qcow2.md 6).
 *
 *     | sector 0: fields, first extensions | other extensions, end | backing file name |
 *       head                                 tail
 *
 * Power loss tears a write between sectors. A head that announces an extension of which the tail knows nothing
 * makes an image that nobody can open: so where both change, one goes first and is stable before the other, namely
 * the one with which the image still means what it meant, or means already what it shall. The original writes all
 * at once.
 *
 * A backing file's name that is exchanged is in the way of both orders: then the new one goes to a place in the
 * cluster that nobody uses, and the head changes over to it.
 */
#include <errno.h>

#include "block/qcow2_open.h"

#define HEAD_BYTES SIM_SECTOR_BYTES

/* --- what a first cluster means
 * ------------------------------------------------------------------------------------ */

struct meaning {
    const uint8_t *cluster;
    struct qcow2_header h;
    struct qcow2_extensions area;
    const uint8_t *bitmaps; /* the extension, NULL: none that is valid */
    bool whole;             /* well-formed */
};

static bool is_payload(const struct qcow2_extension *ext)
{
    return ext->magic != QCOW2_EXT_MAGIC_FEATURE_TABLE && ext->magic != QCOW2_EXT_MAGIC_BITMAPS;
}

static void understand(struct meaning *m, const uint8_t *cluster, size_t bytes)
{
    struct qcow2_extension ext;
    int ret;

    *m = (struct meaning){.cluster = cluster};
    qcow2_header_decode(cluster, &m->h);
    size_t end = m->h.backing_file_offset ? (size_t)m->h.backing_file_offset : bytes;
    if (m->h.header_length > bytes || end > bytes || m->h.backing_file_size > bytes - end) {
        return;
    }
    m->area = (struct qcow2_extensions){cluster, bytes, (size_t)m->h.header_length, end};
    size_t at = m->area.start;
    while ((ret = qcow2_extension_next(&m->area, &at, &ext)) > 0) {
        if (ext.magic == QCOW2_EXT_MAGIC_BITMAPS && (m->h.autoclear_features & QCOW2_AUTOCLEAR_BITMAPS)) {
            m->bitmaps = ext.bytes == 24 ? ext.data : NULL;
        }
    }
    m->whole = ret == 0;
}

static bool next_payload(const struct meaning *m, size_t *at, struct qcow2_extension *ext)
{
    int ret;

    do {
        ret = qcow2_extension_next(&m->area, at, ext);
    } while (ret > 0 && !is_payload(ext));
    return ret > 0;
}

static bool same_extensions(const struct meaning *a, const struct meaning *b)
{
    struct qcow2_extension x, y;
    size_t at_a = a->area.start;
    size_t at_b = b->area.start;

    for (;;) {
        bool more = next_payload(a, &at_a, &x);
        if (more != next_payload(b, &at_b, &y)) {
            return false;
        }
        if (!more) {
            return true;
        }
        if (x.magic != y.magic || x.bytes != y.bytes || memcmp(x.data, y.data, x.bytes) != 0) {
            return false;
        }
    }
}

static bool same_name(const struct meaning *a, const struct meaning *b)
{
    bool named = a->h.backing_file_offset > 0;

    return named == (b->h.backing_file_offset > 0) &&
           (!named || (a->h.backing_file_size == b->h.backing_file_size &&
                       memcmp(a->cluster + a->h.backing_file_offset, b->cluster + b->h.backing_file_offset,
                              (size_t)a->h.backing_file_size) == 0));
}

/* In all that stands behind the fields: those are in one sector. */
static bool same_meaning(const struct meaning *a, const struct meaning *b)
{
    if (!a->whole || !b->whole || (a->bitmaps == NULL) != (b->bitmaps == NULL)) {
        return false;
    }
    return same_name(a, b) && same_extensions(a, b) && (!a->bitmaps || memcmp(a->bitmaps, b->bitmaps, 24) == 0);
}

/* --- steps
 * -------------------------------------------------------------------------------------------------------- */

struct change {
    BlockDriverState *bs;
    size_t bytes; /* of a cluster */
    uint8_t *old;
    uint8_t *fresh;
    uint8_t *mix;
};

/* With this head and this tail the image is what it was, or what it shall be. */
static bool would_do(const struct change *c, const uint8_t *head, const uint8_t *tail)
{
    struct meaning mixed, before, after;

    memcpy(c->mix, head, HEAD_BYTES);
    memcpy(c->mix + HEAD_BYTES, tail + HEAD_BYTES, c->bytes - HEAD_BYTES);
    understand(&mixed, c->mix, c->bytes);
    understand(&before, c->old, c->bytes);
    understand(&after, c->fresh, c->bytes);
    return same_meaning(&mixed, &before) || same_meaning(&mixed, &after);
}

static int write_head(const struct change *c)
{
    return qcow2_pwrite(c->bs, 0, HEAD_BYTES, c->fresh);
}

static int write_tail(const struct change *c, const uint8_t *tail)
{
    return qcow2_pwrite(c->bs, HEAD_BYTES, (int64_t)(c->bytes - HEAD_BYTES), tail + HEAD_BYTES);
}

static int flush(const struct change *c)
{
    return bdrv_co_flush(c->bs->file->bs);
}

static int tail_first(const struct change *c)
{
    int ret = write_tail(c, c->fresh);
    if (ret == 0) {
        ret = flush(c);
    }
    return ret < 0 ? ret : write_head(c);
}

static int head_first(const struct change *c)
{
    int ret = write_head(c);
    if (ret == 0) {
        ret = flush(c);
    }
    return ret < 0 ? ret : write_tail(c, c->fresh);
}

static size_t end_of(const struct meaning *m)
{
    size_t extent = qcow2_extensions_extent(&m->area);

    return MAX(extent, (size_t)(m->h.backing_file_offset + m->h.backing_file_size));
}

/* The new name goes behind all that is there, and is stable before the head says so. False: no room, or it would
 * not help; fresh is as it was. */
static bool move_name(struct change *c, uint8_t *between)
{
    struct meaning before, after;

    understand(&before, c->old, c->bytes);
    understand(&after, c->fresh, c->bytes);
    if (!before.whole || !after.whole || after.h.backing_file_offset == 0) {
        return false;
    }
    size_t from = (size_t)after.h.backing_file_offset;
    size_t name_bytes = (size_t)after.h.backing_file_size;
    size_t to = MAX(ROUND_UP(MAX(end_of(&before), end_of(&after)), 8), (size_t)HEAD_BYTES);
    if (name_bytes > c->bytes - MIN(to, c->bytes)) {
        return false;
    }
    memcpy(between, c->old, c->bytes);
    memcpy(between + to, c->fresh + from, name_bytes);
    memcpy(c->fresh + to, c->fresh + from, name_bytes);
    after.h.backing_file_offset = to;
    qcow2_header_encode(&after.h, c->fresh); /* the name's copy at its old place harms nobody */
    if (would_do(c, c->fresh, between)) {
        return true;
    }
    after.h.backing_file_offset = from;
    qcow2_header_encode(&after.h, c->fresh);
    return false;
}

static int by_moving(struct change *c)
{
    uint8_t *between = qcow2_alloc(c->bs, c->bytes);
    bool moved = move_name(c, between);
    int ret = 0;

    if (moved) {
        SIM_MARK(c->bs->host->sim, qcow2_backing_name_moved);
        ret = write_tail(c, between);
        if (ret == 0) {
            ret = flush(c);
        }
        if (ret == 0) {
            ret = head_first(c);
        }
    } else {
        SIM_MARK(c->bs->host->sim, qcow2_header_at_once);
        ret = qcow2_pwrite(c->bs, 0, (int64_t)c->bytes, c->fresh);
    }
    qcow2_free(c->bs, between, c->bytes);
    return ret;
}

static int switch_over(struct change *c)
{
    int ret = qcow2_pread(c->bs, 0, (int64_t)c->bytes, c->old);

    if (ret < 0) {
        return ret;
    }
    bool head_same = memcmp(c->old, c->fresh, HEAD_BYTES) == 0;
    if (head_same || memcmp(c->old + HEAD_BYTES, c->fresh + HEAD_BYTES, c->bytes - HEAD_BYTES) == 0) {
        return qcow2_pwrite(c->bs, 0, (int64_t)c->bytes, c->fresh);
    }
    if (would_do(c, c->old, c->fresh)) {
        return tail_first(c);
    }
    if (would_do(c, c->fresh, c->old)) {
        return head_first(c);
    }
    return by_moving(c);
}

int qcow2_header_switch(BlockDriverState *bs, const uint8_t *cluster)
{
    const BDRVQcow2State *s = bs->opaque;
    struct change c = {.bs = bs, .bytes = (size_t)s->cluster_size};

    if (c.bytes <= HEAD_BYTES) {
        return qcow2_pwrite(bs, 0, s->cluster_size, cluster);
    }
    c.old = qcow2_alloc(bs, c.bytes);
    c.mix = qcow2_alloc(bs, c.bytes);
    c.fresh = qcow2_alloc(bs, c.bytes);
    memcpy(c.fresh, cluster, c.bytes);
    int ret = switch_over(&c);
    qcow2_free(bs, c.old, c.bytes);
    qcow2_free(bs, c.mix, c.bytes);
    qcow2_free(bs, c.fresh, c.bytes);
    return ret;
}
