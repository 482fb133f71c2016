/* What a server does with its open clients: it pauses those that do not read,
 * ends those that are over in good order, and survives those that vanish. */
#include <stdatomic.h>

/* Timers that can't be set, on demand. */
#define tws_timers_set real_timers_set
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#include "../../csrc/loop/timers.c"
#pragma GCC diagnostic pop
#undef tws_timers_set

static atomic_bool timers_fail;

enum tws_status tws_timers_set(struct tws_timers *timers,
                               struct tws_timer *timer, uint64_t deadline);

enum tws_status
tws_timers_set(struct tws_timers *timers, struct tws_timer *timer,
               uint64_t deadline)
{
    return timers_fail ? TWS_NOMEM : real_timers_set(timers, timer, deadline);
}

#include "engine_fixture.h"

enum {
    BIG = 512 * 1024,
    SMALL_ROOM = 64 * 1024, /* smaller buffers would make loopback slow */
};

/* ---- pausing ----------------------------------------------------------- */

/* Answers each message with a big one that begins with the message. */
static void
answer_big(struct fixture *fixture, struct tws_client *client,
           const struct tws_event *event)
{
    struct tws_error err;
    char *reply = malloc(BIG);
    (void)fixture;
    must(reply != NULL, "malloc");
    memset(reply, 'x', BIG);
    memcpy(reply, event->data, event->length);
    CHECK_INT(tws_client_send(client, TWS_OPCODE_BINARY,
                              (struct tws_span){reply, BIG}, 0, NULL, &err),
              TWS_OK);
    free(reply);
}

static void
expect_big(int fd, const char *text)
{
    struct wire_frame frame;
    bool got = take_frame(fd, &frame);
    CHECK(got);
    if (got) {
        CHECK_INT(frame.first, BINARY);
        CHECK_INT(frame.length, BIG);
        CHECK(frame.length == BIG
              && memcmp(frame.data, text, strlen(text)) == 0);
    }
    free(frame.data);
}

/* The one message that made the queue long may be the last that came: the
 * client must be read from again once it has taken the answer. */
BOTH_KINDS(after_a_pause_with_nothing_kept_back_it_reads_on)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.high_water = 1024;
    fixture.on_message = answer_big;
    fixture.send_room = SMALL_ROOM;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, SMALL_ROOM);
    for (int i = 0; i < 5; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        put_text(fd, text);
        EVENTUALLY(fixture.messages == i + 1);
        expect_big(fd, text);
    }
    close_politely(fd);
    fixture_end(&fixture);
}

enum { ASKED = 60 };

static void *
ask(void *argument)
{
    int *fd = argument;
    for (int i = 0; i < ASKED; i++) {
        char text[16];
        snprintf(text, sizeof(text), "<%d>", i);
        put_text(*fd, text);
    }
    return NULL;
}

static atomic_size_t queued_most;

static void
note_queued(struct fixture *fixture, struct tws_client *client,
            const struct tws_event *event)
{
    answer_big(fixture, client, event);
    size_t queued = tws_client_queued(client);
    if (queued > queued_most) {
        queued_most = queued;
    }
}

BOTH_KINDS(a_client_that_does_not_read_is_paused_and_gets_everything_later)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.high_water = 100 * 1024;
    fixture.on_message = note_queued;
    fixture.send_room = SMALL_ROOM;
    queued_most = 0;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, SMALL_ROOM);
    ask(&fd);
    /* It stops at some point, far from the last message. */
    int before;
    do {
        before = fixture.messages;
        pause_for(50 * MILLISECOND);
    } while (before != fixture.messages);
    CHECK(before > 0);
    CHECK(before < ASKED / 2);
    int other = connect_client(&fixture); /* has not to wait */
    put_text(other, "?");
    expect_big(other, "?");
    close_politely(other);
    CHECK_INT(fixture.messages, before + 1);
    for (int i = 0; i < ASKED; i++) {
        char text[16];
        snprintf(text, sizeof(text), "<%d>", i);
        expect_big(fd, text);
    }
    /* High water, one answer above it, and what stands in front of it. */
    CHECK(queued_most <= fixture.options.high_water + BIG + 128 * 1024);
    EVENTUALLY(fixture.messages == ASKED + 1);
    put_text(fd, "one more");
    expect_big(fd, "one more");
    close_politely(fd);
    fixture_end(&fixture);
}

/* A reader that is as fast as the server makes the queue run empty at every
 * moment, also between the decision to pause and the pause. */
