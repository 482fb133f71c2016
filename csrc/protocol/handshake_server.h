/* The server's half of the opening handshake (RFC 6455 §4.2): is this
 * request an upgrade, may it, and what is the answer. */
#ifndef TWS_PROTOCOL_HANDSHAKE_SERVER_H
#define TWS_PROTOCOL_HANDSHAKE_SERVER_H

#include "protocol/digest.h"
#include "protocol/http1.h"
#include "protocol/origin.h"

/* What a server is willing to accept. All borrowed. */
struct tws_handshake_policy {
    const struct tws_span *protocols; /* subprotocols it speaks */
    size_t protocol_count;
    const struct tws_span *locations; /* exact paths; none: every path */
    size_t location_count;
    struct tws_origins origins;
    bool secure; /* the connection is TLS */
};

/* What an acceptable upgrade asks for; spans borrowed from the head. */
struct tws_handshake_request {
    struct tws_span path;     /* of the target, up to the '?' */
    struct tws_span query;    /* behind the '?', empty where there is none */
    struct tws_span host;     /* of an absolute target, else of the Host
                               * field; empty for HTTP/1.0 without one */
    struct tws_span origin;   /* empty where there is none */
    struct tws_span key;      /* Sec-WebSocket-Key; upgrades only */
    struct tws_span protocol; /* chosen subprotocol, empty for none: the
                               * first of the client's that we speak */
    bool upgrade;             /* false: a plain HTTP request */
};

/* Judges a request. TWS_OK with request->upgrade true: answer 101.
 * TWS_OK with upgrade false: a plain, well-formed GET or HEAD without a
 * body, for onrequest or 426. TWS_REFUSED with http_status and a reason:
 *   400  no (HTTP/1.1) or two Host fields, or one that is no host, a
 *        target that is not a path ("*", authority, with a fragment;
 *        absolute http:, https:, ws:, wss: forms are reduced to their
 *        path), a repeated Origin, a body (Content-Length other than 0, any
 *        Transfer-Encoding), Upgrade: websocket without
 *        Connection: upgrade or with HTTP/1.0, missing, repeated or wrong
 *        Sec-WebSocket-Key, repeated Sec-WebSocket-Version, broken
 *        Sec-WebSocket-Protocol or Sec-WebSocket-Extensions grammar
 *   403  an origin that the policy does not allow
 *   404  a path that is not among the locations (upgrades only)
 *   405  a method other than GET (upgrade) or GET and HEAD (plain)
 *   426  Sec-WebSocket-Version missing or not 13
 * What decides an upgrade is "websocket" as a whole element of Upgrade
 * (RFC 9110 §7.8), without regard to case. */
enum tws_status tws_handshake_judge(const struct tws_http_head *head,
                                    const struct tws_handshake_policy *policy,
                                    struct tws_handshake_request *request,
                                    struct tws_error *err);

/* Appends the 101 answer up to, not including, the empty line, so that the
 * caller can add fields: status line, Upgrade, Connection,
 * Sec-WebSocket-Accept and, where not empty, the subprotocol and
 * `extensions` (the whole Sec-WebSocket-Extensions value). A failure leaves
 * `out` as it was. */
enum tws_status
tws_handshake_write_accept(struct tws_buffer *out,
                           const struct tws_handshake_request *request,
                           struct tws_span extensions, struct tws_error *err);

/* Appends a whole plain-text answer: status line, Content-Type
 * text/plain, Content-Length, Connection: close, for 426 also Upgrade
 * (listed in Connection, RFC 9110 §7.8) and Sec-WebSocket-Version: 13, for
 * 405 Allow, and `reason` and a newline as the body (left out, but counted,
 * where `head_only`). A failure leaves `out` as it was. */
enum tws_status tws_handshake_write_refusal(struct tws_buffer *out,
                                            uint16_t http_status,
                                            const char *reason, bool head_only,
                                            struct tws_error *err);
/* The same with more fields, as the challenges of a 401; those that are empty
 * are left out. TWS_REFUSED (http_status 0) for one that would break the
 * head. */
enum tws_status
tws_handshake_write_refusal_with(struct tws_buffer *out, uint16_t http_status,
                                 const struct tws_http_field *fields,
                                 size_t field_count, const char *reason,
                                 bool head_only, struct tws_error *err);

#endif /* TWS_PROTOCOL_HANDSHAKE_SERVER_H */
