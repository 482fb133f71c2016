#include "protocol/deflate_pool.h"

#include <stdatomic.h>
#include <stdlib.h>

/* As many as threads may want at the same moment, and as there are sizes of
 * windows; more are not kept. */
enum { IDLE_MAX = 8 };

/* Each place is owned by whoever exchanges something for its content. */
struct tws_deflate_pool {
    atomic_uint references;
    _Atomic(struct tws_deflater *) deflaters[IDLE_MAX]; /* NULL: free */
    _Atomic(struct tws_inflater *) inflaters[IDLE_MAX]; /* the same */
};

struct tws_deflate_pool *
tws_deflate_pool_new(void)
{
    struct tws_deflate_pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return NULL;
    }
    atomic_init(&pool->references, 1);
    for (size_t i = 0; i < IDLE_MAX; i++) {
        atomic_init(&pool->deflaters[i], NULL);
        atomic_init(&pool->inflaters[i], NULL);
    }
    return pool;
}

struct tws_deflate_pool *
tws_deflate_pool_retain(struct tws_deflate_pool *pool)
{
    atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
    return pool;
}

void
tws_deflate_pool_release(struct tws_deflate_pool *pool)
{
    if (pool == NULL
        || atomic_fetch_sub_explicit(&pool->references, 1,
                                     memory_order_acq_rel)
               > 1) {
        return;
    }
    for (size_t i = 0; i < IDLE_MAX; i++) {
        tws_deflater_free(atomic_load(&pool->deflaters[i]));
        tws_inflater_free(atomic_load(&pool->inflaters[i]));
    }
    free(pool);
}

/* Where to look first, and whose content makes room where all is full: so what
 * is asked for often is not kept out by what is not asked for any more. */
static size_t
home(unsigned window_bits)
{
    return window_bits % IDLE_MAX;
}

static bool
same_settings(const struct tws_deflate_settings *a,
              const struct tws_deflate_settings *b)
{
    return a->window_bits == b->window_bits && a->mem_level == b->mem_level
           && a->level == b->level;
}

/* Deflaters -------------------------------------------------------------- */

static void
put_deflater(struct tws_deflate_pool *pool, struct tws_deflater *deflater)
{
    size_t first = home(tws_deflater_settings(deflater)->window_bits);
    for (size_t i = 0; i < IDLE_MAX; i++) {
        struct tws_deflater *none = NULL;
        if (atomic_compare_exchange_strong(
                &pool->deflaters[(first + i) % IDLE_MAX], &none, deflater)) {
            return;
        }
    }
    tws_deflater_free(atomic_exchange(&pool->deflaters[first], deflater));
}

struct tws_deflater *
tws_deflate_pool_take_deflater(struct tws_deflate_pool *pool,
                               const struct tws_deflate_settings *settings)
{
    size_t first = home(settings->window_bits);
    for (size_t i = 0; i < IDLE_MAX; i++) {
        /* It can't be looked at before it is owned: another thread may free
         * it. */
        struct tws_deflater *deflater =
            atomic_exchange(&pool->deflaters[(first + i) % IDLE_MAX], NULL);
        if (deflater != NULL) {
            if (same_settings(tws_deflater_settings(deflater), settings)) {
                return deflater;
            }
            put_deflater(pool, deflater);
        }
    }
    return tws_deflater_new(settings);
}

void
tws_deflate_pool_give_deflater(struct tws_deflate_pool *pool,
                               struct tws_deflater *deflater)
{
    if (deflater != NULL) {
        tws_deflater_reset(deflater);
        put_deflater(pool, deflater);
    }
}

/* Inflaters -------------------------------------------------------------- */

static void
put_inflater(struct tws_deflate_pool *pool, struct tws_inflater *inflater)
{
    size_t first = home(tws_inflater_window_bits(inflater));
    for (size_t i = 0; i < IDLE_MAX; i++) {
        struct tws_inflater *none = NULL;
        if (atomic_compare_exchange_strong(
                &pool->inflaters[(first + i) % IDLE_MAX], &none, inflater)) {
            return;
        }
    }
    tws_inflater_free(atomic_exchange(&pool->inflaters[first], inflater));
}

struct tws_inflater *
tws_deflate_pool_take_inflater(struct tws_deflate_pool *pool,
                               unsigned window_bits)
{
    size_t first = home(window_bits);
    for (size_t i = 0; i < IDLE_MAX; i++) {
        struct tws_inflater *inflater =
            atomic_exchange(&pool->inflaters[(first + i) % IDLE_MAX], NULL);
        if (inflater != NULL) {
            if (tws_inflater_window_bits(inflater) == window_bits) {
                return inflater;
            }
            put_inflater(pool, inflater);
        }
    }
    return tws_inflater_new(window_bits);
}

void
tws_deflate_pool_give_inflater(struct tws_deflate_pool *pool,
                               struct tws_inflater *inflater)
{
    if (inflater != NULL) {
        tws_inflater_reset(inflater);
        put_inflater(pool, inflater);
    }
}
