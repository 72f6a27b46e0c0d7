/* Protects: any sequence of graph changes leaves permissions as a slow model computes them from scratch, and a
 * refused one leaves links in their order, permissions, flags, limits, counters and references as they were. */
#include "tests/block/blktest.h"

#include "block/tran.h"

#define NODES 12
#define USERS 5
#define R ((uint64_t)BLK_PERM_CONSISTENT_READ)
#define W ((uint64_t)BLK_PERM_WRITE)
#define U ((uint64_t)BLK_PERM_WRITE_UNCHANGED)
#define Z ((uint64_t)BLK_PERM_RESIZE)
#define ALL ((uint64_t)BLK_PERM_ALL)

/* --- drivers: those of blktest.h, with limits that differ from node to node ---------------------------------- */

static void odd_limits(BlockDriverState *bs)
{
    const BdrvChild *child;

    bs->bl.request_alignment = bs->number % 3 == 0 ? 4096 : 512;
    if (bs->number % 5 == 4) { /* one that goes by what is below */
        bs->bl.request_alignment = 512;
        LIST_FOREACH(child, &bs->children, next)
        {
            bs->bl.request_alignment = MAX(bs->bl.request_alignment, child->bs->bl.request_alignment);
        }
    }
    if (bs->drv->is_protocol) {
        bs->bl.opt_transfer = 4096 * (uint32_t)(bs->number + 1);
    }
}

#define ODD_HOOKS TEST_DRIVER_HOOKS, .bdrv_refresh_limits = odd_limits

static const BlockDriver drivers[] = {
    {.format_name = "p", .is_protocol = true, ODD_HOOKS},
    {.format_name = "f", .supports_backing = true, ODD_HOOKS},
    {.format_name = "g", .is_filter = true, ODD_HOOKS},
    {.format_name = "h", .is_filter = true, .filtered_child_is_backing = true, ODD_HOOKS},
};

/* --- the bed -------------------------------------------------------------------------------------------------- */

struct bed {
    struct world *w;
    uint64_t seed;
    BlockDriverState *node[NODES];
    BlockBackend *user[USERS];
    BdrvChild *job[2];
    struct {
        BlockDriverState *top, *base;
    } frozen[3];
    unsigned frozen_count;
    unsigned made; /* nodes ever */
};

static uint64_t draw(struct bed *b, uint64_t n)
{
    b->seed = sim_mix64(b->seed + 1);
    return b->seed % n;
}

static BlockDriverState *any(struct bed *b)
{
    return b->node[draw(b, NODES)];
}

static char *job_desc(const BdrvChild *child)
{
    return strdup("block job 'j'");
}

static const BdrvChildClass job_class = {.stay_at_node = true, .get_parent_desc = job_desc};

static void make(struct bed *b, unsigned slot)
{
    char name[16];
    snprintf(name, sizeof(name), "n%u", b->made++);
    uint64_t kind = draw(b, 8);
    unsigned drv = kind < 2 ? 0 : kind < 5 ? 1 : kind < 7 ? 2 : 3;
    BlockDriverState *bs = new_node(b->w, &drivers[drv], name);
    uint64_t flags = draw(b, 8);
    if (flags == 0) {
        bs->open_flags = BDRV_O_INACTIVE | BDRV_O_RDWR;
    } else if (flags < 3) {
        bs->open_flags = flags == 1 ? BDRV_O_FORCE_SHARE : 0;
    }
    /* All are whole blocks long: a writer that loses RESIZE on another one keeps it [sharp edge 30], which no model
     * that starts from scratch can know. */
    bs->total_bytes = (int64_t)(1 + draw(b, 2)) * MiB;
    bs->never_freeze = draw(b, 8) == 0;
    b->node[slot] = bs;
}

/* --- how everything stands --------------------------------------------------------------------------------------
 */

static void put_edge(FILE *out, const BdrvChild *e)
{
    char *desc = bdrv_child_user_desc(e);
    fprintf(out, " [%llu %s %s>%s %x %llx/%llx%s%s]", (unsigned long long)e->number, desc, e->name,
            e->bs ? bdrv_get_node_name(e->bs) : "-", e->role, (unsigned long long)e->perm,
            (unsigned long long)e->shared_perm, e->frozen ? " frozen" : "", e->quiesced_parent ? " quiesced" : "");
    free(desc);
}

