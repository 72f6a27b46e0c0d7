/*
 * `transaction`: the engine, the families of actions, and the action that always fails.
 */
#include "monitor/transaction.h"

#include <string.h>
#include <sys/queue.h>

#include "monitor/commands.h"

/* --- the table of actions -------------------------------------------------------------------------------- */

static bool abort_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state, Error **errp)
{
    error_setg(errp, "Transaction aborted using Abort action");
    return false;
}

static const struct qmp_action general_actions[] = {
    {.name = "abort", .args = QMP_NO_ARGS, .prepare = abort_prepare, .doc = "fails: undoes what stands before it"},
    {.name = NULL},
};

static const struct qmp_action *const families[] = {general_actions, qmp_bitmap_actions, qmp_snapshot_actions,
                                                    qmp_internal_snapshot_actions, qmp_backup_actions};

const struct qmp_action *qmp_action_at(size_t index)
{
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        for (const struct qmp_action *action = families[i]; action->name; action++) {
            if (index-- == 0) {
                return action;
            }
        }
    }
    return NULL;
}

const struct qmp_action *qmp_find_action(const char *name)
{
    const struct qmp_action *action;
    for (size_t i = 0; (action = qmp_action_at(i)); i++) {
        if (strcmp(action->name, name) == 0) {
            return action;
        }
    }
    return NULL;
}

/* --- arguments ------------------------------------------------------------------------------------------- */

static const char *const completion_modes[] = {"individual", "grouped", NULL};

static const struct qmp_arg properties_args[] = {
    {.name = "completion-mode",
     .type = QMP_ENUM,
     .optional = true,
     .choices = completion_modes,
     .def = "individual",
     .doc = "whether jobs that it starts end together"},
    {.name = NULL},
};

static const struct qmp_arg transaction_args[] = {
    {.name = "actions", .type = QMP_LIST, .doc = "list of {type, data}: `blksim list actions`"},
    {.name = "properties",
     .type = QMP_DICT,
     .optional = true,
     .of = properties_args,
     .doc = "{completion-mode}: individual or grouped"},
    {.name = NULL},
};

static const struct qmp_arg action_args[] = {
    {.name = "type", .type = QMP_STR, .doc = "which action"},
    {.name = "data", .type = QMP_DICT, .doc = "its arguments"},
    {.name = NULL},
};

static const struct qmp_arg action_row = {.name = "TransactionAction", .type = QMP_DICT, .of = action_args};

static bool check_action(struct qvalue *item, const struct qmp_place *place, Error **errp)
{
    const struct qmp_place type_place = {.above = place, .name = "type"};
    const struct qmp_place data_place = {.above = place, .name = "data"};
    if (!qmp_check_value(&action_row, item, place, errp)) {
        return false;
    }
    const char *type = qmp_arg_str(item, "type", NULL);
    const struct qmp_action *action = qmp_find_action(type);
    if (!action) {
        return qmp_refuse_choice(&type_place, type, errp);
    }
    return qmp_check_table(action->args, false, qdict_get(item, "data"), &data_place, errp);
}

bool qmp_check_transaction(struct qvalue *args, Error **errp)
{
    const struct qvalue *actions = qdict_get(args, "actions");
    const struct qmp_place list_place = {.name = "actions"};
    SIM_ASSERT(actions && actions->type == QVALUE_LIST);
    for (size_t i = 0; i < actions->seq.count; i++) {
        const struct qmp_place place = {.above = &list_place, .index = i};
        if (!check_action(actions->seq.items[i], &place, errp)) {
            return false;
        }
    }
    return true;
}

/* --- the engine ------------------------------------------------------------------------------------------ */

/* An action that is prepared. */
typedef struct qmp_step qmp_step;
struct qmp_step {
    const struct qmp_action *action;
    void *state; /* NULL: it needs none */
    TAILQ_ENTRY(qmp_step) list;
};
TAILQ_HEAD(qmp_steps, qmp_step);

static void free_step(struct host *host, qmp_step *step)
{
    sim_free(host->arena, SIM_TYPE_qmp_action_state, step->state, step->action->state_size);
    SIM_FREE(host->arena, qmp_step, step);
}

static bool prepare(struct qmp_transaction *transaction, struct qmp_steps *steps, const struct qvalue *item,
                    Error **errp)
{
    struct host *host = transaction->host;
    qmp_step *step = SIM_NEW(host->arena, qmp_step);
    step->action = qmp_find_action(qmp_arg_str(item, "type", NULL));
    SIM_ASSERT(step->action);
    if (step->action->state_size > 0) {
        step->state = sim_alloc(host->arena, SIM_TYPE_qmp_action_state, step->action->state_size);
    }
    if (!step->action->prepare(transaction, qdict_get(item, "data"), step->state, errp)) {
        free_step(host, step);
        return false;
    }
    TAILQ_INSERT_TAIL(steps, step, list);
    return true;
}

