/* capacity: a medium runs full, and gets room again later. */
#include "faults/rule.h"

struct capacity_rule {
    struct fault_rule rule;
    int64_t capacity_bytes;
    int64_t relief_bytes;
    int64_t relief_ns; /* after the shortage began; 0: when faults stop */
    bool short_now;
};

static void next_step(void *opaque)
{
    struct capacity_rule *c = opaque;
    struct sim *sim = c->rule.sim;
    int64_t bytes = c->short_now ? c->relief_bytes : c->capacity_bytes;

    disk_set_capacity(c->rule.disk, bytes);
    fault_rule_report(&c->rule, c->short_now ? "relief" : "shortage", 0, bytes, 0);
    c->short_now = !c->short_now;
    if (c->short_now && c->relief_ns > 0) {
        sim_timer_arm(sim, &c->rule.timer, sim_now(sim) + c->relief_ns, c->rule.entity);
    }
}

static void stop(struct fault_rule *rule)
{
    struct capacity_rule *c = container_of(rule, struct capacity_rule, rule);

    if (c->short_now) {
        disk_set_capacity(rule->disk, c->relief_bytes);
    }
}

static bool arm(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp)
{
    struct fault_rule *rule =
        fault_rule_new(sim, &fault_capacity, args, entity, sizeof(struct capacity_rule), errp);
    struct capacity_rule *c;

    if (!rule) {
        return false;
    }
    c = container_of(rule, struct capacity_rule, rule);
    c->capacity_bytes = fault_arg_int(&fault_capacity, args, "capacity");
    c->relief_bytes = fault_arg_int(&fault_capacity, args, "relief");
    c->relief_ns = fault_arg_int(&fault_capacity, args, "relief-after");
    rule->stop = stop;
    sim_timer_init(&rule->timer, next_step, c);
    sim_timer_arm(sim, &rule->timer, sim_now(sim) + fault_arg_int(&fault_capacity, args, "after"), entity);
    return true;
}

static const struct fault_arg args_of_capacity[] = {
    FAULT_ARG_DISK,
    {"capacity", FAULT_SIZE, true, NULL, "what the medium can hold from then on, bytes", NULL},
    {"after", FAULT_TIME, false, "0", "time until the shortage begins", NULL},
    {"relief", FAULT_SIZE, false, "0", "capacity afterwards, bytes; 0: unlimited", NULL},
    {"relief-after", FAULT_TIME, false, "0", "how long the shortage lasts; 0: until faults stop", NULL},
    {.name = NULL},
};

const struct fault_class fault_capacity = {
    .name = "capacity",
    .doc = "a medium runs full, and gets room again later",
    .example = "fault capacity disk=dst capacity=20M after=5ms relief=1G relief-after=2s",
    .args = args_of_capacity,
    .arm = arm,
};
