/* Protects: users of one node never do what another does not bear, and a refusal changes nothing. */
#include "tests/block/blktest.h"

#define R BLK_PERM_CONSISTENT_READ
#define W BLK_PERM_WRITE
#define U BLK_PERM_WRITE_UNCHANGED
#define Z BLK_PERM_RESIZE
#define ALL BLK_PERM_ALL

static BlockBackend *user(struct world *w, BlockDriverState *bs, const char *name, uint64_t perm, uint64_t shared)
{
    BlockBackend *blk = blk_new(w->host, perm, shared);
    Error *err = NULL;

    assert_true(blk_set_name(blk, name, NULL));
    if (blk_insert_bs(blk, bs, &err) < 0) {
        fail_msg("%s", error_get_pretty(err));
    }
    return blk;
}

static void expect_refused(struct world *w, BlockDriverState *bs, uint64_t perm, uint64_t shared, const char *text)
{
    BlockBackend *blk = blk_new(w->host, perm, shared);
    unsigned refs = bdrv_refcount(bs);
    Error *err = NULL;

    assert_int_equal(blk_insert_bs(blk, bs, &err), -EPERM);
    expect_error(&err, text);
    assert_null(blk_root(blk));
    assert_int_equal(bdrv_refcount(bs), refs);
    blk_unref(blk);
}

/* --- users of one node ------------------------------------------------------------------------------------ */

/* fact: block 1.11/conflict */
WORLD_TEST(test_two_writers)
{
    BlockDriverState *n = add(w, "{'driver':'null-co','node-name':'n'}");
    BlockBackend *a = user(w, n, "a", R | W, R);

    expect_refused(w, n, W, ALL,
                   "Conflicts with use by block device 'a' as 'root', which does not allow 'write' on "
                   "node 'n'; it is wanted by an unnamed block device as 'root'");
    /* The other way round: the newcomer does not bear the old writer. */
    expect_refused(w, n, 0, ALL & ~(uint64_t)W,
                   "does not allow 'write' on node 'n'; it is wanted by block device 'a'");
    expect_refused(w, n, W | Z, ALL, "'write, resize'");
    BlockBackend *reader = user(w, n, "reader", R, ALL);
    blk_unref(a);
    BlockBackend *b = user(w, n, "b", W, ALL);
    blk_unref(b);
    blk_unref(reader);
    del(w, "n");
}

/* fact: block 1.11/writable */
WORLD_TEST(test_read_only_node)
{
    BlockDriverState *n = add(w, "{'driver':'null-co','node-name':'n','read-only':true}");

    expect_refused(w, n, W, ALL, "Read-only block node 'n'");
    expect_refused(w, n, U, ALL, "Read-only block node 'n'");
    expect_refused(w, n, R | W, ALL, "Read-only block node 'n'");
    blk_unref(user(w, n, "a", R | Z, ALL)); /* RESIZE alone is not judged here */
    del(w, "n");
}

/* Without RESIZE the length must be whole blocks, or writing the last one would grow the node.
 * fact: block 1.11/unaligned-size */
WORLD_TEST(test_alignment)
{
    struct disk_config config;

    disk_config_default(&config);
    config.size_bytes = 4096 + 512;
    config.align_bytes = 4096;
    assert_non_null(disk_new(w->sim, "d", &config, NULL));
    BlockDriverState *n = add(w, "{'driver':'disk','node-name':'n','disk':'d'}");
    expect_refused(w, n, W, ALL, "not a multiple of the request alignment");
    expect_refused(w, n, U, ALL, "not a multiple of the request alignment");
    blk_unref(user(w, n, "a", W | Z, ALL));
    blk_unref(user(w, n, "b", R, ALL));
    del(w, "n");
}

/* fact: block 1.7/inactive-perm, 1.7/inactive-child, 1.6/disabled-perm, 12/inactive-parent, 1.13/independent,
 *       edge/37 */
WORLD_TEST(test_inactive_node)
{
    BlockDriverState *n = add(w, "{'driver':'null-co','node-name':'n','active':false}");
    Error *err = NULL;

    assert_true(bdrv_is_inactive(n));
    expect_refused(w, n, W, ALL, "not available on inactive node 'n'");
    blk_unref(user(w, n, "reader", R, ALL));
    /* A named user gets nothing now and what it wants later (8.2). */
    BlockBackend *guest = user(w, n, "guest", R | W, R);
    uint64_t perm, shared;
    bdrv_cumulative_perms(n, &perm, &shared);
    assert_int_equal(perm, 0);
    assert_int_equal(shared, ALL);
    blk_get_perm(guest, &perm, &shared);
    assert_int_equal(perm, R | W);
    blk_unref(guest);
    /* An active parent over it is refused, an inactive one is not. */
    assert_null(try_add(w, "{'driver':'raw','node-name':'r','file':'n'}", &err));
    expect_error(&err, "Inactive 'n' can't be a file child of active 'r'");
    add(w, "{'driver':'raw','node-name':'r','file':'n','active':false}");
    del(w, "r");
    del(w, "n");
}

