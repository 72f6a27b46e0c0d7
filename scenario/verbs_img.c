/*
 * The img verbs: images on media, in qemu-img's words.
 */
#include <string.h>

#include "scenario/lang.h"
#include "scenario/verb_run.h"

#define IMAGE_SIZE_MAX INT64_MAX
#define MEDIUM \
    { \
        "name", SCN_NAME, .positional = true, .required = true, .domain = SCN_DOM_DISK, \
                          .doc = "disk with the image" \
    }
#define END \
    { \
        .name = NULL \
    }

static const char *const formats[] = {"raw", "qcow2", NULL};
static const char *const compats[] = {"0.10", "1.1", NULL};
static const char *const compressions[] = {"zlib", "zstd", NULL};
static const char *const preallocations[] = {"off", "metadata", "falloc", "full", NULL};
static const char *const repairs[] = {"leaks", "all", NULL};
static const char *const conditions[] = {"clean", "leaks", "corrupt", NULL};

#define WITHIN .within = "-o"

static const struct scn_arg_def create_args[] = {
    {"-f", SCN_ENUM, .choices = formats, .doc = "format, default raw"},
    {"-q", SCN_FLAG, .doc = "be quiet: accepted for qemu-img's sake"},
    {"-b", SCN_NAME, .domain = SCN_DOM_DISK, .doc = "backing image"},
    {"-F", SCN_ENUM, .choices = formats, .doc = "its format"},
    {"cluster_size", SCN_SIZE, .doc = "qcow2: 512 to 2M, default 64k", WITHIN},
    {"compat", SCN_ENUM, .choices = compats, .doc = "qcow2: version 2 or 3, default 1.1", WITHIN},
    {"lazy_refcounts", SCN_BOOL, .doc = "qcow2: counts are rebuilt after a crash", WITHIN},
    {"refcount_bits", SCN_INT, .doc = "qcow2: 1 to 64, default 16", WITHIN},
    {"extended_l2", SCN_BOOL, .doc = "qcow2: clusters in 32 parts", WITHIN},
    {"compression_type", SCN_ENUM, .choices = compressions, .doc = "qcow2: of compressed clusters", WITHIN},
    {"preallocation", SCN_ENUM, .choices = preallocations, .doc = "what is there from the start", WITHIN},
    {"data_file", SCN_NAME, .domain = SCN_DOM_DISK, .doc = "qcow2: guest data lies on this disk", WITHIN},
    {"data_file_raw", SCN_BOOL, .doc = "qcow2: which alone is a raw image, too", WITHIN},
    {"backing_file", SCN_NAME, .domain = SCN_DOM_DISK, .doc = "as -b", WITHIN},
    {"backing_fmt", SCN_ENUM, .choices = formats, .doc = "as -F", WITHIN},
    MEDIUM,
    {"size", SCN_SIZE, .positional = true, .min = 0, .max = IMAGE_SIZE_MAX,
     .doc = "what a guest sees, default that of the backing image"},
    END,
};

static const struct scn_arg_def check_args[] = {
    {"-f", SCN_ENUM, .choices = formats, .doc = "format, default: look"},
    {"-q", SCN_FLAG, .doc = "be quiet: accepted for qemu-img's sake"},
    {"-r", SCN_ENUM, .choices = repairs, .doc = "repairs leaks, or all that can be repaired"},
    MEDIUM,
    END,
};

static const struct scn_arg_def snapshot_args[] = {
    {"-c", SCN_STR, .doc = "makes a snapshot of that name"},
    {"-a", SCN_STR, .doc = "goes back to it"},
    {"-d", SCN_STR, .doc = "deletes it"},
    {"-f", SCN_ENUM, .choices = formats, .doc = "format, default: look"},
    {"-q", SCN_FLAG, .doc = "be quiet: accepted for qemu-img's sake"},
    MEDIUM,
    END,
};

