/*
 * Recorded request streams: fio's iolog, versions 2 and 3.
 *
 *     fio version 2 iolog              fio version 3 iolog
 *     /dev/sda add                     0 /dev/sda add
 *     /dev/sda open                    2 /dev/sda open
 *     /dev/sda write 4096 8192         17 /dev/sda write 4096 8192
 *     /dev/sda wait 500                520 /dev/sda datasync 0 0
 *     /dev/sda close                   600 /dev/sda close
 *
 * Times are microseconds in the file: in version 3 since the start of the log, in version 2 as waits, of which
 * those below 100 are dropped, as fio does. A file is added before it is opened, and open while requests go to it.
 * Offsets and lengths are bytes; those of a guest are whole sectors, so anything else is refused.
 *
 * Everything lives in libc memory and belongs to the caller.
 */
#ifndef SCENARIO_IOLOG_H
#define SCENARIO_IOLOG_H

#include "sim/error.h"
#include "sim/event.h"

#define IOLOG_MAX_BYTES (256 * MiB)

struct iolog_entry {
    int64_t time_ns; /* since the start; never falls */
    enum sim_op op;  /* READ, WRITE, DISCARD (trim) or FLUSH (sync, datasync) */
    int64_t offset;  /* 0 for FLUSH */
    int64_t bytes;   /* 0 for FLUSH */
    uint32_t file;   /* index in the order of `add` */
};

struct iolog {
    int version; /* 2 or 3 */
    struct iolog_entry *entries;
    size_t count;
    size_t room;
    char **files; /* names, by index */
    uint32_t file_count;
};

/* NULL with "FILE:LINE:COLUMN: what is wrong, what was expected" in errp. */
struct iolog *iolog_load(const char *path, Error **errp);
/* The same from memory; file is for messages. */
struct iolog *iolog_parse(const char *file, const char *text, size_t length, Error **errp);
void iolog_free(struct iolog *iolog); /* NULL is fine */

#endif
