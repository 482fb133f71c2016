/* What comes in from a client: messages of all sizes and cuts, rules that are
 * broken, ends of every kind, and handlers that read on by themselves. */
#include "scarce_buffers.h"

#include "odd_transport.h"

enum { MANY = 200 * 1024 };

/* ---- messages ---------------------------------------------------------- */

BOTH_KINDS(messages_of_all_sizes_come_back)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    echo_all_sizes(fd);
    close_politely(fd);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1000);
    CHECK_INT(fixture.messages, 2 * TWS_ARRAY_SIZE(sizes));
    fixture_end(&fixture);
}

BOTH_KINDS(a_message_arrives_in_fragments_with_pings_between)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_frame(fd, TWS_OPCODE_TEXT, "\xe2\x82", 2); /* half a euro sign */
    put_frame(fd, PING, "one", 3);
    put_frame(fd, TWS_OPCODE_CONTINUATION, "", 0);
    put_frame(fd, PING, "", 0);
    put_frame(fd, PONG, "unasked", 7);
    put_frame(fd, TWS_FIN | TWS_OPCODE_CONTINUATION, "\xac!", 2);
    expect_frame(fd, PONG, "one", 3);
    expect_frame(fd, PONG, "", 0);
    expect_text(fd, "\xe2\x82\xac!");
    CHECK_INT(fixture.pings, 2);
    CHECK_INT(fixture.pongs, 1);
    close_politely(fd);
    fixture_end(&fixture);
}

BOTH_KINDS(frames_may_come_byte_by_byte)
{
    uint8_t bytes[2 * (200 + WIRE_HEADER_MAX)];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    size_t length = write_frame(bytes, TEXT, pattern, 200);
    length += write_frame(bytes + length, PING, "?", 1);
    for (size_t i = 0; i < length; i++) {
        give(fd, bytes + i, 1);
        if (i % 8 == 0) {
            pause_for(MILLISECOND / 4); /* to arrive apart */
        }
    }
    expect_frame(fd, TEXT, pattern, 200);
    expect_frame(fd, PONG, "?", 1);
    close_politely(fd);
    fixture_end(&fixture);
}

/* ---- broken rules ------------------------------------------------------ */

#define BAD(code, literal)                                                    \
    {                                                                         \
        code, literal, sizeof(literal) - 1                                    \
    }

static const struct {
    unsigned code;
    const char *bytes;
    size_t length;
} bad_frames[] = {
    BAD(1002, "\x81\x01x"),                          /* not masked */
    BAD(1002, "\x83\x80\0\0\0\0"),                   /* reserved opcode */
    BAD(1002, "\xc1\x80\0\0\0\0"),                   /* reserved bit */
    BAD(1002, "\x09\x80\0\0\0\0"),                   /* fragmented ping */
    BAD(1002, "\x80\x80\0\0\0\0"),                   /* nothing to continue */
    BAD(1002, "\x01\x80\0\0\0\0\x81\x80\0\0\0\0"),   /* a start within */
    BAD(1002, "\x88\x81\0\0\0\0x"),                  /* Close of one byte */
    BAD(1002, "\x88\x82\0\0\0\0\x03\xed"),           /* Close with 1005 */
    BAD(1002, "\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0"), /* top bit of 64 */
    BAD(1007, "\x81\x81\0\0\0\0\xff"),               /* not UTF-8 */
    BAD(1007, "\x01\x82\0\0\0\0\xc0\x80"),           /* nor in a fragment */
    BAD(1009, "\x82\xff\0\0\0\0\0\x10\0\x01\0\0\0\0"), /* a byte too many */
    BAD(1009, "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"),
};

