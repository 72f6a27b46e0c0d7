/* Protects how bitmaps get into a qcow2 image: in which order, with which flags, what a failure leaves, and that a
 * table costs a cluster but a clean cluster nothing. */
#include "tests/block/qcow2_bitmap_lib.h"

#define K4 ",'cluster-size':4096"

/* --- what reaches the disk -------------------------------------------------------------------------------------
 */

struct trace {
    struct disk_interposer interposer; /* first */
    char text[4000];                   /* "H0 F D H0 F H1 F ": header with its autoclear bit, flush, others */
    size_t used;
    int64_t directory; /* where it is: written as D */
    int fail_at;       /* the nth write or flush from now on fails; 0: none */
    int fail_more;     /* and so many behind it */
    bool fail_headers;
    bool reached; /* fail_at */
};

static struct trace trace;

static void note(const char *what)
{
    trace.used += (size_t)snprintf(trace.text + trace.used, sizeof(trace.text) - trace.used, "%s ", what);
    assert_true(trace.used < sizeof(trace.text));
}

static void see_write(const struct disk_req *req)
{
    if (req->offset > 0) {
        note(req->offset == trace.directory ? "D" : "w");
        return;
    }
    uint8_t header[104];
    payload_read_bytes(req->in, 0, header, sizeof(header));
    note(header[95] & 1 ? "H1" : "H0");
}

static void see(struct disk_interposer *self, struct disk_req *req)
{
    SIM_ASSERT(self == &trace.interposer);
    if (req->op != SIM_OP_WRITE && req->op != SIM_OP_FLUSH) {
        return;
    }
    bool fails = trace.fail_at == 0 && trace.reached && trace.fail_more-- > 0;
    if (trace.fail_at > 0 && --trace.fail_at == 0) {
        fails = trace.reached = true;
    }
    if (fails || (trace.fail_headers && req->op == SIM_OP_WRITE && req->offset == 0)) {
        req->ret = -EIO;
    }
    if (req->op == SIM_OP_FLUSH) {
        note("F");
    } else {
        see_write(req);
    }
}

static void trace_begin(struct image *i)
{
    memset(&trace, 0, sizeof(trace));
    trace.interposer.before = see;
    disk_add_interposer(i->disk, &trace.interposer);
}

static void trace_end(struct image *i)
{
    disk_remove_interposer(i->disk, &trace.interposer);
}

/* --- events ------------------------------------------------------------------------------------------------------
 */

static uint64_t lost_marks(struct world *w)
{
    return sim_mark_hits(w->sim, MARK_bitmap_not_stored);
}

/* --- order --------------------------------------------------------------------------------------------------- */

/* fact: qcow2 4.4/in-place, 4.2/mark-in-use, edge/27 */
WORLD_TEST(test_in_place)
{
    struct image i = make_image(w, MiB, K4);
    open_image(&i, true);
    add_bitmap(&i, "b", 65536, true);
    close_image(&i);
    assert_string_equal(stored_text(&i), "b:a=1 ");
    trace_begin(&i);
    trace.directory = (int64_t)be(&i, extension_at(&i) + 16, 8);
    open_image(&i, true);
    assert_string_equal(trace.text, "H0 F D H0 F H1 F ");
    assert_string_equal(stored_text(&i), "b:ua=1 ");
    assert_int_equal(disk_unflushed(i.disk), 0);
    trace_end(&i);
    close_image(&i);
    assert_string_equal(stored_text(&i), "b:a=1 ");
}

/* fact: qcow2 4.3/order, 4.3/candidates */
WORLD_TEST(test_order)
{
    struct image i = make_image(w, MiB, K4);
    open_image(&i, true);
    trace_begin(&i);
    close_image(&i);
    assert_null(strstr(trace.text, "H")); /* none to be stored: nothing is announced */
    open_image(&i, true);
    add_bitmap(&i, "b", 65536, true);
    fill(&i, 1, 0, 65536);
    assert_int_equal(io(&i, 'F', 0, 0), 0);
    trace.used = 0;
    struct call c = {.i = &i};
    done(&c, go(&c, "store", store_entry));
    trace_end(&i);
    /* Data, table, directory and counts; a flush; the header and a flush. */
    const char *header = strstr(trace.text, "H");
    assert_non_null(header);
    assert_true(strncmp(header - 2, "F H1 F ", 7) == 0);
    assert_true(strncmp(trace.text, "w w w ", 6) == 0);
    assert_null(strstr(header + 1, "H"));
    assert_string_equal(stored_text(&i), "b:a=1 ");
    bdrv_dirty_bitmap_skip_store(bitmap(&i, "b"), true);
    close_image(&i);
}

