/*
 * blksim img convert: an image's content into a new one, or into one that is there (-n).
 */
#include "cli/img.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CONVERT_CHUNK (2 * MiB)

struct convert_verb {
    struct img_file in;
    struct img_new out;
    struct cli_given given;
    const char *snapshot; /* -l */
    const char *out_cache;
    const char *backing;        /* -B */
    const char *backing_format; /* -F */
    bool existing;              /* -n */
    bool target_opts;           /* OUTPUT is a list of options */
    bool compress;
    bool bitmaps;
    bool skip_broken;
    bool target_is_zero;
    bool salvage;
    bool quiet;
    int64_t sparse; /* -S: zeros of at least so many bytes are left out; 0: none are */
    struct img_progress progress;
    struct host *host;
    BlockBackend *src;
    BlockBackend *dst;
    BlockDriverState *base; /* with -B: what the new image's backing file shows already */
    int64_t length;
    int64_t cluster; /* of the target, with -c */
    bool zeroed;     /* the target reads zeros where nothing is written */
    int status;
};

/* --- copying
 * ------------------------------------------------------------------------------------------------------ */

static int io_failed(struct convert_verb *v, const char *what, int64_t at, int ret)
{
    v->status = cli_error("img convert: error while %s at byte %" PRId64 ": %s", what, at, sim_errno_text(-ret));
    return ret;
}

static int write_zeroes(struct convert_verb *v, int64_t at, int64_t bytes)
{
    if (v->zeroed && !v->base) {
        return 0;
    }
    int ret = blk_co_pwrite_zeroes(v->dst, at, bytes, v->zeroed ? 0 : BDRV_REQ_MAY_UNMAP);
    return ret < 0 ? io_failed(v, "writing", at, ret) : 0;
}

static int write_data(struct convert_verb *v, int64_t at, const struct payload *data, int64_t from, int64_t bytes)
{
    struct payload part;

    payload_init(v->host->sim, &part);
    payload_slice(&part, data, from, bytes);
    int ret = blk_co_pwritev(v->dst, at, bytes, &part, v->compress ? BDRV_REQ_WRITE_COMPRESSED : 0);
    payload_clear(&part);
    return ret < 0 ? io_failed(v, "writing", at, ret) : 0;
}

/* Data without its longer runs of zeros. */
static int write_sparse(struct convert_verb *v, int64_t at, const struct payload *data, int64_t bytes)
{
    int64_t unit = v->compress ? v->cluster : v->sparse ? v->sparse : bytes;

    for (int64_t done = 0; done < bytes;) {
        int64_t run = MIN(unit - (at + done) % unit, bytes - done);
        bool zero = (v->sparse || v->compress) && payload_is_zero(data, done, run);
        while (!v->compress && done + run < bytes) {
            int64_t more = MIN(unit, bytes - done - run);
            if (v->sparse && payload_is_zero(data, done + run, more) != zero) {
                break;
            }
            run += more;
        }
        int ret = zero ? write_zeroes(v, at + done, run) : write_data(v, at + done, data, done, run);
        if (ret < 0) {
            return ret;
        }
        done += run;
    }
    return 0;
}

static int copy_data(struct convert_verb *v, int64_t at, int64_t bytes)
{
    struct payload data;

    payload_init(v->host->sim, &data);
    int ret = blk_co_preadv(v->src, at, bytes, &data, 0);
    if (ret < 0 && v->salvage) {
        cli_error("img convert: warning: error while reading at byte %" PRId64 ": %s, taken as zeros", at,
                  sim_errno_text(-ret));
        payload_clear(&data);
        payload_append_zero(&data, bytes);
        ret = 0;
    }
    ret = ret < 0 ? io_failed(v, "reading", at, ret) : write_sparse(v, at, &data, bytes);
    payload_clear(&data);
    return ret;
}

/* Whether the new image shows this range already, by its backing file; a run of it in *bytes. */
static int in_base(struct convert_verb *v, int64_t at, int64_t *bytes, bool *shown)
{
    *shown = false;
    if (!v->base) {
        return 0;
    }
    BlockDriverState *top = blk_bs(v->src);
    int64_t run;
    int ret = bdrv_co_is_allocated_above(top, v->base, false, at, *bytes, &run);
    if (ret < 0) {
        return io_failed(v, "reading block status", at, ret);
    }
    *shown = ret == 0;
    *bytes = run;
    return 0;
}

