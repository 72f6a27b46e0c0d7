/*
 * Who writes into a bitmap's node, and whether the checker hears of all of it: only then can a bit be one too many.
 *
 * Over a medium that is so: whatever comes to the node in the end comes to the medium. Over anything else, an image
 * say, the node's users are looked at: when only guests write, through nodes that add nothing of their own, what
 * the guests asked for is all there is. An image's own writes mark nothing in its node: a mark is made where a
 * request enters (reference/block.md 2.7).
 */
#include <stdlib.h>
#include <string.h>

#include "block/copy-before-write.h"
#include "check/bitmap_model.h"

/* Whatever comes into the node from nodes above it is what came into those: no format or window is among them. */
static bool is_seen_through(const BlockDriverState *bs)
{
    for (const BdrvChild *edge = bdrv_first_parent(bs); edge; edge = bdrv_next_parent(edge)) {
        const BlockDriverState *above = bdrv_child_parent_bs(edge);

        if (above && (check_passes_to(above) != bs || !is_seen_through(above))) {
            return false;
        }
    }
    return true;
}

/* Writes what nobody asked it to: what was read from below (reference/block.md 4.3), zeroes ahead (2.15); or throws
 * away what it has saved (jobs.md 5.5). */
static bool writes_by_itself(const BlockDriverState *bs)
{
    const char *driver = bdrv_driver_name(bs);

    return strcmp(driver, "copy-on-read") == 0 || strcmp(driver, "preallocate") == 0 ||
           (bdrv_is_cbw(bs) && bdrv_cbw_discards_source(bs));
}

/* Guests give their devices names; those of jobs and commands have none. The edge is there before its guest. */
static bool is_of_guest(const BdrvChild *edge)
{
    char *user = bdrv_child_user_desc(edge);
    bool named = strncmp(user, "block device", strlen("block device")) == 0;

    free(user);
    return named;
}

static bool only_guests_write(const BlockDriverState *bs)
{
    for (const BdrvChild *edge = bdrv_first_parent(bs); edge; edge = bdrv_next_parent(edge)) {
        const BlockDriverState *above = bdrv_child_parent_bs(edge);
        uint64_t perm, shared;

        bdrv_child_perms(edge, &perm, &shared);
        if (!(perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED))) {
            continue;
        }
        if (above ? check_passes_to(above) != bs || writes_by_itself(above) || !only_guests_write(above)
                  : !is_of_guest(edge)) {
            return false;
        }
    }
    return true;
}

void bitmap_refresh(struct bitmap_models *models, struct bitmap_model *m)
{
    uint64_t graph = check_boundary(models->check)->graph_changes + 1;
    struct disk *disk;
    bool guests_only;

    if (m->graph != graph) {
        disk = is_seen_through(m->bs) ? check_disk_below(m->bs) : NULL;
        guests_only = !disk && !check_disk_below(m->bs) && only_guests_write(m->bs);
        /* what came while it could not be seen is known when everything is quiet */
        m->upper_open |= m->graph != 0 && (m->disk != disk || m->guests_only != guests_only);
        m->blurred |= m->upper_open;
        m->disk = disk;
        m->guests_only = guests_only;
        m->graph = graph;
    }
}

bool bitmap_is_bounded(const struct bitmap_model *m)
{
    return (m->disk || m->guests_only) && !m->upper_open;
}
