/*
 * Protects throttle groups against their own cleverness: random members, limits, drains and reconfigurations, with
 * the time of every request compared to a slow model that keeps a list of all requests and adds it up anew for each
 * question; over whole windows nothing is above the rate, and nobody who waits is left waiting.
 */
#include "tests/block/blktest.h"

#include "block/throttle_group.h"

#define MEMBERS 3
#define STEPS 120
#define ROUNDS 60

typedef __int128 wide;

struct req {
    struct run *run;
    unsigned member;
    enum throttle_direction direction;
    int64_t bytes;
    int64_t submit_ns, done_ns, expected_ns; /* -1: not yet */
    bool bypassed;
};

struct run {
    struct world *w;
    uint64_t seed, draws;
    ThrottleGroupMember member[MEMBERS];
    struct req req[STEPS];
    unsigned count;
    bool one_way; /* only limits of a direction, no drains: windows can be checked */
    /* the model */
    ThrottleConfig cfg;
    int64_t cfg_ns;
    unsigned let_go[STEPS]; /* in this order, since the configuration */
    unsigned let_go_count;
    bool drained[MEMBERS];
    unsigned waiting[MEMBERS][THROTTLE_DIRECTIONS][STEPS], waiting_count[MEMBERS][THROTTLE_DIRECTIONS];
    int64_t timer_ns[THROTTLE_DIRECTIONS]; /* -1: not armed */
    unsigned armed[THROTTLE_DIRECTIONS];   /* order of arming: of two that are due at once the older is first */
    unsigned armed_count;
    unsigned turn[THROTTLE_DIRECTIONS];
};

static uint64_t draw(struct run *r, uint64_t n)
{
    return sim_mix2(r->seed, r->draws++) % n;
}

/* --- the model ------------------------------------------------------------------------------------------- */

static wide scale(const struct run *r)
{
    return MAX(r->cfg.op_size, 1);
}

/* Units of a request in a bucket, times scale. */
static wide units(const struct run *r, const struct req *q, unsigned bucket)
{
    bool applies = bucket % 3 == 0 || bucket % 3 == 1u + (q->direction == THROTTLE_WRITE);

    if (!applies) {
        return 0;
    }
    if (bucket < THROTTLE_OPS_TOTAL) {
        return q->bytes * scale(r);
    }
    return r->cfg.op_size > 0 && (uint64_t)q->bytes > r->cfg.op_size ? q->bytes : scale(r);
}

/* What is in a bucket that leaks at a rate, in billionths and times scale. */
static wide level(const struct run *r, unsigned bucket, uint64_t rate, int64_t now_ns)
{
    wide sum = 0;
    int64_t last_ns = r->cfg_ns;

    for (unsigned i = 0; i <= r->let_go_count; i++) {
        const struct req *q = i < r->let_go_count ? &r->req[r->let_go[i]] : NULL;
        int64_t at_ns = q ? q->expected_ns : now_ns;
        sum -= (wide)rate * scale(r) * (at_ns - last_ns);
        sum = MAX(sum, 0);
        sum += q ? units(r, q, bucket) * NS_PER_S : 0;
        last_ns = at_ns;
    }
    return sum;
}

static int64_t model_wait(const struct run *r, enum throttle_direction direction, int64_t now_ns)
{
    int64_t longest_ns = 0;

    for (unsigned bucket = 0; bucket < THROTTLE_BUCKETS; bucket++) {
        const ThrottleLimit *limit = &r->cfg.limits[bucket];
        if (limit->avg == 0 || (bucket % 3 != 0 && bucket % 3 != 1u + (direction == THROTTLE_WRITE))) {
            continue;
        }
        wide size =
            limit->max ? (wide)limit->max * limit->burst_length * NS_PER_S : (wide)limit->avg * NS_PER_S / 10;
        wide over = level(r, bucket, limit->avg, now_ns) - size * scale(r);
        wide rate = limit->avg;
        if (over <= 0 && limit->burst_length > 1) {
            over = level(r, bucket, limit->max, now_ns) - (wide)limit->max * NS_PER_S / 10 * scale(r);
            rate = limit->max;
        }
        int64_t wait_ns = over > 0 ? (int64_t)(over / (rate * scale(r))) : 0;
        longest_ns = MAX(longest_ns, wait_ns);
    }
    return longest_ns;
}

static void model_let_go(struct run *r, unsigned index, int64_t now_ns)
{
    r->req[index].expected_ns = now_ns;
    r->let_go[r->let_go_count++] = index;
}

static void model_pop(struct run *r, unsigned member, enum throttle_direction direction, int64_t now_ns)
{
    unsigned *list = r->waiting[member][direction];

    model_let_go(r, list[0], now_ns);
    memmove(list, list + 1, --r->waiting_count[member][direction] * sizeof(*list));
}

static void model_arm(struct run *r, unsigned member, enum throttle_direction direction, int64_t time_ns)
{
    r->turn[direction] = member;
    r->timer_ns[direction] = time_ns;
    r->armed[direction] = ++r->armed_count;
}