/* fact: qcow2 4.3/flags, 4.3/inconsistent-stay, 4.1/auto */
WORLD_TEST(test_flags)
{
    struct image i = load_image(w, "bitmaps-clean-4k");
    assert_string_equal(stored_text(&i), "empty:a=1 off:=1 coarse:a=1 fine:a=1 ");
    open_image(&i, true);
    /* The list is newest first. */
    assert_string_equal(bitmaps_text(&i), "fine:ep=75264 coarse:ep=196608 off:p=12288 empty:ep=0 ");
    assert_string_equal(stored_text(&i), "empty:ua=1 off:u=1 coarse:ua=1 fine:ua=1 ");
    add_bitmap(&i, "x", 4096, true);
    add_bitmap(&i, "y", 4096, true);
    add_bitmap(&i, "memory", 4096, false);
    bdrv_disable_dirty_bitmap(bitmap(&i, "y"));
    bdrv_enable_dirty_bitmap(bitmap(&i, "off"));
    close_image(&i);
    assert_string_equal(stored_text(&i), "empty:a=1 off:a=1 coarse:a=1 fine:a=1 y:=1 x:a=1 ");
    /* One that is inconsistent stays as it is. */
    set_be(&i, (int64_t)be(&i, extension_at(&i) + 16, 8) + 12, 4, IN_USE | AUTO);
    open_image(&i, true);
    assert_string_equal(bitmaps_text(&i), "x:ep=0 y:p=0 fine:ep=75264 coarse:ep=196608 off:ep=12288 empty:pi=0 ");
    close_image(&i);
    assert_string_equal(stored_text(&i), "empty:ua=1 off:a=1 coarse:a=1 fine:a=1 y:=1 x:a=1 ");
    open_image(&i, false);
    assert_string_equal(check_text(&i), "0 0");
    close_image(&i);
}

/* --- bits and tables -------------------------------------------------------------------------------------------
 */

/* fact: qcow2 4.1/no-all-ones, 4.1/data, 4.1/refcount, edge/25 */
WORLD_TEST(test_tables)
{
    struct image i = make_image(w, 64 * MiB, ",'cluster-size':512");
    open_image(&i, true);
    add_bitmap(&i, "empty", 512, true);
    add_bitmap(&i, "full", 512, true);
    bdrv_set_dirty_bitmap(bitmap(&i, "full"), 0, 64 * MiB);
    add_bitmap(&i, "one", 512, true);
    bdrv_set_dirty_bitmap(bitmap(&i, "one"), 5 * 2 * MiB + 512, 1);
    close_image(&i);
    assert_string_equal(stored_text(&i), "one:a=32 full:a=32 empty:a=32 ");
    int64_t one = (int64_t)be(&i, extension_at(&i) + 16, 8);
    int64_t full = one + 32;
    int64_t empty = full + 32;
    for (int64_t n = 0; n < 32; n++) {
        assert_int_equal(be(&i, (int64_t)be(&i, empty, 8) + n * 8, 8), 0);
        uint64_t entry = be(&i, (int64_t)be(&i, full, 8) + n * 8, 8);
        assert_true(entry != 0 && (entry & 511) == 0);
        assert_int_equal(be(&i, (int64_t)entry + 504, 8), UINT64_MAX);
        assert_int_equal(be(&i, (int64_t)be(&i, one, 8) + n * 8, 8) != 0, n == 5);
    }
    int64_t data = (int64_t)be(&i, (int64_t)be(&i, one, 8) + 40, 8);
    assert_int_equal(be(&i, data, 8), UINT64_C(0x0200000000000000)); /* bit 1, little-endian */
    open_image(&i, false);
    assert_string_equal(bitmaps_text(&i), "empty:epr=0 full:epr=67108864 one:epr=512 ");
    assert_string_equal(check_text(&i), "0 0");
    close_image(&i);
}

/* A successor's bits may be needed as much as its parent's: the original stores the parent's alone. */
/* fact: bitmaps 2.2/child-records; qcow2 4.1/auto */
WORLD_TEST(test_frozen)
{
    static const bool abdicate[] = {true, false};
    for (size_t n = 0; n < ARRAY_SIZE(abdicate); n++) {
        struct image i = make_image(w, MiB, K4);
        open_image(&i, true);
        BdrvDirtyBitmap *parent = add_bitmap(&i, "b", 65536, true);
        fill(&i, 1, 0, 4096);
        assert_int_equal(bdrv_dirty_bitmap_create_successor(parent, NULL), 0);
        fill(&i, 2, 65536, 4096);
        assert_int_equal(bdrv_reopen_set_read_only(i.bs, true, NULL), -EPERM); /* the guest wants to write */
        blk_unref(i.blk);
        assert_int_equal(bdrv_reopen_set_read_only(i.bs, true, NULL), 0);
        assert_string_equal(stored_text(&i), "b:a=1 ");
        uint64_t table = be(&i, (int64_t)be(&i, extension_at(&i) + 16, 8), 8);
        assert_int_equal(be(&i, (int64_t)be(&i, (int64_t)table, 8), 8), UINT64_C(0x0300000000000000));
        if (abdicate[n]) {
            bdrv_dirty_bitmap_abdicate(parent, NULL);
        } else {
            bdrv_reclaim_dirty_bitmap(parent, NULL);
        }
        del(w, "n");
        open_image(&i, false);
        assert_string_equal(bitmaps_text(&i), "b:epr=131072 ");
        close_image(&i);
    }
}

