/* Protects stored bitmaps from the power: it fails before every write and flush of their life, and no image that is
 * left shows a consistent bitmap that misses a write. */
#include "tests/block/qcow2_bitmap_lib.h"

#define GROUP ((int64_t)65536)
#define GROUPS 16

/* What must be in an image that was cut at some moment. */
enum phase { NOTHING_STORED, B_STORED, B_AND_C, B_REMOVED, C_REMOVED };

struct cut {
    uint8_t *bytes;
    int64_t size;
    enum phase phase;
    bool busy; /* the phase is about to change */
};

#define MAX_CUTS 3000
static struct {
    struct disk_interposer interposer; /* first */
    struct disk *disk;
    struct cut cut[MAX_CUTS];
    size_t count;
    enum phase phase;
    bool busy;
    uint64_t draw;
    bool repairs;
    size_t consistent, in_use, lost, absent;
} power;

/* --- cutting -------------------------------------------------------------------------------------------------- */

static uint8_t *bytes_of(void (*look)(const struct disk *, int64_t, int64_t, struct payload *), int64_t size)
{
    struct payload data;
    uint8_t *bytes = malloc((size_t)size);
    payload_init(disk_sim(power.disk), &data);
    look(power.disk, 0, size, &data);
    payload_read_bytes(&data, 0, bytes, size);
    payload_clear(&data);
    return bytes;
}

static void keep(uint8_t *bytes, int64_t size)
{
    const struct cut *last = power.count > 0 ? &power.cut[power.count - 1] : NULL;
    if (last != NULL && last->size == size && last->phase == power.phase && last->busy == power.busy &&
        memcmp(last->bytes, bytes, (size_t)size) == 0) {
        free(bytes);
        return;
    }
    assert_true(power.count < MAX_CUTS);
    power.cut[power.count++] = (struct cut){bytes, size, power.phase, power.busy};
}

/* What was flushed, what was written, and of each sector one of the two by a draw. */
static void cut(struct disk_interposer *self, struct disk_req *req)
{
    SIM_ASSERT(self == &power.interposer);
    int64_t size = disk_length(power.disk);
    if ((req->op != SIM_OP_WRITE && req->op != SIM_OP_FLUSH) || size == 0) {
        return;
    }
    uint8_t *durable = bytes_of(disk_peek_durable, size);
    uint8_t *written = bytes_of(disk_peek, size);
    uint8_t *some = malloc((size_t)size);
    for (int64_t at = 0; at < size; at += 512) {
        power.draw = sim_mix64(power.draw + (uint64_t)at);
        memcpy(some + at, (power.draw & 1 ? durable : written) + at, (size_t)MIN(512, size - at));
    }
    keep(durable, size);
    keep(some, size);
    keep(written, size);
}

static void phase(enum phase phase, bool busy)
{
    power.phase = phase;
    power.busy = busy;
}

/* --- a life --------------------------------------------------------------------------------------------------- */

static void touch(struct image *i, int64_t group)
{
    fill(i, (int)group + 1, group * GROUP + 512, 1024);
}

static void reopen_twice(struct image *i)
{
    blk_unref(i->blk);
    assert_int_equal(bdrv_reopen_set_read_only(i->bs, true, NULL), 0);
    assert_int_equal(bdrv_reopen_set_read_only(i->bs, false, NULL), 0);
    attach_guest(i, true);
}

/* Groups that are allocated before: writes to them show at once, without any metadata. */
static bool is_old(int64_t group)
{
    return group == 3 || group == 10;
}

/* b knows of every write, c of those from group 4 on. */
static void live(struct world *w, const char *options)
{
    struct image i = make_image(w, GROUPS * GROUP, options);
    struct call flush = {.i = &i, .op = 'F'};
    open_image(&i, true);
    fill(&i, 0x55, 3 * GROUP, GROUP);
    fill(&i, 0x55, 10 * GROUP, GROUP);
    done(&flush, go(&flush, "flush", io_entry));
    close_image(&i);
    power.disk = i.disk;
    power.interposer.before = cut;
    disk_add_interposer(i.disk, &power.interposer);
    phase(NOTHING_STORED, true);
    open_image(&i, true);
    add_bitmap(&i, "b", GROUP, true);
    touch(&i, 0);
    done(&flush, go(&flush, "flush", io_entry));
    touch(&i, 1);
    close_image(&i);
    phase(B_STORED, false);
    open_image(&i, true);
    touch(&i, 3);
    touch(&i, 2);
    reopen_image(&i, true);
    phase(B_STORED, true);
    add_bitmap(&i, "c", GROUP / 2, true);
    touch(&i, 4);
    done(&flush, go(&flush, "flush", io_entry));
    touch(&i, 5);
    reopen_twice(&i);
    phase(B_AND_C, false);
    touch(&i, 10);
    touch(&i, 6);
    assert_int_equal(io(&i, 'Z', 4 * GROUP, GROUP), 0);
    reopen_image(&i, true);
    phase(B_AND_C, true);
    remove_bitmap(&i, "b");
    phase(B_REMOVED, false);
    touch(&i, 7);
    reopen_image(&i, true);
    phase(B_REMOVED, true);
    remove_bitmap(&i, "c");
    phase(C_REMOVED, false);
    touch(&i, 8);
    close_image(&i);
    disk_remove_interposer(i.disk, &power.interposer);
}

