/*
 * The table of verbs. A verb is one row here (io rows: verbs_io.c; QMP rows: made from the monitor's table) and its
 * function in run_*.c; parser, printer, codec, checks and `list` read the row.
 */
#include <stdlib.h>
#include <string.h>

#include "faults/fault.h"
#include "scenario/lang.h"
#include "scenario/verb_run.h"
#include "sim/disk.h"

#define END \
    { \
        .name = NULL \
    }
#define DISK_SIZE_MAX ((int64_t)1 << 60)
#define YEAR_NS ((int64_t)365 * 86400 * NS_PER_S)
#define POSITIONAL .positional = true, .required = true

/* --- arguments ------------------------------------------------------------------------------------------- */

static const char *const disk_types[] = {"file", "device", NULL};
static const char *const disk_contents[] = {"hole", "stamp", NULL};
static const char *const read_policies[] = {"ignore", "report", "stop", "auto", NULL};
static const char *const write_policies[] = {"ignore", "report", "stop", "enospc", "auto", NULL};
static const char *const profiles[] = {"uniform", "hot", "sequential", "edges", NULL};
static const char *const keeps[] = {"drawn", "none", "all", NULL};
static const char *const outcomes[] = {"ok", "error", NULL};
static const char *const statuses[] = {"created", "running",  "paused",    "ready", "standby", "waiting",
                                       "pending", "aborting", "concluded", "null",  NULL};
static const char *const error_classes[] = {"GenericError",   "CommandNotFound", "DeviceNotActive",
                                            "DeviceNotFound", "KVMMissingCap",   NULL};

static const struct scn_arg_def disk_args[] = {
    {"name", SCN_NAME, POSITIONAL, .domain = SCN_DOM_DISK, .defines = true, .doc = "name of the disk"},
    {"type", SCN_ENUM, .choices = disk_types, .doc = "file: length follows writes; device: fixed length"},
    {"size", SCN_SIZE, .min = 0, .max = DISK_SIZE_MAX, .doc = "length at the start, default 0"},
    {"capacity", SCN_SIZE, .min = 0, .max = DISK_SIZE_MAX, .doc = "what can be allocated, 0: no limit"},
    {"align", SCN_SIZE, .min = 1, .max = 4096, .doc = "request alignment, default 512"},
    {"alloc-unit", SCN_SIZE, .min = 4096, .max = MiB, .doc = "unit of allocation, default 4k"},
    {"atomic", SCN_SIZE, .min = 512, .max = 4096, .doc = "what power loss never tears, default 512"},
    {"latency", SCN_TIME, .min = 0, .max = 10 * NS_PER_S, .doc = "of a request, default 50us"},
    {"per-kib", SCN_TIME, .min = 0, .max = 10 * NS_PER_MS, .doc = "further latency for each KiB, default 250ns"},
    {"queue-depth", SCN_INT, .min = 1, .max = 1024, .doc = "requests served at once, default 32"},
    {"write-cache", SCN_BOOL, .doc = "a completed write is durable only after a flush, default on"},
    {"discard", SCN_BOOL, .doc = "can discard, default on"},
    {"write-zeroes", SCN_BOOL, .doc = "can write zeroes, default on"},
    {"content", SCN_ENUM, .choices = disk_contents,
     .doc = "hole: reads zero; stamp: each sector carries its own stamp"},
    {"file", SCN_STR, .domain = SCN_DOM_PATH, .doc = "host file loaded into the disk, never written back"},
    {"max-transfer", SCN_SIZE, .min = 0, .max = GiB,
     .doc = "largest read or write, 0: any; longer ones come in pieces"},
    END,
};

static const struct scn_arg_def export_args[] = {
    {"name", SCN_NAME, POSITIONAL, .domain = SCN_DOM_DISK, .doc = "disk"},
    {"path", SCN_STR, POSITIONAL, .domain = SCN_DOM_PATH, .doc = "host file to write"},
    END,
};

static const struct scn_arg_def guest_args[] = {
    {"name", SCN_NAME, POSITIONAL, .domain = SCN_DOM_GUEST, .defines = true, .doc = "device and backend name"},
    {"node", SCN_NAME, .domain = SCN_DOM_NODE, .doc = "its medium; none without it"},
    {"queue-depth", SCN_INT, .min = 1, .max = 256, .doc = "active requests, default 16"},
    {"rerror", SCN_ENUM, .choices = read_policies, .doc = "when a read fails"},
    {"werror", SCN_ENUM, .choices = write_policies, .doc = "when a write fails"},
    {"read-only", SCN_BOOL, .doc = "default: whether the node is"},
    {"share-rw", SCN_BOOL, .doc = "others may write the node too, default off"},
    {"write-cache", SCN_BOOL, .doc = "off: every write is followed by a flush; default on"},
    {"account-failed", SCN_BOOL, .doc = "failed requests count in total times, default on"},
    {"account-invalid", SCN_BOOL, .doc = "invalid requests end the idle time, default on"},
    {"block-size", SCN_SIZE, .min = 512, .max = 4096, .doc = "logical block size, 512 or 4k"},
    END,
};