/* --- what cannot be stored --------------------------------------------------------------------------------------
 */

/* fact: qcow2 4.3/name-not-in-use, 4.3/failure */
WORLD_TEST(test_not_in_use)
{
    struct image i = make_image(w, MiB, K4);
    open_image(&i, true);
    add_bitmap(&i, "b", 65536, true);
    reopen_image(&i, true);
    int64_t directory = (int64_t)be(&i, extension_at(&i) + 16, 8);
    assert_string_equal(stored_text(&i), "b:ua=1 ");
    set_be(&i, directory + 12, 4, AUTO); /* somebody else */
    struct call c = {.i = &i};
    assert_int_equal(go(&c, "store", store_entry), -EINVAL);
    expect_error(&c.err,
                 "Lost persistent bitmaps during inactivation of node 'n': Bitmap 'b' is in the image already");
    assert_int_equal(be(&i, extension_at(&i) + 16, 8), directory);
    close_image(&i);
    assert_int_equal(lost_marks(w), 2);
}

/* The original accepts it and loses it when the image is closed, with a line on its standard error. */
/* fact: qcow2 4.3/zero-length, edge/51 */
WORLD_TEST(test_zero_length)
{
    struct image i = make_image(w, 0, "");
    open_image(&i, true);
    Error *err = add_refused(&i, "b", 65536);
    expect_error(&err, "Can't make bitmap 'b' persistent in 'n': A bitmap of an empty disk cannot be stored");
    add_bitmap(&i, "b", 65536, false);
    assert_int_equal(io(&i, 'R', MiB, 0), 0);
    add_bitmap(&i, "c", 65536, true);
    assert_int_equal(io(&i, 'R', 0, 0), 0); /* persistent, in memory */
    struct call c = {.i = &i};
    assert_int_equal(go(&c, "store", store_entry), -EINVAL);
    expect_error(&c.err, "Bitmap 'c' doesn't satisfy the constraints: A bitmap of an empty disk cannot be stored");
    assert_int_equal(io(&i, 'R', MiB, 0), 0);
    done(&c, go(&c, "store", store_entry));
    assert_string_equal(stored_text(&i), "c:a=1 ");
    bdrv_dirty_bitmap_skip_store(bitmap(&i, "c"), true);
    close_image(&i);
    assert_int_equal(lost_marks(w), 1);
}

/* Wherever it fails: an error, nothing consistent that was not before, no corruption; and the next store succeeds.
 */
/* fact: qcow2 4.3/failure */
WORLD_TEST(test_failures)
{
    unsigned failures = 0;
    struct call c = {0};
    for (int at = 1;; at++) {
        struct image i = make_image(w, MiB, at % 2 ? K4 : K4 ",'lazy-refcounts':true");
        open_image(&i, true);
        add_bitmap(&i, "b", 65536, true);
        reopen_image(&i, true);
        add_bitmap(&i, "c", 512, true);
        fill(&i, 1, 0, 4096);
        assert_int_equal(io(&i, 'F', 0, 0), 0);
        c.i = &i;
        trace_begin(&i);
        trace.fail_at = at;
        int ret = go(&c, "store", store_entry);
        bool reached = trace.reached;
        trace_end(&i);
        if (ret == 0) {
            bdrv_dirty_bitmap_skip_store(bitmap(&i, "b"), true);
            bdrv_dirty_bitmap_skip_store(bitmap(&i, "c"), true);
            close_image(&i);
            if (!reached) {
                break;
            }
            continue; /* what fails once all is announced only leaks */
        }
        failures++;
        error_free(c.err);
        c.err = NULL;
        assert_string_equal(stored_text(&i), "b:ua=1 ");
        fill(&i, 2, 65536, 4096);
        close_image(&i);
        assert_string_equal(stored_text(&i), "b:a=1 c:a=1 ");
        open_image(&i, false);
        assert_string_equal(bitmaps_text(&i), "c:epr=8192 b:epr=131072 ");
        assert_memory_equal(check_text(&i), "0 ", 2);
        close_image(&i);
    }
    assert_true(failures >= 6);
}

