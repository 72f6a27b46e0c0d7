/*
 * Fuzz target `image`: any bytes are a qcow2 file and what is done to it (image.c).
 *
 * An input is a plain image, which begins with the magic, or a packed one, which keeps a corpus small and lets a
 * fuzzer change one thing without moving all others:
 *
 *     mode   1 byte, the top bit set: IMAGE_* below
 *     ops    1 byte, how many (at most IMAGE_MAX_OPS), and 4 bytes each: what, where (2), how
 *     tail   2 bytes: the file is at least that many times 4 KiB long
 *     pieces until the end: place (4 bytes, times 8), count (2 bytes), bytes
 *            count with its top bit: eight bytes follow, repeated so many times
 *
 * Numbers are little-endian; a piece that is cut short ends the list. Anything is valid: places wrap around
 * IMAGE_MAX_BYTES. Later pieces lie over earlier ones.
 */
#ifndef FUZZ_IMAGE_H
#define FUZZ_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_MAX_BYTES ((size_t)8 << 20)
#define IMAGE_MAX_OPS 24
#define IMAGE_OP_BYTES 4

/* mode: how the image is opened */
enum {
    IMAGE_DATA_FILE = 1,    /* with a node for external data */
    IMAGE_NO_BACKING = 2,   /* what the header names is not opened */
    IMAGE_SMALL_CACHES = 4, /* two tables of each kind */
    IMAGE_LAZY = 8,
    IMAGE_UNMAP = 16,       /* discards go to the host */
    IMAGE_OVERLAP_ALL = 32, /* overlap-check=all, not the default */
    IMAGE_NO_UNREF = 64,    /* discard-no-unref */
    IMAGE_PACKED = 128,
};

/* An input as it is meant: image bytes in one piece, malloc'ed. */
struct image_input {
    uint8_t mode;
    uint8_t ops; /* how many */
    uint8_t op[IMAGE_MAX_OPS][IMAGE_OP_BYTES];
    uint8_t *bytes;
    size_t length;
};

/* Any input can be unpacked. */
void image_unpack(const uint8_t *data, size_t length, struct image_input *out);
void image_input_clear(struct image_input *input);
/* Bytes written, or 0 when they do not fit. */
size_t image_pack(const struct image_input *input, uint8_t *out, size_t room);

#endif
