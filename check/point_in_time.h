/*
 * target-point-in-time from inside: backups (point_in_time.c), what disturbs them (point_in_time_beside.c), filters
 * that keep the past for readers (point_in_time_filter.c), and bitmaps (point_in_time_bitmap.c). Nobody else
 * includes it.
 */
#ifndef CHECK_POINT_IN_TIME_H
#define CHECK_POINT_IN_TIME_H

#include "check/checkers.h"
#include "check/instant.h"
#include "jobs/backup.h"

/* What the sources of a command's backups held when it took effect. */
struct pit_source {
    const struct sim_name *node; /* filters skipped */
    struct instant *instant;
    struct pit_source *next;
};

/* A filter that keeps the past, of a backup or by itself. */
struct pit_filter {
    struct host *host;
    const struct sim_name *node;
    const struct sim_name *source, *target;
    struct instant *instant; /* of the source */
    bool lost;               /* somebody else may have changed what it stands on */
    uint64_t looked;         /* event number of the last look at a quiet point; 0: none */
    struct pit_filter *next;
};

struct pit_job {
    struct host *host;
    const struct sim_name *id;
    const struct sim_name *source, *target;
    enum mirror_sync sync;
    enum bitmap_sync_mode mode;
    enum job_status status;
    const char *bitmap; /* NULL: none; checkers' arena */
    bool recording;     /* the bitmap was */
    bool discards_source;
    struct instant *instant; /* of the source */
    struct ranges promised;  /* of the target, when the job succeeds */
    struct instant *before;  /* of the target; NULL: it may change, or was not looked at */
    struct ranges touched;   /* of the target: clusters that the job may write */
    int64_t different;       /* at the last look, or -1; */
    int64_t spoiled;
    bool lost;
    struct pit_job *next;
};

struct point_in_time {
    struct check *check;
    const struct qmp_call *call; /* at work */
    struct pit_source *sources;  /* of its backups, as soon as one begins */
    struct pit_job *jobs;
    struct pit_filter *filters;
    bool filter_came; /* during the command */
};

BlockDriverState *pit_node(const struct host *host, const struct sim_name *name);
/* The node, or what lies below it, is not what it was, or is written by others. */
bool pit_is_beside(const BlockDriverState *bs);
void pit_filter_add(struct point_in_time *state, BlockDriverState *filter, struct instant *instant);
struct pit_filter *pit_filter_of(struct point_in_time *state, const struct host *host, const struct sim_name *node);
/* Every piece that a reader of the past would get. */
void pit_filter_look(struct point_in_time *state, struct pit_filter *f, const char *phase);
void pit_filter_attach(struct point_in_time *state);
/* The job has ended and given its bitmap back. */
void pit_bitmap_look(struct point_in_time *state, const struct pit_job *p, bool success);
void pit_violate(struct point_in_time *state, const struct host *host, const struct sim_name *job, const char *rule,
                 const char *phase, const struct sim_name *node, const char *op, const char *text);
/* "offset O (sector S): expected X; seen Y". */
#define PIT_TEXT 320
const char *pit_describe(struct point_in_time *state, const struct instant *instant, const BlockDriverState *bs,
                         int64_t offset, char buf[PIT_TEXT]);
void pit_beside_attach(struct point_in_time *state);

#endif
