/*
 * A small host for tests of vm/ and monitor/: one disk, one node, a trail of what clients and guests see, and a
 * medium that fails or sticks on demand.
 */
#ifndef TESTS_VMLIB_H
#define TESTS_VMLIB_H

#include "tests/testlib.h"

#include <errno.h>

#include "jobs/job.h"
#include "vm/guest.h"

/* A hang is a failure, also while something polls idly for ever. */
#define BED_PATIENCE_NS (100 * NS_PER_S)

struct bed {
    struct sim *sim;
    struct host *host;
    struct disk *disk;
    char trail[4096];
    struct disk_interposer interposer;
    unsigned fail_ops; /* bits of enum sim_op */
    int fail_errno;
    unsigned fail_count; /* how many more; UINT_MAX: for ever */
    bool stick;
    const char *also_del; /* one more node to remove at the end */
};

static struct bed bed;

static SIM_UNUSED void bed_say(const char *fmt, ...) SIM_PRINTF(1, 2);
static void bed_say(const char *fmt, ...)
{
    size_t length = strlen(bed.trail);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(bed.trail + length, sizeof(bed.trail) - length, fmt, ap);
    va_end(ap);
}

static void bed_event(void *opaque, const struct sim_record *r)
{
    switch ((int)r->kind) {
    case EV_guest_complete:
        bed_say("%d:%s ", (int)r->field[1], sim_errno_name((int)r->field[5]));
        break;
    case EV_STOP:
        bed_say("STOP ");
        break;
    case EV_RESUME:
        bed_say("RESUME ");
        break;
    case EV_run_state:
        bed_say("%s>%s ", sim_record_str(r, 0), sim_record_str(r, 1));
        break;
    case EV_BLOCK_IO_ERROR:
        bed_say("ERROR(%s,%s,%s) ", sim_record_str(r, 2), sim_record_str(r, 3), r->field[4] ? "nospace" : "-");
        break;
    default:
        break;
    }
}

static void bed_before(struct disk_interposer *self, struct disk_req *req)
{
    req->stuck = bed.stick;
    if ((bed.fail_ops >> req->op & 1) && bed.fail_count > 0) {
        bed.fail_count -= bed.fail_count != UINT32_MAX;
        req->ret = -bed.fail_errno;
    }
}

static SIM_UNUSED void bed_fail(enum sim_op op, int errnum, unsigned count)
{
    bed.fail_ops = 1u << op;
    bed.fail_errno = errnum;
    bed.fail_count = count;
}

/* The trail since the last look. */
static SIM_UNUSED void bed_expect(const char *trail)
{
    assert_string_equal(bed.trail, trail);
    bed.trail[0] = '\0';
}

static SIM_UNUSED void bed_settle(void)
{
    assert_int_equal(sim_run(bed.sim, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
}

static SIM_UNUSED void bed_run_until(int64_t time_ns)
{
    sim_run_idle(bed.sim, NULL, NULL, time_ns);
}

/* Runs fn as a command of the host and waits for its end only. */
struct bed_call {
    host_fn *fn;
    bool done;
};
static void bed_call_entry(void *opaque)
{
    struct bed_call *call = opaque;

    call->fn(NULL);
    call->done = true;
}
static bool bed_call_done(void *opaque)
{
    return ((struct bed_call *)opaque)->done;
}
static void bed_on_main(host_fn *fn)
{
    struct bed_call call = {fn, false};

    host_command(bed.host, bed_call_entry, &call);
    assert_int_equal(sim_run_idle(bed.sim, bed_call_done, &call, sim_now(bed.sim) + BED_PATIENCE_NS),
                     SIM_STOP_COND);
}

static struct qvalue *bed_json(const char *text)
{
    struct qvalue *value = qvalue_from_json(text, strlen(text), NULL);

    assert_non_null(value);
    return value;
}

static void bed_add_node(void *opaque)
{
    struct qvalue *options = bed_json("{\"driver\":\"disk\",\"node-name\":\"s\",\"disk\":\"d\"}");

    assert_non_null(qmp_blockdev_add_node(bed.host, options, NULL));
    qvalue_free(options);
}

static int bed_setup(void **state)
{
    struct disk_config config;

    memset(&bed, 0, sizeof(bed));
    bed.sim = sim_new();
    disk_config_default(&config);
    config.size_bytes = MiB;
    bed.disk = disk_new(bed.sim, "d", &config, NULL);
    assert_non_null(bed.disk);
    bed.interposer.before = bed_before;
    disk_add_interposer(bed.disk, &bed.interposer);
    bed.host = host_new(bed.sim, "h");
    bdrv_graph_init(bed.host);
    jobs_init(bed.host);
    vm_init(bed.host);
    bed_on_main(bed_add_node);
    sim_subscribe_all(bed.sim, bed_event, NULL);
    return 0;
}

static void bed_take_down(void *opaque)
{
    struct guest *guest;

    while ((guest = guest_next(bed.host, NULL))) {
        guest_delete(guest);
    }
    assert_true(qmp_blockdev_del_node(bed.host, "s", NULL));
    if (bed.also_del) {
        assert_true(qmp_blockdev_del_node(bed.host, bed.also_del, NULL));
    }
}

/* Everything goes, and nothing may be left. first (may be NULL) ends what the test itself began. */
static void bed_teardown_with(void (*first)(struct host *host))
{
    static const enum sim_type types[] = {SIM_TYPE_guest,        SIM_TYPE_VmState,          SIM_TYPE_BlockBackend,
                                          SIM_TYPE_BdrvChild,    SIM_TYPE_BlockDriverState, SIM_TYPE_str,
                                          SIM_TYPE_payload_elem, SIM_TYPE_host_callback};

    bed.stick = false;
    bed.fail_count = 0;
    disk_release_stuck(bed.disk);
    bed_on_main(bed_take_down);
    bed_settle();
    if (first) {
        first(bed.host);
    }
    vm_cleanup(bed.host);
    jobs_cleanup(bed.host);
    bdrv_graph_cleanup(bed.host);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        assert_int_equal(sim_arena_live(bed.host->arena, types[i]), 0);
    }
    host_delete(bed.host);
    sim_delete(bed.sim);
}

#endif
