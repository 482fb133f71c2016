/* The poller while one thread waits and others wake it or change the set. */
#include "loop/poller.h"

#include "poller_fixture.h"

#include <signal.h>
#include <stdatomic.h>

static int tag_a; /* addresses to tell descriptors by */
static int tag_b;

BOTH_KINDS(a_wait_ends_when_something_is_ready)
{
    const uint64_t deadlines[] = {from_now(3600000 * MILLISECOND),
                                  UINT64_MAX - 1, FOREVER};
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    struct waiter waiter;
    add(poller, pair.near, TWS_READABLE, &tag_a);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(deadlines); i++) {
        waiter_start(&waiter, poller, deadlines[i]);
        put(pair.far);
        waiter_join_ready(&waiter, &tag_a, TWS_READABLE);
        get(pair.near);
    }
    close_pair(pair);
    tws_poller_free(poller);
}

BOTH_KINDS(a_wake_ends_the_wait_under_way)
{
    struct tws_poller *poller = new_poller(kind);
    struct waiter waiter;
    waiter_start(&waiter, poller, FOREVER);
    tws_poller_wake(poller);
    waiter_join(&waiter);
    CHECK_INT(waiter.count, 0);
    CHECK(!waiter.due);
    /* It is used up: the next wait runs its time. */
    expect_end(poller, from_now(5 * MILLISECOND));
    tws_poller_free(poller);
}

BOTH_KINDS(a_wake_ends_the_next_wait)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    struct tws_ready ready[2];
    tws_poller_wake(poller);
    tws_poller_wake(poller); /* two in a row are one */
    CHECK_INT(wait_for(poller, FOREVER, ready, 2), 0);
    expect_end(poller, from_now(5 * MILLISECOND));
    /* It takes nothing from what is ready beside it. */
    add(poller, pair.near, TWS_WRITABLE, &tag_a);
    tws_poller_wake(poller);
    CHECK_INT(wait_for(poller, FOREVER, ready, 2), 1);
    CHECK(ready[0].data == &tag_a);
    close_pair(pair);
    tws_poller_free(poller);
}

/* The deadline of a wait before, over meanwhile, does not end one without. */
BOTH_KINDS(a_deadline_that_was_reported_is_forgotten)
{
    struct tws_poller *poller = new_poller(kind);
    struct tws_ready ready[1];
    struct waiter waiter;
    expect_end(poller, from_now(5 * MILLISECOND));
    for (int i = 0; i < 3; i++) {
        if (i == 1) {
            CHECK_INT(wait_for(poller, 0, ready, 1), 0);
        }
        waiter_start(&waiter, poller, FOREVER);
        uint64_t woken = tws_clock_now();
        tws_poller_wake(poller);
        waiter_join(&waiter);
        CHECK_INT(waiter.count, 0);
        CHECK(!waiter.due);
        CHECK(waiter.ended >= woken);
    }
    tws_poller_free(poller);
}

struct wakers {
    struct tws_poller *poller;
    atomic_uint posted; /* jobs; each is posted, then woken for */
    unsigned each;
};

static void *
post_and_wake(void *argument)
{
    struct wakers *wakers = argument;
    for (unsigned i = 0; i < wakers->each; i++) {
        atomic_fetch_add_explicit(&wakers->posted, 1, memory_order_relaxed);
        tws_poller_wake(wakers->poller);
    }
    return NULL;
}

/* A lost wake-up hangs this test. */
BOTH_KINDS(no_wake_is_lost)
{
    enum { THREADS = 3, EACH = 2000 };
    struct wakers wakers = {.poller = new_poller(kind), .each = EACH};
    pthread_t threads[THREADS];
    struct tws_ready ready[1];
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, post_and_wake, &wakers),
                  0);
    }
    (void)alarm(60);
    unsigned seen = 0;
    while (seen < THREADS * EACH) {
        CHECK_INT(wait_for(wakers.poller, FOREVER, ready, 1), 0);
        seen = atomic_load_explicit(&wakers.posted, memory_order_relaxed);
    }
    (void)alarm(0);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    }
    tws_poller_free(wakers.poller);
}

static struct tws_poller *signalled; /* what the handler wakes, or NULL */

static void
on_signal(int number)
{
    (void)number;
    if (signalled != NULL) {
        tws_poller_wake(signalled);
    }
}

