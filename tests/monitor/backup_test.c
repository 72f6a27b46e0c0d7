/* Protects blockdev-backup and drive-backup: what they refuse and with which words, and that a refusal leaves
 * nothing (reference/jobs.md 1.8, 5.2, 5.3, 9). */
#include "tests/monitor/backuplib.h"

/* --- one backup ------------------------------------------------------------------------------------------- */

/* fact: jobs 1.8/backup-start, edge/51, 9/blockdev-backup */
static void test_backup(void **state)
{
    write_bytes(2 * CLUSTER, CLUSTER);
    trail[0] = '\0';
    ok("blockdev-backup", BACKUP(""));
    expect_trail(BEGIN("b") "b:running REPLY ");
    assert_true(filtered());
    bed_settle();
    expect_trail(DONE("b"));
    assert_false(filtered());
    expect_disk("t", "0010000000000000");
}

/* Its name is that of the device. */
/* fact: jobs 1.1/default-id */
static void test_default_id(void **state)
{
    ok("blockdev-backup",
       "{\"device\":\"s\",\"target\":\"t\",\"sync\":\"full\",\"speed\":1,\"x-perf\":{\"max-chunk\":65536}}");
    expect("query-block-jobs", "{}",
           "[{\"type\":\"backup\",\"device\":\"g\",\"len\":1048576,\"offset\":0,\"busy\":false,\"paused\":false,"
           "\"speed\":1,\"io-status\":\"ok\",\"ready\":false,\"status\":\"running\",\"auto-finalize\":true,"
           "\"auto-dismiss\":true}]");
    ok("block-job-cancel", "{\"device\":\"g\"}");
}

/* fact: jobs 5.2/arguments, 5.2/itself, 5.2/compress, 5.2/limits, 5.2/sizes, 5.2/nothing-left, edge/13 */
static void test_refusals(void **state)
{
    static const struct {
        const char *json, *text;
    } rows[] = {
        {"{\"job-id\":\"b\",\"device\":\"no\",\"target\":\"t\",\"sync\":\"full\"}",
         "Cannot find device='no' nor node-name='no'"},
        {"{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"no\",\"sync\":\"full\"}",
         "Cannot find device='no' nor node-name='no'"},
        {"{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"t\",\"sync\":\"half\"}",
         "Parameter 'sync' does not accept value 'half'"},
        {"{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"s\",\"sync\":\"full\"}",
         "Source and target cannot be the same"},
        {"{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"x\",\"sync\":\"full\"}",
         "Source and target image have different sizes"},
        {BACKUP(",\"compress\":true"), "Compression is not supported for this drive t"},
        {BACKUP(",\"x-perf\":{\"max-workers\":0}"), "max-workers must be between 1 and 2147483647"},
        {BACKUP(",\"x-perf\":{\"max-workers\":2147483648}"), "max-workers must be between 1 and 2147483647"},
        {BACKUP(",\"x-perf\":{\"max-chunk\":-1}"), "max-chunk must be zero (which means no limit) or positive"},
        {BACKUP(",\"x-perf\":{\"max-chunk\":65535}"),
         "Required max-chunk (65535) is less than backup cluster size (65536)"},
        {BACKUP(",\"x-perf\":{\"chunk\":1}"), "Parameter 'x-perf.chunk' is unexpected"},
        {BACKUP(",\"speed\":-1"), "Parameter 'speed' expects a non-negative value"},
        {BACKUP(",\"filter-node-name\":\"t\""), "Duplicate nodes with node-name='t'"},
        {"{\"job-id\":\"1b\",\"device\":\"g\",\"target\":\"t\",\"sync\":\"full\"}", "Invalid job ID '1b'"},
        {"{\"device\":\"t\",\"target\":\"u\",\"sync\":\"full\"}", "Invalid job ID ''"},
    };
    char text[160];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        snprintf(text, sizeof(text), "GenericError: %s", rows[i].text);
        refused("blockdev-backup", rows[i].json, text);
        assert_false(filtered());
    }
    assert_null(strstr(trail, "running"));
}

