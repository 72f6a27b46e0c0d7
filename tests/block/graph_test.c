/* Protects: names, references and links of nodes, and that a refused change leaves the graph as it was. */
#include "tests/block/blktest.h"

/* --- names ----------------------------------------------------------------------------------------------- */

/* fact: block 1.2/generated */
WORLD_TEST(test_generated_names)
{
    make_disk(w, "d", MiB);
    add(w, "{'driver':'raw','node-name':'a','file':{'driver':'disk','disk':'d'}}");
    BlockDriverState *file = bdrv_primary_bs(bdrv_find_node(w->host, "a"));
    const char *name = bdrv_get_node_name(file);

    assert_int_equal(strncmp(name, "#block0", 7), 0);
    assert_int_equal(strlen(name), strlen("#block0") + 2);
    assert_ptr_equal(bdrv_find_node(w->host, name), file);
    /* Its entity comes from the path, not from the number. */
    assert_true(bdrv_entity(file) == sim_mix2(bdrv_entity(bdrv_find_node(w->host, "a")), sim_hash_str("file")));
    del(w, "a");
    assert_int_equal(node_count(w), 0);
}

/* fact: block 1.2/form */
WORLD_TEST(test_refused_names)
{
    static const char *const bad[] = {
        "1a", "", "a b", "a/b", "#block000", "-a", "abcdefghijklmnopqrstuvwxyzabcdef"};
    Error *err = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(bdrv_name_usable(w->host, bad[i], &err));
        assert_non_null(err);
        error_free(err);
        err = NULL;
    }
    assert_true(bdrv_name_usable(w->host, "abcdefghijklmnopqrstuvwxyzabcde", &err));
    assert_true(bdrv_name_usable(w->host, "A-b.c_9", &err));
}

/* fact: block 1.2/one-namespace, 9/add-name */
WORLD_TEST(test_one_namespace)
{
    Error *err = NULL;
    BlockBackend *blk = blk_new(w->host, 0, BLK_PERM_ALL);

    add(w, "{'driver':'null-co','node-name':'n'}");
    assert_false(blk_set_name(blk, "n", &err));
    expect_error(&err, "conflicts with an existing node name");
    assert_true(blk_set_name(blk, "b", &err));
    assert_null(try_add(w, "{'driver':'null-co','node-name':'b'}", &err));
    expect_error(&err, "conflicting with a device id");
    assert_null(try_add(w, "{'driver':'null-co','node-name':'n'}", &err));
    expect_error(&err, "Duplicate nodes with node-name='n'");
    blk_unref(blk);
    del(w, "n");
}

/* fact: block 1.2/lookup */
WORLD_TEST(test_lookup_device_first)
{
    Error *err = NULL;
    BlockBackend *blk = blk_new(w->host, 0, BLK_PERM_ALL);
    BlockDriverState *n = add(w, "{'driver':'null-co','node-name':'n'}");

    assert_true(blk_set_name(blk, "b", NULL));
    /* An empty device is no fall-back to anything. */
    assert_null(bdrv_lookup_bs(w->host, "b", &err));
    expect_error(&err, "Device 'b' has no medium");
    assert_null(bdrv_lookup_bs(w->host, "x", &err));
    expect_error(&err, "Cannot find device='x' nor node-name='x'");
    assert_int_equal(blk_insert_bs(blk, n, NULL), 0);
    assert_ptr_equal(bdrv_lookup_bs(w->host, "b", &err), n);
    assert_ptr_equal(bdrv_lookup_bs(w->host, "n", &err), n);
    blk_unref(blk);
    del(w, "n");
}

/* --- references ------------------------------------------------------------------------------------------ */

/* fact: block 1.5/references, 1.1/edge, 9/del */
WORLD_TEST(test_refs)
{
    Error *err = NULL;

    make_disk(w, "d", MiB);
    BlockDriverState *f = add(w, "{'driver':'disk','node-name':'f','disk':'d'}");
    assert_int_equal(bdrv_refcount(f), 1);
    add(w, "{'driver':'raw','node-name':'r','file':'f'}");
    assert_int_equal(bdrv_refcount(f), 2);
    assert_false(qmp_blockdev_del_node(w->host, "f", &err));
    expect_error(&err, "Block device f is in use");
    del(w, "r");
    assert_int_equal(bdrv_refcount(f), 1);
    del(w, "f");
    assert_false(qmp_blockdev_del_node(w->host, "f", &err));
    expect_error(&err, "Failed to find node with node-name='f'");
}