static int copy_next(struct convert_verb *v, int64_t at, int64_t *step)
{
    struct img_extent e;
    int64_t bytes = v->length - at;
    bool shown;

    int ret = in_base(v, at, &bytes, &shown);
    if (ret < 0) {
        return ret;
    }
    if (shown) {
        *step = bytes;
        return 0;
    }
    ret = img_extent_at(blk_bs(v->src), at, bytes, &e);
    if (ret < 0 && !v->salvage) {
        return io_failed(v, "reading block status", at, ret);
    }
    bool zero = ret >= 0 && e.zero;
    bytes = ret >= 0 ? e.length : MIN(bytes, CONVERT_CHUNK);
    if (!zero) {
        /* Whole clusters of the target at a time: compressed ones cannot be written in parts. */
        bytes = MIN(bytes, CONVERT_CHUNK - at % CONVERT_CHUNK);
        if (v->compress && bytes % v->cluster) {
            bytes = MIN(ROUND_UP(bytes, v->cluster), v->length - at);
        }
    } else if (v->compress && (bytes % v->cluster) && at + bytes < v->length) {
        bytes = ROUND_DOWN(bytes, v->cluster);
        zero = bytes > 0;
        bytes = zero ? bytes : MIN(v->cluster, v->length - at);
    }
    *step = bytes;
    return zero ? write_zeroes(v, at, bytes) : copy_data(v, at, bytes);
}

static int copy_all(void *opaque)
{
    struct convert_verb *v = opaque;
    int ret = 0;

    img_progress(&v->progress, 0, v->length);
    for (int64_t at = 0, step; ret == 0 && at < v->length; at += step) {
        step = 0;
        ret = copy_next(v, at, &step);
        if (ret == 0) {
            SIM_ASSERT(step > 0);
            img_progress(&v->progress, at + step, v->length);
        }
    }
    if (ret == 0) {
        ret = blk_co_flush(v->dst);
        if (ret < 0) {
            io_failed(v, "flushing", v->length, ret);
        }
    }
    if (ret == 0) {
        img_progress_end(&v->progress);
    }
    return ret;
}

/* --- bitmaps
 * ------------------------------------------------------------------------------------------------------- */

static bool check_bitmaps(struct convert_verb *v)
{
    const BlockDriverState *bs = blk_bs(v->src);

    for (const BdrvDirtyBitmap *b = bdrv_dirty_bitmap_next(bs, NULL); b; b = bdrv_dirty_bitmap_next(bs, b)) {
        if (bdrv_dirty_bitmap_inconsistent(b) && !v->skip_broken) {
            cli_error("img convert: Cannot copy inconsistent bitmap '%s', use --skip-broken-bitmaps or `img bitmap "
                      "--remove`",
                      bdrv_dirty_bitmap_name(b));
            return false;
        }
    }
    return true;
}

static int copy_bitmap(struct convert_verb *v, const BdrvDirtyBitmap *from, Error **errp)
{
    BlockDriverState *to_bs = blk_bs(v->dst);
    const char *name = bdrv_dirty_bitmap_name(from);
    uint32_t granularity = bdrv_dirty_bitmap_granularity(from);

    if (!bdrv_co_can_store_new_dirty_bitmap(to_bs, name, granularity, errp)) {
        return -EINVAL;
    }
    BdrvDirtyBitmap *to = bdrv_create_dirty_bitmap(to_bs, granularity, name, errp);
    if (!to) {
        return -EINVAL;
    }
    bdrv_dirty_bitmap_set_persistence(to, true);
    bdrv_disable_dirty_bitmap(to);
    if (!bdrv_merge_dirty_bitmap(to, from, NULL, errp)) {
        return -EINVAL;
    }
    if (bdrv_dirty_bitmap_enabled(from)) {
        bdrv_enable_dirty_bitmap(to);
    }
    return 0;
}

static int copy_bitmaps(void *opaque)
{
    struct convert_verb *v = opaque;
    const BlockDriverState *bs = blk_bs(v->src);
    Error *err = NULL;
    int ret = 0;

    /* Newest first: storing goes from the newest on, too, and so they are listed as in the source. */
    for (const BdrvDirtyBitmap *from = bdrv_dirty_bitmap_next(bs, NULL); ret == 0 && from;
         from = bdrv_dirty_bitmap_next(bs, from)) {
        if (bdrv_dirty_bitmap_inconsistent(from)) {
            if (!v->quiet) {
                cli_error("img convert: warning: Skipping inconsistent bitmap '%s'", bdrv_dirty_bitmap_name(from));
            }
            continue;
        }
        ret = copy_bitmap(v, from, &err);
    }
    if (ret == 0) {
        ret = bdrv_co_store_dirty_bitmaps(blk_bs(v->dst), &err);
    }
    if (ret < 0) {
        error_prepend(&err, "Failed to copy the bitmaps: ");
        v->status = img_error(err);
    }
    return ret;
}

/* --- opening and making
 * ---------------------------------------------------------------------------------------------- */

