/*
 * The bytes of compressed clusters (5.2): deflate streams without a header in a window of 4 KiB, or zstd frames.
 *
 * What is stored may be longer than the stream, up to the end of its last sector; a decompression ends when it has
 * produced the cluster. Streams come from images that anybody may have made: whatever is wrong with one is -EIO,
 * and a frame that asks for more memory than a cluster could need is wrong.
 */
#include <errno.h>
#include <limits.h>

#include <zlib.h>
#include <zstd.h>

#include "block/qcow2.h"

#define DEFLATE_WINDOW_BITS 12
#define DEFLATE_MEM_LEVEL 9
/* Clusters have up to 2 MiB; an encoder that does not know may declare somewhat more. */
#define ZSTD_WINDOW_LOG_MAX 23

/* --- deflate --------------------------------------------------------------------------------------------- */

static int64_t deflate_bytes(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in,
                  .avail_in = (uInt)in_bytes,
                  .next_out = out,
                  .avail_out = (uInt)out_bytes};

    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -DEFLATE_WINDOW_BITS, DEFLATE_MEM_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        return -EIO;
    }
    int done = deflate(&z, Z_FINISH);
    int64_t produced = (int64_t)(out_bytes - z.avail_out);
    deflateEnd(&z);
    return done == Z_STREAM_END ? produced : -ENOMEM;
}

static int inflate_bytes(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in,
                  .avail_in = (uInt)in_bytes,
                  .next_out = out,
                  .avail_out = (uInt)out_bytes};

    if (inflateInit2(&z, -DEFLATE_WINDOW_BITS) != Z_OK) {
        return -EIO;
    }
    int done = inflate(&z, Z_FINISH);
    bool whole = z.avail_out == 0 && (done == Z_STREAM_END || done == Z_BUF_ERROR || done == Z_OK);
    inflateEnd(&z);
    return whole ? 0 : -EIO;
}

/* --- zstd ------------------------------------------------------------------------------------------------ */

static int64_t zstd_compress(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
    size_t done = ZSTD_compress(out, out_bytes, in, in_bytes, ZSTD_CLEVEL_DEFAULT);

    return ZSTD_isError(done) ? -ENOMEM : (int64_t)done;
}

static int zstd_stream(ZSTD_DCtx *context, ZSTD_inBuffer *input, ZSTD_outBuffer *output)
{
    if (ZSTD_isError(ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX))) {
        return -EIO;
    }
    while (output->pos < output->size) {
        size_t read_before = input->pos;
        size_t produced_before = output->pos;
        size_t left = ZSTD_decompressStream(context, output, input);
        if (ZSTD_isError(left) || (input->pos == read_before && output->pos == produced_before)) {
            return -EIO;
        }
    }
    return 0;
}

static int zstd_decompress(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
    ZSTD_inBuffer input = {in, in_bytes, 0};
    ZSTD_outBuffer output = {out, out_bytes, 0};
    ZSTD_DCtx *context = ZSTD_createDCtx();

    int ret = context ? zstd_stream(context, &input, &output) : -EIO;
    ZSTD_freeDCtx(context);
    return ret;
}

/* --- by the number in the header --------------------------------------------------------------------------- */

static const struct {
    int64_t (*compress)(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes);
    int (*decompress)(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes);
} codecs[] = {
    [QCOW2_COMPRESSION_ZLIB] = {deflate_bytes, inflate_bytes},
    [QCOW2_COMPRESSION_ZSTD] = {zstd_compress, zstd_decompress},
};

int64_t qcow2_compress(unsigned type, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
    SIM_ASSERT_LT(type, ARRAY_SIZE(codecs));
    SIM_ASSERT(in_bytes > 0 && in_bytes <= INT_MAX && out_bytes <= INT_MAX);
    /* As long as the cluster itself it would be no use, and its length would not fit into an entry. */
    out_bytes = MIN(out_bytes, in_bytes - 1);
    int64_t ret = codecs[type].compress(in, in_bytes, out, out_bytes);
    SIM_ASSERT(ret < 0 || ret <= (int64_t)out_bytes);
    return ret;
}

int qcow2_decompress(unsigned type, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
    SIM_ASSERT_LT(type, ARRAY_SIZE(codecs));
    SIM_ASSERT(in_bytes <= INT_MAX && out_bytes > 0 && out_bytes <= INT_MAX);
    return codecs[type].decompress(in, in_bytes, out, out_bytes);
}
