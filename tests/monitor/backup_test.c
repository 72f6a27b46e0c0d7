/* Protects blockdev-backup and drive-backup: what they refuse and with which words, that a refusal leaves nothing,
 * and backups in transactions: one instant, undone ones, groups (reference/jobs.md 1.8, 5.2, 5.3, 5.8, 9). */
#include "tests/monitor/qmplib.h"

#include "jobs/backup.h"
#include "monitor/transaction.h"

/* Guest g on node "s" (disk "d", 1 MiB) comes from the bed; "t" and "u" are targets of that length, over disks of
 * these names, "x" one that is longer. */

#define CLUSTER (64 * KiB)

static char trail[4096];

static void trail_event(void *opaque, const struct sim_record *r)
{
    size_t length = strlen(trail);
    char *end = trail + length;
    size_t room = sizeof(trail) - length;

    switch (r->kind) {
    case EV_JOB_STATUS_CHANGE:
        snprintf(end, room, "%s:%s ", sim_record_name(r, 0)->str, sim_record_str(r, 1));
        break;
    case EV_BLOCK_JOB_COMPLETED:
        snprintf(end, room, "%s:COMPLETED%s%s%s ", sim_record_name(r, 1)->str, sim_record_str(r, 5) ? "(" : "",
                 sim_record_str(r, 5) ? sim_record_str(r, 5) : "", sim_record_str(r, 5) ? ")" : "");
        break;
    case EV_BLOCK_JOB_CANCELLED:
        snprintf(end, room, "%s:CANCELLED ", sim_record_name(r, 1)->str);
        break;
    case EV_BLOCK_JOB_ERROR:
        snprintf(end, room, "%s:ERROR(%s) ", sim_record_name(r, 0)->str, sim_record_str(r, 2));
        break;
    case EV_qmp_reply:
        snprintf(end, room, "REPLY ");
        break;
    default:
        break;
    }
}

static void expect_trail(const char *text)
{
    assert_string_equal(trail, text);
    trail[0] = '\0';
}

static void make_disk(const char *name, int64_t bytes, int64_t capacity)
{
    struct disk_config config;

    disk_config_default(&config);
    config.size_bytes = bytes;
    config.capacity_bytes = capacity;
    assert_non_null(disk_new(bed.sim, name, &config, NULL));
}

static void make_node(const char *name, int64_t bytes)
{
    char json[128];

    make_disk(name, bytes, bytes);
    snprintf(json, sizeof(json), "{\"driver\":\"disk\",\"node-name\":\"%s\",\"disk\":\"%s\"}", name, name);
    ok("blockdev-add", json);
}

static void del(const char *name)
{
    char json[64];

    snprintf(json, sizeof(json), "{\"node-name\":\"%s\"}", name);
    ok("blockdev-del", json);
}

