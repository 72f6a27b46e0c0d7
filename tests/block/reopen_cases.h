/* What the tests of reopen begin with: two disks, nodes over them, somebody who writes. */
#ifndef REOPEN_CASES_H
#define REOPEN_CASES_H

#include "tests/block/reopen_lib.h"

#define DISK(node, disk) "{'driver':'disk','node-name':'" node "','disk':'" disk "'}"
#define RAW(node, file, more) "{'driver':'raw','node-name':'" node "','file':" file more "}"
#define FMT(node, file, more) "{'driver':'fmt','node-name':'" node "','file':" file more "}"

SIM_UNUSED static BlockBackend *writer(struct world *w, BlockDriverState *bs, uint64_t shared)
{
    BlockBackend *blk = blk_new(w->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, shared);

    assert_int_equal(blk_insert_bs(blk, bs, NULL), 0);
    return blk;
}

SIM_UNUSED static void two_disks(struct world *w)
{
    make_disk(w, "a", MiB);
    make_disk(w, "b", MiB);
    add(w, DISK("fa", "a"));
    add(w, DISK("fb", "b"));
}

SIM_UNUSED static void drop_two(struct world *w)
{
    settle(w);
    del(w, "fa");
    del(w, "fb");
}

SIM_UNUSED static bool flag(BlockDriverState *bs, uint32_t bit)
{
    return (bs->open_flags & bit) != 0;
}

#endif
