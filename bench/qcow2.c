/*
 * Random requests of 4 and 64 KiB, four at a time, to qcow2 images beside a raw disk, rounds interleaved.
 *
 * Each round makes disk and images anew: the first writes find nothing (an image allocates, copies around what it
 * is asked to write, and keeps counts), the second ones find what the first have left. The raw disk is the floor of
 * both: node raw over node disk, the same requests to the same places.
 */
#include "bench/qcow2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/measure.h"
#include "block/block_int.h"
#include "sim/disk.h"

#define OPS 2000u
#define ROUNDS 9u
#define DEPTH 4u
#define IMAGE (64 * MiB)

enum { NEW_WRITE, WRITE, READ, OPS_COUNT };
static const char *const op_names[OPS_COUNT] = {"new write", "write", "read"};
static const int64_t sizes[] = {4 * KiB, 64 * KiB};

struct path {
    const char *name;
    const char *create; /* options of blockdev-create; NULL: the medium alone */
    const char *open;
};

#define FILE_IS_D "\"file\":{\"driver\":\"disk\",\"disk\":\"d\"}"
#define CREATE(cluster) "{\"driver\":\"qcow2\",\"file\":\"medium\",\"size\":67108864,\"cluster-size\":" cluster "}"

static const struct path paths[] = {
    {"raw", NULL, "{\"node-name\":\"n\",\"driver\":\"raw\"," FILE_IS_D "}"},
    {"qcow2, clusters of 64 KiB", CREATE("65536"), "{\"node-name\":\"n\",\"driver\":\"qcow2\"," FILE_IS_D "}"},
    {"qcow2, clusters of 4 KiB", CREATE("4096"), "{\"node-name\":\"n\",\"driver\":\"qcow2\"," FILE_IS_D "}"},
};

struct bench {
    struct sim *sim;
    struct host *host;
    BlockBackend *blk;
    unsigned op;
    int64_t bytes;
    unsigned next; /* request */
    unsigned running;
    int ret;
    double figures[ARRAY_SIZE(paths)][ARRAY_SIZE(sizes)][OPS_COUNT][ROUNDS];
};

static void must(bool ok, Error *err)
{
    if (!ok) {
        fprintf(stderr, "bench: %s\n", err ? error_get_pretty(err) : "a request failed");
        exit(3);
    }
}

static struct qvalue *options_of(const char *json)
{
    Error *err = NULL;
    struct qvalue *options = qvalue_from_json(json, strlen(json), &err);

    must(options != NULL, err);
    return options;
}

/* --- requests ----------------------------------------------------------------------------------------------- */

static int one_request(struct bench *b, int64_t offset)
{
    struct payload data;
    int ret;

    payload_init(b->sim, &data);
    if (b->op == READ) {
        ret = blk_co_preadv(b->blk, offset, b->bytes, &data, 0);
    } else {
        payload_append_fill(&data, 0x5a, b->bytes);
        ret = blk_co_pwritev(b->blk, offset, b->bytes, &data, 0);
    }
    payload_clear(&data);
    return ret;
}

/* One of four: whoever is done takes the next request. */
static void stream(void *opaque)
{
    struct bench *b = opaque;

    while (b->next < OPS && b->ret >= 0) {
        uint64_t place = sim_mix64(b->next++) % (uint64_t)(IMAGE / b->bytes);
        int ret = one_request(b, (int64_t)place * b->bytes);

        b->ret = MIN(b->ret, ret);
    }
    b->running--;
}

static bool all_done(void *opaque)
{
    return ((struct bench *)opaque)->running == 0;
}

static double run_streams(struct bench *b)
{
    double start = bench_now_ns();

    b->next = 0;
    b->ret = 0;
    b->running = DEPTH;
    for (unsigned i = 0; i < DEPTH; i++) {
        coroutine_start(coroutine_create(b->sim, b->host, "bench", stream, b));
    }
    host_poll(b->host, all_done, b);
    must(b->ret >= 0, NULL);
    return (bench_now_ns() - start) / OPS;
}

