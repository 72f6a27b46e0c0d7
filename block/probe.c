/*
 * What format content looks like (reference/block.md 2.15): drivers know their own, and formats that this program
 * has no driver for are known by the signatures that their files begin with. A guest that writes one of those over
 * the start of an image would make other programs take the image for something else.
 */
#include <errno.h>
#include <string.h>

#include "block/block_int.h"

static const struct {
    const char *format;
    unsigned offset;
    const char *bytes;
    unsigned count;
} signatures[] = {
    {"qcow2", 0, "QFI\xfb", 4},
    {"qed", 0, "QED\0", 4},
    {"luks", 0, "LUKS\xba\xbe", 6},
    {"vmdk", 0, "KDMV", 4},
    {"vmdk", 0, "COWD", 4},
    {"vhdx", 0, "vhdxfile", 8},
    {"vpc", 0, "conectix", 8},
    {"parallels", 0, "WithoutFreeSpace", 16},
    {"parallels", 0, "WithouFreSpacExt", 16},
    {"vdi", 64, "\x7f\x10\xda\xbe", 4},
};

const char *bdrv_probe_format(const uint8_t *head, size_t bytes)
{
    const BlockDriver *drv;
    const char *found = "raw";
    int best = 0;

    SIM_ASSERT(head != NULL || bytes == 0);
    for (size_t i = 0; (drv = bdrv_driver_at(i)) != NULL; i++) {
        int score = drv->bdrv_probe ? drv->bdrv_probe(head, bytes) : 0;
        if (score > best) {
            best = score;
            found = drv->format_name;
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(signatures) && best == 0; i++) {
        if (bytes >= signatures[i].offset + signatures[i].count &&
            memcmp(head + signatures[i].offset, signatures[i].bytes, signatures[i].count) == 0) {
            return signatures[i].format;
        }
    }
    return found;
}

/* --- of a file ------------------------------------------------------------------------------------------------ */

struct probe_co {
    BlockBackend *blk;
    const char *format;
    Error **errp;
};

static int probe_entry(void *opaque)
{
    struct probe_co *p = opaque;
    uint8_t head[BDRV_PROBE_BYTES];
    struct payload read;

    int64_t length = blk_co_getlength(p->blk);
    int64_t bytes = MIN(length, (int64_t)sizeof(head));
    int ret = (int)MIN(length, 0);
    payload_init(blk_bs(p->blk)->host->sim, &read);
    if (ret == 0) {
        ret = blk_co_preadv(p->blk, 0, bytes, &read, 0);
    }
    if (ret == 0) {
        payload_read_bytes(&read, 0, head, (size_t)bytes);
        p->format = bdrv_probe_format(head, (size_t)bytes);
    } else {
        error_setg_errno(p->errp, ret, "Could not read image for determining its format");
    }
    payload_clear(&read);
    return ret;
}

/* Names are for the nodes that are opened afterwards. */
static void drop_names(struct qvalue *value)
{
    if (value->type == QVALUE_DICT) {
        qvalue_free(qdict_take(value, "node-name"));
    }
    for (size_t i = 0; (value->type == QVALUE_DICT || value->type == QVALUE_LIST) && i < value->seq.count; i++) {
        drop_names(value->seq.items[i]);
    }
}

/* Opened to be looked at: nobody is kept from anything meanwhile, unless the user wants it writable (copy-on-read
 * has to be). */
static BlockBackend *open_to_read(struct host *host, const struct qvalue *file, Error **errp)
{
    struct qvalue *options = qvalue_copy(file);

    drop_names(options);
    if (qdict_put(options, "read-only", qvalue_bool(true))) {
        qdict_put(options, "force-share", qvalue_bool(true));
    }
    struct co_cleanup cleanup;
    coroutine_cleanup_push(host->sim, &cleanup, qvalue_cleanup, options);
    BlockDriverState *bs = bdrv_open(host, options, 0, errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(options);
    if (!bs) {
        return NULL;
    }
    BlockBackend *blk = blk_new(host, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    blk_set_disable_request_queuing(blk, true);
    if (blk_insert_bs(blk, bs, errp) < 0) {
        blk_unref(blk);
        blk = NULL;
    }
    bdrv_unref(bs);
    return blk;
}

const char *bdrv_probe_file(struct host *host, const struct qvalue *file, Error **errp)
{
    struct probe_co p = {.blk = open_to_read(host, file, errp), .errp = errp};

    if (!p.blk) {
        return NULL;
    }
    bdrv_run_co(host, "probe", probe_entry, &p);
    blk_unref(p.blk);
    if (p.format && !bdrv_find_driver(p.format)) {
        error_setg(errp, "Image looks like format '%s', which has no driver; its format has to be specified",
                   p.format);
        return NULL;
    }
    SIM_MARK(host->sim, format_probed);
    return p.format;
}
