/*
 * Throttle groups: members (backends and throttle filters) that share one set of limits (reference/block.md 4.2).
 *
 *     member m:  reads   r3 r2 r1 >-+                     timer of a direction fires: the head of the member whose
 *                writes  w1 >-----+ |   +-> levels        turn it is goes unchecked, is charged, and the next
 *     member n:  reads   r1 >-----|-+---+                 member in turn gets the timer, unless its head need
 *                writes  -        +-----+                 not wait at all
 *
 * A request waits when its level says so, when somebody of the group already waits for the direction, and never
 * while its member is bypassed (drained); it is charged in every case, at the moment it is let go. So: if a
 * request waits, the timer of its direction is armed.
 *
 * A group is found by name. It lives as long as it has members, or until object-del when object-add made it.
 */
#ifndef BLOCK_THROTTLE_GROUP_H
#define BLOCK_THROTTLE_GROUP_H

#include <sys/queue.h>

#include "block/throttle_config.h"
#include "sim/coroutine.h"
#include "sim/qvalue.h"

typedef struct ThrottleGroup ThrottleGroup;
struct throttle_request; /* on the stack of the coroutine that waits */

/* Embedded in whoever is throttled; zeroed: not in a group. */
typedef struct ThrottleGroupMember {
    ThrottleGroup *group; /* NULL: no limits */
    unsigned bypass;      /* drains of the owner; counted without a group, too */
    struct {
        struct throttle_request *first;
        struct throttle_request *last;
    } waiting[THROTTLE_DIRECTIONS];
    TAILQ_ENTRY(ThrottleGroupMember) list;
} ThrottleGroupMember;

/* NULL when there is none. */
ThrottleGroup *throttle_group_find(struct host *host, const char *name);
const char *throttle_group_name(const ThrottleGroup *group);
struct host *throttle_group_host(const ThrottleGroup *group);
/* Groups, oldest first; NULL starts and ends. */
ThrottleGroup *throttle_group_next(struct host *host, const ThrottleGroup *after);
/* Members and, when there is one, the object. */
unsigned throttle_group_users(const ThrottleGroup *group);

/* Joins the group of that name, which is made when there is none. */
void throttle_group_register(ThrottleGroupMember *member, struct host *host, const char *name);
/* Nothing of the member may wait: it is drained, or was never used. The last one takes the group along. */
void throttle_group_unregister(ThrottleGroupMember *member);
/* For the whole group: valid limits and empty levels. Who has the turn goes at once, the others by the new limits.
 */
void throttle_group_config(ThrottleGroup *group, const ThrottleConfig *cfg);
const ThrottleConfig *throttle_group_get_config(const ThrottleGroup *group);

/* Returns when the request may go. In a coroutine. */
void throttle_group_co_intercept(ThrottleGroupMember *member, int64_t bytes, enum throttle_direction direction);
/* Drained section of the owner: begin lets go what waits, and nothing waits until the last end. */
void throttle_group_bypass_begin(ThrottleGroupMember *member);
void throttle_group_bypass_end(ThrottleGroupMember *member);
bool throttle_group_member_waits(const ThrottleGroupMember *member, enum throttle_direction direction);

/* --- objects of type throttle-group (block/throttle_object.c) ---------------------------------------------- */

/* X(name, bucket) for each limit, as the object's properties call it; "-max" and "-max-length" go with it. */
#define THROTTLE_LIMIT_NAMES(X) \
    X("iops-total", THROTTLE_OPS_TOTAL) \
    X("iops-read", THROTTLE_OPS_READ) \
    X("iops-write", THROTTLE_OPS_WRITE) \
    X("bps-total", THROTTLE_BPS_TOTAL) \
    X("bps-read", THROTTLE_BPS_READ) \
    X("bps-write", THROTTLE_BPS_WRITE)

/* props: a dictionary with `limits` (a dictionary) and integers "x-NAME"; types are checked already. False with
 * errp: the name is taken or malformed, the limits do not fit together. */
bool throttle_object_add(struct host *host, const char *id, const struct qvalue *props, Error **errp);
/* False with errp: unknown, or in use. */
bool throttle_object_del(struct host *host, const char *id, Error **errp);
/* NULL: no object of that id. */
ThrottleGroup *throttle_object_find(struct host *host, const char *id);
/* One property; owned by the caller. NULL with errp: unknown. */
struct qvalue *throttle_object_get(const ThrottleGroup *group, const char *property, Error **errp);
/* limits: what it does not name stays as it is. The rest cannot be changed once the object is there. */
bool throttle_object_set(ThrottleGroup *group, const char *property, const struct qvalue *value, Error **errp);
/* At the end of a host: objects that nobody deleted. */
void throttle_groups_cleanup(struct host *host);

/* --- inside ---------------------------------------------------------------------------------------------- */

struct ThrottleGroup {
    struct host *host;
    const struct sim_name *name;
    unsigned users;
    bool is_object;
    ThrottleState ts;
    TAILQ_HEAD(throttle_member_list, ThrottleGroupMember) members; /* oldest first */
    struct throttle_turn {
        ThrottleGroup *group;
        ThrottleGroupMember *member; /* armed: its head goes next; else it went last. NULL: nobody yet */
        struct sim_timer timer;
    } turns[THROTTLE_DIRECTIONS];
    TAILQ_ENTRY(ThrottleGroup) list;
};

/* A new group without users. The name is free. */
ThrottleGroup *throttle_group_new(struct host *host, const char *name);
void throttle_group_unref(ThrottleGroup *group);

#endif
