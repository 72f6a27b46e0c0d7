/* Protects the block-dirty-bitmap-* commands: effects, every refusal with its text, and that refusals change
 * nothing. */
#include "tests/monitor/qmplib.h"

#define B "{\"node\":\"s\",\"name\":\"b\"}"

static void mark(const char *name, int64_t offset, int64_t bytes)
{
    bdrv_set_dirty_bitmap(bitmap_of("s", name), offset, bytes);
}

/* --- add ------------------------------------------------------------------------------------------------- */

/* fact: bitmaps 3/add, 3/node-or-device */
static void test_add(void **state)
{
    ok("block-dirty-bitmap-add", "{\"node\":\"g\",\"name\":\"b\"}");
    ok("block-dirty-bitmap-add",
       "{\"node\":\"s\",\"name\":\"c\",\"granularity\":\"256k\",\"disabled\":true,\"persistent\":false}");
    add_bitmap("s", "d", 512);
    ok("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"e\",\"granularity\":\"2G\"}");
    assert_int_equal(bdrv_dirty_bitmap_granularity(bitmap_of("s", "b")), 65536);
    assert_int_equal(bdrv_dirty_bitmap_granularity(bitmap_of("s", "c")), 262144);
    assert_int_equal(bdrv_dirty_bitmap_granularity(bitmap_of("s", "d")), 512);
    assert_true(bdrv_dirty_bitmap_granularity(bitmap_of("s", "e")) == 2u << 30);
    expect_bitmaps("s", "e:e= d:e= c:= b:e= ");
}

/* fact: bitmaps 2.1/name, 2.1/name-unique */
static void test_names(void **state)
{
    static const char before[] = "{\"node\":\"s\",\"name\":\"";
    char name[1025];
    char json[1100];
    char text[1100];

    memset(name, 'n', 1024);
    name[1024] = '\0';
    snprintf(json, sizeof(json), "%s%s\"}", before, name);
    snprintf(text, sizeof(text), "GenericError: Bitmap name too long: %s", name);
    refused("block-dirty-bitmap-add", json, text);
    name[1023] = '\0';
    snprintf(json, sizeof(json), "%s%s\"}", before, name);
    ok("block-dirty-bitmap-add", json);
    snprintf(text, sizeof(text), "GenericError: Bitmap already exists: %s", name);
    refused("block-dirty-bitmap-add", json, text);
    ok("block-dirty-bitmap-clear", json);
    add_bitmap("p", "b", 65536);
    add_bitmap("s", "b", 65536); /* other nodes may have one of that name */
    refused("block-dirty-bitmap-add", B, "GenericError: Bitmap already exists: b");
    refused("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"\"}",
            "GenericError: Bitmap name cannot be empty");
}

/* fact: bitmaps 3/add-errors, 2.1/granularity */
static void test_add_errors(void **state)
{
    static const char granularity[] = "GenericError: Granularity must be power of 2 and at least 512";

    refused("block-dirty-bitmap-add", "{\"node\":\"x\",\"name\":\"b\"}",
            "GenericError: Cannot find device='x' nor node-name='x'");
    refused("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\",\"granularity\":\"96k\"}", granularity);
    refused("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\",\"granularity\":256}", granularity);
    refused("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\",\"granularity\":0}", granularity);
    refused("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\",\"granularity\":\"3G\"}", granularity);
    refused("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\",\"granularity\":\"4G\"}",
            "GenericError: Parameter 'granularity' expects uint32_t");
    refused("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\",\"granularity\":-512}",
            "GenericError: Parameter 'granularity' expects uint64");
    refused("block-dirty-bitmap-add", "{\"node\":\"s\"}", "GenericError: Parameter 'name' is missing");
    expect_bitmaps("s", "");
}

/* fact: bitmaps 3/add-errors, 2.1/length-error */
static void test_add_no_length(void **state)
{
    bed_fail(SIM_OP_GETLENGTH, EIO, 1);
    refused("block-dirty-bitmap-add", B, "GenericError: could not get length of device: Input/output error");
    expect_bitmaps("s", "");
    ok("block-dirty-bitmap-add", B);
}

