/* Internal snapshots as an action of a transaction (block/snapshot.h). */
#include <stdlib.h>
#include <string.h>

#include "block/block_int.h"
#include "block/snapshot.h"

struct request {
    BlockDriverState *bs;
    const char *id;
    const char *name;
    char *new_id; /* malloc'ed */
    Error **errp;
};

/* The newest is the last. */
static char *newest_id(const BlockDriverState *bs)
{
    QEMUSnapshotInfo *list;
    int count = bdrv_snapshot_list(bs, &list);
    char *id = count > 0 ? strdup(list[count - 1].id_str) : NULL;

    bdrv_snapshot_list_free(list, MAX(count, 0));
    return id;
}

static int create_entry(void *opaque)
{
    struct request *r = opaque;
    int ret = bdrv_co_flush(r->bs);

    if (ret < 0) {
        error_setg_errno(r->errp, ret, "Could not flush");
        return ret;
    }
    ret = bdrv_co_snapshot_create(r->bs, NULL, r->name, r->errp);
    r->new_id = ret < 0 ? NULL : newest_id(r->bs);
    return ret;
}

static int delete_entry(void *opaque)
{
    struct request *r = opaque;

    return bdrv_co_snapshot_delete(r->bs, r->id, r->name, r->errp);
}

int internal_snapshot_prepare(InternalSnapshot *s, BlockDriverState *bs, const char *name, Error **errp)
{
    struct request r = {.bs = bs, .name = name, .errp = errp};

    *s = (InternalSnapshot){.bs = bs};
    bdrv_ref(bs);
    bdrv_drained_begin(bs);
    int ret = bdrv_run_co(bs->host, "internal snapshot", create_entry, &r);
    s->id = r.new_id;
    if (ret < 0) {
        internal_snapshot_clean(s);
        return ret;
    }
    SIM_ASSERT(s->id != NULL);
    return 0;
}

void internal_snapshot_abort(InternalSnapshot *s)
{
    struct request r = {.bs = s->bs, .id = s->id};

    if (bdrv_run_co(s->bs->host, "undo of an internal snapshot", delete_entry, &r) < 0) {
        SIM_MARK(s->bs->host->sim, internal_snapshot_not_undone);
    }
}

void internal_snapshot_clean(InternalSnapshot *s)
{
    free(s->id);
    bdrv_drained_end(s->bs);
    bdrv_unref(s->bs);
}

int internal_snapshot_delete(BlockDriverState *bs, const char *id, const char *name, Error **errp)
{
    struct request r = {.bs = bs, .id = id, .name = name, .errp = errp};

    bdrv_drained_begin(bs);
    int ret = bdrv_run_co(bs->host, "delete an internal snapshot", delete_entry, &r);
    bdrv_drained_end(bs);
    return ret;
}
