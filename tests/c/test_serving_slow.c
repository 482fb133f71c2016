/* Handlers that take long: their own client waits, the others do not. */
#include "engine_fixture.h"

enum { MANY = 200 * 1024, MARKS = 64 };

/* What a test's slow handler waits for, and what came in which order. */
struct slow {
    atomic_bool go;
    atomic_int begun;
    atomic_int order_count;
    int order[MARKS];
};

/* Sleeps until the test lets it go on. Nobody tells the engine: the watchdog
 * has to find it. */
static void
sleep_in_handler(struct fixture *fixture)
{
    struct slow *slow = fixture->context;
    slow->begun++;
    fixture_block(fixture, &slow->go);
}

static void
start_slow(struct fixture *fixture, struct way way, struct slow *slow)
{
    *slow = (struct slow){.begun = 0};
    fixture_init_pool(fixture, way);
    fixture->context = slow;
    fixture->hold = true;
}

/* ---- the others go on -------------------------------------------------- */

/* "sleep" sleeps, numbers are noted, all is echoed. */
static void
sleep_or_note(struct fixture *fixture, struct tws_client *client,
              const struct tws_event *event)
{
    struct slow *slow = fixture->context;
    if (is_text(event, "sleep")) {
        sleep_in_handler(fixture);
    }
    else if (event->length == 1) {
        int at = slow->order_count++;
        slow->order[at % MARKS] = event->data[0] - 'a';
    }
    (void)echo(client, event);
}

EACH_WAY(a_slow_handler_holds_up_its_own_client_only)
{
    struct slow slow;
    struct fixture fixture;
    start_slow(&fixture, way, &slow);
    fixture.on_message = sleep_or_note;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    int other = connect_client(&fixture);
    put_text(fd, "sleep");
    EVENTUALLY(slow.begun == 1);
    for (int i = 0; i < 10; i++) {
        put_text(other, "quick");
        expect_text(other, "quick");
    }
    expect_alive(&fixture); /* connections come and go, too */
    EVENTUALLY(fixture.closed == 1);
    CHECK(is_detached(fixture.held));
    slow.go = true;
    expect_text(fd, "sleep");
    EVENTUALLY(!is_detached(fixture.held));
    put_text(fd, "awake");
    expect_text(fd, "awake");
    close_politely(fd);
    close_politely(other);
    fixture_end(&fixture);
}

/* Some that came with the first, some later, some in parts. */
EACH_WAY(messages_of_a_slow_client_keep_their_order)
{
    uint8_t bytes[16 * (WIRE_HEADER_MAX + 8)];
    struct slow slow;
    struct fixture fixture;
    start_slow(&fixture, way, &slow);
    fixture.on_message = sleep_or_note;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    for (int round = 0; round < 3; round++) {
        slow.go = false;
        slow.begun = slow.order_count = 0;
        size_t length = write_frame(bytes, TEXT, "sleep", 5);
        for (int i = 0; i < 5; i++) {
            char letter = (char)('a' + i);
            length += write_frame(bytes + length, TEXT, &letter, 1);
        }
        give(fd, bytes, length);
        EVENTUALLY(slow.begun == 1);
        length = 0;
        for (int i = 5; i < 10; i++) {
            char letter = (char)('a' + i);
            length += write_frame(bytes + length, TEXT, &letter, 1);
        }
        give(fd, bytes, length - 3);
        EVENTUALLY(is_detached(fixture.held));
        expect_alive(&fixture);
        CHECK_INT(slow.order_count, 0);
        slow.go = true;
        expect_text(fd, "sleep");
        give(fd, bytes + length - 3, 3);
        for (int i = 0; i < 10; i++) {
            char text[2] = {(char)('a' + i), '\0'};
            expect_text(fd, text);
        }
        CHECK_INT(slow.order_count, 10);
        for (int i = 0; i < 10; i++) {
            CHECK_INT(slow.order[i], i);
        }
    }
    close_politely(fd);
    fixture_end(&fixture);
}

