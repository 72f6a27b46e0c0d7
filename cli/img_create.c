/*
 * blksim img create: everything is checked before the file is touched.
 */
#include "cli/img.h"
#include "cli/img_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct create {
    struct img_new new;
    bool unsafe;           /* -u: the backing file is not looked at */
    BlockBackend *backing; /* open until the image is made: nobody changes it, and the image is none of its files */
    bool quiet;
};

/* --- the backing file ---------------------------------------------------------------------------------------- */

/* Seen from where the new image will be; libc memory. */
static char *backing_path(const struct create *c, const char *backing)
{
    const char *slash = strrchr(c->new.filename, '/');
    char *path;
    int prefix = slash && backing[0] != '/' ? (int)(slash - c->new.filename) + 1 : 0;

    if (asprintf(&path, "%.*s%s", prefix, c->new.filename, backing) < 0) {
        abort();
    }
    return path;
}

/* Looks whether the backing file can be opened, and takes its size if none was given. */
static bool look_at_backing(struct create *c)
{
    const char *backing = img_str(c->new.options, "backing-file");
    const char *format = img_str(c->new.options, "backing-fmt");

    if (!*backing || (c->unsafe && qdict_get(c->new.options, "size"))) {
        return true;
    }
    if (!*format) {
        cli_error("img create: '%s' is a backing file without a format, expected -F FMT", backing);
        return false;
    }
    char *path = backing_path(c, backing);
    struct img_file file = {.filename = path, .format = format};
    c->backing = img_open(c->new.host, &file);
    if (c->backing && !qdict_get(c->new.options, "size")) {
        qdict_put(c->new.options, "size", qvalue_int(blk_getlength(c->backing)));
    }
    free(path);
    return c->backing != NULL;
}

/* With -u nothing is open, but an image below itself is nothing that anybody wants. */
static bool is_own_backing(const struct create *c)
{
    const char *backing = img_str(c->new.options, "backing-file");
    char *path = backing_path(c, backing);
    bool same = *backing && img_same_file(path, c->new.filename);

    free(path);
    if (same) {
        cli_error("img create: %s: Trying to create an image with the same filename as the backing file",
                  c->new.filename);
    }
    return same;
}

/* --- making -------------------------------------------------------------------------------------------------- */

static struct qvalue *reference(const char *filename)
{
    struct qvalue *node = qvalue_dict();

    qdict_put(node, "driver", qvalue_str("file"));
    qdict_put(node, "filename", qvalue_str(filename));
    return node;
}

static int make_file(struct img_new *new, const char *filename, int64_t size)
{
    struct qvalue *options = reference(filename);

    qdict_put(options, "size", qvalue_int(size));
    int ret = bdrv_co_create(new->host, options, &new->err);
    qvalue_free(options);
    return ret;
}

static int make_all(struct img_new *new, const char *data_file)
{
    bool raw = strcmp(new->format, "raw") == 0;
    int ret = make_file(new, new->filename, raw ? img_int(new->options, "size") : 0);

    if (ret < 0 || raw) {
        return ret;
    }
    if (data_file) {
        ret = make_file(new, data_file, 0);
        if (ret < 0) {
            return ret;
        }
        qdict_put(new->options, "data-file", reference(data_file));
    }
    qdict_put(new->options, "file", reference(new->filename));
    return bdrv_co_create(new->host, new->options, &new->err);
}

int img_new_make(void *opaque)
{
    struct img_new *new = opaque;
    struct qvalue *given = qdict_take(new->options, "data_file");
    const char *data_file = given && given->str.bytes[0] ? given->str.bytes : NULL;
    bool fresh = access(new->filename, F_OK) < 0;
    bool fresh_data = data_file && access(data_file, F_OK) < 0;
    int ret = -EINVAL;

    if (data_file && img_same_file(data_file, new->filename)) {
        error_setg(&new->err, "The data file '%s' would be the image itself", data_file);
    } else {
        ret = make_all(new, data_file);
    }
    /* What was not there before is not left half made. */
    if (ret < 0 && fresh) {
        unlink(new->filename);
    }
    if (ret < 0 && fresh_data) {
        unlink(data_file);
    }
    qvalue_free(given);
    return ret;
}

