/*
 * blksim COMMAND [options]: finds the command, prints the overview.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static const struct cli_command *const commands[] = {
    &cli_run, &cli_gen,  &cli_decode, &cli_encode,  &cli_shrink,
    &cli_cut, &cli_diff, &cli_list,   &cli_explain, &cli_img,
};

static void overview(FILE *out)
{
    fprintf(out, "usage: blksim COMMAND [options]\n\n");
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        fprintf(out, "  %-8s %s\n", commands[i]->name, commands[i]->summary);
    }
    fprintf(out, "\n`blksim COMMAND --help` tells more. Exit status: 0 passed, 1 an invariant was violated,\n"
                 "2 bad usage or input, 3 blksim itself failed.\n");
}

int main(int argc, char **argv)
{
    cli_set_program(argv[0]);
    if (argc < 2) {
        overview(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        overview(stdout);
        return EXIT_PASS;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("%s\n", cli_build_id());
        return EXIT_PASS;
    }
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(argv[1], commands[i]->name) == 0) {
            int status = commands[i]->run(argc - 1, argv + 1);

            if (fflush(stdout) != 0 || ferror(stdout)) {
                fprintf(stderr, "blksim: cannot write to standard output\n");
                return EXIT_INTERNAL;
            }
            return status;
        }
    }
    cli_error("there is no command '%s'; expected one of those that `blksim --help` lists", argv[1]);
    return EXIT_USAGE;
}
