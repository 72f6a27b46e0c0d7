/*
 * A host with commands, all checkers and one job of any kind, for the tests that take jobs through their states.
 *
 * A kind says which nodes its job stands on and how it is started. The job is always "j", its nodes hold data
 * everywhere, so that a speed of 1 byte/s keeps it running for as long as a test likes.
 */
#ifndef TESTS_JOBS_MATRIX_WORLD_H
#define TESTS_JOBS_MATRIX_WORLD_H

#include "tests/jobs/job_world.h"

#include "block/backend.h"
#include "check/check.h"
#include "monitor/monitor.h"
#include "vm/guest.h"

static int64_t disk_bytes = 2 * MiB;
static int64_t cluster_bytes = 64 * KiB; /* of images */

struct kind {
    const char *name;  /* of the type, active commits apart */
    const char *type;  /* in queries and events */
    const char *start; /* command */
    const char *args;  /* without the braces */
    bool chain;        /* over base <- mid <- top; else from s to t */
    bool readies;      /* becomes ready, and is completed by command */
};

static const struct kind kinds[] = {
    {"mirror", "mirror", "blockdev-mirror", "'device':'s','target':'t','sync':'full'", false, true},
    {"active-commit", "commit", "block-commit", "'device':'top','base-node':'base'", true, true},
    {"commit", "commit", "block-commit", "'device':'top','top-node':'mid','base-node':'base'", true, false},
    {"stream", "stream", "block-stream", "'device':'top'", true, false},
    {"backup", "backup", "blockdev-backup", "'device':'s','target':'t','sync':'full'", false, false},
};

static SIM_UNUSED const struct kind *kind_named(const char *name)
{
    const struct kind *kind = kinds;

    while (strcmp(kind->name, name) != 0) {
        kind++;
        assert_true(kind < kinds + ARRAY_SIZE(kinds));
    }
    return kind;
}

/* --- commands ------------------------------------------------------------------------------------------------ */

static struct check_set *checks;

static void qmp_done(struct qmp_call *call)
{
    *(bool *)call->opaque = true;
}

static bool flag_set(void *opaque)
{
    return *(bool *)opaque;
}

/* A violation halts the world; the test looks at the verdict in the end. */
static void run_until(bool (*cond)(void *opaque), void *opaque)
{
    int64_t end = sim_now(world) + 1000 * NS_PER_S;

    for (int round = 0; !cond(opaque); round++) {
        enum sim_stop stop = sim_run_idle(world, cond, opaque, end);

        if (stop != SIM_STOP_COND && !(stop == SIM_STOP_HALTED && round < 100)) {
            fail_msg("not reached, trail %s", trail);
        }
    }
}

