/* Protects the machine from images made to hurt it: nothing is written to what is refused, and memory and requests
 * stay within bounds, which stand here for the 128 MiB and 2 s an image may cost. */
#include "tests/block/qcow2_lib.h"

#define MAX_ARENA_BYTES ((uint64_t)128 << 20)
#define MAX_REQUESTS 300000
#define MAX_READ_BYTES ((int64_t)256 << 20)

/* --- an image in memory ------------------------------------------------------------------------------------------
 */

struct image {
    uint8_t *bytes;
    size_t length;
};

static void put(struct image *i, size_t at, uint64_t value, unsigned bytes)
{
    assert_true(at + bytes <= i->length);
    for (unsigned b = bytes; b > 0; b--) {
        i->bytes[at + b - 1] = (uint8_t)value;
        value >>= 8;
    }
}

static void fill64(struct image *i, size_t at, size_t count, uint64_t value)
{
    for (size_t n = 0; n < count; n++) {
        put(i, at + n * 8, value, 8);
    }
}

/* Version 3, 16-bit counts: refcount table in cluster 1, a block in cluster 2, L1 from cluster 3 on. */
static struct image image_new(unsigned cluster_bits, size_t clusters, uint32_t l1_size)
{
    size_t cluster = (size_t)1 << cluster_bits;
    struct image i = {.length = clusters << cluster_bits};

    i.bytes = calloc(1, i.length);
    assert_non_null(i.bytes);
    put(&i, 0, QCOW_MAGIC, 4);
    put(&i, 4, 3, 4);
    put(&i, 20, cluster_bits, 4);
    put(&i, 24, (uint64_t)l1_size * (cluster / 8) * cluster, 8);
    put(&i, 36, l1_size, 4);
    put(&i, 40, 3 * cluster, 8);
    put(&i, 48, cluster, 8);
    put(&i, 56, 1, 4);
    put(&i, 96, 4, 4);
    put(&i, 100, 104, 4);
    put(&i, cluster, 2 * cluster, 8);
    return i;
}

/* --- the eye on the medium ---------------------------------------------------------------------------------------
 */

struct watcher {
    struct disk_interposer interposer;
    unsigned requests;
    unsigned changes;
    int64_t read_bytes;
};

static void watch(struct disk_interposer *self, struct disk_req *req)
{
    struct watcher *v = container_of(self, struct watcher, interposer);

    v->requests++;
    v->read_bytes += req->op == SIM_OP_READ ? req->bytes : 0;
    v->changes += req->op == SIM_OP_WRITE || req->op == SIM_OP_DISCARD || req->op == SIM_OP_WRITE_ZEROES ||
                  req->op == SIM_OP_TRUNCATE;
}

/* Takes the bytes. */
static struct disk *load(struct world *w, const char *name, struct image *i, struct watcher *v)
{
    struct disk *disk = make_disk(w, name, (int64_t)i->length);

    for (size_t at = 0; at < i->length; at += SIM_PAGE_BYTES) {
        size_t bytes = MIN((size_t)SIM_PAGE_BYTES, i->length - at);
        if (i->bytes[at] != 0 || memcmp(i->bytes + at, i->bytes + at + 1, bytes - 1) != 0) {
            poke(w, disk, (int64_t)at, i->bytes + at, bytes);
        }
    }
    free(i->bytes);
    *v = (struct watcher){.interposer = {.before = watch}};
    disk_add_interposer(disk, &v->interposer);
    return disk;
}

static void expect_bounds(struct world *w, const struct watcher *v)
{
    assert_true(sim_arena_peak_bytes(w->host->arena) < MAX_ARENA_BYTES);
    assert_true(v->requests < MAX_REQUESTS);
    assert_true(v->read_bytes < MAX_READ_BYTES);
}

struct checking {
    BlockDriverState *bs;
    BdrvCheckResult res;
    uint32_t fix;
};

static int checking_entry(void *opaque)
{
    struct checking *c = opaque;

    return bdrv_co_check(c->bs, &c->res, c->fix);
}

