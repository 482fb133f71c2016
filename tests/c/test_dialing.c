#include "net/dialing.h"

#include "answer_fixture.h"
#include "names_fixture.h"
#include "tls_fixture.h"

#include <errno.h>

#define MS ((uint64_t)1000000)
#define OPENED "HTTP/1.1 200 OK\r\n\r\n"

/* --- both ends --- */

struct ends {
    struct tws_dialing *dialing;
    int fd;              /* of the owner; -1: none (yet) */
    struct tls_end peer; /* with fd -1: not accepted yet */
    struct tws_error err;
    struct tws_http_head head;
};

static void
open_dialing(struct ends *ends)
{
    struct tws_handshake_offer offer = plain_offer();
    memset(ends, 0, sizeof(*ends));
    ends->fd = -1;
    ends->peer.transport.fd = -1;
    CHECK_INT(tws_dialing_new(&offer, &limits, &ends->dialing, &ends->err),
              TWS_OK);
}

/* On a stream that is connected. */
static void
connect_ends(struct ends *ends, struct tws_span initial)
{
    struct tws_transport transport;
    int fds[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    ends->fd = fds[0];
    tws_transport_plain(&transport, fds[0]);
    tws_transport_plain(&ends->peer.transport, fds[1]);
    CHECK_INT(
        tws_dialing_connected(ends->dialing, &transport, initial, &ends->err),
        TWS_OK);
}

/* By name; `family` AF_UNSPEC makes its socket itself. */
static enum tws_status
name_ends(struct ends *ends, int family, const char *host,
          const struct tws_proxy *proxy, const char *source)
{
    const struct tws_reaching_options options = {.family = family,
                                                 .source_host = source};
    if (family != AF_UNSPEC) {
        CHECK_INT(tws_socket_open(family, 0, &ends->fd, &ends->err), TWS_OK);
    }
    return tws_dialing_by_name(ends->dialing, ends->fd, host, 443, proxy,
                               &options, &ends->err);
}

static void
close_ends(struct ends *ends)
{
    tws_dialing_free(ends->dialing);
    if (ends->fd >= 0) {
        close(ends->fd);
    }
    close_end(&ends->peer);
}

static enum tws_dialing_step
advance(struct ends *ends)
{
    enum tws_dialing_step step =
        tws_dialing_advance(ends->dialing, 0, UINT64_MAX, &ends->err);
    if (step == TWS_DIALING_REACHED) {
        CHECK_INT(ends->fd, -1);
        ends->fd = tws_dialing_fd(ends->dialing);
    }
    return step;
}

static void
await(struct ends *ends)
{
    struct tws_wait waits[TWS_DIALING_WAITS];
    uint64_t until;
    size_t count = tws_dialing_wait(ends->dialing, waits, &until);
    CHECK_INT(tws_socket_wait_any(waits, count, 5000 * MS, &ends->err),
              TWS_OK);
}

/* Goes on, waiting as the owner does, until something else happens. */
static enum tws_dialing_step
go_on(struct ends *ends)
{
    enum tws_dialing_step step = advance(ends);
    for (int i = 0; i < 100 && step == TWS_DIALING_WAIT; i++) {
        await(ends);
        step = advance(ends);
    }
    return step;
}

static void
check_stage(const struct ends *ends, const char *expected)
{
    char text[TWS_DIALING_STAGE];
    tws_dialing_stage(ends->dialing, text);
    if (strcmp(text, expected) != 0) {
        fprintf(stderr, "stage is \"%s\", expected \"%s\"\n", text, expected);
        harness_failures++;
    }
}

/* Both ends by turns, until the peer has done its part of TLS. */
static void
secure_ends(struct ends *ends, const char *stage)
{
    ends->peer.status = TWS_AGAIN;
    for (int i = 0; i < 1000 && ends->peer.status == TWS_AGAIN; i++) {
        CHECK_INT(advance(ends), TWS_DIALING_WAIT);
        if (i == 0) {
            CHECK_INT(tws_dialing_state(ends->dialing), TWS_DIALING_SECURING);
            check_stage(ends, stage);
        }
        secure_end(&ends->peer);
    }
    CHECK_INT(ends->peer.status, TWS_OK);
}

static void
start_peer_tls(struct ends *ends)
{
    struct tws_error err;
    struct tws_tls_context *server = server_context_of(server_file);
    CHECK_INT(tws_tls_start(&ends->peer.transport, server, NULL, NULL, &err),
              TWS_OK);
    tws_tls_context_release(server);
}

static void
say(struct ends *ends, const char *text)
{
    CHECK_INT(write_all(&ends->peer, text, strlen(text)), TWS_OK);
}

/* What has come up to an empty line. */
static void
hear(struct ends *ends, char *text, size_t size)
{
    size_t length = 0;
    memset(text, 0, size);
    while (length + 1 < size && strstr(text, "\r\n\r\n") == NULL) {
        if (read_all_of(&ends->peer, text + length, 1) != TWS_OK) {
            break;
        }
        length++;
    }
}

static void
welcome(struct ends *ends)
{
    char request[2048];
    char answer[1024];
    hear(ends, request, sizeof(request));
    (void)write_welcome(answer, sizeof(answer), request, "", "rest");
    say(ends, answer);
}

static void
accept_peer(struct ends *ends, int listener)
{
    tws_transport_plain(&ends->peer.transport, accept_one(listener));
}

static void
check_reason(const struct ends *ends, const char *expected)
{
    if (strcmp(ends->err.reason, expected) != 0) {
        fprintf(stderr, "reason is \"%s\", expected \"%s\"\n",
                ends->err.reason, expected);
        harness_failures++;
    }
}

/* The handshake on a stream that stands, up to the end. */
static void
check_handshake(struct ends *ends)
{
    struct tws_transport transport;
    int fd = tws_dialing_fd(ends->dialing);
    CHECK_INT(go_on(ends), TWS_DIALING_STREAM);
    CHECK_INT(advance(ends), TWS_DIALING_WAIT);
    CHECK_INT(tws_dialing_state(ends->dialing), TWS_DIALING_ANSWERING);
    welcome(ends);
    CHECK_INT(go_on(ends), TWS_DIALING_CONNECTED);
    struct tws_span rest = tws_dialing_rest(ends->dialing);
    CHECK_BYTES(rest.data, rest.length, "rest");
    CHECK_INT(tws_dialing_answer(ends->dialing, &ends->head, &ends->err),
              TWS_OK);
    CHECK_INT(ends->head.status, 101);
    tws_dialing_transport(ends->dialing, &transport);
    CHECK_INT(transport.fd, fd);
    tws_transport_release(&transport);
}

/* --- the Host field --- */

TEST(host_field)
{
    static const struct {
        const char *host;
        uint16_t port;
        const char *plain;
        const char *secure;
    } cases[] = {
        {"example.com", 80, "example.com", "example.com:80"},
        {"example.com", 443, "example.com:443", "example.com"},
        {"127.0.0.1", 65535, "127.0.0.1:65535", "127.0.0.1:65535"},
        {"::1", 80, "[::1]", "[::1]:80"},
        {"2001:db8::1", 443, "[2001:db8::1]:443", "[2001:db8::1]"},
        {"fe80::1%eth0", 8000, "[fe80::1]:8000", "[fe80::1]:8000"},
    };
    char out[TWS_HOST_FIELD_MAX + 1];
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        size_t length =
            tws_dialing_host_field(cases[i].host, cases[i].port, false, out);
        CHECK_INT(strcmp(out, cases[i].plain), 0);
        CHECK_INT(length, strlen(cases[i].plain));
        length =
            tws_dialing_host_field(cases[i].host, cases[i].port, true, out);
        CHECK_INT(strcmp(out, cases[i].secure), 0);
        CHECK_INT(length, strlen(cases[i].secure));
    }
    char longest[TWS_HOST_MAX + 1];
    memset(longest, ':', TWS_HOST_MAX);
    longest[TWS_HOST_MAX] = '\0';
    CHECK_INT(tws_dialing_host_field(longest, 65535, false, out),
              TWS_HOST_FIELD_MAX);
}

