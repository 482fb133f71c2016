/* OPENSSL_cleanse() is replaced, so that what is wiped can be looked at. */
#include "net/proxying.h"

#include "names_fixture.h"
#include "tls_fixture.h"

#include <errno.h>
#include <openssl/crypto.h>

#define OPENED "HTTP/1.1 200 OK\r\n\r\n"

static unsigned wiped; /* passwords */

void
OPENSSL_cleanse(void *data, size_t length)
{
    wiped += length == 6 && memcmp(data, "sesame", 6) == 0;
    memset(data, 0, length);
}

static const struct named known[] = {
    {"example.org", {.length = 0}}, /* it has no address */
    {.name = NULL},
};

struct ends {
    struct tws_proxying proxying;
    struct tws_transport transport;
    int peer;
    unsigned events;
    struct tws_error err;
};

static enum tws_status
open_ends(struct ends *ends, const struct tws_proxy *proxy, const char *host)
{
    int fds[2];
    memset(ends, 0, sizeof(*ends));
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    tws_transport_plain(&ends->transport, fds[0]);
    ends->peer = fds[1];
    return tws_proxying_init(&ends->proxying, proxy, host, 443, &ends->err);
}

static void
close_ends(struct ends *ends)
{
    int fd = ends->transport.fd;
    tws_transport_release(&ends->transport);
    tws_proxying_release(&ends->proxying);
    close(fd);
    if (ends->peer >= 0) {
        close(ends->peer);
    }
}

static enum tws_status
advance(struct ends *ends)
{
    return tws_proxying_advance(&ends->proxying, &ends->transport,
                                &ends->events, &ends->err);
}

static enum tws_status
look_up(struct ends *ends)
{
    unsigned ready;
    enum tws_status status = tws_proxying_look_up(&ends->proxying, &ends->err);
    while (status == TWS_AGAIN) {
        CHECK_INT(tws_socket_wait(tws_proxying_fd(&ends->proxying),
                                  TWS_WAIT_READ, UINT64_MAX, &ready,
                                  &ends->err),
                  TWS_OK);
        status = tws_proxying_look_up(&ends->proxying, &ends->err);
    }
    return status;
}

#define SAY(ends, literal)                                                    \
    CHECK_INT(write((ends)->peer, (literal), sizeof(literal) - 1),            \
              (long long)sizeof(literal) - 1)

#define HEAR(ends, literal)                                                   \
    do {                                                                      \
        char hear_data[2048];                                                 \
        ssize_t hear_got = read((ends)->peer, hear_data, sizeof(hear_data));  \
        CHECK_BYTES(hear_data, hear_got < 0 ? 0 : (size_t)hear_got, literal); \
    } while (0)

TEST(no_proxy)
{
    struct tws_proxying none = {.tunnel = NULL};
    struct tws_transport transport = {.fd = -1};
    struct tws_error err;
    unsigned events;
    CHECK_INT(tws_proxying_look_up(&none, &err), TWS_OK);
    CHECK_INT(tws_proxying_advance(&none, &transport, &events, &err), TWS_OK);
    CHECK_INT(tws_proxying_fd(&none), -1);
    tws_proxying_interrupt(&none);
    tws_proxying_release(&none);
}

TEST(http)
{
    struct ends ends;
    const struct tws_proxy proxy = {.kind = TWS_PROXY_HTTP,
                                    .host = "proxy.test",
                                    .port = 3128,
                                    .username = "Aladdin",
                                    .password = "sesame",
                                    .user_agent = "test/1"};
    wiped = 0;
    CHECK_INT(open_ends(&ends, &proxy, "example.org"), TWS_OK);
    CHECK_INT(wiped, 1); /* what is needed of it is written down */
    CHECK_INT(look_up(&ends), TWS_OK);
    CHECK_INT(advance(&ends), TWS_AGAIN);
    CHECK_INT(ends.events, TWS_WAIT_READ);
    HEAR(&ends, "CONNECT example.org:443 HTTP/1.1\r\n"
                "Host: example.org:443\r\nUser-Agent: test/1\r\n"
                "Proxy-Authorization: Basic QWxhZGRpbjpzZXNhbWU=\r\n\r\n");
    SAY(&ends, OPENED);
    CHECK_INT(advance(&ends), TWS_OK);
    close_ends(&ends);
}

TEST(refusal)
{
    struct ends ends;
    struct tws_http_head head;
    const struct tws_proxy proxy = {
        .kind = TWS_PROXY_HTTP, .host = "proxy.test", .port = 3128};
    CHECK_INT(open_ends(&ends, &proxy, "example.org"), TWS_OK);
    CHECK_INT(advance(&ends), TWS_AGAIN);
    SAY(&ends, "HTTP/1.1 407 No\r\nContent-Length: 4\r\n\r\nbody");
    CHECK_INT(advance(&ends), TWS_REFUSED);
    CHECK_INT(ends.err.http_status, 407);
    CHECK_INT(tws_tunnel_answer(ends.proxying.tunnel, &head, &ends.err),
              TWS_OK);
    close_ends(&ends);
}

