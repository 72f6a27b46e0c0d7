/*
 * Running many scenarios in worker processes.
 *
 * Worker w of n runs items w, w+n, w+2n, ... and writes each result to its pipe in order. The parent hands results
 * on in the order of items whatever the number of workers, so output never depends on it. A worker that dies by a
 * signal or a sanitizer's exit lost the item after its last result: verdict crash; one that is silent for too long
 * is killed: verdict hang. In both cases a new worker goes on behind the lost item.
 */
#include "cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORKERS 64

/* --- results over a pipe ------------------------------------------------------------------------------------ */

struct wire_header {
    uint64_t index;
    struct run_result r; /* pointers meaningless */
    uint32_t json_bytes;
    uint32_t violations;
    uint32_t error_bytes;
};

static void write_all(int fd, const void *data, size_t size)
{
    const char *at = data;

    while (size) {
        ssize_t n = write(fd, at, size);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            _exit(EXIT_INTERNAL); /* the parent is gone */
        }
        at += n;
        size -= (size_t)n;
    }
}

static void write_text(int fd, const char *text)
{
    uint32_t n = text ? (uint32_t)strlen(text) : 0;

    write_all(fd, &n, sizeof(n));
    write_all(fd, text, n);
}

static void send_result(int fd, uint64_t index, const struct run_result *r, const char *json)
{
    struct wire_header header = {.index = index, .r = *r};

    header.json_bytes = json ? (uint32_t)strlen(json) : 0;
    for (const struct violation *v = r->violations; v; v = v->next) {
        header.violations++;
    }
    header.error_bytes = r->error ? (uint32_t)strlen(r->error) : 0;
    write_all(fd, &header, sizeof(header));
    write_all(fd, json, header.json_bytes);
    write_all(fd, r->error, header.error_bytes);
    for (const struct violation *v = r->violations; v; v = v->next) {
        write_all(fd, &v->time_ns, sizeof(v->time_ns));
        write_all(fd, &v->event, sizeof(v->event));
        write_text(fd, v->check);
        write_text(fd, v->signature);
        write_text(fd, v->detail);
    }
}

