/*
 * resources: a refused command leaves everything as it was, and at the end nothing is left at all.
 *
 * A command's census is taken when it is taken up and again when it is refused. When a job moved meanwhile by
 * itself, nothing can be said and nothing is.
 */
#include "check/resources.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "jobs/mirror.h"

/* What the world keeps by design: media and their content, the machinery of the run itself. */
static const enum sim_type of_the_world[] = {
    SIM_TYPE_disk, SIM_TYPE_disk_node,  SIM_TYPE_disk_journal, SIM_TYPE_disk_snapshot,
    SIM_TYPE_page, SIM_TYPE_page_bytes, SIM_TYPE_Coroutine,    SIM_TYPE_fault_rule,
    SIM_TYPE_str,  SIM_TYPE_runner_obj, SIM_TYPE_fault_state,
};

/* A node that a client has added and not deleted. */
struct owned {
    const struct host *host;
    const struct sim_name *name;
    struct owned *next;
};

/* --- refused commands ------------------------------------------------------------------------------------- */

static const char *const refused_rules[] = {
    [CENSUS_OBJECTS] = "refused-command",
    [CENSUS_NODES] = "refused-nodes",
    [CENSUS_LINKS] = "refused-links",
    [CENSUS_ORDER] = "refused-order",
    [CENSUS_PERMISSIONS] = "refused-permissions",
    [CENSUS_READ_ONLY] = "refused-read-only",
    [CENSUS_OPTIONS] = "refused-options",
    [CENSUS_LIMITS] = "refused-limits",
    [CENSUS_BITMAPS] = "refused-bitmaps",
    [CENSUS_BLOCKERS] = "refused-blockers",
    [CENSUS_DRAINS] = "refused-drains",
    [CENSUS_REFERENCES] = "refused-references",
    [CENSUS_BACKENDS] = "refused-backends",
    [CENSUS_GROUPS] = "refused-groups",
    [CENSUS_JOBS] = "refused-jobs",
};

static void on_command(void *opaque, const struct sim_record *record)
{
    struct resources *state = opaque;
    const struct qmp_call *call = record->ref;
    struct command *command = state->spare;

    resources_jobs_look(state, call->host);
    if (command) {
        state->spare = command->next;
    } else {
        command = (struct command *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*command));
    }
    command->call = call;
    command->host = call->host;
    command->moved = 0;
    command->next = state->open;
    state->open = command;
    census_take(&command->before, state->check->arena, call->host);
}

static void compare(struct resources *state, const struct command *command, const char *error)
{
    const char *name = command->call->command->name;
    struct census_difference d;

    census_take(&state->now, state->check->arena, command->host);
    if (census_compare(&command->before, &state->now, CENSUS_ALL & ~command->moved, &d)) {
        const BlockDriverState *bs = d.node ? bdrv_find_node(command->host, d.node->str) : NULL;
        struct violation_where where = {
            .host = check_host_name(command->host),
            .node = d.node ? d.node->str : NULL,
            .driver = bs ? bdrv_driver_name(bs) : NULL,
            .op = name,
        };
        const char *rule = refused_rules[d.part];

        check_violate(state->check->set, "resources", rule, &where, "%s was refused (%s), and %s", name, error,
                      d.text);
    }
}

/* --- nodes of clients ------------------------------------------------------------------------------------- */

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

static void put_away(struct resources *state, struct command **link)
{
    struct command *command = *link;

    *link = command->next;
    command->next = state->spare;
    state->spare = command;
}

/* A mirror amid its last look says so only when it runs again. Who makes an image uses nodes and lets go of them,
 * and says nothing before its end. */
static bool job_acts(struct host *host)
{
    Job *job = NULL;

    while (host->jobs && (job = job_next(host, job))) {
        bool creates = job->driver->job_type == JOB_TYPE_CREATE && !job_is_completed(job);

        if (creates || (block_job_is_mirror(job) && mirror_drains_source(job))) {
            return true;
        }
    }
    return false;
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    struct resources *state = opaque;
    const char *error = sim_record_str(record, 2);
    struct command **link = &state->open;

    while (*link && (*link)->call != record->ref) {
        link = &(*link)->next;
    }
    if (!*link) {
        return;
    }
    if (!error) {
        own(state, (*link)->call);
    } else if ((*link)->moved != CENSUS_ALL && !job_acts((*link)->host)) {
        compare(state, *link, error);
    }
    resources_jobs_answered(state, *link, error == NULL);
    put_away(state, link);
}

/* --- what moves by itself while a command is in hand ------------------------------------------------------ */

static void moved(struct resources *state, uint32_t host, uint32_t parts)
{
    for (struct command *command = state->open; command; command = command->next) {
        if (command->host->number == host) {
            command->moved |= parts;
        }
    }
}

/* A job or the VM. */
static void on_other(void *opaque, const struct sim_record *record)
{
    moved(opaque, record->host, CENSUS_ALL);
}

static bool gives_up(const struct qmp_call *call)
{
    const struct qvalue *active =
        strcmp(call->command->name, "blockdev-set-active") == 0 ? qdict_get(call->args, "active") : NULL;

    return active && active->type == QVALUE_BOOL && !active->boolean;
}

