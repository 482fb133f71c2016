/* Compiled in here, so that its looks can be counted and made by hand, and
 * with a call that a test can make fail. */
#include "pool_fixture.h"

#include "loop/condition.h"

#include <signal.h>

static atomic_uint looks;
static atomic_bool signals_reach_it;
static bool create_fails;

static bool
wait_for_look(pthread_cond_t *condition, pthread_mutex_t *mutex,
              uint64_t deadline)
{
    sigset_t blocked;
    CHECK_INT(pthread_sigmask(SIG_SETMASK, NULL, &blocked), 0);
    if (sigismember(&blocked, SIGINT) != 1
        || sigismember(&blocked, SIGTERM) != 1) {
        signals_reach_it = true;
    }
    bool woken = tws_condition_wait(condition, mutex, deadline);
    looks++;
    return woken;
}

static int
create_thread(pthread_t *thread, const pthread_attr_t *attributes,
              void *(*start)(void *), void *argument)
{
    return create_fails ? EAGAIN
                        : pthread_create(thread, attributes, start, argument);
}

#undef MILLISECOND
#define tws_condition_wait wait_for_look
#define pthread_create create_thread
#include "../../csrc/engine/watchdog.c"
#undef tws_condition_wait
#undef pthread_create

/* By hand ------------------------------------------------------------------
 */

static void
look(struct tws_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    look_lock_held(pool);
    pthread_mutex_unlock(&pool->lock);
}

struct bench {
    struct tws_pool pool;
    struct tws_worker *worker; /* drives */
    struct tws_watch watch;
    struct member spare; /* stands by, where it was started */
};

static void
bench_begin(struct bench *bench)
{
    memset(bench, 0, sizeof(*bench));
    pool_begin(&bench->pool);
    bench->pool.tick = TICK_USUAL; /* as tws_watchdog_start() sets it */
    bench->worker = new_worker(&bench->pool);
    CHECK(tws_pool_await_role(&bench->pool, bench->worker));
    bench->spare.once = true;
}

static void
bench_start_spare(struct bench *bench)
{
    member_start_idle(&bench->spare, &bench->pool, step_down_when_told);
}

static void
bench_end(struct bench *bench)
{
    if (bench->worker->driving) {
        tws_pool_step_down(&bench->pool, bench->worker);
    }
    bench->spare.go_on = true;
    if (bench->spare.pool != NULL) {
        member_join(&bench->spare);
    }
    (void)tws_pool_remove(&bench->pool, bench->worker);
    tws_worker_free(bench->worker);
    pool_end(&bench->pool);
}

TEST(quick_handlers_are_left_alone)
{
    struct bench bench;
    bench_begin(&bench);
    bench_start_spare(&bench);
    for (int i = 0; i < 1000; i++) {
        /* It is in a handler at every look, but never in the same. */
        tws_pool_enter(&bench.pool, bench.worker, &bench.watch);
        look(&bench.pool);
        CHECK(tws_pool_leave(&bench.pool, bench.worker));
        if (i % 3 == 0) {
            look(&bench.pool);
        }
    }
    CHECK_INT(bench.pool.handovers, 0);
    CHECK_INT(detaching.count, 0);
    CHECK_INT(bench.pool.quiet, 0);
    bench_end(&bench);
}

TEST(the_second_look_at_a_handler_takes_the_role)
{
    struct bench bench;
    bench_begin(&bench);
    bench_start_spare(&bench);
    look(&bench.pool);
    tws_pool_enter(&bench.pool, bench.worker, &bench.watch);
    look(&bench.pool);
    CHECK_INT(bench.pool.handovers, 0);
    look(&bench.pool);
    CHECK_INT(bench.pool.handovers, 1);
    CHECK_INT(detaching.count, 1);
    CHECK(detaching.watch == &bench.watch);
    UNTIL(bench.spare.inside);
    /* Which is not in a handler, and stays the driver. */
    look(&bench.pool);
    look(&bench.pool);
    look(&bench.pool);
    CHECK_INT(bench.pool.handovers, 1);
    CHECK(!tws_pool_leave(&bench.pool, bench.worker));
    bench_end(&bench);
}

TEST(nothing_is_taken_without_anybody_to_have_it)
{
    struct bench bench;
    bench_begin(&bench);
    tws_pool_enter(&bench.pool, bench.worker, &bench.watch);
    for (int i = 0; i < 100; i++) {
        look(&bench.pool);
    }
    CHECK_INT(bench.pool.handovers, 0);
    CHECK(bench.pool.driver == bench.worker);
    bench_start_spare(&bench);
    look(&bench.pool);
    CHECK_INT(bench.pool.handovers, 1);
    CHECK(!tws_pool_leave(&bench.pool, bench.worker));
    bench_end(&bench);
}

