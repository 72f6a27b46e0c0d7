/* Protects the stream job when media fail: error policies, failures of its end, and any schedule of guest writes,
 * pauses, drains and errors (reference/jobs.md 2, 7). */
#include "tests/jobs/stream_world.h"

static struct failing rule;

/* n0 <- n1, n0 all 1 but for n1's few clusters. */
static void two_layers(void)
{
    add_layer(2 * MiB);
    put(0, 0, 2 * MiB, 1);
    add_layer(2 * MiB);
    put(1, 640 * KiB, 64 * KiB, 3);
    plug_guest(layers[1]);
    rule = (struct failing){.op = SIM_OP_READ, .error = -EIO, .from = 512 * KiB, .count = 1};
}

static int setup(void **state)
{
    return stream_setup(state);
}

static void assert_kept(void)
{
    assert_ptr_equal(bdrv_cow_bs(layers[1]), layers[0]);
    assert_string_equal(bdrv_backing_filename(layers[1]), "i0");
    rule.count = 0;
    assert_settled();
    reopen_and_end();
}

static void assert_cut(void)
{
    assert_null(bdrv_cow_bs(layers[1]));
    rule.count = 0;
    assert_settled();
    reopen_and_end();
}

/* --- policies ------------------------------------------------------------------------------------------- */

/* fact: jobs 2/stream-operation, 1.7/failed-ops */
static void test_report(void **state)
{
    two_layers();
    fail_requests(&rule, disks[0]);
    Job *job = start(layers[1]);
    job_ref(job);
    wait_trail("S:null");
    expect_trail(
        "S:created S:running ERROR(read,report) S:aborting COMPLETED(Input/output error) S:concluded S:null");
    assert_true(job->progress_current < 2 * MiB);
    assert_true(job->progress_remaining > 0); /* failed operations add nothing */
    job_unref(job);
    assert_kept();
}

/* The chunk is passed over and counts as done, the others are copied; the job fails with the first error. */
/* fact: jobs 2/stream-ignore, edge/41 */
static void test_ignore(void **state)
{
    two_layers();
    args.on_error = BLOCKDEV_ON_ERROR_IGNORE;
    fail_requests(&rule, disks[0]);
    Job *job = start(layers[1]);
    job_ref(job);
    wait_trail("S:null");
    expect_trail(
        "S:created S:running ERROR(read,ignore) S:aborting COMPLETED(Input/output error) S:concluded S:null");
    assert_int_equal(job->progress_current, 2 * MiB);
    assert_int_equal(job->progress_remaining, 0);
    job_unref(job);
    assert_true(allocated(1) > MiB);
    assert_kept();
}

/* Errors without end or time between them: still an end. */
static void test_ignore_all(void **state)
{
    two_layers();
    args.on_error = BLOCKDEV_ON_ERROR_IGNORE;
    rule.from = 0;
    rule.count = INT32_MAX;
    start(layers[1]);
    fail_requests(&rule, disks[0]);
    wait_trail("S:null");
    assert_non_null(strstr(trail, "COMPLETED(Input/output error)"));
    assert_kept();
}

/* fact: jobs 2/stream-stop, 1.8/stop */
static void test_stop(void **state)
{
    two_layers();
    args.on_error = BLOCKDEV_ON_ERROR_STOP;
    fail_requests(&rule, disks[0]);
    Job *job = start(layers[1]);
    wait_trail("S:paused");
    expect_trail("S:created S:running ERROR(read,stop) S:paused");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_FAILED);
    guest_write(512 * KiB, 64 * KiB, 9);
    assert_string_equal(verb(job, job_user_resume), "");
    wait_trail("S:null");
    expect_trail("S:running S:waiting S:pending COMPLETED S:concluded S:null");
    assert_cut();
}

/* A full disk under the top: it stops for that alone, and calls the operation a read as always. */
/* fact: jobs 2/stream-operation, 2/enospc */
static void test_enospc(void **state)
{
    two_layers();
    args.on_error = BLOCKDEV_ON_ERROR_ENOSPC;
    rule.op = SIM_OP_WRITE;
    rule.error = -ENOSPC;
    fail_requests(&rule, disks[1]);
    Job *job = start(layers[1]);
    wait_trail("S:paused");
    expect_trail("S:created S:running ERROR(read,stop) S:paused");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_NOSPACE);
    assert_string_equal(verb(job, job_user_resume), "");
    wait_trail("S:null");
    assert_cut();
}

