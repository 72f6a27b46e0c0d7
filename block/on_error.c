/* Error policies and the io-status of a BlockBackend (2.1, 7.5). */
#include <errno.h>
#include <string.h>

#include "block/backend_int.h"

static const char *const on_error_names[] = {
    [BLOCKDEV_ON_ERROR_REPORT] = "report", [BLOCKDEV_ON_ERROR_IGNORE] = "ignore",
    [BLOCKDEV_ON_ERROR_ENOSPC] = "enospc", [BLOCKDEV_ON_ERROR_STOP] = "stop",
    [BLOCKDEV_ON_ERROR_AUTO] = "auto",
};

const char *block_on_error_name(enum block_on_error on_error)
{
    SIM_ASSERT(on_error < ARRAY_SIZE(on_error_names));
    return on_error_names[on_error];
}

bool block_on_error_parse(const char *text, enum block_on_error *out)
{
    for (size_t i = 0; i < ARRAY_SIZE(on_error_names); i++) {
        if (strcmp(text, on_error_names[i]) == 0) {
            *out = (enum block_on_error)i;
            return true;
        }
    }
    return false;
}

const char *block_error_action_name(enum block_error_action action)
{
    static const char *const names[] = {
        [BLOCK_ERROR_ACTION_IGNORE] = "ignore",
        [BLOCK_ERROR_ACTION_REPORT] = "report",
        [BLOCK_ERROR_ACTION_STOP] = "stop",
    };

    SIM_ASSERT(action < ARRAY_SIZE(names));
    return names[action];
}

enum block_error_action block_error_decide(enum block_on_error on_error, int error)
{
    bool no_space = error == ENOSPC || error == -ENOSPC;

    switch (on_error) {
    case BLOCKDEV_ON_ERROR_IGNORE:
        return BLOCK_ERROR_ACTION_IGNORE;
    case BLOCKDEV_ON_ERROR_STOP:
        return BLOCK_ERROR_ACTION_STOP;
    case BLOCKDEV_ON_ERROR_ENOSPC:
    case BLOCKDEV_ON_ERROR_AUTO:
        return no_space ? BLOCK_ERROR_ACTION_STOP : BLOCK_ERROR_ACTION_REPORT;
    case BLOCKDEV_ON_ERROR_REPORT:
        break;
    }
    return BLOCK_ERROR_ACTION_REPORT;
}

void blk_set_on_error(BlockBackend *blk, enum block_on_error on_read_error, enum block_on_error on_write_error)
{
    blk->on_read_error = on_read_error;
    blk->on_write_error = on_write_error;
}

enum block_on_error blk_get_on_error(const BlockBackend *blk, bool is_read)
{
    return is_read ? blk->on_read_error : blk->on_write_error;
}

enum block_error_action blk_get_error_action(const BlockBackend *blk, bool is_read, int error)
{
    return block_error_decide(blk_get_on_error(blk, is_read), error);
}

/* --- io-status ------------------------------------------------------------------------------------------- */

const char *block_io_status_name(enum block_io_status status)
{
    static const char *const names[] = {
        [BLOCK_IO_STATUS_OK] = "ok",
        [BLOCK_IO_STATUS_FAILED] = "failed",
        [BLOCK_IO_STATUS_NOSPACE] = "nospace",
    };

    SIM_ASSERT(status < ARRAY_SIZE(names));
    return names[status];
}

enum block_io_status blk_io_status(const BlockBackend *blk)
{
    return blk->io_status;
}

void blk_io_status_enable(BlockBackend *blk)
{
    blk->io_status_enabled = true;
    blk->io_status = BLOCK_IO_STATUS_OK;
}

bool blk_io_status_is_enabled(const BlockBackend *blk)
{
    return blk->io_status_enabled;
}

void blk_io_status_set_err(BlockBackend *blk, int error)
{
    SIM_ASSERT(error != 0);
    if (blk->io_status_enabled && blk->io_status == BLOCK_IO_STATUS_OK) {
        bool no_space = error == ENOSPC || error == -ENOSPC;
        blk->io_status = no_space ? BLOCK_IO_STATUS_NOSPACE : BLOCK_IO_STATUS_FAILED;
    }
}

void blk_io_status_reset(BlockBackend *blk)
{
    blk->io_status = BLOCK_IO_STATUS_OK;
}
