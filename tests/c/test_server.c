/* The server as a whole: it stops in good order, whatever is under way, and
 * other threads may look and act while it serves. */
#include "engine_fixture.h"

static void
stop(struct fixture *fixture, uint64_t patience)
{
    tws_server_stop(fixture->server, 1001, TWS_SPAN("going"), patience);
}

/* ---- beginning --------------------------------------------------------- */

BOTH_KINDS(a_server_that_never_ran_is_freed)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_make(&fixture);
    CHECK_INT(tws_server_count(fixture.server), 0);
    CHECK(!tws_server_stopping(fixture.server));
    CHECK(tws_server_options(fixture.server)->high_water
          == fixture.options.high_water);
    CHECK_INT(fixture.ended, 0);
    fixture_end(&fixture);
    tws_server_free(NULL);
}

BOTH_KINDS(a_listener_that_is_none_is_an_error)
{
    struct fixture fixture;
    struct tws_error err;
    fixture_init(&fixture, kind);
    fixture_make(&fixture);
    CHECK_INT(close(fixture.listener), 0);
    fixture_enter(&fixture, &inside_of);
    CHECK_INT(tws_server_work(fixture.server, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EBADF);
    (void)fixture_leave(&fixture);
    CHECK_INT(fixture.ended, 1);
    fixture.listener = dup(0);
    fixture_end(&fixture);
}

/* ---- who is there ------------------------------------------------------ */

enum { MOST = 64 };

struct found {
    struct tws_client *clients[MOST];
    size_t count;
};

static void
visit(void *context, struct tws_client *client)
{
    struct found *found = context;
    CHECK(client->user != NULL);
    if (found->count < MOST) {
        tws_client_retain(client);
        found->clients[found->count++] = client;
    }
}

BOTH_KINDS(each_open_client_is_visited_once)
{
    enum { OPEN = 20 };
    int fds[OPEN];
    struct fixture fixture;
    struct found found = {.count = 0};
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    for (int i = 0; i < OPEN; i++) {
        fds[i] = connect_client(&fixture);
    }
    EVENTUALLY(fixture.opened == OPEN);
    for (int i = OPEN - 1; i >= 0; i--) {
        found.count = 0;
        tws_server_each(fixture.server, visit, &found);
        CHECK_INT(found.count, i + 1);
        CHECK_INT(tws_server_count(fixture.server), i + 1);
        for (size_t j = 0; j < found.count; j++) {
            CHECK(found.clients[j] != found.clients[(j + 1) % found.count]
                  || found.count == 1);
            tws_client_release(found.clients[j]);
        }
        /* The first, the last, and those between. */
        int which = i % 3 == 0 ? 0 : i / (i % 3);
        close_politely(fds[which]);
        fds[which] = fds[i];
        EVENTUALLY(fixture.closed == OPEN - i);
    }
    fixture_end(&fixture);
}

/* ---- stopping ---------------------------------------------------------- */

BOTH_KINDS(a_stop_may_come_before_the_run)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_make(&fixture);
    int fd = dial(&fixture);
    give(fd, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    stop(&fixture, UINT64_MAX);
    CHECK(tws_server_stopping(fixture.server));
    fixture_run(&fixture);
    fixture_join(&fixture);
    CHECK_INT(fixture.requests, 0);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

BOTH_KINDS(a_stop_closes_every_client)
{
    enum { OPEN = 20 };
    int fds[OPEN];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    CHECK(!tws_server_stopping(fixture.server));
    for (int i = 0; i < OPEN; i++) {
        fds[i] = connect_client(&fixture);
    }
    EVENTUALLY(fixture.opened == OPEN);
    CHECK_INT(tws_server_count(fixture.server), OPEN);
    stop(&fixture, UINT64_MAX); /* as long as it takes */
    CHECK(tws_server_stopping(fixture.server));
    for (int i = 0; i < OPEN; i++) {
        expect_frame(fds[i], CLOSE, "\x03\xe9going", 7);
    }
    pause_for(20 * MILLISECOND);
    CHECK_INT(fixture.closed, 0); /* it waits for the answers */
    for (int i = 0; i < OPEN; i++) {
        put_close(fds[i], 1001);
        CHECK(read_to_end(fds[i]));
        CHECK_INT(close(fds[i]), 0);
    }
    fixture_join(&fixture);
    CHECK_INT(fixture.closed, OPEN);
    CHECK_INT(fixture.last_code, 1001);
    fixture_end(&fixture);
}

BOTH_KINDS(a_stop_accepts_nobody)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.open_timeout = UINT64_MAX;
    fixture.options.close_timeout = UINT64_MAX;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    int half_open = dial(&fixture);
    give(half_open, UPGRADE_REQUEST, 50);
    put_text(fd, "behind it"); /* so it was accepted */
    expect_text(fd, "behind it");
    stop(&fixture, UINT64_MAX);
    expect_close(fd, 1001);
    CHECK(read_to_end(half_open) || errno == ECONNRESET); /* at once */
    CHECK_INT(close(half_open), 0);
    int late = dial(&fixture); /* by the kernel only */
    give(late, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    pause_for(30 * MILLISECOND);
    CHECK_INT(fixture.requests, 1);
    put_close(fd, 1001);
    CHECK_INT(close(fd), 0);
    fixture_join(&fixture);
    CHECK_INT(fixture.requests, 1);
    CHECK_INT(close(late), 0);
    fixture_end(&fixture);
}

BOTH_KINDS(patience_ends)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    uint64_t began = tws_clock_now();
    stop(&fixture, 150 * MILLISECOND);
    expect_close(fd, 1001); /* and no answer */
    fixture_join(&fixture);
    CHECK(milliseconds_since(began) >= 149);
    CHECK(milliseconds_since(began) < PATIENCE_SECONDS * 1000);
    CHECK_INT(fixture.closed, 1);
    CHECK_INT(fixture.last_code, 1006);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

BOTH_KINDS(a_second_stop_shortens_the_wait)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    stop(&fixture, UINT64_MAX);
    expect_close(fd, 1001);
    stop(&fixture, PATIENCE_SECONDS * SECOND);
    pause_for(30 * MILLISECOND);
    CHECK_INT(fixture.closed, 0);
    stop(&fixture, 0);
    fixture_join(&fixture);
    CHECK_INT(fixture.last_code, 1006);
    CHECK(read_to_end(fd)); /* one Close is enough */
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

BOTH_KINDS(a_second_stop_can_not_lengthen_the_wait)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    uint64_t began = tws_clock_now();
    stop(&fixture, 100 * MILLISECOND);
    expect_close(fd, 1001);
    stop(&fixture, PATIENCE_SECONDS * SECOND);
    stop(&fixture, UINT64_MAX);
    fixture_join(&fixture);
    CHECK(milliseconds_since(began) < PATIENCE_SECONDS * 1000 / 2);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

static void
answer_big(struct fixture *fixture, struct tws_client *client,
           const struct tws_event *event)
{
    (void)fixture;
    (void)event;
    CHECK_INT(send_pattern(client, 500000), TWS_OK);
}

/* Clients in every state at once. */
static void
stop_a_mixture(enum tws_poller_kind kind, uint64_t patience)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = answer_big;
    fixture.send_room = 64 * 1024;
    fixture.options.high_water = 1024;
    fixture_start(&fixture);
    int paused = connect_small(&fixture, 64 * 1024);
    for (int i = 0; i < 20; i++) {
        put_text(paused, "more");
    }
    EVENTUALLY(fixture.messages >= 1);
    int half_open = dial(&fixture);
    give(half_open, "GET", 3);
    int refused = dial(&fixture);
    give(refused, "nonsense\r\n\r\n", 12);
    EVENTUALLY(fixture.refused == 1);
    int lingering = connect_client(&fixture);
    put_close(lingering, 1000);
    EVENTUALLY(fixture.closed == 1);
    int broken = connect_client(&fixture);
    give(broken, "\x81\x01x", 3);
    EVENTUALLY(fixture.closed == 2);
    int in_frame = connect_client(&fixture);
    give(in_frame, "\x81", 1);
    int gone = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 5);
    reset_fd(gone);
    pause_for(20 * MILLISECOND);
    stop(&fixture, patience);
    if (patience == UINT64_MAX) {
        /* Everybody gets what is due, and then it ends by itself. */
        int answers = 0;
        struct wire_frame frame;
        while (take_frame(paused, &frame) && frame.first == TEXT) {
            CHECK_INT(frame.length, 500000);
            answers++;
            free(frame.data);
        }
        CHECK_INT(frame.first, CLOSE);
        free(frame.data);
        CHECK_INT(answers, fixture.messages);
        put_close(paused, 1001);
        CHECK(read_to_end(paused));
        expect_close(in_frame, 1001);
        give(in_frame, "\x80\0\0\0\0", 5); /* the frame's other bytes */
        put_close(in_frame, 1001);
        CHECK(read_to_end(in_frame));
        expect_close(lingering, 1000);
        CHECK(read_to_end(lingering));
        expect_close(broken, 1002);
        CHECK(read_to_end(broken));
        CHECK_INT(close(paused), 0);
        CHECK_INT(close(in_frame), 0);
        CHECK_INT(close(lingering), 0);
        CHECK_INT(close(broken), 0);
        fixture_join(&fixture);
    }
    else {
        fixture_join(&fixture);
        CHECK_INT(close(paused), 0);
        CHECK_INT(close(in_frame), 0);
        CHECK_INT(close(lingering), 0);
        CHECK_INT(close(broken), 0);
    }
    CHECK_INT(fixture.closed, 5);
    CHECK_INT(close(half_open), 0);
    CHECK_INT(close(refused), 0);
    fixture_end(&fixture);
}

