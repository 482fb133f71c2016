/* What a server does with its open clients: it pauses those that do not read,
 * ends those that are over in good order, and survives those that vanish. */
#include "engine_fixture.h"

enum {
    BIG = 512 * 1024,
    SMALL_ROOM = 64 * 1024, /* smaller buffers would make loopback slow */
};

static char big[BIG]; /* never written after the start */

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
                              (struct tws_span){reply, BIG}, 0, &err),
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
    CHECK(queued_most <= fixture.options.high_water + BIG + 64 * 1024);
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
        length += write_frame(bytes + length, PING, big, 125);
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

RUN(T(after_a_pause_with_nothing_kept_back_it_reads_on),
    T(a_client_that_does_not_read_is_paused_and_gets_everything_later),
    T(pauses_and_a_fast_reader), T(the_queue_runs_empty_as_the_pause_begins),
    T(pings_of_a_client_that_does_not_read_are_paused_too),
    T(a_paused_client_resets_the_connection),
    T(a_paused_client_ends_its_side_and_reads_on),
    T(a_paused_client_is_cut_by_a_stop_without_patience))