TEST(after_a_hand_over_it_looks_often_and_then_less)
{
    struct bench bench;
    struct tws_pool *pool = &bench.pool;
    unsigned grown = 0;
    bench_begin(&bench);
    bench_start_spare(&bench);
    look(pool);
    CHECK_INT(pool->tick, TICK_USUAL); /* at most */
    tws_pool_enter(pool, bench.worker, &bench.watch);
    look(pool);
    CHECK_INT(pool->tick, TICK_USUAL);
    look(pool);
    CHECK_INT(pool->tick, TICK_SHORT);
    while (pool->tick < TICK_USUAL && grown < 1000) {
        uint64_t before = pool->tick;
        look(pool);
        CHECK(pool->tick > before);
        CHECK(pool->tick <= before + before / 8);
        CHECK(pool->tick <= TICK_USUAL);
        grown++;
    }
    CHECK_INT(grown, 28); /* an eighth each time */
    CHECK(!tws_pool_leave(pool, bench.worker));
    bench_end(&bench);
}

TEST(what_it_sees_of_handlers_is_added_up)
{
    struct bench bench;
    bench_begin(&bench);
    look(&bench.pool);
    CHECK_INT(bench.pool.sampled_time, 0);
    tws_pool_enter(&bench.pool, bench.worker, &bench.watch);
    look(&bench.pool);
    CHECK_INT(bench.pool.sampled_time, TICK_USUAL);
    bench.pool.tick = TICK_SHORT;
    look(&bench.pool);
    CHECK_INT(bench.pool.sampled_time, TICK_USUAL + TICK_SHORT);
    CHECK(tws_pool_leave(&bench.pool, bench.worker));
    look(&bench.pool);
    CHECK_INT(bench.pool.sampled_time, TICK_USUAL + TICK_SHORT);
    bench_end(&bench);
}

TEST(it_knows_when_nothing_happens)
{
    struct bench bench;
    struct tws_pool *pool = &bench.pool;
    bench_begin(&bench);
    look(pool); /* at another one than before */
    for (unsigned i = 1; i <= 2 * QUIET_LOOKS; i++) {
        look(pool);
        CHECK_INT(pool->quiet, i);
    }
    /* A handler that came and went in between. */
    tws_pool_enter(pool, bench.worker, NULL);
    CHECK(tws_pool_leave(pool, bench.worker));
    look(pool);
    CHECK_INT(pool->quiet, 0);
    look(pool);
    CHECK_INT(pool->quiet, 1);
    /* One that runs. */
    tws_pool_enter(pool, bench.worker, NULL);
    look(pool);
    look(pool);
    CHECK_INT(pool->quiet, 0);
    CHECK(tws_pool_leave(pool, bench.worker));
    look(pool);
    look(pool);
    CHECK_INT(pool->quiet, 1);
    tws_watchdog_rouse(pool);
    CHECK_INT(pool->quiet, 0);
    /* Without a driver there is nothing to see. */
    tws_pool_step_down(pool, bench.worker);
    look(pool);
    look(pool);
    look(pool);
    CHECK_INT(pool->quiet, 2);
    bench_end(&bench);
}

/* As a thread --------------------------------------------------------------
 */

static void
start(struct tws_pool *pool)
{
    struct tws_error err;
    looks = 0;
    CHECK_INT(tws_watchdog_start(pool, &err), TWS_OK);
}

/* How long a stuck handler keeps the role; UINT64_MAX: the machine was too
 * slow for a figure. `wait` is how long nothing happens before. */
static uint64_t
time_of_stuck_handler(uint64_t wait)
{
    struct bench bench;
    bench_begin(&bench);
    bench_start_spare(&bench);
    start(&bench.pool);
    pause_for(wait);
    uint64_t began = tws_clock_now();
    tws_pool_enter(&bench.pool, bench.worker, &bench.watch);
    UNTIL(bench.spare.inside);
    uint64_t taken = tws_clock_now() - began;
    CHECK(!tws_pool_leave(&bench.pool, bench.worker));
    CHECK_INT(bench.pool.handovers, 1);
    tws_watchdog_stop(&bench.pool);
    bench_end(&bench);
    return taken;
}

enum { TRIES = 5 };

