/*
 * What format content looks like (reference/block.md 2.15): drivers know their own, and formats that this program
 * has no driver for are known by the signatures that their files begin with. A guest that writes one of those over
 * the start of an image would make other programs take the image for something else.
 */
#include <string.h>

#include "block/block_int.h"

static const struct {
    const char *format;
    unsigned offset;
    const char *bytes;
    unsigned count;
} signatures[] = {
    {"qcow2", 0, "QFI\xfb", 4},
    {"qed", 0, "QED\0", 4},
    {"luks", 0, "LUKS\xba\xbe", 6},
    {"vmdk", 0, "KDMV", 4},
    {"vmdk", 0, "COWD", 4},
    {"vhdx", 0, "vhdxfile", 8},
    {"vpc", 0, "conectix", 8},
    {"parallels", 0, "WithoutFreeSpace", 16},
    {"parallels", 0, "WithouFreSpacExt", 16},
    {"vdi", 64, "\x7f\x10\xda\xbe", 4},
};

const char *bdrv_probe_format(const uint8_t *head, size_t bytes)
{
    const BlockDriver *drv;
    const char *found = "raw";
    int best = 0;

    SIM_ASSERT(head != NULL || bytes == 0);
    for (size_t i = 0; (drv = bdrv_driver_at(i)) != NULL; i++) {
        int score = drv->bdrv_probe ? drv->bdrv_probe(head, bytes) : 0;
        if (score > best) {
            best = score;
            found = drv->format_name;
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(signatures) && best == 0; i++) {
        if (bytes >= signatures[i].offset + signatures[i].count &&
            memcmp(head + signatures[i].offset, signatures[i].bytes, signatures[i].count) == 0) {
            return signatures[i].format;
        }
    }
    return found;
}