/* --- one image ---------------------------------------------------------------------------------------------- */

static void create(struct bench *b, const char *json)
{
    struct qvalue *options = options_of(json);
    Error *err = NULL;

    must(bdrv_co_create(b->host, options, &err) >= 0, err);
    qvalue_free(options);
}

static void add_node(struct bench *b, const char *json)
{
    struct qvalue *options = options_of(json);
    Error *err = NULL;

    must(qmp_blockdev_add_node(b->host, options, &err) != NULL, err);
    qvalue_free(options);
}

static void del_node(struct bench *b, const char *name)
{
    Error *err = NULL;

    must(qmp_blockdev_del_node(b->host, name, &err), err);
}

static void make(struct bench *b, const struct path *path)
{
    create(b, "{\"driver\":\"disk\",\"disk\":\"d\",\"size\":0}");
    if (path->create) {
        add_node(b, "{\"node-name\":\"medium\",\"driver\":\"disk\",\"disk\":\"d\"}");
        create(b, path->create);
        del_node(b, "medium");
    } else {
        create(b, "{\"driver\":\"disk\",\"disk\":\"d\",\"size\":67108864}");
    }
    add_node(b, path->open);
}

static void measure(struct bench *b, size_t path, size_t size, unsigned round)
{
    Error *err = NULL;

    make(b, &paths[path]);
    b->bytes = sizes[size];
    b->blk = blk_new(b->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL);
    must(blk_insert_bs(b->blk, bdrv_find_node(b->host, "n"), &err) >= 0, err);
    for (b->op = 0; b->op < OPS_COUNT; b->op++) {
        b->figures[path][size][b->op][round] = run_streams(b);
    }
    blk_unref(b->blk);
    b->blk = NULL;
    del_node(b, "n");
}

static void measure_all(void *opaque)
{
    struct bench *b = opaque;

    for (unsigned round = 0; round < ROUNDS; round++) {
        for (size_t size = 0; size < ARRAY_SIZE(sizes); size++) {
            for (size_t path = 0; path < ARRAY_SIZE(paths); path++) {
                measure(b, path, size, round);
            }
        }
    }
}

/* --- the table ---------------------------------------------------------------------------------------------- */

static void print_size(struct bench *b, size_t size)
{
    double floor[OPS_COUNT] = {0};

    for (size_t path = 0; path < ARRAY_SIZE(paths); path++) {
        printf("          %2d KiB  %-27s", (int)(sizes[size] / KiB), paths[path].name);
        for (unsigned op = 0; op < OPS_COUNT; op++) {
            double ns = bench_median(b->figures[path][size][op], ROUNDS);

            floor[op] = path == 0 ? ns : floor[op];
            printf(" %9.0f (%5.2f x)", ns, ns / floor[op]);
        }
        printf("\n");
    }
}

static void print_table(struct bench *b)
{
    printf("qcow2     random requests in 64 MiB, %u at a time, ns each (x: as many times as raw)\n", DEPTH);
    printf("          %-35s", "to");
    for (unsigned op = 0; op < OPS_COUNT; op++) {
        printf(" %9s %9s", op_names[op], "");
    }
    printf("\n");
    for (size_t size = 0; size < ARRAY_SIZE(sizes); size++) {
        print_size(b, size);
    }
}

void bench_qcow2(void)
{
    static struct bench b;
    struct disk_config config;

    b.sim = sim_new();
    b.host = host_new(b.sim, "h");
    bdrv_graph_init(b.host);
    disk_config_default(&config);
    struct disk *disk = disk_new(b.sim, "d", &config, NULL);
    disk_set_journal(disk, false); /* as in worlds that lose no power */
    host_command(b.host, measure_all, &b);
    sim_run_idle(b.sim, NULL, NULL, INT64_MAX);
    print_table(&b);
    bdrv_graph_cleanup(b.host);
    host_delete(b.host);
    sim_delete(b.sim);
}
