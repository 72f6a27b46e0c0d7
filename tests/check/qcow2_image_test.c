/* The checkers' own reader of qcow2 agrees with the tools that made twenty images, and sees every kind of damage.
 */
#include "tests/testlib.h"

#include <inttypes.h>

#include "check/qcow2_image.h"

#define VECTORS "tests/vectors/qcow2/"

static struct sim *world;

static int setup(void **state)
{
    world = sim_new();
    return 0;
}

static int teardown(void **state)
{
    sim_delete(world);
    return 0;
}

/* The image as a disk called like its file. */
static struct disk *load(const char *name)
{
    struct disk_config config;
    char file[64];
    char path[128];
    struct disk *disk;

    snprintf(file, sizeof(file), "%s.qcow2", name);
    snprintf(path, sizeof(path), VECTORS "%s", file);
    disk = disk_find(world, file);
    if (!disk) {
        disk_config_default(&config);
        disk = disk_new(world, file, &config, NULL);
        assert_non_null(disk);
        assert_int_equal(disk_load_file(disk, path, NULL), 0);
    }
    return disk;
}

static void poke(struct disk *disk, int64_t offset, const void *bytes, int64_t count)
{
    struct payload data;

    payload_init(world, &data);
    payload_append_bytes(&data, bytes, count);
    disk_poke(disk, offset, &data);
    payload_clear(&data);
}

static void poke64(struct disk *disk, int64_t offset, uint64_t value)
{
    uint8_t bytes[8];

    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(value >> (56 - 8 * i));
    }
    poke(disk, offset, bytes, 8);
}

