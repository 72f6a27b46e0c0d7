/*
 * successor-algebra: a frozen bitmap stays as it is, whoever has it; in the end the name holds exactly the
 * successor's bits (abdicate) or both (reclaim), with the flags of reference/bitmaps-qcow2.md 2.2.
 *
 * What the bits were is read from the objects when they are frozen and just before they are thawed; that the
 * successor holds what guests wrote meanwhile is bitmap-exact's promise.
 */
#include <inttypes.h>
#include <string.h>

#include "check/checkers.h"

struct frozen {
    const BdrvDirtyBitmap *parent;
    const BdrvDirtyBitmap *child;
    const BlockDriverState *bs;
    struct host *host;
    char *name; /* NULL: anonymous */
    bool persistent;
    int64_t size;
    struct ranges bits;       /* the parent's, since it was frozen */
    struct ranges child_bits; /* just before the end */
    bool child_enabled;
    struct frozen *next; /* newest first */
};

/* A bitmap in use that a command names. */
struct busy_use {
    const struct qmp_call *call;
    const BdrvDirtyBitmap *bitmap; /* NULL: given back meanwhile */
    const BlockDriverState *bs;
    const char *type; /* of the action; the command's */
    struct busy_use *next;
};

struct successor_algebra {
    struct check *check;
    struct frozen *frozen;
    struct busy_use *uses;
};

static void violate(struct successor_algebra *state, const struct frozen *f, const char *rule, const char *op,
                    const char *text)
{
    struct violation_where where = {.host = check_host_name(f->host),
                                    .node = bdrv_get_node_name(f->bs),
                                    .driver = bdrv_driver_name(f->bs),
                                    .op = op};

    check_violate(state->check->set, "successor-algebra", rule, &where, "bitmap %s of node %s: %s",
                  f->name ? f->name : "(anonymous)", where.node, text);
}

/* --- bits -------------------------------------------------------------------------------------------------- */

/* Costs what is set, not what there is. */
static bool holds(const BdrvDirtyBitmap *bitmap, const struct ranges *expected)
{
    int64_t size = bdrv_dirty_bitmap_size(bitmap);
    int64_t at = 0;

    SIM_ASSERT(size >= 0);
    for (uint32_t i = 0; i <= expected->count; i++) {
        int64_t start = at < size ? bdrv_dirty_bitmap_next_dirty(bitmap, at, size - at) : -1;
        int64_t clean = start >= 0 ? bdrv_dirty_bitmap_next_zero(bitmap, start, size - start) : -1;

        if (i == expected->count) {
            return start < 0;
        }
        if (start != expected->item[i].start ||
            (clean >= 0 ? clean != expected->item[i].end : expected->item[i].end < size)) {
            return false;
        }
        at = expected->item[i].end;
    }
    return true;
}

static int64_t count_of(const struct ranges *bits)
{
    return bits->count > 0 ? check_dirty_count(bits->bytes, bits->item[bits->count - 1].end) : 0;
}

/* --- while it lasts ---------------------------------------------------------------------------------------- */

static struct frozen *find(struct successor_algebra *state, const BdrvDirtyBitmap *parent)
{
    struct frozen *f = state->frozen;

    while (f && f->parent != parent) {
        f = f->next;
    }
    return f;
}

static bool has_name(const BdrvDirtyBitmap *bitmap, const char *name)
{
    const char *seen = bdrv_dirty_bitmap_name(bitmap);

    return name ? seen && strcmp(seen, name) == 0 : !seen;
}

/* The name belongs to the parent: no other bitmap of the node has it. */
static bool name_is_kept(const struct frozen *f)
{
    if (!has_name(f->parent, f->name)) {
        return false;
    }
    for (const BdrvDirtyBitmap *b = bdrv_dirty_bitmap_next(f->bs, NULL); f->name && b;
         b = bdrv_dirty_bitmap_next(f->bs, b)) {
        if (b != f->parent && has_name(b, f->name)) {
            return false;
        }
    }
    return true;
}

