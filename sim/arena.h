/*
 * Arenas: the memory of a world, typed and counted.
 *
 * Everything that lives in a world comes from its arena, a host's things from the host's sub-arena, a checker's
 * from the checkers' own. Objects are freed one by one with their type, so the census tells at any moment how
 * many of each are alive; what is alive at the end is a leak (checker `resources`). A reset drops everything at
 * the price of what was touched and keeps the memory for the next world (DESIGN 2.5, 2.6).
 *
 * Release builds reuse freed objects at once (free list per type or size class). Sanitizer builds poison them
 * and reuse none until the reset, so a use after free is always seen.
 *
 * Types are declared in each room's types.def: TYPE(tag, "what it is").
 */
#ifndef SIM_ARENA_H
#define SIM_ARENA_H

#include "sim/util.h"

enum sim_type {
#define TYPE(tag, doc) SIM_TYPE_##tag,
#include "gen/types.def"
#undef TYPE
    SIM_TYPE_COUNT,
};

struct sim_arena;

struct sim_arena *sim_arena_new(void);
void sim_arena_delete(struct sim_arena *arena);
/* Frees everything at once; the arena is as new but keeps its chunks. */
void sim_arena_reset(struct sim_arena *arena);
/* From now on memory handed out by sim_alloc_raw is filled with the byte (a determinism probe; zeroed calls ignore
 * it). Without this call raw memory holds whatever was there. */
void sim_arena_fill(struct sim_arena *arena, uint8_t byte);

/* Never NULL: running out of host memory ends the process. Memory is zeroed and 16-byte aligned. */
void *sim_alloc(struct sim_arena *arena, enum sim_type type, size_t size_bytes);
/* The same without zeroing. */
void *sim_alloc_raw(struct sim_arena *arena, enum sim_type type, size_t size_bytes);
/* size_bytes and type must be those of the allocation. NULL is fine. */
void sim_free(struct sim_arena *arena, enum sim_type type, void *ptr, size_t size_bytes);

#define SIM_NEW(arena, tag) ((tag *)sim_alloc(arena, SIM_TYPE_##tag, sizeof(tag)))
#define SIM_FREE(arena, tag, ptr) sim_free(arena, SIM_TYPE_##tag, ptr, sizeof(tag))
/* Arrays of n items counted under the tag; n is remembered by the caller. */
#define SIM_NEW_N(arena, tag, item, n) ((item *)sim_alloc(arena, SIM_TYPE_##tag, sizeof(item) * (size_t)(n)))
#define SIM_FREE_N(arena, tag, ptr, item, n) sim_free(arena, SIM_TYPE_##tag, ptr, sizeof(item) * (size_t)(n))

char *sim_strdup(struct sim_arena *arena, const char *str);
void sim_strfree(struct sim_arena *arena, char *str); /* NULL is fine */

/* Counts an object whose memory comes from elsewhere (coroutine stacks); sign is +1 or -1. */
void sim_arena_account(struct sim_arena *arena, enum sim_type type, size_t size_bytes, int sign);

/* Live objects and bytes now, and bytes at the peak since the last reset. */
uint64_t sim_arena_live(const struct sim_arena *arena, enum sim_type type);
uint64_t sim_arena_live_bytes(const struct sim_arena *arena);
uint64_t sim_arena_peak_bytes(const struct sim_arena *arena);
/* Bytes of chunks obtained from libc. */
uint64_t sim_arena_reserved_bytes(const struct sim_arena *arena);
const char *sim_type_name(enum sim_type type);
const char *sim_type_doc(enum sim_type type);

#endif
