/* Protects: snapshots, made images and rewritten headers by command: conditions, texts, and that refusal leaves
 * nothing. */
#include "tests/block/imgfmt.h"
#include "tests/monitor/qmplib.h"

#include "block/backend.h"

/* Guest g on node "s" (disk "d") comes from the bed; "top" and "over" are images. */

static BlockDriverState *node(const char *name)
{
    BlockDriverState *bs = bdrv_find_node(bed.host, name);
    assert_non_null(bs);
    return bs;
}

static void make_images(void *opaque)
{
    assert_int_equal(bdrv_img_create(bed.host, "over", "img", MiB, NULL, NULL, NULL), 0);
    assert_int_equal(bdrv_img_create(bed.host, "over2", "img", MiB, NULL, NULL, NULL), 0);
    assert_int_equal(bdrv_img_create(bed.host, "based", "img", MiB, "d", "raw", NULL), 0);
}

static int images_setup(void **state)
{
    memset(&img, 0, sizeof(img));
    qmp_setup(state);
    bed_on_main(make_images);
    return 0;
}

static void add(const char *name, const char *options)
{
    char json[256];
    snprintf(json, sizeof(json), "{\"node-name\":\"%s\",%s}", name, options);
    ok("blockdev-add", json);
}

static void add_image(const char *name, const char *disk)
{
    char options[160];
    snprintf(options, sizeof(options), "\"driver\":\"img\",\"file\":{\"driver\":\"disk\",\"disk\":\"%s\"}", disk);
    add(name, options);
}

static void del(const char *name)
{
    char json[64];
    snprintf(json, sizeof(json), "{\"node-name\":\"%s\"}", name);
    ok("blockdev-del", json);
}

static void unplug(void *opaque)
{
    guest_delete(guest);
}

static char *parents_text(const char *name)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (BdrvChild *edge = bdrv_first_parent(node(name)); edge; edge = bdrv_next_parent(edge)) {
        uint64_t perm, shared;
        char *desc = bdrv_child_user_desc(edge);
        bdrv_child_perms(edge, &perm, &shared);
        fprintf(out, "%s %s %llx/%llx; ", desc, bdrv_child_name(edge), (unsigned long long)perm,
                (unsigned long long)shared);
        free(desc);
    }
    fclose(out);
    return text;
}

static uint8_t first_byte(const char *name)
{
    struct payload p;
    uint8_t byte;
    payload_init(bed.sim, &p);
    assert_int_equal(bdrv_peek(node(name), 0, 512, &p), 0);
    payload_read_bytes(&p, 0, &byte, 1);
    payload_clear(&p);
    return byte;
}

/* --- blockdev-snapshot ------------------------------------------------------------------------------------ */

/* The device goes on on the overlay; the node under it keeps what it held, read-only. */
/* fact: block 9/snapshot, 9/snapshot-stays, 9/snapshot-read-only, 1.6/follows */
static void test_snapshot(void **state)
{
    add_bitmap("s", "b", 65536);
    write_bytes(0, 512);
    add_image("o", "over");
    ok("blockdev-snapshot", "{\"node\":\"g\",\"overlay\":\"o\"}");
    BlockDriverState *o = node("o");
    assert_ptr_equal(blk_bs(blk_by_name(bed.host, "g")), o);
    assert_ptr_equal(bdrv_cow_bs(o), node("s"));
    assert_true(bdrv_is_read_only(node("s")));
    assert_false(bdrv_is_read_only(o));
    assert_int_equal(bdrv_quiesce_counter(node("s")) + bdrv_quiesce_counter(o), 0);
    expect_bitmaps("s", "b:e=0, ");
    write_bytes(4096, 4096);
    expect_bitmaps("s", "b:e=0, "); /* stays, and what is written now is none of its business */
    assert_int_equal(first_byte("s"), 0x33);
    bed_on_main(unplug);
    ok("block-dirty-bitmap-remove", "{\"node\":\"s\",\"name\":\"b\"}");
    del("o");
}

static Error *reason;

static void block_snapshots(void *opaque)
{
    error_setg(&reason, "a test holds it");
    bdrv_op_block(node("s"), BLOCK_OP_EXTERNAL_SNAPSHOT, reason);
}