static const struct scn_arg_def unplug_args[] = {
    {"name", SCN_NAME, POSITIONAL, .domain = SCN_DOM_GUEST, .doc = "guest device"},
    END,
};

static const struct scn_arg_def workload_args[] = {
    {"guest", SCN_NAME, POSITIONAL, .domain = SCN_DOM_GUEST, .doc = "guest device"},
    {"ops", SCN_INT, .min = 0, .max = 1000000000, .doc = "requests, default 100"},
    {"depth", SCN_INT, .min = 1, .max = 256, .doc = "requests at once, default 4"},
    {"profile", SCN_ENUM, .choices = profiles, .doc = "where requests go, default uniform"},
    {"read", SCN_INT, .min = 0, .max = 1000000, .doc = "weight of reads, default 20"},
    {"write", SCN_INT, .min = 0, .max = 1000000, .doc = "weight of writes, default 70"},
    {"zero", SCN_INT, .min = 0, .max = 1000000, .doc = "weight of zero writes, default 3"},
    {"discard", SCN_INT, .min = 0, .max = 1000000, .doc = "weight of discards, default 2"},
    {"flush", SCN_INT, .min = 0, .max = 1000000, .doc = "weight of flushes, default 5"},
    {"min", SCN_SIZE, .min = 0, .max = GiB, .doc = "shortest request, default 4k"},
    {"max", SCN_SIZE, .min = 0, .max = GiB, .doc = "longest request, default 64k"},
    {"align", SCN_SIZE, .min = 1, .max = MiB, .doc = "of offsets and lengths, default the block size"},
    {"think", SCN_TIME, .min = 0, .max = 3600 * NS_PER_S, .doc = "mean pause before a request, default 0"},
    {"offset", SCN_SIZE, .min = 0, .max = DISK_SIZE_MAX, .doc = "where its area begins, default 0"},
    {"length", SCN_SIZE, .min = 0, .max = DISK_SIZE_MAX, .doc = "of its area, default to the end"},
    {"wait", SCN_BOOL, .doc = "the step waits for the end, default off"},
    {"iolog", SCN_STR, .domain = SCN_DOM_PATH, .doc = "replays a recorded fio iolog, version 2 or 3, instead"},
    {"name", SCN_NAME, .doc = "for reports"},
    END,
};

#define TIMEOUT \
    { \
        "timeout", SCN_TIME, .min = 0, .max = YEAR_NS, .doc = "of virtual time, default 60s" \
    }

static const struct scn_arg_def wait_args[] = {
    {"event", SCN_NAME, POSITIONAL, .domain = SCN_DOM_EVENT, .doc = "QMP event"},
    TIMEOUT,
    END,
};

static const struct scn_arg_def no_args[] = {END};

static const struct scn_arg_def run_args[] = {
    {"time", SCN_TIME, POSITIONAL, .min = 0, .max = YEAR_NS, .doc = "virtual time to let pass"},
    END,
};

static const struct scn_arg_def expect_job_args[] = {
    {"job", SCN_NAME, POSITIONAL, .domain = SCN_DOM_JOB, .doc = "job ID"},
    {"status", SCN_ENUM, POSITIONAL, .choices = statuses, .doc = "its state, the last one when it is gone"},
    {"outcome", SCN_ENUM, .positional = true, .choices = outcomes, .doc = "how it ended"},
    {"text", SCN_STR, .positional = true, .doc = "part of the error's text"},
    END,
};

static const struct scn_arg_def expect_same_args[] = {
    {"node", SCN_NAME, POSITIONAL, .domain = SCN_DOM_NODE, .doc = "node"},
    {"other", SCN_NAME, POSITIONAL, .domain = SCN_DOM_NODE, .doc = "node to compare with"},
    {"offset", SCN_SIZE, .positional = true, .doc = "first byte"},
    {"length", SCN_SIZE, .positional = true, .doc = "bytes"},
    END,
};

