/* Protects: backing links and the headers that name them: opening, changing, taking layers out. */
#include "tests/block/blktest.h"
#include "tests/block/imgfmt.h"

/* --- helpers ---------------------------------------------------------------------------------------------- */

static void img_make(struct world *w, const char *disk, const char *backing, const char *format)
{
    Error *err = NULL;
    if (bdrv_img_create(w->host, disk, "img", MiB, backing, format, &err) < 0) {
        fail_msg("%s", error_get_pretty(err));
    }
}

static void raw_make(struct world *w, const char *disk, int64_t size_bytes)
{
    assert_int_equal(bdrv_img_create(w->host, disk, "raw", size_bytes, NULL, NULL, NULL), 0);
}

static BlockDriverState *node(struct world *w, const char *name)
{
    BlockDriverState *bs = bdrv_find_node(w->host, name);
    assert_non_null(bs);
    return bs;
}

/* base (raw) <- mid (img) <- top (img), headers included; top is opened, the rest by what headers say. */
static BlockDriverState *chain_of_three(struct world *w)
{
    memset(&img, 0, sizeof(img));
    raw_make(w, "base", MiB);
    img_make(w, "mid", "base", "raw");
    img_make(w, "top", "mid", "img");
    return add(w, "{'driver':'img','node-name':'top','file':{'driver':'disk','disk':'top'}}");
}

/* --- opening ---------------------------------------------------------------------------------------------- */

/* What a header names is opened with it, read-only, by its format and under the image's own kind of medium. */
/* fact: block 1.13/backing-read-only, 1.3/format, 1.4/children */
WORLD_TEST(test_header)
{
    BlockDriverState *top = chain_of_three(w);
    BlockDriverState *mid = bdrv_cow_bs(top);
    BlockDriverState *base = bdrv_cow_bs(mid);

    assert_string_equal(bdrv_driver_name(mid), "img");
    assert_string_equal(bdrv_filename(mid), "mid");
    assert_string_equal(bdrv_driver_name(base), "raw");
    assert_string_equal(bdrv_filename(base), "base");
    assert_true(bdrv_is_read_only(mid));
    assert_true(bdrv_is_read_only(bdrv_primary_bs(mid)));
    assert_false(bdrv_is_read_only(top));
    assert_null(bdrv_cow_bs(base));
    assert_int_equal(bdrv_child_role(bdrv_cow_child(top)), BDRV_CHILD_COW);
    assert_int_equal(bdrv_child_role(bdrv_primary_child(top)),
                     BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_PRIMARY);
    assert_string_equal(bdrv_backing_filename(top), "mid");
    assert_int_equal(node_count(w), 6);
    del(w, "top");
    assert_int_equal(img.closed, 2);
}

/* fact: block 9/add-backing */
WORLD_TEST(test_backing_null)
{
    memset(&img, 0, sizeof(img));
    img_make(w, "top", "nowhere", "raw");
    BlockDriverState *top =
        add(w, "{'driver':'img','node-name':'top','file':{'driver':'disk','disk':'top'},'backing':null}");
    assert_null(bdrv_cow_bs(top));
    assert_string_equal(bdrv_backing_filename(top), "nowhere"); /* the header is what it was */
    del(w, "top");
    Error *err = NULL;
    assert_null(try_add(w, "{'driver':'img','node-name':'top','file':{'driver':'disk','disk':'top'}}", &err));
    expect_error(&err, "Could not open backing file: Could not open 'nowhere'");
    assert_int_equal(node_count(w), 0);
}

static void deny_open(struct disk_interposer *self, struct disk_req *req)
{
    if (req->op == SIM_OP_OPEN) {
        req->ret = -EACCES;
    }
}

/* Deep in the chain a file does not open: which one and why comes up as it was said, and nothing stays open.
 * fact: jobs seed/34b5d2c, seed/dacc26a, seed/50c7513 */
