/* The life of a client: who may close it, break it off, hold it beyond its
 * end, and wait for it. */
#include "odd_transport.h"

#include "engine/client_parts.h"

enum { MANY = 200 * 1024 };

/* ---- closing ----------------------------------------------------------- */

static void
close_in_handler(struct fixture *fixture, struct tws_client *client,
                 const struct tws_event *event)
{
    struct tws_error err;
    (void)fixture;
    (void)event;
    CHECK_INT(send_text(client, "last words"), TWS_OK);
    CHECK_INT(begin_close(client, 3001, "bye"), TWS_OK);
    CHECK_INT(begin_close(client, 3002, "bye"), TWS_EOF);
    CHECK_INT(send_text(client, "too late"), TWS_EOF);
    CHECK_INT(tws_client_send_packed(client, TWS_SPAN("\x81\0"),
                                     TWS_STANDS_ALONE, 1, 0, NULL, &err),
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
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    CHECK_INT(send_text(fixture.held, "from outside"), TWS_OK);
    CHECK_INT(begin_close(fixture.held, 1001, ""), TWS_OK);
    CHECK_INT(begin_close(fixture.held, 1001, ""), TWS_EOF);
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
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    pthread_mutex_lock(&fixture.exclusion); /* the driver sees nothing yet */
    put_close(fd, 3000);
    CHECK_INT(begin_close(fixture.held, 3001, ""), TWS_OK);
    pthread_mutex_unlock(&fixture.exclusion);
    expect_close(fd, 3001);
    CHECK(read_to_end(fd)); /* one Close is enough */
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 3000);
    fixture_end(&fixture);
}

static void
break_off_in_handler(struct fixture *fixture, struct tws_client *client,
                     const struct tws_event *event)
{
    (void)fixture;
    CHECK(is_text(event, "one"));
    tws_client_break_off(client, TWS_ENDED_BY_LIMIT, "the first cause");
    CHECK_INT(send_text(client, "into the void"), TWS_EOF);
    CHECK_INT(begin_close(client, 1000, ""), TWS_EOF);
    CHECK_INT(tws_client_queued(client), 0);
    tws_client_break_off(client, TWS_ENDED_BY_US, "another cause");
}

/* What was received before is void, though it is there to be parsed. */
BOTH_KINDS(a_handler_breaks_off)
{
    uint8_t bytes[4 * (WIRE_HEADER_MAX + 5)];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = break_off_in_handler;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    size_t length = write_frame(bytes, TEXT, "one", 3);
    length += write_frame(bytes + length, TEXT, "two", 3);
    length += write_frame(bytes + length, TEXT, "three", 5);
    give(fd, bytes, length);
    (void)read_to_end(fd);
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.messages, 1);
    CHECK_INT(fixture.last_code, 1006);
    CHECK_INT(fixture.last_by, TWS_ENDED_BY_LIMIT);
    CHECK(strcmp(fixture.last_ending.reason, "the first cause") == 0);
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
    break_off(fixture.held);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1006);
    fixture_end(&fixture);
}

BOTH_KINDS(a_client_may_be_held_beyond_its_end)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture.send_room = 16 * 1024;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, 16 * 1024);
    EVENTUALLY(fixture.opened == 1);
    for (int i = 0; i < 10; i++) {
        CHECK_INT(send_pattern(fixture.held, MANY), TWS_OK);
    }
    CHECK(tws_client_queued(fixture.held) > MANY);
    reset_fd(fd);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(send_text(fixture.held, "hello?"), TWS_EOF);
    CHECK_INT(begin_close(fixture.held, 1000, ""), TWS_EOF);
    break_off(fixture.held);
    EVENTUALLY(tws_client_queued(fixture.held) == 0);
    fixture_end(&fixture);
}

/* Over, but lingering: what is queued goes when the descriptor does. */
BOTH_KINDS(a_held_client_keeps_no_buffers)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture.send_room = 16 * 1024;
    fixture.options.close_timeout = 100 * MILLISECOND;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, 16 * 1024);
    EVENTUALLY(fixture.opened == 1);
    for (int i = 0; i < 10; i++) {
        CHECK_INT(send_pattern(fixture.held, MANY), TWS_OK);
    }
    put_close(fd, 1000);
    EVENTUALLY(fixture.closed == 1);
    EVENTUALLY(tws_client_queued(fixture.held) == 0);
    tws_server_stop(fixture.server, 1001, TWS_SPAN(""), 0);
    fixture_join(&fixture);
    CHECK(fixture.held->queue.memory == NULL);
    CHECK(fixture.held->receiving == NULL);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

/* ---- memory of those that are idle ------------------------------------- */

