/*
 * A quorum over probes: children "a", "b", ... of 1 MiB that read as 0x11, the quorum "q" on top, and what clients
 * hear of it.
 */
#ifndef TESTS_BLOCK_QUORUM_PROBE_H
#define TESTS_BLOCK_QUORUM_PROBE_H

#include <stdio.h>

#include "tests/block/blkopts.h"
#include "tests/block/probe.h"

#define R SIM_OP_READ
#define W SIM_OP_WRITE
#define Z SIM_OP_WRITE_ZEROES
#define F SIM_OP_FLUSH
#define MAX_CHILDREN 5

/* --- a quorum over probes ----------------------------------------------------------------------------------- */

static struct probe *child[MAX_CHILDREN];
static unsigned child_count;
static struct probe top; /* only its node and its backend */

SIM_UNUSED static void no_perms(void *opaque)
{
    struct probe *p = opaque;
    SIM_ASSERT_EQ(blk_set_perm(p->blk, 0, BLK_PERM_ALL, NULL), 0);
}

/* A child that reads as fill; its own backend only watches. */
SIM_UNUSED static struct probe *make_child(const char *name, uint8_t fill)
{
    struct probe *p = probe_new((struct probe_spec){.name = name, .length = MiB, .fill = fill});
    probe_main(no_perms, p);
    return p;
}

SIM_UNUSED static void add_top(void *opaque)
{
    top.bs = add_node(host, opaque);
    top.blk = blk_new(host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL);
    SIM_ASSERT_EQ(blk_insert_bs(top.blk, top.bs, NULL), 0);
}

SIM_UNUSED static void make_children(unsigned count)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    child_count = count;
    for (unsigned i = 0; i < count; i++) {
        child[i] = make_child(names[i], 0x11);
    }
}

SIM_UNUSED static const char *options_for(unsigned count, const char *options)
{
    static char text[400];
    static const char *const lists[] = {"'a'", "'a','b'", "'a','b','c'", "'a','b','c','d'", "'a','b','c','d','e'"};
    snprintf(text, sizeof(text), "{'driver':'quorum','node-name':'q','children':[%s],%s}", lists[count - 1],
             options);
    return text;
}

SIM_UNUSED static void make_quorum(unsigned count, const char *options)
{
    make_children(count);
    probe_main(add_top, (char *)options_for(count, options));
}

SIM_UNUSED static void drop_top(void *opaque)
{
    blk_unref(top.blk);
    SIM_ASSERT(qmp_blockdev_del_node(host, "q", NULL));
}

SIM_UNUSED static void free_children(void)
{
    for (unsigned i = 0; i < child_count; i++) {
        probe_free(child[i]);
    }
}

SIM_UNUSED static void free_quorum(void)
{
    probe_main(drop_top, NULL);
    free_children();
}

/* What a read of the quorum gives: the byte at the start, or -1. */
SIM_UNUSED static int read_byte(int64_t offset, int64_t bytes, int expect)
{
    uint8_t *seen = calloc(1, (size_t)bytes);
    struct req r = {.p = &top, .op = R, .offset = offset, .bytes = bytes, .seen = seen};
    spawn(&r);
    settle();
    assert_true(r.done);
    assert_int_equal(r.ret, expect);
    int first = r.ret == 0 ? seen[0] : -1;
    free(seen);
    return first;
}

SIM_UNUSED static void corrupt(struct probe *p, int64_t offset, int64_t bytes, uint8_t value)
{
    memset(p->data + offset, value, (size_t)bytes);
}

/* --- what clients hear -------------------------------------------------------------------------------------- */

#define HEARD 32
struct heard {
    int64_t time_ns;
    const char *what; /* the failing node or device, or the operation */
    const char *error;
    const char *node;
    uint64_t sector, sectors;
};
static struct heard failure[HEARD], bad[HEARD];
static unsigned failures, bads;

static void on_failure(void *opaque, const struct sim_record *r)
{
    SIM_ASSERT(failures < HEARD);
    failure[failures++] = (struct heard){
        .time_ns = r->time_ns, .what = sim_record_str(r, 0), .sector = r->field[1], .sectors = r->field[2]};
}

static void on_bad(void *opaque, const struct sim_record *r)
{
    SIM_ASSERT(bads < HEARD);
    bad[bads++] = (struct heard){.time_ns = r->time_ns,
                                 .what = sim_record_str(r, 0),
                                 .error = sim_record_str(r, 1),
                                 .node = sim_record_name(r, 2)->str,
                                 .sector = r->field[3],
                                 .sectors = r->field[4]};
}

SIM_UNUSED static int setup(void **state)
{
    failures = bads = 0;
    probe_setup(state);
    sim_subscribe(world, EV_QUORUM_FAILURE, on_failure, NULL);
    sim_subscribe(world, EV_QUORUM_REPORT_BAD, on_bad, NULL);
    return 0;
}

SIM_UNUSED static void assert_bad(unsigned n, const char *what, const char *node, const char *error,
                                  uint64_t sector, uint64_t sectors)
{
    assert_true(n < bads);
    assert_string_equal(bad[n].what, what);
    assert_string_equal(bad[n].node, node);
    assert_int_equal(bad[n].error != NULL, error != NULL);
    if (error) {
        assert_string_equal(bad[n].error, error);
    }
    assert_int_equal(bad[n].sector, sector);
    assert_int_equal(bad[n].sectors, sectors);
}

SIM_UNUSED static void pass_time(int64_t ns)
{
    sim_run_idle(world, NULL, NULL, sim_now(world) + ns);
}

#define T_QUORUM(path, fn) T_SETUP(path, fn, setup, probe_teardown)

#endif
