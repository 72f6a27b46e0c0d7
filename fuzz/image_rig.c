/* The world of the fuzz target `image`: see image_rig.h. */
#include "fuzz/image_rig.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2.h"

#define DATA_BYTES ((int64_t)4 << 20)
#define BACK_BYTES ((int64_t)96 << 10)

/* Worlds are recycled, as DESIGN 2.5 has it. */
static struct sim *world;

void rig_finding(const struct rig *rig, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "fail image  %s: ", rig->phase);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\n  build  fuzz target image\n");
    fprintf(stderr, "  again  build/fuzz/image-replay INPUT; with BLKSIM_UNPACK=FILE the image is written there\n");
    abort();
}

/* --- media ---------------------------------------------------------------------------------------------------- */

static void watch(struct disk_interposer *self, struct disk_req *req)
{
    bool changes = req->op == SIM_OP_WRITE || req->op == SIM_OP_WRITE_ZEROES || req->op == SIM_OP_DISCARD ||
                   req->op == SIM_OP_TRUNCATE;

    container_of(self, struct rig_eye, hook)->rig->changes += changes;
}

static struct disk *make_disk(struct rig *rig, unsigned number, const char *name, int64_t bytes)
{
    struct disk_config config;

    disk_config_default(&config);
    config.size_bytes = bytes;
    struct disk *disk = disk_new(rig->sim, name, &config, NULL);
    SIM_ASSERT(disk);
    disk_set_journal(disk, false);
    rig->eye[number] = (struct rig_eye){.hook = {.before = watch}, .rig = rig};
    disk_add_interposer(disk, &rig->eye[number].hook);
    return disk;
}

