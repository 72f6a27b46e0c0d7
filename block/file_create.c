/*
 * Making a host file for driver `file` (reference/block.md 9): an empty one of the given length. One that is there
 * already is emptied, as by the tools that users know; anything but a regular file is left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file_fds.h"

const BdrvOption file_create_options[] = {
    {"filename", BDRV_OPT_STR, true, "path of the file", NULL},
    {"size", BDRV_OPT_SIZE, true, "its length, bytes", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

static int make_file(const char *path, int64_t size, Error **errp)
{
    struct stat st;
    struct file_lock lock = {0};
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    int ret = 0;

    if (fd < 0 || fstat(fd, &st) < 0) {
        ret = -errno;
    } else if (!S_ISREG(st.st_mode)) {
        ret = -EINVAL;
    } else if ((ret = file_lock_check(fd, path, &lock, BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_RESIZE, errp)) <
               0) {
        close(fd);
        return ret;
    } else if (ftruncate(fd, 0) < 0 || ftruncate(fd, size) < 0) {
        ret = -errno;
    }
    if (fd >= 0 && close(fd) < 0 && ret == 0) {
        ret = -errno;
    }
    if (ret == -EINVAL) {
        error_setg(errp, "Could not create '%s': not a regular file, or no possible length", path);
    } else if (ret < 0) {
        error_setg_errno(errp, ret, "Could not create '%s'", path);
    }
    return ret;
}

int file_co_create(struct host *host, const struct qvalue *options, Error **errp)
{
    const char *filename;
    int64_t size;

    if (!qdict_get_str(options, "filename", &filename, NULL, errp) ||
        !qdict_get_size(options, "size", &size, 0, errp)) {
        return -EINVAL;
    }
    if (!host->graph->file_base) {
        error_setg(errp, "Could not create '%s': host files are forbidden here", filename);
        return -EPERM;
    }
    char *path = file_resolve(host, filename);
    int ret = make_file(path, size, errp);
    sim_strfree(host->arena, path);
    return ret;
}
