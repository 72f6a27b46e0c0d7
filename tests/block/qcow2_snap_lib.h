/* For tests of snapshots, checks and repairs of qcow2: operations from the main coroutine, images as bytes, what
 * the real tool finds in them, and what is on the medium whenever the power might fail. */
#ifndef QCOW2_SNAP_LIB_H
#define QCOW2_SNAP_LIB_H

#include <unistd.h>

#include "tests/block/qcow2_lib.h"

#include "check/qcow2_image.h"

/* --- operations -------------------------------------------------------------------------------------------------
 */

struct snap_call {
    BlockDriverState *bs;
    const char *id;
    const char *name;
    uint32_t fix;
    BdrvCheckResult res;
    int (*fn)(struct snap_call *call, Error **errp);
    Error *err;
};

SIM_UNUSED static int snap_create(struct snap_call *call, Error **errp)
{
    return bdrv_co_snapshot_create(call->bs, call->id, call->name, errp);
}

SIM_UNUSED static int snap_goto(struct snap_call *call, Error **errp)
{
    return bdrv_co_snapshot_goto(call->bs, call->id, call->name, errp);
}

SIM_UNUSED static int snap_delete(struct snap_call *call, Error **errp)
{
    return bdrv_co_snapshot_delete(call->bs, call->id, call->name, errp);
}

SIM_UNUSED static int snap_check(struct snap_call *call, Error **errp)
{
    return bdrv_co_check(call->bs, &call->res, call->fix);
}

static int snap_entry(void *opaque)
{
    struct snap_call *call = opaque;

    return call->fn(call, &call->err);
}

/* Drained, as commands do it. text: what the error says, if there is one. */
SIM_UNUSED static int snap(BlockDriverState *bs, int (*fn)(struct snap_call *, Error **), const char *name,
                           const char *text)
{
    struct snap_call call = {.bs = bs, .name = name, .fn = fn};

    bdrv_drained_begin(bs);
    int ret = bdrv_run_co(bs->host, "snapshot", snap_entry, &call);
    bdrv_drained_end(bs);
    if (text && !(call.err && strstr(error_get_pretty(call.err), text))) {
        fail_msg("\"%s\" instead of \"%s\"", call.err ? error_get_pretty(call.err) : "no error", text);
    }
    assert_int_equal(call.err != NULL, ret < 0);
    error_free(call.err);
    return ret;
}

SIM_UNUSED static int check_image(BlockDriverState *bs, uint32_t fix, BdrvCheckResult *res)
{
    struct snap_call call = {.bs = bs, .fix = fix, .res = *res, .fn = snap_check};

    int ret = bdrv_run_co(bs->host, "check", snap_entry, &call);
    *res = call.res;
    return ret;
}

/* To be checked, not used: dirty images stay as they are, corrupt ones may be written. */
SIM_UNUSED static BlockDriverState *open_to_check(struct world *w, const char *disk, bool writable)
{
    char text[160];
    Error *err = NULL;

    snprintf(text, sizeof(text), "{'driver':'qcow2','backing':null,'file':{'driver':'disk','disk':'%s'}}", disk);
    struct qvalue *options = opts(text);
    BlockDriverState *bs = bdrv_open(w->host, options, BDRV_O_CHECK | (writable ? BDRV_O_RDWR : 0), &err);
    qvalue_free(options);
    if (!bs) {
        print_message("not opened: %s\n", error_get_pretty(err));
        error_free(err);
    }
    return bs;
}

/* --- images -----------------------------------------------------------------------------------------------------
 */

struct image {
    uint8_t *data;
    int64_t bytes; /* whole sectors */
};

SIM_UNUSED static struct image image_take(struct world *w, struct disk *disk, bool durable)
{
    int64_t bytes = ROUND_UP(disk_length(disk), (int64_t)512);
    struct image image = {malloc((size_t)bytes + 1), bytes};
    struct payload p;

    payload_init(w->sim, &p);
    (durable ? disk_peek_durable : disk_peek)(disk, 0, bytes, &p);
    payload_read_bytes(&p, 0, image.data, bytes);
    payload_clear(&p);
    return image;
}

SIM_UNUSED static struct disk *image_disk(struct world *w, const char *name, const struct image *image)
{
    struct disk *disk = make_disk(w, name, image->bytes);

    poke(w, disk, 0, image->data, (size_t)image->bytes);
    return disk;
}

SIM_UNUSED static uint64_t image_be(const struct image *image, int64_t offset, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | image->data[offset + i];
    }
    return value;
}

SIM_UNUSED static void image_put(struct image *image, int64_t offset, uint64_t value, unsigned bytes)
{
    for (unsigned i = bytes; i > 0; i--) {
        image->data[offset + i - 1] = (uint8_t)value;
        value >>= 8;
    }
}

SIM_UNUSED static struct image image_copy(const struct image *from)
{
    struct image image = {malloc((size_t)from->bytes + 1), from->bytes};

    memcpy(image.data, from->data, (size_t)from->bytes);
    return image;
}