/* fact: block 9/del */
WORLD_TEST(test_del_refused)
{
    Error *err = NULL;
    Error *reason = NULL;
    BlockBackend *blk = blk_new(w->host, 0, BLK_PERM_ALL);
    BlockDriverState *n = add(w, "{'driver':'null-co','node-name':'n'}");

    assert_int_equal(blk_insert_bs(blk, n, NULL), 0);
    assert_false(qmp_blockdev_del_node(w->host, "n", &err));
    expect_error(&err, "Node n is in use");
    blk_unref(blk);
    error_setg(&reason, "held by a test");
    bdrv_op_block(n, BLOCK_OP_DRIVE_DEL, reason);
    assert_false(qmp_blockdev_del_node(w->host, "n", &err));
    expect_error(&err, "Node 'n' is busy: held by a test");
    bdrv_op_unblock_all(n, reason);
    error_free(reason);
    BlockDriverState *own = new_node(w, &test_protocol, "own");
    assert_false(qmp_blockdev_del_node(w->host, "own", &err));
    expect_error(&err, "not owned by the monitor");
    bdrv_unref(own);
    del(w, "n");
}

static unsigned flushes_seen;

static void see_submit(void *opaque, const struct sim_record *record)
{
    flushes_seen += record->field[2] == SIM_OP_FLUSH;
}

/* Deleting a node that was written flushes it first (1.5).
 * fact: block 1.5/close */
WORLD_TEST(test_close_flushes)
{
    make_disk(w, "d", MiB);
    add(w, "{'driver':'disk','node-name':'n','disk':'d'}");
    BlockBackend *blk = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, bdrv_find_node(w->host, "n"), NULL), 0);
    struct request r = {.w = w, .blk = blk, .bytes = 4096, .write = true};
    assert_int_equal(run(&r), 0);
    flushes_seen = 0;
    sim_subscribe(w->sim, EV_disk_submit, see_submit, NULL);
    blk_unref(blk);
    assert_int_equal(flushes_seen, 0);
    del(w, "n");
    assert_int_equal(flushes_seen, 1);
}

/* --- append, drop, replace ------------------------------------------------------------------------------- */

/* fact: block 1.8/append, 1.8/drop-filter, 1.3/filter */
WORLD_TEST(test_append_and_drop)
{
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    BlockBackend *blk = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, base, NULL), 0);
    BlockDriverState *filter = bdrv_new_filter(w->host, &test_top, NULL, BDRV_O_RDWR, NULL);

    assert_true(bdrv_is_implicit(filter));
    assert_int_equal(bdrv_append(filter, base, NULL), 0);
    assert_ptr_equal(blk_bs(blk), filter);
    assert_ptr_equal(bdrv_filter_bs(filter), base);
    assert_string_equal(bdrv_child_name(bdrv_filter_child(filter)), "backing");
    assert_int_equal(bdrv_getlength_cached(filter), MiB);
    assert_ptr_equal(bdrv_skip_filters(filter), base);
    assert_int_equal(bdrv_refcount(base), 2);
    assert_int_equal(bdrv_refcount(filter), 2);
    uint64_t perm, shared;
    bdrv_cumulative_perms(base, &perm, &shared);
    assert_int_equal(perm, BLK_PERM_WRITE);

    assert_int_equal(bdrv_drop_filter(filter, NULL), 0);
    assert_ptr_equal(blk_bs(blk), base);
    assert_null(bdrv_first_child(filter));
    assert_int_equal(bdrv_refcount(filter), 1);
    bdrv_unref(filter);
    blk_unref(blk);
    bdrv_unref(base);
}

/* A filter that wants to be the only writer goes above a written node although it could not sit beside (1.9).
 * fact: block 1.9/exclusive-filter */
WORLD_TEST(test_append_exclusive_writer)
{
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    BlockBackend *blk = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, base, NULL), 0);
    BlockDriverState *filter = bdrv_new_filter(w->host, &test_filter, "f", BDRV_O_RDWR, NULL);
    tn(filter)->extra_perm = BLK_PERM_WRITE;
    tn(filter)->unshare = BLK_PERM_WRITE;

    Error *err = NULL;
    assert_null(bdrv_attach_child(filter, base, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, &err));
    expect_error(&err, "which does not allow 'write' on node 'base'");
    assert_null(filter->file);
    assert_int_equal(bdrv_append(filter, base, NULL), 0);
    assert_int_equal(bdrv_drop_filter(filter, NULL), 0);
    bdrv_unref(filter);
    blk_unref(blk);
    bdrv_unref(base);
}

struct parents {
    const BdrvChild *edge[8];
    unsigned count;
};

static struct parents parents_of(const BlockDriverState *bs)
{
    struct parents p = {.count = 0};

