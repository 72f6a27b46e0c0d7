/*
 * What steps define: disks, nodes, guests, jobs, bitmaps, in order of definition and found by hash.
 */
#include <stdlib.h>
#include <string.h>

#include "scenario/lang.h"
#include "sim/world.h"

#define DOMAINS (SCN_DOM_PATH + 1)

struct name_set {
    char **names; /* in order */
    size_t count;
    size_t room;
    uint32_t *slots;   /* index + 1; 0: free */
    size_t slot_count; /* power of two or 0 */
};

struct scn_names {
    struct name_set sets[DOMAINS];
};

struct scn_names *scn_names_new(void)
{
    struct scn_names *names = sim_xcalloc(1, sizeof(*names));

    scn_names_add(names, SCN_DOM_HOST, "h");
    return names;
}

void scn_names_free(struct scn_names *names)
{
    for (size_t d = 0; names && d < DOMAINS; d++) {
        struct name_set *set = &names->sets[d];

        for (size_t i = 0; i < set->count; i++) {
            free(set->names[i]);
        }
        free(set->names);
        free(set->slots);
    }
    free(names);
}

/* The slot that holds name, or the free one where it belongs. */
static size_t find_slot(const struct name_set *set, const char *name)
{
    size_t mask = set->slot_count - 1;
    size_t at = (size_t)sim_hash_str(name) & mask;

    SIM_ASSERT(is_power_of_2(set->slot_count));
    while (set->slots[at] && strcmp(set->names[set->slots[at] - 1], name) != 0) {
        at = (at + 1) & mask;
    }
    return at;
}

static void grow_slots(struct name_set *set)
{
    free(set->slots);
    set->slot_count = MAX(set->slot_count * 2, (size_t)16);
    set->slots = sim_xcalloc(set->slot_count, sizeof(*set->slots));
    for (size_t i = 0; i < set->count; i++) {
        set->slots[find_slot(set, set->names[i])] = (uint32_t)i + 1;
    }
}

bool scn_names_has(const struct scn_names *names, enum scn_domain domain, const char *name)
{
    const struct name_set *set = &names->sets[domain];

    return set->count && set->slots[find_slot(set, name)];
}

size_t scn_names_count(const struct scn_names *names, enum scn_domain domain)
{
    return names->sets[domain].count;
}

const char *scn_names_at(const struct scn_names *names, enum scn_domain domain, size_t index)
{
    SIM_ASSERT_LT(index, names->sets[domain].count);
    return names->sets[domain].names[index];
}

void scn_names_add(struct scn_names *names, enum scn_domain domain, const char *name)
{
    struct name_set *set = &names->sets[domain];
    size_t slot;

    if (set->count * 2 >= set->slot_count) {
        grow_slots(set);
    }
    slot = find_slot(set, name);
    if (set->slots[slot]) {
        return;
    }
    if (set->count == set->room) {
        set->room = MAX(set->room * 2, (size_t)8);
        set->names = sim_xrealloc(set->names, set->room * sizeof(*set->names));
    }
    set->names[set->count] = strdup(name);
    set->slots[slot] = (uint32_t)++set->count;
}

/* --- what a step defines --------------------------------------------------------------------------------- */

/* Node names anywhere in a tree of node options, lists of children too. */
static void define_nodes(struct scn_names *names, const struct qvalue *options)
{
    const struct qvalue *name = options->type == QVALUE_DICT ? qdict_get(options, "node-name") : NULL;

    if (name && name->type == QVALUE_STR) {
        scn_names_add(names, SCN_DOM_NODE, name->str.bytes);
    }
    for (size_t i = 0; i < options->seq.count; i++) {
        enum qvalue_type type = options->seq.items[i]->type;

        if (type == QVALUE_DICT || type == QVALUE_LIST) {
            define_nodes(names, options->seq.items[i]);
        }
    }
}

/* blockdev-create makes its disk. */
static void define_image(struct scn_names *names, const struct qvalue *options)
{
    const struct qvalue *disk = options && options->type == QVALUE_DICT ? qdict_get(options, "disk") : NULL;

    if (disk && disk->type == QVALUE_STR) {
        scn_names_add(names, SCN_DOM_DISK, disk->str.bytes);
    }
}

static bool define_nested(void *opaque, enum scn_domain domain, bool defines, const char *name)
{
    if (defines) {
        scn_names_add(opaque, domain, name);
    }
    return true;
}

static void define_args(struct scn_names *names, const struct scn_verb *verb, const struct qvalue *args)
{
    const struct qvalue *device;

    if (strcmp(verb->name, "blockdev-add") == 0) {
        define_nodes(names, args);
    } else if (strcmp(verb->name, "blockdev-create") == 0) {
        define_image(names, qdict_get(args, "options"));
    }
    for (const struct scn_arg_def *def = verb->args; def->name; def++) {
        const struct qvalue *value = def->defines ? qdict_get(args, def->name) : NULL;

        if (value && value->type == QVALUE_STR) {
            scn_names_add(names, def->domain, value->str.bytes);
        }
    }
    scn_each_nested_name(verb->name, args, define_nested, names);
    /* a job without a name gets that of its device */
    device = scn_verb_arg(verb, "job-id") && !qdict_get(args, "job-id") ? qdict_get(args, "device") : NULL;
    if (device && device->type == QVALUE_STR) {
        scn_names_add(names, SCN_DOM_JOB, device->str.bytes);
    }
}

void scn_step_define(struct scn_names *names, const struct scn_step *step)
{
    const struct scn_verb *verb = step->verb;
    const struct qvalue *args = step->args;

    if (verb->form == SCN_FORM_JSON) {
        const struct qvalue *object = qdict_get(args, "json");

        verb = scn_verb_find(qdict_get(object, "execute")->str.bytes);
        args = qdict_get(object, "arguments");
    }
    if (verb && args) {
        define_args(names, verb, args);
    }
}
