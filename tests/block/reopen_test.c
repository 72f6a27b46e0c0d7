/* Protects: what reopen does in which order, and that it is all or nothing (block.md 6). */
#include "tests/block/reopen_cases.h"

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

/* fact: block 6/order, edge/35 */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/reopen/queue", test_queue),
        T("/reopen/order", test_order),
        T("/reopen/flush", test_flush),
        T("/reopen/all-or-nothing", test_all_or_nothing),
        T("/reopen/future-flags", test_future_flags),
        T("/reopen/read-only", test_read_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
