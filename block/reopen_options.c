/* Options in a reopen: what each node of the queue is told, and what may not change (6). */
#include <string.h>

#include "block/reopen_int.h"

/* --- trees ------------------------------------------------------------------------------------------------ */

/* Puts what `from` has and `into` lacks; dictionaries in both are joined in turn. */
static void join(struct qvalue *into, const struct qvalue *from)
{
    for (size_t i = 0; from && i < from->seq.count; i++) {
        const struct qvalue *item = from->seq.items[i];
        struct qvalue *there = qdict_get(into, from->seq.keys[i]);

        if (!there) {
            qdict_put(into, from->seq.keys[i], qvalue_copy(item));
        } else if (there->type == QVALUE_DICT && item->type == QVALUE_DICT) {
            join(there, item);
        }
    }
}

/* --- checks ----------------------------------------------------------------------------------------------- */

static bool check_driver(const BlockDriverState *bs, const struct qvalue *passed, Error **errp)
{
    const char *name;

    if (!qdict_get_str(passed, "node-name", &name, NULL, errp) ||
        !qdict_get_str(passed, "driver", &name, NULL, errp)) {
        return false;
    }
    if (!name) {
        error_setg(errp, "Parameter 'driver' is missing");
        return false;
    }
    if (strcmp(name, bs->drv->format_name) == 0) {
        return true;
    }
    if (bdrv_find_driver(name)) {
        error_setg(errp, "Cannot change the option 'driver'");
    } else {
        error_setg(errp, "Parameter 'driver' does not accept value '%s'", name);
    }
    return false;
}

static bool has_option(const BlockDriver *drv, const char *key)
{
    for (const BdrvOption *option = drv->options; option && option->name; option++) {
        if (strcmp(option->name, key) == 0) {
            return true;
        }
    }
    return false;
}

/* A child that the driver does not know of gets its own refusal later on, so it is not for the table. */
static bool is_foreign_child(const BlockDriverState *bs, const char *key)
{
    bool slot = strcmp(key, "backing") == 0 || (bs->drv->is_filter && strcmp(key, "file") == 0);

    return slot && !has_option(bs->drv, key);
}

static bool check_foreign_child(const struct qvalue *passed, const char *key, Error **errp)
{
    const struct qvalue *value = qdict_get(passed, key);

    if (value && value->type != QVALUE_STR && value->type != QVALUE_DICT && value->type != QVALUE_NULL) {
        error_setg(errp, "Parameter '%s' expects a node name or a dictionary", key);
        return false;
    }
    return true;
}

static bool check_passed(const BlockDriverState *bs, const struct qvalue *passed, Error **errp)
{
    static const char *const slots[] = {"backing", "file"};

    if (!check_driver(bs, passed, errp)) {
        return false;
    }
    struct qvalue *table = qvalue_copy(passed);
    bool ok = true;
    for (size_t i = 0; ok && i < ARRAY_SIZE(slots); i++) {
        if (is_foreign_child(bs, slots[i])) {
            ok = check_foreign_child(table, slots[i], errp);
            qvalue_free(qdict_take(table, slots[i]));
        }
    }
    ok = ok && bdrv_options_check(bs->drv, table, errp);
    qvalue_free(table);
    return ok;
}

static bool is_mutable(const BlockDriver *drv, const char *key)
{
    for (const char *const *name = drv->mutable_opts; name && *name; name++) {
        if (strcmp(*name, key) == 0) {
            return true;
        }
    }
    return bdrv_option_is_mutable(key);
}

static bool cannot_change(const char *key, Error **errp)
{
    error_setg(errp, "Cannot change the option '%s'", key);
    return false;
}

/* Values of force-share and active are in the flags, whoever said so. */
static bool flags_unchanged(const bdrv_reopen_entry *entry, Error **errp)
{
    const BDRVReopenState *state = &entry->state;
    bool active;

    if ((state->flags ^ state->bs->open_flags) & BDRV_O_FORCE_SHARE) {
        if (qdict_get(entry->explicit_options, "force-share") || entry->parent) {
            return cannot_change("force-share", errp);
        }
        error_setg(errp, "Option 'force-share' cannot be reset to its default value");
        return false;
    }
    bool ok = qdict_get_bool(state->options, "active", &active, !bdrv_is_inactive(state->bs), errp);
    SIM_ASSERT(ok);
    return active != bdrv_is_inactive(state->bs) || cannot_change("active", errp);
}