/* --- without a proxy --- */

TEST(offer_that_is_none)
{
    struct tws_dialing *dialing = NULL;
    struct tws_error err;
    struct tws_handshake_offer offer = plain_offer();
    offer.target = TWS_SPAN("chat");
    CHECK_INT(tws_dialing_new(&offer, &limits, &dialing, &err), TWS_REFUSED);
    CHECK(dialing == NULL);
    tws_dialing_free(NULL);
}

TEST(stream_that_is_connected)
{
    struct ends ends;
    open_dialing(&ends);
    connect_ends(&ends, TWS_SPAN("HTTP/1.1 100 Continue\r\n\r\n"));
    CHECK_INT(tws_dialing_fd(ends.dialing), ends.fd);
    check_handshake(&ends);
    CHECK_INT(tws_dialing_request(ends.dialing, &ends.head, &ends.err),
              TWS_OK);
    CHECK_BYTES(ends.head.target.data, ends.head.target.length, "/chat");
    CHECK_INT(tws_dialing_protocol(ends.dialing).length, 0);
    check_stage(&ends, "opening handshake with example.com");
    close_ends(&ends);
}

TEST(by_name)
{
    static const int families[] = {AF_INET, AF_UNSPEC};
    struct tws_address open;
    int listener = listen_at(AF_INET, 4, &open);
    const struct named one[] = {{"server.test", open}, {.name = NULL}};
    names = one;
    for (size_t i = 0; i < TWS_ARRAY_SIZE(families); i++) {
        struct ends ends;
        open_dialing(&ends);
        CHECK_INT(name_ends(&ends, families[i], "server.test", NULL, NULL),
                  TWS_OK);
        CHECK_INT(tws_dialing_fd(ends.dialing), ends.fd);
        CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_RESOLVING);
        if (families[i] == AF_UNSPEC) {
            CHECK_INT(go_on(&ends), TWS_DIALING_REACHED);
            CHECK(ends.fd >= 0);
            accept_peer(&ends, listener);
        }
        else {
            CHECK_INT(go_on(&ends), TWS_DIALING_STREAM);
            accept_peer(&ends, listener);
            CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
            check_stage(&ends, "opening handshake with server.test:443");
            welcome(&ends);
            CHECK_INT(go_on(&ends), TWS_DIALING_CONNECTED);
            close_ends(&ends);
            continue;
        }
        check_handshake(&ends);
        close_ends(&ends);
    }
    close(listener);
}