static bool settle(struct qmp_transaction *transaction, const struct qmp_steps *steps, Error **errp)
{
    qmp_step *step;
    TAILQ_FOREACH(step, steps, list)
    {
        if (step->action->settle && !step->action->settle(transaction, step->state, errp)) {
            return false;
        }
    }
    return true;
}

/* Newest first: each finds the world as its own prepare left it. */
static void finish(struct qmp_transaction *transaction, struct qmp_steps *steps, bool commit)
{
    qmp_step *step;
    TAILQ_FOREACH_REVERSE(step, steps, qmp_steps, list)
    {
        void (*fn)(struct qmp_transaction *, void *) = commit ? step->action->commit : step->action->abort;
        if (fn) {
            fn(transaction, step->state);
        }
    }
    while ((step = TAILQ_LAST(steps, qmp_steps))) {
        TAILQ_REMOVE(steps, step, list);
        if (step->action->clean) {
            step->action->clean(transaction, step->state);
        }
        free_step(transaction->host, step);
    }
}

static bool run_actions(struct qmp_transaction *transaction, const struct qvalue *actions, Error **errp)
{
    struct qmp_steps steps = TAILQ_HEAD_INITIALIZER(steps);
    bool ok = true;
    size_t prepared = 0;
    for (size_t i = 0; ok && i < actions->seq.count; i++) {
        ok = prepare(transaction, &steps, actions->seq.items[i], errp);
        prepared += ok;
    }
    SIM_EMIT(transaction->host->sim, transaction->host, transaction, transaction, (uint64_t)actions->seq.count,
             (uint64_t)prepared);
    ok = ok && settle(transaction, &steps, errp);
    if (!ok && !TAILQ_EMPTY(&steps)) {
        SIM_MARK(transaction->host->sim, transaction_undone);
    }
    finish(transaction, &steps, ok);
    return ok;
}

static bool all_may_group(const struct qvalue *actions, Error **errp)
{
    for (size_t i = 0; i < actions->seq.count; i++) {
        const struct qmp_action *action = qmp_find_action(qmp_arg_str(actions->seq.items[i], "type", NULL));
        if (!action->may_group) {
            error_setg(errp, "Action '%s' does not support transaction property completion-mode = grouped",
                       action->name);
            return false;
        }
    }
    return true;
}

static bool jobs_went_on(void *opaque)
{
    for (Job *job = job_next(opaque, NULL); job; job = job_next(opaque, job)) {
        if (job_is_paused(job) && job->pause_count == 0) {
            return false;
        }
    }
    return true;
}

/* To the end: no write slips in between two actions, and all see the same point in time. Jobs that it starts park
 * until then, and clients learn that they go on before they learn that the command is through (jobs.md 1.8). */
static bool run_drained(struct qmp_transaction *transaction, const struct qvalue *actions, Error **errp)
{
    struct host *host = transaction->host;

    bdrv_drain_all_begin(host);
    bool ok = run_actions(transaction, actions, errp);
    bdrv_drain_all_end(host);
    if (transaction->started_jobs) {
        host_poll(host, jobs_went_on, host);
    }
    return ok;
}

static bool cmd_transaction(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    const struct qvalue *actions = qdict_get(args, "actions");
    const char *mode = qmp_arg_str(qdict_get(args, "properties"), "completion-mode", "individual");
    struct qmp_transaction transaction = {.host = host};
    bool grouped = strcmp(mode, "grouped") == 0;
    if (grouped && !all_may_group(actions, errp)) {
        return false;
    }
    transaction.txn = grouped ? job_txn_new(host) : NULL;
    bool ok = run_drained(&transaction, actions, errp);
    job_txn_unref(transaction.txn);
    return ok;
}

bool qmp_run_action(struct host *host, const char *name, const struct qvalue *data, Error **errp)
{
    struct qvalue *actions = qvalue_list();
    struct qvalue *item = qvalue_dict();
    struct qmp_transaction transaction = {.host = host};
    struct co_cleanup cleanup;
    qdict_put(item, "type", qvalue_str(name));
    qdict_put(item, "data", qvalue_copy(data));
    qlist_append(actions, item);
    coroutine_cleanup_push(host->sim, &cleanup, qvalue_cleanup, actions);
    bool ok = run_drained(&transaction, actions, errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(actions);
    return ok;
}

const struct qmp_command qmp_transaction_commands[] = {
    {"transaction", transaction_args, false, cmd_transaction, "does several actions, all or none",
     qmp_check_transaction},
    {.name = NULL},
};
