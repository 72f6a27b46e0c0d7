/*
 * Steps to canonical text: arguments in the order of the verb's table, the rest in the order in which it was given.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/lang.h"

static void print_prefix(struct scn_text *out, const struct scn_step *step)
{
    char buf[32];

    if (step->label) {
        scn_text_str(out, step->label);
        scn_text_str(out, ": ");
    }
    if (step->delay != SCN_DELAY_NONE) {
        scn_text_char(out, step->delay == SCN_DELAY_RELATIVE ? '+' : '@');
        scn_text_str(out, sim_format_time(step->delay_ns, buf));
        scn_text_char(out, ' ');
    }
    if (step->host) {
        scn_text_str(out, "on ");
        scn_text_str(out, step->host);
        scn_text_char(out, ' ');
    }
    if (step->try_) {
        scn_text_str(out, "try ");
    }
}

static void print_arg(struct scn_text *out, const struct scn_arg_def *def, const struct qvalue *value)
{
    if (def->type == SCN_VALUE) {
        scn_pair_print(out, def->name, value);
        return;
    }
    scn_text_char(out, ' ');
    if (!def->positional) {
        scn_text_str(out, def->name);
        if (def->type == SCN_FLAG) {
            return;
        }
        scn_text_char(out, def->name[0] == '-' ? ' ' : '=');
    }
    scn_typed_print(out, def, value);
}

/* All that stand in one comma list: -o cluster_size=64k,lazy_refcounts=on. Names and words need no quotes there. */
static void print_within(struct scn_text *out, const struct scn_step *step, const char *option)
{
    bool any = false;

    for (const struct scn_arg_def *def = step->verb->args; def->name; def++) {
        const struct qvalue *value = qdict_get(step->args, def->name);

        if (!value || !def->within || strcmp(def->within, option) != 0) {
            continue;
        }
        scn_text_char(out, any ? ',' : ' ');
        if (!any) {
            scn_text_str(out, option);
            scn_text_char(out, ' ');
        }
        scn_text_str(out, def->name);
        scn_text_char(out, '=');
        if (value->type == QVALUE_STR) {
            scn_text_str(out, value->str.bytes);
        } else {
            scn_typed_print(out, def, value);
        }
        any = true;
    }
}

/* Positional arguments first, then the options, as people write them; for io and view the options come first, as in
 * qemu-io: there an option's name starts with '-'. */
static bool comes_first(const struct scn_step *step, const struct scn_arg_def *def)
{
    if (def->name[0] == '-') {
        return true;
    }
    return def->positional && def == step->verb->args;
}

static void print_args(struct scn_text *out, const struct scn_step *step, bool skip_first)
{
    const struct scn_arg_def *first = skip_first ? step->verb->args : NULL;

    for (int round = 0; round < 3; round++) {
        for (const struct scn_arg_def *def = step->verb->args; def->name; def++) {
            const struct qvalue *value = qdict_get(step->args, def->name);
            int in = comes_first(step, def) ? 0 : def->positional ? 1 : 2;

            if (def->within) {
                bool first_of_list = def == step->verb->args || def[-1].within != def->within;

                if (round == 0 && first_of_list) {
                    print_within(out, step, def->within);
                }
            } else if (value && in == round && def != first) {
                print_arg(out, def, value);
            }
        }
    }
    for (size_t i = 0; i < step->args->seq.count; i++) {
        if (!scn_verb_arg(step->verb, step->args->seq.keys[i])) {
            scn_pair_print(out, step->args->seq.keys[i], step->args->seq.items[i]);
        }
    }
}

static void print_step(struct scn_text *out, const struct scn_step *step)
{
    print_prefix(out, step);
    if (step->verb->form == SCN_FORM_JSON) {
        char *json = qvalue_to_json(qdict_get(step->args, "json"));

        scn_text_str(out, json);
        free(json);
        return;
    }
    if (step->verb->form == SCN_FORM_WORLD && strncmp(step->verb->name, "io ", 3) == 0) {
        scn_text_str(out, "io ");
        scn_text_str(out, qdict_get(step->args, "guest")->str.bytes);
        scn_text_str(out, step->verb->name + 2);
        print_args(out, step, true);
        return;
    }
    scn_text_str(out, step->verb->name);
    print_args(out, step, false);
}

char *scn_step_print(const struct scenario *scn, size_t index)
{
    struct scn_text out = {.bytes = NULL};

    SIM_ASSERT_LT(index, scn->step_count);
    print_step(&out, &scn->steps[index]);
    return out.bytes;
}

static void print_settings(struct scn_text *out, const struct scenario *scn)
{
    static const char *const schedules[] = {"calm", "random", "pct", "replay"};
    char buf[96];

    snprintf(buf, sizeof(buf), "blksim %d\n", scn->version);
    scn_text_str(out, buf);
    if (scn->seed) {
        snprintf(buf, sizeof(buf), "seed %" PRIu64 "\n", scn->seed);
        scn_text_str(out, buf);
    }
    if (scn->schedule == SCN_SCHEDULE_PCT) {
        snprintf(buf, sizeof(buf), "schedule pct depth=%" PRIu32 "\n", scn->pct_depth);
        scn_text_str(out, buf);
    } else if (scn->schedule != SCN_SCHEDULE_CALM) {
        scn_text_str(out, "schedule ");
        scn_text_str(out, schedules[scn->schedule]);
        scn_text_char(out, '\n');
    }
    for (size_t i = 0; i < scn->pin_count; i++) {
        const struct scn_pin *pin = &scn->pins[i];

        snprintf(buf, sizeof(buf), "choose %s 0x%016" PRIx64 " %" PRIu32 " = %" PRIu32 "\n",
                 sim_site_name(pin->site), pin->entity, pin->ordinal, pin->value);
        scn_text_str(out, buf);
    }
}

char *scenario_print(const struct scenario *scn)
{
    struct scn_text out = {.bytes = NULL};

    SIM_ASSERT(scn != NULL);
    print_settings(&out, scn);
    for (size_t i = 0; i < scn->step_count; i++) {
        print_step(&out, &scn->steps[i]);
        scn_text_char(&out, '\n');
    }
    return out.bytes;
}
