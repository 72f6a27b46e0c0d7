/*
 * blockdev-create: a job that makes an image (reference/block.md 9, jobs.md 1). A plain job without pause points;
 * it is dismissed by hand.
 */
#ifndef JOBS_CREATE_H
#define JOBS_CREATE_H

#include "jobs/job.h"
#include "sim/qvalue.h"

/* options: `driver` and the create options of that driver; copied. False with errp: nothing was begun. */
bool blockdev_create_start(struct host *host, const char *job_id, const struct qvalue *options, Error **errp);

#endif
