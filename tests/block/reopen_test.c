/* Protects: what reopen changes, in which order, and what becomes of options that nobody mentions (block.md
 * 6, 1.13). */
#include "tests/block/reopen_lib.h"

#include "block/throttle_group.h"

#define DISK(node, disk) "{'driver':'disk','node-name':'" node "','disk':'" disk "'}"
#define RAW(node, file, more) "{'driver':'raw','node-name':'" node "','file':" file more "}"
#define FMT(node, file, more) "{'driver':'fmt','node-name':'" node "','file':" file more "}"

static BlockBackend *writer(struct world *w, BlockDriverState *bs, uint64_t shared)
{
    BlockBackend *blk = blk_new(w->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, shared);

    assert_int_equal(blk_insert_bs(blk, bs, NULL), 0);
    return blk;
}

static void two_disks(struct world *w)
{
    make_disk(w, "a", MiB);
    make_disk(w, "b", MiB);
    add(w, DISK("fa", "a"));
    add(w, DISK("fb", "b"));
}

static void drop_two(struct world *w)
{
    settle(w);
    del(w, "fa");
    del(w, "fb");
}

/* --- the queue -------------------------------------------------------------------------------------------- */

/* fact: block 6/queue */
WORLD_TEST(test_queue)
{
    two_disks(w);
    BlockDriverState *child = fmt_new(w, "{'driver':'fmt','node-name':'child'}", "fa", NULL);
    BlockDriverState *top = fmt_new(w, "{'driver':'fmt','node-name':'top'}", "child", NULL);
    reopen(w, "[" FMT("top", "'child'", "") "]");
    assert_string_equal(fmt_log, "prepare:top commit:top post:top "); /* a reference is not made inline */
    child->inherits_from = top->number + 1;
    fmt_log[0] = 0;
    reopen(w, "[" FMT("top", "'child'", "") "]");
    assert_string_equal(fmt_log, "prepare:top prepare:child commit:child commit:top post:child post:top ");
    assert_true(fmt_all_drained);
    assert_int_equal(top->quiesce_counter, 0);
    assert_int_equal(child->quiesce_counter, 0);
    del(w, "top");
    del(w, "child");
    drop_two(w);
}

/* fact: block 6/order */
WORLD_TEST(test_order)
{
    two_disks(w);
    fmt_new(w, "{'driver':'fmt','node-name':'low'}", "fa", NULL);
    fmt_new(w, "{'driver':'fmt','node-name':'high'}", "low", NULL);
    /* Whatever order they are named in, storage is committed before what stands on it. */
    reopen(w, "[" FMT("low", "'fa'", "") "," FMT("high", "'low'", "") "]");
    assert_string_equal(fmt_log, "prepare:high prepare:low commit:low commit:high post:low post:high ");
    fmt_log[0] = 0;
    fmt_refuses = "low";
    reopen_refused(w, "[" FMT("low", "'fa'", "") "," FMT("high", "'low'", "") "]", "fmt refuses");
    assert_string_equal(fmt_log,
                        "prepare:high prepare:low abort:high "); /* who has not prepared has nothing to undo */
    del(w, "high");
    del(w, "low");
    drop_two(w);
}

/* fact: block 6/flush */
WORLD_TEST(test_flush)
{
    two_disks(w);
    BlockDriverState *f = fmt_new(w, "{'driver':'fmt','node-name':'f'}", "fa", NULL);
    f->write_gen++;
    fmt_flush_error = -EIO;
    reopen_refused(w, "[" RAW("fa", "'fb'", "") "]", "Cannot change the option 'driver'");
    reopen_refused(w, "[" FMT("f", "'fa'", ",'tune':1") "]", "Error flushing drive: Input/output error");
    assert_string_equal(fmt_log, ""); /* nobody has been asked anything */
    fmt_flush_error = 0;
    reopen(w, "[" FMT("f", "'fa'", ",'tune':1") "]");
    del(w, "f");
    drop_two(w);
}

/* --- options ---------------------------------------------------------------------------------------------- */

