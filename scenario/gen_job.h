/*
 * What all profiles with jobs draw alike: arguments that every job has, commands at any point of a job's life, its
 * end, and the guest that works meanwhile (gen_job.c, gen_guest.c).
 *
 * Lines about a job are kept (gen_at) from start_ns on; arguments are appended to the line in hand.
 */
#ifndef SCENARIO_GEN_JOB_H
#define SCENARIO_GEN_JOB_H

#include "scenario/gen.h"

struct gen_job {
    struct gen *gen;
    char id[16];
    int64_t start_ns;    /* of the command, as kept lines count */
    bool readies;        /* a mirror: it must be completed */
    bool endless;        /* it goes on until it is cancelled */
    bool stops_on_error; /* somebody must resume it */
    bool ignores;        /* it tries again whatever fails */
    bool slow;           /* it has a tiny speed limit */
    const char *capped;  /* disk that is short of room at first; NULL: none */
    bool faulty;         /* something may fail: a fault is armed, or room is short */
    bool manual_finalize, manual_dismiss;
    bool ended;  /* somebody ends it early: nobody will find it any more */
    bool leaves; /* it is likely to leave the graph as it was */
};

/* " on-error=stop", or nothing. */
void gen_job_policy(struct gen_job *job, const char *knob);
/* Perhaps " speed=1M". bytes: that the job has to copy; huge: few places of a sparse disk. */
void gen_job_limit(struct gen_job *job, int64_t bytes, bool huge);
/* Perhaps " auto-finalize=false auto-dismiss=false". */
void gen_job_switches(struct gen_job *job);

/* Pauses, speeds, queries, changes of nothing, an early end: each now and then. */
void gen_job_life(struct gen_job *job);
/* Room comes back, failures end, and who stopped goes on. */
void gen_job_relief(struct gen_job *job);
/* Waits until the job is ready, unless somebody ends it early. */
void gen_job_ready(struct gen_job *job);
/* Waits for the job and ends it in one of many ways; nothing when that was done early. */
void gen_job_end(struct gen_job *job);

/* --- the guest (gen_guest.c) ------------------------------------------------------------------------------- */

/* "guest g node=s ..."; may_fail: faults are armed. True: it may stop the VM when a request fails. */
bool gen_guest(struct gen *gen, const char *guest, const char *node, bool may_fail);
/* A workload line, into buf. length: bytes from the start that it stays within; 0: all. */
const char *gen_guest_workload(struct gen *gen, const char *what, const char *guest, int64_t most_ops,
                               int64_t length, char buf[256]);
/* A range of whole sectors of a disk of so many bytes, at most `most` bytes long. False on an empty disk. */
bool gen_guest_place(struct gen *gen, const char *what, int64_t disk_bytes, int64_t most, int64_t *offset,
                     int64_t *bytes);
/* A few single requests of every kind, kept. */
void gen_guest_io(struct gen *gen, const char *guest, int64_t disk_bytes);
/* Perhaps the VM stops and goes on; stops: it may stop by itself. */
void gen_guest_vm(struct gen *gen, bool stops);

/* Features that weights may name; they stand in the lists of all profiles with jobs. */
#define GEN_JOB_FEATURES "fault", "limit", "storm", "pause", "speed", "cancel", "query", "manual", "io", "vm-stop"

#endif
