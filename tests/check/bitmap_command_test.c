/* Protects check/bitmap_command: commands about bitmaps that do not do what they reply, or do it although they
 * failed, are reported at once. */
#include "tests/check/bitmap_bent.h"

#define TRANSACTION(...) "{\"actions\":[" __VA_ARGS__ "]}"
#define ACTION(type, data) "{\"type\":\"" type "\",\"data\":" data "}"
#define ADD_C ACTION("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"c\",\"granularity\":4096}")
#define CLEAR_B ACTION("block-dirty-bitmap-clear", NAME_B)
#define ABORT ACTION("abort", "{}")

static void test_silent(void **state)
{
    with_bitmap();
    assert_true(qmp("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"fine\",\"granularity\":512}"));
    assert_int_equal(io_run(SIM_OP_WRITE, 130 * KiB, 1024, 1 << 24), 0);
    assert_false(qmp("transaction", TRANSACTION(CLEAR_B "," ADD_C "," ABORT)));
    assert_int_equal(bdrv_get_dirty_count(b()), 192 * KiB);
    assert_true(qmp("transaction",
                    TRANSACTION(CLEAR_B "," ADD_C "," ACTION(
                        "block-dirty-bitmap-merge", "{\"node\":\"s\",\"target\":\"b\",\"bitmaps\":[\"fine\"]}"))));
    assert_int_equal(bdrv_get_dirty_count(b()), 64 * KiB);
    assert_false(qmp("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"c\"}"));
    assert_true(qmp("block-dirty-bitmap-merge",
                    "{\"node\":\"s\",\"target\":\"c\",\"bitmaps\":[{\"node\":\"s\",\"name\":"
                    "\"b\"},\"fine\"]}"));
    assert_int_equal(bdrv_get_dirty_count(bitmap_of("s", "c")), 64 * KiB);
    assert_true(qmp("block-dirty-bitmap-remove", "{\"node\":\"s\",\"name\":\"c\"}"));
    assert_true(qmp("transaction",
                    TRANSACTION(ADD_C "," ACTION("block-dirty-bitmap-remove", "{\"node\":\"s\",\"name\":\"c\"}"))));
    finish();
    assert_silent();
}

static void test_clear_forgotten(void **state)
{
    with_bitmap();
    assert_true(qmp_by(do_nothing, "block-dirty-bitmap-clear", NAME_B));
    assert_violated("bitmap-exact.bit-extra.-.-.raw.block-dirty-bitmap-clear");
}

static void test_enable_forgotten(void **state)
{
    with_bitmap();
    assert_true(qmp("block-dirty-bitmap-disable", NAME_B));
    assert_true(qmp_by(do_nothing, "block-dirty-bitmap-enable", NAME_B));
    assert_violated("bitmap-exact.flag-wrong.-.-.raw.block-dirty-bitmap-enable");
}

static void test_merge_forgotten(void **state)
{
    with_bitmap();
    assert_true(qmp("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"c\",\"granularity\":4096}"));
    assert_true(
        qmp_by(do_nothing, "block-dirty-bitmap-merge", "{\"node\":\"s\",\"target\":\"c\",\"bitmaps\":[\"b\"]}"));
    assert_violated("bitmap-exact.bit-missing.-.-.raw.block-dirty-bitmap-merge");
}

/* A merge by words that leaves the count as it was. */
static bool merge_stale(struct host *h, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    BdrvDirtyBitmap *c = bitmap_of("s", "c");

    bdrv_merge_dirty_bitmap(c, b(), NULL, errp);
    c->hbitmap->set_count = 0;
    return true;
}

static void test_merge_stale_count(void **state)
{
    with_bitmap();
    assert_true(qmp("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"c\",\"granularity\":65536}"));
    assert_true(
        qmp_by(merge_stale, "block-dirty-bitmap-merge", "{\"node\":\"s\",\"target\":\"c\",\"bitmaps\":[\"b\"]}"));
    assert_violated("bitmap-exact.count-wrong.-.-.raw.block-dirty-bitmap-merge");
}