static int setup(void **state)
{
    qmp_setup(state);
    make_node("t", MiB);
    make_node("u", MiB);
    make_node("x", 2 * MiB);
    sim_subscribe_all(bed.sim, trail_event, NULL);
    trail[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    bed_settle();
    assert_null(job_next(bed.host, NULL));
    assert_int_equal(bdrv_op_blockers(bdrv_find_node(bed.host, "s")), 0);
    assert_int_equal(bdrv_op_blockers(bdrv_find_node(bed.host, "t")), 0);
    del("t");
    del("u");
    del("x");
    assert_ptr_equal(bdrv_next_node(bed.host, NULL), bdrv_find_node(bed.host, "s"));
    return qmp_teardown(state);
}

#define BACKUP(more) "{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"t\",\"sync\":\"full\"" more "}"
#define BEGIN(id) id ":created " id ":running " id ":paused "
#define DONE(id) id ":waiting " id ":pending " id ":COMPLETED " id ":concluded " id ":null "
#define KILLED(id) id ":aborting " id ":CANCELLED " id ":concluded " id ":null "

static bool filtered(void)
{
    return bdrv_is_cbw(blk_bs(blk_by_name(bed.host, "g")));
}

/* The first byte of each cluster of a disk. */
static void first_bytes(const char *name, uint8_t bytes[16])
{
    struct payload data;

    for (int64_t i = 0; i < 16; i++) {
        payload_init(bed.sim, &data);
        disk_peek(disk_find(bed.sim, name), i * CLUSTER, 1, &data);
        payload_read_bytes(&data, 0, &bytes[i], 1);
        payload_clear(&data);
    }
}

/* Digits: 1 where the guest's 0x33 stands. */
static void expect_disk(const char *name, const char *clusters)
{
    uint8_t bytes[16];
    char text[17] = "";

    first_bytes(name, bytes);
    for (int i = 0; i < 16; i++) {
        text[i] = bytes[i] == 0x33 ? '1' : bytes[i] == 0 ? '0' : '?';
    }
    assert_string_equal(text, clusters);
}

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

/* --- transactions ----------------------------------------------------------------------------------------- */

#define ACTION(type, data) "{\"type\":\"" type "\",\"data\":{" data "}}"
#define LIST(actions) "{\"actions\":[" actions "]}"
#define GROUP(actions) "{\"actions\":[" actions "],\"properties\":{\"completion-mode\":\"grouped\"}}"
#define ABORT ACTION("abort", "")
#define ABORTED "GenericError: Transaction aborted using Abort action"
#define COPY(id, from, to, more) \
    ACTION("blockdev-backup", \
           "\"job-id\":\"" id "\",\"device\":\"" from "\",\"target\":\"" to "\",\"sync\":\"full\"" more)

/* Jobs start newest first, park, and go on when the drain ends. */
/* fact: jobs 5.8/order, 9/actions, 1.8/backup-start; block 9/transaction-backup */
static void test_transaction(void **state)
{
    make_node("s2", MiB);
    make_node("t2", MiB);
    trail[0] = '\0';
    ok("transaction", LIST(COPY("a", "g", "t", "") "," COPY("b", "s2", "t2", "")));
    expect_trail("a:created b:created b:running b:paused a:running a:paused b:running a:running REPLY ");
    bed_settle();
    assert_null(strstr(trail, "("));
    del("s2");
    del("t2");
}

/* A write of the guest is in all of them or in none, and a bitmap added beside them begins with that instant. */
/* fact: jobs 5.8/one-instant */
static void test_one_instant(void **state)
{
    struct test_call c;
    struct guest_req req[3];

    add_bitmap("s", "old", CLUSTER);
    write_bytes(0, CLUSTER);
    write_begin(&req[0], CLUSTER, CLUSTER);
    call_begin(
        &c, "transaction",
        LIST(COPY("a", "g", "t", "") "," ACTION(
            "block-dirty-bitmap-add",
            "\"node\":\"s\",\"name\":\"new\","
            "\"granularity\":65536") "," ACTION("block-dirty-bitmap-clear",
                                                "\"node\":\"s\",\"name\":\"old\"") "," ACTION("blockdev-backup",
                                                                                              "\"job-id\":\"b\","
                                                                                              "\"device\":"
                                                                                              "\"s\",\"target\":"
                                                                                              "\"u\","
                                                                                              "\"sync\":"
                                                                                              "\"full\"")));
    write_begin(&req[1], 2 * CLUSTER, CLUSTER);
    expect_text(call_end(&c), "{}");
    write_begin(&req[2], 3 * CLUSTER, CLUSTER);
    bed_settle();
    uint8_t t[16], u[16];
    first_bytes("t", t);
    first_bytes("u", u);
    assert_memory_equal(t, u, 16);
    assert_int_equal(t[0], 0x33);
    assert_int_equal(t[3], 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(req[i].ret, 0);
        guest_req_clear(&req[i]);
    }
    for (int64_t i = 0; i < 4; i++) { /* either in the backup, or dirty since */
        assert_int_equal(bdrv_dirty_bitmap_get(bitmap_of("s", "new"), i * CLUSTER), t[i] != 0x33);
        assert_int_equal(bdrv_dirty_bitmap_get(bitmap_of("s", "old"), i * CLUSTER), t[i] != 0x33);
    }
}

/* Undone newest first: jobs that never ran send no BLOCK_JOB_*, bitmaps are what they were. */
/* fact: jobs 5.8/undo-jobs, 1.5/never-started, edge/50, edge/51 */
static void test_undone(void **state)
{
    static const char *const lists[] = {
        LIST(COPY("a", "g", "t", ",\"bitmap\":\"b0\",\"bitmap-mode\":\"always\"") "," COPY(
            "b", "x", "y", ",\"bitmap\":\"b1\",\"bitmap-mode\":\"on-success\",\"auto-dismiss\":false") "," ABORT),
        GROUP(COPY("a", "g", "t", ",\"bitmap\":\"b0\",\"bitmap-mode\":\"always\"") "," COPY(
            "b", "x", "y", ",\"bitmap\":\"b1\",\"bitmap-mode\":\"on-success\"") "," COPY("c", "s", "no", "")),
    };
    static const char *const texts[] = {ABORTED, "GenericError: Cannot find device='no' nor node-name='no'"};

    make_node("y", 2 * MiB);
    add_bitmap("s", "b0", 32 * KiB);
    add_bitmap("x", "b1", CLUSTER);
    write_bytes(96 * KiB, 1024);
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        trail[0] = '\0';
        refused("transaction", lists[i], texts[i]);
        expect_trail("a:created b:created b:aborting b:concluded b:null a:aborting a:concluded a:null REPLY ");
        expect_bitmaps("s", "b0:e=3, ");
        expect_bitmaps("x", "b1:e= ");
        assert_false(filtered());
    }
    ok("block-dirty-bitmap-remove", "{\"node\":\"x\",\"name\":\"b1\"}");
    del("y");
}

/* fact: jobs 5.8/grouped-refused */
static void test_grouped_refused(void **state)
{
    refused("transaction", GROUP(COPY("a", "g", "no", "") "," ABORT),
            "GenericError: Action 'abort' does not support transaction property completion-mode = grouped");
    refused(
        "transaction",
        GROUP(COPY("a", "g", "no", "") "," ACTION("block-dirty-bitmap-clear", "\"node\":\"s\",\"name\":\"b\"")),
        "GenericError: Action 'block-dirty-bitmap-clear' does not support transaction property completion-mode = "
        "grouped");
    assert_null(strstr(trail, "created"));
}

