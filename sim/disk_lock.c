/*
 * Byte locks on a medium: who has taken and who does not share what.
 */
#include "sim/disk_int.h"

uint64_t disk_lock_conflict(const struct disk *disk, const struct disk_lock *lock, uint64_t taken,
                            uint64_t unshared)
{
    uint64_t conflict = 0;

    for (const struct disk_lock *other = disk->locks; other; other = other->next) {
        if (other != lock) {
            conflict |= (taken & other->unshared) | (unshared & other->taken) << 32;
        }
    }
    return conflict;
}

void disk_locks_of(const struct disk *disk, const struct host *host, uint64_t *taken, uint64_t *unshared)
{
    *taken = *unshared = 0;
    for (const struct disk_lock *lock = disk->locks; lock; lock = lock->next) {
        if (lock->host == host) {
            *taken |= lock->taken;
            *unshared |= lock->unshared;
        }
    }
}

static void unlink_lock(struct disk *disk, struct disk_lock *lock)
{
    struct disk_lock **link = &disk->locks;

    while (*link && *link != lock) {
        link = &(*link)->next;
    }
    SIM_ASSERT(*link == lock);
    *link = lock->next;
    lock->disk = NULL;
}

void disk_lock_set(struct disk *disk, struct disk_lock *lock, struct host *host, uint64_t taken, uint64_t unshared)
{
    SIM_ASSERT(lock->disk == NULL || lock->disk == disk);
    if (!taken && !unshared) {
        if (lock->disk) {
            unlink_lock(disk, lock);
        }
        return;
    }
    if (!lock->disk) {
        lock->disk = disk;
        lock->next = disk->locks;
        disk->locks = lock;
    }
    lock->host = host;
    lock->taken = taken;
    lock->unshared = unshared;
}

void disk_drop_locks(struct disk *disk, const struct host *host)
{
    struct disk_lock **link = &disk->locks;

    while (*link) {
        if ((*link)->host == host) {
            *link = (*link)->next; /* its memory goes with the host */
        } else {
            link = &(*link)->next;
        }
    }
}
