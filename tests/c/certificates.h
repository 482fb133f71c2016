/* Certificates and keys for tests, made by the test: EC P-256, which is quick.
 * Files go to a directory of their own; certificates_end() removes it. */
#ifndef TWS_TESTS_CERTIFICATES_H
#define TWS_TESTS_CERTIFICATES_H

#include "net/tls_context.h"

#include "harness.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <unistd.h>

struct certificate {
    X509 *x509;
    EVP_PKEY *key;
};

static struct certificate authority;       /* trusted by the tests */
static struct certificate other_authority; /* by nobody */
static char certificates_directory[64];
static char files[64][192]; /* every file that was made */
static size_t file_count;

#define MUST(condition)                                                       \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);   \
            abort();                                                          \
        }                                                                     \
    } while (0)

static inline EVP_PKEY *
make_key(void)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    MUST(key != NULL);
    return key;
}

/* What a certificate is made of; zero and NULL are defaults. */
struct recipe {
    const char *common_name; /* NULL: none */
    const char *names; /* "DNS:a.test,IP:127.0.0.1", of OpenSSL's notation */
    long from;         /* seconds from now; default: an hour ago */
    long until;        /* default: in a day */
    bool is_authority;
    const char *usage; /* "clientAuth"; NULL: any */
};

static inline void
add_extension(X509 *x509, X509V3_CTX *with, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, with, nid, value);
    MUST(extension != NULL);
    MUST(X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

/* Signed by the issuer; NULL: by itself. */
static inline struct certificate
make_certificate(const struct recipe *recipe, const struct certificate *issuer)
{
    static long serial = 4096;
    struct certificate made = {.x509 = X509_new(), .key = make_key()};
    X509V3_CTX with;
    MUST(made.x509 != NULL);
    X509_set_version(made.x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made.x509), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(made.x509),
                    recipe->from == 0 ? -3600 : recipe->from);
    X509_gmtime_adj(X509_getm_notAfter(made.x509),
                    recipe->until == 0 ? 86400 : recipe->until);
    if (recipe->common_name != NULL) {
        MUST(X509_NAME_add_entry_by_txt(
                 X509_get_subject_name(made.x509), "CN", MBSTRING_UTF8,
                 (const unsigned char *)recipe->common_name, -1, -1, 0)
             == 1);
    }
    X509 *signer = issuer == NULL ? made.x509 : issuer->x509;
    X509_set_issuer_name(made.x509, X509_get_subject_name(signer));
    X509_set_pubkey(made.x509, made.key);
    X509V3_set_ctx(&with, signer, made.x509, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&with);
    add_extension(made.x509, &with, NID_basic_constraints,
                  recipe->is_authority ? "critical,CA:TRUE" : "CA:FALSE");
    if (recipe->names != NULL) {
        add_extension(made.x509, &with, NID_subject_alt_name, recipe->names);
    }
    if (recipe->usage != NULL) {
        add_extension(made.x509, &with, NID_ext_key_usage, recipe->usage);
    }
    MUST(X509_sign(made.x509, issuer == NULL ? made.key : issuer->key,
                   EVP_sha256())
         > 0);
    return made;
}

static inline void
free_certificate(struct certificate *certificate)
{
    X509_free(certificate->x509);
    EVP_PKEY_free(certificate->key);
}

/* A path in the directory; valid until the end. */
static inline const char *
new_file(const char *name)
{
    MUST(file_count < sizeof(files) / sizeof(files[0]));
    char *path = files[file_count++];
    (void)snprintf(path, sizeof(files[0]), "%s/%zu-%s", certificates_directory,
                   file_count, name);
    return path;
}

static inline const char *
write_text(const char *name, const char *text)
{
    const char *path = new_file(name);
    FILE *file = fopen(path, "w");
    MUST(file != NULL);
    MUST(fputs(text, file) >= 0);
    MUST(fclose(file) == 0);
    return path;
}

/* The certificate, what it is signed by if that is given, and the key, which
 * is encrypted where there is a password. Any of them may be NULL. */
static inline const char *
write_pem(const char *name, X509 *x509, X509 *issuer, EVP_PKEY *key,
          const char *password)
{
    const char *path = new_file(name);
    FILE *file = fopen(path, "w");
    MUST(file != NULL);
    MUST(x509 == NULL || PEM_write_X509(file, x509) == 1);
    MUST(issuer == NULL || PEM_write_X509(file, issuer) == 1);
    MUST(key == NULL
         || PEM_write_PrivateKey(
                file, key, password == NULL ? NULL : EVP_aes_128_cbc(),
                (const unsigned char *)password,
                password == NULL ? 0 : (int)strlen(password), NULL, NULL)
                == 1);
    MUST(fclose(file) == 0);
    return path;
}

static inline const char *
write_certificate(const char *name, const struct certificate *certificate)
{
    return write_pem(name, certificate->x509, NULL, certificate->key, NULL);
}

/* A file with certificate and key, as most tests need it. */
static inline const char *
certificate_file(const struct recipe *recipe, const struct certificate *issuer)
{
    struct certificate made = make_certificate(recipe, issuer);
    const char *path = write_certificate("identity.pem", &made);
    free_certificate(&made);
    return path;
}

static inline const char *
authority_file(const struct certificate *certificate)
{
    return write_pem("authority.pem", certificate->x509, NULL, NULL, NULL);
}

static inline void
certificates_end(void)
{
    for (size_t i = 0; i < file_count; i++) {
        unlink(files[i]);
    }
    rmdir(certificates_directory);
    free_certificate(&authority);
    free_certificate(&other_authority);
}

static inline void
certificates_begin(void)
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(certificates_directory, sizeof(certificates_directory),
                   "%s/twspy-certificates-XXXXXX",
                   base == NULL || strlen(base) > 30 ? "/tmp" : base);
    MUST(mkdtemp(certificates_directory) != NULL);
    authority = make_certificate(
        &(struct recipe){.common_name = "Test CA", .is_authority = true},
        NULL);
    other_authority = make_certificate(
        &(struct recipe){.common_name = "Other CA", .is_authority = true},
        NULL);
    atexit(certificates_end);
}

#endif /* TWS_TESTS_CERTIFICATES_H */
