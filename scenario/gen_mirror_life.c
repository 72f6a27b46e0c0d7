/*
 * Profile mirror: the guest's work, the job, and what happens around the copy.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/gen_mirror.h"

/* --- the guest's work ------------------------------------------------------------------------------------ */

const char *gen_mirror_workload(struct mirror *m, const char *what, int64_t most_ops, char buf[256])
{
    return gen_guest_workload(m->gen, what, "g", most_ops, m->huge ? 4 * MiB : 0, buf);
}

/* --- the job --------------------------------------------------------------------------------------------- */

/* Granularity and buffer; a run stays cheap: a disk goes over in some hundred operations at most. */
static void add_chunks(struct mirror *m)
{
    struct gen *gen = m->gen;
    int64_t least = m->bytes / 256;

    if (m->huge) {
        gen_add_size(gen, "granularity", MiB << gen_draw(gen, "job.granularity", 7));
        gen_add_size(gen, "buf-size", ROUND_UP(MAX(least, (int64_t)(64 * MiB)), 64 * MiB));
        return;
    }
    if (gen_draw(gen, "job.granularity?", 2)) {
        gen_add_size(gen, "granularity", (int64_t)SIM_SECTOR_BYTES << gen_draw(gen, "job.granularity", 12));
    }
    if (gen_draw(gen, "job.buf?", 3) == 0) {
        int64_t drawn = (int64_t)SIM_PAGE_BYTES << gen_draw(gen, "job.buf", 11);

        gen_add_size(gen, "buf-size", MAX(drawn, ROUND_UP(least, SIM_PAGE_BYTES)));
    }
}

static const char *pick_sync(struct mirror *m)
{
    struct gen *gen = m->gen;

    if (gen_draw(gen, "job.sync", 12) == 0) {
        return "none";
    }
    /* the target has to show what is not copied: one that the job makes, or one made for it */
    if (m->drive && m->source.backing[0] && gen_chance(gen, "top", 800)) {
        return "top";
    }
    return "full";
}

/* The file: made by the job, in a format that may have a backing file where one is needed, or there already. */
static void add_file(struct mirror *m, bool needs_backing)
{
    struct gen *gen = m->gen;

    gen_add(gen, " target=dst");
    if (m->existing) {
        gen_add(gen, " mode=existing format=%s", m->shared_below ? "qcow2" : "raw");
    } else if (needs_backing) {
        gen_add(gen, " format=qcow2");
    } else if (gen_draw(gen, "drive.format", 4)) {
        gen_add(gen, " format=%s", GEN_PICK(gen, "drive.format", "qcow2", "qcow2", "raw"));
    }
    if (gen_draw(gen, "drive.unmap", 3) == 0) {
        gen_add(gen, " unmap=%s", gen_draw(gen, "drive.unmap", 2) ? "true" : "false");
    }
}

/* The command into the text in hand; the caller ends the line. */
static void add_mirror(struct mirror *m)
{
    struct gen *gen = m->gen;
    const char *device = gen_draw(gen, "job.device", 2) ? m->top : "g";
    const char *sync = pick_sync(m);

    gen_add(gen, "try %s-mirror job-id=m device=%s sync=%s", m->drive ? "drive" : "blockdev", device, sync);
    if (m->drive) {
        add_file(m, strcmp(sync, "full") != 0);
    } else {
        gen_add(gen, " target=d");
    }
    add_chunks(m);
    gen_job_policy(&m->job, "on-source-error");
    gen_job_policy(&m->job, "on-target-error");
    gen_job_limit(&m->job, m->bytes, m->huge);
    if (gen_chance(gen, "blocking", 280)) {
        gen_add(gen, " copy-mode=write-blocking");
    } else if (gen_draw(gen, "blocking.not", 8) == 0) {
        gen_add(gen, " copy-mode=background");
    }
    if (!m->drive && gen_chance(gen, "named", 200)) {
        gen_add(gen, " filter-node-name=fm");
    }
    if (gen_chance(gen, "replaces", m->top[0] == 's' ? 40 : 600)) {
        gen_add(gen, " replaces=s%s", m->drive ? " node-name=d" : "");
    } else if (m->drive && gen_draw(gen, "drive.named", 2)) {
        gen_add(gen, " node-name=d");
    }
    gen_job_switches(&m->job);
}

/* --- what happens around the copy ------------------------------------------------------------------------ */

