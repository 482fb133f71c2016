#include "net/tls_certificate.h"

#include "certificates.h"
#include "guard.h"

#include <openssl/err.h>
#include <time.h>

static struct tws_certificate parsed;
static struct tws_error err;

/* DER, in memory that ends where it ends. */
static struct guard
der_of(const struct certificate *certificate)
{
    unsigned char *der = NULL;
    int length = i2d_X509(certificate->x509, &der);
    MUST(length > 0);
    struct guard guard = guard_copy(der, (size_t)length);
    OPENSSL_free(der);
    return guard;
}

static size_t
length_of(const struct guard *guard)
{
    return (size_t)(guard->pages + guard->size - (size_t)sysconf(_SC_PAGESIZE)
                    - guard->data);
}

static enum tws_status
parse(const struct certificate *certificate)
{
    struct guard der = der_of(certificate);
    enum tws_status status =
        tws_certificate_parse(der.data, length_of(&der), &parsed, &err);
    guard_free(&der);
    CHECK_INT(ERR_peek_error(), 0);
    return status;
}

static void
check_name(size_t index, enum tws_certificate_name_type type, const char *text)
{
    CHECK(index < parsed.name_count);
    if (index < parsed.name_count) {
        CHECK_INT(parsed.names[index].type, type);
        CHECK(strcmp(parsed.names[index].text, text) == 0);
    }
}

TEST(says_what_is_in_it)
{
    certificates_begin();
    time_t now = time(NULL);
    struct certificate made = make_certificate(
        &(struct recipe){.common_name = "a, b",
                         .names = "DNS:a.test,DNS:*.b.test,IP:192.0.2.1,"
                                  "IP:2001:db8::1,email:me@a.test,"
                                  "URI:https://a.test/x,RID:1.2.3.4",
                         .from = -100,
                         .until = 200},
        &authority);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(made.x509), 0xABCDEF);
    CHECK_INT(parse(&made), TWS_OK);
    CHECK(strcmp(parsed.subject, "CN=a\\, b") == 0);
    CHECK(strcmp(parsed.issuer, "CN=Test CA") == 0);
    CHECK(strcmp(parsed.serial, "ABCDEF") == 0);
    CHECK(parsed.not_before >= now - 100 && parsed.not_before < now - 40);
    CHECK(parsed.not_after >= now + 200 && parsed.not_after < now + 260);
    CHECK_INT(parsed.not_after - parsed.not_before, 300);
    CHECK_INT(parsed.name_count, 6);
    check_name(0, TWS_NAME_DNS, "a.test");
    check_name(1, TWS_NAME_DNS, "*.b.test");
    check_name(2, TWS_NAME_IP, "192.0.2.1");
    check_name(3, TWS_NAME_IP, "2001:db8::1");
    check_name(4, TWS_NAME_EMAIL, "me@a.test");
    check_name(5, TWS_NAME_URI, "https://a.test/x");
    tws_certificate_release(&parsed);
    CHECK_INT(parsed.name_count, 0);
    tws_certificate_release(&parsed);
    free_certificate(&made);
}

/* A name of any bytes, added behind what is there. */
static void
add_any_name(GENERAL_NAMES *names, int type, const void *data, int length)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *text = ASN1_STRING_type_new(
        type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
    MUST(name != NULL && text != NULL);
    MUST(ASN1_STRING_set(text, data, length) == 1);
    GENERAL_NAME_set0_value(name, type, text);
    MUST(sk_GENERAL_NAME_push(names, name) > 0);
}

static void
sign(struct certificate *certificate)
{
    MUST(X509_sign(certificate->x509, certificate->key, EVP_sha256()) > 0);
}

TEST(odd_bytes_in_names_are_shown)
{
    struct certificate made = make_certificate(&(struct recipe){0}, NULL);
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    add_any_name(names, GEN_DNS, "good.test\0.evil.test", 20);
    add_any_name(names, GEN_DNS, "a b\\\x7f\xff", 6);
    add_any_name(names, GEN_DNS, "", 0);
    add_any_name(names, GEN_IPADD, "\1\2\3\4\5", 5);
    add_any_name(names, GEN_IPADD, "", 0);
    MUST(X509_add1_ext_i2d(made.x509, NID_subject_alt_name, names, 0, 0) == 1);
    sign(&made);
    CHECK_INT(parse(&made), TWS_OK);
    CHECK(strcmp(parsed.subject, "") == 0);
    CHECK_INT(parsed.name_count, 5);
    check_name(0, TWS_NAME_DNS, "good.test\\x00.evil.test");
    check_name(1, TWS_NAME_DNS, "a\\x20b\\x5c\\x7f\\xff");
    check_name(2, TWS_NAME_DNS, "");
    check_name(3, TWS_NAME_IP, "\\x01\\x02\\x03\\x04\\x05");
    check_name(4, TWS_NAME_IP, "");
    tws_certificate_release(&parsed);
    GENERAL_NAMES_free(names);
    free_certificate(&made);
}

static void
check_subject(int type, const void *data, int length, const char *expected)
{
    struct certificate made = make_certificate(&(struct recipe){0}, NULL);
    MUST(X509_NAME_add_entry_by_txt(X509_get_subject_name(made.x509), "CN",
                                    type, data, length, -1, 0)
         == 1);
    sign(&made);
    CHECK_INT(parse(&made), TWS_OK);
    if (parsed.subject == NULL || strcmp(parsed.subject, expected) != 0) {
        fprintf(stderr, "subject is \"%s\"\n", parsed.subject);
        CHECK(false);
    }
    tws_certificate_release(&parsed);
    free_certificate(&made);
}

