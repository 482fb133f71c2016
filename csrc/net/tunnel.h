/* The way through a proxy: asks it, on a stream that is connected to it (and
 * secured, where it is reached by TLS), for a tunnel to the server; over HTTP
 * with CONNECT (RFC 9110 §9.3.6) or over SOCKS (RFC 1928). What is written
 * and read from then on is between us and the server. Never blocks; the owner
 * waits for the descriptor and keeps the deadline. */
#ifndef TWS_NET_TUNNEL_H
#define TWS_NET_TUNNEL_H

#include "net/socket.h"
#include "net/transport.h"
#include "protocol/http1.h"

enum {
    TWS_TUNNEL_BODY_MAX = 64 * 1024, /* bytes kept of a refusal's body */
};

enum tws_tunnel_kind {
    TWS_TUNNEL_HTTP,
    TWS_TUNNEL_SOCKS5,
};

/* All borrowed, for the call only. */
struct tws_tunnel_options {
    enum tws_tunnel_kind kind;
    const char *host; /* of the server: a name, or an address in figures,
                       * IPv6 without brackets; no zone: it means nothing to
                       * a proxy */
    uint16_t port;    /* of the server */
    const struct tws_address *address;    /* SOCKS: the server's, looked up by
                                           * us; NULL: the proxy looks it up */
    const char *username;                 /* NULL: no credentials */
    const char *password;                 /* NULL: an empty one */
    const char *user_agent;               /* HTTP; NULL: none */
    const struct tws_http_limits *limits; /* HTTP: of an answer's head; NULL:
                                           * TWS_HTTP_LIMITS_DEFAULT */
};

struct tws_tunnel; /* belongs to one thread at a time */

/* Writes down what the proxy will be asked. TWS_REFUSED (http_status 0) where
 * a part can't be said: a host or credentials with a control byte (CR, LF,
 * NUL), an empty one or one that is too long, a colon in a username for HTTP
 * (RFC 7617 §2). TWS_NOMEM. */
enum tws_status tws_tunnel_new(const struct tws_tunnel_options *options,
                               struct tws_tunnel **tunnel,
                               struct tws_error *err);

/* NULL is allowed. Does not close the transport. */
void tws_tunnel_free(struct tws_tunnel *tunnel);

/* Goes on as far as it gets.
 *
 * TWS_OK: open. Of what the server sends, nothing was read: from a SOCKS
 * proxy exactly its own bytes are taken. An answer in HTTP has no length to
 * go by; as neither TLS nor WebSocket lets a server speak first, bytes that
 * arrive together with it are refused.
 *
 * TWS_AGAIN: call again when the descriptor is ready for *events (of
 * TWS_WAIT_*).
 *
 * TWS_REFUSED: the proxy said no, or what no proxy says; the reason begins
 * with "proxy". http_status is that of its answer, 0 where it gave none in
 * HTTP; see ..._answer() and ..._body().
 *
 * TWS_EOF (*err is left alone): it ended before its answer was complete.
 * TWS_OS, TWS_TLS, TWS_NOMEM.
 *
 * After anything but TWS_AGAIN it must not be called again. */
enum tws_status tws_tunnel_advance(struct tws_tunnel *tunnel,
                                   struct tws_transport *transport,
                                   unsigned *events, struct tws_error *err);

/* True where a refusal's head has come. Where nobody wants to wait for its
 * body any longer: *err is what TWS_REFUSED would have. */
bool tws_tunnel_refusal(const struct tws_tunnel *tunnel,
                        struct tws_error *err);

/* The head of the answer in HTTP with which the proxy has refused; *head
 * borrows from the tunnel. TWS_EOF: there is none. */
enum tws_status tws_tunnel_answer(const struct tws_tunnel *tunnel,
                                  struct tws_http_head *head,
                                  struct tws_error *err);
/* The first bytes of its body; may be empty. Borrowed from the tunnel. */
struct tws_span tws_tunnel_body(const struct tws_tunnel *tunnel);

#endif /* TWS_NET_TUNNEL_H */
