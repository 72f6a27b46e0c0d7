/* Protects copy-on-write of qcow2 images: what lies around the guest's bytes in a new cluster is what the guest saw
 * there, and reaches the file together with them. */
#include "tests/block/qcow2_rig.h"

#define K ((int64_t)1024)
#define COPIED (1ULL << 63)

static struct {
    struct disk_interposer interposer;
    unsigned writes, reads;
} seen;

static void count(struct disk_interposer *self, struct disk_req *req)
{
    seen.writes += req->op == SIM_OP_WRITE;
    seen.reads += req->op == SIM_OP_READ;
}

static void begin_counted(struct rig_spec spec, struct disk *(*which)(void))
{
    rig_begin(spec);
    memset(&seen, 0, sizeof(seen));
    seen.interposer.at_effect = count;
    disk_add_interposer(which(), &seen.interposer);
}

static struct disk *image_disk(void)
{
    return rig.disk;
}

static struct disk *back_disk(void)
{
    return rig.back;
}

/* fact: qcow2 5.2/cow, 5.2/unallocated */
static void test_backing(void **state)
{
    begin_counted((struct rig_spec){.size = MiB, .backing = MiB}, back_disk);
    IO(OP_WRITE, 20 * K + 100, 1000, 0x11); /* bytes, not sectors */
    assert_int_equal(seen.reads, 2);
    READS(0, 20 * K + 100, RIG_BELOW);
    READS(20 * K + 100, 1000, 0x11);
    READS(20 * K + 1100, 44 * K - 1100, RIG_BELOW);
    disk_remove_interposer(rig.back, &seen.interposer);
    rig_end(0);
}

/* Head, data and tail are one write; a cluster that is written whole needs no read.
 * fact: qcow2 5.2/cow */
static void test_merged(void **state)
{
    begin_counted((struct rig_spec){.size = MiB, .backing = MiB}, image_disk);
    IO(OP_WRITE, 512 * K, 64 * K, 0x11);
    seen.writes = seen.reads = 0;
    IO(OP_WRITE, 32 * K, 64 * K, 0x22);
    assert_int_equal(seen.writes, 1);
    assert_int_equal(seen.reads, 0);
    READS(0, 32 * K, RIG_BELOW);
    READS(96 * K, 32 * K, RIG_BELOW);
    disk_remove_interposer(rig.disk, &seen.interposer);
    rig_end(0);
}

/* fact: qcow2 5.2/unallocated */
static void test_short_backing(void **state)
{
    rig_begin((struct rig_spec){.size = MiB, .backing = 96 * K});
    IO(OP_WRITE, 80 * K, 512, 0x11);
    IO(OP_WRITE, 200 * K, 512, 0x22);
    READS(64 * K, 16 * K, RIG_BELOW);
    READS(80 * K, 512, 0x11);
    READS(80 * K + 512, 16 * K - 512, RIG_BELOW);
    READS(96 * K, 104 * K, 0);
    READS(200 * K, 512, 0x22);
    READS(200 * K + 512, 55 * K, 0);
    rig_end(0);
}

/* The last cluster is a part of one: nothing is read beyond the disk, and what is there is zero.
 * fact: qcow2 5.2/cow, edge/38 */
static void test_end_of_disk(void **state)
{
    rig_begin((struct rig_spec){.size = MiB + K, .backing = 2 * MiB});
    IO(OP_WRITE, MiB, 512, 0x11);
    READS(MiB + 512, 512, RIG_BELOW);
    uint64_t host_offset = entry(MiB) & ~COPIED;
    struct payload p;
    payload_init(world, &p);
    disk_peek(rig.disk, (int64_t)host_offset + K, 63 * K, &p);
    assert_true(payload_is_zero(&p, 0, 63 * K));
    payload_clear(&p);
    rig_end(0);
}

