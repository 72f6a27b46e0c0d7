/*
 * A world with one host whose main coroutine runs the test, and drivers that the tests can hold, count and bend.
 *
 * WORLD_TEST(name) { ... w ... } runs on the main coroutine; at its end every node, backend, edge and request must
 * be gone.
 */
#ifndef BLKTEST_H
#define BLKTEST_H

#include <errno.h>

#include "tests/testlib.h"

#include "block/block_int.h"

struct world {
    struct sim *sim;
    struct host *host;
    void (*body)(struct world *w);
    bool done;
};

static void world_run_body(void *opaque)
{
    struct world *w = opaque;

    w->body(w);
    w->done = true;
}

SIM_UNUSED static void world_run(void (*body)(struct world *w))
{
    static const enum sim_type types[] = {SIM_TYPE_BlockDriverState, SIM_TYPE_BdrvChild,
                                          SIM_TYPE_bdrv_instance,    SIM_TYPE_BlockBackend,
                                          SIM_TYPE_bdrv_op_blocker,  SIM_TYPE_BlockGraph};
    struct world w = {.sim = sim_new(), .body = body};

    w.host = host_new(w.sim, "h");
    bdrv_graph_init(w.host);
    host_command(w.host, world_run_body, &w);
    sim_run_idle(w.sim, NULL, NULL, INT64_MAX);
    if (!w.done) {
        sim_dump_hang(w.sim, stderr);
    }
    assert_true(w.done);
    bdrv_graph_cleanup(w.host);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        assert_int_equal(sim_arena_live(w.host->arena, types[i]), 0);
    }
    assert_int_equal(coroutine_count(w.sim), 1); /* the main loop */
    host_delete(w.host);
    sim_delete(w.sim);
}

#define WORLD_TEST(name) \
    static void name##_body(struct world *w); \
    static void name(void **state) \
    { \
        world_run(name##_body); \
    } \
    static void name##_body(struct world *w)

/* --- options, nodes -------------------------------------------------------------------------------------- */

/* JSON with single quotes. */
SIM_UNUSED static struct qvalue *opts(const char *text)
{
    char *json = strdup(text);

    for (char *c = json; *c; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    Error *err = NULL;
    struct qvalue *v = qvalue_from_json(json, strlen(json), &err);
    if (!v) {
        fail_msg("%s: %s", text, error_get_pretty(err));
    }
    free(json);
    return v;
}

SIM_UNUSED static BlockDriverState *try_add(struct world *w, const char *text, Error **errp)
{
    struct qvalue *options = opts(text);
    BlockDriverState *bs = qmp_blockdev_add_node(w->host, options, errp);

    qvalue_free(options);
    return bs;
}

SIM_UNUSED static BlockDriverState *add(struct world *w, const char *text)
{
    Error *err = NULL;
    BlockDriverState *bs = try_add(w, text, &err);

    if (!bs) {
        fail_msg("%s: %s", text, error_get_pretty(err));
    }
    return bs;
}

SIM_UNUSED static void del(struct world *w, const char *name)
{
    Error *err = NULL;

    if (!qmp_blockdev_del_node(w->host, name, &err)) {
        fail_msg("%s", error_get_pretty(err));
    }
}

SIM_UNUSED static struct disk *make_disk(struct world *w, const char *name, int64_t size_bytes)
{
    struct disk_config config;

    disk_config_default(&config);
    config.size_bytes = size_bytes;
    struct disk *disk = disk_new(w->sim, name, &config, NULL);
    assert_non_null(disk);
    return disk;
}

/* Asserts that err is set and says text somewhere, and frees it. */
SIM_UNUSED static void expect_error(Error **err, const char *text)
{
    assert_non_null(*err);
    if (!strstr(error_get_pretty(*err), text)) {
        fail_msg("expected '%s' in '%s'", text, error_get_pretty(*err));
    }
    error_free(*err);
    *err = NULL;
}

SIM_UNUSED static unsigned node_count(struct world *w)
{
    unsigned count = 0;

    for (BlockDriverState *bs = bdrv_next_node(w->host, NULL); bs; bs = bdrv_next_node(w->host, bs)) {
        count++;
    }
    return count;
}

/* --- test drivers ---------------------------------------------------------------------------------------- */

struct test_node {
    unsigned drain_begins, drain_ends;
    unsigned reads, writes, fua_writes, zero_writes;
    unsigned set_perms, abort_perms;
    bool hold; /* requests wait until release_requests */
    bool queue_ready;
    CoQueue queue;
    uint64_t extra_perm, unshare; /* of its children, in all roles */
};

SIM_UNUSED static struct test_node *tn(const BlockDriverState *bs)
{
    return bs->opaque;
}

static void test_wait(BlockDriverState *bs)
{
    struct test_node *t = bs->opaque;

    if (!t->queue_ready) {
        co_queue_init(bs->host->sim, &t->queue);
        t->queue_ready = true;
    }
    while (t->hold) {
        co_queue_wait(&t->queue);
    }
}

SIM_UNUSED static void release_requests(BlockDriverState *bs)
{
    tn(bs)->hold = false;
    if (tn(bs)->queue_ready) {
        co_queue_restart_all(&tn(bs)->queue);
    }
}

static int test_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    tn(bs)->reads++;
    test_wait(bs);
    if (bs->file) {
        return bdrv_co_preadv(bs->file, offset, bytes, out, flags);
    }
    payload_append_zero(out, bytes);
    return 0;
}

static int test_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                        uint32_t flags)
{
    tn(bs)->writes++;
    tn(bs)->fua_writes += (flags & BDRV_REQ_FUA) != 0;
    test_wait(bs);
    return bs->file ? bdrv_co_pwritev(bs->file, offset, bytes, in, flags) : 0;
}

