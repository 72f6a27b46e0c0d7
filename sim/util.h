/*
 * Small things that every room uses: rounding, containers, assertions.
 *
 * An assertion guards an invariant of blksim's own code. It prints both sides and ends the process; the
 * parent of a worker turns that into the verdict `crash` (DESIGN 2.8). Bad user input never reaches one.
 */
#ifndef SIM_UTIL_H
#define SIM_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* clang-format takes the parenthesised operands for casts. */
/* clang-format off */
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Alignments are powers of two; arguments are non-negative. */
#define ROUND_DOWN(x, align) ((x) & ~((__typeof__(x))(align) - 1))
#define ROUND_UP(x, align) ROUND_DOWN((x) + (__typeof__(x))(align) - 1, align)
#define DIV_ROUND_UP(x, n) (((x) + (n) - 1) / (n))
/* clang-format on */

static inline bool is_power_of_2(uint64_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

/* For searches: most candidates differ in their first character, and then there is no call. */
static inline bool str_is(const char *a, const char *b)
{
    return a[0] == b[0] && strcmp(a, b) == 0;
}

/* Half-open ranges [a, a+an) and [b, b+bn). An empty range overlaps nothing. */
static inline bool ranges_overlap(int64_t a, int64_t an, int64_t b, int64_t bn)
{
    return an > 0 && bn > 0 && a < b + bn && b < a + an;
}

#define SIM_SECTOR_BYTES 512
#define SIM_PAGE_BYTES 4096
#define KiB ((int64_t)1 << 10)
#define MiB ((int64_t)1 << 20)
#define GiB ((int64_t)1 << 30)
#define TiB ((int64_t)1 << 40)
#define NS_PER_US ((int64_t)1000)
#define NS_PER_MS ((int64_t)1000000)
#define NS_PER_S ((int64_t)1000000000)

#define SIM_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define SIM_NORETURN __attribute__((noreturn))
#define SIM_UNUSED __attribute__((unused))

/* Prints "FILE:LINE: TEXT" to stderr and aborts. */
SIM_NORETURN void sim_assert_fail(const char *file, int line, const char *text);
SIM_NORETURN void sim_assert_fail_cmp(const char *file, int line, const char *text, long long left,
                                      long long right);

#define SIM_ASSERT(cond) \
    do { \
        if (__builtin_expect(!(cond), 0)) { \
            sim_assert_fail(__FILE__, __LINE__, #cond); \
        } \
    } while (0)

#define SIM_ASSERT_CMP_(a, op, b) \
    do { \
        long long left_ = (long long)(a); \
        long long right_ = (long long)(b); \
        if (__builtin_expect(!(left_ op right_), 0)) { \
            sim_assert_fail_cmp(__FILE__, __LINE__, #a " " #op " " #b, left_, right_); \
        } \
    } while (0)

#define SIM_ASSERT_EQ(a, b) SIM_ASSERT_CMP_(a, ==, b)
#define SIM_ASSERT_LE(a, b) SIM_ASSERT_CMP_(a, <=, b)
#define SIM_ASSERT_LT(a, b) SIM_ASSERT_CMP_(a, <, b)

/* splitmix64's finaliser: a bijection of 64 bits that spreads every input bit. */
static inline uint64_t sim_mix64(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Ordered combination of two keys. */
static inline uint64_t sim_mix2(uint64_t a, uint64_t b)
{
    return sim_mix64(a * UINT64_C(0x9e3779b97f4a7c15) + b + UINT64_C(0x632be59bd9b4e019));
}

/* XXH64 of a byte string: the same on every host. */
uint64_t sim_hash_bytes(const void *data, size_t size_bytes);
uint64_t sim_hash_str(const char *str);

#endif
