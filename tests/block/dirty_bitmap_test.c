/* Protects dirty bitmaps of a node: making and naming them, the owner's bits. */
#include "tests/block/bitmap_owner.h"

/* --- life ------------------------------------------------------------------------------------------------ */

/* fact: bitmaps 2.1/list, 2.1/anonymous, 2.1/size */
static void test_list(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = made(p, G, "a");
    BdrvDirtyBitmap *anonymous = made(p, 512, NULL);
    BdrvDirtyBitmap *b = made(p, 4096, "b");
    assert_ptr_equal(bdrv_dirty_bitmap_next(p->bs, NULL), b); /* newest first */
    assert_ptr_equal(bdrv_dirty_bitmap_next(p->bs, b), anonymous);
    assert_ptr_equal(bdrv_dirty_bitmap_next(p->bs, anonymous), a);
    assert_null(bdrv_dirty_bitmap_next(p->bs, a));
    assert_ptr_equal(bdrv_find_dirty_bitmap(p->bs, "a"), a);
    assert_null(bdrv_find_dirty_bitmap(p->bs, "c"));
    assert_null(bdrv_dirty_bitmap_name(anonymous));
    assert_true(bdrv_dirty_bitmap_id(a) < bdrv_dirty_bitmap_id(anonymous));
    assert_int_equal(bdrv_dirty_bitmap_size(a), MiB);
    assert_int_equal(bdrv_dirty_bitmap_granularity(b), 4096);
    assert_int_equal(bdrv_get_dirty_count(a), 0);
    bdrv_release_named_dirty_bitmaps(p->bs);
    assert_ptr_equal(bdrv_dirty_bitmap_next(p->bs, NULL), anonymous);
    bdrv_release_dirty_bitmap(anonymous);
    probe_free(p);
}

/* fact: bitmaps 2.1/name, 2.1/name-unique */
static void test_names(void **state)
{
    struct probe *p = plain_probe();
    char longest[BDRV_BITMAP_NAME_MAX + 2];
    memset(longest, 'n', sizeof(longest));
    longest[BDRV_BITMAP_NAME_MAX + 1] = '\0';
    (void)made(p, G, "a");
    struct create c = create(p, G, "a");
    assert_null(c.made);
    assert_string_equal(c.error, "Bitmap already exists: a");
    c = create(p, G, longest);
    assert_null(c.made);
    assert_memory_equal(c.error, "Bitmap name too long: nnn", 25);
    longest[BDRV_BITMAP_NAME_MAX] = '\0';
    (void)made(p, G, longest);
    bdrv_release_named_dirty_bitmaps(p->bs);
    probe_free(p);
}

/* [seed b8afb52]: if the length cannot be read, creation fails with that errno and makes no object.
 * fact: bitmaps 2.1/length-error */
static void test_seed_b8afb52_length_error(void **state)
{
    struct probe *p = plain_probe();
    probe_fail(p, SIM_OP_GETLENGTH, -1, -EIO, 1);
    struct create c = create(p, G, "a");
    assert_null(c.made);
    assert_string_equal(c.error, "could not get length of device: Input/output error");
    assert_null(bdrv_dirty_bitmap_next(p->bs, NULL));
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_BdrvDirtyBitmap), 0);
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_HBitmap), 0);
    probe_free(p);
}

/* [seed eee13df]: the cluster size within [4 KiB, 64 KiB], 64 KiB when there is none.
 * fact: bitmaps 2.1/granularity-default, edge/24 */
static void test_seed_default_granularity(void **state)
{
    static const int64_t cases[][2] = {{0, 65536},     {512, 4096},    {4096, 4096},
                                       {16384, 16384}, {65536, 65536}, {MiB, 65536}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct probe *p = probe_new((struct probe_spec){.name = "p", .length = MiB, .cluster_size = cases[i][0]});
        struct create c = create(p, G, "a");
        assert_int_equal(c.default_granularity, cases[i][1]);
        bdrv_release_named_dirty_bitmaps(p->bs);
        probe_free(p);
    }
}

/* [seed e4654d2]: each user has a bitmap of its own: a write marks all of them, clearing or releasing one leaves
 * the others alone.
 * fact: bitmaps 2.1/one-each */
static void test_seed_e4654d2_one_per_user(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = made(p, G, NULL);
    BdrvDirtyBitmap *b = made(p, G, NULL);
    assert_int_equal(do_req(p, W, 0, 2 * G, 1, 0), 0);
    bdrv_reset_dirty_bitmap(a, 0, G);
    assert_int_equal(bdrv_get_dirty_count(a), G);
    assert_int_equal(bdrv_get_dirty_count(b), 2 * G);
    bdrv_release_dirty_bitmap(a);
    assert_int_equal(do_req(p, W, 4 * G, 512, 1, 0), 0);
    assert_int_equal(bdrv_get_dirty_count(b), 3 * G);
    bdrv_release_dirty_bitmap(b);
    probe_free(p);
}

