/*
 * The scenario language from inside: what its files share. See scenario/ast.h.
 *
 *   ast.c        the tree itself                    lex.c       text to tokens, with places
 *   verbs.c      the table of verbs                 parse.c     lines, settings, prefixes
 *   verb_check.c a step against its row             parse_step.c  verbs and arguments
 *   verbs_io.c   io rows                            print.c     steps to canonical text
 *   verbs_img.c  img rows
 *   verbs_qmp.c  rows made from the QMP table       precheck.c  names and files before a run
 *   spell.c      "did you mean"                     names.c     what a step defines and needs
 *   precheck_node.c  options of drivers
 *   nested.c     names in lists of commands         codec*.c    bytes
 *   gen*.c       the scenario of a seed
 */
#ifndef SCENARIO_LANG_H
#define SCENARIO_LANG_H

#include "scenario/ast.h"

#define SCN_LABEL_MAX 20 /* characters: a label fits a buffer of 24 bytes */

/* --- text that grows (ast.c) ----------------------------------------------------------------------------- */

struct scn_text {
    char *bytes; /* NUL-terminated once something was added */
    size_t length;
    size_t room;
};
void scn_text_add(struct scn_text *text, const char *bytes, size_t count);
void scn_text_str(struct scn_text *text, const char *str);
void scn_text_char(struct scn_text *text, char c);

/* --- tokens (lex.c) -------------------------------------------------------------------------------------- */

struct scn_place {
    int line;   /* 1, 2, ... */
    int column; /* 1, 2, ... in characters */
};

struct scn_lexer {
    const char *file;
    const char *at;
    const char *end;
    struct scn_place place;
};

/* key=value, key="value" or a bare word. The text of a quoted value is unescaped. */
struct scn_token {
    struct scn_place place;       /* of the token */
    struct scn_place value_place; /* of what follows the '=' */
    struct scn_text key;          /* empty unless there is a '=' */
    struct scn_text value;        /* the word or what follows the '=' */
    bool has_key;
    bool quoted; /* the value was quoted: it is a string whatever it looks like */
    bool json;   /* the value is a JSON object or list */
};

void scn_token_clear(struct scn_token *token);
/* Refuses NULs, invalid UTF-8 and stray control characters, with their place. */
bool scn_lex_validate(const char *file, const char *text, size_t length, Error **errp);
void scn_lex_init(struct scn_lexer *lexer, const char *file, const char *text, size_t length);
/* Skips blanks and a comment; true at the end of the (continued) line. */
bool scn_lex_line_end(struct scn_lexer *lexer);
/* To the first character of the next line. False at the end of the text. */
bool scn_lex_next_line(struct scn_lexer *lexer);
/* Next token of the line; scn_lex_line_end() was false. */
bool scn_lex_token(struct scn_lexer *lexer, struct scn_token *token, Error **errp);

/* "FILE:LINE:COLUMN: " and the message. */
void scn_error(Error **errp, const char *file, struct scn_place place, const char *fmt, ...) SIM_PRINTF(4, 5);

/* Shortened for messages: at most 60 characters and "..." into buf. */
#define SCN_SHOWN 72
const char *scn_shown(const char *text, size_t length, char buf[SCN_SHOWN]);

/* --- spelling (spell.c) ---------------------------------------------------------------------------------- */

/* Collects candidates for a misspelt word: the nearest, first among equals, and all of them for "expected". */
struct scn_spell {
    const char *word;
    unsigned best_distance;
    const char *best; /* NULL: nothing is near */
};
void scn_spell_init(struct scn_spell *spell, const char *word);
void scn_spell_try(struct scn_spell *spell, const char *candidate);
/* " (did you mean 'X'?)" or "" into buf. */
#define SCN_HINT 112
const char *scn_spell_hint(const struct scn_spell *spell, char buf[SCN_HINT]);

/* --- values (values.c) ----------------------------------------------------------------------------------- */

/* The shell form: true, false, null, canonical integers, JSON objects and lists; anything else and all that was
 * quoted is a string. NULL with errp (bad JSON). */
