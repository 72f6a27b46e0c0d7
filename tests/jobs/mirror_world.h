/*
 * What the mirror's tests share: a source and a target over disks, a guest's backend on the source, starting and
 * steering one mirror, writes of the guest, comparing both sides.
 */
#ifndef TESTS_JOBS_MIRROR_WORLD_H
#define TESTS_JOBS_MIRROR_WORLD_H

#include "tests/jobs/job_world.h"

#include <errno.h>

#include "jobs/mirror_int.h"

static struct disk *src_disk, *dst_disk;
static BlockDriverState *src, *dst;
static BlockBackend *guest;
static struct mirror_args args;
static int start_ret;
static char start_error[256];

static void guest_entry(void *opaque)
{
    guest = blk_new(host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                    BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    assert_true(blk_set_name(guest, "g", NULL));
    assert_int_equal(blk_insert_bs(guest, src, NULL), 0);
}

static void default_args(void)
{
    args = (struct mirror_args){
        .job_id = "m",
        .sync = MIRROR_SYNC_FULL,
        .granularity = 64 * KiB,
        .unmap = true,
        .zero_target = true,
        .auto_finalize = true,
        .auto_dismiss = true,
    };
}

/* Stamps every sector of the source's medium. */
static void stamp_source(int64_t bytes)
{
    struct payload data;

    payload_init(world, &data);
    payload_append_tags(&data, 1000, bytes / SIM_SECTOR_BYTES);
    payload_append_zero(&data, bytes % SIM_SECTOR_BYTES);
    disk_poke(src_disk, 0, &data);
    payload_clear(&data);
}

static void mirror_world(int64_t src_bytes, int64_t dst_bytes, int64_t dst_capacity)
{
    src_disk = new_disk("src", src_bytes, 0);
    dst_disk = new_disk("dst", dst_bytes, dst_capacity);
    src = add_raw("s", "src", false);
    dst = add_raw("d", "dst", false);
    on_main(guest_entry, NULL);
    default_args();
}

static void start_entry(void *opaque)
{
    Error *err = NULL;

    start_ret = mirror_start(src, dst, &args, &err);
    start_error[0] = '\0';
    if (err != NULL) {
        snprintf(start_error, sizeof(start_error), "%s", error_get_pretty(err));
        error_free(err);
    }
    assert_int_equal(start_ret < 0, start_error[0] != '\0');
}

static Job *start(void)
{
    on_main(start_entry, NULL);
    assert_string_equal(start_error, "");
    return job_find(host, args.job_id != NULL ? args.job_id : "g");
}

/* --- the guest ------------------------------------------------------------------------------------------ */

struct guest_io {
    int64_t offset;
    int64_t bytes;
    int fill; /* -1: discard, -2: zero write */
    int ret;
    bool done;
};

static void guest_io_entry(void *opaque)
{
    struct guest_io *io = opaque;
    struct payload data;

    payload_init(world, &data);
    if (io->fill == -1) {
        io->ret = blk_co_pdiscard(guest, io->offset, io->bytes);
    } else if (io->fill == -2) {
        io->ret = blk_co_pwrite_zeroes(guest, io->offset, io->bytes, BDRV_REQ_MAY_UNMAP);
    } else {
        payload_append_fill(&data, (uint8_t)io->fill, io->bytes);
        io->ret = blk_co_pwritev(guest, io->offset, io->bytes, &data, 0);
    }
    payload_clear(&data);
    io->done = true;
}

/* Starts a request; io lives until done. */
static void guest_submit_io(struct guest_io *io)
{
    coroutine_start(coroutine_create(world, host, "guest", guest_io_entry, io));
}

static bool guest_io_done(void *opaque)
{
    return ((struct guest_io *)opaque)->done;
}

static SIM_UNUSED void guest_write(int64_t offset, int64_t bytes, int fill)
{
    struct guest_io io = {.offset = offset, .bytes = bytes, .fill = fill};

    guest_submit_io(&io);
    assert_int_equal(sim_run_idle(world, guest_io_done, &io, INT64_MAX), SIM_STOP_COND);
    assert_int_equal(io.ret, 0);
}

/* --- waiting and looking -------------------------------------------------------------------------------- */

static bool trail_has(void *opaque)
{
    return strstr(trail, opaque) != NULL;
}

static void wait_trail(const char *word)
{
    assert_int_equal(sim_run_idle(world, trail_has, (void *)(uintptr_t)word, sim_now(world) + 1000 * NS_PER_S),
                     SIM_STOP_COND);
}

static void assert_same_disks(int64_t bytes)
{
    struct payload a, b;

    payload_init(world, &a);
    payload_init(world, &b);
    disk_peek(src_disk, 0, bytes, &a);
    disk_peek(dst_disk, 0, bytes, &b);
    assert_true(payload_equal(&a, 0, &b, 0, bytes));
    payload_clear(&a);
    payload_clear(&b);
}

static bool source_is_quiet_again(void)
{
    return bdrv_quiesce_counter(src) == 0 && bdrv_quiesce_counter(dst) == 0 && bdrv_op_blockers(src) == 0 &&
           bdrv_op_blockers(dst) == 0 && bdrv_dirty_bitmap_next(src, NULL) == NULL;
}

static void finish_entry(void *opaque)
{
    blk_unref(guest);
}

/* The job is gone without a trace; then the graph goes, too. */
static void assert_clean(BlockDriverState *guest_node)
{
    assert_no_job_left();
    assert_ptr_equal(blk_bs(guest), guest_node);
    assert_true(source_is_quiet_again());
    for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs != NULL; bs = bdrv_next_node(host, bs)) {
        assert_string_not_equal(bdrv_driver_name(bs), "mirror_top");
    }
    on_main(finish_entry, NULL);
    del_node("s");
    del_node("d");
    assert_null(bdrv_next_node(host, NULL));
    jobs_cleanup(host);
    bdrv_graph_cleanup(host);
    for (unsigned type = 0; type < SIM_TYPE_COUNT; type++) {
        if (type != SIM_TYPE_Coroutine && sim_arena_live(host->arena, (enum sim_type)type) != 0) {
            fail_msg("left: %s", sim_type_name((enum sim_type)type));
        }
    }
    assert_int_equal(coroutine_count(world), 1); /* the main loop */
}

/* --- failing media -------------------------------------------------------------------------------------- */

struct failing {
    struct disk_interposer interposer;
    enum sim_op op;
    int64_t offset; /* of the request; -1: any */
    int error;
    int count; /* requests still to fail */
    int64_t extra_latency_ns;
};

static void failing_before(struct disk_interposer *self, struct disk_req *req)
{
    struct failing *rule = container_of(self, struct failing, interposer);

    if (req->op != rule->op || (rule->offset >= 0 && req->offset != rule->offset) || rule->count <= 0) {
        return;
    }
    rule->count--;
    req->ret = rule->error;
    req->extra_latency_ns += rule->extra_latency_ns;
}

static SIM_UNUSED void fail_requests(struct failing *rule, struct disk *disk)
{
    rule->interposer.before = failing_before;
    disk_add_interposer(disk, &rule->interposer);
}

#endif