/* Edges are numbered when they are made, so a number tells that it is the same edge. */
static char *state_text(struct bed *b)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (BlockDriverState *bs = bdrv_next_node(b->w->host, NULL); bs; bs = bdrv_next_node(b->w->host, bs)) {
        fprintf(out, "%s %s ref=%u flags=%x bytes=%lld drained=%u flight=%u align=%u opt=%u file=%s backing=%s\n",
                bdrv_get_node_name(bs), bs->drv->format_name, bs->refcnt, bs->open_flags,
                (long long)bs->total_bytes, bs->quiesce_counter, bs->in_flight, bs->bl.request_alignment,
                bs->bl.opt_transfer, bs->file ? bdrv_get_node_name(bs->file->bs) : "-",
                bs->backing ? bdrv_get_node_name(bs->backing->bs) : "-");
        fputs("  children", out);
        for (BdrvChild *e = bdrv_first_child(bs); e; e = bdrv_next_child(e)) {
            put_edge(out, e);
        }
        fputs("\n  parents", out);
        for (BdrvChild *e = bdrv_first_parent(bs); e; e = bdrv_next_parent(e)) {
            put_edge(out, e);
        }
        fputc('\n', out);
    }
    for (unsigned i = 0; i < USERS; i++) {
        fprintf(out, "user %u root=%s\n", i, blk_bs(b->user[i]) ? bdrv_get_node_name(blk_bs(b->user[i])) : "-");
    }
    fclose(out);
    return text;
}

/* --- the slow model ---------------------------------------------------------------------------------------------
 */

struct model_edge {
    const BdrvChild *edge;
    uint64_t perm, shared;
};

struct model {
    struct model_edge edge[128];
    unsigned count;
};

static void model_sum(const struct model *m, const BlockDriverState *bs, uint64_t *perm, uint64_t *shared)
{
    *perm = 0;
    *shared = ALL;
    for (unsigned i = 0; i < m->count; i++) {
        if (m->edge[i].edge->bs == bs) {
            *perm |= m->edge[i].perm;
            *shared &= m->edge[i].shared;
        }
    }
}

/* The reference's words, role by role. */
static void model_derive(const BlockDriverState *parent, struct model_edge *e, uint64_t p, uint64_t s)
{
    bool inactive = parent->open_flags & BDRV_O_INACTIVE;
    bool writable = (parent->open_flags & BDRV_O_RDWR) && !inactive;
    uint32_t role = e->edge->role;
    uint64_t perm = p, shared = s;

    if (role & BDRV_CHILD_COW) {
        perm = p & R;
        shared = R | U | ((s & W) || inactive ? W | Z : 0);
    }
    if (role & BDRV_CHILD_METADATA) {
        perm |= R | (writable ? W | Z : 0);
        shared &= R | U;
    }
    if (role & BDRV_CHILD_DATA) {
        shared &= R | U | W;
        perm |= perm & U ? W : 0;
        perm |= perm & W ? Z : 0;
    }
    if ((role & (BDRV_CHILD_DATA | BDRV_CHILD_METADATA)) && inactive) {
        shared |= W | Z;
    }
    perm |= tn(parent)->extra_perm;
    shared &= ~tn(parent)->unshare;
    e->perm = perm;
    e->shared = e->edge->bs->open_flags & BDRV_O_FORCE_SHARE ? ALL : shared;
}

/* Passes over all edges until nothing changes; there are as many passes as levels. */
static void model_compute(struct bed *b, struct model *m)
{
    m->count = 0;
    for (unsigned i = 0; i < NODES; i++) {
        for (BdrvChild *e = bdrv_first_parent(b->node[i]); e; e = bdrv_next_parent(e)) {
            assert_true(m->count < ARRAY_SIZE(m->edge));
            bool given = bdrv_child_parent_bs(e) == NULL; /* asked for by the user itself */
            m->edge[m->count++] = (struct model_edge){e, given ? e->perm : 0, given ? e->shared_perm : ALL};
        }
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (unsigned i = 0; i < m->count; i++) {
            struct model_edge *e = &m->edge[i], was = *e;
            const BlockDriverState *parent = bdrv_child_parent_bs(e->edge);
            uint64_t p, s;
            if (parent) {
                model_sum(m, parent, &p, &s);
                model_derive(parent, e, p, s);
                changed |= was.perm != e->perm || was.shared != e->shared;
            }
        }
    }
}

/* Limits are those of the children as they are now, however far below something changed. */
static void check_limits(BlockDriverState *bs)
{
    BlockLimits now = bs->bl;

    bdrv_refresh_limits(bs);
    assert_int_equal(now.request_alignment, bs->bl.request_alignment);
    assert_int_equal(now.opt_transfer, bs->bl.opt_transfer);
}

