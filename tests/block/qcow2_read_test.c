/* Protects reading qcow2 (5.2): every kind of cluster, real images byte for byte, and what is wrong in others. */
#include <openssl/evp.h>

#include "tests/block/qcow2_image_model.h"

#define IMAGES "tests/vectors/qcow2"

/* --- real images ------------------------------------------------------------------------------------------- */

struct image {
    char name[64];
    int64_t size;
    char view[80];
};

static bool next_image(FILE *table, struct image *image)
{
    char line[600];
    while (fgets(line, sizeof(line), table)) {
        long long size;
        if (sscanf(line, "image\t%63s\t%*d\t%*s\t%lld\t%79s", image->name, &size, image->view) == 3) {
            image->size = size;
            return true;
        }
    }
    return false;
}

static void hash_view(BlockBackend *blk, bool peek, char text[80])
{
    const int64_t chunk = 1 * MiB;
    uint8_t digest[32];
    uint8_t *buf = malloc((size_t)chunk);
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestInit_ex(sha, EVP_sha256(), NULL), 1);
    for (int64_t at = 0; at < blk_getlength(blk); at += chunk) {
        int64_t num = MIN(chunk, blk_getlength(blk) - at);
        int ret = peek ? peek_view(blk_bs(blk), at, num, buf) : read_view(blk, at, num, buf);
        assert_int_equal(ret, 0);
        EVP_DigestUpdate(sha, buf, (size_t)num);
    }
    EVP_DigestFinal_ex(sha, digest, NULL);
    EVP_MD_CTX_free(sha);
    for (unsigned i = 0; i < sizeof(digest); i++) {
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }
    free(buf);
}

#define ON_FILE(name, image) \
    "{'driver':'qcow2','node-name':'" name "','read-only':true," \
    "'file':{'driver':'file','filename':'" IMAGES "/" image ".qcow2','read-only':true}"

/* One has a backing file, which the others do not take. */
static BlockDriverState *open_image(struct world *w, const char *name)
{
    char options[300];
    bool has_base = strcmp(name, "backing-top-4k") == 0;
    if (has_base) {
        add(w, ON_FILE("base", "backing-base-4k") "}");
    }
    snprintf(options, sizeof(options), ON_FILE("n", "%s") "%s}", name, has_base ? ",'backing':'base'" : "");
    return add(w, options);
}

/* fact: qcow2 5.2/unallocated, 5.2/zero-plain, 5.2/zero-allocated, 5.2/normal, 5.2/compressed, edge/37, edge/38 */
WORLD_TEST(test_images)
{
    FILE *table = fopen(IMAGES "/images.tsv", "r");
    struct image image;
    unsigned count = 0;
    assert_non_null(table); /* the tests run in the folder above them */
    bdrv_set_host_files(w->host, "");
    for (; next_image(table, &image); count++) {
        char seen[80];
        BlockBackend *blk = use(w, open_image(w, image.name), BLK_PERM_CONSISTENT_READ);
        print_message("%s\n", image.name);
        assert_int_equal(blk_getlength(blk), image.size);
        hash_view(blk, false, seen);
        assert_string_equal(seen, image.view);
        hash_view(blk, true, seen);
        assert_string_equal(seen, image.view);
        blk_unref(blk);
        del(w, "n");
    }
    del(w, "base");
    assert_int_equal(count, 20);
    fclose(table);
}

/* --- random images ------------------------------------------------------------------------------------------ */

static const struct build layouts[] = {
    {.version = 2, .cluster_bits = 9, .size = 100 * KiB},
    {.version = 3, .cluster_bits = 9, .size = 100 * KiB + 512},
    {.version = 2, .cluster_bits = 12, .size = 300 * KiB},
    {.version = 3, .cluster_bits = 12, .size = 301 * KiB},
    {.version = 3, .cluster_bits = 12, .size = 300 * KiB, .zstd = true},
    {.version = 3, .cluster_bits = 16, .size = 900 * KiB, .zstd = true},
    {.version = 3, .cluster_bits = 14, .size = 500 * KiB + 512, .extended = true},
    {.version = 3, .cluster_bits = 16, .size = 1 * MiB, .extended = true, .zstd = true},
};

static void compare(struct model *m, BlockBackend *blk, int64_t offset, int64_t bytes)
{
    uint8_t *seen = malloc((size_t)bytes);
    assert_int_equal(read_view(blk, offset, bytes, seen), 0);
    assert_memory_equal(seen, m->view + offset, (size_t)bytes);
    memset(seen, 0x11, (size_t)bytes);
    assert_int_equal(peek_view(blk_bs(blk), offset, bytes, seen), 0);
    assert_memory_equal(seen, m->view + offset, (size_t)bytes);
    free(seen);
}