static bool flag(BlockDriverState *bs, uint32_t bit)
{
    return (bs->open_flags & bit) != 0;
}

/* fact: block 6/precedence */
WORLD_TEST(test_precedence)
{
    make_disk(w, "a", MiB);
    BlockDriverState *r = add(w, "{'driver':'raw','node-name':'r','cache':{'direct':true},'file':{'driver':'disk',"
                                 "'disk':'a','node-name':'f','cache':{'no-flush':true}}}");
    BlockDriverState *f = node(w, "f");
    assert_true(flag(f, BDRV_O_NOCACHE) && flag(f, BDRV_O_NO_FLUSH)); /* inherited, own */
    struct qvalue *passed = opts("{'cache':{'direct':false},'read-only':true}");
    assert_int_equal(bdrv_reopen(r, passed, true, NULL), 0);
    qvalue_free(passed);
    /* Passed for the parent, so handed down; what the child had been told itself stays. */
    assert_false(flag(r, BDRV_O_NOCACHE) || flag(r, BDRV_O_RDWR));
    assert_false(flag(f, BDRV_O_NOCACHE) || flag(f, BDRV_O_RDWR));
    assert_true(flag(f, BDRV_O_NO_FLUSH));
    /* Told to be read-only itself it does not follow its parent any more. */
    passed = opts("{'read-only':true}");
    assert_int_equal(bdrv_reopen(f, passed, true, NULL), 0);
    qvalue_free(passed);
    passed = opts("{'read-only':false}");
    assert_int_equal(bdrv_reopen(r, passed, true, NULL), 0);
    qvalue_free(passed);
    assert_true(flag(r, BDRV_O_RDWR) && !flag(f, BDRV_O_RDWR));
    /* And by passing it, it is what was passed. */
    reopen(w, "[{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'a','node-name':'f',"
              "'read-only':false,'discard':'ignore'}}]");
    assert_true(flag(r, BDRV_O_RDWR) && flag(f, BDRV_O_RDWR));
    assert_false(flag(f, BDRV_O_NO_FLUSH) || flag(f, BDRV_O_UNMAP));
    del(w, "r");
}

/* fact: block 6/omitted, edge/34 */
WORLD_TEST(test_omitted)
{
    two_disks(w);
    BlockDriverState *f = fmt_new(w, "{'driver':'fmt','node-name':'f','fixed':4096,'tune':512}", "fa", NULL);
    reopen(w, "[" FMT("f", "'fa'",
                      ",'fixed':'4k','cache.direct':true,'detect-zeroes':'on','read-only':true,"
                      "'discard':'unmap'") "]");
    assert_true(flag(f, BDRV_O_NOCACHE) && flag(f, BDRV_O_UNMAP) && !flag(f, BDRV_O_RDWR));
    assert_int_equal(f->detect_zeroes, BDRV_DETECT_ZEROES_ON);
    assert_null(qdict_get(f->options, "tune"));
    reopen(w, "[" FMT("f", "'fa'", ",'fixed':4096") "]");
    assert_int_equal(f->open_flags, BDRV_O_RDWR);
    assert_int_equal(f->detect_zeroes, BDRV_DETECT_ZEROES_OFF);
    reopen_refused(w, "[" FMT("f", "'fa'", "") "]", "Option 'fixed' cannot be reset to its default value");
    /* A backing child must be restated, be it only to say that there shall be none. */
    assert_non_null(bdrv_attach_child(f, node(w, "fb"), "backing", BDRV_CHILD_COW, NULL));
    reopen_refused(w, "[" FMT("f", "'fa'", ",'fixed':4096") "]", "backing is missing for 'f'");
    reopen(w, "[" FMT("f", "'fa'", ",'fixed':4096,'backing':null") "]");
    assert_null(f->backing);
    del(w, "f");
    drop_two(w);
}

