/*
 * blkverify: the two images of a blkverify node never disagree (reference/block.md 7.2). The original ends its
 * process where the driver finds them differ.
 */
#include <inttypes.h>

#include "check/checkers.h"

static void on_mismatch(void *opaque, const struct sim_record *record)
{
    const struct check *check = opaque;
    const char *op = sim_op_name((enum sim_op)record->field[1]);
    struct violation_where where = {
        .host = check_host_name(check_host(check->sim, record->host)),
        .node = sim_record_name(record, 0)->str,
        .driver = "blkverify",
        .op = op,
    };
    int64_t at = (int64_t)record->field[4];

    if (at >= 0) {
        check_violate(check->set, "blkverify", "content", &where,
                      "%s of %" PRIu64 " bytes at %" PRIu64 ": the images differ from byte %" PRId64 " on", op,
                      record->field[3], record->field[2], at);
    } else {
        check_violate(check->set, "blkverify", "result", &where,
                      "%s of %" PRIu64 " bytes at %" PRIu64 ": the raw image says '%s', the test image '%s'", op,
                      record->field[3], record->field[2], sim_errno_text((int)record->field[5]),
                      sim_errno_text((int)record->field[6]));
    }
}

static void *attach(struct check *check)
{
    sim_subscribe(check->sim, EV_blkverify_mismatch, on_mismatch, check);
    return check;
}

const struct check_class check_blkverify = {
    .name = "blkverify",
    .doc = "the two images of a blkverify node give the same bytes and the same results",
    .rules = "content: a read found other bytes in the image under test than in the raw one\n"
             "result: one image did what the other one failed to do, or they failed in different ways\n",
    .attach = attach,
};
