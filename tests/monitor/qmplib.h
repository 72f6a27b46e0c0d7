/*
 * Commands against a small host: the reply as text, and what a refusal must leave alone. On top of
 * tests/vm/vmlib.h: disk "d", node "s" on it, guest "g".
 *
 * Also a node "p" whose driver stores bitmaps, or says that it cannot, as the test wants it.
 */
#ifndef TESTS_QMPLIB_H
#define TESTS_QMPLIB_H

#include "tests/vm/vmlib.h"

#include "block/block_int.h"
#include "monitor/monitor.h"

static struct guest *guest;

static void qmp_plug(void *opaque)
{
    struct guest_config config;

    guest_config_default(&config);
    config.name = "g";
    config.node = "s";
    guest = guest_new(bed.host, &config, NULL);
    assert_non_null(guest);
}

static int qmp_setup(void **state)
{
    bed_setup(state);
    monitor_init(bed.host);
    bed_on_main(qmp_plug);
    return 0;
}

static int qmp_teardown(void **state)
{
    static const enum sim_type types[] = {SIM_TYPE_BdrvDirtyBitmap, SIM_TYPE_HBitmap, SIM_TYPE_hbitmap_leaf,
                                          SIM_TYPE_qmp_step, SIM_TYPE_qmp_action_state};
    struct sim_arena *arena = bed.host->arena;

    while (bdrv_dirty_bitmap_next(bdrv_find_node(bed.host, "s"), NULL)) {
        bdrv_release_dirty_bitmap(bdrv_dirty_bitmap_next(bdrv_find_node(bed.host, "s"), NULL));
    }
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        assert_int_equal(sim_arena_live(arena, types[i]), 0);
    }
    bed_teardown_with(monitor_cleanup);
    return 0;
}

/* --- commands -------------------------------------------------------------------------------------------- */

struct test_call {
    struct qmp_call c;
    bool done;
};

static void call_done(struct qmp_call *call)
{
    assert_true(host_in_main(bed.host));
    ((struct test_call *)call->opaque)->done = true;
}

static bool call_is_done(void *opaque)
{
    return ((struct test_call *)opaque)->done;
}

static void call_begin(struct test_call *call, const char *name, const char *json)
{
    *call = (struct test_call){
        .c = {.command = qmp_find_command(name), .args = bed_json(json), .done = call_done, .opaque = call},
    };
    assert_non_null(call->c.command);
    monitor_submit(bed.host, &call->c);
    assert_false(call->done);
}

/* The reply as JSON, or "Class: text". The caller frees it. */
static char *call_end(struct test_call *call)
{
    char *text = NULL;
    int64_t end = sim_now(bed.sim) + BED_PATIENCE_NS;

    assert_int_equal(sim_run_idle(bed.sim, call_is_done, call, end), SIM_STOP_COND);
    if (call->c.err) {
        assert_null(call->c.reply);
        const char *class_name = error_class_name(error_get_class(call->c.err));
        assert_true(asprintf(&text, "%s: %s", class_name, error_get_pretty(call->c.err)) > 0);
        error_free(call->c.err);
    } else {
        text = qvalue_to_json(call->c.reply);
    }
    qvalue_free(call->c.reply);
    qvalue_free(call->c.args);
    return text;
}

static char *call(const char *name, const char *json)
{
    struct test_call c;

    call_begin(&c, name, json);
    return call_end(&c);
}

static void expect_text(char *text, const char *expected)
{
    assert_string_equal(text, expected);
    free(text);
}

static void expect(const char *name, const char *json, const char *expected)
{
    expect_text(call(name, json), expected);
}

static void ok(const char *name, const char *json)
{
    expect(name, json, "{}");
}

/* Refused with this text, and the host is as it was. */
static SIM_UNUSED void refused(const char *name, const char *json, const char *expected)
{
    bed_settle();
    uint64_t host_bytes = sim_arena_live_bytes(bed.host->arena);
    uint64_t world_bytes = sim_arena_live_bytes(sim_arena(bed.sim));

    expect(name, json, expected);
    bed_settle();
    assert_int_equal(sim_arena_live_bytes(bed.host->arena), host_bytes);
    assert_int_equal(sim_arena_live_bytes(sim_arena(bed.sim)), world_bytes);
}

/* --- guest writes ---------------------------------------------------------------------------------------- */

static void write_begin(struct guest_req *req, int64_t offset, int64_t bytes)
{
    guest_req_init(bed.host, req);
    req->op = SIM_OP_WRITE;
    req->offset = offset;
    req->bytes = bytes;
    payload_append_fill(&req->data, 0x33, bytes);
    guest_submit(guest, req);
}

static SIM_UNUSED void write_bytes(int64_t offset, int64_t bytes)
{
    struct guest_req req;

    write_begin(&req, offset, bytes);
    bed_settle();
    assert_int_equal(req.ret, 0);
    guest_req_clear(&req);
}

/* --- bitmaps --------------------------------------------------------------------------------------------- */

static SIM_UNUSED BdrvDirtyBitmap *bitmap_of(const char *node, const char *name)
{
    BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(bdrv_find_node(bed.host, node), name);

    assert_non_null(bitmap);
    return bitmap;
}

static SIM_UNUSED bool has_bitmap(const char *node, const char *name)
{
    return bdrv_find_dirty_bitmap(bdrv_find_node(bed.host, node), name) != NULL;
}

