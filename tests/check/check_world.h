/*
 * A whole hypervisor under checkers: disks, raw nodes, a guest, QMP commands. The tests break something real in it
 * and look which promise is reported broken.
 */
#ifndef TESTS_CHECK_CHECK_WORLD_H
#define TESTS_CHECK_CHECK_WORLD_H

#include "tests/testlib.h"

#include "block/block_int.h"
#include "check/check.h"
#include "faults/fault.h"
#include "jobs/blockjob.h"
#include "jobs/mirror.h"
#include "monitor/monitor.h"
#include "vm/guest.h"

static struct sim *world;
static struct host *host;
static struct check_set *checks;
static struct guest *guest;

static SIM_UNUSED int world_setup(void **state)
{
    world = sim_new();
    checks = check_attach(world, "all", NULL);
    assert_non_null(checks);
    host = host_new(world, "h");
    bdrv_graph_init(host);
    jobs_init(host);
    vm_init(host);
    monitor_init(host);
    guest = NULL;
    return 0;
}

static SIM_UNUSED int world_teardown(void **state)
{
    sim_delete(world);
    check_set_free(checks);
    return 0;
}

/* --- running: a violation halts the world, the tests go on ------------------------------------------------- */

static void run_until(bool (*cond)(void *opaque), void *opaque)
{
    for (int round = 0; !cond(opaque); round++) {
        enum sim_stop stop = sim_run_idle(world, cond, opaque, sim_now(world) + 1000 * NS_PER_S);

        assert_true(stop == SIM_STOP_COND || (stop == SIM_STOP_HALTED && round < 100));
    }
}

static SIM_UNUSED void settle(void)
{
    while (sim_run(world, NULL, NULL, INT64_MAX) == SIM_STOP_HALTED) {
    }
    check_settled(checks);
}

static bool flag_set(void *opaque)
{
    return *(bool *)opaque;
}

struct main_call {
    void (*fn)(void *opaque);
    void *opaque;
    bool done;
};

static void main_entry(void *opaque)
{
    struct main_call *call = opaque;

    call->fn(call->opaque);
    call->done = true;
}

static SIM_UNUSED void on_main(void (*fn)(void *opaque), void *opaque)
{
    struct main_call call = {.fn = fn, .opaque = opaque};

    host_defer(host, main_entry, &call);
    run_until(flag_set, &call.done);
}

/* --- what the world is made of ------------------------------------------------------------------------------ */

static SIM_UNUSED struct disk *new_disk(const char *name, int64_t size_bytes)
{
    struct disk_config config;
    struct disk *disk;

    disk_config_default(&config);
    config.size_bytes = size_bytes;
    disk = disk_new(world, name, &config, NULL);
    assert_non_null(disk);
    return disk;
}

static void qmp_done(struct qmp_call *call)
{
    *(bool *)call->opaque = true;
}

/* Arguments as JSON. True when it was accepted. */
static bool qmp(const char *name, const char *json)
{
    bool done = false;
    struct qmp_call call = {.command = qmp_find_command(name), .done = qmp_done, .opaque = &done, .host = host};
    bool accepted;
    Error *err = NULL;

    call.args = qvalue_from_json(json, strlen(json), &err);
    assert_non_null(call.command);
    assert_non_null(call.args);
    assert_true(qmp_check_args(call.command, call.args, NULL));
    monitor_submit(host, &call);
    run_until(flag_set, &done);
    accepted = !call.err;
    qvalue_free(call.args);
    qvalue_free(call.reply);
    error_free(call.err);
    return accepted;
}

static SIM_UNUSED void add_raw(const char *node, const char *disk)
{
    char json[256];

    snprintf(json, sizeof(json),
             "{\"driver\":\"raw\",\"node-name\":\"%s\",\"discard\":\"unmap\",\"file\":{\"driver\":\"disk\","
             "\"disk\":\"%s\","
             "\"discard\":\"unmap\"}}",
             node, disk);
    assert_true(qmp("blockdev-add", json));
}

static void guest_entry(void *opaque)
{
    struct guest_config config;

    guest_config_default(&config);
    config.name = "g";
    config.node = opaque;
    config.queue_depth = 64;
    guest = guest_new(host, &config, NULL);
    assert_non_null(guest);
}

static SIM_UNUSED void add_guest(const char *node)
{
    on_main(guest_entry, (void *)(uintptr_t)node);
}

