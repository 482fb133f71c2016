/* The workers of a server: which of them drives, and how the role changes
 * hands.
 *
 * A worker that calls a handler as the driver marks it in
 * worker->handling, a serial number with a phase in its low bits:
 *
 *   TURNING --enter--> HANDLING --leave--> TURNING       the usual course
 *                          |
 *                          +--take role--> TAKEN --leave--> TURNING
 *
 * Only the thread itself enters. Leaving and taking are one compare and
 * exchange each, so that just one of them wins. Whoever takes the role (the
 * watchdog, or the handler itself where it is about to wait) does so with
 * the pool's lock held until somebody else may drive: a handler that finds
 * its role taken waits for that lock before it goes on.
 *
 * Lock order: the server's table, pool, client. */
#ifndef TWS_ENGINE_POOL_H
#define TWS_ENGINE_POOL_H

#include "engine/watch.h"
#include "engine/worker.h"

enum { TWS_TURNING = 0, TWS_HANDLING = 1, TWS_TAKEN = 2, TWS_PHASE_MASK = 3 };

struct tws_pool {
    pthread_mutex_t lock;       /* of what follows, up to the atomics */
    struct tws_worker *driver;  /* NULL: nobody */
    struct tws_worker *workers; /* all */
    struct tws_worker *idle;    /* wait for the role, the latest first */
    unsigned idle_count;
    unsigned threads;  /* that serve, and that were asked for */
    unsigned starting; /* asked for, not there yet */
    bool over;         /* the loop has ended; what is queued is dropped */
    uint64_t handovers;
    struct tws_counters retired; /* of the threads that have left */

    /* What waits for the driver, the oldest first. */
    struct tws_watch *queue;
    struct tws_watch **queue_end;
    size_t queue_length;

    /* The watchdog's. */
    pthread_t watchdog;
    pthread_cond_t watchdog_wake;
    bool watchdog_runs;
    uint64_t tick;         /* nanoseconds between two looks */
    unsigned quiet;        /* looks in a row without a handler */
    uint64_t sampled_time; /* nanoseconds that handlers of drivers took */
    struct tws_worker *seen_worker; /* at the last look */
    uint64_t seen_handling;

    atomic_bool watchdog_asleep;
    atomic_uint looks; /* so far */
};

enum tws_status tws_pool_init(struct tws_pool *pool, struct tws_error *err);
void tws_pool_fini(struct tws_pool *pool);

/* A thread joins and leaves; true: the loop has ended. */
void tws_pool_add(struct tws_pool *pool, struct tws_worker *worker);
bool tws_pool_remove(struct tws_pool *pool, struct tws_worker *worker);

/* Waits until the worker is the driver (true), or is not needed any more,
 * as the loop has ended or too many are idle (false). */
bool tws_pool_await_role(struct tws_pool *pool, struct tws_worker *worker);
/* The driver steps down, outside of handlers. */
void tws_pool_step_down(struct tws_pool *pool, struct tws_worker *worker);
/* Nothing is served any more: everybody may leave. */
void tws_pool_end(struct tws_pool *pool);

/* True where one more thread is to be started, so that a spare one stands by
 * to take the role; it then counts as started. */
bool tws_pool_wants_thread(struct tws_pool *pool, unsigned max_threads);
/* True where no more threads may be started, and all but one are busy. */
bool tws_pool_is_exhausted(struct tws_pool *pool, unsigned max_threads);
/* That could not be done. */
void tws_pool_thread_failed(struct tws_pool *pool);

/* Takes the role from the driver, which is in the handler that `handling`
 * names, and lets another worker have it. False where that handler has
 * returned meanwhile. With the pool's lock held. */
bool tws_pool_take_role_lock_held(struct tws_pool *pool,
                                  struct tws_worker *driver,
                                  uint64_t handling);
/* The calling thread is about to wait: where it drives the loop and is inside
 * a handler, another worker takes over. False: nobody else drives now. */
bool tws_pool_before_wait(struct tws_pool *pool);

/* Queues something for the driver; false where it is queued already. */
bool tws_pool_queue(struct tws_pool *pool, struct tws_watch *watch);
/* The next, or NULL. */
struct tws_watch *tws_pool_dequeue(struct tws_pool *pool);
size_t tws_pool_queue_length(struct tws_pool *pool);

/* watchdog.c: a thread that takes the role from a driver whose handler runs
 * for long. */
enum tws_status tws_watchdog_start(struct tws_pool *pool,
                                   struct tws_error *err);
void tws_watchdog_stop(struct tws_pool *pool);
void tws_watchdog_rouse(struct tws_pool *pool);

/* Not inlined: of a worker that has lost the role. */
void tws_pool_enter_slow(struct tws_worker *worker);
void tws_pool_leave_slow(struct tws_pool *pool, struct tws_worker *worker);

/* Around each call of a handler. `serving` is what must wait, and not be
 * served by others, until the handler returns; NULL: nothing. */
static inline void
tws_pool_enter(struct tws_pool *pool, struct tws_worker *worker,
               struct tws_watch *serving)
{
    if (TWS_UNLIKELY(!worker->driving)) {
        tws_pool_enter_slow(worker);
        return;
    }
    uint64_t handling =
        atomic_load_explicit(&worker->handling, memory_order_relaxed);
    worker->serving = serving;
    atomic_store_explicit(&worker->handling,
                          handling + TWS_PHASE_MASK + 1 + TWS_HANDLING,
                          memory_order_release);
    /* Where this look comes too early, a bounded sleep makes up for it. */
    if (TWS_UNLIKELY(atomic_load_explicit(&pool->watchdog_asleep,
                                          memory_order_relaxed))) {
        tws_watchdog_rouse(pool);
    }
}

/* True where the thread is the driver still. */
static inline bool
tws_pool_leave(struct tws_pool *pool, struct tws_worker *worker)
{
    uint64_t handling =
        atomic_load_explicit(&worker->handling, memory_order_relaxed);
    if (TWS_LIKELY((handling & TWS_PHASE_MASK) == TWS_HANDLING
                   && atomic_compare_exchange_strong_explicit(
                       &worker->handling, &handling, handling - TWS_HANDLING,
                       memory_order_acq_rel, memory_order_acquire))) {
        return true;
    }
    tws_pool_leave_slow(pool, worker);
    return false;
}

#endif /* TWS_ENGINE_POOL_H */
