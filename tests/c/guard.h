/* Input that ends where readable memory ends: an over-read of one byte is a
 * crash even without a sanitizer. */
#ifndef TWS_TESTS_GUARD_H
#define TWS_TESTS_GUARD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct guard {
    uint8_t *pages;
    size_t size;
    uint8_t *data; /* `length` bytes that end at the guard page */
};

static inline struct guard
guard_copy(const void *data, size_t length)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = (length + page - 1) / page * page + page;
    struct guard guard = {.size = size};
    guard.pages = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guard.pages == MAP_FAILED
        || mprotect(guard.pages + size - page, page, PROT_NONE) != 0) {
        abort();
    }
    guard.data = guard.pages + size - page - length;
    if (length > 0) {
        memcpy(guard.data, data, length);
    }
    return guard;
}

static inline void
guard_free(struct guard *guard)
{
    munmap(guard->pages, guard->size);
}

#endif /* TWS_TESTS_GUARD_H */
