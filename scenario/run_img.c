/*
 * Images on media: img create, check, snapshot and resize, expect img. Through the same drivers as everything else,
 * in time of the world, by nodes that live as long as the step.
 */
#include "scenario/runner_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct img_call {
    struct runner *runner;
    const struct scn_step *step;
    BdrvCheckResult found; /* as things are now */
    int64_t corruptions_fixed, leaks_fixed;
    char lines[256]; /* the first things that a check said */
    Error *err;
};

/* {"driver": "disk", "disk": NAME} */
static struct qvalue *medium_options(const char *name)
{
    struct qvalue *options = qvalue_dict();

    qdict_put(options, "driver", qvalue_str("disk"));
    qdict_put(options, "disk", qvalue_str(name));
    return options;
}

/* By its first bytes, as qemu-img does for who does not say. */
static const char *look_at_format(struct runner *runner, const char *name)
{
    static const uint8_t magic[4] = {'Q', 'F', 'I', 0xfb};
    struct disk *disk = disk_find(runner->sim, name);
    uint8_t bytes[4] = {0};
    struct payload p;

    if (disk) {
        payload_init(runner->sim, &p);
        disk_peek(disk, 0, SIM_SECTOR_BYTES, &p);
        payload_read_bytes(&p, 0, bytes, sizeof(bytes));
        payload_clear(&p);
    }
    return memcmp(bytes, magic, sizeof(magic)) == 0 ? "qcow2" : "raw";
}

/* alone: without what lies below it. */
static BlockDriverState *open_image(struct img_call *call, const char *name, const char *format, bool writable,
                                    bool alone)
{
    struct qvalue *options = qvalue_dict();
    const char *driver = format ? format : look_at_format(call->runner, name);
    BlockDriverState *bs;

    qdict_put(options, "driver", qvalue_str(driver));
    qdict_put(options, "file", medium_options(name));
    qdict_put(options, "read-only", qvalue_bool(!writable));
    if (alone && strcmp(driver, "qcow2") == 0) {
        qdict_put(options, "backing", qvalue_null());
    }
    /* alone: to be checked or looked at, so what a repair is for must not keep it from being opened */
    uint32_t flags = (writable ? BDRV_O_RDWR : 0) | (alone ? BDRV_O_CHECK : 0);
    struct co_cleanup cleanup;
    coroutine_cleanup_push(call->runner->host->sim, &cleanup, qvalue_cleanup, options);
    bs = bdrv_open(call->runner->host, options, flags, &call->err);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(options);
    return bs;
}

/* --- img create -------------------------------------------------------------------------------------------- */

/* The medium, empty; NULL with err. The caller unrefs. */
static BlockDriverState *empty_medium(struct img_call *call, const char *name)
{
    struct host *host = call->runner->host;
    struct qvalue *options = medium_options(name);
    BlockDriverState *bs = NULL;

    struct co_cleanup cleanup;

    qdict_put(options, "size", qvalue_int(0));
    coroutine_cleanup_push(host->sim, &cleanup, qvalue_cleanup, options);
    if (bdrv_co_create(host, options, &call->err) >= 0) {
        qvalue_free(qdict_take(options, "size"));
        bs = bdrv_open(host, options, BDRV_O_RDWR, &call->err);
    }
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(options);
    return bs;
}

/* -o: "cluster_size" here is "cluster-size" there, and compat says the version. */
static void put_options(const struct scn_step *step, struct qvalue *options)
{
    for (const struct scn_arg_def *def = step->verb->args; def->name; def++) {
        const struct qvalue *value = qdict_get(step->args, def->name);
        char key[32];

        if (!value || !def->within || strcmp(def->name, "data_file") == 0) {
            continue;
        }
        snprintf(key, sizeof(key), "%s", def->name);
        for (char *c = key; *c; c++) {
            *c = *c == '_' ? '-' : *c;
        }
        if (strcmp(key, "compat") == 0) {
            qdict_put(options, "version", qvalue_str(strcmp(value->str.bytes, "0.10") == 0 ? "v2" : "v3"));
        } else {
            qdict_put(options, key, qvalue_copy(value));
        }
    }
}

