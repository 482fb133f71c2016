#include "net/acceptor.h"

#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#define MS ((uint64_t)1000000)
#define SECOND (1000 * MS)
#define REQUEST                                                               \
    "GET /a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"            \
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"                    \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

struct fixture {
    struct tws_acceptor *acceptor;
    int listener;
    struct sockaddr_in address;
    uint64_t now;
    struct tws_accepted accepted;
    struct tws_address peer;
    struct tws_error err;
};

static int discarded;

static void
count_discarded(void *context, void *user)
{
    (void)context;
    CHECK_BYTES((const char *)user, strlen(user), "mine");
    discarded++;
}

static char mine[] = "mine";

static void
open_fixture_with(struct fixture *f, size_t half_open_max, bool asks)
{
    static const struct tws_http_field field = {TWS_SPAN("X-A"),
                                                TWS_SPAN("1")};
    struct tws_acceptor_options options = {
        .http = TWS_HTTP_LIMITS_DEFAULT,
        .fields = &field,
        .field_count = 1,
        .open_timeout = 1000 * SECOND,
        .close_timeout = 100 * SECOND,
        .half_open_max = half_open_max,
        .discard = count_discarded,
        .asks = asks,
    };
    socklen_t length = sizeof(f->address);
    memset(f, 0, sizeof(*f));
    f->now = 5000 * SECOND;
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    f->address.sin_family = AF_INET;
    f->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_INT(bind(f->listener, (struct sockaddr *)&f->address, length), 0);
    CHECK_INT(listen(f->listener, 64), 0);
    CHECK_INT(
        getsockname(f->listener, (struct sockaddr *)&f->address, &length), 0);
    CHECK_INT(tws_acceptor_new(f->listener, &options, &f->acceptor, &f->err),
              TWS_OK);
}

static void
open_fixture(struct fixture *f, size_t half_open_max)
{
    open_fixture_with(f, half_open_max, false);
}

static void
close_fixture(struct fixture *f)
{
    tws_acceptor_free(f->acceptor);
    close(f->listener);
}

static int
dial(const struct fixture *f, const char *text)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval patience = {.tv_sec = 5};
    CHECK_INT(
        connect(fd, (const struct sockaddr *)&f->address, sizeof(f->address)),
        0);
    CHECK_INT(
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
        0);
    CHECK_INT(write(fd, text, strlen(text)), (long long)strlen(text));
    return fd;
}

/* Goes on until something comes of it or nothing has happened for a while. */
static int
run(struct fixture *f)
{
    for (;;) {
        int event = (int)tws_acceptor_advance(f->acceptor, f->now,
                                              &f->accepted, &f->peer, &f->err);
        if (event != TWS_ACCEPTOR_IDLE) {
            return event;
        }
        if (tws_acceptor_wait(f->acceptor, f->now, 30 * MS, &f->err)
            != TWS_OK) {
            return TWS_ACCEPTOR_IDLE;
        }
    }
}

static bool
is_end(int fd)
{
    char byte;
    return read(fd, &byte, 1) <= 0;
}

static void
check_answer(int fd, const char *first)
{
    char data[1024] = "";
    ssize_t got = read(fd, data, sizeof(data) - 1);
    data[got > 0 ? got : 0] = '\0';
    if (strncmp(data, first, strlen(first)) != 0) {
        fprintf(stderr, "answer is %s, expected %s\n", data, first);
        harness_failures++;
    }
}

static bool
is_from(const struct tws_address *peer, int fd)
{
    const struct sockaddr_in *from =
        (const struct sockaddr_in *)&peer->storage;
    struct sockaddr_in own;
    socklen_t length = sizeof(own);
    CHECK_INT(getsockname(fd, (struct sockaddr *)&own, &length), 0);
    return from->sin_port == own.sin_port;
}

