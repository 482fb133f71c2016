/* Looks at the driver every few milliseconds. One that is in the same handler
 * at two looks in a row loses the role. */
#include "engine/pool.h"

#include "loop/condition.h"

#include <signal.h>

#define MICROSECOND ((uint64_t)1000)
#define MILLISECOND ((uint64_t)1000 * 1000)

/* A handler may run for one to two ticks. */
#define TICK_USUAL (5 * MILLISECOND)
/* Handlers that get stuck in a row would cost the others two ticks each:
 * after a hand-over it looks more often, and grows patient again. */
#define TICK_SHORT (200 * MICROSECOND)
/* The driver rouses it with the first handler; this is for the one that it
 * may just miss. */
#define TICK_ASLEEP (500 * MILLISECOND)
/* Looks without a handler before it sleeps. */
enum { QUIET_LOOKS = 25 };

/* Takes the role where the handler seen at the last look runs still. */
static void
look_lock_held(struct tws_pool *pool)
{
    struct tws_worker *driver = pool->driver;
    uint64_t handling = 0;
    atomic_fetch_add_explicit(&pool->looks, 1, memory_order_relaxed);
    if (driver != NULL) {
        handling =
            atomic_load_explicit(&driver->handling, memory_order_acquire);
    }
    bool same = driver == pool->seen_worker && handling == pool->seen_handling;
    pool->seen_worker = driver;
    pool->seen_handling = handling;
    if ((handling & TWS_PHASE_MASK) == TWS_HANDLING) {
        pool->sampled_time += pool->tick;
        pool->quiet = 0;
        /* Without anybody to take over, the driver may as well go on. */
        if (same && pool->idle != NULL
            && tws_pool_take_role_lock_held(pool, driver, handling)) {
            pool->tick = TICK_SHORT;
            return;
        }
    }
    else {
        pool->quiet = same ? pool->quiet + 1 : 0;
    }
    pool->tick += pool->tick / 8;
    if (pool->tick > TICK_USUAL) {
        pool->tick = TICK_USUAL;
    }
}

static void *
watch(void *context)
{
    struct tws_pool *pool = context;
    pthread_mutex_lock(&pool->lock);
    while (pool->watchdog_runs) {
        uint64_t tick = pool->tick;
        if (pool->quiet >= QUIET_LOOKS) {
            atomic_store(&pool->watchdog_asleep, true);
            look_lock_held(pool); /* at what began just before that */
            tick = pool->quiet >= QUIET_LOOKS ? TICK_ASLEEP : pool->tick;
        }
        (void)tws_condition_wait(&pool->watchdog_wake, &pool->lock,
                                 tws_clock_now() + tick);
        atomic_store(&pool->watchdog_asleep, false);
        look_lock_held(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

enum tws_status
tws_watchdog_start(struct tws_pool *pool, struct tws_error *err)
{
    sigset_t all;
    sigset_t before;
    pool->tick = TICK_USUAL;
    pool->watchdog_runs = true;
    /* Signals are for the program's threads. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&pool->watchdog, NULL, watch, pool);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure != 0) {
        pool->watchdog_runs = false;
        return tws_error_os(err, failure, "pthread_create");
    }
    return TWS_OK;
}

void
tws_watchdog_stop(struct tws_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    bool runs = pool->watchdog_runs;
    pool->watchdog_runs = false;
    (void)pthread_cond_signal(&pool->watchdog_wake);
    pthread_mutex_unlock(&pool->lock);
    if (runs) {
        (void)pthread_join(pool->watchdog, NULL);
    }
}

void
tws_watchdog_rouse(struct tws_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->watchdog_asleep, false);
    pool->quiet = 0;
    (void)pthread_cond_signal(&pool->watchdog_wake);
    pthread_mutex_unlock(&pool->lock);
}