/* While the test has the exclusion the driver waits, or stands in front of
 * it, and nothing changes. */
static bool
holds_memory(struct fixture *fixture)
{
    const struct tws_client *client = fixture->held;
    pthread_mutex_lock(&fixture->exclusion);
    bool holds = client->paused || client->worker != NULL
                 || client->receiving != NULL || client->queue.memory != NULL
                 || client->receipts != NULL || client->waiters != NULL;
    pthread_mutex_unlock(&fixture->exclusion);
    return holds;
}

/* Soon: the driver may not have looked at it since what was sent was taken. */
static void
expect_no_memory(struct fixture *fixture)
{
    EVENTUALLY(!holds_memory(fixture));
}

BOTH_KINDS(an_idle_client_holds_no_memory)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture.options.high_water = 1024;
    fixture.send_room = 64 * 1024;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, 64 * 1024);
    EVENTUALLY(fixture.opened == 1);
    expect_no_memory(&fixture);
    for (size_t length = 0; length <= MANY; length += MANY / 4) {
        put_frame(fd, BINARY, pattern, length);
        expect_frame(fd, BINARY, pattern, length);
        expect_no_memory(&fixture);
    }
    put_frame(fd, TWS_OPCODE_TEXT, "in ", 3);
    put_frame(fd, PING, "?", 1);
    expect_frame(fd, PONG, "?", 1);
    put_frame(fd, TWS_FIN | TWS_OPCODE_CONTINUATION, "parts", 5);
    expect_text(fd, "in parts");
    expect_no_memory(&fixture);
    /* Paused for a while, with something kept back. */
    for (int i = 0; i < 10; i++) {
        put_frame(fd, TEXT, pattern, MANY);
    }
    for (int i = 0; i < 10; i++) {
        expect_frame(fd, TEXT, pattern, MANY);
    }
    expect_no_memory(&fixture);
    close_politely(fd);
    fixture_end(&fixture);
}

/* ---- waiting ----------------------------------------------------------- */

struct counted_waiter {
    struct tws_waiter waiter; /* first */
    atomic_int woken;
};

static void
count_wake(struct tws_waiter *waiter)
{
    ((struct counted_waiter *)waiter)->woken++;
}

#define COUNTED_WAITER                                                        \
    ((struct counted_waiter){.waiter = {.wake = count_wake}})

BOTH_KINDS(nobody_waits_where_there_is_room)
{
    struct counted_waiter waiter = COUNTED_WAITER;
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    CHECK(!tws_client_await(fixture.held, TWS_AWAIT_ROOM, &waiter.waiter));
    tws_client_forget(fixture.held, &waiter.waiter); /* harmless */
    close_politely(fd);
    EVENTUALLY(fixture.closed == 1);
    CHECK(!tws_client_await(fixture.held, TWS_AWAIT_ROOM, &waiter.waiter));
    CHECK(!tws_client_await(fixture.held, TWS_AWAIT_OVER, &waiter.waiter));
    CHECK_INT(waiter.woken, 0);
    fixture_end(&fixture);
}

enum { QUEUED = 10 + MANY }; /* a message and its frame's header */

/* The queue of the one client is above its mark, and stays as it is. */
static int
start_congested(struct fixture *fixture, enum tws_poller_kind kind)
{
    fixture_init(fixture, kind);
    fixture->options.high_water = QUEUED - 1;
    int fd = start_held_back(fixture);
    CHECK_INT(send_pattern(fixture->held, MANY), TWS_OK);
    CHECK(fixture->held->congested);
    return fd;
}

BOTH_KINDS(those_who_wait_for_room_are_woken_once)
{
    struct counted_waiter waiters[3] = {COUNTED_WAITER, COUNTED_WAITER,
                                        COUNTED_WAITER};
    struct fixture fixture;
    int fd = start_congested(&fixture, kind);
    for (int i = 0; i < 3; i++) {
        CHECK(tws_client_await(fixture.held, TWS_AWAIT_ROOM,
                               &waiters[i].waiter));
    }
    tws_client_forget(fixture.held, &waiters[1].waiter);
    allowance = QUEUED - 1; /* the low mark is 0 */
    tws_client_flush(fixture.held);
    CHECK_INT(waiters[0].woken + waiters[2].woken, 0);
    allowance = SIZE_MAX;
    EVENTUALLY(waiters[0].woken == 1 && waiters[2].woken == 1);
    CHECK(!tws_client_await(fixture.held, TWS_AWAIT_ROOM, &waiters[0].waiter));
    for (int i = 0; i < 3; i++) {
        tws_client_forget(fixture.held, &waiters[i].waiter);
        CHECK_INT(waiters[i].woken, i == 1 ? 0 : 1);
    }
    expect_frame(fd, TEXT, pattern, MANY);
    close_politely(fd);
    fixture_end(&fixture);
}