/* What a guest will see: as given, else what the backing image has. -1 with err. */
static int64_t size_of_image(struct img_call *call)
{
    const struct scn_step *step = call->step;
    const char *backing = step_str(step, "-b", step_str(step, "backing_file", NULL));
    const char *format = step_str(step, "-F", step_str(step, "backing_fmt", NULL));
    BlockDriverState *bs;
    int64_t bytes;

    if (step_has(step, "size")) {
        return step_int(step, "size", 0);
    }
    SIM_ASSERT(backing != NULL);
    bs = open_image(call, backing, format, false, true);
    if (!bs) {
        return -1;
    }
    bytes = bdrv_getlength_cached(bs);
    bdrv_unref(bs);
    return bytes;
}

static void create(void *opaque)
{
    struct img_call *call = opaque;
    const struct scn_step *step = call->step;
    const char *data_name = step_str(step, "data_file", NULL);
    int64_t bytes = size_of_image(call);
    BlockDriverState *file = bytes >= 0 ? empty_medium(call, step_str(step, "name", "")) : NULL;
    BlockDriverState *data = file && data_name ? empty_medium(call, data_name) : NULL;

    if (file && (data || !data_name)) {
        struct qvalue *options = qvalue_dict();

        qdict_put(options, "driver", qvalue_str(step_str(step, "-f", "raw")));
        qdict_put(options, "file", qvalue_str(bdrv_get_node_name(file)));
        qdict_put(options, "size", qvalue_int(bytes));
        put_options(step, options);
        if (data) {
            qdict_put(options, "data-file", qvalue_str(bdrv_get_node_name(data)));
        }
        if (step_has(step, "-b")) {
            qdict_put(options, "backing-file", qvalue_str(step_str(step, "-b", "")));
            qdict_put(options, "backing-fmt", qvalue_str(step_str(step, "-F", "")));
        }
        struct co_cleanup cleanup;
        coroutine_cleanup_push(call->runner->host->sim, &cleanup, qvalue_cleanup, options);
        bdrv_co_create(call->runner->host, options, &call->err);
        coroutine_cleanup_pop(&cleanup);
        qvalue_free(options);
    }
    if (data) {
        bdrv_unref(data);
    }
    if (file) {
        bdrv_unref(file);
    }
}

void scn_run_img_create(struct runner *runner, const struct scn_step *step)
{
    struct img_call call = {.runner = runner, .step = step};

    runner_in_host(runner, "img create", create, &call);
    runner->stats.images += !call.err && !runner->dark;
    runner_judge_reply(runner, step, call.err);
    error_free(call.err);
}

/* --- img check --------------------------------------------------------------------------------------------- */

static void say(void *opaque, const char *line)
{
    struct img_call *call = opaque;
    size_t used = strlen(call->lines);

    if (used + strlen(line) + 3 < sizeof(call->lines)) {
        snprintf(call->lines + used, sizeof(call->lines) - used, "%s%s", used ? "; " : "", line);
    }
}

static uint32_t repair_flags(const struct scn_step *step)
{
    const char *repair = step_str(step, "-r", NULL);

    return !repair ? 0 : strcmp(repair, "all") == 0 ? BDRV_FIX_LEAKS | BDRV_FIX_ERRORS : BDRV_FIX_LEAKS;
}

/* Repairs if asked, then looks at what is left. */
static void check(void *opaque)
{
    struct img_call *call = opaque;
    uint32_t fix = repair_flags(call->step);
    const char *name = step_str(call->step, "name", "");
    BlockDriverState *bs = open_image(call, name, step_str(call->step, "-f", NULL), fix != 0, true);
    int ret = 0;

    if (!bs) {
        return;
    }
    if (fix) {
        BdrvCheckResult repaired = {.corruptions = 0};

        ret = bdrv_co_check(bs, &repaired, fix);
        call->corruptions_fixed = repaired.corruptions_fixed;
        call->leaks_fixed = repaired.leaks_fixed;
    }
    if (ret >= 0) {
        call->found.say = say;
        call->found.say_opaque = call;
        ret = bdrv_co_check(bs, &call->found, 0);
    }
    if (ret == -ENOTSUP) {
        error_setg(&call->err, "This image format does not support checks");
    } else if (ret < 0) {
        error_setg_errno(&call->err, ret, "Check failed");
    }
    bdrv_unref(bs);
}