/* fact: jobs 2/enospc */
static void test_enospc_other(void **state)
{
    two_layers();
    args.on_error = BLOCKDEV_ON_ERROR_ENOSPC;
    fail_requests(&rule, disks[0]);
    start(layers[1]);
    wait_trail("S:null");
    expect_trail(
        "S:created S:running ERROR(read,report) S:aborting COMPLETED(Input/output error) S:concluded S:null");
    assert_kept();
}

/* --- the end -------------------------------------------------------------------------------------------- */

/* Nothing may be cut off before what was copied is stable. */
/* fact: jobs 1.7/prepare-failed, edge/18 */
static void test_flush_fails(void **state)
{
    two_layers();
    args.auto_finalize = false;
    Job *job = start(layers[1]);
    wait_trail("PENDING");
    trail[0] = '\0';
    rule.op = SIM_OP_FLUSH;
    rule.from = 0;
    fail_requests(&rule, disks[1]);
    job_ref(job);
    assert_string_equal(verb(job, job_finalize), "");
    wait_trail("S:null");
    expect_trail("S:aborting COMPLETED(Input/output error) S:concluded S:null");
    assert_int_equal(job->progress_current, 2 * MiB);
    assert_int_equal(job->progress_remaining, 0);
    job_unref(job);
    assert_kept();
}

struct order {
    struct disk_interposer interposer;
    bool unstable; /* something was written since the last flush */
    bool header;   /* the header was */
    bool early;    /* while something was unstable */
};

static void order_before(struct disk_interposer *self, struct disk_req *req)
{
    struct order *order = container_of(self, struct order, interposer);

    if (req->op == SIM_OP_FLUSH) {
        order->unstable = false;
    } else if (req->op == SIM_OP_WRITE && req->offset == 0) {
        order->header = true;
        order->early = order->early || order->unstable;
    } else if (req->op == SIM_OP_WRITE) {
        order->unstable = true;
    }
}

/* [hazard] A header without backing file over copies that a power loss still takes away would lose them for good.
 */
static void test_stable_before_header(void **state)
{
    struct order order = {.unstable = false};
    two_layers();
    start(layers[1]);
    order.interposer.before = order_before;
    disk_add_interposer(disks[1], &order.interposer);
    wait_trail("S:null");
    assert_true(order.header);
    assert_false(order.early);
    disk_remove_interposer(disks[1], &order.interposer);
    assert_cut();
}

struct inactive {
    bool on;
};

static void activity_entry(void *opaque)
{
    struct inactive *to = opaque;
    Error *err = NULL;
    int ret = to->on ? bdrv_inactivate_all(host, &err) : bdrv_activate_all(host, &err);

    if (ret < 0) {
        fail_msg("%s", error_get_pretty(err));
    }
}

/* The filter of a node that was given up only reads: that is no copy, so the backing file must stay. */
static void test_inactive(void **state)
{
    struct inactive to = {true};
    two_layers();
    on_main(unref_entry, guest);
    guest = NULL;
    args.speed = MiB;
    start(layers[1]);
    run_for(700 * NS_PER_MS);
    on_main(activity_entry, &to);
    wait_trail("S:null");
    assert_non_null(strstr(trail, "ERROR(read,report)"));
    to.on = false;
    on_main(activity_entry, &to);
    assert_kept();
}

/* --- any schedule --------------------------------------------------------------------------------------- */

static uint64_t draw_state;

static uint64_t draw(uint64_t n)
{
    draw_state = sim_mix64(draw_state + UINT64_C(0x9e3779b97f4a7c15));
    return draw_state % n;
}

static void drain_entry(void *opaque)
{
    BlockDriverState *bs = layers[draw(layer_count)];

    bdrv_drained_begin(bs);
    bdrv_drained_end(bs);
}

static bool fails;

/* Where reads of the lowest layer fail, the guest's requests are whole clusters: they need no old data, and
 * succeed. */
