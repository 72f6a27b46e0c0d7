/* Protects: blkdebug's rules, states, limits and options are what the reference says (7.1). */
#include "tests/block/dbgtest.h"

/* A blkdebug node 'n' over disk 'd' of 1 MiB, with more options. */
#define DEBUG(more) "{'driver':'blkdebug','node-name':'n','discard':'unmap','image':" DISK("d") more "}"

static BlockBackend *open_debug(struct world *w, const char *options)
{
    if (!disk_find(w->sim, "d")) {
        make_disk(w, "d", MiB);
    }
    return open_blk(w, options);
}

/* --- events ------------------------------------------------------------------------------------------------- */

/* fact: block 7.1/events */
static void test_event_names(void **state)
{
    static const char *const names[] = {"l1_update",
                                        "l1_grow_alloc_table",
                                        "l1_grow_write_table",
                                        "l1_grow_activate_table",
                                        "l2_load",
                                        "l2_update",
                                        "l2_update_compressed",
                                        "l2_alloc_cow_read",
                                        "l2_alloc_write",
                                        "read_aio",
                                        "read_backing_aio",
                                        "read_compressed",
                                        "write_aio",
                                        "write_compressed",
                                        "vmstate_load",
                                        "vmstate_save",
                                        "cow_read",
                                        "cow_write",
                                        "reftable_load",
                                        "reftable_grow",
                                        "reftable_update",
                                        "refblock_load",
                                        "refblock_update",
                                        "refblock_update_part",
                                        "refblock_alloc",
                                        "refblock_alloc_hookup",
                                        "refblock_alloc_write",
                                        "refblock_alloc_write_blocks",
                                        "refblock_alloc_write_table",
                                        "refblock_alloc_switch_table",
                                        "cluster_alloc",
                                        "cluster_alloc_bytes",
                                        "cluster_free",
                                        "flush_to_os",
                                        "flush_to_disk",
                                        "pwritev_rmw_head",
                                        "pwritev_rmw_after_head",
                                        "pwritev_rmw_tail",
                                        "pwritev_rmw_after_tail",
                                        "pwritev",
                                        "pwritev_zero",
                                        "pwritev_done",
                                        "empty_image_prepare",
                                        "l1_shrink_write_table",
                                        "l1_shrink_free_l2_clusters",
                                        "cor_write",
                                        "cluster_alloc_space",
                                        "none"};
    enum blkdbg_event event;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        assert_true(blkdbg_event_parse(names[i], &event));
        assert_string_equal(blkdbg_event_names[event], names[i]);
    }
    assert_int_equal(BLKDBG_COUNT, ARRAY_SIZE(names));
    assert_false(blkdbg_event_parse("", &event));
    assert_false(blkdbg_event_parse("pwritev_", &event));
}

/* raw tells its file what it is about to do; so may a read be armed by the write before it. */
/* fact: block 7.1/format-events */
WORLD_TEST(test_raw_events)
{
    make_disk(w, "d", MiB);
    BlockBackend *blk = open_blk(w, "{'driver':'raw','node-name':'r','file':{'driver':'blkdebug','inject-error':["
                                    "{'event':'read_aio','errno':1,'iotype':'read'},"
                                    "{'event':'write_aio','errno':2,'iotype':'write'}],'image':" DISK("d") "}}");

    assert_int_equal(do_io(blk, w, R, 0, 512), -1);
    assert_int_equal(do_io(blk, w, W, 0, 512), -2);
    assert_int_equal(do_io(blk, w, R, 0, 512), -1);
    close_blk(w, blk);
}

/* pwritev and pwritev_zero belong to the node that is written itself, and pwritev_done comes also when it fails. */
/* fact: block 7.1/write-events */
WORLD_TEST(test_write_events)
{
    BlockBackend *blk = open_debug(w, DEBUG(",'inject-error':[{'event':'pwritev','errno':1,'iotype':'write'},"
                                            "{'event':'pwritev_zero','errno':2,'iotype':'write-zeroes'},"
                                            "{'event':'pwritev_done','errno':3,'iotype':'read'}]"));

    assert_int_equal(do_io(blk, w, R, 0, 512), 0);
    assert_int_equal(do_io(blk, w, W, 0, 512), -1);
    assert_int_equal(do_io(blk, w, R, 0, 512), -3);
    assert_int_equal(do_io(blk, w, Z, 0, 512), -2);
    assert_int_equal(do_io(blk, w, R, 0, 512), -3);
    close_blk(w, blk);
}

