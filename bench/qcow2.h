/* make bench: guest requests to a qcow2 image beside those to a raw disk. */
#ifndef BENCH_QCOW2_H
#define BENCH_QCOW2_H

/* Prints a table. */
void bench_qcow2(void);

#endif
