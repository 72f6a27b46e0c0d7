/*
 * Scenarios as bytes: prologue, steps, and what makes any bytes a scenario that may run.
 */
#include "scenario/codec.h"

#include <stdlib.h>
#include <string.h>

#include "scenario/runner.h"
#include "sim/world.h"

#define MAGIC 0xb5u    /* a tame prologue never has bit 7 */
#define HEADER_BYTES 9 /* magic and hash */
#define TAME_STEPS 64
#define TAME_PINS 4

/* --- prologue -------------------------------------------------------------------------------------------- */

static void code_pin(struct coder *c, struct scn_pin *pin)
{
    uint64_t site = pin->site;
    uint64_t ordinal = pin->ordinal;
    uint64_t value = pin->value;

    code_varint(c, &site);
    code_varint(c, &pin->entity);
    code_varint(c, &ordinal);
    code_varint(c, &value);
    pin->site = (enum sim_site)(site % SITE_COUNT);
    pin->ordinal = (uint32_t)ordinal;
    pin->value = (uint32_t)value;
}

static void code_pins(struct coder *c, struct scenario *scn)
{
    uint64_t count = scn->pin_count;

    code_varint(c, &count);
    if (!c->encoding) {
        count = c->exact ? MIN(count, (uint64_t)c->length) : count % TAME_PINS;
        scn->pins = sim_xcalloc(count, sizeof(*scn->pins));
        scn->pin_count = count;
    }
    for (uint64_t i = 0; i < count; i++) {
        code_pin(c, &scn->pins[i]);
    }
}

enum { PROLOGUE_SCHEDULE = 3, PROLOGUE_WIDE_SEED = 4, PROLOGUE_PINS = 0x48, PROLOGUE_PREAMBLE = 0x30 };

static void code_seed(struct coder *c, struct scenario *scn, bool wide)
{
    uint8_t narrow = (uint8_t)scn->seed;

    if (wide) {
        code_varint(c, &scn->seed);
        return;
    }
    code_u8(c, &narrow);
    scn->seed = narrow;
}

/* Returns the preamble asked for: 0 none. */
static unsigned code_prologue(struct coder *c, struct scenario *scn)
{
    uint8_t flags = (uint8_t)((unsigned)scn->schedule | (scn->seed > 0xff ? PROLOGUE_WIDE_SEED : 0u) |
                              (scn->pin_count ? PROLOGUE_PINS : 0u));
    uint8_t depth = (uint8_t)(scn->pct_depth ? scn->pct_depth - 1 : 0);

    code_u8(c, &flags);
    scn->schedule = (enum scn_schedule)(flags & PROLOGUE_SCHEDULE);
    code_seed(c, scn, flags & PROLOGUE_WIDE_SEED);
    if (scn->schedule == SCN_SCHEDULE_PCT) {
        code_u8(c, &depth);
        scn->pct_depth = depth % 64u + 1;
    }
    if ((flags & PROLOGUE_PINS) == PROLOGUE_PINS) {
        code_pins(c, scn);
    }
    return (flags & PROLOGUE_PREAMBLE) / 0x10u;
}

/* A mirror to be, so that a few bytes get somewhere. 1: disks, nodes, guest; 2: and a mirror under load; 3: and
 * READY. */
static void add_preamble(struct coder *c, struct scenario *scn, unsigned kind)
{
    static const struct codec_hint size_hint = {.kind = CODEC_SIZE, .max = 8 * MiB};
    int64_t size = 0;
    char text[1024];
    char buf[24];
    struct scenario *made;
    int length;

    code_number(c, &size_hint, &size);
    sim_format_size(size, buf);
    length = snprintf(text, sizeof(text),
                      "blksim 1\ndisk src size=%s content=stamp\ndisk dst size=%s\n"
                      "try blockdev-add driver=disk node-name=s disk=src\n"
                      "try blockdev-add driver=disk node-name=d disk=dst\n"
                      "try guest g node=s\n%s%s",
                      buf, buf,
                      kind > 1 ? "try workload g ops=32 max=16k\n"
                                 "try blockdev-mirror job-id=m device=s target=d sync=full\n"
                               : "",
                      kind > 2 ? "try wait BLOCK_JOB_READY device=m timeout=1s\n" : "");
    SIM_ASSERT_LT(length, sizeof(text));
    made = scenario_parse("<preamble>", text, (size_t)length, NULL);
    SIM_ASSERT(made != NULL);
    for (size_t i = 0; i < made->step_count; i++) {
        struct scn_step *step = scenario_add(scn, made->steps[i].verb);

        qvalue_free(step->args);
        step->args = made->steps[i].args;
        step->try_ = made->steps[i].try_;
    }
    made->step_count = 0; /* the arguments moved */
    scenario_free(made);
    c->disk_bytes = size;
}

/* --- steps ----------------------------------------------------------------------------------------------- */

/* All bits of one that is seldom wanted must be set. */
enum { STEP_DELAY = 1, STEP_ABSOLUTE = 2, STEP_UNUSUAL_TRY = 4, STEP_LABEL = 0x38, STEP_HOST = 0xc0 };

