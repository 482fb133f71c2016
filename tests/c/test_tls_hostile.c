/* Peers that do what they may not, or too much of what they may. */
#include "tls_raw.h"

#include <errno.h>

enum { ALERT = 21, HANDSHAKE = 22, DATA = 23 };

static struct raw_peer peer;
static struct tls_end end;
static struct tws_tls_context *context;

static void
begin(enum tws_role role, int version)
{
    if (server_file == NULL) {
        fixture_begin();
    }
    context =
        role == TWS_SERVER ? server_context_of(server_file) : client_context();
    raw_open(&peer, &end, context, version);
    raw_shake(&peer, &end);
}

static void
finish(void)
{
    CHECK_INT(ERR_peek_error(), 0);
    raw_close(&peer, &end);
    tws_tls_context_release(context);
}

static enum tws_status
read_some(void)
{
    static uint8_t data[100000];
    size_t got = 0;
    return tws_read(&end.transport, data, sizeof(data), &got, &end.err);
}

static enum tws_status
write_one(void)
{
    size_t written;
    return tws_write(&end.transport, "x", 1, &written, &end.err);
}

static void
check_reason(const char *text)
{
    if (strstr(end.err.reason, text) == NULL) {
        fprintf(stderr, "\"%s\", expected \"%s\"\n", end.err.reason, text);
        CHECK(false);
    }
}

/* The record maker is right: what follows tests the other end. */
TEST(records_made_by_hand_are_read)
{
    uint8_t data[8] = "";
    begin(TWS_SERVER, TLS1_3_VERSION);
    raw_send(&peer, DATA, "hel", 3);
    raw_send(&peer, DATA, "lo", 2);
    CHECK_INT(read_all_of(&end, data, 5), TWS_OK);
    CHECK_BYTES(data, 5, "hello");
    finish();
}

TEST(forged_records)
{
    uint8_t record[64];
    begin(TWS_SERVER, TLS1_3_VERSION);
    size_t size = raw_record(&peer, DATA, "hello", 5, record);
    record[size - 1] ^= 1;
    MUST(write(peer.fd, record, size) == (ssize_t)size);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(read_some(), TWS_TLS);
        check_reason("a record was damaged or forged");
        CHECK_INT(write_one(), TWS_TLS);
        check_reason("a record was damaged or forged");
    }
    /* It was told: bad_record_mac. */
    CHECK(SSL_read(peer.ssl, record, 1) <= 0);
    CHECK_INT(ERR_GET_REASON(ERR_get_error()),
              SSL_AD_REASON_OFFSET + SSL_AD_BAD_RECORD_MAC);
    ERR_clear_error();
    finish();
}

TEST(records_that_break_rules)
{
    static const uint8_t large[16385];
    static const struct {
        uint8_t type;
        const void *content;
        size_t length;
    } cases[] = {
        {DATA, large, sizeof(large)},       /* RFC 8446 section 5.1 */
        {0, "", 0},                         /* no type at all: section 5.4 */
        {99, "x", 1},                       /* of no type that is known */
        {HANDSHAKE, "\x01\0\0\0", 4},       /* ClientHello again */
        {HANDSHAKE, "\x18\0\0\x01\x02", 5}, /* KeyUpdate, but which? */
        {HANDSHAKE, "\x18\xff\xff\xff", 4}, /* 16 MiB announced */
        {HANDSHAKE, "\x04\0\0\0", 4},       /* a ticket, from a client */
        {HANDSHAKE, "", 0},
        {ALERT, "\x02", 1},
        {20, "\x01", 1}, /* change_cipher_spec after the handshake */
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        begin(TWS_SERVER, TLS1_3_VERSION);
        raw_send(&peer, cases[i].type, cases[i].content, cases[i].length);
        enum tws_status status = read_some();
        if (status != TWS_TLS) {
            fprintf(stderr, "case %zu: %d\n", i, status);
            CHECK(false);
        }
        finish();
    }
}

TEST(alerts_end_it)
{
    begin(TWS_SERVER, TLS1_3_VERSION);
    raw_send(&peer, ALERT, "\x02\x50", 2);
    CHECK_INT(read_some(), TWS_TLS);
    check_reason("the peer refused: internal error");
    finish();
    begin(TWS_CLIENT, TLS1_3_VERSION);
    raw_send(&peer, ALERT, "\x02\x74", 2);
    CHECK_INT(read_some(), TWS_TLS);
    check_reason("the peer refused: certificate required");
    finish();
}

