#include "net/dialing.h"

#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MS ((uint64_t)1000000)

static const struct tws_http_limits limits = {.head_bytes = 1024,
                                              .field_count = 16};

/* --- names: "many.example" is what a test says it is --- */

static const uint16_t *ports; /* of the addresses it has; ended by 0 */

int
getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
            struct addrinfo **answers)
{
    (void)port;
    (void)hints;
    if ((hints->ai_flags & AI_NUMERICHOST) != 0
        || strcmp(host, "many.example") != 0) {
        return EAI_NONAME;
    }
    struct addrinfo **end = answers;
    for (const uint16_t *p = ports; *p != 0; p++) {
        struct sockaddr_in *sin = calloc(1, sizeof(*sin));
        *end = calloc(1, sizeof(**end));
        sin->sin_family = AF_INET;
        sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        sin->sin_port = htons(*p);
        (*end)->ai_addr = (struct sockaddr *)sin;
        (*end)->ai_addrlen = sizeof(*sin);
        end = &(*end)->ai_next;
    }
    return 0;
}

void
freeaddrinfo(struct addrinfo *answers)
{
    while (answers != NULL) {
        struct addrinfo *next = answers->ai_next;
        free(answers->ai_addr);
        free(answers);
        answers = next;
    }
}

/* --- both ends --- */

struct ends {
    struct tws_dialing *dialing;
    int fd;
    int peer; /* -1: none (yet) */
    struct tws_error err;
    struct tws_http_head head;
};

static struct tws_handshake_offer
plain_offer(void)
{
    return (struct tws_handshake_offer){.target = TWS_SPAN("/chat"),
                                        .host = TWS_SPAN("example.com")};
}

/* On a stream that is connected. */
static void
open_ends(struct ends *ends, const struct tws_handshake_offer *offer,
          struct tws_span initial)
{
    struct tws_transport transport;
    int fds[2];
    memset(ends, 0, sizeof(*ends));
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    ends->fd = fds[0];
    ends->peer = fds[1];
    tws_transport_plain(&transport, fds[0]);
    CHECK_INT(tws_dialing_new(offer, &limits, &ends->dialing, &ends->err),
              TWS_OK);
    CHECK_INT(
        tws_dialing_connected(ends->dialing, &transport, initial, &ends->err),
        TWS_OK);
}

static void
close_ends(struct ends *ends)
{
    tws_dialing_free(ends->dialing);
    close(ends->fd);
    if (ends->peer >= 0) {
        close(ends->peer);
    }
}

static enum tws_dialing_step
advance(struct ends *ends)
{
    return tws_dialing_advance(ends->dialing, 0, UINT64_MAX, &ends->err);
}

/* Waits as the owner does, and goes on until there is a result. */
static enum tws_dialing_step
finish(struct ends *ends)
{
    enum tws_dialing_step step = advance(ends);
    while (step == TWS_DIALING_WAIT) {
        int fd;
        unsigned events;
        unsigned ready;
        uint64_t until;
        tws_dialing_wait(ends->dialing, &fd, &events, &until);
        if (tws_socket_wait(fd, events, 5000 * MS, &ready, &ends->err)
            != TWS_OK) {
            return TWS_DIALING_WAIT;
        }
        step = advance(ends);
    }
    return step;
}

static void
say(const struct ends *ends, const char *text)
{
    CHECK_INT(write(ends->peer, text, strlen(text)), (long long)strlen(text));
}

/* A good 101 for what the peer has been asked, and then `behind`. */
static void
welcome(const struct ends *ends, const char *fields, const char *behind)
{
    char request[2048] = "";
    char accept[TWS_ACCEPT_LENGTH];
    char answer[1024];
    struct tws_error err;
    ssize_t got = read(ends->peer, request, sizeof(request) - 1);
    CHECK(got > 0);
    const char *key = strstr(request, "Sec-WebSocket-Key: ");
    CHECK(key != NULL);
    if (key == NULL) {
        return;
    }
    CHECK_INT(tws_accept_key((struct tws_span){.data = key + 19,
                                               .length = TWS_KEY_LENGTH},
                             accept, &err),
              TWS_OK);
    (void)snprintf(answer, sizeof(answer),
                   "HTTP/1.1 101 Switching Protocols\r\n"
                   "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                   "Sec-WebSocket-Accept: %.28s\r\n%s\r\n%s",
                   accept, fields, behind);
    say(ends, answer);
}

