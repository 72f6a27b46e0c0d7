/*
 * A qcow2 node over a disk of the world, for tests of what requests make of an image: requests by spawn and settle,
 * entries read off the medium, the whole judged by the checkers' own reader when the node is closed.
 *
 * The images come from the real qemu-img; where there is none the tests skip.
 */
#ifndef TESTS_BLOCK_QCOW2_RIG_H
#define TESTS_BLOCK_QCOW2_RIG_H

#include "tests/block/blkopts.h"
#include "tests/testlib.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "block/block_int.h"
#include "check/qcow2_image.h"

#define RIG_RW (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE)

struct rig_spec {
    const char *prepare; /* a shell command, in which $F is the image's file; NULL: none */
    const char *create;  /* -o of qemu-img create; may name compat, cluster_size, ... NULL: defaults */
    int64_t size;        /* virtual */
    const char *open;    /* more options, "'lazy-refcounts':true" */
    int64_t backing;     /* length of a backing file (raw), full of RIG_BELOW; 0: none */
    int64_t backing_gap; /* that many bytes at its beginning are a hole */
    bool data_file, data_file_raw;
    int64_t latency_ns; /* of the disks; 0: the default */
};

#define RIG_BELOW 0xbb

static struct sim *world;
static struct host *host;
static struct {
    struct disk *disk, *data, *back;
    BlockDriverState *bs;
    BlockBackend *blk;
    struct rig_spec spec;
    char node[512];
} rig;

static SIM_UNUSED bool have_qemu_img(void)
{
    static int known = -1;

    if (known < 0) {
        known = system("qemu-img --version >/dev/null 2>&1") == 0;
    }
    return known;
}

static SIM_UNUSED void settle(void)
{
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
}

static SIM_UNUSED void in_main(host_fn *fn, void *opaque)
{
    host_command(host, fn, opaque);
    settle();
}

static SIM_UNUSED void temp_name(char *name, size_t room, const char *what)
{
    const char *dir = getenv("TMPDIR");

    snprintf(name, room, "%s/blksim-%s-%ld.qcow2", dir ? dir : "/tmp", what, (long)getpid());
}

/* --- set-up -------------------------------------------------------------------------------------------------- */

static struct disk *rig_disk(const char *name)
{
    struct disk_config config;

    disk_config_default(&config);
    config.latency_ns = rig.spec.latency_ns > 0 ? rig.spec.latency_ns : config.latency_ns;
    struct disk *disk = disk_new(world, name, &config, NULL);
    assert_non_null(disk);
    return disk;
}

/* Images that have been made already, by the commands that made them: processes are slow. */
#define RIG_IMAGES 64
static struct {
    char *command[RIG_IMAGES];
    unsigned count;
} rig_images;

static void rig_image_name(char *file, size_t room, unsigned number)
{
    char what[32];

    snprintf(what, sizeof(what), "rig%u", number);
    temp_name(file, room, what);
}

static void rig_drop_images(void)
{
    char file[128];

    for (unsigned i = 0; i < rig_images.count; i++) {
        rig_image_name(file, sizeof(file), i);
        unlink(file);
        free(rig_images.command[i]);
    }
}

static void rig_make_image(const char *command, char *file, size_t room)
{
    char line[1024];
    unsigned i = 0;

    while (i < rig_images.count && strcmp(rig_images.command[i], command) != 0) {
        i++;
    }
    SIM_ASSERT_LT(i, RIG_IMAGES);
    rig_image_name(file, room, i);
    if (i < rig_images.count) {
        return;
    }
    if (i == 0) {
        atexit(rig_drop_images);
    }
    rig_images.command[rig_images.count++] = strdup(command);
    snprintf(line, sizeof(line), "F=%s; %s && rm -f $F.data", file, command);
    assert_int_equal(system(line), 0);
}

static void rig_load(struct disk *disk)
{
    const struct rig_spec *s = &rig.spec;
    char file[128];
    char command[768];

    snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 %s%s%s%s%s $F %lld%s%s", s->create ? "-o " : "",
             s->create ? s->create : "", s->data_file ? " -o data_file=$F.data" : "",
             s->data_file_raw ? " -o data_file_raw=on" : "", s->backing > 0 ? " -u -b back -F raw" : "",
             (long long)s->size, s->prepare ? " && " : "", s->prepare ? s->prepare : "");
    rig_make_image(command, file, sizeof(file));
    assert_int_equal(disk_load_file(disk, file, NULL), 0);
}

static void rig_fill_below(void)
{
    struct payload p;

    rig.back = rig_disk("back");
    payload_init(world, &p);
    payload_append_zero(&p, rig.spec.backing_gap);
    payload_append_fill(&p, RIG_BELOW, rig.spec.backing - rig.spec.backing_gap);
    disk_poke(rig.back, 0, &p);
    payload_clear(&p);
}