/* Of several reasons the first of the reference's order is told. */
static void test_order_of_checks(void **state)
{
    add_bitmap("s", "b0", CLUSTER);
    refused("blockdev-backup",
            "{\"device\":\"t\",\"target\":\"t\",\"sync\":\"bitmap\",\"compress\":true,\"speed\":-1}",
            "GenericError: must provide a valid bitmap name for 'bitmap' sync mode");
    refused("blockdev-backup", "{\"device\":\"t\",\"target\":\"t\",\"sync\":\"full\",\"compress\":true}",
            "GenericError: Source and target cannot be the same");
    refused(
        "blockdev-backup",
        "{\"device\":\"t\",\"target\":\"x\",\"sync\":\"full\",\"compress\":true,\"x-perf\":{\"max-workers\":0}}",
        "GenericError: Compression is not supported for this drive x");
    refused("blockdev-backup",
            "{\"device\":\"t\",\"target\":\"x\",\"sync\":\"full\",\"x-perf\":{\"max-workers\":0}}",
            "GenericError: max-workers must be between 1 and 2147483647");
    refused("blockdev-backup", "{\"device\":\"t\",\"target\":\"x\",\"sync\":\"full\",\"x-perf\":{\"max-chunk\":1}}",
            "GenericError: Source and target image have different sizes");
    refused("blockdev-backup",
            "{\"device\":\"t\",\"target\":\"u\",\"sync\":\"full\",\"speed\":-1,\"x-perf\":{\"max-chunk\":1}}",
            "GenericError: Required max-chunk (1) is less than backup cluster size (65536)");
    refused("blockdev-backup", "{\"device\":\"t\",\"target\":\"u\",\"sync\":\"full\",\"speed\":-1}",
            "GenericError: Invalid job ID ''");
}

#define WITH(sync, more) "{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"t\",\"sync\":\"" sync "\"" more "}"
#define BITMAP(name) ",\"bitmap\":\"" name "\""
#define MODE(mode) ",\"bitmap-mode\":\"" mode "\""

/* fact: jobs 5.3/checks, 5.2/nothing-left */
static void test_bitmap_refusals(void **state)
{
    static const struct {
        const char *json, *text;
    } rows[] = {
        {WITH("bitmap", ""), "must provide a valid bitmap name for 'bitmap' sync mode"},
        {WITH("bitmap", MODE("never")), "must provide a valid bitmap name for 'bitmap' sync mode"},
        {WITH("incremental", MODE("never")), "must provide a valid bitmap name for 'incremental' sync mode"},
        {WITH("incremental", BITMAP("no") MODE("never")),
         "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'"},
        {WITH("incremental", BITMAP("b0") MODE("always")),
         "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'"},
        {WITH("incremental", BITMAP("no")), "Bitmap 'no' could not be found"},
        {WITH("full", BITMAP("no")), "Bitmap 'no' could not be found"},
        {WITH("bitmap", BITMAP("b0")), "Bitmap sync mode must be given when providing a bitmap"},
        {WITH("none", BITMAP("bad")), "Bitmap sync mode must be given when providing a bitmap"},
        {WITH("none", BITMAP("bad") MODE("always")), "Bitmap 'bad' is inconsistent and cannot be used"},
        {WITH("none", BITMAP("b0") MODE("always")), "sync mode 'none' does not produce meaningful bitmap outputs"},
        {WITH("full", BITMAP("b0") MODE("never")),
         "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode 'full'"},
        {WITH("top", BITMAP("b0") MODE("never")),
         "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode 'top'"},
        {WITH("full", MODE("on-success")), "Cannot specify bitmap sync mode without a bitmap"},
        {WITH("none", MODE("never")), "Cannot specify bitmap sync mode without a bitmap"},
        /* and later ones, with the bitmap frozen by then */
        {WITH("bitmap", BITMAP("b0") MODE("always") ",\"speed\":-1"),
         "Parameter 'speed' expects a non-negative value"},
        {WITH("full", BITMAP("b0") MODE("always") ",\"x-perf\":{\"max-chunk\":1}"),
         "Required max-chunk (1) is less than backup cluster size (65536)"},
        {"{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"x\",\"sync\":\"incremental\",\"bitmap\":\"b0\"}",
         "Source and target image have different sizes"},
    };
    char text[160];

    add_bitmap("s", "bad", CLUSTER);
    make_inconsistent(bitmap_of("s", "bad"));
    add_bitmap("s", "b0", 32 * KiB);
    write_bytes(96 * KiB, 1024);
    char *bitmaps = bitmaps_text("s");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        snprintf(text, sizeof(text), "GenericError: %s", rows[i].text);
        refused("blockdev-backup", rows[i].json, text);
        expect_bitmaps("s", bitmaps);
    }
    free(bitmaps);
    expect_bitmaps("s", "b0:e=3, bad:pi= ");
}

