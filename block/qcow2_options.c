/*
 * Options of a qcow2 node (reference/block.md 6, bitmaps-qcow2.md 5.4, 5.6, 5.8): when counts are written, which
 * discards go to the host, what is checked before a write, and how much metadata stays in memory.
 */
#include <errno.h>
#include <inttypes.h>

#include "block/qcow2_open.h"

#define DEFAULT_L2_CACHE_MAX (32 * MiB)
#define DEFAULT_L2_ENTRY_BYTES 4096
#define DEFAULT_CLEAN_INTERVAL_S 600
#define MIN_L2_TABLES 2
#define MIN_REFCOUNT_BLOCKS 4
/* More is of no use to anybody: 2^20 blocks count what any image can hold of interest, and memory for the places
 * of tables is taken at once. */
#define MAX_TABLES ((uint64_t)1 << 20)

/* --- tables ------------------------------------------------------------------------------------------------- */

static const char *const overlap_templates[] = {"none", "constant", "cached", "all", NULL};
static const unsigned template_bits[] = {QCOW2_OL_NONE, QCOW2_OL_CONSTANT, QCOW2_OL_CACHED, QCOW2_OL_ALL};

#define CACHED 2 /* of the templates: the default */

static const BdrvOption overlap_members[] = {
    {"template", BDRV_OPT_ENUM, false, "which structures, unless said one by one; default cached",
     overlap_templates},
    {"main-header", BDRV_OPT_BOOL, false, "header", NULL},
    {"active-l1", BDRV_OPT_BOOL, false, "active L1 table", NULL},
    {"active-l2", BDRV_OPT_BOOL, false, "active L2 tables", NULL},
    {"refcount-table", BDRV_OPT_BOOL, false, "refcount table", NULL},
    {"refcount-block", BDRV_OPT_BOOL, false, "refcount blocks", NULL},
    {"snapshot-table", BDRV_OPT_BOOL, false, "snapshot table", NULL},
    {"inactive-l1", BDRV_OPT_BOOL, false, "L1 tables of snapshots", NULL},
    {"inactive-l2", BDRV_OPT_BOOL, false, "L2 tables of snapshots", NULL},
    {"bitmap-directory", BDRV_OPT_BOOL, false, "bitmap directory", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

static const struct {
    const char *name;
    unsigned bit;
} overlap_bits[] = {
    {"main-header", QCOW2_OL_MAIN_HEADER},
    {"active-l1", QCOW2_OL_ACTIVE_L1},
    {"active-l2", QCOW2_OL_ACTIVE_L2},
    {"refcount-table", QCOW2_OL_REFCOUNT_TABLE},
    {"refcount-block", QCOW2_OL_REFCOUNT_BLOCK},
    {"snapshot-table", QCOW2_OL_SNAPSHOT_TABLE},
    {"inactive-l1", QCOW2_OL_INACTIVE_L1},
    {"inactive-l2", QCOW2_OL_INACTIVE_L2},
    {"bitmap-directory", QCOW2_OL_BITMAP_DIRECTORY},
};

static const BdrvWordOrDict overlap_values = {overlap_templates, overlap_members};

const BdrvOption qcow2_driver_options[] = {
    {"file", BDRV_OPT_NODE, true, "node that holds the image", NULL},
    {"backing", BDRV_OPT_NODE, false, "node below, null for none, default what the image names", NULL},
    {"data-file", BDRV_OPT_NODE, false, "node with the guest's data, default what the image names", NULL},
    {"lazy-refcounts", BDRV_OPT_BOOL, false,
     "write counts late, rebuild them after a crash; default as the image says", NULL},
    {"pass-discard-request", BDRV_OPT_BOOL, false,
     "discard on the host what guests discard, default if discard=unmap", NULL},
    {"pass-discard-snapshot", BDRV_OPT_BOOL, false, "discard on the host what a snapshot leaves, default on", NULL},
    {"pass-discard-other", BDRV_OPT_BOOL, false, "discard on the host what else becomes free, default off", NULL},
    {"discard-no-unref", BDRV_OPT_BOOL, false, "keep clusters that guests discard, default off", NULL},
    {"overlap-check", BDRV_OPT_WORD_OR_DICT, false, "structures that no write may touch: a template, or one by one",
     &overlap_values},
    {"cache-size", BDRV_OPT_SIZE, false, "memory for L2 tables and refcount blocks in bytes", NULL},
    {"l2-cache-size", BDRV_OPT_SIZE, false, "memory for L2 tables in bytes, default for the whole disk up to 32M",
     NULL},
    {"l2-cache-entry-size", BDRV_OPT_SIZE, false,
     "part of an L2 table read at once in bytes, default a cluster, 4k if not all of the disk is cached", NULL},
    {"refcount-cache-size", BDRV_OPT_SIZE, false, "memory for refcount blocks in bytes, default 4 clusters", NULL},
    {"cache-clean-interval", BDRV_OPT_INT, false, "seconds until unused tables are forgotten, 0 never, default 600",
     NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

const char *const qcow2_mutable_options[] = {
    "lazy-refcounts",      "pass-discard-request", "pass-discard-snapshot",
    "pass-discard-other",  "discard-no-unref",     "overlap-check",
    "cache-size",          "l2-cache-size",        "l2-cache-entry-size",
    "refcount-cache-size", "cache-clean-interval", NULL,
};

/* --- overlap checks ----------------------------------------------------------------------------------------- */

static bool find_template(const char *word, unsigned *bits)
{
    for (unsigned i = 0; overlap_templates[i]; i++) {
        if (str_is(overlap_templates[i], word)) {
            *bits = template_bits[i];
            return true;
        }
    }
    return false;
}

static bool read_overlap(const struct qvalue *options, unsigned *bits, Error **errp)
{
    const struct qvalue *given = qdict_get(options, "overlap-check");
    const struct qvalue *dict = given && given->type == QVALUE_DICT ? given : NULL;
    const char *word = given && !dict ? given->str.bytes : overlap_templates[CACHED];

    if (!qdict_get_str(dict, "template", &word, word, errp)) {
        return false;
    }
    bool known = find_template(word, bits);
    SIM_ASSERT(known);
    for (size_t i = 0; i < ARRAY_SIZE(overlap_bits); i++) {
        unsigned bit = overlap_bits[i].bit;
        bool on;
        if (!qdict_get_bool(dict, overlap_bits[i].name, &on, (*bits & bit) != 0, errp)) {
            return false;
        }
        *bits = on ? *bits | bit : *bits & ~bit;
    }
    return true;
}

/* --- caches --------------------------------------------------------------------------------------------------- */

struct sizes {
    bool combined_set, l2_set, refcount_set, entry_set;
    int64_t combined, l2, refcount, entry;
};

static bool read_sizes(const BDRVQcow2State *s, const struct qvalue *options, struct sizes *z, Error **errp)
{
    z->combined_set = qdict_get(options, "cache-size") != NULL;
    z->l2_set = qdict_get(options, "l2-cache-size") != NULL;
    z->refcount_set = qdict_get(options, "refcount-cache-size") != NULL;
    z->entry_set = qdict_get(options, "l2-cache-entry-size") != NULL;
    return qdict_get_size(options, "cache-size", &z->combined, 0, errp) &&
           qdict_get_size(options, "l2-cache-size", &z->l2, DEFAULT_L2_CACHE_MAX, errp) &&
           qdict_get_size(options, "refcount-cache-size", &z->refcount, 0, errp) &&
           qdict_get_size(options, "l2-cache-entry-size", &z->entry, s->cluster_size, errp);
}

/* cache-size is what both have together; whatever is not said of one is what the other leaves. whole: L2 tables of
 * all of the disk. */
static bool share_combined(const BDRVQcow2State *s, struct sizes *z, int64_t whole, Error **errp)
{
    int64_t least = MIN_REFCOUNT_BLOCKS * s->cluster_size;

    if (!z->combined_set) {
        return true;
    }
    if (z->l2_set && z->refcount_set) {
        error_setg(errp, "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time");
        return false;
    }
    if (z->l2_set && z->l2 > z->combined) {
        error_setg(errp, "l2-cache-size may not exceed cache-size");
        return false;
    }
    if (z->refcount > z->combined) {
        error_setg(errp, "refcount-cache-size may not exceed cache-size");
        return false;
    }
    if (z->l2_set) {
        z->refcount = z->combined - z->l2;
    } else if (z->refcount_set) {
        z->l2 = z->combined - z->refcount;
    } else if (z->combined >= least && z->combined - least >= whole) {
        z->l2 = whole;
        z->refcount = z->combined - whole;
    } else {
        z->refcount = MIN(z->combined, least);
        z->l2 = z->combined - z->refcount;
    }
    return true;
}

static bool read_caches(const BlockDriverState *bs, const struct qvalue *options, struct qcow2_options *out,
                        Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t whole = ROUND_UP(size_to_clusters(s, bs->total_bytes) * (int64_t)s->l2_entry_size, s->cluster_size);
    struct sizes z;

    if (!read_sizes(s, options, &z, errp) || !share_combined(s, &z, whole, errp)) {
        return false;
    }
    z.l2 = MIN(z.l2, whole);
    if (!z.entry_set && z.l2 < whole) {
        z.entry = MIN(s->cluster_size, (int64_t)DEFAULT_L2_ENTRY_BYTES);
    }
    if (z.entry < 1 << QCOW2_MIN_CLUSTER_BITS || z.entry > s->cluster_size || !is_power_of_2((uint64_t)z.entry)) {
        error_setg(errp, "L2 cache entry size must be a power of two between %d and the cluster size (%lld)",
                   1 << QCOW2_MIN_CLUSTER_BITS, (long long)s->cluster_size);
        return false;
    }
    out->l2_cache_bytes = (uint64_t)z.l2;
    out->l2_cache_entry_bytes = (uint64_t)z.entry;
    out->refcount_cache_bytes = (uint64_t)MAX(z.refcount, MIN_REFCOUNT_BLOCKS * s->cluster_size);
    return true;
}

unsigned qcow2_cache_tables(uint64_t cache_bytes, uint64_t table_bytes)
{
    return (unsigned)MIN(MAX(cache_bytes / table_bytes, (uint64_t)MIN_L2_TABLES), MAX_TABLES);
}

void qcow2_caches_create(BlockDriverState *bs, const struct qcow2_options *options, Qcow2Cache **l2_tables,
                         Qcow2Cache **refcount_blocks)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t entry = options->l2_cache_entry_bytes;
    uint64_t block = (uint64_t)s->cluster_size;

    SIM_ASSERT(entry > 0 && entry <= block);
    *l2_tables = qcow2_cache_create(bs, qcow2_cache_tables(options->l2_cache_bytes, entry), (unsigned)entry);
    *refcount_blocks =
        qcow2_cache_create(bs, qcow2_cache_tables(options->refcount_cache_bytes, block), (unsigned)block);
}

/* --- all ---------------------------------------------------------------------------------------------------- */

static bool read_discards(const struct qvalue *options, uint32_t flags, struct qcow2_options *out, Error **errp)
{
    bool *pass = out->discard_passthrough;

    pass[QCOW2_DISCARD_NEVER] = false;
    pass[QCOW2_DISCARD_ALWAYS] = true;
    return qdict_get_bool(options, "pass-discard-request", &pass[QCOW2_DISCARD_REQUEST],
                          (flags & BDRV_O_UNMAP) != 0, errp) &&
           qdict_get_bool(options, "pass-discard-snapshot", &pass[QCOW2_DISCARD_SNAPSHOT], true, errp) &&
           qdict_get_bool(options, "pass-discard-other", &pass[QCOW2_DISCARD_OTHER], false, errp) &&
           qdict_get_bool(options, "discard-no-unref", &out->discard_no_unref, false, errp);
}

static bool check_version(const BDRVQcow2State *s, const struct qcow2_options *o, Error **errp)
{
    if (s->qcow_version >= 3) {
        return true;
    }
    if (o->lazy_refcounts) {
        error_setg(errp, "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level");
        return false;
    }
    if (o->discard_no_unref) {
        error_setg(errp, "discard-no-unref is only supported since qcow2 version 3");
        return false;
    }
    return true;
}

int qcow2_options_read(const BlockDriverState *bs, const struct qvalue *options, uint32_t flags,
                       struct qcow2_options *out, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    bool lazy = (s->compatible_features & QCOW2_COMPAT_LAZY_REFCOUNTS) != 0;
    int64_t interval;

    memset(out, 0, sizeof(*out));
    if (!qdict_get_bool(options, "lazy-refcounts", &out->lazy_refcounts, lazy, errp) ||
        !read_discards(options, flags, out, errp) || !read_overlap(options, &out->overlap_check, errp) ||
        !read_caches(bs, options, out, errp) || !check_version(s, out, errp) ||
        !qdict_get_int(options, "cache-clean-interval", &interval, DEFAULT_CLEAN_INTERVAL_S, errp)) {
        return -EINVAL;
    }
    if (interval < 0 || interval > UINT32_MAX) {
        error_setg(errp, "Cache clean interval too big");
        return -EINVAL;
    }
    out->cache_clean_interval_s = (uint64_t)interval;
    return 0;
}

void qcow2_options_apply(BDRVQcow2State *s, const struct qcow2_options *options)
{
    s->use_lazy_refcounts = options->lazy_refcounts;
    memcpy(s->discard_passthrough, options->discard_passthrough, sizeof(s->discard_passthrough));
    s->discard_no_unref = options->discard_no_unref;
    s->overlap_check = options->overlap_check;
    s->l2_cache_bytes = options->l2_cache_bytes;
    s->l2_cache_entry_bytes = options->l2_cache_entry_bytes;
    s->l2_slice_size = (unsigned)(options->l2_cache_entry_bytes / s->l2_entry_size);
    s->refcount_cache_bytes = options->refcount_cache_bytes;
    s->cache_clean_interval_s = options->cache_clean_interval_s;
}
