/* Connections up to their 101, or to whatever else becomes of them. */
#include "engine_fixture.h"

enum { REQUEST_LENGTH = sizeof(UPGRADE_REQUEST) - 1 };

/* ---- upgrades ---------------------------------------------------------- */

BOTH_KINDS(a_request_may_come_byte_by_byte_with_a_frame_behind_it)
{
    uint8_t bytes[REQUEST_LENGTH + WIRE_HEADER_MAX + 16];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    memcpy(bytes, UPGRADE_REQUEST, REQUEST_LENGTH);
    size_t length = REQUEST_LENGTH;
    length += write_frame(bytes + length, TEXT, "early", 5);
    int fd = dial(&fixture);
    for (size_t i = 0; i < length; i++) {
        give(fd, bytes + i, 1);
    }
    expect_101(fd);
    expect_text(fd, "early");
    close_politely(fd);
    /* Cut in two at each byte; the second part tells the end of the head
     * and brings the frame, or a part of it. */
    for (size_t cut = 0; cut <= length; cut++) {
        fd = dial(&fixture);
        give(fd, bytes, cut);
        if (cut % 16 == 0 || cut > REQUEST_LENGTH - 4) {
            pause_for(MILLISECOND); /* to arrive apart */
        }
        give(fd, bytes + cut, length - cut);
        expect_101(fd);
        expect_text(fd, "early");
        close_politely(fd);
        not_too_many();
    }
    CHECK_INT(fixture.refused, 0);
    fixture_end(&fixture);
}

static void
look_at_request(struct fixture *fixture, struct tws_handshake *handshake,
                const struct tws_http_head *head,
                const struct tws_handshake_request *request)
{
    const struct sockaddr_in *expected = fixture->context;
    const struct tws_address *peer = tws_handshake_peer(handshake);
    const struct sockaddr_in *address =
        (const struct sockaddr_in *)&peer->storage;
    CHECK_INT(peer->length, sizeof(*expected));
    CHECK_INT(address->sin_port, expected->sin_port);
    CHECK_INT(address->sin_addr.s_addr, expected->sin_addr.s_addr);
    struct tws_span text = tws_handshake_head(handshake, head);
    CHECK_BYTES(text.data, text.length, UPGRADE_REQUEST);
    CHECK_BYTES(request->path.data, request->path.length, "/chat");
    CHECK_INT(fixture_accept(fixture, handshake, request), TWS_OK);
}

BOTH_KINDS(the_handler_sees_the_peer_and_the_head)
{
    struct sockaddr_in own;
    socklen_t size = sizeof(own);
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_request = look_at_request;
    fixture.context = &own;
    fixture_start(&fixture);
    for (size_t cut = 0; cut <= REQUEST_LENGTH; cut += 20) {
        int fd = dial(&fixture);
        CHECK_INT(getsockname(fd, (struct sockaddr *)&own, &size), 0);
        give(fd, UPGRADE_REQUEST, cut);
        pause_for(MILLISECOND);
        give(fd, &(UPGRADE_REQUEST "\x81\x80zzzz")[cut],
             REQUEST_LENGTH + 6 - cut);
        expect_101(fd);
        expect_frame(fd, TEXT, "", 0);
        close_politely(fd);
    }
    fixture_end(&fixture);
}

/* ---- peers that vanish ------------------------------------------------- */

static void
vanish_at_each_byte(struct fixture *fixture, bool reset)
{
    for (size_t length = 0; length < REQUEST_LENGTH; length++) {
        int fd = dial(fixture);
        give(fd, UPGRADE_REQUEST, length);
        if (length % 8 == 0) {
            pause_for(MILLISECOND / 2); /* let some be read before the end */
        }
        if (reset) {
            reset_fd(fd);
        }
        else {
            CHECK_INT(close(fd), 0);
        }
    }
}

BOTH_KINDS(a_peer_vanishes_at_each_byte_of_its_request)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    vanish_at_each_byte(&fixture, false);
    EVENTUALLY(fixture.refused == (int)REQUEST_LENGTH);
    CHECK_INT(fixture.last_http_status, 0);
    /* The kernel passes over some that were reset before they came up. */
    vanish_at_each_byte(&fixture, true);
    expect_alive(&fixture);
    CHECK_INT(fixture.requests, 1);
    fixture_end(&fixture);
}

