/*
 * The timeline: Chrome trace-event JSON, for Perfetto or chrome://tracing.
 *
 * A host is a process; a disk, job, guest or node is a track, named on first use. What begins with X_submit or
 * X_begin and ends with X_complete or X_end is a span; so is the time between two changes of a `status`. Spans of
 * one track may only nest, and requests overlap, so whatever is busy spreads over lanes: "disk src", "disk src
 * (2)", ...
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sim/out.h"
#include "sim/world.h"

struct track {
    uint32_t host;
    const struct sim_name *kind;
    const struct sim_name *name;
    uint32_t lane;
    bool open;
    uint64_t key;                 /* of the open span */
    const struct sim_name *title; /* of the open span */
    struct sim_record begin;
};

/* What a kind of event does to spans. */
enum span_role { SPAN_NONE, SPAN_OPENS, SPAN_CLOSES, SPAN_STATE };
struct span_kind {
    enum span_role role;
    int key_field;            /* -1: none */
    int op_field;             /* gives the title, -1: the stem does */
    enum sim_event_kind twin; /* the other end */
    char stem[40];
};

struct timeline {
    struct span_kind kinds[EV_COUNT];
    struct track *track; /* thread id of a track is its index + 1 */
    uint32_t count;
    uint32_t room;
    bool comma;
    bool ended;
};

static int field_index(const struct sim_event_desc *desc, const char *name, char type)
{
    for (unsigned i = 0; i < desc->field_count; i++) {
        if ((!name || strcmp(desc->field[i].name, name) == 0) && desc->field[i].type == type) {
            return (int)i;
        }
    }
    return -1;
}

/* "disk_submit" with ending "_submit" and other "_complete": the kind disk_complete, or -1. */
static int twin_of(const char *name, const char *ending, const char *other, char *stem, size_t room)
{
    size_t length = strlen(name);
    size_t tail = strlen(ending);
    char twin[64];

    if (length <= tail || length >= room || strcmp(name + length - tail, ending) != 0) {
        return -1;
    }
    snprintf(stem, room, "%.*s", (int)(length - tail), name);
    snprintf(twin, sizeof(twin), "%s%s", stem, other);
    return sim_event_find(twin);
}

/* Requests are told apart by their number, operations by their offset. */
static int key_of(const struct sim_event_desc *desc)
{
    int request = field_index(desc, "req", 'u');
    int id = request >= 0 ? request : field_index(desc, "id", 'u');

    return id >= 0 ? id : field_index(desc, "offset", 'u');
}

static void learn_kinds(struct timeline *line)
{
    static const char *const endings[][2] = {{"_submit", "_complete"}, {"_begin", "_end"}};

    for (int kind = 0; kind < EV_COUNT; kind++) {
        const struct sim_event_desc *desc = sim_event_desc((enum sim_event_kind)kind);
        struct span_kind *span = &line->kinds[kind];

        for (size_t e = 0; e < ARRAY_SIZE(endings); e++) {
            int twin = twin_of(desc->name, endings[e][0], endings[e][1], span->stem, sizeof(span->stem));

            if (twin >= 0) {
                span->role = SPAN_OPENS;
                span->key_field = key_of(desc);
                span->op_field = field_index(desc, NULL, 'o');
                line->kinds[twin].role = SPAN_CLOSES;
                line->kinds[twin].twin = (enum sim_event_kind)kind;
                line->kinds[twin].key_field = key_of(sim_event_desc((enum sim_event_kind)twin));
            }
        }
        if (span->role == SPAN_NONE && field_index(desc, "status", 's') >= 0) {
            span->role = SPAN_STATE;
            span->key_field = -1;
            span->op_field = -1;
        }
    }
}

/* A piece of JSON in text form: an event object's rest after the phase. */
static void write_object(struct sim_sink *sink, void (*body)(struct sim_out *out, const void *opaque),
                         const void *opaque)
{
    struct timeline *line = sink->state;
    char small[1024];
    struct sim_out out = {small, sizeof(small), 0};

    body(&out, opaque);
    if (out_end(&out) >= sizeof(small)) {
        out = (struct sim_out){sim_xmalloc(out.length + 1), out.length + 1, 0};
        body(&out, opaque);
        out_end(&out);
    }
    fputs(line->comma ? ",\n" : "\n", sink->out);
    fputs(out.buf, sink->out);
    line->comma = true;
    if (out.buf != small) {
        free(out.buf);
    }
}

struct meta {
    const char *what; /* "process_name" or "thread_name" */
    uint32_t pid;
    uint32_t tid;
    const char *kind; /* or NULL */
    const char *name;
    uint32_t lane;
};

