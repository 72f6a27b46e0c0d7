/*
 * Arenas: bump allocation in chunks, free lists per size class, a census per type.
 *
 * Release:    | object | object | free | object |......|   a freed object goes to the list of its size class
 * Sanitizers: | object |rz| freed (poisoned) |rz| ..... |   nothing is used twice before the reset
 *
 * Large objects get a block of their own: a chunk would waste its rest.
 */
#include "sim/arena.h"

#include <stdlib.h>
#include <string.h>

#include "sim/world.h"

#if SIM_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#endif

#define ALIGN 16
#define REDZONE (SIM_ASAN ? 16 : 0)
#define CLASS_MAX_BYTES 2048 /* a class every 16 bytes up to here */
#define CLASS_COUNT (CLASS_MAX_BYTES / ALIGN + 1)
#define LARGE_BYTES ((size_t)16 << 10) /* from here on: a block of its own */
#define BIG_CLASSES 4                  /* 4, 8, 16 KiB: between the small classes and the large blocks */
#define CHUNK_BYTES ((size_t)64 << 10)
#define CHUNK_MAX_BYTES ((size_t)1 << 20)
#define KEEP_BYTES ((size_t)32 << 20) /* chunks kept over a reset */

struct chunk {
    struct chunk *next;
    size_t room;
    size_t used;
    _Alignas(ALIGN) char bytes[];
};

struct large {
    struct large *next;
    struct large **link; /* what points here */
    size_t size_bytes;
    _Alignas(ALIGN) char bytes[];
};

struct free_object {
    struct free_object *next;
};

struct sim_arena {
    struct chunk *chunks; /* in order of use; those after `current` are empty */
    struct chunk *current;
    struct large *large;
    uint64_t live_bytes;
    uint64_t peak_bytes;
    uint64_t reserved_bytes;
    int fill; /* -1: raw memory is left as it is */
    bool lists_used;
    uint64_t live[SIM_TYPE_COUNT];
    struct free_object *free_small[CLASS_COUNT];
    struct free_object *free_big[BIG_CLASSES];
};

static const char *const type_names[] = {
#define TYPE(tag, doc) #tag,
#include "gen/types.def"
#undef TYPE
};

static const char *const type_docs[] = {
#define TYPE(tag, doc) doc,
#include "gen/types.def"
#undef TYPE
};

const char *sim_type_name(enum sim_type type)
{
    SIM_ASSERT_LT((size_t)type, ARRAY_SIZE(type_names));
    return type_names[type];
}

const char *sim_type_doc(enum sim_type type)
{
    SIM_ASSERT_LT((size_t)type, ARRAY_SIZE(type_docs));
    return type_docs[type];
}

struct sim_arena *sim_arena_new(void)
{
    struct sim_arena *arena = sim_xcalloc(1, sizeof(*arena));

    arena->fill = -1;
    return arena;
}

static void free_large(struct sim_arena *arena, struct large *block)
{
    *block->link = block->next;
    if (block->next) {
        block->next->link = block->link;
    }
    arena->reserved_bytes -= sizeof(*block) + block->size_bytes;
    ASAN_UNPOISON_MEMORY_REGION(block->bytes, block->size_bytes);
    free(block);
}

static void free_chunks(struct sim_arena *arena, struct chunk **from)
{
    while (*from) {
        struct chunk *chunk = *from;

        *from = chunk->next;
        arena->reserved_bytes -= sizeof(*chunk) + chunk->room;
        ASAN_UNPOISON_MEMORY_REGION(chunk->bytes, chunk->room);
        free(chunk);
    }
}

void sim_arena_delete(struct sim_arena *arena)
{
    if (!arena) {
        return;
    }
    while (arena->large) {
        free_large(arena, arena->large);
    }
    free_chunks(arena, &arena->chunks);
    SIM_ASSERT_EQ(arena->reserved_bytes, 0);
    free(arena);
}

