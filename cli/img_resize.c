/*
 * blksim img resize: an image's virtual size.
 */
#include "cli/img.h"

#include <string.h>

struct resize_verb {
    struct img_file file;
    const char *size;
    bool shrink;
    bool quiet;
    enum bdrv_prealloc prealloc;
    BlockBackend *blk;
    int64_t length;
    Error *err;
};

static int truncate_image(void *opaque)
{
    struct resize_verb *v = opaque;
    int ret = blk_co_truncate(v->blk, v->length, false, v->prealloc, 0, &v->err);

    return ret < 0 ? ret : blk_co_flush(v->blk);
}

static int resize_open(struct host *host, struct resize_verb *v)
{
    int64_t old = blk_getlength(v->blk);
    int64_t amount;
    int sign = v->size[0] == '+' ? 1 : v->size[0] == '-' ? -1 : 0;

    if (!sim_parse_size(v->size + (sign != 0), &amount)) {
        return cli_error(
            "img resize: Invalid image size specified: '%s', expected [+|-]bytes with k, M, G, T, P or E", v->size);
    }
    if ((sign < 0 && amount > old) || (sign > 0 && amount > BDRV_MAX_LENGTH - old)) {
        return cli_error("img resize: New image size must be positive and possible");
    }
    v->length = sign ? old + sign * amount : amount;
    if (v->length < old && !v->shrink) {
        return cli_error(
            "img resize: Use the --shrink option to perform a shrink operation: it deletes all data beyond "
            "the shrunken image's end");
    }
    int ret = img_run(host, truncate_image, v);
    if (ret < 0 && !v->err) {
        error_setg_errno(&v->err, ret, "Could not resize");
    }
    if (ret < 0) {
        return img_error(v->err);
    }
    if (!v->quiet) {
        printf("Image resized.\n");
    }
    return EXIT_PASS;
}

static int resize_in(struct host *host, void *opaque)
{
    struct resize_verb *v = opaque;

    v->blk = img_open(host, &v->file);
    int status = v->blk ? resize_open(host, v) : EXIT_USAGE;
    blk_unref(v->blk);
    return status;
}

static int resize(int argc, char **argv)
{
    static const char *const modes[] = {"off", "metadata", "falloc", "full"};
    struct resize_verb v = {.file = {.writable = true}};
    const char *prealloc = "off";
    const char *amount = NULL;
    const struct cli_opt opts[] = {
        {"-f", "FMT", CLI_STR, &v.file.format, "format of the image (default: as its content looks like)"},
        {"--preallocation", "MODE", CLI_STR, &prealloc, "of what is new: off, metadata, falloc, full"},
        {"--shrink", NULL, CLI_FLAG, &v.shrink, "what lies behind the new end may be lost"},
        {"-q", NULL, CLI_FLAG, &v.quiet, "print errors only"},
        {"--image-opts", NULL, CLI_FLAG, &v.file.image_opts, "FILE is a list of options"},
        {.name = NULL},
    };
    int status;

    /* "-1M" is an amount, not an option. */
    if (argc > 2 && (argv[argc - 1][0] == '-' || argv[argc - 1][0] == '+') && argv[argc - 1][1] >= '0' &&
        argv[argc - 1][1] <= '9') {
        amount = argv[--argc];
    }
    if (!cli_parse(&img_resize, opts, &argc, argv, &status)) {
        return status;
    }
    if (argc + (amount != NULL) != 2) {
        return cli_error("img resize: Expecting image file name and size");
    }
    for (v.prealloc = PREALLOC_OFF; v.prealloc <= PREALLOC_FULL && strcmp(modes[v.prealloc], prealloc) != 0;) {
        v.prealloc++;
    }
    if (v.prealloc > PREALLOC_FULL) {
        return cli_error("img resize: Invalid preallocation mode '%s', expected off, metadata, falloc or full",
                         prealloc);
    }
    v.file.filename = argv[1];
    v.size = amount ? amount : argv[2];
    return img_in_world(resize_in, &v);
}

const struct cli_command img_resize = {
    .name = "img resize",
    .usage = "[-f FMT] [--preallocation=MODE] [--shrink] [-q] FILE [+|-]SIZE",
    .summary = "change the virtual size",
    .run = resize,
};
