/* latency: requests of a medium take longer, by a fixed time. */
#include "faults/rule.h"

struct latency_rule {
    struct fault_rule rule;
    int64_t extra_ns;
};

static void before(struct disk_interposer *self, struct disk_req *req)
{
    struct latency_rule *l = container_of(self, struct latency_rule, rule.interposer);

    if (fault_rule_hits(&l->rule, req, 0)) {
        req->extra_latency_ns += l->extra_ns;
    }
}

static bool arm(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp)
{
    struct fault_rule *rule = fault_rule_new(sim, &fault_latency, args, entity, sizeof(struct latency_rule), errp);

    if (!rule) {
        return false;
    }
    container_of(rule, struct latency_rule, rule)->extra_ns = fault_arg_int(&fault_latency, args, "extra");
    fault_rule_interpose(rule, before, NULL);
    return true;
}

static const struct fault_arg args_of_latency[] = {
    FAULT_ARG_DISK,
    FAULT_ARG_OP("any"),
    {"extra", FAULT_TIME, false, "10ms", "time added to the latency", NULL},
    FAULT_ARG_OFFSET,
    FAULT_ARG_LENGTH,
    FAULT_ARG_NTH,
    FAULT_ARG_COUNT("1"),
    FAULT_ARG_PERMILLE,
    FAULT_ARG_ORIGIN,
    {.name = NULL},
};

const struct fault_class fault_latency = {
    .name = "latency",
    .doc = "requests of a medium take longer, by a fixed time",
    .example = "fault latency disk=src op=read extra=100ms nth=2 count=5",
    .args = args_of_latency,
    .arm = arm,
};