static void check_node(const struct model *m, const BlockDriverState *bs)
{
    uint64_t p, s;
    model_sum(m, bs, &p, &s);
    for (unsigned i = 0; i < m->count; i++) {
        for (unsigned j = 0; j < m->count; j++) {
            if (i != j && m->edge[i].edge->bs == bs && m->edge[j].edge->bs == bs) {
                assert_int_equal(m->edge[i].perm & ~m->edge[j].shared, 0);
            }
        }
    }
    if (p & (W | U)) {
        assert_int_equal(bs->open_flags & (BDRV_O_RDWR | BDRV_O_INACTIVE), BDRV_O_RDWR);
        assert_true((p & Z) || bs->total_bytes % bs->bl.request_alignment == 0);
    }
    unsigned refs = 1;
    for (BdrvChild *e = bdrv_first_parent(bs); e; e = bdrv_next_parent(e)) {
        refs++;
        assert_false(e->quiesced_parent);
    }
    assert_int_equal(bs->refcnt, refs);
    assert_int_equal(bs->quiesce_counter, 0);
}

static void check_model(struct bed *b, const char *what)
{
    struct model m;
    model_compute(b, &m);
    for (unsigned i = 0; i < m.count; i++) {
        const BdrvChild *e = m.edge[i].edge;
        if (e->perm != m.edge[i].perm || e->shared_perm != m.edge[i].shared) {
            char *text = state_text(b);
            fprintf(stderr, "after %s: edge %llu has %llx/%llx, model %llx/%llx\n%s", what,
                    (unsigned long long)e->number, (unsigned long long)e->perm, (unsigned long long)e->shared_perm,
                    (unsigned long long)m.edge[i].perm, (unsigned long long)m.edge[i].shared, text);
            free(text);
            fail();
        }
    }
    for (unsigned i = 0; i < NODES; i++) {
        check_node(&m, b->node[i]);
        check_limits(b->node[i]);
    }
}

/* --- steps: > 0 done, 0 nothing to do, < 0 refused ---------------------------------------------------------------
 */

static int done(int ret)
{
    return ret < 0 ? ret : 1;
}

/* Of a filter without a child there is nothing to use: the graph refuses it as a child. */
static bool is_hollow(const BlockDriverState *bs)
{
    return bs->drv->is_filter && !bdrv_filter_child(bs);
}

static int step_attach(struct bed *b, Error **errp)
{
    BlockDriverState *parent = any(b), *child = any(b);
    bool cow = parent->drv->supports_backing && draw(b, 2) == 0;
    uint32_t role = BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_PRIMARY;
    const char *name = "file";
    bool in_backing = parent->drv->filtered_child_is_backing;

    if (parent->drv->is_protocol || is_hollow(child)) {
        return 0;
    }
    if (cow) {
        role = BDRV_CHILD_COW;
        name = "backing";
    } else if (parent->drv->is_filter) {
        role = BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY;
        name = in_backing ? "backing" : "file";
    }
    if (draw(b, 4) == 0) {
        role = BDRV_CHILD_DATA;
        name = "extra";
    } else if (cow || in_backing ? parent->backing != NULL : parent->file != NULL) {
        return 0;
    }
    return bdrv_attach_child(parent, child, name, role, errp) ? 1 : -EPERM;
}

static int step_detach(struct bed *b, Error **errp)
{
    BlockDriverState *parent = any(b);
    BdrvChild *child = bdrv_first_child(parent);
    while (child && bdrv_next_child(child) && draw(b, 2)) {
        child = bdrv_next_child(child);
    }
    if (!child || child->frozen) {
        return 0;
    }
    bdrv_unref_child(parent, child);
    return 1;
}

static bool can_top(const BlockDriverState *bs)
{
    const BlockDriver *drv = bs->drv;
    bool backing = !drv->is_filter || drv->filtered_child_is_backing;
    return (drv->is_filter || drv->supports_backing) && !(backing ? bs->backing : bs->file);
}

static int step_append(struct bed *b, Error **errp)
{
    BlockDriverState *top = any(b);
    BlockDriverState *old = any(b);
    return can_top(top) && !is_hollow(old) ? done(bdrv_append(top, old, errp)) : 0;
}

/* Done and taken back: as if it had not been, but for the number of the edge. */
static int step_undo(struct bed *b, Error **errp)
{
    BlockDriverState *top = any(b), *old = any(b);
    if (!can_top(top) || is_hollow(old)) {
        return 0;
    }
    int64_t length = top->total_bytes;
    char *before = state_text(b);
    struct bdrv_parents *parents = bdrv_note_parents(old);
    bdrv_drained_begin(old);
    int ret = bdrv_append(top, old, errp);
    int undone = ret < 0 ? 0 : bdrv_undo_append(top, old, parents, NULL);
    bdrv_drained_end(old);
    bdrv_forget_parents(b->w->host, parents);
    assert_int_equal(undone, 0);
    top->total_bytes = length; /* a filter keeps the length of what it was above */
    char *after = state_text(b);
    if (strcmp(before, after) != 0) {
        fprintf(stderr, "an append taken back left something\nbefore:\n%safter:\n%s", before, after);
        fail();
    }
    free(before);
    free(after);
    return done(ret);
}

