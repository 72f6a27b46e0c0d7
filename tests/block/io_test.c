/* Protects reads and writes of a node: checks, padding, read-modify-write, who waits for whom, growth. */
#include "tests/block/probe.h"

#define BLOCK 4096
#define W SIM_OP_WRITE
#define R SIM_OP_READ
#define Z SIM_OP_WRITE_ZEROES
#define D SIM_OP_DISCARD

static struct probe *aligned_probe(void)
{
    return probe_new(
        (struct probe_spec){.name = "p", .length = MiB, .fill = 0xee, .limits = {.request_alignment = BLOCK}});
}

static struct req write_req(struct probe *p, int64_t offset, int64_t bytes, uint8_t fill)
{
    return (struct req){.p = p, .op = W, .offset = offset, .bytes = bytes, .fill = fill};
}

/* --- checks ---------------------------------------------------------------------------------------------- */

/* fact: block 2.2/limits, 2.2/no-fallback, 2.2/zero-length, 2.8/compressed, edge/12 */
static void test_range_checks(void **state)
{
    struct probe *p = aligned_probe();
    assert_int_equal(do_req(p, R, -1, 512, 0, 0), -EIO);
    assert_int_equal(do_req(p, R, 0, -1, 0, 0), -EIO);
    assert_int_equal(do_req(p, R, BDRV_MAX_LENGTH, 1, 0, 0), -EIO);
    assert_int_equal(do_req(p, R, 0, BDRV_MAX_REQUEST + 1, 0, 0), -EIO);
    assert_int_equal(do_req(p, D, BDRV_MAX_LENGTH - 1, 2, 0, 0), -EIO);
    assert_int_equal(do_req(p, Z, 0, 511, 0, BDRV_REQ_NO_FALLBACK), -ENOTSUP);
    assert_int_equal(do_req(p, W, 5, 0, 0, 0), 0);
    assert_int_equal(do_req(p, W, 0, 512, 0, BDRV_REQ_WRITE_COMPRESSED), -ENOTSUP);
    assert_int_equal(p->log_count, 0);
    probe_free(p);
}

/* fact: block 2.7/read-only, 2.11/read-only, 2.9/read-only, edge/16 */
static void test_read_only(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = MiB, .open_flags = BDRV_O_UNMAP});
    assert_int_equal(do_req(p, R, 0, 512, 0, 0), 0);
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), -EPERM);
    assert_int_equal(do_req(p, Z, 0, 512, 1, 0), -EPERM);
    assert_int_equal(do_req(p, D, 0, 512, 1, 0), -EPERM);
    assert_int_equal(do_req(p, SIM_OP_FLUSH, 0, 0, 0, 0), 0);
    assert_int_equal(p->log_count, 1);
    assert_int_equal(p->bs->write_gen, 0);
    probe_free(p);
}

/* --- reads ----------------------------------------------------------------------------------------------- */

/* fact: block 2.4/padded */
static void test_read_padding(void **state)
{
    struct probe *p = aligned_probe();
    uint8_t seen[100];
    for (int i = 0; i < 8192; i++) {
        p->data[i] = (uint8_t)(i * 7);
    }
    struct req r = {.p = p, .op = R, .offset = 4090, .bytes = 100, .seen = seen};
    spawn(&r);
    settle();
    assert_int_equal(r.ret, 0);
    assert_memory_equal(seen, p->data + 4090, 100);
    assert_int_equal(p->log_count, 1);
    assert_call(p, 0, R, 0, 8192);
    probe_free(p);
}

/* fact: block 2.4/beyond-end */
static void test_read_past_end(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = 1024, .fill = 0x55});
    uint8_t seen[2048];
    struct req r = {.p = p, .op = R, .offset = 512, .bytes = 2048, .seen = seen};
    spawn(&r);
    settle();
    assert_int_equal(r.ret, 0);
    assert_int_equal(seen[511], 0x55);
    assert_int_equal(seen[512], 0);
    assert_int_equal(seen[2047], 0);
    assert_call(p, 0, R, 512, 512);
    assert_int_equal(p->log_count, 1);
    probe_free(p);
}