static bool usually_tries(const struct scn_verb *verb)
{
    return scn_verb_takes_try(verb) && strcmp(verb->name, "settle") != 0 && strcmp(verb->name, "run") != 0 &&
           strcmp(verb->name, "disk") != 0;
}

static void code_word(struct coder *c, char **word)
{
    struct scn_text text = {.bytes = NULL};

    if (c->encoding) {
        scn_text_str(&text, *word);
    }
    code_text(c, &text);
    if (!c->encoding) {
        *word = text.bytes ? text.bytes : strdup("");
    } else {
        free(text.bytes);
    }
}

static void code_prefix(struct coder *c, struct scn_step *step)
{
    static const struct codec_hint delay_hint = {.kind = CODEC_TIME};
    bool usual = usually_tries(step->verb);
    uint8_t flags = (uint8_t)((step->label ? STEP_LABEL : 0) | (step->delay != SCN_DELAY_NONE ? STEP_DELAY : 0) |
                              (step->delay == SCN_DELAY_ABSOLUTE ? STEP_ABSOLUTE : 0) |
                              (step->try_ != usual ? STEP_UNUSUAL_TRY : 0) | (step->host ? STEP_HOST : 0));

    code_u8(c, &flags);
    step->try_ = usual != ((flags & STEP_UNUSUAL_TRY) != 0);
    if ((flags & STEP_LABEL) == STEP_LABEL) {
        code_word(c, &step->label);
    }
    if (flags & STEP_DELAY) {
        step->delay = flags & STEP_ABSOLUTE ? SCN_DELAY_ABSOLUTE : SCN_DELAY_RELATIVE;
        code_number(c, &delay_hint, &step->delay_ns);
    }
    if ((flags & STEP_HOST) == STEP_HOST) {
        code_word(c, &step->host);
    }
}

static void code_step(struct coder *c, struct scn_step *step)
{
    static const struct codec_hint json_hint = {.kind = CODEC_FREE};
    struct qvalue *json;

    code_prefix(c, step);
    if (step->verb->form != SCN_FORM_JSON) {
        code_args(c, step);
        return;
    }
    json = c->encoding ? qdict_get(step->args, "json") : NULL;
    code_value(c, &json_hint, &json);
    if (!c->encoding) {
        qdict_put(step->args, "json", json);
    }
}

/* What later steps are coded against. */
static void learn(struct coder *c, struct scn_names *names, const struct scn_step *step)
{
    const struct qvalue *size = qdict_get(step->args, "size");

    scn_step_define(names, step);
    if (strcmp(step->verb->name, "disk") == 0 && size) {
        c->disk_bytes = size->integer;
    }
}

/* --- taming ---------------------------------------------------------------------------------------------- */

