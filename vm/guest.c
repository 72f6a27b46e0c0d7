#include "vm/guest.h"

#include <errno.h>
#include <string.h>

#include "vm/vm_int.h"

/* --- one request ----------------------------------------------------------------------------------------- */

void guest_req_init(struct host *host, struct guest_req *req)
{
    memset(req, 0, offsetof(struct guest_req, data));
    memset((char *)req + offsetof(struct guest_req, entity), 0, sizeof(*req) - offsetof(struct guest_req, entity));
    payload_init(host->sim, &req->data);
}

void guest_req_clear(struct guest_req *req)
{
    payload_clear(&req->data);
}

static void guest_kick(struct guest *guest);

/* Reports to the boundary, then to the submitter, who may free the request. */
static void complete(struct guest *guest, struct guest_req *req, int ret)
{
    uint64_t content = req->op == SIM_OP_READ && ret == 0 ? payload_content_id(&req->data) : 0;
    req->ret = ret;
    req->held = false;
    SIM_EMIT(guest->host->sim, guest->host, guest_complete, req, SIM_P(guest->name), req->id, req->op,
             (uint64_t)req->offset, (uint64_t)req->bytes, (uint64_t)(int64_t)ret, content);
    if (req->done) {
        req->done(req);
    }
}

/* What the device refuses by itself, before the block layer sees anything: 0 or a negative errno. */
static int check_request(const struct guest *guest, const struct guest_req *req)
{
    uint64_t mask = guest->config.logical_block_bytes - 1;
    if (req->op == SIM_OP_FLUSH) {
        return 0;
    }
    if (req->offset < 0 || req->bytes < 0 || (((uint64_t)req->offset | (uint64_t)req->bytes) & mask) != 0) {
        return -EINVAL;
    }
    if (req->op != SIM_OP_READ && guest->config.read_only) {
        return -EPERM;
    }
    int64_t length = blk_getlength(guest->blk);
    if (length >= 0 && (req->bytes > length || req->offset > length - req->bytes)) {
        return -EIO;
    }
    return 0;
}

static int coroutine_fn issue(struct guest *guest, struct guest_req *req)
{
    BlockBackend *blk = guest->blk;
    switch (req->op) {
    case SIM_OP_READ:
        payload_clear(&req->data);
        return blk_co_preadv(blk, req->offset, req->bytes, &req->data, 0);
    case SIM_OP_WRITE:
        return blk_co_pwritev(blk, req->offset, req->bytes, &req->data, req->flags);
    case SIM_OP_WRITE_ZEROES:
        return blk_co_pwrite_zeroes(blk, req->offset, req->bytes, req->flags);
    case SIM_OP_DISCARD:
        return blk_co_pdiscard(blk, req->offset, req->bytes);
    default:
        SIM_ASSERT_EQ(req->op, SIM_OP_FLUSH);
        return blk_co_flush(blk);
    }
}

static void hold(struct guest *guest, struct guest_req *req, int ret)
{
    SIM_MARK(guest->host->sim, guest_held);
    req->ret = ret;
    req->held = true;
    guest_req_push(&guest->held, req);
}

/* Policy and accounting of a request that was through the block layer. */
static void settle(struct guest *guest, struct guest_req *req, const struct block_acct_cookie *cookie, int ret)
{
    struct block_acct *acct = blk_get_stats(guest->blk);
    int64_t now_ns = sim_now(guest->host->sim);
    if (ret < 0) {
        if (req->op == SIM_OP_READ) {
            payload_clear(&req->data);
        }
        switch (guest_handle_error(guest, req, ret)) {
        case BLOCK_ERROR_ACTION_STOP:
            hold(guest, req, ret);
            return;
        case BLOCK_ERROR_ACTION_REPORT:
            block_acct_failed(acct, cookie, now_ns);
            complete(guest, req, ret);
            return;
        case BLOCK_ERROR_ACTION_IGNORE:
            req->ignored = true;
            break;
        }
    }
    block_acct_done(acct, cookie, now_ns);
    complete(guest, req, 0);
}