static void unblock_snapshots(void *opaque)
{
    bdrv_op_unblock_all(node("s"), reason);
    error_free(reason);
    reason = NULL;
}

static BlockBackend *extra;

static void read_o(void *opaque)
{
    extra = blk_new(bed.host, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(extra, node("o"), NULL), 0);
}

static void write_o(void *opaque)
{
    extra = blk_new(bed.host, BLK_PERM_WRITE_UNCHANGED, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(extra, node("o"), NULL), 0);
}

static void drop_extra(void *opaque)
{
    blk_unref(extra);
}

static void make_empty_device(void *opaque)
{
    extra = blk_new(bed.host, 0, BLK_PERM_ALL);
    assert_true(blk_set_name(extra, "empty", NULL));
}

/* fact: block 9/snapshot-refused */
static void test_snapshot_refused(void **state)
{
    bed_on_main(make_empty_device);
    refused("blockdev-snapshot", "{\"node\":\"empty\",\"overlay\":\"s\"}",
            "GenericError: Device 'empty' has no medium");
    bed_on_main(drop_extra);
    refused("blockdev-snapshot", "{\"node\":\"x\",\"overlay\":\"s\"}",
            "GenericError: Cannot find device='x' nor node-name='x'");
    refused("blockdev-snapshot", "{\"node\":\"s\",\"overlay\":\"x\"}",
            "GenericError: Cannot find device='x' nor node-name='x'");
    bed_on_main(block_snapshots);
    refused("blockdev-snapshot", "{\"node\":\"s\",\"overlay\":\"s\"}",
            "GenericError: Node 's' is busy: a test holds it");
    bed_on_main(unblock_snapshots);
    add_image("o", "over");
    write_bytes(0, 512);
    bed_fail(SIM_OP_FLUSH, EIO, 1);
    refused("blockdev-snapshot", "{\"node\":\"s\",\"overlay\":\"o\"}", "GenericError: Write to node 's' failed");
    bed_on_main(read_o);
    /* twice: the first one's flush makes the medium forget what was not durable */
    expect("blockdev-snapshot", "{\"node\":\"s\",\"overlay\":\"o\"}",
           "GenericError: The overlay is already in use");
    refused("blockdev-snapshot", "{\"node\":\"s\",\"overlay\":\"o\"}",
            "GenericError: The overlay is already in use");
    bed_on_main(drop_extra);
    del("o");
    add("cor", "\"driver\":\"copy-on-read\",\"file\":{\"driver\":\"null-co\"}");
    refused("blockdev-snapshot", "{\"node\":\"s\",\"overlay\":\"cor\"}",
            "GenericError: Filters cannot be used as overlays");
    del("cor");
    add("n", "\"driver\":\"null-co\"");
    refused("blockdev-snapshot", "{\"node\":\"s\",\"overlay\":\"n\"}",
            "GenericError: The overlay does not support backing images");
    del("n");
    add("below", "\"driver\":\"null-co\"");
    add("o", "\"driver\":\"img\",\"file\":{\"driver\":\"disk\",\"disk\":\"over\"},\"backing\":\"below\"");
    refused("blockdev-snapshot", "{\"node\":\"s\",\"overlay\":\"o\"}",
            "GenericError: The overlay already has a backing image");
    del("o");
    del("below");
    /* What is to go on top stands below. */
    add_image("o", "over");
    add("r", "\"driver\":\"raw\",\"file\":\"o\"");
    refused("blockdev-snapshot", "{\"node\":\"r\",\"overlay\":\"o\"}",
            "GenericError: Making 'r' a backing child of 'o' would create a cycle");
    refused("blockdev-snapshot", "{\"node\":\"o\",\"overlay\":\"o\"}",
            "GenericError: Making 'o' a backing child of 'o' would create a cycle");
    del("r");
    del("o");
}

