/*
 * blksim img info: what an image is, as qemu-img tells it.
 */
#include "cli/img.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct info_verb {
    struct img_file file;
    bool json;
    bool chain;
    struct host *host;
    struct qvalue *list;
};

/* --- one image -------------------------------------------------------------------------------------------------
 */

static struct qvalue *describe_snapshots(const BlockDriverState *bs)
{
    QEMUSnapshotInfo *list = NULL;
    int count = bdrv_snapshot_list(bs, &list);
    struct qvalue *all = count > 0 ? qvalue_list() : NULL;

    for (int i = 0; i < count; i++) {
        struct qvalue *one = qvalue_dict();
        if (list[i].icount != UINT64_MAX) {
            qdict_put(one, "icount", qvalue_int((int64_t)list[i].icount));
        }
        qdict_put(one, "vm-clock-nsec", qvalue_int((int64_t)(list[i].vm_clock_nsec % 1000000000)));
        qdict_put(one, "name", qvalue_str(list[i].name));
        qdict_put(one, "date-sec", qvalue_int(list[i].date_sec));
        qdict_put(one, "date-nsec", qvalue_int(list[i].date_nsec));
        qdict_put(one, "vm-clock-sec", qvalue_int((int64_t)(list[i].vm_clock_nsec / 1000000000)));
        qdict_put(one, "id", qvalue_str(list[i].id_str));
        qdict_put(one, "vm-state-size", qvalue_int((int64_t)list[i].vm_state_size));
        qlist_append(all, one);
    }
    bdrv_snapshot_list_free(list, count > 0 ? count : 0);
    return all;
}

/* What the file takes of its file system. */
static void put_actual_size(struct qvalue *info, BlockDriverState *bs)
{
    struct stat st;
    BlockDriverState *file = bs;

    while (bdrv_primary_bs(file)) {
        file = bdrv_primary_bs(file);
    }
    if (strcmp(bdrv_driver_name(file), "file") == 0 && stat(bdrv_filename(file), &st) == 0) {
        qdict_put(info, "actual-size", qvalue_int((int64_t)st.st_blocks * 512));
    }
}

static void put_if_any(struct qvalue *info, const char *key, const char *text)
{
    if (text) {
        qdict_put(info, key, qvalue_str(text));
    }
}

static struct qvalue *describe(BlockDriverState *bs)
{
    struct qvalue *info = qvalue_dict();
    struct qvalue *snapshots = describe_snapshots(bs);
    BlockDriverInfo format = {0};
    bool known = bdrv_co_get_info(bs, &format) >= 0;
    char *full = bdrv_full_backing_filename(bs);

    if (snapshots) {
        qdict_put(info, "snapshots", snapshots);
    }
    put_if_any(info, "backing-filename-format", bdrv_header_backing_format(bs));
    qdict_put(info, "virtual-size", qvalue_int(bdrv_getlength_cached(bs)));
    qdict_put(info, "filename", qvalue_str(bdrv_filename(bs)));
    if (known && format.cluster_size) {
        qdict_put(info, "cluster-size", qvalue_int(format.cluster_size));
    }
    qdict_put(info, "format", qvalue_str(bdrv_driver_name(bs)));
    put_actual_size(info, bs);
    struct qvalue *specific = bdrv_co_get_specific_info(bs);
    if (specific) {
        qdict_put(info, "format-specific", specific);
    }
    put_if_any(info, "full-backing-filename", full);
    put_if_any(info, "backing-filename", bdrv_backing_filename(bs));
    qdict_put(info, "dirty-flag", qvalue_bool(known && format.is_dirty));
    free(full);
    return info;
}

struct description {
    BlockDriverState *bs;
    struct qvalue *info;
};

static int describe_entry(void *opaque)
{
    struct description *d = opaque;

    d->info = describe(d->bs);
    return 0;
}

struct qvalue *img_describe(BlockDriverState *bs)
{
    struct description d = {.bs = bs};

    img_run(bdrv_host(bs), describe_entry, &d);
    return d.info;
}

/* --- for people -------------------------------------------------------------------------------------------------
 */

static void print_value(FILE *out, const struct qvalue *v, int indent);

