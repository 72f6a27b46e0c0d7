/* Protects what others may ask of a backup: readers of old content, checkpoints, an owner inside the program
 * (reference/jobs.md 5.9). */
#include "tests/jobs/backup_world.h"

#define BYTES (16 * CLUSTER)

static void clusters_world(void)
{
    backup_world(BYTES);
}

static void end(uint64_t copied)
{
    assert_target(copied);
    assert_clean();
}

/* --- readers of old content (5.9) ------------------------------------------------------------------------ */

struct reader {
    BlockJob *job;
    int64_t sector, count;
    CowRequest req;
    bool begun, over;
};

static void reader_entry(void *opaque)
{
    struct reader *r = opaque;

    backup_wait_for_overlapping_requests(r->job, r->sector, r->count);
    backup_cow_request_begin(&r->req, r->job, r->sector, r->count);
    r->begun = true;
    co_sleep_ns(world, NS_PER_S);
    backup_cow_request_end(&r->req);
    r->over = true;
}

static void read_old(struct reader *r)
{
    coroutine_start(coroutine_create(world, host, "reader", reader_entry, r));
    run_for(NS_PER_US);
}

/* [seed a8bbee0] While a reader holds clusters, nothing of them is copied, so nothing of them is overwritten; by
 * clusters, and the guest's write goes on when the reader has ended. */
/* fact: jobs 5.9/wait, 5.9/begin-end, 5.9/excluded, seed/a8bbee0 */
static void test_reader(void **state)
{
    clusters_world();
    args.sync = MIRROR_SYNC_NONE;
    Job *job = start();
    struct reader r = {.job = block_job_of(job), .sector = CLUSTER_SECTORS + 1, .count = 1};
    struct io inside = {.offset = 2 * CLUSTER - 512, .bytes = 512, .fill = 0x70};
    read_old(&r);
    assert_true(r.begun);
    io_submit(&inside);
    guest_write(2 * CLUSTER, CLUSTER, 0x71); /* the next cluster is nobody's */
    guest_write(0, CLUSTER, 0x72);
    run_for(500 * NS_PER_MS);
    assert_false(inside.done);
    assert_false(r.over);
    run_for(600 * NS_PER_MS);
    assert_true(r.over && inside.done);
    assert_int_equal(inside.ret, 0);
    verb(job, verb_cancel_force);
    settle();
    end(1 << 0 | 1 << 1 | 1 << 2);
}

/* [seed a8bbee0] A reader waits for copies under way and for other readers over its clusters, and looks again. */
/* fact: jobs 5.9/wait, 5.9/excluded, seed/a8bbee0 */
static void test_reader_waits(void **state)
{
    struct failing slow = {
        .op = SIM_OP_WRITE, .from = CLUSTER, .to = 2 * CLUSTER, .count = 1, .extra_latency_ns = NS_PER_S};

    clusters_world();
    fail_requests(&slow, dst_disk);
    args.sync = MIRROR_SYNC_NONE;
    Job *job = start();
    struct io io = {.offset = CLUSTER, .bytes = 512, .fill = 0x70};
    struct reader a = {.job = block_job_of(job), .sector = 0, .count = 2 * CLUSTER_SECTORS};
    struct reader b = {.job = block_job_of(job), .sector = CLUSTER_SECTORS, .count = 1};
    io_submit(&io);
    run_for(10 * NS_PER_MS);
    read_old(&a);
    read_old(&b);
    assert_false(a.begun || b.begun);
    run_for(NS_PER_S);
    assert_true(io.done);
    assert_true(a.begun != b.begun); /* one of them, the other one waits for it */
    run_for(NS_PER_S);
    assert_true(a.begun && b.begun);
    run_for(NS_PER_S);
    assert_true(a.over && b.over);
    verb(job, verb_cancel_force);
    settle();
    end(1 << 1);
}

static void checkpoint_verb(Job *job, Error **errp)
{
    backup_do_checkpoint(block_job_of(job), errp);
}

/* [seed a8bbee0] After a checkpoint each cluster is saved anew. */
/* fact: jobs 5.9/checkpoint, seed/a8bbee0 */
static void test_checkpoint(void **state)
{
    clusters_world();
    args.sync = MIRROR_SYNC_NONE;
    Job *job = start();
    guest_write(3 * CLUSTER, CLUSTER, 0x70);
    assert_target(1 << 3);
    settle();
    assert_string_equal(verb(job, checkpoint_verb), "");
    assert_int_equal(job->progress_remaining, BYTES);
    memcpy(before, now, sizeof(before));
    guest_write(3 * CLUSTER, 512, 0x71);
    assert_target(1 << 3);
    guest_write(3 * CLUSTER, 512, 0x72);
    assert_target(1 << 3);
    verb(job, verb_cancel_force);
    settle();
    end(1 << 3);
}

/* [seed a8bbee0] Other modes would copy what they have copied, new content over old. */
/* fact: jobs 5.9/checkpoint-refused, seed/a8bbee0 */
static void test_checkpoint_refused(void **state)
{
    clusters_world();
    args.speed = 1;
    Job *job = start();
    assert_string_equal(verb(job, checkpoint_verb),
                        "The backup job only supports block checkpoint in sync=none mode");
    verb(job, verb_cancel_force);
    settle();
    assert_clean();
}

static int internal_ret;

static void internal_over(void *opaque, int ret)
{
    *(int *)opaque = ret;
}

/* As replication will have it: nobody sees it, its owner is called back. */
/* fact: jobs 1.1/internal */
static void test_internal(void **state)
{
    clusters_world();
    internal_ret = 1;
    args.job_id = NULL;
    args.flags = JOB_INTERNAL;
    args.cb = internal_over;
    args.cb_opaque = &internal_ret;
    assert_string_equal(try_start(), "");
    settle();
    expect_trail("");
    assert_int_equal(internal_ret, 0);
    end(ALL);
}

int main(void)
{
#define BACKUP_TEST(name, fn) \
    { \
        name, fn, world_setup, world_teardown, NULL \
    }
    const struct CMUnitTest tests[] = {
        BACKUP_TEST("/backup/reader/a8bbee0-holds", test_reader),
        BACKUP_TEST("/backup/reader/a8bbee0-waits", test_reader_waits),
        BACKUP_TEST("/backup/checkpoint/a8bbee0", test_checkpoint),
        BACKUP_TEST("/backup/checkpoint/a8bbee0-refused", test_checkpoint_refused),
        BACKUP_TEST("/backup/internal", test_internal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
