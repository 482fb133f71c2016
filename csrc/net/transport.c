#include "net/transport.h"

#include <errno.h>
#include <sys/socket.h>

static enum tws_status
plain_read(struct tws_transport *transport, uint8_t *data, size_t size,
           size_t *got, struct tws_error *err)
{
    ssize_t n;
    int saved;
    do {
        n = recv(transport->fd, data, size, 0);
        saved = errno;
    } while (n < 0 && saved == EINTR);
    if (n > 0) {
        *got = (size_t)n;
        return TWS_OK;
    }
    if (n == 0) {
        return TWS_EOF;
    }
    if (saved == EAGAIN || saved == EWOULDBLOCK) {
        return TWS_AGAIN;
    }
    return tws_error_os(err, saved, "recv");
}

static enum tws_status
plain_writev(struct tws_transport *transport, const struct iovec *parts,
             int count, size_t *written, struct tws_error *err)
{
    /* sendmsg() rather than writev(): only it can switch SIGPIPE off. For one
     * part, send() has less to copy into the kernel. */
    struct msghdr message = {
        .msg_iov = (struct iovec *)parts,
        .msg_iovlen = (size_t)count,
    };
    ssize_t n;
    int saved;
    do {
        n = count == 1 ? send(transport->fd, parts->iov_base, parts->iov_len,
                              MSG_NOSIGNAL)
                       : sendmsg(transport->fd, &message, MSG_NOSIGNAL);
        saved = errno;
    } while (n < 0 && saved == EINTR);
    if (n >= 0) {
        *written = (size_t)n;
        return TWS_OK;
    }
    if (saved == EAGAIN || saved == EWOULDBLOCK) {
        return TWS_AGAIN;
    }
    return tws_error_os(err, saved, "send");
}

static void
plain_end_writing(struct tws_transport *transport)
{
    (void)shutdown(transport->fd, SHUT_WR);
}

static const struct tws_transport_ops plain_ops = {
    .read = plain_read,
    .writev = plain_writev,
    .end_writing = plain_end_writing,
};

void
tws_transport_plain(struct tws_transport *transport, int fd)
{
    *transport = (struct tws_transport){.ops = &plain_ops, .fd = fd};
}

enum tws_status
tws_write(struct tws_transport *transport, const void *data, size_t length,
          size_t *written, struct tws_error *err)
{
    /* iovec has no const form; nothing writes through it. */
    struct iovec part = {.iov_base = (void *)(uintptr_t)data,
                         .iov_len = length};
    return tws_writev(transport, &part, 1, written, err);
}

void
tws_transport_release(struct tws_transport *transport)
{
    if (transport->ops != NULL && transport->ops->release != NULL) {
        transport->ops->release(transport);
    }
    *transport = (struct tws_transport){.fd = -1};
}