WORLD_TEST(test_backing_error)
{
    struct disk_interposer denier = {.before = deny_open};
    Error *err = NULL;

    memset(&img, 0, sizeof(img));
    raw_make(w, "base", MiB);
    img_make(w, "mid", "base", "raw");
    img_make(w, "top", "mid", "img");
    disk_add_interposer(disk_find(w->sim, "base"), &denier);
    assert_null(try_add(w, "{'driver':'img','node-name':'top','file':{'driver':'disk','disk':'top'}}", &err));
    assert_string_equal(error_get_pretty(err), "Could not open backing file: Could not open backing file: "
                                               "Could not open 'base': Permission denied");
    error_free(err);
    assert_int_equal(node_count(w), 0);
    disk_remove_interposer(disk_find(w->sim, "base"), &denier);
    add(w, "{'driver':'img','node-name':'top','file':{'driver':'disk','disk':'top'}}");
    del(w, "top");
}

/* Options of the user add to what the header says; the rest of the backing node comes from there. */
/* fact: block 9/add-backing; jobs seed/31ca6d0 */
WORLD_TEST(test_options_add)
{
    memset(&img, 0, sizeof(img));
    raw_make(w, "base", MiB);
    img_make(w, "top", "base", NULL);
    BlockDriverState *top = add(w, "{'driver':'img','node-name':'top','file':{'driver':'disk','disk':'top'},"
                                   "'backing':{'node-name':'b','offset':512,'file':{'node-name':'f'}}}");
    assert_ptr_equal(bdrv_cow_bs(top), node(w, "b"));
    assert_int_equal(bdrv_getlength_cached(node(w, "b")), MiB - 512);
    assert_string_equal(bdrv_filename(node(w, "f")), "base");
    del(w, "top");
    /* A driver of the user's goes before the header's format, and takes the header's name itself. */
    top = add(w, "{'driver':'img','node-name':'top','file':{'driver':'disk','disk':'top'},"
                 "'backing':{'driver':'disk','node-name':'b'}}");
    assert_string_equal(bdrv_filename(node(w, "b")), "base");
    assert_string_equal(bdrv_driver_name(node(w, "b")), "disk");
    del(w, "top");
    /* Who names another medium altogether does not need the header. */
    raw_make(w, "other", MiB);
    top = add(w, "{'driver':'img','node-name':'top','file':{'driver':'disk','disk':'top'},"
                 "'backing':{'driver':'raw','file':{'driver':'disk','disk':'other'}}}");
    assert_string_equal(bdrv_filename(bdrv_cow_bs(top)), "other");
    del(w, "top");
}

/* fact: block 9/add-backing */
WORLD_TEST(test_options_refused)
{
    static const struct {
        const char *backing;
        const char *text;
    } bad[] = {
        {"{'driver':'disk','disk':'base'}",
         "Can't specify the file name 'base' and 'disk' options at the same time"},
        {"{'driver':'null-co'}", "Driver 'null-co' cannot take the file name 'base'"},
        {"{'driver':'raw','file':'n'}", "Cannot reference an existing block device with additional options"},
        {"{'driver':'vmdk'}", "Parameter 'driver' does not accept value 'vmdk'"},
        {"{'nonsense':1}", "Parameter 'nonsense' is unexpected"},
        {"'x'", "Cannot find device='x' nor node-name='x'"},
        {"'top'", "Cannot find device='top'"},
    };
    memset(&img, 0, sizeof(img));
    raw_make(w, "base", MiB);
    img_make(w, "top", "base", "raw");
    add(w, "{'driver':'null-co','node-name':'n'}");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char text[256];
        Error *err = NULL;
        snprintf(text, sizeof(text),
                 "{'driver':'img','node-name':'t','file':{'driver':'disk','disk':'top'},'backing':%s}",
                 bad[i].backing);
        assert_null(try_add(w, text, &err));
        expect_error(&err, bad[i].text);
        assert_int_equal(node_count(w), 1);
    }
    del(w, "n");
}

/* An image that names itself, or two that name each other: refused, and nothing stays. */
WORLD_TEST(test_names_itself)
{
    Error *err = NULL;

    memset(&img, 0, sizeof(img));
    img_make(w, "a", "b", "img");
    img_make(w, "b", "a", "img");
    assert_null(
        try_add(w, "{'driver':'img','node-name':'a','file':{'driver':'disk','disk':'a'},'read-only':true}", &err));
    expect_error(&err, "A chain of more than 32 nodes cannot be opened");
    assert_int_equal(node_count(w), 0);
}

