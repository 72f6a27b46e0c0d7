/* Protects bitmaps stored by real tools: what they hold, what is refused, and the recorded operation lists once
 * more over qcow2, with a store and a load between. */
#include <unistd.h>

#include "tests/block/qcow2_bitmap_lib.h"

/* --- images --------------------------------------------------------------------------------------------------- */

/* Columns of a line, divided by tabs; the line is cut up. */
static size_t split(char *line, char **field, size_t room)
{
    size_t n = 0;
    line[strcspn(line, "\n")] = '\0';
    for (char *rest = line, *one; n < room && (one = strsep(&rest, "\t")) != NULL;) {
        field[n++] = one;
    }
    return n;
}

static const char sixteen_ones[] = "3d73c71ad63f39a8a47bee131c1705f2b8c446a26c36ce5a9b6e6e4162fc9f86";

static void expect_bitmap(struct image *i, char **field)
{
    char hash[65];
    const BdrvDirtyBitmap *b = bitmap(i, field[2]);
    assert_true(bdrv_dirty_bitmap_sha256(b, hash));
    /* The recorded hash of "ones" is that of eight bytes 0xff: 48 of these bits lie behind the end of the disk,
     * where the original keeps what it finds, until the disk grows and they are dirt [HOLE]. Ours are cut off. */
    assert_string_equal(hash, strcmp(field[2], "ones") == 0 ? sixteen_ones : field[7]);
    assert_int_equal(bdrv_dirty_bitmap_granularity(b), atoll(field[3]));
    assert_int_equal(bdrv_get_dirty_count(b), atoll(field[4]));
    assert_string_equal(bdrv_dirty_bitmap_recording(b) ? "true" : "false", field[5]);
    assert_string_equal(bdrv_dirty_bitmap_inconsistent(b) ? "true" : "false", field[6]);
    assert_true(bdrv_dirty_bitmap_persistent(b));
    assert_true(bdrv_dirty_bitmap_readonly(b));
}

/* One line of the table in a world of its own. */
static char **current;

static void image_body(struct world *w)
{
    struct image i = load_image(w, current[1]);
    open_image(&i, false);
    expect_bitmap(&i, current);
    close_image(&i);
}

/* fact: qcow2 4.1/directory, 4.1/table-entry, 4.1/data, 4.2/load, 4.2/in-use-inconsistent, 4.2/readonly, edge/25 */
static void test_images(void **state)
{
    FILE *file = fopen(VECTORS "images.tsv", "r");
    char *line = NULL;
    size_t room = 0;
    unsigned bitmaps = 0;

    assert_non_null(file);
    while (getline(&line, &room, file) > 0) {
        char *field[9];
        if (split(line, field, ARRAY_SIZE(field)) == 8 && strcmp(field[0], "bitmap") == 0) {
            current = field;
            world_run(image_body);
            bitmaps++;
        }
    }
    free(line);
    fclose(file);
    assert_int_equal(bitmaps, 9);
}

/* --- what is refused ------------------------------------------------------------------------------------------ */

static void apply_edit(const struct image *i, const char *edit)
{
    char *colon;
    int64_t offset = strtoll(edit, &colon, 16);
    SIM_ASSERT(*colon == ':');
    for (const char *hex = colon + 1; *hex != '\0' && *hex != '+'; hex += 2) {
        char two[3] = {hex[0], hex[1], '\0'};
        set_be(i, offset++, 1, strtoul(two, NULL, 16));
    }
}

static void malformed_body(struct world *w)
{
    struct image i = load_image(w, "v3-empty-64k");
    char *rest = current[2];
    const char *edit;
    while ((edit = strsep(&rest, ",")) != NULL) {
        apply_edit(&i, edit);
    }
    const char *text = open_refused(&i, strcmp(current[1], "rw") == 0);
    if ((strcmp(current[3], "ok") == 0) != (text[0] == '\0') || strcmp(text, current[4]) != 0) {
        fail_msg("%s (%s): '%s', not '%s'", current[0], current[5], text, current[4]);
    }
}

/* fact: qcow2 4.1/extension, 4.1/entry-limits, 4.2/structural, 4.2/consistent-table, 4.2/in-use-unexamined, edge/26
 */
