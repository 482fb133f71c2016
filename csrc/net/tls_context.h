/* What TLS connections share: certificates, trust, ciphers, tickets. Made
 * once for any number of connections, never changed then but for the
 * sessions it remembers, and safe for any number of threads. */
#ifndef TWS_NET_TLS_CONTEXT_H
#define TWS_NET_TLS_CONTEXT_H

#include "protocol/status.h"

struct tws_tls_context;

/* A certificate chain (PEM, the own one first) and its private key. */
struct tws_tls_identity {
    const char *name; /* a server's: the host name (SNI, RFC 6066 §3) that
                       * it is for, "*.example.org" allowed; NULL: where
                       * no other fits */
    const char *certfile;
    const char *keyfile;  /* NULL: in certfile */
    const char *password; /* of the key; NULL: it has none */
};

/* All borrowed, for the call only. NULL and 0 leave a default. */
struct tws_tls_options {
    enum tws_role role;
    const struct tws_tls_identity *identities; /* a server needs one; the one
                                                * without a name is a
                                                * client's */
    size_t identity_count;
    bool verify;         /* the peer needs a certificate that is trusted; and,
                          * of a server, is for the host asked for */
    const char *cafile;  /* PEM file of trusted authorities */
    const char *capath;  /* directory of them; neither: the platform's own */
    const char *ciphers; /* of TLS 1.2, as `openssl ciphers` takes them */
    uint16_t minimum_version; /* 0x0303: TLS 1.2 (default), 0x0304: 1.3 */
    struct tws_span alpn;     /* protocols in wire form (RFC 7301 §3.1) */
};

/* TWS_TLS with a reason that names the file or value; TWS_NOMEM; TWS_OS where
 * a file can't be opened. `previous` (NULL: none; a server's): its session
 * tickets stay good, where the same clients are trusted. One reference. */
enum tws_status tws_tls_context_new(const struct tws_tls_options *options,
                                    struct tws_tls_context *previous,
                                    struct tws_tls_context **context,
                                    struct tws_error *err);
struct tws_tls_context *
tws_tls_context_retain(struct tws_tls_context *context);
void tws_tls_context_release(struct tws_tls_context *context); /* NULL too */

#endif /* TWS_NET_TLS_CONTEXT_H */
