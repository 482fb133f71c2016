/* The authorities that the platform trusts, wherever it keeps them.
 *
 * OpenSSL looks where it was built to look. A copy that came in a package
 * with us was built for another system than it runs on, and finds nothing
 * there; then the places are tried where systems usually have them. */
#ifndef TWS_NET_TLS_PLATFORM_H
#define TWS_NET_TLS_PLATFORM_H

#include "protocol/status.h"

#include <openssl/ssl.h>

/* PEM files, and directories with a file for each authority, which is found
 * by the hash in its name. Lists end with NULL. */
struct tws_tls_places {
    const char *built_in_file;
    const char *built_in_directory;
    const char *const *directories;
    const char *const *files;
};

/* Those of OpenSSL, and what systems usually have. Valid for ever. */
struct tws_tls_places tws_tls_usual_places(void);

/* Trusts them: of SSL_CERT_FILE and SSL_CERT_DIR and nothing else where one
 * of them is set, else of the built-in places, else of the first in the lists
 * that has any. That there are none is no error, but no peer is trusted then.
 * TWS_TLS. */
enum tws_status tws_tls_trust_platform(SSL_CTX *ssl_context,
                                       const struct tws_tls_places *places,
                                       struct tws_error *err);

#endif /* TWS_NET_TLS_PLATFORM_H */
