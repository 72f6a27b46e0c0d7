/*
 * blksim gen, decode, encode: a scenario from one form into another.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The text, or with --json an object of it; profile NULL: not of a seed. */
static int print_scenario(const struct scenario *scn, const char *profile, bool json)
{
    char *text = scenario_print(scn);

    if (json) {
        struct qvalue *object = qvalue_dict();

        if (profile) {
            qdict_put(object, "profile", qvalue_str(profile));
        }
        qdict_put(object, "steps", qvalue_int((int64_t)scn->step_count));
        qdict_put(object, "scenario", qvalue_str(text));
        cli_print_json(object);
    } else {
        fputs(text, stdout);
    }
    free(text);
    return EXIT_PASS;
}

static int gen(int argc, char **argv)
{
    const char *profile = "mixed";
    const char *seed_text = NULL;
    bool json = false;
    const struct cli_opt opts[] = {
        {"--seed", "N", CLI_STR, &seed_text, "the seed"},
        {"--profile", "P", CLI_STR, &profile, "what to draw (default mixed)"},
        {"--json", NULL, CLI_FLAG, &json, "the text within an object"},
        {.name = NULL},
    };
    struct scenario *scn;
    uint64_t seed, last;
    Error *err = NULL;
    int status;

    if (!cli_parse(&cli_gen, opts, &argc, argv, &status)) {
        return status;
    }
    if (!seed_text || !cli_parse_seeds(seed_text, &seed, &last) || seed != last || argc) {
        return cli_error("gen: expected --seed N and no operands");
    }
    scn = scenario_generate(profile, seed, &err);
    if (!scn) {
        status = cli_error("gen: %s", error_get_pretty(err));
        error_free(err);
        return status;
    }
    status = print_scenario(scn, profile, json);
    scenario_free(scn);
    return status;
}

const struct cli_command cli_gen = {
    .name = "gen",
    .usage = "--seed N [--profile P] [--json]",
    .summary = "print the scenario of a seed",
    .run = gen,
};

/* Reads all of a file or standard input; NULL after a message. */
static uint8_t *slurp(const char *path, size_t *length)
{
    FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    uint8_t *data = NULL;
    size_t room = 0;
    bool ok;
    size_t n;

    *length = 0;
    if (!in) {
        cli_error("%s: cannot open: %s", path, strerror(errno));
        return NULL;
    }
    do {
        room = room ? room * 2 : 65536;
        data = realloc(data, room);
        SIM_ASSERT(data);
        n = fread(data + *length, 1, room - *length, in);
        *length += n;
    } while (*length == room && room < (size_t)SCN_MAX_TEXT_BYTES);
    ok = !ferror(in) && *length < room;
    if (!ok) {
        cli_error("%s: %s", path, ferror(in) ? strerror(errno) : "larger than any input, expected at most 64 MiB");
        free(data);
    }
    if (in != stdin) {
        fclose(in);
    }
    return ok ? data : NULL;
}

static int decode(int argc, char **argv)
{
    bool json = false;
    const struct cli_opt opts[] = {
        {"--json", NULL, CLI_FLAG, &json, "the text within an object"},
        {.name = NULL},
    };
    struct scenario *scn;
    uint8_t *data;
    size_t length;
    int status;

    if (!cli_parse(&cli_decode, opts, &argc, argv, &status)) {
        return status;
    }
    if (argc != 1) {
        return cli_error("decode: expected one file");
    }
    data = slurp(argv[1], &length);
    if (!data) {
        return EXIT_USAGE;
    }
    scn = scenario_decode(data, length);
    free(data);
    status = print_scenario(scn, NULL, json);
    scenario_free(scn);
    return status;
}

const struct cli_command cli_decode = {
    .name = "decode",
    .usage = "FILE|- [--json]",
    .summary = "fuzz bytes to text",
    .run = decode,
};

/* Bytes have no place in JSON: two hex digits each. */
static void print_bytes(const uint8_t *data, size_t length)
{
    struct qvalue *object = qvalue_dict();
    char *hex = malloc(2 * length + 1);

    SIM_ASSERT(hex);
    hex[0] = '\0';
    for (size_t i = 0; i < length; i++) {
        snprintf(hex + 2 * i, 3, "%02x", data[i]);
    }
    qdict_put(object, "length", qvalue_int((int64_t)length));
    qdict_put(object, "hex", qvalue_str(hex));
    cli_print_json(object);
    free(hex);
}

static int encode(int argc, char **argv)
{
    bool json = false;
    const struct cli_opt opts[] = {
        {"--json", NULL, CLI_FLAG, &json, "the bytes as hex digits within an object"},
        {.name = NULL},
    };
    struct cli_source source = {.files = argv + 1, .file_count = 1};
    struct run_options options = {0};
    struct scenario *scn;
    uint8_t *data;
    size_t length;
    int status;

    if (!cli_parse(&cli_encode, opts, &argc, argv, &status)) {
        return status;
    }
    if (argc != 1) {
        return cli_error("encode: expected one file");
    }
    scn = cli_load_one(&source, &options);
    if (!scn) {
        return EXIT_USAGE;
    }
    data = scenario_encode(scn, &length);
    if (json) {
        print_bytes(data, length);
    } else {
        fwrite(data, 1, length, stdout);
    }
    free(data);
    scenario_free(scn);
    return EXIT_PASS;
}

const struct cli_command cli_encode = {
    .name = "encode",
    .usage = "FILE|- [--json]",
    .summary = "text to fuzz bytes",
    .run = encode,
};
