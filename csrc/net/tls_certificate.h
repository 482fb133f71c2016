/* What a certificate says (RFC 5280), as text. Reads what a peer has sent:
 * nothing in it is believed. */
#ifndef TWS_NET_TLS_CERTIFICATE_H
#define TWS_NET_TLS_CERTIFICATE_H

#include "protocol/status.h"

struct x509_st;

enum tws_certificate_name_type {
    TWS_NAME_DNS,
    TWS_NAME_IP, /* "192.0.2.1", "2001:db8::1" */
    TWS_NAME_EMAIL,
    TWS_NAME_URI,
};

struct tws_certificate_name {
    enum tws_certificate_name_type type;
    char *text; /* owned; printable ASCII, other bytes as "\x00" */
};

struct tws_certificate {
    /* Owned, valid UTF-8; as in RFC 2253: "CN=example.org,O=Example". */
    char *subject;
    char *issuer;
    char *serial; /* owned; hexadecimal digits in upper case, perhaps with a
                   * sign */
    /* Seconds since 1970-01-01 00:00 UTC; both ends are included. */
    int64_t not_before;
    int64_t not_after;
    /* Owned; its alternative names (RFC 5280 §4.2.1.6) of the types above,
     * in its order. */
    struct tws_certificate_name *names;
    size_t name_count;
};

/* TWS_TLS: it is no certificate; TWS_NOMEM. On failure *certificate is
 * empty. */
enum tws_status tws_certificate_parse(const uint8_t *der, size_t length,
                                      struct tws_certificate *certificate,
                                      struct tws_error *err);
/* The same of one that OpenSSL has parsed. */
enum tws_status tws_certificate_read(struct x509_st *x509,
                                     struct tws_certificate *certificate,
                                     struct tws_error *err);
/* An empty (zeroed) one is allowed, too. */
void tws_certificate_release(struct tws_certificate *certificate);

#endif /* TWS_NET_TLS_CERTIFICATE_H */
