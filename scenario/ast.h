/*
 * The scenario language as a tree: a list of steps (DESIGN 5). Seeds, fuzz bytes, files and shrunk failures all
 * become this, and the runner knows nothing else.
 *
 * Every verb is one row of a table (scenario/verbs.c): its name, its arguments with their domains. Parser, printer,
 * codec, generator, shrinker and runner all read that table. QMP commands and faults are verbs too; their argument
 * tables come from monitor/ and faults/.
 *
 * A step:  [LABEL:] [+DELAY|@TIME] [on HOST] [try] VERB args...
 *
 * Trees live in libc memory. Values are kept typed and in canonical text: print(parse(t)) is canonical, and
 * parse(print(a)) equals a.
 */
#ifndef SCENARIO_AST_H
#define SCENARIO_AST_H

#include <stdio.h>

#include "sim/choice.h"
#include "sim/qvalue.h"

enum scn_form {
    SCN_FORM_WORLD, /* own syntax: disk, guest, workload, wait, expect, ... */
    SCN_FORM_QMP,   /* a QMP command in qmp-shell form */
    SCN_FORM_JSON,  /* a raw JSON object {"execute": ...} */
};

enum scn_arg_type {
    SCN_NAME, /* an identifier: node, disk, guest, job, bitmap (domain tells which) */
    SCN_STR,  /* free text */
    SCN_INT,
    SCN_SIZE, /* bytes, k/M/G/T */
    SCN_TIME, /* ns/us/ms/s */
    SCN_BOOL, /* on|off, true|false */
    SCN_ENUM,
    SCN_BYTE,  /* 0x11 */
    SCN_FLAG,  /* a word that is there or not: -z */
    SCN_VALUE, /* any JSON-ish value (QMP) */
};

enum scn_domain {
    SCN_DOM_NONE,
    SCN_DOM_DISK,
    SCN_DOM_NODE,
    SCN_DOM_GUEST,
    SCN_DOM_JOB,
    SCN_DOM_BITMAP,
    SCN_DOM_HOST,
    SCN_DOM_EVENT,
    SCN_DOM_FAULT,
    SCN_DOM_GROUP, /* throttle groups */
    SCN_DOM_PATH
};

struct scn_arg_def {
    const char *name; /* NULL ends the table; positional ones are shown as <name> */
    enum scn_arg_type type;
    bool positional;
    bool required;
    enum scn_domain domain;
    bool defines;               /* this argument names a new thing of its domain */
    const char *const *choices; /* SCN_ENUM, NULL-ended */
    int64_t min, max;           /* SCN_INT, SCN_SIZE, SCN_TIME; both 0: no bound but >= 0 */
    const char *doc;
    const char *within; /* written as NAME=VALUE in the comma list of this option ("-o"); NULL: on its own */
};

struct scn_step;
struct runner;

struct scn_verb {
    const char *name; /* "disk", "io write", "blockdev-mirror" */
    enum scn_form form;
    const struct scn_arg_def *args;
    bool open_args; /* further key=value pairs allowed */
    const char *doc;
    const char *example;
    /* Checks beyond the table; may be NULL. */
    bool (*check)(const struct scn_step *step, Error **errp);
    /* Runs in the runner's coroutine. */
    void (*run)(struct runner *runner, const struct scn_step *step);
};
const struct scn_verb *scn_verb_find(const char *name);
const struct scn_verb *scn_verb_at(size_t index); /* NULL beyond the last */

enum scn_delay { SCN_DELAY_NONE, SCN_DELAY_RELATIVE, SCN_DELAY_ABSOLUTE };

struct scn_step {
    char *label; /* NULL: its ordinal, 1-based over all steps */
    enum scn_delay delay;
    int64_t delay_ns;
    char *host; /* NULL: the default host */
    bool try_;
    const struct scn_verb *verb;
    struct qvalue *args; /* ordered dictionary by argument name; JSON steps: the whole object under "json" */
    int line, column;    /* where it was parsed; 0: made otherwise */
};

enum scn_schedule { SCN_SCHEDULE_CALM, SCN_SCHEDULE_RANDOM, SCN_SCHEDULE_PCT, SCN_SCHEDULE_REPLAY };

struct scn_pin { /* choose SITE ENTITY ORDINAL = V */
    enum sim_site site;
    uint64_t entity;
    uint32_t ordinal;
    uint32_t value;
};

struct scenario {
    int version; /* 1 */
    uint64_t seed;
    enum scn_schedule schedule;
    uint32_t pct_depth;
    struct scn_step *steps;
    size_t step_count;
    size_t step_room;
    struct scn_pin *pins;
    size_t pin_count;
    char *path; /* file it came from, NULL otherwise: host paths are relative to its folder */
};

struct scenario *scenario_new(void);
void scenario_free(struct scenario *scn); /* NULL is fine */
struct scenario *scenario_copy(const struct scenario *scn);
bool scenario_equal(const struct scenario *a, const struct scenario *b);
/* Appends a zeroed step. The pointer is good until the next append. */
struct scn_step *scenario_add(struct scenario *scn, const struct scn_verb *verb);
void scenario_remove(struct scenario *scn, size_t index);
/* Freezes every ordinal into a label, so that removing a step changes no other's entity (shrinking). */
void scenario_label_all(struct scenario *scn);
/* The entity key of a step: its label or ordinal. index is its place in scn. */
uint64_t scn_step_entity(const struct scenario *scn, size_t index);
/* Label text or ordinal into buf of 24 bytes or more. */
const char *scn_step_label(const struct scenario *scn, size_t index, char *buf, size_t room);

/* --- text ------------------------------------------------------------------------------------------------ */

#define SCN_MAX_STEPS 1000000
#define SCN_MAX_TEXT_BYTES (64 * MiB)

/* NULL with "FILE:LINE:COLUMN: what is wrong, what was expected" in errp. text need not be NUL-terminated; NULs and
 * invalid UTF-8 are errors with a place. file is for messages. */
struct scenario *scenario_parse(const char *file, const char *text, size_t length, Error **errp);
/* Reads and parses. "-" is standard input. */
struct scenario *scenario_load(const char *path, Error **errp);
/* Canonical text. Caller frees with free(). */
char *scenario_print(const struct scenario *scn);
/* One step's canonical text without newline. */
char *scn_step_print(const struct scenario *scn, size_t index);

/* --- bytes (fuzzing) ------------------------------------------------------------------------------------- */

/* Any bytes decode, to a scenario that passes the pre-run checks; never NULL. At most max_steps steps. */
struct scenario *scenario_decode(const uint8_t *data, size_t length);
/* decode(encode(s)) equals s. Caller frees with free(). */
uint8_t *scenario_encode(const struct scenario *scn, size_t *length);

/* --- generation ------------------------------------------------------------------------------------------ */

struct scn_profile {
    const char *name;
    const char *doc;
    void (*generate)(struct sim *draw); /* writes through the generator at work: scenario/gen.h */
};
const struct scn_profile *scn_profile_find(const char *name);
const struct scn_profile *scn_profile_at(size_t index);
/* The scenario of a seed: draws only through choices of a scratch world. profile may carry weights:
 * "mirror:enospc=4,power=0". NULL with errp. */
struct scenario *scenario_generate(const char *profile, uint64_t seed, Error **errp);

#endif
