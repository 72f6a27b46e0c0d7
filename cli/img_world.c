/*
 * What the verbs of `blksim img` share: a world to work in, images opened, messages, progress.
 */
#include "cli/img.h"
#include "cli/img_options.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *verb = "img";

void img_set_verb(const char *name)
{
    verb = name;
}

int img_error(Error *err)
{
    cli_error("%s: %s", verb, error_get_pretty(err));
    error_free(err);
    return EXIT_USAGE;
}

/* --- the world --------------------------------------------------------------------------------------------- */

struct img_work {
    struct host *host;
    int (*fn)(struct host *host, void *opaque);
    void *opaque;
    int status;
    bool done;
};

static void work_entry(void *opaque)
{
    struct img_work *work = opaque;

    work->status = work->fn(work->host, work->opaque);
    work->done = true;
}

int img_in_world(int (*fn)(struct host *host, void *opaque), void *opaque)
{
    struct sim *sim = sim_new();
    struct img_work work = {.host = host_new(sim, "host"), .fn = fn, .opaque = opaque, .status = EXIT_INTERNAL};

    bdrv_graph_init(work.host);
    bdrv_set_host_files(work.host, "");
    host_command(work.host, work_entry, &work);
    sim_run_idle(sim, NULL, NULL, INT64_MAX);
    if (!work.done) {
        cli_error("%s: the image's driver waits for something that never comes", verb);
        work.status = EXIT_INTERNAL;
    } else {
        bdrv_graph_cleanup(work.host);
    }
    sim_delete(sim);
    return work.status;
}

int img_run(struct host *host, int (*fn)(void *opaque), void *opaque)
{
    return bdrv_run_co(host, verb, fn, opaque);
}

/* --- opening ----------------------------------------------------------------------------------------------- */

bool img_output(const char *text, bool *json)
{
    *json = strcmp(text, "json") == 0;
    if (!*json && strcmp(text, "human") != 0) {
        cli_error("%s: --output must be used with human or json as argument", verb);
        return false;
    }
    return true;
}

/* Where a file is, or would be; NULL: there is not even a folder for it. libc memory. */
static char *true_path(const char *path)
{
    char *found = realpath(path, NULL);
    const char *slash = strrchr(path, '/');
    char *joined;

    if (found) {
        return found;
    }
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    found = folder ? realpath(folder, NULL) : NULL;
    free(folder);
    if (!found) {
        return NULL;
    }
    if (asprintf(&joined, "%s/%s", found, slash ? slash + 1 : path) < 0) {
        abort();
    }
    free(found);
    return joined;
}

bool img_same_file(const char *one, const char *other)
{
    struct stat st[2];

    if (stat(one, &st[0]) == 0 && stat(other, &st[1]) == 0) {
        return st[0].st_dev == st[1].st_dev && st[0].st_ino == st[1].st_ino;
    }
    char *paths[2] = {true_path(one), true_path(other)};
    bool same = paths[0] && paths[1] && strcmp(paths[0], paths[1]) == 0;
    free(paths[0]);
    free(paths[1]);
    return same;
}

bool img_check_cache(const char *cache)
{
    static const char *const modes[] = {"none", "writeback", "writethrough", "directsync", "unsafe"};

    for (size_t i = 0; cache && i < ARRAY_SIZE(modes); i++) {
        if (strcmp(cache, modes[i]) == 0) {
            return true;
        }
    }
    if (cache) {
        cli_error("%s: Invalid cache option: %s, expected none, writeback, writethrough, directsync or unsafe",
                  verb, cache);
    }
    return cache == NULL;
}

/* "driver=qcow2,file.filename=a.qcow2", with ",," for a comma in a value; NULL with errp. */
static struct qvalue *parse_image_opts(const char *text, Error **errp)
{
    struct qvalue *tree = qvalue_dict();
    char *copy = strdup(text);
    bool ok = true;