SIM_UNUSED static struct image image_vector(const char *name)
{
    size_t bytes;
    uint8_t *data = read_vector(name, &bytes);
    struct image image = {calloc(1, ROUND_UP(bytes, (size_t)512) + 1), (int64_t)ROUND_UP(bytes, (size_t)512)};

    memcpy(image.data, data, bytes);
    free(data);
    return image;
}

/* --- the real tool ----------------------------------------------------------------------------------------------
 */

SIM_UNUSED static bool have_qemu_img(void)
{
    static int known = -1;

    if (known < 0) {
        known = system("qemu-img --version >/dev/null 2>&1") == 0;
    }
    return known;
}

static int64_t json_number(const char *json, const char *name)
{
    char key[64];

    snprintf(key, sizeof(key), "\"%s\": ", name);
    const char *at = strstr(json, key);
    return at ? strtoll(at + strlen(key), NULL, 10) : 0;
}

/* `qemu-img check` of a file: its exit status and figures. repair: "", "leaks", "all". The file may change. */
SIM_UNUSED static int qemu_check(const char *file, const char *repair, BdrvCheckResult *res)
{
    char command[512], json[4096];

    snprintf(command, sizeof(command),
             "qemu-img check --output=json %s%s 'json:{\"driver\":\"qcow2\",\"backing\":null,"
             "\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}' 2>/dev/null",
             repair[0] ? "-r " : "", repair, file);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(json, 1, sizeof(json) - 1, pipe);
    json[n] = 0;
    int status = pclose(pipe);
    res->corruptions = json_number(json, "corruptions");
    res->leaks = json_number(json, "leaks");
    res->check_errors = json_number(json, "check-errors");
    res->corruptions_fixed = json_number(json, "corruptions-fixed");
    res->leaks_fixed = json_number(json, "leaks-fixed");
    res->image_end_offset = json_number(json, "image-end-offset");
    res->total_clusters = json_number(json, "total-clusters");
    res->allocated_clusters = json_number(json, "allocated-clusters");
    res->fragmented_clusters = json_number(json, "fragmented-clusters");
    res->compressed_clusters = json_number(json, "compressed-clusters");
    return WEXITSTATUS(status);
}

SIM_UNUSED static void image_save(const struct image *image, char *file, size_t room)
{
    const char *dir = getenv("TMPDIR");

    snprintf(file, room, "%s/blksim-snap-%ld.qcow2", dir ? dir : "/tmp", (long)getpid());
    FILE *out = fopen(file, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(image->data, 1, (size_t)image->bytes, out), image->bytes);
    fclose(out);
}

/* --- power ------------------------------------------------------------------------------------------------------
 */

/* Before each write: what is on the medium if the power fails now, with all that was written and with only what is
 * stable. Judged at once by the checkers' reader. */
struct cuts {
    struct disk_interposer interposer;
    struct world *w;
    struct disk *disk;
    struct image *images;
    size_t n;
    unsigned allow; /* QCOW2_ALLOW_*; */
    bool broken;    /* the image was not whole before either: not judged */
};

static void cut_judge(struct qcow2_source source, unsigned allow, size_t n)
{
    struct qcow2_image *image = qcow2_image_read(source);

    if (image->error[0]) {
        fail_msg("cut %zu: %s", n, image->error);
    }
    const struct qcow2_finding *found = qcow2_image_judge(image, allow);
    if (found) {
        fail_msg("cut %zu: %s at %#llx: %s", n, qcow2_finding_name(found->kind), (unsigned long long)found->at,
                 found->text);
    }
    qcow2_image_free(image);
}

static void cut_peek_durable(const void *opaque, int64_t offset, int64_t bytes, struct payload *out)
{
    disk_peek_durable(opaque, offset, bytes, out);
}

static void cut_now(struct cuts *cuts)
{
    struct qcow2_source source = qcow2_source_of_disk(cuts->disk);

    cuts->images = realloc(cuts->images, (cuts->n + 2) * sizeof(*cuts->images));
    cuts->images[cuts->n++] = image_take(cuts->w, cuts->disk, false);
    if (!cuts->broken) {
        cut_judge(source, cuts->allow, cuts->n);
    }
    source.opaque = cuts->disk;
    source.peek = cut_peek_durable;
    cuts->images[cuts->n++] = image_take(cuts->w, cuts->disk, true);
    if (!cuts->broken) {
        cut_judge(source, cuts->allow, cuts->n);
    }
}

static void cut_before(struct disk_interposer *self, struct disk_req *req)
{
    if (req->op != SIM_OP_READ) {
        cut_now((struct cuts *)self);
    }
}

SIM_UNUSED static void cuts_begin(struct cuts *cuts, struct world *w, struct disk *disk, unsigned allow)
{
    *cuts = (struct cuts){.interposer.before = cut_before, .w = w, .disk = disk, .allow = allow};
    disk_add_interposer(disk, &cuts->interposer);
}

SIM_UNUSED static void cuts_end(struct cuts *cuts)
{
    disk_remove_interposer(cuts->disk, &cuts->interposer);
    cut_now(cuts);
}

SIM_UNUSED static void cuts_free(struct cuts *cuts)
{
    for (size_t i = 0; i < cuts->n; i++) {
        free(cuts->images[i].data);
    }
    free(cuts->images);
}

#endif