/* Opened read-only and looked at in every way, then read-write, checked and mended. */
static void look_at(struct world *w, struct watcher *v)
{
    uint8_t sector[512];
    Error *err = NULL;
    BlockDriverState *bs = try_add(w, "{'node-name':'n','read-only':true," Q_FILE("d") "}", &err);

    if (bs) {
        struct checking c = {.bs = bs};
        (void)bdrv_run_co(w->host, "check", checking_entry, &c);
        (void)guest_do(bs, (struct guest_call){.op = GUEST_READ, .bytes = sizeof(sector), .out = sector});
        del(w, "n");
    }
    assert_int_equal(v->changes, 0);
    error_free(err);
    err = NULL;
    bs = try_add(w, "{'node-name':'n'," Q_FILE("d") "}", &err);
    if (bs) {
        (void)guest_write(bs, 0x77, 0, 512);
        struct checking c = {.bs = bs, .fix = BDRV_FIX_LEAKS | BDRV_FIX_ERRORS};
        (void)bdrv_run_co(w->host, "check", checking_entry, &c);
        del(w, "n");
    } else {
        assert_int_equal(v->changes, 0);
    }
    error_free(err);
    expect_bounds(w, v);
}

static void attack(struct world *w, struct image i)
{
    struct watcher v;
    struct disk *disk = load(w, "d", &i, &v);

    look_at(w, &v);
    disk_remove_interposer(disk, &v.interposer);
}

/* --- tables that are named again and again -----------------------------------------------------------------------
 */

/* 32 MiB of L1 that name one L2 table, each entry of which names one cluster. */
WORLD_TEST(test_one_l2)
{
    size_t l1_clusters = 512, l2 = 3 + l1_clusters;
    struct image i = image_new(16, l2 + 2, 1u << 22);

    fill64(&i, 3 << 16, 1u << 22, (uint64_t)l2 << 16);
    fill64(&i, l2 << 16, 8192, (uint64_t)(l2 + 1) << 16);
    attack(w, i);
}

/* The same with clusters of 512 bytes. */
WORLD_TEST(test_one_l2_small)
{
    size_t l1_clusters = 1 << 16, l2 = 3 + l1_clusters;
    struct image i = image_new(9, l2 + 2, 1u << 22);

    fill64(&i, 3 << 9, 1u << 22, (uint64_t)l2 << 9);
    fill64(&i, l2 << 9, 64, (uint64_t)(l2 + 1) << 9);
    attack(w, i);
}

/* L2 tables of 2 MiB that begin at every sector, so that each overlaps with thousands of others. */
WORLD_TEST(test_unaligned_l2)
{
    struct image i = image_new(21, 6, 8192);

    for (size_t n = 0; n < 8192; n++) {
        put(&i, (3u << 21) + n * 8, (4u << 21) + n * 512, 8);
    }
    fill64(&i, 4u << 21, (2u << 21) / 8, 0x8000000000000000ULL | 4u << 21);
    attack(w, i);
}

/* 8 MiB of refcount table that name one block. */
WORLD_TEST(test_one_block)
{
    struct image i = image_new(16, 3 + 1 + 128, 1);

    put(&i, 48, 4 << 16, 8);
    put(&i, 56, 128, 4);
    fill64(&i, 4 << 16, 1u << 20, 2 << 16);
    memset(i.bytes + (2 << 16), 1, 1 << 16);
    attack(w, i);
}

/* --- snapshots ---------------------------------------------------------------------------------------------------
 */

static struct image with_snapshots(unsigned cluster_bits, uint32_t nb, uint64_t l1_offset, uint32_t l1_size)
{
    size_t table_bytes = (size_t)nb * 64;
    size_t clusters = (table_bytes >> cluster_bits) + 1;
    struct image i = image_new(cluster_bits, 4 + clusters, 1);
    size_t table = (size_t)4 << cluster_bits;

    put(&i, 60, nb, 4);
    put(&i, 64, table, 8);
    for (uint32_t n = 0; n < nb; n++, table += 64) {
        put(&i, table, l1_offset, 8);
        put(&i, table + 8, l1_size, 4);
        put(&i, table + 36, 24, 4); /* no id, no name */
    }
    return i;
}

WORLD_TEST(test_snapshots_beyond)
{
    attack(w, with_snapshots(16, 65536, (uint64_t)1 << 40, 1u << 22));
}

/* Each names the whole file as its L1 table. */
WORLD_TEST(test_snapshots_everything)
{
    attack(w, with_snapshots(9, 65536, 0, (4u << 20) / 8));
}

