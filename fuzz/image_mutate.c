/*
 * A mutator that knows qcow2: it changes numbers where the format has numbers, to what lies near the edges of what
 * is allowed, and entries of tables to clusters of the image. What it does not know the fuzzer's own mutator does,
 * on the packed bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "block/qcow2.h"
#include "fuzz/fuzz.h"
#include "fuzz/image.h"

/* libFuzzer's; not there when inputs are only replayed. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) __attribute__((weak));
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, uint8_t *out,
                                 size_t max_out, unsigned int seed);

struct mutator {
    struct image_input input;
    uint64_t state;
};

static uint32_t draw(struct mutator *m, uint32_t n)
{
    m->state = m->state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((m->state >> 33) % n);
}

/* --- numbers of the image ------------------------------------------------------------------------------------- */

static uint64_t get_be(const struct mutator *m, size_t at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | (at + i < m->input.length ? m->input.bytes[at + i] : 0);
    }
    return value;
}

/* Outside of the image nothing is written. */
static void put_be(struct mutator *m, size_t at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        if (at + i < m->input.length) {
            m->input.bytes[at + i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
        }
    }
}

static uint64_t cluster_bytes(const struct mutator *m)
{
    unsigned bits = (unsigned)get_be(m, 20, 4);

    return 1ULL << (bits >= QCOW2_MIN_CLUSTER_BITS && bits <= QCOW2_MAX_CLUSTER_BITS ? bits : 16);
}

static uint64_t some_cluster(struct mutator *m)
{
    uint64_t clusters = m->input.length / cluster_bytes(m) + 2;

    return draw(m, (uint32_t)clusters) * cluster_bytes(m);
}

static uint64_t edge_number(struct mutator *m, uint64_t old, unsigned bytes)
{
    uint64_t max = bytes == 8 ? UINT64_MAX : (1ULL << (8 * bytes)) - 1;

    switch (draw(m, 10)) {
    case 0:
        return 0;
    case 1:
        return old + 1;
    case 2:
        return old - 1;
    case 3:
        return max - draw(m, 3);
    case 4:
        return (max >> 1) + draw(m, 3) - 1;
    case 5:
        return 1ULL << draw(m, bytes * 8);
    case 6:
        return (1ULL << draw(m, bytes * 8)) - 1;
    case 7:
        return some_cluster(m);
    case 8:
        return draw(m, 64);
    default:
        return old ^ 1ULL << draw(m, bytes * 8);
    }
}

/* --- header -----------------------------------------------------------------------------------------------------
 */

static const struct {
    uint8_t at, bytes;
} fields[] = {
    {4, 4},  {8, 8},  {16, 4}, {20, 4}, {24, 8}, {32, 4}, {36, 4}, {40, 8},  {48, 8},
    {56, 4}, {60, 4}, {64, 8}, {72, 8}, {80, 8}, {88, 8}, {96, 4}, {100, 4}, {104, 1},
};

static void mutate_header(struct mutator *m)
{
    unsigned i = draw(m, ARRAY_SIZE(fields));

    put_be(m, fields[i].at, edge_number(m, get_be(m, fields[i].at, fields[i].bytes), fields[i].bytes),
           fields[i].bytes);
}

/* Where a change is likely to be accepted: feature bits that fit together, a few sizes. */
static void mutate_features(struct mutator *m)
{
    switch (draw(m, 6)) {
    case 0:
        put_be(m, 72, get_be(m, 72, 8) ^ 1ULL << draw(m, 5), 8);
        break;
    case 1:
        put_be(m, 80, get_be(m, 80, 8) ^ 1, 8);
        break;
    case 2:
        put_be(m, 88, get_be(m, 88, 8) ^ 1ULL << draw(m, 2), 8);
        break;
    case 3:
        put_be(m, 96, draw(m, 7), 4);
        break;
    case 4:
        put_be(m, 24, get_be(m, 24, 8) + ((uint64_t)draw(m, 9) - 4) * 512, 8);
        break;
    default:
        put_be(m, 4, 2 + draw(m, 2), 4);
        break;
    }
}