/* fact: qcow2 5.2/compressed */
static void test_compressed(void **state)
{
    rig_begin((struct rig_spec){.size = MiB});
    IO(OP_COMPRESSED, 0, 64 * K, 0x11);
    assert_int_equal(entry(0) >> 62, 1);
    IO(OP_WRITE, 4 * K, 512, 0x22);
    assert_int_equal(entry(0) >> 62, 2);
    READS(0, 4 * K, 0x11);
    READS(4 * K, 512, 0x22);
    READS(4 * K + 512, 60 * K - 512, 0x11);
    rig_end(0);
}

/* A partial write beside a compressed one of the same cluster: what was compressed may not be overwritten by a copy
 * of what was there before it. fact: qcow2 5.4/one-allocation */
static void test_compressed_beside(void **state)
{
    for (int first = 0; first < 2; first++) {
        rig_begin((struct rig_spec){.size = MiB, .backing = MiB});
        struct rq compressed = {.op = OP_COMPRESSED, .offset = 0, .bytes = 64 * K, .fill = 0x11};
        struct rq write = {.op = OP_WRITE, .offset = 4 * K, .bytes = 512, .fill = 0x22};
        spawn(first ? &compressed : &write);
        spawn(first ? &write : &compressed);
        settle();
        assert_int_equal(write.ret, 0);
        assert_int_equal(compressed.ret, first ? 0 : -EIO); /* over data: refused */
        READS(0, 4 * K, first ? 0x11 : RIG_BELOW);
        READS(4 * K, 512, 0x22);
        READS(5 * K, 59 * K, first ? 0x11 : RIG_BELOW);
        rig_end(0);
    }
}

/* fact: qcow2 5.2/normal, 5.2/zero-plain */
static void test_snapshot(void **state)
{
    rig_begin((struct rig_spec){.size = MiB,
                                .prepare =
                                    "qemu-io -f qcow2 -c 'write -q -P 0x11 0 128k' -c 'write -q -z 128k 64k' $F && "
                                    "qemu-img snapshot -c one $F"});
    IO(OP_WRITE, 4 * K, 512, 0x22);
    IO(OP_WRITE, 132 * K, 512, 0x33);
    READS(0, 4 * K, 0x11);
    READS(4 * K, 512, 0x22);
    READS(4 * K + 512, 124 * K - 512, 0x11);
    READS(128 * K, 4 * K, 0);
    READS(132 * K, 512, 0x33);
    READS(132 * K + 512, 59 * K, 0);
    rig_end(0);
}

static void fail_read(struct disk_interposer *self, struct disk_req *req)
{
    if (req->op == SIM_OP_READ && seen.reads++ == 1) {
        req->ret = -EIO;
    }
}

/* A read of what lies around fails: so does the write, nothing is lost, and the next one works.
 * fact: qcow2 5.2/cow */
static void test_read_fails(void **state)
{
    rig_begin((struct rig_spec){.size = MiB, .backing = MiB});
    memset(&seen, 0, sizeof(seen));
    seen.interposer.before = fail_read;
    disk_add_interposer(rig.back, &seen.interposer);
    assert_int_equal(io(OP_WRITE, 4 * K, 512, 0x11), -EIO);
    READS(0, 64 * K, RIG_BELOW);
    IO(OP_WRITE, 4 * K, 512, 0x11);
    READS(4 * K, 512, 0x11);
    assert_int_equal(entry(0), COPIED | 0x50000);
    disk_remove_interposer(rig.back, &seen.interposer);
    rig_end(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/cow/backing", test_backing),
        T("/qcow2/cow/merged", test_merged),
        T("/qcow2/cow/short-backing", test_short_backing),
        T("/qcow2/cow/end-of-disk", test_end_of_disk),
        T("/qcow2/cow/compressed", test_compressed),
        T("/qcow2/cow/compressed-beside", test_compressed_beside),
        T("/qcow2/cow/snapshot", test_snapshot),
        T("/qcow2/cow/read-fails", test_read_fails),
    };
    return cmocka_run_group_tests_name("qcow2 copy-on-write", tests, NULL, NULL);
}
