#include "net/tls_files.h"

#include "certificates.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

static struct certificate leaf;
static struct tws_error err;
static SSL_CTX *ssl;

static void
begin(void)
{
    if (leaf.x509 == NULL) {
        certificates_begin();
        leaf = make_certificate(&(struct recipe){.names = "DNS:a.test"},
                                &authority);
    }
    ssl = SSL_CTX_new(TLS_server_method());
    MUST(ssl != NULL);
    err = (struct tws_error){0};
}

static void
end(void)
{
    CHECK_INT(ERR_peek_error(), 0);
    SSL_CTX_free(ssl);
}

static enum tws_status
load(const char *certfile, const char *keyfile, const char *password)
{
    return tws_tls_load_identity(
        ssl,
        &(struct tws_tls_identity){
            .certfile = certfile, .keyfile = keyfile, .password = password},
        &err);
}

static void
check_reason(const char *path, const char *text)
{
    if (strstr(err.reason, path) == NULL || strstr(err.reason, text) == NULL) {
        fprintf(stderr, "reason is \"%s\"\n", err.reason);
        CHECK(false);
    }
}

TEST(certificate_and_key_in_one_file)
{
    begin();
    CHECK_INT(load(write_certificate("both.pem", &leaf), NULL, NULL), TWS_OK);
    CHECK_INT(X509_cmp(SSL_CTX_get0_certificate(ssl), leaf.x509), 0);
    CHECK(SSL_CTX_get0_privatekey(ssl) != NULL);
    end();
}

TEST(certificate_and_key_in_two_files)
{
    begin();
    const char *certificate = write_pem("c", leaf.x509, NULL, NULL, NULL);
    const char *key = write_pem("k", NULL, NULL, leaf.key, NULL);
    CHECK_INT(load(certificate, key, NULL), TWS_OK);
    CHECK_INT(load(certificate, NULL, NULL), TWS_TLS);
    check_reason(certificate, "no private key (PEM)");
    CHECK_INT(load(key, NULL, NULL), TWS_TLS);
    check_reason(key, "no certificate (PEM)");
    CHECK_INT(load(NULL, key, NULL), TWS_TLS);
    check_reason("no certfile", "");
    end();
}

TEST(a_chain_is_loaded_whole)
{
    STACK_OF(X509) *chain = NULL;
    begin();
    const char *path =
        write_pem("chain", leaf.x509, authority.x509, leaf.key, NULL);
    CHECK_INT(load(path, NULL, NULL), TWS_OK);
    SSL_CTX_get0_chain_certs(ssl, &chain);
    CHECK_INT(sk_X509_num(chain), 1);
    CHECK_INT(X509_cmp(sk_X509_value(chain, 0), authority.x509), 0);
    end();
}

TEST(files_that_can_not_be_read)
{
    begin();
    CHECK_INT(load("/nowhere/at all.pem", NULL, NULL), TWS_OS);
    CHECK_INT(err.sys_errno, ENOENT);
    check_reason("/nowhere/at all.pem", "");
    CHECK_INT(load(certificates_directory, NULL, NULL), TWS_OS);
    CHECK_INT(err.sys_errno, EISDIR);
    check_reason(certificates_directory, "");
    const char *certificate = write_pem("c", leaf.x509, NULL, NULL, NULL);
    CHECK_INT(load(certificate, "/nowhere/key.pem", NULL), TWS_OS);
    CHECK_INT(err.sys_errno, ENOENT);
    check_reason("/nowhere/key.pem", "");
    end();
}

TEST(files_with_something_else)
{
    static const char broken[] = "-----BEGIN CERTIFICATE-----\n"
                                 "MIIBszCCAVmg\n"
                                 "-----END CERTIFICATE-----\n";
    static const char broken_key[] = "-----BEGIN PRIVATE KEY-----\n"
                                     "MIIBszCCAVmg\n"
                                     "-----END PRIVATE KEY-----\n";
    begin();
    const char *empty = write_text("empty", "");
    CHECK_INT(load(empty, NULL, NULL), TWS_TLS);
    check_reason(empty, "no certificate (PEM)");
    const char *text = write_text("broken", broken);
    CHECK_INT(load(text, NULL, NULL), TWS_TLS);
    check_reason(text, ": ");
    CHECK(strstr(err.reason, "no certificate") == NULL);
    const char *certificate = write_pem("c", leaf.x509, NULL, NULL, NULL);
    const char *key = write_text("broken key", broken_key);
    CHECK_INT(load(certificate, key, NULL), TWS_TLS);
    check_reason(key, "no private key (PEM)");
    end();
}

TEST(a_damaged_chain_is_refused)
{
    begin();
    const char *path = write_certificate("damaged", &leaf);
    FILE *file = fopen(path, "a");
    MUST(file != NULL);
    MUST(fputs("-----BEGIN CERTIFICATE-----\nMIIB\n"
               "-----END CERTIFICATE-----\n",
               file)
         >= 0);
    MUST(fclose(file) == 0);
    CHECK_INT(load(path, NULL, NULL), TWS_TLS);
    check_reason(path, ": ");
    end();
}

TEST(of_a_long_path_the_end_is_told)
{
    begin();
    const char *path = write_text("a-name-that-is-much-longer-than-what-a-"
                                  "reason-has-room-for.pem",
                                  "");
    CHECK_INT(load(path, NULL, NULL), TWS_TLS);
    check_reason("for.pem: no certificate (PEM) in it", "");
    CHECK(strstr(err.reason, path) == NULL);
    end();
}

TEST(a_file_without_end_is_refused)
{
    begin();
    CHECK_INT(load("/dev/zero", NULL, NULL), TWS_TLS);
    check_reason("/dev/zero", "16 MiB");
    end();
}

