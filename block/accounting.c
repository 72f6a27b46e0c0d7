#include "block/accounting.h"

void block_acct_start(struct block_acct_cookie *cookie, enum sim_op op, uint64_t bytes, int64_t now_ns)
{
    SIM_ASSERT_LT(op, SIM_OP_COUNT);
    SIM_ASSERT_LE(0, now_ns);
    *cookie = (struct block_acct_cookie){.op = op, .bytes = bytes, .start_ns = now_ns};
}

static void took_time(struct block_acct *acct, const struct block_acct_cookie *cookie, int64_t now_ns)
{
    SIM_ASSERT_LE(cookie->start_ns, now_ns);
    acct->total_ns[cookie->op] += now_ns - cookie->start_ns;
    acct->last_access_ns = now_ns;
}

void block_acct_done(struct block_acct *acct, const struct block_acct_cookie *cookie, int64_t now_ns)
{
    acct->ops[cookie->op]++;
    acct->bytes[cookie->op] += cookie->bytes;
    took_time(acct, cookie, now_ns);
}

void block_acct_failed(struct block_acct *acct, const struct block_acct_cookie *cookie, int64_t now_ns)
{
    acct->failed[cookie->op]++;
    if (!acct->ignore_failed) {
        took_time(acct, cookie, now_ns);
    }
}

void block_acct_invalid(struct block_acct *acct, enum sim_op op, int64_t now_ns)
{
    SIM_ASSERT_LT(op, SIM_OP_COUNT);
    acct->invalid[op]++;
    if (!acct->ignore_invalid) {
        acct->last_access_ns = now_ns;
    }
}