BOTH_KINDS(a_peer_vanishes_behind_its_request)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    for (int i = 0; i < 200; i++) {
        int fd = dial(&fixture);
        give(fd, UPGRADE_REQUEST, REQUEST_LENGTH);
        if (i % 3 == 0) {
            expect_101(fd);
        }
        if (i % 2 == 0) {
            reset_fd(fd);
        }
        else {
            CHECK_INT(close(fd), 0);
        }
    }
    expect_alive(&fixture);
    EVENTUALLY(fixture.accepted == fixture.discarded + fixture.closed);
    fixture_end(&fixture);
}

/* Accepts when the peer is gone for sure: the 101 can't be written. */
static void
accept_too_late(struct fixture *fixture, struct tws_handshake *handshake,
                const struct tws_http_head *head,
                const struct tws_handshake_request *request)
{
    atomic_int *gone = fixture->context;
    (void)head;
    EVENTUALLY(*gone == fixture->requests);
    pause_for(5 * MILLISECOND); /* for the reset to arrive */
    CHECK_INT(fixture_accept(fixture, handshake, request), TWS_OK);
}

BOTH_KINDS(the_user_comes_back_where_the_101_finds_nobody)
{
    atomic_int gone = 0;
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_request = accept_too_late;
    fixture.context = &gone;
    fixture_start(&fixture);
    for (int i = 1; i <= 5; i++) {
        int fd = dial(&fixture);
        give(fd, UPGRADE_REQUEST, REQUEST_LENGTH);
        EVENTUALLY(fixture.requests == i);
        reset_fd(fd);
        gone = i;
        EVENTUALLY(fixture.discarded == i);
    }
    CHECK_INT(fixture.opened, 0);
    fixture_end(&fixture);
}

/* ---- other answers ----------------------------------------------------- */

#define PLAIN_REQUEST "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"

static void
expect_answer(int fd, const char *start, const char *body)
{
    char head[1024];
    char rest[256] = "";
    CHECK(take_head(fd, head, sizeof(head)));
    CHECK(strncmp(head, start, strlen(start)) == 0);
    size_t length = 0;
    ssize_t n;
    do {
        n = recv(fd, rest + length, sizeof(rest) - 1 - length, 0);
        length += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    CHECK_INT(n, 0); /* the end, not a reset */
    CHECK(strstr(rest, body) != NULL);
    CHECK(*body != '\0' || length == 0);
}

BOTH_KINDS(plain_http_is_answered)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    int fd = dial(&fixture);
    give(fd, PLAIN_REQUEST, sizeof(PLAIN_REQUEST) - 1);
    expect_answer(fd, "HTTP/1.1 200 OK\r\n", "hi");
    CHECK_INT(close(fd), 0);
    CHECK_INT(fixture.accepted, 0);
    fixture_end(&fixture);
}

/* The answer must not be eaten by a reset because more came than was read. */
BOTH_KINDS(an_answer_arrives_while_the_peer_still_sends)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    for (int i = 0; i < 20; i++) {
        int fd = dial(&fixture);
        give(fd, PLAIN_REQUEST, sizeof(PLAIN_REQUEST) - 1);
        give(fd, pattern, (size_t)(10000 * i));
        expect_answer(fd, "HTTP/1.1 200 OK\r\n", "hi");
        CHECK_INT(close(fd), 0);
    }
    fixture_end(&fixture);
}

static void
answer_much(struct fixture *fixture, struct tws_handshake *handshake,
            const struct tws_http_head *head,
            const struct tws_handshake_request *request)
{
    struct tws_error err;
    (void)fixture;
    (void)head;
    CHECK(!request->upgrade);
    struct tws_span answer = {.data = pattern, .length = sizeof(pattern)};
    CHECK_INT(tws_handshake_answer(handshake, answer, &err), TWS_OK);
}

