/*
 * permissions: what parents hold and what they share never conflict and is what their own users make of it, no
 * write reaches a medium without a right to write, links change only where nothing runs, and op blockers are asked
 * (reference/block.md 1.7 to 1.13).
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/permissions.h"

void permissions_violate(struct permissions *state, const struct host *host, const BlockDriverState *bs,
                         const char *rule, const char *op, const char *fmt, ...)
{
    const Job *job = host->jobs ? job_next((struct host *)host, NULL) : NULL;
    struct violation_where where = {
        .host = check_host_name(host), .node = bdrv_get_node_name(bs), .driver = bdrv_driver_name(bs), .op = op};
    char text[400];
    va_list ap;

    if (job) {
        where.job = job_id(job);
        where.job_type = job_type_name(job->driver->job_type);
        where.phase = job_status_name(job->status);
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    check_violate(state->check->set, "permissions", rule, &where, "node %s: %s", bdrv_get_node_name(bs), text);
}

/* --- one node --------------------------------------------------------------------------------------------- */

static void users_of(const BlockDriverState *bs, uint64_t *perm, uint64_t *shared)
{
    *perm = 0;
    *shared = BLK_PERM_ALL;
    for (BdrvChild *edge = bdrv_first_parent(bs); edge; edge = bdrv_next_parent(edge)) {
        uint64_t p, s;

        bdrv_child_perms(edge, &p, &s);
        *perm |= p;
        *shared &= s;
    }
}

/* What one does every other one must bear. */
static void look_for_conflict(struct permissions *state, const struct host *host, const BlockDriverState *bs)
{
    for (BdrvChild *a = bdrv_first_parent(bs); a; a = bdrv_next_parent(a)) {
        uint64_t perm, shared;

        bdrv_child_perms(a, &perm, &shared);
        for (BdrvChild *b = bdrv_first_parent(bs); b; b = bdrv_next_parent(b)) {
            uint64_t other_perm, other_shared;

            bdrv_child_perms(b, &other_perm, &other_shared);
            if (a != b && (perm & ~other_shared)) {
                char *who = bdrv_child_user_desc(a);

                permissions_violate(state, host, bs, "conflict", bdrv_child_name(b),
                                    "a parent holds what another one does not share: %s", who);
                free(who);
                return;
            }
        }
    }
}

/* Who may write needs a node that can be written. */
static void look_for_writers(struct permissions *state, const struct host *host, const BlockDriverState *bs)
{
    uint64_t perm, shared;

    users_of(bs, &perm, &shared);
    if ((perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED)) && (bdrv_is_read_only(bs) || bdrv_is_inactive(bs))) {
        permissions_violate(state, host, bs, "writer-of-unwritable", NULL,
                            "its users hold %#" PRIx64 ", and it is %s", perm,
                            bdrv_is_inactive(bs) ? "inactive" : "read-only");
    }
}

/* Padding must not grow a node that its users may not grow. Asked only when rights were just given out: later the
 * length may turn out to be another one than the medium once said. */
static void look_for_padding(struct permissions *state, const struct host *host, const BlockDriverState *bs)
{
    uint64_t perm, shared;

    users_of(bs, &perm, &shared);
    if ((perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED)) && !(perm & BLK_PERM_RESIZE) &&
        bdrv_getlength_cached(bs) % MAX(bdrv_request_alignment(bs), 1) != 0) {
        permissions_violate(state, host, bs, "unaligned-writer", NULL,
                            "its users write without RESIZE (%#" PRIx64 "), and its length of %" PRId64
                            " bytes is no multiple of %" PRIu32,
                            perm, bdrv_getlength_cached(bs), bdrv_request_alignment(bs));
    }
}

static bool holds_too_much(const BdrvChild *edge, const struct edge_rights *want)
{
    uint64_t perm, shared;

    bdrv_child_perms(edge, &perm, &shared);
    return (perm & ~want->perm_max) || (want->shared_min & ~shared);
}

