/* Compiled in here with calls that a test can make fail. */
#include "pool_fixture.h"

#include "loop/condition.h"

static bool condition_fails;
static bool mutex_fails;

static enum tws_status
init_condition(pthread_cond_t *condition, struct tws_error *err)
{
    return condition_fails ? tws_error_os(err, EAGAIN, "pthread_cond_init")
                           : tws_condition_init(condition, err);
}

static int
init_mutex(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    return mutex_fails ? ENOMEM : pthread_mutex_init(mutex, attributes);
}

#define tws_condition_init init_condition
#define pthread_mutex_init init_mutex
#include "../../csrc/engine/pool.c"
#undef tws_condition_init
#undef pthread_mutex_init

static void
release(struct tws_pool *pool, struct tws_worker *worker)
{
    (void)tws_pool_remove(pool, worker);
    tws_worker_free(worker);
}

/* As the watchdog does. */
static bool
take_role(struct tws_pool *pool, struct tws_worker *driver, uint64_t handling)
{
    pthread_mutex_lock(&pool->lock);
    bool taken = tws_pool_take_role_lock_held(pool, driver, handling);
    pthread_mutex_unlock(&pool->lock);
    return taken;
}

static struct tws_worker *
driver_of(struct tws_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct tws_worker *driver = pool->driver;
    pthread_mutex_unlock(&pool->lock);
    return driver;
}

/* Granting ---------------------------------------------------------------- */

TEST(who_comes_first_drives)
{
    struct tws_pool pool;
    struct member other = {.once = true};
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK(!worker->driving);
    CHECK(tws_pool_await_role(&pool, worker));
    CHECK(worker->driving);
    CHECK(driver_of(&pool) == worker);
    CHECK(tws_pool_await_role(&pool, worker)); /* it has it still */
    member_start_idle(&other, &pool, step_down_at_once);
    CHECK_INT(other.driven, 0);
    tws_pool_step_down(&pool, worker);
    CHECK(!worker->driving);
    member_join(&other);
    CHECK_INT(other.driven, 1);
    CHECK(!other.over);
    CHECK(driver_of(&pool) == NULL);
    CHECK_INT(pool.handovers, 0); /* nothing was taken */
    release(&pool, worker);
    pool_end(&pool);
}

enum { QUEUED = 5 };

/* Written by whoever drives, and by nobody else. */
struct order {
    struct member *members[QUEUED];
    unsigned count;
};

static void
note_order(struct member *member)
{
    struct order *order = member->context;
    order->members[order->count++] = member;
    tws_pool_step_down(member->pool, member->worker);
}

TEST(the_latest_idle_worker_is_next)
{
    struct tws_pool pool;
    struct order order = {0};
    struct member members[QUEUED] = {0};
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK(tws_pool_await_role(&pool, worker));
    for (int i = 0; i < QUEUED; i++) {
        members[i].context = &order;
        members[i].once = true;
        member_start_idle(&members[i], &pool, note_order);
    }
    tws_pool_step_down(&pool, worker);
    for (int i = 0; i < QUEUED; i++) {
        member_join(&members[i]);
    }
    CHECK_INT(order.count, QUEUED);
    for (int i = 0; i < QUEUED; i++) {
        CHECK(order.members[i] == &members[QUEUED - 1 - i]);
    }
    release(&pool, worker);
    pool_end(&pool);
}

TEST(a_role_nobody_has_is_free)
{
    struct tws_pool pool;
    pool_begin(&pool);
    struct tws_worker *one = new_worker(&pool);
    struct tws_worker *other = new_worker(&pool);
    CHECK(tws_pool_await_role(&pool, one));
    tws_pool_step_down(&pool, one);
    CHECK(driver_of(&pool) == NULL);
    CHECK(tws_pool_await_role(&pool, other));
    tws_pool_step_down(&pool, other);
    release(&pool, one);
    release(&pool, other);
    pool_end(&pool);
}

/* Handlers ---------------------------------------------------------------- */

