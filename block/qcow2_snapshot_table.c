/*
 * The table of internal snapshots in a qcow2 image (reference/bitmaps-qcow2.md 5.7).
 *
 * A new table is written beside the old one, with all counts stable, and one write of the header switches to it:
 * whoever opens the image sees the old one or the new one, complete.
 */
#include <errno.h>

#include "block/qcow2_check_int.h"

#define ENTRY_BYTES 40
#define EXTRA_BYTES 24  /* what we write: size of VM state, of the disk, icount */
#define EXTRA_NEEDED 16 /* version 3 wants these */
#define HEADER_NB_SNAPSHOTS 60
#define WINDOW_BYTES 65536

/* --- reading ------------------------------------------------------------------------------------------------ */

/* The table is a few bytes per entry and of unknown length: read through a window. */
struct reader {
    BlockDriverState *bs;
    int64_t offset; /* of the next byte */
    int64_t start;  /* of the window */
    int64_t end;
    uint8_t *window;
};

static int read_bytes(struct reader *r, int64_t bytes, void *out)
{
    uint8_t *to = out;

    while (bytes > 0) {
        if (r->offset >= r->end) {
            if (r->offset > BDRV_MAX_LENGTH - WINDOW_BYTES) {
                return -EIO;
            }
            int ret = qcow2_pread(r->bs, r->offset, WINDOW_BYTES, r->window);
            if (ret < 0) {
                return ret;
            }
            r->start = r->offset;
            r->end = r->offset + WINDOW_BYTES;
        }
        int64_t n = MIN(bytes, r->end - r->offset);
        memcpy(to, r->window + (r->offset - r->start), (size_t)n);
        to += n;
        r->offset += n;
        bytes -= n;
    }
    return 0;
}

/* Up to the first zero byte: names are text. */
static int read_string(struct reader *r, unsigned length, char **out)
{
    char *buf = qcow2_alloc(r->bs, (size_t)length + 1);
    int ret = read_bytes(r, length, buf);

    if (ret == 0) {
        *out = qcow2_strdup(r->bs, buf, strlen(buf));
    }
    qcow2_free(r->bs, buf, (size_t)length + 1);
    return ret;
}

static void free_snapshot(BlockDriverState *bs, QCowSnapshot *sn)
{
    qcow2_free(bs, sn->id_str, sn->id_str ? strlen(sn->id_str) + 1 : 0);
    qcow2_free(bs, sn->name, sn->name ? strlen(sn->name) + 1 : 0);
    if (sn->unknown_extra_data) {
        qcow2_free(bs, sn->unknown_extra_data, sn->extra_data_size - EXTRA_BYTES);
    }
    *sn = (QCowSnapshot){0};
}

static void free_list(BlockDriverState *bs, QCowSnapshot *list, uint32_t nb)
{
    for (uint32_t i = 0; i < nb; i++) {
        free_snapshot(bs, &list[i]);
    }
    qcow2_free(bs, list, nb * sizeof(*list));
}

/* bytes that we know of, and what else there is; `dropped` more are skipped. */
static int read_extra(struct reader *r, QCowSnapshot *sn, uint32_t dropped)
{
    uint8_t known[EXTRA_BYTES] = {0};
    uint32_t size = sn->extra_data_size;
    uint32_t kept = size > EXTRA_BYTES ? size - EXTRA_BYTES : 0;

    int ret = read_bytes(r, MIN(size, EXTRA_BYTES), known);
    if (ret == 0 && kept > 0) {
        sn->unknown_extra_data = qcow2_alloc(r->bs, kept);
        ret = read_bytes(r, kept, sn->unknown_extra_data);
    }
    r->offset += dropped;
    if (r->offset > r->end) {
        r->end = r->offset; /* the window is behind */
    }
    if (size >= 8) {
        sn->vm_state_size = qcow2_get_be64(known);
    }
    sn->disk_size = size >= 16 ? (int64_t)qcow2_get_be64(known + 8) : r->bs->total_bytes;
    sn->icount = size >= 24 ? qcow2_get_be64(known + 16) : UINT64_MAX;
    return ret;
}

/* What is wrong with an entry but can be lived with. */
struct tolerance {
    BdrvCheckResult *res; /* NULL: nothing is tolerated */
    uint32_t fix;
    int64_t found;
};

static void tolerate(struct tolerance *t, const char *what, uint32_t entry)
{
    qcow2_check_say(t->res, "%s snapshot table entry %u %s", t->fix & BDRV_FIX_ERRORS ? "Repairing" : "ERROR",
                    entry, what);
    t->res->corruptions++;
    t->found++;
}

