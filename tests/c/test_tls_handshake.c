/* From the first byte to the first byte of data. */
#include "tls_relay.h"

#include <errno.h>
#include <openssl/err.h>

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

/* ------------------------------------------------------------------ hosts */

static void
check_host(const char *host, bool accepted, const char *asked)
{
    begin(0);
    open_pair(&pair, client, server, host, NULL);
    const char *sni = SSL_get_servername(pair.client.transport.tls->ssl,
                                         TLSEXT_NAMETYPE_host_name);
    CHECK((sni == NULL) == (asked == NULL));
    CHECK(sni == NULL || asked == NULL || strcmp(sni, asked) == 0);
    shake(&pair);
    if ((pair.client.status == TWS_OK) != accepted) {
        fprintf(stderr, "%s: %d %s\n", host, pair.client.status,
                pair.client.err.reason);
        CHECK(false);
    }
    close_pair(&pair);
    end();
}

TEST(the_certificate_is_for_the_host)
{
    check_host("a.test", true, "a.test");
    check_host("A.Test", true, "A.Test");
    check_host("a.test.", true, "a.test");
    check_host("x.wild.test", true, "x.wild.test");
    check_host("wild.test", false, "wild.test");
    check_host("y.x.wild.test", false, "y.x.wild.test");
    check_host("xa.test", false, "xa.test");
    check_host("test", false, "test");
    check_host("server", false, "server"); /* its common name */
    check_host("a.test%b.test", false, "a.test%b.test");
}

/* RFC 6066 section 3: an address is not asked for by name. */
TEST(the_certificate_is_for_the_address)
{
    check_host("127.0.0.1", true, NULL);
    check_host("127.0.0.2", false, NULL);
    check_host("::1", true, NULL);
    check_host("0:0:0:0:0:0:0:1", true, NULL);
    check_host("::1%lo", true, NULL);
    check_host("::2", false, NULL);
}

TEST(partial_wildcards_are_none)
{
    begin(0);
    tws_tls_context_release(server);
    server = server_context_of(certificate_file(
        &(struct recipe){.names = "DNS:f*.w.test,DNS:*.w.test"}, &authority));
    open_pair(&pair, client, server, "foo.w.test", NULL);
    shake(&pair);
    CHECK_INT(pair.client.status, TWS_OK); /* by the second name */
    close_pair(&pair);
    tws_tls_context_release(server);
    server = server_context_of(certificate_file(
        &(struct recipe){.names = "DNS:f*.w.test"}, &authority));
    open_pair(&pair, client, server, "foo.w.test", NULL);
    shake(&pair);
    CHECK_INT(pair.client.status, TWS_TLS);
    close_pair(&pair);
    end();
}

static void
check_start_fails(struct tws_tls_context *context, const char *host,
                  const char *reason)
{
    struct tws_error err = {0};
    open_plain(&pair);
    struct tws_transport before = pair.client.transport;
    CHECK_INT(tws_tls_start(&pair.client.transport, context, host, NULL, &err),
              TWS_TLS);
    CHECK(strstr(err.reason, reason) != NULL);
    CHECK(memcmp(&before, &pair.client.transport, sizeof(before)) == 0);
    CHECK_INT(ERR_peek_error(), 0);
    CHECK_INT(context->references, 1);
    close_pair(&pair);
}

TEST(hosts_that_can_not_be)
{
    char name[300];
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    begin(0);
    check_start_fails(client, NULL, "no host");
    check_start_fails(client, "", "no host");
    check_start_fails(client, ".test", "begins with a dot: .test");
    check_start_fails(client, ".", "begins with a dot");
    check_start_fails(client, name, "host name of 299 bytes");
    end();
}

TEST(without_verify_any_host_does)
{
    begin(0);
    tws_tls_context_release(client);
    client = new_context(&(struct tws_tls_options){0}, NULL);
    static const char *const hosts[] = {"c.test", "192.0.2.1", NULL};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(hosts); i++) {
        open_pair(&pair, client, server, hosts[i], NULL);
        shake_well(&pair);
        check_echo(&pair);
        close_pair(&pair);
    }
    end();
}

/* --------------------------------------------------------- bit by bit */

TEST(it_comes_in_pieces)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    static const size_t steps[] = {1, 2, 3, 5, 7, 64, 1000, 65536};
    for (size_t v = 0; v < TWS_ARRAY_SIZE(versions); v++) {
        begin(versions[v]);
        for (size_t i = 0; i < TWS_ARRAY_SIZE(steps); i++) {
            relay_open(client, server, "a.test");
            relay_shake(steps[i], SIZE_MAX);
            CHECK_INT(pair.client.status, TWS_OK);
            CHECK_INT(pair.server.status, TWS_OK);
            relay_close();
        }
        end();
    }
}

