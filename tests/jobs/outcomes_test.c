/*
 * Protects how jobs end as a client sees it, literally: every kind with auto-finalize and auto-dismiss on and off,
 * by success, a cancel of either sort and a failure; every policy for errors of either side; groups of backups
 * (reference/jobs.md 1.5, 1.6, 1.8, 2).
 */
#include "tests/jobs/matrix_world.h"

#include "faults/fault.h"

static void expect_trail(const char *expected)
{
    if (strcmp(trail, expected) != 0) {
        fail_msg("seen     %s\nexpected %s", trail, expected);
    }
}

/* Up to the end of its run: a backup begins inside of its own drain. */
static const char *beginning(const struct kind *kind)
{
    if (strcmp(kind->name, "backup") == 0) {
        return "S:created S:running S:paused S:running";
    }
    return "S:created S:running";
}

static void start_with(const struct kind *kind, const char *more, bool finalize, bool dismiss)
{
    char args[160];

    snprintf(args, sizeof(args), "%s,'auto-finalize':%s,'auto-dismiss':%s", more, finalize ? "true" : "false",
             dismiss ? "true" : "false");
    start_kind(kind, args);
}

/* --- auto-finalize and auto-dismiss --------------------------------------------------------------------------- */

enum outcome { SUCCESS, SOFT_CANCEL, FORCED_CANCEL, FAILURE, OUTCOMES };

static void arm(const char *format, ...) SIM_PRINTF(1, 2);
static void arm(const char *format, ...)
{
    char json[256];
    va_list ap;

    va_start(ap, format);
    vsnprintf(json, sizeof(json), format, ap);
    va_end(ap);
    for (char *c = json; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    struct qvalue *args = qvalue_from_json(json, strlen(json), NULL);
    assert_non_null(args);
    assert_true(fault_arm(world, fault_find("error"), args, 77, NULL));
    qvalue_free(args);
}

/* The media that a kind's job reads from and writes to. */
static const char *medium(const struct kind *kind, bool read)
{
    if (!kind->chain) {
        return read ? "src" : "dst";
    }
    if (strcmp(kind->name, "active-commit") == 0) {
        return read ? "top_d" : "base_d";
    }
    return strcmp(kind->name, "commit") == 0 ? (read ? "mid_d" : "base_d") : (read ? "mid_d" : "top_d");
}

static const char *drive(const struct kind *kind, enum outcome outcome, bool finalize, bool dismiss)
{
    static char expected[512];
    const char *ready = kind->readies ? " S:ready READY" : "";
    bool well = outcome == SUCCESS || (outcome == SOFT_CANCEL && kind->readies);
    const char *end = dismiss ? " S:concluded S:null" : " S:concluded";

    start_with(kind, well ? "" : ",'speed':1", finalize, dismiss);
    if (outcome == FAILURE) {
        arm("{'disk':'%s','op':'read','count':1}", medium(kind, true));
        ok(qmp("block-job-set-speed", "{'device':'j','speed':0}"));
    }
    if (kind->readies && well) {
        until(JOB_STATUS_READY);
    }
    if (outcome == FORCED_CANCEL) {
        run_for(NS_PER_MS);
        ok(qmp("job-cancel", "{'id':'j'}"));
    } else if (outcome == SOFT_CANCEL) {
        run_for(NS_PER_MS);
        ok(qmp("block-job-cancel", "{'device':'j'}"));
    } else if (kind->readies && well) {
        ok(qmp("block-job-complete", "{'device':'j'}"));
    }
    if (well) {
        snprintf(expected, sizeof(expected), "%s%s S:waiting S:pending%s COMPLETED%s", beginning(kind), ready,
                 finalize ? "" : " PENDING", end);
    } else if (outcome == FAILURE) {
        snprintf(expected, sizeof(expected), "%s ERROR(read,report) S:aborting COMPLETED(Input/output error)%s",
                 beginning(kind), end);
    } else {
        snprintf(expected, sizeof(expected), "%s S:aborting CANCELLED%s", beginning(kind), end);
    }
    if (well && !finalize) {
        until(JOB_STATUS_PENDING);
        ok(qmp("job-finalize", "{'id':'j'}"));
    }
    return expected;
}

/* fact: jobs 1.5/auto, 1.8/success, 1.8/ready, 1.8/failure, 1.8/cancel, 1.6/soft-where, 1.6/unready */
static void test_endings(void **state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kinds) * OUTCOMES * 4; i++) {
        const struct kind *kind = &kinds[i / 4 / OUTCOMES];
        enum outcome outcome = (enum outcome)(i / 4 % OUTCOMES);
        bool finalize = (i & 1) == 0;
        bool dismiss = (i & 2) == 0;

        matrix_begin(kind);
        const char *expected = drive(kind, outcome, finalize, dismiss);
        if (!dismiss) {
            until(JOB_STATUS_CONCLUDED);
            expect_trail(expected);
            assert_string_equal(qmp("block-job-dismiss", "{'id':'j'}"), "{}");
        } else {
            run_until(job_gone, NULL);
            expect_trail(expected);
        }
        matrix_end();
    }
}