static uint64_t peek64(const struct disk *disk, int64_t offset)
{
    uint8_t bytes[8];
    struct payload data;
    uint64_t value = 0;

    payload_init(world, &data);
    disk_peek(disk, offset, 8, &data);
    payload_read_bytes(&data, 0, bytes, 8);
    payload_clear(&data);
    for (int i = 0; i < 8; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

static struct qcow2_image *read_image(const struct disk *disk)
{
    struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(disk));

    assert_string_equal(image->error, "");
    assert_false(image->incomplete);
    return image;
}

/* --- the vectors ------------------------------------------------------------------------------------------ */

typedef void row_fn(char *field[]);

/* fn sees the fields of each line of that kind; gives how many there were. */
static unsigned each_row(const char *kind, row_fn *fn)
{
    FILE *table = fopen(VECTORS "images.tsv", "r");
    char line[512];
    unsigned rows = 0;

    assert_non_null(table);
    while (fgets(line, sizeof(line), table)) {
        char *field[16] = {NULL};
        char *at = line;

        line[strcspn(line, "\n")] = '\0';
        for (int i = 0; i < 16 && at; i++) {
            field[i] = strsep(&at, "\t");
        }
        if (strcmp(field[0], kind) == 0) {
            fn(field);
            rows++;
        }
    }
    fclose(table);
    return rows;
}

static void judge_image(char *field[])
{
    char hex[QCOW2_SHA256_HEX];
    char name[64];
    Error *err = NULL;

    snprintf(name, sizeof(name), "%s.qcow2", field[1]);
    load("backing-base-4k");
    load(field[1]);
    struct qcow2_chain *chain = qcow2_chain_open(world, name, NULL, &err);
    assert_non_null(chain);
    struct qcow2_image *image = qcow2_chain_image(chain);
    print_message("%s\n", field[1]);
    assert_int_equal(image->size, atoll(field[4]));
    assert_int_equal(image->corruptions, atoll(field[7]));
    assert_int_equal(image->leaks, atoll(field[8]));
    assert_int_equal(image->image_end, atoll(field[10]));
    assert_int_equal(image->allocated_clusters, atoll(field[11]));
    assert_int_equal(image->compressed_clusters, atoll(field[12]));
    assert_false(image->incomplete);
    qcow2_image_test_compressed(image);
    assert_int_equal(image->found[QCOW2_FOUND_COMPRESSED_DATA], 0);
    assert_int_equal(image->found[QCOW2_FOUND_OVERLAP], 0);
    assert_int_equal(image->found[QCOW2_FOUND_COPIED_SHARED], 0);
    assert_true(qcow2_chain_sha256(chain, QCOW2_ACTIVE, hex));
    assert_string_equal(hex, field[5]);
    qcow2_chain_free(chain);
}

static void test_images(void **state)
{
    assert_int_equal(each_row("image", judge_image), 20);
}

static void judge_snapshot(char *field[])
{
    char hex[QCOW2_SHA256_HEX];
    char name[64];
    int index = 0;

    snprintf(name, sizeof(name), "%s.qcow2", field[1]);
    load(field[1]);
    struct qcow2_chain *chain = qcow2_chain_open(world, name, "qcow2", NULL);
    struct qcow2_image *image = qcow2_chain_image(chain);
    while (strcmp(image->snapshot[index].name, field[2]) != 0) {
        index++;
        assert_true(index < (int)image->snapshot_count);
    }
    assert_true(qcow2_chain_sha256(chain, index, hex));
    assert_string_equal(hex, field[3]);
    qcow2_chain_free(chain);
}

static void test_snapshots(void **state)
{
    assert_int_equal(each_row("snapshot", judge_snapshot), 3);
}

static void judge_bitmap(char *field[])
{
    char hex[QCOW2_SHA256_HEX];
    struct qcow2_image *image = read_image(load(field[1]));
    const struct qcow2_image_bitmap *b = qcow2_image_bitmap_find(image, field[2]);

    assert_non_null(b);
    assert_int_equal((int64_t)1 << b->granularity_bits, atoll(field[3]));
    assert_int_equal(b->in_use, strcmp(field[6], "true") == 0);
    assert_int_equal(b->enabled && !b->in_use, strcmp(field[5], "true") == 0);
    assert_int_equal(qcow2_image_bitmap_count(image, b), atoll(field[4]));
    qcow2_image_bitmap_sha256(image, b, hex);
    if (strcmp(field[2], "ones") == 0) {
        /* theirs shows bits that do not exist (1.6, [HOLE]): ours are those of the disk, and it is told */
        assert_int_equal(image->found[QCOW2_FOUND_BITMAP_TAIL], 1);
    } else {
        assert_string_equal(hex, field[7]);
        assert_int_equal(image->found[QCOW2_FOUND_BITMAP_TAIL], 0);
    }
    qcow2_image_free(image);
}

static void test_bitmaps(void **state)
{
    assert_int_equal(each_row("bitmap", judge_bitmap), 9);
}

/* --- damage ----------------------------------------------------------------------------------------------- */

#define COPIED UINT64_C(0x8000000000000000)
#define COMPRESSED UINT64_C(0x4000000000000000)

/* One word of an image is changed, and that is found so many times. Places in the images: header 0, refcount table,
 * refcount block, L1, then L2, data as images.tsv's tools laid them out. */
struct damage {
    const char *image;
    int64_t offset;
    uint64_t value;
    enum qcow2_finding_kind kind;
    uint64_t times;
    int64_t at; /* of the first finding of the kind */
};

static const struct damage damages[] = {
    {"v3-data-4k", 0x4008, 0, QCOW2_FOUND_LEAK, 1, 0x6000},
    {"v3-data-4k", 0x2008, 0x0001000000010001, QCOW2_FOUND_COUNT_LOW, 1, 0x5000},
    {"v3-data-4k", 0x2008, 0x0001000000010001, QCOW2_FOUND_COPIED, 1, 0x4000},
    {"v3-data-4k", 0x2008, 0x0001000200010001, QCOW2_FOUND_LEAK, 1, 0x5000},
    {"v3-data-4k", 0x2000, 0x0000000100010001, QCOW2_FOUND_COUNT_LOW, 1, 0},
    {"v3-data-4k", 0x1000, 0, QCOW2_FOUND_COUNT_LOW, 9, 0}, /* no block, so none is counted, nor needs to be */
    {"v3-data-4k", 0x1008, 0x2000, QCOW2_FOUND_BLOCK_SHARED, 1, 0x1008},
    {"v3-data-4k", 0x4000, COPIED | 0x2000, QCOW2_FOUND_BLOCK_SHARED, 1, 0x1000},
    {"v3-data-4k", 0x4000, 0x5000, QCOW2_FOUND_COPIED, 1, 0x4000},
    {"v3-data-4k", 0x3000, 0x4000, QCOW2_FOUND_COPIED, 1, 0x3000},
    {"snapshots-4k", 0x2008, 0x0001000200010002, QCOW2_FOUND_COUNT_LOW, 1, 0x7000},
    {"snapshots-4k", 0xa010, COPIED | 0x7000, QCOW2_FOUND_COPIED, 1, 0xa010},
    {"snapshots-4k", 0xa010, COPIED | 0x7000, QCOW2_FOUND_COPIED_SHARED, 1, 0xa010},
    {"v3-data-4k", 0x3000, COPIED | COMPRESSED | 0x4000, QCOW2_FOUND_RESERVED, 1, 0x3000},
    {"v3-data-4k", 0x4000, COPIED | 0x5002, QCOW2_FOUND_RESERVED, 1, 0x4000},
    {"v3-data-4k", 0x1000, 0x2001, QCOW2_FOUND_RESERVED, 1, 0x1000},
    {"extl2-16k", 0x10000, COPIED | 0x14001, QCOW2_FOUND_ZERO_IN_V2, 1, 0x10000},
    {"v3-data-4k", 0x4000, COPIED | 0x5200, QCOW2_FOUND_UNALIGNED, 1, 0x4000},
    {"v3-data-4k", 0x3000, COPIED | 0x4200, QCOW2_FOUND_UNALIGNED, 1, 0x3000},
    {"v3-data-4k", 0x1000, 0x2200, QCOW2_FOUND_UNALIGNED, 1, 0x1000},
    {"v3-data-4k", 0x4000, COPIED | 0xa000, QCOW2_FOUND_BEYOND_END, 1, 0x4000},
    {"v3-data-4k", 0x3000, COPIED | 0xa000, QCOW2_FOUND_BEYOND_END, 1, 0x3000},
    {"v3-data-4k", 0x1008, 0xfffffff000, QCOW2_FOUND_BEYOND_END, 1, 0x1008},
    {"compressed-zlib-16k", 0x10000, COPIED | COMPRESSED | 0x14000, QCOW2_FOUND_COMPRESSED_FLAG, 1, 0x10000},
    {"extl2-16k", 0x10038, 1, QCOW2_FOUND_COMPRESSED_FLAG, 1, 0x10030},
    {"extl2-16k", 0x10008, 0x6fffffffb, QCOW2_FOUND_SUBCLUSTERS, 1, 0x10000},
    {"extl2-16k", 0x10058, 1, QCOW2_FOUND_SUBCLUSTERS, 1, 0x10050},
    {"v2-data-4k", 0x4000, 1, QCOW2_FOUND_ZERO_IN_V2, 1, 0x4000},
    {"v3-data-4k", 72, 4, QCOW2_FOUND_DATA_OFFSET, 5, 0x4000},
    {"compressed-zlib-16k", 72, 4, QCOW2_FOUND_DATA_FILE, 2, 0x10000},
    {"snapshots-4k", 0xe000, 0x9200, QCOW2_FOUND_SNAPSHOT, 1, 0xe000},
    {"snapshots-4k", 0xe000, 0x12000, QCOW2_FOUND_BEYOND_END, 1, 0xe000},
    {"bitmaps-clean-4k", 0xe008, 0x0000000100000008, QCOW2_FOUND_BITMAPS, 1, 0xe000},
    {"bitmaps-clean-4k", 0xe008, 0x0000000200000002, QCOW2_FOUND_BITMAPS, 1, 0xe000},
    {"bitmaps-clean-4k", 0xe000, 0x5200, QCOW2_FOUND_BITMAPS, 1, 0xe000},
    {"bitmaps-clean-4k", 0x5000, 2, QCOW2_FOUND_BITMAPS, 1, 0x5000},
    {"bitmaps-clean-4k", 0x78, 0x0000000400000001, QCOW2_FOUND_BITMAPS, 1, 0x78},
    {"bitmaps-clean-4k", 0xe000, 0x7000, QCOW2_FOUND_OVERLAP, 1, 0x7000},
    {"v3-data-4k", 0x4000, COPIED | 0x1000, QCOW2_FOUND_OVERLAP, 1, 0x1000},
    {"v3-data-4k", 0x4000, COPIED | 0x6000, QCOW2_FOUND_OVERLAP, 1, 0x6000},
    {"v3-data-4k", 40, 0x2000, QCOW2_FOUND_OVERLAP, 1, 0x2000},
    {"compressed-zlib-16k", 0x10020, COPIED | 0x14000, QCOW2_FOUND_OVERLAP, 1, 0x14000},
    {"compressed-zlib-16k", 0x14000, UINT64_MAX, QCOW2_FOUND_COMPRESSED_DATA, 1, 0x10000},
    {"compressed-zstd-4k", 0x5000, UINT64_MAX, QCOW2_FOUND_COMPRESSED_DATA, 1, 0x4000},
};

static const struct qcow2_finding *first_of(const struct qcow2_image *image, enum qcow2_finding_kind kind)
{
    for (uint32_t i = 0; i < image->finding_count; i++) {
        if (image->finding[i].kind == kind) {
            return &image->finding[i];
        }
    }
    return NULL;
}

static void test_damage(void **state)
{
    unsigned wrong = 0;

    for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
        const struct damage *d = &damages[i];
        struct disk *disk = load(d->image);
        uint64_t was = peek64(disk, d->offset);

        poke64(disk, d->offset, d->value);
        struct qcow2_image *image = read_image(disk);
        qcow2_image_test_compressed(image);
        const struct qcow2_finding *found = first_of(image, d->kind);
        if (image->found[d->kind] != d->times || !found || found->at != d->at || !qcow2_image_judge(image, 0)) {
            print_error("row %zu (%s): %s %" PRIu64 " times, first at %#" PRIx64 ": %s\n", i, d->image,
                        qcow2_finding_name(d->kind), image->found[d->kind], found ? (uint64_t)found->at : 0,
                        found ? found->text : "-");
            wrong++;
        }
        qcow2_image_free(image);
        poke64(disk, d->offset, was);
    }
    assert_int_equal(wrong, 0);
}

