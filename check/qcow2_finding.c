/*
 * What is wrong with an image: kinds of findings, and which of them a driver is excused.
 */
#include <stdarg.h>
#include <stdio.h>

#include "check/qcow2_int.h"

static const struct {
    const char *name;
    enum qcow2_severity severity;
} kinds[QCOW2_FOUND_KINDS] = {
    [QCOW2_FOUND_LEAK] = {"leak", QCOW2_LEAK},
    [QCOW2_FOUND_COUNT_LOW] = {"count-low", QCOW2_CORRUPTION},
    [QCOW2_FOUND_BLOCK_SHARED] = {"block-shared", QCOW2_CORRUPTION},
    [QCOW2_FOUND_COPIED] = {"copied", QCOW2_CORRUPTION},
    [QCOW2_FOUND_COPIED_SHARED] = {"copied-shared", QCOW2_STRICT},
    [QCOW2_FOUND_RESERVED] = {"reserved", QCOW2_CORRUPTION},
    [QCOW2_FOUND_UNALIGNED] = {"unaligned", QCOW2_CORRUPTION},
    [QCOW2_FOUND_BEYOND_END] = {"beyond-end", QCOW2_CORRUPTION},
    [QCOW2_FOUND_COMPRESSED_FLAG] = {"compressed-flag", QCOW2_CORRUPTION},
    [QCOW2_FOUND_SUBCLUSTERS] = {"subclusters", QCOW2_CORRUPTION},
    [QCOW2_FOUND_ZERO_IN_V2] = {"zero-in-v2", QCOW2_STRICT},
    [QCOW2_FOUND_DATA_FILE] = {"data-file", QCOW2_CORRUPTION},
    [QCOW2_FOUND_DATA_OFFSET] = {"data-offset", QCOW2_STRICT},
    [QCOW2_FOUND_SNAPSHOT] = {"snapshot", QCOW2_CORRUPTION},
    [QCOW2_FOUND_BITMAPS] = {"bitmaps", QCOW2_CORRUPTION},
    [QCOW2_FOUND_BITMAP_TAIL] = {"bitmap-tail", QCOW2_STRICT},
    [QCOW2_FOUND_OVERLAP] = {"overlap", QCOW2_STRICT},
    [QCOW2_FOUND_COMPRESSED_DATA] = {"compressed-data", QCOW2_STRICT},
};

const char *qcow2_finding_name(enum qcow2_finding_kind kind)
{
    SIM_ASSERT(kind < QCOW2_FOUND_KINDS);
    return kinds[kind].name;
}

enum qcow2_severity qcow2_finding_severity(enum qcow2_finding_kind kind)
{
    SIM_ASSERT(kind < QCOW2_FOUND_KINDS);
    return kinds[kind].severity;
}

void qcow2_fail(struct qcow2_image *image, const char *fmt, ...)
{
    va_list args;

    if (image->error[0] == '\0') {
        va_start(args, fmt);
        vsnprintf(image->error, sizeof(image->error), fmt, args);
        va_end(args);
    }
}

void qcow2_found(struct qcow2_image *image, enum qcow2_finding_kind kind, int64_t at, const char *fmt, ...)
{
    uint32_t slot = image->finding_count;
    va_list args;

    image->corruptions += kinds[kind].severity == QCOW2_CORRUPTION;
    image->leaks += kinds[kind].severity == QCOW2_LEAK;
    /* the first of each kind is always kept: leaks by the thousand must not hide the one thing that matters */
    if (image->found[kind]++ == 0 ? slot == QCOW2_FINDINGS_KEPT : slot + QCOW2_FOUND_KINDS >= QCOW2_FINDINGS_KEPT) {
        return;
    }
    image->finding[slot].kind = kind;
    image->finding[slot].at = at;
    va_start(args, fmt);
    vsnprintf(image->finding[slot].text, sizeof(image->finding[slot].text), fmt, args);
    va_end(args);
    image->finding_count++;
}

bool qcow2_spend(struct qcow2_image *image, uint64_t entries)
{
    if (image->work->budget < entries) {
        image->work->budget = 0;
        image->incomplete = true;
        return false;
    }
    image->work->budget -= entries;
    return true;
}

static bool excused(const struct qcow2_image *image, enum qcow2_finding_kind kind, unsigned allow)
{
    bool dirty = (allow & QCOW2_ALLOW_DIRTY) && image->dirty;

    switch (kind) {
    case QCOW2_FOUND_LEAK:
        return dirty || (allow & QCOW2_ALLOW_LEAKS);
    case QCOW2_FOUND_COUNT_LOW:
        return dirty;
    case QCOW2_FOUND_COPIED:
        return dirty || (allow & QCOW2_ALLOW_COPIED);
    case QCOW2_FOUND_RESERVED:
    case QCOW2_FOUND_BITMAP_TAIL:
    case QCOW2_FOUND_SNAPSHOT:
        return (allow & QCOW2_ALLOW_FOREIGN) != 0;
    default:
        return false;
    }
}

const struct qcow2_finding *qcow2_image_judge(const struct qcow2_image *image, unsigned allow)
{
    for (uint32_t i = 0; i < image->finding_count; i++) {
        if (!excused(image, image->finding[i].kind, allow)) {
            return &image->finding[i];
        }
    }
    return NULL;
}
