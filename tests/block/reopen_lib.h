/*
 * Reopening in a world of blktest.h: the whole graph as text, so that "nothing has changed" is one comparison, and
 * a format that says when it is asked what.
 */
#ifndef REOPEN_LIB_H
#define REOPEN_LIB_H

#include "tests/block/blktest.h"

#include "block/options.h"

/* --- everything, as text ---------------------------------------------------------------------------------- */

static void put_options(FILE *out, const struct qvalue *options)
{
    char *json = options ? qvalue_to_json(options) : NULL;

    fprintf(out, " %s", json ? json : "-");
    free(json);
}

static void put_node(FILE *out, const BlockDriverState *bs)
{
    const BdrvChild *edge;

    fprintf(out, "%s %s flags=%x zeroes=%d bytes=%lld align=%u max=%lld ref=%u quiesce=%u from=%llu cor=%u",
            bs->name->str, bs->drv->format_name, bs->open_flags, (int)bs->detect_zeroes, (long long)bs->total_bytes,
            bs->bl.request_alignment, (long long)bs->bl.max_transfer, bs->refcnt, bs->quiesce_counter,
            (unsigned long long)bs->inherits_from, bs->copy_on_read);
    fprintf(out, " can=%x,%x,%x,%x", bs->supported_read_flags, bs->supported_write_flags, bs->supported_zero_flags,
            bs->supported_truncate_flags);
    put_options(out, bs->explicit_options);
    put_options(out, bs->options);
    LIST_FOREACH(edge, &bs->children, next)
    {
        fprintf(out, "\n  %s -> %s role=%x perm=%llx shared=%llx%s", edge->name, edge->bs->name->str, edge->role,
                (unsigned long long)edge->perm, (unsigned long long)edge->shared_perm,
                edge->frozen ? " frozen" : "");
    }
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        char *user = bdrv_child_user_desc(edge);
        fprintf(out, "\n  <- %s of %s", edge->name, user);
        free(user);
    }
    fputc('\n', out);
}

/* Nodes, links, permissions, options, and how much memory the host has. The caller frees it. */
SIM_UNUSED static char *graph_text(struct world *w)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    for (BlockDriverState *bs = bdrv_next_node(w->host, NULL); bs; bs = bdrv_next_node(w->host, bs)) {
        put_node(out, bs);
    }
    fprintf(out, "%llu bytes, %llu options, %llu edges\n", (unsigned long long)sim_arena_live_bytes(w->host->arena),
            (unsigned long long)sim_arena_live(w->host->arena, SIM_TYPE_bdrv_options),
            (unsigned long long)sim_arena_live(w->host->arena, SIM_TYPE_BdrvChild));
    fclose(out);
    return text;
}

static void turn(void *opaque)
{
    *(bool *)opaque = true;
}

static bool is_set(void *opaque)
{
    return *(bool *)opaque;
}

/* What was put off for a turn of the loop has happened. */
SIM_UNUSED static void settle(struct world *w)
{
    for (unsigned i = 0; i < 3; i++) {
        bool done = false;
        host_defer(w->host, turn, &done);
        host_poll(w->host, is_set, &done);
    }
}

/* --- reopening -------------------------------------------------------------------------------------------- */

SIM_UNUSED static bool try_reopen(struct world *w, const char *list, Error **errp)
{
    struct qvalue *options = opts(list);
    bool ok = qmp_blockdev_reopen_nodes(w->host, options, errp);

    qvalue_free(options);
    return ok;
}

SIM_UNUSED static void reopen(struct world *w, const char *list)
{
    Error *err = NULL;

    if (!try_reopen(w, list, &err)) {
        fail_msg("%s: %s", list, error_get_pretty(err));
    }
}

/* Refused with this text, and the graph is as it was. */
SIM_UNUSED static void reopen_refused(struct world *w, const char *list, const char *text)
{
    char *before = graph_text(w);
    Error *err = NULL;

    if (try_reopen(w, list, &err)) {
        fail_msg("accepted: %s", list);
    }
    expect_error(&err, text);
    settle(w);
    char *after = graph_text(w);
    assert_string_equal(after, before);
    free(before);
    free(after);
}

SIM_UNUSED static BlockDriverState *node(struct world *w, const char *name)
{
    BlockDriverState *bs = bdrv_find_node(w->host, name);

    assert_non_null(bs);
    return bs;
}

/* --- a format that tells ---------------------------------------------------------------------------------- */

