/*
 * What the tables of the guest's disk and of snapshots refer to (reference/bitmaps-qcow2.md 5.2, 5.8).
 *
 * An entry means the same from wherever its table is named, so a table is read once, and what it says counts as
 * often as it is named: twice for a table that the active L1 shares with a snapshot. Snapshots' L1 tables may even
 * overlap in a hostile image; each of their entries counts as often as it is covered.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2_check_int.h"

#define ODD_ROOM (64 * MiB)

/* An L2 table under way. */
struct l2_walk {
    struct qcow2_check *c;
    int64_t offset;
    uint64_t active; /* times named */
    uint64_t inactive;
    int64_t zeroed; /* entries that were mended and are not written yet */
    int64_t next;   /* where the next data cluster would lie if nothing were fragmented; 0: nothing yet */
};

static void corrupt(struct qcow2_check *c, uint64_t times, const char *what, uint64_t entry)
{
    qcow2_check_say(c->res, "ERROR: %s (entry 0x%llx)", what, (unsigned long long)entry);
    c->res->corruptions += (int64_t)times;
}

/* --- L2 ----------------------------------------------------------------------------------------------------- */

static void check_compressed(struct l2_walk *w, uint64_t entry, uint64_t bitmap)
{
    struct qcow2_check *c = w->c;
    BdrvCheckResult *res = c->res;
    uint64_t times = w->active + w->inactive;
    int64_t offset, bytes;

    if (entry & QCOW_OFLAG_COPIED) {
        corrupt(c, times, "the copied flag must never be set for compressed clusters", entry);
        entry &= ~QCOW_OFLAG_COPIED;
    }
    if (has_data_file(c->bs)) {
        corrupt(c, times, "compressed cluster in an image with a data file", entry);
        return;
    }
    if (bitmap != 0) {
        corrupt(c, times, "compressed cluster with a subcluster bitmap that is not zero", entry);
        return;
    }
    qcow2_parse_compressed_l2_entry(c->bs, entry, &offset, &bytes);
    int64_t start = offset & ~(int64_t)(SIM_SECTOR_BYTES - 1);
    qcow2_counts_add_times(c->bs, &c->counts, res, start, bytes + offset - start, times);
    res->allocated_clusters += (int64_t)w->active;
    res->compressed_clusters += (int64_t)w->active;
    res->fragmented_clusters += (int64_t)w->active;
}

/* The cluster was only reserved, so the entry can do without it. */
static void zero_entry(struct l2_walk *w, unsigned index)
{
    const BDRVQcow2State *s = w->c->bs->opaque;

    set_l2_entry(s, w->c->table, index, has_subclusters(s) ? 0 : QCOW_OFLAG_ZERO);
    if (has_subclusters(s)) {
        set_l2_bitmap(s, w->c->table, index, 0xffffffffULL << 32);
    }
    w->zeroed++;
}

/* True: the entry has been changed and refers to nothing any more. */
static bool check_unaligned(struct l2_walk *w, unsigned index, uint64_t entry, uint64_t bitmap)
{
    struct qcow2_check *c = w->c;
    bool data = has_subclusters(c->bs->opaque) ? (bitmap & 0xffffffffU) != 0 : !(entry & QCOW_OFLAG_ZERO);
    bool mendable = !data && offset_into_cluster(c->bs->opaque, w->offset) == 0;

    if (mendable && (c->fix & BDRV_FIX_ERRORS)) {
        qcow2_check_say(c->res, "Repairing: preallocated cluster is not aligned (entry 0x%llx)",
                        (unsigned long long)entry);
        zero_entry(w, index);
        return true;
    }
    c->mendable += mendable ? (int64_t)(w->active + w->inactive) : 0;
    corrupt(c, w->active + w->inactive,
            data ? "data cluster is not aligned" : "preallocated cluster is not aligned", entry);
    return false;
}