static bool
contains(struct tws_span text, const char *part)
{
    return memmem(text.data, text.length, part, strlen(part)) != NULL;
}

/* --- the request --- */

TEST(request_is_written)
{
    struct ends ends;
    char data[1024];
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN(""));
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_ASKING);
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_ANSWERING);
    ssize_t got = read(ends.peer, data, sizeof(data));
    CHECK(got > 0);
    struct tws_span text = {.data = data, .length = (size_t)got};
    CHECK_INT(strncmp(data, "GET /chat HTTP/1.1\r\n", 20), 0);
    CHECK(contains(text, "\r\nHost: example.com\r\n"));
    CHECK_INT(tws_dialing_request(ends.dialing, &ends.head, &ends.err),
              TWS_OK);
    CHECK_BYTES(ends.head.target.data, ends.head.target.length, "/chat");
    close_ends(&ends);
}

TEST(host_of_the_offer_is_needed_no_longer)
{
    struct ends ends;
    char host[] = "example.com";
    struct tws_handshake_offer offer = plain_offer();
    offer.host.data = host;
    open_ends(&ends, &offer, TWS_SPAN(""));
    memset(host, 'X', sizeof(host) - 1);
    CHECK_INT(tws_dialing_request(ends.dialing, &ends.head, &ends.err),
              TWS_OK);
    const struct tws_http_field *field =
        tws_http_find(&ends.head, TWS_SPAN("Host"), NULL);
    CHECK(field != NULL);
    if (field != NULL) {
        CHECK_BYTES(field->value.data, field->value.length, "example.com");
    }
    close_ends(&ends);
}

TEST(keys_differ)
{
    char keys[8][TWS_KEY_LENGTH];
    for (size_t i = 0; i < 8; i++) {
        struct tws_dialing *dialing;
        struct tws_error err;
        struct tws_http_head head;
        struct tws_handshake_offer offer = plain_offer();
        CHECK_INT(tws_dialing_new(&offer, &limits, &dialing, &err), TWS_OK);
        CHECK_INT(tws_dialing_request(dialing, &head, &err), TWS_OK);
        const struct tws_http_field *field =
            tws_http_find(&head, TWS_SPAN("Sec-WebSocket-Key"), NULL);
        CHECK(field != NULL && field->value.length == TWS_KEY_LENGTH);
        if (field != NULL) {
            memcpy(keys[i], field->value.data, TWS_KEY_LENGTH);
        }
        for (size_t j = 0; j < i; j++) {
            CHECK(memcmp(keys[i], keys[j], TWS_KEY_LENGTH) != 0);
        }
        tws_dialing_free(dialing);
    }
    tws_dialing_free(NULL);
}

TEST(offer_that_is_none)
{
    struct tws_dialing *dialing = NULL;
    struct tws_error err;
    struct tws_handshake_offer offer = plain_offer();
    offer.target = TWS_SPAN("chat");
    CHECK_INT(tws_dialing_new(&offer, &limits, &dialing, &err), TWS_REFUSED);
    offer = plain_offer();
    offer.host = TWS_SPAN("");
    CHECK_INT(tws_dialing_new(&offer, &limits, &dialing, &err), TWS_REFUSED);
    CHECK(dialing == NULL);
}

TEST(host_field)
{
    static const struct {
        const char *host;
        uint16_t port;
        const char *expected;
    } cases[] = {
        {"example.com", 80, "example.com"},
        {"example.com", 443, "example.com:443"},
        {"127.0.0.1", 65535, "127.0.0.1:65535"},
        {"::1", 80, "[::1]"},
        {"2001:db8::1", 8000, "[2001:db8::1]:8000"},
        {"fe80::1%eth0", 8000, "[fe80::1]:8000"},
    };
    char out[TWS_HOST_FIELD_MAX + 1];
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        size_t length =
            tws_dialing_host_field(cases[i].host, cases[i].port, out);
        CHECK_INT(strcmp(out, cases[i].expected), 0);
        CHECK_INT(length, strlen(cases[i].expected));
    }
    char longest[TWS_HOST_MAX + 1];
    memset(longest, ':', TWS_HOST_MAX);
    longest[TWS_HOST_MAX] = '\0';
    CHECK_INT(tws_dialing_host_field(longest, 65535, out), TWS_HOST_FIELD_MAX);
}

