/*
 * resources: a refused command leaves nothing behind, and at the end nothing is left at all.
 *
 * A command's census is taken when it is taken up and again when it is refused: objects of the graph and of jobs by
 * their arena types, and for each node its references, drains, blockers, permissions and read-only state. What
 * guests do meanwhile is in none of these. When a job moved meanwhile by itself, nothing can be said and nothing
 * is.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check/checkers.h"

/* What a refused command must not leave more or fewer of. Not HBitmap: a mirror that is just starting makes one for
 * its operations while a command waits, and that of a dirty bitmap is counted with its owner. */
static const enum sim_type structural[] = {
    SIM_TYPE_BlockDriverState, SIM_TYPE_BdrvChild, SIM_TYPE_BlockBackend, SIM_TYPE_bdrv_op_blocker,
    SIM_TYPE_BdrvDirtyBitmap,  SIM_TYPE_Job,       SIM_TYPE_JobTxn,       SIM_TYPE_BlockJobNode,
    SIM_TYPE_mirror_job,       SIM_TYPE_guest,        SIM_TYPE_ThrottleGroup,
};

/* What the world keeps by design: media and their content, the machinery of the run itself. */
static const enum sim_type of_the_world[] = {
    SIM_TYPE_disk, SIM_TYPE_disk_node,  SIM_TYPE_disk_journal, SIM_TYPE_disk_snapshot,
    SIM_TYPE_page, SIM_TYPE_page_bytes, SIM_TYPE_Coroutine,    SIM_TYPE_fault_rule,
    SIM_TYPE_str,  SIM_TYPE_runner_obj, SIM_TYPE_fault_state,
};

struct census {
    const struct qmp_call *call;
    const struct host *host;
    bool disturbed;
    uint64_t live[ARRAY_SIZE(structural)];
    uint64_t refs, drains, blockers, perms; /* perms: a digest over edges and read-only states */
    struct census *next;
};

/* A node that a client has added and not deleted. */
struct owned {
    const struct host *host;
    const struct sim_name *name;
    struct owned *next;
};

struct resources {
    struct check *check;
    struct owned *owned;
    struct census *open;
    struct census *spare;
    bool crashed; /* a host died: what its coroutines held outside of its arena is nobody's any more */
};

static void take(struct census *census)
{
    struct host *host = (struct host *)census->host;

    census->refs = census->drains = census->blockers = census->perms = 0;
    for (size_t i = 0; i < ARRAY_SIZE(structural); i++) {
        census->live[i] = sim_arena_live(host->arena, structural[i]);
    }
    for (BlockDriverState *bs = host->graph ? bdrv_next_node(host, NULL) : NULL; bs;
         bs = bdrv_next_node(host, bs)) {
        uint64_t node = sim_mix2(bdrv_node_sim_name(bs)->hash, bdrv_is_read_only(bs));

        census->refs += bdrv_refcount(bs);
        census->drains += bdrv_quiesce_counter(bs);
        census->blockers += bdrv_op_blockers(bs);
        for (BdrvChild *edge = bdrv_first_parent(bs); edge; edge = bdrv_next_parent(edge)) {
            uint64_t perm, shared;

            bdrv_child_perms(edge, &perm, &shared);
            node += sim_mix2(sim_hash_str(bdrv_child_name(edge)), perm << 8 | shared);
        }
        census->perms += sim_mix64(node);
    }
}

static void on_command(void *opaque, const struct sim_record *record)
{
    struct resources *state = opaque;
    const struct qmp_call *call = record->ref;
    struct census *census = state->spare;

    if (census) {
        state->spare = census->next;
    } else {
        census = (struct census *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*census));
    }
    *census = (struct census){.call = call, .host = call->host, .next = state->open};
    state->open = census;
    take(census);
}

static void compare(struct resources *state, const struct census *before, const char *error)
{
    struct census after = {.host = before->host};
    struct violation_where where = {.host = check_host_name(before->host), .op = before->call->command->name};
    struct check_set *set = state->check->set;

    take(&after);
    for (size_t i = 0; i < ARRAY_SIZE(structural); i++) {
        if (before->live[i] != after.live[i]) {
            check_violate(set, "resources", "refused-command", &where,
                          "%s was refused (%s), and of %s there are %" PRIu64 " instead of %" PRIu64,
                          before->call->command->name, error, sim_type_name(structural[i]), after.live[i],
                          before->live[i]);
            return;
        }
    }
    if (before->refs != after.refs || before->drains != after.drains || before->blockers != after.blockers ||
        before->perms != after.perms) {
        check_violate(set, "resources", "refused-command", &where,
                      "%s was refused (%s), and references went from %" PRIu64 " to %" PRIu64
                      ", drains from %" PRIu64 " to %" PRIu64 ", blockers from %" PRIu64 " to %" PRIu64
                      "; permissions and read-only state %s",
                      before->call->command->name, error, before->refs, after.refs, before->drains, after.drains,
                      before->blockers, after.blockers, before->perms == after.perms ? "as before" : "changed");
    }
}

static void disown(struct resources *state, struct owned **link)
{
    struct owned *owned = *link;

    if (owned) {
        *link = owned->next;
        sim_free(state->check->arena, SIM_TYPE_check_state, owned, sizeof(*owned));
    }
}