/* The Close frame must not be eaten by a reset, whatever is under way. */
static void
break_rule(const struct fixture *fixture, const char *bytes, size_t length,
           unsigned code, size_t behind)
{
    int closed = fixture->closed;
    int fd = connect_client(fixture);
    put_text(fd, "good");
    give(fd, bytes, length);
    for (; behind > 0; behind--) {
        give(fd, pattern, sizeof(pattern)); /* fails after a reset */
    }
    expect_text(fd, "good");
    expect_close(fd, code);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture->closed == closed + 1);
    CHECK_INT(fixture->last_code, code);
    CHECK(fixture->last_ending.reason[0] != '\0');
}

BOTH_KINDS(a_broken_rule_is_answered_with_a_close_frame)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(bad_frames); i++) {
        break_rule(&fixture, bad_frames[i].bytes, bad_frames[i].length,
                   bad_frames[i].code, i % 4);
    }
    CHECK_INT(fixture.messages, TWS_ARRAY_SIZE(bad_frames));
    expect_alive(&fixture);
    fixture_end(&fixture);
}

BOTH_KINDS(a_message_of_too_many_fragments_is_refused)
{
    uint8_t bytes[WIRE_HEADER_MAX];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.message.fragments = 100;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_frame(fd, TWS_OPCODE_BINARY, "", 0);
    size_t length = write_frame(bytes, TWS_OPCODE_CONTINUATION, "", 0);
    for (int i = 0; i < 100; i++) {
        give(fd, bytes, length);
    }
    expect_close(fd, 1008);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1008);
    expect_alive(&fixture);
    fixture_end(&fixture);
}

/* ---- the peer closes --------------------------------------------------- */

BOTH_KINDS(the_peer_closes)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    static const unsigned codes[] = {1000, 1001, 0, 3000, 4999};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(codes); i++) {
        unsigned code = codes[i] == 0 ? 1005 : codes[i];
        int closed = fixture.closed;
        int fd = connect_client(&fixture);
        put_close(fd, codes[i]);
        put_text(fd, "nothing counts any more");
        expect_close(fd, code);
        CHECK(read_to_end(fd));
        CHECK_INT(close(fd), 0);
        EVENTUALLY(fixture.closed == closed + 1);
        CHECK_INT(fixture.last_code, code);
    }
    int fd = connect_client(&fixture);
    put_frame(fd, CLOSE, "\x03\xe9so long", 9);
    expect_close(fd, 1001);
    EVENTUALLY(fixture.closed == (int)TWS_ARRAY_SIZE(codes) + 1);
    CHECK(strcmp(fixture.last_ending.reason, "so long") == 0);
    CHECK_INT(fixture.messages, 0);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

/* ---- how it ended ------------------------------------------------------ */

/* A server with one client, which is held. */
static int
start_one(struct fixture *fixture)
{
    fixture->hold = true;
    fixture_start(fixture);
    int fd = connect_client(fixture);
    EVENTUALLY(fixture->opened == 1);
    return fd;
}

/* Ends the peer's side and everything. */
static void
expect_ending(struct fixture *fixture, int fd, enum tws_ended_by by,
              unsigned code, const char *reason)
{
    const struct tws_ending *ending = &fixture->last_ending;
    EVENTUALLY(fixture->closed == 1);
    CHECK_INT(ending->by, by);
    CHECK_INT(ending->code, code);
    if (strcmp(ending->reason, reason) != 0) {
        CHECK(strcmp(ending->reason, reason) == 0);
        fprintf(stderr, "'%s', expected '%s'\n", ending->reason, reason);
    }
    if (fd >= 0) {
        CHECK_INT(close(fd), 0);
    }
    fixture_end(fixture);
}

static void
expect_codes(const struct fixture *fixture, unsigned sent, unsigned received)
{
    CHECK_INT(fixture->last_ending.sent_code, sent);
    CHECK_INT(fixture->last_ending.received_code, received);
}

