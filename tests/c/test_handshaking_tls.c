/* The engine over TLS: handshakes that take long or never end, and what is
 * different where bytes wait inside the encryption. */
#include "engine_tls.h"

#include "net/tls_parts.h"

#include <openssl/ssl.h>

/* What a test has happen in the middle of a server's TLS handshake. */
static struct {
    atomic_bool armed; /* the next one is held up */
    atomic_bool held;
    atomic_bool go;
} gate;

static int
hold_up(SSL *ssl, void *argument)
{
    (void)ssl;
    (void)argument;
    bool armed = true;
    if (atomic_compare_exchange_strong(&gate.armed, &armed, false)) {
        CHECK(inside_of == NULL); /* others have the exclusion */
        gate.held = true;
        EVENTUALLY(gate.go);
    }
    return 1;
}

static void
prepare(struct fixture *fixture, struct way way)
{
    prepare_tls();
    for (size_t i = 0; i < engine_server_tls->site_count; i++) {
        SSL_CTX_set_cert_cb(engine_server_tls->sites[i].ssl_context, hold_up,
                            NULL);
    }
    gate.armed = gate.held = gate.go = false;
    fixture_init_pool(fixture, way);
}

static void
start(struct fixture *fixture)
{
    fixture_make(fixture);
    fixture_encrypt(fixture);
    fixture_run(fixture);
    if (fixture->threads > 1) {
        fixture_await_spare(fixture);
    }
}

static void
end(struct fixture *fixture)
{
    await_crypts();
    fixture_end(fixture);
}

EACH_WAY(messages_go_both_ways)
{
    struct fixture fixture;
    prepare(&fixture, way);
    start(&fixture);
    int fd = connect_client(&fixture);
    for (int i = 0; i < 20; i++) {
        put_text(fd, "over and over");
        expect_text(fd, "over and over");
    }
    close_politely(fd);
    expect_alive(&fixture);
    end(&fixture);
    CHECK_INT(fixture.messages, 21);
}

EACH_WAY(a_slow_handshake_holds_up_nobody)
{
    struct fixture fixture;
    prepare(&fixture, way);
    start(&fixture);
    gate.armed = true;
    int fd = dial(&fixture);
    EVENTUALLY(gate.held);
    for (int i = 0; i < 3; i++) {
        expect_alive(&fixture);
    }
    gate.go = true;
    give(fd, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    expect_101(fd);
    put_text(fd, "at last");
    expect_text(fd, "at last");
    close_politely(fd);
    end(&fixture);
}

EACH_WAY(a_slow_handshake_may_expire)
{
    struct fixture fixture;
    char byte;
    prepare(&fixture, way);
    fixture.options.open_timeout = 100 * MILLISECOND;
    start(&fixture);
    gate.armed = true;
    int fd = dial(&fixture);
    EVENTUALLY(gate.held);
    EVENTUALLY(fixture.refused == 1);
    CHECK_INT(fixture.last_http_status, 408);
    gate.go = true;
    CHECK(!take_bytes(fd, &byte, 1));
    close(fd);
    end(&fixture);
    CHECK_INT(fixture.opened, 0);
    CHECK_INT(fixture.refused, 1);
}

EACH_WAY(a_stop_does_not_wait_for_a_handshake)
{
    struct fixture fixture;
    prepare(&fixture, way);
    start(&fixture);
    gate.armed = true;
    int fd = dial(&fixture);
    EVENTUALLY(gate.held);
    tws_server_stop(fixture.server, TWS_CLOSE_GOING_AWAY, TWS_SPAN("end"), 0);
    EVENTUALLY(fixture.ended == 1);
    gate.go = true;
    close(fd);
    end(&fixture);
    CHECK_INT(fixture.opened, 0);
}

EACH_WAY(plain_http_is_told_so)
{
    struct fixture fixture;
    static const char expected[] = "HTTP/1.1 400 ";
    char answer[sizeof(expected) - 1];
    prepare(&fixture, way);
    start(&fixture);
    fixture.wrap = NULL;
    int fd = dial(&fixture);
    give(fd, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    CHECK(take_bytes(fd, answer, sizeof(answer)));
    CHECK_BYTES(answer, sizeof(answer), expected);
    close(fd);
    EVENTUALLY(fixture.refused == 1);
    CHECK_INT(fixture.last_http_status, 400);
    fixture.wrap = encrypt;
    expect_alive(&fixture);
    end(&fixture);
}

EACH_WAY(who_does_not_speak_tls_costs_nobody_anything)
{
    enum { SILENT = 30 };
    static const uint8_t junk[] = {0x16, 3, 1, 0xff, 0xff, 1, 2, 3, 4};
    struct fixture fixture;
    int fds[SILENT];
    char byte;
    prepare(&fixture, way);
    /* Enough for who does, on a machine that is busy. */
    fixture.options.open_timeout = harness_step(3) * 1000 * MILLISECOND;
    start(&fixture);
    fixture.wrap = NULL;
    for (size_t i = 0; i < SILENT; i++) {
        fds[i] = dial(&fixture);
        give(fds[i], junk, i % (sizeof(junk) + 1));
    }
    fixture.wrap = encrypt;
    expect_alive(&fixture);
    for (size_t i = 0; i < SILENT; i++) {
        while (take_bytes(fds[i], &byte, 1)) {
            /* an alert */
        }
        close(fds[i]);
    }
    EVENTUALLY(fixture.refused == SILENT);
    end(&fixture);
}

EACH_WAY(a_large_message_waits_inside_the_encryption)
{
    struct fixture fixture;
    enum { SIZE = 600 * 1000 };
    prepare(&fixture, way);
    fixture.options.high_water = 2 * SIZE;
    start(&fixture);
    int fd = connect_client(&fixture);
    put_frame(fd, TEXT, pattern, SIZE);
    expect_frame(fd, TEXT, pattern, SIZE);
    put_text(fd, "and then");
    expect_text(fd, "and then");
    close_politely(fd);
    end(&fixture);
}

EACH_WAY(other_certificates_are_for_new_connections)
{
    struct fixture fixture;
    prepare(&fixture, way);
    start(&fixture);
    int fd = connect_client(&fixture);
    const struct tws_tls_identity identity = {
        .certfile = certificate_file(&(struct recipe){.common_name = "other"},
                                     &authority)};
    struct tws_tls_context *other = engine_context(&(struct tws_tls_options){
        .role = TWS_SERVER, .identities = &identity, .identity_count = 1});
    tws_server_set_tls(fixture.server, other);
    tws_tls_context_release(other);
    expect_alive(&fixture);
    put_text(fd, "still here");
    expect_text(fd, "still here");
    close_politely(fd);
    tws_server_set_tls(fixture.server, NULL);
    fixture.wrap = NULL;
    expect_alive(&fixture);
    end(&fixture);
}

RUN(T(messages_go_both_ways), T(a_slow_handshake_holds_up_nobody),
    T(a_slow_handshake_may_expire), T(a_stop_does_not_wait_for_a_handshake),
    T(plain_http_is_told_so), T(who_does_not_speak_tls_costs_nobody_anything),
    T(a_large_message_waits_inside_the_encryption),
    T(other_certificates_are_for_new_connections))
