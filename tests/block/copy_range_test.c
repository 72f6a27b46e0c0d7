/* Protects copying a range (block.md 2.12): who can, what the source and the target see of it, what stays undone.
 */
#include "tests/block/bitmap_probe.h"

#include "block/throttle_group.h"

#define BLOCK 4096
#define W SIM_OP_WRITE
#define R SIM_OP_READ
#define G 65536

/* --- probes that copy ------------------------------------------------------------------------------------- */

static int copy_from(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst, int64_t dst_offset,
                     int64_t bytes, uint32_t read_flags, uint32_t write_flags)
{
    int ret = probe_call(bs, R, src_offset, bytes, read_flags);
    return ret < 0 ? ret : bdrv_co_copy_range_to(src, src_offset, dst, dst_offset, bytes, read_flags, write_flags);
}

static int copy_to(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst, int64_t dst_offset,
                   int64_t bytes, uint32_t read_flags, uint32_t write_flags)
{
    struct probe *from = src->bs->opaque;
    struct probe *to = bs->opaque;
    int ret = probe_call(bs, W, dst_offset, bytes, write_flags);
    if (ret == 0) {
        memcpy(to->data + dst_offset, from->data + src_offset, (size_t)bytes);
        to->length = MAX(to->length, dst_offset + bytes);
    }
    return ret;
}

static BlockDriver copying;

static struct probe *copying_probe(const char *name, uint8_t fill, uint32_t write_flags)
{
    copying = probe_driver;
    copying.bdrv_co_copy_range_from = copy_from;
    copying.bdrv_co_copy_range_to = copy_to;
    return probe_new((struct probe_spec){.name = name,
                                         .drv = &copying,
                                         .length = MiB,
                                         .fill = fill,
                                         .write_flags = write_flags,
                                         .limits = {.request_alignment = 512}});
}

struct copy {
    struct probe *src;
    int64_t src_offset;
    struct probe *dst;
    int64_t dst_offset;
    int64_t bytes;
    uint32_t write_flags;
    bool through_backend;
    bool done;
    unsigned order;
    int ret;
};

static void copy_entry(void *opaque)
{
    struct copy *c = opaque;
    if (c->through_backend) {
        c->ret =
            blk_co_copy_range(c->src->blk, c->src_offset, c->dst->blk, c->dst_offset, c->bytes, 0, c->write_flags);
    } else {
        c->ret = bdrv_co_copy_range(blk_root(c->src->blk), c->src_offset, blk_root(c->dst->blk), c->dst_offset,
                                    c->bytes, 0, c->write_flags);
    }
    c->done = true;
    c->order = ++completions;
}

static void start_copy(struct copy *c)
{
    c->done = false;
    coroutine_start(coroutine_create(world, host, "copy", copy_entry, c));
    settle();
}

static int copy(struct copy c)
{
    start_copy(&c);
    assert_true(c.done);
    return c.ret;
}

/* --- what it does ----------------------------------------------------------------------------------------- */

/* fact: block 2.12/source, 2.12/target */
static void test_effects(void **state)
{
    struct probe *a = copying_probe("a", 0xaa, 0);
    struct probe *b = copying_probe("b", 0xbb, 0);
    BdrvDirtyBitmap *on_a = bitmap_new(a, 512, "m");
    BdrvDirtyBitmap *on_b = bitmap_new(b, 512, "m");
    b->bs->write_threshold = 4096;
    assert_int_equal(copy((struct copy){a, 512, b, MiB - 512, 1024, 0, false, false, 0, 0}), 0);
    assert_content(b, MiB - 512, 1024, 0xaa);
    assert_content(b, MiB - 1024, 512, 0xbb);
    assert_int_equal(b->bs->total_bytes, MiB + 512); /* longer, as by a write */
    assert_int_equal(b->bs->write_gen, 1);
    assert_int_equal(b->bs->wr_highest_offset, MiB + 512);
    assert_int_equal(b->bs->write_threshold, 0);
    assert_dirty(on_b, "1023.5+1");
    assert_int_equal(a->bs->write_gen, 0);
    assert_dirty(on_a, "");
    bitmaps_clear(b);
    probe_fail(b, W, -1, -EIO, 1);
    assert_int_equal(copy((struct copy){a, 0, b, 0, 4096, 0, false, false, 0, 0}), -EIO);
    assert_dirty(on_b, "0+4"); /* may have changed */
    assert_int_equal(b->bs->write_gen, 2);
    bitmaps_free(a);
    bitmaps_free(b);
    probe_free(a);
    probe_free(b);
}

