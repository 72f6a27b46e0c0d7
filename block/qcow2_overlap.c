/*
 * qcow2: noticing that an image is corrupt, and saying so (5.8).
 *
 * Before a write goes to the file its clusters are compared with every structure that the checks in force name; a
 * write that would hit one is refused. What is known to be corrupt is not written any more: the header says so,
 * and the node is of no use until the image has been repaired.
 */
#include <errno.h>
#include <stdarg.h>

#include "block/qcow2.h"

/* --- one test for each structure ---------------------------------------------------------------------------- */

/* A write, widened to whole clusters. */
struct target {
    int64_t offset;
    int64_t bytes;
};

static bool hits(const struct target *t, int64_t offset, int64_t bytes)
{
    return ranges_overlap(t->offset, t->bytes, offset, bytes);
}

/* Each: 1 hit, 0 not, -errno. */
static int hits_header(BlockDriverState *bs, const struct target *t)
{
    const BDRVQcow2State *s = bs->opaque;
    return hits(t, 0, s->cluster_size);
}

static int hits_active_l1(BlockDriverState *bs, const struct target *t)
{
    const BDRVQcow2State *s = bs->opaque;
    return hits(t, s->l1_table_offset, (int64_t)s->l1_size * 8);
}

static int hits_active_l2(BlockDriverState *bs, const struct target *t)
{
    return qcow2_l2_places_hit(bs, t->offset, t->bytes);
}

static int hits_refcount_block(BlockDriverState *bs, const struct target *t)
{
    const BDRVQcow2State *s = bs->opaque;
    uint32_t count = MIN(s->max_refcount_table_index + 1, s->refcount_table_size);

    for (uint32_t i = 0; i < count; i++) {
        uint64_t block = s->refcount_table[i] & REFT_OFFSET_MASK;
        if (block != 0 && block <= (uint64_t)(INT64_MAX - s->cluster_size) &&
            hits(t, (int64_t)block, s->cluster_size)) {
            return 1;
        }
    }
    return 0;
}

static int hits_refcount_table(BlockDriverState *bs, const struct target *t)
{
    const BDRVQcow2State *s = bs->opaque;
    return hits(t, s->refcount_table_offset, (int64_t)s->refcount_table_size * 8);
}

static int hits_snapshot_table(BlockDriverState *bs, const struct target *t)
{
    const BDRVQcow2State *s = bs->opaque;
    return s->snapshots_offset > 0 && hits(t, s->snapshots_offset, s->snapshots_size);
}

static int hits_inactive_l1(BlockDriverState *bs, const struct target *t)
{
    const BDRVQcow2State *s = bs->opaque;

    for (uint32_t i = 0; s->snapshots != NULL && i < s->nb_snapshots; i++) {
        const QCowSnapshot *snapshot = &s->snapshots[i];
        if (snapshot->l1_size > 0 && hits(t, snapshot->l1_table_offset, (int64_t)snapshot->l1_size * 8)) {
            return 1;
        }
    }
    return 0;
}

#define L1_PIECE_ENTRIES 8192

static int snapshot_l2_hit(BlockDriverState *bs, int64_t l1_offset, int64_t entries, uint8_t *piece,
                           const struct target *t)
{
    const BDRVQcow2State *s = bs->opaque;

    for (int64_t first = 0; first < entries; first += L1_PIECE_ENTRIES) {
        int64_t count = MIN(entries - first, (int64_t)L1_PIECE_ENTRIES);
        int ret = qcow2_pread(bs, l1_offset + first * 8, count * 8, piece);
        if (ret < 0) {
            return ret;
        }
        for (int64_t i = 0; i < count; i++) {
            int64_t l2 = (int64_t)(qcow2_get_be64(piece + i * 8) & L1E_OFFSET_MASK);
            if (l2 != 0 && hits(t, l2, s->cluster_size)) {
                return 1;
            }
        }
    }
    return 0;
}

/* Entries of a snapshot's L1 table that are not zeros beyond the end of the file; 0 for a table that nobody could
 * use. */
static int64_t entries_in_file(const BDRVQcow2State *s, const QCowSnapshot *snapshot, int64_t file_bytes)
{
    int64_t offset = snapshot->l1_table_offset;

    if (snapshot->l1_size > QCOW2_MAX_L1_BYTES / 8 || offset < 0 || offset >= file_bytes ||
        offset_into_cluster(s, offset) != 0) {
        return 0;
    }
    return MIN((int64_t)snapshot->l1_size, DIV_ROUND_UP(file_bytes - offset, 8));
}

/* Nobody keeps the tables of snapshots: they are read, piece by piece, each time. Tables that share nothing are
 * together not longer than the file; others could take any time. */
