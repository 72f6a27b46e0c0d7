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

/* Requests that come during a drain wait, uncounted, and go on in the order they came. */
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

/* A drain that begins right after the release waits for those let go although they have not run yet. */
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

/* The root is looked up when the request is let go: another node, or no medium (sharp edge 24). */
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

/* Who queues for himself is not parked. */
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
};

static void device_begin(void *opaque)
{
    ((struct device *)opaque)->begins++;
}

static void device_end(void *opaque)
{
    ((struct device *)opaque)->ends++;
}

static bool device_poll(void *opaque)
{
    return ((struct device *)opaque)->busy;
}

static void device_resize(void *opaque)
{
    ((struct device *)opaque)->resizes++;
}

static const BlockDevOps device_ops = {device_resize, device_begin, device_end, device_poll};

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

/* --- checks at the entry ---------------------------------------------------------------------------------- */

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

/* Without a write cache every write is to be durable by itself. */
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

/* The last reference waits for what is in flight. */
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