/* Each edge to a child is what the users of the node make of it. */
static void look_at_children(struct permissions *state, const struct host *host, const BlockDriverState *bs)
{
    for (BdrvChild *edge = bdrv_first_child(bs); edge; edge = bdrv_next_child(edge)) {
        struct edge_rights want;
        uint64_t perm, shared;

        permissions_model(bs, edge, &want);
        bdrv_child_perms(edge, &perm, &shared);
        if ((want.perm_min & ~perm) || (shared & ~want.shared_max)) {
            permissions_violate(state, host, bs, "not-passed-on", bdrv_child_name(edge),
                                "its %s edge holds %#" PRIx64 " and shares %#" PRIx64
                                "; expected at least %#" PRIx64 " and at most %#" PRIx64,
                                bdrv_child_name(edge), perm, shared, want.perm_min, want.shared_max);
        } else if (holds_too_much(edge, &want) && !permissions_kept(state, host, edge)) {
            permissions_violate(state, host, bs, "held-too-much", bdrv_child_name(edge),
                                "its %s edge holds %#" PRIx64 " and shares %#" PRIx64 "; expected at most %#" PRIx64
                                " and at least %#" PRIx64,
                                bdrv_child_name(edge), perm, shared, want.perm_max, want.shared_min);
        }
    }
}

/* Who makes an image locks its medium, and has no node there. */
static bool images_are_made(const struct host *host)
{
    Job *job = NULL;

    while (host->jobs && (job = job_next((struct host *)host, job))) {
        if (job->driver->job_type == JOB_TYPE_CREATE && !job_is_completed(job)) {
            return true;
        }
    }
    return false;
}

/* What nodes over a medium are asked for is locked there, for other nodes and hosts to find (8.11). */
struct locks {
    uint64_t taken, unshared;        /* asked for */
    uint64_t locked, locked_against; /* found */
    bool too_little, too_much;
};

/* False: nobody can say. */
static bool compare_locks(const struct host *host, const BlockDriverState *bs, struct locks *locks)
{
    *locks = (struct locks){.taken = 0};

    for (const BlockDriverState *over = bdrv_next_node((struct host *)host, NULL); over;
         over = bdrv_next_node((struct host *)host, over)) {
        uint64_t perm, shared;

        if (!check_same_medium(bs, over)) {
            continue;
        }
        if (bdrv_is_inactive(over)) {
            return false; /* its locks are not touched any more */
        }
        users_of(over, &perm, &shared);
        locks->taken |= perm;
        locks->unshared |= BLK_PERM_ALL & ~shared;
    }
    disk_locks_of(disk_find(host->sim, bdrv_filename(bs)), host, &locks->locked, &locks->locked_against);
    locks->too_little = (locks->taken & ~locks->locked) || (locks->unshared & ~locks->locked_against);
    locks->too_much = (locks->locked & ~locks->taken) || (locks->locked_against & ~locks->unshared);
    return true;
}

static void look_at_locks(struct permissions *state, const struct host *host, const BlockDriverState *bs)
{
    struct locks l;

    if (!compare_locks(host, bs, &l)) {
        return;
    }
    if (l.too_little || (l.too_much && !images_are_made(host) &&
                         !permissions_locks_kept(state, host, bs, l.locked, l.locked_against))) {
        permissions_violate(state, host, bs, "lock-wrong", NULL,
                            "its users hold %#" PRIx64 " and forbid %#" PRIx64 "; the medium's locks say %#" PRIx64
                            " and %#" PRIx64,
                            l.taken, l.unshared, l.locked, l.locked_against);
    }
}

/* A command may take away the reason why a loosening was refused before, but not the rights kept then. */
static void on_command(void *opaque, const struct sim_record *record)
{
    struct permissions *state = opaque;
    struct host *host = ((const struct qmp_call *)record->ref)->host;
    struct locks locks;

    if (!host->graph || !permissions_may_keep(host)) {
        return;
    }
    for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs; bs = bdrv_next_node(host, bs)) {
        for (BdrvChild *edge = bdrv_first_child(bs); edge; edge = bdrv_next_child(edge)) {
            struct edge_rights want;

            permissions_model(bs, edge, &want);
            if (holds_too_much(edge, &want)) {
                permissions_kept(state, host, edge);
            }
        }
        if (strcmp(bdrv_driver_name(bs), "disk") == 0 && compare_locks(host, bs, &locks) && locks.too_much) {
            permissions_locks_kept(state, host, bs, locks.locked, locks.locked_against);
        }
    }
}

