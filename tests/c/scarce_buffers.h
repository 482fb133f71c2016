/* Memory that runs out on demand, for what is queued and what is put together.
 * To be included first. */
#ifndef TWS_TESTS_SCARCE_BUFFERS_H
#define TWS_TESTS_SCARCE_BUFFERS_H

#include <stdatomic.h>
#include <stdlib.h>

static atomic_int allocations_left = -1; /* -1: all succeed */

static void *
scarce_malloc(size_t size)
{
    if (allocations_left == 0) {
        return NULL;
    }
    if (allocations_left > 0) {
        allocations_left--;
    }
    return malloc(size);
}

#define malloc scarce_malloc
#include "../../csrc/protocol/buffer.c"
#undef malloc

#endif /* TWS_TESTS_SCARCE_BUFFERS_H */
