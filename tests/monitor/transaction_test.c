/* Protects `transaction`: all or none, in order, undone newest first; one point in time; each bitmap action. */
#include "tests/monitor/qmplib.h"

#include "monitor/transaction.h"

/* Actions on node s. */
#define ACTION(type, data) "{\"type\":\"" type "\",\"data\":{" data "}}"
#define NAMED(type, name) ACTION("block-dirty-bitmap-" type, "\"node\":\"s\",\"name\":\"" name "\"")
#define ADD(name) NAMED("add", name)
#define REMOVE(name) NAMED("remove", name)
#define CLEAR(name) NAMED("clear", name)
#define ENABLE(name) NAMED("enable", name)
#define DISABLE(name) NAMED("disable", name)
#define MERGE(target, sources) \
    ACTION("block-dirty-bitmap-merge", "\"node\":\"s\",\"target\":\"" target "\",\"bitmaps\":[" sources "]")
#define ABORT ACTION("abort", "")
#define LIST(actions) "{\"actions\":[" actions "]}"
#define ABORTED "GenericError: Transaction aborted using Abort action"

static void does(const char *actions, const char *bitmaps)
{
    ok("transaction", actions);
    expect_bitmaps("s", bitmaps);
}

/* Refused, and every bitmap of both nodes is as it was. */
static void undone(const char *actions, const char *text)
{
    char *s = bitmaps_text("s");

    expect("transaction", actions, text);
    expect_bitmaps("s", s);
    free(s);
    assert_int_equal(sim_arena_live(bed.host->arena, SIM_TYPE_qmp_step), 0);
    assert_int_equal(sim_arena_live(bed.host->arena, SIM_TYPE_qmp_action_state), 0);
}

static void add_marked(const char *name, int64_t group)
{
    char json[64];

    snprintf(json, sizeof(json), "{\"node\":\"s\",\"name\":\"%s\"}", name);
    ok("block-dirty-bitmap-add", json);
    bdrv_set_dirty_bitmap(bitmap_of("s", name), group * 65536, 1);
}

/* b enabled, {0,5}; c disabled, {9}. */
static void make_two(void)
{
    add_marked("c", 9);
    bdrv_disable_dirty_bitmap(bitmap_of("s", "c"));
    add_marked("b", 0);
    bdrv_set_dirty_bitmap(bitmap_of("s", "b"), INT64_C(5) * 65536, 1);
    expect_bitmaps("s", "b:e=0,5, c:=9, ");
}

/* --- arguments ------------------------------------------------------------------------------------------- */

static void test_table(void **state)
{
    const struct qmp_action *action;
    size_t count = 0;

    for (; (action = qmp_action_at(count)); count++) {
        assert_non_null(action->prepare);
        assert_non_null(action->doc);
        assert_ptr_equal(qmp_find_action(action->name), action);
        for (const struct qmp_arg *arg = action->args; arg->name; arg++) {
            assert_non_null(arg->doc);
        }
    }
    assert_true(count >= 7);
    assert_null(qmp_find_action("block-dirty-bitmap-sha256"));
}

