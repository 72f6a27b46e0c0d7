/* Protects copy-mode=write-blocking: what is written to both sides, what is left to the background, and that no mix
 * of the two loses a write (reference/jobs.md 4.6). */
#include "tests/jobs/mirror_world.h"

#define TO_READY "S:created S:running S:ready READY"
#define CHUNK (64 * KiB)

static struct failing rule;

static void cancel_clean(Job *job)
{
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_clean(src);
}

static void change_entry(void *opaque)
{
    Error *err = NULL;

    block_job_change(block_job_of(opaque), JOB_TYPE_MIRROR, "write-blocking", &err);
    assert_null(err);
}

static void to_write_blocking(Job *job)
{
    on_main(change_entry, job);
    assert_int_equal(mirror_copy_mode(job), MIRROR_COPY_WRITE_BLOCKING);
}

/* A disk of four chunks, ready, in sync=none: what is on the target came by guests. */
static Job *start_ready(enum mirror_copy_mode mode)
{
    mirror_world(4 * CHUNK, 4 * CHUNK, 0);
    args.sync = MIRROR_SYNC_NONE;
    args.copy_mode = mode;
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    Job *job = start();
    wait_trail("READY");
    return job;
}

/* First byte of the target at offset. */
static int target_byte(int64_t offset)
{
    struct payload p;
    uint8_t byte;

    payload_init(world, &p);
    disk_peek(dst_disk, offset, 512, &p);
    payload_read_bytes(&p, 0, &byte, 1);
    payload_clear(&p);
    return byte;
}

static int64_t dirty_count(const Job *job)
{
    return bdrv_get_dirty_count(mirror_dirty_bitmap(job));
}

static void wait_io(struct guest_io *io)
{
    assert_int_equal(sim_run_idle(world, guest_io_done, io, sim_now(world) + 1000 * NS_PER_S), SIM_STOP_COND);
}

static void slow(enum sim_op op, struct disk *disk, int64_t offset, int64_t latency_ns)
{
    rule = (struct failing){.op = op, .offset = offset, .count = 1, .extra_latency_ns = latency_ns};
    fail_requests(&rule, disk);
}

/* --- both sides ----------------------------------------------------------------------------------------- */

/* When the guest hears of it, the target has it; nothing is dirty for a moment.
 *
 * fact: jobs 4.6/in-kind, 1.7/active-writes */
static void test_both_sides(void **state)
{
    Job *job = start_ready(MIRROR_COPY_WRITE_BLOCKING);
    int64_t before = job->progress_current;

    guest_write(CHUNK, 2 * CHUNK, 0x21);
    assert_int_equal(target_byte(CHUNK), 0x21);
    assert_int_equal(target_byte(3 * CHUNK - 512), 0x21);
    assert_int_equal(dirty_count(job), 0);
    assert_int_equal(job->progress_current, before + 2 * CHUNK);
    assert_int_equal(job->progress_remaining, 0);
    /* zeroes as zeroes: holes on both sides */
    struct guest_io io = {.offset = CHUNK, .bytes = CHUNK, .fill = -2};
    guest_submit_io(&io);
    wait_io(&io);
    assert_int_equal(dirty_count(job), 0);
    assert_int_equal(disk_allocated_bytes(dst_disk), CHUNK);
    assert_same_disks(4 * CHUNK);
    cancel_clean(job);
}

static void count_discards(void *opaque, const struct sim_record *r)
{
    const struct disk_req *req = r->ref;

    *(int *)opaque += req->disk == dst_disk && req->op == SIM_OP_DISCARD && req->origin.kind != SIM_ORIGIN_JOB;
}

/* A discard goes to the target as one. What either side holds then is its own affair: the job looks at it again. In
 * the original it counts as copied, and a target that ignores discards keeps what the source has dropped.
 *
 * fact: jobs 4.6/in-kind */