BOTH_KINDS(a_long_answer_to_a_slow_reader_arrives_whole)
{
    static char got[sizeof(pattern)];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_request = answer_much;
    fixture.send_room = 32 * 1024;
    fixture_start(&fixture);
    int fd = dial_small(&fixture, 32 * 1024);
    give(fd, PLAIN_REQUEST, sizeof(PLAIN_REQUEST) - 1);
    pause_for(20 * MILLISECOND);
    CHECK(take_bytes(fd, got, sizeof(got)));
    CHECK(memcmp(got, pattern, sizeof(got)) == 0);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    /* One that vanishes in the middle of it. */
    for (int i = 0; i < 4; i++) {
        fd = dial_small(&fixture, 32 * 1024);
        give(fd, PLAIN_REQUEST, sizeof(PLAIN_REQUEST) - 1);
        CHECK(take_bytes(fd, got, 50000));
        if (i % 2 == 0) {
            reset_fd(fd);
        }
        else {
            CHECK_INT(close(fd), 0);
        }
    }
    fixture_end(&fixture);
}

static void
refuse(struct fixture *fixture, struct tws_handshake *handshake,
       const struct tws_http_head *head,
       const struct tws_handshake_request *request)
{
    struct tws_error err;
    (void)fixture;
    (void)request;
    bool head_only = tws_span_equal(head->method, TWS_SPAN("HEAD"));
    CHECK_INT(
        tws_handshake_refuse(handshake, 403, "not today", head_only, &err),
        TWS_OK);
}

static void
accept_with_fields(struct fixture *fixture, struct tws_handshake *handshake,
                   const struct tws_http_head *head,
                   const struct tws_handshake_request *request)
{
    static const struct tws_http_field FIELDS[] = {
        {{"Set-Cookie", 10}, {"a=1", 3}},
        {{"Set-Cookie", 10}, {"b=2", 3}},
    };
    static const struct tws_http_field BAD = {{"X-A", 3}, {"a\r\nb", 4}};
    struct visitor *visitor = calloc(1, sizeof(*visitor));
    struct tws_error err;
    (void)head;
    must(visitor != NULL, "calloc");
    visitor->fixture = fixture;
    CHECK_INT(tws_handshake_accept(handshake, request, &NOTHING_AGREED, &BAD,
                                   1, visitor, &err),
              TWS_REFUSED);
    CHECK_INT(err.http_status, 0);
    CHECK_INT(tws_handshake_accept(handshake, request, &NOTHING_AGREED, FIELDS,
                                   2, visitor, &err),
              TWS_OK);
    fixture->accepted++;
}

BOTH_KINDS(a_101_may_have_more_fields)
{
    struct fixture fixture;
    char head[1024];
    fixture_init(&fixture, kind);
    fixture.options.max_clients = 1; /* the failure gives its place back */
    fixture.on_request = accept_with_fields;
    fixture_start(&fixture);
    int fd = dial(&fixture);
    give(fd, UPGRADE_REQUEST, REQUEST_LENGTH);
    CHECK(take_head(fd, head, sizeof(head)));
    CHECK(strncmp(head, "HTTP/1.1 101 ", 13) == 0);
    CHECK(strstr(head, "\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n")
          != NULL);
    CHECK(strstr(head, "X-A") == NULL);
    put_text(fd, "hello");
    expect_text(fd, "hello");
    close_politely(fd);
    fixture_end(&fixture);
}

static void
turn_away(struct fixture *fixture, struct tws_handshake *handshake,
          const struct tws_http_head *head,
          const struct tws_handshake_request *request)
{
    struct tws_error why;
    struct tws_error err;
    (void)head;
    (void)request;
    int before = fixture->refused;
    (void)tws_error_refused(&why, 401, "who are you?");
    CHECK_INT(tws_handshake_answer(
                  handshake, TWS_SPAN("HTTP/1.1 401 Unauthorized\r\n\r\nwho?"),
                  &err),
              TWS_OK);
    tws_handshake_note_refusal(handshake, &why);
    CHECK_INT(fixture->refused, before); /* not inside of the handler */
}

BOTH_KINDS(a_refusal_that_is_noted_counts)
{
    struct fixture fixture;
    struct tws_stats stats;
    fixture_init(&fixture, kind);
    fixture.on_request = turn_away;
    fixture_start(&fixture);
    for (int i = 1; i <= 3; i++) {
        int fd = dial(&fixture);
        give(fd, UPGRADE_REQUEST, REQUEST_LENGTH);
        expect_answer(fd, "HTTP/1.1 401 ", "who?");
        CHECK_INT(close(fd), 0);
        EVENTUALLY(fixture.refused == i);
        CHECK_INT(fixture.last_http_status, 401);
    }
    tws_server_stats(fixture.server, &stats);
    CHECK_INT(stats.refused, 3);
    fixture_end(&fixture);
}