static bool options_fit(struct img_new *new)
{
    const BlockDriver *drv = bdrv_find_driver(new->format);

    if (strcmp(new->format, "raw") == 0) {
        for (size_t i = 0; i < new->options->seq.count; i++) {
            if (strcmp(new->options->seq.keys[i], "size") != 0) {
                error_setg(&new->err, "Format 'raw' does not know '%s'", new->options->seq.keys[i]);
                return false;
            }
        }
        return true;
    }
    if (!drv || drv->internal || drv->is_protocol || !drv->bdrv_co_create) {
        error_setg(&new->err, "Unknown file format '%s'", new->format);
        return false;
    }
    struct qvalue *all = qvalue_copy(new->options);
    struct qvalue *data_file = qdict_take(all, "data_file");
    if (data_file) {
        qdict_put(all, "data-file", reference(data_file->str.bytes));
        qvalue_free(data_file);
    }
    qdict_put(all, "driver", qvalue_str(new->format));
    qdict_put(all, "file", reference(new->filename));
    bool ok = bdrv_create_check(all, &new->err);
    qvalue_free(all);
    return ok;
}

/* What only the making itself finds wrong is found on fake disks first: the file may hold something dear. */
static int try_on_disks(void *opaque)
{
    struct img_new *new = opaque;
    static const char *const names[] = {"trial", "trial-data"};
    struct qvalue *options = qvalue_copy(new->options);
    struct qvalue *data_file = qdict_take(options, "data_file");
    struct disk_config config;

    disk_config_default(&config);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        disk_new(new->host->sim, names[i], &config, NULL);
    }
    qvalue_free(qdict_take(options, "driver"));
    qvalue_free(qdict_take(options, "preallocation"));
    qdict_put(options, "driver", qvalue_str(new->format));
    qdict_put_path(options, "file.driver", qvalue_str("disk"));
    qdict_put_path(options, "file.disk", qvalue_str(names[0]));
    if (data_file) {
        qdict_put_path(options, "data-file.driver", qvalue_str("disk"));
        qdict_put_path(options, "data-file.disk", qvalue_str(names[1]));
        qvalue_free(data_file);
    }
    int ret = bdrv_co_create(new->host, options, &new->err);
    qvalue_free(options);
    return ret;
}

bool img_new_check(struct img_new *new)
{
    return options_fit(new) && (strcmp(new->format, "raw") == 0 || img_run(new->host, try_on_disks, new) >= 0);
}

static void announce(const struct create *c)
{
    printf("Formatting '%s', fmt=%s", c->new.filename, c->new.format);
    for (size_t i = 0; i < c->new.options->seq.count; i++) {
        const char *key = c->new.options->seq.keys[i];
        const char *name, *as, *help;
        for (unsigned k = 0; img_option_at(k, &name, &as, &help) && strcmp(as, key) != 0; k++) {
        }
        const struct qvalue *v = c->new.options->seq.items[i];
        if (v->type == QVALUE_STR) {
            printf(" %s=%s", name, v->str.bytes);
        } else if (v->type == QVALUE_BOOL) {
            printf(" %s=%s", name, v->boolean ? "on" : "off");
        } else if (v->type == QVALUE_INT) {
            printf(" %s=%lld", name, (long long)v->integer);
        }
    }
    printf("\n");
}

static int create_checked(struct host *host, struct create *c)
{
    if (is_own_backing(c) || !look_at_backing(c)) {
        return EXIT_USAGE;
    }
    if (!qdict_get(c->new.options, "size")) {
        return cli_error("img create: Image creation needs a size parameter");
    }
    if (!img_new_check(&c->new)) {
        error_prepend(&c->new.err, "%s: ", c->new.filename);
        return img_error(c->new.err);
    }
    if (!c->quiet) {
        announce(c);
    }
    qdict_put(c->new.options, "driver", qvalue_str(c->new.format));
    if (img_run(host, img_new_make, &c->new) < 0) {
        error_prepend(&c->new.err, "%s: ", c->new.filename);
        return img_error(c->new.err);
    }
    return EXIT_PASS;
}

