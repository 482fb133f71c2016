/* The body of an answer that is no handshake: what a server or a proxy says
 * about its refusal. For people to read: kept up to a bound, and where its
 * framing is broken, it ends there. */
#ifndef TWS_PROTOCOL_HTTP_BODY_H
#define TWS_PROTOCOL_HTTP_BODY_H

#include "protocol/http1.h"

/* Where the body stands; private. */
struct tws_http_body {
    uint8_t framing;
    uint8_t state;
    uint8_t digits; /* of a chunk's size, so far */
    uint64_t left;  /* bytes of the body or the chunk */
    size_t line;    /* bytes of chunk lines and trailer, so far */
};

/* How the body ends is read from the head (RFC 9112 §6.3). Of a 1xx, 204 or
 * 304 there is none. */
void tws_http_body_begin(struct tws_http_body *body,
                         const struct tws_http_head *head);

/* Takes the next bytes and appends what is content to `content`, up to
 * `ceiling` bytes in all. TWS_OK: that is the whole, or more than fits; what
 * follows is not looked at. TWS_AGAIN: more may come. TWS_NOMEM. */
enum tws_status tws_http_body_take(struct tws_http_body *body,
                                   const uint8_t *data, size_t length,
                                   size_t ceiling, struct tws_buffer *content,
                                   struct tws_error *err);

#endif /* TWS_PROTOCOL_HTTP_BODY_H */
