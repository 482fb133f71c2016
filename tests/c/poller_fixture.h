/* What the tests of the poller share: connected pairs, one wait, a wait in a
 * thread of its own. */
#ifndef TWS_TESTS_POLLER_FIXTURE_H
#define TWS_TESTS_POLLER_FIXTURE_H

#include "loop/poller.h"
#include "loop/timers.h"

#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MILLISECOND ((uint64_t)1000000)
#define FOREVER UINT64_MAX

/* A test of this name that is run with both kinds. */
#define BOTH_KINDS(name)                                                      \
    static void name##_with(enum tws_poller_kind kind);                       \
    TEST(name)                                                                \
    {                                                                         \
        name##_with(TWS_POLLER_BEST);                                         \
        if (harness_failures > 0) {                                           \
            fprintf(stderr, "%s: failed with the best kind\n", #name);        \
        }                                                                     \
        name##_with(TWS_POLLER_POLL);                                         \
    }                                                                         \
    static void name##_with(enum tws_poller_kind kind)

static inline struct tws_poller *
new_poller(enum tws_poller_kind kind)
{
    struct tws_poller *poller = NULL;
    struct tws_error err = {0};
    enum tws_status status = tws_poller_new(kind, &poller, &err);
    if (status != TWS_OK) {
        fprintf(stderr, "tws_poller_new: %s: %s\n", err.reason,
                strerror(err.sys_errno));
        exit(1); /* no test can go on */
    }
    return poller;
}

/* Two connected sockets; non-blocking. */
struct pair {
    int near;
    int far;
};

static inline struct pair
open_pair(void)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) {
        perror("socketpair");
        exit(1);
    }
    return (struct pair){.near = ends[0], .far = ends[1]};
}

static inline void
close_pair(struct pair pair)
{
    CHECK_INT(close(pair.near), 0);
    CHECK_INT(close(pair.far), 0);
}

static inline void
put(int fd)
{
    CHECK_INT(write(fd, "x", 1), 1);
}

static inline void
get(int fd)
{
    char byte;
    CHECK_INT(read(fd, &byte, 1), 1);
}

static inline void
add(struct tws_poller *poller, int fd, unsigned events, void *data)
{
    struct tws_error err;
    CHECK_INT(tws_poller_add(poller, fd, events, data, &err), TWS_OK);
}

static inline void
modify(struct tws_poller *poller, int fd, unsigned events, void *data)
{
    struct tws_error err;
    CHECK_INT(tws_poller_modify(poller, fd, events, data, &err), TWS_OK);
}

static inline void
take_off(struct tws_poller *poller, int fd)
{
    struct tws_error err;
    CHECK_INT(tws_poller_remove(poller, fd, &err), TWS_OK);
}

/* The deadline that many nanoseconds from now. */
static inline uint64_t
from_now(uint64_t ns)
{
    return tws_clock_now() + ns;
}

static inline size_t
wait_until(struct tws_poller *poller, uint64_t deadline,
           struct tws_ready *ready, size_t capacity, bool *due)
{
    struct tws_error err;
    size_t count = 0;
    CHECK_INT(
        tws_poller_wait(poller, deadline, ready, capacity, &count, due, &err),
        TWS_OK);
    CHECK(count <= capacity);
    return count;
}

/* Where it does not matter whether the deadline is over. */
static inline size_t
wait_for(struct tws_poller *poller, uint64_t deadline, struct tws_ready *ready,
         size_t capacity)
{
    bool due = false;
    return wait_until(poller, deadline, ready, capacity, &due);
}

/* Expects that the wait ends at this deadline and no sooner, with nothing. */
static inline void
expect_end(struct tws_poller *poller, uint64_t deadline)
{
    struct tws_ready ready[1];
    bool due = false;
    CHECK_INT(wait_until(poller, deadline, ready, 1, &due), 0);
    CHECK(tws_clock_now() >= deadline);
    CHECK(due);
}

/* Looks for what is ready and expects exactly this one, or nothing where
 * `events` is 0. */
static inline void
expect_only(struct tws_poller *poller, const void *data, unsigned events)
{
    struct tws_ready ready[4];
    size_t count = wait_for(poller, 0, ready, TWS_ARRAY_SIZE(ready));
    CHECK_INT(count, events == 0 ? 0 : 1);
    if (count == 1) {
        CHECK(ready[0].data == data);
        CHECK_INT(ready[0].events, events);
    }
}

static inline void
pause_for(uint64_t ns)
{
    struct timespec pause = {.tv_sec = (time_t)(ns / 1000000000),
                             .tv_nsec = (long)(ns % 1000000000)};
    while (nanosleep(&pause, &pause) != 0 && errno == EINTR) {
    }
}

/* One wait in a thread of its own. */
struct waiter {
    struct tws_poller *poller;
    uint64_t deadline;
    pthread_t thread;
    enum tws_status status;
    struct tws_ready ready[8];
    size_t count;
    bool due;
    uint64_t began;
    uint64_t ended;
};

static inline void *
waiter_main(void *argument)
{
    struct waiter *waiter = argument;
    struct tws_error err;
    waiter->began = tws_clock_now();
    waiter->status = tws_poller_wait(
        waiter->poller, waiter->deadline, waiter->ready,
        TWS_ARRAY_SIZE(waiter->ready), &waiter->count, &waiter->due, &err);
    waiter->ended = tws_clock_now();
    return NULL;
}

/* Gives the thread time to be inside its wait; a test holds as well where it
 * is not, so that a slow machine weakens it at most. */
static inline void
waiter_start(struct waiter *waiter, struct tws_poller *poller,
             uint64_t deadline)
{
    *waiter = (struct waiter){
        .poller = poller,
        .deadline = deadline,
        .status = TWS_AGAIN,
        .count = 99,
    };
    CHECK_INT(pthread_create(&waiter->thread, NULL, waiter_main, waiter), 0);
    pause_for(30 * MILLISECOND);
}

static inline void
waiter_join(struct waiter *waiter)
{
    CHECK_INT(pthread_join(waiter->thread, NULL), 0);
    CHECK_INT(waiter->status, TWS_OK);
}

/* Joins and expects that the wait has reported exactly this. */
static inline void
waiter_join_ready(struct waiter *waiter, const void *data, unsigned events)
{
    waiter_join(waiter);
    CHECK_INT(waiter->count, 1);
    CHECK(waiter->ready[0].data == data);
    CHECK_INT(waiter->ready[0].events, events);
}

#endif /* TWS_TESTS_POLLER_FIXTURE_H */