/* --- the graph -------------------------------------------------------------------------------------------- */

/* The whole graph at a point where nobody is amid a change. */
static void look(struct permissions *state)
{
    for (struct host *host = host_first(state->check->sim); host; host = host->next) {
        for (BlockDriverState *bs = host->graph ? bdrv_next_node(host, NULL) : NULL; bs;
             bs = bdrv_next_node(host, bs)) {
            look_for_conflict(state, host, bs);
            look_for_writers(state, host, bs);
            look_at_children(state, host, bs);
            if (strcmp(bdrv_driver_name(bs), "disk") == 0) {
                look_at_locks(state, host, bs);
            }
        }
    }
    permissions_links_look(state);
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    look(opaque);
}

/* Links and rights of a change are all in place when the first of its events is heard. */
static void on_change(void *opaque, const struct sim_record *record)
{
    struct permissions *state = opaque;
    const BlockDriverState *bs = record->ref;

    look_for_conflict(state, bdrv_host(bs), bs);
    look_for_writers(state, bdrv_host(bs), bs);
    look_for_padding(state, bdrv_host(bs), bs);
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct permissions *state = opaque;

    look(state);
    for (struct host *host = host_first(check->sim); final && host; host = host->next) {
        if (!host->graph || (host->jobs && job_next(host, NULL))) {
            continue; /* jobs still there have every right to their blockers */
        }
        for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs; bs = bdrv_next_node(host, bs)) {
            if (bdrv_op_blockers(bs) > 0) {
                permissions_violate(state, host, bs, "blocker-left", NULL,
                                    "op blockers are left although no job is");
            }
        }
    }
}

static void *attach(struct check *check)
{
    struct permissions *state = (struct permissions *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));

    state->check = check;
    permissions_links_attach(state);
    sim_subscribe(check->sim, EV_edge_attach, on_change, state);
    sim_subscribe(check->sim, EV_edge_replace, on_change, state);
    sim_subscribe(check->sim, EV_edge_perm, on_change, state);
    sim_subscribe(check->sim, EV_qmp_command, on_command, state);
    sim_subscribe(check->sim, EV_qmp_reply, on_reply, state);
    permissions_io_attach(state);
    permissions_ops_attach(state);
    return state;
}

const struct check_class check_permissions = {
    .name = "permissions",
    .doc =
        "what parents hold and share never conflicts and is what their users make of it; a write never passes an "
        "edge without WRITE; links change only where nothing runs; op blockers are asked and go with their owners",
    .rules =
        "conflict: a parent holds a permission that another one does not share\n"
        "not-passed-on: an edge holds less than the parent's users need, or shares more than they bear\n"
        "held-too-much: an edge holds more than the parent's users need, or shares less than they bear, and no "
        "node below had a reason to refuse less\n"
        "writer-of-unwritable: users hold WRITE or WRITE_UNCHANGED on a node that is read-only or inactive\n"
        "unaligned-writer: users write without RESIZE a node whose length is no multiple of its alignment\n"
        "lock-wrong: a medium's locks are not what the users of its nodes hold and forbid\n"
        "write-without-right: a write reached a medium, and no chain of edges with WRITE over writable nodes "
        "leads there\n"
        "resize-without-right: a medium was resized or written beyond its node's end, and no chain of edges "
        "with RESIZE leads there\n"
        "frozen-link: a frozen link was changed, or thawed by nobody\n"
        "not-drained: a link changed while something could run through it\n"
        "blocked-command: a command was accepted although an op blocker stood against it\n"
        "blocker-left: op blockers stay behind when no job is left\n",
    .attach = attach,
    .at_settled = at_settled,
};
