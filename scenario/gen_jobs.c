/*
 * Profile jobs: several jobs at once on the same graph, while it changes.
 *
 * The story: one or two chains of images with a guest on each, and targets that nobody uses. In each round some
 * jobs of any type start at drawn times, mostly where no other job is, each with commands of its own on its way;
 * nodes come, go and change beside them. Then each job is brought to its end, and in the end the chains are looked
 * at.
 */
#include "scenario/gen_target.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const features[] = {
    GEN_CHAIN_FEATURES,
    GEN_IMAGE_FEATURES,
    GEN_JOB_FEATURES,
    "rounds",
    "second-chain",
    "clash",
    "change",
    "create",
    "named",
    GEN_TARGET_FEATURES,
    "transaction",
    NULL,
};

#define JOBS_CHAINS 2
#define JOBS_TARGETS 3
#define JOBS_MOST 5
#define JOBS_SPAN 12 /* of a round: microseconds, as a power of two */

struct jobs {
    struct gen *gen;
    struct chain chains[JOBS_CHAINS];
    bool busy[JOBS_CHAINS][CHAIN_LAYERS]; /* a job of this round is there */
    unsigned chain_count;
    struct gen_target targets[JOBS_TARGETS];
    unsigned target_count;
    struct gen_job job[JOBS_MOST];
    unsigned job_count;
    bool backups, creates; /* in this round */
    unsigned made;         /* IDs that were given away */
    unsigned spares;       /* nodes that come and go */
    bool faulty;
};

/* --- the world --------------------------------------------------------------------------------------------- */

static void write_world(struct jobs *j)
{
    struct gen *gen = j->gen;
    unsigned targets = (unsigned)gen_range(gen, "targets", 1, JOBS_TARGETS);

    j->chain_count = gen_chance(gen, "second-chain", 350) ? 2 : 1;
    for (unsigned i = 0; i < j->chain_count; i++) {
        j->chains[i].gen = gen;
        gen_chain_write(&j->chains[i], i ? 'p' : 'n', i ? "h" : "g",
                        (unsigned)gen_range(gen, "levels", i ? 2 : 3, i ? 3 : 5));
        gen_chain_open(&j->chains[i], false);
        gen_chain_plug(&j->chains[i], false);
    }
    while (j->target_count < targets) {
        const struct chain *of = &j->chains[gen_draw(gen, "target.of", j->chain_count)];

        gen_target_write(gen, &j->targets[j->target_count], j->target_count, of, NULL);
        j->target_count++;
    }
}

/* --- jobs -------------------------------------------------------------------------------------------------- */

/* Part of a chain where no job is, from at least low up. False: none; what was found is taken. */
static bool take_layers(struct jobs *j, unsigned chain, unsigned low, unsigned high)
{
    bool free = high < j->chains[chain].count;

    for (unsigned i = low; i <= high && free; i++) {
        free = !j->busy[chain][i];
    }
    if (!free && !gen_chance(j->gen, "clash", 120)) {
        return false;
    }
    for (unsigned i = low; i <= high && i < CHAIN_LAYERS; i++) {
        j->busy[chain][i] = true;
    }
    return high < j->chains[chain].count;
}

static void common(struct jobs *j, struct gen_job *job, const struct chain *chain)
{
    gen_job_limit(job, gen_chain_top(chain)->bytes, chain->huge);
    gen_job_switches(job);
    gen_keep(j->gen, job->start_ns);
}

static bool start_commit(struct jobs *j, struct gen_job *job, unsigned number)
{
    struct chain *chain = &j->chains[number];
    unsigned top = (unsigned)gen_range(j->gen, "commit.top", 1, MAX(chain->count, 2u) - 1);
    unsigned base = (unsigned)gen_range(j->gen, "commit.base", 0, top - 1);
    bool active = top + 1 == chain->count;

    /* the device is the job's, too: what lies between it and the layers is free for streams */
    if (chain->count < 2 || chain->by_header || !take_layers(j, number, chain->count - 1, chain->count - 1) ||
        !take_layers(j, number, base, active ? top - 1 : MIN(top + 1, chain->count - 2))) {
        return false;
    }
    job->readies = active;
    gen_add(j->gen, "try block-commit job-id=%s device=%s base-node=%s", job->id, chain->guest,
            chain->layers[base].node);
    if (!active) {
        gen_add(j->gen, " top-node=%s", chain->layers[top].node);
    }
    gen_job_policy(job, "on-error");
    common(j, job, chain);
    return true;
}

