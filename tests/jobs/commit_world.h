/*
 * What the commit's tests share: a chain of qcow2 images base <- mid <- top <- act over disks of these names, a
 * guest on act, what the guest ought to see, and steering of one job. A chunk is what one step of the model is
 * about.
 */
#ifndef TESTS_JOBS_COMMIT_WORLD_H
#define TESTS_JOBS_COMMIT_WORLD_H

#include "tests/jobs/job_world.h"

#include <errno.h>

#include "jobs/commit.h"

#define CHUNK (64 * KiB)
#define MAX_CHUNKS 64

static const char *const layer_names[] = {"base", "mid", "top", "act"};
enum { LAYER_BASE, LAYER_MID, LAYER_TOP, LAYER_ACT, LAYERS };

static uint8_t model[MAX_CHUNKS]; /* fill of each chunk of act, 0: zeroes */
static int chunks;                /* of act */
static BlockDriverState *act;
static BlockBackend *guest;
static struct commit_args args;
static int start_ret;
static char start_error[256];

static struct disk *disk_of(const char *name)
{
    struct disk *disk = disk_find(world, name);
    assert_non_null(disk);
    return disk;
}

static BlockDriverState *node(const char *name)
{
    BlockDriverState *bs = bdrv_find_node(host, name);
    assert_non_null(bs);
    return bs;
}

/* --- requests of a backend ------------------------------------------------------------------------------- */

struct io {
    BlockBackend *blk;
    int64_t offset;
    int64_t bytes;
    int fill; /* -1: read */
    struct payload *out;
    int ret;
    bool done;
};

static void io_entry(void *opaque)
{
    struct io *io = opaque;
    struct payload data;

    if (io->fill < 0) {
        io->ret = blk_co_preadv(io->blk, io->offset, io->bytes, io->out, 0);
    } else {
        payload_init(world, &data);
        payload_append_fill(&data, (uint8_t)io->fill, io->bytes);
        io->ret = blk_co_pwritev(io->blk, io->offset, io->bytes, &data, 0);
        payload_clear(&data);
    }
    io->done = true;
}

static bool io_done(void *opaque)
{
    return ((struct io *)opaque)->done;
}

static void io_submit(struct io *io)
{
    coroutine_start(coroutine_create(world, host, "guest", io_entry, io));
}

static void io_run(struct io *io)
{
    io_submit(io);
    assert_int_equal(sim_run_idle(world, io_done, io, INT64_MAX), SIM_STOP_COND);
    assert_int_equal(io->ret, 0);
}

static SIM_UNUSED void guest_write(int chunk, int count, int fill)
{
    struct io io = {.blk = guest, .offset = chunk * CHUNK, .bytes = count * CHUNK, .fill = fill};

    io_run(&io);
    memset(model + chunk, fill, (size_t)count);
}

/* Byte i of the content is this, all over each chunk. */
static void assert_content(BlockBackend *blk, const uint8_t *expected, int count)
{
    struct payload got, want;
    struct io io = {.blk = blk, .bytes = count * CHUNK, .fill = -1, .out = &got};

    payload_init(world, &got);
    io_run(&io);
    for (int i = 0; i < count; i++) {
        payload_init(world, &want);
        payload_append_fill(&want, expected[i], CHUNK);
        if (!payload_equal(&got, i * CHUNK, &want, 0, CHUNK)) {
            fail_msg("chunk %d is not %d", i, expected[i]);
        }
        payload_clear(&want);
    }
    payload_clear(&got);
}

static SIM_UNUSED void assert_guest_content(void)
{
    assert_content(guest, model, chunks);
}

/* --- the chain ------------------------------------------------------------------------------------------- */

static BlockBackend *new_blk(BlockDriverState *bs, uint64_t perm)
{
    BlockBackend *blk = blk_new(host, perm, BLK_PERM_ALL);

    assert_int_equal(blk_insert_bs(blk, bs, NULL), 0);
    return blk;
}

struct layer_write {
    int layer;
    BlockBackend *blk;
};