static struct disk_interposer breaker;

static void break_writes(struct disk_interposer *self, struct disk_req *req)
{
    if (req->op == SIM_OP_WRITE) {
        req->ret = -EIO;
    }
}

/* Two disks to two targets, of which the second fails at its first write if it is to. */
static void two_backups(const char *json, bool fail)
{
    make_node("s2", MiB);
    make_node("t2", MiB);
    add_bitmap("s", "b0", CLUSTER);
    write_bytes(7 * CLUSTER, CLUSTER);
    breaker = (struct disk_interposer){.before = break_writes};
    if (fail) {
        disk_add_interposer(disk_find(bed.sim, "t2"), &breaker);
    }
    struct payload data;
    payload_init(bed.sim, &data);
    payload_append_fill(&data, 0x33, 4096);
    disk_poke(disk_find(bed.sim, "s2"), 0, &data);
    payload_clear(&data);
    trail[0] = '\0';
    ok("transaction", json);
}

static void two_end(void)
{
    bed_settle();
    if (breaker.before && disk_find(bed.sim, "t2")) {
        breaker.before = NULL;
    }
    del("s2");
    del("t2");
}

#define SLOW ",\"speed\":1,\"x-perf\":{\"max-chunk\":65536}"
#define ONE COPY("a", "g", "t", ",\"bitmap\":\"b0\",\"bitmap-mode\":\"on-success\"")
#define TWO(more) COPY("b", "s2", "t2", more)
#define BOTH_BEGIN "a:created b:created b:running b:paused a:running a:paused b:running a:running REPLY "

/* fact: jobs 5.8/individual */
static void test_individual(void **state)
{
    two_backups(LIST(ONE "," TWO("")), true);
    bed_settle();
    assert_non_null(strstr(trail, "b:COMPLETED(Input/output error)"));
    assert_non_null(strstr(trail, "a:COMPLETED a:concluded"));
    expect_bitmaps("s", "b0:e= ");
    two_end();
}

/* One fails, all end; what was copied for nothing is still to be copied. */
/* fact: jobs 5.8/grouped, edge/49 */
static void test_grouped_failure(void **state)
{
    two_backups(GROUP(ONE "," TWO("")), true);
    bed_settle();
    assert_non_null(strstr(trail, "b:COMPLETED(Input/output error)"));
    assert_non_null(strstr(trail, "a:CANCELLED"));
    assert_null(strstr(trail, "a:COMPLETED"));
    expect_bitmaps("s", "b0:e=7, ");
    two_end();
}

/* The first waits for the second, and aborts although it was through. */
/* fact: jobs 5.8/grouped, edge/49 */
static void test_grouped_cancel_waiting(void **state)
{
    two_backups(GROUP(ONE "," TWO(SLOW)), false);
    bed_run_until(sim_now(bed.sim) + NS_PER_S);
    assert_non_null(strstr(trail, "a:waiting "));
    trail[0] = '\0';
    ok("job-cancel", "{\"id\":\"b\"}");
    bed_settle();
    assert_non_null(strstr(trail, "a:CANCELLED"));
    assert_non_null(strstr(trail, "b:CANCELLED"));
    expect_bitmaps("s", "b0:e=7, ");
    two_end();
}

/* fact: jobs 5.8/grouped, 5.4/in-pending */
static void test_grouped_cancel_pending(void **state)
{
    two_backups(GROUP(ONE "," TWO(",\"auto-finalize\":false")), false);
    bed_settle();
    assert_non_null(strstr(trail, "a:pending "));
    trail[0] = '\0';
    ok("job-cancel", "{\"id\":\"b\"}");
    bed_settle();
    expect_trail(KILLED("b") KILLED("a") "REPLY ");
    expect_bitmaps("s", "b0:e=7, ");
    two_end();
}

/* fact: jobs 5.8/grouped */
static void test_grouped_success(void **state)
{
    two_backups(GROUP(ONE "," TWO("")), false);
    expect_trail(BOTH_BEGIN);
    bed_settle();
    const char *first = strstr(trail, "COMPLETED");
    assert_true(first > strstr(trail, "a:waiting") && first > strstr(trail, "b:waiting"));
    expect_bitmaps("s", "b0:e= ");
    two_end();
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
        BACKUP_TEST("/backup-command/transaction", test_transaction),
        BACKUP_TEST("/backup-command/one-instant", test_one_instant),
        BACKUP_TEST("/backup-command/undone", test_undone),
        BACKUP_TEST("/backup-command/grouped-refused", test_grouped_refused),
        BACKUP_TEST("/backup-command/individual", test_individual),
        BACKUP_TEST("/backup-command/grouped/failure", test_grouped_failure),
        BACKUP_TEST("/backup-command/grouped/cancel-waiting", test_grouped_cancel_waiting),
        BACKUP_TEST("/backup-command/grouped/cancel-pending", test_grouped_cancel_pending),
        BACKUP_TEST("/backup-command/grouped/success", test_grouped_success),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
