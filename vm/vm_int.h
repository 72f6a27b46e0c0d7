/*
 * The inside of vm/: run state and guest devices of a host. Included by vm/ only.
 *
 * A request is in exactly one place: in its device's waiting list, active (with a coroutine of its own), or in the
 * list of held ones. Both lists are chained through the requests themselves.
 */
#ifndef VM_VM_INT_H
#define VM_VM_INT_H

#include "vm/guest.h"

/* FIFO of requests. */
struct guest_req_list {
    struct guest_req *head;
    struct guest_req *tail;
    unsigned count;
};

/* BLOCK_IO_ERROR is sent at most once a second: the first at once, of later ones only the last. */
struct guest_error_report {
    struct sim_timer timer; /* armed: the second has not passed */
    bool pending;           /* something waits for the timer */
    const struct sim_name *node;
    const char *operation; /* these three are static */
    const char *action;
    const char *reason;
    bool nospace;
};

struct guest {
    struct host *host;
    const struct sim_name *name;
    struct guest_config config; /* strings are interned */
    BlockBackend *blk;
    struct guest_req_list waiting;
    struct guest_req_list held;
    unsigned active;
    unsigned starting; /* of the active ones: not yet run */
    unsigned quiesced; /* drains of its root that hold it back */
    uint64_t last_id;
    struct guest_error_report report;
    struct guest *next; /* oldest first */
};

typedef struct VmState VmState;
struct VmState {
    struct host *host;
    enum run_state state;
    bool stop_requested;
    enum run_state requested_state;
    bool stop_queued; /* the main loop will look at the request */
    struct guest *guests;
};

static inline void guest_req_push(struct guest_req_list *list, struct guest_req *req)
{
    req->next = NULL;
    if (list->tail) {
        list->tail->next = req;
    } else {
        list->head = req;
    }
    list->tail = req;
    list->count++;
}

static inline struct guest_req *guest_req_pop(struct guest_req_list *list)
{
    struct guest_req *req = list->head;
    if (req) {
        list->head = req->next;
        if (!list->head) {
            list->tail = NULL;
        }
        req->next = NULL;
        list->count--;
    }
    return req;
}

/* The VM runs again: held requests go first, in the order they failed, then the waiting ones. */
void guest_restart(struct guest *guest);
/* Requests that were let go but have not entered the block layer yet, over all devices. */
bool guests_starting(const struct host *host);
bool guests_active(const struct host *host);

/* Applies the device's policy to a failed request; reports it. The caller acts on the answer. */
enum block_error_action guest_handle_error(struct guest *guest, const struct guest_req *req, int ret);
void guest_error_report_init(struct guest *guest);
/* Sends what waits and disarms. */
void guest_error_report_end(struct guest *guest);

#endif