/* Members in turn behind the last one; `own` may go on as long as nothing must wait. */
static void model_next(struct run *r, int own, enum throttle_direction direction, int64_t now_ns)
{
    r->timer_ns[direction] = -1;
    for (;;) {
        int member = -1;
        for (unsigned i = MEMBERS; i >= 1; i--) {
            unsigned at = (r->turn[direction] + i) % MEMBERS;
            member = r->waiting_count[at][direction] > 0 ? (int)at : member;
        }
        if (member < 0) {
            return;
        }
        int64_t wait_ns = model_wait(r, direction, now_ns);
        if (wait_ns > 0) {
            model_arm(r, (unsigned)member, direction, now_ns + wait_ns);
            return;
        }
        if (own >= 0 && r->waiting_count[own][direction] > 0) {
            member = own;
        }
        own = member;
        r->turn[direction] = (unsigned)member;
        model_pop(r, (unsigned)member, direction, now_ns);
    }
}

/* Timers up to now; earlier ones first. */
static void model_run(struct run *r, int64_t now_ns)
{
    for (;;) {
        int64_t at_ns[2] = {r->timer_ns[0], r->timer_ns[1]};
        bool later = at_ns[0] != at_ns[1] ? at_ns[1] < at_ns[0] : r->armed[1] < r->armed[0];
        unsigned first = at_ns[0] < 0 || (at_ns[1] >= 0 && later) ? 1 : 0;
        if (at_ns[first] < 0 || at_ns[first] > now_ns) {
            return;
        }
        model_pop(r, r->turn[first], first, at_ns[first]);
        model_next(r, (int)r->turn[first], first, at_ns[first]);
    }
}

static void model_submit(struct run *r, unsigned index, int64_t now_ns)
{
    const struct req *q = &r->req[index];

    if (r->drained[q->member]) {
        model_let_go(r, index, now_ns);
        return;
    }
    if (r->timer_ns[q->direction] < 0) {
        int64_t wait_ns = model_wait(r, q->direction, now_ns);
        if (wait_ns == 0) {
            model_let_go(r, index, now_ns);
            return;
        }
        model_arm(r, q->member, q->direction, now_ns + wait_ns);
    }
    r->waiting[q->member][q->direction][r->waiting_count[q->member][q->direction]++] = index;
}

static void model_drain(struct run *r, unsigned member, int64_t now_ns)
{
    r->drained[member] = true;
    for (unsigned d = 0; d < THROTTLE_DIRECTIONS; d++) {
        bool had_turn = r->timer_ns[d] >= 0 && r->turn[d] == member;
        while (r->waiting_count[member][d] > 0) {
            model_pop(r, member, d, now_ns);
        }
        if (had_turn) {
            model_next(r, -1, d, now_ns);
        }
    }
}

static void model_config(struct run *r, int64_t now_ns)
{
    r->cfg_ns = now_ns;
    r->let_go_count = 0;
    for (unsigned d = 0; d < THROTTLE_DIRECTIONS; d++) {
        if (r->timer_ns[d] >= 0) {
            model_pop(r, r->turn[d], d, now_ns); /* as if its time had come */
            model_next(r, (int)r->turn[d], d, now_ns);
        }
    }
}

/* --- the real one ---------------------------------------------------------------------------------------- */

static void req_entry(void *opaque)
{
    struct req *q = opaque;

    throttle_group_co_intercept(&q->run->member[q->member], q->bytes, q->direction);
    q->done_ns = sim_now(q->run->w->sim);
}

static void draw_limit(struct run *r, ThrottleLimit *limit, uint64_t scale_of)
{
    *limit = (ThrottleLimit){.avg = (1 + draw(r, 50)) * scale_of, .burst_length = 1};
    if (draw(r, 2)) {
        limit->max = limit->avg + draw(r, 100) * scale_of;
        limit->burst_length = 1 + draw(r, 4);
    }
}

static void draw_config(struct run *r)
{
    bool bps_total = !r->one_way && draw(r, 2);
    bool ops_total = !r->one_way && draw(r, 2);

    throttle_config_init(&r->cfg);
    for (unsigned kind = 0; kind < 6; kind += 3) {
        bool total = kind ? ops_total : bps_total;
        for (unsigned i = total ? 0 : 1; i < (total ? 1u : 3u); i++) {
            if (draw(r, 4) || (r->one_way && kind)) {
                draw_limit(r, &r->cfg.limits[kind + i], kind ? 1 : 4096);
            }
        }
    }
    bool ops = r->cfg.limits[3].avg || r->cfg.limits[4].avg || r->cfg.limits[5].avg;
    r->cfg.op_size = ops && draw(r, 2) ? 1 + draw(r, 10000) : 0;
    throttle_group_config(r->member[0].group, &r->cfg);
    model_config(r, sim_now(r->w->sim));
}

