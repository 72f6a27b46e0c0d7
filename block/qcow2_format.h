/*
 * The numbers of the qcow2 format (reference/bitmaps-qcow2.md 5.1, 5.2), and its integers, which are big-endian.
 */
#ifndef BLOCK_QCOW2_FORMAT_H
#define BLOCK_QCOW2_FORMAT_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#include "sim/util.h"

#define QCOW_MAGIC 0x514649fbU
#define QCOW2_MIN_CLUSTER_BITS 9
#define QCOW2_MAX_CLUSTER_BITS 21
#define QCOW2_HEADER_V2_BYTES 72
#define QCOW2_HEADER_V3_BYTES 104
#define QCOW2_HEADER_BYTES 112 /* what we write for version 3 */
#define QCOW2_MAX_L1_BYTES (32 * MiB)
#define QCOW2_MAX_REFTABLE_BYTES (8 * MiB)
#define QCOW2_MAX_SNAPSHOTS 65536
#define QCOW2_MAX_SNAPSHOT_TABLE_BYTES (64 * MiB)
#define QCOW2_MAX_SNAPSHOT_EXTRA 1024
#define QCOW2_MAX_BITMAPS 65535
#define QCOW2_MAX_BITMAP_DIRECTORY_BYTES ((int64_t)1024 * QCOW2_MAX_BITMAPS)

enum {
    QCOW2_INCOMPAT_DIRTY = 1 << 0,
    QCOW2_INCOMPAT_CORRUPT = 1 << 1,
    QCOW2_INCOMPAT_DATA_FILE = 1 << 2,
    QCOW2_INCOMPAT_COMPRESSION = 1 << 3,
    QCOW2_INCOMPAT_EXTL2 = 1 << 4,
    QCOW2_INCOMPAT_MASK = 0x1f,
    QCOW2_COMPAT_LAZY_REFCOUNTS = 1 << 0,
    QCOW2_AUTOCLEAR_BITMAPS = 1 << 0,
    QCOW2_AUTOCLEAR_DATA_FILE_RAW = 1 << 1,
    QCOW2_AUTOCLEAR_MASK = 0x3,
};

enum {
    QCOW2_EXT_MAGIC_END = 0,
    QCOW2_EXT_MAGIC_BACKING_FORMAT = 0xe2792aca,
    QCOW2_EXT_MAGIC_FEATURE_TABLE = 0x6803f857,
    QCOW2_EXT_MAGIC_CRYPTO_HEADER = 0x0537be77,
    QCOW2_EXT_MAGIC_BITMAPS = 0x23852875,
    QCOW2_EXT_MAGIC_DATA_FILE = 0x44415441,
};

enum { QCOW2_COMPRESSION_ZLIB, QCOW2_COMPRESSION_ZSTD };

#define QCOW_OFLAG_COPIED (1ULL << 63)
#define QCOW_OFLAG_COMPRESSED (1ULL << 62)
#define QCOW_OFLAG_ZERO (1ULL << 0)
#define L1E_OFFSET_MASK 0x00fffffffffffe00ULL
#define L1E_RESERVED_MASK 0x7f000000000001ffULL
#define L2E_OFFSET_MASK 0x00fffffffffffe00ULL
#define L2E_STD_RESERVED_MASK 0x3f000000000001feULL
#define REFT_OFFSET_MASK 0xfffffffffffffe00ULL
#define REFT_RESERVED_MASK 0x1ffULL
#define INV_OFFSET (-1)

static inline uint16_t qcow2_get_be16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline void qcow2_put_be16(uint8_t *at, size_t value)
{
    SIM_ASSERT_LE(value, UINT16_MAX);
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline uint32_t qcow2_get_be32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return be32toh(value);
}

static inline void qcow2_put_be32(uint8_t *at, uint32_t value)
{
    value = htobe32(value);
    memcpy(at, &value, sizeof(value));
}

static inline uint64_t qcow2_get_be64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return be64toh(value);
}

static inline void qcow2_put_be64(uint8_t *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, sizeof(value));
}

#endif
