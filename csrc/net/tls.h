/* A transport that encrypts what goes over another one (RFC 8446, RFC 5246),
 * on OpenSSL. Never blocks.
 *
 * Threads: one may read while another writes, as with a socket. */
#ifndef TWS_NET_TLS_H
#define TWS_NET_TLS_H

#include "net/tls_context.h"
#include "net/transport.h"

struct tws_tls;

/* Puts encryption over *transport, which moves inside and is replaced; on
 * failure it stays what it was. Retains the context.
 *
 * Of a client, `host` is the name or IP address that the server's certificate
 * must be for (names are sent as SNI); `peer` ("host:port") is what a session
 * is remembered by, to be resumed by the next connection (NULL: it is not).
 * Both NULL for a server.
 *
 * tws_secure() then does the handshake before anything is read or written. */
enum tws_status tws_tls_start(struct tws_transport *transport,
                              struct tws_tls_context *context,
                              const char *host, const char *peer,
                              struct tws_error *err);

/* Takes the encryption away again, after a handshake that has failed as the
 * peer speaks plain HTTP (TWS_REFUSED with http_status 400), so that it can
 * be told. */
void tws_tls_strip(struct tws_transport *transport);

/* What the handshake agreed on. Any thread. */
struct tws_tls_info {
    const char *version;  /* static: "TLSv1.3" */
    const char *cipher;   /* static: "TLS_AES_256_GCM_SHA384" */
    int bits;             /* of its key */
    bool resumed;         /* by a ticket: without certificates */
    struct tws_span alpn; /* borrowed from the transport; may be empty */
};
void tws_tls_read_info(struct tws_tls *tls, struct tws_tls_info *info);

/* The peer's certificate, DER; owned by the caller (free()). TWS_EOF: it has
 * sent none. */
enum tws_status tws_tls_peer_certificate(struct tws_tls *tls, uint8_t **der,
                                         size_t *length,
                                         struct tws_error *err);

#endif /* TWS_NET_TLS_H */