TEST(a_handler_is_marked_while_it_runs)
{
    struct tws_pool pool;
    struct tws_watch watch = {0};
    uint64_t last = 0;
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK(tws_pool_await_role(&pool, worker));
    CHECK_INT(worker->handling & TWS_PHASE_MASK, TWS_TURNING);
    for (int i = 0; i < 5; i++) {
        tws_pool_enter(&pool, worker, i % 2 == 0 ? &watch : NULL);
        CHECK_INT(worker->handling & TWS_PHASE_MASK, TWS_HANDLING);
        CHECK(worker->serving == (i % 2 == 0 ? &watch : NULL));
        CHECK(worker->handling > last); /* each has a number of its own */
        last = worker->handling;
        CHECK(tws_pool_leave(&pool, worker));
        CHECK_INT(worker->handling & TWS_PHASE_MASK, TWS_TURNING);
        CHECK(worker->driving);
    }
    CHECK_INT(worker->counters.handler_time, 0); /* the watchdog's business */
    tws_pool_step_down(&pool, worker);
    release(&pool, worker);
    pool_end(&pool);
}

TEST(a_role_can_be_taken_within_a_handler)
{
    struct tws_pool pool;
    struct member slow = {.once = true};
    struct member next = {.once = true};
    pool_begin(&pool);
    member_start(&slow, &pool, handle_until_told);
    UNTIL(slow.inside);
    member_start_idle(&next, &pool, step_down_when_told);
    uint64_t handling = slow.worker->handling;
    CHECK(take_role(&pool, slow.worker, handling));
    UNTIL(next.inside);
    CHECK_INT(slow.worker->handling & TWS_PHASE_MASK, TWS_TAKEN);
    CHECK_INT(pool.handovers, 1);
    CHECK(driver_of(&pool) == next.worker);
    /* What it serves was set aside before anybody else could drive. */
    CHECK_INT(detaching.count, 1);
    CHECK(detaching.watch == &slow.watch);
    CHECK(detaching.driver == slow.worker);
    /* Once is enough. */
    CHECK(!take_role(&pool, slow.worker, handling));
    CHECK_INT(detaching.count, 1);
    pause_for(5 * MILLISECOND);
    slow.go_on = true;
    member_join(&slow);
    CHECK(!slow.kept);
    CHECK(pool.retired.handler_time >= 5 * MILLISECOND);
    CHECK(pool.retired.handler_time < 20 * 1000 * MILLISECOND);
    next.go_on = true;
    member_join(&next);
    CHECK_INT(pool.handovers, 1);
    pool_end(&pool);
}

TEST(a_role_is_not_taken_once_the_handler_has_returned)
{
    struct tws_pool pool;
    struct tws_watch watch = {0};
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK(tws_pool_await_role(&pool, worker));
    tws_pool_enter(&pool, worker, &watch);
    uint64_t handling = worker->handling;
    CHECK(tws_pool_leave(&pool, worker));
    CHECK(!take_role(&pool, worker, handling));
    /* Nor while it is in the next one. */
    tws_pool_enter(&pool, worker, &watch);
    CHECK(!take_role(&pool, worker, handling));
    CHECK(tws_pool_leave(&pool, worker));
    CHECK(worker->driving);
    CHECK(driver_of(&pool) == worker);
    CHECK_INT(pool.handovers, 0);
    CHECK_INT(detaching.count, 0);
    tws_pool_step_down(&pool, worker);
    release(&pool, worker);
    pool_end(&pool);
}

TEST(a_handler_about_nothing_has_nothing_to_set_aside)
{
    struct tws_pool pool;
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK(tws_pool_await_role(&pool, worker));
    tws_pool_enter(&pool, worker, NULL);
    CHECK(take_role(&pool, worker, worker->handling));
    CHECK_INT(detaching.count, 0);
    CHECK(driver_of(&pool) == NULL); /* nobody was there to have it */
    CHECK(!tws_pool_leave(&pool, worker));
    CHECK(!worker->driving);
    CHECK_INT(worker->handling & TWS_PHASE_MASK, TWS_TURNING);
    /* And may have it back. */
    CHECK(tws_pool_await_role(&pool, worker));
    tws_pool_step_down(&pool, worker);
    release(&pool, worker);
    pool_end(&pool);
}

