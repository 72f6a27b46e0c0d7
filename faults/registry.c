/*
 * The table of faults, their arguments, and the rules armed in a world.
 */
#include <stdlib.h>
#include <string.h>

#include "faults/rule.h"

static const struct fault_class *const classes[] = {
    &fault_error,      &fault_latency,     &fault_stuck,      &fault_capacity,
    &fault_storm,      &fault_reorder,     &fault_lost_write, &fault_misdirected_write,
    &fault_torn_write, &fault_lying_flush, &fault_bit_rot,    &fault_power_cut,
};

const char *const fault_origins[] = {"any", "guest", "job", "main", NULL};

const struct fault_class *fault_at(size_t index)
{
    return index < ARRAY_SIZE(classes) ? classes[index] : NULL;
}

const struct fault_class *fault_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
        if (strcmp(classes[i]->name, name) == 0) {
            return classes[i];
        }
    }
    return NULL;
}

/* --- arguments -------------------------------------------------------------------------------------------- */

static const struct fault_arg *arg_find(const struct fault_class *fault, const char *name)
{
    for (const struct fault_arg *arg = fault->args; arg->name; arg++) {
        if (strcmp(arg->name, name) == 0) {
            return arg;
        }
    }
    return NULL;
}

static bool parse_int(const char *text, int64_t *out)
{
    char *end;

    if (*text < '0' || *text > '9') {
        return false;
    }
    *out = strtoll(text, &end, 10);
    return *end == '\0' && *out < INT64_MAX;
}

static bool parse_bool(const char *text, int64_t *out)
{
    *out = strcmp(text, "on") == 0 || strcmp(text, "true") == 0;
    return *out || strcmp(text, "off") == 0 || strcmp(text, "false") == 0;
}

/* How each type reads: its parser (NULL: stays text), its greatest value, and what a message says of it. */
static const struct {
    bool (*parse)(const char *text, int64_t *out);
    int64_t max;
    const char *expected;
} types[] = {
    [FAULT_STR] = {NULL, 0, "a text"},
    [FAULT_INT] = {parse_int, INT64_MAX, "a non-negative integer"},
    [FAULT_SIZE] = {sim_parse_size, INT64_MAX, "a size in bytes (k, M, G, T)"},
    [FAULT_TIME] = {sim_parse_time, INT64_MAX, "a time (ns, us, ms, s)"},
    [FAULT_BOOL] = {parse_bool, 1, "on or off"},
    [FAULT_ERRNO] = {NULL, 0, "an errno like EIO"},
    [FAULT_OP] = {NULL, 0, "an operation like write, or any"},
    [FAULT_DISK] = {NULL, 0, "the name of a disk"},
    [FAULT_PERMILLE] = {parse_int, 1000, "an integer from 0 to 1000"},
};

static bool in_choices(const struct fault_arg *arg, const char *text)
{
    const char *const *choice = arg->choices;

    while (choice && *choice && strcmp(*choice, text) != 0) {
        choice++;
    }
    return !choice || *choice;
}

static bool text_fits(const struct fault_arg *arg, const char *text)
{
    enum sim_op op;

    switch (arg->type) {
    case FAULT_ERRNO:
        return sim_errno_parse(text) > 0;
    case FAULT_OP:
        return strcmp(text, "any") == 0 || sim_op_parse(text, &op);
    default:
        return *text && in_choices(arg, text);
    }
}

static bool check_value(const struct fault_arg *arg, struct qvalue *value)
{
    bool (*parse)(const char *text, int64_t *out) = types[arg->type].parse;
    int64_t number;

    if (!parse) {
        if (value->type == QVALUE_INT && arg->type == FAULT_ERRNO) {
            return value->integer > 0 && value->integer < 4096;
        }
        return value->type == QVALUE_STR && text_fits(arg, value->str.bytes);
    }
    if (value->type == QVALUE_BOOL) {
        return arg->type == FAULT_BOOL;
    }
    if (value->type == QVALUE_STR) {
        if (!parse(value->str.bytes, &number)) {
            return false;
        }
        free(value->str.bytes);
        value->type = arg->type == FAULT_BOOL ? QVALUE_BOOL : QVALUE_INT;
        if (arg->type == FAULT_BOOL) {
            value->boolean = number != 0;
            return true;
        }
        value->integer = number;
    }
    return value->type == QVALUE_INT && arg->type != FAULT_BOOL && value->integer >= 0 &&
           value->integer <= types[arg->type].max;
}

