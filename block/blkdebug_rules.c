/* The rules of blkdebug: states, the active set, breakpoints (reference/block.md 7.1). */
#include <errno.h>
#include <string.h>

#include "block/blkdebug_int.h"

/* --- rules ------------------------------------------------------------------------------------------------ */

void blkdebug_rules_init(struct blkdebug *s)
{
    s->state = 1;
    TAILQ_INIT(&s->suspended);
    for (unsigned i = 0; i < BLKDBG_COUNT; i++) {
        TAILQ_INIT(&s->rules[i]);
    }
}

blkdebug_rule *blkdebug_rule_add(BlockDriverState *bs, enum blkdebug_action action, enum blkdbg_event event)
{
    struct blkdebug *s = bs->opaque;
    blkdebug_rule *rule = SIM_NEW(bs->host->arena, blkdebug_rule);

    SIM_ASSERT_LT(event, BLKDBG_COUNT);
    rule->action = action;
    rule->event = event;
    TAILQ_INSERT_TAIL(&s->rules[event], rule, list);
    s->rule_count++;
    return rule;
}

static void free_rule(BlockDriverState *bs, blkdebug_rule *rule)
{
    sim_strfree(bs->host->arena, rule->tag);
    SIM_FREE(bs->host->arena, blkdebug_rule, rule);
}

/* Takes a rule off its event's list. */
static void unlink_rule(struct blkdebug *s, blkdebug_rule *rule)
{
    SIM_ASSERT(s->rule_count > 0);
    SIM_ASSERT(rule->co == NULL);
    s->rule_count--;
    TAILQ_REMOVE(&s->rules[rule->event], rule, list);
}

void blkdebug_rules_clear(BlockDriverState *bs)
{
    struct blkdebug *s = bs->opaque;
    blkdebug_rule *rule;

    SIM_ASSERT(TAILQ_EMPTY(&s->suspended));
    for (unsigned i = 0; i < BLKDBG_COUNT; i++) {
        while ((rule = TAILQ_FIRST(&s->rules[i])) != NULL) {
            unlink_rule(s, rule);
            free_rule(bs, rule);
        }
    }
    SIM_ASSERT_EQ(s->rule_count, 0);
}

/* --- events ----------------------------------------------------------------------------------------------- */

/* The active set becomes the rules that match now, or stays if none does. */
static void activate(struct blkdebug *s, enum blkdbg_event event)
{
    blkdebug_rule *rule;
    bool any = false;

    TAILQ_FOREACH(rule, &s->rules[event], list)
    {
        any |= rule->action == BLKDEBUG_INJECT_ERROR && (rule->state == 0 || rule->state == s->state);
    }
    if (!any) {
        return;
    }
    TAILQ_FOREACH(rule, &s->rules[s->active_event], list)
    {
        rule->active = false;
    }
    s->active_event = event;
    TAILQ_FOREACH(rule, &s->rules[event], list)
    {
        rule->active = rule->action == BLKDEBUG_INJECT_ERROR && (rule->state == 0 || rule->state == s->state);
    }
}

/* The state after the event: of several rules the one that was defined first decides. */
static int64_t state_after(const struct blkdebug *s, enum blkdbg_event event)
{
    const blkdebug_rule *rule;

    TAILQ_FOREACH(rule, &s->rules[event], list)
    {
        if (rule->action == BLKDEBUG_SET_STATE && (rule->state == 0 || rule->state == s->state)) {
            return rule->next_state;
        }
    }
    return s->state;
}

/* Every breakpoint of the event takes hold of the caller and is used up by that. */
static unsigned hit_breakpoints(BlockDriverState *bs, enum blkdbg_event event, unsigned *holds)
{
    struct blkdebug *s = bs->opaque;
    blkdebug_rule *next;

    for (blkdebug_rule *rule = TAILQ_FIRST(&s->rules[event]); rule != NULL; rule = next) {
        next = TAILQ_NEXT(rule, list);
        if (rule->action != BLKDEBUG_BREAK) {
            continue;
        }
        unlink_rule(s, rule);
        rule->co = coroutine_self(bs->host->sim);
        rule->holds = holds;
        (*holds)++;
        TAILQ_INSERT_HEAD(&s->suspended, rule, list);
        SIM_EMIT(bs->host->sim, bs->host, debug_suspend, bs, SIM_P(bs->name), SIM_P(blkdbg_event_names[event]),
                 SIM_P(rule->tag));
    }
    return *holds;
}

