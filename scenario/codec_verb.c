/*
 * Verbs as bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "scenario/codec.h"

/*
 * What a byte stands for as a verb. Append only: a corpus outlives the table. What is likely to matter stands more
 * than once; the rest of the language is written out behind 255.
 */
static const char *const verbs[] = {
    "io aio_write",
    "workload",
    "blockdev-mirror",
    "wait",
    "run",
    "disk",
    "blockdev-add",
    "guest",
    "fault",
    "settle",
    "block-job-complete",
    "block-job-cancel",
    "block-job-pause",
    "block-job-resume",
    "block-job-set-speed",
    "job-pause",
    "job-resume",
    "job-cancel",
    "job-complete",
    "job-finalize",
    "job-dismiss",
    "io write",
    "io read",
    "io aio_read",
    "io aio_discard",
    "io aio_flush",
    "io discard",
    "io flush",
    "stop",
    "cont",
    "fault-stop",
    "unplug",
    "block-dirty-bitmap-add",
    "block-dirty-bitmap-remove",
    "block-dirty-bitmap-clear",
    "block-dirty-bitmap-enable",
    "block-dirty-bitmap-disable",
    "query-jobs",
    "query-block-jobs",
    "query-block",
    "query-named-block-nodes",
    "blockdev-del",
    "block_resize",
    "io truncate",
    "io map",
    "check",
    "powerloss",
    "block-job-finalize",
    "block-job-dismiss",
    "block-job-change",
    "json",
    "expect job",
    "expect same",
    "expect bitmap",
    "expect event",
    "expect view",
    "expect error",
    "export",
    "query-status",
    "query-blockstats",
    /* again, for weight */
    "io aio_write",
    "io aio_write",
    "workload",
    "blockdev-mirror",
    "wait",
    "wait",
    "fault",
    "fault",
    "fault",
    "run",
    "block-job-complete",
    "block-job-pause",
    "block-job-resume",
    "block-job-cancel",
    /* dirty bitmaps */
    "bitmap freeze",
    "bitmap abdicate",
    "bitmap reclaim",
    "bitmap iterate",
    "transaction",
    "block-dirty-bitmap-merge",
    "x-debug-block-dirty-bitmap-sha256",
    "transaction",
    "block-dirty-bitmap-add",
    "block-dirty-bitmap-merge",
    "bitmap freeze",
    "block_resize",
    /* breakpoints */
    "io break",
    "io wait_break",
    "io resume",
    "io remove_break",
    /* limits */
    "block_set_io_throttle",
    "object-add",
    "object-del",
    "qom-set",
    "qom-get",
    "block-set-write-threshold",
    /* chains and images */
    "blockdev-snapshot",
    "blockdev-snapshot-sync",
    "blockdev-create",
    "change-backing-file",
    "x-blockdev-change",
    "blockdev-reopen",
    "io alloc",
    /* again, for weight */
    "blockdev-add",
    "blockdev-add",
    "blockdev-reopen",
    "blockdev-reopen",
    "x-blockdev-change",
    "guest",
    /* images */
    "img create",
    "img check",
    "expect img",
    "img create",
    "powerloss",
    "blockdev-snapshot-internal-sync",
    "blockdev-snapshot-delete-internal-sync",
    "blockdev-set-active",
    "img snapshot",
    "img resize",
    /* jobs */
    "block-stream",
    "block-commit",
    "blockdev-backup",
    "drive-backup",
    "drive-mirror",
};

const struct scn_verb *code_verb(struct coder *c, const struct scn_verb *verb)
{
    struct scn_text name = {.bytes = NULL};
    uint8_t byte = 255;

    for (size_t i = 0; c->encoding && i < ARRAY_SIZE(verbs) && byte == 255; i++) {
        byte = strcmp(verbs[i], verb->name) == 0 ? (uint8_t)i : 255;
    }
    code_u8(c, &byte);
    if (byte < 255) {
        return scn_verb_find(verbs[byte % ARRAY_SIZE(verbs)]);
    }
    if (c->encoding) {
        scn_text_str(&name, verb->name);
    }
    code_text(c, &name);
    verb = scn_verb_find(name.bytes ? name.bytes : "");
    free(name.bytes);
    return verb;
}