/* flush_* reach the file of whoever is flushed, not blkdebug itself. */
/* fact: block 7.1/flush-events */
WORLD_TEST(test_flush_events)
{
    make_disk(w, "d", MiB);
    BlockBackend *blk = open_blk(w, "{'driver':'raw','node-name':'r','file':{'driver':'blkdebug','node-name':'n',"
                                    "'inject-error':[{'event':'flush_to_os','errno':1,'iotype':'read'},"
                                    "{'event':'flush_to_disk','errno':2,'iotype':'read'}],'image':" DISK("d") "}}");

    assert_int_equal(do_io(blk, w, F, 0, 0), 0); /* nothing to bring to the disk */
    assert_int_equal(do_io(blk, w, R, 0, 512), -1);
    assert_int_equal(do_io(blk, w, W, 0, 512), 0);
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    assert_int_equal(do_io(blk, w, R, 0, 512), -2);
    close_blk(w, blk);

    blk = open_debug(w, DEBUG(",'inject-error':[{'event':'flush_to_os'}]"));
    assert_int_equal(do_io(blk, w, W, 0, 512), 0);
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    assert_int_equal(do_io(blk, w, R, 0, 512), 0);
    close_blk(w, blk);
}

/* --- inject-error --------------------------------------------------------------------------------------------- */

/* Armed at open, everything fails with EIO but block status. */
/* fact: block 7.1/none, 7.1/iotype, 7.1/errno */
WORLD_TEST(test_inject_defaults)
{
    BlockBackend *blk = open_debug(w, DEBUG(",'inject-error':[{'event':'none'}]"));

    assert_int_equal(do_io(blk, w, R, 0, 512), -EIO);
    assert_int_equal(do_io(blk, w, W, 0, 512), -EIO);
    assert_int_equal(do_io(blk, w, Z, 0, 512), -EIO);
    assert_int_equal(do_io(blk, w, D, 0, 4096), -EIO);
    assert_int_equal(do_io(blk, w, F, 0, 0), -EIO);
    assert_int_equal(do_io(blk, w, S, 0, 512), 0);
    close_blk(w, blk);
}

/* fact: block 7.1/iotype */
WORLD_TEST(test_iotype)
{
    static const struct {
        const char *word;
        enum sim_op op;
    } kinds[] = {{"read", R}, {"write", W}, {"write-zeroes", Z}, {"discard", D}, {"flush", F}, {"block-status", S}};
    static const enum sim_op order[] = {R, W, Z, D, S, F};

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        char text[300];
        snprintf(text, sizeof(text), DEBUG(",'inject-error':[{'event':'none','errno':28,'iotype':'%s'}]"),
                 kinds[i].word);
        BlockBackend *blk = open_debug(w, text);
        for (size_t j = 0; j < ARRAY_SIZE(order); j++) {
            assert_int_equal(do_io(blk, w, order[j], 0, 4096), order[j] == kinds[i].op ? -28 : 0);
        }
        close_blk(w, blk);
    }
}

/* A rule for a sector matches what touches it, and no flush. */
/* fact: block 7.1/sector */
WORLD_TEST(test_sector)
{
    BlockBackend *blk = open_debug(w, DEBUG(",'inject-error':[{'event':'none','sector':2}]"));

    assert_int_equal(do_io(blk, w, R, 0, 1024), 0);
    assert_int_equal(do_io(blk, w, R, 0, 1025), -EIO);
    assert_int_equal(do_io(blk, w, W, 1024, 512), -EIO);
    assert_int_equal(do_io(blk, w, W, 1536, 512), 0);
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    assert_int_equal(do_io(blk, w, D, 0, 4096), -EIO);
    close_blk(w, blk);
}

