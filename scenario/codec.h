/*
 * Scenarios as bytes, from inside. One grammar, walked in both directions: what a function reads when decoding it
 * writes when encoding.
 *
 *     tame    := prologue step*                       any bytes; what comes out passes the pre-run checks and is
 * bounded exact   := 0xb5 hash64(tame) tame               made by scenario_encode only: taken literally, no bounds
 *     step    := verb flags [label] [delay] [host] args
 *     value   := byte < 248, read by what the argument is | 248.. literal
 *
 * Reads past the end give 0. An exact form whose hash does not fit (somebody changed it) is read as a tame one, so
 * mutating a file that people wrote gives neighbours of it that are safe to run.
 */
#ifndef SCENARIO_CODEC_H
#define SCENARIO_CODEC_H

#include "scenario/lang.h"

#define CODEC_NATURAL 248 /* bytes below are read by what the argument is */

struct coder {
    bool encoding;
    bool exact;          /* no bounds */
    const uint8_t *data; /* decoding */
    size_t length;
    size_t at;
    struct scn_text out;           /* encoding */
    const struct scn_names *names; /* defined so far */
    const struct scenario *scn;    /* decoding: so far */
    int64_t disk_bytes;            /* of the last disk: offsets are drawn around its edges */
};

/* What an argument is, as far as short forms go. */
enum codec_kind {
    CODEC_FREE,
    CODEC_NAME,
    CODEC_WORD,
    CODEC_BOOL,
    CODEC_FLAG,
    CODEC_INT,
    CODEC_SIZE,
    CODEC_TIME,
    CODEC_BYTE,
    CODEC_FILE_NODE,
    CODEC_ACTIONS,    /* of a transaction */
    CODEC_SOURCES,    /* of a merge of bitmaps */
    CODEC_PROPERTIES, /* of a transaction */
    CODEC_NODES,      /* of a reopen */
    CODEC_CHILDREN,   /* of a quorum */
    CODEC_RULES,      /* of blkdebug */
    CODEC_IMAGE,      /* of blockdev-create */
};
struct codec_hint {
    enum codec_kind kind;
    enum scn_domain domain; /* CODEC_NAME */
    bool defines;
    const char *const *choices; /* CODEC_WORD */
    bool as_text;               /* numbers of commands: "64k" where that is shorter */
    int64_t min, max;           /* both 0: no bound but >= 0 */
};

void code_u8(struct coder *c, uint8_t *value);
void code_varint(struct coder *c, uint64_t *value);
/* A text of its own: decoding makes it, the caller frees. */
void code_text(struct coder *c, struct scn_text *text);
/* A number of the kind: one byte for common ones. */
void code_number(struct coder *c, const struct codec_hint *hint, int64_t *value);
/* Decoding makes *value, never NULL. */
void code_value(struct coder *c, const struct codec_hint *hint, struct qvalue **value);
/* Any value, as it is. depth: 0 but inside of another. */
void code_literal(struct coder *c, struct qvalue **value, unsigned depth);
/* CODEC_ACTIONS, CODEC_SOURCES, CODEC_NODES, CODEC_CHILDREN, CODEC_RULES. */
bool code_is_list(enum codec_kind kind);
void code_list(struct coder *c, const struct codec_hint *hint, struct qvalue **list);
/* The verb of a step; decoding: NULL when the bytes name none of this build. (codec_verb.c) */
const struct scn_verb *code_verb(struct coder *c, const struct scn_verb *verb);
/* --- options of nodes (codec_node.c) ----------------------------------------------------------------------- */

#define CODEC_KEYS_MAX 32

struct codec_key {
    const char *name;
    struct codec_hint hint;
};
/* Words for a driver; some stand more than once. */
extern const char *const codec_drivers[];
/* The keys of the driver that args name, then those of all drivers. */
size_t codec_node_keys(const struct qvalue *args, struct codec_key keys[CODEC_KEYS_MAX]);
/* Any bytes: drops what the driver does not know, makes what it needs. */
void codec_node_complete(struct coder *c, struct qvalue *args);
/* One node of a reopen. */
void code_reopened(struct coder *c, struct qvalue **item);

/* All arguments of a step; decoding fills step->args. */
void code_args(struct coder *c, struct scn_step *step);

#endif
