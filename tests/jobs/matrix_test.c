/*
 * Protects the job machine as clients meet it: real jobs are taken into every state, every verb is tried there in
 * both families of commands, and every transition of the table is passed (reference/jobs.md 1.2, 1.3).
 *
 * What is here in words is the reference's; what was reached is written to the file that JOB_MATRIX names, if it is
 * set, for `make matrix`: lines of tabs, "cell STATE VERB accepted|refused KIND TEST", "step FROM TO KIND TEST" and
 * "illegal FROM TO TEST".
 */
#include "tests/jobs/matrix_cells.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jobs/backup.h"

/* --- into each state ----------------------------------------------------------------------------------------- */

#define SLOW ",'speed':1"

static void drain_begin(void *opaque)
{
    bdrv_drained_begin(opaque);
}

static void drain_end(void *opaque)
{
    bdrv_drained_end(opaque);
}

static BlockDriverState *drained;

/* Parked by the user; or by a drain, which leaves the user's pause to be tried. */
static void park(enum job_status as, bool by_user)
{
    if (by_user) {
        ok(qmp("job-pause", "{'id':'j'}"));
    } else {
        drained = block_job_of(the_job())->nodes->child->bs;
        on_main(drain_begin, drained);
    }
    until(as);
}

static void into_running(const struct kind *kind, bool by_user)
{
    start_kind(kind, SLOW);
    run_for(20 * NS_PER_MS);
    until(JOB_STATUS_RUNNING);
}

static void into_paused(const struct kind *kind, bool by_user)
{
    into_running(kind, false);
    park(JOB_STATUS_PAUSED, by_user);
}

static void into_ready(const struct kind *kind, bool by_user)
{
    start_kind(kind, "");
    until(JOB_STATUS_READY);
}

static void into_standby(const struct kind *kind, bool by_user)
{
    into_ready(kind, false);
    park(JOB_STATUS_STANDBY, by_user);
}

static void run_through(const struct kind *kind, const char *more)
{
    start_kind(kind, more);
    if (kind->readies) {
        until(JOB_STATUS_READY);
        ok(qmp("job-complete", "{'id':'j'}"));
    }
}

static void into_pending(const struct kind *kind, bool by_user)
{
    run_through(kind, ",'auto-finalize':false");
    until(JOB_STATUS_PENDING);
}

static void into_concluded(const struct kind *kind, bool by_user)
{
    run_through(kind, ",'auto-dismiss':false");
    until(JOB_STATUS_CONCLUDED);
}

static const struct state {
    enum job_status status;
    void (*into)(const struct kind *kind, bool by_user);
    bool ready; /* only jobs that become ready come there */
} states[] = {
    {JOB_STATUS_RUNNING, into_running, false}, {JOB_STATUS_PAUSED, into_paused, false},
    {JOB_STATUS_READY, into_ready, true},      {JOB_STATUS_STANDBY, into_standby, true},
    {JOB_STATUS_PENDING, into_pending, false}, {JOB_STATUS_CONCLUDED, into_concluded, false},
};

/* --- one cell ------------------------------------------------------------------------------------------------ */

static void take_down(void)
{
    if (drained != NULL) {
        on_main(drain_end, drained);
        drained = NULL;
    }
    if (the_job() != NULL && the_job()->status == JOB_STATUS_CONCLUDED) {
        ok(qmp("job-dismiss", "{'id':'j'}"));
    } else if (the_job() != NULL && job_verb_legal(the_job()->status, JOB_VERB_CANCEL)) {
        ok(qmp("job-cancel", "{'id':'j'}"));
        run_for(NS_PER_MS);
        if (the_job() != NULL && the_job()->status == JOB_STATUS_CONCLUDED) {
            ok(qmp("job-dismiss", "{'id':'j'}"));
        }
    }
    run_until(job_gone, NULL);
    matrix_end();
}

/* A user's pause and its end in one breath: the job itself does not move. */
static void pause_and_resume(void *opaque)
{
    Job *job = opaque;
    enum job_status status = job->status;

    job_user_pause(job, NULL);
    assert_true(job->user_paused);
    job_user_resume(job, NULL);
    assert_false(job->user_paused);
    assert_int_equal(job->status, status);
}

