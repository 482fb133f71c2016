#include "net/random.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

enum { BLOCK = 3072 }; /* bytes a refill draws: 768 keys */

/* The part that must not be shared with a forked child. All zero is its
 * first state: lock free, no keys left. */
struct block {
    atomic_uint locked;
    uint32_t left; /* bytes not handed out yet */
    uint8_t bytes[BLOCK];
};

/* Without a kernel that wipes the block there is none, and each key costs a
 * system call: asking for the process id at each key would cost one as well,
 * and would miss a child that was given the number of its grandparent. */
struct tws_mask_pool {
    struct block *block; /* owned mapping of its own, or NULL */
    size_t mapped;
};

enum tws_status
tws_random_bytes(void *out, size_t length, struct tws_error *err)
{
    uint8_t *p = out;
    while (length > 0) {
        ssize_t got = getrandom(p, length, 0);
        if (got < 0) {
            int saved = errno;
            if (saved == EINTR) {
                continue;
            }
            return tws_error_os(err, saved, "getrandom");
        }
        p += got;
        length -= (size_t)got;
    }
    return TWS_OK;
}

static struct block *
map_block(size_t mapped)
{
#ifdef MADV_WIPEONFORK
    void *memory = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    if (madvise(memory, mapped, MADV_WIPEONFORK) == 0) {
        return memory;
    }
    (void)munmap(memory, mapped);
#else
    (void)mapped;
#endif
    return NULL;
}

struct tws_mask_pool *
tws_mask_pool_new(void)
{
    struct tws_mask_pool *pool = malloc(sizeof(*pool));
    if (pool == NULL) {
        return NULL;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    pool->mapped = (sizeof(struct block) + page - 1) / page * page;
    pool->block = map_block(pool->mapped);
    return pool;
}

void
tws_mask_pool_free(struct tws_mask_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    if (pool->block != NULL) {
        explicit_bzero(pool->block->bytes, sizeof(pool->block->bytes));
        (void)munmap(pool->block, pool->mapped);
    }
    free(pool);
}

/* A spin lock, as it must be open again in a forked child even where the
 * parent's other thread held it: the kernel wipes it with the keys. It is
 * held for a few nanoseconds, or for one getrandom(). */
static void
lock(struct block *block)
{
    unsigned expected = 0;
    while (!atomic_compare_exchange_weak_explicit(&block->locked, &expected, 1,
                                                  memory_order_acquire,
                                                  memory_order_relaxed)) {
        expected = 0;
        sched_yield();
    }
}

enum tws_status
tws_mask_pool_take(struct tws_mask_pool *pool, uint8_t key[4],
                   struct tws_error *err)
{
    struct block *block = pool->block;
    if (block == NULL) {
        return tws_random_bytes(key, 4, err);
    }
    enum tws_status status = TWS_OK;
    lock(block);
    if (block->left < 4) {
        status = tws_random_bytes(block->bytes, BLOCK, err);
        if (status != TWS_OK) {
            goto done;
        }
        block->left = BLOCK;
    }
    block->left -= 4;
    memcpy(key, block->bytes + block->left, 4);
    memset(block->bytes + block->left, 0, 4);
done:
    atomic_store_explicit(&block->locked, 0, memory_order_release);
    return status;
}