/* fact: jobs 5.8/not-transactional */
static void test_malformed(void **state)
{
    static const struct {
        const char *json;
        const char *text;
    } rows[] = {
        {"{}", "Parameter 'actions' is missing"},
        {"{\"actions\":{}}", "Invalid parameter type for 'actions', expected: array"},
        {LIST("1"), "Invalid parameter type for 'actions[0]', expected: object"},
        {LIST("{}"), "Parameter 'actions[0].type' is missing"},
        {LIST("{\"type\":\"abort\"}"), "Parameter 'actions[0].data' is missing"},
        {LIST("{\"type\":1,\"data\":{}}"), "Invalid parameter type for 'actions[0].type', expected: string"},
        {LIST("{\"type\":\"abort\",\"data\":[]}"),
         "Invalid parameter type for 'actions[0].data', expected: object"},
        {LIST("{\"type\":\"abort\",\"data\":{},\"id\":1}"), "Parameter 'actions[0].id' is unexpected"},
        {LIST(ADD("x") "," ACTION("x", "")), "Parameter 'actions[1].type' does not accept value 'x'"},
        {LIST(ACTION("stop", "")), "Parameter 'actions[0].type' does not accept value 'stop'"},
        {LIST(ACTION("blockdev-mirror", "")),
         "Parameter 'actions[0].type' does not accept value 'blockdev-mirror'"},
        {LIST(ACTION("drive-mirror", "")), "Parameter 'actions[0].type' does not accept value 'drive-mirror'"},
        {LIST(ACTION("block-commit", "")), "Parameter 'actions[0].type' does not accept value 'block-commit'"},
        {LIST(ACTION("block-stream", "")), "Parameter 'actions[0].type' does not accept value 'block-stream'"},
        {LIST(ADD("x") "," ACTION("block-dirty-bitmap-clear", "\"name\":\"b\"")),
         "Parameter 'actions[1].data.node' is missing"},
        {LIST(ACTION("abort", "\"now\":true")), "Parameter 'actions[0].data.now' is unexpected"},
        {LIST(ACTION("block-dirty-bitmap-add", "\"node\":\"s\",\"name\":\"b\",\"disabled\":3")),
         "Invalid parameter type for 'actions[0].data.disabled', expected: boolean"},
        {LIST(MERGE("b", "\"c\",7")),
         "Invalid parameter type for 'actions[0].data.bitmaps[1]', expected: BlockDirtyBitmapOrStr"},
        {LIST(MERGE("b", "{\"name\":\"c\"}")), "Parameter 'actions[0].data.bitmaps[0].node' is missing"},
        {"{\"actions\":[],\"properties\":[]}", "Invalid parameter type for 'properties', expected: object"},
        {"{\"actions\":[],\"properties\":{\"completion-mode\":\"x\"}}",
         "Parameter 'properties.completion-mode' does not accept value 'x'"},
        {"{\"actions\":[],\"properties\":{\"mode\":1}}", "Parameter 'properties.mode' is unexpected"},
        {"{\"actions\":[],\"now\":1}", "Parameter 'now' is unexpected"},
    };
    char text[200];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        Error *err = NULL;
        struct qvalue *args = bed_json(rows[i].json);
        assert_false(qmp_check_args(qmp_find_command("transaction"), args, &err)); /* so before a run, too */
        assert_string_equal(error_get_pretty(err), rows[i].text);
        error_free(err);
        qvalue_free(args);
        snprintf(text, sizeof(text), "GenericError: %s", rows[i].text);
        refused("transaction", rows[i].json, text);
    }
    expect_bitmaps("s", "");
}

/* Values as qmp-shell writes them become what the table says, also inside. */
static void test_conversions(void **state)
{
    does(LIST(ACTION("block-dirty-bitmap-add",
                     "\"node\":\"g\",\"name\":\"b\",\"granularity\":\"128k\",\"disabled\":\"on\"")),
         "b:= ");
    assert_int_equal(bdrv_dirty_bitmap_granularity(bitmap_of("s", "b")), 131072);
}

/* fact: bitmaps 3/transaction-grouped; jobs 5.8/grouped-refused */
static void test_grouped(void **state)
{
    static const char *const types[] = {"add", "remove", "clear", "enable", "disable"};
    char json[300];
    char text[200];

    make_two();
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        snprintf(json, sizeof(json),
                 "{\"actions\":[{\"type\":\"block-dirty-bitmap-%s\",\"data\":{\"node\":\"s\",\"name\":\"b\"}}],"
                 "\"properties\":{\"completion-mode\":\"grouped\"}}",
                 types[i]);
        snprintf(text, sizeof(text),
                 "GenericError: Action 'block-dirty-bitmap-%s' does not support transaction property "
                 "completion-mode = grouped",
                 types[i]);
        refused("transaction", json, text);
    }
    refused("transaction",
            "{\"actions\":[" MERGE("b", "\"c\"") "],\"properties\":{\"completion-mode\":\"grouped\"}}",
            "GenericError: Action 'block-dirty-bitmap-merge' does not support transaction property "
            "completion-mode = grouped");
    expect_bitmaps("s", "b:e=0,5, c:=9, ");
    does("{\"actions\":[" CLEAR("b") "],\"properties\":{\"completion-mode\":\"individual\"}}", "b:e= c:=9, ");
    does("{\"actions\":[" CLEAR("c") "],\"properties\":{}}", "b:e= c:= ");
    ok("transaction", "{\"actions\":[],\"properties\":{\"completion-mode\":\"grouped\"}}");
}

/* --- the engine ------------------------------------------------------------------------------------------ */