/* fact: block 7.1/once */
WORLD_TEST(test_once)
{
    BlockBackend *blk = open_debug(w, DEBUG(",'inject-error':[{'event':'pwritev','once':true,'iotype':'write'}]"));

    assert_int_equal(do_io(blk, w, W, 0, 512), -EIO);
    assert_int_equal(do_io(blk, w, W, 0, 512), 0); /* the event comes again, the rule is gone */
    close_blk(w, blk);
}

/* fact: block 7.1/first-match */
WORLD_TEST(test_before_child)
{
    BlockBackend *blk = open_debug(w, DEBUG(",'inject-error':[{'event':'pwritev','once':true}]"));
    struct payload seen;

    assert_int_equal(do_io(blk, w, W, 0, 512), -EIO);
    payload_init(w->sim, &seen);
    disk_peek(disk_find(w->sim, "d"), 0, 512, &seen);
    assert_true(payload_is_zero(&seen, 0, 512));
    payload_clear(&seen);
    assert_int_equal(bdrv_get_wr_highest_offset(bdrv_primary_bs(blk_bs(blk))), 0);
    close_blk(w, blk);
}

struct turn {
    struct io io;
    bool others_ran;
    bool others_ran_before_failure;
};

static void other_entry(void *opaque)
{
    ((struct turn *)opaque)->others_ran = true;
}

static void turn_entry(void *opaque)
{
    struct turn *t = opaque;

    coroutine_start(coroutine_create(t->io.w->sim, t->io.w->host, "other", other_entry, t));
    t->io.ret = io_run(&t->io);
    t->others_ran_before_failure = t->others_ran;
    t->io.done = true;
    host_kick(t->io.w->host);
}

/* Without `immediately` the failure comes on the next turn of the loop: whatever was due goes first. */
/* fact: block 7.1/immediately */
WORLD_TEST(test_immediately)
{
    static const char *const rules[] = {DEBUG(",'inject-error':[{'event':'none','immediately':false}]"),
                                        DEBUG(",'inject-error':[{'event':'none','immediately':true}]")};

    for (unsigned i = 0; i < 2; i++) {
        struct turn t = {.io = {.w = w, .blk = open_debug(w, rules[i]), .op = R, .bytes = 512}};
        int64_t from = sim_now(w->sim);
        coroutine_start(coroutine_create(w->sim, w->host, "turn", turn_entry, &t));
        assert_int_equal(io_finish(&t.io), -EIO);
        let_run(w, 1);
        assert_int_equal(t.others_ran_before_failure, i == 0);
        assert_true(t.others_ran);
        assert_int_equal(sim_now(w->sim) - from, 1);
        close_blk(w, t.io.blk);
    }
}

/* The rule that was defined first decides; errno 0 lets pass what later rules would fail, and is not used up. */
/* fact: block 7.1/first-match, 7.1/errno-zero */
WORLD_TEST(test_shield)
{
    BlockBackend *blk = open_debug(w, DEBUG(",'inject-error':[{'event':'none','errno':0,'sector':0,'once':true},"
                                            "{'event':'none','errno':5},{'event':'none','errno':28}]"));
    assert_int_equal(do_io(blk, w, R, 0, 512), 0);
    assert_int_equal(do_io(blk, w, R, 0, 512), 0);
    assert_int_equal(do_io(blk, w, R, 512, 512), -5);
    close_blk(w, blk);

    blk = open_debug(w, DEBUG(",'inject-error':[{'event':'none','errno':28},{'event':'none','errno':0}]"));
    assert_int_equal(do_io(blk, w, R, 0, 512), -28);
    close_blk(w, blk);
}

/* --- states and the active set -------------------------------------------------------------------------------- */

