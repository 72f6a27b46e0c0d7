/*
 * Every L1 and L2 entry of the active layer and of the snapshots: what it refers to, and whether it may (5.2, 5.8).
 */
#include "check/qcow2_int.h"

#include <inttypes.h>

struct walk {
    struct qcow2_image *image;
    uint32_t view; /* 0 active, i + 1: snapshot i */
    int64_t l2;    /* the table at hand */
    int64_t guest; /* offset that the entry at hand stands for */
    uint64_t entry;
    uint64_t subclusters; /* the second word of an extended entry */
    int64_t at;           /* where the entry is */
};

typedef void entry_fn(struct walk *walk);

static void found(struct walk *walk, enum qcow2_finding_kind kind, const char *what)
{
    qcow2_found(walk->image, kind, walk->at,
                "L2 entry %016" PRIx64 " at %#" PRIx64 " for guest offset %#" PRIx64 "%s: %s", walk->entry,
                (uint64_t)walk->at, (uint64_t)walk->guest, walk->view ? " in a snapshot" : "", what);
}

/* --- judging an entry ------------------------------------------------------------------------------------- */

static void look_at_compressed(struct walk *walk)
{
    struct qcow2_image *image = walk->image;
    int64_t offset;
    int64_t bytes;

    if (walk->entry & ENTRY_COPIED) {
        found(walk, QCOW2_FOUND_COMPRESSED_FLAG, "COPIED on compressed data");
    }
    if (walk->subclusters) {
        found(walk, QCOW2_FOUND_COMPRESSED_FLAG, "subclusters in compressed data");
    }
    if (image->external_data) {
        found(walk, QCOW2_FOUND_DATA_FILE, "compressed data beside an external data file");
        return;
    }
    qcow2_compressed_span(image, walk->entry, &offset, &bytes);
    qcow2_ref_add(image, offset, bytes, USE_COMPRESSED, walk->view, walk->at);
    if (walk->view == 0) {
        image->allocated_clusters++;
        image->compressed_clusters++;
    }
}

static void look_at_subclusters(struct walk *walk, int64_t offset, bool allocated)
{
    uint32_t alloc = (uint32_t)walk->subclusters;
    uint32_t zero = (uint32_t)(walk->subclusters >> 32);

    if (alloc & zero) {
        found(walk, QCOW2_FOUND_SUBCLUSTERS, "a subcluster both allocated and zero");
    } else if (alloc && !allocated) {
        found(walk, QCOW2_FOUND_SUBCLUSTERS, "allocated subclusters without a host cluster");
    }
}

static void look_at_external(struct walk *walk, int64_t offset)
{
    if (offset != walk->guest) {
        found(walk, QCOW2_FOUND_DATA_OFFSET, "not at its own offset in the data file");
    }
    if (!(walk->entry & ENTRY_COPIED)) { /* wherever it is: real checks count it */
        found(walk, QCOW2_FOUND_DATA_FILE, "no COPIED, though data files are never shared");
    }
}

static void look_at_entry(struct walk *walk)
{
    struct qcow2_image *image = walk->image;
    int64_t offset = (int64_t)(walk->entry & ENTRY_OFFSET);
    bool allocated = offset != 0 || (image->external_data && (walk->entry & ENTRY_COPIED));

    if (walk->entry & ENTRY_COMPRESSED) {
        look_at_compressed(walk);
        return;
    }
    if (walk->entry & L2_RESERVED) {
        found(walk, QCOW2_FOUND_RESERVED, "reserved bits");
    }
    if ((walk->entry & ENTRY_ZERO) && (image->version < 3 || image->extended_l2)) {
        found(walk, QCOW2_FOUND_ZERO_IN_V2, "a zero flag where there is none");
    }
    if (image->extended_l2) {
        look_at_subclusters(walk, offset, allocated);
    }
    if (!allocated) {
        return;
    }
    image->allocated_clusters += walk->view == 0;
    if (image->external_data) {
        look_at_external(walk, offset);
    } else if (offset % image->cluster_bytes) {
        found(walk, QCOW2_FOUND_UNALIGNED, "not at a cluster");
    } else {
        qcow2_ref_add(image, offset, image->cluster_bytes, USE_DATA, walk->view, walk->at);
    }
}

/* --- walking ---------------------------------------------------------------------------------------------- */

/* fn sees each entry of the table that is not 0. */
static bool walk_l2(struct walk *walk, int64_t guest, entry_fn *fn)
{
    struct qcow2_image *image = walk->image;
    uint32_t count = qcow2_l2_entries(image);
    uint32_t words = image->extended_l2 ? 2 : 1;

    if (!qcow2_spend(image, count)) {
        return false;
    }
    const uint64_t *table = qcow2_l2_table(image, walk->l2);
    for (uint32_t i = 0; i < count; i++) {
        walk->entry = table[i * words];
        walk->subclusters = words == 2 ? table[i * 2 + 1] : 0;
        walk->guest = guest + (int64_t)i * image->cluster_bytes;
        walk->at = walk->l2 + (int64_t)i * words * 8;
        if (walk->entry || walk->subclusters) {
            fn(walk);
        }
    }
    return true;
}

