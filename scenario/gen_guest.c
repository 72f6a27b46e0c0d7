/*
 * The guest that works while jobs run: how it is plugged in, what it asks for, and the VM that stops.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "scenario/gen_job.h"

bool gen_guest(struct gen *gen, const char *guest, const char *node, bool may_fail)
{
    const char *werror = GEN_PICK(gen, "guest.werror", "", "", "report", "ignore", "stop", "enospc");
    const char *rerror = GEN_PICK(gen, "guest.rerror", "", "", "", "report", "ignore", "stop");

    gen_add(gen, "%sguest %s node=%s", may_fail ? "try " : "", guest, node);
    if (gen_draw(gen, "guest.queue?", 3) == 0) {
        gen_add(gen, " queue-depth=%" PRId64, gen_range(gen, "guest.queue", 1, 32));
    }
    gen_add(gen, "%s%s%s%s", *rerror ? " rerror=" : "", rerror, *werror ? " werror=" : "", werror);
    if (gen_draw(gen, "guest.cache", 10) == 0) {
        gen_add(gen, " write-cache=off");
    }
    gen_line(gen, "%s", "");
    return strcmp(werror, "stop") == 0 || strcmp(werror, "enospc") == 0 || !*werror || strcmp(rerror, "stop") == 0;
}

const char *gen_guest_workload(struct gen *gen, const char *what, const char *guest, int64_t most_ops,
                               int64_t length, char buf[256])
{
    const char *profile = GEN_PICK(gen, what, "uniform", "uniform", "hot", "hot", "sequential", "edges");
    int64_t ops = gen_range(gen, what, 4, most_ops);
    int64_t depth = gen_range(gen, what, 1, 12);
    int64_t think = gen_draw(gen, what, 2) ? 0 : gen_time(gen, what, 8);
    int64_t top = SIM_SECTOR_BYTES << gen_draw(gen, what, 8);
    char text[32];
    size_t used;

    used = (size_t)snprintf(buf, 256, "workload %s ops=%" PRId64 " depth=%" PRId64 " profile=%s", guest, ops, depth,
                            profile);
    if (gen_draw(gen, what, 3) == 0) {
        int64_t reads = gen_range(gen, what, 0, 60);
        int64_t zeroes = gen_range(gen, what, 0, 30);
        int64_t discards = gen_range(gen, what, 0, 30);

        used += (size_t)snprintf(buf + used, 256 - used, " read=%" PRId64 " zero=%" PRId64 " discard=%" PRId64,
                                 reads, zeroes, discards);
    }
    used += (size_t)snprintf(buf + used, 256 - used, " min=512 max=%s", sim_format_size(top, text));
    if (think) {
        used += (size_t)snprintf(buf + used, 256 - used, " think=%s", sim_format_time(think, text));
    }
    if (length) {
        used += (size_t)snprintf(buf + used, 256 - used, " length=%s", sim_format_size(length, text));
    }
    SIM_ASSERT_LT(used, 256);
    return buf;
}

bool gen_guest_place(struct gen *gen, const char *what, int64_t disk_bytes, int64_t most, int64_t *offset,
                     int64_t *bytes)
{
    int64_t sectors = disk_bytes / SIM_SECTOR_BYTES;
    int64_t count;

    if (!sectors) {
        return false;
    }
    count = gen_range(gen, what, 1, most / SIM_SECTOR_BYTES);
    count = MIN(count, sectors);
    switch (gen_draw(gen, what, 4)) {
    case 0: /* the start */
        *offset = 0;
        break;
    case 1: /* the tail */
        *offset = (sectors - count) * SIM_SECTOR_BYTES;
        break;
    default:
        *offset = gen_range(gen, what, 0, sectors - count) * SIM_SECTOR_BYTES;
    }
    *bytes = count * SIM_SECTOR_BYTES;
    return true;
}

void gen_guest_io(struct gen *gen, const char *guest, int64_t disk_bytes)
{
    static const char *const ops[] = {"aio_write",    "aio_write",   "aio_write -z", "aio_write -z -u",
                                      "aio_write -f", "aio_discard", "aio_read",     "aio_write -P 0x11"};
    int64_t count = gen_chance(gen, "io", 400) ? gen_range(gen, "io.count", 1, 6) : 0;

    for (int64_t i = 0; i < count; i++) {
        int64_t time_ns = gen_time(gen, "io.time", 15);
        const char *op = gen_pick(gen, "io.op", ops, ARRAY_SIZE(ops));
        char at[24];
        char length[24];
        int64_t offset;
        int64_t bytes;

        if (gen_guest_place(gen, "io.place", disk_bytes, 128 * KiB, &offset, &bytes)) {
            gen_at(gen, time_ns, "try io %s %s %s %s", guest, op, sim_format_size(offset, at),
                   sim_format_size(bytes, length));
        }
    }
}

void gen_guest_vm(struct gen *gen, bool stops)
{
    int64_t time_ns = gen_time(gen, "vm-stop.time", 14);

    if (gen_chance(gen, "vm-stop", 80)) {
        gen_at(gen, time_ns, "try stop");
        gen_at(gen, time_ns + gen_time(gen, "vm-stop.length", 12), "try cont");
    }
    if (stops && gen_draw(gen, "cont?", 3) == 0) {
        gen_at(gen, gen_time(gen, "cont.time", 15), "try cont");
    }
}