static void rig_open_node(void *opaque)
{
    bdrv_graph_init(host);
    if (rig.spec.backing > 0) {
        add_node(host, "{'driver':'raw','node-name':'b','file':{'driver':'disk','disk':'back'}}");
    }
    if (rig.spec.data_file) {
        add_node(host, "{'driver':'disk','node-name':'df','disk':'data','discard':'unmap'}");
    }
    rig.bs = add_node(host, rig.node);
    rig.blk = blk_new(host, RIG_RW, BLK_PERM_ALL);
    SIM_ASSERT_EQ(blk_insert_bs(rig.blk, rig.bs, NULL), 0);
}

/* A host (a first one, or after a crash) that opens the disks as they are. */
static SIM_UNUSED void rig_boot(const char *host_name)
{
    host = host_new(world, host_name);
    in_main(rig_open_node, NULL);
}

static void rig_make(struct rig_spec spec)
{
    memset(&rig, 0, sizeof(rig));
    rig.spec = spec;
    rig.disk = rig_disk("img");
    rig_load(rig.disk);
    if (spec.backing > 0) {
        rig_fill_below();
    }
    if (spec.data_file) {
        rig.data = rig_disk("data");
    }
    snprintf(rig.node, sizeof(rig.node),
             "{'driver':'qcow2','node-name':'q','discard':'unmap',"
             "'file':{'driver':'disk','node-name':'f','disk':'img','discard':'unmap'}%s%s%s%s}",
             spec.backing > 0 ? ",'backing':'b'" : "", spec.data_file ? ",'data-file':'df'" : "",
             spec.open ? "," : "", spec.open ? spec.open : "");
}

static SIM_UNUSED void rig_begin(struct rig_spec spec)
{
    if (!have_qemu_img()) {
        skip();
    }
    world = sim_new();
    rig_make(spec);
    rig_boot("h");
}

/* --- requests ------------------------------------------------------------------------------------------------ */

enum {
    OP_READ = 'r',
    OP_WRITE = 'w',
    OP_ZERO = 'z',
    OP_UNMAP = 'u',
    OP_DISCARD = 'd',
    OP_FLUSH = 'f',
    OP_COMPRESSED = 'c'
};

struct rq {
    int op;
    int64_t offset, bytes;
    uint8_t fill;   /* of writes */
    uint32_t flags; /* more */
    int ret;
    bool done;
    uint64_t begun, ended; /* instants, counted */
    uint8_t *got;          /* reads: room for bytes; NULL: all must be `fill` */
};

static uint64_t rig_instant;

static void rq_entry(void *opaque)
{
    struct rq *r = opaque;
    struct payload p;

    r->begun = ++rig_instant;
    payload_init(world, &p);
    switch (r->op) {
    case OP_READ:
        r->ret = blk_co_preadv(rig.blk, r->offset, r->bytes, &p, r->flags);
        break;
    case OP_WRITE:
    case OP_COMPRESSED:
        payload_append_fill(&p, r->fill, r->bytes);
        r->ret = blk_co_pwritev(rig.blk, r->offset, r->bytes, &p,
                                r->flags | (r->op == OP_COMPRESSED ? BDRV_REQ_WRITE_COMPRESSED : 0));
        break;
    case OP_ZERO:
    case OP_UNMAP:
        r->ret = blk_co_pwrite_zeroes(rig.blk, r->offset, r->bytes,
                                      r->flags | (r->op == OP_UNMAP ? BDRV_REQ_MAY_UNMAP : 0));
        break;
    case OP_DISCARD:
        r->ret = blk_co_pdiscard(rig.blk, r->offset, r->bytes);
        break;
    case OP_FLUSH:
        r->ret = blk_co_flush(rig.blk);
        break;
    default:
        SIM_ASSERT(!"an operation");
    }
    if (r->op == OP_READ && r->ret == 0 && r->got) {
        payload_read_bytes(&p, 0, r->got, r->bytes);
    }
    for (int64_t i = 0; r->op == OP_READ && r->ret == 0 && !r->got && i < r->bytes; i++) {
        uint8_t byte;
        payload_read_bytes(&p, i, &byte, 1);
        if (byte != r->fill) {
            fprintf(stderr, "at %lld: %#x, expected %#x\n", (long long)(r->offset + i), byte, r->fill);
            r->ret = -EILSEQ;
        }
    }
    payload_clear(&p);
    r->ended = ++rig_instant;
    r->done = true;
}

static SIM_UNUSED void spawn(struct rq *r)
{
    coroutine_start(coroutine_create(world, host, "request", rq_entry, r));
}

static SIM_UNUSED int io(int op, int64_t offset, int64_t bytes, uint8_t fill)
{
    struct rq r = {.op = op, .offset = offset, .bytes = bytes, .fill = fill};

    spawn(&r);
    settle();
    assert_true(r.done);
    return r.ret;
}