static char fmt_log[400]; /* "prepare:a commit:a " */
static int fmt_flush_error;
static const char *fmt_refuses; /* name of the node whose prepare fails */
static bool fmt_all_drained;    /* while anybody was asked */

static void fmt_say(const char *what, const BlockDriverState *bs)
{
    size_t used = strlen(fmt_log);

    snprintf(fmt_log + used, sizeof(fmt_log) - used, "%s:%s ", what, bs->name->str);
    for (const BdrvChild *edge = LIST_FIRST(&bs->children); edge; edge = LIST_NEXT(edge, next)) {
        fmt_all_drained &= edge->bs->inherits_from != bs->number + 1 || edge->bs->quiesce_counter > 0;
    }
    fmt_all_drained &= bs->quiesce_counter > 0;
}

static int fmt_prepare(BDRVReopenState *state, Error **errp)
{
    fmt_say("prepare", state->bs);
    if (fmt_refuses && str_is(state->bs->name->str, fmt_refuses)) {
        error_setg(errp, "fmt refuses");
        return -EINVAL;
    }
    return 0;
}

static void fmt_commit(BDRVReopenState *state)
{
    fmt_say("commit", state->bs);
}

static void fmt_abort(BDRVReopenState *state)
{
    fmt_say("abort", state->bs);
}

static void fmt_post(BDRVReopenState *state)
{
    fmt_say("post", state->bs);
}

static int fmt_flush(BlockDriverState *bs)
{
    return fmt_flush_error;
}

static int fmt_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    payload_append_zero(out, bytes);
    return 0;
}

static int fmt_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                       uint32_t flags)
{
    return 0;
}

static const BdrvOption fmt_options[] = {
    {"file", BDRV_OPT_NODE, true, "storage", NULL},
    {"backing", BDRV_OPT_NODE, false, "what shows through", NULL},
    {"tune", BDRV_OPT_SIZE, false, "may change", NULL},
    {"fixed", BDRV_OPT_SIZE, false, "may not", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};
static const char *const fmt_mutable[] = {"tune", NULL};

static const BlockDriver fmt_driver = {
    .format_name = "fmt",
    .doc = "test",
    .options = fmt_options,
    .supports_backing = true,
    .internal = true,
    .bdrv_co_preadv = fmt_preadv,
    .bdrv_co_pwritev = fmt_pwritev,
    .bdrv_co_flush = fmt_flush,
    .bdrv_reopen_prepare = fmt_prepare,
    .bdrv_reopen_commit = fmt_commit,
    .bdrv_reopen_abort = fmt_abort,
    .bdrv_reopen_commit_post = fmt_post,
    .mutable_opts = fmt_mutable,
};

/* A node of it over others, which it references; options as blockdev-add would have had them. backing NULL: none.
 */
SIM_UNUSED static BlockDriverState *fmt_new(struct world *w, const char *options, const char *file,
                                            const char *backing)
{
    struct qvalue *tree = opts(options);
    const char *name;
    bool read_only;

    assert_true(qdict_get_str(tree, "node-name", &name, NULL, NULL));
    assert_true(qdict_get_bool(tree, "read-only", &read_only, false, NULL));
    BlockDriverState *bs = bdrv_new_node(w->host, &fmt_driver, name);
    bs->open_flags = read_only ? 0 : BDRV_O_RDWR;
    bs->total_bytes = MiB;
    bdrv_remember_options(bs, tree, bs->open_flags);
    qvalue_free(tree);
    assert_non_null(bdrv_attach_child(bs, node(w, file), "file",
                                      BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_PRIMARY, NULL));
    if (backing) {
        assert_non_null(bdrv_attach_child(bs, node(w, backing), "backing", BDRV_CHILD_COW, NULL));
    }
    bdrv_refresh_limits(bs);
    bs->monitor_owned = true;
    fmt_log[0] = 0;
    fmt_flush_error = 0;
    fmt_refuses = NULL;
    fmt_all_drained = true;
    return bs;
}

/* --- media that deny -------------------------------------------------------------------------------------- */

struct denier {
    struct disk_interposer interposer;
    enum sim_op op;
    int error;
    unsigned left; /* requests to deny */
    unsigned seen;
};

SIM_UNUSED static void deny(struct disk_interposer *self, struct disk_req *req)
{
    struct denier *d = container_of(self, struct denier, interposer);

    if (req->op == d->op) {
        d->seen++;
        if (d->left > 0) {
            d->left--;
            req->ret = d->error;
        }
    }
}

#endif
