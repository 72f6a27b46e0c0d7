/*
 * The result of a run as data: the `hosts` object while the world stands, and the whole as one JSON object in the
 * key order that DESIGN 6 fixes.
 */
#include "block/block_int.h"
#include "check/qcow2_image.h"
#include "scenario/runner_int.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIGEST_MAX_BYTES (4 * GiB)
#define DIGEST_CHUNK_BYTES (256 * KiB)

/* --- digests ---------------------------------------------------------------------------------------------- */

/* A piece of a view; data NULL: zeroes. False: that is enough. */
typedef bool piece_fn(void *opaque, int64_t offset, const uint8_t *data, int64_t bytes);

/* The whole view in order, in pieces of at most DIGEST_CHUNK_BYTES. False: fn said so, or the node has no view
 * without I/O (a quorum, say). */
static bool each_piece(const BlockDriverState *bs, piece_fn *fn, void *opaque)
{
    int64_t length = bdrv_getlength_cached(bs);
    uint8_t *buf = malloc(DIGEST_CHUNK_BYTES);
    bool more = true;

    SIM_ASSERT(buf);
    for (int64_t at = 0, run = 0; more && at < length; at += run) {
        bool data = bdrv_peek_status(bs, at, length - at, &run);
        struct payload p;

        run = MIN(run, DIGEST_CHUNK_BYTES);
        if (!data) {
            more = fn(opaque, at, NULL, run);
            continue;
        }
        payload_init(bdrv_host(bs)->sim, &p);
        more = bdrv_peek(bs, at, run, &p) == 0;
        if (more) {
            payload_read_bytes(&p, 0, buf, run);
            more = fn(opaque, at, buf, run);
        }
        payload_clear(&p);
    }
    free(buf);
    return more;
}

static bool digest_piece(void *opaque, int64_t offset, const uint8_t *data, int64_t bytes)
{
    static const uint8_t zeroes[DIGEST_CHUNK_BYTES];

    return EVP_DigestUpdate(opaque, data ? data : zeroes, (size_t)bytes) == 1;
}

/* SHA-256 of the whole guest view; NULL above 4 GiB. */
static struct qvalue *view_digest(const BlockDriverState *bs, bool wanted)
{
    int64_t length = bdrv_getlength_cached(bs);
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned int md_len = 0;
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    EVP_MD_CTX *ctx;

    if (!wanted || length > DIGEST_MAX_BYTES) {
        return qvalue_null();
    }
    ctx = EVP_MD_CTX_new();
    SIM_ASSERT(ctx);
    EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
    bool seen = each_piece(bs, digest_piece, ctx);
    EVP_DigestFinal_ex(ctx, md, &md_len);
    EVP_MD_CTX_free(ctx);
    for (unsigned i = 0; i < md_len; i++) {
        snprintf(hex + 2 * i, 3, "%02x", md[i]);
    }
    return seen ? qvalue_str(hex) : qvalue_null();
}

static bool save_piece(void *opaque, int64_t offset, const uint8_t *data, int64_t bytes)
{
    FILE *f = opaque;

    return !data || (fseeko(f, offset, SEEK_SET) == 0 && fwrite(data, 1, (size_t)bytes, f) == (size_t)bytes);
}

/* The view as a raw file, with holes. A view that cannot be had without I/O, or above 4 GiB, leaves no file. */
static void save_view(const BlockDriverState *bs, const char *folder)
{
    int64_t length = bdrv_getlength_cached(bs);
    char *path;

    if (length > DIGEST_MAX_BYTES || asprintf(&path, "%s/%s.view", folder, bdrv_get_node_name(bs)) < 0) {
        return;
    }
    FILE *f = fopen(path, "wb");
    bool whole = f && ftruncate(fileno(f), length) == 0 && each_piece(bs, save_piece, f);
    if (f && (fclose(f) != 0 || !whole)) {
        unlink(path);
    }
    free(path);
}

/* --- hosts ------------------------------------------------------------------------------------------------ */

static int64_t allocated_below(const BlockDriverState *bs)
{
    struct disk *disk = disk_find(bdrv_host(bs)->sim, bdrv_filename(bs) ? bdrv_filename(bs) : "");

    return disk ? disk_allocated_bytes(disk) : 0;
}

/* What the graph puts below a format, whatever its header names. */
static void put_backing(struct qvalue *node, const BlockDriverState *bs, const char *views)
{
    const BdrvChild *child = bdrv_cow_child(bs);

    if (!child) {
        return;
    }
    qdict_put(node, "backing", qvalue_str(bdrv_get_node_name(child->bs)));
    if (views) {
        save_view(child->bs, views);
    }
}

