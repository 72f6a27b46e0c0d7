/* Protects blockdev-mirror, drive-mirror and block-job-change: what they take and refuse, the target's file and its
 * backing file, what is replaced (reference/jobs.md 4.2, 4.6, 4.7, 9). */
#include "tests/monitor/qmplib.h"

#include "jobs/mirror.h"

/* Guest g is on "s" (disk "d", 1 MiB). */

static char outcome[512]; /* of the last job: "" while it runs, "ok", or its error */
static bool ready;

static void on_event(void *opaque, const struct sim_record *r)
{
    switch ((int)r->kind) {
    case EV_BLOCK_JOB_READY:
        ready = true;
        break;
    case EV_BLOCK_JOB_CANCELLED:
        snprintf(outcome, sizeof(outcome), "cancelled");
        break;
    case EV_BLOCK_JOB_COMPLETED:
        snprintf(outcome, sizeof(outcome), "%s", sim_record_str(r, 5) ? sim_record_str(r, 5) : "ok");
        break;
    default:
        break;
    }
}

static int mirror_setup(void **state)
{
    qmp_setup(state);
    sim_subscribe_all(bed.sim, on_event, NULL);
    return 0;
}

static int mirror_teardown(void **state)
{
    bed_settle();
    expect("query-jobs", "{}", "[]");
    for (BlockDriverState *bs = bdrv_next_node(bed.host, NULL); bs; bs = bdrv_next_node(bed.host, bs)) {
        assert_string_not_equal(bdrv_driver_name(bs), "mirror_top");
    }
    return qmp_teardown(state);
}

static BlockDriverState *node(const char *name)
{
    BlockDriverState *bs = bdrv_find_node(bed.host, name);

    assert_non_null(bs);
    return bs;
}

static void del(const char *name)
{
    char json[64];

    snprintf(json, sizeof(json), "{\"node-name\":\"%s\"}", name);
    ok("blockdev-del", json);
}

static struct disk *make_disk(const char *name, int64_t bytes)
{
    struct disk_config config;

    disk_config_default(&config);
    config.size_bytes = bytes;
    struct disk *disk = disk_new(bed.sim, name, &config, NULL);
    assert_non_null(disk);
    return disk;
}

static void add_disk_node(const char *name, int64_t bytes)
{
    char json[160];

    make_disk(name, bytes);
    snprintf(json, sizeof(json),
             "{\"driver\":\"raw\",\"node-name\":\"%s\",\"file\":{\"driver\":\"disk\",\"disk\":\"%s\"}}", name,
             name);
    ok("blockdev-add", json);
}

/* A qcow2 image of 1 MiB on a disk of that name. */
static void make_image(const char *name, const char *more)
{
    char json[320];

    make_disk(name, 0);
    snprintf(json, sizeof(json),
             "{\"job-id\":\"c\",\"options\":{\"driver\":\"qcow2\",\"file\":{\"driver\":\"disk\",\"disk\":\"%s\"},"
             "\"size\":1048576%s}}",
             name, more);
    ok("blockdev-create", json);
    bed_settle();
    ok("job-dismiss", "{\"id\":\"c\"}");
}

static bool is_ready(void *opaque)
{
    return ready || outcome[0] != '\0';
}

static void start_ready(const char *command, const char *json)
{
    ready = false;
    outcome[0] = '\0';
    ok(command, json);
    assert_int_equal(sim_run_idle(bed.sim, is_ready, NULL, sim_now(bed.sim) + BED_PATIENCE_NS), SIM_STOP_COND);
    assert_true(ready);
}

static void complete(const char *expected)
{
    ok("block-job-complete", "{\"device\":\"m\"}");
    bed_settle();
    assert_string_equal(outcome, expected);
}

static void cancel(void)
{
    ok("job-cancel", "{\"id\":\"m\"}");
    bed_settle();
    assert_string_equal(outcome, "cancelled");
}

