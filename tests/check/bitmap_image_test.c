/* Protects check/bitmap_exact over images: what nobody wrote is not dirty there either, whether the bitmap was
 * made, loaded, or in between written by somebody of whom the checker hears too little. */
#include "tests/check/bitmap_bent.h"
#include "tests/check/qcow2_world.h"

#define FINE "{\"node\":\"s\",\"name\":\"b\",\"granularity\":4096}"

/* 4 KiB clusters; group 16 is dirty. */
static void with_image_bitmap(void)
{
    image_world("v3-data-4k");
    assert_true(qmp("block-dirty-bitmap-add", FINE));
    assert_int_equal(write_stamped(1, 64 * KiB, 512), 0);
    settle();
    assert_silent();
}

static void test_extra(void **state)
{
    with_image_bitmap();
    hbitmap_set(b()->hbitmap, 128 * KiB, 1);
    settle();
    assert_violated("bitmap-exact.bit-extra.-.-.qcow2");
}

/* A discard within a cluster changes nothing there and marks all the same. */
static void test_missing_discard(void **state)
{
    with_image_bitmap();
    assert_int_equal(io_run(SIM_OP_DISCARD, 128 * KiB, 512, 0), 0);
    settle();
    assert_silent();
    hbitmap_reset(b()->hbitmap, 128 * KiB, 4 * KiB);
    settle();
    assert_violated("bitmap-exact.bit-missing.-.-.qcow2");
}

/* The group beside that of the write: rounded too far, or marked for what was copied around it. */
static void test_extra_beside_write(void **state)
{
    with_image_bitmap();
    assert_int_equal(write_stamped(2, 128 * KiB, 512), 0);
    assert_silent();
    hbitmap_set(b()->hbitmap, 252 * KiB, 1);
    assert_int_equal(write_stamped(3, 256 * KiB, 512), 0);
    assert_violated("bitmap-exact.bit-extra.-.-.qcow2.write");
}

static void test_extra_after_growth(void **state)
{
    with_image_bitmap();
    assert_true(qmp("block_resize", "{\"node-name\":\"s\",\"size\":8388608}"));
    assert_silent();
    hbitmap_set(b()->hbitmap, 8 * MiB - 1, 1);
    look();
    assert_violated("bitmap-exact.bit-extra.-.-.qcow2");
}

static void test_extra_loaded(void **state)
{
    image_world("bitmaps-clean-4k");
    settle();
    assert_silent();
    hbitmap_set(bitmap_of("s", "empty")->hbitmap, 0, 1);
    settle();
    assert_violated("bitmap-exact.bit-extra.-.-.qcow2");
}

/* Below nodes that pass on what guests write. */
static void test_extra_below_filter(void **state)
{
    load_image("v3-data-4k");
    add_node();
    assert_true(qmp("blockdev-add", "{\"driver\":\"blkdebug\",\"node-name\":\"f\",\"image\":\"s\"}"));
    add_guest("f");
    assert_true(qmp("block-dirty-bitmap-add", FINE));
    assert_int_equal(write_stamped(1, 64 * KiB, 512), 0);
    settle();
    assert_silent();
    hbitmap_set(b()->hbitmap, 128 * KiB, 1);
    settle();
    assert_violated("bitmap-exact.bit-extra.-.-.qcow2");
}

/* What a job writes into the image is not known bit by bit; when it is gone, guests are alone again. */
static void test_job_between(void **state)
{
    load_image("bitmaps-clean-4k");
    add_node();
    new_disk("src", 2 * MiB);
    add_raw("d", "src");
    assert_true(qmp("block-dirty-bitmap-add", FINE));
    assert_true(qmp("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"d\",\"target\":\"s\",\"sync\":\"full\"}"));
    wait_ready();
    complete_mirror();
    add_guest("s");
    settle();
    assert_silent();
    assert_true(qmp("block-dirty-bitmap-clear", NAME_B));
    settle();
    hbitmap_set(b()->hbitmap, MiB, 1);
    settle();
    assert_violated("bitmap-exact.bit-extra.-.-.qcow2");
}

#define IMAGE(name, fn) T_SETUP("/check/bitmap-exact/image/" name, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IMAGE("extra", test_extra),
        IMAGE("missing-discard", test_missing_discard),
        IMAGE("extra-beside-write", test_extra_beside_write),
        IMAGE("extra-after-growth", test_extra_after_growth),
        IMAGE("extra-loaded", test_extra_loaded),
        IMAGE("extra-below-filter", test_extra_below_filter),
        IMAGE("job-between", test_job_between),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
