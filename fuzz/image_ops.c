/* What is done to an image: see image_ops.h. */
#include "fuzz/image_ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/dirty-bitmap.h"

/* --- looking ------------------------------------------------------------------------------------------------- */

static void look_co(void *opaque)
{
    struct rig *rig = opaque;
    BlockDriverInfo info = {0};
    QEMUSnapshotInfo *list = NULL;
    char hash[65];

    bdrv_co_get_info(rig->bs, &info);
    bdrv_co_getlength(rig->bs);
    qvalue_free(bdrv_co_get_specific_info(rig->bs));
    int nb = bdrv_snapshot_list(rig->bs, &list);
    bdrv_snapshot_list_free(list, MAX(nb, 0));
    for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_next(rig->bs, NULL); b; b = bdrv_dirty_bitmap_next(rig->bs, b)) {
        bdrv_get_dirty_count(b);
        if (bdrv_dirty_bitmap_size(b) <= 64 * MiB) {
            bdrv_dirty_bitmap_sha256(b, hash);
        }
    }
}

void ops_look(struct rig *rig)
{
    rig_co(rig, "look", look_co, rig);
}

/* --- reading ------------------------------------------------------------------------------------------------- */

struct sampling {
    struct rig *rig;
    struct ops_samples *samples;
};

static void add_sample(struct sampling *s, int64_t offset, int64_t bytes)
{
    int64_t size = blk_getlength(s->rig->blk);

    bytes = MIN(MIN(bytes, RIG_MAX_IO), size - offset);
    if (bytes > 0 && offset >= 0 && s->samples->nb < OPS_MAX_SAMPLES) {
        s->samples->list[s->samples->nb++] = (struct ops_sample){.offset = offset, .bytes = bytes};
    }
}

static void find_co(void *opaque)
{
    struct sampling *s = opaque;
    int64_t size = blk_getlength(s->rig->blk);
    int64_t offset = 0;

    add_sample(s, 0, 4096);
    add_sample(s, ROUND_DOWN(size / 2, (int64_t)512), 4096);
    add_sample(s, MAX(size - 4096, 0), 4096);
    for (unsigned i = 0; i < OPS_MAX_EXTENTS && offset < size; i++) {
        int64_t pnum = 0;
        int64_t map = 0;
        BlockDriverState *file = NULL;
        int ret = bdrv_co_block_status(s->rig->bs, offset, size - offset, &pnum, &map, &file);

        if (ret < 0) {
            add_sample(s, offset, 512);
            offset += ROUND_UP(MAX(size / OPS_MAX_EXTENTS, 1), (int64_t)65536);
            continue;
        }
        if (pnum <= 0 || pnum > size - offset) {
            rig_finding(s->rig, "block status at %lld of %lld: %lld bytes", (long long)offset, (long long)size,
                        (long long)pnum);
        }
        if (ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED)) {
            add_sample(s, offset, pnum);
        }
        offset += pnum;
    }
}

void ops_find_samples(struct rig *rig, struct ops_samples *samples)
{
    struct sampling s = {rig, samples};

    samples->nb = 0;
    rig_co(rig, "block status", find_co, &s);
}

static void read_co(void *opaque)
{
    struct sampling *s = opaque;

    for (unsigned i = 0; i < s->samples->nb; i++) {
        struct ops_sample *sample = &s->samples->list[i];
        struct payload p;

        payload_init(s->rig->sim, &p);
        sample->ret = blk_co_preadv(s->rig->blk, sample->offset, sample->bytes, &p, 0);
        sample->content = sample->ret == 0 ? payload_content_id(&p) : 0;
        payload_clear(&p);
    }
}

void ops_read_samples(struct rig *rig, struct ops_samples *samples)
{
    struct sampling s = {rig, samples};

    rig_co(rig, "read", read_co, &s);
}

/* --- operations of the input -----------------------------------------------------------------------------------
 */