/* fact: bitmaps 3/add-persistent */
static void test_add_persistent_unsupported(void **state)
{
    static const char json[] = "{\"node\":\"g\",\"name\":\"b\",\"persistent\":true}";

    refused("block-dirty-bitmap-add", json,
            "GenericError: Can't store persistent bitmaps to s: Operation not supported");
    ok("block-dirty-bitmap-add", B);
    refused("block-dirty-bitmap-add", json,
            "GenericError: Can't store persistent bitmaps to s: Operation not supported");
}

/* fact: bitmaps 3/add-persistent-prefix, 2.1/persistent */
static void test_add_persistent(void **state)
{
    static const char json[] = "{\"node\":\"p\",\"name\":\"b\",\"persistent\":true,\"disabled\":true}";
    static const char *const reasons[] = {
        "Cannot store dirty bitmaps in qcow2 v2 files",
        "Granularity exceeds maximum (2147483648 bytes)",
        "Granularity is under minimum (512 bytes)",
        "Too much space will be occupied by the bitmap. Use larger granularity",
        "Name length exceeds maximum (1023 characters)",
        "Maximum number of persistent bitmaps is already reached",
        "Not enough space in the bitmap directory",
    };
    char text[200];

    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        keeper.why_not = reasons[i];
        snprintf(text, sizeof(text), "GenericError: Can't make bitmap 'b' persistent in 'p': %s", reasons[i]);
        refused("block-dirty-bitmap-add", json, text);
    }
    ok("block-dirty-bitmap-add", "{\"node\":\"p\",\"name\":\"c\"}"); /* not for storing: nobody is asked */
    keeper.why_not = NULL;
    assert_true(bdrv_is_read_only(keeper.bs));
    ok("block-dirty-bitmap-add", json);
    expect_bitmaps("p", "b:p= c:e= ");
    refused("block-dirty-bitmap-add", json, "GenericError: Bitmap already exists: b"); /* without the prefix */
    keeper.why_not = reasons[0];
    refused("block-dirty-bitmap-add", json, "GenericError: Bitmap already exists: b");
}

/* fact: bitmaps edge/24, 2.1/granularity-default */
static void test_default_granularity(void **state)
{
    static const struct {
        int64_t cluster_size;
        uint32_t granularity;
    } rows[] = {{0, 65536}, {512, 4096}, {4096, 4096}, {16384, 16384}, {65536, 65536}, {2 * MiB, 65536}};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        keeper.cluster_size = rows[i].cluster_size;
        ok("block-dirty-bitmap-add", "{\"node\":\"p\",\"name\":\"b\"}");
        assert_int_equal(bdrv_dirty_bitmap_granularity(bitmap_of("p", "b")), rows[i].granularity);
        ok("block-dirty-bitmap-remove", "{\"node\":\"p\",\"name\":\"b\"}");
    }
}

/* --- remove, clear, enable, disable ---------------------------------------------------------------------- */

/* fact: bitmaps 3/remove, 3/clear, 3/enable-disable, 2.1/busy, 2.1/readonly, 2.1/inconsistent, 2.1/check-order,
 * edge/17, edge/18 */
static void test_conditions(void **state)
{
    ok("block-dirty-bitmap-add", B);
    mark("b", 65536, 1);
    BdrvDirtyBitmap *bitmap = bitmap_of("s", "b");
    bdrv_dirty_bitmap_set_readonly(bitmap, true);
    refused("block-dirty-bitmap-remove", B, BITMAP_READONLY("b"));
    refused("block-dirty-bitmap-clear", B, BITMAP_READONLY("b"));
    ok("block-dirty-bitmap-disable", B);
    expect_bitmaps("s", "b:r=1, ");
    ok("block-dirty-bitmap-enable", B);
    expect_bitmaps("s", "b:er=1, ");
    make_inconsistent(bitmap); /* readonly is told before it */
    refused("block-dirty-bitmap-clear", B, BITMAP_READONLY("b"));
    refused("block-dirty-bitmap-remove", B, BITMAP_READONLY("b"));
    refused("block-dirty-bitmap-enable", B, BITMAP_INCONSISTENT("b"));
    refused("block-dirty-bitmap-disable", B, BITMAP_INCONSISTENT("b"));
    bdrv_dirty_bitmap_set_busy(bitmap, true); /* busy before all */
    refused("block-dirty-bitmap-clear", B, BITMAP_BUSY("b"));
    refused("block-dirty-bitmap-remove", B, BITMAP_BUSY("b"));
    refused("block-dirty-bitmap-enable", B, BITMAP_BUSY("b"));
    refused("block-dirty-bitmap-disable", B, BITMAP_BUSY("b"));
    bdrv_dirty_bitmap_set_busy(bitmap, false);
    bdrv_dirty_bitmap_set_readonly(bitmap, false);
    refused("block-dirty-bitmap-clear", B, BITMAP_INCONSISTENT("b"));
    refused("block-dirty-bitmap-add", B, "GenericError: Bitmap already exists: b");
    expect_bitmaps("s", "b:pi=1, ");
    ok("block-dirty-bitmap-remove", B);
    expect_bitmaps("s", "");
}