static void check_cluster(struct l2_walk *w, unsigned index, uint64_t entry, uint64_t bitmap)
{
    struct qcow2_check *c = w->c;
    const BDRVQcow2State *s = c->bs->opaque;
    int64_t offset = (int64_t)(entry & L2E_OFFSET_MASK);

    if ((bitmap >> 32) & bitmap & 0xffffffffU) {
        corrupt(c, w->active + w->inactive, "subclusters that hold data and read as zeros at once", entry);
    }
    c->res->allocated_clusters += (int64_t)w->active;
    if (w->next != 0 && offset != w->next) {
        c->res->fragmented_clusters += (int64_t)w->active;
    }
    w->next = offset + s->cluster_size;
    if (offset_into_cluster(s, offset) && check_unaligned(w, index, entry, bitmap)) {
        return;
    }
    if (!has_data_file(c->bs)) {
        qcow2_counts_add_times(c->bs, &c->counts, c->res, offset, s->cluster_size, w->active + w->inactive);
    }
}

static void check_l2_entry(struct l2_walk *w, unsigned index, uint64_t entry, uint64_t bitmap)
{
    struct qcow2_check *c = w->c;
    QCow2ClusterType type = qcow2_get_cluster_type(c->bs, entry);

    if (type != QCOW2_CLUSTER_COMPRESSED && (entry & L2E_STD_RESERVED_MASK)) {
        corrupt(c, w->active + w->inactive, "L2 entry with reserved bits set", entry);
    }
    switch (type) {
    case QCOW2_CLUSTER_COMPRESSED:
        check_compressed(w, entry, bitmap);
        break;
    case QCOW2_CLUSTER_NORMAL:
    case QCOW2_CLUSTER_ZERO_ALLOC:
        check_cluster(w, index, entry, bitmap);
        break;
    case QCOW2_CLUSTER_UNALLOCATED:
        if (bitmap & 0xffffffffU) {
            corrupt(c, w->active + w->inactive, "unallocated cluster with allocated subclusters", entry);
        }
        break;
    case QCOW2_CLUSTER_ZERO_PLAIN:
        break;
    }
}

/* As much of a table as lies in the file, which is all that is not zero. Bytes, or -errno. */
static int64_t read_table(struct qcow2_check *c, int64_t offset, int64_t bytes)
{
    int64_t inside = MIN(bytes, c->counts.file_bytes - offset);

    if (inside <= 0) {
        return 0;
    }
    int ret = qcow2_pread(c->bs, offset, inside, c->table);
    if (ret < 0) {
        qcow2_check_say(c->res, "ERROR: table at 0x%llx cannot be read: %s", (unsigned long long)offset,
                        sim_errno_text(ret));
        c->res->check_errors++;
        return ret;
    }
    /* an entry cut in two by the end of the file */
    int64_t padded = MIN(bytes, (inside + 15) & ~(int64_t)15);
    memset(c->table + inside, 0, (size_t)(padded - inside));
    return padded;
}

/* Aligned tables lie beside each other and are read once. Others may begin at each sector of the file and overlap
 * thousands of times: whoever made so many wants the check to take hours. */
static bool may_read(struct qcow2_check *c, int64_t offset)
{
    const BDRVQcow2State *s = c->bs->opaque;

    if (offset_into_cluster(s, offset) == 0) {
        return true;
    }
    bool before = c->odd_room >= 0;
    c->odd_room = before ? c->odd_room - s->cluster_size : -1;
    if (before && c->odd_room < 0) {
        qcow2_check_say(c->res, "ERROR: too many L2 tables are not cluster aligned: 0x%llx and others are not read",
                        (unsigned long long)offset);
        c->res->check_errors++;
    }
    return c->odd_room >= 0;
}

static int write_l2(struct qcow2_check *c, int64_t offset)
{
    const BDRVQcow2State *s = c->bs->opaque;
    int ret = qcow2_pre_write_overlap_check(c->bs, QCOW2_OL_ACTIVE_L2 | QCOW2_OL_INACTIVE_L2, offset,
                                            s->cluster_size, false);

    if (ret == 0) {
        ret = qcow2_pwrite(c->bs, offset, s->cluster_size, c->table);
    }
    c->res->check_errors += ret < 0;
    return ret;
}

/* All entries of a table at once: looking for what a write would overlap with takes long. */
static void write_zeroed(struct l2_walk *w, int64_t bytes)
{
    struct qcow2_check *c = w->c;
    const BDRVQcow2State *s = c->bs->opaque;

    memset(c->table + bytes, 0, (size_t)(s->cluster_size - bytes));
    int ret = write_l2(c, w->offset);
    if (ret == 0) {
        ret = bdrv_co_flush(c->bs->file->bs);
        c->res->check_errors += ret < 0;
    }
    *(ret < 0 ? &c->res->corruptions : &c->res->corruptions_fixed) += w->zeroed;
}

