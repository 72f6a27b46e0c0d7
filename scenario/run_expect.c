/*
 * Waiting and expecting.
 */
#include "scenario/runner_int.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_WAIT_NS (60 * NS_PER_S)

/* --- events ----------------------------------------------------------------------------------------------- */

/* Does every key=value of the step hold in the event? Keys of the step's own are skipped. */
static bool event_matches(const struct scn_step *step, const struct seen_event *seen)
{
    for (size_t i = 0; i < step->args->seq.count; i++) {
        const char *key = step->args->seq.keys[i];
        const struct qvalue *want = step->args->seq.items[i];
        const struct qvalue *have;
        char *text;
        bool same;

        if (strcmp(key, "event") == 0 || strcmp(key, "timeout") == 0) {
            continue;
        }
        have = qdict_get(seen->fields, key);
        if (!have) {
            return false;
        }
        if (qvalue_equal(have, want)) {
            continue;
        }
        /* numbers and words compare by their text, as a person wrote them */
        text = have->type == QVALUE_STR ? strdup(have->str.bytes) : qvalue_to_json(have);
        same = want->type == QVALUE_STR && strcmp(text, want->str.bytes) == 0;
        free(text);
        if (!same) {
            return false;
        }
    }
    return true;
}

/* The oldest event of that kind that fits the step, among those after *last (NULL: all). What was looked at is not
 * looked at again: *last moves to the newest event. */
static struct seen_event *find_event(struct runner *runner, const struct scn_step *step, int kind,
                                     bool unmatched_only, struct seen_event **last)
{
    struct seen_event *seen = *last ? TAILQ_NEXT(*last, list) : TAILQ_FIRST(&runner->events);

    for (; seen; seen = TAILQ_NEXT(seen, list)) {
        *last = seen;
        if ((int)seen->kind == kind && seen->host == runner->host && !(unmatched_only && seen->matched) &&
            event_matches(step, seen)) {
            return seen;
        }
    }
    return NULL;
}

void scn_run_wait(struct runner *runner, const struct scn_step *step)
{
    int64_t timeout = step_int(step, "timeout", DEFAULT_WAIT_NS);
    int kind = sim_event_find(step_str(step, "event", ""));
    int64_t until = timeout > INT64_MAX - sim_now(runner->sim) ? INT64_MAX : sim_now(runner->sim) + timeout;
    struct seen_event *last = NULL;
    struct seen_event *seen;

    /* a job that retries for ever reports an error each time: a hundred thousand events pass here */
    while (!(seen = find_event(runner, step, kind, true, &last)) && sim_now(runner->sim) < until &&
           !runner->give_up) {
        co_sleep_ns_wakeable(runner->sim, &runner->event_wait, until - sim_now(runner->sim), false);
    }
    if (seen) {
        seen->matched = true;
    } else if (!step->try_) {
        char buf[32];

        runner_expect_failed(runner, step, "timeout", "%s did not come within %s", step_str(step, "event", ""),
                             sim_format_time(timeout, buf));
    }
}

void scn_run_expect_event(struct runner *runner, const struct scn_step *step)
{
    int kind = sim_event_find(step_str(step, "event", ""));
    struct seen_event *last = NULL;

    if (!find_event(runner, step, kind, false, &last)) {
        runner_expect_failed(runner, step, "event", "no such %s was sent", step_str(step, "event", ""));
    }
}

/* --- time ------------------------------------------------------------------------------------------------- */

void scn_run_settle(struct runner *runner, const struct scn_step *step)
{
    runner_settle(runner, step->try_ ? SETTLE_TRY_NS : SETTLE_NS);
    if (!runner->stop && !runner->settle_gave_up) {
        check_settled(runner->checks);
    }
}

void scn_run_run(struct runner *runner, const struct scn_step *step)
{
    co_sleep_ns(runner->sim, step_int(step, "time", 0));
}

void scn_run_check(struct runner *runner, const struct scn_step *step)
{
    /* what holds at the end holds at rest */
    runner_settle(runner, step->try_ ? SETTLE_TRY_NS : SETTLE_NS);
    if (!runner->stop && !runner->settle_gave_up) {
        check_settled(runner->checks);
        if (!runner_anything_held(runner)) { /* who waits for a fault's doing is not at rest */
            check_final(runner->checks);
        }
    }
}