/* fact: jobs 5.2/blockers, 5.4/busy, 5.2/no-resize */
static void test_busy(void **state)
{
    add_bitmap("s", "b0", CLUSTER);
    ok("blockdev-backup", BACKUP(",\"speed\":1,\"x-perf\":{\"max-chunk\":65536},\"bitmap\":\"b0\",\"bitmap-mode\":"
                                 "\"always\",\"filter-node-name\":\"f\""));
    bed_run_until(sim_now(bed.sim) + NS_PER_S);
    expect("blockdev-backup", "{\"job-id\":\"c\",\"device\":\"g\",\"target\":\"u\",\"sync\":\"full\"}",
           "GenericError: Node 'f' is busy: block device is in use by block job: backup");
    expect("blockdev-backup", "{\"job-id\":\"c\",\"device\":\"u\",\"target\":\"t\",\"sync\":\"full\"}",
           "GenericError: Node 't' is busy: block device is in use by block job: backup");
    expect("blockdev-backup",
           "{\"job-id\":\"c\",\"device\":\"s\",\"target\":\"u\",\"sync\":\"incremental\",\"bitmap\":\"b0\"}",
           BITMAP_BUSY("b0"));
    expect("blockdev-backup", "{\"job-id\":\"b\",\"device\":\"u\",\"target\":\"x\",\"sync\":\"full\"}",
           "GenericError: Source and target image have different sizes");
    expect("block-dirty-bitmap-clear", "{\"node\":\"s\",\"name\":\"b0\"}", BITMAP_BUSY("b0"));
    expect("block_resize", "{\"device\":\"g\",\"size\":2097152}",
           "GenericError: Node 'f' is busy: block device is in use by block job: backup");
    free(call("block_resize", "{\"node-name\":\"s\",\"size\":2097152}"));
    free(call("block_resize", "{\"node-name\":\"t\",\"size\":2097152}"));
    assert_int_equal(bdrv_getlength_cached(bdrv_find_node(bed.host, "s")), MiB);
    assert_int_equal(bdrv_getlength_cached(bdrv_find_node(bed.host, "t")), MiB);
    ok("job-cancel", "{\"id\":\"b\"}");
    bed_settle();
    assert_false(filtered());
}

/* fact: jobs 5.2/permissions */
static void test_permissions(void **state)
{
    ok("blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"ro\",\"file\":\"t\",\"read-only\":true}");
    refused("blockdev-backup", "{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"ro\",\"sync\":\"full\"}",
            "GenericError: Read-only block node 'ro' cannot support read-write users");
    /* the guest writes below r, where no filter above it sees that */
    ok("blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"s\"}");
    refused(
        "blockdev-backup",
        "{\"job-id\":\"b\",\"device\":\"r\",\"target\":\"t\",\"sync\":\"full\",\"filter-node-name\":\"f\"}",
        "GenericError: Conflicts with use by node 'r' as 'file', which does not allow 'write' on node 's'; it is "
        "wanted by block device 'g' as 'root'");
    del("r");
    del("ro");
}

/* --- drive-backup ----------------------------------------------------------------------------------------- */

#define DRIVE(more) "{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"f\",\"sync\":\"full\"" more "}"

