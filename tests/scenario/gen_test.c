/* Protects the generator: the same seed is the same scenario, features do not disturb each other, and sizes vary.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "scenario/runner.h"

static struct scenario *generate(const char *profile, uint64_t seed)
{
    Error *err = NULL;
    struct scenario *scn = scenario_generate(profile, seed, &err);

    if (!scn) {
        fail_msg("%s", error_get_pretty(err));
    }
    return scn;
}

static void same_seed_same_scenario(void **state)
{
    unsigned different = 0;

    static const char *const profiles[] = {"mirror", "commit", "stream", "backup", "jobs"};

    for (uint64_t seed = 1; seed <= 100; seed++) {
        const char *profile = profiles[seed % ARRAY_SIZE(profiles)];
        struct scenario *a = generate(profile, seed);
        struct scenario *b = generate(profile, seed);
        struct scenario *c = generate(profile, seed + 1);

        assert_true(scenario_equal(a, b));
        assert_true(a->seed == seed);
        different += !scenario_equal(a, c);
        scenario_free(a);
        scenario_free(b);
        scenario_free(c);
    }
    assert_int_equal(different, 100);
}

static void may_run(void **state)
{
    const struct run_options options = {.no_files = true};

    for (uint64_t seed = 1; seed <= 2000; seed++) {
        static const char *const profiles[] = {"mirror", "bitmap", "block", "commit", "stream", "backup", "jobs"};
        struct scenario *scn = generate(profiles[seed % ARRAY_SIZE(profiles)], seed);
        Error *err = NULL;

        if (!scenario_check(scn, &options, &err)) {
            fail_msg("seed %llu: %s", (unsigned long long)seed, error_get_pretty(err));
        }
        scenario_free(scn);
    }
}

/* Lines of text, without the delay in front: taking a feature away moves its neighbours in time. */
static bool has_line(const struct scenario *scn, const char *line)
{
    for (size_t i = 0; i < scn->step_count; i++) {
        char *text = scn_step_print(scn, i);
        const char *body = text[0] == '+' ? strchr(text, ' ') + 1 : text;
        bool same = strcmp(body, line) == 0;

        free(text);
        if (same) {
            return true;
        }
    }
    return false;
}

/* Without the feature, every line that is not the feature's own is there as before. */
static void leaving_out(const char *weights, const char *own, const char *other, const char *third)
{
    unsigned with = 0;

    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct scenario *all = generate("mirror", seed);
        struct scenario *some = generate(weights, seed);

        for (size_t i = 0; i < all->step_count; i++) {
            char *text = scn_step_print(all, i);
            const char *body = text[0] == '+' ? strchr(text, ' ') + 1 : text;

            if (strstr(body, own)) {
                with++;
            } else if ((!other || !strstr(body, other)) && (!third || !strstr(body, third))) {
                if (!has_line(some, body)) {
                    char *rest = scenario_print(some);

                    fail_msg("seed %llu without %s lost '%s':\n%s", (unsigned long long)seed, own, body, rest);
                }
            }
            free(text);
        }
        for (size_t i = 0; i < some->step_count; i++) {
            char *text = scn_step_print(some, i);

            assert_null(strstr(text, own));
            free(text);
        }
        scenario_free(all);
        scenario_free(some);
    }
    assert_true(with > 5);
}

static void features_stand_alone(void **state)
{
    leaving_out("mirror:fault=0", "fault ", "fault-stop", "block-job-resume"); /* of what errors stopped */
    leaving_out("mirror:bitmap=0", "block-dirty-bitmap-add", NULL, NULL);
    leaving_out("mirror:vm-stop=0", "try stop", "try cont", NULL);
    leaving_out("mirror:io=0", "aio_", NULL, NULL);
    leaving_out("mirror:query=0", "query-", NULL, NULL);
    leaving_out("mirror:unplug=0", "unplug g", NULL, NULL);
}

static unsigned count_with(const char *profile, const char *text)
{
    unsigned count = 0;

    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct scenario *scn = generate(profile, seed);
        char *all = scenario_print(scn);

        count += strstr(all, text) != NULL;
        free(all);
        scenario_free(scn);
    }
    return count;
}

static void weights_weigh(void **state)
{
    unsigned usual = count_with("mirror", "capacity=");
    unsigned more = count_with("mirror:enospc=4,power=0", "capacity=");

    assert_true(usual > 10 && more > usual + usual / 2);
    assert_int_equal(count_with("mirror:enospc=4,power=0", "powerloss"), 0);
    assert_true(count_with("mirror:power=40", "powerloss") > 250);
}