TEST(an_encrypted_key_needs_its_password)
{
    begin();
    const char *path = write_pem("k", leaf.x509, NULL, leaf.key, "secret 42");
    /* Nobody is asked on the terminal: there is none in a test. */
    CHECK_INT(load(path, NULL, NULL), TWS_TLS);
    check_reason(path, "encrypted, and no password is given");
    CHECK_INT(load(path, NULL, "wrong word"), TWS_TLS);
    check_reason(path, "password does not fit");
    CHECK(strstr(err.reason, "wrong word") == NULL);
    CHECK_INT(load(path, NULL, ""), TWS_TLS);
    check_reason(path, "password does not fit");
    CHECK_INT(load(path, NULL, "secret 42"), TWS_OK);
    char *longer = malloc(100001);
    MUST(longer != NULL);
    memset(longer, 'x', 100000);
    longer[100000] = '\0';
    CHECK_INT(load(path, NULL, longer), TWS_TLS);
    check_reason(path, "password does not fit");
    free(longer);
    end();
}

TEST(a_password_that_is_not_needed_does_no_harm)
{
    begin();
    CHECK_INT(load(write_certificate("both.pem", &leaf), NULL, "x"), TWS_OK);
    end();
}

TEST(key_and_certificate_belong_together)
{
    begin();
    EVP_PKEY *rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    const char *certificate = write_pem("c", leaf.x509, NULL, NULL, NULL);
    const char *other = write_pem("other", NULL, NULL, authority.key, NULL);
    const char *other_type = write_pem("rsa", NULL, NULL, rsa, NULL);
    CHECK_INT(load(certificate, other, NULL), TWS_TLS);
    check_reason(other, "the key is not that of");
    check_reason(certificate, "");
    SSL_CTX_free(ssl);
    ssl = SSL_CTX_new(TLS_server_method());
    CHECK_INT(load(certificate, other_type, NULL), TWS_TLS);
    check_reason(other_type, "the key is not that of");
    EVP_PKEY_free(rsa);
    end();
}

/* ----------------------------------------------------------- authorities */

static enum tws_status
load_authorities(const char *cafile, const char *capath)
{
    STACK_OF(X509_NAME) *names = NULL;
    enum tws_status status =
        tws_tls_load_authorities(ssl, cafile, capath, &names, &err);
    CHECK((names != NULL) == (status == TWS_OK));
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return status;
}

static bool
is_trusted(X509 *x509)
{
    X509_STORE_CTX *store = X509_STORE_CTX_new();
    MUST(X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(ssl), x509, NULL)
         == 1);
    bool trusted = X509_verify_cert(store) == 1;
    X509_STORE_CTX_free(store);
    ERR_clear_error();
    return trusted;
}

TEST(authorities_of_a_file)
{
    STACK_OF(X509_NAME) *names = NULL;
    begin();
    const char *path =
        write_pem("ca", authority.x509, other_authority.x509, NULL, NULL);
    CHECK(!is_trusted(leaf.x509));
    CHECK_INT(tws_tls_load_authorities(ssl, path, NULL, &names, &err), TWS_OK);
    CHECK(is_trusted(leaf.x509));
    CHECK_INT(sk_X509_NAME_num(names), 2);
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    CHECK_INT(tws_tls_load_authorities(ssl, path, NULL, NULL, &err), TWS_OK);
    end();
}

TEST(authorities_of_a_directory)
{
    char path[160];
    begin();
    (void)snprintf(path, sizeof(path), "%s/ca", certificates_directory);
    MUST(mkdir(path, 0700) == 0);
    CHECK_INT(load_authorities(NULL, path), TWS_OK);
    CHECK(!is_trusted(leaf.x509));
    (void)snprintf(path, sizeof(path), "%s/ca/%08lx.0", certificates_directory,
                   X509_subject_name_hash(authority.x509));
    MUST(rename(authority_file(&authority), path) == 0);
    CHECK(is_trusted(leaf.x509));
    unlink(path);
    (void)snprintf(path, sizeof(path), "%s/ca", certificates_directory);
    rmdir(path);
    end();
}

TEST(authorities_that_can_not_be_read)
{
    begin();
    const char *empty = write_text("empty", "no certificate\n");
    CHECK_INT(load_authorities("/nowhere", NULL), TWS_OS);
    CHECK_INT(err.sys_errno, ENOENT);
    CHECK_INT(load_authorities(NULL, "/nowhere"), TWS_OS);
    CHECK_INT(err.sys_errno, ENOENT);
    CHECK_INT(load_authorities(NULL, empty), TWS_OS);
    CHECK_INT(err.sys_errno, ENOTDIR);
    CHECK_INT(load_authorities(empty, NULL), TWS_TLS);
    check_reason(empty, "no certificate (PEM)");
    end();
}

TEST(the_platform_has_some)
{
    begin();
    CHECK_INT(load_authorities(NULL, NULL), TWS_OK);
    end();
    free_certificate(&leaf);
}

RUN(T(certificate_and_key_in_one_file), T(certificate_and_key_in_two_files),
    T(a_chain_is_loaded_whole), T(files_that_can_not_be_read),
    T(files_with_something_else), T(a_damaged_chain_is_refused),
    T(of_a_long_path_the_end_is_told), T(a_file_without_end_is_refused),
    T(an_encrypted_key_needs_its_password),
    T(a_password_that_is_not_needed_does_no_harm),
    T(key_and_certificate_belong_together), T(authorities_of_a_file),
    T(authorities_of_a_directory), T(authorities_that_can_not_be_read),
    T(the_platform_has_some))
