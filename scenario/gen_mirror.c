/*
 * Profile mirror: a guest works on a disk while it is mirrored, things fail, and commands come at any point of the
 * job's life.
 *
 * The story: disks, nodes, guest, some content; then everything that is drawn to happen around the start of the
 * job, sorted by time; then a wait for READY, what happens to a ready job, its end, and what the guest does after.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/gen_mirror.h"

static const char *const features[] = {
    "raw",
    "window",
    "stamp",
    "huge",
    "uneven",
    "device",
    "enospc",
    "slow",
    "shallow",
    "no-cache",
    "bitmap",
    "workload",
    "second",
    "align",
    "replaces",
    "power",
    "unplug",
    "after",
    "ready",
    "limited",
    "pieces",
    "intruder",
    "garbage",
    "reopen",
    "drive",
    "over",
    "blocking",
    "change",
    "top",
    "named",
    "qcow2",
    "backing",
    GEN_IMAGE_FEATURES,
    GEN_JOB_FEATURES,
    NULL,
};

/* --- the world ------------------------------------------------------------------------------------------- */

static int64_t draw_bytes(struct mirror *m)
{
    struct gen *gen = m->gen;
    uint64_t kind = gen_draw(gen, "size.kind", 100);
    int64_t bytes;

    m->huge = gen_chance(gen, "huge", 60);
    if (m->huge) {
        bytes = gen_range(gen, "size.huge", 1, 1024) * GiB;
        bytes += gen_range(gen, "size.huge-tail", 0, 3) * SIM_SECTOR_BYTES;
        return bytes;
    }
    if (kind < 3) {
        return 0;
    }
    if (kind < 6) {
        return SIM_SECTOR_BYTES;
    }
    if (kind < 22) {
        return gen_range(gen, "size.odd", 1, 4000) * SIM_SECTOR_BYTES;
    }
    if (kind < 80) {
        return gen_range(gen, "size.chunks", 4, 64) * 64 * KiB;
    }
    bytes = gen_range(gen, "size.small", 1, 8) * MiB;
    bytes += gen_range(gen, "size.tail", 0, 127) * SIM_SECTOR_BYTES;
    return bytes;
}

/* Media that make the layers above work: no zero writes, no discards, requests in small pieces only. */
static void add_odd_medium(struct mirror *m, const char *disk)
{
    struct gen *gen = m->gen;
    char what[64];

    snprintf(what, sizeof(what), "odd.%s", disk);
    if (gen_chance(gen, "limited", 60)) {
        /* zeroes of a huge disk as data would cost more than all the other runs */
        gen_add(gen, gen_draw(gen, what, 2) && !m->huge ? " write-zeroes=off" : " discard=off");
    }
    if (gen_chance(gen, "pieces", 50) && !m->huge) {
        gen_add_size(gen, "max-transfer", 4 * KiB << gen_draw(gen, what, 5));
    }
}

static void add_speed_of_medium(struct mirror *m, const char *disk)
{
    struct gen *gen = m->gen;
    char what[64];

    snprintf(what, sizeof(what), "latency.%s", disk);
    if (gen_draw(gen, what, 2) || m->capped) {
        static const int64_t latencies[] = {5 * NS_PER_US, 20 * NS_PER_US, 100 * NS_PER_US, 250 * NS_PER_US,
                                            NS_PER_MS};
        unsigned quick = m->capped ? 2 : 0; /* what fails and is tried again at once should take its time */

        gen_add_time(gen, "latency", latencies[quick + gen_draw(gen, what, ARRAY_SIZE(latencies) - quick)]);
    }
    snprintf(what, sizeof(what), "queue.%s", disk);
    if (gen_chance(gen, "shallow", 200)) {
        gen_add(gen, " queue-depth=%" PRId64, gen_range(gen, what, 1, 4));
    }
    /* larger than what the guest writes: every small write becomes a read, a change and a write. A length that is
     * no multiple of it would only be refused */
    if (gen_chance(gen, "align", 120) && (m->start | m->bytes) % (4 * KiB) == 0) {
        gen_add(gen, " align=%s", GEN_PICK(gen, "align.bytes", "1k", "4k", "4k"));
    }
    if (gen_chance(gen, "no-cache", 80)) {
        gen_add(gen, " write-cache=off");
    }
    add_odd_medium(m, disk);
}

/* The medium of an image: empty, or a device that holds it whatever its clusters are. */
static void write_image(struct mirror *m, const char *what, const char *disk, int64_t bytes,
                        struct gen_image *image, char **options)
{
    struct gen *gen = m->gen;
    unsigned levels = bytes > 0 && gen_chance(gen, "backing", 350) ? (unsigned)gen_range(gen, what, 1, 3) : 0;
    bool device = !m->huge && disk[0] == 'd' && gen_chance(gen, "device", 150);

