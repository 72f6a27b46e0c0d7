#include "block/snapshot.h"

#include <errno.h>

#include "block/block_int.h"

/* --- the overlay ------------------------------------------------------------------------------------------ */

static int check_file(const struct bdrv_overlay_file *file, struct host *host, Error **errp)
{
    const char *name = file->node_name;

    if (name && (bdrv_find_node(host, name) || blk_by_name(host, name))) {
        error_setg(errp, "New overlay node-name already in use");
        return -EINVAL;
    }
    return 0;
}

static int make_image(BlockDriverState *old, const struct bdrv_overlay_file *file, Error **errp)
{
    int64_t bytes = bdrv_getlength(old);

    if (bytes < 0) {
        error_setg_errno(errp, (int)bytes, "bdrv_getlength failed");
        return (int)bytes;
    }
    return bdrv_img_create(old->host, file->filename, file->format, bytes, bdrv_filename(old),
                           bdrv_backing_format(old), errp);
}

/* As the node is that it goes on, but without a backing node: that comes with the append. */
static struct qvalue *overlay_options(const BlockDriverState *old, const struct bdrv_overlay_file *file)
{
    const BlockDriver *drv = bdrv_find_driver(file->format);
    const BlockDriver *protocol = drv && drv->filename_option ? drv : bdrv_find_driver("disk");
    struct qvalue *options = qvalue_dict();
    struct qvalue *medium = drv == protocol ? options : qvalue_dict();

    qdict_put(options, "driver", qvalue_str(file->format));
    if (file->node_name) {
        qdict_put(options, "node-name", qvalue_str(file->node_name));
    }
    if (bdrv_is_read_only(old)) {
        qdict_put(options, "read-only", qvalue_bool(true));
    }
    if (drv && drv->supports_backing) {
        qdict_put(options, "backing", qvalue_null());
    }
    qdict_put(medium, protocol->filename_option, qvalue_str(file->filename));
    if (medium != options) {
        qdict_put(medium, "driver", qvalue_str(protocol->format_name));
        qdict_put(options, "file", medium);
    }
    return options;
}

static BlockDriverState *open_overlay(BlockDriverState *old, const struct bdrv_overlay_file *file, Error **errp)
{
    uint32_t kept = BDRV_O_AUTO_RDONLY | BDRV_O_UNMAP | BDRV_O_NO_FLUSH | BDRV_O_NOCACHE | BDRV_O_INACTIVE;

    if (check_file(file, old->host, errp) < 0 || (!file->existing && make_image(old, file, errp) < 0)) {
        return NULL;
    }
    struct qvalue *options = overlay_options(old, file);
    struct co_cleanup cleanup;
    coroutine_cleanup_push(old->host->sim, &cleanup, qvalue_cleanup, options);
    BlockDriverState *overlay = bdrv_open(old->host, options, old->open_flags & kept, errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(options);
    return overlay;
}

static BlockDriverState *find_overlay(struct host *host, const char *name, Error **errp)
{
    BlockDriverState *overlay = bdrv_lookup_bs(host, name, errp);

    if (overlay) {
        bdrv_ref(overlay);
    }
    return overlay;
}

/* Who reads from it already would see its content change; who only writes (the target of a mirror) may. */
static int check_overlay(const BlockDriverState *overlay, Error **errp)
{
    uint64_t perm, shared;

    bdrv_cumulative_perms(overlay, &perm, &shared);
    if (perm & BLK_PERM_CONSISTENT_READ) {
        error_setg(errp, "The overlay is already in use");
        return -EBUSY;
    }
    if (overlay->drv->is_filter) {
        error_setg(errp, "Filters cannot be used as overlays");
        return -EINVAL;
    }
    if (bdrv_cow_child(overlay)) {
        error_setg(errp, "The overlay already has a backing image");
        return -EINVAL;
    }
    if (!overlay->drv->supports_backing) {
        error_setg(errp, "The overlay does not support backing images");
        return -EINVAL;
    }
    return 0;
}

/* --- the action ------------------------------------------------------------------------------------------- */

static int flush_entry(void *opaque)
{
    return bdrv_co_flush(opaque);
}

static int settle_old(BlockDriverState *old, Error **errp)
{
    if (bdrv_op_is_blocked(old, BLOCK_OP_EXTERNAL_SNAPSHOT, errp)) {
        return -EBUSY;
    }
    int ret = bdrv_is_read_only(old) ? 0 : bdrv_run_co(old->host, "flush before snapshot", flush_entry, old);
    if (ret < 0) {
        error_setg(errp, "Write to node '%s' failed", bdrv_get_node_name(old));
    }
    return ret;
}

/* An active node cannot stand on an inactive one, so an overlay goes with what it is put on (8.2). */
static int follow_activity(ExternalSnapshot *s, Error **errp)
{
    if (!bdrv_is_inactive(s->old) || bdrv_is_inactive(s->overlay)) {
        return 0;
    }
    int ret = bdrv_inactivate(s->overlay, errp);
    s->inactivated = ret >= 0;
    return ret;
}

static void undo_follow(ExternalSnapshot *s)
{
    if (s->inactivated && bdrv_activate(s->overlay, NULL) < 0) {
        SIM_MARK(s->old->host->sim, snapshot_not_undone);
    }
    s->inactivated = false;
}

static int prepare(ExternalSnapshot *s, const char *overlay_name, const struct bdrv_overlay_file *file,
                   Error **errp)
{
    int ret = settle_old(s->old, errp);

    if (ret < 0) {
        return ret;
    }
    s->overlay = overlay_name ? find_overlay(s->old->host, overlay_name, errp) : open_overlay(s->old, file, errp);
    if (!s->overlay) {
        return -EINVAL;
    }
    ret = check_overlay(s->overlay, errp);
    if (ret == 0) {
        ret = follow_activity(s, errp);
    }
    if (ret < 0) {
        return ret;
    }
    s->parents = bdrv_note_parents(s->old);
    ret = bdrv_append(s->overlay, s->old, errp);
    if (ret < 0) {
        undo_follow(s);
    }
    return ret;
}

int external_snapshot_prepare(ExternalSnapshot *s, BlockDriverState *old, const char *overlay_name,
                              const struct bdrv_overlay_file *file, Error **errp)
{
    SIM_ASSERT((overlay_name == NULL) == (file != NULL));
    *s = (ExternalSnapshot){.old = old};
    bdrv_ref(old);
    bdrv_drained_begin(old);
    int ret = prepare(s, overlay_name, file, errp);
    if (ret < 0) {
        external_snapshot_clean(s);
    }
    return ret < 0 ? ret : 0;
}

void external_snapshot_commit(ExternalSnapshot *s)
{
    if (s->old->copy_on_read == 0) {
        bdrv_reopen_set_read_only(s->old, true, NULL);
    }
}

void external_snapshot_abort(ExternalSnapshot *s)
{
    /* What it needs it had before. If the image was taken away meanwhile, by another host, the overlay stays. */
    if (bdrv_undo_append(s->overlay, s->old, s->parents, NULL) < 0) {
        SIM_MARK(s->old->host->sim, snapshot_not_undone);
    } else {
        undo_follow(s);
    }
}

void external_snapshot_clean(ExternalSnapshot *s)
{
    struct host *host = s->old->host;

    bdrv_drained_end(s->old);
    if (s->parents) {
        bdrv_forget_parents(host, s->parents);
    }
    bdrv_unref(s->overlay);
    bdrv_unref(s->old);
}