/* The guest sees what it wrote. */
static void assert_view(int64_t offset, uint8_t expected)
{
    BlockDriverState *bs = blk_bs(guest_blk(guest));
    struct payload p;
    uint8_t byte;

    payload_init(bed.sim, &p);
    assert_int_equal(bdrv_peek(bs, offset, 512, &p), 0);
    payload_read_bytes(&p, 0, &byte, 1);
    assert_int_equal(byte, expected);
    payload_clear(&p);
}

/* The guest goes from "s" to an overlay "top" in the file of that name. */
static void put_top(void)
{
    write_bytes(0, 65536);
    ok("blockdev-snapshot-sync", "{\"node-name\":\"s\",\"snapshot-file\":\"top\",\"snapshot-node-name\":\"top\"}");
    write_bytes(131072, 65536);
}

#define DRIVE(more) "{\"job-id\":\"m\",\"device\":\"g\",\"target\":\"new\"," more "}"

/* --- files ---------------------------------------------------------------------------------------------- */

/* fact: jobs 9/drive-mirror, 4.7/backing-absolute */
static void test_new_file(void **state)
{
    write_bytes(0, 65536);
    start_ready("drive-mirror", DRIVE("\"sync\":\"full\",\"format\":\"qcow2\",\"node-name\":\"n\""));
    assert_string_equal(bdrv_driver_name(node("n")), "qcow2");
    assert_int_equal(bdrv_getlength_cached(node("n")), MiB);
    complete("ok");
    assert_ptr_equal(blk_bs(guest_blk(guest)), node("n"));
    assert_null(bdrv_cow_bs(node("n")));
    assert_view(0, 0x33);
    assert_view(65536, 0);
}

/* The format is the source's unless something else is said; a top without anything below is full, and a fresh file
 * reads as zeroes: it is not zeroed first.
 *
 * fact: jobs 9/drive-mirror */
static void test_defaults(void **state)
{
    write_bytes(0, 65536);
    start_ready("drive-mirror", DRIVE("\"sync\":\"top\",\"node-name\":\"n\""));
    assert_string_equal(bdrv_driver_name(node("n")), "disk");
    assert_int_equal(disk_length(disk_find(bed.sim, "new")), MiB);
    assert_int_equal(sim_mark_hits(bed.sim, MARK_mirror_zero_target), 0);
    complete("ok");
    assert_ptr_equal(blk_bs(guest_blk(guest)), node("n"));
    assert_view(0, 0x33);
}

/* fact: jobs 4.7/backing-absolute, 4.3/none */
static void test_top(void **state)
{
    put_top();
    start_ready("drive-mirror", DRIVE("\"sync\":\"top\",\"node-name\":\"n\""));
    assert_string_equal(bdrv_backing_filename(node("n")), "d");
    assert_null(bdrv_cow_bs(node("n")));
    complete("ok");
    assert_ptr_equal(blk_bs(guest_blk(guest)), node("n"));
    assert_ptr_equal(bdrv_cow_bs(node("n")), node("s"));
    assert_view(0, 0x33);
    assert_view(131072, 0x33);
    assert_null(bdrv_find_node(bed.host, "top"));
}

/* fact: jobs 4.7/backing-absolute */
static void test_none(void **state)
{
    write_bytes(0, 65536);
    start_ready("drive-mirror", DRIVE("\"sync\":\"none\",\"format\":\"qcow2\",\"node-name\":\"n\""));
    write_bytes(131072, 4096);
    complete("ok");
    assert_ptr_equal(blk_bs(guest_blk(guest)), node("n"));
    assert_ptr_equal(bdrv_cow_bs(node("n")), node("s"));
    assert_view(0, 0x33);
    assert_view(131072, 0x33);
    assert_view(262144, 0);
}

static BlockDriverState *held;

static void hold(void *opaque)
{
    held = node("n");
    bdrv_ref(held);
}

static void let_go(void *opaque)
{
    bdrv_unref(held);
}

