/* Protects zero writes and discards: how they are padded, cut, replaced by data, and where they stop. */
#include "tests/block/probe.h"

#define BLOCK 4096
#define W SIM_OP_WRITE
#define R SIM_OP_READ
#define Z SIM_OP_WRITE_ZEROES
#define D SIM_OP_DISCARD

/* fact: block 2.6/zero */
static void test_zero_padding(void **state)
{
    struct probe *p = probe_new(
        (struct probe_spec){.name = "p", .length = MiB, .fill = 0xee, .limits = {.request_alignment = BLOCK}});
    assert_int_equal(do_req(p, Z, 100, 4 * BLOCK, 0, 0), 0);
    assert_call(p, 0, R, 0, BLOCK);
    assert_call(p, 1, R, 4 * BLOCK, BLOCK);
    assert_call(p, 2, W, 0, BLOCK);
    assert_call(p, 3, Z, BLOCK, 3 * BLOCK);
    assert_call(p, 4, W, 4 * BLOCK, BLOCK);
    assert_int_equal(p->log_count, 5);
    assert_content(p, 0, 100, 0xee);
    assert_content(p, 100, 4 * BLOCK, 0);
    assert_content(p, 4 * BLOCK + 100, BLOCK - 100, 0xee);
    assert_int_equal(do_req(p, Z, 8 * BLOCK + 10, 20, 0, 0), 0);
    assert_content(p, 8 * BLOCK, 10, 0xee);
    assert_content(p, 8 * BLOCK + 10, 20, 0);
    assert_content(p, 8 * BLOCK + 30, 100, 0xee);
    assert_int_equal(do_req(p, Z, 10 * BLOCK + 10, BLOCK, 0, 0), 0);
    assert_content(p, 10 * BLOCK, 10, 0xee);
    assert_content(p, 10 * BLOCK + 10, BLOCK, 0);
    assert_content(p, 11 * BLOCK + 10, 100, 0xee);
    assert_int_equal(do_req(p, Z, 20 * BLOCK, 10, 0, 0), 0);
    assert_content(p, 20 * BLOCK, 10, 0);
    assert_content(p, 20 * BLOCK + 10, 100, 0xee);
    probe_free(p);
}

/* fact: block 2.10/cut */
static void test_zero_pieces(void **state)
{
    struct probe *p = probe_new((struct probe_spec){
        .name = "p",
        .length = MiB,
        .fill = 0xee,
        .limits = {.request_alignment = 512, .pwrite_zeroes_alignment = 8192, .max_pwrite_zeroes = 20000}});
    assert_int_equal(do_req(p, Z, 512, 65536, 0, 0), 0);
    assert_call(p, 0, Z, 512, 7680);
    assert_call(p, 1, Z, 8192, 16384);
    assert_call(p, 2, Z, 24576, 16384);
    assert_call(p, 3, Z, 40960, 16384);
    assert_call(p, 4, Z, 57344, 8192);
    assert_call(p, 5, Z, 65536, 512);
    assert_int_equal(p->log_count, 6);
    assert_content(p, 512, 65536, 0);
    assert_content(p, 0, 512, 0xee);
    assert_content(p, 66048, 512, 0xee);
    probe_free(p);
}

/* fact: block 2.10/fallback, 2.10/no-fallback, 2.8/fua-zero, 2.8/no-fallback */
static void test_zero_fallback(void **state)
{
    struct probe *p = probe_new((struct probe_spec){
        .name = "p", .length = MiB, .fill = 0xee, .limits = {.request_alignment = 512, .max_transfer = 8192}});
    probe_fail(p, Z, -1, -ENOTSUP, 1000);
    assert_int_equal(do_req(p, Z, 0, 20480, 0, BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP), 0);
    assert_int_equal(probe_calls(p, W), 3);
    assert_int_equal(probe_calls(p, SIM_OP_FLUSH), 1);
    assert_call(p, p->log_count - 1, SIM_OP_FLUSH, 0, 0);
    assert_content(p, 0, 20480, 0);
    assert_true(sim_mark_hits(world, MARK_req_zero_fallback) == 3);
    unsigned calls = p->log_count;
    assert_int_equal(do_req(p, Z, 0, 20480, 0, BDRV_REQ_NO_FALLBACK), -ENOTSUP);
    assert_int_equal(p->log_count, calls);
    probe_free(p);
}

