/* The system calls are replaced, so that a test can make the kernel one that
 * lacks some, and can count what a turn costs. */
#include "loop/poller_backend.h"

#include "poller_fixture.h"

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

static int create_error; /* what epoll_create1() fails with, or 0 */
static int timer_error;  /* what timerfd_create() fails with, or 0 */
static int set_error;    /* what timerfd_settime() fails with, or 0 */

static struct {
    int created;
    int waits;
    int sets;
    int reads; /* of the clock */
} calls;

int
epoll_create1(int flags)
{
    if (create_error != 0) {
        errno = create_error;
        return -1;
    }
    calls.created++;
    return (int)syscall(SYS_epoll_create1, flags);
}

int
epoll_wait(int fd, struct epoll_event *events, int limit, int timeout)
{
    calls.waits++;
    return (int)syscall(SYS_epoll_pwait, fd, events, limit, timeout, NULL,
                        (size_t)0);
}

int
timerfd_create(int clock, int flags)
{
    if (timer_error != 0) {
        errno = timer_error;
        return -1;
    }
    return (int)syscall(SYS_timerfd_create, clock, flags);
}

int
timerfd_settime(int fd, int flags, const struct itimerspec *at,
                struct itimerspec *old)
{
    if (set_error != 0) {
        errno = set_error;
        return -1;
    }
    calls.sets++;
    return (int)syscall(SYS_timerfd_settime, fd, flags, at, old);
}

int
clock_gettime(clockid_t clock, struct timespec *time)
{
    calls.reads++;
    return (int)syscall(SYS_clock_gettime, clock, time);
}

TEST(the_best_kind_is_epoll)
{
    CHECK(tws_poller_epoll() != NULL);
    calls.created = 0;
    tws_poller_free(new_poller(TWS_POLLER_BEST));
    CHECK_INT(calls.created, 1);
    tws_poller_free(new_poller(TWS_POLLER_POLL));
    CHECK_INT(calls.created, 1);
}

TEST(poll_does_where_the_kernel_has_no_epoll)
{
    struct pair pair = open_pair();
    create_error = ENOSYS;
    struct tws_poller *poller = new_poller(TWS_POLLER_BEST);
    add(poller, pair.near, TWS_WRITABLE, &pair);
    expect_only(poller, &pair, TWS_WRITABLE);
    tws_poller_free(poller);
    create_error = 0;
    close_pair(pair);
}

TEST(a_poller_leaves_nothing_open)
{
    struct pair before = open_pair();
    close_pair(before);
    tws_poller_free(new_poller(TWS_POLLER_BEST));
    struct pair after = open_pair();
    CHECK_INT(after.near, before.near);
    CHECK_INT(after.far, before.far);
    close_pair(after);
}

static void
expect_no_poller(int error, const char *call)
{
    struct tws_poller *poller = NULL;
    struct tws_error err;
    struct pair before = open_pair();
    close_pair(before);
    CHECK_INT(tws_poller_new(TWS_POLLER_BEST, &poller, &err), TWS_OS);
    CHECK_INT(err.sys_errno, error);
    CHECK(strcmp(err.reason, call) == 0);
    CHECK(poller == NULL);
    struct pair after = open_pair();
    CHECK_INT(after.near, before.near); /* nothing was left open */
    close_pair(after);
}

TEST(another_failure_is_reported)
{
    create_error = EMFILE;
    expect_no_poller(EMFILE, "epoll_create1");
    create_error = 0;
    timer_error = EMFILE;
    expect_no_poller(EMFILE, "timerfd_create");
    timer_error = 0;
}

/* A poller with one descriptor that is always ready. */
static struct tws_poller *
new_busy_poller(struct pair *pair)
{
    struct tws_poller *poller = new_poller(TWS_POLLER_BEST);
    *pair = open_pair();
    add(poller, pair->near, TWS_WRITABLE, pair);
    return poller;
}

