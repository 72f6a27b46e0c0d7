/* Protects check/point_in_time: targets that are not what the source was when the backup began, a past that readers
 * see change, drives that do not share an instant, and bitmaps that forget are found out. */
#include "tests/check/check_world.h"

#include "jobs/backup_int.h"

#define SLOW ",\"speed\":65536"

static bool start(const char *sync)
{
    char json[256];

    snprintf(json, sizeof(json), "{\"job-id\":\"m\",\"device\":\"s\",\"target\":\"d\",\"sync\":%s}", sync);
    return qmp("blockdev-backup", json);
}

static void wait_gone(void)
{
    run_until(job_gone, NULL);
}

static void full_speed(void)
{
    assert_true(qmp("block-job-set-speed", "{\"device\":\"m\",\"speed\":0}"));
    wait_gone();
}

static void cancel(void)
{
    assert_true(qmp("block-job-cancel", "{\"device\":\"m\"}"));
    wait_gone();
}

static void write_around(void)
{
    for (int i = 0; i < 12; i++) {
        assert_int_equal(io_run(SIM_OP_WRITE, (i * 150 * KiB) & ~511, 20 * KiB + 512, 1 << 24), 0);
    }
}

static void add_bitmap(void)
{
    assert_true(qmp("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\"}"));
    write_around();
}

/* Other bytes than before, behind everybody's back. */
static void spoil(const char *disk, int64_t offset)
{
    struct payload data;

    payload_init(world, &data);
    payload_append_tags(&data, UINT64_C(0x77) << 32, 8);
    disk_poke(disk_find(world, disk), offset, &data);
    payload_clear(&data);
}

static BackupJob *backup(void)
{
    return backup_of(job_find(host, "m"));
}

/* --- nothing wrong ------------------------------------------------------------------------------------------ */

static void run_silently(const char *sync)
{
    mirror_world(2 * MiB, MiB);
    add_bitmap();
    assert_true(start(sync));
    write_around();
    full_speed();
    write_around();
    finish();
    assert_silent();
}

static void test_full(void **state)
{
    run_silently("\"full\"" SLOW);
}

static void test_top(void **state)
{
    run_silently("\"top\",\"bitmap\":\"b\",\"bitmap-mode\":\"always\"" SLOW);
}

static void test_bitmap(void **state)
{
    run_silently("\"bitmap\",\"bitmap\":\"b\",\"bitmap-mode\":\"never\"" SLOW);
}

static void test_incremental(void **state)
{
    run_silently("\"incremental\",\"bitmap\":\"b\"" SLOW);
}

static void test_none(void **state)
{
    mirror_world(2 * MiB, MiB);
    assert_true(start("\"none\""));
    write_around();
    settle();
    write_around();
    cancel();
    finish();
    assert_silent();
}

static void test_cancelled(void **state)
{
    mirror_world(2 * MiB, MiB);
    add_bitmap();
    assert_true(start("\"full\",\"bitmap\":\"b\",\"bitmap-mode\":\"always\"" SLOW));
    write_around();
    cancel();
    finish();
    assert_silent();
}

/* --- the target --------------------------------------------------------------------------------------------- */

static void test_lost_copy(void **state)
{
    mirror_world(2 * MiB, MiB);
    arm("lost-write", "{\"disk\":\"dst\"}");
    assert_true(start("\"full\""));
    wait_gone();
    assert_violated("target-point-in-time.target-differs.backup.completed.raw.full");
}

/* fact: jobs 5.1/promise */
static void test_source_changes(void **state)
{
    mirror_world(2 * MiB, MiB);
    assert_true(start("\"full\"" SLOW));
    spoil("src", 512 * KiB);
    full_speed();
    assert_violated("target-point-in-time.target-differs.backup.completed.raw.full");
    assert_said("offset 524289 (sector 1024): expected stamp 0x0000000000100400 of nobody; seen stamp "
                "0x0000007700000000 of nobody");
}

/* The engine takes a cluster for done that is not. */
static void test_forgotten_cluster(void **state)
{
    mirror_world(2 * MiB, MiB);
    assert_true(start("\"full\"" SLOW));
    block_copy_reset(backup()->copy, 640 * KiB, 64 * KiB);
    full_speed();
    assert_violated("target-point-in-time.target-differs.backup.completed.raw.full");
}

