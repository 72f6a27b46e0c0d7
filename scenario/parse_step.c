/*
 * One step: which verb it is, and its arguments by the verb's table.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/parse_int.h"
#include "sim/world.h"

/* --- the verb -------------------------------------------------------------------------------------------- */

/* First words of verbs of two words, and what is expected after them. "io" is not among them: its guest stands
 * between. */
static const struct {
    const char *word;
    const char *seconds;
} first_words[] = {
    {"expect", "job, same, bitmap, event, view, img or error"},
    {"bitmap", "freeze, abdicate, reclaim or iterate"},
    {"img", "create, check, snapshot or resize"},
};

/* First words of all verbs and of what is no step. */
static void spell_verbs(struct scn_spell *spell)
{
    const struct scn_verb *verb;

    scn_spell_settings(spell);
    for (size_t i = 0; (verb = scn_verb_at(i)); i++) {
        const char *blank = strchr(verb->name, ' ');

        if (!blank) {
            scn_spell_try(spell, verb->name);
        }
    }
    scn_spell_try(spell, "io");
    for (size_t i = 0; i < ARRAY_SIZE(first_words); i++) {
        scn_spell_try(spell, first_words[i].word);
    }
}

static void unknown_verb(struct scn_parser *p)
{
    struct scn_spell spell;
    char hint[SCN_HINT];
    char shown[SCN_SHOWN];
    const char *word = p->token.has_key ? p->token.key.bytes : p->token.value.bytes;

    for (const char *const *later = scn_unknown_yet; *later; later++) {
        if (scn_token_is(&p->token, *later)) {
            scn_error(p->errp, p->lexer.file, p->token.place,
                      "'%s' is a verb that this version does not know, expected another", word);
            return;
        }
    }
    scn_spell_init(&spell, word);
    spell_verbs(&spell);
    scn_error(p->errp, p->lexer.file, p->token.place,
              "'%s' is no verb or command, expected one of `blksim list commands`%s",
              scn_shown(word, strlen(word), shown), scn_spell_hint(&spell, hint));
}

/* "io", "expect" or "bitmap" and the word in hand make the verb's name. */
static const struct scn_verb *find_second(struct scn_parser *p, const char *first)
{
    char name[64];
    struct scn_text all = {.bytes = NULL};
    struct scn_spell spell;
    const struct scn_verb *verb = NULL;
    char hint[SCN_HINT];
    char shown[SCN_SHOWN];
    size_t prefix = strlen(first) + 1;

    if (!p->token.has_key && !p->token.quoted && p->token.value.length < 32) {
        snprintf(name, sizeof(name), "%s %s", first, p->token.value.bytes);
        verb = scn_verb_find(name);
    }
    if (verb) {
        return verb;
    }
    scn_spell_init(&spell, p->token.value.bytes);
    for (size_t i = 0; (verb = scn_verb_at(i)); i++) {
        if (strncmp(verb->name, first, prefix - 1) == 0 && verb->name[prefix - 1] == ' ') {
            scn_text_str(&all, all.length ? ", " : "");
            scn_text_str(&all, verb->name + prefix);
            scn_spell_try(&spell, verb->name + prefix);
        }
    }
    scn_error(p->errp, p->lexer.file, p->token.place, "'%s' is unknown to '%s', expected one of %s%s",
              scn_shown(p->token.value.bytes, p->token.value.length, shown), first, all.bytes,
              scn_spell_hint(&spell, hint));
    free(all.bytes);
    return NULL;
}

/* --- arguments ------------------------------------------------------------------------------------------- */

static bool put(struct scn_parser *p, struct scn_step *step, const char *key, struct qvalue *value,
                struct scn_place place)
{
    bool dotted = step->verb->form == SCN_FORM_QMP;
    char shown[SCN_SHOWN];

    if (p->arg_count == SCN_MAX_ARGS) {
        qvalue_free(value);
        scn_error(p->errp, p->lexer.file, place, "too many arguments, expected at most %d", SCN_MAX_ARGS);
        return false;
    }
    if (!(dotted ? qdict_put_path(step->args, key, value) : qdict_put(step->args, key, value))) {
        scn_error(p->errp, p->lexer.file, place, "'%s' is given already, expected it once",
                  scn_shown(key, strlen(key), shown));
        return false;
    }
    if (p->arg_count == p->arg_room) {
        p->arg_room = MAX(p->arg_room * 2, 16u);
        p->args = sim_xrealloc(p->args, p->arg_room * sizeof(*p->args));
    }
    for (size_t i = 0; i < step->args->seq.count; i++) {
        size_t length = strlen(step->args->seq.keys[i]);

        /* the dictionary's own copy of the (first part of the) key outlives the token */
        if (strncmp(step->args->seq.keys[i], key, length) == 0 &&
            (!key[length] || (dotted && key[length] == '.'))) {
            p->args[p->arg_count++] = (struct scn_arg_place){step->args->seq.keys[i], place};
            break;
        }
    }
    return true;
}

