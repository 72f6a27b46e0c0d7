/*
 * Drawing and writing, for all profiles; see gen.h.
 */
#include "scenario/gen.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/sim.h"
#include "sim/world.h"

/* --- draws ----------------------------------------------------------------------------------------------- */

static const struct sim_ext_ops gen_ext_ops = {.reset = NULL};

struct gen *gen_of(struct sim *draw)
{
    struct gen *gen = sim_ext(draw, SIM_EXT_SCENARIO);

    SIM_ASSERT(gen != NULL);
    return gen;
}

uint64_t gen_draw(struct gen *gen, const char *what, uint64_t n)
{
    SIM_ASSERT(n > 0);
    return sim_draw(gen->sim, SITE_gen, sim_hash_str(what), n);
}

int64_t gen_range(struct gen *gen, const char *what, int64_t low, int64_t high)
{
    SIM_ASSERT_LE(low, high);
    return low + (int64_t)gen_draw(gen, what, (uint64_t)(high - low) + 1);
}

int64_t gen_scale(struct gen *gen, const char *what, unsigned bits)
{
    uint64_t bit;
    uint64_t below;

    SIM_ASSERT(bits > 0 && bits < 63);
    bit = gen_draw(gen, what, bits);
    below = gen_draw(gen, what, UINT64_C(1) << bit);
    return (int64_t)((UINT64_C(1) << bit) + below);
}

int64_t gen_time(struct gen *gen, const char *what, unsigned bits)
{
    return gen_scale(gen, what, bits) * NS_PER_US;
}

const char *gen_pick(struct gen *gen, const char *what, const char *const *words, size_t count)
{
    return words[gen_draw(gen, what, count)];
}

bool gen_chance(struct gen *gen, const char *feature, unsigned permille)
{
    uint64_t chance = permille;

    for (size_t i = 0; i < gen->weight_count; i++) {
        if (strcmp(gen->weights[i].feature, feature) == 0) {
            chance *= gen->weights[i].times;
        }
    }
    return gen_draw(gen, feature, 1000) < chance;
}

/* --- text ------------------------------------------------------------------------------------------------ */

static void add_text(struct gen *gen, const char *fmt, va_list ap)
{
    char *line = NULL;
    int length = vasprintf(&line, fmt, ap);

    SIM_ASSERT(length >= 0);
    scn_text_add(&gen->text, line, (size_t)length);
    free(line);
}

void gen_add(struct gen *gen, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_text(gen, fmt, ap);
    va_end(ap);
}

void gen_add_size(struct gen *gen, const char *key, int64_t bytes)
{
    char buf[24];

    gen_add(gen, " %s=%s", key, sim_format_size(bytes, buf));
}

void gen_add_time(struct gen *gen, const char *key, int64_t time_ns)
{
    char buf[32];

    gen_add(gen, " %s=%s", key, sim_format_time(time_ns, buf));
}

void gen_line(struct gen *gen, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_text(gen, fmt, ap);
    va_end(ap);
    scn_text_char(&gen->text, '\n');
}

void gen_at(struct gen *gen, int64_t time_ns, const char *fmt, ...)
{
    struct gen_action *action = &gen->actions[gen->action_count];
    va_list ap;
    int length;

    if (gen->action_count == GEN_ACTIONS_MAX) {
        return;
    }
    va_start(ap, fmt);
    length = vasprintf(&action->line, fmt, ap);
    va_end(ap);
    SIM_ASSERT(length >= 0);
    action->time_ns = time_ns;
    gen->action_count++;
}

char *gen_take(struct gen *gen)
{
    char *line_start = strrchr(gen->text.bytes, '\n') + 1;
    char *line = strdup(line_start);

    SIM_ASSERT(line && *line != '\0');
    gen->text.length = (size_t)(line_start - gen->text.bytes);
    *line_start = '\0';
    return line;
}

void gen_keep(struct gen *gen, int64_t time_ns)
{
    char *line = gen_take(gen);

    gen_at(gen, time_ns, "%s", line);
    free(line);
}

void gen_flush(struct gen *gen)
{
    int64_t now = 0;

    for (size_t written = 0; written < gen->action_count; written++) {
        struct gen_action *next = NULL;
        char buf[32];

        for (size_t i = 0; i < gen->action_count; i++) {
            if (gen->actions[i].line && (!next || gen->actions[i].time_ns < next->time_ns)) {
                next = &gen->actions[i];
            }
        }
        SIM_ASSERT(next != NULL);
        if (next->time_ns > now) {
            gen_add(gen, "+%s ", sim_format_time(next->time_ns - now, buf));
            now = next->time_ns;
        }
        gen_line(gen, "%s", next->line);
        free(next->line);
        next->line = NULL;
    }
    gen->action_count = 0;
}

void gen_schedule(struct gen *gen)
{
    uint64_t schedule = gen_draw(gen, "schedule", 20);

    if (schedule < 3) {
        gen_line(gen, "schedule calm");
    } else if (schedule < 5) {
        gen_line(gen, "schedule pct depth=%" PRId64, gen_range(gen, "schedule.depth", 1, 5));
    } else {
        gen_line(gen, "schedule random");
    }
}

/* --- profiles -------------------------------------------------------------------------------------------- */

static const struct gen_profile *const profiles[] = {&gen_mirror_profile, &gen_commit_profile, &gen_stream_profile,
                                                     &gen_backup_profile, &gen_jobs_profile,   &gen_bitmap_profile,
                                                     &gen_block_profile,  &gen_power_profile,  &gen_mixed_profile};

