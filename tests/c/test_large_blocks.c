#include "protocol/large_blocks.h"

#include "harness.h"

#include <malloc.h>
#include <stdlib.h>

enum { MEBIBYTE = 1024 * 1024 };

/* How many blocks were mapped for one of a mebibyte; where the allocator has
 * been replaced (sanitizers, valgrind) none is ever counted. */
static size_t
mapped_for_one(void)
{
    size_t before = mallinfo2().hblks;
    volatile char *block = malloc(MEBIBYTE);
    if (block == NULL) {
        abort();
    }
    block[0] = 1;
    size_t mapped = mallinfo2().hblks - before;
    free((void *)block);
    return mapped;
}

TEST(blocks_are_not_mapped_each_by_itself_any_more)
{
    size_t before = mapped_for_one();
    CHECK(before <= 1);
    tws_keep_large_blocks();
    CHECK_INT(mapped_for_one(), 0);
    CHECK_INT(mapped_for_one(), 0);
}

RUN(T(blocks_are_not_mapped_each_by_itself_any_more))