/* fact: bitmaps 3/transaction-abort-action; jobs 9/abort, 5.8/undo */
static void test_abort(void **state)
{
    ok("transaction", LIST(""));
    refused("transaction", LIST(ABORT), ABORTED);
    refused("transaction", LIST(ABORT "," ABORT), ABORTED);
    make_two();
    undone(LIST(ABORT "," CLEAR("b")), ABORTED);
    undone(LIST(CLEAR("b") "," ABORT "," CLEAR("x")), ABORTED); /* the first failure is told */
    undone(LIST(CLEAR("b") "," CLEAR("x") "," ABORT), "GenericError: Dirty bitmap 'x' not found");
}

/* fact: bitmaps 3/transaction-order; jobs 5.8/order */
static void test_order(void **state)
{
    make_two();
    does(LIST(MERGE("b", "\"c\"") "," CLEAR("c") "," ENABLE("c") "," ADD("d")), "d:e= b:e=0,5,9, c:e= ");
    does(LIST(CLEAR("b") "," MERGE("d", "\"b\"") "," DISABLE("d") "," ENABLE("d") "," DISABLE("d")),
         "d:= b:e= c:e= ");
}

/* Bugs J06: each action kept what it found, so undoing the older one first would put a middle state back. */
/* fact: bitmaps 3/transaction-reverse, 3/action-clear, 3/action-merge, edge/22; jobs 5.8/undo, edge/50 */
static void test_reverse(void **state)
{
    make_two();
    undone(LIST(CLEAR("b") "," MERGE("b", "\"c\"") "," ABORT), ABORTED);
    expect_bitmaps("s", "b:e=0,5, c:=9, ");
    undone(LIST(MERGE("b", "\"c\"") "," CLEAR("b") "," MERGE("b", "\"c\"") "," ABORT), ABORTED);
    undone(LIST(DISABLE("b") "," ENABLE("b") "," DISABLE("b") "," ABORT), ABORTED);
    undone(LIST(ENABLE("c") "," DISABLE("c") "," ENABLE("c") "," ABORT), ABORTED);
    undone(LIST(CLEAR("b") "," CLEAR("b") "," ABORT), ABORTED);
    undone(LIST(ADD("d") "," REMOVE("d") "," ABORT), ABORTED);
}

/* Every kind of action, failing at each position in turn. */
/* fact: bitmaps 3/transaction-order, 3/action-add, 3/action-remove, 3/action-enable-disable, edge/22 */
static void test_each_position(void **state)
{
    static const char *const actions[] = {
        CLEAR("b"),     ADD("d"),     MERGE("d", "\"c\""),       DISABLE("b"), ENABLE("c"), CLEAR("c"),
        DISABLE("d"),   ADD("e"),     MERGE("b", "\"d\",\"c\""), REMOVE("c"),  REMOVE("d"), ENABLE("b"),
        MERGE("e", ""), DISABLE("e"),
    };
    const size_t count = ARRAY_SIZE(actions);
    char json[4096];

    make_two();
    for (size_t fail = 0; fail <= count; fail++) {
        size_t used = (size_t)snprintf(json, sizeof(json), "{\"actions\":[");
        for (size_t i = 0; i < count; i++) {
            used +=
                (size_t)snprintf(json + used, sizeof(json) - used, "%s%s,", i == fail ? ABORT "," : "", actions[i]);
        }
        assert_true(used < sizeof(json));
        snprintf(json + used - 1, sizeof(json) - used + 1, "]}");
        if (fail < count) {
            undone(json, ABORTED);
            expect_bitmaps("s", "b:e=0,5, c:=9, ");
        }
    }
    does(json, "e:= b:e=9, ");
}

struct stale {
    struct test_call call;
    struct guest_req req;
};

static bool held(void *opaque)
{
    return guest_active(guest) > 0;
}

/* A request that was under way marks before the first action, whatever it takes. */
static char released[64];

static void note_release(void *opaque, const struct sim_record *record)
{
    strcat(released, (const char *)(uintptr_t)record->field[1]);
}

/* What a removal holds back until the end is let go from the last one to the first.
 * fact: block 9/transaction-order, edge/54; jobs 5.8/order, edge/50 */
static void test_commit_reverse(void **state)
{
    make_two();
    released[0] = '\0';
    sim_subscribe(bed.sim, EV_bitmap_release, note_release, NULL);
    does(LIST(REMOVE("b") "," REMOVE("c")), "");
    assert_string_equal(released, "cb");
}

