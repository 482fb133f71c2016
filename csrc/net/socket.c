#include "net/socket.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/un.h>

/* Messages are written whole, so waiting for more to send only adds delay. */
static void
set_nodelay(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static bool
is_unix(int fd)
{
    struct sockaddr_storage own = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof(own);
    return getsockname(fd, (struct sockaddr *)&own, &size) == 0
           && own.ss_family == AF_UNIX;
}

pid_t
tws_socket_peer_pid(int fd)
{
#ifdef __linux__
    struct ucred peer = {.pid = 0};
    socklen_t size = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
        return peer.pid;
    }
#else
    (void)fd;
#endif
    return 0;
}

enum tws_status
tws_socket_accept(int listener, int *fd, struct tws_address *peer,
                  struct tws_error *err)
{
    for (;;) {
        struct tws_address address = {.length = sizeof(address.storage)};
        int got = accept4(listener, (struct sockaddr *)&address.storage,
                          &address.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        int saved = errno;
        if (got >= 0) {
            if (address.storage.ss_family != AF_UNIX) {
                /* Inherited, but by those that came before it was set. */
                set_nodelay(got);
            }
            else if (address.length
                     <= offsetof(struct sockaddr_un, sun_path)) {
                address.pid = tws_socket_peer_pid(got);
            }
            *fd = got;
            *peer = address;
            return TWS_OK;
        }
        switch (saved) {
        case EINTR:
        case ECONNABORTED:
        /* accept(2): errors of the network that already wait on the new
         * connection are to be treated like EAGAIN, by trying again. */
        case ENETDOWN:
        case EPROTO:
        case ENOPROTOOPT:
        case EHOSTDOWN:
        case ENONET:
        case EHOSTUNREACH:
        case ENETUNREACH:
            continue;
        case EAGAIN:
            return TWS_AGAIN;
        default:
            return tws_error_os(err, saved, "accept");
        }
    }
}

enum tws_status
tws_socket_open(int family, int protocol, int *fd, struct tws_error *err)
{
    int made =
        socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    if (made < 0) {
        return tws_error_os(err, errno, "socket");
    }
    if (family != AF_UNIX) {
        set_nodelay(made);
    }
    *fd = made;
    return TWS_OK;
}

enum tws_status
tws_socket_prepare(int fd, struct tws_error *err)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return tws_error_os(err, errno, "fcntl");
    }
    if (!is_unix(fd)) {
        set_nodelay(fd);
    }
    return TWS_OK;
}

enum tws_status
tws_socket_connect(int fd, const struct tws_address *address,
                   struct tws_error *err)
{
    if (connect(fd, (const struct sockaddr *)&address->storage,
                address->length)
        == 0) {
        return TWS_OK;
    }
    int saved = errno;
    if (saved == EISCONN) {
        return TWS_OK;
    }
    /* A connect() that a signal cut short goes on by itself. */
    if (saved == EINPROGRESS || saved == EALREADY || saved == EINTR) {
        return TWS_AGAIN;
    }
    return tws_error_os(err, saved, "connect");
}

enum tws_status
tws_socket_connected(int fd, struct tws_error *err)
{
    int pending = 0;
    socklen_t size = sizeof(pending);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &pending, &size) < 0) {
        return tws_error_os(err, errno, "getsockopt");
    }
    if (pending != 0) {
        return tws_error_os(err, pending, "connect");
    }
    return TWS_OK;
}

static void
unix_host(const struct tws_address *address, char text[TWS_HOST_TEXT])
{
    const struct sockaddr_un *sun =
        (const struct sockaddr_un *)&address->storage;
    size_t header = offsetof(struct sockaddr_un, sun_path);
    size_t length = address->length > header ? address->length - header : 0;
    bool abstract = length > 0 && sun->sun_path[0] == '\0';
    size_t skip = abstract ? 1 : 0;
    (void)snprintf(text, TWS_HOST_TEXT, "%s%.*s", abstract ? "@" : "",
                   (int)(length - skip), sun->sun_path + skip);
}

void
tws_socket_host(const struct tws_address *address, char text[TWS_HOST_TEXT])
{
    const struct sockaddr_in *sin =
        (const struct sockaddr_in *)&address->storage;
    const struct sockaddr_in6 *sin6 =
        (const struct sockaddr_in6 *)&address->storage;
    text[0] = '\0';
    switch (address->storage.ss_family) {
    case AF_UNIX:
        unix_host(address, text);
        break;
    case AF_INET:
        (void)inet_ntop(AF_INET, &sin->sin_addr, text, TWS_HOST_TEXT);
        break;
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &sin6->sin6_addr, text, TWS_HOST_TEXT);
        if (sin6->sin6_scope_id != 0) {
            size_t length = strlen(text);
            (void)snprintf(text + length, TWS_HOST_TEXT - length, "%%%u",
                           (unsigned)sin6->sin6_scope_id);
        }
        break;
    default:
        break;
    }
}

int
tws_poll_timeout(uint64_t timeout_ns)
{
    if (timeout_ns == UINT64_MAX) {
        return -1;
    }
    uint64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

enum tws_status
tws_socket_wait_any(struct tws_wait *waits, size_t count, uint64_t timeout_ns,
                    struct tws_error *err)
{
    struct pollfd entries[TWS_WAITS_MAX];
    assert(count <= TWS_WAITS_MAX);
    for (size_t i = 0; i < count; i++) {
        entries[i] = (struct pollfd){.fd = waits[i].fd};
        if ((waits[i].events & TWS_WAIT_READ) != 0) {
            entries[i].events |= POLLIN;
        }
        if ((waits[i].events & TWS_WAIT_WRITE) != 0) {
            entries[i].events |= POLLOUT;
        }
    }
    int n = poll(entries, (nfds_t)count, tws_poll_timeout(timeout_ns));
    int saved = errno;
    if (n < 0 && saved != EINTR) {
        return tws_error_os(err, saved, "poll");
    }
    if (n <= 0) {
        return TWS_AGAIN;
    }
    for (size_t i = 0; i < count; i++) {
        if ((entries[i].revents & POLLNVAL) != 0) {
            return tws_error_os(err, EBADF, "poll");
        }
        waits[i].ready = 0;
        if ((entries[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            waits[i].ready |= TWS_WAIT_READ;
        }
        if ((entries[i].revents & (POLLOUT | POLLHUP | POLLERR)) != 0) {
            waits[i].ready |= TWS_WAIT_WRITE;
        }
        waits[i].ready &= waits[i].events;
    }
    return TWS_OK;
}

enum tws_status
tws_socket_wait(int fd, unsigned events, uint64_t timeout_ns, unsigned *ready,
                struct tws_error *err)
{
    struct tws_wait wait = {.fd = fd, .events = events};
    enum tws_status status = tws_socket_wait_any(&wait, 1, timeout_ns, err);
    if (status == TWS_OK) {
        *ready = wait.ready;
    }
    return status;
}