/* --- changing one's mind ---------------------------------------------------------------------------------- */

/* fact: block 1.11/conflict */
WORLD_TEST(test_tighten_and_loosen)
{
    BlockDriverState *n = add(w, "{'driver':'null-co','node-name':'n'}");
    BlockBackend *a = user(w, n, "a", R, ALL);
    BlockBackend *b = user(w, n, "b", W, ALL);
    Error *err = NULL;
    uint64_t perm, shared;

    assert_int_equal(blk_set_perm(a, R, R, &err), -EPERM);
    expect_error(&err, "does not allow 'write' on node 'n'");
    blk_get_perm(a, &perm, &shared);
    assert_int_equal(shared, ALL);
    bdrv_child_perms(blk_root(a), &perm, &shared);
    assert_int_equal(shared, ALL);
    assert_int_equal(blk_set_perm(b, 0, ALL, NULL), 0);
    assert_int_equal(blk_set_perm(a, R, R, NULL), 0);
    assert_int_equal(blk_set_perm(b, W, ALL, &err), -EPERM);
    expect_error(&err, "Conflicts with use by block device 'a'");
    blk_unref(a);
    blk_unref(b);
    del(w, "n");
}

/* Giving up rights is never refused, even if what is left could not be granted anew (1.11, sharp edge 30).
 * fact: block 1.11/loosening, edge/30 */
WORLD_TEST(test_loosening_never_fails)
{
    BlockDriverState *n = new_node(w, &test_protocol, "n");
    BlockBackend *a = user(w, n, "a", R | W | Z, R);
    Error *err = NULL;
    uint64_t perm, shared;

    /* The node turns read-only under its writer: nothing that keeps WRITE could be granted any more. */
    n->open_flags &= ~(uint32_t)BDRV_O_RDWR;
    assert_int_equal(blk_set_perm(a, R | W | Z, R | U, &err), 0);
    assert_null(err);
    bdrv_child_perms(blk_root(a), &perm, &shared);
    assert_int_equal(perm, R | W | Z); /* old values kept */
    assert_int_equal(shared, R);
    assert_int_equal(blk_set_perm(a, R | W | U | Z, R, &err), -EPERM);
    expect_error(&err, "Read-only block node 'n'");
    assert_int_equal(blk_set_perm(a, R, R, &err), 0);
    bdrv_child_perms(blk_root(a), &perm, &shared);
    assert_int_equal(perm, R);
    blk_unref(a);
    bdrv_unref(n);
}

/* fact: block 1.11/force-share */
WORLD_TEST(test_force_share)
{
    make_disk(w, "d", MiB);
    add(w, "{'driver':'disk','node-name':'f','disk':'d','read-only':true,'force-share':true}");
    BlockDriverState *r = add(w, "{'driver':'raw','node-name':'r','file':'f','read-only':true}");
    BlockBackend *a = user(w, r, "a", R, 0);
    uint64_t perm, shared;

    bdrv_child_perms(bdrv_first_child(r), &perm, &shared);
    assert_int_equal(perm, R);
    assert_int_equal(shared, ALL);
    blk_unref(a);
    del(w, "r");
    del(w, "f");
}

/* --- what a node asks of its children --------------------------------------------------------------------- */

struct vector {
    const char *what;
    uint32_t role;
    uint32_t flags;
    uint64_t perm, shared;   /* of the parent's users */
    uint64_t nperm, nshared; /* expected on the edge */
};