static void test_discard(void **state)
{
    struct guest_io io = {.offset = CHUNK, .bytes = CHUNK, .fill = -1};
    int discards = 0;
    Job *job = start_ready(MIRROR_COPY_WRITE_BLOCKING);

    guest_write(0, 4 * CHUNK, 0x21);
    sim_subscribe(world, EV_disk_submit, count_discards, &discards);
    guest_submit_io(&io);
    wait_io(&io);
    assert_int_equal(discards, 1);
    assert_int_equal(dirty_count(job), CHUNK);
    run_for(NS_PER_S);
    assert_int_equal(dirty_count(job), 0);
    assert_same_disks(4 * CHUNK);
    cancel_clean(job);
}

/* The target ignores discards; the source does not. */
static void test_discard_ignored(void **state)
{
    struct guest_io io = {.offset = CHUNK, .bytes = CHUNK, .fill = -1};
    Job *job = start_ready(MIRROR_COPY_WRITE_BLOCKING);

    guest_write(0, 4 * CHUNK, 0x21);
    dst->open_flags &= ~(uint32_t)BDRV_O_UNMAP;
    guest_submit_io(&io);
    wait_io(&io);
    assert_int_equal(target_byte(CHUNK), 0x21);
    run_for(NS_PER_S);
    assert_same_disks(4 * CHUNK);
    dst->open_flags |= BDRV_O_UNMAP;
    cancel_clean(job);
}

/* --- edges ---------------------------------------------------------------------------------------------- */

/* A job that stands by leaves what is dirty as it is, and guests' writes go on.
 *
 * fact: jobs 4.6/dirty-edge, 4.6/clean-edge, edge/28; bitmaps 1.2/clear-inward */
static void test_edges(void **state)
{
    Job *job = start_ready(MIRROR_COPY_BACKGROUND);

    assert_string_equal(verb(job, job_user_pause), "");
    wait_trail("S:standby");
    guest_write(0, CHUNK, 0x11);
    guest_write(2 * CHUNK, CHUNK, 0x13);
    assert_int_equal(dirty_count(job), 2 * CHUNK);
    to_write_blocking(job);
    /* head dirty, tail clean */
    guest_write(CHUNK / 2, CHUNK, 0x22);
    assert_int_equal(target_byte(CHUNK / 2), 0);
    assert_int_equal(target_byte(CHUNK), 0x22);
    assert_true(bdrv_dirty_bitmap_get(mirror_dirty_bitmap(job), 0));
    assert_false(bdrv_dirty_bitmap_get(mirror_dirty_bitmap(job), CHUNK));
    /* head clean, tail dirty */
    guest_write(CHUNK + CHUNK / 2, CHUNK, 0x23);
    assert_int_equal(target_byte(CHUNK + CHUNK / 2), 0x23);
    assert_int_equal(target_byte(2 * CHUNK), 0);
    assert_false(bdrv_dirty_bitmap_get(mirror_dirty_bitmap(job), CHUNK));
    assert_true(bdrv_dirty_bitmap_get(mirror_dirty_bitmap(job), 2 * CHUNK));
    /* inside of one chunk: nothing is left for the target, or all of it */
    guest_write(512, 512, 0x24);
    assert_int_equal(target_byte(512), 0);
    guest_write(3 * CHUNK + 512, 512, 0x25);
    assert_int_equal(target_byte(3 * CHUNK + 512), 0x25);
    assert_false(bdrv_dirty_bitmap_get(mirror_dirty_bitmap(job), 3 * CHUNK));
    /* covered: clean */
    guest_write(2 * CHUNK, CHUNK, 0x26);
    assert_int_equal(target_byte(3 * CHUNK - 512), 0x26);
    assert_int_equal(dirty_count(job), CHUNK);
    assert_true(sim_mark_hits(world, MARK_mirror_active_dirty_edge) >= 3);
    assert_string_equal(verb(job, job_user_resume), "");
    run_for(NS_PER_S);
    assert_int_equal(dirty_count(job), 0);
    assert_same_disks(4 * CHUNK);
    cancel_clean(job);
}

