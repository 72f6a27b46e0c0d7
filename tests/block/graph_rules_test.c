/* Protects: rules of the graph that other tests only rely on: roles, derived permissions, deferred drops, blockers
 * that ask, names of implicit filters, undoing in lists. */
#include "tests/block/blktest.h"
#include "tests/block/imgfmt.h"

#define STORAGE (BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_PRIMARY)
#define FILTERED (BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY)

static BdrvChild *under(BlockDriverState *parent, BlockDriverState *child, const char *name, uint32_t role)
{
    bdrv_ref(child);
    return link_child(parent, child, name, role);
}

/* --- objects ------------------------------------------------------------------------------------------------ */

WORLD_TEST(test_node_starts)
{
    make_disk(w, "d", MiB);
    BlockDriverState *bs = add(w, "{'driver':'disk','node-name':'n','disk':'d','detect-zeroes':'on'}");
    assert_int_equal(bdrv_refcount(bs), 1);
    assert_int_equal(bdrv_quiesce_counter(bs), 0);
    assert_int_equal(bdrv_in_flight(bs), 0);
    assert_int_equal(bdrv_op_blockers(bs), 0);
    assert_int_equal(bs->write_gen, 0);
    assert_int_equal(bs->flushed_gen, 0);
    assert_int_equal(bs->copy_on_read, 0);
    assert_int_equal(bdrv_getlength_cached(bs), MiB);
    assert_int_equal(bdrv_get_detect_zeroes(bs), BDRV_DETECT_ZEROES_ON);
    assert_false(bdrv_is_implicit(bs));
    assert_false(bs->never_freeze);
    assert_true(bdrv_has_monitor_ref(bs));
    assert_null(bdrv_first_child(bs));
    assert_null(bdrv_first_parent(bs));
    assert_null(bdrv_dirty_bitmap_next(bs, NULL));
    del(w, "n");
}

static void check_roles(const BlockDriverState *bs)
{
    unsigned primary = 0;
    for (BdrvChild *e = bdrv_first_child(bs); e; e = bdrv_next_child(e)) {
        uint32_t role = bdrv_child_role(e);
        uint32_t kinds = role & ~(uint32_t)BDRV_CHILD_PRIMARY;
        assert_true(kinds != 0);
        assert_true(!(kinds & BDRV_CHILD_FILTERED) || kinds == BDRV_CHILD_FILTERED);
        assert_true(!(kinds & BDRV_CHILD_COW) || role == BDRV_CHILD_COW);
        primary += (role & BDRV_CHILD_PRIMARY) != 0;
    }
    assert_int_equal(primary, bdrv_first_child(bs) ? 1 : 0);
}

/* fact: block 1.3/combinations, 1.3/format, 1.3/filter, 1.3/raw */
WORLD_TEST(test_roles)
{
    memset(&img, 0, sizeof(img));
    make_disk(w, "d", MiB);
    assert_int_equal(bdrv_img_create(w->host, "i", "img", MiB, "d", "raw", NULL), 0);
    add(w, "{'driver':'copy-on-read','node-name':'cor','file':"
           "{'driver':'img','node-name':'img','file':{'driver':'disk','disk':'i'},"
           "'backing':{'offset':512,'node-name':'raw'}}}");
    for (BlockDriverState *bs = bdrv_next_node(w->host, NULL); bs; bs = bdrv_next_node(w->host, bs)) {
        check_roles(bs);
    }
    BlockDriverState *image = bdrv_find_node(w->host, "img");
    assert_int_equal(bdrv_child_role(bdrv_first_parent(image)), FILTERED);
    assert_int_equal(bdrv_child_role(bdrv_primary_child(image)), STORAGE);
    assert_int_equal(bdrv_child_role(bdrv_cow_child(image)), BDRV_CHILD_COW);
    BlockDriverState *window = bdrv_find_node(w->host, "raw");
    assert_int_equal(bdrv_child_role(bdrv_primary_child(window)), BDRV_CHILD_DATA | BDRV_CHILD_PRIMARY);
    assert_ptr_equal(bdrv_skip_filters(window), window);
    del(w, "cor");
}

/* --- permissions ---------------------------------------------------------------------------------------------- */

