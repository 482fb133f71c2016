#include "net/opening.h"

#include "harness.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIELDS                                                                \
    "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"        \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"                         \
    "Sec-WebSocket-Version: 13\r\n"
#define REQUEST "GET /chat?x=1 HTTP/1.1\r\n" FIELDS "\r\n"
#define ANSWER                                                                \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"              \
    "Connection: Upgrade\r\n"                                                 \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

static const struct tws_http_limits limits = {.head_bytes = 1024,
                                              .field_count = 16};

struct ends {
    struct tws_opening opening;
    int fd;
    int peer;
    uint8_t scratch[256];
    struct tws_http_head head;
    struct tws_error err;
};

static void
open_ends(struct ends *ends, struct tws_span initial)
{
    struct tws_transport transport;
    int fds[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    memset(ends, 0, sizeof(*ends));
    ends->fd = fds[0];
    ends->peer = fds[1];
    tws_transport_plain(&transport, fds[0]);
    CHECK_INT(
        tws_opening_init(&ends->opening, &transport, initial, &ends->err),
        TWS_OK);
}

static void
close_ends(struct ends *ends)
{
    tws_opening_release(&ends->opening);
    close(ends->fd);
    if (ends->peer >= 0) {
        close(ends->peer);
    }
}

static void
say(const struct ends *ends, const char *text)
{
    size_t length = strlen(text);
    CHECK_INT(write(ends->peer, text, length), (long long)length);
}

static enum tws_opening_step
advance(struct ends *ends)
{
    ends->err = (struct tws_error){.status = TWS_OK};
    return tws_opening_advance(&ends->opening, &limits, ends->scratch,
                               sizeof(ends->scratch), &ends->head, &ends->err);
}

/* What the peer has been told. */
static size_t
hear(const struct ends *ends, char *data, size_t size)
{
    ssize_t got = read(ends->peer, data, size);
    return got > 0 ? (size_t)got : 0;
}

static void
accept_it(struct ends *ends, const struct tws_http_field *fields,
          size_t field_count)
{
    static const struct tws_handshake_policy policy = {.protocol_count = 0};
    struct tws_handshake_request request;
    CHECK_INT(tws_handshake_judge(&ends->head, &policy, &request, &ends->err),
              TWS_OK);
    CHECK_INT(tws_opening_accept(&ends->opening, &request, TWS_SPAN(""),
                                 fields, field_count, &ends->err),
              TWS_OK);
}

static void
check_rest(const struct ends *ends, const char *expected)
{
    struct tws_input rest = ends->opening.rest;
    CHECK_INT(rest.length, strlen(expected));
    CHECK(rest.length == strlen(expected)
          && (rest.length == 0
              || memcmp(rest.data, expected, rest.length) == 0));
}

TEST(request_in_one_piece)
{
    struct ends ends;
    char data[512];
    open_ends(&ends, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_STEP_READ);
    say(&ends, REQUEST);
    CHECK_INT(advance(&ends), TWS_STEP_REQUEST);
    CHECK_INT(advance(&ends), TWS_STEP_REQUEST); /* until it is decided */
    CHECK_BYTES(ends.head.target.data, ends.head.target.length, "/chat?x=1");
    CHECK_INT(ends.opening.in.capacity, 0); /* nothing was copied */
    accept_it(&ends, NULL, 0);
    CHECK_INT(advance(&ends), TWS_STEP_CONNECTED);
    CHECK_BYTES(data, hear(&ends, data, sizeof(data)), ANSWER "\r\n");
    check_rest(&ends, "");
    CHECK_INT(ends.opening.out.capacity, 0);
    close_ends(&ends);
}

TEST(request_in_two_pieces_wherever_they_part)
{
    for (size_t cut = 1; cut < strlen(REQUEST); cut++) {
        struct ends ends;
        open_ends(&ends, TWS_SPAN(""));
        CHECK_INT(write(ends.peer, REQUEST, cut), (long long)cut);
        CHECK_INT(advance(&ends), TWS_STEP_READ);
        say(&ends, &REQUEST[cut]);
        say(&ends, "rest");
        CHECK_INT(advance(&ends), TWS_STEP_REQUEST);
        accept_it(&ends, NULL, 0);
        memset(ends.scratch, 'X', sizeof(ends.scratch));
        CHECK_INT(advance(&ends), TWS_STEP_CONNECTED);
        check_rest(&ends, "rest");
        close_ends(&ends);
    }
}

TEST(bytes_read_before_count)
{
    for (size_t cut = 0; cut <= strlen(REQUEST "rest"); cut++) {
        struct ends ends;
        open_ends(&ends,
                  (struct tws_span){.data = REQUEST "rest", .length = cut});
        say(&ends, &(REQUEST "rest")[cut]);
        if (cut == strlen(REQUEST "rest")) {
            say(&ends, "");
        }
        CHECK_INT(advance(&ends), TWS_STEP_REQUEST);
        accept_it(&ends, NULL, 0);
        CHECK_INT(advance(&ends), TWS_STEP_CONNECTED);
        /* What is not read yet is not lost. */
        struct tws_input rest = ends.opening.rest;
        char data[8];
        ssize_t more = read(ends.fd, data, sizeof(data));
        CHECK_INT((long long)rest.length + (more > 0 ? more : 0), 4);
        close_ends(&ends);
    }
}

TEST(fields_of_the_owner)
{
    struct ends ends;
    char data[512];
    struct tws_http_field fields[] = {{TWS_SPAN("X-A"), TWS_SPAN("1")},
                                      {TWS_SPAN("X-B"), TWS_SPAN("2")}};
    struct tws_http_field bad = {TWS_SPAN("X A"), TWS_SPAN("1")};
    struct tws_handshake_request request = {
        .key = TWS_SPAN("dGhlIHNhbXBsZSBub25jZQ=="), .upgrade = true};
    open_ends(&ends, TWS_SPAN(REQUEST));
    CHECK_INT(advance(&ends), TWS_STEP_REQUEST);
    accept_it(&ends, fields, 2);
    CHECK_INT(advance(&ends), TWS_STEP_CONNECTED);
    CHECK_BYTES(data, hear(&ends, data, sizeof(data)),
                ANSWER "X-A: 1\r\nX-B: 2\r\n\r\n");
    close_ends(&ends);
    open_ends(&ends, TWS_SPAN(REQUEST));
    CHECK_INT(advance(&ends), TWS_STEP_REQUEST);
    CHECK_INT(tws_opening_accept(&ends.opening, &request, TWS_SPAN(""), &bad,
                                 1, &ends.err),
              TWS_REFUSED);
    CHECK_INT(ends.opening.state, TWS_OPENING_DECIDING);
    /* Nothing is left of the 101 that was begun. */
    CHECK_INT(
        tws_opening_refuse(&ends.opening, 500, "sorry", false, &ends.err),
        TWS_OK);
    CHECK_INT(advance(&ends), TWS_STEP_READ);
    size_t length = hear(&ends, data, sizeof(data));
    CHECK(length > 13 && memcmp(data, "HTTP/1.1 500 ", 13) == 0);
    close_ends(&ends);
}

/* Fills the pipe to the peer; returns how much is in it. */
static size_t
fill(const struct ends *ends)
{
    static const char zeros[4096];
    size_t total = 0;
    ssize_t written;
    do {
        written = write(ends->fd, zeros, sizeof(zeros));
        total += written > 0 ? (size_t)written : 0;
    } while (written > 0);
    return total;
}

static void
drain(const struct ends *ends, size_t length)
{
    char data[4096];
    while (length > 0) {
        ssize_t got = read(ends->peer, data,
                           length < sizeof(data) ? length : sizeof(data));
        CHECK(got > 0);
        if (got <= 0) {
            return;
        }
        length -= (size_t)got;
    }
}

TEST(answer_waits_for_room)
{
    struct ends ends;
    char data[512];
    open_ends(&ends, TWS_SPAN(""));
    say(&ends, REQUEST "rest");
    size_t filled = fill(&ends);
    CHECK_INT(advance(&ends), TWS_STEP_REQUEST);
    accept_it(&ends, NULL, 0);
    memset(ends.scratch, 'X', sizeof(ends.scratch)); /* others read to it */
    CHECK_INT(advance(&ends), TWS_STEP_WRITE);
    CHECK_INT(advance(&ends), TWS_STEP_WRITE);
    drain(&ends, filled);
    CHECK_INT(advance(&ends), TWS_STEP_CONNECTED);
    CHECK_BYTES(data, hear(&ends, data, sizeof(data)), ANSWER "\r\n");
    check_rest(&ends, "rest");
    close_ends(&ends);
}

TEST(broken_head_is_refused)
{
    static const struct {
        const char *text;
        uint16_t status;
    } cases[] = {
        {"nonsense\r\n\r\n", 400},
        {"GET / HTTP/1.1\nHost: x\n\n", 400},
        {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},
        {"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct ends ends;
        char data[1024];
        char first[32];
        open_ends(&ends, TWS_SPAN(""));
        say(&ends, cases[i].text);
        /* Refused and lingering: only the peer's end is awaited. */
        CHECK_INT(advance(&ends), TWS_STEP_READ);
        CHECK_INT(ends.err.status, TWS_REFUSED);
        CHECK_INT(ends.err.http_status, cases[i].status);
        CHECK_INT(ends.opening.state, TWS_OPENING_LINGERING);
        size_t length = hear(&ends, data, sizeof(data) - 1);
        data[length] = '\0';
        (void)snprintf(first, sizeof(first), "HTTP/1.1 %u ",
                       (unsigned)cases[i].status);
        CHECK_INT(strncmp(data, first, strlen(first)), 0);
        CHECK(strstr(data, ends.err.reason) != NULL);
        CHECK_INT(read(ends.peer, data, 1), 0); /* the end of our stream */
        close(ends.peer);
        ends.peer = -1;
        CHECK_INT(advance(&ends), TWS_STEP_GONE);
        close_ends(&ends);
    }
}

TEST(long_head_is_refused)
{
    struct ends ends;
    int step;
    open_ends(&ends, TWS_SPAN(""));
    say(&ends, "GET / HTTP/1.1\r\nX: ");
    for (int i = 0; i < 100; i++) {
        say(&ends, "xxxxxxxxxxxxxxxx");
    }
    do {
        step = (int)advance(&ends);
    } while (step == TWS_STEP_READ && ends.err.status == TWS_OK);
    CHECK_INT(ends.err.http_status, 431);
    CHECK_INT(ends.opening.in.capacity, 0);
    close_ends(&ends);
}

TEST(owner_refuses_and_lingers)
{
    struct ends ends;
    char data[1024];
    open_ends(&ends, TWS_SPAN(""));
    say(&ends, REQUEST "and more than that");
    CHECK_INT(advance(&ends), TWS_STEP_REQUEST);
    CHECK_INT(tws_opening_refuse(&ends.opening, 404, "no such path", false,
                                 &ends.err),
              TWS_OK);
    CHECK_INT(advance(&ends), TWS_STEP_READ);
    size_t length = hear(&ends, data, sizeof(data) - 1);
    data[length] = '\0';
    CHECK_INT(strncmp(data, "HTTP/1.1 404 Not Found\r\n", 24), 0);
    CHECK(strstr(data, "\r\n\r\nno such path\n") != NULL);
    say(&ends, "what nobody reads any more");
    CHECK_INT(advance(&ends), TWS_STEP_READ);
    CHECK(ends.opening.lingered > 0);
    close(ends.peer);
    ends.peer = -1;
    CHECK_INT(advance(&ends), TWS_STEP_GONE);
    close_ends(&ends);
}

TEST(owner_answers_for_itself)
{
    struct ends ends;
    char data[256];
    open_ends(&ends, TWS_SPAN(REQUEST));
    CHECK_INT(advance(&ends), TWS_STEP_REQUEST);
    CHECK_INT(
        tws_opening_answer(&ends.opening, TWS_SPAN("anything"), &ends.err),
        TWS_OK);
    CHECK_INT(advance(&ends), TWS_STEP_READ);
    CHECK_BYTES(data, hear(&ends, data, sizeof(data)), "anything");
    close_ends(&ends);
}

TEST(lingering_has_a_bound)
{
    static const char flood[4096];
    struct ends ends;
    int step = TWS_STEP_READ;
    size_t sent = 0;
    open_ends(&ends, TWS_SPAN("nonsense\r\n\r\n"));
    while (step == TWS_STEP_READ && sent < 10 * 1024 * 1024) {
        ssize_t written = write(ends.peer, flood, sizeof(flood));
        sent += written > 0 ? (size_t)written : 0;
        step = (int)advance(&ends);
    }
    CHECK_INT(step, TWS_STEP_GONE);
    CHECK(sent < 2 * 1024 * 1024);
    close_ends(&ends);
}

TEST(peer_breaks_off)
{
    static const char *const parts[] = {"", "G", "GET / HTTP/1.1\r\nHost: x"};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(parts); i++) {
        struct ends ends;
        open_ends(&ends, TWS_SPAN(""));
        say(&ends, parts[i]);
        close(ends.peer);
        ends.peer = -1;
        CHECK_INT(advance(&ends), TWS_STEP_GONE);
        CHECK_INT(ends.err.status, TWS_REFUSED);
        CHECK_INT(ends.err.http_status, 0);
        close_ends(&ends);
    }
}

TEST(peer_is_gone_when_it_is_answered)
{
    struct ends ends;
    open_ends(&ends, TWS_SPAN(REQUEST));
    CHECK_INT(advance(&ends), TWS_STEP_REQUEST);
    accept_it(&ends, NULL, 0);
    close(ends.peer);
    ends.peer = -1;
    CHECK_INT(advance(&ends), TWS_STEP_GONE);
    CHECK_INT(ends.err.status, TWS_OS);
    CHECK_INT(ends.err.sys_errno, EPIPE);
    close_ends(&ends);
}

RUN(T(request_in_one_piece), T(request_in_two_pieces_wherever_they_part),
    T(bytes_read_before_count), T(fields_of_the_owner),
    T(answer_waits_for_room), T(broken_head_is_refused),
    T(long_head_is_refused), T(owner_refuses_and_lingers),
    T(owner_answers_for_itself), T(lingering_has_a_bound), T(peer_breaks_off),
    T(peer_is_gone_when_it_is_answered))