/* Who only writes to the overlay, as a mirror does to its target, may do so already. */
/* fact: block 9/snapshot-refused */
static void test_write_only_user(void **state)
{
    add_image("o", "over");
    bed_on_main(write_o);
    ok("blockdev-snapshot", "{\"node\":\"s\",\"overlay\":\"o\"}");
    assert_ptr_equal(blk_bs(extra), node("o"));
    bed_on_main(drop_extra);
    bed_on_main(unplug);
    del("o");
}

/* Undone, each user is where it was, and first who was first. The write-only user of the overlay stays on it: the
 * original's way, which moves all parents of the overlay, would put a mirror's writes into the source. */
/* fact: block 9/transaction, 9/transaction-order */
static void test_undone(void **state)
{
    add_image("o", "over");
    add_image("o2", "over2");
    bed_on_main(write_o);
    char *s_before = parents_text("s");
    char *o_before = parents_text("o");
    refused("transaction",
            "{\"actions\":[{\"type\":\"blockdev-snapshot\",\"data\":{\"node\":\"g\",\"overlay\":\"o\"}},"
            "{\"type\":\"blockdev-snapshot\",\"data\":{\"node\":\"g\",\"overlay\":\"o2\"}},"
            "{\"type\":\"abort\",\"data\":{}}]}",
            "GenericError: Transaction aborted using Abort action");
    expect_text(parents_text("s"), s_before);
    expect_text(parents_text("o"), o_before);
    free(s_before);
    free(o_before);
    assert_null(bdrv_cow_bs(node("o")));
    assert_null(bdrv_first_parent(node("o2")));
    assert_ptr_equal(blk_bs(extra), node("o"));
    assert_false(bdrv_is_read_only(node("s")));
    assert_int_equal(bdrv_quiesce_counter(node("s")), 0);
    bed_on_main(drop_extra);
    del("o");
    del("o2");
}

/* Two snapshots of one device in one transaction: a chain of three. */
static void test_two_at_once(void **state)
{
    add_image("o", "over");
    add_image("o2", "over2");
    ok("transaction", "{\"actions\":[{\"type\":\"blockdev-snapshot\",\"data\":{\"node\":\"g\",\"overlay\":\"o\"}},"
                      "{\"type\":\"blockdev-snapshot\",\"data\":{\"node\":\"g\",\"overlay\":\"o2\"}}]}");
    assert_ptr_equal(blk_bs(blk_by_name(bed.host, "g")), node("o2"));
    assert_ptr_equal(bdrv_cow_bs(node("o2")), node("o"));
    assert_ptr_equal(bdrv_cow_bs(node("o")), node("s"));
    assert_true(bdrv_is_read_only(node("o")));
    assert_true(bdrv_is_read_only(node("s")));
    bed_on_main(unplug);
    del("o2");
    del("o");
}

static void enable_cor(void *opaque)
{
    bdrv_enable_copy_on_read(node("s"));
}

static void disable_cor(void *opaque)
{
    bdrv_disable_copy_on_read(node("s"));
}

/* Read-only in the end if it can be, and no word if not. */
/* fact: block 9/snapshot-read-only, edge/36 */
static void test_stays_writable(void **state)
{
    bed_on_main(enable_cor);
    add_image("o", "over");
    ok("blockdev-snapshot", "{\"node\":\"s\",\"overlay\":\"o\"}");
    assert_false(bdrv_is_read_only(node("s")));
    bed_on_main(disable_cor);
    bed_on_main(unplug);
    del("o");
}

/* --- blockdev-snapshot-sync -------------------------------------------------------------------------------- */

/* fact: block 9/snapshot-sync */
static void test_sync(void **state)
{
    write_bytes(0, 512);
    ok("blockdev-snapshot-sync", "{\"device\":\"g\",\"snapshot-file\":\"new\",\"format\":\"img\"}");
    BlockDriverState *top = blk_bs(blk_by_name(bed.host, "g"));
    assert_string_equal(bdrv_driver_name(top), "img");
    assert_ptr_equal(bdrv_cow_bs(top), node("s"));
    assert_int_equal(bdrv_getlength_cached(top), MiB);
    expect_header(bed.sim, "new", "d raw"); /* of the disk it says what can be opened anywhere */
    assert_true(bdrv_is_read_only(node("s")));
    assert_false(bdrv_has_monitor_ref(top));
    ok("blockdev-snapshot-sync",
       "{\"device\":\"g\",\"snapshot-file\":\"over\",\"format\":\"img\",\"mode\":\"existing\","
       "\"snapshot-node-name\":\"o\"}");
    assert_ptr_equal(bdrv_cow_bs(node("o")), top);
    expect_header(bed.sim, "over", " "); /* existing: as it was */
    bed_on_main(unplug);
    assert_null(bdrv_find_node(bed.host, "o")); /* nobody's */
}

