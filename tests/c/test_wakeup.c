/* eventfd(), pipe() and fcntl() are replaced, so that a test can make the
 * system one without eventfd, or out of descriptors. */
#include "loop/wakeup.h"

#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

static int eventfd_error; /* what eventfd() fails with, or 0 */
static int pipe_error;

int
eventfd(unsigned count, int flags)
{
    if (eventfd_error != 0) {
        errno = eventfd_error;
        return -1;
    }
    return (int)syscall(SYS_eventfd2, count, flags);
}

int
pipe(int ends[2])
{
    if (pipe_error != 0) {
        errno = pipe_error;
        return -1;
    }
    return (int)syscall(SYS_pipe2, ends, 0);
}

static bool
is_readable(const struct tws_wakeup *wakeup)
{
    struct pollfd entry = {.fd = wakeup->read_fd, .events = POLLIN};
    return poll(&entry, 1, 0) == 1;
}

static void
check_flags(int fd)
{
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void
notify_and_drain(void)
{
    struct tws_wakeup wakeup;
    struct tws_error err;
    CHECK_INT(tws_wakeup_init(&wakeup, &err), TWS_OK);
    check_flags(wakeup.read_fd);
    check_flags(wakeup.write_fd);
    CHECK(!is_readable(&wakeup));
    tws_wakeup_drain(&wakeup); /* nothing there: does not block */
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100000; i++) {
            tws_wakeup_notify(&wakeup); /* many fill no pipe */
        }
        CHECK(is_readable(&wakeup));
        tws_wakeup_drain(&wakeup);
        CHECK(!is_readable(&wakeup));
    }
    int read_fd = wakeup.read_fd;
    int write_fd = wakeup.write_fd;
    tws_wakeup_fini(&wakeup);
    CHECK_INT(fcntl(read_fd, F_GETFD), -1);
    CHECK_INT(fcntl(write_fd, F_GETFD), -1);
}

TEST(an_eventfd_is_notified_and_drained)
{
    struct tws_wakeup wakeup;
    struct tws_error err;
    CHECK_INT(tws_wakeup_init(&wakeup, &err), TWS_OK);
    CHECK_INT(wakeup.read_fd, wakeup.write_fd);
    tws_wakeup_fini(&wakeup);
    notify_and_drain();
}

TEST(a_pipe_does_where_there_is_no_eventfd)
{
    struct tws_wakeup wakeup;
    struct tws_error err;
    eventfd_error = ENOSYS;
    CHECK_INT(tws_wakeup_init(&wakeup, &err), TWS_OK);
    CHECK(wakeup.read_fd != wakeup.write_fd);
    tws_wakeup_fini(&wakeup);
    notify_and_drain();
    eventfd_error = 0;
}

TEST(a_drain_before_the_write_loses_nothing)
{
    struct tws_wakeup wakeup;
    struct tws_error err;
    CHECK_INT(tws_wakeup_init(&wakeup, &err), TWS_OK);
    /* As a notifying thread leaves it that was stopped before its write. */
    atomic_store(&wakeup.pending, true);
    tws_wakeup_drain(&wakeup);
    CHECK(atomic_load(&wakeup.pending));
    tws_wakeup_fini(&wakeup);
}

TEST(a_failed_write_is_tried_again)
{
    struct tws_wakeup wakeup;
    struct tws_error err;
    CHECK_INT(tws_wakeup_init(&wakeup, &err), TWS_OK);
    int fd = wakeup.write_fd;
    wakeup.write_fd = -1;
    errno = 1234;
    tws_wakeup_notify(&wakeup);
    CHECK_INT(errno, 1234);
    CHECK(!is_readable(&wakeup));
    wakeup.write_fd = fd;
    tws_wakeup_notify(&wakeup);
    CHECK(is_readable(&wakeup));
    tws_wakeup_fini(&wakeup);
}

TEST(a_failure_names_its_call)
{
    struct tws_wakeup wakeup;
    struct tws_error err;
    eventfd_error = EMFILE;
    CHECK_INT(tws_wakeup_init(&wakeup, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EMFILE);
    CHECK_BYTES(err.reason, strlen(err.reason), "eventfd");
    eventfd_error = ENOSYS;
    pipe_error = ENFILE;
    CHECK_INT(tws_wakeup_init(&wakeup, &err), TWS_OS);
    CHECK_INT(err.sys_errno, ENFILE);
    CHECK_BYTES(err.reason, strlen(err.reason), "pipe");
    eventfd_error = 0;
    pipe_error = 0;
}

RUN(T(an_eventfd_is_notified_and_drained),
    T(a_pipe_does_where_there_is_no_eventfd),
    T(a_drain_before_the_write_loses_nothing),
    T(a_failed_write_is_tried_again), T(a_failure_names_its_call))
