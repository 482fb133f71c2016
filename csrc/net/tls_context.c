#include "net/tls_context.h"

#include "net/tls_error.h"
#include "net/tls_files.h"
#include "net/tls_parts.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include <stdio.h>
#include <stdlib.h>

/* ---------------------------------------------------------- one SSL_CTX */

/* Notes what is wrong while OpenSSL knows of which certificate. */
static int
note_certificate(int ok, X509_STORE_CTX *store)
{
    if (ok != 1) {
        SSL *ssl = X509_STORE_CTX_get_ex_data(
            store, SSL_get_ex_data_X509_STORE_CTX_idx());
        struct tws_tls *tls = SSL_get_app_data(ssl);
        if (tls->error.status == TWS_OK) {
            (void)tws_tls_error_certificate(&tls->error, store, tls->host);
        }
    }
    return ok;
}

/* OpenSSL's for a new session: 1 keeps the reference. */
static int
remember_session(SSL *ssl, SSL_SESSION *session)
{
    struct tws_tls *tls = SSL_get_app_data(ssl);
    return tls->session_key != NULL
           && tws_tls_session_cache_put(&tls->context->sessions,
                                        tls->session_key, session);
}

static void
apply_policy(SSL_CTX *ssl)
{
    (void)SSL_CTX_set_options(ssl,
                              SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    (void)SSL_CTX_clear_options(ssl, SSL_OP_LEGACY_SERVER_CONNECT);
    (void)SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS
                                    | SSL_MODE_ENABLE_PARTIAL_WRITE
                                    | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Early data may be replayed (RFC 8446 §8). */
    (void)SSL_CTX_set_max_early_data(ssl, 0);
    (void)SSL_CTX_set_recv_max_early_data(ssl, 0);
    (void)SSL_CTX_set_dh_auto(ssl, 1);
    SSL_CTX_set_read_ahead(ssl, 1);
}

static enum tws_status
apply_role(SSL_CTX *ssl, struct tws_tls_context *context,
           struct tws_error *err)
{
    if (context->role == TWS_CLIENT) {
        (void)SSL_CTX_set_session_cache_mode(
            ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ssl, remember_session);
        if (context->alpn_length > 0
            && SSL_CTX_set_alpn_protos(ssl, context->alpn,
                                       (unsigned)context->alpn_length)
                   != 0) {
            return tws_tls_error_queue(err, "alpn");
        }
        return TWS_OK;
    }
    /* Tickets only: what clients come back with costs a server nothing. */
    (void)SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_num_tickets(ssl, 2);
    (void)SSL_CTX_set_tlsext_servername_callback(ssl, tws_tls_select_site);
    (void)SSL_CTX_set_tlsext_servername_arg(ssl, context);
    if (context->alpn_length > 0) {
        SSL_CTX_set_alpn_select_cb(ssl, tws_tls_select_protocol, context);
    }
    return TWS_OK;
}

/* Settings, without certificates. */
static enum tws_status
make_ssl_context(struct tws_tls_context *context,
                 const struct tws_tls_options *options, SSL_CTX **made,
                 struct tws_error *err)
{
    uint16_t minimum = options->minimum_version == 0
                           ? TLS1_2_VERSION
                           : options->minimum_version;
    ERR_clear_error();
    SSL_CTX *ssl =
        SSL_CTX_new(context->role == TWS_SERVER ? TLS_server_method()
                                                : TLS_client_method());
    *made = ssl;
    if (ssl == NULL) {
        return tws_tls_error_queue(err, "OpenSSL");
    }
    apply_policy(ssl);
    /* RFC 8996: nothing older. */
    if (minimum < TLS1_2_VERSION || minimum > TLS1_3_VERSION
        || SSL_CTX_set_min_proto_version(ssl, minimum) != 1) {
        return tws_error_tls(err,
                             "minimum_version is 0x%04x, expected 0x0303 (TLS "
                             "1.2) or 0x0304 (TLS 1.3)",
                             minimum);
    }
    if (options->ciphers != NULL
        && SSL_CTX_set_cipher_list(ssl, options->ciphers) != 1) {
        ERR_clear_error();
        return tws_error_tls(err, "ciphers: none of TLS 1.2 matches \"%s\"",
                             options->ciphers);
    }
    return apply_role(ssl, context, err);
}

/* ---------------------------------------------------------------- trust */

static void
require_certificate(SSL_CTX *ssl, enum tws_role role)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ssl);
    int mode = SSL_VERIFY_PEER;
    if (role == TWS_SERVER) {
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    SSL_CTX_set_verify(ssl, mode, note_certificate);
    /* What is listed as trusted is trusted, be it a root or below one. */
    (void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
}

static enum tws_status
load_trust(struct tws_tls_context *context,
           const struct tws_tls_options *options, struct tws_error *err)
{
    SSL_CTX *first = context->sites[0].ssl_context;
    STACK_OF(X509_NAME) *names = NULL;
    enum tws_status status = tws_tls_load_authorities(
        first, options->cafile, options->capath, &names, err);
    if (status != TWS_OK) {
        return status;
    }
    for (size_t i = 0; i < context->site_count; i++) {
        SSL_CTX *ssl = context->sites[i].ssl_context;
        require_certificate(ssl, context->role);
        if (i > 0) {
            SSL_CTX_set1_cert_store(ssl, SSL_CTX_get_cert_store(first));
        }
        if (context->role == TWS_SERVER) {
            STACK_OF(X509_NAME) *own = SSL_dup_CA_list(names);
            if (own == NULL) {
                status = tws_error_nomem(err);
                break;
            }
            SSL_CTX_set_client_CA_list(ssl, own);
        }
    }
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return status;
}

/* ------------------------------------------------------------- sessions */

static bool
digest_authorities(EVP_MD_CTX *digest, X509_STORE *store)
{
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);
    bool ok = true;
    for (int i = 0; ok && i < sk_X509_OBJECT_num(objects); i++) {
        X509 *x509 = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
        unsigned char one[EVP_MAX_MD_SIZE];
        unsigned length = 0;
        if (x509 != NULL) {
            ok = X509_digest(x509, EVP_sha256(), one, &length) == 1
                 && EVP_DigestUpdate(digest, one, length) == 1;
        }
    }
    return ok;
}

