/* Protects commits on healthy media: what guest, base and headers hold afterwards, and what the job keeps others
 * from meanwhile (reference/jobs.md 4.9, 6). */
#include "tests/jobs/commit_world.h"

#define DONE "S:created S:running S:waiting S:pending COMPLETED S:concluded S:null"
#define READY_DONE "S:created S:running S:ready READY S:waiting S:pending COMPLETED S:concluded S:null"
#define CANCELLED(before) before " S:aborting CANCELLED S:concluded S:null"

/* --- intermediate ---------------------------------------------------------------------------------------- */

static int64_t last_len, last_offset;

static void note_completed(void *opaque, const struct sim_record *r)
{
    last_len = (int64_t)r->field[2];
    last_offset = (int64_t)r->field[3];
}

/* fact: jobs 6/filter, 6/base-read-write, 6/no-ready, 6/parents, 6/backing-file, 6/backing-format,
 * 1.7/equal-at-end, 1.7/commit-stream */
static void test_layers_go(void **state)
{
    usual_chain();
    sim_subscribe(world, EV_BLOCK_JOB_COMPLETED, note_completed, NULL);
    Job *job = start("top", "base");
    assert_true(block_job_is_commit(job));
    assert_string_equal(bdrv_driver_name(bdrv_cow_bs(act)), "commit_top");
    assert_true(bdrv_is_implicit(bdrv_cow_bs(act)));
    assert_false(bdrv_is_read_only(node("base")));
    settle();
    assert_string_equal(trail, DONE);
    assert_int_equal(last_len, 16 * CHUNK);
    assert_int_equal(last_offset, 16 * CHUNK);
    assert_ptr_equal(bdrv_cow_bs(act), node("base"));
    assert_true(bdrv_is_read_only(node("base")));
    assert_null(bdrv_find_node(host, "mid"));
    assert_null(bdrv_find_node(host, "top"));
    assert_string_equal(bdrv_backing_filename(act), "base");
    assert_string_equal(bdrv_header_backing_format(act), "qcow2");
    assert_guest_content();
    reopen_by_headers();
    assert_clean();
}

/* Only part of the chain: top stays, and its header is rewritten although it is read-only. */
/* fact: jobs 6/overlay-read-only, 6/backing-file */
static void test_lower_part(void **state)
{
    usual_chain();
    start("mid", "base");
    settle();
    assert_string_equal(trail, DONE);
    assert_ptr_equal(bdrv_cow_bs(act), node("top"));
    assert_ptr_equal(bdrv_cow_bs(node("top")), node("base"));
    assert_true(bdrv_is_read_only(node("top")));
    assert_string_equal(bdrv_backing_filename(node("top")), "base");
    assert_string_equal(bdrv_backing_filename(act), "top");
    reopen_by_headers();
    assert_clean();
}

/* fact: jobs 6/backing-file */
static void test_backing_file_verbatim(void **state)
{
    usual_chain();
    args.backing_file = "elsewhere/base";
    start("top", "base");
    settle();
    assert_string_equal(trail, DONE);
    assert_string_equal(bdrv_backing_filename(act), "elsewhere/base");
    assert_guest_content();
    assert_clean();
}

/* [seed 4da8358] Base grows to top's length and no further; what it did not hold reads as before. */
/* fact: jobs 6/grow, seed/4da8358 */
static void test_base_grows(void **state)
{
    images(4, 16, 12, 16);
    layer_fill(LAYER_BASE, 0, 4, 0x10);
    layer_fill(LAYER_MID, 3, 6, 0x20);
    layer_fill(LAYER_MID, 13, 1, 0x21);
    memset(model + 12, 0, 4); /* behind top's end there are zeroes */
    layer_fill(LAYER_TOP, 11, 1, 0x30);
    chain_open();
    start("top", "base");
    settle();
    assert_string_equal(trail, DONE);
    assert_int_equal(bdrv_getlength_cached(node("base")), 12 * CHUNK);
    assert_guest_content();
    reopen_by_headers();
    assert_clean();
}

