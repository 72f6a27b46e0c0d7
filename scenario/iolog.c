/*
 * Reading fio iologs.
 */
#include "scenario/iolog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/lang.h"
#include "sim/world.h"

#define SHORTEST_WAIT_US 100
#define REQUEST_MAX (2 * GiB)
#define FILES_MAX 64
#define WORDS_MAX 5

struct word {
    struct scn_place place;
    const char *at;
    size_t length;
};

struct iolog_parser {
    const char *file;
    struct iolog *log;
    bool open[FILES_MAX];
    int64_t now_ns;
    struct word words[WORDS_MAX];
    unsigned count;
    struct scn_place end; /* of the line in hand */
    Error **errp;
};

static const struct iolog_action {
    const char *name;
    enum { ACTION_ADD, ACTION_OPEN, ACTION_CLOSE, ACTION_WAIT, ACTION_REQUEST } kind;
    enum sim_op op;
} actions[] = {
    {"add", ACTION_ADD, SIM_OP_READ},         {"open", ACTION_OPEN, SIM_OP_READ},
    {"close", ACTION_CLOSE, SIM_OP_READ},     {"wait", ACTION_WAIT, SIM_OP_READ},
    {"read", ACTION_REQUEST, SIM_OP_READ},    {"write", ACTION_REQUEST, SIM_OP_WRITE},
    {"sync", ACTION_REQUEST, SIM_OP_FLUSH},   {"datasync", ACTION_REQUEST, SIM_OP_FLUSH},
    {"trim", ACTION_REQUEST, SIM_OP_DISCARD},
};

void iolog_free(struct iolog *iolog)
{
    if (!iolog) {
        return;
    }
    for (uint32_t i = 0; i < iolog->file_count; i++) {
        free(iolog->files[i]);
    }
    free(iolog->files);
    free(iolog->entries);
    free(iolog);
}

/* --- words ----------------------------------------------------------------------------------------------- */

static bool word_is(const struct word *word, const char *text)
{
    return strlen(text) == word->length && memcmp(word->at, text, word->length) == 0;
}

static void split(struct iolog_parser *p, const char *line, size_t length, int number)
{
    struct scn_place place = {number, 1};
    bool inside = false;

    p->count = 0;
    for (size_t i = 0; i < length && p->count <= WORDS_MAX; i++) {
        bool blank = line[i] == ' ' || line[i] == '\t' || line[i] == '\r';

        if (!blank && !inside) {
            if (p->count < WORDS_MAX) {
                p->words[p->count] = (struct word){place, line + i, 0};
            } else {
                p->end = place; /* the word that is too much */
            }
            p->count++;
        }
        if (!blank && p->count <= WORDS_MAX) {
            p->words[p->count - 1].length++;
        }
        inside = !blank;
        place.column += ((unsigned char)line[i] & 0xc0) != 0x80;
    }
    if (p->count <= WORDS_MAX) {
        p->end = place;
    }
}

static bool parse_number(struct iolog_parser *p, const struct word *word, const char *what, int64_t max,
                         int64_t *out)
{
    char shown[SCN_SHOWN];
    int64_t value = 0;
    bool ok = word->length > 0;

    for (size_t i = 0; i < word->length && ok; i++) {
        ok = word->at[i] >= '0' && word->at[i] <= '9' && !__builtin_mul_overflow(value, 10, &value) &&
             !__builtin_add_overflow(value, word->at[i] - '0', &value);
    }
    if (!ok || value > max) {
        scn_error(p->errp, p->file, word->place, "'%s' is no %s, expected a number from 0 to %" PRId64,
                  scn_shown(word->at, word->length, shown), what, max);
        return false;
    }
    *out = value;
    return true;
}

/* --- lines ----------------------------------------------------------------------------------------------- */

static int find_file(const struct iolog *log, const struct word *word)
{
    for (uint32_t i = 0; i < log->file_count; i++) {
        if (word_is(word, log->files[i])) {
            return (int)i;
        }
    }
    return -1;
}

static bool add_file(struct iolog_parser *p, const struct word *word)
{
    struct iolog *log = p->log;
    char shown[SCN_SHOWN];

    scn_shown(word->at, word->length, shown);
    if (find_file(log, word) >= 0) {
        return true; /* fio adds a file for each job that uses it */
    }
    if (log->file_count == FILES_MAX) {
        scn_error(p->errp, p->file, word->place, "file '%s' is one too many, expected at most %d", shown,
                  FILES_MAX);
        return false;
    }
    log->files = sim_xrealloc(log->files, (log->file_count + 1) * sizeof(*log->files));
    log->files[log->file_count] = sim_xcalloc(word->length + 1, 1);
    memcpy(log->files[log->file_count], word->at, word->length);
    log->file_count++;
    return true;
}