TEST(hands_over_what_is_connected)
{
    struct fixture f;
    open_fixture(&f, 4);
    CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
    int fd = dial(&f, REQUEST "rest");
    CHECK_INT(run(&f), TWS_ACCEPTOR_CONNECTED);
    CHECK_BYTES(tws_buffer_data(&f.accepted.head),
                tws_buffer_length(&f.accepted.head), REQUEST);
    CHECK_BYTES(tws_buffer_data(&f.accepted.rest),
                tws_buffer_length(&f.accepted.rest), "rest");
    CHECK(is_from(&f.accepted.peer, fd));
    check_answer(fd, "HTTP/1.1 101 Switching Protocols\r\n");
    CHECK_INT(tws_acceptor_half_open(f.acceptor), 0);
    CHECK_INT(write(f.accepted.transport.fd, "x", 1), 1);
    close(f.accepted.transport.fd);
    tws_accepted_release(&f.accepted);
    close(fd);
    close_fixture(&f);
}

TEST(head_in_pieces)
{
    struct fixture f;
    open_fixture(&f, 4);
    int fd = dial(&f, "GE");
    for (const char *p = &REQUEST[2]; *p != '\0'; p++) {
        (void)tws_acceptor_advance(f.acceptor, f.now, &f.accepted, &f.peer,
                                   &f.err);
        CHECK_INT(write(fd, p, 1), 1);
        CHECK_INT(tws_acceptor_wait(f.acceptor, f.now, SECOND, &f.err),
                  TWS_OK);
    }
    CHECK_INT(run(&f), TWS_ACCEPTOR_CONNECTED);
    CHECK_BYTES(tws_buffer_data(&f.accepted.head),
                tws_buffer_length(&f.accepted.head), REQUEST);
    CHECK_INT(tws_buffer_length(&f.accepted.rest), 0);
    close(f.accepted.transport.fd);
    tws_accepted_release(&f.accepted);
    close(fd);
    close_fixture(&f);
}

