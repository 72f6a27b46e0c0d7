/* Protects check/drained: whoever is inside a node that a drain has found quiet. */
#include "tests/check/check_world.h"

static void one_disk(void)
{
    new_disk("d", MiB);
    add_raw("s", "d");
    add_guest("s");
}

/* A drain waits for the guest's requests, whoever asks for it. */
static void test_silent(void **state)
{
    struct io io[4];

    one_disk();
    for (unsigned i = 0; i < ARRAY_SIZE(io); i++) {
        io_submit(&io[i], SIM_OP_WRITE, i * 4096, 4096, (uint64_t)(i + 1) << 24);
    }
    assert_true(qmp("block_resize", "{\"node-name\":\"s\",\"size\":2097152}"));
    settle();
    for (unsigned i = 0; i < ARRAY_SIZE(io); i++) {
        guest_req_clear(&io[i].req);
    }
    finish();
    assert_silent();
}

/* As if a drain had not waited: it says that the node is quiet, and requests go on in it. */
static void test_request(void **state)
{
    one_disk();
    BlockDriverState *bs = bdrv_find_node(host, "s");

    assert_non_null(bs);
    SIM_EMIT(world, host, drain_quiet, bs, SIM_P(bs->name));
    io_run(SIM_OP_READ, 0, 4096, 0);
    assert_violated("drained.request.-.-.raw.guest");
    assert_said("there is one of guest g");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/drained/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/drained/request", test_request, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
