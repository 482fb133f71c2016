/* What a client of a server is sent and what it is told of, from the handlers
 * and from other threads. */

/* Memory that runs out on demand, for what is queued. */
#include <stdatomic.h>
#include <stdlib.h>

static atomic_int allocations_left = -1; /* -1: all succeed */

static void *
scarce_malloc(size_t size)
{
    if (allocations_left == 0) {
        return NULL;
    }
    if (allocations_left > 0) {
        allocations_left--;
    }
    return malloc(size);
}

#define malloc scarce_malloc
#include "../../csrc/protocol/buffer.c"
#undef malloc

#include "engine_fixture.h"

enum { MANY = 200 * 1024 };

static enum tws_status
send_text(struct tws_client *client, const char *text)
{
    struct tws_error err;
    struct tws_span payload = {.data = text, .length = strlen(text)};
    return tws_client_send(client, TWS_OPCODE_TEXT, payload, 0, &err);
}

static bool
is_text(const struct tws_event *event, const char *text)
{
    return event->type == TWS_EVENT_TEXT && event->length == strlen(text)
           && memcmp(event->data, text, event->length) == 0;
}

/* ---- transports that count, stutter and fail --------------------------- */

static struct tws_transport_ops own_ops;
static const struct tws_transport_ops *plain_ops; /* the driver sets it */
static atomic_int read_calls;
static atomic_int reads; /* that found something */
static atomic_int writes;
static atomic_int write_errno; /* 0: none */
static atomic_uint stutter;

static enum tws_status
counting_read(struct tws_transport *transport, uint8_t *data, size_t size,
              size_t *got, struct tws_error *err)
{
    enum tws_status status = plain_ops->read(transport, data, size, got, err);
    reads += status == TWS_OK;
    read_calls++;
    return status;
}

static enum tws_status
counting_writev(struct tws_transport *transport, const struct iovec *parts,
                int count, size_t *written, struct tws_error *err)
{
    writes++;
    if (write_errno != 0) {
        return tws_error_os(err, write_errno, "send");
    }
    return plain_ops->writev(transport, parts, count, written, err);
}

/* Takes a few bytes, or none, by turns. Called with the client's lock. */
static enum tws_status
stuttering_writev(struct tws_transport *transport, const struct iovec *parts,
                  int count, size_t *written, struct tws_error *err)
{
    unsigned step = stutter++;
    if (step % 5 == 4) {
        return TWS_AGAIN;
    }
    size_t left = 1 + step * step % 1999;
    struct iovec few[2];
    int used = 0;
    while (used < count && used < 2 && left > 0) {
        few[used] = parts[used];
        if (few[used].iov_len > left) {
            few[used].iov_len = left;
        }
        left -= few[used].iov_len;
        used++;
    }
    return plain_ops->writev(transport, few, used, written, err);
}

static void
use_ops(struct tws_client *client,
        enum tws_status (*writev)(struct tws_transport *, const struct iovec *,
                                  int, size_t *, struct tws_error *))
{
    plain_ops = client->transport.ops;
    own_ops = *plain_ops;
    own_ops.read = counting_read;
    own_ops.writev = writev;
    client->transport.ops = &own_ops;
    reads = writes = read_calls = write_errno = 0;
    stutter = 0;
}

static void
count_calls(struct fixture *fixture, struct tws_client *client)
{
    (void)fixture;
    use_ops(client, counting_writev);
}

static void
stutter_writes(struct fixture *fixture, struct tws_client *client)
{
    (void)fixture;
    use_ops(client, stuttering_writev);
}

/* ---- messages both ways ------------------------------------------------ */

static const size_t sizes[] = {0,     1,     125,   126,   127,    16384,
                               16385, 65535, 65536, 70000, 1 << 20};

static void
echo_all_sizes(int fd)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(sizes); i++) {
        put_frame(fd, TEXT, pattern, sizes[i]);
        expect_frame(fd, TEXT, pattern, sizes[i]);
        put_frame(fd, BINARY, pattern, sizes[i]);
        expect_frame(fd, BINARY, pattern, sizes[i]);
    }
}

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

