/*
 * Drawing a fault out of the registry: whatever is listed there can be drawn, arguments by their types and names.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "faults/fault.h"
#include "scenario/gen.h"

struct fault_draw {
    struct gen *gen;
    const char *what;
    const struct fault_class *fault;
    const struct fault_arg *arg;
    const char *const *disks;
    size_t disk_count;
    int64_t bytes;
    struct scn_text line;
};

/* The name of a decision about the argument in hand. */
static const char *decision(const struct fault_draw *f, char buf[96], const char *of)
{
    snprintf(buf, 96, "%s.%s.%s%s", f->what, f->fault->name, f->arg->name, of);
    return buf;
}

static bool named(const struct fault_draw *f, const char *name)
{
    return strcmp(f->arg->name, name) == 0;
}

static void put(struct fault_draw *f, const char *value)
{
    scn_text_char(&f->line, ' ');
    scn_text_str(&f->line, f->arg->name);
    scn_text_char(&f->line, '=');
    scn_text_str(&f->line, value);
}

/* Counts are small, so that what fails once mostly works the next time. */
static void put_int(struct fault_draw *f, const char *what)
{
    char value[32];
    int64_t number = named(f, "nth") ? gen_scale(f->gen, what, 6) : gen_range(f->gen, what, 1, 3);

    snprintf(value, sizeof(value), "%" PRId64, number);
    put(f, value);
}

static void put_size(struct fault_draw *f, const char *what)
{
    int64_t sectors = MAX(f->bytes / SIM_SECTOR_BYTES, (int64_t)1);
    int64_t value = (int64_t)gen_draw(f->gen, what, (uint64_t)sectors) * SIM_SECTOR_BYTES;
    char buf[24];

    put(f, sim_format_size(named(f, "offset") ? value : MAX(value, 64 * KiB), buf));
}

static void put_text(struct fault_draw *f, const char *what)
{
    static const char *const kinds[] = {
        "pause,resume,speed",    "pause,resume,speed",       "pause,resume", "speed",
        "pause,resume,complete", "pause,resume,soft-cancel", "any"};
    size_t count = 0;

    if (named(f, "job")) {
        put(f, f->gen->storm_job ? f->gen->storm_job : "m");
    } else if (named(f, "kinds")) {
        put(f, gen_pick(f->gen, what, kinds, ARRAY_SIZE(kinds)));
    } else if (f->arg->choices) {
        while (f->arg->choices[count]) {
            count++;
        }
        put(f, gen_pick(f->gen, what, f->arg->choices, count));
    }
}

static void put_value(struct fault_draw *f)
{
    static const char *const ops[] = {"read",         "read",    "write",     "write",    "write", "write-zeroes",
                                      "block-status", "discard", "getlength", "get-info", "flush"};
    static const char *const errors[] = {"EIO", "EIO", "ENOSPC"};
    char name[96];
    const char *what = decision(f, name, "");
    char buf[32];

    switch (f->arg->type) {
    case FAULT_DISK:
        put(f, gen_pick(f->gen, what, f->disks, f->disk_count));
        return;
    case FAULT_OP:
        put(f, gen_pick(f->gen, what, ops, ARRAY_SIZE(ops)));
        return;
    case FAULT_ERRNO:
        put(f, gen_pick(f->gen, what, errors, ARRAY_SIZE(errors)));
        return;
    case FAULT_BOOL:
        put(f, gen_draw(f->gen, what, 2) ? "on" : "off");
        return;
    case FAULT_TIME:
        put(f, sim_format_time(gen_time(f->gen, what, 14), buf));
        return;
    case FAULT_PERMILLE:
        snprintf(buf, sizeof(buf), "%" PRId64, gen_range(f->gen, what, 1, 10) * 100);
        put(f, buf);
        return;
    case FAULT_INT:
        put_int(f, what);
        return;
    case FAULT_SIZE:
        put_size(f, what);
        return;
    case FAULT_STR:
        put_text(f, what);
        return;
    }
}

/* How often an optional argument is given, in a thousand. What bounds a fault mostly is: a rule without end would
 * keep a job busy until the end of the scenario. */
static unsigned chance_of(const struct fault_draw *f)
{
    static const struct {
        const char *name;
        unsigned permille;
    } chances[] = {{"nth", 1000},   {"count", 1000}, {"disk", 1000}, {"release-after", 900}, {"relief-after", 900},
                   {"kinds", 1000}, {"sticky", 100}, {"host", 0},    {"relief", 0},          {"origin", 150}};

    for (size_t i = 0; i < ARRAY_SIZE(chances); i++) {
        if (named(f, chances[i].name) && !f->arg->required) {
            return chances[i].permille;
        }
    }
    if (f->arg->required) {
        return 1000;
    }
    return f->arg->type == FAULT_SIZE || f->arg->type == FAULT_PERMILLE ? 100 : 400;
}

static const struct fault_class *pick_class(struct gen *gen, const char *what)
{
    const struct fault_class *classes[32];
    size_t count = 0;

    for (size_t i = 0; fault_at(i) && count < ARRAY_SIZE(classes); i++) {
        if (fault_at(i)->detect_only || fault_at(i)->ends_host) {
            continue;
        }
        classes[count++] = fault_at(i);
        /* failing requests are what most of the code under test is about */
        for (int more = 0; more < 3 && strcmp(fault_at(i)->name, "error") == 0 && count < ARRAY_SIZE(classes);
             more++) {
            classes[count++] = fault_at(i);
        }
    }
    return count ? classes[gen_draw(gen, what, count)] : NULL;
}

char *gen_fault(struct gen *gen, const char *what, const char *const *disks, size_t disk_count, int64_t bytes)
{
    struct fault_draw f = {.gen = gen, .what = what, .disks = disks, .disk_count = disk_count, .bytes = bytes};

    f.fault = pick_class(gen, what);
    if (!f.fault) {
        return NULL;
    }
    scn_text_str(&f.line, "fault ");
    scn_text_str(&f.line, f.fault->name);
    for (f.arg = f.fault->args; f.arg && f.arg->name; f.arg++) {
        char name[96];

        if (gen_draw(gen, decision(&f, name, "?"), 1000) < chance_of(&f)) {
            put_value(&f);
        }
    }
    return f.line.bytes;
}