/* The text in hand as the value of def, which stands at place. */
static bool put_typed(struct scn_parser *p, struct scn_step *step, const struct scn_arg_def *def,
                      struct scn_place place)
{
    Error *local = NULL;
    struct qvalue *value = NULL;

    if (p->token.value.length != strlen(p->token.value.bytes)) {
        error_setg(&local, "a NUL in '%s', expected a text without", def->name);
    } else {
        value = scn_typed_parse(def, p->token.value.bytes, &local);
    }
    if (!value) {
        return scn_parse_fail(p, p->token.value_place, local);
    }
    return put(p, step, def->name, value, place);
}

static bool put_free(struct scn_parser *p, struct scn_step *step)
{
    struct qvalue *value;
    char shown[SCN_SHOWN];

    if (!scn_is_key(p->token.key.bytes)) {
        scn_error(p->errp, p->lexer.file, p->token.place, "'%s' is no key, expected letters, digits and '-._'",
                  scn_shown(p->token.key.bytes, p->token.key.length, shown));
        return false;
    }
    if (p->token.json && p->token.value.length > (size_t)SCN_MAX_JSON) {
        scn_error(p->errp, p->lexer.file, p->token.value_place, "JSON of %zu bytes, expected at most %lld",
                  p->token.value.length, (long long)SCN_MAX_JSON);
        return false;
    }
    value = scn_value_parse(&p->token, p->lexer.file, p->errp);
    return value && put(p, step, p->token.key.bytes, value, p->token.place);
}

/* key=value */
static bool parse_pair(struct scn_parser *p, struct scn_step *step)
{
    const struct scn_arg_def *def = scn_verb_arg(step->verb, p->token.key.bytes);
    Error *local = NULL;
    char shown[SCN_SHOWN];

    if (def && def->positional) {
        scn_error(p->errp, p->lexer.file, p->token.place, "'%s' is not written with '=', expected its value alone",
                  def->name);
        return false;
    }
    if (def && def->within) {
        scn_error(p->errp, p->lexer.file, p->token.place, "'%s' stands alone, expected it behind '%s'", def->name,
                  def->within);
        return false;
    }
    if (def && def->type != SCN_VALUE) {
        if (def->type == SCN_FLAG || def->name[0] == '-' || p->token.json) {
            scn_error(p->errp, p->lexer.file, p->token.place, "'%s' is written wrongly, expected %s",
                      scn_shown(p->token.key.bytes, p->token.key.length, shown),
                      p->token.json ? "a word behind '='" : "it without '='");
            return false;
        }
        return put_typed(p, step, def, p->token.place);
    }
    if (!def && !step->verb->open_args && step->verb->form != SCN_FORM_QMP) {
        const char *key = p->token.key.bytes;
        struct scn_step probe = {.verb = step->verb, .args = qvalue_dict()};

        qdict_put(probe.args, key, qvalue_null());
        scn_step_check(&probe, NULL, &local);
        qvalue_free(probe.args);
        return scn_parse_fail(p, p->token.place, local);
    }
    return put_free(p, step);
}

/* -z, or -P BYTE with its byte as the next word. */
static bool parse_option(struct scn_parser *p, struct scn_step *step, const struct scn_arg_def *def)
{
    struct scn_place place = p->token.place;
    bool ok;

    if (def->type == SCN_FLAG) {
        return put(p, step, def->name, qvalue_bool(true), place);
    }
    if (!scn_parse_next(p, def->doc)) {
        return false;
    }
    ok = !p->token.has_key && !p->token.json;
    if (!ok) {
        scn_error(p->errp, p->lexer.file, p->token.place, "no value after '%s', expected %s", def->name, def->doc);
    }
    return ok && put_typed(p, step, def, place);
}

/* An option whose value is a list: NAME=VALUE,NAME=VALUE. */
static bool is_list_option(const struct scn_verb *verb, const char *word)
{
    for (const struct scn_arg_def *def = verb->args; def->name; def++) {
        if (def->within && strcmp(def->within, word) == 0) {
            return true;
        }
    }
    return false;
}

/* One NAME=VALUE of the list, cut in two; place is that of the list. */
static bool put_within(struct scn_parser *p, struct scn_step *step, const char *option, char *pair,
                       struct scn_place place)
{
    char *equals = strchr(pair, '=');
    const struct scn_arg_def *def;
    struct qvalue *value;
    Error *local = NULL;
    char shown[SCN_SHOWN];

