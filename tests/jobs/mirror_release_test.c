/* Protects what a mirror gives back on each way out, the order of its steps, and what it asks of its nodes
 * (reference/jobs.md 4.1 to 4.4, 4.8). */
#include "tests/jobs/mirror_world.h"

#define TO_READY "S:created S:running S:ready READY"
#define TAIL " S:waiting S:pending COMPLETED S:concluded S:null"
#define FAILED(text) " S:aborting COMPLETED(" text ") S:concluded S:null"
#define CANCELLED " S:aborting CANCELLED S:concluded S:null"
#define CHUNK (64 * KiB)

static struct failing rule;

static void cancel_clean(Job *job)
{
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_clean(src);
}

/* --- the buffer ----------------------------------------------------------------------------------------- */

/* fact: jobs 4.3/buffer */
static void test_no_memory(void **state)
{
    mirror_world(MiB, MiB, 0);
    stamp_source(MiB);
    bdrv_set_buffer_limit(host, 16 * MiB - 1);
    start();
    settle();
    assert_string_equal(trail, "S:created S:running" FAILED("Cannot allocate memory"));
    assert_int_equal(sim_mark_hits(world, MARK_buffer_refused), 1);
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_BdrvBuffer), 0);
    /* a smaller one is to be had */
    args.buf_size = MiB;
    trail[0] = '\0';
    Job *job = start();
    wait_trail("READY");
    assert_same_disks(MiB);
    cancel_clean(job);
}

/* Memory for one buffer: each mirror finds it free again, however the one before has ended.
 *
 * fact: jobs 4.3/free-list, seed/7191bf3, seed/402a474 */
static void test_buffer_given_back(void **state)
{
    static void (*const ends[])(Job * job, Error * *errp) = {verb_cancel_force, verb_cancel_soft};

    mirror_world(MiB, MiB, 0);
    stamp_source(MiB);
    bdrv_set_buffer_limit(host, 16 * MiB);
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        trail[0] = '\0';
        Job *job = start();
        wait_trail("READY");
        assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_BdrvBuffer), 1);
        assert_string_equal(verb(job, ends[i]), "");
        settle();
        assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_BdrvBuffer), 0);
    }
    /* with chunks in flight */
    trail[0] = '\0';
    Job *job = start();
    run_for(60 * NS_PER_US);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_BdrvBuffer), 0);
    trail[0] = '\0';
    job = start();
    wait_trail("READY");
    cancel_clean(job);
}

static void slow_status(void)
{
    rule = (struct failing){
        .op = SIM_OP_BLOCK_STATUS, .offset = -1, .count = 1000, .extra_latency_ns = 10 * NS_PER_MS};
    fail_requests(&rule, src_disk);
}

/* --- writes are tracked before anything is looked at ---------------------------------------------------- */

/* In flight when the filter comes: waited for, or marked.
 *
 * fact: jobs 4.2/track-first */
static void test_write_across_insertion(void **state)
{
    struct guest_io io = {.offset = MiB, .bytes = CHUNK, .fill = 0x22};

    mirror_world(4 * MiB, 4 * MiB, 0);
    args.zero_target = false;
    disk_set_latency(src_disk, 10 * NS_PER_MS);
    guest_submit_io(&io);
    run_for(NS_PER_MS);
    Job *job = start();
    wait_trail("READY");
    assert_true(io.done);
    assert_same_disks(4 * MiB);
    cancel_clean(job);
}

/* Slow reads, and a write in the middle of one: what the copy may have read is old.
 *
 * fact: jobs 4.4/clear-first, edge/1 */
static void test_write_during_read(void **state)
{
    mirror_world(CHUNK, CHUNK, 0);
    stamp_source(CHUNK);
    rule = (struct failing){.op = SIM_OP_READ, .offset = 0, .count = 1, .extra_latency_ns = 20 * NS_PER_MS};
    fail_requests(&rule, src_disk);
    Job *job = start();
    run_for(5 * NS_PER_MS);
    assert_int_equal(mirror_in_flight(job), 1);
    guest_write(0, 4096, 0x23);
    assert_true(bdrv_dirty_bitmap_get(mirror_dirty_bitmap(job), 0));
    wait_trail("READY");
    assert_same_disks(CHUNK);
    cancel_clean(job);
}

/* --- the scan ------------------------------------------------------------------------------------------- */