static int hits_inactive_l2(BlockDriverState *bs, const struct target *t)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t file_bytes = bdrv_getlength_cached(bs->file->bs);
    int64_t left = file_bytes;
    uint8_t *piece = s->nb_snapshots > 0 ? qcow2_alloc(bs, L1_PIECE_ENTRIES * 8) : NULL;
    int ret = 0;

    for (uint32_t i = 0; s->snapshots != NULL && i < s->nb_snapshots && ret == 0; i++) {
        int64_t entries = entries_in_file(s, &s->snapshots[i], file_bytes);
        left -= entries * 8;
        if (left < 0) {
            qcow2_signal_corruption(bs, true, -1, -1, "L1 tables of snapshots overlap");
            ret = -EIO;
            break;
        }
        ret = snapshot_l2_hit(bs, s->snapshots[i].l1_table_offset, entries, piece, t);
    }
    qcow2_free(bs, piece, piece ? L1_PIECE_ENTRIES * 8 : 0);
    return ret;
}

static int hits_bitmap_directory(BlockDriverState *bs, const struct target *t)
{
    const BDRVQcow2State *s = bs->opaque;

    return (s->autoclear_features & QCOW2_AUTOCLEAR_BITMAPS) && s->nb_bitmaps > 0 &&
           hits(t, (int64_t)s->bitmap_directory_offset, (int64_t)s->bitmap_directory_size);
}

static const struct overlap_check {
    unsigned bit;
    const char *name; /* in messages */
    int (*hits)(BlockDriverState *bs, const struct target *t);
} checks[] = {
    {QCOW2_OL_MAIN_HEADER, "qcow2_header", hits_header},
    {QCOW2_OL_ACTIVE_L1, "active L1 table", hits_active_l1},
    {QCOW2_OL_ACTIVE_L2, "active L2 table", hits_active_l2},
    {QCOW2_OL_REFCOUNT_BLOCK, "refcount block", hits_refcount_block},
    {QCOW2_OL_REFCOUNT_TABLE, "refcount table", hits_refcount_table},
    {QCOW2_OL_SNAPSHOT_TABLE, "snapshot table", hits_snapshot_table},
    {QCOW2_OL_INACTIVE_L1, "inactive L1 table", hits_inactive_l1},
    {QCOW2_OL_INACTIVE_L2, "inactive L2 table", hits_inactive_l2},
    {QCOW2_OL_BITMAP_DIRECTORY, "bitmap directory", hits_bitmap_directory},
};

int qcow2_pre_write_overlap_check(BlockDriverState *bs, unsigned ignore, int64_t offset, int64_t bytes,
                                  bool data_file)
{
    const BDRVQcow2State *s = bs->opaque;
    unsigned in_force = s->overlap_check & ~ignore;

    SIM_ASSERT(bytes >= 0);
    if (bytes == 0 || in_force == 0 || (data_file && has_data_file(bs))) {
        return 0;
    }
    if (offset < 0 || bytes > INT64_MAX - s->cluster_size - offset) {
        return -EIO;
    }
    struct target t = {.offset = start_of_cluster(s, offset)};
    t.bytes = ROUND_UP(offset + bytes, s->cluster_size) - t.offset;
    for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
        int ret = in_force & checks[i].bit ? checks[i].hits(bs, &t) : 0;
        if (ret < 0) {
            return ret;
        }
        if (ret > 0) {
            qcow2_signal_corruption(bs, true, offset, bytes,
                                    "Preventing invalid write on metadata (overlaps with %s)", checks[i].name);
            return -EIO;
        }
    }
    return 0;
}

/* --- telling ------------------------------------------------------------------------------------------------ */

/* The backend that the node is the root of; "" when there is none. */
static const char *device_name(const BlockDriverState *bs)
{
    const BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass == &blk_child_root && blk_name(edge->opaque)[0] != '\0') {
            return blk_name(edge->opaque);
        }
    }
    return "";
}

void qcow2_signal_corruption(BlockDriverState *bs, bool fatal, int64_t offset, int64_t bytes, const char *fmt, ...)
{
    BDRVQcow2State *s = bs->opaque;
    struct sim *sim = bs->host->sim;
    char message[200];
    va_list args;

    /* Whoever is refused leaves the image as it was: it will be seen again. */
    fatal = fatal && !bdrv_is_read_only(bs) && !(bs->open_flags & BDRV_O_INACTIVE) && !bs->opening;
    if (s->unusable || (s->signaled_corruption && !fatal)) {
        return;
    }
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    SIM_MARK(sim, qcow2_corruption);
    s->signaled_corruption = true;
    /* Interned: whoever keeps the event may keep the text. */
    SIM_EMIT(sim, bs->host, BLOCK_IMAGE_CORRUPTED, bs, SIM_P(sim_name(sim, device_name(bs))->str), SIM_P(bs->name),
             SIM_P(sim_name(sim, message)->str), (uint64_t)offset, (uint64_t)bytes, fatal);
    if (!fatal) {
        return;
    }
    (void)qcow2_mark_corrupt(bs); /* before the node is unusable: it does not write after that */
    s->unusable = true;
}
