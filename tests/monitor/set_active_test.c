/* Protects: blockdev-set-active: what it refuses and says, cont taking back what was given up, jobs and snapshots
 * on nodes that were given up. */
#include "tests/monitor/qmplib.h"

static BlockDriverState *node(const char *name)
{
    BlockDriverState *bs = bdrv_find_node(bed.host, name);

    assert_non_null(bs);
    return bs;
}

static int write_result(void)
{
    struct guest_req req;

    write_begin(&req, 0, 4096);
    bed_settle();
    int ret = req.ret;
    guest_req_clear(&req);
    return ret;
}

static void says_active(const char *name, bool active)
{
    char pair[80];
    char *text = call("query-named-block-nodes", "{}");

    snprintf(pair, sizeof(pair), "\"node-name\":\"%s\"", name);
    char *at = strstr(text, pair);
    assert_non_null(at);
    char *value = strstr(at, "\"active\":");
    assert_non_null(value);
    assert_int_equal(strncmp(value, "\"active\":true", 13) == 0, active);
    assert_int_equal(bdrv_is_inactive(node(name)), !active);
    free(text);
}

#define GIVE_UP(name) "{\"node-name\":\"" name "\",\"active\":false}"
#define TAKE_BACK(name) "{\"node-name\":\"" name "\",\"active\":true}"

static BlockBackend *nobodys;

static void attach_nobodys(void *opaque)
{
    nobodys = blk_new(bed.host, BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(nobodys, node("u"), NULL), 0);
}

static void drop_nobodys(void *opaque)
{
    blk_unref(nobodys);
}

/* fact: block 9/set-active */
static void test_refusals(void **state)
{
    ok("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"u\",\"size\":1048576}");
    refused("blockdev-set-active", GIVE_UP("x"), "GenericError: Failed to find node with node-name='x'");
    refused("blockdev-set-active", TAKE_BACK("g"), "GenericError: Failed to find node with node-name='g'");
    refused("blockdev-set-active", "{\"node-name\":\"s\"}", "GenericError: Parameter 'active' is missing");
    bed_on_main(attach_nobodys);
    refused("blockdev-set-active", GIVE_UP("u"),
            "GenericError: Failed to inactivate node: Node 'u' is in use by an unnamed block device, which cannot "
            "give up its "
            "permissions");
    refused("blockdev-set-active", "{\"active\":false}",
            "GenericError: Failed to inactivate all nodes: Node 'u' is in use by an unnamed block device, which "
            "cannot give up its permissions");
    says_active("s", true);
    bed_on_main(drop_nobodys);
    ok("blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"u\"}");
    refused("blockdev-set-active", GIVE_UP("u"), "GenericError: Node has active parent node");
    ok("blockdev-del", "{\"node-name\":\"r\"}");
    ok("blockdev-del", "{\"node-name\":\"u\"}");
}

/* fact: block 9/set-active */
static void test_activation_error(void **state)
{
    ok("blockdev-set-active", GIVE_UP("s"));
    ok("blockdev-reopen",
       "{\"options\":[{\"driver\":\"disk\",\"node-name\":\"s\",\"disk\":\"d\",\"read-only\":true}]}");
    refused("blockdev-set-active", TAKE_BACK("s"),
            "GenericError: Read-only block node 's' cannot support read-write users");
    ok("stop", "{}");
    refused("cont", "{}", "GenericError: Read-only block node 's' cannot support read-write users");
    assert_false(vm_is_running(bed.host));
    ok("blockdev-reopen", "{\"options\":[{\"driver\":\"disk\",\"node-name\":\"s\",\"disk\":\"d\"}]}");
    ok("cont", "{}");
    says_active("s", true);
    assert_int_equal(write_result(), 0);
}

/* The guest stays; its writes are refused, and are welcome again afterwards.
 * fact: block 8.2/users */
static void test_guest(void **state)
{
    ok("blockdev-set-active", "{\"active\":false}");
    says_active("s", false);
    assert_int_equal(write_result(), -EPERM);
    ok("blockdev-set-active", "{\"active\":false}");
    ok("blockdev-set-active", "{\"active\":true}");
    ok("blockdev-set-active", TAKE_BACK("s"));
    assert_int_equal(write_result(), 0);
}

/* fact: block 8.6/cont */
static void test_cont_takes_back(void **state)
{
    ok("stop", "{}");
    ok("blockdev-set-active", "{\"active\":false}");
    ok("cont", "{}");
    says_active("s", true);
    assert_int_equal(write_result(), 0);
}

