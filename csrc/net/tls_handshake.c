#include "net/tls_error.h"
#include "net/tls_parts.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>

static bool
is_address(const char *text)
{
    struct in6_addr address;
    return inet_pton(AF_INET, text, &address) == 1
           || inet_pton(AF_INET6, text, &address) == 1;
}

/* Without a dot at its end, and an address without its zone. NULL: out of
 * memory. */
static char *
bare_host(const char *host)
{
    char *bare = strdup(host);
    if (bare == NULL) {
        return NULL;
    }
    char *zone = strchr(bare, '%');
    if (zone != NULL) {
        *zone = '\0';
        if (!is_address(bare)) {
            *zone = '%';
        }
    }
    size_t length = strlen(bare);
    if (length > 1 && bare[length - 1] == '.') {
        bare[length - 1] = '\0';
    }
    return bare;
}

enum tws_status
tws_tls_expect_host_lock_held(struct tws_tls *tls, const char *host,
                              struct tws_error *err)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);
    if (host == NULL || host[0] == '\0') {
        return tls->context->verify
                   ? tws_error_tls(err, "no host is given that the "
                                        "certificate should be for")
                   : TWS_OK;
    }
    if (host[0] == '.') {
        /* OpenSSL would take any name below it. */
        return tws_error_tls(err, "host name that begins with a dot: %s",
                             host);
    }
    tls->host = bare_host(host);
    if (tls->host == NULL) {
        return tws_error_nomem(err);
    }
    if (is_address(tls->host)) {
        /* RFC 6066 §3: an address is not sent as a name. */
        if (tls->context->verify
            && X509_VERIFY_PARAM_set1_ip_asc(param, tls->host) != 1) {
            return tws_tls_error_queue(err, "host");
        }
        return TWS_OK;
    }
    if (SSL_set_tlsext_host_name(tls->ssl, tls->host) != 1) {
        ERR_clear_error();
        return tws_error_tls(err,
                             "host name of %zu bytes, expected at most "
                             "255",
                             strlen(tls->host));
    }
    if (tls->context->verify) {
        /* RFC 9525 §6.3 and §2: "f*.example.org" is no wildcard, and the
         * subject's common name is not a host. */
        X509_VERIFY_PARAM_set_hostflags(
            param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS
                       | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
        if (X509_VERIFY_PARAM_set1_host(param, tls->host, 0) != 1) {
            return tws_tls_error_queue(err, "host");
        }
    }
    return TWS_OK;
}

enum tws_status
tws_tls_fail_lock_held(struct tws_tls *tls, struct tws_error *err)
{
    struct tws_error ignored;
    bool queued = ERR_peek_error() != 0;
    if (tls->error.status == TWS_OK && tls->eof && !queued) {
        return TWS_EOF;
    }
    if (tls->error.status == TWS_OK) {
        (void)tws_tls_error_peer(&tls->error, tls->context->role, tls->head,
                                 tls->head_length);
    }
    ERR_clear_error();
    if (tls->error.status == TWS_REFUSED) {
        /* It would not understand the alert. */
        tws_buffer_release(&tls->out);
    }
    if (!tls->secured && tls->session_key != NULL) {
        /* The next connection does not try the same session again. */
        tws_tls_session_cache_forget(&tls->context->sessions,
                                     tls->session_key);
    }
    (void)tws_tls_flush_lock_held(tls, &ignored);
    *err = tls->error;
    return err->status;
}

static enum tws_status
advance(struct tws_tls *tls, struct tws_error *err)
{
    /* What a handshake may hold is bounded by OpenSSL. */
    tws_tls_begin_lock_held(tls, SIZE_MAX);
    ERR_clear_error();
    int done = SSL_do_handshake(tls->ssl);
    if (done == 1) {
        tls->shaken = true;
        return TWS_OK;
    }
    if (SSL_get_error(tls->ssl, done) == SSL_ERROR_WANT_READ) {
        return TWS_AGAIN;
    }
    return tws_tls_fail_lock_held(tls, err);
}

static void
finish(struct tws_tls *tls)
{
    tls->secured = true;
    tls->barren = 0;
    free(tls->host);
    tls->host = NULL;
    /* The peer's first bytes may have come with its last of the handshake. */
    tls->more = SSL_has_pending(tls->ssl) == 1 || tws_pending(&tls->inner);
}

enum tws_status
tws_tls_shake_lock_held(struct tws_tls *tls, unsigned *events,
                        struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    tws_tls_begin_lock_held(tls, 0);
    if (!tls->shaken) {
        status = advance(tls, err);
        if (status != TWS_OK && status != TWS_AGAIN) {
            return status;
        }
    }
    enum tws_status flushed = tws_tls_flush_lock_held(tls, err);
    if (flushed == TWS_OK) {
        if (tls->shaken) {
            finish(tls);
            return TWS_OK;
        }
        *events = TWS_WAIT_READ;
        return TWS_AGAIN;
    }
    if (flushed == TWS_AGAIN) {
        /* Reading goes on meanwhile: the peer may wait for that. */
        *events = TWS_WAIT_WRITE | (tls->shaken ? 0 : TWS_WAIT_READ);
        return TWS_AGAIN;
    }
    /* The peer has closed; what it said before tells more. */
    if (!tls->shaken) {
        struct tws_error other;
        status = advance(tls, &other);
        if (status == TWS_TLS || status == TWS_REFUSED) {
            *err = other;
            return status;
        }
    }
    return flushed;
}
