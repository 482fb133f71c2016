#include "protocol/large_blocks.h"

#include <stdlib.h>

enum { LARGE_BLOCK = 8 * 1024 * 1024 };

void
tws_keep_large_blocks(void)
{
    void *block = malloc(LARGE_BLOCK);
    if (block != NULL) {
        *(volatile char *)block = 0; /* or else nothing of this is compiled */
    }
    free(block);
}