struct qvalue *scn_value_parse(const struct scn_token *token, const char *file, Error **errp);
/* A value of a table's type from text; NULL with errp ("expected a size ..."). */
struct qvalue *scn_typed_parse(const struct scn_arg_def *def, const char *text, Error **errp);
/* What the table asks of a value that is there already: type, range, choices. */
bool scn_typed_check(const struct scn_arg_def *def, const struct qvalue *value, Error **errp);
/* text is one of def->choices. */
bool scn_choice_check(const struct scn_arg_def *def, const char *text, Error **errp);
/* Canonical text of a typed value, of a free value, and key=value with dictionaries as dotted keys. */
void scn_typed_print(struct scn_text *out, const struct scn_arg_def *def, const struct qvalue *value);
void scn_value_print(struct scn_text *out, const struct qvalue *value);
void scn_pair_print(struct scn_text *out, const char *key, const struct qvalue *value);
/* A letter or '_' first, then letters, digits and "-._"; '#' may come first (generated node names). */
bool scn_is_name(const char *text);
/* Letters, digits and '-_', in parts between single dots. */
bool scn_is_key(const char *text);

/* --- verbs (verbs.c, verb_check.c)
 * ------------------------------------------------------------------------------------- */

extern const struct scn_verb scn_io_verbs[];  /* verbs_io.c; NULL name ends */
extern const struct scn_verb scn_img_verbs[]; /* verbs_img.c; NULL name ends */
extern const char *const scn_unknown_yet[];   /* verbs of the language that this version does not have */
/* The rows of the QMP table, made at first use (verbs_qmp.c). */
const struct scn_verb *scn_qmp_verb_at(size_t index);
/* What an argument of a command names, by the command's name; SCN_DOM_NONE: nothing. */
enum scn_domain scn_qmp_domain(const char *command, const char *arg, bool *defines);
const struct scn_arg_def *scn_verb_arg(const struct scn_verb *verb, const char *name);
/* Whether `try` means something before it. */
bool scn_verb_takes_try(const struct scn_verb *verb);
/* Presence, types and keys by the table, then the verb's own check. *key (may be NULL) is set to the argument to
 * blame, or NULL. The message has no place. */
bool scn_step_check(const struct scn_step *step, const char **key, Error **errp);

/* --- names (names.c) ------------------------------------------------------------------------------------- */

/* What has been defined so far, by domain, in order. */
struct scn_names;
struct scn_names *scn_names_new(void);
void scn_names_free(struct scn_names *names);
bool scn_names_has(const struct scn_names *names, enum scn_domain domain, const char *name);
size_t scn_names_count(const struct scn_names *names, enum scn_domain domain);
const char *scn_names_at(const struct scn_names *names, enum scn_domain domain, size_t index);
/* Nothing when it is there already. */
void scn_names_add(struct scn_names *names, enum scn_domain domain, const char *name);
/* Puts what the step defines into names. */
void scn_step_define(struct scn_names *names, const struct scn_step *step);

/* --- names inside lists (nested.c) ----------------------------------------------------------------------- */

/* False ends the walk. */
typedef bool scn_nested_fn(void *opaque, enum scn_domain domain, bool defines, const char *name);
/* The names in the actions of a transaction or the sources of a merge, in order; false when fn said so. Whatever is
 * of another form is passed over. */
bool scn_each_nested_name(const char *command, const struct qvalue *args, scn_nested_fn *fn, void *opaque);

/* --- pre-run checks (precheck.c, precheck_node.c)
 * ------------------------------------------------------------------------- */

/* Every name the step uses is defined, and what it says of existing things fits. lenient: the refusal of a command
 * is expected or tried, so it may name nodes and jobs that are not there. The message has no place. */
bool scn_step_check_names(const struct scn_names *names, const struct scn_step *step, bool lenient, Error **errp);
/* One name that a step uses: of what was defined so far, or, of events and faults, of what there is. */
bool scn_check_name(const struct scn_names *names, enum scn_domain domain, const char *name, Error **errp);
/* The options of a node and of all children that come with it, against the tables of their drivers. */
bool scn_check_node_options(const struct scn_names *names, const struct qvalue *options, Error **errp);
/* previous is the step before, NULL for the first. */
bool scn_step_lenient(const struct scn_step *step, const struct scn_step *previous);
/* The step uses files of the host. */
bool scn_step_has_files(const struct scn_step *step);

#endif
