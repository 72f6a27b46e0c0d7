/* Protects block status: flags, clipping, recursion into the file, short layers, depths. */
#include "tests/block/probe.h"

static const BlockDriver cow_driver = {
    .format_name = "cow-probe",
    .doc = "test",
    .instance_size = sizeof(struct probe),
    .supports_backing = true,
    .bdrv_co_preadv = probe_preadv,
    .bdrv_co_pwritev = probe_pwritev,
    .bdrv_co_getlength = probe_getlength,
    .bdrv_co_block_status = probe_block_status,
    .bdrv_refresh_limits = probe_refresh_limits,
};

static const BlockDriver protocol_driver = {
    .format_name = "protocol-probe",
    .doc = "test",
    .instance_size = sizeof(struct probe),
    .is_protocol = true,
    .bdrv_co_preadv = probe_preadv,
    .bdrv_co_pwritev = probe_pwritev,
    .bdrv_co_getlength = probe_getlength,
    .bdrv_co_block_status = probe_block_status,
    .bdrv_refresh_limits = probe_refresh_limits,
};

static const BlockDriver mute_driver = {
    .format_name = "mute-probe",
    .doc = "test",
    .instance_size = sizeof(struct probe),
    .bdrv_co_preadv = probe_preadv,
    .bdrv_co_pwritev = probe_pwritev,
    .bdrv_co_getlength = probe_getlength,
};

enum question { STATUS, STATUS_ABOVE, IS_ALLOCATED, IS_ALLOCATED_ABOVE };

struct ask {
    enum question question;
    struct probe *p;
    struct probe *base;
    bool include_base;
    int64_t offset;
    int64_t bytes;
    int ret;
    int64_t pnum;
    int64_t map;
    BlockDriverState *file;
};

static void ask_entry(void *opaque)
{
    struct ask *a = opaque;
    BlockDriverState *base = a->base != NULL ? a->base->bs : NULL;
    if (a->question == STATUS) {
        a->ret = bdrv_co_block_status(a->p->bs, a->offset, a->bytes, &a->pnum, &a->map, &a->file);
    } else if (a->question == STATUS_ABOVE) {
        a->ret = bdrv_co_block_status_above(a->p->bs, base, a->offset, a->bytes, &a->pnum, &a->map, &a->file);
    } else if (a->question == IS_ALLOCATED) {
        a->ret = bdrv_co_is_allocated(a->p->bs, a->offset, a->bytes, &a->pnum);
    } else {
        a->ret = bdrv_co_is_allocated_above(a->p->bs, base, a->include_base, a->offset, a->bytes, &a->pnum);
    }
}

static void ask(struct ask *a)
{
    a->ret = -1;
    a->pnum = -1;
    coroutine_start(coroutine_create(world, host, "status", ask_entry, a));
    settle();
}

static void assert_status(struct probe *p, int64_t offset, int64_t bytes, int flags, int64_t pnum)
{
    struct ask a = {.question = STATUS, .p = p, .offset = offset, .bytes = bytes};
    ask(&a);
    assert_int_equal(a.ret, flags);
    assert_int_equal(a.pnum, pnum);
}

/* fact: block 2.13/default, 2.13/pnum */
static void test_no_operation(void **state)
{
    struct probe *protocol = probe_new((struct probe_spec){.name = "a", .length = MiB});
    struct probe *format = probe_new((struct probe_spec){.name = "b", .drv = &mute_driver, .length = MiB});
    int data = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
    struct ask a = {.question = STATUS, .p = protocol, .offset = 512, .bytes = 1024};
    ask(&a);
    assert_int_equal(a.ret, data | BDRV_BLOCK_OFFSET_VALID);
    assert_int_equal(a.map, 512);
    assert_ptr_equal(a.file, protocol->bs);
    assert_status(format, 0, 1024, data, 1024);
    assert_status(format, MiB - 512, 1024, data | BDRV_BLOCK_EOF, 512);
    assert_status(format, MiB, 1024, BDRV_BLOCK_EOF, 0);
    assert_status(format, 5 * MiB, 1024, BDRV_BLOCK_EOF, 0);
    probe_free(protocol);
    probe_free(format);
}