/* A saved cluster is copied again, and the source holds new data. */
/* fact: jobs edge/45, 5.5/never-again */
static void test_copied_again(void **state)
{
    mirror_world(2 * MiB, MiB);
    assert_true(start("\"full\"" SLOW));
    assert_int_equal(io_run(SIM_OP_WRITE, 768 * KiB, 4 * KiB, 1 << 24), 0);
    bdrv_set_dirty_bitmap(block_copy_dirty_bitmap(backup()->copy), 768 * KiB, 64 * KiB);
    full_speed();
    assert_violated("target-point-in-time.target-differs.backup.completed.raw.full");
}

/* A failed backup promises nothing of its target. */
static void test_failed(void **state)
{
    mirror_world(2 * MiB, MiB);
    assert_true(start("\"full\"" SLOW));
    assert_int_equal(io_run(SIM_OP_WRITE, 1536 * KiB, 4 * KiB, 1 << 24), 0);
    spoil("dst", 1536 * KiB);
    cancel();
    assert_violated("target-point-in-time.past-differs"); /* but readers of the past would have seen it */
}

static void test_spoiled(void **state)
{
    mirror_world(2 * MiB, MiB);
    assert_true(qmp("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\"}"));
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 320 * KiB, 1 << 24), 0);
    assert_true(start("\"incremental\",\"bitmap\":\"b\"" SLOW));
    bdrv_set_dirty_bitmap(block_copy_dirty_bitmap(backup()->copy), 768 * KiB, 64 * KiB);
    full_speed();
    assert_violated("target-point-in-time.target-spoiled.backup.completed.raw.incremental");
}

/* --- one instant for all drives ------------------------------------------------------------------------------ */

static void two_drives(void)
{
    mirror_world(2 * MiB, MiB);
    new_disk("src2", MiB);
    new_disk("dst2", MiB);
    spoil("src2", 64 * KiB);
    add_raw("x", "src2");
    add_raw("q", "dst2");
}

static bool both_gone(void *opaque)
{
    return !job_find(host, "m") && !job_find(host, "n");
}

static void back_both_up(void)
{
    assert_true(qmp("transaction",
                    "{\"actions\":[{\"type\":\"blockdev-backup\",\"data\":{\"job-id\":\"m\",\"device\":\"s\","
                    "\"target\":\"d\",\"sync\":\"full\"}},{\"type\":\"blockdev-backup\",\"data\":{\"job-id\":\"n\","
                    "\"device\":\"x\",\"target\":\"q\",\"sync\":\"full\"}}],"
                    "\"properties\":{\"completion-mode\":\"grouped\"}}"));
    run_until(both_gone, NULL);
}

/* A write gets to the second drive when the first has had its instant. */
static void write_between(void *opaque, const struct sim_record *record)
{
    if (strcmp(sim_record_name(record, 0)->str, "n") == 0 && strcmp(sim_record_str(record, 1), "created") == 0) {
        spoil("src2", 512 * KiB);
    }
}

static void test_transaction(void **state)
{
    two_drives();
    back_both_up();
    finish();
    assert_silent();
}

/* fact: jobs 5.8/one-instant */
static void test_two_instants(void **state)
{
    two_drives();
    sim_subscribe(world, EV_JOB_STATUS_CHANGE, write_between, NULL);
    back_both_up();
    assert_violated("target-point-in-time.target-differs.backup.completed.raw.full");
}

/* --- bitmaps ------------------------------------------------------------------------------------------------- */

static void test_write_forgotten(void **state)
{
    mirror_world(2 * MiB, MiB);
    add_bitmap();
    assert_true(start("\"incremental\",\"bitmap\":\"b\"" SLOW));
    assert_int_equal(io_run(SIM_OP_WRITE, 512 * KiB, 4 * KiB, 1 << 24), 0);
    bdrv_reset_dirty_bitmap((BdrvDirtyBitmap *)(uintptr_t)bdrv_dirty_bitmap_successor(backup()->sync_bitmap),
                            512 * KiB, 64 * KiB);
    full_speed();
    assert_violated("target-point-in-time.bitmap-lost.backup.completed.raw.written");
}