static int create_in(struct host *host, void *opaque)
{
    struct create *c = opaque;

    c->new.host = host;
    int status = create_checked(host, c);
    blk_unref(c->backing);
    return status;
}

/* --- the command line ------------------------------------------------------------------------------------------
 */

int img_list_options(void)
{
    const char *name, *key, *help;

    printf("Supported options:\n");
    for (unsigned i = 0; img_option_at(i, &name, &key, &help); i++) {
        printf("  %-18s %s\n", name, help);
    }
    return EXIT_PASS;
}

bool img_asks_options(const struct cli_given *given)
{
    return given->count > 0 && (strcmp(given->value[0], "help") == 0 || strcmp(given->value[0], "?") == 0);
}

bool img_new_options(struct img_new *new, const struct cli_given *given)
{
    bool ok = true;

    for (int i = 0; ok && i < given->count; i++) {
        ok = img_options_parse(given->value[i], new->options, &new->err);
    }
    return ok;
}

static bool gather(struct create *c, const struct cli_given *given, const char *backing, const char *backing_format,
                   const char *size_text)
{
    int64_t size;

    if (!img_new_options(&c->new, given)) {
        img_error(c->new.err);
        return false;
    }
    if ((backing && !qdict_put(c->new.options, "backing-file", qvalue_str(backing))) ||
        (backing_format && !qdict_put(c->new.options, "backing-fmt", qvalue_str(backing_format)))) {
        cli_error("img create: the backing file or its format is given twice");
        return false;
    }
    if (size_text && !sim_parse_size(size_text, &size)) {
        cli_error("img create: Invalid image size specified: '%s', expected bytes with k, M, G, T, P or E",
                  size_text);
        return false;
    }
    if (size_text && !qdict_put(c->new.options, "size", qvalue_int(size))) {
        cli_error("img create: the size is given twice");
        return false;
    }
    return true;
}

static int create(int argc, char **argv)
{
    struct create c = {.new = {.format = "raw", .options = qvalue_dict()}};
    struct cli_given given = {.count = 0};
    const char *backing = NULL;
    const char *backing_format = NULL;
    const struct cli_opt opts[] = {
        {"-f", "FMT", CLI_STR, &c.new.format, "format of the image: qcow2 or raw (the default)"},
        {"-o", "OPTIONS", CLI_LIST, &given, "NAME=VALUE,...; `-o help` lists them"},
        {"-b", "FILE", CLI_STR, &backing, "the image below; relative to the new one"},
        {"-F", "FMT", CLI_STR, &backing_format, "its format"},
        {"-u", NULL, CLI_FLAG, &c.unsafe, "do not look at the image below"},
        {"-q", NULL, CLI_FLAG, &c.quiet, "print errors only"},
        {.name = NULL},
    };
    int status;

    if (!cli_parse(&img_create, opts, &argc, argv, &status)) {
        qvalue_free(c.new.options);
        return status;
    }
    if (img_asks_options(&given)) {
        status = img_list_options();
    } else if (argc < 1 || argc > 2) {
        status = cli_error("img create: Expecting image file name and, unless -b tells it, a size");
    } else {
        c.new.filename = argv[1];
        status = gather(&c, &given, backing, backing_format, argc == 2 ? argv[2] : NULL)
                     ? img_in_world(create_in, &c)
                     : EXIT_USAGE;
    }
    qvalue_free(c.new.options);
    return status;
}

const struct cli_command img_create = {
    .name = "img create",
    .usage = "[-q] [-f FMT] [-b FILE -F FMT] [-u] [-o OPTIONS] FILE [SIZE]",
    .summary = "make an image",
    .run = create,
};