/* The question is widened to the alignment, the answer clipped to the question.
 * fact: block 2.13/widened */
static void test_alignment(void **state)
{
    struct probe *p = probe_new((struct probe_spec){
        .name = "p", .drv = &protocol_driver, .length = MiB, .limits = {.request_alignment = 4096}});
    p->status_flags = BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    struct ask a = {.question = STATUS, .p = p, .offset = 5000, .bytes = 100};
    ask(&a);
    assert_call(p, 0, SIM_OP_BLOCK_STATUS, 4096, 4096);
    assert_int_equal(a.pnum, 100);
    assert_int_equal(a.map, 5000);
    a.bytes = 100000;
    p->status_run = 4096;
    ask(&a);
    assert_int_equal(a.pnum, 8192 - 5000);
    probe_fail(p, SIM_OP_BLOCK_STATUS, -1, -EIO, 1);
    ask(&a);
    assert_int_equal(a.ret, -EIO);
    probe_free(p);
}

/* One range of data of a childless node is remembered until a zero write or discard overlaps it.
 * fact: block 2.13/cache */
static void test_cache(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .drv = &protocol_driver, .length = MiB});
    int data = BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    p->status_flags = data;
    p->status_run = 65536;
    assert_status(p, 4096, 512, data | BDRV_BLOCK_ALLOCATED, 512);
    assert_status(p, 4200, 512, data | BDRV_BLOCK_ALLOCATED, 512);
    assert_int_equal(p->log_count, 2); /* the answer to the first question was as short as the question */
    assert_status(p, 0, MiB, data | BDRV_BLOCK_ALLOCATED, 65536);
    assert_status(p, 60000, 5536, data | BDRV_BLOCK_ALLOCATED, 5536);
    assert_int_equal(probe_calls(p, SIM_OP_BLOCK_STATUS), 3);
    assert_int_equal(do_req(p, SIM_OP_WRITE_ZEROES, MiB - 512, 512, 0, 0), 0);
    assert_status(p, 0, 65536, data | BDRV_BLOCK_ALLOCATED, 65536);
    assert_int_equal(probe_calls(p, SIM_OP_BLOCK_STATUS), 3);
    assert_int_equal(do_req(p, SIM_OP_WRITE_ZEROES, 65535, 512, 0, 0), 0);
    p->status_flags = BDRV_BLOCK_ZERO;
    assert_status(p, 0, MiB, BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED, 65536);
    assert_int_equal(probe_calls(p, SIM_OP_BLOCK_STATUS), 4);
    probe_free(p);
}

/* Neither data nor zero: zero without a backing file or beyond its end, never allocated.
 * fact: block 2.13/allocated, 2.13/no-backing, 2.13/beyond-backing, edge/18 */
static void test_unallocated(void **state)
{
    struct probe *base = probe_new((struct probe_spec){.name = "base", .drv = &cow_driver, .length = MiB});
    struct probe *top =
        probe_new((struct probe_spec){.name = "top", .drv = &cow_driver, .length = 2 * MiB, .backing = base});
    assert_status(base, 0, 4096, BDRV_BLOCK_ZERO, 4096);
    assert_status(top, 0, 4096, 0, 4096);
    assert_status(top, MiB, 4096, BDRV_BLOCK_ZERO, 4096);
    top->status_flags = BDRV_BLOCK_ZERO;
    assert_status(top, 0, 4096, BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED, 4096);
    top->status_flags = BDRV_BLOCK_DATA;
    assert_status(top, 0, 4096, BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED, 4096);
    probe_free(top);
    probe_free(base);
}

