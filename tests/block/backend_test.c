/* Protects: requests through a backend are counted, checked, parked while drained and find the right node after. */
#include "tests/block/blktest.h"

struct fixture {
    BlockDriverState *n;
    BlockBackend *blk;
};

static struct fixture make(struct world *w, uint64_t perm)
{
    struct fixture f = {.n = new_node(w, &test_protocol, "n"), .blk = blk_new(w->host, perm, BLK_PERM_ALL)};

    assert_int_equal(blk_insert_bs(f.blk, f.n, NULL), 0);
    return f;
}

static void unmake(struct fixture *f)
{
    blk_unref(f->blk);
    bdrv_unref(f->n);
}

/* --- parking ---------------------------------------------------------------------------------------------- */

/* Requests that come during a drain wait, uncounted, and go on in the order they came.
 * fact: block 2.1/parked, 3/backend, 3/release, edge/24 */
WORLD_TEST(test_parked_fifo)
{
    struct fixture f = make(w, 0);
    struct request r[4];
    unsigned order = 0;

    bdrv_drained_begin(f.n);
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        r[i] = (struct request){.w = w, .blk = f.blk, .bytes = 512, .order = &order};
        start(&r[i]);
    }
    let_run(w, 1000);
    assert_int_equal(blk_parked(f.blk), 4);
    assert_int_equal(blk_in_flight(f.blk), 0);
    assert_int_equal(tn(f.n)->reads, 0);
    bdrv_drained_begin(f.n); /* parked ones do not keep another section waiting */
    bdrv_drained_end(f.n);
    let_run(w, 1000);
    assert_int_equal(order, 0);
    bdrv_drained_end(f.n);
    assert_int_equal(blk_parked(f.blk), 0);
    assert_int_equal(blk_in_flight(f.blk), 4);
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        assert_int_equal(finish(&r[i]), 0);
        assert_int_equal(r[i].position, i + 1);
    }
    assert_int_equal(blk_in_flight(f.blk), 0);
    unmake(&f);
}

/* A drain that begins right after the release waits for those let go although they have not run yet.
 * fact: block 3/release */
WORLD_TEST(test_drain_after_release)
{
    struct fixture f = make(w, 0);
    struct request r = {.w = w, .blk = f.blk, .bytes = 512};

    bdrv_drained_begin(f.n);
    start(&r);
    let_run(w, 1000);
    bdrv_drained_end(f.n);
    bdrv_drained_begin(f.n);
    assert_true(r.done);
    assert_int_equal(blk_in_flight(f.blk), 0);
    bdrv_drained_end(f.n);
    unmake(&f);
}

/* The root is looked up when the request is let go: another node, or no medium (sharp edge 24).
 * fact: block 3/re-resolve, edge/24, 1.6/follows */
WORLD_TEST(test_parked_finds_new_root)
{
    struct fixture f = make(w, 0);
    BlockDriverState *other = new_node(w, &test_protocol, "other");
    struct request a = {.w = w, .blk = f.blk, .bytes = 512};

    bdrv_drained_begin(f.n);
    start(&a);
    let_run(w, 1000);
    assert_int_equal(bdrv_replace_node(f.n, other, NULL), 0);
    assert_int_equal(finish(&a), 0);
    assert_int_equal(tn(f.n)->reads, 0);
    assert_int_equal(tn(other)->reads, 1);
    bdrv_drained_end(f.n);

    bdrv_drained_begin(other);
    struct request b = {.w = w, .blk = f.blk, .bytes = 512};
    start(&b);
    let_run(w, 1000);
    blk_remove_bs(f.blk);
    assert_int_equal(finish(&b), -ENOMEDIUM);
    bdrv_drained_end(other);
    bdrv_unref(other);
    unmake(&f);
}

/* Who queues for himself is not parked.
 * fact: block 3/disable-queuing */
WORLD_TEST(test_queuing_disabled)
{
    struct fixture f = make(w, 0);
    struct request r = {.w = w, .blk = f.blk, .bytes = 512};

    blk_set_disable_request_queuing(f.blk, true);
    bdrv_drained_begin(f.n);
    assert_int_equal(run(&r), 0);
    bdrv_drained_end(f.n);
    unmake(&f);
}

/* --- the device ------------------------------------------------------------------------------------------- */

struct device {
    unsigned begins, ends, resizes;
    bool busy;
    bool tray_open;
    BlockBackend *blk; /* NULL: nobody asks */
    unsigned parked_at_end;
};

static void device_begin(void *opaque)
{
    ((struct device *)opaque)->begins++;
}

static void device_end(void *opaque)
{
    struct device *device = opaque;

    device->ends++;
    device->parked_at_end = device->blk ? blk_parked(device->blk) : 0;
}

static bool device_poll(void *opaque)
{
    return ((struct device *)opaque)->busy;
}