BOTH_KINDS(the_handler_refuses)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_request = refuse;
    fixture_start(&fixture);
    int fd = dial(&fixture);
    give(fd, UPGRADE_REQUEST, REQUEST_LENGTH);
    expect_answer(fd, "HTTP/1.1 403 Forbidden\r\n", "not today");
    CHECK_INT(close(fd), 0);
    fd = dial(&fixture);
    const char head[] = "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    give(fd, head, sizeof(head) - 1);
    expect_answer(fd, "HTTP/1.1 403 Forbidden\r\n", "");
    CHECK_INT(close(fd), 0);
    CHECK_INT(fixture.requests, 2);
    fixture_end(&fixture);
}

static void
ignore(struct fixture *fixture, struct tws_handshake *handshake,
       const struct tws_http_head *head,
       const struct tws_handshake_request *request)
{
    (void)fixture;
    (void)handshake;
    (void)head;
    (void)request;
}

BOTH_KINDS(a_handler_that_does_nothing_drops_the_connection)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_request = ignore;
    fixture_start(&fixture);
    int fd = dial(&fixture);
    give(fd, UPGRADE_REQUEST, REQUEST_LENGTH);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

static const struct {
    int status;
    const char *request;
} refusals[] = {
    {400, "GET / HTTP/1.1\r\n\r\n"},
    {400, "GET / HTTP/1.1\nHost: x\n\n"},
    {400, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"},
    {403, "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
          "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
          "Origin: http://evil.example\r\n\r\n"},
    {404, "GET /other HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
          "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"},
    {405, "POST / HTTP/1.1\r\nHost: x\r\n\r\n"},
    {426, "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
          "Connection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"},
    {431, "GET / HTTP/1.1\r\nA: 1\r\nA: 2\r\nA: 3\r\nA: 4\r\nA: 5\r\n"
          "A: 6\r\nA: 7\r\nA: 8\r\nA: 9\r\n\r\n"},
    {505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"},
};

BOTH_KINDS(a_bad_request_gets_its_status_and_not_a_reset)
{
    struct tws_span location = TWS_SPAN("/chat");
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.policy.origins.policy = TWS_ORIGIN_SAME;
    fixture.options.policy.locations = &location;
    fixture.options.policy.location_count = 1;
    fixture.options.http.field_count = 8;
    fixture_start(&fixture);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(refusals); i++) {
        for (size_t behind = 0; behind < 3; behind++) {
            char start[32];
            int refused = fixture.refused;
            int fd = dial(&fixture);
            give(fd, refusals[i].request, strlen(refusals[i].request));
            give(fd, pattern, behind * 60000);
            snprintf(start, sizeof(start), "HTTP/1.1 %d ", refusals[i].status);
            expect_answer(fd, start, "\n");
            CHECK_INT(close(fd), 0);
            EVENTUALLY(fixture.refused == refused + 1);
            CHECK_INT(fixture.last_http_status, refusals[i].status);
        }
    }
    CHECK_INT(fixture.requests, 0);
    expect_alive(&fixture);
    fixture_end(&fixture);
}

/* ---- deadlines --------------------------------------------------------- */

BOTH_KINDS(peers_that_do_not_finish_in_time_are_dropped)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.open_timeout = 150 * MILLISECOND;
    fixture_start(&fixture);
    uint64_t began = tws_clock_now();
    int silent = dial(&fixture);
    int half = dial(&fixture);
    int slow = dial(&fixture);
    give(half, UPGRADE_REQUEST, 30);
    size_t given = 0;
    while (given < REQUEST_LENGTH && offer(slow, &UPGRADE_REQUEST[given], 1)
           && fixture.refused < 3) {
        given++;
        pause_for(5 * MILLISECOND);
    }
    CHECK(given < REQUEST_LENGTH); /* each byte does not buy more time */
    EVENTUALLY(fixture.refused == 3);
    CHECK(milliseconds_since(began) >= 149);
    CHECK_INT(fixture.last_http_status, 408);
    CHECK(read_to_end(silent));
    (void)read_to_end(half);
    (void)read_to_end(slow);
    CHECK_INT(close(silent), 0);
    CHECK_INT(close(half), 0);
    CHECK_INT(close(slow), 0);
    fixture_end(&fixture);
}

