/*
 * The descriptors that nodes of driver `file` hold open. They are no memory of an arena: a host that crashes and a
 * world that is left half-way run no driver's close, and what they had open must be closed all the same. Private to
 * block/file*.c.
 */
#ifndef BLOCK_FILE_FDS_H
#define BLOCK_FILE_FDS_H

#include "block/block_int.h"

/* From now on fd is the world's to close, should nobody do it before. */
void file_remember_fd(struct host *host, int fd);
/* Closes a remembered one. */
void file_close_fd(struct host *host, int fd);

/* Byte locks on an open file (file_lock.c; 8.11): BLK_PERM_* bits that are taken, and that others may not take. */
struct file_lock {
    uint64_t taken;
    uint64_t unshared;
};
/* Whether these are compatible with everybody else's. 0: they are locked beside what was held before, and
 * file_lock_set makes them, or the former ones, the only ones; else nothing has changed, -EAGAIN or -errno. */
int file_lock_check(int fd, const char *path, struct file_lock *held, uint64_t taken, uint64_t unshared,
                    Error **errp);
void file_lock_set(int fd, struct file_lock *held, uint64_t taken, uint64_t unshared);

/* The path that a file name stands for, seen from where relative ones begin; host arena string. */
char *file_resolve(const struct host *host, const char *filename);

extern const BdrvOption file_create_options[];
int file_co_create(struct host *host, const struct qvalue *options, Error **errp);

#endif