/* One good try will do: others may have met a busy machine. */
static void
check_stuck_handler(uint64_t wait, uint64_t at_most)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < TRIES && best > at_most; i++) {
        uint64_t taken = time_of_stuck_handler(wait);
        CHECK(taken >= TICK_USUAL); /* always */
        best = taken < best ? taken : best;
    }
    if (best > at_most) {
        fprintf(stderr, "%g ms\n", (double)best / (double)MILLISECOND);
    }
    CHECK(best <= at_most);
}

TEST(a_stuck_handler_loses_the_role_within_some_ticks)
{
    check_stuck_handler(3 * TICK_USUAL, 4 * TICK_USUAL);
}

TEST(a_handler_rouses_it)
{
    check_stuck_handler((QUIET_LOOKS + 10) * TICK_USUAL, 4 * TICK_USUAL);
}

TEST(quick_handlers_keep_the_role)
{
    struct bench bench;
    bench_begin(&bench);
    bench_start_spare(&bench);
    start(&bench.pool);
    uint64_t end = tws_clock_now() + 200 * MILLISECOND;
    bool kept = true;
    unsigned count = 0;
    while (kept && tws_clock_now() < end) {
        /* Almost all of the time is spent outside, so that a thread that has
         * to wait for the processor does so there. */
        tws_pool_enter(&bench.pool, bench.worker, &bench.watch);
        kept = tws_pool_leave(&bench.pool, bench.worker);
        count++;
        pause_for(MILLISECOND / 10);
    }
    CHECK(kept);
    CHECK(count > 10);
    CHECK(looks > 4);
    CHECK_INT(bench.pool.handovers, 0);
    tws_watchdog_stop(&bench.pool);
    bench_end(&bench);
}

TEST(it_takes_the_role_as_soon_as_somebody_can_have_it)
{
    struct bench bench;
    bench_begin(&bench);
    start(&bench.pool);
    tws_pool_enter(&bench.pool, bench.worker, &bench.watch);
    pause_for(10 * TICK_USUAL);
    CHECK_INT(bench.worker->handling & TWS_PHASE_MASK, TWS_HANDLING);
    member_start(&bench.spare, &bench.pool, step_down_when_told);
    UNTIL(bench.spare.inside);
    CHECK(!tws_pool_leave(&bench.pool, bench.worker));
    CHECK_INT(bench.pool.handovers, 1);
    tws_watchdog_stop(&bench.pool);
    bench_end(&bench);
}

TEST(a_handler_that_did_not_rouse_it_is_found_all_the_same)
{
    struct bench bench;
    bench_begin(&bench);
    bench_start_spare(&bench);
    start(&bench.pool);
    UNTIL(bench.pool.watchdog_asleep);
    /* As one that looked just before. */
    atomic_store(&bench.worker->handling,
                 bench.worker->handling + 4 + TWS_HANDLING);
    uint64_t began = tws_clock_now();
    UNTIL(bench.spare.inside);
    CHECK(tws_clock_now() - began < 20 * TICK_ASLEEP);
    CHECK(!tws_pool_leave(&bench.pool, bench.worker));
    tws_watchdog_stop(&bench.pool);
    bench_end(&bench);
}

enum { STUCK = 30 };

/* Where all takes fifty times as long, the first of many would retire before
 * the last has started. */
static int
how_many_stuck(void)
{
    return STUCK / (int)harness_step(6);
}

/* Until all of them are stuck. */
static uint64_t
time_of_many_stuck(void)
{
    struct tws_pool pool;
    struct member members[STUCK] = {0};
    int count = how_many_stuck();
    struct member last = {.once = true};
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK(tws_pool_await_role(&pool, worker));
    member_start_idle(&last, &pool, step_down_when_told);
    for (int i = 0; i < count; i++) {
        members[i].once = true;
        member_start_idle(&members[i], &pool, handle_until_told);
    }
    start(&pool);
    uint64_t began = tws_clock_now();
    tws_pool_step_down(&pool, worker);
    UNTIL(last.inside);
    uint64_t taken = tws_clock_now() - began;
    for (int i = 0; i < count; i++) {
        CHECK_INT(members[i].driven, 1);
        members[i].go_on = true;
        member_join(&members[i]);
        CHECK(!members[i].kept);
    }
    last.go_on = true;
    member_join(&last);
    CHECK_INT(pool.handovers, count);
    CHECK_INT(detaching.count, count);
    tws_watchdog_stop(&pool);
    (void)tws_pool_remove(&pool, worker);
    tws_worker_free(worker);
    pool_end(&pool);
    return taken;
}

