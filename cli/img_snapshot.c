/*
 * blksim img snapshot: internal snapshots of an image (reference/bitmaps-qcow2.md 5.7).
 */
#include "cli/img.h"

#include <string.h>

struct snapshot_verb {
    struct img_file file;
    char action; /* l, a, c, d */
    const char *name;
    BlockDriverState *bs;
    Error *err;
};

static int act(void *opaque)
{
    struct snapshot_verb *v = opaque;

    switch (v->action) {
    case 'a':
        return bdrv_co_snapshot_goto(v->bs, NULL, v->name, &v->err);
    case 'c':
        return bdrv_co_snapshot_create(v->bs, NULL, v->name, &v->err);
    default:
        return bdrv_co_snapshot_delete(v->bs, NULL, v->name, &v->err);
    }
}

static int list(BlockDriverState *bs)
{
    struct qvalue *info = img_describe(bs);

    if (qdict_get(info, "snapshots")) {
        img_snapshot_table(stdout, qdict_get(info, "snapshots"));
    }
    qvalue_free(info);
    return EXIT_PASS;
}

static int snapshot_in(struct host *host, void *opaque)
{
    struct snapshot_verb *v = opaque;
    BlockBackend *blk = img_open(host, &v->file);
    int status = EXIT_PASS;

    if (!blk) {
        return EXIT_USAGE;
    }
    v->bs = blk_bs(blk);
    if (v->action == 'l') {
        status = list(v->bs);
    } else if (img_run(host, act, v) < 0) {
        static const char *const what[] = {['a'] = "apply", ['c'] = "create", ['d'] = "delete"};
        error_prepend(&v->err, "Could not %s snapshot '%s': ", what[(int)v->action], v->name);
        status = img_error(v->err);
    }
    blk_unref(blk);
    return status;
}

static int snapshot(int argc, char **argv)
{
    struct snapshot_verb v = {.action = 'l'};
    struct cli_given given = {.count = 0};
    bool quiet = false;
    const struct cli_opt opts[] = {
        {"-l", NULL, CLI_LIST, &given, "list them (the default)"},
        {"-a", "NAME", CLI_LIST, &given, "go back to one"},
        {"-c", "NAME", CLI_LIST, &given, "make one"},
        {"-d", "NAME", CLI_LIST, &given, "delete one"},
        {"-f", "FMT", CLI_STR, &v.file.format, "format of the image (default: as its content looks like)"},
        {"-U", NULL, CLI_FLAG, &v.file.force_share, "the image may be in use elsewhere"},
        {"--force-share", NULL, CLI_FLAG, &v.file.force_share, "the same"},
        {"-q", NULL, CLI_FLAG, &quiet, "print errors only"},
        {"--image-opts", NULL, CLI_FLAG, &v.file.image_opts, "FILE is a list of options"},
        {.name = NULL},
    };
    int status;

    if (!cli_parse(&img_snapshot, opts, &argc, argv, &status)) {
        return status;
    }
    if (argc != 1) {
        return cli_error("img snapshot: Expecting one image file name");
    }
    if (given.count > 1) {
        return cli_error("img snapshot: Cannot mix '-l', '-a', '-c', '-d'");
    }
    if (given.count) {
        v.action = given.name[0][1];
        v.name = given.value[0];
    }
    v.file.filename = argv[1];
    v.file.writable = v.action != 'l';
    return img_in_world(snapshot_in, &v);
}

const struct cli_command img_snapshot = {
    .name = "img snapshot",
    .usage = "[-l | -a NAME | -c NAME | -d NAME] [-f FMT] [-q] [-U] FILE",
    .summary = "internal snapshots: list, apply, create, delete",
    .run = snapshot,
};
