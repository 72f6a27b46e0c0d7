/* Protects: results, accounting, order and time of a medium's requests are those that sim/disk.h promises. */
#include "tests/sim/disk_util.h"

/* --- reading, status --------------------------------------------------------------------------------------- */

static void test_read_end(void **state)
{
    struct disk *disk = make_disk(*state, "d", "{\"size\": 1000}");
    struct io io;

    assert_int_equal(io_run(disk, SIM_OP_READ, 512, 512, 0), 0);
    assert_int_equal(io_run(disk, SIM_OP_READ, 1024, 512, 0), -EIO);
    assert_int_equal(io_run(disk, SIM_OP_READ, 0, 1536, 0), -EIO);
    io_init(&io, disk);
    io_start(&io, disk, SIM_OP_READ, 0, 1024, 0);
    settle(disk);
    assert_int_equal(io.data.size_bytes, 1024);
    payload_clear(&io.data);
    /* the last sector is whole also where single bytes can be asked for */
    disk = make_disk(*state, "e", "{\"size\": 1000, \"align\": 1}");
    assert_int_equal(io_run(disk, SIM_OP_READ, 1000, 24, 0), 0);
    assert_int_equal(io_run(disk, SIM_OP_READ, 1000, 25, 0), -EIO);
    assert_int_equal(io_run(disk, SIM_OP_DISCARD, 512, 512, 0), 0);
}

static void test_device(void **state)
{
    struct disk *disk = make_disk(*state, "d", "{\"type\": \"device\", \"size\": \"64k\"}");

    assert_int_equal(io_run(disk, SIM_OP_WRITE, 0, 65536, 0), 0);
    assert_int_equal(io_run(disk, SIM_OP_WRITE, 65536, 512, 0), -EIO);
    assert_int_equal(io_run(disk, SIM_OP_WRITE_ZEROES, 61440, 8192, 0), -EIO);
    assert_int_equal(io_run(disk, SIM_OP_TRUNCATE, 131072, 0, 0), -EINVAL);
    assert_int_equal(io_run(disk, SIM_OP_TRUNCATE, 65536, 0, 0), 0);
    assert_int_equal(disk_length(disk), 65536);
}

static void test_switched_off(void **state)
{
    struct disk *disk =
        make_disk(*state, "d", "{\"discard\": false, \"write-zeroes\": \"off\", \"size\": \"64k\"}");
    struct disk *thick = make_disk(*state, "e", "{\"discard\": false, \"size\": \"64k\"}");

    assert_int_equal(io_run(disk, SIM_OP_DISCARD, 0, 4096, 0), -ENOTSUP);
    assert_int_equal(io_run(disk, SIM_OP_WRITE_ZEROES, 0, 4096, 0), -ENOTSUP);
    assert_int_equal(io_run(thick, SIM_OP_WRITE_ZEROES, 0, 8192, DISK_REQ_MAY_UNMAP), 0);
    assert_int_equal(disk_allocated_bytes(thick), 8192);
}

static void test_status(void **state)
{
    struct disk *disk = make_disk(*state, "d", "{\"size\": \"1T\"}");
    int64_t pnum;
    int64_t end;
    bool zero;

    assert_int_equal(io_run(disk, SIM_OP_WRITE, GiB, 8192, 0), 0);
    assert_int_equal(io_run(disk, SIM_OP_WRITE_ZEROES, GiB + 8192, 100 * GiB, 0), 0);
    assert_false(disk_status(disk, 100, TiB, &pnum, &zero));
    assert_int_equal(pnum, GiB - 100);
    assert_true(disk_status(disk, GiB + 4096, TiB, &pnum, &zero));
    assert_false(zero);
    assert_int_equal(pnum, 4096);
    assert_true(disk_status(disk, GiB + 8192, TiB, &pnum, &zero));
    assert_true(zero);
    assert_int_equal(pnum, 100 * GiB);
    assert_int_equal(disk_next_data(disk, 5, &end), GiB);
    assert_int_equal(end, GiB + 8192 + 100 * GiB);
    assert_int_equal(disk_next_data(disk, end, &end), -1);
    assert_int_equal(disk_allocated_bytes(disk), 8192 + 100 * GiB);
    assert_int_equal(io_run(disk, SIM_OP_DISCARD, 0, TiB, 0), 0);
    assert_int_equal(disk_allocated_bytes(disk), 0);
    assert_null(disk_peek_page(disk, GiB / SIM_PAGE_BYTES));
}