static void test_malformed(void **state)
{
    FILE *file = fopen(VECTORS "malformed.tsv", "r");
    char *line = NULL;
    size_t room = 0;
    unsigned rows = 0;

    assert_non_null(file);
    while (getline(&line, &room, file) > 0) {
        char *field[7];
        if (split(line, field, ARRAY_SIZE(field)) == 6 && field[0][0] == 'm' && atoi(field[0] + 1) >= 44) {
            current = field;
            world_run(malformed_body);
            rows++;
        }
    }
    free(line);
    fclose(file);
    assert_int_equal(rows, 28);
}

/* --- recorded operations ---------------------------------------------------------------------------------------
 */

static void on_bitmaps(struct image *i, char op, int64_t value)
{
    BdrvDirtyBitmap *b = bitmap(i, "b");
    switch (op) {
    case 'C':
        bdrv_clear_dirty_bitmap(b, NULL);
        break;
    case 'X':
        bdrv_disable_dirty_bitmap(b);
        break;
    case 'E':
        bdrv_enable_dirty_bitmap(b);
        break;
    case 'S':
        add_bitmap(i, "s", value, false);
        break;
    case 'M':
        assert_true(bdrv_merge_dirty_bitmap(b, bitmap(i, "s"), NULL, NULL));
        break;
    case 'Q':
        bdrv_release_dirty_bitmap(bitmap(i, "s"));
        break;
    default:
        fail_msg("unknown operation '%c'", op);
    }
}

static void expect_recorded(struct image *i)
{
    char hash[65];
    assert_true(bdrv_dirty_bitmap_sha256(bitmap(i, "b"), hash));
    if (strcmp(hash, current[5]) != 0 || count(i, "b") != atoll(current[4])) {
        fail_msg("%s (%s): %" PRId64 " %s", current[0], current[3], count(i, "b"), hash);
    }
}

static void recorded_body(struct world *w)
{
    struct image i = make_image(w, atoll(current[1]), "");
    char *rest = strdup(current[3]);
    char *ops = rest;
    const char *text;

    open_image(&i, true);
    /* An empty disk cannot store one. */
    add_bitmap(&i, "b", atoll(current[2]), i.bs->total_bytes > 0);
    while ((text = strsep(&rest, ";")) != NULL) {
        char op = 0;
        int64_t a = 0;
        int64_t b = 0;
        if (sscanf(text, " %c %" SCNd64 " %" SCNd64, &op, &a, &b) < 1) {
            continue;
        }
        if (strchr("WZDR", op) != NULL) {
            assert_int_equal(io(&i, op, a, b), 0);
        } else {
            on_bitmaps(&i, op, a);
        }
    }
    free(ops);
    expect_recorded(&i);
    bool enabled = bdrv_dirty_bitmap_enabled(bitmap(&i, "b"));
    bool stored = bdrv_dirty_bitmap_persistent(bitmap(&i, "b")) && i.bs->total_bytes > 0;
    for (unsigned again = 0; stored && again < 2; again++) {
        reopen_image(&i, again > 0);
        expect_recorded(&i);
        assert_int_equal(bdrv_dirty_bitmap_enabled(bitmap(&i, "b")), enabled);
    }
    close_image(&i);
}

/* fact: bitmaps 1.7/vectors; qcow2 4.1/auto, 4.2/load, 8/bitmaps */
static void test_recorded(void **state)
{
    FILE *file = fopen("tests/vectors/bitmap-sha256.tsv", "r");
    char *line = NULL;
    size_t room = 0;
    unsigned rows = 0;

    assert_non_null(file);
    while (getline(&line, &room, file) > 0) {
        char *field[7];
        if (split(line, field, ARRAY_SIZE(field)) == 6 && field[0][0] == 'b') {
            current = field;
            world_run(recorded_body);
            rows++;
        }
    }
    free(line);
    fclose(file);
    assert_int_equal(rows, 40);
}

/* --- old software ----------------------------------------------------------------------------------------------
 */