TEST(by_unix_address)
{
    struct ends ends;
    struct tws_address address = {.length = sizeof(sa_family_t) + 8};
    char stage[64];
    address.storage.ss_family = AF_UNIX;
    char *name = (char *)&address.storage + sizeof(sa_family_t) + 1;
    (void)snprintf(name, 8, "%07u", (unsigned)getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_INT(
        bind(listener, (struct sockaddr *)&address.storage, address.length),
        0);
    CHECK_INT(listen(listener, 1), 0);
    open_dialing(&ends);
    CHECK_INT(tws_socket_open(AF_UNIX, 0, &ends.fd, &ends.err), TWS_OK);
    tws_dialing_by_address(ends.dialing, ends.fd, &address);
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_CONNECTING);
    (void)snprintf(stage, sizeof(stage), "connect to @%s", name);
    check_stage(&ends, stage);
    tws_dialing_interrupt(ends.dialing); /* nothing happens */
    CHECK_INT(go_on(&ends), TWS_DIALING_STREAM);
    accept_peer(&ends, listener);
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    welcome(&ends);
    CHECK_INT(go_on(&ends), TWS_DIALING_CONNECTED);
    close_ends(&ends);
    close(listener);
}

TEST(refusal)
{
    struct ends ends;
    open_dialing(&ends);
    connect_ends(&ends, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_DIALING_STREAM);
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    CHECK(!tws_dialing_refusal(ends.dialing, &ends.err));
    CHECK_INT(tws_dialing_answer(ends.dialing, &ends.head, &ends.err),
              TWS_EOF);
    say(&ends, "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbo");
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_REFUSING);
    CHECK(tws_dialing_refusal(ends.dialing, &ends.err));
    CHECK_INT(ends.err.http_status, 404);
    say(&ends, "dy\r\n0\r\n\r\n");
    ends.err.http_status = 0;
    CHECK_INT(advance(&ends), TWS_DIALING_REFUSED);
    CHECK_INT(ends.err.http_status, 404);
    CHECK(!tws_dialing_is_proxying(ends.dialing));
    struct tws_span body = tws_dialing_body(ends.dialing);
    CHECK_BYTES(body.data, body.length, "body");
    CHECK_INT(tws_dialing_answer(ends.dialing, &ends.head, &ends.err), TWS_OK);
    CHECK_INT(ends.head.status, 404);
    close_ends(&ends);
}

