/* The client's side of CONNECT: the request for a tunnel through an HTTP
 * proxy, and the answer (RFC 9110 §9.3.6). */
#ifndef TWS_PROTOCOL_HTTP_CONNECT_H
#define TWS_PROTOCOL_HTTP_CONNECT_H

#include "protocol/http1.h"

/* What to ask for. All borrowed, for the call only. */
struct tws_http_connect_offer {
    struct tws_span host; /* a name, or an address in figures: IPv6 without
                           * brackets and zone */
    uint16_t port;
    bool credentials;
    struct tws_span username;
    struct tws_span password;
    struct tws_span user_agent; /* empty: no such field */
};

/* Appends the whole request, the empty line included. TWS_REFUSED (nothing
 * written, http_status 0) for a host that is none, port 0, a username with a
 * colon (RFC 7617 §2), a control byte, or credentials of more than 16 KiB;
 * TWS_NOMEM. With credentials the caller wipes `out` once it is sent: of
 * this call no other copy is left, if `out` was empty. */
enum tws_status
tws_http_connect_write(struct tws_buffer *out,
                       const struct tws_http_connect_offer *offer,
                       struct tws_error *err);

/* The answer as it arrives. Set up `limits` and `credentials`, and the rest
 * zero. */
struct tws_http_connect {
    struct tws_http_limits limits; /* of each head */
    bool credentials;              /* were sent: what a 407 means */
    struct tws_http_scanner scanner;
    size_t head_length; /* of a refusal's head, once it is known */
    unsigned interim;   /* answers of 1xx so far */
};

/* Looks at what has arrived, which must stay in `in` between the calls.
 *
 * TWS_OK: open (2xx; its Content-Length and Transfer-Encoding mean nothing);
 * the head is consumed. TWS_AGAIN: more must come; interim answers (1xx) are
 * consumed. TWS_REFUSED: where http_status is set, that is the answer's, and
 * *head its head, which stays at the front of `in` (head_length bytes);
 * http_status 0: what came is no answer, or bytes came behind an answer of
 * 2xx, where a server has nothing to say yet. */
enum tws_status tws_http_connect_take(struct tws_http_connect *connect,
                                      struct tws_buffer *in,
                                      struct tws_http_head *head,
                                      struct tws_error *err);

#endif /* TWS_PROTOCOL_HTTP_CONNECT_H */
