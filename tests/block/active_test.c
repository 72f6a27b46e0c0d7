/* Protects: giving nodes up and taking them back: who may, in which order, what is stored, read again and kept. */
#include "tests/block/qcow2_bitmap_lib.h"

/* Node "n", qcow2 over "p" (disk "d"), and a backend with a name over it. */
static struct image open_named(struct world *w)
{
    struct image i = make_image(w, 4 * MiB, "");

    open_image(&i, true);
    assert_true(blk_set_name(i.blk, "g", NULL));
    return i;
}

static void give_up(BlockDriverState *bs)
{
    Error *err = NULL;

    if (bdrv_inactivate(bs, &err) != 0) {
        fail_msg("%s", error_get_pretty(err));
    }
}

static void take_back(BlockDriverState *bs)
{
    Error *err = NULL;

    if (bdrv_activate(bs, &err) != 0) {
        fail_msg("%s", error_get_pretty(err));
    }
}

static void is_refused(BlockDriverState *bs, int ret, const char *text)
{
    Error *err = NULL;

    assert_int_equal(bdrv_inactivate(bs, &err), ret);
    expect_error(&err, text);
}

static BlockDriverState *node(struct world *w, const char *name)
{
    BlockDriverState *bs = bdrv_find_node(w->host, name);

    assert_non_null(bs);
    return bs;
}

/* What of an image's life is seen: writes and flushes of media, rights of edges, activity. */
struct trail {
    char text[2000];
    unsigned writes;
};

static void note(void *opaque, const struct sim_record *record)
{
    struct trail *t = opaque;
    size_t used = strlen(t->text);
    const struct disk_req *req = record->kind == EV_disk_complete ? record->ref : NULL;

    if (req && req->op != SIM_OP_READ && req->op != SIM_OP_GETLENGTH && req->op != SIM_OP_OPEN) {
        t->writes += req->op != SIM_OP_FLUSH;
        snprintf(t->text + used, sizeof(t->text) - used, "%s ", req->op == SIM_OP_FLUSH ? "flush" : "write");
    } else if (record->kind == EV_node_activity) {
        snprintf(t->text + used, sizeof(t->text) - used, "%s:%s ", sim_record_name(record, 0)->str,
                 record->field[1] ? "active" : "inactive");
    } else if (record->kind == EV_edge_perm) {
        snprintf(t->text + used, sizeof(t->text) - used, "perm(%s) ", sim_record_name(record, 2)->str);
    }
}

static void listen(struct world *w, struct trail *t)
{
    *t = (struct trail){.writes = 0};
    sim_subscribe(w->sim, EV_disk_complete, note, t);
    sim_subscribe(w->sim, EV_node_activity, note, t);
    sim_subscribe(w->sim, EV_edge_perm, note, t);
}

/* --- who may ------------------------------------------------------------------------------------------------- */

/* fact: block 12/inactive-order */
WORLD_TEST(file_goes_with_its_format)
{
    struct image i = open_named(w);

    is_refused(node(w, "p"), -EPERM, "Node has active parent node");
    assert_false(bdrv_is_inactive(node(w, "p")));
    give_up(i.bs);
    assert_true(bdrv_is_inactive(i.bs));
    assert_true(bdrv_is_inactive(node(w, "p")));
    give_up(node(w, "p"));
    give_up(i.bs);
    take_back(i.bs);
    assert_false(bdrv_is_inactive(node(w, "p")));
    close_image(&i);
}

static void two_parents(struct world *w, bool raw_first)
{
    make_disk(w, "d2", MiB);
    add(w, "{'driver':'disk','node-name':'f','disk':'d2'}");
    add(w, raw_first ? "{'driver':'raw','node-name':'a','file':'f'}"
                     : "{'driver':'blkdebug','node-name':'a','image':'f'}");
    add(w, raw_first ? "{'driver':'blkdebug','node-name':'b','image':'f'}"
                     : "{'driver':'raw','node-name':'b','file':'f'}");
    give_up(node(w, "a"));
    assert_false(bdrv_is_inactive(node(w, "f")));
    give_up(node(w, "b"));
    assert_true(bdrv_is_inactive(node(w, "f")));
    assert_int_equal(bdrv_activate_all(w->host, NULL), 0);
    assert_int_equal(bdrv_inactivate_all(w->host, NULL), 0);
    assert_true(bdrv_is_inactive(node(w, "a")) && bdrv_is_inactive(node(w, "b")) && bdrv_is_inactive(node(w, "f")));
    del(w, "b");
    del(w, "a");
    del(w, "f");
}

