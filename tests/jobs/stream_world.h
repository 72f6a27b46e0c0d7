/*
 * What the stream's tests share: a chain of qcow2 images i0, i1, .. with nodes n0 (base) to nN (top) over fake
 * disks, a guest's backend on the top, what the guest must read, starting and steering streams, failing media.
 */
#ifndef TESTS_JOBS_STREAM_WORLD_H
#define TESTS_JOBS_STREAM_WORLD_H

#include "tests/jobs/job_world.h"

#include <errno.h>

#include "jobs/stream_int.h"

#define MAX_LAYERS 6
#define MAX_SECTORS 8192

static struct disk *disks[MAX_LAYERS];
static BlockDriverState *layers[MAX_LAYERS];
static unsigned layer_count;
static BlockBackend *guest;
static uint8_t want[MAX_SECTORS]; /* of the top: the byte in each sector */
static int64_t want_bytes;
static struct stream_args args;
static char error_text[256];

static struct qvalue *options_of(const char *text)
{
    char json[512];

    snprintf(json, sizeof(json), "{%s}", text);
    for (char *c = json; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    struct qvalue *options = qvalue_from_json(json, strlen(json), NULL);
    assert_non_null(options);
    return options;
}

/* --- chains --------------------------------------------------------------------------------------------- */

static void add_entry(void *opaque)
{
    struct qvalue *options = options_of(opaque);
    Error *err = NULL;

    if (qmp_blockdev_add_node(host, options, &err) == NULL) {
        fail_msg("%s: %s", (const char *)opaque, error_get_pretty(err));
    }
    qvalue_free(options);
}

static BlockDriverState *add(const char *name, const char *text)
{
    on_main(add_entry, (void *)(uintptr_t)text);
    return bdrv_find_node(host, name);
}

static int create_co(void *opaque)
{
    return bdrv_co_create(host, opaque, NULL);
}

static void create_entry(void *opaque)
{
    struct qvalue *options = options_of(opaque);

    assert_true(bdrv_create_check(options, NULL));
    assert_int_equal(bdrv_run_co(host, "create", create_co, options), 0);
    qvalue_free(options);
}

/* The next layer of the chain: larger ones stand on smaller ones, too. */
static SIM_UNUSED BlockDriverState *add_layer(int64_t bytes)
{
    unsigned n = layer_count++;
    char text[256], backing[64] = "", disk[16], node[16];

    snprintf(disk, sizeof(disk), "i%u", n);
    snprintf(node, sizeof(node), "n%u", n);
    disks[n] = new_disk(disk, 0, 64 * MiB);
    if (n > 0) {
        snprintf(backing, sizeof(backing), ",'backing-file':'i%u','backing-fmt':'qcow2'", n - 1);
    }
    snprintf(text, sizeof(text), "'driver':'qcow2','file':{'driver':'disk','disk':'%s'},'size':%lld%s", disk,
             (long long)bytes, backing);
    on_main(create_entry, text);
    snprintf(text, sizeof(text),
             "'driver':'qcow2','node-name':'%s','discard':'unmap','file':{'driver':'disk','disk':'%s'}", node,
             disk);
    if (n > 0) {
        snprintf(backing, sizeof(backing), ",'backing':'n%u'", n - 1);
        strcat(text, backing);
    }
    layers[n] = add(node, text);
    memset(want + MIN(want_bytes, bytes) / 512, 0, (size_t)(MAX_SECTORS - MIN(want_bytes, bytes) / 512));
    want_bytes = bytes;
    return layers[n];
}

/* --- I/O ------------------------------------------------------------------------------------------------ */

struct io {
    BlockBackend *blk;
    int64_t offset;
    int64_t bytes;
    int fill; /* -1: discard, -2: zero write, -3: read into the next */
    struct payload data;
    int ret;
    bool done;
};

static void io_entry(void *opaque)
{
    struct io *io = opaque;

    payload_init(world, &io->data);
    if (io->fill == -1) {
        io->ret = blk_co_pdiscard(io->blk, io->offset, io->bytes);
    } else if (io->fill == -2) {
        io->ret = blk_co_pwrite_zeroes(io->blk, io->offset, io->bytes, BDRV_REQ_MAY_UNMAP);
    } else if (io->fill == -3) {
        io->ret = blk_co_preadv(io->blk, io->offset, io->bytes, &io->data, 0);
    } else {
        payload_append_fill(&io->data, (uint8_t)io->fill, io->bytes);
        io->ret = blk_co_pwritev(io->blk, io->offset, io->bytes, &io->data, 0);
    }
    io->done = true;
}

static void io_submit(struct io *io)
{
    coroutine_start(coroutine_create(world, host, "guest", io_entry, io));
}

static bool io_done(void *opaque)
{
    return ((struct io *)opaque)->done;
}

static void io_wait(struct io *io)
{
    assert_int_equal(sim_run_idle(world, io_done, io, sim_now(world) + 100 * NS_PER_S), SIM_STOP_COND);
}

struct user {
    BlockBackend *blk;
    BlockDriverState *bs;
    uint64_t perm;
};

static void user_entry(void *opaque)
{
    struct user *user = opaque;
    Error *err = NULL;

    user->blk = blk_new(host, user->perm, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE);
    if (blk_insert_bs(user->blk, user->bs, &err) < 0) {
        fail_msg("%s", error_get_pretty(err));
    }
}

static BlockBackend *user_of(BlockDriverState *bs, uint64_t perm)
{
    struct user user = {.bs = bs, .perm = perm};

    on_main(user_entry, &user);
    return user.blk;
}

static void unref_entry(void *opaque)
{
    blk_unref(opaque);
}

/* Remembers that the top holds this now. */
static void want_fill(int64_t offset, int64_t bytes, int fill)
{
    memset(want + offset / 512, MAX(fill, 0), (size_t)(bytes / 512));
}

/* A layer gets its content while it is the top. */
static SIM_UNUSED void put(unsigned layer, int64_t offset, int64_t bytes, int fill)
{
    struct io io = {.blk = user_of(layers[layer], BLK_PERM_WRITE), .offset = offset, .bytes = bytes, .fill = fill};

    assert_int_equal(layer, layer_count - 1);
    io_submit(&io);
    io_wait(&io);
    assert_int_equal(io.ret, 0);
    payload_clear(&io.data);
    on_main(unref_entry, io.blk);
    want_fill(offset, bytes, fill);
}

static SIM_UNUSED void guest_write(int64_t offset, int64_t bytes, int fill)
{
    struct io io = {.blk = guest, .offset = offset, .bytes = bytes, .fill = fill};

    io_submit(&io);
    io_wait(&io);
    assert_int_equal(io.ret, 0);
    payload_clear(&io.data);
    want_fill(offset, bytes, fill);
}

/* All of a node, against what the guest has to read. */
static void assert_content(BlockDriverState *bs)
{
    struct io io = {.blk = user_of(bs, BLK_PERM_CONSISTENT_READ), .bytes = want_bytes, .fill = -3};
    uint8_t *bytes = calloc(1, (size_t)want_bytes + 1);

    if (want_bytes > 0) {
        io_submit(&io);
        io_wait(&io);
        assert_int_equal(io.ret, 0);
        payload_read_bytes(&io.data, 0, bytes, want_bytes);
        payload_clear(&io.data);
    }
    on_main(unref_entry, io.blk);
    for (int64_t i = 0; i < want_bytes; i++) {
        if (bytes[i] != want[i / 512]) {
            fail_msg("byte %lld of %s is %u, not %u", (long long)i, bdrv_get_node_name(bs), bytes[i],
                     want[i / 512]);
        }
    }
    free(bytes);
}

/* --- jobs ----------------------------------------------------------------------------------------------- */

static SIM_UNUSED void plug_guest(BlockDriverState *bs)
{
    guest = user_of(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    assert_true(blk_set_name(guest, "g", NULL));
}

static void default_args(void)
{
    args = (struct stream_args){.job_id = "j", .auto_finalize = true, .auto_dismiss = true};
}

static void start_entry(void *opaque)
{
    Error *err = NULL;
    int ret = stream_start(opaque, &args, &err);

    assert_int_equal(ret < 0, err != NULL);
    snprintf(error_text, sizeof(error_text), "%s", err != NULL ? error_get_pretty(err) : "");
    error_free(err);
}

static SIM_UNUSED const char *try_start(BlockDriverState *bs)
{
    on_main(start_entry, bs);
    return error_text;
}

static SIM_UNUSED Job *start(BlockDriverState *bs)
{
    assert_string_equal(try_start(bs), "");
    return job_find(host, args.job_id != NULL ? args.job_id : "g");
}

static bool trail_has(void *opaque)
{
    return strstr(trail, opaque) != NULL;
}

static SIM_UNUSED void wait_trail(const char *word)
{
    if (sim_run_idle(world, trail_has, (void *)(uintptr_t)word, sim_now(world) + 1000 * NS_PER_S) !=
        SIM_STOP_COND) {
        fail_msg("no %s in: %s", word, trail);
    }
}

#define DONE "S:created S:running S:waiting S:pending COMPLETED S:concluded S:null"

static SIM_UNUSED void expect_trail(const char *text)
{
    assert_string_equal(trail, text);
    trail[0] = '\0';
}

static SIM_UNUSED int64_t allocated(unsigned layer)
{
    return disk_length(disks[layer]);
}

/* --- the end -------------------------------------------------------------------------------------------- */

struct checking {
    BlockDriverState *bs;
    BdrvCheckResult result;
};

static int check_co(void *opaque)
{
    struct checking *c = opaque;
    int ret = bdrv_co_flush(c->bs);

    return ret < 0 ? ret : bdrv_co_check(c->bs, &c->result, 0);
}

static void check_entry(void *opaque)
{
    struct checking *c = opaque;

    assert_int_equal(bdrv_run_co(host, "check", check_co, c), 0);
}

/* No job, no filter, no blocker, nothing frozen; the images are whole; the content is right. */
static SIM_UNUSED void assert_settled(void)
{
    assert_no_job_left();
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_stream_job), 0);
    for (unsigned i = 0; i < layer_count; i++) {
        BdrvChild *edge = bdrv_cow_child(layers[i]);
        struct checking c = {.bs = layers[i]};

        assert_int_equal(bdrv_quiesce_counter(layers[i]), 0);
        assert_int_equal(bdrv_op_blockers(layers[i]), 0);
        assert_true(edge == NULL || !bdrv_child_frozen(edge));
        on_main(check_entry, &c);
        assert_int_equal(c.result.corruptions + c.result.leaks + c.result.check_errors, 0);
    }
    for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs != NULL; bs = bdrv_next_node(host, bs)) {
        assert_false(bdrv_is_implicit(bs));
    }
    assert_content(layers[layer_count - 1]);
}

