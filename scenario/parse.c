/*
 * Tokens to steps. Every error has its place; nothing is guessed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/lang.h"
#include "scenario/parse_int.h"
#include "sim/world.h"

bool scn_parse_fail(struct scn_parser *p, struct scn_place place, Error *local)
{
    SIM_ASSERT(local != NULL);
    scn_error(p->errp, p->lexer.file, place, "%s", error_get_pretty(local));
    error_free(local);
    return false;
}

/* Next token into p->token. At the end of the line: "..., expected WHAT". */
bool scn_parse_next(struct scn_parser *p, const char *what)
{
    if (scn_lex_line_end(&p->lexer)) {
        scn_error(p->errp, p->lexer.file, p->lexer.place, "the line ends here, expected %s", what);
        return false;
    }
    return scn_lex_token(&p->lexer, &p->token, p->errp);
}

bool scn_parse_line_done(struct scn_parser *p)
{
    struct scn_place place;
    char shown[SCN_SHOWN];

    if (scn_lex_line_end(&p->lexer)) {
        return true;
    }
    place = p->lexer.place;
    if (scn_lex_token(&p->lexer, &p->token, p->errp)) {
        const struct scn_text *text = p->token.has_key ? &p->token.key : &p->token.value;

        scn_error(p->errp, p->lexer.file, place, "'%s' is too much here, expected the end of the line",
                  scn_shown(text->bytes, text->length, shown));
    }
    return false;
}

bool scn_token_is(const struct scn_token *token, const char *word)
{
    return !token->has_key && !token->quoted && !token->json && strcmp(token->value.bytes, word) == 0;
}

/* --- prefixes: LABEL: +DELAY @TIME on HOST try ----------------------------------------------------------- */

static bool is_label(const struct scn_token *token)
{
    return !token->has_key && !token->quoted && !token->json && token->value.length > 1 &&
           token->value.bytes[token->value.length - 1] == ':';
}

static bool parse_label(struct scn_parser *p, struct scn_prefix *prefix)
{
    size_t length = p->token.value.length - 1;
    char shown[SCN_SHOWN];

    for (size_t i = 0; i < length; i++) {
        char c = p->token.value.bytes[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && !strchr("-._", c)) {
            length = SCN_LABEL_MAX + 1;
            break;
        }
    }
    if (length > SCN_LABEL_MAX) {
        scn_error(p->errp, p->lexer.file, p->token.place,
                  "'%s' is no label, expected at most %d letters, digits and '-._' before ':'",
                  scn_shown(p->token.value.bytes, p->token.value.length, shown), SCN_LABEL_MAX);
        return false;
    }
    p->token.value.bytes[length] = '\0';
    prefix->label = strdup(p->token.value.bytes);
    prefix->label_place = p->token.place;
    return scn_parse_next(p, "a step after its label");
}

static bool parse_delay(struct scn_parser *p, struct scn_prefix *prefix)
{
    const char *text = p->token.value.bytes;
    char shown[SCN_SHOWN];

    prefix->delay = text[0] == '+' ? SCN_DELAY_RELATIVE : SCN_DELAY_ABSOLUTE;
    if (!sim_parse_time(text + 1, &prefix->delay_ns)) {
        scn_error(p->errp, p->lexer.file, p->token.place,
                  "'%s' is no time, expected %c and a time with ns, us, ms or s",
                  scn_shown(text, p->token.value.length, shown), text[0]);
        return false;
    }
    return scn_parse_next(p, "a step after its time");
}

static bool parse_host(struct scn_parser *p, struct scn_prefix *prefix)
{
    char shown[SCN_SHOWN];

    if (!scn_parse_next(p, "a host after 'on'")) {
        return false;
    }
    if (p->token.has_key || p->token.json || !scn_is_name(p->token.value.bytes)) {
        scn_error(p->errp, p->lexer.file, p->token.place, "'%s' is no host, expected a name after 'on'",
                  scn_shown(p->token.value.bytes, p->token.value.length, shown));
        return false;
    }
    prefix->host = strdup(p->token.value.bytes);
    return scn_parse_next(p, "a step after its host");
}