bool bdrv_reopen_unchanged(const bdrv_reopen_entry *entry, Error **errp)
{
    const BlockDriver *drv = entry->state.bs->drv;
    const struct qvalue *now = entry->state.bs->options;
    const struct qvalue *next = entry->options;

    if (!flags_unchanged(entry, errp)) {
        return false;
    }
    for (size_t i = 0; i < next->seq.count; i++) {
        const char *key = next->seq.keys[i];
        const struct qvalue *old = qdict_get(now, key);
        bool by_flags = strcmp(key, "force-share") == 0 || strcmp(key, "active") == 0;
        bool name =
            strcmp(key, "node-name") == 0 && str_is(entry->state.bs->name->str, next->seq.items[i]->str.bytes);

        if (by_flags || name || is_mutable(drv, key) || (now == NULL && strcmp(key, "driver") == 0)) {
            continue;
        }
        if (!old || !qvalue_equal(old, next->seq.items[i])) {
            return cannot_change(key, errp);
        }
    }
    for (size_t i = 0; now && i < now->seq.count; i++) {
        const char *key = now->seq.keys[i];
        if (!qdict_get(next, key) && !is_mutable(drv, key) && strcmp(key, "active") != 0) {
            error_setg(errp, "Option '%s' cannot be reset to its default value", key);
            return false;
        }
    }
    return true;
}

/* --- options to be ---------------------------------------------------------------------------------------- */

void bdrv_reopen_forget_options(bdrv_reopen_entry *entry)
{
    struct sim_arena *arena = entry->state.bs->host->arena;

    bdrv_options_drop(arena, entry->explicit_options);
    bdrv_options_drop(arena, entry->options);
    entry->explicit_options = NULL;
    entry->options = NULL;
    entry->state.options = NULL;
}

void bdrv_reopen_forget_children(bdrv_reopen_entry *entry)
{
    if (entry->set_file) {
        bdrv_unref_later(entry->state.file);
    }
    if (entry->set_backing && entry->state.backing) {
        bdrv_unref_later(entry->state.backing);
    }
    entry->set_file = false;
    entry->set_backing = false;
}

static bool build(struct bdrv_reopen_queue *queue, BlockDriverState *bs, struct qvalue *passed, bool keep,
                  const bdrv_reopen_entry *parent, uint32_t role, Error **errp);

/* Flags that options say; all others stay what they are. */
#define BY_OPTIONS \
    (BDRV_O_RDWR | BDRV_O_AUTO_RDONLY | BDRV_O_UNMAP | BDRV_O_NO_FLUSH | BDRV_O_NOCACHE | BDRV_O_FORCE_SHARE)

/* What was once asked for is out of date: a node is given up and taken back without a reopen (8). */
static void keep_activity(struct qvalue *options, const BlockDriverState *bs, const struct qvalue *passed)
{
    struct qvalue *active = qdict_get(passed, "active") ? NULL : qdict_get(options, "active");

    if (active) {
        SIM_ASSERT_EQ(active->type, QVALUE_BOOL);
        active->boolean = !bdrv_is_inactive(bs);
    }
}

static bool build_own(bdrv_reopen_entry *entry, const struct qvalue *passed, Error **errp)
{
    BlockDriverState *bs = entry->state.bs;
    uint32_t old = bs->open_flags;
    uint32_t flags = entry->keep ? old : BDRV_O_RDWR;
    struct bdrv_generic_options generic = {0};
    struct qvalue *own = qvalue_copy(passed);

    if (entry->keep) {
        join(own, bs->explicit_options);
    }
    struct qvalue *all = qvalue_copy(own);
    if (entry->parent) {
        flags = bdrv_inherited_flags(entry->parent->state.flags, bs->inherit_inactive, entry->role);
        bdrv_options_inherit(all, flags);
    }
    if (entry->keep) {
        join(all, bs->options);
    }
    keep_activity(own, bs, passed);
    keep_activity(all, bs, passed);
    bool ok = bdrv_options_flags(all, flags, &generic, errp);
    if (ok) {
        bdrv_options_canonical(bs->drv, own);
        bdrv_options_canonical(bs->drv, all);
        bdrv_options_inherit(all, generic.flags);
        bdrv_reopen_forget_options(entry);
        entry->explicit_options = bdrv_options_keep(bs->host->arena, own);
        entry->options = bdrv_options_keep(bs->host->arena, all);
        entry->state.options = entry->options;
        entry->state.flags = (generic.flags & BY_OPTIONS) | (old & ~(uint32_t)BY_OPTIONS);
        entry->state.detect_zeroes = generic.detect_zeroes;
    }
    qvalue_free(own);
    qvalue_free(all);
    return ok;
}

/* The child's options: only for one that they made. */
static bool build_inline(struct bdrv_reopen_queue *queue, bdrv_reopen_entry *entry, const BdrvChild *edge,
                         const char *name, const struct qvalue *value, Error **errp)
{
    if (!edge || !bdrv_reopen_inherits(edge->bs, entry->state.bs)) {
        error_setg(errp, "Cannot change the option '%s%s%s'", name, value->seq.count > 0 ? "." : "",
                   value->seq.count > 0 ? value->seq.keys[0] : "");
        return false;
    }
    return build(queue, edge->bs, qvalue_copy(value), false, entry, edge->role, errp);
}

