#include "net/tls.h"

#include "tls_fixture.h"

static struct tws_tls_context *client;
static struct tws_tls_context *server;

static void
begin(int version)
{
    if (server_file == NULL) {
        fixture_begin();
    }
    client = client_context();
    server = server_context_of(server_file);
    limit_version(client, version);
}

static void
end(void)
{
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

static void
check_version(int version, const char *name)
{
    struct tls_pair pair;
    begin(version);
    open_pair(&pair, client, server, "a.test", "a.test:443");
    shake_well(&pair);
    CHECK(strcmp(info_of(&pair.client).version, name) == 0);
    CHECK(strcmp(info_of(&pair.server).version, name) == 0);
    CHECK(info_of(&pair.client).bits >= 128);
    check_echo(&pair);
    close_pair(&pair);
    end();
}

TEST(shakes_hands_and_echoes)
{
    check_version(TLS1_2_VERSION, "TLSv1.2");
    check_version(TLS1_3_VERSION, "TLSv1.3");
}

TEST(nothing_is_read_or_written_before_the_handshake)
{
    struct tls_pair pair;
    uint8_t data[1] = {0};
    size_t n;
    begin(0);
    open_pair(&pair, client, server, "a.test", NULL);
    CHECK_INT(tws_read(&pair.client.transport, data, 1, &n, &pair.client.err),
              TWS_TLS);
    CHECK_INT(tws_write(&pair.client.transport, data, 1, &n, &pair.client.err),
              TWS_TLS);
    shake_well(&pair);
    check_echo(&pair);
    close_pair(&pair);
    end();
}

RUN(T(shakes_hands_and_echoes),
    T(nothing_is_read_or_written_before_the_handshake))