BOTH_KINDS(ended_by_the_close_of_the_peer)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    int fd = start_one(&fixture);
    put_frame(fd, CLOSE, "\x0b\xb8so long", 9);
    expect_frame(fd, CLOSE, "\x0b\xb8", 2);
    expect_ending(&fixture, fd, TWS_ENDED_BY_PEER, 3000, "so long");
    expect_codes(&fixture, 3000, 3000);
    CHECK(strcmp(fixture.last_ending.received_reason, "so long") == 0);
    CHECK(strcmp(fixture.last_ending.sent_reason, "") == 0);
    CHECK_INT(fixture.last_ending.sys_errno, 0);
    CHECK_INT(fixture.last_ending.unsent, 0);
    CHECK(fixture.last_ending.ping_age == UINT64_MAX);
}

BOTH_KINDS(ended_by_our_close)
{
    for (int i = 0; i < 2; i++) {
        struct tws_error err;
        enum tws_ended_by by = i == 0 ? TWS_ENDED_BY_US : TWS_ENDED_BY_LIMIT;
        struct fixture fixture;
        fixture_init(&fixture, kind);
        int fd = start_one(&fixture);
        CHECK_INT(
            tws_client_close(fixture.held, 3001, TWS_SPAN("bye"), by, &err),
            TWS_OK);
        expect_close(fd, 3001);
        put_frame(fd, CLOSE,
                  "\x0b\xba"
                  "bye, too",
                  10);
        expect_ending(&fixture, fd, by, 3002, "bye, too");
        expect_codes(&fixture, 3001, 3002);
        CHECK(strcmp(fixture.last_ending.sent_reason, "bye") == 0);
        CHECK(strcmp(fixture.last_ending.received_reason, "bye, too") == 0);
    }
}

BOTH_KINDS(ended_by_the_end_of_the_stream)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    int fd = start_one(&fixture);
    CHECK_INT(shutdown(fd, SHUT_WR), 0);
    expect_ending(&fixture, fd, TWS_ENDED_BY_NETWORK, 1006,
                  "peer ended the connection without a Close frame");
    expect_codes(&fixture, 0, 0);
    CHECK_INT(fixture.last_ending.sys_errno, 0);

    fixture_init(&fixture, kind);
    fd = start_one(&fixture);
    CHECK_INT(begin_close(fixture.held, 1000, ""), TWS_OK);
    expect_close(fd, 1000);
    CHECK_INT(shutdown(fd, SHUT_WR), 0);
    expect_ending(&fixture, fd, TWS_ENDED_BY_US, 1006,
                  "peer ended the connection without an answer to our Close "
                  "frame");
    expect_codes(&fixture, 1000, 0);
}

BOTH_KINDS(ended_by_a_reset)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    int fd = start_one(&fixture);
    reset_fd(fd);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_ending.sys_errno, ECONNRESET);
    CHECK(strstr(fixture.last_ending.reason, strerror(ECONNRESET)) != NULL);
    CHECK_INT(fixture.last_by, TWS_ENDED_BY_NETWORK);
    CHECK_INT(fixture.last_code, 1006);
    fixture_end(&fixture);
}

BOTH_KINDS(ended_by_a_failed_write)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = count_calls;
    int fd = start_one(&fixture);
    write_errno = EIO;
    CHECK_INT(send_text(fixture.held, "lost"), TWS_OK);
    char reason[100];
    snprintf(reason, sizeof(reason), "writing to it failed: %s",
             strerror(EIO));
    expect_ending(&fixture, fd, TWS_ENDED_BY_NETWORK, 1006, reason);
    CHECK_INT(fixture.last_ending.sys_errno, EIO);
    CHECK_INT(fixture.last_ending.unsent, 6);
}

BOTH_KINDS(ended_by_a_broken_rule)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    int fd = start_one(&fixture);
    give(fd, "\x81\x01x", 3);
    expect_close(fd, 1002);
    EVENTUALLY(fixture.closed == 1);
    CHECK(strcmp(fixture.last_ending.sent_reason, fixture.last_ending.reason)
          == 0);
    char reason[sizeof(fixture.last_ending.reason)];
    memcpy(reason, fixture.last_ending.reason, sizeof(reason));
    CHECK(reason[0] != '\0');
    expect_ending(&fixture, fd, TWS_ENDED_BY_LIMIT, 1002, reason);
    expect_codes(&fixture, 1002, 0);
}

