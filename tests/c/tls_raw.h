/* A peer that is OpenSSL itself, and that may send any TLS 1.3 record, also
 * ones that no library would make. */
#ifndef TWS_TESTS_TLS_RAW_H
#define TWS_TESTS_TLS_RAW_H

#include "tls_fixture.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

struct raw_peer {
    SSL_CTX *context;
    SSL *ssl;
    int fd;
    uint8_t secret[32]; /* of what it sends */
    uint64_t sequence;  /* of the next record that is made by hand */
};

/* The secrets are told as text: NAME, client random, secret. */
static inline void
raw_note_secret(const SSL *ssl, const char *line)
{
    struct raw_peer *peer = SSL_get_app_data(ssl);
    const char *name = SSL_is_server(ssl) ? "SERVER_TRAFFIC_SECRET_0"
                                          : "CLIENT_TRAFFIC_SECRET_0";
    if (strncmp(line, name, strlen(name)) == 0) {
        const char *hex = strrchr(line, ' ') + 1;
        for (size_t i = 0; i < sizeof(peer->secret); i++) {
            unsigned byte = 0;
            MUST(sscanf(hex + 2 * i, "%2x", &byte) == 1);
            peer->secret[i] = (uint8_t)byte;
        }
    }
}

/* Takes the other end of *end, whose role it does not have. */
static inline void
raw_open(struct raw_peer *peer, struct tls_end *end,
         struct tws_tls_context *context, int version)
{
    int fds[2];
    struct tws_error err;
    bool is_server = context->role == TWS_CLIENT;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    *end = (struct tls_end){.status = TWS_AGAIN};
    tws_transport_plain(&end->transport, fds[0]);
    MUST(tws_tls_start(&end->transport, context, is_server ? "a.test" : NULL,
                       NULL, &err)
         == TWS_OK);
    *peer = (struct raw_peer){.fd = fds[1]};
    peer->context =
        SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    SSL_CTX_set_max_proto_version(peer->context, version);
    SSL_CTX_set_num_tickets(peer->context, 0);
    MUST(SSL_CTX_set_ciphersuites(peer->context, "TLS_AES_128_GCM_SHA256")
         == 1);
    SSL_CTX_set_keylog_callback(peer->context, raw_note_secret);
    if (is_server) {
        MUST(SSL_CTX_use_certificate_chain_file(peer->context, server_file)
             == 1);
        MUST(SSL_CTX_use_PrivateKey_file(peer->context, server_file,
                                         SSL_FILETYPE_PEM)
             == 1);
    }
    peer->ssl = SSL_new(peer->context);
    MUST(SSL_set_fd(peer->ssl, peer->fd) == 1);
    MUST(SSL_set_app_data(peer->ssl, peer) == 1);
    if (is_server) {
        SSL_set_accept_state(peer->ssl);
    }
    else {
        SSL_set_connect_state(peer->ssl);
    }
}

static inline void
raw_shake(struct raw_peer *peer, struct tls_end *end)
{
    for (int i = 0; i < 20; i++) {
        (void)SSL_do_handshake(peer->ssl);
        secure_end(end);
    }
    ERR_clear_error();
    MUST(SSL_is_init_finished(peer->ssl) && end->status == TWS_OK);
}

static inline void
raw_close(struct raw_peer *peer, struct tls_end *end)
{
    SSL_free(peer->ssl);
    SSL_CTX_free(peer->context);
    if (peer->fd >= 0) {
        close(peer->fd);
    }
    close_end(end);
}

/* HKDF-Expand-Label (RFC 8446 section 7.1). */
static inline void
raw_expand(const uint8_t secret[32], const char *label, uint8_t *out,
           size_t length)
{
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
                                         (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY,
                                          (void *)(uintptr_t)secret, 32),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX,
                                          (void *)(uintptr_t) "tls13 ", 6),
        OSSL_PARAM_construct_octet_string(
            OSSL_KDF_PARAM_LABEL, (void *)(uintptr_t)label, strlen(label)),
        OSSL_PARAM_construct_end()};
    MUST(EVP_KDF_derive(context, out, length, params) == 1);
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
}

/* One record of that type (RFC 8446 section 5.2); how long it is. */
static inline size_t
raw_record(struct raw_peer *peer, uint8_t type, const void *content,
           size_t length, uint8_t *record)
{
    uint8_t key[16];
    uint8_t nonce[12];
    int n = 0;
    size_t inner = length + 1;
    size_t outer = inner + 16;
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    raw_expand(peer->secret, "key", key, sizeof(key));
    raw_expand(peer->secret, "iv", nonce, sizeof(nonce));
    for (int i = 0; i < 8; i++) {
        nonce[11 - i] ^= (uint8_t)(peer->sequence >> (8 * i));
    }
    peer->sequence++;
    record[0] = 23;
    record[1] = 3;
    record[2] = 3;
    tws_store_be16(record + 3, (uint16_t)outer);
    MUST(EVP_EncryptInit_ex(cipher, EVP_aes_128_gcm(), NULL, key, nonce) == 1);
    MUST(EVP_EncryptUpdate(cipher, NULL, &n, record, 5) == 1);
    if (length > 0) {
        MUST(EVP_EncryptUpdate(cipher, record + 5, &n, content, (int)length)
             == 1);
    }
    MUST(EVP_EncryptUpdate(cipher, record + 5 + length, &n, &type, 1) == 1);
    MUST(EVP_EncryptFinal_ex(cipher, record + 5 + inner, &n) == 1);
    MUST(EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, 16,
                             record + 5 + inner)
         == 1);
    EVP_CIPHER_CTX_free(cipher);
    return 5 + outer;
}

static inline void
raw_send(struct raw_peer *peer, uint8_t type, const void *content,
         size_t length)
{
    static uint8_t record[70000];
    size_t size = raw_record(peer, type, content, length, record);
    MUST(write(peer->fd, record, size) == (ssize_t)size);
}

#endif /* TWS_TESTS_TLS_RAW_H */