/* The header can be written no more, and nobody knows what it says: then nothing is written to the disk that a
 * bitmap on it would not know of. */
WORLD_TEST(test_unsure)
{
    struct image i = make_image(w, MiB, K4);
    struct call c = {.i = &i};
    open_image(&i, true);
    add_bitmap(&i, "b", 65536, true);
    reopen_image(&i, true);
    trace_begin(&i);
    trace.fail_headers = true;
    assert_int_equal(go(&c, "store", store_entry), -EIO);
    error_free(c.err);
    assert_string_equal(bitmaps_text(&i), "b:epr=0 ");
    assert_int_equal(io(&i, 'W', 0, 4096), -EPERM);
    assert_true(go(&c, "rw", rw_entry) < 0);
    assert_int_equal(io(&i, 'W', 0, 4096), -EPERM);
    trace.fail_headers = false;
    assert_int_equal(go(&c, "rw", rw_entry), 0);
    trace_end(&i);
    assert_string_equal(stored_text(&i), "b:ua=1 ");
    assert_int_equal(io(&i, 'W', 0, 4096), 0);
    close_image(&i);
    open_image(&i, false);
    assert_string_equal(bitmaps_text(&i), "b:epr=65536 ");
    assert_memory_equal(check_text(&i), "0 ", 2);
    close_image(&i);
}

static int give_up_entry(void *opaque)
{
    BlockDriverState *bs = ((struct call *)opaque)->i->bs;
    return bs->drv->bdrv_co_inactivate(bs);
}

/* Giving up fails at every point: the bitmaps go on, or the image is of no use any more. The original goes on
 * without them, and what it has stored looks valid [hazard 8.4]. */
WORLD_TEST(test_not_given_up)
{
    for (int at = 1;; at++) {
        struct image i = make_image(w, MiB, K4);
        struct call c = {.i = &i};
        open_image(&i, true);
        add_bitmap(&i, "b", 65536, true);
        reopen_image(&i, true);
        fill(&i, 1, 0, 65536);
        trace_begin(&i);
        trace.fail_at = at;
        trace.fail_more = 1; /* a store flushes once more than it must */
        int ret = go(&c, "inactivate", give_up_entry);
        bool reached = trace.reached;
        trace_end(&i);
        if (ret == 0) {
            assert_string_equal(bitmaps_text(&i), "");
        } else if (bdrv_has_readonly_bitmaps(i.bs)) {
            assert_int_equal(io(&i, 'W', 65536, 512), -EPERM); /* nobody knows what the header says */
            close_image(&i);
            continue;
        } else {
            assert_string_equal(bitmaps_text(&i), "b:ep=65536 ");
            assert_string_equal(stored_text(&i), "b:ua=1 ");
            fill(&i, 2, 65536, 512);
        }
        close_image(&i);
        open_image(&i, false);
        assert_int_equal(count(&i, "b"), ret == 0 ? 65536 : 131072);
        close_image(&i);
        if (!reached) {
            break;
        }
    }
    assert_true(sim_mark_hits(w->sim, MARK_qcow2_not_given_up) > 0);
}

/* Storing nothing new: what only was loaded for reading, or came with a migration. */
/* fact: qcow2 4.3/candidates, 4.6/readonly-untouched, 4.2/readonly */
WORLD_TEST(test_readonly)
{
    struct image i = load_image(w, "bitmaps-clean-4k");
    int64_t bytes;
    uint8_t *before = file_bytes(&i, &bytes);
    open_image(&i, false);
    add_bitmap(&i, "new", 65536, true);
    close_image(&i);
    assert_int_equal(lost_marks(w), 1); /* "new": there is no write access */
    uint8_t *after = file_bytes(&i, &bytes);
    assert_memory_equal(before, after, (size_t)bytes);
    free(before);
    free(after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/bitmap/store/in-place", test_in_place),
        T("/qcow2/bitmap/store/order", test_order),
        T("/qcow2/bitmap/store/flags", test_flags),
        T("/qcow2/bitmap/store/tables", test_tables),
        T("/qcow2/bitmap/store/frozen", test_frozen),
        T("/qcow2/bitmap/store/name-not-in-use", test_not_in_use),
        T("/qcow2/bitmap/store/zero-length", test_zero_length),
        T("/qcow2/bitmap/store/failures", test_failures),
        T("/qcow2/bitmap/store/unsure", test_unsure),
        T("/qcow2/bitmap/store/not-given-up", test_not_given_up),
        T("/qcow2/bitmap/store/readonly", test_readonly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
