/* Protects the last line of defence of a qcow2 image: a write that would hit metadata is refused, said to all, and
 * the image is not written any more. */
#include "tests/block/qcow2_meta.h"

#define IMAGE(...) \
    { \
        .cluster_bits = 12, .refcount_order = 4, .size = 4 * MiB, .as_it_is = true, ##__VA_ARGS__ \
    }

/* --- what is said ------------------------------------------------------------------------------------------------
 */

static struct {
    unsigned count;
    char device[256], node[256], text[256];
    int64_t offset, bytes;
    bool fatal;
} said;

static void hear(void *opaque, const struct sim_record *r)
{
    said.count++;
    snprintf(said.device, sizeof(said.device), "%s", sim_record_str(r, 0));
    snprintf(said.node, sizeof(said.node), "%s", sim_record_name(r, 1)->str);
    snprintf(said.text, sizeof(said.text), "%s", sim_record_str(r, 2));
    said.offset = (int64_t)r->field[3];
    said.bytes = (int64_t)r->field[4];
    said.fatal = r->field[5] != 0;
}

static void listen(struct q2 *q)
{
    memset(&said, 0, sizeof(said));
    sim_subscribe(q->w->sim, EV_BLOCK_IMAGE_CORRUPTED, hear, NULL);
}

static bool corrupt_on_medium(struct q2 *q)
{
    return q2_peek_int(q, 72, 8) & QCOW2_INCOMPAT_CORRUPT;
}

/* --- each structure
 * ------------------------------------------------------------------------------------------------ */

#define L2_AT (100 << 12)
#define SNAPSHOTS_AT (110 << 12)
#define SNAPSHOT_L1_AT (120 << 12)
#define SNAPSHOT_L2_AT (130 << 12)
#define BITMAPS_AT (140 << 12)

static QCowSnapshot snapshot = {.l1_table_offset = SNAPSHOT_L1_AT, .l1_size = 600};

/* One of each, in memory; the snapshot's L1 table on the medium. */
static void set_up(struct q2 *q)
{
    BDRVQcow2State *s = q->s;

    qcow2_set_l1_entry(q->bs, 1, L2_AT | QCOW_OFLAG_COPIED);
    s->snapshots_offset = SNAPSHOTS_AT;
    s->snapshots_size = 100;
    s->snapshots = &snapshot;
    s->nb_snapshots = 1;
    s->autoclear_features = QCOW2_AUTOCLEAR_BITMAPS;
    s->nb_bitmaps = 1;
    s->bitmap_directory_offset = BITMAPS_AT;
    s->bitmap_directory_size = 100;
    uint8_t entry[8];
    qcow2_put_be64(entry, SNAPSHOT_L2_AT | QCOW_OFLAG_COPIED);
    assert_int_equal(qcow2_pwrite(q->bs, SNAPSHOT_L1_AT + 599 * 8, 8, entry), 0);
}

static void take_down(struct q2 *q)
{
    BDRVQcow2State *s = q->s;

    qcow2_set_l1_entry(q->bs, 1, 0);
    s->snapshots_offset = s->snapshots_size = 0;
    s->snapshots = NULL;
    s->nb_snapshots = s->nb_bitmaps = 0;
    s->autoclear_features = 0;
}

struct place {
    unsigned bit;
    int64_t offset;
    int64_t bytes; /* of the structure */
    const char *name;
};

static const struct place places[] = {
    {QCOW2_OL_MAIN_HEADER, 0, 4096, "qcow2_header"},
    {QCOW2_OL_REFCOUNT_TABLE, 1 << 12, 4096, "refcount table"},
    {QCOW2_OL_REFCOUNT_BLOCK, 2 << 12, 4096, "refcount block"},
    {QCOW2_OL_ACTIVE_L1, 3 << 12, 16, "active L1 table"},
    {QCOW2_OL_ACTIVE_L2, L2_AT, 4096, "active L2 table"},
    {QCOW2_OL_SNAPSHOT_TABLE, SNAPSHOTS_AT, 100, "snapshot table"},
    {QCOW2_OL_INACTIVE_L1, SNAPSHOT_L1_AT, 600 * 8, "inactive L1 table"},
    {QCOW2_OL_INACTIVE_L2, SNAPSHOT_L2_AT, 4096, "inactive L2 table"},
    {QCOW2_OL_BITMAP_DIRECTORY, BITMAPS_AT, 100, "bitmap directory"},
};

static const struct place *current;

