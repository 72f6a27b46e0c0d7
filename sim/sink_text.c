/*
 * The text log: one line an event, fixed columns first.
 *
 *     #     12      0.000150000 h1       disk_complete          disk=src req=3 op=write offset=0 bytes=512 ret=-EIO
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sim/out.h"
#include "sim/qvalue.h"
#include "sim/world.h"

const char *sim_record_field_text(const struct sim_record *r, unsigned i, char *buf, size_t room)
{
    const struct sim_event_desc *desc = sim_event_desc(r->kind);
    struct sim_out out = {buf, room, 0};
    uint64_t value = r->field[i];
    char time[32];

    SIM_ASSERT_LT(i, r->field_count);
    switch (desc->field[i].type) {
    case 'n':
        out_str(&out, value ? sim_record_name(r, i)->str : "");
        break;
    case 's':
        out_str(&out, value ? sim_record_str(r, i) : "");
        break;
    case 'u':
        out_printf(&out, "%" PRIu64, value);
        break;
    case 'i':
        out_printf(&out, "%" PRId64, (int64_t)value);
        break;
    case 'x':
        out_printf(&out, "%016" PRIx64, value);
        break;
    case 'e':
        if ((int64_t)value < 0) {
            const char *name = sim_errno_name((int)(int64_t)value);

            out_str(&out, "-");
            out_str(&out, name);
        } else {
            out_printf(&out, "%" PRIu64, value);
        }
        break;
    case 'b':
        out_str(&out, value ? "true" : "false");
        break;
    case 'o':
        out_str(&out, sim_op_name((enum sim_op)value));
        break;
    case 't':
        out_str(&out, sim_format_time((int64_t)value, time));
        break;
    }
    out_end(&out);
    return buf;
}

/* Text that a reader could take for two fields, or that leaves the line, is quoted as in JSON. */
static bool needs_quotes(const char *text)
{
    if (*text == '\0') {
        return true;
    }
    for (; *text; text++) {
        if ((unsigned char)*text <= ' ' || *text == '"' || *text == '\\' || (unsigned char)*text >= 0x7f) {
            return true;
        }
    }
    return false;
}

static void write_field(struct sim_out *out, const struct sim_record *r, unsigned i)
{
    const struct sim_event_field *field = &sim_event_desc(r->kind)->field[i];
    char text[64];

    if (field->type == 's' && !r->field[i]) {
        return;
    }
    out_str(out, " ");
    out_str(out, field->name);
    out_str(out, "=");
    if (field->type == 's' || field->type == 'n') {
        const char *str = field->type == 's' ? sim_record_str(r, i)
                          : r->field[i]      ? sim_record_name(r, i)->str
                                             : "-";

        if (needs_quotes(str)) {
            out_json_str(out, str, strlen(str));
        } else {
            out_str(out, str);
        }
        return;
    }
    out_str(out, sim_record_field_text(r, i, text, sizeof(text)));
}

size_t sim_record_text(struct sim *sim, const struct sim_record *r, char *buf, size_t room)
{
    struct sim_out out = {buf, room, 0};
    const char *host = sim_host_label(sim, r->host);

    out_printf(&out, "#%7" PRIu64 " %6" PRId64 ".%09" PRId64 " ", r->number, r->time_ns / NS_PER_S,
               r->time_ns % NS_PER_S);
    out_str(&out, host);
    for (size_t width = strlen(host); width < 8; width++) {
        out_str(&out, " ");
    }
    out_printf(&out, " %-22s", sim_event_desc(r->kind)->name);
    for (unsigned i = 0; i < r->field_count; i++) {
        write_field(&out, r, i);
    }
    return out_end(&out);
}

void sim_write_line(struct sim_sink *sink, const struct sim_record *r,
                    size_t (*format)(struct sim *sim, const struct sim_record *r, char *buf, size_t room))
{
    char line[1024];
    char *text = line;
    size_t length = format(sink->sim, r, line, sizeof(line));

    if (length >= sizeof(line)) {
        text = sim_xmalloc(length + 1);
        format(sink->sim, r, text, length + 1);
    }
    text[length] = '\n'; /* in place of the NUL */
    fwrite(text, 1, length + 1, sink->out);
    if (text != line) {
        free(text);
    }
}

static void on_record(void *opaque, const struct sim_record *r)
{
    sim_write_line(opaque, r, sim_record_text);
}

void sim_sink_text(struct sim *sim, FILE *out)
{
    sim_subscribe_all(sim, on_record, sim_sink_new(sim, out));
}