static const struct scn_arg_def expect_bitmap_args[] = {
    {"node", SCN_NAME, POSITIONAL, .domain = SCN_DOM_NODE, .doc = "node"},
    {"bitmap", SCN_NAME, POSITIONAL, .domain = SCN_DOM_BITMAP, .doc = "bitmap on it"},
    {"count", SCN_SIZE, .doc = "dirty bytes"},
    {"granularity", SCN_SIZE, .doc = "bytes a bit stands for"},
    {"recording", SCN_BOOL, .doc = "marks guest writes"},
    {"busy", SCN_BOOL, .doc = "in use by an operation"},
    {"persistent", SCN_BOOL, .doc = "stored when the image is closed"},
    {"inconsistent", SCN_BOOL, .doc = "was not stored properly"},
    {"sha256", SCN_STR, .doc = "hash of its serialised content"},
    END,
};

static const struct scn_arg_def owned_bitmap_args[] = {
    {"node", SCN_NAME, POSITIONAL, .domain = SCN_DOM_NODE, .doc = "node"},
    {"bitmap", SCN_NAME, POSITIONAL, .domain = SCN_DOM_BITMAP, .doc = "bitmap on it"},
    END,
};

static const struct scn_arg_def iterate_args[] = {
    {"node", SCN_NAME, POSITIONAL, .domain = SCN_DOM_NODE, .doc = "node"},
    {"bitmap", SCN_NAME, POSITIONAL, .domain = SCN_DOM_BITMAP, .doc = "bitmap on it"},
    {"hold", SCN_TIME, .min = 0, .max = 10 * NS_PER_S, .doc = "pause after each of the first areas, default 0"},
    END,
};

static const struct scn_arg_def expect_event_args[] = {
    {"event", SCN_NAME, POSITIONAL, .domain = SCN_DOM_EVENT, .doc = "QMP event"},
    END,
};

static const struct scn_arg_def expect_view_args[] = {
    {"node", SCN_NAME, POSITIONAL, .domain = SCN_DOM_NODE, .doc = "node"},
    {"-P", SCN_BYTE, .required = true, .doc = "the byte that is read throughout"},
    {"offset", SCN_SIZE, POSITIONAL, .doc = "first byte"},
    {"length", SCN_SIZE, POSITIONAL, .doc = "bytes"},
    END,
};

static const struct scn_arg_def expect_error_args[] = {
    {"class", SCN_ENUM, POSITIONAL, .choices = error_classes, .doc = "error class of the next command's refusal"},
    {"text", SCN_STR, .positional = true, .doc = "part of its text"},
    END,
};

static const struct scn_arg_def fault_args[] = {
    {"name", SCN_NAME, POSITIONAL, .domain = SCN_DOM_FAULT, .doc = "fault; `blksim list faults`"},
    END,
};

static const struct scn_arg_def powerloss_args[] = {
    {"host", SCN_NAME, POSITIONAL, .domain = SCN_DOM_HOST, .doc = "host or all"},
    {"keep", SCN_ENUM, .choices = keeps, .doc = "of what is not durable: a drawn part (default), none or all"},
    END,
};

static const struct scn_arg_def json_args[] = {
    {"json", SCN_VALUE, POSITIONAL, .doc = "{\"execute\": NAME, \"arguments\": {...}}"},
    END,
};

/* --- checks beyond the table ----------------------------------------------------------------------------- */

static bool check_disk(const struct scn_step *step, Error **errp)
{
    struct qvalue *keys = qvalue_copy(step->args);
    struct disk_config config;
    bool ok;

    qvalue_free(qdict_take(keys, "name"));
    qvalue_free(qdict_take(keys, "file"));
    ok = disk_config_parse(keys, &config, errp);
    qvalue_free(keys);
    return ok;
}

static bool check_guest(const struct scn_step *step, Error **errp)
{
    const struct qvalue *size = qdict_get(step->args, "block-size");

    if (size && size->integer != 512 && size->integer != 4096) {
        error_setg(errp, "'block-size' is %lld, expected 512 or 4k", (long long)size->integer);
        return false;
    }
    return true;
}

static int64_t int_or(const struct scn_step *step, const char *key, int64_t def)
{
    const struct qvalue *value = qdict_get(step->args, key);

    return value ? value->integer : def;
}

