#include "protocol/deflate_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* As many as threads may want at the same moment; more are not kept. */
enum { IDLE_MAX = 8 };

struct idle_deflater {
    struct tws_deflate_settings settings;
    struct tws_deflater *deflater; /* owned; NULL: the place is free */
};

struct idle_inflater {
    unsigned window_bits;
    struct tws_inflater *inflater; /* owned; NULL: the place is free */
};

struct tws_deflate_pool {
    atomic_uint references;
    pthread_mutex_t lock; /* of the two lists */
    struct idle_deflater deflaters[IDLE_MAX];
    struct idle_inflater inflaters[IDLE_MAX];
};

struct tws_deflate_pool *
tws_deflate_pool_new(void)
{
    struct tws_deflate_pool *pool = calloc(1, sizeof(*pool));
    if (pool != NULL && pthread_mutex_init(&pool->lock, NULL) != 0) {
        free(pool);
        return NULL;
    }
    if (pool != NULL) {
        atomic_init(&pool->references, 1);
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
        tws_deflater_free(pool->deflaters[i].deflater);
        tws_inflater_free(pool->inflaters[i].inflater);
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static bool
same_settings(const struct tws_deflate_settings *a,
              const struct tws_deflate_settings *b)
{
    return a->window_bits == b->window_bits && a->mem_level == b->mem_level
           && a->level == b->level;
}

struct tws_deflater *
tws_deflate_pool_take_deflater(struct tws_deflate_pool *pool,
                               const struct tws_deflate_settings *settings)
{
    struct tws_deflater *deflater = NULL;
    pthread_mutex_lock(&pool->lock);
    for (size_t i = 0; i < IDLE_MAX && deflater == NULL; i++) {
        struct idle_deflater *idle = &pool->deflaters[i];
        if (idle->deflater != NULL
            && same_settings(&idle->settings, settings)) {
            deflater = idle->deflater;
            idle->deflater = NULL;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return deflater != NULL ? deflater : tws_deflater_new(settings);
}

struct tws_inflater *
tws_deflate_pool_take_inflater(struct tws_deflate_pool *pool,
                               unsigned window_bits)
{
    struct tws_inflater *inflater = NULL;
    pthread_mutex_lock(&pool->lock);
    for (size_t i = 0; i < IDLE_MAX && inflater == NULL; i++) {
        struct idle_inflater *idle = &pool->inflaters[i];
        if (idle->inflater != NULL && idle->window_bits == window_bits) {
            inflater = idle->inflater;
            idle->inflater = NULL;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return inflater != NULL ? inflater : tws_inflater_new(window_bits);
}

void
tws_deflate_pool_give_deflater(struct tws_deflate_pool *pool,
                               const struct tws_deflate_settings *settings,
                               struct tws_deflater *deflater)
{
    tws_deflater_reset(deflater);
    pthread_mutex_lock(&pool->lock);
    for (size_t i = 0; i < IDLE_MAX && deflater != NULL; i++) {
        struct idle_deflater *idle = &pool->deflaters[i];
        if (idle->deflater == NULL) {
            idle->settings = *settings;
            idle->deflater = deflater;
            deflater = NULL;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    tws_deflater_free(deflater);
}

void
tws_deflate_pool_give_inflater(struct tws_deflate_pool *pool,
                               unsigned window_bits,
                               struct tws_inflater *inflater)
{
    tws_inflater_reset(inflater);
    pthread_mutex_lock(&pool->lock);
    for (size_t i = 0; i < IDLE_MAX && inflater != NULL; i++) {
        struct idle_inflater *idle = &pool->inflaters[i];
        if (idle->inflater == NULL) {
            idle->window_bits = window_bits;
            idle->inflater = inflater;
            inflater = NULL;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    tws_inflater_free(inflater);
}
