/* The client's half of the opening handshake (RFC 6455 §4.1). */
#ifndef TWS_PROTOCOL_HANDSHAKE_CLIENT_H
#define TWS_PROTOCOL_HANDSHAKE_CLIENT_H

#include "protocol/digest.h"
#include "protocol/http1.h"

/* What to ask for. All borrowed. */
struct tws_handshake_offer {
    struct tws_span target;           /* path and query, begins with '/' */
    struct tws_span host;             /* value of the Host field */
    struct tws_span origin;           /* empty: no Origin field */
    const struct tws_span *protocols; /* in order of preference */
    size_t protocol_count;
    struct tws_span extensions;          /* whole field value, or empty */
    const struct tws_http_field *fields; /* more fields */
    size_t field_count;
    char key[TWS_KEY_LENGTH]; /* from tws_handshake_key() */
};

/* Appends the whole request, the empty line included. TWS_REFUSED (nothing
 * written, http_status 0) for a part that would break the head, a target
 * that is not a path or has a fragment, a host that is none, a subprotocol
 * that is not a token or is listed twice, or a field that the handshake itself
 * writes (Host, Upgrade, Connection, Sec-WebSocket-*, Origin where one is
 * given, Content-Length, Transfer-Encoding). */
enum tws_status
tws_handshake_write_request(struct tws_buffer *out,
                            const struct tws_handshake_offer *offer,
                            struct tws_error *err);

/* Judges the answer. TWS_OK: connected; *protocol and *extensions are set
 * (empty where there are none; borrowed from the head). TWS_REFUSED with
 * http_status set to the answer's status: it is not 101, or a 101 with a
 * missing or wrong Upgrade, Connection or Sec-WebSocket-Accept (the first and
 * the last once), a subprotocol that was not offered or comes twice, or
 * extensions where none were offered (an empty list is none). */
enum tws_status
tws_handshake_check_answer(const struct tws_http_head *head,
                           const struct tws_handshake_offer *offer,
                           struct tws_span *protocol,
                           struct tws_span *extensions, struct tws_error *err);

#endif /* TWS_PROTOCOL_HANDSHAKE_CLIENT_H */
