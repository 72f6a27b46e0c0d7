/* Protects snapshot-access (jobs.md 5.6): the past piece by piece from where it is, readers and writers of one
 * area, what is out of reach, discards, status. */
#include "tests/block/cbw_lib.h"

/* fact: jobs 5.6/view */
static void test_view(void **state)
{
    make_past("");
    assert_int_equal(do_req(&top, W, CL, 512, 0x11, 0), 0);
    s->log_count = t->log_count = 0;
    assert_int_equal(old_content(0, 3 * CL), 0xaa);
    assert_call(s, 0, R, 0, CL);
    assert_call(t, 0, R, CL, CL);
    assert_call(s, 1, R, 2 * CL, CL);
    assert_int_equal(past.bs->total_bytes, MiB);
    free_all();
}

/* A writer saves, then waits for those who read what it is to overwrite; who comes later reads what was saved.
 * fact: jobs 5.6/frozen-read, edge/47; block 2.14/frozen-read */
static void test_frozen_read(void **state)
{
    make_past("");
    uint8_t seen[512], later[512];
    struct req read = {.p = &past, .op = R, .offset = CL, .bytes = 512, .seen = seen};
    struct req beside = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x22};
    struct req write = {.p = &top, .op = W, .offset = CL, .bytes = 512, .fill = 0x11};
    probe_hold(s, R, CL);
    spawn(&read);
    settle();
    s->hold_offset = -1; /* the copy's own read passes */
    spawn(&beside);
    spawn(&write);
    settle();
    assert_true(beside.done);
    assert_false(write.done);
    assert_content(t, CL, CL, 0xaa); /* saved already */
    assert_content(s, CL, 512, 0xaa);
    struct req after = {.p = &past, .op = R, .offset = CL, .bytes = 512, .seen = later};
    spawn(&after);
    settle();
    assert_true(after.done && !write.done);
    probe_release(s);
    assert_true(read.done && write.done);
    assert_int_equal(seen[0], 0xaa);
    assert_int_equal(later[0], 0xaa);
    assert_content(s, CL, 512, 0x11);
    free_all();
}

/* While a cluster is being saved it is still in the source, and there only. fact: jobs 5.6/view */
static void test_read_during_save(void **state)
{
    make_past("");
    struct req write = {.p = &top, .op = W, .offset = CL, .bytes = 512, .fill = 0x11};
    probe_hold(t, W, -2);
    spawn(&write);
    settle();
    unsigned reads = probe_calls(t, R);
    assert_int_equal(old_content(0, 3 * CL), 0xaa);
    assert_int_equal(probe_calls(t, R), reads);
    probe_release(t);
    assert_true(write.done);
    free_all();
}

/* fact: jobs 5.6/writes; block 2.14/snapshot-access */
static void test_writes(void **state)
{
    make_past("");
    assert_int_equal(do_req(&past, W, 0, 512, 0x11, 0), -ENOTSUP);
    assert_int_equal(do_req(&past, Z, 0, CL, 0, 0), -ENOTSUP);
    assert_int_equal(probe_calls(s, W) + probe_calls(t, W) + probe_calls(t, Z), 0);
    free_all();
}

/* Inner clusters only; the last one ends where the disk does. fact: jobs 5.6/discard,
 * 5.6/denied; block 2.14/snapshot-access */
static void test_discard(void **state)
{
    disk_bytes = 6 * CL + 512;
    make_past("");
    assert_int_equal(do_req(&top, W, CL, 2 * CL, 0x11, 0), 0);
    assert_int_equal(do_req(&past, D, CL - 512, CL + 1024, 0, 0), 0);
    assert_int_equal(probe_calls(t, D), 1);
    assert_call(t, t->log_count - 1, D, CL, CL);
    assert_int_equal(old_content(0, CL), 0xaa);
    assert_int_equal(old_content(CL, CL), -EACCES);
    assert_int_equal(old_content(0, 2 * CL), -EACCES); /* any part of it */
    assert_int_equal(old_content(2 * CL, CL), 0xaa);
    assert_int_equal(do_req(&past, D, 4 * CL, 2 * CL + 512, 0, 0), 0);
    unsigned writes = probe_calls(t, W);
    assert_int_equal(do_req(&top, W, 4 * CL, 2 * CL + 512, 0x22, 0), 0);
    assert_int_equal(probe_calls(t, W), writes); /* nobody needs it */
    assert_int_equal(old_content(6 * CL, 512), -EACCES);
    assert_int_equal(do_req(&past, D, 3 * CL + 512, CL, 0, 0), 0); /* no whole cluster */
    assert_int_equal(old_content(3 * CL, CL), 0xaa);
    free_all();
}