static struct qvalue *nodes_object(struct host *host, bool digest, const char *views)
{
    struct qvalue *nodes = qvalue_dict();

    for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs; bs = bdrv_next_node(host, bs)) {
        struct qvalue *node = qvalue_dict();

        qdict_put(node, "driver", qvalue_str(bdrv_driver_name(bs)));
        qdict_put(node, "size", qvalue_int(bdrv_getlength_cached(bs)));
        qdict_put(node, "sha256", view_digest(bs, digest));
        qdict_put(node, "allocated", qvalue_int(allocated_below(bs)));
        qdict_put(node, "check", qvalue_null());
        if (bdrv_filename(bs)) {
            qdict_put(node, "file", qvalue_str(bdrv_filename(bs)));
        }
        put_backing(node, bs, views);
        if (bdrv_is_inactive(bs)) {
            qdict_put(node, "inactive", qvalue_bool(true));
        }
        qdict_put(nodes, bdrv_get_node_name(bs), node);
    }
    return nodes;
}

static struct qvalue *bitmap_entry(const BlockDriverState *bs, const BdrvDirtyBitmap *bitmap)
{
    const char *name = bdrv_dirty_bitmap_name(bitmap);
    struct qvalue *entry = qvalue_dict();
    char hash[65];

    bool hashed = bdrv_dirty_bitmap_sha256(bitmap, hash);

    qdict_put(entry, "node", qvalue_str(bdrv_get_node_name(bs)));
    qdict_put(entry, "name", name ? qvalue_str(name) : qvalue_null());
    qdict_put(entry, "granularity", qvalue_int(bdrv_dirty_bitmap_granularity(bitmap)));
    qdict_put(entry, "count", qvalue_int(bdrv_get_dirty_count(bitmap)));
    qdict_put(entry, "sha256", hashed ? qvalue_str(hash) : qvalue_null());
    qdict_put(entry, "recording", qvalue_bool(bdrv_dirty_bitmap_recording(bitmap)));
    qdict_put(entry, "busy", qvalue_bool(bdrv_dirty_bitmap_busy(bitmap)));
    qdict_put(entry, "persistent", qvalue_bool(bdrv_dirty_bitmap_persistent(bitmap)));
    qdict_put(entry, "inconsistent", qvalue_bool(bdrv_dirty_bitmap_inconsistent(bitmap)));
    return entry;
}

static struct qvalue *bitmaps_list(struct host *host)
{
    struct qvalue *list = qvalue_list();

    for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs; bs = bdrv_next_node(host, bs)) {
        for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_next(bs, NULL); b; b = bdrv_dirty_bitmap_next(bs, b)) {
            qlist_append(list, bitmap_entry(bs, b));
        }
    }
    return list;
}

static struct qvalue *jobs_list(struct runner *runner)
{
    struct qvalue *list = qvalue_list();
    struct job_outcome *o;

    TAILQ_FOREACH(o, &runner->outcomes, list)
    {
        struct qvalue *entry = qvalue_dict();

        qdict_put(entry, "id", qvalue_str(o->id));
        qdict_put(entry, "type", o->type ? qvalue_str(o->type) : qvalue_null());
        qdict_put(entry, "status", o->status ? qvalue_str(o->status) : qvalue_null());
        qdict_put(entry, "error", o->error ? qvalue_str(o->error) : qvalue_null());
        qlist_append(list, entry);
    }
    return list;
}

static struct qvalue *events_list(struct runner *runner, const struct host *host)
{
    struct qvalue *list = qvalue_list();
    struct seen_event *seen;

    TAILQ_FOREACH(seen, &runner->events, list)
    {
        struct qvalue *entry;

        if (seen->host != host) {
            continue;
        }
        entry = qvalue_dict();
        qdict_put(entry, "event", qvalue_str(sim_event_desc(seen->kind)->qmp));
        qdict_put(entry, "data", qvalue_copy(seen->fields));
        qlist_append(list, entry);
    }
    return list;
}

struct qvalue *result_hosts(struct runner *runner, bool digest, const char *views)
{
    struct qvalue *hosts = qvalue_dict();

    for (struct host *host = host_first(runner->sim); host; host = host->next) {
        struct qvalue *object = qvalue_dict();

        qdict_put(object, "nodes", nodes_object(host, digest, views));
        qdict_put(object, "bitmaps", bitmaps_list(host));
        qdict_put(object, "jobs", jobs_list(runner));
        qdict_put(object, "events", events_list(runner, host));
        qdict_put(hosts, host->name->str, object);
    }
    return hosts;
}