/* --- the answer --- */

TEST(good_answer)
{
    static const struct tws_span protocols[] = {
        {.data = "a", .length = 1},
        {.data = "b", .length = 1},
    };
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    offer.protocols = protocols;
    offer.protocol_count = 2;
    open_ends(&ends, &offer, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    welcome(&ends, "Sec-WebSocket-Protocol: b\r\n", "rest");
    CHECK_INT(advance(&ends), TWS_DIALING_CONNECTED);
    struct tws_span protocol = tws_dialing_protocol(ends.dialing);
    struct tws_span rest = tws_dialing_rest(ends.dialing);
    CHECK_BYTES(protocol.data, protocol.length, "b");
    CHECK_BYTES(rest.data, rest.length, "rest");
    CHECK_INT(tws_dialing_answer(ends.dialing, &ends.head, &ends.err), TWS_OK);
    CHECK_INT(ends.head.status, 101);
    close_ends(&ends);
}

TEST(interim_answers_are_passed_over)
{
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    say(&ends, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
               "Link: x\r\n\r\n");
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    welcome(&ends, "", "");
    CHECK_INT(advance(&ends), TWS_DIALING_CONNECTED);
    CHECK_INT(tws_dialing_answer(ends.dialing, &ends.head, &ends.err), TWS_OK);
    CHECK_INT(ends.head.status, 101);
    CHECK_INT(tws_dialing_rest(ends.dialing).length, 0);
    close_ends(&ends);
}

TEST(bytes_read_before_are_part_of_the_answer)
{
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN("HTTP/1.1 500 O"));
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    say(&ends, "ops\r\nContent-Length: 0\r\n\r\n");
    CHECK_INT(advance(&ends), TWS_DIALING_REFUSED);
    CHECK_INT(ends.err.http_status, 500);
    close_ends(&ends);
}

static void
check_body(const char *answer, bool ended, enum tws_dialing_step step,
           uint16_t status, const char *expected)
{
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    say(&ends, answer);
    if (ended) {
        CHECK_INT(shutdown(ends.peer, SHUT_WR), 0);
    }
    CHECK_INT(advance(&ends), step);
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_REFUSING);
    tws_dialing_refusal(ends.dialing, &ends.err);
    CHECK_INT(ends.err.status, TWS_REFUSED);
    CHECK_INT(ends.err.http_status, status);
    struct tws_span body = tws_dialing_body(ends.dialing);
    CHECK_INT(body.length, strlen(expected));
    CHECK(body.length == strlen(expected)
          && memcmp(body.data, expected, body.length) == 0);
    CHECK_INT(tws_dialing_answer(ends.dialing, &ends.head, &ends.err), TWS_OK);
    CHECK_INT(ends.head.status, status);
    close_ends(&ends);
}

TEST(body_of_a_refusal)
{
    check_body("HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nbodyrest", false,
               TWS_DIALING_REFUSED, 404, "body");
    check_body("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", false,
               TWS_DIALING_REFUSED, 404, "");
    check_body("HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nbody", false,
               TWS_DIALING_WAIT, 404, "body");
    check_body("HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nbody", true,
               TWS_DIALING_REFUSED, 404, "body");
    check_body("HTTP/1.1 404 No\r\n\r\nbody", false, TWS_DIALING_WAIT, 404,
               "body");
    check_body("HTTP/1.1 404 No\r\n\r\nbody", true, TWS_DIALING_REFUSED, 404,
               "body");
    check_body("HTTP/1.1 204 No\r\n\r\nbody", false, TWS_DIALING_REFUSED, 204,
               "");
    check_body("HTTP/1.1 404 No\r\nContent-Length: x\r\n\r\nbody", true,
               TWS_DIALING_REFUSED, 404, "body");
    check_body("HTTP/1.1 404 No\r\nContent-Length: "
               "99999999999999999999999999999999\r\n\r\nbody",
               true, TWS_DIALING_REFUSED, 404, "body");
    check_body("HTTP/1.1 404 No\r\nContent-Length: 18446744073709551618\r\n"
               "\r\nbody",
               true, TWS_DIALING_REFUSED, 404, "body"); /* 2^64 + 2 */
    check_body("HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\nbody", false,
               TWS_DIALING_REFUSED, 101, "");
}