/* What is used already asks for it below at once. */
/* fact: block 1.7/derived, edge/31 */
WORLD_TEST(test_derived)
{
    BlockDriverState *top = new_node(w, &test_format, "top");
    BlockDriverState *file = new_node(w, &test_protocol, "file");
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    uint64_t perm, shared;
    BlockBackend *blk =
        blk_new(w->host, BLK_PERM_CONSISTENT_READ, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    assert_int_equal(blk_insert_bs(blk, top, NULL), 0);
    bdrv_child_perms(under(top, base, "backing", BDRV_CHILD_COW), &perm, &shared);
    assert_int_equal(perm, BLK_PERM_CONSISTENT_READ);
    assert_int_equal(shared, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    /* A writable format writes its file although nobody writes to the format. */
    BdrvChild *edge = under(top, file, "file", STORAGE);
    bdrv_child_perms(edge, &perm, &shared);
    assert_int_equal(perm, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    assert_int_equal(shared, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    blk_unref(blk);
    bdrv_child_perms(edge, &perm, &shared);
    assert_int_equal(perm, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    bdrv_unref(top);
    bdrv_unref(file);
    bdrv_unref(base);
}

/* fact: block 9/add-permissions */
WORLD_TEST(test_add_refused)
{
    Error *err = NULL;
    memset(&img, 0, sizeof(img));
    assert_int_equal(bdrv_img_create(w->host, "i", "img", MiB, NULL, NULL, NULL), 0);
    add(w, "{'driver':'disk','node-name':'f','disk':'i'}");
    add(w, "{'driver':'img','node-name':'one','file':'f'}");
    assert_null(try_add(w, "{'driver':'img','node-name':'two','file':'f'}", &err));
    expect_error(&err, "which does not allow 'write, resize' on node 'f'");
    /* Another node of the same medium meets the lock. */
    assert_null(try_add(w, "{'driver':'img','node-name':'two','file':{'driver':'disk','disk':'i'}}", &err));
    expect_error(&err, "lock on 'i': is something else using the image?");
    assert_int_equal(node_count(w), 2);
    assert_int_equal(bdrv_refcount(bdrv_find_node(w->host, "f")), 2);
    del(w, "one");
    add(w, "{'driver':'img','node-name':'two','file':'f'}");
    del(w, "two");
    del(w, "f");
}

/* --- edits ------------------------------------------------------------------------------------------------------
 */

static char *user_desc(const BdrvChild *child)
{
    return strdup("a user");
}

static const BdrvChildClass user_class = {.get_parent_desc = user_desc};

static bool is_gone(void *opaque)
{
    struct world *w = opaque;
    return bdrv_find_node(w->host, "from") == NULL;
}

/* The node that loses its last edge in an edit is still whole when the edit is over, and closes a turn later. */
/* fact: block 1.5/deferred */
WORLD_TEST(test_deferred)
{
    BlockDriverState *from = new_node(w, &test_protocol, "from");
    BlockDriverState *to = new_node(w, &test_protocol, "to");
    BdrvChild *user =
        bdrv_root_attach_child(from, "root", &user_class, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, NULL, NULL);
    bdrv_unref(from); /* only the edge holds it now */
    assert_int_equal(bdrv_replace_node(from, to, NULL), 0);
    assert_ptr_equal(bdrv_find_node(w->host, "from"), from);
    assert_null(bdrv_first_parent(from));
    int64_t now = sim_now(w->sim);
    host_poll(w->host, is_gone, w);
    assert_int_equal(sim_now(w->sim), now);
    bdrv_root_unref_child(user);
    bdrv_unref(to);
}

/* A refused attach undrains what it drained and frees its edge; the parent hears of it once. */
/* fact: block 1.7/quiesced, 1.7/undone */
WORLD_TEST(test_attach_refused)
{
    BlockDriverState *parent = new_node(w, &test_filter, "parent");
    BlockDriverState *child = new_node(w, &test_protocol, "child");
    BlockBackend *blk = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_CONSISTENT_READ);
    assert_int_equal(blk_insert_bs(blk, child, NULL), 0);
    tn(parent)->extra_perm = BLK_PERM_WRITE;
    uint64_t edges = sim_arena_live(w->host->arena, SIM_TYPE_BdrvChild);
    Error *err = NULL;
    assert_null(bdrv_attach_child(parent, child, "file", FILTERED, &err));
    expect_error(&err, "which does not allow 'write' on node 'child'");
    assert_int_equal(sim_arena_live(w->host->arena, SIM_TYPE_BdrvChild), edges);
    assert_int_equal(tn(parent)->drain_begins, 1);
    assert_int_equal(tn(parent)->drain_ends, 1);
    assert_int_equal(bdrv_quiesce_counter(parent) + bdrv_quiesce_counter(child), 0);
    assert_null(parent->file);
    blk_unref(blk);
    bdrv_unref(parent);
    bdrv_unref(child);
}

/* --- blockers, implicit filters ------------------------------------------------------------------------------- */

/* fact: block 1.12/advisory */
WORLD_TEST(test_advisory)
{
    BlockDriverState *bs = new_node(w, &test_protocol, "n");
    BlockBackend *blk = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_ALL);
    Error *reason = NULL;
    assert_int_equal(blk_insert_bs(blk, bs, NULL), 0);
    error_setg(&reason, "busy");
    bdrv_op_block_all(bs, reason);
    for (unsigned op = 0; op < BLOCK_OP_COUNT; op++) {
        assert_true(bdrv_op_is_blocked(bs, (enum bdrv_op)op, NULL));
    }
    struct request r = {.w = w, .blk = blk, .bytes = 512, .write = true};
    assert_int_equal(run(&r), 0);
    bdrv_op_unblock_all(bs, reason);
    assert_int_equal(bdrv_op_blockers(bs), 0);
    error_free(reason);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* fact: block 1.14/filename */
WORLD_TEST(test_implicit_filename)
{
    make_disk(w, "d", MiB);
    BlockDriverState *disk = add(w, "{'driver':'disk','node-name':'n','disk':'d'}");
    BlockDriverState *filter = bdrv_new_filter(w->host, &test_top, NULL, BDRV_O_RDWR, NULL);
    assert_int_equal(bdrv_append(filter, disk, NULL), 0);
    assert_true(bdrv_is_implicit(filter));
    assert_string_equal(bdrv_filename(filter), "d");
    assert_ptr_equal(bdrv_skip_implicit_filters(filter), disk);
    assert_int_equal(bdrv_drop_filter(filter, NULL), 0);
    bdrv_unref(filter);
    del(w, "n");
}

/* More than requests have stack for cannot come about by replacing either. */
WORLD_TEST(test_replace_depth)
{
    BlockDriverState *high[33], *low[33];
    BlockDriverState *bottom = new_node(w, &test_protocol, "bottom");
    for (unsigned i = 0; i < 24; i++) {
        char name[16];
        snprintf(name, sizeof(name), "h%u", i);
        high[i] = new_node(w, &test_filter, name);
        snprintf(name, sizeof(name), "l%u", i);
        low[i] = new_node(w, &test_filter, name);
        under(high[i], i > 0 ? high[i - 1] : bottom, "file", FILTERED);
        under(low[i], i > 0 ? low[i - 1] : bottom, "file", FILTERED);
    }
    Error *err = NULL;
    assert_int_equal(bdrv_replace_node(high[0], low[23], &err), -EINVAL);
    expect_error(&err, "would be in a chain of more than 32 nodes");
    assert_ptr_equal(bdrv_filter_bs(high[1]), high[0]);
    assert_int_equal(bdrv_replace_node(high[0], low[3], NULL), 0);
    for (unsigned i = 24; i > 0; i--) {
        bdrv_unref(high[i - 1]);
        bdrv_unref(low[i - 1]);
    }
    bdrv_unref(bottom);
}

/* Taken back after others came: who was there before is where it was, in its order, the newcomer behind it. */
WORLD_TEST(test_undo_order)
{
    BlockDriverState *old = new_node(w, &test_protocol, "old");
    BlockDriverState *top = new_node(w, &test_format, "top");
    BdrvChild *user[4];
    for (unsigned i = 0; i < 3; i++) {
        user[i] = bdrv_root_attach_child(old, "u", &user_class, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, NULL, NULL);
    }
    struct bdrv_parents *parents = bdrv_note_parents(old);
    bdrv_drained_begin(old);
    assert_int_equal(bdrv_append(top, old, NULL), 0);
    user[3] = bdrv_root_attach_child(old, "u", &user_class, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, NULL, NULL);
    bdrv_root_unref_child(user[1]); /* and one has left */
    assert_int_equal(bdrv_undo_append(top, old, parents, NULL), 0);
    bdrv_drained_end(old);
    bdrv_forget_parents(w->host, parents);
    assert_ptr_equal(bdrv_first_parent(old), user[2]);
    assert_ptr_equal(bdrv_next_parent(user[2]), user[0]);
    assert_ptr_equal(bdrv_next_parent(user[0]), user[3]);
    assert_null(bdrv_first_child(top));
    assert_int_equal(bdrv_quiesce_counter(top) + bdrv_quiesce_counter(old), 0);
    bdrv_root_unref_child(user[0]);
    bdrv_root_unref_child(user[2]);
    bdrv_root_unref_child(user[3]);
    bdrv_unref(top);
    bdrv_unref(old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/graph/rules/node-starts", test_node_starts),
        T("/graph/rules/roles", test_roles),
        T("/graph/rules/derived-permissions", test_derived),
        T("/graph/rules/add-refused", test_add_refused),
        T("/graph/rules/deferred-drop", test_deferred),
        T("/graph/rules/attach-refused", test_attach_refused),
        T("/graph/rules/blockers-are-advisory", test_advisory),
        T("/graph/rules/implicit-filename", test_implicit_filename),
        T("/graph/rules/replace-depth", test_replace_depth),
        T("/graph/rules/undo-order", test_undo_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