/* fact: block 2.12/source, 2.12/target, 2.5/tracked */
static void test_waits(void **state)
{
    struct probe *a = copying_probe("a", 0xaa, 0);
    struct probe *b = copying_probe("b", 0xbb, 0);
    struct req on_a = {.p = a, .op = W, .offset = 100, .bytes = 100, .fill = 1};
    struct req on_b = {.p = b, .op = W, .offset = 600, .bytes = 100, .fill = 2};
    struct copy c = {a, 0, b, 0, 4096, 0, false, false, 0, 0};
    probe_hold(a, W, 0);
    spawn(&on_a);
    settle();
    start_copy(&c);
    assert_false(c.done); /* a serialising write of the source is on its way */
    assert_int_equal(b->log_count, 0);
    probe_release(a);
    assert_true(on_a.done && c.done && on_a.order < c.order);
    assert_content(b, 100, 100, 1);
    probe_hold(b, W, 512);
    spawn(&on_b);
    settle();
    start_copy(&c);
    assert_false(c.done); /* one of the target */
    probe_release(b);
    assert_true(on_b.order < c.order);
    assert_content(b, 600, 100, 0xaa);
    probe_hold(b, W, 0);
    start_copy(&c);
    spawn(&on_a);
    spawn(&on_b);
    settle();
    assert_false(c.done || on_a.done || on_b.done); /* and both for the copy */
    probe_release(b);
    assert_true(c.order < on_a.order && c.order < on_b.order);
    probe_free(a);
    probe_free(b);
}

/* fact: block 2.12/target, 2.8/fua-emulated, 2.8/fua-native, 2.8/fua-no-flush */
static void test_fua(void **state)
{
    struct probe *a = copying_probe("a", 0xaa, 0);
    struct probe *b = copying_probe("b", 0xbb, 0);
    struct probe *native = copying_probe("c", 0xcc, BDRV_REQ_FUA);
    assert_int_equal(copy((struct copy){a, 0, b, 0, 512, BDRV_REQ_FUA, false, false, 0, 0}), 0);
    assert_call(b, 1, SIM_OP_FLUSH, 0, 0);
    blk_set_enable_write_cache(native->blk, false);
    assert_int_equal(copy((struct copy){a, 0, native, 0, 512, 0, true, false, 0, 0}), 0);
    assert_int_equal(native->log_count, 1);
    assert_int_equal(native->log[0].flags, BDRV_REQ_FUA);
    native->bs->open_flags |= BDRV_O_NO_FLUSH;
    assert_int_equal(copy((struct copy){a, 0, native, 0, 512, 0, true, false, 0, 0}), 0);
    assert_int_equal(native->log[1].flags, 0);
    assert_int_equal(copy((struct copy){a, 0, b, 4096, 512, BDRV_REQ_ZERO_WRITE, false, false, 0, 0}), 0);
    assert_content(b, 4096, 512, 0); /* the source does not matter */
    probe_free(a);
    probe_free(b);
    probe_free(native);
}

/* --- refusals --------------------------------------------------------------------------------------------- */

