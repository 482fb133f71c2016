#include "net/tls.h"

#include "tls_fixture.h"

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

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static struct tls_pair both;

static void
begin_secured(int version)
{
    begin(version);
    open_pair(&both, client, server, "a.test", NULL);
    shake_well(&both);
}

static void
finish(void)
{
    CHECK_INT(ERR_peek_error(), 0);
    close_pair(&both);
    end();
}

static enum tws_status
read_into(struct tls_end *one, void *data, size_t size, size_t *got)
{
    return tws_read(&one->transport, data, size, got, &one->err);
}

static void
end_writing(struct tls_end *one)
{
    one->transport.ops->end_writing(&one->transport);
}

/* -------------------------------------------------------------- reading */

/* Where a read came back full, `pending` tells whether waiting for the
 * descriptor would miss something; where it came back short, nothing is
 * left. */
TEST(nothing_is_missed_by_waiting)
{
    static const size_t rooms[] = {1, 100, 5000, 16384, 20000, 65536};
    static uint8_t sent[60000];
    static uint8_t data[65536];
    for (size_t v = 0; v < TWS_ARRAY_SIZE(versions); v++) {
        for (size_t i = 0; i < TWS_ARRAY_SIZE(rooms); i++) {
            size_t total = 0;
            begin_secured(versions[v]);
            CHECK_INT(write_all(&both.client, sent, sizeof(sent)), TWS_OK);
            while (total < sizeof(sent)) {
                size_t got = 0;
                CHECK_INT(read_into(&both.server, data, rooms[i], &got),
                          TWS_OK);
                total += got;
                if (got < rooms[i]) {
                    CHECK_INT(total, sizeof(sent));
                    CHECK(!tws_pending(&both.server.transport));
                    break;
                }
                struct pollfd watched = {.fd = both.server.transport.fd,
                                         .events = POLLIN};
                if (poll(&watched, 1, 0) == 0 && total < sizeof(sent)) {
                    CHECK(tws_pending(&both.server.transport));
                }
            }
            CHECK_INT(total, sizeof(sent));
            size_t got = 77;
            CHECK_INT(read_into(&both.server, data, 1, &got), TWS_AGAIN);
            CHECK_INT(got, 77);
            CHECK(!tws_pending(&both.server.transport));
            finish();
        }
    }
}

/* A part of a record is nothing yet. */
/* What another user of OpenSSL has left behind on this thread is not ours. */
TEST(errors_of_others_are_none_of_ours)
{
    uint8_t data[100];
    size_t got = 0;
    begin_secured(TLS1_3_VERSION);
    ERR_raise(ERR_LIB_USER, ERR_R_INTERNAL_ERROR);
    CHECK_INT(read_into(&both.server, data, sizeof(data), &got), TWS_AGAIN);
    ERR_raise(ERR_LIB_USER, ERR_R_INTERNAL_ERROR);
    CHECK_INT(write_all(&both.client, data, 5), TWS_OK);
    CHECK_INT(read_into(&both.server, data, sizeof(data), &got), TWS_OK);
    CHECK_INT(got, 5);
    finish();
}