static int read_entry(struct reader *r, QCowSnapshot *sn, uint32_t index, struct tolerance *t, Error **errp)
{
    const BDRVQcow2State *s = r->bs->opaque;
    uint8_t head[ENTRY_BYTES];
    uint32_t dropped = 0;

    int ret = read_bytes(r, sizeof(head), head);
    if (ret < 0) {
        error_setg_errno(errp, ret, "Failed to read snapshot table");
        return ret;
    }
    sn->l1_table_offset = (int64_t)qcow2_get_be64(head);
    sn->l1_size = qcow2_get_be32(head + 8);
    sn->date_sec = qcow2_get_be32(head + 16);
    sn->date_nsec = qcow2_get_be32(head + 20);
    sn->vm_clock_nsec = qcow2_get_be64(head + 24);
    sn->vm_state_size = qcow2_get_be32(head + 32);
    sn->extra_data_size = qcow2_get_be32(head + 36);
    if (sn->extra_data_size > QCOW2_MAX_SNAPSHOT_EXTRA) {
        if (!t->res || !(t->fix & BDRV_FIX_ERRORS)) {
            error_setg(errp, "Too much extra metadata in snapshot table entry %u", index);
            sn->extra_data_size = 0;
            return -EINVAL;
        }
        dropped = sn->extra_data_size - QCOW2_MAX_SNAPSHOT_EXTRA;
        sn->extra_data_size = QCOW2_MAX_SNAPSHOT_EXTRA;
        tolerate(t, "has too much extra data", index);
    } else if (t->res && s->qcow_version >= 3 && sn->extra_data_size < EXTRA_NEEDED) {
        tolerate(t, "is incomplete", index);
    }
    ret = read_extra(r, sn, dropped);
    if (ret == 0) {
        ret = read_string(r, qcow2_get_be16(head + 12), &sn->id_str);
    }
    if (ret == 0) {
        ret = read_string(r, qcow2_get_be16(head + 14), &sn->name);
    }
    if (ret < 0) {
        error_setg_errno(errp, ret, "Failed to read snapshot table");
    }
    return ret;
}

/* Room for entries of the list as they come: the header may promise many where there are none. */
static void make_room(BlockDriverState *bs, QCowSnapshot **list, uint32_t *room, uint32_t nb)
{
    uint32_t more = *room ? *room * 2 : 4;
    QCowSnapshot *grown = qcow2_alloc(bs, more * sizeof(*grown));

    SIM_ASSERT_EQ(*room, nb);
    if (nb > 0) {
        memcpy(grown, *list, nb * sizeof(*grown));
    }
    qcow2_free(bs, *list, *room * sizeof(*grown));
    *list = grown;
    *room = more;
}

/* The list exactly as long as it must be, as others free it. */
static void trim(BlockDriverState *bs, QCowSnapshot **list, uint32_t room, uint32_t nb)
{
    QCowSnapshot *exact = qcow2_alloc(bs, nb * sizeof(*exact));

    if (nb > 0) {
        memcpy(exact, *list, nb * sizeof(*exact));
    }
    qcow2_free(bs, *list, room * sizeof(*exact));
    *list = exact;
}

struct table {
    QCowSnapshot *list;
    uint32_t nb;
    int64_t bytes;
};

static int read_table(BlockDriverState *bs, uint32_t nb, struct table *table, struct tolerance *t, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    struct reader r = {.bs = bs, .offset = s->snapshots_offset, .window = qcow2_alloc(bs, WINDOW_BYTES)};
    uint32_t room = 0;
    int ret = 0;

    *table = (struct table){0};
    while (ret == 0 && table->nb < nb) {
        if (table->nb == room) {
            make_room(bs, &table->list, &room, table->nb);
        }
        r.offset = (r.offset + 7) & ~(int64_t)7;
        ret = read_entry(&r, &table->list[table->nb], table->nb, t, errp);
        table->nb++;
        int64_t bytes = r.offset - s->snapshots_offset;
        if (ret == 0 && bytes > QCOW2_MAX_SNAPSHOT_TABLE_BYTES) {
            if (t->res && (t->fix & BDRV_FIX_ERRORS)) {
                free_snapshot(bs, &table->list[--table->nb]);
                qcow2_check_say(t->res, "Repairing: %u snapshots beyond the table's largest size are discarded",
                                nb - table->nb);
                t->res->corruptions++;
                t->found++;
                break;
            }
            error_setg(errp, "Snapshot table is too big");
            ret = -EFBIG;
        }
        table->bytes = bytes;
    }
    qcow2_free(bs, r.window, WINDOW_BYTES);
    trim(bs, &table->list, room, table->nb);
    if (ret < 0) {
        free_list(bs, table->list, table->nb);
        *table = (struct table){0};
    }
    return ret;
}