/* fact: block 6/changeable */
WORLD_TEST(test_changeable)
{
    two_disks(w);
    BlockDriverState *r = add(w, RAW("r", "'fa'", ""));
    reopen(w, "[" RAW("r", "'fa'", ",'offset':4096,'size':'8k'") "]");
    assert_int_equal(r->total_bytes, 8192);
    assert_int_equal(r->file->role, BDRV_CHILD_DATA | BDRV_CHILD_PRIMARY);
    reopen(w, "[" RAW("r", "'fa'", ",'size':'8k'") "]");
    reopen(w, "[" RAW("r", "'fa'",
                      ",'read-only':true,'cache':{'direct':true,'no-flush':true},'discard':'unmap',"
                      "'detect-zeroes':'unmap','auto-read-only':true") "]");
    assert_int_equal(r->total_bytes, MiB);
    assert_int_equal(r->file->role, BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY);
    assert_int_equal(r->open_flags, BDRV_O_NOCACHE | BDRV_O_NO_FLUSH | BDRV_O_UNMAP | BDRV_O_AUTO_RDONLY);
    assert_int_equal(r->detect_zeroes, BDRV_DETECT_ZEROES_UNMAP);
    reopen_refused(w, "[" RAW("r", "'fa'", ",'offset':'2M'") "]", "cannot be greater than the size of the file");
    reopen_refused(w, "[" RAW("r", "'fa'", ",'size':1000") "]", "not a multiple of 512");
    del(w, "r");
    drop_two(w);
}

/* fact: block 6/changeable */
WORLD_TEST(test_throttle_group)
{
    struct qvalue *props = opts("{'limits':{'iops-total':10}}");
    two_disks(w);
    assert_true(throttle_object_add(w->host, "g1", props, NULL));
    assert_true(throttle_object_add(w->host, "g2", props, NULL));
    qvalue_free(props);
    add(w, "{'driver':'throttle','node-name':'t','throttle-group':'g1','file':'fa'}");
    assert_int_equal(throttle_group_users(throttle_group_find(w->host, "g1")), 2);
    reopen(w, "[{'driver':'throttle','node-name':'t','throttle-group':'g2','file':'fb'}]");
    assert_int_equal(throttle_group_users(throttle_group_find(w->host, "g1")), 1);
    assert_int_equal(throttle_group_users(throttle_group_find(w->host, "g2")), 2);
    reopen_refused(w, "[{'driver':'throttle','node-name':'t','throttle-group':'g3','file':'fa'}]",
                   "Throttle group 'g3' does not exist");
    reopen_refused(w,
                   "[{'driver':'throttle','node-name':'t','throttle-group':'g1','file':'fa'},"
                   "{'driver':'disk','node-name':'fa','disk':'b'}]",
                   "Cannot change the option 'disk'");
    assert_int_equal(throttle_group_users(throttle_group_find(w->host, "g2")), 2);
    del(w, "t");
    drop_two(w);
    assert_true(throttle_object_del(w->host, "g1", NULL) && throttle_object_del(w->host, "g2", NULL));
}