static void test_sparse_memory(void **state)
{
    struct sim *sim = *state;
    struct disk *disk = make_disk(sim, "d", "{\"size\": \"1T\"}");

    for (int i = 0; i < 64; i++) {
        assert_int_equal(io_run(disk, SIM_OP_WRITE, (int64_t)rng(TiB / 4096) * 4096, 4096, 0), 0);
    }
    assert_int_equal(io_run(disk, SIM_OP_FLUSH, 0, 0, 0), 0);
    assert_true(sim_arena_peak_bytes(sim_arena(sim)) < 400 * KiB);
    assert_int_equal(io_run(disk, SIM_OP_WRITE_ZEROES, 0, TiB, 0), 0);
    assert_int_equal(disk_allocated_bytes(disk), TiB);
    assert_true(sim_arena_peak_bytes(sim_arena(sim)) < 400 * KiB);
}

static void test_stamp(void **state)
{
    struct disk *disk = make_disk(*state, "d", "{\"content\": \"stamp\", \"size\": \"1T\"}");
    uint64_t key = disk_name(disk)->hash & UINT32_MAX;
    uint64_t tag;

    assert_int_equal(disk_allocated_bytes(disk), TiB);
    assert_int_equal(tag_at(disk, 5 * GiB + 512, false), key << 32 | (5 * GiB / 512 + 1));
    assert_int_equal(io_run(disk, SIM_OP_WRITE, 5 * GiB, 512, 0), 0);
    assert_int_equal(tag_at(disk, 5 * GiB, false), UINT64_MAX);
    assert_int_equal(tag_at(disk, 5 * GiB + 512, false), key << 32 | (5 * GiB / 512 + 1));
    assert_true(page_sector_tag(disk_peek_page(disk, 7), 2, &tag));
    assert_int_equal(tag, key << 32 | 58);
    assert_int_equal(io_run(disk, SIM_OP_TRUNCATE, 4096, 0, 0), 0);
    assert_int_equal(io_run(disk, SIM_OP_TRUNCATE, MiB, 0, 0), 0);
    assert_true(reads_zero(disk, 4096, MiB - 4096));
    assert_int_equal(disk_allocated_bytes(disk), 4096);
}

/* Zeroes written as data, many pages of them, misaligned: allocated, zero, and nothing beside them is touched. */
static void test_zero_data(void **state)
{
    struct disk *disk = make_disk(*state, "d", "{\"content\": \"stamp\", \"size\": \"4M\"}");
    struct disk *empty = make_disk(*state, "e", "{\"size\": \"4M\"}");
    uint64_t key = disk_name(disk)->hash & UINT32_MAX;
    struct payload zero;

    payload_init(*state, &zero);
    payload_append_zero(&zero, MiB);
    disk_poke(disk, 64 * KiB + 512, &zero);
    disk_poke(empty, 64 * KiB + 512, &zero);
    payload_clear(&zero);
    assert_true(reads_zero(disk, 64 * KiB + 512, MiB));
    assert_int_equal(tag_at(disk, 64 * KiB, false), key << 32 | 128);
    assert_int_equal(tag_at(disk, 64 * KiB + MiB + 512, false), key << 32 | (2048 + 129));
    assert_int_equal(disk_allocated_bytes(disk), 4 * MiB);
    assert_int_equal(disk_allocated_bytes(empty), MiB + 4096);
}

/* --- time ------------------------------------------------------------------------------------------------ */

static void test_latency(void **state)
{
    struct sim *sim = *state;
    struct disk *disk = make_disk(sim, "d", "{\"latency\": \"10us\", \"per-kib\": \"100ns\"}");

    io_run(disk, SIM_OP_WRITE, 0, 64 * KiB, 0);
    assert_int_equal(sim_now(sim), 16400);
    io_run(disk, SIM_OP_FLUSH, 0, 0, 0);
    assert_int_equal(sim_now(sim), 26400);
    disk_set_latency(disk, 1000);
    io_run(disk, SIM_OP_WRITE_ZEROES, 0, MiB, 0);
    assert_int_equal(sim_now(sim), 27400);
}

