/* Protects blockdev-reopen by command, and that a bad option tree, added or reopened, is refused with a clear text
 * and leaves nothing behind: no node, no link, no lock, no byte. */
#include "tests/monitor/qmplib.h"

/* JSON with single quotes. */
static char *quoted(const char *text)
{
    char *json = strdup(text);

    for (char *c = json; *c; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    return json;
}

static void run_ok(const char *command, const char *text)
{
    char *json = quoted(text);

    ok(command, json);
    free(json);
}

static char *nodes_text(void)
{
    return call("query-named-block-nodes", "{}");
}

struct census {
    uint64_t host_bytes, world_bytes, nodes, edges, options, locks;
};

/* Whatever anybody holds on a medium conflicts with who wants everything and shares nothing. */
static uint64_t locks_on(const char *name)
{
    const struct disk_lock nobody = {NULL};
    const struct disk *disk = disk_find(bed.sim, name);

    return disk ? disk_lock_conflict(disk, &nobody, BLK_PERM_ALL, BLK_PERM_ALL) : 0;
}

static struct census take_census(void)
{
    struct sim_arena *arena = bed.host->arena;

    bed_settle();
    return (struct census){sim_arena_live_bytes(arena),
                           sim_arena_live_bytes(sim_arena(bed.sim)),
                           sim_arena_live(arena, SIM_TYPE_BlockDriverState),
                           sim_arena_live(arena, SIM_TYPE_BdrvChild),
                           sim_arena_live(arena, SIM_TYPE_bdrv_options),
                           sim_mix2(locks_on("d"), locks_on("e"))};
}

struct bad {
    const char *tree;
    const char *text;
};

/* Each is refused with GenericError and a text that says what it should; nodes and census are as before. */
static void try_bad(const char *command, const char *format, const struct bad *bad, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *before = nodes_text();
        struct census old = take_census();
        char args[800];

        snprintf(args, sizeof(args), format, bad[i].tree);
        char *json = quoted(args);
        char *reply = call(command, json);
        if (strncmp(reply, "GenericError: ", 14) != 0 || !strstr(reply, bad[i].text)) {
            fail_msg("%s: expected '%s', got %s", bad[i].tree, bad[i].text, reply);
        }
        struct census now = take_census();
        char *after = nodes_text();
        assert_string_equal(after, before);
        if (memcmp(&now, &old, sizeof(now)) != 0) {
            fail_msg("%s: left behind %lld bytes, %lld nodes, %lld edges", bad[i].tree,
                     (long long)(now.host_bytes - old.host_bytes), (long long)(now.nodes - old.nodes),
                     (long long)(now.edges - old.edges));
        }
        free(before);
        free(after);
        free(reply);
        free(json);
    }
}

/* f on disk e, r on f; n forgets. */
static void make_nodes(void)
{
    struct disk_config config;

    disk_config_default(&config);
    config.size_bytes = MiB;
    disk_new(bed.sim, "e", &config, NULL);
    run_ok("blockdev-add", "{'driver':'disk','node-name':'f','disk':'e'}");
    run_ok("blockdev-add", "{'driver':'raw','node-name':'r','file':'f'}");
    run_ok("blockdev-add", "{'driver':'null-co','node-name':'n','size':65536}");
    run_ok("blockdev-add", "{'driver':'raw','node-name':'i','file':{'driver':'null-co','size':65536}}");
}

static void drop_nodes(void)
{
    run_ok("blockdev-del", "{'node-name':'i'}");
    run_ok("blockdev-del", "{'node-name':'r'}");
    run_ok("blockdev-del", "{'node-name':'f'}");
    run_ok("blockdev-del", "{'node-name':'n'}");
}