static void hit_q2(struct q2 *q)
{
    char text[100];
    int64_t end = ROUND_UP(current->offset + current->bytes, (int64_t)4096);

    set_up(q);
    listen(q);
    q->s->overlap_check = QCOW2_OL_ALL; /* they lie side by side: what one ignores is not another's */
    assert_int_equal(qcow2_pre_write_overlap_check(q->bs, current->bit, current->offset, 512, true), 0);
    q->s->overlap_check = current->bit;
    assert_int_equal(qcow2_pre_write_overlap_check(q->bs, 0, end, 4096, true), 0);
    if (current->offset > 0) {
        assert_int_equal(qcow2_pre_write_overlap_check(q->bs, 0, current->offset - 4096, 4096, true), 0);
    }
    said.count = 0;
    /* The last byte of its last cluster is enough. */
    assert_int_equal(qcow2_pre_write_overlap_check(q->bs, 0, end - 1, 1, true), -EIO);
    snprintf(text, sizeof(text), "Preventing invalid write on metadata (overlaps with %s)", current->name);
    assert_int_equal(said.count, 1);
    assert_string_equal(said.text, text);
    assert_int_equal(said.offset, end - 1);
    assert_int_equal(said.bytes, 1);
    assert_string_equal(said.node, "q");
    assert_string_equal(said.device, "");
    assert_true(said.fatal);
    assert_true(corrupt_on_medium(q));
    assert_false(qcow2_usable(q->bs));
    take_down(q);
}

static void hit_body(struct world *w)
{
    q2_run(w, (struct q2_spec)IMAGE(), hit_q2);
}

/* fact: qcow2 5.8/overlap */
static void each_structure(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        current = &places[i];
        world_run(hit_body);
    }
}

/* fact: qcow2 5.8/overlap */
Q2_TEST(inactive_l2_is_not_in_the_default, IMAGE())
{
    set_up(q);
    assert_int_equal(q->s->overlap_check, QCOW2_OL_CACHED);
    assert_int_equal(qcow2_pre_write_overlap_check(q->bs, 0, SNAPSHOT_L2_AT, 512, true), 0);
    assert_int_equal(qcow2_pre_write_overlap_check(q->bs, 0, SNAPSHOT_L1_AT, 512, true), -EIO);
    take_down(q);
}

Q2_TEST(unreadable_table_is_an_error, IMAGE())
{
    set_up(q);
    q->s->overlap_check = QCOW2_OL_ALL;
    q->log.fail = "read-new";
    q->log.fail_nth = 1;
    assert_int_equal(qcow2_pre_write_overlap_check(q->bs, 0, 200 << 12, 512, true), -EIO);
    assert_true(qcow2_usable(q->bs));
    take_down(q);
}

Q2_TEST(senseless_ranges, IMAGE())
{
    assert_int_equal(qcow2_pre_write_overlap_check(q->bs, 0, -1, 512, true), -EIO);
    assert_int_equal(qcow2_pre_write_overlap_check(q->bs, 0, INT64_MAX - 10, 512, true), -EIO);
    assert_int_equal(qcow2_pre_write_overlap_check(q->bs, 0, 0, 0, true), 0);
}

/* Hostile offsets of blocks and tables: nothing overflows. */
Q2_TEST(hostile_tables, IMAGE())
{
    q->s->refcount_table[5] = UINT64_MAX;
    q->s->max_refcount_table_index = UINT32_MAX;
    qcow2_set_l1_entry(q->bs, 1, UINT64_MAX);
    assert_int_equal(qcow2_pre_write_overlap_check(q->bs, 0, 300 << 12, 512, true), 0);
    qcow2_set_l1_entry(q->bs, 1, 0);
    q->s->refcount_table[5] = 0;
}

/* Tables are where L1 says now: as each entry changes, in any order, two of them at one place, or at odd ones. */
/* fact: qcow2 5.8/overlap */
Q2_TEST(tables_move, {.cluster_bits = 12, .refcount_order = 4, .size = 16 * MiB})
{
    static const int moves[] = {40, 7, 90, 7, 8, 0, 41, 40, 0, 9, 6, 6, 0, 88, 3, 200, 1, 17, 0, 91};
    BDRVQcow2State *s = q->s;
    int64_t entry[6] = {0};

    assert_true(s->l1_size >= ARRAY_SIZE(entry));
    for (size_t i = 0; i < ARRAY_SIZE(moves); i++) {
        size_t index = i * 5 % ARRAY_SIZE(entry);
        entry[index] = moves[i] ? (1000 + moves[i]) * s->cluster_size + (i % 3 ? 0 : 512) : 0;
        qcow2_set_l1_entry(q->bs, (uint32_t)index, (uint64_t)entry[index] | QCOW_OFLAG_COPIED);
        for (int64_t at = 990 * s->cluster_size; at < 1210 * s->cluster_size; at += 512) {
            bool hit = false;
            for (size_t k = 0; k < ARRAY_SIZE(entry); k++) {
                hit = hit || (entry[k] && at < entry[k] + s->cluster_size && entry[k] < at + 512);
            }
            assert_int_equal(qcow2_l2_places_hit(q->bs, at, 512), hit);
        }
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(entry); i++) {
        qcow2_set_l1_entry(q->bs, i, 0);
    }
    assert_false(qcow2_l2_places_hit(q->bs, 0, 2000 * s->cluster_size));
}

