/* Protects: the content, accounting and timing of a medium as its requests promise them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/disk.h"

static uint64_t rng_state;

static uint64_t rng(uint64_t n)
{
    rng_state += UINT64_C(0x9e3779b97f4a7c15);
    return sim_mix64(rng_state) % n;
}

static int setup(void **state)
{
    *state = sim_new();
    rng_state = 7;
    return 0;
}

static int teardown(void **state)
{
    sim_delete(*state);
    return 0;
}

static struct disk *make_disk(struct sim *sim, const char *name, const char *json)
{
    struct disk_config config;
    Error *err = NULL;
    struct qvalue *dict = qvalue_from_json(json, strlen(json), &err);

    assert_non_null(dict);
    assert_true(disk_config_parse(dict, &config, &err));
    qvalue_free(dict);
    struct disk *disk = disk_new(sim, name, &config, &err);
    assert_non_null(disk);
    return disk;
}

/* A request with its outcome, submitted from outside of coroutines. */
struct io {
    struct disk_req req;
    struct payload data;
    int ret;
    bool done;
    int64_t done_ns;
    struct io **log; /* where the order of completions goes */
};

static void io_done(void *opaque, int ret)
{
    struct io *io = opaque;

    io->ret = ret;
    io->done = true;
    io->done_ns = sim_now(disk_sim(io->req.disk));
    if (io->log != NULL) {
        while (*io->log != NULL) {
            io->log++;
        }
        *io->log = io;
    }
}

static void io_start(struct io *io, struct disk *disk, enum sim_op op, int64_t offset, int64_t bytes, uint32_t flags)
{
    io->done = false;
    io->req.disk = disk;
    io->req.op = op;
    io->req.flags = flags;
    io->req.offset = offset;
    io->req.bytes = bytes;
    io->req.in = &io->data;
    io->req.out = &io->data;
    io->req.done = io_done;
    io->req.opaque = io;
    disk_submit(disk_sim(disk), &io->req);
}

static void io_init(struct io *io, struct disk *disk)
{
    memset(io, 0, sizeof(*io));
    payload_init(disk_sim(disk), &io->data);
}

/* Submits a write of tags and returns at once. */
static void io_write_tags(struct io *io, struct disk *disk, int64_t offset, int64_t bytes, uint64_t tag,
                          uint32_t flags)
{
    io_init(io, disk);
    payload_append_tags(&io->data, tag, bytes / SIM_SECTOR_BYTES);
    io_start(io, disk, SIM_OP_WRITE, offset, bytes, flags);
}

