/*
 * The shrinker: the smallest scenario that still fails in the same way.
 *
 * Everything is labelled first, so that taking a step out shifts no other's draws. Then, until nothing gets
 * smaller: chunks of steps are left out, halving the chunk (delta debugging); the schedule is calmed and recorded
 * choices dropped in chunks; arguments and numbers are simplified (shrink_args.c); prefixes go. Labels that turn
 * out not to matter go last. A candidate that does not pass the pre-run checks counts as not failing.
 */
#include "scenario/shrink_int.h"

#include <stdlib.h>
#include <string.h>

#define MAX_RUNS 20000

bool shrink_try(struct shrinker *s, struct scenario *candidate)
{
    struct run_options options = {0};

    if (s->runs >= MAX_RUNS || !scenario_check(candidate, &options, NULL)) {
        scenario_free(candidate);
        return false;
    }
    s->runs++;
    if (!s->fails(s->opaque, candidate)) {
        scenario_free(candidate);
        return false;
    }
    scenario_free(s->best);
    s->best = candidate;
    if (s->progress) {
        s->progress(s->opaque, candidate->step_count, s->runs);
    }
    return true;
}

/* Leaves out parts of a list of `count` things, large chunks first, from the end: without makes the candidate. */
static bool drop_chunks(struct shrinker *s, size_t (*count)(const struct scenario *scn),
                        struct scenario *(*without)(const struct scenario *scn, size_t first, size_t n))
{
    bool any = false;

    for (size_t chunk = count(s->best); chunk > 0; chunk /= 2) {
        for (size_t end = count(s->best); end > 0;) {
            size_t first = end > chunk ? end - chunk : 0;

            any = shrink_try(s, without(s->best, first, end - first)) || any;
            end = MIN(first, count(s->best));
        }
    }
    return any;
}

/* --- steps ------------------------------------------------------------------------------------------------ */

static size_t step_count(const struct scenario *scn)
{
    return scn->step_count;
}

static struct scenario *without_steps(const struct scenario *scn, size_t first, size_t n)
{
    struct scenario *copy = scenario_copy(scn);

    for (size_t i = 0; i < n; i++) {
        scenario_remove(copy, first);
    }
    return copy;
}

/* `try`, delays: gone, and a delay that has to be becomes round. */
static bool drop_prefixes(struct shrinker *s)
{
    bool any = false;

    for (size_t step = 0; step < s->best->step_count; step++) {
        const struct scn_step *at = &s->best->steps[step];
        struct scenario *copy;

        if (at->try_) {
            copy = scenario_copy(s->best);
            copy->steps[step].try_ = false;
            any = shrink_try(s, copy) || any;
        }
        at = &s->best->steps[step];
        if (at->delay != SCN_DELAY_NONE) {
            copy = scenario_copy(s->best);
            copy->steps[step].delay = SCN_DELAY_NONE;
            copy->steps[step].delay_ns = 0;
            any = shrink_try(s, copy) || any;
        }
        for (int64_t unit = NS_PER_S; unit >= NS_PER_US; unit /= 10) {
            at = &s->best->steps[step];
            if (at->delay != SCN_DELAY_NONE && at->delay_ns > unit && at->delay_ns % unit) {
                copy = scenario_copy(s->best);
                copy->steps[step].delay_ns -= at->delay_ns % unit;
                any = shrink_try(s, copy) || any;
            }
        }
    }
    return any;
}

/* --- choices ---------------------------------------------------------------------------------------------- */

static bool calm_schedule(struct shrinker *s)
{
    bool any = false;
    struct scenario *copy;

    if (s->best->schedule != SCN_SCHEDULE_CALM) {
        copy = scenario_copy(s->best);
        copy->schedule = SCN_SCHEDULE_CALM;
        copy->pct_depth = 0;
        any = shrink_try(s, copy);
    }
    if (s->best->seed) {
        copy = scenario_copy(s->best);
        copy->seed = 0;
        any = shrink_try(s, copy) || any;
    }
    return any;
}

static size_t pin_count(const struct scenario *scn)
{
    return scn->pin_count;
}

static struct scenario *without_pins(const struct scenario *scn, size_t first, size_t n)
{
    struct scenario *copy = scenario_copy(scn);

    memmove(copy->pins + first, copy->pins + first + n, (copy->pin_count - first - n) * sizeof(*copy->pins));
    copy->pin_count -= n;
    return copy;
}

/* --- labels ----------------------------------------------------------------------------------------------- */

/* No labels at all if it fails so, too; else none where the ordinal says the same. */
static void drop_labels(struct shrinker *s)
{
    struct scenario *copy = scenario_copy(s->best);

    for (size_t step = 0; step < copy->step_count; step++) {
        free(copy->steps[step].label);
        copy->steps[step].label = NULL;
    }
    if (shrink_try(s, copy)) {
        return;
    }
    for (size_t step = 0; step < s->best->step_count; step++) {
        char ordinal[24];

        snprintf(ordinal, sizeof(ordinal), "%zu", step + 1);
        if (s->best->steps[step].label && strcmp(s->best->steps[step].label, ordinal) == 0) {
            free(s->best->steps[step].label);
            s->best->steps[step].label = NULL;
        }
    }
}

struct scenario *scenario_shrink(const struct scenario *scn,
                                 bool (*fails)(void *opaque, const struct scenario *scn), void *opaque,
                                 void (*progress)(void *opaque, size_t steps, unsigned runs))
{
    struct shrinker s = {.fails = fails, .opaque = opaque, .progress = progress};
    bool smaller = true;

    s.best = scenario_copy(scn);
    scenario_label_all(s.best);
    while (smaller && s.runs < MAX_RUNS) {
        smaller = drop_chunks(&s, step_count, without_steps);
        smaller = calm_schedule(&s) || smaller;
        smaller = drop_chunks(&s, pin_count, without_pins) || smaller;
        smaller = shrink_arguments(&s) || smaller;
        smaller = drop_prefixes(&s) || smaller;
    }
    drop_labels(&s);
    return s.best;
}