void sim_arena_reset(struct sim_arena *arena)
{
    size_t kept = 0;
    struct chunk **link;

    SIM_ASSERT(arena != NULL);
    while (arena->large) {
        free_large(arena, arena->large);
    }
    for (link = &arena->chunks; *link && kept + (*link)->room <= KEEP_BYTES; link = &(*link)->next) {
        struct chunk *chunk = *link;

        kept += chunk->room;
        ASAN_POISON_MEMORY_REGION(chunk->bytes, chunk->used);
        chunk->used = 0;
    }
    free_chunks(arena, link);
    arena->current = arena->chunks;
    arena->live_bytes = 0;
    arena->peak_bytes = 0;
    memset(arena->live, 0, sizeof(arena->live));
    if (arena->lists_used) {
        memset(arena->free_small, 0, sizeof(arena->free_small));
        memset(arena->free_big, 0, sizeof(arena->free_big));
        arena->lists_used = false;
    }
}

void sim_arena_fill(struct sim_arena *arena, uint8_t byte)
{
    SIM_ASSERT(arena != NULL);
    arena->fill = byte;
}

/* --- where memory comes from ---------------------------------------------------------------------------- */

/* Size as allocated: what fits every object of its class. */
static size_t class_bytes(size_t size_bytes)
{
    size_t rounded = ROUND_UP(MAX(size_bytes, (size_t)1), ALIGN);

    if (rounded <= CLASS_MAX_BYTES) {
        return rounded;
    }
    for (rounded = CLASS_MAX_BYTES * 2; rounded < size_bytes; rounded *= 2) {
    }
    return rounded;
}

static struct free_object **free_list(struct sim_arena *arena, size_t rounded)
{
    size_t big;

    if (rounded <= CLASS_MAX_BYTES) {
        return &arena->free_small[rounded / ALIGN];
    }
    big = (size_t)(__builtin_ctzll(rounded) - __builtin_ctzll(CLASS_MAX_BYTES * 2));
    SIM_ASSERT_LT(big, BIG_CLASSES);
    return &arena->free_big[big];
}

static void *take_large(struct sim_arena *arena, size_t size_bytes)
{
    struct large *block = sim_xmalloc(sizeof(*block) + size_bytes);

    *block = (struct large){.next = arena->large, .link = &arena->large, .size_bytes = size_bytes};
    if (block->next) {
        block->next->link = &block->next;
    }
    arena->large = block;
    arena->reserved_bytes += sizeof(*block) + size_bytes;
    return block->bytes;
}

/* Moves on to a chunk with room, a kept one when there is one. */
static __attribute__((noinline)) void next_chunk(struct sim_arena *arena, size_t need)
{
    struct chunk *last = arena->current;
    struct chunk *chunk = last ? last->next : arena->chunks;

    if (!chunk) {
        size_t room = last ? MIN(last->room * 2, CHUNK_MAX_BYTES) : CHUNK_BYTES;

        chunk = sim_xmalloc(sizeof(*chunk) + room);
        *chunk = (struct chunk){.room = room};
        ASAN_POISON_MEMORY_REGION(chunk->bytes, room);
        arena->reserved_bytes += sizeof(*chunk) + room;
        *(last ? &last->next : &arena->chunks) = chunk;
    }
    SIM_ASSERT_EQ(chunk->used, 0);
    SIM_ASSERT_LE(need, chunk->room);
    arena->current = chunk;
}