/* fact: bitmaps 3/transaction-drain; jobs 5.8/order */
static void test_drain_waits(void **state)
{
    struct stale t;

    make_two();
    bed.stick = true;
    write_begin(&t.req, INT64_C(3) * 65536, 512);
    bed_run_until(sim_now(bed.sim) + NS_PER_S);
    assert_true(held(NULL));
    call_begin(&t.call, "transaction", LIST(MERGE("c", "\"b\"") "," CLEAR("b") "," ADD("d")));
    bed_run_until(sim_now(bed.sim) + NS_PER_S);
    assert_false(t.call.done);
    expect_bitmaps("s", "b:e=0,5, c:=9, ");
    bed.stick = false;
    disk_release_stuck(bed.disk);
    expect_text(call_end(&t.call), "{}");
    expect_bitmaps("s", "d:e= b:e= c:=0,3,5,9, ");
    bed_settle();
    guest_req_clear(&t.req);
}

#define ADD_P(name, more) \
    ACTION("block-dirty-bitmap-add", "\"node\":\"p\",\"name\":\"" name "\",\"persistent\":true" more)
#define DISABLE_P(name) ACTION("block-dirty-bitmap-disable", "\"node\":\"p\",\"name\":\"" name "\"")
#define REMOVE_P(name) ACTION("block-dirty-bitmap-remove", "\"node\":\"p\",\"name\":\"" name "\"")

/* A write that comes while an action takes its time waits for the end, be it good or bad. */
/* fact: bitmaps 3/transaction-drain */
static void test_drain_holds(void **state)
{
    static const char *const ends[] = {CLEAR("c"), CLEAR("c") "," ABORT};
    static const char *const bitmaps[] = {"b:e=3, c:e=3, ", "b:e=0,3,5, c:e=3,9, "};
    char json[1000];
    struct stale t;

    keeper.time_ns = NS_PER_S;
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        make_two();
        bdrv_enable_dirty_bitmap(bitmap_of("s", "c"));
        snprintf(json, sizeof(json), LIST(CLEAR("b") "," ADD_P("x", "") "," REMOVE_P("x") ",%s"), ends[i]);
        call_begin(&t.call, "transaction", json);
        bed_run_until(sim_now(bed.sim) + NS_PER_S / 2);
        write_begin(&t.req, INT64_C(3) * 65536, 512);
        bed_run_until(sim_now(bed.sim) + NS_PER_S);
        assert_false(t.call.done);
        expect_bitmaps("s", "b:e= c:e=9, ");
        expect_text(call_end(&t.call), i == 0 ? "{}" : ABORTED);
        bed_settle();
        assert_int_equal(t.req.ret, 0);
        expect_bitmaps("s", bitmaps[i]);
        guest_req_clear(&t.req);
        does(LIST(REMOVE("b") "," REMOVE("c")), "");
    }
    assert_null(bdrv_dirty_bitmap_next(keeper.bs, NULL));
}

/* --- combinations ---------------------------------------------------------------------------------------- */

/* fact: bitmaps 3/combined, 3/action-remove, 3/action-add */
static void test_combined(void **state)
{
    make_two();
    undone(LIST(REMOVE("b") "," ADD("b")), "GenericError: Bitmap already exists: b");
    undone(LIST(REMOVE("b") "," CLEAR("b")), BITMAP_BUSY("b"));
    undone(LIST(REMOVE("b") "," REMOVE("b")), BITMAP_BUSY("b"));
    undone(LIST(REMOVE("b") "," ENABLE("b")), BITMAP_BUSY("b"));
    undone(LIST(REMOVE("b") "," DISABLE("b")), BITMAP_BUSY("b"));
    undone(LIST(REMOVE("c") "," MERGE("b", "\"c\"")), BITMAP_BUSY("c"));
    undone(LIST(REMOVE("b") "," MERGE("b", "\"c\"")), BITMAP_BUSY("b"));
    undone(LIST(ADD("d") "," ADD("d")), "GenericError: Bitmap already exists: d");
    undone(LIST(CLEAR("b") "," CLEAR("b") "," ABORT), ABORTED);
    does(LIST(ADD("d") "," REMOVE("d")), "b:e=0,5, c:=9, ");
    does(LIST(ADD("d") "," MERGE("d", "\"b\",\"c\"") "," REMOVE("b") "," REMOVE("c")), "d:e=0,5,9, ");
    does(LIST(CLEAR("d") "," DISABLE("d") "," REMOVE("d")), "");
}