/* fact: block 6/unchangeable */
WORLD_TEST(test_unchangeable)
{
    make_disk(w, "d", MiB);
    make_disk(w, "e", MiB);
    add(w, "{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'d'}}");
    add(w, "{'driver':'null-co','node-name':'n','size':4096}");
    add(w, "{'driver':'null-co','node-name':'s','read-only':true,'force-share':true}");
    add(w, "{'driver':'blkdebug','node-name':'b','image':'n','align':512}");
    reopen_refused(w, "[{'driver':'null-co','node-name':'r'}]", "Cannot change the option 'driver'");
    reopen_refused(w, "[{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'d','node-name':'x'}}]",
                   "Cannot change the option 'node-name'");
    reopen_refused(w, "[{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'e'}}]",
                   "Cannot change the option 'disk'");
    reopen_refused(w, "[{'driver':'null-co','node-name':'n','size':8192}]", "Cannot change the option 'size'");
    reopen_refused(w, "[{'driver':'null-co','node-name':'n'}]", "Option 'size' cannot be reset");
    reopen_refused(w, "[{'driver':'null-co','node-name':'n','size':4096,'read-only':true,'force-share':true}]",
                   "Cannot change the option 'force-share'");
    reopen_refused(w, "[{'driver':'null-co','node-name':'s','read-only':true}]",
                   "Option 'force-share' cannot be reset");
    reopen_refused(w, "[{'driver':'null-co','node-name':'n','size':4096,'active':false}]",
                   "Cannot change the option 'active'");
    reopen_refused(w, "[{'driver':'blkdebug','node-name':'b','image':'n','align':4096}]",
                   "Cannot change the option 'align'");
    reopen_refused(w, "[{'driver':'blkdebug','node-name':'b','image':'n'}]", "Option 'align' cannot be reset");
    reopen_refused(w, "[{'driver':'blkdebug','node-name':'b','image':'s','align':512}]",
                   "Cannot change the option 'image'");
    /* Saying what is so already is fine. */
    reopen(w, "[{'driver':'null-co','node-name':'n','size':'4k','active':true},"
              "{'driver':'null-co','node-name':'s','read-only':'on','force-share':true}]");
    reopen(w, "[{'driver':'blkdebug','node-name':'b','image':'n','align':512}]");
    del(w, "b");
    del(w, "s");
    del(w, "n");
    del(w, "r");
}

/* fact: block 6/no-reopen */
WORLD_TEST(test_no_reopen)
{
    two_disks(w);
    add(w, "{'driver':'blkverify','node-name':'v','raw':'fa','test':'fb'}");
    add(w, "{'driver':'copy-on-read','node-name':'c','file':'fa'}");
    add(w, "{'driver':'quorum','node-name':'q','vote-threshold':1,'children':['fa','fb']}");
    reopen_refused(w, "[{'driver':'blkverify','node-name':'v','raw':'fa','test':'fb'}]",
                   "Block format 'blkverify' used by node 'v' does not support reopening files");
    reopen_refused(w, "[{'driver':'copy-on-read','node-name':'c','file':'fa'}]",
                   "Block format 'copy-on-read' used by node 'c' does not support reopening files");
    reopen_refused(w, "[{'driver':'quorum','node-name':'q','vote-threshold':1,'children':['fa','fb']}]",
                   "Block format 'quorum' used by node 'q' does not support reopening files");
    del(w, "q");
    del(w, "c");
    del(w, "v");
    drop_two(w);
}

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

/* --- all or nothing --------------------------------------------------------------------------------------- */

/* fact: block 6/all-or-nothing */
WORLD_TEST(test_all_or_nothing)
{
    two_disks(w);
    add(w, RAW("r", "'fa'", ""));
    BlockDriverState *f = fmt_new(w, "{'driver':'fmt','node-name':'f'}", "fb", NULL);
    BlockBackend *blk = writer(w, f, BLK_PERM_ALL);
    /* Refused by the driver, by permissions after the links were changed, by a name. */
    fmt_refuses = "f";
    reopen_refused(w, "[" RAW("r", "'fb'", ",'size':512,'read-only':true") "," FMT("f", "'fb'", "") "]",
                   "fmt refuses");
    fmt_refuses = NULL;
    reopen_refused(
        w, "[" RAW("r", "'fb'", ",'size':512,'detect-zeroes':'on'") "," FMT("f", "'fa'", ",'read-only':true") "]",
        "Read-only block node 'f' cannot support read-write users");
    reopen_refused(w, "[" RAW("r", "'fb'", ",'size':512") ",{'driver':'raw','node-name':'nix','file':'fa'}]",
                   "Failed to find node with node-name='nix'");
    reopen_refused(w, "[" RAW("r", "'fb'", ",'size':512") ",{'driver':'raw','file':'fa'}]",
                   "node-name not specified");
    blk_unref(blk);
    del(w, "f");
    del(w, "r");
    drop_two(w);
}

