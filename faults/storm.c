/*
 * storm: commands at a job, at drawn times, whatever state it is in. One command at a time; refusals are fine. The
 * last one resumes the job, so that a storm leaves no pause behind.
 */
#include <string.h>

#include "faults/rule.h"
#include "monitor/monitor.h"

enum storm_kind {
    STORM_PAUSE,
    STORM_RESUME,
    STORM_CANCEL,
    STORM_SOFT_CANCEL,
    STORM_COMPLETE,
    STORM_SPEED,
    STORM_KINDS
};
static const char *const kind_names[STORM_KINDS] = {"pause",       "resume",   "cancel",
                                                    "soft-cancel", "complete", "speed"};

#define STORM_NAME_MAX 127

struct storm_rule {
    struct fault_rule rule;
    char job[STORM_NAME_MAX + 1];
    char host[STORM_NAME_MAX + 1]; /* "": the first */
    unsigned kinds;                /* a bit each */
    int64_t left;                  /* commands still to send, the final resume not counted */
    int64_t think_ns;
    bool ending; /* the final resume was sent */
    struct qmp_call call;
};

static struct host *host_of(const struct storm_rule *s)
{
    return s->host[0] ? host_find(s->rule.sim, s->host) : host_first(s->rule.sim);
}

static uint64_t draw(struct storm_rule *s, uint64_t n)
{
    return sim_draw(s->rule.sim, SITE_fault_storm, s->rule.entity, n);
}

static void call_clear(struct storm_rule *s)
{
    qvalue_free(s->call.args);
    qvalue_free(s->call.reply);
    error_free(s->call.err);
    s->call.args = s->call.reply = NULL;
    s->call.err = NULL;
}

static void think(struct storm_rule *s)
{
    struct sim *sim = s->rule.sim;
    uint64_t wait_ns = s->think_ns > 0 ? draw(s, (uint64_t)s->think_ns * 2) : 0;

    sim_timer_arm(sim, &s->rule.timer, sim_now(sim) + (int64_t)wait_ns, s->rule.entity);
}

static void answered(struct qmp_call *call)
{
    struct storm_rule *s = container_of(call, struct storm_rule, call);
    bool go_on = !s->rule.stopped && !s->ending;

    call_clear(s);
    if (go_on) {
        think(s);
    }
    fault_rule_idle(&s->rule); /* may free it */
}

static enum storm_kind draw_kind(struct storm_rule *s)
{
    uint64_t among = 0;
    uint64_t pick;
    unsigned kind = 0;

    for (unsigned i = 0; i < STORM_KINDS; i++) {
        among += s->kinds >> i & 1;
    }
    pick = draw(s, among);
    for (;; kind++) {
        if ((s->kinds >> kind & 1) && pick-- == 0) {
            return (enum storm_kind)kind;
        }
    }
}

static void send(struct storm_rule *s, struct host *host, enum storm_kind kind)
{
    static const char *const commands[STORM_KINDS] = {
        "block-job-pause",  "block-job-resume",   "block-job-cancel",
        "block-job-cancel", "block-job-complete", "block-job-set-speed",
    };
    static const int64_t speeds[] = {0, 64 * 1024, 1 << 20, 16 << 20, 256 << 20};
    struct qvalue *args = qvalue_dict();

    qdict_put(args, "device", qvalue_str(s->job));
    if (kind == STORM_CANCEL) {
        qdict_put(args, "force", qvalue_bool(true));
    } else if (kind == STORM_SPEED) {
        qdict_put(args, "speed", qvalue_int(speeds[draw(s, ARRAY_SIZE(speeds))]));
    }
    s->call = (struct qmp_call){.command = qmp_find_command(commands[kind]),
                                .args = args,
                                .entity = s->rule.entity,
                                .done = answered,
                                .host = host};
    SIM_ASSERT(s->call.command != NULL);
    s->rule.busy = true;
    s->rule.fired++;
    fault_rule_report(&s->rule, s->call.command->name, 0, 0, 0);
    monitor_submit(host, &s->call);
}

