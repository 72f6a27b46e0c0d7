/* Protects: whatever is reopened in whatever graph, a refusal leaves no trace, and what succeeds is what was asked
 * for. */
#include "tests/block/reopen_lib.h"

#define NODES 7
#define DISKS 3
#define WORLDS 40
#define REOPENS 25

static uint64_t dice;

static unsigned roll(unsigned sides)
{
    dice = sim_mix64(dice + 1);
    return (unsigned)((dice >> 16) % sides);
}

static const char *pick(const char *const *words, unsigned count)
{
    return words[roll(count)];
}

static const char *const names[] = {"fa", "fb", "fc", "n0", "n1", "n2", "n3", "n4", "n5", "n6", "nix"};
static const char *const more[] = {
    "",
    "",
    ",'read-only':true",
    ",'auto-read-only':true",
    ",'discard':'unmap'",
    ",'detect-zeroes':'unmap'",
    ",'cache':{'direct':true}",
    ",'size':65536",
    ",'offset':4096",
    ",'offset':'4M'",
    ",'force-share':true",
    ",'read-only':true,'active':true",
    ",'backing':null",
    ",'backing':'fa'",
    ",'bogus':1",
};

/* A child: a name, mostly; an inline one may be restated or misstated. */
static int put_child(char *out, size_t room)
{
    if (roll(4) > 0) {
        return snprintf(out, room, "'%s'", names[roll(ARRAY_SIZE(names))]);
    }
    return snprintf(out, room, "{'driver':'disk','disk':'%c'%s}", 'a' + (char)roll(DISKS),
                    more[roll(ARRAY_SIZE(more))]);
}

static const char *extra(void)
{
    return roll(3) ? "" : pick(more, ARRAY_SIZE(more));
}

/* The child as it is, by name or as it was made. */
static void put_same(char *out, size_t room, const BlockDriverState *bs)
{
    const BlockDriverState *file = bs->file->bs;

    if (file->inherits_from == bs->number + 1 && !file->name_generated) {
        fail_msg("inline children of this test have no names");
    }
    if (file->inherits_from == bs->number + 1) {
        snprintf(out, room, "{'driver':'disk','disk':'%s'%s}", bdrv_filename(file), extra());
    } else {
        snprintf(out, room, "'%s'", bdrv_get_node_name(file));
    }
}

static void put_tree(struct world *w, char *out, size_t room, const char *name)
{
    char child[128];
    const BlockDriverState *bs = bdrv_find_node(w->host, name);

    if (bs && bs->file && roll(2)) {
        put_same(child, sizeof(child), bs);
    } else {
        put_child(child, sizeof(child));
    }
    snprintf(out, room, "{'driver':'%s','node-name':'%s','file':%s%s}", roll(20) ? "raw" : "null-co", name, child,
             extra());
}

static void build_graph(struct world *w, BlockBackend **users)
{
    char tree[400], child[128];

    for (unsigned i = 0; i < DISKS; i++) {
        const char disk[] = {(char)('a' + i), 0};
        make_disk(w, disk, (int64_t)(i + 1) * 256 * KiB);
        snprintf(tree, sizeof(tree), "{'driver':'disk','node-name':'f%s','disk':'%s'}", disk, disk);
        add(w, tree);
    }
    for (unsigned i = 0; i < NODES; i++) {
        put_child(child, sizeof(child));
        snprintf(tree, sizeof(tree), "{'driver':'raw','node-name':'n%u','file':%s%s}", i, child, extra());
        BlockDriverState *bs = try_add(w, tree, NULL);
        if (bs && roll(3) == 0) {
            uint64_t shared = roll(2) ? BLK_PERM_ALL : BLK_PERM_ALL & ~(uint64_t)BLK_PERM_WRITE;
            users[i] = blk_new(w->host, roll(2) ? BLK_PERM_WRITE : BLK_PERM_CONSISTENT_READ, shared);
            if (blk_insert_bs(users[i], bs, NULL) < 0) {
                blk_unref(users[i]);
                users[i] = NULL;
            }
        }
    }
}

/* Users read and write wherever they believe that there is something: none may reach beyond what is below. */
static void use(struct world *w, BlockBackend **users)
{
    for (unsigned i = 0; i < NODES; i++) {
        uint64_t perm, shared;
        if (!users[i] || !blk_bs(users[i])) {
            continue;
        }
        bdrv_child_perms(blk_root(users[i]), &perm, &shared);
        int64_t blocks = blk_bs(users[i])->total_bytes / 4096;
        struct request r = {.w = w, .blk = users[i], .bytes = 4096, .write = (perm & BLK_PERM_WRITE) != 0};
        r.offset = blocks > 0 ? 4096 * (int64_t)roll((unsigned)blocks) : 0;
        r.bytes = blocks > 0 ? 4096 : 0;
        int ret = run(&r);
        assert_int_equal(ret, 0);
    }
}

static bool random_reopen(struct world *w)
{
    char list[1600] = "[";
    unsigned count = 1 + roll(3);
    Error *err = NULL;

    for (unsigned i = 0; i < count; i++) {
        size_t used = strlen(list);
        char tree[500];
        const char *name = names[roll(ARRAY_SIZE(names))];
        for (unsigned tries = 0; tries < 4 && !(bdrv_find_node(w->host, name) && name[0] == 'n'); tries++) {
            name = names[roll(ARRAY_SIZE(names))];
        }
        put_tree(w, tree, sizeof(tree), name);
        snprintf(list + used, sizeof(list) - used, "%s%s", i ? "," : "", tree);
    }
    strcat(list, "]");
    char *before = graph_text(w);
    bool ok = try_reopen(w, list, &err);
    settle(w);
    if (!ok) {
        char *after = graph_text(w);
        assert_non_null(err);
        if (strcmp(before, after) != 0) {
            fail_msg("%s: %s\n--- before\n%s--- after\n%s", list, error_get_pretty(err), before, after);
        }
        error_free(err);
        free(after);
    }
    free(before);
    return ok;
}

static void tear_down(struct world *w, BlockBackend **users)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (users[i]) {
            blk_unref(users[i]);
        }
    }
    /* Any order would do but that parents go first, which changes with the graph. */
    for (unsigned round = 0; round <= NODES + DISKS; round++) {
        for (unsigned i = 0; i + 1 < ARRAY_SIZE(names); i++) {
            if (bdrv_find_node(w->host, names[i])) {
                qmp_blockdev_del_node(w->host, names[i], NULL);
                settle(w);
            }
        }
    }
    assert_int_equal(node_count(w), 0);
}

static unsigned done, refused;

WORLD_TEST(test_world)
{
    BlockBackend *users[NODES] = {NULL};

    build_graph(w, users);
    for (unsigned i = 0; i < REOPENS; i++) {
        bool ok = random_reopen(w);
        done += ok;
        refused += !ok;
        use(w, users);
    }
    tear_down(w, users);
}

/* fact: block 6/all-or-nothing, 6/queue */
static void test_random(void **state)
{
    for (unsigned i = 0; i < WORLDS; i++) {
        dice = sim_mix64(i);
        test_world(state);
    }
    assert_true(done > 100); /* it did something */
    assert_true(refused > 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/reopen/random", test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
