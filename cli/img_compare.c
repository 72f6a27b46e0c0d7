/*
 * blksim img compare: whether two images show the same content. Exit status 0 identical, 1 different, 2 an error.
 */
#include "cli/img.h"

#include <inttypes.h>

enum { COMPARE_SAME = 0, COMPARE_DIFFERENT = 1, COMPARE_ERROR = 2 };
#define COMPARE_CHUNK (2 * MiB)

struct compare_verb {
    struct img_file file[2];
    bool quiet;
    bool strict;
    struct img_progress progress;
    BlockBackend *blk[2];
    int64_t length[2];
    struct host *host;
    int status;
};

static int different(struct compare_verb *v, const char *what, int64_t offset)
{
    if (!v->quiet) {
        printf("%s %" PRId64 "!\n", what, offset);
    }
    return COMPARE_DIFFERENT;
}

static int failed(struct compare_verb *v, int i, int64_t offset, int ret)
{
    cli_error("img compare: Error while reading offset %" PRId64 " of %s: %s", offset, v->file[i].filename,
              sim_errno_text(-ret));
    return COMPARE_ERROR;
}

/* -1: the same. */
static int compare_bytes(struct compare_verb *v, int64_t at, int64_t bytes)
{
    struct payload p[2];
    int ret = 0;
    int which = 0;

    for (int i = 0; i < 2; i++) {
        payload_init(v->host->sim, &p[i]);
    }
    for (int i = 0; i < 2 && ret == 0; i++) {
        which = i;
        ret = blk_co_preadv(v->blk[i], at, bytes, &p[i], 0);
    }
    int64_t where = ret == 0 ? payload_first_difference(&p[0], &p[1], bytes) : -1;
    for (int i = 0; i < 2; i++) {
        payload_clear(&p[i]);
    }
    if (ret < 0) {
        return failed(v, which, at, ret);
    }
    return where < 0 ? -1 : different(v, "Content mismatch at offset", at + where);
}

static int compare_common(struct compare_verb *v, int64_t total)
{
    int64_t common = MIN(v->length[0], v->length[1]);
    struct img_extent e[2];

    for (int64_t at = 0; at < common;) {
        for (int i = 0; i < 2; i++) {
            int ret = img_extent_at(blk_bs(v->blk[i]), at, common - at, &e[i]);
            if (ret < 0) {
                return failed(v, i, at, ret);
            }
        }
        int64_t bytes = MIN(e[0].length, e[1].length);
        if (v->strict && e[0].present != e[1].present) {
            return different(v, "Strict mode: Offset allocation mismatch at", at);
        }
        if (!e[0].zero || !e[1].zero) {
            bytes = MIN(bytes, COMPARE_CHUNK);
            int status = compare_bytes(v, at, bytes);
            if (status >= 0) {
                return status;
            }
        }
        at += bytes;
        img_progress(&v->progress, at, total);
    }
    return -1;
}

/* What the longer image has beyond the other's end must be zeros. */
static int compare_rest(struct compare_verb *v, int longer)
{
    struct payload p;

    for (int64_t at = v->length[1 - longer]; at < v->length[longer];) {
        struct img_extent e;
        int ret = img_extent_at(blk_bs(v->blk[longer]), at, v->length[longer] - at, &e);
        if (ret < 0) {
            return failed(v, longer, at, ret);
        }
        int64_t bytes = e.zero ? e.length : MIN(e.length, COMPARE_CHUNK);
        bool zero = e.zero;
        if (!zero) {
            payload_init(v->host->sim, &p);
            ret = blk_co_preadv(v->blk[longer], at, bytes, &p, 0);
            zero = ret == 0 && payload_is_zero(&p, 0, bytes);
            payload_clear(&p);
        }
        if (ret < 0) {
            return failed(v, longer, at, ret);
        }
        if (!zero) {
            return different(v, "Content mismatch at offset", at);
        }
        at += bytes;
    }
    return -1;
}

static int compare_all(void *opaque)
{
    struct compare_verb *v = opaque;
    int longer = v->length[1] > v->length[0];
    int64_t total = v->length[longer];

    img_progress(&v->progress, 0, total);
    v->status = compare_common(v, total);
    if (v->status < 0 && v->length[0] != v->length[1]) {
        if (!v->quiet) {
            printf("Warning: Image size mismatch!\n");
        }
        v->status = compare_rest(v, longer);
    }
    if (v->status < 0) {
        img_progress_end(&v->progress);
        if (!v->quiet) {
            printf("Images are identical.\n");
        }
        v->status = COMPARE_SAME;
    }
    return 0;
}

static int compare_in(struct host *host, void *opaque)
{
    struct compare_verb *v = opaque;

    v->host = host;
    v->status = COMPARE_ERROR;
    v->blk[0] = img_open(host, &v->file[0]);
    v->blk[1] = v->blk[0] ? img_open(host, &v->file[1]) : NULL;
    if (v->blk[1]) {
        v->length[0] = blk_getlength(v->blk[0]);
        v->length[1] = blk_getlength(v->blk[1]);
        if (v->strict && v->length[0] != v->length[1]) {
            if (!v->quiet) {
                printf("Strict mode: Image size mismatch!\n");
            }
            v->status = COMPARE_DIFFERENT;
        } else {
            img_run(host, compare_all, v);
        }
    }
    blk_unref(v->blk[1]);
    blk_unref(v->blk[0]);
    return v->status;
}

static int compare(int argc, char **argv)
{
    struct compare_verb v = {.quiet = false};
    const char *cache = NULL;
    bool force_share = false;
    const struct cli_opt opts[] = {
        {"-f", "FMT", CLI_STR, &v.file[0].format, "format of FILE1 (default: as its content looks like)"},
        {"-F", "FMT", CLI_STR, &v.file[1].format, "format of FILE2"},
        {"-s", NULL, CLI_FLAG, &v.strict, "sizes and what is allocated must agree, too"},
        {"-p", NULL, CLI_FLAG, &v.progress.on, "show progress"},
        {"-T", "CACHE", CLI_STR, &cache, "cache mode"},
        {"-U", NULL, CLI_FLAG, &force_share, "the images may be in use elsewhere"},
        {"--force-share", NULL, CLI_FLAG, &force_share, "the same"},
        {"-q", NULL, CLI_FLAG, &v.quiet, "print errors only"},
        {"--image-opts", NULL, CLI_FLAG, &v.file[0].image_opts, "FILE1 and FILE2 are lists of options"},
        {.name = NULL},
    };
    int status;

    if (!cli_parse(&img_compare, opts, &argc, argv, &status)) {
        return status == EXIT_PASS ? status : COMPARE_ERROR;
    }
    if (!img_check_cache(cache)) {
        return COMPARE_ERROR;
    }
    if (argc != 2) {
        cli_error("img compare: Expecting two image file names");
        return COMPARE_ERROR;
    }
    v.progress.on = v.progress.on && !v.quiet;
    for (int i = 0; i < 2; i++) {
        v.file[i].filename = argv[1 + i];
        v.file[i].force_share = force_share;
        v.file[i].image_opts = v.file[0].image_opts;
    }
    return img_in_world(compare_in, &v);
}

const struct cli_command img_compare = {
    .name = "img compare",
    .usage = "[-f FMT] [-F FMT] [-s] [-p] [-q] [-T CACHE] [-U] FILE1 FILE2",
    .summary = "whether two images show the same content",
    .run = compare,
};
