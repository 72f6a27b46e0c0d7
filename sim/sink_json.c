/*
 * The JSON log: one object a line.
 *
 *     {"number":12,"time_ns":150000,"host":"h1","event":"disk_complete","data":{"disk":"src","req":3,"ret":-5}}
 *
 * Ids are strings of 16 hex digits, results integers (negative errno), durations nanoseconds; absent strings are
 * left out.
 */
#include <inttypes.h>
#include <string.h>

#include "sim/out.h"
#include "sim/world.h"

/* The value alone. */
void sim_record_field_json(struct sim_out *out, const struct sim_record *r, unsigned i)
{
    const struct sim_event_field *field = &sim_event_desc(r->kind)->field[i];
    uint64_t value = r->field[i];
    const char *str;

    switch (field->type) {
    case 'n':
        str = value ? sim_record_name(r, i)->str : "";
        out_json_str(out, str, strlen(str));
        break;
    case 's':
        str = value ? sim_record_str(r, i) : "";
        out_json_str(out, str, strlen(str));
        break;
    case 'o':
        str = sim_op_name((enum sim_op)value);
        out_json_str(out, str, strlen(str));
        break;
    case 'x':
        out_printf(out, "\"%016" PRIx64 "\"", value);
        break;
    case 'b':
        out_str(out, value ? "true" : "false");
        break;
    case 'u':
        out_printf(out, "%" PRIu64, value);
        break;
    default:
        out_printf(out, "%" PRId64, (int64_t)value);
        break;
    }
}

void sim_record_fields_json(struct sim_out *out, const struct sim_record *r)
{
    const struct sim_event_desc *desc = sim_event_desc(r->kind);
    bool first = true;

    out_str(out, "{");
    for (unsigned i = 0; i < r->field_count; i++) {
        if (desc->field[i].type == 's' && !r->field[i]) {
            continue;
        }
        out_str(out, first ? "" : ",");
        first = false;
        out_json_str(out, desc->field[i].name, strlen(desc->field[i].name));
        out_str(out, ":");
        sim_record_field_json(out, r, i);
    }
    out_str(out, "}");
}

size_t sim_record_json(struct sim *sim, const struct sim_record *r, char *buf, size_t room)
{
    struct sim_out out = {buf, room, 0};
    const char *host = sim_host_label(sim, r->host);

    out_printf(&out, "{\"number\":%" PRIu64 ",\"time_ns\":%" PRId64 ",\"host\":", r->number, r->time_ns);
    if (r->host) {
        out_json_str(&out, host, strlen(host));
    } else {
        out_str(&out, "null");
    }
    out_str(&out, ",\"event\":\"");
    out_str(&out, sim_event_desc(r->kind)->name);
    out_str(&out, "\",\"data\":");
    sim_record_fields_json(&out, r);
    out_str(&out, "}");
    return out_end(&out);
}

static void on_record(void *opaque, const struct sim_record *r)
{
    sim_write_line(opaque, r, sim_record_json);
}

void sim_sink_json(struct sim *sim, FILE *out)
{
    sim_subscribe_all(sim, on_record, sim_sink_new(sim, out));
}
