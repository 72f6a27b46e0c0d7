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
    struct gen *gen = m->gen;
    const char *profile = GEN_PICK(gen, what, "uniform", "uniform", "hot", "hot", "sequential", "edges");
    int64_t ops = gen_range(gen, what, 4, most_ops);
    int64_t depth = gen_range(gen, what, 1, 12);
    int64_t think = gen_draw(gen, what, 2) ? 0 : gen_time(gen, what, 8);
    int64_t top = SIM_SECTOR_BYTES << gen_draw(gen, what, 8);
    char text[32];
    size_t used;

    used =
        (size_t)snprintf(buf, 256, "workload g ops=%" PRId64 " depth=%" PRId64 " profile=%s", ops, depth, profile);
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
    if (m->huge) {
        used += (size_t)snprintf(buf + used, 256 - used, " length=%s", sim_format_size(4 * MiB, text));
    }
    SIM_ASSERT_LT(used, 256);
    return buf;
}

static void add_io(struct mirror *m)
{
    static const char *const ops[] = {"aio_write",    "aio_write",   "aio_write -z", "aio_write -z -u",
                                      "aio_write -f", "aio_discard", "aio_read",     "aio_write -P 0x11"};
    int64_t count = gen_chance(m->gen, "io", 400) ? gen_range(m->gen, "io.count", 1, 6) : 0;

    for (int64_t i = 0; i < count; i++) {
        int64_t time_ns = gen_time(m->gen, "io.time", 15);
        const char *op = gen_pick(m->gen, "io.op", ops, ARRAY_SIZE(ops));
        char at[24];
        char length[24];
        int64_t offset;
        int64_t bytes;

        if (gen_mirror_place(m, "io.place", 128 * KiB, &offset, &bytes)) {
            gen_at(m->gen, time_ns, "try io g %s %s %s", op, sim_format_size(offset, at),
                   sim_format_size(bytes, length));
        }
    }
}

/* --- the job --------------------------------------------------------------------------------------------- */

static void add_policies(struct mirror *m)
{
    static const char *const policies[] = {"", "", "report", "ignore", "ignore", "stop", "stop", "enospc"};
    const char *source = gen_pick(m->gen, "job.on-source-error", policies, ARRAY_SIZE(policies));
    const char *target = gen_pick(m->gen, "job.on-target-error", policies, ARRAY_SIZE(policies));

    m->stops_on_error = strcmp(source, "stop") == 0 || strcmp(target, "stop") == 0 ||
                        strcmp(target, "enospc") == 0 || strcmp(source, "enospc") == 0;
    m->ignores = strcmp(source, "ignore") == 0 || strcmp(target, "ignore") == 0;
    gen_add(m->gen, "%s%s%s%s", *source ? " on-source-error=" : "", source, *target ? " on-target-error=" : "",
            target);
}

static void add_speed_limit(struct mirror *m)
{
    struct gen *gen = m->gen;

    if (!gen_chance(gen, "limit", 200)) {
        return;
    }
    m->slow = gen_draw(gen, "limit.tiny", 5) == 0;
    if (m->huge) { /* enough to be through in seconds */
        gen_add_size(gen, "speed", MAX(ROUND_DOWN(m->bytes / gen_range(gen, "limit.seconds", 1, 8), MiB), MiB));
        return;
    }
    gen_add_size(gen, "speed",
                 m->slow ? gen_range(gen, "limit.slow", 1, 512) * 1000 : gen_range(gen, "limit.fast", 1, 64) * MiB);
}

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