/* fact: block 9/snapshot-sync */
static void test_sync_refused(void **state)
{
    refused("blockdev-snapshot-sync", "{\"snapshot-file\":\"x\"}",
            "GenericError: Cannot find device='' nor node-name=''");
    refused("blockdev-snapshot-sync", "{\"node-name\":\"s\",\"snapshot-file\":\"x\",\"format\":\"img\"}",
            "GenericError: New overlay node-name missing");
    refused("blockdev-snapshot-sync",
            "{\"node-name\":\"s\",\"snapshot-node-name\":\"g\",\"snapshot-file\":\"x\",\"format\":\"img\"}",
            "GenericError: New overlay node-name already in use");
    refused("blockdev-snapshot-sync", "{\"device\":\"g\",\"snapshot-file\":\"x\"}",
            "GenericError: Unknown file format 'qcow2'");
    refused("blockdev-snapshot-sync", "{\"device\":\"g\",\"snapshot-file\":\"x\",\"format\":\"null-co\"}",
            "GenericError: Format driver 'null-co' does not support image creation");
    refused("blockdev-snapshot-sync", "{\"device\":\"g\",\"snapshot-file\":\"x\",\"format\":\"raw\"}",
            "GenericError: Backing file not supported for file format 'raw'");
    refused("blockdev-snapshot-sync", "{\"device\":\"g\",\"snapshot-file\":\"d\",\"format\":\"img\"}",
            "GenericError: Error: Trying to create an image with the same filename as the backing file");
    refused("blockdev-snapshot-sync",
            "{\"device\":\"g\",\"snapshot-file\":\"nope\",\"format\":\"img\",\"mode\":\"existing\"}",
            "GenericError: Could not open 'nope': No such file or directory");
    refused("blockdev-snapshot-sync",
            "{\"device\":\"g\",\"snapshot-file\":\"over\",\"format\":\"raw\",\"mode\":\"existing\"}",
            "GenericError: The overlay does not support backing images");
    refused("blockdev-snapshot-sync",
            "{\"device\":\"g\",\"snapshot-file\":\"over\",\"format\":\"img\",\"mode\":\"old\"}",
            "GenericError: Parameter 'mode' does not accept value 'old'");
    img.create_ret = -ENOSPC;
    expect("blockdev-snapshot-sync", "{\"device\":\"g\",\"snapshot-file\":\"x\",\"format\":\"img\"}",
           "GenericError: Could not create image: No space left on device");
    assert_ptr_equal(blk_bs(blk_by_name(bed.host, "g")), node("s"));
    assert_int_equal(bdrv_quiesce_counter(node("s")), 0);
}

/* --- change-backing-file ----------------------------------------------------------------------------------- */

/* The format written is that of the backing image. With the original's way, the image's own format, the image could
 * not be opened by its header any more: the raw file below is no image of that format. */
/* fact: block 9/change-backing-file */
static void test_change_backing(void **state)
{
    add("b", "\"driver\":\"disk\",\"disk\":\"over2\",\"read-only\":true");
    add("o", "\"driver\":\"img\",\"file\":{\"driver\":\"disk\",\"disk\":\"over\"},\"backing\":\"b\"");
    ok("change-backing-file", "{\"device\":\"o\",\"image-node-name\":\"o\",\"backing-file\":\"d\"}");
    expect_header(bed.sim, "over", "d raw");
    assert_string_equal(bdrv_backing_filename(node("o")), "d");
    assert_ptr_equal(bdrv_cow_bs(node("o")), node("b")); /* metadata only */
    del("o");
    bed_on_main(unplug);
    del("s");
    add_image("o", "over"); /* by its header */
    assert_string_equal(bdrv_driver_name(bdrv_cow_bs(node("o"))), "raw");
    assert_string_equal(bdrv_filename(bdrv_cow_bs(node("o"))), "d");
    del("o");
    del("b");
    add("s", "\"driver\":\"disk\",\"disk\":\"d\"");
}

