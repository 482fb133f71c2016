/* Clients whose frames the program gets as they came: extensions look at them
 * in the layer above. What keeps a connection in order stays the engine's. */
#include "engine_fixture.h"

#include "protocol/close_code.h"

enum { LARGE = 200 * 1024 };

static const struct tws_agreed RAW = {
    .extensions = TWS_SPAN("x-raw"),
    .rsv = TWS_RSV1,
    .opcodes = 1U << 3 | 1U << 12,
    .raw_frames = true,
};

static void
accept_raw(struct fixture *fixture, struct tws_handshake *handshake,
           const struct tws_http_head *head,
           const struct tws_handshake_request *request)
{
    struct visitor *visitor = calloc(1, sizeof(*visitor));
    struct tws_error err;
    (void)head;
    must(visitor != NULL, "calloc");
    visitor->fixture = fixture;
    CHECK_INT(
        tws_handshake_accept(handshake, request, &RAW, NULL, 0, visitor, &err),
        TWS_OK);
    fixture->accepted++;
}

/* Sends the frame back as it came, behind its first byte, as a message. */
static void
tell(struct fixture *fixture, struct tws_client *client,
     const struct tws_event *event)
{
    struct tws_error err;
    struct tws_buffer text = TWS_BUFFER_EMPTY;
    (void)fixture;
    must(tws_buffer_append(&text, &event->first_byte, 1) == TWS_OK
             && tws_buffer_append(&text, event->data, event->length) == TWS_OK,
         "tws_buffer_append");
    struct tws_span payload = {.data = (const char *)tws_buffer_data(&text),
                               .length = tws_buffer_length(&text)};
    CHECK_INT(
        tws_client_send(client, TWS_OPCODE_BINARY, payload, 0, NULL, &err),
        TWS_OK);
    tws_buffer_release(&text);
}

static void
start_raw(struct fixture *fixture, enum tws_poller_kind kind)
{
    fixture_init(fixture, kind);
    fixture->on_request = accept_raw;
    fixture->on_frame = tell;
    fixture_start(fixture);
}

static void
expect_told(int fd, unsigned first, const char *payload, size_t length)
{
    uint8_t *text = malloc(length + 1);
    must(text != NULL, "malloc");
    text[0] = (uint8_t)first;
    if (length > 0) {
        memcpy(text + 1, payload, length);
    }
    expect_frame(fd, TWS_FIN | TWS_OPCODE_BINARY, text, length + 1);
    free(text);
}

BOTH_KINDS(the_101_names_what_was_agreed_on)
{
    struct fixture fixture;
    char head[1024];
    start_raw(&fixture, kind);
    int fd = dial(&fixture);
    give(fd, UPGRADE_REQUEST, strlen(UPGRADE_REQUEST));
    CHECK(take_head(fd, head, sizeof(head)));
    CHECK(strstr(head, "\r\nSec-WebSocket-Extensions: x-raw\r\n") != NULL);
    close_politely(fd);
    fixture_end(&fixture);
}

BOTH_KINDS(frames_come_as_they_are)
{
    static const struct {
        unsigned first;
        const char *text;
    } frames[] = {
        {TEXT, "whole"},
        {TWS_OPCODE_TEXT | TWS_RSV1, "a part"},
        {TWS_OPCODE_CONTINUATION, ""},
        {TWS_FIN | TWS_RSV1 | 3, "data"},
        {TWS_FIN | 12, "control"},
        {TEXT, "\xff"},
    };
    struct fixture fixture;
    start_raw(&fixture, kind);
    int fd = connect_client(&fixture);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(frames); i++) {
        size_t length = strlen(frames[i].text);
        put_frame(fd, frames[i].first, frames[i].text, length);
        put_frame(fd, PING, "between", 7);
        expect_told(fd, frames[i].first, frames[i].text, length);
        expect_frame(fd, PONG, "between", 7);
    }
    put_frame(fd, PONG, "unasked", 7);
    close_politely(fd);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1000);
    CHECK_INT(fixture.frames, TWS_ARRAY_SIZE(frames));
    CHECK_INT(fixture.pings, TWS_ARRAY_SIZE(frames));
    CHECK_INT(fixture.pongs, 1);
    CHECK_INT(fixture.messages, 0);
    fixture_end(&fixture);
}