/* fact: qcow2 4.2/autoclear-clear, 4.6/old-software, 4.6/readonly-untouched */
WORLD_TEST(test_stale)
{
    struct image i = load_image(w, "bitmaps-stale-autoclear-4k");
    int64_t bytes;
    uint8_t *before = file_bytes(&i, &bytes);
    open_image(&i, false);
    assert_string_equal(bitmaps_text(&i), "");
    assert_string_equal(check_text(&i), "0 8");
    close_image(&i);
    uint8_t *after = file_bytes(&i, &bytes);
    assert_memory_equal(before, after, (size_t)bytes);
    free(before);
    free(after);
    assert_true(extension_at(&i) > 0);
    open_image(&i, true);
    assert_int_equal(extension_at(&i), -1);
    assert_string_equal(bitmaps_text(&i), "");
    add_bitmap(&i, "fine", 65536, true); /* its name is free */
    close_image(&i);
    assert_string_equal(stored_text(&i), "fine:a=1 ");
    open_image(&i, false);
    assert_string_equal(check_text(&i), "0 8"); /* until a repair */
    close_image(&i);
}

/* fact: qcow2 4.2/bit-without-extension */
WORLD_TEST(test_bit_alone)
{
    struct image i = load_image(w, "v3-empty-64k");
    set_be(&i, 88, 8, 1);
    open_image(&i, true);
    assert_string_equal(bitmaps_text(&i), "");
    close_image(&i);
}

/* Bits behind the end of the disk would become dirt when it grows [HOLE]. */
WORLD_TEST(test_tail)
{
    struct image i = load_image(w, "bitmap-allones-4k");
    open_image(&i, true);
    assert_int_equal(count(&i, "ones"), 1048576);
    assert_int_equal(io(&i, 'R', 4 * MiB, 0), 0);
    assert_int_equal(count(&i, "ones"), 1048576);
    reopen_image(&i, true);
    assert_int_equal(count(&i, "ones"), 1048576);
    close_image(&i);
}

/* --- the real tools --------------------------------------------------------------------------------------------
 */

/* A command line about the file; false when it fails. */
static bool tool(const char *file, const char *format)
{
    char command[600];
    snprintf(command, sizeof(command), format, file, file);
    return system(command) == 0;
}

/* They agree with what was stored here, and we with what they do to it. */
WORLD_TEST(test_judged)
{
    struct image i = make_image(w, 3 * MiB, ",'cluster-size':4096");
    const char *dir = getenv("TMPDIR");
    char file[200];

    if (!tool("", "qemu-img --version >/dev/null 2>&1 %s %s")) {
        return; /* there are none here */
    }
    snprintf(file, sizeof(file), "%s/blksim-bitmap-%ld.qcow2", dir != NULL ? dir : "/tmp", (long)getpid());
    open_image(&i, true);
    add_bitmap(&i, "on", 65536, true);
    bdrv_disable_dirty_bitmap(add_bitmap(&i, "off", 512, true));
    fill(&i, 1, MiB, 65536);
    reopen_image(&i, true);
    fill(&i, 2, 2 * MiB, 65536);
    close_image(&i);
    assert_int_equal(disk_save_file(i.disk, file, NULL), 0);
    assert_true(tool(file, "qemu-img check -q %s"));
    assert_true(tool(file, "qemu-img info %s | tr -d '\\n' | grep -q 'flags: *name: off *granularity: 512.*"
                           "flags: *\\[0\\]: auto *name: on *granularity: 65536'"));
    assert_true(tool(file, "qemu-img bitmap --add -g 4096 %s theirs && qemu-img bitmap --merge on %s theirs"));
    assert_true(tool(file, "qemu-img bitmap --remove %s off && qemu-img check -q %s"));
    assert_int_equal(disk_load_file(i.disk, file, NULL), 0);
    open_image(&i, true);
    assert_string_equal(bitmaps_text(&i), "theirs:ep=131072 on:ep=131072 ");
    assert_string_equal(check_text(&i), "0 0");
    close_image(&i);
    unlink(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/bitmap/vectors/images", test_images),
        T("/qcow2/bitmap/vectors/malformed", test_malformed),
        T("/qcow2/bitmap/vectors/recorded", test_recorded),
        T("/qcow2/bitmap/vectors/stale-autoclear", test_stale),
        T("/qcow2/bitmap/vectors/bit-without-extension", test_bit_alone),
        T("/qcow2/bitmap/vectors/tail-bits", test_tail),
        T("/qcow2/bitmap/judged", test_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
