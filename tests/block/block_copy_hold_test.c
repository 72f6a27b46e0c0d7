/* Protects the holds of block copy (jobs.md 5.9): a reader that needs the old content of both ends excludes copies
 * of its clusters, and copies exclude it. */
#include "tests/block/cbw_lib.h"

struct reader {
    int64_t offset, bytes;
    struct block_copy_hold hold;
    bool waits, holds, let_go;
    unsigned order;
};

static bool may_end;

static bool ended(void *opaque)
{
    return may_end;
}

static void read_old(void *opaque)
{
    struct reader *r = opaque;
    r->waits = true;
    block_copy_wait_overlapping(copy, r->offset, r->bytes);
    block_copy_hold_begin(&r->hold, copy, r->offset, r->bytes);
    r->waits = false;
    r->holds = true;
    r->order = ++completions;
    while (!ended(NULL)) {
        co_sleep_ns(world, 1000);
    }
    block_copy_hold_end(&r->hold);
    r->holds = false;
    r->let_go = true;
}

static void start_reader(struct reader *r)
{
    coroutine_start(coroutine_create(world, host, "reader", read_old, r));
    sim_run(world, NULL, NULL, sim_now(world) + 10000);
}

static void pass_time(int64_t ns)
{
    sim_run(world, NULL, NULL, sim_now(world) + ns);
}

static void let_go(void)
{
    may_end = true;
    settle();
}

/* fact: jobs 5.9/begin-end, 5.9/excluded, seed/a8bbee0 */
static void test_copy_waits_for_reader(void **state)
{
    make_engine((struct block_copy_args){0});
    may_end = false;
    struct reader r = {.offset = CL + 512, .bytes = 512};
    start_reader(&r);
    assert_true(r.holds);
    assert_int_equal(r.hold.offset, CL);
    assert_int_equal(r.hold.bytes, CL);
    struct req beside = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    struct req inside = {.p = &top, .op = W, .offset = 2 * CL - 512, .bytes = 512, .fill = 0x22};
    spawn(&beside);
    spawn(&inside);
    pass_time(NS_PER_MS);
    assert_true(beside.done);
    assert_false(inside.done); /* the cluster counts, not the bytes */
    assert_int_equal(probe_calls(t, W), 1);
    assert_content(s, 2 * CL - 512, 512, 0xaa);
    assert_false(block_copy_area_in_flight(copy, CL, CL));
    let_go();
    assert_true(inside.done && r.let_go);
    assert_content(t, 0, 2 * CL, 0xaa);
    free_engine();
}

/* fact: jobs 5.9/wait, 5.9/excluded, seed/a8bbee0; block 2.14/exclusive */
static void test_reader_waits_for_copy(void **state)
{
    make_engine((struct block_copy_args){0});
    may_end = true;
    probe_hold(t, W, -2);
    struct req first = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    struct req second = {.p = &top, .op = W, .offset = CL, .bytes = 512, .fill = 0x11};
    spawn(&first);
    settle();
    struct reader r = {.offset = 0, .bytes = 2 * CL};
    start_reader(&r);
    assert_true(r.waits);
    spawn(&second); /* comes in while it waits */
    settle();
    probe_release_one(t);
    assert_true(first.done && r.waits); /* it looks again from the start */
    probe_release(t);
    assert_true(second.done && r.let_go);
    free_engine();
}

/* Two readers exclude each other too. fact: jobs 5.9/excluded, seed/a8bbee0 */
static void test_readers(void **state)
{
    make_engine((struct block_copy_args){0});
    may_end = false;
    struct reader a = {.offset = 0, .bytes = CL}, b = {.offset = CL - 1, .bytes = 2},
                  c = {.offset = 4 * CL, .bytes = 1};
    start_reader(&a);
    start_reader(&b);
    start_reader(&c);
    assert_true(a.holds && b.waits && c.holds);
    let_go();
    assert_true(a.let_go && b.let_go && c.let_go);
    free_engine();
}

/* The background pass takes what is before a hold, then waits. fact: seed/a8bbee0 */
static void test_background(void **state)
{
    make_engine((struct block_copy_args){0});
    may_end = false;
    struct reader r = {.offset = 4 * CL, .bytes = 1};
    start_reader(&r);
    struct background b = {0};
    start_background(&b);
    pass_time(NS_PER_MS);
    assert_int_equal(probe_calls(t, W), 1);
    assert_call(t, 0, W, 0, 4 * CL);
    assert_false(b.ended);
    let_go();
    assert_int_equal(end_background(&b), 0);
    assert_int_equal(block_copy_remaining(copy), 0);
    free_engine();
}

static void begin_twice(void *opaque)
{
    struct block_copy_hold a, b;
    block_copy_hold_begin(&a, copy, 0, CL);
    block_copy_hold_begin(&b, copy, 512, 1);
}

/* Without a wait in between nothing may overlap. fact: jobs 5.9/begin-end, seed/a8bbee0 */
static void test_begin_needs_wait(void **state)
{
    make_engine((struct block_copy_args){0});
    assert_true(dies(begin_twice, NULL));
    free_engine();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_CBW("/block-copy/hold/a8bbee0/copy-waits-for-reader", test_copy_waits_for_reader),
        T_CBW("/block-copy/hold/a8bbee0/reader-waits-for-copy", test_reader_waits_for_copy),
        T_CBW("/block-copy/hold/a8bbee0/readers-exclude-each-other", test_readers),
        T_CBW("/block-copy/hold/a8bbee0/background", test_background),
        T_CBW("/block-copy/hold/a8bbee0/begin-needs-wait", test_begin_needs_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
