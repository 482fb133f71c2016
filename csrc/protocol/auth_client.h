/* A client's side of HTTP authentication: from the challenges of a 401 or 407
 * to the value of the Authorization or Proxy-Authorization field that answers
 * the best of them. */
#ifndef TWS_PROTOCOL_AUTH_CLIENT_H
#define TWS_PROTOCOL_AUTH_CLIENT_H

#include "protocol/buffer.h"

/* What is asked for, and by whom. All borrowed. */
struct tws_auth_client {
    struct tws_span user;     /* UTF-8 without control characters; without a
                               * colon where the answer is Basic */
    struct tws_span password; /* UTF-8 without control characters */
    struct tws_span method;   /* "GET", or "CONNECT" to a proxy */
    struct tws_span target;   /* as in the request line */
    struct tws_span cnonce;   /* fresh and random for each request; printable
                               * ASCII without space, quote and backslash,
                               * such as 32 hexadecimal digits */
    uint32_t nonce_count;     /* how often this server nonce is being
                               * answered, from 1 */
};

/* Appends the answer to the strongest of the challenges: Digest with SHA-256,
 * Digest with MD5, Basic; the first of equals. `challenges` are the values of
 * all WWW-Authenticate (or Proxy-Authenticate) fields, in order.
 *
 * Passed over are schemes that are not known, Digest with another algorithm
 * (-sess among them), without qop=auth, or without a realm or nonce, and what
 * stands in a field from where its grammar breaks. A user name that is not
 * ASCII goes as username* where the challenge says charset=UTF-8 (RFC 7616
 * §3.4), else as it is.
 *
 * TWS_REFUSED with http_status 401 where no challenge is left, and with 0
 * (the mistake is ours) where user name, password, cnonce, target or count
 * can't be sent; TWS_NOMEM. A failure leaves `out` as it was.
 *
 * Basic sends the password to whoever asks for it: a caller who does not know
 * the peer, or the way to it, to be safe should ask first what comes back. */
enum tws_status tws_auth_answer(const struct tws_span *challenges,
                                size_t count,
                                const struct tws_auth_client *client,
                                struct tws_buffer *out, struct tws_error *err);

/* True where the challenge that tws_auth_answer() would answer says that the
 * nonce was too old and nothing else was wrong (RFC 7616 §3.3): worth another
 * try with the same password. After an answer to Digest, a 401 without it
 * says that user name or password are wrong. */
bool tws_auth_is_stale(const struct tws_span *challenges, size_t count);

#endif /* TWS_PROTOCOL_AUTH_CLIENT_H */
