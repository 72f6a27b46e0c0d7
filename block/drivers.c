/* The drivers that blockdev-add knows, one line each. Drivers that a job inserts live with their job. */
#include <string.h>

#include "block/block_int.h"

extern const BlockDriver bdrv_blkdebug;
extern const BlockDriver bdrv_blkverify;
extern const BlockDriver bdrv_copy_before_write;
extern const BlockDriver bdrv_copy_on_read;
extern const BlockDriver bdrv_disk;
extern const BlockDriver bdrv_file;
extern const BlockDriver bdrv_null_co;
extern const BlockDriver bdrv_preallocate;
extern const BlockDriver bdrv_qcow2;
extern const BlockDriver bdrv_quorum;
extern const BlockDriver bdrv_raw;
extern const BlockDriver bdrv_snapshot_access;
extern const BlockDriver bdrv_throttle;

/* clang-format off */
static const BlockDriver *const drivers[] = {
    &bdrv_blkdebug,
    &bdrv_blkverify,
    &bdrv_copy_before_write,
    &bdrv_copy_on_read,
    &bdrv_disk,
    &bdrv_file,
    &bdrv_null_co,
    &bdrv_preallocate,
    &bdrv_qcow2,
    &bdrv_quorum,
    &bdrv_raw,
    &bdrv_snapshot_access,
    &bdrv_throttle,
};
/* clang-format on */

const BlockDriver *bdrv_find_driver(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        if (strcmp(drivers[i]->format_name, name) == 0) {
            return drivers[i];
        }
    }
    return NULL;
}

const BlockDriver *bdrv_driver_at(size_t index)
{
    return index < ARRAY_SIZE(drivers) ? drivers[index] : NULL;
}