/* --- policies ------------------------------------------------------------------------------------------------- */

static const struct policy {
    const char *name;
    const char *on_eio;
    const char *on_enospc;
} policies[] = {
    {"report", "report", "report"}, {"ignore", "ignore", "ignore"}, {"stop", "stop", "stop"},
    {"enospc", "report", "stop"},   {"auto", "report", "stop"},
};

static bool job_parked(void *opaque)
{
    return the_job() != NULL && job_is_paused(the_job());
}

static bool ended_or_ready(void *opaque)
{
    return the_job() == NULL || the_job()->status == JOB_STATUS_READY;
}

static void assert_io_status(const char *status)
{
    char text[48];

    snprintf(text, sizeof(text), "\"io-status\":\"%s\"", status);
    if (strstr(qmp("query-block-jobs", "{}"), text) == NULL) {
        fail_msg("%s expected in %s", text, qmp("query-block-jobs", "{}"));
    }
}

/* It waits for its user, who cannot be passed by with a soft cancel; then all is well. */
static void stopped(bool enospc)
{
    run_until(job_parked, NULL);
    assert_int_equal(the_job()->pause_count, 1);
    assert_io_status(enospc ? "nospace" : "failed");
    assert_string_equal(qmp("block-job-cancel", "{'device':'j'}"),
                        "GenericError: The block job for device 'j' is currently paused");
    assert_string_equal(qmp("block-job-pause", "{'device':'j'}"), "GenericError: Job is already paused");
    ok(qmp("job-resume", "{'id':'j'}"));
    assert_io_status("ok");
}

static void try_policy(const struct kind *kind, const struct policy *policy, bool read, bool enospc)
{
    const char *action = enospc ? policy->on_enospc : policy->on_eio;
    bool streams = strcmp(kind->name, "stream") == 0;
    bool fails = strcmp(action, "report") == 0 || (streams && strcmp(action, "ignore") == 0);
    char args[128], error[64];

    matrix_begin(kind);
    if (kind->chain) {
        snprintf(args, sizeof(args), ",'on-error':'%s'", policy->name);
    } else {
        snprintf(args, sizeof(args), ",'on-source-error':'%s','on-target-error':'%s'",
                 read ? policy->name : "report", read ? "report" : policy->name);
    }
    /* behind the tables of an image, whose failures are other operations' */
    arm("{'disk':'%s','op':'%s','count':1,'errno':'%s','offset':%d,'length':%d}", medium(kind, read),
        read ? "read" : "write", enospc ? "ENOSPC" : "EIO", 512 * 1024, 64 << 20);
    start_kind(kind, args);
    if (strcmp(action, "stop") == 0) {
        stopped(enospc);
    }
    run_until(ended_or_ready, NULL);
    snprintf(error, sizeof(error), " ERROR(%s,%s)", read || streams ? "read" : "write", action);
    if (strstr(trail, error) == NULL || (strstr(trail, "COMPLETED(") != NULL) != fails) {
        fail_msg("%s, %s of %s, %s: %s", kind->name, policy->name, read ? "read" : "write",
                 enospc ? "ENOSPC" : "EIO", trail);
    }
    if (the_job() != NULL) {
        ok(qmp("job-cancel", "{'id':'j'}"));
        run_until(job_gone, NULL);
    }
    matrix_end();
}