/* fact: jobs 4.7/backing-soft-cancel */
static void test_soft_cancel(void **state)
{
    put_top();
    start_ready("drive-mirror", DRIVE("\"sync\":\"top\",\"node-name\":\"n\""));
    bed_on_main(hold);
    ok("block-job-cancel", "{\"device\":\"m\"}");
    bed_settle();
    assert_string_equal(outcome, "ok");
    assert_ptr_equal(blk_bs(guest_blk(guest)), node("top"));
    assert_ptr_equal(bdrv_cow_bs(held), node("s"));
    bed_on_main(let_go);
    /* a force cancel leaves it alone, and the file stays */
    start_ready("drive-mirror",
                DRIVE("\"sync\":\"top\",\"mode\":\"existing\",\"format\":\"qcow2\",\"node-name\":\"n\""));
    bed_on_main(hold);
    cancel();
    assert_null(bdrv_cow_bs(held));
    bed_on_main(let_go);
}

/* The format is seen from the content, and what the header names comes with the end.
 *
 * fact: jobs 4.7/backing-existing, seed/31ca6d0 */
static void test_existing(void **state)
{
    put_top();
    make_image("new", ",\"backing-file\":\"d\",\"backing-fmt\":\"raw\"");
    start_ready("drive-mirror", DRIVE("\"sync\":\"top\",\"mode\":\"existing\",\"node-name\":\"n\""));
    assert_string_equal(bdrv_driver_name(node("n")), "qcow2");
    assert_null(bdrv_cow_bs(node("n")));
    complete("ok");
    assert_ptr_equal(blk_bs(guest_blk(guest)), node("n"));
    assert_non_null(bdrv_cow_bs(node("n")));
    assert_ptr_not_equal(bdrv_cow_bs(node("n")), node("s"));
    assert_string_equal(bdrv_filename(bdrv_cow_bs(node("n"))), "d");
    assert_view(0, 0x33);
    assert_view(131072, 0x33);
}

/* What an existing file held is gone, also where the source has nothing. */
static void test_existing_full(void **state)
{
    struct payload garbage;
    struct disk *disk = make_disk("new", MiB);

    payload_init(bed.sim, &garbage);
    payload_append_fill(&garbage, 0xee, MiB);
    disk_poke(disk, 0, &garbage);
    payload_clear(&garbage);
    write_bytes(0, 4096);
    start_ready(
        "drive-mirror",
        DRIVE("\"sync\":\"full\",\"mode\":\"existing\",\"format\":\"raw\",\"node-name\":\"n\",\"unmap\":false"));
    complete("ok");
    assert_view(0, 0x33);
    assert_view(65536, 0);
    assert_view(MiB - 512, 0);
}

/* The backing file is not to be had: the job fails and says which file it was; the guest stays.
 *
 * fact: jobs 4.7/backing-failure, edge/18, seed/34b5d2c, seed/dacc26a, seed/50c7513 */
static void test_backing_gone(void **state)
{
    put_top();
    make_image("new", ",\"backing-file\":\"gone\",\"backing-fmt\":\"raw\"");
    start_ready("drive-mirror", DRIVE("\"sync\":\"top\",\"mode\":\"existing\",\"node-name\":\"n\""));
    complete("Could not open backing file: Could not open 'gone': No such file or directory");
    assert_ptr_equal(blk_bs(guest_blk(guest)), node("top"));
    assert_null(bdrv_find_node(bed.host, "n"));
    /* nothing is in the way of another */
    start_ready("drive-mirror", DRIVE("\"sync\":\"full\",\"mode\":\"existing\",\"format\":\"qcow2\""));
    cancel();
}

/* blockdev-mirror is about nodes: their chain is the user's.
 *
 * fact: jobs 4.7/backing-blockdev */