static const BlockDriver filter_driver = {
    .format_name = "filter-probe",
    .doc = "test",
    .instance_size = sizeof(struct probe),
    .is_filter = true,
    .bdrv_co_preadv = probe_preadv,
    .bdrv_co_pwritev = probe_pwritev,
    .bdrv_co_getlength = probe_getlength,
};

static struct probe *filter_over(struct probe *below)
{
    struct probe *filter =
        probe_new((struct probe_spec){.name = "filter", .drv = &filter_driver, .length = MiB, .file = below});
    filter->bs->file->role = BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY;
    return filter;
}

/* A filter passes the question on, and what the answer says of map, file and content is that of below; only the end
 * is its own.
 * fact: block 2.13/filter, 2.13/flags, edge/19 */
static void test_filter(void **state)
{
    struct probe *below = probe_new(
        (struct probe_spec){.name = "below", .drv = &protocol_driver, .length = 2 * MiB, .no_resize = true});
    struct probe *filter = filter_over(below);
    int data = BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    below->status_flags = data | BDRV_BLOCK_COMPRESSED;
    struct ask a = {.question = STATUS, .p = filter, .offset = 4096, .bytes = 8192};
    ask(&a);
    assert_int_equal(a.ret, data | BDRV_BLOCK_COMPRESSED | BDRV_BLOCK_ALLOCATED);
    assert_int_equal(a.pnum, 8192);
    assert_int_equal(a.map, 4096);
    assert_ptr_equal(a.file, below->bs);
    below->status_flags = BDRV_BLOCK_ZERO;
    assert_status(filter, MiB - 4096, MiB, BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_EOF, 4096);
    probe_free(filter);
    probe_free(below);
}

/* RECURSE: holes of the file add ZERO and shorten the answer; beyond its end all is zero; errors are no news.
 * fact: block 2.13/recurse, 2.13/long-answer */
static void test_recurse(void **state)
{
    struct probe *file =
        probe_new((struct probe_spec){.name = "file", .drv = &protocol_driver, .length = MiB, .no_resize = true});
    struct probe *top =
        probe_new((struct probe_spec){.name = "top", .drv = &cow_driver, .length = 2 * MiB, .file = file});
    int data = BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_ALLOCATED;
    top->status_flags = BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_RECURSE;
    file->status_flags = BDRV_BLOCK_DATA;
    file->status_run = 4096;
    assert_status(top, 0, 65536, data, 4096);
    file->status_flags = BDRV_BLOCK_ZERO;
    assert_status(top, 0, 65536, data | BDRV_BLOCK_ZERO, 4096);
    assert_status(top, MiB - 4096, 65536, data | BDRV_BLOCK_ZERO, 65536);
    assert_status(top, MiB + 4096, 65536, data | BDRV_BLOCK_ZERO, 65536);
    probe_fail(file, SIM_OP_BLOCK_STATUS, -1, -EIO, 1);
    assert_status(top, 0, 65536, data, 65536);
    /* Allocation alone does not look at the file. */
    unsigned calls = file->log_count;
    struct ask a = {.question = IS_ALLOCATED, .p = top, .offset = 0, .bytes = 65536};
    ask(&a);
    assert_int_equal(a.ret, 1);
    assert_int_equal(a.pnum, 65536);
    assert_int_equal(file->log_count, calls);
    probe_free(top);
    probe_free(file);
}

struct chain {
    struct probe *base;
    struct probe *mid;
    struct probe *top;
};

/* Vector of section 12: 3 MiB over 1 MiB over 3 MiB. */
static struct chain short_chain(void)
{
    struct chain c;
    c.base = probe_new((struct probe_spec){.name = "base", .drv = &cow_driver, .length = 3 * MiB, .fill = 0xaa});
    c.mid = probe_new((struct probe_spec){.name = "mid", .drv = &cow_driver, .length = MiB, .backing = c.base});
    c.top = probe_new((struct probe_spec){.name = "top", .drv = &cow_driver, .length = 3 * MiB, .backing = c.mid});
    c.base->status_flags = BDRV_BLOCK_DATA;
    return c;
}