/* All threads but one sleep; who comes then waits for one of them. */
EACH_WAY(where_all_threads_sleep_the_others_wait)
{
    enum { THREADS = 4 };
    int fds[THREADS];
    struct slow slow;
    struct fixture fixture;
    start_slow(&fixture, way, &slow);
    fixture.threads = THREADS;
    fixture.on_message = sleep_or_note;
    fixture_start(&fixture);
    for (int i = 0; i < THREADS; i++) {
        fds[i] = connect_client(&fixture);
        put_text(fds[i], "sleep");
        EVENTUALLY(slow.begun == i + 1);
    }
    EVENTUALLY(fixture.exhausted == 1); /* told once */
    int late = dial(&fixture);
    give(late, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    put_text(late, "late");
    pause_for(30 * MILLISECOND);
    CHECK_INT(fixture.opened, THREADS);
    slow.go = true;
    expect_101(late);
    expect_text(late, "late");
    for (int i = 0; i < THREADS; i++) {
        expect_text(fds[i], "sleep");
        close_politely(fds[i]);
    }
    close_politely(late);
    CHECK_INT(fixture.exhausted, 1);
    fixture_end(&fixture);
}

EACH_WAY(where_no_thread_can_be_had_one_does_it_all)
{
    struct slow slow;
    struct fixture fixture;
    start_slow(&fixture, way, &slow);
    fixture.on_message = sleep_or_note;
    fixture.spawn_fails = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    int other = connect_client(&fixture);
    put_text(fd, "sleep");
    EVENTUALLY(slow.begun == 1);
    put_text(other, "waits");
    pause_for(30 * MILLISECOND);
    CHECK_INT(fixture.messages, 0);
    slow.go = true;
    expect_text(fd, "sleep");
    expect_text(other, "waits");
    CHECK_INT(fixture.spawned_count, 0);
    close_politely(fd);
    close_politely(other);
    fixture_end(&fixture);
}

/* ---- every handler may be slow ----------------------------------------- */

enum place { OPEN, MESSAGE, PINGED, PONGED, SENT, CLOSED };

struct slow_place {
    struct slow slow; /* first: what `context` points to */
    enum place place;
};

/* Of the first client only. */
static void
sleep_at(struct fixture *fixture, struct tws_client *client, enum place place)
{
    const struct slow_place *at = fixture->context;
    if (fixture->held == client && at->place == place) {
        sleep_in_handler(fixture);
    }
}

static void
open_slowly(struct fixture *fixture, struct tws_client *client)
{
    sleep_at(fixture, client, OPEN);
}

static void
message_slowly(struct fixture *fixture, struct tws_client *client,
               const struct tws_event *event)
{
    static char receipt;
    sleep_at(fixture, client, MESSAGE);
    if (is_text(event, "hello")) {
        CHECK_INT(fixture_send(fixture, client, "hello", &receipt), TWS_OK);
    }
    else {
        CHECK_INT(echo(client, event), TWS_OK);
    }
}

static void
ping_slowly(struct fixture *fixture, struct tws_client *client,
            const struct tws_event *event)
{
    (void)event;
    sleep_at(fixture, client, PINGED);
}

static void
pong_slowly(struct fixture *fixture, struct tws_client *client,
            const struct tws_event *event)
{
    (void)event;
    sleep_at(fixture, client, PONGED);
}

static void
sent_slowly(struct fixture *fixture, struct tws_client *client, void *receipt)
{
    (void)receipt;
    sleep_at(fixture, client, SENT);
}

static void
close_slowly(struct fixture *fixture, struct tws_client *client,
             const struct tws_ending *ending)
{
    (void)ending;
    sleep_at(fixture, client, CLOSED);
}

static void
be_slow_at(struct way way, enum place place)
{
    uint8_t bytes[4 * (WIRE_HEADER_MAX + 8)];
    struct slow_place at;
    struct fixture fixture;
    start_slow(&fixture, way, &at.slow);
    at.place = place;
    fixture.on_open = open_slowly;
    fixture.on_message = message_slowly;
    fixture.on_ping = ping_slowly;
    fixture.on_pong = pong_slowly;
    fixture.on_sent = sent_slowly;
    fixture.on_close = close_slowly;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    size_t length = write_frame(bytes, TEXT, "hello", 5);
    length += write_frame(bytes + length, PING, "?", 1);
    length += write_frame(bytes + length, PONG, "!", 1);
    length += write_frame(bytes + length, CLOSE, "\x03\xe8", 2);
    give(fd, bytes, length);
    EVENTUALLY(at.slow.begun == 1);
    EVENTUALLY(is_detached(fixture.held));
    expect_alive(&fixture);
    EVENTUALLY(fixture.closed == 1);
    at.slow.go = true;
    expect_text(fd, "hello");
    expect_frame(fd, PONG, "?", 1);
    expect_close(fd, 1000);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 2);
    CHECK_INT(at.slow.begun, 1);
    CHECK_INT(fixture.last_code, 1000);
    CHECK_INT(fixture.messages, 2);
    CHECK_INT(fixture.pings, 1);
    CHECK_INT(fixture.pongs, 1);
    CHECK_INT(fixture.sent, 1);
    fixture_end(&fixture);
}

