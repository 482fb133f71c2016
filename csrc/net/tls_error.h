/* Why TLS failed, in words for a person. Each empties the queue of errors
 * that OpenSSL keeps for each thread. */
#ifndef TWS_NET_TLS_ERROR_H
#define TWS_NET_TLS_ERROR_H

#include "protocol/status.h"

#include <openssl/ssl.h>

/* "what: what OpenSSL says". TWS_TLS, or TWS_NOMEM where that was the cause.
 */
enum tws_status tws_tls_error_queue(struct tws_error *err, const char *what);

/* A handshake, or what came after it, has failed. `head` are the first bytes
 * that came from the peer. TWS_REFUSED with http_status 400 where a server
 * got a request in plain HTTP; TWS_NOMEM; else TWS_TLS. */
enum tws_status tws_tls_error_peer(struct tws_error *err, enum tws_role role,
                                   const uint8_t *head, size_t head_length);

/* What OpenSSL has just found wrong with the peer's certificate, or one above
 * it. `host` is whom it should be for, or NULL. */
enum tws_status tws_tls_error_certificate(struct tws_error *err,
                                          X509_STORE_CTX *store,
                                          const char *host);

#endif /* TWS_NET_TLS_ERROR_H */