TEST(proxy_that_hangs_up)
{
    struct ends ends;
    const struct tws_proxy proxy = {
        .kind = TWS_PROXY_HTTP, .host = "proxy.test", .port = 3128};
    CHECK_INT(open_ends(&ends, &proxy, "example.org"), TWS_OK);
    CHECK_INT(advance(&ends), TWS_AGAIN);
    SAY(&ends, "HTTP/1.1 200 O");
    CHECK_INT(shutdown(ends.peer, SHUT_WR), 0);
    CHECK_INT(advance(&ends), TWS_REFUSED);
    CHECK_BYTES(ends.err.reason, strlen(ends.err.reason),
                "proxy closed the connection before its answer was complete");
    CHECK(!tws_tunnel_refusal(ends.proxying.tunnel, &ends.err));
    close_ends(&ends);
}

/* --- over TLS --- */

TEST(https)
{
    struct ends ends;
    struct tls_end peer = {.status = TWS_AGAIN};
    char data[64] = "";
    fixture_begin();
    struct tws_tls_context *client = client_context();
    struct tws_tls_context *server = server_context_of(server_file);
    const struct tws_proxy proxy = {.kind = TWS_PROXY_HTTPS,
                                    .host = "a.test",
                                    .port = 443,
                                    .context = client};
    CHECK_INT(open_ends(&ends, &proxy, "example.org"), TWS_OK);
    tws_tls_context_release(client);
    tws_transport_plain(&peer.transport, ends.peer);
    CHECK_INT(tws_tls_start(&peer.transport, server, NULL, NULL, &peer.err),
              TWS_OK);
    for (int i = 0; i < 1000 && peer.status == TWS_AGAIN; i++) {
        CHECK_INT(advance(&ends), TWS_AGAIN);
        CHECK(!ends.proxying.secured || i > 0);
        secure_end(&peer);
    }
    CHECK_INT(advance(&ends), TWS_AGAIN);
    CHECK(ends.proxying.secured);
    CHECK_INT(read_all_of(&peer, data, 32), TWS_OK);
    CHECK_BYTES(data, 32, "CONNECT example.org:443 HTTP/1.1");
    CHECK_INT(write_all(&peer, OPENED, sizeof(OPENED) - 1), TWS_OK);
    CHECK_INT(advance(&ends), TWS_OK);
    tws_transport_release(&peer.transport);
    tws_tls_context_release(server);
    close_ends(&ends);
}

TEST(certificate_of_somebody_else)
{
    struct ends ends;
    struct tls_end peer = {.status = TWS_AGAIN};
    enum tws_status status = TWS_AGAIN;
    struct tws_tls_context *client = client_context();
    struct tws_tls_context *server = server_context_of(server_file);
    const struct tws_proxy proxy = {.kind = TWS_PROXY_HTTPS,
                                    .host = "proxy.test",
                                    .port = 443,
                                    .context = client};
    CHECK_INT(open_ends(&ends, &proxy, "a.test"), TWS_OK);
    tws_transport_plain(&peer.transport, ends.peer);
    CHECK_INT(tws_tls_start(&peer.transport, server, NULL, NULL, &peer.err),
              TWS_OK);
    for (int i = 0; i < 1000 && status == TWS_AGAIN; i++) {
        status = advance(&ends);
        secure_end(&peer);
    }
    CHECK_INT(status, TWS_TLS);
    CHECK(strstr(ends.err.reason, "proxy.test") != NULL);
    CHECK(!ends.proxying.secured);
    tws_transport_release(&peer.transport);
    tws_tls_context_release(client);
    tws_tls_context_release(server);
    close_ends(&ends);
}

/* --- SOCKS --- */

TEST(socks_by_name)
{
    struct ends ends;
    const struct tws_proxy proxy = {
        .kind = TWS_PROXY_SOCKS5H, .host = "proxy.test", .port = 1080};
    CHECK_INT(open_ends(&ends, &proxy, "example.org"), TWS_OK);
    CHECK_INT(look_up(&ends), TWS_OK); /* there is nothing to do */
    CHECK_INT(tws_proxying_fd(&ends.proxying), -1);
    CHECK_INT(advance(&ends), TWS_AGAIN);
    HEAR(&ends, "\x05\x01\x00");
    SAY(&ends, "\x05\x00");
    CHECK_INT(advance(&ends), TWS_AGAIN);
    HEAR(&ends, "\x05\x01\x00\x03\x0b"
                "example.org\x01\xbb");
    close_ends(&ends);
}

