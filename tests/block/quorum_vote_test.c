/* Protects the votes of quorum (block.md 7.3): who wins, who is called bad, who is put right, and how often clients
 * hear of it. */
#include "tests/block/quorum_probe.h"

/* --- reads -------------------------------------------------------------------------------------------------- */

/* fact: block 7.3/read-failures */
static void test_read_failures(void **state)
{
    make_quorum(3, "'vote-threshold':2");
    probe_fail(child[0], R, -1, -EIO, 1);
    assert_int_equal(read_byte(0, 512, 0), 0x11);
    assert_int_equal(failures, 0);
    probe_fail(child[0], R, -1, -ENOMEDIUM, 1);
    probe_fail(child[1], R, -1, -EIO, 1);
    probe_fail(child[2], R, -1, -ENOMEDIUM, 1);
    read_byte(512, 512, -ENOMEDIUM);
    assert_int_equal(failures, 1);
    assert_int_equal(failure[0].sector, 1);
    assert_int_equal(failure[0].sectors, 1);
    free_quorum();
}

/* Threshold successes that all agree are enough; nobody is called bad for having failed beside them but by its
 * error. fact: block 7.3/read-failures */
static void test_read_agree(void **state)
{
    make_quorum(5, "'vote-threshold':3");
    probe_fail(child[0], R, -1, -EIO, 1);
    probe_fail(child[4], R, -1, -EIO, 1);
    assert_int_equal(read_byte(0, 512, 0), 0x11);
    assert_int_equal(bads, 2);
    assert_int_equal(failures, 0);
    free_quorum();
}

/* fact: block 7.3/vote */
static void test_vote(void **state)
{
    make_quorum(3, "'vote-threshold':2");
    corrupt(child[0], 1024, 1, 0xee);
    assert_int_equal(read_byte(1024, 512, 0), 0x11);
    assert_int_equal(bads, 1);
    assert_bad(0, "read", "a", NULL, 2, 1);
    assert_content(child[0], 1024, 1, 0xee); /* nobody asked to rewrite it */
    corrupt(child[1], 1024, 1, 0xdd);
    read_byte(1024, 512, -EIO);
    assert_int_equal(failures, 1);
    free_quorum();
}

/* More votes than any other version, but fewer than the threshold. fact: block 7.3/vote */
static void test_vote_below_threshold(void **state)
{
    make_quorum(5, "'vote-threshold':4");
    corrupt(child[3], 0, 1, 0xee);
    assert_int_equal(read_byte(0, 512, 0), 0x11);
    corrupt(child[4], 0, 1, 0xdd);
    read_byte(0, 512, -EIO);
    free_quorum();
}

/* What is compared is content, not how it came about: bytes equal to a stamp are the stamp. fact: block 7.3/vote */
static void test_vote_content(void **state)
{
    make_quorum(2, "'vote-threshold':2");
    uint8_t bytes[512];
    sim_tag_expand(42, bytes);
    memcpy(child[0]->data, bytes, 512);
    memcpy(child[1]->data, bytes, 512);
    assert_int_equal(read_byte(0, 512, 0), bytes[0]);
    assert_int_equal(bads, 0);
    free_quorum();
}

/* fact: block 7.3/rewrite */
static void test_rewrite(void **state)
{
    make_quorum(3, "'vote-threshold':2,'rewrite-corrupted':true");
    corrupt(child[2], 4096, 600, 0xee);
    assert_int_equal(read_byte(4096, 512, 0), 0x11);
    assert_bad(0, "read", "c", NULL, 8, 1);
    assert_content(child[2], 4096, 512, 0x11);
    assert_content(child[2], 4608, 88, 0xee); /* only what was read */
    assert_int_equal(probe_calls(child[0], W) + probe_calls(child[1], W), 0);
    corrupt(child[0], 0, 1, 0xee);
    probe_fail(child[0], W, -1, -EIO, 1);
    assert_int_equal(read_byte(0, 512, 0), 0x11); /* failing to is not the reader's concern */
    free_quorum();
}