/* A longer base is not cut, and keeps its tail. */
/* fact: jobs 6/not-shrunk */
static void test_base_not_shrunk(void **state)
{
    images(16, 8, 8, 8);
    layer_fill(LAYER_BASE, 0, 16, 0x10);
    layer_fill(LAYER_TOP, 2, 2, 0x30);
    chain_open();
    start("top", "base");
    settle();
    assert_string_equal(trail, DONE);
    assert_int_equal(bdrv_getlength_cached(node("base")), 16 * CHUNK);
    assert_guest_content();
    memset(model + 8, 0x10, 8);
    BlockBackend *blk = new_blk(node("base"), BLK_PERM_CONSISTENT_READ);
    assert_content(blk, (uint8_t[]){0x10, 0x10, 0x30, 0x30, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10}, 10);
    on_main((void (*)(void *))blk_unref, blk);
    assert_clean();
}

/* What base's own backing file holds behind base's end does not come to light when base grows. */
static void test_growth_hides_backing(void **state)
{
    images(16, 4, 16, 16);
    layer_fill(LAYER_BASE, 0, 16, 0x10);
    memset(model + 4, 0, 12);
    layer_fill(LAYER_TOP, 8, 1, 0x30);
    chain_open();
    assert_guest_content();
    start("top", "mid");
    settle();
    assert_string_equal(trail, DONE);
    assert_int_equal(bdrv_getlength_cached(node("mid")), 16 * CHUNK);
    assert_guest_content();
    reopen_by_headers();
    assert_clean();
}

static void test_empty(void **state)
{
    images(0, 0, 0, 0);
    chain_open();
    start("top", "base");
    settle();
    assert_string_equal(trail, DONE);
    assert_ptr_equal(bdrv_cow_bs(act), node("base"));
    assert_clean();
}

/* The guest writes all the time, everywhere: it sees its own writes, and each chunk is copied once. */
/* fact: jobs 6/guest-writes */
static void test_guest_writes(void **state)
{
    images(32, 32, 32, 32);
    layer_fill(LAYER_BASE, 0, 32, 0x10);
    layer_fill(LAYER_MID, 0, 32, 0x20);
    layer_fill(LAYER_TOP, 8, 16, 0x30);
    chain_open();
    args.speed = 8 * MiB;
    Job *job = start("top", "base");
    for (int i = 0; i < 40 && job_find(host, "c") != NULL; i++) {
        guest_write((i * 13) % 30, 1 + i % 2, 0x80 + i);
        if (job_find(host, "c") != NULL) {
            assert_int_equal(job->progress_current, commit_offset(job));
        }
        run_for(3 * NS_PER_MS);
    }
    settle();
    assert_string_equal(trail, DONE);
    assert_guest_content();
    reopen_by_headers();
    assert_clean();
}

/* Reads through the half-committed chain are right at every moment. */
static void test_reads_meanwhile(void **state)
{
    usual_chain();
    args.speed = 256 * KiB;
    start("top", "base");
    for (int i = 0; i < 12 && job_find(host, "c") != NULL; i++) {
        assert_guest_content();
        run_for(100 * NS_PER_MS);
    }
    settle();
    assert_string_equal(trail, DONE);
    assert_guest_content();
    assert_clean();
}

/* Only what is copied is charged: 16 chunks of 64 KiB hold 5 that are allocated above base. */
/* fact: jobs 6/rate, 6/allocated-only */
static void test_speed(void **state)
{
    usual_chain();
    args.speed = 64 * KiB;
    int64_t begin = sim_now(world);
    start("top", "base");
    settle();
    assert_string_equal(trail, DONE);
    int64_t took = sim_now(world) - begin;
    assert_in_range(took, 4 * NS_PER_S, 6 * NS_PER_S);
    assert_guest_content();
    assert_clean();
}

/* fact: jobs 6/cancel, 1.6/soft-where */
static void test_cancel(void **state)
{
    usual_chain();
    args.speed = 64 * KiB;
    Job *job = start("top", "base");
    run_for(NS_PER_S);
    assert_true(job->progress_current > 0);
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    assert_string_equal(trail, CANCELLED("S:created S:running"));
    assert_chain_kept();
    assert_guest_content();
    reopen_by_headers();
    assert_clean();
}

