/* Protects qcow2 images under random guests: small clusters, every width of counts, small caches, many requests at
 * a time; the power may fail before any write, and nothing worse than leaks may be found. */
#include "tests/block/qcow2_meta.h"

#include <stdio.h>
#include <unistd.h>

#define SECTORS 1024 /* of the guest's disk */
#define SLOTS 6      /* requests at a time */

enum op { WRITE, ZEROES, UNMAP, DISCARD, COMPRESSED, READ, OP_COUNT };

struct slot {
    struct guest *g;
    unsigned index;
    enum op op;
    int64_t sector, count; /* where */
    uint8_t fill;
    bool busy;
};

/* Requests at a time never overlap: each slot has sectors of its own in every round. */
struct guest {
    struct q2 *q;
    BlockBackend *blk;
    uint64_t random;
    unsigned rounds;
    bool faults;
    uint8_t model[SECTORS];
    bool unknown[SECTORS]; /* a request on it failed */
    struct slot slots[SLOTS];
    unsigned busy;
    uint64_t failed;
};

static uint64_t draw(struct guest *g, uint64_t n)
{
    g->random = sim_mix64(g->random + 1);
    return g->random % n;
}

static int64_t per_cluster(const struct guest *g)
{
    return q2_cluster(g->q, 1) / SIM_SECTOR_BYTES;
}

static int request(struct slot *slot, struct payload *p)
{
    BlockBackend *blk = slot->g->blk;
    int64_t offset = slot->sector * SIM_SECTOR_BYTES;
    int64_t bytes = slot->count * SIM_SECTOR_BYTES;

    switch (slot->op) {
    case WRITE:
    case COMPRESSED:
        payload_append_fill(p, slot->fill, bytes);
        return blk_co_pwritev(blk, offset, bytes, p, slot->op == COMPRESSED ? BDRV_REQ_WRITE_COMPRESSED : 0);
    case ZEROES:
    case UNMAP:
        return blk_co_pwrite_zeroes(blk, offset, bytes, slot->op == UNMAP ? BDRV_REQ_MAY_UNMAP : 0);
    case DISCARD:
        return blk_co_pdiscard(blk, offset, bytes);
    default:
        return blk_co_preadv(blk, offset, bytes, p, 0);
    }
}

static void check_read(const struct slot *slot, const struct payload *p)
{
    const struct guest *g = slot->g;

    for (int64_t i = 0; i < slot->count; i++) {
        uint8_t sector[SIM_SECTOR_BYTES];
        payload_read_bytes(p, i * SIM_SECTOR_BYTES, sector, sizeof(sector));
        for (size_t k = 0; k < sizeof(sector) && !g->unknown[slot->sector + i]; k++) {
            if (sector[k] != g->model[slot->sector + i]) {
                fail_msg("sector %lld: %#x, expected %#x", (long long)(slot->sector + i), sector[k],
                         g->model[slot->sector + i]);
            }
        }
    }
}

static void slot_entry(void *opaque)
{
    struct slot *slot = opaque;
    struct guest *g = slot->g;
    struct payload p;

    payload_init(g->q->w->sim, &p);
    int ret = request(slot, &p);
    if (ret == 0 && slot->op == READ) {
        check_read(slot, &p);
    }
    /* Compressed data over an allocated cluster is refused (5.2), and so is nothing else unless writes fail. */
    assert_true(ret == 0 || g->faults || slot->op == COMPRESSED);
    g->failed += ret < 0;
    for (int64_t i = 0; i < slot->count && slot->op != READ; i++) {
        bool writes = slot->op == WRITE || slot->op == COMPRESSED;
        g->unknown[slot->sector + i] = ret < 0 && (g->faults || g->unknown[slot->sector + i]);
        if (ret == 0) {
            g->model[slot->sector + i] = writes ? slot->fill : 0;
        }
    }
    payload_clear(&p);
    slot->busy = false;
    g->busy--;
    host_kick(g->q->w->host);
}

static bool all_done(void *opaque)
{
    return ((struct guest *)opaque)->busy == 0;
}

static void draw_slot(struct guest *g, struct slot *slot, unsigned index)
{
    int64_t unit = per_cluster(g);
    int64_t span = SECTORS / SLOTS / unit * unit; /* whole clusters, so that discards are exact */

    slot->g = g;
    slot->op = (enum op)draw(g, OP_COUNT);
    slot->fill = (uint8_t)(1 + draw(g, 255));
    slot->count = 1 + (int64_t)draw(g, (uint64_t)(draw(g, 4) == 0 ? span : 8));
    slot->sector = (int64_t)draw(g, (uint64_t)(span - MIN(slot->count, span - 1)));
    slot->count = MIN(slot->count, span - slot->sector);
    if (slot->op == DISCARD || slot->op == COMPRESSED) {
        slot->sector = ROUND_DOWN(slot->sector, unit);
        slot->count = slot->op == COMPRESSED ? unit : ROUND_UP(slot->count, unit);
        slot->count = MIN(slot->count, span - slot->sector);
    }
    slot->sector += (int64_t)index * span;
}