static void
expect_calls(int waits, int sets, int reads)
{
    CHECK_INT(calls.waits, waits);
    CHECK_INT(calls.sets, sets);
    CHECK_INT(calls.reads, reads);
    memset(&calls, 0, sizeof(calls));
}

/* Waits with a deadline `step` later each turn; nothing is ever due. */
static void
turn(struct tws_poller *poller, int turns, uint64_t deadline, uint64_t step)
{
    struct tws_ready ready[1];
    for (int i = 0; i < turns; i++) {
        bool due = true;
        CHECK_INT(wait_until(poller, deadline, ready, 1, &due), 1);
        CHECK(!due);
        deadline += step;
    }
}

TEST(a_busy_turn_is_one_call_and_no_clock_read)
{
    struct pair pair;
    struct tws_poller *poller = new_busy_poller(&pair);
    uint64_t soon = from_now(3600000 * MILLISECOND);
    uint64_t late = 2 * soon;
    memset(&calls, 0, sizeof(calls));
    turn(poller, 1000, FOREVER, 0);
    expect_calls(1000, 0, 0);
    turn(poller, 1000, 0, 0);
    expect_calls(1000, 0, 0);
    /* Once, to set the timer. */
    turn(poller, 1000, late, 0);
    expect_calls(1000, 1, 1);
    turn(poller, 1000, late, MILLISECOND);
    expect_calls(1000, 0, 0);
    turn(poller, 1000, 0, 0);
    expect_calls(1000, 0, 0);
    turn(poller, 1000, FOREVER, 0);
    expect_calls(1000, 0, 0);
    turn(poller, 1000, soon, MILLISECOND);
    expect_calls(1000, 1, 1);
    turn(poller, 1000, late, 0);
    expect_calls(1000, 0, 0);
    tws_poller_free(poller);
    close_pair(pair);
}

TEST(a_deadline_in_the_far_future_is_no_error)
{
    static const uint64_t deadlines[] = {UINT64_MAX - 1, UINT64_MAX / 2,
                                         2147483648 * 1000 * MILLISECOND};
    struct pair pair;
    struct tws_poller *poller = new_busy_poller(&pair);
    memset(&calls, 0, sizeof(calls));
    for (size_t i = 0; i < TWS_ARRAY_SIZE(deadlines); i++) {
        turn(poller, 2, deadlines[i], 0);
        expect_calls(2, 1, 1);
    }
    tws_poller_free(poller);
    close_pair(pair);
}

TEST(a_deadline_in_the_past_sets_no_timer)
{
    struct pair pair;
    struct tws_poller *poller = new_busy_poller(&pair);
    struct tws_ready ready[1];
    memset(&calls, 0, sizeof(calls));
    for (int i = 0; i < 10; i++) {
        bool due = false;
        CHECK_INT(wait_until(poller, 1, ready, 1, &due), 1);
        CHECK(due);
    }
    expect_calls(10, 0, 10);
    tws_poller_free(poller);
    close_pair(pair);
}

/* A poller whose timer has gone off, and was reported. */
static struct tws_poller *
new_due_poller(void)
{
    struct tws_poller *poller = new_poller(TWS_POLLER_BEST);
    expect_end(poller, from_now(2 * MILLISECOND));
    memset(&calls, 0, sizeof(calls));
    return poller;
}

TEST(a_timer_that_went_off_is_told_once)
{
    struct tws_ready ready[1];
    bool due = true;
    /* The next deadline sets it anew. */
    struct tws_poller *poller = new_due_poller();
    uint64_t deadline = from_now(20 * MILLISECOND);
    memset(&calls, 0, sizeof(calls));
    CHECK_INT(wait_until(poller, deadline, ready, 1, &due), 0);
    CHECK(due);
    expect_calls(1, 1, 1);
    CHECK(tws_clock_now() >= deadline);
    tws_poller_free(poller);
    /* A look stops it. */
    poller = new_due_poller();
    for (int i = 0; i < 5; i++) {
        CHECK_INT(wait_until(poller, 0, ready, 1, &due), 0);
        CHECK(!due);
    }
    expect_calls(5, 1, 0);
    tws_poller_free(poller);
    /* So does a wait without a limit. */
    poller = new_due_poller();
    struct pair pair = open_pair();
    add(poller, pair.near, TWS_WRITABLE, &pair);
    turn(poller, 5, FOREVER, 0);
    expect_calls(5, 1, 0);
    tws_poller_free(poller);
    close_pair(pair);
}