EACH_WAY(every_handler_may_be_slow)
{
    for (int place = OPEN; place <= CLOSED && harness_failures == 0; place++) {
        be_slow_at(way, (enum place)place);
        if (harness_failures > 0) {
            fprintf(stderr, "place %d\n", place);
        }
    }
}

/* The peer has its Close and the end of the stream before the handler that
 * hears of it is done. */
EACH_WAY(the_peer_does_not_wait_for_the_last_handler)
{
    struct slow_place at;
    struct fixture fixture;
    start_slow(&fixture, way, &at.slow);
    at.place = CLOSED;
    fixture.on_close = close_slowly;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_close(fd, 1000);
    expect_close(fd, 1000);
    CHECK(read_to_end(fd));
    EVENTUALLY(at.slow.begun == 1);
    CHECK_INT(tws_server_count(fixture.server), 0);
    CHECK_INT(close(fd), 0);
    expect_alive(&fixture);
    EVENTUALLY(fixture.closed == 1);
    at.slow.go = true;
    EVENTUALLY(fixture.closed == 2);
    fixture_end(&fixture);
}

/* ---- the end of a slow client ------------------------------------------ */

static void
vanish_while_slow(struct way way, void (*vanish)(int fd), int code)
{
    struct slow slow;
    struct fixture fixture;
    start_slow(&fixture, way, &slow);
    fixture.on_message = sleep_or_note;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "sleep");
    EVENTUALLY(slow.begun == 1);
    EVENTUALLY(is_detached(fixture.held));
    vanish(fd);
    expect_alive(&fixture);
    EVENTUALLY(fixture.closed == 1); /* the other */
    pause_for(10 * MILLISECOND);
    CHECK_INT(fixture.closed, 1);
    slow.go = true;
    EVENTUALLY(fixture.closed == 2);
    CHECK_INT(fixture.last_code, code);
    fixture_end(&fixture);
}

static void
vanish_with_an_end(int fd)
{
    CHECK_INT(close(fd), 0);
}

static void
vanish_with_a_close(int fd)
{
    put_close(fd, 3003);
    CHECK_INT(close(fd), 0);
}

EACH_WAY(a_peer_vanishes_while_its_handler_is_slow)
{
    vanish_while_slow(way, vanish_with_an_end, 1006);
    vanish_while_slow(way, reset_fd, 1006);
    vanish_while_slow(way, vanish_with_a_close, 3003);
}

/* A client broken off is void from then on: also what lies in the buffer of
 * the thread that sleeps. */
EACH_WAY(a_slow_client_is_broken_off_by_another_thread)
{
    uint8_t bytes[3 * (WIRE_HEADER_MAX + 8)];
    struct slow slow;
    struct fixture fixture;
    start_slow(&fixture, way, &slow);
    fixture.on_message = sleep_or_note;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    size_t length = write_frame(bytes, TEXT, "sleep", 5);
    length += write_frame(bytes + length, TEXT, "a", 1);
    length += write_frame(bytes + length, TEXT, "b", 1);
    give(fd, bytes, length);
    EVENTUALLY(slow.begun == 1);
    EVENTUALLY(is_detached(fixture.held));
    tws_client_break_off(fixture.held, TWS_ENDED_BY_US, "no use");
    (void)read_to_end(fd); /* the peer knows at once */
    CHECK_INT(close(fd), 0);
    pause_for(10 * MILLISECOND);
    CHECK_INT(fixture.closed, 0);
    slow.go = true;
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.messages, 1);
    CHECK_INT(slow.order_count, 0);
    CHECK(strcmp(fixture.last_ending.reason, "no use") == 0);
    fixture_end(&fixture);
}

static void
break_off_and_sleep(struct fixture *fixture, struct tws_client *client,
                    const struct tws_event *event)
{
    CHECK(is_text(event, "sleep"));
    break_off(client);
    sleep_in_handler(fixture);
    CHECK_INT(send_text(client, "to nobody"), TWS_EOF);
}

