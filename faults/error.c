/* error: requests of a medium fail with an errno. */
#include "faults/rule.h"

struct error_rule {
    struct fault_rule rule;
    int error;
};

static void before(struct disk_interposer *self, struct disk_req *req)
{
    struct error_rule *e = container_of(self, struct error_rule, rule.interposer);

    if (req->ret == 0 && fault_rule_hits(&e->rule, req, -e->error)) {
        req->ret = -e->error;
    }
}

static bool arm(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp)
{
    struct fault_rule *rule = fault_rule_new(sim, &fault_error, args, entity, sizeof(struct error_rule), errp);
    struct error_rule *e;
    const struct qvalue *number = qdict_get(args, "errno");

    if (!rule) {
        return false;
    }
    e = container_of(rule, struct error_rule, rule);
    e->error = number && number->type == QVALUE_INT ? (int)number->integer
                                                    : sim_errno_parse(fault_arg_str(&fault_error, args, "errno"));
    if (fault_arg_bool(&fault_error, args, "sticky")) {
        rule->count = 0;
    }
    fault_rule_interpose(rule, before, NULL);
    return true;
}

static const struct fault_arg args_of_error[] = {
    FAULT_ARG_DISK,
    FAULT_ARG_OP("any"),
    {"errno", FAULT_ERRNO, false, "EIO", "what the request fails with", NULL},
    FAULT_ARG_OFFSET,
    FAULT_ARG_LENGTH,
    FAULT_ARG_NTH,
    FAULT_ARG_COUNT("1"),
    {"sticky", FAULT_BOOL, false, "off", "on: all from the nth on, whatever count says", NULL},
    FAULT_ARG_PERMILLE,
    FAULT_ARG_ORIGIN,
    {.name = NULL},
};

const struct fault_class fault_error = {
    .name = "error",
    .doc = "requests of a medium fail with an errno",
    .example = "fault error disk=dst op=write errno=ENOSPC nth=3 count=2",
    .args = args_of_error,
    .arm = arm,
};
