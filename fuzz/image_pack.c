/* Packed inputs of the fuzz target `image`: see image.h. */
#include "fuzz/image.h"

#include <stdlib.h>
#include <string.h>

#include "sim/util.h"

#define UNIT 8
#define PIECE_HEAD 6
#define REPEATED 0x8000u
#define MAX_COUNT 0x7fffu
#define TAIL_UNIT 4096

static unsigned get_le16(const uint8_t *at)
{
    return at[0] | (unsigned)at[1] << 8;
}

static uint32_t get_le32(const uint8_t *at)
{
    return get_le16(at) | (uint32_t)get_le16(at + 2) << 16;
}

static void put_le(uint8_t *at, uint32_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

/* --- unpacking ------------------------------------------------------------------------------------------------ */

struct piece {
    size_t place;
    size_t bytes; /* in the image */
    const uint8_t *data;
    bool repeated;
};

/* Bytes of the input that it takes; 0: there is none. */
static size_t next_piece(const uint8_t *data, size_t length, struct piece *piece)
{
    if (length < PIECE_HEAD) {
        return 0;
    }
    unsigned count = get_le16(data + 4);
    size_t own;

    piece->place = (size_t)get_le32(data) * UNIT % IMAGE_MAX_BYTES;
    piece->repeated = (count & REPEATED) != 0;
    piece->data = data + PIECE_HEAD;
    length -= PIECE_HEAD;
    if (piece->repeated) {
        own = MIN(length, (size_t)UNIT);
        piece->bytes = own == UNIT ? (size_t)(count & MAX_COUNT) * UNIT : 0;
    } else {
        own = MIN(length, (size_t)count);
        piece->bytes = own;
    }
    piece->bytes = MIN(piece->bytes, IMAGE_MAX_BYTES - piece->place);
    return PIECE_HEAD + own;
}

static void unpack_pieces(const uint8_t *data, size_t length, struct image_input *out)
{
    struct piece piece;
    size_t n;

    for (size_t at = 0; (n = next_piece(data + at, length - at, &piece)) > 0; at += n) {
        out->length = MAX(out->length, piece.place + piece.bytes);
    }
    out->bytes = calloc(1, out->length + 1);
    SIM_ASSERT(out->bytes);
    for (size_t at = 0; (n = next_piece(data + at, length - at, &piece)) > 0; at += n) {
        for (size_t i = 0; piece.repeated && i < piece.bytes; i += UNIT) {
            memcpy(out->bytes + piece.place + i, piece.data, UNIT);
        }
        if (!piece.repeated && piece.bytes > 0) {
            memcpy(out->bytes + piece.place, piece.data, piece.bytes);
        }
    }
}

void image_unpack(const uint8_t *data, size_t length, struct image_input *out)
{
    *out = (struct image_input){.mode = IMAGE_PACKED};
    if (length < 4 || !(data[0] & IMAGE_PACKED)) {
        out->length = MIN(length, IMAGE_MAX_BYTES);
        out->bytes = calloc(1, out->length + 1);
        SIM_ASSERT(out->bytes);
        if (length > 0) {
            memcpy(out->bytes, data, out->length);
        }
        return;
    }
    out->mode = data[0];
    out->ops = (uint8_t)MIN(data[1] % (IMAGE_MAX_OPS + 1u), (length - 4) / IMAGE_OP_BYTES);
    memcpy(out->op, data + 2, (size_t)out->ops * IMAGE_OP_BYTES);
    size_t at = 2 + (size_t)out->ops * IMAGE_OP_BYTES;
    out->length = MIN((size_t)get_le16(data + at) * TAIL_UNIT, IMAGE_MAX_BYTES);
    unpack_pieces(data + at + 2, length - at - 2, out);
}

void image_input_clear(struct image_input *input)
{
    free(input->bytes);
    input->bytes = NULL;
}

/* --- packing -------------------------------------------------------------------------------------------------- */

struct packer {
    const uint8_t *bytes;
    size_t length;
    uint8_t *out;
    size_t room;
    size_t used; /* more than room: it does not fit */
};

static void put(struct packer *p, const void *data, size_t bytes)
{
    if (p->used <= p->room && bytes <= p->room - p->used) {
        memcpy(p->out + p->used, data, bytes);
        p->used += bytes;
    } else {
        p->used = p->room + 1;
    }
}

static void put_head(struct packer *p, size_t place, unsigned count)
{
    uint8_t head[PIECE_HEAD];

    put_le(head, (uint32_t)(place / UNIT), 4);
    put_le(head + 4, count, 2);
    put(p, head, sizeof(head));
}

/* The unit at `at`, padded with zeros. */
static uint64_t unit_at(const struct packer *p, size_t at)
{
    uint64_t unit = 0;

    if (at < p->length) {
        memcpy(&unit, p->bytes + at, MIN((size_t)UNIT, p->length - at));
    }
    return unit;
}

/* How many units from `at` on are the same. */
static unsigned run_at(const struct packer *p, size_t at)
{
    uint64_t unit = unit_at(p, at);
    unsigned run = 1;

    while (run < MAX_COUNT && at + (run + 1) * UNIT <= p->length && unit_at(p, at + run * UNIT) == unit) {
        run++;
    }
    return run;
}

/* Units from `at` on that are best kept as they are: up to a run of three equal ones. */
static size_t literal_at(const struct packer *p, size_t at)
{
    size_t n = UNIT;

    while (
        at + n < p->length && n + UNIT <= MAX_COUNT &&
        !(unit_at(p, at + n) == unit_at(p, at + n + UNIT) && unit_at(p, at + n) == unit_at(p, at + n + 2 * UNIT))) {
        n += UNIT;
    }
    while (n > 1 && at + n > p->length) {
        n--;
    }
    return n;
}

static void pack_pieces(struct packer *p)
{
    for (size_t at = 0; at < p->length && p->used <= p->room;) {
        unsigned run = run_at(p, at);
        uint64_t unit = unit_at(p, at);
        size_t bytes = (size_t)run * UNIT;

        if (unit != 0 && run >= 3) {
            put_head(p, at, run | REPEATED);
            put(p, &unit, UNIT);
        } else if (unit != 0) {
            bytes = literal_at(p, at);
            put_head(p, at, (unsigned)bytes);
            put(p, p->bytes + at, bytes);
        }
        at += bytes;
    }
}

size_t image_pack(const struct image_input *input, uint8_t *out, size_t room)
{
    struct packer p = {.bytes = input->bytes, .length = input->length, .out = out, .room = room};
    uint8_t head[2] = {input->mode | IMAGE_PACKED, input->ops};
    uint8_t tail[2];

    SIM_ASSERT_LE(input->ops, IMAGE_MAX_OPS);
    put(&p, head, sizeof(head));
    put(&p, input->op, (size_t)input->ops * IMAGE_OP_BYTES);
    put_le(tail, (uint32_t)(input->length / TAIL_UNIT), sizeof(tail));
    put(&p, tail, sizeof(tail));
    pack_pieces(&p);
    return p.used <= p.room ? p.used : 0;
}