/* fact: block 7.3/fifo */
static void test_fifo(void **state)
{
    make_quorum(3, "'vote-threshold':3,'read-pattern':'fifo'");
    corrupt(child[0], 0, 512, 0xee);
    assert_int_equal(read_byte(0, 512, 0), 0xee); /* nobody votes */
    assert_int_equal(probe_calls(child[1], R) + probe_calls(child[2], R), 0);
    probe_fail(child[0], R, -1, -EIO, 1);
    assert_int_equal(read_byte(0, 512, 0), 0x11);
    assert_int_equal(probe_calls(child[1], R), 1);
    assert_int_equal(probe_calls(child[2], R), 0);
    assert_bad(0, "read", "a", "Input/output error", 0, 1);
    for (unsigned i = 0; i < 3; i++) {
        probe_fail(child[i], R, -1, i < 2 ? -EIO : -ENOSPC, 1);
    }
    read_byte(0, 512, -ENOSPC); /* the last one's */
    free_quorum();
}

static int64_t mismatch_at;

static void on_mismatch(void *opaque, const struct sim_record *r)
{
    mismatch_at = (int64_t)r->field[4];
}

/* In blkverify mode a difference is no vote but a find. */
static void test_blkverify_mismatch(void **state)
{
    make_quorum(2, "'vote-threshold':2,'blkverify':true");
    sim_subscribe(world, EV_blkverify_mismatch, on_mismatch, NULL);
    mismatch_at = -1;
    assert_int_equal(read_byte(0, 4096, 0), 0x11);
    assert_int_equal(mismatch_at, -1);
    corrupt(child[1], 777, 1, 0x12);
    read_byte(512, 4096, -EIO);
    assert_int_equal(mismatch_at, 777);
    assert_int_equal(failures, 0);
    free_quorum();
}

/* --- events ------------------------------------------------------------------------------------------------- */

/* fact: block 7.3/report-bad */
static void test_report_bad(void **state)
{
    make_quorum(3, "'vote-threshold':1");
    probe_fail(child[0], W, -1, -ENOSPC, 1);
    assert_int_equal(do_req(&top, W, 1000, 2000, 0x22, 0), 0);
    assert_bad(0, "write", "a", "No space left on device", 1, 5);
    probe_fail(child[1], R, -1, -EIO, 1);
    read_byte(8192, 1024, 0);
    assert_bad(1, "read", "b", "Input/output error", 16, 2);
    corrupt(child[2], 65536, 1, 0);
    read_byte(65536, 4096, 0);
    assert_bad(2, "read", "c", NULL, 128, 8);
    free_quorum();
}

/* The first at once, then the last of each second, for each node. fact: block 7.3/event-limit */
static void test_limit_bad(void **state)
{
    make_quorum(2, "'vote-threshold':1");
    for (int64_t i = 0; i < 5; i++) {
        probe_fail(child[0], W, -1, -EIO, 1);
        struct req r = {.p = &top, .op = W, .offset = i * 512, .bytes = 512, .fill = 1};
        spawn(&r);
        sim_run_idle(world, NULL, NULL, sim_now(world) + NS_PER_MS);
        assert_true(r.done);
    }
    assert_int_equal(bads, 1);
    assert_int_equal(bad[0].sector, 0);
    probe_fail(child[1], W, -1, -EIO, 1);
    struct req other = {.p = &top, .op = W, .offset = 8192, .bytes = 512, .fill = 1};
    spawn(&other);
    sim_run_idle(world, NULL, NULL, sim_now(world) + NS_PER_MS);
    assert_bad(1, "write", "b", "Input/output error", 16, 1); /* another node, a limit of its own */
    settle();                                                 /* an event that waits is work */
    assert_int_equal(bads, 3);
    assert_bad(2, "write", "a", "Input/output error", 4, 1);
    assert_int_equal(bad[2].time_ns - bad[0].time_ns, NS_PER_S);
    pass_time(2 * NS_PER_S);
    probe_fail(child[0], W, -1, -EIO, 1);
    assert_int_equal(do_req(&top, W, 0, 512, 1, 0), 0);
    assert_int_equal(bads, 4);
    free_quorum();
}

