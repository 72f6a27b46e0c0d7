/* Protects check/durability: what a guest was told is safe has been flushed as far as that. */
#include <errno.h>

#include "tests/check/check_world.h"

static void one_disk(void)
{
    new_disk("d", MiB);
    add_raw("s", "d");
    add_guest("s");
}

static void test_silent(void **state)
{
    one_disk();
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 1 << 24), 0);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    /* Nothing was written since, so nothing need reach the medium. */
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    finish();
    assert_silent();
}

/* A flush that fails promises nothing; the next one makes up for it. */
static void test_failed(void **state)
{
    one_disk();
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 4096, 1 << 24), 0);
    arm("error", "{\"disk\":\"d\",\"op\":\"flush\",\"errno\":\"EIO\"}");
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), -EIO);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    finish();
    assert_silent();
}

static void test_lying(void **state)
{
    one_disk();
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 4096, 1 << 24), 0);
    arm("lying-flush", "{\"disk\":\"d\"}");
    io_run(SIM_OP_FLUSH, 0, 0, 0);
    assert_violated("durability.flush.-.-.raw.flush");
    assert_said("expected the first 1 writes of disk d to be durable");
}

static void through_entry(void *opaque)
{
    struct guest_config config;

    guest_config_default(&config);
    config.name = "g";
    config.node = "s";
    config.write_cache = false;
    guest = guest_new(host, &config, NULL);
    assert_non_null(guest);
}

static void through_world(void)
{
    new_disk("d", MiB);
    add_raw("s", "d");
    on_main(through_entry, NULL);
}

static void test_through(void **state)
{
    through_world();
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 4096, 1 << 24), 0);
    finish();
    assert_silent();
}

/* As if the backend forgot that its device has no write cache. */
static void test_fua(void **state)
{
    through_world();
    blk_set_enable_write_cache(guest_blk(guest), true);
    io_run(SIM_OP_WRITE, 0, 4096, 1 << 24);
    assert_violated("durability.fua.-.-.raw.write");
    assert_said("expected the first 1 writes of disk d to be durable");
}

static void verify_world(void)
{
    new_disk("a", MiB);
    new_disk("b", MiB);
    assert_true(qmp("blockdev-add",
                    "{\"driver\":\"blkverify\",\"node-name\":\"s\",\"raw\":{\"driver\":\"disk\",\"disk\":\"a\"},"
                    "\"test\":{\"driver\":\"disk\",\"disk\":\"b\"}}"));
    add_guest("s");
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 4096, 1 << 24), 0);
}

/* The image that is only believed is not flushed. */
static void test_verify(void **state)
{
    verify_world();
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    finish();
    assert_silent();
}

static void test_verify_lying(void **state)
{
    verify_world();
    arm("lying-flush", "{\"disk\":\"b\"}");
    io_run(SIM_OP_FLUSH, 0, 0, 0);
    assert_violated("durability.flush.-.-.blkverify.flush");
    assert_said("expected the first 1 writes of disk b to be durable");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/durability/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/durability/failed-flush", test_failed, world_setup, world_teardown),
        T_SETUP("/check/durability/blkverify", test_verify, world_setup, world_teardown),
        T_SETUP("/check/durability/blkverify/lying-flush", test_verify_lying, world_setup, world_teardown),
        T_SETUP("/check/durability/lying-flush", test_lying, world_setup, world_teardown),
        T_SETUP("/check/durability/write-through", test_through, world_setup, world_teardown),
        T_SETUP("/check/durability/write-through-forgotten", test_fua, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