struct op {
    struct rig *rig;
    unsigned number;
    unsigned how;
    int64_t offset;
    int64_t bytes;
    int ret;
};

/* A length of `how`: a sector, 4 KiB, a cluster, ..., and the offset aligned to it, or not. */
static void place(struct op *op, unsigned where)
{
    static const int64_t lengths[] = {512, 4096, 65536, 1536, 16384, 200 << 10};
    int64_t size = blk_getlength(op->rig->blk);
    int64_t bytes = lengths[op->how % ARRAY_SIZE(lengths)];
    int64_t align = op->how & 0x80 ? 512 : MIN(bytes, 65536);
    int64_t offset = (where & 0x8000) ? (int64_t)((__int128)size * (where & 0x7fff) >> 15) : (int64_t)where * 512;

    if (size < 512) {
        op->offset = op->bytes = 0;
        return;
    }
    op->offset = ROUND_DOWN(offset % size, align);
    op->bytes = MIN(bytes, size - op->offset);
}

static uint8_t fill_of(const struct op *op)
{
    return (uint8_t)(0x41 + op->number);
}

static void op_write(void *opaque)
{
    struct op *op = opaque;
    struct payload p;

    payload_init(op->rig->sim, &p);
    payload_append_fill(&p, fill_of(op), op->bytes);
    op->ret = blk_co_pwritev(op->rig->blk, op->offset, op->bytes, &p, op->how & 0x40 ? BDRV_REQ_FUA : 0);
    payload_clear(&p);
}

static void op_write_compressed(void *opaque)
{
    struct op *op = opaque;
    BlockDriverInfo info = {.cluster_size = 512};
    int64_t size = blk_getlength(op->rig->blk);
    struct payload p;

    bdrv_co_get_info(op->rig->bs, &info);
    op->offset = ROUND_DOWN(op->offset, info.cluster_size);
    op->bytes = MIN(info.cluster_size, size - op->offset);
    payload_init(op->rig->sim, &p);
    payload_append_fill(&p, fill_of(op), op->bytes);
    op->ret = blk_co_pwritev(op->rig->blk, op->offset, op->bytes, &p, BDRV_REQ_WRITE_COMPRESSED);
    payload_clear(&p);
}

static void op_zero(void *opaque)
{
    struct op *op = opaque;

    op->ret = blk_co_pwrite_zeroes(op->rig->blk, op->offset, op->bytes, op->how & 0x40 ? BDRV_REQ_MAY_UNMAP : 0);
}

static void op_discard(void *opaque)
{
    struct op *op = opaque;

    op->ret = blk_co_pdiscard(op->rig->blk, op->offset, op->bytes);
}

static void op_read(void *opaque)
{
    struct op *op = opaque;
    struct payload p;

    payload_init(op->rig->sim, &p);
    op->ret = blk_co_preadv(op->rig->blk, op->offset, op->bytes, &p, 0);
    payload_clear(&p);
}

static void op_flush(void *opaque)
{
    struct op *op = opaque;

    op->ret = blk_co_flush(op->rig->blk);
}

static void op_truncate(void *opaque)
{
    struct op *op = opaque;
    int64_t size = blk_getlength(op->rig->blk);
    int64_t length = op->how & 0x40 ? op->offset : size + op->bytes;
    enum bdrv_prealloc prealloc = op->how & 0x20 ? PREALLOC_METADATA : PREALLOC_OFF;

    op->ret = blk_co_truncate(op->rig->blk, length, true, prealloc, 0, NULL);
}

static void op_snapshot_create(void *opaque)
{
    struct op *op = opaque;
    char name[2] = {(char)('a' + op->how % 8), '\0'};

    op->ret = bdrv_co_snapshot_create(op->rig->bs, NULL, name, NULL);
}