    if (equals) {
        *equals = '\0';
    }
    def = scn_verb_arg(step->verb, pair);
    if (!equals || !def || !def->within || strcmp(def->within, option) != 0) {
        struct scn_spell spell;
        char hint[SCN_HINT];

        scn_spell_init(&spell, pair);
        for (def = step->verb->args; def->name; def++) {
            if (def->within && strcmp(def->within, option) == 0) {
                scn_spell_try(&spell, def->name);
            }
        }
        scn_error(p->errp, p->lexer.file, place, "'%s' is nothing that '%s' knows, expected NAME=VALUE,...%s",
                  scn_shown(pair, strlen(pair), shown), option, scn_spell_hint(&spell, hint));
        return false;
    }
    value = scn_typed_parse(def, equals + 1, &local);
    return value ? put(p, step, def->name, value, place) : scn_parse_fail(p, place, local);
}

static bool parse_list_option(struct scn_parser *p, struct scn_step *step, const char *option)
{
    struct scn_text list = {.bytes = NULL};
    struct scn_place place;
    char *state = NULL;
    bool ok;

    if (!scn_parse_next(p, "NAME=VALUE,...")) {
        return false;
    }
    place = p->token.place;
    ok = !p->token.json && p->token.value.length == strlen(p->token.value.bytes);
    if (!ok) {
        scn_error(p->errp, p->lexer.file, place, "no list after '%s', expected NAME=VALUE,...", option);
        return false;
    }
    if (p->token.has_key) {
        scn_text_add(&list, p->token.key.bytes, p->token.key.length);
        scn_text_char(&list, '=');
    }
    scn_text_str(&list, p->token.value.bytes);
    for (char *pair = strtok_r(list.bytes, ",", &state); pair && ok; pair = strtok_r(NULL, ",", &state)) {
        ok = put_within(p, step, option, pair, place);
    }
    free(list.bytes);
    return ok;
}

/* The next positional argument that is not there yet; NULL when all are. */
static const struct scn_arg_def *next_positional(const struct scn_step *step)
{
    for (const struct scn_arg_def *def = step->verb->args; def->name; def++) {
        if (def->positional && !qdict_get(step->args, def->name)) {
            return def;
        }
    }
    return NULL;
}

static bool too_much(struct scn_parser *p, const struct scn_step *step)
{
    const char *what =
        step->verb->form == SCN_FORM_QMP || step->verb->open_args ? "key=value" : "the end of the line";
    struct scn_spell spell;
    char hint[SCN_HINT];
    char shown[SCN_SHOWN];

    scn_spell_init(&spell, p->token.value.bytes);
    for (const struct scn_arg_def *def = step->verb->args; def->name; def++) {
        if (!def->positional) {
            what = def->name[0] == '-' ? what : "key=value";
            scn_spell_try(&spell, def->name);
        }
    }
    scn_error(p->errp, p->lexer.file, p->token.place, "'%s' is too much for '%s', expected %s%s",
              scn_shown(p->token.value.bytes, p->token.value.length, shown), step->verb->name, what,
              scn_spell_hint(&spell, hint));
    return false;
}

static bool parse_word(struct scn_parser *p, struct scn_step *step)
{
    const struct scn_arg_def *def = NULL;

    if (!p->token.quoted && !p->token.json && p->token.value.bytes[0] == '-') {
        def = scn_verb_arg(step->verb, p->token.value.bytes);
        if (def && !def->positional) {
            return parse_option(p, step, def);
        }
        if (is_list_option(step->verb, p->token.value.bytes)) {
            char option[8];

            snprintf(option, sizeof(option), "%s", p->token.value.bytes); /* the token goes on */
            return parse_list_option(p, step, option);
        }
    }
    def = next_positional(step);
    if (!def || p->token.json) {
        return too_much(p, step);
    }
    return put_typed(p, step, def, p->token.place);
}

static bool parse_args(struct scn_parser *p, struct scn_step *step)
{
    while (!scn_lex_line_end(&p->lexer)) {
        if (!scn_lex_token(&p->lexer, &p->token, p->errp) ||
            !(p->token.has_key ? parse_pair(p, step) : parse_word(p, step))) {
            return false;
        }
    }
    return true;
}

/* --- the step -------------------------------------------------------------------------------------------- */

static struct scn_step *add_step(struct scn_parser *p, struct scn_prefix *prefix, const struct scn_verb *verb)
{
    struct scn_step *step;