BOTH_KINDS(messages_survive_a_transport_that_stutters)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = stutter_writes;
    fixture.options.high_water = 1 << 20;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    echo_all_sizes(fd);
    for (int i = 0; i < 500; i++) {
        put_frame(fd, BINARY, pattern, (size_t)(i * i % 3001));
    }
    for (int i = 0; i < 500; i++) {
        expect_frame(fd, BINARY, pattern, (size_t)(i * i % 3001));
    }
    close_politely(fd);
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

/* Answers "12" with what stands in `pattern`, in fragments of 12 bytes. */
static void
answer_in_fragments(struct fixture *fixture, struct tws_client *client,
                    const struct tws_event *event)
{
    struct tws_error err;
    char digits[16] = "";
    (void)fixture;
    memcpy(digits, event->data, event->length);
    struct tws_span payload = {.data = pattern, .length = 100};
    CHECK_INT(tws_client_send(client, TWS_OPCODE_TEXT, payload,
                              (size_t)atoi(digits), &err),
              TWS_OK);
}

BOTH_KINDS(a_message_leaves_in_fragments)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = answer_in_fragments;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    for (size_t fragment = 0; fragment <= 102; fragment++) {
        size_t most = fragment == 0 || fragment > 100 ? 100 : fragment;
        size_t done = 0;
        char text[16];
        snprintf(text, sizeof(text), "%zu", fragment);
        put_text(fd, text);
        while (done < 100 && harness_failures == 0) {
            size_t part = 100 - done < most ? 100 - done : most;
            unsigned first =
                done == 0 ? TWS_OPCODE_TEXT : TWS_OPCODE_CONTINUATION;
            if (done + part == 100) {
                first |= TWS_FIN;
            }
            expect_frame(fd, first, pattern + done, part);
            done += part;
        }
    }
    close_politely(fd);
    fixture_end(&fixture);
}

static void
send_nothing(struct fixture *fixture, struct tws_client *client)
{
    struct tws_error err;
    (void)fixture;
    CHECK_INT(tws_client_send(client, TWS_OPCODE_TEXT, (struct tws_span){0}, 0,
                              &err),
              TWS_OK);
    CHECK_INT(tws_client_send(client, TWS_OPCODE_BINARY, (struct tws_span){0},
                              5, &err),
              TWS_OK);
    CHECK_INT(tws_client_send_packed(client, (struct tws_span){0}, &err),
              TWS_OK);
}

BOTH_KINDS(an_empty_message_needs_no_memory_of_its_own)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = send_nothing;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    expect_frame(fd, TEXT, "", 0);
    expect_frame(fd, BINARY, "", 0);
    close_politely(fd);
    fixture_end(&fixture);
}

/* ---- corking ----------------------------------------------------------- */

BOTH_KINDS(replies_to_what_came_together_leave_together)
{
    enum { BATCH = 1000 };
    uint8_t bytes[BATCH * (WIRE_HEADER_MAX + 5)];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = count_calls;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    size_t length = 0;
    for (int i = 0; i < BATCH; i++) {
        length += write_frame(bytes + length, TEXT, "hello", 5);
    }
    give(fd, bytes, length);
    for (int i = 0; i < BATCH; i++) {
        expect_text(fd, "hello");
    }
    CHECK(reads <= 10);
    CHECK(writes <= reads);
    CHECK(writes >= 1);
    close_politely(fd);
    fixture_end(&fixture);
}

static void
send_three(struct fixture *fixture, struct tws_client *client,
           const struct tws_event *event)
{
    struct tws_error err;
    (void)fixture;
    (void)event;
    struct tws_span large = {.data = pattern, .length = 100000};
    CHECK_INT(send_text(client, "before"), TWS_OK);
    CHECK_INT(tws_client_queued(client), 8);
    CHECK_INT(tws_client_send(client, TWS_OPCODE_BINARY, large, 0, &err),
              TWS_OK);
    CHECK_INT(send_text(client, "behind"), TWS_OK);
    CHECK(tws_client_queued(client) >= 8);
    tws_client_flush(client);
    CHECK_INT(tws_client_queued(client), 0);
    CHECK_INT(send_text(client, "last"), TWS_OK);
}

BOTH_KINDS(small_and_large_messages_keep_their_order)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = count_calls;
    fixture.on_message = send_three;
    fixture.send_room = 1 << 20;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, 1 << 20);
    put_text(fd, "go");
    expect_text(fd, "before");
    expect_frame(fd, BINARY, pattern, 100000);
    expect_text(fd, "behind");
    expect_text(fd, "last");
    CHECK_INT(writes, 4);
    close_politely(fd);
    fixture_end(&fixture);
}