/* What an accepted verb must have done. */
static void assert_effect(enum job_verb verb)
{
    enum job_status concluded = JOB_STATUS_CONCLUDED;

    switch (verb) {
    case JOB_VERB_PAUSE:
        assert_true(the_job()->user_paused);
        break;
    case JOB_VERB_RESUME:
        assert_false(the_job()->user_paused);
        break;
    case JOB_VERB_SET_SPEED:
        assert_int_equal(block_job_of(the_job())->speed, 77);
        break;
    case JOB_VERB_FINALIZE:
    case JOB_VERB_DISMISS:
        assert_null(the_job());
        break;
    case JOB_VERB_COMPLETE:
        if (the_job()->user_paused) {
            ok(qmp("job-resume", "{'id':'j'}"));
        }
        run_until(job_gone, NULL);
        assert_non_null(strstr(trail, "COMPLETED S:concluded S:null"));
        break;
    case JOB_VERB_CANCEL:
        run_until(the_job() != NULL && !the_job()->auto_dismiss ? job_in : job_gone, &concluded);
        assert_non_null(strstr(trail, "S:aborting CANCELLED S:concluded"));
        break;
    default:
        break;
    }
}

static void accepted_cell(const struct state *state, const struct kind *kind, enum job_verb verb, unsigned family)
{
    const char *text;

    begin(kind);
    state->into(kind, verb != JOB_VERB_PAUSE && verb != JOB_VERB_COMPLETE);
    if (verb == JOB_VERB_COMPLETE && drained != NULL) {
        on_main(drain_end, drained);
        drained = NULL;
        until(JOB_STATUS_READY);
        park(state->status, true);
    }
    if (verb == JOB_VERB_RESUME && !the_job()->user_paused) {
        on_main(pause_and_resume, the_job());
    } else {
        text = command(&verbs[verb], family);
        if (verb == JOB_VERB_CHANGE && strcmp(kind->name, "mirror") != 0) {
            assert_string_equal(text,
                                "GenericError: Job type does not support change"); /* after the verb's check */
        } else {
            assert_string_equal(text, "{}");
        }
    }
    assert_effect(verb);
    cell(state->status, verb, true);
    take_down();
}

static void refused_cells(const struct state *state, const struct kind *kind)
{
    begin(kind);
    state->into(kind, true);
    for (unsigned v = 0; v < JOB_VERB_COUNT; v++) {
        if (accepts(&verbs[v], state->status)) {
            continue;
        }
        for (unsigned family = 0; family < 2; family++) {
            char expected[200];

            snprintf(expected, sizeof(expected), "GenericError: %s",
                     refusal(&verbs[v], state->status, the_job()->user_paused));
            assert_string_equal(command(&verbs[v], family), expected);
            assert_int_equal(the_job()->status, state->status);
        }
        cell(state->status, (enum job_verb)v, false);
    }
    take_down();
}

/* fact: jobs 1.3/verbs, 1.3/refusal, 1.3/families-mix, 1.2/legal, 9/job-commands, 9/block-job-commands */
static void test_state(void **opaque)
{
    const struct state *state = *opaque;
    static char name[64];

    snprintf(name, sizeof(name), "/job/matrix/%s", job_status_name(state->status));
    test_name = name;
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        if (state->ready && !kinds[k].readies) {
            continue;
        }
        kind_name = kinds[k].name;
        refused_cells(state, &kinds[k]);
        for (unsigned v = 0; v < JOB_VERB_COUNT; v++) {
            for (unsigned family = 0; family < 2 && accepts(&verbs[v], state->status); family++) {
                accepted_cell(state, &kinds[k], (enum job_verb)v, family);
            }
        }
    }
}

/* --- states that last no longer than a step ------------------------------------------------------------------ */

/* When it is told that the job aborts; the second entry is silent. */
static void on_aborting(void *opaque, const struct sim_record *record)
{
    Job *job = the_job();
    size_t length = strlen(trail);

    if (strcmp(sim_record_str(record, 1), "aborting") != 0) {
        return;
    }
    assert_non_null(job->err); /* it can be asked for by now */
    for (unsigned v = 0; v < JOB_VERB_COUNT; v++) {
        refused_by_engine(job, (enum job_verb)v);
    }
    job_state_transition(job, JOB_STATUS_ABORTING);
    assert_int_equal(strlen(trail), length);
    step(JOB_STATUS_ABORTING);
}

