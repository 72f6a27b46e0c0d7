/*
 * A medium and what its headers say lies below it: a chain of disks of the world, read without the driver.
 */
#include "check/qcow2_int.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct qcow2_chain {
    struct sim *sim;
    struct qcow2_source raw;   /* of a raw layer */
    struct qcow2_image *image; /* NULL: raw */
    struct qcow2_chain *below; /* NULL: nothing */
};

#define CHAIN_MAX 64

static const struct disk *find_disk(struct sim *sim, const char *name, Error **errp)
{
    const struct disk *disk = disk_find(sim, name);

    if (!disk) {
        error_setg(errp, "there is no disk '%s'", name);
    }
    return disk;
}

static bool open_data(struct qcow2_chain *chain, Error **errp)
{
    const struct disk *disk;

    if (!chain->image->external_data) {
        return true;
    }
    disk = chain->image->data_file ? find_disk(chain->sim, chain->image->data_file, errp) : NULL;
    if (!disk) {
        if (!chain->image->data_file) {
            error_setg(errp, "the image does not name its data file");
        }
        return false;
    }
    qcow2_image_set_data(chain->image, qcow2_source_of_disk(disk));
    return true;
}

static struct qcow2_chain *open_layer(struct sim *sim, const char *name, const char *format, Error **errp)
{
    const struct disk *disk = find_disk(sim, name, errp);
    struct qcow2_chain *chain;

    if (!disk) {
        return NULL;
    }
    chain = qcow2_image_alloc(1, sizeof(*chain));
    chain->sim = sim;
    chain->raw = qcow2_source_of_disk(disk);
    if (format ? strcmp(format, "qcow2") != 0 : !qcow2_source_is_image(chain->raw)) {
        return chain;
    }
    chain->image = qcow2_image_read(chain->raw);
    if (chain->image->error[0]) {
        error_setg(errp, "disk '%s': %s", name, chain->image->error);
    } else if (open_data(chain, errp)) {
        return chain;
    }
    qcow2_chain_free(chain);
    return NULL;
}

bool qcow2_chain_was_made_over(const struct qcow2_chain *chain)
{
    for (const struct qcow2_chain *layer = chain->below; layer; layer = layer->below) {
        if (!layer->image && qcow2_source_is_image(layer->raw)) {
            return true;
        }
    }
    return false;
}

struct qcow2_chain *qcow2_chain_open(struct sim *sim, const char *disk, const char *format, Error **errp)
{
    struct qcow2_chain *top = open_layer(sim, disk, format, errp);
    struct qcow2_chain *layer = top;

    for (unsigned depth = 1; layer && layer->image && layer->image->backing_file; depth++) {
        if (depth == CHAIN_MAX) {
            error_setg(errp, "more than %d images stand on each other", CHAIN_MAX);
        } else {
            layer->below = open_layer(sim, layer->image->backing_file, layer->image->backing_format, errp);
        }
        if (!layer->below) {
            qcow2_chain_free(top);
            return NULL;
        }
        layer = layer->below;
    }
    return top;
}

void qcow2_chain_free(struct qcow2_chain *chain)
{
    while (chain) {
        struct qcow2_chain *below = chain->below;

        qcow2_image_free(chain->image);
        free(chain);
        chain = below;
    }
}

int64_t qcow2_chain_size(const struct qcow2_chain *chain)
{
    return chain->image ? chain->image->size : chain->raw.length;
}

struct qcow2_image *qcow2_chain_image(struct qcow2_chain *chain)
{
    return chain->image;
}

/* Of the layers below only, each zero beyond its own end. */
struct below_call {
    struct qcow2_chain *chain;
    bool ok;
};

static void view_below(void *opaque, int64_t offset, int64_t bytes, struct payload *out)
{
    struct below_call *call = opaque;
    int64_t there = MAX(MIN(bytes, qcow2_chain_size(call->chain) - offset), 0);

    if (there > 0) {
        call->ok &= qcow2_chain_view(call->chain, QCOW2_ACTIVE, offset, there, out);
    }
    if (there < bytes) {
        payload_append_zero(out, bytes - there);
    }
}

bool qcow2_chain_view(struct qcow2_chain *chain, int snapshot, int64_t offset, int64_t bytes, struct payload *out)
{
    struct below_call call = {chain->below, true};
    bool ok = true;

    if (chain->image) {
        ok = qcow2_image_view(chain->image, snapshot, offset, bytes, chain->below ? view_below : NULL, &call, out);
        return ok && call.ok;
    }
    SIM_ASSERT(snapshot == QCOW2_ACTIVE);
    int64_t there = MAX(MIN(bytes, chain->raw.length - offset), 0);
    if (there > 0) {
        chain->raw.peek(chain->raw.opaque, offset, there, out);
    }
    if (there < bytes) {
        payload_append_zero(out, bytes - there);
    }
    return true;
}

bool qcow2_chain_sha256(struct qcow2_chain *chain, int snapshot, char hex[QCOW2_SHA256_HEX])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int64_t size = qcow2_chain_size(chain);
    uint8_t digest[32];
    uint8_t *buf = qcow2_image_alloc(64 * KiB, 1);
    bool ok = true;

    SIM_ASSERT(ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1);
    for (int64_t at = 0; at < size;) {
        int64_t bytes = MIN(size - at, (int64_t)64 * KiB);
        struct payload data;

        payload_init(chain->sim, &data);
        ok &= qcow2_chain_view(chain, snapshot, at, bytes, &data);
        payload_read_bytes(&data, 0, buf, bytes);
        payload_clear(&data);
        EVP_DigestUpdate(ctx, buf, (size_t)bytes);
        at += bytes;
    }
    EVP_DigestFinal_ex(ctx, digest, NULL);
    EVP_MD_CTX_free(ctx);
    free(buf);
    qcow2_hex(digest, hex);
    return ok;
}
