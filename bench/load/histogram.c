#include "histogram.h"

#include <stddef.h>

enum { STEPS = 1 << HISTOGRAM_BITS };

/* Values below 2 * STEPS stand for themselves, those above lose their low
 * bits: all but the first HISTOGRAM_BITS behind the highest. */
static size_t
place_of(uint64_t value)
{
    unsigned shift = 0;
    if (value >= 2 * STEPS) {
        shift = 63 - HISTOGRAM_BITS - (unsigned)__builtin_clzll(value);
    }
    size_t place = ((size_t)shift << HISTOGRAM_BITS) + (value >> shift);
    return place < HISTOGRAM_SIZE ? place : HISTOGRAM_SIZE - 1;
}

/* The largest value of a place. */
static uint64_t
value_of(size_t place)
{
    if (place < 2 * STEPS) {
        return place;
    }
    size_t shift = (place >> HISTOGRAM_BITS) - 1;
    uint64_t kept = (place & (STEPS - 1)) + STEPS;
    return ((kept + 1) << shift) - 1;
}

void
histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->counts[place_of(value)]++;
    histogram->total++;
    if (value > histogram->most) {
        histogram->most = value;
    }
}

uint64_t
histogram_at(const struct histogram *histogram, double share)
{
    double wanted = share * (double)histogram->total;
    uint64_t seen = 0;
    for (size_t place = 0; place < HISTOGRAM_SIZE; place++) {
        seen += histogram->counts[place];
        if (seen > 0 && (double)seen >= wanted) {
            uint64_t value = value_of(place);
            return value < histogram->most ? value : histogram->most;
        }
    }
    return histogram->most;
}
