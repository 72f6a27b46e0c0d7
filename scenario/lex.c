/*
 * Text to tokens. Lines end steps; a backslash before the line's end joins the next line; '#' at the start of a
 * word begins a comment; quotes and JSON brackets hold blanks together.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/lang.h"

void scn_error(Error **errp, const char *file, struct scn_place place, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    int length;

    va_start(ap, fmt);
    length = vasprintf(&text, fmt, ap);
    va_end(ap);
    SIM_ASSERT(length >= 0);
    error_setg(errp, "%s:%d:%d: %s", file, place.line, place.column, text);
    free(text);
}

const char *scn_shown(const char *text, size_t length, char buf[SCN_SHOWN])
{
    size_t shown = MIN(length, (size_t)60);

    /* never cut a character in two */
    while (shown > 0 && shown < length && ((unsigned char)text[shown] & 0xc0) == 0x80) {
        shown--;
    }
    if (shown) {
        memcpy(buf, text, shown);
    }
    snprintf(buf + shown, SCN_SHOWN - shown, "%s", shown < length ? "..." : "");
    return buf;
}

/* --- bytes ----------------------------------------------------------------------------------------------- */

/* Length of the well-formed UTF-8 sequence at s; 0 when it is malformed. */
static size_t utf8_sequence(const unsigned char *s, size_t left)
{
    static const struct {
        unsigned char first, last, low, high;
        size_t length;
    } forms[] = {
        {0x00, 0x7f, 0x00, 0x00, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };

    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        if (s[0] < forms[i].first || s[0] > forms[i].last) {
            continue;
        }
        if (left < forms[i].length) {
            return 0;
        }
        for (size_t k = 1; k < forms[i].length; k++) {
            unsigned char low = k == 1 ? forms[i].low : 0x80;
            unsigned char high = k == 1 ? forms[i].high : 0xbf;

            if (s[k] < low || s[k] > high) {
                return 0;
            }
        }
        return forms[i].length;
    }
    return 0;
}

static bool is_stray_control(const unsigned char *s, size_t left)
{
    if (s[0] == '\r') {
        return left < 2 || s[1] != '\n';
    }
    return (s[0] < 0x20 && s[0] != '\t' && s[0] != '\n');
}

bool scn_lex_validate(const char *file, const char *text, size_t length, Error **errp)
{
    const unsigned char *s = (const unsigned char *)text;
    struct scn_place place = {1, 1};
    size_t i = 0;

    while (i < length) {
        size_t count = utf8_sequence(s + i, length - i);

        if (s[i] == '\0') {
            scn_error(errp, file, place, "a NUL byte, expected text");
            return false;
        }
        if (count == 0) {
            scn_error(errp, file, place, "byte 0x%02x is not valid UTF-8, expected UTF-8 text", s[i]);
            return false;
        }
        if (is_stray_control(s + i, length - i)) {
            scn_error(errp, file, place, "control character 0x%02x, expected text (\\x%02x inside quotes)", s[i],
                      s[i]);
            return false;
        }
        place.column++;
        if (s[i] == '\n') {
            place = (struct scn_place){place.line + 1, 1};
        }
        i += count;
    }
    return true;
}

/* --- characters ------------------------------------------------------------------------------------------ */

void scn_lex_init(struct scn_lexer *lexer, const char *file, const char *text, size_t length)
{
    *lexer = (struct scn_lexer){.file = file, .at = text, .end = text + length, .place = {1, 1}};
}

/* Bytes of the line end at p: "\n" or "\r\n"; 0 when there is none. The end of the text is none. */
static size_t line_end_bytes(const char *p, const char *end)
{
    if (p < end && *p == '\n') {
        return 1;
    }
    return end - p >= 2 && p[0] == '\r' && p[1] == '\n' ? 2 : 0;
}

/* Takes continuations away, so that at stands on a character of the logical line or at its end. */
static void skip_continuations(struct scn_lexer *lexer)
{
    while (lexer->at < lexer->end && *lexer->at == '\\') {
        size_t bytes = line_end_bytes(lexer->at + 1, lexer->end);

        if (!bytes) {
            return;
        }
        lexer->at += 1 + bytes;
        lexer->place = (struct scn_place){lexer->place.line + 1, 1};
    }
}

/* The character in hand; -1 at the end of the line or text. */
static int peek(struct scn_lexer *lexer)
{
    skip_continuations(lexer);
    if (lexer->at == lexer->end || line_end_bytes(lexer->at, lexer->end)) {
        return -1;
    }
    return (unsigned char)*lexer->at;
}

static void advance(struct scn_lexer *lexer)
{
    SIM_ASSERT(lexer->at < lexer->end);
    lexer->at++;
    /* bytes that go on a character do not make a column */
    if (lexer->at == lexer->end || ((unsigned char)*lexer->at & 0xc0) != 0x80) {
        lexer->place.column++;
    }
}

static bool is_blank(int c)
{
    return c == ' ' || c == '\t';
}

bool scn_lex_line_end(struct scn_lexer *lexer)
{
    while (is_blank(peek(lexer))) {
        advance(lexer);
    }
    if (peek(lexer) != '#') {
        return peek(lexer) < 0;
    }
    /* a comment ends with its line: a backslash in it joins nothing */
    while (lexer->at < lexer->end && !line_end_bytes(lexer->at, lexer->end)) {
        advance(lexer);
    }
    return true;
}

