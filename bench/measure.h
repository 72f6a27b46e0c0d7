/*
 * How figures are taken: processor time, and the median of interleaved rounds.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

/* Processor time of this process, for others may use the machine. Nanoseconds. */
double bench_now_ns(void);
/* Sorts the n (> 0) values. */
double bench_median(double *values, unsigned n);

#endif
