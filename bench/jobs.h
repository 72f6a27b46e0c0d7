/* What mirror and backup cost a chunk, on full disks and on huge ones with little in them. */
#ifndef BENCH_JOBS_H
#define BENCH_JOBS_H

/* Takes the floor: before anything else has run in the process. */
void bench_jobs_floor(void);
void bench_jobs(void);

#endif