/* fact: block edge/39, 12/inactive-two-parents */
WORLD_TEST(child_waits_for_its_last_parent)
{
    two_parents(w, true);
}

/* fact: block edge/39, 12/inactive-two-parents */
WORLD_TEST(in_the_other_order)
{
    two_parents(w, false);
}

/* fact: block 12/inactive-chain */
WORLD_TEST(top_takes_the_chain_along)
{
    struct image i = make_image(w, 4 * MiB, "");
    struct image over = {.w = w, .disk = make_disk(w, "d2", 0)};
    struct call c = {.i = &over, .text = "{'driver':'qcow2','file':{'driver':'disk','disk':'d2'},'size':4194304}"};

    done(&c, go(&c, "create", create_entry));
    open_image(&i, false);
    BlockDriverState *top =
        add(w, "{'driver':'qcow2','node-name':'top','file':{'driver':'disk','disk':'d2'},'backing':'n'}");
    give_up(top);
    for (BlockDriverState *bs = bdrv_next_node(w->host, NULL); bs; bs = bdrv_next_node(w->host, bs)) {
        assert_true(bdrv_is_inactive(bs));
    }
    take_back(top);
    for (BlockDriverState *bs = bdrv_next_node(w->host, NULL); bs; bs = bdrv_next_node(w->host, bs)) {
        assert_false(bdrv_is_inactive(bs));
    }
    del(w, "top");
    close_image(&i);
}

/* --- refusals ------------------------------------------------------------------------------------------------ */

/* A writer on one node: no image of the host is touched, none forgets a bitmap. The original has stored and dropped
 * those of "n" by the time when it asks the other one's user [hazard].
 * fact: block edge/41, 9/set-active */
WORLD_TEST(refusal_changes_nothing)
{
    struct image i = open_named(w);
    struct trail t;

    add_bitmap(&i, "b", 65536, true);
    fill(&i, 1, 0, 65536);
    make_disk(w, "d2", MiB);
    BlockDriverState *other = add(w, "{'driver':'disk','node-name':'other','disk':'d2'}");
    BlockBackend *writer = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(writer, other, NULL), 0);
    listen(w, &t);
    Error *err = NULL;
    assert_int_equal(bdrv_inactivate_all(w->host, &err), -EPERM);
    expect_error(&err, "Failed to inactivate all nodes: Node 'other' is in use by");
    assert_string_equal(t.text, "");
    assert_string_equal(bitmaps_text(&i), "b:ep=65536 ");
    fill(&i, 2, MiB, 65536);
    assert_int_equal(count(&i, "b"), 131072);
    blk_unref(writer);
    assert_int_equal(bdrv_inactivate_all(w->host, NULL), 0);
    take_back(i.bs);
    assert_string_equal(bitmaps_text(&i), "b:ep=131072 ");
    del(w, "other");
    close_image(&i);
}

/* fact: block edge/41 */
WORLD_TEST(busy_bitmap_refuses)
{
    struct image i = open_named(w);
    struct trail t;

    bdrv_dirty_bitmap_set_busy(add_bitmap(&i, "b", 65536, true), true);
    listen(w, &t);
    is_refused(i.bs, -EBUSY, "Failed to inactivate node: Bitmap 'b' is currently in use");
    assert_string_equal(t.text, "");
    bdrv_dirty_bitmap_set_busy(bitmap(&i, "b"), false);
    close_image(&i);
}

static char *owner_desc(const BdrvChild *child)
{
    return strdup("an owner");
}

static const BdrvChildClass child_owner = {.stay_at_node = true, .get_parent_desc = owner_desc};

/* A job keeps what it holds: that it may write stands against it, that it reads does not.
 * fact: block edge/41 */