static void test_blockdev(void **state)
{
    put_top();
    make_image("new", ",\"backing-file\":\"d\",\"backing-fmt\":\"raw\"");
    ok("blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"n\",\"backing\":null,\"file\":{\"driver\":\"disk\","
                       "\"disk\":\"new\"}}");
    start_ready("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"g\",\"target\":\"n\",\"sync\":\"top\"}");
    complete("ok");
    assert_null(bdrv_cow_bs(node("n")));
    bed.also_del = "n";
}

/* --- refusals ------------------------------------------------------------------------------------------- */

/* fact: jobs 4.2/refused-drive-mirror, 4.2/granularity-range */
static void test_refusal_leaves_file(void **state)
{
    assert_null(disk_find(bed.sim, "new"));
    expect("drive-mirror", DRIVE("\"sync\":\"full\",\"format\":\"qcow2\",\"node-name\":\"n\",\"granularity\":1000"),
           "GenericError: Parameter 'granularity' expects a power of 2");
    assert_null(bdrv_find_node(bed.host, "n"));
    assert_ptr_equal(blk_bs(guest_blk(guest)), node("s"));
    assert_true(disk_length(disk_find(bed.sim, "new")) > 0);
    start_ready("drive-mirror", DRIVE("\"sync\":\"full\",\"mode\":\"existing\",\"node-name\":\"n\""));
    assert_string_equal(bdrv_driver_name(node("n")), "qcow2");
    cancel();
}

/* Before anything is made.
 *
 * fact: jobs 4.7/replaces-drive, 9/root-node, 9/device-not-found, 4.2/root-node */
static void test_refusals(void **state)
{
    static const struct {
        const char *args;
        const char *text;
    } bad[] = {
        {"{\"device\":\"x\",\"target\":\"new\",\"sync\":\"full\"}",
         "GenericError: Cannot find device='x' nor node-name='x'"},
        {"{\"device\":\"s\",\"target\":\"new\",\"sync\":\"full\"}", "GenericError: Need a root block node"},
        {"{\"device\":\"g\",\"target\":\"new\",\"sync\":\"full\",\"replaces\":\"top\"}",
         "GenericError: a node-name must be provided when replacing a named node of the graph"},
        {"{\"device\":\"g\",\"target\":\"new\",\"sync\":\"full\",\"format\":\"nonsense\"}",
         "GenericError: Unknown file format 'nonsense'"},
        {"{\"device\":\"g\",\"target\":\"new\",\"sync\":\"top\",\"format\":\"raw\"}",
         "GenericError: Backing file not supported for file format 'raw'"},
        {"{\"device\":\"g\",\"target\":\"new\",\"sync\":\"full\",\"mode\":\"existing\"}",
         "GenericError: Could not open 'new': No such file or directory"},
    };

    put_top();
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        refused("drive-mirror", bad[i].args, bad[i].text);
        assert_null(disk_find(bed.sim, "new"));
    }
}

/* fact: jobs 4.2/filter-over-source, 4.7/backing-blocked, seed/826b6ca */
static void test_target_in_chain(void **state)
{
    put_top();
    ok("blockdev-add", "{\"driver\":\"blkdebug\",\"node-name\":\"f\",\"image\":\"s\"}");
    refused("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"g\",\"target\":\"f\",\"sync\":\"full\"}",
            "GenericError: Cannot mirror to a filter on top of a node in the source's backing chain");
    expect("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"g\",\"target\":\"s\",\"sync\":\"full\"}",
           "GenericError: Node 's' is busy: node is used as backing hd of 'top'");
    del("f");
}