/* --- TLS --- */

static void
secure(struct ends *ends, const char *host)
{
    struct tws_tls_context *client = client_context();
    CHECK_INT(
        tws_dialing_secure(ends->dialing, client, host, NULL, &ends->err),
        TWS_OK);
    tws_tls_context_release(client);
}

TEST(over_tls)
{
    struct ends ends;
    open_dialing(&ends);
    secure(&ends, "a.test");
    connect_ends(&ends, TWS_SPAN(""));
    start_peer_tls(&ends);
    CHECK_INT(advance(&ends), TWS_DIALING_STREAM);
    secure_ends(&ends, "TLS handshake with example.com");
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_ANSWERING);
    welcome(&ends);
    CHECK_INT(go_on(&ends), TWS_DIALING_CONNECTED);
    struct tws_transport transport;
    tws_dialing_transport(ends.dialing, &transport);
    CHECK(transport.tls != NULL);
    CHECK_INT(transport.fd, ends.fd);
    tws_transport_release(&transport);
    close_ends(&ends);
}

TEST(certificate_of_somebody_else)
{
    struct ends ends;
    enum tws_dialing_step step = TWS_DIALING_WAIT;
    open_dialing(&ends);
    secure(&ends, "c.test");
    connect_ends(&ends, TWS_SPAN(""));
    start_peer_tls(&ends);
    CHECK_INT(advance(&ends), TWS_DIALING_STREAM);
    ends.peer.status = TWS_AGAIN;
    for (int i = 0; i < 1000 && step == TWS_DIALING_WAIT; i++) {
        step = advance(&ends);
        secure_end(&ends.peer);
    }
    CHECK_INT(step, TWS_DIALING_FAILED);
    CHECK_INT(ends.err.status, TWS_TLS);
    check_stage(&ends, "TLS handshake with example.com");
    close_ends(&ends);
}

TEST(server_that_ends_in_the_middle_of_tls)
{
    struct ends ends;
    open_dialing(&ends);
    secure(&ends, "a.test");
    connect_ends(&ends, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_DIALING_STREAM);
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    CHECK_INT(shutdown(ends.peer.transport.fd, SHUT_WR), 0);
    CHECK_INT(advance(&ends), TWS_DIALING_FAILED);
    CHECK_INT(ends.err.status, TWS_TLS);
    close_ends(&ends);
}

TEST(bytes_before_tls)
{
    struct ends ends;
    struct tws_transport transport;
    open_dialing(&ends);
    secure(&ends, "a.test");
    tws_transport_plain(&transport, -1);
    CHECK_INT(tws_dialing_connected(ends.dialing, &transport, TWS_SPAN("x"),
                                    &ends.err),
              TWS_REFUSED);
    close_ends(&ends);
}

/* Another descriptor that carries the same in plain text. */
TEST(replaced_stream)
{
    struct ends ends;
    struct tws_transport transport;
    int fds[2];
    open_dialing(&ends);
    connect_ends(&ends, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_DIALING_STREAM);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    tws_dialing_replace(ends.dialing, fds[0]);
    CHECK_INT(tws_dialing_fd(ends.dialing), fds[0]);
    close(ends.fd);
    close_end(&ends.peer);
    ends.fd = fds[0];
    tws_transport_plain(&ends.peer.transport, fds[1]);
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    welcome(&ends);
    CHECK_INT(go_on(&ends), TWS_DIALING_CONNECTED);
    tws_dialing_transport(ends.dialing, &transport);
    CHECK_INT(transport.fd, fds[0]);
    close_ends(&ends);
}