static void alternate(int64_t bytes)
{
    for (int64_t offset = 0; offset < bytes; offset += 2 * CHUNK) {
        guest_write(offset, CHUNK, 0x31);
    }
}

/* fact: jobs 4.3/scan-pause */
static void test_scan_pause(void **state)
{
    mirror_world(4 * MiB, 4 * MiB, 0);
    alternate(4 * MiB);
    args.zero_target = false;
    slow_status();
    Job *job = start();
    run_for(55 * NS_PER_MS);
    assert_string_equal(verb(job, job_user_pause), "");
    wait_trail("S:paused");
    int64_t scanned = bdrv_get_dirty_count(mirror_dirty_bitmap(job));
    assert_in_range(scanned, 1, MiB);
    run_for(NS_PER_S);
    assert_int_equal(bdrv_get_dirty_count(mirror_dirty_bitmap(job)), scanned);
    assert_string_equal(verb(job, job_user_resume), "");
    run_for(55 * NS_PER_MS);
    assert_true(bdrv_get_dirty_count(mirror_dirty_bitmap(job)) > scanned);
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    assert_string_equal(trail, "S:created S:running S:paused S:running" CANCELLED);
    assert_clean(src);
}

static void start_and_cancel(void *opaque)
{
    Error *err = NULL;

    start_entry(NULL);
    job_user_cancel(job_find(host, "m"), true, &err);
    assert_null(err);
}

static void count_requests(void *opaque, const struct sim_record *r)
{
    ++*(int *)opaque;
}

/* Cancelled before its coroutine has had a turn: it asks nobody anything.
 *
 * fact: jobs 4.3/cancelled-first */
static void test_cancelled_first(void **state)
{
    int requests = 0;

    mirror_world(MiB, MiB, 0);
    stamp_source(MiB);
    sim_subscribe(world, EV_mirror_op_begin, count_requests, &requests);
    on_main(start_and_cancel, NULL);
    settle();
    assert_non_null(strstr(trail, "S:aborting CANCELLED S:concluded S:null"));
    assert_int_equal(requests, 0);
    assert_clean(src);
}

/* --- failing steps -------------------------------------------------------------------------------------- */

/* One step after the other fails, always the first request of its kind after the start: what is left is nothing.
 *
 * fact: jobs 4.8/lengths, 4.8/await-first, 4.4/stored-error, 2/report, edge/54 */
static void test_steps(void **state)
{
    static const struct {
        enum sim_op op;
        bool on_target;
        int error;
        const char *trail;
    } steps[] = {
        {SIM_OP_GETLENGTH, true, -EIO, FAILED("Input/output error")},
        {SIM_OP_BLOCK_STATUS, false, -ENOMEM, FAILED("Cannot allocate memory")},
        {SIM_OP_WRITE_ZEROES, true, -EIO, " ERROR(write,report)" FAILED("Input/output error")},
        {SIM_OP_READ, false, -EIO, " ERROR(read,report)" FAILED("Input/output error")},
        {SIM_OP_WRITE, true, -ENOSPC, " ERROR(write,report)" FAILED("No space left on device")},
        {SIM_OP_FLUSH, true, -EIO, " ERROR(write,report)" FAILED("Input/output error")},
    };
    char expected[256];

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        world_setup(NULL);
        mirror_world(2 * MiB, 2 * MiB, 0);
        stamp_source(MiB);
        bdrv_set_buffer_limit(host, 16 * MiB);
        rule = (struct failing){.op = steps[i].op, .offset = -1, .error = steps[i].error};
        fail_requests(&rule, steps[i].on_target ? dst_disk : src_disk);
        start();
        rule.count = 1;
        settle();
        snprintf(expected, sizeof(expected), "S:created S:running%s", steps[i].trail);
        assert_string_equal(trail, expected);
        assert_int_equal(rule.count, 0);
        assert_ptr_equal(blk_bs(guest), src);
        /* all is free for another */
        trail[0] = '\0';
        Job *job = start();
        wait_trail("READY");
        assert_same_disks(2 * MiB);
        cancel_clean(job);
        world_teardown(NULL);
    }
}

/* All operations in flight fail, each says so, the first one's code is the job's, and none is left behind.
 *
 * fact: jobs 2/report, 4.8/await-first */
