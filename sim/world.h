/*
 * The inside of a world: private to sim/, other rooms use sim/sim.h.
 *
 * Everything a world owns hangs here. What is recycled between worlds (coroutine stacks, table memory, chunks)
 * stays across sim_reset; tables that must come back empty carry an epoch, so that a reset costs what was touched.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdio.h>

#include "sim/coroutine.h"
#include "sim/sim.h"

#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#endif
#ifndef SIM_ASAN
#define SIM_ASAN 0
#endif

/* --- queue (queue.c) ------------------------------------------------------------------------------------ */

#define SIM_RANKS 4
#define SIM_SEQ_BITS 62

struct sim_heap_entry {
    unsigned __int128 order; /* time, then key */
    struct sim_timer *timer;
};

struct sim_queue {
    struct sim_heap_entry *heap; /* 4-ary, smallest (time, key) at 0 */
    uint32_t heap_count;
    uint32_t heap_room;
    struct {
        struct sim_timer *head;
        struct sim_timer *tail;
    } now[SIM_RANKS];  /* due at the present instant, one FIFO a rank */
    uint32_t now_mask; /* bit r: now[r] is not empty */
    uint64_t seq;
    uint64_t work; /* queued timers that are not idle */
    uint64_t total;
};

/* The next timer to run, or NULL; it stays queued. */
struct sim_timer *sim_queue_peek(struct sim *sim);
void sim_queue_remove(struct sim *sim, struct sim_timer *timer);
/* Forgets the timers of one host, or all (host 0). */
void sim_queue_drop_host(struct sim *sim, uint32_t host);
void sim_queue_drop_all(struct sim *sim);

/* --- choices (choice.c) --------------------------------------------------------------------------------- */

struct sim_ordinal {
    uint64_t entity;
    uint32_t site;
    uint32_t epoch; /* another epoch than the table's: empty */
    uint32_t next;
};

struct sim_pin_slot {
    struct sim_pin pin;
    uint32_t epoch;
};

#define SIM_PCT_DEPTH_MAX 64

struct sim_choices {
    enum sim_policy policy;
    bool calm; /* every answer is 0 and nobody counts */
    bool recording;
    uint64_t seed;
    uint64_t site_key[SITE_COUNT]; /* of seed and site name: a new site in the table shifts nobody's draws */
    uint64_t steps;
    uint64_t tasks;
    struct sim_ordinal *ordinals;
    uint32_t ordinal_count;
    uint32_t ordinal_room; /* power of two or 0 */
    uint32_t ordinal_epoch;
    struct sim_pin_slot *pins;
    uint32_t pin_count;
    uint32_t pin_room;
    uint32_t pin_epoch;
    struct sim_pin *recorded;
    size_t recorded_count;
    size_t recorded_room;
    sim_oracle_fn *oracle;
    void *oracle_opaque;
    uint32_t pct_depth; /* 0: not set */
    uint32_t pct_next;  /* change points passed */
    uint32_t pct_lowered_count;
    uint64_t pct_steps;
    uint64_t pct_at[SIM_PCT_DEPTH_MAX];      /* change points, ascending */
    uint64_t pct_lowered[SIM_PCT_DEPTH_MAX]; /* entities whose priority fell */
};

void sim_choices_reset(struct sim_choices *choices);
void sim_choices_free(struct sim_choices *choices);

/* --- events (event.c) ----------------------------------------------------------------------------------- */

#define SIM_EVENT_WORDS 512 /* 4 KiB of encoded records between two calls of the hash */

struct sim_subscriber {
    sim_event_fn *fn; /* NULL: unsubscribed during an emit */
    void *opaque;
};

struct sim_subscribers {
    struct sim_subscriber *item;
    uint32_t count;
    uint32_t room;
};

/* What an emit needs of its kind, in one cache line. */
struct sim_event_code {
    uint64_t tag; /* hash of the kind's name */
    struct sim_subscribers subs;
    uint8_t count;   /* fields */
    uint8_t names;   /* bit i: field i is a name */
    uint8_t strings; /* bit i: field i is a string */
    bool hashed;
};