static void meta_body(struct sim_out *out, const void *opaque)
{
    const struct meta *meta = opaque;
    char text[256];
    char lane[16] = "";

    if (meta->lane) {
        snprintf(lane, sizeof(lane), " (%" PRIu32 ")", meta->lane + 1);
    }
    snprintf(text, sizeof(text), "%s%s%s%s", meta->kind ? meta->kind : "", meta->kind ? " " : "", meta->name, lane);
    out_printf(out, "{\"ph\":\"M\",\"name\":\"%s\",\"pid\":%" PRIu32 ",\"tid\":%" PRIu32 ",\"args\":{\"name\":",
               meta->what, meta->pid, meta->tid);
    out_json_str(out, text, strlen(text));
    out_str(out, "}}");
}

/* A free lane (or the first, for instants) of the thing named; made and announced when there is none. */
static uint32_t find_track(struct sim_sink *sink, uint32_t host, const struct sim_name *kind,
                           const struct sim_name *name, bool must_be_free)
{
    struct timeline *line = sink->state;
    uint32_t lane = 0;
    bool host_known = false;
    uint32_t i;

    for (i = 0; i < line->count; i++) {
        struct track *track = &line->track[i];

        host_known |= track->host == host;
        if (track->host != host || track->kind != kind || track->name != name) {
            continue;
        }
        if (!must_be_free || !track->open) {
            return i;
        }
        lane++;
    }
    if (line->count == line->room) {
        line->room = line->room ? line->room * 2 : 16;
        line->track = sim_xrealloc(line->track, line->room * sizeof(*line->track));
    }
    line->track[line->count++] = (struct track){.host = host, .kind = kind, .name = name, .lane = lane};
    if (!host_known) {
        const char *label = host ? sim_host_label(sink->sim, host) : "world";

        write_object(sink, meta_body, &(struct meta){"process_name", host, 0, NULL, label, 0});
    }
    write_object(
        sink, meta_body,
        &(struct meta){"thread_name", host, i + 1, kind ? kind->str : NULL, name ? name->str : "events", lane});
    return i;
}

struct shown {
    const struct sim_record *record; /* whose fields become args */
    const struct sim_record *begin;  /* NULL: an instant */
    const struct sim_name *title;    /* NULL: the kind's name */
    uint32_t pid;
    uint32_t tid;
    int64_t end_ns;
};

static void shown_body(struct sim_out *out, const void *opaque)
{
    const struct shown *shown = opaque;
    const struct sim_record *first = shown->begin ? shown->begin : shown->record;
    const char *title = sim_event_desc(shown->record->kind)->name;
    int64_t length_ns = shown->end_ns - first->time_ns;

    if (shown->title) {
        title = shown->title->str;
    }
    out_printf(out, "{\"ph\":\"%s\",\"pid\":%" PRIu32 ",\"tid\":%" PRIu32 ",\"ts\":%" PRId64 ".%03" PRId64,
               shown->begin ? "X" : "i", shown->pid, shown->tid, first->time_ns / 1000, first->time_ns % 1000);
    if (shown->begin) {
        out_printf(out, ",\"dur\":%" PRId64 ".%03" PRId64, length_ns / 1000, length_ns % 1000);
    } else {
        out_str(out, ",\"s\":\"t\"");
    }
    out_str(out, ",\"name\":");
    out_json_str(out, title, strlen(title));
    out_str(out, ",\"args\":");
    sim_record_fields_json(out, shown->record);
    out_str(out, "}");
}

/* What an event is about, by the first field with one of these names. */
static const struct sim_name *subject(struct sim *sim, const struct sim_record *r, const struct sim_name **kind)
{
    static const char *const kinds[] = {"disk", "job", "device", "id", "guest", "node"};
    const struct sim_event_desc *desc = sim_event_desc(r->kind);

    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (unsigned i = 0; i < r->field_count; i++) {
            char type = desc->field[i].type;

            if (strcmp(desc->field[i].name, kinds[k]) != 0 || (type != 'n' && type != 's') || !r->field[i]) {
                continue;
            }
            *kind = sim_name(sim, k == 2 || k == 3 ? "job" : kinds[k]);
            return type == 'n' ? sim_record_name(r, i) : sim_name(sim, sim_record_str(r, i));
        }
    }
    *kind = NULL;
    return NULL;
}

static uint64_t span_key(const struct span_kind *span, const struct sim_record *r)
{
    return span->key_field >= 0 ? r->field[span->key_field] : 0;
}

