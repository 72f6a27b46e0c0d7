/* Protects backups of what stands on something: sync=top copies what the source itself holds, looks before it
 * copies, and saves no more than that; targets that stand on the source; compressed ones
 * (reference/jobs.md 5.3, 5.5). */
#include "tests/jobs/backup_world.h"

#define BYTES (16 * CLUSTER)

static BlockDriverState *base;

static struct qvalue *options_of(const char *text)
{
    char json[512];

    snprintf(json, sizeof(json), "{%s}", text);
    for (char *c = json; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    struct qvalue *options = qvalue_from_json(json, strlen(json), NULL);
    assert_non_null(options);
    return options;
}

static void add_entry(void *opaque)
{
    struct qvalue *options = options_of(opaque);
    Error *err = NULL;

    if (qmp_blockdev_add_node(host, options, &err) == NULL) {
        fail_msg("%s: %s", (const char *)opaque, error_get_pretty(err));
    }
    qvalue_free(options);
}

static BlockDriverState *add(const char *name, const char *text)
{
    on_main(add_entry, (void *)(uintptr_t)text);
    return bdrv_find_node(host, name);
}

static void make_entry(void *opaque)
{
    assert_int_equal(bdrv_img_create(host, opaque, "qcow2", BYTES, NULL, NULL, NULL), 0);
}

/* Source: a new qcow2 image "s" over raw "base", which holds 1, 2, .. 16. Target: raw, all zeroes. */
static void chain_world(void)
{
    disk_bytes = BYTES;
    struct disk *base_disk = new_disk("base", BYTES, 0);
    src_disk = new_disk("s", 0, 8 * MiB);
    dst_disk = new_disk("d", BYTES, 0);
    fill_disk(base_disk, now, 1);
    memset(kept, 0, sizeof(kept));
    base = add("base", "'driver':'raw','node-name':'base','read-only':true,'file':{'driver':'disk','disk':'base'}");
    on_main(make_entry, (void *)(uintptr_t) "s");
    src = add("s", "'driver':'qcow2','node-name':'s','backing':'base','file':{'driver':'disk','disk':'s'}");
    dst = add_raw("d", "d", false);
    on_main(guest_entry, NULL);
    default_args();
    args.sync = MIRROR_SYNC_TOP;
}

static void end(void)
{
    settle();
    assert_ptr_equal(blk_bs(guest), src);
    on_main(finish_entry, NULL);
    assert_no_job_left();
    del_node("d");
    del_node("s");
    del_node("base");
    assert_null(bdrv_next_node(host, NULL));
    jobs_cleanup(host);
    bdrv_graph_cleanup(host);
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_backup_job), 0);
}

/* fact: jobs 5.3/top */
static void test_top(void **state)
{
    chain_world();
    guest_write(2 * CLUSTER + 512, 512, 0x70);
    guest_write(7 * CLUSTER - 512, 1024, 0x71);
    Job *job = start();
    job_ref(job);
    settle();
    expect_trail(BEGIN " " DONE);
    assert_int_equal(job->progress_current, 3 * CLUSTER);
    assert_int_equal(job->progress_remaining, 0);
    job_unref(job);
    assert_target(1 << 2 | 1 << 6 | 1 << 7);
    end();
}

/* Nothing of its own: nothing to do. */
static void test_top_nothing(void **state)
{
    chain_world();
    start();
    settle();
    expect_trail(BEGIN " " DONE);
    assert_target(0);
    end();
}

/* Before the job has looked: a write to what the source does not hold itself saves nothing; one to what it holds
 * does. */
/* fact: jobs 5.3/top-write */
static void test_top_write(void **state)
{
    chain_world();
    guest_write(2 * CLUSTER, 512, 0x70);
    guest_write(9 * CLUSTER, 512, 0x71);
    struct io early[2] = {{.offset = 12 * CLUSTER, .bytes = 512, .fill = 0x72},
                          {.offset = 9 * CLUSTER, .bytes = 512, .fill = 0x73}};
    Job *job = start();
    verb(job, job_user_pause);
    for (int i = 0; i < 2; i++) {
        io_submit(&early[i]);
        run_for(NS_PER_S);
        assert_true(early[i].done);
    }
    assert_target(1 << 9);
    verb(job, job_user_resume);
    settle();
    assert_non_null(strstr(trail, DONE));
    assert_target(1 << 2 | 1 << 9);
    end();
}

static struct failing rule;

static void unplug_entry(void *opaque)
{
    blk_unref(guest);
}

/* The look itself is under no policy: it ends the job, without BLOCK_JOB_ERROR. */
static void test_top_scan_error(void **state)
{
    chain_world();
    guest_write(2 * CLUSTER, 512, 0x70);
    on_main(unplug_entry, NULL);
    del_node("s"); /* its tables are read anew */
    src = add("s", "'driver':'qcow2','node-name':'s','backing':'base','file':{'driver':'disk','disk':'s'}");
    on_main(guest_entry, NULL);
    rule = (struct failing){.op = SIM_OP_READ, .from = 0, .to = INT64_MAX, .error = -EIO, .count = INT32_MAX};
    args.on_source_error = BLOCKDEV_ON_ERROR_IGNORE;
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    fail_requests(&rule, src_disk);
    start();
    settle();
    expect_trail(BEGIN " S:aborting COMPLETED(Input/output error) S:concluded S:null");
    rule.count = 0;
    end();
}

