/* zlib's memory, which runs out on demand and is counted. To be included
 * first: compiles protocol/deflate.c in. */
#ifndef TWS_TESTS_SCARCE_ZLIB_H
#define TWS_TESTS_SCARCE_ZLIB_H

#include <stdatomic.h>
#include <stdlib.h>

#define ZLIB_CONST
#include <zlib.h>

static atomic_int zlib_allocations_left = -1; /* -1: all succeed */
static atomic_int zlib_allocations;           /* that have succeeded */

static atomic_int histories_left = -1; /* as above: of messages */

static void *
scarce_history_malloc(size_t size)
{
    if (histories_left == 0) {
        return NULL;
    }
    if (histories_left > 0) {
        histories_left--;
    }
    return malloc(size);
}

static void *
scarce_zlib_calloc(size_t count, size_t size)
{
    if (zlib_allocations_left == 0) {
        return NULL;
    }
    if (zlib_allocations_left > 0) {
        zlib_allocations_left--;
    }
    zlib_allocations++;
    return calloc(count, size);
}

static voidpf
scarce_zalloc(voidpf opaque, uInt count, uInt size)
{
    (void)opaque;
    return scarce_zlib_calloc(count, size);
}

static void
scarce_zfree(voidpf opaque, voidpf memory)
{
    (void)opaque;
    free(memory);
}

static int
scarce_deflate_init(z_streamp zlib, int level, int method, int bits, int mem,
                    int strategy, const char *version, int size)
{
    zlib->zalloc = scarce_zalloc;
    zlib->zfree = scarce_zfree;
    return deflateInit2_(zlib, level, method, bits, mem, strategy, version,
                         size);
}

static int
scarce_inflate_init(z_streamp zlib, int bits, const char *version, int size)
{
    zlib->zalloc = scarce_zalloc;
    zlib->zfree = scarce_zfree;
    return inflateInit2_(zlib, bits, version, size);
}

#define deflateInit2_ scarce_deflate_init
#define inflateInit2_ scarce_inflate_init
#define calloc scarce_zlib_calloc
#define malloc scarce_history_malloc
#include "../../csrc/protocol/deflate.c"
#undef malloc
#undef calloc
#undef deflateInit2_
#undef inflateInit2_

#endif /* TWS_TESTS_SCARCE_ZLIB_H */
