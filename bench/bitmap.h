/*
 * Bitmaps beside a flat array of words that does the same, and beside the aims of reference/limits.md.
 */
#ifndef BENCH_BITMAP_H
#define BENCH_BITMAP_H

void bench_bitmaps(void);

#endif
