/* Protects check/blkverify: images that differ, and images of which only one fails. */
#include "tests/check/check_world.h"

static void verify_world(void)
{
    new_disk("a", MiB);
    new_disk("b", MiB);
    assert_true(qmp("blockdev-add",
                    "{\"driver\":\"blkverify\",\"node-name\":\"s\",\"raw\":{\"driver\":\"disk\",\"disk\":\"a\"},"
                    "\"test\":{\"driver\":\"disk\",\"disk\":\"b\"}}"));
    add_guest("s");
}

static void test_silent(void **state)
{
    verify_world();
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 1 << 24), 0);
    assert_int_equal(io_run(SIM_OP_READ, 0, MiB, 0), 0);
    finish();
    assert_silent();
}

/* Somebody writes behind the back of the node. */
static void test_content(void **state)
{
    struct payload data;

    verify_world();
    payload_init(world, &data);
    payload_append_fill(&data, 0x33, 512);
    disk_poke(disk_find(world, "b"), 4096, &data);
    payload_clear(&data);
    io_run(SIM_OP_READ, 0, 64 * KiB, 0);
    assert_violated("blkverify.content.-.-.blkverify.read");
    assert_said("read of 65536 bytes at 0: the images differ from byte 4096 on");
}

static void test_result(void **state)
{
    verify_world();
    arm("error", "{\"disk\":\"b\",\"op\":\"write\",\"errno\":\"EIO\"}");
    io_run(SIM_OP_WRITE, 0, 4096, 1 << 24);
    assert_violated("blkverify.result.-.-.blkverify.write");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/blkverify/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/blkverify/content", test_content, world_setup, world_teardown),
        T_SETUP("/check/blkverify/result", test_result, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
