/*
 * block-dirty-bitmap-* as actions of a transaction (reference/bitmaps-qcow2.md 3).
 *
 * All take effect in prepare. What abort undoes is what the same action's prepare did: its state is only kept when
 * that succeeded. Only erasing a bitmap from its image waits until all others are prepared: an abort could not put
 * it back, and if the power failed before the next store, the bitmap would be gone without a trace.
 */
#include "monitor/bitmap.h"
#include "monitor/transaction.h"

struct bitmap_state {
    BdrvDirtyBitmap *bitmap;
    HBitmap *backup; /* clear, merge: what it held before; NULL: unchanged */
    bool enabled;    /* enable, disable: before */
};

static bool add_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state, Error **errp)
{
    struct bitmap_state *s = state;
    s->bitmap = qmp_bitmap_add(transaction->host, data, errp);
    return s->bitmap != NULL;
}

static void add_abort(struct qmp_transaction *transaction, void *state)
{
    bdrv_release_dirty_bitmap(((struct bitmap_state *)state)->bitmap);
}

/* Busy, so that later actions of the same transaction leave it alone; its name stays taken. */
static bool remove_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state,
                           Error **errp)
{
    struct bitmap_state *s = state;
    s->bitmap = qmp_bitmap_usable(transaction->host, data, BDRV_BITMAP_BUSY | BDRV_BITMAP_RO, errp);
    if (!s->bitmap) {
        return false;
    }
    bdrv_dirty_bitmap_skip_store(s->bitmap, true);
    bdrv_dirty_bitmap_set_busy(s->bitmap, true);
    return true;
}

static bool remove_settle(struct qmp_transaction *transaction, void *state, Error **errp)
{
    return qmp_bitmap_erase(((struct bitmap_state *)state)->bitmap, errp);
}

/* If it was erased already, because another action could not settle, it is as one that was never stored. */
static void remove_abort(struct qmp_transaction *transaction, void *state)
{
    struct bitmap_state *s = state;
    bdrv_dirty_bitmap_skip_store(s->bitmap, false);
    bdrv_dirty_bitmap_set_busy(s->bitmap, false);
}

static void remove_commit(struct qmp_transaction *transaction, void *state)
{
    struct bitmap_state *s = state;
    bdrv_dirty_bitmap_set_busy(s->bitmap, false);
    bdrv_release_dirty_bitmap(s->bitmap);
}

static bool clear_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state, Error **errp)
{
    struct bitmap_state *s = state;
    s->bitmap = qmp_bitmap_usable(transaction->host, data, BDRV_BITMAP_DEFAULT, errp);
    if (s->bitmap) {
        bdrv_clear_dirty_bitmap(s->bitmap, &s->backup);
    }
    return s->bitmap != NULL;
}

static bool merge_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state, Error **errp)
{
    struct bitmap_state *s = state;
    s->bitmap = qmp_bitmap_merge(transaction->host, data, &s->backup, errp);
    return s->bitmap != NULL;
}

static void content_abort(struct qmp_transaction *transaction, void *state)
{
    struct bitmap_state *s = state;
    if (s->backup) {
        bdrv_restore_dirty_bitmap(s->bitmap, s->backup);
    }
}

/* The bitmap itself may be gone: a later action that removes it commits before. */
static void content_commit(struct qmp_transaction *transaction, void *state)
{
    hbitmap_free(((struct bitmap_state *)state)->backup);
}

static void set_enabled(BdrvDirtyBitmap *bitmap, bool enabled)
{
    if (enabled) {
        bdrv_enable_dirty_bitmap(bitmap);
    } else {
        bdrv_disable_dirty_bitmap(bitmap);
    }
}

static bool flag_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state, bool enabled,
                         Error **errp)
{
    struct bitmap_state *s = state;
    s->bitmap = qmp_bitmap_usable(transaction->host, data, BDRV_BITMAP_ALLOW_RO, errp);
    if (!s->bitmap) {
        return false;
    }
    s->enabled = bdrv_dirty_bitmap_enabled(s->bitmap);
    set_enabled(s->bitmap, enabled);
    return true;
}

static bool enable_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state,
                           Error **errp)
{
    return flag_prepare(transaction, data, state, true, errp);
}

static bool disable_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state,
                            Error **errp)
{
    return flag_prepare(transaction, data, state, false, errp);
}

static void flag_abort(struct qmp_transaction *transaction, void *state)
{
    const struct bitmap_state *s = state;
    set_enabled(s->bitmap, s->enabled);
}

const struct qmp_action qmp_bitmap_actions[] = {
    {
        .name = "block-dirty-bitmap-add",
        .args = qmp_bitmap_add_args,
        .state_size = sizeof(struct bitmap_state),
        .prepare = add_prepare,
        .abort = add_abort,
        .doc = "makes a dirty bitmap, clean",
    },
    {
        .name = "block-dirty-bitmap-remove",
        .args = qmp_bitmap_name_args,
        .state_size = sizeof(struct bitmap_state),
        .prepare = remove_prepare,
        .settle = remove_settle,
        .abort = remove_abort,
        .commit = remove_commit,
        .doc = "removes a dirty bitmap, from its image too",
    },
    {
        .name = "block-dirty-bitmap-clear",
        .args = qmp_bitmap_name_args,
        .state_size = sizeof(struct bitmap_state),
        .prepare = clear_prepare,
        .abort = content_abort,
        .commit = content_commit,
        .doc = "forgets what is dirty",
    },
    {
        .name = "block-dirty-bitmap-enable",
        .args = qmp_bitmap_name_args,
        .state_size = sizeof(struct bitmap_state),
        .prepare = enable_prepare,
        .abort = flag_abort,
        .doc = "records from now on",
    },
    {
        .name = "block-dirty-bitmap-disable",
        .args = qmp_bitmap_name_args,
        .state_size = sizeof(struct bitmap_state),
        .prepare = disable_prepare,
        .abort = flag_abort,
        .doc = "records no more",
    },
    {
        .name = "block-dirty-bitmap-merge",
        .args = qmp_bitmap_merge_args,
        .state_size = sizeof(struct bitmap_state),
        .prepare = merge_prepare,
        .abort = content_abort,
        .commit = content_commit,
        .doc = "adds the bits of other bitmaps",
    },
    {.name = NULL},
};