static void look(struct successor_algebra *state, const struct frozen *f, const char *op, bool whole)
{
    if (bdrv_get_dirty_count(f->parent) != count_of(&f->bits) || bdrv_dirty_bitmap_size(f->parent) != f->size ||
        (whole && !holds(f->parent, &f->bits))) {
        violate(state, f, "parent-changed", op, "expected: its bits are those it was frozen with; seen: others");
    }
    if (!name_is_kept(f)) {
        violate(state, f, "name-lost", op,
                "expected: it keeps its name while it is frozen, and nobody else has it");
    }
    if (!bdrv_dirty_bitmap_busy(f->parent) || bdrv_dirty_bitmap_enabled(f->parent) ||
        bdrv_dirty_bitmap_successor(f->parent) != f->child) {
        violate(state, f, "not-frozen", op,
                "expected: busy and disabled, with its successor, until the copy is over");
    }
}

/* Anything that happens to any bitmap of the host. */
static void on_bitmap_event(void *opaque, const struct sim_record *record)
{
    struct successor_algebra *state = opaque;

    for (struct frozen *f = state->frozen; f; f = f->next) {
        if (f->host->number == record->host) {
            look(state, f, NULL, false);
        }
    }
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct successor_algebra *state = opaque;

    for (struct frozen *f = state->frozen; f; f = f->next) {
        look(state, f, NULL, true);
    }
}

/* --- freezing ---------------------------------------------------------------------------------------------- */

static void on_freeze(void *opaque, const struct sim_record *record)
{
    struct successor_algebra *state = opaque;
    struct sim_arena *arena = state->check->arena;
    struct frozen *f = (struct frozen *)sim_alloc(arena, SIM_TYPE_check_state, sizeof(*f));
    const char *name;

    f->parent = record->ref;
    f->child = bdrv_dirty_bitmap_successor(f->parent);
    f->bs = bdrv_dirty_bitmap_node(f->parent);
    f->host = bdrv_host(f->bs);
    name = bdrv_dirty_bitmap_name(f->parent);
    f->name = name ? sim_strdup(arena, name) : NULL;
    f->persistent = bdrv_dirty_bitmap_persistent(f->parent);
    f->size = bdrv_dirty_bitmap_size(f->parent);
    ranges_init(arena, &f->bits);
    ranges_init(arena, &f->child_bits);
    check_read_bits(f->parent, &f->bits);
    f->next = state->frozen;
    state->frozen = f;
    look(state, f, "freeze", true);
    if (!f->child || bdrv_dirty_bitmap_name(f->child) || bdrv_dirty_bitmap_size(f->child) != f->size ||
        bdrv_dirty_bitmap_granularity(f->child) != bdrv_dirty_bitmap_granularity(f->parent) ||
        bdrv_get_dirty_count(f->child) != 0 || bdrv_dirty_bitmap_node(f->child) != f->bs) {
        violate(state, f, "successor-wrong", "freeze",
                "expected: a successor without name, clean, of the same node, size and granularity");
    }
}

static void frozen_free(struct successor_algebra *state, struct frozen **link)
{
    struct frozen *f = *link;

    *link = f->next;
    ranges_free(&f->bits);
    ranges_free(&f->child_bits);
    sim_strfree(state->check->arena, f->name);
    sim_free(state->check->arena, SIM_TYPE_check_state, f, sizeof(*f));
}

/* --- the end ----------------------------------------------------------------------------------------------- */

static void on_thaw(void *opaque, const struct sim_record *record)
{
    struct successor_algebra *state = opaque;
    struct frozen *f = find(state, record->ref);

    for (struct busy_use *use = state->uses; use; use = use->next) {
        use->bitmap = use->bitmap == record->ref ? NULL : use->bitmap;
    }
    if (f) {
        look(state, f, "thaw", true);
        check_read_bits(f->child, &f->child_bits);
        f->child_enabled = bdrv_dirty_bitmap_enabled(f->child);
    }
}

