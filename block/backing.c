/*
 * Backing files: the link to one, the name of one in an image's header, and taking layers out of a chain (1.8, 9).
 *
 * The two are separate. The link is what the graph is now; the header is what the image says of itself when it is
 * opened the next time. Commands that change one say what they do to the other.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/tran.h"

/* --- names ----------------------------------------------------------------------------------------------- */

static void set_string(struct host *host, char **string, const char *text)
{
    char *copy = text ? sim_strdup(host->arena, text) : NULL; /* text may be the old one */

    if (*string) {
        sim_strfree(host->arena, *string);
    }
    *string = copy;
}

void bdrv_set_backing_strings(BlockDriverState *bs, const char *filename, const char *format)
{
    SIM_ASSERT(filename || !format);
    set_string(bs->host, &bs->backing_filename, filename);
    set_string(bs->host, &bs->backing_format, format);
}

const char *bdrv_backing_filename(const BlockDriverState *bs)
{
    return bs->backing_filename;
}

const char *bdrv_header_backing_format(const BlockDriverState *bs)
{
    return bs->backing_format;
}

char *bdrv_full_filename(const BlockDriverState *bs, const char *name)
{
    const char *own = bdrv_filename(bs);
    const char *slash = strrchr(own, '/');

    int prefix = slash && name[0] != '/' ? (int)(slash - own) + 1 : 0;
    char *full = NULL;
    if (asprintf(&full, "%.*s%s", prefix, own, name) < 0) {
        abort();
    }
    return full;
}

char *bdrv_full_backing_filename(const BlockDriverState *bs)
{
    return bs->backing_filename ? bdrv_full_filename(bs, bs->backing_filename) : NULL;
}

const char *bdrv_backing_format(BlockDriverState *bs)
{
    const BlockDriver *drv = bdrv_skip_filters(bs)->drv;

    return drv->is_protocol ? "raw" : drv->format_name;
}

/* --- opening what the header names ------------------------------------------------------------------------- */

const BlockDriver *bdrv_protocol_below(const BlockDriverState *bs)
{
    while (bdrv_primary_bs(bs)) {
        bs = bdrv_primary_bs(bs);
    }
    return bs->drv->filename_option ? bs->drv : bdrv_find_driver("disk");
}

static bool takes_file(const BlockDriver *drv)
{
    for (const BdrvOption *option = drv->options; option && option->name; option++) {
        if (option->type == BDRV_OPT_NODE && str_is(option->name, "file")) {
            return true;
        }
    }
    return false;
}

static bool add_filename(struct qvalue *tree, const BlockDriver *protocol, const char *filename, Error **errp);

/* A dictionary that names its own medium has no use for the header's name. */
static bool add_to_file(struct qvalue *tree, const BlockDriver *protocol, const char *filename, Error **errp)
{
    struct qvalue *file = qdict_get(tree, "file");

    if (!file) {
        file = qvalue_dict();
        qdict_put(tree, "file", file);
    }
    if (file->type != QVALUE_DICT) {
        error_setg(errp, "Cannot reference an existing block device with additional options or a new filename");
        return false;
    }
    if (qdict_get(file, protocol->filename_option)) {
        return true;
    }
    if (!qdict_get(file, "driver")) {
        qdict_put(file, "driver", qvalue_str(protocol->format_name));
    }
    return add_filename(file, protocol, filename, errp);
}

/* Puts the file name where the tree's driver looks for it [seed 31ca6d0]. */
static bool add_filename(struct qvalue *tree, const BlockDriver *protocol, const char *filename, Error **errp)
{
    const char *name;

    if (!qdict_get_str(tree, "driver", &name, "", errp)) {
        return false;
    }
    const BlockDriver *drv = bdrv_find_driver(name);
    if (!drv) {
        error_setg(errp, "Parameter 'driver' does not accept value '%s'", name);
        return false;
    }
    if (drv->filename_option) {
        if (!qdict_put(tree, drv->filename_option, qvalue_str(filename))) {
            error_setg(errp, "Can't specify the file name '%s' and '%s' options at the same time", filename,
                       drv->filename_option);
            return false;
        }
        return true;
    }
    if (!takes_file(drv)) {
        error_setg(errp, "Driver '%s' cannot take the file name '%s'", name, filename);
        return false;
    }
    return add_to_file(tree, protocol, filename, errp);
}

