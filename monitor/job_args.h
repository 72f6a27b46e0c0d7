/*
 * Arguments that the commands which start block jobs have in common (reference/jobs.md 9): rows for their tables,
 * and how they are read.
 */
#ifndef MONITOR_JOB_ARGS_H
#define MONITOR_JOB_ARGS_H

#include "block/backend.h"
#include "monitor/commands.h"

extern const char *const qmp_on_errors[];       /* policies of section 2 */
extern const char *const qmp_mirror_syncs[];    /* what mirrors and backups copy */
extern const char *const qmp_new_image_modes[]; /* whether drive-* makes the file; default absolute-paths */

#define QMP_JOB_ID_ARG(device_doc) \
    { \
        .name = "job-id", .type = QMP_STR, .optional = true, .doc = "default: the name of " device_doc \
    }
#define QMP_JOB_SPEED_ARG \
    { \
        .name = "speed", .type = QMP_INT, .optional = true, .def = "0", .doc = "bytes per second, 0: unlimited" \
    }
#define QMP_JOB_ON_ERROR_ARG(arg_name, arg_doc) \
    { \
        .name = arg_name, .type = QMP_ENUM, .optional = true, .choices = qmp_on_errors, .def = "report", \
        .doc = arg_doc \
    }
#define QMP_JOB_SYNC_ARG(arg_doc) \
    { \
        .name = "sync", .type = QMP_ENUM, .choices = qmp_mirror_syncs, .doc = arg_doc \
    }
#define QMP_JOB_MODE_ARG(arg_doc) \
    { \
        .name = "mode", .type = QMP_ENUM, .optional = true, .choices = qmp_new_image_modes, \
        .def = "absolute-paths", .doc = arg_doc \
    }
#define QMP_JOB_MASK_ARG \
    { \
        .name = "backing-mask-protocol", .type = QMP_BOOL, .optional = true, .def = "false", \
        .doc = "headers call a bare protocol raw" \
    }
#define QMP_JOB_FILTER_ARG \
    { \
        .name = "filter-node-name", .type = QMP_STR, .optional = true, .doc = "default: an implicit filter" \
    }
/* Two rows: auto-finalize, auto-dismiss. */
#define QMP_JOB_AUTO_ARGS \
    {.name = "auto-finalize", .type = QMP_BOOL, .optional = true, .def = "true", .doc = "no job-finalize needed"}, \
    { \
        .name = "auto-dismiss", .type = QMP_BOOL, .optional = true, .def = "true", .doc = "no job-dismiss needed" \
    }

/* The policy of an argument whose words the table has checked. */
enum block_on_error qmp_job_on_error(const struct qvalue *args, const char *name);

#endif
