/*
 * blkverify: the two images of a blkverify node never disagree (reference/block.md 7.2). The original ends its
 * process where the driver finds them differ.
 */
#include <inttypes.h>
#include <string.h>

#include "check/checkers.h"

/* Nodes of images that somebody beside the blkverify node may have written: those may differ. */
struct verify {
    const struct check *check;
    struct beside *beside;
};

struct beside {
    const struct sim_name *name;
    struct beside *next;
};

static bool is_above(const BlockDriverState *top, const BlockDriverState *bs)
{
    bool found = top == bs;

    for (const BdrvChild *edge = bdrv_first_child(top); edge && !found; edge = bdrv_next_child(edge)) {
        found = is_above(bdrv_child_bs(edge), bs);
    }
    return found;
}

/* Somebody may write bs, and does so neither through top nor from further below that. */
static bool is_written_beside(const BlockDriverState *top, const BlockDriverState *bs)
{
    for (const BdrvChild *edge = bdrv_first_parent(bs); edge && bs != top; edge = bdrv_next_parent(edge)) {
        const BlockDriverState *parent = bdrv_child_parent_bs(edge);
        uint64_t perm, shared;

        bdrv_child_perms(edge, &perm, &shared);
        if ((perm & BLK_PERM_WRITE) && !(parent && is_above(top, parent))) {
            return true;
        }
    }
    return false;
}

static struct beside *find(const struct verify *state, const struct sim_name *name)
{
    struct beside *beside = state->beside;

    while (beside && beside->name != name) {
        beside = beside->next;
    }
    return beside;
}

static void note(struct verify *state, const BlockDriverState *top)
{
    struct beside *beside = (struct beside *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*beside));

    *beside = (struct beside){.name = bdrv_node_sim_name(top), .next = state->beside};
    state->beside = beside;
}

static void on_perm(void *opaque, const struct sim_record *record)
{
    struct verify *state = opaque;
    const BlockDriverState *bs = record->ref;
    struct host *host = bdrv_host(bs);

    for (BlockDriverState *top = bdrv_next_node(host, NULL); top; top = bdrv_next_node(host, top)) {
        if (top != bs && strcmp(bdrv_driver_name(top), "blkverify") == 0 && is_above(top, bs) &&
            is_written_beside(top, bs) && !find(state, bdrv_node_sim_name(top))) {
            note(state, top);
        }
    }
}

static void on_mismatch(void *opaque, const struct sim_record *record)
{
    const struct verify *state = opaque;
    const struct check *check = state->check;
    const char *op = sim_op_name((enum sim_op)record->field[1]);
    struct violation_where where = {
        .host = check_host_name(check_host(check->sim, record->host)),
        .node = sim_record_name(record, 0)->str,
        .driver = "blkverify",
        .op = op,
    };
    int64_t at = (int64_t)record->field[4];

    if (find(state, sim_record_name(record, 0))) {
        return;
    }
    if (at >= 0) {
        check_violate(check->set, "blkverify", "content", &where,
                      "%s of %" PRIu64 " bytes at %" PRIu64 ": the images differ from byte %" PRId64 " on", op,
                      record->field[3], record->field[2], at);
    } else {
        check_violate(check->set, "blkverify", "result", &where,
                      "%s of %" PRIu64 " bytes at %" PRIu64 ": the raw image says '%s', the test image '%s'", op,
                      record->field[3], record->field[2], sim_errno_text((int)record->field[5]),
                      sim_errno_text((int)record->field[6]));
    }
}

static void *attach(struct check *check)
{
    struct verify *state = (struct verify *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));

    state->check = check;
    sim_subscribe(check->sim, EV_edge_perm, on_perm, state);
    sim_subscribe(check->sim, EV_blkverify_mismatch, on_mismatch, state);
    return state;
}

const struct check_class check_blkverify = {
    .name = "blkverify",
    .doc = "the two images of a blkverify node give the same bytes and the same results",
    .rules = "content: a read found other bytes in the image under test than in the raw one\n"
             "result: one image did what the other one failed to do, or they failed in different ways\n",
    .attach = attach,
};