static int step_drop(struct bed *b, Error **errp)
{
    BlockDriverState *filter = any(b);
    return bdrv_filter_bs(filter) ? done(bdrv_drop_filter(filter, errp)) : 0;
}

static int step_replace(struct bed *b, Error **errp)
{
    BlockDriverState *from = any(b), *to = any(b);
    return from != to ? done(bdrv_replace_node(from, to, errp)) : 0;
}

static int step_backing(struct bed *b, Error **errp)
{
    BlockDriverState *bs = any(b);
    BlockDriverState *backing = draw(b, 3) ? any(b) : NULL;
    return done(bdrv_set_backing_hd(bs, backing, errp));
}

static int step_intermediate(struct bed *b, Error **errp)
{
    BlockDriverState *top = any(b);
    BlockDriverState *base = bdrv_filter_or_cow_bs(top);
    bool changed = false;
    if (base && bdrv_filter_or_cow_bs(base) && draw(b, 2)) {
        base = bdrv_filter_or_cow_bs(base);
    }
    if (!base) {
        return 0;
    }
    int ret = bdrv_drop_intermediate(top, base, "x", &changed, errp);
    if (ret < 0 && changed) { /* drivers of these nodes have no headers */
        error_free(*errp);
        *errp = NULL;
    }
    return changed ? 1 : ret;
}

static int step_insert(struct bed *b, Error **errp)
{
    BlockBackend *blk = b->user[draw(b, USERS)];
    if (blk_bs(blk)) {
        if (draw(b, 2)) {
            blk_remove_bs(blk);
            return 1;
        }
        return 0;
    }
    return done(blk_insert_bs(blk, any(b), errp));
}

static int step_perm(struct bed *b, Error **errp)
{
    BlockBackend *blk = b->user[draw(b, USERS)];
    uint64_t perm = draw(b, 16);
    uint64_t shared = draw(b, 16) | (draw(b, 2) ? ALL : 0);
    return done(blk_set_perm(blk, perm, shared, errp));
}

/* A driver changes its mind about its children. */
static int step_driver(struct bed *b, Error **errp)
{
    BlockDriverState *bs = any(b);
    struct test_node *t = tn(bs);
    uint64_t extra = t->extra_perm, unshare = t->unshare;
    t->extra_perm = draw(b, 2) ? draw(b, 16) & draw(b, 16) : 0;
    t->unshare = draw(b, 2) ? draw(b, 16) & draw(b, 16) : 0;
    int ret = bdrv_refresh_perms(bs, errp);
    if (ret < 0) {
        t->extra_perm = extra;
        t->unshare = unshare;
    }
    return done(ret);
}

static int step_job(struct bed *b, Error **errp)
{
    BdrvChild **job = &b->job[draw(b, ARRAY_SIZE(b->job))];
    uint64_t perm = draw(b, 2) ? R : 0;
    if (*job) {
        bdrv_root_unref_child(*job);
        *job = NULL;
        return 1;
    }
    *job = bdrv_root_attach_child(any(b), "job", &job_class, BDRV_CHILD_DATA, perm, ALL, NULL, errp);
    return *job ? 1 : -EPERM;
}

static int step_freeze(struct bed *b, Error **errp)
{
    if (b->frozen_count > 0 && (b->frozen_count == ARRAY_SIZE(b->frozen) || draw(b, 2))) {
        b->frozen_count--;
        bdrv_unfreeze_chain(b->frozen[b->frozen_count].top, b->frozen[b->frozen_count].base);
        return 1;
    }
    BlockDriverState *top = any(b);
    BlockDriverState *base = top;
    for (uint64_t n = draw(b, 3) + 1; n > 0 && bdrv_filter_or_cow_bs(base); n--) {
        base = bdrv_filter_or_cow_bs(base);
    }
    int ret = base == top ? 0 : done(bdrv_freeze_chain(top, base, errp));
    if (ret > 0) {
        b->frozen[b->frozen_count].top = top;
        b->frozen[b->frozen_count++].base = base;
    }
    return ret;
}

