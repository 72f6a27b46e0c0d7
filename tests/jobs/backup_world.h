/*
 * What the backup's tests share: source and target over disks (raw unless a test makes others), a guest's backend
 * on the source, what the guest must read now and what the source held when the backup began, sector by sector, and
 * steering of one backup.
 */
#ifndef TESTS_JOBS_BACKUP_WORLD_H
#define TESTS_JOBS_BACKUP_WORLD_H

#include "tests/jobs/job_world.h"

#include <errno.h>

#include "jobs/backup_int.h"

#define CLUSTER (64 * KiB)
#define MAX_SECTORS 8192
#define CLUSTER_SECTORS (CLUSTER / SIM_SECTOR_BYTES)

static struct disk *src_disk, *dst_disk;
static BlockDriverState *src, *dst;
static BlockBackend *guest;
static struct backup_args args;
static char error_text[256];
static uint8_t now[MAX_SECTORS];    /* fill of each sector of the source */
static uint8_t before[MAX_SECTORS]; /* the same when the backup began */
static uint8_t kept[MAX_SECTORS];   /* the target at that time */
static int64_t disk_bytes;

/* --- the guest ------------------------------------------------------------------------------------------- */

struct io {
    int64_t offset;
    int64_t bytes;
    int fill; /* -1: discard, -2: zero write */
    int ret;
    bool done;
};

static void io_entry(void *opaque)
{
    struct io *io = opaque;
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
    if (io->ret == 0) {
        memset(now + io->offset / SIM_SECTOR_BYTES, MAX(io->fill, 0), (size_t)(io->bytes / SIM_SECTOR_BYTES));
    }
    io->done = true;
}

static bool io_done(void *opaque)
{
    return ((struct io *)opaque)->done;
}

/* io lives until done. */
static void io_submit(struct io *io)
{
    coroutine_start(coroutine_create(world, host, "guest", io_entry, io));
}

static int guest_try(int64_t offset, int64_t bytes, int fill)
{
    struct io io = {.offset = offset, .bytes = bytes, .fill = fill};

    io_submit(&io);
    assert_int_equal(sim_run_idle(world, io_done, &io, sim_now(world) + 1000 * NS_PER_S), SIM_STOP_COND);
    return io.ret;
}

static SIM_UNUSED void guest_write(int64_t offset, int64_t bytes, int fill)
{
    assert_int_equal(guest_try(offset, bytes, fill), 0);
}

/* --- source and target ----------------------------------------------------------------------------------- */

