/* Protects: which children reopen gives a node, and which it refuses (block.md 6). */
#include "tests/block/reopen_cases.h"

/* --- children --------------------------------------------------------------------------------------------- */

/* fact: block 6/file */
WORLD_TEST(test_file)
{
    two_disks(w);
    BlockDriverState *r = add(w, RAW("r", "'fa'", ""));
    BlockBackend *blk = writer(w, r, BLK_PERM_ALL);
    disk_find(w->sim, "b");
    reopen(w, "[" RAW("r", "'fb'", "") "]");
    assert_ptr_equal(r->file->bs, node(w, "fb"));
    struct request req = {.w = w, .blk = blk, .bytes = 4096, .write = true};
    assert_int_equal(run(&req), 0);
    assert_int_equal(disk_allocated_bytes(disk_find(w->sim, "a")), 0);
    assert_int_equal(disk_allocated_bytes(disk_find(w->sim, "b")), 4096);
    reopen_refused(w, "[" RAW("r", "null", "") "]", "Parameter 'file' is missing");
    reopen_refused(w, "[" RAW("r", "'nix'", "") "]", "Cannot find device='nix' nor node-name='nix'");
    reopen_refused(w, "[" RAW("r", "{'driver':'disk','disk':'a'}", "") "]",
                   "Cannot change the option 'file.driver'");
    blk_unref(blk);
    del(w, "r");
    drop_two(w);
}

/* A shorter file makes all that stand on it shorter at once: a write beyond its end would be fatal. */
/* fact: block 6/file */
WORLD_TEST(test_shorter_file)
{
    make_disk(w, "a", MiB);
    make_disk(w, "b", 64 * KiB);
    add(w, DISK("fa", "a"));
    add(w, DISK("fb", "b"));
    add(w, RAW("r", "'fa'", ""));
    add(w, RAW("win", "'r'", ",'offset':4096"));
    BlockDriverState *top = add(w, RAW("top", "'win'", ""));
    BlockBackend *blk = writer(w, top, BLK_PERM_ALL);
    reopen(w, "[" RAW("r", "'fb'", "") "]");
    assert_int_equal(node(w, "r")->total_bytes, 64 * KiB);
    assert_int_equal(top->total_bytes, 60 * KiB);
    struct request req = {.w = w, .blk = blk, .offset = 512 * KiB, .bytes = 4096, .write = true};
    assert_int_equal(run(&req), -EIO);
    blk_unref(blk);
    del(w, "top");
    del(w, "win");
    del(w, "r");
    drop_two(w);
}

/* fact: block 6/backing-forms, 6/backing-required */
WORLD_TEST(test_backing)
{
    two_disks(w);
    add(w, "{'driver':'null-co','node-name':'n','read-only':true}");
    add(w, "{'driver':'null-co','node-name':'m','read-only':true}");
    BlockDriverState *f = fmt_new(w, "{'driver':'fmt','node-name':'f'}", "fa", NULL);
    reopen(w, "[" FMT("f", "'fa'", "") "]"); /* neither one nor a name of one: need not be said */
    f->backing_filename = sim_strdup(w->host->arena, "gone");
    reopen_refused(w, "[" FMT("f", "'fa'", "") "]", "backing is missing for 'f'");
    reopen(w, "[" FMT("f", "'fa'", ",'backing':'n'") "]");
    assert_ptr_equal(bdrv_cow_bs(f), node(w, "n"));
    reopen_refused(w, "[" FMT("f", "'fa'", "") "]", "backing is missing for 'f'");
    reopen(w, "[" FMT("f", "'fa'", ",'backing':'m'") "]");
    assert_ptr_equal(bdrv_cow_bs(f), node(w, "m"));
    reopen_refused(w, "[" FMT("f", "'fa'", ",'backing':{'driver':'null-co','read-only':true}") "]",
                   "Cannot change the option 'backing.driver'");
    node(w, "m")->inherits_from = f->number + 1; /* as if it had been made inline */
    reopen(w, "[" FMT("f", "'fa'",
                      ",'backing':{'driver':'null-co','node-name':'m','read-only':true,"
                      "'discard':'ignore'}") "]");
    assert_false(flag(node(w, "m"), BDRV_O_UNMAP));
    reopen(w, "[" FMT("f", "'fa'", ",'backing':null") "]");
    assert_null(f->backing);
    assert_int_equal(node(w, "m")->inherits_from, 0); /* told nothing by f any more */
    settle(w);
    del(w, "f");
    del(w, "n");
    del(w, "m");
    drop_two(w);
}

