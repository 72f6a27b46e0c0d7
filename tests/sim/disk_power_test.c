/* Protects: what a flush or FUA covered survives; the rest is old, new or torn, never foreign. */
#include "tests/sim/disk_util.h"

static void test_flush(void **state)
{
    struct disk *disk = make_disk(*state, "d", "{}");

    run_write_tags(disk, 0, 4096, 1, 0);
    run_write_tags(disk, 4096, 4096, 100, DISK_REQ_FUA);
    assert_int_equal(disk_unflushed(disk), 1);
    assert_int_equal(tag_at(disk, 0, true), UINT64_MAX);
    assert_int_equal(tag_at(disk, 4096, true), 100);
    run_write_tags(disk, 0, 4096, 200, DISK_REQ_FUA);
    assert_int_equal(tag_at(disk, 0, true), 200);
    io_run(disk, SIM_OP_FLUSH, 0, 0, 0);
    assert_int_equal(disk_unflushed(disk), 0);
    run_write_tags(disk, 0, 4096, 300, 0);
    io_run(disk, SIM_OP_TRUNCATE, 512, 0, 0);
    disk_power_loss(disk);
    assert_int_equal(disk_length(disk), 8192);
    assert_int_equal(tag_at(disk, 0, false), 200);
    assert_int_equal(tag_at(disk, 4096, false), 100);
}

/* A flush speaks only for what had completed when it was submitted. */
static void test_flush_scope(void **state)
{
    struct disk *disk = make_disk(*state, "d", "{\"latency\": 1000, \"per-kib\": \"1us\"}");
    struct io slow;
    struct io fast;
    struct io flush;

    io_write_tags(&slow, disk, 0, 64 * KiB, 1, 0);
    io_write_tags(&fast, disk, MiB, 4096, 500, 0);
    sim_run(*state, NULL, NULL, 6000);
    assert_true(fast.done && !slow.done);
    io_init(&flush, disk);
    io_start(&flush, disk, SIM_OP_FLUSH, 0, 0, 0);
    settle(disk);
    assert_int_equal(tag_at(disk, MiB, true), 500);
    assert_int_equal(tag_at(disk, 0, true), UINT64_MAX);
    assert_int_equal(disk_unflushed(disk), 1);
    disk_power_loss(disk);
    assert_int_equal(tag_at(disk, MiB, false), 500);
    assert_true(reads_zero(disk, 0, MiB));
    payload_clear(&slow.data);
    payload_clear(&fast.data);
}

/* A completed write with the cache off needs no flush; a lying flush gives nothing. */
static void test_cache_off_and_lies(void **state)
{
    struct disk *safe = make_disk(*state, "s", "{\"write-cache\": \"off\"}");
    struct disk *disk = make_disk(*state, "d", "{}");
    struct bend bend = {.base = {.at_effect = bend_at_effect}, .lose = true};

    run_write_tags(safe, 0, 4096, 1, 0);
    assert_int_equal(disk_unflushed(safe), 0);
    disk_power_loss(safe);
    assert_int_equal(tag_at(safe, 0, false), 1);
    run_write_tags(disk, 0, 4096, 1, 0);
    disk_add_interposer(disk, &bend.base);
    assert_int_equal(io_run(disk, SIM_OP_FLUSH, 0, 0, 0), 0);
    assert_int_equal(disk_unflushed(disk), 1);
    disk_power_loss(disk);
    assert_int_equal(disk_length(disk), 0);
}

/* Each sector after a power loss is the durable one or that of one of the unflushed writes, torn at nothing smaller
 * than the atomic unit; over the seeds all of lost, kept and torn are seen. */
