/* bit-rot: a bit of a medium turns over, without any request. Detect-only. */
#include <string.h>

#include "faults/rule.h"

static void rot(void *opaque)
{
    struct fault_rule *rule = opaque;
    uint8_t bytes[SIM_SECTOR_BYTES];
    struct payload sector;
    int64_t offset = ROUND_DOWN(rule->offset, SIM_SECTOR_BYTES);

    if (offset + SIM_SECTOR_BYTES > disk_length(rule->disk)) {
        return;
    }
    payload_init(rule->sim, &sector);
    disk_peek(rule->disk, offset, SIM_SECTOR_BYTES, &sector);
    payload_read_bytes(&sector, 0, bytes, SIM_SECTOR_BYTES);
    bytes[rule->offset - offset] ^= 0x10;
    payload_clear(&sector);
    payload_append_bytes(&sector, bytes, SIM_SECTOR_BYTES);
    disk_poke(rule->disk, offset, &sector);
    payload_clear(&sector);
    fault_rule_report(rule, "rot", rule->offset, 1, 0);
}

static bool arm(struct sim *sim, const struct qvalue *args, uint64_t entity, Error **errp)
{
    struct fault_rule *rule = fault_rule_new(sim, &fault_bit_rot, args, entity, sizeof(*rule), errp);

    if (!rule) {
        return false;
    }
    sim_timer_init(&rule->timer, rot, rule);
    sim_timer_arm(sim, &rule->timer, sim_now(sim) + fault_arg_int(&fault_bit_rot, args, "after"), entity);
    return true;
}

static const struct fault_arg args_of_bit_rot[] = {
    FAULT_ARG_DISK,
    {"offset", FAULT_SIZE, true, NULL, "the byte that changes", NULL},
    {"after", FAULT_TIME, false, "0", "time until it does", NULL},
    {.name = NULL},
};

const struct fault_class fault_bit_rot = {
    .name = "bit-rot",
    .doc = "a bit of a medium turns over, without any request",
    .example = "fault bit-rot disk=src offset=1M after=10ms",
    .args = args_of_bit_rot,
    .detect_only = true,
    .arm = arm,
};