/* --- through a proxy --- */

TEST(through_a_proxy)
{
    struct ends ends;
    struct tws_address open;
    char request[1024];
    int listener = listen_at(AF_INET, 4, &open);
    const struct named both[] = {{"proxy.test", open}, {.name = NULL}};
    const struct tws_proxy proxy = {
        .kind = TWS_PROXY_HTTP, .host = "proxy.test", .port = 3128};
    names = both;
    open_dialing(&ends);
    secure(&ends, "a.test");
    CHECK_INT(name_ends(&ends, AF_UNSPEC, "server.test", &proxy, NULL),
              TWS_OK);
    CHECK_INT(go_on(&ends), TWS_DIALING_REACHED);
    accept_peer(&ends, listener);
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_TUNNELLING);
    check_stage(&ends, "tunnel through proxy proxy.test:3128");
    hear(&ends, request, sizeof(request));
    CHECK(strncmp(request, "CONNECT server.test:443 HTTP/1.1\r\n", 34) == 0);
    say(&ends, OPENED);
    CHECK_INT(go_on(&ends), TWS_DIALING_STREAM);
    start_peer_tls(&ends);
    secure_ends(&ends, "TLS handshake with server.test:443");
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    welcome(&ends);
    CHECK_INT(go_on(&ends), TWS_DIALING_CONNECTED);
    close_ends(&ends);
    close(listener);
}

/* TLS with the server inside of TLS with the proxy. */
TEST(through_a_proxy_over_tls)
{
    struct ends ends;
    struct tws_address open;
    struct tws_transport transport;
    char request[1024];
    int listener = listen_at(AF_INET6, 4, &open);
    const struct named both[] = {{"b.test", open}, {.name = NULL}};
    struct tws_tls_context *client = client_context();
    const struct tws_proxy proxy = {.kind = TWS_PROXY_HTTPS,
                                    .host = "b.test",
                                    .port = 3129,
                                    .context = client};
    names = both;
    open_dialing(&ends);
    secure(&ends, "a.test");
    CHECK_INT(name_ends(&ends, AF_UNSPEC, "server.test", &proxy, NULL),
              TWS_OK);
    tws_tls_context_release(client);
    CHECK_INT(go_on(&ends), TWS_DIALING_REACHED);
    accept_peer(&ends, listener);
    start_peer_tls(&ends);
    secure_ends(&ends, "TLS handshake with proxy b.test:3129");
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_TUNNELLING);
    hear(&ends, request, sizeof(request));
    CHECK(strncmp(request, "CONNECT server.test:443 HTTP/1.1\r\n", 34) == 0);
    say(&ends, OPENED);
    CHECK_INT(go_on(&ends), TWS_DIALING_STREAM);
    start_peer_tls(&ends);
    secure_ends(&ends, "TLS handshake with server.test:443");
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    welcome(&ends);
    CHECK_INT(go_on(&ends), TWS_DIALING_CONNECTED);
    tws_dialing_transport(ends.dialing, &transport);
    CHECK_INT(transport.fd, ends.fd);
    tws_transport_release(&transport);
    close_ends(&ends);
    close(listener);
}

TEST(refusal_of_a_proxy)
{
    struct ends ends;
    struct tws_address open;
    char request[1024];
    int listener = listen_at(AF_INET, 4, &open);
    const struct named both[] = {{"proxy.test", open}, {.name = NULL}};
    const struct tws_proxy proxy = {
        .kind = TWS_PROXY_HTTP, .host = "proxy.test", .port = 3128};
    names = both;
    open_dialing(&ends);
    CHECK_INT(name_ends(&ends, AF_INET, "server.test", &proxy, NULL), TWS_OK);
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    while (tws_dialing_state(ends.dialing) != TWS_DIALING_TUNNELLING) {
        await(&ends);
        CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    }
    accept_peer(&ends, listener);
    hear(&ends, request, sizeof(request));
    say(&ends, "HTTP/1.1 407 No\r\nContent-Length: 4\r\n\r\nbo");
    await(&ends);
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    /* Not that of a server, which might be told who asks. */
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_TUNNELLING);
    CHECK(tws_dialing_refusal(ends.dialing, &ends.err));
    CHECK_INT(ends.err.http_status, 407);
    say(&ends, "dy");
    CHECK_INT(go_on(&ends), TWS_DIALING_REFUSED);
    CHECK_INT(ends.err.http_status, 407);
    CHECK(tws_dialing_is_proxying(ends.dialing));
    CHECK_INT(tws_dialing_answer(ends.dialing, &ends.head, &ends.err), TWS_OK);
    CHECK_INT(ends.head.status, 407);
    struct tws_span body = tws_dialing_body(ends.dialing);
    CHECK_BYTES(body.data, body.length, "body");
    close_ends(&ends);
    close(listener);
}

