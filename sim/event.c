/*
 * Emitting events: the trace hash and the subscribers.
 *
 * The encoding that is hashed is words of eight little-endian bytes: kind (hash of its name, so that a new kind in
 * the table changes nothing) plus host number, time, then the fields; names and strings by the hash of their
 * content. Words gather in a buffer and go to XXH3 4 KiB at a time.
 */
#include "sim/event.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "sim/world.h"

#define NULL_STRING UINT64_C(0x5f6e756c6c5f7372)

void sim_events_init(struct sim *sim)
{
    struct sim_events *ev = &sim->events;

    for (unsigned kind = 0; kind < EV_COUNT; kind++) {
        const struct sim_event_desc *desc = sim_event_desc(kind);
        struct sim_event_code *code = &ev->code[kind];

        code->tag = sim_hash_str(desc->name);
        code->count = (uint8_t)desc->field_count;
        code->hashed = !(desc->flags & SIM_EVENT_UNHASHED);
        for (unsigned i = 0; i < desc->field_count; i++) {
            code->names |= (uint8_t)((desc->field[i].type == 'n') << i);
            code->strings |= (uint8_t)((desc->field[i].type == 's') << i);
        }
    }
    ev->hash = XXH3_createState();
    ev->hash_copy = XXH3_createState();
    SIM_ASSERT(ev->hash != NULL && ev->hash_copy != NULL);
    XXH3_64bits_reset(ev->hash);
}

void sim_events_reset(struct sim *sim)
{
    struct sim_events *ev = &sim->events;

    SIM_ASSERT_EQ(ev->emitting, 0);
    for (unsigned kind = 0; kind < EV_COUNT; kind++) {
        ev->code[kind].subs.count = 0;
    }
    while (ev->sinks) {
        struct sim_sink *sink = ev->sinks;

        ev->sinks = sink->next;
        if (sink->end) {
            sink->end(sink);
        }
        free(sink);
    }
    ev->count = 0;
    ev->words = 0;
    ev->holes = false;
    XXH3_64bits_reset(ev->hash);
}

void sim_events_free(struct sim *sim)
{
    SIM_ASSERT(sim->events.sinks == NULL);
    for (unsigned kind = 0; kind < EV_COUNT; kind++) {
        free(sim->events.code[kind].subs.item);
    }
    XXH3_freeState(sim->events.hash);
    XXH3_freeState(sim->events.hash_copy);
}

struct sim_sink *sim_sink_new(struct sim *sim, FILE *out)
{
    struct sim_sink *sink = sim_xcalloc(1, sizeof(*sink));

    SIM_ASSERT(out != NULL);
    sink->sim = sim;
    sink->out = out;
    sink->next = sim->events.sinks;
    sim->events.sinks = sink;
    return sink;
}

/* --- subscribers ---------------------------------------------------------------------------------------- */

void sim_subscribe(struct sim *sim, enum sim_event_kind kind, sim_event_fn *fn, void *opaque)
{
    struct sim_subscribers *subs;

    SIM_ASSERT_LT((size_t)kind, EV_COUNT);
    SIM_ASSERT(fn != NULL);
    subs = &sim->events.code[kind].subs;
    if (subs->count == subs->room) {
        subs->room = subs->room ? subs->room * 2 : 4;
        subs->item = sim_xrealloc(subs->item, subs->room * sizeof(*subs->item));
    }
    subs->item[subs->count++] = (struct sim_subscriber){fn, opaque};
}

void sim_subscribe_all(struct sim *sim, sim_event_fn *fn, void *opaque)
{
    for (unsigned kind = 0; kind < EV_COUNT; kind++) {
        sim_subscribe(sim, kind, fn, opaque);
    }
}

static void close_holes(struct sim_events *ev)
{
    for (unsigned kind = 0; kind < EV_COUNT; kind++) {
        struct sim_subscribers *subs = &ev->code[kind].subs;
        uint32_t kept = 0;

        for (uint32_t i = 0; i < subs->count; i++) {
            if (subs->item[i].fn) {
                subs->item[kept++] = subs->item[i];
            }
        }
        subs->count = kept;
    }
    ev->holes = false;
}