/* State 1 at first; an event judges its rules by the state before it, so set-state acts from the next event on. */
/* fact: block 7.1/state, 7.1/event-before, edge/49 */
WORLD_TEST(test_state_before)
{
    BlockBackend *blk = open_debug(w, DEBUG(",'set-state':[{'event':'pwritev','state':1,'new_state':2},"
                                            "{'event':'pwritev','state':2,'new_state':3}],"
                                            "'inject-error':[{'event':'pwritev','state':2,'errno':2,'once':true},"
                                            "{'event':'pwritev','state':3,'errno':3,'once':true},"
                                            "{'event':'pwritev','state':4,'errno':4}]"));
    assert_int_equal(do_io(blk, w, W, 0, 512), 0);  /* judged in 1 */
    assert_int_equal(do_io(blk, w, W, 0, 512), -2); /* in 2, not yet in 3 */
    assert_int_equal(do_io(blk, w, W, 0, 512), -3);
    assert_int_equal(do_io(blk, w, W, 0, 512), 0); /* 3 for good */
    assert_int_equal(do_io(blk, w, W, 0, 512), 0);
    close_blk(w, blk);
}

/* fact: block 7.1/state, 7.1/set-state */
WORLD_TEST(test_any_state)
{
    BlockBackend *blk = open_debug(w, DEBUG(",'set-state':[{'event':'pwritev','new_state':7},"
                                            "{'event':'pwritev','state':1,'new_state':8}],"
                                            "'inject-error':[{'event':'pwritev_zero','state':7,'errno':7},"
                                            "{'event':'pwritev','state':0,'errno':9,'iotype':'read'}]"));
    assert_int_equal(do_io(blk, w, W, 0, 512), 0);
    assert_int_equal(do_io(blk, w, R, 0, 512), -9);
    /* of several set-state rules that match the one defined first wins */
    assert_int_equal(do_io(blk, w, Z, 0, 512), -7);
    close_blk(w, blk);
}

/* Rules stay armed whatever the state becomes, until an event with matching rules replaces them all. */
/* fact: block 7.1/active-set, 7.1/stay-armed, edge/48 */
WORLD_TEST(test_active_set)
{
    BlockBackend *blk = open_debug(w, DEBUG(",'set-state':[{'event':'pwritev','state':1,'new_state':2}],"
                                            "'inject-error':["
                                            "{'event':'pwritev','state':1,'errno':1,'iotype':'read'},"
                                            "{'event':'pwritev_zero','state':2,'errno':2,'iotype':'discard'},"
                                            "{'event':'pwritev_zero','state':9,'errno':9,'iotype':'read'}]"));
    assert_int_equal(do_io(blk, w, W, 0, 512), 0);
    assert_int_equal(do_io(blk, w, R, 0, 512), -1); /* armed, though the state is 2 by now */
    assert_int_equal(do_io(blk, w, W, 0, 512), 0);  /* none of pwritev's rules matches: the set stays */
    assert_int_equal(do_io(blk, w, R, 0, 512), -1);
    assert_int_equal(do_io(blk, w, D, 0, 4096), 0);
    assert_int_equal(do_io(blk, w, Z, 0, 512), 0);
    assert_int_equal(do_io(blk, w, D, 0, 4096), -2); /* the new set, exactly */
    assert_int_equal(do_io(blk, w, R, 0, 512), 0);
    close_blk(w, blk);
}

/* --- flush and zero writes ------------------------------------------------------------------------------------ */

/* fact: block 7.1/flush-error */
WORLD_TEST(test_flush)
{
    BlockBackend *blk = open_debug(w, DEBUG(",'inject-error':[{'event':'none','iotype':'flush','once':true}]"));

    assert_int_equal(do_io(blk, w, F, 0, 0), 0); /* nothing unflushed: nobody asks */
    assert_int_equal(do_io(blk, w, W, 0, 512), 0);
    assert_int_equal(do_io(blk, w, F, 0, 0), -EIO);
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    close_blk(w, blk);
}