BOTH_KINDS(pauses_and_a_fast_reader)
{
    struct fixture fixture;
    pthread_t asker;
    fixture_init(&fixture, kind);
    fixture.options.high_water = 0;
    fixture.on_message = answer_big;
    fixture.send_room = SMALL_ROOM;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    for (int round = 0; round < 5; round++) {
        must(pthread_create(&asker, NULL, ask, &fd) == 0, "pthread_create");
        for (int i = 0; i < ASKED; i++) {
            char text[16];
            snprintf(text, sizeof(text), "<%d>", i);
            expect_big(fd, text);
        }
        CHECK_INT(pthread_join(asker, NULL), 0);
    }
    close_politely(fd);
    fixture_end(&fixture);
}

/* The peer reads everything between the decision to pause and the pause. */
static enum tws_status slow_to_fill(struct tws_transport *transport,
                                    const struct iovec *parts, int count,
                                    size_t *written, struct tws_error *err);

static struct tws_transport_ops slow_ops;
static const struct tws_transport_ops *plain_ops;
static atomic_int writes_refused;

static enum tws_status
slow_to_fill(struct tws_transport *transport, const struct iovec *parts,
             int count, size_t *written, struct tws_error *err)
{
    if (writes_refused > 0) {
        writes_refused--;
        return TWS_AGAIN;
    }
    return plain_ops->writev(transport, parts, count, written, err);
}

static void
make_slow(struct fixture *fixture, struct tws_client *client)
{
    (void)fixture;
    plain_ops = client->transport.ops;
    slow_ops = *plain_ops;
    slow_ops.writev = slow_to_fill;
    client->transport.ops = &slow_ops;
}

static void
answer_when_full(struct fixture *fixture, struct tws_client *client,
                 const struct tws_event *event)
{
    writes_refused = 1;
    answer_big(fixture, client, event);
    CHECK(client->congested);
}

BOTH_KINDS(the_queue_runs_empty_as_the_pause_begins)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.high_water = 0;
    fixture.on_open = make_slow;
    fixture.on_message = answer_when_full;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, 8 * BIG);
    for (int i = 0; i < 3; i++) {
        put_text(fd, "in one");
        put_text(fd, "packet");
        expect_big(fd, "in one");
        expect_big(fd, "packet");
    }
    close_politely(fd);
    fixture_end(&fixture);
}

BOTH_KINDS(pings_of_a_client_that_does_not_read_are_paused_too)
{
    enum { PINGS = 20000 };
    static uint8_t bytes[PINGS * (WIRE_HEADER_MAX + 125)];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.high_water = 1024;
    fixture.send_room = SMALL_ROOM;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, SMALL_ROOM);
    size_t length = 0;
    for (int i = 0; i < PINGS; i++) {
        length += write_frame(bytes + length, PING, pattern, 125);
    }
    ssize_t given = 0;
    ssize_t n = 0;
    for (int silent = 0; silent < 200; silent++) {
        while ((size_t)given < length
               && (n = send(fd, bytes + given, length - (size_t)given,
                            MSG_DONTWAIT | MSG_NOSIGNAL))
                      > 0) {
            given += n;
            silent = 0;
        }
        pause_for(MILLISECOND);
    }
    /* Kernel buffers hold some; the server does not take them all. */
    CHECK(fixture.pings < PINGS);
    int pongs = 0;
    struct pollfd entry = {.fd = fd};
    while (pongs < PINGS) {
        entry.events = POLLIN;
        if ((size_t)given < length) {
            entry.events |= POLLOUT;
        }
        CHECK(poll(&entry, 1, PATIENCE_SECONDS * 1000) == 1);
        if ((entry.revents & POLLOUT) != 0) {
            n = send(fd, bytes + given, length - (size_t)given,
                     MSG_DONTWAIT | MSG_NOSIGNAL);
            given += n > 0 ? n : 0;
        }
        if ((entry.revents & (POLLIN | POLLERR | POLLHUP)) != 0) {
            struct wire_frame frame;
            bool got = take_frame(fd, &frame);
            CHECK(got && frame.first == PONG && frame.length == 125);
            free(frame.data);
            if (!got) {
                break;
            }
            pongs++;
        }
    }
    CHECK_INT(fixture.pings, PINGS);
    close_politely(fd);
    fixture_end(&fixture);
}