static bool label_is_good(const struct scenario *scn, const struct scn_step *step)
{
    size_t length = strlen(step->label);

    if (length == 0 || length > SCN_LABEL_MAX ||
        strspn(step->label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != length) {
        return false;
    }
    for (size_t i = 0; i + 1 < scn->step_count; i++) {
        if (scn->steps[i].label && strcmp(scn->steps[i].label, step->label) == 0) {
            return false;
        }
    }
    return true;
}

/* A node without a name could not be spoken of. */
static void name_node(const struct scn_names *names, struct scn_step *step)
{
    static const char *const spare[] = {"s", "d", "t", "n3", "n4", "n5", "n6", "n7"};
    size_t i = 0;

    if (!qdict_get(step->args, "node-name")) {
        while (i + 1 < ARRAY_SIZE(spare) && scn_names_has(names, SCN_DOM_NODE, spare[i])) {
            i++;
        }
        qdict_put(step->args, "node-name", qvalue_str(spare[i]));
    }
}

/* Options of a write that exclude each other. */
static void tame_write(struct scn_step *step)
{
    if (qdict_get(step->args, "-z")) {
        qvalue_free(qdict_take(step->args, "-P"));
        qvalue_free(qdict_take(step->args, "-c"));
        return;
    }
    if (qdict_get(step->args, "-c")) {
        qvalue_free(qdict_take(step->args, "-f"));
    }
    qvalue_free(qdict_take(step->args, "-u"));
    qvalue_free(qdict_take(step->args, "-n"));
}

/* Space that is really written should stay small. */
static void tame_image(struct scn_step *step)
{
    const struct qvalue *size = qdict_get(step->args, "size");

    if (!size || size->integer > 64 * MiB) {
        qvalue_free(qdict_take(step->args, "preallocation"));
        qvalue_free(qdict_take(step->args, "data_file_raw"));
    }
}

/* Makes the last step one that may run, or says that it cannot be. Nothing that random bytes say is a promise:
 * commands try, waits may time out, and there are no expectations, which would only fail. */
static bool tame_step(struct coder *c, const struct scenario *scn, const struct scn_names *names,
                      struct scn_step *step)
{
    if (step->label && !label_is_good(scn, step)) {
        free(step->label);
        step->label = NULL;
    }
    if (step->host && !scn_names_has(names, SCN_DOM_HOST, step->host)) {
        free(step->host);
        step->host = NULL;
    }
    if (!scn_verb_takes_try(step->verb) || scn_step_has_files(step)) {
        return false;
    }
    step->try_ = step->try_ || usually_tries(step->verb);
    if (strcmp(step->verb->name, "blockdev-add") == 0) {
        name_node(names, step);
        codec_node_complete(c, step->args);
    } else if (strcmp(step->verb->name, "io write") == 0 || strcmp(step->verb->name, "io aio_write") == 0) {
        tame_write(step);
    } else if (strcmp(step->verb->name, "img create") == 0) {
        tame_image(step);
    }
    return scn_step_check(step, NULL, NULL) &&
           scn_step_check_names(names, step, scn_step_lenient(step, NULL), NULL);
}

/* --- decoding -------------------------------------------------------------------------------------------- */

/* One step from the bytes; false when an exact form holds what no text could say. */
static bool decode_step(struct coder *c, struct scenario *scn, struct scn_names *names)
{
    const struct scn_verb *verb = code_verb(c, NULL);
    struct scn_step *step;
    bool good;

    if (!verb) {
        return !c->exact;
    }
    step = scenario_add(scn, verb);
    code_step(c, step);
    good = c->exact ? scn_step_check(step, NULL, NULL) : tame_step(c, scn, names, step);
    if (good) {
        learn(c, names, step);
    } else {
        scenario_remove(scn, scn->step_count - 1);
    }
    return good || !c->exact;
}

/* NULL only for an exact form that is none. */
static struct scenario *decode(const uint8_t *data, size_t length, bool exact)
{
    struct scn_names *names = scn_names_new();
    struct coder c = {.exact = exact, .data = data, .length = length, .names = names, .disk_bytes = MiB};
    struct scenario *scn = scenario_new();
    c.scn = scn;
    unsigned preamble = code_prologue(&c, scn);
    bool ok = true;

    if (preamble) {
        add_preamble(&c, scn, preamble);
        for (size_t i = 0; i < scn->step_count; i++) {
            scn_step_define(names, &scn->steps[i]);
        }
    }
    while (ok && c.at < length && (exact || scn->step_count < TAME_STEPS)) {
        ok = decode_step(&c, scn, names);
    }
    scn_names_free(names);
    if (!ok) {
        scenario_free(scn);
        return NULL;
    }
    return scn;
}

static void put_hash(uint8_t out[8], const uint8_t *data, size_t length)
{
    uint64_t hash = sim_hash_bytes(data, length);

    for (int i = 0; i < 8; i++) {
        out[i] = (uint8_t)(hash >> (8 * i));
    }
}

struct scenario *scenario_decode(const uint8_t *data, size_t length)
{
    struct scenario *scn = NULL;
    uint8_t hash[8];

    SIM_ASSERT(data != NULL || length == 0);
    if (length == 0 || data[0] != MAGIC) {
        return decode(data, length, false);
    }
    if (length >= HEADER_BYTES) {
        put_hash(hash, data + HEADER_BYTES, length - HEADER_BYTES);
        if (memcmp(hash, data + 1, sizeof(hash)) == 0) {
            scn = decode(data + HEADER_BYTES, length - HEADER_BYTES, true);
        }
    }
    if (!scn) {
        size_t skip = MIN(length, (size_t)HEADER_BYTES);

        scn = decode(data + skip, length - skip, false);
    }
    return scn;
}

/* --- encoding -------------------------------------------------------------------------------------------- */

static void encode(const struct scenario *scn, bool exact, struct scn_text *out)
{
    struct scn_names *names = scn_names_new();
    struct coder c = {.encoding = true, .exact = exact, .names = names, .disk_bytes = MiB};
    struct scenario settings = *scn; /* coding takes non-const pointers, and changes nothing when encoding */

    code_prologue(&c, &settings);
    for (size_t i = 0; i < scn->step_count; i++) {
        struct scn_step step = scn->steps[i];

        code_verb(&c, step.verb);
        code_step(&c, &step);
        learn(&c, names, &step);
    }
    scn_names_free(names);
    *out = c.out;
}

uint8_t *scenario_encode(const struct scenario *scn, size_t *length)
{
    struct scn_text tame;
    struct scn_text exact;
    struct scenario *back;
    uint8_t *bytes;
    bool same;

    encode(scn, false, &tame);
    back = scenario_decode((const uint8_t *)tame.bytes, tame.length);
    same = scenario_equal(scn, back);
    scenario_free(back);
    if (same) {
        *length = tame.length;
        return (uint8_t *)tame.bytes;
    }
    free(tame.bytes);
    encode(scn, true, &exact);
    bytes = sim_xmalloc(exact.length + HEADER_BYTES);
    bytes[0] = MAGIC;
    memcpy(bytes + HEADER_BYTES, exact.bytes, exact.length);
    put_hash(bytes + 1, bytes + HEADER_BYTES, exact.length);
    *length = exact.length + HEADER_BYTES;
    free(exact.bytes);
    return bytes;
}