static void settle(struct disk *disk)
{
    assert_int_equal(sim_run(disk_sim(disk), NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
}

static int io_run(struct disk *disk, enum sim_op op, int64_t offset, int64_t bytes, uint32_t flags)
{
    struct io io;

    io_init(&io, disk);
    if (op == SIM_OP_WRITE) {
        payload_append_fill(&io.data, 0xaa, bytes);
    }
    io_start(&io, disk, op, offset, bytes, flags);
    settle(disk);
    assert_true(io.done);
    payload_clear(&io.data);
    return io.ret;
}

static int run_write_tags(struct disk *disk, int64_t offset, int64_t bytes, uint64_t tag, uint32_t flags)
{
    struct io io;

    io_write_tags(&io, disk, offset, bytes, tag, flags);
    settle(disk);
    payload_clear(&io.data);
    return io.ret;
}

/* The tag of a sector as the disk has it; UINT64_MAX when it holds none. */
static uint64_t tag_at(const struct disk *disk, int64_t offset, bool durable)
{
    struct payload p;
    uint64_t tag = UINT64_MAX;

    payload_init(disk_sim(disk), &p);
    if (durable) {
        disk_peek_durable(disk, offset, SIM_SECTOR_BYTES, &p);
    } else {
        disk_peek(disk, offset, SIM_SECTOR_BYTES, &p);
    }
    payload_sector_tag(&p, 0, &tag);
    payload_clear(&p);
    return tag;
}

static bool reads_zero(const struct disk *disk, int64_t offset, int64_t bytes)
{
    struct payload p;

    payload_init(disk_sim(disk), &p);
    disk_peek(disk, offset, bytes, &p);
    bool zero = payload_is_zero(&p, 0, bytes);
    payload_clear(&p);
    return zero;
}

/* --- against a plain byte array -------------------------------------------------------------------------- */

#define MODEL_BYTES (3 * MiB)

struct model {
    uint8_t *bytes;
    bool *allocated; /* by unit */
    int64_t length;
    int64_t unit;
};

static void model_allocate(struct model *m, int64_t from, int64_t to)
{
    for (int64_t u = from / m->unit; from < to && u * m->unit < to; u++) {
        m->allocated[u] = true;
    }
}

static void model_free(struct model *m, int64_t from, int64_t to)
{
    to = to >= m->length ? ROUND_UP(to, m->unit) : ROUND_DOWN(to, m->unit);
    for (from = ROUND_UP(from, m->unit); from < to; from += m->unit) {
        m->allocated[from / m->unit] = false;
        memset(m->bytes + from, 0, (size_t)MIN(m->unit, MODEL_BYTES - from));
    }
}

static void model_check(const struct model *m, const struct disk *disk)
{
    struct payload p;
    uint8_t *got = malloc(MODEL_BYTES);
    int64_t count = 0;

    assert_int_equal(disk_length(disk), m->length);
    payload_init(disk_sim(disk), &p);
    disk_peek(disk, 0, MODEL_BYTES, &p);
    payload_read_bytes(&p, 0, got, MODEL_BYTES);
    payload_clear(&p);
    assert_memory_equal(got, m->bytes, MODEL_BYTES);
    free(got);
    for (int64_t u = 0; u * m->unit < MODEL_BYTES; u++) {
        count += m->allocated[u];
    }
    assert_int_equal(disk_allocated_bytes(disk), count * m->unit);
    int64_t pnum;
    for (int64_t at = 0; at < m->length; at += pnum) {
        bool zero;
        bool data = disk_status(disk, at, m->length - at, &pnum, &zero);
        assert_true(pnum > 0 && at + pnum <= m->length);
        for (int64_t i = at; i < at + pnum; i += SIM_PAGE_BYTES) {
            assert_int_equal(data, m->allocated[i / m->unit]);
        }
        assert_true(!zero || reads_zero(disk, at, pnum));
    }
}

static void model_write(struct model *m, int64_t offset, int64_t bytes, struct io *io)
{
    payload_read_bytes(&io->data, 0, m->bytes + offset, bytes);
    m->length = MAX(m->length, bytes > 0 ? offset + bytes : 0);
    model_allocate(m, offset, offset + bytes);
}

static void model_zero(struct model *m, int64_t offset, int64_t bytes, bool unmap)
{
    m->length = MAX(m->length, bytes > 0 ? offset + bytes : 0);
    memset(m->bytes + offset, 0, (size_t)bytes);
    if (unmap) {
        model_free(m, offset, offset + bytes);
    } else {
        model_allocate(m, offset, offset + bytes);
    }
}

static void model_truncate(struct model *m, int64_t length)
{
    if (length < m->length) {
        memset(m->bytes + length, 0, (size_t)(MODEL_BYTES - length));
        model_free(m, ROUND_UP(length, m->unit), m->length);
    }
    m->length = length;
}

static void random_data(struct io *io, int64_t bytes)
{
    uint8_t literal[3000];
    int64_t n = MIN(bytes, (int64_t)rng(sizeof(literal)) + 1);

    for (int64_t i = 0; i < n; i++) {
        literal[i] = (uint8_t)rng(256);
    }
    switch (rng(4)) {
    case 0:
        payload_append_fill(&io->data, (uint8_t)rng(3), bytes);
        return;
    case 1:
        payload_append_tags(&io->data, rng(1000), bytes / SIM_SECTOR_BYTES);
        payload_append_fill(&io->data, 3, bytes % SIM_SECTOR_BYTES);
        return;
    default:
        payload_append_bytes(&io->data, literal, n);
        payload_append_fill(&io->data, 5, bytes - n);
        return;
    }
}

static void random_step(struct disk *disk, struct model *m)
{
    int64_t align = disk_get_config(disk)->align_bytes;
    int64_t offset = ROUND_DOWN((int64_t)rng(2 * MiB), rng(2) == 0 ? SIM_PAGE_BYTES : align);
    int64_t most = rng(4) == 0 ? MiB : 40000;
    int64_t bytes = ROUND_DOWN((int64_t)rng((uint64_t)most), rng(2) == 0 ? SIM_PAGE_BYTES : align);
    bool fits = offset + bytes <= ROUND_UP(m->length, align);
    struct io io;

    io_init(&io, disk);
    switch (rng(6)) {
    case 0:
        io_start(&io, disk, SIM_OP_WRITE_ZEROES, offset, bytes, 0);
        settle(disk);
        model_zero(m, offset, bytes, false);
        break;
    case 1:
        io_start(&io, disk, SIM_OP_WRITE_ZEROES, offset, bytes, DISK_REQ_MAY_UNMAP);
        settle(disk);
        model_zero(m, offset, bytes, true);
        break;
    case 2:
        io_start(&io, disk, SIM_OP_DISCARD, offset, bytes, 0);
        settle(disk);
        assert_int_equal(io.ret, fits ? 0 : -EIO);
        if (fits) {
            model_free(m, offset, MIN(offset + bytes, m->length));
        }
        io.ret = 0;
        break;
    case 3:
        if (rng(3) == 0) {
            offset += (int64_t)rng(1000);
            io_start(&io, disk, SIM_OP_TRUNCATE, offset, 0, 0);
            settle(disk);
            model_truncate(m, offset);
        } else {
            io_start(&io, disk, SIM_OP_FLUSH, 0, 0, 0);
            settle(disk);
        }
        break;
    default:
        random_data(&io, bytes);
        io_start(&io, disk, SIM_OP_WRITE, offset, bytes, rng(8) == 0 ? DISK_REQ_FUA : 0);
        settle(disk);
        model_write(m, offset, bytes, &io);
        break;
    }
    assert_int_equal(io.ret, 0);
    payload_clear(&io.data);
}

static void random_disk(struct sim *sim, const char *json, int steps)
{
    struct disk *disk = make_disk(sim, "d", json);
    struct model m = {
        .bytes = calloc(1, MODEL_BYTES),
        .unit = disk_get_config(disk)->alloc_unit_bytes,
        .length = disk_length(disk),
    };
    struct payload p;

    m.allocated = calloc((size_t)(MODEL_BYTES / m.unit), sizeof(bool));
    payload_init(sim, &p);
    disk_peek(disk, 0, MODEL_BYTES, &p);
    payload_read_bytes(&p, 0, m.bytes, MODEL_BYTES);
    payload_clear(&p);
    if (disk_get_config(disk)->content == DISK_CONTENT_STAMP) {
        model_allocate(&m, 0, m.length);
    }
    for (int i = 0; i < steps; i++) {
        random_step(disk, &m);
        if (i % 8 == 0) {
            model_check(&m, disk);
        }
    }
    assert_int_equal(io_run(disk, SIM_OP_FLUSH, 0, 0, 0), 0);
    assert_int_equal(disk_unflushed(disk), 0);
    disk_power_loss(disk);
    model_check(&m, disk);
    free(m.bytes);
    free(m.allocated);
    sim_reset(sim);
}

static void test_random_default(void **state)
{
    random_disk(*state, "{}", 200);
}

static void test_random_units(void **state)
{
    random_disk(*state, "{\"alloc-unit\": \"64k\", \"align\": 1}", 150);
    random_disk(*state, "{\"alloc-unit\": \"16k\", \"align\": 4096, \"write-cache\": \"off\"}", 100);
}

static void test_random_stamp(void **state)
{
    random_disk(*state, "{\"content\": \"stamp\", \"size\": 1500000}", 150);
    random_disk(*state, "{\"content\": \"stamp\", \"size\": 1500000, \"alloc-unit\": \"64k\"}", 150);
}

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
    struct disk *disk = make_disk(*state, "d", "{\"discard\": false, \"write-zeroes\": \"off\", \"size\": \"64k\"}");
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

struct bend {
    struct disk_interposer base;
    int ret;
    int64_t extra_ns;
    bool stuck;
    bool lose;
    int64_t shift;
};

static void bend_before(struct disk_interposer *self, struct disk_req *req)
{
    struct bend *bend = container_of(self, struct bend, base);

    req->ret = bend->ret;
    req->extra_latency_ns += bend->extra_ns;
    req->stuck = bend->stuck;
}

static void bend_at_effect(struct disk_interposer *self, struct disk_req *req)
{
    struct bend *bend = container_of(self, struct bend, base);

    req->lose = bend->lose;
    req->effect_offset += bend->shift;
}

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

/* --- durability ------------------------------------------------------------------------------------------ */

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

#define TEST(name, fn) {name, fn, setup, teardown, NULL}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("/disk/random/default", test_random_default),
        TEST("/disk/random/units", test_random_units),
        TEST("/disk/random/stamp", test_random_stamp),
        TEST("/disk/read/end", test_read_end),
        TEST("/disk/device", test_device),
        TEST("/disk/switched-off", test_switched_off),
        TEST("/disk/status", test_status),
        TEST("/disk/sparse-memory", test_sparse_memory),
        TEST("/disk/stamp", test_stamp),
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
        TEST("/disk/flush/durable", test_flush),
        TEST("/disk/flush/scope", test_flush_scope),
        TEST("/disk/flush/shares", test_flush_shares),
        TEST("/disk/flush/cache-off-and-lies", test_cache_off_and_lies),
        TEST("/disk/power-loss/subsets", test_power_subsets),
        TEST("/disk/power-loss/random", test_power_random),
        TEST("/disk/power-loss/journal-off", test_journal_off),
        TEST("/disk/coroutines", test_coroutines),
        TEST("/disk/host-crash", test_host_crash),
        TEST("/disk/snapshot", test_snapshot),
        TEST("/disk/poke", test_poke),
        TEST("/disk/determinism", test_determinism),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