/* --- jobs ------------------------------------------------------------------------------------------------- */

void scn_run_expect_job(struct runner *runner, const struct scn_step *step)
{
    const char *id = step_str(step, "job", "");
    const char *status = step_str(step, "status", "");
    const char *outcome = step_str(step, "outcome", NULL);
    const char *text = step_str(step, "text", NULL);
    const struct job_outcome *o = recorder_outcome(runner, id);

    if (!o) {
        runner_expect_failed(runner, step, "job", "there never was a job '%s'", id);
    } else if (strcmp(o->status, status) != 0) {
        runner_expect_failed(runner, step, "job", "job '%s' is %s, expected %s", id, o->status, status);
    } else if (outcome && strcmp(outcome, "ok") == 0 && (o->error || o->cancelled)) {
        runner_expect_failed(runner, step, "job", "job '%s' ended with '%s', expected success", id,
                             o->error ? o->error : "a cancel");
    } else if (outcome && strcmp(outcome, "error") == 0 && (!o->error || (text && !strstr(o->error, text)))) {
        runner_expect_failed(runner, step, "job", "job '%s' ended with %s%s%s, expected error '%s'", id,
                             o->error ? "'" : "", o->error ? o->error : "success", o->error ? "'" : "",
                             text ? text : "");
    }
}

/* --- content ---------------------------------------------------------------------------------------------- */

#define COMPARE_BYTES (1 * MiB)

/* First offset at which a and b differ within [offset, offset+bytes), or -1. Holes on both sides are skipped whole;
 * the status of a run, which costs its length, is asked once. */
static int64_t first_difference(const BlockDriverState *a, const BlockDriverState *b, int64_t offset, int64_t bytes)
{
    struct sim *sim = bdrv_host(a)->sim;
    int64_t stop = offset + bytes;
    int64_t a_end = offset, b_end = offset; /* of the runs whose status is known */
    bool a_data = false, b_data = false;

    for (int64_t at = offset, n; at < stop; at += n) {
        struct payload pa, pb;
        int64_t diff;

        if (at >= a_end) {
            a_data = bdrv_peek_status(a, at, stop - at, &n);
            a_end = at + n;
        }
        if (at >= b_end) {
            b_data = bdrv_peek_status(b, at, stop - at, &n);
            b_end = at + n;
        }
        n = MIN(MIN(a_end, b_end), stop) - at;
        if (!a_data && !b_data) {
            continue;
        }
        n = MIN(n, COMPARE_BYTES);
        payload_init(sim, &pa);
        payload_init(sim, &pb);
        bool seen = bdrv_peek(a, at, n, &pa) >= 0 && bdrv_peek(b, at, n, &pb) >= 0;
        diff = seen ? payload_first_difference(&pa, &pb, n) : 0;
        payload_clear(&pa);
        payload_clear(&pb);
        if (diff >= 0) {
            return at + diff;
        }
    }
    return -1;
}

void scn_run_expect_same(struct runner *runner, const struct scn_step *step)
{
    BlockDriverState *a = runner_node(runner, step, step_str(step, "node", ""));
    BlockDriverState *b = a ? runner_node(runner, step, step_str(step, "other", "")) : NULL;
    int64_t a_bytes, b_bytes, offset, bytes, diff;

    if (!a || !b) {
        return;
    }
    a_bytes = bdrv_getlength_cached(a);
    b_bytes = bdrv_getlength_cached(b);
    if (!step_has(step, "length") && a_bytes != b_bytes) {
        runner_expect_failed(runner, step, "same", "%lld and %lld bytes long", (long long)a_bytes,
                             (long long)b_bytes);
        return;
    }
    offset = step_int(step, "offset", 0);
    bytes = MIN(step_int(step, "length", a_bytes - offset), MIN(a_bytes, b_bytes) - offset);
    diff = first_difference(a, b, offset, bytes);
    if (diff >= 0) {
        runner_expect_failed(runner, step, "same", "they differ at byte %lld", (long long)diff);
    }
}