static void layer_open(void *opaque)
{
    struct layer_write *w = opaque;
    struct qvalue *options = qvalue_dict();
    Error *err = NULL;

    qdict_put(options, "driver", qvalue_str("qcow2"));
    qdict_put(options, "backing", qvalue_null());
    qdict_put_path(options, "file.driver", qvalue_str("disk"));
    qdict_put_path(options, "file.disk", qvalue_str(layer_names[w->layer]));
    BlockDriverState *bs = bdrv_open(host, options, BDRV_O_RDWR, &err);
    if (bs == NULL) {
        fail_msg("%s", error_get_pretty(err));
    }
    qvalue_free(options);
    w->blk = new_blk(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    bdrv_unref(bs);
}

static void layer_close(void *opaque)
{
    struct layer_write *w = opaque;

    blk_unref(w->blk);
}

/* Writes chunks into one image before the chain is opened. Only what no higher layer covers is in the model: write
 * from the bottom up. */
static void layer_fill(int layer, int chunk, int count, int fill)
{
    struct layer_write w = {.layer = layer};

    on_main(layer_open, &w);
    struct io io = {.blk = w.blk, .offset = chunk * CHUNK, .bytes = count * CHUNK, .fill = fill};
    io_run(&io);
    on_main(layer_close, &w);
    memset(model + chunk, fill, (size_t)count);
}

static const int *make_sizes; /* chunks of each layer */

static void chain_make(void *opaque)
{
    for (int i = 0; i < LAYERS; i++) {
        Error *err = NULL;
        int ret = bdrv_img_create(host, layer_names[i], "qcow2", make_sizes[i] * CHUNK,
                                  i > 0 ? layer_names[i - 1] : NULL, i > 0 ? "qcow2" : NULL, &err);
        if (ret < 0) {
            fail_msg("%s", error_get_pretty(err));
        }
    }
}

/* Images base, mid, top, act of these many chunks each; nothing is open. */
static void images(int base, int mid, int top, int size)
{
    const int sizes[] = {base, mid, top, size};

    make_sizes = sizes;
    memset(model, 0, sizeof(model));
    chunks = size;
    on_main(chain_make, NULL);
}

static void chain_open_main(void *opaque)
{
    struct qvalue *options = qvalue_dict();
    Error *err = NULL;
    bool names = opaque != NULL;

    qdict_put(options, "driver", qvalue_str("qcow2"));
    qdict_put(options, "node-name", qvalue_str("act"));
    qdict_put_path(options, "file.driver", qvalue_str("disk"));
    qdict_put_path(options, "file.disk", qvalue_str("act"));
    if (names) {
        qdict_put_path(options, "backing.node-name", qvalue_str("top"));
        qdict_put_path(options, "backing.backing.node-name", qvalue_str("mid"));
        qdict_put_path(options, "backing.backing.backing.node-name", qvalue_str("base"));
    }
    act = qmp_blockdev_add_node(host, options, &err);
    if (act == NULL) {
        fail_msg("blockdev-add: %s", error_get_pretty(err));
    }
    qvalue_free(options);
    guest = blk_new(host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                    BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    assert_true(blk_set_name(guest, "g", NULL));
    assert_int_equal(blk_insert_bs(guest, act, NULL), 0);
}

static void chain_open(void)
{
    static char names[] = "names";

    on_main(chain_open_main, names);
    args = (struct commit_args){.job_id = "c", .auto_finalize = true, .auto_dismiss = true};
}

/* The usual: each layer holds something that the ones above do not cover. */
static SIM_UNUSED void usual_chain(void)
{
    images(16, 16, 16, 16);
    layer_fill(LAYER_BASE, 0, 12, 0x10);
    layer_fill(LAYER_MID, 4, 4, 0x20);
    layer_fill(LAYER_TOP, 6, 2, 0x30);
    layer_fill(LAYER_TOP, 14, 1, 0x31);
    layer_fill(LAYER_ACT, 7, 1, 0x40);
    chain_open();
}

/* --- the job --------------------------------------------------------------------------------------------- */

static void start_entry(void *opaque)
{
    const char *const *names = opaque;
    Error *err = NULL;

    if (names[0] == NULL) {
        start_ret = commit_active_start(act, node(names[1]), &args, &err);
    } else {
        start_ret = commit_start(act, node(names[0]), node(names[1]), &args, &err);
    }
    snprintf(start_error, sizeof(start_error), "%s", err != NULL ? error_get_pretty(err) : "");
    assert_int_equal(start_ret < 0, err != NULL);
    error_free(err);
}

static void try_start(const char *top, const char *base)
{
    const char *names[] = {top, base};

    on_main(start_entry, names);
}

/* top NULL: an active commit. */
static SIM_UNUSED Job *start(const char *top, const char *base)
{
    try_start(top, base);
    assert_string_equal(start_error, "");
    Job *job = job_find(host, args.job_id);
    assert_non_null(job);
    return job;
}

static bool trail_has(void *opaque)
{
    return strstr(trail, opaque) != NULL;
}

static SIM_UNUSED void wait_trail(const char *word)
{
    assert_int_equal(sim_run_idle(world, trail_has, (void *)(uintptr_t)word, sim_now(world) + 1000 * NS_PER_S),
                     SIM_STOP_COND);
}

/* --- end ------------------------------------------------------------------------------------------------- */

static void close_entry(void *opaque)
{
    blk_unref(guest);
}

/* What is stored, by headers alone, is what the guest has seen. */
static SIM_UNUSED void reopen_by_headers(void)
{
    on_main(close_entry, NULL);
    del_node("act");
    assert_null(bdrv_next_node(host, NULL));
    on_main(chain_open_main, NULL);
    assert_guest_content();
}

/* The job is gone without a trace; then the graph goes, too. */
static SIM_UNUSED void assert_clean(void)
{
    assert_no_job_left();
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_commit_job), 0);
    for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs != NULL; bs = bdrv_next_node(host, bs)) {
        assert_string_not_equal(bdrv_driver_name(bs), "commit_top");
        assert_string_not_equal(bdrv_driver_name(bs), "mirror_top");
        assert_int_equal(bdrv_quiesce_counter(bs), 0);
        assert_int_equal(bdrv_op_blockers(bs), 0);
        BdrvChild *child = bdrv_filter_or_cow_child(bs);
        assert_false(child != NULL && bdrv_child_frozen(child));
    }
    on_main(close_entry, NULL);
    del_node("act");
    assert_null(bdrv_next_node(host, NULL));
    jobs_cleanup(host);
    bdrv_graph_cleanup(host);
    for (unsigned type = 0; type < SIM_TYPE_COUNT; type++) {
        if (type != SIM_TYPE_Coroutine && sim_arena_live(host->arena, (enum sim_type)type) != 0) {
            fail_msg("left: %s", sim_type_name((enum sim_type)type));
        }
    }
}

