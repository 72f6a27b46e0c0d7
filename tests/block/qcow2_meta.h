/*
 * A qcow2 node over a medium that the test has laid out itself, with all that passes to the medium on record: for
 * tests that call the metadata functions directly, under the lock, as requests do.
 *
 *     Q2_TEST(name, {.cluster_bits = 9, .refcount_order = 4, .size = MiB}) { ... q ... }
 *
 * Layout: header, refcount table, refcount block, L1 in clusters 0, 1, 2, 3..; counts of all of these are 1.
 */
#ifndef TESTS_BLOCK_QCOW2_META_H
#define TESTS_BLOCK_QCOW2_META_H

#include "tests/block/blktest.h"

#include "block/qcow2.h"
#include "check/qcow2_image.h"

struct q2_spec {
    unsigned cluster_bits;
    unsigned refcount_order;
    int64_t size;
    bool lazy;
    unsigned tables;            /* of each cache; 0: as opened */
    uint32_t reftable_clusters; /* 0: 1 */
    const char *open;           /* more options: ",'overlap-check':'all'" */
    bool as_it_is;              /* the test closes the node itself, or leaves a broken image */
};

/* What goes to the medium. */
struct q2_log {
    struct disk_interposer hook;
    struct q2 *q;
    char text[4096];
    size_t length;
    bool on;
    /* The nth write (1: the next) to the place of that name, "F", or "read-" and a place, fails with EIO. */
    const char *fail;
    unsigned fail_nth;
    /* All writes fail until this is cleared. */
    bool fail_all;
    /* Before each write: a power loss there must leave an image with no worse than leaks. */
    bool judge;
    unsigned judged;
};

struct q2 {
    struct world *w;
    struct q2_spec spec;
    struct disk *disk;
    BlockDriverState *bs;
    BDRVQcow2State *s;
    struct q2_log log;
};

/* --- bytes on the medium ------------------------------------------------------------------------------------ */

SIM_UNUSED static void q2_poke(struct q2 *q, int64_t offset, const void *data, int64_t bytes)
{
    struct payload p;

    payload_init(q->w->sim, &p);
    payload_append_bytes(&p, data, bytes);
    disk_poke(q->disk, offset, &p);
    payload_clear(&p);
}

SIM_UNUSED static void q2_poke_int(struct q2 *q, int64_t offset, unsigned bytes, uint64_t value)
{
    uint8_t raw[8];

    for (unsigned i = 0; i < bytes; i++) {
        raw[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    }
    q2_poke(q, offset, raw, bytes);
}

SIM_UNUSED static uint64_t q2_peek_int(struct q2 *q, int64_t offset, unsigned bytes)
{
    uint8_t raw[8];
    uint64_t value = 0;
    struct payload p;

    payload_init(q->w->sim, &p);
    disk_peek(q->disk, offset, bytes, &p);
    payload_read_bytes(&p, 0, raw, bytes);
    payload_clear(&p);
    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | raw[i];
    }
    return value;
}

SIM_UNUSED static int64_t q2_cluster(const struct q2 *q, int64_t index)
{
    return index << q->spec.cluster_bits;
}

static uint32_t q2_l1_entries(const struct q2_spec *spec)
{
    return (uint32_t)DIV_ROUND_UP(spec->size, (int64_t)1 << (2 * spec->cluster_bits - 3));
}

SIM_UNUSED static int64_t q2_l1_at(const struct q2 *q)
{
    return q2_cluster(q, 2 + MAX(q->spec.reftable_clusters, 1u));
}

static void q2_format(struct q2 *q)
{
    const struct q2_spec *spec = &q->spec;
    uint32_t table = MAX(spec->reftable_clusters, 1u);
    uint32_t l1 = q2_l1_entries(spec);
    int64_t block = q2_cluster(q, 1 + table);
    int64_t used = 2 + table + DIV_ROUND_UP((int64_t)l1 * 8, q2_cluster(q, 1));
    unsigned bits = 1u << spec->refcount_order;

    q2_poke_int(q, 0, 4, QCOW_MAGIC);
    q2_poke_int(q, 4, 4, 3);
    q2_poke_int(q, 20, 4, spec->cluster_bits);
    q2_poke_int(q, 24, 8, (uint64_t)spec->size);
    q2_poke_int(q, 36, 4, l1);
    q2_poke_int(q, 40, 8, (uint64_t)q2_l1_at(q));
    q2_poke_int(q, 48, 8, (uint64_t)q2_cluster(q, 1));
    q2_poke_int(q, 56, 4, table);
    q2_poke_int(q, 80, 8, spec->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0);
    q2_poke_int(q, 96, 4, spec->refcount_order);
    q2_poke_int(q, 100, 4, QCOW2_HEADER_BYTES);
    q2_poke_int(q, q2_cluster(q, 1), 8, (uint64_t)block);
    for (int64_t i = 0; i < used; i++) {
        if (bits >= 8) {
            q2_poke_int(q, block + i * (bits / 8), bits / 8, 1);
        } else {
            unsigned shift = (unsigned)(i * bits % 8);
            int64_t at = block + i * bits / 8;
            q2_poke_int(q, at, 1, q2_peek_int(q, at, 1) | 1u << shift);
        }
    }
    q2_poke_int(q, q2_cluster(q, used) - 1, 1, 0); /* the file ends with the L1 table's cluster */
}