/* fact: block 2.4/fragments, 2.3/max-transfer, 2.3/fragment, 2.8/fua-emulated, 2.8/fua-fragments, edge/14 */
static void test_fragments(void **state)
{
    struct probe *p = probe_new((struct probe_spec){
        .name = "p", .length = MiB, .limits = {.request_alignment = 512, .max_transfer = 4096 + 100}});
    assert_int_equal(p->bs->bl.max_transfer, 4096);
    assert_int_equal(do_req(p, W, 512, 10000, 0x33, BDRV_REQ_FUA), 0);
    /* 10000 bytes end inside a sector: the tail is read, then 10240 bytes go out in three pieces, one flush last */
    assert_call(p, 0, R, 10240, 512);
    assert_call(p, 1, W, 512, 4096);
    assert_call(p, 2, W, 4608, 4096);
    assert_call(p, 3, W, 8704, 2048);
    assert_call(p, 4, SIM_OP_FLUSH, 0, 0);
    assert_int_equal(p->log_count, 5);
    assert_content(p, 512, 10000, 0x33);
    assert_content(p, 10512, 100, 0);
    probe_fail(p, R, 4096, -EIO, 1);
    assert_int_equal(do_req(p, R, 0, 12288, 0, 0), -EIO);
    assert_int_equal(p->log_count, 7);
    assert_true(sim_mark_hits(world, MARK_req_fragmented) >= 2);
    probe_free(p);
}

/* fact: block 2.8/fua-native, 2.8/masked */
static void test_native_fua(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p",
                                                    .length = MiB,
                                                    .write_flags = BDRV_REQ_FUA,
                                                    .limits = {.request_alignment = 512, .max_transfer = 4096}});
    assert_int_equal(do_req(p, W, 0, 8192, 1, BDRV_REQ_FUA | BDRV_REQ_WRITE_UNCHANGED), 0);
    assert_int_equal(p->log_count, 2);
    assert_int_equal(p->log[0].flags, BDRV_REQ_FUA);
    assert_int_equal(p->log[1].flags, BDRV_REQ_FUA);
    probe_free(p);
}

/* fact: block 2.8/fua-no-flush, 2.9/to-os */
static void test_no_flush_drops_fua(void **state)
{
    struct probe *p =
        probe_new((struct probe_spec){.name = "p", .length = MiB, .open_flags = BDRV_O_RDWR | BDRV_O_NO_FLUSH});
    assert_int_equal(do_req(p, W, 0, 512, 1, BDRV_REQ_FUA), 0);
    assert_int_equal(do_req(p, SIM_OP_FLUSH, 0, 0, 0, 0), 0);
    assert_int_equal(p->log_count, 1);
    probe_free(p);
}

/* --- read-modify-write (2.6, 12) -------------------------------------------------------------------------- */

/* fact: block 2.6/blocks, 2.6/merged */
static void test_rmw_one_block(void **state)
{
    struct probe *p = aligned_probe();
    assert_int_equal(do_req(p, W, BLOCK + 100, 50, 0x11, 0), 0);
    assert_int_equal(p->log_count, 2);
    assert_call(p, 0, R, BLOCK, BLOCK);
    assert_call(p, 1, W, BLOCK, BLOCK);
    assert_content(p, BLOCK, 100, 0xee);
    assert_content(p, BLOCK + 100, 50, 0x11);
    assert_content(p, BLOCK + 150, BLOCK - 150, 0xee);
    probe_free(p);
}

/* Two blocks with head and tail: one read. Three: two reads.
 * fact: block 2.6/blocks, 2.6/merged */
static void test_rmw_reads(void **state)
{
    struct probe *p = aligned_probe();
    assert_int_equal(do_req(p, W, 100, BLOCK, 0x11, 0), 0);
    assert_call(p, 0, R, 0, 2 * BLOCK);
    assert_call(p, 1, W, 0, 2 * BLOCK);
    assert_int_equal(do_req(p, W, 3 * BLOCK + 100, 2 * BLOCK, 0x12, 0), 0);
    assert_call(p, 2, R, 3 * BLOCK, BLOCK);
    assert_call(p, 3, R, 5 * BLOCK, BLOCK);
    assert_call(p, 4, W, 3 * BLOCK, 3 * BLOCK);
    assert_int_equal(do_req(p, W, 7 * BLOCK, BLOCK + 1, 0x13, 0), 0);
    assert_call(p, 5, R, 8 * BLOCK, BLOCK);
    assert_call(p, 6, W, 7 * BLOCK, 2 * BLOCK);
    assert_int_equal(p->log_count, 7);
    assert_content(p, 100, BLOCK, 0x11);
    assert_content(p, 5 * BLOCK + 100, BLOCK - 100, 0xee);
    assert_content(p, 8 * BLOCK, 1, 0x13);
    assert_content(p, 8 * BLOCK + 1, 100, 0xee);
    probe_free(p);
}