/* A zero write below the preferred size comes as data; where it may not, it fails. */
/* fact: block 7.1/zero-alignment */
WORLD_TEST(test_small_zeroes)
{
    BlockBackend *blk = open_debug(w, DEBUG(",'opt-write-zero':4096,"
                                            "'inject-error':[{'event':'none','iotype':'write','errno':9}]"));
    struct io no_fallback = {.w = w, .blk = blk, .op = Z, .bytes = 512, .flags = BDRV_REQ_NO_FALLBACK};

    assert_int_equal(do_io(blk, w, Z, 0, 4096), 0);
    assert_int_equal(do_io(blk, w, Z, 0, 512), -9);
    assert_int_equal(do_io(blk, w, Z, 8192, 4608), -9); /* its tail */
    io_start(&no_fallback);
    assert_int_equal(io_finish(&no_fallback), -ENOTSUP);
    close_blk(w, blk);
}

/* --- limits and permissions ----------------------------------------------------------------------------------- */

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Requests of all shapes stay inside limits of all shapes (blkdebug asserts it), and the content is right. */
static void try_limits(struct world *w, const char *options)
{
    BlockBackend *blk = open_debug(w, options);
    static const enum sim_op ops[] = {W, Z, D, W, Z};
    static uint8_t model[32768]; /* too large for the stack of a coroutine */
    uint32_t random = 7;

    assert_int_equal(do_io(blk, w, W, 0, sizeof(model)), 0);
    memset(model, 0x5a, sizeof(model));
    for (unsigned i = 0; i < 150; i++) {
        uint32_t a = next_random(&random) % sizeof(model);
        uint32_t b = next_random(&random) % (uint32_t)(sizeof(model) - a) + 1;
        struct io io = {.w = w, .blk = blk, .op = ops[i % 5], .offset = a, .bytes = b, .fill = (uint8_t)(i + 1)};
        if (next_random(&random) % 2) {
            io.offset = ROUND_DOWN(io.offset, 512);
        }
        if (io.op == D) {
            io.offset += (int64_t)sizeof(model); /* what it leaves is undefined */
        }
        io_start(&io);
        assert_int_equal(io_finish(&io), 0);
        if (io.op != D) {
            memset(model + io.offset, io.op == W ? io.fill : 0, (size_t)io.bytes);
        }
    }
    struct payload seen;
    static uint8_t bytes[sizeof(model)];
    payload_init(w->sim, &seen);
    disk_peek(disk_find(w->sim, "d"), 0, sizeof(model), &seen);
    payload_read_bytes(&seen, 0, bytes, sizeof(bytes));
    payload_clear(&seen);
    assert_memory_equal(bytes, model, sizeof(model));
    close_blk(w, blk);
}

/* fact: block 7.1/limits */
WORLD_TEST(test_limits)
{
    try_limits(w, DEBUG(""));
    try_limits(w, DEBUG(",'align':4096"));
    try_limits(w, DEBUG(",'align':512,'max-transfer':1024"));
    try_limits(w, DEBUG(",'align':512,'opt-write-zero':1536,'max-write-zero':3072,'opt-discard':1536,"
                        "'max-discard':4608"));
    try_limits(w, DEBUG(",'align':1024,'max-transfer':1024,'opt-write-zero':8192,'max-write-zero':8192,"
                        "'opt-discard':8192,'max-discard':8192"));
    try_limits(w, DEBUG(",'align':512,'max-discard':512,'max-write-zero':512"));
}

/* fact: block 7.1/limits */
WORLD_TEST(test_limits_shown)
{
    BlockBackend *blk = open_debug(w, DEBUG(",'align':4096,'max-transfer':8192,'opt-write-zero':12288,"
                                            "'max-write-zero':24576,'opt-discard':4096,'max-discard':16384"));
    const BlockLimits *bl = &blk_bs(blk)->bl;

    assert_int_equal(bl->request_alignment, 4096);
    assert_int_equal(bl->max_transfer, 8192);
    assert_int_equal(bl->pwrite_zeroes_alignment, 12288);
    assert_int_equal(bl->max_pwrite_zeroes, 24576);
    assert_int_equal(bl->pdiscard_alignment, 4096);
    assert_int_equal(bl->max_pdiscard, 16384);
    close_blk(w, blk);
}