/* What fails in an action was not done by it, so undoing must not touch it. */
/* fact: bitmaps 3/undo-only-own, 3/action-enable-disable, edge/22 */
static void test_undo_only_own(void **state)
{
    make_two();
    undone(LIST(ENABLE("x")), "GenericError: Dirty bitmap 'x' not found");
    undone(LIST(DISABLE("x")), "GenericError: Dirty bitmap 'x' not found");
    undone(LIST(CLEAR("x")), "GenericError: Dirty bitmap 'x' not found");
    undone(LIST(REMOVE("x")), "GenericError: Dirty bitmap 'x' not found");
    undone(LIST(MERGE("x", "")), "GenericError: Dirty bitmap 'x' not found");
    undone(LIST(MERGE("b", "\"c\",\"x\"")), "GenericError: Dirty bitmap 'x' not found");
    undone(LIST(CLEAR("b") "," MERGE("b", "\"c\",\"x\"")), "GenericError: Dirty bitmap 'x' not found");
    undone(LIST(ADD("b")), "GenericError: Bitmap already exists: b");
    undone(LIST(ACTION("block-dirty-bitmap-enable", "\"node\":\"x\",\"name\":\"b\"")),
           "GenericError: Node 'x' not found");
    bdrv_dirty_bitmap_set_busy(bitmap_of("s", "b"), true);
    bdrv_dirty_bitmap_set_busy(bitmap_of("s", "c"), true);
    undone(LIST(ENABLE("b")), BITMAP_BUSY("b")); /* and b stays enabled */
    undone(LIST(DISABLE("c")), BITMAP_BUSY("c"));
    undone(LIST(DISABLE("b")), BITMAP_BUSY("b"));
    undone(LIST(REMOVE("b")), BITMAP_BUSY("b")); /* and b stays busy */
    undone(LIST(CLEAR("b")), BITMAP_BUSY("b"));
    undone(LIST(MERGE("b", "")), BITMAP_BUSY("b"));
    expect_bitmaps("s", "b:eb=0,5, c:b=9, ");
    bdrv_dirty_bitmap_set_busy(bitmap_of("s", "b"), false);
    bdrv_dirty_bitmap_set_busy(bitmap_of("s", "c"), false);
}

/* fact: bitmaps 3/merge-empty, 3/action-merge */
static void test_merge_empty(void **state)
{
    make_two();
    does(LIST(MERGE("b", "")), "b:e=0,5, c:=9, ");
    undone(LIST(MERGE("b", "") "," MERGE("c", "\"b\"") "," ABORT), ABORTED);
    does(LIST(MERGE("b", "\"b\"") "," MERGE("c", "\"b\"")), "b:e=0,5, c:=0,5,9, ");
}

/* fact: bitmaps 3/action-clear, 3/action-enable-disable, edge/17 */
static void test_conditions(void **state)
{
    make_two();
    bdrv_dirty_bitmap_set_readonly(bitmap_of("s", "b"), true);
    undone(LIST(CLEAR("c") "," CLEAR("b")), BITMAP_READONLY("b"));
    undone(LIST(CLEAR("c") "," REMOVE("b")), BITMAP_READONLY("b"));
    undone(LIST(CLEAR("c") "," MERGE("b", "\"c\"")), BITMAP_READONLY("b"));
    undone(LIST(DISABLE("b") "," ABORT), ABORTED);
    does(LIST(DISABLE("b") "," MERGE("c", "\"b\"")), "b:r=0,5, c:=0,5,9, ");
    bdrv_dirty_bitmap_set_readonly(bitmap_of("s", "b"), false);
    make_inconsistent(bitmap_of("s", "b"));
    undone(LIST(ENABLE("b")), BITMAP_INCONSISTENT("b"));
    undone(LIST(CLEAR("b")), BITMAP_INCONSISTENT("b"));
    undone(LIST(MERGE("c", "\"b\"")), BITMAP_INCONSISTENT("b"));
    undone(LIST(REMOVE("b") "," ABORT), ABORTED);
    does(LIST(REMOVE("b")), "c:=0,5,9, ");
}

/* --- persistent bitmaps ---------------------------------------------------------------------------------- */

