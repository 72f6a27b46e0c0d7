/*
 * Choices: the only source of nondeterminism (DESIGN 2.3).
 *
 * sim_choose(sim, site, entity, n) answers 0..n-1; 0 is the calmest answer. The answer is a hash of (seed, site,
 * entity, ordinal of this question within that entity and site), so taking one step out of a scenario never
 * shifts the draws of another. An entity is a 64-bit key of something that survives edits: a step's label, a
 * disk's name, (job, operation, offset). Never a pointer, a counter of the world or a generated name.
 *
 * Sites are declared in each room's sites.def: SITE(tag, "room.name", "what is drawn").
 */
#ifndef SIM_CHOICE_H
#define SIM_CHOICE_H

#include "sim/error.h"

struct sim;

enum sim_site {
#define SITE(tag, name, doc) SITE_##tag,
#include "gen/sites.def"
#undef SITE
    SITE_COUNT,
};

enum sim_policy {
    SIM_POLICY_CALM,    /* always 0 */
    SIM_POLICY_RANDOM,  /* the hash */
    SIM_POLICY_PCT,     /* schedule sites by priorities with D-1 change points, the rest as random */
    SIM_POLICY_REPLAY,  /* a recorded list; what is not in it is 0 */
    SIM_POLICY_EXHAUST, /* an oracle supplied from outside (see sim_choice_set_oracle) */
};
const char *sim_policy_name(enum sim_policy policy);

const char *sim_site_name(enum sim_site site);
const char *sim_site_doc(enum sim_site site);
/* -1 when there is none of that name. */
int sim_site_find(const char *name);

/* One pinned or recorded choice. */
struct sim_pin {
    enum sim_site site;
    uint64_t entity;
    uint32_t ordinal;
    uint32_t value;
};

/* n >= 1; n == 1 answers 0 but counts the ordinal all the same. */
uint32_t sim_choose(struct sim *sim, enum sim_site site, uint64_t entity, uint32_t n);
/* The same, but the answer is drawn by the hash whatever the policy is (calm and replay included): for
 * generators and workloads, whose draws are content, not schedule. Pins apply. */
uint64_t sim_draw(struct sim *sim, enum sim_site site, uint64_t entity, uint64_t n);

void sim_choice_set_policy(struct sim *sim, enum sim_policy policy);
enum sim_policy sim_choice_policy(const struct sim *sim);
void sim_choice_set_seed(struct sim *sim, uint64_t seed);
uint64_t sim_choice_seed(const struct sim *sim);
/* Pins hold over any policy; a pin's value is taken modulo n. Copied. Ordinals under calm count from the first pin
 * or sim_choice_record on, so both are given before the run. REPLAY's recorded list is given as pins. */
void sim_choice_pin(struct sim *sim, const struct sim_pin *pin);
/* PCT: depth D >= 1, steps = number of schedulable events in the calm run (0: estimate 1000). */
void sim_choice_set_pct(struct sim *sim, uint32_t depth, uint64_t steps);
/* Number of schedulable events so far: what a calm run measures for PCT. */
uint64_t sim_choice_schedule_steps(const struct sim *sim);
/* Number of tasks (entities that had an event) so far under PCT. */
uint64_t sim_choice_schedule_tasks(const struct sim *sim);
/* EXHAUST: fn is asked for each choice with n > 1. */
typedef uint32_t sim_oracle_fn(void *opaque, enum sim_site site, uint64_t entity, uint32_t ordinal, uint32_t n);
void sim_choice_set_oracle(struct sim *sim, sim_oracle_fn *fn, void *opaque);
/* Recording: every answer other than 0 is appended; read it back for a replay scenario. */
void sim_choice_record(struct sim *sim, bool on);
size_t sim_choice_recorded(const struct sim *sim, const struct sim_pin **pins);
/* The rank 0..3 of an event about to be scheduled for `entity` (site sched.rank; PCT lives here). */
uint32_t sim_choose_rank(struct sim *sim, uint64_t entity);

#endif