static void test_power_subsets(void **state)
{
    struct sim *sim = *state;
    unsigned lost = 0;
    unsigned kept = 0;
    unsigned torn = 0;

    for (uint64_t seed = 0; seed < 60; seed++) {
        sim_choice_set_seed(sim, seed);
        struct disk *disk = make_disk(sim, "d", "{\"atomic\": 1024}");
        run_write_tags(disk, 0, 16384, 1000, DISK_REQ_FUA);
        sim_choice_set_policy(sim, SIM_POLICY_RANDOM);
        run_write_tags(disk, 0, 16384, 2000, 0);
        struct io flying;
        io_write_tags(&flying, disk, 8192, 8192, 3016, 0);
        disk_power_loss(disk);
        settle(disk);
        assert_false(flying.done);
        assert_int_equal(disk_in_flight(disk), 0);
        unsigned second = 0;
        for (uint64_t i = 0; i < 32; i++) {
            uint64_t tag = tag_at(disk, (int64_t)i * 512, false);
            uint64_t from = tag / 1000;
            assert_true(from >= 1 && from <= 3 && tag % 1000 == i);
            assert_true(from < 3 || i >= 16);
            assert_true(i % 2 == 0 || tag_at(disk, (int64_t)i * 512 - 512, false) == tag - 1);
            second += i < 16 && from == 2;
        }
        lost += second == 0;
        kept += second == 16;
        torn += second > 0 && second < 16;
        payload_clear(&flying.data);
        sim_reset(sim);
    }
    assert_true(lost > 3 && kept > 3 && torn > 3);
}

/* Whatever was flushed or written with FUA survives, whatever the choices. */
static void test_power_random(void **state)
{
    struct sim *sim = *state;

    for (uint64_t seed = 0; seed < 40; seed++) {
        uint64_t floor[16] = {0};
        uint64_t newest[16] = {0};
        sim_choice_set_seed(sim, seed);
        sim_choice_set_policy(sim, SIM_POLICY_RANDOM);
        struct disk *disk = make_disk(sim, "d", "{\"size\": \"64k\"}");
        for (uint64_t step = 1; step < 40; step++) {
            uint64_t page = rng(16);
            if (rng(6) == 0) {
                io_run(disk, SIM_OP_FLUSH, 0, 0, 0);
                memcpy(floor, newest, sizeof(floor));
            } else {
                uint32_t flags = rng(5) == 0 ? DISK_REQ_FUA : 0;
                run_write_tags(disk, (int64_t)page * 4096, 4096, step << 8, flags);
                newest[page] = step;
                floor[page] = flags ? step : floor[page];
            }
        }
        disk_power_loss(disk);
        for (uint64_t i = 0; i < 128; i++) {
            uint64_t tag = tag_at(disk, (int64_t)i * 512, false);
            uint64_t step = tag == UINT64_MAX ? 0 : tag >> 8;
            assert_true(step >= floor[i / 8] && step <= newest[i / 8]);
            assert_true(step == 0 || (tag & 0xff) == i % 8);
        }
        sim_reset(sim);
    }
}

static void test_journal_off(void **state)
{
    struct sim *sim = *state;
    struct disk *disk = make_disk(sim, "d", "{}");

    disk_set_journal(disk, false);
    run_write_tags(disk, 0, 4096, 1, 0);
    assert_int_equal(sim_arena_live(sim_arena(sim), SIM_TYPE_disk_journal), 0);
    assert_int_equal(tag_at(disk, 0, true), 1);
    disk_power_loss(disk);
    assert_int_equal(tag_at(disk, 0, false), 1);
}

/* Large amounts of unflushed data go durable by sharing; later writes must not reach into what is durable. */
static void test_flush_shares(void **state)
{
    struct disk *disk = make_disk(*state, "d", "{}");

    run_write_tags(disk, 0, 4 * MiB, 1, 0);
    io_run(disk, SIM_OP_FLUSH, 0, 0, 0);
    run_write_tags(disk, MiB, 4096, 9000000, 0);
    assert_int_equal(tag_at(disk, MiB, false), 9000000);
    assert_int_equal(tag_at(disk, MiB, true), 1 + MiB / 512);
    disk_power_loss(disk);
    assert_int_equal(tag_at(disk, MiB, false), 1 + MiB / 512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("/disk/flush/durable", test_flush),
        TEST("/disk/flush/scope", test_flush_scope),
        TEST("/disk/flush/shares", test_flush_shares),
        TEST("/disk/flush/cache-off-and-lies", test_cache_off_and_lies),
        TEST("/disk/power-loss/subsets", test_power_subsets),
        TEST("/disk/power-loss/random", test_power_random),
        TEST("/disk/power-loss/journal-off", test_journal_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