static void take_table(BDRVQcow2State *s, const struct table *table)
{
    s->snapshots = table->list;
    s->nb_snapshots = table->nb;
    s->snapshots_size = table->bytes;
}

int qcow2_read_snapshots(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    struct tolerance none = {0};
    struct table table;

    SIM_ASSERT(s->snapshots == NULL);
    if (s->nb_snapshots == 0) {
        s->snapshots_size = 0;
        return 0;
    }
    int ret = read_table(bs, s->nb_snapshots, &table, &none, errp);
    if (ret == 0) {
        take_table(s, &table);
    } else if (bs->open_flags & BDRV_O_CHECK) {
        /* Whoever wants to check will hear of it then. */
        error_free(errp ? *errp : NULL);
        if (errp) {
            *errp = NULL;
        }
        s->nb_snapshots = 0;
        s->snapshots_size = 0;
        ret = 0;
    }
    return ret;
}

void qcow2_free_snapshots(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    /* The header alone may have been read so far. */
    if (s->snapshots) {
        free_list(bs, s->snapshots, s->nb_snapshots);
    }
    s->snapshots = NULL;
    s->nb_snapshots = 0;
}

/* What the header says now; the number in memory may be that of a table to be, or of none that could be read. */
static uint32_t header_nb(BlockDriverState *bs, int *ret)
{
    uint8_t field[4];

    *ret = qcow2_pread(bs, HEADER_NB_SNAPSHOTS, sizeof(field), field);
    return *ret < 0 ? 0 : qcow2_get_be32(field);
}

int qcow2_check_read_snapshots(BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix, int64_t *found)
{
    BDRVQcow2State *s = bs->opaque;
    struct tolerance t = {.res = res, .fix = fix};
    struct table table;
    Error *err = NULL;
    int ret;
    uint32_t nb = header_nb(bs, &ret);

    *found = 0;
    if (ret == 0 && nb == 0) {
        return 0;
    }
    if (ret == 0) {
        ret = read_table(bs, nb, &table, &t, &err);
    } else {
        error_setg_errno(&err, ret, "Failed to read the header");
    }
    if (ret < 0) {
        qcow2_check_say(res, "ERROR: %s", error_get_pretty(err));
        res->check_errors++;
        error_free(err);
        return ret;
    }
    qcow2_free_snapshots(bs);
    take_table(s, &table);
    *found = t.found;
    return 0;
}

int qcow2_find_snapshot(const BDRVQcow2State *s, const char *id, const char *name)
{
    for (uint32_t i = 0; (id || name) && i < s->nb_snapshots; i++) {
        if ((!id || str_is(s->snapshots[i].id_str, id)) && (!name || str_is(s->snapshots[i].name, name))) {
            return (int)i;
        }
    }
    return -1;
}

/* --- writing ------------------------------------------------------------------------------------------------ */

static uint32_t written_extra(const QCowSnapshot *sn)
{
    return MAX(sn->extra_data_size, EXTRA_BYTES);
}

/* Bytes of an entry, without what aligns the next one. Strings that came from a table fit their fields. */
static int64_t entry_bytes(const QCowSnapshot *sn)
{
    return (int64_t)(ENTRY_BYTES + written_extra(sn) + strlen(sn->id_str) + strlen(sn->name));
}

static int64_t table_bytes(const BDRVQcow2State *s)
{
    int64_t bytes = 0;

    for (uint32_t i = 0; i < s->nb_snapshots; i++) {
        bytes = ((bytes + 7) & ~(int64_t)7) + entry_bytes(&s->snapshots[i]);
    }
    return bytes;
}

static void put_entry(const QCowSnapshot *sn, uint8_t *at)
{
    uint32_t extra = written_extra(sn);
    size_t id = strlen(sn->id_str), name = strlen(sn->name);

    qcow2_put_be64(at, (uint64_t)sn->l1_table_offset);
    qcow2_put_be32(at + 8, sn->l1_size);
    qcow2_put_be16(at + 12, id);
    qcow2_put_be16(at + 14, name);
    qcow2_put_be32(at + 16, sn->date_sec);
    qcow2_put_be32(at + 20, sn->date_nsec);
    qcow2_put_be64(at + 24, sn->vm_clock_nsec);
    qcow2_put_be32(at + 32, sn->vm_state_size <= UINT32_MAX ? (uint32_t)sn->vm_state_size : 0);
    qcow2_put_be32(at + 36, extra);
    qcow2_put_be64(at + 40, sn->vm_state_size);
    qcow2_put_be64(at + 48, (uint64_t)sn->disk_size);
    qcow2_put_be64(at + 56, sn->icount);
    if (sn->unknown_extra_data) {
        memcpy(at + ENTRY_BYTES + EXTRA_BYTES, sn->unknown_extra_data, sn->extra_data_size - EXTRA_BYTES);
    }
    memcpy(at + ENTRY_BYTES + extra, sn->id_str, id);
    memcpy(at + ENTRY_BYTES + extra + id, sn->name, name);
}