/* Everything closed; then the top is opened by its header alone, and still holds what it has to. */
static SIM_UNUSED void reopen_and_end(void)
{
    char name[16], text[128];

    if (guest != NULL) {
        on_main(unref_entry, guest);
        guest = NULL;
    }
    for (unsigned i = layer_count; i-- > 0;) {
        snprintf(name, sizeof(name), "n%u", i);
        del_node(name);
    }
    snprintf(text, sizeof(text), "'driver':'qcow2','node-name':'again','file':{'driver':'disk','disk':'i%u'}",
             layer_count - 1);
    assert_content(add("again", text));
    del_node("again");
    assert_null(bdrv_next_node(host, NULL));
    jobs_cleanup(host);
    bdrv_graph_cleanup(host);
}

static int stream_setup(void **state)
{
    layer_count = 0;
    want_bytes = 0;
    guest = NULL;
    memset(want, 0, sizeof(want));
    default_args();
    return world_setup(state);
}

/* --- failing media -------------------------------------------------------------------------------------- */

struct failing {
    struct disk_interposer interposer;
    enum sim_op op;
    int error;
    int64_t from; /* offset on the medium */
    int every;    /* each so-manieth, from the first */
    int count;    /* requests still to fail */
    int seen;
};

static void failing_before(struct disk_interposer *self, struct disk_req *req)
{
    struct failing *rule = container_of(self, struct failing, interposer);

    if (req->op != rule->op || rule->count <= 0 || (int64_t)req->offset < rule->from ||
        rule->seen++ % MAX(rule->every, 1) != 0) {
        return;
    }
    rule->count--;
    req->ret = rule->error;
}

static SIM_UNUSED void fail_requests(struct failing *rule, struct disk *disk)
{
    rule->interposer.before = failing_before;
    disk_add_interposer(disk, &rule->interposer);
}

#endif