static bool check_workload(const struct scn_step *step, Error **errp)
{
    static const char *const drawn[] = {"ops", "profile", "read",  "write", "zero",   "discard", "flush",
                                        "min", "max",     "align", "think", "offset", "length"};
    int64_t align = int_or(step, "align", 512);

    for (size_t i = 0; qdict_get(step->args, "iolog") && i < ARRAY_SIZE(drawn); i++) {
        if (qdict_get(step->args, drawn[i])) {
            error_setg(errp, "'%s' has no meaning with 'iolog', expected only depth, wait and name beside it",
                       drawn[i]);
            return false;
        }
    }
    if (!is_power_of_2((uint64_t)align)) {
        error_setg(errp, "'align' is %lld, expected a power of two", (long long)align);
        return false;
    }
    if (int_or(step, "min", 4 * KiB) > int_or(step, "max", MAX(64 * KiB, int_or(step, "min", 0)))) {
        error_setg(errp, "'min' is above 'max' (default 64k), expected at most that");
        return false;
    }
    return true;
}

static bool check_expect_job(const struct scn_step *step, Error **errp)
{
    const struct qvalue *outcome = qdict_get(step->args, "outcome");

    if (qdict_get(step->args, "text") && (!outcome || strcmp(outcome->str.bytes, "error") != 0)) {
        error_setg(errp, "'text' without an error, expected it only after 'error'");
        return false;
    }
    return true;
}

/* Keys that the fault does not have, with the nearest that it has. */
static bool check_fault_keys(const struct fault_class *fault, const struct scn_step *step, Error **errp)
{
    for (size_t i = 0; i < step->args->seq.count; i++) {
        const char *key = step->args->seq.keys[i];
        struct scn_text all = {.bytes = NULL};
        struct scn_spell spell;
        char hint[SCN_HINT];
        bool known = scn_verb_arg(step->verb, key) != NULL;

        scn_spell_init(&spell, key);
        for (const struct fault_arg *arg = fault->args; arg && arg->name && !known; arg++) {
            known = strcmp(arg->name, key) == 0;
            scn_text_str(&all, all.length ? ", " : "");
            scn_text_str(&all, arg->name);
            scn_spell_try(&spell, arg->name);
        }
        if (!known) {
            error_setg(errp, "'%.60s' is unknown to fault '%s', expected %s%s%s", key, fault->name,
                       all.length ? "one of " : "no arguments", all.length ? all.bytes : "",
                       scn_spell_hint(&spell, hint));
        }
        free(all.bytes);
        if (!known) {
            return false;
        }
    }
    return true;
}

static bool check_fault(const struct scn_step *step, Error **errp)
{
    const struct fault_class *fault = fault_find(qdict_get(step->args, "name")->str.bytes);
    struct qvalue *args;
    bool ok;

    if (!fault) {
        return true; /* the name is looked at with the other names */
    }
    if (!check_fault_keys(fault, step, errp)) {
        return false;
    }
    args = qvalue_copy(step->args);
    qvalue_free(qdict_take(args, "name"));
    ok = fault_check_args(fault, args, errp);
    qvalue_free(args);
    return ok;
}

static bool check_powerloss(const struct scn_step *step, Error **errp)
{
    SIM_ASSERT(qdict_get(step->args, "host") != NULL);
    return true;
}

/* Only the form: what the command makes of its arguments is part of the run. */
static bool check_json(const struct scn_step *step, Error **errp)
{
    const struct qvalue *object = qdict_get(step->args, "json");
    const struct qvalue *execute = object->type == QVALUE_DICT ? qdict_get(object, "execute") : NULL;
    const struct qvalue *arguments = object->type == QVALUE_DICT ? qdict_get(object, "arguments") : NULL;

    if (!execute || execute->type != QVALUE_STR || strlen(execute->str.bytes) != execute->str.length) {
        error_setg(errp, "the JSON is no command, expected an object with \"execute\": NAME");
        return false;
    }
    if (arguments && arguments->type != QVALUE_DICT) {
        error_setg(errp, "\"arguments\" is no object, expected {\"key\": value, ...}");
        return false;
    }
    for (size_t i = 0; i < object->seq.count; i++) {
        const char *key = object->seq.keys[i];

        if (strcmp(key, "execute") != 0 && strcmp(key, "arguments") != 0 && strcmp(key, "id") != 0) {
            error_setg(errp, "\"%.60s\" is no key of a command, expected execute, arguments or id", key);
            return false;
        }
    }
    return true;
}

/* --- the table ------------------------------------------------------------------------------------------- */

#define VERB(verb, arguments, checker, runs, text, line) \
    { \
        .name = verb, .form = SCN_FORM_WORLD, .args = arguments, .check = checker, .run = runs, .doc = text, \
        .example = line \
    }
