/* Certificates, keys and authorities from files, into an SSL_CTX. */
#ifndef TWS_NET_TLS_FILES_H
#define TWS_NET_TLS_FILES_H

#include "net/tls_context.h"

#include <openssl/ssl.h>

/* The chain and the key. TWS_OS with the file's name; TWS_TLS; TWS_NOMEM. */
enum tws_status tws_tls_load_identity(SSL_CTX *ssl_context,
                                      const struct tws_tls_identity *identity,
                                      struct tws_error *err);

/* Adds the authorities to whom the SSL_CTX trusts: those of the file and the
 * directory, or where both are NULL the platform's own. The names of those
 * in the file go to *names (NULL: not wanted), which is a new reference. */
enum tws_status tws_tls_load_authorities(SSL_CTX *ssl_context,
                                         const char *cafile,
                                         const char *capath,
                                         STACK_OF(X509_NAME) * *names,
                                         struct tws_error *err);

#endif /* TWS_NET_TLS_FILES_H */