    for (BdrvChild *edge = bdrv_first_parent(bs); edge; edge = bdrv_next_parent(edge)) {
        p.edge[p.count++] = edge;
    }
    return p;
}

/* A refused append leaves links, their order, permissions and counters as they were.
 * fact: block 1.9/roll-back, 1.7/undone */
WORLD_TEST(test_append_rollback)
{
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    BlockBackend *blk[3];
    Error *err = NULL;

    for (unsigned i = 0; i < 3; i++) {
        blk[i] = blk_new(w->host, i == 2 ? BLK_PERM_WRITE : 0, BLK_PERM_ALL);
        assert_int_equal(blk_insert_bs(blk[i], base, NULL), 0);
    }
    struct parents before = parents_of(base);
    /* The new top is read-only: the writer among the moved users is refused at the very end. */
    BlockDriverState *filter = bdrv_new_filter(w->host, &test_filter, "f", 0, NULL);
    assert_int_equal(bdrv_append(filter, base, &err), -EPERM);
    expect_error(&err, "Read-only block node 'f'");
    struct parents after = parents_of(base);
    assert_int_equal(after.count, before.count);
    for (unsigned i = 0; i < before.count; i++) {
        assert_ptr_equal(after.edge[i], before.edge[i]);
    }
    assert_null(bdrv_first_child(filter));
    assert_null(bdrv_first_parent(filter));
    assert_null(filter->file);
    assert_int_equal(bdrv_refcount(filter), 1);
    assert_int_equal(bdrv_refcount(base), 4);
    assert_int_equal(bdrv_quiesce_counter(base), 0);
    assert_int_equal(bdrv_quiesce_counter(filter), 0);
    bdrv_unref(filter);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(blk_in_flight(blk[i]), 0);
        blk_unref(blk[i]);
    }
    bdrv_unref(base);
}

static char *job_desc(const BdrvChild *child)
{
    return strdup("block job 'j'");
}

static const BdrvChildClass job_class = {.stay_at_node = true, .get_parent_desc = job_desc};
static const BdrvChildClass other_class = {.get_parent_desc = job_desc};

/* Jobs stay at their node, and an edge owned by something below the new node would become a loop (1.8).
 * fact: block 1.8/moves, 1.1/stay-at-node, edge/32 */
WORLD_TEST(test_replace_leaves_some)
{
    BlockDriverState *from = new_node(w, &test_protocol, "from");
    BlockDriverState *to = new_node(w, &test_format, "to");
    bdrv_ref(from);
    link_child(to, from, "backing", BDRV_CHILD_COW);
    BdrvChild *job = bdrv_root_attach_child(from, "job", &job_class, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, NULL, NULL);
    BdrvChild *user =
        bdrv_root_attach_child(from, "root", &other_class, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, NULL, NULL);

    assert_int_equal(bdrv_replace_node(from, to, NULL), 0);
    assert_ptr_equal(bdrv_child_bs(job), from);
    assert_ptr_equal(bdrv_child_bs(user), to);
    assert_ptr_equal(bdrv_cow_bs(to), from);
    bdrv_root_unref_child(job);
    bdrv_root_unref_child(user);
    bdrv_unref(to);
    bdrv_unref(from);
}

/* Order of edges is newest first, in both lists (1.7).
 * fact: block 1.7/head, edge/33 */
WORLD_TEST(test_newest_first)
{
    BlockDriverState *n = new_node(w, &test_protocol, "n");
    BdrvChild *a = bdrv_root_attach_child(n, "a", &other_class, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, NULL, NULL);
    BdrvChild *b = bdrv_root_attach_child(n, "b", &other_class, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, NULL, NULL);
    BlockDriverState *newer = new_node(w, &test_protocol, "newer");

    assert_ptr_equal(bdrv_first_parent(n), b);
    assert_ptr_equal(bdrv_next_parent(b), a);
    assert_ptr_equal(bdrv_next_node(w->host, NULL), newer);
    bdrv_root_unref_child(a);
    bdrv_root_unref_child(b);
    bdrv_unref(newer);
    bdrv_unref(n);
}

/* fact: block 1.7/cycle */
WORLD_TEST(test_cycle_refused)
{
    BlockDriverState *low = new_node(w, &test_format, "low");
    BlockDriverState *high = new_node(w, &test_format, "high");
    Error *err = NULL;

    bdrv_ref(low);
    link_child(high, low, "backing", BDRV_CHILD_COW);
    assert_null(bdrv_attach_child(low, high, "backing", BDRV_CHILD_COW, &err));
    expect_error(&err, "would create a cycle");
    assert_null(bdrv_attach_child(low, low, "backing", BDRV_CHILD_COW, &err));
    expect_error(&err, "would create a cycle");
    bdrv_unref(high);
    bdrv_unref(low);
}

