/* Protects throttle groups: who waits for whom, what drains and reconfigurations let go, which requests count. */
#include "tests/block/blktest.h"

#include "block/throttle_group.h"

#define TENTH_NS (100 * NS_PER_MS)
#define OWN_PERMS (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE)

struct timed {
    struct request r;
    int64_t done_ns;
};

/* A backend on a node of its own that answers at once; one reference each. */
static BlockBackend *backend(struct world *w, const char *node, const char *group)
{
    BlockDriverState *bs = new_node(w, &test_protocol, node);
    BlockBackend *blk = blk_new(w->host, OWN_PERMS, BLK_PERM_ALL);

    assert_int_equal(blk_insert_bs(blk, bs, NULL), 0);
    bdrv_unref(bs);
    if (group) {
        blk_io_limits_enable(blk, group);
    }
    return blk;
}

static void set_limit(struct world *w, const char *group, enum throttle_bucket bucket, uint64_t avg)
{
    ThrottleConfig cfg;

    throttle_config_init(&cfg);
    cfg.limits[bucket].avg = avg;
    throttle_group_config(throttle_group_find(w->host, group), &cfg);
}

static void timed_entry(void *opaque)
{
    struct timed *t = opaque;

    request_entry(&t->r);
    t->done_ns = sim_now(t->r.w->sim);
}

static void go(struct world *w, struct timed *t, BlockBackend *blk, bool write)
{
    *t = (struct timed){.r = {.w = w, .blk = blk, .bytes = 512, .write = write}};
    coroutine_start(coroutine_create(w->sim, w->host, "test request", timed_entry, t));
}

/* The group is at its limit from now on: ten a second. */
static void fill(struct world *w, BlockBackend *blk)
{
    struct timed t[2];

    set_limit(w, throttle_group_name(blk_throttle_group(blk)), THROTTLE_OPS_TOTAL, 10);
    for (unsigned i = 0; i < 2; i++) {
        go(w, &t[i], blk, true);
        assert_int_equal(finish(&t[i].r), 0);
        assert_int_equal(t[i].done_ns, sim_now(w->sim));
    }
}

/* fact: block 4.2/fifo */
WORLD_TEST(test_fifo)
{
    BlockBackend *blk = backend(w, "n", "tg");
    struct timed t[4];

    fill(w, blk);
    for (unsigned i = 0; i < 4; i++) {
        go(w, &t[i], blk, true);
    }
    for (unsigned i = 0; i < 4; i++) {
        finish(&t[i].r);
        assert_int_equal(t[i].done_ns, (i + 1) * TENTH_NS);
    }
    blk_unref(blk);
}

