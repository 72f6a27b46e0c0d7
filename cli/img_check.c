/*
 * blksim img check: qemu-img's verdicts and exit status (reference/bitmaps-qcow2.md 5.8).
 */
#include "cli/img.h"

#include <errno.h>
#include <string.h>

enum { CHECK_CLEAN = 0, CHECK_ERROR = 1, CHECK_CORRUPT = 2, CHECK_LEAKS = 3, CHECK_UNSUPPORTED = 63 };

struct check_verb {
    struct img_file file;
    bool json;
    bool quiet;
    uint32_t fix;
    BlockDriverState *bs;
    BdrvCheckResult res;
};

static void say(void *opaque, const char *line)
{
    const struct check_verb *v = opaque;

    if (!v->json && !v->quiet) {
        fprintf(stderr, "%s\n", line);
    }
}

static int check_once(void *opaque)
{
    struct check_verb *v = opaque;

    v->res = (BdrvCheckResult){.say = say, .say_opaque = v};
    return bdrv_co_check(v->bs, &v->res, v->fix);
}

/* --- telling ---------------------------------------------------------------------------------------------------
 */

static void put_if(struct qvalue *o, const char *key, int64_t value)
{
    if (value) {
        qdict_put(o, key, qvalue_int(value));
    }
}

static void tell_json(const struct check_verb *v)
{
    const BdrvCheckResult *r = &v->res;
    struct qvalue *o = qvalue_dict();

    put_if(o, "image-end-offset", r->image_end_offset);
    put_if(o, "total-clusters", r->total_clusters);
    qdict_put(o, "check-errors", qvalue_int(r->check_errors));
    put_if(o, "corruptions", r->corruptions);
    put_if(o, "leaks", r->leaks);
    put_if(o, "corruptions-fixed", r->corruptions_fixed);
    put_if(o, "leaks-fixed", r->leaks_fixed);
    put_if(o, "allocated-clusters", r->allocated_clusters);
    put_if(o, "fragmented-clusters", r->fragmented_clusters);
    put_if(o, "compressed-clusters", r->compressed_clusters);
    qdict_put(o, "filename", qvalue_str(v->file.filename));
    qdict_put(o, "format", qvalue_str(bdrv_driver_name(v->bs)));
    cli_print_json(o);
}

static void tell(const struct check_verb *v)
{
    const BdrvCheckResult *r = &v->res;
    long long all = r->total_clusters ? r->total_clusters : 1;
    long long used = r->allocated_clusters ? r->allocated_clusters : 1;

    if (!r->corruptions && !r->leaks && !r->check_errors) {
        printf("No errors were found on the image.\n");
    }
    if (r->corruptions) {
        printf("\n%lld errors were found on the image.\nData may be corrupted, or further writes to the image may "
               "corrupt it.\n",
               (long long)r->corruptions);
    }
    if (r->leaks) {
        printf("\n%lld leaked clusters were found on the image.\nThis means waste of disk space, but no harm to "
               "data.\n",
               (long long)r->leaks);
    }
    if (r->check_errors) {
        printf("\n%lld internal errors have occurred during the check.\n", (long long)r->check_errors);
    }
    if (r->total_clusters && r->allocated_clusters) {
        printf("%lld/%lld = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n",
               (long long)r->allocated_clusters, (long long)r->total_clusters,
               (double)r->allocated_clusters * 100.0 / (double)all,
               (double)r->fragmented_clusters * 100.0 / (double)used,
               (double)r->compressed_clusters * 100.0 / (double)used);
    }
    if (r->image_end_offset) {
        printf("Image end offset: %lld\n", (long long)r->image_end_offset);
    }
}

static void tell_repairs(const struct check_verb *v, const BdrvCheckResult *r)
{
    if (!v->json && !v->quiet && (r->corruptions_fixed || r->leaks_fixed)) {
        printf("The following inconsistencies were found and repaired:\n\n    %lld leaked clusters\n    %lld "
               "corruptions\n\nDouble checking the fixed image now...\n",
               (long long)r->leaks_fixed, (long long)r->corruptions_fixed);
    }
}