static void mutate_extension(struct mutator *m)
{
    static const uint32_t magics[] = {QCOW2_EXT_MAGIC_END,
                                      QCOW2_EXT_MAGIC_BACKING_FORMAT,
                                      QCOW2_EXT_MAGIC_FEATURE_TABLE,
                                      QCOW2_EXT_MAGIC_BITMAPS,
                                      QCOW2_EXT_MAGIC_DATA_FILE,
                                      QCOW2_EXT_MAGIC_CRYPTO_HEADER,
                                      0x12345678};
    size_t at = get_be(m, 4, 4) == 2 ? 72 : (size_t)get_be(m, 100, 4) % 4096;

    for (unsigned skip = draw(m, 4); skip > 0 && get_be(m, at, 4) != 0; skip--) {
        at += 8 + (((size_t)get_be(m, at + 4, 4) + 7) & 0xff8);
    }
    if (draw(m, 2)) {
        put_be(m, at, magics[draw(m, ARRAY_SIZE(magics))], 4);
    }
    switch (draw(m, 4)) {
    case 0:
        put_be(m, at + 4, edge_number(m, get_be(m, at + 4, 4), 4), 4);
        break;
    case 1:
        put_be(m, at + 8 + 4 * draw(m, 6), edge_number(m, 0, 4), 4);
        break;
    case 2: /* a whole one: bitmaps somewhere */
        put_be(m, at, QCOW2_EXT_MAGIC_BITMAPS, 4);
        put_be(m, at + 4, 24, 4);
        put_be(m, at + 8, 1 + draw(m, 3), 4);
        put_be(m, at + 12, 0, 4);
        put_be(m, at + 16, 32 + 8 * draw(m, 9), 8);
        put_be(m, at + 24, some_cluster(m), 8);
        put_be(m, 88, get_be(m, 88, 8) | 1, 8);
        break;
    default: /* a backing file, of the names that there are */
        put_be(m, 8, 512 - 16, 8);
        put_be(m, 16, draw(m, 2) ? 4 : 3, 4);
        put_be(m, 512 - 16, draw(m, 2) ? 0x6261636b : 0x696d6700, 4); /* back, img */
        break;
    }
}

/* --- tables
 * ------------------------------------------------------------------------------------------------------- */

/* A place where the format has a table. */
static size_t some_table(struct mutator *m)
{
    uint64_t l1 = get_be(m, 40, 8);
    uint64_t reftable = get_be(m, 48, 8);
    uint64_t at;

    switch (draw(m, 7)) {
    case 0:
        at = l1;
        break;
    case 1:
        at = reftable;
        break;
    case 2: /* a refcount block */
        at = get_be(m, (size_t)(reftable % IMAGE_MAX_BYTES), 8) & REFT_OFFSET_MASK;
        break;
    case 3:
        at = get_be(m, 64, 8); /* snapshots */
        break;
    case 4:
        at = some_cluster(m);
        break;
    default: /* an L2 table */
        at = get_be(m, (size_t)(l1 % IMAGE_MAX_BYTES) + draw(m, 4) * 8, 8) & L1E_OFFSET_MASK;
        break;
    }
    return (size_t)(at % IMAGE_MAX_BYTES);
}

static uint64_t some_entry(struct mutator *m)
{
    static const uint64_t flags[] = {0,
                                     QCOW_OFLAG_COPIED,
                                     QCOW_OFLAG_COPIED,
                                     QCOW_OFLAG_ZERO,
                                     QCOW_OFLAG_COPIED | QCOW_OFLAG_ZERO,
                                     QCOW_OFLAG_COMPRESSED,
                                     QCOW_OFLAG_COMPRESSED | QCOW_OFLAG_COPIED,
                                     0x200,
                                     1ULL << 56};
    uint64_t flag = flags[draw(m, ARRAY_SIZE(flags))];
    uint64_t offset = some_cluster(m);

    if (flag & QCOW_OFLAG_COMPRESSED) {
        offset += draw(m, 1024);
        offset |= (uint64_t)draw(m, 4) << (62 - __builtin_ctzll(cluster_bytes(m)) + 8);
    }
    return offset | flag;
}

static void mutate_entry(struct mutator *m)
{
    size_t table = some_table(m);
    size_t index = draw(m, 2) ? draw(m, 4) : draw(m, (uint32_t)(cluster_bytes(m) / 8));
    size_t at = table + index * 8;
    uint64_t old = get_be(m, at, 8);

    switch (draw(m, 6)) {
    case 0:
        put_be(m, at, old ^ 1ULL << draw(m, 64), 8);
        break;
    case 1:
        put_be(m, at, get_be(m, some_table(m) + draw(m, 8) * 8, 8), 8);
        break;
    case 2:
        put_be(m, at, edge_number(m, old, 8), 8);
        break;
    case 3: /* the same many times */
        for (uint32_t n = draw(m, 64), value = draw(m, 2); n > 0; n--) {
            put_be(m, at + n * 8, value ? old : some_entry(m), 8);
        }
        break;
    default:
        put_be(m, at, some_entry(m), 8);
        break;
    }
}

