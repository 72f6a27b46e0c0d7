/* Protects check/commit_view: content that changes under a guest by a commit or a stream, headers and chains that
 * are not what was asked for, and bases that shrink are found out; guests' own writes are not. */
#include "tests/check/chain_world.h"

#include "jobs/commit_int.h"
#include "jobs/stream_int.h"

#define COMMIT "{\"job-id\":\"m\",\"device\":\"n3\",\"top-node\":\"n2\",\"base-node\":\"n0\""
#define STREAM "{\"job-id\":\"m\",\"device\":\"n3\",\"base-node\":\"n0\""

static void write_around(void)
{
    for (int i = 0; i < 12; i++) {
        assert_int_equal(io_run(SIM_OP_WRITE, (i * 150 * KiB) & ~511, 20 * KiB + 512, 1 << 24), 0);
    }
}

/* --- nothing wrong ----------------------------------------------------------------------------------------- */

static void test_commit(void **state)
{
    chain_world(CHAIN_BYTES);
    assert_true(qmp("block-commit", COMMIT ",\"speed\":20000000}"));
    write_around();
    wait_gone();
    finish_chain();
    assert_silent();
}

static void test_commit_cancelled(void **state)
{
    chain_world(CHAIN_BYTES);
    assert_true(qmp("block-commit", COMMIT ",\"speed\":524288}"));
    write_around();
    assert_true(qmp("block-job-cancel", "{\"device\":\"m\"}"));
    wait_gone();
    finish_chain();
    assert_silent();
}

static void test_active_commit(void **state)
{
    chain_world(MiB);
    assert_true(qmp("block-commit", "{\"job-id\":\"m\",\"device\":\"n3\",\"base-node\":\"n0\"}"));
    write_around();
    wait_ready();
    assert_int_equal(io_run(SIM_OP_WRITE, 64 * KiB, 64 * KiB, 1 << 24), 0);
    complete_mirror();
    assert_int_equal(io_run(SIM_OP_WRITE, 640 * KiB, 64 * KiB, 1 << 24), 0);
    finish_chain();
    assert_silent();
}

static void test_stream(void **state)
{
    chain_world(CHAIN_BYTES);
    assert_true(qmp("block-stream", STREAM ",\"speed\":20000000}"));
    write_around();
    wait_gone();
    finish_chain();
    assert_silent();
}

/* Two jobs on one chain: above and below n2, of which only the one that writes to it is free to change it. */
static void test_both(void **state)
{
    chain_world(CHAIN_BYTES);
    assert_true(qmp("block-stream", "{\"job-id\":\"c\",\"device\":\"n1\",\"speed\":4000000}"));
    assert_true(qmp("block-commit", "{\"job-id\":\"m\",\"device\":\"n3\",\"base-node\":\"n2\"}"));
    write_around();
    wait_ready();
    complete_mirror();
    finish_chain();
    assert_silent();
}

/* --- content ----------------------------------------------------------------------------------------------- */

/* A base that changes shows through: of what was committed, and of what nobody touches. */
static void test_base_changes(void **state)
{
    chain_world(CHAIN_BYTES);
    assert_true(qmp("block-commit", COMMIT ",\"speed\":524288}"));
    spoil("n0", 1792 * KiB);
    assert_true(qmp("block-job-set-speed", "{\"device\":\"m\",\"speed\":0}"));
    wait_gone();
    assert_violated("commit-view.view-changed.commit.");
    assert_said("expected stamp 0x0000005500000e00 of nobody; seen stamp 0x0000007700000000 of nobody");
}

/* What a guest has written is its own affair. */
static void test_guest_writes(void **state)
{
    chain_world(CHAIN_BYTES);
    assert_true(qmp("block-stream", STREAM ",\"speed\":524288}"));
    spoil("n0", 1792 * KiB);
    assert_int_equal(io_run(SIM_OP_WRITE, 1792 * KiB, 64 * KiB, 1 << 24), 0);
    assert_true(qmp("block-job-set-speed", "{\"device\":\"m\",\"speed\":0}"));
    wait_gone();
    finish_chain();
    assert_silent();
}

static void test_lost_copy(void **state)
{
    chain_world(CHAIN_BYTES);
    arm("lost-write", "{\"disk\":\"n0\",\"nth\":2}");
    assert_true(qmp("block-commit", COMMIT "}"));
    wait_gone();
    assert_violated("commit-view.view-changed.commit.");
}

static void test_lost_stream(void **state)
{
    chain_world(CHAIN_BYTES);
    arm("lost-write", "{\"disk\":\"n3\",\"nth\":4}");
    assert_true(qmp("block-stream", STREAM "}"));
    wait_gone();
    assert_violated("commit-view.view-changed.stream.");
}