/* The table of 1.11, rule by rule. */
static const struct vector vectors[] = {
    {"filter passes", BDRV_CHILD_FILTERED, BDRV_O_RDWR, R | U, W | Z, R | U, W | Z},
    {"backing reads only", BDRV_CHILD_COW, BDRV_O_RDWR, R | W | Z, R, R, R | U},
    {"backing bears change", BDRV_CHILD_COW, BDRV_O_RDWR, 0, W, 0, R | U | W | Z},
    {"backing of an inactive node", BDRV_CHILD_COW, BDRV_O_RDWR | BDRV_O_INACTIVE, R, R, R, R | U | W | Z},
    {"metadata of a writable node", BDRV_CHILD_METADATA, BDRV_O_RDWR, 0, ALL, R | W | Z, R | U},
    {"metadata of a read-only node", BDRV_CHILD_METADATA, 0, 0, ALL, R, R | U},
    {"metadata without I/O", BDRV_CHILD_METADATA, BDRV_O_NO_IO, 0, ALL, 0, R | U},
    {"metadata of an inactive node", BDRV_CHILD_METADATA, BDRV_O_RDWR | BDRV_O_INACTIVE, 0, ALL, R, ALL},
    {"data unshares resize", BDRV_CHILD_DATA, BDRV_O_RDWR, R, ALL, R, R | W | U},
    {"data: unchanged is a write", BDRV_CHILD_DATA, BDRV_O_RDWR, U, R, W | U | Z, R},
    {"data: a write resizes", BDRV_CHILD_DATA, BDRV_O_RDWR, W, R, W | Z, R},
    {"format", BDRV_CHILD_DATA | BDRV_CHILD_METADATA, BDRV_O_RDWR, R, ALL, R | W | Z, R | U},
};

/* fact: block 1.11/bits, 1.11/filter, 1.11/cow, 1.11/storage-metadata, 1.11/storage-data, 1.11/inactive-shares */
WORLD_TEST(test_defaults)
{
    for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
        const struct vector *v = &vectors[i];
        BlockDriverState *bs = new_node(w, &test_format, "n");
        uint64_t perm, shared;

        bs->open_flags = v->flags;
        bdrv_default_perms(bs, NULL, v->role, v->perm, v->shared, &perm, &shared);
        if (perm != v->nperm || shared != v->nshared) {
            fail_msg("%s: %x %x, expected %x %x", v->what, (unsigned)perm, (unsigned)shared, (unsigned)v->nperm,
                     (unsigned)v->nshared);
        }
        bdrv_unref(bs);
    }
}

/* raw takes WRITE and RESIZE only if its users do, also through a window (1.11).
 * fact: block 1.11/raw, 1.3/raw */
WORLD_TEST(test_raw)
{
    static const char *const files[] = {
        "{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'d'}}",
        "{'driver':'raw','node-name':'r','offset':512,'file':{'driver':'disk','disk':'d'}}",
    };
    uint64_t perm, shared;

    make_disk(w, "d", MiB);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        BlockDriverState *r = add(w, files[i]);
        BdrvChild *file = bdrv_first_child(r);
        bdrv_child_perms(file, &perm, &shared);
        assert_int_equal(perm, 0);
        assert_int_equal(shared, i == 0 ? ALL : ALL & ~Z);
        BlockBackend *a = user(w, r, "a", R | W, R | U);
        bdrv_child_perms(file, &perm, &shared);
        assert_int_equal(perm, R | W);
        assert_int_equal(shared, R | U);
        assert_int_equal(blk_set_perm(a, R | W | Z, R | U, NULL), 0);
        bdrv_child_perms(file, &perm, &shared);
        assert_int_equal(perm, R | W | Z);
        blk_unref(a);
        bdrv_child_perms(file, &perm, &shared);
        assert_int_equal(perm, 0);
        del(w, "r");
    }
}

/* Two writable formats on one file conflict without any user of theirs (reference/block.md 12).
 * fact: block 12/permissions-conflict */
WORLD_TEST(test_two_formats_on_one_file)
{
    const uint32_t role = BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_PRIMARY;
    BlockDriverState *file = new_node(w, &test_protocol, "file");
    BlockDriverState *one = new_node(w, &test_format, "one");
    BlockDriverState *two = new_node(w, &test_format, "two");
    Error *err = NULL;

    bdrv_ref(file);
    link_child(one, file, "file", role);
    assert_null(bdrv_attach_child(two, file, "file", role, &err));
    expect_error(&err, "Conflicts with use by node");
    assert_null(bdrv_first_child(two));
    two->open_flags &= ~(uint32_t)BDRV_O_RDWR;
    assert_null(bdrv_attach_child(two, file, "file", role, &err));
    expect_error(&err, "does not allow 'write, resize' on node 'file'; it is wanted by node 'one' as 'file'");
    bdrv_unref(one);
    bdrv_unref(two);
    bdrv_unref(file);
}

/* --- order of the update ---------------------------------------------------------------------------------- */

static BdrvChild *primary(BlockDriverState *parent, BlockDriverState *child)
{
    bdrv_ref(child);
    return link_child(parent, child, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY);
}