static int verdict(const BdrvCheckResult *r)
{
    if (r->check_errors) {
        return CHECK_ERROR;
    }
    if (r->corruptions) {
        return CHECK_CORRUPT;
    }
    return r->leaks ? CHECK_LEAKS : CHECK_CLEAN;
}

/* --- working -----------------------------------------------------------------------------------------------------
 */

static int check_and_tell(struct host *host, struct check_verb *v)
{
    int ret = img_run(host, check_once, v);

    if (ret == -ENOTSUP) {
        cli_error("img check: This image format does not support checks");
        return CHECK_UNSUPPORTED;
    }
    BdrvCheckResult first = v->res;
    if (ret == 0 && (first.corruptions_fixed || first.leaks_fixed)) {
        tell_repairs(v, &first);
        v->fix = 0;
        ret = img_run(host, check_once, v);
        v->res.corruptions_fixed = first.corruptions_fixed;
        v->res.leaks_fixed = first.leaks_fixed;
    }
    if (ret < 0) {
        cli_error("img check: '%s': Check failed: %s", v->file.filename, sim_errno_text(-ret));
        return CHECK_ERROR;
    }
    if (v->json) {
        tell_json(v);
    } else if (!v->quiet) {
        tell(v);
    }
    return verdict(&v->res);
}

static int check_in(struct host *host, void *opaque)
{
    struct check_verb *v = opaque;
    BlockBackend *blk = img_open(host, &v->file);

    if (!blk) {
        return CHECK_ERROR;
    }
    v->bs = blk_bs(blk);
    int status = check_and_tell(host, v);
    blk_unref(blk);
    return status;
}

static int check(int argc, char **argv)
{
    struct check_verb v = {.file = {.no_backing = true, .repair = true}};
    const char *output = "human";
    const char *repair = NULL;
    const struct cli_opt opts[] = {
        {"-f", "FMT", CLI_STR, &v.file.format, "format of the image (default: as its content looks like)"},
        {"--format", "FMT", CLI_STR, &v.file.format, "the same"},
        {"-r", "leaks|all", CLI_STR, &repair, "repair leaks only, or everything that can be"},
        {"--repair", "leaks|all", CLI_STR, &repair, "the same"},
        {"-T", "CACHE", CLI_STR, &v.file.cache, "cache mode"},
        {"-U", NULL, CLI_FLAG, &v.file.force_share, "the image may be in use elsewhere"},
        {"--force-share", NULL, CLI_FLAG, &v.file.force_share, "the same"},
        {"-q", NULL, CLI_FLAG, &v.quiet, "print errors only"},
        {"--output", "human|json", CLI_STR, &output, "form of what is printed"},
        {"--image-opts", NULL, CLI_FLAG, &v.file.image_opts, "FILE is a list of options"},
        {.name = NULL},
    };
    int status;

    if (!cli_parse(&img_check, opts, &argc, argv, &status)) {
        return status == EXIT_PASS ? status : CHECK_ERROR;
    }
    if (repair && strcmp(repair, "leaks") != 0 && strcmp(repair, "all") != 0) {
        cli_error("img check: Unknown option value for -r (expected 'leaks' or 'all'): %s", repair);
        return CHECK_ERROR;
    }
    if (!img_output(output, &v.json) || !img_check_cache(v.file.cache)) {
        return CHECK_ERROR;
    }
    if (argc != 1) {
        cli_error("img check: Expecting one image file name");
        return CHECK_ERROR;
    }
    v.file.filename = argv[1];
    v.file.writable = repair != NULL;
    v.fix = !repair ? 0 : BDRV_FIX_LEAKS | (strcmp(repair, "all") == 0 ? BDRV_FIX_ERRORS : 0);
    return img_in_world(check_in, &v);
}

const struct cli_command img_check = {
    .name = "img check",
    .usage = "[-q] [-f FMT] [--output=human|json] [-r leaks|all] [-T CACHE] [-U] FILE",
    .summary = "look for inconsistencies, and repair them",
    .run = check,
};
