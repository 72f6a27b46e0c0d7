/* stuck: requests of a medium hang until a time has passed, or until faults stop. */
#include "faults/rule.h"

struct stuck_rule {
    struct fault_rule rule;
    int64_t release_ns; /* 0: when faults stop */
};

static void release(void *opaque)
{
    struct fault_rule *rule = opaque;

    disk_release_stuck(rule->disk);
}

static void before(struct disk_interposer *self, struct disk_req *req)
{
    struct stuck_rule *s = container_of(self, struct stuck_rule, rule.interposer);

    if (!fault_rule_hits(&s->rule, req, 0)) {
        return;
    }
    req->stuck = true;
    if (s->release_ns > 0) { /* the last one caught decides: all are let go together */
        sim_timer_arm(s->rule.sim, &s->rule.timer, sim_now(s->rule.sim) + s->release_ns, s->rule.entity);
    }
}

static bool arm(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp)
{
    struct fault_rule *rule = fault_rule_new(sim, &fault_stuck, args, entity, sizeof(struct stuck_rule), errp);

    if (!rule) {
        return false;
    }
    container_of(rule, struct stuck_rule, rule)->release_ns = fault_arg_int(&fault_stuck, args, "release-after");
    sim_timer_init(&rule->timer, release, rule);
    fault_rule_interpose(rule, before, NULL);
    return true;
}

static const struct fault_arg args_of_stuck[] = {
    FAULT_ARG_DISK,
    FAULT_ARG_OP("any"),
    {"release-after", FAULT_TIME, false, "0", "time until all are let go; 0: when faults stop", NULL},
    FAULT_ARG_OFFSET,
    FAULT_ARG_LENGTH,
    FAULT_ARG_NTH,
    FAULT_ARG_COUNT("1"),
    FAULT_ARG_ORIGIN,
    {.name = NULL},
};

const struct fault_class fault_stuck = {
    .name = "stuck",
    .doc = "requests of a medium hang until a time has passed, or until faults stop",
    .example = "fault stuck disk=dst op=write nth=4 release-after=2s",
    .args = args_of_stuck,
    .arm = arm,
};