/* Neither user nor header say what format it is: its content does (2.15). */
static bool add_probed(struct host *host, struct qvalue *tree, const BlockDriver *protocol, const char *filename,
                       Error **errp)
{
    const char *format =
        add_to_file(tree, protocol, filename, errp) ? bdrv_probe_file(host, qdict_get(tree, "file"), errp) : NULL;

    if (format) {
        qdict_put(tree, "driver", qvalue_str(format));
    }
    return format != NULL;
}

/* What the user said of the backing node, added to what the header says. NULL with errp. */
static struct qvalue *backing_tree(const BlockDriverState *bs, const struct qvalue *given, bool *probed,
                                   Error **errp)
{
    struct qvalue *tree = given ? qvalue_copy(given) : qvalue_dict();

    *probed = bs->backing_filename && !bs->backing_format && !qdict_get(tree, "driver");
    if (!bs->backing_filename) {
        return tree;
    }
    char *filename = bdrv_full_backing_filename(bs);
    if (bs->backing_format && !qdict_get(tree, "driver")) {
        qdict_put(tree, "driver", qvalue_str(bs->backing_format));
    }
    bool ok = *probed ? add_probed(bs->host, tree, bdrv_protocol_below(bs), filename, errp)
                      : add_filename(tree, bdrv_protocol_below(bs), filename, errp);
    free(filename);
    if (!ok) {
        qvalue_free(tree);
        return NULL;
    }
    return tree;
}

struct open_backing {
    BlockDriverState *bs;
    const struct qvalue *given; /* what the user says: NULL, a name or a dictionary */
    Error *err;
    bool ok;
};

static void open_backing_main(void *opaque)
{
    struct open_backing *o = opaque;
    bool probed = false;
    bool inlined = !o->given || o->given->type == QVALUE_DICT;
    struct qvalue *tree = inlined ? backing_tree(o->bs, o->given, &probed, &o->err) : qvalue_copy(o->given);

    if (!tree) {
        return;
    }
    struct co_cleanup cleanup;
    coroutine_cleanup_push(o->bs->host->sim, &cleanup, qvalue_cleanup, tree);
    BdrvChild *edge = bdrv_open_child_value(o->bs, tree, "backing", BDRV_CHILD_COW, &o->err);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(tree);
    if (edge && probed && str_is(edge->bs->drv->format_name, "raw")) {
        edge->bs->open_flags |= BDRV_O_PROBED; /* nobody has used it so far */
        bdrv_refresh_limits(edge->bs);
    }
    o->ok = edge != NULL;
}

int bdrv_open_backing(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    const struct qvalue *given = qdict_get(options, "backing");
    bool none = given && (given->type == QVALUE_NULL || (given->type == QVALUE_STR && given->str.length == 0));

    if (!bs->drv->supports_backing || bs->backing || none || (!given && !bs->backing_filename)) {
        return 0;
    }
    struct open_backing o = {.bs = bs, .given = given};
    /* Each image of a chain opens in a coroutine of its own: however long the chain is, the stack is not. */
    host_call_main(bs->host, open_backing_main, &o);
    if (!o.ok) {
        error_prepend(&o.err, "Could not open backing file: ");
        error_propagate(errp, o.err);
    }
    return o.ok ? 0 : -EINVAL;
}

/* --- the link -------------------------------------------------------------------------------------------- */

static int set_backing(struct bdrv_tran *tran, BlockDriverState *bs, BlockDriverState *backing, Error **errp)
{
    BlockDriverState *start[2] = {bs, bs->backing ? bs->backing->bs : NULL};

    if (bs->backing && bs->backing->frozen) {
        return bdrv_frozen_error(bs->backing, errp);
    }
    if (bs->backing) {
        bdrv_tran_detach(tran, bs->backing);
    }
    if (backing && !bdrv_tran_link(tran, bs, backing, "backing", BDRV_CHILD_COW, false, errp)) {
        return -EINVAL;
    }
    return bdrv_tran_perms(tran, start, start[1] ? 2 : 1, errp);
}

