/* What commands that succeeded have done to bitmaps (reference/bitmaps-qcow2.md 3), action by action. */
#include <inttypes.h>
#include <string.h>

#include "check/bitmap_model.h"

struct applying {
    struct bitmap_models *models;
    struct host *host;
    uint64_t event;
    const char *type;
    struct bitmap_model *target; /* of a merge */
};

/* The bitmap that the action names; tells when there is none, for then the command had to fail. */
static struct bitmap_model *lookup(struct applying *a, const char *node, const char *name)
{
    const BlockDriverState *bs = node ? bdrv_lookup_bs(a->host, node, NULL) : NULL;
    struct bitmap_model *m = bitmap_model_named(a->models, bs, name);

    if (!m || (m->tentative && !m->bitmap)) {
        bitmap_violate(a->models, NULL, "not-refused", a->type,
                       "expected a refusal of %s: node %s has no bitmap %s; seen: success", a->type,
                       node ? node : "(none)", name ? name : "(none)");
        return NULL;
    }
    return m;
}

static void add(struct applying *a, struct bitmap_model *none, const struct qvalue *data)
{
    const char *node = check_dict_str(data, "node");
    const char *name = check_dict_str(data, "name");
    const BlockDriverState *bs = node ? bdrv_lookup_bs(a->host, node, NULL) : NULL;
    const struct qvalue *granularity = qdict_get(data, "granularity");
    struct bitmap_model *m = bitmap_model_named(a->models, bs, name);

    if (m && !m->tentative) {
        bitmap_violate(a->models, m, "not-refused", a->type,
                       "expected a refusal: there is a bitmap of that name already; seen: success");
        return;
    }
    if (!m) {
        bitmap_violate(a->models, NULL, "bitmap-missing", a->type,
                       "expected: a bitmap %s of node %s, just added; seen: none", name ? name : "(none)",
                       node ? node : "(none)");
        return;
    }
    m->tentative = false;
    bitmap_enable(m, !check_dict_bool(data, "disabled", false), a->event);
    m->flag[BITMAP_PERSISTENT] = check_dict_bool(data, "persistent", false);
    if (granularity && granularity->type == QVALUE_INT && granularity->integer != m->granularity) {
        bitmap_violate(a->models, m, "flag-wrong", a->type, "expected granularity %" PRId64, granularity->integer);
    }
}

static void remove_named(struct applying *a, struct bitmap_model *m, const struct qvalue *data)
{
    m->tentative = false;
    m->doomed = true; /* it keeps its name until the transaction is committed */
}

static void clear(struct applying *a, struct bitmap_model *m, const struct qvalue *data)
{
    bitmap_clear(a->models, m, 0, m->size, a->event);
}

/* If a backup of the same transaction has frozen it since, its successor took over how it was. */
static void set_enabled(struct applying *a, struct bitmap_model *m, bool enabled)
{
    if (m->successor) {
        m->frozen_enabled = enabled;
        m->frozen_enabled_at = a->event;
    }
    bitmap_enable(m->successor ? m->successor : m, enabled, a->event);
}

static void enable(struct applying *a, struct bitmap_model *m, const struct qvalue *data)
{
    set_enabled(a, m, true);
}

static void disable(struct applying *a, struct bitmap_model *m, const struct qvalue *data)
{
    set_enabled(a, m, false);
}

static void merge_source(void *opaque, const char *node, const char *name)
{
    struct applying *a = opaque;
    const struct bitmap_model *source = lookup(a, node, name);

    if (source && source->size != a->target->size) {
        bitmap_violate(a->models, a->target, "not-refused", a->type,
                       "expected a refusal: its size is %" PRId64 ", that of %s is %" PRId64 "; seen: success",
                       a->target->size, name, source->size);
    } else if (source) {
        bitmap_merge(a->models, a->target, source);
    }
}

static void merge(struct applying *a, struct bitmap_model *m, const struct qvalue *data)
{
    a->target = m;
    check_merge_sources(data, merge_source, a);
}

static const struct {
    const char *type;
    const char *key; /* of the bitmap's name; NULL: there is none yet */
    void (*apply)(struct applying *a, struct bitmap_model *m, const struct qvalue *data);
} actions[] = {
    {"block-dirty-bitmap-add", NULL, add},           {"block-dirty-bitmap-remove", "name", remove_named},
    {"block-dirty-bitmap-clear", "name", clear},     {"block-dirty-bitmap-enable", "name", enable},
    {"block-dirty-bitmap-disable", "name", disable}, {"block-dirty-bitmap-merge", "target", merge},
};

static void apply(void *opaque, const char *type, const struct qvalue *data)
{
    struct applying *a = opaque;

    a->type = type;
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        if (strcmp(actions[i].type, type) == 0) {
            struct bitmap_model *m =
                actions[i].key ? lookup(a, check_dict_str(data, "node"), check_dict_str(data, actions[i].key))
                               : NULL;

            if (m || !actions[i].key) {
                actions[i].apply(a, m, data);
            }
            return;
        }
    }
    if (strcmp(type, "abort") == 0) {
        bitmap_violate(a->models, NULL, "not-refused", type, "expected: a transaction with this action fails");
    }
}

void bitmap_command_done(struct bitmap_models *models, const struct qmp_call *call, uint64_t event)
{
    struct applying a = {.models = models, .host = call->host, .event = event};

    check_bitmap_actions(call, apply, &a);
}
