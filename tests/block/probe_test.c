/* Protects: a backing file whose format nobody names is opened as what it holds, and stays that (block.md 2.15). */
#include "tests/block/imgfmt.h"
#include "tests/block/reopen_lib.h"

#define TOP "{'driver':'img','node-name':'top','file':{'driver':'disk','disk':'top'}"

static void make(struct world *w, const char *disk, const char *driver, const char *backing, const char *format)
{
    Error *err = NULL;

    if (bdrv_img_create(w->host, disk, driver, MiB, backing, format, &err) < 0) {
        fail_msg("%s", error_get_pretty(err));
    }
}

static void put_bytes(struct world *w, const char *disk, const char *bytes)
{
    struct payload p;

    payload_init(w->sim, &p);
    payload_append_bytes(&p, bytes, (int64_t)strlen(bytes));
    disk_poke(disk_find(w->sim, disk), 0, &p);
    payload_clear(&p);
}

/* fact: block 2.15/raw-probed */
WORLD_TEST(test_chain)
{
    memset(&img, 0, sizeof(img));
    make(w, "base", "raw", NULL, NULL);
    make(w, "mid", "img", "base", NULL);
    make(w, "top", "img", "mid", NULL);
    BlockDriverState *top = add(w, TOP "}");
    const BlockDriverState *mid = bdrv_cow_bs(top);
    BlockDriverState *base = bdrv_cow_bs(mid);
    assert_string_equal(bdrv_driver_name(mid), "img");
    assert_int_equal(mid->open_flags & BDRV_O_PROBED, 0);
    assert_string_equal(bdrv_driver_name(base), "raw");
    assert_int_equal(base->open_flags & BDRV_O_PROBED, BDRV_O_PROBED);
    assert_int_equal(base->bl.request_alignment, 512);
    assert_int_equal(node_count(w), 6); /* those that were opened to look are gone */
    del(w, "top");
}

/* Who says what it is knows: nothing is guessed, nothing guarded. */
/* fact: block 2.15/raw-probed */
WORLD_TEST(test_named_format)
{
    memset(&img, 0, sizeof(img));
    make(w, "base", "raw", NULL, NULL);
    put_bytes(w, "base", "QFI\xfb");
    make(w, "top", "img", "base", "raw");
    const BlockDriverState *base = bdrv_cow_bs(add(w, TOP "}"));
    assert_string_equal(bdrv_driver_name(base), "raw");
    assert_int_equal(base->open_flags & BDRV_O_PROBED, 0);
    assert_int_equal(base->bl.request_alignment, 1);
    del(w, "top");
    make(w, "other", "img", "base", NULL);
    base = bdrv_cow_bs(add(w, "{'driver':'img','node-name':'o','file':{'driver':'disk','disk':'other'},"
                              "'backing':{'driver':'raw'}}"));
    assert_int_equal(base->open_flags & BDRV_O_PROBED, 0);
    del(w, "o");
}

/* What the user says of the backing node but its driver holds for the node that stays. */
/* fact: block 2.15/raw-probed */
WORLD_TEST(test_options)
{
    memset(&img, 0, sizeof(img));
    make(w, "base", "raw", NULL, NULL);
    make(w, "top", "img", "base", NULL);
    add(w, TOP ",'backing':{'node-name':'b','file':{'driver':'copy-on-read','node-name':'c','read-only':false,"
               "'file':{'driver':'disk','node-name':'d'}}}}");
    assert_int_equal(node_count(w), 5);
    assert_string_equal(bdrv_driver_name(node(w, "b")), "raw");
    assert_int_equal(node(w, "b")->open_flags & BDRV_O_PROBED, BDRV_O_PROBED);
    assert_string_equal(bdrv_filename(node(w, "d")), "base");
    del(w, "top");
}

struct head_write {
    BlockBackend *blk;
    const char *head;
};

static int head_entry(void *opaque)
{
    const struct head_write *h = opaque;
    struct payload p;

    payload_init(blk_bs(h->blk)->host->sim, &p);
    payload_append_bytes(&p, h->head, (int64_t)strlen(h->head));
    payload_append_zero(&p, 512 - (int64_t)strlen(h->head));
    int ret = blk_co_pwritev(h->blk, 0, 512, &p, 0);
    payload_clear(&p);
    return ret;
}

/* [hazard] A guest whose disk becomes somebody's backing file could name another file in the header that it writes
 * there, and read that the next time. */
/* fact: block 2.15/raw-probed */
WORLD_TEST(test_stays_raw)
{
    memset(&img, 0, sizeof(img));
    make(w, "base", "raw", NULL, NULL);
    make(w, "top", "img", "base", NULL);
    BlockDriverState *top = add(w, TOP ",'backing':{'node-name':'b','read-only':false}}");
    BlockDriverState *base = node(w, "b");
    bdrv_ref(base);
    assert_int_equal(bdrv_set_backing_hd(top, NULL, NULL), 0);
    struct head_write h = {blk_new(w->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL), "BLKIMG1"};
    assert_int_equal(blk_insert_bs(h.blk, base, NULL), 0);
    assert_int_equal(bdrv_run_co(w->host, "write", head_entry, &h), -EPERM);
    h.head = "a master boot record";
    assert_int_equal(bdrv_run_co(w->host, "write", head_entry, &h), 0);
    blk_unref(h.blk);
    bdrv_unref(base);
    settle(w);
    del(w, "top");
    const BlockDriverState *again = bdrv_cow_bs(add(w, TOP "}"));
    assert_string_equal(bdrv_driver_name(again), "raw");
    del(w, "top");
}

/* A file of a format that is known but has no driver is not raw bytes. */
WORLD_TEST(test_refused)
{
    Error *err = NULL;

    memset(&img, 0, sizeof(img));
    make(w, "base", "raw", NULL, NULL);
    make(w, "top", "img", "base", NULL);
    put_bytes(w, "base", "KDMV");
    assert_null(try_add(w, TOP "}", &err));
    expect_error(&err, "Image looks like format 'vmdk', which has no driver");
    struct denier d = {.interposer = {.before = deny}, .op = SIM_OP_READ, .error = -EIO, .left = 1};
    disk_add_interposer(disk_find(w->sim, "base"), &d.interposer);
    assert_null(try_add(w, TOP "}", &err));
    expect_error(&err, "Could not read image for determining its format");
    disk_remove_interposer(disk_find(w->sim, "base"), &d.interposer);
    settle(w);
    assert_int_equal(node_count(w), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/probe/chain", test_chain),     T("/probe/named-format", test_named_format),
        T("/probe/options", test_options), T("/probe/stays-raw", test_stays_raw),
        T("/probe/refused", test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