static void
send_thousands(struct fixture *fixture, struct tws_client *client,
               const struct tws_event *event)
{
    struct tws_error err;
    (void)fixture;
    (void)event;
    for (int i = 0; i < 2000; i++) {
        struct tws_span payload = {.data = pattern,
                                   .length = (size_t)(i % 300)};
        CHECK_INT(tws_client_send(client, TWS_OPCODE_TEXT, payload, 0, &err),
                  TWS_OK);
        CHECK(tws_buffer_length(&client->cork->out) <= 96 * 1024);
    }
}

BOTH_KINDS(what_is_gathered_is_bounded)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = send_thousands;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "go");
    for (int i = 0; i < 2000; i++) {
        expect_frame(fd, TEXT, pattern, (size_t)(i % 300));
    }
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
    CHECK(fixture->last_reason[0] != '\0');
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

/* ---- closing ----------------------------------------------------------- */

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
    CHECK(strcmp(fixture.last_reason, "so long") == 0);
    CHECK_INT(fixture.messages, 0);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

static void
close_in_handler(struct fixture *fixture, struct tws_client *client,
                 const struct tws_event *event)
{
    struct tws_error err;
    (void)fixture;
    (void)event;
    CHECK_INT(send_text(client, "last words"), TWS_OK);
    CHECK_INT(tws_client_close(client, 3001, TWS_SPAN("bye"), &err), TWS_OK);
    CHECK_INT(tws_client_close(client, 3002, TWS_SPAN("bye"), &err), TWS_EOF);
    CHECK_INT(send_text(client, "too late"), TWS_EOF);
    CHECK_INT(tws_client_send_packed(client, TWS_SPAN("\x81\0"), &err),
              TWS_EOF);
}

BOTH_KINDS(a_handler_closes)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = close_in_handler;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "one");
    put_text(fd, "two"); /* may have crossed the Close: discarded */
    expect_text(fd, "last words");
    expect_frame(fd, CLOSE,
                 "\x0b\xb9"
                 "bye",
                 5);
    put_text(fd, "three");
    put_frame(fd, PING, "four", 4); /* not answered behind a Close */
    put_close(fd, 3003);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 3003);
    CHECK_INT(fixture.messages, 1);
    CHECK_INT(fixture.pings, 0);
    fixture_end(&fixture);
}

BOTH_KINDS(another_thread_closes)
{
    struct fixture fixture;
    struct tws_error err;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    CHECK_INT(send_text(fixture.held, "from outside"), TWS_OK);
    CHECK_INT(tws_client_close(fixture.held, 1001, TWS_SPAN(""), &err),
              TWS_OK);
    CHECK_INT(tws_client_close(fixture.held, 1001, TWS_SPAN(""), &err),
              TWS_EOF);
    expect_text(fd, "from outside");
    expect_close(fd, 1001);
    put_close(fd, 1001);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1001);
    fixture_end(&fixture);
}

BOTH_KINDS(both_close_at_the_same_time)
{
    struct fixture fixture;
    struct tws_error err;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    pthread_mutex_lock(&fixture.exclusion); /* the driver sees nothing yet */
    put_close(fd, 3000);
    CHECK_INT(tws_client_close(fixture.held, 3001, TWS_SPAN(""), &err),
              TWS_OK);
    pthread_mutex_unlock(&fixture.exclusion);
    expect_close(fd, 3001);
    CHECK(read_to_end(fd)); /* one Close is enough */
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 3000);
    fixture_end(&fixture);
}

static void
break_off(struct fixture *fixture, struct tws_client *client,
          const struct tws_event *event)
{
    (void)fixture;
    (void)event;
    tws_client_break_off(client);
    CHECK_INT(send_text(client, "into the void"), TWS_OK);
    tws_client_break_off(client);
}

BOTH_KINDS(a_handler_breaks_off)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = break_off;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "one");
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1006);
    fixture_end(&fixture);
}

BOTH_KINDS(another_thread_breaks_off)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    tws_client_break_off(fixture.held);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1006);
    fixture_end(&fixture);
}

