/*
 * qcow2-metadata: what the driver leaves on a medium fits together (reference/bitmaps-qcow2.md 5.3, 5.8, 6).
 *
 * The medium is read by the reader of check/qcow2_image.h when the driver owes it something:
 *
 *     open ... write ... guest flush, nothing else going on ... close ............. open again
 *        |                   |  counts, COPIED, tables             |  the same         |  as it was left
 *        +-- power loss: opens, nothing corrupt; leaks, and with the dirty bit set counts that are too low
 *
 * A medium is `sound` from the first time it was found in order, and a later damage is the driver's. Whatever else
 * may have written to it (a guest through raw, a second node, a file of the host) ends that. Leaks are excused once
 * a request of the medium failed or the driver died, until the image is found without any.
 */
#include <inttypes.h>
#include <string.h>

#include "check/qcow2_kept.h"

struct medium {
    struct disk *disk;
    unsigned links; /* qcow2 nodes that stand on it */
    bool sound;
    bool fresh;   /* began empty, and no guest has written to it without qcow2 in between: all is the driver's */
    bool leaky;   /* something failed, or died */
    bool failed;  /* since it was empty: what was being made need not be finished */
    bool changed; /* since it was looked at */
    struct kept_snapshot *kept;
    struct medium *next;
};

/* A qcow2 node and the node that its file edge leads to. */
struct link {
    const BlockDriverState *bs;
    const BlockDriverState *child;
    struct medium *medium; /* NULL: no single medium below */
    struct link *next;
};

/* A guest's flush, submitted when nothing else was going on. */
struct flush {
    const struct guest_req *req;
    uint64_t submitted; /* state->submitted then */
};

struct qcow2_metadata {
    struct check *check;
    struct medium *media;
    struct link *links;
    struct flush flush;
    uint64_t submitted; /* guest requests so far */
};

/* --- media ------------------------------------------------------------------------------------------------ */

static struct medium *medium_of(struct qcow2_metadata *state, struct disk *disk)
{
    struct medium *m = state->media;

    while (m && m->disk != disk) {
        m = m->next;
    }
    if (!m) {
        m = (struct medium *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*m));
        m->disk = disk;
        m->fresh = disk_length(disk) == 0;
        m->changed = true;
        m->next = state->media;
        state->media = m;
    }
    return m;
}

/* A node on that medium, for messages; NULL: none. */
static const BlockDriverState *node_on(const struct qcow2_metadata *state, const struct medium *m)
{
    const struct link *link = state->links;

    while (link && link->medium != m) {
        link = link->next;
    }
    return link ? link->bs : NULL;
}

/* What is wrong with the image, or NULL; keeps what is known of the medium. */
static const char *judge(struct medium *m, const struct qcow2_image *image, unsigned allow, const char **kind)
{
    const struct qcow2_finding *found;

    m->changed = false;
    m->sound = false;
    if (image->error[0]) {
        *kind = "unreadable";
        return image->error;
    }
    if (image->incomplete) {
        return NULL;
    }
    if (m->leaky || ((allow & QCOW2_ALLOW_DIRTY) && image->lazy_refcounts)) {
        allow |= QCOW2_ALLOW_LEAKS; /* lazy counts that go down wait for the close (5.5) */
    }
    if (m->leaky && image->version == 2) {
        allow |= QCOW2_ALLOW_COPIED; /* no mark says that a snapshot was cut short: the order must do (6) */
    }
    found = qcow2_image_judge(image, allow);
    m->leaky &= image->leaks > 0 || image->hidden_leaks > 0 || image->dirty || image->found[QCOW2_FOUND_COPIED] > 0;
    m->sound = !found;
    if (!found && image->dirty && !(allow & QCOW2_ALLOW_DIRTY)) { /* whoever opens it next would repair it (5.5) */
        *kind = "dirty";
        return "it was closed in order, and still says that it was not";
    }
    *kind = found ? qcow2_finding_name(found->kind) : NULL;
    return found ? found->text : NULL;
}

static struct violation_where place_of(const struct qcow2_metadata *state, const struct medium *m)
{
    const BlockDriverState *bs = node_on(state, m);

    return (struct violation_where){.host = bs ? check_host_name(bdrv_host(bs)) : NULL,
                                    .node = bs ? bdrv_get_node_name(bs) : NULL,
                                    .driver = "qcow2"};
}