BOTH_KINDS(ended_by_want_of_memory)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    int fd = start_one(&fixture);
    uint8_t bytes[WIRE_HEADER_MAX + 100];
    size_t length = write_frame(bytes, TEXT, pattern, 100);
    pthread_mutex_lock(&fixture.exclusion);
    allocations_left = 0; /* for the first part of a message */
    give(fd, bytes, length - 1);
    pthread_mutex_unlock(&fixture.exclusion);
    EVENTUALLY(fixture.closed == 1);
    allocations_left = -1;
    CHECK_INT(fixture.last_by, TWS_ENDED_BY_US);
    CHECK_INT(fixture.last_code, 1011);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

BOTH_KINDS(ended_by_silence)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.ping_interval = 30 * MILLISECOND;
    fixture.options.ping_timeout = 30 * MILLISECOND;
    int fd = start_one(&fixture);
    struct wire_frame ping;
    CHECK(take_frame(fd, &ping));
    CHECK_INT(ping.first, PING);
    free(ping.data);
    expect_close(fd, 1011); /* it may hear it yet */
    CHECK(read_to_end(fd));
    expect_ending(&fixture, fd, TWS_ENDED_BY_KEEPALIVE, 1006,
                  "did not answer a ping within ping_timeout");
    expect_codes(&fixture, 1011, 0);
    CHECK(strcmp(fixture.last_ending.sent_reason,
                 "did not answer a ping within ping_timeout")
          == 0);
    CHECK(fixture.last_ending.ping_age >= 30 * MILLISECOND);
    CHECK(fixture.last_ending.ping_age < PATIENCE_SECONDS * SECOND);
}

BOTH_KINDS(ended_by_the_close_timeout)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.close_timeout = 30 * MILLISECOND;
    int fd = start_one(&fixture);
    CHECK_INT(begin_close(fixture.held, 1000, ""), TWS_OK);
    expect_ending(&fixture, fd, TWS_ENDED_BY_US, 1006,
                  "peer did not answer our Close frame in time");
    expect_codes(&fixture, 1000, 0);
}

BOTH_KINDS(ended_by_the_end_of_the_server)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    int fd = start_one(&fixture);
    tws_server_stop(fixture.server, 1012, TWS_SPAN("restart"),
                    30 * MILLISECOND);
    expect_ending(&fixture, fd, TWS_ENDED_BY_US, 1006,
                  "server stopped before the peer answered its Close frame");
    expect_codes(&fixture, 1012, 0);
    CHECK(strcmp(fixture.last_ending.sent_reason, "restart") == 0);
}

/* ---- a handler that reads on ------------------------------------------- */

static void
converse(struct fixture *fixture, struct tws_client *client,
         const struct tws_event *event)
{
    struct tws_event next;
    CHECK(is_text(event, "hello"));
    CHECK_INT(send_text(client, "name?"), TWS_OK);
    enum tws_status status = fixture_next(fixture, client, &next);
    if (status == TWS_OK) {
        CHECK(is_text(&next, "me"));
        CHECK_INT(send_text(client, "welcome"), TWS_OK);
    }
    else {
        CHECK_INT(status, TWS_EOF);
        CHECK(client->worker->over);
        CHECK_INT(tws_client_next(client->worker, client, &next), TWS_EOF);
        CHECK_INT(send_text(client, "anyone?"), TWS_EOF);
    }
}