BOTH_KINDS(large_frames_and_single_bytes)
{
    static char large[LARGE];
    uint8_t bytes[200 + WIRE_HEADER_MAX];
    struct fixture fixture;
    memset(large, 'x', sizeof(large));
    start_raw(&fixture, kind);
    int fd = connect_client(&fixture);
    put_frame(fd, BINARY, large, sizeof(large));
    expect_told(fd, BINARY, large, sizeof(large));
    size_t length = write_frame(bytes, TEXT, large, 200);
    for (size_t i = 0; i < length; i++) {
        give(fd, bytes + i, 1);
        if (i % 16 == 0) {
            pause_for(MILLISECOND / 4); /* to arrive apart */
        }
    }
    expect_told(fd, TEXT, large, 200);
    close_politely(fd);
    fixture_end(&fixture);
}

#define BAD(code, literal)                                                    \
    {                                                                         \
        code, literal, sizeof(literal) - 1                                    \
    }

BOTH_KINDS(broken_rules_end_a_client)
{
    static const struct {
        unsigned code;
        const char *bytes;
        size_t length;
    } bad[] = {
        BAD(1002, "\x81\x01x"),         /* not masked */
        BAD(1002, "\x84\x80\0\0\0\0"),  /* an opcode of nobody */
        BAD(1002, "\xa1\x80\0\0\0\0"),  /* a bit of nobody */
        BAD(1002, "\xc9\x80\0\0\0\0"),  /* a bit on a ping */
        BAD(1002, "\x88\x81\0\0\0\0x"), /* Close of one byte */
        BAD(1009, "\x82\xff\0\0\0\0\0\x14\x04\x01\0\0\0\0"), /* too large */
    };
    struct fixture fixture;
    start_raw(&fixture, kind);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(bad); i++) {
        int fd = connect_client(&fixture);
        give(fd, bad[i].bytes, bad[i].length);
        expect_close(fd, bad[i].code);
        CHECK(read_to_end(fd));
        CHECK_INT(close(fd), 0);
        EVENTUALLY(fixture.closed == (int)i + 1);
        CHECK_INT(fixture.last_code, bad[i].code);
    }
    fixture_end(&fixture);
}

/* What the layer above finds in frames. */
static void
judge(struct fixture *fixture, struct tws_client *client,
      const struct tws_event *event)
{
    struct tws_error err;
    if (event->length == 0) {
        (void)tws_error_protocol(&err, 1007, "so it says");
        tws_client_fail(client->worker, client, &err);
        return;
    }
    CHECK(tws_client_note_message(client, 2, 10));
    if (event->data[0] == 'c') {
        CHECK_INT(tws_client_close(client, 1000, TWS_SPAN(""), TWS_ENDED_BY_US,
                                   &err),
                  TWS_OK);
        CHECK(!tws_client_note_message(client, 1, 1)); /* counts no more */
        return;
    }
    tell(fixture, client, event);
}

BOTH_KINDS(the_program_joins_messages)
{
    struct tws_stats stats;
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_request = accept_raw;
    fixture.on_frame = judge;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "one");
    expect_told(fd, TEXT, "one", 3);
    tws_server_stats(fixture.server, &stats);
    CHECK_INT(stats.messages_in, 2);
    CHECK_INT(stats.bytes_in, 10);
    put_text(fd, "");
    put_text(fd, "late");
    expect_close(fd, 1007);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1007);
    CHECK_INT(fixture.frames, 2);
    fd = connect_client(&fixture);
    put_text(fd, "close");
    put_text(fd, "late");
    expect_close(fd, 1000);
    put_text(fd, "later");
    put_close(fd, 1000);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 2);
    CHECK_INT(fixture.last_code, 1000);
    CHECK_INT(fixture.frames, 3);
    fixture_end(&fixture);
}

RUN(T(the_101_names_what_was_agreed_on), T(frames_come_as_they_are),
    T(large_frames_and_single_bytes), T(broken_rules_end_a_client),
    T(the_program_joins_messages))