/* Another node, or none: for `file` and `backing` only. */
static bool build_link(bdrv_reopen_entry *entry, const BdrvChild *edge, const char *name,
                       const struct qvalue *value, Error **errp)
{
    bool file = strcmp(name, "file") == 0;
    bool none = value->type == QVALUE_NULL;
    BlockDriverState *bs = NULL;

    if ((none && !edge) || (!none && edge && str_is(edge->bs->name->str, value->str.bytes))) {
        return true;
    }
    if (strcmp(name, "backing") != 0 && (!file || none)) {
        return cannot_change(name, errp);
    }
    if (!none) {
        bs = bdrv_lookup_bs(entry->state.bs->host, value->str.bytes, errp);
        if (!bs) {
            return false;
        }
        bdrv_ref(bs);
    }
    if (file) {
        entry->state.file = bs;
        entry->set_file = true;
    } else {
        entry->state.backing = bs;
        entry->set_backing = true;
    }
    return true;
}

static bool is_child_option(const BlockDriverState *bs, const char *key)
{
    for (const BdrvOption *option = bs->drv->options; option && option->name; option++) {
        if (option->type == BDRV_OPT_NODE && strcmp(option->name, key) == 0) {
            return true;
        }
    }
    return is_foreign_child(bs, key);
}

/* Inline children that stay: they are told what their parent hands down. */
static bool build_untouched(struct bdrv_reopen_queue *queue, bdrv_reopen_entry *entry,
                            const struct qvalue *children, Error **errp)
{
    const BdrvChild *edge;

    LIST_FOREACH(edge, &entry->state.bs->children, next)
    {
        const struct qvalue *value = qdict_get(children, edge->name);
        bool leaves = (edge == entry->state.bs->file && entry->set_file) ||
                      (edge == entry->state.bs->backing && entry->set_backing);

        if (leaves || (value && value->type == QVALUE_DICT) || !bdrv_reopen_inherits(edge->bs, entry->state.bs)) {
            continue;
        }
        if (!build(queue, edge->bs, qvalue_dict(), true, entry, edge->role, errp)) {
            return false;
        }
    }
    return true;
}

static bool build_children(struct bdrv_reopen_queue *queue, bdrv_reopen_entry *entry, const struct qvalue *children,
                           Error **errp)
{
    bdrv_reopen_forget_children(entry);
    entry->state.file = bdrv_reopen_target(entry->state.bs->file);
    entry->state.backing = bdrv_reopen_target(entry->state.bs->backing);
    for (size_t i = 0; i < children->seq.count; i++) {
        const char *name = children->seq.keys[i];
        const struct qvalue *value = children->seq.items[i];
        const BdrvChild *edge = bdrv_find_child(entry->state.bs, name);
        bool ok = value->type == QVALUE_DICT ? build_inline(queue, entry, edge, name, value, errp)
                                             : build_link(entry, edge, name, value, errp);
        if (!ok) {
            return false;
        }
    }
    return build_untouched(queue, entry, children, errp);
}

/* Splits what was passed into the node's own and its children's. */
static void split(const BlockDriverState *bs, const struct qvalue *passed, struct qvalue **own,
                  struct qvalue **children)
{
    *own = qvalue_dict();
    *children = qvalue_dict();
    for (size_t i = 0; i < passed->seq.count; i++) {
        const char *key = passed->seq.keys[i];
        qdict_put(is_child_option(bs, key) ? *children : *own, key, qvalue_copy(passed->seq.items[i]));
    }
}

static bool build(struct bdrv_reopen_queue *queue, BlockDriverState *bs, struct qvalue *passed, bool keep,
                  const bdrv_reopen_entry *parent, uint32_t role, Error **errp)
{
    bdrv_reopen_entry *entry = bdrv_reopen_find(queue, bs);
    struct qvalue *own, *children;

    SIM_ASSERT(entry != NULL);   /* collected, and nothing has polled since */
    join(passed, entry->passed); /* named before in the same command: what is said last counts */
    qvalue_free(entry->passed);
    entry->passed = passed;
    entry->keep = keep && (entry->keep || !entry->built);
    entry->built = true;
    if (parent) {
        entry->parent = parent;
        entry->role = role;
    }
    if (!entry->keep && !check_passed(bs, passed, errp)) {
        return false;
    }
    entry->backing_given = qdict_get(passed, "backing") != NULL;
    split(bs, passed, &own, &children);
    bool ok = build_own(entry, own, errp) && build_children(queue, entry, children, errp);
    qvalue_free(own);
    qvalue_free(children);
    return ok;
}

bool bdrv_reopen_queue_build(struct bdrv_reopen_queue *queue, BlockDriverState *bs, struct qvalue *passed,
                             bool keep, Error **errp)
{
    return build(queue, bs, passed, keep, NULL, 0, errp);
}
