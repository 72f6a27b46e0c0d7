/* Protects counts and hashes of dirty bitmaps against those recorded from QEMU (tests/vectors), byte for byte. */
#include "tests/vm/vmlib.h"

#include <inttypes.h>

#include "block/dirty-bitmap.h"
#include "monitor/monitor.h"

#define TABLE "tests/vectors/bitmap-sha256.tsv"
#define ROWS 40

struct row {
    char id[8], size[24], granularity[24], ops[512], count[24], sha256[72];
};

struct op {
    BlockBackend *blk;
    char code;
    int64_t a, b; /* offset and length, or one of a size and a granularity */
    int ret;
};

static struct row rows[ROWS];

static void read_rows(void)
{
    FILE *file = fopen(TABLE, "r");
    char *line = NULL;
    size_t room = 0;
    size_t n = 0;

    if (!file) {
        fail_msg("%s: %s; the tests run in the folder above them", TABLE, strerror(errno));
    }
    while (getline(&line, &room, file) > 0) {
        char *rest = line;
        struct row *row = &rows[n];
        char *const to[] = {row->id, row->size, row->granularity, row->ops, row->count, row->sha256};
        const size_t bytes[] = {sizeof(row->id),  sizeof(row->size),  sizeof(row->granularity),
                                sizeof(row->ops), sizeof(row->count), sizeof(row->sha256)};

        if (line[0] == '#') {
            continue;
        }
        assert_true(n < ROWS);
        for (size_t i = 0; i < ARRAY_SIZE(to); i++) {
            const char *field = strsep(&rest, "\t\n");
            assert_non_null(field);
            assert_true(strlen(field) < bytes[i]);
            strcpy(to[i], field);
        }
        n++;
    }
    free(line);
    fclose(file);
    assert_int_equal(n, ROWS);
}

/* --- commands ------------------------------------------------------------------------------------------- */

static void call_done(struct qmp_call *call)
{
    *(bool *)call->opaque = true;
}

static bool is_set(void *opaque)
{
    return *(bool *)opaque;
}

/* The caller frees the reply. */
static struct qvalue *command(const char *name, const char *json)
{
    bool done = false;
    struct qmp_call call = {
        .command = qmp_find_command(name), .args = bed_json(json), .done = call_done, .opaque = &done};

    assert_non_null(call.command);
    monitor_submit(bed.host, &call);
    assert_int_equal(sim_run_idle(bed.sim, is_set, &done, sim_now(bed.sim) + BED_PATIENCE_NS), SIM_STOP_COND);
    if (call.err) {
        fail_msg("%s %s: %s", name, json, error_get_pretty(call.err));
    }
    qvalue_free(call.args);
    return call.reply;
}

static void on_bitmap(const char *command_name, const char *bitmap, const char *more)
{
    char *json;

    assert_true(asprintf(&json, "{\"node\":\"n\",\"%s\":\"%s\"%s}",
                         strcmp(command_name, "block-dirty-bitmap-merge") == 0 ? "target" : "name", bitmap,
                         more) > 0);
    qvalue_free(command(command_name, json));
    free(json);
}

static void add_bitmap(const char *bitmap, int64_t granularity)
{
    char more[64];

    snprintf(more, sizeof(more), ",\"granularity\":%" PRId64, granularity);
    on_bitmap("block-dirty-bitmap-add", bitmap, more);
}

static void resize(int64_t size_bytes)
{
    char json[96];

    snprintf(json, sizeof(json), "{\"node-name\":\"n\",\"size\":%" PRId64 "}", size_bytes);
    qvalue_free(command("block_resize", json));
}

/* --- operations ------------------------------------------------------------------------------------------ */

static void request_entry(void *opaque)
{
    struct op *op = opaque;
    struct payload data;

    payload_init(bed.sim, &data);
    if (op->code == 'W') {
        payload_append_fill(&data, 0x11, op->b);
        op->ret = blk_co_pwritev(op->blk, op->a, op->b, &data, 0);
    } else if (op->code == 'Z') {
        op->ret = blk_co_pwrite_zeroes(op->blk, op->a, op->b, BDRV_REQ_MAY_UNMAP);
    } else {
        op->ret = blk_co_pdiscard(op->blk, op->a, op->b);
    }
    payload_clear(&data);
}