/* What the taker does before it lets go of the lock. */
static void
leave_and_look(struct member *member)
{
    bool *handed_over = member->context;
    tws_pool_enter(member->pool, member->worker, &member->watch);
    member->inside = true;
    UNTIL(member->go_on);
    member->kept = tws_pool_leave(member->pool, member->worker);
    CHECK(*handed_over);
}

TEST(a_handler_that_returns_waits_for_the_taker)
{
    struct tws_pool pool;
    bool handed_over = false;
    struct member slow = {.once = true, .context = &handed_over};
    pool_begin(&pool);
    member_start(&slow, &pool, leave_and_look);
    UNTIL(slow.inside);
    pthread_mutex_lock(&pool.lock);
    CHECK(tws_pool_take_role_lock_held(&pool, slow.worker,
                                       slow.worker->handling));
    slow.go_on = true;
    pause_for(20 * MILLISECOND);
    handed_over = true;
    pthread_mutex_unlock(&pool.lock);
    member_join(&slow);
    CHECK(!slow.kept);
    pool_end(&pool);
}

TEST(who_does_not_drive_is_not_marked_but_timed)
{
    struct tws_pool pool;
    struct tws_watch watch = {0};
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    tws_pool_enter(&pool, worker, &watch);
    CHECK_INT(worker->handling & TWS_PHASE_MASK, TWS_TURNING);
    pause_for(2 * MILLISECOND);
    CHECK(!tws_pool_leave(&pool, worker));
    CHECK(!worker->driving);
    CHECK(worker->counters.handler_time >= 2 * MILLISECOND);
    /* All of them add up. */
    tws_pool_enter(&pool, worker, &watch);
    pause_for(2 * MILLISECOND);
    CHECK(!tws_pool_leave(&pool, worker));
    CHECK(worker->counters.handler_time >= 4 * MILLISECOND);
    release(&pool, worker);
    pool_end(&pool);
}

/* Waiting ------------------------------------------------------------------
 */

TEST(a_handler_that_waits_gives_the_role_away)
{
    struct tws_pool pool;
    struct tws_watch watch = {0};
    struct member next = {.once = true};
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK(tws_pool_await_role(&pool, worker));
    member_start_idle(&next, &pool, step_down_when_told);
    tws_pool_enter(&pool, worker, &watch);
    CHECK(tws_pool_before_wait(&pool));
    CHECK(!worker->driving); /* known at once, not when it returns */
    CHECK_INT(detaching.count, 1);
    CHECK(detaching.watch == &watch);
    UNTIL(next.inside);
    CHECK(driver_of(&pool) == next.worker);
    /* A second wait finds it gone. */
    CHECK(tws_pool_before_wait(&pool));
    CHECK_INT(pool.handovers, 1);
    CHECK_INT(detaching.count, 1);
    CHECK(!tws_pool_leave(&pool, worker));
    CHECK(driver_of(&pool) == next.worker);
    next.go_on = true;
    member_join(&next);
    release(&pool, worker);
    pool_end(&pool);
}

TEST(a_handler_that_waits_is_told_where_nobody_takes_over)
{
    struct tws_pool pool;
    struct tws_watch watch = {0};
    struct member late = {.once = true};
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK(tws_pool_await_role(&pool, worker));
    tws_pool_enter(&pool, worker, &watch);
    CHECK(!tws_pool_before_wait(&pool));
    CHECK(!worker->driving);
    CHECK(!tws_pool_before_wait(&pool));
    /* Who comes later finds the role free. */
    member_start(&late, &pool, step_down_when_told);
    UNTIL(late.inside);
    CHECK(tws_pool_before_wait(&pool));
    CHECK(!tws_pool_leave(&pool, worker));
    late.go_on = true;
    member_join(&late);
    release(&pool, worker);
    pool_end(&pool);
}

TEST(outside_of_handlers_the_driver_keeps_the_role)
{
    struct tws_pool pool;
    struct member next = {.once = true};
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK(!tws_pool_before_wait(&pool));
    CHECK(tws_pool_await_role(&pool, worker));
    member_start_idle(&next, &pool, step_down_at_once);
    CHECK(!tws_pool_before_wait(&pool));
    CHECK(worker->driving);
    CHECK(driver_of(&pool) == worker);
    CHECK_INT(pool.handovers, 0);
    tws_pool_step_down(&pool, worker);
    member_join(&next);
    release(&pool, worker);
    pool_end(&pool);
}