/* Relative names start at the image, absolute ones do not. */
WORLD_TEST(test_relative_names)
{
    memset(&img, 0, sizeof(img));
    raw_make(w, "dir/base", MiB);
    raw_make(w, "/base", MiB);
    img_make(w, "dir/top", "base", "raw");
    img_make(w, "dir/other", "/base", "raw");
    BlockDriverState *top = add(w, "{'driver':'img','node-name':'t','file':{'driver':'disk','disk':'dir/top'}}");
    assert_string_equal(bdrv_filename(bdrv_cow_bs(top)), "dir/base");
    del(w, "t");
    top = add(w, "{'driver':'img','node-name':'t','file':{'driver':'disk','disk':'dir/other'}}");
    assert_string_equal(bdrv_filename(bdrv_cow_bs(top)), "/base");
    del(w, "t");
}

/* --- the link ----------------------------------------------------------------------------------------------- */

/* fact: block 1.10/refuses */
WORLD_TEST(test_set_backing)
{
    BlockDriverState *top = chain_of_three(w);
    BlockDriverState *mid = bdrv_cow_bs(top);
    BlockDriverState *base = bdrv_cow_bs(mid);
    Error *err = NULL;

    assert_int_equal(bdrv_freeze_chain(top, mid, NULL), 0);
    assert_int_equal(bdrv_set_backing_hd(top, base, &err), -EPERM);
    expect_error(&err, "Cannot change frozen 'backing' link to");
    bdrv_unfreeze_chain(top, mid);
    assert_int_equal(bdrv_set_backing_hd(mid, top, &err), -EINVAL);
    expect_error(&err, "would create a cycle");
    assert_ptr_equal(bdrv_cow_bs(mid), base); /* what was detached on the way is back */
    assert_int_equal(bdrv_set_backing_hd(base, mid, &err), -EINVAL);
    expect_error(&err, "does not support backing files");
    bdrv_ref(mid);
    assert_int_equal(bdrv_set_backing_hd(top, base, NULL), 0);
    assert_ptr_equal(bdrv_cow_bs(top), base);
    assert_null(bdrv_first_parent(mid));
    assert_string_equal(bdrv_backing_filename(top), "mid"); /* links and headers are two things */
    assert_int_equal(bdrv_set_backing_hd(top, NULL, NULL), 0);
    assert_null(bdrv_cow_bs(top));
    assert_int_equal(bdrv_set_backing_hd(top, mid, NULL), 0);
    bdrv_unref(mid);
    assert_int_equal(bdrv_quiesce_counter(top) + bdrv_quiesce_counter(mid) + bdrv_quiesce_counter(base), 0);
    del(w, "top");
}

/* A request that is in the overlay when its backing file is changed ends before, on the old one. */
WORLD_TEST(test_set_backing_waits)
{
    BlockDriverState *base = new_node(w, &test_protocol, "base");
    BlockDriverState *top = new_node(w, &test_format, "top");
    BlockBackend *blk = blk_new(w->host, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, top, NULL), 0);
    link_child(top, base, "backing", BDRV_CHILD_COW);
    tn(top)->hold = true;
    struct request r = {.w = w, .blk = blk, .bytes = 512};
    start(&r);
    let_run(w, 1000);
    assert_false(r.done);
    tn(top)->hold = false;
    co_queue_restart_all(&tn(top)->queue);
    assert_int_equal(bdrv_set_backing_hd(top, NULL, NULL), 0);
    assert_true(r.done);
    blk_unref(blk);
    bdrv_unref(top);
}

/* --- the header ------------------------------------------------------------------------------------------- */

WORLD_TEST(test_change_header)
{
    BlockDriverState *top = chain_of_three(w);
    BlockDriverState *mid = bdrv_cow_bs(top);
    Error *err = NULL;

    assert_int_equal(bdrv_change_backing_file(top, "elsewhere", "raw"), 0);
    expect_header(w->sim, "top", "elsewhere raw");
    assert_string_equal(bdrv_backing_filename(top), "elsewhere");
    assert_string_equal(bdrv_header_backing_format(top), "raw");
    assert_ptr_equal(bdrv_cow_bs(top), mid);
    assert_int_equal(bdrv_change_backing_file(mid, "x", "raw"), -EACCES); /* read-only */
    assert_int_equal(bdrv_change_backing_file(bdrv_cow_bs(mid), "x", "raw"), -ENOTSUP);
    assert_int_equal(bdrv_change_backing_file(top, NULL, NULL), 0);
    expect_header(w->sim, "top", " ");
    assert_null(bdrv_backing_filename(top));
    img.change_ret = -EIO;
    assert_int_equal(bdrv_rewrite_backing_file(top, "mid", "img", &err), -EIO);
    expect_error(&err, "Could not change backing file to 'mid': Input/output error");
    assert_null(bdrv_backing_filename(top)); /* strings follow the image */
    del(w, "top");
}

