#include "engine/pool.h"

#include "engine/server_parts.h"
#include "loop/condition.h"

/* How long a thread beyond the spare one waits for work. */
#define RETIRE_AFTER ((uint64_t)2 * 1000 * 1000 * 1000)

enum tws_status
tws_pool_init(struct tws_pool *pool, struct tws_error *err)
{
    enum tws_status status = tws_condition_init(&pool->watchdog_wake, err);
    if (status != TWS_OK) {
        return status;
    }
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        pthread_cond_destroy(&pool->watchdog_wake);
        return tws_error_nomem(err);
    }
    pool->queue_end = &pool->queue;
    return TWS_OK;
}

void
tws_pool_fini(struct tws_pool *pool)
{
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->watchdog_wake);
}

/* Coming and going ------------------------------------------------------- */

void
tws_pool_add(struct tws_pool *pool, struct tws_worker *worker)
{
    pthread_mutex_lock(&pool->lock);
    if (pool->starting > 0) {
        pool->starting--;
    }
    else {
        pool->threads++;
    }
    worker->next = pool->workers;
    pool->workers = worker;
    pthread_mutex_unlock(&pool->lock);
}

bool
tws_pool_remove(struct tws_pool *pool, struct tws_worker *worker)
{
    pthread_mutex_lock(&pool->lock);
    struct tws_worker **link = &pool->workers;
    while (*link != worker) {
        link = &(*link)->next;
    }
    *link = worker->next;
    pool->threads--;
    tws_counters_add(&pool->retired, &worker->counters);
    if (pool->seen_worker == worker) {
        pool->seen_worker = NULL;
    }
    bool over = pool->over;
    pthread_mutex_unlock(&pool->lock);
    return over;
}

bool
tws_pool_wants_thread(struct tws_pool *pool, unsigned max_threads)
{
    pthread_mutex_lock(&pool->lock);
    bool wanted = pool->idle == NULL && pool->starting == 0
                  && pool->threads < max_threads && !pool->over;
    if (wanted) {
        pool->threads++;
        pool->starting++;
    }
    pthread_mutex_unlock(&pool->lock);
    return wanted;
}

bool
tws_pool_is_exhausted(struct tws_pool *pool, unsigned max_threads)
{
    pthread_mutex_lock(&pool->lock);
    bool exhausted = pool->idle == NULL && pool->starting == 0
                     && pool->threads >= max_threads;
    pthread_mutex_unlock(&pool->lock);
    return exhausted;
}

void
tws_pool_thread_failed(struct tws_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    if (pool->starting > 0) { /* else it came by itself */
        pool->threads--;
        pool->starting--;
    }
    pthread_mutex_unlock(&pool->lock);
}

/* The role --------------------------------------------------------------- */

static void
leave_idle_lock_held(struct tws_pool *pool, struct tws_worker *worker)
{
    struct tws_worker **link = &pool->idle;
    while (*link != worker) {
        link = &(*link)->next_idle;
    }
    *link = worker->next_idle;
    worker->idle = false;
    pool->idle_count--;
}

/* Nobody drives: lets the worker that was idle last do it, as its memory is
 * the warmest and the others may retire. */
static void
grant_role_lock_held(struct tws_pool *pool)
{
    struct tws_worker *worker = pool->idle;
    pool->driver = worker;
    if (worker != NULL) {
        leave_idle_lock_held(pool, worker);
        (void)pthread_cond_signal(&worker->wake);
    }
}

/* Waits to be woken. False: for too long, and others stand by. */
static bool
park_lock_held(struct tws_pool *pool, struct tws_worker *worker)
{
    worker->next_idle = pool->idle;
    pool->idle = worker;
    worker->idle = true;
    pool->idle_count++;
    uint64_t until =
        pool->idle_count > 1 ? tws_clock_now() + RETIRE_AFTER : UINT64_MAX;
    bool woken = tws_condition_wait(&worker->wake, &pool->lock, until);
    if (worker->idle) {
        leave_idle_lock_held(pool, worker);
    }
    return woken || pool->driver == worker || pool->idle_count == 0;
}