TEST(sends_the_wrong_ones_away)
{
    static const struct {
        const char *text;
        uint16_t status;
    } cases[] = {
        {"nonsense\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426},
        {"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 405},
    };
    struct fixture f;
    open_fixture(&f, 4);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        char first[32];
        int fd = dial(&f, cases[i].text);
        CHECK_INT(run(&f), TWS_ACCEPTOR_REFUSED);
        CHECK_INT(f.err.http_status, cases[i].status);
        CHECK(is_from(&f.peer, fd));
        (void)snprintf(first, sizeof(first), "HTTP/1.1 %u ",
                       (unsigned)cases[i].status);
        check_answer(fd, first);
        CHECK(is_end(fd));
        /* Told once, and kept until the peer has it. */
        CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
        CHECK_INT(tws_acceptor_half_open(f.acceptor), 1);
        close(fd);
        CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
        CHECK_INT(tws_acceptor_half_open(f.acceptor), 0);
    }
    close_fixture(&f);
}

TEST(one_that_breaks_off_is_told)
{
    struct fixture f;
    open_fixture(&f, 4);
    close(dial(&f, "GET"));
    CHECK_INT(run(&f), TWS_ACCEPTOR_REFUSED);
    CHECK_INT(f.err.http_status, 0);
    CHECK_INT(tws_acceptor_half_open(f.acceptor), 0);
    close_fixture(&f);
}

TEST(deadlines_are_kept)
{
    struct fixture f;
    open_fixture(&f, 4);
    int silent = dial(&f, "GET");
    CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
    f.now += 500 * SECOND;
    int wrong = dial(&f, "nonsense\r\n\r\n");
    CHECK_INT(run(&f), TWS_ACCEPTOR_REFUSED);
    CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
    CHECK_INT(tws_acceptor_half_open(f.acceptor), 2);
    f.now += 100 * SECOND - 1;
    /* The wait ends with the first deadline. */
    CHECK_INT(tws_acceptor_wait(f.acceptor, f.now, UINT64_MAX, &f.err),
              TWS_OK);
    f.now += 1;
    CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
    CHECK_INT(tws_acceptor_half_open(f.acceptor), 1);
    f.now += 399 * SECOND;
    CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
    f.now += SECOND;
    CHECK_INT(run(&f), TWS_ACCEPTOR_REFUSED);
    CHECK_INT(f.err.http_status, 408);
    CHECK(is_from(&f.peer, silent));
    CHECK(is_end(silent));
    CHECK_INT(tws_acceptor_half_open(f.acceptor), 0);
    close(silent);
    close(wrong);
    close_fixture(&f);
}

TEST(oldest_makes_room)
{
    struct fixture f;
    int fds[5];
    open_fixture(&f, 3);
    for (size_t i = 0; i < 3; i++) {
        fds[i] = dial(&f, "GET");
        CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
    }
    for (size_t i = 3; i < 5; i++) {
        fds[i] = dial(&f, "GET");
        CHECK_INT(run(&f), TWS_ACCEPTOR_REFUSED);
        CHECK(is_from(&f.peer, fds[i - 3]));
        CHECK(is_end(fds[i - 3]));
        CHECK_INT(tws_acceptor_half_open(f.acceptor), 3);
    }
    /* The others go on. */
    CHECK_INT(write(fds[3], &REQUEST[3], strlen(REQUEST) - 3),
              (long long)strlen(REQUEST) - 3);
    CHECK_INT(run(&f), TWS_ACCEPTOR_CONNECTED);
    CHECK(is_from(&f.accepted.peer, fds[3]));
    close(f.accepted.transport.fd);
    tws_accepted_release(&f.accepted);
    for (size_t i = 0; i < 5; i++) {
        close(fds[i]);
    }
    close_fixture(&f);
}

TEST(many_are_ready_at_once)
{
    struct fixture f;
    int fds[40];
    int connected = 0;
    int refused = 0;
    open_fixture(&f, 64);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(fds); i++) {
        fds[i] = dial(&f, i % 4 == 0 ? "nonsense\r\n\r\n" : REQUEST);
    }
    for (int event = run(&f); event != TWS_ACCEPTOR_IDLE; event = run(&f)) {
        if (event == TWS_ACCEPTOR_CONNECTED) {
            connected++;
            close(f.accepted.transport.fd);
            tws_accepted_release(&f.accepted);
        }
        refused += event == TWS_ACCEPTOR_REFUSED;
    }
    CHECK_INT(connected, 30);
    CHECK_INT(refused, 10);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(fds); i++) {
        close(fds[i]);
    }
    close_fixture(&f);
}

TEST(system_that_can_not_accept)
{
    struct rlimit before;
    struct fixture f;
    open_fixture(&f, 4);
    int fd = dial(&f, REQUEST);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
    int lowest = dup(fd); /* the number that accept() would give */
    CHECK(lowest >= 0 && close(lowest) == 0);
    struct rlimit none = {.rlim_cur = (rlim_t)lowest,
                          .rlim_max = before.rlim_max};
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_INT(run(&f), TWS_ACCEPTOR_FAILED);
    CHECK_INT(f.err.sys_errno, EMFILE);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
    /* Another one, as valgrind's accept() loses the first. */
    int other = dial(&f, REQUEST);
    CHECK_INT(run(&f), TWS_ACCEPTOR_CONNECTED);
    close(f.accepted.transport.fd);
    tws_accepted_release(&f.accepted);
    close(fd);
    close(other);
    close_fixture(&f);
}

TEST(listener_that_is_shut_down)
{
    struct fixture f;
    open_fixture(&f, 4);
    CHECK_INT(shutdown(f.listener, SHUT_RDWR), 0);
    CHECK_INT(tws_acceptor_wait(f.acceptor, f.now, UINT64_MAX, &f.err),
              TWS_OS);
    CHECK_INT(f.err.sys_errno, EBADF);
    close_fixture(&f);
}

static void
on_alarm(int number)
{
    (void)number;
}

