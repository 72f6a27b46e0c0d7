/* Protects concurrent requests on qcow2 images: whatever overlaps, the guest sees no lost and no foreign data, the
 * image is whole afterwards, and power may fail at any write. */
#include "tests/block/qcow2_model.h"

#define K ((int64_t)1024)
#define DISK_BYTES (MiB + 3 * K)

/* --- what is drawn ------------------------------------------------------------------------------------------- */

static uint64_t draws;

static uint64_t draw(uint64_t n)
{
    draws = sim_mix64(draws + 0x9e3779b97f4a7c15ULL);
    return draws % n;
}

struct shape {
    const char *name;
    struct rig_spec spec;
    int64_t cluster;
    bool no_compressed;
    int64_t prepared; /* bytes that the image itself holds at first */
};

#define SNAPSHOT(bytes) \
    .prepare = "qemu-io -f qcow2 -c 'write -q -P 0xbb 0 " #bytes "' $F && qemu-img snapshot -c one $F"
#define OVER_SHORT .backing = 300 * K, .backing_gap = 64 * K
#define OVER_LONG .backing = 2 * MiB, .backing_gap = 64 * K

/* What is freed keeps its content: whoever shows it shows something foreign. */
#define NO_DISCARD .open = "'pass-discard-request':false"

static const struct shape shapes[] = {
    {.name = "64k", .cluster = 64 * K, .spec = {.size = DISK_BYTES}},
    {.name = "512", .cluster = 512, .spec = {.create = "cluster_size=512", .size = DISK_BYTES, OVER_SHORT}},
    {.name = "4k-over",
     .cluster = 4 * K,
     .spec = {.create = "cluster_size=4k", .size = DISK_BYTES, NO_DISCARD, OVER_LONG}},
    {.name = "16k-ext",
     .cluster = 16 * K,
     .spec = {.create = "cluster_size=16k,extended_l2=on", .size = DISK_BYTES, OVER_SHORT}},
    {.name = "64k-ext", .cluster = 64 * K, .spec = {.create = "extended_l2=on", .size = DISK_BYTES, OVER_LONG}},
    {.name = "lazy",
     .cluster = 4 * K,
     .spec = {.create = "cluster_size=4k,lazy_refcounts=on", .size = DISK_BYTES, NO_DISCARD}},
    {.name = "ext-lazy",
     .cluster = 16 * K,
     .spec = {.create = "cluster_size=16k,extended_l2=on,lazy_refcounts=on", .size = DISK_BYTES, NO_DISCARD}},
    {.name = "data-file",
     .cluster = 4 * K,
     .no_compressed = true,
     .spec = {.create = "cluster_size=4k", .size = DISK_BYTES, NO_DISCARD, .data_file = true}},
    {.name = "raw-file",
     .cluster = 4 * K,
     .no_compressed = true,
     .spec = {.create = "cluster_size=4k", .size = DISK_BYTES, .data_file = true, .data_file_raw = true}},
    {.name = "v2",
     .cluster = 4 * K,
     .spec = {.create = "compat=0.10,cluster_size=4k", .size = DISK_BYTES, OVER_SHORT}},
    {.name = "no-unref",
     .cluster = 4 * K,
     .spec = {.create = "cluster_size=4k", .size = DISK_BYTES, .open = "'discard-no-unref':true"}},
    {.name = "small-cache",
     .cluster = 512,
     .spec = {.create = "cluster_size=512",
              .size = DISK_BYTES,
              .open = "'l2-cache-size':1024,'refcount-cache-size':1024"}},
    {.name = "snapshot",
     .cluster = 512,
     .prepared = 64 * K,
     .spec = {.create = "cluster_size=512", .size = DISK_BYTES, SNAPSHOT(64k)}},
    {.name = "snapshot-ext",
     .cluster = 16 * K,
     .prepared = 200 * K,
     .spec = {.create = "cluster_size=16k,extended_l2=on", .size = DISK_BYTES, SNAPSHOT(200k)}},
    {.name = "width-1", .cluster = 512, .spec = {.create = "cluster_size=512,refcount_bits=1", .size = DISK_BYTES}},
};

static const struct shape *shape;

static uint8_t before(int64_t offset)
{
    const struct rig_spec *s = &shape->spec;

    if (offset < shape->prepared) {
        return RIG_BELOW;
    }
    return s->backing > 0 && offset >= s->backing_gap && offset < s->backing ? RIG_BELOW : 0;
}