static void chain_free(struct chain *c)
{
    probe_free(c->top);
    probe_free(c->mid);
    probe_free(c->base);
}

/* fact: block 12/status, 2.13/short-layer, 2.13/above, edge/17 */
static void test_short_layer(void **state)
{
    struct chain c = short_chain();
    assert_status(c.top, 2 * MiB, 4096, BDRV_BLOCK_ZERO, 4096);
    struct ask a = {.question = IS_ALLOCATED_ABOVE, .p = c.top, .offset = 2 * MiB, .bytes = 4096};
    ask(&a);
    assert_int_equal(a.ret, 2);
    assert_int_equal(a.pnum, 4096);
    a.question = STATUS_ABOVE;
    ask(&a);
    assert_int_equal(a.ret, BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED);
    assert_ptr_equal(a.file, c.mid->bs);
    a.bytes = 4 * MiB;
    ask(&a);
    assert_int_equal(a.ret, BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_EOF);
    assert_int_equal(a.pnum, MiB);
    chain_free(&c);
}

/* Depth counts layers from 1; base itself only when asked; the end of a short layer is not the end.
 * fact: block 2.13/above, 2.13/depth, edge/21 */
static void test_above(void **state)
{
    struct chain c = short_chain();
    struct ask a = {.question = IS_ALLOCATED_ABOVE, .p = c.top, .offset = 0, .bytes = 4 * MiB};
    ask(&a);
    assert_int_equal(a.ret, 3);
    assert_int_equal(a.pnum, MiB);
    a.base = c.base;
    ask(&a);
    assert_int_equal(a.ret, 0);
    assert_int_equal(a.pnum, MiB);
    a.include_base = true;
    ask(&a);
    assert_int_equal(a.ret, 3);
    c.mid->status_flags = BDRV_BLOCK_ZERO;
    ask(&a);
    assert_int_equal(a.ret, 2);
    c.top->status_flags = BDRV_BLOCK_DATA;
    c.top->status_run = 8192;
    ask(&a);
    assert_int_equal(a.ret, 1);
    assert_int_equal(a.pnum, 8192);
    a.question = STATUS_ABOVE;
    a.base = c.top;
    ask(&a);
    assert_int_equal(a.ret, 0);
    a.base = NULL;
    c.top->status_flags = 0;
    c.top->status_run = 0;
    ask(&a);
    assert_int_equal(a.ret, BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED);
    assert_int_equal(a.pnum, MiB);
    probe_fail(c.mid, SIM_OP_BLOCK_STATUS, -1, -EIO, 1);
    ask(&a);
    assert_int_equal(a.ret, -EIO);
    chain_free(&c);
}

/* [seed 4f57863]: one query, the same answer whether the main loop asks or a coroutine. */
/* fact: jobs seed/4f57863 */
static void test_seed_4f57863_anywhere(void **state)
{
    struct chain c = short_chain();
    struct ask inside = {.question = IS_ALLOCATED_ABOVE, .p = c.top, .bytes = 4 * MiB};
    struct ask outside = inside;
    for (; inside.offset < 3 * MiB; inside.offset += MiB) {
        outside.offset = inside.offset;
        ask(&inside);
        probe_main(ask_entry, &outside);
        assert_int_equal(outside.ret, inside.ret);
        assert_int_equal(outside.pnum, inside.pnum);
    }
    assert_int_equal(inside.ret, 2); /* where the middle layer ends, it decides */
    chain_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/status/no-operation", test_no_operation),
        T_NODE("/status/alignment", test_alignment),
        T_NODE("/status/cache", test_cache),
        T_NODE("/status/unallocated", test_unallocated),
        T_NODE("/status/filter", test_filter),
        T_NODE("/status/recurse", test_recurse),
        T_NODE("/status/short-layer", test_short_layer),
        T_NODE("/status/above", test_above),
        T_NODE("/status/seed/4f57863/inside-and-outside-coroutines", test_seed_4f57863_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