bool scn_lex_next_line(struct scn_lexer *lexer)
{
    size_t bytes = line_end_bytes(lexer->at, lexer->end);

    SIM_ASSERT(bytes || lexer->at == lexer->end);
    lexer->at += bytes;
    lexer->place = (struct scn_place){lexer->place.line + 1, 1};
    return lexer->at < lexer->end;
}

/* --- tokens ---------------------------------------------------------------------------------------------- */

void scn_token_clear(struct scn_token *token)
{
    free(token->key.bytes);
    free(token->value.bytes);
    *token = (struct scn_token){.quoted = false};
}

static int hex_digit(int c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c > 0 ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;

    return at ? (int)(at - digits) : -1;
}

/* After "\x": two hex digits below 0x80, so that text stays UTF-8. */
static bool lex_hex(struct scn_lexer *lexer, struct scn_text *out, struct scn_place place, Error **errp)
{
    int value = 0;

    for (int i = 0; i < 2; i++) {
        int digit = hex_digit(peek(lexer));

        if (digit < 0) {
            scn_error(errp, lexer->file, place, "a bad \\x escape, expected two hexadecimal digits");
            return false;
        }
        value = value * 16 + digit;
        advance(lexer);
    }
    if (value > 0x7f) {
        scn_error(errp, lexer->file, place, "escape \\x%02x is no character, expected \\x00 to \\x7f", value);
        return false;
    }
    scn_text_char(out, (char)value);
    return true;
}

static bool lex_escape(struct scn_lexer *lexer, struct scn_text *out, Error **errp)
{
    static const char from[] = "\"\\ntr";
    static const char to[] = "\"\\\n\t\r";
    struct scn_place place = lexer->place;
    const char *at;
    int c;

    advance(lexer);
    c = peek(lexer);
    if (c == 'x') {
        advance(lexer);
        return lex_hex(lexer, out, place, errp);
    }
    at = c > 0 ? strchr(from, c) : NULL;
    if (!at) {
        scn_error(errp, lexer->file, place, "an unknown escape, expected \\\", \\\\, \\n, \\t, \\r or \\xHH");
        return false;
    }
    scn_text_char(out, to[at - from]);
    advance(lexer);
    return true;
}

/* From the opening quote to behind the closing one. */
static bool lex_quoted(struct scn_lexer *lexer, struct scn_text *out, Error **errp)
{
    struct scn_place place = lexer->place;

    SIM_ASSERT_EQ(peek(lexer), '"');
    advance(lexer);
    for (int c = peek(lexer); c != '"'; c = peek(lexer)) {
        if (c < 0) {
            scn_error(errp, lexer->file, place, "a quote that is not closed, expected '\"' on the same line");
            return false;
        }
        if (c == '\\') {
            if (!lex_escape(lexer, out, errp)) {
                return false;
            }
            continue;
        }
        scn_text_char(out, (char)c);
        advance(lexer);
    }
    advance(lexer);
    return true;
}

/* From the opening bracket to behind the one that closes it; strings inside are JSON's. */
static bool lex_json(struct scn_lexer *lexer, struct scn_text *out, Error **errp)
{
    struct scn_place place = lexer->place;
    size_t depth = 0;
    bool in_string = false;

    do {
        int c = peek(lexer);

        if (c < 0) {
            scn_error(errp, lexer->file, place, "JSON that does not end, expected '}' or ']' on the same line");
            return false;
        }
        if (in_string && c == '\\') {
            scn_text_char(out, (char)c);
            advance(lexer);
            c = peek(lexer);
            if (c < 0) {
                continue;
            }
        } else if (c == '"') {
            in_string = !in_string;
        } else if (!in_string && (c == '{' || c == '[')) {
            depth++;
        } else if (!in_string && (c == '}' || c == ']')) {
            depth--;
        }
        scn_text_char(out, (char)c);
        advance(lexer);
    } while (depth > 0);
    return true;
}

static bool lex_value(struct scn_lexer *lexer, struct scn_token *token, Error **errp)
{
    int c = peek(lexer);

    token->value_place = lexer->place;
    if (c == '"') {
        token->quoted = true;
        return lex_quoted(lexer, &token->value, errp);
    }
    if (c == '{' || c == '[') {
        token->json = true;
        return lex_json(lexer, &token->value, errp);
    }
    for (; c >= 0 && !is_blank(c); c = peek(lexer)) {
        if (c == '=' && !token->has_key && token->value.length > 0) {
            advance(lexer);
            token->key = token->value;
            token->value = (struct scn_text){.bytes = NULL};
            token->has_key = true;
            return lex_value(lexer, token, errp);
        }
        if (c == '"') {
            scn_error(errp, lexer->file, lexer->place, "a quote inside a word, expected the whole value in quotes");
            return false;
        }
        scn_text_char(&token->value, (char)c);
        advance(lexer);
    }
    return true;
}

bool scn_lex_token(struct scn_lexer *lexer, struct scn_token *token, Error **errp)
{
    scn_token_clear(token);
    SIM_ASSERT(peek(lexer) >= 0);
    token->place = lexer->place;
    if (!lex_value(lexer, token, errp)) {
        return false;
    }
    if (peek(lexer) >= 0 && !is_blank(peek(lexer))) {
        scn_error(errp, lexer->file, lexer->place, "text right behind a quote or bracket, expected a blank");
        return false;
    }
    if (!token->value.bytes) {
        scn_text_str(&token->value, "");
    }
    return true;
}
