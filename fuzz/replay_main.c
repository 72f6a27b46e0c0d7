/*
 * A main for fuzz targets without a fuzzer: runs each file given, "-" is standard input.
 */
#include "fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INPUT_BYTES (64u << 20)

/* All of the stream; NULL when it cannot be read or is too large. */
static uint8_t *slurp(FILE *in, size_t *length)
{
    uint8_t *data = NULL;
    size_t room = 0;

    *length = 0;
    for (;;) {
        if (*length == room) {
            uint8_t *more = room >= MAX_INPUT_BYTES ? NULL : realloc(data, room ? room * 2 : 65536);

            if (!more) {
                free(data);
                return NULL;
            }
            data = more;
            room = room ? room * 2 : 65536;
        }
        size_t n = fread(data + *length, 1, room - *length, in);

        *length += n;
        if (!n) {
            break;
        }
    }
    if (ferror(in)) {
        free(data);
        return NULL;
    }
    return data;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE...   runs the fuzz target on each file, '-' is standard input\n", argv[0]);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        FILE *in = strcmp(argv[i], "-") == 0 ? stdin : fopen(argv[i], "rb");
        uint8_t *data;
        size_t length;

        data = in ? slurp(in, &length) : NULL;
        if (!data) {
            fprintf(stderr, "%s: cannot read '%s'\n", argv[0], argv[i]);
            return 2;
        }
        if (in != stdin) {
            fclose(in);
        }
        LLVMFuzzerTestOneInput(data, length);
        printf("%s: passed, %zu bytes\n", argv[i], length);
        free(data);
    }
    return 0;
}
