/* Protects which layers of a chain a mirror copies: the base of the scan is known before the run (reference/jobs.md
 * 4.2, 4.3). */
#include "tests/jobs/commit_world.h"

#include "jobs/mirror.h"

static BlockDriverState *target;
static enum mirror_sync sync_mode;

static void start_mirror(void *opaque)
{
    struct mirror_args mirror = {
        .job_id = "m",
        .sync = sync_mode,
        .granularity = CHUNK,
        .unmap = true,
        .auto_finalize = true,
        .auto_dismiss = true,
    };
    Error *err = NULL;

    if (mirror_start(act, target, &mirror, &err) < 0) {
        fail_msg("%s", error_get_pretty(err));
    }
}

/* Mirrors act, and compares the target: what may be there, chunk by chunk. */
static void mirror_gives(enum mirror_sync sync, const uint8_t *expected)
{
    const char *name = sync == MIRROR_SYNC_TOP ? "of-top" : "of-all";
    struct payload got, want;

    sync_mode = sync;
    trail[0] = '\0';
    struct disk *disk = new_disk(name, chunks * CHUNK, 0);
    target = add_raw("t", name, false);
    on_main(start_mirror, NULL);
    wait_trail("READY");
    assert_string_equal(verb(job_find(host, "m"), verb_cancel_soft), "");
    settle();
    payload_init(world, &got);
    disk_peek(disk, 0, chunks * CHUNK, &got);
    for (int i = 0; i < chunks; i++) {
        payload_init(world, &want);
        payload_append_fill(&want, expected[i], CHUNK);
        if (!payload_equal(&got, i * CHUNK, &want, 0, CHUNK)) {
            fail_msg("chunk %d is not %d", i, expected[i]);
        }
        payload_clear(&want);
    }
    payload_clear(&got);
    del_node("t");
}

/* full: all layers. top: the source alone, down to just above its backing file.
 * fact: jobs 4.3/scan, seed/5bc361b */
static void test_base(void **state)
{
    uint8_t top_only[16] = {0};

    usual_chain();
    top_only[7] = 0x40;
    mirror_gives(MIRROR_SYNC_TOP, top_only);
    mirror_gives(MIRROR_SYNC_FULL, model);
    assert_guest_content();
    assert_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/mirror/seed/5bc361b/base-of-the-scan", test_base, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
