/* Protects: content, length and allocation of a medium equal those of a plain byte array. */
#include "tests/sim/disk_util.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("/disk/random/default", test_random_default),
        TEST("/disk/random/units", test_random_units),
        TEST("/disk/random/stamp", test_random_stamp),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
