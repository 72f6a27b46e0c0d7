/* Protects what a new qcow2 image looks like, what cannot be made, and that no half of one looks whole (5.9). */
#include "tests/block/qcow2_lib.h"

#include <stdlib.h>
#include <unistd.h>

/* --- layout ------------------------------------------------------------------------------------------------------
 */

/* fact: qcow2 5.9/layout, 5.9/defaults, edge/38 */
WORLD_TEST(test_same_bytes)
{
    size_t bytes;
    uint8_t *vector = read_vector("v3-empty-64k.qcow2", &bytes);
    struct disk *disk = make_image(w, "d", "{'size':'64M'}");
    uint8_t *ours = calloc(1, bytes);

    assert_int_equal(disk_length(disk), ROUND_UP(bytes, (size_t)512)); /* media have sectors */
    peek(w, disk, 0, ours, bytes);
    assert_memory_equal(ours, vector, bytes);
    free(ours);
    free(vector);
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");
    expect_bytes(bs, 0, 64 * MiB - 65536, 65536); /* beyond the end of the file */
    expect_clean(bs);
    del(w, "n");
}

/* The file as the original leaves it: a later write of one cluster makes no difference between the two. */
/* fact: qcow2 5.9/prealloc-metadata */
WORLD_TEST(test_prealloc_metadata)
{
    size_t bytes;
    uint8_t *vector = read_vector("prealloc-meta-16k.qcow2", &bytes);
    struct disk *disk = make_image(w, "d", "{'size':65536,'cluster-size':16384,'preallocation':'metadata'}");
    uint8_t *ours = calloc(1, bytes);
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");

    expect_bytes(bs, 0, 0, 65536);
    assert_int_equal(guest_write(bs, 0x0a, 20480, 1024), 0);
    expect_clean(bs);
    del(w, "n");
    assert_int_equal(disk_length(disk), bytes);
    peek(w, disk, 0, ours, bytes);
    assert_memory_equal(ours, vector, bytes);
    free(ours);
    free(vector);
}

/* fact: qcow2 edge/37, 5.9/defaults */
WORLD_TEST(test_rounded_up)
{
    struct disk *disk = make_image(w, "d", "{'size':1000001}");

    assert_int_equal(peek_be(w, disk, 24, 8), 1000448);
    make_image(w, "none", "{'size':0}");
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("none") "}");
    assert_int_equal(bdrv_getlength_cached(bs), 0);
    expect_clean(bs);
    del(w, "n");
}

/* --- every combination that can be made is whole -------------------------------------------------------------- */

static const char *const sizes[] = {"0", "512", "1000448", "67108864", "4398046511104"};
static const char *const shapes[] = {
    "'cluster-size':512",
    "'cluster-size':512,'refcount-bits':1",
    "'cluster-size':4096,'refcount-bits':64",
    "'cluster-size':4096,'version':'v2'",
    "'lazy-refcounts':true,'refcount-bits':2",
    "'extended-l2':true,'refcount-bits':4",
    "'cluster-size':16384,'extended-l2':true,'compression-type':'zstd'",
    "'cluster-size':2097152,'refcount-bits':8",
    "'cluster-size':2097152,'refcount-bits':32,'version':'v3'",
    "'backing-file':'base','backing-fmt':'raw','version':'v2'",
    "'cluster-size':4096,'backing-file':'base','backing-fmt':'raw'",
};
static const char *const fills[] = {"off", "metadata", "falloc", "full"};

static void write_host_file(struct world *w, struct disk *disk, const char *path)
{
    size_t bytes = (size_t)disk_length(disk);
    uint8_t *data = calloc(1, bytes + 1);
    FILE *f = fopen(path, "wb");

    peek(w, disk, 0, data, bytes);
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
    free(data);
}

/* The judge that shares nothing with us; true: it is there and content. */
static bool judge(const char *path)
{
    char command[512];

    snprintf(command, sizeof(command), "qemu-img check -q -f qcow2 '%s' >/dev/null 2>&1", path);
    return system(command) == 0; /* NOLINT */
}

