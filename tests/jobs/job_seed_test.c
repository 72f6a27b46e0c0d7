/* Protects facts of the seed history that are about how the code is built, by what one can see of them: shared
 * descriptors, memory, where headers lie, when the base is known (reference/jobs.md, appendix A). */

/* [seed 737e150] The block layer's headers have a folder of their own, and each can be included first. */
#if __has_include("block/block.h") && __has_include("block/block_int.h") && __has_include( \
                                                                                "block/dirty-bitmap.h") && \
                                                                                __has_include("block/backend.h")
#define HEADERS_ARE_UNDER_BLOCK 1
#else
#define HEADERS_ARE_UNDER_BLOCK 0
#endif
#if __has_include("block.h") || __has_include("block_int.h") || __has_include("dirty-bitmap.h")
#define HEADERS_ARE_ELSEWHERE 1
#else
#define HEADERS_ARE_ELSEWHERE 0
#endif

#include "block/block.h"
#include "tests/jobs/mirror_world.h"

/* fact: jobs seed/737e150 */
static void test_headers(void **state)
{
    assert_true(HEADERS_ARE_UNDER_BLOCK);
    assert_false(HEADERS_ARE_ELSEWHERE);
}

/* --- descriptors ----------------------------------------------------------------------------------------- */

/* Another pair of nodes, for a second job beside the first. */
static Job *start_second(void)
{
    BlockDriverState *first_src = src, *first_dst = dst;

    new_disk("src2", MiB, 0);
    new_disk("dst2", MiB, 0);
    src = add_raw("s2", "src2", false);
    dst = add_raw("d2", "dst2", false);
    args.job_id = "m2";
    args.speed = 1;
    Job *job = start();
    src = first_src;
    dst = first_dst;
    return job;
}

/* What describes a type belongs to the type: jobs share it, and nothing that one of them does is written there.
 * fact: jobs seed/f59fee8 */
static void test_descriptors(void **state)
{
    BlockJobDriver before;

    mirror_world(MiB, MiB, 0);
    stamp_source(MiB);
    args.speed = 1;
    Job *one = start();
    const BlockJobDriver *driver = block_job_driver(block_job_of(one));
    before = *driver;
    Job *two = start_second();
    assert_ptr_not_equal(one, two);
    assert_ptr_equal(one->driver, two->driver);
    assert_ptr_equal(block_job_driver(block_job_of(two)), driver);
    assert_string_equal(verb(two, job_user_pause), "");
    assert_string_equal(verb(one, verb_cancel_force), "");
    run_for(NS_PER_S);
    assert_memory_equal(driver, &before, sizeof(before));
    assert_int_equal(two->status, JOB_STATUS_PAUSED); /* the other one's business */
    assert_string_equal(verb(two, verb_cancel_force), "");
    settle();
    assert_memory_equal(driver, &before, sizeof(before));
    del_node("s2");
    del_node("d2");
    assert_clean(src);
}

/* --- memory ---------------------------------------------------------------------------------------------- */

/* Ends the job, or lets it end, when the trail has this word and some time has passed. */
static void end_after(const char *word, int64_t more_ns, void (*end)(Job *job, Error **errp))
{
    uint64_t before = sim_arena_live_bytes(host->arena);

    trail[0] = '\0';
    Job *job = start();
    wait_trail(word);
    run_for(more_ns);
    if (end != NULL) {
        assert_string_equal(verb(job, end), "");
    }
    settle();
    assert_int_equal(sim_arena_live_bytes(host->arena), before);
}

/* Whatever was taken for the copy is given back in the way it was taken, however the job ends.
 * fact: jobs seed/7191bf3, 4.3/free-list */
static void test_memory(void **state)
{
    struct failing rule = {.op = SIM_OP_WRITE, .offset = -1, .error = -EIO};

    mirror_world(4 * MiB, 4 * MiB, 0);
    stamp_source(4 * MiB);
    fail_requests(&rule, dst_disk);
    args.buf_size = MiB;
    end_after("READY", 0, verb_cancel_soft);
    assert_same_disks(4 * MiB);
    end_after("READY", 0, verb_cancel_force);
    end_after("S:running", 60 * NS_PER_US, verb_cancel_force); /* with operations in flight */
    rule.count = 1;
    end_after("ERROR", 0, NULL);
    assert_non_null(strstr(trail, "COMPLETED(Input/output error)"));
    assert_clean(src);
}

#define SEED_TEST(path, fn) T_SETUP(path, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SEED_TEST("/job/seed/737e150/headers-under-block", test_headers),
        SEED_TEST("/job/seed/f59fee8/descriptors-are-shared", test_descriptors),
        SEED_TEST("/job/seed/7191bf3/memory-comes-back", test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