/* Both ends see the connection end after each number of bytes. */
static void
check_cut(int version, size_t step)
{
    begin(version);
    for (size_t total = 0;; total += step) {
        relay_open(client, server, "a.test");
        relay_shake(SIZE_MAX, total);
        if (pair.client.status == TWS_OK && pair.server.status == TWS_OK) {
            relay_close();
            break;
        }
        relay_cut(&to_client);
        relay_cut(&to_server);
        for (int i = 0; i < 2; i++) {
            struct tls_end *ends[] = {&pair.client, &pair.server};
            bool was_done = ends[i]->status == TWS_OK;
            for (int again = 0; again < 2 && !was_done; again++) {
                ends[i]->status = TWS_AGAIN;
                secure_end(ends[i]);
                /* Where there was something left to say, that failed. */
                bool gone = ends[i]->status == TWS_OS
                            && ends[i]->err.sys_errno == EPIPE;
                if (ends[i]->status != TWS_EOF && !gone) {
                    fprintf(stderr, "after %zu: %d %s\n", total,
                            ends[i]->status, ends[i]->err.reason);
                    CHECK(false);
                }
            }
        }
        CHECK_INT(ERR_peek_error(), 0);
        relay_close();
    }
    end();
}

TEST(it_ends_anywhere)
{
    check_cut(TLS1_2_VERSION, 7);
    check_cut(TLS1_3_VERSION, 7);
}

/* A byte that is changed on the way is found out by both. */
TEST(it_is_damaged_anywhere)
{
    for (size_t at = 0; at < 2500; at += (size_t)11 * harness_step(15)) {
        begin(0);
        relay_open(client, server, "a.test");
        size_t seen = 0;
        for (int quiet = 0; quiet < 3; quiet++) {
            char data[65536];
            secure_end(&pair.client);
            secure_end(&pair.server);
            (void)relay(to_client, to_server, SIZE_MAX);
            ssize_t n = read(to_server, data, sizeof(data));
            if (n > 0) {
                if (at >= seen && at < seen + (size_t)n) {
                    data[at - seen] = (char)(data[at - seen] ^ 1);
                }
                seen += (size_t)n;
                MUST(write(to_client, data, (size_t)n) == n);
                quiet = 0;
            }
        }
        if (at < seen) {
            /* A length that grew has an end wait for the rest. In what comes
             * after the client's Finished it is the reader who finds out. */
            CHECK(pair.client.status != TWS_OK || pair.server.status != TWS_OK
                  || at > 600);
        }
        CHECK_INT(ERR_peek_error(), 0);
        relay_close();
        end();
    }
}

/* ----------------------------------------------------------------- events */

TEST(it_says_what_it_waits_for)
{
    begin(TLS1_3_VERSION);
    relay_open(client, server, "a.test");
    secure_end(&pair.server);
    CHECK_INT(pair.server.status, TWS_AGAIN);
    CHECK_INT(pair.server.events, TWS_WAIT_READ);
    /* Nothing leaves: its peer does not read. */
    int size = 1;
    static char filler[1 << 20];
    MUST(setsockopt(pair.client.transport.fd, SOL_SOCKET, SO_SNDBUF, &size,
                    sizeof(size))
         == 0);
    MUST(write(pair.client.transport.fd, filler, sizeof(filler)) > 0);
    secure_end(&pair.client);
    CHECK_INT(pair.client.status, TWS_AGAIN);
    CHECK_INT(pair.client.events, TWS_WAIT_WRITE | TWS_WAIT_READ);
    while (read(to_client, filler, sizeof(filler)) > 0) {
    }
    secure_end(&pair.client);
    CHECK_INT(pair.client.events, TWS_WAIT_READ);
    relay_shake(SIZE_MAX, SIZE_MAX);
    CHECK_INT(pair.client.status, TWS_OK);
    CHECK_INT(pair.server.status, TWS_OK);
    relay_close();
    end();
}

/* The tickets belong to the server's handshake: who is done has nothing left
 * to write. */
TEST(a_server_is_done_when_its_tickets_have_left)
{
    static char filler[1 << 20];
    begin(TLS1_3_VERSION);
    relay_open(client, server, "a.test");
    secure_end(&pair.client);
    relay(to_client, to_server, SIZE_MAX);
    secure_end(&pair.server);
    relay(to_server, to_client, SIZE_MAX);
    secure_end(&pair.client);
    CHECK_INT(pair.client.status, TWS_OK);
    relay(to_client, to_server, SIZE_MAX);
    MUST(write(pair.server.transport.fd, filler, sizeof(filler)) > 0);
    secure_end(&pair.server);
    CHECK_INT(pair.server.status, TWS_AGAIN);
    CHECK_INT(pair.server.events, TWS_WAIT_WRITE);
    secure_end(&pair.server);
    CHECK_INT(pair.server.events, TWS_WAIT_WRITE);
    while (read(to_server, filler, sizeof(filler)) > 0) {
    }
    secure_end(&pair.server);
    CHECK_INT(pair.server.status, TWS_OK);
    CHECK(pair.server.transport.tls->out.memory == NULL);
    relay_close();
    end();
}

