/* poll() is replaced, so that a test can change the set just when the kernel
 * has looked at the old one. */
#include "loop/poller_backend.h"

#include "poller_fixture.h"

#include <sys/syscall.h>

static void (*after_poll)(void); /* runs once, when poll() has looked */
static int poll_error;           /* what poll() fails with, or 0 */
static int polls;

int
poll(struct pollfd *entries, nfds_t count, int timeout)
{
    polls++;
    if (poll_error != 0) {
        errno = poll_error;
        return -1;
    }
    struct timespec limit = {.tv_sec = timeout / 1000,
                             .tv_nsec = (long)(timeout % 1000) * 1000000};
    long got = syscall(SYS_ppoll, entries, count, timeout < 0 ? NULL : &limit,
                       NULL, 0);
    void (*run)(void) = after_poll;
    after_poll = NULL;
    if (run != NULL) {
        run();
    }
    return (int)got;
}

static struct tws_poller *poller;
static struct pair one;
static struct pair other;
static int old_tag;
static int new_tag;

static void
set_up(void)
{
    poller = new_poller(TWS_POLLER_POLL);
    one = open_pair();
    other = open_pair();
    put(one.far);
    add(poller, one.near, TWS_READABLE, &old_tag);
}

static void
tear_down(void)
{
    tws_poller_free(poller);
    close_pair(one);
    close_pair(other);
}

static void
remove_one(void)
{
    take_off(poller, one.near);
}

TEST(what_was_removed_meanwhile_is_not_reported)
{
    set_up();
    after_poll = remove_one;
    expect_only(poller, NULL, 0);
    tear_down();
}

static void
want_nothing_of_one(void)
{
    modify(poller, one.near, 0, &new_tag);
}

static void
retag_one(void)
{
    modify(poller, one.near, TWS_READABLE | TWS_WRITABLE, &new_tag);
}

TEST(what_was_modified_meanwhile_is_reported_as_it_is_now)
{
    set_up();
    after_poll = want_nothing_of_one;
    expect_only(poller, NULL, 0);
    modify(poller, one.near, TWS_READABLE, &old_tag);
    after_poll = retag_one;
    expect_only(poller, &new_tag, TWS_READABLE); /* not yet looked for more */
    expect_only(poller, &new_tag, TWS_READABLE | TWS_WRITABLE);
    tear_down();
}

/* The number of `one.near` becomes that of an idle socket. */
static void
renumber_one(void)
{
    take_off(poller, one.near);
    CHECK_INT(dup2(other.near, one.near), one.near);
    add(poller, one.near, TWS_READABLE, &new_tag);
}

TEST(a_new_file_of_the_same_number_is_not_taken_for_the_old)
{
    set_up();
    after_poll = renumber_one;
    expect_only(poller, NULL, 0);
    put(other.far);
    expect_only(poller, &new_tag, TWS_READABLE);
    tear_down();
}

TEST(a_wait_goes_on_when_what_was_ready_is_gone)
{
    set_up();
    after_poll = remove_one;
    polls = 0;
    expect_end(poller, from_now(20 * MILLISECOND));
    CHECK(polls >= 2);
    CHECK(polls <= 4); /* it sleeps, it does not turn */
    tear_down();
}

TEST(a_failure_of_the_call_is_reported)
{
    struct tws_ready ready[1];
    struct tws_error err;
    size_t count = 77;
    bool due = true;
    set_up();
    poll_error = ENOMEM;
    CHECK_INT(tws_poller_wait(poller, FOREVER, ready, 1, &count, &due, &err),
              TWS_OS);
    CHECK_INT(err.sys_errno, ENOMEM);
    CHECK_BYTES(err.reason, strlen(err.reason), "poll");
    CHECK_INT(count, 77);
    CHECK(due);
    poll_error = EINTR;
    CHECK_INT(wait_until(poller, FOREVER, ready, 1, &due), 0);
    CHECK(!due);
    CHECK_INT(
        wait_until(poller, from_now(60000 * MILLISECOND), ready, 1, &due), 0);
    CHECK(!due);
    CHECK_INT(wait_until(poller, from_now(0), ready, 1, &due), 0);
    CHECK(due);
    poll_error = 0;
    expect_only(poller, &old_tag, TWS_READABLE);
    tear_down();
}

TEST(a_large_number_is_found)
{
    set_up();
    int fd = fcntl(other.near, F_DUPFD, 700);
    CHECK(fd >= 700);
    add(poller, fd, TWS_WRITABLE, &new_tag);
    take_off(poller, one.near);
    expect_only(poller, &new_tag, TWS_WRITABLE);
    take_off(poller, fd);
    expect_only(poller, NULL, 0);
    CHECK_INT(close(fd), 0);
    tear_down();
}

TEST(a_descriptor_closed_too_early_is_a_hang_up)
{
    set_up();
    int fd = dup(other.near);
    take_off(poller, one.near);
    add(poller, fd, TWS_READABLE, &new_tag);
    CHECK_INT(close(fd), 0);
    expect_only(poller, &new_tag, TWS_HANGUP);
    take_off(poller, fd);
    expect_only(poller, NULL, 0);
    tear_down();
}

RUN(T(what_was_removed_meanwhile_is_not_reported),
    T(what_was_modified_meanwhile_is_reported_as_it_is_now),
    T(a_new_file_of_the_same_number_is_not_taken_for_the_old),
    T(a_wait_goes_on_when_what_was_ready_is_gone),
    T(a_failure_of_the_call_is_reported), T(a_large_number_is_found),
    T(a_descriptor_closed_too_early_is_a_hang_up))