/* Alone on its thread, or while another one takes over. */
static void
read_on(struct fixture *with)
{
    struct fixture fixture = *with;
    fixture.on_message = converse;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    for (int i = 0; i < 3; i++) {
        put_text(fd, "hello");
        expect_text(fd, "name?");
        put_text(fd, "me");
        expect_text(fd, "welcome");
        put_text(fd, "hello"); /* both at once */
        put_text(fd, "me");
        expect_text(fd, "name?");
        expect_text(fd, "welcome");
    }
    put_text(fd, "hello");
    expect_text(fd, "name?");
    close_politely(fd);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1000);
    fd = connect_client(&fixture);
    put_text(fd, "hello");
    expect_text(fd, "name?");
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 2);
    CHECK_INT(fixture.last_code, 1006);
    fd = connect_client(&fixture);
    put_text(fd, "hello");
    expect_text(fd, "name?");
    give(fd, "\x81\x01x", 3);
    expect_close(fd, 1002);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 3);
    CHECK_INT(fixture.last_code, 1002);
    fixture_end(&fixture);
}

BOTH_KINDS(a_handler_reads_on_by_itself)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    read_on(&fixture);
}

EACH_WAY(a_handler_reads_on_while_others_are_served)
{
    struct fixture fixture;
    fixture_init_pool(&fixture, way);
    read_on(&fixture);
}

/* Both wait at the same time, each for its own peer. */
EACH_WAY(several_handlers_read_on)
{
    enum { READERS = 5 };
    int fds[READERS];
    struct fixture fixture;
    fixture_init_pool(&fixture, way);
    fixture.on_message = converse;
    fixture_start(&fixture);
    for (int i = 0; i < READERS; i++) {
        fds[i] = connect_client(&fixture);
        put_text(fds[i], "hello");
        expect_text(fds[i], "name?");
    }
    for (int i = READERS - 1; i >= 0; i--) {
        put_text(fds[i], "me");
        expect_text(fds[i], "welcome");
        close_politely(fds[i]);
    }
    CHECK_INT(fixture.messages, READERS);
    fixture_end(&fixture);
}

/* The end is found inside the handler while the queue is above its mark:
 * there is nothing to pause any more. */
static void
converse_congested(struct fixture *fixture, struct tws_client *client,
                   const struct tws_event *event)
{
    struct tws_event next;
    (void)event;
    for (int i = 0; i < 20; i++) {
        CHECK_INT(send_pattern(client, MANY), TWS_OK);
    }
    CHECK(client->congested);
    CHECK_INT(fixture_next(fixture, client, &next), TWS_EOF);
    CHECK(client->congested);
}

BOTH_KINDS(a_handler_finds_the_end_while_the_queue_is_long)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = count_calls;
    fixture.on_message = converse_congested;
    fixture.options.high_water = 1024;
    fixture.send_room = 64 * 1024;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, 64 * 1024);
    put_text(fd, "hello");
    put_close(fd, 1000);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1000);
    for (int i = 0; i < 20; i++) {
        expect_frame(fd, TEXT, pattern, MANY);
    }
    expect_close(fd, 1000);
    CHECK(read_to_end(fd));
    pause_for(20 * MILLISECOND);
    int calls = read_calls;
    pause_for(50 * MILLISECOND);
    CHECK(read_calls - calls <= 2); /* it waits, it does not spin */
    for (int i = 0; i < 20; i++) {
        give(fd, pattern, 64 * 1024);
    }
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

RUN(T(messages_of_all_sizes_come_back),
    T(a_message_arrives_in_fragments_with_pings_between),
    T(frames_may_come_byte_by_byte),
    T(a_broken_rule_is_answered_with_a_close_frame),
    T(a_message_of_too_many_fragments_is_refused), T(the_peer_closes),
    T(ended_by_the_close_of_the_peer), T(ended_by_our_close),
    T(ended_by_the_end_of_the_stream), T(ended_by_a_reset),
    T(ended_by_a_failed_write), T(ended_by_a_broken_rule),
    T(ended_by_want_of_memory), T(ended_by_silence),
    T(ended_by_the_close_timeout), T(ended_by_the_end_of_the_server),
    T(a_handler_reads_on_by_itself),
    T(a_handler_reads_on_while_others_are_served), T(several_handlers_read_on),
    T(a_handler_finds_the_end_while_the_queue_is_long))
