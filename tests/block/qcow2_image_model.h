/* Random images of qcow2 with every kind of cluster in every place, and what is to be seen in them. */
#ifndef TESTS_BLOCK_QCOW2_IMAGE_MODEL_H
#define TESTS_BLOCK_QCOW2_IMAGE_MODEL_H

#include "tests/block/qcow2_build.h"

#include "block/qcow2.h"

struct model {
    struct build b;
    uint8_t *view;  /* what the guest sees */
    unsigned parts; /* subclusters of a cluster */
    int64_t part;   /* bytes of one */
    unsigned *type; /* QCow2SubclusterType of each of the disk */
    int64_t *host;  /* where its first byte is, or -1 */
    int64_t below;  /* bytes of the backing file; -1: none */
    uint64_t seed;
};

SIM_UNUSED static uint64_t draw(struct model *m, uint64_t below)
{
    m->seed += 0x9e3779b97f4a7c15ULL;
    return sim_mix64(m->seed) % below;
}

static uint8_t below_byte(int64_t offset)
{
    return (uint8_t)(0x80 | (offset / 512 * 7 + 1));
}

/* Data of one part at a place of the file. */
static void model_data(struct model *m, int64_t at, int64_t host)
{
    for (int64_t i = 0; i < m->part; i += 512) {
        memset(m->b.bytes + host + i, 1 + (int)draw(m, 255), 512);
    }
    if (at < m->b.size) {
        memcpy(m->view + at, m->b.bytes + host, (size_t)MIN(m->part, m->b.size - at));
    }
}

static void model_zero(struct model *m, int64_t at)
{
    if (at < m->b.size) {
        memset(m->view + at, 0, (size_t)MIN(m->part, m->b.size - at));
    }
}

static void model_part(struct model *m, int64_t index, unsigned type, int64_t host)
{
    int64_t at = index * m->part;
    m->type[index] = type;
    m->host[index] = host;
    if (type == QCOW2_SUBCLUSTER_NORMAL) {
        model_data(m, at, host);
    } else if (type == QCOW2_SUBCLUSTER_ZERO_ALLOC || type == QCOW2_SUBCLUSTER_ZERO_PLAIN) {
        model_zero(m, at);
        if (host >= 0) {
            memset(m->b.bytes + host, 0xee, (size_t)m->part); /* nobody may see it */
        }
    }
}

static void model_compressed(struct model *m, int64_t cluster)
{
    int64_t bytes = build_cluster(&m->b);
    uint8_t *data = malloc((size_t)bytes);
    for (int64_t i = 0; i < bytes; i++) {
        data[i] = (uint8_t)(cluster * 3 + i / 500 + 1);
    }
    build_set(&m->b, cluster, build_compressed(&m->b, data), 0);
    memcpy(m->view + cluster * bytes, data, (size_t)MIN(bytes, m->b.size - cluster * bytes));
    for (unsigned i = 0; i < m->parts; i++) {
        m->type[cluster * m->parts + i] = QCOW2_SUBCLUSTER_COMPRESSED;
    }
    free(data);
}

/* Extended: each part for itself, runs being likely. */
static uint64_t model_bitmap(struct model *m, int64_t cluster, int64_t host)
{
    uint64_t bitmap = 0;
    unsigned type = 0;
    for (unsigned i = 0; i < m->parts; i++) {
        if (i == 0 || draw(m, 4) == 0) {
            type = (unsigned)draw(m, 3);
        }
        unsigned with[] = {QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC, QCOW2_SUBCLUSTER_ZERO_ALLOC,
                           QCOW2_SUBCLUSTER_NORMAL};
        unsigned without[] = {QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN, QCOW2_SUBCLUSTER_ZERO_PLAIN,
                              QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN};
        unsigned is = host >= 0 ? with[type] : without[type];
        model_part(m, cluster * m->parts + i, is, host >= 0 ? host + i * m->part : -1);
        bitmap |= is == QCOW2_SUBCLUSTER_NORMAL ? 1ULL << i : 0;
        bitmap |= is == QCOW2_SUBCLUSTER_ZERO_ALLOC || is == QCOW2_SUBCLUSTER_ZERO_PLAIN ? 1ULL << (32 + i) : 0;
    }
    return bitmap;
}

static void model_cluster(struct model *m, int64_t cluster)
{
    unsigned kinds = m->b.version >= 3 ? 6 : 4;
    unsigned kind = (unsigned)draw(m, kinds);
    if (kind == 0) {
        return; /* nothing, perhaps not even a table */
    }
    if (kind == 1) {
        model_compressed(m, cluster);
        return;
    }
    bool placed = kind != 4;
    int64_t host = placed ? build_take(&m->b) : -1;
    if (kind == 3) {
        host = build_take(&m->b); /* not behind the one before */
    }
    uint64_t entry = placed ? (uint64_t)host | 1ULL << 63 : 0;
    if (m->b.extended) {
        build_set(&m->b, cluster, entry, model_bitmap(m, cluster, host));
        return;
    }
    unsigned type = kind == 4   ? QCOW2_SUBCLUSTER_ZERO_PLAIN
                    : kind == 5 ? QCOW2_SUBCLUSTER_ZERO_ALLOC
                                : QCOW2_SUBCLUSTER_NORMAL;
    build_set(&m->b, cluster, entry | (kind >= 4), 0);
    model_part(m, cluster, type, host);
}

/* The caller has set b's kind and size, below and seed. */
SIM_UNUSED static void model_make(struct model *m, struct world *w, const char *name)
{
    int64_t clusters = DIV_ROUND_UP(m->b.size, build_cluster(&m->b));
    m->parts = m->b.extended ? 32 : 1;
    m->part = build_cluster(&m->b) / m->parts;
    m->view = calloc(1, (size_t)m->b.size);
    m->type = calloc((size_t)(clusters * m->parts), sizeof(*m->type));
    m->host = malloc((size_t)(clusters * m->parts) * sizeof(*m->host));
    for (int64_t i = 0; i < clusters * m->parts; i++) {
        m->host[i] = -1;
    }
    for (int64_t i = 0; i < m->below && i < m->b.size; i++) {
        m->view[i] = below_byte(i);
    }
    build_begin(&m->b, m->b.size * 3 + 64 * build_cluster(&m->b));
    for (int64_t i = 0; i < clusters; i++) {
        model_cluster(m, i);
    }
    build_end(&m->b, w, name);
}

SIM_UNUSED static void model_free(struct model *m)
{
    free(m->view);
    free(m->type);
    free(m->host);
}

/* Opens the image on disk `top`; its backing file is made on disk `base`. */
SIM_UNUSED static BlockDriverState *model_open(struct model *m, struct world *w)
{
    char text[400];
    if (m->below < 0) {
        return add(w, "{'driver':'qcow2','node-name':'n','read-only':true,'file':{'driver':'disk','disk':'top'}}");
    }
    struct disk *base = make_disk(w, "base", m->below);
    struct payload p;
    payload_init(w->sim, &p);
    for (int64_t i = 0; i < m->below; i += 512) {
        payload_append_fill(&p, below_byte(i), 512);
    }
    disk_poke(base, 0, &p);
    payload_clear(&p);
    snprintf(text, sizeof(text),
             "{'driver':'qcow2','node-name':'n','read-only':true,'file':{'driver':'disk','disk':'top'},"
             "'backing':{'driver':'disk','node-name':'base','disk':'base','read-only':true}}");
    return add(w, text);
}

#endif