    SIM_ASSERT(copy);
    for (char *item = copy, *next; ok && *item; item = next) {
        next = img_cut_item(item);
        char *equals = strchr(item, '=');
        if (!equals || equals == item) {
            error_setg(errp, "'%s' is no option of an image, expected KEY=VALUE", item);
            ok = false;
            break;
        }
        *equals = '\0';
        ok = qdict_put_path(tree, item, qvalue_str(equals + 1));
        if (!ok) {
            error_setg(errp, "Parameter '%s' is given twice, or is both a value and a group", item);
        }
    }
    free(copy);
    if (!ok) {
        qvalue_free(tree);
        return NULL;
    }
    return tree;
}

/* A file name without a driver is a file's, wherever in the tree. */
static void name_files(struct qvalue *tree)
{
    for (size_t i = 0; tree->type == QVALUE_DICT && i < tree->seq.count; i++) {
        name_files(tree->seq.items[i]);
    }
    if (tree->type == QVALUE_DICT && qdict_get(tree, "filename") && !qdict_get(tree, "driver")) {
        qdict_put(tree, "driver", qvalue_str("file"));
    }
}

/* What was given, with the format that its file looks like if none was; takes tree. */
static struct qvalue *complete_image_opts(struct host *host, struct qvalue *tree, uint32_t *flags, Error **errp)
{
    if (!qdict_get(tree, "driver") && !qdict_get(tree, "file") && qdict_get(tree, "filename")) {
        qdict_put_path(tree, "file.filename", qdict_take(tree, "filename"));
    }
    struct qvalue *file = qdict_get(tree, "file");
    name_files(tree);
    if (qdict_get(tree, "driver") || !file) {
        return tree;
    }
    const char *format = bdrv_probe_file(host, file, errp);
    if (!format) {
        qvalue_free(tree);
        return NULL;
    }
    *flags |= strcmp(format, "raw") == 0 ? BDRV_O_PROBED : 0;
    qdict_put(tree, "driver", qvalue_str(format));
    return tree;
}

static struct qvalue *file_options(const char *filename)
{
    struct qvalue *file = qvalue_dict();

    qdict_put(file, "driver", qvalue_str("file"));
    qdict_put(file, "filename", qvalue_str(filename));
    return file;
}

static struct qvalue *image_options(struct host *host, const struct img_file *file, uint32_t *flags, Error **errp)
{
    if (file->image_opts) {
        struct qvalue *given = parse_image_opts(file->filename, errp);
        return given ? complete_image_opts(host, given, flags, errp) : NULL;
    }
    struct qvalue *below = file_options(file->filename);
    const char *format = file->format ? file->format : bdrv_probe_file(host, below, errp);
    if (!format) {
        qvalue_free(below);
        return NULL;
    }
    if (!file->format && strcmp(format, "raw") == 0) {
        *flags |= BDRV_O_PROBED;
    }
    if (strcmp(format, "file") == 0) {
        return below;
    }
    struct qvalue *tree = qvalue_dict();
    qdict_put(tree, "driver", qvalue_str(format));
    qdict_put(tree, "file", below);
    return tree;
}

static void add_flags(struct qvalue *tree, const struct img_file *file)
{
    bool unsafe = file->cache && strcmp(file->cache, "unsafe") == 0;
    bool direct = file->cache && (strcmp(file->cache, "none") == 0 || strcmp(file->cache, "directsync") == 0);
    const char *driver = img_str(tree, "driver");
    const BlockDriver *drv = bdrv_find_driver(driver);

    qdict_put(tree, "read-only", qvalue_bool(!file->writable));
    qdict_put(tree, "discard", qvalue_str("unmap"));
    qdict_put_path(tree, "cache.no-flush", qvalue_bool(unsafe));
    qdict_put_path(tree, "cache.direct", qvalue_bool(direct));
    if (file->force_share) {
        qdict_put(tree, "force-share", qvalue_bool(true));
    }
    if (file->no_backing && drv && drv->supports_backing && !qdict_get(tree, "backing")) {
        qdict_put(tree, "backing", qvalue_null());
    }
}

