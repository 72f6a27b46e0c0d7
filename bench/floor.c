/*
 * The primitives of the floors, each as bare as it can be.
 */
#include "bench/floor.h"

#include <stdlib.h>
#include <string.h>

#include "sim/util.h"

const struct floor_counts floor_standard = {4500, 3000, 3000, 1100, 800, 3600, 12000, 0};
const struct floor_counts floor_short = {138, 70, 40, 26, 20, 90, 280, 1};

/* --- switching: Boost.Context as it comes ------------------------------------------------------------------- */

typedef void *fcontext_t;
typedef struct {
    fcontext_t context;
    void *data;
} transfer_t;
transfer_t jump_fcontext(fcontext_t to, void *data);
fcontext_t make_fcontext(void *stack_top, size_t size, void (*fn)(transfer_t));

#define STACK_BYTES 65536
static fcontext_t coroutine;

static void bounce(transfer_t t)
{
    for (;;) {
        t = jump_fcontext(t.context, t.data);
    }
}

static uint64_t do_switches(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        transfer_t t = jump_fcontext(coroutine, (void *)(uintptr_t)i);

        coroutine = t.context;
        sum += (uintptr_t)t.data;
    }
    return sum;
}

/* --- events: a 4-ary heap of keys, a FIFO --------------------------------------------------------------------- */

#define HEAP_ITEMS 64
struct key {
    uint64_t time, order;
};
static struct key heap[HEAP_ITEMS];

static bool key_less(const struct key *a, const struct key *b)
{
    return a->time != b->time ? a->time < b->time : a->order < b->order;
}

static void sift_down(struct key item)
{
    unsigned at = 0;

    for (;;) {
        unsigned child = at * 4 + 1;
        unsigned best = child;

        if (child >= HEAP_ITEMS) {
            break;
        }
        for (unsigned i = child + 1; i < child + 4 && i < HEAP_ITEMS; i++) {
            best = key_less(&heap[i], &heap[best]) ? i : best;
        }
        if (!key_less(&heap[best], &item)) {
            break;
        }
        heap[at] = heap[best];
        at = best;
    }
    heap[at] = item;
}

static uint64_t do_heap(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        struct key item = heap[0];

        sum += item.time;
        item.time += 20000 + (sim_mix64(i) & 0xffff);
        item.order = i;
        sift_down(item);
    }
    return sum;
}

static uint64_t do_fifo(unsigned n)
{
    static void *ring[256];
    unsigned head = 0, tail = 0;
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        ring[head++ & 255] = (void *)(uintptr_t)i;
        sum += (uintptr_t)ring[tail++ & 255];
        __asm__ volatile("" ::: "memory");
    }
    return sum;
}

/* --- data: references to counted pages --------------------------------------------------------------------- */

#define DISK_PAGES 16384
struct bare_page {
    uint32_t refs;
    uint32_t pad;
    uint64_t stamp[8];
};
static struct bare_page *pages;
static struct bare_page **source, **target;

static uint64_t do_copy(unsigned n, unsigned page_count)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        unsigned first = (i * 16) % DISK_PAGES;

        for (unsigned p = 0; p < page_count; p++) {
            struct bare_page *page = source[first + p];

            target[first + p]->refs--;
            page->refs++;
            target[first + p] = page;
        }
        sum += first;
    }
    return sum;
}

/* --- bitmaps, hashing, reset --------------------------------------------------------------------------------- */

static uint64_t do_bitmap(unsigned n)
{
    static uint64_t words[DISK_PAGES / 16 / 64 + 1];
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        unsigned bit = (unsigned)(sim_mix64(i) % (DISK_PAGES / 16));

        words[bit / 64] ^= UINT64_C(1) << bit % 64;
        sum += words[bit / 64] != 0;
    }
    return sum;
}

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;

    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t do_hash(unsigned n)
{
    uint64_t h = 1;

    for (unsigned i = 0; i < n; i++) {
        h = fold(h ^ i ^ UINT64_C(0x9e3779b97f4a7c15), (uint64_t)i * 3 + UINT64_C(0xbf58476d1ce4e5b9));
        h = fold(h ^ (uint64_t)i * 7, UINT64_C(0x94d049bb133111eb) + i);
    }
    return h;
}

#define EPOCH_SLOTS 256
static uint64_t do_reset(unsigned n)
{
    static struct {
        uint32_t epoch;
        void *leaf[64];
    } table[EPOCH_SLOTS];
    static uint32_t epoch;
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        epoch++;
        for (unsigned w = 0; w < 64; w++) {
            uint64_t at = sim_mix64(w + epoch);
            unsigned slot = at % EPOCH_SLOTS;

            if (table[slot].epoch != epoch) {
                memset(table[slot].leaf, 0, sizeof(table[slot].leaf));
                table[slot].epoch = epoch;
            }
            table[slot].leaf[at >> 58] = &pages[w];
            sum += slot;
        }
    }
    return sum;
}

void floor_setup(void)
{
    void *stack = malloc(STACK_BYTES);

    pages = calloc(2 * DISK_PAGES, sizeof(*pages));
    source = calloc(DISK_PAGES, sizeof(*source));
    target = calloc(DISK_PAGES, sizeof(*target));
    SIM_ASSERT(stack && pages && source && target);
    coroutine = make_fcontext((char *)stack + STACK_BYTES, STACK_BYTES, bounce);
    for (unsigned i = 0; i < DISK_PAGES; i++) {
        source[i] = &pages[i];
        target[i] = &pages[DISK_PAGES + i];
    }
    for (unsigned i = 0; i < HEAP_ITEMS; i++) {
        heap[i] = (struct key){i * 1000u, i};
    }
}

uint64_t floor_run(const struct floor_counts *counts)
{
    uint64_t sum = do_switches(counts->switches);

    sum += do_heap(counts->heap_events);
    sum += do_fifo(counts->fifo_events);
    sum += do_copy(counts->copies, 16);
    sum += do_copy(counts->transfers, 8);
    sum += do_bitmap(counts->bitmap_ops);
    sum += do_hash(counts->hash_records);
    sum += do_reset(counts->world_resets);
    return sum;
}
