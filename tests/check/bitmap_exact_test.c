/* Protects check/bitmap_exact: a bit too few or too many is reported, also while a mirror clears and sets its own.
 */
#include "block/hbitmap.h"
#include "tests/check/check_world.h"

static HBitmap *bits_of(const char *node)
{
    BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(bdrv_find_node(host, node), "b");

    assert_non_null(bitmap);
    return (HBitmap *)bdrv_dirty_bitmap_hbitmap(bitmap); /* behind everybody's back */
}

static void with_bitmap(void)
{
    mirror_world(4 * MiB, MiB);
    assert_true(qmp("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\",\"granularity\":65536}"));
    assert_int_equal(io_run(SIM_OP_WRITE, 100 * KiB, 64 * KiB, 1 << 24), 0);
    assert_int_equal(io_run(SIM_OP_DISCARD, 2 * MiB, 64 * KiB, 0), 0);
    settle();
    assert_silent();
}

static void test_silent(void **state)
{
    with_bitmap();
    assert_true(start_mirror(",\"granularity\":4096,\"speed\":8388608"));
    for (int i = 0; i < 40; i++) {
        assert_int_equal(
            io_run(i % 3 ? SIM_OP_WRITE : SIM_OP_WRITE_ZEROES, (i * 37 % 100) * 8 * KiB, 12 * KiB, 1 << 24), 0);
    }
    assert_true(qmp("block-dirty-bitmap-clear", "{\"node\":\"s\",\"name\":\"b\"}"));
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 512, 1 << 24), 0);
    wait_ready();
    complete_mirror();
    finish();
    assert_silent();
}

static void test_missing(void **state)
{
    with_bitmap();
    hbitmap_reset(bits_of("s"), 64 * KiB, 64 * KiB);
    settle();
    assert_violated("bitmap-exact.bit-missing.-.-.raw");
}

static void test_missing_discard(void **state)
{
    with_bitmap();
    hbitmap_reset(bits_of("s"), 2 * MiB, 64 * KiB);
    settle();
    assert_violated("bitmap-exact.bit-missing");
}

static void test_extra(void **state)
{
    with_bitmap();
    hbitmap_set(bits_of("s"), 3 * MiB, 1);
    settle();
    assert_violated("bitmap-exact.bit-extra.-.-.raw");
}

/* A disabled bitmap owes nothing. */
static void test_disabled(void **state)
{
    with_bitmap();
    assert_true(qmp("block-dirty-bitmap-disable", "{\"node\":\"s\",\"name\":\"b\"}"));
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 512, 1 << 24), 0);
    settle();
    assert_silent();
    assert_true(qmp("block-dirty-bitmap-enable", "{\"node\":\"s\",\"name\":\"b\"}"));
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 512, 1 << 24), 0);
    finish();
    assert_silent();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/bitmap-exact/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/bitmap-exact/missing", test_missing, world_setup, world_teardown),
        T_SETUP("/check/bitmap-exact/missing-discard", test_missing_discard, world_setup, world_teardown),
        T_SETUP("/check/bitmap-exact/extra", test_extra, world_setup, world_teardown),
        T_SETUP("/check/bitmap-exact/disabled", test_disabled, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