static bool add_request(struct iolog_parser *p, const struct iolog_action *action, int file,
                        const struct word *words, unsigned count)
{
    struct iolog_entry entry = {.time_ns = p->now_ns, .op = action->op, .file = (uint32_t)file};
    struct iolog *log = p->log;

    if (count < 2 && (count == 1 || action->op != SIM_OP_FLUSH)) {
        scn_error(p->errp, p->file, p->end, "the line ends here, expected offset and length of the %s",
                  action->name);
        return false;
    }
    if (count && (!parse_number(p, &words[0], "offset", INT64_MAX / 2, &entry.offset) ||
                  !parse_number(p, &words[1], "length", REQUEST_MAX, &entry.bytes))) {
        return false;
    }
    if (action->op == SIM_OP_FLUSH) {
        entry.offset = 0;
        entry.bytes = 0;
    }
    for (unsigned i = 0; i < 2; i++) {
        if ((i ? entry.bytes : entry.offset) % SIM_SECTOR_BYTES) {
            scn_error(p->errp, p->file, words[i].place,
                      "%s %" PRId64 " is not in whole sectors, expected a multiple of %d", i ? "length" : "offset",
                      i ? entry.bytes : entry.offset, SIM_SECTOR_BYTES);
            return false;
        }
    }
    if (log->count == log->room) {
        log->room = MAX(log->room * 2, 64u);
        log->entries = sim_xrealloc(log->entries, log->room * sizeof(*log->entries));
    }
    log->entries[log->count++] = entry;
    return true;
}

static bool take_wait(struct iolog_parser *p, const struct word *words, unsigned count, struct scn_place place)
{
    int64_t wait_us;

    if (p->log->version == 3) {
        scn_error(p->errp, p->file, place, "'wait' in version 3, expected times at the start of the lines only");
        return false;
    }
    if (!count) {
        scn_error(p->errp, p->file, p->end, "the line ends here, expected the microseconds to wait");
        return false;
    }
    if (!parse_number(p, &words[0], "wait", (int64_t)365 * 86400 * NS_PER_S / NS_PER_US, &wait_us)) {
        return false;
    }
    if (wait_us >= SHORTEST_WAIT_US && __builtin_add_overflow(p->now_ns, wait_us * NS_PER_US, &p->now_ns)) {
        scn_error(p->errp, p->file, words[0].place, "the waits add up to more than virtual time, expected less");
        return false;
    }
    return true;
}

static const struct iolog_action *find_action(struct iolog_parser *p, const struct word *word)
{
    struct scn_spell spell;
    char text[64];
    char hint[SCN_HINT];
    char shown[SCN_SHOWN];

    snprintf(text, sizeof(text), "%.*s", (int)MIN(word->length, sizeof(text) - 1), word->at);
    scn_spell_init(&spell, text);
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        if (word_is(word, actions[i].name)) {
            return &actions[i];
        }
        scn_spell_try(&spell, actions[i].name);
    }
    scn_error(p->errp, p->file, word->place,
              "'%s' is no action, expected add, open, close, read, write, sync, datasync, trim or wait%s",
              scn_shown(word->at, word->length, shown), scn_spell_hint(&spell, hint));
    return NULL;
}

static bool take_time(struct iolog_parser *p, const struct word *word)
{
    int64_t time_us;

    if (!parse_number(p, word, "time in microseconds", INT64_MAX / NS_PER_US, &time_us)) {
        return false;
    }
    if (time_us * NS_PER_US < p->now_ns) {
        scn_error(p->errp, p->file, word->place,
                  "time %" PRId64 " is before that of an earlier line, expected at least %" PRId64, time_us,
                  p->now_ns / NS_PER_US);
        return false;
    }
    p->now_ns = time_us * NS_PER_US;
    return true;
}