WORLD_TEST(job_that_writes_refuses)
{
    struct image i = open_named(w);
    uint64_t perm = BLK_PERM_CONSISTENT_READ;
    BdrvChild *job =
        bdrv_root_attach_child(i.bs, "main node", &child_owner, 0, perm | BLK_PERM_WRITE, BLK_PERM_ALL, w, NULL);

    add_bitmap(&i, "b", 65536, true);
    is_refused(i.bs, -EPERM, "Inactive block node 'n' cannot support read-write users");
    assert_string_equal(bitmaps_text(&i), "b:ep=0 ");
    assert_int_equal(bdrv_child_try_set_perm(job, perm, BLK_PERM_ALL, NULL), 0);
    give_up(i.bs);
    take_back(i.bs);
    bdrv_root_unref_child(job);
    close_image(&i);
}

/* --- what it means ------------------------------------------------------------------------------------------- */

/* Stored and stable while everything still counts as active, then the rights of users, then the flag.
 * fact: block edge/38 */
WORLD_TEST(stored_then_rights_then_flag)
{
    struct image i = open_named(w);
    struct trail t;

    add_bitmap(&i, "b", 65536, true);
    fill(&i, 1, 0, 65536);
    listen(w, &t);
    give_up(i.bs);
    char *rights = strstr(t.text, "perm(");
    char *flag = strstr(t.text, "n:inactive");
    assert_non_null(rights);
    assert_non_null(flag);
    assert_true(t.writes > 0 && rights < flag);
    assert_null(strstr(rights, "write"));
    assert_string_equal(strstr(flag, "p:inactive"), "p:inactive ");
    assert_string_equal(bitmaps_text(&i), "");
    take_back(i.bs);
    assert_string_equal(bitmaps_text(&i), "b:ep=65536 ");
    close_image(&i);
}

/* Users read, and are told that they may not write; nobody else can get more; what they had comes back.
 * fact: block 8.2/users, 8.5/users */
WORLD_TEST(users_read_and_do_not_write)
{
    struct image i = open_named(w);
    uint64_t perm, shared;

    fill(&i, 1, 0, 65536);
    give_up(i.bs);
    bdrv_cumulative_perms(i.bs, &perm, &shared);
    assert_int_equal(perm, 0);
    assert_int_equal(shared, BLK_PERM_ALL);
    bdrv_cumulative_perms(node(w, "p"), &perm, &shared);
    assert_int_equal(perm, BLK_PERM_CONSISTENT_READ);
    assert_int_equal(shared & (BLK_PERM_WRITE | BLK_PERM_RESIZE), BLK_PERM_WRITE | BLK_PERM_RESIZE);
    assert_int_equal(io(&i, 'W', 0, 512), -EPERM);
    assert_int_equal(io(&i, 'Z', 0, 512), -EPERM);
    assert_int_equal(io(&i, 'D', 0, 65536), -EPERM);
    assert_int_equal(io(&i, 'R', MiB, 0), -EPERM);
    assert_int_equal(io(&i, 'F', 0, 0), 0);
    take_back(i.bs);
    assert_int_equal(io(&i, 'W', 0, 512), 0);
    close_image(&i);
}

/* A flush of an inactive node's user reaches nothing: so nothing may be left for it to do.
 * fact: block 8.3/stable */
WORLD_TEST(what_is_given_up_is_stable)
{
    struct image i = {.w = w, .disk = make_disk(w, "d", MiB)};
    struct trail t;

    i.bs = add(w, "{'driver':'disk','node-name':'n','disk':'d'}");
    attach_guest(&i, true);
    assert_true(blk_set_name(i.blk, "g", NULL));
    fill(&i, 1, 0, 65536);
    listen(w, &t);
    give_up(i.bs);
    assert_string_equal(t.text, "flush perm(block device 'g') n:inactive ");
    blk_unref(i.blk);
    del(w, "n");
}

/* fact: block 1.5/close-inactive, edge/42 */
WORLD_TEST(closing_writes_nothing)
{
    struct image i = open_named(w);
    struct trail t;

    add_bitmap(&i, "b", 65536, true);
    fill(&i, 1, 0, 65536);
    give_up(i.bs);
    listen(w, &t);
    close_image(&i);
    assert_int_equal(t.writes, 0);
    open_image(&i, true);
    assert_string_equal(bitmaps_text(&i), "b:ep=65536 ");
    assert_string_equal(check_text(&i), "0 0");
    close_image(&i);
}