#define IO(...) assert_int_equal(io(__VA_ARGS__), 0)
/* All bytes of the range are that one. */
#define READS(offset, bytes, byte) IO(OP_READ, offset, bytes, byte)

/* --- the medium ---------------------------------------------------------------------------------------------- */

static SIM_UNUSED uint64_t medium64(int64_t offset)
{
    uint8_t raw[8];
    uint64_t value = 0;
    struct payload p;

    payload_init(world, &p);
    disk_peek(rig.disk, offset, 8, &p);
    payload_read_bytes(&p, 0, raw, 8);
    payload_clear(&p);
    for (int i = 0; i < 8; i++) {
        value = value << 8 | raw[i];
    }
    return value;
}

/* As the medium has it, which is what a flush has put there. word 1: the bitmap of an extended entry. */
static SIM_UNUSED uint64_t medium_entry(int64_t guest_offset, unsigned word)
{
    unsigned cluster_bits = (unsigned)(medium64(16) & 0xffffffff);
    uint64_t version = medium64(0) & 0xffffffff;
    bool extended = version >= 3 && (medium64(72) & 16);
    unsigned l2_bits = cluster_bits - (extended ? 4 : 3);
    uint64_t l1 = medium64((int64_t)medium64(40) + ((guest_offset >> (cluster_bits + l2_bits)) << 3));
    int64_t l2 = (int64_t)(l1 & 0x00fffffffffffe00ULL);
    int64_t index = (guest_offset >> cluster_bits) & ((1 << l2_bits) - 1);

    return l2 == 0 ? 0 : medium64(l2 + index * (extended ? 16 : 8) + word * 8);
}

/* After a flush. */
static SIM_UNUSED uint64_t entry(int64_t guest_offset)
{
    IO(OP_FLUSH, 0, 0, 0);
    return medium_entry(guest_offset, 0);
}

static SIM_UNUSED uint64_t bitmap(int64_t guest_offset)
{
    IO(OP_FLUSH, 0, 0, 0);
    return medium_entry(guest_offset, 1);
}

static SIM_UNUSED bool has_table(int64_t guest_offset)
{
    unsigned cluster_bits = (unsigned)(medium64(16) & 0xffffffff);
    unsigned shift = 2 * cluster_bits - ((medium64(72) & 16) ? 4 : 3);

    IO(OP_FLUSH, 0, 0, 0);
    return medium64((int64_t)medium64(40) + ((guest_offset >> shift) << 3)) != 0;
}

/* --- the end ------------------------------------------------------------------------------------------------- */

static void rig_close_node(void *opaque)
{
    Error *err = NULL;

    blk_unref(rig.blk);
    if (!qmp_blockdev_del_node(host, "q", &err)) {
        fprintf(stderr, "%s\n", error_get_pretty(err));
        SIM_ASSERT(false);
    }
    if (rig.spec.backing > 0) {
        SIM_ASSERT(qmp_blockdev_del_node(host, "b", NULL));
    }
    if (rig.spec.data_file) {
        SIM_ASSERT(qmp_blockdev_del_node(host, "df", NULL));
    }
    bdrv_graph_cleanup(host);
}

static SIM_UNUSED void rig_judge(unsigned allow)
{
    struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(rig.disk));

    if (image->error[0]) {
        fail_msg("%s", image->error);
    }
    if (rig.data) {
        qcow2_image_set_data(image, qcow2_source_of_disk(rig.data));
    }
    const struct qcow2_finding *found = qcow2_image_judge(image, allow);
    if (found) {
        fail_msg("%s at %#llx: %s", qcow2_finding_name(found->kind), (unsigned long long)found->at, found->text);
    }
    qcow2_image_free(image);
}

static SIM_UNUSED void rig_close(void)
{
    in_main(rig_close_node, NULL);
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_qcow2_memory), 0);
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_qcow2_request), 0);
    host_delete(host);
    host = NULL;
}

/* What the real tool says of the medium: its exit status. */
static SIM_UNUSED int qemu_img_check(void)
{
    char file[128];
    char command[512];

    temp_name(file, sizeof(file), "check");
    assert_int_equal(disk_save_file(rig.disk, file, NULL), 0);
    snprintf(command, sizeof(command),
             "qemu-img check -q 'json:{\"driver\":\"qcow2\",\"backing\":null,"
             "\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}'",
             file);
    int status = system(command);
    unlink(file);
    return status;
}

/* Closed, whole by the checkers' reader; leaks only if `allow` says so. */
static SIM_UNUSED void rig_end(unsigned allow)
{
    rig_close();
    rig_judge(allow);
    sim_delete(world);
    world = NULL;
}

#endif