/* The last chunk ends with the disk: it is covered although it is short. */
static void test_short_tail(void **state)
{
    mirror_world(CHUNK + 512, CHUNK + 512, 0);
    args.sync = MIRROR_SYNC_NONE;
    args.copy_mode = MIRROR_COPY_WRITE_BLOCKING;
    Job *job = start();
    wait_trail("READY");
    guest_write(CHUNK, 512, 0x31);
    assert_int_equal(dirty_count(job), 0);
    guest_write(CHUNK - 512, 1024, 0x32);
    assert_int_equal(dirty_count(job), 0);
    assert_same_disks(CHUNK + 512);
    cancel_clean(job);
}

/* --- waiting -------------------------------------------------------------------------------------------- */

/* A copy of one chunk is in flight: a write over that chunk and others waits with all of them, before it writes
 * anything; another that only touches the waiting one does not wait for it.
 *
 * fact: jobs 4.6/waits-whole-range, 4.6/no-deadlock, edge/25, edge/26 */
static void test_waits(void **state)
{
    struct guest_io wide = {.offset = 0, .bytes = 3 * CHUNK, .fill = 0x41};
    struct guest_io beside = {.offset = 0, .bytes = CHUNK, .fill = 0x42};
    Job *job = start_ready(MIRROR_COPY_BACKGROUND);

    slow(SIM_OP_WRITE, dst_disk, 2 * CHUNK, 200 * NS_PER_MS);
    guest_write(2 * CHUNK, CHUNK, 0x40);
    to_write_blocking(job);
    run_for(150 * NS_PER_MS);
    assert_int_equal(mirror_in_flight(job), 1);
    guest_submit_io(&wide);
    run_for(NS_PER_MS);
    guest_submit_io(&beside);
    wait_io(&beside);
    assert_int_equal(mirror_in_flight(job), 1);
    assert_false(wide.done);
    assert_int_equal(mirror_active_writes(job), 1);
    assert_int_equal(target_byte(0), 0x42);
    wait_io(&wide);
    assert_int_equal(target_byte(2 * CHUNK), 0x41);
    assert_int_equal(dirty_count(job), 0);
    assert_same_disks(4 * CHUNK);
    cancel_clean(job);
}

/* Two that overlap come one after the other, on both sides in the same order. */
static void test_overlap(void **state)
{
    struct guest_io one = {.offset = 0, .bytes = 2 * CHUNK, .fill = 0x51};
    struct guest_io two = {.offset = CHUNK, .bytes = 2 * CHUNK, .fill = 0x52};
    Job *job = start_ready(MIRROR_COPY_WRITE_BLOCKING);

    slow(SIM_OP_WRITE, dst_disk, 0, 20 * NS_PER_MS);
    guest_submit_io(&one);
    guest_submit_io(&two);
    wait_io(&two);
    wait_io(&one);
    assert_int_equal(target_byte(CHUNK), 0x52);
    assert_same_disks(4 * CHUNK);
    assert_int_equal(dirty_count(job), 0);
    cancel_clean(job);
}

/* M13: two that overlap wait for the same copy, wake up together, and one goes first.
 *
 * fact: jobs 4.6/no-deadlock, edge/25 */
static void test_two_waiters(void **state)
{
    struct guest_io one = {.offset = 0, .bytes = 96 * KiB, .fill = 0x45};
    struct guest_io two = {.offset = 32 * KiB, .bytes = 96 * KiB, .fill = 0x46};
    Job *job = start_ready(MIRROR_COPY_BACKGROUND);

    slow(SIM_OP_WRITE, dst_disk, 0, 200 * NS_PER_MS);
    guest_write(0, CHUNK, 0x44);
    to_write_blocking(job);
    run_for(150 * NS_PER_MS);
    assert_int_equal(mirror_in_flight(job), 1);
    guest_submit_io(&one);
    guest_submit_io(&two);
    run_for(NS_PER_MS);
    assert_int_equal(mirror_active_writes(job), 2);
    wait_io(&one);
    wait_io(&two);
    run_for(NS_PER_S);
    assert_int_equal(dirty_count(job), 0);
    assert_same_disks(4 * CHUNK);
    cancel_clean(job);
}