/* fact: jobs edge/44 */
static void test_uncopied_forgotten(void **state)
{
    mirror_world(2 * MiB, MiB);
    add_bitmap();
    assert_true(start("\"full\",\"bitmap\":\"b\",\"bitmap-mode\":\"always\"" SLOW));
    block_copy_reset(backup()->copy, 768 * KiB, 64 * KiB);
    cancel();
    assert_violated("target-point-in-time.bitmap-lost.backup.completed.raw.not-copied");
}

/* --- readers of the past ------------------------------------------------------------------------------------- */

static struct guest *writer, *reader;

static void plug_entry(void *opaque)
{
    struct guest_config config;

    guest_config_default(&config);
    config.name = opaque;
    config.node = strcmp(opaque, "w") == 0 ? "fa" : "fb";
    config.queue_depth = 8;
    guest = guest_new(host, &config, NULL);
    assert_non_null(guest);
}

static void unplug_entry(void *opaque)
{
    guest_delete(guest);
    guest = NULL;
}

static struct guest *plug(const char *name)
{
    on_main(plug_entry, (void *)(uintptr_t)name);
    return guest;
}

static void past_world(void)
{
    mirror_world(2 * MiB, MiB);
    on_main(unplug_entry, NULL);
    assert_true(qmp("blockdev-add", "{\"driver\":\"copy-before-write\",\"node-name\":\"fa\",\"file\":\"s\","
                                    "\"target\":\"d\"}"));
    assert_true(qmp("blockdev-add", "{\"driver\":\"snapshot-access\",\"node-name\":\"fb\",\"file\":\"fa\"}"));
    writer = plug("w");
    reader = plug("r");
}

static void past_finish(void)
{
    settle();
    guest = reader;
    on_main(unplug_entry, NULL);
    guest = writer;
    on_main(unplug_entry, NULL);
    assert_true(qmp("blockdev-del", "{\"node-name\":\"fb\"}"));
    assert_true(qmp("blockdev-del", "{\"node-name\":\"fa\"}"));
    finish();
}

static void test_past(void **state)
{
    past_world();
    for (int i = 0; i < 8; i++) {
        struct io write, read;

        guest = writer;
        io_submit(&write, SIM_OP_WRITE, i * 100 * KiB, 36 * KiB, 1 << 24);
        guest = reader;
        io_submit(&read, SIM_OP_READ, i * 100 * KiB, 64 * KiB, 0);
        run_until(flag_set, &write.done);
        run_until(flag_set, &read.done);
        assert_int_equal(read.req.ret, 0);
        guest_req_clear(&write.req);
        guest_req_clear(&read.req);
    }
    past_finish();
    assert_silent();
}

static void test_past_read(void **state)
{
    past_world();
    guest = writer;
    assert_int_equal(io_run(SIM_OP_WRITE, 64 * KiB, 4 * KiB, 1 << 24), 0);
    spoil("dst", 64 * KiB);
    guest = reader;
    assert_int_equal(io_run(SIM_OP_READ, 64 * KiB, 4 * KiB, 0), 0);
    assert_violated("target-point-in-time.past-differs.-.read");
    past_finish();
}

/* What is not saved yet is in the source. */
static void test_past_source(void **state)
{
    past_world();
    spoil("src", 512 * KiB);
    settle();
    assert_violated("target-point-in-time.past-differs.-.settled");
    past_finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/point-in-time/silent/full", test_full, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/silent/top", test_top, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/silent/bitmap", test_bitmap, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/silent/incremental", test_incremental, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/silent/none", test_none, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/silent/cancelled", test_cancelled, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/silent/transaction", test_transaction, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/silent/past", test_past, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/lost-copy", test_lost_copy, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/source-changes", test_source_changes, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/forgotten-cluster", test_forgotten_cluster, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/copied-again", test_copied_again, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/failed", test_failed, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/spoiled", test_spoiled, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/two-instants", test_two_instants, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/bitmap/write-forgotten", test_write_forgotten, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/bitmap/uncopied-forgotten", test_uncopied_forgotten, world_setup,
                world_teardown),
        T_SETUP("/check/point-in-time/past/read", test_past_read, world_setup, world_teardown),
        T_SETUP("/check/point-in-time/past/source", test_past_source, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
