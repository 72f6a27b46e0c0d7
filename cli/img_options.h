/*
 * What qemu-img's users write after -o, and what blockdev-create calls the same (reference/bitmaps-qcow2.md 5.9).
 */
#ifndef CLI_IMG_OPTIONS_H
#define CLI_IMG_OPTIONS_H

#include "sim/qvalue.h"

/*
 * "cluster_size=4k,compat=0.10": commas part options, two of them are one comma of a value. Adds the keys of
 * blockdev-create to `create`; an option given twice counts the last time. Three are none of its keys, and are put
 * as they are for the caller to take: data_file (a file name where blockdev-create wants a node), backing_file and
 * backing_fmt likewise become backing-file and backing-fmt. False with errp: unknown option, no such value; create
 * is as before.
 */
bool img_options_parse(const char *text, struct qvalue *create, Error **errp);

/* Ends the item that begins at `at` and makes its ",," single commas; where the next one begins. */
char *img_cut_item(char *at);

/* The i-th option: its name, its key and one line of help; false beyond the last. */
bool img_option_at(unsigned i, const char **name, const char **key, const char **help);

#endif