static void tick(void *opaque)
{
    struct storm_rule *s = opaque;
    struct host *host = host_of(s);

    SIM_ASSERT(!s->rule.busy);
    if (!host || !host->monitor) {
        return; /* the host is gone, and the storm with it */
    }
    if (s->left-- > 0) {
        send(s, host, draw_kind(s));
    } else {
        s->ending = true;
        send(s, host, STORM_RESUME);
    }
}

/* The command in hand will never be answered. */
static void host_gone(struct fault_rule *rule, struct host *host)
{
    struct storm_rule *s = container_of(rule, struct storm_rule, rule);

    if (rule->busy && s->call.host == host) {
        call_clear(s);
        s->ending = true;
        fault_rule_idle(rule);
    }
}

static bool parse_kinds(const char *list, unsigned *kinds)
{
    *kinds = 0;
    for (const char *at = list; *at;) {
        size_t length = strcspn(at, ",");
        unsigned i = 0;

        if (length == 3 && memcmp(at, "any", 3) == 0) {
            *kinds |= (1u << STORM_KINDS) - 1;
        } else {
            while (i < STORM_KINDS &&
                   !(strlen(kind_names[i]) == length && memcmp(kind_names[i], at, length) == 0)) {
                i++;
            }
            if (i == STORM_KINDS) {
                return false;
            }
            *kinds |= 1u << i;
        }
        at += length + (at[length] == ',');
    }
    return *kinds != 0;
}

static bool arm(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp)
{
    const char *job = fault_arg_str(&fault_storm, args, "job");
    const char *host = fault_arg_str(&fault_storm, args, "host");
    struct fault_rule *rule;
    struct storm_rule *s;
    unsigned kinds;

    if (!parse_kinds(fault_arg_str(&fault_storm, args, "kinds"), &kinds)) {
        error_setg(errp,
                   "Parameter 'kinds' expects any, or some of pause,resume,cancel,soft-cancel,complete,speed");
        return false;
    }
    if (strlen(job) > STORM_NAME_MAX || (host && strlen(host) > STORM_NAME_MAX)) {
        error_setg(errp, "Parameter 'job' expects at most %d bytes", STORM_NAME_MAX);
        return false;
    }
    rule = fault_rule_new(sim, &fault_storm, args, entity, sizeof(struct storm_rule), errp);
    s = container_of(rule, struct storm_rule, rule);
    memcpy(s->job, job, strlen(job) + 1);
    if (host) {
        memcpy(s->host, host, strlen(host) + 1);
    }
    s->kinds = kinds;
    s->left = fault_arg_int(&fault_storm, args, "ops");
    s->think_ns = fault_arg_int(&fault_storm, args, "think");
    s->think_ns = MIN(s->think_ns, 1000 * NS_PER_S);
    rule->host_gone = host_gone;
    sim_timer_init(&rule->timer, tick, s);
    think(s);
    return true;
}

static const struct fault_arg args_of_storm[] = {
    {"job", FAULT_STR, true, NULL, "the job's ID; it need not exist yet", NULL},
    {"host", FAULT_STR, false, NULL, "its host; default the first", NULL},
    {"ops", FAULT_INT, false, "10", "how many commands", NULL},
    {"think", FAULT_TIME, false, "1ms", "mean time between a reply and the next command", NULL},
    {"kinds", FAULT_STR, false, "pause,resume,speed",
     "any, or some of pause,resume,cancel,soft-cancel,complete,speed", NULL},
    {.name = NULL},
};

const struct fault_class fault_storm = {
    .name = "storm",
    .doc = "commands at a job at drawn times, whatever state it is in",
    .example = "fault storm job=m ops=20 think=2ms kinds=pause,resume,speed",
    .args = args_of_storm,
    .arm = arm,
};