/* fact: block 6/future-flags */
WORLD_TEST(test_future_flags)
{
    make_disk(w, "a", MiB);
    add(w, "{'driver':'disk','node-name':'fa','disk':'a','read-only':true}");
    BlockDriverState *f = fmt_new(w, "{'driver':'fmt','node-name':'f','read-only':true}", "fa", NULL);
    /* A writable format writes to its file, which must become so with it; in whatever order they are named. */
    reopen_refused(w, "[" FMT("f", "'fa'", "") "]", "Read-only block node 'fa' cannot support read-write users");
    reopen(w, "[" FMT("f", "'fa'", "") "," DISK("fa", "a") "]");
    assert_true(f->file->perm & BLK_PERM_WRITE);
    reopen_refused(w, "[{'driver':'disk','node-name':'fa','disk':'a','read-only':true}]",
                   "cannot support read-write");
    reopen(w, "[{'driver':'disk','node-name':'fa','disk':'a','read-only':true}," FMT("f", "'fa'",
                                                                                     ",'read-only':true") "]");
    assert_false(f->file->perm & BLK_PERM_WRITE);
    del(w, "f");
    del(w, "fa");
}

/* fact: block 6/read-only-writers, 1.13/copy-on-read */
WORLD_TEST(test_read_only)
{
    two_disks(w);
    BlockDriverState *r = add(w, RAW("r", "'fa'", ""));
    BlockBackend *blk = writer(w, r, BLK_PERM_ALL);
    reopen_refused(w, "[" RAW("r", "'fa'", ",'read-only':true") "]",
                   "Read-only block node 'r' cannot support read-write");
    blk_unref(blk);
    bdrv_enable_copy_on_read(r);
    reopen_refused(w, "[" RAW("r", "'fa'", ",'read-only':true") "]",
                   "Can't set node 'r' to r/o with copy-on-read enabled");
    bdrv_disable_copy_on_read(r);
    reopen(w, "[" RAW("r", "'fa'", ",'read-only':true") "]");
    assert_true(bdrv_is_read_only(r));
    del(w, "r");
    drop_two(w);
}

/* --- inheritance, auto-read-only (1.13) --------------------------------------------------------------------- */

/* fact: block 1.13/inherit */
WORLD_TEST(test_inherit)
{
    make_disk(w, "a", MiB);
    BlockDriverState *r = add(w, "{'driver':'raw','node-name':'r','read-only':true,'auto-read-only':true,"
                                 "'force-share':true,'cache':{'direct':true,'no-flush':true},"
                                 "'file':{'driver':'disk','disk':'a'}}");
    assert_int_equal(r->file->bs->open_flags,
                     BDRV_O_AUTO_RDONLY | BDRV_O_FORCE_SHARE | BDRV_O_NOCACHE | BDRV_O_NO_FLUSH | BDRV_O_UNMAP);
    assert_false(flag(r, BDRV_O_UNMAP));
    reopen(w, "[{'driver':'raw','node-name':'r','read-only':true,'force-share':true,"
              "'file':{'driver':'disk','disk':'a'}}]");
    assert_int_equal(r->file->bs->open_flags, BDRV_O_FORCE_SHARE | BDRV_O_UNMAP);
    del(w, "r");
}

/* fact: block 1.13/independent, edge/37 */
WORLD_TEST(test_inactive_is_not_read_only)
{
    BlockDriverState *n = add(w, "{'driver':'null-co','node-name':'n','active':false}");
    assert_true(bdrv_is_inactive(n) && !bdrv_is_read_only(n) && !bdrv_is_writable(n));
    reopen(w, "[{'driver':'null-co','node-name':'n','read-only':true}]");
    assert_true(bdrv_is_inactive(n) && bdrv_is_read_only(n));
    reopen(w, "[{'driver':'null-co','node-name':'n'}]");
    assert_true(bdrv_is_inactive(n) && !bdrv_is_read_only(n));
    del(w, "n");
}