static void coroutine_fn request_entry(void *opaque)
{
    struct guest_req *req = opaque;
    struct guest *guest = req->guest;
    struct host *host = guest->host;
    SIM_ASSERT_LT(0, guest->starting);
    guest->starting--;
    host_kick(host);
    int invalid = check_request(guest, req);
    struct block_acct_cookie cookie;
    block_acct_start(&cookie, req->op, req->op == SIM_OP_FLUSH ? 0 : (uint64_t)req->bytes, sim_now(host->sim));
    int ret = invalid ? invalid : issue(guest, req);
    SIM_ASSERT_LT(0, guest->active);
    guest->active--;
    if (invalid) {
        block_acct_invalid(blk_get_stats(guest->blk), req->op, cookie.start_ns);
        complete(guest, req, invalid);
    } else {
        settle(guest, req, &cookie, MIN(ret, 0));
    }
    guest_kick(guest);
    host_kick(host);
}

/* --- the queue ------------------------------------------------------------------------------------------- */

static bool may_issue(const struct guest *guest)
{
    return guest->quiesced == 0 && vm_is_running(guest->host);
}

/* A held request keeps its place in the device's queue, so resubmitting never goes beyond the depth. */
static bool has_slot(const struct guest *guest)
{
    return guest->active + guest->held.count < guest->config.queue_depth;
}

static void start(struct guest *guest, struct guest_req *req)
{
    Coroutine *co = coroutine_create(guest->host->sim, guest->host, "guest request", request_entry, req);
    coroutine_set_origin(co, (struct sim_origin){SIM_ORIGIN_GUEST, guest->name, req->entity});
    guest->active++;
    guest->starting++;
    coroutine_start(co);
}

/* Lets go what may go. */
static void guest_kick(struct guest *guest)
{
    while (guest->waiting.head && may_issue(guest) && has_slot(guest)) {
        start(guest, guest_req_pop(&guest->waiting));
    }
}

void guest_submit(struct guest *guest, struct guest_req *req)
{
    struct host *host = guest->host;
    bool is_write = req->op == SIM_OP_WRITE;
    SIM_ASSERT(req->op <= SIM_OP_FLUSH);
    SIM_ASSERT(!is_write || req->data.size_bytes == req->bytes);
    req->guest = guest;
    req->id = ++guest->last_id;
    req->ret = 0;
    req->submit_ns = sim_now(host->sim);
    req->held = false;
    req->ignored = false;
    SIM_EMIT(host->sim, host, guest_submit, req, SIM_P(guest->name), req->id, req->op, (uint64_t)req->offset,
             (uint64_t)req->bytes, is_write ? payload_content_id(&req->data) : 0);
    if (!has_slot(guest)) {
        SIM_MARK(host->sim, guest_queue_full);
    }
    guest_req_push(&guest->waiting, req);
    guest_kick(guest);
}

struct co_waiter {
    Coroutine *co;
    bool done;
};

static void wake_waiter(struct guest_req *req)
{
    struct co_waiter *waiter = req->opaque;
    waiter->done = true;
    coroutine_wake(waiter->co);
}

int coroutine_fn guest_co_submit(struct guest *guest, struct guest_req *req)
{
    struct sim *sim = guest->host->sim;
    struct co_waiter waiter = {coroutine_self(sim), false};
    SIM_ASSERT(waiter.co);
    SIM_ASSERT(!req->done);
    req->done = wake_waiter;
    req->opaque = &waiter;
    guest_submit(guest, req);
    while (!waiter.done) {
        coroutine_yield(sim);
    }
    req->done = NULL;
    req->opaque = NULL;
    return req->ret;
}

void guest_restart(struct guest *guest)
{
    struct guest_req_list *held = &guest->held;
    if (held->head) {
        for (struct guest_req *req = held->head; req; req = req->next) {
            req->held = false;
        }
        held->tail->next = guest->waiting.head;
        if (!guest->waiting.tail) {
            guest->waiting.tail = held->tail;
        }
        guest->waiting.head = held->head;
        guest->waiting.count += held->count;
        *held = (struct guest_req_list){0};
    }
    guest_kick(guest);
}

