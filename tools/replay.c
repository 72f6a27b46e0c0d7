/*
 * The model of a guest's disk, for judging a run: what an image must look like after a recorded stream of writes.
 *
 *     replay apply IOLOG IMAGE OUT     writes OUT: IMAGE with the log's writes applied in order
 *     replay changed A B               prints the numbers of the sectors in which two images of one size differ
 *
 * A write carries a stamp in each sector: tag = write number << 32 | sector number, the first write of a run being
 * number 1, and the tag is expanded to 512 bytes as sim/payload.h documents. This program shares no code with
 * blksim on purpose: a mistake in blksim's payloads, media or block layer cannot hide in its own judge.
 *
 * Exit status: 0 done, 2 bad usage or input.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512

struct image {
    unsigned char *bytes;
    uint64_t size;
};

static void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fputs("replay: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(2);
}

static struct image load(const char *path)
{
    FILE *in = fopen(path, "rb");
    struct image image = {.bytes = NULL};
    long size;

    if (!in || fseek(in, 0, SEEK_END) != 0 || (size = ftell(in)) < 0) {
        die("cannot read %s", path);
    }
    rewind(in);
    image.size = (uint64_t)size;
    image.bytes = malloc(image.size + 1);
    if (!image.bytes || fread(image.bytes, 1, image.size, in) != image.size) {
        die("cannot read %s", path);
    }
    fclose(in);
    return image;
}

static void save(const char *path, const struct image *image)
{
    FILE *out = fopen(path, "wb");

    if (!out || fwrite(image->bytes, 1, image->size, out) != image->size || fclose(out) != 0) {
        die("cannot write %s", path);
    }
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t word_of(uint64_t tag, unsigned i)
{
    switch (i) {
    case 0:
        return tag;
    case 1:
        return ~tag;
    case 63:
        return tag ^ UINT64_C(0x626c6b73696d2d74);
    default:
        return mix(tag + i * UINT64_C(0x9e3779b97f4a7c15));
    }
}

static void put_stamp(unsigned char *sector, uint64_t tag)
{
    for (unsigned i = 0; i < SECTOR; i++) {
        sector[i] = (unsigned char)(word_of(tag, i / 8) >> (i % 8 * 8));
    }
}

static void apply(const char *log, struct image *image)
{
    FILE *in = fopen(log, "r");
    char line[512];
    uint64_t number = 0;

    if (!in) {
        die("cannot read %s", log);
    }
    while (fgets(line, sizeof(line), in)) {
        char action[16];
        uint64_t offset;
        uint64_t bytes;

        if (sscanf(line, "%*u %*s %15s %" SCNu64 " %" SCNu64, action, &offset, &bytes) != 3 ||
            strcmp(action, "write") != 0) {
            continue;
        }
        if (offset % SECTOR || bytes % SECTOR || offset > image->size || bytes > image->size - offset) {
            die("%s: write of %" PRIu64 " bytes at %" PRIu64 ", expected whole sectors of the image", log, bytes,
                offset);
        }
        number++;
        for (uint64_t at = offset; at < offset + bytes; at += SECTOR) {
            put_stamp(image->bytes + at, number << 32 | (at / SECTOR & UINT32_MAX));
        }
    }
    fclose(in);
}

static void print_changed(const struct image *a, const struct image *b)
{
    if (a->size != b->size) {
        die("images of %" PRIu64 " and %" PRIu64 " bytes", a->size, b->size);
    }
    for (uint64_t at = 0; at < a->size; at += SECTOR) {
        uint64_t n = a->size - at < SECTOR ? a->size - at : SECTOR;

        if (memcmp(a->bytes + at, b->bytes + at, n) != 0) {
            printf("%" PRIu64 "\n", at / SECTOR);
        }
    }
}

int main(int argc, char **argv)
{
    struct image a;
    struct image b;

    if (argc == 5 && strcmp(argv[1], "apply") == 0) {
        a = load(argv[3]);
        apply(argv[2], &a);
        save(argv[4], &a);
        free(a.bytes);
        return 0;
    }
    if (argc == 4 && strcmp(argv[1], "changed") == 0) {
        a = load(argv[2]);
        b = load(argv[3]);
        print_changed(&a, &b);
        free(a.bytes);
        free(b.bytes);
        return 0;
    }
    die("usage: replay apply IOLOG IMAGE OUT | replay changed A B");
}
