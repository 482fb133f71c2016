#include "net/tls_files.h"

#include "net/tls_error.h"
#include "net/tls_platform.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* More than any list of authorities has. */
enum { FILE_LIMIT = 16 * 1024 * 1024 };

enum { PATH_SHOWN = 60 };

/* The end of a path tells more than its beginning, and the rest of the reason
 * has to fit. */
static const char *
shown(const char *path)
{
    size_t length = strlen(path);
    return length <= PATH_SHOWN ? path : path + length - PATH_SHOWN;
}

static enum tws_status
read_all(int fd, const char *path, BUF_MEM *content, struct tws_error *err)
{
    size_t length = 0;
    for (;;) {
        if (BUF_MEM_grow_clean(content, length + 16384) == 0) {
            return tws_error_nomem(err);
        }
        ssize_t n = read(fd, content->data + length, 16384);
        int saved = errno;
        if (n == 0) {
            break;
        }
        if (n < 0) {
            if (saved == EINTR) {
                continue;
            }
            return tws_error_os(err, saved, path);
        }
        length += (size_t)n;
        if (length > FILE_LIMIT) {
            return tws_error_tls(err, "%s: larger than %d MiB, expected PEM",
                                 shown(path), FILE_LIMIT / 1024 / 1024);
        }
    }
    (void)BUF_MEM_grow_clean(content, length); /* it shrinks */
    return TWS_OK;
}

/* The content, in memory that is wiped when it is freed: it may be a key. */
static enum tws_status
read_file(const char *path, BIO **bio, struct tws_error *err)
{
    BUF_MEM *content = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int saved = errno;
    enum tws_status status;
    if (fd < 0) {
        return tws_error_os(err, saved, path);
    }
    content = BUF_MEM_new();
    *bio = BIO_new(BIO_s_mem());
    if (content == NULL || *bio == NULL) {
        status = tws_error_nomem(err);
    }
    else {
        status = read_all(fd, path, content, err);
    }
    if (status == TWS_OK) {
        BIO_set_mem_buf(*bio, content, BIO_CLOSE);
        BIO_set_mem_eof_return(*bio, 0);
    }
    else {
        BUF_MEM_free(content);
        BIO_free(*bio);
        *bio = NULL;
    }
    close(fd);
    return status;
}

/* The end of a file is an error of the parser, too. */
static bool
is_end_of_pem(void)
{
    unsigned long code = ERR_peek_last_error();
    return code == 0
           || (ERR_GET_LIB(code) == ERR_LIB_PEM
               && ERR_GET_REASON(code) == PEM_R_NO_START_LINE);
}

/* ------------------------------------------------------------- identity */

static enum tws_status
load_chain(SSL_CTX *ssl_context, const char *path, struct tws_error *err)
{
    X509 *x509 = NULL;
    BIO *bio = NULL;
    enum tws_status status = read_file(path, &bio, err);
    if (status != TWS_OK) {
        return status;
    }
    ERR_clear_error();
    x509 = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
    if (x509 == NULL && is_end_of_pem()) {
        status =
            tws_error_tls(err, "%s: no certificate (PEM) in it", shown(path));
        goto done;
    }
    if (x509 == NULL || SSL_CTX_use_certificate(ssl_context, x509) != 1) {
        status = tws_tls_error_queue(err, shown(path));
        goto done;
    }
    for (;;) {
        X509_free(x509);
        x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (x509 == NULL) {
            break;
        }
        if (SSL_CTX_add1_chain_cert(ssl_context, x509) != 1) {
            status = tws_tls_error_queue(err, shown(path));
            goto done;
        }
    }
    if (!is_end_of_pem()) {
        status = tws_tls_error_queue(err, shown(path));
    }
done:
    X509_free(x509);
    BIO_free(bio);
    ERR_clear_error();
    return status;
}

struct password {
    const char *text; /* NULL: there is none */
    bool asked;       /* the key needs one */
};

/* OpenSSL's own callback would ask on the terminal. */
static int
give_password(char *buffer, int size, int writing, void *argument)
{
    struct password *password = argument;
    (void)writing;
    password->asked = true;
    if (password->text == NULL) {
        return -1;
    }
    size_t length = strlen(password->text);
    if (size < 0 || length > (size_t)size) {
        return -1;
    }
    if (length > 0) {
        memcpy(buffer, password->text, length);
    }
    return (int)length;
}

static enum tws_status
explain_key(const char *path, const struct password *password,
            struct tws_error *err)
{
    if (password->asked) {
        return tws_error_tls(err,
                             password->text == NULL
                                 ? "%s: the key is encrypted, and no password "
                                   "is given"
                                 : "%s: the password does not fit the key",
                             shown(path));
    }
    /* OpenSSL 3 tries each kind of key in turn, and of one that is damaged
     * says just as little. */
    return tws_error_tls(
        err, "%s: no private key (PEM) in it, or a damaged one", shown(path));
}

