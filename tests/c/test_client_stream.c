/* A message to a client in pieces, and what others send meanwhile; a message
 * of a client that its handler reads in chunks. */
#include "odd_transport.h"

#include "protocol/message_stream.h"

enum { MANY = 200 * 1024, MORE_TEXT = TWS_OPCODE_TEXT, MORE = 0, LAST = 0x80 };

static char owner[2]; /* their addresses */
static char receipt[2];

static enum tws_status
begin_stream(struct tws_client *client, const void *who)
{
    struct tws_error err;
    return tws_client_begin_stream(client, who, TWS_COMPRESS_AUTO, &err);
}

static enum tws_status
send_piece(struct tws_client *client, unsigned first, const char *one,
           const char *two)
{
    struct tws_error err;
    struct tws_span parts[2] = {{.data = one, .length = strlen(one)},
                                {.data = two, .length = strlen(two)}};
    return tws_client_send_fragment(client, first & 0x0f, (first & LAST) != 0,
                                    parts, &err);
}

static enum tws_status
send_packed(struct tws_client *client, struct tws_span frames,
            enum tws_standing standing)
{
    struct tws_error err;
    return tws_client_send_packed(client, frames, standing, 0, 0, NULL, &err);
}

static void
say_piece(int fd, unsigned first, const char *text)
{
    put_frame(fd, first, text, strlen(text));
}

static void
expect_piece(int fd, unsigned first, const char *text)
{
    expect_frame(fd, first, text, strlen(text));
}

static int
start_held(struct fixture *fixture, enum tws_poller_kind kind)
{
    fixture_init(fixture, kind);
    fixture->hold = true;
    fixture_start(fixture);
    int fd = connect_client(fixture);
    EVENTUALLY(fixture->opened == 1);
    return fd;
}

BOTH_KINDS(messages_wait_behind_and_control_frames_pass)
{
    struct fixture fixture;
    struct tws_error err;
    struct tws_span payload = {.data = "12345", .length = 5};
    int fd = start_held(&fixture, kind);
    struct tws_client *client = fixture.held;
    CHECK_INT(begin_stream(client, owner), TWS_OK);
    CHECK_INT(send_piece(client, MORE_TEXT, "", "one "), TWS_OK);
    CHECK_INT(fixture_send(&fixture, client, "behind", &receipt[0]), TWS_OK);
    CHECK_INT(
        tws_client_send(client, TWS_OPCODE_BINARY, payload, 2, NULL, &err),
        TWS_OK);
    CHECK_INT(tws_client_send(client, TWS_OPCODE_TEXT, (struct tws_span){0}, 0,
                              NULL, &err),
              TWS_OK);
    CHECK_INT(send_packed(client, TWS_SPAN("\x81\x01x"), TWS_STANDS_ALONE),
              TWS_OK);
    CHECK_INT(send_packed(client, TWS_SPAN("\x89\x01p"), TWS_STANDS_BETWEEN),
              TWS_OK);
    CHECK_INT(tws_client_send(client, TWS_OPCODE_PING, payload, 0, NULL, &err),
              TWS_OK);
    CHECK_INT(send_packed(client, TWS_SPAN("\0\x01w"), TWS_STANDS_WITHIN),
              TWS_OK);
    put_frame(fd, PING, "and you", 7);
    expect_piece(fd, MORE_TEXT, "one ");
    expect_piece(fd, PING, "p");
    expect_piece(fd, PING, "12345");
    expect_piece(fd, MORE, "w");
    expect_piece(fd, PONG, "and you");
    EVENTUALLY(tws_client_queued(client) == 8 + 4 + 4 + 3 + 2 + 3);
    CHECK_INT(fixture.sent, 0);
    CHECK_INT(send_piece(client, MORE | LAST, "two", " parts"), TWS_OK);
    expect_piece(fd, MORE | LAST, "two parts");
    tws_client_end_stream(client, owner);
    expect_text(fd, "behind");
    expect_frame(fd, TWS_OPCODE_BINARY, "12", 2);
    expect_frame(fd, MORE, "34", 2);
    expect_frame(fd, MORE | LAST, "5", 1);
    expect_text(fd, "");
    expect_text(fd, "x");
    EVENTUALLY(fixture.sent == 1);
    struct tws_stats stats;
    tws_server_stats(fixture.server, &stats);
    CHECK_INT(stats.messages_out, 4); /* not what came as frames */
    CHECK_INT(stats.bytes_out, 4 + 9 + 6 + 5);
    CHECK_INT(tws_client_queued(client), 0);
    CHECK_INT(send_text(client, "free"), TWS_OK);
    expect_text(fd, "free");
    close_politely(fd);
    fixture_end(&fixture);
}

