/*
 * The cells of the matrix of jobs: what was reached is told, verbs are given by both families of commands or, where
 * no command can come, by the engine's own functions, and refusals are in the reference's words.
 */
#ifndef TESTS_JOBS_MATRIX_CELLS_H
#define TESTS_JOBS_MATRIX_CELLS_H

#include "tests/jobs/matrix_world.h"

#include "jobs/job_int.h"

/* --- what was reached ---------------------------------------------------------------------------------------- */

static const char *test_name;
static const char *kind_name;

static void reached(const char *format, ...) SIM_PRINTF(1, 2);
static void reached(const char *format, ...)
{
    const char *path = getenv("JOB_MATRIX");
    FILE *file = path != NULL ? fopen(path, "a") : NULL;
    va_list ap;

    if (file == NULL) {
        return;
    }
    va_start(ap, format);
    vfprintf(file, format, ap);
    va_end(ap);
    fclose(file);
}

static enum job_status last; /* of the latest job */

static void step(enum job_status to)
{
    reached("step\t%s\t%s\t%s\t%s\n", job_status_name(last), job_status_name(to), kind_name, test_name);
    last = to;
}

/* "j" and, in a group, "k" of which nothing is told. */
static void on_status(void *opaque, const struct sim_record *record)
{
    enum job_status status;

    assert_true(job_status_parse(sim_record_str(record, 1), &status));
    if (strcmp(sim_record_name(record, 0)->str, "j") == 0) {
        last = status == JOB_STATUS_CREATED ? JOB_STATUS_UNDEFINED : last;
        assert_true(job_transition_legal(last, status));
        step(status);
    }
}

static void begin(const struct kind *kind)
{
    matrix_begin(kind);
    sim_subscribe(world, EV_JOB_STATUS_CHANGE, on_status, NULL);
}

/* --- verbs --------------------------------------------------------------------------------------------------- */

static const struct verb {
    const char *name;
    const char *states; /* where it is accepted: the reference's row */
    struct {
        const char *command;
        const char *key;
        const char *more;
    } family[2];
} verbs[JOB_VERB_COUNT] = {
    [JOB_VERB_CANCEL] = {"cancel",
                         "created running paused ready standby waiting pending",
                         {{"job-cancel", "id", ""}, {"block-job-cancel", "device", ",'force':true"}}},
    [JOB_VERB_PAUSE] = {"pause",
                        "created running paused ready standby",
                        {{"job-pause", "id", ""}, {"block-job-pause", "device", ""}}},
    [JOB_VERB_RESUME] = {"resume",
                         "created running paused ready standby",
                         {{"job-resume", "id", ""}, {"block-job-resume", "device", ""}}},
    [JOB_VERB_SET_SPEED] = {"set-speed",
                            "created running paused ready standby",
                            {{"block-job-set-speed", "device", ",'speed':77"},
                             {"block-job-set-speed", "device", ",'speed':77"}}},
    [JOB_VERB_COMPLETE] = {"complete",
                           "ready standby",
                           {{"job-complete", "id", ""}, {"block-job-complete", "device", ""}}},
    [JOB_VERB_FINALIZE] = {"finalize", "pending", {{"job-finalize", "id", ""}, {"block-job-finalize", "id", ""}}},
    [JOB_VERB_DISMISS] = {"dismiss", "concluded", {{"job-dismiss", "id", ""}, {"block-job-dismiss", "id", ""}}},
    [JOB_VERB_CHANGE] = {"change",
                         "created running paused ready standby",
                         {{"block-job-change", "id", ",'type':'mirror','copy-mode':'background'"},
                          {"block-job-change", "id", ",'type':'mirror','copy-mode':'background'"}}},
};

static bool accepts(const struct verb *verb, enum job_status status)
{
    char row[96], word[24];

    snprintf(row, sizeof(row), " %s ", verb->states);
    snprintf(word, sizeof(word), " %s ", job_status_name(status));
    return strstr(row, word) != NULL;
}

static const char *command(const struct verb *verb, unsigned family)
{
    return qmp(verb->family[family].command, "{'%s':'j'%s}", verb->family[family].key, verb->family[family].more);
}

static const char *refusal(const struct verb *verb, enum job_status status, bool user_paused)
{
    static char text[160];

    if (strcmp(verb->name, "resume") == 0 && !user_paused) {
        return "Can't resume a job that was not paused";
    }
    snprintf(text, sizeof(text), "Job 'j' in state '%s' cannot accept command verb '%s'", job_status_name(status),
             verb->name);
    return text;
}

/* The engine's own functions, for states that no command meets. */
static void verb_of_engine(Job *job, enum job_verb verb, Error **errp)
{
    switch (verb) {
    case JOB_VERB_CANCEL:
        job_user_cancel(job, true, errp);
        break;
    case JOB_VERB_PAUSE:
        job_user_pause(job, errp);
        break;
    case JOB_VERB_RESUME:
        job_user_resume(job, errp);
        break;
    case JOB_VERB_SET_SPEED:
        block_job_set_speed(block_job_of(job), 77, errp);
        break;
    case JOB_VERB_COMPLETE:
        job_complete(job, errp);
        break;
    case JOB_VERB_FINALIZE:
        job_finalize(job, errp);
        break;
    case JOB_VERB_DISMISS:
        job_dismiss(&job, errp);
        break;
    case JOB_VERB_CHANGE:
        block_job_change(block_job_of(job), JOB_TYPE_MIRROR, "background", errp);
        break;
    default:
        fail();
    }
}

static void cell(enum job_status status, enum job_verb verb, bool accepted)
{
    assert_int_equal(accepted, accepts(&verbs[verb], status));
    assert_int_equal(accepted, job_verb_legal(status, verb));
    reached("cell\t%s\t%s\t%s\t%s\t%s\n", job_status_name(status), verbs[verb].name,
            accepted ? "accepted" : "refused", kind_name, test_name);
}

/* A job of that state refuses, in the same words whoever asks, and stays as it was. */
static void refused_by_engine(Job *job, enum job_verb verb)
{
    enum job_status status = job->status;
    Error *err = NULL;

    verb_of_engine(job, verb, &err);
    assert_non_null(err);
    assert_string_equal(error_get_pretty(err), refusal(&verbs[verb], status, job->user_paused));
    error_free(err);
    assert_int_equal(job->status, status);
    cell(status, verb, false);
}

#endif