/* One that is there, if any. */
static int pick_snapshot(const struct op *op, char **id)
{
    QEMUSnapshotInfo *list = NULL;
    int nb = bdrv_snapshot_list(op->rig->bs, &list);

    if (nb > 0) {
        *id = strdup(list[op->how % (unsigned)nb].id_str);
    }
    bdrv_snapshot_list_free(list, MAX(nb, 0));
    return nb;
}

static void op_snapshot_goto(void *opaque)
{
    struct op *op = opaque;
    char *id;

    if (pick_snapshot(op, &id) > 0) {
        op->ret = bdrv_co_snapshot_goto(op->rig->bs, id, NULL, NULL);
        free(id);
    }
}

static void op_snapshot_delete(void *opaque)
{
    struct op *op = opaque;
    char *id;

    if (pick_snapshot(op, &id) > 0) {
        op->ret = bdrv_co_snapshot_delete(op->rig->bs, id, NULL, NULL);
        free(id);
    }
}

static void op_bitmap_add(void *opaque)
{
    struct op *op = opaque;
    char name[3] = {'b', (char)('0' + op->how % 8), '\0'};
    uint32_t granularity = 512u << (op->how >> 4);

    if (!bdrv_co_can_store_new_dirty_bitmap(op->rig->bs, name, granularity, NULL)) {
        return;
    }
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(op->rig->bs, granularity, name, NULL);
    if (bitmap) {
        bdrv_dirty_bitmap_set_persistence(bitmap, true);
    }
}

static void op_bitmap_remove(void *opaque)
{
    struct op *op = opaque;
    BdrvDirtyBitmap *bitmap = bdrv_dirty_bitmap_next(op->rig->bs, NULL);

    for (unsigned i = op->how % 4; bitmap && i > 0; i--) {
        BdrvDirtyBitmap *next = bdrv_dirty_bitmap_next(op->rig->bs, bitmap);
        bitmap = next ? next : bitmap;
    }
    if (!bitmap || bdrv_dirty_bitmap_check(bitmap, BDRV_BITMAP_BUSY | BDRV_BITMAP_RO, NULL) < 0) {
        return;
    }
    if (!bdrv_dirty_bitmap_persistent(bitmap) ||
        bdrv_co_remove_persistent_dirty_bitmap(op->rig->bs, bdrv_dirty_bitmap_name(bitmap), NULL) == 0) {
        bdrv_release_dirty_bitmap(bitmap);
    }
}

static void op_check(void *opaque)
{
    struct op *op = opaque;
    BdrvCheckResult res = {0};
    uint32_t fix = op->how % 4;

    op->ret = bdrv_co_check(op->rig->bs, &res, fix);
}

static void op_reopen(void *opaque)
{
    struct op *op = opaque;

    /* with a writer above only the way back and forth without it shows anything */
    blk_remove_bs(op->rig->blk);
    op->ret = bdrv_reopen_set_read_only(op->rig->bs, true, NULL);
    if (op->ret == 0) {
        op->ret = bdrv_reopen_set_read_only(op->rig->bs, false, NULL);
    }
}

enum op_kind {
    ALONE = 1,   /* with nothing else going on */
    ON_MAIN = 2, /* the main coroutine does it */
    DRAINED = 4, /* as the caller has to see to */
    CONTENT = 8, /* the range reads `fill` afterwards */
    ZEROES = 16, /* ... or zero */
};

static const struct {
    void (*fn)(void *opaque);
    unsigned kind;
} ops[] = {
    {op_write, CONTENT},
    {op_write_compressed, 0},
    {op_zero, ZEROES},
    {op_discard, 0},
    {op_read, 0},
    {op_flush, 0},
    {op_snapshot_create, ALONE | DRAINED},
    {op_snapshot_goto, ALONE | DRAINED},
    {op_snapshot_delete, ALONE | DRAINED},
    {op_bitmap_add, ALONE},
    {op_bitmap_remove, ALONE},
    {op_truncate, ALONE},
    {op_check, ALONE},
    {op_reopen, ALONE | ON_MAIN},
    {op_write, CONTENT},
    {op_write, CONTENT},
};