#define OPEN_VERB(verb, arguments, checker, runs, text, line) \
    { \
        .name = verb, .form = SCN_FORM_WORLD, .args = arguments, .check = checker, .run = runs, .doc = text, \
        .example = line, .open_args = true \
    }

static const struct scn_verb world_verbs[] = {
    VERB("disk", disk_args, check_disk, scn_run_disk, "makes a disk, or changes capacity and latency of one",
         "disk src size=64M latency=50us"),
    VERB("export", export_args, NULL, scn_run_export, "writes a disk to a host file", "export dst out.img"),
    VERB("guest", guest_args, check_guest, scn_run_guest, "plugs a guest block device",
         "guest g node=s werror=stop"),
    VERB("unplug", unplug_args, NULL, scn_run_unplug, "removes a guest block device", "unplug g"),
    VERB("workload", workload_args, check_workload, scn_run_workload, "a stream of guest requests",
         "workload g ops=500 profile=hot"),
    OPEN_VERB("wait", wait_args, NULL, scn_run_wait, "waits for an event",
              "wait BLOCK_JOB_READY device=m timeout=5s"),
    VERB("settle", no_args, NULL, scn_run_settle, "waits until no work is pending", "settle"),
    VERB("run", run_args, NULL, scn_run_run, "lets virtual time pass", "run 10ms"),
    VERB("check", no_args, NULL, scn_run_check, "settles, then runs the end-of-scenario checks", "check"),
    VERB("bitmap freeze", owned_bitmap_args, NULL, scn_run_bitmap_freeze,
         "begins to copy what a dirty bitmap says: a successor records until abdicate or reclaim",
         "bitmap freeze s b0"),
    VERB("bitmap abdicate", owned_bitmap_args, NULL, scn_run_bitmap_abdicate,
         "the copy is done: the successor takes the bitmap's name", "bitmap abdicate s b0"),
    VERB("bitmap reclaim", owned_bitmap_args, NULL, scn_run_bitmap_reclaim,
         "the copy is given up: what the successor recorded comes back", "bitmap reclaim s b0"),
    VERB("bitmap iterate", iterate_args, NULL, scn_run_bitmap_iterate,
         "walks the dirty areas, as who copies them does", "bitmap iterate s b0 hold=20us"),
    VERB("expect job", expect_job_args, check_expect_job, scn_run_expect_job, "state and outcome of a job",
         "expect job m concluded ok"),
    VERB("expect same", expect_same_args, NULL, scn_run_expect_same, "two nodes hold the same", "expect same s d"),
    VERB("expect bitmap", expect_bitmap_args, NULL, scn_run_expect_bitmap, "what a dirty bitmap is like",
         "expect bitmap s b0 count=64k"),
    OPEN_VERB("expect event", expect_event_args, NULL, scn_run_expect_event, "an event was sent",
              "expect event BLOCK_JOB_ERROR device=m"),
    VERB("expect view", expect_view_args, NULL, scn_run_expect_view, "a range reads as one byte",
         "expect view s -P 0x11 0 64k"),
    VERB("expect error", expect_error_args, NULL, scn_run_expect_error, "the next command is refused",
         "expect error DeviceNotActive \"not found\""),
    OPEN_VERB("fault", fault_args, check_fault, scn_run_fault, "arms a fault", "fault error disk=src op=read"),
    VERB("fault-stop", no_args, NULL, scn_run_fault_stop, "disarms all faults, lets stuck requests go",
         "fault-stop"),
    VERB("powerloss", powerloss_args, check_powerloss, scn_run_powerloss,
         "power fails: the host dies, its disks lose "
         "what was not flushed",
         "powerloss all"),
    {.name = "json",
     .form = SCN_FORM_JSON,
     .args = json_args,
     .check = check_json,
     .run = scn_run_json,
     .doc = "a command as raw JSON",
     .example = "{\"execute\": \"query-jobs\"}"},
};

const char *const scn_unknown_yet[] = {"host", "link", "migrate", "crash", NULL};

const struct scn_verb *scn_verb_at(size_t index)
{
    static const struct scn_verb *const tables[] = {scn_io_verbs, scn_img_verbs};

    if (index < ARRAY_SIZE(world_verbs)) {
        return &world_verbs[index];
    }
    index -= ARRAY_SIZE(world_verbs);
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        size_t count = 0;

        while (tables[i][count].name) {
            count++;
        }
        if (index < count) {
            return &tables[i][index];
        }
        index -= count;
    }
    return scn_qmp_verb_at(index);
}
