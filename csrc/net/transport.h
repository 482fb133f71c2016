/* How bytes get to the peer: a table of functions over a non-blocking
 * descriptor, so that what is above does not know whether it is plain or
 * encrypted. */
#ifndef TWS_NET_TRANSPORT_H
#define TWS_NET_TRANSPORT_H

#include "protocol/status.h"

#include <sys/uio.h>

struct tws_transport;

struct tws_transport_ops {
    /* Reads at most `size` bytes. TWS_OK with *got > 0, TWS_AGAIN, TWS_EOF,
     * or TWS_OS. */
    enum tws_status (*read)(struct tws_transport *transport, uint8_t *data,
                            size_t size, size_t *got, struct tws_error *err);
    /* Writes from the parts in order. TWS_OK with *written > 0, perhaps
     * less than all; TWS_AGAIN; or TWS_OS. Never raises SIGPIPE. */
    enum tws_status (*writev)(struct tws_transport *transport,
                              const struct iovec *parts, int count,
                              size_t *written, struct tws_error *err);
    /* Tells the peer that nothing more comes. Best effort: a peer that is
     * gone needs not to be told. */
    void (*end_writing)(struct tws_transport *transport);
};

/* Does not own the descriptor. */
struct tws_transport {
    const struct tws_transport_ops *ops;
    int fd; /* non-blocking; -1: none */
};

/* A plain stream socket. */
void tws_transport_plain(struct tws_transport *transport, int fd);

static inline enum tws_status
tws_read(struct tws_transport *transport, uint8_t *data, size_t size,
         size_t *got, struct tws_error *err)
{
    return transport->ops->read(transport, data, size, got, err);
}

static inline enum tws_status
tws_writev(struct tws_transport *transport, const struct iovec *parts,
           int count, size_t *written, struct tws_error *err)
{
    return transport->ops->writev(transport, parts, count, written, err);
}

/* One part. */
enum tws_status tws_write(struct tws_transport *transport, const void *data,
                          size_t length, size_t *written,
                          struct tws_error *err);

#endif /* TWS_NET_TRANSPORT_H */