TEST(half_a_record_is_not_pending)
{
    uint8_t data[100];
    size_t got;
    begin_secured(TLS1_3_VERSION);
    struct tws_tls *tls = both.client.transport.tls;
    int fds[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    int own = tls->inner.fd;
    tls->inner.fd = fds[0];
    CHECK_INT(write_all(&both.client, "0123456789", 10), TWS_OK);
    tls->inner.fd = own;
    ssize_t length = read(fds[1], data, sizeof(data));
    CHECK_INT(length, 10 + 22);
    MUST(write(own, data, 20) == 20);
    CHECK_INT(read_into(&both.server, data + 50, 50, &got), TWS_AGAIN);
    CHECK(!tws_pending(&both.server.transport));
    MUST(write(own, data + 20, 12) == 12);
    CHECK_INT(read_into(&both.server, data + 50, 50, &got), TWS_OK);
    CHECK_BYTES(data + 50, got, "0123456789");
    close(fds[0]);
    close(fds[1]);
    finish();
}

/* -------------------------------------------------------------- the end */

TEST(close_notify_ends_reading_only)
{
    char data[8] = "";
    size_t got;
    for (size_t v = 0; v < TWS_ARRAY_SIZE(versions); v++) {
        begin_secured(versions[v]);
        CHECK_INT(write_all(&both.client, "last", 4), TWS_OK);
        end_writing(&both.client);
        end_writing(&both.client); /* once is enough */
        CHECK_INT(read_into(&both.server, data, 8, &got), TWS_OK);
        CHECK_BYTES(data, got, "last");
        CHECK(tws_pending(&both.server.transport));
        for (int i = 0; i < 3; i++) {
            CHECK_INT(read_into(&both.server, data, 8, &got), TWS_EOF);
        }
        CHECK(SSL_get_shutdown(both.server.transport.tls->ssl)
              & SSL_RECEIVED_SHUTDOWN);
        CHECK_INT(
            tws_write(&both.client.transport, "x", 1, &got, &both.client.err),
            TWS_OS);
        CHECK_INT(both.client.err.sys_errno, EPIPE);
        /* The other way is open. */
        CHECK_INT(write_all(&both.server, "answer", 6), TWS_OK);
        end_writing(&both.server);
        CHECK_INT(read_all_of(&both.client, data, 6), TWS_OK);
        CHECK_BYTES(data, 6, "answer");
        CHECK_INT(read_into(&both.client, data, 8, &got), TWS_EOF);
        CHECK_INT(recv(both.client.transport.fd, data, 1, 0), 0);
        finish();
    }
}

/* The end of the stream without close_notify is an end: what is above knows
 * whether it came too early. */
TEST(an_end_without_close_notify)
{
    char data[8] = "";
    size_t got;
    for (size_t v = 0; v < TWS_ARRAY_SIZE(versions); v++) {
        begin_secured(versions[v]);
        CHECK_INT(write_all(&both.client, "last", 4), TWS_OK);
        shutdown(both.client.transport.fd, SHUT_WR);
        CHECK_INT(read_all_of(&both.server, data, 4), TWS_OK);
        CHECK_BYTES(data, 4, "last");
        for (int i = 0; i < 3; i++) {
            CHECK_INT(read_into(&both.server, data, 8, &got), TWS_EOF);
        }
        CHECK_INT(write_all(&both.server, "answer", 6), TWS_OK);
        CHECK_INT(read_all_of(&both.client, data, 6), TWS_OK);
        finish();
    }
}

TEST(an_end_within_a_record)
{
    uint8_t data[100];
    size_t got;
    begin_secured(TLS1_3_VERSION);
    MUST(write(both.client.transport.fd, "\x17\x03\x03\0\x40half of it", 15)
         == 15);
    shutdown(both.client.transport.fd, SHUT_WR);
    CHECK_INT(read_into(&both.server, data, 8, &got), TWS_AGAIN);
    CHECK_INT(read_into(&both.server, data, 8, &got), TWS_EOF);
    finish();
}

/* Who goes away without an end leaves a session that may be resumed. */
TEST(a_session_survives_an_early_end)
{
    for (size_t v = 0; v < TWS_ARRAY_SIZE(versions); v++) {
        begin(versions[v]);
        for (int i = 0; i < 3; i++) {
            open_pair(&both, client, server, "a.test", "a.test:1");
            shake_well(&both);
            check_echo(&both);
            CHECK_INT(info_of(&both.client).resumed, i > 0);
            close_pair(&both);
        }
        end();
    }
}

/* ---------------------------------------------------------- TLS in TLS */

/* As to a server behind a proxy that itself speaks TLS. */
TEST(tls_within_tls)
{
    static uint8_t sent[300000];
    static uint8_t data[300000];
    size_t got = 0;
    struct tws_error err;
    for (size_t v = 0; v < TWS_ARRAY_SIZE(versions); v++) {
        begin_secured(versions[v]);
        check_echo(&both);
        CHECK_INT(tws_tls_start(&both.client.transport, client, "b.test", NULL,
                                &err),
                  TWS_OK);
        CHECK_INT(
            tws_tls_start(&both.server.transport, server, NULL, NULL, &err),
            TWS_OK);
        both.client.status = both.server.status = TWS_AGAIN;
        shake_well(&both);
        check_echo(&both);
        for (size_t i = 0; i < sizeof(sent); i++) {
            sent[i] = (uint8_t)(i * 7 + (i >> 8));
        }
        /* By turns, as one thread has both ends. */
        size_t up = 0;
        size_t down = 0;
        while (down < sizeof(sent)) {
            size_t n = 0;
            if (up < sizeof(sent)
                && tws_write(&both.client.transport, sent + up,
                             sizeof(sent) - up, &n, &err)
                       == TWS_OK) {
                up += n;
            }
            n = 0;
            if (read_into(&both.server, data + down, 7777 + up % 1000, &n)
                == TWS_OK) {
                down += n;
            }
        }
        CHECK(memcmp(sent, data, sizeof(sent)) == 0);
        end_writing(&both.client);
        CHECK_INT(read_into(&both.server, data, 1, &got), TWS_EOF);
        finish();
    }
}

/* What the inner one has taken from the descriptor is pending, too, also
 * where the outer one has nothing left: that depends on where its buffer
 * ends. */
TEST(tls_within_tls_is_pending)
{
    static uint8_t data[1000];
    size_t got = 0;
    struct tws_error err;
    begin_secured(TLS1_3_VERSION);
    CHECK_INT(
        tws_tls_start(&both.client.transport, client, "b.test", NULL, &err),
        TWS_OK);
    CHECK_INT(tws_tls_start(&both.server.transport, server, NULL, NULL, &err),
              TWS_OK);
    both.client.status = both.server.status = TWS_AGAIN;
    shake_well(&both);
    for (size_t size = 100; size < 500; size += harness_step(23)) {
        size_t left = 20000 / (size + 22);
        for (size_t i = 0; i < left; i++) {
            CHECK_INT(write_all(&both.client, data, size), TWS_OK);
        }
        while (left > 0) {
            struct pollfd watched = {.fd = both.server.transport.fd,
                                     .events = POLLIN};
            if (poll(&watched, 1, 0) == 0
                && !tws_pending(&both.server.transport)) {
                CHECK(false);
                break;
            }
            if (read_into(&both.server, data, size, &got) == TWS_OK) {
                CHECK_INT(got, size);
                left--;
            }
        }
    }
    finish();
}

/* Nor is an end missed that the inner one has read behind the data. */
TEST(tls_within_tls_ends)
{
    uint8_t data[8];
    size_t got = 0;
    struct tws_error err;
    begin_secured(TLS1_3_VERSION);
    CHECK_INT(
        tws_tls_start(&both.client.transport, client, "b.test", NULL, &err),
        TWS_OK);
    CHECK_INT(tws_tls_start(&both.server.transport, server, NULL, NULL, &err),
              TWS_OK);
    both.client.status = both.server.status = TWS_AGAIN;
    shake_well(&both);
    CHECK_INT(write_all(&both.client, "last", 4), TWS_OK);
    struct tws_transport *inner = &both.client.transport.tls->inner;
    inner->ops->end_writing(inner);
    CHECK_INT(read_into(&both.server, data, 8, &got), TWS_OK);
    CHECK_BYTES(data, got, "last");
    CHECK(tws_pending(&both.server.transport));
    CHECK_INT(read_into(&both.server, data, 8, &got), TWS_EOF);
    finish();
}

/* Nor within the handshake. */
TEST(tls_within_tls_ends_early)
{
    struct tws_error err;
    begin_secured(TLS1_3_VERSION);
    CHECK_INT(
        tws_tls_start(&both.client.transport, client, "b.test", NULL, &err),
        TWS_OK);
    CHECK_INT(tws_tls_start(&both.server.transport, server, NULL, NULL, &err),
              TWS_OK);
    both.client.status = both.server.status = TWS_AGAIN;
    secure_end(&both.client);
    struct tws_transport *inner = &both.client.transport.tls->inner;
    inner->ops->end_writing(inner);
    secure_end(&both.server);
    CHECK_INT(both.server.status, TWS_EOF);
    finish();
}

TEST(one_that_was_never_used_is_released)
{
    begin(0);
    open_pair(&both, client, server, "a.test", "x");
    secure_end(&both.client);
    secure_end(&both.server);
    finish();
}

RUN(T(shakes_hands_and_echoes),
    T(nothing_is_read_or_written_before_the_handshake),
    T(nothing_is_missed_by_waiting), T(errors_of_others_are_none_of_ours),
    T(half_a_record_is_not_pending), T(close_notify_ends_reading_only),
    T(an_end_without_close_notify), T(an_end_within_a_record),
    T(a_session_survives_an_early_end), T(tls_within_tls),
    T(tls_within_tls_is_pending), T(tls_within_tls_ends),
    T(tls_within_tls_ends_early), T(one_that_was_never_used_is_released))
