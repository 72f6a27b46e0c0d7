/*
 * Interned names: one pointer for each string in a world.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/world.h"

static uint32_t find_slot(const struct sim_names *names, uint64_t hash, const char *str)
{
    uint32_t i = (uint32_t)hash & (names->room - 1);

    while (names->slot[i].epoch == names->epoch) {
        const struct sim_name *name = names->slot[i].name;

        if (name->hash == hash && strcmp(name->str, str) == 0) {
            break;
        }
        i = (i + 1) & (names->room - 1);
    }
    return i;
}

static void grow(struct sim_names *names)
{
    struct sim_names old = *names;

    names->room = old.room ? old.room * 2 : 64;
    names->slot = sim_xcalloc(names->room, sizeof(*names->slot));
    names->epoch = 1;
    for (uint32_t i = 0; i < old.room; i++) {
        if (old.slot[i].epoch == old.epoch) {
            const struct sim_name *name = old.slot[i].name;

            names->slot[find_slot(names, name->hash, name->str)] = (struct sim_name_slot){name, names->epoch};
        }
    }
    free(old.slot);
}

const struct sim_name *sim_name(struct sim *sim, const char *str)
{
    struct sim_names *names = &sim->names;
    struct sim_name *name;
    uint64_t hash;
    uint32_t at;

    SIM_ASSERT(str != NULL);
    if (names->count * 2 >= names->room) {
        grow(names);
    }
    hash = sim_hash_str(str);
    at = find_slot(names, hash, str);
    if (names->slot[at].epoch == names->epoch) {
        return names->slot[at].name;
    }
    name = sim_alloc(sim->own_arena, SIM_TYPE_str, sizeof(*name));
    name->hash = hash;
    name->str = sim_strdup(sim->own_arena, str);
    names->slot[at] = (struct sim_name_slot){name, names->epoch};
    names->count++;
    return name;
}