static bool fail_after_clear(struct host *h, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    bdrv_clear_dirty_bitmap(b(), NULL);
    error_setg(errp, "Transaction aborted using Abort action");
    return false;
}

static void test_abort_forgets_content(void **state)
{
    with_bitmap();
    assert_false(qmp_by(fail_after_clear, "transaction", TRANSACTION(CLEAR_B "," ABORT)));
    assert_violated("bitmap-exact.bit-missing.-.-.raw.transaction");
}

static bool fail_after_disable(struct host *h, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    bdrv_disable_dirty_bitmap(b());
    error_setg(errp, "in use");
    return false;
}

/* The reference's own accident: an enable that fails switches off. */
static void test_failed_enable_disables(void **state)
{
    with_bitmap();
    assert_false(qmp_by(fail_after_disable, "block-dirty-bitmap-enable", NAME_B));
    assert_violated("bitmap-exact.flag-wrong.-.-.raw.block-dirty-bitmap-enable");
}

static void test_remove_forgotten(void **state)
{
    with_bitmap();
    assert_true(qmp_by(do_nothing, "block-dirty-bitmap-remove", NAME_B));
    assert_violated("bitmap-exact.bitmap-extra.-.-.raw.block-dirty-bitmap-remove");
}

static bool fail_after_add(struct host *h, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    assert_non_null(bdrv_create_dirty_bitmap(bdrv_find_node(h, "s"), 4096, "c", NULL));
    error_setg(errp, "late");
    return false;
}

static void test_abort_leaves_bitmap(void **state)
{
    with_bitmap();
    assert_false(qmp_by(fail_after_add, "transaction", TRANSACTION(ADD_C "," ABORT)));
    assert_violated("bitmap-exact.bitmap-extra.-.-.raw.transaction");
}

static bool release_b(struct host *h, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    bdrv_release_dirty_bitmap(b());
    return true;
}

static void test_bitmap_lost(void **state)
{
    with_bitmap();
    assert_true(qmp_by(release_b, "query-block-jobs", "{}"));
    assert_violated("bitmap-exact.bitmap-missing.-.-.raw.query-block-jobs");
}

static void test_add_forgotten(void **state)
{
    with_bitmap();
    assert_true(qmp_by(do_nothing, "block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"c\"}"));
    assert_violated("bitmap-exact.bitmap-missing");
}

static void test_accepts_unknown(void **state)
{
    with_bitmap();
    assert_true(qmp_by(do_nothing, "block-dirty-bitmap-clear", "{\"node\":\"s\",\"name\":\"c\"}"));
    assert_violated("bitmap-exact.not-refused.-.-.-.block-dirty-bitmap-clear");
}

static void test_accepts_duplicate(void **state)
{
    with_bitmap();
    assert_true(qmp_by(do_nothing, "block-dirty-bitmap-add", NAME_B));
    assert_violated("bitmap-exact.not-refused.-.-.raw.block-dirty-bitmap-add");
}

static void test_accepts_abort(void **state)
{
    with_bitmap();
    assert_true(qmp_by(do_nothing, "transaction", TRANSACTION(ABORT)));
    assert_violated("bitmap-exact.not-refused.-.-.-.abort");
}

#define COMMAND(name, fn) T_SETUP("/check/bitmap-command/" name, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        COMMAND("silent", test_silent),
        COMMAND("clear-forgotten", test_clear_forgotten),
        COMMAND("enable-forgotten", test_enable_forgotten),
        COMMAND("merge-forgotten", test_merge_forgotten),
        COMMAND("merge-stale-count", test_merge_stale_count),
        COMMAND("abort-forgets-content", test_abort_forgets_content),
        COMMAND("failed-enable-disables", test_failed_enable_disables),
        COMMAND("remove-forgotten", test_remove_forgotten),
        COMMAND("abort-leaves-bitmap", test_abort_leaves_bitmap),
        COMMAND("bitmap-lost", test_bitmap_lost),
        COMMAND("add-forgotten", test_add_forgotten),
        COMMAND("accepts-unknown", test_accepts_unknown),
        COMMAND("accepts-duplicate", test_accepts_duplicate),
        COMMAND("accepts-abort", test_accepts_abort),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
