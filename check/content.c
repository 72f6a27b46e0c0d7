/*
 * Where content comes from, in words: a guest's write, the stamps that a disk began with, a byte, zeroes.
 *
 * A stamped write gives each sector its write id and sector number, so a sector found in the wrong place says whose
 * it is. The boundary remembers by which event each write id was submitted.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check/checkers.h"
#include "sim/disk.h"

void check_content_note(struct check_boundary *boundary, const struct guest_req *req, uint64_t event)
{
    uint64_t tag;
    uint32_t id;

    if (req->data.head_bytes || req->data.size_bytes < SIM_SECTOR_BYTES ||
        !payload_sector_tag(&req->data, 0, &tag)) {
        return;
    }
    id = (uint32_t)(tag >> 32);
    if (id > boundary->write_room * 2 + 1024) {
        return; /* no id of the runner's, which counts */
    }
    if (id >= boundary->write_room) {
        uint32_t room = MAX(id + 1, boundary->write_room * 2 + 64);
        uint64_t *writes = sim_alloc(boundary->arena, SIM_TYPE_check_state, room * sizeof(*writes));

        if (boundary->writes) {
            memcpy(writes, boundary->writes, boundary->write_room * sizeof(*writes));
            sim_free(boundary->arena, SIM_TYPE_check_state, boundary->writes,
                     boundary->write_room * sizeof(*writes));
        }
        boundary->writes = writes;
        boundary->write_room = room;
    }
    boundary->writes[id] = event;
}

const char *check_content_of_tag(const struct check_boundary *boundary, uint64_t tag, char buf[CHECK_CONTENT])
{
    uint32_t id = (uint32_t)(tag >> 32);
    uint32_t sector = (uint32_t)tag;

    if (id < boundary->write_room && boundary->writes[id]) {
        snprintf(buf, CHECK_CONTENT, "the guest write submitted at event %" PRIu64 " (its sector %" PRIu32 ")",
                 boundary->writes[id], sector);
        return buf;
    }
    for (struct disk *disk = disk_first(boundary->sim); disk; disk = disk_next(disk)) {
        if ((uint32_t)disk_name(disk)->hash == id) {
            snprintf(buf, CHECK_CONTENT, "what disk %s began with (its sector %" PRIu32 ")", disk_name(disk)->str,
                     sector);
            return buf;
        }
    }
    snprintf(buf, CHECK_CONTENT, "stamp 0x%016" PRIx64 " of nobody", tag);
    return buf;
}

/* The tag with that content id which a write or a disk may have put at the sector. */
static bool tag_of_id(const struct check_boundary *boundary, uint64_t content_id, int64_t sector, uint64_t *tag)
{
    for (uint32_t id = boundary->write_room; id-- > 0;) {
        *tag = (uint64_t)id << 32 | (uint32_t)sector;
        if (boundary->writes[id] && sim_sector_id_tag(*tag) == content_id) {
            return true;
        }
    }
    for (struct disk *disk = disk_first(boundary->sim); disk; disk = disk_next(disk)) {
        *tag = disk_name(disk)->hash << 32 | (uint32_t)sector;
        if (sim_sector_id_tag(*tag) == content_id) {
            return true;
        }
    }
    return false;
}

const char *check_content_of_id(const struct check_boundary *boundary, uint64_t content_id, int64_t sector,
                                char buf[CHECK_CONTENT])
{
    uint64_t tag;

    if (content_id == sim_sector_id_zero()) {
        snprintf(buf, CHECK_CONTENT, "zeroes");
        return buf;
    }
    for (unsigned byte = 1; byte < 256; byte++) {
        if (sim_sector_id_fill((uint8_t)byte) == content_id) {
            snprintf(buf, CHECK_CONTENT, "bytes 0x%02x", byte);
            return buf;
        }
    }
    if (tag_of_id(boundary, content_id, sector, &tag)) {
        return check_content_of_tag(boundary, tag, buf);
    }
    snprintf(buf, CHECK_CONTENT, "content %016" PRIx64, content_id);
    return buf;
}

const char *check_content_of_node(const struct check_boundary *boundary, const BlockDriverState *bs, int64_t offset,
                                  char buf[CHECK_CONTENT])
{
    int64_t start = ROUND_DOWN(offset, SIM_SECTOR_BYTES);
    int64_t bytes = MIN(SIM_SECTOR_BYTES, bdrv_getlength_cached(bs) - start);
    struct payload peeked, data;
    uint8_t sector[SIM_SECTOR_BYTES];
    uint64_t tag;

    payload_init(boundary->sim, &peeked);
    payload_init(boundary->sim, &data);
    bool seen = bytes == SIM_SECTOR_BYTES && bdrv_peek(bs, start, bytes, &peeked) >= 0;
    if (seen) {
        /* Through a window that begins in the middle of a sector it is no whole sector of the payload. */
        payload_read_bytes(&peeked, 0, sector, bytes);
        payload_append_bytes(&data, sector, bytes);
    }
    if (!seen) {
        snprintf(buf, CHECK_CONTENT, "something else");
    } else if (payload_sector_tag(&data, 0, &tag)) {
        check_content_of_tag(boundary, tag, buf);
    } else {
        check_content_of_id(boundary, payload_sector_id(&data, 0), start / SIM_SECTOR_BYTES, buf);
    }
    payload_clear(&peeked);
    payload_clear(&data);
    return buf;
}