BOTH_KINDS(a_stop_with_clients_in_every_state)
{
    stop_a_mixture(kind, UINT64_MAX);
    stop_a_mixture(kind, 100 * MILLISECOND);
    stop_a_mixture(kind, 0);
}

/* Patience is counted from the stop, not from when the turn began. */
static void
stop_at_last(struct fixture *fixture, struct tws_client *client,
             const struct tws_event *event)
{
    (void)client;
    (void)event;
    pause_for(600 * MILLISECOND);
    stop(fixture, 500 * MILLISECOND);
}

BOTH_KINDS(a_slow_handler_does_not_use_up_the_patience)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = stop_at_last;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "stop");
    expect_close(fd, 1001);
    pause_for(30 * MILLISECOND);
    put_close(fd, 1001);
    CHECK(read_to_end(fd));
    fixture_join(&fixture);
    CHECK_INT(fixture.last_code, 1001);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

/* A deadline is kept although a handler was slow before it. */
static void
be_slow(struct fixture *fixture, struct tws_client *client,
        const struct tws_event *event)
{
    (void)fixture;
    (void)client;
    (void)event;
    pause_for(700 * MILLISECOND);
}

BOTH_KINDS(a_slow_handler_does_not_delay_a_deadline)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = be_slow;
    fixture.options.open_timeout = 800 * MILLISECOND;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    uint64_t began = tws_clock_now();
    int silent = dial(&fixture);
    pause_for(20 * MILLISECOND);
    put_text(fd, "work");
    EVENTUALLY(fixture.messages == 1);
    EVENTUALLY(fixture.refused == 1);
    CHECK(milliseconds_since(began) >= 799);
    CHECK(milliseconds_since(began) < 1400);
    CHECK_INT(close(silent), 0);
    close_politely(fd);
    fixture_end(&fixture);
}