/* Who takes images back stops at the first that is not to be had, and has others by then. Who gives them up finds
 * out first whether all may go: only a failed request may stop him half way (reference/block.md 8.4, 8.5). */
static void on_activity(void *opaque, const struct sim_record *record)
{
    struct resources *state = opaque;

    for (struct command *command = state->open; command; command = command->next) {
        if (command->host->number == record->host && !gives_up(command->call)) {
            command->moved = CENSUS_ALL;
        }
    }
}

static void request_failed(struct resources *state)
{
    for (struct command *command = state->open; command; command = command->next) {
        if (gives_up(command->call)) {
            command->moved = CENSUS_ALL;
        }
    }
}

static void on_disk_complete(void *opaque, const struct sim_record *record)
{
    const struct disk_req *req = record->ref;

    if (req && req->ret < 0) {
        request_failed(opaque);
    }
}

static void on_inject(void *opaque, const struct sim_record *record)
{
    request_failed(opaque);
}

static void on_threshold(void *opaque, const struct sim_record *record)
{
    moved(opaque, record->host, 1u << CENSUS_OPTIONS);
}

static void on_status(void *opaque, const struct sim_record *record)
{
    const char *status = sim_record_str(record, 1);

    /* a job that a refused command made and dropped is just what is looked for */
    if (strcmp(status, "created") != 0 && strcmp(status, "null") != 0) {
        moved(opaque, record->host, CENSUS_ALL);
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
    for (struct command **link = &state->open; *link;) {
        if ((*link)->host == record->ref) {
            put_away(state, link);
        } else {
            link = &(*link)->next;
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

/* What the power could take away is a disk's own. */
static bool disks_hold_payloads(const struct resources *state)
{
    struct disk *disk = disk_first(state->check->sim);

    while (disk && disk_unflushed(disk) == 0) {
        disk = disk_next(disk);
    }
    return disk != NULL;
}

static void empty(struct resources *state, const struct sim_arena *arena, const char *where_name)
{
    struct violation_where where = {.host = where_name};

    for (unsigned type = 0; type < SIM_TYPE_COUNT; type++) {
        uint64_t live = sim_arena_live(arena, (enum sim_type)type);

        if (live > 0 && !is_of_the_world((enum sim_type)type) &&
            !(type == SIM_TYPE_payload_elem && (state->crashed || disks_hold_payloads(state)))) {
            where.op = sim_type_name((enum sim_type)type);
            check_violate(state->check->set, "resources", "left-over", &where,
                          "at the end of everything %" PRIu64 " of %s (%s) are left", live,
                          sim_type_name((enum sim_type)type), sim_type_doc((enum sim_type)type));
        }
    }
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct resources *state = opaque;

    for (struct host *host = host_first(check->sim); host; host = host->next) {
        resources_jobs_look(state, host);
    }
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
    static const struct check_subscription table[] = {
        {EV_qmp_command, on_command},
        {EV_JOB_STATUS_CHANGE, on_status},
        {EV_mirror_final_drain, on_other},
        {EV_mirror_op_end, on_other}, /* what a cancelled mirror waits for */
        {EV_run_state, on_other},
        {EV_BLOCK_JOB_ERROR, on_other},
        {EV_BLOCK_WRITE_THRESHOLD, on_threshold},
        {EV_qmp_reply, on_reply},
        {EV_host_crash, on_crash},
        {EV_node_activity, on_activity},
        {EV_debug_inject, on_inject},
        {EV_disk_complete, on_disk_complete},
    };
    struct resources *state = (struct resources *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));

    state->check = check;
    check_subscribe(check->sim, table, ARRAY_SIZE(table), state);
    resources_jobs_attach(state);
    return state;
}

const struct check_class check_resources = {
    .name = "resources",
    .doc = "after every refused command, every failed job and at the end no request, blocker, permission, drain, "
           "reference or object is left over, and graph, options and read-only state are as before",
    .rules = "refused-command: a refused command left more or fewer objects of a type\n"
             "refused-nodes: a refused command changed which nodes there are, or their order\n"
             "refused-links: a refused command changed links, what is frozen, or backing files\n"
             "refused-order: a refused command changed the order of a node's parents\n"
             "refused-permissions: a refused command changed what edges hold or share\n"
             "refused-read-only: a refused command made a node read-only, writable, active or inactive\n"
             "refused-options: a refused command changed flags or options of a node\n"
             "refused-limits: a refused command changed limits of a node\n"
             "refused-bitmaps: a refused command changed which bitmaps there are, or their attributes\n"
             "refused-blockers: a refused command left an op blocker, or took one away\n"
             "refused-drains: a refused command left a node drained, or let go a drained one\n"
             "refused-references: a refused command left a reference to a node, or dropped one\n"
             "refused-backends: a refused command changed backends: their nodes, permissions or policies\n"
             "refused-groups: a refused command changed throttle groups, their users or limits\n"
             "refused-jobs: a refused command changed a job's status, pauses or settings\n"
             "failed-job: a job that failed or was cancelled left the graph other than it had found it\n"
             "lost-node: a node went although the client that added it has not deleted it\n"
             "not-at-rest: at the end a node is still drained or has requests in flight\n"
             "left-over: an object is alive after everything was closed\n",
    .attach = attach,
    .at_settled = at_settled,
    .at_teardown = at_teardown,
};