/* fact: jobs 9/blockdev-mirror, 4.2/target-exists, 4.2/itself */
static void test_blockdev_refusals(void **state)
{
    static const struct {
        const char *more;
        const char *text;
    } bad[] = {
        {"\"target\":\"x\",\"sync\":\"full\"", "GenericError: Cannot find device='x' nor node-name='x'"},
        {"\"target\":\"g\",\"sync\":\"full\"", "GenericError: Can't mirror node into itself"},
        {"\"target\":\"n\",\"sync\":\"full\",\"granularity\":256",
         "GenericError: Parameter 'granularity' expects a value in range [512B, 64MB]"},
        {"\"target\":\"n\",\"sync\":\"bitmap\"", "GenericError: Sync mode 'bitmap' not supported"},
        {"\"target\":\"n\",\"sync\":\"full\",\"buf-size\":-1", "GenericError: Invalid parameter 'buf-size'"},
        {"\"target\":\"n\",\"sync\":\"full\",\"speed\":-1",
         "GenericError: Parameter 'speed' expects a non-negative value"},
        {"\"target\":\"n\",\"sync\":\"full\",\"replaces\":\"x\"",
         "GenericError: Failed to find node with node-name='x'"},
        {"\"target\":\"n\",\"sync\":\"full\",\"replaces\":\"short\"",
         "GenericError: cannot replace image with a mirror image of different size"},
        {"\"target\":\"n\",\"sync\":\"full\",\"replaces\":\"n\"",
         "GenericError: Cannot replace 'n' by a node mirrored from 's', because it cannot be guaranteed that doing "
         "so would not lead to an abrupt change of visible data"},
    };
    char json[200];

    add_disk_node("n", MiB);
    add_disk_node("short", 64 * KiB);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        snprintf(json, sizeof(json), "{\"job-id\":\"m\",\"device\":\"g\",%s}", bad[i].more);
        refused("blockdev-mirror", json, bad[i].text);
    }
    del("n");
    del("short");
}

/* --- copy mode ------------------------------------------------------------------------------------------ */

static bool synced(void)
{
    char *text = call("query-block-jobs", "{}");
    bool yes = strstr(text, "\"actively-synced\":true") != NULL;

    assert_true(yes || strstr(text, "\"actively-synced\":false") != NULL);
    free(text);
    return yes;
}

#define CHANGE(mode) "{\"id\":\"m\",\"type\":\"mirror\",\"copy-mode\":\"" mode "\"}"

/* fact: jobs 4.6/change, 4.6/change-refused, 4.6/actively-synced */
static void test_change(void **state)
{
    expect("block-job-change", CHANGE("write-blocking"), "DeviceNotActive: Block job 'm' not found");
    start_ready("drive-mirror", DRIVE("\"sync\":\"full\",\"format\":\"raw\",\"node-name\":\"n\""));
    ok("block-job-change", CHANGE("background"));
    assert_false(synced());
    expect("block-job-change", "{\"id\":\"m\",\"type\":\"commit\",\"copy-mode\":\"write-blocking\"}",
           "GenericError: Job 'm' is of type 'mirror', not 'commit'");
    ok("block-job-change", CHANGE("write-blocking"));
    ok("block-job-change", CHANGE("write-blocking"));
    bed_run_until(sim_now(bed.sim) + NS_PER_S);
    assert_true(synced());
    expect("block-job-change", CHANGE("background"),
           "GenericError: Change to copy mode 'background' is not implemented");
    write_bytes(0, 4096);
    assert_true(synced());
    complete("ok");
    assert_ptr_equal(blk_bs(guest_blk(guest)), node("n"));
}

/* fact: jobs 9/blockdev-mirror, 4.6/actively-synced */
static void test_write_blocking(void **state)
{
    add_disk_node("n", MiB);
    start_ready("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"g\",\"target\":\"n\",\"sync\":\"full\","
                                   "\"copy-mode\":\"write-blocking\"}");
    assert_true(synced());
    complete("ok");
    bed.also_del = "n";
}

/* An empty disk is in sync from the start, whatever the mode. */
static void test_empty_synced(void **state)
{
    add_disk_node("e1", 0);
    add_disk_node("e2", 0);
    start_ready("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"e1\",\"target\":\"e2\",\"sync\":\"full\"}");
    assert_true(synced());
    cancel();
    del("e1");
    del("e2");
}

