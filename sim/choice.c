/*
 * Choices: policies over one hash.
 *
 * Ordinals and pins live in open-addressing tables with an epoch: a new world bumps the epoch and pays nothing for
 * the entries of the last one.
 */
#include "sim/choice.h"

#include <stdlib.h>
#include <string.h>

#include "sim/world.h"

static const struct {
    const char *name;
    const char *doc;
} sites[] = {
#define SITE(tag, name, doc) {name, doc},
#include "gen/sites.def"
#undef SITE
};

static const char *const policy_names[] = {
    [SIM_POLICY_CALM] = "calm",     [SIM_POLICY_RANDOM] = "random",   [SIM_POLICY_PCT] = "pct",
    [SIM_POLICY_REPLAY] = "replay", [SIM_POLICY_EXHAUST] = "exhaust",
};

const char *sim_policy_name(enum sim_policy policy)
{
    SIM_ASSERT_LT((size_t)policy, ARRAY_SIZE(policy_names));
    return policy_names[policy];
}

const char *sim_site_name(enum sim_site site)
{
    SIM_ASSERT_LT((size_t)site, ARRAY_SIZE(sites));
    return sites[site].name;
}

const char *sim_site_doc(enum sim_site site)
{
    SIM_ASSERT_LT((size_t)site, ARRAY_SIZE(sites));
    return sites[site].doc;
}