static struct guest_io stream[64];

/* The target is slow and guests write without a break: the background goes on all the same, and waits for slots of
 * its own only.
 *
 * fact: jobs 4.4/slot-waiter, 4.4/active-converges, edge/24 */
static void test_converges(void **state)
{
    mirror_world(64 * CHUNK, 64 * CHUNK, 0);
    stamp_source(64 * CHUNK);
    args.copy_mode = MIRROR_COPY_WRITE_BLOCKING;
    args.buf_size = CHUNK;
    disk_set_latency(dst_disk, NS_PER_MS);
    Job *job = start();
    for (int i = 0; strstr(trail, "READY") == NULL; i++) {
        struct guest_io *io = &stream[i % 64];

        assert_true(i < 2000);
        if (i >= 64) {
            wait_io(io);
        }
        *io = (struct guest_io){.offset = (i * 7 % 64) * CHUNK + 512, .bytes = CHUNK / 4, .fill = 1 + i % 250};
        guest_submit_io(io);
        run_for(100 * NS_PER_US);
    }
    assert_true(mirror_active_writes(job) > 0);
    for (int i = 0; i < 64; i++) {
        if (stream[i].bytes > 0) {
            wait_io(&stream[i]);
        }
    }
    run_for(NS_PER_S);
    assert_int_equal(dirty_count(job), 0);
    assert_same_disks(64 * CHUNK);
    cancel_clean(job);
}

/* --- who else writes ------------------------------------------------------------------------------------ */

/* A write begun in background mode is slow; the mode is changed; one to both sides over the same area overtakes it,
 * or waits beside it. Whichever the source has in the end the target gets. In the original either may clear what
 * the other is about to mark.
 *
 * fact: jobs 4.6/sampled, 4.6/change */
static void test_mode_changes_under_write(void **state)
{
    for (int order = 0; order < 2; order++) {
        struct guest_io old = {.offset = 0, .bytes = CHUNK, .fill = 0x61};
        struct guest_io young = {.offset = 0, .bytes = CHUNK, .fill = 0x62};
        struct failing slow_write = {.op = SIM_OP_WRITE, .offset = 0, .count = 1};

        world_setup(NULL);
        Job *job = start_ready(MIRROR_COPY_BACKGROUND);
        slow_write.extra_latency_ns = order == 0 ? 20 * NS_PER_MS : NS_PER_MS;
        fail_requests(&slow_write, src_disk);
        guest_submit_io(&old);
        run_for(10 * NS_PER_US);
        to_write_blocking(job);
        if (order == 1) {
            slow_write.count = 1;
            slow_write.extra_latency_ns = 20 * NS_PER_MS;
        }
        guest_submit_io(&young);
        wait_io(&old);
        wait_io(&young);
        assert_int_equal(sim_mark_hits(world, MARK_mirror_active_disturbed) > 0, order == 1);
        assert_int_equal(dirty_count(job), CHUNK);
        run_for(NS_PER_S);
        assert_int_equal(dirty_count(job), 0);
        assert_same_disks(4 * CHUNK);
        cancel_clean(job);
        world_teardown(NULL);
    }
}

static BlockBackend *other;

static void share_write(void *opaque)
{
    assert_int_equal(blk_set_perm(guest, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL, NULL), 0);
    other = blk_new(host, BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(other, src, NULL), 0);
}

static void drop_other(void *opaque)
{
    blk_unref(other);
}

static void other_write_entry(void *opaque)
{
    struct guest_io *io = opaque;
    struct payload data;

    payload_init(world, &data);
    payload_append_fill(&data, (uint8_t)io->fill, io->bytes);
    io->ret = blk_co_pwritev(other, io->offset, io->bytes, &data, 0);
    payload_clear(&data);
    io->done = true;
}