/* fact: block 6/refused, 1.14/reopen */
WORLD_TEST(test_refused)
{
    Error *err = NULL;

    two_disks(w);
    add(w, "{'driver':'null-co','node-name':'n','read-only':true}");
    add(w, "{'driver':'null-co','node-name':'o','read-only':true}");
    add(w, RAW("r", "'fa'", ""));
    add(w, RAW("r2", "'r'", ""));
    BlockDriverState *f = fmt_new(w, "{'driver':'fmt','node-name':'f'}", "fb", "n");
    reopen_refused(w, "[" RAW("r", "'r2'", "") "]", "Making 'r2' a file child of 'r' would create a cycle");
    reopen_refused(w, "[" RAW("r", "'r'", "") "]", "Making 'r' a file child of 'r' would create a cycle");
    assert_int_equal(bdrv_freeze_chain(f, node(w, "n"), &err), 0);
    reopen_refused(w, "[" FMT("f", "'fb'", ",'backing':'o'") "]", "Cannot change frozen 'backing' link");
    reopen_refused(w, "[" FMT("f", "'fb'", ",'backing':null") "]", "Cannot change frozen 'backing' link");
    reopen(w, "[" FMT("f", "'fb'", ",'backing':'n'") "]"); /* it does not change */
    bdrv_unfreeze_chain(f, node(w, "n"));
    reopen_refused(w, "[" RAW("r", "'fa'", ",'backing':'n'") "]",
                   "Driver 'raw' of node 'r' does not support backing files");
    reopen(w, "[" RAW("r", "'fa'", ",'backing':null") "]"); /* there is none */
    BlockDriverState *filter = bdrv_new_filter(w->host, &test_top, NULL, 0, NULL);
    assert_int_equal(bdrv_append(filter, node(w, "n"), NULL), 0);
    reopen_refused(w, "[" FMT("f", "'fb'", ",'backing':'o'") "]", "Cannot replace implicit backing child of f");
    reopen(w, "[" FMT("f", "'fb'", ",'backing':'n'") "]"); /* the node behind it: no change */
    assert_ptr_equal(bdrv_cow_bs(f), filter);
    assert_int_equal(bdrv_drop_filter(filter, NULL), 0);
    bdrv_unref(filter);
    del(w, "f");
    del(w, "r2");
    del(w, "r");
    del(w, "n");
    del(w, "o");
    drop_two(w);
}

/* fact: block 6/refused */
WORLD_TEST(test_filter_slot)
{
    struct qvalue *props = opts("{}");

    two_disks(w);
    assert_true(throttle_object_add(w->host, "g", props, NULL));
    qvalue_free(props);
    add(w, "{'driver':'throttle','node-name':'t','throttle-group':'g','file':'fa'}");
    reopen_refused(w, "[{'driver':'throttle','node-name':'t','throttle-group':'g','file':'fa','backing':'fb'}]",
                   "'t' is a throttle filter node that does not support a backing child");
    del(w, "t");
    drop_two(w);
    assert_true(throttle_object_del(w->host, "g", NULL));
}

/* Raw nodes whose users let nobody else write hold on to their files; formats would do so without any user. */
/* fact: block 6/swap, 12/permissions-swap */
WORLD_TEST(test_swap)
{
    two_disks(w);
    BlockDriverState *x = fmt_new(w, "{'driver':'fmt','node-name':'x'}", "fa", NULL);
    BlockDriverState *y = fmt_new(w, "{'driver':'fmt','node-name':'y'}", "fb", NULL);
    assert_int_equal(bdrv_refresh_perms(x, NULL), 0);
    assert_int_equal(bdrv_refresh_perms(y, NULL), 0);
    reopen_refused(w, "[" FMT("x", "'fb'", "") "]", "which does not allow");
    reopen_refused(w, "[" FMT("y", "'fa'", "") "]", "which does not allow");
    reopen(w, "[" FMT("x", "'fb'", "") "," FMT("y", "'fa'", "") "]");
    assert_ptr_equal(x->file->bs, node(w, "fb"));
    assert_ptr_equal(y->file->bs, node(w, "fa"));
    del(w, "x");
    del(w, "y");
    drop_two(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/reopen/file", test_file),
        T("/reopen/file/shorter", test_shorter_file),
        T("/reopen/backing", test_backing),
        T("/reopen/refused", test_refused),
        T("/reopen/refused/filter-slot", test_filter_slot),
        T("/reopen/swap", test_swap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
