/*
 * The event stream: what every layer reports, as typed records. Log, trace hash, checkers, timeline and QMP
 * events only subscribe (DESIGN 1, 4).
 *
 * Each room declares its kinds in its events.def:
 *
 *     EVENT(kind, qmp, flags, "doc", "field:type field:type ...")
 *
 * kind: a C identifier, the name in logs. qmp: the QMP event name as a string literal, or NULL when clients do
 * not see it. flags: 0 or SIM_EVENT_UNHASHED (diagnostics that exist only with checkers on). Field types:
 *
 *     n  name        const struct sim_name *      s  string     const char *, may be NULL (absent)
 *     u  unsigned    uint64_t                     i  signed     int64_t
 *     x  id          uint64_t, shown in hex       e  result     int, negative errno, 0 or positive
 *     b  bool                                     o  operation  enum sim_op
 *     t  duration    int64_t nanoseconds
 *
 * At most SIM_EVENT_FIELDS fields. A string field that is NULL is absent: not in the JSON form of a QMP event.
 *
 * The hash takes kind, host, time and fields in a fixed little-endian encoding; names and strings by content,
 * never by address. `ref` is not part of the record: a pointer to the object concerned, valid during the call,
 * for subscribers that look at the real thing through const accessors.
 */
#ifndef SIM_EVENT_H
#define SIM_EVENT_H

#include <stdio.h>

#include "sim/util.h"

struct sim;
struct host;

#define SIM_EVENT_FIELDS 8
#define SIM_EVENT_UNHASHED 1u

enum sim_event_kind {
#define EVENT(kind, qmp, flags, doc, fields) EV_##kind,
#include "gen/events.def"
#undef EVENT
    EV_COUNT,
};

/* What a request does; one enum for media, nodes and guests. */
enum sim_op {
    SIM_OP_READ,
    SIM_OP_WRITE,
    SIM_OP_WRITE_ZEROES,
    SIM_OP_DISCARD,
    SIM_OP_FLUSH,
    SIM_OP_TRUNCATE,
    SIM_OP_GETLENGTH,
    SIM_OP_GET_INFO,
    SIM_OP_BLOCK_STATUS,
    SIM_OP_OPEN,
    SIM_OP_CREATE,
    SIM_OP_COUNT,
};
const char *sim_op_name(enum sim_op op); /* "write-zeroes" */
bool sim_op_parse(const char *text, enum sim_op *out);

/* An interned name: the content hash is what goes into the trace. Lives as long as the world. */
struct sim_name {
    uint64_t hash;
    const char *str;
};

struct sim_record {
    uint64_t number; /* 1, 2, ... among the hashed events of this world; an unhashed one repeats the last */
    int64_t time_ns;
    enum sim_event_kind kind;
    uint32_t host; /* host number; 0 = the world */
    uint32_t field_count;
    uint64_t field[SIM_EVENT_FIELDS];
    const void *ref;
};

struct sim_event_field {
    char name[24];
    char type;
};

struct sim_event_desc {
    const char *name;
    const char *qmp; /* or NULL */
    const char *doc;
    uint32_t flags;
    uint32_t field_count;
    struct sim_event_field field[SIM_EVENT_FIELDS];
};
const struct sim_event_desc *sim_event_desc(enum sim_event_kind kind);
/* By log name or QMP name; -1 when there is none. */
int sim_event_find(const char *name);

static inline const char *sim_record_str(const struct sim_record *r, unsigned i)
{
    return (const char *)(uintptr_t)r->field[i];
}
static inline const struct sim_name *sim_record_name(const struct sim_record *r, unsigned i)
{
    return (const struct sim_name *)(uintptr_t)r->field[i];
}
/* Field `i` as text into buf (never NULL-terminated short: truncates). Returns buf. */
const char *sim_record_field_text(const struct sim_record *r, unsigned i, char *buf, size_t room);

/* Arguments of SIM_EMIT: pointers travel as integers. */
#define SIM_P(ptr) ((uint64_t)(uintptr_t)(ptr))

/* host may be NULL (the world itself). */
void sim_emit(struct sim *sim, struct host *host, enum sim_event_kind kind, const void *ref, const uint64_t *fields,
              unsigned count);
#define SIM_EMIT(sim, host, kind, ref, ...) \
    do { \
        const uint64_t fields_[] = {__VA_ARGS__}; \
        sim_emit(sim, host, EV_##kind, ref, fields_, (unsigned)ARRAY_SIZE(fields_)); \
    } while (0)

/* Subscribers are called in order of subscription, during the emit; they may not yield, wait or change state. */
typedef void sim_event_fn(void *opaque, const struct sim_record *record);
void sim_subscribe(struct sim *sim, enum sim_event_kind kind, sim_event_fn *fn, void *opaque);
void sim_subscribe_all(struct sim *sim, sim_event_fn *fn, void *opaque);
void sim_unsubscribe(struct sim *sim, sim_event_fn *fn, void *opaque);

/* Hash of all hashed events so far, XXH3-64 of their encodings. */
uint64_t sim_trace_hash(struct sim *sim);
uint64_t sim_event_count(const struct sim *sim);

/* Ready-made sinks. Each writes to a stream that the caller keeps open until the world is gone. */
void sim_sink_text(struct sim *sim, FILE *out); /* one fixed-width line an event */
void sim_sink_json(struct sim *sim, FILE *out); /* one object a line */

/* Chrome trace-event JSON, opens in Perfetto: a process for each host, a track for each disk, job, guest and node,
 * spans from disk_submit to disk_complete, instants for the rest. `end` closes the spans still open and the JSON
 * array; call it before the world is reset or deleted. */
void sim_sink_timeline(struct sim *sim, FILE *out);
void sim_sink_timeline_end(struct sim *sim);

/* One line in the text sink's form, without newline. Returns the length that a large enough buf would hold. */
size_t sim_record_text(struct sim *sim, const struct sim_record *r, char *buf, size_t room);
/* One JSON object in the JSON sink's form. */
size_t sim_record_json(struct sim *sim, const struct sim_record *r, char *buf, size_t room);

#endif
