#include "net/tls_context.h"

#include "tls_fixture.h"

#include <errno.h>
#include <openssl/err.h>

static struct tls_pair pair;
static struct tws_error err;

static void
check_refused(const struct tws_tls_options *options, enum tws_status status,
              const char *reason)
{
    struct tws_tls_context *context = NULL;
    CHECK_INT(tws_tls_context_new(options, NULL, &context, &err), status);
    CHECK(context == NULL);
    CHECK_INT(ERR_peek_error(), 0);
    if (strstr(err.reason, reason) == NULL) {
        fprintf(stderr, "\"%s\", expected \"%s\"\n", err.reason, reason);
        CHECK(false);
    }
}

static struct tws_tls_options
server_options(void)
{
    static struct tws_tls_identity identity;
    if (server_file == NULL) {
        fixture_begin();
        identity.certfile = server_file;
    }
    return (struct tws_tls_options){
        .role = TWS_SERVER, .identities = &identity, .identity_count = 1};
}

TEST(a_server_needs_a_certificate)
{
    check_refused(&(struct tws_tls_options){.role = TWS_SERVER}, TWS_TLS,
                  "a server needs a certificate");
    struct tws_tls_context *context =
        new_context(&(struct tws_tls_options){0}, NULL);
    tws_tls_context_release(context);
}

TEST(what_can_not_be_loaded_is_told)
{
    struct tws_tls_options options = server_options();
    const struct tws_tls_identity identities[] = {
        {.certfile = server_file}, {.name = "b", .certfile = "/nowhere/b"}};
    options.identities = identities;
    options.identity_count = 2;
    check_refused(&options, TWS_OS, "/nowhere/b");
    CHECK_INT(err.sys_errno, ENOENT);
    check_refused(
        &(struct tws_tls_options){.verify = true, .cafile = "/nowhere/ca"},
        TWS_OS, "/nowhere/ca");
    /* Without verify nobody is trusted, and nothing is loaded for it. */
    struct tws_tls_context *context =
        new_context(&(struct tws_tls_options){.cafile = "/nowhere/ca"}, NULL);
    tws_tls_context_release(context);
}

