/*
 * Shrinking what steps say: arguments that do not matter go, sizes and counts become small and round.
 *
 * Numbers often belong together: two disks of one size, a request that ends where a disk does. So each value is
 * first changed wherever it stands, then each place alone.
 */
#include "scenario/shrink_int.h"

#include <stdlib.h>
#include <string.h>

/* --- numbers ---------------------------------------------------------------------------------------------- */

/* Every integer of a tree, in order: calls fn until it returns true. */
static bool walk(struct qvalue *v, bool (*fn)(void *opaque, int64_t *number), void *opaque)
{
    if (v->type == QVALUE_INT) {
        return fn(opaque, &v->integer);
    }
    if (v->type == QVALUE_DICT || v->type == QVALUE_LIST) {
        for (size_t i = 0; i < v->seq.count; i++) {
            if (walk(v->seq.items[i], fn, opaque)) {
                return true;
            }
        }
    }
    return false;
}

static void walk_all(struct scenario *scn, bool (*fn)(void *opaque, int64_t *number), void *opaque)
{
    for (size_t step = 0; step < scn->step_count; step++) {
        if (walk(scn->steps[step].args, fn, opaque)) {
            return;
        }
    }
}

/* The nth integer: asked for (to == NULL), or set. */
struct place {
    size_t nth;
    int64_t value;
    const int64_t *to;
    bool found;
};

static bool at_place(void *opaque, int64_t *number)
{
    struct place *place = opaque;

    if (place->nth-- > 0) {
        return false;
    }
    place->found = true;
    place->value = *number;
    *number = place->to ? *place->to : *number;
    return true;
}

static bool number_at(struct scenario *scn, size_t nth, int64_t *value)
{
    struct place place = {.nth = nth};

    walk_all(scn, at_place, &place);
    *value = place.value;
    return place.found;
}

struct renaming {
    int64_t from, to;
    unsigned count;
};

static bool rename_number(void *opaque, int64_t *number)
{
    struct renaming *renaming = opaque;

    if (*number == renaming->from) {
        *number = renaming->to;
        renaming->count++;
    }
    return false;
}

#define CANDIDATES 12

/* What a number may become, the boldest first: less, and no less round. Returns how many. */
static unsigned smaller_numbers(int64_t value, int64_t out[CANDIDATES])
{
    static const int64_t bold[] = {0, 1, 512, 4 * KiB, 64 * KiB, MiB};
    static const int64_t round[] = {64 * KiB, 4 * KiB, 512};
    unsigned n = 0;

    for (size_t i = 0; i < ARRAY_SIZE(bold) && bold[i] < value; i++) {
        bool fits = value >= 512 ? bold[i] == 0 || bold[i] >= 512 : bold[i] < 512;

        if (fits && (bold[i] * 2 <= value || bold[i] < 2)) {
            out[n++] = bold[i];
        }
    }
    if (value >= 128 * KiB) {
        out[n++] = ROUND_DOWN(value / 2, 64 * KiB);
    } else if (value >= KiB) {
        out[n++] = ROUND_DOWN(value / 2, 512);
    } else if (value > 3 && value < 512) {
        out[n++] = value / 2;
    }
    for (size_t i = 0; i < ARRAY_SIZE(round); i++) {
        if (value > round[i] && value % round[i]) {
            out[n++] = ROUND_DOWN(value, round[i]);
        }
    }
    if (value > 2 && value < 16) {
        out[n++] = value - 1;
    }
    SIM_ASSERT_LE(n, CANDIDATES);
    return n;
}

/* The number at a place, everywhere or there alone. */
static bool shrink_number(struct shrinker *s, size_t nth, bool everywhere)
{
    int64_t value, to[CANDIDATES];
    unsigned n = number_at(s->best, nth, &value) ? smaller_numbers(value, to) : 0;

    for (unsigned i = 0; i < n; i++) {
        struct scenario *copy = scenario_copy(s->best);

        if (everywhere) {
            struct renaming renaming = {.from = value, .to = to[i]};

            walk_all(copy, rename_number, &renaming);
            if (renaming.count < 2) {
                scenario_free(copy);
                return false;
            }
        } else {
            struct place place = {.nth = nth, .to = &to[i]};

            walk_all(copy, at_place, &place);
        }
        if (shrink_try(s, copy)) {
            return true;
        }
    }
    return false;
}

static bool shrink_numbers(struct shrinker *s)
{
    int64_t value;
    bool any = false;

    for (size_t nth = 0; number_at(s->best, nth, &value); nth++) {
        while (shrink_number(s, nth, true)) {
            any = true;
        }
    }
    for (size_t nth = 0; number_at(s->best, nth, &value); nth++) {
        while (shrink_number(s, nth, false)) {
            any = true;
        }
    }
    return any;
}

/* --- arguments -------------------------------------------------------------------------------------------- */

