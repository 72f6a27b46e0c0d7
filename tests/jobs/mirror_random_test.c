/* Protects the mirror under any schedule: guests write, users pause, drains come and go, media fail; in the end the
 * disks agree and nothing is left (reference/jobs.md 4). */
#include "tests/jobs/mirror_world.h"

#define DISK_BYTES (2 * MiB)
#define GUEST_REQUESTS 60

static uint64_t draw_state;

static uint64_t draw(uint64_t n)
{
    draw_state = sim_mix64(draw_state + UINT64_C(0x9e3779b97f4a7c15));
    return draw_state % n;
}

static struct guest_io requests[GUEST_REQUESTS];

static void submit_random(unsigned i)
{
    struct guest_io *io = &requests[i];
    uint64_t kind = draw(10);
    int64_t sectors = 1 + (int64_t)draw(128);

    *io = (struct guest_io){.bytes = sectors * 512, .fill = (int)draw(255) + 1};
    io->offset = (int64_t)draw((uint64_t)((DISK_BYTES - io->bytes) / 512)) * 512;
    if (kind >= 8) {
        io->fill = kind == 8 ? -1 : -2;
    }
    guest_submit_io(io);
}

static void toggle_drain(void *opaque)
{
    static BlockDriverState *drained;

    if (drained == NULL) {
        drained = draw(2) ? src : dst;
        bdrv_drained_begin(drained);
    } else {
        bdrv_drained_end(drained);
        drained = NULL;
    }
}

static void to_write_blocking(void *opaque)
{
    block_job_change(block_job_of(opaque), JOB_TYPE_MIRROR, "write-blocking", NULL);
}

static void disturb(Job *job)
{
    switch (draw(6)) {
    case 5:
        on_main(to_write_blocking, job);
        break;
    case 0:
        verb(job, job_user_pause);
        run_for((int64_t)draw(3) * 100 * NS_PER_US);
        verb(job, job_user_resume);
        break;
    case 1:
        on_main(toggle_drain, NULL);
        run_for((int64_t)draw(3) * 100 * NS_PER_US);
        on_main(toggle_drain, NULL);
        break;
    default:
        run_for((int64_t)draw(400) * NS_PER_US);
        break;
    }
}

static struct failing faults[2];

static void random_world(uint64_t seed)
{
    draw_state = seed;
    sim_choice_set_seed(world, seed);
    sim_choice_set_policy(world, SIM_POLICY_RANDOM);
    mirror_world(DISK_BYTES, DISK_BYTES, 0);
    stamp_source(DISK_BYTES / 2);
    args.granularity = 4096u << draw(5);
    args.buf_size = (int64_t)draw(3) * 200 * KiB;
    args.copy_mode = draw(2) == 0 ? MIRROR_COPY_BACKGROUND : MIRROR_COPY_WRITE_BLOCKING;
    args.zero_target = true; /* what is not allocated must read as zero there */
    args.on_source_error = BLOCKDEV_ON_ERROR_IGNORE;
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    faults[0] = (struct failing){.op = SIM_OP_READ, .offset = -1, .error = -EIO, .count = (int)draw(3)};
    faults[1] = (struct failing){.op = SIM_OP_WRITE, .offset = -1, .error = -ENOSPC, .count = (int)draw(4)};
    fail_requests(&faults[0], src_disk);
    fail_requests(&faults[1], dst_disk);
}

static void await_guests(void)
{
    for (unsigned i = 0; i < GUEST_REQUESTS; i++) {
        assert_int_equal(sim_run_idle(world, guest_io_done, &requests[i], INT64_MAX), SIM_STOP_COND);
        assert_int_equal(requests[i].ret, 0);
    }
}

static void one_seed(uint64_t seed)
{
    random_world(seed);
    Job *job = start();
    for (unsigned i = 0; i < GUEST_REQUESTS; i++) {
        submit_random(i);
        if (draw(3) == 0) {
            disturb(job);
        }
    }
    wait_trail("READY");
    /* Half of the seeds let requests overlap the end of the job. */
    bool early = draw(2) == 0;
    if (!early) {
        await_guests();
    }
    bool pivot = draw(2) == 0;
    if (pivot) {
        assert_string_equal(verb(job, job_complete), "");
    } else {
        assert_string_equal(verb(job, verb_cancel_soft), "");
    }
    settle();
    await_guests();
    assert_non_null(strstr(trail, "COMPLETED S:concluded S:null"));
    if (!early) {
        assert_same_disks(DISK_BYTES);
    }
    assert_clean(pivot ? dst : src);
}

static void test_seeds(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        world_setup(NULL);
        one_seed(seed);
        world_teardown(NULL);
    }
}

static uint64_t hash_of(uint64_t seed)
{
    uint64_t hash;

    world_setup(NULL);
    one_seed(seed);
    hash = sim_trace_hash(world);
    world_teardown(NULL);
    return hash;
}

static void test_same_hash(void **state)
{
    assert_true(hash_of(7) == hash_of(7));
    assert_true(hash_of(7) != hash_of(8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/mirror/random/seeds", test_seeds),
        T("/mirror/random/same-seed-same-events", test_same_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
