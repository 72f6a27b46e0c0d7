/* Protects: a drained node has no request in flight and gets none, and every section is undone exactly. */
#include "tests/block/blktest.h"

/* --- nesting (reference/block.md 12) --------------------------------------------------------------------- */

static void begin(struct world *w, BlockDriverState *bs, bool all)
{
    if (all) {
        bdrv_drain_all_begin(w->host);
    } else {
        bdrv_drained_begin(bs);
    }
}

static void end(struct world *w, BlockDriverState *bs, bool all)
{
    if (all) {
        bdrv_drain_all_end(w->host);
    } else {
        bdrv_drained_end(bs);
    }
}

/* fact: block 12/drain-nesting, 3/counter */
WORLD_TEST(test_nesting)
{
    for (unsigned outer = 0; outer < 2; outer++) {
        for (unsigned inner = 0; inner < 2; inner++) {
            BlockDriverState *backing = new_node(w, &test_protocol, "backing");
            BlockDriverState *node = new_node(w, &test_format, "node");
            bdrv_ref(backing);
            link_child(node, backing, "backing", BDRV_CHILD_COW);
            unsigned begun = tn(node)->drain_begins, begun_backing = tn(backing)->drain_begins;

            begin(w, node, outer);
            begin(w, node, inner);
            assert_int_equal(bdrv_quiesce_counter(node), 2 + (outer || inner));
            assert_int_equal(bdrv_quiesce_counter(backing), outer + inner);
            end(w, node, inner);
            end(w, node, outer);
            assert_int_equal(bdrv_quiesce_counter(node), 0);
            assert_int_equal(bdrv_quiesce_counter(backing), 0);
            assert_int_equal(tn(node)->drain_begins - begun, 1);
            assert_int_equal(tn(backing)->drain_begins - begun_backing, outer || inner);
            assert_int_equal(tn(node)->drain_begins, tn(node)->drain_ends);
            assert_int_equal(tn(backing)->drain_begins, tn(backing)->drain_ends);
            bdrv_unref(node);
            bdrv_unref(backing);
        }
    }
}

/* fact: block 12/drain-append, 3/counter */
WORLD_TEST(test_append_on_drained)
{
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    BlockDriverState *overlay = new_node(w, &test_format, "overlay");

    bdrv_drained_begin(base);
    assert_int_equal(bdrv_append(overlay, base, NULL), 0);
    assert_int_equal(bdrv_quiesce_counter(base), 1);
    assert_int_equal(bdrv_quiesce_counter(overlay), 1);
    bdrv_drained_end(base);
    assert_int_equal(bdrv_quiesce_counter(base), 0);
    assert_int_equal(bdrv_quiesce_counter(overlay), 0);
    bdrv_unref(overlay);
    bdrv_unref(base);
}

struct counted {
    unsigned begins, ends;
};

static void counted_begin(BdrvChild *child)
{
    ((struct counted *)child->opaque)->begins++;
}

static void counted_end(BdrvChild *child)
{
    ((struct counted *)child->opaque)->ends++;
}

static const BdrvChildClass counted_class = {.drained_begin = counted_begin, .drained_end = counted_end};

/* Moving a user between live nodes stops it once; between drained nodes it never gets to run.
 * fact: block 12/drain-replace, 3/edge-release, 3/edge-quiesce, 3/edge-stays */
WORLD_TEST(test_replace)
{
    struct counted user = {0, 0};
    BlockDriverState *a = new_node(w, &test_protocol, "a");
    BlockDriverState *b = new_node(w, &test_protocol, "b");
    BdrvChild *edge =
        bdrv_root_attach_child(a, "root", &counted_class, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, &user, NULL);

    user = (struct counted){0, 0};
    assert_int_equal(bdrv_replace_node(a, b, NULL), 0);
    assert_int_equal(user.begins, 1);
    assert_int_equal(user.ends, 1);
    bdrv_drained_begin(a);
    bdrv_drained_begin(b);
    user = (struct counted){0, 0};
    assert_int_equal(bdrv_replace_node(b, a, NULL), 0);
    assert_int_equal(user.begins, 0);
    assert_int_equal(user.ends, 0);
    /* drained to live: let go after linking, once. */
    bdrv_drained_end(b);
    assert_int_equal(bdrv_replace_node(a, b, NULL), 0);
    assert_int_equal(user.begins, 0);
    assert_int_equal(user.ends, 1);
    /* live to drained: stopped once and kept. */
    assert_int_equal(bdrv_replace_node(b, a, NULL), 0);
    assert_int_equal(user.begins, 1);
    assert_int_equal(user.ends, 1);
    bdrv_drained_end(a);
    assert_int_equal(user.ends, 2);
    bdrv_root_unref_child(edge);
    bdrv_unref(a);
    bdrv_unref(b);
}