/* Every kind has a row above, or a test below. */
static void test_damage_is_complete(void **state)
{
    for (int kind = 0; kind < QCOW2_FOUND_KINDS; kind++) {
        bool planted = kind == QCOW2_FOUND_BITMAP_TAIL; /* /qcow2-image/vectors/bitmaps */

        for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
            planted |= damages[i].kind == (enum qcow2_finding_kind)kind;
        }
        assert_true(planted);
    }
}

/* Both are said of one entry: the second is what real checks count. */
static void test_data_file_elsewhere_and_shared(void **state)
{
    struct disk *disk = load("v3-data-4k");

    poke64(disk, 72, 4);
    poke64(disk, 0x4000, 0x5000);
    struct qcow2_image *image = read_image(disk);
    assert_int_equal(image->found[QCOW2_FOUND_DATA_OFFSET], 5);
    assert_int_equal(image->found[QCOW2_FOUND_DATA_FILE], 1);
    assert_int_equal(image->corruptions, 1);
    qcow2_image_free(image);
}

static void test_leak_past_the_end(void **state)
{
    struct disk *disk = load("v3-data-4k");

    poke64(disk, 0x2010, 0x0001000100010001); /* the image ends with cluster 9 */
    struct qcow2_image *image = read_image(disk);
    assert_int_equal(image->leaks, 0);
    assert_int_equal(image->hidden_leaks, 2);
    qcow2_image_free(image);
}