/* Somebody writes to the source past the filter, inside of a write to both sides. */
static void test_write_below_filter(void **state)
{
    struct guest_io wide = {.offset = 0, .bytes = 2 * CHUNK, .fill = 0x71};
    struct guest_io below = {.offset = CHUNK, .bytes = 512, .fill = 0x72};
    Job *job = start_ready(MIRROR_COPY_WRITE_BLOCKING);

    on_main(share_write, NULL);
    slow(SIM_OP_WRITE, src_disk, 0, 20 * NS_PER_MS);
    guest_submit_io(&wide);
    run_for(NS_PER_MS);
    coroutine_start(coroutine_create(world, host, "other", other_write_entry, &below));
    wait_io(&below);
    assert_int_equal(below.ret, 0);
    wait_io(&wide);
    assert_true(sim_mark_hits(world, MARK_mirror_active_disturbed) > 0);
    run_for(NS_PER_S);
    assert_same_disks(4 * CHUNK);
    on_main(drop_other, NULL);
    cancel_clean(job);
}

static struct payload guest_buffer;
static int guest_ret;

static void write_buffer_entry(void *opaque)
{
    guest_ret = blk_co_pwritev(guest, 0, CHUNK, &guest_buffer, 0);
    *(bool *)opaque = true;
}

static bool flag_set(void *opaque)
{
    return *(bool *)opaque;
}

/* The guest alters its buffer between the two writes.
 *
 * fact: jobs 4.6/private-copy, edge/27 */
static void test_private_copy(void **state)
{
    bool done = false;
    Job *job = start_ready(MIRROR_COPY_WRITE_BLOCKING);

    payload_init(world, &guest_buffer);
    payload_append_fill(&guest_buffer, 0x81, CHUNK);
    slow(SIM_OP_WRITE, src_disk, 0, 20 * NS_PER_MS);
    coroutine_start(coroutine_create(world, host, "guest", write_buffer_entry, &done));
    run_for(NS_PER_MS);
    payload_clear(&guest_buffer);
    payload_append_fill(&guest_buffer, 0x82, CHUNK);
    assert_int_equal(sim_run_idle(world, flag_set, &done, INT64_MAX), SIM_STOP_COND);
    assert_int_equal(guest_ret, 0);
    assert_int_equal(target_byte(0), 0x81);
    assert_same_disks(CHUNK);
    payload_clear(&guest_buffer);
    cancel_clean(job);
}

/* --- failures ------------------------------------------------------------------------------------------- */

static void poke_source(int64_t offset, int fill)
{
    struct payload data;

    payload_init(world, &data);
    payload_append_fill(&data, (uint8_t)fill, 512);
    disk_poke(src_disk, offset, &data);
    payload_clear(&data);
}

/* The source fails the write, but has changed a part of its range. The original takes the area for unchanged.
 *
 * fact: jobs 4.6/source-failure */
static void test_source_failure(void **state)
{
    struct guest_io io = {.offset = 0, .bytes = 2 * CHUNK, .fill = 0x91};
    Job *job = start_ready(MIRROR_COPY_WRITE_BLOCKING);

    rule = (struct failing){.op = SIM_OP_WRITE, .offset = 0, .count = 1, .error = -EIO};
    fail_requests(&rule, src_disk);
    guest_submit_io(&io);
    wait_io(&io);
    poke_source(CHUNK, 0x91);
    assert_int_equal(io.ret, -EIO);
    assert_int_equal(dirty_count(job), 2 * CHUNK);
    run_for(NS_PER_S);
    assert_same_disks(4 * CHUNK);
    assert_string_equal(trail, TO_READY);
    cancel_clean(job);
}

/* The target's failure is no business of the guest's.
 *
 * fact: jobs 4.6/target-failure, 4.6/actively-synced, 2/mirror-synced, edge/30 */