/* A new edge to a drained node starts with its parent stopped, to a live one with its parent running.
 * fact: block 1.7/quiesced */
WORLD_TEST(test_attach)
{
    struct counted user = {0, 0};
    BlockDriverState *a = new_node(w, &test_protocol, "a");

    BdrvChild *edge =
        bdrv_root_attach_child(a, "root", &counted_class, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, &user, NULL);
    assert_int_equal(user.begins, user.ends);
    bdrv_root_unref_child(edge);
    assert_int_equal(user.begins, user.ends);
    bdrv_drained_begin(a);
    edge = bdrv_root_attach_child(a, "root", &counted_class, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, &user, NULL);
    assert_int_equal(user.begins, user.ends + 1);
    bdrv_drained_end(a);
    assert_int_equal(user.begins, user.ends);
    bdrv_root_unref_child(edge);
    bdrv_unref(a);
}

/* --- waiting --------------------------------------------------------------------------------------------- */

struct later {
    struct world *w;
    BlockDriverState *bs;
    int64_t ns;
};

static void release_later(void *opaque)
{
    struct later *l = opaque;

    co_sleep_ns(l->w->sim, l->ns);
    release_requests(l->bs);
}

static void start_later(struct later *l)
{
    coroutine_start(coroutine_create(l->w->sim, l->w->host, "release", release_later, l));
}

/* fact: block 3/polls, 3/guarantee */
WORLD_TEST(test_waits)
{
    BlockDriverState *n = new_node(w, &test_protocol, "n");
    BlockBackend *blk = blk_new(w->host, 0, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, n, NULL), 0);
    struct request r = {.w = w, .blk = blk, .bytes = 512};
    struct later l = {.w = w, .bs = n, .ns = 1000};

    tn(n)->hold = true;
    start(&r);
    let_run(w, 10);
    assert_int_equal(bdrv_in_flight(n), 1);
    start_later(&l);
    int64_t from = sim_now(w->sim);
    bdrv_drained_begin(n);
    assert_true(r.done);
    assert_int_equal(sim_now(w->sim) - from, 1000);
    assert_int_equal(bdrv_in_flight(n), 0);
    bdrv_drained_end(n);
    blk_unref(blk);
    bdrv_unref(n);
}

/* Draining a child waits for the parent's requests, too, but leaves the parent's other children alone.
 * fact: block 3/begin, 3/polls */
WORLD_TEST(test_waits_for_parents)
{
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    BlockDriverState *filter = new_node(w, &test_filter, "filter");
    bdrv_ref(base);
    link_child(filter, base, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY);
    BlockBackend *blk = blk_new(w->host, 0, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, filter, NULL), 0);
    struct request r = {.w = w, .blk = blk, .bytes = 512};
    struct later l = {.w = w, .bs = filter, .ns = 1000};

    tn(filter)->hold = true;
    start(&r);
    let_run(w, 10);
    assert_int_equal(bdrv_in_flight(base), 0);
    start_later(&l);
    bdrv_drained_begin(base);
    assert_true(r.done);
    assert_int_equal(bdrv_quiesce_counter(filter), 1);
    bdrv_drained_end(base);
    blk_unref(blk);
    bdrv_unref(filter);
    bdrv_unref(base);
}

/* Only parents stop: what else uses the child goes on.
 * fact: block 3/only-parents, edge/23 */
WORLD_TEST(test_child_stays_live)
{
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    BlockDriverState *filter = new_node(w, &test_filter, "filter");
    bdrv_ref(base);
    link_child(filter, base, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY);
    BlockBackend *above = blk_new(w->host, 0, BLK_PERM_ALL);
    BlockBackend *beside = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_ALL);

    assert_int_equal(blk_insert_bs(above, filter, NULL), 0);
    assert_int_equal(blk_insert_bs(beside, base, NULL), 0);
    struct request stopped = {.w = w, .blk = above, .bytes = 512};
    struct request live = {.w = w, .blk = beside, .bytes = 512, .write = true};
    bdrv_drained_begin(filter);
    assert_int_equal(bdrv_quiesce_counter(base), 0);
    start(&stopped);
    assert_int_equal(run(&live), 0);
    assert_false(stopped.done);
    assert_int_equal(tn(base)->writes, 1);
    bdrv_drained_end(filter);
    assert_int_equal(finish(&stopped), 0);
    blk_unref(above);
    blk_unref(beside);
    bdrv_unref(filter);
    bdrv_unref(base);
}