/* An image in the middle, read-only: it is written all the same, and read-only afterwards. */
/* fact: block 9/change-backing-file */
static void test_change_backing_read_only(void **state)
{
    add("m", "\"driver\":\"img\",\"file\":{\"driver\":\"disk\",\"disk\":\"over\"},\"read-only\":true,"
             "\"backing\":{\"driver\":\"null-co\"}");
    add("o", "\"driver\":\"img\",\"file\":{\"driver\":\"disk\",\"disk\":\"over2\"},\"backing\":\"m\"");
    ok("change-backing-file", "{\"device\":\"o\",\"image-node-name\":\"m\",\"backing-file\":\"elsewhere\"}");
    expect_header(bed.sim, "over", "elsewhere raw");
    assert_true(img.was_writable);
    assert_true(bdrv_is_read_only(node("m")));
    img.change_ret = -EIO;
    refused("change-backing-file", "{\"device\":\"o\",\"image-node-name\":\"m\",\"backing-file\":\"y\"}",
            "GenericError: Could not change backing file to 'y': Input/output error");
    assert_true(bdrv_is_read_only(node("m")));
    del("o");
    del("m");
}

static void block_change(void *opaque)
{
    error_setg(&reason, "a test holds it");
    bdrv_op_block(node("o"), BLOCK_OP_CHANGE, reason);
}

static void unblock_change(void *opaque)
{
    bdrv_op_unblock_all(node("o"), reason);
    error_free(reason);
    reason = NULL;
}

/* fact: block 9/change-backing-file */
static void test_change_backing_refused(void **state)
{
    add("n", "\"driver\":\"null-co\"");
    add("o", "\"driver\":\"img\",\"file\":{\"driver\":\"disk\",\"disk\":\"over\"},\"backing\":\"n\"");
    add("o2", "\"driver\":\"img\",\"file\":{\"driver\":\"disk\",\"disk\":\"over2\"},\"backing\":\"n\"");
    refused("change-backing-file", "{\"device\":\"x\",\"image-node-name\":\"o\",\"backing-file\":\"y\"}",
            "GenericError: Cannot find device='x' nor node-name='x'");
    refused("change-backing-file", "{\"device\":\"n\",\"image-node-name\":\"n\",\"backing-file\":\"y\"}",
            "GenericError: Need a root block node");
    refused("change-backing-file", "{\"device\":\"o\",\"image-node-name\":\"x\",\"backing-file\":\"y\"}",
            "GenericError: image file not found");
    refused("change-backing-file", "{\"device\":\"o\",\"image-node-name\":\"n\",\"backing-file\":\"y\"}",
            "GenericError: not allowing backing file change on an image without a backing file");
    refused("change-backing-file", "{\"device\":\"o\",\"image-node-name\":\"o2\",\"backing-file\":\"y\"}",
            "GenericError: 'o' and image file are not in the same chain");
    bed_on_main(block_change);
    refused("change-backing-file", "{\"device\":\"o\",\"image-node-name\":\"o\",\"backing-file\":\"y\"}",
            "GenericError: Node 'o' is busy: a test holds it");
    bed_on_main(unblock_change);
    expect_header(bed.sim, "over", " ");
    del("o2");
    del("o");
    del("n");
}

/* --- blockdev-create --------------------------------------------------------------------------------------- */

static void create(const char *options, const char *error)
{
    char json[256];
    snprintf(json, sizeof(json), "{\"job-id\":\"c\",\"options\":{%s}}", options);
    ok("blockdev-create", json);
    bed_settle();
    char *jobs = call("query-jobs", "{}");
    assert_non_null(strstr(jobs, "\"type\":\"create\""));
    assert_non_null(strstr(jobs, "\"current-progress\":1,\"total-progress\":1"));
    assert_non_null(strstr(jobs, "\"status\":\"concluded\"")); /* and stays until it is dismissed */
    if (error && !strstr(jobs, error)) {
        fail_msg("%s", jobs);
    }
    assert_true(error || !strstr(jobs, "error"));
    free(jobs);
    ok("job-dismiss", "{\"id\":\"c\"}");
}