static void judge_end(struct successor_algebra *state, const struct frozen *f, const BdrvDirtyBitmap *bitmap,
                      const struct ranges *expected, const char *op)
{
    const char *rule = bitmap == f->parent ? "reclaim-wrong" : "abdicate-wrong";

    if (!holds(bitmap, expected) || bdrv_get_dirty_count(bitmap) != count_of(expected)) {
        violate(state, f, rule, op,
                bitmap == f->parent ? "expected: its own bits and its successor's; seen: others"
                                    : "expected: exactly the successor's bits of before; seen: others");
    }
    if (!has_name(bitmap, f->name) || bdrv_dirty_bitmap_persistent(bitmap) != f->persistent ||
        bdrv_dirty_bitmap_enabled(bitmap) != f->child_enabled || bdrv_dirty_bitmap_busy(bitmap) ||
        bdrv_dirty_bitmap_has_successor(bitmap)) {
        violate(state, f, "end-flags", op,
                "expected: name and persistence of before, enabled as the successor was, and nobody's any more");
    }
}

static void on_abdicate(void *opaque, const struct sim_record *record)
{
    struct successor_algebra *state = opaque;

    for (struct frozen **link = &state->frozen; *link; link = &(*link)->next) {
        if ((*link)->child == record->ref) {
            judge_end(state, *link, record->ref, &(*link)->child_bits, "abdicate");
            frozen_free(state, link);
            return;
        }
    }
}

static void on_reclaim(void *opaque, const struct sim_record *record)
{
    struct successor_algebra *state = opaque;

    for (struct frozen **link = &state->frozen; *link; link = &(*link)->next) {
        struct frozen *f = *link;

        if (f->parent == record->ref) {
            ranges_add_all(&f->bits, &f->child_bits);
            judge_end(state, f, f->parent, &f->bits, "reclaim");
            frozen_free(state, link);
            return;
        }
    }
}

/* --- commands ---------------------------------------------------------------------------------------------- */

struct naming {
    struct successor_algebra *state;
    const struct qmp_call *call;
    const char *type;
};

static void note_use(void *opaque, const char *node, const char *name)
{
    struct naming *n = opaque;
    BlockDriverState *bs = node && name ? bdrv_lookup_bs(n->call->host, node, NULL) : NULL;
    const BdrvDirtyBitmap *bitmap = bs ? bdrv_find_dirty_bitmap(bs, name) : NULL;

    if (bitmap && (bdrv_dirty_bitmap_busy(bitmap) || find(n->state, bitmap))) {
        struct busy_use *use =
            (struct busy_use *)sim_alloc(n->state->check->arena, SIM_TYPE_check_cell, sizeof(*use));

        *use = (struct busy_use){n->call, bitmap, bs, n->type, n->state->uses};
        n->state->uses = use;
    }
}

static void note_action(void *opaque, const char *type, const struct qvalue *data)
{
    static const char *const types[] = {"block-dirty-bitmap-remove", "block-dirty-bitmap-clear",
                                        "block-dirty-bitmap-enable", "block-dirty-bitmap-disable"};
    struct naming *n = opaque;

    n->type = type;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (strcmp(types[i], type) == 0) {
            note_use(n, check_dict_str(data, "node"), check_dict_str(data, "name"));
        }
    }
    if (strcmp(type, "block-dirty-bitmap-merge") == 0) {
        note_use(n, check_dict_str(data, "node"), check_dict_str(data, "target"));
        check_merge_sources(data, note_use, n);
    }
}

