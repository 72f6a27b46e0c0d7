/*
 * The io verbs: single guest requests in qemu-io's words.
 */
#include <string.h>

#include "block/debug.h"
#include "scenario/lang.h"
#include "scenario/verb_run.h"

#define REQUEST_MAX (2 * GiB) /* of one guest request */

#define GUEST \
    { \
        "guest", SCN_NAME, .positional = true, .required = true, .domain = SCN_DOM_GUEST, .doc = "guest device" \
    }
#define OFFSET \
    { \
        "offset", SCN_SIZE, .positional = true, .required = true, .doc = "first byte" \
    }
#define LENGTH \
    { \
        "length", SCN_SIZE, .positional = true, .required = true, .min = 0, .max = REQUEST_MAX, .doc = "bytes" \
    }
#define TAG \
    { \
        "tag", SCN_NAME, .positional = true, .required = true, \
                         .doc = "name of the breakpoint, by convention A, B, ..." \
    }
#define END \
    { \
        .name = NULL \
    }

static const struct scn_arg_def read_args[] = {
    GUEST,
    {"-P", SCN_BYTE, .doc = "the data must be this byte throughout"},
    {"-v", SCN_FLAG, .doc = "show the data: accepted for qemu-io's sake"},
    OFFSET,
    LENGTH,
    END,
};

static const struct scn_arg_def write_args[] = {
    GUEST,
    {"-z", SCN_FLAG, .doc = "write zeroes"},
    {"-u", SCN_FLAG, .doc = "with -z: may unmap"},
    {"-n", SCN_FLAG, .doc = "with -z: fail rather than write zeroes as data"},
    {"-f", SCN_FLAG, .doc = "force unit access"},
    {"-c", SCN_FLAG, .doc = "write compressed data: whole clusters, or the tail of the disk"},
    {"-P", SCN_BYTE, .doc = "write this byte; without it each sector carries a stamp"},
    OFFSET,
    LENGTH,
    END,
};

static const struct scn_arg_def range_args[] = {GUEST, OFFSET, LENGTH, END};
static const struct scn_arg_def flush_args[] = {GUEST, END};

static const struct scn_arg_def truncate_args[] = {
    GUEST,
    {"length", SCN_SIZE, .positional = true, .required = true, .doc = "new length"},
    END,
};

static const struct scn_arg_def status_args[] = {
    GUEST,
    {"offset", SCN_SIZE, .positional = true, .doc = "first byte, default 0"},
    {"length", SCN_SIZE, .positional = true, .doc = "bytes, default up to the end"},
    END,
};

static const struct scn_arg_def break_args[] = {
    GUEST,
    {"event", SCN_ENUM, .positional = true, .required = true, .choices = blkdbg_event_names,
     .doc = "debug event that blkdebug hears"},
    TAG,
    END,
};

static const struct scn_arg_def tag_args[] = {GUEST, TAG, END};

static bool has(const struct scn_step *step, const char *name)
{
    return qdict_get(step->args, name) != NULL;
}

static bool check_range_end(const struct scn_step *step, Error **errp)
{
    const struct qvalue *offset = qdict_get(step->args, "offset");
    const struct qvalue *length = qdict_get(step->args, "length");

    if (offset && length && offset->integer > INT64_MAX - length->integer) {
        error_setg(errp, "'length' reaches beyond the largest offset, expected offset + length to fit in 63 bits");
        return false;
    }
    return true;
}

static bool check_write(const struct scn_step *step, Error **errp)
{
    if (has(step, "-z") && has(step, "-P")) {
        error_setg(errp, "'-P' contradicts '-z', expected one of them");
        return false;
    }
    if (has(step, "-c") && (has(step, "-z") || has(step, "-f"))) {
        error_setg(errp, "'-c' contradicts '%s', expected one of them", has(step, "-z") ? "-z" : "-f");
        return false;
    }
    if (!has(step, "-z") && (has(step, "-u") || has(step, "-n"))) {
        error_setg(errp, "'%s' without '-z', expected it only when writing zeroes", has(step, "-u") ? "-u" : "-n");
        return false;
    }
    return check_range_end(step, errp);
}

#define VERB(op, arguments, checker, runs, text, line) \
    { \
        .name = "io " op, .form = SCN_FORM_WORLD, .args = arguments, .check = checker, .run = runs, .doc = text, \
        .example = line \
    }
#define IO(op, arguments, checker, text, line) VERB(op, arguments, checker, scn_run_io, text, line)

const struct scn_verb scn_io_verbs[] = {
    IO("read", read_args, check_range_end, "reads and waits", "io g read -P 0x11 0 64k"),
    IO("write", write_args, check_write, "writes and waits", "io g write -P 0x11 0 64k"),
    IO("discard", range_args, check_range_end, "discards and waits", "io g discard 64k 64k"),
    IO("flush", flush_args, NULL, "flushes and waits", "io g flush"),
    IO("truncate", truncate_args, NULL, "changes the length of the guest's node", "io g truncate 2M"),
    IO("map", status_args, check_range_end, "reports what is allocated", "io g map"),
    IO("alloc", status_args, check_range_end, "reports what is allocated from an offset on", "io g alloc 64k 64k"),
    IO("aio_read", read_args, check_range_end, "reads, without waiting", "io g aio_read 0 64k"),
    IO("aio_write", write_args, check_write, "writes, without waiting", "io g aio_write 1M 64k"),
    IO("aio_discard", range_args, check_range_end, "discards, without waiting", "io g aio_discard 0 1M"),
    IO("aio_flush", flush_args, NULL, "flushes, without waiting", "io g aio_flush"),
    VERB("break", break_args, NULL, scn_run_break,
         "the next request that raises the event below the guest stops there", "io g break pwritev_rmw_head A"),
    VERB("wait_break", tag_args, NULL, scn_run_wait_break, "waits until a request stands at the breakpoint",
         "io g wait_break A"),
    VERB("resume", tag_args, NULL, scn_run_resume_break, "the request that came last to the breakpoint goes on",
         "io g resume A"),
    VERB("remove_break", tag_args, NULL, scn_run_remove_break,
         "the breakpoint goes, and all that stand there go on", "io g remove_break A"),
    {.name = NULL},
};