/* fact: block 2.10/prefix, edge/11 */
static void test_zero_stops_at_error(void **state)
{
    struct probe *p = probe_new((struct probe_spec){
        .name = "p", .length = MiB, .fill = 0xee, .limits = {.request_alignment = 512, .max_pwrite_zeroes = 4096}});
    probe_fail(p, Z, 8192, -ENOSPC, 1);
    assert_int_equal(do_req(p, Z, 0, 16384, 0, 0), -ENOSPC);
    assert_content(p, 0, 8192, 0);
    assert_content(p, 8192, 8192, 0xee);
    probe_free(p);
}

/* MAY_UNMAP reaches the driver only on nodes with discard=unmap.
 * fact: block 2.8/may-unmap */
static void test_may_unmap(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = MiB, .zero_flags = BDRV_REQ_MAY_UNMAP});
    assert_int_equal(do_req(p, Z, 0, 4096, 0, BDRV_REQ_MAY_UNMAP), 0);
    assert_int_equal(p->log[0].flags, BDRV_REQ_MAY_UNMAP);
    assert_true(bdrv_can_write_zeroes_with_unmap(p->bs));
    p->bs->open_flags &= ~(uint32_t)BDRV_O_UNMAP;
    assert_int_equal(do_req(p, Z, 0, 4096, 0, BDRV_REQ_MAY_UNMAP), 0);
    assert_int_equal(p->log[1].flags, 0);
    assert_false(bdrv_can_write_zeroes_with_unmap(p->bs));
    probe_free(p);
}

/* fact: block 2.7/detect-zeroes, edge/10 */
static void test_detect_zeroes(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p",
                                                    .length = MiB,
                                                    .fill = 0xee,
                                                    .zero_flags = BDRV_REQ_MAY_UNMAP,
                                                    .limits = {.request_alignment = 4096}});
    p->bs->detect_zeroes = BDRV_DETECT_ZEROES_UNMAP;
    assert_int_equal(do_req(p, W, 0, 8192, 0, 0), 0);
    assert_call(p, 0, Z, 0, 8192);
    assert_int_equal(p->log[0].flags, BDRV_REQ_MAY_UNMAP);
    assert_int_equal(do_req(p, W, 8192, 4096, 1, 0), 0);
    assert_call(p, 1, W, 8192, 4096);
    assert_int_equal(do_req(p, W, 16384, 512, 0, 0), 0); /* the padded block is not zero */
    assert_call(p, 3, W, 16384, 4096);
    p->bs->detect_zeroes = BDRV_DETECT_ZEROES_ON;
    assert_int_equal(do_req(p, W, 0, 8192, 0, 0), 0);
    assert_int_equal(p->log[4].flags, 0);
    probe_free(p);
}

/* fact: block 2.11/cut, 2.11/enotsup */
static void test_discard_pieces(void **state)
{
    struct probe *p = probe_new((struct probe_spec){
        .name = "p",
        .length = MiB,
        .limits = {.request_alignment = 512, .pdiscard_alignment = 8192, .max_pdiscard = 16384}});
    assert_int_equal(do_req(p, D, 512, 40960, 0, 0), 0);
    assert_call(p, 0, D, 512, 7680);
    assert_call(p, 1, D, 8192, 16384);
    assert_call(p, 2, D, 24576, 16384);
    assert_call(p, 3, D, 40960, 512);
    assert_int_equal(p->log_count, 4);
    probe_fail(p, D, 8192, -ENOTSUP, 1);
    assert_int_equal(do_req(p, D, 100, 20000, 0, 0), 0); /* refused pieces and crumbs are no error */
    assert_call(p, 4, D, 512, 7680);
    assert_call(p, 5, D, 8192, 8192);
    assert_call(p, 6, D, 16384, 3584);
    assert_int_equal(p->log_count, 7);
    probe_fail(p, D, 16384, -EIO, 1);
    assert_int_equal(do_req(p, D, 0, 65536, 0, 0), -EIO);
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/zeroes/padding", test_zero_padding),   T_NODE("/zeroes/pieces", test_zero_pieces),
        T_NODE("/zeroes/fallback", test_zero_fallback), T_NODE("/zeroes/stops-at-error", test_zero_stops_at_error),
        T_NODE("/zeroes/may-unmap", test_may_unmap),    T_NODE("/zeroes/detect", test_detect_zeroes),
        T_NODE("/discard/pieces", test_discard_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
