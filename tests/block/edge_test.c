/* Protects edges and references: roles, what a new edge may do, nodes that go later, blockers that only tell. */
#include "tests/block/probe.h"

#define W SIM_OP_WRITE

static const BlockDriver format_driver = {
    .format_name = "format-probe",
    .doc = "test",
    .instance_size = sizeof(struct probe),
    .supports_backing = true,
    .bdrv_co_preadv = probe_preadv,
    .bdrv_co_pwritev = probe_pwritev,
    .bdrv_co_truncate = probe_truncate,
    .bdrv_co_getlength = probe_getlength,
};

struct attach {
    struct probe *parent, *child;
    uint32_t role;
    uint64_t perm, shared;
};

static void attach_main(void *opaque)
{
    struct attach *a = opaque;
    BdrvChild *edge = bdrv_attach_child(a->parent->bs, a->child->bs, "extra", a->role, NULL);
    SIM_ASSERT(edge != NULL);
    bdrv_child_perms(edge, &a->perm, &a->shared);
    bdrv_unref_child(a->parent->bs, edge);
}

static void attach(void *opaque)
{
    probe_main(attach_main, opaque);
}

static struct probe *user_less(const char *name)
{
    struct probe *p = probe_new((struct probe_spec){.name = name, .length = MiB});
    blk_set_perm(p->blk, 0, BLK_PERM_ALL, NULL);
    return p;
}

/* fact: block 1.3/combinations */
static void test_roles(void **state)
{
    static const struct {
        uint32_t role;
        bool good;
    } cases[] = {
        {BDRV_CHILD_DATA, true},
        {BDRV_CHILD_METADATA, true},
        {BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_PRIMARY, true},
        {BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, true},
        {BDRV_CHILD_COW, true},
        {0, false},
        {BDRV_CHILD_PRIMARY, false},
        {BDRV_CHILD_FILTERED | BDRV_CHILD_DATA, false},
        {BDRV_CHILD_FILTERED | BDRV_CHILD_METADATA, false},
        {BDRV_CHILD_FILTERED | BDRV_CHILD_COW, false},
        {BDRV_CHILD_COW | BDRV_CHILD_DATA, false},
        {BDRV_CHILD_COW | BDRV_CHILD_PRIMARY, false},
    };
    struct probe *child = user_less("child");
    struct probe *parent = probe_new((struct probe_spec){.name = "parent", .drv = &format_driver, .length = MiB});
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct attach a = {parent, child, cases[i].role, 0, 0};
        if (dies(attach, &a) == cases[i].good) {
            fail_msg("role 0x%x", cases[i].role);
        }
    }
    probe_free(parent);
    probe_free(child);
}

struct users {
    BlockDriverState *bs;
    uint64_t perm, shared;
    int refused;
};

/* A writer beside the reader, and a third that wants what the first does not share. */
static void two_users(void *opaque)
{
    struct users *u = opaque;
    BlockBackend *second = blk_new(host, BLK_PERM_WRITE, BLK_PERM_ALL);
    BlockBackend *third = blk_new(host, BLK_PERM_RESIZE, BLK_PERM_ALL);
    SIM_ASSERT_EQ(blk_insert_bs(second, u->bs, NULL), 0);
    bdrv_cumulative_perms(u->bs, &u->perm, &u->shared);
    u->refused = blk_insert_bs(third, u->bs, NULL);
    blk_unref(third);
    blk_unref(second);
}

/* A new edge asks for what the users of its parent make necessary.
 * fact: block 1.7/derived, 1.11/cumulative */
static void test_derived(void **state)
{
    struct probe *child = user_less("child");
    struct probe *parent = probe_new((struct probe_spec){.name = "parent", .drv = &format_driver, .length = MiB});
    struct attach a = {parent, child, BDRV_CHILD_DATA, 0, 0};
    attach(&a);
    assert_int_equal(a.perm, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    blk_set_perm(parent->blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_WRITE, NULL);
    attach(&a);
    assert_int_equal(a.perm, BLK_PERM_CONSISTENT_READ);
    assert_int_equal(a.shared & BLK_PERM_WRITE, 0);
    blk_set_perm(parent->blk, 0, BLK_PERM_ALL, NULL);
    attach(&a);
    assert_int_equal(a.perm, 0);
    blk_set_perm(child->blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_WRITE | BLK_PERM_CONSISTENT_READ, NULL);
    struct users u = {.bs = child->bs};
    probe_main(two_users, &u);
    assert_int_equal(u.perm, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);   /* what any takes */
    assert_int_equal(u.shared, BLK_PERM_WRITE | BLK_PERM_CONSISTENT_READ); /* what all share */
    assert_int_equal(u.refused, -EPERM);
    probe_free(parent);
    probe_free(child);
}

struct unref {
    BlockDriverState *bs;
    bool there;
};

static void drop_user(void *opaque)
{
    blk_unref(opaque);
}

static void unref_later(void *opaque)
{
    struct unref *u = opaque;
    bdrv_unref_later(u->bs);
    u->there = bdrv_find_node(host, "p") != NULL;
}

/* Whoever edits the graph may still look at what he takes out of it.
 * fact: block 1.5/deferred */
static void test_deferred(void **state)
{
    struct probe *p = user_less("p");
    uint8_t *data = p->data;
    struct unref u = {p->bs, false};
    probe_main(drop_user, p->blk);
    assert_non_null(bdrv_find_node(host, "p"));
    probe_main(unref_later, &u);
    assert_true(u.there);
    assert_null(bdrv_find_node(host, "p"));
    free(data);
}

struct resize {
    struct probe *p;
    bool ok;
    Error *err;
};

static void resize_main(void *opaque)
{
    struct resize *r = opaque;
    r->ok = qmp_block_resize_node(r->p->bs, 2 * MiB, &r->err);
}

/* fact: block 1.12/advisory */
static void test_advisory(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = MiB});
    struct resize r = {.p = p};
    Error *reason = NULL;
    error_setg(&reason, "held by a test");
    bdrv_op_block(p->bs, BLOCK_OP_RESIZE, reason);
    probe_main(resize_main, &r);
    assert_false(r.ok);
    assert_string_equal(error_get_pretty(r.err), "Node 'p' is busy: held by a test");
    error_free(r.err);
    assert_false(bdrv_op_is_blocked(p->bs, BLOCK_OP_STREAM, NULL)); /* each operation by itself */
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), 0);
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, 2 * MiB, 0, 0, 0), 0); /* I/O does not ask */
    bdrv_op_unblock(p->bs, BLOCK_OP_RESIZE, reason);
    error_free(reason);
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/edge/roles", test_roles),
        T_NODE("/edge/derived", test_derived),
        T_NODE("/edge/deferred", test_deferred),
        T_NODE("/edge/blockers-tell", test_advisory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