TEST(body_has_a_bound)
{
    static const char flood[4096];
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    enum tws_dialing_step step = TWS_DIALING_WAIT;
    size_t sent = 0;
    open_ends(&ends, &offer, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    say(&ends, "HTTP/1.1 500 No\r\n\r\n");
    while (step == TWS_DIALING_WAIT && sent < 10 * 1024 * 1024) {
        ssize_t written = write(ends.peer, flood, sizeof(flood));
        sent += written > 0 ? (size_t)written : 0;
        step = advance(&ends);
    }
    CHECK_INT(step, TWS_DIALING_REFUSED);
    CHECK_INT(tws_dialing_body(ends.dialing).length, TWS_DIALING_BODY_MAX);
    CHECK(sent < 2 * 1024 * 1024);
    close_ends(&ends);
}

TEST(no_answer)
{
    static const char *const answers[] = {
        "",
        "HTTP/1.1 101 Switch",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 101 x\nUpgrade: websocket\n\n",
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(answers); i++) {
        struct ends ends;
        struct tws_handshake_offer offer = plain_offer();
        open_ends(&ends, &offer, TWS_SPAN(""));
        CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
        say(&ends, answers[i]);
        CHECK_INT(shutdown(ends.peer, SHUT_WR), 0);
        CHECK_INT(advance(&ends), TWS_DIALING_FAILED);
        CHECK_INT(ends.err.status, TWS_REFUSED);
        CHECK_INT(tws_dialing_gai_error(ends.dialing), 0);
        close_ends(&ends);
    }
}

TEST(peer_that_is_gone)
{
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN(""));
    close(ends.peer);
    ends.peer = -1;
    CHECK_INT(advance(&ends), TWS_DIALING_FAILED);
    CHECK_INT(ends.err.status, TWS_OS);
    CHECK_INT(ends.err.sys_errno, EPIPE);
    close_ends(&ends);
}

/* --- connecting --- */

static int
listen_somewhere(int backlog, struct tws_address *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in *sin = (struct sockaddr_in *)&address->storage;
    *address = (struct tws_address){.length = sizeof(*sin)};
    sin->sin_family = AF_INET;
    sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_INT(bind(fd, (struct sockaddr *)sin, sizeof(*sin)), 0);
    CHECK_INT(listen(fd, backlog), 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)sin, &address->length), 0);
    return fd;
}

static uint16_t
port_of(const struct tws_address *address)
{
    return ntohs(((const struct sockaddr_in *)&address->storage)->sin_port);
}

static void
open_unconnected(struct ends *ends, struct tws_transport *transport)
{
    struct tws_handshake_offer offer = plain_offer();
    memset(ends, 0, sizeof(*ends));
    ends->peer = -1;
    ends->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    tws_transport_plain(transport, ends->fd);
    CHECK_INT(tws_dialing_new(&offer, &limits, &ends->dialing, &ends->err),
              TWS_OK);
}

static void
open_by_name(struct ends *ends, const uint16_t *many)
{
    struct tws_transport transport;
    struct tws_resolve *resolve;
    ports = many;
    open_unconnected(ends, &transport);
    CHECK_INT(
        tws_resolve_begin("many.example", 80, AF_INET, &resolve, &ends->err),
        TWS_OK);
    tws_dialing_by_name(ends->dialing, &transport, resolve);
    CHECK_INT(tws_dialing_state(ends->dialing), TWS_DIALING_RESOLVING);
}

static int
accept_one(int listener)
{
    unsigned ready;
    struct tws_address peer;
    struct tws_error err;
    int fd = -1;
    CHECK_INT(
        tws_socket_wait(listener, TWS_WAIT_READ, 5000 * MS, &ready, &err),
        TWS_OK);
    CHECK_INT(tws_socket_accept(listener, &fd, &peer, &err), TWS_OK);
    return fd;
}

