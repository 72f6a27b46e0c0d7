/*
 * commit-view from inside: views (commit_view.c), what else may change them (commit_beside.c), and chains with
 * their headers (commit_chain.c). Nobody else includes it.
 */
#ifndef CHECK_COMMIT_VIEW_H
#define CHECK_COMMIT_VIEW_H

#include "check/checkers.h"
#include "check/instant.h"

/* What somebody sees through the layers of a job. */
struct layer_view {
    struct guest *guest;         /* wherever it goes; NULL: */
    const struct sim_name *node; /* ... a node */
    struct instant *content;     /* when the job began */
    int64_t limit;               /* the shortest that it has been since */
    struct ranges loose;         /* written since by guests: guest-view's part */
    bool lost;                   /* somebody else may have changed it */
    bool inside;                 /* a layer that means nothing once the job has succeeded */
    struct layer_view *next;
};

/* An image right above the layers, or the one that a stream fills, before its job's prepare. */
struct overlay {
    const struct sim_name *node;
    const struct sim_name *backing; /* the node below, filters skipped; NULL: none */
    char *header;                   /* NULL: names none */
    struct overlay *next;
};

struct layer_job {
    struct host *host;
    const struct sim_name *id;
    const char *type; /* static */
    bool stream;
    bool active;                       /* an active commit */
    const struct sim_name *top, *base; /* base of a stream: its bottom */
    char *backing_file;                /* of the command; NULL: none was given */
    bool mask_protocol;
    enum job_status status;
    int64_t looked;   /* progress at the last look at a chunk */
    uint64_t settled; /* event number of the last look at a quiet point; 0: none */
    struct layer_view *views;
    int64_t base_length;  /* the longest that it has been */
    int64_t top_length;   /* of the layers, at the start */
    struct instant *tail; /* of base, beyond their end; NULL: none */
    struct overlay *overlays;
    const struct sim_name *below_bottom; /* before prepare; filters skipped */
    struct layer_job *next;
};

struct commit_view {
    struct check *check;
    struct layer_job *jobs;
    const struct qmp_call *call; /* at work on its host's main coroutine */
};

struct layer_job *layer_job_find(struct commit_view *state, uint32_t host, const struct sim_name *id);
BlockDriverState *layer_node(const struct layer_job *w, const struct sim_name *name);
/* What the view stands on now; NULL: gone. */
BlockDriverState *layer_view_bs(const struct layer_job *w, const struct layer_view *view);
void layer_violate(struct commit_view *state, const struct layer_job *w, const char *rule,
                   const struct sim_name *node, const char *fmt, ...) SIM_PRINTF(5, 6);
/* node lies below bs on any way, or is it. */
bool layer_lies_below(const BlockDriverState *bs, const BlockDriverState *node);

/* --- who else may change a view (commit_beside.c) ------------------------------------------------------------ */

/* Requests that are in flight already. */
void layer_note_flights(struct commit_view *state, struct layer_job *w);
/* Other jobs and filters that write into layers of the view. */
bool layer_is_written(const struct layer_job *w, const BlockDriverState *bs);
void layer_beside_attach(struct commit_view *state);

/* --- chains and headers (commit_chain.c) --------------------------------------------------------------------- */

void layer_chain_note(struct commit_view *state, struct layer_job *w, const Job *job);
void layer_chain_look(struct commit_view *state, const struct layer_job *w);
void layer_chain_forget(struct commit_view *state, struct layer_job *w);

#endif