bool fault_check_args(const struct fault_class *fault, struct qvalue *args, Error **errp)
{
    SIM_ASSERT_EQ(args->type, QVALUE_DICT);
    for (size_t i = 0; i < args->seq.count; i++) {
        const struct fault_arg *arg = arg_find(fault, args->seq.keys[i]);

        if (!arg) {
            error_setg(errp, "Parameter '%s' is unexpected", args->seq.keys[i]);
            return false;
        }
        if (!check_value(arg, args->seq.items[i])) {
            error_setg(errp, "Parameter '%s' expects %s", arg->name, types[arg->type].expected);
            return false;
        }
    }
    for (const struct fault_arg *arg = fault->args; arg->name; arg++) {
        if (arg->required && !qdict_get(args, arg->name)) {
            error_setg(errp, "Parameter '%s' is missing", arg->name);
            return false;
        }
    }
    return true;
}

int64_t fault_arg_int(const struct fault_class *fault, const struct qvalue *args, const char *name)
{
    const struct fault_arg *arg = arg_find(fault, name);
    const struct qvalue *value = qdict_get(args, name);
    int64_t number = 0;

    SIM_ASSERT(arg && types[arg->type].parse);
    if (value) {
        return value->type == QVALUE_BOOL ? value->boolean : value->integer;
    }
    SIM_ASSERT(!arg->def || types[arg->type].parse(arg->def, &number));
    return number;
}

bool fault_arg_bool(const struct fault_class *fault, const struct qvalue *args, const char *name)
{
    return fault_arg_int(fault, args, name) != 0;
}

const char *fault_arg_str(const struct fault_class *fault, const struct qvalue *args, const char *name)
{
    const struct fault_arg *arg = arg_find(fault, name);
    const struct qvalue *value = qdict_get(args, name);

    SIM_ASSERT(arg && !types[arg->type].parse);
    return value && value->type == QVALUE_STR ? value->str.bytes : arg->def;
}

/* --- the rules of a world --------------------------------------------------------------------------------- */

struct fault_state {
    struct fault_rule *rules; /* newest first; memory of the world's arena */
    uint64_t fired;
    uint64_t power_writes;
};

static void state_reset(struct sim *sim, void *opaque)
{
    struct fault_state *state = opaque;

    *state = (struct fault_state){0};
}

static void state_host_crash(struct sim *sim, void *opaque, struct host *host)
{
    struct fault_state *state = opaque;
    struct fault_rule *next;

    for (struct fault_rule *rule = state->rules; rule; rule = next) {
        next = rule->next;
        if (rule->host_gone) {
            rule->host_gone(rule, host);
        }
    }
}

static void state_destroy(struct sim *sim, void *opaque)
{
    free(opaque);
}

static struct fault_state *state_of(struct sim *sim)
{
    static const struct sim_ext_ops ops = {state_reset, state_host_crash, state_destroy};
    struct fault_state *state = sim_ext(sim, SIM_EXT_FAULTS);

    if (!state) {
        state = calloc(1, sizeof(*state));
        SIM_ASSERT(state != NULL);
        sim_ext_set(sim, SIM_EXT_FAULTS, &ops, state);
    }
    return state;
}

uint64_t *fault_power_counter(struct sim *sim)
{
    return &state_of(sim)->power_writes;
}

uint64_t fault_power_writes(struct sim *sim)
{
    return state_of(sim)->power_writes;
}

struct fault_rule *fault_rule_find(struct sim *sim, const struct fault_class *fault)
{
    struct fault_rule *rule = state_of(sim)->rules;

    while (rule && rule->klass != fault) {
        rule = rule->next;
    }
    return rule;
}

static void take_common(struct fault_rule *rule, const struct qvalue *args)
{
    const struct fault_class *fault = rule->klass;
    const char *text;
    enum sim_op op;

    rule->op = rule->origin = -1;
    rule->nth = 1;
    rule->permille = 1000;
    if (arg_find(fault, "op") && sim_op_parse(fault_arg_str(fault, args, "op"), &op)) {
        rule->op = (int)op;
    }
    if (arg_find(fault, "origin")) {
        text = fault_arg_str(fault, args, "origin");
        rule->origin = strcmp(text, "guest") == 0  ? SIM_ORIGIN_GUEST
                       : strcmp(text, "job") == 0  ? SIM_ORIGIN_JOB
                       : strcmp(text, "main") == 0 ? SIM_ORIGIN_MAIN
                                                   : -1;
    }
    rule->offset = arg_find(fault, "offset") ? fault_arg_int(fault, args, "offset") : 0;
    rule->length = arg_find(fault, "length") ? fault_arg_int(fault, args, "length") : 0;
    rule->nth = arg_find(fault, "nth") ? MAX(1, fault_arg_int(fault, args, "nth")) : 1;
    rule->count = arg_find(fault, "count") ? fault_arg_int(fault, args, "count") : 0;
    rule->permille = arg_find(fault, "permille") ? fault_arg_int(fault, args, "permille") : 1000;
}