static void print_members(FILE *out, const struct qvalue *v, int indent)
{
    for (size_t i = 0; i < v->seq.count; i++) {
        const struct qvalue *item = v->seq.items[i];
        fprintf(out, "%*s", indent * 4, "");
        if (v->type == QVALUE_LIST) {
            fprintf(out, "[%zu]:", i);
        } else {
            for (const char *c = v->seq.keys[i]; *c; c++) {
                fputc(*c == '-' ? ' ' : *c, out);
            }
            fputc(':', out);
        }
        fputs(item->type == QVALUE_LIST || item->type == QVALUE_DICT ? "\n" : " ", out);
        print_value(out, item, indent + 1);
    }
}

static void print_value(FILE *out, const struct qvalue *v, int indent)
{
    switch (v->type) {
    case QVALUE_NULL:
        fputs("null\n", out);
        return;
    case QVALUE_BOOL:
        fprintf(out, "%s\n", v->boolean ? "true" : "false");
        return;
    case QVALUE_INT:
        fprintf(out, "%lld\n", (long long)v->integer);
        return;
    case QVALUE_STR:
        fprintf(out, "%s\n", v->str.bytes);
        return;
    case QVALUE_LIST:
    case QVALUE_DICT:
        print_members(out, v, indent);
        return;
    }
}

/* Seconds since 1970 as UTC: images are to look the same wherever they are looked at. */
static void format_date(int64_t seconds, char date[32])
{
    int64_t days = seconds / 86400;
    int64_t second = seconds % 86400;
    int year = 1970;
    int month = 0;
    int in_month = 31;

    for (int in_year = 365; days >= in_year;
         in_year = 365 + (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))) {
        days -= in_year;
        year++;
    }
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    for (; days >= in_month; in_month = month == 1 ? 28 + leap : 30 + ((month + month / 7) % 2 == 0)) {
        days -= in_month;
        month++;
    }
    snprintf(date, 32, "%d-%02d-%02d %02d:%02d:%02d", year, month + 1, (int)days + 1, (int)(second / 3600),
             (int)(second / 60 % 60), (int)(second % 60));
}

void img_snapshot_table(FILE *out, const struct qvalue *list)
{
    char human[32];
    char date[32];

    fprintf(out, "Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK",
            "ICOUNT");
    for (size_t i = 0; i < list->seq.count; i++) {
        const struct qvalue *s = list->seq.items[i];
        long long clock = img_int(s, "vm-clock-sec");
        format_date(img_int(s, "date-sec"), date);
        fprintf(out, "%-9s %-16s %8s%20s %02lld:%02lld:%02lld.%03lld", img_str(s, "id"), img_str(s, "name"),
                img_human(img_int(s, "vm-state-size"), human), date, clock / 3600, clock / 60 % 60, clock % 60,
                (long long)img_int(s, "vm-clock-nsec") / 1000000);
        if (qdict_get(s, "icount")) {
            fprintf(out, "%11lld\n", (long long)img_int(s, "icount"));
        } else {
            fprintf(out, "%11s\n", "--");
        }
    }
}

void img_describe_text(FILE *out, const struct qvalue *info)
{
    char human[32];
    long long size = img_int(info, "virtual-size");
    const struct qvalue *actual = qdict_get(info, "actual-size");
    const struct qvalue *specific = qdict_get(info, "format-specific");

    fprintf(out, "image: %s\nfile format: %s\nvirtual size: %s (%lld bytes)\n", img_str(info, "filename"),
            img_str(info, "format"), img_human(size, human), size);
    fprintf(out, "disk size: %s\n", actual ? img_human(actual->integer, human) : "unavailable");
    if (qdict_get(info, "cluster-size")) {
        fprintf(out, "cluster_size: %lld\n", (long long)img_int(info, "cluster-size"));
    }
    if (img_bool(info, "dirty-flag")) {
        fprintf(out, "cleanly shut down: no\n");
    }
    if (qdict_get(info, "backing-filename")) {
        const char *name = img_str(info, "backing-filename");
        const char *full = img_str(info, "full-backing-filename");
        fprintf(out, "backing file: %s", name);
        if (strcmp(name, full) != 0) {
            fprintf(out, " (actual path: %s)", full);
        }
        fprintf(out, "\n");
    }
    if (qdict_get(info, "backing-filename-format")) {
        fprintf(out, "backing file format: %s\n", img_str(info, "backing-filename-format"));
    }
    if (qdict_get(info, "snapshots")) {
        img_snapshot_table(out, qdict_get(info, "snapshots"));
    }
    if (specific) {
        fprintf(out, "Format specific information:\n");
        print_members(out, qdict_get(specific, "data"), 1);
    }
}