/* A mixed seed is that of one of the others, weights of all of them included. */
static void mixed_is_the_others(void **state)
{
    static const struct {
        const char *name;
        unsigned least, most; /* of the seeds below */
    } others[] = {{"mirror", 15, 90}, {"commit", 5, 60},   {"stream", 5, 60},  {"backup", 5, 60},
                  {"jobs", 5, 60},    {"bitmap", 30, 110}, {"block", 30, 110}, {"power", 10, 70}};
    unsigned counts[ARRAY_SIZE(others)] = {0};

    for (uint64_t seed = 1; seed <= 250; seed++) {
        struct scenario *mixed = generate("mixed", seed);
        unsigned same = 0;

        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
            struct scenario *other = generate(others[i].name, seed);
            bool equal = scenario_equal(mixed, other);

            same += equal;
            counts[i] += equal;
            scenario_free(other);
        }
        assert_int_equal(same, 1);
        scenario_free(mixed);
    }
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        assert_in_range(counts[i], others[i].least, others[i].most);
    }
    assert_int_equal(count_with("mixed:bitmaps=4,transaction=0,internal=0,quiet=0", "transaction"), 0);
    assert_int_equal(count_with("mixed:bitmaps=0,graphs=0,powers=0,power=0", "powerloss"), 0);
}

/* Every operation is drawn, transactions also with each way to fail. */
static void bitmap_operations(void **state)
{
    static const char *const what[] = {
        "block-dirty-bitmap-add",
        "block-dirty-bitmap-remove",
        "block-dirty-bitmap-clear",
        "block-dirty-bitmap-enable",
        "block-dirty-bitmap-disable",
        "block-dirty-bitmap-merge",
        "sha256",
        "bitmap freeze",
        "bitmap abdicate",
        "bitmap reclaim",
        "bitmap iterate",
        "transaction",
        "block_resize",
        "\"abort\"",
        "\"nobody\"",
        "\"nowhere\"",
        "expect bitmap",
        "completion-mode",
        "blockdev-mirror",
        "aio_discard",
        "fault",
        "capacity=",
        "powerloss",
        "granularity=2147483648",
        "disabled=true",
        "persistent=true",
        "node-name=f0",
        "node-name=t0",
    };

    for (size_t i = 0; i < ARRAY_SIZE(what); i++) {
        if (count_with("bitmap", what[i]) < 3) {
            fail_msg("'%s' is hardly ever drawn", what[i]);
        }
    }
}

/* Every driver, every change of the graph and every event is drawn. */
static void block_operations(void **state)
{
    static const char *const what[] = {
        "driver=null-co",
        "driver=raw",
        "driver=throttle",
        "driver=copy-on-read",
        "driver=blkdebug",
        "driver=blkverify",
        "driver=quorum",
        "driver=preallocate",
        "inject-error=",
        "set-state=",
        "max-transfer=",
        "take-child-perms",
        "read-pattern=fifo",
        "rewrite-corrupted",
        "offset=",
        "blockdev-reopen",
        "blockdev-del",
        "x-blockdev-change",
        "blockdev-snapshot",
        "block_resize",
        "truncate",
        "block_set_io_throttle",
        "qom-set",
        "object-del",
        "block-set-write-threshold",
        "break pwritev",
        "resume",
        "remove_break",
        "\"read-only\":true",
        "\"detect-zeroes\":\"unmap\"",
        "blockdev-mirror",
        "block-dirty-bitmap-add",
        "query-blockstats",
        "try stop",
        "fault",
        "capacity=",
        "aio_write -z -n",
        "length=4M",
        "},{\"driver\":\"",
    };

    for (size_t i = 0; i < ARRAY_SIZE(what); i++) {
        if (count_with("block", what[i]) < 2) {
            fail_msg("'%s' is hardly ever drawn", what[i]);
        }
    }
}

struct drawn {
    const char *text;
    unsigned least; /* of 300 seeds */
};

#define DRAWN_MAX 40

static void are_drawn(const char *profile, const struct drawn *what)
{
    unsigned counts[DRAWN_MAX] = {0};

    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct scenario *scn = generate(profile, seed);
        char *all = scenario_print(scn);

        for (size_t i = 0; what[i].text; i++) {
            assert_true(i < DRAWN_MAX);
            counts[i] += strstr(all, what[i].text) != NULL;
        }
        free(all);
        scenario_free(scn);
    }
    for (size_t i = 0; what[i].text; i++) {
        if (counts[i] < what[i].least) {
            fail_msg("%s draws '%s' in %u of 300 seeds, expected %u", profile, what[i].text, counts[i],
                     what[i].least);
        }
    }
}