static void test_many_failures(void **state)
{
    mirror_world(8 * MiB, 8 * MiB, 0);
    stamp_source(8 * MiB);
    rule = (struct failing){
        .op = SIM_OP_WRITE, .offset = -1, .error = -EIO, .count = 4, .extra_latency_ns = 10 * NS_PER_MS};
    fail_requests(&rule, dst_disk);
    start();
    settle();
    assert_string_equal(trail, "S:created S:running ERROR(write,report) ERROR(write,report) ERROR(write,report) "
                               "ERROR(write,report)" FAILED("Input/output error"));
    assert_clean(src);
}

/* --- nodes ---------------------------------------------------------------------------------------------- */

static void count_flushes(void *opaque, const struct sim_record *r)
{
    const struct disk_req *req = r->ref;

    *(int *)opaque += req->disk == dst_disk && req->op == SIM_OP_FLUSH;
}

static void flush_entry(void *opaque)
{
    assert_int_equal(blk_co_flush(guest), 0);
    *(bool *)opaque = true;
}

static bool flag_set(void *opaque)
{
    return *(bool *)opaque;
}

/* fact: jobs 4.1/flush, 4.1/filter, 4.1/implicit, edge/29 */
static void test_filter(void **state)
{
    bool done = false;
    int flushes = 0;

    mirror_world(MiB, MiB, 0);
    Job *job = start();
    wait_trail("READY");
    assert_ptr_equal(blk_bs(guest), mirror_filter(job));
    assert_true(bdrv_is_implicit(mirror_filter(job)));
    assert_ptr_equal(bdrv_filter_bs(mirror_filter(job)), src);
    sim_subscribe(world, EV_disk_submit, count_flushes, &flushes);
    guest_write(0, 4096, 0x41);
    coroutine_start(coroutine_create(world, host, "guest", flush_entry, &done));
    assert_int_equal(sim_run_idle(world, flag_set, &done, INT64_MAX), SIM_STOP_COND);
    assert_int_equal(flushes, 0);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    args.filter_node_name = "f";
    job = start();
    assert_false(bdrv_is_implicit(mirror_filter(job)));
    assert_string_equal(bdrv_get_node_name(mirror_filter(job)), "f");
    cancel_clean(job);
}

static int try_ret[3];

static void try_users(void *opaque)
{
    static const uint64_t wanted[3] = {BLK_PERM_CONSISTENT_READ, BLK_PERM_WRITE, BLK_PERM_RESIZE};
    BlockDriverState *bs = opaque;

    for (int i = 0; i < 3; i++) {
        BlockBackend *blk = blk_new(host, wanted[i], BLK_PERM_ALL);
        try_ret[i] = blk_insert_bs(blk, bs, NULL);
        blk_unref(blk);
    }
}

/* Who else may read, write and resize while the job is there.
 *
 * fact: jobs 4.1/source-perm, 4.1/target-perm, 4.1/no-resize */
static void test_permissions(void **state)
{
    mirror_world(MiB, MiB, 0);
    blk_set_perm(guest, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, NULL);
    Job *job = start();
    wait_trail("READY");
    on_main(try_users, src);
    assert_int_equal(try_ret[0], 0);
    assert_int_equal(try_ret[1], 0);
    assert_true(try_ret[2] < 0);
    on_main(try_users, dst);
    assert_true(try_ret[0] < 0);
    assert_true(try_ret[1] < 0);
    assert_true(try_ret[2] < 0);
    cancel_clean(job);
}

/* --- pieces --------------------------------------------------------------------------------------------- */

struct pieces {
    int64_t most;
    int zeroes, discards;
};

static void note_piece(void *opaque, const struct sim_record *r)
{
    struct pieces *pieces = opaque;

    pieces->zeroes += r->field[1] == SIM_OP_WRITE_ZEROES;
    pieces->discards += r->field[1] == SIM_OP_DISCARD;
    if (r->field[1] == SIM_OP_WRITE) {
        pieces->most = MAX(pieces->most, (int64_t)r->field[3]);
    }
}

/* fact: jobs 4.4/data */
static void test_piece_sizes(void **state)
{
    static const struct {
        int64_t buf, most;
    } cases[] = {{32 * MiB, 2 * MiB}, {16 * MiB, MiB}, {2 * MiB, MiB}, {256 * KiB, 256 * KiB}};

    mirror_world(8 * MiB, 8 * MiB, 0);
    stamp_source(8 * MiB);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct pieces pieces = {0};

        trail[0] = '\0';
        args.buf_size = cases[i].buf;
        sim_subscribe(world, EV_mirror_op_begin, note_piece, &pieces);
        Job *job = start();
        wait_trail("READY");
        assert_int_equal(pieces.most, cases[i].most);
        assert_string_equal(verb(job, verb_cancel_force), "");
        settle();
        sim_unsubscribe(world, note_piece, &pieces);
    }
    assert_clean(src);
}