/* fact: block 1.13/auto-read-only */
WORLD_TEST(test_auto_read_only)
{
    struct disk *disk = make_disk(w, "d", MiB);
    struct denier d = {.interposer = {.before = deny}, .op = SIM_OP_OPEN, .error = -EACCES};
    Error *err = NULL;

    disk_add_interposer(disk, &d.interposer);
    BlockDriverState *n = add(w, "{'driver':'disk','node-name':'n','disk':'d','auto-read-only':true}");
    assert_int_equal(d.seen, 1);
    assert_false(bdrv_is_read_only(n));
    /* The first writer opens the medium for writing, the last one gives it up. */
    BlockBackend *blk = writer(w, n, BLK_PERM_ALL);
    BlockBackend *second = writer(w, n, BLK_PERM_ALL);
    assert_int_equal(d.seen, 2);
    blk_unref(blk);
    blk_unref(second);
    d.left = 1;
    second = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_true(blk_insert_bs(second, n, &err) < 0);
    expect_error(&err, "Could not open 'd' for writing: Permission denied");
    assert_int_equal(d.seen, 3);
    assert_int_equal(blk_insert_bs(second, n, NULL), 0);
    blk_unref(second);
    /* Falls back at open, and at reopen; and comes back by reopen. */
    del(w, "n");
    d.left = 1;
    n = add(w, "{'driver':'disk','node-name':'n','disk':'d','auto-read-only':true}");
    assert_true(bdrv_is_read_only(n));
    reopen(w, "[{'driver':'disk','node-name':'n','disk':'d','auto-read-only':true}]");
    assert_false(bdrv_is_read_only(n));
    reopen(w, "[{'driver':'disk','node-name':'n','disk':'d','read-only':true}]");
    d.left = 1;
    reopen_refused(w, "[{'driver':'disk','node-name':'n','disk':'d'}]", "Could not open 'd': Permission denied");
    d.left = 1;
    reopen(w, "[{'driver':'disk','node-name':'n','disk':'d','auto-read-only':true}]");
    assert_true(bdrv_is_read_only(n));
    del(w, "n");
    disk_remove_interposer(disk, &d.interposer);
}

/* fact: block 1.13/auto-read-only-cor */
WORLD_TEST(test_auto_read_only_cor)
{
    BlockDriverState *n = add(w, "{'driver':'null-co','node-name':'n','auto-read-only':true}");
    BDRVReopenState state = {.bs = n, .flags = n->open_flags};
    Error *err = NULL;

    bdrv_enable_copy_on_read(n);
    assert_int_equal(bdrv_apply_auto_read_only(n, "Image is read-only", &err), -EACCES);
    expect_error(&err, "Image is read-only");
    assert_int_equal(bdrv_reopen_auto_read_only(&state, "Image is read-only", &err), -EACCES);
    expect_error(&err, "Image is read-only");
    assert_false(bdrv_is_read_only(n));
    bdrv_disable_copy_on_read(n);
    assert_int_equal(bdrv_apply_auto_read_only(n, "Image is read-only", &err), 0);
    assert_true(bdrv_is_read_only(n));
    del(w, "n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/reopen/queue", test_queue),
        T("/reopen/order", test_order),
        T("/reopen/flush", test_flush),
        T("/reopen/precedence", test_precedence),
        T("/reopen/omitted", test_omitted),
        T("/reopen/changeable", test_changeable),
        T("/reopen/changeable/throttle-group", test_throttle_group),
        T("/reopen/unchangeable", test_unchangeable),
        T("/reopen/no-reopen", test_no_reopen),
        T("/reopen/file", test_file),
        T("/reopen/file/shorter", test_shorter_file),
        T("/reopen/backing", test_backing),
        T("/reopen/refused", test_refused),
        T("/reopen/refused/filter-slot", test_filter_slot),
        T("/reopen/swap", test_swap),
        T("/reopen/all-or-nothing", test_all_or_nothing),
        T("/reopen/future-flags", test_future_flags),
        T("/reopen/read-only", test_read_only),
        T("/reopen/inherit", test_inherit),
        T("/reopen/inactive", test_inactive_is_not_read_only),
        T("/reopen/auto-read-only", test_auto_read_only),
        T("/reopen/auto-read-only/copy-on-read", test_auto_read_only_cor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
