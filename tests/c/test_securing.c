#include "net/securing.h"

#include "tls_fixture.h"

static struct tws_tls_context *client;
static struct tws_tls_context *server;

/* The client's end, by way of what is tested; the server's starts TLS. */
struct ends {
    struct tws_securing securing;
    struct tls_pair pair;
};

static void
open_ends(struct ends *ends, const char *host)
{
    struct tws_error err;
    if (server_file == NULL) {
        fixture_begin();
    }
    client = client_context();
    server = server_context_of(server_file);
    open_plain(&ends->pair);
    CHECK_INT(
        tws_securing_init(&ends->securing, client, host, "peer:443", &err),
        TWS_OK);
    tws_tls_context_release(client); /* it is retained */
    CHECK_INT(
        tws_tls_start(&ends->pair.server.transport, server, NULL, NULL, &err),
        TWS_OK);
}

static void
close_ends(struct ends *ends)
{
    tws_securing_release(&ends->securing);
    close_pair(&ends->pair);
    tws_tls_context_release(server);
}

static enum tws_status
advance(struct ends *ends)
{
    struct tls_end *end = &ends->pair.client;
    return tws_securing_advance(&ends->securing, &end->transport, &end->events,
                                &end->err);
}

static enum tws_status
shake_ends(struct ends *ends)
{
    enum tws_status status = TWS_AGAIN;
    for (int i = 0; i < 1000 && status == TWS_AGAIN; i++) {
        status = advance(ends);
        secure_end(&ends->pair.server);
    }
    return status;
}

TEST(no_layer)
{
    struct tws_securing none = {.context = NULL};
    struct tws_transport transport = {.fd = -1};
    struct tws_error err;
    unsigned events = 77;
    CHECK_INT(tws_securing_advance(&none, &transport, &events, &err), TWS_OK);
    CHECK_INT(events, 77);
    CHECK(transport.tls == NULL);
    tws_securing_release(&none);
}

TEST(one_layer)
{
    struct ends ends;
    open_ends(&ends, "a.test");
    CHECK_INT(advance(&ends), TWS_AGAIN);
    CHECK_INT(ends.pair.client.events, TWS_WAIT_READ);
    CHECK_INT(shake_ends(&ends), TWS_OK);
    CHECK(ends.pair.client.transport.tls != NULL);
    struct tws_tls *tls = ends.pair.client.transport.tls;
    CHECK_INT(advance(&ends), TWS_OK); /* and it is not begun once more */
    CHECK(ends.pair.client.transport.tls == tls);
    secure_end(&ends.pair.server);
    check_echo(&ends.pair);
    close_ends(&ends);
}

TEST(certificate_of_somebody_else)
{
    struct ends ends;
    open_ends(&ends, "c.test");
    CHECK_INT(shake_ends(&ends), TWS_TLS);
    CHECK(strstr(ends.pair.client.err.reason, "c.test") != NULL);
    close_ends(&ends);
}

TEST(host_that_is_none)
{
    struct ends ends;
    open_ends(&ends, "");
    CHECK_INT(advance(&ends), TWS_TLS);
    CHECK(ends.pair.client.transport.tls == NULL);
    CHECK_INT(ends.pair.client.transport.fd >= 0, 1);
    close_ends(&ends);
}

TEST(peer_that_ends_in_the_middle)
{
    struct ends ends;
    open_ends(&ends, "a.test");
    CHECK_INT(advance(&ends), TWS_AGAIN);
    CHECK_INT(shutdown(ends.pair.server.transport.fd, SHUT_WR), 0);
    CHECK_INT(advance(&ends), TWS_TLS);
    CHECK_BYTES(ends.pair.client.err.reason,
                strlen(ends.pair.client.err.reason),
                "the peer closed the connection in the middle of the "
                "handshake");
    close_ends(&ends);
}

RUN(T(no_layer), T(one_layer), T(certificate_of_somebody_else),
    T(host_that_is_none), T(peer_that_ends_in_the_middle))
