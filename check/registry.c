/*
 * The table of checkers, the set attached to a world, and its violations.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/checkers.h"

static const struct check_class *const classes[] = {
    &check_guest_view,     &check_bitmap_exact, &check_target_at_pivot,
    &check_job_machine,    &check_rate_limit,   &check_liveness,
    &check_resources,      &check_permissions,  &check_successor_algebra,
    &check_blkverify,      &check_durability,   &check_drained,
    &check_qcow2_metadata, &check_commit_view,  &check_target_point_in_time,
};

#define KEPT_MAX 16

struct check_set {
    struct sim *sim;
    struct check_boundary *boundary;
    struct check check[ARRAY_SIZE(classes)];
    size_t count;
    struct violation *first, *last;
    unsigned kept;
    uint64_t violations;
};

const struct check_class *check_at(size_t index)
{
    return index < ARRAY_SIZE(classes) ? classes[index] : NULL;
}

const struct check_class *check_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
        if (strcmp(classes[i]->name, name) == 0) {
            return classes[i];
        }
    }
    return NULL;
}

/* Which classes the list names, by index. */
static bool parse_list(const char *list, bool wanted[], Error **errp)
{
    for (const char *at = list; *at;) {
        size_t length = strcspn(at, ",");
        size_t i = 0;

        if (length == 3 && memcmp(at, "all", 3) == 0) {
            memset(wanted, true, ARRAY_SIZE(classes));
        } else if (!(length == 4 && memcmp(at, "none", 4) == 0)) {
            while (i < ARRAY_SIZE(classes) &&
                   !(strlen(classes[i]->name) == length && memcmp(classes[i]->name, at, length) == 0)) {
                i++;
            }
            if (i == ARRAY_SIZE(classes)) {
                error_setg(errp, "no checker '%.*s': expected all, none or names of `blksim list checks`",
                           (int)length, at);
                return false;
            }
            wanted[i] = true;
        }
        at += length + (at[length] == ',');
    }
    return true;
}

struct check_set *check_attach(struct sim *sim, const char *list, Error **errp)
{
    bool wanted[ARRAY_SIZE(classes)] = {false};
    struct check_set *set;

    if (!parse_list(list, wanted, errp)) {
        return NULL;
    }
    set = calloc(1, sizeof(*set));
    SIM_ASSERT(set != NULL);
    set->sim = sim;
    set->boundary = check_boundary_new(sim);
    check_boundary_attach_first(set->boundary);
    for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
        if (wanted[i]) {
            struct check *check = &set->check[set->count++];

            *check = (struct check){.klass = classes[i], .set = set, .sim = sim, .arena = sim_check_arena(sim)};
            check->state = classes[i]->attach(check);
        }
    }
    check_boundary_attach_last(set->boundary);
    return set;
}

struct check_boundary *check_boundary(const struct check *check)
{
    return check->set->boundary;
}

static void settle(struct check_set *set, bool final)
{
    for (size_t i = 0; i < set->count; i++) {
        struct check *check = &set->check[i];

        if (check->klass->at_settled) {
            check->klass->at_settled(check, check->state, final);
        }
    }
}

void check_settled(struct check_set *set)
{
    settle(set, false);
}

void check_final(struct check_set *set)
{
    settle(set, true);
}

void check_teardown(struct check_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        struct check *check = &set->check[i];

        if (check->klass->at_teardown) {
            check->klass->at_teardown(check, check->state);
        }
    }
}

const struct violation *check_violations(const struct check_set *set)
{
    return set->first;
}

uint64_t check_violation_count(const struct check_set *set)
{
    return set->violations;
}

static void violation_free(struct violation *violation)
{
    free(violation->check);
    free(violation->signature);
    free(violation->host);
    free(violation->node);
    free(violation->job);
    free(violation->detail);
    free(violation);
}

void check_set_free(struct check_set *set)
{
    if (!set) {
        return;
    }
    while (set->first) {
        struct violation *next = set->first->next;

        violation_free(set->first);
        set->first = next;
    }
    free(set);
}

/* --- violations ------------------------------------------------------------------------------------------ */

static char *copy_or_null(const char *text)
{
    char *copy = text ? strdup(text) : NULL;

    SIM_ASSERT(!text || copy);
    return copy;
}

static const char *or_dash(const char *text)
{
    return text && *text ? text : "-";
}

static bool seen_before(const struct check_set *set, const char *signature)
{
    for (const struct violation *v = set->first; v; v = v->next) {
        if (strcmp(v->signature, signature) == 0) {
            return true;
        }
    }
    return false;
}

void check_violate(struct check_set *set, const char *checker, const char *rule,
                   const struct violation_where *where, const char *fmt, ...)
{
    static const struct violation_where nowhere;
    const struct violation_where *w = where ? where : &nowhere;
    struct violation *violation;
    char *signature;
    char *detail;
    va_list args;

    set->violations++;
    SIM_ASSERT(asprintf(&signature, "%s.%s.%s.%s.%s.%s", checker, rule, or_dash(w->job_type), or_dash(w->phase),
                        or_dash(w->driver), or_dash(w->op)) >= 0);
    if (set->kept == KEPT_MAX || seen_before(set, signature)) {
        free(signature);
        return;
    }
    va_start(args, fmt);
    SIM_ASSERT(vasprintf(&detail, fmt, args) >= 0);
    va_end(args);
    violation = calloc(1, sizeof(*violation));
    SIM_ASSERT(violation != NULL);
    *violation = (struct violation){.check = copy_or_null(checker),
                                    .signature = signature,
                                    .time_ns = sim_now(set->sim),
                                    .event = sim_event_count(set->sim),
                                    .host = copy_or_null(w->host),
                                    .node = copy_or_null(w->node),
                                    .job = copy_or_null(w->job),
                                    .detail = detail};
    *(set->last ? &set->last->next : &set->first) = violation;
    set->last = violation;
    set->kept++;
    SIM_EMIT(set->sim, NULL, violation, NULL, SIM_P(violation->check), SIM_P(signature), SIM_P(detail));
    sim_halt(set->sim);
}