/* --- drain ----------------------------------------------------------------------------------------------- */

static void drained_begin(void *opaque)
{
    struct guest *guest = opaque;
    guest->quiesced++;
}

static void drained_end(void *opaque)
{
    struct guest *guest = opaque;
    SIM_ASSERT_LT(0, guest->quiesced);
    guest->quiesced--;
    guest_kick(guest);
}

/* Requests inside the block layer are the backend's to count; those on their way into it are parked there. */
static bool drained_poll(void *opaque)
{
    const struct guest *guest = opaque;
    return guest->starting > 0;
}

static const BlockDevOps guest_dev_ops = {
    .drained_begin = drained_begin,
    .drained_end = drained_end,
    .drained_poll = drained_poll,
};

/* --- the device ------------------------------------------------------------------------------------------ */

void guest_config_default(struct guest_config *config)
{
    *config = (struct guest_config){
        .queue_depth = 16,
        .rerror = BLOCKDEV_ON_ERROR_AUTO,
        .werror = BLOCKDEV_ON_ERROR_AUTO,
        .write_cache = true,
        .account_failed = true,
        .account_invalid = true,
        .logical_block_bytes = SIM_SECTOR_BYTES,
    };
}

static bool check_config(const struct guest_config *config, Error **errp)
{
    SIM_ASSERT(config->name);
    if (config->queue_depth < 1 || config->queue_depth > 256) {
        error_setg(errp, "Parameter 'queue-depth' expects a value in range 1..256");
        return false;
    }
    if (config->logical_block_bytes != 512 && config->logical_block_bytes != 4096) {
        error_setg(errp, "Parameter 'logical-block-size' expects 512 or 4096");
        return false;
    }
    return true;
}

/* A backend of the device's name over the node, with the permissions of a guest device (1.11). */
static BlockBackend *make_backend(struct host *host, const struct guest_config *config, BlockDriverState *bs,
                                  Error **errp)
{
    uint64_t perm = BLK_PERM_CONSISTENT_READ | (config->read_only ? 0 : BLK_PERM_WRITE);
    uint64_t shared = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED | BLK_PERM_RESIZE |
                      (config->share_rw ? BLK_PERM_WRITE : 0);
    BlockBackend *blk = blk_new(host, perm, shared);
    if (!blk_set_name(blk, config->name, errp) || (bs && blk_insert_bs(blk, bs, errp) < 0)) {
        blk_unref(blk);
        return NULL;
    }
    /* "auto" is the backend's own policy. */
    enum block_on_error rerror = config->rerror, werror = config->werror;
    if (rerror == BLOCKDEV_ON_ERROR_AUTO) {
        rerror = blk_get_on_error(blk, true);
    }
    if (werror == BLOCKDEV_ON_ERROR_AUTO) {
        werror = blk_get_on_error(blk, false);
    }
    blk_set_on_error(blk, rerror, werror);
    blk_set_enable_write_cache(blk, config->write_cache);
    blk_get_stats(blk)->ignore_failed = !config->account_failed;
    blk_get_stats(blk)->ignore_invalid = !config->account_invalid;
    blk_io_status_enable(blk);
    return blk;
}