/* fact: block 6/all-or-nothing */
static void test_bad_add(void **state)
{
    static const struct bad bad[] = {
        {"{}", "Parameter 'driver' is missing"},
        {"{'driver':'null-co'}", "'node-name' must be specified for the root node"},
        {"{'driver':null,'node-name':'x'}", "Invalid parameter type for 'driver', expected: string"},
        {"{'driver':'','node-name':'x'}", "Parameter 'driver' does not accept value ''"},
        {"{'driver':'mirror_top','node-name':'x'}", "Parameter 'driver' does not accept value 'mirror_top'"},
        {"{'driver':'null-co','node-name':''}", "Invalid node-name: ''"},
        {"{'driver':'null-co','node-name':'a b'}", "Invalid node-name: 'a b'"},
        {"{'driver':'null-co','node-name':'abcdefghijklmnopqrstuvwxyzabcdef'}", "Node name too long"},
        {"{'driver':'null-co','node-name':'n'}", "Duplicate nodes with node-name='n'"},
        {"{'driver':'null-co','node-name':'g'}", "node-name=g is conflicting with a device id"},
        {"{'driver':'null-co','node-name':['x']}", "Invalid parameter type for 'node-name', expected: string"},
        {"{'driver':'null-co','node-name':'x','bogus':1}", "Parameter 'bogus' is unexpected"},
        {"{'driver':'null-co','node-name':'x','size':-1}", "Parameter 'size' expects"},
        {"{'driver':'null-co','node-name':'x','size':'many'}", "Parameter 'size' expects"},
        {"{'driver':'null-co','node-name':'x','size':{}}", "Parameter 'size' expects"},
        {"{'driver':'null-co','node-name':'x','read-only':'maybe'}", "Invalid parameter type for 'read-only'"},
        {"{'driver':'null-co','node-name':'x','read-only':1}", "Invalid parameter type for 'read-only'"},
        {"{'driver':'null-co','node-name':'x','force-share':true}",
         "force-share=on can only be used with read-only"},
        {"{'driver':'null-co','node-name':'x','detect-zeroes':'unmap'}", "not allowed without discard=unmap"},
        {"{'driver':'null-co','node-name':'x','detect-zeroes':true}", "Parameter 'detect-zeroes' expects"},
        {"{'driver':'null-co','node-name':'x','discard':'yes'}", "Parameter 'discard' does not accept value 'yes'"},
        {"{'driver':'null-co','node-name':'x','cache':true}", "Parameter 'cache' expects a dictionary"},
        {"{'driver':'null-co','node-name':'x','cache':{'writeback':true}}", "Parameter 'cache.writeback'"},
        {"{'driver':'null-co','node-name':'x','cache.direct':true,'cache':{'direct':false}}", "is given twice"},
        {"{'driver':'null-co','node-name':'x','cache':7,'cache.direct':true}",
         "Parameter 'cache.direct' is given twice"},
        {"{'driver':'disk','node-name':'x'}", "Parameter 'disk' is missing"},
        {"{'driver':'disk','node-name':'x','disk':'nix'}", "Could not open 'nix': No such file or directory"},
        {"{'driver':'disk','node-name':'x','disk':null}", "Parameter 'disk' expects"},
        {"{'driver':'raw','node-name':'x'}", "Parameter 'file' is missing"},
        {"{'driver':'raw','node-name':'x','file':'x'}", "would create a cycle"},
        {"{'driver':'raw','node-name':'x','file':{'driver':'raw','node-name':'y','file':'x'}}",
         "Making 'x' a file child of 'y' would create a cycle"},
        {"{'driver':'raw','node-name':'x','file':{'driver':'preallocate','file':{'driver':'blkdebug','image':'x'}}"
         "}",
         "would create a cycle"},
        {"{'driver':'blkdebug','node-name':'x','image':{'driver':'copy-on-read','file':'x'}}", "create a cycle"},
        {"{'driver':'copy-on-read','node-name':'x','file':{'driver':'preallocate','file':'x'}}", "create a cycle"},
        {"{'driver':'blkverify','node-name':'x','raw':'n','test':{'driver':'raw','file':'x'}}", "create a cycle"},
        {"{'driver':'blkverify','node-name':'x','test':'n','raw':{'driver':'raw','file':'x'}}", "create a cycle"},
        {"{'driver':'quorum','node-name':'x','vote-threshold':1,'children':['n',{'driver':'raw','file':'x'}]}",
         "would create a cycle"},
        {"{'driver':'raw','node-name':'x','file':{'driver':'quorum','vote-threshold':1,'children':['x']}}",
         "would create a cycle"},
        {"{'driver':'raw','node-name':'x','file':[]}", "Parameter 'file' expects a node name or a dictionary"},
        {"{'driver':'raw','node-name':'x','file':{}}", "Parameter 'driver' is missing"},
        {"{'driver':'raw','node-name':'x','file':'n','file.driver':'null-co'}", "is given twice"},
        {"{'driver':'raw','node-name':'x','backing':'n','file':'n'}", "Parameter 'backing' is unexpected"},
        {"{'driver':'raw','node-name':'x','file':{'driver':'null-co','node-name':'x'}}", "Duplicate nodes"},
        {"{'driver':'raw','node-name':'x','file':{'driver':'null-co','node-name':'n'}}", "Duplicate nodes"},
        {"{'driver':'raw','node-name':'x','offset':'2M','file':'f'}",
         "cannot be greater than the size of the file"},
        {"{'driver':'raw','node-name':'x','size':'2M','file':'f'}", "The sum of offset"},
        {"{'driver':'raw','node-name':'x','size':'2M','file':{'driver':'disk','disk':'e'}}", "The sum of offset"},
        {"{'driver':'raw','node-name':'x','file':{'driver':'raw','file':{'driver':'null-co','size':'x'}}}",
         "Parameter 'size' expects"},
        {"{'driver':'throttle','node-name':'x','file':'n'}", "Parameter 'throttle-group' is missing"},
        {"{'driver':'throttle','node-name':'x','throttle-group':'nix','file':'n'}",
         "Throttle group 'nix' does not exist"},
        {"{'driver':'blkverify','node-name':'x','raw':'n','test':{'driver':'disk','disk':'nix'}}",
         "Could not open 'nix'"},
        {"{'driver':'quorum','node-name':'x','vote-threshold':3,'children':['n',{'driver':'null-co'}]}",
         "threshold"},
        {"{'driver':'quorum','node-name':'x','vote-threshold':1,'children':['n',{'driver':'null-co','y':1}]}",
         "Parameter 'y' is unexpected"},
    };

    make_nodes();
    try_bad("blockdev-add", "%s", bad, ARRAY_SIZE(bad));
    run_ok("blockdev-add", "{'driver':'null-co','node-name':'x'}"); /* the name is free */
    run_ok("blockdev-del", "{'node-name':'x'}");
    drop_nodes();
}