int sim_site_find(const char *name)
{
    SIM_ASSERT(name != NULL);
    for (size_t i = 0; i < ARRAY_SIZE(sites); i++) {
        if (strcmp(sites[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* --- ordinals ------------------------------------------------------------------------------------------- */

static uint32_t ordinal_slot(const struct sim_choices *c, uint32_t site, uint64_t entity)
{
    uint32_t i = (uint32_t)sim_mix2(entity, site) & (c->ordinal_room - 1);

    while (c->ordinals[i].epoch == c->ordinal_epoch &&
           (c->ordinals[i].entity != entity || c->ordinals[i].site != site)) {
        i = (i + 1) & (c->ordinal_room - 1);
    }
    return i;
}

static __attribute__((noinline)) void grow_ordinals(struct sim_choices *c)
{
    struct sim_ordinal *old = c->ordinals;
    uint32_t old_room = c->ordinal_room;
    uint32_t old_epoch = c->ordinal_epoch;

    c->ordinal_room = old_room ? old_room * 2 : 256;
    c->ordinals = sim_xcalloc(c->ordinal_room, sizeof(*c->ordinals));
    c->ordinal_epoch = 1;
    for (uint32_t i = 0; i < old_room; i++) {
        if (old[i].epoch == old_epoch) {
            struct sim_ordinal *slot = &c->ordinals[ordinal_slot(c, old[i].site, old[i].entity)];

            *slot = old[i];
            slot->epoch = c->ordinal_epoch;
        }
    }
    free(old);
}

static uint32_t next_ordinal(struct sim_choices *c, enum sim_site site, uint64_t entity)
{
    struct sim_ordinal *slot;

    if (c->ordinal_count * 2 >= c->ordinal_room) {
        grow_ordinals(c);
    }
    slot = &c->ordinals[ordinal_slot(c, (uint32_t)site, entity)];
    if (slot->epoch != c->ordinal_epoch) {
        *slot = (struct sim_ordinal){.entity = entity, .site = (uint32_t)site, .epoch = c->ordinal_epoch};
        c->ordinal_count++;
        c->tasks += site == SITE_sched_rank;
    }
    return slot->next++;
}

/* --- pins ----------------------------------------------------------------------------------------------- */

static uint32_t pin_slot(const struct sim_choices *c, enum sim_site site, uint64_t entity, uint32_t ordinal)
{
    uint32_t i = (uint32_t)sim_mix2(sim_mix2(entity, site), ordinal) & (c->pin_room - 1);

    while (c->pins[i].epoch == c->pin_epoch &&
           (c->pins[i].pin.entity != entity || c->pins[i].pin.site != site || c->pins[i].pin.ordinal != ordinal)) {
        i = (i + 1) & (c->pin_room - 1);
    }
    return i;
}

static const struct sim_pin *find_pin(const struct sim_choices *c, enum sim_site site, uint64_t entity,
                                      uint32_t ordinal)
{
    uint32_t at;

    if (c->pin_count == 0) {
        return NULL;
    }
    at = pin_slot(c, site, entity, ordinal);
    return c->pins[at].epoch == c->pin_epoch ? &c->pins[at].pin : NULL;
}

static void insert_pin(struct sim_choices *c, const struct sim_pin *pin)
{
    struct sim_pin_slot *slot = &c->pins[pin_slot(c, pin->site, pin->entity, pin->ordinal)];

    c->pin_count += slot->epoch != c->pin_epoch;
    *slot = (struct sim_pin_slot){*pin, c->pin_epoch};
}

static void grow_pins(struct sim_choices *c)
{
    struct sim_pin_slot *old = c->pins;
    uint32_t old_room = c->pin_room;
    uint32_t old_epoch = c->pin_epoch;

    c->pin_room = old_room ? old_room * 2 : 64;
    c->pins = sim_xcalloc(c->pin_room, sizeof(*c->pins));
    c->pin_epoch = 1;
    c->pin_count = 0;
    for (uint32_t i = 0; i < old_room; i++) {
        if (old[i].epoch == old_epoch) {
            insert_pin(c, &old[i].pin);
        }
    }
    free(old);
}

/* --- settings ------------------------------------------------------------------------------------------- */

/* Under calm, and under replay of nothing, every answer is 0 whatever its ordinal: then nobody counts. */
static void settings_changed(struct sim_choices *c)
{
    bool zero = c->policy == SIM_POLICY_CALM || c->policy == SIM_POLICY_REPLAY;

    c->calm = zero && c->pin_count == 0 && !c->recording;
}

void sim_choice_set_policy(struct sim *sim, enum sim_policy policy)
{
    SIM_ASSERT_LT((size_t)policy, ARRAY_SIZE(policy_names));
    sim->choices.policy = policy;
    if (policy == SIM_POLICY_PCT && sim->choices.pct_depth == 0) {
        sim_choice_set_pct(sim, 3, 0);
    }
    settings_changed(&sim->choices);
}

enum sim_policy sim_choice_policy(const struct sim *sim)
{
    return sim->choices.policy;
}

static void draw_change_points(struct sim_choices *c, uint64_t steps);

static void set_seed(struct sim_choices *c, uint64_t seed)
{
    c->seed = seed;
    for (size_t i = 0; i < ARRAY_SIZE(sites); i++) {
        c->site_key[i] = sim_mix2(seed, sim_hash_str(sites[i].name));
    }
}

void sim_choice_set_seed(struct sim *sim, uint64_t seed)
{
    struct sim_choices *c = &sim->choices;

    set_seed(c, seed);
    if (c->pct_depth) {
        draw_change_points(c, c->pct_steps);
    }
}

uint64_t sim_choice_seed(const struct sim *sim)
{
    return sim->choices.seed;
}

void sim_choice_pin(struct sim *sim, const struct sim_pin *pin)
{
    struct sim_choices *c = &sim->choices;

    SIM_ASSERT(pin != NULL);
    SIM_ASSERT_LT((size_t)pin->site, SITE_COUNT);
    if (c->pin_count * 2 >= c->pin_room) {
        grow_pins(c);
    }
    insert_pin(c, pin);
    settings_changed(c);
}

void sim_choice_set_oracle(struct sim *sim, sim_oracle_fn *fn, void *opaque)
{
    sim->choices.oracle = fn;
    sim->choices.oracle_opaque = opaque;
}

void sim_choice_record(struct sim *sim, bool on)
{
    sim->choices.recording = on;
    settings_changed(&sim->choices);
}

size_t sim_choice_recorded(const struct sim *sim, const struct sim_pin **pins)
{
    SIM_ASSERT(pins != NULL);
    *pins = sim->choices.recorded;
    return sim->choices.recorded_count;
}

static void record(struct sim_choices *c, struct sim_pin pin)
{
    if (c->recorded_count == c->recorded_room) {
        c->recorded_room = c->recorded_room ? c->recorded_room * 2 : 256;
        c->recorded = sim_xrealloc(c->recorded, c->recorded_room * sizeof(*c->recorded));
    }
    c->recorded[c->recorded_count++] = pin;
}

/* --- PCT ------------------------------------------------------------------------------------------------ */

/*
 * Probabilistic concurrency testing: each task (entity) has a random priority, here a rank 0..2; at D-1 random
 * steps of the run the task whose event is scheduled falls to rank 3, below everybody, and stays there.
 */
#define PCT_STEPS_GUESS 1000

static void draw_change_points(struct sim_choices *c, uint64_t steps)
{
    uint32_t count = c->pct_depth - 1;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t hash = sim_mix2(c->site_key[SITE_sched_rank], UINT64_C(0x9c7000) + i);
        uint64_t at = (uint64_t)(((unsigned __int128)hash * steps) >> 64);
        uint32_t k = i;

        for (; k > 0 && c->pct_at[k - 1] > at; k--) {
            c->pct_at[k] = c->pct_at[k - 1];
        }
        c->pct_at[k] = at;
    }
}

void sim_choice_set_pct(struct sim *sim, uint32_t depth, uint64_t steps)
{
    struct sim_choices *c = &sim->choices;

    SIM_ASSERT_LE(1, depth);
    SIM_ASSERT_LE(depth, SIM_PCT_DEPTH_MAX);
    c->pct_depth = depth;
    c->pct_steps = steps ? steps : PCT_STEPS_GUESS;
    c->pct_next = 0;
    c->pct_lowered_count = 0;
    draw_change_points(c, c->pct_steps);
}

uint64_t sim_choice_schedule_steps(const struct sim *sim)
{
    return sim->choices.steps;
}

uint64_t sim_choice_schedule_tasks(const struct sim *sim)
{
    return sim->choices.tasks;
}

static uint32_t pct_rank(struct sim_choices *c, uint64_t entity)
{
    while (c->pct_next < c->pct_depth - 1 && c->pct_at[c->pct_next] < c->steps) {
        c->pct_next++;
        c->pct_lowered[c->pct_lowered_count++] = entity;
    }
    for (uint32_t i = 0; i < c->pct_lowered_count; i++) {
        if (c->pct_lowered[i] == entity) {
            return SIM_RANKS - 1;
        }
    }
    return (uint32_t)(sim_mix2(c->site_key[SITE_sched_rank] ^ UINT64_C(0x9c8), entity) % (SIM_RANKS - 1));
}

/* --- drawing -------------------------------------------------------------------------------------------- */

static uint64_t draw(const struct sim_choices *c, enum sim_site site, uint64_t entity, uint32_t ordinal, uint64_t n)
{
    uint64_t hash = sim_mix2(sim_mix2(c->site_key[site], entity), ordinal);

    return (uint64_t)(((unsigned __int128)hash * n) >> 64);
}

static uint32_t choose(struct sim_choices *c, enum sim_site site, uint64_t entity, uint32_t n)
{
    uint32_t ordinal = next_ordinal(c, site, entity);
    const struct sim_pin *pin = find_pin(c, site, entity, ordinal);
    uint32_t value = 0;

    if (n == 1) {
        return 0;
    }
    if (pin) {
        value = pin->value % n;
    } else if (c->policy == SIM_POLICY_PCT && site == SITE_sched_rank) {
        value = MIN(pct_rank(c, entity), n - 1);
    } else if (c->policy == SIM_POLICY_RANDOM || c->policy == SIM_POLICY_PCT) {
        value = (uint32_t)draw(c, site, entity, ordinal, n);
    } else if (c->policy == SIM_POLICY_EXHAUST) {
        SIM_ASSERT(c->oracle != NULL);
        value = c->oracle(c->oracle_opaque, site, entity, ordinal, n);
        SIM_ASSERT_LT(value, n);
    }
    if (c->recording && value != 0) {
        record(c, (struct sim_pin){site, entity, ordinal, value});
    }
    return value;
}

uint32_t sim_choose(struct sim *sim, enum sim_site site, uint64_t entity, uint32_t n)
{
    SIM_ASSERT_LT((size_t)site, SITE_COUNT);
    SIM_ASSERT_LE(1, n);
    if (sim->choices.calm) {
        return 0;
    }
    return choose(&sim->choices, site, entity, n);
}

uint64_t sim_draw(struct sim *sim, enum sim_site site, uint64_t entity, uint64_t n)
{
    struct sim_choices *c = &sim->choices;
    const struct sim_pin *pin;
    uint32_t ordinal;

    SIM_ASSERT_LT((size_t)site, SITE_COUNT);
    SIM_ASSERT(n >= 1);
    ordinal = next_ordinal(c, site, entity);
    pin = find_pin(c, site, entity, ordinal);
    return pin ? pin->value % n : draw(c, site, entity, ordinal, n);
}

uint32_t sim_choose_rank(struct sim *sim, uint64_t entity)
{
    sim->choices.steps++;
    if (sim->choices.calm) {
        return 0;
    }
    return choose(&sim->choices, SITE_sched_rank, entity, SIM_RANKS);
}

/* --- life ----------------------------------------------------------------------------------------------- */

/* Epoch 0 marks slots never used, so it is skipped; when the counter comes round the table is wiped. */
static void next_epoch(uint32_t *epoch, void *table, size_t size_bytes)
{
    if (++*epoch == 0) {
        if (size_bytes) {
            memset(table, 0, size_bytes);
        }
        *epoch = 1;
    }
}

void sim_choices_reset(struct sim_choices *c)
{
    next_epoch(&c->ordinal_epoch, c->ordinals, c->ordinal_room * sizeof(*c->ordinals));
    next_epoch(&c->pin_epoch, c->pins, c->pin_room * sizeof(*c->pins));
    c->ordinal_count = 0;
    c->pin_count = 0;
    c->recorded_count = 0;
    c->recording = false;
    c->policy = SIM_POLICY_CALM;
    set_seed(c, 0);
    c->steps = 0;
    c->tasks = 0;
    c->oracle = NULL;
    c->oracle_opaque = NULL;
    c->pct_depth = 0;
    c->pct_next = 0;
    c->pct_lowered_count = 0;
    settings_changed(c);
}

void sim_choices_free(struct sim_choices *c)
{
    free(c->ordinals);
    free(c->pins);
    free(c->recorded);
}
