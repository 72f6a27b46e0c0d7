/* Protects what a mirror takes and leaves to others, and how an area is brought over: rights, the filter, pieces,
 * zeroes and discards, writes during the scan (reference/jobs.md 4.1 to 4.4). */
#include "tests/jobs/mirror_world.h"

static void cancel_clean(Job *job)
{
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_clean(src);
}

/* --- rights ---------------------------------------------------------------------------------------------- */

static void rights_on(Job *job, const BlockDriverState *bs, uint64_t *perm, uint64_t *shared)
{
    const BlockJobNode *of = block_job_of(job)->nodes;

    while (of != NULL && of->child->bs != bs) {
        of = of->next;
    }
    assert_non_null(of);
    bdrv_child_perms(of->child, perm, shared);
}

/* Of the source everything but its size may change; the target is the job's.
 * fact: jobs 4.1/source-perm, 4.1/target-perm */
static void test_rights(void **state)
{
    uint64_t perm, shared;

    mirror_world(MiB, MiB, 0);
    args.speed = 1;
    Job *job = start();
    rights_on(job, src, &perm, &shared);
    assert_int_equal(perm & (BLK_PERM_WRITE | BLK_PERM_RESIZE), 0);
    assert_int_equal(shared & (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE),
                     BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    assert_int_equal(shared & BLK_PERM_RESIZE, 0);
    bdrv_cumulative_perms(dst, &perm, &shared);
    assert_int_equal(perm & BLK_PERM_WRITE, BLK_PERM_WRITE);
    assert_int_equal(shared, BLK_PERM_WRITE_UNCHANGED);
    cancel_clean(job);
}

/* The guest comes by the filter, and nothing changes for it.
 * fact: jobs 4.1/filter, 4.1/implicit */
static void test_filter(void **state)
{
    struct payload data;

    mirror_world(MiB, MiB, 0);
    args.speed = 1;
    Job *job = start();
    assert_ptr_equal(blk_bs(guest), mirror_filter(job));
    assert_ptr_equal(bdrv_filter_bs(blk_bs(guest)), src);
    assert_true(bdrv_is_implicit(blk_bs(guest)));
    guest_write(64 * KiB, 4096, 0x5a);
    payload_init(world, &data);
    disk_peek(src_disk, 64 * KiB, 4096, &data);
    uint8_t byte = 0;
    payload_read_bytes(&data, 4095, &byte, 1);
    assert_int_equal(byte, 0x5a);
    payload_clear(&data);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_ptr_equal(blk_bs(guest), src);
    args.filter_node_name = "f";
    job = start();
    assert_false(bdrv_is_implicit(bdrv_find_node(host, "f")));
    cancel_clean(job);
}

/* --- the beginning --------------------------------------------------------------------------------------- */

static unsigned requests_seen;

static void see_request(struct disk_interposer *self, struct disk_req *req)
{
    requests_seen++;
}

static void drain_begin(void *opaque)
{
    bdrv_drained_begin(src);
}

static void drain_end(void *opaque)
{
    bdrv_drained_end(src);
}

/* Killed before its first step it asks nothing and writes nothing.
 * fact: jobs 4.3/cancelled-first */
static void test_cancelled_first(void **state)
{
    struct disk_interposer on_src = {.before = see_request}, on_dst = on_src;

    mirror_world(MiB, MiB, 0);
    on_main(drain_begin, NULL);
    Job *job = start();
    settle();
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    requests_seen = 0;
    disk_add_interposer(src_disk, &on_src);
    disk_add_interposer(dst_disk, &on_dst);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_string_equal(trail, "S:created S:running S:paused S:running S:aborting CANCELLED S:concluded S:null");
    assert_int_equal(requests_seen, 0);
    disk_remove_interposer(src_disk, &on_src);
    disk_remove_interposer(dst_disk, &on_dst);
    on_main(drain_end, NULL);
    assert_clean(src);
}

/* The scan has found an area empty, or is about to, when the guest writes there: its write leaves a bit or is seen.
 * So does one that was under way when the job came. fact: jobs 4.2/track-first, edge/3 */
static void test_writes_during_scan(void **state)
{
    struct failing slow_scan = {
        .op = SIM_OP_BLOCK_STATUS, .offset = -1, .count = 1, .extra_latency_ns = 50 * NS_PER_MS};
    struct failing slow_write = {
        .op = SIM_OP_WRITE, .offset = 3 * MiB, .count = 1, .extra_latency_ns = 20 * NS_PER_MS};
    struct guest_io across = {.offset = 3 * MiB, .bytes = 4096, .fill = 0x31};

    mirror_world(4 * MiB, 4 * MiB, 0);
    fail_requests(&slow_scan, src_disk);
    fail_requests(&slow_write, src_disk);
    guest_submit_io(&across);
    run_for(NS_PER_MS);
    assert_false(across.done);
    Job *job = start();
    assert_string_equal(trail, "S:created S:running");
    while (slow_scan.count > 0) {
        run_for(NS_PER_MS);
    }
    guest_write(MiB, 4096, 0x32);
    assert_null(strstr(trail, "READY"));
    wait_trail("READY");
    assert_true(across.done);
    assert_same_disks(4 * MiB);
    cancel_clean(job);
}

/* --- operations ------------------------------------------------------------------------------------------ */

struct ops {
    unsigned writes, zeroes, discards;
    int64_t most;
};

static void note_op(void *opaque, const struct sim_record *r)
{
    struct ops *ops = opaque;

    ops->writes += r->field[1] == SIM_OP_WRITE;
    ops->zeroes += r->field[1] == SIM_OP_WRITE_ZEROES;
    ops->discards += r->field[1] == SIM_OP_DISCARD;
    if (r->field[1] == SIM_OP_WRITE) {
        ops->most = MAX(ops->most, (int64_t)r->field[3]);
    }
}

/* fact: jobs 4.4/data */
static void test_pieces(void **state)
{
    static const int64_t buf_sizes[] = {256 * KiB, 2 * MiB, 16 * MiB, 64 * MiB};
    static const int64_t pieces[] = {256 * KiB, MiB, MiB, 4 * MiB};
    struct ops ops;

    mirror_world(8 * MiB, 8 * MiB, 0);
    stamp_source(8 * MiB);
    sim_subscribe(world, EV_mirror_op_begin, note_op, &ops);
    for (size_t i = 0; i < ARRAY_SIZE(buf_sizes); i++) {
        ops = (struct ops){0};
        trail[0] = '\0';
        args.buf_size = buf_sizes[i];
        Job *job = start();
        wait_trail("READY");
        assert_int_equal(ops.most, pieces[i]);
        assert_int_equal(ops.writes, 8 * MiB / pieces[i]);
        assert_string_equal(verb(job, verb_cancel_force), "");
        settle();
    }
    assert_same_disks(8 * MiB);
    assert_clean(src);
}

/* What reads as zeroes is written as such, and is a hole on the target only if that was wanted.
 * fact: jobs 4.4/zeroes */
static void test_zeroes(void **state)
{
    struct ops ops;

    mirror_world(256 * KiB, 256 * KiB, 0);
    stamp_source(256 * KiB);
    sim_subscribe(world, EV_mirror_op_begin, note_op, &ops);
    for (int unmap = 0; unmap < 2; unmap++) {
        struct guest_io zero = {.offset = 64 * KiB, .bytes = 64 * KiB, .fill = -2};

        guest_write(0, 256 * KiB, 0x41);
        trail[0] = '\0';
        args.unmap = unmap;
        Job *job = start();
        wait_trail("READY");
        ops = (struct ops){0};
        guest_submit_io(&zero);
        run_for(NS_PER_S);
        assert_true(zero.done);
        assert_int_equal(ops.zeroes, 1);
        assert_int_equal(ops.writes + ops.discards, 0);
        assert_int_equal(disk_allocated_bytes(dst_disk), unmap ? 192 * KiB : 256 * KiB);
        assert_same_disks(256 * KiB);
        assert_string_equal(verb(job, verb_cancel_force), "");
        settle();
    }
    assert_clean(src);
}

static int holds_nothing(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                         int64_t *map, BlockDriverState **file)
{
    *pnum = bytes;
    return BDRV_BLOCK_ALLOCATED;
}

/* The source says of an area neither that it has data nor that it reads as zeroes: then nobody may care.
 * fact: jobs 4.4/discard */
static void test_discard(void **state)
{
    struct ops ops = {0};

    mirror_world(256 * KiB, 256 * KiB, 0);
    Job *job = start();
    wait_trail("READY");
    sim_subscribe(world, EV_mirror_op_begin, note_op, &ops);
    const BlockDriver *plain = src->drv;
    BlockDriver vague = *plain;
    vague.bdrv_co_block_status = holds_nothing;
    src->drv = &vague;
    guest_write(64 * KiB, 64 * KiB, 0x51);
    run_for(NS_PER_S);
    assert_int_equal(ops.discards, 1);
    assert_int_equal(ops.writes + ops.zeroes, 0);
    src->drv = plain;
    cancel_clean(job);
}

#define RULE_TEST(path, fn) T_SETUP(path, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RULE_TEST("/mirror/rules/rights", test_rights),
        RULE_TEST("/mirror/rules/filter", test_filter),
        RULE_TEST("/mirror/rules/cancelled-first", test_cancelled_first),
        RULE_TEST("/mirror/rules/writes-during-scan", test_writes_during_scan),
        RULE_TEST("/mirror/rules/pieces", test_pieces),
        RULE_TEST("/mirror/rules/zeroes", test_zeroes),
        RULE_TEST("/mirror/rules/discard", test_discard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