/* fact: jobs 2/report, 2/ignore-event, 2/enospc, 2/auto, 2/which, 2/io-status, 1.6/user-paused */
static void test_policies(void **state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kinds) * ARRAY_SIZE(policies) * 4; i++) {
        try_policy(&kinds[i / 4 / ARRAY_SIZE(policies)], &policies[i / 4 % ARRAY_SIZE(policies)], (i & 1) == 0,
                   (i & 2) == 0);
    }
}

/* --- groups of backups ---------------------------------------------------------------------------------------- */

static void start_group(const char *more_j, const char *more_k)
{
    matrix_begin(kind_named("backup"));
    add_plain("s2", "src2", true);
    add_plain("t2", "dst2", false);
    trail[0] = '\0';
    ok(qmp("transaction",
           "{'actions':[{'type':'blockdev-backup','data':{'job-id':'j','device':'s','target':'t','sync':'full'%s}},"
           "{'type':'blockdev-backup','data':{'job-id':'k','device':'s2','target':'t2','sync':'full'%s}}],"
           "'properties':{'completion-mode':'grouped'}}",
           more_j, more_k));
    expect_trail("S:created S:created S:running S:paused S:running S:paused S:running S:running");
    trail[0] = '\0';
}

static bool group_gone(void *opaque)
{
    return job_next(host, NULL) == NULL;
}

#define ENDS_WELL "COMPLETED S:concluded S:null COMPLETED S:concluded S:null"
#define ENDS_CANCELLED "S:aborting CANCELLED S:concluded S:null"

/* The second one is slower: j waits for it.
 * fact: jobs 1.5/waiting, 1.5/pending */
static void test_group_success(void **state)
{
    start_group("", ",'speed':8000000");
    run_until(group_gone, NULL);
    expect_trail("S:waiting S:waiting S:pending S:pending " ENDS_WELL);
    matrix_end();
}

/* One member with manual finalize keeps all of them, and any of them lets all go.
 * fact: jobs 1.5/finalize-any */
static void test_group_finalize(void **state)
{
    static const char *const by[] = {"j", "k"};

    for (size_t i = 0; i < 2; i++) {
        start_group(",'auto-finalize':false", ",'speed':8000000");
        until(JOB_STATUS_PENDING);
        expect_trail("S:waiting S:waiting S:pending S:pending PENDING"); /* k is the newer one, and has none */
        ok(qmp("job-finalize", "{'id':'%s'}", by[i]));
        assert_true(group_gone(NULL));
        expect_trail("S:waiting S:waiting S:pending S:pending PENDING " ENDS_WELL);
        matrix_end();
    }
}

/* A failure takes along who had finished; a cancel in waiting and in pending does, too.
 * fact: jobs 1.5/group-abort, 1.5/abort-events, 1.6/in-pending, edge/49 */
static void test_group_failure(void **state)
{
    start_group("", ",'speed':1");
    until(JOB_STATUS_WAITING);
    arm("{'disk':'dst2','op':'write','count':1}");
    ok(qmp("block-job-set-speed", "{'device':'k','speed':0}"));
    run_until(group_gone, NULL);
    expect_trail("S:waiting ERROR(write,report) S:aborting COMPLETED(Input/output error) S:concluded "
                 "S:null " ENDS_CANCELLED);
    matrix_end();
}

static void test_group_cancel(void **state)
{
    start_group("", ",'speed':1");
    until(JOB_STATUS_WAITING);
    ok(qmp("block-job-cancel", "{'device':'j'}"));
    run_until(group_gone, NULL);
    expect_trail("S:waiting " ENDS_CANCELLED " " ENDS_CANCELLED);
    matrix_end();
    start_group(",'auto-finalize':false", ",'auto-finalize':false");
    until(JOB_STATUS_PENDING);
    trail[0] = '\0';
    ok(qmp("job-cancel", "{'id':'k'}"));
    assert_true(group_gone(NULL));
    expect_trail(ENDS_CANCELLED " " ENDS_CANCELLED);
    matrix_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/job/outcomes/endings", test_endings),
        T("/job/outcomes/policies", test_policies),
        T("/job/outcomes/group/success", test_group_success),
        T("/job/outcomes/group/finalize-any", test_group_finalize),
        T("/job/outcomes/group/failure", test_group_failure),
        T("/job/outcomes/group/cancel", test_group_cancel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