static void test_target_failure(void **state)
{
    struct guest_io io = {.offset = CHUNK + 512, .bytes = CHUNK, .fill = 0xa1};
    Job *job = start_ready(MIRROR_COPY_WRITE_BLOCKING);

    assert_true(mirror_actively_synced(job));
    rule = (struct failing){.op = SIM_OP_WRITE, .offset = -1, .count = 1, .error = -EIO};
    fail_requests(&rule, dst_disk);
    guest_submit_io(&io);
    wait_io(&io);
    assert_int_equal(io.ret, 0);
    assert_string_equal(trail, TO_READY " ERROR(write,ignore)");
    assert_int_equal(dirty_count(job), 2 * CHUNK);
    assert_false(mirror_actively_synced(job));
    int64_t before = job->progress_current;
    run_for(NS_PER_S);
    assert_int_equal(job->progress_current, before + 2 * CHUNK);
    assert_true(mirror_actively_synced(job));
    assert_same_disks(4 * CHUNK);
    cancel_clean(job);
}

static void test_target_failure_stops(void **state)
{
    struct guest_io io = {.offset = 0, .bytes = CHUNK, .fill = 0xa2};

    mirror_world(4 * CHUNK, 4 * CHUNK, 0);
    args.copy_mode = MIRROR_COPY_WRITE_BLOCKING;
    args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
    Job *job = start();
    wait_trail("READY");
    rule = (struct failing){.op = SIM_OP_WRITE, .offset = -1, .count = 1, .error = -ENOSPC};
    fail_requests(&rule, dst_disk);
    guest_submit_io(&io);
    wait_io(&io);
    assert_int_equal(io.ret, 0);
    wait_trail("S:standby");
    assert_string_equal(trail, TO_READY " ERROR(write,stop) S:standby");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_NOSPACE);
    assert_string_equal(verb(job, job_user_resume), "");
    run_for(NS_PER_S);
    assert_same_disks(4 * CHUNK);
    cancel_clean(job);
}

/* A job that has failed leaves the target alone from then on.
 *
 * fact: jobs 4.6/after-error */
static void test_after_error(void **state)
{
    struct guest_io io = {.offset = 0, .bytes = CHUNK, .fill = 0xa3};
    struct guest_io later = {.offset = CHUNK, .bytes = CHUNK, .fill = 0xa4};
    struct failing slow_source = {
        .op = SIM_OP_WRITE, .offset = CHUNK, .count = 1, .extra_latency_ns = 20 * NS_PER_MS};

    mirror_world(4 * CHUNK, 4 * CHUNK, 0);
    args.copy_mode = MIRROR_COPY_WRITE_BLOCKING;
    start();
    wait_trail("READY");
    run_for(10 * NS_PER_MS);
    rule = (struct failing){.op = SIM_OP_WRITE, .offset = -1, .count = 1, .error = -EIO};
    fail_requests(&rule, dst_disk);
    fail_requests(&slow_source, src_disk);
    guest_submit_io(&later);
    guest_submit_io(&io);
    wait_io(&io);
    assert_int_equal(io.ret, 0);
    wait_io(&later);
    assert_int_equal(later.ret, 0);
    assert_int_equal(target_byte(CHUNK), 0);
    settle();
    assert_string_equal(trail, TO_READY
                        " ERROR(write,report) S:aborting COMPLETED(Input/output error) S:concluded S:null");
    assert_clean(src);
}

/* --- being in sync -------------------------------------------------------------------------------------- */

/* fact: jobs 4.6/actively-synced, 4.6/background-synced, 4.6/background */
static void test_actively_synced(void **state)
{
    Job *job = start_ready(MIRROR_COPY_BACKGROUND);

    run_for(NS_PER_S);
    assert_false(mirror_actively_synced(job));
    to_write_blocking(job);
    run_for(NS_PER_S);
    assert_true(mirror_actively_synced(job));
    guest_write(0, CHUNK, 0xb1);
    assert_true(mirror_actively_synced(job));
    cancel_clean(job);
}

static void drain_begin(void *opaque)
{
    bdrv_drained_begin(opaque);
}

static void drain_end(void *opaque)
{
    bdrv_drained_end(opaque);
}