/* Faults that act by time put their own in its place. */
static void never(void *opaque)
{
    SIM_ASSERT(!opaque);
}

struct fault_rule *fault_rule_new(struct sim *sim, const struct fault_class *fault, const struct qvalue *args,
                                  uint64_t entity, size_t size_bytes, Error **errp)
{
    struct fault_state *state = state_of(sim);
    const char *name = arg_find(fault, "disk") ? fault_arg_str(fault, args, "disk") : NULL;
    struct disk *disk = name ? disk_find(sim, name) : NULL;
    struct fault_rule *rule;

    SIM_ASSERT(size_bytes >= sizeof(*rule));
    if (name && !disk) {
        error_setg(errp, "no disk '%s'", name);
        return NULL;
    }
    rule = (struct fault_rule *)sim_alloc(sim_arena(sim), SIM_TYPE_fault_rule, size_bytes);
    rule->sim = sim;
    rule->klass = fault;
    rule->size_bytes = size_bytes;
    rule->disk = disk;
    rule->entity = entity;
    take_common(rule, args);
    sim_timer_init(&rule->timer, never, rule);
    rule->next = state->rules;
    state->rules = rule;
    SIM_EMIT(sim, NULL, fault_armed, rule, SIM_P(fault->name), SIM_P(disk ? disk_name(disk) : NULL));
    return rule;
}

void fault_rule_interpose(struct fault_rule *rule,
                          void (*before)(struct disk_interposer *self, struct disk_req *req),
                          void (*at_effect)(struct disk_interposer *self, struct disk_req *req))
{
    SIM_ASSERT(rule->disk && !rule->interposed);
    rule->interposer.before = before;
    rule->interposer.at_effect = at_effect;
    rule->interposed = true;
    disk_add_interposer(rule->disk, &rule->interposer);
}

static bool means(const struct fault_rule *rule, const struct disk_req *req)
{
    return (rule->op < 0 || rule->op == (int)req->op) &&
           (rule->origin < 0 || rule->origin == (int)req->origin.kind) &&
           ((rule->offset == 0 && rule->length == 0) ||
            ranges_overlap(rule->offset, rule->length ? rule->length : INT64_MAX - rule->offset, req->offset,
                           req->bytes));
}

void fault_rule_report(struct fault_rule *rule, const char *what, int64_t offset, int64_t bytes, int ret)
{
    state_of(rule->sim)->fired++;
    SIM_EMIT(rule->sim, NULL, fault_fired, rule, SIM_P(rule->klass->name),
             SIM_P(rule->disk ? disk_name(rule->disk) : NULL), SIM_P(what), (uint64_t)offset, (uint64_t)bytes,
             (uint64_t)(int64_t)ret);
}

bool fault_rule_hits(struct fault_rule *rule, const struct disk_req *req, int ret)
{
    if (rule->stopped || (rule->count > 0 && rule->fired >= rule->count) || !means(rule, req) ||
        ++rule->seen < rule->nth) {
        return false;
    }
    if (rule->permille < 1000 &&
        (int64_t)sim_choose(rule->sim, SITE_fault_probability, sim_mix2(rule->entity, req->entity), 1000) <
            1000 - rule->permille) {
        return false; /* 0, the calm answer, is no fault */
    }
    rule->fired++;
    fault_rule_report(rule, sim_op_name(req->op), req->offset, req->bytes, ret);
    return true;
}

static void rule_free(struct fault_rule *rule)
{
    sim_free(sim_arena(rule->sim), SIM_TYPE_fault_rule, rule, rule->size_bytes);
}

void fault_rule_idle(struct fault_rule *rule)
{
    SIM_ASSERT(rule->busy);
    rule->busy = false;
    if (rule->stopped) {
        rule_free(rule);
    }
}

bool fault_arm(struct sim *sim, const struct fault_class *fault, struct qvalue *args, uint64_t entity, Error **errp)
{
    return fault_check_args(fault, args, errp) && fault->arm(sim, args, entity, errp);
}

uint64_t fault_fired(struct sim *sim)
{
    return state_of(sim)->fired;
}

void fault_stop_all(struct sim *sim)
{
    struct fault_state *state = state_of(sim);

    while (state->rules) {
        struct fault_rule *rule = state->rules;

        state->rules = rule->next;
        rule->stopped = true;
        if (rule->interposed) {
            disk_remove_interposer(rule->disk, &rule->interposer);
        }
        sim_timer_disarm(sim, &rule->timer);
        if (rule->stop) {
            rule->stop(rule);
        }
        if (!rule->busy) {
            rule_free(rule);
        }
    }
    for (struct disk *disk = disk_first(sim); disk; disk = disk_next(disk)) {
        disk_release_stuck(disk);
    }
}