TEST(many_stuck_handlers_in_a_row_cost_little)
{
    uint64_t best = UINT64_MAX;
    /* Two usual ticks each would be 300 ms. */
    for (int i = 0; i < TRIES && best > 150 * MILLISECOND; i++) {
        uint64_t taken = time_of_many_stuck();
        best = taken < best ? taken : best;
    }
    if (best > 150 * MILLISECOND) {
        fprintf(stderr, "%g ms\n", (double)best / (double)MILLISECOND);
    }
    CHECK(best <= 150 * MILLISECOND);
}

static bool
handle_quickly(struct bench *bench)
{
    tws_pool_enter(&bench->pool, bench->worker, NULL);
    return tws_pool_leave(&bench->pool, bench->worker);
}

TEST(it_sleeps_while_nothing_happens)
{
    struct bench bench;
    bench_begin(&bench);
    start(&bench.pool);
    UNTIL(bench.pool.watchdog_asleep);
    CHECK(looks >= QUIET_LOOKS);
    unsigned before = looks;
    pause_for(1000 * MILLISECOND);
    unsigned during = looks - before;
    CHECK(during <= 12);
    CHECK(during > 0);
    /* Handlers keep it awake; one of them it may miss. */
    before = looks;
    uint64_t began = tws_clock_now();
    UNTIL(handle_quickly(&bench) && looks >= before + QUIET_LOOKS);
    CHECK(tws_clock_now() - began < QUIET_LOOKS * TICK_ASLEEP / 2);
    UNTIL(bench.pool.watchdog_asleep);
    tws_watchdog_stop(&bench.pool);
    bench_end(&bench);
}

TEST(it_stops_at_once_even_asleep)
{
    struct bench bench;
    bench_begin(&bench);
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < TRIES && best > TICK_ASLEEP / 4; i++) {
        start(&bench.pool);
        /* It has just begun to sleep. */
        UNTIL(!bench.pool.watchdog_asleep);
        UNTIL(bench.pool.watchdog_asleep);
        uint64_t began = tws_clock_now();
        tws_watchdog_stop(&bench.pool);
        uint64_t taken = tws_clock_now() - began;
        best = taken < best ? taken : best;
    }
    CHECK(best <= TICK_ASLEEP / 4);
    unsigned before = looks;
    tws_watchdog_stop(&bench.pool); /* once more does no harm */
    tws_watchdog_rouse(&bench.pool);
    pause_for(2 * TICK_USUAL);
    CHECK_INT(looks, before);
    bench_end(&bench);
}

TEST(it_need_not_have_begun)
{
    struct tws_pool pool;
    pool_begin(&pool);
    tws_watchdog_rouse(&pool);
    tws_watchdog_stop(&pool);
    pool_end(&pool);
}

TEST(signals_are_not_for_it)
{
    struct tws_pool pool;
    sigset_t before;
    sigset_t after;
    pool_begin(&pool);
    signals_reach_it = false;
    CHECK_INT(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
    start(&pool);
    UNTIL(looks > 0);
    CHECK(!signals_reach_it);
    CHECK_INT(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    CHECK_INT(sigismember(&after, SIGINT), sigismember(&before, SIGINT));
    CHECK_INT(sigismember(&after, SIGTERM), 0);
    tws_watchdog_stop(&pool);
    pool_end(&pool);
}

TEST(a_failure_to_begin_is_told)
{
    struct tws_pool pool;
    struct tws_error err;
    sigset_t after;
    pool_begin(&pool);
    create_fails = true;
    CHECK_INT(tws_watchdog_start(&pool, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EAGAIN);
    CHECK(strcmp(err.reason, "pthread_create") == 0);
    create_fails = false;
    CHECK(!pool.watchdog_runs);
    CHECK_INT(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    CHECK_INT(sigismember(&after, SIGINT), 0);
    tws_watchdog_stop(&pool);
    pool_end(&pool);
}

RUN(T(quick_handlers_are_left_alone),
    T(the_second_look_at_a_handler_takes_the_role),
    T(nothing_is_taken_without_anybody_to_have_it),
    T(after_a_hand_over_it_looks_often_and_then_less),
    T(what_it_sees_of_handlers_is_added_up), T(it_knows_when_nothing_happens),
    T(a_stuck_handler_loses_the_role_within_some_ticks),
    T(a_handler_rouses_it), T(quick_handlers_keep_the_role),
    T(it_takes_the_role_as_soon_as_somebody_can_have_it),
    T(a_handler_that_did_not_rouse_it_is_found_all_the_same),
    T(many_stuck_handlers_in_a_row_cost_little),
    T(it_sleeps_while_nothing_happens), T(it_stops_at_once_even_asleep),
    T(it_need_not_have_begun), T(signals_are_not_for_it),
    T(a_failure_to_begin_is_told))