static void
wake(struct tws_waiter *waiter)
{
    (void)waiter;
    writes++;
}

BOTH_KINDS(one_at_a_time)
{
    struct fixture fixture;
    struct tws_waiter waiter = {.wake = wake};
    int fd = start_held(&fixture, kind);
    struct tws_client *client = fixture.held;
    writes = 0;
    CHECK(!tws_client_await(client, TWS_AWAIT_STREAM, &waiter));
    CHECK_INT(begin_stream(client, &owner[0]), TWS_OK);
    CHECK_INT(begin_stream(client, &owner[1]), TWS_AGAIN);
    CHECK(tws_client_await(client, TWS_AWAIT_STREAM, &waiter));
    CHECK(!tws_client_await(client, TWS_AWAIT_ROOM, &waiter));
    tws_client_end_stream(client, &owner[1]); /* not its own */
    CHECK_INT(writes, 0);
    CHECK_INT(begin_stream(client, &owner[1]), TWS_AGAIN);
    tws_client_end_stream(client, &owner[0]);
    CHECK_INT(writes, 1);
    CHECK(!tws_client_await(client, TWS_AWAIT_STREAM, &waiter));
    CHECK_INT(begin_stream(client, &owner[1]), TWS_OK);
    tws_client_end_stream(client, &owner[1]);
    tws_client_end_stream(client, &owner[1]);
    close_politely(fd);
    fixture_end(&fixture);
}

/* Above the high-water mark whoever sends is to wait, as for the queue. */
BOTH_KINDS(what_waits_behind_is_bounded)
{
    struct fixture fixture;
    int fd = start_held(&fixture, kind);
    struct tws_client *client = fixture.held;
    CHECK_INT(begin_stream(client, owner), TWS_OK);
    size_t mark = fixture.options.high_water;
    size_t sent = 0;
    while (!client->crowded && sent < 2 * mark) {
        CHECK_INT(send_pattern(client, MANY), TWS_OK);
        sent += MANY + 10;
    }
    CHECK(sent > mark && sent <= mark + MANY + 10);
    CHECK_INT(tws_client_queued(client), sent);
    CHECK(!client->congested);
    CHECK_INT(send_piece(client, MORE_TEXT | LAST, "", ""), TWS_OK);
    expect_text(fd, "");
    tws_client_end_stream(client, owner);
    CHECK(!client->crowded);
    for (; sent > 0; sent -= MANY + 10) {
        expect_frame(fd, TEXT, pattern, MANY);
    }
    close_politely(fd);
    fixture_end(&fixture);
}

/* What waited is dropped, and whoever sent it is told. */
BOTH_KINDS(a_message_that_can_not_be_finished)
{
    for (int way = 0; way < 3; way++) {
        struct fixture fixture;
        int fd = start_held(&fixture, kind);
        struct tws_client *client = fixture.held;
        CHECK_INT(begin_stream(client, owner), TWS_OK);
        CHECK_INT(send_piece(client, MORE_TEXT, "half", ""), TWS_OK);
        CHECK_INT(fixture_send(&fixture, client, "x", &receipt[0]), TWS_OK);
        expect_piece(fd, MORE_TEXT, "half");
        if (way == 0) {
            CHECK_INT(begin_close(client, 1011, "half"), TWS_OK);
            tws_client_end_stream(client, owner);
            expect_close(fd, 1011);
            put_close(fd, 1011);
            CHECK(read_to_end(fd));
        }
        else if (way == 1) {
            break_off(client);
            CHECK(read_to_end(fd));
        }
        else {
            put_close(fd, 1000);
            expect_close(fd, 1000);
            CHECK(read_to_end(fd));
        }
        CHECK_INT(close(fd), 0);
        EVENTUALLY(fixture.closed == 1 && fixture.unsent == 1);
        CHECK_INT(fixture.sent, 0);
        CHECK_INT(send_piece(client, MORE | LAST, "x", ""), TWS_EOF);
        CHECK_INT(send_text(client, "x"), TWS_EOF);
        if (way == 1) {
            tws_client_end_stream(client, owner);
        }
        CHECK_INT(begin_stream(client, owner), TWS_EOF);
        fixture_end(&fixture); /* frees a stream that was not ended */
    }
}

/* A failed write drops what waits instead of keeping it. */
BOTH_KINDS(a_client_that_is_written_to_in_vain)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    int fd = start_held_back(&fixture);
    struct tws_client *client = fixture.held;
    CHECK_INT(begin_stream(client, owner), TWS_OK);
    pthread_mutex_lock(&client->lock);
    client->write_failed = true;
    pthread_mutex_unlock(&client->lock);
    CHECK_INT(send_text(client, "x"), TWS_OK);
    CHECK_INT(tws_buffer_length(&client->stream->behind), 0);
    tws_client_end_stream(client, owner);
    reset_fd(fd);
    fixture_end(&fixture);
}

