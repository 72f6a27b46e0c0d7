/*
 * Profile backup: what guests held at one instant is copied away while they go on.
 *
 * The story: one or two chains with a guest on each, bitmaps on what guests write, targets. In each round one
 * backup, or a transaction of some with bitmap actions beside them, amid guest load, faults and commands; later
 * rounds copy what changed since. Some guests stand on a copy-before-write filter of their own, whose past is read
 * meanwhile.
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
    GEN_TARGET_FEATURES,
    "rounds",
    "second-chain",
    "transaction",
    "grouped",
    "compress",
    "perf",
    "drive",
    "fleecing",
    "named",
    "bitmap-sync",
    "wrong",
    NULL,
};

#define BACKUP_CHAINS 2
#define BACKUP_TARGETS 8
#define BACKUP_JOBS 3

struct backup {
    struct gen *gen;
    struct chain chains[BACKUP_CHAINS];
    bool bitmaps[BACKUP_CHAINS]; /* there is a bitmap bm on its top */
    unsigned chain_count;
    struct gen_target targets[BACKUP_TARGETS];
    unsigned target_count;
    struct gen_job job[BACKUP_JOBS];
    unsigned job_count;
    unsigned made;
    bool faulty;
    bool fleecing;
    bool reader; /* a guest r reads the past */
};

/* --- arguments --------------------------------------------------------------------------------------------- */

struct draft {
    struct backup *b;
    struct gen_job *job;
    unsigned chain;
    const struct gen_target *target; /* NULL: a file */
};

static const char *pick_sync(struct draft *d)
{
    struct gen *gen = d->b->gen;

    if (d->target &&
        d->target->stands) { /* what it does not hold shows from below: anything less than all is fine */
        return GEN_PICK(gen, "sync.fleecing", "none", "none", "top", "full");
    }
    if (d->b->bitmaps[d->chain] && gen_chance(gen, "bitmap-sync", 400)) {
        return GEN_PICK(gen, "sync.bitmap", "incremental", "incremental", "bitmap");
    }
    return GEN_PICK(gen, "sync", "full", "full", "full", "full", "top", "none");
}

static void add_bitmap(struct draft *d, const char *sync)
{
    struct gen *gen = d->b->gen;
    bool all = strcmp(sync, "full") == 0 || strcmp(sync, "top") == 0;
    bool wrong = gen_chance(gen, "wrong", 25);

    if (strcmp(sync, "incremental") == 0) {
        gen_add(gen, " bitmap=bm%s", gen_draw(gen, "bitmap.mode?", 3) ? "" : " bitmap-mode=on-success");
    } else if (strcmp(sync, "bitmap") == 0) {
        gen_add(gen, " bitmap=bm bitmap-mode=%s", GEN_PICK(gen, "bitmap.mode", "on-success", "never", "always"));
    } else if (all && d->b->bitmaps[d->chain] && gen_draw(gen, "bitmap.beside", 3) == 0) {
        gen_add(gen, " bitmap=bm bitmap-mode=%s", GEN_PICK(gen, "bitmap.all-mode", "on-success", "always"));
    } else if (wrong) {
        gen_add(gen, " %s",
                GEN_PICK(gen, "wrong.what", "bitmap=bm", "bitmap=none bitmap-mode=never", "bitmap-mode=always"));
    }
}

static void add_perf(struct draft *d)
{
    struct gen *gen = d->b->gen;

    if (!gen_chance(gen, "perf", 500)) {
        return;
    }
    gen_add(gen, " x-perf={\"max-workers\":%" PRId64, gen_scale(gen, "perf.workers", 7));
    if (gen_draw(gen, "perf.range", 2)) {
        gen_add(gen, ",\"use-copy-range\":true");
    }
    if (gen_draw(gen, "perf.chunk", 3) == 0) {
        gen_add(gen, ",\"max-chunk\":%" PRId64, (256 * KiB) << gen_draw(gen, "perf.chunk", 4));
    }
    if (gen_draw(gen, "perf.cluster", 4) == 0) {
        gen_add(gen, ",\"min-cluster-size\":%" PRId64, (4 * KiB) << gen_draw(gen, "perf.cluster", 7));
    }
    gen_add(gen, "}");
}