TEST(signal_ends_a_wait)
{
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    struct fixture f;
    open_fixture(&f, 4);
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &soon, NULL), 0);
    CHECK_INT(tws_acceptor_wait(f.acceptor, f.now, UINT64_MAX, &f.err),
              TWS_AGAIN);
    close_fixture(&f);
}

TEST(end_closes_what_is_half_open)
{
    struct fixture f;
    open_fixture(&f, 4);
    int silent = dial(&f, "GET");
    int wrong = dial(&f, "nonsense\r\n\r\n");
    CHECK_INT(run(&f), TWS_ACCEPTOR_REFUSED);
    CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
    tws_acceptor_free(f.acceptor);
    f.acceptor = NULL;
    CHECK(is_end(silent));
    check_answer(wrong, "HTTP/1.1 400 ");
    close(silent);
    close(wrong);
    close_fixture(&f); /* NULL is fine */
}

/* Accepts what the owner is asked about, with a note, and something of its
 * own. */
static void
accept_with(struct fixture *f, const char *note, struct tws_span extensions,
            void *user)
{
    const struct tws_http_limits limits = TWS_HTTP_LIMITS_DEFAULT;
    const struct tws_handshake_policy policy = {.protocol_count = 0};
    struct tws_http_head head;
    struct tws_handshake_request request;
    struct tws_span text = tws_acceptor_request(f->acceptor);
    CHECK_BYTES(text.data, text.length, REQUEST);
    CHECK_INT(tws_http_parse_request(text.data, text.length, &limits, &head,
                                     &f->err),
              TWS_OK);
    CHECK_INT(tws_handshake_judge(&head, &policy, &request, &f->err), TWS_OK);
    struct tws_span span = {.data = note, .length = strlen(note)};
    CHECK_INT(tws_acceptor_accept(f->acceptor, &request, extensions, span,
                                  user, &f->err),
              TWS_OK);
}

static void
accept_it(struct fixture *f, const char *note)
{
    accept_with(f, note, TWS_SPAN(""), NULL);
}

static bool
holds(const struct tws_buffer *buffer, const char *text)
{
    struct tws_span got = {.data = (const char *)tws_buffer_data(buffer),
                           .length = tws_buffer_length(buffer)};
    return tws_span_equal(
        got, (struct tws_span){.data = text, .length = strlen(text)});
}

static void
check_accepted(struct fixture *f, int fd, const char *note, const char *rest)
{
    CHECK(is_from(&f->accepted.peer, fd));
    check_answer(fd, "HTTP/1.1 101 Switching Protocols\r\n");
    CHECK_BYTES(tws_buffer_data(&f->accepted.head),
                tws_buffer_length(&f->accepted.head), REQUEST);
    CHECK(holds(&f->accepted.note, note));
    CHECK(holds(&f->accepted.rest, rest));
    close(f->accepted.transport.fd);
    tws_accepted_release(&f->accepted);
}

TEST(owner_is_asked_and_accepts)
{
    static const char *const RESTS[] = {"", "rest"};
    struct fixture f;
    open_fixture_with(&f, 4, true);
    for (size_t i = 0; i < 2; i++) {
        /* In one read, and in parts. */
        char text[512];
        (void)snprintf(text, sizeof(text), "%s%s", REQUEST, RESTS[i]);
        int fd = dial(&f, text);
        CHECK_INT(run(&f), TWS_ACCEPTOR_REQUEST);
        CHECK(is_from(&f.peer, fd));
        accept_it(&f, "who");
        CHECK_INT(run(&f), TWS_ACCEPTOR_CONNECTED);
        check_accepted(&f, fd, "who", RESTS[i]);
        close(fd);
        fd = dial(&f, "GET");
        CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
        CHECK_INT(write(fd, text + 3, strlen(text) - 3),
                  (long long)strlen(text) - 3);
        CHECK_INT(run(&f), TWS_ACCEPTOR_REQUEST);
        accept_it(&f, "?");
        CHECK_INT(run(&f), TWS_ACCEPTOR_CONNECTED);
        check_accepted(&f, fd, "?", RESTS[i]);
        close(fd);
    }
    CHECK_INT(tws_acceptor_half_open(f.acceptor), 0);
    close_fixture(&f);
}

