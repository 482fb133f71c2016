/* The Digest scheme (RFC 7616) with qop=auth, and with MD5 or SHA-256. The
 * variants that end in -sess, and qop=auth-int, are not supported: a WebSocket
 * handshake has no body, and each is one request. */
#ifndef TWS_PROTOCOL_DIGEST_AUTH_H
#define TWS_PROTOCOL_DIGEST_AUTH_H

#include "protocol/http_auth.h"

enum tws_digest_algorithm {
    TWS_DIGEST_MD5,
    TWS_DIGEST_SHA256,
};

enum {
    TWS_DIGEST_ALGORITHMS = 2,
    TWS_DIGEST_HEX_MAX = 64, /* of the longest digest */
    TWS_DIGEST_NC_LENGTH = 8,
};

/* "MD5", "SHA-256"; static. */
struct tws_span tws_digest_name(enum tws_digest_algorithm algorithm);
/* False where it is neither; compares without case. */
bool tws_digest_by_name(struct tws_span name,
                        enum tws_digest_algorithm *algorithm);
/* Of a digest in hexadecimal: 32 or 64. */
size_t tws_digest_hex_length(enum tws_digest_algorithm algorithm);
/* True where `text` is a digest in lower-case hexadecimal. */
bool tws_digest_is_hex(enum tws_digest_algorithm algorithm,
                       struct tws_span text);

/* HA1, the hash of "user:realm:password" (RFC 7616 §3.4.2), and the hash of
 * "user:realm" (§3.4.4), both in lower-case hexadecimal, as many bytes as
 * tws_digest_hex_length() says. `realm` is unquoted on the way. TWS_NOMEM
 * where libcrypto can't compute (no memory, or MD5 switched off on the
 * system). */
enum tws_status
tws_digest_ha1(enum tws_digest_algorithm algorithm, struct tws_span user,
               const struct tws_auth_param *realm, struct tws_span password,
               char out[TWS_DIGEST_HEX_MAX], struct tws_error *err);
enum tws_status tws_digest_userhash(enum tws_digest_algorithm algorithm,
                                    struct tws_span user,
                                    const struct tws_auth_param *realm,
                                    char out[TWS_DIGEST_HEX_MAX],
                                    struct tws_error *err);

/* What a response is the hash of, beside HA1. */
struct tws_digest_request {
    enum tws_digest_algorithm algorithm;
    struct tws_auth_param nonce; /* unquoted on the way */
    struct tws_span nc;          /* TWS_DIGEST_NC_LENGTH digits */
    struct tws_span cnonce;
    struct tws_span method;
    struct tws_span uri;
};
/* The response of RFC 7616 §3.4.1 with qop=auth; `ha1` is hexadecimal. */
enum tws_status tws_digest_response(const struct tws_digest_request *request,
                                    struct tws_span ha1,
                                    char out[TWS_DIGEST_HEX_MAX],
                                    struct tws_error *err);

/* A server's side ------------------------------------------------------- */

/* Appends a challenge (RFC 7616 §3.3). `realm` is as tws_auth_is_realm() wants
 * it, `nonce` a token. `stale`: all was right but the nonce. TWS_NOMEM leaves
 * `out` as it was. */
enum tws_status tws_digest_write_challenge(struct tws_buffer *out,
                                           enum tws_digest_algorithm algorithm,
                                           struct tws_span realm,
                                           struct tws_span nonce, bool stale,
                                           struct tws_error *err);

/* Credentials as a client sent them; spans borrowed from their field. */
struct tws_digest_credentials {
    struct tws_auth_param username;
    bool extended; /* it is in the notation of RFC 8187 */
    struct tws_digest_request request;
    uint32_t nc; /* at least 1 */
    struct tws_span response;
};

/* Reads what tws_auth_parse() found in an Authorization field of a request
 * `method` for `target`. TWS_REFUSED with http_status
 *   400  a parameter is missing or improper (RFC 7616 §3.4): qop other than
 *        auth, a nonce count that is not eight hexadecimal digits or is 0,
 *        another uri than the request's target, userhash, which was not
 *        offered, and a user name in both forms or in none
 *   401  credentials for another realm, or by an algorithm that is not
 *        supported */
enum tws_status tws_digest_read(const struct tws_auth *auth,
                                struct tws_span realm, struct tws_span method,
                                struct tws_span target,
                                struct tws_digest_credentials *credentials,
                                struct tws_error *err);

/* Decodes the user name into `out`, with room for username.value.length bytes.
 * TWS_REFUSED with http_status 400 where it is not UTF-8, holds a control
 * character or breaks the notation of RFC 8187 §3.2. */
enum tws_status
tws_digest_username(const struct tws_digest_credentials *credentials,
                    char *out, size_t *length, struct tws_error *err);

/* *match: the response is the one that whoever knows HA1 gives. Compared in
 * constant time. Says nothing of the nonce, see protocol/digest_nonces.h.
 * TWS_NOMEM. */
enum tws_status
tws_digest_verify(const struct tws_digest_credentials *credentials,
                  struct tws_span ha1, bool *match, struct tws_error *err);

#endif /* TWS_PROTOCOL_DIGEST_AUTH_H */