static void add_where(struct draft *d)
{
    struct gen *gen = d->b->gen;
    const struct chain *chain = &d->b->chains[d->chain];
    const char *root = chain->filter[0] ? chain->filter : gen_chain_top(chain)->node;

    gen_add(gen, " job-id=%s device=%s", d->job->id, gen_draw(gen, "device", 2) ? chain->guest : root);
    if (d->target) {
        gen_add(gen, " target=%s", d->target->node);
        return;
    }
    gen_add(gen, " target=%sx", d->job->id);
    if (gen_draw(gen, "drive.format", 3)) {
        gen_add(gen, " format=%s", GEN_PICK(gen, "drive.format", "qcow2", "qcow2", "raw"));
    }
}

/* " job-id=.. device=.." and all the rest into the line in hand. */
static void add_args(struct draft *d)
{
    struct gen *gen = d->b->gen;
    const struct chain *chain = &d->b->chains[d->chain];
    const char *sync = pick_sync(d);

    add_where(d);
    gen_add(gen, " sync=%s", sync);
    d->job->endless = strcmp(sync, "none") == 0;
    add_bitmap(d, sync);
    add_perf(d);
    /* what is written compressed must not be there yet: who ignores the refusal would try for ever */
    if (d->target && d->target->compresses && !d->target->stands && !d->target->written &&
        gen_chance(gen, "compress", 250)) {
        gen_add(gen, " compress=true");
    }
    if (gen_chance(gen, "named", 250)) {
        gen_add(gen, " filter-node-name=f%s", d->job->id);
    }
    gen_job_policy(d->job, "on-source-error");
    gen_job_policy(d->job, "on-target-error");
    gen_job_limit(d->job, gen_chain_top(chain)->bytes, chain->huge);
    gen_job_switches(d->job);
}

/* --- jobs -------------------------------------------------------------------------------------------------- */

/* One that was made for this chain: mostly the first, so that a later round adds to what it holds. */
static struct gen_target *pick_target(struct backup *b, unsigned chain)
{
    struct gen_target *found = NULL;

    for (unsigned i = b->target_count; i-- > 0;) {
        if (b->targets[i].of == &b->chains[chain] && !b->targets[i].used) {
            found = &b->targets[i];
        }
    }
    return found;
}

static struct gen_job *new_job(struct backup *b)
{
    struct gen_job *job = &b->job[b->job_count++];

    SIM_ASSERT_LE(b->job_count, BACKUP_JOBS);
    *job = (struct gen_job){.gen = b->gen, .faulty = b->faulty};
    snprintf(job->id, sizeof(job->id), b->made ? "m%u" : "m", b->made);
    b->made++;
    return job;
}

/* A whole backup, ready to be written: "blockdev-backup" and its arguments. Caller frees. */
static char *draft_job(struct backup *b, unsigned chain)
{
    struct gen_target *target = pick_target(b, chain);
    struct draft d = {.b = b, .chain = chain, .job = new_job(b), .target = target};

    if (!target || gen_chance(b->gen, "drive", 150)) {
        d.target = NULL;
    }
    gen_add(b->gen, "%s-backup", d.target ? "blockdev" : "drive");
    add_args(&d);
    if (target && d.target) {
        target->written = true;
        d.job->capped = target->capped ? target->disk : NULL;
        d.job->faulty = d.job->faulty || target->capped;
    }
    return gen_take(b->gen);
}

/* "{"type":"blockdev-backup","data":{..}}" from the words of a command. */
static void add_action(struct gen *gen, char *command)
{
    char *state = NULL;
    const char *comma = "";

    gen_add(gen, "{\"type\":\"%s\",\"data\":{", strtok_r(command, " ", &state));
    for (char *word = strtok_r(NULL, " ", &state); word; word = strtok_r(NULL, " ", &state)) {
        char *value = strchr(word, '=');
        int64_t number;

        SIM_ASSERT(value != NULL);
        *value++ = '\0';
        gen_add(gen, "%s\"%s\":", comma, word);
        if (*value >= '0' && *value <= '9' && sim_parse_size(value, &number)) {
            gen_add(gen, "%" PRId64, number);
        } else if (*value == '{' || strcmp(value, "true") == 0 || strcmp(value, "false") == 0) {
            gen_add(gen, "%s", value);
        } else {
            gen_add(gen, "\"%s\"", value);
        }
        comma = ",";
    }
    gen_add(gen, "}}");
}

