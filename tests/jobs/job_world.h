/*
 * A small world for tests of jobs: one host with a graph, disks and raw nodes over them, and a trail of what a QMP
 * client would see.
 *
 * The trail has one word an event: "S:running", "READY", "COMPLETED", "COMPLETED(text)", "CANCELLED", "PENDING",
 * "ERROR(write,stop)".
 */
#ifndef TESTS_JOBS_JOB_WORLD_H
#define TESTS_JOBS_JOB_WORLD_H

#include "tests/testlib.h"

#include "block/block_int.h"
#include "jobs/blockjob.h"
#include "sim/qvalue.h"

static struct sim *world;
static struct host *host;
static char trail[8192];

static void trail_add(const char *text)
{
    size_t length = strlen(trail);

    snprintf(trail + length, sizeof(trail) - length, "%s%s", length > 0 ? " " : "", text);
}

static void trail_event(void *opaque, const struct sim_record *r)
{
    char text[256] = "";

    switch (r->kind) {
    case EV_JOB_STATUS_CHANGE:
        snprintf(text, sizeof(text), "S:%s", sim_record_str(r, 1));
        break;
    case EV_BLOCK_JOB_READY:
        snprintf(text, sizeof(text), "READY");
        break;
    case EV_BLOCK_JOB_PENDING:
        snprintf(text, sizeof(text), "PENDING");
        break;
    case EV_BLOCK_JOB_CANCELLED:
        snprintf(text, sizeof(text), "CANCELLED");
        break;
    case EV_BLOCK_JOB_COMPLETED:
        if (sim_record_str(r, 5) != NULL) {
            snprintf(text, sizeof(text), "COMPLETED(%s)", sim_record_str(r, 5));
        } else {
            snprintf(text, sizeof(text), "COMPLETED");
        }
        break;
    case EV_BLOCK_JOB_ERROR:
        snprintf(text, sizeof(text), "ERROR(%s,%s)", sim_record_str(r, 1), sim_record_str(r, 2));
        break;
    default:
        return;
    }
    trail_add(text);
}

static int world_setup(void **state)
{
    world = sim_new();
    host = host_new(world, "h");
    bdrv_graph_init(host);
    jobs_init(host);
    sim_subscribe_all(world, trail_event, NULL);
    trail[0] = '\0';
    return 0;
}

/* --- running -------------------------------------------------------------------------------------------- */

struct on_main {
    void (*fn)(void *opaque);
    void *opaque;
    bool done;
};

static void on_main_entry(void *opaque)
{
    struct on_main *call = opaque;

    call->fn(call->opaque);
    call->done = true;
}

static bool on_main_done(void *opaque)
{
    return ((struct on_main *)opaque)->done;
}

/* Runs fn as a command of the host and waits for its end. */
static void on_main(void (*fn)(void *opaque), void *opaque)
{
    struct on_main call = {.fn = fn, .opaque = opaque};

    host_command(host, on_main_entry, &call);
    assert_int_equal(sim_run_idle(world, on_main_done, &call, INT64_MAX), SIM_STOP_COND);
}

static SIM_UNUSED void settle(void)
{
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
}

static SIM_UNUSED void run_for(int64_t ns)
{
    assert_int_equal(sim_run_idle(world, NULL, NULL, sim_now(world) + ns), SIM_STOP_TIME);
}

/* A verb of the job, on the main coroutine; the error's text or "". */
struct verb_call {
    Job *job;
    void (*verb)(Job *job, Error **errp);
    char text[256];
};

static void verb_entry(void *opaque)
{
    struct verb_call *call = opaque;
    Error *err = NULL;

    call->verb(call->job, &err);
    if (err != NULL) {
        snprintf(call->text, sizeof(call->text), "%s", error_get_pretty(err));
        error_free(err);
    }
}

static SIM_UNUSED const char *verb(Job *job, void (*fn)(Job *job, Error **errp))
{
    static struct verb_call call;

    call = (struct verb_call){.job = job, .verb = fn};
    on_main(verb_entry, &call);
    return call.text;
}

static SIM_UNUSED void verb_cancel_soft(Job *job, Error **errp)
{
    job_user_cancel(job, false, errp);
}

static SIM_UNUSED void verb_cancel_force(Job *job, Error **errp)
{
    job_user_cancel(job, true, errp);
}

static SIM_UNUSED void verb_dismiss(Job *job, Error **errp)
{
    job_dismiss(&job, errp);
}

/* --- nodes ---------------------------------------------------------------------------------------------- */

struct add_node {
    const char *driver;
    const char *name;
    const char *disk; /* NULL: none below */
    bool read_only;
    BlockDriverState *bs;
};

static void add_node_entry(void *opaque)
{
    struct add_node *add = opaque;
    struct qvalue *options = qvalue_dict();
    Error *err = NULL;

    qdict_put(options, "driver", qvalue_str(add->driver));
    qdict_put(options, "node-name", qvalue_str(add->name));
    qdict_put(options, "read-only", qvalue_bool(add->read_only));
    qdict_put(options, "discard", qvalue_str("unmap"));
    if (add->disk != NULL) {
        qdict_put_path(options, "file.driver", qvalue_str("disk"));
        qdict_put_path(options, "file.disk", qvalue_str(add->disk));
    }
    add->bs = qmp_blockdev_add_node(host, options, &err);
    if (add->bs == NULL) {
        fail_msg("blockdev-add: %s", error_get_pretty(err));
    }
    qvalue_free(options);
}

/* A raw node over the disk of that name. */
static SIM_UNUSED BlockDriverState *add_raw(const char *name, const char *disk, bool read_only)
{
    struct add_node add = {.driver = "raw", .name = name, .disk = disk, .read_only = read_only};

    on_main(add_node_entry, &add);
    return add.bs;
}

static SIM_UNUSED BlockDriverState *add_null(const char *name)
{
    struct add_node add = {.driver = "null-co", .name = name};

    on_main(add_node_entry, &add);
    return add.bs;
}

static void del_node_entry(void *opaque)
{
    Error *err = NULL;

    if (!qmp_blockdev_del_node(host, opaque, &err)) {
        fail_msg("blockdev-del: %s", error_get_pretty(err));
    }
}

static SIM_UNUSED void del_node(const char *name)
{
    on_main(del_node_entry, (void *)(uintptr_t)name);
}

static SIM_UNUSED struct disk *new_disk(const char *name, int64_t size_bytes, int64_t capacity_bytes)
{
    struct disk_config config;
    struct disk *disk;

    disk_config_default(&config);
    config.size_bytes = size_bytes;
    config.capacity_bytes = capacity_bytes;
    disk = disk_new(world, name, &config, NULL);
    assert_non_null(disk);
    return disk;
}

/* --- census --------------------------------------------------------------------------------------------- */

/* Nothing of a job may be left. */
static void assert_no_job_left(void)
{
    static const enum sim_type types[] = {SIM_TYPE_Job,      SIM_TYPE_JobTxn,         SIM_TYPE_BlockJobNode,
                                          SIM_TYPE_MirrorOp, SIM_TYPE_mirror_job,     SIM_TYPE_BdrvDirtyBitmap,
                                          SIM_TYPE_HBitmap,  SIM_TYPE_bdrv_op_blocker};

    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (sim_arena_live(host->arena, types[i]) != 0) {
            fail_msg("left: %s", sim_type_name(types[i]));
        }
    }
    assert_null(job_next(host, NULL));
}

static int world_teardown(void **state)
{
    sim_delete(world);
    return 0;
}

#endif
