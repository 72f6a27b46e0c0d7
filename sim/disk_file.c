/* Host files: load into a medium, save from it; holes stay holes. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim/disk_int.h"
#include "sim/world.h"

#define CHUNK_BYTES 65536 /* from the heap: callers are coroutines, whose stacks are about that large */

static ssize_t read_fully(int fd, uint8_t *buf, size_t bytes, int64_t offset)
{
    size_t got = 0;

    while (got < bytes) {
        ssize_t n = pread(fd, buf + got, bytes - got, offset + (int64_t)got);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        got += (size_t)n;
    }
    return (ssize_t)got;
}

static int write_fully(int fd, const uint8_t *buf, size_t bytes, int64_t offset)
{
    size_t put = 0;

    while (put < bytes) {
        ssize_t n = pwrite(fd, buf + put, bytes - put, offset + (int64_t)put);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        put += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* The next stretch of data from *from on; false behind the last. If the file system cannot tell, all is data. */
static bool next_extent(int fd, int64_t length, int64_t *from, int64_t *end)
{
    off_t data = lseek(fd, *from, SEEK_DATA);

    if (data < 0 && errno == ENXIO) {
        return false;
    }
    off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
    *from = data < 0 ? *from : ROUND_DOWN((int64_t)data, SIM_PAGE_BYTES);
    *end = hole < 0 ? length : MIN(ROUND_UP((int64_t)hole, SIM_PAGE_BYTES), length);
    return *from < length;
}

static bool all_zero(const uint8_t *buf, int64_t bytes)
{
    return buf[0] == 0 && memcmp(buf, buf + 1, (size_t)bytes - 1) == 0;
}

/* Bytes at the start of buf, of which all whole pages are zero or none is. */
static int64_t equal_pages(const uint8_t *buf, int64_t bytes, bool *zero)
{
    int64_t run = MIN(bytes, SIM_PAGE_BYTES);

    *zero = all_zero(buf, run);
    while (run < bytes && all_zero(buf + run, MIN(bytes - run, SIM_PAGE_BYTES)) == *zero) {
        run += MIN(bytes - run, SIM_PAGE_BYTES);
    }
    return run;
}

/* Zero pages become holes whether or not the file system stored them: when it does is its own affair and may change
 * from one run to the next, so only the content may decide. */
static void load_chunk(struct disk_tree *tree, int64_t from, const uint8_t *buf, int64_t bytes)
{
    struct payload data;
    bool zero;

    payload_init(tree->sim, &data);
    while (bytes > 0) {
        int64_t n = equal_pages(buf, bytes, &zero);

        if (!zero) {
            payload_append_bytes(&data, buf, n);
            tree_write(tree, from, n, &data, 0);
            payload_clear(&data);
        }
        from += n;
        buf += n;
        bytes -= n;
    }
}

static int load_extent(struct disk_tree *tree, int fd, uint8_t *buf, int64_t from, int64_t end)
{
    SIM_ASSERT_EQ(from % SIM_PAGE_BYTES, 0);
    while (from < end) {
        ssize_t n = read_fully(fd, buf, (size_t)MIN(end - from, CHUNK_BYTES), from);
        if (n < 0) {
            return (int)n;
        }
        if (n == 0) {
            return -EIO; /* the file shrank under us */
        }
        load_chunk(tree, from, buf, n);
        from += n;
    }
    return 0;
}

static int load_content(struct disk_tree *tree, int fd, int64_t length)
{
    uint8_t *buf = sim_xmalloc(CHUNK_BYTES);
    int64_t from = 0;
    int64_t end = 0;
    int ret = 0;

    tree->length = length;
    while (ret == 0 && next_extent(fd, length, &from, &end)) {
        ret = load_extent(tree, fd, buf, from, end);
        from = end;
    }
    free(buf);
    return ret;
}

/* A descriptor of a regular file, or negative errno. Never waits for a pipe's other end. */
static int open_regular(const char *path, int64_t *length, Error **errp)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || fstat(fd, &st) < 0) {
        int ret = -errno;
        error_setg_errno(errp, ret, "Could not open '%s'", path);
        if (fd >= 0) {
            close(fd);
        }
        return ret;
    }
    if (!S_ISREG(st.st_mode)) {
        error_setg(errp, "Could not open '%s': not a regular file", path);
        close(fd);
        return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    }
    *length = st.st_size;
    return fd;
}

int disk_load_file(struct disk *disk, const char *path, Error **errp)
{
    struct disk_tree tree;
    int64_t length = 0;
    int fd = open_regular(path, &length, errp);

    if (fd < 0) {
        return fd;
    }
    tree_init_like(&tree, &disk->tree);
    int ret = load_content(&tree, fd, length);
    close(fd);
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not read '%s'", path);
        tree_drop(&tree);
        return ret;
    }
    SIM_ASSERT_EQ(tree.length, length);
    disk_content_replace(disk, &tree);
    return 0;
}

static int save_extent(const struct disk *disk, int fd, int64_t from, int64_t end)
{
    uint8_t *buf = sim_xmalloc(CHUNK_BYTES);
    struct payload data;
    int ret = 0;

    payload_init(disk->sim, &data);
    while (from < end && ret == 0) {
        int64_t n = MIN(end - from, CHUNK_BYTES);
        disk_peek(disk, from, n, &data);
        if (!payload_is_zero(&data, 0, n)) {
            payload_read_bytes(&data, 0, buf, n);
            ret = write_fully(fd, buf, (size_t)n, from);
        }
        payload_clear(&data);
        from += n;
    }
    free(buf);
    return ret;
}

int disk_save_file(const struct disk *disk, const char *path, Error **errp)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int64_t end = 0;

    if (fd < 0) {
        int ret = -errno;
        error_setg_errno(errp, ret, "Could not create '%s'", path);
        return ret;
    }
    int ret = ftruncate(fd, disk_length(disk)) < 0 ? -errno : 0;
    for (int64_t at = disk_next_data(disk, 0, &end); at >= 0 && ret == 0; at = disk_next_data(disk, end, &end)) {
        ret = save_extent(disk, fd, at, end);
    }
    if (close(fd) < 0 && ret == 0) {
        ret = -errno;
    }
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not write '%s'", path);
    }
    return ret;
}
