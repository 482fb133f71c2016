/* Which certificate a server shows, and which protocol it picks. */
#include "tls_fixture.h"

static struct tls_pair pair;

/* The identity of each has its certfile's name as its common name. */
static const char *
file_of(const char *name)
{
    if (server_file == NULL) {
        fixture_begin();
    }
    return certificate_file(&(struct recipe){.common_name = name}, &authority);
}

/* The common name of what a server with those identities shows to a client
 * that asks for the host. */
static void
check_shown(const struct tws_tls_identity *identities, size_t count,
            const char *host, const char *expected)
{
    char shown[64] = "";
    struct tws_tls_context *client =
        new_context(&(struct tws_tls_options){0}, NULL);
    struct tws_tls_context *server =
        new_context(&(struct tws_tls_options){.role = TWS_SERVER,
                                              .identities = identities,
                                              .identity_count = count},
                    NULL);
    open_pair(&pair, client, server, host == NULL ? NULL : "x", NULL);
    if (host != NULL) {
        /* As it is: our clients would not ask for ".a.test". */
        SSL *ssl = pair.client.transport.tls->ssl;
        MUST(SSL_set_tlsext_host_name(ssl, host) == 1);
    }
    shake_well(&pair);
    X509 *x509 = SSL_get0_peer_certificate(pair.client.transport.tls->ssl);
    X509_NAME_get_text_by_NID(X509_get_subject_name(x509), NID_commonName,
                              shown, sizeof(shown));
    if (strcmp(shown, expected) != 0) {
        fprintf(stderr, "%s: shown %s, expected %s\n", host, shown, expected);
        CHECK(false);
    }
    check_echo(&pair);
    close_pair(&pair);
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

TEST(the_certificate_for_the_name_is_shown)
{
    const struct tws_tls_identity identities[] = {
        {.name = "*.a.test", .certfile = file_of("wildcard")},
        {.name = "b.test", .certfile = file_of("b")},
        {.certfile = file_of("default")},
        {.name = "x.a.test", .certfile = file_of("x")},
        {.name = "dot.test.", .certfile = file_of("dot")},
        {.name = "*", .certfile = file_of("star")},
        {.name = "*.", .certfile = file_of("star")},
        {.name = "", .certfile = file_of("empty")},
    };
    static const struct {
        const char *host; /* NULL: none is asked for */
        const char *shown;
    } cases[] = {
        {"b.test", "b"},
        {"B.Test", "b"},
        {"dot.test", "dot"},
        {"w.a.test", "wildcard"},
        {"W.A.TEST", "wildcard"},
        {"x.a.test", "x"}, /* exact before wildcard, whatever the order */
        {"v.w.a.test", "default"}, /* one label, not two */
        {"a.test", "default"},     /* nor none */
        {".a.test", "default"},
        {"ab.test", "default"},
        {"b.test.evil", "default"},
        {"localhost", "default"},
        {NULL, "default"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        check_shown(identities, TWS_ARRAY_SIZE(identities), cases[i].host,
                    cases[i].shown);
    }
}

TEST(without_a_default_the_first_one_is)
{
    const struct tws_tls_identity identities[] = {
        {.name = "a.test", .certfile = file_of("a")},
        {.name = "b.test", .certfile = file_of("b")},
    };
    check_shown(identities, 2, "b.test", "b");
    check_shown(identities, 2, "c.test", "a");
    check_shown(identities, 2, NULL, "a");
}

/* A client is asked for its certificate whatever name it asks for. */
TEST(all_demand_the_same_of_a_client)
{
    static const char *const hosts[] = {"a.test", "b.test", "c.test"};
    const struct tws_tls_identity identities[] = {
        {.certfile = file_of("default")},
        {.name = "a.test", .certfile = file_of("a")},
        {.name = "b.test", .certfile = file_of("b")},
    };
    const char *mine =
        certificate_file(&(struct recipe){.common_name = "me"}, &authority);
    struct tws_tls_context *server =
        new_context(&(struct tws_tls_options){.role = TWS_SERVER,
                                              .identities = identities,
                                              .identity_count = 3,
                                              .verify = true,
                                              .cafile = trust_file},
                    NULL);
    for (size_t i = 0; i < 2 * TWS_ARRAY_SIZE(hosts); i++) {
        bool with = i % 2 == 0;
        struct tws_tls_context *client = new_context(
            &(struct tws_tls_options){
                .identities = &(struct tws_tls_identity){.certfile = mine},
                .identity_count = with},
            NULL);
        open_pair(&pair, client, server, hosts[i / 2], NULL);
        shake(&pair);
        CHECK_INT(pair.server.status, with ? TWS_OK : TWS_TLS);
        CHECK_INT(sk_X509_NAME_num(
                      SSL_get_client_CA_list(pair.client.transport.tls->ssl)),
                  1);
        close_pair(&pair);
        tws_tls_context_release(client);
    }
    tws_tls_context_release(server);
}

/* ------------------------------------------------------------------ ALPN */

static void
check_alpn(struct tws_span offered, struct tws_span known,
           const char *expected)
{
    if (server_file == NULL) {
        fixture_begin();
    }
    struct tws_tls_context *client =
        new_context(&(struct tws_tls_options){.alpn = offered}, NULL);
    struct tws_tls_context *server = new_context(
        &(struct tws_tls_options){
            .role = TWS_SERVER,
            .identities =
                (const struct tws_tls_identity[]){
                    {.certfile = server_file},
                    {.name = "b.test", .certfile = server_file}},
            .identity_count = 2,
            .alpn = known},
        NULL);
    for (int i = 0; i < 2; i++) {
        open_pair(&pair, client, server, i == 0 ? "a.test" : "b.test", NULL);
        shake(&pair);
        if (expected == NULL) {
            CHECK_INT(pair.client.status, TWS_TLS);
            CHECK_INT(pair.server.status, TWS_TLS);
        }
        else {
            struct tws_span text = {.data = expected,
                                    .length = strlen(expected)};
            CHECK_INT(pair.client.status, TWS_OK);
            CHECK(tws_span_equal(info_of(&pair.client).alpn, text));
            CHECK(tws_span_equal(info_of(&pair.server).alpn, text));
        }
        close_pair(&pair);
    }
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

/* RFC 7301 section 3.2. */
TEST(the_server_s_order_decides)
{
    check_alpn(TWS_SPAN("\x01"
                        "a\x02"
                        "bb\x03"
                        "ccc"),
               TWS_SPAN("\x03"
                        "ccc\x02"
                        "bb"),
               "ccc");
    check_alpn(TWS_SPAN("\x01"
                        "a\x02"
                        "bb"),
               TWS_SPAN("\x03"
                        "ccc\x02"
                        "bb"),
               "bb");
}

TEST(no_protocol_in_common)
{
    check_alpn(TWS_SPAN("\x01"
                        "a\x02"
                        "bb"),
               TWS_SPAN("\x02"
                        "aa\x01"
                        "b"),
               NULL);
}

TEST(a_side_without_protocols_ignores_them)
{
    struct tws_span none = {0};
    check_alpn(TWS_SPAN("\x01"
                        "a"),
               none, "");
    check_alpn(none,
               TWS_SPAN("\x01"
                        "a"),
               "");
    check_alpn(none, none, "");
}

RUN(T(the_certificate_for_the_name_is_shown),
    T(without_a_default_the_first_one_is), T(all_demand_the_same_of_a_client),
    T(the_server_s_order_decides), T(no_protocol_in_common),
    T(a_side_without_protocols_ignores_them))
