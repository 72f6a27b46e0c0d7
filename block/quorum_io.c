/*
 * Requests of quorum: the same for every child at the same time, then a vote (reference/block.md 7.3).
 *
 *     read: all children -> fewer answers than the threshold: failure
 *                        -> all answers equal: done
 *                        -> vote; winner below the threshold: failure; losers are reported, and rewritten if wanted
 *
 * Children take requests in an order of their own. Two overlapping writes could leave them different for good, a
 * read beside a write could find half of the children changed, call the others bad and put back the old content.
 * Therefore a request waits for overlapping ones unless both only read.
 */
#include <errno.h>

#include "block/quorum_int.h"

/* --- order -------------------------------------------------------------------------------------------------- */

static struct quorum_request *find_overlap(struct quorum *s, const struct quorum_request *self)
{
    struct quorum_request *r;

    LIST_FOREACH(r, &s->requests, list)
    {
        if ((r->op == SIM_OP_WRITE || self->op == SIM_OP_WRITE) &&
            ranges_overlap(r->offset, r->bytes, self->offset, self->bytes)) {
            return r;
        }
    }
    return NULL;
}

/* Whoever waits is not in the list yet: nobody waits for one that waits. */
static void request_begin(BlockDriverState *bs, struct quorum_request *self)
{
    struct quorum *s = bs->opaque;
    struct quorum_request *other;

    co_queue_init(bs->host->sim, &self->waiters);
    while ((other = find_overlap(s, self)) != NULL) {
        SIM_MARK(bs->host->sim, quorum_waited);
        co_queue_wait(&other->waiters);
    }
    LIST_INSERT_HEAD(&s->requests, self, list);
}

static void request_end(struct quorum_request *self)
{
    LIST_REMOVE(self, list);
    co_queue_restart_all(&self->waiters);
}

/* --- all children at the same time -----------------------------------------------------------------------------
 */

struct fan;

struct member {
    struct fan *fan;
    BdrvChild *child;
    bool asked;
    int ret;
    struct payload data; /* of a read */
    unsigned version;    /* first member with an equal answer */
    unsigned votes;      /* of that member: how many */
};

struct fan {
    BlockDriverState *bs;
    enum sim_op op; /* READ, WRITE or WRITE_ZEROES */
    int64_t offset;
    int64_t bytes;
    const struct payload *in;
    uint32_t flags;
    unsigned count;
    unsigned running;
    CoQueue waiter;
    struct member *member; /* host arena */
};

static void fan_init(struct fan *fan, BlockDriverState *bs, enum sim_op op, int64_t offset, int64_t bytes)
{
    const struct quorum *s = bs->opaque;

    *fan = (struct fan){.bs = bs, .op = op, .offset = offset, .bytes = bytes, .count = s->count};
    fan->member = SIM_NEW_N(bs->host->arena, quorum_fan, struct member, fan->count);
    co_queue_init(bs->host->sim, &fan->waiter);
    for (unsigned i = 0; i < fan->count; i++) {
        fan->member[i].fan = fan;
        fan->member[i].child = s->child[i];
        fan->member[i].asked = true;
        payload_init(bs->host->sim, &fan->member[i].data);
    }
}

static void fan_end(struct fan *fan)
{
    SIM_ASSERT_EQ(fan->running, 0);
    for (unsigned i = 0; i < fan->count; i++) {
        payload_clear(&fan->member[i].data);
    }
    SIM_FREE_N(fan->bs->host->arena, quorum_fan, fan->member, struct member, fan->count);
}

/* A child that did not take a write that made the node longer is shorter than the node, and may not be made longer
 * by users who may not resize. */
static bool child_can_take(const BdrvChild *child, int64_t end)
{
    return ROUND_UP(end, SIM_SECTOR_BYTES) <= child->bs->total_bytes || (child->perm & BLK_PERM_RESIZE);
}

static int member_run(struct member *m)
{
    const struct fan *fan = m->fan;

    if (fan->op == SIM_OP_READ) {
        return bdrv_co_preadv(m->child, fan->offset, fan->bytes, &m->data, fan->flags);
    }
    if (!child_can_take(m->child, fan->offset + fan->bytes)) {
        return -EIO;
    }
    return fan->op == SIM_OP_WRITE ? bdrv_co_pwritev(m->child, fan->offset, fan->bytes, fan->in, fan->flags)
                                   : bdrv_co_pwrite_zeroes(m->child, fan->offset, fan->bytes, fan->flags);
}

static void member_entry(void *opaque)
{
    struct member *m = opaque;
    struct fan *fan = m->fan;

    m->ret = member_run(m);
    SIM_ASSERT(fan->running > 0);
    if (--fan->running == 0) {
        co_queue_next(&fan->waiter);
    }
}

