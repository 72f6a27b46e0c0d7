/*
 * power-cut: the power fails at a write, or at a time, whatever is going on then.
 *
 * The fault only says when. The runner takes the power away: the host dies at once, the media keep what is durable
 * and as much of the rest as `keep` says, and steps up to the next `powerloss` are left out.
 */
#include <string.h>

#include "faults/rule.h"
#include "sim/event.h"
#include "sim/sim.h"

struct power_cut {
    struct fault_rule rule;
    enum disk_keep keep;
    int64_t writes; /* asked of the media since it was armed */
    int64_t after_write;
    bool due; /* now */
    bool done;
};

static void cut(struct power_cut *c)
{
    SIM_ASSERT(!c->done);
    c->due = true;
    c->done = true;
    fault_rule_report(&c->rule, "power-cut", 0, 0, 0);
    sim_halt(c->rule.sim);
}

static void on_disk_submit(void *opaque, const struct sim_record *record)
{
    struct sim *sim = opaque;
    const struct disk_req *req = record->ref;
    struct fault_rule *rule = fault_rule_find(sim, &fault_power_cut);
    struct power_cut *c = rule ? container_of(rule, struct power_cut, rule) : NULL;

    if (!c || c->done || !req ||
        (req->op != SIM_OP_WRITE && req->op != SIM_OP_WRITE_ZEROES && req->op != SIM_OP_DISCARD &&
         req->op != SIM_OP_TRUNCATE)) {
        return;
    }
    (*fault_power_counter(sim))++;
    if (++c->writes == c->after_write) {
        cut(c);
    }
}

static void on_time(void *opaque)
{
    struct power_cut *c = opaque;

    if (!c->done) {
        cut(c);
    }
}

static enum disk_keep parse_keep(const char *text)
{
    return strcmp(text, "none") == 0 ? DISK_KEEP_NONE : strcmp(text, "all") == 0 ? DISK_KEEP_ALL : DISK_KEEP_DRAWN;
}

static bool arm(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp)
{
    bool first = fault_rule_find(sim, &fault_power_cut) == NULL;
    int64_t after_ns = fault_arg_int(&fault_power_cut, args, "after");
    struct fault_rule *rule = fault_rule_new(sim, &fault_power_cut, args, entity, sizeof(struct power_cut), errp);
    struct power_cut *c;

    if (!rule) {
        return false;
    }
    c = container_of(rule, struct power_cut, rule);
    c->keep = parse_keep(fault_arg_str(&fault_power_cut, args, "keep"));
    c->after_write = fault_arg_int(&fault_power_cut, args, "after-write");
    if (after_ns) {
        sim_timer_init(&rule->timer, on_time, c);
        sim_timer_arm(sim, &rule->timer, sim_now(sim) + after_ns, entity);
    }
    if (first) { /* media that are made later count, too */
        sim_subscribe(sim, EV_disk_submit, on_disk_submit, sim);
    }
    return true;
}

bool fault_take_power_cut(struct sim *sim, enum disk_keep *keep)
{
    struct fault_rule *rule = fault_rule_find(sim, &fault_power_cut);
    struct power_cut *c = rule ? container_of(rule, struct power_cut, rule) : NULL;

    if (!c || !c->due) {
        return false;
    }
    c->due = false;
    *keep = c->keep;
    return true;
}

static const char *const keeps[] = {"drawn", "none", "all", NULL};

static const struct fault_arg args_of_power_cut[] = {
    {"after-write", FAULT_INT, false, "0", "at this write, zero write, discard or truncate of any disk; 0: none",
     NULL},
    {"after", FAULT_TIME, false, "0", "at this time after the step; 0: never", NULL},
    {"keep", FAULT_STR, false, "drawn", "of the writes that are not durable: a drawn part, none or all", keeps},
    {.name = NULL},
};

const struct fault_class fault_power_cut = {
    .name = "power-cut",
    .doc = "the power fails in the middle of whatever is going on, up to the next powerloss",
    .example = "fault power-cut after-write=17 keep=none",
    .args = args_of_power_cut,
    .ends_host = true,
    .arm = arm,
};
