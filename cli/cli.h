/*
 * The command line: one file per subcommand, each a `const struct cli_command` in cli/main.c's table.
 *
 * Subcommands hold no logic of the layers below: they read options, call, and print. Exit status: 0 all passed, 1
 * an invariant was violated, 2 bad usage or input, 3 blksim itself failed.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdio.h>

#include "scenario/runner.h"

enum { EXIT_PASS = 0, EXIT_VIOLATION = 1, EXIT_USAGE = 2, EXIT_INTERNAL = 3 };

enum cli_opt_type { CLI_FLAG, CLI_STR, CLI_U64, CLI_TIME, CLI_LIST };

/* Options that may come several times, in the order in which they came: name and value (NULL: it has none). */
#define CLI_LIST_MAX 64
struct cli_given {
    const char *name[CLI_LIST_MAX];
    const char *value[CLI_LIST_MAX];
    int count;
};

/* One option; the table ends with a NULL name. value points at a bool, const char *, uint64_t, int64_t or
 * struct cli_given, which several options may share. */
struct cli_opt {
    const char *name;    /* "--seed", or "-j" */
    const char *operand; /* shown in help: "N"; NULL for flags */
    enum cli_opt_type type;
    void *value;
    const char *help; /* NULL: works, but is not told (probes) */
};

struct cli_command {
    const char *name;
    const char *usage;                 /* operands, as shown after the name */
    const char *summary;               /* one line */
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
};
extern const struct cli_command cli_run, cli_gen, cli_decode, cli_encode, cli_shrink, cli_cut, cli_diff, cli_list,
    cli_explain, cli_img;

/* Takes options out of argv; operands move to the front, *argc becomes their count (argv[0] not included in it,
 * operands start at argv[1]). --help prints and returns false with *status 0; an error prints and gives 2. */
bool cli_parse(const struct cli_command *command, const struct cli_opt *opts, int *argc, char **argv, int *status);
/* "blksim: MESSAGE" on stderr. Returns EXIT_USAGE. */
int cli_error(const char *fmt, ...) SIM_PRINTF(1, 2);

/* Compiler, options and revision of this binary, one line. */
const char *cli_build_id(void);
/* How this binary was called, for lines to paste. */
const char *cli_program(void);
void cli_set_program(const char *argv0);

/* --- where scenarios come from ----------------------------------------------------------------------------- */

/* A list of things to run: files, or a range of seeds of a profile. */
struct cli_source {
    char **files; /* operands */
    int file_count;
    bool has_seeds;
    uint64_t first_seed, last_seed;
    const char *profile;
};
/* False after a message: a list of checkers that cannot be attached (NULL is all), a profile that is none. */
bool cli_check_list(const char *checks);
bool cli_check_profile(const char *profile);
/* One object of --json, and a newline. Takes it over. */
void cli_print_json(struct qvalue *object);
/* "A..B" or "N". */
bool cli_parse_seeds(const char *text, uint64_t *first, uint64_t *last);
/* The one scenario of a file, "-" or seed; checked. NULL after a message. */
struct scenario *cli_load_one(const struct cli_source *source, const struct run_options *options);

/* --- running many (cli/pool.c) ----------------------------------------------------------------------------- */

/* What came back from one run, in the parent. */
struct pool_result {
    uint64_t index;      /* of the item */
    struct run_result r; /* violations with check, signature, detail only; no hosts */
    char *json;          /* with want_json */
};

struct pool_job {
    uint64_t items;
    unsigned workers;
    bool want_json;
    double stall_seconds; /* a worker silent for so long is a hang */
    /* In the worker: the scenario of item i. NULL with a message: input error. Free with scenario_free. */
    struct scenario *(*item)(void *opaque, uint64_t index, Error **errp);
    const struct run_options *options;
    const char *profile;
    /* The seed of item i, for an item whose worker died; may be NULL. */
    uint64_t (*seed)(void *opaque, uint64_t index);
    /* In the parent, in order of items. False stops the sweep. */
    bool (*result)(void *opaque, const struct pool_result *result);
    void *opaque;
};
void pool_run(const struct pool_job *job);
/* The same in this process, for one item under a debugger. */
void pool_run_here(const struct pool_job *job);

/* --- for other programs (cli/formats.c) --------------------------------------------------------------------- */

/* Zeroed, then filled by the caller; junit and sarif are open streams or NULL and stay the caller's. */
struct formats {
    bool tap; /* to standard output */
    FILE *junit, *sarif;
    uint64_t sarif_results;
};
void formats_begin(const struct formats *f, uint64_t total);
/* name: a file's path, or PROFILE/SEED. */
void formats_result(struct formats *f, uint64_t index, const char *name, bool is_file, const struct run_result *r);
void formats_end(const struct formats *f, bool broke_off);

/* --- reports (cli/report.c) --------------------------------------------------------------------------------- */

/* Stores the scenario of a seed or of standard input as build/failures/SIGNATURE-SEED.blk and prints the four
 * lines, each after prefix. */
void report_failure(FILE *out, const struct run_result *result, const struct scenario *scn, const char *profile,
                    bool is_seed, const char *prefix);
void report_stats(FILE *out, const struct run_stats *stats, uint64_t runs, uint64_t ready_runs, uint64_t pivot_runs,
                  uint64_t fault_runs, uint64_t overlap_runs);

#endif