/*
 *      top                 top
 *     /   \               /   \
 *   one   two     ->    one   two      the only writer of base changes sides
 *     \   /               \   /
 *     base                base
 *
 * A depth-first walk would meet base through one branch while the other still holds the old permission.

 * fact: block 1.9/order, 1.9/move-exclusive, edge/29 */
WORLD_TEST(test_exclusive_write_changes_branch)
{
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    BlockDriverState *one = new_node(w, &test_filter, "one");
    BlockDriverState *two = new_node(w, &test_filter, "two");
    BlockDriverState *top = new_node(w, &test_format, "top");

    primary(one, base);
    primary(two, base);
    bdrv_ref(one);
    bdrv_ref(two);
    BdrvChild *left = link_child(top, one, "left", BDRV_CHILD_DATA);
    BdrvChild *right = link_child(top, two, "right", BDRV_CHILD_DATA);
    /* Each filter with a writer is an exclusive one. */
    struct {
        BlockDriverState *bs;
        BdrvChild *edge;
    } side[2] = {{one, left}, {two, right}};
    for (unsigned i = 0; i < 4; i++) {
        tn(side[i % 2].bs)->extra_perm = W;
        tn(side[i % 2].bs)->unshare = W;
        tn(side[(i + 1) % 2].bs)->extra_perm = 0;
        tn(side[(i + 1) % 2].bs)->unshare = 0;
        Error *err = NULL;
        if (bdrv_refresh_perms(top, &err) < 0) {
            fail_msg("%s", error_get_pretty(err));
        }
        uint64_t perm, shared;
        bdrv_child_perms(side[i % 2].bs->file, &perm, &shared);
        assert_int_equal(perm, W);
        bdrv_child_perms(side[(i + 1) % 2].bs->file, &perm, &shared);
        assert_int_equal(perm, 0);
    }
    bdrv_unref(top);
    bdrv_unref(one);
    bdrv_unref(two);
    bdrv_unref(base);
}

/* A refusal deep below takes back what was already changed above, drivers' agreements included.
 * fact: block 1.9/roll-back, 1.11/driver-veto */
WORLD_TEST(test_rollback)
{
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    BlockDriverState *mid = new_node(w, &test_filter, "mid");
    BlockDriverState *top = new_node(w, &test_filter, "top");
    primary(mid, base);
    primary(top, mid);
    BlockBackend *other = user(w, base, "other", R, ALL & ~(uint64_t)W);
    BlockBackend *guest = user(w, top, "guest", R, ALL);
    Error *err = NULL;
    uint64_t perm, shared;

    unsigned set = tn(mid)->set_perms;
    unsigned aborted = tn(mid)->abort_perms;
    assert_int_equal(blk_set_perm(guest, R | W, ALL, &err), -EPERM);
    expect_error(&err, "Conflicts with use by block device 'other' as 'root', which does not allow 'write' on node "
                       "'base'; it is wanted by node 'mid' as 'file'");
    BdrvChild *edges[] = {blk_root(guest), top->file, mid->file};
    for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
        bdrv_child_perms(edges[i], &perm, &shared);
        assert_int_equal(perm, R);
        assert_int_equal(shared, ALL);
    }
    assert_int_equal(tn(mid)->set_perms, set);
    assert_int_equal(tn(mid)->abort_perms, aborted + 1);
    blk_unref(guest);
    blk_unref(other);
    bdrv_unref(top);
    bdrv_unref(mid);
    bdrv_unref(base);
}

WORLD_TEST(test_names)
{
    char *text = bdrv_perm_names(ALL);

    assert_string_equal(text, "consistent read, write, write unchanged, resize");
    free(text);
    text = bdrv_perm_names(0);
    assert_string_equal(text, "none");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/perm/two-writers", test_two_writers),
        T("/perm/read-only-node", test_read_only_node),
        T("/perm/alignment-without-resize", test_alignment),
        T("/perm/inactive-node", test_inactive_node),
        T("/perm/tighten-and-loosen", test_tighten_and_loosen),
        T("/perm/loosening-never-fails", test_loosening_never_fails),
        T("/perm/force-share", test_force_share),
        T("/perm/defaults-by-role", test_defaults),
        T("/perm/raw", test_raw),
        T("/perm/two-formats-on-one-file", test_two_formats_on_one_file),
        T("/perm/topological/exclusive-write-changes-branch", test_exclusive_write_changes_branch),
        T("/perm/rollback", test_rollback),
        T("/perm/names", test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