static void drain_begin(void *opaque)
{
    bdrv_drained_begin(opaque);
}

static void drain_end(void *opaque)
{
    bdrv_drained_end(opaque);
}

struct read_back {
    struct op *op;
    bool zero;
};

static void read_back_co(void *opaque)
{
    struct read_back *r = opaque;
    struct op *op = r->op;
    struct payload p, want;

    payload_init(op->rig->sim, &p);
    payload_init(op->rig->sim, &want);
    payload_append_fill(&want, r->zero ? 0 : fill_of(op), op->bytes);
    int ret = blk_co_preadv(op->rig->blk, op->offset, op->bytes, &p, 0);
    if (ret < 0 || payload_first_difference(&p, &want, op->bytes) >= 0) {
        rig_finding(op->rig, "op %u, %lld bytes at %lld: what was written does not read back: %d", op->number,
                    (long long)op->bytes, (long long)op->offset, ret);
    }
    payload_clear(&p);
    payload_clear(&want);
}

static void user_back(void *opaque)
{
    struct rig *rig = opaque;

    if (!blk_bs(rig->blk) && blk_insert_bs(rig->blk, rig->bs, NULL) < 0) {
        /* it stayed read-only: what follows is told so */
        blk_unref(rig->blk);
        rig->blk = blk_new(rig->host, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
        if (blk_insert_bs(rig->blk, rig->bs, NULL) < 0) {
            rig_finding(rig, "a node takes no user any more");
        }
    }
}

static void run_alone(struct rig *rig, struct op *op, unsigned which)
{
    if (ops[which].kind & ON_MAIN) {
        rig_main(rig, ops[which].fn, op);
        rig_main(rig, user_back, rig);
        return;
    }
    if (ops[which].kind & DRAINED) {
        rig_main(rig, drain_begin, rig->bs);
    }
    rig_co(rig, "operation", ops[which].fn, op);
    if (ops[which].kind & DRAINED) {
        rig_main(rig, drain_end, rig->bs);
    }
}

void ops_run(struct rig *rig, bool strict)
{
    const struct image_input *input = rig->input;
    struct op run[IMAGE_MAX_OPS];

    for (unsigned i = 0; i < input->ops; i++) {
        unsigned which = input->op[i][0] % ARRAY_SIZE(ops);
        bool together = (input->op[i][0] & 0x80) != 0; /* with what comes next */
        unsigned kind = ops[which].kind;

        run[i] = (struct op){.rig = rig, .number = i, .how = input->op[i][3]};
        if (bdrv_is_read_only(rig->bs) || (kind & ALONE)) {
            rig_settle(rig);
        }
        if (bdrv_is_read_only(rig->bs)) {
            return;
        }
        place(&run[i], input->op[i][1] | (unsigned)input->op[i][2] << 8);
        if (run[i].bytes == 0 && !(kind & ALONE)) {
            continue;
        }
        if (kind & ALONE) {
            run_alone(rig, &run[i], which);
            continue;
        }
        rig_start(rig, "operation", ops[which].fn, &run[i]);
        if (together) {
            continue;
        }
        rig_settle(rig);
        bool alone = i == 0 || !(input->op[i - 1][0] & 0x80);
        if (strict && alone && run[i].ret == 0 && (kind & (CONTENT | ZEROES))) {
            struct read_back r = {&run[i], (kind & ZEROES) != 0};
            rig_co(rig, "read back", read_back_co, &r);
        }
    }
    rig_settle(rig);
}

bool ops_refusal_is_fine(const struct rig *rig)
{
    /* the same medium twice below one node cannot have a writer */
    return rig->error &&
           (strstr(rig->error, "permission") || strstr(rig->error, "lock") || strstr(rig->error, "use"));
}
