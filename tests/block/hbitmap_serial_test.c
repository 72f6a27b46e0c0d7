/* Protects HBitmap's serialised form and its hash: what images hold and other tools compare. */
#include "tests/block/hbitmap_lib.h"

/* fact: bitmaps 1.1/word-order, 1.6/bytes, 1.6/size */
static void test_bytes(void **state)
{
    static const int64_t bits[] = {0, 9, 63, 64, 71};
    static const uint8_t want[16] = {0x01, 0x02, 0, 0, 0, 0, 0, 0x80, 0x81};
    uint8_t got[16];
    HBitmap *hb = hbitmap_alloc(*state, 72 * 512 - 1, 9);
    for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
        hbitmap_set(hb, bits[i] * 512, 1);
    }
    memset(got, 0xee, sizeof(got)); /* the last word is written whole */
    assert_int_equal(hbitmap_serialization_size(hb, 0, 72 * 512 - 1), 16);
    hbitmap_serialize_part(hb, got, 0, 72 * 512 - 1);
    assert_memory_equal(got, want, 16);
    assert_int_equal(hbitmap_serialization_size(hb, 64 * 512, 8 * 512 - 1), 8);
    hbitmap_serialize_part(hb, got, 64 * 512, 8 * 512 - 1);
    assert_memory_equal(got, want + 8, 8);
    assert_int_equal(hbitmap_serialization_size(hb, 0, 0), 0);
    assert_int_equal(hbitmap_serialization_size(hb, 64 * 512, 0), 0);
    hbitmap_free(hb);
}

/* Every granularity that has an alignment, and none that has not.
 * fact: bitmaps 1.6/align */
static void test_align(void **state)
{
    for (int granularity = 0; granularity < 58; granularity++) {
        HBitmap *hb = hbitmap_alloc(*state, INT64_MAX, granularity);
        uint8_t word[8] = {0x05};
        assert_true(hbitmap_serialization_align(hb) == UINT64_C(64) << granularity);
        int64_t part = granularity < 57 ? INT64_C(64) << granularity : INT64_MAX;
        hbitmap_deserialize_part(hb, word, 0, part);
        assert_true(hbitmap_get(hb, INT64_C(2) << granularity));
        assert_int_equal(hbitmap_serialization_size(hb, 0, part), 8);
        hbitmap_serialize_part(hb, word, 0, part);
        assert_int_equal(word[0], 5);
        hbitmap_free(hb);
    }
    HBitmap *hb = hbitmap_alloc(*state, INT64_MAX, 58);
    ASSERT_STOPS(hbitmap_serialization_align(hb));
    hbitmap_free(hb);
}

/* fact: bitmaps 1.6/align */
static void test_bad_parts(void **state)
{
    uint8_t buf[64];
    HBitmap *hb = hbitmap_alloc(*state, 200 * 512, 9);
    ASSERT_STOPS(hbitmap_serialize_part(hb, buf, 512, 64 * 512));
    ASSERT_STOPS(hbitmap_serialize_part(hb, buf, 0, 65 * 512));
    ASSERT_STOPS(hbitmap_serialization_size(hb, 1, 64 * 512));
    ASSERT_STOPS(hbitmap_deserialize_part(hb, buf, 0, 63 * 512));
    ASSERT_STOPS(hbitmap_deserialize_zeroes(hb, 64 * 512, 64 * 512 + 1));
    ASSERT_STOPS(hbitmap_deserialize_ones(hb, 0, 5 * 64 * 512));
    ASSERT_STOPS(hbitmap_deserialize_ones(hb, -64 * 512, 64 * 512));
    hbitmap_deserialize_ones(hb, 64 * 512, 136 * 512);
    assert_int_equal(hbitmap_count(hb), 136 * 512);
    hbitmap_free(hb);
}

/* fact: bitmaps 1.6/size, 1.6/align */
static void test_no_items(void **state)
{
    uint8_t buf[8] = {0};
    HBitmap *hb = hbitmap_alloc(*state, 0, 9);
    assert_int_equal(hbitmap_serialization_size(hb, 0, 0), 0);
    hbitmap_serialize_part(hb, buf, 0, 0);
    hbitmap_deserialize_part(hb, buf, 0, 0);
    hbitmap_deserialize_zeroes(hb, 0, 0);
    hbitmap_deserialize_ones(hb, 0, 0);
    assert_true(hbitmap_empty(hb));
    ASSERT_STOPS(hbitmap_serialization_size(hb, 0, 64 * 512));
    ASSERT_STOPS(hbitmap_deserialize_ones(hb, 0, 64 * 512));
    hbitmap_free(hb);
}

/* Whole words are overwritten, those beside them are not, and count and searches follow at once.
 * fact: bitmaps 1.6/overwrite */
static void test_overwrite(void **state)
{
    const uint8_t word[8] = {0, 0, 0, 0, 0, 0, 0, 0x80};
    HBitmap *hb = hbitmap_alloc(*state, 8192, 0);
    for (int way = 0; way < 3; way++) {
        hbitmap_set(hb, 0, 8192);
        if (way == 0) {
            hbitmap_deserialize_part(hb, word, 64, 64);
            assert_int_equal(hbitmap_count(hb), 8192 - 63);
            assert_int_equal(hbitmap_next_dirty(hb, 64, INT64_MAX), 127);
        } else if (way == 1) {
            hbitmap_deserialize_zeroes(hb, 64, 64);
            assert_int_equal(hbitmap_count(hb), 8192 - 64);
            assert_int_equal(hbitmap_next_dirty(hb, 64, INT64_MAX), 128);
        } else {
            hbitmap_reset_all(hb);
            hbitmap_deserialize_ones(hb, 64, 64);
            assert_int_equal(hbitmap_count(hb), 64);
            assert_int_equal(hbitmap_next_zero(hb, 64, INT64_MAX), 128);
        }
        assert_int_equal(hbitmap_get(hb, 63), way < 2);
    }
    hbitmap_free(hb);
}