static void device_resize(void *opaque)
{
    ((struct device *)opaque)->resizes++;
}

static bool device_tray(void *opaque)
{
    return ((struct device *)opaque)->tray_open;
}

static const BlockDevOps device_ops = {device_resize, device_begin, device_end, device_poll, device_tray};

struct quieten {
    struct world *w;
    struct device *device;
};

static void quieten_later(void *opaque)
{
    struct quieten *q = opaque;

    co_sleep_ns(q->w->sim, 1000);
    q->device->busy = false;
    host_kick(q->w->host);
}

/* fact: block 3/backend, 3/backend-busy, 1.8/no-resize */
WORLD_TEST(test_device)
{
    struct fixture f = make(w, 0);
    struct device device = {.busy = true};
    struct quieten q = {.w = w, .device = &device};

    blk_set_dev(f.blk, &device_ops, &device, "dev0");
    assert_string_equal(blk_dev_id(f.blk), "dev0");
    coroutine_start(coroutine_create(w->sim, w->host, "quieten", quieten_later, &q));
    int64_t from = sim_now(w->sim);
    bdrv_drained_begin(f.n);
    assert_int_equal(sim_now(w->sim) - from, 1000); /* a busy device is waited for */
    bdrv_drained_begin(f.n);
    assert_int_equal(device.begins, 1);
    bdrv_drained_end(f.n);
    bdrv_drained_end(f.n);
    assert_int_equal(device.ends, 1);
    bdrv_set_total_bytes(f.n, 2 * MiB);
    bdrv_set_total_bytes(f.n, 2 * MiB);
    assert_int_equal(device.resizes, 1);
    /* No callback on replacement although the length differs (1.8). */
    BlockDriverState *other = new_node(w, &test_protocol, "other");
    assert_int_equal(bdrv_replace_node(f.n, other, NULL), 0);
    assert_int_equal(device.resizes, 1);
    assert_int_equal(blk_getlength(f.blk), MiB);
    bdrv_unref(other);
    unmake(&f);
}

/* The device hears of the end first: it may have something older to send than what is parked.
 * fact: block 3/release, 3/end */
WORLD_TEST(test_device_before_parked)
{
    struct fixture f = make(w, 0);
    struct device device = {.blk = f.blk};
    struct request r = {.w = w, .blk = f.blk, .bytes = 512};

    blk_set_dev(f.blk, &device_ops, &device, "dev0");
    bdrv_drained_begin(f.n);
    start(&r);
    let_run(w, 1000);
    int64_t from = sim_now(w->sim);
    bdrv_drained_end(f.n);
    assert_int_equal(device.parked_at_end, 1);
    assert_int_equal(blk_parked(f.blk), 0);
    assert_false(r.done); /* the end waits for nobody */
    assert_int_equal(sim_now(w->sim), from);
    assert_int_equal(finish(&r), 0);
    blk_set_dev(f.blk, NULL, NULL, NULL);
    unmake(&f);
}

/* Who is not parked must stop himself: else his requests are in flight in the section, and the next one waits.
 * fact: block 3/disable-queuing, edge/25 */
WORLD_TEST(test_unparked_needs_own_quiesce)
{
    struct fixture f = make(w, 0);
    struct request r = {.w = w, .blk = f.blk, .bytes = 512};

    blk_set_disable_request_queuing(f.blk, true);
    bdrv_drained_begin(f.n);
    tn(f.n)->hold = true;
    start(&r);
    let_run(w, 1000);
    assert_int_equal(bdrv_in_flight(f.n), 1);
    release_requests(f.n);
    assert_int_equal(finish(&r), 0);
    bdrv_drained_end(f.n);
    unmake(&f);
}

/* Requests of a backend without a medium fail, but they run, and a drain waits for them.
 * fact: block 3/empty-backend, 3/re-resolve */
WORLD_TEST(test_drain_of_empty)
{
    struct fixture f = make(w, 0);
    struct request r = {.w = w, .blk = f.blk, .bytes = 512};

    bdrv_drained_begin(f.n);
    start(&r);
    let_run(w, 1000);
    blk_remove_bs(f.blk);
    assert_null(blk_bs(f.blk));
    assert_int_equal(blk_in_flight(f.blk), 1);
    assert_false(r.done);
    blk_drain(f.blk);
    assert_true(r.done);
    assert_int_equal(r.ret, -ENOMEDIUM);
    bdrv_drained_end(f.n);
    unmake(&f);
}

/* --- checks at the entry ---------------------------------------------------------------------------------- */