/* fact: bitmaps 3/clear, 3/enable-disable, 2.1/disabled, 2.1/recording */
static void test_recording(void **state)
{
    ok("block-dirty-bitmap-add", B);
    write_bytes(0, 66048);
    expect_bitmaps("s", "b:e=0,1, ");
    ok("block-dirty-bitmap-disable", "{\"node\":\"g\",\"name\":\"b\"}");
    ok("block-dirty-bitmap-disable", B);
    write_bytes(131072, 512);
    expect_bitmaps("s", "b:=0,1, ");
    ok("block-dirty-bitmap-clear", B);
    expect_bitmaps("s", "b:= ");
    ok("block-dirty-bitmap-enable", B);
    ok("block-dirty-bitmap-enable", B);
    write_bytes(131072, 512);
    expect_bitmaps("s", "b:e=2, ");
}

/* fact: bitmaps 3/remove-persistent */
static void test_remove_persistent(void **state)
{
    ok("block-dirty-bitmap-add", "{\"node\":\"p\",\"name\":\"b\",\"persistent\":true}");
    ok("block-dirty-bitmap-add", "{\"node\":\"p\",\"name\":\"c\"}");
    keeper.erase_ret = -EIO;
    refused("block-dirty-bitmap-remove", "{\"node\":\"p\",\"name\":\"b\"}",
            "GenericError: Failed to remove bitmap 'b' from 'p': Input/output error");
    expect_bitmaps("p", "c:e= b:ep= ");
    ok("block-dirty-bitmap-remove", "{\"node\":\"p\",\"name\":\"c\"}"); /* not stored: nobody is asked */
    assert_string_equal(keeper.erased, "");
    keeper.erase_ret = 0;
    ok("block-dirty-bitmap-remove", "{\"node\":\"p\",\"name\":\"b\"}");
    assert_string_equal(keeper.erased, "b ");
    expect_bitmaps("p", "");
    ok("block-dirty-bitmap-add", "{\"node\":\"p\",\"name\":\"b\",\"persistent\":true}");
    make_inconsistent(bitmap_of("p", "b"));
    ok("block-dirty-bitmap-remove", "{\"node\":\"p\",\"name\":\"b\"}");
    assert_string_equal(keeper.erased, "b b ");
}

/* fact: bitmaps 3/not-found */
static void test_not_found(void **state)
{
    static const char *const commands[] = {
        "block-dirty-bitmap-remove",  "block-dirty-bitmap-clear",          "block-dirty-bitmap-enable",
        "block-dirty-bitmap-disable", "x-debug-block-dirty-bitmap-sha256",
    };

    ok("block-dirty-bitmap-add", B);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        refused(commands[i], "{\"node\":\"x\",\"name\":\"b\"}", "GenericError: Node 'x' not found");
        refused(commands[i], "{\"node\":\"s\",\"name\":\"c\"}", "GenericError: Dirty bitmap 'c' not found");
        refused(commands[i], "{\"node\":\"s\",\"name\":\"\"}", "GenericError: Dirty bitmap '' not found");
        refused(commands[i], "{\"node\":\"s\"}", "GenericError: Parameter 'name' is missing");
    }
    refused("block-dirty-bitmap-merge", "{\"node\":\"x\",\"target\":\"b\",\"bitmaps\":[]}",
            "GenericError: Node 'x' not found");
    refused("block-dirty-bitmap-merge", "{\"node\":\"s\",\"target\":\"c\",\"bitmaps\":[\"b\"]}",
            "GenericError: Dirty bitmap 'c' not found");
}