/* ---- from inside a handler --------------------------------------------- */

enum place { REQUEST, OPENED, MESSAGE, PINGED, PONGED, CLOSED, PLACES };
enum act { CLOSE_IT, BREAK_IT, STOP_SOON, STOP_NOW, SEND_AND_STOP, ACTS };

struct deed {
    enum place place;
    enum act act;
};

static void
act_at(struct fixture *fixture, enum place place, struct tws_client *client)
{
    const struct deed *deed = fixture->context;
    if (deed->place != place) {
        return;
    }
    enum tws_status over = place == CLOSED ? TWS_EOF : TWS_OK;
    switch (deed->act) {
    case CLOSE_IT:
        if (client != NULL) {
            CHECK_INT(begin_close(client, 1001, ""), over);
        }
        break;
    case BREAK_IT:
        if (client != NULL) {
            break_off(client);
        }
        break;
    case STOP_SOON:
        stop(fixture, UINT64_MAX);
        break;
    case SEND_AND_STOP:
        if (client != NULL) {
            CHECK_INT(send_text(client, "bye"), over);
        }
        stop(fixture, UINT64_MAX);
        break;
    case STOP_NOW:
    case ACTS:
        stop(fixture, 0);
        stop(fixture, 0);
        break;
    }
}

static void
request_deed(struct fixture *fixture, struct tws_handshake *handshake,
             const struct tws_http_head *head,
             const struct tws_handshake_request *request)
{
    (void)head;
    act_at(fixture, REQUEST, NULL);
    CHECK_INT(fixture_accept(fixture, handshake, request), TWS_OK);
}

static void
open_deed(struct fixture *fixture, struct tws_client *client)
{
    act_at(fixture, OPENED, client);
}

static void
message_deed(struct fixture *fixture, struct tws_client *client,
             const struct tws_event *event)
{
    (void)event;
    act_at(fixture, MESSAGE, client);
}

static void
ping_deed(struct fixture *fixture, struct tws_client *client,
          const struct tws_event *event)
{
    (void)event;
    act_at(fixture, PINGED, client);
}