/* There will be no room any more. */
static void
end_wait_for_room(enum tws_poller_kind kind, void (*end)(struct tws_client *))
{
    struct counted_waiter waiter = COUNTED_WAITER;
    struct fixture fixture;
    int fd = start_congested(&fixture, kind);
    CHECK(tws_client_await(fixture.held, TWS_AWAIT_ROOM, &waiter.waiter));
    if (end != NULL) {
        end(fixture.held);
        CHECK_INT(waiter.woken, 1);
        reset_fd(fd);
    }
    else {
        reset_fd(fd);
        EVENTUALLY(waiter.woken == 1);
    }
    CHECK(!tws_client_await(fixture.held, TWS_AWAIT_ROOM, &waiter.waiter));
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(waiter.woken, 1);
    fixture_end(&fixture);
}

static void
close_it(struct tws_client *client)
{
    CHECK_INT(begin_close(client, 1000, ""), TWS_OK);
}

BOTH_KINDS(an_end_wakes_those_who_wait_for_room)
{
    end_wait_for_room(kind, break_off);
    end_wait_for_room(kind, close_it);
    end_wait_for_room(kind, NULL); /* the peer's reset */
}

/* A wake is only worth another look: our Close, too, brings one. */
static bool
is_over(struct tws_client *client, struct counted_waiter *waiter)
{
    if (waiter->woken == 0) {
        return false;
    }
    tws_client_forget(client, &waiter->waiter);
    return !tws_client_await(client, TWS_AWAIT_OVER, &waiter->waiter);
}

BOTH_KINDS(the_end_of_the_closing_handshake_wakes)
{
    for (int way = 0; way < 4; way++) {
        struct counted_waiter waiter = COUNTED_WAITER;
        struct fixture fixture;
        fixture_init(&fixture, kind);
        fixture.hold = true;
        fixture_start(&fixture);
        int fd = connect_client(&fixture);
        EVENTUALLY(fixture.opened == 1);
        if (way == 0) {
            CHECK_INT(begin_close(fixture.held, 1000, ""), TWS_OK);
        }
        CHECK(tws_client_await(fixture.held, TWS_AWAIT_OVER, &waiter.waiter));
        pause_for(10 * MILLISECOND);
        CHECK_INT(waiter.woken, 0);
        switch (way) {
        case 0:
        case 1:
            put_close(fd, 1000); /* the answer, or the beginning */
            break;
        case 2:
            CHECK_INT(shutdown(fd, SHUT_WR), 0);
            break;
        default:
            break_off(fixture.held);
            break;
        }
        EVENTUALLY(is_over(fixture.held, &waiter));
        CHECK(way == 3 ? waiter.woken >= 1 : waiter.woken == 1);
        EVENTUALLY(fixture.closed == 1);
        CHECK_INT(close(fd), 0);
        fixture_end(&fixture);
    }
}

/* ---- what is known of the end ------------------------------------------ */

