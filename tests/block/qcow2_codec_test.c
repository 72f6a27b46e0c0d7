/* Protects the bytes of compressed qcow2 clusters (5.2): both codecs, their limits, and what strangers put there.
 */
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "tests/testlib.h"

#include "block/qcow2.h"

#define BIG ((size_t)(2 * MiB))

static const unsigned types[] = {QCOW2_COMPRESSION_ZLIB, QCOW2_COMPRESSION_ZSTD};

static uint64_t draw(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15ULL;
    return sim_mix64(*state);
}

/* Text of a kind: runs and repetitions, with something new now and then. */
static void fill_text(uint8_t *buf, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i < bytes; i++) {
        uint64_t r = draw(&seed);
        buf[i] = i >= 5000 && r % 50 ? buf[i - 5000 + r % 3] : (uint8_t)("abcdefgh"[r % 8]);
    }
}

static void fill_noise(uint8_t *buf, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i < bytes; i++) {
        buf[i] = (uint8_t)draw(&seed);
    }
}

/* fact: qcow2 5.2/compressed-descriptor */
static void test_round_trip(void **state)
{
    uint8_t *in = malloc(BIG), *out = malloc(BIG), *again = malloc(BIG), *back = malloc(BIG);
    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        for (size_t bytes = 512; bytes <= BIG; bytes *= 8) {
            fill_text(in, bytes, bytes);
            int64_t ret = qcow2_compress(types[t], in, bytes, out, bytes);
            assert_true(ret > 0 && ret < (int64_t)bytes);
            /* The same bytes on every run: memory that was used before makes no difference. */
            memset(again, 0xee, bytes);
            assert_int_equal(qcow2_compress(types[t], in, bytes, again, bytes), ret);
            assert_memory_equal(out, again, (size_t)ret);
            assert_int_equal(qcow2_decompress(types[t], out, (size_t)ret, back, bytes), 0);
            assert_memory_equal(in, back, bytes);
            /* The rest of the last sector is anything. */
            size_t more = MIN((size_t)500, BIG - (size_t)ret);
            fill_noise(out + ret, more, 1);
            memset(back, 0, bytes);
            assert_int_equal(qcow2_decompress(types[t], out, (size_t)ret + more, back, bytes), 0);
            assert_memory_equal(in, back, bytes);
        }
    }
    free(in);
    free(out);
    free(again);
    free(back);
}

/* fact: qcow2 5.2/incompressible */
static void test_does_not_fit(void **state)
{
    uint8_t in[4096], out[8192];
    fill_noise(in, sizeof(in), 7);
    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        assert_int_equal(qcow2_compress(types[t], in, sizeof(in), out, sizeof(out)), -ENOMEM);
        memset(in, 0x42, sizeof(in));
        int64_t ret = qcow2_compress(types[t], in, sizeof(in), out, sizeof(out));
        assert_true(ret > 0);
        assert_int_equal(qcow2_compress(types[t], in, sizeof(in), out, (size_t)ret - 1), -ENOMEM);
        fill_noise(in, sizeof(in), 7);
    }
}

/* Deflates as somebody else might, with a window of 2^bits. */
static size_t deflate_with(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes, int bits)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in,
                  .avail_in = (uInt)in_bytes,
                  .next_out = out,
                  .avail_out = (uInt)out_bytes};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -bits, 9, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t ret = out_bytes - z.avail_out;
    deflateEnd(&z);
    return ret;
}

/* Whether a decoder that keeps no more than 4 KiB of what it said can read the stream: it gets little room at a
 * time, else it would look back in the output itself. */
static bool narrow_decoder_reads(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)in_bytes, .next_out = out};
    int ret = inflateInit2(&z, -12);
    for (size_t done = 0; ret == Z_OK && done < out_bytes; done += 256) {
        z.avail_out = 256;
        ret = inflate(&z, Z_NO_FLUSH);
    }
    inflateEnd(&z);
    return ret == Z_OK || ret == Z_STREAM_END;
}