/* Source and target of size_bytes, guest on the source whose first data_bytes hold stamps. */
static SIM_UNUSED void mirror_world(int64_t size_bytes, int64_t data_bytes)
{
    struct disk *src = new_disk("src", size_bytes);
    struct payload data;

    new_disk("dst", size_bytes);
    payload_init(world, &data);
    payload_append_tags(&data, 1 << 20, data_bytes / SIM_SECTOR_BYTES);
    disk_poke(src, 0, &data);
    payload_clear(&data);
    add_raw("s", "src");
    add_raw("d", "dst");
    add_guest("s");
}

static SIM_UNUSED bool start_mirror(const char *more)
{
    char json[256];

    snprintf(json, sizeof(json), "{\"job-id\":\"m\",\"device\":\"s\",\"target\":\"d\",\"sync\":\"full\"%s}", more);
    return qmp("blockdev-mirror", json);
}

static bool job_ready(void *opaque)
{
    Job *job = job_find(host, "m");

    return job && job->status == JOB_STATUS_READY;
}

static bool job_gone(void *opaque)
{
    return !job_find(host, "m");
}

static SIM_UNUSED void wait_ready(void)
{
    run_until(job_ready, NULL);
}

static SIM_UNUSED void complete_mirror(void)
{
    assert_true(qmp("block-job-complete", "{\"device\":\"m\"}"));
    run_until(job_gone, NULL);
}

/* --- guest requests ------------------------------------------------------------------------------------------ */

struct io {
    struct guest_req req;
    bool done;
};

static void io_done(struct guest_req *req)
{
    ((struct io *)req->opaque)->done = true;
}

/* tag: of the first sector. The caller waits and clears. */
static SIM_UNUSED void io_submit(struct io *io, enum sim_op op, int64_t offset, int64_t bytes, uint64_t tag)
{
    guest_req_init(host, &io->req);
    io->req.op = op;
    io->req.offset = offset;
    io->req.bytes = bytes;
    io->req.entity = tag;
    io->req.done = io_done;
    io->req.opaque = io;
    io->done = false;
    if (op == SIM_OP_WRITE) {
        payload_append_tags(&io->req.data, tag, bytes / SIM_SECTOR_BYTES);
    }
    guest_submit(guest, &io->req);
}

static SIM_UNUSED int io_run(enum sim_op op, int64_t offset, int64_t bytes, uint64_t tag)
{
    struct io io;

    io_submit(&io, op, offset, bytes, tag);
    run_until(flag_set, &io.done);
    guest_req_clear(&io.req);
    return io.req.ret;
}

/* --- faults and verdicts ------------------------------------------------------------------------------------- */

static SIM_UNUSED void arm(const char *fault, const char *json)
{
    struct qvalue *args = qvalue_from_json(json, strlen(json), NULL);

    assert_non_null(args);
    assert_true(fault_arm(world, fault_find(fault), args, 77, NULL));
    qvalue_free(args);
}

static SIM_UNUSED void assert_silent(void)
{
    const struct violation *v = check_violations(checks);

    if (v) {
        fail_msg("%s: %s", v->signature, v->detail);
    }
}

/* Some violation's signature begins so. */
static SIM_UNUSED void assert_violated(const char *prefix)
{
    const struct violation *v = check_violations(checks);

    while (v && strncmp(v->signature, prefix, strlen(prefix)) != 0) {
        v = v->next;
    }
    if (!v) {
        v = check_violations(checks);
        fail_msg("expected %s, seen %s", prefix, v ? v->signature : "nothing");
    }
}

/* A violation says so to a person. */
static SIM_UNUSED void assert_said(const char *text)
{
    const struct violation *v = check_violations(checks);

    while (v && !strstr(v->detail, text)) {
        v = v->next;
    }
    if (!v) {
        for (v = check_violations(checks); v; v = v->next) {
            print_message("%s: %s\n", v->signature, v->detail);
        }
        fail_msg("nobody said: %s", text);
    }
}

static void close_entry(void *opaque)
{
    static const char *const nodes[] = {"s", "d", "q", "x", "fa", "fb", "fc"};

    if (guest) {
        guest_delete(guest);
    }
    for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
        if (bdrv_find_node(host, nodes[i])) {
            assert_true(qmp_blockdev_del_node(host, nodes[i], NULL));
        }
    }
}

/* The end of a run: quiet, looked at, taken down, counted. */
static SIM_UNUSED void finish(void)
{
    fault_stop_all(world);
    settle();
    check_final(checks);
    on_main(close_entry, NULL);
    monitor_cleanup(host);
    vm_cleanup(host);
    jobs_cleanup(host);
    bdrv_graph_cleanup(host);
    check_teardown(checks);
}

#endif