static bool parse_prefix(struct scn_parser *p, struct scn_prefix *prefix)
{
    char first;

    if (is_label(&p->token) && !parse_label(p, prefix)) {
        return false;
    }
    first = p->token.quoted || p->token.json || p->token.has_key ? '\0' : p->token.value.bytes[0];
    if ((first == '+' || first == '@') && !parse_delay(p, prefix)) {
        return false;
    }
    if (scn_token_is(&p->token, "on") && !parse_host(p, prefix)) {
        return false;
    }
    if (scn_token_is(&p->token, "try")) {
        prefix->try_ = true;
        prefix->try_place = p->token.place;
        return scn_parse_next(p, "a step after 'try'");
    }
    return true;
}

/* --- what is not a step: blksim, seed, schedule, choose -------------------------------------------------- */

static bool parse_u64(const char *text, uint64_t *out)
{
    bool hex = text[0] == '0' && text[1] == 'x';
    const char *digits = hex ? text + 2 : text;
    char *end;

    if (strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789") != strlen(digits) || !*digits) {
        return false;
    }
    errno = 0;
    *out = strtoull(digits, &end, hex ? 16 : 10);
    return errno == 0;
}

/* The token in hand as a number up to max. */
static bool parse_number(struct scn_parser *p, const char *text, uint64_t max, const char *what, uint64_t *out)
{
    char shown[SCN_SHOWN];

    if (parse_u64(text, out) && *out <= max) {
        return true;
    }
    scn_error(p->errp, p->lexer.file, p->token.place, "'%s' is no %s, expected a number from 0 to %" PRIu64,
              scn_shown(text, strlen(text), shown), what, max);
    return false;
}

static bool once(struct scn_parser *p, bool *seen, const char *what)
{
    if (*seen) {
        scn_error(p->errp, p->lexer.file, p->token.place, "a second '%s', expected it once", what);
        return false;
    }
    *seen = true;
    return true;
}

static bool parse_version(struct scn_parser *p)
{
    uint64_t version;

    if (p->seen_version) {
        return once(p, &p->seen_version, "blksim");
    }
    p->seen_version = true;
    if (!scn_parse_next(p, "the language version: blksim 1") ||
        !parse_number(p, p->token.value.bytes, INT32_MAX, "language version", &version)) {
        return false;
    }
    if (version != 1) {
        scn_error(p->errp, p->lexer.file, p->token.place, "language version %" PRIu64 " is unknown, expected 1",
                  version);
        return false;
    }
    return true;
}

static bool parse_seed(struct scn_parser *p)
{
    return once(p, &p->seen_seed, "seed") && scn_parse_next(p, "a seed") &&
           parse_number(p, p->token.value.bytes, UINT64_MAX, "seed", &p->scn->seed);
}

static bool parse_pct_depth(struct scn_parser *p)
{
    uint64_t depth;

    if (!scn_parse_next(p, "depth=D")) {
        return false;
    }
    if (!p->token.has_key || strcmp(p->token.key.bytes, "depth") != 0) {
        scn_error(p->errp, p->lexer.file, p->token.place,
                  "an unknown argument of 'schedule pct', expected depth=D");
        return false;
    }
    if (!parse_number(p, p->token.value.bytes, 64, "depth", &depth)) {
        return false;
    }
    if (depth == 0) {
        scn_error(p->errp, p->lexer.file, p->token.value_place, "depth 0, expected a number from 1 to 64");
        return false;
    }
    p->scn->pct_depth = (uint32_t)depth;
    return true;
}

static const char *const schedules[] = {"calm", "random", "pct", "replay"};

static bool parse_schedule(struct scn_parser *p)
{
    struct scn_spell spell;
    char hint[SCN_HINT];
    char shown[SCN_SHOWN];

    if (!once(p, &p->seen_schedule, "schedule") || !scn_parse_next(p, "calm, random, pct depth=D or replay")) {
        return false;
    }
    scn_spell_init(&spell, p->token.value.bytes);
    for (size_t i = 0; i < ARRAY_SIZE(schedules); i++) {
        scn_spell_try(&spell, schedules[i]);
        if (scn_token_is(&p->token, schedules[i])) {
            p->scn->schedule = (enum scn_schedule)i;
            return i != SCN_SCHEDULE_PCT || parse_pct_depth(p);
        }
    }
    scn_error(p->errp, p->lexer.file, p->token.place, "'%s' is no schedule, expected calm, random, pct or replay%s",
              scn_shown(p->token.value.bytes, p->token.value.length, shown), scn_spell_hint(&spell, hint));
    return false;
}