/* Single quotes stand for double ones. The reply as JSON, or "Class: text"; valid until the next two calls. */
static const char *qmp(const char *name, const char *format, ...) SIM_PRINTF(2, 3);
static const char *qmp(const char *name, const char *format, ...)
{
    static char texts[2][2048];
    static unsigned turn;
    char *text = texts[turn++ % 2];
    char json[1024];
    bool done = false;
    struct qmp_call call = {.command = qmp_find_command(name), .done = qmp_done, .opaque = &done, .host = host};
    Error *err = NULL;
    va_list ap;

    va_start(ap, format);
    vsnprintf(json, sizeof(json), format, ap);
    va_end(ap);
    for (char *c = json; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    call.args = qvalue_from_json(json, strlen(json), NULL);
    assert_non_null(call.command);
    assert_non_null(call.args);
    if (!qmp_check_args(call.command, call.args, &err)) {
        fail_msg("%s %s: %s", name, json, error_get_pretty(err));
    }
    monitor_submit(host, &call);
    run_until(flag_set, &done);
    if (call.err != NULL) {
        snprintf(text, sizeof(texts[0]), "%s: %s", error_class_name(error_get_class(call.err)),
                 error_get_pretty(call.err));
    } else {
        char *reply = qvalue_to_json(call.reply);

        snprintf(text, sizeof(texts[0]), "%s", reply);
        free(reply);
    }
    qvalue_free(call.args);
    qvalue_free(call.reply);
    error_free(call.err);
    return text;
}

static void ok(const char *reply)
{
    assert_string_equal(reply, "{}");
}

static Job *the_job(void)
{
    return job_find(host, "j");
}

static bool job_gone(void *opaque)
{
    return the_job() == NULL;
}

static bool job_in(void *opaque)
{
    const Job *job = the_job();

    return job != NULL && job->status == *(const enum job_status *)opaque;
}

static SIM_UNUSED void until(enum job_status status)
{
    run_until(job_in, &status);
}

/* --- nodes --------------------------------------------------------------------------------------------------- */

struct fill {
    const char *node;
    int64_t bytes;
    BlockBackend *blk;
    bool done;
};

static void fill_begin(void *opaque)
{
    struct fill *fill = opaque;

    fill->blk = blk_new(host, BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(fill->blk, bdrv_find_node(host, fill->node), NULL), 0);
}

static void fill_co(void *opaque)
{
    struct fill *fill = opaque;
    struct payload data;

    payload_init(world, &data);
    payload_append_tags(&data, (uint64_t)fill->node[0] << 20, fill->bytes / SIM_SECTOR_BYTES);
    assert_int_equal(blk_co_pwritev(fill->blk, 0, fill->bytes, &data, 0), 0);
    payload_clear(&data);
    fill->done = true;
}

static void fill_end(void *opaque)
{
    blk_unref(((struct fill *)opaque)->blk);
}

static void fill_node(const char *node, int64_t bytes)
{
    struct fill fill = {.node = node, .bytes = bytes};

    on_main(fill_begin, &fill);
    coroutine_start(coroutine_create(world, host, "fill", fill_co, &fill));
    run_until(flag_set, &fill.done);
    on_main(fill_end, &fill);
}

static void add_plain(const char *node, const char *disk, bool filled)
{
    struct payload data;
    struct disk *medium = new_disk(disk, disk_bytes, 0);

    if (filled) {
        payload_init(world, &data);
        payload_append_tags(&data, 1 << 20, disk_bytes / SIM_SECTOR_BYTES);
        disk_poke(medium, 0, &data);
        payload_clear(&data);
    }
    ok(qmp("blockdev-add", "{'driver':'raw','node-name':'%s','file':{'driver':'disk','disk':'%s'}}", node, disk));
}

static void add_image(const char *node, const char *backing, int64_t filled_bytes)
{
    static const enum job_status concluded = JOB_STATUS_CONCLUDED;
    char disk[16], below[64] = "", with[64] = "";

    snprintf(disk, sizeof(disk), "%s_d", node);
    new_disk(disk, 0, 2 * disk_bytes + 64 * MiB);
    if (backing != NULL) {
        snprintf(below, sizeof(below), ",'backing-file':'%s_d','backing-fmt':'qcow2'", backing);
        snprintf(with, sizeof(with), ",'backing':'%s'", backing);
    }
    ok(qmp("blockdev-create",
           "{'job-id':'j','options':{'driver':'qcow2','file':{'driver':'disk','disk':'%s'},'size':%lld,'cluster-"
           "size':%lld%s}}",
           disk, (long long)disk_bytes, (long long)cluster_bytes, below));
    run_until(job_in, (void *)(uintptr_t)&concluded);
    ok(qmp("job-dismiss", "{'id':'j'}"));
    ok(qmp("blockdev-add", "{'driver':'qcow2','node-name':'%s','file':{'driver':'disk','disk':'%s'}%s}", node, disk,
           with));
    fill_node(node, filled_bytes);
}

/* --- the world ----------------------------------------------------------------------------------------------- */

static void matrix_begin(const struct kind *kind)
{
    world_setup(NULL);
    /* groups without a command are known to nobody */
    checks = check_attach(world, kind != NULL ? "all" : "resources", NULL);
    assert_non_null(checks);
    vm_init(host);
    monitor_init(host);
    if (kind != NULL && kind->chain) {
        add_image("base", NULL, disk_bytes);
        add_image("mid", "base", disk_bytes);
        add_image("top", "mid", disk_bytes / 2);
    } else {
        add_plain("s", "src", true);
        add_plain("t", "dst", false);
    }
    trail[0] = '\0';
}

static void assert_no_violation(void)
{
    const struct violation *v = check_violations(checks);

    if (v != NULL) {
        fail_msg("%s: %s, trail %s", v->signature, v->detail, trail);
    }
}

static void delete_nodes(void *opaque)
{
    static const char *const nodes[] = {"top", "mid", "base", "s", "t", "s2", "t2"};

    for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
        if (bdrv_find_node(host, nodes[i]) != NULL) {
            assert_true(qmp_blockdev_del_node(host, nodes[i], NULL));
        }
    }
}

static void matrix_end(void)
{
    assert_null(the_job());
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    check_settled(checks);
    check_final(checks);
    on_main(delete_nodes, NULL);
    monitor_cleanup(host);
    vm_cleanup(host);
    assert_no_job_left();
    jobs_cleanup(host);
    bdrv_graph_cleanup(host);
    check_teardown(checks);
    assert_no_violation();
    world_teardown(NULL);
    check_set_free(checks);
}

/* more: further arguments, with a comma first. */
static void start_kind(const struct kind *kind, const char *more)
{
    ok(qmp(kind->start, "{'job-id':'j',%s%s}", kind->args, more));
}

#endif