/* What was asked for once does not stand against what is. */
static void test_reopened(void **state)
{
    ok("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"u\",\"active\":false}");
    ok("blockdev-set-active", TAKE_BACK("u"));
    ok("blockdev-reopen", "{\"options\":[{\"driver\":\"null-co\",\"node-name\":\"u\",\"detect-zeroes\":\"on\"}]}");
    says_active("u", true);
    refused("blockdev-reopen", "{\"options\":[{\"driver\":\"null-co\",\"node-name\":\"u\",\"active\":false}]}",
            "GenericError: Cannot change the option 'active'");
    ok("blockdev-del", "{\"node-name\":\"u\"}");
}

/* A mirror passes, its target too, which it keeps.
 * fact: block 8.9/mirror */
static void test_mirror_passes(void **state)
{
    ok("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"t\",\"size\":1048576}");
    ok("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"g\",\"target\":\"t\",\"sync\":\"full\"}");
    bed_run_until(sim_now(bed.sim) + NS_PER_S);
    refused("blockdev-set-active", GIVE_UP("s"), "GenericError: Node has active parent node");
    ok("blockdev-set-active", "{\"active\":false}");
    says_active("s", false);
    says_active("t", false);
    ok("blockdev-set-active", "{\"active\":true}");
    assert_int_equal(write_result(), 0);
    ok("block-job-cancel", "{\"device\":\"m\"}");
    bed_settle();
    expect("query-jobs", "{}", "[]");
    ok("blockdev-set-active", GIVE_UP("t"));
    ok("blockdev-del", "{\"node-name\":\"t\"}");
}

/* Written while the target is another's: the job fails, the target is as it was.
 * fact: block 8.9/mirror */
static void test_mirror_into_inactive_fails(void **state)
{
    ok("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"t\",\"size\":1048576}");
    ok("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"g\",\"target\":\"t\",\"sync\":\"full\"}");
    bed_run_until(sim_now(bed.sim) + NS_PER_S);
    ok("blockdev-set-active", GIVE_UP("t"));
    assert_int_equal(write_result(), 0);
    bed_run_until(sim_now(bed.sim) + NS_PER_S);
    expect("query-jobs", "{}", "[]");
    says_active("s", true);
    ok("blockdev-del", "{\"node-name\":\"t\"}");
}

/* --- snapshots ----------------------------------------------------------------------------------------------- */

static void make_overlay(void *opaque)
{
    assert_int_equal(bdrv_img_create(bed.host, "over", "qcow2", MiB, NULL, NULL, NULL), 0);
}

static void unplug(void *opaque)
{
    guest_delete(guest);
}

#define SNAPSHOT "{\"node\":\"s\",\"overlay\":\"top\"}"

/* An overlay is what it stands on; undone it is what it was.
 * fact: block 8.2/snapshot */
static void test_snapshot(void **state)
{
    bed_on_main(make_overlay);
    ok("blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"top\",\"backing\":null,"
                       "\"file\":{\"driver\":\"disk\",\"disk\":\"over\"}}");
    ok("blockdev-set-active", GIVE_UP("s"));
    char *text = call("transaction", "{\"actions\":[{\"type\":\"blockdev-snapshot\",\"data\":" SNAPSHOT "},"
                                     "{\"type\":\"abort\",\"data\":{}}]}");
    assert_non_null(strstr(text, "GenericError"));
    free(text);
    says_active("top", true);
    ok("blockdev-snapshot", SNAPSHOT);
    says_active("top", false);
    assert_int_equal(write_result(), -EPERM);
    ok("blockdev-set-active", TAKE_BACK("top"));
    says_active("s", true);
    assert_int_equal(write_result(), 0);
    bed_on_main(unplug);
    ok("blockdev-del", "{\"node-name\":\"top\"}");
}

#define T_QMP(path, fn) T_SETUP(path, fn, qmp_setup, qmp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_QMP("/monitor/set-active/refusals", test_refusals),
        T_QMP("/monitor/set-active/activation-error", test_activation_error),
        T_QMP("/monitor/set-active/guest", test_guest),
        T_QMP("/monitor/set-active/cont", test_cont_takes_back),
        T_QMP("/monitor/set-active/reopened", test_reopened),
        T_QMP("/monitor/set-active/mirror-passes", test_mirror_passes),
        T_QMP("/monitor/set-active/snapshot", test_snapshot),
        T_QMP("/monitor/set-active/mirror-into-inactive", test_mirror_into_inactive_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