static bool parse_site(struct scn_parser *p, enum sim_site *site)
{
    struct scn_spell spell;
    char hint[SCN_HINT];
    char shown[SCN_SHOWN];
    int found;

    if (!scn_parse_next(p, "a site: choose SITE ENTITY ORDINAL = VALUE")) {
        return false;
    }
    found = sim_site_find(p->token.value.bytes);
    if (found < 0) {
        scn_spell_init(&spell, p->token.value.bytes);
        for (unsigned i = 0; i < SITE_COUNT; i++) {
            scn_spell_try(&spell, sim_site_name((enum sim_site)i));
        }
        scn_error(p->errp, p->lexer.file, p->token.place,
                  "'%s' is no site of choices, expected one such as disk.latency%s",
                  scn_shown(p->token.value.bytes, p->token.value.length, shown), scn_spell_hint(&spell, hint));
        return false;
    }
    *site = (enum sim_site)found;
    return true;
}

static bool parse_choose(struct scn_parser *p)
{
    struct scn_pin pin = {.entity = 0};
    uint64_t ordinal;
    uint64_t value;

    if (!parse_site(p, &pin.site) || !scn_parse_next(p, "an entity") ||
        !parse_number(p, p->token.value.bytes, UINT64_MAX, "entity", &pin.entity) ||
        !scn_parse_next(p, "an ordinal") ||
        !parse_number(p, p->token.has_key ? p->token.key.bytes : p->token.value.bytes, UINT32_MAX, "ordinal",
                      &ordinal)) {
        return false;
    }
    if (!p->token.has_key) {
        if (!scn_parse_next(p, "= VALUE")) {
            return false;
        }
        if (!scn_token_is(&p->token, "=")) {
            scn_error(p->errp, p->lexer.file, p->token.place,
                      "no '=', expected choose SITE ENTITY ORDINAL = VALUE");
            return false;
        }
        if (!scn_parse_next(p, "a value after '='")) {
            return false;
        }
    }
    if (!parse_number(p, p->token.value.bytes, UINT32_MAX, "value", &value)) {
        return false;
    }
    pin.ordinal = (uint32_t)ordinal;
    pin.value = (uint32_t)value;
    if (is_power_of_2(p->scn->pin_count) || p->scn->pin_count == 0) {
        p->scn->pins = sim_xrealloc(p->scn->pins, MAX(p->scn->pin_count * 2, 1u) * sizeof(pin));
    }
    p->scn->pins[p->scn->pin_count++] = pin;
    return true;
}

static const struct {
    const char *word;
    bool (*parse)(struct scn_parser *p);
} settings[] = {
    {"blksim", parse_version},
    {"seed", parse_seed},
    {"schedule", parse_schedule},
    {"choose", parse_choose},
};

void scn_spell_settings(struct scn_spell *spell)
{
    for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
        scn_spell_try(spell, settings[i].word);
    }
}

/* --- lines ----------------------------------------------------------------------------------------------- */

static bool parse_statement(struct scn_parser *p)
{
    struct scn_prefix prefix = {.label = NULL};
    bool ok;

    if (!scn_lex_token(&p->lexer, &p->token, p->errp)) {
        return false;
    }
    if (!p->seen_version && !scn_token_is(&p->token, "blksim")) {
        scn_error(p->errp, p->lexer.file, p->token.place,
                  "no language version, expected 'blksim 1' as the first line");
        return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
        if (scn_token_is(&p->token, settings[i].word)) {
            return settings[i].parse(p) && scn_parse_line_done(p);
        }
    }
    prefix.place = p->token.place;
    ok = parse_prefix(p, &prefix) && scn_parse_step(p, &prefix) && scn_parse_line_done(p);
    free(prefix.label);
    free(prefix.host);
    return ok;
}

