/* Nodes from option texts, for tests whose world is not blktest.h's: JSON with single quotes, on the main
 * coroutine. */
#ifndef TESTS_BLOCK_BLKOPTS_H
#define TESTS_BLOCK_BLKOPTS_H

#include "tests/testlib.h"

#include "block/block.h"

static struct qvalue *quoted_json(const char *text)
{
    char *json = strdup(text);
    for (char *c = json; *c; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    struct qvalue *options = qvalue_from_json(json, strlen(json), NULL);
    SIM_ASSERT(options != NULL);
    free(json);
    return options;
}

/* A try at blockdev-add; err says what became of it. */
struct refusal {
    struct host *host;
    const char *options;
    Error *err;
};

static SIM_UNUSED void try_add_node(void *opaque)
{
    struct refusal *r = opaque;
    struct qvalue *options = quoted_json(r->options);
    qmp_blockdev_add_node(r->host, options, &r->err);
    qvalue_free(options);
}

static SIM_UNUSED BlockDriverState *add_node(struct host *on, const char *text)
{
    Error *err = NULL;
    struct qvalue *options = quoted_json(text);
    BlockDriverState *bs = qmp_blockdev_add_node(on, options, &err);
    if (!bs) {
        fprintf(stderr, "%s: %s\n", text, error_get_pretty(err));
        SIM_ASSERT(false);
    }
    qvalue_free(options);
    return bs;
}

#endif