TEST(other_threads_wait_without_taking_anything)
{
    struct tws_pool pool;
    struct member driver = {.once = true};
    struct member next = {.once = true};
    pool_begin(&pool);
    CHECK(!tws_pool_before_wait(&pool));
    member_start(&driver, &pool, handle_until_told);
    UNTIL(driver.inside);
    member_start_idle(&next, &pool, step_down_at_once);
    CHECK(tws_pool_before_wait(&pool));
    CHECK_INT(driver.worker->handling & TWS_PHASE_MASK, TWS_HANDLING);
    CHECK(driver_of(&pool) == driver.worker);
    CHECK_INT(detaching.count, 0);
    driver.go_on = true;
    member_join(&driver);
    CHECK(driver.kept);
    member_join(&next);
    CHECK_INT(pool.handovers, 0);
    pool_end(&pool);
}

/* Coming and going ---------------------------------------------------------
 */

enum { IDLERS = 5 };

TEST(those_beyond_the_spare_one_retire)
{
    struct tws_pool pool;
    struct member idlers[IDLERS] = {0};
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK(tws_pool_await_role(&pool, worker));
    uint64_t began = tws_clock_now();
    for (int i = 0; i < IDLERS; i++) {
        member_start_idle(&idlers[i], &pool, step_down_at_once);
    }
    UNTIL(idle_count(&pool) < IDLERS);
    CHECK(tws_clock_now() - began >= 2000 * MILLISECOND);
    UNTIL(idle_count(&pool) == 1);
    CHECK(tws_clock_now() - began < 5 * RETIRE_AFTER);
    for (int i = 1; i < IDLERS; i++) {
        member_join(&idlers[i]);
        CHECK_INT(idlers[i].driven, 0);
        CHECK(!idlers[i].over);
    }
    CHECK_INT(pool.threads, 2);
    CHECK(pool.idle == idlers[0].worker);
    /* One that wakes up for nothing gets a limit, too. */
    struct member other = {0};
    member_start_idle(&other, &pool, step_down_at_once);
    pthread_mutex_lock(&pool.lock);
    (void)pthread_cond_signal(&idlers[0].worker->wake);
    pthread_mutex_unlock(&pool.lock);
    UNTIL(idle_count(&pool) == 1);
    pause_for(RETIRE_AFTER / 4);
    CHECK_INT(idle_count(&pool), 1); /* whichever of them */
    CHECK_INT(pool.threads, 2);
    tws_pool_end(&pool);
    member_join(&idlers[0]);
    member_join(&other);
    CHECK(idlers[0].over != other.over);
    tws_pool_step_down(&pool, worker);
    release(&pool, worker);
    pool_end(&pool);
}

TEST(one_spare_thread_is_wanted)
{
    struct tws_pool pool;
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK_INT(pool.threads, 1);
    CHECK(tws_pool_await_role(&pool, worker));
    CHECK(!tws_pool_wants_thread(&pool, 1));
    CHECK(tws_pool_is_exhausted(&pool, 1));
    CHECK(!tws_pool_is_exhausted(&pool, 2));

    CHECK(tws_pool_wants_thread(&pool, 2));
    CHECK_INT(pool.threads, 2);
    CHECK_INT(pool.starting, 1);
    /* One that is on its way is enough. */
    CHECK(!tws_pool_wants_thread(&pool, 9));
    CHECK(!tws_pool_is_exhausted(&pool, 2));

    tws_pool_thread_failed(&pool);
    CHECK_INT(pool.threads, 1);
    CHECK_INT(pool.starting, 0);
    CHECK(tws_pool_wants_thread(&pool, 2));
    struct member spare = {.once = true};
    member_start_idle(&spare, &pool, step_down_when_told);
    CHECK_INT(pool.threads, 2);
    CHECK_INT(pool.starting, 0);
    /* It stands by. */
    CHECK(!tws_pool_wants_thread(&pool, 9));
    CHECK(!tws_pool_is_exhausted(&pool, 2));

    tws_pool_step_down(&pool, worker);
    UNTIL(spare.inside);
    /* Both are busy. */
    CHECK(!tws_pool_wants_thread(&pool, 2));
    CHECK(tws_pool_is_exhausted(&pool, 2));
    CHECK(tws_pool_wants_thread(&pool, 3));
    tws_pool_thread_failed(&pool);
    spare.go_on = true;
    member_join(&spare);
    CHECK_INT(pool.threads, 1);

    tws_pool_end(&pool);
    CHECK(!tws_pool_wants_thread(&pool, 9));
    release(&pool, worker);
    pool_end(&pool);
}