BOTH_KINDS(an_upgraded_client_has_no_such_deadline)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.open_timeout = 300 * MILLISECOND;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    pause_for(500 * MILLISECOND);
    put_text(fd, "here I am");
    expect_text(fd, "here I am");
    close_politely(fd);
    CHECK_INT(fixture.refused, 0);
    fixture_end(&fixture);
}

BOTH_KINDS(without_a_limit_nobody_is_dropped)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.open_timeout = UINT64_MAX;
    fixture.options.close_timeout = UINT64_MAX;
    fixture_start(&fixture);
    int fd = dial(&fixture);
    int refused = dial(&fixture);
    give(refused, "nonsense\r\n\r\n", 12);
    pause_for(50 * MILLISECOND);
    give(fd, UPGRADE_REQUEST, REQUEST_LENGTH);
    expect_101(fd);
    expect_answer(refused, "HTTP/1.1 400 ", "\n");
    close_politely(fd);
    CHECK_INT(close(refused), 0);
    fixture_end(&fixture);
}

BOTH_KINDS(a_refused_peer_that_stays_is_dropped)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.close_timeout = 100 * MILLISECOND;
    fixture_start(&fixture);
    size_t before = count_fds();
    int fd = dial(&fixture);
    uint64_t began = tws_clock_now();
    give(fd, "nonsense\r\n\r\n", 12);
    expect_answer(fd, "HTTP/1.1 400 ", "\n");
    EVENTUALLY(count_fds() == before + 1); /* ours */
    CHECK(milliseconds_since(began) >= 99);
    CHECK_INT(fixture.refused, 1); /* once, not again at the deadline */
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

BOTH_KINDS(a_peer_that_does_not_read_its_answer_is_dropped)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_request = answer_much;
    fixture.send_room = 16 * 1024;
    fixture.options.open_timeout = 150 * MILLISECOND;
    fixture_start(&fixture);
    size_t before = count_fds();
    int fd = dial_small(&fixture, 16 * 1024);
    give(fd, PLAIN_REQUEST, sizeof(PLAIN_REQUEST) - 1);
    EVENTUALLY(fixture.refused == 1);
    EVENTUALLY(count_fds() == before + 1);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

/* A slow handler must not eat the time of those who connect meanwhile. */
static void
be_slow(struct fixture *fixture, struct tws_client *client,
        const struct tws_event *event)
{
    (void)fixture;
    (void)client;
    pause_for(event->data[0] == 's' ? 60 * MILLISECOND : 700 * MILLISECOND);
}

BOTH_KINDS(time_is_counted_from_the_accept_not_from_the_turn)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = be_slow;
    fixture.options.open_timeout = 600 * MILLISECOND;
    fixture_start(&fixture);
    int first = connect_client(&fixture);
    int second = connect_client(&fixture);
    put_text(first, "s"); /* while it works these two become ready, */
    pause_for(20 * MILLISECOND);
    put_text(second, "long"); /* in this order */
    int fd = dial(&fixture);
    EVENTUALLY(fixture.messages == 2);
    pause_for(50 * MILLISECOND);
    give(fd, UPGRADE_REQUEST, REQUEST_LENGTH);
    expect_101(fd);
    close_politely(fd);
    close_politely(first);
    close_politely(second);
    fixture_end(&fixture);
}

BOTH_KINDS(a_stop_drops_what_is_half_open)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    int silent = dial(&fixture);
    int half = dial(&fixture);
    int refused = dial(&fixture);
    give(half, UPGRADE_REQUEST, 30);
    give(refused, "nonsense\r\n\r\n", 12);
    EVENTUALLY(fixture.refused == 1);
    tws_server_stop(fixture.server, 1001, TWS_SPAN(""), 0);
    fixture_join(&fixture);
    (void)read_to_end(silent);
    (void)read_to_end(half);
    (void)read_to_end(refused);
    CHECK_INT(close(silent), 0);
    CHECK_INT(close(half), 0);
    CHECK_INT(close(refused), 0);
    fixture_end(&fixture);
}

/* ---- limits ------------------------------------------------------------ */