static void run_check(struct runner *runner, struct img_call *call)
{
    const BdrvCheckResult *found = &call->found;

    runner_in_host(runner, "img check", check, call);
    if (call->err || runner->dark) {
        return;
    }
    SIM_EMIT(runner->sim, runner->host, image_checked, call->step, SIM_P(step_str(call->step, "name", "")),
             (uint64_t)found->corruptions, (uint64_t)found->leaks, (uint64_t)found->check_errors,
             (uint64_t)call->corruptions_fixed, (uint64_t)call->leaks_fixed);
    runner->stats.image_checks++;
    runner->stats.images_leaking += found->leaks || call->leaks_fixed;
    runner->stats.images_corrupt += found->corruptions > 0;
    runner->stats.images_repaired += call->leaks_fixed || call->corruptions_fixed;
}

void scn_run_img_check(struct runner *runner, const struct scn_step *step)
{
    struct img_call call = {.runner = runner, .step = step};

    run_check(runner, &call);
    if (!call.err && !runner->dark && (call.found.corruptions || call.found.check_errors)) {
        error_setg(&call.err, "%lld errors were found on the image, %lld internal errors have occurred: %s",
                   (long long)call.found.corruptions, (long long)call.found.check_errors, call.lines);
    }
    runner_judge_reply(runner, step, call.err);
    error_free(call.err);
}

void scn_run_expect_img(struct runner *runner, const struct scn_step *step)
{
    struct img_call call = {.runner = runner, .step = step};
    const BdrvCheckResult *found = &call.found;
    const char *want = step_str(step, "condition", "");
    const char *have;

    run_check(runner, &call);
    have = call.err || found->check_errors ? "not to be checked"
           : found->corruptions            ? "corrupt"
           : found->leaks                  ? "leaks"
                                           : "clean";
    if (strcmp(want, have) != 0) {
        runner_expect_failed(runner, step, "img", "the image is %s, expected %s: %s", have, want,
                             call.err ? error_get_pretty(call.err) : call.lines);
    }
    error_free(call.err);
}

/* --- img snapshot, img resize ------------------------------------------------------------------------------ */

/* Only while the step lasts is anything below the image open, so nobody needs to be quiesced. */
static void snapshot(void *opaque)
{
    struct img_call *call = opaque;
    const struct scn_step *step = call->step;
    BlockDriverState *bs = open_image(call, step_str(step, "name", ""), step_str(step, "-f", NULL), true, false);

    if (!bs) {
        return;
    }
    if (step_has(step, "-c")) {
        bdrv_co_snapshot_create(bs, NULL, step_str(step, "-c", ""), &call->err);
    } else if (step_has(step, "-a")) {
        bdrv_co_snapshot_goto(bs, NULL, step_str(step, "-a", ""), &call->err);
    } else {
        bdrv_co_snapshot_delete(bs, NULL, step_str(step, "-d", ""), &call->err);
    }
    bdrv_unref(bs);
}

static void resize(void *opaque)
{
    struct img_call *call = opaque;
    const struct scn_step *step = call->step;
    int64_t bytes = step_int(step, "size", 0);
    BlockDriverState *bs = open_image(call, step_str(step, "name", ""), step_str(step, "-f", NULL), true, false);
    BlockBackend *blk = bs ? blk_new(call->runner->host, BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL) : NULL;

    if (!bs) {
        return;
    }
    if (bytes < bdrv_getlength_cached(bs) && !step_has(step, "--shrink")) {
        error_setg(&call->err, "Use the --shrink option to perform a shrink operation.");
    } else if (blk_insert_bs(blk, bs, &call->err) >= 0) {
        int ret = blk_co_truncate(blk, bytes, false, PREALLOC_OFF, 0, &call->err);

        ret = ret < 0 ? ret : blk_co_flush(blk);
        if (ret < 0 && !call->err) {
            error_setg_errno(&call->err, ret, "Could not resize");
        }
    }
    blk_unref(blk);
    bdrv_unref(bs);
}

static void change_image(struct runner *runner, const struct scn_step *step, const char *how, host_fn *fn)
{
    struct img_call call = {.runner = runner, .step = step};

    if (!runner->dark) {
        SIM_EMIT(runner->sim, runner->host, image_change, step, SIM_P(step_str(step, "name", "")), SIM_P(how));
    }
    runner_in_host(runner, how, fn, &call);
    runner->stats.image_changes += !call.err && !runner->dark;
    runner_judge_reply(runner, step, call.err);
    error_free(call.err);
}

void scn_run_img_snapshot(struct runner *runner, const struct scn_step *step)
{
    change_image(runner, step, "img snapshot", snapshot);
}

void scn_run_img_resize(struct runner *runner, const struct scn_step *step)
{
    change_image(runner, step, "img resize", resize);
}
