/* recv() and sendmsg() are replaced, so that a signal can interrupt them. */
#include "net/transport.h"

#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int interruptions; /* that the next calls meet */

static bool
interrupted(void)
{
    if (interruptions == 0) {
        return false;
    }
    interruptions--;
    errno = EINTR;
    return true;
}

ssize_t
recv(int fd, void *data, size_t size, int flags)
{
    if (interrupted()) {
        return -1;
    }
    return syscall(SYS_recvfrom, fd, data, size, flags, NULL, NULL);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (interrupted()) {
        return -1;
    }
    return syscall(SYS_sendmsg, fd, message, flags);
}

struct ends {
    struct tws_transport transport;
    int peer;
};

static struct ends
open_ends(void)
{
    struct ends ends;
    int fds[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    tws_transport_plain(&ends.transport, fds[0]);
    ends.peer = fds[1];
    return ends;
}

static void
close_ends(const struct ends *ends)
{
    close(ends->transport.fd);
    if (ends->peer >= 0) {
        close(ends->peer);
    }
}

TEST(reads_what_is_there)
{
    struct ends ends = open_ends();
    struct tws_error err;
    uint8_t data[8];
    size_t got = 77;
    CHECK_INT(tws_read(&ends.transport, data, sizeof(data), &got, &err),
              TWS_AGAIN);
    CHECK_INT(got, 77);
    CHECK_INT(write(ends.peer, "0123456789", 10), 10);
    interruptions = 3;
    CHECK_INT(tws_read(&ends.transport, data, sizeof(data), &got, &err),
              TWS_OK);
    CHECK_BYTES(data, got, "01234567");
    CHECK_INT(tws_read(&ends.transport, data, sizeof(data), &got, &err),
              TWS_OK);
    CHECK_BYTES(data, got, "89");
    close_ends(&ends);
}

TEST(reads_the_end)
{
    struct ends ends = open_ends();
    struct tws_error err;
    uint8_t data[8];
    size_t got;
    close(ends.peer);
    ends.peer = -1;
    CHECK_INT(tws_read(&ends.transport, data, sizeof(data), &got, &err),
              TWS_EOF);
    close_ends(&ends);
}

TEST(writes_parts_in_order)
{
    struct ends ends = open_ends();
    struct tws_error err;
    char first[] = "ab";
    char third[] = "cde";
    struct iovec parts[3] = {{.iov_base = first, .iov_len = 2},
                             {.iov_base = NULL, .iov_len = 0},
                             {.iov_base = third, .iov_len = 3}};
    size_t written = 0;
    char data[8];
    interruptions = 3;
    CHECK_INT(tws_writev(&ends.transport, parts, 3, &written, &err), TWS_OK);
    CHECK_INT(written, 5);
    CHECK_INT(tws_write(&ends.transport, "f", 1, &written, &err), TWS_OK);
    CHECK_INT(written, 1);
    CHECK_INT(read(ends.peer, data, sizeof(data)), 6);
    CHECK_BYTES(data, 6, "abcdef");
    close_ends(&ends);
}

TEST(writes_what_fits)
{
    static const uint8_t data[1 << 20];
    struct ends ends = open_ends();
    struct tws_error err;
    size_t total = 0;
    size_t written = 0;
    enum tws_status status;
    do {
        status =
            tws_write(&ends.transport, data, sizeof(data), &written, &err);
        total += status == TWS_OK ? written : 0;
        CHECK(written > 0 && written <= sizeof(data));
    } while (status == TWS_OK);
    CHECK_INT(status, TWS_AGAIN);
    CHECK(total > 0);
    close_ends(&ends);
}

/* SIGPIPE would end this program. */
TEST(peer_that_is_gone_is_an_error)
{
    struct ends ends = open_ends();
    struct tws_error err;
    size_t written;
    close(ends.peer);
    ends.peer = -1;
    CHECK_INT(tws_write(&ends.transport, "x", 1, &written, &err), TWS_OS);
    CHECK_INT(err.status, TWS_OS);
    CHECK_INT(err.sys_errno, EPIPE);
    close_ends(&ends);
}

TEST(closed_descriptor_is_an_error)
{
    struct tws_transport transport;
    struct tws_error err;
    uint8_t data[1] = {0};
    size_t got;
    tws_transport_plain(&transport, -1);
    CHECK_INT(tws_read(&transport, data, 1, &got, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EBADF);
    CHECK_INT(tws_write(&transport, data, 1, &got, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EBADF);
    transport.ops->end_writing(&transport); /* nobody is there to be told */
}

TEST(end_of_writing_leaves_reading)
{
    struct ends ends = open_ends();
    struct tws_error err;
    char data[1];
    size_t got;
    ends.transport.ops->end_writing(&ends.transport);
    CHECK_INT(read(ends.peer, data, 1), 0);
    CHECK_INT(write(ends.peer, "x", 1), 1);
    CHECK_INT(tws_read(&ends.transport, (uint8_t *)data, 1, &got, &err),
              TWS_OK);
    CHECK_INT(tws_write(&ends.transport, "x", 1, &got, &err), TWS_OS);
    close_ends(&ends);
}

static int released;

static void
count_release(struct tws_transport *transport)
{
    released += transport->fd;
}

TEST(release_forgets_the_descriptor)
{
    static const struct tws_transport_ops ops = {.release = count_release};
    struct tws_transport transport = {.ops = &ops, .fd = 42};
    struct tws_transport never = {0};
    struct ends ends = open_ends();
    int fd = ends.transport.fd;
    released = 0;
    tws_transport_release(&transport);
    CHECK_INT(released, 42);
    CHECK_INT(transport.fd, -1);
    tws_transport_release(&transport);
    CHECK_INT(released, 42);
    tws_transport_release(&never);
    CHECK_INT(never.fd, -1);
    /* A plain one holds nothing; the descriptor is its owner's. */
    tws_transport_release(&ends.transport);
    CHECK_INT(ends.transport.fd, -1);
    CHECK(ends.transport.tls == NULL);
    CHECK_INT(fcntl(fd, F_GETFD) >= 0, true);
    close(fd);
    close(ends.peer);
}

TEST(a_plain_one_has_nothing_to_secure)
{
    struct ends ends = open_ends();
    struct tws_error err;
    unsigned events = 77;
    CHECK_INT(tws_secure(&ends.transport, &events, &err), TWS_OK);
    CHECK_INT(events, 77);
    CHECK(!tws_pending(&ends.transport));
    close_ends(&ends);
}

RUN(T(reads_what_is_there), T(reads_the_end), T(writes_parts_in_order),
    T(writes_what_fits), T(peer_that_is_gone_is_an_error),
    T(closed_descriptor_is_an_error), T(end_of_writing_leaves_reading),
    T(release_forgets_the_descriptor), T(a_plain_one_has_nothing_to_secure))