EACH_WAY(a_slow_handler_breaks_off)
{
    uint8_t bytes[3 * (WIRE_HEADER_MAX + 8)];
    struct slow slow;
    struct fixture fixture;
    start_slow(&fixture, way, &slow);
    fixture.on_message = break_off_and_sleep;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    size_t length = write_frame(bytes, TEXT, "sleep", 5);
    length += write_frame(bytes + length, TEXT, "a", 1);
    give(fd, bytes, length);
    EVENTUALLY(slow.begun == 1);
    EVENTUALLY(is_detached(fixture.held));
    (void)read_to_end(fd);
    CHECK_INT(close(fd), 0);
    slow.go = true;
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.messages, 1);
    CHECK_INT(fixture.last_by, TWS_ENDED_BY_US);
    fixture_end(&fixture);
}

static void
close_and_wait(struct fixture *fixture, struct tws_client *client,
               const struct tws_event *event)
{
    struct slow *slow = fixture->context;
    struct tws_event next;
    CHECK(is_text(event, "close"));
    CHECK_INT(begin_close(client, 1000, ""), TWS_OK);
    slow->begun++;
    CHECK_INT(fixture_next(fixture, client, &next), TWS_EOF);
    CHECK(client->worker->over);
    CHECK_INT(client->worker->ending.code, 1006);
    slow->order_count++;
}

/* The handler waits for the peer's answer, which does not come. */
EACH_WAY(the_close_timeout_ends_the_wait_of_a_handler)
{
    struct slow slow;
    struct fixture fixture;
    start_slow(&fixture, way, &slow);
    fixture.on_message = close_and_wait;
    fixture.options.close_timeout = 60 * MILLISECOND;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    fixture_await_spare(&fixture);
    uint64_t began = tws_clock_now();
    put_text(fd, "close");
    expect_close(fd, 1000);
    EVENTUALLY(slow.order_count == 1);
    CHECK(milliseconds_since(began) >= 59);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_by, TWS_ENDED_BY_US);
    CHECK(strcmp(fixture.last_ending.reason,
                 "peer did not answer our Close frame in time")
          == 0);
    CHECK_INT(fixture.last_ending.sent_code, 1000);
    (void)read_to_end(fd);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

static void
close_and_sleep(struct fixture *fixture, struct tws_client *client,
                const struct tws_event *event)
{
    (void)event;
    CHECK_INT(begin_close(client, 1000, ""), TWS_OK);
    sleep_in_handler(fixture);
}

/* One that does not look is cut off all the same; it finds the end later. */
EACH_WAY(the_close_timeout_cuts_off_a_client_whose_handler_sleeps)
{
    struct slow slow;
    struct fixture fixture;
    start_slow(&fixture, way, &slow);
    fixture.on_message = close_and_sleep;
    fixture.options.close_timeout = 60 * MILLISECOND;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "close");
    expect_close(fd, 1000); /* though the handler sleeps */
    EVENTUALLY(slow.begun == 1);
    (void)read_to_end(fd); /* the deadline */
    CHECK_INT(close(fd), 0);
    CHECK_INT(fixture.closed, 0);
    slow.go = true;
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1006);
    fixture_end(&fixture);
}

/* ---- slow, and a long queue -------------------------------------------- */

static void
sleep_and_send_much(struct fixture *fixture, struct tws_client *client,
                    const struct tws_event *event)
{
    if (is_text(event, "sleep")) {
        sleep_in_handler(fixture);
        for (int i = 0; i < 10; i++) {
            CHECK_INT(send_pattern(client, MANY), TWS_OK);
        }
        CHECK(client->congested);
    }
    else {
        sleep_or_note(fixture, client, event);
    }
}

/* It is paused when its handler is done, and goes on when it has read. */
EACH_WAY(a_slow_client_is_paused)
{
    uint8_t bytes[3 * (WIRE_HEADER_MAX + 8)];
    struct slow slow;
    struct fixture fixture;
    start_slow(&fixture, way, &slow);
    fixture.on_message = sleep_and_send_much;
    fixture.options.high_water = 1024;
    fixture.send_room = 64 * 1024;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, 64 * 1024);
    size_t length = write_frame(bytes, TEXT, "sleep", 5);
    length += write_frame(bytes + length, TEXT, "a", 1);
    length += write_frame(bytes + length, TEXT, "b", 1);
    give(fd, bytes, length);
    EVENTUALLY(slow.begun == 1);
    EVENTUALLY(is_detached(fixture.held));
    put_text(fd, "c");
    slow.go = true;
    EVENTUALLY(fixture.messages == 1 && !is_detached(fixture.held));
    pause_for(20 * MILLISECOND);
    CHECK(fixture.held->paused);
    CHECK_INT(fixture.messages, 1);
    for (int i = 0; i < 10; i++) {
        expect_frame(fd, TEXT, pattern, MANY);
    }
    expect_text(fd, "a");
    expect_text(fd, "b");
    expect_text(fd, "c");
    close_politely(fd);
    fixture_end(&fixture);
}