static bool start_stream(struct jobs *j, struct gen_job *job, unsigned number)
{
    struct chain *chain = &j->chains[number];
    unsigned top = (unsigned)gen_range(j->gen, "stream.top", 1, MAX(chain->count, 2u) - 1);
    unsigned keep = (unsigned)gen_range(j->gen, "stream.keep", 0, top);

    if (chain->count < 2 || chain->by_header || !take_layers(j, number, keep, top)) {
        return false;
    }
    gen_add(j->gen, "try block-stream job-id=%s device=%s", job->id, chain->layers[top].node);
    if (keep) {
        gen_add(j->gen, " base-node=%s", chain->layers[keep - 1].node);
    }
    gen_job_policy(job, "on-error");
    common(j, job, chain);
    return true;
}

static struct gen_target *free_target(struct jobs *j, const struct chain *of)
{
    struct gen_target *found = NULL;

    for (unsigned i = 0; i < j->target_count; i++) {
        if (!j->targets[i].used && j->targets[i].of == of) {
            found = &j->targets[i];
        }
    }
    return found;
}

static bool start_mirror(struct jobs *j, struct gen_job *job, unsigned number)
{
    struct chain *chain = &j->chains[number];
    struct gen_target *target = free_target(j, chain);

    if (!target || !take_layers(j, number, chain->count - 1, chain->count - 1)) {
        return false;
    }
    target->used = true;
    job->capped = target->capped ? target->disk : NULL;
    job->faulty = job->faulty || target->capped;
    job->readies = true;
    gen_add(j->gen, "try blockdev-mirror job-id=%s device=%s target=%s sync=full", job->id, chain->guest,
            target->node);
    if (gen_chance(j->gen, "named", 250)) {
        gen_add(j->gen, " filter-node-name=f%s", job->id);
    }
    gen_job_policy(job, "on-source-error");
    gen_job_policy(job, "on-target-error");
    common(j, job, chain);
    return true;
}

static bool start_backup(struct jobs *j, struct gen_job *job, unsigned number)
{
    struct chain *chain = &j->chains[number];
    struct gen_target *target = free_target(j, chain);
    bool file = !target || gen_draw(j->gen, "backup.file", 3) == 0;
    const char *sync = GEN_PICK(j->gen, "backup.sync", "full", "full", "full", "top", "none");

    if (j->creates || !take_layers(j, number, chain->count - 1, chain->count - 1)) {
        return false;
    }
    j->backups = true;
    job->endless = sync[0] == 'n';
    if (file) {
        gen_add(j->gen, "try drive-backup job-id=%s device=%s target=%sx format=qcow2", job->id, chain->guest,
                job->id);
    } else {
        target->used = true;
        job->capped = target->capped ? target->disk : NULL;
        job->faulty = job->faulty || target->capped;
        gen_add(j->gen, "try blockdev-backup job-id=%s device=%s target=%s", job->id, chain->guest, target->node);
    }
    gen_add(j->gen, " sync=%s", sync);
    gen_job_policy(job, "on-source-error");
    gen_job_policy(job, "on-target-error");
    common(j, job, chain);
    return true;
}

/* All members of a transaction end together, whatever happens to one of them: the guests' disks at one instant. */
static bool start_group(struct jobs *j, struct gen_job *job, unsigned number)
{
    struct gen *gen = j->gen;
    const char *comma = "";

    if (j->creates || j->job_count + j->chain_count > JOBS_MOST || !gen_chance(gen, "transaction", 400)) {
        return false;
    }
    for (unsigned i = 0; i < j->chain_count; i++) {
        if (!take_layers(j, i, j->chains[i].count - 1, j->chains[i].count - 1)) {
            return false;
        }
    }
    j->backups = true;
    gen_add(gen, "try transaction actions=[");
    for (unsigned i = 0; i < j->chain_count; i++, comma = ",") {
        struct gen_job *member = &j->job[j->job_count + i];

        *member = *job;
        snprintf(member->id, sizeof(member->id), j->made + i ? "m%u" : "m", j->made + i);
        gen_add(gen,
                "%s{\"type\":\"drive-backup\",\"data\":{\"job-id\":\"%s\",\"device\":\"%s\","
                "\"target\":\"%sx\",\"sync\":\"full\",\"format\":\"qcow2\"}}",
                comma, member->id, j->chains[i].guest, member->id);
    }
    gen_add(gen, "]%s", gen_draw(gen, "group.alone", 4) ? " properties.completion-mode=grouped" : "");
    gen_keep(gen, job->start_ns);
    j->made += j->chain_count - 1; /* the caller counts one */
    j->job_count += j->chain_count - 1;
    return true;
}