static void
pong_deed(struct fixture *fixture, struct tws_client *client,
          const struct tws_event *event)
{
    (void)event;
    act_at(fixture, PONGED, client);
}

static void
close_deed(struct fixture *fixture, struct tws_client *client,
           const struct tws_ending *ending)
{
    (void)ending;
    act_at(fixture, CLOSED, client);
}

static void
do_deed(enum tws_poller_kind kind, struct deed deed)
{
    uint8_t bytes[256];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.context = &deed;
    fixture.on_request = request_deed;
    fixture.on_open = open_deed;
    fixture.on_message = message_deed;
    fixture.on_ping = ping_deed;
    fixture.on_pong = pong_deed;
    fixture.on_close = close_deed;
    fixture_start(&fixture);
    int fd = dial(&fixture);
    int other = dial(&fixture);
    /* All that makes a handler run, in one piece and then in single ones. */
    size_t length = write_frame(bytes, TEXT, "hello", 5);
    length += write_frame(bytes + length, PING, "?", 1);
    length += write_frame(bytes + length, PONG, "!", 1);
    length += write_frame(bytes + length, CLOSE, "\x03\xe8", 2);
    (void)offer(fd, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    (void)offer(fd, bytes, length);
    (void)offer(other, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    for (size_t i = 0; i < length; i++) {
        (void)offer(other, bytes + i, 1);
    }
    (void)read_to_end(fd);
    (void)shutdown(other, SHUT_WR);
    (void)read_to_end(other);
    CHECK_INT(close(fd), 0);
    CHECK_INT(close(other), 0);
    if (deed.act == CLOSE_IT || deed.act == BREAK_IT) {
        CHECK(!tws_server_stopping(fixture.server));
        EVENTUALLY(fixture.closed == 2);
    }
    fixture_end(&fixture);
}

BOTH_KINDS(every_handler_may_close_break_off_and_stop)
{
    for (int place = 0; place < PLACES; place++) {
        for (int act = 0; act < ACTS; act++) {
            do_deed(kind, (struct deed){(enum place)place, (enum act)act});
            if (harness_failures > 0) {
                fprintf(stderr, "place %d, act %d\n", place, act);
                return;
            }
        }
    }
}

static void
stop_refused(struct fixture *fixture, const struct tws_error *err)
{
    (void)err;
    stop(fixture, UINT64_MAX);
}

BOTH_KINDS(a_refusal_may_stop)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_refused = stop_refused;
    fixture_start(&fixture);
    int first = dial(&fixture);
    int fd = dial(&fixture);
    give(fd, "nonsense\r\n\r\n", 12);
    fixture_join(&fixture);
    CHECK_INT(close(fd), 0);
    CHECK_INT(close(first), 0);
    fixture_end(&fixture);
}

/* More than one wait of the poller hands out. */
BOTH_KINDS(hundreds_of_clients_are_served)
{
    enum { HUNDREDS = 400 };
    static int fds[HUNDREDS];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    for (int i = 0; i < HUNDREDS; i++) {
        fds[i] = connect_client(&fixture);
    }
    EVENTUALLY(tws_server_count(fixture.server) == HUNDREDS);
    pthread_mutex_lock(&fixture.exclusion); /* so that all are ready at once */
    for (int i = 0; i < HUNDREDS; i++) {
        put_text(fds[i], "hello");
    }
    pthread_mutex_unlock(&fixture.exclusion);
    for (int i = 0; i < HUNDREDS; i++) {
        expect_text(fds[i], "hello");
    }
    for (int i = 0; i < HUNDREDS; i++) {
        put_close(fds[i], 1000);
    }
    for (int i = 0; i < HUNDREDS; i++) {
        expect_close(fds[i], 1000);
        CHECK_INT(close(fds[i]), 0);
    }
    EVENTUALLY(tws_server_count(fixture.server) == 0);
    fixture_end(&fixture);
}

RUN(T(a_server_that_never_ran_is_freed),
    T(a_listener_that_is_none_is_an_error),
    T(each_open_client_is_visited_once), T(a_stop_may_come_before_the_run),
    T(a_stop_closes_every_client), T(a_stop_accepts_nobody), T(patience_ends),
    T(a_second_stop_shortens_the_wait),
    T(a_second_stop_can_not_lengthen_the_wait),
    T(a_stop_with_clients_in_every_state),
    T(a_slow_handler_does_not_use_up_the_patience),
    T(a_slow_handler_does_not_delay_a_deadline),
    T(every_handler_may_close_break_off_and_stop), T(a_refusal_may_stop),
    T(hundreds_of_clients_are_served))
