/* Fake disks: their list, and the life of a request. */
#include "sim/disk.h"

#include <stdlib.h>

#include "sim/disk_int.h"
#include "sim/world.h"

/* --- the disks of a world ------------------------------------------------------------------------------- */

struct disk_list {
    struct disk *first; /* in order of creation */
    struct disk *last;
};

static void disk_list_reset(struct sim *sim, void *state)
{
    *(struct disk_list *)state = (struct disk_list){0};
}

static void disk_list_destroy(struct sim *sim, void *state)
{
    free(state);
}

static const struct sim_ext_ops disk_list_ops = {
    .reset = disk_list_reset,
    .host_crash = disk_host_crashed,
    .destroy = disk_list_destroy,
};

static struct disk_list *disk_list(struct sim *sim)
{
    struct disk_list *list = sim_ext(sim, SIM_EXT_DISK);

    if (list == NULL) {
        list = sim_xcalloc(1, sizeof(*list));
        sim_ext_set(sim, SIM_EXT_DISK, &disk_list_ops, list);
    }
    return list;
}

/* Stamps up to the length; the rest of the last page and of its unit is allocated and zero. */
static void disk_make_stamps(struct disk *disk)
{
    struct disk_tree *tree = &disk->tree;
    int64_t whole = tree->length / SIM_PAGE_BYTES;
    unsigned rest = (unsigned)(tree->length % SIM_PAGE_BYTES);

    tree->stamp = (disk->name->hash & UINT32_MAX) << 32;
    tree->base_pages = whole;
    tree->allocated = whole;
    if (rest > 0) {
        struct payload tail;
        struct page *page = page_tags(disk->sim, tree->stamp + (uint32_t)((uint64_t)whole * PAGE_SECTORS));
        payload_init(disk->sim, &tail);
        payload_append_page_bytes(&tail, page, 0, rest);
        page_unref(disk->sim, page);
        tree_write(tree, whole * SIM_PAGE_BYTES, rest, &tail, 0);
        payload_clear(&tail);
    } else if (whole > 0) {
        tree_allocate_units(tree, whole - 1, whole);
    }
}

struct disk *disk_new(struct sim *sim, const char *name, const struct disk_config *config, Error **errp)
{
    struct disk_list *list = disk_list(sim);

    if (!disk_config_check(config, errp)) {
        return NULL;
    }
    if (disk_find(sim, name) != NULL) {
        error_setg(errp, "Disk '%s' already exists", name);
        return NULL;
    }
    struct disk *disk = SIM_NEW_N(sim_arena(sim), disk, struct disk, 1);
    disk->sim = sim;
    disk->name = sim_name(sim, name);
    disk->nobody = sim_name(sim, "-");
    disk->config = *config;
    disk->config.capacity_bytes = ROUND_DOWN(config->capacity_bytes, (int64_t)config->alloc_unit_bytes);
    disk->journal_on = true;
    disk->tree = (struct disk_tree){
        .sim = sim,
        .height = 1,
        .unit = config->alloc_unit_bytes / SIM_PAGE_BYTES,
        .grows = config->type == DISK_FILE,
        .length = config->size_bytes,
    };
    if (config->content == DISK_CONTENT_STAMP) {
        disk_make_stamps(disk);
    }
    tree_share(&disk->durable, &disk->tree);
    if (list->last != NULL) {
        list->last->next = disk;
    } else {
        list->first = disk;
    }
    list->last = disk;
    return disk;
}

struct disk *disk_find(struct sim *sim, const char *name)
{
    const struct sim_name *interned = sim_name(sim, name);

    for (struct disk *disk = disk_first(sim); disk != NULL; disk = disk->next) {
        if (disk->name == interned) {
            return disk;
        }
    }
    return NULL;
}

struct disk *disk_first(struct sim *sim)
{
    return disk_list(sim)->first;
}

struct disk *disk_next(struct disk *disk)
{
    return disk->next;
}

/* --- queue of a disk ------------------------------------------------------------------------------------ */

static void inside_add(struct disk *disk, struct disk_req *req)
{
    req->next = NULL;
    req->prev = disk->last;
    if (disk->last != NULL) {
        disk->last->next = req;
    } else {
        disk->first = req;
    }
    disk->last = req;
    disk->in_flight++;
}

static void inside_remove(struct disk *disk, struct disk_req *req)
{
    SIM_ASSERT(disk->in_flight > 0);
    if (req->prev != NULL) {
        req->prev->next = req->next;
    } else {
        disk->first = req->next;
    }
    if (req->next != NULL) {
        req->next->prev = req->prev;
    } else {
        disk->last = req->prev;
    }
    disk->in_flight--;
}

static void wait_add(struct disk *disk, struct disk_req *req)
{
    req->state = DISK_REQ_WAITING;
    req->wait_next = NULL;
    if (disk->wait_last != NULL) {
        disk->wait_last->wait_next = req;
    } else {
        disk->wait_first = req;
    }
    disk->wait_last = req;
    disk->waiting++;
}

