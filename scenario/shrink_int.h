/*
 * The shrinker from inside: what shrink.c (steps, choices, prefixes) and shrink_args.c (arguments, numbers) share.
 */
#ifndef SCENARIO_SHRINK_INT_H
#define SCENARIO_SHRINK_INT_H

#include "scenario/runner.h"

struct shrinker {
    struct scenario *best;
    bool (*fails)(void *opaque, const struct scenario *scn);
    void *opaque;
    void (*progress)(void *opaque, size_t steps, unsigned runs);
    unsigned runs;
};

/* Takes over candidate. True when it fails as it should: then it is the best. */
bool shrink_try(struct shrinker *s, struct scenario *candidate);

/* Arguments are left out, streams of requests become one request, numbers become small and round. True when
 * anything got smaller. */
bool shrink_arguments(struct shrinker *s);

#endif