/* A ticket is good only where the same clients are trusted as where it was
 * given: who resumes shows no certificate again. */
static enum tws_status
name_sessions(struct tws_tls_context *context,
              const struct tws_tls_options *options, struct tws_error *err)
{
    unsigned char name[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    const char *capath = options->capath == NULL ? "" : options->capath;
    X509_STORE *store = SSL_CTX_get_cert_store(context->sites[0].ssl_context);
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    bool ok =
        digest != NULL && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1;
    if (ok && context->verify) {
        ok = EVP_DigestUpdate(digest, capath, strlen(capath) + 1) == 1
             && digest_authorities(digest, store);
    }
    ok = ok && EVP_DigestFinal_ex(digest, name, &length) == 1
         && length <= SSL_MAX_SSL_SESSION_ID_LENGTH;
    EVP_MD_CTX_free(digest);
    for (size_t i = 0; ok && i < context->site_count; i++) {
        ok = SSL_CTX_set_session_id_context(context->sites[i].ssl_context,
                                            name, length)
             == 1;
    }
    return ok ? TWS_OK : tws_tls_error_queue(err, "sessions");
}

/* New connections look at the first SSL_CTX's only. */
static enum tws_status
take_over_tickets(struct tws_tls_context *context,
                  const struct tws_tls_context *previous,
                  struct tws_error *err)
{
    unsigned char keys[256];
    SSL_CTX *from = previous->sites[0].ssl_context;
    SSL_CTX *to = context->sites[0].ssl_context;
    long length = SSL_CTX_get_tlsext_ticket_keys(from, NULL, 0);
    bool ok = length > 0 && length <= (long)sizeof(keys)
              && SSL_CTX_get_tlsext_ticket_keys(from, keys, length) == 1
              && SSL_CTX_set_tlsext_ticket_keys(to, keys, length) == 1;
    OPENSSL_cleanse(keys, sizeof(keys));
    return ok ? TWS_OK : tws_tls_error_queue(err, "session tickets");
}

/* -------------------------------------------------------------- context */

/* Protocols in wire form: each with its length in front, none empty. */
static bool
alpn_is_valid(struct tws_span alpn)
{
    size_t at = 0;
    while (at < alpn.length) {
        size_t length = (uint8_t)alpn.data[at];
        if (length == 0 || length > alpn.length - at - 1) {
            return false;
        }
        at += 1 + length;
    }
    return alpn.length <= 65535;
}

static enum tws_status
copy_alpn(struct tws_tls_context *context, struct tws_span alpn,
          struct tws_error *err)
{
    if (alpn.length == 0) {
        return TWS_OK;
    }
    if (!alpn_is_valid(alpn)) {
        return tws_error_tls(err, "alpn: not a list of names, each behind "
                                  "its length (RFC 7301 section 3.1)");
    }
    context->alpn = malloc(alpn.length);
    if (context->alpn == NULL) {
        return tws_error_nomem(err);
    }
    memcpy(context->alpn, alpn.data, alpn.length);
    context->alpn_length = alpn.length;
    return TWS_OK;
}

/* NULL: out of memory. */
static char *
copy_name(const char *name)
{
    char *copy = strdup(name == NULL ? "" : name);
    if (copy != NULL) {
        size_t length = strlen(copy);
        if (length > 0 && copy[length - 1] == '.') {
            copy[length - 1] = '\0';
        }
    }
    return copy;
}

/* The place of an identity in the context: the one without a name comes
 * first, as it is the default. */
static size_t
place_of(const struct tws_tls_options *options, size_t index)
{
    size_t first = 0;
    for (size_t i = 0; i < options->identity_count; i++) {
        if (options->identities[i].name == NULL) {
            first = i;
            break;
        }
    }
    if (index == first) {
        return 0;
    }
    return index < first ? index + 1 : index;
}

static enum tws_status
make_sites(struct tws_tls_context *context,
           const struct tws_tls_options *options, struct tws_error *err)
{
    size_t count = options->identity_count == 0 ? 1 : options->identity_count;
    context->sites = calloc(count, sizeof(*context->sites));
    if (context->sites == NULL) {
        return tws_error_nomem(err);
    }
    context->site_count = count;
    for (size_t i = 0; i < count; i++) {
        const struct tws_tls_identity *identity =
            options->identity_count == 0 ? NULL : &options->identities[i];
        struct tws_tls_site *site = &context->sites[place_of(options, i)];
        enum tws_status status =
            make_ssl_context(context, options, &site->ssl_context, err);
        if (status == TWS_OK && identity != NULL) {
            status = tws_tls_load_identity(site->ssl_context, identity, err);
        }
        if (status != TWS_OK) {
            return status;
        }
        site->name = copy_name(identity == NULL ? NULL : identity->name);
        if (site->name == NULL) {
            return tws_error_nomem(err);
        }
    }
    return TWS_OK;
}

static enum tws_status
fill(struct tws_tls_context *context, const struct tws_tls_options *options,
     struct tws_tls_context *previous, struct tws_error *err)
{
    enum tws_status status;
    if (context->role == TWS_SERVER && options->identity_count == 0) {
        return tws_error_tls(err, "a server needs a certificate: no certfile "
                                  "is given");
    }
    context->bio_method = tws_tls_bio_method();
    if (context->bio_method == NULL) {
        return tws_error_nomem(err);
    }
    status = copy_alpn(context, options->alpn, err);
    if (status == TWS_OK) {
        status = make_sites(context, options, err);
    }
    if (status == TWS_OK && context->verify) {
        status = load_trust(context, options, err);
    }
    if (status == TWS_OK && context->role == TWS_SERVER) {
        status = name_sessions(context, options, err);
        if (status == TWS_OK && previous != NULL
            && previous->role == TWS_SERVER) {
            status = take_over_tickets(context, previous, err);
        }
    }
    return status;
}

enum tws_status
tws_tls_context_new(const struct tws_tls_options *options,
                    struct tws_tls_context *previous,
                    struct tws_tls_context **context, struct tws_error *err)
{
    struct tws_tls_context *made = calloc(1, sizeof(*made));
    enum tws_status status;
    if (made == NULL || !tws_tls_session_cache_init(&made->sessions)) {
        free(made);
        return tws_error_nomem(err);
    }
    atomic_init(&made->references, 1);
    made->role = options->role;
    made->verify = options->verify;
    status = fill(made, options, previous, err);
    if (status == TWS_OK) {
        *context = made;
    }
    else {
        tws_tls_context_release(made);
    }
    ERR_clear_error();
    return status;
}

struct tws_tls_context *
tws_tls_context_retain(struct tws_tls_context *context)
{
    atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
    return context;
}

void
tws_tls_context_release(struct tws_tls_context *context)
{
    if (context == NULL
        || atomic_fetch_sub_explicit(&context->references, 1,
                                     memory_order_acq_rel)
               != 1) {
        return;
    }
    for (size_t i = 0; i < context->site_count; i++) {
        SSL_CTX_free(context->sites[i].ssl_context);
        free(context->sites[i].name);
    }
    free(context->sites);
    BIO_meth_free(context->bio_method);
    free(context->alpn);
    tws_tls_session_cache_fini(&context->sessions);
    free(context);
}