static void test_create(void **state)
{
    create("\"driver\":\"disk\",\"disk\":\"new\",\"size\":2097152", NULL);
    assert_int_equal(disk_length(disk_find(bed.sim, "new")), 2 * MiB);
    add("f", "\"driver\":\"disk\",\"disk\":\"new\"");
    create("\"driver\":\"raw\",\"file\":\"f\",\"size\":3145728", NULL);
    assert_int_equal(disk_length(disk_find(bed.sim, "new")), 3 * MiB);
    create("\"driver\":\"raw\",\"file\":{\"driver\":\"disk\",\"disk\":\"new\"},\"size\":4096", NULL);
    assert_int_equal(disk_length(disk_find(bed.sim, "new")), 4096);
    del("f");
    create("\"driver\":\"disk\",\"disk\":\"new\",\"size\":512", NULL); /* cut and begun anew */
    assert_int_equal(disk_length(disk_find(bed.sim, "new")), 512);
    create("\"driver\":\"disk\",\"disk\":\"d\",\"size\":0", "is something else using the image?");
    assert_int_equal(disk_length(bed.disk), MiB);
    create("\"driver\":\"disk\",\"disk\":\"big\",\"size\":9223372036854775807", "too big image size");
    assert_null(disk_find(bed.sim, "big"));
    create("\"driver\":\"raw\",\"file\":\"nope\",\"size\":512", "Cannot find device='nope'");
    create("\"driver\":\"img\",\"file\":\"s\",\"size\":512", "Conflicts with use by");
}

static void test_create_refused(void **state)
{
    refused("blockdev-create", "{\"job-id\":\"c\",\"options\":{}}", "GenericError: Parameter 'driver' is missing");
    refused("blockdev-create", "{\"job-id\":\"c\",\"options\":{\"driver\":\"vmdk\"}}",
            "GenericError: Parameter 'driver' does not accept value 'vmdk'");
    refused("blockdev-create", "{\"job-id\":\"c\",\"options\":{\"driver\":\"null-co\"}}",
            "GenericError: Driver does not support blockdev-create");
    refused("blockdev-create", "{\"job-id\":\"c\",\"options\":{\"driver\":\"disk\",\"disk\":\"n\"}}",
            "GenericError: Parameter 'size' is missing");
    refused("blockdev-create",
            "{\"job-id\":\"c\",\"options\":{\"driver\":\"disk\",\"disk\":\"n\",\"size\":1,\"x\":1}}",
            "GenericError: Parameter 'x' is unexpected");
    refused("blockdev-create", "{\"job-id\":\"1\",\"options\":{\"driver\":\"disk\",\"disk\":\"n\",\"size\":1}}",
            "GenericError: Invalid job ID '1'");
}

/* --- x-blockdev-change -------------------------------------------------------------------------------------- */

static unsigned asked;

static int take_child(BlockDriverState *bs, BlockDriverState *child, Error **errp)
{
    asked++;
    assert_true(bdrv_quiesce_counter(bs) > 0);
    return bdrv_attach_child(bs, child, "children.0", BDRV_CHILD_DATA, errp) ? 0 : -EINVAL;
}

static int give_child(BlockDriverState *bs, BdrvChild *child, Error **errp)
{
    asked++;
    bdrv_unref_child(bs, child);
    return 0;
}

static const BlockDriver taker_driver = {
    .format_name = "taker",
    .doc = "test",
    .bdrv_co_getlength = keeper_getlength,
    .bdrv_add_child = take_child,
    .bdrv_del_child = give_child,
};
static BlockDriverState *taker;

static void make_taker(void *opaque)
{
    taker = bdrv_new_node(bed.host, &taker_driver, "t");
    bdrv_set_total_bytes(taker, MiB);
}

static void drop_taker(void *opaque)
{
    bdrv_unref(taker);
}

