/*
 * The parser from inside: parse.c (lines, settings, prefixes) and parse_step.c (verbs and arguments).
 */
#ifndef SCENARIO_PARSE_INT_H
#define SCENARIO_PARSE_INT_H

#include "scenario/lang.h"

#define SCN_MAX_ARGS 256        /* of one step */
#define SCN_MAX_JSON (64 * KiB) /* of one value */

/* Where an argument of the step in hand stands. */
struct scn_arg_place {
    const char *key; /* owned by the step's dictionary, or the verb's table */
    struct scn_place place;
};

struct scn_parser {
    struct scn_lexer lexer;
    struct scn_token token;
    struct scenario *scn;
    Error **errp;
    bool seen_version;
    bool seen_seed;
    bool seen_schedule;
    struct scn_arg_place *args; /* of the step in hand */
    size_t arg_count;
    size_t arg_room;
};

struct scn_prefix {
    struct scn_place place;
    char *label;
    struct scn_place label_place;
    enum scn_delay delay;
    int64_t delay_ns;
    char *host;
    bool try_;
    struct scn_place try_place;
};

/* Reports local with a place; takes it over. Always false. */
bool scn_parse_fail(struct scn_parser *p, struct scn_place place, Error *local);
bool scn_parse_next(struct scn_parser *p, const char *what);
bool scn_parse_line_done(struct scn_parser *p);
bool scn_token_is(const struct scn_token *token, const char *word);
void scn_spell_settings(struct scn_spell *spell);
/* p->token is the verb (or a JSON object). Takes label and host out of prefix. */
bool scn_parse_step(struct scn_parser *p, struct scn_prefix *prefix);

#endif