/* fact: block 2.1/range, 2.1/no-medium */
WORLD_TEST(test_ranges)
{
    static const struct {
        int64_t offset, bytes;
        int ret;
    } cases[] = {
        {0, 512, 0},          {MiB - 512, 512, 0}, {MiB, 0, 0},     {MiB, 512, -EIO},       {MiB - 512, 1024, -EIO},
        {MiB + 512, 0, -EIO}, {-512, 512, -EIO},   {0, -512, -EIO}, {INT64_MAX, 512, -EIO},
    };
    struct fixture f = make(w, 0);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct request r = {.w = w, .blk = f.blk, .offset = cases[i].offset, .bytes = cases[i].bytes};
        assert_int_equal(run(&r), cases[i].ret);
    }
    blk_remove_bs(f.blk);
    struct request r = {.w = w, .blk = f.blk, .bytes = 512};
    assert_int_equal(run(&r), -ENOMEDIUM);
    assert_int_equal(blk_getlength(f.blk), -ENOMEDIUM);
    unmake(&f);
}

/* fact: block 2.1/range */
WORLD_TEST(test_write_beyond_eof)
{
    struct fixture f = make(w, BLK_PERM_WRITE | BLK_PERM_RESIZE);
    struct request r = {.w = w, .blk = f.blk, .offset = MiB, .bytes = 512, .write = true};

    assert_int_equal(run(&r), -EIO);
    blk_set_allow_write_beyond_eof(f.blk, true);
    r.done = false;
    assert_int_equal(run(&r), 0);
    assert_int_equal(blk_getlength(f.blk), MiB + 512);
    unmake(&f);
}

/* fact: block 2.1/no-medium */
WORLD_TEST(test_tray)
{
    struct fixture f = make(w, BLK_PERM_WRITE);
    struct device device = {.tray_open = true};
    struct request r = {.w = w, .blk = f.blk, .offset = -1, .bytes = 512};

    blk_set_dev(f.blk, &device_ops, &device, "dev0");
    assert_int_equal(run(&r), -ENOMEDIUM); /* before the range is looked at */
    device.tray_open = false;
    r.done = false;
    assert_int_equal(run(&r), -EIO);
    r.done = false;
    r.offset = 0;
    assert_int_equal(run(&r), 0);
    blk_set_dev(f.blk, NULL, NULL, NULL);
    unmake(&f);
}

struct truncation {
    BlockBackend *blk;
    int ret;
    bool done;
};

static void truncation_entry(void *opaque)
{
    struct truncation *t = opaque;

    t->ret = blk_co_truncate(t->blk, 2 * MiB, true, PREALLOC_OFF, 0, NULL);
    t->done = true;
}

/* Whoever resizes has drained the node: he would wait for himself.
 * fact: block 2.1/truncate */
WORLD_TEST(test_truncate_in_drain)
{
    make_disk(w, "d", MiB);
    BlockDriverState *bs = add(w, "{'driver':'disk','node-name':'r','disk':'d'}");
    BlockBackend *blk = blk_new(w->host, BLK_PERM_RESIZE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, bs, NULL), 0);
    struct truncation t = {.blk = blk};

    bdrv_drained_begin(bs);
    coroutine_start(coroutine_create(w->sim, w->host, "truncate", truncation_entry, &t));
    let_run(w, 10000000);
    assert_true(t.done);
    assert_int_equal(t.ret, 0);
    bdrv_drained_end(bs);
    assert_int_equal(blk_getlength(blk), 2 * MiB);
    blk_unref(blk);
    del(w, "r");
}

/* Without a write cache every write is to be durable by itself.
 * fact: block 2.1/write-through */
WORLD_TEST(test_write_cache)
{
    struct fixture f = make(w, BLK_PERM_WRITE);
    struct request r = {.w = w, .blk = f.blk, .bytes = 512, .write = true};

    assert_int_equal(run(&r), 0);
    assert_int_equal(tn(f.n)->fua_writes, 0);
    blk_set_enable_write_cache(f.blk, false);
    r.done = false;
    assert_int_equal(run(&r), 0);
    assert_int_equal(tn(f.n)->fua_writes, 1);
    unmake(&f);
}

/* --- names, drain, end ------------------------------------------------------------------------------------ */

/* fact: block 1.2/form, 1.2/one-namespace */
WORLD_TEST(test_names)
{
    BlockBackend *a = blk_new(w->host, 0, BLK_PERM_ALL);
    BlockBackend *b = blk_new(w->host, 0, BLK_PERM_ALL);
    Error *err = NULL;

    assert_string_equal(blk_name(a), "");
    assert_false(blk_set_name(a, "0a", &err));
    expect_error(&err, "Invalid device name '0a'");
    assert_true(blk_set_name(a, "a", NULL));
    assert_false(blk_set_name(b, "a", &err));
    expect_error(&err, "Device with id 'a' already exists");
    assert_ptr_equal(blk_by_name(w->host, "a"), a);
    assert_ptr_equal(blk_next(w->host, NULL), b);
    assert_ptr_equal(blk_next(w->host, b), a);
    blk_unref(a);
    blk_unref(b);
}