/* fact: qcow2 5.2/deflate-window, edge/29 */
static void test_window(void **state)
{
    static uint8_t in[65536], out[131072], back[65536];
    /* Noise that comes again 20000 bytes later: only a large window can say so. */
    fill_noise(in, 20000, 3);
    memcpy(in + 20000, in, 20000);
    memcpy(in + 40000, in, 20000);
    size_t wide = deflate_with(in, sizeof(in), out, sizeof(out), 15);
    assert_true(wide < 30000);
    assert_false(narrow_decoder_reads(out, wide, back, sizeof(back)));
    size_t narrow = deflate_with(in, sizeof(in), out, sizeof(out), 12);
    assert_true(narrow_decoder_reads(out, narrow, back, sizeof(back)));
    assert_int_equal(qcow2_decompress(QCOW2_COMPRESSION_ZLIB, out, narrow, back, sizeof(back)), 0);
    assert_memory_equal(in, back, sizeof(in));
    int64_t own = qcow2_compress(QCOW2_COMPRESSION_ZLIB, in, sizeof(in), out, sizeof(out));
    assert_true(own > 50000);
    memset(back, 0, sizeof(back));
    assert_true(narrow_decoder_reads(out, (size_t)own, back, sizeof(back)));
    assert_memory_equal(in, back, sizeof(in));
}

static void test_damaged(void **state)
{
    static uint8_t in[16384], out[16384], back[16384];
    fill_text(in, sizeof(in), 11);
    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        int64_t ret = qcow2_compress(types[t], in, sizeof(in), out, sizeof(out));
        assert_true(ret > 64);
        assert_int_equal(qcow2_decompress(types[t], out, (size_t)ret / 2, back, sizeof(back)), -EIO);
        assert_int_equal(qcow2_decompress(types[t], out, 0, back, sizeof(back)), -EIO);
        assert_int_equal(qcow2_decompress(types[t], in, sizeof(in), back, sizeof(back)), -EIO);
        memset(in, 0, sizeof(in)); /* what is beyond the end of the file */
        assert_int_equal(qcow2_decompress(types[t], in, sizeof(in), back, sizeof(back)), -EIO);
        fill_text(in, sizeof(in), 11);
        /* A stream of less than a cluster. */
        int64_t half = qcow2_compress(types[t], in, sizeof(in) / 2, out, sizeof(out));
        assert_int_equal(qcow2_decompress(types[t], out, (size_t)half, back, sizeof(back)), -EIO);
    }
}

static void test_noise(void **state)
{
    static uint8_t in[1024], back[4096], stream[4096];
    uint64_t seed = 5;
    memset(back, 0x31, sizeof(back));
    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        int64_t bytes = qcow2_compress(types[t], back, sizeof(back), stream, sizeof(stream));
        for (unsigned i = 0; i < 2000; i++) {
            fill_noise(in, sizeof(in), draw(&seed));
            if (i % 2) { /* a good start, one byte changed */
                memcpy(in, stream, (size_t)bytes);
                in[draw(&seed) % (uint64_t)bytes] ^= (uint8_t)draw(&seed);
            }
            int ret = qcow2_decompress(types[t], in, sizeof(in), back, sizeof(back));
            assert_true(ret == 0 || ret == -EIO);
        }
    }
}

/* A frame that claims a window of 128 MiB must not get it. */
static void test_memory(void **state)
{
    /* Magic; a descriptor without content size; a window of 2^27; one raw last block of a byte. */
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x09, 0x00, 0x00, 0x41};
    static const uint8_t small[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 2 << 3, 0x09, 0x00, 0x00, 0x41};
    uint8_t out[1];
    assert_int_equal(qcow2_decompress(QCOW2_COMPRESSION_ZSTD, frame, sizeof(frame), out, 1), -EIO);
    assert_int_equal(qcow2_decompress(QCOW2_COMPRESSION_ZSTD, small, sizeof(small), out, 1), 0);
    assert_int_equal(out[0], 0x41);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/qcow2/codec/round-trip", test_round_trip, NULL, NULL, NULL},
        {"/qcow2/codec/does-not-fit", test_does_not_fit, NULL, NULL, NULL},
        {"/qcow2/codec/deflate-window", test_window, NULL, NULL, NULL},
        {"/qcow2/codec/damaged", test_damaged, NULL, NULL, NULL},
        {"/qcow2/codec/noise", test_noise, NULL, NULL, NULL},
        {"/qcow2/codec/memory", test_memory, NULL, NULL, NULL},
    };
    return cmocka_run_group_tests_name("block/qcow2_codec", tests, NULL, NULL);
}