/* fact: block 6/all-or-nothing, 9/reopen */
static void test_bad_reopen(void **state)
{
    static const struct bad bad[] = {
        {"7", "Invalid parameter type for 'options[0]', expected: object"},
        {"{}", "Parameter 'options[0].driver' is missing"},
        {"{'driver':7,'node-name':'n'}", "Invalid parameter type for 'options[0].driver', expected: string"},
        {"{'driver':'null-co','size':65536}", "node-name not specified"},
        {"{'driver':'null-co','node-name':7}",
         "Invalid parameter type for 'options[0].node-name', expected: string"},
        {"{'driver':'null-co','node-name':''}", "Failed to find node with node-name=''"},
        {"{'driver':'null-co','node-name':'nix'}", "Failed to find node with node-name='nix'"},
        {"{'driver':'null-co','node-name':'g'}", "Failed to find node with node-name='g'"},
        {"{'driver':'','node-name':'n'}", "Parameter 'driver' does not accept value ''"},
        {"{'driver':'raw','node-name':'n','file':'f'}", "Cannot change the option 'driver'"},
        {"{'driver':'null-co','node-name':'n'}", "Option 'size' cannot be reset to its default value"},
        {"{'driver':'null-co','node-name':'n','size':'1M'}", "Cannot change the option 'size'"},
        {"{'driver':'null-co','node-name':'n','size':'x'}", "Parameter 'size' expects"},
        {"{'driver':'null-co','node-name':'n','size':65536,'latency-ns':1}",
         "Cannot change the option 'latency-ns'"},
        {"{'driver':'null-co','node-name':'n','size':65536,'bogus':1}", "Parameter 'bogus' is unexpected"},
        {"{'driver':'null-co','node-name':'n','size':65536,'read-only':'maybe'}",
         "Invalid parameter type for 'options[0].read-only', expected: boolean"},
        {"{'driver':'null-co','node-name':'n','size':65536,'force-share':true}", "force-share=on can only be used"},
        {"{'driver':'null-co','node-name':'n','size':65536,'read-only':true,'force-share':true}",
         "Cannot change the option 'force-share'"},
        {"{'driver':'null-co','node-name':'n','size':65536,'detect-zeroes':'unmap'}", "without discard=unmap"},
        {"{'driver':'null-co','node-name':'n','size':65536,'detect-zeroes':'x'}",
         "'detect-zeroes' does not accept"},
        {"{'driver':'null-co','node-name':'n','size':65536,'discard':1}", "Parameter 'discard' expects"},
        {"{'driver':'null-co','node-name':'n','size':65536,'cache':1}", "Parameter 'cache' expects a dictionary"},
        {"{'driver':'null-co','node-name':'n','size':65536,'cache':{'x':1}}", "Parameter 'cache.x' is unexpected"},
        {"{'driver':'null-co','node-name':'n','size':65536,'cache.direct':true,'cache':{'direct':true}}",
         "given twice"},
        {"{'driver':'null-co','node-name':'n','size':65536,'active':false}", "Cannot change the option 'active'"},
        {"{'driver':'null-co','node-name':'n','size':65536,'file':'f'}", "Parameter 'file' is unexpected"},
        {"{'driver':'null-co','node-name':'n','size':65536,'backing':'f'}", "does not support backing files"},
        {"{'driver':'raw','node-name':'r'}", "Parameter 'file' is missing"},
        {"{'driver':'raw','node-name':'r','file':null}", "Parameter 'file' is missing"},
        {"{'driver':'raw','node-name':'r','file':1}", "Parameter 'file' expects a node name or a dictionary"},
        {"{'driver':'raw','node-name':'r','file':''}", "Cannot find device='' nor node-name=''"},
        {"{'driver':'raw','node-name':'r','file':'r'}", "would create a cycle"},
        {"{'driver':'raw','node-name':'r','file':'f','offset':'2M'}", "cannot be greater than the size"},
        {"{'driver':'raw','node-name':'r','file':'f','size':'2M'}", "The sum of offset"},
        {"{'driver':'raw','node-name':'r','file':'n','size':'1M'}", "The sum of offset"},
        {"{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'e'}}",
         "Cannot change the option 'file.driver'"},
        {"{'driver':'raw','node-name':'r','file':{}}", "Cannot change the option 'file'"},
        {"{'driver':'raw','node-name':'r','file':'f','backing':7}", "Parameter 'backing' expects"},
        {"{'driver':'raw','node-name':'r','file':'f','file.driver':'disk'}", "is given twice"},
        {"{'driver':'raw','node-name':'i','file':{'size':65536}}", "Parameter 'driver' is missing"},
        {"{'driver':'raw','node-name':'i','file':{'driver':'null-co'}}", "Option 'size' cannot be reset"},
        {"{'driver':'raw','node-name':'i','file':{'driver':'null-co','size':65536,'node-name':'y'}}",
         "Cannot change the option 'node-name'"},
        {"{'driver':'raw','node-name':'i','file':{'driver':'null-co','size':65536,'node-name':1}}",
         "Parameter 'node-name' expects a string"},
        {"{'driver':'raw','node-name':'i','file':{'driver':'disk','disk':'e'}}",
         "Cannot change the option 'driver'"},
        {"{'driver':'raw','node-name':'i','file':{'driver':'null-co','size':65536,'z':1}}",
         "Parameter 'z' is unexpected"},
        {"{'driver':'disk','node-name':'s','disk':'d','read-only':true}", "cannot support read-write users"},
        {"{'driver':'disk','node-name':'s','disk':'e'}", "Cannot change the option 'disk'"},
        /* What comes first is undone when what comes later is refused. */
        {"{'driver':'raw','node-name':'r','file':'n','read-only':true},{'driver':'disk','node-name':'s','disk':'e'"
         "}",
         "Cannot change the option 'disk'"},
        {"{'driver':'raw','node-name':'r','file':'n'},{'driver':'disk','node-name':'s','disk':'d','read-only':"
         "true}",
         "cannot support read-write users"},
        {"{'driver':'raw','node-name':'r','file':'i'},{'driver':'raw','node-name':'i','file':'r'}", "a cycle"},
        {"{'driver':'raw','node-name':'r','file':'n'},{}", "Parameter 'options[1].driver' is missing"},
    };

    make_nodes();
    try_bad("blockdev-reopen", "{'options':[%s]}", bad, ARRAY_SIZE(bad));
    drop_nodes();
}

