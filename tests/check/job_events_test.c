/*
 * Protects check/job_machine, events: one that is missing, doubled, early, late or of the wrong kind is reported.
 *
 * No rule is out of reach, but assertions of jobs/ stand before the straight way to two of them:
 *
 *     ready-twice              a ready job cannot become ready again: its event is sent twice
 *     terminal-event-unstarted a job that never ran is told no end: the hook that cleans it up sends one
 */
#include "tests/check/bent_job.h"

/* The job itself breaks nothing. */
static void silent(int (*run)(Job *job, Error **errp))
{
    run_to_end(make(JOB_TYPE_BACKUP, run));
    finish();
    assert_silent();
}

static void test_silent(void **state)
{
    silent(run_nothing);
}

static void test_silent_ready(void **state)
{
    silent(run_ready);
}

static void test_silent_failing(void **state)
{
    silent(run_failing);
}

/* --- BLOCK_JOB_READY ----------------------------------------------------------------------------------------- */

static void test_ready_event_missing(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_ready);

    hooks.ready = say_nothing;
    run_to_end(job);
    assert_violated("job-machine.ready-event-missing.backup.ready.-.-");
}

static void ready_says_pending(Job *job)
{
    own->pending(job);
    own->ready(job);
}

static void test_ready_event_late(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_ready);

    hooks.ready = ready_says_pending;
    run_to_end(job);
    assert_violated("job-machine.ready-event-missing.backup.ready.-.BLOCK_JOB_PENDING");
}

static void ready_twice(Job *job)
{
    own->ready(job);
    own->ready(job);
}

static void test_ready_twice(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_ready);

    hooks.ready = ready_twice;
    run_to_end(job);
    assert_violated("job-machine.ready-twice.backup.ready.-.BLOCK_JOB_READY");
}

static void ready_at_end(Job *job)
{
    own->ready(job);
    own->completed(job);
}

static void test_ready_order(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_nothing);

    hooks.completed = ready_at_end;
    run_to_end(job);
    assert_violated("job-machine.ready-order.backup.pending.-.BLOCK_JOB_READY");
}

/* A mirror that is done without having been in sync. */
static void test_ready_skipped(void **state)
{
    run_to_end(make(JOB_TYPE_MIRROR, run_nothing));
    assert_violated("job-machine.ready-skipped.mirror.pending.-.BLOCK_JOB_COMPLETED");
}

/* --- the terminal event -------------------------------------------------------------------------------------- */

static void test_no_terminal_event(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_nothing);

    hooks.completed = say_nothing;
    run_to_end(job);
    assert_violated("job-machine.no-terminal-event.backup.concluded.-.-");
}

static void completed_twice(Job *job)
{
    own->completed(job);
    own->completed(job);
}

static void test_terminal_twice(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_nothing);

    hooks.completed = completed_twice;
    run_to_end(job);
    assert_violated("job-machine.terminal-twice.backup.pending.-.BLOCK_JOB_COMPLETED");
}

static void completed_as_cancelled(Job *job)
{
    own->cancelled(job);
}

static void test_terminal_order(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_nothing);

    hooks.completed = completed_as_cancelled;
    run_to_end(job);
    assert_violated("job-machine.terminal-order.backup.pending.-.BLOCK_JOB_CANCELLED");
}

static void completed_when_ready(Job *job)
{
    own->ready(job);
    own->completed(job);
}

static void test_terminal_order_early(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_ready);

    hooks.ready = completed_when_ready;
    hooks.completed = say_nothing;
    run_to_end(job);
    assert_violated("job-machine.terminal-order.backup.ready.-.BLOCK_JOB_COMPLETED");
}

static void cancelled_at_clean(Job *job)
{
    own->cancelled(job);
    own->clean(job);
}

static void cancel_entry(void *opaque)
{
    job_cancel(opaque, true);
}

static void test_terminal_event_unstarted(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_nothing);

    hooks.clean = cancelled_at_clean;
    on_main(cancel_entry, job);
    assert_violated("job-machine.terminal-event-unstarted.backup.concluded.-.-");
}

/* Without the bent hook such a job ends in silence. */
static void test_silent_unstarted(void **state)
{
    on_main(cancel_entry, make(JOB_TYPE_BACKUP, run_nothing));
    finish();
    assert_silent();
}

static void pending_at_failure(Job *job)
{
    own->pending(job);
    own->completed(job);
}

static void test_pending_order(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_failing);

    hooks.completed = pending_at_failure;
    run_to_end(job);
    assert_violated("job-machine.pending-order.backup.aborting.-.BLOCK_JOB_PENDING");
}

/* --- after the end ------------------------------------------------------------------------------------------- */

static void completed_at_free(Job *job)
{
    own->completed(job);
    own->free(job);
}

static void test_event_after_end(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_nothing);

    hooks.free = completed_at_free;
    run_to_end(job);
    settle();
    assert_violated("job-machine.event-after-end.backup.null.-.BLOCK_JOB_COMPLETED");
}

static void error_after_completed(Job *job)
{
    own->completed(job);
    block_job_error_action(block_job(job), BLOCKDEV_ON_ERROR_REPORT, true, EIO);
}

static void test_error_after_end(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_nothing);

    hooks.completed = error_after_completed;
    run_to_end(job);
    assert_violated("job-machine.error-after-end.backup.pending.-.read");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENT_RULE("bent/silent", test_silent),
        BENT_RULE("bent/silent/ready", test_silent_ready),
        BENT_RULE("bent/silent/failing", test_silent_failing),
        BENT_RULE("bent/silent/unstarted", test_silent_unstarted),
        BENT_RULE("ready-event-missing", test_ready_event_missing),
        BENT_RULE("ready-event-missing/late", test_ready_event_late),
        BENT_RULE("ready-twice", test_ready_twice),
        BENT_RULE("ready-order", test_ready_order),
        BENT_RULE("ready-skipped", test_ready_skipped),
        BENT_RULE("no-terminal-event", test_no_terminal_event),
        BENT_RULE("terminal-twice", test_terminal_twice),
        BENT_RULE("terminal-order", test_terminal_order),
        BENT_RULE("terminal-order/early", test_terminal_order_early),
        BENT_RULE("terminal-event-unstarted", test_terminal_event_unstarted),
        BENT_RULE("pending-order", test_pending_order),
        BENT_RULE("event-after-end", test_event_after_end),
        BENT_RULE("error-after-end", test_error_after_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