static void test_latency_choice(void **state)
{
    struct sim *sim = *state;
    struct disk *disk = make_disk(sim, "d", "{\"latency\": 1000, \"per-kib\": 0}");
    uint32_t seen = 0;

    sim_choice_set_policy(sim, SIM_POLICY_RANDOM);
    for (int i = 0; i < 60; i++) {
        int64_t start = sim_now(sim);
        io_run(disk, SIM_OP_WRITE, i * 4096, 4096, 0);
        int64_t factor = (sim_now(sim) - start) / 1000;
        assert_true(factor == 1 || factor == 2 || factor == 4 || factor == 16);
        seen |= 1u << factor;
    }
    assert_int_equal(seen, 1u << 1 | 1u << 2 | 1u << 4 | 1u << 16);
}

static void test_slots(void **state)
{
    struct disk *disk = make_disk(*state, "d", "{\"latency\": 1000, \"per-kib\": 0, \"queue-depth\": 2}");
    struct io io[5];
    struct io *order[6] = {0};

    for (int i = 0; i < 5; i++) {
        io_write_tags(&io[i], disk, i * 4096, 4096, 1, 0);
        io[i].log = order;
    }
    assert_int_equal(disk_in_flight(disk), 5);
    settle(disk);
    assert_int_equal(disk_in_flight(disk), 0);
    for (int i = 0; i < 5; i++) {
        assert_ptr_equal(order[i], &io[i]);
        assert_int_equal(io[i].done_ns, 1000 * (i / 2 + 1));
        payload_clear(&io[i].data);
    }
    assert_true(sim_mark_hits(*state, MARK_disk_queue_full) > 0);
}

static void test_reorder(void **state)
{
    struct sim *sim = *state;
    struct disk *disk = make_disk(sim, "d", "{\"latency\": 1000, \"per-kib\": 0, \"queue-depth\": 1}");
    struct io io[8];
    struct io *order[9] = {0};
    bool reordered = false;

    sim_choice_set_policy(sim, SIM_POLICY_RANDOM);
    for (int i = 0; i < 8; i++) {
        io_write_tags(&io[i], disk, i * 4096, 4096, 1, 0);
        io[i].log = order;
    }
    settle(disk);
    for (int i = 0; i < 8; i++) {
        reordered = reordered || order[i] != &io[i];
        payload_clear(&io[i].data);
    }
    assert_true(reordered);
}

/* The effect of a write falls on the start of service or on completion: what a guest changes in between shows. */
static void test_moment(void **state)
{
    struct sim *sim = *state;
    struct disk *disk = make_disk(sim, "d", "{}");
    unsigned early = 0;

    sim_choice_set_policy(sim, SIM_POLICY_RANDOM);
    for (int i = 0; i < 40; i++) {
        struct io io;
        io_write_tags(&io, disk, i * 4096, 4096, 1, 0);
        payload_clear(&io.data);
        payload_append_tags(&io.data, 1000, 8);
        settle(disk);
        payload_clear(&io.data);
        early += tag_at(disk, i * 4096, false) == 1;
    }
    assert_true(early > 5 && early < 35);
}

/* --- capacity -------------------------------------------------------------------------------------------- */

static void test_enospc(void **state)
{
    struct sim *sim = *state;
    struct disk *disk = make_disk(sim, "d", "{\"capacity\": \"20k\"}");

    assert_int_equal(io_run(disk, SIM_OP_WRITE, 0, 16384, 0), 0);
    assert_int_equal(io_run(disk, SIM_OP_WRITE, 16384, 8192, 0), -ENOSPC);
    assert_int_equal(disk_length(disk), 16384);
    assert_int_equal(io_run(disk, SIM_OP_WRITE, 512, 8192, 0), 0);
    assert_int_equal(io_run(disk, SIM_OP_WRITE_ZEROES, 16384, 8192, 0), -ENOSPC);
    assert_int_equal(io_run(disk, SIM_OP_WRITE_ZEROES, 16384, 8192, DISK_REQ_MAY_UNMAP), 0);
    assert_int_equal(disk_allocated_bytes(disk), 16384);
    disk_set_capacity(disk, 24 * KiB + 5);
    assert_int_equal(io_run(disk, SIM_OP_WRITE, 16384, 8192, 0), 0);
    assert_int_equal(io_run(disk, SIM_OP_WRITE, 24576, 512, 0), -ENOSPC);
    assert_int_equal(io_run(disk, SIM_OP_DISCARD, 0, 4096, 0), 0);
    assert_int_equal(io_run(disk, SIM_OP_WRITE, 24576, 512, 0), 0);
    assert_true(sim_mark_hits(sim, MARK_disk_enospc) == 3);
}

