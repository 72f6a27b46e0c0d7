/*
 * Assertions, byte hashing and libc memory that never fails.
 */
#include "sim/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "sim/world.h"

void sim_assert_fail(const char *file, int line, const char *text)
{
    fflush(stdout);
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, text);
    abort();
}

void sim_assert_fail_cmp(const char *file, int line, const char *text, long long left, long long right)
{
    fflush(stdout);
    fprintf(stderr, "%s:%d: assertion failed: %s (%lld, %lld)\n", file, line, text, left, right);
    abort();
}

uint64_t sim_hash_bytes(const void *data, size_t size_bytes)
{
    SIM_ASSERT(data != NULL || size_bytes == 0);
    return XXH64(data, size_bytes, 0);
}

uint64_t sim_hash_str(const char *str)
{
    SIM_ASSERT(str != NULL);
    return XXH64(str, strlen(str), 0);
}

/* Running out of host memory is not a state that the world simulates: the process ends, its parent says so. */
static void *checked(void *ptr)
{
    if (__builtin_expect(!ptr, 0)) {
        fputs("blksim: out of memory\n", stderr);
        abort();
    }
    return ptr;
}

void *sim_xmalloc(size_t size_bytes)
{
    return checked(malloc(size_bytes ? size_bytes : 1));
}

void *sim_xcalloc(size_t count, size_t size_bytes)
{
    return checked(calloc(count ? count : 1, size_bytes ? size_bytes : 1));
}

void *sim_xrealloc(void *ptr, size_t size_bytes)
{
    return checked(realloc(ptr, size_bytes ? size_bytes : 1));
}