static int check_l2_table(struct qcow2_check *c, int64_t offset, uint64_t active, uint64_t inactive)
{
    const BDRVQcow2State *s = c->bs->opaque;
    struct l2_walk w = {.c = c, .offset = offset, .active = active, .inactive = inactive};

    if (!may_read(c, offset)) {
        return 0;
    }
    int64_t bytes = read_table(c, offset, s->cluster_size);

    for (unsigned i = 0; bytes > 0 && i < bytes / s->l2_entry_size; i++) {
        uint64_t entry = get_l2_entry(s, c->table, i);
        uint64_t bitmap = get_l2_bitmap(s, c->table, i);
        if (entry != 0 || bitmap != 0) {
            check_l2_entry(&w, i, entry, bitmap);
        }
    }
    if (w.zeroed > 0) {
        write_zeroed(&w, bytes);
    }
    return (int)MIN(bytes, 0);
}

/* All that were found, each once: those of the active L1 may be named by snapshots too. */
static int check_l2_tables(struct qcow2_check *c)
{
    struct qcow2_sparse all;
    int ret = 0;

    qcow2_sparse_init(&all, c->bs);
    for (unsigned which = 0; which < 2; which++) {
        struct qcow2_sparse *part = which == 0 ? &c->active_l2 : &c->inactive_l2;
        struct qcow2_leaf **leaves = qcow2_sparse_sorted(part);
        for (size_t n = 0; n < part->nb_leaves; n++) {
            for (unsigned i = 0; i < QCOW2_LEAF_ITEMS; i++) {
                if (leaves[n]->value[i]) {
                    qcow2_sparse_add(&all, leaves[n]->first + i, 1);
                }
            }
        }
        qcow2_sparse_sorted_free(part, leaves, part->nb_leaves);
    }
    struct qcow2_leaf **leaves = qcow2_sparse_sorted(&all);
    for (size_t n = 0; ret == 0 && n < all.nb_leaves; n++) {
        for (unsigned i = 0; ret == 0 && i < QCOW2_LEAF_ITEMS; i++) {
            uint64_t number = leaves[n]->first + i;
            if (leaves[n]->value[i]) {
                ret =
                    check_l2_table(c, (int64_t)(number * SIM_SECTOR_BYTES), qcow2_sparse_get(&c->active_l2, number),
                                   qcow2_sparse_get(&c->inactive_l2, number));
            }
        }
    }
    qcow2_sparse_sorted_free(&all, leaves, all.nb_leaves);
    qcow2_sparse_free(&all);
    return ret;
}

/* --- L1 ----------------------------------------------------------------------------------------------------- */

static void check_l1_entry(struct qcow2_check *c, uint64_t entry, uint64_t times, struct qcow2_sparse *tables)
{
    const BDRVQcow2State *s = c->bs->opaque;
    int64_t offset = (int64_t)(entry & L1E_OFFSET_MASK);

    if (entry == 0) {
        return;
    }
    if (entry & L1E_RESERVED_MASK) {
        corrupt(c, times, "L1 entry with reserved bits set", entry);
    }
    qcow2_counts_add_times(c->bs, &c->counts, c->res, offset, s->cluster_size, times);
    if (offset_into_cluster(s, offset)) {
        corrupt(c, times, "L2 table is not cluster aligned", entry);
    }
    qcow2_sparse_add(tables, (uint64_t)offset / SIM_SECTOR_BYTES, times);
}

/* Snapshots' L1 tables as stretches of the file: where they begin and where they end, each in order. */
struct stretches {
    int64_t *starts;
    int64_t *ends;
    size_t n;
};

static int by_offset(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return left < right ? -1 : left > right;
}

static int read_l1_stretch(struct qcow2_check *c, int64_t start, int64_t end, uint64_t times)
{
    const BDRVQcow2State *s = c->bs->opaque;

    SIM_ASSERT_EQ((end - start) % 8, 0);
    while (start < end) {
        int64_t bytes = read_table(c, start, MIN(end - start, s->cluster_size));
        if (bytes <= 0) {
            return (int)bytes;
        }
        for (int64_t at = 0; at + 8 <= bytes; at += 8) {
            check_l1_entry(c, qcow2_get_be64(c->table + at), times, &c->inactive_l2);
        }
        start += bytes;
    }
    return 0;
}