/* --- what is left --------------------------------------------------------------------------------------------- */

static const struct cut *current;

struct reading {
    struct image *i;
    uint8_t bytes[1024];
    int64_t offset;
};

static int read_entry(void *opaque)
{
    struct reading *r = opaque;
    struct payload data;
    payload_init(r->i->w->sim, &data);
    int ret = blk_co_preadv(r->i->blk, r->offset, (int64_t)sizeof(r->bytes), &data, 0);
    if (ret >= 0) {
        payload_read_bytes(&data, 0, r->bytes, (int64_t)sizeof(r->bytes));
    }
    payload_clear(&data);
    return ret;
}

static bool was_written(struct image *i, int64_t group)
{
    uint8_t before[1024];
    struct reading r = {.i = i, .offset = group * GROUP + 512};
    memset(before, is_old(group) ? 0x55 : 0, sizeof(before));
    assert_true(bdrv_run_co(i->w->host, "read", read_entry, &r) >= 0);
    return memcmp(r.bytes, before, sizeof(before)) != 0;
}

/* It was stored in phase `from`, and is removed at the end of the one before `to`. */
static void expect_there(struct image *i, const char *name, enum phase from, enum phase to)
{
    bool may_be_gone = current->phase < from || current->phase >= to || (current->busy && current->phase + 1 == to);
    if (!may_be_gone && bdrv_find_dirty_bitmap(i->bs, name) == NULL) {
        fail_msg("'%s' is gone in phase %d", name, (int)current->phase);
    }
}

static void judge_bitmap(struct image *i, const char *name, int64_t first_group)
{
    BdrvDirtyBitmap *b = bdrv_find_dirty_bitmap(i->bs, name);
    if (b == NULL) {
        power.absent++;
        return;
    }
    if (bdrv_dirty_bitmap_inconsistent(b)) {
        power.in_use++;
        return;
    }
    power.consistent++;
    for (int64_t group = first_group; group < GROUPS; group++) {
        if (was_written(i, group) && !bdrv_dirty_bitmap_get(b, group * GROUP + 512)) {
            fail_msg("'%s' misses group %d in phase %d", name, (int)group, (int)current->phase);
        }
    }
}

static void judge_body(struct world *w)
{
    struct image i = {.w = w, .disk = make_disk(w, "d", 0)};
    poke(&i, 0, current->bytes, current->size);
    open_image(&i, false);
    if (strchr(stored_text(&i), '-') != NULL) {
        power.lost++; /* all of them, and they say so */
        assert_string_equal(bitmaps_text(&i), "");
    } else {
        expect_there(&i, "b", B_STORED, B_REMOVED);
        expect_there(&i, "c", B_AND_C, C_REMOVED);
        judge_bitmap(&i, "b", 0);
        judge_bitmap(&i, "c", 4);
    }
    if (!power.repairs) {
        assert_memory_equal(check_text(&i), "0 ", 2);
    }
    close_image(&i);
    open_image(&i, true); /* and can be used again: dirty ones are repaired */
    assert_memory_equal(check_text(&i), "0 ", 2);
    fill(&i, 0x99, 9 * GROUP, GROUP);
    close_image(&i);
    open_image(&i, false);
    judge_bitmap(&i, "b", 0);
    judge_bitmap(&i, "c", 4);
    assert_memory_equal(check_text(&i), "0 ", 2);
    close_image(&i);
}

static void judge_all(void)
{
    for (size_t n = 0; n < power.count; n++) {
        current = &power.cut[n];
        world_run(judge_body);
        free(power.cut[n].bytes);
    }
    assert_true(power.consistent > 0 && power.in_use > 0 && power.lost > 0 && power.absent > 0);
    memset(&power, 0, sizeof(power));
}

static void plain_life(struct world *w)
{
    live(w, ",'cluster-size':4096");
}

/* fact: qcow2 4.5/outcomes, 4.3/order, 4.4/in-place, 4.6/remove, 6/switch */
static void test_plain(void **state)
{
    world_run(plain_life);
    judge_all();
}

static void lazy_life(struct world *w)
{
    live(w, ",'cluster-size':4096,'lazy-refcounts':true");
}

/* fact: qcow2 4.5/outcomes */
static void test_lazy(void **state)
{
    power.repairs = true;
    world_run(lazy_life);
    judge_all();
}

static void small_life(struct world *w)
{
    live(w, ",'cluster-size':512,'refcount-bits':1");
}

/* fact: qcow2 4.5/outcomes */
static void test_small(void **state)
{
    world_run(small_life);
    judge_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/bitmap/crash/plain", test_plain),
        T("/qcow2/bitmap/crash/lazy-refcounts", test_lazy),
        T("/qcow2/bitmap/crash/small-clusters", test_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