/* A ready-made sink: freed with the world's subscribers. */
struct sim_sink {
    struct sim *sim;
    FILE *out;
    void (*end)(struct sim_sink *sink); /* frees what the sink holds; NULL when nothing */
    void *state;
    struct sim_sink *next;
};

struct sim_events {
    uint64_t count; /* hashed records */
    uint32_t words;
    uint32_t emitting; /* nested emits under way */
    bool holes;        /* a subscriber left during an emit */
    void *hash;        /* XXH3_state_t */
    void *hash_copy;
    struct sim_sink *sinks;
    struct sim_event_code code[EV_COUNT];
    uint64_t word[SIM_EVENT_WORDS];
};

void sim_events_init(struct sim *sim);
void sim_events_reset(struct sim *sim);
void sim_events_free(struct sim *sim);
/* The world owns the sink; out is borrowed. */
struct sim_sink *sim_sink_new(struct sim *sim, FILE *out);
/* One formatted record and a newline; of any length. */
void sim_write_line(struct sim_sink *sink, const struct sim_record *r,
                    size_t (*format)(struct sim *sim, const struct sim_record *r, char *buf, size_t room));
struct sim_out;
void sim_record_field_json(struct sim_out *out, const struct sim_record *r, unsigned i); /* the value alone */
void sim_record_fields_json(struct sim_out *out, const struct sim_record *r); /* an object of all fields */

/* --- coroutines (coroutine.c) --------------------------------------------------------------------------- */

struct sim_coroutines {
    Coroutine *current;
    Coroutine *live_head; /* in order of creation */
    Coroutine *live_tail;
    uint64_t live_count;
    Coroutine *pool;
    uint32_t mapped;        /* stacks ever made: colours them */
    void *loop;             /* the event loop's side of a switch (back end) */
    const void *loop_stack; /* sanitizers: the stack of sim_run's caller */
    size_t loop_stack_bytes;
    void *loop_fake;
};

/* Forgets the coroutines of one host, or all (host 0), without running them. */
void sim_coroutines_drop(struct sim *sim, uint32_t host);
void sim_coroutines_free(struct sim *sim);

/* --- names (names.c) ------------------------------------------------------------------------------------ */

struct sim_name_slot {
    const struct sim_name *name;
    uint32_t epoch;
};

struct sim_names {
    struct sim_name_slot *slot;
    uint32_t count;
    uint32_t room;
    uint32_t epoch;
};

/* --- the world ------------------------------------------------------------------------------------------ */

struct sim {
    int64_t now_ns;
    struct sim_queue queue;
    uint64_t steps;
    uint64_t steps_at_now; /* events run at this instant, for livelock */
    uint64_t limit_steps;
    int64_t limit_ns;
    bool running;
    bool halted;
    struct sim_choices choices;
    struct sim_coroutines co;
    struct sim_names names;
    struct sim_arena *arena;
    struct sim_arena *check_arena;
    struct sim_arena *own_arena; /* names and hosts: live as long as the world, in nobody's census */
    struct host *hosts;          /* alive, in order of creation */
    struct host **all_hosts;     /* by number - 1, dead ones included */
    uint32_t host_count;
    uint32_t host_room;
    struct sim_arena **spare_arenas;
    uint32_t spare_count;
    uint32_t spare_room;
    uint64_t marks[MARK_COUNT];
    struct {
        const struct sim_ext_ops *ops;
        void *state;
    } ext[SIM_EXT_COUNT];
    struct sim_events events;
};

/* hosts (host.c) */
void sim_hosts_drop(struct sim *sim);
const char *sim_host_label(const struct sim *sim, uint32_t number); /* "-" for the world */

/* libc memory that never fails (util.c) */
void *sim_xmalloc(size_t size_bytes);
void *sim_xcalloc(size_t count, size_t size_bytes);
void *sim_xrealloc(void *ptr, size_t size_bytes);

#endif
