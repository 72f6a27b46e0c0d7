/* Protects check/successor_backup: a backup's bitmap comes to the end that its bitmap-mode and its outcome say. */
#include "tests/check/check_world.h"

#include "jobs/backup_int.h"

struct row {
    const char *mode;
    bool success;
};

static const struct row rows[] = {
    {"on-success", true}, {"on-success", false}, {"never", true},
    {"never", false},     {"always", true},      {"always", false},
};

static void start(const char *mode)
{
    char json[256];

    mirror_world(2 * MiB, MiB);
    assert_true(qmp("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\"}"));
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 256 * KiB, 1 << 24), 0);
    snprintf(json, sizeof(json),
             "{\"job-id\":\"m\",\"device\":\"s\",\"target\":\"d\",\"sync\":\"bitmap\",\"bitmap\":\"b\","
             "\"bitmap-mode\":\"%s\",\"speed\":1}",
             mode);
    assert_true(qmp("blockdev-backup", json));
    assert_int_equal(io_run(SIM_OP_WRITE, MiB, 64 * KiB, 1 << 24), 0);
}

static void end(bool success)
{
    assert_true(success ? qmp("block-job-set-speed", "{\"device\":\"m\",\"speed\":0}")
                        : qmp("block-job-cancel", "{\"device\":\"m\"}"));
    run_until(job_gone, NULL);
}

/* fact: jobs 5.4/on-success, 5.4/never, 5.4/always */
static void test_rows(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        start(rows[i].mode);
        end(rows[i].success);
        finish();
        assert_silent();
        world_teardown(state);
        world_setup(state);
    }
}

static void bend(void *opaque, const struct sim_record *record)
{
    if (strcmp(sim_record_str(record, 1), "waiting") == 0) {
        backup_of(job_find(host, "m"))->bitmap_mode = BITMAP_SYNC_NEVER;
    }
}

/* Kept bits cost a copy too many. */
static void test_reclaimed(void **state)
{
    start("on-success");
    sim_subscribe(world, EV_JOB_STATUS_CHANGE, bend, NULL);
    end(true);
    assert_violated("successor-algebra.backup-outcome.backup.completed");
    assert_said("expected the successor's bits only; seen its own bits and its successor's");
}

static void bend_failure(void *opaque, const struct sim_record *record)
{
    if (strcmp(sim_record_str(record, 1), "aborting") == 0) {
        backup_of(job_find(host, "m"))->bitmap_mode = BITMAP_SYNC_ALWAYS;
    }
}

/* Bits that are given up without a copy lose data in the next backup. */
static void test_given_up(void **state)
{
    start("on-success");
    sim_subscribe(world, EV_JOB_STATUS_CHANGE, bend_failure, NULL);
    end(false);
    assert_violated("successor-algebra.backup-outcome.backup.failed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/successor-algebra/backup/silent", test_rows, world_setup, world_teardown),
        T_SETUP("/check/successor-algebra/backup/reclaimed", test_reclaimed, world_setup, world_teardown),
        T_SETUP("/check/successor-algebra/backup/given-up", test_given_up, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