/* Their L2 tables are looked for before each write, if somebody asks for it. */
/* fact: qcow2 5.8/overlap */
WORLD_TEST(test_snapshots_overlap_all)
{
    struct image i = with_snapshots(16, 20000, 0, 1u << 17);
    struct watcher v;
    size_t table = 4 << 16;

    put(&i, table, (uint64_t)1 << 40, 8); /* beyond the end, and too large: nothing is read of them */
    put(&i, table + 64 + 8, UINT32_MAX, 4);
    struct disk *disk = load(w, "d", &i, &v);
    BlockDriverState *bs = add(w, "{'node-name':'n','overlap-check':'all'," Q_FILE("d") "}");
    assert_int_not_equal(guest_write(bs, 0x77, 0, 512), 0);
    del(w, "n");
    expect_bounds(w, &v);
    disk_remove_interposer(disk, &v.interposer);
}

/* --- bitmaps
 * ------------------------------------------------------------------------------------------------------ */

static struct image with_bitmaps(unsigned cluster_bits, uint32_t nb, uint32_t flags, uint64_t table, uint32_t size)
{
    size_t directory_bytes = (size_t)nb * 32;
    struct image i = image_new(cluster_bits, 4 + (directory_bytes >> cluster_bits) + 1, 1);
    size_t at = (size_t)4 << cluster_bits;

    put(&i, 88, 1, 8);
    put(&i, 104, QCOW2_EXT_MAGIC_BITMAPS, 4);
    put(&i, 108, 24, 4);
    put(&i, 112, nb, 4);
    put(&i, 120, directory_bytes, 8);
    put(&i, 128, at, 8);
    for (uint32_t n = 0; n < nb; n++, at += 32) {
        put(&i, at, table, 8);
        put(&i, at + 8, size, 4);
        put(&i, at + 12, flags, 4);
        i.bytes[at + 16] = 1;
        i.bytes[at + 17] = 16;
        put(&i, at + 18, 4, 2);
        put(&i, at + 24, 0x61616161 + n % 16 + n / 16 % 16 * 0x100 + n / 256 % 16 * 0x10000 + n / 4096 * 0x1000000,
            4);
    }
    return i;
}

WORLD_TEST(test_bitmaps_beyond)
{
    attack(w, with_bitmaps(16, 65535, 1, (uint64_t)1 << 40, 8192));
}

/* In use, with tables of 512 MiB of bits over the whole file. */
WORLD_TEST(test_bitmaps_everything)
{
    attack(w, with_bitmaps(9, 20000, 1, 512, 1u << 20));
}

WORLD_TEST(test_bitmaps_consistent)
{
    attack(w, with_bitmaps(16, 4096, 2, 3 << 16, 1)); /* with sanitizers no memory is used twice */
}

/* --- clusters ----------------------------------------------------------------------------------------------------
 */

/* Every entry a compressed cluster that takes up as much as a descriptor can say. */
WORLD_TEST(test_compressed_everywhere)
{
    struct image i = image_new(21, 5, 1);

    put(&i, 3u << 21, 0x8000000000000000ULL | 4u << 21, 8);
    fill64(&i, 4u << 21, (1u << 21) / 8, QCOW_OFLAG_COMPRESSED | 0x3fffULL << 48 | 0x123);
    attack(w, i);
}

/* A chain without an end. */
WORLD_TEST(test_own_backing)
{
    struct image i = image_new(16, 4, 1);
    struct watcher v;
    Error *err = NULL;

    put(&i, 8, 512, 8);
    put(&i, 16, 1, 4);
    put(&i, 88, 0xff00, 8); /* bits to be cleared, once it is open */
    i.bytes[512] = 'd';
    struct disk *disk = load(w, "d", &i, &v);
    for (unsigned n = 0; n < 2; n++) {
        assert_null(try_add(
            w, n ? "{'node-name':'n'," Q_FILE("d") "}" : "{'node-name':'n','read-only':true," Q_FILE("d") "}",
            &err));
        assert_non_null(err);
        error_free(err);
        err = NULL;
    }
    assert_int_equal(v.changes, 0);
    expect_bounds(w, &v);
    disk_remove_interposer(disk, &v.interposer);
}