/* A read of the edges that fails must fail the write, with nothing written and nothing marked.
 * fact: block 2.6/read-fails, edge/5 */
static void test_rmw_read_failure(void **state)
{
    struct probe *p = aligned_probe();
    probe_fail(p, R, -1, -ENXIO, 3);
    assert_int_equal(do_req(p, W, 100, 50, 0x11, 0), -ENXIO);
    assert_int_equal(do_req(p, W, 100, 3 * BLOCK, 0x11, 0), -ENXIO);
    assert_int_equal(do_req(p, Z, 100, 3 * BLOCK, 0, 0), -ENXIO);
    p->fail_count = 1;
    p->fail_offset = 2 * BLOCK;
    assert_int_equal(do_req(p, W, 100, 2 * BLOCK, 0x11, 0), -ENXIO);
    assert_int_equal(probe_calls(p, W) + probe_calls(p, Z), 0);
    assert_int_equal(p->bs->write_gen, 0);
    assert_content(p, 0, 4 * BLOCK, 0xee);
    assert_int_equal(do_req(p, W, 100, 50, 0x11, 0), 0);
    probe_free(p);
}

/* (a) a second sector write of the same block does not even read before the first is complete. */
static void rmw_same_block(enum sim_op hold_op)
{
    struct probe *p = aligned_probe();
    struct req first = write_req(p, 0, 512, 0x11);
    struct req second = write_req(p, 512, 512, 0x22);
    probe_hold(p, hold_op, 0);
    spawn(&first);
    settle();
    unsigned calls = p->log_count;
    spawn(&second);
    settle();
    assert_int_equal(p->log_count, calls);
    assert_false(second.done);
    probe_release(p);
    assert_true(first.done && second.done && first.order < second.order);
    assert_content(p, 0, 512, 0x11);
    assert_content(p, 512, 512, 0x22);
    assert_content(p, 1024, 3072, 0xee);
    assert_true(sim_mark_hits(world, MARK_req_serialise_wait) > 0);
    probe_free(p);
}

/* fact: block 12/rmw-same-block, 2.5/serialising */
static void test_rmw_vector_a(void **state)
{
    rmw_same_block(R);
    rmw_same_block(W);
}

/* (b) seven more queue behind a suspended one; all eight land.
 * fact: block 12/rmw-queue, 2.5/newest-first, edge/8 */
static void test_rmw_vector_b(void **state)
{
    struct probe *p = aligned_probe();
    struct req reqs[8];
    probe_hold(p, W, 6 * BLOCK);
    for (unsigned i = 0; i < 8; i++) {
        reqs[i] = write_req(p, 6 * BLOCK + i * 512, 512, (uint8_t)(0x10 + i));
        spawn(&reqs[i]);
        settle();
    }
    assert_int_equal(p->log_count, 2);
    probe_release(p);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(reqs[i].done);
        assert_int_equal(reqs[i].ret, 0);
        assert_content(p, 6 * BLOCK + i * 512, 512, (uint8_t)(0x10 + i));
    }
    assert_true(sim_mark_hits(world, MARK_req_skip_waiter) > 0);
    probe_free(p);
}

/* (c) C spans the blocks of A and B and completes after both, whatever is let go first.
 * fact: block 12/rmw-spanning */