/* What happens to every job, whatever its type. */
static const struct drawn job_life[] = {
    {"=stop", 5},
    {"=ignore", 5},
    {"=enospc", 5},
    {"=auto", 5},
    {"=report", 5},
    {" speed=", 5},
    {"auto-finalize", 3},
    {"auto-dismiss", 3},
    {"job-pause", 3},
    {"job-resume", 3},
    {"block-job-pause", 3},
    {"block-job-resume", 3},
    {"job-cancel id", 1},
    {"block-job-cancel", 3},
    {"force=true", 1},
    {"block-job-set-speed", 3},
    {"job-finalize", 3},
    {"job-dismiss", 3},
    {"query-block-jobs", 1},
    {"workload g", 100},
    {"fault error", 20},
    {"fault storm", 3},
    {"fault latency", 3},
    {"powerloss", 5},
    {"fault-stop", 5},
    {NULL, 0},
};

static void commit_operations(void **state)
{
    static const struct drawn what[] = {
        {"block-commit", 250},
        {"top-node=", 50},
        {" top=", 20},
        {"base-node=", 50},
        {" base=", 20},
        {"on-error=", 50},
        {"backing-file=", 5},
        {"backing-mask-protocol=", 5},
        {"filter-node-name", 5},
        {"job-id=m1", 5},
        {"block-job-complete", 30},
        {"block-stream", 3},
        {"read-only=true", 20},
        {"driver=raw", 20},
        {"data_file=", 5},
        {"compat=0.10", 5},
        {"driver=throttle", 3},
        {"BLOCK_JOB_READY", 30},
        {"capacity=", 5},
        {"blockdev-snapshot-sync", 5},
        {"blockdev-reopen", 5},
        {"img create -f qcow2", 300},
        {NULL, 0},
    };

    are_drawn("commit", what);
    are_drawn("commit", job_life);
}

static void stream_operations(void **state)
{
    static const struct drawn what[] = {
        {"block-stream", 290},
        {"base-node=", 50},
        {" base=", 20},
        {"bottom=", 10},
        {"on-error=", 50},
        {"backing-file=", 5},
        {"backing-mask-protocol=", 5},
        {"job-id=m1", 5},
        {"filter-node-name", 5},
        {"block-commit", 3},
        {"device=n1", 5},
        {"device=g", 20},
        {"capacity=", 5},
        {"driver=copy-on-read", 2},
        {NULL, 0},
    };

    are_drawn("stream", what);
    are_drawn("stream", job_life);
}

static void backup_operations(void **state)
{
    static const struct drawn what[] = {
        {"blockdev-backup", 200},
        {"drive-backup", 30},
        {"full", 100},
        {"incremental", 20},
        {"top", 10},
        {"none", 20},
        {"bitmap-mode=never", 2},
        {"bitmap-mode=always", 3},
        {"bitmap-mode=on-success", 3},
        {"sync=bitmap", 5},
        {"compress=true", 5},
        {"use-copy-range", 20},
        {"max-workers", 50},
        {"max-chunk", 10},
        {"min-cluster-size", 10},
        {"filter-node-name", 20},
        {"discard-source", 2},
        {"transaction", 60},
        {"completion-mode=grouped", 20},
        {"\"abort\"", 3},
        {"block-dirty-bitmap-add", 50},
        {"driver=copy-before-write", 20},
        {"on-cbw-error=break-snapshot", 3},
        {"on-cbw-error=break-guest-write", 3},
        {"cbw-timeout", 3},
        {"driver=snapshot-access", 20},
        {"backing=n", 20},
        {"capacity=", 5},
        {"content=stamp", 20},
        {NULL, 0},
    };

    are_drawn("backup", what);
    are_drawn("backup", job_life);
}

/* Every value of every argument. */
static void mirror_operations(void **state)
{
    static const struct drawn what[] = {
        {"blockdev-mirror", 150},
        {"drive-mirror", 30},
        {"sync=full", 150},
        {"sync=top", 5},
        {"sync=none", 5},
        {"copy-mode=write-blocking", 40},
        {"copy-mode=background", 5},
        {"block-job-change", 15},
        {"mode=existing", 5},
        {"format=qcow2", 10},
        {"format=raw", 3},
        {"node-name=d", 100},
        {"unmap=true", 1},
        {"unmap=false", 1},
        {"replaces=s", 10},
        {"granularity=", 50},
        {"buf-size=", 30},
        {"filter-node-name", 10},
        {"driver=quorum", 5},
        {"driver=copy-on-read", 5},
        {NULL, 0},
    };

    are_drawn("mirror", what);
    are_drawn("mirror", job_life);
}