/* Reads and writes have queues and timers of their own, and fill the same buckets. */
/* fact: block 4.2/fifo */
WORLD_TEST(test_directions)
{
    BlockBackend *blk = backend(w, "n", "tg");
    struct timed t[4];

    fill(w, blk);
    for (unsigned i = 0; i < 4; i++) {
        go(w, &t[i], blk, i % 2 == 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        finish(&t[i].r);
    }
    assert_int_equal(t[0].done_ns, TENTH_NS);
    assert_int_equal(t[1].done_ns, TENTH_NS); /* both heads went unchecked */
    assert_int_equal(t[2].done_ns, 2 * TENTH_NS);
    assert_int_equal(t[3].done_ns, 3 * TENTH_NS);
    blk_unref(blk);
}

/* A member whose own level is low waits behind another's request: there is one timer. */
/* fact: block 4.2/round-robin */
WORLD_TEST(test_round_robin)
{
    BlockBackend *blk[3] = {backend(w, "a", "tg"), backend(w, "b", "tg"), backend(w, "c", "tg")};
    struct timed t[3][3];

    fill(w, blk[0]);
    for (unsigned m = 0; m < 3; m++) {
        for (unsigned i = 0; i < 3; i++) {
            go(w, &t[m][i], blk[m], true);
        }
    }
    for (unsigned m = 0; m < 3; m++) {
        for (unsigned i = 0; i < 3; i++) {
            finish(&t[m][i].r);
            assert_int_equal(t[m][i].done_ns, (3 * i + m + 1) * TENTH_NS);
        }
    }
    for (unsigned m = 0; m < 3; m++) {
        blk_unref(blk[m]);
    }
}

/* What need not wait goes from one member's queue before it goes from the next one's. */
/* fact: block 4.2/round-robin */
WORLD_TEST(test_own_queue_first)
{
    BlockBackend *blk[2] = {backend(w, "a", "tg"), backend(w, "b", "tg")};
    struct timed t[4];
    unsigned order = 0;

    fill(w, blk[0]);
    for (unsigned i = 0; i < 4; i++) {
        go(w, &t[i], blk[i % 2], true);
        t[i].r.order = &order;
    }
    let_run(w, 1);
    set_limit(w, "tg", THROTTLE_OPS_TOTAL, 1000000);
    set_limit(w, "tg", THROTTLE_OPS_TOTAL, 0);
    for (unsigned i = 0; i < 4; i++) {
        finish(&t[i].r);
    }
    assert_int_equal(t[0].r.position, 1);
    assert_int_equal(t[2].r.position, 2);
    assert_int_equal(t[1].r.position, 3);
    assert_int_equal(t[3].r.position, 4);
    blk_unref(blk[0]);
    blk_unref(blk[1]);
}

/* fact: block 4.2/drained, edge/26 */
WORLD_TEST(test_drain)
{
    BlockBackend *blk = backend(w, "a", "tg"), *other = backend(w, "b", "tg");
    struct timed t[5], late;

    fill(w, blk);
    for (unsigned i = 0; i < 5; i++) {
        go(w, &t[i], i < 3 ? blk : other, true);
    }
    let_run(w, NS_PER_MS);
    bdrv_drained_begin(blk_bs(blk));
    assert_int_equal(sim_now(w->sim), NS_PER_MS);
    for (unsigned i = 0; i < 5; i++) {
        assert_true(t[i].r.done == (i < 3));
    }
    bdrv_drained_end(blk_bs(blk));
    /* the levels know: three more than there should be */
    finish(&t[3].r);
    assert_int_equal(t[3].done_ns, 4 * TENTH_NS);
    go(w, &late, blk, true);
    finish(&late.r);
    assert_int_equal(late.done_ns, 6 * TENTH_NS);
    assert_int_equal(t[4].done_ns, 5 * TENTH_NS);
    blk_unref(blk);
    blk_unref(other);
}

/* The turn was not the drained member's: the other one keeps it. */
/* fact: block 4.2/drained */
WORLD_TEST(test_drain_of_another)
{
    BlockBackend *blk = backend(w, "a", "tg"), *other = backend(w, "b", "tg");
    struct timed t[2];

    fill(w, blk);
    go(w, &t[0], blk, true);
    go(w, &t[1], other, true);
    let_run(w, NS_PER_MS);
    blk_drain(other);
    assert_true(t[1].r.done);
    finish(&t[0].r);
    assert_int_equal(t[0].done_ns, TENTH_NS);
    blk_unref(blk);
    blk_unref(other);
}

/* fact: block 4.2/config */
WORLD_TEST(test_config)
{
    BlockBackend *blk = backend(w, "a", "tg"), *other = backend(w, "b", "tg");
    struct timed t[4];

    set_limit(w, "tg", THROTTLE_OPS_TOTAL, 1);
    go(w, &t[0], blk, true);
    finish(&t[0].r);
    for (unsigned i = 1; i < 4; i++) {
        go(w, &t[i], i < 3 ? blk : other, true);
    }
    let_run(w, NS_PER_MS);
    assert_false(t[1].r.done);
    /* empty levels: two at once, of one member, and then by the new rate */
    set_limit(w, "tg", THROTTLE_OPS_WRITE, 10);
    for (unsigned i = 1; i < 4; i++) {
        finish(&t[i].r);
    }
    assert_int_equal(t[1].done_ns, NS_PER_MS);
    assert_int_equal(t[2].done_ns, NS_PER_MS);
    assert_int_equal(t[3].done_ns, NS_PER_MS + TENTH_NS);
    blk_unref(blk);
    blk_unref(other);
}

/* Leaving lets go what waits, and the rest of the group goes on. */
WORLD_TEST(test_leave)
{
    BlockBackend *blk = backend(w, "a", "tg"), *other = backend(w, "b", "tg");
    struct timed t[4];

    fill(w, blk);
    for (unsigned i = 0; i < 4; i++) {
        go(w, &t[i], i < 2 ? blk : other, true);
    }
    let_run(w, NS_PER_MS);
    blk_io_limits_disable(blk);
    assert_null(blk_throttle_group(blk));
    assert_int_equal(throttle_group_users(blk_throttle_group(other)), 1);
    assert_int_equal(finish(&t[0].r), 0);
    assert_int_equal(finish(&t[1].r), 0);
    assert_int_equal(sim_now(w->sim), NS_PER_MS);
    finish(&t[3].r);
    assert_int_equal(t[2].done_ns, 3 * TENTH_NS);
    assert_int_equal(t[3].done_ns, 4 * TENTH_NS);
    /* a new group, whose levels are empty */
    blk_io_limits_update_group(other, "new");
    assert_null(throttle_group_find(w->host, "tg"));
    assert_non_null(throttle_group_find(w->host, "new"));
    blk_io_limits_update_group(other, "new");
    blk_unref(blk);
    blk_unref(other);
    assert_null(throttle_group_next(w->host, NULL));
}

/* A backend that goes while its requests wait lets them go, too. */
WORLD_TEST(test_delete)
{
    BlockBackend *blk = backend(w, "a", "tg");
    struct timed t;

    fill(w, blk);
    go(w, &t, blk, true);
    let_run(w, NS_PER_MS);
    blk_unref(blk);
    assert_true(t.r.done);
    assert_int_equal(t.r.ret, 0);
    assert_int_equal(sim_now(w->sim), NS_PER_MS);
    assert_null(throttle_group_find(w->host, "tg"));
}

/* --- which requests of a backend ------------------------------------------------------------------------- */

static void other_entry(void *opaque)
{
    struct timed *t = opaque;
    BlockBackend *blk = t->r.blk;

    t->r.ret = t->r.offset == 1   ? blk_co_pdiscard(blk, 0, 512)
               : t->r.offset == 2 ? blk_co_flush(blk)
               : t->r.offset == 3 ? blk_co_truncate(blk, MiB, true, PREALLOC_OFF, 0, NULL)
                                  : blk_co_pwrite_zeroes(blk, 0, 512, 0);
    t->r.done = true;
    t->done_ns = sim_now(t->r.w->sim);
    host_kick(t->r.w->host);
}

/* fact: block 2.1/throttled, 2.1/truncate */
WORLD_TEST(test_kinds)
{
    BlockBackend *blk = backend(w, "a", "tg");
    struct timed t[4];

    fill(w, blk);
    for (unsigned kind = 1; kind <= 4; kind++) {
        struct timed *at = &t[kind - 1];
        *at = (struct timed){.r = {.w = w, .blk = blk, .offset = kind}};
        coroutine_start(coroutine_create(w->sim, w->host, "test request", other_entry, at));
        finish(&at->r);
        assert_int_equal(at->done_ns, kind == 4 ? TENTH_NS : 0);
    }
    blk_unref(blk);
}

/* Parked before throttled, and refused before either counts. */
/* fact: block 2.1/range, 2.1/parked */
WORLD_TEST(test_order)
{
    BlockBackend *blk = backend(w, "a", "tg");
    struct timed t, bad;

    fill(w, blk);
    go(w, &bad, blk, true);
    bad.r.offset = 2 * MiB;
    assert_int_equal(finish(&bad.r), -EIO);
    assert_int_equal(sim_now(w->sim), 0);
    bdrv_drained_begin(blk_bs(blk));
    go(w, &t, blk, true);
    let_run(w, NS_PER_S);
    assert_int_equal(blk_parked(blk), 1);
    bdrv_drained_end(blk_bs(blk));
    finish(&t.r);
    assert_int_equal(t.done_ns, NS_PER_S);
    blk_unref(blk);
}

/* The limits are the device's: another root, the same level. */
WORLD_TEST(test_root_changes)
{
    BlockBackend *blk = backend(w, "a", "tg");
    BlockDriverState *other = new_node(w, &test_protocol, "b");
    struct timed t;

    fill(w, blk);
    blk_remove_bs(blk);
    assert_int_equal(blk_insert_bs(blk, other, NULL), 0);
    bdrv_unref(other);
    go(w, &t, blk, true);
    finish(&t.r);
    assert_int_equal(t.done_ns, TENTH_NS);
    blk_unref(blk);
}

/* Groups come into being by name. */
/* fact: block 4.2/backend-group */
WORLD_TEST(test_by_name)
{
    BlockBackend *blk = backend(w, "a", "tg"), *other = backend(w, "b", "tg"), *third = backend(w, "c", "x");

    assert_ptr_equal(blk_throttle_group(blk), blk_throttle_group(other));
    assert_ptr_not_equal(blk_throttle_group(blk), blk_throttle_group(third));
    assert_int_equal(throttle_group_users(blk_throttle_group(blk)), 2);
    assert_false(throttle_enabled(throttle_group_get_config(blk_throttle_group(blk))));
    blk_unref(blk);
    blk_unref(other);
    assert_null(throttle_group_find(w->host, "tg"));
    blk_unref(third);
}

/* --- the filter ------------------------------------------------------------------------------------------ */

static void object(struct world *w, const char *json)
{
    struct qvalue *props = opts(json);

    assert_true(throttle_object_add(w->host, "tg", props, NULL));
    qvalue_free(props);
}

static BlockBackend *over_filter(struct world *w)
{
    BlockBackend *blk = blk_new(w->host, OWN_PERMS, BLK_PERM_ALL);

    make_disk(w, "m", MiB);
    object(w, "{'limits':{'iops-write':10}}");
    add(w, "{'driver':'throttle','node-name':'t','throttle-group':'tg','discard':'unmap',"
           "'file':{'driver':'disk','disk':'m','node-name':'f'}}");
    assert_int_equal(blk_insert_bs(blk, bdrv_find_node(w->host, "t"), NULL), 0);
    return blk;
}

static void drop_filter(struct world *w, BlockBackend *blk)
{
    blk_unref(blk);
    del(w, "t");
    assert_true(throttle_object_del(w->host, "tg", NULL));
}

/* fact: block 4.2/filter-discard */
WORLD_TEST(test_filter_kinds)
{
    BlockBackend *blk = over_filter(w);
    struct timed t[6];

    go(w, &t[0], blk, true);
    finish(&t[0].r);
    go(w, &t[1], blk, true);
    finish(&t[1].r);
    int64_t start_ns = t[0].done_ns;
    go(w, &t[2], blk, false);
    finish(&t[2].r);
    assert_true(t[2].done_ns < TENTH_NS); /* reads are not limited here */
    for (unsigned kind = 1; kind <= 2; kind++) {
        struct timed *at = &t[2 + kind];
        *at = (struct timed){.r = {.w = w, .blk = blk, .offset = 3 - kind}};
        coroutine_start(coroutine_create(w->sim, w->host, "test request", other_entry, at));
    }
    finish(&t[3].r); /* flush */
    assert_true(t[3].done_ns < TENTH_NS);
    finish(&t[4].r); /* discard */
    assert_in_range(t[4].done_ns, TENTH_NS, TENTH_NS + start_ns);
    drop_filter(w, blk);
}

/* A drain of the node below quiesces the filter as its parent. */
/* fact: block 4.2/drained */
WORLD_TEST(test_filter_drain)
{
    BlockBackend *blk = over_filter(w);
    struct timed t[6];

    for (unsigned i = 0; i < 6; i++) {
        go(w, &t[i], blk, true);
    }
    let_run(w, NS_PER_MS);
    assert_false(t[5].r.done);
    bdrv_drained_begin(bdrv_find_node(w->host, "f"));
    assert_true(t[5].r.done);
    assert_true(sim_now(w->sim) < 10 * NS_PER_MS);
    bdrv_drained_end(bdrv_find_node(w->host, "f"));
    drop_filter(w, blk);
}

/* fact: block 4.2/filter-group, 4.2/in-use */
WORLD_TEST(test_filter_group)
{
    Error *err = NULL;

    assert_null(try_add(w,
                        "{'driver':'throttle','node-name':'t','throttle-group':'tg',"
                        "'file':{'driver':'null-co','size':1048576}}",
                        &err));
    expect_error(&err, "Throttle group 'tg' does not exist");
    object(w, "{}");
    assert_null(try_add(w, "{'driver':'throttle','node-name':'t','throttle-group':'tg','file':'nothing'}", &err));
    expect_error(&err, "nothing");
    assert_null(try_add(w, "{'driver':'throttle','node-name':'t','file':'nothing'}", &err));
    expect_error(&err, "Parameter 'throttle-group' is missing");
    assert_int_equal(throttle_group_users(throttle_group_find(w->host, "tg")), 1);
    add(w,
        "{'driver':'throttle','node-name':'t','throttle-group':'tg','file':{'driver':'null-co','size':1048576}}");
    assert_int_equal(bdrv_getlength_cached(bdrv_find_node(w->host, "t")), MiB);
    assert_false(throttle_object_del(w->host, "tg", &err));
    expect_error(&err, "object 'tg' is in use, can not be deleted");
    del(w, "t");
    assert_true(throttle_object_del(w->host, "tg", NULL));
}

/* What waits for the old group goes, what comes later has the new one's limits. */
/* fact: block 4.2/filter-reopen */
WORLD_TEST(test_filter_reopen)
{
    BlockBackend *blk = over_filter(w);
    struct qvalue *props = opts("{'x-iops-total':1}");
    struct qvalue *list = opts("[{'driver':'throttle','node-name':'t','throttle-group':'slow','discard':'unmap',"
                               "'file':'f'}]");
    struct timed t[6];

    assert_true(throttle_object_add(w->host, "slow", props, NULL));
    for (unsigned i = 0; i < 4; i++) {
        go(w, &t[i], blk, true);
    }
    let_run(w, NS_PER_MS);
    assert_false(t[3].r.done);
    assert_true(qmp_blockdev_reopen_nodes(w->host, list, NULL));
    assert_true(t[3].r.done);
    assert_int_equal(throttle_group_users(throttle_group_find(w->host, "tg")), 1);
    int64_t start_ns = sim_now(w->sim);
    for (unsigned i = 4; i < 6; i++) {
        go(w, &t[i], blk, true);
    }
    finish(&t[5].r);
    assert_in_range(t[5].done_ns - start_ns, 9 * TENTH_NS, 11 * TENTH_NS);
    qvalue_free(list);
    qvalue_free(props);
    drop_filter(w, blk);
    assert_true(throttle_object_del(w->host, "slow", NULL));
}

/* A filter that is made within drain-all missed the beginning. */
WORLD_TEST(test_filter_born_drained)
{
    object(w, "{'limits':{'iops-total':1}}");
    bdrv_drain_all_begin(w->host);
    add(w,
        "{'driver':'throttle','node-name':'t','throttle-group':'tg','file':{'driver':'null-co','size':1048576}}");
    bdrv_drain_all_end(w->host);
    bdrv_drained_begin(bdrv_find_node(w->host, "t"));
    bdrv_drained_end(bdrv_find_node(w->host, "t"));
    assert_int_equal(bdrv_quiesce_counter(bdrv_find_node(w->host, "t")), 0);
    del(w, "t");
    /* the object goes with the host */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/throttle/group/fifo", test_fifo),
        T("/throttle/group/directions", test_directions),
        T("/throttle/group/round-robin", test_round_robin),
        T("/throttle/group/own-queue-first", test_own_queue_first),
        T("/throttle/group/drain", test_drain),
        T("/throttle/group/drain-of-another", test_drain_of_another),
        T("/throttle/group/config-while-waiting", test_config),
        T("/throttle/group/leave-while-waiting", test_leave),
        T("/throttle/group/delete-while-waiting", test_delete),
        T("/throttle/group/by-name", test_by_name),
        T("/throttle/backend/kinds", test_kinds),
        T("/throttle/backend/order", test_order),
        T("/throttle/backend/root-changes", test_root_changes),
        T("/throttle/filter/kinds", test_filter_kinds),
        T("/throttle/filter/drain", test_filter_drain),
        T("/throttle/filter/group", test_filter_group),
        T("/throttle/filter/reopen", test_filter_reopen),
        T("/throttle/filter/born-drained", test_filter_born_drained),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