static void own(struct resources *state, const struct qmp_call *call)
{
    const char *name = check_call_str(call, "node-name");
    struct owned **link = &state->owned;

    if (name && strcmp(call->command->name, "blockdev-add") == 0) {
        struct owned *owned = (struct owned *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*owned));

        *owned = (struct owned){.host = call->host, .name = sim_name(state->check->sim, name), .next = *link};
        *link = owned;
    } else if (name && strcmp(call->command->name, "blockdev-del") == 0) {
        while (*link && !((*link)->host == call->host && strcmp((*link)->name->str, name) == 0)) {
            link = &(*link)->next;
        }
        disown(state, link);
    }
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    struct resources *state = opaque;
    const char *error = sim_record_str(record, 2);
    struct census **link = &state->open;
    struct census *census;

    while (*link && (*link)->call != record->ref) {
        link = &(*link)->next;
    }
    census = *link;
    if (!census) {
        return;
    }
    *link = census->next;
    if (!error) {
        own(state, census->call);
    }
    if (error && !census->disturbed) {
        compare(state, census, error);
    }
    census->next = state->spare;
    state->spare = census;
}

/* A job or the VM moved by itself while a command was in hand. */
static void disturb(struct resources *state, uint32_t host)
{
    for (struct census *census = state->open; census; census = census->next) {
        census->disturbed |= census->host->number == host;
    }
}

static void on_other(void *opaque, const struct sim_record *record)
{
    disturb(opaque, record->host);
}

static void on_status(void *opaque, const struct sim_record *record)
{
    const char *status = sim_record_str(record, 1);

    /* a job that a refused command made and dropped is just what is looked for */
    if (strcmp(status, "created") != 0 && strcmp(status, "null") != 0) {
        disturb(opaque, record->host);
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct resources *state = opaque;

    state->crashed = true;
    for (struct owned **link = &state->owned; *link;) {
        if ((*link)->host == record->ref) {
            disown(state, link);
        } else {
            link = &(*link)->next;
        }
    }
    for (struct census **link = &state->open; *link;) {
        struct census *census = *link;

        if (census->host == record->ref) {
            *link = census->next;
            census->next = state->spare;
            state->spare = census;
        } else {
            link = &census->next;
        }
    }
}

/* --- the end ---------------------------------------------------------------------------------------------- */

static bool is_of_the_world(enum sim_type type)
{
    for (size_t i = 0; i < ARRAY_SIZE(of_the_world); i++) {
        if (of_the_world[i] == type) {
            return true;
        }
    }
    return false;
}

static void empty(struct resources *state, const struct sim_arena *arena, const char *where_name)
{
    struct violation_where where = {.host = where_name};

    for (unsigned type = 0; type < SIM_TYPE_COUNT; type++) {
        uint64_t live = sim_arena_live(arena, (enum sim_type)type);

        if (live > 0 && !is_of_the_world((enum sim_type)type) &&
            !(state->crashed && type == SIM_TYPE_payload_elem)) {
            where.op = sim_type_name((enum sim_type)type);
            check_violate(state->check->set, "resources", "left-over", &where,
                          "at the end of everything %" PRIu64 " of %s (%s) are left", live,
                          sim_type_name((enum sim_type)type), sim_type_doc((enum sim_type)type));
        }
    }
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    const struct resources *state = opaque;

    for (const struct owned *owned = state->owned; owned; owned = owned->next) {
        if (!bdrv_find_node((struct host *)owned->host, owned->name->str)) {
            struct violation_where where = {.host = check_host_name(owned->host), .node = owned->name->str};

            check_violate(check->set, "resources", "lost-node", &where,
                          "node %s was added and never deleted, and is gone", owned->name->str);
        }
    }
    for (struct host *host = final ? host_first(check->sim) : NULL; host; host = host->next) {
        if (!host->graph || (host->jobs && job_next(host, NULL))) {
            continue;
        }
        for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs; bs = bdrv_next_node(host, bs)) {
            if (bdrv_quiesce_counter(bs) > 0 || bdrv_in_flight(bs) > 0) {
                struct violation_where where = {
                    .host = check_host_name(host), .node = bdrv_get_node_name(bs), .driver = bdrv_driver_name(bs)};

                check_violate(check->set, "resources", "not-at-rest", &where,
                              "node %s at the end: drained %u times, %u requests in flight", bdrv_get_node_name(bs),
                              bdrv_quiesce_counter(bs), bdrv_in_flight(bs));
            }
        }
    }
}

static void at_teardown(struct check *check, void *opaque)
{
    struct resources *state = opaque;

    empty(state, sim_arena(check->sim), NULL);
    for (struct host *host = host_first(check->sim); host; host = host->next) {
        empty(state, host->arena, host->name->str);
    }
}

static void *attach(struct check *check)
{
    struct resources *state = (struct resources *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));

    state->check = check;
    sim_subscribe(check->sim, EV_qmp_command, on_command, state);
    sim_subscribe(check->sim, EV_JOB_STATUS_CHANGE, on_status, state);
    sim_subscribe(check->sim, EV_mirror_final_drain, on_other, state);
    sim_subscribe(check->sim, EV_mirror_op_end, on_other, state); /* what a cancelled mirror waits for */
    sim_subscribe(check->sim, EV_run_state, on_other, state);
    sim_subscribe(check->sim, EV_BLOCK_JOB_ERROR, on_other, state);
    sim_subscribe(check->sim, EV_qmp_reply, on_reply, state);
    sim_subscribe(check->sim, EV_host_crash, on_crash, state);
    return state;
}

const struct check_class check_resources = {
    .name = "resources",
    .doc =
        "after every refused command and at the end no request, blocker, permission, drain, reference or object is "
        "left over",
    .rules = "refused-command: a refused command changed the graph, the jobs, references, drains, blockers or "
             "permissions\n"
             "lost-node: a node went although the client that added it has not deleted it\n"
             "not-at-rest: at the end a node is still drained or has requests in flight\n"
             "left-over: an object is alive after everything was closed\n",
    .attach = attach,
    .at_settled = at_settled,
    .at_teardown = at_teardown,
};
