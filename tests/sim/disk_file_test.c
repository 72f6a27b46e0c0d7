/* Protects: options of a disk are understood or refused, and host files come and go without loss. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sim/disk.h"

struct fixture {
    struct sim *sim;
    char dir[64];
    char path[128];
    char other[128];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    strcpy(f->dir, "/tmp/blksim-disk-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/a", f->dir);
    snprintf(f->other, sizeof(f->other), "%s/b", f->dir);
    f->sim = sim_new();
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    sim_delete(f->sim);
    unlink(f->path);
    unlink(f->other);
    rmdir(f->dir);
    free(f);
    return 0;
}

static bool parse(const char *json, struct disk_config *config, Error **errp)
{
    struct qvalue *dict = qvalue_from_json(json, strlen(json), NULL);

    assert_non_null(dict);
    bool ok = disk_config_parse(dict, config, errp);
    qvalue_free(dict);
    return ok;
}

static void test_options(void **state)
{
    struct disk_config config;

    assert_true(parse("{}", &config, NULL));
    assert_int_equal(config.latency_ns, 50000);
    assert_int_equal(config.queue_depth, 32);
    assert_true(parse("{\"type\": \"device\", \"size\": \"1T\", \"capacity\": \"20M\", \"align\": \"4k\","
                      " \"alloc-unit\": 65536, \"atomic\": \"4k\", \"latency\": \"1ms\", \"per-kib\": 7,"
                      " \"queue-depth\": \"4\", \"write-cache\": \"off\", \"discard\": true,"
                      " \"write-zeroes\": \"off\", \"content\": \"hole\", \"max-transfer\": \"64k\"}",
                      &config, NULL));
    assert_int_equal(config.type, DISK_DEVICE);
    assert_int_equal(config.size_bytes, TiB);
    assert_int_equal(config.align_bytes, 4096);
    assert_int_equal(config.latency_ns, NS_PER_MS);
    assert_int_equal(config.latency_per_kib_ns, 7);
    assert_false(config.volatile_cache);
    assert_true(config.can_discard);
    assert_false(config.can_write_zeroes);
    assert_int_equal(config.max_transfer_bytes, 65536);
}

static void test_options_refused(void **state)
{
    static const struct {
        const char *json;
        const char *message;
    } cases[] = {
        {"{\"colour\": 1}", "Parameter 'colour' is unexpected"},
        {"{\"type\": \"tape\"}", "Parameter 'type' expects 'file' or 'device'"},
        {"{\"size\": -1}", "Parameter 'size' expects a size of at most 1E"},
        {"{\"size\": \"4X\"}", "Parameter 'size' expects a size of at most 1E"},
        {"{\"align\": 768}", "Parameter 'align' expects a power of two from 1 to 4096"},
        {"{\"alloc-unit\": 512}", "Parameter 'alloc-unit' expects a power of two from 4k to 1M"},
        {"{\"latency\": \"soon\"}", "Parameter 'latency' expects a time such as 50us, at most 3600s"},
        {"{\"queue-depth\": 0}", "Parameter 'queue-depth' expects an integer from 1 to 1024"},
        {"{\"discard\": \"maybe\"}", "Parameter 'discard' expects 'on' or 'off'"},
        {"{\"capacity\": \"2k\"}", "Parameter 'capacity' expects 0 (no limit) or at least one 'alloc-unit'"},
        {"{\"max-transfer\": \"512\"}",
         "Parameter 'max-transfer' expects 0 (no limit) or at least 4k, a multiple of 'align'"},
        {"{\"max-transfer\": 5000}",
         "Parameter 'max-transfer' expects 0 (no limit) or at least 4k, a multiple of 'align'"},
        {"{\"content\": \"stamp\", \"size\": \"2M\", \"capacity\": \"1M\"}",
         "Parameter 'capacity' expects room for all of 'size' with content=stamp"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct disk_config config;
        Error *err = NULL;
        assert_false(parse(cases[i].json, &config, &err));
        assert_string_equal(error_get_pretty(err), cases[i].message);
        error_free(err);
        assert_false(parse(cases[i].json, &config, NULL));
    }
}

static void test_name_in_use(void **state)
{
    struct fixture *f = *state;
    struct disk_config config;
    Error *err = NULL;

    disk_config_default(&config);
    struct disk *disk = disk_new(f->sim, "d", &config, NULL);
    assert_null(disk_new(f->sim, "d", &config, &err));
    assert_string_equal(error_get_pretty(err), "Disk 'd' already exists");
    error_free(err);
    assert_ptr_equal(disk_find(f->sim, "d"), disk);
    assert_null(disk_find(f->sim, "e"));
    assert_null(disk_next(disk_first(f->sim)));
}

static struct disk *new_disk(struct fixture *f, const char *name)
{
    struct disk_config config;

    disk_config_default(&config);
    return disk_new(f->sim, name, &config, NULL);
}

static void test_round_trip(void **state)
{
    struct fixture *f = *state;
    struct disk *a = new_disk(f, "a");
    struct disk *b = new_disk(f, "b");
    struct payload p;
    struct payload q;
    struct stat st;

    payload_init(f->sim, &p);
    payload_init(f->sim, &q);
    payload_append_tags(&p, 42, 300);
    payload_append_bytes(&p, "the end", 7);
    disk_poke(a, 8 * MiB, &p);
    payload_clear(&p);
    payload_append_fill(&p, 0x11, 70000);
    disk_poke(a, 0, &p);
    payload_clear(&p);
    assert_int_equal(disk_save_file(a, f->path, NULL), 0);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_size, 8 * MiB + 300 * 512 + 7);
    assert_true(st.st_blocks * 512 < MiB);
    assert_int_equal(disk_load_file(b, f->path, NULL), 0);
    assert_int_equal(disk_length(b), st.st_size);
    disk_peek(a, 0, st.st_size, &p);
    disk_peek(b, 0, st.st_size, &q);
    assert_true(payload_equal(&p, 0, &q, 0, st.st_size));
    assert_int_equal(disk_allocated_bytes(a), disk_allocated_bytes(b));
    payload_clear(&p);
    payload_clear(&q);
    disk_power_loss(b);
    assert_int_equal(disk_length(b), st.st_size);
}

static void test_file_errors(void **state)
{
    struct fixture *f = *state;
    struct disk *disk = new_disk(f, "d");
    struct payload p;
    char want[256];
    Error *err = NULL;

    payload_init(f->sim, &p);
    payload_append_tags(&p, 1, 8);
    disk_poke(disk, 0, &p);
    payload_clear(&p);
    assert_int_equal(disk_load_file(disk, f->path, &err), -ENOENT);
    snprintf(want, sizeof(want), "Could not open '%s': No such file or directory", f->path);
    assert_string_equal(error_get_pretty(err), want);
    error_free(err);
    err = NULL;
    assert_int_equal(disk_load_file(disk, f->dir, &err), -EISDIR);
    snprintf(want, sizeof(want), "Could not open '%s': not a regular file", f->dir);
    assert_string_equal(error_get_pretty(err), want);
    error_free(err);
    err = NULL;
    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_int_equal(disk_load_file(disk, f->path, &err), -EINVAL);
    error_free(err);
    err = NULL;
    assert_int_equal(disk_save_file(disk, f->dir, &err), -EISDIR);
    error_free(err);
    /* nothing of this touched the medium */
    assert_int_equal(disk_length(disk), 4096);
    assert_int_equal(disk_allocated_bytes(disk), 4096);
}