/* Gives the request to all members that are to be asked, and waits for all of them. */
static void fan_run(struct fan *fan)
{
    struct host *host = fan->bs->host;

    for (unsigned i = 0; i < fan->count; i++) {
        fan->running += fan->member[i].asked;
    }
    for (unsigned i = 0; i < fan->count; i++) {
        if (fan->member[i].asked) {
            coroutine_start(coroutine_create(host->sim, host, "quorum child", member_entry, &fan->member[i]));
        }
    }
    while (fan->running > 0) {
        co_queue_wait(&fan->waiter);
    }
}

static unsigned report_failures(const struct fan *fan, const char *type)
{
    unsigned failures = 0;

    for (unsigned i = 0; i < fan->count; i++) {
        const struct member *m = &fan->member[i];
        if (m->ret < 0) {
            quorum_report_bad(m->child, type, fan->offset, fan->bytes, m->ret);
            failures++;
        }
    }
    return failures;
}

/* --- votes ------------------------------------------------------------------------------------------------------
 */

static bool same_answer(const struct member *a, const struct member *b)
{
    if (a->ret != b->ret) {
        return false;
    }
    return a->ret < 0 || (payload_content_id(&a->data) == payload_content_id(&b->data) &&
                          payload_equal(&a->data, 0, &b->data, 0, a->data.size_bytes));
}

/* Counts the failed members' errors or the others' content. Of equally many votes, the version that was seen first
 * latest wins. NULL: nobody may vote. */
static struct member *vote(struct fan *fan, bool errors)
{
    struct member *winner = NULL;

    for (unsigned i = 0; i < fan->count; i++) {
        struct member *m = &fan->member[i];
        m->votes = 0;
        if ((m->ret < 0) != errors) {
            continue;
        }
        m->version = i;
        for (unsigned k = 0; k < i; k++) {
            struct member *other = &fan->member[k];
            if ((other->ret < 0) == errors && other->version == k && same_answer(other, m)) {
                m->version = k;
                break;
            }
        }
        fan->member[m->version].votes++;
    }
    for (unsigned i = 0; i < fan->count; i++) {
        struct member *m = &fan->member[i];
        if (m->votes > 0 && (!winner || m->votes >= winner->votes)) {
            winner = m;
        }
    }
    return winner;
}

static int most_common_errno(struct fan *fan)
{
    const struct member *winner = vote(fan, true);

    SIM_ASSERT(winner != NULL && winner->ret < 0);
    return winner->ret;
}

/* --- reads -------------------------------------------------------------------------------------------------- */

/* blkverify mode: two children that both answered, and differently. */
static int verify_mismatch(struct fan *fan)
{
    BlockDriverState *bs = fan->bs;
    const struct payload *first = &fan->member[0].data;
    int64_t at = fan->offset + payload_first_difference(first, &fan->member[1].data, fan->bytes);

    SIM_ASSERT_EQ(fan->count, 2);
    SIM_EMIT(bs->host->sim, bs->host, blkverify_mismatch, bs, SIM_P(bs->name), SIM_OP_READ, (uint64_t)fan->offset,
             (uint64_t)fan->bytes, (uint64_t)at, 0, 0);
    return -EIO;
}

/* Gives the losers what the winner has. Whether they take it is not the reader's concern. */
static void rewrite_losers(struct fan *read, const struct member *winner)
{
    struct fan write;
    unsigned losers = 0;

    fan_init(&write, read->bs, SIM_OP_WRITE, read->offset, read->bytes);
    write.in = &winner->data;
    for (unsigned i = 0; i < read->count; i++) {
        const struct member *m = &read->member[i];
        write.member[i].asked = m->ret == 0 && &read->member[m->version] != winner;
        losers += write.member[i].asked;
    }
    SIM_ASSERT(losers > 0);
    SIM_MARK(read->bs->host->sim, quorum_rewritten);
    fan_run(&write);
    fan_end(&write);
}

/* There are answers, and not all are the same. */
static int settle_difference(struct fan *fan, const struct member *winner)
{
    const struct quorum *s = fan->bs->opaque;

    if (s->verify) {
        return verify_mismatch(fan);
    }
    if (winner->votes < s->threshold) {
        quorum_report_failure(fan->bs, fan->offset, fan->bytes);
        return -EIO;
    }
    for (unsigned i = 0; i < fan->count; i++) {
        const struct member *m = &fan->member[i];
        if (m->ret == 0 && &fan->member[m->version] != winner) {
            quorum_report_bad(m->child, "read", fan->offset, fan->bytes, 0);
        }
    }
    if (s->rewrite && !bdrv_is_inactive(fan->bs)) {
        rewrite_losers(fan, winner);
    }
    return 0;
}

