/*
 * What each verb does when it runs (scenario/run_*.c), for the table in scenario/verbs.c.
 *
 * All run in the runner's coroutine, may wait, and report broken expectations as violations of checker `expect`.
 */
#ifndef SCENARIO_VERB_RUN_H
#define SCENARIO_VERB_RUN_H

#include "scenario/runner.h"

void scn_run_disk(struct runner *runner, const struct scn_step *step);
void scn_run_export(struct runner *runner, const struct scn_step *step);
void scn_run_img_create(struct runner *runner, const struct scn_step *step);
void scn_run_img_check(struct runner *runner, const struct scn_step *step);
void scn_run_img_snapshot(struct runner *runner, const struct scn_step *step);
void scn_run_img_resize(struct runner *runner, const struct scn_step *step);
void scn_run_expect_img(struct runner *runner, const struct scn_step *step);
void scn_run_guest(struct runner *runner, const struct scn_step *step);
void scn_run_unplug(struct runner *runner, const struct scn_step *step);
void scn_run_break(struct runner *runner, const struct scn_step *step);
void scn_run_wait_break(struct runner *runner, const struct scn_step *step);
void scn_run_resume_break(struct runner *runner, const struct scn_step *step);
void scn_run_remove_break(struct runner *runner, const struct scn_step *step);
void scn_run_io(struct runner *runner, const struct scn_step *step);
void scn_run_workload(struct runner *runner, const struct scn_step *step);
void scn_run_wait(struct runner *runner, const struct scn_step *step);
void scn_run_settle(struct runner *runner, const struct scn_step *step);
void scn_run_run(struct runner *runner, const struct scn_step *step);
void scn_run_check(struct runner *runner, const struct scn_step *step);
void scn_run_expect_job(struct runner *runner, const struct scn_step *step);
void scn_run_expect_same(struct runner *runner, const struct scn_step *step);
void scn_run_expect_bitmap(struct runner *runner, const struct scn_step *step);
void scn_run_expect_event(struct runner *runner, const struct scn_step *step);
void scn_run_expect_view(struct runner *runner, const struct scn_step *step);
void scn_run_expect_error(struct runner *runner, const struct scn_step *step);
void scn_run_bitmap_freeze(struct runner *runner, const struct scn_step *step);
void scn_run_bitmap_abdicate(struct runner *runner, const struct scn_step *step);
void scn_run_bitmap_reclaim(struct runner *runner, const struct scn_step *step);
void scn_run_bitmap_iterate(struct runner *runner, const struct scn_step *step);
void scn_run_fault(struct runner *runner, const struct scn_step *step);
void scn_run_fault_stop(struct runner *runner, const struct scn_step *step);
void scn_run_powerloss(struct runner *runner, const struct scn_step *step);
void scn_run_qmp(struct runner *runner, const struct scn_step *step);
void scn_run_json(struct runner *runner, const struct scn_step *step);

#endif