TEST(what_is_the_owners_comes_out_with_the_connection)
{
    struct fixture f;
    open_fixture_with(&f, 4, true);
    discarded = 0;
    int fd = dial(&f, REQUEST);
    CHECK_INT(run(&f), TWS_ACCEPTOR_REQUEST);
    accept_with(&f, "", TWS_SPAN("x-one; a=1"), mine);
    CHECK_INT(run(&f), TWS_ACCEPTOR_CONNECTED);
    CHECK(f.accepted.user == mine);
    char data[1024] = "";
    CHECK(read(fd, data, sizeof(data) - 1) > 0);
    CHECK(strstr(data, "\r\nSec-WebSocket-Extensions: x-one; a=1\r\n")
          != NULL);
    close(f.accepted.transport.fd);
    tws_accepted_release(&f.accepted);
    close(fd);
    CHECK_INT(discarded, 0);
    close_fixture(&f);
    CHECK_INT(discarded, 0);
}

TEST(what_is_the_owners_comes_back)
{
    struct fixture f;
    open_fixture_with(&f, 4, true);
    discarded = 0;
    /* Too late, and with the end of all. */
    int late = dial(&f, REQUEST);
    CHECK_INT(run(&f), TWS_ACCEPTOR_REQUEST);
    accept_with(&f, "", TWS_SPAN(""), mine);
    f.now += 1000 * SECOND;
    CHECK_INT(run(&f), TWS_ACCEPTOR_REFUSED);
    CHECK_INT(discarded, 1);
    close(late);
    int fd = dial(&f, REQUEST);
    CHECK_INT(run(&f), TWS_ACCEPTOR_REQUEST);
    accept_with(&f, "", TWS_SPAN(""), mine);
    close_fixture(&f);
    CHECK_INT(discarded, 2);
    close(fd);
}

