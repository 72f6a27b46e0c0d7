/* Protects: a bad option tree is refused with a clear reason and leaves nothing behind. */
#include "tests/block/blktest.h"

struct bad {
    const char *options;
    const char *error;
};

#define DISK "'file':{'driver':'disk','disk':'d'}"

static const struct bad bad[] = {
    {"{'node-name':'n'}", "Parameter 'driver' is missing"},
    {"{'driver':'null-co'}", "'node-name' must be specified for the root node"},
    {"{'driver':'vmdk','node-name':'n'}", "Parameter 'driver' does not accept value 'vmdk'"},
    {"{'driver':7,'node-name':'n'}", "Parameter 'driver' expects a string"},
    {"{'driver':'null-co','node-name':'1'}", "Invalid node-name: '1'"},
    {"{'driver':'null-co','node-name':7}", "Parameter 'node-name' expects a string"},
    {"{'driver':'null-co','node-name':'used'}", "Duplicate nodes with node-name='used'"},
    {"{'driver':'null-co','node-name':'n','x':1}", "Parameter 'x' is unexpected"},
    {"{'driver':'null-co','node-name':'n','file':'used'}", "Parameter 'file' is unexpected"},
    {"{'driver':'null-co','node-name':'n','size':'x'}", "Parameter 'size' expects"},
    {"{'driver':'null-co','node-name':'n','size':-1}", "Parameter 'size' expects"},
    {"{'driver':'null-co','node-name':'n','size':9223372036854775807}", "Parameter 'size' is too large"},
    {"{'driver':'null-co','node-name':'n','latency-ns':'1'}", "Parameter 'latency-ns' expects an integer"},
    {"{'driver':'null-co','node-name':'n','latency-ns':-1}", "latency-ns is invalid"},
    {"{'driver':'null-co','node-name':'n','read-zeroes':3}", "Parameter 'read-zeroes' expects"},
    {"{'driver':'null-co','node-name':'n','read-only':'maybe'}", "Parameter 'read-only' expects"},
    {"{'driver':'null-co','node-name':'n','discard':'off'}", "Parameter 'discard' does not accept value 'off'"},
    {"{'driver':'null-co','node-name':'n','detect-zeroes':'yes'}",
     "Parameter 'detect-zeroes' does not accept value 'yes'"},
    {"{'driver':'null-co','node-name':'n','detect-zeroes':'unmap'}", "not allowed without discard=unmap"},
    {"{'driver':'null-co','node-name':'n','force-share':true}", "only be used with read-only images"},
    {"{'driver':'null-co','node-name':'n','cache':'none'}", "Parameter 'cache' expects a dictionary"},
    {"{'driver':'null-co','node-name':'n','cache':{'writeback':true}}",
     "Parameter 'cache.writeback' is unexpected"},
    {"{'driver':'null-co','node-name':'n','cache.direct':1}", "'cache.direct'"},
    {"{'driver':'null-co','node-name':'n','cache':{'direct':true},'cache.direct':true}",
     "Parameter 'cache.direct' is given twice"},
    {"{'driver':'disk','node-name':'n'}", "Parameter 'disk' is missing"},
    {"{'driver':'disk','node-name':'n','disk':'none'}", "Could not open 'none': No such file or directory"},
    {"{'driver':'raw','node-name':'n'}", "Parameter 'file' is missing"},
    {"{'driver':'raw','node-name':'n','file':null}", "Parameter 'file' is missing"},
    {"{'driver':'raw','node-name':'n','file':7}", "Parameter 'file' expects a node name or a dictionary"},
    {"{'driver':'raw','node-name':'n','file':'none'}", "Cannot find device='none' nor node-name='none'"},
    {"{'driver':'raw','node-name':'n','file':{'disk':'d'}}", "Parameter 'driver' is missing"},
    {"{'driver':'raw','node-name':'n','file':{'driver':'disk','disk':'d','y':0}}", "Parameter 'y' is unexpected"},
    {"{'driver':'raw','node-name':'n','file':{'driver':'disk','disk':'d','node-name':'n'}}",
     "Duplicate nodes with node-name='n'"},
    {"{'driver':'raw','node-name':'n','offset':2097152," DISK "}", "cannot be greater than the size of the file"},
    {"{'driver':'raw','node-name':'n','offset':512,'size':1048576," DISK "}", "The sum of offset"},
    {"{'driver':'raw','node-name':'n','size':1000," DISK "}", "not a multiple of 512"},
    {"{'driver':'raw','node-name':'n','file':{'driver':'raw','file':{'driver':'disk','disk':'none'}}}",
     "Could not open 'none'"},
};