#define BITMAP_BUSY(name) \
    "GenericError: Bitmap '" name "' is currently in use by another operation and cannot be used"
#define BITMAP_READONLY(name) "GenericError: Bitmap '" name "' is readonly and cannot be modified"
#define BITMAP_INCONSISTENT(name) "GenericError: Bitmap '" name "' is inconsistent and cannot be used"

static SIM_UNUSED void add_bitmap(const char *node, const char *name, uint32_t granularity)
{
    char json[128];

    snprintf(json, sizeof(json), "{\"node\":\"%s\",\"name\":\"%s\",\"granularity\":%u}", node, name, granularity);
    ok("block-dirty-bitmap-add", json);
}

static SIM_UNUSED void make_inconsistent(BdrvDirtyBitmap *bitmap)
{
    bdrv_dirty_bitmap_set_persistence(bitmap, true);
    bdrv_dirty_bitmap_set_inconsistent(bitmap);
}

/* Content and attributes of all bitmaps of a node, newest first: "b:eRpsi=0,131072 " for the attributes enabled,
 * readonly, persistent, skip-store, busy, inconsistent that are set, and the dirty groups. The caller frees it. */
static SIM_UNUSED char *bitmaps_text(const char *node)
{
    const BdrvDirtyBitmap *bitmap = NULL;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    while ((bitmap = bdrv_dirty_bitmap_next(bdrv_find_node(bed.host, node), bitmap))) {
        const char *name = bdrv_dirty_bitmap_name(bitmap);
        int64_t end = bdrv_dirty_bitmap_size(bitmap);
        int64_t granularity = bdrv_dirty_bitmap_granularity(bitmap);
        fprintf(out, "%s:%s%s%s%s%s%s=", name ? name : "-", bdrv_dirty_bitmap_enabled(bitmap) ? "e" : "",
                bdrv_dirty_bitmap_readonly(bitmap) ? "r" : "", bdrv_dirty_bitmap_persistent(bitmap) ? "p" : "",
                bdrv_dirty_bitmap_skips_store(bitmap) ? "s" : "", bdrv_dirty_bitmap_busy(bitmap) ? "b" : "",
                bdrv_dirty_bitmap_inconsistent(bitmap) ? "i" : "");
        for (int64_t offset = 0; offset < end; offset += granularity) {
            if (bdrv_dirty_bitmap_get(bitmap, offset)) {
                fprintf(out, "%lld,", (long long)(offset / granularity));
            }
        }
        fputc(' ', out);
    }
    fclose(out);
    return text;
}

static SIM_UNUSED void expect_bitmaps(const char *node, const char *expected)
{
    expect_text(bitmaps_text(node), expected);
}

/* --- a driver that stores bitmaps ------------------------------------------------------------------------ */

static struct {
    const char *why_not; /* reason why none can be stored; NULL: it can */
    int erase_ret;       /* of the next erase */
    int64_t time_ns;     /* of each question */
    char erased[64];     /* "b c ": names erased */
    int64_t cluster_size;
    BlockDriverState *bs;
} keeper;

static int64_t keeper_getlength(BlockDriverState *bs)
{
    co_sleep_ns(bed.sim, keeper.time_ns);
    return MiB;
}

static int keeper_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    info->cluster_size = keeper.cluster_size;
    return 0;
}

static bool keeper_can_store(BlockDriverState *bs, const char *name, uint32_t granularity, Error **errp)
{
    co_sleep_ns(bed.sim, keeper.time_ns);
    if (keeper.why_not) {
        error_setg(errp, "%s", keeper.why_not);
    }
    return !keeper.why_not;
}

static int keeper_remove(BlockDriverState *bs, const char *name, Error **errp)
{
    co_sleep_ns(bed.sim, keeper.time_ns);
    if (keeper.erase_ret < 0) {
        error_setg_errno(errp, keeper.erase_ret, "Failed to remove bitmap '%s' from '%s'", name,
                         bdrv_get_node_name(bs));
        return keeper.erase_ret;
    }
    size_t used = strlen(keeper.erased);
    snprintf(keeper.erased + used, sizeof(keeper.erased) - used, "%s ", name);
    return 0;
}

static const BlockDriver keeper_driver = {
    .format_name = "keeper",
    .doc = "test",
    .is_protocol = true,
    .bdrv_co_getlength = keeper_getlength,
    .bdrv_co_get_info = keeper_get_info,
    .bdrv_co_can_store_new_dirty_bitmap = keeper_can_store,
    .bdrv_co_remove_persistent_dirty_bitmap = keeper_remove,
};

static void keeper_make(void *opaque)
{
    keeper.bs = bdrv_new_node(bed.host, &keeper_driver, "p");
    bdrv_set_total_bytes(keeper.bs, MiB);
}

static SIM_UNUSED int keeper_setup(void **state)
{
    qmp_setup(state);
    memset(&keeper, 0, sizeof(keeper));
    keeper.time_ns = 1000;
    bed_on_main(keeper_make);
    return 0;
}

static void keeper_drop(void *opaque)
{
    bdrv_release_named_dirty_bitmaps(keeper.bs);
    bdrv_unref(keeper.bs);
}

static SIM_UNUSED int keeper_teardown(void **state)
{
    bed_on_main(keeper_drop);
    return qmp_teardown(state);
}

#endif