/* --- requests ------------------------------------------------------------------------------------------------ */

struct late {
    struct image *i;
    int ret;
};

static void late_write(void *opaque)
{
    struct late *l = opaque;
    struct call c = {.i = l->i, .op = 'W', .bytes = 65536, .fill = 3};

    l->ret = io_entry(&c);
}

static int let_start(void *opaque)
{
    co_sleep_ns(((struct world *)opaque)->sim, 1);
    return 0;
}

/* What is on its way ends before the image goes, and what comes while it goes is too late.
 * fact: block 8.3/drain */
WORLD_TEST(no_request_straddles_it)
{
    struct image i = open_named(w);
    struct late early = {.i = &i, .ret = 1};
    struct late parked = {.i = &i, .ret = 1};

    coroutine_start(coroutine_create(w->sim, w->host, "early", late_write, &early));
    bdrv_run_co(w->host, "wait", let_start, w);
    assert_int_equal(early.ret, 1);
    give_up(i.bs);
    assert_int_equal(early.ret, 0);
    take_back(i.bs);
    bdrv_drained_begin(i.bs);
    coroutine_start(coroutine_create(w->sim, w->host, "parked", late_write, &parked));
    bdrv_run_co(w->host, "wait", let_start, w);
    give_up(i.bs);
    assert_int_equal(parked.ret, 1);
    bdrv_drained_end(i.bs);
    bdrv_run_co(w->host, "wait", let_start, w);
    assert_int_equal(parked.ret, -EPERM);
    take_back(i.bs);
    close_image(&i);
}

/* --- half way ------------------------------------------------------------------------------------------------ */

static void fail_writes(struct disk_interposer *self, struct disk_req *req)
{
    if (req->op == SIM_OP_WRITE) {
        req->ret = -EIO;
    }
}

/* Those before the failure are gone until the caller takes them back; the failed one goes on as it was, and what
 * could not be marked in use again refuses to be written under.
 * fact: block edge/40 */
WORLD_TEST(all_is_not_atomic)
{
    struct image i = open_named(w);
    struct disk_interposer bad = {.before = fail_writes};

    make_disk(w, "d2", MiB);
    BlockDriverState *first = add(w, "{'driver':'disk','node-name':'first','disk':'d2'}");
    BlockBackend *blk = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_true(blk_set_name(blk, "h", NULL));
    assert_int_equal(blk_insert_bs(blk, first, NULL), 0);
    add_bitmap(&i, "b", 65536, true);
    fill(&i, 1, 0, 65536);
    disk_add_interposer(i.disk, &bad);
    Error *err = NULL;
    assert_int_equal(bdrv_inactivate_all(w->host, &err), -EIO);
    expect_error(&err, "Failed to inactivate all nodes: Could not make node 'n' ready for others");
    disk_remove_interposer(i.disk, &bad);
    assert_true(bdrv_is_inactive(first));
    assert_false(bdrv_is_inactive(i.bs));
    assert_int_equal(count(&i, "b"), 65536);
    assert_int_equal(bdrv_activate_all(w->host, NULL), 0);
    assert_false(bdrv_is_inactive(first));
    assert_int_equal(bdrv_activate_all(w->host, NULL), 0);
    blk_unref(blk);
    del(w, "first");
    close_image(&i);
}

/* A filter whose way of giving up lets a writer in, as a job that ends meanwhile might. */
static BlockBackend *late_user;

static void attach_late_user(void *opaque)
{
    BlockDriverState *bs = opaque;

    late_user = blk_new(bs->host, BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(late_user, bdrv_filter_bs(bs), NULL), 0);
}

static int late_inactivate(BlockDriverState *bs)
{
    host_call_main(bs->host, attach_late_user, bs);
    return 0;
}

static int late_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    return bdrv_co_preadv(bs->file, offset, bytes, out, flags);
}

static const BlockDriver late_filter = {
    .format_name = "late",
    .doc = "test filter",
    .is_filter = true,
    .internal = true,
    .bdrv_co_preadv = late_preadv,
    .bdrv_co_inactivate = late_inactivate,
};