static void test_arguments(void **state)
{
    refused("blockdev-reopen", "{}", "GenericError: Parameter 'options' is missing");
    refused("blockdev-reopen", "{\"options\":{}}",
            "GenericError: Invalid parameter type for 'options', expected: array");
    refused("blockdev-reopen", "{\"options\":[],\"x\":1}", "GenericError: Parameter 'x' is unexpected");
    ok("blockdev-reopen", "{\"options\":[]}");
}

static bool node_says(const char *key, const char *value)
{
    char *text = nodes_text();
    char wanted[100];

    snprintf(wanted, sizeof(wanted), "\"%s\":%s", key, value);
    bool found = strstr(text, wanted) != NULL;
    free(text);
    return found;
}

/* What queries show follows, and a node that is named twice is what was said last. */
/* fact: block 6/changeable, 9/reopen */
static void test_effects(void **state)
{
    make_nodes();
    assert_false(node_says("detect_zeroes", "\"on\""));
    run_ok("blockdev-reopen", "{'options':[{'driver':'null-co','node-name':'n','size':'64k','detect-zeroes':'on',"
                              "'read-only':'on'}]}");
    assert_true(node_says("detect_zeroes", "\"on\"") && node_says("ro", "true"));
    run_ok("blockdev-reopen", "{'options':[{'driver':'null-co','node-name':'n','size':65536,'read-only':true,"
                              "'detect-zeroes':'on'},{'driver':'null-co','node-name':'n','size':65536,"
                              "'read-only':false}]}");
    assert_true(node_says("detect_zeroes", "\"on\"") && !node_says("ro", "true"));
    run_ok("blockdev-reopen", "{'options':[{'driver':'raw','node-name':'r','file':'n'},{'driver':'null-co',"
                              "'node-name':'n','size':65536}]}");
    assert_false(node_says("detect_zeroes", "\"on\""));
    run_ok("blockdev-del", "{'node-name':'f'}"); /* r has left it */
    run_ok("blockdev-del", "{'node-name':'r'}");
    run_ok("blockdev-del", "{'node-name':'n'}");
    run_ok("blockdev-del", "{'node-name':'i'}");
}