TEST(a_thread_nobody_asked_for_may_fail_too)
{
    struct tws_pool pool;
    pool_begin(&pool);
    tws_pool_thread_failed(&pool);
    CHECK_INT(pool.threads, 0);
    CHECK_INT(pool.starting, 0);
    pool_end(&pool);
}

TEST(what_those_counted_that_left_is_kept)
{
    struct tws_pool pool;
    pool_begin(&pool);
    struct tws_worker *workers[3];
    for (int i = 0; i < 3; i++) {
        workers[i] = new_worker(&pool);
        tws_count(&workers[i]->counters.messages_in, 1);
        tws_count(&workers[i]->counters.messages_out, 10);
        tws_count(&workers[i]->counters.bytes_in, 100);
        tws_count(&workers[i]->counters.bytes_out, 1000);
        tws_count(&workers[i]->counters.handler_time, 10000);
    }
    pool.seen_worker = workers[1];
    CHECK(!tws_pool_remove(&pool, workers[1])); /* amid the others */
    CHECK(pool.seen_worker == NULL); /* its memory may become another one's */
    pool.seen_worker = workers[0];
    CHECK(!tws_pool_remove(&pool, workers[2]));
    CHECK(pool.seen_worker == workers[0]);
    CHECK_INT(pool.threads, 1);
    CHECK_INT(pool.retired.messages_in, 2);
    CHECK_INT(pool.retired.messages_out, 20);
    CHECK_INT(pool.retired.bytes_in, 200);
    CHECK_INT(pool.retired.bytes_out, 2000);
    CHECK_INT(pool.retired.handler_time, 20000);
    CHECK(pool.workers == workers[0] && workers[0]->next == NULL);
    release(&pool, workers[0]);
    tws_worker_free(workers[1]);
    tws_worker_free(workers[2]);
    pool_end(&pool);
}

/* The end ------------------------------------------------------------------
 */

TEST(the_end_wakes_everybody)
{
    struct tws_pool pool;
    struct member members[QUEUED] = {0};
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK(tws_pool_await_role(&pool, worker));
    for (int i = 0; i < QUEUED; i++) {
        member_start_idle(&members[i], &pool, step_down_at_once);
    }
    uint64_t began = tws_clock_now();
    tws_pool_end(&pool);
    for (int i = 0; i < QUEUED; i++) {
        member_join(&members[i]); /* while another one has the role */
        CHECK(members[i].over);
        CHECK_INT(members[i].driven, 0);
    }
    CHECK(tws_clock_now() - began < RETIRE_AFTER); /* nor did they retire */
    tws_pool_step_down(&pool, worker);
    CHECK(!tws_pool_await_role(&pool, worker));
    CHECK(!worker->driving);
    CHECK(tws_pool_remove(&pool, worker));
    tws_worker_free(worker);
    pool_end(&pool);
}

TEST(what_is_queued_after_the_end_gets_a_driver)
{
    struct tws_pool pool;
    struct tws_watch watch = {0};
    pool_begin(&pool);
    struct tws_worker *driver = new_worker(&pool);
    struct tws_worker *slow = new_worker(&pool);
    CHECK(tws_pool_await_role(&pool, driver));
    tws_pool_end(&pool);
    tws_pool_step_down(&pool, driver);
    CHECK(!tws_pool_await_role(&pool, driver));

    CHECK(tws_pool_queue(&pool, &watch));
    CHECK(tws_pool_await_role(&pool, slow));
    CHECK(slow->driving);
    CHECK(tws_pool_dequeue(&pool) == &watch);
    tws_pool_step_down(&pool, slow);
    CHECK(!tws_pool_await_role(&pool, slow));
    release(&pool, driver);
    release(&pool, slow);
    pool_end(&pool);
}