static const struct scn_arg_def resize_args[] = {
    {"--shrink", SCN_FLAG, .doc = "what lies behind the new end may be lost"},
    {"-f", SCN_ENUM, .choices = formats, .doc = "format, default: look"},
    {"-q", SCN_FLAG, .doc = "be quiet: accepted for qemu-img's sake"},
    MEDIUM,
    {"size", SCN_SIZE, .positional = true, .required = true, .min = 0, .max = IMAGE_SIZE_MAX,
     .doc = "what a guest will see"},
    END,
};

static const struct scn_arg_def expect_args[] = {
    MEDIUM,
    {"condition", SCN_ENUM, .positional = true, .required = true, .choices = conditions,
     .doc = "clean, nothing but leaks, or corrupt"},
    END,
};

static const char *text(const struct scn_step *step, const char *key)
{
    const struct qvalue *value = qdict_get(step->args, key);

    return value ? value->str.bytes : NULL;
}

/* What belongs to one format only, and what says the same twice. */
static bool check_create(const struct scn_step *step, Error **errp)
{
    bool qcow2 = text(step, "-f") && strcmp(text(step, "-f"), "qcow2") == 0;
    bool backed = text(step, "-b") || text(step, "backing_file");

    for (const struct scn_arg_def *def = create_args; def->name && !qcow2; def++) {
        if (def->within && strcmp(def->name, "preallocation") != 0 && qdict_get(step->args, def->name)) {
            error_setg(errp, "'%s' means nothing to format raw, expected it with -f qcow2", def->name);
            return false;
        }
    }
    if (!qcow2 && backed) {
        error_setg(errp, "'-b' means nothing to format raw, expected it with -f qcow2");
        return false;
    }
    if ((text(step, "-b") && text(step, "backing_file")) || (text(step, "-F") && text(step, "backing_fmt"))) {
        error_setg(errp, "'%s' is given twice, expected -b and -F or the names in -o",
                   text(step, "-b") && text(step, "backing_file") ? "backing_file" : "backing_fmt");
        return false;
    }
    if (!backed && (text(step, "-F") || text(step, "backing_fmt"))) {
        error_setg(errp, "'%s' without a backing image, expected it with -b",
                   text(step, "-F") ? "-F" : "backing_fmt");
        return false;
    }
    if (backed && !text(step, "-F") && !text(step, "backing_fmt")) {
        error_setg(errp, "a backing image without its format, expected -F with -b");
        return false;
    }
    if (!backed && !qdict_get(step->args, "size")) {
        error_setg(errp, "no size, expected one where there is no backing image to take it from");
        return false;
    }
    return true;
}

static bool check_snapshot(const struct scn_step *step, Error **errp)
{
    if (!!text(step, "-c") + !!text(step, "-a") + !!text(step, "-d") != 1) {
        error_setg(errp, "expected one of '-c NAME', '-a NAME' and '-d NAME'");
        return false;
    }
    return true;
}

const struct scn_verb scn_img_verbs[] = {
    {.name = "img create",
     .form = SCN_FORM_WORLD,
     .args = create_args,
     .check = check_create,
     .run = scn_run_img_create,
     .doc = "formats a disk, as qemu-img create would",
     .example = "img create -f qcow2 -o cluster_size=4k,lazy_refcounts=on src 64M"},
    {.name = "img check",
     .form = SCN_FORM_WORLD,
     .args = check_args,
     .run = scn_run_img_check,
     .doc = "checks the image on a disk that no node has open, and repairs it; corruption that stays is a failure",
     .example = "img check -r all src"},
    {.name = "img snapshot",
     .form = SCN_FORM_WORLD,
     .args = snapshot_args,
     .check = check_snapshot,
     .run = scn_run_img_snapshot,
     .doc = "makes, applies or deletes an internal snapshot of the image on a disk that no node has open",
     .example = "img snapshot -a s1 src"},
    {.name = "img resize",
     .form = SCN_FORM_WORLD,
     .args = resize_args,
     .run = scn_run_img_resize,
     .doc = "changes the virtual size of the image on a disk that no node has open",
     .example = "img resize --shrink src 1M"},
    {.name = "expect img",
     .form = SCN_FORM_WORLD,
     .args = expect_args,
     .run = scn_run_expect_img,
     .doc = "what a check of the image on a disk finds",
     .example = "expect img src clean"},
    {.name = NULL},
};
