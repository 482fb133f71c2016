#include "protocol/deflate_pool.h"

#include <stdatomic.h>
#include <stdlib.h>

/* As many as threads may want at the same moment, and as there are sizes of
 * windows; more are not kept. */
enum { IDLE_MAX = 8 };

/* Messages of one direction. */
struct traffic {
    atomic_uint_least32_t count; /* of all connections; wraps around */
    atomic_uint kept;            /* contexts, at most TWS_KEPT_MAX */
};

/* Each place is owned by whoever exchanges something for its content. */
struct tws_deflate_pool {
    atomic_uint references;
    atomic_uint borrowers;
    struct traffic traffic[2];                          /* TWS_OUT, TWS_IN */
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
    atomic_init(&pool->borrowers, 0);
    for (size_t i = 0; i < IDLE_MAX; i++) {
        atomic_init(&pool->deflaters[i], NULL);
        atomic_init(&pool->inflaters[i], NULL);
    }
    for (size_t i = 0; i < TWS_ARRAY_SIZE(pool->traffic); i++) {
        atomic_init(&pool->traffic[i].count, 0);
        atomic_init(&pool->traffic[i].kept, 0);
    }
    return pool;
}

struct tws_deflate_pool *
tws_deflate_pool_retain(struct tws_deflate_pool *pool)
{
    atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
    return pool;
}

static void
free_idle(struct tws_deflate_pool *pool)
{
    for (size_t i = 0; i < IDLE_MAX; i++) {
        tws_deflater_free(atomic_exchange(&pool->deflaters[i], NULL));
        tws_inflater_free(atomic_exchange(&pool->inflaters[i], NULL));
    }
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
    free_idle(pool);
    free(pool);
}

void
tws_deflate_pool_enter(struct tws_deflate_pool *pool)
{
    atomic_fetch_add_explicit(&pool->borrowers, 1, memory_order_relaxed);
}

void
tws_deflate_pool_leave(struct tws_deflate_pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->borrowers, 1, memory_order_relaxed)
        == 1) {
        free_idle(pool); /* who enters meanwhile makes new ones */
    }
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

/* Keeping ----------------------------------------------------------------- */

static bool
is_one_more(struct traffic *traffic)
{
    unsigned kept = atomic_load_explicit(&traffic->kept, memory_order_relaxed);
    while (kept < TWS_KEPT_MAX) {
        if (atomic_compare_exchange_weak_explicit(
                &traffic->kept, &kept, kept + 1, memory_order_relaxed,
                memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

bool
tws_tenure_extend(struct tws_tenure *tenure, struct tws_deflate_pool *pool,
                  enum tws_direction direction)
{
    struct traffic *traffic = &pool->traffic[direction];
    uint32_t now = (uint32_t)atomic_fetch_add_explicit(&traffic->count, 1,
                                                       memory_order_relaxed);
    bool near = tenure->begun && now - tenure->last <= TWS_KEPT_MAX;
    tenure->last = now;
    tenure->begun = true;
    if (near && !tenure->held) {
        tenure->held = is_one_more(traffic);
    }
    return near && tenure->held;
}

void
tws_tenure_end(struct tws_tenure *tenure, struct tws_deflate_pool *pool,
               enum tws_direction direction)
{
    if (tenure->held) {
        tenure->held = false;
        atomic_fetch_sub_explicit(&pool->traffic[direction].kept, 1,
                                  memory_order_relaxed);
    }
}

bool
tws_tenure_is_idle(struct tws_tenure *tenure)
{
    bool idle = tenure->seen == tenure->last;
    tenure->seen = tenure->last;
    return idle;
}
