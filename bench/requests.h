/*
 * What a request costs on its way through nodes, beside one that goes to the disk directly.
 */
#ifndef BENCH_REQUESTS_H
#define BENCH_REQUESTS_H

void bench_request_paths(void);

#endif
