/*
 * What faults share: a rule armed on a medium, which requests it means, and how often it still fires. Private to
 * faults/.
 */
#ifndef FAULTS_RULE_H
#define FAULTS_RULE_H

#include "faults/fault.h"

struct fault_rule {
    struct disk_interposer interposer; /* first */
    struct sim *sim;
    const struct fault_class *klass;
    size_t size_bytes; /* of the whole object */
    struct disk *disk; /* NULL: bound to no medium */
    uint64_t entity;   /* of the step that armed it */
    bool interposed;
    bool busy; /* something of the world still points here: freed later */
    bool stopped;
    /* which requests: */
    int op;     /* enum sim_op, -1: any */
    int origin; /* enum sim_origin_kind, -1: any */
    int64_t offset;
    int64_t length;   /* 0: the whole medium */
    int64_t nth;      /* the first matching request that is hit, from 1 */
    int64_t count;    /* how many are hit; 0: all */
    int64_t permille; /* chance of each */
    int64_t seen;
    int64_t fired;
    struct sim_timer timer;                                        /* for faults that act by time */
    void (*stop)(struct fault_rule *rule);                         /* faults stop; may be NULL */
    void (*host_gone)(struct fault_rule *rule, struct host *host); /* may be NULL */
    struct fault_rule *next;
};

/* Rows that every fault of requests has in its table. */
#define FAULT_ARG_DISK \
    { \
        "disk", FAULT_DISK, true, NULL, "the medium", NULL \
    }
#define FAULT_ARG_NTH \
    { \
        "nth", FAULT_INT, false, "1", "first matching request that is hit, counted from 1", NULL \
    }
#define FAULT_ARG_COUNT(def) \
    { \
        "count", FAULT_INT, false, def, "how many are hit; 0: all from then on", NULL \
    }
#define FAULT_ARG_OP(def) \
    { \
        "op", FAULT_OP, false, def, "operation, or any", NULL \
    }
#define FAULT_ARG_OFFSET \
    { \
        "offset", FAULT_SIZE, false, "0", "start of the area, bytes", NULL \
    }
#define FAULT_ARG_LENGTH \
    { \
        "length", FAULT_SIZE, false, "0", "length of the area, bytes; 0: the whole medium", NULL \
    }
#define FAULT_ARG_PERMILLE \
    { \
        "permille", FAULT_PERMILLE, false, "1000", "chance of each, in thousandths", NULL \
    }
#define FAULT_ARG_ORIGIN \
    { \
        "origin", FAULT_STR, false, "any", "whose requests: any, guest, job, main", fault_origins \
    }
extern const char *const fault_origins[];

/* An argument, or its default from the class's table. */
int64_t fault_arg_int(const struct fault_class *fault, const struct qvalue *args, const char *name);
bool fault_arg_bool(const struct fault_class *fault, const struct qvalue *args, const char *name);
const char *fault_arg_str(const struct fault_class *fault, const struct qvalue *args, const char *name);

/* A rule of size_bytes (struct fault_rule first), its matching filled in from whatever of the common arguments the
 * class has, and listed. NULL with errp when the disk does not exist. Reports fault_armed. */
struct fault_rule *fault_rule_new(struct sim *sim, const struct fault_class *fault, const struct qvalue *args,
                                  uint64_t entity, size_t size_bytes, Error **errp);
/* Hooks it into its medium; either may be NULL. */
void fault_rule_interpose(struct fault_rule *rule,
                          void (*before)(struct disk_interposer *self, struct disk_req *req),
                          void (*at_effect)(struct disk_interposer *self, struct disk_req *req));
/* Whether this request is hit: counts, draws, and reports when it is. ret: what it will be answered, for the event.
 */
bool fault_rule_hits(struct fault_rule *rule, const struct disk_req *req, int ret);
/* For faults that are no answer to a request. what: an operation's name, a command's, or what the fault did. */
void fault_rule_report(struct fault_rule *rule, const char *what, int64_t offset, int64_t bytes, int ret);
/* Writes counted by power-cuts of this world; outlives the rules. */
uint64_t *fault_power_counter(struct sim *sim);
/* The newest rule of a class, NULL: none is armed. */
struct fault_rule *fault_rule_find(struct sim *sim, const struct fault_class *fault);
/* A busy rule has let go of the world. */
void fault_rule_idle(struct fault_rule *rule);

extern const struct fault_class fault_error;
extern const struct fault_class fault_latency;
extern const struct fault_class fault_stuck;
extern const struct fault_class fault_capacity;
extern const struct fault_class fault_storm;
extern const struct fault_class fault_reorder;
extern const struct fault_class fault_lost_write;
extern const struct fault_class fault_misdirected_write;
extern const struct fault_class fault_torn_write;
extern const struct fault_class fault_lying_flush;
extern const struct fault_class fault_bit_rot;
extern const struct fault_class fault_power_cut;

#endif
