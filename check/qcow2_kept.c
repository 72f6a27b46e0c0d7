/*
 * Snapshots keep what they hold; the rules are in the header.
 */
#include <string.h>

#include "check/qcow2_kept.h"

#define PIECE ((int64_t)256 * KiB)
#define KEPT_BYTES ((int64_t)16 * MiB) /* of what is allocated are compared */

static uint64_t mix(uint64_t digest, uint64_t value)
{
    return sim_mix64(digest ^ sim_mix64(value));
}

static bool mix_data(struct qcow2_image *image, int snapshot, int64_t offset, int64_t bytes, uint64_t *digest)
{
    struct payload data;
    bool ok = true;

    payload_init(image->file.sim, &data);
    for (int64_t end = offset + bytes; ok && offset < end; offset += PIECE) {
        payload_clear(&data);
        ok = qcow2_image_view(image, snapshot, offset, MIN(PIECE, end - offset), NULL, NULL, &data);
        *digest = mix(*digest, payload_content_id(&data));
    }
    payload_clear(&data);
    return ok;
}

/* Content of a snapshot, or with QCOW2_ACTIVE of the disk. False: some of it cannot be read. */
static bool digest_of(struct qcow2_image *image, int snapshot, uint64_t *digest)
{
    int64_t size = snapshot == QCOW2_ACTIVE ? image->size : image->snapshot[snapshot].disk_size;
    int64_t left = KEPT_BYTES;
    bool ok = true;

    *digest = mix(0, (uint64_t)size);
    for (int64_t at = 0; ok && at < size && left > 0;) {
        int64_t bytes = 0;
        bool there = qcow2_image_is_allocated(image, snapshot, at, size - at, &bytes);

        if (bytes <= 0) {
            return false;
        }
        if (there) {
            bytes = MIN(bytes, left);
            *digest = mix(*digest, (uint64_t)at);
            ok = mix_data(image, snapshot, at, bytes, digest);
            left -= bytes;
        }
        at += bytes;
    }
    return ok;
}

static uint64_t key_of(const struct qcow2_image_snapshot *sn)
{
    uint64_t key = mix(sim_hash_str(sn->id), sim_hash_str(sn->name));

    key = mix(key, (uint64_t)sn->date_sec << 32 | sn->date_nsec);
    return mix(mix(key, sn->vm_clock_nsec), (uint64_t)sn->disk_size);
}

static struct kept_snapshot *find(struct kept_snapshot *list, uint64_t key)
{
    while (list && list->key != key) {
        list = list->next;
    }
    return list;
}

static void drop_unseen(struct sim_arena *arena, struct kept_snapshot **at)
{
    while (*at) {
        struct kept_snapshot *kept = *at;

        if (kept->seen) {
            kept->seen = false;
            at = &kept->next;
        } else {
            *at = kept->next;
            sim_free(arena, SIM_TYPE_check_state, kept, sizeof(*kept));
        }
    }
}

int qcow2_kept_look(struct sim_arena *arena, struct kept_snapshot **list, struct qcow2_image *image)
{
    int changed = -1;

    for (uint32_t i = 0; i < image->snapshot_count; i++) {
        uint64_t key = key_of(&image->snapshot[i]);
        struct kept_snapshot *kept = find(*list, key);
        uint64_t digest = 0;
        bool readable = digest_of(image, (int)i, &digest);

        if (kept && (!readable || kept->digest != digest) && changed < 0) {
            changed = (int)i;
        }
        if (!kept && readable) {
            kept = (struct kept_snapshot *)sim_alloc(arena, SIM_TYPE_check_state, sizeof(*kept));
            kept->key = key;
            kept->next = *list;
            *list = kept;
        }
        if (kept) {
            kept->digest = digest;
            kept->seen = readable;
        }
    }
    drop_unseen(arena, list);
    return changed;
}

void qcow2_kept_forget(struct sim_arena *arena, struct kept_snapshot **list)
{
    SIM_ASSERT(list != NULL);
    drop_unseen(arena, list);
    SIM_ASSERT(*list == NULL);
}

bool qcow2_kept_is_active(struct qcow2_image *image, const char *id, const char *name)
{
    uint64_t there = 0, kept = 0;
    int found = -1;

    SIM_ASSERT(id || name);
    for (uint32_t i = 0; i < image->snapshot_count; i++) {
        const struct qcow2_image_snapshot *sn = &image->snapshot[i];

        if ((!id || strcmp(sn->id, id) == 0) && (!name || strcmp(sn->name, name) == 0)) {
            found = (int)i;
        }
    }
    return found >= 0 && digest_of(image, found, &kept) && digest_of(image, QCOW2_ACTIVE, &there) && kept == there;
}