static bool parse_lines(struct scn_parser *p)
{
    do {
        if (!scn_lex_line_end(&p->lexer) && !parse_statement(p)) {
            return false;
        }
    } while (scn_lex_next_line(&p->lexer));
    if (!p->seen_version) {
        struct scn_place start = {1, 1};

        scn_error(p->errp, p->lexer.file, start, "an empty scenario, expected 'blksim 1' as the first line");
        return false;
    }
    return true;
}

static int compare_steps_by_label(const void *a, const void *b)
{
    const struct scn_step *const *left = a;
    const struct scn_step *const *right = b;
    int order = strcmp((*left)->label, (*right)->label);

    return order ? order : (*left)->line - (*right)->line;
}

/* A label names a step: choices hang on it. */
static bool check_labels(struct scn_parser *p)
{
    const struct scn_step **labelled = sim_xmalloc(p->scn->step_count * sizeof(*labelled));
    size_t count = 0;
    bool ok = true;

    for (size_t i = 0; i < p->scn->step_count; i++) {
        if (p->scn->steps[i].label) {
            labelled[count++] = &p->scn->steps[i];
        }
    }
    qsort(labelled, count, sizeof(*labelled), compare_steps_by_label);
    for (size_t i = 1; i < count && ok; i++) {
        struct scn_place place = {labelled[i]->line, labelled[i]->column};

        if (strcmp(labelled[i - 1]->label, labelled[i]->label) == 0) {
            scn_error(p->errp, p->lexer.file, place, "label '%s' is taken by line %d, expected another",
                      labelled[i]->label, labelled[i - 1]->line);
            ok = false;
        }
    }
    free(labelled);
    return ok;
}

struct scenario *scenario_parse(const char *file, const char *text, size_t length, Error **errp)
{
    struct scn_parser parser = {.errp = errp};
    struct scn_place start = {1, 1};
    bool ok;

    SIM_ASSERT(file != NULL);
    SIM_ASSERT(text != NULL || length == 0);
    text = text ? text : "";
    if (length > (size_t)SCN_MAX_TEXT_BYTES) {
        scn_error(errp, file, start, "%zu bytes of text, expected at most %lld", length,
                  (long long)SCN_MAX_TEXT_BYTES);
        return NULL;
    }
    if (!scn_lex_validate(file, text, length, errp)) {
        return NULL;
    }
    scn_lex_init(&parser.lexer, file, text, length);
    parser.scn = scenario_new();
    ok = parse_lines(&parser) && check_labels(&parser);
    scn_token_clear(&parser.token);
    free(parser.args);
    if (!ok) {
        scenario_free(parser.scn);
        return NULL;
    }
    return parser.scn;
}

/* --- files ----------------------------------------------------------------------------------------------- */

/* Whole stream into text; false with errno, or when it is longer than a scenario may be. */
static bool read_all(FILE *in, struct scn_text *text)
{
    char buf[65536];
    size_t count;

    while ((count = fread(buf, 1, sizeof(buf), in)) > 0) {
        scn_text_add(text, buf, count);
        if (text->length > (size_t)SCN_MAX_TEXT_BYTES) {
            break;
        }
    }
    return !ferror(in);
}

struct scenario *scenario_load(const char *path, Error **errp)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *in = standard ? stdin : fopen(path, "rb");
    struct scn_text text = {.bytes = NULL};
    struct scenario *scn = NULL;
    bool ok;

    if (!in) {
        error_setg(errp, "%s:1:1: cannot open: %s, expected a scenario file", path, sim_errno_text(errno));
        return NULL;
    }
    errno = 0;
    ok = read_all(in, &text);
    if (!ok) {
        error_setg(errp, "%s:1:1: cannot read: %s, expected a scenario file", path, sim_errno_text(errno));
    }
    if (!standard) {
        fclose(in);
    }
    if (ok) {
        scn = scenario_parse(standard ? "<stdin>" : path, text.bytes, text.length, errp);
    }
    if (scn) {
        scn->path = strdup(path);
    }
    free(text.bytes);
    return scn;
}