TEST(the_subject_is_utf_8_without_control_bytes)
{
    check_subject(MBSTRING_UTF8, "Jos\xc3\xa9", 5, "CN=Jos\xc3\xa9");
    check_subject(V_ASN1_T61STRING, "Jos\xe9", 4, "CN=Jos\xc3\xa9");
    check_subject(V_ASN1_BMPSTRING, "\0J\x04\x34", 4, "CN=J\xd0\xb4");
    check_subject(V_ASN1_UTF8STRING, "a\0b\n\x1b[1m", 8,
                  "CN=a\\00b\\0A\\1B[1m");
    check_subject(V_ASN1_IA5STRING, "a\xff", 2, "CN=a\xc3\xbf");
}

TEST(times_may_be_far_away)
{
    struct certificate made = make_certificate(&(struct recipe){0}, NULL);
    MUST(ASN1_TIME_set_string(X509_getm_notBefore(made.x509), "500101000000Z")
         == 1);
    MUST(ASN1_TIME_set_string(X509_getm_notAfter(made.x509), "99991231235959Z")
         == 1);
    sign(&made);
    CHECK_INT(parse(&made), TWS_OK);
    CHECK_INT(parsed.not_before, -631152000);
    CHECK_INT(parsed.not_after, 253402300799);
    tws_certificate_release(&parsed);
    free_certificate(&made);
}

TEST(a_serial_number_may_be_negative)
{
    struct certificate made = make_certificate(&(struct recipe){0}, NULL);
    MUST(ASN1_INTEGER_set_int64(X509_get_serialNumber(made.x509), -255) == 1);
    sign(&made);
    CHECK_INT(parse(&made), TWS_OK);
    CHECK(strcmp(parsed.serial, "-FF") == 0);
    tws_certificate_release(&parsed);
    free_certificate(&made);
}

TEST(many_names)
{
    struct certificate made = make_certificate(&(struct recipe){0}, NULL);
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    int count = 20000 / (int)harness_step(100);
    for (int i = 0; i < count; i++) {
        add_any_name(names, GEN_DNS, "a", 1);
    }
    MUST(X509_add1_ext_i2d(made.x509, NID_subject_alt_name, names, 0, 0) == 1);
    sign(&made);
    CHECK_INT(parse(&made), TWS_OK);
    CHECK_INT(parsed.name_count, count);
    check_name((size_t)count - 1, TWS_NAME_DNS, "a");
    tws_certificate_release(&parsed);
    GENERAL_NAMES_free(names);
    free_certificate(&made);
}

TEST(damaged_names_are_none)
{
    struct certificate made = make_certificate(&(struct recipe){0}, NULL);
    ASN1_OCTET_STRING *garbage = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension;
    MUST(ASN1_OCTET_STRING_set(garbage, (const unsigned char *)"\x30\x82x", 3)
         == 1);
    extension =
        X509_EXTENSION_create_by_NID(NULL, NID_subject_alt_name, 0, garbage);
    MUST(X509_add_ext(made.x509, extension, -1) == 1);
    sign(&made);
    CHECK_INT(parse(&made), TWS_OK);
    CHECK_INT(parsed.name_count, 0);
    tws_certificate_release(&parsed);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(garbage);
    free_certificate(&made);
}

/* Cut anywhere, or with a byte changed, it is refused or read, never worse. */
TEST(damaged_ones_do_no_harm)
{
    struct certificate made = make_certificate(
        &(struct recipe){.common_name = "x", .names = "DNS:a.test,IP:::1"},
        &authority);
    struct guard der = der_of(&made);
    size_t length = length_of(&der);
    for (size_t cut = 0; cut < length; cut++) {
        struct guard part = guard_copy(der.data, cut);
        CHECK_INT(tws_certificate_parse(part.data, cut, &parsed, &err),
                  TWS_TLS);
        CHECK(parsed.subject == NULL);
        guard_free(&part);
    }
    for (size_t at = 0; at < length; at++) {
        for (int bit = 0; bit < 8; bit++) {
            der.data[at] = (uint8_t)(der.data[at] ^ 1 << bit);
            if (tws_certificate_parse(der.data, length, &parsed, &err)
                == TWS_OK) {
                CHECK(parsed.subject != NULL && parsed.serial != NULL);
                tws_certificate_release(&parsed);
            }
            der.data[at] = (uint8_t)(der.data[at] ^ 1 << bit);
        }
    }
    CHECK_INT(tws_certificate_parse(der.data, length, &parsed, &err), TWS_OK);
    tws_certificate_release(&parsed);
    guard_free(&der);
    free_certificate(&made);
}

TEST(one_and_nothing_behind_it)
{
    struct guard der = der_of(&authority);
    size_t length = length_of(&der);
    struct guard longer = guard_copy(der.data, length);
    guard_free(&der);
    uint8_t *more = malloc(length + 1);
    MUST(more != NULL);
    memcpy(more, longer.data, length);
    more[length] = 0;
    CHECK_INT(tws_certificate_parse(more, length + 1, &parsed, &err), TWS_TLS);
    CHECK(strstr(err.reason, "not one certificate") != NULL);
    free(more);
    guard_free(&longer);
}

RUN(T(says_what_is_in_it), T(odd_bytes_in_names_are_shown),
    T(the_subject_is_utf_8_without_control_bytes), T(times_may_be_far_away),
    T(a_serial_number_may_be_negative), T(many_names),
    T(damaged_names_are_none), T(damaged_ones_do_no_harm),
    T(one_and_nothing_behind_it))