/* [seed 50717e9, acc906c]: each bitmap has a granularity of its own, and its count is in bytes, not in its chunks.
 * fact: bitmaps 1.1/count-unit, 2.1/granularity, edge/2 */
static void test_seed_acc906c_count_in_bytes(void **state)
{
    static const uint32_t granularities[] = {512, 4096, 65536, 1 << 20, UINT32_C(1) << 31};
    struct probe *p = plain_probe();
    for (size_t i = 0; i < ARRAY_SIZE(granularities); i++) {
        BdrvDirtyBitmap *a = made(p, granularities[i], NULL);
        assert_int_equal(bdrv_dirty_bitmap_granularity(a), granularities[i]);
        assert_int_equal(do_req(p, W, 65536, 1, 1, 0), 0);
        assert_int_equal(bdrv_get_dirty_count(a), granularities[i]);
    }
    while (bdrv_dirty_bitmap_next(p->bs, NULL) != NULL) {
        bdrv_release_dirty_bitmap(bdrv_dirty_bitmap_next(p->bs, NULL));
    }
    probe_free(p);
}

/* [seed 9bd2b08]: what marks the bitmaps of a node as a group skips the disabled ones; only their owner sets bits
 * there.
 * fact: bitmaps 2.1/disabled, 2.2/group-skips, edge/21 */
static void test_seed_9bd2b08_group_skips_disabled(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *on = made(p, G, "on");
    BdrvDirtyBitmap *off = made(p, G, "off");
    bdrv_disable_dirty_bitmap(off);
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), 0);
    assert_int_equal(do_req(p, SIM_OP_DISCARD, 2 * G, 512, 0, 0), 0);
    assert_int_equal(bdrv_get_dirty_count(on), 2 * G);
    assert_int_equal(bdrv_get_dirty_count(off), 0);
    bdrv_set_dirty_bitmap(off, 0, 1);
    assert_int_equal(bdrv_get_dirty_count(off), G);
    bdrv_release_named_dirty_bitmaps(p->bs);
    probe_free(p);
}

/* --- the owner's side -------------------------------------------------------------------------------------- */

/* fact: bitmaps 2.2/single-asserts */
static void test_owner_bits(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = made(p, G, NULL);
    char hash[65];
    bdrv_disable_dirty_bitmap(a); /* owners may set bits of a disabled bitmap */
    bdrv_set_dirty_bitmap(a, 100, G);
    assert_int_equal(bdrv_get_dirty_count(a), 2 * G);
    bdrv_dirty_bitmap_sha256(a, hash);
    assert_string_equal(hash, "35be322d094f9d154a8aba4733b8497f180353bd7ae7b0a15f90b586b549f28b");
    bdrv_reset_dirty_bitmap(a, 0, G);
    assert_int_equal(bdrv_get_dirty_count(a), G);
    assert_int_equal(bdrv_dirty_bitmap_next_zero(a, G, INT64_MAX), 2 * G);
    bdrv_release_dirty_bitmap(a);
    probe_free(p);
}

/* A hash takes the time of all bits, set or not: for more than 2^31 nobody gets one. */
static void test_too_large_to_hash(void **state)
{
    struct probe *p = plain_probe();
    char hash[65] = "x";
    p->length = TiB + 65536;
    BdrvDirtyBitmap *fine = made(p, 512, NULL);
    assert_false(bdrv_dirty_bitmap_sha256(fine, hash));
    assert_string_equal(hash, "");
    BdrvDirtyBitmap *coarse = made(p, 65536, NULL);
    assert_true(bdrv_dirty_bitmap_sha256(coarse, hash));
    assert_int_equal(strlen(hash), 64);
    bdrv_release_dirty_bitmap(fine);
    bdrv_release_dirty_bitmap(coarse);
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/dirty-bitmap/list", test_list),
        T_NODE("/dirty-bitmap/names", test_names),
        T_NODE("/dirty-bitmap/seed/b8afb52/length-error", test_seed_b8afb52_length_error),
        T_NODE("/dirty-bitmap/seed/eee13df/default-granularity", test_seed_default_granularity),
        T_NODE("/dirty-bitmap/seed/e4654d2/one-per-user", test_seed_e4654d2_one_per_user),
        T_NODE("/dirty-bitmap/seed/acc906c/50717e9/count-in-bytes", test_seed_acc906c_count_in_bytes),
        T_NODE("/dirty-bitmap/seed/9bd2b08/group-skips-disabled", test_seed_9bd2b08_group_skips_disabled),
        T_NODE("/dirty-bitmap/owner-bits", test_owner_bits),
        T_NODE("/dirty-bitmap/too-large-to-hash", test_too_large_to_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