static void wait_remove(struct disk *disk, struct disk_req *req)
{
    struct disk_req *before = NULL;
    struct disk_req *r = disk->wait_first;

    while (r != req) {
        SIM_ASSERT(r != NULL);
        before = r;
        r = r->wait_next;
    }
    if (before != NULL) {
        before->wait_next = req->wait_next;
    } else {
        disk->wait_first = req->wait_next;
    }
    if (disk->wait_last == req) {
        disk->wait_last = before;
    }
    disk->waiting--;
}

/* --- service -------------------------------------------------------------------------------------------- */

void disk_forget(struct disk *disk, struct disk_req *req)
{
    sim_timer_disarm(disk->sim, &req->timer);
    if (req->state == DISK_REQ_WAITING) {
        wait_remove(disk, req);
    } else if (req->state == DISK_REQ_SERVED) {
        SIM_ASSERT(disk->serving > 0);
        disk->serving--;
    }
    inside_remove(disk, req);
    payload_clear(&req->sampled);
}

static void req_complete(void *opaque)
{
    struct disk_req *req = opaque;
    struct disk *disk = req->disk;

    if (!req->applied) {
        disk_req_effect(disk, req);
    }
    if (req->op == SIM_OP_FLUSH && req->ret == 0 && !req->lose) {
        disk_journal_flush(disk, req->flush_point);
    }
    disk_journal_completed(disk, req);
    if (req->op == SIM_OP_READ && req->ret == 0) {
        req->content = payload_content_id(&req->sampled);
        if (req->out->size_bytes == 0) {
            payload_move(req->out, &req->sampled);
        } else {
            payload_append(req->out, &req->sampled, 0, req->sampled.size_bytes);
        }
    }
    disk_forget(disk, req);
    SIM_EMIT(disk->sim, req->host, disk_complete, req, SIM_P(disk->name), req->number, req->op,
             (uint64_t)req->offset, (uint64_t)req->bytes, (uint64_t)(int64_t)req->ret, req->content);
    disk_serve_waiting(disk);
    req->done(req->opaque, req->ret);
}

static void req_serve(struct disk *disk, struct disk_req *req)
{
    static const int64_t factors[] = {1, 2, 4, 16};
    struct sim *sim = disk->sim;
    bool data = req->op == SIM_OP_READ || req->op == SIM_OP_WRITE;
    int64_t latency_ns = disk->config.latency_ns;

    req->state = DISK_REQ_SERVED;
    disk->serving++;
    if (data) {
        latency_ns += (int64_t)((__int128)disk->config.latency_per_kib_ns * req->bytes / KiB);
    }
    latency_ns *= factors[sim_choose(sim, SITE_disk_latency, req->entity, ARRAY_SIZE(factors))];
    if (req->op != SIM_OP_FLUSH && sim_choose(sim, SITE_disk_moment, req->entity, 2) == 1) {
        disk_req_effect(disk, req);
    }
    sim_timer_arm(sim, &req->timer, sim_now(sim) + latency_ns + req->extra_latency_ns, req->entity);
}

#define DISK_ORDER_WINDOW 4u

void disk_serve_waiting(struct disk *disk)
{
    while (disk->waiting > 0 && disk->serving < disk->config.queue_depth) {
        struct disk_req *req = disk->wait_first;
        uint32_t n = MIN(disk->waiting, DISK_ORDER_WINDOW);
        if (n > 1) {
            uint32_t skip = sim_choose(disk->sim, SITE_disk_order, req->entity, n);
            while (skip-- > 0) {
                req = req->wait_next;
            }
        }
        wait_remove(disk, req);
        req_serve(disk, req);
    }
}

static bool op_is_query(enum sim_op op)
{
    return op == SIM_OP_GETLENGTH || op == SIM_OP_GET_INFO || op == SIM_OP_BLOCK_STATUS || op == SIM_OP_OPEN ||
           op == SIM_OP_CREATE;
}

/* Into the queue, and on to service when a slot is free and nobody waits before it. */
static void req_enter(struct disk *disk, struct disk_req *req)
{
    struct sim *sim = disk->sim;

    if (op_is_query(req->op)) {
        req->state = DISK_REQ_QUERY;
        sim_timer_arm(sim, &req->timer, sim_now(sim) + req->extra_latency_ns, req->entity);
        return;
    }
    if (disk->waiting == 0 && disk->serving < disk->config.queue_depth) {
        req_serve(disk, req);
        return;
    }
    SIM_MARK(sim, disk_queue_full);
    wait_add(disk, req);
}