/* What a snapshot holds changes only with it, and only in an image of which nothing is known it may be anything. */
static void look_at_snapshots(struct qcow2_metadata *state, struct medium *m, struct qcow2_image *image, bool owed)
{
    struct violation_where where = place_of(state, m);
    int changed;

    if (!m->sound || image->external_data || !owed) {
        qcow2_kept_forget(state->check->arena, &m->kept);
    }
    if (!m->sound || image->external_data) {
        return;
    }
    changed = qcow2_kept_look(state->check->arena, &m->kept, image);
    if (changed >= 0) {
        check_violate(state->check->set, "qcow2-metadata", "kept", &where,
                      "the image on disk %s: snapshot '%s' (id %s) no longer holds what it held",
                      disk_name(m->disk)->str, image->snapshot[changed].name, image->snapshot[changed].id);
    }
}

/* Reads the image. rule NULL: nothing is owed yet, only whether it is in order. */
static void look(struct qcow2_metadata *state, struct medium *m, const char *rule, unsigned allow)
{
    struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(m->disk));
    const char *kind = NULL;
    const char *wrong = judge(m, image, allow, &kind);
    struct violation_where where = place_of(state, m);

    where.op = kind;
    if (rule && wrong) {
        check_violate(state->check->set, "qcow2-metadata", rule, &where,
                      "the image on disk %s: %s; corruptions %" PRIu64 ", leaks %" PRIu64 "%s",
                      disk_name(m->disk)->str, wrong, image->corruptions, image->leaks,
                      image->dirty ? ", the dirty bit is set" : "");
    }
    look_at_snapshots(state, m, image, rule != NULL);
    qcow2_image_free(image);
}

static void on_disk_complete(void *opaque, const struct sim_record *record)
{
    struct qcow2_metadata *state = opaque;
    const struct disk_req *req = record->ref;
    struct medium *m;

    if (!req || (req->ret >= 0 && !check_op_writes(req->op) && req->op != SIM_OP_TRUNCATE)) {
        return;
    }
    m = medium_of(state, req->disk);
    if (req->ret < 0) { /* a read, too: who cannot look at counts cannot give clusters back */
        m->leaky = true;
        m->failed = true;
    }
    if (!check_op_writes(req->op) && req->op != SIM_OP_TRUNCATE) {
        return;
    }
    m->changed = true;
    if (m->links == 0) {
        m->sound = false;
        if (req->op == SIM_OP_TRUNCATE && req->ret >= 0 && disk_length(m->disk) == 0) {
            m->fresh = true;
            m->failed = false;
            m->leaky = false;
        } else if (req->origin.kind == SIM_ORIGIN_GUEST) {
            m->fresh = false;
        }
    }
}

/* --- nodes ------------------------------------------------------------------------------------------------ */

/* Somebody else writes there, or may have: nothing is owed until it has been made anew or found in order. */
static void lose(struct medium *m)
{
    if (m) {
        m->sound = false;
        m->fresh = false;
    }
}

static void link_up(struct qcow2_metadata *state, const BlockDriverState *bs, const BlockDriverState *child)
{
    struct link *link = (struct link *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*link));
    struct disk *disk = check_disk_below(child);

    link->bs = bs;
    link->child = child;
    link->medium = disk ? medium_of(state, disk) : NULL;
    link->next = state->links;
    state->links = link;
    if (!disk) {
        return;
    }
    if (link->medium->links++ == 0) {
        /* As it was left, by whoever; what died in between may have left leaks, and a dirty bit. */
        look(state, link->medium, link->medium->sound ? "open" : NULL, QCOW2_ALLOW_DIRTY);
    }
}

static void unlink_at(struct qcow2_metadata *state, struct link **at)
{
    struct link *link = *at;

    *at = link->next;
    SIM_ASSERT(!link->medium || link->medium->links > 0);
    if (link->medium) {
        link->medium->links--;
    }
    sim_free(state->check->arena, SIM_TYPE_check_state, link, sizeof(*link));
}

/* The node has let go of its file: what it had to write, it has written, if it could. */
static void closed(struct qcow2_metadata *state, struct link **at)
{
    struct medium *m = (*at)->medium;

    if (m && m->links == 1 && m->changed) {
        bool owed = m->sound || (m->fresh && !m->failed);

        look(state, m, owed ? "close" : NULL, m->leaky ? QCOW2_ALLOW_DIRTY : 0);
    }
    unlink_at(state, at);
}

static struct link *link_of(const struct qcow2_metadata *state, const BlockDriverState *bs)
{
    struct link *link = state->links;