/* Somewhere near the beginning, so that requests meet; mostly of few clusters. */
static void draw_range(struct rq *r)
{
    int64_t window = MIN(DISK_BYTES, shape->cluster * 24);
    int64_t start = draw(4) == 0 ? DISK_BYTES - window : 0;

    r->offset = start + (int64_t)draw((uint64_t)window / 512) * 512;
    r->bytes = (1 + (int64_t)draw((uint64_t)shape->cluster * (draw(3) == 0 ? 6 : 1) / 512 + 8)) * 512;
    if (draw(3) == 0) {
        r->offset = r->offset / shape->cluster * shape->cluster;
        r->bytes = ROUND_UP(r->bytes, shape->cluster);
    }
    r->bytes = MIN(r->bytes, DISK_BYTES - r->offset);
}

static struct rq draw_op(unsigned number)
{
    static const char kinds[] = "wwwwwwwzuddfrrc";
    struct rq r = {.op = kinds[draw(sizeof(kinds) - 1)], .fill = (uint8_t)(number % 250 + 1)};

    if (r.fill == RIG_BELOW) {
        r.fill = 251;
    }
    if (r.op == OP_FLUSH) {
        return r;
    }
    draw_range(&r);
    if (r.op == OP_COMPRESSED) {
        r.op = shape->no_compressed ? OP_WRITE : OP_COMPRESSED;
        r.offset = r.offset / shape->cluster * shape->cluster;
        r.bytes = MIN(shape->cluster, DISK_BYTES - r.offset);
    }
    return r;
}

/* --- running ------------------------------------------------------------------------------------------------- */

static struct rq ops[MODEL_OPS];
static struct model model = {.ops = ops, .before = before};
static unsigned in_flight_most;

static unsigned in_flight(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < model.count; i++) {
        count += !ops[i].done;
    }
    return count;
}

static bool room(void *opaque)
{
    return in_flight() < in_flight_most;
}

static void begin_ops(uint64_t seed, const struct shape *of)
{
    draws = seed;
    shape = of;
    model.count = 0;
    rig_instant = 0;
    in_flight_most = 1 + (unsigned)draw(6);
}

/* False: the world was halted. */
static bool run_ops(unsigned count)
{
    while (model.count < count) {
        struct rq *r = &ops[model.count];
        *r = draw_op(model.count);
        r->got = r->op == OP_READ ? malloc((size_t)r->bytes) : NULL;
        model.count++;
        spawn(r);
        if (sim_run(world, room, NULL, INT64_MAX) == SIM_STOP_HALTED) {
            return false;
        }
    }
    return sim_run(world, NULL, NULL, INT64_MAX) == SIM_STOP_SETTLED;
}

static void end_ops(void)
{
    for (unsigned i = 0; i < model.count; i++) {
        free(ops[i].got);
        ops[i].got = NULL;
    }
}

static void print_ops(int64_t at)
{
    for (unsigned i = 0; i < model.count; i++) {
        const struct rq *r = &ops[i];
        bool there = r->offset <= at && at < r->offset + r->bytes;
        fprintf(stderr, "%c%3u %c %8lld +%-7lld %02x  %llu..%llu = %d\n", there ? '*' : ' ', i, r->op,
                (long long)r->offset, (long long)r->bytes, r->fill, (unsigned long long)r->begun,
                (unsigned long long)r->ended, r->done ? r->ret : 1);
    }
}

static void fail_at(uint64_t seed, int64_t at, const uint8_t *got, int64_t offset)
{
    print_ops(at);
    fail_msg("%s seed %llu: %#x at %lld cannot be", shape->name, (unsigned long long)seed, got[at - offset],
             (long long)at);
}

static struct {
    struct disk_interposer interposer;
    unsigned one_in; /* 0: none */
    uint64_t draws;
} errors;

static void check_reads(uint64_t seed)
{
    for (unsigned i = 0; i < model.count; i++) {
        const struct rq *r = &ops[i];
        if (r->op != OP_READ || !r->done) {
            continue;
        }
        if (r->ret == -EIO && errors.one_in > 0) {
            continue; /* a table had to make room, and could not be written */
        }
        assert_int_equal(r->ret, 0);
        int64_t at = model_check(&model, r->offset, r->bytes, r->got, r->begun, r->ended);
        if (at >= 0) {
            fail_at(seed, at, r->got, r->offset);
        }
    }
}

static void check_all(uint64_t seed, uint64_t since)
{
    struct rq all = {.op = OP_READ, .bytes = DISK_BYTES, .got = malloc(DISK_BYTES)};

    spawn(&all);
    settle();
    assert_true(all.done);
    if (all.ret != 0) {
        print_ops(-1);
        fail_msg("%s seed %llu: read: %d", shape->name, (unsigned long long)seed, all.ret);
    }
    int64_t at = model_check(&model, 0, DISK_BYTES, all.got, since, UINT64_MAX);
    if (at >= 0) {
        fail_at(seed, at, all.got, 0);
    }
    free(all.got);
}