static int status_of_nothing(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                             int64_t *map, BlockDriverState **file)
{
    *pnum = bytes;
    return BDRV_BLOCK_ALLOCATED;
}

/* Zeroes with holes only if that is wanted; what is neither data nor zero is discarded.
 *
 * fact: jobs 4.4/zeroes, 4.4/discard */
static void test_zeroes_and_nothing(void **state)
{
    struct guest_io io = {.offset = CHUNK, .bytes = CHUNK, .fill = -2};
    struct pieces pieces = {0};
    BlockDriver vague;

    mirror_world(4 * CHUNK, 4 * CHUNK, 0);
    args.sync = MIRROR_SYNC_NONE;
    args.unmap = false;
    Job *job = start();
    wait_trail("READY");
    sim_subscribe(world, EV_mirror_op_begin, note_piece, &pieces);
    guest_write(CHUNK, CHUNK, 0x51);
    run_for(NS_PER_S);
    guest_submit_io(&io);
    run_for(NS_PER_S);
    assert_int_equal(pieces.zeroes, 1);
    assert_int_equal(disk_allocated_bytes(dst_disk), CHUNK);
    assert_same_disks(4 * CHUNK);
    const BlockDriver *plain = src->drv;
    vague = *plain;
    vague.bdrv_co_block_status = status_of_nothing;
    src->drv = &vague;
    guest_write(CHUNK, CHUNK, 0x52);
    run_for(NS_PER_S);
    assert_int_equal(pieces.discards, 1);
    assert_int_equal(disk_allocated_bytes(dst_disk), 0);
    src->drv = plain;
    cancel_clean(job);
}

/* fact: jobs 3/mirror-ready, edge/11 */
static void test_ready_at_full_speed(void **state)
{
    mirror_world(MiB, MiB, 0);
    args.sync = MIRROR_SYNC_NONE;
    args.speed = 4096;
    Job *job = start();
    wait_trail("READY");
    guest_write(0, MiB, 0x61);
    run_for(300 * NS_PER_MS);
    assert_int_equal(bdrv_get_dirty_count(mirror_dirty_bitmap(job)), 0);
    assert_same_disks(MiB);
    cancel_clean(job);
}

static void note_flush_order(void *opaque, const struct sim_record *r)
{
    int64_t *times = opaque;
    const struct disk_req *req = r->ref;

    if (r->kind == EV_mirror_final_drain) {
        times[0] = r->time_ns;
    } else if (req->disk == dst_disk && req->op == SIM_OP_FLUSH) {
        times[1] = r->time_ns;
    }
}

/* The drain has brought a write that the flush before knew nothing of.
 *
 * fact: jobs edge/4, 4.7/drain */
static void test_flush_after_drain(void **state)
{
    int64_t times[2] = {-1, -1};
    struct guest_io io = {.offset = 0, .bytes = 4096, .fill = 0x71};

    mirror_world(MiB, MiB, 0);
    args.copy_mode = MIRROR_COPY_WRITE_BLOCKING;
    Job *job = start();
    wait_trail("READY");
    disk_set_latency(dst_disk, 20 * NS_PER_MS);
    guest_submit_io(&io);
    run_for(NS_PER_MS);
    sim_subscribe(world, EV_mirror_final_drain, note_flush_order, times);
    sim_subscribe(world, EV_disk_submit, note_flush_order, times);
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_true(times[0] >= 0 && times[1] >= times[0]);
    assert_string_equal(trail, TO_READY TAIL);
    assert_clean(dst);
}

/* fact: jobs 2/auto, 2/io-status, edge/21 */
static void test_stop_while_user_paused(void **state)
{
    mirror_world(4 * CHUNK, 4 * CHUNK, 0);
    stamp_source(4 * CHUNK);
    args.on_target_error = BLOCKDEV_ON_ERROR_AUTO;
    args.buf_size = CHUNK;
    rule = (struct failing){
        .op = SIM_OP_WRITE, .offset = -1, .error = -ENOSPC, .count = 1, .extra_latency_ns = 10 * NS_PER_MS};
    fail_requests(&rule, dst_disk);
    Job *job = start();
    run_for(5 * NS_PER_MS);
    assert_string_equal(verb(job, job_user_pause), "");
    wait_trail("ERROR(write,stop)");
    run_for(NS_PER_S);
    assert_int_equal(job->pause_count, 1);
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_NOSPACE);
    assert_string_equal(verb(job, job_user_resume), "");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_OK);
    wait_trail("READY");
    assert_same_disks(4 * CHUNK);
    cancel_clean(job);
}