static void compare_random(struct model *m, struct world *w)
{
    model_make(m, w, "top");
    BlockBackend *blk = use(w, model_open(m, w), BLK_PERM_CONSISTENT_READ);
    int64_t size = m->b.size;
    assert_int_equal(blk_getlength(blk), size);
    for (unsigned i = 0; i < 40; i++) {
        int64_t offset = (int64_t)draw(m, (uint64_t)size);
        int64_t bytes = 1 + (int64_t)draw(m, (uint64_t)MIN(size - offset, i % 2 ? size : 3000));
        compare(m, blk, offset, bytes);
    }
    compare(m, blk, 0, size);
    blk_unref(blk);
    del(w, "n");
    model_free(m);
}

static unsigned turn; /* of the test that runs */

WORLD_TEST(one_random)
{
    unsigned layout = turn % ARRAY_SIZE(layouts);
    struct model m = {.b = layouts[layout], .seed = turn, .below = -1};
    if (draw(&m, 2)) {
        m.below = 512 * (1 + (int64_t)draw(&m, (uint64_t)m.b.size / 256));
    }
    compare_random(&m, w);
}

/* fact: qcow2 5.2/unallocated, 5.2/compressed-descriptor, 5.2/extl2-bitmap, 5.2/extl2-no-host, edge/36 */
static void test_random(void **state)
{
    for (turn = 0; turn < 6 * ARRAY_SIZE(layouts); turn++) {
        one_random(state);
    }
}

/* --- what is wrong ------------------------------------------------------------------------------------------ */

#define COPIED (1ULL << 63)

/* An image of version 3 with clusters of 64 KiB (extended: likewise) and a first cluster of data behind its tables;
 * the second one's entry is the test's. */
static BlockBackend *open_with(struct world *w, struct build *b, uint64_t entry, uint64_t bitmap)
{
    b->cluster_bits = 16;
    b->size = 4 * 64 * KiB;
    build_begin(b, 20 * 64 * KiB);
    int64_t table = build_entry_at(b, 0);
    int64_t data = build_take(b);
    assert_int_equal(table, 4 * 64 * KiB);
    assert_int_equal(data, 5 * 64 * KiB);
    memset(b->bytes + data, 0x77, 64 * KiB);
    build_set(b, 0, (uint64_t)data | COPIED, b->extended ? 0xffffffff : 0);
    build_set(b, 1, entry, bitmap);
    build_end(b, w, "top");
    BlockDriverState *bs =
        add(w, "{'driver':'qcow2','node-name':'n','read-only':true,'file':{'driver':'disk','disk':'top'}}");
    return use(w, bs, BLK_PERM_CONSISTENT_READ);
}

static void expect_bad(struct world *w, struct build b, uint64_t entry, uint64_t bitmap)
{
    uint8_t seen[1024];
    BlockBackend *blk = open_with(w, &b, entry, bitmap);
    struct look l = {.bs = blk_bs(blk), .offset = 64 * KiB + 512, .bytes = 512};
    assert_int_equal(read_view(blk, 64 * KiB + 512, 512, seen), -EIO);
    assert_int_equal(read_view(blk, 64 * KiB - 512, 1024, seen), -EIO); /* all or nothing */
    assert_int_equal(peek_view(l.bs, 64 * KiB + 512, 512, seen), -EIO);
    if (!(entry & QCOW_OFLAG_COMPRESSED)) {
        assert_int_equal(status_of(&l), -EIO);
        assert_true(bdrv_peek_status(l.bs, 64 * KiB, 64 * KiB, &l.pnum));
    }
    /* What is next to it is as good as before, and a run ends before it. */
    assert_int_equal(read_view(blk, 64 * KiB - 512, 512, seen), 0);
    assert_int_equal(seen[511], 0x77);
    assert_int_equal(read_view(blk, 128 * KiB, 512, seen), 0);
    assert_int_equal(seen[0], 0);
    l.offset = 0;
    l.bytes = 256 * KiB;
    assert_true(status_of(&l) > 0);
    assert_int_equal(l.pnum, 64 * KiB);
    blk_unref(blk);
    del(w, "n");
}

static const struct build version2 = {.version = 2}, version3 = {.version = 3},
                          extended = {.version = 3, .extended = true};

#define BAD_TEST(name, ...) \
    WORLD_TEST(name) \
    { \
        expect_bad(w, __VA_ARGS__); \
    }

/* fact: qcow2 5.8/entries, 5.8/runtime */
BAD_TEST(test_unaligned, version3, (6 * 64 * KiB + 512) | COPIED, 0)
BAD_TEST(test_unaligned_zero, version3, (6 * 64 * KiB + 512) | 1 | COPIED, 0)
/* fact: qcow2 5.2/v2-zero-flag, edge/34 */
BAD_TEST(test_zero_in_v2, version2, 1, 0)
BAD_TEST(test_zero_allocated_in_v2, version2, (6 * 64 * KiB) | 1, 0)
/* A conflict in another part of the cluster, too.
 * fact: qcow2 5.2/extl2-bitmap, edge/36 */
BAD_TEST(test_both_bits, extended, (6 * 64 * KiB) | COPIED, 0x8000000080000000)
/* fact: qcow2 5.2/extl2-no-host */
BAD_TEST(test_bits_without_cluster, extended, 0, 0x80000000)
/* Streams beyond the end of the file, at absurd places, and no streams.
 * fact: qcow2 5.2/compressed-descriptor */