static void test_enospc_prefix(void **state)
{
    struct sim *sim = *state;
    uint32_t seen = 0;

    for (uint64_t seed = 0; seed < 40; seed++) {
        sim_choice_set_seed(sim, seed);
        sim_choice_set_policy(sim, SIM_POLICY_RANDOM);
        struct disk *disk = make_disk(sim, "d", "{\"capacity\": \"12k\"}");
        assert_int_equal(run_write_tags(disk, 512, 8 * 4096, 1, 0), -ENOSPC);
        int64_t units = disk_allocated_bytes(disk) / 4096;
        assert_true(units <= 3);
        assert_int_equal(disk_length(disk), units * 4096);
        if (units > 0) {
            assert_int_equal(tag_at(disk, units * 4096 - 512, false), (uint64_t)units * 8 - 1);
        }
        seen |= 1u << units;
        sim_reset(sim);
    }
    assert_int_equal(seen, 0xf);
}

/* --- interposers ----------------------------------------------------------------------------------------- */

static void test_interposer_error(void **state)
{
    struct sim *sim = *state;
    struct disk *disk = make_disk(sim, "d", "{\"latency\": 1000, \"per-kib\": 0}");
    struct bend bend = {.base = {.before = bend_before, .at_effect = bend_at_effect}, .ret = -EIO, .extra_ns = 7};

    disk_add_interposer(disk, &bend.base);
    assert_int_equal(run_write_tags(disk, 0, 4096, 1, 0), -EIO);
    assert_int_equal(sim_now(sim), 1007);
    assert_int_equal(disk_allocated_bytes(disk), 0);
    assert_int_equal(io_run(disk, SIM_OP_GETLENGTH, 0, 0, 0), -EIO);
    assert_int_equal(io_run(disk, SIM_OP_OPEN, 0, 0, 0), -EIO);
    bend.ret = 0;
    bend.lose = true;
    assert_int_equal(run_write_tags(disk, 0, 4096, 1, 0), 0);
    assert_int_equal(disk_length(disk), 0);
    bend.lose = false;
    bend.shift = 512;
    assert_int_equal(run_write_tags(disk, 0, 4096, 1, 0), 0);
    assert_int_equal(tag_at(disk, 512, false), 1);
    disk_remove_interposer(disk, &bend.base);
    assert_int_equal(run_write_tags(disk, 0, 4096, 1, 0), 0);
    assert_int_equal(tag_at(disk, 0, false), 1);
}

static void test_error_prefix(void **state)
{
    struct sim *sim = *state;
    struct bend bend = {.base = {.before = bend_before}, .ret = -EIO};
    unsigned partial = 0;

    sim_choice_set_policy(sim, SIM_POLICY_RANDOM);
    struct disk *disk = make_disk(sim, "d", "{}");
    disk_add_interposer(disk, &bend.base);
    for (int i = 0; i < 30; i++) {
        int64_t base = i * 8192;
        assert_int_equal(run_write_tags(disk, base, 8192, 1, 0), -EIO);
        int sectors = 0;
        while (sectors < 16 && tag_at(disk, base + sectors * 512, false) == 1 + (uint64_t)sectors) {
            sectors++;
        }
        assert_true(reads_zero(disk, base + sectors * 512, 8192 - sectors * 512));
        partial += sectors > 0 && sectors < 16;
    }
    assert_true(partial > 10);
}