/* The deepest chain that can be made still fits on a request's stack, with an unaligned write at each level. */
WORLD_TEST(test_depth)
{
    struct disk_config config;
    char text[128];
    Error *err = NULL;
    unsigned made = 0;

    disk_config_default(&config);
    config.size_bytes = MiB;
    config.align_bytes = 4096;
    assert_non_null(disk_new(w->sim, "d", &config, NULL));
    add(w, "{'driver':'disk','node-name':'n0','disk':'d'}");
    for (; made < 100; made++) {
        snprintf(text, sizeof(text), "{'driver':'raw','node-name':'n%u','offset':512,'file':'n%u'}", made + 1,
                 made);
        if (!try_add(w, text, &err)) {
            break;
        }
    }
    expect_error(&err, "would make a chain of more than 32 nodes");
    assert_int_equal(made, 31);
    snprintf(text, sizeof(text), "n%u", made);
    BlockBackend *blk = blk_new(w->host, BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, bdrv_find_node(w->host, text), NULL), 0);
    struct request r = {.w = w, .blk = blk, .offset = 1000, .bytes = 5000, .write = true};
    assert_int_equal(run(&r), 0);
    r.write = r.done = false;
    assert_int_equal(run(&r), 0);
    blk_unref(blk);
    for (unsigned i = made + 1; i > 0; i--) {
        snprintf(text, sizeof(text), "n%u", i - 1);
        del(w, text);
    }
}

/* --- freezing, blockers ---------------------------------------------------------------------------------- */

/* fact: block 1.10/chain, 1.10/twice, 1.10/refuses, 1.8/frozen */
WORLD_TEST(test_freeze)
{
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    BlockDriverState *mid = new_node(w, &test_format, "mid");
    BlockDriverState *top = new_node(w, &test_format, "top");
    BlockDriverState *other = new_node(w, &test_protocol, "other");
    Error *err = NULL;

    bdrv_ref(base);
    bdrv_ref(mid);
    BdrvChild *low = link_child(mid, base, "backing", BDRV_CHILD_COW);
    BdrvChild *high = link_child(top, mid, "backing", BDRV_CHILD_COW);
    assert_int_equal(bdrv_freeze_chain(mid, base, NULL), 0);
    /* One frozen edge in the way: none of the others is frozen. */
    assert_int_equal(bdrv_freeze_chain(top, base, &err), -EPERM);
    expect_error(&err, "frozen 'backing' link to 'base'");
    assert_false(bdrv_child_frozen(high));
    assert_true(bdrv_child_frozen(low));
    assert_int_equal(bdrv_replace_node(base, other, &err), -EPERM);
    expect_error(&err, "frozen");
    assert_ptr_equal(bdrv_child_bs(low), base);
    bdrv_unfreeze_chain(mid, base);
    base->never_freeze = true;
    assert_int_equal(bdrv_freeze_chain(top, base, &err), -EPERM);
    expect_error(&err, "Cannot freeze 'backing' link to 'base'");
    assert_false(bdrv_child_frozen(high));
    bdrv_unref(top);
    bdrv_unref(mid);
    bdrv_unref(base);
    bdrv_unref(other);
}

/* [seed 826b6ca]: being a backing file blocks, with a reason that names the overlay.
 * fact: block 1.12/backing; jobs 4.7/backing-blocked, seed/826b6ca */
WORLD_TEST(test_backing_blocks)
{
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    BlockDriverState *top = new_node(w, &test_format, "top");
    Error *err = NULL;

    assert_false(bdrv_op_is_blocked(base, BLOCK_OP_MIRROR_SOURCE, NULL));
    bdrv_ref(base);
    link_child(top, base, "backing", BDRV_CHILD_COW);
    assert_true(bdrv_op_is_blocked(base, BLOCK_OP_MIRROR_SOURCE, &err));
    expect_error(&err, "Node 'base' is busy: node is used as backing hd of 'top'");
    assert_false(bdrv_op_is_blocked(base, BLOCK_OP_COMMIT_TARGET, NULL));
    assert_false(bdrv_op_is_blocked(base, BLOCK_OP_STREAM, NULL));
    assert_false(bdrv_op_is_blocked(base, BLOCK_OP_BACKUP_SOURCE, NULL));
    assert_false(bdrv_op_is_blocked(base, BLOCK_OP_BACKUP_TARGET, NULL));
    bdrv_unref(top);
    assert_false(bdrv_op_is_blocked(base, BLOCK_OP_MIRROR_SOURCE, NULL));
    bdrv_unref(base);
}