static enum tws_status
load_key(SSL_CTX *ssl_context, const struct tws_tls_identity *identity,
         const char *path, struct tws_error *err)
{
    struct password password = {.text = identity->password};
    EVP_PKEY *key = NULL;
    BIO *bio = NULL;
    enum tws_status status = read_file(path, &bio, err);
    if (status != TWS_OK) {
        return status;
    }
    ERR_clear_error();
    key = PEM_read_bio_PrivateKey(bio, NULL, give_password, &password);
    if (key == NULL) {
        status = explain_key(path, &password, err);
    }
    else if (SSL_CTX_use_PrivateKey(ssl_context, key) != 1
             || SSL_CTX_check_private_key(ssl_context) != 1) {
        status = tws_error_tls(err, "%s: the key is not that of %s",
                               shown(path), shown(identity->certfile));
    }
    EVP_PKEY_free(key);
    BIO_free(bio);
    ERR_clear_error();
    return status;
}

enum tws_status
tws_tls_load_identity(SSL_CTX *ssl_context,
                      const struct tws_tls_identity *identity,
                      struct tws_error *err)
{
    const char *keyfile =
        identity->keyfile == NULL ? identity->certfile : identity->keyfile;
    enum tws_status status;
    if (identity->certfile == NULL) {
        return tws_error_tls(err, "a key needs a certificate: no certfile is "
                                  "given");
    }
    status = load_chain(ssl_context, identity->certfile, err);
    if (status == TWS_OK) {
        status = load_key(ssl_context, identity, keyfile, err);
    }
    return status;
}

/* ---------------------------------------------------------- authorities */

static bool
add_name(STACK_OF(X509_NAME) * names, X509 *x509)
{
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(x509));
    if (name == NULL || sk_X509_NAME_push(names, name) <= 0) {
        X509_NAME_free(name);
        return false;
    }
    return true;
}

static enum tws_status
load_cafile(X509_STORE *store, const char *path, STACK_OF(X509_NAME) * names,
            struct tws_error *err)
{
    size_t count = 0;
    BIO *bio = NULL;
    enum tws_status status = read_file(path, &bio, err);
    if (status != TWS_OK) {
        return status;
    }
    ERR_clear_error();
    for (;;) {
        X509 *x509 = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
        if (x509 == NULL) {
            break;
        }
        bool added = X509_STORE_add_cert(store, x509) == 1
                     && (names == NULL || add_name(names, x509));
        X509_free(x509);
        if (!added) {
            status = tws_tls_error_queue(err, shown(path));
            goto done;
        }
        count++;
    }
    if (!is_end_of_pem()) {
        status = tws_tls_error_queue(err, shown(path));
    }
    else if (count == 0) {
        status =
            tws_error_tls(err, "%s: no certificate (PEM) in it", shown(path));
    }
done:
    BIO_free(bio);
    ERR_clear_error();
    return status;
}

/* Its files are read when they are needed, by the hash in their names. */
static enum tws_status
add_capath(X509_STORE *store, const char *path, struct tws_error *err)
{
    struct stat found;
    if (stat(path, &found) != 0) {
        int saved = errno;
        return tws_error_os(err, saved, path);
    }
    if (!S_ISDIR(found.st_mode)) {
        return tws_error_os(err, ENOTDIR, path);
    }
    ERR_clear_error();
    if (X509_STORE_load_path(store, path) != 1) {
        return tws_tls_error_queue(err, shown(path));
    }
    return TWS_OK;
}

enum tws_status
tws_tls_load_authorities(SSL_CTX *ssl_context, const char *cafile,
                         const char *capath, STACK_OF(X509_NAME) * *names,
                         struct tws_error *err)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ssl_context);
    STACK_OF(X509_NAME) *found = sk_X509_NAME_new_null();
    enum tws_status status = TWS_OK;
    if (found == NULL) {
        return tws_error_nomem(err);
    }
    if (cafile == NULL && capath == NULL) {
        struct tws_tls_places places = tws_tls_usual_places();
        status = tws_tls_trust_platform(ssl_context, &places, err);
    }
    if (cafile != NULL) {
        status = load_cafile(store, cafile, found, err);
    }
    if (status == TWS_OK && capath != NULL) {
        status = add_capath(store, capath, err);
    }
    if (status == TWS_OK && names != NULL) {
        *names = found;
        found = NULL;
    }
    sk_X509_NAME_pop_free(found, X509_NAME_free);
    return status;
}
