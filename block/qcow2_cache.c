/*
 * qcow2: a cache of metadata tables, least recently used out first.
 *
 *     get -> hit: pin
 *         -> miss: new memory while there are fewer than `tables`, else the oldest table that nobody pins
 *                  (written first if dirty, with all that it depends on); then read
 *
 * A table's memory begins with a struct of its own, so the pointer that users hold finds it. Users hold s->lock and
 * give tables back before they let go of it: a handful of tables is always enough.
 */
#include <errno.h>

#include "block/qcow2_cache_int.h"

Qcow2Cache *qcow2_cache_create(BlockDriverState *bs, unsigned tables, unsigned table_bytes)
{
    SIM_ASSERT(tables >= 2);
    SIM_ASSERT(is_power_of_2(table_bytes) && table_bytes >= 512);
    Qcow2Cache *c = qcow2_alloc(bs, sizeof(*c));
    c->bs = bs;
    c->tables = tables;
    c->table_bytes = table_bytes;
    TAILQ_INIT(&c->lru);
    TAILQ_INIT(&c->dirty);
    return c;
}

static size_t table_size(const Qcow2Cache *c)
{
    return sizeof(struct qcow2_table) + c->table_bytes;
}

static void free_table(BlockDriverState *bs, Qcow2Cache *c, struct qcow2_table *t)
{
    SIM_ASSERT_EQ(t->pins, 0);
    qcow2_free(bs, t, table_size(c));
}

/* Nobody finds it any more. */
static void take_out(Qcow2Cache *c, struct qcow2_table *t)
{
    SIM_ASSERT(!t->stale && c->count > 0);
    if (t->dirty) {
        TAILQ_REMOVE(&c->dirty, t, dirty_list);
        t->dirty = false;
    }
    LIST_REMOVE(t, hash);
    TAILQ_REMOVE(&c->lru, t, lru);
    c->count--;
}

void qcow2_cache_destroy(BlockDriverState *bs, Qcow2Cache *c)
{
    struct qcow2_table *t;

    while ((t = TAILQ_FIRST(&c->lru)) != NULL) {
        take_out(c, t);
        free_table(bs, c, t);
    }
    SIM_ASSERT_EQ(c->count, 0);
    qcow2_free(bs, c, sizeof(*c));
}

/* --- finding ---------------------------------------------------------------------------------------------- */

static struct qcow2_bucket *bucket_of(Qcow2Cache *c, int64_t offset)
{
    return &c->bucket[(uint64_t)offset / c->table_bytes % QCOW2_CACHE_BUCKETS];
}

static struct qcow2_table *find(Qcow2Cache *c, int64_t offset)
{
    struct qcow2_table *t;

    LIST_FOREACH(t, bucket_of(c, offset), hash)
    {
        if (t->offset == offset) {
            return t;
        }
    }
    return NULL;
}

static struct qcow2_table *oldest_unpinned(const Qcow2Cache *c)
{
    struct qcow2_table *t;

    TAILQ_FOREACH(t, &c->lru, lru)
    {
        if (t->pins == 0) {
            return t;
        }
    }
    return NULL;
}

/* Memory for one more table, in no list. */
static int make_room(BlockDriverState *bs, Qcow2Cache *c, struct qcow2_table **out)
{
    if (c->count < c->tables) {
        *out = sim_alloc_raw(bs->host->arena, SIM_TYPE_qcow2_memory, table_size(c));
        return 0;
    }
    struct qcow2_table *victim = oldest_unpinned(c);
    SIM_ASSERT(victim != NULL); /* pins do not outlive a turn of the lock */
    if (victim->dirty) {
        SIM_MARK(bs->host->sim, qcow2_dirty_evicted);
    }
    int ret = qcow2_cache_write_table(bs, c, victim);
    if (ret == 0) {
        take_out(c, victim);
        *out = victim;
    }
    return ret;
}

static void put_in(Qcow2Cache *c, struct qcow2_table *t, int64_t offset)
{
    SIM_ASSERT(find(c, offset) == NULL);
    t->cache = c;
    t->offset = offset;
    t->pins = 0;
    t->dirty = t->stale = t->used = false;
    LIST_INSERT_HEAD(bucket_of(c, offset), t, hash);
    TAILQ_INSERT_TAIL(&c->lru, t, lru);
    c->count++;
}