/* --- what is refused is left alone
 * -------------------------------------------------------------------------------- */

static void expect_untouched(struct world *w, struct image i, const char *options, const char *message)
{
    struct watcher v;
    Error *err = NULL;
    char text[256];

    struct disk *disk = load(w, "d", &i, &v);
    snprintf(text, sizeof(text), "{'node-name':'n'%s," Q_FILE("d") "}", options);
    assert_null(try_add(w, text, &err));
    expect_error(&err, message);
    assert_int_equal(v.changes, 0);
    disk_remove_interposer(disk, &v.interposer);
}

/* Dirty, and an L2 table beyond the end: no count is mended before that is known. */
/* fact: qcow2 5.1/dirty-bit */
WORLD_TEST(test_dirty_beyond_repair)
{
    struct image i = image_new(16, 4, 1);

    put(&i, 72, QCOW2_INCOMPAT_DIRTY, 8);
    put(&i, 3 << 16, 100 << 16, 8);
    expect_untouched(w, i, "", "Could not repair dirty image");
}

/* Counts that do not fit: one bit, and two that share a cluster. */
WORLD_TEST(test_dirty_too_narrow)
{
    struct image i = image_new(16, 6, 1);

    put(&i, 72, QCOW2_INCOMPAT_DIRTY, 8);
    put(&i, 96, 0, 4);
    put(&i, 3 << 16, 4 << 16, 8);
    put(&i, 4 << 16, 5 << 16, 8);
    put(&i, (4 << 16) + 8, 5 << 16, 8);
    expect_untouched(w, i, "", "Could not repair dirty image");
}

/* The backing file is missing: neither unknown bits nor bitmaps are touched, a dirty image is not repaired. */
WORLD_TEST(test_backing_missing)
{
    struct image i = with_bitmaps(16, 1, 2, 3 << 16, 1);

    put(&i, 72, QCOW2_INCOMPAT_DIRTY, 8);
    put(&i, 88, 0xff01, 8);
    put(&i, 8, 512, 8);
    put(&i, 16, 1, 4);
    i.bytes[512] = 'x';
    expect_untouched(w, i, "", "Could not open backing file");
}

/* The directory lies over the refcount table, so bitmaps can never be marked in use. */
WORLD_TEST(test_directory_overlaps)
{
    struct image i = with_bitmaps(16, 1, 2, 3 << 16, 1);

    put(&i, 48, 4 << 16, 8);
    expect_untouched(w, i, "", "Can't update bitmap directory");
}

/* --- a repair tells what is left
 * ------------------------------------------------------------------------------------ */

static BdrvCheckResult mend(struct world *w, uint32_t fix)
{
    struct qvalue *options = opts("{'node-name':'n'," Q_FILE("d") "}");
    BlockDriverState *bs = bdrv_open(w->host, options, BDRV_O_CHECK, NULL);
    struct checking c = {.bs = bs, .fix = fix};

    qvalue_free(options);
    assert_non_null(bs);
    assert_int_equal(bdrv_run_co(w->host, "check", checking_entry, &c), 0);
    bdrv_unref(bs);
    return c.res;
}

/* Two snapshots whose table lies in a data cluster: when it has moved, that cluster has one user, and COPIED. */
/* fact: qcow2 5.8/repair-all, 5.8/snapshot-extra */
WORLD_TEST(test_table_in_data)
{
    struct disk *disk = load_vector(w, "d", "zero-types-4k.qcow2");

    poke_be(w, disk, 60, 2, 4);
    poke_be(w, disk, 64, 0xe000, 8);
    BdrvCheckResult res = mend(w, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS);
    assert_int_equal(res.corruptions, 0);
    assert_int_equal(res.check_errors, 0);
    res = mend(w, 0);
    assert_int_equal(res.corruptions, 0);
    assert_int_equal(res.leaks, 0);
}

/* A block beyond the end is not mended along with leaks, and so not forgotten. */
/* fact: qcow2 5.8/repair-leaks */
WORLD_TEST(test_block_beyond_end)
{
    struct disk *disk = load_vector(w, "d", "leaks-unaligned-4k.qcow2");

    poke_be(w, disk, 0x1000 + 6 * 8, 0xfffffff000, 8);
    BdrvCheckResult res = mend(w, BDRV_FIX_LEAKS);
    assert_int_equal(res.leaks_fixed, 1);
    assert_int_equal(res.corruptions, 1);
    res = mend(w, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS);
    assert_int_equal(res.corruptions, 0);
    assert_int_equal(mend(w, 0).corruptions, 0);
}

