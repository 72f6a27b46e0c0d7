/*
 * A world with one of the recorded images on disk d, a qcow2 node s on it, and a guest. For tests of what checkers
 * say of images.
 */
#ifndef TESTS_CHECK_QCOW2_WORLD_H
#define TESTS_CHECK_QCOW2_WORLD_H

#include "tests/check/check_world.h"

static struct disk *disk;

static void add_node(void)
{
    assert_true(qmp("blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"s\",\"discard\":\"unmap\","
                                    "\"file\":{\"driver\":\"disk\",\"disk\":\"d\"}}"));
}

static SIM_UNUSED void load_image(const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), "tests/vectors/qcow2/%s.qcow2", name);
    disk = new_disk("d", 0);
    assert_int_equal(disk_load_file(disk, path, NULL), 0);
}

static SIM_UNUSED void image_world(const char *name)
{
    load_image(name);
    add_node();
    add_guest("s");
}

static void delete_guest(void *opaque)
{
    guest_delete(guest);
    guest = NULL;
}

static SIM_UNUSED void close_node(void)
{
    on_main(delete_guest, NULL);
    assert_true(qmp("blockdev-del", "{\"node-name\":\"s\"}"));
}

/* Rot of the medium: eight bytes are something else. */
static SIM_UNUSED void rot(int64_t offset, uint64_t value)
{
    struct payload data;
    uint8_t bytes[8];

    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(value >> (56 - 8 * i));
    }
    payload_init(world, &data);
    payload_append_bytes(&data, bytes, sizeof(bytes));
    disk_poke(disk, offset, &data);
    payload_clear(&data);
}

/* As runners stamp: the write's id and the sector. */
static SIM_UNUSED int write_stamped(uint64_t id, int64_t offset, int64_t bytes)
{
    return io_run(SIM_OP_WRITE, offset, bytes, id << 32 | (uint64_t)(offset / SIM_SECTOR_BYTES));
}

#endif
