#include "net/tls_parts.h"

#include <openssl/x509.h>

#include <stdlib.h>

void
tws_tls_read_info(struct tws_tls *tls, struct tws_tls_info *info)
{
    const unsigned char *alpn = NULL;
    unsigned alpn_length = 0;
    pthread_mutex_lock(&tls->lock);
    const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
    SSL_get0_alpn_selected(tls->ssl, &alpn, &alpn_length);
    *info = (struct tws_tls_info){
        .version = SSL_get_version(tls->ssl),
        .cipher = cipher == NULL ? "" : SSL_CIPHER_get_name(cipher),
        .bits = cipher == NULL ? 0 : SSL_CIPHER_get_bits(cipher, NULL),
        .resumed = SSL_session_reused(tls->ssl) == 1,
        .alpn = {.data = (const char *)alpn, .length = alpn_length},
    };
    pthread_mutex_unlock(&tls->lock);
}

/* With the lock held. */
static enum tws_status
copy_der(X509 *x509, uint8_t **der, size_t *length, struct tws_error *err)
{
    int size = i2d_X509(x509, NULL);
    if (size <= 0) {
        return tws_error_nomem(err);
    }
    uint8_t *copy = malloc((size_t)size);
    if (copy == NULL) {
        return tws_error_nomem(err);
    }
    unsigned char *end = copy;
    (void)i2d_X509(x509, &end);
    *der = copy;
    *length = (size_t)size;
    return TWS_OK;
}

enum tws_status
tws_tls_peer_certificate(struct tws_tls *tls, uint8_t **der, size_t *length,
                         struct tws_error *err)
{
    enum tws_status status = TWS_EOF;
    pthread_mutex_lock(&tls->lock);
    X509 *x509 = SSL_get0_peer_certificate(tls->ssl); /* borrowed */
    if (x509 != NULL) {
        status = copy_der(x509, der, length, err);
    }
    pthread_mutex_unlock(&tls->lock);
    return status;
}