static void request(struct op *op)
{
    op->ret = -EINPROGRESS;
    coroutine_start(coroutine_create(bed.sim, bed.host, "request", request_entry, op));
    bed_settle();
    assert_int_equal(op->ret, 0);
}

static void perform(struct op *op)
{
    switch (op->code) {
    case 'W':
    case 'Z':
    case 'D':
        request(op);
        break;
    case 'C':
        on_bitmap("block-dirty-bitmap-clear", "b", "");
        break;
    case 'X':
        on_bitmap("block-dirty-bitmap-disable", "b", "");
        break;
    case 'E':
        on_bitmap("block-dirty-bitmap-enable", "b", "");
        break;
    case 'R':
        resize(op->a);
        break;
    case 'S':
        add_bitmap("s", op->a);
        break;
    case 'M':
        on_bitmap("block-dirty-bitmap-merge", "b", ",\"bitmaps\":[\"s\"]");
        break;
    case 'Q':
        on_bitmap("block-dirty-bitmap-remove", "s", "");
        break;
    default:
        fail_msg("unknown operation '%c'", op->code);
    }
}

/* --- a row ----------------------------------------------------------------------------------------------- */

static const struct row *current_row;
static BlockBackend *current_blk;

static void open_node(void *opaque)
{
    struct disk_config config;
    struct qvalue *options =
        bed_json("{\"driver\":\"disk\",\"node-name\":\"n\",\"disk\":\"v\",\"discard\":\"unmap\"}");

    disk_config_default(&config);
    config.size_bytes = strtoll(current_row->size, NULL, 10);
    config.align_bytes = 1;
    assert_non_null(disk_new(bed.sim, "v", &config, NULL));
    BlockDriverState *bs = qmp_blockdev_add_node(bed.host, options, NULL);
    assert_non_null(bs);
    qvalue_free(options);
    current_blk = blk_new(bed.host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(current_blk, bs, NULL), 0);
}

static void close_node(void *opaque)
{
    blk_unref(current_blk);
    assert_true(qmp_blockdev_del_node(bed.host, "n", NULL));
}

static void check_bitmap(const struct row *row)
{
    const BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(bdrv_find_node(bed.host, "n"), "b");
    struct qvalue *reply = command("x-debug-block-dirty-bitmap-sha256", "{\"node\":\"n\",\"name\":\"b\"}");
    const struct qvalue *hash = qdict_get(reply, "sha256");

    assert_non_null(hash);
    if (strcmp(hash->str.bytes, row->sha256) != 0 || bdrv_get_dirty_count(bitmap) != atoll(row->count)) {
        fail_msg("%s (%s): %" PRId64 " %s", row->id, row->ops, bdrv_get_dirty_count(bitmap), hash->str.bytes);
    }
    qvalue_free(reply);
}

static void run_row(const struct row *row)
{
    char ops[sizeof(row->ops)];
    char *rest = strcpy(ops, row->ops);
    const char *text;

    current_row = row;
    bed_setup(NULL);
    monitor_init(bed.host);
    bed_on_main(open_node);
    add_bitmap("b", strtoll(row->granularity, NULL, 10));
    while ((text = strsep(&rest, ";"))) {
        struct op op = {.blk = current_blk};
        if (sscanf(text, " %c %" SCNd64 " %" SCNd64, &op.code, &op.a, &op.b) > 0) {
            perform(&op);
        }
    }
    check_bitmap(row);
    bed_on_main(close_node);
    bed_teardown_with(monitor_cleanup);
}

/* fact: bitmaps 1.7/vectors, 2.3/padded */
static void test_recorded(void **state)
{
    read_rows();
    for (size_t i = 0; i < ROWS; i++) {
        run_row(&rows[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/bitmap-vectors/recorded", test_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
