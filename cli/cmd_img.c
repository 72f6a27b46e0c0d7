/*
 * blksim img VERB: finds the verb.
 */
#include "cli/img.h"

#include <string.h>

static const struct cli_command *const verbs[] = {
    &img_create,  &img_info,   &img_check,    &img_map,    &img_compare,
    &img_convert, &img_bitmap, &img_snapshot, &img_resize,
};

static void overview(FILE *out)
{
    fprintf(out, "usage: blksim img VERB [options] FILE...\n\nqemu-img's verbs on host files, through blksim's own "
                 "drivers.\n\n");
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        fprintf(out, "  %-9s %s\n", verbs[i]->name + strlen("img "), verbs[i]->summary);
    }
    fprintf(out, "\n`blksim img VERB --help` tells more. Exit status: 0; 2 bad usage or input; `check`: 0 clean,\n"
                 "1 could not complete, 2 corruptions, 3 leaks only, 63 no check for this format; `compare`: 0\n"
                 "identical, 1 different, 2 an error.\n");
}

static int img(int argc, char **argv)
{
    if (argc < 2) {
        overview(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        overview(stdout);
        return EXIT_PASS;
    }
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(argv[1], verbs[i]->name + strlen("img ")) == 0) {
            img_set_verb(verbs[i]->name);
            return verbs[i]->run(argc - 1, argv + 1);
        }
    }
    return cli_error("img: there is no verb '%s'; see `blksim img --help`", argv[1]);
}

const struct cli_command cli_img = {
    .name = "img",
    .usage = "VERB [options] FILE...",
    .summary = "qemu-img's verbs on host files: create, info, check, map, compare, convert, ...",
    .run = img,
};