/* fact: block 9/change */
static void test_change(void **state)
{
    bed_on_main(make_taker);
    add("n", "\"driver\":\"null-co\"");
    refused("x-blockdev-change", "{\"parent\":\"t\"}", "GenericError: Either child or node must be specified");
    refused("x-blockdev-change", "{\"parent\":\"t\",\"child\":\"c\",\"node\":\"n\"}",
            "GenericError: The parameters child and node are in conflict");
    refused("x-blockdev-change", "{\"parent\":\"x\",\"node\":\"n\"}",
            "GenericError: Cannot find device='x' nor node-name='x'");
    refused("x-blockdev-change", "{\"parent\":\"t\",\"node\":\"x\"}", "GenericError: Node 'x' not found");
    refused("x-blockdev-change", "{\"parent\":\"t\",\"child\":\"x\"}",
            "GenericError: Node 't' does not have child 'x'");
    refused("x-blockdev-change", "{\"parent\":\"t\",\"node\":\"s\"}",
            "GenericError: The node s already has a parent");
    refused("x-blockdev-change", "{\"parent\":\"s\",\"node\":\"n\"}",
            "GenericError: The node s does not support adding a child");
    assert_int_equal(asked, 0);
    ok("x-blockdev-change", "{\"parent\":\"t\",\"node\":\"n\"}");
    assert_string_equal(bdrv_child_name(bdrv_first_child(taker)), "children.0");
    ok("x-blockdev-change", "{\"parent\":\"t\",\"child\":\"children.0\"}");
    assert_null(bdrv_first_child(taker));
    assert_int_equal(asked, 2);
    del("n");
    bed_on_main(drop_taker);
}

/* --- queries ------------------------------------------------------------------------------------------------- */

/* fact: block 9/query-image-backing, 9/query-nodes */
static void test_queries(void **state)
{
    add("b", "\"driver\":\"null-co\",\"size\":1048576");
    add("o", "\"driver\":\"img\",\"file\":{\"driver\":\"disk\",\"disk\":\"based\"},\"backing\":\"b\"");
    struct test_call c;
    call_begin(&c, "query-named-block-nodes", "{}");
    bed_settle();
    const struct qvalue *info = c.c.reply->seq.items[1];
    assert_string_equal(qdict_get(info, "node-name")->str.bytes, "o");
    assert_string_equal(qdict_get(info, "backing_file")->str.bytes, "d"); /* the header's */
    assert_int_equal(qdict_get(info, "backing_file_depth")->integer, 1);
    const struct qvalue *image = qdict_get(info, "image");
    assert_string_equal(qdict_get(image, "backing-filename")->str.bytes, "d");
    assert_string_equal(qdict_get(image, "full-backing-filename")->str.bytes, "d");
    assert_string_equal(qdict_get(image, "backing-filename-format")->str.bytes, "raw");
    const struct qvalue *backing = qdict_get(image, "backing-image"); /* the graph's */
    assert_string_equal(qdict_get(backing, "format")->str.bytes, "null-co");
    free(call_end(&c));
    call_begin(&c, "query-named-block-nodes", "{\"flat\":true}");
    bed_settle();
    info = c.c.reply->seq.items[1];
    assert_null(qdict_get(qdict_get(info, "image"), "backing-image"));
    assert_int_equal(qdict_get(info, "backing_file_depth")->integer, 1);
    free(call_end(&c));
    del("o");
    del("b");
}

/* --- filters of jobs -------------------------------------------------------------------------------------------
 */

static const BlockDriver hidden_driver = {
    .format_name = "hidden",
    .doc = "test",
    .is_filter = true,
    .internal = true,
    .filtered_child_is_backing = true,
    .bdrv_co_getlength = keeper_getlength,
};
static BlockDriverState *hidden;

static void hide(void *opaque)
{
    hidden = bdrv_new_filter(bed.host, &hidden_driver, NULL, BDRV_O_RDWR, NULL);
    assert_int_equal(bdrv_append(hidden, node("s"), NULL), 0);
}

static void unhide(void *opaque)
{
    assert_int_equal(bdrv_drop_filter(hidden, NULL), 0);
    bdrv_unref(hidden);
}

