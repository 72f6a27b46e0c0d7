/* The list of internal snapshots of a qcow2 image in memory, which the table in the image follows. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/qcow2_check_int.h"

void qcow2_snapshot_append(BlockDriverState *bs, const QCowSnapshot *sn)
{
    BDRVQcow2State *s = bs->opaque;
    size_t bytes = s->nb_snapshots * sizeof(*sn);
    QCowSnapshot *list = qcow2_alloc(bs, bytes + sizeof(*sn));

    if (bytes > 0) {
        memcpy(list, s->snapshots, bytes);
    }
    list[s->nb_snapshots] = *sn;
    qcow2_free(bs, s->snapshots, bytes);
    s->snapshots = list;
    s->nb_snapshots++;
}

/* Gives back what it took out; list and number fit together again. */
QCowSnapshot qcow2_snapshot_take_out(BlockDriverState *bs, uint32_t index)
{
    BDRVQcow2State *s = bs->opaque;
    QCowSnapshot sn = s->snapshots[index];
    size_t bytes = s->nb_snapshots * sizeof(sn);
    QCowSnapshot *list = qcow2_alloc(bs, bytes - sizeof(sn));

    SIM_ASSERT_LT(index, s->nb_snapshots);
    for (uint32_t i = 0, n = 0; i < s->nb_snapshots; i++) {
        if (i != index) {
            list[n++] = s->snapshots[i];
        }
    }
    qcow2_free(bs, s->snapshots, bytes);
    s->snapshots = list;
    s->nb_snapshots--;
    return sn;
}

/* The opposite of qcow2_snapshot_take_out. */
void qcow2_snapshot_put_back(BlockDriverState *bs, uint32_t index, const QCowSnapshot *sn)
{
    BDRVQcow2State *s = bs->opaque;

    qcow2_snapshot_append(bs, sn);
    for (uint32_t i = s->nb_snapshots - 1; i > index; i--) {
        s->snapshots[i] = s->snapshots[i - 1];
    }
    s->snapshots[index] = *sn;
}

void qcow2_snapshot_free_strings(BlockDriverState *bs, QCowSnapshot *sn)
{
    qcow2_free(bs, sn->id_str, strlen(sn->id_str) + 1);
    qcow2_free(bs, sn->name, strlen(sn->name) + 1);
    if (sn->unknown_extra_data) {
        qcow2_free(bs, sn->unknown_extra_data, sn->extra_data_size - 24);
    }
}

/* One more than the largest number that is an id; behind the largest there is, the first that is free. */
char *qcow2_snapshot_new_id(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;
    unsigned long long id = 0;
    char text[24];
    int n;

    for (uint32_t i = 0; i < s->nb_snapshots; i++) {
        unsigned long long other = strtoull(s->snapshots[i].id_str, NULL, 10);
        id = MAX(id, other);
    }
    do {
        id++;
        n = snprintf(text, sizeof(text), "%llu", id);
    } while (qcow2_find_snapshot(s, text, NULL) >= 0);
    return qcow2_strdup(bs, text, (size_t)n);
}

int qcow2_snapshot_list(const BlockDriverState *bs, QEMUSnapshotInfo **list)
{
    const BDRVQcow2State *s = bs->opaque;

    *list = NULL;
    if (!qcow2_usable(bs)) {
        return -ENOMEDIUM;
    }
    if (s->nb_snapshots == 0) {
        return 0;
    }
    *list = calloc(s->nb_snapshots, sizeof(**list));
    SIM_ASSERT(*list != NULL);
    for (uint32_t i = 0; i < s->nb_snapshots; i++) {
        const QCowSnapshot *sn = &s->snapshots[i];
        (*list)[i] = (QEMUSnapshotInfo){
            .id_str = strdup(sn->id_str),
            .name = strdup(sn->name),
            .vm_state_size = sn->vm_state_size,
            .date_sec = sn->date_sec,
            .date_nsec = sn->date_nsec,
            .vm_clock_nsec = sn->vm_clock_nsec,
            .icount = sn->icount,
            .disk_size = sn->disk_size,
        };
    }
    return (int)s->nb_snapshots;
}