/* fact: block 2.12/supported, 2.2/limits, 2.7/read-only */
static void test_refused(void **state)
{
    struct probe *a = copying_probe("a", 0xaa, 0);
    struct probe *b = copying_probe("b", 0xbb, 0);
    struct probe *plain = probe_new((struct probe_spec){.name = "plain", .length = MiB});
    BdrvDirtyBitmap *on_b = bitmap_new(b, 512, "m");
    assert_int_equal(copy((struct copy){a, 0, plain, 0, 512, 0, false, false, 0, 0}), -ENOTSUP);
    assert_int_equal(copy((struct copy){plain, 0, b, 0, 512, 0, false, false, 0, 0}), -ENOTSUP);
    assert_int_equal(copy((struct copy){a, 1, b, 0, 512, 0, false, false, 0, 0}), -ENOTSUP);
    assert_int_equal(copy((struct copy){a, 0, b, 1, 512, 0, false, false, 0, 0}), -ENOTSUP);
    assert_int_equal(copy((struct copy){a, 0, b, 0, 100, 0, false, false, 0, 0}), -ENOTSUP);
    assert_int_equal(copy((struct copy){a, 0, b, 0, 512, BDRV_REQ_WRITE_COMPRESSED, false, false, 0, 0}), -ENOTSUP);
    assert_int_equal(copy((struct copy){a, -512, b, 0, 512, 0, false, false, 0, 0}), -EIO);
    assert_int_equal(copy((struct copy){a, 0, b, 0, BDRV_MAX_REQUEST + 512, 0, false, false, 0, 0}), -EIO);
    assert_int_equal(copy((struct copy){a, MiB, b, 0, 512, 0, true, false, 0, 0}), -EIO);
    assert_int_equal(copy((struct copy){a, 0, b, MiB, 512, 0, true, false, 0, 0}), -EIO);
    bdrv_enable_copy_on_read(a->bs); /* only a read fills a node */
    assert_int_equal(copy((struct copy){a, 0, b, 0, 512, 0, false, false, 0, 0}), -ENOTSUP);
    bdrv_disable_copy_on_read(a->bs);
    assert_int_equal(b->log_count + plain->log_count, 0);
    probe_fail(b, W, -1, -ENOTSUP, 1); /* refused, not failed */
    assert_int_equal(copy((struct copy){a, 0, b, 0, 512, 0, false, false, 0, 0}), -ENOTSUP);
    b->bs->open_flags &= ~(uint32_t)BDRV_O_RDWR;
    assert_int_equal(copy((struct copy){a, 0, b, 0, 512, 0, false, false, 0, 0}), -EPERM);
    b->bs->open_flags |= BDRV_O_RDWR;
    assert_dirty(on_b, "");
    assert_int_equal(b->bs->write_gen, 0);
    bitmaps_free(b);
    probe_free(a);
    probe_free(b);
    probe_free(plain);
}

/* --- disks ------------------------------------------------------------------------------------------------ */

struct open {
    const char *json;
    struct probe *p;
};

static void open_main(void *opaque)
{
    struct open *o = opaque;
    struct qvalue *options = qvalue_from_json(o->json, strlen(o->json), NULL);
    o->p->bs = bdrv_open(host, options, BDRV_O_RDWR, NULL);
    qvalue_free(options);
    o->p->blk = blk_new(host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL);
    SIM_ASSERT(o->p->bs != NULL && blk_insert_bs(o->p->blk, o->p->bs, NULL) == 0);
}

static struct disk *new_disk(const char *name, enum disk_type type, int64_t max_transfer)
{
    struct disk_config config;
    disk_config_default(&config);
    config.type = type;
    config.size_bytes = MiB;
    config.max_transfer_bytes = max_transfer;
    return disk_new(world, name, &config, NULL);
}

static void poke_fill(struct disk *disk, uint8_t fill)
{
    struct payload p;
    payload_init(world, &p);
    payload_append_fill(&p, fill, MiB);
    disk_poke(disk, 0, &p);
    payload_clear(&p);
}

static bool disk_holds(const struct disk *disk, int64_t offset, int64_t bytes, uint8_t fill)
{
    struct payload seen, wanted;
    payload_init(world, &seen);
    payload_init(world, &wanted);
    disk_peek(disk, offset, bytes, &seen);
    payload_append_fill(&wanted, fill, bytes);
    bool same = payload_equal(&seen, 0, &wanted, 0, bytes);
    payload_clear(&seen);
    payload_clear(&wanted);
    return same;
}