static void test_rmw_vector_c(void **state)
{
    for (int way = 0; way < 2; way++) {
        struct probe *p = aligned_probe();
        struct req a = write_req(p, 6 * BLOCK, 512, 0xaa);
        struct req b = write_req(p, 7 * BLOCK + 512, 512, 0xbb);
        struct req c = write_req(p, 6 * BLOCK + 1024, BLOCK, 0xcc);
        int64_t held_last = way == 0 ? 7 * BLOCK : 6 * BLOCK;
        probe_hold(p, W, held_last);
        spawn(&a);
        spawn(&b);
        settle();
        assert_int_equal(a.done, way == 0);
        assert_int_equal(b.done, way == 1);
        spawn(&c);
        settle();
        assert_false(c.done);
        probe_release(p);
        assert_true(a.done && b.done && c.done);
        assert_true(c.order > a.order && c.order > b.order);
        assert_content(p, 6 * BLOCK, 512, 0xaa);
        assert_content(p, 6 * BLOCK + 1024, 3072, 0xcc);
        assert_content(p, 7 * BLOCK, 1024, 0xcc);
        probe_free(p);
    }
}

/* (c) the same though C came before B: C waits for A, so B does not wait for C, but C then finds B in its way.
 * fact: block 12/rmw-spanning, 2.5/newest-first, 2.5/rescan, edge/8, edge/9 */
static void test_rmw_vector_c_early(void **state)
{
    struct probe *p = aligned_probe();
    struct req a = write_req(p, 6 * BLOCK, 512, 0xaa);
    struct req b = write_req(p, 7 * BLOCK + 512 * 3, 512, 0xbb);
    struct req c = write_req(p, 6 * BLOCK + 1024, BLOCK, 0xcc);
    probe_hold(p, W, -2);
    spawn(&a);
    settle();
    spawn(&c);
    settle();
    assert_int_equal(p->log_count, 2);
    spawn(&b);
    settle();
    assert_int_equal(p->log_count, 4);
    probe_release_one(p);
    assert_true(a.done);
    assert_int_equal(p->log_count, 4);
    probe_release(p);
    assert_true(b.done && c.done && c.order > b.order);
    assert_content(p, 6 * BLOCK, 512, 0xaa);
    assert_content(p, 6 * BLOCK + 1024, BLOCK, 0xcc);
    assert_content(p, 7 * BLOCK + 512 * 3, 512, 0xbb);
    probe_free(p);
}

/* (d) aligned requests are no read-modify-write, yet wait for one that overlaps, and it for them.
 * fact: block 12/rmw-aligned, 2.5/conflict, 2.4/waits */
static void test_rmw_vector_d(void **state)
{
    struct probe *p = aligned_probe();
    struct req rmw = write_req(p, 512, 512, 0x11);
    struct req whole = write_req(p, 0, BLOCK, 0x22);
    struct req look = {.p = p, .op = R, .offset = 0, .bytes = BLOCK};
    probe_hold(p, W, 0);
    spawn(&rmw);
    settle();
    spawn(&whole);
    spawn(&look);
    settle();
    assert_int_equal(p->log_count, 2);
    probe_release(p);
    assert_true(rmw.done && whole.done && look.done && rmw.order < whole.order);
    assert_content(p, 0, BLOCK, 0x22);

    probe_hold(p, W, 0);
    spawn(&whole);
    settle();
    spawn(&rmw);
    settle();
    unsigned reads = probe_calls(p, R);
    assert_false(rmw.done);
    probe_release(p);
    assert_true(rmw.order > whole.order);
    assert_int_equal(probe_calls(p, R), reads + 1);
    assert_content(p, 512, 512, 0x11);
    probe_free(p);
}

/* Plain overlapping requests never wait for each other.
 * fact: block 2.5/conflict, edge/7 */
static void test_plain_overlap(void **state)
{
    struct probe *p = aligned_probe();
    struct req first = write_req(p, 0, BLOCK, 1);
    struct req second = write_req(p, 0, 2 * BLOCK, 2);
    probe_hold(p, W, 0);
    spawn(&first);
    settle();
    p->hold_offset = -1;
    spawn(&second);
    settle();
    assert_true(second.done);
    assert_false(first.done);
    probe_release(p);
    assert_int_equal(sim_mark_hits(world, MARK_req_serialise_wait), 0);
    probe_free(p);
}

