/* Counts of times, each kept to within a hundredth of itself. */
#ifndef BENCH_LOAD_HISTOGRAM_H
#define BENCH_LOAD_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_BITS = 7,    /* steps between a power of two and the next: 128 */
    HISTOGRAM_POWERS = 36, /* above 2^7: up to 2^43 ns, over two hours */
    HISTOGRAM_SIZE = (HISTOGRAM_POWERS + 1) << HISTOGRAM_BITS,
};

struct histogram {
    uint64_t counts[HISTOGRAM_SIZE];
    uint64_t total;
    uint64_t most;
};

void histogram_add(struct histogram *histogram, uint64_t value);
/* The value that `share` of all (0 to 1) do not exceed; 0 where none is. */
uint64_t histogram_at(const struct histogram *histogram, double share);

#endif
