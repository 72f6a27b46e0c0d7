/*
 * Profile stream: what lies below an image is copied up into it while a guest works on top of the chain.
 *
 * The story: a chain of images, its guest, some content; then one to three streams one after the other, each of
 * them amid what is drawn to happen around it: into the top or below it, down to any layer or through, or beside a
 * second job. In the end the chain is closed and opened by what its headers say.
 */
#include "scenario/gen_chain.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const features[] = {
    GEN_CHAIN_FEATURES, GEN_IMAGE_FEATURES, GEN_JOB_FEATURES, "lower", "rounds", "header", "named", "second", NULL,
};

struct stream {
    struct gen *gen;
    struct chain chain;
    struct gen_job job;
    unsigned top;
    unsigned keep; /* layers below which the chain stays: 0, everything is copied */
};

static void draw_layers(struct stream *s)
{
    unsigned last = s->chain.count - 1;
    bool lower = last > 1 && !s->chain.by_header && gen_chance(s->gen, "lower", 250);

    s->top = lower ? (unsigned)gen_range(s->gen, "top", 1, last - 1) : last;
    s->keep = gen_draw(s->gen, "keep.none", 3) ? (unsigned)gen_range(s->gen, "keep", 1, s->top) : 0;
}

static void add_end(struct stream *s)
{
    struct gen *gen = s->gen;
    const struct chain_layer *layers = s->chain.layers;
    uint64_t how = s->chain.by_header ? 0 : gen_draw(gen, "end.how", 4);

    if (s->keep == 0) {
        return;
    }
    if (how == 1 && s->keep < s->top) {
        gen_add(gen, " bottom=%s", layers[s->keep].node);
        return;
    }
    if (how == 0) {
        gen_add(gen, " base=%s", layers[s->keep - 1].disk);
    } else {
        gen_add(gen, " base-node=%s", layers[s->keep - 1].node);
    }
    if (gen_chance(gen, "header", 200)) {
        gen_add(gen, " backing-file=%s", layers[s->keep - 1].disk);
    }
}

static void add_stream(struct stream *s)
{
    struct gen *gen = s->gen;
    bool lower = s->top + 1 < s->chain.count;
    const char *root = s->chain.filter[0] ? s->chain.filter : gen_chain_top(&s->chain)->node;

    gen_add(gen, "try block-stream job-id=%s device=%s", s->job.id,
            lower                        ? s->chain.layers[s->top].node
            : gen_draw(gen, "device", 2) ? s->chain.guest
                                         : root);
    add_end(s);
    if (gen_chance(gen, "header", 200)) {
        gen_add(gen, " backing-mask-protocol=true");
    }
    if (gen_chance(gen, "named", 250)) {
        gen_add(gen, " filter-node-name=%c%s", s->chain.letter, s->job.id);
    }
    gen_job_policy(&s->job, "on-error");
    gen_job_limit(&s->job, s->chain.layers[s->top].bytes, s->chain.huge);
    gen_job_switches(&s->job);
    gen_keep(gen, 0);
}

/* Somebody else wants part of the chain: what does not touch the stream goes on beside it, and may take away what
 * it was to build on.
 */
static void add_second(struct stream *s)
{
    struct gen *gen = s->gen;
    const struct chain_layer *layers = s->chain.layers;
    int64_t time_ns = gen_time(gen, "second.time", 12);
    unsigned below = s->keep ? s->keep - 1 : 0;

    if (!gen_chance(gen, "second", 200) || s->chain.by_header) {
        return;
    }
    if (below && gen_draw(gen, "second.below", 2)) {
        gen_at(gen, time_ns, "try block-commit job-id=s device=%s top-node=%s", s->chain.guest, layers[below].node);
    } else if (below) {
        gen_at(gen, time_ns, "try block-stream job-id=s device=%s", layers[below].node);
    } else {
        gen_at(gen, time_ns, "try block-stream job-id=s device=%s",
               layers[gen_range(gen, "second.layer", 1, s->chain.count - 1)].node);
    }
}

static void write_round(struct stream *s, unsigned round)
{
    if (gen_chance(s->gen, "snapshot", 120)) {
        gen_chain_snapshot(&s->chain, 0);
        gen_flush(s->gen);
    }
    s->job = (struct gen_job){.gen = s->gen};
    snprintf(s->job.id, sizeof(s->job.id), round ? "m%u" : "m", round);
    s->gen->storm_job = s->job.id;
    draw_layers(s);
    gen_chain_cap(&s->chain, &s->chain.layers[s->top]);
    s->job.faulty = gen_chain_faults(&s->chain) || s->chain.capped;
    add_stream(s);
    gen_chain_life(&s->chain);
    s->job.capped = s->chain.capped;
    gen_job_relief(&s->job);
    gen_job_life(&s->job);
    add_second(s);
    gen_flush(s->gen);
    gen_job_end(&s->job);
}

static void generate(struct sim *draw)
{
    struct stream s = {.gen = gen_of(draw)};
    unsigned levels = (unsigned)gen_range(s.gen, "levels", 2, 5);
    unsigned rounds = gen_chance(s.gen, "rounds", 300) ? 3 : 1;

    s.chain.gen = s.gen;
    gen_schedule(s.gen);
    gen_chain_write(&s.chain, 'n', "g", levels);
    gen_chain_open(&s.chain, false);
    gen_chain_plug(&s.chain, false);
    for (unsigned round = 0; round < rounds && s.chain.count > 1; round++) {
        write_round(&s, round);
        if (!s.job.leaves) {
            gen_chain_drop(&s.chain, s.keep, s.top);
        }
    }
    gen_chain_end(&s.chain);
    gen_chain_free(&s.chain);
}

const struct gen_profile gen_stream_profile = {
    .profile =
        {
            .name = "stream",
            .doc = "what lies below an image is copied up into it under guest load, faults and commands",
            .generate = generate,
        },
    .features = features,
};