    while (link && link->bs != bs) {
        link = link->next;
    }
    return link;
}

static void on_edge_attach(void *opaque, const struct sim_record *record)
{
    struct qcow2_metadata *state = opaque;
    const BlockDriverState *child = record->ref;

    for (const BdrvChild *edge = bdrv_first_parent(child); edge; edge = bdrv_next_parent(edge)) {
        const BlockDriverState *bs = bdrv_child_parent_bs(edge);

        if (bs && strcmp(bdrv_child_name(edge), "file") == 0 && strcmp(bdrv_driver_name(bs), "qcow2") == 0 &&
            !link_of(state, bs)) {
            link_up(state, bs, child);
        }
    }
}

/* Edges below a node moved, or a second writer came. */
static void on_edge_change(void *opaque, const struct sim_record *record)
{
    struct qcow2_metadata *state = opaque;

    for (struct link *link = state->links; link; link = link->next) {
        const BlockDriverState *child = bdrv_primary_bs(link->bs);
        struct disk *disk = child ? check_disk_below(child) : NULL;

        link->child = child ? child : link->child;
        if (child && disk != (link->medium ? link->medium->disk : NULL)) {
            lose(link->medium);
            if (link->medium) {
                link->medium->links--;
            }
            link->medium = disk ? medium_of(state, disk) : NULL;
            if (link->medium) {
                link->medium->links++;
                lose(link->medium);
            }
        }
        if (child && link->medium && check_written_beside(link->bs)) {
            lose(link->medium);
        }
    }
}

static void on_edge_detach(void *opaque, const struct sim_record *record)
{
    struct qcow2_metadata *state = opaque;

    for (struct link **at = &state->links; *at;) {
        if ((*at)->child == record->ref && !bdrv_primary_bs((*at)->bs)) {
            closed(state, at);
        } else {
            at = &(*at)->next;
        }
    }
}

