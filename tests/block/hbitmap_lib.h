/*
 * What the HBitmap tests share: an arena that must be empty at the end, and calls that must end the process.
 */
#ifndef TESTS_BLOCK_HBITMAP_LIB_H
#define TESTS_BLOCK_HBITMAP_LIB_H

#include "tests/testlib.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/hbitmap.h"

static inline int world_setup(void **state)
{
    *state = sim_arena_new();
    return 0;
}

/* Whatever a test made must be gone at its end. */
static inline int world_teardown(void **state)
{
    int leaked = sim_arena_live_bytes(*state) != 0;
    sim_arena_delete(*state);
    return leaked;
}

#define T_WORLD(path, fn) T_SETUP(path, fn, world_setup, world_teardown)

/* The call breaks a precondition: it must stop the process at once, by an assertion. */
#define ASSERT_STOPS(call) \
    do { \
        int stops_status_ = 0; \
        fflush(NULL); \
        pid_t stops_child_ = fork(); \
        assert_true(stops_child_ >= 0); \
        if (stops_child_ == 0) { \
            if (freopen("/dev/null", "w", stderr) != NULL) { \
                call; \
            } \
            _exit(0); \
        } \
        assert_int_equal(waitpid(stops_child_, &stops_status_, 0), stops_child_); \
        assert_true(WIFSIGNALED(stops_status_)); \
        assert_int_equal(WTERMSIG(stops_status_), SIGABRT); \
    } while (0)

#endif
