/* Digests and base64, computed by libcrypto. */
#ifndef TWS_PROTOCOL_DIGEST_H
#define TWS_PROTOCOL_DIGEST_H

#include "protocol/status.h"

enum {
    TWS_KEY_LENGTH = 24,    /* base64 of the 16-byte handshake nonce */
    TWS_ACCEPT_LENGTH = 28, /* base64 of a SHA-1 digest */
};

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 §4.2.2 item 5.4).
 * `out` gets TWS_ACCEPT_LENGTH bytes, no NUL. TWS_NOMEM where libcrypto
 * can't compute (no memory, or SHA-1 switched off on the system). */
enum tws_status tws_accept_key(struct tws_span key,
                               char out[TWS_ACCEPT_LENGTH],
                               struct tws_error *err);

/* Base64 of 16 random bytes: what a client sends as its key. */
void tws_handshake_key(const uint8_t nonce[16], char out[TWS_KEY_LENGTH]);

/* True where `key` is base64 of exactly 16 bytes, padding included. */
bool tws_handshake_key_valid(struct tws_span key);

/* Equality in time that depends on the lengths alone. */
bool tws_equal_constant_time(struct tws_span a, struct tws_span b);

#endif /* TWS_PROTOCOL_DIGEST_H */
