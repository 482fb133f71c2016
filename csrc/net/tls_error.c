#include "net/tls_error.h"

#include "net/tls_certificate.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <ctype.h>
#include <stdio.h>

/* What is told of a peer's text, so that all of a reason fits. */
enum { NAME_SHOWN = 48, NAMES_SHOWN = 80 };

/* ------------------------------------------------------------ the queue */

static const char *
reason_of(unsigned long code)
{
    /* Of a system error there is no text in OpenSSL 3. */
    const char *reason = ERR_reason_error_string(code);
    return reason == NULL ? "no reason given" : reason;
}

enum tws_status
tws_tls_error_queue(struct tws_error *err, const char *what)
{
    /* The first one is the cause; those behind it say who passed it on. */
    unsigned long code = ERR_peek_error();
    ERR_clear_error();
    if (code != 0 && ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
        return tws_error_nomem(err);
    }
    return tws_error_tls(err, "%s: %s", what, reason_of(code));
}

/* ----------------------------------------------- what comes from a peer */

/* Alerts whose name alone helps nobody (RFC 8446 §6.2). */
static const struct {
    int alert;
    const char *meaning;
} alerts[] = {
    {40, "handshake failure (no cipher in common, or it wants a certificate)"},
    {42, "bad certificate"},
    {43, "unsupported certificate"},
    {44, "certificate revoked"},
    {45, "certificate expired"},
    {46, "certificate not accepted"},
    {48, "unknown CA (it does not trust who issued our certificate)"},
    {49, "access denied"},
    {70, "protocol version (it speaks none of our TLS versions)"},
    {71, "insufficient security"},
    {80, "internal error"},
    {112, "unrecognized name (it does not serve this host)"},
    {116, "certificate required"},
    {120, "no application protocol (ALPN) in common"},
};

static enum tws_status
peer_refused(struct tws_error *err, int alert)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(alerts); i++) {
        if (alerts[i].alert == alert) {
            return tws_error_tls(err, "the peer refused: %s",
                                 alerts[i].meaning);
        }
    }
    return tws_error_tls(err, "the peer refused: %s (alert %d)",
                         SSL_alert_desc_string_long(alert), alert);
}

static bool
begins(const uint8_t *head, size_t length, const char *with)
{
    size_t expected = strlen(with);
    return length >= expected && memcmp(head, with, expected) == 0;
}

static bool
is_http_request(const uint8_t *head, size_t length)
{
    static const char *const methods[] = {
        "GET ",     "HEAD ",  "POST ",    "PUT ",   "DELETE ",
        "OPTIONS ", "TRACE ", "CONNECT ", "PATCH ", "GET\t"};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(methods); i++) {
        if (begins(head, length, methods[i])) {
            return true;
        }
    }
    return false;
}

/* The first record of a peer is a handshake or an alert, of version 3.x
 * (RFC 8446 §5.1). */
static bool
is_tls(const uint8_t *head, size_t length)
{
    return length < 2 || ((head[0] == 22 || head[0] == 21) && head[1] == 3);
}

static enum tws_status
not_tls(struct tws_error *err, enum tws_role role, const uint8_t *head,
        size_t length)
{
    char text[3 * 8 + 1] = "";
    if (role == TWS_SERVER && is_http_request(head, length)) {
        return tws_error_refused(err, 400,
                                 "this port speaks TLS, but the request came "
                                 "in plain HTTP: use https:// or wss://");
    }
    if (role == TWS_CLIENT && begins(head, length, "HTTP/")) {
        return tws_error_tls(err, "the server answered in plain HTTP, not in "
                                  "TLS: use ws://, or its port for TLS");
    }
    for (size_t i = 0; i < length && i < 8; i++) {
        (void)snprintf(text + 3 * i, 4, " %02x", head[i]);
    }
    return tws_error_tls(err, "the peer does not speak TLS: it began with%s",
                         text);
}

static enum tws_status
explain_reason(struct tws_error *err, enum tws_role role, unsigned long code)
{
    int reason = ERR_GET_REASON(code);
    if (reason > SSL_AD_REASON_OFFSET
        && reason <= SSL_AD_REASON_OFFSET + 255) {
        return peer_refused(err, reason - SSL_AD_REASON_OFFSET);
    }
    switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return tws_error_tls(
            err, "the client sent no certificate, but one is required");
    case SSL_R_NO_SHARED_CIPHER:
        return tws_error_tls(err, "no cipher in common with the peer");
    case SSL_R_NO_APPLICATION_PROTOCOL:
        return tws_error_tls(err, "no application protocol (ALPN) in common "
                                  "with the peer");
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_UNKNOWN_SSL_VERSION:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_VERSION_TOO_HIGH:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_BAD_PROTOCOL_VERSION_NUMBER:
        return tws_error_tls(err, "no TLS version in common with the peer "
                                  "(see minimum_version)");
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
        return tws_error_tls(err, "a record was damaged or forged");
    default:
        return tws_error_tls(err, "TLS with the %s failed: %s",
                             role == TWS_SERVER ? "client" : "server",
                             reason_of(code));
    }
}