static void
drop_what_is_queued(struct member *member)
{
    while (tws_pool_dequeue(member->pool) != NULL) {
        member->inside = true;
    }
    tws_pool_step_down(member->pool, member->worker);
}

TEST(after_the_end_the_role_goes_round_until_nothing_is_queued)
{
    struct tws_pool pool;
    struct tws_watch watch = {0};
    struct member members[QUEUED] = {0};
    pool_begin(&pool);
    struct tws_worker *worker = new_worker(&pool);
    CHECK(tws_pool_await_role(&pool, worker));
    tws_pool_end(&pool);
    CHECK(tws_pool_queue(&pool, &watch));
    for (int i = 0; i < QUEUED; i++) {
        member_start_idle(&members[i], &pool, drop_what_is_queued);
    }
    /* All of them wait for the one that drives still. */
    tws_pool_step_down(&pool, worker);
    int dropped = 0;
    for (int i = 0; i < QUEUED; i++) {
        member_join(&members[i]);
        CHECK(members[i].over);
        dropped += members[i].inside;
    }
    CHECK_INT(dropped, 1);
    CHECK(!tws_pool_await_role(&pool, worker));
    release(&pool, worker);
    pool_end(&pool);
}

/* The queue ----------------------------------------------------------------
 */

TEST(the_queue_keeps_its_order)
{
    struct tws_pool pool;
    struct tws_watch watches[QUEUED] = {0};
    pool_begin(&pool);
    CHECK(tws_pool_dequeue(&pool) == NULL);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < QUEUED; i++) {
            CHECK(tws_pool_queue(&pool, &watches[i]));
        }
        for (int i = 0; i < QUEUED; i++) {
            CHECK(!tws_pool_queue(&pool, &watches[i])); /* it is in */
        }
        CHECK(tws_pool_dequeue(&pool) == &watches[0]);
        CHECK(tws_pool_queue(&pool, &watches[0])); /* at the end now */
        for (int i = 1; i <= QUEUED; i++) {
            CHECK(tws_pool_dequeue(&pool) == &watches[i % QUEUED]);
            CHECK(watches[i % QUEUED].next_queued == NULL);
        }
        CHECK(tws_pool_dequeue(&pool) == NULL);
    }
    pool_end(&pool);
}

enum { QUEUERS = 3, WATCHES = 8, ROUNDS = 5000 };

struct queuing {
    struct tws_pool *pool;
    struct tws_watch *watches;
    atomic_uint *added;
};

static void *
queue_often(void *argument)
{
    struct queuing *queuing = argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (tws_pool_queue(queuing->pool, &queuing->watches[i % WATCHES])) {
            (*queuing->added)++;
        }
    }
    return NULL;
}

TEST(threads_queue_without_losing_anything)
{
    struct tws_pool pool;
    struct tws_watch watches[WATCHES] = {0};
    atomic_uint added = 0;
    unsigned taken = 0;
    pthread_t threads[QUEUERS];
    struct queuing queuing = {&pool, watches, &added};
    pool_begin(&pool);
    for (int i = 0; i < QUEUERS; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, queue_often, &queuing), 0);
    }
    for (int i = 0; i < ROUNDS; i++) {
        taken += tws_pool_dequeue(&pool) != NULL;
    }
    for (int i = 0; i < QUEUERS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    }
    unsigned left = 0;
    while (tws_pool_dequeue(&pool) != NULL) {
        left++;
    }
    CHECK(left <= WATCHES);
    CHECK_INT(taken + left, added);
    pool_end(&pool);
}

/* All at once --------------------------------------------------------------
 */

enum { WORKERS = 4, TURNS = 4000 };