/* --- what is replaced ----------------------------------------------------------------------------------- */

static int quorum_setup(void **state)
{
    mirror_setup(state);
    add_disk_node("c0", MiB);
    add_disk_node("c1", MiB);
    add_disk_node("c2", MiB);
    add_disk_node("t", MiB);
    ok("blockdev-add",
       "{\"driver\":\"quorum\",\"node-name\":\"q\",\"vote-threshold\":2,\"children\":[\"c0\",\"c1\","
       "\"c2\"]}");
    return 0;
}

static int quorum_teardown(void **state)
{
    static const char *const names[] = {"q", "c0", "c1", "c2", "t"};

    bed_settle();
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (bdrv_find_node(bed.host, names[i])) {
            del(names[i]);
        }
    }
    return mirror_teardown(state);
}

static bool has_child(const char *parent, const char *child)
{
    for (BdrvChild *edge = bdrv_first_child(node(parent)); edge; edge = bdrv_next_child(edge)) {
        if (bdrv_child_bs(edge) == node(child)) {
            return true;
        }
    }
    return false;
}

#define REPLACES(name) \
    "{\"job-id\":\"m\",\"device\":\"q\",\"target\":\"t\",\"sync\":\"full\",\"replaces\":\"" name "\"}"
#define ABRUPT(name) \
    "GenericError: Cannot replace '" name \
    "' by a node mirrored from 'q', because it cannot be guaranteed that doing " \
    "so would not lead to an abrupt change of visible data"

/* A child of a quorum that nobody else looks at.
 *
 * fact: jobs 4.7/replaces-start, seed/09158f0 */
static void test_quorum_child(void **state)
{
    start_ready("blockdev-mirror", REPLACES("c1"));
    complete("ok");
    assert_true(has_child("q", "t"));
    assert_false(has_child("q", "c1"));
    assert_true(has_child("q", "c0"));
}

static BlockBackend *viewer;

static void look(void *opaque)
{
    viewer = blk_new(bed.host, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(viewer, node("c1"), NULL), 0);
}

static void look_away(void *opaque)
{
    blk_unref(viewer);
}

/* fact: jobs 4.7/replaces-start */
static void test_quorum_child_in_use(void **state)
{
    bed_on_main(look);
    refused("blockdev-mirror", REPLACES("c1"), ABRUPT("c1"));
    bed_on_main(look_away);
}

/* Looked up when it is told to complete, blocked from then on; and looked at again when it is replaced: somebody
 * has come to see it. The job fails, all stays as it was.
 *
 * fact: jobs 4.7/replaces-late, 4.7/switch-refused, 4.7/complete-in-standby, edge/37, edge/39 */
static void test_quorum_child_found_in_use(void **state)
{
    start_ready("blockdev-mirror", REPLACES("c1"));
    ok("job-pause", "{\"id\":\"m\"}");
    bed_settle();
    ok("job-complete", "{\"id\":\"m\"}");
    expect("blockdev-mirror", "{\"job-id\":\"m2\",\"device\":\"g\",\"target\":\"c1\",\"sync\":\"full\"}",
           "GenericError: Node 'c1' is busy: block device is in use by block-job-complete");
    bed_on_main(look);
    ok("job-resume", "{\"id\":\"m\"}");
    bed_settle();
    assert_string_equal(outcome, "Operation not permitted");
    assert_true(has_child("q", "c1"));
    assert_false(has_child("q", "t"));
    assert_int_equal(bdrv_op_blockers(node("c1")), 0);
    assert_int_equal(sim_mark_hits(bed.sim, MARK_mirror_switch_refused), 1);
    bed_on_main(look_away);
}

/* Gone by then: the job goes on, and can be told again or cancelled.
 *
 * fact: jobs 4.7/replaces-late, edge/37 */
