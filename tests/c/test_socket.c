/* accept4() is replaced, so that a test can have it fail in every way, and
 * setsockopt(), to see what is tried. */
#include "net/socket.h"

#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MS ((uint64_t)1000000)

static const int *failures; /* of the next accept4() calls; ended by 0 */

int
accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    if (failures != NULL && *failures != 0) {
        errno = *failures++;
        return -1;
    }
    return (int)syscall(SYS_accept4, fd, address, length, flags);
}

static int options_tried;

int
setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    options_tried++;
    return (int)syscall(SYS_setsockopt, fd, level, name, value, size);
}

static int
listen_somewhere(struct tws_address *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in *sin = (struct sockaddr_in *)&address->storage;
    *address = (struct tws_address){.length = sizeof(*sin)};
    sin->sin_family = AF_INET;
    sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_INT(bind(fd, (struct sockaddr *)sin, sizeof(*sin)), 0);
    CHECK_INT(listen(fd, 16), 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)sin, &address->length), 0);
    return fd;
}

/* A socket that is connecting to `address`. */
static int
dial(const struct tws_address *address)
{
    struct tws_error err;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    enum tws_status status = tws_socket_connect(fd, address, &err);
    CHECK(status == TWS_OK || status == TWS_AGAIN);
    return fd;
}

static int
option(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof(value);
    CHECK_INT(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

TEST(accepts_ready_made_descriptors)
{
    struct tws_address address;
    struct tws_address peer = {.length = 0};
    struct tws_address own = {.length = sizeof(own.storage)};
    struct tws_error err;
    unsigned ready;
    int got = -1;
    int listener = listen_somewhere(&address);
    CHECK_INT(tws_socket_accept(listener, &got, &peer, &err), TWS_AGAIN);
    CHECK_INT(got, -1);
    int fd = dial(&address);
    CHECK_INT(
        tws_socket_wait(listener, TWS_WAIT_READ, 1000 * MS, &ready, &err),
        TWS_OK);
    CHECK_INT(tws_socket_accept(listener, &got, &peer, &err), TWS_OK);
    CHECK((fcntl(got, F_GETFL) & O_NONBLOCK) != 0);
    CHECK((fcntl(got, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(option(got, IPPROTO_TCP, TCP_NODELAY) != 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)&own.storage, &own.length),
              0);
    CHECK_INT(peer.length, own.length);
    CHECK_INT(memcmp(&peer.storage, &own.storage, own.length), 0);
    close(got);
    close(fd);
    close(listener);
}

/* What a server relies on, so as not to set it for each connection. */
TEST(connections_take_options_from_the_listener)
{
    struct tws_address address;
    struct tws_address peer;
    struct tws_error err;
    unsigned ready;
    int on = 1;
    int got = -1;
    int listener = listen_somewhere(&address);
    CHECK_INT(setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)),
              0);
    int fd = dial(&address);
    CHECK_INT(
        tws_socket_wait(listener, TWS_WAIT_READ, 1000 * MS, &ready, &err),
        TWS_OK);
    CHECK_INT(tws_socket_accept(listener, &got, &peer, &err), TWS_OK);
    CHECK(option(got, SOL_SOCKET, SO_KEEPALIVE) != 0);
    CHECK_INT(peer.pid, 0);
    close(got);
    close(fd);
    close(listener);
}

static struct tws_address
abstract_address(const char *name)
{
    struct tws_address address = {.length = 0};
    struct sockaddr_un *sun = (struct sockaddr_un *)&address.storage;
    sun->sun_family = AF_UNIX;
    int length = snprintf(sun->sun_path + 1, sizeof(sun->sun_path) - 1,
                          "%s-%ld", name, (long)getpid());
    address.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1
                                 + (size_t)length);
    return address;
}

TEST(accepts_from_unix_sockets)
{
    struct tws_address own = abstract_address("tws-listener");
    struct tws_address name = abstract_address("tws-peer");
    struct tws_address peer;
    struct tws_error err;
    int got = -1;
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_INT(bind(listener, (struct sockaddr *)&own.storage, own.length), 0);
    CHECK_INT(listen(listener, 4), 0);
    options_tried = 0;
    CHECK_INT(tws_socket_prepare(listener, &err), TWS_OK);
    for (int named = 0; named < 2; named++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (named != 0) {
            CHECK_INT(bind(fd, (struct sockaddr *)&name.storage, name.length),
                      0);
        }
        CHECK_INT(tws_socket_connect(fd, &own, &err), TWS_OK);
        CHECK_INT(tws_socket_accept(listener, &got, &peer, &err), TWS_OK);
        CHECK((fcntl(got, F_GETFL) & O_NONBLOCK) != 0);
        CHECK_INT(peer.storage.ss_family, AF_UNIX);
        CHECK_INT(peer.pid, named != 0 ? 0 : getpid());
        CHECK_INT(tws_socket_peer_pid(got), getpid());
        close(got);
        close(fd);
    }
    CHECK_INT(options_tried, 0); /* TCP_NODELAY means nothing here */
    close(listener);
    CHECK_INT(tws_socket_peer_pid(listener), 0);
}

