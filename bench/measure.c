/* Time and medians. */
#include "bench/measure.h"

#include <stdlib.h>
#include <time.h>

#include "sim/sim.h"

double bench_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

double bench_median(double *values, unsigned n)
{
    SIM_ASSERT(n > 0);
    qsort(values, n, sizeof(*values), by_value);
    return values[n / 2];
}