/* fact: block edge/41 */
WORLD_TEST(late_user_is_seen)
{
    struct image i = open_named(w);
    BlockDriverState *filter = bdrv_new_filter(w->host, &late_filter, "late", BDRV_O_RDWR, NULL);

    add_bitmap(&i, "b", 65536, true);
    assert_int_equal(bdrv_append(filter, i.bs, NULL), 0);
    is_refused(filter, -EPERM, "Failed to inactivate node: Node 'n' is in use by");
    assert_false(bdrv_is_inactive(filter) || bdrv_is_inactive(i.bs));
    assert_string_equal(bitmaps_text(&i), "b:ep=0 ");
    blk_unref(late_user);
    assert_int_equal(bdrv_drop_filter(filter, NULL), 0);
    bdrv_unref(filter);
    close_image(&i);
}

/* --- taking back --------------------------------------------------------------------------------------------- */

/* Meanwhile the image was somebody else's: longer, with other data and other bits.
 * fact: block edge/43; bitmaps 2.4/activate; qcow2 4.6/activation */
WORLD_TEST(everything_is_read_again)
{
    struct image i = open_named(w);
    struct payload data;

    add_bitmap(&i, "kept", 65536, false);
    add_bitmap(&i, "b", 65536, true);
    fill(&i, 1, 0, 65536);
    give_up(i.bs);
    struct image peer = {.w = w, .disk = i.disk};
    peer.bs = add(w, "{'driver':'qcow2','node-name':'peer','file':{'driver':'disk','disk':'d'}}");
    attach_guest(&peer, true);
    assert_int_equal(io(&peer, 'R', 8 * MiB, 0), 0);
    fill(&peer, 2, 6 * MiB, 65536);
    blk_unref(peer.blk);
    del(w, "peer");
    take_back(i.bs);
    assert_int_equal(bdrv_getlength_cached(i.bs), 8 * MiB);
    payload_init(w->sim, &data);
    assert_int_equal(bdrv_peek(i.bs, 6 * MiB, 512, &data), 0);
    uint8_t byte;
    payload_read_bytes(&data, 0, &byte, 1);
    assert_int_equal(byte, 2);
    payload_clear(&data);
    assert_string_equal(bitmaps_text(&i), "b:ep=131072 kept:e=65536 ");
    assert_string_equal(check_text(&i), "0 0");
    close_image(&i);
}

/* The medium is locked for whoever is active. Who cannot have it stays inactive, with everybody's rights as they
 * were, and may try again.
 * fact: block 8.5/failure, 8.11/inactive */
WORLD_TEST(taken_by_somebody_else)
{
    struct image i = open_named(w);
    Error *err = NULL;

    assert_null(try_add(w, "{'driver':'qcow2','node-name':'peer','file':{'driver':'disk','disk':'d'}}", &err));
    expect_error(&err, "lock on 'd'");
    give_up(i.bs);
    add(w, "{'driver':'qcow2','node-name':'peer','file':{'driver':'disk','disk':'d'}}");
    assert_int_equal(bdrv_activate(i.bs, &err), -EAGAIN);
    expect_error(&err, "lock on 'd'");
    assert_true(bdrv_is_inactive(i.bs));
    assert_int_equal(io(&i, 'W', 0, 512), -EPERM);
    del(w, "peer");
    assert_int_equal(bdrv_activate(i.bs, NULL), 0);
    assert_int_equal(io(&i, 'W', 0, 512), 0);
    close_image(&i);
}

/* Two who came while the node was inactive and cannot both have what they want: neither gets anything.
 * fact: block 8.5/failure */
WORLD_TEST(users_that_conflict)
{
    struct image i = open_named(w);
    BlockBackend *second = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_CONSISTENT_READ);
    uint64_t perm, shared;
    struct trail t;

    give_up(i.bs);
    assert_true(blk_set_name(second, "h", NULL));
    assert_int_equal(blk_insert_bs(second, i.bs, NULL), 0);
    listen(w, &t);
    Error *err = NULL;
    assert_int_equal(bdrv_activate(i.bs, &err), -EPERM);
    expect_error(&err, "Conflicts with use by");
    assert_true(bdrv_is_inactive(i.bs));
    assert_int_equal(t.writes, 0);
    bdrv_cumulative_perms(i.bs, &perm, &shared);
    assert_int_equal(perm, 0);
    blk_unref(second);
    bdrv_drain_all(w->host);
    take_back(i.bs);
    close_image(&i);
}