static bool start_create(struct jobs *j, struct gen_job *job, unsigned number)
{
    /* a drain of all nodes does not hold a job up that is none of theirs: not beside what drains them */
    if (j->backups || !gen_chance(j->gen, "create", 300)) {
        return false;
    }
    j->creates = true;
    gen_line(j->gen, "disk c%s", job->id);
    gen_line(j->gen, "blockdev-add driver=disk node-name=c%s disk=c%s", job->id, job->id);
    gen_at(j->gen, job->start_ns,
           "try blockdev-create job-id=%s options={\"driver\":\"qcow2\",\"file\":\"c%s\",\"size\":%" PRId64 "}",
           job->id, job->id, gen_chain_top(&j->chains[number])->bytes);
    job->ended = true; /* no block job: dismissed by hand, after settling */
    return true;
}

static bool (*const starts[])(struct jobs *j, struct gen_job *job, unsigned number) = {
    start_commit, start_stream, start_mirror, start_backup, start_group,
    start_commit, start_stream, start_mirror, start_backup, start_create,
};

static void start_job(struct jobs *j, int64_t start_ns)
{
    struct gen *gen = j->gen;
    struct gen_job *job = &j->job[j->job_count];
    unsigned number = (unsigned)gen_draw(gen, "job.chain", j->chain_count);
    size_t kind = gen_draw(gen, "job.kind", ARRAY_SIZE(starts));
    bool done = false;

    SIM_ASSERT_LT(j->job_count, JOBS_MOST);
    *job = (struct gen_job){.gen = gen, .start_ns = start_ns, .faulty = j->faulty};
    snprintf(job->id, sizeof(job->id), j->made ? "m%u" : "m", j->made);
    for (size_t i = 0; i < ARRAY_SIZE(starts) && !done; i++) {
        done = starts[(kind + i) % ARRAY_SIZE(starts)](j, job, number);
    }
    if (done) {
        j->made++;
        j->job_count++;
    }
}

/* --- the graph beside them --------------------------------------------------------------------------------- */

static void add_spare(struct jobs *j, int64_t time_ns)
{
    unsigned number = j->spares++;

    gen_line(j->gen, "disk sd%u size=64k", number);
    gen_at(j->gen, time_ns, "try blockdev-add driver=%s node-name=s%u file.driver=disk file.disk=sd%u",
           GEN_PICK(j->gen, "spare.driver", "raw", "copy-on-read", "preallocate"), number, number);
    gen_at(j->gen, time_ns + gen_time(j->gen, "spare.length", JOBS_SPAN), "try blockdev-del node-name=s%u", number);
}

/* A job's target loses a child and gets another one: what it shows stays the same only where it was complete. */
static void change_quorum(struct jobs *j, const struct gen_target *t, int64_t time_ns)
{
    gen_at(j->gen, time_ns, "try x-blockdev-change parent=%s child=children.1", t->node);
    gen_at(j->gen, time_ns + gen_time(j->gen, "quorum.back", JOBS_SPAN), "try x-blockdev-change parent=%s node=%sb",
           t->node, t->node);
}