BOTH_KINDS(no_more_clients_than_allowed)
{
    int fds[2];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.max_clients = 2;
    fixture_start(&fixture);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2; i++) {
            fds[i] = connect_client(&fixture);
        }
        EVENTUALLY(tws_server_count(fixture.server) == 2);
        int refused = fixture.refused;
        int fd = dial(&fixture);
        give(fd, UPGRADE_REQUEST, REQUEST_LENGTH);
        expect_answer(fd, "HTTP/1.1 503 ", "as many clients");
        CHECK_INT(close(fd), 0);
        EVENTUALLY(fixture.refused == refused + 1);
        CHECK_INT(fixture.last_http_status, 503);
        fd = dial(&fixture);
        give(fd, PLAIN_REQUEST, sizeof(PLAIN_REQUEST) - 1); /* is none */
        expect_answer(fd, "HTTP/1.1 200 OK\r\n", "hi");
        CHECK_INT(close(fd), 0);
        close_politely(fds[0]);
        EVENTUALLY(tws_server_count(fixture.server) == 1);
        expect_alive(&fixture);
        close_politely(fds[1]);
        EVENTUALLY(tws_server_count(fixture.server) == 0);
    }
    fixture_end(&fixture);
}

/* From 127.0.0.2, which is another address. */
static int
dial_from_elsewhere(const struct fixture *fixture)
{
    struct timeval limit = {.tv_sec = PATIENCE_SECONDS};
    struct sockaddr_in own = {.sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0, "socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    must(bind(fd, (struct sockaddr *)&own, sizeof(own)) == 0, "bind");
    must(connect(fd, (const struct sockaddr *)&fixture->address,
                 sizeof(fixture->address))
             == 0,
         "connect");
    return fd;
}

/* Those of the one address that came first go; its clients don't count. */
BOTH_KINDS(of_too_many_half_open_ones_the_oldest_is_dropped)
{
    enum { LIMIT = 3, MORE = 4 };
    int fds[LIMIT + MORE];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.max_half_open = LIMIT;
    fixture_start(&fixture);
    int client = connect_client(&fixture);
    int elsewhere = dial_from_elsewhere(&fixture);
    for (int i = 0; i < LIMIT + MORE; i++) {
        fds[i] = dial(&fixture);
        give(fds[i], UPGRADE_REQUEST, 10);
        if (i >= LIMIT) {
            EVENTUALLY(fixture.refused == i - LIMIT + 1);
            (void)read_to_end(fds[i - LIMIT]);
        }
    }
    CHECK_INT(fixture.last_http_status, 429);
    give(elsewhere, UPGRADE_REQUEST, REQUEST_LENGTH);
    expect_101(elsewhere);
    for (int i = 0; i < LIMIT + MORE; i++) {
        if (i >= MORE) {
            give(fds[i], &UPGRADE_REQUEST[10], REQUEST_LENGTH - 10);
            expect_101(fds[i]);
        }
        CHECK_INT(close(fds[i]), 0);
    }
    put_text(client, "still here");
    expect_text(client, "still here");
    close_politely(client);
    close_politely(elsewhere);
    CHECK_INT(fixture.refused, MORE);
    fixture_end(&fixture);
}

RUN(T(a_request_may_come_byte_by_byte_with_a_frame_behind_it),
    T(the_handler_sees_the_peer_and_the_head),
    T(a_peer_vanishes_at_each_byte_of_its_request),
    T(a_peer_vanishes_behind_its_request),
    T(the_user_comes_back_where_the_101_finds_nobody),
    T(plain_http_is_answered), T(an_answer_arrives_while_the_peer_still_sends),
    T(a_long_answer_to_a_slow_reader_arrives_whole), T(the_handler_refuses),
    T(a_101_may_have_more_fields), T(a_refusal_that_is_noted_counts),
    T(a_handler_that_does_nothing_drops_the_connection),
    T(a_bad_request_gets_its_status_and_not_a_reset),
    T(peers_that_do_not_finish_in_time_are_dropped),
    T(an_upgraded_client_has_no_such_deadline),
    T(without_a_limit_nobody_is_dropped),
    T(a_refused_peer_that_stays_is_dropped),
    T(a_peer_that_does_not_read_its_answer_is_dropped),
    T(time_is_counted_from_the_accept_not_from_the_turn),
    T(a_stop_drops_what_is_half_open), T(no_more_clients_than_allowed),
    T(of_too_many_half_open_ones_the_oldest_is_dropped))
