#include "net/tls_platform.h"

#include "certificates.h"

#include <openssl/err.h>
#include <sys/stat.h>

static const char *const none[] = {NULL};
static struct certificate leaf;
static SSL_CTX *ssl;
static const char *bundle;       /* a file with the authority */
static const char *damaged;      /* and one with half a certificate */
static char with_hashes[160];    /* a directory where it is found */
static char without_hashes[160]; /* one that has some other file */
static char hashed[200];
static char other[200];

static void
make_directory(char *path, size_t size, const char *name)
{
    (void)snprintf(path, size, "%s/%s", certificates_directory, name);
    MUST(mkdir(path, 0700) == 0);
}

static void
make_places(void)
{
    certificates_begin();
    leaf =
        make_certificate(&(struct recipe){.names = "DNS:a.test"}, &authority);
    bundle = authority_file(&authority);
    damaged = write_text("damaged", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    make_directory(with_hashes, sizeof(with_hashes), "hashes");
    (void)snprintf(hashed, sizeof(hashed), "%s/%08lx.0", with_hashes,
                   X509_subject_name_hash(authority.x509));
    MUST(symlink(bundle, hashed) == 0);
    make_directory(without_hashes, sizeof(without_hashes), "names");
    (void)snprintf(other, sizeof(other), "%s/0123abcd.pem", without_hashes);
    MUST(symlink(bundle, other) == 0);
}

static void
remove_places(void)
{
    unlink(hashed);
    unlink(other);
    rmdir(with_hashes);
    rmdir(without_hashes);
    free_certificate(&leaf);
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

/* Whether a platform with those places trusts the authority. */
static bool
trusts(struct tws_tls_places places)
{
    struct tws_error err = {0};
    if (leaf.x509 == NULL) {
        make_places();
    }
    ssl = SSL_CTX_new(TLS_client_method());
    MUST(ssl != NULL);
    CHECK_INT(tws_tls_trust_platform(ssl, &places, &err), TWS_OK);
    CHECK_INT(ERR_peek_error(), 0);
    bool trusted = is_trusted(leaf.x509);
    SSL_CTX_free(ssl);
    return trusted;
}

static struct tws_tls_places
nowhere(void)
{
    unsetenv("SSL_CERT_FILE");
    unsetenv("SSL_CERT_DIR");
    if (leaf.x509 == NULL) {
        make_places();
    }
    return (struct tws_tls_places){
        .built_in_file = "/nowhere/cert.pem",
        .built_in_directory = "/nowhere/certs",
        .directories = none,
        .files = none,
    };
}

TEST(nobody_is_trusted_where_nothing_is_found)
{
    CHECK(!trusts(nowhere()));
}

TEST(directories_are_searched)
{
    struct tws_tls_places places = nowhere();
    const char *const directories[] = {"/nowhere", without_hashes, with_hashes,
                                       NULL};
    places.directories = directories;
    CHECK(trusts(places));
}

TEST(a_directory_without_hashes_counts_as_none)
{
    struct tws_tls_places places = nowhere();
    const char *const directories[] = {without_hashes, NULL};
    const char *const bundles[] = {bundle, NULL};
    places.built_in_directory = without_hashes;
    places.directories = directories;
    CHECK(!trusts(places));
    places.files = bundles;
    CHECK(trusts(places));
}

TEST(files_are_searched)
{
    struct tws_tls_places places = nowhere();
    const char *const bundles[] = {"/nowhere", damaged, bundle, NULL};
    places.files = bundles;
    CHECK(trusts(places));
}

TEST(the_first_that_has_some_is_the_only_one)
{
    struct tws_tls_places places = nowhere();
    const char *foreign =
        write_pem("other", other_authority.x509, NULL, NULL, NULL);
    const char *const bundles[] = {foreign, bundle, NULL};
    places.files = bundles;
    CHECK(!trusts(places));
}

TEST(the_built_in_places_come_before_all)
{
    struct tws_tls_places places = nowhere();
    const char *const bundles[] = {bundle, NULL};
    places.files = bundles;
    places.built_in_file = bundle; /* which OpenSSL does not know of */
    CHECK(!trusts(places));
    places = nowhere();
    places.files = bundles;
    places.built_in_directory = with_hashes;
    CHECK(!trusts(places));
}

TEST(the_environment_comes_before_all)
{
    struct tws_tls_places places = nowhere();
    const char *const bundles[] = {bundle, NULL};
    places.files = bundles;
    setenv("SSL_CERT_FILE", "/nowhere", 1);
    CHECK(!trusts(places));
    unsetenv("SSL_CERT_FILE");
    setenv("SSL_CERT_DIR", "/nowhere", 1);
    CHECK(!trusts(places));
    places = nowhere();
    setenv("SSL_CERT_FILE", bundle, 1);
    CHECK(trusts(places));
    unsetenv("SSL_CERT_FILE");
    setenv("SSL_CERT_DIR", with_hashes, 1);
    CHECK(trusts(places));
    unsetenv("SSL_CERT_DIR");
}

TEST(usual_places_are_absolute)
{
    struct tws_tls_places places = tws_tls_usual_places();
    size_t count = 0;
    CHECK_INT(places.built_in_file[0], '/');
    CHECK_INT(places.built_in_directory[0], '/');
    for (size_t i = 0; places.directories[i] != NULL; i++) {
        CHECK_INT(places.directories[i][0], '/');
        count++;
    }
    for (size_t i = 0; places.files[i] != NULL; i++) {
        CHECK_INT(places.files[i][0], '/');
        count++;
    }
    CHECK(count >= 4);
    remove_places();
}

RUN(T(nobody_is_trusted_where_nothing_is_found), T(directories_are_searched),
    T(a_directory_without_hashes_counts_as_none), T(files_are_searched),
    T(the_first_that_has_some_is_the_only_one),
    T(the_built_in_places_come_before_all),
    T(the_environment_comes_before_all), T(usual_places_are_absolute))
