/*
 * The timeline: Chrome trace-event JSON, for Perfetto or chrome://tracing.
 *
 * A host is a process; a disk, job, guest or node is a track, named on first use. Requests of a medium overlap, and
 * spans of one track may only nest, so a busy disk spreads over lanes: "disk src", "disk src (2)", ...
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
    uint64_t request; /* of the open span */
    bool open;
    struct sim_record begin;
};

struct timeline {
    struct track *track; /* thread id of a track is its index + 1 */
    uint32_t count;
    uint32_t room;
    bool comma;
    bool ended;
};

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
    write_object(sink, meta_body,
                 &(struct meta){"thread_name", host, i + 1, kind ? kind->str : NULL, name ? name->str : "events", lane});
    return i;
}

struct shown {
    const struct sim_record *record; /* whose fields become args */
    const struct sim_record *begin;  /* NULL: an instant */
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

    if (shown->begin) {
        title = sim_op_name((enum sim_op)shown->begin->field[2]);
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

static void end_span(struct sim_sink *sink, const struct sim_record *r, const struct sim_name *kind,
                     const struct sim_name *name)
{
    struct timeline *line = sink->state;

    for (uint32_t i = 0; i < line->count; i++) {
        struct track *track = &line->track[i];

        if (track->open && track->kind == kind && track->name == name && track->request == r->field[1]) {
            track->open = false;
            write_object(sink, shown_body, &(struct shown){r, &track->begin, track->host, i + 1, r->time_ns});
            return;
        }
    }
}

static void on_record(void *opaque, const struct sim_record *r)
{
    struct sim_sink *sink = opaque;
    struct timeline *line = sink->state;
    const struct sim_name *kind;
    const struct sim_name *name = subject(sink->sim, r, &kind);
    /* A medium belongs to no host: its track stands under the world, whoever asks. */
    bool of_disk = r->kind == EV_disk_submit || r->kind == EV_disk_complete;
    uint32_t at;

    if (line->ended) {
        return;
    }
    if (r->kind == EV_disk_complete) {
        end_span(sink, r, kind, name);
        return;
    }
    at = find_track(sink, of_disk ? 0 : r->host, kind, name, r->kind == EV_disk_submit);
    if (r->kind == EV_disk_submit) {
        struct track *track = &line->track[at];

        track->open = true;
        track->request = r->field[1];
        track->begin = *r;
        return;
    }
    write_object(sink, shown_body, &(struct shown){r, NULL, r->host, at + 1, r->time_ns});
}

static void finish(struct sim_sink *sink)
{
    struct timeline *line = sink->state;

    if (line->ended) {
        return;
    }
    for (uint32_t i = 0; i < line->count; i++) {
        struct track *track = &line->track[i];

        if (track->open) {
            track->open = false;
            write_object(sink, shown_body,
                         &(struct shown){&track->begin, &track->begin, track->host, i + 1, sink->sim->now_ns});
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
