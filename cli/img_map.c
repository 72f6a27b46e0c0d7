/*
 * blksim img map: where the content of an image lies.
 */
#include "cli/img.h"

#include <inttypes.h>
#include <string.h>

struct map_verb {
    struct img_file file;
    bool json;
    int64_t start;
    int64_t end;
    BlockDriverState *bs;
    bool first;
    int status;
};

static bool same_kind(const struct img_extent *a, const struct img_extent *b)
{
    return a->zero == b->zero && a->data == b->data && a->present == b->present && a->depth == b->depth &&
           a->has_offset == b->has_offset && strcmp(a->filename, b->filename) == 0;
}

/* Whether b goes on where a ends, in the guest's view and in the file. */
static bool joins(const struct img_extent *a, const struct img_extent *b)
{
    return a->length > 0 && same_kind(a, b) && (!a->has_offset || a->offset + a->length == b->offset);
}

static bool print_human(const struct img_extent *e)
{
    if (e->data && !e->has_offset) {
        cli_error("img map: File contains external, encrypted or compressed clusters.");
        return false;
    }
    if (e->data && !e->zero) {
        printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", (uint64_t)e->start, (uint64_t)e->length,
               (uint64_t)e->offset, e->filename);
    }
    return true;
}

static bool print_extent(struct map_verb *v, const struct img_extent *e)
{
    if (!v->json) {
        return print_human(e);
    }
    printf("%s{ \"start\": %" PRId64 ", \"length\": %" PRId64 ", \"depth\": %d, \"present\": %s, \"zero\": %s, "
           "\"data\": %s",
           v->first ? "" : ",\n", e->start, e->length, e->depth, e->present ? "true" : "false",
           e->zero ? "true" : "false", e->data ? "true" : "false");
    if (e->has_offset) {
        printf(", \"offset\": %" PRId64, e->offset);
    }
    printf("}");
    v->first = false;
    return true;
}

static int walk(void *opaque)
{
    struct map_verb *v = opaque;
    struct img_extent run = {.start = v->start};
    struct img_extent next;
    int64_t at = v->start;

    while (at < v->end) {
        int ret = img_extent_at(v->bs, at, v->end - at, &next);
        if (ret < 0) {
            v->status = cli_error("img map: Failed to read image metadata: %s", sim_errno_text(-ret));
            return ret;
        }
        at += next.length;
        if (joins(&run, &next)) {
            run.length += next.length;
            continue;
        }
        if (run.length > 0 && !print_extent(v, &run)) {
            v->status = EXIT_USAGE;
            return 0;
        }
        run = next;
    }
    if (run.length > 0 && !print_extent(v, &run)) {
        v->status = EXIT_USAGE;
    }
    return 0;
}

static int map_in(struct host *host, void *opaque)
{
    struct map_verb *v = opaque;
    BlockBackend *blk = img_open(host, &v->file);

    if (!blk) {
        return EXIT_USAGE;
    }
    v->bs = blk_bs(blk);
    int64_t length = blk_getlength(blk);
    v->start = MIN(v->start, length);
    v->end = v->end < 0 || v->end > length - v->start ? length : v->start + v->end;
    if (v->json) {
        printf("[");
    } else {
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    }
    img_run(host, walk, v);
    if (v->json) {
        printf("]\n");
    }
    blk_unref(blk);
    return v->status;
}

static bool read_size(const char *name, const char *text, int64_t *out)
{
    if (text && !sim_parse_size(text, out)) {
        cli_error("img map: Invalid %s specified: '%s', expected bytes with k, M, G, T, P or E", name, text);
        return false;
    }
    return true;
}

static int map(int argc, char **argv)
{
    struct map_verb v = {.end = -1, .first = true};
    const char *output = "human";
    const char *start = NULL;
    const char *length = NULL;
    const struct cli_opt opts[] = {
        {"-f", "FMT", CLI_STR, &v.file.format, "format of the image (default: as its content looks like)"},
        {"--format", "FMT", CLI_STR, &v.file.format, "the same"},
        {"-s", "OFFSET", CLI_STR, &start, "where to begin"},
        {"--start-offset", "OFFSET", CLI_STR, &start, "the same"},
        {"-l", "LEN", CLI_STR, &length, "how far to go"},
        {"--max-length", "LEN", CLI_STR, &length, "the same"},
        {"-U", NULL, CLI_FLAG, &v.file.force_share, "the image may be in use elsewhere"},
        {"--force-share", NULL, CLI_FLAG, &v.file.force_share, "the same"},
        {"--output", "human|json", CLI_STR, &output, "form of what is printed"},
        {"--image-opts", NULL, CLI_FLAG, &v.file.image_opts, "FILE is a list of options"},
        {.name = NULL},
    };
    int status;

    if (!cli_parse(&img_map, opts, &argc, argv, &status)) {
        return status;
    }
    if (!img_output(output, &v.json) || !read_size("start offset", start, &v.start) ||
        !read_size("max length", length, &v.end)) {
        return EXIT_USAGE;
    }
    if (argc != 1) {
        return cli_error("img map: Expecting one image file name");
    }
    v.file.filename = argv[1];
    return img_in_world(map_in, &v);
}

const struct cli_command img_map = {
    .name = "img map",
    .usage = "[-f FMT] [--start-offset=OFFSET] [--max-length=LEN] [--output=human|json] [-U] FILE",
    .summary = "where the content lies, in which layer and file",
    .run = map,
};
