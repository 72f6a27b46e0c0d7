/*
 * Steps that make and break the world: disks, guests, faults.
 */
#include "scenario/runner_int.h"

#include <stdlib.h>
#include <string.h>

/* A refusal of the world's own steps: a violation, unless the step only tries. */
static void refused(struct runner *runner, const struct scn_step *step, Error *err)
{
    if (!step->try_) {
        runner_expect_failed(runner, step, "refused", "%s", error_get_pretty(err));
    }
    error_free(err);
}

/* --- disk, export ---------------------------------------------------------------------------------------- */

static struct qvalue *disk_keys(const struct scn_step *step)
{
    struct qvalue *keys = qvalue_copy(step->args);

    qvalue_free(qdict_take(keys, "name"));
    qvalue_free(qdict_take(keys, "file"));
    return keys;
}

static void change_disk(struct disk *disk, const struct scn_step *step)
{
    if (step_has(step, "capacity")) {
        disk_set_capacity(disk, step_int(step, "capacity", 0));
    }
    if (step_has(step, "latency")) {
        disk_set_latency(disk, step_int(step, "latency", 0));
    }
}

static struct disk *make_disk(struct runner *runner, const struct scn_step *step, Error **errp)
{
    struct disk_config config;
    struct qvalue *keys = disk_keys(step);
    struct disk *disk = NULL;

    disk_config_default(&config);
    if (disk_config_parse(keys, &config, errp)) {
        disk = disk_new(runner->sim, step_str(step, "name", ""), &config, errp);
    }
    qvalue_free(keys);
    if (disk) {
        disk_set_journal(disk, runner->loses_power);
    }
    return disk;
}

void scn_run_disk(struct runner *runner, const struct scn_step *step)
{
    struct disk *disk = disk_find(runner->sim, step_str(step, "name", ""));
    const char *file = step_str(step, "file", NULL);
    Error *err = NULL;

    if (disk) {
        change_disk(disk, step);
        return;
    }
    disk = make_disk(runner, step, &err);
    if (disk && file) {
        char *path = runner_path(runner, file);

        disk_load_file(disk, path, &err);
        free(path);
    }
    if (err) {
        refused(runner, step, err);
    }
}

void scn_run_export(struct runner *runner, const struct scn_step *step)
{
    struct disk *disk = disk_find(runner->sim, step_str(step, "name", ""));
    Error *err = NULL;

    if (!disk) {
        error_setg(&err, "there is no disk '%s'", step_str(step, "name", ""));
    } else {
        char *path = runner_path(runner, step_str(step, "path", ""));

        disk_save_file(disk, path, &err);
        free(path);
    }
    if (err) {
        refused(runner, step, err);
    }
}

/* --- guests ---------------------------------------------------------------------------------------------- */

struct guest_call {
    struct runner *runner;
    const struct scn_step *step;
    struct guest_config config;
    struct guest *guest;
    Error *err;
};

static void plug(void *opaque)
{
    struct guest_call *call = opaque;

    call->guest = guest_new(call->runner->host, &call->config, &call->err);
}

void scn_run_guest(struct runner *runner, const struct scn_step *step)
{
    struct guest_call call = {.runner = runner, .step = step};
    const char *policy;

    guest_config_default(&call.config);
    call.config.name = step_str(step, "name", "");
    call.config.node = step_str(step, "node", NULL);
    call.config.queue_depth = (uint32_t)step_int(step, "queue-depth", call.config.queue_depth);
    call.config.read_only = step_bool(step, "read-only", call.config.read_only);
    call.config.share_rw = step_bool(step, "share-rw", call.config.share_rw);
    call.config.write_cache = step_bool(step, "write-cache", call.config.write_cache);
    call.config.account_failed = step_bool(step, "account-failed", call.config.account_failed);
    call.config.account_invalid = step_bool(step, "account-invalid", call.config.account_invalid);
    call.config.logical_block_bytes = (uint32_t)step_int(step, "block-size", call.config.logical_block_bytes);
    policy = step_str(step, "rerror", NULL);
    if (policy) {
        block_on_error_parse(policy, &call.config.rerror);
    }
    policy = step_str(step, "werror", NULL);
    if (policy) {
        block_on_error_parse(policy, &call.config.werror);
    }
    runner_on_main(runner, plug, &call);
    if (call.err) {
        refused(runner, step, call.err);
    }
}

static void unplug(void *opaque)
{
    struct guest_call *call = opaque;

    guest_delete(call->guest);
}

void scn_run_unplug(struct runner *runner, const struct scn_step *step)
{
    struct guest_call call = {.runner = runner, .step = step};

    call.guest = guest_find(runner->host, step_str(step, "name", ""));
    if (!call.guest) {
        error_setg(&call.err, "there is no guest '%s'", step_str(step, "name", ""));
        refused(runner, step, call.err);
        return;
    }
    runner_wait_guest(runner, call.guest);
    if (!runner->give_up) {
        runner_on_main(runner, unplug, &call);
    }
}

/* --- faults ---------------------------------------------------------------------------------------------- */

void scn_run_fault(struct runner *runner, const struct scn_step *step)
{
    struct qvalue *args = qvalue_copy(step->args);
    struct qvalue *name = qdict_take(args, "name");
    const struct fault_class *fault = fault_find(name ? name->str.bytes : "");
    Error *err = NULL;

    if (!fault) {
        error_setg(&err, "there is no fault '%s'", name ? name->str.bytes : "");
    } else {
        fault_arm(runner->sim, fault, args, runner_step_entity(runner, step), &err);
        runner->stats.faults_armed++;
    }
    qvalue_free(name);
    qvalue_free(args);
    if (err) {
        refused(runner, step, err);
    }
}

void scn_run_fault_stop(struct runner *runner, const struct scn_step *step)
{
    fault_stop_all(runner->sim);
}
