/*
 * Chains of images under checkers: n0 (raw, stamps all over) <- n1 <- n2 <- n3 (qcow2 on disks of these names), a
 * guest on the last. A job called m works on them.
 */
#ifndef TESTS_CHECK_CHAIN_WORLD_H
#define TESTS_CHECK_CHAIN_WORLD_H

#include "tests/check/check_world.h"

#define CHAIN_BYTES (2 * MiB)

static const char *const layer_names[] = {"n0", "n1", "n2", "n3"};

struct image {
    const char *name, *backing, *format;
    int64_t bytes;
};

static void image_entry(void *opaque)
{
    const struct image *image = opaque;

    assert_int_equal(bdrv_img_create(host, image->name, "qcow2", image->bytes, image->backing, image->format, NULL),
                     0);
}

static void add_image(const char *name, const char *backing, const char *format, int64_t bytes)
{
    struct image image = {name, backing, format, bytes};
    char json[256];

    on_main(image_entry, &image);
    snprintf(json, sizeof(json),
             "{\"driver\":\"qcow2\",\"node-name\":\"%s\",\"backing\":%s%s%s,\"file\":{\"driver\":\"disk\","
             "\"disk\":\"%s\"}}",
             name, backing ? "\"" : "", backing ? backing : "null", backing ? "\"" : "", name);
    assert_true(qmp("blockdev-add", json));
}

static void unplug_entry(void *opaque)
{
    guest_delete(guest);
    guest = NULL;
}

/* What the layer itself holds: written while it is no backing file of anybody. */
static void fill(const char *node, int64_t offset, int64_t bytes, uint64_t tag)
{
    add_guest(node);
    assert_int_equal(io_run(SIM_OP_WRITE, offset, bytes, tag), 0);
    settle();
    on_main(unplug_entry, NULL);
}

static SIM_UNUSED void chain_world(int64_t base_bytes)
{
    struct disk *base = new_disk("n0", base_bytes);
    struct payload data;

    payload_init(world, &data);
    payload_append_tags(&data, UINT64_C(0x55) << 32, base_bytes / SIM_SECTOR_BYTES);
    disk_poke(base, 0, &data);
    payload_clear(&data);
    add_raw("n0", "n0");
    add_image("n1", "n0", "raw", CHAIN_BYTES);
    fill("n1", 128 * KiB, 320 * KiB, 2 << 20);
    add_image("n2", "n1", "qcow2", CHAIN_BYTES);
    fill("n2", 64 * KiB, 64 * KiB, 3 << 20);
    fill("n2", MiB, 320 * KiB, 4 << 20);
    add_image("n3", "n2", "qcow2", CHAIN_BYTES);
    add_guest("n3");
}

/* Other bytes than before, behind everybody's back. */
static SIM_UNUSED void spoil(const char *disk, int64_t offset)
{
    struct payload data;

    payload_init(world, &data);
    payload_append_tags(&data, UINT64_C(0x77) << 32, 8);
    disk_poke(disk_find(world, disk), offset, &data);
    payload_clear(&data);
}

static SIM_UNUSED void wait_gone(void)
{
    run_until(job_gone, NULL);
}

static SIM_UNUSED void finish_chain(void)
{
    settle();
    on_main(unplug_entry, NULL);
    for (int i = ARRAY_SIZE(layer_names) - 1; i >= 0; i--) {
        char json[64];

        snprintf(json, sizeof(json), "{\"node-name\":\"%s\"}", layer_names[i]);
        if (bdrv_find_node(host, layer_names[i])) {
            assert_true(qmp("blockdev-del", json));
        }
    }
    finish();
}

#endif
