/*
 * QMP: commands by table, typed arguments, replies (reference/jobs.md 9, reference/block.md 9).
 *
 * A command is one row: name, argument table, handler. Arguments are checked against the table before the handler
 * runs: unknown ("Parameter 'x' is unexpected"), missing ("Parameter 'x' is missing") and wrongly typed ones
 * ("Invalid parameter type for 'x', expected: integer") are GenericError. What stands inside lists and dictionaries
 * is named by its place ("actions[1].data.node"). JSON exists only outside; here values are qvalue trees.
 *
 * Handlers run on the host's main coroutine. Nothing is left behind by a refused command.
 */
#ifndef MONITOR_MONITOR_H
#define MONITOR_MONITOR_H

#include "sim/qvalue.h"
#include "sim/sim.h"

/* QMP_ALTERNATE: a string, or a dictionary of the table `of`. */
enum qmp_arg_type { QMP_STR, QMP_BOOL, QMP_INT, QMP_SIZE, QMP_ENUM, QMP_DICT, QMP_LIST, QMP_ALTERNATE, QMP_ANY };

struct qmp_arg {
    const char *name; /* NULL ends the table */
    enum qmp_arg_type type;
    bool optional;
    const char *const *choices; /* QMP_ENUM: NULL-ended */
    const char *def;            /* default as text, for documentation; NULL: none */
    const char *doc;
    /* What is inside; NULL: anything. QMP_DICT, QMP_ALTERNATE: the table of its keys. QMP_LIST: one row, which
     * every element follows (its name is that of the type). */
    const struct qmp_arg *of;
};

struct qmp_command {
    const char *name;
    const struct qmp_arg *args;
    bool open_args; /* further keys allowed: blockdev-add */
    /* Reply in *reply (may stay NULL: empty dictionary), or false with errp. */
    bool (*fn)(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp);
    const char *doc;
    /* What the table cannot say of the arguments, converting in place; pure. May be NULL. qmp_check_args calls it.
     */
    bool (*check)(struct qvalue *args, Error **errp);
};

const struct qmp_command *qmp_find_command(const char *name); /* NULL when there is none */
const struct qmp_command *qmp_command_at(size_t index);       /* NULL beyond the last */
/* Checks names, presence and types; converts "64k" strings to integers for QMP_SIZE and numbers given as strings
 * (the qmp-shell form) in place. Usable before a run: pure. */
bool qmp_check_args(const struct qmp_command *command, struct qvalue *args, Error **errp);

void monitor_init(struct host *host);
void monitor_cleanup(struct host *host);

/* One command in flight: queued to the main coroutine, done called there after the reply. The memory is the
 * caller's. */
struct qmp_call {
    const struct qmp_command *command;
    struct qvalue *args;  /* the caller's */
    uint64_t entity;      /* of the step, for choices */
    struct qvalue *reply; /* owned by the caller after done */
    Error *err;           /* set on refusal; owned by the caller */
    void (*done)(struct qmp_call *call);
    void *opaque;
    struct host *host;
};
void monitor_submit(struct host *host, struct qmp_call *call);
/* From a coroutine: submits and waits. True on success. */
bool monitor_co_call(struct host *host, struct qmp_call *call);

#endif