/* fact: block 2.5/no-wait, 2.5/serialising, 2.5/serialising-cluster, 2.8/serialising */
static void test_serialising_no_wait(void **state)
{
    struct probe *p = probe_new((struct probe_spec){
        .name = "p", .length = MiB, .cluster_size = 65536, .limits = {.request_alignment = 512}});
    struct req first = write_req(p, 0, 512, 1);
    struct req second = write_req(p, 4096, 512, 2);
    second.flags = BDRV_REQ_SERIALISING | BDRV_REQ_NO_WAIT;
    probe_hold(p, W, 0);
    spawn(&first);
    settle();
    spawn(&second); /* another sector, the same cluster */
    settle();
    assert_true(second.done);
    assert_int_equal(second.ret, -EBUSY);
    second.flags = BDRV_REQ_SERIALISING;
    spawn(&second);
    settle();
    assert_false(second.done);
    probe_release(p);
    assert_true(second.done);
    assert_int_equal(second.ret, 0);
    assert_int_equal(p->bs->serialising_in_flight, 0);
    probe_free(p);
}

/* --- completion ------------------------------------------------------------------------------------------- */

static unsigned resizes;

static void count_event(void *opaque, const struct sim_record *record)
{
    ++*(unsigned *)opaque;
}

/* fact: block 2.7/failed, 2.7/past-end, 2.11/length, 4.4/highest */
static void test_growth(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = 4096});
    resizes = 0;
    sim_subscribe(world, EV_node_resize, count_event, &resizes);
    probe_fail(p, W, 8192, -ENOSPC, 1);
    assert_int_equal(do_req(p, W, 8192, 100, 1, 0), -ENOSPC);
    assert_int_equal(p->bs->total_bytes, 4096);
    assert_int_equal(p->bs->wr_highest_offset, 8292);
    assert_int_equal(p->bs->write_gen, 1);
    assert_int_equal(do_req(p, W, 8192, 100, 1, 0), 0);
    assert_int_equal(p->bs->total_bytes, 8704); /* rounded up to a sector */
    assert_int_equal(resizes, 1);
    assert_int_equal(do_req(p, D, 0, 4096, 1, 0), 0);
    assert_int_equal(p->bs->write_gen, 3);
    assert_int_equal(p->bs->wr_highest_offset, 8292);
    probe_free(p);
}

struct threshold {
    unsigned count;
    uint64_t exceeded;
    uint64_t threshold;
};

static void note_threshold(void *opaque, const struct sim_record *record)
{
    struct threshold *t = opaque;
    t->count++;
    t->exceeded = record->field[1];
    t->threshold = record->field[2];
}

/* Strictly above, once, before the driver and even if it then fails; discards count, reads do not.
 * fact: block 4.1/before, 4.1/event, 4.1/once, 4.1/above, edge/4 */
static void test_threshold(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = MiB});
    struct threshold t = {0};
    sim_subscribe(world, EV_BLOCK_WRITE_THRESHOLD, note_threshold, &t);
    p->bs->write_threshold = 8192;
    assert_int_equal(do_req(p, W, 4096, 4096, 1, 0), 0);
    assert_int_equal(do_req(p, R, 0, 16384, 1, 0), 0);
    assert_int_equal(t.count, 0);
    probe_fail(p, W, -1, -EIO, 1);
    assert_int_equal(do_req(p, W, 4096, 4097, 1, 0), -EIO);
    assert_int_equal(t.count, 1);
    assert_int_equal(t.exceeded, 1);
    assert_int_equal(t.threshold, 8192);
    assert_int_equal(p->bs->write_threshold, 0);
    p->bs->write_threshold = 1;
    assert_int_equal(do_req(p, D, 0, 4096, 0, 0), 0);
    assert_int_equal(t.count, 2);
    assert_int_equal(t.exceeded, 4095);
    probe_free(p);
}

/* --- truncate --------------------------------------------------------------------------------------------- */

static const BlockDriver cow_driver = {
    .format_name = "cow-probe",
    .doc = "test",
    .instance_size = sizeof(struct probe),
    .supports_backing = true,
    .bdrv_co_preadv = probe_preadv,
    .bdrv_co_pwritev = probe_pwritev,
    .bdrv_co_truncate = probe_truncate,
    .bdrv_co_getlength = probe_getlength,
};

