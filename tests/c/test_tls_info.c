/* What is told of a connection. */
#include "net/tls.h"

#include "tls_fixture.h"

static struct tls_pair pair;
static struct tws_tls_context *client;
static struct tws_tls_context *server;

static void
begin(int version)
{
    struct tws_span alpn = TWS_SPAN("\x08http/1.1");
    if (server_file == NULL) {
        fixture_begin();
    }
    const char *mine =
        certificate_file(&(struct recipe){.common_name = "me"}, &authority);
    struct tws_tls_identity own = {.certfile = mine};
    struct tws_tls_identity its = {.certfile = server_file};
    client = new_context(&(struct tws_tls_options){.role = TWS_CLIENT,
                                                   .identities = &own,
                                                   .identity_count = 1,
                                                   .verify = true,
                                                   .cafile = trust_file,
                                                   .alpn = alpn},
                         NULL);
    server = new_context(&(struct tws_tls_options){.role = TWS_SERVER,
                                                   .identities = &its,
                                                   .identity_count = 1,
                                                   .verify = true,
                                                   .cafile = trust_file,
                                                   .alpn = alpn},
                         NULL);
    limit_version(client, version);
}

static void
end(void)
{
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

static void
check_told(const struct tws_tls_info *info, const char *version,
           const char *cipher, bool resumed)
{
    CHECK(strcmp(info->version, version) == 0);
    CHECK(strcmp(info->cipher, cipher) == 0);
    CHECK_INT(info->bits, 256);
    CHECK_INT(info->resumed, resumed);
    CHECK_BYTES(info->alpn.data, info->alpn.length, "http/1.1");
}

/* The common name of the peer's certificate. */
static void
check_peer(struct tls_end *peer, const char *name)
{
    uint8_t *der = NULL;
    size_t length = 0;
    char text[64] = "";
    CHECK_INT(tws_tls_peer_certificate(peer->transport.tls, &der, &length,
                                       &peer->err),
              TWS_OK);
    const unsigned char *at = der;
    X509 *x509 = d2i_X509(NULL, &at, (long)length);
    CHECK(x509 != NULL && at == der + length);
    X509_NAME_get_text_by_NID(X509_get_subject_name(x509), NID_commonName,
                              text, sizeof(text));
    CHECK(strcmp(text, name) == 0);
    X509_free(x509);
    free(der);
}

static void
check_version(int version, const char *name, const char *cipher)
{
    begin(version);
    for (int i = 0; i < 2; i++) {
        open_pair(&pair, client, server, "a.test", "a.test:1");
        shake_well(&pair);
        check_echo(&pair);
        struct tws_tls_info info = info_of(&pair.client);
        check_told(&info, name, cipher, i == 1);
        info = info_of(&pair.server);
        check_told(&info, name, cipher, i == 1);
        check_peer(&pair.client, "server");
        check_peer(&pair.server, "me");
        close_pair(&pair);
    }
    end();
}

TEST(both_versions)
{
    check_version(TLS1_3_VERSION, "TLSv1.3", "TLS_AES_256_GCM_SHA384");
    check_version(TLS1_2_VERSION, "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384");
}

TEST(before_the_handshake_little_is_known)
{
    uint8_t *der = NULL;
    size_t length = 0;
    begin(0);
    open_pair(&pair, client, server, "a.test", NULL);
    struct tws_tls_info info = info_of(&pair.client);
    CHECK(strcmp(info.cipher, "") == 0);
    CHECK_INT(info.bits, 0);
    CHECK(!info.resumed);
    CHECK_INT(info.alpn.length, 0);
    CHECK(info.version != NULL);
    CHECK_INT(tws_tls_peer_certificate(pair.client.transport.tls, &der,
                                       &length, &pair.client.err),
              TWS_EOF);
    close_pair(&pair);
    end();
}

TEST(a_client_may_have_no_certificate)
{
    uint8_t *der = NULL;
    size_t length = 0;
    begin(0);
    struct tws_tls_context *open = server_context_of(server_file);
    struct tws_tls_context *bare = client_context();
    open_pair(&pair, bare, open, "a.test", NULL);
    shake_well(&pair);
    CHECK_INT(tws_tls_peer_certificate(pair.server.transport.tls, &der,
                                       &length, &pair.server.err),
              TWS_EOF);
    CHECK(der == NULL);
    close_pair(&pair);
    tws_tls_context_release(open);
    tws_tls_context_release(bare);
    end();
}

RUN(T(both_versions), T(before_the_handshake_little_is_known),
    T(a_client_may_have_no_certificate))