/* --- afterwards
 * ----------------------------------------------------------------------------------------------------- */

/* fact: qcow2 5.8/runtime; block 9/image-corrupted */
Q2_TEST(unusable_and_silent, IMAGE())
{
    struct payload p;
    uint8_t byte = 1;

    listen(q);
    q2_alloc(q, 1);
    qcow2_signal_corruption(q->bs, true, -1, -1, "it is %s", "bad");
    assert_int_equal(said.count, 1);
    assert_string_equal(said.text, "it is bad");
    assert_int_equal(said.offset, -1);
    qcow2_signal_corruption(q->bs, true, -1, -1, "again");
    assert_int_equal(said.count, 1);
    q2_log_clear(q);
    assert_int_equal(qcow2_pwrite(q->bs, 1 << 20, 1, &byte), -ENOMEDIUM);
    assert_int_equal(qcow2_flush_caches(q->bs), -ENOMEDIUM);
    co_mutex_unlock(&q->s->lock);
    payload_init(q->w->sim, &p);
    BlockBackend *blk = blk_new(q->w->host, BLK_PERM_WRITE | BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, q->bs, NULL), 0);
    assert_int_equal(blk_co_preadv(blk, 0, 512, &p, 0), -ENOMEDIUM);
    payload_clear(&p);
    payload_append_fill(&p, 1, 512);
    assert_int_equal(blk_co_pwritev(blk, 0, 512, &p, 0), -ENOMEDIUM);
    payload_clear(&p);
    blk_unref(blk);
    co_mutex_lock(&q->s->lock);
    q2_close(q);
    q2_expect_log(q, "");
    assert_true(corrupt_on_medium(q));
}

/* fact: qcow2 5.8/runtime */
Q2_TEST(read_only_is_told_once, IMAGE(.open = ",'read-only':true"))
{
    listen(q);
    qcow2_signal_corruption(q->bs, true, -1, -1, "bad");
    assert_int_equal(said.count, 1);
    assert_false(said.fatal);
    assert_true(qcow2_usable(q->bs));
    qcow2_signal_corruption(q->bs, true, -1, -1, "bad");
    assert_int_equal(said.count, 1);
    assert_false(corrupt_on_medium(q));
}

/* What is not fatal is told once; what is fatal after that still counts. */
Q2_TEST(fatal_after_harmless, IMAGE())
{
    listen(q);
    qcow2_signal_corruption(q->bs, false, -1, -1, "odd");
    qcow2_signal_corruption(q->bs, false, -1, -1, "odd");
    assert_int_equal(said.count, 1);
    assert_false(said.fatal);
    assert_true(qcow2_usable(q->bs));
    qcow2_signal_corruption(q->bs, true, 4096, 512, "bad");
    assert_int_equal(said.count, 2);
    assert_true(said.fatal);
    assert_false(qcow2_usable(q->bs));
}

/* The backend's name goes with it. */
Q2_TEST(device_is_named, IMAGE())
{
    BlockBackend *blk = blk_new(q->w->host, 0, BLK_PERM_ALL);

    co_mutex_unlock(&q->s->lock);
    assert_true(blk_set_name(blk, "drive0", NULL));
    assert_int_equal(blk_insert_bs(blk, q->bs, NULL), 0);
    co_mutex_lock(&q->s->lock);
    listen(q);
    qcow2_signal_corruption(q->bs, true, -1, -1, "bad");
    assert_string_equal(said.device, "drive0");
    co_mutex_unlock(&q->s->lock);
    blk_unref(blk);
    co_mutex_lock(&q->s->lock);
}

/* The header cannot be written: the image is of no use all the same. */
Q2_TEST(mark_cannot_be_written, IMAGE())
{
    q->log.fail_all = true;
    qcow2_signal_corruption(q->bs, true, -1, -1, "bad");
    q->log.fail_all = false;
    assert_false(qcow2_usable(q->bs));
    assert_false(corrupt_on_medium(q));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2-overlap/each-structure", each_structure),
        T("/qcow2-overlap/default", inactive_l2_is_not_in_the_default),
        T("/qcow2-overlap/unreadable", unreadable_table_is_an_error),
        T("/qcow2-overlap/senseless", senseless_ranges),
        T("/qcow2-overlap/hostile", hostile_tables),
        T("/qcow2-overlap/tables-move", tables_move),
        T("/qcow2-corruption/unusable", unusable_and_silent),
        T("/qcow2-corruption/read-only", read_only_is_told_once),
        T("/qcow2-corruption/fatal-after-harmless", fatal_after_harmless),
        T("/qcow2-corruption/device", device_is_named),
        T("/qcow2-corruption/mark-fails", mark_cannot_be_written),
    };

    return cmocka_run_group_tests_name("qcow2_overlap", tests, NULL, NULL);
}