BOTH_KINDS(a_client_may_be_held_beyond_its_end)
{
    struct fixture fixture;
    struct tws_error err;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture.send_room = 16 * 1024;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, 16 * 1024);
    EVENTUALLY(fixture.opened == 1);
    for (int i = 0; i < 10; i++) {
        struct tws_span payload = {.data = pattern, .length = MANY};
        CHECK_INT(
            tws_client_send(fixture.held, TWS_OPCODE_TEXT, payload, 0, &err),
            TWS_OK);
    }
    CHECK(tws_client_queued(fixture.held) > MANY);
    reset_fd(fd);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(send_text(fixture.held, "hello?"), TWS_EOF);
    CHECK_INT(tws_client_close(fixture.held, 1000, TWS_SPAN(""), &err),
              TWS_EOF);
    tws_client_break_off(fixture.held);
    EVENTUALLY(tws_client_queued(fixture.held) == 0);
    fixture_end(&fixture);
}

/* Over, but lingering: what is queued goes when the descriptor does. */
BOTH_KINDS(a_held_client_keeps_no_buffers)
{
    struct fixture fixture;
    struct tws_error err;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture.send_room = 16 * 1024;
    fixture.options.close_timeout = 100 * MILLISECOND;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, 16 * 1024);
    EVENTUALLY(fixture.opened == 1);
    for (int i = 0; i < 10; i++) {
        struct tws_span payload = {.data = pattern, .length = MANY};
        CHECK_INT(
            tws_client_send(fixture.held, TWS_OPCODE_TEXT, payload, 0, &err),
            TWS_OK);
    }
    put_close(fd, 1000);
    EVENTUALLY(fixture.closed == 1);
    EVENTUALLY(tws_client_queued(fixture.held) == 0);
    tws_server_stop(fixture.server, 1001, TWS_SPAN(""), 0);
    fixture_join(&fixture);
    CHECK(fixture.held->queue.memory == NULL);
    CHECK(fixture.held->unread.memory == NULL);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

/* ---- writing fails ----------------------------------------------------- */

static void
fail_to_write(struct fixture *fixture, struct tws_client *client,
              const struct tws_event *event)
{
    (void)fixture;
    write_errno = is_text(event, "fail") ? EIO : 0;
    CHECK_INT(send_text(client, "reply"), TWS_OK);
}

BOTH_KINDS(a_failed_write_ends_the_connection)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = count_calls;
    fixture.on_message = fail_to_write;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "fine");
    expect_text(fd, "reply");
    put_text(fd, "fail");
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1006);
    (void)read_to_end(fd);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

/* ---- memory runs out --------------------------------------------------- */

static void
send_without_memory(struct fixture *fixture, struct tws_client *client,
                    const struct tws_event *event)
{
    struct tws_error err;
    (void)fixture;
    (void)event;
    struct tws_span payload = {.data = pattern, .length = 10000};
    tws_buffer_release(&client->cork->out); /* it may have room from before */
    allocations_left = 0;
    CHECK_INT(tws_client_send(client, TWS_OPCODE_TEXT, payload, 0, &err),
              TWS_NOMEM);
    allocations_left = -1;
    CHECK_INT(send_text(client, "small"), TWS_OK);
}

BOTH_KINDS(a_message_that_finds_no_memory_harms_no_other)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = send_without_memory;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "go");
    expect_text(fd, "small");
    close_politely(fd);
    fixture_end(&fixture);
}

/* The first fragments went, the others can't: no message may follow. */
static void
break_in_fragments(struct fixture *fixture, struct tws_client *client,
                   const struct tws_event *event)
{
    struct tws_error err;
    (void)fixture;
    (void)event;
    struct tws_span payload = {.data = pattern, .length = 50000};
    tws_buffer_release(&client->cork->out);
    allocations_left = 2;
    CHECK_INT(tws_client_send(client, TWS_OPCODE_TEXT, payload, 1000, &err),
              TWS_NOMEM);
    allocations_left = -1;
    (void)send_text(client, "what follows");
}

BOTH_KINDS(half_a_message_is_not_followed_by_another)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = break_in_fragments;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "go");
    struct wire_frame frame;
    bool first = true;
    while (take_frame(fd, &frame)) {
        CHECK_INT(frame.first,
                  first ? TWS_OPCODE_TEXT : TWS_OPCODE_CONTINUATION);
        first = false;
        free(frame.data);
    }
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1006);
    fixture_end(&fixture);
}

