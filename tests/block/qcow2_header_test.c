/* Protects what an open accepts of a qcow2 header, what it says of the rest, and what a rewrite keeps (5.1). */
#include "tests/block/qcow2_lib.h"

#define MALFORMED_ROWS 71

/* --- every row of malformed.tsv ----------------------------------------------------------------------------------
 */

struct row {
    char *id, *mode, *edits, *result, *message, *what;
};

static unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
}

/* "offset:hex" or "offset:hex+61*N", which grows the image as needed. */
static void apply_edit(const char *edit, uint8_t **image, size_t *bytes)
{
    char *at;
    size_t offset = strtoul(edit, &at, 16);
    size_t count = 0;
    uint8_t data[4096];

    assert_int_equal(*at, ':');
    for (at++; *at && *at != '+'; at += 2) {
        assert_true(count < sizeof(data));
        data[count++] = (uint8_t)(hex_digit(at[0]) << 4 | hex_digit(at[1]));
    }
    if (*at == '+') {
        size_t more = strtoul(at + 4, NULL, 10);
        assert_true(count + more <= sizeof(data));
        memset(data + count, 0x61, more);
        count += more;
    }
    if (offset + count > *bytes) {
        *image = realloc(*image, ROUND_UP(offset + count, (size_t)512));
        memset(*image + *bytes, 0, ROUND_UP(offset + count, (size_t)512) - *bytes);
        *bytes = ROUND_UP(offset + count, (size_t)512);
    }
    memcpy(*image + offset, data, count);
}

static struct disk *edited_disk(struct world *w, const struct row *row)
{
    size_t bytes;
    uint8_t *file = read_vector("v3-empty-64k.qcow2", &bytes);
    uint8_t *image = calloc(1, ROUND_UP(bytes, (size_t)512));
    char *rest = NULL;

    memcpy(image, file, bytes);
    free(file);
    bytes = ROUND_UP(bytes, (size_t)512);
    for (char *edit = strtok_r(row->edits, ",", &rest); edit; edit = strtok_r(NULL, ",", &rest)) {
        apply_edit(edit, &image, &bytes);
    }
    struct disk *disk = make_disk(w, row->id, (int64_t)bytes);
    poke(w, disk, 0, image, bytes);
    free(image);
    return disk;
}

static void check_row(struct world *w, const struct row *row)
{
    struct disk *disk = edited_disk(w, row);
    uint64_t before = content_of(w, disk);
    bool read_only = strcmp(row->mode, "ro") == 0;
    Error *err = NULL;
    char text[256];

    snprintf(text, sizeof(text),
             "{'node-name':'n','driver':'qcow2','read-only':%s,'file':{'driver':'disk','disk':'%s'}}",
             read_only ? "true" : "false", row->id);
    BlockDriverState *bs = try_add(w, text, &err);
    if (strcmp(row->result, "ok") == 0) {
        if (!bs) {
            fail_msg("%s (%s): %s", row->id, row->what, error_get_pretty(err));
        }
        expect_bytes(bs, 0, 0, 512);
        del(w, "n");
    } else {
        if (bs) {
            fail_msg("%s (%s): opened, expected '%s'", row->id, row->what, row->message);
        }
        if (strcmp(error_get_pretty(err), row->message) != 0) {
            fail_msg("%s (%s): '%s', expected '%s'", row->id, row->what, error_get_pretty(err), row->message);
        }
    }
    if (read_only || !bs) {
        assert_true(content_of(w, disk) == before);
    }
    error_free(err);
}

/* fact: qcow2 5.1/header, 5.1/acceptances, 8/malformed, 5.1/corrupt-bit, edge/26,
 * edge/40, 4.2/structural, 4.2/bit-without-extension */
WORLD_TEST(test_malformed)
{
    size_t bytes;
    char *text = (char *)read_vector("malformed.tsv", &bytes);
    char *rest = NULL;
    unsigned rows = 0;

    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *cell[6];
        char *at = line;
        if (line[0] == '#') {
            continue;
        }
        for (unsigned i = 0; i < 6; i++) {
            cell[i] = strsep(&at, "\t");
            assert_non_null(cell[i]);
        }
        struct row row = {cell[0], cell[1], cell[2], cell[3], cell[4], cell[5]};
        check_row(w, &row);
        rows++;
    }
    assert_int_equal(rows, MALFORMED_ROWS);
    free(text);
}

/* --- rewriting ---------------------------------------------------------------------------------------------------
 */

static int rewrite(void *opaque)
{
    BlockDriverState *bs = opaque;
    BDRVQcow2State *s = bs->opaque;

    co_mutex_lock(&s->lock);
    int ret = qcow2_update_header(bs);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* header_length 120 with eight bytes of a later version's, an extension that nobody knows, bits likewise. */
static struct disk *strange_image(struct world *w)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576,'cluster-size':4096}");
    static const uint8_t ext[24] = {0x12, 0x34, 0x56, 0x78, 0,   0,   0,   11,  'h', 'e',
                                    'l',  'l',  'o',  ' ',  'w', 'o', 'r', 'l', 'd'};

    poke_be(w, disk, 100, 120, 4);
    poke_be(w, disk, 112, 0x1122334455667788, 8);
    for (unsigned i = 0; i < sizeof(ext); i++) {
        poke_be(w, disk, 120 + i, ext[i], 1);
    }
    poke_be(w, disk, 80, 0xff00, 8);
    return disk;
}

