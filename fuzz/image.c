/*
 * Fuzz target: any bytes are a qcow2 image; it is opened, checked, read, mended and written to, and must not break
 * anything by it. What is promised of every image, however broken:
 *
 *     - no crash, no assertion, no hang; bounded requests and memory (image_rig.h)
 *     - who only reads writes nothing, and who is refused has written nothing
 *     - this driver and the checkers' own reader (check/qcow2_image.h) see the same guest data, and agree whether
 *       there are corruptions and, without those, leaks
 *     - after a repair that says it mended everything a check finds nothing, and what could be read reads the same
 *     - an image without fault has none after whatever a guest did to it
 */
#include "fuzz/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/qcow2_image.h"
#include "fuzz/fuzz.h"
#include "fuzz/image_ops.h"

/* What the independent reader says. */
struct verdict {
    bool readable; /* it is an image, and all of it was looked at */
    bool clean;    /* nothing wrong at all, by the strictest measure */
    bool overlaps; /* mending one thing may break another */
    uint64_t corruptions;
    uint64_t leaks;
    char finding[QCOW2_FINDING_TEXT + 32];
};

static struct verdict read_verdict(struct rig *rig)
{
    struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(rig->img));
    struct verdict v = {.readable = !image->error[0] && !image->incomplete};

    if (v.readable && image->external_data) {
        qcow2_image_set_data(image, qcow2_source_of_disk(disk_find(rig->sim, "data")));
    }
    if (v.readable) {
        const struct qcow2_finding *worst = qcow2_image_judge(image, 0);
        v.clean = worst == NULL && image->hidden_leaks == 0 && !image->corrupt;
        v.overlaps = image->found[QCOW2_FOUND_OVERLAP] > 0;
        v.corruptions = image->corruptions;
        v.leaks = image->leaks;
        if (worst) {
            snprintf(v.finding, sizeof(v.finding), "%s: %s", qcow2_finding_name(worst->kind), worst->text);
        }
    }
    qcow2_image_free(image);
    return v;
}

/* --- what both see
 * ------------------------------------------------------------------------------------------------ */

static void compare_check(struct rig *rig, const struct verdict *v, int ret, const BdrvCheckResult *res)
{
    if (ret < 0 || res->check_errors > 0 || !v->readable) {
        return;
    }
    if ((res->corruptions > 0) != (v->corruptions > 0)) {
        rig_finding(rig, "check counts %lld corruptions, the reader %llu (%s)", (long long)res->corruptions,
                    (unsigned long long)v->corruptions, v->finding);
    }
    /* beside corruptions it matters which of two wrong things one believes */
    if (!res->corruptions && (res->leaks > 0) != (v->leaks > 0)) {
        rig_finding(rig, "check counts %lld leaks, the reader %llu (%s)", (long long)res->leaks,
                    (unsigned long long)v->leaks, v->finding);
    }
}

static void below(void *opaque, int64_t offset, int64_t bytes, struct payload *out)
{
    struct rig *rig = opaque;
    struct disk *back = disk_find(rig->sim, "back");

    disk_peek(back, offset, bytes, out);
}

/* Backing files other than the raw one are beyond this comparison. */
static bool simple_backing(struct rig *rig)
{
    const BlockDriverState *backing = bdrv_cow_bs(rig->bs);

    return !backing || strcmp(bdrv_driver_name(backing), "raw") == 0;
}

static void compare_views(struct rig *rig, const struct ops_samples *samples)
{
    struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(rig->img));
    bool has_backing = bdrv_cow_bs(rig->bs) != NULL;

    if (image->error[0]) {
        rig_finding(rig, "opened, while the reader says: %s", image->error);
    }
    if (image->external_data) {
        qcow2_image_set_data(image, qcow2_source_of_disk(disk_find(rig->sim, "data")));
    }
    for (unsigned i = 0; i < samples->nb; i++) {
        const struct ops_sample *s = &samples->list[i];
        struct payload p;

        payload_init(rig->sim, &p);
        bool ok = qcow2_image_view(image, QCOW2_ACTIVE, s->offset, s->bytes, has_backing ? below : NULL, rig, &p);
        if (ok != (s->ret == 0)) {
            rig_finding(rig, "%lld bytes at %lld: read gives %d, the reader %s", (long long)s->bytes,
                        (long long)s->offset, s->ret, ok ? "can read them" : "cannot");
        }
        if (ok && payload_content_id(&p) != s->content) {
            rig_finding(rig, "%lld bytes at %lld read differently", (long long)s->bytes, (long long)s->offset);
        }
        payload_clear(&p);
    }
    qcow2_image_free(image);
}