TEST(ciphers_are_named)
{
    check_refused(&(struct tws_tls_options){.ciphers = "NO-SUCH-CIPHER"},
                  TWS_TLS, "ciphers: none of TLS 1.2 matches \"NO-SUCH-");
    struct tws_tls_options options = server_options();
    options.ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305";
    struct tws_tls_context *server = new_context(&options, NULL);
    struct tws_tls_context *client = client_context();
    limit_version(client, TLS1_2_VERSION);
    open_pair(&pair, client, server, "a.test", NULL);
    shake_well(&pair);
    CHECK(strcmp(info_of(&pair.client).cipher, "ECDHE-ECDSA-CHACHA20-POLY1305")
          == 0);
    close_pair(&pair);
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

/* RFC 8996. */
TEST(versions_before_1_2_are_refused)
{
    check_refused(&(struct tws_tls_options){.minimum_version = 0x0302},
                  TWS_TLS, "minimum_version is 0x0302");
    check_refused(&(struct tws_tls_options){.minimum_version = 0x0305},
                  TWS_TLS, "minimum_version is 0x0305");
    struct tws_tls_options options = server_options();
    struct tws_tls_context *server = new_context(&options, NULL);
    struct tws_tls_context *client =
        new_context(&(struct tws_tls_options){0}, NULL);
    SSL_CTX *old = client->sites[0].ssl_context;
    SSL_CTX_set_min_proto_version(old, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(old, TLS1_1_VERSION);
    SSL_CTX_set_security_level(old, 0);
    open_pair(&pair, client, server, "a.test", NULL);
    shake(&pair);
    CHECK_INT(pair.client.status, TWS_TLS);
    CHECK_INT(pair.server.status, TWS_TLS);
    CHECK(strstr(pair.server.err.reason, "no TLS version in common") != NULL);
    close_pair(&pair);
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

TEST(the_minimum_version_may_be_1_3)
{
    struct tws_tls_options options = server_options();
    options.minimum_version = 0x0304;
    struct tws_tls_context *server = new_context(&options, NULL);
    struct tws_tls_context *client = client_context();
    for (int i = 0; i < 2; i++) {
        limit_version(client, i == 0 ? TLS1_3_VERSION : TLS1_2_VERSION);
        open_pair(&pair, client, server, "a.test", NULL);
        shake(&pair);
        CHECK_INT(pair.server.status, i == 0 ? TWS_OK : TWS_TLS);
        close_pair(&pair);
    }
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

TEST(protocols_are_in_wire_form)
{
    static const struct tws_span wrong[] = {TWS_SPAN("\0"), TWS_SPAN("\x02h"),
                                            TWS_SPAN("\x02h2\x09http/1.1"),
                                            TWS_SPAN("\x02h2\0")};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(wrong); i++) {
        check_refused(&(struct tws_tls_options){.alpn = wrong[i]}, TWS_TLS,
                      "alpn: not a list of names");
    }
}

TEST(references_are_counted)
{
    struct tws_tls_context *context =
        new_context(&(struct tws_tls_options){0}, NULL);
    CHECK(tws_tls_context_retain(context) == context);
    tws_tls_context_release(context);
    CHECK_INT(context->references, 1);
    struct tws_transport plain = {0};
    tws_transport_plain(&plain, -1);
    CHECK_INT(tws_tls_start(&plain, context, "a.test", NULL, &err), TWS_OK);
    CHECK_INT(context->references, 2);
    tws_transport_release(&plain);
    CHECK_INT(context->references, 1);
    tws_tls_context_release(context);
    tws_tls_context_release(NULL);
}

/* ------------------------------------------------------------ resumption */

/* One connection, with something said so that tickets arrive. */
static bool
resumes(struct tws_tls_context *client, struct tws_tls_context *server,
        const char *host, const char *peer)
{
    open_pair(&pair, client, server, host, peer);
    shake_well(&pair);
    check_echo(&pair);
    bool resumed = info_of(&pair.client).resumed;
    CHECK_INT(info_of(&pair.server).resumed, resumed);
    close_pair(&pair);
    return resumed;
}

static void
check_resumption(int version)
{
    struct tws_tls_options options = server_options();
    struct tws_tls_context *server = new_context(&options, NULL);
    struct tws_tls_context *client = client_context();
    struct tws_tls_context *other = client_context();
    limit_version(server, version);
    CHECK(!resumes(client, server, "a.test", "a.test:1"));
    for (int i = 0; i < 3; i++) {
        CHECK(resumes(client, server, "a.test", "a.test:1"));
    }
    CHECK(!resumes(client, server, "a.test", "a.test:2"));
    CHECK(!resumes(client, server, "b.test", "a.test:1"));
    CHECK(!resumes(client, server, "a.test", NULL));
    CHECK(!resumes(other, server, "a.test", "a.test:1"));
    CHECK(resumes(client, server, "a.test", "a.test:1"));
    tws_tls_context_release(client);
    tws_tls_context_release(other);
    tws_tls_context_release(server);
}

TEST(sessions_are_resumed_with_the_same_peer_only)
{
    check_resumption(TLS1_2_VERSION);
    check_resumption(TLS1_3_VERSION);
}

static void
check_reload(int version)
{
    struct tws_tls_options options = server_options();
    struct tws_tls_context *server = new_context(&options, NULL);
    struct tws_tls_context *client = client_context();
    limit_version(server, version);
    CHECK(!resumes(client, server, "a.test", "a.test:1"));
    struct tws_tls_context *reloaded = new_context(&options, server);
    tws_tls_context_release(server);
    limit_version(reloaded, version);
    CHECK(resumes(client, reloaded, "a.test", "a.test:1"));
    struct tws_tls_context *fresh = new_context(&options, NULL);
    limit_version(fresh, version);
    CHECK(!resumes(client, fresh, "a.test", "a.test:1"));
    tws_tls_context_release(reloaded);
    tws_tls_context_release(fresh);
    tws_tls_context_release(client);
}

TEST(a_reload_keeps_tickets)
{
    check_reload(TLS1_2_VERSION);
    check_reload(TLS1_3_VERSION);
}

static void
check_demand(int version)
{
    struct tws_tls_options options = server_options();
    const char *mine =
        certificate_file(&(struct recipe){.common_name = "me"}, &authority);
    struct tws_tls_context *open = new_context(&options, NULL);
    options.verify = true;
    options.cafile = trust_file;
    struct tws_tls_context *demanding = new_context(&options, open);
    struct tws_tls_context *again = new_context(&options, demanding);
    options.cafile = authority_file(&other_authority);
    struct tws_tls_context *of_others = new_context(&options, demanding);
    struct tws_tls_context *client = new_context(
        &(struct tws_tls_options){
            .identities = &(struct tws_tls_identity){.certfile = mine},
            .identity_count = 1},
        NULL);
    limit_version(client, version);
    /* A ticket from where nobody was asked for a certificate. */
    CHECK(!resumes(client, open, "a.test", "x"));
    CHECK(!resumes(client, demanding, "a.test", "x"));
    /* From where the same were trusted. */
    CHECK(resumes(client, again, "a.test", "x"));
    /* From where others were. */
    open_pair(&pair, client, of_others, "a.test", "x");
    shake(&pair);
    CHECK_INT(pair.server.status, TWS_TLS);
    CHECK(!info_of(&pair.server).resumed);
    close_pair(&pair);
    tws_tls_context_release(open);
    tws_tls_context_release(demanding);
    tws_tls_context_release(again);
    tws_tls_context_release(of_others);
    tws_tls_context_release(client);
}

/* Who resumes shows no certificate: a ticket must not stand for one. */
TEST(tickets_are_good_where_the_same_clients_are_trusted)
{
    check_demand(TLS1_2_VERSION);
    check_demand(TLS1_3_VERSION);
}

/* A session that the server refuses costs nothing but the attempt. */
TEST(a_failed_handshake_forgets_the_session)
{
    struct tws_tls_options options = server_options();
    struct tws_tls_context *server = new_context(&options, NULL);
    struct tws_tls_context *client = client_context();
    limit_version(client, TLS1_2_VERSION);
    CHECK(!resumes(client, server, "a.test", "x"));
    CHECK(resumes(client, server, "a.test", "x"));
    open_pair(&pair, client, server, "a.test", "x");
    MUST(write(pair.server.transport.fd, "garbage!", 8) == 8);
    secure_end(&pair.client);
    CHECK_INT(pair.client.status, TWS_TLS);
    close_pair(&pair);
    CHECK(!resumes(client, server, "a.test", "x"));
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

RUN(T(a_server_needs_a_certificate), T(what_can_not_be_loaded_is_told),
    T(ciphers_are_named), T(versions_before_1_2_are_refused),
    T(the_minimum_version_may_be_1_3), T(protocols_are_in_wire_form),
    T(references_are_counted), T(sessions_are_resumed_with_the_same_peer_only),
    T(a_reload_keeps_tickets),
    T(tickets_are_good_where_the_same_clients_are_trusted),
    T(a_failed_handshake_forgets_the_session))