/* fact: jobs 1.3/verbs, 1.3/refusal, 1.2/legal */
static void test_aborting(void **opaque)
{
    test_name = "/job/matrix/aborting";
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        kind_name = kinds[k].name;
        begin(&kinds[k]);
        into_running(&kinds[k], false);
        sim_subscribe(world, EV_JOB_STATUS_CHANGE, on_aborting, NULL);
        take_down();
    }
}

/* Nobody finds it any more; who still holds it is told as everybody is.
 * fact: jobs 1.3/verbs, 1.3/refusal, 1.2/null */
static void test_null(void **opaque)
{
    test_name = "/job/matrix/null";
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        kind_name = kinds[k].name;
        begin(&kinds[k]);
        into_concluded(&kinds[k], false);
        Job *job = the_job();
        job_ref(job);
        ok(qmp("job-dismiss", "{'id':'j'}"));
        assert_int_equal(job->status, JOB_STATUS_NULL);
        assert_string_equal(qmp("query-jobs", "{}"), "[]");
        for (unsigned v = 0; v < JOB_VERB_COUNT; v++) {
            const char *old =
                strncmp(verbs[v].family[0].command, "job-", 4) == 0 ? "GenericError: Job not found" : NULL;

            if (old != NULL) {
                assert_string_equal(command(&verbs[v], 0), old);
            }
            assert_string_equal(command(&verbs[v], 1), "DeviceNotActive: Block job 'j' not found");
            refused_by_engine(job, (enum job_verb)v);
        }
        job_unref(job);
        take_down();
    }
}

/* --- created and waiting: members of a group that begin and end together ------------------------------------- */

/* Two backups as a grouped transaction makes them: both created, then both started, inside of one drain. The second
 * one, "k", is slow. */
static Job *members[2];

static void make_members(void *opaque)
{
    static const char *const nodes[][3] = {{"j", "s", "t"}, {"k", "s2", "t2"}};
    JobTxn *txn = job_txn_new(host);

    bdrv_drain_all_begin(host);
    for (unsigned i = 0; i < 2; i++) {
        struct backup_args args = {
            .job_id = nodes[i][0],
            .sync = MIRROR_SYNC_FULL,
            .perf = {.max_workers = 64},
            .speed = i,
            .txn = txn,
        };
        Error *err = NULL;
        BlockJob *job =
            backup_job_create(bdrv_find_node(host, nodes[i][1]), bdrv_find_node(host, nodes[i][2]), &args, &err);

        if (job == NULL) {
            fail_msg("%s", error_get_pretty(err));
        }
        members[i] = &job->job;
    }
    job_txn_unref(txn);
}

static void start_members(void *opaque)
{
    job_start(members[1]);
    job_start(members[0]);
}

static void end_drain(void *opaque)
{
    bdrv_drain_all_end(host);
}

static void begin_members(bool started)
{
    kind_name = "backup";
    begin(NULL);
    add_plain("s2", "src2", true);
    add_plain("t2", "dst2", false);
    on_main(make_members, NULL);
    if (started) {
        on_main(start_members, NULL);
        on_main(end_drain, NULL);
    }
}

static bool members_gone(void *opaque)
{
    return job_next(host, NULL) == NULL;
}

static void end_members(void)
{
    for (Job *job; (job = job_next(host, NULL)) != NULL;) {
        ok(qmp("job-cancel", "{'id':'%s'}", job_id(job)));
        run_for(NS_PER_MS);
    }
    run_until(members_gone, NULL);
}

static void try_created(enum job_verb verb, unsigned family)
{
    begin_members(false);
    until(JOB_STATUS_CREATED);
    if (verb == JOB_VERB_RESUME) {
        ok(command(&verbs[JOB_VERB_PAUSE], family));
    }
    const char *text = command(&verbs[verb], family);
    if (!accepts(&verbs[verb], JOB_STATUS_CREATED)) {
        char expected[200];

        snprintf(expected, sizeof(expected), "GenericError: %s", refusal(&verbs[verb], JOB_STATUS_CREATED, false));
        assert_string_equal(text, expected);
    } else if (verb == JOB_VERB_CHANGE) {
        assert_string_equal(text, "GenericError: Job type does not support change");
    } else {
        ok(text);
    }
    cell(JOB_STATUS_CREATED, verb, accepts(&verbs[verb], JOB_STATUS_CREATED));
    if (verb == JOB_VERB_CANCEL) { /* with its group, in silence */
        assert_string_equal(trail,
                            "S:created S:created S:aborting S:aborting S:concluded S:null S:concluded S:null");
    }
    end_members();
    on_main(end_drain, NULL);
    matrix_end();
}