TEST(proxy_that_hangs_up)
{
    struct ends ends;
    struct tws_address open;
    char request[1024];
    int listener = listen_at(AF_INET, 4, &open);
    const struct named both[] = {{"proxy.test", open}, {.name = NULL}};
    const struct tws_proxy proxy = {
        .kind = TWS_PROXY_HTTP, .host = "proxy.test", .port = 3128};
    names = both;
    open_dialing(&ends);
    CHECK_INT(name_ends(&ends, AF_UNSPEC, "server.test", &proxy, NULL),
              TWS_OK);
    CHECK_INT(go_on(&ends), TWS_DIALING_REACHED);
    accept_peer(&ends, listener);
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    hear(&ends, request, sizeof(request));
    close_end(&ends.peer);
    CHECK_INT(go_on(&ends), TWS_DIALING_FAILED);
    CHECK_INT(ends.err.status, TWS_REFUSED);
    CHECK_INT(tws_dialing_answer(ends.dialing, &ends.head, &ends.err),
              TWS_EOF);
    CHECK_INT(tws_dialing_body(ends.dialing).length, 0);
    close_ends(&ends);
    close(listener);
}

TEST(what_no_proxy_can_be_asked)
{
    struct ends ends;
    const struct tws_proxy proxy = {
        .kind = TWS_PROXY_SOCKS5H, .host = "proxy.test", .port = 1080};
    open_dialing(&ends);
    CHECK_INT(name_ends(&ends, AF_UNSPEC, "", &proxy, NULL), TWS_REFUSED);
    close_ends(&ends);
}

/* --- who was it --- */

TEST(look_ups_that_fail)
{
    static const struct named nobody[] = {{.name = NULL}};
    static const struct tws_proxy http = {
        .kind = TWS_PROXY_HTTP, .host = "proxy.test", .port = 3128};
    static const struct tws_proxy socks = {
        .kind = TWS_PROXY_SOCKS5, .host = "127.0.0.1", .port = 1080};
    static const struct {
        const char *host;
        const struct tws_proxy *proxy;
        const char *source;
        const char *stage;
    } cases[] = {
        {"server.test", NULL, NULL, "look-up of server.test"},
        {"127.0.0.1", NULL, "me.test", "look-up of source address me.test"},
        {"127.0.0.1", &http, NULL, "look-up of proxy proxy.test"},
        {"server.test", &socks, NULL, "look-up of server.test"},
        {"bad\033name", NULL, NULL, "look-up of bad?name"},
    };
    names = nobody;
    for (size_t i = 0; i < 2 * TWS_ARRAY_SIZE(cases); i++) {
        struct ends ends;
        open_dialing(&ends);
        CHECK_INT(name_ends(&ends, i % 2 == 0 ? AF_INET : AF_UNSPEC,
                            cases[i / 2].host, cases[i / 2].proxy,
                            cases[i / 2].source),
                  TWS_OK);
        CHECK_INT(go_on(&ends), TWS_DIALING_FAILED);
        CHECK_INT(ends.err.status, TWS_REFUSED);
        CHECK_INT(tws_dialing_gai_error(ends.dialing), EAI_NONAME);
        CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_RESOLVING);
        check_stage(&ends, cases[i / 2].stage);
        close_ends(&ends);
    }
}