static char order[256];

static void order_begin(BdrvChild *child)
{
    strcat(order, "parent ");
}

static void order_end(BdrvChild *child)
{
    strcat(order, "PARENT ");
}

static void order_driver_begin(BlockDriverState *bs)
{
    strcat(order, "driver ");
}

static void order_driver_end(BlockDriverState *bs)
{
    strcat(order, "DRIVER ");
}

/* The driver is told after its parents have stopped, and before they go on.
 * fact: block 3/begin, 3/end */
WORLD_TEST(test_order)
{
    static const BdrvChildClass klass = {.drained_begin = order_begin, .drained_end = order_end};
    static BlockDriver drv;
    drv = test_protocol;
    drv.bdrv_drain_begin = order_driver_begin;
    drv.bdrv_drain_end = order_driver_end;
    BlockDriverState *n = new_node(w, &drv, "n");
    BdrvChild *edge = bdrv_root_attach_child(n, "root", &klass, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, NULL, NULL);

    order[0] = '\0';
    bdrv_drained_begin(n);
    bdrv_drained_begin(n);
    bdrv_drained_end(n);
    bdrv_drained_end(n);
    assert_string_equal(order, "parent driver DRIVER PARENT ");
    bdrv_root_unref_child(edge);
    bdrv_unref(n);
}

struct drainer {
    struct world *w;
    BlockDriverState *bs;
    bool all;
    bool done;
    unsigned in_flight_after;
};

static void drainer_entry(void *opaque)
{
    struct drainer *d = opaque;

    begin(d->w, d->bs, d->all);
    d->in_flight_after = bdrv_in_flight(d->bs);
    end(d->w, d->bs, d->all);
    d->done = true;
    host_kick(d->w->host);
}

static bool drainer_done(void *opaque)
{
    return ((struct drainer *)opaque)->done;
}

static void from_coroutine(struct world *w, bool all)
{
    BlockDriverState *n = new_node(w, &test_protocol, "n");
    BlockBackend *blk = blk_new(w->host, 0, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, n, NULL), 0);
    struct request r = {.w = w, .blk = blk, .bytes = 512};
    struct later l = {.w = w, .bs = n, .ns = 1000};
    struct drainer d = {.w = w, .bs = n, .all = all, .in_flight_after = 9};

    tn(n)->hold = true;
    start(&r);
    let_run(w, 10);
    start_later(&l);
    coroutine_start(coroutine_create(w->sim, w->host, "drainer", drainer_entry, &d));
    host_poll(w->host, drainer_done, &d);
    assert_true(r.done);
    assert_int_equal(d.in_flight_after, 0);
    assert_int_equal(bdrv_quiesce_counter(n), 0);
    blk_unref(blk);
    bdrv_unref(n);
}

/* fact: block 3/coroutine */
WORLD_TEST(test_from_coroutine)
{
    from_coroutine(w, false);
}

/* fact: block 3/coroutine */
WORLD_TEST(test_all_from_coroutine)
{
    from_coroutine(w, true);
}

/* --- drain-all ------------------------------------------------------------------------------------------- */

/* fact: block 3/all-born, edge/28 */
WORLD_TEST(test_born_and_dead_inside)
{
    BlockDriverState *old = new_node(w, &test_protocol, "old");

    bdrv_drain_all_begin(w->host);
    bdrv_drain_all_begin(w->host);
    BlockDriverState *born = new_node(w, &test_protocol, "born");
    assert_int_equal(bdrv_quiesce_counter(born), 2);
    assert_int_equal(tn(born)->drain_begins, 1);
    bdrv_unref(old);
    bdrv_drain_all_end(w->host);
    assert_int_equal(bdrv_quiesce_counter(born), 1);
    bdrv_drain_all_end(w->host);
    assert_int_equal(bdrv_quiesce_counter(born), 0);
    assert_int_equal(tn(born)->drain_ends, 1);
    bdrv_unref(born);
}