bool
tws_pool_await_role(struct tws_pool *pool, struct tws_worker *worker)
{
    bool needed = true;
    pthread_mutex_lock(&pool->lock);
    while (needed && pool->driver != worker) {
        if (pool->driver == NULL && (!pool->over || pool->queue != NULL)) {
            pool->driver = worker;
        }
        else {
            /* What was queued since the end was found is still to be dropped.
             */
            needed = (!pool->over || pool->queue != NULL)
                     && park_lock_held(pool, worker);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    worker->driving = needed;
    return needed;
}

void
tws_pool_step_down(struct tws_pool *pool, struct tws_worker *worker)
{
    worker->driving = false;
    pthread_mutex_lock(&pool->lock);
    grant_role_lock_held(pool);
    pthread_mutex_unlock(&pool->lock);
}

void
tws_pool_end(struct tws_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->over = true;
    for (struct tws_worker *worker = pool->idle; worker != NULL;
         worker = worker->next_idle) {
        (void)pthread_cond_signal(&worker->wake);
    }
    pthread_mutex_unlock(&pool->lock);
}

bool
tws_pool_take_role_lock_held(struct tws_pool *pool, struct tws_worker *driver,
                             uint64_t handling)
{
    uint64_t taken = handling - TWS_HANDLING + TWS_TAKEN;
    if (!atomic_compare_exchange_strong_explicit(&driver->handling, &handling,
                                                 taken, memory_order_acq_rel,
                                                 memory_order_relaxed)) {
        return false;
    }
    driver->role_lost_at = tws_clock_now();
    if (driver->serving != NULL) {
        /* Before anybody else can drive: it must not find it ready. */
        tws_server_detach(driver->server, driver->serving);
    }
    pool->handovers++;
    grant_role_lock_held(pool);
    return true;
}

bool
tws_pool_before_wait(struct tws_pool *pool)
{
    pthread_t self = pthread_self();
    pthread_mutex_lock(&pool->lock);
    struct tws_worker *driver = pool->driver;
    if (driver != NULL && pthread_equal(driver->thread, self)) {
        uint64_t handling =
            atomic_load_explicit(&driver->handling, memory_order_relaxed);
        if ((handling & TWS_PHASE_MASK) == TWS_HANDLING) {
            (void)tws_pool_take_role_lock_held(pool, driver, handling);
            driver->driving = false; /* it is this thread's own */
        }
    }
    bool attended =
        pool->driver != NULL && !pthread_equal(pool->driver->thread, self);
    pthread_mutex_unlock(&pool->lock);
    return attended;
}

void
tws_pool_enter_slow(struct tws_worker *worker)
{
    worker->role_lost_at = tws_clock_now();
}

void
tws_pool_leave_slow(struct tws_pool *pool, struct tws_worker *worker)
{
    /* Whoever took the role has the lock until all is handed over. */
    pthread_mutex_lock(&pool->lock);
    worker->driving = false;
    pthread_mutex_unlock(&pool->lock);
    uint64_t handling =
        atomic_load_explicit(&worker->handling, memory_order_relaxed);
    atomic_store_explicit(&worker->handling,
                          handling & ~(uint64_t)TWS_PHASE_MASK,
                          memory_order_relaxed);
    tws_count(&worker->counters.handler_time,
              tws_clock_now() - worker->role_lost_at);
}

/* What waits for the driver ---------------------------------------------- */

bool
tws_pool_queue(struct tws_pool *pool, struct tws_watch *watch)
{
    pthread_mutex_lock(&pool->lock);
    bool added = !watch->queued;
    if (added) {
        watch->queued = true;
        watch->next_queued = NULL;
        *pool->queue_end = watch;
        pool->queue_length++;
        pool->queue_end = &watch->next_queued;
    }
    pthread_mutex_unlock(&pool->lock);
    return added;
}

struct tws_watch *
tws_pool_dequeue(struct tws_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct tws_watch *watch = pool->queue;
    if (watch != NULL) {
        pool->queue = watch->next_queued;
        if (pool->queue == NULL) {
            pool->queue_end = &pool->queue;
        }
        watch->next_queued = NULL;
        watch->queued = false;
        pool->queue_length--;
    }
    pthread_mutex_unlock(&pool->lock);
    return watch;
}

size_t
tws_pool_queue_length(struct tws_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    size_t length = pool->queue_length;
    pthread_mutex_unlock(&pool->lock);
    return length;
}