static bool was_dirty;

static void look_at_error(void *opaque, const struct sim_record *r)
{
    const Job *job = job_find(host, "m");

    was_dirty = bdrv_dirty_bitmap_get(mirror_dirty_bitmap(job), 0) && mirror_area_in_flight(job, 0, CHUNK);
}

/* Dirty again when the policy runs, and still in flight: nobody has been woken.
 *
 * fact: jobs 2/mirror-redirty, edge/2 */
static void test_dirty_before_policy(void **state)
{
    mirror_world(CHUNK, CHUNK, 0);
    stamp_source(CHUNK);
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    rule = (struct failing){.op = SIM_OP_WRITE, .offset = -1, .error = -EIO, .count = 1};
    fail_requests(&rule, dst_disk);
    sim_subscribe(world, EV_BLOCK_JOB_ERROR, look_at_error, NULL);
    Job *job = start();
    wait_trail("READY");
    assert_true(was_dirty);
    assert_same_disks(CHUNK);
    cancel_clean(job);
}

/* Ignored and for ever: time goes by, and the job can be cancelled.
 *
 * fact: jobs 2/livelock, edge/53 */
static void test_ignored_for_ever(void **state)
{
    mirror_world(CHUNK, CHUNK, 0);
    stamp_source(CHUNK);
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    rule = (struct failing){.op = SIM_OP_WRITE, .offset = -1, .error = -EIO, .count = 1000};
    fail_requests(&rule, dst_disk);
    Job *job = start();
    int64_t begun = sim_now(world);
    run_for(2 * NS_PER_MS);
    assert_true(rule.count < 995 && rule.count > 0);
    assert_true(sim_now(world) > begun);
    cancel_clean(job);
}

/* The guest's own rights on the target are those that the job had to give up first: it shares no writing.
 *
 * fact: jobs edge/38 */
static void test_write_permission_goes_first(void **state)
{
    uint64_t perm, shared;

    mirror_world(MiB, MiB, 0);
    Job *job = start();
    wait_trail("READY");
    bdrv_cumulative_perms(dst, &perm, &shared);
    assert_true(perm & BLK_PERM_WRITE);
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_ptr_equal(blk_bs(guest), dst);
    bdrv_cumulative_perms(dst, &perm, &shared);
    assert_true((perm & BLK_PERM_WRITE) && !(shared & BLK_PERM_WRITE));
    assert_clean(dst);
}

#define MIRROR_TEST(path, fn) T_SETUP(path, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MIRROR_TEST("/mirror/buffer/no-memory", test_no_memory),
        MIRROR_TEST("/mirror/buffer/seed/7191bf3/402a474/given-back", test_buffer_given_back),
        MIRROR_TEST("/mirror/track/write-across-insertion", test_write_across_insertion),
        MIRROR_TEST("/mirror/track/write-during-read", test_write_during_read),
        MIRROR_TEST("/mirror/scan/pause-and-cancel", test_scan_pause),
        MIRROR_TEST("/mirror/cancel/before-run", test_cancelled_first),
        {"/mirror/release/each-step", test_steps, NULL, NULL, NULL},
        MIRROR_TEST("/mirror/release/many-failures", test_many_failures),
        MIRROR_TEST("/mirror/graph/filter", test_filter),
        MIRROR_TEST("/mirror/graph/permissions", test_permissions),
        MIRROR_TEST("/mirror/ops/piece-sizes", test_piece_sizes),
        MIRROR_TEST("/mirror/ops/zeroes-and-nothing", test_zeroes_and_nothing),
        MIRROR_TEST("/mirror/speed/ready-is-free", test_ready_at_full_speed),
        MIRROR_TEST("/mirror/finish/flush-after-drain", test_flush_after_drain),
        MIRROR_TEST("/mirror/error/stop-while-user-paused", test_stop_while_user_paused),
        MIRROR_TEST("/mirror/error/dirty-before-policy", test_dirty_before_policy),
        MIRROR_TEST("/mirror/error/ignored-for-ever", test_ignored_for_ever),
        MIRROR_TEST("/mirror/finish/write-permission-goes-first", test_write_permission_goes_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