/* Parts of an entry of the snapshot table or the bitmap directory, and of refcount blocks. */
static void mutate_small(struct mutator *m)
{
    size_t at = some_table(m) + draw(m, 64);
    unsigned bytes = 1u << draw(m, 3);

    at -= at % bytes;
    put_be(m, at, edge_number(m, get_be(m, at, bytes), bytes), bytes);
}

static void move_block(struct mutator *m)
{
    size_t bytes = draw(m, 2) ? (size_t)cluster_bytes(m) : 512;
    size_t from = some_table(m), to = some_table(m);

    if (from < m->input.length && to < m->input.length) {
        bytes = MIN(bytes, m->input.length - MAX(from, to));
        memmove(m->input.bytes + to, m->input.bytes + from, bytes);
    }
}

static void resize(struct mutator *m)
{
    size_t length = m->input.length;
    uint32_t less = draw(m, 4096);

    switch (draw(m, 4)) {
    case 0:
        length /= 2;
        break;
    case 1:
        length -= MIN(length, less);
        break;
    case 2:
        length += (size_t)cluster_bytes(m);
        break;
    default:
        length = (size_t)(some_cluster(m) + cluster_bytes(m));
        break;
    }
    length = MIN(length, IMAGE_MAX_BYTES);
    uint8_t *bytes = calloc(1, length + 1);
    SIM_ASSERT(bytes);
    memcpy(bytes, m->input.bytes, MIN(length, m->input.length));
    free(m->input.bytes);
    m->input.bytes = bytes;
    m->input.length = length;
}

/* --- operations
 * --------------------------------------------------------------------------------------------------- */

static void mutate_ops(struct mutator *m)
{
    struct image_input *input = &m->input;

    if (draw(m, 4) == 0) {
        input->mode ^= (uint8_t)(1u << draw(m, 7));
    }
    if (input->ops < IMAGE_MAX_OPS && (input->ops == 0 || draw(m, 3) == 0)) {
        memset(input->op[input->ops++], 0, IMAGE_OP_BYTES);
    } else if (draw(m, 8) == 0) {
        input->ops = (uint8_t)draw(m, input->ops);
    }
    if (input->ops > 0) {
        uint8_t *op = input->op[draw(m, input->ops)];
        op[0] = (uint8_t)(draw(m, 16) | (draw(m, 4) == 0 ? 0x80 : 0));
        op[1] = (uint8_t)draw(m, 256);
        op[2] = (uint8_t)(draw(m, 3) == 0 ? 0x80 | draw(m, 128) : 0);
        op[3] = (uint8_t)draw(m, 256);
    }
}

static void mutate_once(struct mutator *m)
{
    static void (*const how[])(struct mutator * m) = {
        mutate_header, mutate_features, mutate_extension, mutate_entry, mutate_entry, mutate_entry, mutate_small,
        mutate_small,  move_block,      resize,           mutate_ops,   mutate_ops,   mutate_ops,
    };

    how[draw(m, ARRAY_SIZE(how))](m);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    struct mutator m = {.state = seed};

    draw(&m, 2);
    if (LLVMFuzzerMutate && draw(&m, 5) == 0) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    image_unpack(data, size, &m.input);
    for (unsigned n = 1 + draw(&m, 4); n > 0; n--) {
        mutate_once(&m);
    }
    size_t packed = image_pack(&m.input, data, max_size);
    image_input_clear(&m.input);
    return packed > 0 ? packed : size;
}

/* Clusters of one image in the other, or the operations. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, uint8_t *out,
                                 size_t max_out, unsigned int seed)
{
    struct mutator m = {.state = seed};
    struct image_input other;

    draw(&m, 2);
    image_unpack(a, a_size, &m.input);
    image_unpack(b, b_size, &other);
    if (draw(&m, 2)) {
        m.input.mode = other.mode;
        m.input.ops = other.ops;
        memcpy(m.input.op, other.op, sizeof(other.op));
    }
    for (unsigned n = draw(&m, 4); n > 0; n--) {
        size_t at = (size_t)some_cluster(&m);
        size_t bytes = (size_t)cluster_bytes(&m);
        if (at < m.input.length && at < other.length) {
            memcpy(m.input.bytes + at, other.bytes + at, MIN(bytes, MIN(m.input.length, other.length) - at));
        }
    }
    size_t packed = image_pack(&m.input, out, max_out);
    image_input_clear(&m.input);
    image_input_clear(&other);
    return packed;
}
