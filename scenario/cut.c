/*
 * The same scenario with the power failing at one of its writes.
 *
 *     disks, img create | fault power-cut | everything else ... powerloss | opening again, going on
 *
 * What is missing of that is added: without a powerloss the lines that opened things come again at the end, around
 * checks of the images. A scenario that says itself where writes count keeps its line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/runner.h"
#include "sim/world.h"

static bool is(const struct scn_step *step, const char *verb)
{
    return strcmp(step->verb->name, verb) == 0;
}

static const char *text(const struct scn_step *step, const char *key)
{
    const struct qvalue *value = qdict_get(step->args, key);

    return value && value->type == QVALUE_STR ? value->str.bytes : NULL;
}

/* A copy of args goes into the scenario at a place; what was there moves on. Labels are the caller's. */
static struct scn_step *insert(struct scenario *scn, size_t at, const char *verb, const struct qvalue *args)
{
    struct scn_step step = *scenario_add(scn, scn_verb_find(verb));

    SIM_ASSERT_LT(at, scn->step_count);
    memmove(&scn->steps[at + 1], &scn->steps[at], (scn->step_count - at - 1) * sizeof(*scn->steps));
    if (args) {
        qvalue_free(step.args);
        step.args = qvalue_copy(args);
    }
    scn->steps[at] = step;
    return &scn->steps[at];
}

static struct scn_step *append(struct scenario *scn, const char *verb)
{
    return insert(scn, scn->step_count, verb, NULL);
}

/* What comes before the first of all writes that count; the last image that is made, too. */
static bool makes_media(const struct scn_step *step)
{
    return is(step, "disk") || is(step, "img create");
}

static bool opens(const struct scn_step *step)
{
    return is(step, "blockdev-add") || is(step, "object-add") || is(step, "guest");
}

/* In the middle of an internal snapshot COPIED bits may be off, which a repair puts right. */
static bool makes_snapshots(const struct scenario *scn, size_t end)
{
    bool any = false;

    for (size_t i = 0; i < end; i++) {
        const char *verb = scn->steps[i].verb->name;

        any = any || is(&scn->steps[i], "transaction") || is(&scn->steps[i], "json") ||
              strstr(verb, "internal-sync") || is(&scn->steps[i], "img snapshot");
    }
    return any;
}

static void check_images(struct scenario *scn, size_t end)
{
    bool snapshots = makes_snapshots(scn, end);

    for (size_t i = 0; i < end; i++) {
        const struct qvalue *lazy = qdict_get(scn->steps[i].args, "lazy_refcounts");
        const char *format = text(&scn->steps[i], "-f");
        const char *name = text(&scn->steps[i], "name");
        struct scn_step *step;

        if (!is(&scn->steps[i], "img create") || !format || strcmp(format, "qcow2") != 0) {
            continue;
        }
        step = append(scn, "img check");
        if (snapshots || (lazy && lazy->boolean)) { /* its counts are repaired when it is opened */
            qdict_put(step->args, "-r", qvalue_str("all"));
        }
        qdict_put(step->args, "name", qvalue_str(name));
    }
}

static void open_again(struct scenario *scn, size_t end)
{
    for (size_t i = 0; i < end; i++) {
        if (opens(&scn->steps[i])) {
            const char *verb = scn->steps[i].verb->name;
            struct qvalue *args = qvalue_copy(scn->steps[i].args);

            insert(scn, scn->step_count, verb, args)->try_ = true; /* what a snapshot has moved may be refused */
            qvalue_free(args);
        }
    }
}

static void go_on(struct scenario *scn, size_t end)
{
    for (size_t i = 0; i < end; i++) {
        const char *guest = is(&scn->steps[i], "guest") ? text(&scn->steps[i], "name") : NULL;

        if (guest) {
            struct qvalue *args = qvalue_dict();

            qdict_put(args, "guest", qvalue_str(guest));
            qdict_put(args, "ops", qvalue_int(8));
            qdict_put(args, "wait", qvalue_bool(true));
            insert(scn, scn->step_count, "workload", args)->try_ = true;
            qvalue_free(args);
        }
    }
    append(scn, "settle")->try_ = true;
}

static void add_end(struct scenario *scn)
{
    size_t end = scn->step_count;
    struct scn_step *step = append(scn, "powerloss");

    qdict_put(step->args, "host", qvalue_str("all"));
    check_images(scn, end);
    open_again(scn, end);
    go_on(scn, end);
}

static struct scn_step *find_cut(struct scenario *scn)
{
    for (size_t i = 0; i < scn->step_count; i++) {
        if (is(&scn->steps[i], "fault") && strcmp(text(&scn->steps[i], "name"), "power-cut") == 0) {
            return &scn->steps[i];
        }
    }
    return NULL;
}

struct scenario *scenario_cut(const struct scenario *scn, uint64_t after_write, const char *keep)
{
    struct scenario *copy = scenario_copy(scn);
    struct scn_step *cut;
    bool ends = false;
    size_t at = 0;

    scenario_label_all(copy); /* nothing that is drawn may change by what is added */
    for (size_t i = 0; i < copy->step_count; i++) {
        ends = ends || is(&copy->steps[i], "powerloss");
    }
    if (!ends) {
        add_end(copy);
    }
    cut = find_cut(copy);
    for (size_t i = 0; !cut && i < copy->step_count && !is(&copy->steps[i], "powerloss"); i++) {
        at = is(&copy->steps[i], "img create") || (at == i && makes_media(&copy->steps[i])) ? i + 1 : at;
    }
    cut = cut ? cut : insert(copy, at, "fault", NULL);
    for (size_t i = 0; i < 3; i++) {
        static const char *const keys[] = {"name", "after-write", "keep"};

        qvalue_free(qdict_take(cut->args, keys[i]));
    }
    qdict_put(cut->args, "name", qvalue_str("power-cut"));
    qdict_put(cut->args, "after-write", qvalue_int((int64_t)after_write));
    qdict_put(cut->args, "keep", qvalue_str(keep));
    return copy;
}
