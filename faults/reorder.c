/*
 * reorder: requests of a medium are served and answered in another order than they came, whatever the schedule.
 * Each takes 0, 1, 3 or 15 base latencies longer, drawn by content and not by policy.
 */
#include "faults/rule.h"

static void before(struct disk_interposer *self, struct disk_req *req)
{
    static const int64_t extra[] = {0, 1, 3, 15};
    struct fault_rule *rule = container_of(self, struct fault_rule, interposer);
    int64_t base_ns = MAX(disk_get_config(rule->disk)->latency_ns, NS_PER_US);
    uint64_t draw;

    if (rule->stopped || (rule->count > 0 && rule->fired >= rule->count)) {
        return;
    }
    draw = sim_draw(rule->sim, SITE_fault_reorder, sim_mix2(rule->entity, req->entity), ARRAY_SIZE(extra));
    if (draw > 0 && fault_rule_hits(rule, req, 0)) {
        req->extra_latency_ns += extra[draw] * base_ns;
    }
}

static bool arm(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp)
{
    struct fault_rule *rule = fault_rule_new(sim, &fault_reorder, args, entity, sizeof(*rule), errp);

    if (!rule) {
        return false;
    }
    fault_rule_interpose(rule, before, NULL);
    return true;
}

static const struct fault_arg args_of_reorder[] = {
    FAULT_ARG_DISK,
    FAULT_ARG_OP("any"),
    FAULT_ARG_COUNT("0"),
    {.name = NULL},
};

const struct fault_class fault_reorder = {
    .name = "reorder",
    .doc = "requests of a medium overtake each other under every schedule",
    .example = "fault reorder disk=dst op=write",
    .args = args_of_reorder,
    .arm = arm,
};
