/*
 * Marks: proof that a rare path was reached. SIM_MARK(sim, name) counts; a sweep reports the marks never hit.
 *
 * Each room lists its marks in its marks.def: MARK(name, "what was reached, and why it matters").
 */
#ifndef SIM_MARK_H
#define SIM_MARK_H

#include <stdint.h>

struct sim;

enum sim_mark {
#define MARK(name, doc) MARK_##name,
#include "gen/marks.def"
#undef MARK
    MARK_COUNT,
};

#define SIM_MARK(sim, name) sim_mark(sim, MARK_##name)

void sim_mark(struct sim *sim, enum sim_mark mark);
uint64_t sim_mark_hits(const struct sim *sim, enum sim_mark mark);
const char *sim_mark_name(enum sim_mark mark);
const char *sim_mark_doc(enum sim_mark mark);
int sim_mark_find(const char *name); /* -1 when there is none */

#endif