/* Without snapshots nobody looks where they would be. */
WORLD_TEST(test_no_snapshots_anywhere)
{
    struct disk *disk = load_vector(w, "d", "v3-data-4k.qcow2");

    poke_be(w, disk, 64, 0xfffffffffffffffeULL, 8);
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");
    expect_clean(bs);
    del(w, "n");
}

/* --- malformed.tsv -----------------------------------------------------------------------------------------------
 */

static unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
}

static void apply_edit(const char *edit, struct image *i)
{
    char *at;
    size_t offset = strtoul(edit, &at, 16);

    for (at++; at[0] && at[1] && at[0] != '+'; at += 2, offset++) {
        if (offset >= i->length) {
            size_t length = ROUND_UP(offset + 1, (size_t)65536);
            i->bytes = realloc(i->bytes, length);
            memset(i->bytes + i->length, 0, length - i->length);
            i->length = length;
        }
        i->bytes[offset] = (uint8_t)(hex_digit(at[0]) << 4 | hex_digit(at[1]));
    }
}

static void (*row_body)(struct world *w);
static char *row_edits;

static void malformed_row(struct world *w)
{
    size_t bytes;
    uint8_t *file = read_vector("v3-empty-64k.qcow2", &bytes);
    struct image i = {.bytes = calloc(1, ROUND_UP(bytes, (size_t)65536)), .length = ROUND_UP(bytes, (size_t)65536)};
    char *rest = NULL;

    memcpy(i.bytes, file, bytes);
    free(file);
    for (char *edit = strtok_r(row_edits, ",", &rest); edit; edit = strtok_r(NULL, ",", &rest)) {
        apply_edit(edit, &i);
    }
    attack(w, i);
}

/* What each row gives is qcow2_header_test's; here is what it costs, whichever way it is opened. */
static void test_malformed(void **state)
{
    size_t bytes;
    char *text = (char *)read_vector("malformed.tsv", &bytes);
    char *rest = NULL;
    unsigned rows = 0;

    row_body = malformed_row;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *at = line;
        if (line[0] == '#') {
            continue;
        }
        strsep(&at, "\t");
        strsep(&at, "\t");
        row_edits = strsep(&at, "\t");
        assert_non_null(row_edits);
        world_run(row_body);
        rows++;
    }
    assert_int_equal(rows, 71);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/bounds/one-l2", test_one_l2),
        T("/qcow2/bounds/one-l2/small-clusters", test_one_l2_small),
        T("/qcow2/bounds/unaligned-l2", test_unaligned_l2),
        T("/qcow2/bounds/one-block", test_one_block),
        T("/qcow2/bounds/snapshots/beyond", test_snapshots_beyond),
        T("/qcow2/bounds/snapshots/everything", test_snapshots_everything),
        T("/qcow2/bounds/snapshots/overlap-all", test_snapshots_overlap_all),
        T("/qcow2/bounds/bitmaps/beyond", test_bitmaps_beyond),
        T("/qcow2/bounds/bitmaps/everything", test_bitmaps_everything),
        T("/qcow2/bounds/bitmaps/consistent", test_bitmaps_consistent),
        T("/qcow2/bounds/compressed", test_compressed_everywhere),
        T("/qcow2/bounds/own-backing", test_own_backing),
        T("/qcow2/bounds/untouched/dirty", test_dirty_beyond_repair),
        T("/qcow2/bounds/untouched/narrow", test_dirty_too_narrow),
        T("/qcow2/bounds/untouched/backing", test_backing_missing),
        T("/qcow2/bounds/untouched/directory", test_directory_overlaps),
        T("/qcow2/bounds/repair/table-in-data", test_table_in_data),
        T("/qcow2/bounds/repair/block-beyond-end", test_block_beyond_end),
        T("/qcow2/bounds/no-snapshots", test_no_snapshots_anywhere),
        T("/qcow2/bounds/malformed", test_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