/* Disks keep their pages. */
static int disks_teardown(void **state)
{
    probe_main(drop_graph, NULL);
    sim_delete(world);
    return 0;
}

/* Through the windows of two raw nodes, in pieces that both disks take.
 * fact: block 2.12/supported, 2.12/target */
static void test_disks(void **state)
{
    struct disk *da = new_disk("da", DISK_FILE, 8192);
    struct disk *db = new_disk("db", DISK_FILE, 0);
    struct probe a = {0}, b = {0};
    struct open open_a = {"{\"driver\":\"raw\",\"node-name\":\"a\",\"offset\":4096,"
                          "\"file\":{\"driver\":\"disk\",\"disk\":\"da\"}}",
                          &a};
    struct open open_b = {"{\"driver\":\"raw\",\"node-name\":\"b\",\"offset\":65536,\"size\":524288,"
                          "\"file\":{\"driver\":\"disk\",\"disk\":\"db\"}}",
                          &b};
    poke_fill(da, 0xaa);
    poke_fill(db, 0xbb);
    probe_main(open_main, &open_a);
    probe_main(open_main, &open_b);
    assert_int_equal(copy((struct copy){&a, 0, &b, 512, 20480, 0, false, false, 0, 0}), 0);
    assert_true(disk_holds(db, 65536 + 512, 20480, 0xaa));
    assert_true(disk_holds(db, 0, 65536 + 512, 0xbb));
    assert_true(disk_holds(db, 65536 + 512 + 20480, 4096, 0xbb));
    assert_int_equal(bdrv_primary_bs(b.bs)->write_gen, 1);
    assert_int_equal(copy((struct copy){&a, 0, &b, 524288, 512, 0, false, false, 0, 0}), -ENOSPC);
    assert_int_equal(copy((struct copy){&a, MiB - 4096, &b, 0, 512, 0, false, false, 0, 0}), -ENOTSUP);
    assert_int_equal(copy((struct copy){&a, 0, &a, 512, 1024, 0, false, false, 0, 0}), -ENOTSUP); /* onto itself */
    assert_int_equal(copy((struct copy){&a, 0, &a, 1024, 1024, 0, false, false, 0, 0}), 0);
    probe_free(&a);
    probe_free(&b);
}

/* fact: block 2.12/supported */
static void test_device(void **state)
{
    struct disk *da = new_disk("da", DISK_FILE, 0);
    struct disk *db = new_disk("db", DISK_DEVICE, 0);
    struct probe a = {0}, b = {0};
    struct open open_a = {"{\"driver\":\"disk\",\"node-name\":\"a\",\"disk\":\"da\"}", &a};
    struct open open_b = {"{\"driver\":\"disk\",\"node-name\":\"b\",\"disk\":\"db\"}", &b};
    poke_fill(da, 0xaa);
    poke_fill(db, 0xbb);
    probe_main(open_main, &open_a);
    probe_main(open_main, &open_b);
    assert_int_equal(copy((struct copy){&a, 0, &b, 0, 4096, 0, false, false, 0, 0}), -ENOTSUP);
    assert_int_equal(copy((struct copy){&b, 0, &a, 0, 4096, 0, false, false, 0, 0}), -ENOTSUP);
    assert_int_equal(a.bs->write_gen + b.bs->write_gen, 0);
    assert_true(disk_holds(da, 0, MiB, 0xaa));
    probe_free(&a);
    probe_free(&b);
}