static void unref_inside(void *opaque)
{
    struct fixture *f = opaque;

    release_requests(f->n);
}

/* The last reference waits for what is in flight.
 * fact: block 2.1/in-flight */
WORLD_TEST(test_unref_waits)
{
    struct fixture f = make(w, 0);
    struct request r = {.w = w, .blk = f.blk, .bytes = 512};

    tn(f.n)->hold = true;
    start(&r);
    let_run(w, 10);
    assert_int_equal(blk_in_flight(f.blk), 1);
    host_defer(w->host, unref_inside, &f);
    blk_unref(f.blk);
    assert_true(r.done);
    assert_int_equal(r.ret, 0);
    bdrv_unref(f.n);
}

/* --- error policies --------------------------------------------------------------------------------------- */

/* fact: block 7.5/policies, 1.6/defaults */
WORLD_TEST(test_policies)
{
    static const struct {
        enum block_on_error policy;
        enum block_error_action other, nospace;
    } table[] = {
        {BLOCKDEV_ON_ERROR_REPORT, BLOCK_ERROR_ACTION_REPORT, BLOCK_ERROR_ACTION_REPORT},
        {BLOCKDEV_ON_ERROR_IGNORE, BLOCK_ERROR_ACTION_IGNORE, BLOCK_ERROR_ACTION_IGNORE},
        {BLOCKDEV_ON_ERROR_ENOSPC, BLOCK_ERROR_ACTION_REPORT, BLOCK_ERROR_ACTION_STOP},
        {BLOCKDEV_ON_ERROR_STOP, BLOCK_ERROR_ACTION_STOP, BLOCK_ERROR_ACTION_STOP},
        {BLOCKDEV_ON_ERROR_AUTO, BLOCK_ERROR_ACTION_REPORT, BLOCK_ERROR_ACTION_STOP},
    };
    BlockBackend *blk = blk_new(w->host, 0, BLK_PERM_ALL);

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        enum block_on_error parsed;
        assert_int_equal(block_error_decide(table[i].policy, -EIO), table[i].other);
        assert_int_equal(block_error_decide(table[i].policy, ENOSPC), table[i].nospace);
        assert_int_equal(block_error_decide(table[i].policy, -ENOSPC), table[i].nospace);
        assert_true(block_on_error_parse(block_on_error_name(table[i].policy), &parsed));
        assert_int_equal(parsed, table[i].policy);
    }
    /* Defaults of 1.6: reads report, writes stop for want of space. */
    assert_int_equal(blk_get_error_action(blk, true, -ENOSPC), BLOCK_ERROR_ACTION_REPORT);
    assert_int_equal(blk_get_error_action(blk, false, -ENOSPC), BLOCK_ERROR_ACTION_STOP);
    assert_int_equal(blk_get_error_action(blk, false, -EIO), BLOCK_ERROR_ACTION_REPORT);
    blk_unref(blk);
}

/* fact: block 7.5/io-status */
WORLD_TEST(test_io_status)
{
    BlockBackend *blk = blk_new(w->host, 0, BLK_PERM_ALL);

    blk_io_status_set_err(blk, EIO); /* nobody asked for it */
    assert_int_equal(blk_io_status(blk), BLOCK_IO_STATUS_OK);
    blk_io_status_enable(blk);
    blk_io_status_set_err(blk, -ENOSPC);
    blk_io_status_set_err(blk, EIO); /* the first one wins */
    assert_string_equal(block_io_status_name(blk_io_status(blk)), "nospace");
    blk_io_status_reset(blk);
    blk_io_status_set_err(blk, EIO);
    assert_string_equal(block_io_status_name(blk_io_status(blk)), "failed");
    blk_unref(blk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/backend/parked/fifo", test_parked_fifo),
        T("/backend/parked/drain-after-release", test_drain_after_release),
        T("/backend/parked/finds-new-root", test_parked_finds_new_root),
        T("/backend/parked/queuing-disabled", test_queuing_disabled),
        T("/backend/device", test_device),
        T("/backend/device/before-parked", test_device_before_parked),
        T("/backend/parked/own-quiesce", test_unparked_needs_own_quiesce),
        T("/backend/drain/empty", test_drain_of_empty),
        T("/backend/entry/tray", test_tray),
        T("/backend/entry/truncate-in-drain", test_truncate_in_drain),
        T("/backend/entry/ranges", test_ranges),
        T("/backend/entry/beyond-eof", test_write_beyond_eof),
        T("/backend/entry/write-cache", test_write_cache),
        T("/backend/names", test_names),
        T("/backend/unref-waits", test_unref_waits),
        T("/backend/errors/policies", test_policies),
        T("/backend/errors/io-status", test_io_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