/* Commands beside jobs, some of them on what jobs hold. */
static void add_change(struct jobs *j)
{
    struct gen *gen = j->gen;
    struct chain *chain = &j->chains[gen_draw(gen, "change.chain", j->chain_count)];
    const struct chain_layer *layer = &chain->layers[gen_draw(gen, "change.layer", chain->count)];
    const struct gen_target *target = &j->targets[gen_draw(gen, "change.target", j->target_count)];
    int64_t time_ns = gen_time(gen, "change.time", JOBS_SPAN);

    switch (gen_draw(gen, "change.what", 8)) {
    case 0:
        gen_at(gen, time_ns,
               "try block_set_io_throttle id=%s bps=0 bps_rd=0 bps_wr=0 iops=%" PRId64 " iops_rd=0 iops_wr=0",
               chain->guest, gen_draw(gen, "change.limit", 2) ? gen_range(gen, "change.iops", 1, 50) * 1000 : 0);
        break;
    case 1:
        chain->intruded = true;
        gen_at(gen, time_ns, "try blockdev-snapshot-sync node-name=%s snapshot-file=%s snapshot-node-name=%cv%u",
               gen_chain_top(chain)->node, layer->disk, chain->letter, j->spares++);
        break;
    case 2:
        gen_at(gen, time_ns, "try blockdev-del node-name=%s",
               gen_draw(gen, "change.del", 2) ? layer->node : target->node);
        break;
    case 3:
        gen_at(gen, time_ns, "try block-dirty-bitmap-add node=%s name=b%u", layer->node, j->spares++);
        break;
    case 4:
        if (target->quorum) {
            change_quorum(j, target, time_ns);
            break;
        }
        gen_at(gen, time_ns, "query-named-block-nodes");
        break;
    default:
        add_spare(j, time_ns);
    }
}

/* --- a round ----------------------------------------------------------------------------------------------- */

static void start_jobs(struct jobs *j)
{
    struct gen *gen = j->gen;
    int64_t count = gen_range(gen, "jobs.count", 2, JOBS_MOST);

    j->job_count = 0;
    j->backups = j->creates = false;
    memset(j->busy, 0, sizeof(j->busy));
    for (int64_t i = 0; i < count && j->job_count < JOBS_MOST; i++) {
        start_job(j, gen_draw(gen, "job.early", 3) ? 0 : gen_time(gen, "job.time", JOBS_SPAN - 2));
    }
}

/* Whom the storms of this round are for. */
static void pick_storm(struct jobs *j)
{
    static const char *const ids[] = {"m", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9"};
    uint64_t next = gen_draw(j->gen, "storm.job", 2);

    j->gen->storm_job = ids[MIN(j->made + next, ARRAY_SIZE(ids) - 1)];
}

/* A job dropped layers, or did not: what is still there is what the next round works with. */
static void end_jobs(struct jobs *j)
{
    for (unsigned i = 0; i < j->job_count; i++) {
        if (j->job[i].readies) {
            gen_job_ready(&j->job[i]);
        }
    }
    for (unsigned i = 0; i < j->job_count; i++) {
        gen_job_end(&j->job[i]);
    }
}

static void write_round(struct jobs *j)
{
    struct gen *gen = j->gen;
    int64_t changes = gen_chance(gen, "change", 600) ? gen_range(gen, "change.count", 1, 4) : 0;

    pick_storm(j);
    for (unsigned i = 0; i < j->chain_count; i++) {
        bool faulty = gen_chain_faults(&j->chains[i]);

        j->faulty = j->faulty || faulty;
    }
    start_jobs(j);
    for (unsigned i = 0; i < j->chain_count; i++) {
        gen_chain_life(&j->chains[i]);
    }
    for (unsigned i = 0; i < j->job_count; i++) {
        gen_job_relief(&j->job[i]);
        gen_job_life(&j->job[i]);
    }
    for (int64_t i = 0; i < changes; i++) {
        add_change(j);
    }
    gen_flush(gen);
    end_jobs(j);
}

static void generate(struct sim *draw)
{
    struct jobs j = {.gen = gen_of(draw)};
    int64_t rounds = gen_chance(j.gen, "rounds", 250) ? 2 : 1;

    gen_schedule(j.gen);
    write_world(&j);
    for (int64_t round = 0; round < rounds; round++) {
        write_round(&j);
    }
    for (unsigned i = 0; i < j.chain_count; i++) {
        gen_chain_end(&j.chains[i]);
        gen_chain_free(&j.chains[i]);
    }
}

const struct gen_profile gen_jobs_profile = {
    .profile =
        {
            .name = "jobs",
            .doc = "several jobs of all types at once on shared graphs that change beside them",
            .generate = generate,
        },
    .features = features,
};
