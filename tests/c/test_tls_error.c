#include "net/tls_error.h"

#include "tls_fixture.h"

#include <openssl/err.h>

static struct tls_pair pair;

static struct tws_tls_context *
default_server(void)
{
    if (server_file == NULL) {
        fixture_begin();
    }
    return server_context_of(server_file);
}

static struct tws_tls_context *
server_with(const struct recipe *recipe, const struct certificate *issuer)
{
    if (server_file == NULL) {
        fixture_begin();
    }
    return server_context_of(certificate_file(recipe, issuer));
}

/* A server that demands certificates of its clients. */
static struct tws_tls_context *
demanding_server(void)
{
    if (server_file == NULL) {
        fixture_begin();
    }
    return new_context(
        &(struct tws_tls_options){
            .role = TWS_SERVER,
            .identities = &(struct tws_tls_identity){.certfile = server_file},
            .identity_count = 1,
            .verify = true,
            .cafile = trust_file},
        NULL);
}

static struct tws_tls_context *
client_with(const char *certfile)
{
    return new_context(
        &(struct tws_tls_options){
            .role = TWS_CLIENT,
            .identities = &(struct tws_tls_identity){.certfile = certfile},
            .identity_count = certfile == NULL ? 0 : 1,
            .verify = true,
            .cafile = trust_file},
        NULL);
}

static void
check_end(const struct tls_end *end, enum tws_status status,
          const char *reason)
{
    if (end->status != status
        || (reason != NULL && strcmp(end->err.reason, reason) != 0)) {
        fprintf(stderr, "%d \"%s\", expected %d \"%s\"\n", end->status,
                end->err.reason, status, reason);
        CHECK(false);
    }
    CHECK_INT(ERR_peek_error(), 0);
}

