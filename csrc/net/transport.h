/* How bytes get to the peer: a table of functions over a non-blocking
 * descriptor, so that what is above does not know whether it is plain or
 * encrypted. */
#ifndef TWS_NET_TRANSPORT_H
#define TWS_NET_TRANSPORT_H

#include "protocol/status.h"

#include <sys/uio.h>

struct tws_transport;
struct tws_tls;

struct tws_transport_ops {
    /* What comes before the first byte: goes on with it as far as it gets.
     * TWS_OK: done; TWS_AGAIN: call again when the descriptor is ready for
     * *events (of TWS_WAIT_*); TWS_EOF; TWS_OS; TWS_TLS; TWS_REFUSED where
     * the peer is to be told in plain HTTP. NULL: there is nothing to do. */
    enum tws_status (*secure)(struct tws_transport *transport,
                              unsigned *events, struct tws_error *err);
    /* Reads at most `size` bytes. TWS_OK with *got > 0; less than `size`
     * means that a further read would find nothing, unless something is
     * pending or the descriptor is ready yet. TWS_AGAIN, TWS_EOF, TWS_OS or
     * TWS_TLS. */
    enum tws_status (*read)(struct tws_transport *transport, uint8_t *data,
                            size_t size, size_t *got, struct tws_error *err);
    /* Writes from the parts in order. TWS_OK with *written > 0, perhaps
     * less than all; TWS_AGAIN; TWS_OS or TWS_TLS. What was not written is to
     * be written next, before anything else: of more than one byte, some may
     * wait in an encrypted record already, and is counted when it has left.
     * Never raises SIGPIPE. */
    enum tws_status (*writev)(struct tws_transport *transport,
                              const struct iovec *parts, int count,
                              size_t *written, struct tws_error *err);
    /* Tells the peer that nothing more comes. Best effort: a peer that is
     * gone needs not to be told. */
    void (*end_writing)(struct tws_transport *transport);
    /* True where bytes, or an end, were taken from the descriptor but not
     * read yet: waiting for it would miss them. NULL: never. */
    bool (*pending)(struct tws_transport *transport);
    /* Frees what it holds beside the descriptor. NULL: nothing. */
    void (*release)(struct tws_transport *transport);
};

/* A value that may be moved, and has one owner, who also closes the
 * descriptor. */
struct tws_transport {
    const struct tws_transport_ops *ops;
    int fd;              /* non-blocking; -1: none */
    struct tws_tls *tls; /* owned; see net/tls.h. NULL: it is plain */
};

/* What a descriptor is waited for. */
enum {
    TWS_WAIT_READ = 1,
    TWS_WAIT_WRITE = 2,
};

/* A plain stream socket. */
void tws_transport_plain(struct tws_transport *transport, int fd);

static inline enum tws_status
tws_secure(struct tws_transport *transport, unsigned *events,
           struct tws_error *err)
{
    return transport->ops->secure == NULL
               ? TWS_OK
               : transport->ops->secure(transport, events, err);
}

static inline bool
tws_pending(struct tws_transport *transport)
{
    return transport->ops->pending != NULL
           && transport->ops->pending(transport);
}

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

/* Frees what the transport holds beside its descriptor, which is forgotten.
 * One that was never made (all zero) is allowed. */
void tws_transport_release(struct tws_transport *transport);

#endif /* TWS_NET_TRANSPORT_H */