static void add_faults(struct mirror *m)
{
    static const char *const disks[] = {"src", "dst", "dst"};
    int64_t count = gen_chance(m->gen, "fault", 600) ? gen_range(m->gen, "fault.count", 1, 3) : 0;

    for (int64_t i = 0; i < count; i++) {
        char what[32];
        int64_t time_ns;
        char *line;

        snprintf(what, sizeof(what), "fault%" PRId64, i);
        time_ns = gen_draw(m->gen, "fault.early", 2) ? 0 : gen_time(m->gen, "fault.time", 12);
        line = gen_fault(m->gen, what, disks, ARRAY_SIZE(disks), m->start + m->bytes);
        if (line) {
            m->faulty = true;
            gen_at(m->gen, time_ns, "try %s", line);
        }
        free(line);
    }
}

/* Writes reach the target at once from some time on; back there is no way. */
static void add_change(struct mirror *m)
{
    struct gen *gen = m->gen;

    if (gen_chance(gen, "change", 180)) {
        int64_t time_ns = gen_time(gen, "change.time", 13);

        gen_at(gen, time_ns, "try block-job-change id=m type=mirror copy-mode=%s",
               gen_draw(gen, "change.back", 8) ? "write-blocking" : "background");
    }
}

/* Somebody else wants a disk that is taken, or takes the target before the job does. */
static void add_intruder(struct mirror *m)
{
    if (gen_chance(m->gen, "intruder", 15)) {
        gen_at(m->gen, gen_time(m->gen, "intruder.time", 12), "try guest x node=%s",
               m->drive ? "s" : GEN_PICK(m->gen, "intruder.node", "s", "d", "d"));
    }
}

/* The node of a medium is drained, and with it only what lies above: flushed, changed a little, and let go. */
static void add_reopens(struct mirror *m)
{
    int64_t rounds = m->reopens ? gen_range(m->gen, "reopen.rounds", 1, 4) : 0;
    int64_t time_ns = 0;

    for (int64_t i = 0; i < rounds; i++) {
        time_ns += gen_time(m->gen, "reopen.time", 13);
        gen_at(m->gen, time_ns,
               "try blockdev-reopen options=[{\"driver\":\"disk\",\"node-name\":\"%sf\",\"disk\":\"%s\","
               "\"detect-zeroes\":\"%s\"}]",
               m->reopens, *m->reopens == 's' ? "src" : "dst", GEN_PICK(m->gen, "reopen.how", "off", "on"));
    }
}

/* Another mirror of the same disk meanwhile. */
static void write_second_target(struct mirror *m, bool *second)
{
    *second = !m->huge && gen_chance(m->gen, "second", 60);
    if (*second) {
        gen_add(m->gen, "disk third");
        gen_add_size(m->gen, "size", m->bytes);
        gen_line(m->gen, "%s", "");
        gen_line(m->gen, "blockdev-add driver=disk node-name=t disk=third");
    }
}

void gen_mirror_life(struct mirror *m)
{
    struct gen *gen = m->gen;
    char buf[256];
    int64_t time_ns;
    bool second;

    write_second_target(m, &second);
    if (gen_chance(gen, "bitmap", 120)) {
        gen_line(gen, "try block-dirty-bitmap-add node=s name=b granularity=%" PRId64,
                 (int64_t)SIM_SECTOR_BYTES << gen_draw(gen, "bitmap.granularity", 10));
    }
    add_faults(m);
    if (m->bytes && gen_chance(gen, "workload", 880)) {
        time_ns = gen_draw(gen, "workload.early", 2) ? 0 : gen_time(gen, "workload.time", 11);
        gen_at(gen, time_ns, "%s", gen_mirror_workload(m, "workload.kind", 90, buf));
    }
    add_mirror(m);
    gen_keep(gen, 0);
    gen_guest_io(gen, "g", m->bytes);
    m->job.faulty = m->faulty || m->capped;
    m->job.capped = m->capped ? "dst" : NULL;
    gen_job_relief(&m->job);
    gen_job_life(&m->job);
    gen_guest_vm(gen, m->werror_stop);
    add_change(m);
    add_intruder(m);
    add_reopens(m);
    if (second) {
        time_ns = gen_time(gen, "second.time", 12);
        gen_at(gen, time_ns, "try blockdev-mirror job-id=m2 device=%s target=t sync=full",
               gen_draw(gen, "second.device", 2) ? m->top : "g");
    }
    gen_flush(gen);
}