/* Fills a client until it is paused. */
static int
connect_paused(struct fixture *fixture)
{
    int before = fixture->messages;
    int fd = connect_small(fixture, SMALL_ROOM);
    ask(&fd);
    int seen;
    do {
        seen = fixture->messages;
        pause_for(30 * MILLISECOND);
    } while (seen != fixture->messages || seen == before);
    CHECK(seen - before < ASKED);
    return fd;
}

BOTH_KINDS(a_paused_client_resets_the_connection)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.high_water = 1024;
    fixture.on_message = answer_big;
    fixture.send_room = SMALL_ROOM;
    fixture_start(&fixture);
    int fd = connect_paused(&fixture);
    reset_fd(fd);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1006);
    fixture_end(&fixture);
}

BOTH_KINDS(a_paused_client_ends_its_side_and_reads_on)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.high_water = 1024;
    fixture.on_message = answer_big;
    fixture.send_room = SMALL_ROOM;
    fixture_start(&fixture);
    int fd = connect_paused(&fixture);
    CHECK_INT(shutdown(fd, SHUT_WR), 0);
    for (int i = 0; i < ASKED - 1; i++) {
        char text[16];
        snprintf(text, sizeof(text), "<%d>", i);
        expect_big(fd, text);
    }
    (void)read_to_end(fd); /* the last answer may be cut by the end */
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.messages, ASKED);
    CHECK_INT(fixture.last_code, 1006);
    fixture_end(&fixture);
}

BOTH_KINDS(a_paused_client_is_cut_by_a_stop_without_patience)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.high_water = 1024;
    fixture.on_message = answer_big;
    fixture.send_room = SMALL_ROOM;
    fixture_start(&fixture);
    int fd = connect_paused(&fixture);
    tws_server_stop(fixture.server, 1001, TWS_SPAN(""), 0);
    fixture_join(&fixture);
    CHECK_INT(fixture.closed, 1);
    CHECK_INT(fixture.last_code, 1006);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

/* What it sent stays unanswered, but its Close counts at once. */
BOTH_KINDS(a_stop_finds_the_close_of_a_paused_client)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.high_water = 1024;
    fixture.on_message = answer_big;
    fixture.send_room = SMALL_ROOM;
    fixture_start(&fixture);
    int fd = connect_paused(&fixture);
    put_close(fd, 1000);
    pause_for(20 * MILLISECOND);
    CHECK_INT(fixture.closed, 0);
    int messages = fixture.messages;
    tws_server_stop(fixture.server, 1001, TWS_SPAN(""), UINT64_MAX);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1000);
    CHECK_INT(fixture.messages, messages);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    fixture_join(&fixture);
    fixture_end(&fixture);
}

/* ---- taking turns ------------------------------------------------------ */

/* A peer that always has more to say: whole frames of 8 bytes. */
static atomic_bool talking;

static enum tws_status
endless_read(struct tws_transport *transport, uint8_t *data, size_t size,
             size_t *got, struct tws_error *err)
{
    static const uint8_t frame[8] = {0x82, 0x82};
    if (!talking) {
        return plain_ops->read(transport, data, size, got, err);
    }
    for (size_t i = 0; i < size; i++) {
        data[i] = frame[i % sizeof(frame)];
    }
    *got = size - size % sizeof(frame);
    return TWS_OK;
}

static void
make_endless(struct fixture *fixture, struct tws_client *client)
{
    if (fixture->opened == 0) {
        plain_ops = client->transport.ops;
        slow_ops = *plain_ops;
        slow_ops.read = endless_read;
        client->transport.ops = &slow_ops;
    }
}

static void
echo_text(struct fixture *fixture, struct tws_client *client,
          const struct tws_event *event)
{
    (void)fixture;
    if (event->type == TWS_EVENT_TEXT) {
        CHECK_INT(echo(client, event), TWS_OK);
    }
}

BOTH_KINDS(one_that_never_stops_talking_does_not_starve_the_others)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = make_endless;
    fixture.on_message = echo_text;
    talking = false;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    talking = true;
    put_text(fd, "this makes it readable");
    EVENTUALLY(fixture.messages > 0);
    expect_alive(&fixture);
    talking = false;
    expect_text(fd, "this makes it readable");
    close_politely(fd);
    fixture_end(&fixture);
}

/* ---- the end of a client ----------------------------------------------- */