static bool reply_has(const char *command, const char *text)
{
    char *reply = call(command, "{}");
    bool has = strstr(reply, text) != NULL;
    free(reply);
    return has;
}

/* fact: block 1.14/hidden, 1.14/filename, 9/query-block, 9/query-image */
static void test_hidden(void **state)
{
    char name[64];
    bed_on_main(hide);
    snprintf(name, sizeof(name), "\"node-name\":\"%s\"", bdrv_get_node_name(hidden));
    assert_false(reply_has("query-block", name));
    assert_true(reply_has("query-block", "\"inserted\":{\"file\":\"d\",\"node-name\":\"s\""));
    assert_true(reply_has("query-block", "\"backing_file_depth\":0"));
    assert_false(reply_has("query-blockstats", name));
    assert_true(reply_has("query-blockstats", "\"node-name\":\"s\""));
    assert_true(reply_has("query-named-block-nodes", name));
    assert_true(
        reply_has("query-named-block-nodes", "\"drv\":\"hidden\",\"active\":true,\"backing_file_depth\":1"));
    assert_true(reply_has("query-named-block-nodes",
                          "\"image\":{\"filename\":\"d\",\"format\":\"disk\",\"virtual-size\":1048576,"
                          "\"actual-size\":0"));
    bed_on_main(unhide);
}

/* --- block_resize ------------------------------------------------------------------------------------------------
 */

static void block_resizes(void *opaque)
{
    error_setg(&reason, "a test holds it");
    bdrv_op_block(node("s"), BLOCK_OP_RESIZE, reason);
}

static void hold_length(void *opaque)
{
    extra = blk_new(bed.host, 0, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE);
    assert_int_equal(blk_insert_bs(extra, node("s"), NULL), 0);
}

/* fact: block 9/resize, 12/inactive-resize */
static void test_resize_refused(void **state)
{
    refused("block_resize", "{\"device\":\"g\",\"size\":-1}", "GenericError: Parameter 'size' expects a >0 size");
    bed_on_main(block_resizes);
    refused("block_resize", "{\"device\":\"g\",\"size\":2097152}",
            "GenericError: Node 's' is busy: a test holds it");
    bed_on_main(unblock_snapshots);
    bed_on_main(hold_length);
    char *text = call("block_resize", "{\"node-name\":\"s\",\"size\":2097152}");
    assert_non_null(strstr(text, "which does not allow 'resize' on node 's'"));
    free(text);
    bed_on_main(drop_extra);
    add("off", "\"driver\":\"disk\",\"disk\":\"over\",\"active\":false");
    text = call("block_resize", "{\"node-name\":\"off\",\"size\":2097152}");
    assert_non_null(strstr(text, "GenericError: Permission 'resize' is not available on inactive node 'off'"));
    free(text);
    del("off");
    ok("block_resize", "{\"node-name\":\"s\",\"size\":2097152}");
    assert_int_equal(bdrv_getlength_cached(node("s")), 2 * MiB);
}

#define TQ(path, fn) T_SETUP(path, fn, images_setup, qmp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TQ("/snapshot/device-goes-on", test_snapshot),
        TQ("/snapshot/refused", test_snapshot_refused),
        TQ("/snapshot/write-only-user", test_write_only_user),
        TQ("/snapshot/undone", test_undone),
        TQ("/snapshot/two-at-once", test_two_at_once),
        TQ("/snapshot/stays-writable", test_stays_writable),
        TQ("/snapshot/sync/made-and-existing", test_sync),
        TQ("/snapshot/sync/refused", test_sync_refused),
        TQ("/image/change-backing-file/format", test_change_backing),
        TQ("/image/change-backing-file/read-only", test_change_backing_read_only),
        TQ("/image/change-backing-file/refused", test_change_backing_refused),
        TQ("/image/create/disk-and-raw", test_create),
        TQ("/image/create/refused", test_create_refused),
        TQ("/image/change-children", test_change),
        TQ("/image/queries", test_queries),
        TQ("/image/hidden-filters", test_hidden),
        TQ("/image/resize-refused", test_resize_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