/* ---- a message in chunks ----------------------------------------------- */

static enum tws_status
begin_chunks(struct tws_client *client, uint64_t limit)
{
    struct tws_error err;
    enum tws_status status =
        tws_message_stream_begin(&client->receiving->assembler, limit, &err);
    if (status == TWS_PROTOCOL) {
        tws_client_fail(client->worker, client, &err);
    }
    return status;
}

/* "all": to the end; "some": leaves in the middle; "wait": does not see it
 * begin. Others are echoed. */
static void
read_chunks(struct fixture *fixture, struct tws_client *client,
            const struct tws_event *event)
{
    struct tws_event chunk;
    size_t length = 0;
    char answer[32];
    bool all = is_text(event, "all");
    if (!all && !is_text(event, "some") && !is_text(event, "wait")) {
        (void)echo(client, event);
        return;
    }
    bool wait = is_text(event, "wait");
    CHECK_INT(begin_chunks(client, UINT64_MAX), TWS_OK);
    while (!wait && fixture_next(fixture, client, &chunk) == TWS_OK) {
        if (chunk.type != TWS_EVENT_CHUNK) {
            continue;
        }
        length += chunk.length;
        if (chunk.length == 0 || (!all && length > MANY)) {
            break;
        }
        tws_message_stream_consume(&client->receiving->assembler,
                                   chunk.length);
    }
    if (all && chunk.length == 0) {
        tws_message_stream_end(&client->receiving->assembler);
    }
    (void)snprintf(answer, sizeof(answer), "%s %zu", all ? "all" : "some",
                   all ? length : 0);
    CHECK_INT(send_text(client, answer), TWS_OK);
}

BOTH_KINDS(a_handler_reads_a_message_in_chunks)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.message.size = MANY;
    fixture.on_message = read_chunks;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "all");
    put_frame(fd, MORE_TEXT, pattern, MANY);
    put_frame(fd, PING, "p", 1);
    expect_piece(fd, PONG, "p");
    put_frame(fd, MORE, pattern, MANY);
    put_frame(fd, MORE | LAST, pattern, 1);
    expect_text(fd, "all 409601");
    /* The rest is skipped when the handler returns. */
    put_text(fd, "some");
    for (int i = 0; i < 20; i++) {
        put_frame(fd, i == 0 ? MORE_TEXT : MORE, pattern, MANY);
    }
    expect_text(fd, "some 0");
    say_piece(fd, MORE | LAST, "the end");
    put_text(fd, "echo");
    expect_text(fd, "echo");
    put_text(fd, "wait");
    expect_text(fd, "some 0");
    put_text(fd, "echo");
    expect_text(fd, "echo");
    /* 5 and what came in chunks to its end. */
    CHECK_INT(fixture.messages, 5);
    struct tws_stats stats;
    tws_server_stats(fixture.server, &stats);
    CHECK_INT(stats.messages_in, 6);
    close_politely(fd);
    fixture_end(&fixture);
}

static void
read_too_much(struct fixture *fixture, struct tws_client *client,
              const struct tws_event *event)
{
    struct tws_event chunk;
    (void)event;
    CHECK_INT(begin_chunks(client, 1), TWS_OK);
    CHECK_INT(fixture_next(fixture, client, &chunk), TWS_EOF);
}

BOTH_KINDS(a_message_in_chunks_that_is_too_large)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = read_too_much;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "go");
    put_text(fd, "12");
    expect_close(fd, 1009);
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1009);
    fixture_end(&fixture);
}

static void
read_behind_a_close(struct fixture *fixture, struct tws_client *client,
                    const struct tws_event *event)
{
    struct tws_event chunk;
    (void)event;
    CHECK_INT(begin_chunks(client, UINT64_MAX), TWS_OK);
    CHECK_INT(begin_close(client, 1000, ""), TWS_OK);
    CHECK_INT(fixture_next(fixture, client, &chunk), TWS_EOF);
}

BOTH_KINDS(chunks_behind_our_close_are_skipped)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = read_behind_a_close;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "go");
    say_piece(fd, MORE_TEXT, "12");
    say_piece(fd, MORE, "34");
    expect_close(fd, 1000);
    put_close(fd, 1000);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    fixture_end(&fixture);
}

RUN(T(messages_wait_behind_and_control_frames_pass), T(one_at_a_time),
    T(what_waits_behind_is_bounded), T(a_message_that_can_not_be_finished),
    T(a_client_that_is_written_to_in_vain),
    T(a_handler_reads_a_message_in_chunks),
    T(a_message_in_chunks_that_is_too_large),
    T(chunks_behind_our_close_are_skipped))
