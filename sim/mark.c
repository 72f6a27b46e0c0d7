/*
 * Marks: counters of rare paths.
 */
#include "sim/mark.h"

#include <string.h>

#include "sim/world.h"

static const struct {
    const char *name;
    const char *doc;
} marks[] = {
#define MARK(name, doc) {#name, doc},
#include "gen/marks.def"
#undef MARK
};

void sim_mark(struct sim *sim, enum sim_mark mark)
{
    SIM_ASSERT_LT((size_t)mark, MARK_COUNT);
    sim->marks[mark]++;
}

uint64_t sim_mark_hits(const struct sim *sim, enum sim_mark mark)
{
    SIM_ASSERT_LT((size_t)mark, MARK_COUNT);
    return sim->marks[mark];
}

const char *sim_mark_name(enum sim_mark mark)
{
    SIM_ASSERT_LT((size_t)mark, ARRAY_SIZE(marks));
    return marks[mark].name;
}

const char *sim_mark_doc(enum sim_mark mark)
{
    SIM_ASSERT_LT((size_t)mark, ARRAY_SIZE(marks));
    return marks[mark].doc;
}

int sim_mark_find(const char *name)
{
    SIM_ASSERT(name != NULL);
    for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
        if (strcmp(marks[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}