/* fact: jobs 9/drive-backup */
static void test_drive(void **state)
{
    make_disk("f", 0, 8 * MiB);
    write_bytes(5 * CLUSTER, CLUSTER);
    trail[0] = '\0';
    ok("drive-backup", DRIVE(",\"format\":\"qcow2\""));
    expect_trail(BEGIN("b") "b:running REPLY ");
    bed_settle();
    expect_trail(DONE("b"));
    ok("blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"q\",\"file\":{\"driver\":\"disk\",\"disk\":\"f\"}}");
    assert_null(bdrv_backing_filename(bdrv_find_node(bed.host, "q")));
    assert_int_equal(bdrv_getlength_cached(bdrv_find_node(bed.host, "q")), MiB);
    ok("blockdev-backup", "{\"job-id\":\"c\",\"device\":\"q\",\"target\":\"t\",\"sync\":\"full\"}");
    bed_settle();
    expect_disk("t", "0000010000000000");
    del("q");
    /* again into what is there, which is looked at for its format; compressed */
    write_bytes(6 * CLUSTER, CLUSTER);
    ok("drive-backup", DRIVE(",\"mode\":\"existing\",\"compress\":true"));
    bed_settle();
    ok("blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"q\",\"file\":{\"driver\":\"disk\",\"disk\":\"f\"}}");
    ok("blockdev-backup", "{\"job-id\":\"c\",\"device\":\"q\",\"target\":\"u\",\"sync\":\"full\"}");
    bed_settle();
    expect_disk("u", "0000011000000000");
    del("q");
}

static void unplug(void *opaque)
{
    guest_delete(guest);
}

static void plug_empty(void *opaque)
{
    BlockBackend *blk = blk_new(bed.host, 0, BLK_PERM_ALL);

    assert_true(blk_set_name(blk, "empty", NULL));
}

static void unplug_empty(void *opaque)
{
    blk_unref(blk_by_name(bed.host, "empty"));
}

/* fact: jobs 9/drive-backup */
static void test_drive_refusals(void **state)
{
    make_disk("f", 0, 8 * MiB);
    bed_on_main(plug_empty);
    refused("drive-backup", "{\"job-id\":\"b\",\"device\":\"empty\",\"target\":\"f\",\"sync\":\"full\"}",
            "GenericError: Device has no medium");
    refused("blockdev-backup", "{\"job-id\":\"b\",\"device\":\"empty\",\"target\":\"t\",\"sync\":\"full\"}",
            "GenericError: Device 'empty' has no medium");
    bed_on_main(unplug_empty);
    refused("drive-backup", "{\"job-id\":\"b\",\"device\":\"no\",\"target\":\"f\",\"sync\":\"full\"}",
            "GenericError: Cannot find device='no' nor node-name='no'");
    ok("blockdev-backup", BACKUP(",\"speed\":1,\"x-perf\":{\"max-chunk\":65536},\"filter-node-name\":\"f\""));
    expect("drive-backup", "{\"job-id\":\"c\",\"device\":\"g\",\"target\":\"f\",\"sync\":\"full\"}",
           "GenericError: Node 'f' is busy: block device is in use by block job: backup");
    assert_int_equal(disk_length(disk_find(bed.sim, "f")), 0);
    ok("job-cancel", "{\"id\":\"b\"}");
    bed_settle();
    /* what is refused after the file was made leaves the file, and nothing else */
    uint64_t host_bytes = sim_arena_live_bytes(bed.host->arena);
    expect("drive-backup", DRIVE(",\"format\":\"qcow2\",\"speed\":-1"),
           "GenericError: Parameter 'speed' expects a non-negative value");
    assert_true(disk_length(disk_find(bed.sim, "f")) > 0);
    expect("drive-backup", DRIVE(",\"format\":\"qcow2\",\"bitmap\":\"no\""),
           "GenericError: Bitmap 'no' could not be found");
    expect("drive-backup",
           "{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"f\",\"sync\":\"full\",\"format\":\"no\"}",
           "GenericError: Unknown file format 'no'");
    refused("drive-backup",
            "{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"no\",\"sync\":\"full\",\"mode\":\"existing\"}",
            "GenericError: Could not open 'no': No such file or directory");
    bed_settle();
    assert_int_equal(sim_arena_live_bytes(bed.host->arena), host_bytes);
}