static void test_empty_file(void **state)
{
    struct fixture *f = *state;
    struct disk *disk = new_disk(f, "d");

    assert_int_equal(disk_save_file(disk, f->path, NULL), 0);
    assert_int_equal(disk_load_file(disk, f->path, NULL), 0);
    assert_int_equal(disk_length(disk), 0);
    assert_int_equal(truncate(f->path, GiB), 0);
    assert_int_equal(disk_load_file(disk, f->path, NULL), 0);
    assert_int_equal(disk_length(disk), GiB);
    assert_int_equal(disk_allocated_bytes(disk), 0);
}

/* A file that the host stores densely, and one with holes, are the same disk. */
static void test_zero_pages(void **state)
{
    struct fixture *f = *state;
    struct disk *disk = new_disk(f, "d");
    uint8_t buf[32 * KiB] = {0};
    int fd = open(f->path, O_WRONLY | O_CREAT, 0600);

    buf[20 * KiB] = 1;
    assert_int_equal(write(fd, buf, sizeof(buf)), sizeof(buf));
    assert_int_equal(close(fd), 0);
    assert_int_equal(disk_load_file(disk, f->path, NULL), 0);
    assert_int_equal(disk_length(disk), sizeof(buf));
    assert_int_equal(disk_allocated_bytes(disk), 4 * KiB);
}

struct copy_call {
    struct disk *from;
    struct disk *to;
    const char *path;
    int ret;
};

static void copy_in_coroutine(void *opaque)
{
    struct copy_call *call = opaque;

    call->ret = disk_save_file(call->from, call->path, NULL);
    if (call->ret == 0) {
        call->ret = disk_load_file(call->to, call->path, NULL);
    }
}

/* Steps of a scenario run in coroutines, whose stacks are small. */
static void test_in_coroutine(void **state)
{
    struct fixture *f = *state;
    struct copy_call call = {.from = new_disk(f, "d"), .to = new_disk(f, "e"), .path = f->path, .ret = -1};
    struct payload data;
    struct payload seen;

    payload_init(f->sim, &data);
    payload_init(f->sim, &seen);
    payload_append_tags(&data, 7, 1024);
    disk_poke(call.from, 0, &data);
    coroutine_start(coroutine_create(f->sim, NULL, "copy", copy_in_coroutine, &call));
    assert_int_equal(sim_run(f->sim, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    assert_int_equal(call.ret, 0);
    assert_int_equal(disk_length(call.to), 1024 * SIM_SECTOR_BYTES);
    disk_peek(call.to, 0, data.size_bytes, &seen);
    assert_int_equal(payload_first_difference(&data, &seen, data.size_bytes), -1);
    payload_clear(&data);
    payload_clear(&seen);
}

#define TEST(name, fn) \
    { \
        name, fn, setup, teardown, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("/disk/options/read", test_options),           TEST("/disk/options/refused", test_options_refused),
        TEST("/disk/name-in-use", test_name_in_use),        TEST("/disk/file/round-trip", test_round_trip),
        TEST("/disk/file/errors", test_file_errors),        TEST("/disk/file/empty", test_empty_file),
        TEST("/disk/file/in-coroutine", test_in_coroutine), TEST("/disk/file/zero-pages", test_zero_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