/* ---- all at once ------------------------------------------------------- */

enum { PEERS = 6, ROUNDS = 30 };

struct random_peer {
    pthread_t thread;
    struct fixture *fixture;
    unsigned seed;
};

static unsigned
next_random(unsigned *state)
{
    *state = *state * 1103515245 + 12345;
    return *state >> 16;
}

/* What to do is in the message: "sleep for so many milliseconds, in so many
 * ways". */
static void
act_as_told(struct fixture *fixture, struct tws_client *client,
            const struct tws_event *event)
{
    unsigned what = event->length > 0 ? event->data[0] : 0;
    uint64_t length = (what >> 4) * MILLISECOND;
    switch (what % 8) {
    case 0:
        fixture_pause(fixture, length);
        break;
    case 1:
        (void)tws_server_before_wait(fixture->server);
        fixture_pause(fixture, length);
        break;
    case 2:
        (void)send_pattern(client, length / 10);
        fixture_pause(fixture, length);
        break;
    default:
        break;
    }
    (void)echo(client, event);
}

static void *
peer_main(void *argument)
{
    struct random_peer *peer = argument;
    unsigned state = peer->seed;
    for (int round = 0; round < ROUNDS; round++) {
        int fd = connect_client(peer->fixture);
        unsigned count = next_random(&state) % 6;
        for (unsigned i = 0; i < count; i++) {
            uint8_t text[8] = {(uint8_t)(next_random(&state) & 0x7f)};
            put_frame(fd, BINARY, text, sizeof(text));
            struct wire_frame frame = {.data = NULL};
            do { /* whatever else comes before the echo */
                free(frame.data);
                if (!take_frame(fd, &frame)) {
                    CHECK_INT(frame.length, sizeof(text));
                    break;
                }
            } while (frame.first != BINARY);
            CHECK(frame.length == sizeof(text) && frame.data[0] == text[0]);
            free(frame.data);
        }
        if (next_random(&state) % 4 == 0) {
            uint8_t text[1] = {0x70}; /* sleeps while the peer vanishes */
            put_frame(fd, BINARY, text, 1);
            reset_fd(fd);
        }
        else {
            close_politely(fd);
        }
        not_too_many();
    }
    return NULL;
}

EACH_WAY(slow_and_quick_ones_come_and_go)
{
    struct fixture fixture;
    struct random_peer peers[PEERS];
    fixture_init_pool(&fixture, way);
    fixture.on_message = act_as_told;
    fixture_start(&fixture);
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = (struct random_peer){.fixture = &fixture, .seed = i + 1};
        must(pthread_create(&peers[i].thread, NULL, peer_main, &peers[i]) == 0,
             "pthread_create");
    }
    for (unsigned i = 0; i < PEERS; i++) {
        CHECK_INT(pthread_join(peers[i].thread, NULL), 0);
    }
    EVENTUALLY(fixture.closed == PEERS * ROUNDS);
    fixture_end(&fixture);
}

RUN(T(a_slow_handler_holds_up_its_own_client_only),
    T(messages_of_a_slow_client_keep_their_order),
    T(where_all_threads_sleep_the_others_wait),
    T(where_no_thread_can_be_had_one_does_it_all),
    T(every_handler_may_be_slow),
    T(the_peer_does_not_wait_for_the_last_handler),
    T(a_peer_vanishes_while_its_handler_is_slow),
    T(a_slow_client_is_broken_off_by_another_thread),
    T(a_slow_handler_breaks_off),
    T(the_close_timeout_ends_the_wait_of_a_handler),
    T(the_close_timeout_cuts_off_a_client_whose_handler_sleeps),
    T(a_slow_client_is_paused), T(slow_and_quick_ones_come_and_go))
