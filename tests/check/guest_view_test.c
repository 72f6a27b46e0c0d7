/* Protects check/guest_view: a read that no write explains is reported, and whatever overlapping requests may
 * really do is not. */
#include "tests/check/check_world.h"

/* Overlapping requests of all kinds under a random schedule, while a mirror runs and switches. */
static void random_requests(uint64_t seed)
{
    struct io io[48];

    sim_choice_set_policy(world, SIM_POLICY_RANDOM);
    sim_choice_set_seed(world, seed);
    mirror_world(MiB, 256 * KiB);
    assert_true(start_mirror(""));
    for (size_t i = 0; i < ARRAY_SIZE(io); i++) {
        static const enum sim_op ops[] = {SIM_OP_WRITE, SIM_OP_WRITE,        SIM_OP_READ,
                                          SIM_OP_READ,  SIM_OP_WRITE_ZEROES, SIM_OP_DISCARD};
        uint64_t draw = sim_mix2(seed, i);

        io_submit(&io[i], ops[draw % 6], (int64_t)(draw >> 8 & 63) * 2048, (int64_t)((draw >> 16 & 31) + 1) * 512,
                  (i + 1) << 32);
    }
    for (size_t i = 0; i < ARRAY_SIZE(io); i++) {
        run_until(flag_set, &io[i].done);
        assert_int_equal(io[i].req.ret, 0);
        guest_req_clear(&io[i].req);
    }
    wait_ready();
    complete_mirror();
    assert_int_equal(io_run(SIM_OP_READ, 0, MiB, 0), 0);
    finish();
    assert_silent();
}

static void test_silent(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        random_requests(seed);
        check_set_free(checks);
        sim_delete(world);
        world_setup(NULL);
    }
}

static void poke(const char *name, int64_t offset, uint64_t tag)
{
    struct payload data;

    payload_init(world, &data);
    payload_append_tags(&data, tag, 1);
    disk_poke(disk_find(world, name), offset, &data);
    payload_clear(&data);
}

static void test_read(void **state)
{
    mirror_world(MiB, 0);
    assert_int_equal(io_run(SIM_OP_WRITE, 64 * KiB, 64 * KiB, 1 << 24), 0);
    assert_int_equal(io_run(SIM_OP_READ, 0, 256 * KiB, 0), 0);
    assert_silent();
    poke("src", 96 * KiB + 512, 7);
    assert_int_equal(io_run(SIM_OP_READ, 96 * KiB, 4096, 0), 0);
    assert_violated("guest-view.content.-.-.raw.read");
}

/* Nobody reads it again: the look at the end finds it. */
static void test_view(void **state)
{
    mirror_world(MiB, 0);
    assert_int_equal(io_run(SIM_OP_WRITE, 64 * KiB, 64 * KiB, 1 << 24), 0);
    poke("src", 64 * KiB, 7);
    settle();
    assert_violated("guest-view.content.-.-.raw.view");
}

/* Whose data it should have been, and what it is. */
static void test_words(void **state)
{
    mirror_world(MiB, 0);
    assert_int_equal(io_run(SIM_OP_WRITE, 64 * KiB, 64 * KiB, UINT64_C(5) << 32 | 128), 0);
    poke("src", 64 * KiB + 512, UINT64_C(0x77777777) << 32);
    settle();
    assert_said("offset 66048 (sector 129): expected the guest write submitted at event ");
    assert_said(" (its sector 129), there since event ");
    assert_said("; seen stamp 0x7777777700000000 of nobody");
}

/* What was read once is known, written or not. */
static void test_unwritten(void **state)
{
    mirror_world(MiB, 512 * KiB);
    assert_int_equal(io_run(SIM_OP_READ, 0, MiB, 0), 0);
    settle();
    assert_silent();
    poke("src", 768 * KiB, 7);
    assert_int_equal(io_run(SIM_OP_READ, 768 * KiB, 512, 0), 0);
    assert_violated("guest-view.content");
}

/* The value before a completed write never comes back. */
static void test_lost_write(void **state)
{
    mirror_world(MiB, 0);
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 8192, 1 << 24), 0);
    arm("lost-write", "{\"disk\":\"src\"}");
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 8192, 2 << 24), 0);
    assert_int_equal(io_run(SIM_OP_READ, 0, 8192, 0), 0);
    assert_violated("guest-view.content");
}

/* Two writes at once: either may win, but once a read has seen the winner the other is out. */
static void test_collapse(void **state)
{
    struct io a, b;

    mirror_world(MiB, 0);
    io_submit(&a, SIM_OP_WRITE, 0, 4096, 1 << 24);
    io_submit(&b, SIM_OP_WRITE, 0, 4096, 2 << 24);
    run_until(flag_set, &a.done);
    run_until(flag_set, &b.done);
    guest_req_clear(&a.req);
    guest_req_clear(&b.req);
    poke("src", 0, 1 << 24);
    assert_int_equal(io_run(SIM_OP_READ, 0, 512, 0), 0);
    assert_silent();
    poke("src", 0, 2 << 24);
    assert_int_equal(io_run(SIM_OP_READ, 0, 512, 0), 0);
    assert_violated("guest-view.content");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/guest-view/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/guest-view/read", test_read, world_setup, world_teardown),
        T_SETUP("/check/guest-view/words", test_words, world_setup, world_teardown),
        T_SETUP("/check/guest-view/view", test_view, world_setup, world_teardown),
        T_SETUP("/check/guest-view/unwritten", test_unwritten, world_setup, world_teardown),
        T_SETUP("/check/guest-view/lost-write", test_lost_write, world_setup, world_teardown),
        T_SETUP("/check/guest-view/collapse", test_collapse, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
