/* epoll_create1() is replaced, so that a test can make the kernel one that
 * has none. */
#include "loop/poller_backend.h"

#include "poller_fixture.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

static int create_error; /* what epoll_create1() fails with, or 0 */
static int created;

int
epoll_create1(int flags)
{
    if (create_error != 0) {
        errno = create_error;
        return -1;
    }
    created++;
    return (int)syscall(SYS_epoll_create1, flags);
}

TEST(the_best_kind_is_epoll)
{
    CHECK(tws_poller_epoll() != NULL);
    created = 0;
    tws_poller_free(new_poller(TWS_POLLER_BEST));
    CHECK_INT(created, 1);
    tws_poller_free(new_poller(TWS_POLLER_POLL));
    CHECK_INT(created, 1);
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

TEST(another_failure_is_reported)
{
    struct tws_poller *poller = NULL;
    struct tws_error err;
    create_error = EMFILE;
    CHECK_INT(tws_poller_new(TWS_POLLER_BEST, &poller, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EMFILE);
    CHECK_BYTES(err.reason, strlen(err.reason), "epoll_create1");
    CHECK(poller == NULL);
    create_error = 0;
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
    T(another_failure_is_reported), T(milliseconds_are_rounded_up),
    T(a_capacity_above_the_batch_starves_nobody), T(a_plain_file_is_refused))
