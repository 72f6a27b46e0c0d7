/*
 * Requests of 4 KiB through one, three and six nodes, beside requests to the bare disk, rounds interleaved; the
 * same over null-co, which answers at once, beside `qemu-img bench` where that is installed.
 *
 * One request at a time, each awaited, at random places of the first MiB. What a node costs is the slope between
 * the chains; the disk's own cost (its events, its queue, its pages) is the bare figure.
 */
#include "bench/requests.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/block_int.h"
#include "bench/measure.h"
#include "block/throttle_group.h"
#include "sim/disk.h"

#define OPS 20000u
#define ROUNDS 9u
#define BYTES 4096

enum { READ, WRITE, OPS_COUNT };
static const char *const op_names[OPS_COUNT] = {"read", "write"};

/* A chain from the backend down, as blockdev-add takes it; NULL: the bare disk. */
struct path {
    const char *name;
    unsigned nodes;
    const char *json;
};

#define DISK "{\"driver\":\"disk\",\"disk\":\"d\"}"
#define NULL_CO "{\"driver\":\"null-co\",\"size\":1073741824}"
#define RAW(file) "{\"driver\":\"raw\",\"file\":" file "}"
#define THROTTLE(file) "{\"driver\":\"throttle\",\"throttle-group\":\"t\",\"file\":" file "}"
#define COR(file) "{\"driver\":\"copy-on-read\",\"file\":" file "}"

static const struct path paths[] = {
    {"bare disk", 0, NULL},
    {"disk", 1, DISK},
    {"throttle, raw, disk", 3, THROTTLE(RAW(DISK))},
    {"throttle, copy-on-read, raw, throttle, raw, disk", 6, THROTTLE(COR(RAW(THROTTLE(RAW(DISK)))))},
    {"null-co", 1, NULL_CO},
    {"throttle, raw, null-co", 3, THROTTLE(RAW(NULL_CO))},
    {"throttle, copy-on-read, raw, throttle, raw, null-co", 6, THROTTLE(COR(RAW(THROTTLE(RAW(NULL_CO)))))},
};
#define PATHS ARRAY_SIZE(paths)

struct bench {
    struct sim *sim;
    struct host *host;
    struct disk *disk;
    BlockBackend *blk; /* NULL: the bare disk */
    unsigned op;
    double ns;
    double figures[PATHS][OPS_COUNT][ROUNDS];
};

static void must(bool ok, Error *err)
{
    if (!ok) {
        fprintf(stderr, "bench: %s\n", err ? error_get_pretty(err) : "a request failed");
        exit(3);
    }
}

/* --- one chain ----------------------------------------------------------------------------------------------- */

static int one_read(const struct bench *b, int64_t offset)
{
    struct payload data;

    payload_init(b->sim, &data);
    int ret = b->blk ? blk_co_preadv(b->blk, offset, BYTES, &data, 0) : disk_co_read(b->disk, offset, BYTES, &data);
    payload_clear(&data);
    return ret;
}

static int one_write(const struct bench *b, int64_t offset, const struct payload *data)
{
    return b->blk ? blk_co_pwritev(b->blk, offset, BYTES, data, 0) : disk_co_write(b->disk, offset, BYTES, data, 0);
}

static int stream(void *opaque)
{
    struct bench *b = opaque;
    struct payload data;
    int ret = 0;

    payload_init(b->sim, &data);
    payload_append_fill(&data, 0x5a, BYTES);
    double start = bench_now_ns();
    for (unsigned i = 0; i < OPS && ret >= 0; i++) {
        int64_t offset = (int64_t)(sim_mix64(i) % (MiB / BYTES)) * BYTES;

        ret = b->op == READ ? one_read(b, offset) : one_write(b, offset, &data);
    }
    b->ns = (bench_now_ns() - start) / OPS;
    payload_clear(&data);
    return ret;
}

static BlockDriverState *add_chain(struct bench *b, const char *json)
{
    Error *err = NULL;
    struct qvalue *options = qvalue_from_json(json, strlen(json), &err);

    must(options != NULL, err);
    qdict_put(options, "node-name", qvalue_str("n"));
    BlockDriverState *bs = qmp_blockdev_add_node(b->host, options, &err);
    must(bs != NULL, err);
    qvalue_free(options);
    return bs;
}