static void test_drain_begin(BlockDriverState *bs)
{
    tn(bs)->drain_begins++;
}

static void test_drain_end(BlockDriverState *bs)
{
    tn(bs)->drain_ends++;
}

static void test_child_perm(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm, uint64_t shared,
                            uint64_t *nperm, uint64_t *nshared)
{
    bdrv_default_perms(bs, child, role, perm, shared, nperm, nshared);
    *nperm |= tn(bs)->extra_perm;
    *nshared &= ~tn(bs)->unshare;
}

static void test_set_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    tn(bs)->set_perms++;
}

static void test_abort_perm(BlockDriverState *bs)
{
    tn(bs)->abort_perms++;
}

#define TEST_DRIVER_HOOKS \
    .instance_size = sizeof(struct test_node), .internal = true, .bdrv_co_preadv = test_preadv, \
    .bdrv_co_pwritev = test_pwritev, .bdrv_drain_begin = test_drain_begin, .bdrv_drain_end = test_drain_end, \
    .bdrv_child_perm = test_child_perm, .bdrv_set_perm = test_set_perm, .bdrv_abort_perm = test_abort_perm

SIM_UNUSED static const BlockDriver test_protocol = {
    .format_name = "test-protocol", .is_protocol = true, TEST_DRIVER_HOOKS};
SIM_UNUSED static const BlockDriver test_format = {
    .format_name = "test-format", .supports_backing = true, TEST_DRIVER_HOOKS};
SIM_UNUSED static const BlockDriver test_filter = {
    .format_name = "test-filter", .is_filter = true, TEST_DRIVER_HOOKS};
SIM_UNUSED static const BlockDriver test_top = {
    .format_name = "test-top", .is_filter = true, .filtered_child_is_backing = true, TEST_DRIVER_HOOKS};

/* A writable node of 1 MiB; one reference. */
SIM_UNUSED static BlockDriverState *new_node(struct world *w, const BlockDriver *drv, const char *name)
{
    BlockDriverState *bs = bdrv_new_node(w->host, drv, name);

    bs->open_flags = BDRV_O_RDWR;
    bs->total_bytes = MiB;
    bs->supported_write_flags = BDRV_REQ_FUA;
    bdrv_refresh_limits(bs);
    return bs;
}

/* Takes over the caller's reference on child. */
SIM_UNUSED static BdrvChild *link_child(BlockDriverState *parent, BlockDriverState *child, const char *name,
                                        uint32_t role)
{
    Error *err = NULL;
    BdrvChild *edge = bdrv_attach_child(parent, child, name, role, &err);

    if (!edge) {
        fail_msg("%s", error_get_pretty(err));
    }
    bdrv_unref(child);
    return edge;
}

/* --- coroutines and time --------------------------------------------------------------------------------- */

struct request {
    struct world *w;
    BlockBackend *blk;
    BdrvChild *child;
    int64_t offset, bytes;
    bool write;
    bool done;
    int ret;
    unsigned *order; /* counts completions */
    unsigned position;
};

static void request_entry(void *opaque)
{
    struct request *r = opaque;
    struct payload p;

    payload_init(r->w->sim, &p);
    if (r->write) {
        payload_append_fill(&p, 0x5a, r->bytes);
        r->ret = r->blk ? blk_co_pwritev(r->blk, r->offset, r->bytes, &p, 0)
                        : bdrv_co_pwritev(r->child, r->offset, r->bytes, &p, 0);
    } else {
        r->ret = r->blk ? blk_co_preadv(r->blk, r->offset, r->bytes, &p, 0)
                        : bdrv_co_preadv(r->child, r->offset, r->bytes, &p, 0);
    }
    payload_clear(&p);
    r->done = true;
    if (r->order) {
        r->position = ++*r->order;
    }
    host_kick(r->w->host);
}

SIM_UNUSED static void start(struct request *r)
{
    coroutine_start(coroutine_create(r->w->sim, r->w->host, "test request", request_entry, r));
}

static bool request_is_done(void *opaque)
{
    return ((struct request *)opaque)->done;
}

SIM_UNUSED static int finish(struct request *r)
{
    host_poll(r->w->host, request_is_done, r);
    return r->ret;
}

SIM_UNUSED static int run(struct request *r)
{
    start(r);
    return finish(r);
}

struct pause {
    struct world *w;
    int64_t ns;
    bool over;
};

static void pause_entry(void *opaque)
{
    struct pause *p = opaque;

    co_sleep_ns(p->w->sim, p->ns);
    p->over = true;
    host_kick(p->w->host);
}

static bool pause_is_over(void *opaque)
{
    return ((struct pause *)opaque)->over;
}

/* Lets the rest of the world go on for a while. */
SIM_UNUSED static void let_run(struct world *w, int64_t ns)
{
    struct pause p = {.w = w, .ns = ns};

    coroutine_start(coroutine_create(w->sim, w->host, "pause", pause_entry, &p));
    host_poll(w->host, pause_is_over, &p);
}

#endif