static void
handle_sigusr1(struct tws_poller *poller)
{
    struct sigaction action = {.sa_handler = on_signal};
    signalled = poller;
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
}

BOTH_KINDS(a_signal_ends_the_wait_with_nothing)
{
    struct tws_poller *poller = new_poller(kind);
    struct waiter waiter;
    handle_sigusr1(NULL);
    waiter_start(&waiter, poller, from_now(60000 * MILLISECOND));
    CHECK_INT(pthread_kill(waiter.thread, SIGUSR1), 0);
    waiter_join(&waiter);
    CHECK_INT(waiter.count, 0);
    CHECK(!waiter.due);
    CHECK(waiter.ended - waiter.began < 50000 * MILLISECOND);
    tws_poller_free(poller);
}

BOTH_KINDS(a_signal_handler_may_wake)
{
    struct tws_poller *poller = new_poller(kind);
    struct waiter waiter;
    sigset_t set;
    CHECK_INT(sigemptyset(&set), 0);
    CHECK_INT(sigaddset(&set, SIGUSR1), 0);
    handle_sigusr1(poller);
    CHECK_INT(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    waiter_start(&waiter, poller, FOREVER); /* with the signal blocked */
    CHECK_INT(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
    errno = 1234;
    CHECK_INT(raise(SIGUSR1), 0);
    CHECK_INT(errno, 1234);
    waiter_join(&waiter);
    CHECK_INT(waiter.count, 0);
    signalled = NULL;
    tws_poller_free(poller);
}

BOTH_KINDS(an_add_reaches_the_wait_under_way)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    struct waiter waiter;
    waiter_start(&waiter, poller, FOREVER);
    add(poller, pair.near, TWS_WRITABLE, &tag_a);
    waiter_join_ready(&waiter, &tag_a, TWS_WRITABLE);
    close_pair(pair);
    tws_poller_free(poller);
}

BOTH_KINDS(a_modification_reaches_the_wait_under_way)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    struct waiter waiter;
    put(pair.far);
    add(poller, pair.near, 0, &tag_a);
    waiter_start(&waiter, poller, FOREVER);
    modify(poller, pair.near, TWS_READABLE, &tag_b);
    waiter_join_ready(&waiter, &tag_b, TWS_READABLE);
    /* And the other way round: no longer wanted. */
    get(pair.near);
    waiter_start(&waiter, poller, FOREVER);
    modify(poller, pair.near, 0, &tag_b);
    put(pair.far);
    pause_for(20 * MILLISECOND);
    modify(poller, pair.near, TWS_WRITABLE, &tag_a);
    waiter_join_ready(&waiter, &tag_a, TWS_WRITABLE);
    close_pair(pair);
    tws_poller_free(poller);
}

BOTH_KINDS(a_removal_reaches_the_wait_under_way)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair gone = open_pair();
    struct pair stays = open_pair();
    struct waiter waiter;
    add(poller, gone.near, TWS_READABLE, &tag_a);
    add(poller, stays.near, TWS_READABLE, &tag_b);
    waiter_start(&waiter, poller, FOREVER);
    take_off(poller, gone.near);
    put(gone.far);
    pause_for(20 * MILLISECOND);
    put(stays.far);
    waiter_join_ready(&waiter, &tag_b, TWS_READABLE);
    close_pair(gone);
    close_pair(stays);
    tws_poller_free(poller);
}

/* While the kernel still polls a descriptor, closing it tells the peer
 * nothing. */
BOTH_KINDS(a_removed_descriptor_closes_at_once)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    struct waiter waiter;
    add(poller, pair.near, TWS_READABLE, &tag_a);
    waiter_start(&waiter, poller, FOREVER);
    take_off(poller, pair.near);
    CHECK_INT(close(pair.near), 0);
    struct pollfd far = {.fd = pair.far, .events = POLLIN};
    CHECK_INT(poll(&far, 1, 20000), 1);
    CHECK(far.revents & POLLHUP);
    tws_poller_wake(poller);
    waiter_join(&waiter);
    CHECK_INT(waiter.count, 0);
    CHECK_INT(close(pair.far), 0);
    tws_poller_free(poller);
}

