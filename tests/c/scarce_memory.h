/* Buffers whose memory is counted, and runs out on demand. To be included
 * first. */
#ifndef TWS_TESTS_SCARCE_MEMORY_H
#define TWS_TESTS_SCARCE_MEMORY_H

#include <malloc.h>
#include <stdlib.h>

static int memory_left = -1; /* allocations that succeed yet; -1: all */
static size_t memory_used;   /* bytes */
static size_t memory_most;
static size_t memory_before;

static void *
memory_malloc(size_t size)
{
    if (memory_left == 0) {
        return NULL;
    }
    if (memory_left > 0) {
        memory_left--;
    }
    void *memory = malloc(size);
    memory_used += malloc_usable_size(memory);
    if (memory_used > memory_most) {
        memory_most = memory_used;
    }
    return memory;
}

static void
memory_free(void *memory)
{
    memory_used -= malloc_usable_size(memory);
    free(memory);
}

#define malloc memory_malloc
#define free memory_free
#include "../../csrc/protocol/buffer.c"
#undef malloc
#undef free

/* From here on memory_peak() counts: bytes above what is used now. */
static inline void
memory_mark(void)
{
    memory_before = memory_most = memory_used;
}

static inline size_t
memory_peak(void)
{
    return memory_most - memory_before;
}

#endif /* TWS_TESTS_SCARCE_MEMORY_H */