static void test_judge(void **state)
{
    struct qcow2_image *image = read_image(load("lazy-dirty-4k"));

    assert_true(image->dirty);
    assert_non_null(qcow2_image_judge(image, 0));
    assert_non_null(qcow2_image_judge(image, QCOW2_ALLOW_LEAKS));
    assert_null(qcow2_image_judge(image, QCOW2_ALLOW_DIRTY));
    qcow2_image_free(image);

    image = read_image(load("leaks-unaligned-4k"));
    assert_non_null(qcow2_image_judge(image, 0));
    assert_null(qcow2_image_judge(image, QCOW2_ALLOW_LEAKS));
    qcow2_image_free(image);

    /* a dirty bit excuses no shared cluster that would be written in place */
    struct disk *disk = load("snapshots-4k");
    poke64(disk, 72, 1);
    poke64(disk, 0xa010, COPIED | 0x7000);
    image = read_image(disk);
    assert_int_equal(qcow2_image_judge(image, QCOW2_ALLOW_DIRTY | QCOW2_ALLOW_LEAKS | QCOW2_ALLOW_COPIED)->kind,
                     QCOW2_FOUND_COPIED_SHARED);
    qcow2_image_free(image);
}

/* --- strangers -------------------------------------------------------------------------------------------- */

static void test_no_image(void **state)
{
    static const struct {
        int64_t offset;
        uint64_t value;
        const char *error;
    } rows[] = {
        {0, 0, "no qcow2 magic"},
        {0, UINT64_C(0x514649fb00000004), "version 4"},
        {16, 22, "clusters of 2^22 bytes"},
        {56, UINT64_C(0x0000008100000000), "the refcount table is too large: 129 clusters"},
        {72, 32, "unknown incompatible features: 0x20"},
        {96, UINT64_C(0x0000000700000070), "refcount order 7"},
        {24, UINT64_C(1) << 40, "the L1 table of 1 entries is too small for 1099511627776 bytes"},
        {40, 0x30200, "the L1 table cannot be at 0x30200"},
        {112, UINT64_C(0x6803f85700010000), "header extension 6803f857 of 65536 bytes does not fit in"},
        {60, UINT64_C(0x0001000100000000), "65537 snapshots"},
    };
    struct disk *disk = load("v3-empty-64k");

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        uint64_t was = peek64(disk, rows[i].offset);

        poke64(disk, rows[i].offset, rows[i].value);
        struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(disk));
        assert_string_equal(image->error, rows[i].error);
        qcow2_image_free(image);
        poke64(disk, rows[i].offset, was);
    }
}