static void on_node_close(void *opaque, const struct sim_record *record)
{
    struct qcow2_metadata *state = opaque;

    for (struct link **at = &state->links; *at;) {
        if ((*at)->bs == record->ref) {
            closed(state, at);
        } else {
            at = &(*at)->next;
        }
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct qcow2_metadata *state = opaque;

    state->flush.req = NULL;
    for (struct link **at = &state->links; *at;) {
        if (bdrv_host((*at)->bs) == record->ref) {
            if ((*at)->medium) {
                (*at)->medium->leaky = true;
                (*at)->medium->failed = true;
            }
            unlink_at(state, at);
        } else {
            at = &(*at)->next;
        }
    }
}

static void on_inject(void *opaque, const struct sim_record *record)
{
    struct qcow2_metadata *state = opaque;

    for (struct medium *m = state->media; m; m = m->next) {
        m->leaky = true;
        m->failed = true;
    }
}

static void on_power_loss(void *opaque, const struct sim_record *record)
{
    struct qcow2_metadata *state = opaque;
    struct medium *m = medium_of(state, (struct disk *)record->ref);

    m->leaky = true;
    m->failed = true;
    m->changed = true;
    if (m->sound) {
        look(state, m, "power", QCOW2_ALLOW_LEAKS | QCOW2_ALLOW_DIRTY);
        m->leaky = true;
    }
}

/* --- flushes ---------------------------------------------------------------------------------------------- */

static bool jobs_run(struct sim *sim)
{
    for (struct host *host = host_first(sim); host; host = host->next) {
        for (Job *job = job_next(host, NULL); job; job = job_next(host, job)) {
            if (job->status != JOB_STATUS_CONCLUDED && job->status != JOB_STATUS_NULL) {
                return true;
            }
        }
    }
    return false;
}

static bool alone(const struct qcow2_metadata *state)
{
    const struct check_boundary *boundary = check_boundary(state->check);

    return boundary->flights == 1 && boundary->commands == 0 && !jobs_run(state->check->sim);
}

static void on_guest_submit(void *opaque, const struct sim_record *record)
{
    struct qcow2_metadata *state = opaque;
    const struct guest_req *req = record->ref;

    state->submitted++;
    if (req->op == SIM_OP_FLUSH && state->links && alone(state)) {
        state->flush = (struct flush){req, state->submitted};
    }
}

/* The image that the guest's flushes write out; NULL: none, or not alone. */
static struct medium *flushed_medium(const struct qcow2_metadata *state, const struct guest *guest)
{
    const BlockDriverState *bs = blk_bs(guest_blk(guest));

    while (bs && strcmp(bdrv_driver_name(bs), "qcow2") != 0) {
        bs = check_passes_to(bs);
    }
    const struct link *link = bs ? link_of(state, bs) : NULL;
    return link && link->medium && link->medium->links == 1 && bdrv_is_writable(bs) ? link->medium : NULL;
}

static void on_guest_complete(void *opaque, const struct sim_record *record)
{
    struct qcow2_metadata *state = opaque;
    const struct guest_req *req = record->ref;
    struct medium *m;

    if (req != state->flush.req) {
        return;
    }
    state->flush.req = NULL;
    if (req->ret < 0 || req->ignored || state->submitted != state->flush.submitted || !alone(state)) {
        return;
    }
    m = flushed_medium(state, req->guest);
    if (m && m->sound && m->changed && disk_in_flight(m->disk) == 0) {
        look(state, m, "flush", QCOW2_ALLOW_DIRTY);
    }
}

static void on_corrupted(void *opaque, const struct sim_record *record)
{
    struct qcow2_metadata *state = opaque;
    const struct link *link = link_of(state, record->ref);

    if (link && link->medium && link->medium->sound) {
        struct violation_where where = {
            .host = check_host_name(bdrv_host(link->bs)), .node = bdrv_get_node_name(link->bs), .driver = "qcow2"};

        link->medium->sound = false;
        check_violate(state->check->set, "qcow2-metadata", "reported", &where,
                      "the image on disk %s was in order, nobody else wrote to it; its driver says: %s",
                      disk_name(link->medium->disk)->str, sim_record_str(record, 2));
    }
}

/* Everybody waits: the disk holds what the snapshot does that was made, or gone back to, just now. */
static void on_snapshot(void *opaque, const struct sim_record *record)
{
    struct qcow2_metadata *state = opaque;
    const struct link *link = link_of(state, record->ref);
    struct medium *m = link ? link->medium : NULL;
    struct qcow2_image *image;

    if (!m || !m->sound || m->links != 1 || strcmp(sim_record_str(record, 1), "delete") == 0) {
        return;
    }
    image = qcow2_image_read(qcow2_source_of_disk(m->disk));
    if (!image->error[0] && !image->incomplete && !image->external_data) {
        struct violation_where where = place_of(state, m);

        if (!qcow2_kept_is_active(image, sim_record_str(record, 2), sim_record_str(record, 3))) {
            where.op = sim_record_str(record, 1);
            check_violate(state->check->set, "qcow2-metadata", "snapshot", &where,
                          "the image on disk %s after %s of snapshot '%s': the disk holds something else",
                          disk_name(m->disk)->str, where.op, sim_record_str(record, 3));
        }
    }
    qcow2_image_free(image);
}

static void *attach(struct check *check)
{
    static const struct check_subscription table[] = {
        {EV_disk_complete, on_disk_complete},     {EV_edge_attach, on_edge_attach},
        {EV_edge_attach, on_edge_change},         {EV_edge_replace, on_edge_change},
        {EV_edge_perm, on_edge_change},           {EV_edge_detach, on_edge_detach},
        {EV_node_close, on_node_close},           {EV_host_crash, on_crash},
        {EV_power_loss, on_power_loss},           {EV_debug_inject, on_inject},
        {EV_guest_submit, on_guest_submit},       {EV_guest_complete, on_guest_complete},
        {EV_BLOCK_IMAGE_CORRUPTED, on_corrupted}, {EV_image_snapshot, on_snapshot},
    };
    struct qcow2_metadata *state =
        (struct qcow2_metadata *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));

    state->check = check;
    check_subscribe(check->sim, table, ARRAY_SIZE(table), state);
    return state;
}

const struct check_class check_qcow2_metadata = {
    .name = "qcow2-metadata",
    .doc = "a qcow2 image on its medium is consistent whenever its driver owes that: counts, L1 and L2, COPIED, "
           "snapshots, bitmaps",
    .rules = "flush: a guest's flush came back, nothing else was going on, and the image is not consistent\n"
             "close: a node was closed, and the image that it leaves is not consistent, or still says dirty\n"
             "open: an image that was in order when it was left is not when it is opened\n"
             "power: after a power loss an image cannot be opened, or has more wrong than leaks\n"
             "reported: the driver found corruption in an image that was in order and that nobody else wrote to\n"
             "snapshot: after a snapshot was made, or gone back to, the disk does not hold what the snapshot does\n"
             "kept: a snapshot of an image that was in order all the time holds something else than it did\n",
    .attach = attach,
};