static void check_combination(struct world *w, unsigned number, const char *shape, const char *size,
                              const char *fill, const char *path)
{
    bool backed = strstr(shape, "backing") != NULL;
    bool filled = strcmp(fill, "off") != 0;
    char name[32], text[256];

    if ((backed || strlen(size) > 8) && filled) {
        return;
    }
    if (strlen(size) > 8 && strstr(shape, ":512") != NULL) {
        return; /* the L1 table would be too large */
    }
    snprintf(name, sizeof(name), "d%u", number);
    snprintf(text, sizeof(text), "{'size':%s,%s,'preallocation':'%s'}", size, shape, fill);
    struct disk *disk = make_image(w, name, text);
    snprintf(text, sizeof(text),
             "{'node-name':'n','driver':'qcow2','backing':null,'file':{'driver':'disk','disk':'%s'}}", name);
    BlockDriverState *bs = add(w, text);
    assert_int_equal(bdrv_getlength_cached(bs), strtoll(size, NULL, 10));
    expect_clean(bs);
    if (bdrv_getlength_cached(bs) > 0) {
        expect_bytes(bs, 0, bdrv_getlength_cached(bs) - 512, 512);
    }
    del(w, "n");
    if (path && !backed && disk_length(disk) < 8 * MiB) { /* the base is only here */
        write_host_file(w, disk, path);
        if (!judge(path)) {
            fail_msg("qemu-img check objects to %s, %s, %s", shape, size, fill);
        }
        unlink(path);
    }
}

/* fact: qcow2 5.9/layout, 5.9/prealloc-full, 5.3/widths, 5.9/prealloc-extl2 */
WORLD_TEST(test_matrix)
{
    char path[64];
    unsigned number = 0;
    bool judged = system("qemu-img --version >/dev/null 2>&1") == 0; /* NOLINT */

    snprintf(path, sizeof(path), "/tmp/qcow2_create_test.%d", (int)getpid());
    if (!judged) {
        print_message("qemu-img is not here: nobody else judges the images\n");
    }
    for (unsigned s = 0; s < ARRAY_SIZE(shapes); s++) {
        for (unsigned z = 0; z < ARRAY_SIZE(sizes); z++) {
            for (unsigned f = 0; f < ARRAY_SIZE(fills); f++) {
                check_combination(w, number++, shapes[s], sizes[z], fills[f], judged ? path : NULL);
            }
        }
    }
}

/* fact: qcow2 5.9/prealloc-full */
WORLD_TEST(test_prealloc_full)
{
    struct disk *sparse = make_image(w, "m", "{'size':1048576,'preallocation':'metadata'}");
    struct disk *full = make_image(w, "f", "{'size':1048576,'preallocation':'full'}");
    struct disk *falloc = make_image(w, "a", "{'size':1048576,'preallocation':'falloc'}");

    assert_true(disk_allocated_bytes(sparse) < MiB);
    assert_true(disk_allocated_bytes(full) >= MiB);
    assert_true(disk_allocated_bytes(falloc) >= MiB);
}

/* --- refusals ----------------------------------------------------------------------------------------------------
 */