TEST(by_address)
{
    struct ends ends;
    struct tws_transport transport;
    struct tws_address address;
    int listener = listen_somewhere(4, &address);
    open_unconnected(&ends, &transport);
    tws_dialing_by_address(ends.dialing, &transport, &address);
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_CONNECTING);
    tws_dialing_interrupt(ends.dialing); /* nothing happens */
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    ends.peer = accept_one(listener);
    while (tws_dialing_state(ends.dialing) < TWS_DIALING_ANSWERING) {
        CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    }
    welcome(&ends, "", "");
    CHECK_INT(finish(&ends), TWS_DIALING_CONNECTED);
    close_ends(&ends);
    close(listener);
}

TEST(address_where_nobody_listens)
{
    struct ends ends;
    struct tws_transport transport;
    struct tws_address address;
    close(listen_somewhere(4, &address));
    open_unconnected(&ends, &transport);
    tws_dialing_by_address(ends.dialing, &transport, &address);
    CHECK_INT(finish(&ends), TWS_DIALING_FAILED);
    CHECK_INT(ends.err.sys_errno, ECONNREFUSED);
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_CONNECTING);
    close_ends(&ends);
}

TEST(addresses_are_tried_in_turn)
{
    struct ends ends;
    struct tws_address closed[2];
    struct tws_address open;
    int listener = listen_somewhere(4, &open);
    for (size_t i = 0; i < 2; i++) {
        close(listen_somewhere(4, &closed[i]));
    }
    const uint16_t many[] = {port_of(&closed[0]), port_of(&closed[1]),
                             port_of(&open), port_of(&closed[0]), 0};
    open_by_name(&ends, many);
    while (tws_dialing_state(ends.dialing) < TWS_DIALING_ANSWERING) {
        int fd;
        unsigned events;
        unsigned ready;
        uint64_t until;
        CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
        tws_dialing_wait(ends.dialing, &fd, &events, &until);
        if (tws_dialing_state(ends.dialing) < TWS_DIALING_ANSWERING) {
            CHECK_INT(
                tws_socket_wait(fd, events, 5000 * MS, &ready, &ends.err),
                TWS_OK);
        }
    }
    ends.peer = accept_one(listener);
    welcome(&ends, "", "");
    CHECK_INT(finish(&ends), TWS_DIALING_CONNECTED);
    close_ends(&ends);
    close(listener);
}

TEST(error_of_the_last_address_counts)
{
    struct ends ends;
    struct tws_address closed;
    close(listen_somewhere(4, &closed));
    const uint16_t many[] = {port_of(&closed), port_of(&closed), 0};
    open_by_name(&ends, many);
    CHECK_INT(finish(&ends), TWS_DIALING_FAILED);
    CHECK_INT(ends.err.sys_errno, ECONNREFUSED);
    close_ends(&ends);
    const uint16_t none[] = {0};
    open_by_name(&ends, none);
    CHECK_INT(finish(&ends), TWS_DIALING_FAILED);
    CHECK_INT(ends.err.status, TWS_OS);
    close_ends(&ends);
}

TEST(name_without_an_address)
{
    struct ends ends;
    struct tws_transport transport;
    struct tws_resolve *resolve;
    open_unconnected(&ends, &transport);
    CHECK_INT(
        tws_resolve_begin("other.example", 80, AF_INET, &resolve, &ends.err),
        TWS_OK);
    tws_dialing_by_name(ends.dialing, &transport, resolve);
    CHECK_INT(finish(&ends), TWS_DIALING_FAILED);
    CHECK_INT(tws_dialing_gai_error(ends.dialing), EAI_NONAME);
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_RESOLVING);
    close_ends(&ends);
}

/* An address that does not answer has its share of the time, then the next
 * one has its turn on the same descriptor. */
