/*
 * The `transaction` command: several actions, all or none (reference/bitmaps-qcow2.md 3, jobs.md 9).
 *
 * All I/O is drained first. Actions are prepared in the order given; what they do takes effect then, so later ones
 * see it. When one fails, those prepared before it are aborted, newest first; otherwise all are committed, newest
 * first. An action is one row of a table: its arguments, and what prepare, abort and commit do. What can neither be
 * undone nor promised to succeed waits until all others are prepared: that is settle, oldest first.
 *
 *     prepare 1 -> prepare 2 -> ... -> prepare n -> settle 1 ... settle n -> commit n ... commit 1 -> clean n ... 1
 *                      | fails                          | fails
 *                      +-> abort 1 -> clean 1           +-> abort n ... abort 1 -> clean n ... clean 1
 *                          (2 itself has left nothing behind)
 */
#ifndef MONITOR_TRANSACTION_H
#define MONITOR_TRANSACTION_H

#include "jobs/job.h"
#include "monitor/monitor.h"

/* A transaction at work. */
struct qmp_transaction {
    struct host *host;
    JobTxn *txn;       /* completion-mode=grouped: of the jobs that it starts, which end together; else NULL */
    bool started_jobs; /* some are parked until its drain ends */
};

struct qmp_action {
    const char *name; /* as in the schema: "block-dirty-bitmap-add"; NULL ends a family */
    const struct qmp_arg *args;
    bool may_group; /* false: completion-mode=grouped is refused */
    size_t state_size;
    /* state: state_size zero bytes of the host's arena, for abort, commit and clean. False with errp: nothing has
     * changed, and none of the three is called. */
    bool (*prepare)(struct qmp_transaction *transaction, const struct qvalue *data, void *state, Error **errp);
    /* False with errp: it has done nothing, and everything is aborted. NULL: nothing to settle. */
    bool (*settle)(struct qmp_transaction *transaction, void *state, Error **errp);
    void (*abort)(struct qmp_transaction *transaction, void *state);  /* may be NULL, like the next two */
    void (*commit)(struct qmp_transaction *transaction, void *state); /* cannot fail */
    void (*clean)(struct qmp_transaction *transaction, void *state);  /* last, after abort or commit */
    const char *doc;
};

extern const struct qmp_action qmp_bitmap_actions[];            /* cmd_bitmap_action.c */
extern const struct qmp_action qmp_snapshot_actions[];          /* cmd_snapshot.c */
extern const struct qmp_action qmp_internal_snapshot_actions[]; /* cmd_snapshot_internal.c */
extern const struct qmp_action qmp_backup_actions[];            /* cmd_backup.c */
/* All actions, family by family; NULL beyond the last, NULL when there is none. */
const struct qmp_action *qmp_action_at(size_t index);
const struct qmp_action *qmp_find_action(const char *name);

/* A transaction of one action, for the command of the same name; data checked against the action's table. */
bool qmp_run_action(struct host *host, const char *name, const struct qvalue *data, Error **errp);

/* What the arguments of `transaction` must look like: list of {type, data}, data against the action's table, in the
 * terms of qmp_check_args with the place ("actions[1].data.node"). Converts in place. Pure: usable before a run. */
bool qmp_check_transaction(struct qvalue *args, Error **errp);

#endif