static int load(BlockDriverState *bs, Qcow2Cache *c, struct qcow2_table *t, int64_t offset)
{
    const BDRVQcow2State *s = bs->opaque;

    bdrv_co_debug_event(bs->file->bs, c == s->l2_table_cache ? BLKDBG_L2_LOAD : BLKDBG_REFBLOCK_LOAD);
    return qcow2_pread(bs, offset, c->table_bytes, t->data);
}

static int get(BlockDriverState *bs, Qcow2Cache *c, int64_t offset, bool read, uint8_t **table)
{
    const BDRVQcow2State *s = bs->opaque;

    *table = NULL;
    if (offset <= 0 || (offset & (c->table_bytes - 1)) != 0) {
        qcow2_signal_corruption(bs, true, -1, -1, "Cannot get entry from %s cache: Offset %#llx is unaligned",
                                c == s->l2_table_cache ? "L2 table" : "refcount block", (unsigned long long)offset);
        return -EIO;
    }
    struct qcow2_table *t = find(c, offset);
    if (t == NULL) {
        int ret = make_room(bs, c, &t);
        if (ret == 0 && read) {
            ret = load(bs, c, t, offset);
            if (ret < 0) {
                qcow2_free(bs, t, table_size(c));
            }
        }
        if (ret < 0) {
            return ret;
        }
        put_in(c, t, offset);
    }
    if (!read) {
        memset(t->data, 0, c->table_bytes);
    }
    t->pins++;
    t->used = true;
    TAILQ_REMOVE(&c->lru, t, lru);
    TAILQ_INSERT_TAIL(&c->lru, t, lru);
    *table = t->data;
    return 0;
}

int qcow2_cache_get(BlockDriverState *bs, Qcow2Cache *c, int64_t offset, uint8_t **table)
{
    return get(bs, c, offset, true, table);
}

int qcow2_cache_get_empty(BlockDriverState *bs, Qcow2Cache *c, int64_t offset, uint8_t **table)
{
    return get(bs, c, offset, false, table);
}

void qcow2_cache_put(Qcow2Cache *c, uint8_t **table)
{
    struct qcow2_table *t = qcow2_table_of(c, *table);

    SIM_ASSERT(t->pins > 0);
    t->pins--;
    *table = NULL;
    if (t->pins == 0 && t->stale) {
        free_table(c->bs, c, t);
    }
}

void qcow2_cache_entry_mark_dirty(Qcow2Cache *c, const uint8_t *table)
{
    struct qcow2_table *t = qcow2_table_of(c, table);

    SIM_ASSERT(t->pins > 0);
    if (!t->dirty && !t->stale) {
        t->dirty = true;
        TAILQ_INSERT_TAIL(&c->dirty, t, dirty_list);
    }
}

uint8_t *qcow2_cache_is_table_offset(Qcow2Cache *c, int64_t offset)
{
    struct qcow2_table *t = find(c, offset);
    return t != NULL ? t->data : NULL;
}

/* --- forgetting ------------------------------------------------------------------------------------------- */

void qcow2_cache_discard(Qcow2Cache *c, uint8_t *table)
{
    struct qcow2_table *t = qcow2_table_of(c, table);

    take_out(c, t);
    if (t->pins > 0) {
        /* Only an image that refers to its own tables as data comes here. */
        SIM_MARK(c->bs->host->sim, qcow2_table_freed_in_use);
        t->stale = true;
        return;
    }
    free_table(c->bs, c, t);
}

int qcow2_cache_empty(BlockDriverState *bs, Qcow2Cache *c)
{
    int ret = qcow2_cache_flush(bs, c);
    if (ret < 0) {
        return ret;
    }
    struct qcow2_table *t;
    while ((t = TAILQ_FIRST(&c->lru)) != NULL) {
        take_out(c, t);
        free_table(bs, c, t);
    }
    return 0;
}

void qcow2_cache_clean_unused(BlockDriverState *bs, Qcow2Cache *c)
{
    struct qcow2_table *next;

    for (struct qcow2_table *t = TAILQ_FIRST(&c->lru); t != NULL; t = next) {
        next = TAILQ_NEXT(t, lru);
        if (t->pins == 0 && !t->dirty && !t->used) {
            take_out(c, t);
            free_table(bs, c, t);
        } else {
            t->used = false;
        }
    }
}
