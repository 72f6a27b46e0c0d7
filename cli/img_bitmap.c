/*
 * blksim img bitmap: persistent bitmaps of an image, changed in the order of the options.
 */
#include "cli/img.h"

#include <errno.h>
#include <string.h>

struct bitmap_verb {
    struct img_file file;
    struct img_file source; /* -b, -F: where --merge looks; filename NULL: in FILE */
    struct cli_given given;
    const char *name;
    int64_t granularity; /* 0: the image's default */
    BlockDriverState *bs;
    BlockDriverState *from;
    Error *err;
};

/* --- actions ---------------------------------------------------------------------------------------------------
 */

static BdrvDirtyBitmap *find(struct bitmap_verb *v)
{
    BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(v->bs, v->name);

    if (!bitmap) {
        error_setg(&v->err, "Dirty bitmap '%s' not found", v->name);
    }
    return bitmap;
}

static BdrvDirtyBitmap *find_usable(struct bitmap_verb *v, uint32_t flags)
{
    BdrvDirtyBitmap *bitmap = find(v);

    return bitmap && bdrv_dirty_bitmap_check(bitmap, flags, &v->err) == 0 ? bitmap : NULL;
}

static int add(struct bitmap_verb *v, const char *value)
{
    uint32_t granularity = v->granularity ? (uint32_t)v->granularity : bdrv_get_default_bitmap_granularity(v->bs);

    if (!bdrv_co_can_store_new_dirty_bitmap(v->bs, v->name, granularity, &v->err)) {
        return -EINVAL;
    }
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(v->bs, granularity, v->name, &v->err);
    if (!bitmap) {
        return -EINVAL;
    }
    bdrv_dirty_bitmap_set_persistence(bitmap, true);
    return 0;
}

static int remove_bitmap(struct bitmap_verb *v, const char *value)
{
    BdrvDirtyBitmap *bitmap = find_usable(v, BDRV_BITMAP_BUSY | BDRV_BITMAP_RO);

    if (!bitmap) {
        return -EINVAL;
    }
    int ret =
        bdrv_dirty_bitmap_persistent(bitmap) ? bdrv_co_remove_persistent_dirty_bitmap(v->bs, v->name, &v->err) : 0;
    if (ret == 0) {
        bdrv_release_dirty_bitmap(bitmap);
    }
    return ret;
}

static int clear(struct bitmap_verb *v, const char *value)
{
    BdrvDirtyBitmap *bitmap = find_usable(v, BDRV_BITMAP_DEFAULT);

    if (bitmap) {
        bdrv_clear_dirty_bitmap(bitmap, NULL);
    }
    return bitmap ? 0 : -EINVAL;
}

static int enable(struct bitmap_verb *v, const char *value)
{
    BdrvDirtyBitmap *bitmap = find_usable(v, BDRV_BITMAP_ALLOW_RO);

    if (bitmap) {
        bdrv_enable_dirty_bitmap(bitmap);
    }
    return bitmap ? 0 : -EINVAL;
}

static int disable(struct bitmap_verb *v, const char *value)
{
    BdrvDirtyBitmap *bitmap = find_usable(v, BDRV_BITMAP_ALLOW_RO);

    if (bitmap) {
        bdrv_disable_dirty_bitmap(bitmap);
    }
    return bitmap ? 0 : -EINVAL;
}

static int merge(struct bitmap_verb *v, const char *value)
{
    BdrvDirtyBitmap *bitmap = find(v);
    const BdrvDirtyBitmap *source = bitmap ? bdrv_find_dirty_bitmap(v->from, value) : NULL;

    if (bitmap && !source) {
        error_setg(&v->err, "Dirty bitmap '%s' not found", value);
    }
    return source && bdrv_merge_dirty_bitmap(bitmap, source, NULL, &v->err) ? 0 : -EINVAL;
}

static const struct {
    const char *name;
    int (*act)(struct bitmap_verb *v, const char *value);
} actions[] = {
    {"--add", add},       {"--remove", remove_bitmap}, {"--clear", clear},
    {"--enable", enable}, {"--disable", disable},      {"--merge", merge},
};

