/*
 * blksim gen, decode, encode: a scenario from one form into another.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static int print_scenario(const struct scenario *scn)
{
    char *text = scenario_print(scn);

    fputs(text, stdout);
    free(text);
    return EXIT_PASS;
}

static int gen(int argc, char **argv)
{
    const char *profile = "mirror";
    const char *seed_text = NULL;
    const struct cli_opt opts[] = {
        {"--seed", "N", CLI_STR, &seed_text, "the seed"},
        {"--profile", "P", CLI_STR, &profile, "what to draw (default mirror)"},
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
    status = print_scenario(scn);
    scenario_free(scn);
    return status;
}

const struct cli_command cli_gen = {
    .name = "gen",
    .usage = "--seed N [--profile P]",
    .summary = "print the scenario of a seed",
    .run = gen,
};

/* Reads all of a file or standard input; NULL after a message. */
static uint8_t *slurp(const char *path, size_t *length)
{
    FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    uint8_t *data = NULL;
    size_t room = 0;
    size_t n;

    *length = 0;
    if (!in) {
        cli_error("cannot read '%s'", path);
        return NULL;
    }
    do {
        room = room ? room * 2 : 65536;
        data = realloc(data, room);
        SIM_ASSERT(data);
        n = fread(data + *length, 1, room - *length, in);
        *length += n;
    } while (*length == room && room < (size_t)SCN_MAX_TEXT_BYTES);
    if (in != stdin) {
        fclose(in);
    }
    return data;
}

static int decode(int argc, char **argv)
{
    const struct cli_opt opts[] = {{.name = NULL}};
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
    status = print_scenario(scn);
    scenario_free(scn);
    return status;
}

const struct cli_command cli_decode = {
    .name = "decode",
    .usage = "FILE",
    .summary = "fuzz bytes to text",
    .run = decode,
};

static int encode(int argc, char **argv)
{
    const struct cli_opt opts[] = {{.name = NULL}};
    Error *err = NULL;
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
    scn = scenario_load(argv[1], &err);
    if (!scn) {
        status = cli_error("%s", error_get_pretty(err));
        error_free(err);
        return status;
    }
    data = scenario_encode(scn, &length);
    fwrite(data, 1, length, stdout);
    free(data);
    scenario_free(scn);
    return EXIT_PASS;
}

const struct cli_command cli_encode = {
    .name = "encode",
    .usage = "FILE",
    .summary = "text to fuzz bytes",
    .run = encode,
};