void blkdebug_co_event(BlockDriverState *bs, enum blkdbg_event event)
{
    struct blkdebug *s = bs->opaque;
    unsigned holds = 0;

    if (TAILQ_EMPTY(&s->rules[event])) {
        return;
    }
    int64_t after = state_after(s, event);
    activate(s, event);
    s->state = after;
    if (hit_breakpoints(bs, event, &holds) == 0) {
        return;
    }
    SIM_ASSERT(coroutine_self(bs->host->sim) != NULL);
    host_kick(bs->host);
    while (holds > 0) {
        coroutine_yield(bs->host->sim);
    }
}

/* --- requests --------------------------------------------------------------------------------------------- */

static bool rule_matches(const blkdebug_rule *rule, enum sim_op op, int64_t offset, int64_t bytes)
{
    if (!rule->active || !(rule->ops & 1u << op)) {
        return false;
    }
    int64_t at = rule->sector * SIM_SECTOR_BYTES;
    return rule->sector < 0 || (at >= offset && at - offset < bytes);
}

int blkdebug_co_check(BlockDriverState *bs, enum sim_op op, int64_t offset, int64_t bytes)
{
    struct blkdebug *s = bs->opaque;
    struct sim *sim = bs->host->sim;
    blkdebug_rule *rule;

    TAILQ_FOREACH(rule, &s->rules[s->active_event], list)
    {
        if (rule_matches(rule, op, offset, bytes)) {
            break;
        }
    }
    if (rule == NULL || rule->error == 0) {
        return 0;
    }
    int ret = -rule->error;
    bool immediately = rule->immediately;
    SIM_MARK(sim, blkdebug_injected);
    SIM_EMIT(sim, bs->host, debug_inject, bs, SIM_P(bs->name), op, (uint64_t)offset, (uint64_t)bytes,
             (uint64_t)(int64_t)ret);
    if (rule->once) {
        unlink_rule(s, rule);
        free_rule(bs, rule);
    }
    if (!immediately) {
        coroutine_wake(coroutine_self(sim));
        coroutine_yield(sim);
    }
    SIM_ASSERT_LT(ret, 0);
    return ret;
}

/* --- breakpoints ------------------------------------------------------------------------------------------ */

static bool has_tag(const blkdebug_rule *rule, const char *tag)
{
    return tag == NULL || strcmp(rule->tag, tag) == 0;
}

void blkdebug_breakpoint(BlockDriverState *bs, enum blkdbg_event event, const char *tag)
{
    blkdebug_rule_add(bs, BLKDEBUG_BREAK, event)->tag = sim_strdup(bs->host->arena, tag);
}

static blkdebug_rule *find_suspended(const struct blkdebug *s, const char *tag)
{
    blkdebug_rule *rule;

    TAILQ_FOREACH(rule, &s->suspended, list)
    {
        if (has_tag(rule, tag)) {
            return rule;
        }
    }
    return NULL;
}

bool blkdebug_is_suspended(const BlockDriverState *bs, const char *tag)
{
    return find_suspended(bs->opaque, tag) != NULL;
}

int blkdebug_resume(BlockDriverState *bs, const char *tag)
{
    struct blkdebug *s = bs->opaque;
    blkdebug_rule *rule = find_suspended(s, tag);

    if (rule == NULL) {
        return -ENOENT;
    }
    SIM_ASSERT(*rule->holds > 0);
    TAILQ_REMOVE(&s->suspended, rule, list);
    SIM_EMIT(bs->host->sim, bs->host, debug_resume, bs, SIM_P(bs->name), SIM_P(rule->tag));
    if (--*rule->holds == 0) {
        coroutine_wake(rule->co);
    }
    free_rule(bs, rule);
    host_kick(bs->host);
    return 0;
}

int blkdebug_remove_breakpoint(BlockDriverState *bs, const char *tag)
{
    struct blkdebug *s = bs->opaque;
    blkdebug_rule *next;
    int ret = -ENOENT;

    for (unsigned i = 0; i < BLKDBG_COUNT; i++) {
        for (blkdebug_rule *rule = TAILQ_FIRST(&s->rules[i]); rule != NULL; rule = next) {
            next = TAILQ_NEXT(rule, list);
            if (rule->action == BLKDEBUG_BREAK && has_tag(rule, tag)) {
                unlink_rule(s, rule);
                free_rule(bs, rule);
                ret = 0;
            }
        }
    }
    while (blkdebug_resume(bs, tag) == 0) {
        ret = 0;
    }
    return ret;
}