/* An image that prefers larger discards than ours may be: ours wins, and nothing is asserted in vain. */
WORLD_TEST(test_discard_limits_stacked)
{
    make_disk(w, "d", MiB);
    BlockBackend *blk = open_blk(w, "{'driver':'blkdebug','node-name':'n','discard':'unmap','max-discard':1024,"
                                    "'align':512,'image':{'driver':'blkdebug','align':512,'opt-discard':65536,"
                                    "'image':" DISK("d") "}}");
    assert_int_equal(do_io(blk, w, D, 512, 300000), 0);
    close_blk(w, blk);
}

/* fact: block 7.1/perms, 1.11/blkdebug, 9/add-permissions */
WORLD_TEST(test_child_perms)
{
    Error *err = NULL;
    uint64_t perm, shared;

    make_disk(w, "d", MiB);
    add(w, "{'driver':'disk','node-name':'d','disk':'d'}");
    BlockDriverState *n = add(w, "{'driver':'blkdebug','node-name':'n','image':'d','take-child-perms':['write',"
                                 "'write-unchanged'],'unshare-child-perms':['resize','write']}");
    bdrv_child_perms(bdrv_first_child(n), &perm, &shared);
    assert_int_equal(perm & BLK_PERM_ALL, BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED);
    assert_int_equal(shared, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    assert_null(
        try_add(w, "{'driver':'blkdebug','node-name':'m','image':'d','take-child-perms':['resize']}", &err));
    expect_error(&err, "Conflicts with use by node");
    assert_null(
        try_add(w, "{'driver':'blkdebug','node-name':'m','image':'d','unshare-child-perms':['write']}", &err));
    expect_error(&err, "Conflicts with use by node");
    add(w, "{'driver':'blkdebug','node-name':'m','image':'d','take-child-perms':['consistent-read']}");
    del(w, "m");
    del(w, "n");
    del(w, "d");
}

/* --- options -------------------------------------------------------------------------------------------------- */

/* Lists may be lists or numbered keys, in any order. */
WORLD_TEST(test_option_forms)
{
    make_disk(w, "d", MiB);
    BlockBackend *blk = open_blk(
        w, "{'driver':'blkdebug','node-name':'n','inject-error.1.errno':28,'inject-error.0.event':'none',"
           "'image.driver':'disk','inject-error.0.errno':22,'inject-error.0.sector':0,'image.disk':'d',"
           "'inject-error':{'1.event':'none'},'take-child-perms.0':'write','inject-error.0.iotype':'read'}");
    assert_int_equal(do_io(blk, w, R, 0, 512), -22);
    assert_int_equal(do_io(blk, w, R, 512, 512), -28);
    assert_int_equal(do_io(blk, w, W, 0, 512), -28);
    close_blk(w, blk);

    blk = open_blk(w, "{'driver':'raw','node-name':'r','file':{'driver':'blkdebug','image':" DISK(
                          "d") ",'inject-error.0.event':'none','inject-error.0.errno':30,'set-state':[]}}");
    assert_int_equal(do_io(blk, w, R, 0, 512), -30);
    close_blk(w, blk);
}

WORLD_TEST(test_bad_options)
{
    static const struct {
        const char *more, *error;
    } bad[] = {
        {",'config':'rules'", "Parameter 'config' is unexpected"},
        {",'inject-error':{'event':'none'}", "Parameter 'inject-error' expects a list"},
        {",'inject-error':'none'", "Parameter 'inject-error' expects a list"},
        {",'inject-error':[7]", "Parameter 'inject-error.0' expects a dictionary"},
        {",'inject-error':[{'errno':5}]", "inject-error.0: Parameter 'event' is missing"},
        {",'inject-error':[{'event':'none'},{'event':'write'}]",
         "inject-error.1: Parameter 'event' does not accept value 'write'"},
        {",'inject-error':[{'event':'none','iotype':'truncate'}]",
         "Parameter 'iotype' does not accept value 'truncate'"},
        {",'inject-error':[{'event':'none','errno':-5}]", "Parameter 'errno' expects a number from 0 to 4095"},
        {",'inject-error':[{'event':'none','errno':4096}]", "Parameter 'errno' expects a number from 0 to 4095"},
        {",'inject-error':[{'event':'none','errno':'EIO'}]", "Parameter 'errno' expects an integer"},
        {",'inject-error':[{'event':'none','sector':-2}]", "Parameter 'sector' expects a number from 0"},
        {",'inject-error':[{'event':'none','state':-1}]", "Parameter 'state' expects a number from 0"},
        {",'inject-error':[{'event':'none','once':3}]", "Parameter 'once' expects"},
        {",'inject-error':[{'event':'none','new_state':3}]", "Parameter 'new_state' is unexpected"},
        {",'inject-error':[{'event':'none','event.x':3}]", "Parameter 'event.x' is given twice"},
        {",'inject-error.0.event':'none','inject-error.2.event':'none'", "'inject-error.1' is missing"},
        {",'inject-error.0.event':'none','inject-error.x.event':'none'",
         "Parameter 'inject-error' mixes numbered and named keys"},
        {",'inject-error':[],'inject-error.0.event':'none'", "is given twice"},
        {",'set-state':[{'event':'none'}]", "set-state.0: Parameter 'new_state' is missing"},
        {",'set-state':[{'event':'none','new_state':-1}]", "Parameter 'new_state' expects a number from 0"},
        {",'align':3", "Cannot meet constraints with align 3"},
        {",'align':2147483648", "Cannot meet constraints with align 2147483648"},
        {",'align':512,'max-transfer':1000", "Cannot meet constraints with max-transfer 1000"},
        {",'max-transfer':2147483648", "Cannot meet constraints with max-transfer 2147483648"},
        {",'align':512,'opt-write-zero':100", "Cannot meet constraints with opt-write-zero 100"},
        {",'opt-write-zero':1024,'max-write-zero':1536", "Cannot meet constraints with max-write-zero 1536"},
        {",'opt-discard':1024,'max-discard':512", "Cannot meet constraints with max-discard 512"},
        {",'take-child-perms':['write','all']", "Parameter 'take-child-perms.1' does not accept value 'all'"},
        {",'take-child-perms':[1]", "Parameter 'take-child-perms.0' expects a string"},
        {",'take-child-perms':'write'", "Parameter 'take-child-perms' expects a list"},
    };
    Error *err = NULL;

    make_disk(w, "d", MiB);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char text[600];
        snprintf(text, sizeof(text), DEBUG("%s"), bad[i].more);
        if (try_add(w, text, &err)) {
            fail_msg("accepted: %s", text);
        }
        expect_error(&err, bad[i].error);
        assert_int_equal(node_count(w), 0);
        assert_int_equal(sim_arena_live(w->host->arena, SIM_TYPE_blkdebug_rule), 0);
    }
    assert_null(try_add(w, "{'driver':'blkdebug','node-name':'n'}", &err));
    expect_error(&err, "Parameter 'image' is missing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/blkdebug/events/names", test_event_names),
        T("/blkdebug/events/raw", test_raw_events),
        T("/blkdebug/events/write", test_write_events),
        T("/blkdebug/events/flush", test_flush_events),
        T("/blkdebug/inject/defaults", test_inject_defaults),
        T("/blkdebug/inject/iotype", test_iotype),
        T("/blkdebug/inject/sector", test_sector),
        T("/blkdebug/inject/once", test_once),
        T("/blkdebug/inject/before-child", test_before_child),
        T("/blkdebug/inject/immediately", test_immediately),
        T("/blkdebug/inject/shield", test_shield),
        T("/blkdebug/state/before", test_state_before),
        T("/blkdebug/state/any", test_any_state),
        T("/blkdebug/state/active-set", test_active_set),
        T("/blkdebug/flush/unflushed", test_flush),
        T("/blkdebug/zeroes/below-alignment", test_small_zeroes),
        T("/blkdebug/limits/respected", test_limits),
        T("/blkdebug/limits/shown", test_limits_shown),
        T("/blkdebug/limits/stacked-discard", test_discard_limits_stacked),
        T("/blkdebug/perms", test_child_perms),
        T("/blkdebug/options/forms", test_option_forms),
        T("/blkdebug/options/bad", test_bad_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