static void on_command(void *opaque, const struct sim_record *record)
{
    struct naming n = {.state = opaque, .call = record->ref};

    check_bitmap_actions(n.call, note_action, &n);
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    struct successor_algebra *state = opaque;
    const struct qmp_call *call = record->ref;

    for (struct busy_use **link = &state->uses; *link;) {
        struct busy_use *use = *link;

        if (use->call != call) {
            link = &use->next;
            continue;
        }
        if (!call->err && use->bitmap) {
            struct violation_where where = {
                .host = check_host_name(call->host), .node = bdrv_get_node_name(use->bs), .op = use->type};

            check_violate(state->check->set, "successor-algebra", "busy-used", &where,
                          "a bitmap of node %s is in use: expected a refusal of %s; seen: success", where.node,
                          use->type);
        }
        *link = use->next;
        sim_free(state->check->arena, SIM_TYPE_check_cell, use, sizeof(*use));
    }
    for (struct frozen *f = state->frozen; f; f = f->next) {
        if (f->host->number == record->host) {
            look(state, f, call->command->name, true);
        }
    }
}

/* Whoever had it gives it back while the command waits. */
static void on_busy(void *opaque, const struct sim_record *record)
{
    struct successor_algebra *state = opaque;

    for (struct busy_use *use = state->uses; use; use = use->next) {
        use->bitmap = use->bitmap == record->ref && !record->field[2] ? NULL : use->bitmap;
    }
    on_bitmap_event(opaque, record);
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct successor_algebra *state = opaque;

    for (struct frozen **link = &state->frozen; *link;) {
        if ((*link)->host == record->ref) {
            frozen_free(state, link);
        } else {
            link = &(*link)->next;
        }
    }
    for (struct busy_use **link = &state->uses; *link;) {
        struct busy_use *use = *link;

        if (use->call->host == record->ref) {
            *link = use->next;
            sim_free(state->check->arena, SIM_TYPE_check_cell, use, sizeof(*use));
        } else {
            link = &use->next;
        }
    }
}

static void *attach(struct check *check)
{
    struct successor_algebra *state =
        (struct successor_algebra *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));
    static const struct check_subscription subscriptions[] = {
        {EV_bitmap_freeze, on_freeze},
        {EV_bitmap_thaw, on_thaw},
        {EV_bitmap_abdicate, on_abdicate},
        {EV_bitmap_reclaim, on_reclaim},
        {EV_bitmap_create, on_bitmap_event},
        {EV_bitmap_set, on_bitmap_event},
        {EV_bitmap_reset, on_bitmap_event},
        {EV_bitmap_enable, on_bitmap_event},
        {EV_bitmap_busy, on_busy},
        {EV_bitmap_merge, on_bitmap_event},
        {EV_bitmap_restore, on_bitmap_event},
        {EV_guest_complete, on_bitmap_event},
        {EV_qmp_command, on_command},
        {EV_qmp_reply, on_reply},
        {EV_host_crash, on_crash},
    };

    state->check = check;
    check_successor_backup_attach(check);
    check_subscribe(check->sim, subscriptions, ARRAY_SIZE(subscriptions), state);
    return state;
}

const struct check_class check_successor_algebra = {
    .name = "successor-algebra",
    .doc = "a frozen parent stays unchanged; abdicate leaves exactly the successor's bits, reclaim the union; "
           "flags as "
           "documented",
    .rules =
        "parent-changed: a frozen bitmap's bits or size are not those it was frozen with\n"
        "name-lost: a frozen bitmap lost its name, or another of its node has it too\n"
        "not-frozen: a bitmap with a successor is not busy, or enabled, or has another successor\n"
        "successor-wrong: a new successor is not anonymous, clean and of its parent's shape\n"
        "abdicate-wrong: the successor that took the name does not hold exactly its own bits\n"
        "reclaim-wrong: the bitmap that took its successor back does not hold exactly both bits\n"
        "end-flags: after the end name, persistence or enabled are not as before, or the bitmap is still in use\n"
        "backup-outcome: a backup's bitmap ended otherwise than its bitmap-mode and its outcome say\n"
        "busy-used: a command that touches a bitmap in use succeeded\n",
    .attach = attach,
    .at_settled = at_settled,
};