/* A copy that ends after the discard must not bring the cluster back. fact: jobs 5.6/discard */
static void test_discard_during_save(void **state)
{
    make_past("");
    struct req write = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    struct req discard = {.p = &past, .op = D, .offset = 0, .bytes = CL};
    probe_hold(t, W, -2);
    spawn(&write);
    settle();
    spawn(&discard);
    settle();
    assert_false(discard.done);
    probe_release(t);
    assert_true(write.done && discard.done);
    assert_int_equal(old_content(0, CL), -EACCES);
    free_all();
}

static void add_bitmap(void *opaque)
{
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(s->bs, 4096, "b", NULL);
    bdrv_set_dirty_bitmap(bitmap, CL + 8192, 4096);
    bdrv_set_dirty_bitmap(bitmap, 4 * CL - 1, 2);
}

static void drop_bitmap(void *opaque)
{
    bdrv_release_named_dirty_bitmaps(s->bs);
}

/* Rounded out to clusters. fact: jobs 5.5/node-bitmap, 5.6/denied; block 2.14/access */
static void test_bitmap(void **state)
{
    make_disks();
    probe_main(add_bitmap, NULL);
    probe_main(open_filter, TEXT("{'driver':'copy-before-write','node-name':'f','file':'s','target':'t',"
                                 "'bitmap':{'node':'s','name':'b'}}"));
    probe_main(open_past, NULL);
    probe_main(drop_bitmap, NULL); /* it was a statement of that moment */
    assert_int_equal(block_copy_remaining(copy), 3 * CL);
    assert_int_equal(old_content(CL, CL), 0xaa);
    assert_int_equal(old_content(3 * CL, 2 * CL), 0xaa);
    assert_int_equal(old_content(0, 512), -EACCES);
    assert_int_equal(do_req(&top, W, 0, MiB, 0x11, 0), 0);
    assert_int_equal(probe_calls(t, W), 2);
    assert_int_equal(old_content(CL, CL), 0xaa);
    assert_int_equal(old_content(2 * CL, CL), -EACCES);
    free_all();
}

/* What a job narrows later is out of reach as well: nobody saves it. fact: jobs 5.6/denied */
static void test_narrowed_later(void **state)
{
    make_engine((struct block_copy_args){0});
    probe_main(open_past, NULL);
    block_copy_set_skip_unallocated(copy, true);
    absent = 0x2;
    assert_int_equal(old_content(CL, CL), 0xaa);
    assert_int_equal(do_req(&top, W, 0, 2 * CL, 0x11, 0), 0);
    assert_int_equal(old_content(0, CL), 0xaa);
    assert_int_equal(old_content(CL, CL), -EACCES); /* neither saved nor there any more */
    block_copy_set_skip_unallocated(copy, false);
    assert_int_equal(run_background(4), 0); /* copied by the job: in the target */
    s->log_count = 0;
    assert_int_equal(old_content(2 * CL, CL), 0xaa);
    assert_int_equal(probe_calls(s, R), 0);
    probe_main(drop_above, &past);
    free_engine();
}

static void all_dirty(void *opaque)
{
    block_copy_set_all_dirty(copy);
}

/* After a checkpoint what was copied before counts no more, not even while it is being copied anew. */
static void test_checkpoint(void **state)
{
    make_past("");
    assert_int_equal(do_req(&top, W, 0, 2 * CL, 0x11, 0), 0);
    probe_main(all_dirty, NULL);
    assert_int_equal(old_content(0, 2 * CL), 0x11);
    assert_int_equal(do_req(&top, W, 0, 512, 0x22, 0), 0);
    probe_hold(t, W, CL);
    struct req write = {.p = &top, .op = W, .offset = CL, .bytes = 512, .fill = 0x33};
    spawn(&write);
    settle();
    assert_int_equal(old_content(0, 2 * CL), 0x11);
    probe_release(t);
    assert_true(write.done);
    assert_int_equal(old_content(0, 2 * CL), 0x11);
    free_all();
}