static int go_to_snapshot(void *opaque)
{
    struct convert_verb *v = opaque;
    return bdrv_co_snapshot_load(blk_bs(v->src), v->snapshot, &v->out.err);
}

static bool open_source(struct convert_verb *v)
{
    v->src = img_open(v->host, &v->in);
    if (!v->src) {
        return false;
    }
    if (v->snapshot && img_run(v->host, go_to_snapshot, v) < 0) {
        error_prepend(&v->out.err, "Failed to load snapshot '%s': ", v->snapshot);
        img_error(v->out.err);
        return false;
    }
    v->length = blk_getlength(v->src);
    return !v->bitmaps || check_bitmaps(v);
}

/* The layer of the source that the new image's backing file stands for. */
static bool find_base(struct convert_verb *v)
{
    const char *slash = strrchr(v->out.filename, '/');
    char *path;
    int prefix = slash && v->backing[0] != '/' ? (int)(slash - v->out.filename) + 1 : 0;

    if (asprintf(&path, "%.*s%s", prefix, v->out.filename, v->backing) < 0) {
        abort();
    }
    for (BlockDriverState *bs = bdrv_backing_chain_next(blk_bs(v->src)); bs; bs = bdrv_backing_chain_next(bs)) {
        if (strcmp(bdrv_filename(bs), path) == 0) {
            v->base = bs;
        }
    }
    if (!v->base) {
        cli_error("img convert: '%s' is not in the backing chain of '%s', expected one of its images for -B", path,
                  v->in.filename);
    }
    free(path);
    return v->base != NULL;
}

static bool make_target(struct convert_verb *v)
{
    struct img_new *out = &v->out;

    if (v->existing) {
        return true;
    }
    if (!qdict_get(out->options, "size")) {
        qdict_put(out->options, "size", qvalue_int(v->length));
    }
    if (v->backing && !v->backing_format) {
        cli_error("img convert: -B needs the format of the backing file, expected -F FMT");
        return false;
    }
    if (v->backing && (!qdict_put(out->options, "backing-file", qvalue_str(v->backing)) ||
                       !qdict_put(out->options, "backing-fmt", qvalue_str(v->backing_format)))) {
        cli_error("img convert: the backing file or its format is given twice");
        return false;
    }
    bool ok = img_new_check(out);
    if (ok) {
        qdict_put(out->options, "driver", qvalue_str(out->format));
        ok = img_run(v->host, img_new_make, out) >= 0;
    }
    if (!ok) {
        error_prepend(&out->err, "%s: error while converting %s: ", out->filename, out->format);
        img_error(out->err);
    }
    return ok;
}

static bool open_target(struct convert_verb *v)
{
    struct img_file file = {.filename = v->out.filename,
                            .format = v->out.format,
                            .image_opts = v->target_opts,
                            .writable = true,
                            .cache = v->out_cache};
    BlockDriverInfo info = {0};

    v->dst = img_open(v->host, &file);
    if (!v->dst) {
        return false;
    }
    v->zeroed = v->target_is_zero || (!v->existing && bdrv_has_zero_init(blk_bs(v->dst)));
    if (blk_getlength(v->dst) < v->length) {
        cli_error("img convert: output file is smaller than input file");
        return false;
    }
    if (v->compress) {
        if (bdrv_co_get_info(blk_bs(v->dst), &info) < 0 || info.cluster_size <= 0) {
            cli_error("img convert: Compression not supported for this file format");
            return false;
        }
        v->cluster = info.cluster_size;
    }
    return true;
}

static int convert_in(struct host *host, void *opaque)
{
    struct convert_verb *v = opaque;

    v->host = v->out.host = host;
    v->status = EXIT_USAGE;
    bool ok = open_source(v) && (!v->backing || find_base(v)) && make_target(v) && open_target(v);
    if (ok && img_run(host, copy_all, v) == 0 && (!v->bitmaps || img_run(host, copy_bitmaps, v) == 0)) {
        v->status = EXIT_PASS;
    }
    blk_unref(v->dst);
    blk_unref(v->src);
    return v->status;
}

/* --- the command line
 * -------------------------------------------------------------------------------------------------- */