TEST(passes_over_connections_that_died)
{
    static const int passing[] = {
        EINTR,     ECONNABORTED, ENETDOWN,     EPROTO,      ENOPROTOOPT,
        EHOSTDOWN, ENONET,       EHOSTUNREACH, ENETUNREACH, 0,
    };
    static const int lasting[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS, EINVAL};
    struct tws_address address;
    struct tws_error err;
    int got = -1;
    int listener = listen_somewhere(&address);
    failures = passing;
    CHECK_INT(tws_socket_accept(listener, &got, &address, &err), TWS_AGAIN);
    CHECK_INT(*failures, 0);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(lasting); i++) {
        const int failing[] = {lasting[i], 0};
        failures = failing;
        CHECK_INT(tws_socket_accept(listener, &got, &address, &err), TWS_OS);
        CHECK_INT(err.sys_errno, lasting[i]);
        failures = NULL;
    }
    CHECK_INT(got, -1);
    close(listener);
}

TEST(prepares_an_existing_descriptor)
{
    struct tws_error err;
    int fds[2];
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_INT(tws_socket_prepare(tcp, &err), TWS_OK);
    CHECK((fcntl(tcp, F_GETFL) & O_NONBLOCK) != 0);
    CHECK(option(tcp, IPPROTO_TCP, TCP_NODELAY) != 0);
    close(tcp);
    CHECK_INT(tws_socket_prepare(tcp, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EBADF);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    CHECK_INT(tws_socket_prepare(fds[0], &err), TWS_OK);
    CHECK((fcntl(fds[0], F_GETFL) & O_NONBLOCK) != 0);
    close(fds[0]);
    close(fds[1]);
}

TEST(connects)
{
    struct tws_address address;
    struct tws_error err;
    unsigned ready = 0;
    int listener = listen_somewhere(&address);
    int fd = dial(&address);
    CHECK_INT(tws_socket_wait(fd, TWS_WAIT_WRITE, 1000 * MS, &ready, &err),
              TWS_OK);
    CHECK_INT(ready, TWS_WAIT_WRITE);
    CHECK_INT(tws_socket_connected(fd, &err), TWS_OK);
    /* Once more does no harm. */
    CHECK_INT(tws_socket_connect(fd, &address, &err), TWS_OK);
    close(fd);
    close(listener);
}

TEST(tells_why_it_does_not_connect)
{
    struct tws_address address;
    struct tws_error err = {.sys_errno = 0};
    unsigned ready;
    close(listen_somewhere(&address)); /* so that nobody listens */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    enum tws_status status = tws_socket_connect(fd, &address, &err);
    if (status == TWS_AGAIN) {
        CHECK_INT(tws_socket_wait(fd, TWS_WAIT_WRITE, 1000 * MS, &ready, &err),
                  TWS_OK);
        status = tws_socket_connected(fd, &err);
    }
    CHECK_INT(status, TWS_OS);
    CHECK_INT(err.sys_errno, ECONNREFUSED);
    close(fd);
    CHECK_INT(tws_socket_connect(fd, &address, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EBADF);
    CHECK_INT(tws_socket_connected(fd, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EBADF);
}

TEST(waits_for_what_was_asked)
{
    struct tws_error err;
    unsigned ready = 77;
    int fds[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    CHECK_INT(tws_socket_wait(fds[0], TWS_WAIT_READ, 0, &ready, &err),
              TWS_AGAIN);
    CHECK_INT(ready, 77);
    CHECK_INT(tws_socket_wait(fds[0], TWS_WAIT_WRITE, 0, &ready, &err),
              TWS_OK);
    CHECK_INT(ready, TWS_WAIT_WRITE);
    CHECK_INT(write(fds[1], "x", 1), 1);
    CHECK_INT(tws_socket_wait(fds[0], TWS_WAIT_READ | TWS_WAIT_WRITE,
                              UINT64_MAX, &ready, &err),
              TWS_OK);
    CHECK_INT(ready, TWS_WAIT_READ | TWS_WAIT_WRITE);
    CHECK_INT(tws_socket_wait(fds[0], TWS_WAIT_READ, 0, &ready, &err), TWS_OK);
    CHECK_INT(ready, TWS_WAIT_READ);
    close(fds[1]);
    /* A hang-up ends every wait, or it would never end. */
    CHECK_INT(tws_socket_wait(fds[0], TWS_WAIT_WRITE, 0, &ready, &err),
              TWS_OK);
    CHECK_INT(ready, TWS_WAIT_WRITE);
    close(fds[0]);
    CHECK_INT(tws_socket_wait(fds[0], TWS_WAIT_READ, 0, &ready, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EBADF);
}

TEST(waits_for_any_of_several)
{
    struct tws_error err;
    int fds[2];
    int others[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, others), 0);
    struct tws_wait waits[TWS_WAITS_MAX] = {
        {.fd = fds[0], .events = TWS_WAIT_READ},
        {.fd = -1, .events = TWS_WAIT_READ},
        {.fd = others[0], .events = TWS_WAIT_READ},
    };
    CHECK_INT(tws_socket_wait_any(waits, 3, 0, &err), TWS_AGAIN);
    CHECK_INT(write(others[1], "x", 1), 1);
    CHECK_INT(tws_socket_wait_any(waits, 3, UINT64_MAX, &err), TWS_OK);
    CHECK_INT(waits[0].ready, 0);
    CHECK_INT(waits[1].ready, 0);
    CHECK_INT(waits[2].ready, TWS_WAIT_READ);
    for (size_t i = 0; i < TWS_WAITS_MAX; i++) {
        waits[i] = (struct tws_wait){.fd = fds[0], .events = TWS_WAIT_WRITE};
    }
    CHECK_INT(tws_socket_wait_any(waits, TWS_WAITS_MAX, UINT64_MAX, &err),
              TWS_OK);
    CHECK_INT(waits[TWS_WAITS_MAX - 1].ready, TWS_WAIT_WRITE);
    CHECK_INT(tws_socket_wait_any(waits, 0, 1, &err), TWS_AGAIN);
    close(others[0]);
    waits[1].fd = others[0];
    CHECK_INT(tws_socket_wait_any(waits, 2, 0, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EBADF);
    close(fds[0]);
    close(fds[1]);
    close(others[1]);
}

TEST(opens_sockets)
{
    struct tws_error err;
    int fd = -1;
    CHECK_INT(tws_socket_open(AF_INET, 0, &fd, &err), TWS_OK);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK_INT(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_INT(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    close(fd);
    options_tried = 0;
    CHECK_INT(tws_socket_open(AF_UNIX, 0, &fd, &err), TWS_OK);
    CHECK_INT(options_tried, 0);
    close(fd);
    fd = 77;
    CHECK_INT(tws_socket_open(-1, 0, &fd, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EAFNOSUPPORT);
    CHECK_INT(fd, 77);
}

static void
check_host(const void *address, size_t length, const char *expected)
{
    struct tws_address made = {.length = (socklen_t)length};
    char text[TWS_HOST_TEXT] = "stale";
    memcpy(&made.storage, address, length);
    tws_socket_host(&made, text);
    CHECK_INT(strcmp(text, expected), 0);
}

TEST(names_hosts)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = 80};
    struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = 80};
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct sockaddr other = {.sa_family = AF_UNSPEC};
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check_host(&sin, sizeof(sin), "127.0.0.1");
    CHECK_INT(inet_pton(AF_INET6, "fe80::1", &sin6.sin6_addr), 1);
    check_host(&sin6, sizeof(sin6), "fe80::1");
    sin6.sin6_scope_id = 4294967295;
    check_host(&sin6, sizeof(sin6), "fe80::1%4294967295");
    check_host(&sun, sizeof(sa_family_t), "");
    memcpy(sun.sun_path, "\0name", 5);
    check_host(&sun, sizeof(sa_family_t) + 5, "@name");
    memset(sun.sun_path, 'x', sizeof(sun.sun_path));
    check_host(&sun, sizeof(sa_family_t) + 5, "xxxxx");
    char longest[sizeof(sun.sun_path) + 1];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    check_host(&sun, sizeof(sun), longest); /* it has no NUL then */
    check_host(&other, sizeof(other), "");
}

static void
on_alarm(int number)
{
    (void)number;
}

TEST(signal_ends_a_wait)
{
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    struct tws_error err;
    unsigned ready;
    int fds[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &soon, NULL), 0);
    CHECK_INT(tws_socket_wait(fds[0], TWS_WAIT_READ, UINT64_MAX, &ready, &err),
              TWS_AGAIN);
    close(fds[0]);
    close(fds[1]);
}

TEST(poll_timeout_is_rounded_up)
{
    CHECK_INT(tws_poll_timeout(0), 0);
    CHECK_INT(tws_poll_timeout(1), 1);
    CHECK_INT(tws_poll_timeout(MS), 1);
    CHECK_INT(tws_poll_timeout(MS + 1), 2);
    CHECK_INT(tws_poll_timeout(UINT64_MAX), -1);
    CHECK_INT(tws_poll_timeout(UINT64_MAX - 1), INT_MAX);
    CHECK_INT(tws_poll_timeout((uint64_t)INT_MAX * MS), INT_MAX);
    CHECK_INT(tws_poll_timeout((uint64_t)INT_MAX * MS + 1), INT_MAX);
}

RUN(T(accepts_ready_made_descriptors),
    T(connections_take_options_from_the_listener),
    T(accepts_from_unix_sockets), T(passes_over_connections_that_died),
    T(prepares_an_existing_descriptor), T(connects),
    T(tells_why_it_does_not_connect), T(waits_for_what_was_asked),
    T(waits_for_any_of_several), T(opens_sockets), T(names_hosts),
    T(signal_ends_a_wait), T(poll_timeout_is_rounded_up))
