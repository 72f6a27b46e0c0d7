/*
 * Option trees of blockdev-add (reference/block.md 1.13, 9): the generic keys of every node and the check of a
 * driver's own against its table. Private to block/.
 *
 * A tree is a dictionary; children are inline dictionaries or names of nodes. Dotted keys ("cache.direct",
 * "file.disk") mean the same as nested dictionaries, and where a dictionary's keys are numbers it means a list
 * ("inject-error.0.event", "inject-error.1.event"). Every key must be known: a leftover is an error.
 */
#ifndef BLOCK_OPTIONS_H
#define BLOCK_OPTIONS_H

#include "block/block_int.h"

struct bdrv_generic_options {
    const BlockDriver *drv;
    const char *node_name; /* NULL: absent; belongs to the tree */
    uint32_t flags;        /* BDRV_O_* of this node, its own `active` included */
    enum bdrv_detect_zeroes detect_zeroes;
    bool read_only_explicit;
};

/* A copy with dotted keys made into dictionaries and lists. NULL with errp: not a dictionary, a key given twice, or
 * numbers that are no list. */
struct qvalue *bdrv_options_expand(const struct qvalue *options, Error **errp);
/* Reads the generic keys; flags are the defaults for those that are absent. */
bool bdrv_options_generic(const struct qvalue *options, uint32_t flags, struct bdrv_generic_options *out,
                          Error **errp);
/* Everything that is not generic must be in the driver's table, with the right type, and nothing required missing.
 */
bool bdrv_options_check(const BlockDriver *drv, const struct qvalue *options, Error **errp);

#endif