/* Without a lock, as the driver's alone. */
struct turning {
    unsigned turns;
    struct tws_worker *last;
    atomic_uint lost; /* roles, as those found who had them */
    atomic_uint sum;  /* of turns */
    atomic_bool done;
};

static void
turn_until_done(struct member *member)
{
    struct turning *turning = member->context;
    struct tws_pool *pool = member->pool;
    struct tws_worker *worker = member->worker;
    while (turning->turns < TURNS) {
        turning->turns++;
        turning->last = worker;
        unsigned kind = turning->turns % 8;
        turning->sum++;
        CHECK(worker->driving);
        tws_pool_enter(pool, worker, &member->watch);
        if (kind == 3) {
            (void)tws_pool_before_wait(pool);
        }
        else if (kind == 5) {
            pause_for(MILLISECOND / 10);
        }
        if (!tws_pool_leave(pool, worker)) {
            turning->lost++;
            /* What it serves is its own for a while. */
            tws_pool_enter(pool, worker, &member->watch);
            CHECK(!tws_pool_leave(pool, worker));
            return;
        }
        CHECK(turning->last == worker);
    }
    if (!atomic_exchange(&turning->done, true)) {
        tws_pool_end(pool);
    }
    tws_pool_step_down(pool, worker);
}

TEST(roles_go_to_and_fro)
{
    struct tws_pool pool;
    struct turning turning = {0};
    struct member members[WORKERS] = {0};
    pool_begin(&pool);
    for (int i = 0; i < WORKERS; i++) {
        members[i].context = &turning;
        member_start(&members[i], &pool, turn_until_done);
    }
    while (!turning.done) {
        pthread_mutex_lock(&pool.lock);
        struct tws_worker *driver = pool.driver;
        if (driver != NULL) {
            uint64_t handling = atomic_load(&driver->handling);
            if ((handling & TWS_PHASE_MASK) == TWS_HANDLING) {
                (void)tws_pool_take_role_lock_held(&pool, driver, handling);
            }
        }
        pthread_mutex_unlock(&pool.lock);
        pause_for(MILLISECOND / 20);
    }
    for (int i = 0; i < WORKERS; i++) {
        member_join(&members[i]);
        CHECK(members[i].over);
    }
    CHECK_INT(turning.turns, TURNS);
    CHECK_INT(turning.sum, TURNS);
    CHECK_INT(turning.lost, pool.handovers);
    CHECK_INT(detaching.count, pool.handovers);
    CHECK(pool.handovers >= TURNS / 8);
    pool_end(&pool);
}

TEST(a_failure_to_begin_is_told)
{
    struct tws_pool pool = {0};
    struct tws_error err;
    condition_fails = true;
    CHECK_INT(tws_pool_init(&pool, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EAGAIN);
    condition_fails = false;
    mutex_fails = true;
    CHECK_INT(tws_pool_init(&pool, &err), TWS_NOMEM);
    mutex_fails = false;
}

RUN(T(who_comes_first_drives), T(the_latest_idle_worker_is_next),
    T(a_role_nobody_has_is_free), T(a_handler_is_marked_while_it_runs),
    T(a_role_can_be_taken_within_a_handler),
    T(a_role_is_not_taken_once_the_handler_has_returned),
    T(a_handler_about_nothing_has_nothing_to_set_aside),
    T(a_handler_that_returns_waits_for_the_taker),
    T(who_does_not_drive_is_not_marked_but_timed),
    T(a_handler_that_waits_gives_the_role_away),
    T(a_handler_that_waits_is_told_where_nobody_takes_over),
    T(outside_of_handlers_the_driver_keeps_the_role),
    T(other_threads_wait_without_taking_anything),
    T(those_beyond_the_spare_one_retire), T(one_spare_thread_is_wanted),
    T(a_thread_nobody_asked_for_may_fail_too),
    T(what_those_counted_that_left_is_kept), T(the_end_wakes_everybody),
    T(what_is_queued_after_the_end_gets_a_driver),
    T(after_the_end_the_role_goes_round_until_nothing_is_queued),
    T(the_queue_keeps_its_order), T(threads_queue_without_losing_anything),
    T(roles_go_to_and_fro), T(a_failure_to_begin_is_told))
