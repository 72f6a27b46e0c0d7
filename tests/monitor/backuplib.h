/*
 * Backups by command: targets beside the bed's source, a trail of jobs and replies, what disks hold.
 */
#ifndef TESTS_BACKUPLIB_H
#define TESTS_BACKUPLIB_H

#include "tests/monitor/qmplib.h"

#include "jobs/backup.h"

/* Guest g on node "s" (disk "d", 1 MiB) comes from the bed; "t" and "u" are targets of that length, over disks of
 * these names, "x" one that is longer. */

#define CLUSTER (64 * KiB)

static char trail[4096];

static SIM_UNUSED void trail_event(void *opaque, const struct sim_record *r)
{
    size_t length = strlen(trail);
    char *end = trail + length;
    size_t room = sizeof(trail) - length;

    switch (r->kind) {
    case EV_JOB_STATUS_CHANGE:
        snprintf(end, room, "%s:%s ", sim_record_name(r, 0)->str, sim_record_str(r, 1));
        break;
    case EV_BLOCK_JOB_COMPLETED:
        snprintf(end, room, "%s:COMPLETED%s%s%s ", sim_record_name(r, 1)->str, sim_record_str(r, 5) ? "(" : "",
                 sim_record_str(r, 5) ? sim_record_str(r, 5) : "", sim_record_str(r, 5) ? ")" : "");
        break;
    case EV_BLOCK_JOB_CANCELLED:
        snprintf(end, room, "%s:CANCELLED ", sim_record_name(r, 1)->str);
        break;
    case EV_BLOCK_JOB_ERROR:
        snprintf(end, room, "%s:ERROR(%s) ", sim_record_name(r, 0)->str, sim_record_str(r, 2));
        break;
    case EV_qmp_reply:
        snprintf(end, room, "REPLY ");
        break;
    default:
        break;
    }
}

static SIM_UNUSED void expect_trail(const char *text)
{
    assert_string_equal(trail, text);
    trail[0] = '\0';
}

static SIM_UNUSED void make_disk(const char *name, int64_t bytes, int64_t capacity)
{
    struct disk_config config;

    disk_config_default(&config);
    config.size_bytes = bytes;
    config.capacity_bytes = capacity;
    assert_non_null(disk_new(bed.sim, name, &config, NULL));
}

static SIM_UNUSED void make_node(const char *name, int64_t bytes)
{
    char json[128];

    make_disk(name, bytes, bytes);
    snprintf(json, sizeof(json), "{\"driver\":\"disk\",\"node-name\":\"%s\",\"disk\":\"%s\"}", name, name);
    ok("blockdev-add", json);
}

static SIM_UNUSED void del(const char *name)
{
    char json[64];

    snprintf(json, sizeof(json), "{\"node-name\":\"%s\"}", name);
    ok("blockdev-del", json);
}

static SIM_UNUSED int setup(void **state)
{
    qmp_setup(state);
    make_node("t", MiB);
    make_node("u", MiB);
    make_node("x", 2 * MiB);
    sim_subscribe_all(bed.sim, trail_event, NULL);
    trail[0] = '\0';
    return 0;
}

static SIM_UNUSED int teardown(void **state)
{
    bed_settle();
    assert_null(job_next(bed.host, NULL));
    assert_int_equal(bdrv_op_blockers(bdrv_find_node(bed.host, "s")), 0);
    assert_int_equal(bdrv_op_blockers(bdrv_find_node(bed.host, "t")), 0);
    del("t");
    del("u");
    del("x");
    assert_ptr_equal(bdrv_next_node(bed.host, NULL), bdrv_find_node(bed.host, "s"));
    return qmp_teardown(state);
}

#define BACKUP(more) "{\"job-id\":\"b\",\"device\":\"g\",\"target\":\"t\",\"sync\":\"full\"" more "}"
#define BEGIN(id) id ":created " id ":running " id ":paused "
#define DONE(id) id ":waiting " id ":pending " id ":COMPLETED " id ":concluded " id ":null "
#define KILLED(id) id ":aborting " id ":CANCELLED " id ":concluded " id ":null "

static SIM_UNUSED bool filtered(void)
{
    return bdrv_is_cbw(blk_bs(blk_by_name(bed.host, "g")));
}

/* The first byte of each cluster of a disk. */
static SIM_UNUSED void first_bytes(const char *name, uint8_t bytes[16])
{
    struct payload data;

    for (int64_t i = 0; i < 16; i++) {
        payload_init(bed.sim, &data);
        disk_peek(disk_find(bed.sim, name), i * CLUSTER, 1, &data);
        payload_read_bytes(&data, 0, &bytes[i], 1);
        payload_clear(&data);
    }
}

/* Digits: 1 where the guest's 0x33 stands. */
static SIM_UNUSED void expect_disk(const char *name, const char *clusters)
{
    uint8_t bytes[16];
    char text[17] = "";

    first_bytes(name, bytes);
    for (int i = 0; i < 16; i++) {
        text[i] = bytes[i] == 0x33 ? '1' : bytes[i] == 0 ? '0' : '?';
    }
    assert_string_equal(text, clusters);
}

#endif
