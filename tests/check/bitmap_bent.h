/*
 * Dirty bitmaps to be bent: those of the real block layer, changed behind its back, and real commands whose handler
 * does less, or more, than it says.
 */
#ifndef TESTS_CHECK_BITMAP_BENT_H
#define TESTS_CHECK_BITMAP_BENT_H

#include "tests/check/check_world.h"

#include <errno.h>

#include "block/dirty-bitmap_int.h"
#include "block/hbitmap_int.h"

static SIM_UNUSED BdrvDirtyBitmap *bitmap_of(const char *node, const char *name)
{
    BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(bdrv_find_node(host, node), name);

    assert_non_null(bitmap);
    return bitmap;
}

static SIM_UNUSED BdrvDirtyBitmap *b(void)
{
    return bitmap_of("s", "b");
}

/* Source s of 4 MiB with bitmap b of 64 KiB in which a write and a discard are recorded: groups 1, 2 and 32. */
static SIM_UNUSED void with_bitmap(void)
{
    mirror_world(4 * MiB, MiB);
    assert_true(qmp("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\",\"granularity\":65536}"));
    assert_int_equal(io_run(SIM_OP_WRITE, 100 * KiB, 64 * KiB, 1 << 24), 0);
    assert_int_equal(io_run(SIM_OP_DISCARD, 2 * MiB, 64 * KiB, 0), 0);
    settle();
    assert_silent();
}

#define NAME_B "{\"node\":\"s\",\"name\":\"b\"}"

typedef bool command_fn(struct host *h, const struct qvalue *args, struct qvalue **reply, Error **errp);

static SIM_UNUSED bool do_nothing(struct host *h, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return true;
}

/* The command as it is known, done by fn. True when that says so. */
static SIM_UNUSED bool qmp_by(command_fn *fn, const char *name, const char *json)
{
    struct qmp_command bent = *qmp_find_command(name);
    bool done = false;
    struct qmp_call call = {.command = &bent, .done = qmp_done, .opaque = &done, .host = host};
    bool accepted;

    bent.fn = fn;
    call.args = qvalue_from_json(json, strlen(json), NULL);
    assert_non_null(call.args);
    monitor_submit(host, &call);
    run_until(flag_set, &done);
    accepted = !call.err;
    qvalue_free(call.args);
    qvalue_free(call.reply);
    error_free(call.err);
    return accepted;
}

/* Looked at whole at the end of any command about bitmaps. */
static SIM_UNUSED void look(void)
{
    qmp("block-dirty-bitmap-enable", "{\"node\":\"s\",\"name\":\"nobody's\"}");
}

static SIM_UNUSED void freeze_entry(void *opaque)
{
    assert_int_equal(bdrv_dirty_bitmap_create_successor(b(), NULL), 0);
}

static SIM_UNUSED void abdicate_entry(void *opaque)
{
    assert_non_null(bdrv_dirty_bitmap_abdicate(b(), NULL));
}

static SIM_UNUSED void reclaim_entry(void *opaque)
{
    assert_non_null(bdrv_reclaim_dirty_bitmap(b(), NULL));
}

#endif
