#include "net/tls_certificate.h"

#include "protocol/utf8.h"

#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>

/* What ends the text is not its first NUL but its length, and there is none
 * inside: OpenSSL escapes control bytes. */
static char *
utf8_copy(const char *data, size_t length)
{
    char *text = malloc(length + 1);
    if (text == NULL) {
        return NULL;
    }
    if (length > 0) {
        memcpy(text, data, length);
    }
    text[length] = '\0';
    if (!tws_utf8_valid((const uint8_t *)text, length)
        || memchr(text, '\0', length) != NULL) {
        for (size_t i = 0; i < length; i++) {
            if (text[i] < 0x20 || text[i] >= 0x7f) {
                text[i] = '?';
            }
        }
    }
    return text;
}

/* RFC 2253, but characters outside ASCII as they are. */
static char *
name_text(const X509_NAME *name)
{
    const unsigned long flags =
        XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
    char *text = NULL;
    char *data = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL) {
        return NULL;
    }
    int printed = X509_NAME_print_ex(bio, name, 0, flags);
    long length = BIO_get_mem_data(bio, &data);
    /* An empty name prints nothing; one that OpenSSL can't print counts as
     * that. */
    text = utf8_copy(data, printed < 0 || length < 0 ? 0 : (size_t)length);
    BIO_free(bio);
    return text;
}

static char *
serial_text(X509 *x509)
{
    char *text = NULL;
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x509), NULL);
    if (number == NULL) {
        return NULL;
    }
    char *digits = BN_bn2hex(number);
    if (digits != NULL) {
        text = strdup(digits);
    }
    OPENSSL_free(digits);
    BN_free(number);
    return text;
}

/* False: it is no time. */
static bool
seconds_since_epoch(const ASN1_TIME *epoch, const ASN1_TIME *time,
                    int64_t *seconds)
{
    int days = 0;
    int rest = 0;
    if (ASN1_TIME_diff(&days, &rest, epoch, time) != 1) {
        return false;
    }
    *seconds = (int64_t)days * 86400 + rest;
    return true;
}

/* A byte that is not printable is shown as "\x00", so that what is behind it
 * can't hide. */
static char *
escaped(const unsigned char *data, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    char *text = malloc(length * 4 + 1);
    if (text == NULL) {
        return NULL;
    }
    char *end = text;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = data[i];
        if (byte > 0x20 && byte < 0x7f && byte != '\\') {
            *end++ = (char)byte;
        }
        else {
            *end++ = '\\';
            *end++ = 'x';
            *end++ = digits[byte >> 4];
            *end++ = digits[byte & 0xf];
        }
    }
    *end = '\0';
    return text;
}

static char *
address_text(const ASN1_OCTET_STRING *address)
{
    char text[INET6_ADDRSTRLEN];
    const unsigned char *data = ASN1_STRING_get0_data(address);
    int length = ASN1_STRING_length(address);
    int family = length == 4 ? AF_INET : AF_INET6;
    if (length != 4 && length != 16) {
        return escaped(data, length < 0 ? 0 : (size_t)length);
    }
    if (inet_ntop(family, data, text, sizeof(text)) == NULL) {
        return NULL;
    }
    return strdup(text);
}

/* False: one of a type that is not shown. `name->text` is NULL where memory
 * runs out. */
static bool
read_name(const GENERAL_NAME *general, struct tws_certificate_name *name)
{
    switch (general->type) {
    case GEN_DNS:
        name->type = TWS_NAME_DNS;
        break;
    case GEN_EMAIL:
        name->type = TWS_NAME_EMAIL;
        break;
    case GEN_URI:
        name->type = TWS_NAME_URI;
        break;
    case GEN_IPADD:
        name->type = TWS_NAME_IP;
        name->text = address_text(general->d.iPAddress);
        return true;
    default:
        return false;
    }
    const ASN1_IA5STRING *text = general->d.ia5;
    int length = ASN1_STRING_length(text);
    name->text =
        escaped(ASN1_STRING_get0_data(text), length < 0 ? 0 : (size_t)length);
    return true;
}

static bool
read_names(X509 *x509, struct tws_certificate *certificate)
{
    bool ok = true;
    GENERAL_NAMES *names =
        X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
    int count = names == NULL ? 0 : sk_GENERAL_NAME_num(names);
    if (count > 0) {
        certificate->names =
            calloc((size_t)count, sizeof(*certificate->names));
        ok = certificate->names != NULL;
    }
    for (int i = 0; ok && i < count; i++) {
        struct tws_certificate_name *name =
            &certificate->names[certificate->name_count];
        if (read_name(sk_GENERAL_NAME_value(names, i), name)) {
            ok = name->text != NULL;
            certificate->name_count += ok;
        }
    }
    GENERAL_NAMES_free(names);
    return ok;
}

enum tws_status
tws_certificate_read(X509 *x509, struct tws_certificate *certificate,
                     struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    *certificate = (struct tws_certificate){0};
    certificate->subject = name_text(X509_get_subject_name(x509));
    certificate->issuer = name_text(X509_get_issuer_name(x509));
    certificate->serial = serial_text(x509);
    if (epoch == NULL || certificate->subject == NULL
        || certificate->issuer == NULL || certificate->serial == NULL
        || !read_names(x509, certificate)) {
        status = tws_error_nomem(err);
    }
    else if (!seconds_since_epoch(epoch, X509_get0_notBefore(x509),
                                  &certificate->not_before)
             || !seconds_since_epoch(epoch, X509_get0_notAfter(x509),
                                     &certificate->not_after)) {
        status = tws_error_tls(err, "certificate: notBefore or notAfter is "
                                    "not a time");
    }
    if (status != TWS_OK) {
        tws_certificate_release(certificate);
    }
    ASN1_TIME_free(epoch);
    /* Extensions that are damaged leave errors behind. */
    ERR_clear_error();
    return status;
}

enum tws_status
tws_certificate_parse(const uint8_t *der, size_t length,
                      struct tws_certificate *certificate,
                      struct tws_error *err)
{
    const unsigned char *end = der;
    X509 *x509 = NULL;
    enum tws_status status;
    *certificate = (struct tws_certificate){0};
    ERR_clear_error();
    if (length <= LONG_MAX) {
        x509 = d2i_X509(NULL, &end, (long)length);
    }
    if (x509 == NULL || end != der + length) {
        status = tws_error_tls(
            err, "%zu bytes that are not one certificate (DER)", length);
    }
    else {
        status = tws_certificate_read(x509, certificate, err);
    }
    X509_free(x509);
    ERR_clear_error();
    return status;
}

void
tws_certificate_release(struct tws_certificate *certificate)
{
    for (size_t i = 0; i < certificate->name_count; i++) {
        free(certificate->names[i].text);
    }
    free(certificate->names);
    free(certificate->subject);
    free(certificate->issuer);
    free(certificate->serial);
    *certificate = (struct tws_certificate){0};
}