/* Finished, but not switched: the layers are there until somebody finalises it, and a cancel keeps them. */
/* fact: jobs 6/cancel, 1.6/in-pending */
static void test_cancel_pending(void **state)
{
    usual_chain();
    args.auto_finalize = false;
    Job *job = start("top", "base");
    wait_trail("PENDING");
    settle();
    assert_string_equal(bdrv_driver_name(bdrv_cow_bs(act)), "commit_top");
    assert_guest_content();
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    assert_string_equal(trail, CANCELLED("S:created S:running S:waiting S:pending PENDING"));
    assert_chain_kept();
    assert_guest_content();
    assert_clean();
}

/* --- what others may not do ------------------------------------------------------------------------------ */

/* fact: jobs 6/filter, 6/frozen, 4.1/blocked */
static void test_guarded(void **state)
{
    usual_chain();
    args.filter_node_name = "f";
    args.speed = 1;
    Job *job = start("top", "base");
    BlockDriverState *filter = node("f");
    assert_ptr_equal(commit_filter(job), filter);
    assert_false(bdrv_is_implicit(filter));
    for (BlockDriverState *bs = filter; bs != node("base"); bs = bdrv_filter_or_cow_bs(bs)) {
        assert_true(bdrv_child_frozen(bdrv_filter_or_cow_child(bs)));
    }
    assert_false(bdrv_child_frozen(bdrv_cow_child(act)));
    for (int i = 0; i < LAYERS; i++) {
        Error *err = NULL;
        assert_true(bdrv_op_is_blocked(node(layer_names[i]), BLOCK_OP_COMMIT_TARGET, &err));
        assert_non_null(strstr(error_get_pretty(err), "block device is in use by block job: commit"));
        error_free(err);
    }
    run_for(NS_PER_MS);
    /* Who wants mid's old content comes too late. */
    BlockBackend *blk = blk_new(host, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    Error *err = NULL;
    assert_true(blk_insert_bs(blk, node("mid"), &err) < 0);
    error_free(err);
    on_main((void (*)(void *))blk_unref, blk);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_chain_kept();
    assert_clean();
}

/* Drained by somebody else, the job parks; it goes on where it was. */
static void drain_begin(void *opaque)
{
    bdrv_drained_begin(act);
}

static void drain_end(void *opaque)
{
    bdrv_drained_end(act);
}

/* fact: jobs 1.4/drain */
static void test_drain(void **state)
{
    usual_chain();
    args.speed = 512 * KiB;
    Job *job = start("top", "base");
    run_for(200 * NS_PER_MS);
    on_main(drain_begin, NULL);
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    int64_t offset = commit_offset(job);
    run_for(10 * NS_PER_S);
    assert_int_equal(commit_offset(job), offset);
    on_main(drain_end, NULL);
    settle();
    assert_string_equal(trail, "S:created S:running S:paused S:running S:waiting S:pending COMPLETED S:concluded "
                               "S:null");
    assert_guest_content();
    assert_clean();
}

/* --- active ---------------------------------------------------------------------------------------------- */

/* [seed 20a63d2] [seed 03544a6] The guest ends up on base; what was above it is gone. */
/* fact: jobs 4.9/active, 1.8/ready, seed/20a63d2, seed/03544a6 */
static void test_active(void **state)
{
    usual_chain();
    Job *job = start(NULL, "base");
    assert_true(block_job_is_active_commit(job));
    wait_trail("READY");
    guest_write(2, 3, 0x77);
    guest_write(15, 1, 0x78);
    assert_guest_content();
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_string_equal(trail, READY_DONE);
    assert_ptr_equal(blk_bs(guest), node("base"));
    assert_false(bdrv_is_read_only(node("base")));
    assert_guest_content();
    guest_write(0, 1, 0x79);
    assert_guest_content();
    assert_clean();
}

/* The layers between mean less and less: nobody else may read them, nobody may take them out.
 * fact: jobs 4.9/no-consistent-read, 4.9/frozen, 4.1/blocked; block 1.11/commit-filter */
static void test_active_guarded(void **state)
{
    usual_chain();
    args.speed = 1;
    Job *job = start(NULL, "base");
    run_for(NS_PER_MS);
    BlockBackend *blk = blk_new(host, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    for (int i = LAYER_MID; i < LAYERS; i++) {
        Error *err = NULL;
        assert_true(bdrv_child_frozen(bdrv_cow_child(node(layer_names[i]))));
        assert_true(bdrv_op_is_blocked(node(layer_names[i]), BLOCK_OP_STREAM, &err));
        assert_non_null(strstr(error_get_pretty(err), "block device is in use by block job: commit"));
        error_free(err);
        err = NULL;
        if (i < LAYER_ACT) {
            assert_true(blk_insert_bs(blk, node(layer_names[i]), &err) < 0);
            assert_non_null(strstr(error_get_pretty(err), "consistent read"));
            error_free(err);
        }
    }
    on_main((void (*)(void *))blk_unref, blk);
    uint64_t perm, shared;
    bdrv_child_perms(bdrv_filter_child(blk_bs(guest)), &perm, &shared);
    assert_int_equal(perm & BLK_PERM_CONSISTENT_READ, 0);
    assert_int_equal(shared & BLK_PERM_WRITE, BLK_PERM_WRITE);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_chain_kept();
    assert_clean();
}

/* Steps are of 512 KiB at most, of what is allocated above base alone. What is longer than a cluster is data. */
struct copied {
    struct disk_interposer interposer;
    int64_t most, bytes;
};

static void count_copied(struct disk_interposer *self, struct disk_req *req)
{
    struct copied *copied = container_of(self, struct copied, interposer);

    if (req->op == SIM_OP_READ && req->bytes > CHUNK) {
        copied->most = MAX(copied->most, (int64_t)req->bytes);
        copied->bytes += (int64_t)req->bytes;
    }
}

/* fact: jobs 6/chunk, 6/allocated-only */
static void test_steps(void **state)
{
    struct copied top = {.interposer = {.before = count_copied}}, base = top;

    images(32, 32, 32, 32);
    layer_fill(LAYER_BASE, 0, 32, 0x10);
    layer_fill(LAYER_TOP, 4, 24, 0x30);
    chain_open();
    start("top", "base");
    disk_add_interposer(disk_of("top"), &top.interposer);
    disk_add_interposer(disk_of("base"), &base.interposer);
    settle();
    assert_string_equal(trail, DONE);
    assert_int_equal(top.most, 512 * KiB);
    assert_int_equal(top.bytes, 24 * CHUNK);
    assert_int_equal(base.bytes, 0);
    disk_remove_interposer(disk_of("top"), &top.interposer);
    disk_remove_interposer(disk_of("base"), &base.interposer);
    assert_guest_content();
    assert_clean();
}

/* fact: jobs 4.9/active */
static void test_active_into_mid(void **state)
{
    usual_chain();
    Job *job = start(NULL, "mid");
    wait_trail("READY");
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_string_equal(trail, READY_DONE);
    assert_ptr_equal(blk_bs(guest), node("mid"));
    assert_guest_content();
    assert_clean();
}

/* A soft cancel leaves the chain; base holds the data all the same, and may not be written any more. */
/* fact: jobs 4.9/soft-cancel, 4.9/read-write */
static void test_active_soft_cancel(void **state)
{
    usual_chain();
    Job *job = start(NULL, "base");
    wait_trail("READY");
    guest_write(2, 3, 0x77);
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    assert_string_equal(trail, READY_DONE);
    assert_chain_kept();
    assert_guest_content();
    BlockBackend *blk = new_blk(node("base"), BLK_PERM_CONSISTENT_READ);
    assert_content(blk, model, chunks);
    on_main((void (*)(void *))blk_unref, blk);
    reopen_by_headers();
    assert_clean();
}

/* fact: jobs 4.9/read-write */
static void test_active_force_cancel(void **state)
{
    usual_chain();
    args.speed = 1;
    Job *job = start(NULL, "base");
    run_for(NS_PER_S);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_string_equal(trail, CANCELLED("S:created S:running"));
    assert_chain_kept();
    assert_guest_content();
    assert_clean();
}

/* C01 [seed 4da8358] */
/* fact: jobs 4.9/grow, edge/40, seed/4da8358 */
static void test_active_grows(void **state)
{
    images(1, 4, 4, 4);
    layer_fill(LAYER_BASE, 0, 1, 0x10);
    layer_fill(LAYER_ACT, 2, 1, 0x40);
    chain_open();
    Job *job = start(NULL, "base");
    wait_trail("READY");
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_string_equal(trail, READY_DONE);
    assert_int_equal(bdrv_getlength_cached(node("base")), 4 * CHUNK);
    assert_guest_content();
    assert_clean();
}

/* fact: jobs 4.9/not-shrunk, edge/40 */
static void test_active_not_shrunk(void **state)
{
    images(8, 4, 4, 4);
    layer_fill(LAYER_BASE, 0, 8, 0x10);
    layer_fill(LAYER_ACT, 2, 1, 0x40);
    chain_open();
    Job *job = start(NULL, "base");
    wait_trail("READY");
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_string_equal(trail, READY_DONE);
    assert_int_equal(bdrv_getlength_cached(node("base")), 8 * CHUNK);
    assert_content(guest, (uint8_t[]){0x10, 0x10, 0x40, 0x10, 0x10, 0x10, 0x10, 0x10}, 8);
    assert_clean();
}

/* [seed 9e48b02] */
/* fact: jobs edge/12, seed/9e48b02 */
static void test_active_empty(void **state)
{
    images(0, 0, 0, 0);
    chain_open();
    Job *job = start(NULL, "base");
    wait_trail("READY");
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_string_equal(trail, READY_DONE);
    assert_ptr_equal(blk_bs(guest), node("base"));
    assert_clean();
}

static void test_active_guest_writes(void **state)
{
    images(32, 32, 32, 32);
    layer_fill(LAYER_BASE, 0, 32, 0x10);
    layer_fill(LAYER_TOP, 8, 16, 0x30);
    chain_open();
    args.speed = 8 * MiB;
    Job *job = start(NULL, "base");
    for (int i = 0; i < 40; i++) {
        guest_write((i * 13) % 30, 1 + i % 2, 0x80 + i);
        run_for(3 * NS_PER_MS);
    }
    wait_trail("READY");
    assert_guest_content();
    assert_string_equal(verb(job, job_complete), "");
    for (int i = 0; i < 20; i++) {
        guest_write((i * 7) % 32, 1, 0xc0 + i);
    }
    settle();
    assert_string_equal(trail, READY_DONE);
    assert_ptr_equal(blk_bs(guest), node("base"));
    assert_guest_content();
    assert_clean();
}

#define TEST(name, fn) \
    { \
        name, fn, world_setup, world_teardown, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("/commit/layers-go", test_layers_go),
        TEST("/commit/lower-part", test_lower_part),
        TEST("/commit/backing-file-verbatim", test_backing_file_verbatim),
        TEST("/commit/seed/4da8358/base-grows", test_base_grows),
        TEST("/commit/base-not-shrunk", test_base_not_shrunk),
        TEST("/commit/growth-hides-backing", test_growth_hides_backing),
        TEST("/commit/empty", test_empty),
        TEST("/commit/guest-writes", test_guest_writes),
        TEST("/commit/reads-meanwhile", test_reads_meanwhile),
        TEST("/commit/speed", test_speed),
        TEST("/commit/cancel", test_cancel),
        TEST("/commit/cancel-pending", test_cancel_pending),
        TEST("/commit/guarded", test_guarded),
        TEST("/commit/drain", test_drain),
        TEST("/commit/steps", test_steps),
        TEST("/commit/active/seed/20a63d2/03544a6/guest-on-base", test_active),
        TEST("/commit/active/guarded", test_active_guarded),
        TEST("/commit/active/into-mid", test_active_into_mid),
        TEST("/commit/active/soft-cancel", test_active_soft_cancel),
        TEST("/commit/active/force-cancel", test_active_force_cancel),
        TEST("/commit/active/seed/4da8358/grows", test_active_grows),
        TEST("/commit/active/not-shrunk", test_active_not_shrunk),
        TEST("/commit/active/seed/9e48b02/empty", test_active_empty),
        TEST("/commit/active/guest-writes", test_active_guest_writes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