/* --- chains ---------------------------------------------------------------------------------------------- */

/* fact: block 1.4/children, 1.4/skip-filters, 1.4/backing-chain-next, 1.4/contains */
WORLD_TEST(test_chain_helpers)
{
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    BlockDriverState *low = bdrv_new_filter(w->host, &test_filter, "low", BDRV_O_RDWR, NULL);
    BlockDriverState *overlay = new_node(w, &test_format, "overlay");
    BlockDriverState *high = bdrv_new_filter(w->host, &test_filter, NULL, BDRV_O_RDWR, NULL);

    link_child(low, base, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY);
    link_child(overlay, low, "backing", BDRV_CHILD_COW);
    link_child(high, overlay, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY);
    assert_null(bdrv_cow_bs(high));
    assert_ptr_equal(bdrv_cow_bs(overlay), low);
    assert_ptr_equal(bdrv_skip_filters(high), overlay);
    assert_ptr_equal(bdrv_skip_implicit_filters(high), overlay);
    assert_ptr_equal(bdrv_skip_implicit_filters(low), low);
    assert_ptr_equal(bdrv_backing_chain_next(high), base);
    assert_null(bdrv_backing_chain_next(low));
    assert_true(bdrv_chain_contains(high, base));
    assert_false(bdrv_chain_contains(low, overlay));
    bdrv_unref(high);
}

/* raw is no filter driver: walks stop at it (1.3, sharp edge 19).
 * fact: block 1.3/raw, edge/19 */
WORLD_TEST(test_raw_is_no_filter)
{
    make_disk(w, "d", MiB);
    BlockDriverState *r = add(w, "{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'d'}}");

    assert_ptr_equal(bdrv_skip_filters(r), r);
    assert_null(bdrv_filter_or_cow_child(r));
    assert_non_null(bdrv_primary_bs(r));
    assert_string_equal(bdrv_filename(r), "d");
    assert_int_equal(bdrv_child_role(bdrv_first_child(r)), BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY);
    del(w, "r");
}

/* --- read-only ------------------------------------------------------------------------------------------- */

/* fact: block 6/read-only-writers, 1.13/inherit */
WORLD_TEST(test_reopen_read_only)
{
    Error *err = NULL;

    make_disk(w, "d", MiB);
    BlockDriverState *r = add(w, "{'driver':'raw','node-name':'r','read-only':true,"
                                 "'file':{'driver':'disk','disk':'d'}}");
    BlockDriverState *f = bdrv_primary_bs(r);
    assert_true(bdrv_is_read_only(f)); /* inherited */
    assert_int_equal(bdrv_reopen_set_read_only(r, false, NULL), 0);
    assert_false(bdrv_is_read_only(r));
    assert_false(bdrv_is_read_only(f));
    BlockBackend *blk = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, r, NULL), 0);
    assert_int_equal(bdrv_reopen_set_read_only(r, true, &err), -EPERM);
    expect_error(&err, "cannot support read-write users");
    assert_false(bdrv_is_read_only(r));
    assert_false(bdrv_is_read_only(f));
    blk_unref(blk);
    assert_int_equal(bdrv_reopen_set_read_only(r, true, NULL), 0);
    assert_true(bdrv_is_read_only(f));
    del(w, "r");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/graph/names/generated", test_generated_names),
        T("/graph/names/refused", test_refused_names),
        T("/graph/names/one-namespace", test_one_namespace),
        T("/graph/names/lookup-device-first", test_lookup_device_first),
        T("/graph/refs", test_refs),
        T("/graph/del/refused", test_del_refused),
        T("/graph/close/flushes", test_close_flushes),
        T("/graph/append/and-drop", test_append_and_drop),
        T("/graph/append/exclusive-writer", test_append_exclusive_writer),
        T("/graph/append/rollback", test_append_rollback),
        T("/graph/replace/leaves-jobs-and-loops", test_replace_leaves_some),
        T("/graph/order/newest-first", test_newest_first),
        T("/graph/cycle/refused", test_cycle_refused),
        T("/graph/depth", test_depth),
        T("/graph/freeze", test_freeze),
        T("/graph/seed/826b6ca/backing-blocks", test_backing_blocks),
        T("/graph/chain/helpers", test_chain_helpers),
        T("/graph/chain/raw-is-no-filter", test_raw_is_no_filter),
        T("/graph/reopen/read-only", test_reopen_read_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