/* The command into the text in hand; the caller ends the line. */
static void add_mirror(struct mirror *m)
{
    struct gen *gen = m->gen;
    const char *device = GEN_PICK(gen, "job.device", "s", "g");
    bool none = gen_draw(gen, "job.sync", 12) == 0;

    gen_add(gen, "try blockdev-mirror job-id=m device=%s target=d sync=%s", device, none ? "none" : "full");
    add_chunks(m);
    add_policies(m);
    add_speed_limit(m);
    if (gen_chance(gen, "replaces", 40)) {
        gen_add(gen, " replaces=s");
    }
    m->manual_finalize = gen_chance(gen, "manual", 100);
    m->manual_dismiss = gen_chance(gen, "manual", 100);
    gen_add(gen, "%s%s", m->manual_finalize ? " auto-finalize=false" : "",
            m->manual_dismiss ? " auto-dismiss=false" : "");
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

/* Space comes back, and whoever stopped for the lack of it goes on. */
static void add_relief(struct mirror *m)
{
    int64_t time_ns = gen_time(m->gen, "enospc.relief", 15);

    if (m->capped && (gen_draw(m->gen, "enospc.relief?", 8) || m->ignores)) {
        gen_at(m->gen, time_ns, "disk dst capacity=0");
    }
    /* a job that ignores what keeps failing would copy the same area for seconds: interesting once, then only dear
     */
    if (m->ignores && m->faulty) {
        time_ns = 5 * NS_PER_MS + gen_time(m->gen, "fault.end", 14);
        gen_at(m->gen, time_ns, "fault-stop");
    }
    if ((m->capped || gen_draw(m->gen, "resume?", 4) == 0) && m->stops_on_error) {
        gen_at(m->gen, time_ns + gen_time(m->gen, "resume.after", 12), "try block-job-resume device=m");
    }
    if (m->werror_stop && gen_draw(m->gen, "cont?", 3) == 0) {
        gen_at(m->gen, time_ns + gen_time(m->gen, "cont.after", 12), "try cont");
    }
}

static void add_pauses(struct mirror *m)
{
    int64_t rounds = gen_chance(m->gen, "storm", 40) ? gen_range(m->gen, "storm.rounds", 3, 8)
                                                     : (int64_t)gen_chance(m->gen, "pause", 150);
    int64_t time_ns = 0;

    for (int64_t i = 0; i < rounds; i++) {
        const char *family = GEN_PICK(m->gen, "pause.family", "block-job-", "job-");
        const char *key = *family == 'b' ? "device" : "id";

        time_ns += gen_time(m->gen, "pause.time", 12);
        gen_at(m->gen, time_ns, "try %spause %s=m", family, key);
        time_ns += gen_time(m->gen, "pause.length", 12);
        gen_at(m->gen, time_ns, "try %sresume %s=m", family, key);
    }
}

static void add_speeds(struct mirror *m)
{
    int64_t count = gen_chance(m->gen, "speed", 150) ? gen_range(m->gen, "speed.count", 1, 3) : 0;
    char buf[24];

    for (int64_t i = 0; i < count; i++) {
        int64_t time_ns = gen_time(m->gen, "speed.time", 14);
        int64_t speed = gen_draw(m->gen, "speed.value", 4) ? gen_scale(m->gen, "speed.value", 17) * KiB : 0;

        gen_at(m->gen, time_ns, "try block-job-set-speed device=m speed=%s", sim_format_size(speed, buf));
    }
    if (m->slow || count) {
        gen_at(m->gen, gen_time(m->gen, "limit.off", 18), "try block-job-set-speed device=m speed=0");
    }
}

static void add_early_end(struct mirror *m)
{
    int64_t time_ns;

    if (!gen_chance(m->gen, "cancel", 60)) {
        return;
    }
    m->ended = true;
    time_ns = gen_time(m->gen, "cancel.time", 13);
    gen_at(m->gen, time_ns, "try %s",
           GEN_PICK(m->gen, "cancel.how", "block-job-cancel device=m", "block-job-cancel device=m force=true",
                    "job-cancel id=m", "block-job-complete device=m"));
}

static void add_vm_stop(struct mirror *m)
{
    int64_t time_ns = gen_time(m->gen, "vm-stop.time", 14);

    if (gen_chance(m->gen, "vm-stop", 80)) {
        gen_at(m->gen, time_ns, "try stop");
        gen_at(m->gen, time_ns + gen_time(m->gen, "vm-stop.length", 12), "try cont");
    }
}

/* Somebody else wants a disk that is taken, or takes the target before the job does. */
static void add_intruder(struct mirror *m)
{
    if (gen_chance(m->gen, "intruder", 15)) {
        gen_at(m->gen, gen_time(m->gen, "intruder.time", 12), "try guest x node=%s",
               GEN_PICK(m->gen, "intruder.node", "s", "d", "d"));
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

static void add_queries(struct mirror *m)
{
    if (gen_chance(m->gen, "query", 150)) {
        int64_t time_ns = gen_time(m->gen, "query.time", 14);

        gen_at(m->gen, time_ns, "%s",
               GEN_PICK(m->gen, "query.what", "query-jobs", "query-block-jobs", "query-status", "query-block",
                        "query-named-block-nodes"));
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

/* The text in hand is the mirror command: it becomes one more action, at time 0 after what was kept so far. */
static void keep_command(struct gen *gen)
{
    const char *line_start = strrchr(gen->text.bytes, '\n') + 1;
    size_t length = (size_t)(line_start - gen->text.bytes);

    gen_at(gen, 0, "%s", line_start);
    gen->text.length = length;
    gen->text.bytes[length] = '\0';
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
    keep_command(gen);
    add_io(m);
    add_relief(m);
    add_pauses(m);
    add_speeds(m);
    add_early_end(m);
    add_vm_stop(m);
    add_intruder(m);
    add_queries(m);
    add_reopens(m);
    if (second) {
        time_ns = gen_time(gen, "second.time", 12);
        gen_at(gen, time_ns, "try blockdev-mirror job-id=m2 device=%s target=t sync=full",
               GEN_PICK(gen, "second.device", "s", "g"));
    }
    gen_flush(gen);
}