/* A guest's requests wait for the end of a reopen, and go where the node leads to then. */
/* fact: block 6/queue */
static void test_under_load(void **state)
{
    struct guest_req req[8];
    struct test_call c;

    for (unsigned i = 0; i < ARRAY_SIZE(req); i++) {
        write_begin(&req[i], (int64_t)i * 4096, 4096);
    }
    call_begin(&c, "blockdev-reopen",
               "{\"options\":[{\"driver\":\"disk\",\"node-name\":\"s\",\"disk\":\"d\",\"detect-zeroes\":\"on\"}]}");
    expect_text(call_end(&c), "{}");
    bed_settle();
    for (unsigned i = 0; i < ARRAY_SIZE(req); i++) {
        assert_int_equal(req[i].ret, 0);
        guest_req_clear(&req[i]);
    }
    write_bytes(0, 4096);
}

#define T_QMP(path, fn) T_SETUP(path, fn, qmp_setup, qmp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_QMP("/monitor/reopen/bad-add", test_bad_add),       T_QMP("/monitor/reopen/bad-reopen", test_bad_reopen),
        T_QMP("/monitor/reopen/arguments", test_arguments),   T_QMP("/monitor/reopen/effects", test_effects),
        T_QMP("/monitor/reopen/under-load", test_under_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