/* Hashes of reference/vectors/bitmap-sha256.tsv. */
/* fact: bitmaps 3/sha256, edge/18 */
static void test_sha256(void **state)
{
    ok("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\",\"granularity\":65536}");
    expect("x-debug-block-dirty-bitmap-sha256", "{\"node\":\"g\",\"name\":\"b\"}",
           "{\"sha256\":\"af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc\"}");
    mark("b", 0, 66048);
    BdrvDirtyBitmap *bitmap = bitmap_of("s", "b");
    bdrv_dirty_bitmap_set_readonly(bitmap, true);
    make_inconsistent(bitmap);
    bdrv_dirty_bitmap_set_busy(bitmap, true);
    expect("x-debug-block-dirty-bitmap-sha256", "{\"node\":\"g\",\"name\":\"b\"}",
           "{\"sha256\":\"35be322d094f9d154a8aba4733b8497f180353bd7ae7b0a15f90b586b549f28b\"}");
    bdrv_dirty_bitmap_set_busy(bitmap, false);
}

/* --- query ----------------------------------------------------------------------------------------------- */

/* The list of a node as queries show it, from either query; the caller frees it. */
static char *queried(const char *command)
{
    char *text = call(command, "{}");
    char *start = strstr(text, "\"dirty-bitmaps\":");
    char *end = start ? strstr(start, "],\"image\"") : NULL;

    assert_non_null(end);
    start = strndup(start + strlen("\"dirty-bitmaps\":"), (size_t)(end + 1 - start) - strlen("\"dirty-bitmaps\":"));
    free(text);
    return start;
}

static void anonymous(void *opaque)
{
    assert_non_null(bdrv_create_dirty_bitmap(bdrv_find_node(bed.host, "s"), 4096, NULL, NULL));
}

/* fact: bitmaps 3/query, 2.2/query, 2.1/list, 2.1/anonymous, 2.1/recording, 2.1/persistent, 2.1/inconsistent */
static void test_query(void **state)
{
    static const char *const queries[] = {"query-block", "query-named-block-nodes"};

    add_bitmap("s", "b", 65536);
    write_bytes(65024, 1024);
    bed_on_main(anonymous);
    add_bitmap("s", "c", 512);
    assert_int_equal(bdrv_dirty_bitmap_create_successor(bitmap_of("s", "b"), NULL), 0);
    make_inconsistent(bitmap_of("s", "c"));
    bdrv_dirty_bitmap_skip_store(bitmap_of("s", "c"), true);
    for (size_t i = 0; i < ARRAY_SIZE(queries); i++) {
        expect_text(queried(queries[i]),
                    "[{\"count\":0,\"granularity\":65536,\"recording\":true,\"busy\":false,\"persistent\":false},"
                    "{\"name\":\"c\",\"count\":0,\"granularity\":512,\"recording\":false,\"busy\":false,"
                    "\"persistent\":true,\"inconsistent\":true},"
                    "{\"count\":0,\"granularity\":4096,\"recording\":true,\"busy\":false,\"persistent\":false},"
                    "{\"name\":\"b\",\"count\":131072,\"granularity\":65536,\"recording\":true,\"busy\":true,"
                    "\"persistent\":false}]");
    }
    bdrv_reclaim_dirty_bitmap(bitmap_of("s", "b"), NULL);
}

/* --- block_resize ---------------------------------------------------------------------------------------- */