/* --- the verb ----------------------------------------------------------------------------------------------------
 */

static bool add_image(struct info_verb *v, const struct img_file *file, char **below, char **below_format)
{
    BlockBackend *blk = img_open(v->host, file);

    if (!blk) {
        return false;
    }
    BlockDriverState *bs = blk_bs(blk);
    const char *format = bdrv_header_backing_format(bs);
    qlist_append(v->list, img_describe(bs));
    *below = bdrv_full_backing_filename(bs);
    *below_format = format ? strdup(format) : NULL;
    blk_unref(blk);
    return true;
}

static bool seen(const struct qvalue *list, const char *filename)
{
    for (size_t i = 0; i < list->seq.count; i++) {
        if (strcmp(img_str(list->seq.items[i], "filename"), filename) == 0) {
            return true;
        }
    }
    return false;
}

/* Each image is opened alone: a chain that is broken further down is shown down to there. */
static bool gather(struct info_verb *v)
{
    struct img_file file = v->file;
    char *name = NULL;
    char *format = NULL;
    bool ok;

    do {
        char *below = NULL;
        char *below_format = NULL;
        ok = add_image(v, &file, &below, &below_format);
        free(name);
        free(format);
        name = below;
        format = below_format;
        if (ok && v->chain && name && seen(v->list, name)) {
            cli_error("img info: Backing file '%s' creates an infinite loop.", name);
            ok = false;
        }
        file = (struct img_file){
            .filename = name, .format = format, .no_backing = true, .force_share = v->file.force_share};
    } while (ok && v->chain && name);
    free(name);
    free(format);
    return ok;
}

static int info_in(struct host *host, void *opaque)
{
    struct info_verb *v = opaque;

    v->host = host;
    v->list = qvalue_list();
    bool ok = gather(v);
    if (ok && v->json) {
        cli_print_json(v->chain ? v->list : qvalue_copy(v->list->seq.items[0]));
        v->list = v->chain ? NULL : v->list;
    } else if (ok) {
        for (size_t i = 0; i < v->list->seq.count; i++) {
            fputs(i ? "\n" : "", stdout);
            img_describe_text(stdout, v->list->seq.items[i]);
        }
    }
    qvalue_free(v->list);
    return ok ? EXIT_PASS : EXIT_USAGE;
}

static int info(int argc, char **argv)
{
    struct info_verb v = {.file = {.no_backing = true}};
    const char *output = "human";
    const struct cli_opt opts[] = {
        {"-f", "FMT", CLI_STR, &v.file.format, "format of the image (default: as its content looks like)"},
        {"--format", "FMT", CLI_STR, &v.file.format, "the same"},
        {"-U", NULL, CLI_FLAG, &v.file.force_share, "the image may be in use elsewhere"},
        {"--force-share", NULL, CLI_FLAG, &v.file.force_share, "the same"},
        {"--output", "human|json", CLI_STR, &output, "form of what is printed"},
        {"--backing-chain", NULL, CLI_FLAG, &v.chain, "the images below as well"},
        {"--image-opts", NULL, CLI_FLAG, &v.file.image_opts, "FILE is a list of options"},
        {.name = NULL},
    };
    int status;

    if (!cli_parse(&img_info, opts, &argc, argv, &status)) {
        return status;
    }
    if (!img_output(output, &v.json)) {
        return EXIT_USAGE;
    }
    if (argc != 1) {
        return cli_error("img info: Expecting one image file name");
    }
    v.file.filename = argv[1];
    return img_in_world(info_in, &v);
}

const struct cli_command img_info = {
    .name = "img info",
    .usage = "[-f FMT] [--output=human|json] [--backing-chain] [-U] FILE",
    .summary = "what an image is",
    .run = info,
};