static bool known_file(struct iolog_parser *p, const struct iolog_action *action, const struct word *word,
                       int *file)
{
    char shown[SCN_SHOWN];

    *file = find_file(p->log, word);
    if (*file < 0) {
        scn_error(p->errp, p->file, word->place, "file '%s' was not added, expected its 'add' before",
                  scn_shown(word->at, word->length, shown));
        return false;
    }
    if (action->kind == ACTION_REQUEST && !p->open[*file]) {
        scn_error(p->errp, p->file, word->place, "file '%s' is not open, expected its 'open' before",
                  scn_shown(word->at, word->length, shown));
        return false;
    }
    return true;
}

static bool parse_line(struct iolog_parser *p)
{
    const struct word *words = p->words;
    unsigned most = p->log->version == 3 ? 5 : 4;
    unsigned count = p->count;
    const struct iolog_action *action;
    int file = -1;

    if (count > most) {
        struct scn_place place = count > WORDS_MAX ? p->end : words[most].place;

        scn_error(p->errp, p->file, place, "more than %u words, expected %sfile, action, offset and length", most,
                  most == 5 ? "time, " : "");
        return false;
    }
    if (p->log->version == 3) {
        if (!take_time(p, words)) {
            return false;
        }
        words++;
        count--;
    }
    if (count < 2) {
        scn_error(p->errp, p->file, p->end, "the line ends here, expected a file and an action");
        return false;
    }
    action = find_action(p, &words[1]);
    if (!action) {
        return false;
    }
    if (action->kind == ACTION_ADD) {
        return add_file(p, &words[0]);
    }
    if (!known_file(p, action, &words[0], &file)) {
        return false;
    }
    if (action->kind == ACTION_WAIT) {
        return take_wait(p, words + 2, count - 2, words[1].place);
    }
    if (action->kind == ACTION_REQUEST) {
        return add_request(p, action, file, words + 2, count - 2);
    }
    p->open[file] = action->kind == ACTION_OPEN;
    return true;
}

static bool parse_header(struct iolog_parser *p)
{
    struct scn_place start = {1, 1};

    if (p->count == 4 && word_is(&p->words[0], "fio") && word_is(&p->words[1], "version") &&
        word_is(&p->words[3], "iolog")) {
        if (word_is(&p->words[2], "2") || word_is(&p->words[2], "3")) {
            p->log->version = p->words[2].at[0] - '0';
            return true;
        }
        start = p->words[2].place;
    }
    scn_error(p->errp, p->file, start,
              "this is no fio iolog, expected 'fio version 2 iolog' or 'fio version 3 iolog'");
    return false;
}

struct iolog *iolog_parse(const char *file, const char *text, size_t length, Error **errp)
{
    struct iolog_parser p = {.file = file, .errp = errp};
    const char *at = text ? text : "";
    const char *end = at + length;
    bool ok = scn_lex_validate(file, at, length, errp);
    int number = 1;

    SIM_ASSERT(file != NULL);
    if (!ok) {
        return NULL;
    }
    p.log = sim_xcalloc(1, sizeof(*p.log));
    do {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *line_end = newline ? newline : end;

        split(&p, at, (size_t)(line_end - at), number);
        ok = number == 1 ? parse_header(&p) : p.count == 0 || parse_line(&p);
        at = newline ? newline + 1 : end;
        number++;
    } while (ok && at < end);
    if (!ok) {
        iolog_free(p.log);
        return NULL;
    }
    return p.log;
}

struct iolog *iolog_load(const char *path, Error **errp)
{
    struct scn_text text = {.bytes = NULL};
    struct iolog *log = NULL;
    char buf[4096]; /* small: the stack may be a coroutine's */
    size_t count;
    FILE *in = fopen(path, "rb");

    if (!in) {
        error_setg(errp, "%s:1:1: cannot open: %s, expected a fio iolog", path, sim_errno_text(errno));
        return NULL;
    }
    errno = 0;
    while (text.length <= (size_t)IOLOG_MAX_BYTES && (count = fread(buf, 1, sizeof(buf), in)) > 0) {
        scn_text_add(&text, buf, count);
    }
    if (ferror(in)) {
        error_setg(errp, "%s:1:1: cannot read: %s, expected a fio iolog", path, sim_errno_text(errno));
    } else if (text.length > (size_t)IOLOG_MAX_BYTES) {
        error_setg(errp, "%s:1:1: too large, expected at most %lld bytes", path, (long long)IOLOG_MAX_BYTES);
    } else {
        log = iolog_parse(path, text.bytes, text.length, errp);
    }
    fclose(in);
    free(text.bytes);
    return log;
}