    gen_image_draw(gen, what, disk, bytes, levels, image);
    gen_add(gen, "disk %s", disk);
    if (device) {
        gen_add_size(gen, "size", 2 * bytes + 16 * MiB);
        gen_add(gen, " type=device");
    }
    add_speed_of_medium(m, disk);
    gen_line(gen, "%s", "");
    gen_image_write(gen, what, image, levels);
    *options = gen_image_options(gen, what, image, false);
}

static void write_source(struct mirror *m)
{
    struct gen *gen = m->gen;
    int64_t behind;

    m->bytes = draw_bytes(m);
    if (m->bytes <= TiB / 4 && gen_chance(gen, "qcow2", 250)) {
        write_image(m, "source.image", "src", m->bytes, &m->source, &m->source_options);
        return;
    }
    m->raw = gen_chance(gen, "raw", 300);
    m->start =
        m->raw && gen_chance(gen, "window", 250) ? gen_range(gen, "window.start", 1, 256) * SIM_SECTOR_BYTES : 0;
    if (m->start && gen_draw(gen, "window.odd", 4) == 0) { /* every request is misaligned below the window */
        m->start += gen_range(gen, "window.odd", 1, SIM_SECTOR_BYTES - 1);
    }
    behind = m->start ? gen_range(gen, "window.behind", 0, 8) * 4 * KiB : 0;
    gen_add(gen, "disk src");
    gen_add_size(gen, "size", m->start + m->bytes + behind);
    if (!m->huge && gen_chance(gen, "stamp", 650)) {
        gen_add(gen, " content=stamp");
    }
    add_speed_of_medium(m, "src");
    gen_line(gen, "%s", "");
}

static void add_capacity(struct mirror *m, int64_t bytes)
{
    struct gen *gen = m->gen;

    m->capped = bytes >= 64 * KiB && gen_chance(gen, "enospc", 120);
    if (m->capped) {
        gen_add_size(gen, "capacity", gen_range(gen, "enospc.room", 1, MIN(bytes, 16 * MiB) / (4 * KiB)) * 4 * KiB);
    }
}

/* A disk for drive-mirror, with an image on it or not. */
static void write_drive(struct mirror *m)
{
    struct gen *gen = m->gen;

    m->existing = gen_draw(gen, "drive.existing", 3) == 0;
    gen_add(gen, "disk dst");
    if (m->existing && !m->source.backing[0]) {
        gen_add_size(gen, "size", m->bytes);
    }
    if (!m->existing) {
        add_capacity(m, m->bytes);
    }
    add_speed_of_medium(m, "dst");
    gen_line(gen, "%s", "");
    if (m->existing && m->source.backing[0]) { /* what sync=top does not copy is read from there */
        struct gen_image *image = &m->target;

        m->shared_below = true;
        gen_image_draw(gen, "target.image", "dst", m->bytes, 2, image);
        snprintf(image->backing, sizeof(image->backing), "%s", m->source.backing);
        image->backing_raw = m->source.backing_raw;
        gen_image_write(gen, "target.image", image, 0);
    }
}

static void write_target(struct mirror *m)
{
    struct gen *gen = m->gen;
    int64_t bytes = m->bytes;

    m->drive = !m->huge && gen_chance(gen, "drive", m->source.backing[0] ? 600 : 150);
    if (m->drive) {
        write_drive(m);
        return;
    }
    if (gen_chance(gen, "uneven", 15)) {
        bytes += gen_range(gen, "uneven.by", -4, 4) * SIM_SECTOR_BYTES;
        bytes = MAX(bytes, (int64_t)0);
    }
    if (bytes <= TiB / 4 && gen_chance(gen, "qcow2", 300)) {
        write_image(m, "target.image", "dst", bytes, &m->target, &m->target_options);
        return;
    }
    gen_add(gen, "disk dst");
    gen_add_size(gen, "size", bytes);
    if (gen_chance(gen, "device", 300)) {
        gen_add(gen, " type=device");
    }
    add_capacity(m, bytes);
    if (!m->huge && !m->capped && gen_chance(gen, "garbage", 150)) {
        gen_add(gen, " content=stamp"); /* what was on the target before must not survive */
    }
    add_speed_of_medium(m, "dst");
    gen_line(gen, "%s", "");
}

/* may_fail: faults are armed already. */
/* Discards and unmapping zero writes reach the medium only where every node lets them through. */
static void write_node(struct mirror *m, const char *name, const char *disk, bool raw, bool may_fail)
{
    struct gen *gen = m->gen;
    bool unmap = gen_chance(gen, "unmap", 350);
    bool apart = raw && gen_chance(gen, "reopen", 150); /* its medium's node has a name: it can be drained alone */

    if (apart) {
        m->reopens = name;
        gen_line(gen, "%sblockdev-add driver=disk node-name=%sf disk=%s", may_fail ? "try " : "", name, disk);
    }
    gen_add(gen, "%sblockdev-add driver=%s node-name=%s", may_fail ? "try " : "", raw ? "raw" : "disk", name);
    if (apart) {
        gen_add(gen, " file=%sf", name);
    } else {
        gen_add(gen, raw ? " file.driver=disk file.disk=%s" : " disk=%s", disk);
    }
    if (raw && m->start && disk[0] == 's') {
        gen_add(gen, " offset=%" PRId64 " size=%" PRId64, m->start, m->bytes);
    }
    gen_line(gen, "%s", unmap ? " discard=unmap" : "");
}

