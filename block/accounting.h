/*
 * What a device model counts of its requests (reference/block.md 4.4): kept by the backend, written by the device.
 *
 * A zero write is a write. A request is started when the device takes it up, and ends as done or failed; one that
 * the device itself refuses is invalid and was never started. A request that is held and issued again is started
 * again.
 */
#ifndef BLOCK_ACCOUNTING_H
#define BLOCK_ACCOUNTING_H

#include "sim/disk.h"

struct block_acct {
    uint64_t ops[SIM_OP_COUNT];
    uint64_t bytes[SIM_OP_COUNT]; /* of those that succeeded */
    uint64_t failed[SIM_OP_COUNT];
    uint64_t invalid[SIM_OP_COUNT];
    int64_t total_ns[SIM_OP_COUNT]; /* time that requests took */
    int64_t last_access_ns;         /* 0: none yet */
    bool ignore_failed;             /* failed ones neither take time nor end idleness */
    bool ignore_invalid;            /* invalid ones do not end idleness */
};

struct block_acct_cookie {
    enum sim_op op;
    uint64_t bytes;
    int64_t start_ns;
};

void block_acct_start(struct block_acct_cookie *cookie, enum sim_op op, uint64_t bytes, int64_t now_ns);
void block_acct_done(struct block_acct *acct, const struct block_acct_cookie *cookie, int64_t now_ns);
void block_acct_failed(struct block_acct *acct, const struct block_acct_cookie *cookie, int64_t now_ns);
void block_acct_invalid(struct block_acct *acct, enum sim_op op, int64_t now_ns);

#endif
