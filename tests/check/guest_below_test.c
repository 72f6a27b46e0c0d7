/* Protects check/guest_below: after a command put other media below a guest, it must see those as they were, and
 * nothing else; what it wrote before is found again with the medium that has it. */
#include "tests/check/check_world.h"

#define WINDOW(file, offset) \
    "{\"options\":[{\"driver\":\"raw\",\"node-name\":\"s\",\"file\":\"" file "\"," \
    "\"offset\":" #offset ",\"size\":524288}]}"
#define WHOLE(file) "{\"options\":[{\"driver\":\"raw\",\"node-name\":\"s\",\"file\":\"" file "\"}]}"

static void poke(const char *name, int64_t offset, uint64_t tag)
{
    struct payload data;

    payload_init(world, &data);
    payload_append_tags(&data, tag, 1);
    disk_poke(disk_find(world, name), offset, &data);
    payload_clear(&data);
}

/* Two media, a raw node over the first, a guest. */
static void two_media(void)
{
    for (int i = 0; i < 2; i++) {
        char json[128];
        const char *disk = i ? "b" : "a";

        new_disk(disk, MiB);
        poke(disk, 512 * KiB, UINT64_C(0x100) << 32 | (unsigned)i);
        snprintf(json, sizeof(json), "{\"driver\":\"disk\",\"node-name\":\"f%s\",\"disk\":\"%s\"}", disk, disk);
        assert_true(qmp("blockdev-add", json));
    }
    assert_true(qmp("blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"s\",\"file\":\"fa\"}"));
    add_guest("s");
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 1 << 24), 0);
}

static void test_other_file(void **state)
{
    two_media();
    assert_true(qmp("blockdev-reopen", WHOLE("fb")));
    assert_int_equal(io_run(SIM_OP_READ, 0, MiB, 0), 0);
    assert_int_equal(io_run(SIM_OP_WRITE, 32 * KiB, 64 * KiB, 2 << 24), 0);
    assert_true(qmp("blockdev-reopen", WHOLE("fa")));
    assert_int_equal(io_run(SIM_OP_READ, 0, MiB, 0), 0);
    finish();
    assert_silent();
}

/* What the new medium held is known before anybody reads it. */
static void test_other_file_changed(void **state)
{
    two_media();
    assert_true(qmp("blockdev-reopen", WHOLE("fb")));
    poke("b", 512 * KiB, 7);
    assert_int_equal(io_run(SIM_OP_READ, 512 * KiB, 4096, 0), 0);
    assert_violated("guest-view.content.-.-.raw.read");
}

static void test_other_window(void **state)
{
    two_media();
    assert_true(qmp("blockdev-reopen", WINDOW("fa", 16384)));
    assert_int_equal(io_run(SIM_OP_READ, 0, 512 * KiB, 0), 0);
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 2 << 24), 0);
    assert_true(qmp("blockdev-reopen", WINDOW("fa", 100)));
    assert_int_equal(io_run(SIM_OP_READ, 0, 512 * KiB, 0), 0);
    assert_true(qmp("blockdev-reopen", WHOLE("fa")));
    assert_int_equal(io_run(SIM_OP_READ, 0, MiB, 0), 0);
    finish();
    assert_silent();
}

/* A reopen that changes nothing the guest could see forgets nothing. */
static void test_same_medium(void **state)
{
    two_media();
    assert_true(qmp("blockdev-reopen", WHOLE("fa")));
    poke("a", 0, 7);
    assert_int_equal(io_run(SIM_OP_READ, 0, 4096, 0), 0);
    assert_violated("guest-view.content.-.-.raw.read");
}

static void quorum(const char *more)
{
    char json[256];

    two_media();
    new_disk("c", MiB);
    assert_true(qmp("blockdev-add", "{\"driver\":\"disk\",\"node-name\":\"fc\",\"disk\":\"c\"}"));
    assert_true(
        qmp("blockdev-add", "{\"driver\":\"disk\",\"node-name\":\"g0\",\"disk\":\"a\",\"read-only\":true}"));
    assert_true(qmp("blockdev-del", "{\"node-name\":\"g0\"}"));
    snprintf(json, sizeof(json), "{\"driver\":\"quorum\",\"node-name\":\"q\",\"children\":[\"fb\",\"fc\"],%s}",
             more);
    assert_true(qmp("blockdev-add", json));
    assert_true(qmp("blockdev-reopen", WHOLE("q")));
}

/* One of two children has missed a write, and goes on being read in turn with the other. */
static void test_weak_quorum(void **state)
{
    quorum("\"vote-threshold\":1,\"read-pattern\":\"fifo\"");
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 2 << 24), 0);
    arm("error", "{\"disk\":\"b\",\"op\":\"write\"}");
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 3 << 24), 0);
    assert_int_equal(io_run(SIM_OP_READ, 0, 64 * KiB, 0), 0);
    arm("error", "{\"disk\":\"b\",\"op\":\"read\"}");
    assert_int_equal(io_run(SIM_OP_READ, 0, 64 * KiB, 0), 0);
    assert_int_equal(io_run(SIM_OP_READ, 0, 64 * KiB, 0), 0);
    finish();
    assert_silent();
}

/* What both have is as good as on one medium. */
static void test_weak_quorum_agrees(void **state)
{
    quorum("\"vote-threshold\":1,\"read-pattern\":\"fifo\"");
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 2 << 24), 0);
    poke("b", 4096, 7);
    assert_int_equal(io_run(SIM_OP_READ, 0, 64 * KiB, 0), 0);
    assert_violated("guest-view.content.-.-.raw.read");
}

static void test_other_children(void **state)
{
    quorum("\"vote-threshold\":1");
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 2 << 24), 0);
    assert_true(qmp("blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"x\",\"file\":\"fa\"}"));
    assert_true(qmp("x-blockdev-change", "{\"parent\":\"q\",\"node\":\"x\"}"));
    assert_true(qmp("x-blockdev-change", "{\"parent\":\"q\",\"child\":\"children.0\"}"));
    assert_true(qmp("x-blockdev-change", "{\"parent\":\"q\",\"child\":\"children.1\"}"));
    assert_int_equal(io_run(SIM_OP_READ, 0, MiB, 0), 0);
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 3 << 24), 0);
    assert_int_equal(io_run(SIM_OP_READ, 0, MiB, 0), 0);
    finish();
    assert_silent();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/guest-view/other-file", test_other_file, world_setup, world_teardown),
        T_SETUP("/check/guest-view/other-file/changed", test_other_file_changed, world_setup, world_teardown),
        T_SETUP("/check/guest-view/other-window", test_other_window, world_setup, world_teardown),
        T_SETUP("/check/guest-view/same-medium", test_same_medium, world_setup, world_teardown),
        T_SETUP("/check/guest-view/quorum/weak", test_weak_quorum, world_setup, world_teardown),
        T_SETUP("/check/guest-view/quorum/weak/agrees", test_weak_quorum_agrees, world_setup, world_teardown),
        T_SETUP("/check/guest-view/quorum/other-children", test_other_children, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