/* Takes the references of both contexts. Reasons may be NULL: any. */
static void
check_failure(struct tws_tls_context *client, struct tws_tls_context *server,
              const char *host, const char *client_reason,
              const char *server_reason)
{
    open_pair(&pair, client, server, host, "peer");
    shake(&pair);
    check_end(&pair.client, TWS_TLS, client_reason);
    check_end(&pair.server, TWS_TLS, server_reason);
    close_pair(&pair);
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

/* ------------------------------------- what is wrong with a certificate */

#define REFUSED_CA                                                            \
    "the peer refused: unknown CA (it does not trust who issued our "         \
    "certificate)"

TEST(unknown_authority)
{
    struct tws_tls_context *server =
        server_with(&(struct recipe){.names = "DNS:a.test"}, &other_authority);
    check_failure(client_context(), server, "a.test",
                  "certificate of a.test: issued by the unknown authority "
                  "CN=Other CA, or a certificate between is missing",
                  REFUSED_CA);
}

TEST(self_signed)
{
    struct tws_tls_context *server =
        server_with(&(struct recipe){.names = "DNS:a.test"}, NULL);
    check_failure(client_context(), server, "a.test",
                  "certificate of a.test: self-signed, and not one that is "
                  "trusted (cafile names those that are)",
                  REFUSED_CA);
}

TEST(unknown_root_in_the_chain)
{
    struct tws_tls_context *server = default_server();
    struct certificate leaf = make_certificate(
        &(struct recipe){.names = "DNS:a.test"}, &other_authority);
    const char *path =
        write_pem("chain", leaf.x509, other_authority.x509, leaf.key, NULL);
    tws_tls_context_release(server);
    check_failure(client_context(), server_context_of(path), "a.test",
                  "certificate of the unknown authority CN=Other CA: not one "
                  "that is trusted",
                  REFUSED_CA);
    free_certificate(&leaf);
}

/* What is listed is trusted, though it is no root itself. */
TEST(an_authority_below_a_root_may_be_trusted)
{
    struct tws_tls_context *server = default_server();
    struct certificate below = make_certificate(
        &(struct recipe){.common_name = "Below", .is_authority = true},
        &other_authority);
    struct certificate leaf =
        make_certificate(&(struct recipe){.names = "DNS:a.test"}, &below);
    struct tws_tls_context *client = new_context(
        &(struct tws_tls_options){.verify = true,
                                  .cafile = authority_file(&below)},
        NULL);
    tws_tls_context_release(server);
    server = server_context_of(write_certificate("leaf", &leaf));
    open_pair(&pair, client, server, "a.test", NULL);
    shake_well(&pair);
    close_pair(&pair);
    tws_tls_context_release(client);
    tws_tls_context_release(server);
    free_certificate(&below);
    free_certificate(&leaf);
}

static void
check_expired(int version)
{
    char reason[160];
    struct tm tm;
    struct tws_tls_context *server = default_server();
    struct certificate leaf =
        make_certificate(&(struct recipe){.common_name = "nobody",
                                          .names = "DNS:a.test,DNS:b.test",
                                          .from = -86400L * 40,
                                          .until = -86400L * 10},
                         &authority);
    MUST(ASN1_TIME_to_tm(X509_get0_notAfter(leaf.x509), &tm) == 1);
    (void)snprintf(reason, sizeof(reason),
                   "certificate of a.test: expired (notAfter %04d-%02d-%02d)",
                   tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
    tws_tls_context_release(server);
    server = server_context_of(write_certificate("expired", &leaf));
    limit_version(server, version);
    check_failure(client_context(), server, "a.test", reason,
                  "the peer refused: certificate expired");
    free_certificate(&leaf);
}

TEST(expired)
{
    check_expired(TLS1_2_VERSION);
    check_expired(TLS1_3_VERSION);
}

TEST(not_yet_valid)
{
    struct tws_tls_context *server = server_with(
        &(struct recipe){
            .names = "DNS:a.test", .from = 86400L * 10, .until = 86400L * 20},
        &authority);
    struct tws_tls_context *client = client_context();
    open_pair(&pair, client, server, "a.test", NULL);
    shake(&pair);
    check_end(&pair.client, TWS_TLS, NULL);
    CHECK(strstr(pair.client.err.reason,
                 "certificate of a.test: not valid yet (notBefore 2")
          != NULL);
    close_pair(&pair);
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

#define REFUSED_BAD "the peer refused: bad certificate"

TEST(for_another_host)
{
    check_failure(client_with(NULL), default_server(), "c.test",
                  "certificate is for a.test, b.test, *.wild.test, "
                  "127.0.0.1, ::1, expected c.test",
                  REFUSED_BAD);
    check_failure(client_context(), default_server(), "127.0.0.2",
                  "certificate is for a.test, b.test, *.wild.test, "
                  "127.0.0.1, ::1, expected 127.0.0.2",
                  REFUSED_BAD);
}

TEST(for_many_other_hosts)
{
    char names[700] = "";
    for (int i = 0; i < 40; i++) {
        (void)snprintf(names + strlen(names), sizeof(names) - strlen(names),
                       "%sDNS:host%d.test", i == 0 ? "" : ",", i);
    }
    struct tws_tls_context *server =
        server_with(&(struct recipe){.names = names}, &authority);
    check_failure(client_context(), server,
                  "a-name-that-is-longer-than-what-is-shown-of-any-name.of."
                  "a.host.test",
                  "certificate is for host0.test, host1.test, host2.test, "
                  "host3.test, host4.test, host5.test, ..., expected "
                  "a-name-that-is-longer-than-what-is-shown-of-any-",
                  REFUSED_BAD);
}

/* RFC 9525 section 2: the common name is not a host. */
TEST(for_no_host)
{
    struct tws_tls_context *server =
        server_with(&(struct recipe){.common_name = "a.test"}, &authority);
    check_failure(client_context(), server, "a.test",
                  "certificate of CN=a.test names no host (subjectAltName), "
                  "expected a.test",
                  REFUSED_BAD);
}

TEST(not_for_a_server)
{
    struct tws_tls_context *server = server_with(
        &(struct recipe){.names = "DNS:a.test", .usage = "clientAuth"},
        &authority);
    check_failure(client_context(), server, "a.test",
                  "certificate of a.test: made for another purpose (extended "
                  "key usage)",
                  "the peer refused: unsupported certificate");
}

/* ------------------------------------------------------ of a client */

TEST(no_certificate_of_a_client)
{
    struct tws_tls_context *server = demanding_server();
    limit_version(server, TLS1_2_VERSION);
    check_failure(client_context(), server, "a.test",
                  "the peer refused: handshake failure (no cipher in common, "
                  "or it wants a certificate)",
                  "the client sent no certificate, but one is required");
}

/* In TLS 1.3 a client is done before the server has looked. */
TEST(no_certificate_of_a_client_of_tls_1_3)
{
    struct tws_tls_context *server = demanding_server();
    struct tws_tls_context *client = client_context();
    char data[1];
    size_t got;
    open_pair(&pair, client, server, "a.test", NULL);
    shake(&pair);
    check_end(&pair.client, TWS_OK, NULL);
    check_end(&pair.server, TWS_TLS,
              "the client sent no certificate, but one is required");
    for (int i = 0; i < 2; i++) {
        pair.client.status = tws_read(&pair.client.transport, (uint8_t *)data,
                                      1, &got, &pair.client.err);
        check_end(&pair.client, TWS_TLS,
                  "the peer refused: certificate required");
    }
    close_pair(&pair);
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

TEST(unknown_authority_of_a_client)
{
    struct tws_tls_context *server = demanding_server();
    const char *mine = certificate_file(&(struct recipe){.common_name = "me"},
                                        &other_authority);
    limit_version(server, TLS1_2_VERSION);
    check_failure(client_with(mine), server, "a.test", REFUSED_CA,
                  "certificate of CN=me: issued by the unknown authority "
                  "CN=Other CA, or a certificate between is missing");
}

TEST(not_for_a_client)
{
    struct tws_tls_context *server = demanding_server();
    const char *mine = certificate_file(
        &(struct recipe){.common_name = "me", .usage = "serverAuth"},
        &authority);
    limit_version(server, TLS1_2_VERSION);
    check_failure(client_with(mine), server, "a.test", NULL, NULL);
}

/* ------------------------------------------------------- nothing in common */

TEST(no_version_in_common)
{
    struct tws_tls_context *server = default_server();
    struct tws_tls_context *client = new_context(
        &(struct tws_tls_options){.minimum_version = TLS1_3_VERSION}, NULL);
    limit_version(server, TLS1_2_VERSION);
    check_failure(client, server, "a.test",
                  "the peer refused: protocol version (it speaks none of our "
                  "TLS versions)",
                  "no TLS version in common with the peer (see "
                  "minimum_version)");
}

TEST(no_cipher_in_common)
{
    struct tws_tls_context *server = default_server();
    struct tws_tls_context *client = new_context(
        &(struct tws_tls_options){.ciphers = "ECDHE-RSA-AES128-GCM-SHA256"},
        NULL);
    limit_version(client, TLS1_2_VERSION);
    check_failure(client, server, "a.test",
                  "the peer refused: handshake failure (no cipher in common, "
                  "or it wants a certificate)",
                  "no cipher in common with the peer");
}

TEST(no_application_protocol_in_common)
{
    struct tws_tls_context *server = default_server();
    tws_tls_context_release(server);
    server = new_context(
        &(struct tws_tls_options){
            .role = TWS_SERVER,
            .identities = &(struct tws_tls_identity){.certfile = server_file},
            .identity_count = 1,
            .alpn = TWS_SPAN("\x08http/1.1")},
        NULL);
    struct tws_tls_context *client = new_context(
        &(struct tws_tls_options){.alpn = TWS_SPAN("\x02h2")}, NULL);
    check_failure(client, server, "a.test",
                  "the peer refused: no application protocol (ALPN) in "
                  "common",
                  "no application protocol (ALPN) in common with the peer");
}

/* --------------------------------------------------------- no TLS at all */

/* What a server says to bytes that are not TLS. */
static void
check_server_hears(const char *bytes, size_t length, enum tws_status status,
                   const char *reason)
{
    struct tws_tls_context *server = default_server();
    open_plain(&pair);
    MUST(tws_tls_start(&pair.server.transport, server, NULL, NULL,
                       &pair.server.err)
         == TWS_OK);
    MUST(write(pair.client.transport.fd, bytes, length) == (ssize_t)length);
    secure_end(&pair.server);
    check_end(&pair.server, status, reason);
    CHECK_INT(pair.server.err.http_status, status == TWS_REFUSED ? 400 : 0);
    close_pair(&pair);
    tws_tls_context_release(server);
}

#define HTTP_REASON                                                           \
    "this port speaks TLS, but the request came in plain HTTP: use https:// " \
    "or wss://"

TEST(plain_http)
{
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\n\r\n",           "OPTIONS * HTTP/1.1\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n\r\n",      "PUT /x HTTP/1.1\r\n\r\n",
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(requests); i++) {
        check_server_hears(requests[i], strlen(requests[i]), TWS_REFUSED,
                           HTTP_REASON);
    }
}

TEST(anything_else)
{
    check_server_hears("SSH-2.0-x\r\n", 11, TWS_TLS,
                       "the peer does not speak TLS: it began with 53 53 48 "
                       "2d 32 2e 30 2d");
    check_server_hears("GETAWAY", 7, TWS_TLS,
                       "the peer does not speak TLS: it began with 47 45 54 "
                       "41 57 41 59");
    check_server_hears("\0\0\0\0\0\0\0\0\0\0", 10, TWS_TLS,
                       "the peer does not speak TLS: it began with 00 00 00 "
                       "00 00 00 00 00");
    check_server_hears("\x16\x03\x01\0\x05garbage", 12, TWS_TLS, NULL);
    check_server_hears("\x16\x03\x01\xff\xff\x01\0\0\0\0", 10, TWS_TLS, NULL);
}

static void
check_client_hears(const char *bytes, size_t length, const char *reason)
{
    struct tws_tls_context *client;
    tws_tls_context_release(default_server());
    client = client_context();
    open_plain(&pair);
    MUST(tws_tls_start(&pair.client.transport, client, "a.test", NULL,
                       &pair.client.err)
         == TWS_OK);
    MUST(write(pair.server.transport.fd, bytes, length) == (ssize_t)length);
    secure_end(&pair.client);
    check_end(&pair.client, TWS_TLS, reason);
    close_pair(&pair);
    tws_tls_context_release(client);
}

TEST(a_server_without_tls)
{
    check_client_hears("HTTP/1.1 400 Bad Request\r\n\r\n", 28,
                       "the server answered in plain HTTP, not in TLS: use "
                       "ws://, or its port for TLS");
    check_client_hears("220 mail ready\r\n", 16,
                       "the peer does not speak TLS: it began with 32 32 30 "
                       "20 6d 61 69 6c");
    /* To a client it is nothing special. */
    check_client_hears("GET / HTTP/1.1\r\n\r\n", 18,
                       "the peer does not speak TLS: it began with 47 45 54 "
                       "20 2f 20 48 54");
}

TEST(alerts)
{
    check_client_hears("\x15\x03\x01\0\x02\x02\x70", 7,
                       "the peer refused: unrecognized name (it does not "
                       "serve this host)");
    check_client_hears("\x15\x03\x01\0\x02\x02\x5a", 7,
                       "the peer refused: user canceled (alert 90)");
    check_client_hears("\x15\x03\x01\0\x02\x02\xee", 7,
                       "the peer refused: unknown (alert 238)");
}

/* ---------------------------------------------------------- the queue */

TEST(the_queue_is_told_and_emptied)
{
    struct tws_error err;
    ERR_raise(ERR_LIB_SSL, SSL_R_NO_CIPHER_MATCH);
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    CHECK_INT(tws_tls_error_queue(&err, "what"), TWS_TLS);
    CHECK(strcmp(err.reason, "what: no cipher match") == 0);
    CHECK_INT(ERR_peek_error(), 0);
    CHECK_INT(tws_tls_error_queue(&err, "what"), TWS_TLS);
    CHECK(strcmp(err.reason, "what: no reason given") == 0);
    ERR_raise(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE);
    CHECK_INT(tws_tls_error_queue(&err, "what"), TWS_NOMEM);
    ERR_raise(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE);
    CHECK_INT(tws_tls_error_peer(&err, TWS_CLIENT, NULL, 0), TWS_NOMEM);
    CHECK_INT(ERR_peek_error(), 0);
}

RUN(T(unknown_authority), T(self_signed), T(unknown_root_in_the_chain),
    T(an_authority_below_a_root_may_be_trusted), T(expired), T(not_yet_valid),
    T(for_another_host), T(for_many_other_hosts), T(for_no_host),
    T(not_for_a_server), T(no_certificate_of_a_client),
    T(no_certificate_of_a_client_of_tls_1_3), T(unknown_authority_of_a_client),
    T(not_for_a_client), T(no_version_in_common), T(no_cipher_in_common),
    T(no_application_protocol_in_common), T(plain_http), T(anything_else),
    T(a_server_without_tls), T(alerts), T(the_queue_is_told_and_emptied))