/* --- judges --------------------------------------------------------------------------------------------------- */

static void q2_judge_source(struct qcow2_source source, unsigned allow, const char *when)
{
    struct qcow2_image *image = qcow2_image_read(source);

    if (image->error[0]) {
        fail_msg("%s: %s", when, image->error);
    }
    const struct qcow2_finding *found = qcow2_image_judge(image, allow);
    if (found) {
        fail_msg("%s: %s at %#llx: %s", when, qcow2_finding_name(found->kind), (unsigned long long)found->at,
                 found->text);
    }
    qcow2_image_free(image);
}

/* The medium as it is now, by the checkers' reader. */
SIM_UNUSED static void q2_judge(struct q2 *q, unsigned allow)
{
    q2_judge_source(qcow2_source_of_disk(q->disk), allow, "now");
}

static void q2_peek_durable(const void *opaque, int64_t offset, int64_t bytes, struct payload *out)
{
    disk_peek_durable(opaque, offset, bytes, out);
}

/* What a power loss leaves: all that was written so far, or only what was flushed. */
static void q2_judge_power(struct q2 *q)
{
    unsigned allow = QCOW2_ALLOW_LEAKS | QCOW2_ALLOW_DIRTY;
    struct qcow2_source durable = qcow2_source_of_disk(q->disk);

    q2_judge_source(durable, allow, "all written");
    durable.opaque = q->disk;
    durable.peek = q2_peek_durable;
    q2_judge_source(durable, allow, "what was flushed");
    q->log.judged++;
}

/* --- the record ----------------------------------------------------------------------------------------------- */

/* What lies at an offset, by the state in memory: one word. */
static const char *q2_place(struct q2 *q, int64_t offset)
{
    const BDRVQcow2State *s = q->s;

    if (s == NULL || offset < s->cluster_size) {
        return "header";
    }
    if (offset >= s->refcount_table_offset &&
        offset < s->refcount_table_offset + (int64_t)s->refcount_table_size * 8) {
        return "reftable";
    }
    if (offset >= s->l1_table_offset && offset < s->l1_table_offset + (int64_t)s->l1_size * 8) {
        return "l1";
    }
    for (uint32_t i = 0; i < s->refcount_table_size; i++) {
        if ((int64_t)s->refcount_table[i] == start_of_cluster(s, offset)) {
            return "refblock";
        }
    }
    for (uint32_t i = 0; i < s->l1_size; i++) {
        if ((int64_t)(s->l1_table[i] & L1E_OFFSET_MASK) == start_of_cluster(s, offset)) {
            return "l2";
        }
    }
    return "new";
}

static void q2_log_add(struct q2_log *log, const char *word)
{
    int n = snprintf(log->text + log->length, sizeof(log->text) - log->length, "%s%s", log->length > 0 ? " " : "",
                     word);
    log->length = MIN(log->length + (size_t)n, sizeof(log->text) - 1);
}

static void q2_before(struct disk_interposer *self, struct disk_req *req)
{
    struct q2_log *log = container_of(self, struct q2_log, hook);
    char word[64];

    if (log->on && req->op == SIM_OP_READ && log->fail != NULL && strncmp(log->fail, "read-", 5) == 0 &&
        strcmp(log->fail + 5, q2_place(log->q, req->offset)) == 0 && log->fail_nth > 0 && --log->fail_nth == 0) {
        req->ret = -EIO;
    }
    if (!log->on || req->op == SIM_OP_READ ||
        (req->op != SIM_OP_WRITE && req->op != SIM_OP_FLUSH && req->op != SIM_OP_DISCARD)) {
        return;
    }
    if (log->judge) {
        q2_judge_power(log->q);
    }
    const char *place = req->op == SIM_OP_FLUSH ? "F" : q2_place(log->q, req->offset);
    if (req->op == SIM_OP_DISCARD) {
        snprintf(word, sizeof(word), "discard:%lld", (long long)(req->offset >> log->q->spec.cluster_bits));
    } else {
        snprintf(word, sizeof(word), "%s", place);
    }
    q2_log_add(log, word);
    bool hit = log->fail != NULL && strcmp(log->fail, place) == 0 && log->fail_nth > 0 && --log->fail_nth == 0;
    if (hit || (log->fail_all && req->op != SIM_OP_DISCARD)) {
        q2_log_add(log, "!");
        req->ret = -EIO;
    }
}

SIM_UNUSED static void q2_log_clear(struct q2 *q)
{
    q->log.length = 0;
    q->log.text[0] = '\0';
}

#define q2_expect_log(q, expected) assert_string_equal((q)->log.text, expected)

/* --- the node ------------------------------------------------------------------------------------------------- */

