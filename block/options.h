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
};

/* A copy with dotted keys made into dictionaries and lists. NULL with errp: not a dictionary, a key given twice, or
 * numbers that are no list. */
struct qvalue *bdrv_options_expand(const struct qvalue *options, Error **errp);
/* Reads the generic keys; flags are the defaults for those that are absent. */
bool bdrv_options_generic(const struct qvalue *options, uint32_t flags, struct bdrv_generic_options *out,
                          Error **errp);
/* The same without driver and node name: only flags and detect_zeroes of out are set. */
bool bdrv_options_flags(const struct qvalue *options, uint32_t flags, struct bdrv_generic_options *out,
                        Error **errp);
/* Everything that is not generic must be in the driver's table, with the right type, and nothing required missing.
 */
bool bdrv_options_check(const BlockDriver *drv, const struct qvalue *options, Error **errp);
/* Makes values that are spelled as strings what the option is ("64k", "on"), after the check, so that equal means
 * equal. In place. */
void bdrv_options_canonical(const BlockDriver *drv, struct qvalue *options);
/* A generic key that reopen may change, and that goes back to its default when left out. */
bool bdrv_option_is_mutable(const char *key);
/* Whether the key is a generic one, of all nodes. */
bool bdrv_option_is_generic(const char *key);

/* Puts the keys that children inherit (1.13) as flags has them, where options do not say otherwise. */
void bdrv_options_inherit(struct qvalue *options, uint32_t flags);
/* What a child inherits from a parent of these flags (1.13). */
uint32_t bdrv_inherited_flags(uint32_t parent_flags, bool inactive, uint32_t role);

/* A copy of a tree in an arena: only to be read, and freed by drop. v NULL gives NULL. */
struct qvalue *bdrv_options_keep(struct sim_arena *arena, const struct qvalue *v);
void bdrv_options_drop(struct sim_arena *arena, const struct qvalue *v);
/* What a node remembers of the options it was opened with, and forgets when it goes. options: expanded. */
void bdrv_remember_options(BlockDriverState *bs, const struct qvalue *options, uint32_t inherited);
void bdrv_forget_options(BlockDriverState *bs);

#endif