/* A discarding job waits for readers of what it has copied. */
static void test_discarding_job(void **state)
{
    make_engine((struct block_copy_args){.discard_source = true});
    probe_main(open_past, NULL);
    uint8_t seen[512];
    struct req read = {.p = &past, .op = R, .offset = 0, .bytes = 512, .seen = seen};
    probe_hold(s, R, 0);
    spawn(&read);
    settle();
    s->hold_offset = -1;
    struct background b = {.max_chunk = CL};
    start_background(&b);
    settle();
    assert_false(b.ended);
    assert_int_equal(probe_calls(s, D), 0);
    probe_release(s);
    assert_true(read.done);
    assert_int_equal(end_background(&b), 0);
    assert_int_equal(probe_calls(s, D), 16);
    probe_main(drop_above, &past);
    free_engine();
}

/* --- status ------------------------------------------------------------------------------------------------------
 */

struct status_query {
    int64_t offset, bytes, pnum;
    bool allocation;
    int ret;
};

static void query(void *opaque)
{
    struct status_query *q = opaque;
    q->ret = q->allocation ? bdrv_co_is_allocated(past.bs, q->offset, q->bytes, &q->pnum)
                           : bdrv_co_block_status_above(past.bs, NULL, q->offset, q->bytes, &q->pnum, NULL, NULL);
}

static int status_at(int64_t offset, bool allocation, int64_t pnum)
{
    struct status_query q = {.offset = offset, .bytes = MiB - offset, .allocation = allocation};
    coroutine_start(coroutine_create(world, host, "status", query, &q));
    settle();
    if (q.ret >= 0) {
        assert_int_equal(q.pnum, pnum);
    }
    return allocation || q.ret < 0 ? q.ret : q.ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO);
}

/* Of the past as well: what the guest writes over a hole is no data there. fact: jobs 5.6/view */
static void test_status(void **state)
{
    make_past("");
    holes = 0x6; /* two clusters from the second on */
    assert_int_equal(status_at(0, false, CL), BDRV_BLOCK_DATA);
    assert_int_equal(status_at(CL, false, 2 * CL), BDRV_BLOCK_ZERO);
    assert_int_equal(do_req(&top, W, 2 * CL, 512, 0x11, 0), 0);
    holes = 0x2;
    assert_int_equal(status_at(CL, false, CL), BDRV_BLOCK_ZERO);
    assert_int_equal(status_at(2 * CL, false, CL), BDRV_BLOCK_DATA); /* the target cannot tell */
    assert_int_equal(status_at(3 * CL, false, MiB - 3 * CL), BDRV_BLOCK_DATA);
    absent = 0x8;
    s->bs->status_data_end = s->bs->status_data_start; /* what was remembered of it */
    assert_int_equal(status_at(3 * CL, true, CL), 0);
    assert_int_equal(status_at(2 * CL, true, CL), 1); /* saved */
    assert_int_equal(do_req(&past, D, 0, CL, 0, 0), 0);
    assert_int_equal(status_at(0, false, 0), -EACCES);
    free_all();
}

/* --- without a filter
 * ---------------------------------------------------------------------------------------------- */

static void open_over_source(void *opaque)
{
    open_above(&past, "{'driver':'snapshot-access','node-name':'p','file':'s','discard':'unmap'}", RW);
}

static void test_keeps_nothing(void **state)
{
    make_disks();
    probe_main(open_over_source, NULL);
    assert_int_equal(old_content(0, 512), -ENOTSUP);
    assert_int_equal(status_at(0, false, 0), -ENOTSUP);
    assert_int_equal(probe_calls(s, R), 0);
    free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_CBW("/snapshot-access/view", test_view),
        T_CBW("/snapshot-access/frozen-read", test_frozen_read),
        T_CBW("/snapshot-access/read-during-save", test_read_during_save),
        T_CBW("/snapshot-access/writes", test_writes),
        T_CBW("/snapshot-access/discard/inner-clusters", test_discard),
        T_CBW("/snapshot-access/discard/during-save", test_discard_during_save),
        T_CBW("/snapshot-access/bitmap", test_bitmap),
        T_CBW("/snapshot-access/narrowed-later", test_narrowed_later),
        T_CBW("/snapshot-access/checkpoint", test_checkpoint),
        T_CBW("/snapshot-access/discarding-job", test_discarding_job),
        T_CBW("/snapshot-access/status", test_status),
        T_CBW("/snapshot-access/keeps-nothing", test_keeps_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