/* From each offset where something begins or ends to the next one, as often as it is covered. */
static int sweep(struct qcow2_check *c, const struct stretches *l1)
{
    size_t begun = 0, ended = 0;
    int ret = 0;

    while (ret == 0 && ended < l1->n) {
        int64_t at = begun < l1->n ? MIN(l1->starts[begun], l1->ends[ended]) : l1->ends[ended];
        while (begun < l1->n && l1->starts[begun] == at) {
            begun++;
        }
        while (ended < l1->n && l1->ends[ended] == at) {
            ended++;
        }
        SIM_ASSERT_LE(ended, begun);
        if (begun > ended) {
            int64_t next = begun < l1->n ? MIN(l1->starts[begun], l1->ends[ended]) : l1->ends[ended];
            ret = read_l1_stretch(c, at, next, begun - ended);
        }
    }
    return ret;
}

static void add_snapshot(struct qcow2_check *c, const QCowSnapshot *sn, struct stretches *l1)
{
    const BDRVQcow2State *s = c->bs->opaque;
    const char *what = NULL;

    if (offset_into_cluster(s, sn->l1_table_offset)) {
        what = "is not cluster aligned";
    } else if (sn->l1_size > QCOW2_MAX_L1_BYTES / 8) {
        what = "is too large";
    }
    if (what) {
        qcow2_check_say(c->res, "ERROR: L1 table of snapshot %.80s (%.80s) %s: offset 0x%llx size 0x%x", sn->id_str,
                        sn->name, what, (unsigned long long)sn->l1_table_offset, sn->l1_size);
        c->res->corruptions++;
        return;
    }
    int64_t bytes = (int64_t)sn->l1_size * 8;
    if (bytes == 0) {
        return;
    }
    qcow2_counts_add_times(c->bs, &c->counts, c->res, sn->l1_table_offset, bytes, 1);
    int64_t end = (c->counts.file_bytes + 7) & ~(int64_t)7;
    if (sn->l1_table_offset >= 0 && sn->l1_table_offset < end) {
        l1->starts[l1->n] = sn->l1_table_offset;
        l1->ends[l1->n++] = MIN(sn->l1_table_offset + bytes, end);
    }
}

static int check_snapshots(struct qcow2_check *c)
{
    const BDRVQcow2State *s = c->bs->opaque;
    size_t bytes = s->nb_snapshots * sizeof(int64_t);
    struct stretches l1 = {.starts = qcow2_alloc(c->bs, bytes), .ends = qcow2_alloc(c->bs, bytes)};

    for (uint32_t i = 0; i < s->nb_snapshots; i++) {
        add_snapshot(c, &s->snapshots[i], &l1);
    }
    if (l1.n > 0) {
        qsort(l1.starts, l1.n, sizeof(*l1.starts), by_offset);
        qsort(l1.ends, l1.n, sizeof(*l1.ends), by_offset);
    }
    int ret = sweep(c, &l1);
    qcow2_free(c->bs, l1.starts, bytes);
    qcow2_free(c->bs, l1.ends, bytes);
    return ret;
}

int qcow2_check_tables(struct qcow2_check *c)
{
    const BDRVQcow2State *s = c->bs->opaque;

    c->odd_room = c->counts.file_bytes + ODD_ROOM;

    if (has_data_file(c->bs) && s->nb_snapshots > 0) {
        qcow2_check_say(c->res, "ERROR: %u snapshots in an image with a data file", s->nb_snapshots);
        c->res->corruptions++;
    }
    qcow2_counts_add_times(c->bs, &c->counts, c->res, s->l1_table_offset, (int64_t)s->l1_size * 8, 1);
    for (uint32_t i = 0; i < s->l1_size; i++) {
        check_l1_entry(c, s->l1_table[i], 1, &c->active_l2);
    }
    int ret = check_snapshots(c);
    return ret < 0 ? ret : check_l2_tables(c);
}

/* --- COPIED ------------------------------------------------------------------------------------------------- */