/* Everything about the link is drained. */
static int set_backing_drained(BlockDriverState *bs, BlockDriverState *backing, Error **errp)
{
    struct bdrv_tran tran;

    bdrv_tran_begin(&tran);
    return bdrv_tran_finish(&tran, set_backing(&tran, bs, backing, errp));
}

int bdrv_set_backing_hd(BlockDriverState *bs, BlockDriverState *backing, Error **errp)
{
    if (!bs->drv->supports_backing || bs->drv->is_filter) {
        error_setg(errp, "Driver '%s' of node '%s' does not support backing files", bs->drv->format_name,
                   bdrv_get_node_name(bs));
        return -EINVAL;
    }
    bdrv_ref(bs);
    bdrv_drained_begin(bs);
    BlockDriverState *old;
    for (;;) { /* the link may change while this waits [sharp edge 27] */
        old = bdrv_cow_bs(bs);
        bdrv_ref(old ? old : bs);
        bdrv_drained_begin(old ? old : bs);
        if (bdrv_cow_bs(bs) == old) {
            break;
        }
        bdrv_drained_end(old ? old : bs);
        bdrv_unref_later(old ? old : bs);
    }
    if (backing) {
        bdrv_drained_begin(backing);
    }
    int ret = bdrv_cow_bs(bs) == backing ? 0 : set_backing_drained(bs, backing, errp);
    if (backing) {
        bdrv_drained_end(backing);
    }
    bdrv_drained_end(old ? old : bs);
    bdrv_unref_later(old ? old : bs);
    bdrv_drained_end(bs);
    bdrv_unref_later(bs);
    return ret;
}

/* --- the header ------------------------------------------------------------------------------------------ */

struct change_backing {
    BlockDriverState *bs;
    const char *filename;
    const char *format;
};

static int change_backing_entry(void *opaque)
{
    struct change_backing *c = opaque;

    return c->bs->drv->bdrv_co_change_backing_file(c->bs, c->filename, c->format);
}

int bdrv_change_backing_file(BlockDriverState *bs, const char *filename, const char *format)
{
    struct change_backing c = {bs, filename, filename ? format : NULL};

    if (!bs->drv->bdrv_co_change_backing_file) {
        return -ENOTSUP;
    }
    if (!bdrv_is_writable(bs)) {
        return -EACCES;
    }
    int ret = bdrv_run_co(bs->host, "change backing file", change_backing_entry, &c);
    if (ret >= 0) {
        bdrv_set_backing_strings(bs, c.filename, c.format);
    }
    return ret;
}

int bdrv_rewrite_backing_file(BlockDriverState *bs, const char *filename, const char *format, Error **errp)
{
    bool read_only = bdrv_is_read_only(bs);

    if (read_only) {
        int ret = bdrv_reopen_set_read_only(bs, false, errp);
        if (ret < 0) {
            return ret;
        }
    }
    Error *err = NULL;
    int ret = bdrv_change_backing_file(bs, filename, format);
    if (ret < 0) {
        error_setg_errno(&err, ret, "Could not change backing file to '%s'", filename ? filename : "");
    }
    if (read_only) { /* also after a failure, which then is the one to tell */
        int back = bdrv_reopen_set_read_only(bs, true, err ? NULL : &err);
        ret = ret < 0 ? ret : back;
    }
    error_propagate(errp, err);
    return ret < 0 ? ret : 0;
}

/* --- dropping layers ------------------------------------------------------------------------------------- */

struct bdrv_overlays {
    size_t count;
    size_t room;
    BlockDriverState *bs[];
};

static size_t overlays_bytes(size_t room)
{
    return sizeof(struct bdrv_overlays) + room * sizeof(BlockDriverState *);
}

/* The images above that have bs as their backing file, seen through filters, each once. list NULL: only counts. */
static size_t find_overlays(BlockDriverState *bs, struct bdrv_overlays *list)
{
    const BdrvChild *edge;
    size_t count = 0;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        BlockDriverState *parent = bdrv_child_parent_bs(edge);
        if (parent && edge == bdrv_filter_child(parent)) {
            count += find_overlays(parent, list);
        } else if (parent && edge == bdrv_cow_child(parent) && bdrv_visit(parent)) {
            if (list) {
                SIM_ASSERT(list->count < list->room);
                list->bs[list->count++] = parent;
                bdrv_ref(parent);
            }
            count++;
        }
    }
    return count;
}