BlockBackend *img_open(struct host *host, const struct img_file *file)
{
    uint32_t flags = 0;
    Error *err = NULL;
    struct qvalue *tree = image_options(host, file, &flags, &err);
    BlockDriverState *bs = NULL;

    if (tree) {
        add_flags(tree, file);
        flags |= file->repair ? BDRV_O_CHECK : 0;
        bs = bdrv_open(host, tree, flags, &err);
        qvalue_free(tree);
    }
    if (!bs) {
        error_prepend(&err, "Could not open '%s': ", file->filename);
        img_error(err);
        return NULL;
    }
    uint64_t perm = BLK_PERM_CONSISTENT_READ | (file->writable ? BLK_PERM_WRITE | BLK_PERM_RESIZE : 0);
    bool alone = file->keep_out && !file->force_share;
    BlockBackend *blk = blk_new(host, perm, BLK_PERM_ALL & ~(alone ? BLK_PERM_WRITE | BLK_PERM_RESIZE : 0));
    int ret = blk_insert_bs(blk, bs, &err);
    bdrv_unref(bs);
    if (ret < 0) {
        blk_unref(blk);
        img_error(err);
        return NULL;
    }
    return blk;
}

/* --- progress ---------------------------------------------------------------------------------------------- */

static void show(struct img_progress *p, int hundredths)
{
    printf("    (%d.%02d/100%%)\r", hundredths / 100, hundredths % 100);
    fflush(stdout);
    p->last = hundredths;
}

void img_progress(struct img_progress *p, int64_t done, int64_t total)
{
    SIM_ASSERT_LE(done, total);

    if (!p->on) {
        return;
    }
    int hundredths = total ? (int)((__int128)done * 10000 / total) : 10000;
    if (done == 0 || hundredths >= p->last + 100) {
        show(p, hundredths);
    }
}

void img_progress_end(struct img_progress *p)
{
    if (p->on) {
        if (p->last < 10000) {
            show(p, 10000);
        }
        printf("\n");
    }
}

/* --- extents ----------------------------------------------------------------------------------------------- */

int img_extent_at(BlockDriverState *bs, int64_t offset, int64_t bytes, struct img_extent *extent)
{
    BlockDriverState *file = NULL;
    int64_t length = bytes;
    int64_t map = 0;
    int depth = 0;
    int ret;

    for (;;) {
        bs = bdrv_skip_filters(bs);
        ret = bdrv_co_block_status(bs, offset, length, &length, &map, &file);
        if (ret < 0) {
            return ret;
        }
        SIM_ASSERT(length > 0);
        BlockDriverState *below = bdrv_cow_bs(bs);
        if ((ret & (BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA)) || !below) {
            break;
        }
        bs = below;
        depth++;
    }
    *extent = (struct img_extent){
        .start = offset,
        .length = length,
        .depth = depth,
        .present = (ret & BDRV_BLOCK_ALLOCATED) != 0,
        .zero = (ret & BDRV_BLOCK_ZERO) != 0,
        .data = (ret & BDRV_BLOCK_DATA) != 0,
        .has_offset = (ret & BDRV_BLOCK_OFFSET_VALID) != 0,
        .compressed = (ret & BDRV_BLOCK_COMPRESSED) != 0,
        .offset = map,
        .filename = file ? bdrv_filename(file) : "",
    };
    return 0;
}

/* --- values ------------------------------------------------------------------------------------------------- */

int64_t img_int(const struct qvalue *dict, const char *key)
{
    const struct qvalue *v = qdict_get(dict, key);
    return v && v->type == QVALUE_INT ? v->integer : 0;
}

const char *img_str(const struct qvalue *dict, const char *key)
{
    const struct qvalue *v = qdict_get(dict, key);
    return v && v->type == QVALUE_STR ? v->str.bytes : "";
}

bool img_bool(const struct qvalue *dict, const char *key)
{
    const struct qvalue *v = qdict_get(dict, key);
    return v && v->type == QVALUE_BOOL && v->boolean;
}

const char *img_human(int64_t bytes, char buf[32])
{
    static const char units[] = "KMGTPE";
    double value = (double)bytes;
    int unit = -1;

    while (value >= 999.5 && unit < 5) {
        value /= 1024;
        unit++;
    }
    if (unit < 0) {
        snprintf(buf, 32, "%d B", (int)bytes);
    } else {
        snprintf(buf, 32, "%.3g %ciB", value, units[unit]);
    }
    return buf;
}