static int check_usage(struct convert_verb *v, int argc, char **argv, const char *sparse)
{
    if (argc != 2) {
        return cli_error("img convert: Must specify one image file name and an output file name");
    }
    v->in.filename = argv[1];
    v->out.filename = argv[2];
    if (v->target_opts && !v->existing) {
        return cli_error("img convert: --target-image-opts requires use of -n flag");
    }
    if (!v->in.image_opts && !v->target_opts && img_same_file(v->in.filename, v->out.filename)) {
        return cli_error("img convert: input and output are the same file");
    }
    if (sparse && (!sim_parse_size(sparse, &v->sparse) || v->sparse % SIM_SECTOR_BYTES ||
                   (v->sparse && !is_power_of_2((uint64_t)v->sparse)))) {
        return cli_error(
            "img convert: Invalid buffer size for sparse output specified: '%s', expected 0 or a power of "
            "two of at least 512",
            sparse);
    }
    if (v->existing && (v->given.count || v->backing)) {
        return cli_error("img convert: -n takes the target as it is: -o and -B make no sense with it");
    }
    if (v->target_is_zero && !v->existing) {
        return cli_error("img convert: --target-is-zero requires use of -n flag");
    }
    if (v->skip_broken && !v->bitmaps) {
        return cli_error("img convert: Use of --skip-broken-bitmaps requires --bitmaps");
    }
    if (!img_new_options(&v->out, &v->given)) {
        return img_error(v->out.err);
    }
    const char *prealloc = img_str(v->out.options, "preallocation");
    if (v->compress && *prealloc && strcmp(prealloc, "off") != 0) {
        return cli_error("img convert: Compression and preallocation not supported at the same time");
    }
    return img_check_cache(v->in.cache) && img_check_cache(v->out_cache) ? EXIT_PASS : EXIT_USAGE;
}

static int convert(int argc, char **argv)
{
    struct convert_verb v = {
        .in = {.keep_out = true}, .out = {.format = "raw", .options = qvalue_dict()}, .sparse = 4096};
    const char *sparse = NULL;
    const struct cli_opt opts[] = {
        {"-f", "FMT", CLI_STR, &v.in.format, "format of FILE (default: as its content looks like)"},
        {"-O", "FMT", CLI_STR, &v.out.format, "format of OUTPUT: raw (default) or qcow2"},
        {"-o", "OPTIONS", CLI_LIST, &v.given, "creation options, as of `img create`"},
        {"-B", "FILE", CLI_STR, &v.backing, "OUTPUT gets this backing file, one of the source's own chain"},
        {"-F", "FMT", CLI_STR, &v.backing_format, "its format"},
        {"-c", NULL, CLI_FLAG, &v.compress, "compress"},
        {"-l", "SNAPSHOT", CLI_STR, &v.snapshot, "an internal snapshot instead of the present content"},
        {"-n", NULL, CLI_FLAG, &v.existing, "OUTPUT is there already"},
        {"-p", NULL, CLI_FLAG, &v.progress.on, "show progress"},
        {"-q", NULL, CLI_FLAG, &v.quiet, "print errors only"},
        {"-S", "SIZE", CLI_STR, &sparse, "leave out zeros of at least so many bytes (4k); 0: none"},
        {"-t", "CACHE", CLI_STR, &v.out_cache, "cache mode of OUTPUT"},
        {"-T", "CACHE", CLI_STR, &v.in.cache, "cache mode of FILE"},
        {"-U", NULL, CLI_FLAG, &v.in.force_share, "FILE may be in use elsewhere"},
        {"--force-share", NULL, CLI_FLAG, &v.in.force_share, "the same"},
        {"--bitmaps", NULL, CLI_FLAG, &v.bitmaps, "copy persistent bitmaps, too"},
        {"--skip-broken-bitmaps", NULL, CLI_FLAG, &v.skip_broken, "but not the inconsistent ones"},
        {"--target-is-zero", NULL, CLI_FLAG, &v.target_is_zero, "OUTPUT of -n reads as zeros"},
        {"--salvage", NULL, CLI_FLAG, &v.salvage, "what cannot be read becomes zeros"},
        {"--image-opts", NULL, CLI_FLAG, &v.in.image_opts, "FILE is a list of options"},
        {"--target-image-opts", NULL, CLI_FLAG, &v.target_opts, "OUTPUT of -n is one"},
        {.name = NULL},
    };
    int status;

    if (!cli_parse(&img_convert, opts, &argc, argv, &status)) {
        qvalue_free(v.out.options);
        return status;
    }
    if (img_asks_options(&v.given)) {
        status = img_list_options();
    } else {
        status = check_usage(&v, argc, argv, sparse);
        if (status == EXIT_PASS) {
            v.progress.on = v.progress.on && !v.quiet;
            status = img_in_world(convert_in, &v);
        }
    }
    qvalue_free(v.out.options);
    return status;
}

const struct cli_command img_convert = {
    .name = "img convert",
    .usage =
        "[-f FMT] [-O FMT] [-o OPTIONS] [-B FILE -F FMT] [-c] [-l SNAPSHOT] [-n] [-p] [-q] [-S SIZE] FILE OUTPUT",
    .summary = "copy an image's content into another format",
    .run = convert,
};
