/* Protects commits against failing media and refused starts: error policies, retries, headers that cannot be
 * written, and what a refusal leaves behind (reference/jobs.md 2, 4.9, 6). */
#include "tests/jobs/commit_world.h"

#define DONE_AFTER(errors) "S:created S:running " errors "S:waiting S:pending COMPLETED S:concluded S:null"
#define FAILED_AFTER(errors) \
    "S:created S:running " errors "S:aborting COMPLETED(Input/output error) S:concluded S:null"

/* --- policies -------------------------------------------------------------------------------------------- */

/* fact: jobs 2/commit-operation */
static void test_report_write(void **state)
{
    usual_chain();
    fail_requests("base", SIM_OP_WRITE, 0, 1);
    start("top", "base");
    settle();
    assert_string_equal(trail, FAILED_AFTER("ERROR(write,report) "));
    assert_chain_kept();
    assert_guest_content();
    reopen_by_headers();
    assert_clean();
}

/* fact: jobs 2/commit-operation */
static void test_report_read(void **state)
{
    usual_chain();
    Job *job = start("top", "base");
    assert_non_null(job);
    fail_requests("mid", SIM_OP_READ, 0, 1);
    settle();
    assert_string_equal(trail, FAILED_AFTER("ERROR(read,report) "));
    assert_chain_kept();
    assert_guest_content();
    assert_clean();
}

/* Growing base is no operation of a policy's: it is tried once, and its failure is the job's. */
static void test_growth_fails(void **state)
{
    images(4, 16, 12, 16);
    layer_fill(LAYER_MID, 3, 6, 0x20);
    memset(model + 12, 0, 4);
    chain_open();
    args.on_error = BLOCKDEV_ON_ERROR_IGNORE;
    fail_requests("base", SIM_OP_WRITE, 0, 1);
    start("top", "base");
    settle();
    assert_non_null(strstr(trail, "S:created S:running S:aborting COMPLETED(Failed to "));
    assert_int_equal(bdrv_getlength_cached(node("base")), 4 * CHUNK);
    assert_chain_kept();
    assert_guest_content();
    reopen_by_headers();
    assert_clean();
}

/* The same chunk again at once: nothing is left out. */
/* fact: jobs 2/commit-ignore, edge/41 */
static void test_ignore(void **state)
{
    usual_chain();
    args.on_error = BLOCKDEV_ON_ERROR_IGNORE;
    fail_requests("base", SIM_OP_WRITE, 0, 2);
    start("top", "base");
    settle();
    assert_string_equal(trail, DONE_AFTER("ERROR(write,ignore) ERROR(write,ignore) "));
    assert_guest_content();
    reopen_by_headers();
    assert_clean();
}

/* fact: jobs 2/commit-stop, 1.7/failed-ops, 1.8/stop */
static void test_stop_and_resume(void **state)
{
    usual_chain();
    args.on_error = BLOCKDEV_ON_ERROR_STOP;
    fail_requests("base", SIM_OP_WRITE, 0, 1);
    Job *job = start("top", "base");
    settle();
    assert_string_equal(trail, "S:created S:running ERROR(write,stop) S:paused");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_FAILED);
    int64_t offset = commit_offset(job);
    assert_true(offset < 16 * CHUNK);
    assert_int_equal(job->progress_current, offset); /* a failure adds nothing */
    assert_string_equal(verb(job, job_user_resume), "");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_OK);
    settle();
    assert_string_equal(trail, DONE_AFTER("ERROR(write,stop) S:paused S:running "));
    assert_guest_content();
    reopen_by_headers();
    assert_clean();
}

/* C06: a lack of space stops under enospc, and is not ignored. */
/* fact: jobs 2/enospc */
static void test_enospc(void **state)
{
    usual_chain();
    args.on_error = BLOCKDEV_ON_ERROR_ENOSPC;
    disk_set_capacity(disk_of("base"), disk_length(disk_of("base")));
    Job *job = start("top", "base");
    settle();
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_NOSPACE);
    assert_guest_content();
    disk_set_capacity(disk_of("base"), 0);
    assert_string_equal(verb(job, job_user_resume), "");
    settle();
    assert_string_equal(trail, DONE_AFTER("ERROR(write,stop) S:paused S:running "));
    assert_guest_content();
    reopen_by_headers();
    assert_clean();
}