static bool all_zero(const uint8_t *at, size_t bytes)
{
    return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

static void fill_image(struct rig *rig)
{
    const struct image_input *input = rig->input;
    uint8_t page[SIM_PAGE_BYTES];

    for (size_t at = 0; at < input->length; at += sizeof(page)) {
        size_t bytes = MIN(sizeof(page), input->length - at);
        struct payload p;

        if (all_zero(input->bytes + at, bytes)) {
            continue;
        }
        memset(page, 0, sizeof(page));
        memcpy(page, input->bytes + at, bytes);
        payload_init(rig->sim, &p);
        payload_append_bytes(&p, page, (int64_t)ROUND_UP(bytes, (size_t)SIM_SECTOR_BYTES));
        disk_poke(rig->img, (int64_t)at, &p);
        payload_clear(&p);
    }
}

static void fill_back(struct rig *rig, struct disk *back)
{
    struct payload p;

    payload_init(rig->sim, &p);
    payload_append_fill(&p, 0xbb, BACK_BYTES);
    disk_poke(back, 0, &p);
    payload_clear(&p);
}

/* --- running -------------------------------------------------------------------------------------------------- */

void rig_settle(struct rig *rig)
{
    enum sim_stop stop = sim_run(rig->sim, NULL, NULL, INT64_MAX);

    if (stop == SIM_STOP_EVENTS || stop == SIM_STOP_LIVELOCK) {
        rig_finding(rig, "more than %llu events: no end of requests", (unsigned long long)RIG_MAX_EVENTS);
    }
    if (stop != SIM_STOP_SETTLED) {
        sim_dump_hang(rig->sim, stderr);
        rig_finding(rig, "the world stopped with %d", (int)stop);
    }
}

void rig_main(struct rig *rig, void (*fn)(void *opaque), void *opaque)
{
    host_command(rig->host, fn, opaque);
    rig_settle(rig);
}

void rig_start(struct rig *rig, const char *what, void (*fn)(void *opaque), void *opaque)
{
    coroutine_start(coroutine_create(rig->sim, rig->host, what, fn, opaque));
}

void rig_co(struct rig *rig, const char *what, void (*fn)(void *opaque), void *opaque)
{
    rig_start(rig, what, fn, opaque);
    rig_settle(rig);
}

/* --- the node ---------------------------------------------------------------------------------------------------
 */

static struct qvalue *disk_node(const char *disk)
{
    struct qvalue *node = qvalue_dict();

    qdict_put(node, "driver", qvalue_str("disk"));
    qdict_put(node, "disk", qvalue_str(disk));
    return node;
}

static struct qvalue *node_options(const struct rig *rig, bool writable)
{
    struct qvalue *node = qvalue_dict();
    uint8_t mode = rig->input->mode;

    qdict_put(node, "driver", qvalue_str("qcow2"));
    qdict_put(node, "node-name", qvalue_str("n"));
    qdict_put(node, "read-only", qvalue_bool(!writable));
    qdict_put(node, "file", disk_node("img"));
    if (mode & IMAGE_DATA_FILE) {
        qdict_put(node, "data-file", disk_node("data"));
    }
    if (mode & IMAGE_NO_BACKING) {
        qdict_put(node, "backing", qvalue_null());
    }
    if (mode & IMAGE_SMALL_CACHES) {
        qdict_put(node, "l2-cache-size", qvalue_int(1));
        qdict_put(node, "refcount-cache-size", qvalue_int(1));
    }
    if (mode & IMAGE_LAZY) {
        qdict_put(node, "lazy-refcounts", qvalue_bool(true));
    }
    if (mode & IMAGE_UNMAP) {
        qdict_put(node, "discard", qvalue_str("unmap"));
    }
    if (mode & IMAGE_OVERLAP_ALL) {
        qdict_put(node, "overlap-check", qvalue_str("all"));
    }
    if (mode & IMAGE_NO_UNREF) {
        qdict_put(node, "discard-no-unref", qvalue_bool(true));
    }
    return node;
}

struct open_call {
    struct rig *rig;
    unsigned how;
};

static void open_main(void *opaque)
{
    struct open_call *call = opaque;
    struct rig *rig = call->rig;
    bool writable = (call->how & RIG_WRITABLE) != 0;
    struct qvalue *options = node_options(rig, writable);
    uint64_t perm = BLK_PERM_CONSISTENT_READ | (writable ? BLK_PERM_WRITE | BLK_PERM_RESIZE : 0);
    Error *err = NULL;

    rig->bs = bdrv_open(rig->host, options, call->how & RIG_CHECK ? BDRV_O_CHECK : 0, &err);
    qvalue_free(options);
    free(rig->error);
    rig->error = NULL;
    if (!rig->bs) {
        rig->error = strdup(error_get_pretty(err));
        error_free(err);
        return;
    }
    rig->blk = blk_new(rig->host, perm, BLK_PERM_ALL);
    if (blk_insert_bs(rig->blk, rig->bs, NULL) < 0) {
        rig_finding(rig, "an open node takes no user");
    }
}

bool rig_open(struct rig *rig, const char *phase, unsigned how)
{
    struct open_call call = {rig, how};

    rig->phase = phase;
    rig->changes = 0;
    rig_main(rig, open_main, &call);
    if (!rig->bs && rig->changes > 0) {
        rig_finding(rig, "refused (%s) after %llu writes", rig->error, (unsigned long long)rig->changes);
    }
    if (!rig->bs && (!rig->error || !rig->error[0])) {
        rig_finding(rig, "refused without a word");
    }
    return rig->bs != NULL;
}

static void close_main(void *opaque)
{
    struct rig *rig = opaque;

    blk_unref(rig->blk);
    bdrv_unref(rig->bs);
    rig->blk = NULL;
    rig->bs = NULL;
}

void rig_close(struct rig *rig)
{
    SIM_ASSERT(rig->bs);
    rig_main(rig, close_main, rig);
    if (bdrv_next_node(rig->host, NULL)) {
        rig_finding(rig, "a node is left");
    }
    uint64_t left = sim_arena_live(rig->host->arena, SIM_TYPE_qcow2_memory);
    if (left > 0) {
        rig_finding(rig, "%llu pieces of the driver's memory are left", (unsigned long long)left);
    }
}

void rig_restore(struct rig *rig)
{
    SIM_ASSERT(!rig->bs);
    disk_snapshot_restore(rig->img, rig->original);
}

struct check_call {
    struct rig *rig;
    BdrvCheckResult *res;
    uint32_t fix;
    int ret;
};

static void check_entry(void *opaque)
{
    struct check_call *call = opaque;

    call->ret = bdrv_co_check(call->rig->bs, call->res, call->fix);
}

int rig_check(struct rig *rig, BdrvCheckResult *res, uint32_t fix)
{
    struct check_call call = {.rig = rig, .res = res, .fix = fix};

    *res = (BdrvCheckResult){0};
    rig_co(rig, "check", check_entry, &call);
    return call.ret;
}

/* --- life -------------------------------------------------------------------------------------------------------
 */

static void init_graph(void *opaque)
{
    bdrv_graph_init(opaque);
}

static void end_graph(void *opaque)
{
    bdrv_graph_cleanup(opaque);
}

void rig_begin(struct rig *rig, const struct image_input *input)
{
    if (!world) {
        world = sim_new();
    }
    *rig = (struct rig){.sim = world, .input = input, .phase = "begin"};
    sim_set_limits(world, (int64_t)1 << 62, RIG_MAX_EVENTS);
    rig->img = make_disk(rig, 0, "img", (int64_t)input->length);
    fill_image(rig);
    make_disk(rig, 1, "data", DATA_BYTES);
    fill_back(rig, make_disk(rig, 2, "back", BACK_BYTES));
    rig->original = disk_snapshot_take(rig->img);
    rig->host = host_new(world, "h");
    rig_main(rig, init_graph, rig->host);
}

void rig_end(struct rig *rig)
{
    uint64_t peak = sim_arena_peak_bytes(rig->host->arena) + sim_arena_peak_bytes(sim_arena(rig->sim));

    rig->phase = "end";
    rig_main(rig, end_graph, rig->host);
    if (peak > RIG_MAX_ARENA_BYTES) {
        rig_finding(rig, "%llu bytes of the world's memory", (unsigned long long)peak);
    }
    disk_snapshot_delete(rig->img, rig->original);
    host_delete(rig->host);
    free(rig->error);
    sim_reset(rig->sim);
}
