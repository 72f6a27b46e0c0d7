/* HBitmap: the serialised form and its hash (reference/bitmaps-qcow2.md 1.6, 1.7). */
#include "block/hbitmap_int.h"

#include <endian.h>
#include <openssl/evp.h>
#include <string.h>

#define LEAF_BYTES (HBITMAP_LEAF_WORDS * 8)

static void store_le64(uint8_t *buf, uint64_t value)
{
    uint64_t le = htole64(value);
    memcpy(buf, &le, sizeof(le));
}

static uint64_t load_le64(const uint8_t *buf)
{
    uint64_t le;
    memcpy(&le, buf, sizeof(le));
    return le64toh(le);
}

/* Words of the part [start, start+count), as first and one past the last. */
static void part_words(const HBitmap *hb, int64_t start, int64_t count, uint64_t *first, uint64_t *end)
{
    uint64_t align_mask = hbitmap_serialization_align(hb) - 1;
    SIM_ASSERT(start >= 0 && count >= 0);
    SIM_ASSERT_EQ((uint64_t)start & align_mask, 0);
    SIM_ASSERT(count == 0 || hb->bit_count > 0);
    *first = (uint64_t)start >> hb->granularity >> 6;
    *end = *first;
    if (count == 0) {
        return;
    }
    uint64_t last_bit = ((uint64_t)start + (uint64_t)count - 1) >> hb->granularity;
    /* A whole number of words, or up to the last bit; the last word may reach past the bits. */
    SIM_ASSERT(((uint64_t)count & align_mask) == 0 || last_bit + 1 == hb->bit_count);
    SIM_ASSERT(last_bit >> 6 <= (hb->bit_count - 1) >> 6);
    *end = (last_bit >> 6) + 1;
}

uint64_t hbitmap_serialization_align(const HBitmap *hb)
{
    SIM_ASSERT_LT(hb->granularity, 58);
    return (uint64_t)64 << hb->granularity;
}

int64_t hbitmap_serialization_size(const HBitmap *hb, int64_t start, int64_t count)
{
    uint64_t first;
    uint64_t end;
    part_words(hb, start, count, &first, &end);
    return (int64_t)((end - first) * 8);
}

/* Words [w, w+n) of one leaf as bytes. */
static void leaf_to_bytes(const HBitmap *hb, uint64_t w, uint64_t n, uint8_t *buf)
{
    const struct hbitmap_leaf *leaf = hbitmap_leaf_at(hb, w << 6);
    if (!hbitmap_is_real(leaf)) {
        memset(buf, leaf == NULL ? 0 : 0xff, n * 8);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        store_le64(buf + i * 8, leaf->word[(w + i) % HBITMAP_LEAF_WORDS]);
    }
}

/* How many words from w on lie in the same leaf, at most to end. */
static uint64_t words_in_leaf(uint64_t w, uint64_t end)
{
    return MIN(HBITMAP_LEAF_WORDS - w % HBITMAP_LEAF_WORDS, end - w);
}

void hbitmap_serialize_part(const HBitmap *hb, uint8_t *buf, int64_t start, int64_t count)
{
    uint64_t w;
    uint64_t end;
    part_words(hb, start, count, &w, &end);
    while (w < end) {
        uint64_t n = words_in_leaf(w, end);
        leaf_to_bytes(hb, w, n, buf);
        buf += n * 8;
        w += n;
    }
}

static uint64_t last_bit_of(const HBitmap *hb, uint64_t end_word)
{
    return MIN(end_word << 6, hb->bit_count) - 1;
}

void hbitmap_deserialize_part(HBitmap *hb, const uint8_t *buf, int64_t start, int64_t count)
{
    uint64_t first;
    uint64_t end;
    part_words(hb, start, count, &first, &end);
    if (first < end) {
        hbitmap_reset_bits(hb, first << 6, last_bit_of(hb, end));
    }
    for (uint64_t w = first; w < end; w++) {
        uint64_t value = load_le64(buf + (w - first) * 8);
        uint64_t bits = hb->bit_count - (w << 6);
        hbitmap_set_word(hb, w, bits < 64 ? value & (((uint64_t)1 << bits) - 1) : value);
    }
}

void hbitmap_deserialize_zeroes(HBitmap *hb, int64_t start, int64_t count)
{
    uint64_t first;
    uint64_t end;
    part_words(hb, start, count, &first, &end);
    if (first < end) {
        hbitmap_reset_bits(hb, first << 6, last_bit_of(hb, end));
    }
}

void hbitmap_deserialize_ones(HBitmap *hb, int64_t start, int64_t count)
{
    uint64_t first;
    uint64_t end;
    part_words(hb, start, count, &first, &end);
    if (first < end) {
        hbitmap_set_bits(hb, first << 6, last_bit_of(hb, end));
    }
}

void hbitmap_sha256(const HBitmap *hb, char out[65])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    SIM_ASSERT(ctx != NULL);
    SIM_ASSERT_EQ(EVP_DigestInit_ex(ctx, EVP_sha256(), NULL), 1);
    uint64_t end = MAX((hb->bit_count + 63) / 64, 1);
    for (uint64_t w = 0; w < end;) {
        uint8_t buf[LEAF_BYTES];
        uint64_t n = words_in_leaf(w, end);
        leaf_to_bytes(hb, w, n, buf);
        SIM_ASSERT_EQ(EVP_DigestUpdate(ctx, buf, n * 8), 1);
        w += n;
    }
    uint8_t digest[32];
    unsigned size = 0;
    SIM_ASSERT_EQ(EVP_DigestFinal_ex(ctx, digest, &size), 1);
    SIM_ASSERT_EQ(size, sizeof(digest));
    EVP_MD_CTX_free(ctx);
    for (size_t i = 0; i < sizeof(digest); i++) {
        out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    out[64] = '\0';
}