static int act_all(void *opaque)
{
    struct bitmap_verb *v = opaque;

    for (int i = 0; i < v->given.count; i++) {
        for (size_t k = 0; k < ARRAY_SIZE(actions); k++) {
            if (strcmp(v->given.name[i], actions[k].name) == 0) {
                int ret = actions[k].act(v, v->given.value[i]);
                if (ret < 0) {
                    error_prepend(&v->err, "Operation %s on bitmap '%s' failed: ", actions[k].name + 2, v->name);
                    return ret;
                }
            }
        }
    }
    /* Stored now, so that a failure can be told; closing the image finds nothing left to do. */
    return bdrv_co_reopen_dirty_bitmaps_ro(v->bs, &v->err);
}

/* --- the verb ----------------------------------------------------------------------------------------------------
 */

static int bitmap_in(struct host *host, void *opaque)
{
    struct bitmap_verb *v = opaque;
    BlockBackend *blk = img_open(host, &v->file);
    BlockBackend *source = blk && v->source.filename ? img_open(host, &v->source) : NULL;
    int status = EXIT_USAGE;

    if (blk && (source || !v->source.filename)) {
        v->bs = blk_bs(blk);
        v->from = source ? blk_bs(source) : v->bs;
        status = img_run(host, act_all, v) < 0 ? img_error(v->err) : EXIT_PASS;
    }
    blk_unref(source);
    blk_unref(blk);
    return status;
}

static bool given_once(const struct cli_given *given, const char *name)
{
    for (int i = 0; i < given->count; i++) {
        if (strcmp(given->name[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_usage(struct bitmap_verb *v, int argc, char **argv, const char *granularity)
{
    if (argc != 2) {
        return cli_error("img bitmap: Expecting filename and bitmap name");
    }
    if (v->given.count == 0) {
        return cli_error(
            "img bitmap: Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
    }
    if (granularity && !given_once(&v->given, "--add")) {
        return cli_error("img bitmap: granularity only supported with --add");
    }
    if (granularity && (!sim_parse_size(granularity, &v->granularity) || v->granularity < 512 ||
                        v->granularity > 2 * GiB || !is_power_of_2((uint64_t)v->granularity))) {
        return cli_error("img bitmap: Invalid granularity specified: '%s', expected a power of two from 512 to 2G",
                         granularity);
    }
    if (v->source.filename && !given_once(&v->given, "--merge")) {
        return cli_error("img bitmap: Alternate source file only supported with --merge");
    }
    v->file.filename = argv[1];
    v->name = argv[2];
    return EXIT_PASS;
}

static int bitmap(int argc, char **argv)
{
    struct bitmap_verb v = {.file = {.writable = true, .no_backing = true}, .source = {.no_backing = true}};
    const char *granularity = NULL;
    const struct cli_opt opts[] = {
        {"--add", NULL, CLI_LIST, &v.given, "make it"},
        {"--remove", NULL, CLI_LIST, &v.given, "delete it"},
        {"--clear", NULL, CLI_LIST, &v.given, "all its bits 0"},
        {"--enable", NULL, CLI_LIST, &v.given, "it records"},
        {"--disable", NULL, CLI_LIST, &v.given, "it does not record"},
        {"--merge", "SOURCE", CLI_LIST, &v.given, "add the bits of another one"},
        {"-b", "FILE", CLI_STR, &v.source.filename, "where SOURCE is (default: in FILE itself)"},
        {"--source-file", "FILE", CLI_STR, &v.source.filename, "the same"},
        {"-F", "FMT", CLI_STR, &v.source.format, "format of that"},
        {"--source-format", "FMT", CLI_STR, &v.source.format, "the same"},
        {"-g", "SIZE", CLI_STR, &granularity, "granularity, with --add"},
        {"--granularity", "SIZE", CLI_STR, &granularity, "the same"},
        {"-f", "FMT", CLI_STR, &v.file.format, "format of the image (default: as its content looks like)"},
        {"--image-opts", NULL, CLI_FLAG, &v.file.image_opts, "FILE is a list of options"},
        {.name = NULL},
    };
    int status;

    if (!cli_parse(&img_bitmap, opts, &argc, argv, &status)) {
        return status;
    }
    status = check_usage(&v, argc, argv, granularity);
    return status == EXIT_PASS ? img_in_world(bitmap_in, &v) : status;
}

const struct cli_command img_bitmap = {
    .name = "img bitmap",
    .usage = "(--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b FILE [-F FMT]] [-g SIZE] "
             "[-f FMT] FILE BITMAP",
    .summary = "persistent bitmaps of an image",
    .run = bitmap,
};