/* What the peer sends right behind its handshake is not waited for. */
TEST(data_behind_the_handshake_is_pending)
{
    char data[5] = "";
    begin(TLS1_3_VERSION);
    relay_open(client, server, "a.test");
    secure_end(&pair.client);
    relay(to_client, to_server, SIZE_MAX);
    secure_end(&pair.server);
    relay(to_server, to_client, SIZE_MAX);
    secure_end(&pair.client);
    CHECK_INT(write_all(&pair.client, "hello", 5), TWS_OK);
    relay(to_client, to_server, SIZE_MAX);
    secure_end(&pair.server);
    CHECK_INT(pair.server.status, TWS_OK);
    CHECK(tws_pending(&pair.server.transport));
    CHECK_INT(read_all_of(&pair.server, data, 5), TWS_OK);
    CHECK_BYTES(data, 5, "hello");
    relay_close();
    end();
}

/* --------------------------------------------------------------- failures */

/* The peer is told why, and every call after that fails in the same way. */
TEST(a_failure_stays)
{
    uint8_t data[1] = {0};
    size_t n;
    struct tws_error err;
    unsigned events;
    begin(0);
    open_pair(&pair, client, server, "c.test", NULL);
    shake(&pair);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(tws_secure(&pair.client.transport, &events, &err), TWS_TLS);
        CHECK(strcmp(err.reason, pair.client.err.reason) == 0);
        CHECK_INT(tws_read(&pair.client.transport, data, 1, &n, &err),
                  TWS_TLS);
        CHECK(strcmp(err.reason, pair.client.err.reason) == 0);
        CHECK_INT(tws_write(&pair.client.transport, data, 1, &n, &err),
                  TWS_TLS);
        CHECK(strcmp(err.reason, pair.client.err.reason) == 0);
        CHECK(!tws_pending(&pair.client.transport));
    }
    pair.client.transport.ops->end_writing(&pair.client.transport);
    close_pair(&pair);
    end();
}

/* The alert is there, though the connection was reset behind it. */
static enum tws_status
write_that_finds_an_alert(struct tws_transport *transport,
                          const struct iovec *parts, int count,
                          size_t *written, struct tws_error *err)
{
    (void)transport;
    (void)parts;
    (void)count;
    (void)written;
    MUST(write(to_client, "\x15\x03\x03\0\x02\x02\x50", 7) == 7);
    return tws_error_os(err, EPIPE, "send");
}

TEST(an_alert_is_found_behind_a_failing_write)
{
    begin(TLS1_2_VERSION);
    relay_open(client, server, "a.test");
    secure_end(&pair.client);
    relay(to_client, to_server, SIZE_MAX);
    secure_end(&pair.server);
    relay(to_server, to_client, SIZE_MAX);
    struct tws_transport *inner = &pair.client.transport.tls->inner;
    struct tws_transport_ops broken = *inner->ops;
    broken.writev = write_that_finds_an_alert;
    inner->ops = &broken;
    secure_end(&pair.client);
    CHECK_INT(pair.client.status, TWS_TLS);
    CHECK(strcmp(pair.client.err.reason, "the peer refused: internal error")
          == 0);
    relay_close();
    end();
}

static void
check_plain_answer(const char *request)
{
    char answer[64] = "";
    unsigned events;
    struct tws_error err;
    size_t n;
    begin(0);
    open_plain(&pair);
    int fd = pair.server.transport.fd;
    CHECK_INT(tws_tls_start(&pair.server.transport, server, NULL, NULL, &err),
              TWS_OK);
    MUST(write(pair.client.transport.fd, request, strlen(request)) > 0);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(tws_secure(&pair.server.transport, &events, &err),
                  TWS_REFUSED);
        CHECK_INT(err.http_status, 400);
    }
    tws_tls_strip(&pair.server.transport);
    CHECK(pair.server.transport.tls == NULL);
    CHECK_INT(pair.server.transport.fd, fd);
    CHECK_INT(server->references, 1);
    CHECK_INT(
        tws_write(&pair.server.transport, "HTTP/1.1 400\r\n", 14, &n, &err),
        TWS_OK);
    /* And nothing in front of it. */
    CHECK_INT(read(pair.client.transport.fd, answer, sizeof(answer)), 14);
    CHECK_BYTES(answer, 14, "HTTP/1.1 400\r\n");
    close_pair(&pair);
    end();
}

TEST(plain_http_is_answered_in_plain)
{
    check_plain_answer("GET / HTTP/1.1\r\n\r\n");
    check_plain_answer("OPTIONS * HTTP/1.1\r\n\r\n");
    check_plain_answer("PATCH / HTTP/1.1\r\n\r\n");
}

RUN(T(the_certificate_is_for_the_host), T(the_certificate_is_for_the_address),
    T(partial_wildcards_are_none), T(hosts_that_can_not_be),
    T(without_verify_any_host_does), T(it_comes_in_pieces),
    T(it_ends_anywhere), T(it_is_damaged_anywhere),
    T(it_says_what_it_waits_for),
    T(a_server_is_done_when_its_tickets_have_left),
    T(data_behind_the_handshake_is_pending), T(a_failure_stays),
    T(an_alert_is_found_behind_a_failing_write),
    T(plain_http_is_answered_in_plain))