const struct scn_profile *scn_profile_at(size_t index)
{
    return index < ARRAY_SIZE(profiles) ? &profiles[index]->profile : NULL;
}

const struct scn_profile *scn_profile_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(profiles); i++) {
        if (strcmp(profiles[i]->profile.name, name) == 0) {
            return &profiles[i]->profile;
        }
    }
    return NULL;
}

static const struct gen_profile *find_profile(const char *name, Error **errp)
{
    struct scn_text all = {.bytes = NULL};
    struct scn_spell spell;
    char hint[SCN_HINT];

    scn_spell_init(&spell, name);
    for (size_t i = 0; i < ARRAY_SIZE(profiles); i++) {
        if (strcmp(profiles[i]->profile.name, name) == 0) {
            free(all.bytes);
            return profiles[i];
        }
        scn_text_str(&all, i ? ", " : "");
        scn_text_str(&all, profiles[i]->profile.name);
        scn_spell_try(&spell, profiles[i]->profile.name);
    }
    error_setg(errp, "there is no profile '%.60s', expected one of %s%s", name, all.bytes,
               scn_spell_hint(&spell, hint));
    free(all.bytes);
    return NULL;
}

struct feature_search {
    const char *name;
    const char *found;
    struct scn_text all;
    struct scn_spell spell;
};

static void search_features(struct feature_search *search, const struct gen_profile *profile)
{
    for (const char *const *feature = profile->features; *feature && !search->found; feature++) {
        search->found = strcmp(*feature, search->name) == 0 ? *feature : NULL;
        scn_text_str(&search->all, search->all.length ? ", " : "");
        scn_text_str(&search->all, *feature);
        scn_spell_try(&search->spell, *feature);
    }
}

/* A mixed profile has the features of what it mixes, too. */
static const char *find_feature(const struct gen_profile *profile, const char *name, Error **errp)
{
    struct feature_search search = {.name = name};
    const char *found;
    char hint[SCN_HINT];

    scn_spell_init(&search.spell, name);
    search_features(&search, profile);
    for (size_t i = 0; profile->mixed && i < ARRAY_SIZE(profiles); i++) {
        if (!profiles[i]->mixed) {
            search_features(&search, profiles[i]);
        }
    }
    found = search.found;
    if (!found) {
        error_setg(errp, "profile '%s' has no feature '%.60s', expected one of %s%s", profile->profile.name, name,
                   search.all.bytes, scn_spell_hint(&search.spell, hint));
    }
    free(search.all.bytes);
    return found;
}

/* "feature=N", N from 0 to 1000. Cuts the text in two. */
static bool parse_weight(struct gen *gen, const struct gen_profile *profile, char *text, Error **errp)
{
    char *equals = strchr(text, '=');
    const char *feature;
    char *end = NULL;
    long times = -1;

    if (equals) {
        *equals = '\0';
        times = equals[1] >= '0' && equals[1] <= '9' ? strtol(equals + 1, &end, 10) : -1;
    }
    if (times < 0 || times > 1000 || *end) {
        error_setg(errp, "'%.60s' has no weight, expected FEATURE=N with N from 0 to 1000", text);
        return false;
    }
    feature = find_feature(profile, text, errp);
    if (!feature) {
        return false;
    }
    if (gen->weight_count == GEN_WEIGHTS_MAX) {
        error_setg(errp, "too many weights, expected at most %d", GEN_WEIGHTS_MAX);
        return false;
    }
    gen->weights[gen->weight_count++] = (struct gen_weight){feature, (uint32_t)times};
    return true;
}

/* "mirror:enospc=4,power=0" */
static const struct gen_profile *parse_profile(struct gen *gen, const char *text, Error **errp)
{
    char *copy = strdup(text);
    char *rest = strchr(copy, ':');
    const struct gen_profile *profile;
    char *state = NULL;

    if (rest) {
        *rest++ = '\0';
    }
    profile = find_profile(copy, errp);
    for (char *weight = rest ? strtok_r(rest, ",", &state) : NULL; weight && profile;
         weight = strtok_r(NULL, ",", &state)) {
        if (!parse_weight(gen, profile, weight, errp)) {
            profile = NULL;
        }
    }
    free(copy);
    return profile;
}

struct scenario *scenario_generate(const char *profile, uint64_t seed, Error **errp)
{
    struct gen gen = {.sim = NULL};
    const struct gen_profile *found = parse_profile(&gen, profile, errp);
    struct scenario *scn;
    Error *err = NULL;

    if (!found) {
        return NULL;
    }
    gen.sim = sim_new();
    sim_choice_set_seed(gen.sim, seed);
    sim_ext_set(gen.sim, SIM_EXT_SCENARIO, &gen_ext_ops, &gen);
    gen_line(&gen, "blksim 1");
    found->profile.generate(gen.sim);
    scn = scenario_parse("<generated>", gen.text.bytes, gen.text.length, &err);
    if (!scn) {
        /* A generator that writes nonsense is a defect of its own, told with the text at hand. */
        fprintf(stderr, "%s\n%s", error_get_pretty(err), gen.text.bytes);
        SIM_ASSERT(scn != NULL);
    }
    scn->seed = seed;
    free(gen.text.bytes);
    sim_delete(gen.sim);
    return scn;
}