TEST(a_look_tells_that_an_earlier_deadline_is_over)
{
    struct pair pair;
    struct tws_poller *poller = new_busy_poller(&pair);
    struct tws_ready ready[2];
    bool due = true;
    uint64_t deadline = from_now(20 * MILLISECOND);
    CHECK_INT(wait_for(poller, deadline, ready, 2), 1);
    pause_for(40 * MILLISECOND);
    CHECK_INT(wait_until(poller, 0, ready, 2, &due), 1);
    CHECK(due);
    CHECK_INT(wait_until(poller, 0, ready, 2, &due), 1);
    CHECK(!due);
    /* The deadline has not been lost to one who did not mind the look. */
    CHECK_INT(wait_until(poller, deadline, ready, 2, &due), 1);
    CHECK(due);
    tws_poller_free(poller);
    close_pair(pair);
}

/* One wait for nothing, then the timer is set for the rest of the time. */
TEST(a_deadline_moved_later_does_not_spin)
{
    struct pair pair;
    struct tws_poller *poller = new_busy_poller(&pair);
    struct tws_ready ready[1];
    uint64_t deadline = from_now(10 * MILLISECOND);
    CHECK_INT(wait_for(poller, deadline, ready, 1), 1);
    take_off(poller, pair.near);
    uint64_t later = deadline + 40 * MILLISECOND;
    memset(&calls, 0, sizeof(calls));
    while (tws_clock_now() < later && calls.waits < 100) {
        bool due = false;
        CHECK_INT(wait_until(poller, later, ready, 1, &due), 0);
        CHECK(due);
    }
    CHECK(tws_clock_now() >= later);
    CHECK(calls.waits <= 2);
    CHECK(calls.sets <= 1);
    tws_poller_free(poller);
    close_pair(pair);
}

TEST(the_clock_does_where_the_kernel_has_no_timer)
{
    struct pair pair;
    struct tws_ready ready[1];
    bool due = true;
    timer_error = ENOSYS;
    calls.created = 0;
    struct tws_poller *poller = new_busy_poller(&pair);
    timer_error = 0;
    CHECK_INT(calls.created, 1);
    memset(&calls, 0, sizeof(calls));
    turn(poller, 10, FOREVER, 0);
    expect_calls(10, 0, 0);
    turn(poller, 10, from_now(60000 * MILLISECOND), MILLISECOND);
    CHECK_INT(wait_until(poller, 1, ready, 1, &due), 1);
    CHECK(due);
    due = false;
    CHECK_INT(wait_until(poller, 0, ready, 1, &due), 1);
    CHECK(due);
    /* Over only once the wait is under way. */
    uint64_t deadline = from_now(5 * MILLISECOND);
    due = false;
    while (!due && tws_clock_now() < deadline + 5000 * MILLISECOND) {
        CHECK_INT(wait_until(poller, deadline, ready, 1, &due), 1);
    }
    CHECK(due);
    CHECK(tws_clock_now() >= deadline);
    take_off(poller, pair.near);
    expect_end(poller, from_now(MILLISECOND / 10));
    expect_end(poller, from_now(20 * MILLISECOND));
    CHECK_INT(calls.sets, 0);
    tws_poller_free(poller);
    close_pair(pair);
}