/* What only a request that is read or written here may do: limit it, fail it, fill a node, ask several. */
static const char *const no_copy[] = {
    "{\"driver\":\"throttle\",\"throttle-group\":\"g\",\"file\":{\"driver\":\"disk\",\"disk\":\"da\"}}",
    "{\"driver\":\"copy-on-read\",\"file\":{\"driver\":\"disk\",\"disk\":\"da\"}}",
    "{\"driver\":\"blkdebug\",\"image\":{\"driver\":\"disk\",\"disk\":\"da\"}}",
    "{\"driver\":\"quorum\",\"vote-threshold\":1,\"children\":[{\"driver\":\"disk\",\"disk\":\"da\"}]}",
    "{\"driver\":\"preallocate\",\"file\":{\"driver\":\"disk\",\"disk\":\"da\"}}",
    "{\"driver\":\"blkverify\",\"raw\":{\"driver\":\"disk\",\"disk\":\"da\"},\"test\":{\"driver\":\"disk\","
    "\"disk\":\"dc\"}}",
};

static void add_group(void *opaque)
{
    struct qvalue *props = qvalue_dict();
    SIM_ASSERT(throttle_object_add(host, "g", props, NULL));
    qvalue_free(props);
}

static void delete_group(void *opaque)
{
    SIM_ASSERT(throttle_object_del(host, "g", NULL));
}

/* Nothing of the path is skipped: who cannot pass a copy on refuses it, above and below others who could.
 * fact: block 2.12/supported */
static void test_filters(void **state)
{
    struct disk *da = new_disk("da", DISK_FILE, 0);
    struct disk *db = new_disk("db", DISK_FILE, 0);
    poke_fill(da, 0xaa);
    poke_fill(db, 0xbb);
    poke_fill(new_disk("dc", DISK_FILE, 0), 0xaa);
    probe_main(add_group, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(no_copy); i++) {
        struct probe a = {0}, b = {0};
        char over[400];
        snprintf(over, sizeof(over), "{\"driver\":\"raw\",\"file\":%s}", no_copy[i]);
        struct open open_a = {i % 2 ? over : no_copy[i], &a};
        struct open open_b = {"{\"driver\":\"disk\",\"disk\":\"db\"}", &b};
        probe_main(open_main, &open_a);
        probe_main(open_main, &open_b);
        assert_int_equal(copy((struct copy){&a, 0, &b, 0, 4096, 0, false, false, 0, 0}), -ENOTSUP);
        assert_int_equal(copy((struct copy){&b, 0, &a, 0, 4096, 0, false, false, 0, 0}), -ENOTSUP);
        assert_int_equal(a.bs->write_gen + b.bs->write_gen, 0);
        probe_free(&a);
        probe_free(&b);
    }
    assert_true(disk_holds(da, 0, MiB, 0xaa));
    assert_true(disk_holds(db, 0, MiB, 0xbb));
    probe_main(delete_group, NULL);
}

struct drained_copy {
    struct copy *copy;
    bool begin;
};

static void drain_both(void *opaque)
{
    struct drained_copy *d = opaque;
    void (*change)(BlockDriverState *) = d->begin ? bdrv_drained_begin : bdrv_drained_end;
    change(d->copy->src->bs);
    change(d->copy->dst->bs);
}

/* fact: block 2.1/truncate */
static void test_not_parked(void **state)
{
    struct probe *a = copying_probe("a", 0xaa, 0);
    struct probe *b = copying_probe("b", 0xbb, 0);
    struct copy c = {a, 0, b, 0, 4096, 0, true, false, 0, 0};
    struct drained_copy d = {&c, true};
    probe_main(drain_both, &d);
    start_copy(&c);
    assert_true(c.done);
    assert_int_equal(c.ret, 0);
    d.begin = false;
    probe_main(drain_both, &d);
    assert_content(b, 0, 4096, 0xaa);
    probe_free(a);
    probe_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/copy-range/effects", test_effects),
        T_NODE("/copy-range/waits", test_waits),
        T_NODE("/copy-range/fua", test_fua),
        T_NODE("/copy-range/refused", test_refused),
        T_SETUP("/copy-range/disks", test_disks, probe_setup, disks_teardown),
        T_SETUP("/copy-range/device", test_device, probe_setup, disks_teardown),
        T_SETUP("/copy-range/filters", test_filters, probe_setup, disks_teardown),
        T_NODE("/copy-range/not-parked", test_not_parked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