/* Several jobs at once, of every type. */
static void jobs_operations(void **state)
{
    static const struct drawn what[] = {
        {"block-commit", 100},
        {"block-stream", 100},
        {"blockdev-mirror", 80},
        {"blockdev-create", 5},
        {"blockdev-backup", 20},
        {"drive-backup", 20},
        {"completion-mode=grouped", 5},
        {"job-id=m2", 50},
        {"guest h", 20},
        {"x-blockdev-change", 3},
        {"driver=quorum", 10},
        {"blockdev-del", 30},
        {"blockdev-snapshot-sync", 20},
        {"block_set_io_throttle", 5},
        {"block-dirty-bitmap-add", 10},
        {NULL, 0},
    };

    are_drawn("jobs", what);
    are_drawn("jobs", job_life);
}

static int64_t disk_size(const struct scenario *scn, const char *name)
{
    for (size_t i = 0; i < scn->step_count; i++) {
        const struct qvalue *args = scn->steps[i].args;

        if (strcmp(scn->steps[i].verb->name, "disk") == 0 &&
            strcmp(qdict_get(args, "name")->str.bytes, name) == 0 && qdict_get(args, "size")) {
            return qdict_get(args, "size")->integer;
        }
    }
    return -1;
}

static void sizes_vary(void **state)
{
    unsigned empty = 0, sector = 0, odd = 0, small = 0, huge = 0, unequal = 0;

    for (uint64_t seed = 1; seed <= 1000; seed++) {
        struct scenario *scn = generate("mirror:window=0,qcow2=0", seed);
        int64_t size = disk_size(scn, "src");

        assert_true(size >= 0 && size <= TiB + MiB);
        empty += size == 0;
        sector += size == SIM_SECTOR_BYTES;
        odd += size % (64 * KiB) != 0;
        small += size > SIM_SECTOR_BYTES && size <= 9 * MiB;
        huge += size >= GiB;
        unequal += size != disk_size(scn, "dst");
        scenario_free(scn);
    }
    assert_true(empty > 5 && sector > 5 && odd > 100 && small > 500 && huge > 20 && unequal > 3);
}

static void bad_profiles(void **state)
{
    static const char *const names[][2] = {
        {"miror", "did you mean 'mirror'"},           {"", "expected one of mirror"},
        {"mirror:enospd=4", "did you mean 'enospc'"}, {"mirror:enospc", "expected FEATURE=N"},
        {"mirror:enospc=-1", "expected FEATURE=N"},   {"mirror:enospc=4x", "expected FEATURE=N"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        Error *err = NULL;

        assert_null(scenario_generate(names[i][0], 1, &err));
        if (!strstr(error_get_pretty(err), names[i][1])) {
            fail_msg("'%s' gave: %s", names[i][0], error_get_pretty(err));
        }
        error_free(err);
    }
    assert_ptr_equal(scn_profile_find("mirror"), scn_profile_at(0));
    assert_null(scn_profile_find("none"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/scenario/gen/deterministic", same_seed_same_scenario, NULL, NULL, NULL},
        {"/scenario/gen/may-run", may_run, NULL, NULL, NULL},
        {"/scenario/gen/features-stand-alone", features_stand_alone, NULL, NULL, NULL},
        {"/scenario/gen/weights", weights_weigh, NULL, NULL, NULL},
        {"/scenario/gen/sizes", sizes_vary, NULL, NULL, NULL},
        {"/scenario/gen/mixed", mixed_is_the_others, NULL, NULL, NULL},
        {"/scenario/gen/bitmap-operations", bitmap_operations, NULL, NULL, NULL},
        {"/scenario/gen/block-operations", block_operations, NULL, NULL, NULL},
        {"/scenario/gen/commit-operations", commit_operations, NULL, NULL, NULL},
        {"/scenario/gen/stream-operations", stream_operations, NULL, NULL, NULL},
        {"/scenario/gen/backup-operations", backup_operations, NULL, NULL, NULL},
        {"/scenario/gen/mirror-operations", mirror_operations, NULL, NULL, NULL},
        {"/scenario/gen/jobs-operations", jobs_operations, NULL, NULL, NULL},
        {"/scenario/gen/bad-profiles", bad_profiles, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