/* A node that nobody uses goes, another comes. */
static int step_renew(struct bed *b, Error **errp)
{
    unsigned slot = (unsigned)draw(b, NODES);
    BlockDriverState *bs = b->node[slot];
    for (BdrvChild *e = bdrv_first_child(bs); e; e = bdrv_next_child(e)) {
        if (e->frozen) {
            return 0;
        }
    }
    if (bdrv_first_parent(bs)) {
        return 0;
    }
    bdrv_unref(bs);
    make(b, slot);
    return 1;
}

static const struct {
    const char *name;
    int (*fn)(struct bed *b, Error **errp);
    unsigned weight;
    bool may_fail;
} steps[] = {
    {"attach", step_attach, 8, true},       {"detach", step_detach, 2, false},
    {"append", step_append, 4, true},       {"append-undo", step_undo, 3, true},
    {"drop-filter", step_drop, 6, true},    {"replace", step_replace, 3, true},
    {"set-backing", step_backing, 4, true}, {"drop-intermediate", step_intermediate, 2, true},
    {"insert", step_insert, 5, true},       {"perm", step_perm, 4, true},
    {"driver", step_driver, 4, true},       {"job", step_job, 2, true},
    {"freeze", step_freeze, 5, true},       {"renew", step_renew, 3, false},
};

static unsigned did[ARRAY_SIZE(steps)], refused[ARRAY_SIZE(steps)], deepest;

static size_t draw_step(struct bed *b)
{
    unsigned sum = 0;
    size_t i;
    for (i = 0; i < ARRAY_SIZE(steps); i++) {
        sum += steps[i].weight;
    }
    uint64_t at = draw(b, sum);
    for (i = 0; at >= steps[i].weight; i++) {
        at -= steps[i].weight;
    }
    return i;
}

static unsigned levels_below(const BlockDriverState *bs)
{
    unsigned levels = 0;
    for (BdrvChild *e = bdrv_first_child(bs); e; e = bdrv_next_child(e)) {
        levels = MAX(levels, levels_below(e->bs));
    }
    return levels + 1;
}

static void one_step(struct bed *b)
{
    size_t i = draw_step(b);
    char *before = state_text(b);
    Error *err = NULL;
    int ret = steps[i].fn(b, &err);

    assert_int_equal(ret < 0, err != NULL);
    if (ret < 0) {
        char *after = state_text(b);
        if (strcmp(before, after) != 0) {
            fprintf(stderr, "refused %s (%s) left something\nbefore:\n%safter:\n%s", steps[i].name,
                    error_get_pretty(err), before, after);
            fail();
        }
        free(after);
    }
    did[i] += ret > 0;
    refused[i] += ret < 0;
    error_free(err);
    free(before);
    check_model(b, steps[i].name);
    unsigned levels = levels_below(b->node[draw(b, NODES)]);
    deepest = MAX(deepest, levels);
}

static void take_down(struct bed *b)
{
    while (b->frozen_count > 0) {
        b->frozen_count--;
        bdrv_unfreeze_chain(b->frozen[b->frozen_count].top, b->frozen[b->frozen_count].base);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(b->job); i++) {
        if (b->job[i]) {
            bdrv_root_unref_child(b->job[i]);
        }
    }
    for (unsigned i = 0; i < USERS; i++) {
        blk_unref(b->user[i]);
    }
    for (unsigned i = 0; i < NODES; i++) {
        bdrv_unref(b->node[i]);
    }
}

#define RUNS 12
#define STEPS 500

static void one_run(struct world *w, uint64_t seed)
{
    struct bed b = {.w = w, .seed = seed};

    for (unsigned i = 0; i < NODES; i++) {
        make(&b, i);
    }
    for (unsigned i = 0; i < USERS; i++) {
        b.user[i] = blk_new(w->host, 0, BLK_PERM_ALL);
    }
    for (unsigned i = 0; i < STEPS; i++) {
        one_step(&b);
    }
    take_down(&b);
}

/* fact: block 1.9/order, 1.9/roll-back, 1.9/outgoing, 1.11/conflict, 1.11/cumulative, 1.11/storage-metadata, */
/* fact: block 1.11/storage-data, 1.11/cow, 1.11/filter, 1.11/inactive-shares, 1.7/undone, 1.10/refuses, edge/29 */
WORLD_TEST(test_random)
{
    for (uint64_t seed = 1; seed <= RUNS; seed++) {
        one_run(w, seed * 1000);
    }
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        if (did[i] < 10 || (steps[i].may_fail && refused[i] < 3)) {
            fail_msg("%s was done %u times and refused %u times: too rare to prove anything", steps[i].name, did[i],
                     refused[i]);
        }
    }
    assert_true(deepest >= 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/graph/random/equals-model", test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