/* fact: block 1.8/drop-intermediate-readonly */
WORLD_TEST(test_change_header_of_read_only)
{
    BlockDriverState *top = chain_of_three(w);
    BlockDriverState *mid = bdrv_cow_bs(top);
    Error *err = NULL;

    assert_int_equal(bdrv_rewrite_backing_file(mid, "base2", "raw", &err), 0);
    assert_true(img.was_writable);
    assert_true(bdrv_is_read_only(mid));
    expect_header(w->sim, "mid", "base2 raw");
    img.change_ret = -ENOSPC;
    assert_int_equal(bdrv_rewrite_backing_file(mid, "base", "raw", &err), -ENOSPC);
    expect_error(&err, "No space left on device");
    assert_true(bdrv_is_read_only(mid));
    del(w, "top");
}

/* --- dropping layers ---------------------------------------------------------------------------------------- */

static char *job_desc(const BdrvChild *child)
{
    return strdup("block job 'j'");
}

static const BdrvChildClass job_class = {.stay_at_node = true, .get_parent_desc = job_desc};

static BdrvChild *as_job(BlockDriverState *bs)
{
    return bdrv_root_attach_child(bs, "job", &job_class, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, NULL, NULL);
}

/* base <- mid <- one, two (read-only), and a device on mid: all of them get base, both headers name it. */
/* fact: block 1.8/drop-intermediate, 1.8/drop-intermediate-readonly */
WORLD_TEST(test_drop)
{
    memset(&img, 0, sizeof(img));
    raw_make(w, "base", MiB);
    img_make(w, "mid", "base", "raw");
    img_make(w, "one", "mid", "img");
    img_make(w, "two", "mid", "img");
    BlockDriverState *mid = add(w, "{'driver':'img','node-name':'mid','read-only':true,"
                                   "'file':{'driver':'disk','disk':'mid'},'backing':{'node-name':'base'}}");
    BlockDriverState *one = add(w, "{'driver':'img','node-name':'one','file':{'driver':'disk','disk':'one'},"
                                   "'backing':'mid'}");
    BlockDriverState *filter = new_node(w, &test_filter, "filter");
    bdrv_ref(mid);
    link_child(filter, mid, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY);
    BlockDriverState *two = add(w, "{'driver':'img','node-name':'two','read-only':true,"
                                   "'file':{'driver':'disk','disk':'two'},'backing':'filter'}");
    BlockBackend *blk = blk_new(w->host, 0, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, mid, NULL), 0);
    BlockDriverState *base = node(w, "base");
    bool changed = false;
    Error *err = NULL;

    if (bdrv_drop_intermediate(mid, base, NULL, &changed, &err) < 0) {
        fail_msg("%s", error_get_pretty(err));
    }
    assert_true(changed);
    assert_ptr_equal(bdrv_cow_bs(one), base);
    assert_ptr_equal(bdrv_filter_bs(filter), base); /* seen through the filter it is an overlay, too */
    assert_ptr_equal(blk_bs(blk), base);
    assert_null(bdrv_first_parent(mid));
    expect_header(w->sim, "one", "base raw");
    expect_header(w->sim, "two", "base raw");
    assert_int_equal(img.changes, 2);
    assert_true(bdrv_is_read_only(two));
    assert_int_equal(bdrv_quiesce_counter(one) + bdrv_quiesce_counter(two) + bdrv_quiesce_counter(base), 0);
    blk_unref(blk);
    del(w, "two");
    bdrv_unref(filter);
    del(w, "one");
    del(w, "mid");
}

