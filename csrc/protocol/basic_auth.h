/* The Basic scheme (RFC 7617): a user name and a password in base64, in UTF-8
 * as charset="UTF-8" in the challenge says. */
#ifndef TWS_PROTOCOL_BASIC_AUTH_H
#define TWS_PROTOCOL_BASIC_AUTH_H

#include "protocol/buffer.h"

/* How many bytes tws_basic_decode() may write for a token68. */
static inline size_t
tws_basic_room(struct tws_span token68)
{
    return token68.length / 4 * 3;
}

/* Decodes the credentials of Basic into `out`, with room for
 * tws_basic_room() bytes; *user and *password are borrowed from it. The
 * caller wipes it. TWS_REFUSED with http_status 401 (the bytes at `out` mean
 * nothing then) where it is not base64 in its one canonical form (RFC 4648
 * §3.5, §4), not UTF-8, holds a control character, or has no colon; the first
 * colon ends the user name (RFC 7617 §2). Either may be empty. */
enum tws_status tws_basic_decode(struct tws_span token68, char *out,
                                 struct tws_span *user,
                                 struct tws_span *password,
                                 struct tws_error *err);

/* Appends "Basic " and the credentials. TWS_REFUSED (http_status 0: the
 * mistake is ours) where the user name has a colon, or one of both is not
 * UTF-8 or holds a control character; TWS_NOMEM. A failure leaves `out` as it
 * was. */
enum tws_status tws_basic_write(struct tws_buffer *out, struct tws_span user,
                                struct tws_span password,
                                struct tws_error *err);

/* Appends a server's challenge. `realm` is as tws_auth_is_realm() wants it.
 * TWS_NOMEM leaves `out` as it was. */
enum tws_status tws_basic_write_challenge(struct tws_buffer *out,
                                          struct tws_span realm,
                                          struct tws_error *err);

#endif /* TWS_PROTOCOL_BASIC_AUTH_H */