static void add_bitmap_action(struct backup *b, unsigned chain)
{
    struct gen *gen = b->gen;

    gen_add(gen, ",{\"type\":\"block-dirty-bitmap-%s\",\"data\":{\"node\":\"%s\",\"name\":\"x%u\"}}",
            GEN_PICK(gen, "txn.bitmap", "add", "add", "add", "add", "add", "clear"), gen_chain_top(&b->chains[chain])->node,
            b->made);
}

/* Several backups whose instant is one; the last action may fail them all. */
static void start_transaction(struct backup *b)
{
    struct gen *gen = b->gen;
    bool grouped = gen_chance(gen, "grouped", 450);
    unsigned count = b->chain_count + (gen_draw(gen, "txn.more", 4) == 0);
    char *commands[BACKUP_JOBS];

    for (unsigned i = 0; i < count; i++) {
        commands[i] = draft_job(b, i % b->chain_count);
    }
    gen_add(gen, "try transaction actions=[");
    for (unsigned i = 0; i < count; i++) {
        gen_add(gen, "%s", i ? "," : "");
        add_action(gen, commands[i]);
        free(commands[i]);
    }
    for (int64_t n = grouped && gen_draw(gen, "txn.wrong", 10) ? 0 : gen_range(gen, "txn.actions", 0, 2); n > 0;
         n--) {
        add_bitmap_action(b, (unsigned)gen_draw(gen, "txn.chain", b->chain_count));
    }
    gen_add(gen, "%s]%s", gen_draw(gen, "txn.abort", 12) ? "" : ",{\"type\":\"abort\",\"data\":{}}",
            grouped ? " properties.completion-mode=grouped" : "");
    gen_keep(gen, 0);
}

static void start_single(struct backup *b)
{
    unsigned chain = (unsigned)gen_draw(b->gen, "backup.chain", b->chain_count);
    char *command = draft_job(b, chain);

    gen_at(b->gen, 0, "try %s", command);
    free(command);
}

/* --- the world --------------------------------------------------------------------------------------------- */

/* The guest's filter keeps the instant at which it was made; who reads it finds that. */
static void write_fleecing(struct backup *b)
{
    struct gen *gen = b->gen;
    struct chain *chain = &b->chains[0];
    const struct chain_layer *top = gen_chain_top(chain);
    struct gen_target *t = &b->targets[b->target_count];

    gen_target_write(gen, t, b->target_count++, chain, NULL);
    t->used = true;
    snprintf(chain->filter, sizeof(chain->filter), "cbw");
    gen_add(gen, "try blockdev-add driver=copy-before-write node-name=cbw file=%s target=%s", top->node, t->node);
    if (gen_draw(gen, "cbw.error", 2)) {
        gen_add(gen, " on-cbw-error=%s", GEN_PICK(gen, "cbw.error", "break-guest-write", "break-snapshot"));
    }
    if (gen_draw(gen, "cbw.timeout", 3) == 0) {
        gen_add(gen, " cbw-timeout=1");
    }
    if (gen_draw(gen, "cbw.cluster", 4) == 0) {
        gen_add(gen, " min-cluster-size=%s", GEN_PICK(gen, "cbw.cluster", "4k", "64k", "128k", "256k"));
    }
    gen_line(gen, "%s", "");
    gen_line(gen, "try blockdev-add driver=snapshot-access node-name=sa file=cbw");
    b->fleecing = true;
}

/* Who reads the past: a guest of its own, or a backup of what it was. */
static void read_past(struct backup *b)
{
    struct gen *gen = b->gen;
    const char *discards = gen_draw(gen, "past.discard", 3) ? "" : " discard=30";

    if (gen_draw(gen, "past.backup", 2)) {
        struct gen_target *t = &b->targets[b->target_count];

        gen_target_write(gen, t, b->target_count++, &b->chains[0], NULL);
        t->used = true;
        if (t->capped) {
            gen_at(gen, 0, "disk %s capacity=0", t->disk);
        }
        gen_at(gen, gen_time(gen, "past.time", 11),
               "try blockdev-backup job-id=past device=sa target=%s sync=full%s", t->node,
               *discards ? " discard-source=true" : "");
        return;
    }
    b->reader = true;
    gen_at(gen, 0, "try guest r node=sa");
    gen_at(gen, gen_time(gen, "past.time", 11),
           "try workload r ops=%" PRId64 " depth=4 read=%d zero=0%s min=512 max=64k",
           gen_range(gen, "past.ops", 4, 40), *discards ? 70 : 100, discards);
}