enum tws_status
tws_tls_error_peer(struct tws_error *err, enum tws_role role,
                   const uint8_t *head, size_t head_length)
{
    unsigned long code = ERR_peek_error();
    ERR_clear_error();
    if (code != 0 && ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
        return tws_error_nomem(err);
    }
    if (!is_tls(head, head_length)) {
        return not_tls(err, role, head, head_length);
    }
    if (code != 0 && ERR_GET_LIB(code) == ERR_LIB_SSL) {
        return explain_reason(err, role, code);
    }
    return tws_error_tls(err, "TLS with the %s failed: %s",
                         role == TWS_SERVER ? "client" : "server",
                         reason_of(code));
}

/* --------------------------------------------------------- certificates */

static void
add_text(char *text, size_t size, const char *more)
{
    size_t length = strlen(text);
    (void)snprintf(text + length, size - length, "%s", more);
}

/* What the certificate is for: names and addresses. */
static void
list_names(const struct tws_certificate *certificate, char text[static 1],
           size_t size)
{
    text[0] = '\0';
    for (size_t i = 0; i < certificate->name_count; i++) {
        const struct tws_certificate_name *name = &certificate->names[i];
        if (name->type != TWS_NAME_DNS && name->type != TWS_NAME_IP) {
            continue;
        }
        if (text[0] != '\0') {
            add_text(text, size, ", ");
        }
        /* Room for ", ..." stays. */
        if (strlen(text) + strlen(name->text) + 6 > size) {
            add_text(text, size, "...");
            return;
        }
        add_text(text, size, name->text);
    }
}

/* One name that tells it from others. */
static void
short_name(const struct tws_certificate *certificate, char text[static 1],
           size_t size)
{
    const char *name = certificate->subject;
    for (size_t i = certificate->name_count; i > 0; i--) {
        if (certificate->names[i - 1].type == TWS_NAME_DNS
            || certificate->names[i - 1].type == TWS_NAME_IP) {
            name = certificate->names[i - 1].text;
        }
    }
    if (name == NULL || name[0] == '\0') {
        name = "(no name)";
    }
    (void)snprintf(text, size, "%s", name);
}

static const char *
day_of(const ASN1_TIME *time, char text[static 40], size_t size)
{
    struct tm tm;
    if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1) {
        return "?";
    }
    (void)snprintf(text, size, "%04d-%02d-%02d", tm.tm_year + 1900,
                   tm.tm_mon + 1, tm.tm_mday);
    return text;
}

static enum tws_status
wrong_host(struct tws_error *err, const struct tws_certificate *certificate,
           const char *host)
{
    char names[NAMES_SHOWN + 1];
    list_names(certificate, names, sizeof(names));
    if (names[0] == '\0') {
        /* RFC 9525 §2: the subject does not name a host. */
        return tws_error_tls(err,
                             "certificate of %.*s names no host "
                             "(subjectAltName), expected %.*s",
                             NAME_SHOWN, certificate->subject, NAME_SHOWN,
                             host);
    }
    return tws_error_tls(err, "certificate is for %s, expected %.*s", names,
                         NAME_SHOWN, host);
}

static enum tws_status
untrusted(struct tws_error *err, int code, const char *who,
          const struct tws_certificate *certificate)
{
    if (code == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT) {
        return tws_error_tls(err,
                             "certificate of %s: self-signed, and not one "
                             "that is trusted (cafile names those that are)",
                             who);
    }
    if (code == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN) {
        return tws_error_tls(err,
                             "certificate of the unknown authority %s: not "
                             "one that is trusted",
                             who);
    }
    return tws_error_tls(err,
                         "certificate of %s: issued by the unknown authority "
                         "%.*s, or a certificate between is missing",
                         who, NAME_SHOWN, certificate->issuer);
}

static enum tws_status
explain_certificate(struct tws_error *err, int code, X509 *x509,
                    const struct tws_certificate *certificate,
                    const char *host)
{
    char who[NAME_SHOWN + 1];
    char day[40];
    short_name(certificate, who, sizeof(who));
    switch (code) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return wrong_host(err, certificate, host == NULL ? "?" : host);
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return tws_error_tls(
            err, "certificate of %s: expired (notAfter %s)", who,
            day_of(X509_get0_notAfter(x509), day, sizeof(day)));
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return tws_error_tls(
            err,
            "certificate of %s: not valid yet (notBefore %s; is the clock "
            "right?)",
            who, day_of(X509_get0_notBefore(x509), day, sizeof(day)));
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return untrusted(err, code, who, certificate);
    case X509_V_ERR_INVALID_PURPOSE:
        return tws_error_tls(err,
                             "certificate of %s: made for another purpose "
                             "(extended key usage)",
                             who);
    default:
        return tws_error_tls(err, "certificate of %s: %s", who,
                             X509_verify_cert_error_string(code));
    }
}

enum tws_status
tws_tls_error_certificate(struct tws_error *err, X509_STORE_CTX *store,
                          const char *host)
{
    int code = X509_STORE_CTX_get_error(store);
    X509 *x509 = X509_STORE_CTX_get_current_cert(store);
    struct tws_certificate certificate;
    enum tws_status status;
    if (x509 == NULL) {
        x509 = X509_STORE_CTX_get0_cert(store);
    }
    if (x509 == NULL) {
        return tws_error_tls(err, "certificate: %s",
                             X509_verify_cert_error_string(code));
    }
    status = tws_certificate_read(x509, &certificate, err);
    if (status == TWS_OK) {
        status = explain_certificate(err, code, x509, &certificate, host);
        tws_certificate_release(&certificate);
    }
    return status;
}
