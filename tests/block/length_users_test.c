/* Protects: nobody's node becomes shorter under requests that are on their way, against a user's will, or to a
 * length that its writer cannot live with (block.md 1.11, 2.15, 3, 5, 6). */
#include "tests/block/reopen_lib.h"

#define DISK(node, disk) "{'driver':'disk','node-name':'" node "','disk':'" disk "'}"
#define RAW(node, file, more) "{'driver':'raw','node-name':'" node "','file':" file more "}"
#define NO_RESIZE (BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE)

static BlockBackend *writer(struct world *w, BlockDriverState *bs, uint64_t shared)
{
    BlockBackend *blk = blk_new(w->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, shared);

    assert_int_equal(blk_insert_bs(blk, bs, NULL), 0);
    return blk;
}

static void resize_refused(struct world *w, const char *name, int64_t length, const char *text)
{
    Error *err = NULL;

    assert_false(qmp_block_resize_node(node(w, name), length, &err));
    expect_error(&err, text);
}

/* What reopen would do to the length is refused like a resize; the same length is no resize. */
/* fact: block 6/file */
WORLD_TEST(test_reopen_asks)
{
    make_disk(w, "a", MiB);
    make_disk(w, "b", 64 * KiB);
    add(w, DISK("fa", "a"));
    add(w, DISK("fb", "b"));
    add(w, RAW("r", "'fa'", ""));
    BlockDriverState *top = add(w, "{'driver':'copy-on-read','node-name':'top','file':'r'}");
    BlockBackend *blk = writer(w, top, NO_RESIZE);

    reopen_refused(w, "[" RAW("r", "'fb'", "") "]", "Cannot change the length of node");
    reopen_refused(w, "[" RAW("r", "'fa'", ",'size':65536") "]", "Cannot change the length of node");
    reopen(w, "[" RAW("r", "'fa'", ",'size':1048576") "]");
    blk_unref(blk);
    reopen(w, "[" RAW("r", "'fb'", "") "]");
    assert_int_equal(top->total_bytes, 64 * KiB);
    del(w, "top");
    del(w, "r");
    settle(w);
    del(w, "fa");
    del(w, "fb");
}

/* A writer without RESIZE ends on its alignment, whichever node is made longer or shorter. */
/* fact: block 1.11/unaligned-size */
WORLD_TEST(test_alignment_above)
{
    make_disk(w, "a", 16 * KiB);
    add(w, DISK("fa", "a"));
    add(w, RAW("r", "'fa'", ""));
    BlockDriverState *top = add(w, "{'driver':'blkdebug','node-name':'top','image':'r','align':4096}");
    BlockBackend *blk = writer(w, top, BLK_PERM_ALL);

    resize_refused(w, "fa", 8 * KiB + 512, "must stay a multiple of 4096");
    resize_refused(w, "top", 8 * KiB + 512, "must stay a multiple of 4096");
    reopen_refused(w, "[" RAW("r", "'fa'", ",'size':8704") "]", "must stay a multiple of 4096");
    assert_true(qmp_block_resize_node(node(w, "fa"), 8 * KiB, NULL));
    assert_int_equal(top->total_bytes, 8 * KiB);
    struct request req = {.w = w, .blk = blk, .offset = 7 * KiB, .bytes = KiB, .write = true};
    assert_int_equal(run(&req), 0);
    blk_unref(blk);
    del(w, "top");
    del(w, "r");
    del(w, "fa");
}

/* Without a state of its own a preallocate node is as long as its file, also when others resize that. */
/* fact: block 2.15/preallocate-length */
WORLD_TEST(test_preallocate_follows)
{
    make_disk(w, "a", MiB);
    add(w, DISK("fa", "a"));
    BlockDriverState *top = add(w, "{'driver':'preallocate','node-name':'top','file':'fa'}");
    BlockBackend *blk = writer(w, top, BLK_PERM_ALL);

    assert_true(qmp_block_resize_node(node(w, "fa"), 64 * KiB, NULL));
    assert_int_equal(top->total_bytes, 64 * KiB);
    struct request req = {.w = w, .blk = blk, .offset = 512 * KiB, .bytes = 4096, .write = true};
    assert_int_equal(run(&req), -EIO);
    blk_unref(blk);
    del(w, "top");
    del(w, "fa");
}

/* A fixed window of a file that was cut in the middle of a sector keeps only whole sectors. */
/* fact: block 2.15/raw-window */
WORLD_TEST(test_odd_window_of_short_file)
{
    make_disk(w, "a", 16 * KiB);
    add(w, DISK("fa", "a"));
    add(w, RAW("mid", "'fa'", ""));
    BlockDriverState *top = add(w, RAW("top", "'mid'", ",'offset':1000,'size':8192"));
    BlockBackend *blk = writer(w, top, BLK_PERM_ALL);

    reopen(w, "[" RAW("mid", "'fa'", ",'size':4096") "]");
    assert_int_equal(top->total_bytes, 3072); /* of the 3096 bytes that are left */
    struct request req = {.w = w, .blk = blk, .offset = 2560, .bytes = 512, .write = true};
    assert_int_equal(run(&req), 0);
    req = (struct request){.w = w, .blk = blk, .offset = 3072, .bytes = 512, .write = true};
    assert_int_equal(run(&req), -EIO);
    blk_unref(blk);
    del(w, "top");
    del(w, "mid");
    del(w, "fa");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/length/reopen-asks-users", test_reopen_asks),
        T("/length/alignment-above", test_alignment_above),
        T("/length/preallocate-follows", test_preallocate_follows),
        T("/length/odd-window-of-short-file", test_odd_window_of_short_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