/* With top the image stands on what the source stands on; a source that stands on nothing is copied whole. */
/* fact: jobs 5.3/drive-top, 5.3/top */
static void test_drive_top(void **state)
{
    bed_on_main(unplug);
    make_disk("f", 0, 8 * MiB);
    make_disk("q", 0, 8 * MiB);
    ok("blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"base\",\"file\":\"t\",\"read-only\":true}");
    ok("blockdev-create", "{\"job-id\":\"k\",\"options\":{\"driver\":\"qcow2\",\"file\":{\"driver\":\"disk\","
                          "\"disk\":\"q\"},\"size\":1048576,\"backing-file\":\"t\",\"backing-fmt\":\"raw\"}}");
    bed_settle();
    ok("job-dismiss", "{\"id\":\"k\"}");
    ok("blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"q\",\"backing\":\"base\",\"file\":{\"driver\":"
                       "\"disk\",\"disk\":\"q\"}}");
    ok("blockdev-backup", "{\"job-id\":\"w\",\"device\":\"s\",\"target\":\"u\",\"sync\":\"full\"}");
    bed_settle();
    ok("drive-backup", "{\"job-id\":\"b\",\"device\":\"q\",\"target\":\"f\",\"sync\":\"top\"}");
    bed_settle();
    ok("blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"o\",\"backing\":null,\"file\":{\"driver\":\"disk\","
                       "\"disk\":\"f\"}}");
    assert_string_equal(bdrv_backing_filename(bdrv_find_node(bed.host, "o")), "t");
    assert_string_equal(bdrv_header_backing_format(bdrv_find_node(bed.host, "o")), "raw");
    del("o");
    ok("drive-backup",
       "{\"job-id\":\"b\",\"device\":\"s\",\"target\":\"f\",\"format\":\"qcow2\",\"sync\":\"top\"}");
    bed_settle();
    ok("blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"o\",\"file\":{\"driver\":\"disk\",\"disk\":\"f\"}}");
    assert_null(bdrv_backing_filename(bdrv_find_node(bed.host, "o")));
    del("o");
    del("q");
    del("base");
}

static struct {
    BlockDriverState *bs;
    BlockBackend *blk;
    uint8_t bytes[16];
} old_view;

static int read_old_view_co(void *opaque)
{
    struct payload data;

    for (int64_t i = 0; i < 16; i++) {
        payload_init(bed.sim, &data);
        assert_int_equal(blk_co_preadv(old_view.blk, i * CLUSTER, 512, &data, 0), 0);
        payload_read_bytes(&data, 0, &old_view.bytes[i], 1);
        payload_clear(&data);
    }
    return 0;
}

static void read_old_view(void *opaque)
{
    old_view.blk = blk_new(bed.host, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(old_view.blk, old_view.bs, NULL), 0);
    bdrv_run_co(bed.host, "old view", read_old_view_co, NULL);
    blk_unref(old_view.blk);
}

/* With none the image stands on the source: what is read through it is the instant, while the guest goes on. */
/* fact: jobs 5.5/fleecing, 5.3/none */
static void test_drive_none(void **state)
{
    make_disk("f", 0, 8 * MiB);
    write_bytes(3 * CLUSTER, CLUSTER);
    ok("drive-backup",
       "{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"f\",\"format\":\"qcow2\",\"sync\":\"none\"}");
    BlockDriverState *target = backup_target(job_find(bed.host, "b"));
    assert_ptr_equal(bdrv_cow_bs(target), bdrv_find_node(bed.host, "s"));
    write_bytes(4 * CLUSTER, CLUSTER);
    expect_disk("d", "0001100000000000");
    old_view.bs = target;
    bed_on_main(read_old_view);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(old_view.bytes[i], i == 3 ? 0x33 : 0);
    }
    ok("job-cancel", "{\"id\":\"b\"}");
    bed_settle();
}

#undef BACKUP_TEST
#define BACKUP_TEST(name, fn) \
    { \
        name, fn, setup, teardown, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BACKUP_TEST("/backup-command/start", test_backup),
        BACKUP_TEST("/backup-command/default-id", test_default_id),
        BACKUP_TEST("/backup-command/refusals", test_refusals),
        BACKUP_TEST("/backup-command/order-of-checks", test_order_of_checks),
        BACKUP_TEST("/backup-command/bitmap-refusals", test_bitmap_refusals),
        BACKUP_TEST("/backup-command/busy", test_busy),
        BACKUP_TEST("/backup-command/permissions", test_permissions),
        BACKUP_TEST("/backup-command/drive", test_drive),
        BACKUP_TEST("/backup-command/drive-refusals", test_drive_refusals),
        BACKUP_TEST("/backup-command/drive-top", test_drive_top),
        BACKUP_TEST("/backup-command/drive-none", test_drive_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