static void fail_reads(struct disk_interposer *self, struct disk_req *req)
{
    if (req->op == SIM_OP_READ) {
        req->ret = -EIO;
    }
}

/* The children that were taken back stay; the image is unusable until it can be read.
 * fact: block 8.5/failure */
WORLD_TEST(metadata_that_cannot_be_read)
{
    struct image i = open_named(w);
    struct disk_interposer bad = {.before = fail_reads};
    uint64_t perm, shared;

    add_bitmap(&i, "b", 65536, true);
    give_up(i.bs);
    disk_add_interposer(i.disk, &bad);
    Error *err = NULL;
    assert_int_equal(bdrv_activate(i.bs, &err), -EIO);
    expect_error(&err, "Could not reopen qcow2 layer");
    disk_remove_interposer(i.disk, &bad);
    assert_true(bdrv_is_inactive(i.bs));
    assert_false(bdrv_is_inactive(node(w, "p")));
    bdrv_cumulative_perms(node(w, "p"), &perm, &shared);
    assert_int_equal(perm & (BLK_PERM_WRITE | BLK_PERM_RESIZE), 0);
    assert_int_equal(io(&i, 'W', 0, 512), -EPERM);
    take_back(i.bs);
    assert_string_equal(bitmaps_text(&i), "b:ep=0 ");
    assert_int_equal(io(&i, 'W', 0, 512), 0);
    close_image(&i);
}

/* What a read-only image gave to memory is read from it again. */
WORLD_TEST(read_only_bitmaps_come_back)
{
    struct image i = open_named(w);

    add_bitmap(&i, "b", 65536, true);
    fill(&i, 1, 0, 65536);
    close_image(&i);
    open_image(&i, false);
    give_up(i.bs);
    assert_string_equal(bitmaps_text(&i), "");
    take_back(i.bs);
    assert_string_equal(bitmaps_text(&i), "b:epr=65536 ");
    close_image(&i);
}

/* Others must not find what preallocate made beyond the data. */
WORLD_TEST(surplus_is_cut)
{
    struct image i = {.w = w, .disk = make_disk(w, "d", 0)};

    i.bs = add(w, "{'driver':'preallocate','node-name':'n','file':{'driver':'disk','disk':'d'}}");
    i.blk = blk_new(w->host, BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL);
    blk_set_allow_write_beyond_eof(i.blk, true);
    assert_true(blk_set_name(i.blk, "g", NULL));
    assert_int_equal(blk_insert_bs(i.blk, i.bs, NULL), 0);
    fill(&i, 1, 0, 65536);
    assert_true(disk_length(i.disk) > 65536);
    give_up(i.bs);
    assert_int_equal(disk_length(i.disk), 65536);
    take_back(i.bs);
    fill(&i, 1, 65536, 65536);
    blk_unref(i.blk);
    del(w, "n");
    assert_int_equal(disk_length(i.disk), 131072);
}

int main(void)
{
    const struct CMUnitTest tests[] = {

        T("/active/file-goes-with-format", file_goes_with_its_format),
        T("/active/two-parents", child_waits_for_its_last_parent),
        T("/active/two-parents-other-order", in_the_other_order),
        T("/active/chain", top_takes_the_chain_along),
        T("/active/refusal/changes-nothing", refusal_changes_nothing),
        T("/active/refusal/busy-bitmap", busy_bitmap_refuses),
        T("/active/refusal/job-that-writes", job_that_writes_refuses),
        T("/active/order", stored_then_rights_then_flag),
        T("/active/users", users_read_and_do_not_write),
        T("/active/stable", what_is_given_up_is_stable),
        T("/active/seed/76b1c7f/close-writes-nothing", closing_writes_nothing),
        T("/active/no-request-straddles", no_request_straddles_it),
        T("/active/not-atomic", all_is_not_atomic),
        T("/active/late-user", late_user_is_seen),
        T("/active/read-again", everything_is_read_again),
        T("/active/locked-by-another", taken_by_somebody_else),
        T("/active/users-that-conflict", users_that_conflict),
        T("/active/metadata-unreadable", metadata_that_cannot_be_read),
        T("/active/read-only-bitmaps", read_only_bitmaps_come_back),
        T("/active/preallocate", surplus_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