BOTH_KINDS(changes_alone_do_not_end_a_wait)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair pairs[20];
    struct waiter waiter;
    const uint64_t deadline = from_now(150 * MILLISECOND);
    waiter_start(&waiter, poller, deadline);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(pairs); i++) {
        pairs[i] = open_pair();
        add(poller, pairs[i].near, TWS_READABLE, &pairs[i]);
        modify(poller, pairs[i].near, 0, &pairs[i]);
        pause_for(MILLISECOND);
        take_off(poller, pairs[i].near);
    }
    waiter_join(&waiter);
    CHECK_INT(waiter.count, 0);
    CHECK(waiter.due);
    CHECK(waiter.ended >= deadline);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(pairs); i++) {
        close_pair(pairs[i]);
    }
    tws_poller_free(poller);
}

struct changer {
    struct tws_poller *poller;
    pthread_t thread;
    atomic_bool *stop;
    int failed;
    int rounds;
};

/* Adds, modifies and removes descriptors of its own, closes them and starts
 * again with what are the same numbers. */
static void *
change_until_told(void *argument)
{
    struct changer *changer = argument;
    struct tws_error err;
    while (!atomic_load(changer->stop)) {
        int ends[2];
        if (pipe(ends) != 0) {
            changer->failed++;
            break;
        }
        changer->failed +=
            tws_poller_add(changer->poller, ends[1], TWS_WRITABLE,
                           &changer->rounds, &err)
                != TWS_OK
            || tws_poller_add(changer->poller, ends[0], 0, NULL, &err)
                   != TWS_OK
            || tws_poller_modify(changer->poller, ends[1], 0, &changer->rounds,
                                 &err)
                   != TWS_OK
            || tws_poller_modify(changer->poller, ends[0], TWS_READABLE, NULL,
                                 &err)
                   != TWS_OK
            || tws_poller_remove(changer->poller, ends[0], &err) != TWS_OK
            || tws_poller_remove(changer->poller, ends[1], &err) != TWS_OK;
        (void)close(ends[0]);
        (void)close(ends[1]);
        changer->rounds++;
    }
    return NULL;
}

BOTH_KINDS(threads_change_the_set_beside_a_waiter)
{
    enum { CHANGERS = 3, WAITS = 2000 };
    struct tws_poller *poller = new_poller(kind);
    struct changer changers[CHANGERS];
    struct pair pair = open_pair();
    struct tws_ready ready[4];
    atomic_bool stop = false;
    int steady = 0;
    put(pair.far);
    add(poller, pair.near, TWS_READABLE, &tag_a);
    for (size_t i = 0; i < CHANGERS; i++) {
        changers[i] = (struct changer){.poller = poller, .stop = &stop};
        CHECK_INT(pthread_create(&changers[i].thread, NULL, change_until_told,
                                 &changers[i]),
                  0);
    }
    int waits = 0; /* fewer where all of it is slow, as under valgrind */
    for (uint64_t end = from_now(3000 * MILLISECOND);
         waits < WAITS && tws_clock_now() < end; waits++) {
        size_t count = wait_for(poller, FOREVER, ready, 4);
        for (size_t j = 0; j < count; j++) {
            steady += ready[j].data == &tag_a;
        }
    }
    /* Waits that sleep: what is ready at all times is set aside. */
    take_off(poller, pair.near);
    uint64_t end = tws_clock_now() + 200 * MILLISECOND;
    while (tws_clock_now() < end) {
        (void)wait_for(poller, from_now(10 * MILLISECOND), ready, 4);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < CHANGERS; i++) {
        CHECK_INT(pthread_join(changers[i].thread, NULL), 0);
        CHECK_INT(changers[i].failed, 0);
        CHECK(changers[i].rounds > 0);
    }
    CHECK(steady > 0 && steady >= waits / 2);
    expect_only(poller, NULL, 0);
    close_pair(pair);
    tws_poller_free(poller);
}

RUN(T(a_wait_ends_when_something_is_ready), T(a_wake_ends_the_wait_under_way),
    T(a_wake_ends_the_next_wait), T(a_deadline_that_was_reported_is_forgotten),
    T(no_wake_is_lost), T(a_signal_ends_the_wait_with_nothing),
    T(a_signal_handler_may_wake), T(an_add_reaches_the_wait_under_way),
    T(a_modification_reaches_the_wait_under_way),
    T(a_removal_reaches_the_wait_under_way),
    T(a_removed_descriptor_closes_at_once), T(changes_alone_do_not_end_a_wait),
    T(threads_change_the_set_beside_a_waiter))