static inline void *take(struct sim_arena *arena, size_t size_bytes)
{
    bool small = __builtin_expect(size_bytes - 1 < CLASS_MAX_BYTES, 1);
    size_t rounded = small ? ROUND_UP(size_bytes, ALIGN) : class_bytes(size_bytes);
    struct chunk *chunk = arena->current;
    void *ptr;

    if (!small && size_bytes > LARGE_BYTES) {
        return take_large(arena, size_bytes);
    }
    if (!SIM_ASAN) {
        struct free_object **list = small ? &arena->free_small[rounded / ALIGN] : free_list(arena, rounded);
        struct free_object *object = *list;

        if (object) {
            *list = object->next;
            return object;
        }
    }
    if (!chunk || chunk->room - chunk->used < rounded + REDZONE) {
        next_chunk(arena, rounded + REDZONE);
        chunk = arena->current;
    }
    ptr = chunk->bytes + chunk->used;
    chunk->used += rounded + REDZONE;
    ASAN_UNPOISON_MEMORY_REGION(ptr, size_bytes);
    return ptr;
}

/* --- objects -------------------------------------------------------------------------------------------- */

void sim_arena_account(struct sim_arena *arena, enum sim_type type, size_t size_bytes, int sign)
{
    SIM_ASSERT_LT((size_t)type, SIM_TYPE_COUNT);
    if (sign > 0) {
        arena->live[type]++;
        arena->live_bytes += size_bytes;
        arena->peak_bytes = MAX(arena->peak_bytes, arena->live_bytes);
        return;
    }
    SIM_ASSERT_LT(0, arena->live[type]);
    SIM_ASSERT_LE(size_bytes, arena->live_bytes);
    arena->live[type]--;
    arena->live_bytes -= size_bytes;
}

void *sim_alloc(struct sim_arena *arena, enum sim_type type, size_t size_bytes)
{
    void *ptr = take(arena, size_bytes);

    sim_arena_account(arena, type, size_bytes, 1);
    return memset(ptr, 0, size_bytes);
}

void *sim_alloc_raw(struct sim_arena *arena, enum sim_type type, size_t size_bytes)
{
    void *ptr = take(arena, size_bytes);

    sim_arena_account(arena, type, size_bytes, 1);
    if (__builtin_expect(arena->fill >= 0, 0)) {
        memset(ptr, arena->fill, size_bytes);
    }
    return ptr;
}

void sim_free(struct sim_arena *arena, enum sim_type type, void *ptr, size_t size_bytes)
{
    if (!ptr) {
        return;
    }
    sim_arena_account(arena, type, size_bytes, -1);
    if (SIM_ASAN) {
        /* The first byte tells a double free here, before the census of some other object is hurt. */
        SIM_UNUSED char probe = size_bytes ? *(volatile char *)ptr : 0;

        ASAN_POISON_MEMORY_REGION(ptr, size_bytes);
        return;
    }
    if (size_bytes > LARGE_BYTES) {
        struct large *block = container_of(ptr, struct large, bytes);

        SIM_ASSERT_EQ(block->size_bytes, size_bytes);
        free_large(arena, block);
        return;
    }
    struct free_object **list = free_list(arena, class_bytes(size_bytes));
    struct free_object *object = ptr;

    object->next = *list;
    *list = object;
    arena->lists_used = true;
}

char *sim_strdup(struct sim_arena *arena, const char *str)
{
    size_t size_bytes;

    SIM_ASSERT(str != NULL);
    size_bytes = strlen(str) + 1;
    return memcpy(sim_alloc_raw(arena, SIM_TYPE_str, size_bytes), str, size_bytes);
}

void sim_strfree(struct sim_arena *arena, char *str)
{
    if (str) {
        sim_free(arena, SIM_TYPE_str, str, strlen(str) + 1);
    }
}

uint64_t sim_arena_live(const struct sim_arena *arena, enum sim_type type)
{
    SIM_ASSERT_LT((size_t)type, SIM_TYPE_COUNT);
    return arena->live[type];
}

uint64_t sim_arena_live_bytes(const struct sim_arena *arena)
{
    return arena->live_bytes;
}

uint64_t sim_arena_peak_bytes(const struct sim_arena *arena)
{
    return arena->peak_bytes;
}

uint64_t sim_arena_reserved_bytes(const struct sim_arena *arena)
{
    return arena->reserved_bytes;
}