TEST(what_follows_close_notify_is_not_read)
{
    begin(TWS_SERVER, TLS1_3_VERSION);
    raw_send(&peer, DATA, "x", 1);
    raw_send(&peer, ALERT, "\x01\x00", 2);
    raw_send(&peer, DATA, "y", 1);
    CHECK_INT(read_some(), TWS_OK);
    CHECK(tws_pending(&end.transport));
    CHECK_INT(read_some(), TWS_EOF);
    CHECK_INT(read_some(), TWS_EOF);
    CHECK_INT(write_one(), TWS_OK);
    finish();
}

/* -------------------------------------------------------- too much of it */

TEST(a_flood_of_records_without_data)
{
    static const struct {
        uint8_t type;
        const char *content;
        size_t length;
    } cases[] = {
        {DATA, "", 0},
        {ALERT, "\x01\x5a", 2}, /* user_canceled, which ends nothing */
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        enum tws_status status = TWS_AGAIN;
        begin(TWS_SERVER, TLS1_3_VERSION);
        for (int n = 0; n < 100 && status == TWS_AGAIN; n++) {
            raw_send(&peer, cases[i].type, cases[i].content, cases[i].length);
            status = read_some();
        }
        CHECK_INT(status, TWS_TLS);
        finish();
    }
}