static void write_targets(struct backup *b)
{
    struct gen *gen = b->gen;

    for (unsigned i = 0; i < b->chain_count; i++) {
        const struct chain *chain = &b->chains[i];
        const char *root = chain->filter[0] ? chain->filter : gen_chain_top(chain)->node;
        bool stands = gen_draw(gen, "target.stands", 5) == 0;

        gen_target_write(gen, &b->targets[b->target_count], b->target_count, chain, stands ? root : NULL);
        b->target_count++;
    }
}

static void write_bitmaps(struct backup *b)
{
    struct gen *gen = b->gen;

    for (unsigned i = 0; i < b->chain_count; i++) {
        const struct chain *chain = &b->chains[i];
        const char *root = chain->filter[0] ? chain->filter : gen_chain_top(chain)->node;

        b->bitmaps[i] = gen_chance(gen, "bitmap-sync", 550);
        if (b->bitmaps[i]) {
            gen_line(gen, "try block-dirty-bitmap-add node=%s name=bm granularity=%" PRId64 "%s", root,
                     (int64_t)SIM_SECTOR_BYTES << gen_range(gen, "bm.granularity", 0, 9),
                     gen_draw(gen, "bm.disabled", 8) ? "" : " disabled=true");
        }
    }
}

static void write_world(struct backup *b)
{
    struct gen *gen = b->gen;

    b->chain_count = gen_chance(gen, "second-chain", 400) ? 2 : 1;
    for (unsigned i = 0; i < b->chain_count; i++) {
        b->chains[i].gen = gen;
        gen_chain_write(&b->chains[i], i ? 'p' : 'n', i ? "h" : "g", (unsigned)gen_range(gen, "levels", 1, 3));
    }
    for (unsigned i = 0; i < b->chain_count; i++) {
        gen_chain_open(&b->chains[i], false);
        if (i == 0 && !b->chains[i].filter[0] && gen_chance(gen, "fleecing", 200)) {
            write_fleecing(b);
        }
        gen_chain_plug(&b->chains[i], false);
    }
    write_targets(b);
    write_bitmaps(b);
}

/* --- a round ----------------------------------------------------------------------------------------------- */

static void write_load(struct backup *b)
{
    for (unsigned i = 0; i < b->chain_count; i++) {
        bool faulty = gen_chain_faults(&b->chains[i]);

        b->faulty = b->faulty || faulty;
    }
}

static void write_round(struct backup *b)
{
    struct gen *gen = b->gen;

    b->job_count = 0;
    gen->storm_job = b->made ? "m1" : "m";
    write_load(b);
    if (b->fleecing && b->made == 0) {
        read_past(b);
    }
    if (gen_chance(gen, "transaction", b->chain_count > 1 ? 700 : 200)) {
        start_transaction(b);
    } else {
        start_single(b);
    }
    for (unsigned i = 0; i < b->chain_count; i++) {
        gen_chain_life(&b->chains[i]);
    }
    for (unsigned i = 0; i < b->job_count; i++) {
        gen_job_relief(&b->job[i]);
        gen_job_life(&b->job[i]);
    }
    gen_flush(gen);
    for (unsigned i = 0; i < b->job_count; i++) {
        gen_job_end(&b->job[i]);
    }
}

static void generate(struct sim *draw)
{
    struct backup b = {.gen = gen_of(draw)};
    unsigned rounds = gen_chance(b.gen, "rounds", 400) ? 3 : 1;

    gen_schedule(b.gen);
    write_world(&b);
    for (unsigned round = 0; round < rounds; round++) {
        write_round(&b);
    }
    if (b.fleecing) {
        gen_line(b.gen, "try settle");
        if (b.reader) {
            gen_line(b.gen, "try unplug r");
        }
        gen_line(b.gen, "try blockdev-del node-name=sa");
    }
    for (unsigned i = 0; i < b.chain_count; i++) {
        gen_chain_end(&b.chains[i]);
        gen_chain_free(&b.chains[i]);
    }
}

const struct gen_profile gen_backup_profile = {
    .profile =
        {
            .name = "backup",
            .doc = "what guests held at one instant is copied away while they go on",
            .generate = generate,
        },
    .features = features,
};
