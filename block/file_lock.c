/*
 * Byte locks of driver `file` (reference/block.md 8.11): who uses an image in a file tells everybody else on this
 * machine, qemu's own tools included.
 *
 *     byte 100 + i   locked, shared, while permission bit i is taken
 *     byte 200 + i   locked, shared, while permission bit i is not granted to others
 *
 * Nobody locks exclusively; a conflict is found by looking whether the opposite byte could be. The locks belong to
 * the open file (OFD locks), so two nodes of one world find each other as two processes do, and closing the
 * descriptor gives them up.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "block/file_fds.h"

enum { TAKEN_BYTE = 100, UNSHARED_BYTE = 200, PERM_BITS = 4 };

static int set_byte(int fd, off_t byte, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/* Somebody else has locked the byte. */
static bool is_locked(int fd, off_t byte)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Locks of one kind for the bits of `want`, none for the others of `had`. */
static int set_bits(int fd, off_t first, uint64_t had, uint64_t want)
{
    int ret = 0;

    for (int i = 0; i < PERM_BITS && ret == 0; i++) {
        uint64_t bit = 1ULL << i;
        if ((had ^ want) & bit) {
            ret = set_byte(fd, first + i, want & bit ? F_RDLCK : F_UNLCK);
        }
    }
    return ret;
}

static uint64_t locked_bits(int fd, off_t first, uint64_t bits)
{
    uint64_t locked = 0;

    for (int i = 0; i < PERM_BITS; i++) {
        if ((bits & 1ULL << i) && is_locked(fd, first + i)) {
            locked |= 1ULL << i;
        }
    }
    return locked;
}

void file_lock_set(int fd, struct file_lock *held, uint64_t taken, uint64_t unshared)
{
    SIM_ASSERT(((taken | unshared) & ~(uint64_t)BLK_PERM_ALL) == 0);

    /* Giving up a lock does not fail, and what is to be held has been since the check. */
    set_bits(fd, TAKEN_BYTE, held->taken, taken);
    set_bits(fd, UNSHARED_BYTE, held->unshared, unshared);
    *held = (struct file_lock){taken, unshared};
}

static int conflict(const char *path, uint64_t bits, const char *kind, Error **errp)
{
    char *names = bdrv_perm_names(bits);

    error_setg(errp, "Failed to get %s\"%s\" lock on '%s': is something else using the image?", kind, names, path);
    free(names);
    return -EAGAIN;
}

int file_lock_check(int fd, const char *path, struct file_lock *held, uint64_t taken, uint64_t unshared,
                    Error **errp)
{
    struct file_lock before = *held;
    uint64_t bits;

    SIM_ASSERT(((taken | unshared) & ~(uint64_t)BLK_PERM_ALL) == 0);
    /* First the locks, then the look: of two that do so at once one finds the other. */
    held->taken |= taken;
    held->unshared |= unshared;
    int ret = set_bits(fd, TAKEN_BYTE, before.taken, held->taken);
    if (ret == 0) {
        ret = set_bits(fd, UNSHARED_BYTE, before.unshared, held->unshared);
    }
    if (ret < 0) {
        error_setg_errno(errp, ret, "Failed to lock '%s'", path);
    } else if ((bits = locked_bits(fd, UNSHARED_BYTE, taken)) != 0) {
        ret = conflict(path, bits, "", errp);
    } else if ((bits = locked_bits(fd, TAKEN_BYTE, unshared)) != 0) {
        ret = conflict(path, bits, "shared ", errp);
    }
    if (ret < 0) {
        file_lock_set(fd, held, before.taken, before.unshared);
    }
    return ret;
}
