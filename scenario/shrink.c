/*
 * The shrinker: the smallest scenario that still fails in the same way.
 *
 * Everything is labelled first, so that taking a step out shifts no other's draws. Then, until nothing gets smaller:
 * chunks of steps are left out, halving the chunk (delta debugging); faults and headers are simplified; sizes and
 * counts are made small. A candidate that does not pass the pre-run checks counts as not failing.
 */
#include "scenario/runner.h"

#include <stdlib.h>
#include <string.h>

struct shrinker {
    struct scenario *best;
    bool (*fails)(void *opaque, const struct scenario *scn);
    void *opaque;
    void (*progress)(void *opaque, size_t steps, unsigned runs);
    unsigned runs;
};

#define MAX_RUNS 20000

/* Takes over candidate. True when it became the best. */
static bool try_candidate(struct shrinker *s, struct scenario *candidate)
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

/* --- steps ------------------------------------------------------------------------------------------------ */

static struct scenario *without(const struct scenario *scn, size_t first, size_t count)
{
    struct scenario *copy = scenario_copy(scn);

    for (size_t i = 0; i < count; i++) {
        scenario_remove(copy, first);
    }
    return copy;
}

static bool drop_steps(struct shrinker *s)
{
    bool any = false;

    for (size_t chunk = MAX(s->best->step_count / 2, 1); chunk > 0; chunk /= 2) {
        for (size_t end = s->best->step_count; end > 0;) {
            size_t first = end > chunk ? end - chunk : 0;

            if (try_candidate(s, without(s->best, first, end - first))) {
                any = true;
            }
            end = MIN(first, s->best->step_count);
        }
    }
    return any;
}

/* --- choices ---------------------------------------------------------------------------------------------- */

static bool calm_schedule(struct shrinker *s)
{
    struct scenario *copy;

    if (s->best->schedule == SCN_SCHEDULE_CALM) {
        return false;
    }
    copy = scenario_copy(s->best);
    copy->schedule = SCN_SCHEDULE_CALM;
    return try_candidate(s, copy);
}

static bool drop_pins(struct shrinker *s)
{
    bool any = false;

    for (size_t i = s->best->pin_count; i-- > 0;) {
        struct scenario *copy = scenario_copy(s->best);

        memmove(copy->pins + i, copy->pins + i + 1, (copy->pin_count - i - 1) * sizeof(*copy->pins));
        copy->pin_count--;
        any = try_candidate(s, copy) || any;
    }
    return any;
}

/* --- arguments -------------------------------------------------------------------------------------------- */

static struct scenario *without_argument(const struct scenario *scn, size_t step, const char *key)
{
    struct scenario *copy = scenario_copy(scn);

    qvalue_free(qdict_take(copy->steps[step].args, key));
    return copy;
}

/* Candidates for a number, the boldest first. 0 ends. */
static unsigned smaller_numbers(int64_t value, int64_t out[4])
{
    unsigned n = 0;

    if (value > 1) {
        if (value > 65536 && value % 65536 == 0) {
            out[n++] = 65536;
        }
        if (value > 4096) {
            out[n++] = ROUND_DOWN(value / 2, 512);
        } else {
            out[n++] = 1;
            out[n++] = value / 2;
        }
    }
    return n;
}

static bool shrink_number(struct shrinker *s, size_t step, size_t arg)
{
    int64_t options[4];
    unsigned n = smaller_numbers(s->best->steps[step].args->seq.items[arg]->integer, options);

    for (unsigned i = 0; i < n; i++) {
        struct scenario *copy = scenario_copy(s->best);

        copy->steps[step].args->seq.items[arg]->integer = options[i];
        if (try_candidate(s, copy)) {
            return true;
        }
    }
    return false;
}

static bool shrink_arguments(struct shrinker *s)
{
    bool any = false;

    for (size_t step = 0; step < s->best->step_count; step++) {
        for (size_t arg = s->best->steps[step].args->seq.count; arg-- > 0;) {
            const struct qvalue *args = s->best->steps[step].args;

            if (try_candidate(s, without_argument(s->best, step, args->seq.keys[arg]))) {
                any = true;
                continue;
            }
            while (s->best->steps[step].args->seq.items[arg]->type == QVALUE_INT && shrink_number(s, step, arg)) {
                any = true;
            }
        }
    }
    return any;
}

static bool drop_delays(struct shrinker *s)
{
    bool any = false;

    for (size_t step = 0; step < s->best->step_count; step++) {
        struct scenario *copy;

        if (s->best->steps[step].delay == SCN_DELAY_NONE) {
            continue;
        }
        copy = scenario_copy(s->best);
        copy->steps[step].delay = SCN_DELAY_NONE;
        copy->steps[step].delay_ns = 0;
        any = try_candidate(s, copy) || any;
    }
    return any;
}

struct scenario *scenario_shrink(const struct scenario *scn, bool (*fails)(void *opaque, const struct scenario *scn),
                                 void *opaque, void (*progress)(void *opaque, size_t steps, unsigned runs))
{
    struct shrinker s = {.fails = fails, .opaque = opaque, .progress = progress};
    bool smaller = true;

    s.best = scenario_copy(scn);
    scenario_label_all(s.best);
    while (smaller && s.runs < MAX_RUNS) {
        smaller = drop_steps(&s);
        smaller = calm_schedule(&s) || smaller;
        smaller = drop_pins(&s) || smaller;
        smaller = shrink_arguments(&s) || smaller;
        smaller = drop_delays(&s) || smaller;
    }
    return s.best;
}
