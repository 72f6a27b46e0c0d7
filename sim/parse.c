/*
 * Sizes and times as people write them. Integers only: nothing here ever rounds.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sim/qvalue.h"

/* Decimal digits at *text, which moves past them. False when there are none or the value passes INT64_MAX. */
static bool parse_digits(const char **text, int64_t *out)
{
    const char *at = *text;
    int64_t value = 0;

    if (*at < '0' || *at > '9') {
        return false;
    }
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *at - '0', &value)) {
            return false;
        }
    }
    *text = at;
    *out = value;
    return true;
}

static const char size_suffixes[] = "kMGTPE";

bool sim_parse_size(const char *text, int64_t *out)
{
    int64_t value;
    int shift = 0;

    SIM_ASSERT(text != NULL && out != NULL);
    if (!parse_digits(&text, &value)) {
        return false;
    }
    if (*text) {
        const char *suffix = strchr(size_suffixes, *text == 'K' ? 'k' : *text);

        if (!suffix || text[1]) {
            return false;
        }
        shift = 10 * (int)(suffix - size_suffixes + 1);
    }
    if (value > INT64_MAX >> shift) {
        return false;
    }
    *out = value << shift;
    return true;
}

static const struct {
    const char *suffix;
    int64_t ns;
    int digits; /* decimals that still are whole nanoseconds */
} time_units[] = {
    {"s", NS_PER_S, 9}, {"ms", NS_PER_MS, 6}, {"us", NS_PER_US, 3}, {"ns", 1, 0}, {"", 1, 0},
};

/* Up to nine digits after the point, as a whole number with their count. */
static bool parse_decimals(const char **text, int64_t *decimals, int *digits)
{
    const char *from;

    *decimals = 0;
    *digits = 0;
    if (**text != '.') {
        return true;
    }
    from = ++*text;
    if (!parse_digits(text, decimals)) {
        return false;
    }
    *digits = (int)(*text - from);
    return *digits <= 9;
}

bool sim_parse_time(const char *text, int64_t *out)
{
    int64_t whole;
    int64_t decimals;
    int digits;

    SIM_ASSERT(text != NULL && out != NULL);
    if (!parse_digits(&text, &whole) || !parse_decimals(&text, &decimals, &digits)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(time_units); i++) {
        int64_t value;

        if (strcmp(text, time_units[i].suffix) != 0) {
            continue;
        }
        for (; digits > time_units[i].digits; digits--) {
            if (decimals % 10) {
                return false; /* a part of a nanosecond */
            }
            decimals /= 10;
        }
        for (; digits < time_units[i].digits; digits++) {
            decimals *= 10;
        }
        if (__builtin_mul_overflow(whole, time_units[i].ns, &value) ||
            __builtin_add_overflow(value, decimals, &value)) {
            return false;
        }
        *out = value;
        return true;
    }
    return false;
}

const char *sim_format_size(int64_t size_bytes, char buf[24])
{
    int64_t value = size_bytes;
    int unit = 0;
    char suffix[2] = ""; /* not "%.1s" of the table: gcc 12 -O0 crashes in its format warnings there */

    while (value != 0 && value % 1024 == 0 && unit < 6) {
        value /= 1024;
        unit++;
    }
    suffix[0] = unit > 0 ? size_suffixes[unit - 1] : '\0';
    snprintf(buf, 24, "%" PRId64 "%s", value, suffix);
    return buf;
}

const char *sim_format_time(int64_t time_ns, char buf[32])
{
    size_t i = 0;

    while (time_ns % time_units[i].ns != 0) {
        i++;
    }
    SIM_ASSERT_LT(i, ARRAY_SIZE(time_units));
    snprintf(buf, 32, "%" PRId64 "%s", time_ns / time_units[i].ns, time_units[i].suffix);
    return buf;
}