/* 65536 L1 entries lead to the same table of 262144 entries: 2^34 entries, which nobody looks at. */
static void test_bounded(void **state)
{
    struct disk_config config;
    const int64_t cluster = 2 * MiB;
    uint8_t *l1 = malloc((size_t)cluster);

    disk_config_default(&config);
    struct disk *disk = disk_new(world, "hostile", &config, NULL);
    memset(l1, 0, (size_t)cluster);
    poke(disk, 5 * cluster - 8, l1, 8);
    poke64(disk, 0, UINT64_C(0x514649fb00000003));
    poke64(disk, 16, 21);
    poke64(disk, 32, 65536);
    poke64(disk, 40, (uint64_t)cluster);
    poke64(disk, 48, (uint64_t)(2 * cluster));
    poke64(disk, 56, UINT64_C(1) << 32);
    poke64(disk, 96, UINT64_C(0x0000000400000070));
    for (int i = 0; i < 65536; i++) {
        memcpy(l1 + (size_t)i * 8, "\x80\0\0\0\0\x60\0\0", 8); /* the fourth cluster */
    }
    poke(disk, cluster, l1, cluster);
    free(l1);
    struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(disk));
    assert_string_equal(image->error, "");
    assert_true(image->incomplete);
    qcow2_image_free(image);
}

/* Whatever single words somebody writes into real images, the reader ends and reads nothing that is not there. */
static void test_scribbled(void **state)
{
    static const char *const images[] = {"extl2-16k", "snapshots-4k", "bitmaps-clean-4k", "compressed-zstd-4k",
                                         "refcount1-4k"};
    uint64_t draw = 1;

    for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
        struct disk *disk = load(images[i]);

        for (int round = 0; round < 60; round++) {
            int64_t offset = (int64_t)((draw = sim_mix64(draw)) % (round % 2 ? 256 : disk_length(disk) / 8)) * 8;
            uint64_t was = peek64(disk, offset);
            uint64_t bits = sim_mix64(draw + 1) & sim_mix64(draw + 2) & sim_mix64(draw + 3);

            poke64(disk, offset, was ^ bits);
            struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(disk));
            if (!image->error[0]) {
                struct payload data;

                payload_init(world, &data);
                qcow2_image_test_compressed(image);
                qcow2_image_view(image, QCOW2_ACTIVE, 0, 512 * KiB, NULL, NULL, &data);
                assert_int_equal(data.size_bytes, 512 * KiB);
                payload_clear(&data);
                for (uint32_t b = 0; b < image->bitmap_count && image->bitmap[b].bits < 1 << 20; b++) {
                    qcow2_image_bitmap_count(image, &image->bitmap[b]);
                }
            }
            qcow2_image_free(image);
            poke64(disk, offset, was);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/qcow2-image/vectors/images", test_images, setup, teardown),
        T_SETUP("/qcow2-image/vectors/snapshots", test_snapshots, setup, teardown),
        T_SETUP("/qcow2-image/vectors/bitmaps", test_bitmaps, setup, teardown),
        T_SETUP("/qcow2-image/damage/found", test_damage, setup, teardown),
        T_SETUP("/qcow2-image/damage/every-kind", test_damage_is_complete, setup, teardown),
        T_SETUP("/qcow2-image/data-file-elsewhere-and-shared", test_data_file_elsewhere_and_shared, setup, teardown),
        T_SETUP("/qcow2-image/damage/leak-past-the-end", test_leak_past_the_end, setup, teardown),
        T_SETUP("/qcow2-image/damage/judge", test_judge, setup, teardown),
        T_SETUP("/qcow2-image/strangers/no-image", test_no_image, setup, teardown),
        T_SETUP("/qcow2-image/strangers/bounded", test_bounded, setup, teardown),
        T_SETUP("/qcow2-image/strangers/scribbled", test_scribbled, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