/* fact: qcow2 5.9/backing-format, 5.9/max-size, 5.1/version-2, 5.9/prealloc-extl2 */
WORLD_TEST(test_refused)
{
    static const struct {
        const char *options;
        const char *text;
    } rows[] = {
        {"'size':1048576,'cluster-size':256", "Cluster size must be a power of two between 512 and 2048k"},
        {"'size':1048576,'cluster-size':4194304", "Cluster size must be a power of two between 512 and 2048k"},
        {"'size':1048576,'cluster-size':65537", "Cluster size must be a power of two between 512 and 2048k"},
        {"'size':1048576,'refcount-bits':3", "Refcount width must be a power of two and may not exceed 64 bits"},
        {"'size':1048576,'refcount-bits':128", "Refcount width must be a power of two and may not exceed 64 bits"},
        {"'size':1048576,'refcount-bits':8,'version':'v2'", "Different refcount widths than 16 bits"},
        {"'size':1048576,'lazy-refcounts':true,'version':'v2'",
         "Lazy refcounts only supported with compatibility level"},
        {"'size':1048576,'extended-l2':true,'version':'v2'",
         "Extended L2 entries are only supported with compatibility"},
        {"'size':1048576,'extended-l2':true,'cluster-size':8192", "cluster sizes of at least 16384 bytes"},
        {"'size':1048576,'compression-type':'zstd','version':'v2'", "Non-zlib compression type is only supported"},
        {"'size':1048576,'compression-type':'lzo'", "does not accept value 'lzo'"},
        {"'size':1048576,'backing-file':'b'", "Backing file specified without backing format"},
        {"'size':1048576,'backing-fmt':'raw'", "Backing format cannot be used without backing file"},
        {"'size':1048576,'backing-file':'b','backing-fmt':'nonsense'", "Unknown backing file format 'nonsense'"},
        {"'size':1048576,'backing-file':'b','backing-fmt':'raw','preallocation':'metadata'",
         "Backing file and preallocation can only be used at the same time if extended_l2 is enabled"},
        {"'size':1048576,'data-file-raw':true", "data-file-raw requires data-file"},
        {"'size':137438953984,'cluster-size':512", "too large for file format 'qcow2'"},
        {"'size':-1", "size"},
        {"'size':1048576,'cluster_size':65536", "Parameter 'cluster_size' is unexpected"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char name[16], text[256];
        snprintf(name, sizeof(name), "d%zu", i);
        snprintf(text, sizeof(text), "{%s}", rows[i].options);
        struct disk *disk = make_disk(w, name, 0);
        Error *err = NULL;
        assert_true(try_create(w, name, text, &err) < 0);
        expect_error(&err, rows[i].text);
        assert_int_equal(disk_length(disk), 0);
    }
    make_image(w, "max", "{'size':137438953472,'cluster-size':512}"); /* 128 GiB exactly */
}

/* A backing name that does not fit is found before the file is touched. */
/* fact: qcow2 5.1/fits */
WORLD_TEST(test_header_full)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576}");
    uint64_t before = content_of(w, disk);
    Error *err = NULL;
    char text[1024], name[420];

    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = 0;
    snprintf(text, sizeof(text), "{'size':1048576,'cluster-size':512,'backing-fmt':'raw','backing-file':'%s'}",
             name);
    assert_int_equal(try_create(w, "d", text, &err), -ENOSPC);
    expect_error(&err, "does not fit into a cluster");
    assert_true(content_of(w, disk) == before);
}

/* --- half-way ----------------------------------------------------------------------------------------------------
 */

/* The power goes: what comes after so many effects has none. */
struct lose_after {
    struct disk_interposer interposer;
    unsigned left;
    unsigned seen;
};

static void lose(struct disk_interposer *self, struct disk_req *req)
{
    struct lose_after *l = container_of(self, struct lose_after, interposer);

    if (req->op == SIM_OP_READ || req->op == SIM_OP_FLUSH) {
        return;
    }
    l->seen++;
    if (l->left > 0) {
        l->left--;
    } else {
        req->lose = true;
    }
}

/* Over an image of 2 MiB, one of 1 MiB: how many effects that has. */
static unsigned create_until(struct world *w, bool device, unsigned effects)
{
    struct lose_after l = {.interposer = {.at_effect = lose}, .left = effects};
    struct disk_config config;
    Error *err = NULL;
    char name[32], text[128];

    disk_config_default(&config);
    config.size_bytes = device ? 4 * MiB : 0;
    config.type = device ? DISK_DEVICE : DISK_FILE;
    snprintf(name, sizeof(name), "%s%u", device ? "dev" : "file", effects);
    struct disk *disk = disk_new(w->sim, name, &config, NULL);
    assert_int_equal(try_create(w, name, "{'size':2097152,'preallocation':'metadata'}", &err), 0);
    disk_add_interposer(disk, &l.interposer);
    try_create(w, name, "{'size':1048576,'backing-file':'base','backing-fmt':'raw'}", NULL);
    disk_remove_interposer(disk, &l.interposer);
    snprintf(text, sizeof(text),
             "{'node-name':'n','backing':null,'driver':'qcow2','file':{'driver':'disk','disk':'%s'}}", name);
    BlockDriverState *bs = try_add(w, text, &err);
    if (bs) {
        bool is_new = bdrv_getlength_cached(bs) == MiB;
        assert_true(is_new || bdrv_getlength_cached(bs) == 2 * MiB);
        assert_true(!is_new || strcmp(bdrv_backing_filename(bs), "base") == 0);
        expect_clean(bs);
        del(w, "n");
    } else {
        expect_error(&err, "Image is not in qcow2 format");
    }
    return l.seen;
}