/* Whatever is wrong, and however deep: nothing stays, and the same name can be used afterwards.
 * fact: block 9/add-name, 9/add-leftover, 9/add-force-share, 9/add-detect-zeroes, 2.15/raw-window */
WORLD_TEST(test_bad)
{
    make_disk(w, "d", MiB);
    add(w, "{'driver':'null-co','node-name':'used'}");
    uint64_t edges = sim_arena_live(w->host->arena, SIM_TYPE_BdrvChild);
    uint64_t strings = sim_arena_live(w->host->arena, SIM_TYPE_str);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        Error *err = NULL;
        if (try_add(w, bad[i].options, &err)) {
            fail_msg("accepted: %s", bad[i].options);
        }
        expect_error(&err, bad[i].error);
        assert_int_equal(node_count(w), 1);
        assert_int_equal(sim_arena_live(w->host->arena, SIM_TYPE_BdrvChild), edges);
        assert_int_equal(sim_arena_live(w->host->arena, SIM_TYPE_str), strings);
        assert_null(try_add(w, bad[i].options, NULL)); /* nobody asks why */
    }
    add(w, "{'driver':'raw','node-name':'n'," DISK "}");
    del(w, "n");
    del(w, "used");
}

WORLD_TEST(test_no_dictionary)
{
    struct qvalue *list = qvalue_list();
    Error *err = NULL;

    assert_null(bdrv_open(w->host, list, 0, &err));
    expect_error(&err, "must be a dictionary");
    qvalue_free(list);
}

/* Nesting is bounded, so that no tree from outside can use up a stack. */
WORLD_TEST(test_too_deep)
{
    struct qvalue *options = opts("{'driver':'null-co'}");
    Error *err = NULL;

    for (unsigned i = 0; i < 1000; i++) {
        struct qvalue *outer = opts("{'driver':'raw'}");
        qdict_put(outer, "file", options);
        options = outer;
    }
    qdict_put(options, "node-name", qvalue_str("n"));
    assert_null(qmp_blockdev_add_node(w->host, options, &err));
    expect_error(&err, "nested too deeply");
    assert_int_equal(node_count(w), 0);
    qvalue_free(options);
    assert_null(try_add(w,
                        "{'driver':'raw','node-name':'n','file.file.file.file.file.file.file.file.file.file.file."
                        "file.file.file.file.file.driver':'null-co'}",
                        &err));
    expect_error(&err, "nested too deeply");
}

/* fact: block 9/add */
WORLD_TEST(test_generic)
{
    BlockDriverState *n = add(w, "{'driver':'null-co','node-name':'n','read-only':'on','force-share':true,"
                                 "'discard':'unmap','detect-zeroes':'unmap','cache.no-flush':true,"
                                 "'cache':{'direct':true},'auto-read-only':true}");

    assert_int_equal(bdrv_open_flags(n),
                     BDRV_O_AUTO_RDONLY | BDRV_O_UNMAP | BDRV_O_NO_FLUSH | BDRV_O_NOCACHE | BDRV_O_FORCE_SHARE);
    assert_int_equal(n->detect_zeroes, BDRV_DETECT_ZEROES_UNMAP);
    del(w, "n");
    n = add(w, "{'driver':'null-co','node-name':'n'}");
    assert_int_equal(bdrv_open_flags(n), BDRV_O_RDWR);
    del(w, "n");
}

/* Inline children take over what their parent says, and always discard (1.13).
 * fact: block 1.13/inherit, edge/13 */
WORLD_TEST(test_inheritance)
{
    make_disk(w, "d", MiB);
    BlockDriverState *n = add(w, "{'driver':'raw','node-name':'n','read-only':true,'cache.direct':true," DISK "}");
    assert_int_equal(bdrv_open_flags(bdrv_primary_bs(n)), BDRV_O_NOCACHE | BDRV_O_UNMAP);
    del(w, "n");
    n = add(w, "{'driver':'raw','node-name':'n','file.driver':'disk','file.disk':'d','file.discard':'ignore',"
               "'file.node-name':'f'}");
    assert_int_equal(bdrv_open_flags(bdrv_find_node(w->host, "f")), BDRV_O_RDWR);
    assert_false(bdrv_has_monitor_ref(bdrv_find_node(w->host, "f")));
    /* `active` is not inherited: it is set on every node by itself (8.1). */
    del(w, "n");
    n = add(w, "{'driver':'raw','node-name':'n','active':false," DISK "}");
    assert_true(bdrv_is_inactive(n));
    assert_false(bdrv_is_inactive(bdrv_primary_bs(n)));
    del(w, "n");
}