void scn_run_expect_view(struct runner *runner, const struct scn_step *step)
{
    BlockDriverState *bs = runner_node(runner, step, step_str(step, "node", ""));
    int64_t offset = step_int(step, "offset", 0);
    int64_t bytes = step_int(step, "length", 0);
    uint8_t byte = (uint8_t)step_int(step, "-P", 0);

    for (int64_t at = 0; bs && at < bytes; at += COMPARE_BYTES) {
        int64_t n = MIN(COMPARE_BYTES, bytes - at);
        struct payload want, have;
        int64_t diff;

        payload_init(runner->sim, &want);
        payload_init(runner->sim, &have);
        payload_append_fill(&want, byte, n);
        bool known = bdrv_peek(bs, offset + at, n, &have) >= 0;
        diff = known ? payload_first_difference(&want, &have, n) : -1;
        if (!known) {
            runner_expect_failed(runner, step, "view", "the content at %lld cannot be looked at",
                                 (long long)(offset + at));
            at = bytes;
        } else if (diff >= 0) {
            uint8_t seen;

            payload_read_bytes(&have, diff, &seen, 1);
            runner_expect_failed(runner, step, "view", "byte %lld is 0x%02x, expected 0x%02x",
                                 (long long)(offset + at + diff), seen, byte);
            at = bytes;
        }
        payload_clear(&want);
        payload_clear(&have);
    }
}

/* --- bitmaps ---------------------------------------------------------------------------------------------- */

static struct qvalue *bitmap_facts(const BdrvDirtyBitmap *bitmap)
{
    struct qvalue *facts = qvalue_dict();
    char hash[65];

    bool hashed = bdrv_dirty_bitmap_sha256(bitmap, hash);

    qdict_put(facts, "count", qvalue_int(bdrv_get_dirty_count(bitmap)));
    qdict_put(facts, "granularity", qvalue_int(bdrv_dirty_bitmap_granularity(bitmap)));
    qdict_put(facts, "recording", qvalue_bool(bdrv_dirty_bitmap_recording(bitmap)));
    qdict_put(facts, "busy", qvalue_bool(bdrv_dirty_bitmap_busy(bitmap)));
    qdict_put(facts, "persistent", qvalue_bool(bdrv_dirty_bitmap_persistent(bitmap)));
    qdict_put(facts, "inconsistent", qvalue_bool(bdrv_dirty_bitmap_inconsistent(bitmap)));
    qdict_put(facts, "sha256", hashed ? qvalue_str(hash) : qvalue_null());
    return facts;
}

/* Sizes may be written with a suffix; everything else compares by its JSON text. */
static bool fact_holds(const struct qvalue *have, const struct qvalue *want)
{
    int64_t size;
    char *text;
    bool same;

    if (qvalue_equal(have, want)) {
        return true;
    }
    if (want->type != QVALUE_STR) {
        return false;
    }
    if (have->type == QVALUE_INT) {
        return sim_parse_size(want->str.bytes, &size) && size == have->integer;
    }
    text = have->type == QVALUE_STR ? strdup(have->str.bytes) : qvalue_to_json(have);
    same = strcmp(text, want->str.bytes) == 0;
    free(text);
    return same;
}

void scn_run_expect_bitmap(struct runner *runner, const struct scn_step *step)
{
    BlockDriverState *bs = runner_node(runner, step, step_str(step, "node", ""));
    BdrvDirtyBitmap *bitmap = bs ? bdrv_find_dirty_bitmap(bs, step_str(step, "bitmap", "")) : NULL;
    struct qvalue *facts;

    if (!bs) {
        return;
    }
    if (!bitmap) {
        runner_expect_failed(runner, step, "bitmap", "there is no bitmap '%s'", step_str(step, "bitmap", ""));
        return;
    }
    facts = bitmap_facts(bitmap);
    for (size_t i = 0; i < step->args->seq.count; i++) {
        const char *key = step->args->seq.keys[i];
        const struct qvalue *have = qdict_get(facts, key);
        char *text;

        if (!have || fact_holds(have, step->args->seq.items[i])) {
            continue;
        }
        text = qvalue_to_json(have);
        runner_expect_failed(runner, step, "bitmap", "%s is %s", key, text);
        free(text);
    }
    qvalue_free(facts);
}