BOTH_KINDS(a_closing_client_tells_what_is_known)
{
    struct tws_ending ending;
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    CHECK_INT(begin_close(fixture.held, 3007, "enough"), TWS_OK);
    tws_client_describe_closing(fixture.held, &ending);
    CHECK_INT(ending.by, TWS_ENDED_BY_US);
    CHECK_INT(ending.code, 3007);
    CHECK(strcmp(ending.reason, "the closing handshake has begun") == 0);
    CHECK_INT(ending.sent_code, 3007);
    CHECK(strcmp(ending.sent_reason, "enough") == 0);
    CHECK_INT(ending.received_code, 0);
    CHECK_INT(ending.unsent, 0);
    CHECK(ending.ping_age == UINT64_MAX);
    tws_client_break_off(fixture.held, TWS_ENDED_BY_LIMIT, "too slow");
    tws_client_break_off(fixture.held, TWS_ENDED_BY_US, "too late");
    tws_client_describe_closing(fixture.held, &ending);
    CHECK_INT(ending.by, TWS_ENDED_BY_LIMIT);
    CHECK_INT(ending.code, 1006);
    CHECK(strcmp(ending.reason, "too slow") == 0);
    CHECK_INT(ending.sent_code, 3007);
    CHECK_INT(ending.sys_errno, 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_by, TWS_ENDED_BY_LIMIT);
    CHECK(strcmp(fixture.last_ending.reason, "too slow") == 0);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

BOTH_KINDS(what_was_not_sent_is_counted)
{
    struct tws_ending ending;
    struct fixture fixture;
    int fd = start_congested(&fixture, kind);
    allowance = 1000;
    tws_client_flush(fixture.held);
    CHECK_INT(tws_client_queued(fixture.held), QUEUED - 1000);
    tws_client_break_off(fixture.held, TWS_ENDED_BY_LIMIT, "does not read");
    CHECK_INT(tws_client_queued(fixture.held), 0);
    tws_client_describe_closing(fixture.held, &ending);
    CHECK_INT(ending.unsent, QUEUED - 1000);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_ending.unsent, QUEUED - 1000);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

/* ---- detached from the driver ------------------------------------------ */

struct look {
    atomic_bool go;
    atomic_int looked;
};

/* As it is before, while and after a handler has the client for itself. */
static void
look_and_detach(struct fixture *fixture, struct tws_client *client,
                const struct tws_event *event)
{
    struct look *look = fixture->context;
    if (!is_text(event, "detach")) {
        CHECK(!client->detached);
        CHECK(client->cork == client->worker);
        (void)echo(client, event);
        return;
    }
    CHECK(tws_client_is_served_here(client));
    CHECK(client->worker->driving);
    CHECK_INT(send_text(client, "before"), TWS_OK);
    CHECK(tws_buffer_length(&client->worker->out) > 0);
    CHECK(tws_server_before_wait(fixture->server)); /* another drives */
    CHECK(tws_server_before_wait(fixture->server)); /* it does still */
    CHECK(!client->worker->driving);
    CHECK(tws_client_is_served_here(client));
    pthread_mutex_lock(&client->lock);
    CHECK(client->detached && !client->returned);
    CHECK(client->cork == NULL);
    CHECK_INT(client->interest, 0); /* nothing to write, and not read */
    pthread_mutex_unlock(&client->lock);
    CHECK_INT(tws_buffer_length(&client->worker->out), 0);
    look->looked++;
    fixture_block(fixture, &look->go);
    CHECK_INT(send_text(client, "after"), TWS_OK);
    CHECK_INT(tws_client_queued(client), 0); /* gone at once */
}

EACH_WAY(a_handler_that_waits_has_its_client_for_itself)
{
    struct fixture fixture;
    struct look look = {.looked = 0};
    fixture_init_pool(&fixture, way);
    fixture.context = &look;
    fixture.on_message = look_and_detach;
    fixture.hold = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    for (int i = 0; i < 3; i++) {
        fixture_await_spare(&fixture);
        look.go = false;
        put_text(fd, "detach");
        expect_text(fd, "before");
        EVENTUALLY(look.looked == i + 1);
        put_text(fd, "meanwhile"); /* waits for its turn */
        expect_alive(&fixture);
        EVENTUALLY(fixture.closed == 1 + i);
        look.go = true;
        expect_text(fd, "after");
        expect_text(fd, "meanwhile");
    }
    close_politely(fd);
    fixture_end(&fixture);
}

/* Writing fails before the handler loses the role, and after it has. */
static void
send_in_vain(struct fixture *fixture, struct tws_client *client,
             const struct tws_event *event)
{
    (void)event;
    pthread_mutex_lock(&client->lock);
    tws_client_break_off_lock_held(client, TWS_ENDED_BY_NETWORK, EPIPE,
                                   "writing to it failed");
    pthread_mutex_unlock(&client->lock);
    /* Messages that have come are not void; whoever answers need not fail. */
    CHECK_INT(send_text(client, "driven"), TWS_OK);
    CHECK(tws_server_before_wait(fixture->server)); /* another drives */
    CHECK_INT(send_text(client, "detached"), TWS_EOF);
    CHECK_INT(tws_client_queued(client), 0);
}

EACH_WAY(a_handler_of_its_own_hears_that_writing_failed)
{
    struct fixture fixture;
    fixture_init_pool(&fixture, way);
    fixture.on_message = send_in_vain;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    fixture_await_spare(&fixture);
    put_text(fd, "go");
    EVENTUALLY(fixture.closed == 1);
    reset_fd(fd);
    fixture_end(&fixture);
}

RUN(T(a_handler_closes), T(another_thread_closes),
    T(both_close_at_the_same_time), T(a_handler_breaks_off),
    T(another_thread_breaks_off), T(a_client_may_be_held_beyond_its_end),
    T(a_held_client_keeps_no_buffers), T(an_idle_client_holds_no_memory),
    T(nobody_waits_where_there_is_room),
    T(those_who_wait_for_room_are_woken_once),
    T(an_end_wakes_those_who_wait_for_room),
    T(the_end_of_the_closing_handshake_wakes),
    T(a_closing_client_tells_what_is_known), T(what_was_not_sent_is_counted),
    T(a_handler_that_waits_has_its_client_for_itself),
    T(a_handler_of_its_own_hears_that_writing_failed))
