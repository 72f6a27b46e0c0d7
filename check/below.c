/* Where the content of a node comes from: windows, filters, and nodes with several children. */
#include <string.h>

#include "check/checkers.h"
#include "check/qcow2_image.h"

static bool is_driver(const BlockDriverState *bs, const char *driver)
{
    return strcmp(bdrv_driver_name(bs), driver) == 0;
}

static bool is_weak(const BlockDriverState *quorum, unsigned children)
{
    const struct qvalue *options = bdrv_options_in_force(quorum);
    const char *pattern;
    int64_t threshold;

    return !qdict_get_int(options, "vote-threshold", &threshold, 0, NULL) ||
           !qdict_get_str(options, "read-pattern", &pattern, "quorum", NULL) || 2 * threshold <= children ||
           strcmp(pattern, "fifo") == 0;
}

/* Of a node with several children whose content counts. */
static struct check_below all_below(const BlockDriverState *bs, int64_t offset)
{
    struct check_below all = {.id = sim_mix2(sim_hash_str(bdrv_driver_name(bs)), (uint64_t)offset)};
    unsigned count = 0;

    for (const BdrvChild *edge = bdrv_first_child(bs); edge; edge = bdrv_next_child(edge)) {
        struct check_below one = check_below(bdrv_child_bs(edge));

        all.id = sim_mix2(all.id, one.id);
        all.weak |= one.weak;
        all.forgets |= one.forgets;
        count++;
    }
    all.weak |= is_driver(bs, "quorum") && is_weak(bs, count);
    return all;
}

struct check_below check_below(const BlockDriverState *bs)
{
    struct check_below below = {.disk = NULL};

    while (bs) {
        const BlockDriverState *next = bdrv_filter_bs(bs);

        if (!next && is_driver(bs, "raw")) {
            below.offset += check_raw_offset(bs);
            next = bdrv_primary_bs(bs);
        }
        if (!next) {
            break;
        }
        bs = next;
    }
    if (bs && bdrv_first_child(bs)) {
        int64_t offset = below.offset;

        below = all_below(bs, offset);
        below.offset = offset;
    } else if (bs) {
        bool named = is_driver(bs, "disk") || is_driver(bs, "file");

        below.disk = check_disk_below(bs);
        below.forgets = is_driver(bs, "null-co");
        below.id =
            sim_mix2(sim_hash_str(named ? bdrv_filename(bs) : bdrv_get_node_name(bs)), (uint64_t)below.offset);
    }
    return below;
}

static bool may_write(const BdrvChild *edge)
{
    uint64_t perm, shared;

    bdrv_child_perms(edge, &perm, &shared);
    return (perm & BLK_PERM_WRITE) != 0;
}

bool check_written_beside(const BlockDriverState *bs)
{
    struct host *host = bdrv_host(bs);

    for (const BlockDriverState *below; (below = bdrv_primary_bs(bs)) != NULL; bs = below) {
        for (const BdrvChild *edge = bdrv_first_parent(below); edge; edge = bdrv_next_parent(edge)) {
            if (bdrv_child_parent_bs(edge) != bs && may_write(edge)) {
                return true;
            }
        }
    }
    for (BlockDriverState *other = bdrv_next_node(host, NULL); other; other = bdrv_next_node(host, other)) {
        for (const BdrvChild *edge = bdrv_first_parent(other); edge && other != bs && check_same_medium(other, bs);
             edge = bdrv_next_parent(edge)) {
            if (may_write(edge)) {
                return true;
            }
        }
    }
    return false;
}

/* Through filters, windows and files; not to what lies below as backing. */
bool check_stands_on(const BlockDriverState *bs, const BlockDriverState *node)
{
    while (bs && bs != node) {
        bs = bdrv_primary_bs(bs);
    }
    return bs != NULL;
}

bool check_image_is_used(const BlockDriverState *bs)
{
    const BlockDriverState *file = bdrv_primary_bs(bs);
    struct disk *disk = is_driver(bs, "qcow2") && file ? check_disk_below(file) : NULL;
    struct qcow2_image *image = disk ? qcow2_image_read(qcow2_source_of_disk(disk)) : NULL;
    bool used = image && image->error[0];

    /* An L1 entry is on the medium before anything that it leads to. */
    for (uint32_t i = 0; image && !image->error[0] && i < image->l1_size && !used; i++) {
        used = image->l1[i] != 0;
    }
    qcow2_image_free(image);
    return used;
}
