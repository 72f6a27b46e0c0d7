/* Descriptors of driver `file`, beside the world: see file_fds.h. */
#include "block/file_fds.h"

#include <stdlib.h>
#include <unistd.h>

struct fd_list {
    struct {
        int fd;
        const struct host *host;
    } * item;
    size_t count;
    size_t room;
};

/* host NULL: all. */
static void close_fds(struct fd_list *list, const struct host *host)
{
    size_t kept = 0;

    for (size_t i = 0; i < list->count; i++) {
        if (!host || list->item[i].host == host) {
            close(list->item[i].fd);
        } else {
            list->item[kept++] = list->item[i];
        }
    }
    list->count = kept;
}

static void list_reset(struct sim *sim, void *state)
{
    close_fds(state, NULL);
}

static void list_host_crash(struct sim *sim, void *state, struct host *host)
{
    close_fds(state, host);
}

static void list_destroy(struct sim *sim, void *state)
{
    struct fd_list *list = state;

    close_fds(list, NULL);
    free(list->item);
    free(list);
}

static const struct sim_ext_ops list_ops = {
    .reset = list_reset, .host_crash = list_host_crash, .destroy = list_destroy};

void file_remember_fd(struct host *host, int fd)
{
    struct fd_list *list = sim_ext(host->sim, SIM_EXT_BLOCK);

    if (!list) {
        list = calloc(1, sizeof(*list));
        SIM_ASSERT(list != NULL);
        sim_ext_set(host->sim, SIM_EXT_BLOCK, &list_ops, list);
    }
    if (list->count == list->room) {
        list->room = MAX(list->room * 2, (size_t)8);
        list->item = realloc(list->item, list->room * sizeof(*list->item));
        SIM_ASSERT(list->item != NULL);
    }
    list->item[list->count].fd = fd;
    list->item[list->count++].host = host;
}

void file_close_fd(struct host *host, int fd)
{
    struct fd_list *list = sim_ext(host->sim, SIM_EXT_BLOCK);

    for (size_t i = 0; i < list->count; i++) {
        if (list->item[i].fd == fd) {
            list->item[i] = list->item[--list->count];
            close(fd);
            return;
        }
    }
    SIM_ASSERT(false);
}