struct guest *guest_new(struct host *host, const struct guest_config *config, Error **errp)
{
    SIM_ASSERT(host_in_main(host));
    struct guest_config own = *config;
    BlockDriverState *bs = NULL;
    if (!check_config(&own, errp)) {
        return NULL;
    }
    if (own.node) {
        bs = bdrv_find_node(host, own.node);
        if (!bs) {
            error_setg(errp, "Cannot find device='%s' nor node-name='%s'", own.node, own.node);
            return NULL;
        }
        /* A VM that is not waiting for a migration owns what its devices use, and nothing hands ownership over yet.
         */
        if (bdrv_is_inactive(bs)) {
            error_setg(errp, "Node '%s' is inactive: its image may belong to somebody else", own.node);
            return NULL;
        }
        own.read_only |= bdrv_is_read_only(bs);
    }
    BlockBackend *blk = make_backend(host, &own, bs, errp);
    if (!blk) {
        return NULL;
    }
    struct guest *guest = sim_alloc(host->arena, SIM_TYPE_guest, sizeof(*guest));
    guest->host = host;
    guest->name = sim_name(host->sim, own.name);
    guest->blk = blk;
    own.name = guest->name->str;
    own.node = own.node ? sim_name(host->sim, own.node)->str : NULL;
    own.rerror = blk_get_on_error(blk, true);
    own.werror = blk_get_on_error(blk, false);
    guest->config = own;
    guest_error_report_init(guest);
    struct guest **link = &host->vm->guests;
    while (*link) {
        link = &(*link)->next;
    }
    *link = guest;
    blk_set_dev(blk, &guest_dev_ops, guest, own.name);
    SIM_EMIT(host->sim, host, guest_attach, guest, SIM_P(guest->name), SIM_P(bs ? bdrv_node_sim_name(bs) : NULL));
    return guest;
}

/* What may still go on by itself is over. */
static bool guest_idle(void *opaque)
{
    const struct guest *guest = opaque;
    return guest->active == 0 && (!guest->waiting.head || !may_issue(guest));
}

static void drop_all(struct guest *guest)
{
    struct guest_req *req;
    while ((req = guest_req_pop(&guest->held)) || (req = guest_req_pop(&guest->waiting))) {
        int ret = req->held ? req->ret : -ECANCELED;
        blk_get_stats(guest->blk)->failed[req->op]++;
        complete(guest, req, ret);
    }
}

void guest_delete(struct guest *guest)
{
    struct host *host = guest->host;
    SIM_ASSERT(host_in_main(host));
    blk_io_limits_bypass(guest->blk, true); /* nobody waits for the limits of a device that goes */
    host_poll(host, guest_idle, guest);
    blk_io_limits_bypass(guest->blk, false);
    guest->quiesced++; /* a submitter that answers a failure with a new request gets that failed too */
    drop_all(guest);
    guest->quiesced--;
    SIM_ASSERT_EQ(guest->active, 0);
    guest_error_report_end(guest);
    blk_set_dev(guest->blk, NULL, NULL, NULL);
    struct guest **link = &host->vm->guests;
    while (*link != guest) {
        link = &(*link)->next;
    }
    *link = guest->next;
    SIM_EMIT(host->sim, host, guest_detach, guest, SIM_P(guest->name));
    blk_unref(guest->blk);
    sim_free(host->arena, SIM_TYPE_guest, guest, sizeof(*guest));
}

/* --- views ----------------------------------------------------------------------------------------------- */

struct guest *guest_next(struct host *host, const struct guest *after)
{
    return after ? after->next : host->vm->guests;
}

struct guest *guest_find(struct host *host, const char *name)
{
    struct guest *guest = host->vm->guests;
    while (guest && strcmp(guest->name->str, name) != 0) {
        guest = guest->next;
    }
    return guest;
}

BlockBackend *guest_blk(const struct guest *guest)
{
    return guest->blk;
}

const struct sim_name *guest_name(const struct guest *guest)
{
    return guest->name;
}

struct host *guest_host(const struct guest *guest)
{
    return guest->host;
}

const struct guest_config *guest_get_config(const struct guest *guest)
{
    return &guest->config;
}

unsigned guest_active(const struct guest *guest)
{
    return guest->active;
}

unsigned guest_waiting(const struct guest *guest)
{
    return guest->waiting.count;
}

unsigned guest_held(const struct guest *guest)
{
    return guest->held.count;
}

bool guests_starting(const struct host *host)
{
    for (const struct guest *guest = host->vm->guests; guest; guest = guest->next) {
        if (guest->starting > 0) {
            return true;
        }
    }
    return false;
}

bool guests_active(const struct host *host)
{
    for (const struct guest *guest = host->vm->guests; guest; guest = guest->next) {
        if (guest->active > 0) {
            return true;
        }
    }
    return false;
}