/* Drains that come all the time do not keep the job from its end, nor it them. */
static void drain_entry(void *opaque)
{
    bdrv_drain_all(host);
}

static void test_top_drained(void **state)
{
    chain_world();
    guest_write(3 * CLUSTER, 512, 0x70);
    start();
    for (int i = 0; i < 20; i++) {
        on_main(drain_entry, NULL);
        run_for(NS_PER_US);
    }
    settle();
    assert_non_null(strstr(trail, DONE));
    assert_target(1 << 3);
    end();
}

/* A bitmap with top: as with full. Where the job failed, what it had not looked at counts as not copied. */
/* fact: jobs 5.4/always */
static void test_top_bitmap(void **state)
{
    chain_world();
    add_bitmap("bm", CLUSTER);
    guest_write(2 * CLUSTER, 512, 0x70);
    guest_write(9 * CLUSTER, 512, 0x71);
    args.bitmap = "bm";
    args.has_bitmap_mode = true;
    args.bitmap_mode = BITMAP_SYNC_ALWAYS;
    args.perf.max_workers = 1;
    args.perf.max_chunk = CLUSTER;
    rule = (struct failing){.op = SIM_OP_WRITE, .from = 9 * CLUSTER, .to = BYTES, .error = -EIO, .count = 1};
    fail_requests(&rule, dst_disk);
    start();
    settle();
    assert_non_null(strstr(trail, "COMPLETED(Input/output error)"));
    assert_int_equal(dirty("bm"), 1 << 9);
    default_args();
    args.sync = MIRROR_SYNC_INCREMENTAL;
    args.bitmap = "bm";
    start();
    settle();
    assert_int_equal(dirty("bm"), 0);
    assert_target(1 << 2 | 1 << 9);
    end();
}

/* --- targets that stand on the source --------------------------------------------------------------------- */

/* A raw source "s" with 1 to 16; the target a qcow2 image over it. */
static void fleecing_world(void)
{
    disk_bytes = BYTES;
    src_disk = new_disk("s", BYTES, 0);
    dst_disk = new_disk("d", 0, 8 * MiB);
    fill_disk(src_disk, now, 1);
    src = add_raw("s", "s", false);
    on_main(make_entry, (void *)(uintptr_t) "d");
    dst = add("d", "'driver':'qcow2','node-name':'d','backing':'s','file':{'driver':'disk','disk':'d'}");
    base = NULL;
    on_main(guest_entry, NULL);
    default_args();
    args.sync = MIRROR_SYNC_NONE;
}

struct view {
    BlockBackend *blk;
    uint8_t *bytes;
};

static int view_co(void *opaque)
{
    struct view *view = opaque;
    struct payload data;

    payload_init(world, &data);
    assert_int_equal(blk_co_preadv(view->blk, 0, disk_bytes, &data, 0), 0);
    payload_read_bytes(&data, 0, view->bytes, (size_t)disk_bytes);
    payload_clear(&data);
    return 0;
}

static void view_entry(void *opaque)
{
    struct view *view = opaque;

    view->blk = blk_new(host, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(view->blk, dst, NULL), 0);
    bdrv_run_co(host, "view", view_co, view);
    blk_unref(view->blk);
}

static void assert_view(void)
{
    struct view view = {.bytes = calloc(1, BYTES)};

    on_main(view_entry, &view);
    for (int64_t i = 0; i < BYTES; i++) {
        if (view.bytes[i] != before[i / SIM_SECTOR_BYTES]) {
            fail_msg("byte %lld of the view is %u", (long long)i, view.bytes[i]);
        }
    }
    free(view.bytes);
}

/* fact: jobs 5.5/fleecing, edge/47 */
static void test_fleecing(void **state)
{
    fleecing_world();
    Job *job = start();
    assert_view();
    for (int i = 0; i < 20; i++) {
        struct io io = {.offset = (i * 7 % 16) * CLUSTER + 512, .bytes = 2048, .fill = 0x40 + i};
        io_submit(&io);
        assert_view();
        assert_int_equal(sim_run_idle(world, io_done, &io, INT64_MAX), SIM_STOP_COND);
        assert_view();
    }
    verb(job, verb_cancel_force);
    settle();
    assert_non_null(strstr(trail, KILLED));
    assert_source();
    on_main(finish_entry, NULL);
    assert_no_job_left();
    del_node("d");
    del_node("s");
    assert_null(bdrv_next_node(host, NULL));
    jobs_cleanup(host);
    bdrv_graph_cleanup(host);
}

int main(void)
{
#define BACKUP_TEST(name, fn) \
    { \
        name, fn, world_setup, world_teardown, NULL \
    }
    const struct CMUnitTest tests[] = {
        BACKUP_TEST("/backup/top", test_top),
        BACKUP_TEST("/backup/top/nothing", test_top_nothing),
        BACKUP_TEST("/backup/top/write", test_top_write),
        BACKUP_TEST("/backup/top/scan-error", test_top_scan_error),
        BACKUP_TEST("/backup/top/drained", test_top_drained),
        BACKUP_TEST("/backup/top/bitmap", test_top_bitmap),
        BACKUP_TEST("/backup/fleecing", test_fleecing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