static bool may_fail(const struct rq *r)
{
    return r->op == OP_COMPRESSED && r->ret == -EIO; /* over data: refused (5.2) */
}

static void check_results(uint64_t seed)
{
    for (unsigned i = 0; i < model.count; i++) {
        if (!ops[i].done || (ops[i].ret != 0 && !may_fail(&ops[i]))) {
            print_ops(-1);
            fail_msg("%s seed %llu: request %u: %d", shape->name, (unsigned long long)seed, i, ops[i].ret);
        }
    }
}

/* The file beside the entries must say the same. */
static void check_raw_file(uint64_t seed)
{
    uint8_t *got = malloc(DISK_BYTES);
    struct payload p;

    payload_init(world, &p);
    disk_peek(rig.data, 0, DISK_BYTES, &p);
    payload_read_bytes(&p, 0, got, DISK_BYTES);
    payload_clear(&p);
    struct rq all = {.op = OP_READ, .bytes = DISK_BYTES, .got = malloc(DISK_BYTES)};
    spawn(&all);
    settle();
    for (int64_t i = 0; i < DISK_BYTES; i++) {
        if (got[i] != all.got[i]) {
            print_ops(i);
            fail_msg("%s seed %llu: the file says %#x at %lld, the image %#x", shape->name,
                     (unsigned long long)seed, got[i], (long long)i, all.got[i]);
        }
    }
    free(all.got);
    free(got);
}

/* What a snapshot keeps nobody may change. */
static void check_snapshot(void)
{
    struct payload p;

    if (shape->prepared == 0) {
        return;
    }
    payload_init(world, &p);
    struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(rig.disk));
    assert_true(qcow2_image_view(image, 0, 0, DISK_BYTES, NULL, NULL, &p));
    for (int64_t at = 0; at < DISK_BYTES; at += SIM_SECTOR_BYTES) {
        uint64_t id = at < shape->prepared ? sim_sector_id_fill(RIG_BELOW) : sim_sector_id_zero();
        assert_int_equal(payload_sector_id(&p, at / SIM_SECTOR_BYTES), id);
    }
    qcow2_image_free(image);
    payload_clear(&p);
}

static unsigned env_number(const char *name, unsigned otherwise)
{
    const char *value = getenv(name);

    return value ? (unsigned)strtoul(value, NULL, 10) : otherwise;
}

/* fact: qcow2 5.4/one-allocation, 5.2/cow, edge/38, edge/50 */
static void test_concurrent(void **state)
{
    unsigned seeds = env_number("QCOW2_SEEDS", 6);

    for (unsigned i = 0; i < ARRAY_SIZE(shapes) * seeds; i++) {
        uint64_t seed = env_number("QCOW2_FIRST", 0) + i / ARRAY_SIZE(shapes);
        begin_ops(seed, &shapes[i % ARRAY_SIZE(shapes)]);
        rig_begin(shape->spec);
        sim_choice_set_policy(world, SIM_POLICY_RANDOM);
        sim_choice_set_seed(world, seed);
        errors.one_in = 0;
        if (!run_ops(80)) {
            sim_dump_hang(world, stderr);
            fail();
        }
        check_results(seed);
        check_reads(seed);
        check_all(seed, UINT64_MAX);
        if (shape->spec.data_file_raw) {
            check_raw_file(seed);
        }
        end_ops();
        rig_close();
        if (i % 4 == 0 && !shape->spec.data_file) {
            assert_int_equal(qemu_img_check(), 0);
        }
        rig_judge(0);
        check_snapshot();
        sim_delete(world);
    }
}

/* --- errors -------------------------------------------------------------------------------------------------- */

static void maybe_fail(struct disk_interposer *self, struct disk_req *req)
{
    bool may = req->op == SIM_OP_WRITE || req->op == SIM_OP_FLUSH || req->op == SIM_OP_WRITE_ZEROES;

    errors.draws = sim_mix64(errors.draws + 0x9e3779b97f4a7c15ULL);
    if (may && errors.one_in > 0 && errors.draws % errors.one_in == 0) {
        req->ret = -EIO;
    }
}

static void begin_errors(uint64_t seed, unsigned one_in)
{
    memset(&errors, 0, sizeof(errors));
    errors.one_in = one_in;
    errors.draws = seed;
    errors.interposer.before = maybe_fail;
    disk_add_interposer(rig.disk, &errors.interposer);
}

static void end_errors(void)
{
    disk_remove_interposer(rig.disk, &errors.interposer);
}