static int read_quorum(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    const struct quorum *s = bs->opaque;
    struct fan fan;
    int ret = 0;

    fan_init(&fan, bs, SIM_OP_READ, offset, bytes);
    fan.flags = flags;
    fan_run(&fan);
    unsigned answers = fan.count - report_failures(&fan, "read");
    const struct member *winner = answers > 0 ? vote(&fan, false) : NULL;
    if (answers < s->threshold) {
        quorum_report_failure(bs, offset, bytes);
        ret = most_common_errno(&fan);
    } else if (winner->votes < answers) {
        ret = settle_difference(&fan, winner);
    }
    if (ret == 0) {
        payload_append(out, &winner->data, 0, bytes);
    }
    fan_end(&fan);
    return ret;
}

/* One after the other until one answers. */
static int read_fifo(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    const struct quorum *s = bs->opaque;
    int ret = -EIO;

    for (unsigned i = 0; i < s->count && ret < 0; i++) {
        ret = bdrv_co_preadv(s->child[i], offset, bytes, out, flags);
        if (ret < 0) {
            quorum_report_bad(s->child[i], "read", offset, bytes, ret);
        }
    }
    return ret;
}

int quorum_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    const struct quorum *s = bs->opaque;
    struct quorum_request r = {.op = SIM_OP_READ, .offset = offset, .bytes = bytes};

    request_begin(bs, &r);
    int ret = s->fifo ? read_fifo(bs, offset, bytes, out, flags) : read_quorum(bs, offset, bytes, out, flags);
    request_end(&r);
    return ret;
}

/* --- writes, flush ------------------------------------------------------------------------------------------ */

static int write_all(BlockDriverState *bs, enum sim_op op, int64_t offset, int64_t bytes, const struct payload *in,
                     uint32_t flags)
{
    const struct quorum *s = bs->opaque;
    struct quorum_request r = {.op = SIM_OP_WRITE, .offset = offset, .bytes = bytes};
    struct fan fan;
    int ret = 0;

    request_begin(bs, &r);
    fan_init(&fan, bs, op, offset, bytes);
    fan.in = in;
    fan.flags = flags;
    fan_run(&fan);
    if (fan.count - report_failures(&fan, "write") < s->threshold) {
        quorum_report_failure(bs, offset, bytes);
        ret = most_common_errno(&fan);
    }
    fan_end(&fan);
    request_end(&r);
    return ret;
}

int quorum_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in, uint32_t flags)
{
    return write_all(bs, SIM_OP_WRITE, offset, bytes, in, flags);
}

int quorum_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    return write_all(bs, SIM_OP_WRITE_ZEROES, offset, bytes, NULL, flags & ~(uint32_t)BDRV_REQ_ZERO_WRITE);
}

int quorum_flush(BlockDriverState *bs)
{
    const struct quorum *s = bs->opaque;
    struct fan fan;
    int ret = 0;

    fan_init(&fan, bs, SIM_OP_FLUSH, 0, 0); /* never run: it only counts votes */
    unsigned successes = fan.count;
    for (unsigned i = 0; i < fan.count; i++) {
        fan.member[i].ret = bdrv_co_flush(fan.member[i].child->bs);
    }
    successes -= report_failures(&fan, "flush");
    if (successes < s->threshold) {
        ret = most_common_errno(&fan);
    }
    fan_end(&fan);
    return ret;
}

/* --- the content now ---------------------------------------------------------------------------------------- */

/* One vote on bytes that a read could have asked for together. */
static int peek_vote(const BlockDriverState *bs, struct fan *fan, int64_t offset, int64_t bytes,
                     struct payload *out)
{
    const struct quorum *s = bs->opaque;

    for (unsigned i = 0; i < fan->count; i++) {
        struct member *m = &fan->member[i];
        payload_clear(&m->data);
        m->ret = bdrv_peek(m->child->bs, offset, bytes, &m->data);
        if (m->ret < 0) {
            return m->ret;
        }
    }
    const struct member *winner = vote(fan, false);
    if (winner->votes < fan->count && winner->votes < s->threshold) {
        return -EIO;
    }
    payload_append(out, &winner->data, 0, bytes);
    return winner->votes < fan->count ? 1 : 0;
}

int quorum_peek(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    const struct quorum *s = bs->opaque;
    int64_t before = out->size_bytes;
    struct fan fan;

    if (s->fifo) {
        return bdrv_peek(s->child[0]->bs, offset, bytes, out);
    }
    fan_init(&fan, (BlockDriverState *)bs, SIM_OP_READ, offset, bytes);
    int ret = peek_vote(bs, &fan, offset, bytes, out);
    if (ret != 0 && ret != -ENOTSUP) {
        /* Different children may be wrong about different sectors. */
        payload_truncate(out, before);
        ret = 0;
        for (int64_t pos = offset; pos < offset + bytes && ret >= 0;) {
            int64_t num = MIN(ROUND_DOWN(pos, SIM_SECTOR_BYTES) + SIM_SECTOR_BYTES, offset + bytes) - pos;
            ret = peek_vote(bs, &fan, pos, num, out);
            pos += num;
        }
    }
    if (ret < 0) {
        payload_truncate(out, before);
    }
    fan_end(&fan);
    return MIN(ret, 0);
}