/* Frames at every byte of which the peer vanishes. */
static size_t
write_frames(uint8_t *bytes)
{
    size_t length = write_frame(bytes, TEXT, "hello", 5);
    length += write_frame(bytes + length, TWS_OPCODE_BINARY, pattern, 130);
    length += write_frame(bytes + length, PING, "?", 1);
    length +=
        write_frame(bytes + length, TWS_FIN | TWS_OPCODE_CONTINUATION, "", 0);
    length += write_frame(bytes + length, CLOSE, "\x03\xe8", 2);
    return length;
}

static void
vanish_at_each_byte(struct fixture *fixture, bool reset)
{
    uint8_t bytes[256];
    size_t length = write_frames(bytes);
    for (size_t given = 0; given <= length; given++) {
        int closed = fixture->closed;
        int fd = connect_client(fixture);
        give(fd, bytes, given);
        if (given == length) {
            EVENTUALLY(fixture->closed == closed + 1); /* lingers now */
        }
        else if (given % 8 == 0) {
            pause_for(MILLISECOND / 2); /* let some be read before the end */
        }
        if (reset) {
            reset_fd(fd);
        }
        else {
            CHECK_INT(close(fd), 0);
        }
        EVENTUALLY(fixture->closed == closed + 1);
        CHECK_INT(fixture->last_code, given == length ? 1000 : 1006);
        not_too_many();
    }
}

BOTH_KINDS(a_peer_vanishes_at_each_byte_of_its_frames)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    vanish_at_each_byte(&fixture, false);
    vanish_at_each_byte(&fixture, true);
    expect_alive(&fixture);
    fixture_end(&fixture);
}

static void
close_it(struct fixture *fixture, struct tws_client *client,
         const struct tws_event *event)
{
    (void)fixture;
    CHECK_INT(begin_close(client, 1000, ""), TWS_OK);
    if (event->data[0] == 's') {
        pause_for(600 * MILLISECOND);
    }
}

BOTH_KINDS(a_peer_that_does_not_answer_a_close_is_given_up)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = close_it;
    fixture.options.close_timeout = 150 * MILLISECOND;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    uint64_t began = tws_clock_now();
    put_text(fd, "close");
    expect_close(fd, 1000);
    while (fixture.closed == 0 && offer(fd, "\x81\x80\0\0\0\0", 6)) {
        pause_for(5 * MILLISECOND); /* chatter is not an answer */
    }
    EVENTUALLY(fixture.closed == 1);
    CHECK(milliseconds_since(began) >= 149);
    CHECK_INT(fixture.last_code, 1006);
    CHECK_INT(fixture.messages, 1);
    (void)read_to_end(fd);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

/* The Close leaves when the handler returns: only then the peer has a chance
 * to answer. */
BOTH_KINDS(the_time_to_answer_begins_when_the_handler_is_done)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = close_it;
    fixture.options.close_timeout = 500 * MILLISECOND;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "slowly");
    expect_close(fd, 1000);
    pause_for(30 * MILLISECOND);
    put_close(fd, 1000);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1000);
    fixture_end(&fixture);
}

BOTH_KINDS(without_a_close_timeout_the_peer_has_all_the_time)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = close_it;
    fixture.options.close_timeout = UINT64_MAX;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "close");
    expect_close(fd, 1000);
    pause_for(100 * MILLISECOND);
    put_close(fd, 1000);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1000);
    fixture_end(&fixture);
}

BOTH_KINDS(a_peer_that_stays_after_the_close_is_dropped)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.close_timeout = 150 * MILLISECOND;
    fixture_start(&fixture);
    size_t before = count_fds();
    int fd = connect_client(&fixture);
    uint64_t began = tws_clock_now();
    put_close(fd, 1000);
    expect_close(fd, 1000);
    CHECK(read_to_end(fd));
    while (count_fds() > before + 1 && offer(fd, pattern, 1000)) {
        pause_for(5 * MILLISECOND);
    }
    EVENTUALLY(count_fds() == before + 1);
    CHECK(milliseconds_since(began) >= 149);
    CHECK_INT(fixture.closed, 1);
    CHECK_INT(fixture.last_code, 1000);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

BOTH_KINDS(a_peer_vanishes_while_the_server_lingers)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    size_t before = count_fds();
    for (int i = 0; i < 20; i++) {
        int fd = connect_client(&fixture);
        put_close(fd, 1000);
        if (i % 4 < 2) {
            EVENTUALLY(fixture.closed == i + 1);
        }
        give(fd, pattern, (size_t)(i * 1000));
        if (i % 2 == 0) {
            reset_fd(fd);
        }
        else {
            CHECK_INT(close(fd), 0);
        }
        EVENTUALLY(fixture.closed == i + 1);
    }
    EVENTUALLY(count_fds() == before);
    fixture_end(&fixture);
}

