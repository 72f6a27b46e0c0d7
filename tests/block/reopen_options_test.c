/* Protects: which options reopen changes, and what becomes of those that nobody mentions; what children inherit
 * (block.md 6, 1.13). */
#include "tests/block/reopen_cases.h"

#include "block/throttle_group.h"

/* --- options ---------------------------------------------------------------------------------------------- */

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
        T("/reopen/precedence", test_precedence),
        T("/reopen/omitted", test_omitted),
        T("/reopen/changeable", test_changeable),
        T("/reopen/changeable/throttle-group", test_throttle_group),
        T("/reopen/unchangeable", test_unchangeable),
        T("/reopen/no-reopen", test_no_reopen),
        T("/reopen/inherit", test_inherit),
        T("/reopen/inactive", test_inactive_is_not_read_only),
        T("/reopen/auto-read-only", test_auto_read_only),
        T("/reopen/auto-read-only/copy-on-read", test_auto_read_only_cor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
