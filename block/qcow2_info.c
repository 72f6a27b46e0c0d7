/* What a qcow2 image says of itself, for queries and `img info`. */
#include "block/qcow2_open.h"

/* In the order in which qemu-img prints them. */
static void put_v3_info(BlockDriverState *bs, struct qvalue *data)
{
    BDRVQcow2State *s = bs->opaque;

    qdict_put(data, "lazy-refcounts", qvalue_bool(s->compatible_features & QCOW2_COMPAT_LAZY_REFCOUNTS));
    co_mutex_lock(&s->lock);
    struct qvalue *bitmaps = qcow2_bitmap_info_list(bs);
    co_mutex_unlock(&s->lock);
    if (bitmaps) {
        qdict_put(data, "bitmaps", bitmaps);
    }
    qdict_put(data, "refcount-bits", qvalue_int(s->refcount_bits));
    qdict_put(data, "corrupt", qvalue_bool(s->incompatible_features & QCOW2_INCOMPAT_CORRUPT));
    if (s->image_data_file) {
        qdict_put(data, "data-file", qvalue_str(s->image_data_file));
    }
    if (has_data_file(bs)) {
        qdict_put(data, "data-file-raw", qvalue_bool(s->data_file_is_raw));
    }
    qdict_put(data, "extended-l2", qvalue_bool(has_subclusters(s)));
}

struct qvalue *qcow2_co_get_specific_info(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;

    if (!qcow2_usable(bs)) {
        return NULL;
    }
    struct qvalue *data = qvalue_dict();
    qdict_put(data, "compat", qvalue_str(s->qcow_version >= 3 ? "1.1" : "0.10"));
    qdict_put(data, "compression-type",
              qvalue_str(s->compression_type == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib"));
    if (s->qcow_version >= 3) {
        put_v3_info(bs, data);
    } else {
        qdict_put(data, "refcount-bits", qvalue_int(s->refcount_bits));
    }
    struct qvalue *info = qvalue_dict();
    qdict_put(info, "type", qvalue_str("qcow2"));
    qdict_put(info, "data", data);
    return info;
}