/* fact: block 3/all-born, edge/28 */
WORLD_TEST(test_node_opened_inside)
{
    make_disk(w, "d", MiB);
    bdrv_drain_all_begin(w->host);
    BlockDriverState *r = add(w, "{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'d'}}");
    assert_int_equal(bdrv_quiesce_counter(r), 2); /* itself and through its file */
    assert_int_equal(bdrv_quiesce_counter(bdrv_primary_bs(r)), 1);
    bdrv_drain_all_end(w->host);
    assert_int_equal(bdrv_quiesce_counter(r), 0);
    assert_int_equal(bdrv_quiesce_counter(bdrv_primary_bs(r)), 0);
    del(w, "r");
}

/* One wait for all, however many are busy; nothing is flushed on the way.
 * fact: block 3/all, 3/all-no-flush, 3/guarantee */
WORLD_TEST(test_all_idle)
{
    BlockDriverState *n[3];
    BlockBackend *blk[3];
    struct request r[3];
    struct later l[3];

    for (int i = 0; i < 3; i++) {
        n[i] = new_node(w, &test_protocol, (const char *[]){"a", "b", "c"}[i]);
        blk[i] = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_ALL);
        assert_int_equal(blk_insert_bs(blk[i], n[i], NULL), 0);
        r[i] = (struct request){.w = w, .blk = blk[i], .bytes = 512, .write = true};
        l[i] = (struct later){.w = w, .bs = n[i], .ns = 1000 * (3 - i)};
        tn(n[i])->hold = true;
        start(&r[i]);
    }
    let_run(w, 10);
    for (int i = 0; i < 3; i++) {
        start_later(&l[i]);
    }
    int64_t from = sim_now(w->sim);
    bdrv_drain_all_begin(w->host);
    assert_int_equal(sim_now(w->sim) - from, 3000);
    for (int i = 0; i < 3; i++) {
        assert_true(r[i].done);
        assert_int_equal(bdrv_in_flight(n[i]), 0);
        assert_int_equal(n[i]->write_gen, 1);
        assert_int_equal(n[i]->flushed_gen, 0);
    }
    bdrv_drain_all_end(w->host);
    for (int i = 0; i < 3; i++) {
        blk_unref(blk[i]);
        bdrv_unref(n[i]);
    }
}

/* --- edits meanwhile ------------------------------------------------------------------------------------- */

struct editor {
    BlockDriverState *old, *filter;
    bool done;
};

static void insert_filter(void *opaque)
{
    struct editor *e = opaque;

    assert_int_equal(bdrv_append(e->filter, e->old, NULL), 0);
    e->done = true;
}

/* A callback that runs while a drain waits may put a filter above the node; all comes loose again at the end.
 * fact: block 3/polls-edit, edge/27 */
WORLD_TEST(test_graph_changes_during_poll)
{
    BlockDriverState *n = new_node(w, &test_protocol, "n");
    BlockDriverState *filter = bdrv_new_filter(w->host, &test_filter, "f", BDRV_O_RDWR, NULL);
    BlockBackend *blk = blk_new(w->host, 0, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, n, NULL), 0);
    struct request r = {.w = w, .blk = blk, .bytes = 512};
    struct later l = {.w = w, .bs = n, .ns = 1000};
    struct editor e = {.old = n, .filter = filter};

    tn(n)->hold = true;
    start(&r);
    let_run(w, 10);
    host_defer(w->host, insert_filter, &e);
    start_later(&l);
    bdrv_drained_begin(n);
    assert_true(e.done);
    assert_int_equal(bdrv_quiesce_counter(n), 1);
    assert_int_equal(bdrv_quiesce_counter(filter), 1);
    assert_ptr_equal(blk_bs(blk), filter);
    bdrv_drained_end(n);
    assert_int_equal(bdrv_quiesce_counter(filter), 0);
    assert_int_equal(bdrv_drop_filter(filter, NULL), 0);
    bdrv_unref(filter);
    blk_unref(blk);
    bdrv_unref(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/drain/nesting", test_nesting),
        T("/drain/append-on-drained", test_append_on_drained),
        T("/drain/replace", test_replace),
        T("/drain/attach", test_attach),
        T("/drain/waits", test_waits),
        T("/drain/waits/for-parents", test_waits_for_parents),
        T("/drain/child-stays-live", test_child_stays_live),
        T("/drain/order", test_order),
        T("/drain/all/idle", test_all_idle),
        T("/drain/co", test_from_coroutine),
        T("/drain/co/all", test_all_from_coroutine),
        T("/drain/all/born-and-dead-inside", test_born_and_dead_inside),
        T("/drain/all/opened-inside", test_node_opened_inside),
        T("/drain/graph-changes-during-poll", test_graph_changes_during_poll),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