/* act <- top <- mid <- base, as opened. */
static SIM_UNUSED void assert_chain_kept(void)
{
    assert_ptr_equal(bdrv_cow_bs(act), node("top"));
    assert_ptr_equal(bdrv_cow_bs(node("top")), node("mid"));
    assert_ptr_equal(bdrv_cow_bs(node("mid")), node("base"));
    assert_true(bdrv_is_read_only(node("base")));
    assert_string_equal(bdrv_backing_filename(act), "top");
}

/* --- failing media --------------------------------------------------------------------------------------- */

struct failing {
    struct disk_interposer interposer;
    enum sim_op op;
    int count; /* requests still to fail */
    int skip;  /* before that */
};

static void failing_before(struct disk_interposer *self, struct disk_req *req)
{
    struct failing *rule = container_of(self, struct failing, interposer);

    if (req->op != rule->op || rule->count <= 0 || rule->skip-- > 0) {
        return;
    }
    rule->count--;
    req->ret = -EIO;
}

static struct failing rule;

static SIM_UNUSED void fail_requests(const char *disk, enum sim_op op, int skip, int count)
{
    rule = (struct failing){.op = op, .count = count, .skip = skip};
    rule.interposer.before = failing_before;
    disk_add_interposer(disk_of(disk), &rule.interposer);
}

#endif