static bool read_all(int fd, void *data, size_t size)
{
    char *at = data;

    while (size) {
        ssize_t n = read(fd, at, size);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static char *read_text(int fd, uint32_t n)
{
    char *text = malloc((size_t)n + 1);

    SIM_ASSERT(text);
    if (!read_all(fd, text, n)) {
        n = 0;
    }
    text[n] = '\0';
    return text;
}

static char *read_counted_text(int fd)
{
    uint32_t n = 0;

    return read_all(fd, &n, sizeof(n)) ? read_text(fd, n) : strdup("");
}

static struct pool_result *receive_result(int fd)
{
    struct wire_header header;
    struct pool_result *result;
    struct violation **tail;

    if (!read_all(fd, &header, sizeof(header))) {
        return NULL;
    }
    result = calloc(1, sizeof(*result));
    SIM_ASSERT(result);
    result->index = header.index;
    result->r = header.r;
    result->r.violations = NULL;
    result->r.hosts = NULL;
    result->r.choices = NULL;
    result->r.choice_count = 0;
    result->json = header.json_bytes ? read_text(fd, header.json_bytes) : NULL;
    result->r.error = header.error_bytes ? read_text(fd, header.error_bytes) : NULL;
    tail = &result->r.violations;
    for (uint32_t i = 0; i < header.violations; i++) {
        struct violation *v = calloc(1, sizeof(*v));

        SIM_ASSERT(v);
        if (!read_all(fd, &v->time_ns, sizeof(v->time_ns)) || !read_all(fd, &v->event, sizeof(v->event))) {
            v->event = 0;
        }
        v->check = read_counted_text(fd);
        v->signature = read_counted_text(fd);
        v->detail = read_counted_text(fd);
        *tail = v;
        tail = &v->next;
    }
    return result;
}

static void free_result(struct pool_result *result)
{
    run_result_clear(&result->r);
    free(result->json);
    free(result);
}

/* --- one item ----------------------------------------------------------------------------------------------- */

static void run_item(const struct pool_job *job, struct runner *runner, uint64_t index, struct run_result *r,
                     char **json)
{
    Error *err = NULL;
    struct scenario *scn = job->item(job->opaque, index, &err);

    if (!scn) {
        memset(r, 0, sizeof(*r));
        r->verdict = VERDICT_ERROR;
        r->error = strdup(error_get_pretty(err));
        error_free(err);
    } else {
        runner_run(runner, scn, job->options, job->want_json, r);
    }
    *json = job->want_json ? run_result_json(r, job->profile, scn ? scn->path : NULL) : NULL;
    scenario_free(scn);
}

static SIM_NORETURN void work(const struct pool_job *job, uint64_t first, int fd)
{
    struct runner *runner = runner_new();

    for (uint64_t i = first; i < job->items; i += job->workers) {
        struct run_result r;
        char *json;

        run_item(job, runner, i, &r, &json);
        fflush(NULL);
        send_result(fd, i, &r, json);
        free(json);
        run_result_clear(&r);
    }
    runner_free(runner);
    _exit(EXIT_PASS);
}

/* --- the parent --------------------------------------------------------------------------------------------- */

struct worker {
    pid_t pid;
    int fd;
    uint64_t next; /* item whose result is expected next */
    double heard;
};

struct pool {
    const struct pool_job *job;
    struct worker workers[MAX_WORKERS];
    unsigned count;
    struct pool_result **waiting; /* by index - delivered, a ring that grows */
    uint64_t room;
    uint64_t delivered;
    bool stopped;
};

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void start_worker(struct pool *pool, struct worker *w)
{
    int fds[2];

    w->pid = 0;
    w->fd = -1;
    if (w->next >= pool->job->items || pipe(fds) < 0) {
        return;
    }
    fflush(NULL);
    w->pid = fork();
    if (w->pid == 0) {
        close(fds[0]);
        for (unsigned i = 0; i < pool->count; i++) {
            if (pool->workers[i].fd >= 0) {
                close(pool->workers[i].fd);
            }
        }
        work(pool->job, w->next, fds[1]);
    }
    close(fds[1]);
    w->fd = fds[0];
    w->heard = seconds();
}

static void store(struct pool *pool, struct pool_result *result)
{
    uint64_t slot = result->index - pool->delivered;

    if (slot >= pool->room) {
        uint64_t room = MAX(slot + 1, pool->room * 2);

        pool->waiting = realloc(pool->waiting, room * sizeof(*pool->waiting));
        SIM_ASSERT(pool->waiting);
        memset(pool->waiting + pool->room, 0, (room - pool->room) * sizeof(*pool->waiting));
        pool->room = room;
    }
    pool->waiting[slot] = result;
}

static void deliver(struct pool *pool)
{
    uint64_t n = 0;

    while (n < pool->room && pool->waiting[n] && !pool->stopped) {
        pool->stopped = !pool->job->result(pool->job->opaque, pool->waiting[n]);
        free_result(pool->waiting[n]);
        n++;
    }
    if (n) {
        memmove(pool->waiting, pool->waiting + n, (pool->room - n) * sizeof(*pool->waiting));
        memset(pool->waiting + pool->room - n, 0, n * sizeof(*pool->waiting));
        pool->delivered += n;
    }
}

/* The item in hand of a dead worker, as a result. */
static struct pool_result *lost_item(const struct pool *pool, const struct worker *w, int wait_status, bool hang)
{
    struct pool_result *result = calloc(1, sizeof(*result));
    struct violation *v = calloc(1, sizeof(*v));
    const char *how = WIFSIGNALED(wait_status) ? strsignal(WTERMSIG(wait_status)) : "sanitizer or exit";

    SIM_ASSERT(result && v);
    result->index = w->next;
    result->r.seed = pool->job->seed ? pool->job->seed(pool->job->opaque, w->next) : 0;
    result->r.verdict = hang ? VERDICT_HANG : VERDICT_CRASH;
    v->check = strdup(hang ? "hang" : "crash");
    if (asprintf(&v->signature, "%s.%s", v->check, hang ? "never-yields" : how) < 0 ||
        asprintf(&v->detail, "the worker process %s (%s)", hang ? "made no progress and was ended" : "died", how) <
            0) {
        SIM_ASSERT(false);
    }
    for (char *c = v->signature; *c; c++) {
        *c = *c == ' ' ? '-' : *c;
    }
    result->r.violations = v;
    result->r.violation_count = 1;
    if (pool->job->want_json) {
        result->json = run_result_json(&result->r, pool->job->profile, NULL);
    }
    return result;
}

static void worker_ended(struct pool *pool, struct worker *w, bool hang)
{
    int status = 0;

    if (hang) {
        kill(w->pid, SIGKILL);
    }
    close(w->fd);
    w->fd = -1;
    waitpid(w->pid, &status, 0);
    w->pid = 0;
    if (w->next < pool->job->items && !pool->stopped) {
        store(pool, lost_item(pool, w, status, hang));
        w->next += pool->job->workers;
        start_worker(pool, w);
    }
}

static void listen_once(struct pool *pool)
{
    struct pollfd fds[MAX_WORKERS];

    for (unsigned i = 0; i < pool->count; i++) {
        fds[i] = (struct pollfd){.fd = pool->workers[i].fd, .events = POLLIN};
    }
    poll(fds, pool->count, 500);
    for (unsigned i = 0; i < pool->count; i++) {
        struct worker *w = &pool->workers[i];
        struct pool_result *result;

        if (w->fd < 0) {
            continue;
        }
        if (!(fds[i].revents & (POLLIN | POLLHUP))) {
            if (seconds() - w->heard > pool->job->stall_seconds) {
                worker_ended(pool, w, true);
            }
            continue;
        }
        result = receive_result(w->fd);
        if (!result) {
            worker_ended(pool, w, false);
            continue;
        }
        w->heard = seconds();
        w->next += pool->job->workers;
        store(pool, result);
    }
}

static bool alive(const struct pool *pool)
{
    for (unsigned i = 0; i < pool->count; i++) {
        if (pool->workers[i].fd >= 0) {
            return true;
        }
    }
    return false;
}

void pool_run(const struct pool_job *job)
{
    struct pool pool = {.job = job, .count = job->workers};

    SIM_ASSERT(job->workers >= 1 && job->workers <= MAX_WORKERS);
    for (unsigned i = 0; i < pool.count; i++) {
        pool.workers[i].fd = -1;
    }
    for (unsigned i = 0; i < pool.count; i++) {
        pool.workers[i].next = i;
        start_worker(&pool, &pool.workers[i]);
    }
    while (alive(&pool) && !pool.stopped) {
        listen_once(&pool);
        deliver(&pool);
    }
    deliver(&pool);
    for (unsigned i = 0; i < pool.count; i++) {
        if (pool.workers[i].fd >= 0) {
            worker_ended(&pool, &pool.workers[i], true);
        }
    }
    for (uint64_t i = 0; i < pool.room; i++) {
        if (pool.waiting[i]) {
            free_result(pool.waiting[i]);
        }
    }
    free(pool.waiting);
}

void pool_run_here(const struct pool_job *job)
{
    struct runner *runner = runner_new();
    bool go = true;

    for (uint64_t i = 0; i < job->items && go; i++) {
        struct pool_result result = {.index = i};

        run_item(job, runner, i, &result.r, &result.json);
        go = job->result(job->opaque, &result);
        free(result.json);
        run_result_clear(&result.r);
    }
    runner_free(runner);
}
