/* What the tests of the pool and of its watchdog share: threads that wait for
 * the role of the driver and do with it what the test says, without a server
 * around them. */
#ifndef TWS_TESTS_POOL_FIXTURE_H
#define TWS_TESTS_POOL_FIXTURE_H

#include "engine/pool.h"
#include "engine/server_parts.h"

#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#define MILLISECOND ((uint64_t)1000 * 1000)

static inline void
pause_for(uint64_t ns)
{
    struct timespec pause = {.tv_sec = (time_t)(ns / (1000 * MILLISECOND)),
                             .tv_nsec = (long)(ns % (1000 * MILLISECOND))};
    nanosleep(&pause, NULL);
}

/* A slow machine must not fail a test; what never comes ends it. */
#define UNTIL(condition)                                                      \
    do {                                                                      \
        uint64_t until_end = tws_clock_now() + 20 * 1000 * MILLISECOND;       \
        while (!(condition)) {                                                \
            pause_for(MILLISECOND / 10);                                      \
            if (tws_clock_now() > until_end) {                                \
                fprintf(stderr, "%s:%d: %s never came true\n", __FILE__,      \
                        __LINE__, #condition);                                \
                exit(1);                                                      \
            }                                                                 \
        }                                                                     \
    } while (0)

/* What was detached, and what was so then. The pool calls it with its lock
 * held. */
struct detaching {
    struct tws_pool *pool;
    unsigned count;
    struct tws_watch *watch;
    struct tws_worker *driver;
};

static struct detaching detaching;

void
tws_server_detach(struct tws_server *server, struct tws_watch *watch)
{
    CHECK(server == NULL);
    CHECK_INT(pthread_mutex_trylock(&detaching.pool->lock), EBUSY);
    detaching.count++;
    detaching.watch = watch;
    detaching.driver = detaching.pool->driver;
}

static inline void
pool_begin(struct tws_pool *pool)
{
    struct tws_error err;
    memset(pool, 0, sizeof(*pool)); /* as a server's is when it is made */
    CHECK_INT(tws_pool_init(pool, &err), TWS_OK);
    detaching = (struct detaching){.pool = pool};
}

static inline void
pool_end(struct tws_pool *pool)
{
    CHECK(pool->workers == NULL);
    CHECK(pool->idle == NULL);
    CHECK_INT(pool->idle_count, 0);
    CHECK_INT(pool->threads, 0);
    CHECK(pool->driver == NULL);
    tws_pool_fini(pool);
}

static inline struct tws_worker *
new_worker(struct tws_pool *pool)
{
    struct tws_worker *worker;
    struct tws_error err;
    if (tws_worker_new(NULL, &worker, &err) != TWS_OK) {
        exit(1); /* no test can go on */
    }
    tws_pool_add(pool, worker);
    return worker;
}

struct member {
    struct tws_pool *pool;
    /* Drives, until it has lost the role or has stepped down. */
    void (*drive)(struct member *member);
    void *context;
    bool once; /* leaves when it has driven */

    pthread_t thread;
    struct tws_watch watch;
    struct tws_worker *worker; /* the thread's own */
    bool over;                 /* what tws_pool_remove() said */
    atomic_uint driven;
    atomic_bool inside; /* for what `drive` does */
    atomic_bool go_on;
    bool kept; /* what tws_pool_leave() said */
};

static inline void *
member_main(void *argument)
{
    struct member *member = argument;
    struct tws_pool *pool = member->pool;
    member->worker = new_worker(pool);
    bool more = true;
    while (more && tws_pool_await_role(pool, member->worker)) {
        CHECK(member->worker->driving);
        member->driven++;
        member->drive(member);
        CHECK(!member->worker->driving);
        more = !member->once;
    }
    member->over = tws_pool_remove(pool, member->worker);
    tws_worker_free(member->worker);
    return NULL;
}

static inline void
member_start(struct member *member, struct tws_pool *pool,
             void (*drive)(struct member *member))
{
    member->pool = pool;
    member->drive = drive;
    if (pthread_create(&member->thread, NULL, member_main, member) != 0) {
        exit(1);
    }
}

static inline void
member_join(struct member *member)
{
    CHECK_INT(pthread_join(member->thread, NULL), 0);
}

static inline unsigned
idle_count(struct tws_pool *pool)
{
    unsigned count = 0;
    pthread_mutex_lock(&pool->lock);
    for (const struct tws_worker *worker = pool->idle; worker != NULL;
         worker = worker->next_idle) {
        CHECK(worker->idle);
        count++;
    }
    CHECK_INT(pool->idle_count, count);
    pthread_mutex_unlock(&pool->lock);
    return count;
}

/* Starts one that finds the role taken. */
static inline void
member_start_idle(struct member *member, struct tws_pool *pool,
                  void (*drive)(struct member *member))
{
    unsigned before = idle_count(pool);
    member_start(member, pool, drive);
    UNTIL(idle_count(pool) == before + 1);
}

/* Some ways to drive. */

static inline void
step_down_at_once(struct member *member)
{
    tws_pool_step_down(member->pool, member->worker);
}

static inline void
step_down_when_told(struct member *member)
{
    member->inside = true;
    UNTIL(member->go_on);
    tws_pool_step_down(member->pool, member->worker);
}

/* Is in a handler until it is told to go on. */
static inline void
handle_until_told(struct member *member)
{
    struct tws_pool *pool = member->pool;
    tws_pool_enter(pool, member->worker, &member->watch);
    member->inside = true;
    UNTIL(member->go_on);
    member->kept = tws_pool_leave(pool, member->worker);
    CHECK(member->kept == member->worker->driving);
    if (member->kept) {
        tws_pool_step_down(pool, member->worker);
    }
}

#endif /* TWS_TESTS_POOL_FIXTURE_H */