/* fact: block 7.3/event-limit */
static void test_limit_failure(void **state)
{
    make_quorum(1, "'vote-threshold':1");
    for (int64_t i = 0; i < 3; i++) {
        probe_fail(child[0], W, -1, -EIO, 1);
        struct req r = {.p = &top, .op = W, .offset = i * 512, .bytes = 512, .fill = 1};
        spawn(&r);
        sim_run_idle(world, NULL, NULL, sim_now(world) + NS_PER_MS);
    }
    assert_int_equal(failures, 1);
    free_quorum(); /* before the second is over: nothing is left behind, and nothing is lost */
    probe_main(drop_graph, NULL);
    assert_int_equal(failures, 2);
    assert_int_equal(failure[1].sector, 2);
    assert_int_equal(bads, 2);
    probe_main(make_graph, NULL);
}

/* --- the content as checkers see it ------------------------------------------------------------------------- */

/* Media keep their pages: the world is not empty at the end. */
static int teardown_media(void **state)
{
    probe_main(drop_graph, NULL);
    sim_delete(world);
    return 0;
}

/* Sector by sector what a vote would give, though no single child is right everywhere. */
static void test_peek(void **state)
{
    struct disk_config config;
    disk_config_default(&config);
    config.size_bytes = MiB;
    for (unsigned i = 0; i < 3; i++) {
        SIM_ASSERT(disk_new(world, (const char *[]){"d0", "d1", "d2"}[i], &config, NULL) != NULL);
    }
    child_count = 0;
    probe_main(add_top, TEXT("{'driver':'quorum','node-name':'q','vote-threshold':2,'children':["
                             "{'driver':'disk','disk':'d0'},{'driver':'disk','disk':'d1'},"
                             "{'driver':'disk','disk':'d2'}]}"));
    assert_int_equal(do_req(&top, W, 0, 4096, 0x22, 0), 0);
    struct payload p, junk;
    payload_init(world, &p);
    payload_init(world, &junk);
    assert_int_equal(bdrv_peek(top.bs, 0, 8192, &p), 0);
    assert_int_equal(p.size_bytes, 8192);
    int64_t pnum;
    assert_true(bdrv_peek_status(top.bs, 0, MiB, &pnum));
    assert_false(bdrv_peek_status(top.bs, pnum, MiB - pnum, &pnum));
    payload_append_fill(&junk, 0xee, 512);
    disk_poke(disk_find(world, "d0"), 0, &junk);
    disk_poke(disk_find(world, "d1"), 512, &junk);
    struct payload q;
    payload_init(world, &q);
    assert_int_equal(bdrv_peek(top.bs, 0, 8192, &q), 0);
    assert_true(payload_equal(&p, 0, &q, 0, 8192));
    payload_clear(&q);
    payload_clear(&junk);
    payload_append_fill(&junk, 0xdd, 512);
    disk_poke(disk_find(world, "d2"), 0, &junk);
    assert_int_equal(bdrv_peek(top.bs, 0, 8192, &q), -EIO);
    assert_int_equal(q.size_bytes, 0);
    payload_clear(&p);
    payload_clear(&q);
    payload_clear(&junk);
    free_quorum();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_QUORUM("/quorum/blkverify/mismatch", test_blkverify_mismatch),
        T_QUORUM("/quorum/read/failures", test_read_failures),
        T_QUORUM("/quorum/read/agree", test_read_agree),
        T_QUORUM("/quorum/vote/winner", test_vote),
        T_QUORUM("/quorum/vote/below-threshold", test_vote_below_threshold),
        T_QUORUM("/quorum/vote/content", test_vote_content),
        T_QUORUM("/quorum/vote/rewrite", test_rewrite),
        T_QUORUM("/quorum/fifo", test_fifo),
        T_QUORUM("/quorum/event/report-bad", test_report_bad),
        T_QUORUM("/quorum/event/limit/report-bad", test_limit_bad),
        T_QUORUM("/quorum/event/limit/failure", test_limit_failure),
        T_SETUP("/quorum/peek", test_peek, setup, teardown_media),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