static void close_track(struct sim_sink *sink, uint32_t at, const struct sim_record *args, int64_t end_ns)
{
    struct timeline *line = sink->state;
    struct track *track = &line->track[at];

    track->open = false;
    write_object(sink, shown_body, &(struct shown){args, &track->begin, track->title, track->host, at + 1, end_ns});
}

/* The span that this record ends: same subject, opened by the twin, same key. The newest one, so that drains nest.
 */
static void end_span(struct sim_sink *sink, const struct sim_record *r, const struct sim_name *kind,
                     const struct sim_name *name)
{
    struct timeline *line = sink->state;
    const struct span_kind *span = &line->kinds[r->kind];
    int64_t found = -1;

    for (uint32_t i = 0; i < line->count; i++) {
        struct track *track = &line->track[i];

        if (track->open && track->kind == kind && track->name == name && track->begin.kind == span->twin &&
            track->key == span_key(span, r) &&
            (found < 0 || line->track[found].begin.number < track->begin.number)) {
            found = i;
        }
    }
    if (found >= 0) {
        close_track(sink, (uint32_t)found, r, r->time_ns);
    }
}

static void open_span(struct sim_sink *sink, const struct sim_record *r, uint32_t at, const struct sim_name *title)
{
    struct timeline *line = sink->state;
    struct track *track = &line->track[at];

    track->open = true;
    track->key = span_key(&line->kinds[r->kind], r);
    track->title = title;
    track->begin = *r;
}

/* From one status to the next: a lane of its own, whose first span is there from the first status on. */
static void change_state(struct sim_sink *sink, const struct sim_record *r, const struct sim_name *name)
{
    struct timeline *line = sink->state;
    const struct sim_event_desc *desc = sim_event_desc(r->kind);
    const char *status = sim_record_str(r, (unsigned)field_index(desc, "status", 's'));
    uint32_t at = find_track(sink, r->host, sim_name(sink->sim, "state of"), name, false);

    if (line->track[at].open) {
        /* strings of the old record may be gone: the new one speaks for the change */
        close_track(sink, at, r, r->time_ns);
    }
    if (status && strcmp(status, "null") != 0) {
        open_span(sink, r, at, sim_name(sink->sim, status));
    }
}

static void on_record(void *opaque, const struct sim_record *r)
{
    struct sim_sink *sink = opaque;
    struct timeline *line = sink->state;
    const struct span_kind *span = &line->kinds[r->kind];
    const struct sim_name *kind;
    const struct sim_name *name = subject(sink->sim, r, &kind);
    /* A medium belongs to no host: its track stands under the world, whoever asks. */
    bool of_disk = r->kind == EV_disk_submit || r->kind == EV_disk_complete;
    uint32_t at;

    if (line->ended) {
        return;
    }
    if (span->role == SPAN_CLOSES) {
        end_span(sink, r, kind, name);
        return;
    }
    if (span->role == SPAN_STATE && name) {
        change_state(sink, r, name);
        return;
    }
    at = find_track(sink, of_disk ? 0 : r->host, kind, name, span->role == SPAN_OPENS);
    if (span->role == SPAN_OPENS) {
        const char *title = span->op_field >= 0 ? sim_op_name((enum sim_op)r->field[span->op_field]) : span->stem;

        open_span(sink, r, at, sim_name(sink->sim, title));
        return;
    }
    write_object(sink, shown_body, &(struct shown){r, NULL, NULL, r->host, at + 1, r->time_ns});
}

static void finish(struct sim_sink *sink)
{
    struct timeline *line = sink->state;

    if (line->ended) {
        return;
    }
    for (uint32_t i = 0; i < line->count; i++) {
        if (line->track[i].open) {
            struct sim_record begin = line->track[i].begin;

            begin.field_count = 0; /* its strings may be gone */
            close_track(sink, i, &begin, sink->sim->now_ns);
        }
    }
    fputs("\n]}\n", sink->out);
    line->ended = true;
}

static void timeline_free(struct sim_sink *sink)
{
    struct timeline *line = sink->state;

    free(line->track);
    free(line);
}

void sim_sink_timeline(struct sim *sim, FILE *out)
{
    struct sim_sink *sink = sim_sink_new(sim, out);

    sink->state = sim_xcalloc(1, sizeof(struct timeline));
    learn_kinds(sink->state);
    sink->end = timeline_free;
    fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[", out);
    sim_subscribe_all(sim, on_record, sink);
}

void sim_sink_timeline_end(struct sim *sim)
{
    for (struct sim_sink *sink = sim->events.sinks; sink; sink = sink->next) {
        if (sink->end == timeline_free) {
            finish(sink);
        }
    }
}