/* ---- a handler that reads on ------------------------------------------- */

/* Waits for the next message inside a handler. */
static enum tws_status
next_inside(struct fixture *fixture, struct tws_client *client,
            struct tws_event *event)
{
    struct tws_driver *driver = tws_server_driver(fixture->server);
    CHECK(driver->client == client);
    for (;;) {
        enum tws_status status = tws_client_next(driver, client, event);
        if (status != TWS_AGAIN) {
            return status;
        }
        struct pollfd entry = {.fd = client->transport.fd, .events = POLLIN};
        tws_client_flush(client);
        CHECK_INT(poll(&entry, 1, PATIENCE_SECONDS * 1000), 1);
        driver->drained = false;
        driver->reads = 0;
    }
}

static void
converse(struct fixture *fixture, struct tws_client *client,
         const struct tws_event *event)
{
    struct tws_event next;
    CHECK(is_text(event, "hello"));
    CHECK_INT(send_text(client, "name?"), TWS_OK);
    enum tws_status status = next_inside(fixture, client, &next);
    if (status == TWS_OK) {
        CHECK(is_text(&next, "me"));
        CHECK_INT(send_text(client, "welcome"), TWS_OK);
    }
    else {
        CHECK_INT(status, TWS_EOF);
        CHECK(tws_server_driver(fixture->server)->ending.over);
        CHECK_INT(
            tws_client_next(tws_server_driver(fixture->server), client, &next),
            TWS_EOF);
        CHECK_INT(send_text(client, "anyone?"), TWS_EOF);
    }
}

BOTH_KINDS(a_handler_reads_on_by_itself)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
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

/* The end is found inside the handler while the queue is above its mark:
 * there is nothing to pause any more. */
