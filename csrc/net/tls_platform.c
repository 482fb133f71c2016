#include "net/tls_platform.h"

#include "net/tls_error.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

/* Directories come first, as of those only what is needed is read. */
static const char *const usual_directories[] = {
    "/etc/ssl/certs",     /* Debian, Arch, SUSE, Alpine, Gentoo */
    "/etc/pki/tls/certs", /* Fedora, Red Hat: where it has hashes */
    NULL,
};

static const char *const usual_files[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Arch, Alpine, Gentoo */
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Fedora, Red Hat */
    "/etc/pki/tls/certs/ca-bundle.crt",                  /* older ones */
    "/etc/ssl/ca-bundle.pem",                            /* SUSE */
    "/etc/ssl/cert.pem",                      /* Alpine, macOS, the BSDs */
    "/usr/local/share/certs/ca-root-nss.crt", /* FreeBSD */
    NULL,
};

struct tws_tls_places
tws_tls_usual_places(void)
{
    return (struct tws_tls_places){
        .built_in_file = X509_get_default_cert_file(),
        .built_in_directory = X509_get_default_cert_dir(),
        .directories = usual_directories,
        .files = usual_files,
    };
}

/* As OpenSSL looks for it: eight digits of a hash, a dot, a number. */
static bool
is_hash(const char *name)
{
    return strspn(name, "0123456789abcdef") == 8 && name[8] == '.'
           && name[9] >= '0' && name[9] <= '9';
}

static bool
has_hashes(const char *path)
{
    bool found = false;
    DIR *directory = opendir(path);
    if (directory == NULL) {
        return false;
    }
    while (!found) {
        /* Each stream is read by one thread only.
         * NOLINTNEXTLINE(concurrency-mt-unsafe) */
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            break;
        }
        found = is_hash(entry->d_name);
    }
    (void)closedir(directory);
    return found;
}

/* Where a user names a place, or OpenSSL's own has something, that is it.
 * OpenSSL does not look at the environment of a setuid program, either. */
static bool
is_known(const struct tws_tls_places *places)
{
    return secure_getenv(X509_get_default_cert_file_env()) != NULL
           || secure_getenv(X509_get_default_cert_dir_env()) != NULL
           || access(places->built_in_file, R_OK) == 0
           || has_hashes(places->built_in_directory);
}

/* Past a damaged file the search goes on. */
static void
search(X509_STORE *store, const struct tws_tls_places *places)
{
    for (const char *const *path = places->directories; *path != NULL;
         path++) {
        if (has_hashes(*path) && X509_STORE_load_path(store, *path) == 1) {
            return;
        }
    }
    for (const char *const *path = places->files; *path != NULL; path++) {
        if (access(*path, R_OK) == 0
            && X509_STORE_load_file(store, *path) == 1) {
            return;
        }
    }
}

enum tws_status
tws_tls_trust_platform(SSL_CTX *ssl_context,
                       const struct tws_tls_places *places,
                       struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    ERR_clear_error();
    if (SSL_CTX_set_default_verify_paths(ssl_context) != 1) {
        status = tws_tls_error_queue(err, "the platform's authorities");
    }
    else if (!is_known(places)) {
        search(SSL_CTX_get_cert_store(ssl_context), places);
    }
    ERR_clear_error();
    return status;
}