/* fact: jobs 1.6/lifts-pause */
static void test_cancel_while_stopped(void **state)
{
    usual_chain();
    args.on_error = BLOCKDEV_ON_ERROR_STOP;
    fail_requests("base", SIM_OP_WRITE, 0, 1);
    Job *job = start("top", "base");
    settle();
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_string_equal(trail, "S:created S:running ERROR(write,stop) S:paused S:running S:aborting CANCELLED "
                               "S:concluded S:null");
    assert_chain_kept();
    assert_guest_content();
    assert_clean();
}

/* --- the end --------------------------------------------------------------------------------------------- */

/* Until base is stable no header names it. */
/* fact: jobs 6/flush-first */
static void test_flush_fails(void **state)
{
    usual_chain();
    args.on_error = BLOCKDEV_ON_ERROR_REPORT;
    fail_requests("base", SIM_OP_FLUSH, 0, 1);
    start("top", "base");
    settle();
    assert_string_equal(trail, FAILED_AFTER("ERROR(write,report) "));
    assert_chain_kept();
    assert_guest_content();
    assert_clean();
}

/* The header of act says what it said, the graph is what was wanted: the job failed, and nobody sees other data. */
/* fact: jobs 6/header-fails */
static void test_header_fails(void **state)
{
    usual_chain();
    args.auto_finalize = false;
    Job *job = start("top", "base");
    wait_trail("PENDING");
    fail_requests("act", SIM_OP_WRITE, 0, 1);
    verb(job, job_finalize);
    settle();
    assert_string_equal(trail, "S:created S:running S:waiting S:pending PENDING S:aborting "
                               "COMPLETED(Input/output error) S:concluded S:null");
    assert_ptr_equal(bdrv_cow_bs(act), node("base"));
    assert_true(bdrv_is_read_only(node("base")));
    assert_string_equal(bdrv_backing_filename(act), "top");
    assert_guest_content();
    reopen_by_headers(); /* top's image is still what it was */
    assert_clean();
}

/* Order of what reaches the media: 'w' and 'f' for base, 'H' for a write of act. Power lost between the header and
 * the last write to base would take what had been stable before the commit. */
struct watch {
    struct disk_interposer interposer;
    char word[3]; /* for writes and flushes */
};
static char order[4096];

static void watch_before(struct disk_interposer *self, struct disk_req *req)
{
    const struct watch *watch = container_of(self, struct watch, interposer);
    size_t length = strlen(order);

    if (length + 2 < sizeof(order) && (req->op == SIM_OP_WRITE || req->op == SIM_OP_FLUSH)) {
        order[length] = watch->word[req->op == SIM_OP_FLUSH];
        order[length + 1] = '\0';
    }
}

/* fact: jobs 6/flush-first */
static void test_flushed_before_header(void **state)
{
    static struct watch base = {.interposer = {.before = watch_before}, .word = "wf"};
    static struct watch top = {.interposer = {.before = watch_before}, .word = "H."};

    usual_chain();
    order[0] = '\0';
    args.auto_finalize = false;
    Job *job = start("top", "base");
    disk_add_interposer(disk_of("base"), &base.interposer);
    disk_add_interposer(disk_of("act"), &top.interposer);
    wait_trail("PENDING");
    assert_non_null(strchr(order, 'w'));
    assert_null(strchr(order, 'H'));
    assert_true(strrchr(order, 'f') > strrchr(order, 'w'));
    verb(job, job_finalize);
    settle();
    assert_non_null(strchr(order, 'H'));
    assert_guest_content();
    assert_clean();
}

/* --- refused starts -------------------------------------------------------------------------------------- */

static void refused(const char *top, const char *base, const char *text)
{
    uint64_t before;

    try_start(top, base); /* a node that was reopened keeps the options of that */
    settle();
    before = sim_arena_live_bytes(host->arena);
    try_start(top, base);
    assert_true(start_ret < 0);
    assert_string_equal(start_error, text);
    settle();
    assert_int_equal(sim_arena_live_bytes(host->arena), before);
    assert_chain_kept();
    assert_no_job_left();
}