static void req_check(const struct disk_req *req)
{
    int64_t align = req->disk->config.align_bytes;
    bool ranged = req->op == SIM_OP_READ || req->op == SIM_OP_WRITE || req->op == SIM_OP_WRITE_ZEROES ||
                  req->op == SIM_OP_DISCARD;

    SIM_ASSERT(req->offset >= 0 && req->bytes >= 0 && req->bytes <= INT64_MAX - req->offset);
    SIM_ASSERT(req->done != NULL);
    if (req->op == SIM_OP_READ || req->op == SIM_OP_WRITE) {
        SIM_ASSERT(req->disk->config.max_transfer_bytes == 0 || req->bytes <= req->disk->config.max_transfer_bytes);
    }
    if (ranged) {
        SIM_ASSERT_EQ((req->offset | req->bytes) & (align - 1), 0);
    }
    if (req->op == SIM_OP_WRITE) {
        SIM_ASSERT_EQ(req->in->size_bytes, req->bytes);
    }
    SIM_ASSERT(req->op != SIM_OP_READ || req->out != NULL);
}

/* The private half of a request. */
static void req_prepare(struct sim *sim, struct disk_req *req)
{
    struct disk *disk = req->disk;
    Coroutine *self = coroutine_self(sim);

    req->number = ++disk->numbers;
    req->origin = self != NULL ? *coroutine_origin(self) : (struct sim_origin){.kind = SIM_ORIGIN_NONE};
    req->host = self != NULL ? coroutine_host(self) : NULL;
    uint64_t who = sim_mix2(disk->name->hash, sim_origin_key(&req->origin));
    req->entity = sim_mix2(sim_mix2(who, req->op), (uint64_t)req->offset);
    req->ret = 0;
    req->extra_latency_ns = 0;
    req->stuck = false;
    sim_timer_init(&req->timer, req_complete, req);
    req->submit_ns = sim_now(sim);
    req->flush_point = disk->completions;
    req->applied = false;
    payload_init(sim, &req->sampled);
    req->effect_offset = req->offset;
    req->effect_bytes = req->bytes;
    req->lose = false;
    req->wait_next = NULL;
    req->journal = NULL;
    req->content = 0;
}

/* Inside, and seen by all who may bend it. */
static void req_begin(struct sim *sim, struct disk_req *req)
{
    struct disk *disk = req->disk;

    SIM_ASSERT(disk->sim == sim);
    req_check(req);
    req_prepare(sim, req);
    inside_add(disk, req);
    const struct sim_name *origin = req->origin.name != NULL ? req->origin.name : disk->nobody;
    SIM_EMIT(sim, req->host, disk_submit, req, SIM_P(disk->name), req->number, req->op, (uint64_t)req->offset,
             (uint64_t)req->bytes, SIM_P(origin), req->origin.number);
    for (struct disk_interposer *i = disk->interposers; i != NULL; i = i->next) {
        if (i->before != NULL) {
            i->before(i, req);
        }
    }
}

void disk_submit(struct sim *sim, struct disk_req *req)
{
    req_begin(sim, req);
    if (req->stuck) {
        req->state = DISK_REQ_STUCK;
    } else {
        req_enter(req->disk, req);
    }
}

static void answered(void *opaque, int ret)
{
    *(int *)opaque = ret;
}

int disk_query_now(struct disk *disk, enum sim_op op)
{
    int ret = 0;
    struct disk_req req = {.disk = disk, .op = op, .done = answered, .opaque = &ret};

    SIM_ASSERT(op_is_query(op));
    req_begin(disk->sim, &req);
    req.state = DISK_REQ_QUERY;
    req_complete(&req);
    return ret;
}

/* --- interposers and what is inside --------------------------------------------------------------------- */

void disk_add_interposer(struct disk *disk, struct disk_interposer *interposer)
{
    struct disk_interposer **end = &disk->interposers;

    while (*end != NULL) {
        SIM_ASSERT(*end != interposer);
        end = &(*end)->next;
    }
    interposer->next = NULL;
    *end = interposer;
}

void disk_remove_interposer(struct disk *disk, struct disk_interposer *interposer)
{
    struct disk_interposer **at = &disk->interposers;

    while (*at != interposer) {
        SIM_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = interposer->next;
    interposer->next = NULL;
}

unsigned disk_release_stuck(struct disk *disk)
{
    unsigned released = 0;

    for (struct disk_req *req = disk->first; req != NULL; req = req->next) {
        if (req->state == DISK_REQ_STUCK) {
            req->stuck = false;
            req_enter(disk, req);
            released++;
        }
    }
    return released;
}

uint32_t disk_in_flight(const struct disk *disk)
{
    return disk->in_flight;
}

void disk_each_in_flight(struct disk *disk, void (*fn)(void *opaque, const struct disk_req *req), void *opaque)
{
    struct disk_req *next;

    for (struct disk_req *req = disk->first; req != NULL; req = next) {
        next = req->next;
        fn(opaque, req);
    }
}