static void
converse_congested(struct fixture *fixture, struct tws_client *client,
                   const struct tws_event *event)
{
    struct tws_event next;
    struct tws_error err;
    (void)event;
    for (int i = 0; i < 20; i++) {
        struct tws_span payload = {.data = pattern, .length = MANY};
        CHECK_INT(tws_client_send(client, TWS_OPCODE_TEXT, payload, 0, &err),
                  TWS_OK);
    }
    CHECK(client->congested);
    CHECK_INT(next_inside(fixture, client, &next), TWS_EOF);
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

/* ---- many threads ------------------------------------------------------ */

enum { SENDERS = 8, SENT = 1600 };

struct sender {
    pthread_t thread;
    struct tws_client *client;
    unsigned number;
};

/* "thread sequence " and then letters, of a length that both ends know. */
static size_t
stress_length(unsigned number, unsigned sequence)
{
    static const size_t lengths[] = {16,   40,   125,  126,   127,  200,
                                     1000, 3000, 5000, 17000, 40000};
    size_t length =
        lengths[(number * 7 + sequence * 3) % TWS_ARRAY_SIZE(lengths)];
    /* Large ones are rare, to keep the whole small. */
    return length > 1000 && sequence % 8 != 0 ? length % 1000 + 16 : length;
}

static void *
sender_main(void *argument)
{
    struct sender *sender = argument;
    char *payload = malloc(40000 + 1);
    must(payload != NULL, "malloc");
    for (unsigned i = 0; i < SENT; i++) {
        struct tws_error err;
        size_t length = stress_length(sender->number, i);
        memcpy(payload, pattern, length);
        int at = snprintf(payload, 17, "%07u %07u", sender->number, i);
        payload[at] = ' ';
        size_t fragment = i % 5 == 0 ? length / 3 + 1 : 0;
        struct tws_span span = {.data = payload, .length = length};
        enum tws_status status = tws_client_send(
            sender->client, TWS_OPCODE_TEXT, span, fragment, &err);
        if (status != TWS_OK) {
            CHECK_INT(status, TWS_OK);
            break;
        }
    }
    free(payload);
    return NULL;
}

/* Joins fragments: a message of the server, whole. */
static bool
take_message(int fd, char *out, size_t *length)
{
    struct wire_frame frame;
    bool first = true;
    *length = 0;
    do {
        if (!take_frame(fd, &frame)) {
            return false;
        }
        CHECK_INT(frame.first & 0x0f,
                  first ? TWS_OPCODE_TEXT : TWS_OPCODE_CONTINUATION);
        must(*length + frame.length <= 40000, "length of a message");
        memcpy(out + *length, frame.data, frame.length);
        *length += frame.length;
        free(frame.data);
        first = false;
    } while ((frame.first & TWS_FIN) == 0);
    return true;
}

static void
check_stress_message(const char *message, size_t length, unsigned *sequence)
{
    char head[17] = "";
    unsigned number = 0;
    unsigned got = 0;
    memcpy(head, message, length < 16 ? length : 16);
    if (sscanf(head, "%u %u", &number, &got) != 2 || number > SENDERS) {
        CHECK_INT(number, SENDERS + 1); /* not one of ours */
        return;
    }
    CHECK_INT(got, sequence[number]);
    sequence[number] = got + 1;
    CHECK_INT(length, stress_length(number, got));
    CHECK(memcmp(message + 16, pattern + 16, length - 16) == 0);
}

/* The peer's own messages (number SENDERS) are echoed between them. */
static void *
peer_sender_main(void *argument)
{
    int *fd = argument;
    char payload[40000 + 1];
    for (unsigned i = 0; i < SENT; i++) {
        size_t length = stress_length(SENDERS, i);
        memcpy(payload, pattern, length);
        int at = snprintf(payload, 17, "%07u %07u", (unsigned)SENDERS, i);
        payload[at] = ' ';
        put_frame(*fd, TEXT, payload, length);
    }
    return NULL;
}

static void
stress(enum tws_poller_kind kind,
       void (*on_open)(struct fixture *, struct tws_client *))
{
    struct fixture fixture;
    struct sender senders[SENDERS];
    unsigned sequence[SENDERS + 1] = {0};
    pthread_t peer;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture.on_open = on_open;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.client = fixture.held, .number = i};
        must(pthread_create(&senders[i].thread, NULL, sender_main, &senders[i])
                 == 0,
             "pthread_create");
    }
    must(pthread_create(&peer, NULL, peer_sender_main, &fd) == 0,
         "pthread_create");
    char *message = malloc(40000);
    must(message != NULL, "malloc");
    for (int i = 0; i < (SENDERS + 1) * SENT; i++) {
        size_t length;
        if (!take_message(fd, message, &length)) {
            CHECK_INT(i, (SENDERS + 1) * SENT); /* all should come */
            break;
        }
        check_stress_message(message, length, sequence);
        not_too_many();
    }
    free(message);
    for (unsigned i = 0; i < SENDERS; i++) {
        CHECK_INT(pthread_join(senders[i].thread, NULL), 0);
    }
    CHECK_INT(pthread_join(peer, NULL), 0);
    CHECK_INT(tws_client_queued(fixture.held), 0);
    close_politely(fd);
    fixture_end(&fixture);
}

BOTH_KINDS(messages_of_many_threads_stay_whole)
{
    stress(kind, NULL);
}

BOTH_KINDS(they_do_where_the_transport_stutters)
{
    stress(kind, stutter_writes);
}

RUN(T(messages_of_all_sizes_come_back),
    T(messages_survive_a_transport_that_stutters),
    T(a_message_arrives_in_fragments_with_pings_between),
    T(frames_may_come_byte_by_byte), T(a_message_leaves_in_fragments),
    T(an_empty_message_needs_no_memory_of_its_own),
    T(replies_to_what_came_together_leave_together),
    T(small_and_large_messages_keep_their_order),
    T(what_is_gathered_is_bounded),
    T(a_broken_rule_is_answered_with_a_close_frame),
    T(a_message_of_too_many_fragments_is_refused), T(the_peer_closes),
    T(a_handler_closes), T(another_thread_closes),
    T(both_close_at_the_same_time), T(a_handler_breaks_off),
    T(another_thread_breaks_off), T(a_client_may_be_held_beyond_its_end),
    T(a_held_client_keeps_no_buffers), T(a_failed_write_ends_the_connection),
    T(a_message_that_finds_no_memory_harms_no_other),
    T(half_a_message_is_not_followed_by_another),
    T(a_handler_reads_on_by_itself),
    T(a_handler_finds_the_end_while_the_queue_is_long),
    T(messages_of_many_threads_stay_whole),
    T(they_do_where_the_transport_stutters))