/* fact: block 5/checks, 5/afterwards */
static void test_truncate(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = 4096});
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, -1, 0, 0, 0), -EINVAL);
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, BDRV_MAX_LENGTH + 1, 0, 0, 0), -EIO);
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, 8192, 0, 0, BDRV_REQ_ZERO_WRITE), -ENOTSUP);
    assert_int_equal(p->log_count, 0);
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, 10000, 0, 0, 0), 0);
    assert_int_equal(p->bs->total_bytes, 10240);
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, 512, 0, 0, 0), 0);
    assert_int_equal(p->bs->total_bytes, 512);
    probe_fail(p, SIM_OP_TRUNCATE, -1, -EIO, 1);
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, 8192, 0, 0, 0), -EIO);
    assert_int_equal(p->bs->total_bytes, 512);
    probe_fail(p, SIM_OP_GETLENGTH, -1, -EIO, 1); /* done, only the look afterwards failed */
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, 8192, 0, 0, 0), -EIO);
    assert_int_equal(p->bs->total_bytes, 8192);
    probe_free(p);
}

/* Growth over a longer backing file asks for zeroes; within it, or without one, it does not.
 * fact: block 5/over-backing, edge/22 */
static void test_truncate_over_backing(void **state)
{
    struct probe *base = probe_new((struct probe_spec){.name = "base", .length = 2 * MiB, .fill = 0xaa});
    struct probe *top = probe_new((struct probe_spec){
        .name = "top", .drv = &cow_driver, .length = MiB, .backing = base, .truncate_flags = BDRV_REQ_ZERO_WRITE});
    assert_int_equal(do_req(top, SIM_OP_TRUNCATE, 2 * MiB, 0, 0, 0), 0);
    assert_int_equal(top->log[0].flags, BDRV_REQ_ZERO_WRITE);
    assert_int_equal(do_req(top, SIM_OP_TRUNCATE, 3 * MiB, 0, 0, 0), 0);
    assert_int_equal(top->log[1].flags, 0);
    assert_int_equal(do_req(top, SIM_OP_TRUNCATE, MiB, 0, 0, 0), 0);
    assert_int_equal(top->log[2].flags, 0);
    top->bs->supported_truncate_flags = 0;
    assert_int_equal(do_req(top, SIM_OP_TRUNCATE, 2 * MiB, 0, 0, 0), -ENOTSUP);
    probe_free(top);
    probe_free(base);
}

/* Growth serialises over the new area: a write there waits until it is done.
 * fact: block 5/growth-serialises, 2.5/serialising */
static void test_truncate_serialises(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = 4096});
    struct req grow = {.p = p, .op = SIM_OP_TRUNCATE, .offset = 8192};
    struct req inside = write_req(p, 0, 4096, 1);
    struct req beyond = write_req(p, 4096, 512, 2);
    probe_hold(p, SIM_OP_TRUNCATE, 8192);
    spawn(&grow);
    settle();
    spawn(&inside);
    spawn(&beyond);
    settle();
    assert_true(inside.done);
    assert_false(beyond.done);
    probe_release(p);
    assert_true(grow.done && beyond.done && grow.order < beyond.order);
    assert_int_equal(p->bs->total_bytes, 8192);
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/io/checks/range", test_range_checks),
        T_NODE("/io/checks/read-only", test_read_only),
        T_NODE("/io/read/padding", test_read_padding),
        T_NODE("/io/read/past-end", test_read_past_end),
        T_NODE("/io/fragments", test_fragments),
        T_NODE("/io/fua/native", test_native_fua),
        T_NODE("/io/fua/no-flush", test_no_flush_drops_fua),
        T_NODE("/io/rmw/one-block", test_rmw_one_block),
        T_NODE("/io/rmw/reads", test_rmw_reads),
        T_NODE("/io/rmw/read-failure", test_rmw_read_failure),
        T_NODE("/io/rmw/vector-a", test_rmw_vector_a),
        T_NODE("/io/rmw/vector-b", test_rmw_vector_b),
        T_NODE("/io/rmw/vector-c", test_rmw_vector_c),
        T_NODE("/io/rmw/vector-c/issued-early", test_rmw_vector_c_early),
        T_NODE("/io/rmw/vector-d", test_rmw_vector_d),
        T_NODE("/io/plain-overlap", test_plain_overlap),
        T_NODE("/io/serialising/no-wait", test_serialising_no_wait),
        T_NODE("/io/growth", test_growth),
        T_NODE("/io/threshold", test_threshold),
        T_NODE("/io/truncate", test_truncate),
        T_NODE("/io/truncate/over-backing", test_truncate_over_backing),
        T_NODE("/io/truncate/serialises", test_truncate_serialises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