/* Writes and flushes of the file fail now and then: requests end, nothing is lost that was said to be done, and
 * when the file is well again everything can be written out. fact: qcow2 6/failed-flush */
static void test_errors(void **state)
{
    unsigned seeds = env_number("QCOW2_SEEDS", 3);

    for (unsigned i = 0; i < ARRAY_SIZE(shapes) * seeds; i++) {
        uint64_t seed = 500 + env_number("QCOW2_FIRST", 0) + i / ARRAY_SIZE(shapes);
        begin_ops(seed, &shapes[i % ARRAY_SIZE(shapes)]);
        rig_begin(shape->spec);
        sim_choice_set_policy(world, SIM_POLICY_RANDOM);
        sim_choice_set_seed(world, seed);
        begin_errors(seed, 10 + (unsigned)(seed % 3) * 20);
        assert_true(run_ops(80));
        disk_remove_interposer(rig.disk, &errors.interposer);
        check_reads(seed);
        errors.one_in = 0;
        check_all(seed, UINT64_MAX);
        end_ops();
        IO(OP_FLUSH, 0, 0, 0);
        rig_judge(QCOW2_ALLOW_LEAKS | QCOW2_ALLOW_DIRTY);
        rig_close();
        rig_judge(QCOW2_ALLOW_LEAKS);
        check_snapshot();
        sim_delete(world);
    }
}

/* --- power --------------------------------------------------------------------------------------------------- */

static struct {
    struct disk_interposer interposer;
    unsigned changes; /* seen so far */
    unsigned cut_at;  /* halt at this one; 0: never */
} cutter;

static void count_change(struct disk_interposer *self, struct disk_req *req)
{
    if (req->op == SIM_OP_READ || req->op == SIM_OP_GETLENGTH || req->op == SIM_OP_BLOCK_STATUS) {
        return;
    }
    if (++cutter.changes == cutter.cut_at) {
        sim_halt(world);
    }
}

static void begin_cut(uint64_t seed, unsigned cut_at)
{
    rig_begin(shape->spec);
    sim_choice_set_policy(world, SIM_POLICY_RANDOM);
    sim_choice_set_seed(world, seed);
    memset(&cutter, 0, sizeof(cutter));
    cutter.cut_at = cut_at;
    cutter.interposer.at_effect = count_change;
    disk_add_interposer(rig.disk, &cutter.interposer);
    begin_errors(seed, seed % 2 == 0 ? 0 : 20);
}

static void power_off(enum disk_keep keep)
{
    disk_remove_interposer(rig.disk, &cutter.interposer);
    end_errors();
    host_crash(host);
    disk_power_loss_keeping(rig.disk, keep);
    if (rig.data) {
        disk_power_loss_keeping(rig.data, keep);
    }
    /* What was asked for and never answered may have happened or not. */
}

/* False: the workload was over before the cut. */
static bool cut(uint64_t seed, unsigned cut_at, enum disk_keep keep, unsigned count)
{
    begin_ops(seed, shape);
    begin_cut(seed, cut_at);
    bool over = run_ops(count);
    if (over) {
        disk_remove_interposer(rig.disk, &cutter.interposer);
        end_errors();
        end_ops();
        rig_close();
        sim_delete(world);
        return false;
    }
    power_off(keep);
    rig_judge(QCOW2_ALLOW_LEAKS | QCOW2_ALLOW_DIRTY);
    rig_boot("h2");
    check_all(seed, safe_until(&model));
    end_ops();
    rig_close();
    rig_judge(QCOW2_ALLOW_LEAKS);
    check_snapshot();
    sim_delete(world);
    return true;
}

/* fact: qcow2 6/opens, 6/only-leaks, 6/flushed, 6/never-foreign, 6/early-reuse, edge/44 */
static void test_power(void **state)
{
    unsigned seeds = env_number("QCOW2_POWER_SEEDS", 1);
    unsigned step = env_number("QCOW2_POWER_STEP", 7);

    for (unsigned i = 0; i < ARRAY_SIZE(shapes) * seeds; i++) {
        uint64_t seed = 1000 + env_number("QCOW2_FIRST", 0) + i / ARRAY_SIZE(shapes);
        shape = &shapes[i % ARRAY_SIZE(shapes)];
        for (unsigned at = 1 + i % step; cut(seed, at, (enum disk_keep)((at + i) % 3), 32); at += step) {
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/random/concurrent", test_concurrent),
        T("/qcow2/random/errors", test_errors),
        T("/qcow2/random/power", test_power),
    };
    return cmocka_run_group_tests_name("qcow2 random", tests, NULL, NULL);
}