static void submit(struct run *r)
{
    struct req *q = &r->req[r->count];

    *q = (struct req){.run = r, .member = (unsigned)draw(r, MEMBERS), .done_ns = -1, .expected_ns = -1};
    q->direction = draw(r, 2) ? THROTTLE_WRITE : THROTTLE_READ;
    q->bytes = (int64_t)draw(r, 20000);
    q->submit_ns = sim_now(r->w->sim);
    coroutine_start(coroutine_create(r->w->sim, r->w->host, "test request", req_entry, q));
    model_submit(r, r->count++, q->submit_ns);
}

static void step(struct run *r)
{
    unsigned member = (unsigned)draw(r, MEMBERS);
    uint64_t what = draw(r, 20);

    /* mostly on its own; a nanosecond is too short for a timer to coincide, but for at once */
    let_run(r->w, draw(r, 4) ? (int64_t)draw(r, NS_PER_S / 4) + 1 : 1);
    model_run(r, sim_now(r->w->sim));
    if (what == 0 && !r->one_way) {
        draw_config(r);
    } else if (what <= 2 && !r->one_way && !r->drained[member]) {
        throttle_group_bypass_begin(&r->member[member]);
        model_drain(r, member, sim_now(r->w->sim));
    } else if (what <= 4 && r->drained[member]) {
        throttle_group_bypass_end(&r->member[member]);
        r->drained[member] = false;
    } else {
        submit(r);
    }
}

/* --- whole windows --------------------------------------------------------------------------------------- */

/* From any request to any later one of the direction: what went before the later one fits the bucket and what
 * leaked meanwhile, and the nanosecond that a wait is cut by. */
static void check_window(const struct run *r, unsigned bucket)
{
    const ThrottleLimit *limit = &r->cfg.limits[bucket];
    wide size = limit->max ? (wide)limit->max * limit->burst_length * NS_PER_S : (wide)limit->avg * NS_PER_S / 10;

    for (unsigned i = 0; limit->avg && i < r->let_go_count; i++) {
        const struct req *from = &r->req[r->let_go[i]];
        wide sum = 0;
        for (unsigned j = i; j < r->let_go_count; j++) {
            const struct req *to = &r->req[r->let_go[j]];
            wide leaked = (wide)limit->avg * (to->done_ns - from->done_ns + 1);
            if (units(r, to, bucket) > 0) {
                assert_true(sum * NS_PER_S <= (size + leaked) * scale(r));
            }
            sum += units(r, to, bucket);
        }
    }
}

/* Who waits when another one goes is next of its direction after what that one costs, at the latest. */
static void check_starved(const struct run *r, enum throttle_direction direction)
{
    const struct req *before = NULL;

    for (unsigned i = 0; i < r->let_go_count; i++) {
        const struct req *q = &r->req[r->let_go[i]];
        if (q->direction != direction) {
            continue;
        }
        if (before && q->submit_ns <= before->done_ns) {
            int64_t most_ns = 0;
            for (unsigned bucket = 0; bucket < THROTTLE_BUCKETS; bucket++) {
                wide cost = units(r, before, bucket) * NS_PER_S;
                uint64_t avg = r->cfg.limits[bucket].avg;
                most_ns = MAX(most_ns, avg ? (int64_t)(cost / (avg * scale(r))) : 0);
            }
            assert_true(q->done_ns - before->done_ns <= most_ns + 1);
        }
        before = q;
    }
}

static unsigned waited;

static void one_run(struct world *w, uint64_t seed)
{
    static struct run runs;
    struct run *r = &runs;

    memset(r, 0, sizeof(*r));
    r->w = w;
    r->seed = seed;
    r->one_way = seed % 2 == 0;
    r->timer_ns[0] = r->timer_ns[1] = -1;
    for (unsigned m = 0; m < MEMBERS; m++) {
        throttle_group_register(&r->member[m], w->host, "tg");
    }
    r->turn[0] = r->turn[1] = MEMBERS - 1; /* nobody yet: the first is next */
    draw_config(r);
    while (r->count < STEPS) {
        step(r);
    }
    let_run(w, 1000000 * NS_PER_S);
    model_run(r, sim_now(w->sim));
    for (unsigned i = 0; i < r->count; i++) {
        assert_int_equal(r->req[i].done_ns, r->req[i].expected_ns);
        waited += r->req[i].done_ns > r->req[i].submit_ns;
    }
    for (unsigned bucket = 0; r->one_way && bucket < THROTTLE_BUCKETS; bucket++) {
        check_window(r, bucket);
    }
    for (unsigned d = 0; r->one_way && d < THROTTLE_DIRECTIONS; d++) {
        check_starved(r, d);
    }
    for (unsigned m = 0; m < MEMBERS; m++) {
        throttle_group_unregister(&r->member[m]);
    }
}

/* fact: block 4.2/wait, 4.2/burst, 4.2/leak, 4.2/maximum, 4.2/units, 4.2/fifo, 4.2/round-robin, 4.2/drained */
WORLD_TEST(test_model)
{
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        one_run(w, seed);
    }
    assert_in_range(waited, ROUNDS * STEPS / 4, ROUNDS * STEPS); /* or nothing was tried */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/throttle/random/model", test_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