static void write_image_node(struct mirror *m, const char *name, const char *disk, const char *options,
                             bool may_fail)
{
    gen_line(m->gen, "%sblockdev-add driver=qcow2 node-name=%s file.driver=disk file.disk=%s%s%s",
             may_fail ? "try " : "", name, disk, options,
             strstr(options, "discard=unmap") ? " file.discard=unmap" : "");
}

/* What the guest stands on, when that is not the source's own node. */
static void write_top(struct mirror *m, bool may_fail)
{
    const char *surely = may_fail ? "try " : "";

    if (!m->top) {
        m->top = gen_chance(m->gen, "over", 150) ? GEN_PICK(m->gen, "over.what", "q", "w") : "s";
    }
    if (m->top[0] == 'q') {
        gen_line(m->gen, "%sblockdev-add driver=quorum node-name=q children=[\"s\"] vote-threshold=1", surely);
    } else if (m->top[0] == 'w') {
        gen_line(m->gen, "%sblockdev-add driver=copy-on-read node-name=w file=s", surely);
    }
}

static void write_nodes(struct mirror *m, bool may_fail)
{
    if (m->source_options) {
        write_image_node(m, "s", "src", m->source_options, may_fail);
    } else {
        write_node(m, "s", "src", m->raw, may_fail);
    }
    write_top(m, may_fail);
    if (m->target_options) {
        write_image_node(m, "d", "dst", m->target_options, may_fail);
    } else if (!m->drive) {
        write_node(m, "d", "dst", gen_chance(m->gen, "raw", 300), may_fail);
    }
}

static void write_guest(struct mirror *m, bool may_fail)
{
    m->werror_stop = gen_guest(m->gen, "g", m->top, may_fail);
}

/* Data for a disk without: the copy needs something to do. */
static void write_content(struct mirror *m)
{
    int64_t pieces = gen_range(m->gen, "content.pieces", 0, m->huge ? 4 : 2);

    for (int64_t i = 0; i < pieces; i++) {
        char at[24];
        char length[24];
        int64_t offset;
        int64_t bytes;

        if (gen_guest_place(m->gen, "content", m->bytes, 256 * KiB, &offset, &bytes)) {
            gen_line(m->gen, "try io g write %s %s", sim_format_size(offset, at), sim_format_size(bytes, length));
        }
    }
}

/* --- the end of the job ---------------------------------------------------------------------------------- */

static void write_ready_work(struct mirror *m)
{
    char buf[256];

    if (m->bytes && gen_chance(m->gen, "ready", 550)) {
        gen_line(m->gen, "%s", gen_mirror_workload(m, "ready.kind", 40, buf));
        gen_line(m->gen, "run %s", sim_format_time(gen_time(m->gen, "ready.time", 13), buf));
    }
}

static void write_job_end(struct mirror *m)
{
    gen_job_ready(&m->job);
    if (!m->job.ended) {
        write_ready_work(m);
    }
    gen_job_end(&m->job);
}

static void write_after(struct mirror *m)
{
    struct gen *gen = m->gen;
    char buf[256];

    if (m->bytes && gen_chance(gen, "after", 300)) {
        gen_line(gen, "try %s wait=on", gen_mirror_workload(m, "after.kind", 30, buf));
    }
    if (gen_draw(gen, "after.settle", 3) == 0) {
        gen_line(gen, "try settle");
    }
    if (gen_chance(gen, "unplug", 20)) {
        gen_line(gen, "try unplug g");
    }
    if (gen_chance(gen, "power", 40)) {
        gen_line(gen, "+%" PRId64 "us powerloss all", gen_scale(gen, "power.time", 14));
        write_nodes(m, true);
        write_guest(m, true);
        if (m->bytes) {
            gen_line(gen, "try %s read=60 wait=on", "workload g ops=20 depth=4 profile=edges max=64k length=4M");
        }
    }
}

static void generate(struct sim *draw)
{
    struct mirror m = {.gen = gen_of(draw)};

    m.job = (struct gen_job){.gen = m.gen, .id = "m", .readies = true};
    gen_schedule(m.gen);
    write_source(&m);
    write_target(&m);
    write_nodes(&m, false);
    write_guest(&m, false);
    write_content(&m);
    gen_mirror_life(&m);
    write_job_end(&m);
    write_after(&m);
    free(m.source_options);
    free(m.target_options);
}

const struct gen_profile gen_mirror_profile = {
    .profile =
        {
            .name = "mirror",
            .doc = "a live mirror under guest load, faults and commands at any point of the job's life",
            .generate = generate,
        },
    .features = features,
};