static void test_stuck(void **state)
{
    struct sim *sim = *state;
    struct disk *disk = make_disk(sim, "d", "{\"latency\": 1000, \"per-kib\": 0}");
    struct bend bend = {.base = {.before = bend_before}, .stuck = true};
    struct io io;

    disk_add_interposer(disk, &bend.base);
    io_write_tags(&io, disk, 0, 4096, 1, 0);
    settle(disk);
    assert_false(io.done);
    assert_int_equal(disk_in_flight(disk), 1);
    assert_int_equal(sim_work_pending(sim), 0);
    assert_int_equal(disk_release_stuck(disk), 1);
    settle(disk);
    assert_true(io.done);
    assert_int_equal(sim_now(sim), 1000);
    payload_clear(&io.data);
}

/* --- hosts, coroutines ----------------------------------------------------------------------------------- */

struct guest {
    struct disk *disk;
    int ret;
    int64_t length;
    struct payload data;
};

static void guest_main(void *opaque)
{
    struct guest *guest = opaque;

    payload_append_tags(&guest->data, 77, 16);
    guest->ret = disk_co_write(guest->disk, 4096, 8192, &guest->data, 0);
    payload_clear(&guest->data);
    guest->ret = guest->ret != 0 ? guest->ret : disk_co_read(guest->disk, 4608, 512, &guest->data);
    guest->ret = guest->ret != 0 ? guest->ret : disk_co_flush(guest->disk);
    guest->ret = guest->ret != 0 ? guest->ret : disk_co_discard(guest->disk, 0, 8192);
    guest->ret = guest->ret != 0 ? guest->ret : disk_co_write_zeroes(guest->disk, 8192, 4096, 0);
    guest->ret = guest->ret != 0 ? guest->ret : disk_co_truncate(guest->disk, 16384);
    guest->length = disk_co_getlength(guest->disk);
}

static void test_coroutines(void **state)
{
    struct sim *sim = *state;
    struct guest guest = {.disk = make_disk(sim, "d", "{}"), .ret = 1};
    uint64_t tag = 0;

    payload_init(sim, &guest.data);
    coroutine_start(coroutine_create(sim, NULL, "guest", guest_main, &guest));
    settle(guest.disk);
    assert_int_equal(guest.ret, 0);
    assert_int_equal(guest.length, 16384);
    assert_true(payload_sector_tag(&guest.data, 0, &tag));
    assert_int_equal(tag, 78);
    assert_int_equal(disk_allocated_bytes(guest.disk), 4096);
    payload_clear(&guest.data);
}

static void test_host_crash(void **state)
{
    struct sim *sim = *state;
    unsigned took = 0;

    for (uint64_t seed = 0; seed < 24; seed++) {
        sim_choice_set_seed(sim, seed);
        sim_choice_set_policy(sim, SIM_POLICY_RANDOM);
        struct disk *disk = make_disk(sim, "d", "{\"queue-depth\": 1}");
        struct host *host = host_new(sim, "a");
        struct guest guest = {.disk = disk};
        struct io other;
        payload_init(sim, &guest.data);
        coroutine_start(coroutine_create(sim, host, "guest", guest_main, &guest));
        sim_run(sim, NULL, NULL, 1);
        assert_int_equal(disk_in_flight(disk), 1);
        io_write_tags(&other, disk, MiB, 512, 5, 0);
        host_crash(host);
        assert_int_equal(disk_in_flight(disk), 1);
        settle(disk);
        assert_true(other.done);
        took += tag_at(disk, 4096, false) == 77;
        payload_clear(&other.data);
        sim_reset(sim);
    }
    assert_true(took > 2 && took < 24);
}

/* --- snapshots, pokes ------------------------------------------------------------------------------------ */