static void guest_entry(void *opaque)
{
    guest = blk_new(host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                    BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    assert_true(blk_set_name(guest, "g", NULL));
    assert_int_equal(blk_insert_bs(guest, src, NULL), 0);
}

static void default_args(void)
{
    args = (struct backup_args){
        .job_id = "b",
        .sync = MIRROR_SYNC_FULL,
        .perf = {.max_workers = BLOCK_COPY_MAX_WORKERS},
    };
}

static void fill_disk(struct disk *disk, uint8_t *model, int first)
{
    struct payload data;

    payload_init(world, &data);
    for (int64_t i = 0; i < disk_bytes / SIM_SECTOR_BYTES; i++) {
        model[i] = (uint8_t)(first + i / CLUSTER_SECTORS);
        payload_append_fill(&data, model[i], SIM_SECTOR_BYTES);
    }
    disk_poke(disk, 0, &data);
    payload_clear(&data);
}

/* Each cluster of the source holds its number and 1, of the target its number and 101. */
static SIM_UNUSED void backup_world(int64_t bytes)
{
    SIM_ASSERT(bytes <= MAX_SECTORS * SIM_SECTOR_BYTES);
    disk_bytes = bytes;
    src_disk = new_disk("s", bytes, 0);
    dst_disk = new_disk("d", bytes, 0);
    fill_disk(src_disk, now, 1);
    fill_disk(dst_disk, kept, 101);
    src = add_raw("s", "s", false);
    dst = add_raw("d", "d", false);
    on_main(guest_entry, NULL);
    default_args();
}

static void read_disk(struct disk *disk, uint8_t *bytes)
{
    struct payload data;

    payload_init(world, &data);
    disk_peek(disk, 0, disk_bytes, &data);
    payload_read_bytes(&data, 0, bytes, (size_t)disk_bytes);
    payload_clear(&data);
}

static void assert_disk(struct disk *disk, const uint8_t *model)
{
    uint8_t *bytes = calloc(1, (size_t)disk_bytes + 1);

    read_disk(disk, bytes);
    for (int64_t i = 0; i < disk_bytes; i++) {
        if (bytes[i] != model[i / SIM_SECTOR_BYTES]) {
            fail_msg("byte %lld of %s is %u, not %u", (long long)i, disk_name(disk)->str, bytes[i],
                     model[i / SIM_SECTOR_BYTES]);
        }
    }
    free(bytes);
}

static SIM_UNUSED void assert_source(void)
{
    assert_disk(src_disk, now);
}

/* The clusters of the mask are as the source was, the others as the target was. */
static SIM_UNUSED void assert_target(uint64_t mask)
{
    uint8_t model[MAX_SECTORS];

    for (int64_t i = 0; i < disk_bytes / SIM_SECTOR_BYTES; i++) {
        model[i] = (mask >> (i / CLUSTER_SECTORS)) & 1 ? before[i] : kept[i];
    }
    assert_disk(dst_disk, model);
}

#define ALL (~(uint64_t)0)

/* --- the job --------------------------------------------------------------------------------------------- */

static bool has_parked(void *opaque)
{
    const Job *job = opaque;

    return job_is_paused(job) || job_is_completed(job);
}

/* As the command does. */
static void start_entry(void *opaque)
{
    Error *err = NULL;

    bdrv_drained_begin(src);
    memcpy(before, now, sizeof(before));
    BlockJob *job = backup_job_create(src, dst, &args, &err);
    if (job != NULL) {
        job_start(&job->job);
        host_poll(host, has_parked, &job->job);
    }
    bdrv_drained_end(src);
    assert_int_equal(job == NULL, err != NULL);
    snprintf(error_text, sizeof(error_text), "%s", err != NULL ? error_get_pretty(err) : "");
    error_free(err);
}

static SIM_UNUSED const char *try_start(void)
{
    on_main(start_entry, NULL);
    return error_text;
}

static SIM_UNUSED Job *start(void)
{
    assert_string_equal(try_start(), "");
    return job_find(host, args.job_id != NULL ? args.job_id : "g");
}

#define BEGIN "S:created S:running S:paused S:running"
#define DONE "S:waiting S:pending COMPLETED S:concluded S:null"
#define KILLED "S:aborting CANCELLED S:concluded S:null"

static SIM_UNUSED void expect_trail(const char *text)
{
    assert_string_equal(trail, text);
    trail[0] = '\0';
}

static bool trail_has(void *opaque)
{
    return strstr(trail, opaque) != NULL;
}

static SIM_UNUSED void wait_trail(const char *word)
{
    if (sim_run_idle(world, trail_has, (void *)(uintptr_t)word, sim_now(world) + 1000 * NS_PER_S) !=
        SIM_STOP_COND) {
        fail_msg("no %s in: %s", word, trail);
    }
}

/* --- bitmaps --------------------------------------------------------------------------------------------- */

struct add_bitmap {
    const char *name;
    uint32_t granularity;
    BdrvDirtyBitmap *bitmap;
};

static int add_bitmap_co(void *opaque)
{
    struct add_bitmap *add = opaque;

    add->bitmap = bdrv_create_dirty_bitmap(src, add->granularity, add->name, NULL);
    return 0;
}

static void add_bitmap_entry(void *opaque)
{
    bdrv_run_co(host, "bitmap", add_bitmap_co, opaque);
}

static SIM_UNUSED BdrvDirtyBitmap *add_bitmap(const char *name, uint32_t granularity)
{
    struct add_bitmap add = {.name = name, .granularity = granularity};

    on_main(add_bitmap_entry, &add);
    assert_non_null(add.bitmap);
    return add.bitmap;
}

/* Dirty clusters as a mask. */
static SIM_UNUSED uint64_t dirty(const char *name)
{
    const BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(src, name);
    uint64_t mask = 0;

    assert_non_null(bitmap);
    for (int64_t i = 0; i * CLUSTER < disk_bytes; i++) {
        int64_t bytes = MIN(CLUSTER, disk_bytes - i * CLUSTER);
        mask |= (uint64_t)(bdrv_dirty_bitmap_next_dirty(bitmap, i * CLUSTER, bytes) >= 0) << i;
    }
    return mask;
}

/* --- the end --------------------------------------------------------------------------------------------- */

static void finish_entry(void *opaque)
{
    BdrvDirtyBitmap *bitmap;

    blk_unref(guest);
    while ((bitmap = bdrv_dirty_bitmap_next(src, NULL)) != NULL) {
        bdrv_release_dirty_bitmap(bitmap);
    }
}

/* The job is gone without a trace; then the graph goes, too. */
static SIM_UNUSED void assert_clean(void)
{
    assert_ptr_equal(blk_bs(guest), src);
    assert_int_equal(bdrv_quiesce_counter(src) + bdrv_quiesce_counter(dst), 0);
    assert_int_equal(bdrv_op_blockers(src) + bdrv_op_blockers(dst), 0);
    assert_source();
    on_main(finish_entry, NULL);
    assert_no_job_left();
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_backup_job), 0);
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

/* --- media ----------------------------------------------------------------------------------------------- */

struct failing {
    struct disk_interposer interposer;
    enum sim_op op;
    int64_t from, to; /* requests that begin in here */
    int error;        /* 0: they only take longer */
    int count;        /* requests still to fail */
    int seen;
    int64_t extra_latency_ns;
};

static void failing_before(struct disk_interposer *self, struct disk_req *req)
{
    struct failing *rule = container_of(self, struct failing, interposer);

    if (req->op != rule->op || req->offset < rule->from || req->offset >= rule->to || rule->count <= 0) {
        return;
    }
    rule->count--;
    rule->seen++;
    req->ret = rule->error;
    req->extra_latency_ns += rule->extra_latency_ns;
}

static SIM_UNUSED void fail_requests(struct failing *rule, struct disk *disk)
{
    rule->interposer.before = failing_before;
    disk_add_interposer(disk, &rule->interposer);
}

/* Counts the bytes that each cluster of a medium is written with. */
struct writes {
    struct disk_interposer interposer;
    int64_t bytes[MAX_SECTORS / CLUSTER_SECTORS];
    int requests;
};

static void writes_before(struct disk_interposer *self, struct disk_req *req)
{
    struct writes *writes = container_of(self, struct writes, interposer);

    if (req->op != SIM_OP_WRITE) {
        return;
    }
    writes->requests++;
    for (int64_t at = req->offset; at < req->offset + req->bytes; at += SIM_SECTOR_BYTES) {
        writes->bytes[at / CLUSTER] += SIM_SECTOR_BYTES;
    }
}

static SIM_UNUSED void count_writes(struct writes *writes, struct disk *disk)
{
    writes->interposer.before = writes_before;
    disk_add_interposer(disk, &writes->interposer);
}

#endif