static void q2_small_caches(struct q2 *q)
{
    if (q->spec.tables > 0) {
        BDRVQcow2State *s = q->s;
        assert_int_equal(qcow2_flush_caches(q->bs), 0);
        qcow2_cache_destroy(q->bs, s->l2_table_cache);
        qcow2_cache_destroy(q->bs, s->refcount_block_cache);
        s->l2_table_cache = qcow2_cache_create(q->bs, q->spec.tables, s->l2_slice_size * s->l2_entry_size);
        s->refcount_block_cache = qcow2_cache_create(q->bs, q->spec.tables, (unsigned)s->cluster_size);
    }
}

SIM_UNUSED static void q2_open(struct q2 *q)
{
    char options[512];

    snprintf(options, sizeof(options),
             "{'driver':'qcow2','node-name':'q','discard':'unmap',"
             "'file':{'driver':'disk','node-name':'f','disk':'img','discard':'unmap'}%s}",
             q->spec.open != NULL ? q->spec.open : "");
    q->bs = add(q->w, options);
    q->s = q->bs->opaque;
    co_mutex_lock(&q->s->lock);
    q2_small_caches(q);
    q->log.on = true;
}

SIM_UNUSED static void q2_close(struct q2 *q)
{
    q->log.on = false;
    co_mutex_unlock(&q->s->lock);
    q->s = NULL;
    del(q->w, "q");
}

/* Leaks by the checkers' reader. */
SIM_UNUSED static uint64_t q2_leaks(struct q2 *q)
{
    struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(q->disk));
    uint64_t leaks = image->leaks;

    qcow2_image_free(image);
    return leaks;
}

static void q2_run(struct world *w, struct q2_spec spec, void (*body)(struct q2 *q))
{
    struct q2 q = {.w = w, .spec = spec, .log = {.hook = {.before = q2_before}}};

    q.log.q = &q;
    q.disk = make_disk(w, "img", 0);
    q2_format(&q);
    disk_add_interposer(q.disk, &q.log.hook);
    q2_open(&q);
    body(&q);
    if (q.s != NULL) {
        q2_close(&q);
    }
    disk_remove_interposer(q.disk, &q.log.hook);
    if (!spec.as_it_is) {
        q2_judge(&q, QCOW2_ALLOW_LEAKS);
    }
    assert_int_equal(sim_arena_live(w->host->arena, SIM_TYPE_qcow2_memory), 0);
}

#define Q2_TEST(name, ...) \
    static void name##_q2(struct q2 *q); \
    WORLD_TEST(name) \
    { \
        q2_run(w, (struct q2_spec)__VA_ARGS__, name##_q2); \
    } \
    static void name##_q2(struct q2 *q)

/* The same test in a world of its own for each width of counts. */
static struct q2_spec q2_width_spec;
static void (*q2_width_body)(struct q2 *q);

static void q2_one_width(struct world *w)
{
    q2_run(w, q2_width_spec, q2_width_body);
}

SIM_UNUSED static void q2_each_width(struct q2_spec spec, void (*body)(struct q2 *q))
{
    q2_width_spec = spec;
    q2_width_body = body;
    for (q2_width_spec.refcount_order = 0; q2_width_spec.refcount_order <= 6; q2_width_spec.refcount_order++) {
        world_run(q2_one_width);
    }
}

/* --- short forms ------------------------------------------------------------------------------------------------
 */

SIM_UNUSED static uint64_t q2_count(struct q2 *q, int64_t cluster)
{
    uint64_t count;

    assert_int_equal(qcow2_get_refcount(q->bs, (uint64_t)cluster, &count), 0);
    return count;
}

/* As the medium has it: the count of a cluster, whatever is cached. */
SIM_UNUSED static uint64_t q2_count_on_medium(struct q2 *q, int64_t cluster)
{
    const BDRVQcow2State *s = q->s;
    uint8_t raw[4096];
    struct payload p;
    int64_t table = (int64_t)q2_peek_int(q, 48, 8);
    int64_t index = cluster >> s->refcount_block_bits;
    int64_t block = (int64_t)q2_peek_int(q, table + index * 8, 8);

    if (block == 0) {
        return 0;
    }
    assert_true(s->cluster_size <= (int64_t)sizeof(raw));
    payload_init(q->w->sim, &p);
    disk_peek(q->disk, block, s->cluster_size, &p);
    payload_read_bytes(&p, 0, raw, s->cluster_size);
    payload_clear(&p);
    return qcow2_refcount_get(s, raw, (uint64_t)cluster & ((1ULL << s->refcount_block_bits) - 1));
}

/* Cluster index of a new run. */
SIM_UNUSED static int64_t q2_alloc(struct q2 *q, int64_t clusters)
{
    int64_t offset = qcow2_alloc_clusters(q->bs, q2_cluster(q, clusters));

    assert_true(offset > 0);
    return offset >> q->spec.cluster_bits;
}

SIM_UNUSED static void q2_free(struct q2 *q, int64_t cluster, int64_t clusters, enum qcow2_discard_type type)
{
    qcow2_free_clusters(q->bs, q2_cluster(q, cluster), q2_cluster(q, clusters), type);
}

#endif
