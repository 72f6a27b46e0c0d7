/* Protects block-dirty-bitmap-merge: what is merged, what is refused, and that a failure leaves every bit. */
#include "tests/monitor/qmplib.h"

static void mark(const char *name, int64_t offset, int64_t bytes)
{
    bdrv_set_dirty_bitmap(bitmap_of("s", name), offset, bytes);
}

#define MERGE(list) "{\"node\":\"s\",\"target\":\"b\",\"bitmaps\":[" list "]}"

/* fact: bitmaps 3/merge, 3/merge-empty */
static void test_merge(void **state)
{
    add_bitmap("s", "b", 65536);
    add_bitmap("s", "c", 131072);
    add_bitmap("p", "d", 65536);
    ok("block-dirty-bitmap-disable", "{\"node\":\"s\",\"name\":\"c\"}");
    mark("b", 65536, 1);
    mark("c", 262144, 1);
    bdrv_set_dirty_bitmap(bitmap_of("p", "d"), 1048064, 512);
    ok("block-dirty-bitmap-merge", MERGE(""));
    expect_bitmaps("s", "c:=2, b:e=1, ");
    ok("block-dirty-bitmap-merge", MERGE("\"b\"")); /* itself */
    expect_bitmaps("s", "c:=2, b:e=1, ");
    ok("block-dirty-bitmap-merge", MERGE("\"c\",{\"node\":\"p\",\"name\":\"d\"},\"b\",{\"node\":\"g\","
                                         "\"name\":\"c\"}"));
    expect_bitmaps("s", "c:=2, b:e=1,4,5,15, ");
    expect_bitmaps("p", "d:e=15, ");
    ok("block-dirty-bitmap-merge", "{\"node\":\"g\",\"target\":\"c\",\"bitmaps\":[\"b\"]}"); /* fine to coarse */
    expect_bitmaps("s", "c:=0,2,7, b:e=1,4,5,15, ");
}

/* One thing wrong at the target. */
static void merge_refused(const char *json, const char *text)
{
    char *before = bitmaps_text("s");

    expect("block-dirty-bitmap-merge", json, text);
    expect_bitmaps("s", before);
    free(before);
}

/* fact: bitmaps 3/merge-checks, edge/17 */
static void test_merge_checks(void **state)
{
    add_bitmap("s", "c", 65536);
    add_bitmap("s", "b", 65536);
    mark("c", 0, 1);
    BdrvDirtyBitmap *b = bitmap_of("s", "b");
    bdrv_dirty_bitmap_set_readonly(b, true);
    merge_refused(MERGE("\"c\""), BITMAP_READONLY("b"));
    merge_refused(MERGE(""), BITMAP_READONLY("b"));
    ok("block-dirty-bitmap-merge", "{\"node\":\"s\",\"target\":\"c\",\"bitmaps\":[\"b\"]}"); /* source may be */
    bdrv_dirty_bitmap_set_readonly(b, false);
    bdrv_dirty_bitmap_set_busy(b, true);
    merge_refused(MERGE("\"c\""), BITMAP_BUSY("b"));
    merge_refused("{\"node\":\"s\",\"target\":\"c\",\"bitmaps\":[\"b\"]}", BITMAP_BUSY("b"));
    bdrv_dirty_bitmap_set_busy(b, false);
    make_inconsistent(b);
    merge_refused(MERGE("\"c\""), BITMAP_INCONSISTENT("b"));
    merge_refused("{\"node\":\"s\",\"target\":\"c\",\"bitmaps\":[\"b\"]}", BITMAP_INCONSISTENT("b"));
}

/* fact: bitmaps 3/merge-checks, edge/11 */
static void test_merge_sizes(void **state)
{
    add_bitmap("s", "b", 65536);
    mark("b", 0, 1);
    ok("block-dirty-bitmap-add", "{\"node\":\"p\",\"name\":\"c\",\"granularity\":512}");
    ok("block_resize", "{\"node-name\":\"s\",\"size\":1049088}");
    merge_refused(
        MERGE("{\"node\":\"p\",\"name\":\"c\"}"),
        "GenericError: Bitmaps are of different sizes (destination size is 1049088, source size is 1048576) "
        "and can't be merged");
}

/* fact: bitmaps 3/merge-restores, 3/not-found, edge/11 */
static void test_merge_restores(void **state)
{
    add_bitmap("s", "d", 65536);
    add_bitmap("s", "c", 65536);
    add_bitmap("s", "b", 65536);
    mark("b", 0, 1);
    mark("c", 65536, 1);
    mark("d", 131072, 1);
    merge_refused(MERGE("\"x\""), "GenericError: Dirty bitmap 'x' not found");
    merge_refused(MERGE("\"c\",\"d\",\"x\""), "GenericError: Dirty bitmap 'x' not found");
    merge_refused(MERGE("\"c\",{\"node\":\"p\",\"name\":\"d\"},\"d\""), "GenericError: Dirty bitmap 'd' not found");
    merge_refused(MERGE("\"c\",{\"node\":\"x\",\"name\":\"d\"}"), "GenericError: Node 'x' not found");
    bdrv_dirty_bitmap_set_busy(bitmap_of("s", "d"), true);
    merge_refused(MERGE("\"c\",\"b\",\"d\""),
                  "GenericError: Bitmap 'd' is currently in use by another operation and cannot be used");
    bdrv_dirty_bitmap_set_busy(bitmap_of("s", "d"), false);
    expect_bitmaps("s", "b:e=0, c:e=1, d:e=2, ");
}

/* fact: bitmaps 3/merge */
static void test_merge_arguments(void **state)
{
    add_bitmap("s", "b", 65536);
    refused("block-dirty-bitmap-merge", "{\"node\":\"s\",\"target\":\"b\"}",
            "GenericError: Parameter 'bitmaps' is missing");
    refused("block-dirty-bitmap-merge", "{\"node\":\"s\",\"target\":\"b\",\"bitmaps\":\"b\"}",
            "GenericError: Invalid parameter type for 'bitmaps', expected: array");
    refused("block-dirty-bitmap-merge", MERGE("\"b\",1"),
            "GenericError: Invalid parameter type for 'bitmaps[1]', expected: BlockDirtyBitmapOrStr");
    refused("block-dirty-bitmap-merge", MERGE("{\"node\":\"s\"}"),
            "GenericError: Parameter 'bitmaps[0].name' is missing");
    refused("block-dirty-bitmap-merge", MERGE("\"b\",{\"node\":\"s\",\"name\":\"b\",\"size\":1}"),
            "GenericError: Parameter 'bitmaps[1].size' is unexpected");
    refused("block-dirty-bitmap-merge", MERGE("{\"node\":\"s\",\"name\":[]}"),
            "GenericError: Invalid parameter type for 'bitmaps[0].name', expected: string");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/monitor/bitmap/merge", test_merge, keeper_setup, keeper_teardown),
        T_SETUP("/monitor/bitmap/merge/checks", test_merge_checks, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/bitmap/merge/sizes", test_merge_sizes, keeper_setup, keeper_teardown),
        T_SETUP("/monitor/bitmap/merge/restores", test_merge_restores, keeper_setup, keeper_teardown),
        T_SETUP("/monitor/bitmap/merge/arguments", test_merge_arguments, qmp_setup, qmp_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