TEST(socks_by_address)
{
    struct ends ends;
    const struct tws_proxy proxy = {.kind = TWS_PROXY_SOCKS5,
                                    .host = "proxy.test",
                                    .port = 1080,
                                    .username = "Aladdin",
                                    .password = "sesame"};
    const struct named some[] = {
        {"example.org", figures("192.0.2.7", 443)},
        {"example.org", figures("192.0.2.8", 443)},
        {.name = NULL},
    };
    names = some;
    wiped = 0;
    CHECK_INT(open_ends(&ends, &proxy, "example.org"), TWS_OK);
    CHECK_INT(look_up(&ends), TWS_OK);
    CHECK(wiped >= 1);
    CHECK(ends.proxying.password == NULL);
    CHECK_INT(look_up(&ends), TWS_OK); /* once is enough */
    CHECK_INT(advance(&ends), TWS_AGAIN);
    HEAR(&ends, "\x05\x02\x00\x02");
    SAY(&ends, "\x05\x02");
    CHECK_INT(advance(&ends), TWS_AGAIN);
    HEAR(&ends, "\x01\x07"
                "Aladdin\x06sesame");
    SAY(&ends, "\x01\x00");
    CHECK_INT(advance(&ends), TWS_AGAIN);
    HEAR(&ends, "\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb");
    close_ends(&ends);
}

TEST(unknown_name)
{
    struct ends ends;
    const struct tws_proxy proxy = {
        .kind = TWS_PROXY_SOCKS5, .host = "proxy.test", .port = 1080};
    names = known;
    CHECK_INT(open_ends(&ends, &proxy, "other.example"), TWS_OK);
    CHECK_INT(look_up(&ends), TWS_REFUSED);
    CHECK_INT(ends.proxying.gai_error, EAI_NONAME);
    close_ends(&ends);
    CHECK_INT(open_ends(&ends, &proxy, "example.org"), TWS_OK);
    CHECK_INT(look_up(&ends), TWS_OS);
    CHECK_INT(ends.err.sys_errno, EADDRNOTAVAIL);
    close_ends(&ends);
}

TEST(look_up_that_is_interrupted)
{
    struct ends ends;
    unsigned ready;
    int before = names_answered;
    const struct tws_proxy proxy = {
        .kind = TWS_PROXY_SOCKS5, .host = "proxy.test", .port = 1080};
    names = known;
    pthread_mutex_lock(&names_gate);
    CHECK_INT(open_ends(&ends, &proxy, "example.org"), TWS_OK);
    CHECK_INT(tws_proxying_look_up(&ends.proxying, &ends.err), TWS_AGAIN);
    CHECK_INT(tws_socket_wait(tws_proxying_fd(&ends.proxying), TWS_WAIT_READ,
                              0, &ready, &ends.err),
              TWS_AGAIN);
    tws_proxying_interrupt(&ends.proxying);
    CHECK_INT(tws_socket_wait(tws_proxying_fd(&ends.proxying), TWS_WAIT_READ,
                              0, &ready, &ends.err),
              TWS_OK);
    CHECK_INT(tws_proxying_look_up(&ends.proxying, &ends.err), TWS_AGAIN);
    close_ends(&ends);
    pthread_mutex_unlock(&names_gate);
    await_answered(before + 1);
}

/* What can't be asked for is found out before anybody is asked. */
TEST(what_no_proxy_can_be_asked)
{
    static const enum tws_proxy_kind kinds[] = {
        TWS_PROXY_HTTP, TWS_PROXY_HTTPS, TWS_PROXY_SOCKS5, TWS_PROXY_SOCKS5H};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(kinds); i++) {
        struct ends ends;
        const struct tws_proxy proxy = {.kind = kinds[i],
                                        .host = "proxy.test",
                                        .port = 1080,
                                        .username = "Ala\rddin",
                                        .password = "sesame"};
        wiped = 0;
        CHECK_INT(open_ends(&ends, &proxy, "example.org"), TWS_REFUSED);
        CHECK_INT(ends.err.http_status, 0);
        CHECK(strstr(ends.err.reason, "sesame") == NULL);
        CHECK(wiped >= 1);
        CHECK(ends.proxying.tunnel == NULL);
        close_ends(&ends);
        CHECK_INT(open_ends(&ends, &proxy, ""), TWS_REFUSED);
        close_ends(&ends);
    }
}

RUN(T(no_proxy), T(http), T(refusal), T(proxy_that_hangs_up), T(https),
    T(certificate_of_somebody_else), T(socks_by_name), T(socks_by_address),
    T(unknown_name), T(look_up_that_is_interrupted),
    T(what_no_proxy_can_be_asked))