BAD_TEST(test_compressed_beyond, version3, QCOW_OFLAG_COMPRESSED | 200 * MiB, 0)
BAD_TEST(test_compressed_far, version3, QCOW_OFLAG_COMPRESSED | 0x3fffffffffffff, 0)
BAD_TEST(test_compressed_all_ones, version3, QCOW_OFLAG_COMPRESSED | 0x3fffffffffffffff, 0)
BAD_TEST(test_compressed_noise, version3, QCOW_OFLAG_COMPRESSED | 5 * 64 * KiB, 0)
BAD_TEST(test_compressed_header, extended, QCOW_OFLAG_COMPRESSED, 0)

/* Offset 0 is a place only in an external data file; the entry's low bit means nothing in extended L2.
 * fact: qcow2 edge/32 */
WORLD_TEST(test_not_placed)
{
    uint8_t seen[512];
    struct build b = version3;
    BlockBackend *blk = open_with(w, &b, COPIED, 0);
    assert_int_equal(read_view(blk, 64 * KiB, 512, seen), 0);
    assert_int_equal(seen[0], 0);
    blk_unref(blk);
    del(w, "n");
}

WORLD_TEST(test_extended_low_bit)
{
    uint8_t seen[512];
    struct build b = extended;
    BlockBackend *blk = open_with(w, &b, (5 * 64 * KiB) | 1, 0xffffffff);
    assert_int_equal(read_view(blk, 64 * KiB, 512, seen), 0);
    assert_int_equal(seen[0], 0x77);
    blk_unref(blk);
    del(w, "n");
}

/* fact: qcow2 edge/38 */
WORLD_TEST(test_beyond_file)
{
    uint8_t seen[512];
    struct build b = version3;
    BlockBackend *blk = open_with(w, &b, (100 * 64 * KiB) | COPIED, 0);
    memset(seen, 1, sizeof(seen));
    assert_int_equal(read_view(blk, 64 * KiB, 512, seen), 0);
    assert_int_equal(seen[0], 0);
    assert_int_equal(peek_view(blk_bs(blk), 64 * KiB, 512, seen), 0);
    assert_int_equal(seen[511], 0);
    blk_unref(blk);
    del(w, "n");
}

/* An L2 table at an offset that is none; and one beyond the end of the file, which reads as zeros. */
static BlockBackend *open_table_at(struct world *w, uint64_t l1_entry)
{
    struct build b = {.version = 3, .cluster_bits = 16, .size = 4 * 64 * KiB};
    build_begin(&b, 20 * 64 * KiB);
    put64(&b, b.l1_offset, l1_entry);
    build_end(&b, w, "top");
    return use(w,
               add(w, "{'driver':'qcow2','node-name':'n','read-only':true,'file':{'driver':'disk','disk':'top'}}"),
               BLK_PERM_CONSISTENT_READ);
}

/* fact: qcow2 5.8/entries */
WORLD_TEST(test_unaligned_table)
{
    uint8_t seen[512];
    BlockBackend *blk = open_table_at(w, 512 | COPIED);
    assert_int_equal(read_view(blk, 0, 512, seen), -EIO);
    assert_int_equal(peek_view(blk_bs(blk), 0, 512, seen), -EIO);
    blk_unref(blk);
    del(w, "n");
}

/* fact: qcow2 5.1/acceptances */
WORLD_TEST(test_table_beyond_file)
{
    uint8_t seen[512];
    BlockBackend *blk = open_table_at(w, 1 * TiB);
    assert_int_equal(read_view(blk, 0, 512, seen), 0);
    assert_int_equal(seen[0], 0);
    blk_unref(blk);
    del(w, "n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/read/images", test_images),
        T("/qcow2/read/random", test_random),
        T("/qcow2/read/bad/unaligned", test_unaligned),
        T("/qcow2/read/bad/unaligned-zero", test_unaligned_zero),
        T("/qcow2/read/bad/zero-in-v2", test_zero_in_v2),
        T("/qcow2/read/bad/zero-allocated-in-v2", test_zero_allocated_in_v2),
        T("/qcow2/read/bad/both-bits", test_both_bits),
        T("/qcow2/read/bad/bits-without-cluster", test_bits_without_cluster),
        T("/qcow2/read/bad/compressed-beyond", test_compressed_beyond),
        T("/qcow2/read/bad/compressed-far", test_compressed_far),
        T("/qcow2/read/bad/compressed-all-ones", test_compressed_all_ones),
        T("/qcow2/read/bad/compressed-noise", test_compressed_noise),
        T("/qcow2/read/bad/compressed-header", test_compressed_header),
        T("/qcow2/read/bad/table", test_unaligned_table),
        T("/qcow2/read/table-beyond-file", test_table_beyond_file),
        T("/qcow2/read/offset-0", test_not_placed),
        T("/qcow2/read/extended-low-bit", test_extended_low_bit),
        T("/qcow2/read/beyond-file", test_beyond_file),
    };
    return cmocka_run_group_tests_name("block/qcow2_read", tests, NULL, NULL);
}
