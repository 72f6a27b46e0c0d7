/* Locks on media: holders find each other, and locks go with their host (reference/block.md 8.11). */
#include "tests/testlib.h"

#include "sim/disk.h"

static struct disk *make_disk(struct sim *sim)
{
    struct disk_config config;

    disk_config_default(&config);
    return disk_new(sim, "d", &config, NULL);
}

static void test_conflict(void **state)
{
    struct sim *sim = sim_new();
    struct disk *disk = make_disk(sim);
    struct disk_lock a = {0}, b = {0};

    disk_lock_set(disk, &a, NULL, 2, 8);
    assert_int_equal(disk_lock_conflict(disk, &a, 2, 2), 0);                 /* never with oneself */
    assert_int_equal(disk_lock_conflict(disk, &b, 1, 0), 0);                 /* a shares it */
    assert_int_equal(disk_lock_conflict(disk, &b, 8, 0), 8);                 /* a does not share it */
    assert_int_equal(disk_lock_conflict(disk, &b, 0, 2), UINT64_C(2) << 32); /* a has taken it */
    disk_lock_set(disk, &a, NULL, 0, 0);
    assert_int_equal(disk_lock_conflict(disk, &b, 8, 2), 0);
    sim_delete(sim);
}

static void test_crash(void **state)
{
    struct sim *sim = sim_new();
    struct disk *disk = make_disk(sim);
    struct host *host = host_new(sim, "h");
    struct disk_lock *lock = sim_alloc(host->arena, SIM_TYPE_bdrv_instance, sizeof(*lock));
    struct disk_lock other = {0};

    disk_lock_set(disk, lock, host, 2, 2);
    assert_int_not_equal(disk_lock_conflict(disk, &other, 2, 0), 0);
    host_crash(host);
    assert_int_equal(disk_lock_conflict(disk, &other, 2, 2), 0);
    sim_delete(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/disk/lock/conflict", test_conflict, NULL, NULL, NULL},
        {"/disk/lock/crash", test_crash, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
