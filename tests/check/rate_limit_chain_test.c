/* Protects check/rate_limit over chains of images: a commit, a stream or an active commit that is too fast, too
 * slow or woken early is reported, and one that keeps to its speed is not; a backup that is too fast, too. */
#include "tests/jobs/matrix_world.h"

#include "jobs/backup.h"

#define SPEED ",'speed':2000000"

static const char *const over_chains[] = {"active-commit", "commit", "stream"};

static bool chain_over(void *opaque)
{
    return the_job() == NULL || job_is_ready(the_job());
}

static bool seen_or_over(void *opaque)
{
    return check_violations(checks) != NULL || chain_over(NULL);
}

static BlockJob *limited(const char *kind)
{
    matrix_begin(kind_named(kind));
    start_kind(kind_named(kind), SPEED);
    return block_job_of(the_job());
}

static bool violated(const char *prefix)
{
    const struct violation *v = check_violations(checks);

    while (v != NULL && strncmp(v->signature, prefix, strlen(prefix)) != 0) {
        v = v->next;
    }
    return v != NULL;
}

static void assert_violated(const char *rule, const char *type)
{
    char prefix[64];

    snprintf(prefix, sizeof(prefix), "rate-limit.%s.%s", rule, type);
    if (!violated(prefix)) {
        fail_msg("%s was not seen, trail %s", prefix, trail);
    }
}

static void drop(void)
{
    world_teardown(NULL);
    check_set_free(checks);
}

static void wait_ns(int64_t ns)
{
    int64_t end = sim_now(world) + ns;

    while (sim_now(world) < end) {
        sim_run_idle(world, NULL, NULL, end);
    }
}

/* The speed up and down, pauses within sleeps: nothing is wrong. */
static void test_silent(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(over_chains); i++) {
        limited(over_chains[i]);
        wait_ns(50 * NS_PER_MS);
        ok(qmp("block-job-pause", "{'device':'j'}"));
        wait_ns(NS_PER_MS);
        ok(qmp("block-job-resume", "{'device':'j'}"));
        wait_ns(NS_PER_MS);
        ok(qmp("block-job-set-speed", "{'device':'j','speed':1000000}"));
        wait_ns(300 * NS_PER_MS);
        ok(qmp("block-job-set-speed", "{'device':'j','speed':30000000}"));
        run_until(chain_over, NULL);
        if (the_job() != NULL) {
            ok(qmp("job-complete", "{'id':'j'}"));
            run_until(job_gone, NULL);
        }
        matrix_end();
    }
}

/* The limiter works with another speed than the one it was told. An active commit asks for its whole buffer at
 * once. */
static void test_above(void **state)
{
    static const char *const kinds_of_it[] = {"commit", "stream", "active-commit"};

    for (size_t i = 0; i < ARRAY_SIZE(kinds_of_it); i++) {
        disk_bytes = i < 2 ? 16 * MiB : 96 * MiB;
        limited(kinds_of_it[i])->limit.quota *= 1000;
        run_until(seen_or_over, NULL);
        assert_violated("above", kind_named(kinds_of_it[i])->type);
        drop();
    }
    disk_bytes = 2 * MiB;
}

/* A stream copies whole clusters of its top, be they larger than its chunks, and pays for them.
 * fact: jobs 3/real-bytes, edge/8 */
static void test_whole_clusters(void **state)
{
    disk_bytes = 32 * MiB;
    cluster_bytes = 2 * MiB;
    limited("stream");
    run_until(job_gone, NULL);
    assert_in_range(sim_now(world), 15 * MiB / 2 * 1000,
                    INT64_MAX); /* half of the disk, at 2 bytes a microsecond */
    matrix_end();
    disk_bytes = 2 * MiB;
    cluster_bytes = 64 * KiB;
}

static void test_starved(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(over_chains); i++) {
        disk_bytes = i > 0 ? 16 * MiB : 96 * MiB;
        limited(over_chains[i])->limit.quota /= 20;
        run_until(seen_or_over, NULL);
        assert_violated("starved", kind_named(over_chains[i])->type);
        drop();
    }
    disk_bytes = 2 * MiB;
}

/* Whatever wakes the job ends its sleep, as if nothing were owed [seed 7b770c7]. */
static void test_early(void **state)
{
    static const char *const kinds_of_it[] = {"commit", "stream"};

    for (size_t i = 0; i < ARRAY_SIZE(kinds_of_it); i++) {
        BlockJob *job = limited(kinds_of_it[i]);

        wait_ns(100 * NS_PER_MS);
        assert_true(sim_timer_queued(&job->job.sleep_timer));
        job->limit.dispatched = 0;
        job->limit.slice_end_ns = 0;
        job_kick(&job->job);
        wait_ns(100 * NS_PER_MS);
        assert_violated("early", kind_named(kinds_of_it[i])->type);
        drop();
    }
}

/* A backup from a medium: its own pass is measured there. */
static void backup(void)
{
    matrix_begin(kind_named("backup"));
    start_kind(kind_named("backup"), SPEED);
}

static void test_backup_silent(void **state)
{
    backup();
    wait_ns(200 * NS_PER_MS);
    ok(qmp("block-job-pause", "{'device':'j'}"));
    wait_ns(NS_PER_MS);
    ok(qmp("block-job-resume", "{'device':'j'}"));
    ok(qmp("block-job-set-speed", "{'device':'j','speed':1000000}"));
    run_until(job_gone, NULL);
    matrix_end();
}

/* The engine works with another speed than its job. */
static void test_backup_above(void **state)
{
    disk_bytes = 96 * MiB;
    backup();
    block_copy_set_speed((BlockCopyState *)(uintptr_t)backup_copy_state(the_job()), 2000000000);
    run_until(seen_or_over, NULL);
    assert_violated("above", "backup");
    disk_bytes = 2 * MiB;
    drop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/check/rate-limit/chain/silent", test_silent),
        T("/check/rate-limit/chain/above", test_above),
        T("/check/rate-limit/chain/whole-clusters", test_whole_clusters),
        T("/check/rate-limit/chain/starved", test_starved),
        T("/check/rate-limit/chain/early", test_early),
        T("/check/rate-limit/backup/silent", test_backup_silent),
        T("/check/rate-limit/backup/above", test_backup_above),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
