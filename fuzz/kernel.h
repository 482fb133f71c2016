/* A kernel for a server's loop, in memory: a listener and some connections,
 * a poller that names what is ready, and a clock that stands until it is told
 * to go on. What the fuzzer says arrives, is taken, or fails. To be included
 * by one file: it stands in for the system's functions. */
#ifndef TWS_FUZZ_KERNEL_H
#define TWS_FUZZ_KERNEL_H

#include "input.h"
#include "loop/poller.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS = 3,
    FIRST_FD = 1 << 24, /* none that a process has */
    LISTENER_FD = FIRST_FD + CONNECTIONS,
    ARRIVED_MAX = 48 * 1024,
};

/* What the poller is asked for, of a connection or the listener. */
struct watched {
    bool is;
    unsigned events;
    void *data;
};

struct connection {
    bool waiting; /* to be accepted */
    bool accepted;
    bool closed;
    bool ended;      /* the peer has */
    bool reset;      /* by the peer */
    bool shut_read;  /* by us */
    bool shut_write; /* by us */
    size_t room;     /* bytes that are taken yet */
    size_t start;    /* of what has arrived and was not read */
    size_t end;
    struct watched watched;
    uint8_t arrived[ARRIVED_MAX];
};

static struct {
    uint64_t now; /* nanoseconds */
    struct connection connections[CONNECTIONS];
    struct watched listener;
    bool woken;
    int accept_fails;  /* errno; 0: it does not */
    bool poller_fails; /* once */
    bool wait_fails;   /* once */
} kernel;

/* Of the fuzzer: what was written, and what happens while the loop waits. */
static void kernel_written(size_t index, const uint8_t *data, size_t length);
static void kernel_waits(uint64_t deadline);

static void
kernel_begin(void)
{
    kernel.now = 1000 * UINT64_C(1000000000);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        memset(&kernel.connections[i], 0,
               offsetof(struct connection, arrived));
    }
    kernel.listener = (struct watched){.is = false};
    kernel.woken = kernel.poller_fails = kernel.wait_fails = false;
    kernel.accept_fails = 0;
}

/* The clock. */
static int
kernel_clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    now->tv_sec = (time_t)(kernel.now / 1000000000);
    now->tv_nsec = (long)(kernel.now % 1000000000);
    return 0;
}

#define clock_gettime kernel_clock_gettime
#include "../csrc/loop/timers.c"
#undef clock_gettime

/* Sockets ----------------------------------------------------------------- */

static struct connection *
connection_of(int fd)
{
    require(fd >= FIRST_FD && fd < FIRST_FD + CONNECTIONS);
    struct connection *connection = &kernel.connections[fd - FIRST_FD];
    require(connection->accepted && !connection->closed);
    return connection;
}

static int
fail_with(int error)
{
    errno = error;
    return -1;
}

int
accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict length,
        int flags)
{
    (void)flags;
    require(fd == LISTENER_FD);
    if (kernel.accept_fails != 0) {
        int error = kernel.accept_fails;
        kernel.accept_fails = 0;
        return fail_with(error);
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        struct connection *connection = &kernel.connections[i];
        if (connection->waiting) {
            struct sockaddr_in peer = {.sin_family = AF_INET};
            peer.sin_addr.s_addr = (in_addr_t)(i / 2 + 1);
            memcpy(address, &peer, sizeof(peer));
            *length = sizeof(peer);
            connection->waiting = false;
            connection->accepted = true;
            return FIRST_FD + i;
        }
    }
    return fail_with(EAGAIN);
}

ssize_t
recv(int fd, void *data, size_t size, int flags)
{
    struct connection *connection = connection_of(fd);
    (void)flags;
    require(size > 0);
    if (connection->reset) {
        connection->reset = false; /* said once */
        connection->ended = true;
        connection->shut_write = true;
        connection->start = connection->end = 0;
        return fail_with(ECONNRESET);
    }
    size_t length = connection->end - connection->start;
    if (length > 0) {
        length = length < size ? length : size;
        memcpy(data, connection->arrived + connection->start, length);
        connection->start += length;
        return (ssize_t)length;
    }
    return connection->ended || connection->shut_read ? 0 : fail_with(EAGAIN);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct connection *connection = connection_of(fd);
    ssize_t taken = 0;
    require((flags & MSG_NOSIGNAL) != 0);
    if (connection->shut_write || connection->reset) {
        return fail_with(EPIPE);
    }
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        size_t length = message->msg_iov[i].iov_len;
        if (length > connection->room) {
            length = connection->room;
        }
        connection->room -= length;
        taken += (ssize_t)length;
        kernel_written((size_t)(fd - FIRST_FD), message->msg_iov[i].iov_base,
                       length);
    }
    return taken > 0 ? taken : fail_with(EAGAIN);
}