/* Stored garbage beyond the length must not become dirt when the disk grows, nor show in the hash.
 * fact: bitmaps 1.6/mask, edge/7 */
static void test_garbage_is_masked(void **state)
{
    uint8_t ones[16];
    memset(ones, 0xff, sizeof(ones));
    for (int way = 0; way < 2; way++) {
        char hash[65];
        char clean[65];
        HBitmap *hb = hbitmap_alloc(*state, 70 * 512, 9);
        hbitmap_set(hb, 0, 70 * 512);
        hbitmap_sha256(hb, clean);
        if (way == 0) {
            hbitmap_deserialize_part(hb, ones, 0, 70 * 512);
        } else {
            hbitmap_deserialize_ones(hb, 0, 70 * 512);
        }
        hbitmap_sha256(hb, hash);
        assert_string_equal(hash, clean);
        assert_int_equal(hbitmap_count(hb), 70 * 512);
        hbitmap_truncate(hb, 1000 * 512);
        assert_int_equal(hbitmap_count(hb), 70 * 512);
        hbitmap_deserialize_zeroes(hb, 64 * 512, 64 * 512);
        assert_int_equal(hbitmap_count(hb), 64 * 512);
        hbitmap_free(hb);
    }
}

/* --- the hash ------------------------------------------------------------------------------------------------ */

static void check_sha(const HBitmap *hb, const char *want)
{
    char hex[65];
    hbitmap_sha256(hb, hex);
    assert_string_equal(hex, want);
}

#define SHA_EMPTY "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"

/* fact: bitmaps 1.7/hash, 1.7/examples */
static void test_sha256_examples(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, MiB, 16);
    check_sha(hb, SHA_EMPTY);
    hbitmap_set(hb, 0, 65537);
    check_sha(hb, "35be322d094f9d154a8aba4733b8497f180353bd7ae7b0a15f90b586b549f28b");
    hbitmap_free(hb);

    hb = hbitmap_alloc(*state, 64 * MiB, 16);
    hbitmap_set(hb, 0, 1);
    hbitmap_set(hb, 65535, 2);
    hbitmap_set(hb, MiB, 65536);
    hbitmap_set(hb, 3 * MiB, 100000);
    assert_int_equal(hbitmap_count(hb), 327680);
    check_sha(hb, "74ac80136efc4d07a6a0fc394b4d0c40facf2adf62c49cc33fc50816c52e4093");
    hbitmap_free(hb);

    hb = hbitmap_alloc(*state, 100 * KiB, 16);
    hbitmap_set(hb, 102399, 1);
    check_sha(hb, "d86e8112f3c4c4442126f8e9f44f16867da487f29052bf91b810457db34209a4");
    hbitmap_free(hb);

    hb = hbitmap_alloc(*state, 4 * MiB + 512, 16);
    hbitmap_set(hb, 0, 4194816);
    check_sha(hb, "c9cb04ba987a95a535a8ba7d18b3815d0f04b47add63f2b18ed0a66f9a6d617a");
    hbitmap_free(hb);
}

/* One zero word even for no bits at all: never the hash of an empty string.
 * fact: bitmaps 1.7/hash, edge/8 */
static void test_sha256_empty(void **state)
{
    static const int64_t lengths[] = {0, 1, 64 * 65536};
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        HBitmap *hb = hbitmap_alloc(*state, lengths[i], 16);
        check_sha(hb, SHA_EMPTY);
        hbitmap_free(hb);
    }
    HBitmap *two = hbitmap_alloc(*state, 65 * 65536, 16);
    char hex[65];
    hbitmap_sha256(two, hex);
    assert_string_not_equal(hex, SHA_EMPTY);
    hbitmap_free(two);
}

/* Different maps, one hash: only the words count.
 * fact: bitmaps 1.7/nothing-else, edge/9 */
static void test_sha256_collides(void **state)
{
    HBitmap *a = hbitmap_alloc(*state, 10 * 512, 9);
    HBitmap *b = hbitmap_alloc(*state, 63 * 65536 + 1, 16);
    char hex[65];
    hbitmap_set(a, 3 * 512, 1024);
    hbitmap_set(b, 3 * 65536, 2 * 65536);
    hbitmap_sha256(a, hex);
    check_sha(b, hex);
    hbitmap_set(b, 0, 1);
    hbitmap_sha256(b, hex);
    hbitmap_free(b);
    b = hbitmap_copy(a);
    hbitmap_set(b, 0, 1);
    check_sha(b, hex);
    hbitmap_free(a);
    hbitmap_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_WORLD("/hbitmap/serial/bytes", test_bytes),
        T_WORLD("/hbitmap/serial/align", test_align),
        T_WORLD("/hbitmap/serial/bad-parts", test_bad_parts),
        T_WORLD("/hbitmap/serial/no-items", test_no_items),
        T_WORLD("/hbitmap/serial/overwrite", test_overwrite),
        T_WORLD("/hbitmap/serial/garbage-is-masked", test_garbage_is_masked),
        T_WORLD("/hbitmap/sha256/examples", test_sha256_examples),
        T_WORLD("/hbitmap/sha256/empty", test_sha256_empty),
        T_WORLD("/hbitmap/sha256/collides", test_sha256_collides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
