/*
 * Faults that no block layer survives: the medium says yes and does something else. Detect-only: they prove that
 * the checkers see it.
 */
#include "faults/rule.h"

/* --- lost-write ------------------------------------------------------------------------------------------- */

static void lose(struct disk_interposer *self, struct disk_req *req)
{
    struct fault_rule *rule = container_of(self, struct fault_rule, interposer);

    if (fault_rule_hits(rule, req, 0)) {
        req->lose = true;
    }
}

static bool arm_losing(struct sim *sim, const struct fault_class *fault, const struct qvalue *args, uint64_t entity,
                       enum sim_op op, Error **errp)
{
    struct fault_rule *rule = fault_rule_new(sim, fault, args, entity, sizeof(*rule), errp);

    if (!rule) {
        return false;
    }
    rule->op = (int)op;
    fault_rule_interpose(rule, NULL, lose);
    return true;
}

static bool arm_lost_write(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp)
{
    return arm_losing(sim, &fault_lost_write, args, entity, SIM_OP_WRITE, errp);
}

static const struct fault_arg args_of_lost_write[] = {
    FAULT_ARG_DISK,       FAULT_ARG_OFFSET, FAULT_ARG_LENGTH, FAULT_ARG_NTH,
    FAULT_ARG_COUNT("1"), FAULT_ARG_ORIGIN, {.name = NULL},
};

const struct fault_class fault_lost_write = {
    .name = "lost-write",
    .doc = "a medium reports a write as done and drops it",
    .example = "fault lost-write disk=dst nth=5",
    .args = args_of_lost_write,
    .detect_only = true,
    .arm = arm_lost_write,
};

/* --- lying-flush ------------------------------------------------------------------------------------------ */

static bool arm_lying_flush(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp)
{
    return arm_losing(sim, &fault_lying_flush, args, entity, SIM_OP_FLUSH, errp);
}

static const struct fault_arg args_of_lying_flush[] = {
    FAULT_ARG_DISK, FAULT_ARG_NTH, FAULT_ARG_COUNT("1"), FAULT_ARG_ORIGIN, {.name = NULL},
};

const struct fault_class fault_lying_flush = {
    .name = "lying-flush",
    .doc = "a medium reports a flush as done and makes nothing durable",
    .example = "fault lying-flush disk=dst count=0",
    .args = args_of_lying_flush,
    .detect_only = true,
    .arm = arm_lying_flush,
};

/* --- misdirected-write ------------------------------------------------------------------------------------ */

struct shift_rule {
    struct fault_rule rule;
    int64_t shift_bytes;
};

static void misdirect(struct disk_interposer *self, struct disk_req *req)
{
    struct shift_rule *s = container_of(self, struct shift_rule, rule.interposer);
    int64_t offset = req->offset + s->shift_bytes;

    if (offset + req->bytes > disk_length(req->disk)) {
        offset = MAX(0, req->offset - s->shift_bytes); /* it must land somewhere */
    }
    if (fault_rule_hits(&s->rule, req, 0)) {
        req->effect_offset = offset;
    }
}

static bool arm_misdirected(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp)
{
    struct fault_rule *rule =
        fault_rule_new(sim, &fault_misdirected_write, args, entity, sizeof(struct shift_rule), errp);

    if (!rule) {
        return false;
    }
    rule->op = SIM_OP_WRITE;
    container_of(rule, struct shift_rule, rule)->shift_bytes =
        ROUND_UP(MAX(1, fault_arg_int(&fault_misdirected_write, args, "shift")), SIM_PAGE_BYTES);
    fault_rule_interpose(rule, NULL, misdirect);
    return true;
}

static const struct fault_arg args_of_misdirected[] = {
    FAULT_ARG_DISK,   {"shift", FAULT_SIZE, false, "64k", "how far off the write lands, rounded up to 4k", NULL},
    FAULT_ARG_OFFSET, FAULT_ARG_LENGTH,
    FAULT_ARG_NTH,    FAULT_ARG_COUNT("1"),
    FAULT_ARG_ORIGIN, {.name = NULL},
};

const struct fault_class fault_misdirected_write = {
    .name = "misdirected-write",
    .doc = "a medium writes to another place than it was told",
    .example = "fault misdirected-write disk=dst shift=64k nth=2",
    .args = args_of_misdirected,
    .detect_only = true,
    .arm = arm_misdirected,
};

/* --- torn-write ------------------------------------------------------------------------------------------- */

static void tear(struct disk_interposer *self, struct disk_req *req)
{
    struct fault_rule *rule = container_of(self, struct fault_rule, interposer);

    if (req->bytes > SIM_SECTOR_BYTES && fault_rule_hits(rule, req, 0)) {
        req->effect_bytes = ROUND_DOWN(req->bytes / 2, SIM_SECTOR_BYTES);
    }
}

static bool arm_torn(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp)
{
    struct fault_rule *rule = fault_rule_new(sim, &fault_torn_write, args, entity, sizeof(*rule), errp);

    if (!rule) {
        return false;
    }
    rule->op = SIM_OP_WRITE;
    fault_rule_interpose(rule, NULL, tear);
    return true;
}

static const struct fault_arg args_of_torn[] = {
    FAULT_ARG_DISK,       FAULT_ARG_OFFSET, FAULT_ARG_LENGTH, FAULT_ARG_NTH,
    FAULT_ARG_COUNT("1"), FAULT_ARG_ORIGIN, {.name = NULL},
};

const struct fault_class fault_torn_write = {
    .name = "torn-write",
    .doc = "a medium reports a write as done and keeps only its first half",
    .example = "fault torn-write disk=dst nth=3",
    .args = args_of_torn,
    .detect_only = true,
    .arm = arm_torn,
};
