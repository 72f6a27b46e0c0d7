/* Protects write thresholds: what fires them, when, how often, and what the event says. */
#include "tests/block/probe.h"

static struct {
    unsigned count;
    unsigned calls; /* of the driver, when it fired */
    char node[64];
    uint64_t exceeded;
    uint64_t threshold;
    struct probe *p;
} seen;

static void note(void *opaque, const struct sim_record *record)
{
    seen.count++;
    seen.calls = seen.p->log_count;
    snprintf(seen.node, sizeof(seen.node), "%s", sim_record_name(record, 0)->str);
    seen.exceeded = record->field[1];
    seen.threshold = record->field[2];
}

static struct probe *node(uint64_t threshold, uint32_t alignment)
{
    memset(&seen, 0, sizeof(seen));
    seen.p = probe_new((struct probe_spec){.name = "p", .length = MiB, .limits = {.request_alignment = alignment}});
    sim_subscribe(world, EV_BLOCK_WRITE_THRESHOLD, note, NULL);
    bdrv_set_write_threshold(seen.p->bs, threshold);
    return seen.p;
}

/* How many events that made. */
static unsigned fires(enum sim_op op, int64_t offset, int64_t bytes)
{
    struct req r = {.p = seen.p, .op = op, .offset = offset, .bytes = bytes};
    unsigned before = seen.count;

    spawn(&r);
    settle();
    assert_true(r.done);
    return seen.count - before;
}

/* fact: block 4.1/off */
static void test_off(void **state)
{
    struct probe *p = node(0, 1);

    assert_int_equal(fires(SIM_OP_WRITE, 0, MiB), 0);
    bdrv_set_write_threshold(p->bs, 1);
    bdrv_set_write_threshold(p->bs, 0);
    assert_int_equal(fires(SIM_OP_WRITE, 0, MiB), 0);
    probe_free(p);
}

/* fact: block 4.1/above, 4.1/event, edge/4 */
static void test_above(void **state)
{
    struct probe *p = node(4096, 1);

    assert_int_equal(fires(SIM_OP_WRITE, 0, 4096), 0);
    assert_int_equal(bdrv_get_write_threshold(p->bs), 4096);
    assert_int_equal(fires(SIM_OP_WRITE, 1000, 3097), 1);
    assert_string_equal(seen.node, "p");
    assert_int_equal(seen.exceeded, 1);
    assert_int_equal(seen.threshold, 4096);
    probe_free(p);
}

/* fact: block 4.1/once, edge/4 */
static void test_once(void **state)
{
    struct probe *p = node(4096, 1);

    probe_fail(p, SIM_OP_WRITE, -1, -EIO, 1);
    assert_int_equal(fires(SIM_OP_WRITE, 4096, 512), 1); /* fails */
    assert_int_equal(bdrv_get_write_threshold(p->bs), 0);
    assert_int_equal(fires(SIM_OP_WRITE, 4096, 512), 0);
    bdrv_set_write_threshold(p->bs, 4096);
    assert_int_equal(fires(SIM_OP_WRITE, 4096, 512), 1);
    probe_free(p);
}

/* fact: block 4.1/before */
static void test_before(void **state)
{
    static const enum sim_op ops[] = {SIM_OP_WRITE, SIM_OP_WRITE_ZEROES, SIM_OP_DISCARD};
    struct probe *p = node(0, 1);

    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        bdrv_set_write_threshold(p->bs, 512);
        assert_int_equal(fires(ops[i], 512, 512), 1);
        assert_int_equal(seen.calls, i); /* its own call came later */
        assert_int_equal(p->log_count, i + 1);
    }
    bdrv_set_write_threshold(p->bs, 512);
    assert_int_equal(fires(SIM_OP_READ, 512, 512), 0);
    assert_int_equal(fires(SIM_OP_FLUSH, 0, 0), 0);
    assert_int_equal(fires(SIM_OP_TRUNCATE, 2 * MiB, 0), 0);
    assert_int_equal(bdrv_get_write_threshold(p->bs), 512);
    probe_free(p);
}

/* The end is that of what reaches the driver: whole blocks. */
static void test_padded(void **state)
{
    struct probe *p = node(4096, 4096);

    assert_int_equal(fires(SIM_OP_WRITE, 4000, 97), 1);
    assert_int_equal(seen.exceeded, 4096);
    probe_free(p);
}

/* A write that is refused never comes that far. */
static void test_refused(void **state)
{
    struct probe *p = node(1, 1);

    p->bs->open_flags &= ~(uint32_t)BDRV_O_RDWR;
    assert_int_equal(fires(SIM_OP_WRITE, 0, 4096), 0);
    p->bs->open_flags |= BDRV_O_RDWR;
    assert_int_equal(fires(SIM_OP_WRITE, -1, 4096), 0);
    assert_int_equal(bdrv_get_write_threshold(p->bs), 1);
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/threshold/off", test_off, probe_setup, probe_teardown),
        T_SETUP("/threshold/strictly-above", test_above, probe_setup, probe_teardown),
        T_SETUP("/threshold/once", test_once, probe_setup, probe_teardown),
        T_SETUP("/threshold/before-the-driver", test_before, probe_setup, probe_teardown),
        T_SETUP("/threshold/whole-blocks", test_padded, probe_setup, probe_teardown),
        T_SETUP("/threshold/refused", test_refused, probe_setup, probe_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
