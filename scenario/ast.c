/*
 * The tree: steps in an array, arguments as dictionaries, all in libc memory.
 */
#include "scenario/ast.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/lang.h"
#include "sim/world.h"

/* --- text ------------------------------------------------------------------------------------------------ */

void scn_text_add(struct scn_text *text, const char *bytes, size_t count)
{
    if (text->room - text->length <= count) {
        text->room = MAX(text->room * 2, text->length + count + 1);
        text->bytes = sim_xrealloc(text->bytes, text->room);
    }
    memcpy(text->bytes + text->length, bytes, count);
    text->length += count;
    text->bytes[text->length] = '\0';
}

void scn_text_str(struct scn_text *text, const char *str)
{
    scn_text_add(text, str, strlen(str));
}

void scn_text_char(struct scn_text *text, char c)
{
    scn_text_add(text, &c, 1);
}

/* --- scenarios ------------------------------------------------------------------------------------------- */

struct scenario *scenario_new(void)
{
    struct scenario *scn = sim_xcalloc(1, sizeof(*scn));

    scn->version = 1;
    return scn;
}

static void step_clear(struct scn_step *step)
{
    free(step->label);
    free(step->host);
    qvalue_free(step->args);
}

void scenario_free(struct scenario *scn)
{
    if (!scn) {
        return;
    }
    for (size_t i = 0; i < scn->step_count; i++) {
        step_clear(&scn->steps[i]);
    }
    free(scn->steps);
    free(scn->pins);
    free(scn->path);
    free(scn);
}

static char *copy_str(const char *str)
{
    size_t size = str ? strlen(str) + 1 : 0;

    return str ? memcpy(sim_xmalloc(size), str, size) : NULL;
}

struct scenario *scenario_copy(const struct scenario *scn)
{
    struct scenario *copy = scenario_new();

    SIM_ASSERT(scn != NULL);
    *copy = *scn;
    copy->path = copy_str(scn->path);
    copy->pins = NULL;
    if (scn->pin_count) {
        copy->pins = sim_xmalloc(scn->pin_count * sizeof(*copy->pins));
        memcpy(copy->pins, scn->pins, scn->pin_count * sizeof(*copy->pins));
    }
    copy->steps = sim_xcalloc(scn->step_count, sizeof(*copy->steps));
    copy->step_room = scn->step_count;
    for (size_t i = 0; i < scn->step_count; i++) {
        copy->steps[i] = scn->steps[i];
        copy->steps[i].label = copy_str(scn->steps[i].label);
        copy->steps[i].host = copy_str(scn->steps[i].host);
        copy->steps[i].args = qvalue_copy(scn->steps[i].args);
    }
    return copy;
}

static bool str_equal(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool step_equal(const struct scn_step *a, const struct scn_step *b)
{
    return a->verb == b->verb && a->delay == b->delay && a->delay_ns == b->delay_ns && a->try_ == b->try_ &&
           str_equal(a->label, b->label) && str_equal(a->host, b->host) && qvalue_equal(a->args, b->args);
}

static bool pin_equal(const struct scn_pin *a, const struct scn_pin *b)
{
    return a->site == b->site && a->entity == b->entity && a->ordinal == b->ordinal && a->value == b->value;
}

/* Where it came from (path, line, column) does not matter. */
bool scenario_equal(const struct scenario *a, const struct scenario *b)
{
    SIM_ASSERT(a != NULL && b != NULL);
    if (a->version != b->version || a->seed != b->seed || a->schedule != b->schedule ||
        a->pct_depth != b->pct_depth || a->step_count != b->step_count || a->pin_count != b->pin_count) {
        return false;
    }
    for (size_t i = 0; i < a->pin_count; i++) {
        if (!pin_equal(&a->pins[i], &b->pins[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < a->step_count; i++) {
        if (!step_equal(&a->steps[i], &b->steps[i])) {
            return false;
        }
    }
    return true;
}

struct scn_step *scenario_add(struct scenario *scn, const struct scn_verb *verb)
{
    struct scn_step *step;

    SIM_ASSERT(verb != NULL);
    SIM_ASSERT(scn->step_count <= scn->step_room);
    if (scn->step_count == scn->step_room) {
        scn->step_room = MAX(scn->step_room * 2, 16u);
        scn->steps = sim_xrealloc(scn->steps, scn->step_room * sizeof(*scn->steps));
    }
    step = &scn->steps[scn->step_count++];
    *step = (struct scn_step){.verb = verb, .args = qvalue_dict()};
    return step;
}

void scenario_remove(struct scenario *scn, size_t index)
{
    SIM_ASSERT_LT(index, scn->step_count);
    step_clear(&scn->steps[index]);
    scn->step_count--;
    memmove(&scn->steps[index], &scn->steps[index + 1], (scn->step_count - index) * sizeof(*scn->steps));
}

/* --- labels ---------------------------------------------------------------------------------------------- */

const char *scn_step_label(const struct scenario *scn, size_t index, char *buf, size_t room)
{
    SIM_ASSERT_LT(index, scn->step_count);
    SIM_ASSERT(room >= 24);
    if (scn->steps[index].label) {
        snprintf(buf, room, "%s", scn->steps[index].label);
    } else {
        snprintf(buf, room, "%zu", index + 1);
    }
    return buf;
}

/* A label and the same number as an ordinal are the same entity: freezing changes nothing. */
uint64_t scn_step_entity(const struct scenario *scn, size_t index)
{
    char buf[24];

    return sim_hash_str(scn_step_label(scn, index, buf, sizeof(buf)));
}

static int compare_labels(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The labels written by hand, sorted. */
static const char **sorted_labels(const struct scenario *scn, size_t *count)
{
    const char **labels = sim_xmalloc(scn->step_count * sizeof(*labels));

    *count = 0;
    for (size_t i = 0; i < scn->step_count; i++) {
        if (scn->steps[i].label) {
            labels[(*count)++] = scn->steps[i].label;
        }
    }
    qsort(labels, *count, sizeof(*labels), compare_labels);
    return labels;
}

void scenario_label_all(struct scenario *scn)
{
    size_t count;
    const char **labels = sorted_labels(scn, &count);
    size_t width = 0;

    for (size_t i = 0; i < scn->step_count; i++) {
        char buf[32];
        const char *key = buf;

        if (scn->steps[i].label) {
            continue;
        }
        snprintf(buf, sizeof(buf), "%zu", i + 1);
        /* somebody else may bear that number as a label: labels must stay unique, so this one is drawn anew */
        for (width = 0; bsearch(&key, labels, count, sizeof(*labels), compare_labels) && width < 26; width++) {
            snprintf(buf, sizeof(buf), "%zu%c", i + 1, (char)('a' + width));
        }
        scn->steps[i].label = copy_str(buf);
    }
    free(labels);
}