static struct bdrv_overlays *note_overlays(BlockDriverState *bs)
{
    bdrv_walk_begin(bs->host->graph);
    size_t room = find_overlays(bs, NULL);
    struct bdrv_overlays *list = sim_alloc(bs->host->arena, SIM_TYPE_bdrv_overlays, overlays_bytes(room));
    list->room = room;
    bdrv_walk_begin(bs->host->graph);
    find_overlays(bs, list);
    SIM_ASSERT_EQ(list->count, room);
    return list;
}

/* All of them are tried: what one cannot take is no reason to leave another one wrong. The first error is told. */
static int rewrite_overlays(const struct bdrv_overlays *list, const char *filename, const char *format,
                            Error **errp)
{
    int first = 0;

    for (size_t i = 0; i < list->count; i++) {
        int ret = bdrv_rewrite_backing_file(list->bs[i], filename, format, first < 0 ? NULL : errp);
        if (ret < 0) {
            SIM_MARK(list->bs[i]->host->sim, backing_not_rewritten);
        }
        first = first < 0 ? first : ret;
    }
    return first;
}

/* What is below the end of a short top would show in its place. */
static int hide_tails(const struct bdrv_overlays *list, BlockDriverState *top, BlockDriverState *base, Error **errp)
{
    int64_t from = bdrv_getlength_cached(bdrv_skip_filters(top));
    int64_t to = bdrv_getlength_cached(base);
    int ret = 0;

    for (size_t i = 0; i < list->count && ret >= 0; i++) {
        ret = bdrv_hide_tail(list->bs[i], from, to, errp);
    }
    return ret;
}

static int drop_links(BlockDriverState *top, BlockDriverState *base, Error **errp)
{
    struct bdrv_tran tran;
    BlockDriverState *const both[] = {base, top};

    bdrv_tran_begin(&tran);
    int ret = bdrv_tran_move_parents(&tran, top, base, true, errp);
    if (ret >= 0) {
        ret = bdrv_tran_perms(&tran, both, ARRAY_SIZE(both), errp);
    }
    return bdrv_tran_finish(&tran, ret);
}

static int drop_drained(BlockDriverState *top, BlockDriverState *base, const char *backing_file, const char *format,
                        bool *changed, Error **errp)
{
    if (top == base || !bdrv_chain_contains(top, base)) {
        error_setg(errp, "Node '%s' is not below '%s'", bdrv_get_node_name(base), bdrv_get_node_name(top));
        return -EINVAL;
    }
    struct bdrv_overlays *list = note_overlays(top);
    int ret = hide_tails(list, top, base, errp);
    if (ret >= 0) {
        ret = drop_links(top, base, errp);
    }
    *changed = ret >= 0;
    if (ret >= 0) {
        const char *filename = backing_file ? backing_file : bdrv_filename(base);
        ret = rewrite_overlays(list, filename, format ? format : bdrv_backing_format(base), errp);
    }
    for (size_t i = 0; i < list->count; i++) {
        bdrv_unref_later(list->bs[i]);
    }
    sim_free(top->host->arena, SIM_TYPE_bdrv_overlays, list, overlays_bytes(list->room));
    return ret;
}

int bdrv_drop_intermediate_as(BlockDriverState *top, BlockDriverState *base, const char *backing_file,
                              const char *format, bool *changed, Error **errp)
{
    bool ignored;

    bdrv_ref(top);
    bdrv_ref(base);
    bdrv_drained_begin(top);
    bdrv_drained_begin(base);
    int ret = drop_drained(top, base, backing_file, format, changed ? changed : &ignored, errp);
    bdrv_drained_end(base);
    bdrv_drained_end(top);
    bdrv_unref_later(base);
    bdrv_unref_later(top);
    return ret;
}

int bdrv_drop_intermediate(BlockDriverState *top, BlockDriverState *base, const char *backing_file, bool *changed,
                           Error **errp)
{
    return bdrv_drop_intermediate_as(top, base, backing_file, NULL, changed, errp);
}