/* Asks for new keys, with an answer. */
static void
update_keys(void)
{
    MUST(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
    MUST(SSL_do_handshake(peer.ssl) == 1);
}

TEST(a_flood_of_key_updates)
{
    for (int role = 0; role < 2; role++) {
        begin(role == 0 ? TWS_SERVER : TWS_CLIENT, TLS1_3_VERSION);
        for (int i = 0; i < 200; i++) {
            update_keys();
        }
        CHECK_INT(read_some(), TWS_TLS);
        check_reason("the peer sent 64 records without data");
        finish();
    }
}

TEST(key_updates_between_data_are_answered)
{
    char data[1];
    begin(TWS_SERVER, TLS1_3_VERSION);
    for (int i = 0; i < 300; i++) {
        update_keys();
        MUST(SSL_write(peer.ssl, "x", 1) == 1);
        CHECK_INT(read_some(), TWS_OK);
        if (i % 50 == 0) {
            CHECK_INT(write_one(), TWS_OK);
            MUST(SSL_read(peer.ssl, data, 1) == 1);
        }
    }
    finish();
}

/* One that asks, but does not read the answers, has us keep them: up to a
 * limit. */
TEST(answers_that_nobody_reads)
{
    static char filler[1 << 20];
    enum tws_status status = TWS_OK;
    begin(TWS_SERVER, TLS1_3_VERSION);
    MUST(write(end.transport.fd, filler, sizeof(filler)) > 0);
    int rounds = 0;
    while (status == TWS_OK && rounds < 20000) {
        update_keys();
        MUST(SSL_write(peer.ssl, "x", 1) == 1);
        status = read_some();
        CHECK(end.transport.tls->out.capacity <= 512 * 1024);
        rounds++;
    }
    CHECK_INT(status, TWS_TLS);
    check_reason("does not read the answers");
    CHECK(rounds > 1000);
    finish();
}

/* Half a message has OpenSSL write nothing; who waits for room to write would
 * turn in circles for as long as the peer likes. */
TEST(half_a_message_from_a_client)
{
    begin(TWS_SERVER, TLS1_3_VERSION);
    raw_send(&peer, HANDSHAKE, "\x18\0\0\x01", 4);
    CHECK_INT(read_some(), TWS_AGAIN);
    CHECK_INT(write_one(), TWS_TLS);
    check_reason("the peer sent a part of a message");
    finish();
}

TEST(half_a_message_from_a_server)
{
    char data[1];
    begin(TWS_CLIENT, TLS1_3_VERSION);
    raw_send(&peer, HANDSHAKE, "\x18\0\0\x01", 4);
    CHECK_INT(read_some(), TWS_AGAIN);
    for (int i = 0; i < 100; i++) {
        CHECK_INT(write_one(), TWS_AGAIN);
    }
    raw_send(&peer, HANDSHAKE, "\0", 1); /* the rest: it may write now */
    CHECK_INT(write_one(), TWS_OK);
    MUST(SSL_read(peer.ssl, data, 1) == 1);
    finish();
    begin(TWS_CLIENT, TLS1_3_VERSION);
    raw_send(&peer, HANDSHAKE, "\x18\0\0\x01", 4);
    CHECK_INT(read_some(), TWS_AGAIN);
    enum tws_status status = TWS_AGAIN;
    for (int i = 0; i < 5000 && status == TWS_AGAIN; i++) {
        status = write_one();
    }
    CHECK_INT(status, TWS_TLS);
    check_reason("the peer sent a part of a message");
    finish();
}

TEST(half_a_message_and_the_end)
{
    begin(TWS_CLIENT, TLS1_3_VERSION);
    raw_send(&peer, HANDSHAKE, "\x18\0\0\x01", 4);
    CHECK_INT(read_some(), TWS_AGAIN);
    close(peer.fd);
    peer.fd = -1;
    CHECK_INT(write_one(), TWS_OS);
    CHECK_INT(end.err.sys_errno, EPIPE);
    CHECK_INT(read_some(), TWS_EOF);
    finish();
}

/* -------------------------------------------------------- renegotiation */

TEST(renegotiation_is_refused)
{
    uint8_t data[8] = "";
    begin(TWS_SERVER, TLS1_2_VERSION);
    MUST(SSL_renegotiate(peer.ssl) == 1);
    (void)SSL_do_handshake(peer.ssl); /* sends a ClientHello */
    CHECK_INT(read_some(), TWS_AGAIN);
    CHECK(SSL_is_init_finished(end.transport.tls->ssl));
    /* The answer is no_renegotiation, and nothing else. */
    CHECK(SSL_do_handshake(peer.ssl) <= 0);
    CHECK_INT(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    ERR_clear_error();
    finish();
    /* A server that asks for it is refused in the same way. */
    begin(TWS_CLIENT, TLS1_2_VERSION);
    MUST(SSL_renegotiate(peer.ssl) == 1);
    MUST(SSL_do_handshake(peer.ssl) == 1); /* sends a HelloRequest */
    CHECK_INT(read_some(), TWS_AGAIN);
    CHECK(SSL_is_init_finished(end.transport.tls->ssl));
    MUST(SSL_write(peer.ssl, "still", 5) == 5);
    CHECK_INT(read_all_of(&end, data, 5), TWS_OK);
    CHECK_BYTES(data, 5, "still");
    finish();
}

TEST(a_flood_of_renegotiations)
{
    enum tws_status status = TWS_AGAIN;
    begin(TWS_CLIENT, TLS1_2_VERSION);
    for (int i = 0; i < 200 && status == TWS_AGAIN; i++) {
        MUST(SSL_renegotiate(peer.ssl) == 1);
        MUST(SSL_do_handshake(peer.ssl) == 1);
        status = read_some();
    }
    CHECK_INT(status, TWS_TLS);
    check_reason("the peer sent 64 records without data");
    finish();
}

/* ----------------------------------------------------------- small pieces */

/* One call does not go on for as long as the peer sends. */
TEST(crumbs_do_not_hold_a_reader)
{
    static uint8_t records[6000 * 23];
    static uint8_t data[65536];
    int size = 1 << 20;
    size_t length = 0;
    size_t got = 0;
    size_t total = 0;
    int calls = 0;
    begin(TWS_SERVER, TLS1_3_VERSION);
    (void)setsockopt(peer.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    for (int i = 0; i < 6000; i++) {
        length += raw_record(&peer, DATA, "x", 1, records + length);
    }
    CHECK_INT(length, sizeof(records));
    MUST(write(peer.fd, records, length) == (ssize_t)length);
    while (total < 6000 && calls < 100) {
        CHECK_INT(tws_read(&end.transport, data, 4096, &got, &end.err),
                  TWS_OK);
        total += got;
        calls++;
        /* Who waits is told of the rest; who goes on while something is
         * pending comes to an end. */
        struct pollfd watched = {.fd = end.transport.fd, .events = POLLIN};
        CHECK(!tws_pending(&end.transport));
        CHECK_INT(poll(&watched, 1, 0), total < 6000);
    }
    CHECK_INT(total, 6000);
    CHECK(calls >= 3);
    finish();
}

RUN(T(records_made_by_hand_are_read), T(forged_records),
    T(records_that_break_rules), T(alerts_end_it),
    T(what_follows_close_notify_is_not_read),
    T(a_flood_of_records_without_data), T(a_flood_of_key_updates),
    T(key_updates_between_data_are_answered), T(answers_that_nobody_reads),
    T(half_a_message_from_a_client), T(half_a_message_from_a_server),
    T(half_a_message_and_the_end), T(renegotiation_is_refused),
    T(a_flood_of_renegotiations), T(crumbs_do_not_hold_a_reader))
