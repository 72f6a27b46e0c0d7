#include "block/throttle_group.h"

#include "block/block_int.h"

struct throttle_request {
    Coroutine *co;
    int64_t bytes;
    bool released;
    struct throttle_request *next;
};

/* --- groups ---------------------------------------------------------------------------------------------- */

ThrottleGroup *throttle_group_find(struct host *host, const char *name)
{
    ThrottleGroup *group;

    TAILQ_FOREACH(group, &host->graph->throttle_groups, list)
    {
        if (strcmp(group->name->str, name) == 0) {
            return group;
        }
    }
    return NULL;
}

ThrottleGroup *throttle_group_next(struct host *host, const ThrottleGroup *after)
{
    return after ? TAILQ_NEXT(after, list) : TAILQ_FIRST(&host->graph->throttle_groups);
}

const char *throttle_group_name(const ThrottleGroup *group)
{
    return group->name->str;
}

struct host *throttle_group_host(const ThrottleGroup *group)
{
    return group->host;
}

unsigned throttle_group_users(const ThrottleGroup *group)
{
    return group->users;
}

static void turn_is_here(void *opaque);

ThrottleGroup *throttle_group_new(struct host *host, const char *name)
{
    ThrottleGroup *group = SIM_NEW(host->arena, ThrottleGroup);
    ThrottleConfig cfg;

    SIM_ASSERT(throttle_group_find(host, name) == NULL);
    group->host = host;
    group->name = sim_name(host->sim, name);
    throttle_config_init(&cfg);
    throttle_state_config(&group->ts, &cfg, sim_now(host->sim));
    TAILQ_INIT(&group->members);
    for (size_t i = 0; i < THROTTLE_DIRECTIONS; i++) {
        group->turns[i].group = group;
        sim_timer_init(&group->turns[i].timer, turn_is_here, &group->turns[i]);
        group->turns[i].timer.host = host->number;
    }
    TAILQ_INSERT_TAIL(&host->graph->throttle_groups, group, list);
    return group;
}

void throttle_group_unref(ThrottleGroup *group)
{
    struct host *host = group->host;

    SIM_ASSERT(group->users > 0);
    if (--group->users > 0) {
        return;
    }
    SIM_ASSERT(TAILQ_EMPTY(&group->members));
    for (size_t i = 0; i < THROTTLE_DIRECTIONS; i++) {
        SIM_ASSERT(!sim_timer_queued(&group->turns[i].timer));
    }
    TAILQ_REMOVE(&host->graph->throttle_groups, group, list);
    SIM_FREE(host->arena, ThrottleGroup, group);
}

const ThrottleConfig *throttle_group_get_config(const ThrottleGroup *group)
{
    return &group->ts.cfg;
}

/* --- turns ----------------------------------------------------------------------------------------------- */

bool throttle_group_member_waits(const ThrottleGroupMember *member, enum throttle_direction direction)
{
    return member->waiting[direction].first != NULL;
}

/* Charged now, not when its coroutine gets to run: whoever looks at the levels meanwhile must see it. */
static void release_head(ThrottleGroupMember *member, enum throttle_direction direction)
{
    ThrottleGroup *group = member->group;
    struct throttle_request *request = member->waiting[direction].first;

    SIM_ASSERT(request != NULL);
    member->waiting[direction].first = request->next;
    if (!request->next) {
        member->waiting[direction].last = NULL;
    }
    throttle_account(&group->ts, direction, (uint64_t)request->bytes, sim_now(group->host->sim));
    request->released = true;
    coroutine_wake(request->co);
}

/* The one behind the last is the first. */
static ThrottleGroupMember *after_member(const ThrottleGroup *group, const ThrottleGroupMember *member)
{
    ThrottleGroupMember *next = member ? TAILQ_NEXT(member, list) : NULL;
    return next ? next : TAILQ_FIRST(&group->members);
}

/* Round robin: the first after the one whose turn it was that has something waiting, itself last. */
static ThrottleGroupMember *next_waiting(const ThrottleGroup *group, enum throttle_direction direction)
{
    ThrottleGroupMember *first = after_member(group, group->turns[direction].member);
    ThrottleGroupMember *member = first;

    while (member && !throttle_group_member_waits(member, direction)) {
        member = after_member(group, member);
        if (member == first) {
            return NULL;
        }
    }
    return member;
}

static void arm(ThrottleGroup *group, ThrottleGroupMember *member, enum throttle_direction direction,
                int64_t wait_ns)
{
    struct throttle_turn *turn = &group->turns[direction];
    int64_t now_ns = sim_now(group->host->sim);

    SIM_ASSERT(wait_ns > 0 && !sim_timer_queued(&turn->timer));
    turn->member = member;
    sim_timer_arm(group->host->sim, &turn->timer, now_ns + MIN(wait_ns, INT64_MAX - now_ns),
                  sim_mix2(group->name->hash, direction));
}

/* Lets go what need not wait, and arms the timer for the first that must. before: whose request went just now; its
 * next one comes first while there is no waiting. */
static void schedule_next(ThrottleGroup *group, ThrottleGroupMember *before, enum throttle_direction direction)
{
    struct throttle_turn *turn = &group->turns[direction];
    ThrottleGroupMember *member;

    SIM_ASSERT(!sim_timer_queued(&turn->timer));
    while ((member = next_waiting(group, direction))) {
        int64_t wait_ns = throttle_wait_ns(&group->ts, direction, sim_now(group->host->sim));
        if (wait_ns > 0) {
            if (member != before) {
                SIM_MARK(group->host->sim, throttle_turn);
            }
            arm(group, member, direction, wait_ns);
            return;
        }
        if (before && throttle_group_member_waits(before, direction)) {
            member = before;
        }
        turn->member = before = member;
        release_head(member, direction);
    }
}