static void compare_samples(struct rig *rig, const struct ops_samples *before, const char *what)
{
    struct ops_samples after = *before;

    ops_read_samples(rig, &after);
    for (unsigned i = 0; i < after.nb; i++) {
        const struct ops_sample *a = &before->list[i], *b = &after.list[i];
        if (a->ret == 0 && (b->ret != 0 || a->content != b->content)) {
            rig_finding(rig, "%lld bytes at %lld are not what they were %s: %d", (long long)a->bytes,
                        (long long)a->offset, what, b->ret);
        }
    }
}

/* --- phases
 * ------------------------------------------------------------------------------------------------------- */

/* False: it does not open. */
static bool read_only_phase(struct rig *rig, const struct verdict *v, struct ops_samples *samples)
{
    BdrvCheckResult res;

    if (!rig_open(rig, "read-only", 0)) {
        return false;
    }
    ops_look(rig);
    ops_find_samples(rig, samples);
    ops_read_samples(rig, samples);
    if (simple_backing(rig)) {
        compare_views(rig, samples);
    }
    int ret = rig_check(rig, &res, 0);
    compare_check(rig, v, ret, &res);
    rig_close(rig);
    if (rig->changes > 0) {
        rig_finding(rig, "%llu writes", (unsigned long long)rig->changes);
    }
    return true;
}

static void repair_phase(struct rig *rig, const struct verdict *v, const struct ops_samples *samples, uint32_t fix)
{
    BdrvCheckResult res, again;

    if (!rig_open(rig, fix == BDRV_FIX_LEAKS ? "check -r leaks" : "check -r all", RIG_WRITABLE | RIG_CHECK)) {
        return;
    }
    int ret = rig_check(rig, &res, fix);
    bool whole = ret == 0 && !res.check_errors && !res.corruptions && !res.leaks;
    if (whole) {
        ret = rig_check(rig, &again, 0);
        if (ret != 0 || again.check_errors || again.corruptions || again.leaks) {
            rig_finding(rig, "mended everything, then found %d: %lld errors, %lld corruptions, %lld leaks", ret,
                        (long long)again.check_errors, (long long)again.corruptions, (long long)again.leaks);
        }
    }
    /* Before the image is closed: bitmaps that are stored then leave clusters to others. Where one structure lies
     * on another (a refcount table on an L1 table, say) what is mended in the one is changed in the other, and a
     * check that works from memory sees neither (5.8: overlaps are nothing it looks for). */
    if (whole && !v->overlaps) {
        struct verdict after = read_verdict(rig);
        if (after.readable && (after.corruptions || after.leaks)) {
            rig_finding(rig, "mended everything, while the reader finds %s", after.finding);
        }
    }
    rig_close(rig);
    if (v->readable && !v->overlaps && samples->nb > 0 && whole) {
        if (!rig_open(rig, rig->phase, 0)) {
            rig_finding(rig, "mended everything, and does not open any more: %s", rig->error);
        }
        compare_samples(rig, samples, "before the repair");
        rig_close(rig);
    }
    rig_restore(rig);
}

static void write_phase(struct rig *rig, const struct verdict *v, bool was_open)
{
    struct ops_samples samples = {0};

    if (!rig_open(rig, "read-write", RIG_WRITABLE)) {
        if (v->clean && was_open && !ops_refusal_is_fine(rig)) {
            rig_finding(rig, "a faultless image is refused: %s", rig->error);
        }
        rig_restore(rig);
        return;
    }
    ops_run(rig, v->clean);
    if (v->clean) {
        ops_find_samples(rig, &samples);
        ops_read_samples(rig, &samples);
    }
    rig_close(rig);
    if (v->clean) {
        struct verdict after = read_verdict(rig);
        if (after.readable && !after.clean) {
            rig_finding(rig, "a faultless image has become %s", after.finding);
        }
        if (!rig_open(rig, "once more", 0)) {
            rig_finding(rig, "a faultless image does not open any more: %s", rig->error);
        }
        compare_samples(rig, &samples, "before the image was closed");
        rig_close(rig);
    }
}

static void run_input(const struct image_input *input)
{
    static struct rig rig;
    struct ops_samples samples = {0};

    rig_begin(&rig, input);
    struct verdict v = read_verdict(&rig);
    bool opened = read_only_phase(&rig, &v, &samples);
    repair_phase(&rig, &v, &samples, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS);
    repair_phase(&rig, &v, &samples, BDRV_FIX_LEAKS);
    write_phase(&rig, &v, opened);
    rig_end(&rig);
}

/* The image of an input, for other tools to look at. */
static void save(const struct image_input *input, const char *path)
{
    FILE *out = fopen(path, "wb");

    if (!out || fwrite(input->bytes, 1, input->length, out) != input->length || fclose(out) != 0) {
        fprintf(stderr, "%s: cannot be written\n", path);
        exit(2);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    const char *path = getenv("BLKSIM_UNPACK");
    struct image_input input;

    image_unpack(data, length, &input);
    if (path) {
        save(&input, path);
    }
    run_input(&input);
    image_input_clear(&input);
    return 0;
}