static void test_quorum_child_gone(void **state)
{
    start_ready("blockdev-mirror", REPLACES("c1"));
    ok("x-blockdev-change", "{\"parent\":\"q\",\"child\":\"children.1\"}");
    del("c1");
    expect("block-job-complete", "{\"device\":\"m\"}", "GenericError: Node name 'c1' not found");
    bed_run_until(sim_now(bed.sim) + NS_PER_S);
    assert_string_equal(outcome, "");
    cancel();
}

/* A filter over the source, and the source below one. */
static void test_filter_chain(void **state)
{
    add_disk_node("t", MiB);
    ok("blockdev-add",
       "{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":{\"driver\":\"null-co\",\"size\":1048576}}");
    ok("blockdev-add", "{\"driver\":\"blkdebug\",\"node-name\":\"f\",\"image\":\"r\"}");
    start_ready("blockdev-mirror",
                "{\"job-id\":\"m\",\"device\":\"f\",\"target\":\"t\",\"sync\":\"full\",\"replaces\":\"r\"}");
    complete("ok");
    assert_true(has_child("f", "t"));
    del("f");
    del("r");
    bed.also_del = "t";
}

/* The target becomes what the source was.
 *
 * fact: jobs 4.7/read-only */
static void test_read_only(void **state)
{
    make_disk("ro", MiB);
    ok("blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"r\",\"read-only\":true,\"file\":{\"driver\":\"disk\","
                       "\"disk\":\"ro\"}}");
    add_disk_node("t", MiB);
    start_ready("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"r\",\"target\":\"t\",\"sync\":\"full\"}");
    assert_false(bdrv_is_read_only(node("t")));
    complete("ok");
    assert_true(bdrv_is_read_only(node("t")));
    del("r");
    bed.also_del = "t";
}

#define MIRROR_TEST(path, fn) T_SETUP(path, fn, mirror_setup, mirror_teardown)
#define QUORUM_TEST(path, fn) T_SETUP(path, fn, quorum_setup, quorum_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MIRROR_TEST("/drive-mirror/new-file", test_new_file),
        MIRROR_TEST("/drive-mirror/defaults", test_defaults),
        MIRROR_TEST("/drive-mirror/top", test_top),
        MIRROR_TEST("/drive-mirror/none", test_none),
        MIRROR_TEST("/drive-mirror/soft-cancel", test_soft_cancel),
        MIRROR_TEST("/drive-mirror/seed/31ca6d0/existing", test_existing),
        MIRROR_TEST("/drive-mirror/existing-full", test_existing_full),
        MIRROR_TEST("/drive-mirror/seed/34b5d2c/dacc26a/50c7513/backing-gone", test_backing_gone),
        MIRROR_TEST("/drive-mirror/refusal-leaves-file", test_refusal_leaves_file),
        MIRROR_TEST("/drive-mirror/refusals", test_refusals),
        MIRROR_TEST("/blockdev-mirror/backing-stays", test_blockdev),
        MIRROR_TEST("/blockdev-mirror/seed/826b6ca/target-in-chain", test_target_in_chain),
        MIRROR_TEST("/blockdev-mirror/refusals", test_blockdev_refusals),
        MIRROR_TEST("/block-job-change/mirror", test_change),
        MIRROR_TEST("/blockdev-mirror/write-blocking", test_write_blocking),
        MIRROR_TEST("/blockdev-mirror/empty-is-synced", test_empty_synced),
        QUORUM_TEST("/blockdev-mirror/seed/09158f0/quorum-child", test_quorum_child),
        QUORUM_TEST("/blockdev-mirror/quorum-child-in-use", test_quorum_child_in_use),
        QUORUM_TEST("/blockdev-mirror/seed/09158f0/quorum-child-found-in-use", test_quorum_child_found_in_use),
        QUORUM_TEST("/blockdev-mirror/quorum-child-gone", test_quorum_child_gone),
        MIRROR_TEST("/blockdev-mirror/replaces-below-filter", test_filter_chain),
        MIRROR_TEST("/blockdev-mirror/read-only", test_read_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