/* Arguments whose absence means more than most values. */
static bool keeps(const struct scn_step *step, const char *key)
{
    return strcmp(step->verb->name, "workload") == 0 && strcmp(key, "ops") == 0;
}

static bool drop_arguments(struct shrinker *s)
{
    bool any = false;

    for (size_t step = 0; step < s->best->step_count; step++) {
        for (size_t arg = s->best->steps[step].args->seq.count; arg-- > 0;) {
            const char *key = s->best->steps[step].args->seq.keys[arg];
            struct scenario *copy;

            if (keeps(&s->best->steps[step], key)) {
                continue;
            }
            copy = scenario_copy(s->best);
            qvalue_free(qdict_take(copy->steps[step].args, key));
            any = shrink_try(s, copy) || any;
        }
    }
    return any;
}

/* --- items of lists --------------------------------------------------------------------------------------- */

/* Takes the nth item of all the lists in a tree, each after those inside of it. False: there are fewer. */
static bool take_item(struct qvalue *v, size_t *nth)
{
    if (v->type != QVALUE_LIST && v->type != QVALUE_DICT) {
        return false;
    }
    for (size_t i = 0; i < v->seq.count; i++) {
        if (take_item(v->seq.items[i], nth)) {
            return true;
        }
        if (v->type == QVALUE_LIST && (*nth)-- == 0) {
            qvalue_free(v->seq.items[i]);
            memmove(&v->seq.items[i], &v->seq.items[i + 1], (v->seq.count - i - 1) * sizeof(*v->seq.items));
            v->seq.count--;
            return true;
        }
    }
    return false;
}

/* Single actions of a transaction, single sources of a merge. */
static bool drop_items(struct shrinker *s)
{
    bool any = false;

    for (size_t step = 0; step < s->best->step_count; step++) {
        for (size_t nth = 0;;) {
            struct scenario *copy = scenario_copy(s->best);
            size_t left = nth;

            if (!take_item(copy->steps[step].args, &left)) {
                scenario_free(copy);
                break;
            }
            if (shrink_try(s, copy)) {
                any = true;
            } else {
                nth++;
            }
        }
    }
    return any;
}

/* A transaction of one action as the command of that name; NULL: it is none. */
static struct scenario *one_command(const struct scenario *scn, size_t step)
{
    const struct qvalue *actions = qdict_get(scn->steps[step].args, "actions");
    const struct qvalue *action =
        actions && actions->type == QVALUE_LIST && actions->seq.count == 1 ? actions->seq.items[0] : NULL;
    const struct qvalue *type = action ? qdict_get(action, "type") : NULL;
    const struct qvalue *data = type ? qdict_get(action, "data") : NULL;
    const struct scn_verb *verb = data && type->type == QVALUE_STR ? scn_verb_find(type->str.bytes) : NULL;
    struct scenario *copy;

    if (strcmp(scn->steps[step].verb->name, "transaction") != 0 || !verb) {
        return NULL;
    }
    copy = scenario_copy(scn);
    qvalue_free(copy->steps[step].args);
    copy->steps[step].args = qvalue_copy(data);
    copy->steps[step].verb = verb;
    return copy;
}

static bool unwrap_transactions(struct shrinker *s)
{
    bool any = false;

    for (size_t step = 0; step < s->best->step_count; step++) {
        struct scenario *copy = one_command(s->best, step);

        any = (copy && shrink_try(s, copy)) || any;
    }
    return any;
}

/* One write in the place of a workload. */
static struct scenario *one_write(const struct scenario *scn, size_t step, const char *verb, int64_t bytes)
{
    struct scenario *copy = scenario_copy(scn);
    struct scn_step *at = &copy->steps[step];
    struct qvalue *args = qvalue_dict();

    qdict_put(args, "guest", qvalue_copy(qdict_get(at->args, "guest")));
    qdict_put(args, "offset", qvalue_int(0));
    qdict_put(args, "length", qvalue_int(bytes));
    qvalue_free(at->args);
    at->args = args;
    at->verb = scn_verb_find(verb);
    SIM_ASSERT(at->verb);
    return copy;
}

static bool simplify_workloads(struct shrinker *s)
{
    bool any = false;

    for (size_t step = 0; step < s->best->step_count; step++) {
        const struct scn_step *at = &s->best->steps[step];

        if (strcmp(at->verb->name, "workload") == 0 && qdict_get(at->args, "guest")) {
            any = shrink_try(s, one_write(s->best, step, "io write", 64 * KiB)) ||
                  shrink_try(s, one_write(s->best, step, "io aio_write", 64 * KiB)) || any;
        }
    }
    return any;
}

bool shrink_arguments(struct shrinker *s)
{
    bool any = simplify_workloads(s);

    any = drop_items(s) || any;
    any = unwrap_transactions(s) || any;
    any = drop_arguments(s) || any;
    return shrink_numbers(s) || any;
}
