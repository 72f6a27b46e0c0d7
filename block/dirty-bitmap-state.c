/* The state of a dirty bitmap, and what may be done in it (reference/bitmaps-qcow2.md 2.1, 2.2). */
#include "block/dirty-bitmap_int.h"

#include <errno.h>

/* --- the table ------------------------------------------------------------------------------------------ */

#define FAULT BITMAP_FAULT
#define YES BITMAP_YES
#define ERR BITMAP_ERROR
#define SKIP BITMAP_SKIP

/* Marking a taken bitmap goes by its flag: being in use does not stop it from recording. */
static const unsigned char rules[BITMAP_OP_COUNT][BDRV_BITMAP_STATE_COUNT] = {
    /*                    ENABLED DISABLED TAKEN  FROZEN INCONSISTENT */
    [BITMAP_SET] = {YES, YES, YES, FAULT, FAULT},   [BITMAP_CLEAR] = {YES, YES, YES, FAULT, FAULT},
    [BITMAP_LOAD] = {YES, YES, YES, YES, FAULT},    [BITMAP_ENABLE] = {YES, YES, YES, FAULT, FAULT},
    [BITMAP_DISABLE] = {YES, YES, YES, FAULT, YES}, [BITMAP_TAKE] = {YES, YES, YES, FAULT, YES},
    [BITMAP_FREEZE] = {YES, YES, ERR, ERR, ERR},    [BITMAP_THAW] = {ERR, ERR, ERR, YES, ERR},
    [BITMAP_MERGE] = {YES, YES, ERR, ERR, ERR},     [BITMAP_RELEASE] = {YES, YES, FAULT, FAULT, YES},
    [BITMAP_MARK] = {YES, SKIP, YES, SKIP, SKIP},   [BITMAP_TRUNCATE] = {YES, YES, YES, SKIP, YES},
};

enum bdrv_bitmap_state bdrv_dirty_bitmap_state(const BdrvDirtyBitmap *bitmap)
{
    if (bitmap->successor != NULL) {
        return BDRV_BITMAP_STATE_FROZEN;
    }
    if (bitmap->busy) {
        return BDRV_BITMAP_STATE_TAKEN;
    }
    if (bitmap->inconsistent) {
        return BDRV_BITMAP_STATE_INCONSISTENT;
    }
    return bitmap->disabled ? BDRV_BITMAP_STATE_DISABLED : BDRV_BITMAP_STATE_ENABLED;
}

enum bitmap_rule bdrv_dirty_bitmap_rule(const BdrvDirtyBitmap *bitmap, enum bitmap_op op)
{
    if (op == BITMAP_MARK && bitmap->disabled) {
        return BITMAP_SKIP;
    }
    return (enum bitmap_rule)rules[op][bdrv_dirty_bitmap_state(bitmap)];
}

bool bdrv_dirty_bitmap_may(const BdrvDirtyBitmap *bitmap, enum bitmap_op op)
{
    enum bitmap_rule rule = bdrv_dirty_bitmap_rule(bitmap, op);
    SIM_ASSERT(rule != BITMAP_FAULT);
    return rule == BITMAP_YES;
}

/* --- state ---------------------------------------------------------------------------------------------- */

const char *bdrv_dirty_bitmap_shown_name(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->name != NULL ? bitmap->name : "";
}

int bdrv_dirty_bitmap_check(const BdrvDirtyBitmap *bitmap, uint32_t flags, Error **errp)
{
    if ((flags & BDRV_BITMAP_BUSY) && bitmap->busy) {
        error_setg(errp, "Bitmap '%s' is currently in use by another operation and cannot be used",
                   bdrv_dirty_bitmap_shown_name(bitmap));
        return -EBUSY;
    }
    if ((flags & BDRV_BITMAP_RO) && bitmap->readonly) {
        error_setg(errp, "Bitmap '%s' is readonly and cannot be modified", bdrv_dirty_bitmap_shown_name(bitmap));
        return -EPERM;
    }
    if ((flags & BDRV_BITMAP_INCONSISTENT) && bitmap->inconsistent) {
        error_setg(errp, "Bitmap '%s' is inconsistent and cannot be used", bdrv_dirty_bitmap_shown_name(bitmap));
        return -EINVAL;
    }
    return 0;
}

static void set_disabled(BdrvDirtyBitmap *bitmap, bool disabled)
{
    bitmap->disabled = disabled;
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_enable, bitmap, SIM_P(bitmap->bs->name), bitmap->id,
             !disabled);
}

void bdrv_enable_dirty_bitmap(BdrvDirtyBitmap *bitmap)
{
    SIM_ASSERT(bdrv_dirty_bitmap_may(bitmap, BITMAP_ENABLE));
    set_disabled(bitmap, false);
}

void bdrv_disable_dirty_bitmap(BdrvDirtyBitmap *bitmap)
{
    SIM_ASSERT(bdrv_dirty_bitmap_may(bitmap, BITMAP_DISABLE));
    set_disabled(bitmap, true);
}

void bdrv_dirty_bitmap_set_busy(BdrvDirtyBitmap *bitmap, bool busy)
{
    SIM_ASSERT(bdrv_dirty_bitmap_may(bitmap, BITMAP_TAKE));
    bitmap->busy = busy;
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_busy, bitmap, SIM_P(bitmap->bs->name), bitmap->id,
             busy);
}

static void set_flag(BdrvDirtyBitmap *bitmap, bool *flag, const char *name, bool value)
{
    *flag = value;
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_flag, bitmap, SIM_P(bitmap->bs->name), bitmap->id,
             SIM_P(name), value);
}

void bdrv_dirty_bitmap_set_readonly(BdrvDirtyBitmap *bitmap, bool readonly)
{
    set_flag(bitmap, &bitmap->readonly, "readonly", readonly);
}

void bdrv_dirty_bitmap_set_persistence(BdrvDirtyBitmap *bitmap, bool persistent)
{
    set_flag(bitmap, &bitmap->persistent, "persistent", persistent);
}

void bdrv_dirty_bitmap_skip_store(BdrvDirtyBitmap *bitmap, bool skip)
{
    set_flag(bitmap, &bitmap->skip_store, "skip-store", skip);
}

void bdrv_dirty_bitmap_set_inconsistent(BdrvDirtyBitmap *bitmap)
{
    SIM_ASSERT(bitmap->persistent);
    SIM_ASSERT(!bitmap->busy && LIST_EMPTY(&bitmap->iterators));
    bitmap->disabled = true;
    set_flag(bitmap, &bitmap->inconsistent, "inconsistent", true);
}