static void turn_is_here(void *opaque)
{
    struct throttle_turn *turn = opaque;
    ThrottleGroup *group = turn->group;
    enum throttle_direction direction = turn == &group->turns[THROTTLE_READ] ? THROTTLE_READ : THROTTLE_WRITE;

    release_head(turn->member, direction);
    schedule_next(group, turn->member, direction);
}

void throttle_group_config(ThrottleGroup *group, const ThrottleConfig *cfg)
{
    struct sim *sim = group->host->sim;

    throttle_state_config(&group->ts, cfg, sim_now(sim));
    for (size_t i = 0; i < THROTTLE_DIRECTIONS; i++) {
        struct throttle_turn *turn = &group->turns[i];
        if (sim_timer_queued(&turn->timer)) {
            SIM_MARK(sim, throttle_config_waiting);
            sim_timer_disarm(sim, &turn->timer);
            release_head(turn->member, (enum throttle_direction)i);
            schedule_next(group, turn->member, (enum throttle_direction)i);
        }
    }
}

/* --- members --------------------------------------------------------------------------------------------- */

void throttle_group_register(ThrottleGroupMember *member, struct host *host, const char *name)
{
    ThrottleGroup *group = throttle_group_find(host, name);

    SIM_ASSERT(member->group == NULL);
    if (!group) {
        group = throttle_group_new(host, name);
    }
    group->users++;
    member->group = group;
    TAILQ_INSERT_TAIL(&group->members, member, list);
}

void throttle_group_unregister(ThrottleGroupMember *member)
{
    ThrottleGroup *group = member->group;
    ThrottleGroupMember *before = TAILQ_PREV(member, throttle_member_list, list);

    SIM_ASSERT(group != NULL);
    if (!before) {
        before = TAILQ_LAST(&group->members, throttle_member_list);
    }
    for (size_t i = 0; i < THROTTLE_DIRECTIONS; i++) {
        SIM_ASSERT(!throttle_group_member_waits(member, (enum throttle_direction)i));
        if (group->turns[i].member == member) {
            SIM_ASSERT(!sim_timer_queued(&group->turns[i].timer));
            group->turns[i].member = before == member ? NULL : before;
        }
    }
    TAILQ_REMOVE(&group->members, member, list);
    member->group = NULL;
    throttle_group_unref(group);
}

void throttle_group_bypass_begin(ThrottleGroupMember *member)
{
    ThrottleGroup *group = member->group;

    if (member->bypass++ > 0 || !group) {
        return;
    }
    for (size_t i = 0; i < THROTTLE_DIRECTIONS; i++) {
        enum throttle_direction direction = (enum throttle_direction)i;
        struct throttle_turn *turn = &group->turns[i];
        bool had_turn = sim_timer_queued(&turn->timer) && turn->member == member;

        while (throttle_group_member_waits(member, direction)) {
            SIM_MARK(group->host->sim, throttle_bypassed);
            release_head(member, direction);
        }
        if (had_turn) {
            sim_timer_disarm(group->host->sim, &turn->timer);
            schedule_next(group, member, direction);
        }
    }
}

void throttle_group_bypass_end(ThrottleGroupMember *member)
{
    SIM_ASSERT(member->bypass > 0);
    member->bypass--;
}

/* --- requests -------------------------------------------------------------------------------------------- */

/* Not inlined: compilers take a stack's address that outlives the statement for a mistake. */
static void __attribute__((noinline))
enqueue(ThrottleGroupMember *member, struct throttle_request *request, enum throttle_direction direction)
{
    if (member->waiting[direction].last) {
        member->waiting[direction].last->next = request;
    } else {
        member->waiting[direction].first = request;
    }
    member->waiting[direction].last = request;
}

static void wait_in_line(ThrottleGroupMember *member, int64_t bytes, enum throttle_direction direction)
{
    struct sim *sim = member->group->host->sim;
    struct throttle_request request = {.co = coroutine_self(sim), .bytes = bytes};

    SIM_ASSERT(request.co != NULL);
    SIM_MARK(sim, throttle_waited);
    enqueue(member, &request, direction);
    while (!request.released) {
        coroutine_yield(sim);
    }
}

void throttle_group_co_intercept(ThrottleGroupMember *member, int64_t bytes, enum throttle_direction direction)
{
    ThrottleGroup *group = member->group;
    struct throttle_turn *turn = &group->turns[direction];
    int64_t now_ns = sim_now(group->host->sim);

    SIM_ASSERT_LE(0, bytes);
    if (member->bypass == 0 && !sim_timer_queued(&turn->timer)) {
        SIM_ASSERT(!throttle_group_member_waits(member, direction));
        int64_t wait_ns = throttle_wait_ns(&group->ts, direction, now_ns);
        if (wait_ns > 0) {
            arm(group, member, direction, wait_ns);
        }
    }
    if (member->bypass == 0 && sim_timer_queued(&turn->timer)) {
        wait_in_line(member, bytes, direction);
    } else {
        throttle_account(&group->ts, direction, (uint64_t)bytes, now_ns);
    }
}
