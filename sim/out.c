/*
 * Bounded text output and JSON strings.
 */
#include "sim/out.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void out_bytes(struct sim_out *out, const char *bytes, size_t count)
{
    if (out->length < out->room) {
        size_t fits = MIN(count, out->room - out->length);

        memcpy(out->buf + out->length, bytes, fits);
    }
    out->length += count;
}

void out_str(struct sim_out *out, const char *str)
{
    out_bytes(out, str, strlen(str));
}

void out_printf(struct sim_out *out, const char *fmt, ...)
{
    char text[128]; /* numbers and short names only: longer text goes through out_str */
    va_list args;
    int length;

    va_start(args, fmt);
    length = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    SIM_ASSERT(length >= 0);
    SIM_ASSERT_LT(length, sizeof(text));
    out_bytes(out, text, (size_t)length);
}

size_t out_end(struct sim_out *out)
{
    if (out->room > 0) {
        out->buf[MIN(out->length, out->room - 1)] = '\0';
    }
    return out->length;
}

/* Length of the well-formed UTF-8 sequence at s, or 0: no overlong forms, surrogates, or values past U+10FFFF. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
    static const struct {
        unsigned char first, last; /* lead byte */
        unsigned char low, high;   /* second byte */
        unsigned char length;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };

    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        if (s[0] < forms[i].first || s[0] > forms[i].last) {
            continue;
        }
        if (left < forms[i].length || s[1] < forms[i].low || s[1] > forms[i].high) {
            return 0;
        }
        for (size_t k = 2; k < forms[i].length; k++) {
            if (s[k] < 0x80 || s[k] > 0xbf) {
                return 0;
            }
        }
        return forms[i].length;
    }
    return 0;
}

static void escape_ascii(struct sim_out *out, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t";
    static const char to[] = "\"\\bfnrt";
    const char *at = c ? strchr(from, c) : NULL;

    if (at) {
        char pair[2] = {'\\', to[at - from]};

        out_bytes(out, pair, 2);
    } else if (c < 0x20) {
        out_printf(out, "\\u%04x", c);
    } else {
        out_bytes(out, (const char *)&c, 1);
    }
}

void out_json_str(struct sim_out *out, const char *bytes, size_t count)
{
    const unsigned char *s = (const unsigned char *)bytes;
    size_t i = 0;

    out_bytes(out, "\"", 1);
    while (i < count) {
        size_t length;

        if (s[i] < 0x80) {
            escape_ascii(out, s[i++]);
            continue;
        }
        length = utf8_length(s + i, count - i);
        if (length) {
            out_bytes(out, bytes + i, length);
            i += length;
        } else {
            out_bytes(out, "\xef\xbf\xbd", 3);
            i++;
        }
    }
    out_bytes(out, "\"", 1);
}