/* fact: qcow2 5.1/unknown-header-bytes, 5.1/unknown-extensions, edge/39 */
WORLD_TEST(test_unknown_kept)
{
    struct disk *disk = strange_image(w);
    uint64_t before = content_of(w, disk);
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");

    assert_int_equal(bdrv_run_co(w->host, "rewrite", rewrite, bs), 0);
    assert_true(content_of(w, disk) == before);
    assert_int_equal(bdrv_change_backing_file(bs, "elsewhere", "raw"), 0);
    assert_int_equal(peek_be(w, disk, 112, 8), 0x1122334455667788);
    assert_int_equal(peek_be(w, disk, 120, 4), QCOW2_EXT_MAGIC_BACKING_FORMAT);
    assert_int_equal(peek_be(w, disk, 136, 4), 0x12345678);
    assert_int_equal(peek_be(w, disk, 140, 4), 11);
    assert_int_equal(peek_be(w, disk, 80, 8), 0xff00);
    del(w, "n");
}

/* fact: qcow2 5.1/unknown-autoclear, edge/41 */
WORLD_TEST(test_unknown_autoclear)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576}");

    poke_be(w, disk, 88, 0xff00, 8);
    add(w, "{'node-name':'n','read-only':true," Q_FILE("d") "}");
    del(w, "n");
    assert_int_equal(peek_be(w, disk, 88, 8), 0xff00); /* nobody could have written */
    add(w, "{'node-name':'n'," Q_FILE("d") "}");
    assert_int_equal(peek_be(w, disk, 88, 8), 0);
    del(w, "n");
}

/* fact: qcow2 5.1/unknown-autoclear */
WORLD_TEST(test_unknown_autoclear_reopen)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576}");
    Error *err = NULL;

    poke_be(w, disk, 88, 0xff00, 8);
    BlockDriverState *bs = add(w, "{'node-name':'n','read-only':true," Q_FILE("d") "}");
    assert_int_equal(bdrv_reopen_set_read_only(bs, false, &err), 0);
    assert_int_equal(peek_be(w, disk, 88, 8), 0);
    del(w, "n");
}

/* fact: qcow2 5.1/extension-order, 5.1/feature-names */
WORLD_TEST(test_order)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576,'backing-file':'b','backing-fmt':'raw'}");

    assert_int_equal(peek_be(w, disk, 112, 4), QCOW2_EXT_MAGIC_BACKING_FORMAT);
    assert_int_equal(peek_be(w, disk, 128, 4), QCOW2_EXT_MAGIC_FEATURE_TABLE);
    assert_int_equal(peek_be(w, disk, 132, 4), 8 * 48);
    assert_int_equal(peek_be(w, disk, 136 + 8 * 48, 8), 0);
    assert_int_equal(peek_be(w, disk, 8, 8), 144 + 8 * 48);
    assert_int_equal(peek_be(w, disk, 16, 4), 1);
    assert_int_equal(peek_be(w, disk, 144 + 8 * 48, 1), 'b');
    struct disk *small = make_image(w, "small", "{'size':1048576,'cluster-size':4096}");
    assert_int_equal(peek_be(w, small, 112, 8), 0);
}

/* fact: qcow2 5.1/fits */
WORLD_TEST(test_fits)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576,'cluster-size':512}");
    uint64_t before = content_of(w, disk);
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");
    char name[512];

    memset(name, 'x', sizeof(name));
    name[512 - 112 - 16 - 8] = 0; /* fields, format, end */
    assert_int_equal(bdrv_change_backing_file(bs, name, "raw"), 0);
    assert_int_equal(peek_be(w, disk, 511, 1), 'x');
    name[512 - 112 - 16 - 8] = 'x';
    name[512 - 112 - 16 - 7] = 0;
    assert_int_equal(bdrv_change_backing_file(bs, name, "raw"), -ENOSPC);
    assert_int_equal(strlen(bdrv_backing_filename(bs)), 512 - 112 - 16 - 8);
    assert_int_equal(bdrv_change_backing_file(bs, NULL, NULL), 0);
    assert_true(content_of(w, disk) == before);
    del(w, "n");
}

/* A name that the image itself has for a feature is what its user is told. */
/* fact: qcow2 5.1/header */
WORLD_TEST(test_feature_name)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576}");
    Error *err = NULL;

    poke_be(w, disk, 72, 0xa0, 8);
    poke_be(w, disk, 121, 5, 1); /* "dirty bit" belongs to bit 5 now */
    assert_null(try_add(w, "{'node-name':'n'," Q_FILE("d") "}", &err));
    expect_error(&err, "Unsupported qcow2 feature(s): dirty bit, Unknown incompatible feature: 80");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/header/malformed", test_malformed),
        T("/qcow2/header/unknown-kept", test_unknown_kept),
        T("/qcow2/header/unknown-autoclear", test_unknown_autoclear),
        T("/qcow2/header/unknown-autoclear-reopen", test_unknown_autoclear_reopen),
        T("/qcow2/header/extension-order", test_order),
        T("/qcow2/header/fits", test_fits),
        T("/qcow2/header/feature-name", test_feature_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