    if (p->scn->step_count == SCN_MAX_STEPS) {
        scn_error(p->errp, p->lexer.file, prefix->place, "too many steps, expected at most %d", SCN_MAX_STEPS);
        return NULL;
    }
    if (prefix->try_ && !scn_verb_takes_try(verb)) {
        scn_error(p->errp, p->lexer.file, prefix->try_place,
                  "'try' before '%s', expected it before what may be refused", verb->name);
        return NULL;
    }
    step = scenario_add(p->scn, verb);
    step->label = prefix->label;
    step->host = prefix->host;
    prefix->label = NULL;
    prefix->host = NULL;
    step->delay = prefix->delay;
    step->delay_ns = prefix->delay_ns;
    step->try_ = prefix->try_;
    step->line = prefix->place.line;
    step->column = prefix->place.column;
    p->arg_count = 0;
    return step;
}

static bool check_step(struct scn_parser *p, const struct scn_step *step, struct scn_place verb_place)
{
    const char *key = NULL;
    Error *local = NULL;
    struct scn_place place = verb_place;

    if (scn_step_check(step, &key, &local)) {
        return true;
    }
    for (size_t i = 0; key && i < p->arg_count; i++) {
        if (strcmp(p->args[i].key, key) == 0) {
            place = p->args[i].place;
            break;
        }
    }
    return scn_parse_fail(p, place, local);
}

static bool parse_json_step(struct scn_parser *p, struct scn_prefix *prefix)
{
    struct scn_place place = p->token.place;
    struct scn_step *step;
    struct qvalue *value;

    if (p->token.value.length > (size_t)SCN_MAX_JSON) {
        scn_error(p->errp, p->lexer.file, place, "JSON of %zu bytes, expected at most %lld", p->token.value.length,
                  (long long)SCN_MAX_JSON);
        return false;
    }
    value = scn_value_parse(&p->token, p->lexer.file, p->errp);
    if (!value) {
        return false;
    }
    step = add_step(p, prefix, scn_verb_find("json"));
    if (!step) {
        qvalue_free(value);
        return false;
    }
    qdict_put(step->args, "json", value);
    return check_step(p, step, place);
}

/* io GUEST OP: the guest stands before the word that completes the verb. */
static const struct scn_verb *parse_io_verb(struct scn_parser *p, struct scn_token *guest)
{
    const struct scn_verb *verb;

    if (!scn_parse_next(p, "a guest: io GUEST read|write|...")) {
        return NULL;
    }
    *guest = p->token;
    p->token = (struct scn_token){.quoted = false};
    if (!scn_parse_next(p, "read, write, discard, flush, truncate, map, alloc, aio_... or break, wait_break, "
                           "resume, remove_break")) {
        return NULL;
    }
    verb = find_second(p, "io");
    return verb;
}

static bool put_guest(struct scn_parser *p, struct scn_step *step, struct scn_token *guest)
{
    struct scn_token op = p->token;
    bool ok;

    p->token = *guest;
    ok = !p->token.has_key && !p->token.json;
    if (!ok) {
        scn_error(p->errp, p->lexer.file, p->token.place, "no guest, expected io GUEST read|write|...");
    }
    ok = ok && parse_word(p, step);
    *guest = p->token;
    p->token = op;
    return ok;
}

/* The verb that begins with the word in hand, which is not "io". */
static const struct scn_verb *parse_verb(struct scn_parser *p)
{
    const struct scn_verb *verb;

    for (size_t i = 0; i < ARRAY_SIZE(first_words); i++) {
        if (scn_token_is(&p->token, first_words[i].word)) {
            return scn_parse_next(p, first_words[i].seconds) ? find_second(p, first_words[i].word) : NULL;
        }
    }
    verb = p->token.has_key || p->token.quoted ? NULL : scn_verb_find(p->token.value.bytes);
    if (!verb || verb->form == SCN_FORM_JSON) {
        unknown_verb(p);
        return NULL;
    }
    return verb;
}

bool scn_parse_step(struct scn_parser *p, struct scn_prefix *prefix)
{
    struct scn_place place = p->token.place;
    struct scn_token guest = {.quoted = false};
    const struct scn_verb *verb;
    struct scn_step *step = NULL;
    bool is_io = scn_token_is(&p->token, "io");
    bool ok;

    if (p->token.json && !p->token.has_key) {
        return parse_json_step(p, prefix);
    }
    verb = is_io ? parse_io_verb(p, &guest) : parse_verb(p);
    step = verb ? add_step(p, prefix, verb) : NULL;
    ok = step && (!is_io || put_guest(p, step, &guest)) && parse_args(p, step) && check_step(p, step, place);
    scn_token_clear(&guest);
    return ok;
}