static void test_lost_active(void **state)
{
    chain_world(CHAIN_BYTES);
    arm("lost-write", "{\"disk\":\"n0\",\"nth\":1}");
    assert_true(qmp("block-commit", "{\"job-id\":\"m\",\"device\":\"n3\",\"base-node\":\"n0\"}"));
    wait_ready();
    complete_mirror();
    assert_violated("commit-view.view-changed.commit.");
}

/* --- base -------------------------------------------------------------------------------------------------- */

static void shorten(void *opaque, const struct sim_record *record)
{
    const struct disk_req *req = record->ref;

    if (req && req->op == SIM_OP_FLUSH) {
        bdrv_find_node(host, "n0")->total_bytes = MiB;
    }
}

/* The job forgets to grow its base, or undoes it. */
/* fact: jobs edge/40 */
static void test_base_short(void **state)
{
    chain_world(MiB);
    sim_subscribe(world, EV_disk_submit, shorten, NULL);
    assert_true(qmp("block-commit", COMMIT "}"));
    wait_gone();
    assert_violated("commit-view.base-length.commit.waiting");
}

/* seed 4da8358: what lies beyond the end of the layers is base's own. */
static void test_base_tail(void **state)
{
    chain_world(3 * MiB);
    assert_true(qmp("block-commit", COMMIT ",\"speed\":524288}"));
    spoil("n0", 2560 * KiB);
    assert_true(qmp("block-job-set-speed", "{\"device\":\"m\",\"speed\":0}"));
    wait_gone();
    assert_violated("commit-view.base-tail.commit.waiting");
}

static void test_base_tail_silent(void **state)
{
    chain_world(3 * MiB);
    assert_true(qmp("block-commit", COMMIT "}"));
    wait_gone();
    finish_chain();
    assert_silent();
}

/* --- chain and headers ------------------------------------------------------------------------------------- */

static bool is_pending(const struct sim_record *record)
{
    return strcmp(sim_record_str(record, 1), "pending") == 0;
}

static void bend_header(void *opaque, const struct sim_record *record)
{
    CommitJob *s = is_pending(record) ? commit_of(job_find(host, "m")) : NULL;

    if (s) {
        sim_strfree(host->arena, s->backing_file);
        s->backing_file = sim_strdup(host->arena, "n1");
    }
}

static void test_header(void **state)
{
    chain_world(CHAIN_BYTES);
    sim_subscribe(world, EV_JOB_STATUS_CHANGE, bend_header, NULL);
    assert_true(qmp("block-commit", COMMIT ",\"backing-file\":\"n0\"}"));
    wait_gone();
    assert_violated("commit-view.header.commit.");
    assert_said("expected backing file n0 (raw) in its header; seen n1 (raw)");
}

static void bend_chain(void *opaque, const struct sim_record *record)
{
    if (is_pending(record)) {
        stream_of(job_find(host, "m"))->bottom = bdrv_find_node(host, "n2");
    }
}

static void test_chain(void **state)
{
    chain_world(CHAIN_BYTES);
    sim_subscribe(world, EV_JOB_STATUS_CHANGE, bend_chain, NULL);
    assert_true(qmp("block-stream", STREAM "}"));
    wait_gone();
    assert_violated("commit-view.chain.stream.");
    assert_said("node n3: expected n0 below it; seen n1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/commit-view/silent/commit", test_commit, world_setup, world_teardown),
        T_SETUP("/check/commit-view/silent/cancelled", test_commit_cancelled, world_setup, world_teardown),
        T_SETUP("/check/commit-view/silent/active-commit", test_active_commit, world_setup, world_teardown),
        T_SETUP("/check/commit-view/silent/stream", test_stream, world_setup, world_teardown),
        T_SETUP("/check/commit-view/silent/two-jobs", test_both, world_setup, world_teardown),
        T_SETUP("/check/commit-view/silent/guest-writes", test_guest_writes, world_setup, world_teardown),
        T_SETUP("/check/commit-view/silent/base-tail", test_base_tail_silent, world_setup, world_teardown),
        T_SETUP("/check/commit-view/base-changes", test_base_changes, world_setup, world_teardown),
        T_SETUP("/check/commit-view/lost-copy/commit", test_lost_copy, world_setup, world_teardown),
        T_SETUP("/check/commit-view/lost-copy/stream", test_lost_stream, world_setup, world_teardown),
        T_SETUP("/check/commit-view/lost-copy/active-commit", test_lost_active, world_setup, world_teardown),
        T_SETUP("/check/commit-view/base-length", test_base_short, world_setup, world_teardown),
        T_SETUP("/check/commit-view/base-tail/4da8358", test_base_tail, world_setup, world_teardown),
        T_SETUP("/check/commit-view/header", test_header, world_setup, world_teardown),
        T_SETUP("/check/commit-view/chain", test_chain, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