/* fact: qcow2 6/opens */
WORLD_TEST(test_half_way)
{
    for (unsigned device = 0; device < 2; device++) {
        unsigned all = create_until(w, device, 1000);
        assert_true(all > 3 && all < 1000);
        for (unsigned i = 0; i < all; i++) {
            create_until(w, device, i);
        }
    }
}

/* --- external data files
 * ------------------------------------------------------------------------------------------ */

/* fact: qcow2 5.9/data-file-raw, 5.2/data-file-raw */
WORLD_TEST(test_data_file)
{
    make_disk(w, "data", 0);
    struct disk *disk =
        make_image(w, "d", "{'size':1048576,'data-file':{'driver':'disk','disk':'data'},'data-file-raw':true}");

    assert_int_equal(peek_be(w, disk, 72, 8), QCOW2_INCOMPAT_DATA_FILE);
    assert_int_equal(peek_be(w, disk, 88, 8), QCOW2_AUTOCLEAR_DATA_FILE_RAW);
    assert_int_equal(disk_length(disk_find(w->sim, "data")), MiB);
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}"); /* found by its name */
    assert_int_equal(guest_write(bs, 0x77, 300 * KiB, 4096), 0);
    expect_bytes(bs, 0x77, 300 * KiB, 4096);
    assert_int_equal(peek_be(w, disk_find(w->sim, "data"), 300 * KiB, 4), 0x77777777);
    expect_clean(bs);
    del(w, "n");
}

/* Alone it is the disk, which need not end with a cluster. */
/* fact: qcow2 5.9/data-file-raw */
WORLD_TEST(test_raw_length)
{
    struct disk *data = make_disk(w, "data", 0);

    make_image(w, "d", "{'size':1047552,'data-file':{'driver':'disk','disk':'data'},'data-file-raw':true}");
    assert_int_equal(disk_length(data), 1047552);
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") ",'data-file':{'driver':'disk','disk':'data'}}");
    assert_int_equal(guest_truncate(bs, 1050112, PREALLOC_METADATA, NULL), 0);
    assert_int_equal(disk_length(data), 1050112);
    assert_int_equal(guest_do(bs, (struct guest_call){.op = GUEST_ZERO, .offset = 1048576, .bytes = 1536}), 0);
    assert_int_equal(guest_write(bs, 0x77, 1048576, 512), 0);
    assert_int_equal(disk_length(data), 1050112);
    expect_clean(bs);
    del(w, "n");
}

/* fact: qcow2 5.2/data-file */
WORLD_TEST(test_data_file_options)
{
    Error *err = NULL;

    make_disk(w, "data", 0);
    make_disk(w, "raw", MiB);
    make_image(w, "d", "{'size':1048576,'data-file':{'driver':'disk','disk':'data'}}");
    make_image(w, "plain", "{'size':1048576}");
    assert_null(
        try_add(w, "{'node-name':'n'," Q_FILE("plain") ",'data-file':{'driver':'disk','disk':'raw'}}", &err));
    expect_error(&err, "'data-file' can only be set for images with an external data file");
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") ",'data-file':{'driver':'disk','disk':'raw'}}");
    assert_int_equal(guest_write(bs, 0x78, 0, 4096), 0);
    del(w, "n");
    assert_int_equal(peek_be(w, disk_find(w->sim, "raw"), 0, 4), 0x78787878);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/create/same-bytes", test_same_bytes),
        T("/qcow2/create/prealloc-metadata", test_prealloc_metadata),
        T("/qcow2/create/rounded-up", test_rounded_up),
        T("/qcow2/create/matrix", test_matrix),
        T("/qcow2/create/prealloc-full", test_prealloc_full),
        T("/qcow2/create/refused", test_refused),
        T("/qcow2/create/header-full", test_header_full),
        T("/qcow2/create/half-way", test_half_way),
        T("/qcow2/create/data-file", test_data_file),
        T("/qcow2/create/raw-length", test_raw_length),
        T("/qcow2/create/data-file-options", test_data_file_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
