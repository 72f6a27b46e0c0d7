/*
 * Faults: what the scenario line `fault NAME key=value...` does (DESIGN 8).
 *
 * One file per fault, one row each in faults/registry.c: name, parameter table, arm function. A fault hooks where a
 * real failure would come in: as an interposer of a medium. Arming allocates from the world; everything ends with
 * it.
 */
#ifndef FAULTS_FAULT_H
#define FAULTS_FAULT_H

#include "sim/disk.h"
#include "sim/qvalue.h"

enum fault_arg_type {
    FAULT_STR,
    FAULT_INT,
    FAULT_SIZE,
    FAULT_TIME,
    FAULT_BOOL,
    FAULT_ERRNO,
    FAULT_OP,
    FAULT_DISK,
    FAULT_PERMILLE
};

struct fault_arg {
    const char *name; /* NULL ends the table */
    enum fault_arg_type type;
    bool required;
    const char *def;            /* default as text */
    const char *doc;            /* meaning and unit */
    const char *const *choices; /* FAULT_STR: NULL-ended; NULL: any text */
};

struct fault_class {
    const char *name;
    const char *doc;     /* one line */
    const char *example; /* a scenario line */
    const struct fault_arg *args;
    bool detect_only; /* a correct block layer cannot survive it; off in normal sweeps */
    bool ends_host;   /* only where the scenario goes on after it: not drawn like the others */
    /* Arguments were checked against the table. entity is the step's, for choices. */
    bool (*arm)(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp);
};

const struct fault_class *fault_find(const char *name); /* NULL when there is none */
const struct fault_class *fault_at(size_t index);       /* NULL beyond the last */
/* Names, presence, types; pure: usable before a run. Numbers, sizes, times and bools given as text are converted in
 * place (to integers, bytes, nanoseconds); names of operations, errnos and disks stay text. */
bool fault_check_args(const struct fault_class *fault, struct qvalue *args, Error **errp);
/* Checks, then arms. False with errp (an unknown disk, say). */
bool fault_arm(struct sim *sim, const struct fault_class *fault, struct qvalue *args, uint64_t entity,
               Error **errp);
/* How many times faults fired in this world, all and by class index. */
uint64_t fault_fired(struct sim *sim);
/* Fault power-cut: whether the power fails now, told once, and what the media keep. Whoever runs the world takes it
 * away (halted for that). */
bool fault_take_power_cut(struct sim *sim, enum disk_keep *keep);
/* Writes that power-cuts have counted. */
uint64_t fault_power_writes(struct sim *sim);
/* Disarms every rule and lets stuck requests go: "faults stop". */
void fault_stop_all(struct sim *sim);

#endif