TEST(address_that_hangs)
{
    struct ends ends;
    struct tws_address full;
    struct tws_address open;
    int others[3];
    int fd;
    unsigned events;
    unsigned ready;
    uint64_t until = 0;
    int hanging = listen_somewhere(0, &full);
    int listener = listen_somewhere(4, &open);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(others); i++) {
        others[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)tws_socket_connect(others[i], &full, &ends.err);
    }
    usleep(20000);
    const uint16_t many[] = {port_of(&full), port_of(&open), 0};
    open_by_name(&ends, many);
    enum tws_dialing_step step = TWS_DIALING_WAIT;
    while (tws_dialing_state(ends.dialing) == TWS_DIALING_RESOLVING) {
        tws_dialing_wait(ends.dialing, &fd, &events, &until);
        CHECK_INT(until, UINT64_MAX);
        (void)tws_socket_wait(fd, events, 5000 * MS, &ready, &ends.err);
        step = tws_dialing_advance(ends.dialing, 1000, 3000, &ends.err);
    }
    CHECK_INT(step, TWS_DIALING_WAIT);
    tws_dialing_wait(ends.dialing, &fd, &events, &until);
    CHECK_INT(fd, ends.fd);
    CHECK_INT(events, TWS_WAIT_WRITE);
    CHECK_INT(until, 2000);
    CHECK_INT(tws_dialing_advance(ends.dialing, 1999, 3000, &ends.err),
              TWS_DIALING_WAIT);
    CHECK_INT(tws_dialing_advance(ends.dialing, 2000, 3000, &ends.err),
              TWS_DIALING_WAIT);
    tws_dialing_wait(ends.dialing, &fd, &events, &until);
    CHECK_INT(until, UINT64_MAX); /* the last one has all that is left */
    ends.peer = accept_one(listener);
    while (tws_dialing_state(ends.dialing) < TWS_DIALING_ANSWERING) {
        CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    }
    welcome(&ends, "", "");
    CHECK_INT(finish(&ends), TWS_DIALING_CONNECTED);
    close_ends(&ends);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(others); i++) {
        close(others[i]);
    }
    close(hanging);
    close(listener);
}

/* A Unix socket whose listener is full says EAGAIN instead of waiting. */
TEST(queue_that_is_full)
{
    struct ends ends;
    struct tws_transport transport;
    struct tws_address address = {.length = sizeof(sa_family_t) + 8};
    struct sockaddr_un *sun = (struct sockaddr_un *)&address.storage;
    int others[2];
    int fd;
    unsigned events;
    uint64_t until;
    sun->sun_family = AF_UNIX; /* in the abstract name space */
    (void)snprintf(&sun->sun_path[1], 8, "%07u", (unsigned)getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_INT(bind(listener, (struct sockaddr *)sun, address.length), 0);
    CHECK_INT(listen(listener, 0), 0);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(others); i++) {
        others[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(others[i], (struct sockaddr *)sun, address.length);
    }
    open_unconnected(&ends, &transport);
    close(ends.fd);
    ends.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    tws_transport_plain(&transport, ends.fd);
    tws_dialing_by_address(ends.dialing, &transport, &address);
    for (uint64_t now = 0; now < 100 * MS; now += 10 * MS) {
        CHECK_INT(
            tws_dialing_advance(ends.dialing, now, UINT64_MAX, &ends.err),
            TWS_DIALING_WAIT);
        tws_dialing_wait(ends.dialing, &fd, &events, &until);
        CHECK_INT(fd, -1);
        CHECK_INT(until, now + 10 * MS);
    }
    close(accept_one(listener));
    CHECK_INT(advance(&ends), TWS_DIALING_WAIT);
    CHECK_INT(tws_dialing_state(ends.dialing), TWS_DIALING_ANSWERING);
    close_ends(&ends);
    close(others[0]);
    close(others[1]);
    close(listener);
}

RUN(T(request_is_written), T(host_of_the_offer_is_needed_no_longer),
    T(keys_differ), T(offer_that_is_none), T(host_field), T(good_answer),
    T(interim_answers_are_passed_over),
    T(bytes_read_before_are_part_of_the_answer), T(body_of_a_refusal),
    T(body_has_a_bound), T(no_answer), T(peer_that_is_gone), T(by_address),
    T(address_where_nobody_listens), T(addresses_are_tried_in_turn),
    T(error_of_the_last_address_counts), T(name_without_an_address),
    T(address_that_hangs), T(queue_that_is_full))
