#include "net/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
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
tws_socket_wait(int fd, unsigned events, uint64_t timeout_ns, unsigned *ready,
                struct tws_error *err)
{
    struct pollfd entry = {.fd = fd};
    if ((events & TWS_WAIT_READ) != 0) {
        entry.events |= POLLIN;
    }
    if ((events & TWS_WAIT_WRITE) != 0) {
        entry.events |= POLLOUT;
    }
    int n = poll(&entry, 1, tws_poll_timeout(timeout_ns));
    int saved = errno;
    if (n < 0 && saved != EINTR) {
        return tws_error_os(err, saved, "poll");
    }
    if (n <= 0) {
        return TWS_AGAIN;
    }
    if ((entry.revents & POLLNVAL) != 0) {
        return tws_error_os(err, EBADF, "poll");
    }
    *ready = 0;
    if ((entry.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
        *ready |= TWS_WAIT_READ;
    }
    if ((entry.revents & (POLLOUT | POLLHUP | POLLERR)) != 0) {
        *ready |= TWS_WAIT_WRITE;
    }
    *ready &= events;
    return TWS_OK;
}
