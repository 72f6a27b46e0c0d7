/*
 * Extensions of a qcow2 header (reference/bitmaps-qcow2.md 5.1): type, length, data padded to 8 bytes, up to the
 * end marker or the end of the area. Those that we do not know are kept, and written again with the header.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "block/qcow2_open.h"

#define FEATURE_RECORD_BYTES 48

size_t qcow2_extensions_extent(const struct qcow2_extensions *area)
{
    size_t at = area->start;

    while (at + 8 <= area->end) {
        if (at + 8 > area->bytes) {
            return area->end;
        }
        uint32_t bytes = qcow2_get_be32(area->cluster + at + 4);
        if (qcow2_get_be32(area->cluster + at) == QCOW2_EXT_MAGIC_END || bytes > area->end - at - 8) {
            return at + 8;
        }
        at += 8 + ROUND_UP((size_t)bytes, 8);
    }
    return MIN(at, area->end);
}

int qcow2_extension_next(const struct qcow2_extensions *area, size_t *at, struct qcow2_extension *ext)
{
    if (*at + 8 > area->end) {
        return 0;
    }
    SIM_ASSERT_LE(*at + 8, area->bytes);
    ext->magic = qcow2_get_be32(area->cluster + *at);
    ext->bytes = qcow2_get_be32(area->cluster + *at + 4);
    ext->data = area->cluster + *at + 8;
    if (ext->magic == QCOW2_EXT_MAGIC_END) {
        return 0;
    }
    if (ext->bytes > area->end - *at - 8) {
        return -EINVAL;
    }
    SIM_ASSERT_LE(*at + 8 + ext->bytes, area->bytes);
    *at += 8 + ROUND_UP((size_t)ext->bytes, 8);
    return 1;
}

/* --- features that we do not have --------------------------------------------------------------------------- */

static void add_name(char *text, size_t room, const char *name, size_t bytes)
{
    size_t used = strlen(text);

    snprintf(text + used, room - used, "%s%.*s", used ? ", " : "", (int)bytes, name);
}

/* Names from the image's table, which thus leave *features. */
static void add_named(const struct qcow2_extension *ext, uint64_t *features, char *text, size_t room)
{
    for (uint32_t at = 0; at + FEATURE_RECORD_BYTES <= ext->bytes; at += FEATURE_RECORD_BYTES) {
        const uint8_t *record = ext->data + at;
        if (record[0] == 0 && record[1] < 64 && (*features & 1ULL << record[1])) {
            add_name(text, room, (const char *)record + 2, FEATURE_RECORD_BYTES - 2);
            *features &= ~(1ULL << record[1]);
        }
    }
}

void qcow2_report_unsupported(const struct qcow2_extensions *area, uint64_t features, Error **errp)
{
    char text[64 * (FEATURE_RECORD_BYTES + 2)] = "";
    struct qcow2_extension ext;
    size_t at = area->start;

    while (qcow2_extension_next(area, &at, &ext) > 0) {
        if (ext.magic == QCOW2_EXT_MAGIC_FEATURE_TABLE) {
            add_named(&ext, &features, text, sizeof(text));
        }
    }
    if (features) {
        char rest[64];
        snprintf(rest, sizeof(rest), "Unknown incompatible feature: %" PRIx64, features);
        add_name(text, sizeof(text), rest, sizeof(rest));
    }
    error_setg(errp, "Unsupported qcow2 feature(s): %s", text);
}

/* --- each of them --------------------------------------------------------------------------------------------- */

static int load_backing_format(BlockDriverState *bs, const struct qcow2_extension *ext,
                               struct qcow2_extensions_found *found, Error **errp)
{
    if (ext->bytes > QCOW2_MAX_BACKING_FORMAT) {
        error_setg(errp, "ERROR: ext_backing_format: len=%" PRIu32 " too large (>=%d)", ext->bytes,
                   QCOW2_MAX_BACKING_FORMAT + 1);
        return -EINVAL;
    }
    memcpy(found->backing_format, ext->data, ext->bytes);
    found->backing_format[ext->bytes] = 0;
    return 0;
}

/* Records that we write ourselves, from our own list. */
static int skip(BlockDriverState *bs, const struct qcow2_extension *ext, struct qcow2_extensions_found *found,
                Error **errp)
{
    return 0;
}

static int load_crypto(BlockDriverState *bs, const struct qcow2_extension *ext,
                       struct qcow2_extensions_found *found, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;

    if (s->crypt_method_header != 2) {
        error_setg(errp, "CRYPTO header extension only expected with LUKS encryption method");
        return -EINVAL;
    }
    if (ext->bytes != 16) {
        error_setg(errp, "CRYPTO header extension size %" PRIu32 ", but expected size 16", ext->bytes);
        return -EINVAL;
    }
    found->crypto = true;
    return 0;
}

static int load_bitmaps(BlockDriverState *bs, const struct qcow2_extension *ext,
                        struct qcow2_extensions_found *found, Error **errp)
{
    return qcow2_read_bitmaps_extension(bs, ext->data, ext->bytes, errp);
}

static int load_data_file(BlockDriverState *bs, const struct qcow2_extension *ext,
                          struct qcow2_extensions_found *found, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    size_t length = strnlen((const char *)ext->data, ext->bytes);

    if (s->image_data_file) {
        error_setg(errp, "More than one name of a data file");
        return -EINVAL;
    }
    s->image_data_file = qcow2_strdup(bs, (const char *)ext->data, length);
    return 0;
}

static int keep_unknown(BlockDriverState *bs, const struct qcow2_extension *ext)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2UnknownExtension *keep = qcow2_alloc(bs, sizeof(*keep));

    keep->magic = ext->magic;
    keep->bytes = ext->bytes;
    keep->data = qcow2_alloc(bs, ext->bytes);
    if (ext->bytes > 0) {
        memcpy(keep->data, ext->data, ext->bytes);
    }
    STAILQ_INSERT_TAIL(&s->unknown_header_ext, keep, next);
    return 0;
}

static const struct {
    uint32_t magic;
    int (*load)(BlockDriverState *bs, const struct qcow2_extension *ext, struct qcow2_extensions_found *found,
                Error **errp);
} known[] = {
    {QCOW2_EXT_MAGIC_BACKING_FORMAT, load_backing_format}, {QCOW2_EXT_MAGIC_FEATURE_TABLE, skip},
    {QCOW2_EXT_MAGIC_CRYPTO_HEADER, load_crypto},          {QCOW2_EXT_MAGIC_BITMAPS, load_bitmaps},
    {QCOW2_EXT_MAGIC_DATA_FILE, load_data_file},
};

static int load_extension(BlockDriverState *bs, const struct qcow2_extension *ext,
                          struct qcow2_extensions_found *found, Error **errp)
{
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (known[i].magic == ext->magic) {
            return known[i].load(bs, ext, found, errp);
        }
    }
    return keep_unknown(bs, ext);
}

int qcow2_extensions_load(BlockDriverState *bs, const struct qcow2_extensions *area,
                          struct qcow2_extensions_found *found, Error **errp)
{
    struct qcow2_extension ext;
    size_t at = area->start;
    int ret;

    while ((ret = qcow2_extension_next(area, &at, &ext)) > 0) {
        ret = load_extension(bs, &ext, found, errp);
        if (ret < 0) {
            return ret;
        }
    }
    if (ret < 0) {
        error_setg(errp, "Header extension too large");
    }
    return ret;
}