TEST(owner_is_asked_and_answers)
{
    struct fixture f;
    open_fixture_with(&f, 4, true);
    int fd = dial(&f, REQUEST);
    CHECK_INT(run(&f), TWS_ACCEPTOR_REQUEST);
    CHECK_INT(tws_acceptor_answer(
                  f.acceptor,
                  TWS_SPAN("HTTP/1.1 401 Unauthorized\r\n\r\nwho?"), &f.err),
              TWS_OK);
    f.now += 1000 * SECOND; /* a refusal is not told to be late */
    CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
    check_answer(fd, "HTTP/1.1 401 Unauthorized\r\n\r\nwho?");
    CHECK(is_end(fd));
    CHECK_INT(tws_acceptor_half_open(f.acceptor), 1); /* lingers */
    f.now += 100 * SECOND;
    CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
    CHECK_INT(tws_acceptor_half_open(f.acceptor), 0);
    close(fd);
    /* What is no upgrade that the policy allows is none of its business. */
    fd = dial(&f, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_INT(run(&f), TWS_ACCEPTOR_REFUSED);
    CHECK_INT(f.err.http_status, 426);
    close(fd);
    close_fixture(&f);
}

TEST(owner_answers_and_goes)
{
    struct fixture f;
    open_fixture_with(&f, 4, true);
    int fd = dial(&f, REQUEST);
    CHECK_INT(run(&f), TWS_ACCEPTOR_REQUEST);
    CHECK_INT(tws_acceptor_answer_now(f.acceptor, f.now,
                                      TWS_SPAN("HTTP/1.1 500 Oh\r\n\r\nsorry"),
                                      &f.err),
              TWS_OK);
    /* Nothing is called for it. */
    check_answer(fd, "HTTP/1.1 500 Oh\r\n\r\nsorry");
    CHECK(is_end(fd));
    CHECK_INT(tws_acceptor_half_open(f.acceptor), 1); /* lingers */
    /* But for others, where the owner goes on. */
    int other = dial(&f, REQUEST);
    CHECK_INT(run(&f), TWS_ACCEPTOR_REQUEST);
    accept_it(&f, "");
    CHECK_INT(run(&f), TWS_ACCEPTOR_CONNECTED);
    check_accepted(&f, other, "", "");
    f.now += 100 * SECOND;
    CHECK_INT(run(&f), TWS_ACCEPTOR_IDLE);
    CHECK_INT(tws_acceptor_half_open(f.acceptor), 0);
    close(fd);
    close(other);
    close_fixture(&f);
}

TEST(what_is_not_decided_ends)
{
    struct fixture f;
    open_fixture_with(&f, 4, true);
    int fd = dial(&f, REQUEST);
    int other = dial(&f, REQUEST);
    CHECK_INT(run(&f), TWS_ACCEPTOR_REQUEST);
    CHECK(is_from(&f.peer, fd));
    CHECK_INT(run(&f), TWS_ACCEPTOR_REQUEST);
    CHECK(is_end(fd));
    CHECK(is_from(&f.peer, other));
    accept_it(&f, "");
    CHECK_INT(run(&f), TWS_ACCEPTOR_CONNECTED);
    check_accepted(&f, other, "", "");
    close(fd);
    close(other);
    /* Nor while it is asked. */
    fd = dial(&f, REQUEST);
    CHECK_INT(run(&f), TWS_ACCEPTOR_REQUEST);
    tws_acceptor_free(f.acceptor);
    f.acceptor = NULL;
    CHECK(is_end(fd));
    close(fd);
    close_fixture(&f);
}

TEST(what_is_accepted_too_late_ends)
{
    struct fixture f;
    open_fixture_with(&f, 4, true);
    int fd = dial(&f, REQUEST);
    CHECK_INT(run(&f), TWS_ACCEPTOR_REQUEST);
    accept_it(&f, "who");
    f.now += 1000 * SECOND;
    CHECK_INT(run(&f), TWS_ACCEPTOR_REFUSED);
    CHECK_INT(f.err.http_status, 408);
    CHECK(is_from(&f.peer, fd));
    CHECK(is_end(fd));
    close(fd);
    close_fixture(&f);
}

TEST(others_go_on_while_the_owner_decides)
{
    struct fixture f;
    int fds[8];
    int asked = 0;
    int connected = 0;
    open_fixture_with(&f, 16, true);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(fds); i++) {
        fds[i] = dial(&f, i % 2 == 0 ? REQUEST : "GET");
    }
    for (int event = run(&f); event != TWS_ACCEPTOR_IDLE; event = run(&f)) {
        if (event == TWS_ACCEPTOR_REQUEST) {
            asked++;
            accept_it(&f, "x");
            continue;
        }
        CHECK_INT(event, TWS_ACCEPTOR_CONNECTED);
        connected++;
        close(f.accepted.transport.fd);
        tws_accepted_release(&f.accepted);
    }
    CHECK_INT(asked, 4);
    CHECK_INT(connected, 4);
    CHECK_INT(tws_acceptor_half_open(f.acceptor), 4);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(fds); i++) {
        close(fds[i]);
    }
    close_fixture(&f);
}

RUN(T(hands_over_what_is_connected), T(head_in_pieces),
    T(sends_the_wrong_ones_away), T(one_that_breaks_off_is_told),
    T(deadlines_are_kept), T(oldest_makes_room), T(many_are_ready_at_once),
    T(system_that_can_not_accept), T(listener_that_is_shut_down),
    T(signal_ends_a_wait), T(end_closes_what_is_half_open),
    T(owner_is_asked_and_accepts),
    T(what_is_the_owners_comes_out_with_the_connection),
    T(what_is_the_owners_comes_back), T(owner_is_asked_and_answers),
    T(owner_answers_and_goes), T(what_is_not_decided_ends),
    T(what_is_accepted_too_late_ends), T(others_go_on_while_the_owner_decides))