TEST(a_timer_that_cannot_be_set_is_reported)
{
    struct pair pair;
    struct tws_poller *poller = new_busy_poller(&pair);
    struct tws_ready ready[1];
    struct tws_error err;
    size_t count = 77;
    bool due = true;
    set_error = EINVAL;
    CHECK_INT(tws_poller_wait(poller, from_now(60000 * MILLISECOND), ready, 1,
                              &count, &due, &err),
              TWS_OS);
    set_error = 0;
    CHECK_INT(err.sys_errno, EINVAL);
    CHECK_BYTES(err.reason, strlen(err.reason), "timerfd_settime");
    CHECK_INT(count, 77);
    CHECK(due);
    take_off(poller, pair.near);
    expect_end(poller, from_now(5 * MILLISECOND)); /* it is set now */
    tws_poller_free(poller);
    close_pair(pair);
}

TEST(milliseconds_are_rounded_up)
{
    CHECK_INT(tws_poller_milliseconds(0), 0);
    CHECK_INT(tws_poller_milliseconds(1), 1);
    CHECK_INT(tws_poller_milliseconds(MILLISECOND), 1);
    CHECK_INT(tws_poller_milliseconds(MILLISECOND + 1), 2);
    CHECK_INT(tws_poller_milliseconds(2147483647 * MILLISECOND), 2147483647);
    CHECK_INT(tws_poller_milliseconds(2147483647 * MILLISECOND + 1),
              2147483647);
    CHECK_INT(tws_poller_milliseconds(UINT64_MAX - 1), 2147483647);
    CHECK_INT(tws_poller_milliseconds(UINT64_MAX), -1);
}

TEST(a_capacity_above_the_batch_starves_nobody)
{
    enum { READY = 700 };
    static int seen[READY];
    static int fds[READY];
    static struct tws_ready ready[READY];
    memset(seen, 0, sizeof(seen));
    struct pair pair = open_pair();
    struct tws_poller *poller = new_poller(TWS_POLLER_BEST);
    for (size_t i = 0; i < READY; i++) {
        fds[i] = dup(pair.near);
        add(poller, fds[i], TWS_WRITABLE, &seen[i]);
    }
    for (int i = 0; i < 2; i++) {
        size_t count = wait_for(poller, 0, ready, READY);
        CHECK(count >= READY / 2);
        for (size_t j = 0; j < count; j++) {
            (*(int *)ready[j].data)++;
        }
    }
    for (size_t i = 0; i < READY; i++) {
        CHECK(seen[i] >= 1);
        CHECK_INT(close(fds[i]), 0);
    }
    tws_poller_free(poller);
    close_pair(pair);
}

TEST(a_plain_file_is_refused)
{
    char path[] = "/tmp/twspy-test-XXXXXX";
    struct tws_error err;
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    CHECK_INT(unlink(path), 0);
    struct tws_poller *poller = new_poller(TWS_POLLER_BEST);
    CHECK_INT(tws_poller_add(poller, fd, TWS_READABLE, NULL, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EPERM);
    CHECK_BYTES(err.reason, strlen(err.reason), "epoll_ctl");
    tws_poller_free(poller);
    CHECK_INT(close(fd), 0);
}

RUN(T(the_best_kind_is_epoll), T(poll_does_where_the_kernel_has_no_epoll),
    T(a_poller_leaves_nothing_open), T(another_failure_is_reported),
    T(a_busy_turn_is_one_call_and_no_clock_read),
    T(a_deadline_in_the_far_future_is_no_error),
    T(a_deadline_in_the_past_sets_no_timer),
    T(a_timer_that_went_off_is_told_once),
    T(a_look_tells_that_an_earlier_deadline_is_over),
    T(a_deadline_moved_later_does_not_spin),
    T(the_clock_does_where_the_kernel_has_no_timer),
    T(a_timer_that_cannot_be_set_is_reported), T(milliseconds_are_rounded_up),
    T(a_capacity_above_the_batch_starves_nobody), T(a_plain_file_is_refused))