/* Whether the flag agrees with the count of what it is about; a count that cannot be had was told before. */
static bool copied_is_right(struct qcow2_check *c, uint64_t entry, uint64_t offset_mask, bool counted)
{
    const BDRVQcow2State *s = c->bs->opaque;
    uint64_t count = 1;

    if (counted && qcow2_check_stored(c, (entry & offset_mask) >> s->cluster_bits, &count) < 0) {
        return true;
    }
    return (count == 1) == ((entry & QCOW_OFLAG_COPIED) != 0);
}

static void copied_finding(struct qcow2_check *c, bool repaired, const char *what, uint64_t entry, uint64_t times)
{
    qcow2_check_say(c->res, "%s: the copied flag of %s contradicts its refcount (entry 0x%llx)",
                    repaired ? "Repairing" : "ERROR", what, (unsigned long long)entry);
    *(repaired ? &c->res->corruptions_fixed : &c->res->corruptions) += (int64_t)times;
}

static int copied_l2(struct qcow2_check *c, int64_t offset, uint64_t times, bool repair)
{
    const BDRVQcow2State *s = c->bs->opaque;
    bool changed = false;

    repair = repair && offset_into_cluster(s, offset) == 0;
    int64_t bytes = read_table(c, offset, s->cluster_size);

    for (unsigned i = 0; bytes > 0 && i < bytes / s->l2_entry_size; i++) {
        uint64_t entry = get_l2_entry(s, c->table, i);
        QCow2ClusterType type = entry ? qcow2_get_cluster_type(c->bs, entry) : QCOW2_CLUSTER_UNALLOCATED;
        if ((type != QCOW2_CLUSTER_NORMAL && type != QCOW2_CLUSTER_ZERO_ALLOC) ||
            copied_is_right(c, entry, L2E_OFFSET_MASK, !has_data_file(c->bs))) {
            continue;
        }
        copied_finding(c, repair, "a data cluster", entry, times);
        set_l2_entry(s, c->table, i, entry ^ QCOW_OFLAG_COPIED);
        changed = true;
    }
    if (bytes < 0 || !repair || !changed) {
        return (int)MIN(bytes, 0);
    }
    memset(c->table + bytes, 0, (size_t)(s->cluster_size - bytes));
    return write_l2(c, offset);
}

static int copied_l1(struct qcow2_check *c, bool repair)
{
    BDRVQcow2State *s = c->bs->opaque;
    int ret = 0;

    for (uint32_t i = 0; ret == 0 && i < s->l1_size; i++) {
        if ((s->l1_table[i] & L1E_OFFSET_MASK) == 0 || copied_is_right(c, s->l1_table[i], L1E_OFFSET_MASK, true)) {
            continue;
        }
        copied_finding(c, repair, "an L2 table", s->l1_table[i], 1);
        if (repair) {
            qcow2_set_l1_entry(c->bs, i, s->l1_table[i] ^ QCOW_OFLAG_COPIED);
            ret = qcow2_write_l1_entry(c->bs, i);
            c->res->check_errors += ret < 0;
        }
    }
    return ret;
}

int qcow2_check_copied(struct qcow2_check *c)
{
    /* Without leave to mend errors only if there are none that the counts, and so the flags, could be wrong by. */
    bool repair =
        (c->fix & BDRV_FIX_ERRORS) || (c->fix && !c->res->corruptions && !c->res->check_errors && !c->res->leaks);
    struct qcow2_leaf **leaves = qcow2_sparse_sorted(&c->active_l2);

    c->block_valid = false;
    c->odd_room = c->odd_room < 0 ? -1 : c->counts.file_bytes + ODD_ROOM;
    int ret = copied_l1(c, repair);
    for (size_t n = 0; ret == 0 && n < c->active_l2.nb_leaves; n++) {
        for (unsigned i = 0; ret == 0 && i < QCOW2_LEAF_ITEMS; i++) {
            /* offset 0 is no table, whatever else its L1 entry says */
            int64_t offset = (int64_t)((leaves[n]->first + i) * SIM_SECTOR_BYTES);
            if (leaves[n]->value[i] && offset > 0 && may_read(c, offset)) {
                ret = copied_l2(c, offset, leaves[n]->value[i], repair);
            }
        }
    }
    qcow2_sparse_sorted_free(&c->active_l2, leaves, c->active_l2.nb_leaves);
    return ret < 0 || !repair ? ret : bdrv_co_flush(c->bs->file->bs);
}