/* fact: jobs 1.3/verbs, 1.3/refusal, 1.5/never-started, 1.2/legal */
static void test_created(void **opaque)
{
    test_name = "/job/matrix/created";
    for (unsigned v = 0; v < JOB_VERB_COUNT; v++) {
        try_created((enum job_verb)v, 0);
        try_created((enum job_verb)v, 1);
    }
}

static void into_waiting(void)
{
    begin_members(true);
    until(JOB_STATUS_WAITING);
}

/* fact: jobs 1.3/verbs, 1.3/refusal, 1.6/in-pending, 1.2/legal */
static void test_waiting(void **opaque)
{
    test_name = "/job/matrix/waiting";
    for (unsigned family = 0; family < 2; family++) {
        into_waiting();
        for (unsigned v = 0; v < JOB_VERB_COUNT; v++) {
            char expected[200];

            if (accepts(&verbs[v], JOB_STATUS_WAITING)) {
                continue;
            }
            snprintf(expected, sizeof(expected), "GenericError: %s", refusal(&verbs[v], JOB_STATUS_WAITING, false));
            assert_string_equal(command(&verbs[v], family), expected);
            cell(JOB_STATUS_WAITING, (enum job_verb)v, false);
        }
        trail[0] = '\0';
        ok(command(&verbs[JOB_VERB_CANCEL], family));
        assert_true(members_gone(NULL)); /* and it took its group along, newest first */
        assert_string_equal(trail,
                            "S:aborting CANCELLED S:concluded S:null S:aborting CANCELLED S:concluded S:null");
        cell(JOB_STATUS_WAITING, JOB_VERB_CANCEL, true);
        matrix_end();
    }
}

/* --- the rest of the transitions ------------------------------------------------------------------------------ */

/* The job was made and could not be started.
 * fact: jobs 1.5/early-failure, 3/negative */
static void test_early_failure(void **opaque)
{
    test_name = "/job/matrix/early-failure";
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        kind_name = kinds[k].name;
        begin(&kinds[k]);
        assert_string_equal(qmp(kinds[k].start, "{'job-id':'j',%s,'speed':-1}", kinds[k].args),
                            "GenericError: Parameter 'speed' expects a non-negative value");
        assert_string_equal(trail, "S:created S:null");
        matrix_end();
    }
}

static void illegal_step(void *opaque)
{
    Job *job = opaque;

    job_state_transition(job, last);
}

static bool aborts(void (*fn)(void *opaque), void *opaque)
{
    int status = 0;

    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) != NULL) {
            fn(opaque);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* A job with nobody around it: only its state matters here.
 * fact: jobs 1.2/illegal, edge/14 */
static void test_illegal(void **opaque)
{
    test_name = "/job/matrix/illegal";
    for (unsigned from = 0; from < JOB_STATUS_COUNT; from++) {
        for (unsigned to = 0; to < JOB_STATUS_COUNT; to++) {
            Job job = {.status = (enum job_status)from};

            last = (enum job_status)to;
            assert_int_equal(aborts(illegal_step, &job), !job_transition_legal(job.status, last));
            if (!job_transition_legal(job.status, last)) {
                reached("illegal\t%s\t%s\t%s\n", job_status_name(job.status), job_status_name(last), test_name);
            }
        }
    }
}

#define STATE(path, fn, index) \
    { \
        path, fn, NULL, NULL, (void *)(uintptr_t)&states[index] \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        STATE("/job/matrix/running", test_state, 0),
        STATE("/job/matrix/paused", test_state, 1),
        STATE("/job/matrix/ready", test_state, 2),
        STATE("/job/matrix/standby", test_state, 3),
        STATE("/job/matrix/pending", test_state, 4),
        STATE("/job/matrix/concluded", test_state, 5),
        T("/job/matrix/created", test_created),
        T("/job/matrix/waiting", test_waiting),
        T("/job/matrix/aborting", test_aborting),
        T("/job/matrix/null", test_null),
        T("/job/matrix/early-failure", test_early_failure),
        T("/job/matrix/illegal", test_illegal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