int
shutdown(int fd, int how)
{
    struct connection *connection = connection_of(fd);
    connection->shut_read = connection->shut_read || how != SHUT_WR;
    connection->shut_write = connection->shut_write || how != SHUT_RD;
    return 0;
}

/* libFuzzer has descriptors of its own. */
int
close(int fd)
{
    if (fd < FIRST_FD) {
        return (int)syscall(SYS_close, fd);
    }
    struct connection *connection = connection_of(fd);
    require(!connection->watched.is); /* removed before it is closed */
    connection->closed = true;
    return 0;
}

/* The poller -------------------------------------------------------------- */

struct tws_poller {
    bool is;
};

enum tws_status
tws_poller_new(enum tws_poller_kind kind, struct tws_poller **poller,
               struct tws_error *err)
{
    static struct tws_poller only;
    (void)kind;
    (void)err;
    *poller = &only;
    return TWS_OK;
}

void
tws_poller_free(struct tws_poller *poller)
{
    (void)poller;
    for (size_t i = 0; i < CONNECTIONS; i++) {
        require(!kernel.connections[i].watched.is);
    }
    require(!kernel.listener.is);
}

static struct watched *
watched_of(int fd)
{
    return fd == LISTENER_FD ? &kernel.listener : &connection_of(fd)->watched;
}

static enum tws_status
watch(int fd, bool there, struct watched watched, struct tws_error *err)
{
    struct watched *place = watched_of(fd);
    require(place->is == there);
    if (kernel.poller_fails) {
        kernel.poller_fails = false;
        return tws_error_os(err, ENOSPC, "watch");
    }
    *place = watched;
    return TWS_OK;
}

enum tws_status
tws_poller_add(struct tws_poller *poller, int fd, unsigned events, void *data,
               struct tws_error *err)
{
    (void)poller;
    return watch(fd, false, (struct watched){true, events, data}, err);
}

enum tws_status
tws_poller_modify(struct tws_poller *poller, int fd, unsigned events,
                  void *data, struct tws_error *err)
{
    (void)poller;
    return watch(fd, true, (struct watched){true, events, data}, err);
}

/* Of one that was not there it tells, and most do not care. */
enum tws_status
tws_poller_remove(struct tws_poller *poller, int fd, struct tws_error *err)
{
    (void)poller;
    struct watched *place = watched_of(fd);
    if (!place->is) {
        return tws_error_os(err, ENOENT, "watch");
    }
    place->is = false;
    return TWS_OK;
}

void
tws_poller_wake(struct tws_poller *poller)
{
    (void)poller;
    kernel.woken = true;
}

static unsigned
ready_events(const struct connection *connection)
{
    bool broken = connection->reset
                  || (connection->ended && connection->shut_write)
                  || (connection->shut_read && connection->shut_write);
    bool readable = connection->end > connection->start || connection->ended
                    || connection->shut_read || connection->reset;
    bool writable = connection->room > 0 || connection->shut_write || broken;
    unsigned events =
        (readable ? TWS_READABLE : 0U) | (writable ? TWS_WRITABLE : 0U);
    return (events & connection->watched.events) | (broken ? TWS_HANGUP : 0U);
}

static bool
listener_is_ready(void)
{
    bool waiting = kernel.accept_fails != 0;
    for (size_t i = 0; i < CONNECTIONS; i++) {
        waiting = waiting || kernel.connections[i].waiting;
    }
    return waiting && kernel.listener.is;
}

static size_t
kernel_ready(struct tws_ready *ready)
{
    size_t count = 0;
    if (listener_is_ready()) {
        ready[count].data = kernel.listener.data;
        ready[count].events = TWS_READABLE;
        count++;
    }
    for (size_t i = 0; i < CONNECTIONS; i++) {
        const struct connection *connection = &kernel.connections[i];
        unsigned events =
            connection->watched.is ? ready_events(connection) : 0;
        if (events != 0) {
            ready[count].data = connection->watched.data;
            ready[count].events = events;
            count++;
        }
    }
    return count;
}

enum tws_status
tws_poller_wait(struct tws_poller *poller, uint64_t deadline,
                struct tws_ready *ready, size_t capacity, size_t *count,
                bool *due, struct tws_error *err)
{
    (void)poller;
    require(capacity > CONNECTIONS);
    kernel_waits(deadline);
    if (kernel.wait_fails) {
        kernel.wait_fails = false;
        return tws_error_os(err, EINVAL, "wait");
    }
    *count = kernel_ready(ready);
    kernel.woken = false;
    *due = deadline <= kernel.now;
    return TWS_OK;
}

#endif /* TWS_FUZZ_KERNEL_H */