/* An incoming host opens everything without ownership, whatever `active` says (8.1). */
WORLD_TEST(test_inactive_host)
{
    struct qvalue *options = opts("{'driver':'raw','node-name':'n','active':true," DISK "}");

    make_disk(w, "d", MiB);
    BlockDriverState *n = bdrv_open(w->host, options, BDRV_O_INACTIVE, NULL);
    qvalue_free(options);
    assert_non_null(n);
    assert_true(bdrv_is_inactive(n));
    assert_true(bdrv_is_inactive(bdrv_primary_bs(n)));
    bdrv_unref(n);
}

/* --- a medium that does not open -------------------------------------------------------------------------- */

struct denier {
    struct disk_interposer interposer;
    enum sim_op op;
    int error;
    unsigned left;
};

static void deny(struct disk_interposer *self, struct disk_req *req)
{
    struct denier *d = container_of(self, struct denier, interposer);

    if (req->op == d->op && d->left > 0) {
        d->left--;
        req->ret = d->error;
    }
}

WORLD_TEST(test_open_fails)
{
    struct disk *disk = make_disk(w, "d", MiB);
    struct denier d = {.interposer = {.before = deny}, .op = SIM_OP_OPEN, .error = -EIO, .left = 1};
    Error *err = NULL;

    disk_add_interposer(disk, &d.interposer);
    assert_null(try_add(w, "{'driver':'raw','node-name':'n'," DISK "}", &err));
    expect_error(&err, "Could not open 'd': Input/output error");
    assert_int_equal(node_count(w), 0);
    d = (struct denier){.interposer = d.interposer, .op = SIM_OP_GETLENGTH, .error = -EIO, .left = 1};
    assert_null(try_add(w, "{'driver':'raw','node-name':'n'," DISK "}", &err));
    expect_error(&err, "Could not get the length of");
    assert_int_equal(node_count(w), 0);
    disk_remove_interposer(disk, &d.interposer);
}

/* [seed 50c7513, 34b5d2c, dacc26a, 31ca6d0]: the error of the node that did not open comes up as it is, with the
 * errno's text and the name of what could not be opened, however deep it lies. */
/* fact: jobs seed/50c7513, seed/31ca6d0 */
WORLD_TEST(test_seed_open_error)
{
    struct disk *disk = make_disk(w, "d", MiB);
    struct denier d = {.interposer = {.before = deny}, .op = SIM_OP_OPEN, .error = -EACCES, .left = 2};
    Error *err = NULL;

    disk_add_interposer(disk, &d.interposer);
    assert_null(try_add(w, "{'driver':'disk','node-name':'n','disk':'d'}", &err));
    assert_string_equal(error_get_pretty(err), "Could not open 'd': Permission denied");
    error_free(err);
    err = NULL;
    assert_null(try_add(w, "{'driver':'raw','node-name':'n','file':{'driver':'raw'," DISK "}}", &err));
    assert_string_equal(error_get_pretty(err), "Could not open 'd': Permission denied");
    error_free(err);
    disk_remove_interposer(disk, &d.interposer);
    assert_int_equal(node_count(w), 0);
}

/* auto-read-only: what cannot be opened for writing is opened for reading; without it that is an error.
 * fact: block 1.13/auto-read-only */
WORLD_TEST(test_auto_read_only)
{
    struct disk *disk = make_disk(w, "d", MiB);
    struct denier d = {.interposer = {.before = deny}, .op = SIM_OP_OPEN, .error = -EACCES, .left = 1};
    Error *err = NULL;

    disk_add_interposer(disk, &d.interposer);
    assert_null(try_add(w, "{'driver':'disk','node-name':'n','disk':'d'}", &err));
    expect_error(&err, "Permission denied");
    d.left = 1;
    BlockDriverState *n = add(w, "{'driver':'disk','node-name':'n','disk':'d','auto-read-only':true}");
    assert_true(bdrv_is_read_only(n));
    del(w, "n");
    disk_remove_interposer(disk, &d.interposer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/options/bad", test_bad),
        T("/options/bad/no-dictionary", test_no_dictionary),
        T("/options/bad/too-deep", test_too_deep),
        T("/options/generic", test_generic),
        T("/options/inheritance", test_inheritance),
        T("/options/inactive-host", test_inactive_host),
        T("/options/open-fails", test_open_fails),
        T("/options/seed/50c7513/31ca6d0/open-error", test_seed_open_error),
        T("/options/auto-read-only", test_auto_read_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