static void one_round(struct guest *g)
{
    unsigned parallel = 1 + (unsigned)draw(g, SLOTS);

    for (unsigned i = 0; i < parallel; i++) {
        struct slot *slot = &g->slots[i];
        draw_slot(g, slot, i);
        slot->busy = true;
        g->busy++;
        coroutine_start(coroutine_create(g->q->w->sim, g->q->w->host, "guest request", slot_entry, slot));
    }
    host_poll(g->q->w->host, all_done, g);
    if (draw(g, 4) == 0) {
        int ret = blk_co_flush(g->blk);
        assert_true(ret == 0 || g->faults);
    }
}

static void read_all(struct guest *g)
{
    struct slot slot = {.g = g, .op = READ, .count = SECTORS};
    struct payload p;

    payload_init(g->q->w->sim, &p);
    assert_int_equal(blk_co_preadv(g->blk, 0, SECTORS * SIM_SECTOR_BYTES, &p, 0), 0);
    check_read(&slot, &p);
    payload_clear(&p);
}

/* What the real tool says; true when there is none. */
static bool qemu_img_agrees(struct q2 *q, bool leaks)
{
    char file[128];
    char command[256];
    const char *dir = getenv("TMPDIR");

    if (system("qemu-img --version >/dev/null 2>&1") != 0) {
        return true;
    }
    snprintf(file, sizeof(file), "%s/blksim-stress-%ld.qcow2", dir ? dir : "/tmp", (long)getpid());
    assert_int_equal(disk_save_file(q->disk, file, NULL), 0);
    snprintf(command, sizeof(command), "qemu-img check -q -f qcow2 %s >/dev/null 2>&1", file);
    int status = system(command) >> 8;
    unlink(file);
    return status == 0 || (leaks && status == 3);
}

static void attach(struct guest *g)
{
    co_mutex_unlock(&g->q->s->lock);
    g->blk = blk_new(g->q->w->host, BLK_PERM_WRITE | BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(g->blk, g->q->bs, NULL), 0);
}

static void detach(struct guest *g)
{
    blk_unref(g->blk);
    co_mutex_lock(&g->q->s->lock);
}

static void play(struct guest *g, unsigned allow)
{
    attach(g);
    for (unsigned i = 0; i < g->rounds; i++) {
        one_round(g);
    }
    read_all(g);
    detach(g);
    q2_close(g->q);
    g->q->log.judge = false;
    q2_judge(g->q, allow);
    assert_true(qemu_img_agrees(g->q, allow != 0));
    q2_open(g->q);
    attach(g);
    read_all(g);
    detach(g);
}

static uint64_t seed;

static void calm_q2(struct q2 *q)
{
    struct guest *g = calloc(1, sizeof(*g));

    *g = (struct guest){.q = q, .random = seed * 1000 + q->spec.refcount_order, .rounds = 60};
    q->log.judge = true;
    play(g, 0);
    free(g);
}

#define TINY(bits, ...) \
    { \
        .cluster_bits = bits, .size = SECTORS * SIM_SECTOR_BYTES, .tables = 2, ##__VA_ARGS__ \
    }

/* fact: qcow2 6/opens, 6/only-leaks, 5.3/widths */
static void every_width(void **state)
{
    seed = 1;
    q2_each_width((struct q2_spec)TINY(9), calm_q2);
}

/* fact: qcow2 6/opens */
static void lazy_every_width(void **state)
{
    seed = 2;
    q2_each_width((struct q2_spec)TINY(9, .lazy = true), calm_q2);
}

static void clusters_of_several_sectors(void **state)
{
    seed = 3;
    q2_each_width((struct q2_spec)TINY(12), calm_q2);
}

/* Writes and flushes fail now and then: nothing is lost that was not said to be, and the image stays whole. */
static void fail_some(struct disk_interposer *self, struct disk_req *req)
{
    static uint64_t count;

    if (req->op == SIM_OP_WRITE || req->op == SIM_OP_FLUSH) {
        count = sim_mix64(count + (uint64_t)req->offset);
        req->ret = count % 23 == 0 ? -EIO : req->ret;
    }
}

static void faulty_q2(struct q2 *q)
{
    struct disk_interposer faults = {.before = fail_some};
    struct guest *g = calloc(1, sizeof(*g));

    *g = (struct guest){.q = q, .random = seed * 1000 + q->spec.refcount_order, .rounds = 60, .faults = true};
    q->log.judge = true;
    disk_add_interposer(q->disk, &faults);
    attach(g);
    for (unsigned i = 0; i < g->rounds && qcow2_usable(q->bs); i++) {
        one_round(g);
    }
    disk_remove_interposer(q->disk, &faults);
    assert_true(qcow2_usable(q->bs));
    assert_true(g->failed > 0);
    g->faults = false;
    detach(g);
    g->rounds = 5;
    play(g, QCOW2_ALLOW_LEAKS);
    free(g);
}

/* fact: qcow2 6/failed-flush */
static void writes_fail(void **state)
{
    for (seed = 4; seed < 7; seed++) {
        q2_each_width((struct q2_spec)TINY(9), faulty_q2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2-stress/width", every_width),
        T("/qcow2-stress/lazy", lazy_every_width),
        T("/qcow2-stress/clusters", clusters_of_several_sectors),
        T("/qcow2-stress/faults", writes_fail),
    };

    return cmocka_run_group_tests_name("qcow2_stress", tests, NULL, NULL);
}