/* fact: bitmaps 2.1/size, edge/6 */
static void test_resize(void **state)
{
    add_bitmap("s", "b", 65536);
    write_bytes(0, MiB);
    ok("block_resize", "{\"device\":\"g\",\"size\":100352}"); /* inside the second group */
    expect_bitmaps("s", "b:e=0,1, ");
    ok("block_resize", "{\"device\":\"g\",\"size\":262144}");
    expect_bitmaps("s", "b:e=0,1, ");
    bed_fail(SIM_OP_TRUNCATE, EIO, 1);
    char *text = call("block_resize", "{\"device\":\"g\",\"size\":512}");
    assert_non_null(strstr(text, "GenericError: "));
    free(text);
    expect_bitmaps("s", "b:e=0,1, ");
    assert_int_equal(bdrv_dirty_bitmap_size(bitmap_of("s", "b")), 262144);
    bed_fail(SIM_OP_GETLENGTH, EIO, 1); /* resized, but nobody can say so: all learn of it none the less */
    expect("block_resize", "{\"device\":\"g\",\"size\":327680}",
           "GenericError: Could not refresh total sector count: Input/output error");
    assert_int_equal(bdrv_dirty_bitmap_size(bitmap_of("s", "b")), 327680);
    bed_fail(SIM_OP_GETLENGTH, EIO, 1); /* who had to be only so long may be longer: no bit is dropped */
    expect("block_resize", "{\"device\":\"g\",\"size\":131072}",
           "GenericError: Could not refresh total sector count: Input/output error");
    assert_int_equal(bdrv_dirty_bitmap_size(bitmap_of("s", "b")), 327680);
}

static BlockBackend *unsharing;

static void unshare_resize(void *opaque)
{
    unsharing = blk_new(bed.host, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE);
    assert_int_equal(blk_insert_bs(unsharing, bdrv_find_node(bed.host, "s"), NULL), 0);
}

static void share_resize(void *opaque)
{
    blk_unref(unsharing);
}

/* Refused: the bitmap stays as long as its node. */
static void resize_refused(const char *json, const char *why)
{
    char *text = call("block_resize", json);

    assert_int_equal(strncmp(text, "GenericError: ", 14), 0);
    if (!strstr(text, why)) {
        fail_msg("'%s' does not say '%s'", text, why);
    }
    free(text);
    assert_int_equal(bdrv_dirty_bitmap_size(bitmap_of("s", "b")), MiB);
    assert_int_equal(disk_length(bed.disk), MiB);
}

/* fact: block 9/resize, 12/inactive-resize */
static void test_resize_errors(void **state)
{
    add_bitmap("s", "b", 65536);
    resize_refused("{\"device\":\"g\",\"size\":-1}", "Parameter 'size' expects a >0 size");
    resize_refused("{\"device\":\"g\"}", "Parameter 'size' is missing");
    resize_refused("{\"device\":\"g\",\"size\":\"9223372036854774784\"}", "");
    resize_refused("{\"size\":512}", "Cannot find device='' nor node-name=''");
    resize_refused("{\"device\":\"g\",\"node-name\":\"s\",\"size\":[]}", "Invalid parameter type for 'size'");
    bed_on_main(unshare_resize);
    resize_refused("{\"node-name\":\"s\",\"size\":512}", "resize");
    bed_on_main(share_resize);
    ok("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"i\",\"size\":1048576,\"active\":false}");
    resize_refused("{\"node-name\":\"i\",\"size\":512}", "inactive");
    ok("blockdev-del", "{\"node-name\":\"i\"}");
    resize_refused("{\"node-name\":\"p\",\"size\":512}", "read-only");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/monitor/bitmap/add", test_add, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/bitmap/add/names", test_names, keeper_setup, keeper_teardown),
        T_SETUP("/monitor/bitmap/add/errors", test_add_errors, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/bitmap/add/no-length/b8afb52", test_add_no_length, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/bitmap/add/persistent-unsupported", test_add_persistent_unsupported, qmp_setup,
                qmp_teardown),
        T_SETUP("/monitor/bitmap/add/persistent", test_add_persistent, keeper_setup, keeper_teardown),
        T_SETUP("/monitor/bitmap/add/default-granularity/eee13df", test_default_granularity, keeper_setup,
                keeper_teardown),
        T_SETUP("/monitor/bitmap/conditions", test_conditions, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/bitmap/recording", test_recording, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/bitmap/remove/persistent", test_remove_persistent, keeper_setup, keeper_teardown),
        T_SETUP("/monitor/bitmap/not-found", test_not_found, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/bitmap/sha256", test_sha256, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/bitmap/query", test_query, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/bitmap/resize", test_resize, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/bitmap/resize/errors", test_resize_errors, keeper_setup, keeper_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