/* Closing does not cut off what was sent before. */
static void
answer_and_close(struct fixture *fixture, struct tws_client *client,
                 const struct tws_event *event)
{
    for (int i = 0; i < 10; i++) {
        answer_big(fixture, client, event);
    }
    CHECK_INT(begin_close(client, 1000, ""), TWS_OK);
}

BOTH_KINDS(what_is_queued_arrives_before_the_close)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = answer_and_close;
    fixture.options.high_water = 1024;
    fixture.send_room = SMALL_ROOM;
    fixture_start(&fixture);
    for (int late = 0; late < 2; late++) {
        int fd = connect_small(&fixture, SMALL_ROOM);
        put_text(fd, "all");
        if (late == 0) {
            put_close(fd, 1000); /* before it has read anything */
        }
        for (int i = 0; i < 10; i++) {
            expect_big(fd, "all");
        }
        expect_close(fd, 1000);
        if (late == 1) {
            put_close(fd, 1000);
        }
        CHECK(read_to_end(fd));
        CHECK_INT(close(fd), 0);
        EVENTUALLY(fixture.closed == late + 1);
        CHECK_INT(fixture.last_code, 1000);
    }
    fixture_end(&fixture);
}

BOTH_KINDS(a_closing_client_that_does_not_read_is_given_up)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = answer_and_close;
    fixture.options.high_water = 1024;
    fixture.options.close_timeout = 150 * MILLISECOND;
    fixture.send_room = SMALL_ROOM;
    fixture.hold = true;
    fixture_start(&fixture);
    size_t before = count_fds();
    int fd = connect_small(&fixture, SMALL_ROOM);
    uint8_t bytes[2 * (WIRE_HEADER_MAX + 16)];
    size_t length = write_frame(bytes, TEXT, "all", 3);
    length += write_frame(bytes + length, TEXT, "kept back", 9);
    give(fd, bytes, length);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1006);
    EVENTUALLY(count_fds() == before + 1);
    CHECK_INT(close(fd), 0);
    tws_server_stop(fixture.server, 1001, TWS_SPAN(""), 0);
    fixture_join(&fixture);
    CHECK(fixture.held->queue.memory == NULL); /* though it is held */
    CHECK(fixture.held->receiving == NULL);
    fixture_end(&fixture);
}

BOTH_KINDS(without_a_timer_a_closing_client_is_cut_off)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = close_it;
    fixture_start(&fixture);
    size_t before = count_fds();
    int closing = connect_client(&fixture);
    int lingering = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 2);
    timers_fail = true;
    put_text(closing, "close");
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1006);
    put_close(lingering, 1000);
    EVENTUALLY(fixture.closed == 2);
    CHECK_INT(fixture.last_code, 1000);
    EVENTUALLY(count_fds() == before + 2);
    timers_fail = false;
    CHECK_INT(close(closing), 0);
    CHECK_INT(close(lingering), 0);
    fixture_end(&fixture);
}

RUN(T(after_a_pause_with_nothing_kept_back_it_reads_on),
    T(a_client_that_does_not_read_is_paused_and_gets_everything_later),
    T(pauses_and_a_fast_reader), T(the_queue_runs_empty_as_the_pause_begins),
    T(pings_of_a_client_that_does_not_read_are_paused_too),
    T(a_paused_client_resets_the_connection),
    T(a_paused_client_ends_its_side_and_reads_on),
    T(a_paused_client_is_cut_by_a_stop_without_patience),
    T(a_stop_finds_the_close_of_a_paused_client),
    T(one_that_never_stops_talking_does_not_starve_the_others),
    T(a_peer_vanishes_at_each_byte_of_its_frames),
    T(a_peer_that_does_not_answer_a_close_is_given_up),
    T(the_time_to_answer_begins_when_the_handler_is_done),
    T(without_a_close_timeout_the_peer_has_all_the_time),
    T(a_peer_that_stays_after_the_close_is_dropped),
    T(a_peer_vanishes_while_the_server_lingers),
    T(what_is_queued_arrives_before_the_close),
    T(a_closing_client_that_does_not_read_is_given_up),
    T(without_a_timer_a_closing_client_is_cut_off))