TEST(connections_that_fail)
{
    static const int families[] = {AF_INET, AF_UNSPEC};
    const struct named one[] = {{"a-server.test", dead_end(AF_INET)},
                                {"proxy.test", dead_end(AF_INET)},
                                {.name = NULL}};
    const struct tws_proxy proxy = {
        .kind = TWS_PROXY_HTTP, .host = "proxy.test", .port = 3128};
    names = one;
    for (size_t i = 0; i < 4; i++) {
        struct ends ends;
        open_dialing(&ends);
        CHECK_INT(name_ends(&ends, families[i % 2], "a-server.test",
                            i < 2 ? NULL : &proxy, NULL),
                  TWS_OK);
        CHECK_INT(go_on(&ends), TWS_DIALING_FAILED);
        CHECK_INT(ends.err.sys_errno, ECONNREFUSED);
        CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_CONNECTING);
        CHECK_INT(tws_dialing_gai_error(ends.dialing), 0);
        check_stage(&ends, i < 2 ? "connect to a-server.test:443"
                                 : "connect to proxy proxy.test:3128");
        check_reason(&ends, i % 2 == 0 ? "Connection refused"
                                       : "Connection refused (127.0.0.1)");
        close_ends(&ends);
    }
    names = NULL;
}

TEST(addresses_in_stages)
{
    static const struct {
        const char *host;
        const char *stage;
    } cases[] = {
        {"::1", "connect to [::1]:443"},
        {"127.0.0.1", "connect to 127.0.0.1:443"},
        {"", "connect to localhost:443"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct ends ends;
        open_dialing(&ends);
        CHECK_INT(name_ends(&ends, AF_UNSPEC, cases[i].host, NULL, NULL),
                  TWS_OK);
        (void)advance(&ends);
        check_stage(&ends, cases[i].stage);
        close_ends(&ends);
    }
}

TEST(peer_that_is_gone)
{
    struct ends ends;
    open_dialing(&ends);
    connect_ends(&ends, TWS_SPAN(""));
    close_end(&ends.peer);
    CHECK_INT(advance(&ends), TWS_DIALING_STREAM);
    CHECK_INT(advance(&ends), TWS_DIALING_FAILED);
    CHECK_INT(ends.err.status, TWS_OS);
    CHECK_INT(ends.err.sys_errno, EPIPE);
    check_reason(&ends, "Broken pipe");
    close_ends(&ends);
}

/* --- interruption --- */

TEST(interrupted_look_ups)
{
    static const struct named nobody[] = {{.name = NULL}};
    static const struct tws_proxy socks = {
        .kind = TWS_PROXY_SOCKS5, .host = "127.0.0.1", .port = 1080};
    names = nobody;
    for (size_t i = 0; i < 3; i++) {
        struct ends ends;
        struct tws_wait waits[TWS_DIALING_WAITS];
        uint64_t until;
        int before = names_answered;
        pthread_mutex_lock(&names_gate);
        open_dialing(&ends);
        CHECK_INT(name_ends(&ends, i == 0 ? AF_INET : AF_UNSPEC, "server.test",
                            i == 2 ? &socks : NULL, NULL),
                  TWS_OK);
        CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
        size_t count = tws_dialing_wait(ends.dialing, waits, &until);
        CHECK_INT(tws_socket_wait_any(waits, count, 0, &ends.err), TWS_AGAIN);
        tws_dialing_interrupt(ends.dialing);
        CHECK_INT(tws_socket_wait_any(waits, count, 0, &ends.err), TWS_OK);
        close_ends(&ends);
        pthread_mutex_unlock(&names_gate);
        await_answered(before + 1);
    }
}

static void
prepare(void)
{
    fixture_begin();
}

RUN(T(prepare), T(host_field), T(offer_that_is_none),
    T(stream_that_is_connected), T(by_name), T(by_unix_address), T(refusal),
    T(over_tls), T(certificate_of_somebody_else),
    T(server_that_ends_in_the_middle_of_tls), T(bytes_before_tls),
    T(replaced_stream), T(through_a_proxy), T(through_a_proxy_over_tls),
    T(refusal_of_a_proxy), T(proxy_that_hangs_up),
    T(what_no_proxy_can_be_asked), T(look_ups_that_fail),
    T(connections_that_fail), T(addresses_in_stages), T(peer_that_is_gone),
    T(interrupted_look_ups))