void sim_unsubscribe(struct sim *sim, sim_event_fn *fn, void *opaque)
{
    struct sim_events *ev = &sim->events;

    for (unsigned kind = 0; kind < EV_COUNT; kind++) {
        struct sim_subscribers *subs = &ev->code[kind].subs;

        for (uint32_t i = 0; i < subs->count; i++) {
            if (subs->item[i].fn == fn && subs->item[i].opaque == opaque) {
                subs->item[i].fn = NULL;
                ev->holes = true;
            }
        }
    }
    /* A list may be in the middle of being called: its places stay until that is over. */
    if (ev->holes && ev->emitting == 0) {
        close_holes(ev);
    }
}

static __attribute__((noinline)) void call_subscribers(struct sim *sim, const struct sim_record *record)
{
    struct sim_events *ev = &sim->events;
    struct sim_subscribers *subs = &ev->code[record->kind].subs;

    ev->emitting++;
    for (uint32_t i = 0; i < subs->count; i++) {
        /* Copied: a subscription made inside may move the list. */
        struct sim_subscriber subscriber = subs->item[i];

        if (subscriber.fn) {
            subscriber.fn(subscriber.opaque, record);
        }
    }
    if (--ev->emitting == 0 && ev->holes) {
        close_holes(ev);
    }
}

/* --- emitting ------------------------------------------------------------------------------------------- */

static uint64_t content_of(const struct sim_event_code *code, unsigned i, uint64_t field)
{
    if (code->names >> i & 1) {
        const struct sim_name *name = (const struct sim_name *)(uintptr_t)field;

        return name ? name->hash : NULL_STRING;
    }
    if (code->strings >> i & 1) {
        const char *str = (const char *)(uintptr_t)field;

        return str ? sim_hash_str(str) : NULL_STRING;
    }
    return field;
}

static void encode(struct sim *sim, const struct sim_event_code *code, uint32_t host, const uint64_t *fields)
{
    struct sim_events *ev = &sim->events;
    unsigned pointers = code->names | code->strings;
    uint64_t *word;

    if (ev->words + 2 + code->count > SIM_EVENT_WORDS) {
        XXH3_64bits_update(ev->hash, ev->word, ev->words * sizeof(ev->word[0]));
        ev->words = 0;
    }
    word = &ev->word[ev->words];
    ev->words += 2u + code->count;
    *word++ = htole64(code->tag + host);
    *word++ = htole64((uint64_t)sim->now_ns);
    for (unsigned i = 0; i < code->count; i++) {
        *word++ = htole64(pointers >> i & 1 ? content_of(code, i, fields[i]) : fields[i]);
    }
}

void sim_emit(struct sim *sim, struct host *host, enum sim_event_kind kind, const void *ref, const uint64_t *fields,
              unsigned count)
{
    const struct sim_event_code *code = &sim->events.code[kind];
    uint32_t number = host ? host->number : 0;

    SIM_ASSERT_LT((size_t)kind, EV_COUNT);
    SIM_ASSERT_EQ(count, code->count);
    if (code->hashed) {
        sim->events.count++;
        encode(sim, code, number, fields);
    }
    if (code->subs.count) {
        struct sim_record record = {
            .number = sim->events.count,
            .time_ns = sim->now_ns,
            .kind = kind,
            .host = number,
            .field_count = count,
            .ref = ref,
        };

        memcpy(record.field, fields, count * sizeof(fields[0]));
        call_subscribers(sim, &record);
    }
}

uint64_t sim_trace_hash(struct sim *sim)
{
    struct sim_events *ev = &sim->events;

    XXH3_copyState(ev->hash_copy, ev->hash);
    XXH3_64bits_update(ev->hash_copy, ev->word, ev->words * sizeof(ev->word[0]));
    return XXH3_64bits_digest(ev->hash_copy);
}

uint64_t sim_event_count(const struct sim *sim)
{
    return sim->events.count;
}