/* fact: block 1.8/strict, 1.8/frozen, 1.9/roll-back */
WORLD_TEST(test_drop_refused)
{
    BlockDriverState *top = chain_of_three(w);
    BlockDriverState *mid = bdrv_cow_bs(top);
    BlockDriverState *base = bdrv_cow_bs(mid);
    Error *err = NULL;
    bool changed = true;

    BdrvChild *job = as_job(mid);
    BdrvChild *first = bdrv_first_parent(mid);
    assert_int_equal(bdrv_drop_intermediate(mid, base, NULL, &changed, &err), -EINVAL);
    expect_error(&err, "Should not change 'job' link to");
    assert_false(changed);
    assert_ptr_equal(bdrv_cow_bs(top), mid);
    assert_ptr_equal(bdrv_first_parent(mid), first);
    assert_int_equal(img.changes, 0);
    bdrv_root_unref_child(job);
    assert_int_equal(bdrv_freeze_chain(top, mid, NULL), 0);
    assert_int_equal(bdrv_drop_intermediate(mid, base, NULL, &changed, &err), -EPERM);
    expect_error(&err, "Cannot change frozen 'backing' link");
    bdrv_unfreeze_chain(top, mid);
    assert_int_equal(bdrv_drop_intermediate(base, mid, NULL, &changed, &err), -EINVAL);
    expect_error(&err, "is not below");
    assert_int_equal(bdrv_drop_intermediate(mid, mid, NULL, &changed, &err), -EINVAL);
    expect_error(&err, "is not below");
    assert_ptr_equal(bdrv_cow_bs(top), mid);
    del(w, "top");
}

/* The header cannot be written: that is told, and the layer is out all the same. */
/* fact: block 1.8/drop-intermediate-rewrite */
WORLD_TEST(test_drop_rewrite_fails)
{
    BlockDriverState *top = chain_of_three(w);
    BlockDriverState *mid = bdrv_cow_bs(top);
    BlockDriverState *base = bdrv_cow_bs(mid);
    Error *err = NULL;
    bool changed = false;

    img.change_ret = -EIO;
    assert_int_equal(bdrv_drop_intermediate(mid, base, "name", &changed, &err), -EIO);
    expect_error(&err, "Could not change backing file to 'name'");
    assert_true(changed);
    assert_ptr_equal(bdrv_cow_bs(top), base);
    assert_string_equal(bdrv_backing_filename(top), "mid");
    expect_header(w->sim, "top", "mid img");
    del(w, "top");
}

static unsigned resizes;
static void see_resize(BdrvChild *child)
{
    resizes++;
}
static const BdrvChildClass user_class = {.get_parent_desc = job_desc, .resize = see_resize};

/* fact: block 1.8/no-resize, 1.1/parents */
WORLD_TEST(test_no_resize)
{
    BlockDriverState *from = new_node(w, &test_protocol, "from");
    BlockDriverState *to = new_node(w, &test_protocol, "to");
    to->total_bytes = 2 * MiB;
    resizes = 0;
    BdrvChild *user =
        bdrv_root_attach_child(from, "root", &user_class, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, NULL, NULL);
    assert_int_equal(bdrv_replace_node(from, to, NULL), 0);
    assert_ptr_equal(bdrv_child_bs(user), to);
    assert_int_equal(resizes, 0);
    bdrv_set_total_bytes(to, 3 * MiB); /* which is told */
    assert_int_equal(resizes, 1);
    bdrv_root_unref_child(user);
    bdrv_unref(from);
    bdrv_unref(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/chain/open/header", test_header),
        T("/chain/open/null", test_backing_null),
        T("/chain/open/seed/34b5d2c/dacc26a/50c7513/backing-error", test_backing_error),
        T("/chain/open/seed/31ca6d0/options-add", test_options_add),
        T("/chain/open/seed/31ca6d0/options-refused", test_options_refused),
        T("/chain/open/names-itself", test_names_itself),
        T("/chain/open/relative-names", test_relative_names),
        T("/chain/set-backing/all", test_set_backing),
        T("/chain/set-backing/waits", test_set_backing_waits),
        T("/chain/header/change", test_change_header),
        T("/chain/header/read-only", test_change_header_of_read_only),
        T("/chain/drop/overlays-and-devices", test_drop),
        T("/chain/drop/refused", test_drop_refused),
        T("/chain/drop/rewrite-fails", test_drop_rewrite_fails),
        T("/chain/replace/no-resize", test_no_resize),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