static void guest_request(void)
{
    int64_t unit = fails ? 128 : 1;
    int64_t sectors = (1 + (int64_t)draw((uint64_t)(300 / unit))) * unit;
    int64_t offset = (int64_t)draw((uint64_t)((want_bytes / 512 - sectors) / unit)) * unit * 512;

    if (draw(6) == 0) {
        struct io io = {.blk = guest, .offset = offset, .bytes = sectors * 512, .fill = -2};
        io_submit(&io);
        io_wait(&io);
        assert_int_equal(io.ret, 0);
        payload_clear(&io.data);
        want_fill(offset, sectors * 512, 0);
    } else {
        guest_write(offset, sectors * 512, (int)draw(255) + 1);
    }
}

static bool job_is_over(void)
{
    return job_next(host, NULL) == NULL;
}

/* The job may end before a command's turn comes. */
static void pause_entry(void *opaque)
{
    if (!job_is_over()) {
        job_user_pause(job_next(host, NULL), NULL);
    }
}

static void resume_entry(void *opaque)
{
    if (!job_is_over()) {
        job_user_resume(job_next(host, NULL), NULL);
    }
}

static void steer(void)
{
    uint64_t kind = draw(8);

    if (kind == 0) {
        on_main(drain_entry, NULL);
    } else if (kind == 1) {
        run_for((int64_t)draw(2000) * NS_PER_US);
    } else if (kind == 2 || kind == 3) {
        on_main(kind == 2 ? pause_entry : resume_entry, NULL);
    } else {
        guest_request();
    }
}

static void random_chain(void)
{
    unsigned count = 2 + (unsigned)draw(3);

    for (unsigned i = 0; i < count; i++) {
        add_layer((int64_t)(1024 + draw(2048)) * 512);
        for (unsigned k = (unsigned)draw(12); k > 0; k--) {
            int64_t sectors = 1 + (int64_t)draw(400);
            put(i, (int64_t)draw((uint64_t)(want_bytes / 512 - sectors)) * 512, sectors * 512, (int)draw(255) + 1);
        }
    }
    plug_guest(layers[count - 1]);
}

static void random_run(uint64_t seed)
{
    static const enum block_on_error policies[] = {BLOCKDEV_ON_ERROR_REPORT, BLOCKDEV_ON_ERROR_IGNORE,
                                                   BLOCKDEV_ON_ERROR_STOP};
    draw_state = seed;
    random_chain();
    args.base = draw(2) ? layers[draw(layer_count - 1)] : NULL;
    args.speed = draw(3) == 0 ? MiB : 0;
    args.on_error = policies[draw(3)];
    rule = (struct failing){.op = SIM_OP_READ, .error = -EIO, .every = 1 + (int)draw(20), .count = 5};
    trail[0] = '\0';
    start(layers[layer_count - 1]);
    fails = draw(2);
    if (fails) {
        fail_requests(&rule, disks[0]);
    }
    for (unsigned k = 0; k < 30; k++) {
        steer();
    }
    while (!job_is_over()) {
        on_main(resume_entry, NULL);
        run_for(NS_PER_MS);
    }
    rule.count = 0;
    assert_settled();
    reopen_and_end();
}

/* fact: jobs 7/guest-writes */
static void test_random(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        random_run(seed);
        world_teardown(state);
        stream_setup(state);
    }
}

#define STREAM_TEST(name, fn) \
    { \
        name, fn, setup, world_teardown, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        STREAM_TEST("/stream-error/report", test_report),
        STREAM_TEST("/stream-error/ignore", test_ignore),
        STREAM_TEST("/stream-error/ignore-all", test_ignore_all),
        STREAM_TEST("/stream-error/stop", test_stop),
        STREAM_TEST("/stream-error/enospc", test_enospc),
        STREAM_TEST("/stream-error/enospc-other", test_enospc_other),
        STREAM_TEST("/stream-error/flush-fails", test_flush_fails),
        STREAM_TEST("/stream-error/stable-before-header", test_stable_before_header),
        STREAM_TEST("/stream-error/inactive", test_inactive),
        STREAM_TEST("/stream-error/random", test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