static int write_table(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    const BDRVQcow2State *s = bs->opaque;
    uint8_t *table = qcow2_alloc(bs, (size_t)bytes);
    int64_t at = 0;

    for (uint32_t i = 0; i < s->nb_snapshots; i++) {
        at = (at + 7) & ~(int64_t)7;
        put_entry(&s->snapshots[i], table + at);
        at += entry_bytes(&s->snapshots[i]);
    }
    SIM_ASSERT_EQ(at, bytes);
    int ret = qcow2_pre_write_overlap_check(bs, 0, offset, bytes, false);
    if (ret == 0) {
        ret = qcow2_pwrite_sync(bs, offset, bytes, table);
    }
    qcow2_free(bs, table, (size_t)bytes);
    return ret;
}

static int write_header(BlockDriverState *bs, uint32_t nb, int64_t offset)
{
    uint8_t field[12];

    qcow2_put_be32(field, nb);
    qcow2_put_be64(field + 4, (uint64_t)offset);
    return qcow2_pwrite_sync(bs, HEADER_NB_SNAPSHOTS, sizeof(field), field);
}

/* The header may or may not have been switched. Only if it certainly is as it was may the new table go. */
static void undo_header(BlockDriverState *bs, uint32_t nb, int64_t offset, int64_t new_offset, int64_t new_bytes)
{
    BDRVQcow2State *s = bs->opaque;

    if (write_header(bs, nb, offset) < 0) {
        SIM_MARK(bs->host->sim, qcow2_snapshot_table_in_doubt);
        s->needs_repair = true;
    } else if (new_bytes > 0) {
        qcow2_free_clusters(bs, new_offset, new_bytes, QCOW2_DISCARD_OTHER);
    }
}

int qcow2_write_snapshots(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t bytes = table_bytes(s), offset = 0;
    int64_t old_offset = s->snapshots_offset, old_bytes = s->snapshots_size;
    int ret = 0;

    if (bytes > QCOW2_MAX_SNAPSHOT_TABLE_BYTES || s->nb_snapshots > QCOW2_MAX_SNAPSHOTS) {
        return -EFBIG;
    }
    uint32_t old_nb = header_nb(bs, &ret);
    if (ret == 0 && bytes > 0) {
        offset = qcow2_alloc_clusters(bs, bytes);
        ret = (int)MIN(offset, 0);
    }
    if (ret < 0) {
        return ret;
    }
    /* The counts that the table relies on are in the caches, so flushing the file would not do. */
    ret = qcow2_cache_flush(bs, s->refcount_block_cache);
    if (ret == 0) {
        ret = qcow2_cache_flush(bs, s->l2_table_cache);
    }
    if (ret == 0 && bytes > 0) {
        ret = write_table(bs, offset, bytes);
    }
    if (ret < 0) {
        if (bytes > 0) {
            qcow2_free_new_clusters(bs, offset, bytes);
        }
        return ret;
    }
    ret = write_header(bs, s->nb_snapshots, offset);
    if (ret < 0) {
        undo_header(bs, old_nb, old_offset, offset, bytes);
        return ret;
    }
    s->snapshots_offset = offset;
    s->snapshots_size = bytes;
    if (old_bytes > 0) {
        qcow2_free_clusters(bs, old_offset, old_bytes, QCOW2_DISCARD_SNAPSHOT);
    }
    return 0;
}

int qcow2_check_write_snapshots(BlockDriverState *bs, BdrvCheckResult *res, int64_t found)
{
    int ret = qcow2_write_snapshots(bs);

    if (ret == 0) {
        ret = qcow2_repair_settle(bs);
    }
    if (ret < 0) {
        qcow2_check_say(res, "ERROR: the snapshot table could not be written: %s", sim_errno_text(ret));
        res->check_errors++;
        return ret;
    }
    res->corruptions -= found;
    res->corruptions_fixed += found;
    return 0;
}