static void walk_l1(struct walk *walk, const uint64_t *l1, uint32_t entries, int64_t l1_offset)
{
    struct qcow2_image *image = walk->image;
    int64_t per_l2 = (int64_t)qcow2_l2_entries(image) << image->cluster_bits;

    for (uint32_t i = 0; i < entries; i++) {
        int64_t offset = (int64_t)(l1[i] & ENTRY_OFFSET);
        int64_t at = l1_offset + (int64_t)i * 8;

        if (l1[i] & L1_RESERVED) {
            qcow2_found(image, QCOW2_FOUND_RESERVED, at, "reserved bits in L1 entry %u: %016" PRIx64, i, l1[i]);
        }
        if (l1[i] == 0) { /* other bits without an offset name the header, for a check */
            continue;
        }
        if (offset % image->cluster_bytes) {
            qcow2_found(image, QCOW2_FOUND_UNALIGNED, at, "L1 entry %u is not at a cluster: %016" PRIx64, i, l1[i]);
            continue;
        }
        if (!qcow2_ref_add(image, offset, image->cluster_bytes, USE_L2, walk->view, at)) {
            if (image->incomplete) {
                return;
            }
            continue;
        }
        walk->l2 = offset;
        if (!walk_l2(walk, i <= INT64_MAX / per_l2 ? i * per_l2 : INT64_MAX - per_l2, look_at_entry)) {
            return;
        }
    }
}

void qcow2_walk_views(struct qcow2_image *image)
{
    struct walk walk = {.image = image};

    walk_l1(&walk, image->l1, image->l1_size, image->l1_offset);
    for (uint32_t i = 0; i < image->snapshot_count; i++) {
        const struct qcow2_image_snapshot *s = &image->snapshot[i];

        walk.view = i + 1;
        if (s->l1 && !image->incomplete) {
            walk_l1(&walk, s->l1, s->l1_size, s->l1_offset);
        }
    }
}

/* --- COPIED ----------------------------------------------------------------------------------------------- */

static void judge_copied(struct qcow2_image *image, uint64_t entry, int64_t at, const char *what)
{
    int64_t offset = (int64_t)(entry & ENTRY_OFFSET);
    const struct cluster_ref *ref = qcow2_ref_find(image, offset / image->cluster_bytes);
    bool copied = (entry & ENTRY_COPIED) != 0;

    if (!ref || offset % image->cluster_bytes) {
        return; /* told already */
    }
    if (copied != (ref->stored == 1)) {
        qcow2_found(image, QCOW2_FOUND_COPIED, at,
                    "%s entry %016" PRIx64 " at %#" PRIx64 ": COPIED is %s, the count is %" PRIu64
                    ", true references %u",
                    what, entry, (uint64_t)at, copied ? "set" : "clear", ref->stored, ref->references);
    }
    if (copied && ref->references > 1) {
        qcow2_found(image, QCOW2_FOUND_COPIED_SHARED, at,
                    "%s entry %016" PRIx64 " at %#" PRIx64 ": COPIED, but %u references lead there", what, entry,
                    (uint64_t)at, ref->references);
    }
}

static void judge_entry(struct walk *walk)
{
    if (!(walk->entry & ENTRY_COMPRESSED) && (walk->entry & ENTRY_OFFSET) && !walk->image->external_data) {
        judge_copied(walk->image, walk->entry, walk->at, "L2");
    }
}

static void test_entry(struct walk *walk)
{
    struct qcow2_image *image = walk->image;

    if ((walk->entry & ENTRY_COMPRESSED) && image->work->decompressed < DECOMPRESSED_MAX) {
        image->work->decompressed += image->cluster_bytes;
        if (!qcow2_image_decompress(image, walk->entry, image->work->cluster)) {
            found(walk, QCOW2_FOUND_COMPRESSED_DATA, "does not decompress");
        }
    }
}

static void walk_active(struct qcow2_image *image, entry_fn *fn)
{
    struct walk walk = {.image = image};
    int64_t per_l2 = (int64_t)qcow2_l2_entries(image) << image->cluster_bits;

    for (uint32_t i = 0; i < image->l1_size; i++) {
        walk.l2 = (int64_t)(image->l1[i] & ENTRY_OFFSET);
        if (walk.l2 == 0 || walk.l2 % image->cluster_bytes) {
            continue;
        }
        if (fn == judge_entry) {
            judge_copied(image, image->l1[i], image->l1_offset + (int64_t)i * 8, "L1");
        }
        if (!walk_l2(&walk, i <= INT64_MAX / per_l2 ? i * per_l2 : INT64_MAX - per_l2, fn)) {
            return;
        }
    }
}

void qcow2_walk_copied(struct qcow2_image *image)
{
    walk_active(image, judge_entry);
}

void qcow2_image_test_compressed(struct qcow2_image *image)
{
    SIM_ASSERT(image->error[0] == '\0');
    if (image->compressed_clusters && !image->external_data) {
        image->work->cluster_of = -1; /* the buffer is lent */
        walk_active(image, test_entry);
    }
}