/* fact: jobs 3/negative, 4.9/read-write */
static void test_refused(void **state)
{
    usual_chain();
    args.speed = -1;
    refused("top", "base", "Parameter 'speed' expects a non-negative value");
    refused(NULL, "base", "Parameter 'speed' expects a non-negative value");
    args.speed = 0;
    args.filter_node_name = "mid";
    refused("top", "base", "Duplicate nodes with node-name='mid'");
    refused(NULL, "base", "Duplicate nodes with node-name='mid'");
    args.filter_node_name = NULL;
    args.job_id = "1";
    refused("top", "base", "Invalid job ID '1'");
    refused(NULL, "base", "Invalid job ID '1'");
    args.job_id = "c";
    /* Somebody reads what is about to mean nothing. */
    BlockBackend *blk = new_blk(node("mid"), BLK_PERM_CONSISTENT_READ);
    try_start("top", "base");
    assert_true(start_ret < 0);
    assert_non_null(strstr(start_error, "consistent read"));
    assert_chain_kept();
    try_start(NULL, "base");
    assert_true(start_ret < 0);
    assert_chain_kept();
    on_main((void (*)(void *))blk_unref, blk);
    assert_guest_content();
    assert_clean();
}

/* C02: refused late, with base writable already. */
static void freeze(void *opaque)
{
    assert_int_equal(bdrv_freeze_chain(node("mid"), node("base"), NULL), 0);
}

static void thaw(void *opaque)
{
    bdrv_unfreeze_chain(node("mid"), node("base"));
}

/* fact: jobs 6/base-read-write, 4.9/read-write */
static void test_refused_late(void **state)
{
    usual_chain();
    on_main(freeze, NULL);
    refused("top", "base", "Cannot change frozen 'backing' link to 'base'");
    refused(NULL, "base", "Cannot change frozen 'backing' link to 'base'");
    on_main(thaw, NULL);
    assert_guest_content();
    assert_clean();
}

/* --- active ---------------------------------------------------------------------------------------------- */

static void test_active_report(void **state)
{
    usual_chain();
    fail_requests("base", SIM_OP_WRITE, 0, 1);
    start(NULL, "base");
    settle();
    assert_string_equal(trail, FAILED_AFTER("ERROR(write,report) "));
    assert_chain_kept();
    assert_guest_content();
    assert_clean();
}

/* One policy for both sides. */
static void active_stop(const char *disk, enum sim_op op, const char *error)
{
    char expected[160];

    usual_chain();
    args.on_error = BLOCKDEV_ON_ERROR_STOP;
    Job *job = start(NULL, "base");
    wait_trail("READY");
    guest_write(0, 1, 0x66);
    fail_requests(disk, op, 0, 1);
    wait_trail("S:standby");
    snprintf(expected, sizeof(expected), "S:created S:running S:ready READY %s S:standby", error);
    assert_string_equal(trail, expected);
    assert_string_equal(verb(job, job_user_resume), "");
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_ptr_equal(blk_bs(guest), node("base"));
    assert_guest_content();
    assert_clean();
}

/* fact: jobs 4.9/policies */
static void test_active_stop_read(void **state)
{
    active_stop("act", SIM_OP_READ, "ERROR(read,stop)");
}

/* fact: jobs 4.9/policies */
static void test_active_stop_write(void **state)
{
    active_stop("base", SIM_OP_WRITE, "ERROR(write,stop)");
}

static void test_active_ignore(void **state)
{
    usual_chain();
    args.on_error = BLOCKDEV_ON_ERROR_IGNORE;
    fail_requests("base", SIM_OP_WRITE, 0, 2);
    Job *job = start(NULL, "base");
    wait_trail("READY");
    assert_non_null(strstr(trail, "ERROR(write,ignore)"));
    assert_string_equal(verb(job, job_complete), "");
    settle();
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
        TEST("/commit/report-write", test_report_write),
        TEST("/commit/report-read", test_report_read),
        TEST("/commit/growth-fails-once", test_growth_fails),
        TEST("/commit/ignore", test_ignore),
        TEST("/commit/stop-and-resume", test_stop_and_resume),
        TEST("/commit/enospc", test_enospc),
        TEST("/commit/cancel-while-stopped", test_cancel_while_stopped),
        TEST("/commit/flush-fails", test_flush_fails),
        TEST("/commit/header-fails", test_header_fails),
        TEST("/commit/flushed-before-header", test_flushed_before_header),
        TEST("/commit/refused", test_refused),
        TEST("/commit/refused-late", test_refused_late),
        TEST("/commit/active/report", test_active_report),
        TEST("/commit/active/stop-read", test_active_stop_read),
        TEST("/commit/active/stop-write", test_active_stop_write),
        TEST("/commit/active/ignore", test_active_ignore),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