static void test_snapshot(void **state)
{
    struct sim *sim = *state;
    struct disk *disk = make_disk(sim, "d", "{\"content\": \"stamp\", \"size\": \"64M\"}");
    uint64_t before = tag_at(disk, MiB, false);
    struct payload p;
    uint64_t tag = 0;

    struct disk_snapshot *snapshot = disk_snapshot_take(disk);
    run_write_tags(disk, MiB, 4096, 1, 0);
    io_run(disk, SIM_OP_TRUNCATE, 2 * MiB, 0, 0);
    payload_init(sim, &p);
    disk_snapshot_peek(snapshot, MiB, 512, &p);
    assert_true(payload_sector_tag(&p, 0, &tag));
    assert_int_equal(tag, before);
    payload_clear(&p);
    disk_snapshot_restore(disk, snapshot);
    assert_int_equal(disk_length(disk), 64 * MiB);
    assert_int_equal(disk_allocated_bytes(disk), 64 * MiB);
    assert_int_equal(tag_at(disk, MiB, false), before);
    assert_int_equal(tag_at(disk, MiB, true), before);
    disk_snapshot_delete(disk, snapshot);
    run_write_tags(disk, MiB, 4096, 1, 0);
    assert_int_equal(tag_at(disk, MiB, false), 1);
    assert_int_equal(sim_arena_live(sim_arena(sim), SIM_TYPE_disk_snapshot), 0);
}

static void test_poke(void **state)
{
    struct sim *sim = *state;
    struct disk *disk = make_disk(sim, "d", "{\"capacity\": \"4k\"}");
    struct payload p;

    payload_init(sim, &p);
    payload_append_tags(&p, 10, 32);
    disk_poke(disk, 4096, &p);
    assert_int_equal(disk_length(disk), 20480);
    run_write_tags(disk, 4096, 512, 99, 0);
    disk_poke(disk, 8192, &p);
    disk_power_loss(disk);
    assert_int_equal(tag_at(disk, 4096, false), 10);
    assert_int_equal(tag_at(disk, 8192, false), 10);
    payload_clear(&p);
}

/* --- determinism ----------------------------------------------------------------------------------------- */

static uint64_t noisy_run(struct sim *sim, uint64_t seed)
{
    struct disk *disk = make_disk(sim, "d", "{\"queue-depth\": 3, \"capacity\": \"600k\"}");
    static struct io io[50];

    rng_state = 3;
    sim_choice_set_seed(sim, seed);
    sim_choice_set_policy(sim, SIM_POLICY_RANDOM);
    for (int i = 0; i < 50; i++) {
        io_init(&io[i], disk);
        int64_t offset = (int64_t)rng(200) * 4096;
        if (rng(8) == 0) {
            io_start(&io[i], disk, SIM_OP_FLUSH, 0, 0, 0);
        } else if (rng(3) == 0) {
            io_start(&io[i], disk, SIM_OP_READ, offset / 2, 4096, 0);
        } else {
            payload_append_tags(&io[i].data, (uint64_t)i << 32, 64);
            io_start(&io[i], disk, SIM_OP_WRITE, offset, 32768, 0);
        }
    }
    settle(disk);
    disk_power_loss(disk);
    uint64_t hash = sim_trace_hash(sim);
    sim_reset(sim);
    return hash;
}

static void test_determinism(void **state)
{
    struct sim *fresh = sim_new();
    uint64_t first = noisy_run(*state, 5);

    assert_int_equal(noisy_run(*state, 5), first);
    assert_int_not_equal(noisy_run(*state, 6), first);
    assert_int_equal(noisy_run(fresh, 5), first);
    sim_delete(fresh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("/disk/read/end", test_read_end),
        TEST("/disk/device", test_device),
        TEST("/disk/switched-off", test_switched_off),
        TEST("/disk/status", test_status),
        TEST("/disk/sparse-memory", test_sparse_memory),
        TEST("/disk/stamp", test_stamp),
        TEST("/disk/zero-data", test_zero_data),
        TEST("/disk/latency/calm", test_latency),
        TEST("/disk/latency/choice", test_latency_choice),
        TEST("/disk/slots", test_slots),
        TEST("/disk/reorder", test_reorder),
        TEST("/disk/moment", test_moment),
        TEST("/disk/enospc/relief", test_enospc),
        TEST("/disk/enospc/prefix", test_enospc_prefix),
        TEST("/disk/interposer/error", test_interposer_error),
        TEST("/disk/interposer/prefix", test_error_prefix),
        TEST("/disk/interposer/stuck", test_stuck),
        TEST("/disk/coroutines", test_coroutines),
        TEST("/disk/host-crash", test_host_crash),
        TEST("/disk/snapshot", test_snapshot),
        TEST("/disk/poke", test_poke),
        TEST("/disk/determinism", test_determinism),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