/* --- the whole -------------------------------------------------------------------------------------------- */

static struct qvalue *text_or_null(const char *text)
{
    return text ? qvalue_str(text) : qvalue_null();
}

static struct qvalue *violations_list(const struct run_result *result)
{
    struct qvalue *list = qvalue_list();

    for (const struct violation *v = result->violations; v; v = v->next) {
        struct qvalue *entry = qvalue_dict();

        qdict_put(entry, "check", qvalue_str(v->check));
        qdict_put(entry, "signature", qvalue_str(v->signature));
        qdict_put(entry, "time_ns", qvalue_int(v->time_ns));
        qdict_put(entry, "event", qvalue_int((int64_t)v->event));
        qdict_put(entry, "host", text_or_null(v->host));
        qdict_put(entry, "node", text_or_null(v->node));
        qdict_put(entry, "job", text_or_null(v->job));
        qdict_put(entry, "detail", qvalue_str(v->detail));
        qlist_append(list, entry);
    }
    return list;
}

static struct qvalue *marks_object(const struct run_result *result)
{
    struct qvalue *marks = qvalue_dict();

    for (unsigned m = 0; m < MARK_COUNT; m++) {
        if (result->marks[m]) {
            qdict_put(marks, sim_mark_name(m), qvalue_int((int64_t)result->marks[m]));
        }
    }
    return marks;
}

char *run_result_json(const struct run_result *result, const char *profile, const char *scenario_name)
{
    struct qvalue *object = qvalue_dict();
    char hash[17];
    char *rest, *text;

    snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)result->trace_hash);
    qdict_put(object, "profile", text_or_null(profile));
    qdict_put(object, "scenario", text_or_null(scenario_name));
    qdict_put(object, "verdict", qvalue_str(verdict_name(result->verdict)));
    qdict_put(object, "trace_hash", qvalue_str(hash));
    qdict_put(object, "virtual_ns", qvalue_int(result->virtual_ns));
    qdict_put(object, "event_count", qvalue_int((int64_t)result->event_count));
    qdict_put(object, "requests", qvalue_int((int64_t)result->requests));
    qdict_put(object, "violations", violations_list(result));
    qdict_put(object, "hosts", result->hosts ? qvalue_copy(result->hosts) : qvalue_dict());
    qdict_put(object, "marks", marks_object(result));
    if (result->error) {
        qdict_put(object, "error", qvalue_str(result->error));
    }
    rest = qvalue_to_json(object);
    qvalue_free(object);
    SIM_ASSERT_EQ(rest[0], '{');
    /* by hand: a seed may be larger than the integers of QMP */
    if (asprintf(&text, "{\"seed\":%llu,%s", (unsigned long long)result->seed, rest + 1) < 0) {
        text = NULL;
    }
    SIM_ASSERT(text);
    free(rest);
    return text;
}

void run_result_clear(struct run_result *result)
{
    while (result->violations) {
        struct violation *v = result->violations;

        result->violations = v->next;
        free(v->check);
        free(v->signature);
        free(v->host);
        free(v->node);
        free(v->job);
        free(v->detail);
        free(v);
    }
    qvalue_free(result->hosts);
    free(result->choices);
    free(result->error);
    result->hosts = NULL;
    result->choices = NULL;
    result->error = NULL;
}

/* --- images, by the checkers' own reader --------------------------------------------------------------------- */

static void check_image(struct runner *runner, struct qvalue *node)
{
    struct qvalue *file = qdict_get(node, "file");
    struct disk *disk = file ? disk_find(runner->sim, file->str.bytes) : NULL;

    if (!disk || strcmp(qdict_get(node, "driver")->str.bytes, "qcow2") != 0) {
        return;
    }
    struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(disk));
    struct qvalue *check = qvalue_dict();
    qdict_put(check, "corruptions", qvalue_int((int64_t)image->corruptions));
    qdict_put(check, "leaks", qvalue_int((int64_t)image->leaks));
    qdict_put(check, "errors", qvalue_int(image->error[0] != '\0' || image->incomplete));
    qcow2_image_free(image);
    qvalue_free(qdict_take(node, "check"));
    file = qdict_take(node, "file"); /* the order of the keys stays */
    qdict_put(node, "check", check);
    qdict_put(node, "file", file);
}

void result_check_images(struct runner *runner, struct qvalue *hosts)
{
    for (size_t h = 0; h < hosts->seq.count; h++) {
        struct qvalue *nodes = qdict_get(hosts->seq.items[h], "nodes");

        for (size_t n = 0; nodes && n < nodes->seq.count; n++) {
            check_image(runner, nodes->seq.items[n]);
        }
    }
}
