/*
 * Profile commit: layers of a chain are merged downwards while a guest works on top of it.
 *
 * The story: a chain of images, its guest, some content; then one to three commits one after the other, each of
 * them amid what is drawn to happen around it: of the active layer, of layers below it, or beside a second job
 * further up or down. In the end the chain is closed and opened by what its headers say.
 */
#include "scenario/gen_chain.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const features[] = {
    GEN_CHAIN_FEATURES, GEN_IMAGE_FEATURES, GEN_JOB_FEATURES, "active", "rounds", "header", "named", "second", NULL,
};

struct commit {
    struct gen *gen;
    struct chain chain;
    struct gen_job job;
    unsigned top, base; /* layers */
    bool active;
};

static void draw_layers(struct commit *c)
{
    unsigned last = c->chain.count - 1;

    c->active = last < 2 || gen_chance(c->gen, "active", 400);
    c->top = c->active ? last : (unsigned)gen_range(c->gen, "top", 1, last - 1);
    c->base = gen_draw(c->gen, "base.bottom", 2) ? 0 : (unsigned)gen_range(c->gen, "base", 0, c->top - 1);
    c->job.readies = c->active;
}

static void add_top_and_base(struct commit *c)
{
    struct gen *gen = c->gen;
    const struct chain_layer *top = &c->chain.layers[c->top];
    const struct chain_layer *base = &c->chain.layers[c->base];

    if (!c->active || gen_draw(gen, "top.given", 2)) {
        bool file = gen_draw(gen, "top.file", 3) == 0 || (c->chain.by_header && !c->active);

        gen_add(gen, " top%s=%s", file ? "" : "-node", file ? top->disk : top->node);
    }
    if (c->base || gen_draw(gen, "base.given", 2)) {
        bool file = gen_draw(gen, "base.file", 3) == 0 || c->chain.by_header;

        gen_add(gen, " base%s=%s", file ? "" : "-node", file ? base->disk : base->node);
    }
}

static void add_commit(struct commit *c)
{
    struct gen *gen = c->gen;
    const char *root = c->chain.filter[0] ? c->chain.filter : gen_chain_top(&c->chain)->node;

    gen_add(gen, "try block-commit job-id=%s device=%s", c->job.id,
            gen_draw(gen, "device", 2) ? c->chain.guest : root);
    add_top_and_base(c);
    if (!c->active && gen_chance(gen, "header", 200)) {
        gen_add(gen, " backing-file=%s", c->chain.layers[c->base].disk);
    }
    if (gen_chance(gen, "header", 200)) {
        gen_add(gen, " backing-mask-protocol=true");
    }
    if (gen_chance(gen, "named", 250)) {
        gen_add(gen, " filter-node-name=%c%s", c->chain.letter, c->job.id);
    }
    gen_job_policy(&c->job, "on-error");
    gen_job_limit(&c->job, c->chain.layers[c->top].bytes, c->chain.huge);
    gen_job_switches(&c->job);
    gen_keep(gen, 0);
}

/* Somebody else wants part of the chain: what does not touch the commit goes on beside it. */
static void add_second(struct commit *c)
{
    struct gen *gen = c->gen;
    const struct chain_layer *layers = c->chain.layers;
    int64_t time_ns = gen_time(gen, "second.time", 12);
    unsigned at;

    if (!gen_chance(gen, "second", 150) || c->chain.by_header) {
        return;
    }
    at = (unsigned)gen_range(gen, "second.layer", 1, c->chain.count - 1);
    if (gen_draw(gen, "second.stream", 2)) {
        gen_at(gen, time_ns, "try block-stream job-id=s device=%s%s%s", layers[at].node,
               at > c->top ? " base-node=" : "", at > c->top ? layers[c->top].node : "");
    } else {
        gen_at(gen, time_ns, "try block-commit job-id=s device=%s top-node=%s", c->chain.guest, layers[at].node);
    }
}

static void write_round(struct commit *c, unsigned round)
{
    if (gen_chance(c->gen, "snapshot", 120)) {
        gen_chain_snapshot(&c->chain, 0);
        gen_flush(c->gen);
    }
    c->job = (struct gen_job){.gen = c->gen};
    snprintf(c->job.id, sizeof(c->job.id), round ? "m%u" : "m", round);
    c->gen->storm_job = c->job.id;
    draw_layers(c);
    gen_chain_cap(&c->chain, &c->chain.layers[c->base]);
    c->job.faulty = gen_chain_faults(&c->chain) || c->chain.capped;
    add_commit(c);
    gen_chain_life(&c->chain);
    c->job.capped = c->chain.capped;
    gen_job_relief(&c->job);
    gen_job_life(&c->job);
    add_second(c);
    gen_flush(c->gen);
    if (c->active) {
        char buf[256];

        gen_job_ready(&c->job);
        if (!c->job.ended && gen_chain_top(&c->chain)->bytes && gen_draw(c->gen, "ready.work", 2)) {
            gen_line(
                c->gen, "try %s",
                gen_guest_workload(c->gen, "ready.kind", c->chain.guest, 40, c->chain.huge ? 8 * MiB : 0, buf));
            gen_line(c->gen, "run %s", sim_format_time(gen_time(c->gen, "ready.time", 13), buf));
        }
    }
    gen_job_end(&c->job);
}

static void generate(struct sim *draw)
{
    struct commit c = {.gen = gen_of(draw)};
    unsigned levels = (unsigned)gen_range(c.gen, "levels", 2, 5);
    unsigned rounds = gen_chance(c.gen, "rounds", 300) ? 3 : 1;

    c.chain.gen = c.gen;
    gen_schedule(c.gen);
    gen_chain_write(&c.chain, 'n', "g", levels);
    gen_chain_open(&c.chain, false);
    gen_chain_plug(&c.chain, false);
    for (unsigned round = 0; round < rounds && c.chain.count > 1; round++) {
        write_round(&c, round);
        if (!c.job.leaves) {
            gen_chain_drop(&c.chain, c.base + 1, c.top + 1);
        }
    }
    gen_chain_end(&c.chain);
    gen_chain_free(&c.chain);
}

const struct gen_profile gen_commit_profile = {
    .profile =
        {
            .name = "commit",
            .doc = "layers of a chain are merged downwards under guest load, faults and commands",
            .generate = generate,
        },
    .features = features,
};
