/*
 * What `run` writes while it runs: the full log, the short log, the JSON trace, and the stop for a debugger.
 *
 * The short log is what a person follows: steps as they were written, QMP events, refusals, faults, failed guest
 * requests, power, violations. One line each, told apart by a glyph:
 *
 *     >  a step          <  a command was refused     *  a QMP event
 *     !  a fault, or a guest request that failed      x  a checker's promise was broken
 */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/runner_int.h"

typedef size_t format_fn(struct sim *sim, const struct sim_record *r, char *buf, size_t room);

/* Events from `until` on are not to be seen, though the world may emit some before it can stop. */
static bool beyond(const struct runner *runner, const struct sim_record *r)
{
    return runner->options->until_event && r->number >= runner->options->until_event;
}

/* The record as text; caller frees. */
static char *formatted(struct runner *runner, const struct sim_record *r, format_fn *format)
{
    size_t length = format(runner->sim, r, NULL, 0);
    char *text = malloc(length + 1);

    SIM_ASSERT(text);
    format(runner->sim, r, text, length + 1);
    return text;
}

static void write_record(struct runner *runner, const struct sim_record *r, format_fn *format, FILE *out)
{
    char line[1024];
    char *text;

    if (beyond(runner, r)) {
        return;
    }
    if (format(runner->sim, r, line, sizeof(line)) < sizeof(line)) {
        fprintf(out, "%s\n", line);
        return;
    }
    text = formatted(runner, r, format);
    fprintf(out, "%s\n", text);
    free(text);
}

static void on_full(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    write_record(runner, r, sim_record_text, runner->options->log);
}

static void on_trace(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    write_record(runner, r, sim_record_json, runner->options->trace);
}

static void on_break(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    if (r->number == runner->options->break_event && !runner->broke) {
        runner->broke = true;
        fflush(NULL);
        raise(SIGTRAP); /* the debugger stands in the code that reports this event, some frames up */
    }
}

/* --- the short log ---------------------------------------------------------------------------------------- */

static char short_glyph(const struct sim_record *r)
{
    switch (r->kind) {
    case EV_step:
        return '>';
    case EV_violation:
        return 'x';
    case EV_qmp_reply:
        return sim_record_str(r, 1) ? '<' : '\0';
    case EV_guest_complete:
        return (int64_t)r->field[5] < 0 ? '!' : '\0';
    case EV_fault_armed:
    case EV_fault_fired:
    case EV_power_loss:
    case EV_host_crash:
        return '!';
    default:
        return sim_event_desc(r->kind)->qmp ? '*' : '\0';
    }
}

/* What stands behind the glyph; caller frees. */
static char *short_text(struct runner *runner, const struct sim_record *r)
{
    char *text = NULL, *all;
    bool labelled;

    switch (r->kind) {
    case EV_step:
        all = scn_step_print(runner->scn, runner->step); /* begins with the label, if it has one */
        labelled = runner->scn->steps[runner->step].label != NULL;
        if (asprintf(&text, "%s%s%s", labelled ? "" : sim_record_str(r, 0), labelled ? "" : ": ", all) < 0) {
            text = NULL;
        }
        break;
    case EV_violation:
        all = NULL;
        if (asprintf(&text, "%s: %s", sim_record_str(r, 0), sim_record_str(r, 2)) < 0) {
            text = NULL;
        }
        break;
    case EV_qmp_reply:
        all = NULL;
        if (asprintf(&text, "%s: %s: %s", sim_record_str(r, 0), sim_record_str(r, 1),
                     r->field[2] ? sim_record_str(r, 2) : "") < 0) {
            text = NULL;
        }
        break;
    default:
        all = formatted(runner, r, sim_record_text);
        text = strdup(strstr(all, sim_event_desc(r->kind)->name));
    }
    free(all);
    SIM_ASSERT(text);
    return text;
}

static void on_short(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;
    char glyph = short_glyph(r);
    char *text;

    if (!glyph || beyond(runner, r)) {
        return;
    }
    text = short_text(runner, r);
    fprintf(runner->options->log, "#%7" PRIu64 " %6" PRId64 ".%09" PRId64 " %c %s\n", r->number,
            r->time_ns / NS_PER_S, r->time_ns % NS_PER_S, glyph, text);
    free(text);
}

void run_log_attach(struct runner *runner)
{
    const struct run_options *options = runner->options;

    if (options->log && options->log_full) {
        sim_subscribe_all(runner->sim, on_full, runner);
    } else if (options->log) {
        sim_subscribe_all(runner->sim, on_short, runner);
    }
    if (options->trace) {
        sim_subscribe_all(runner->sim, on_trace, runner);
    }
    if (options->break_event) {
        sim_subscribe_all(runner->sim, on_break, runner);
    }
}