/* fact: bitmaps 3/action-remove-persistent, 3/action-remove; qcow2 6/transactional-remove */
static void test_remove_persistent(void **state)
{
    ok("transaction", LIST(ADD_P("b", "") "," ADD_P("c", ",\"disabled\":true")));
    bdrv_set_dirty_bitmap(bitmap_of("p", "b"), 65536, 1);
    expect_bitmaps("p", "c:p= b:ep=1, ");
    /* Only when all others are prepared: had it been erased at once, it would be gone should the power fail now. */
    expect("transaction", LIST(REMOVE_P("b") "," ABORT), ABORTED);
    assert_string_equal(keeper.erased, "");
    expect_bitmaps("p", "c:p= b:ep=1, ");
    /* The erase fails: everything is undone. */
    keeper.erase_ret = -EIO;
    expect("transaction", LIST(DISABLE_P("b") "," REMOVE_P("b") "," ADD_P("d", "")),
           "GenericError: Failed to remove bitmap 'b' from 'p': Input/output error");
    expect_bitmaps("p", "c:p= b:ep=1, ");
    keeper.erase_ret = 0;
    /* Meanwhile it is out of everybody's way. */
    struct test_call slow;
    keeper.time_ns = NS_PER_S;
    call_begin(&slow, "transaction", LIST(REMOVE_P("b") "," ADD_P("d", "") "," ABORT));
    bed_run_until(sim_now(bed.sim) + NS_PER_S / 2);
    expect_bitmaps("p", "c:p= b:epsb=1, ");
    expect_text(call_end(&slow), ABORTED);
    expect_bitmaps("p", "c:p= b:ep=1, ");
    ok("transaction", LIST(REMOVE_P("b") "," REMOVE_P("c")));
    expect_bitmaps("p", "");
    assert_string_equal(keeper.erased, "b c ");
}

/* Bugs D07: one that was never stored. */
/* fact: bitmaps 3/action-add, 3/combined */
static void test_add_persistent(void **state)
{
    ok("transaction", LIST(ADD_P("b", "") "," REMOVE_P("b")));
    expect_bitmaps("p", "");
    expect("transaction", LIST(ADD_P("b", "") "," ADD_P("b", "")), "GenericError: Bitmap already exists: b");
    expect_bitmaps("p", "");
    keeper.why_not = "Not enough space in the bitmap directory";
    expect("transaction", LIST(CLEAR("x") "," ADD_P("b", "")), "GenericError: Dirty bitmap 'x' not found");
    expect("transaction", LIST(ADD_P("b", "")),
           "GenericError: Can't make bitmap 'b' persistent in 'p': Not enough space in the bitmap directory");
    expect_bitmaps("p", "");
}

/* The medium was made shorter or longer behind the node's back, and an action finds out. */
static void test_stale_length(void **state)
{
    ok("blockdev-add", "{\"driver\":\"disk\",\"node-name\":\"u\",\"disk\":\"d\"}");
    make_two();
    ok("block_resize", "{\"node-name\":\"u\",\"size\":524288}");
    expect("transaction", LIST(CLEAR("b") "," REMOVE("c") "," ADD("d") "," ABORT), ABORTED);
    assert_int_equal(bdrv_dirty_bitmap_size(bitmap_of("s", "b")), 524288);
    expect_bitmaps("s", "b:e=0,5, c:= ");
    ok("block_resize", "{\"node-name\":\"u\",\"size\":1048576}");
    expect("transaction", LIST(MERGE("b", "\"c\"") "," ADD("d") "," ABORT), ABORTED);
    expect_bitmaps("s", "b:e=0,5, c:= ");
    assert_int_equal(bdrv_dirty_bitmap_size(bitmap_of("s", "b")), MiB);
    bed.also_del = "u";
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/monitor/transaction/table", test_table),
        T_SETUP("/monitor/transaction/malformed", test_malformed, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/conversions", test_conversions, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/grouped", test_grouped, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/abort", test_abort, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/order", test_order, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/reverse", test_reverse, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/commit-reverse", test_commit_reverse, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/each-position", test_each_position, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/drain/waits", test_drain_waits, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/drain/holds", test_drain_holds, keeper_setup, keeper_teardown),
        T_SETUP("/monitor/transaction/combined", test_combined, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/undo-only-own", test_undo_only_own, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/merge-empty", test_merge_empty, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/conditions", test_conditions, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/transaction/persistent/remove", test_remove_persistent, keeper_setup, keeper_teardown),
        T_SETUP("/monitor/transaction/persistent/add", test_add_persistent, keeper_setup, keeper_teardown),
        T_SETUP("/monitor/transaction/stale-length", test_stale_length, qmp_setup, qmp_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