/* Somebody has the target drained: nothing is written there, and nothing is lost. The original writes into his
 * section.
 */
static void test_drained_target(void **state)
{
    struct guest_io io = {.offset = 0, .bytes = CHUNK, .fill = 0xb2};
    Job *job = start_ready(MIRROR_COPY_WRITE_BLOCKING);

    on_main(drain_begin, dst);
    guest_submit_io(&io);
    wait_io(&io);
    assert_int_equal(io.ret, 0);
    assert_int_equal(target_byte(0), 0);
    assert_int_equal(dirty_count(job), CHUNK);
    on_main(drain_end, dst);
    run_for(NS_PER_S);
    assert_same_disks(4 * CHUNK);
    cancel_clean(job);
}

/* A write in hand when the job is told to complete: the switch waits for both of its sides. */
static void test_complete(void **state)
{
    struct guest_io io = {.offset = 0, .bytes = CHUNK, .fill = 0xb3};
    Job *job = start_ready(MIRROR_COPY_WRITE_BLOCKING);

    slow(SIM_OP_WRITE, dst_disk, 0, 300 * NS_PER_MS);
    guest_submit_io(&io);
    run_for(NS_PER_MS);
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_true(io.done);
    assert_int_equal(io.ret, 0);
    assert_string_equal(trail, TO_READY " S:waiting S:pending COMPLETED S:concluded S:null");
    assert_same_disks(4 * CHUNK);
    assert_clean(dst);
}

/* The same, and the target fails it: what the drain has brought is copied before the end. */
static void test_failure_at_complete(void **state)
{
    struct guest_io io = {.offset = 0, .bytes = CHUNK, .fill = 0xb4};
    Job *job = start_ready(MIRROR_COPY_WRITE_BLOCKING);

    slow(SIM_OP_WRITE, dst_disk, 0, 300 * NS_PER_MS);
    rule.error = -EIO;
    guest_submit_io(&io);
    run_for(NS_PER_MS);
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_int_equal(io.ret, 0);
    assert_string_equal(trail, TO_READY " ERROR(write,ignore) S:waiting S:pending COMPLETED S:concluded S:null");
    assert_int_equal(sim_mark_hits(world, MARK_mirror_final_dirty), 1);
    assert_same_disks(4 * CHUNK);
    assert_clean(dst);
}

#define MIRROR_TEST(path, fn) T_SETUP(path, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MIRROR_TEST("/mirror/active/both-sides", test_both_sides),
        MIRROR_TEST("/mirror/active/discard", test_discard),
        MIRROR_TEST("/mirror/active/discard-that-target-ignores", test_discard_ignored),
        MIRROR_TEST("/mirror/active/edges", test_edges),
        MIRROR_TEST("/mirror/active/short-tail", test_short_tail),
        MIRROR_TEST("/mirror/active/waits-for-whole-range", test_waits),
        MIRROR_TEST("/mirror/active/two-waiters", test_two_waiters),
        MIRROR_TEST("/mirror/active/overlap", test_overlap),
        MIRROR_TEST("/mirror/active/converges", test_converges),
        {"/mirror/active/mode-changes-under-write", test_mode_changes_under_write, NULL, NULL, NULL},
        MIRROR_TEST("/mirror/active/write-below-filter", test_write_below_filter),
        MIRROR_TEST("/mirror/active/private-copy", test_private_copy),
        MIRROR_TEST("/mirror/active/source-failure-stays-dirty", test_source_failure),
        MIRROR_TEST("/mirror/active/target-failure", test_target_failure),
        MIRROR_TEST("/mirror/active/target-failure-stops", test_target_failure_stops),
        MIRROR_TEST("/mirror/active/after-error", test_after_error),
        MIRROR_TEST("/mirror/active/actively-synced", test_actively_synced),
        MIRROR_TEST("/mirror/active/drained-target", test_drained_target),
        MIRROR_TEST("/mirror/active/complete", test_complete),
        MIRROR_TEST("/mirror/active/failure-at-complete", test_failure_at_complete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