static void measure(struct bench *b, size_t path, unsigned round)
{
    BlockDriverState *bs = paths[path].json ? add_chain(b, paths[path].json) : NULL;
    Error *err = NULL;

    if (bs) {
        b->blk = blk_new(b->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL);
        must(blk_insert_bs(b->blk, bs, &err) >= 0, err);
    }
    for (b->op = 0; b->op < OPS_COUNT; b->op++) {
        must(bdrv_run_co(b->host, "bench", stream, b) >= 0, NULL);
        b->figures[path][b->op][round] = b->ns;
    }
    if (bs) {
        blk_unref(b->blk);
        b->blk = NULL;
        must(qmp_blockdev_del_node(b->host, "n", &err), err);
    }
}

static void measure_all(void *opaque)
{
    struct bench *b = opaque;
    Error *err = NULL;
    struct qvalue *props = qvalue_from_json("{}", 2, &err);

    must(throttle_object_add(b->host, "t", props, &err), err);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (size_t path = 0; path < PATHS; path++) {
            measure(b, path, round);
        }
    }
    must(throttle_object_del(b->host, "t", &err), err);
    qvalue_free(props);
}

/* --- QEMU ------------------------------------------------------------------------------------------------------
 */

/* Processor time of one run; negative: there is no qemu-img, or it refuses. */
static double run_qemu_img(const char *count, unsigned op)
{
    struct rusage before, after;
    int status;

    getrusage(RUSAGE_CHILDREN, &before);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, 1);
        dup2(null, 2);
        execlp("qemu-img", "qemu-img", "bench", "-c", count, "-d", "1", "-s", "4096", "--image-opts",
               "driver=null-co,size=1G", op == WRITE ? "-w" : (char *)NULL, (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        return -1;
    }
    getrusage(RUSAGE_CHILDREN, &after);
    return (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec -
                    before.ru_stime.tv_sec) *
               1e9 +
           (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
                    before.ru_stime.tv_usec) *
               1e3;
}

/* What 100,000 more requests of QEMU cost each, over null-co alone. */
static void print_qemu(void)
{
    double ns[OPS_COUNT];

    for (unsigned op = 0; op < OPS_COUNT; op++) {
        double values[ROUNDS];

        for (unsigned round = 0; round < ROUNDS; round++) {
            double more = run_qemu_img("101000", op), less = run_qemu_img("1000", op);

            if (more < 0 || less < 0) {
                printf("          qemu-img bench: skipped, qemu-img is not installed or has no null-co\n");
                return;
            }
            values[round] = (more - less) / 100000;
        }
        ns[op] = bench_median(values, ROUNDS);
    }
    printf("          %-52s %5s %8.0f %8s %8.0f\n", "qemu-img bench -d 1, null-co (QEMU's own)", "1", ns[READ], "",
           ns[WRITE]);
}

/* --- the table ---------------------------------------------------------------------------------------------------
 */

static void print_paths(struct bench *b)
{
    double bare[OPS_COUNT] = {0};

    printf("requests  4 KiB, one at a time, ns each (x: as many times as the bare disk)\n");
    printf("          %-52s %5s %8s %8s %8s\n", "through", "nodes", op_names[READ], "", op_names[WRITE]);
    for (size_t path = 0; path < PATHS; path++) {
        double read = bench_median(b->figures[path][READ], ROUNDS),
               write = bench_median(b->figures[path][WRITE], ROUNDS);

        if (path == 0) {
            bare[READ] = read;
            bare[WRITE] = write;
        }
        printf("          %-52s %5u %8.0f (%4.2f x) %7.0f (%4.2f x)\n", paths[path].name, paths[path].nodes, read,
               read / bare[READ], write, write / bare[WRITE]);
    }
}

void bench_request_paths(void)
{
    static struct bench b;
    struct disk_config config;

    b.sim = sim_new();
    b.host = host_new(b.sim, "h");
    bdrv_graph_init(b.host);
    disk_config_default(&config);
    config.size_bytes = MiB;
    b.disk = disk_new(b.sim, "d", &config, NULL);
    disk_set_journal(b.disk, false); /* as in worlds that lose no power */
    host_command(b.host, measure_all, &b);
    sim_run_idle(b.sim, NULL, NULL, INT64_MAX);
    print_paths(&b);
    print_qemu();
    bdrv_graph_cleanup(b.host);
    host_delete(b.host);
    sim_delete(b.sim);
}
