/* What the tests of the engine share: a server with handlers in C that runs
 * on a thread of its own, and raw clients that write their frames by hand.
 * Without hooks the server accepts every upgrade and echoes. */
#ifndef TWS_TESTS_ENGINE_FIXTURE_H
#define TWS_TESTS_ENGINE_FIXTURE_H

#include "engine/server.h"

#include "poller_fixture.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

enum { PATIENCE_SECONDS = 20 }; /* a slow machine must not fail a test */

#define EVENTUALLY(condition)                                                 \
    do {                                                                      \
        uint64_t eventually_end =                                             \
            tws_clock_now() + PATIENCE_SECONDS * 1000 * MILLISECOND;          \
        while (!(condition) && tws_clock_now() < eventually_end) {            \
            pause_for(MILLISECOND / 2);                                       \
        }                                                                     \
        CHECK(condition);                                                     \
    } while (0)

static char pattern[1 << 20]; /* printable; fixture_init() fills it once */

struct fixture {
    struct tws_server_options options; /* may be changed before the start */
    enum tws_poller_kind kind;
    int send_room; /* kernel's buffer of each client; 0: the default */
    void *context; /* the test's own */
    bool hold;     /* keep a reference to the first client: `held` */

    /* NULL: what is said above. */
    void (*on_request)(struct fixture *fixture,
                       struct tws_handshake *handshake,
                       const struct tws_http_head *head,
                       const struct tws_handshake_request *request);
    void (*on_open)(struct fixture *fixture, struct tws_client *client);
    void (*on_message)(struct fixture *fixture, struct tws_client *client,
                       const struct tws_event *event);
    void (*on_ping)(struct fixture *fixture, struct tws_client *client);
    void (*on_pong)(struct fixture *fixture, struct tws_client *client);
    void (*on_close)(struct fixture *fixture, struct tws_client *client);
    void (*on_refused)(struct fixture *fixture, const struct tws_error *err);
    void (*on_pause)(struct fixture *fixture, const struct tws_error *err);

    struct tws_server *server;
    int listener;
    struct sockaddr_in address;
    size_t fds_before;
    pthread_t thread;
    pthread_mutex_t exclusion;
    bool inside; /* the driver holds the exclusion */
    bool joined;
    enum tws_status status; /* of tws_server_run() */

    _Atomic(struct tws_client *) held;
    atomic_int requests;
    atomic_int accepted;
    atomic_int discarded;
    atomic_int opened;
    atomic_int closed;
    atomic_int refused;
    atomic_int messages;
    atomic_int pings;
    atomic_int pongs;
    atomic_int pauses;
    atomic_int last_code;        /* of the last close */
    atomic_int last_http_status; /* of the last refusal */
    char last_reason[200];       /* of the last close; read it after that */
};

/* What the server's `user` is here: exactly one end for each. */
struct visitor {
    struct fixture *fixture;
    bool opened;
    unsigned messages;
};

static inline size_t
count_fds(void)
{
    size_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    if (directory != NULL) {
        while (readdir(directory) != NULL) {
            count++;
        }
        closedir(directory);
    }
    return count;
}

/* ---- handlers ---------------------------------------------------------- */

static inline void
fixture_leave(void *context)
{
    struct fixture *fixture = context;
    CHECK(fixture->inside);
    fixture->inside = false;
    pthread_mutex_unlock(&fixture->exclusion);
}

static inline void
fixture_enter(void *context)
{
    struct fixture *fixture = context;
    pthread_mutex_lock(&fixture->exclusion);
    CHECK(!fixture->inside);
    fixture->inside = true;
}

static inline enum tws_status
fixture_accept(struct fixture *fixture, struct tws_handshake *handshake,
               const struct tws_handshake_request *request)
{
    struct tws_error err;
    struct visitor *visitor = calloc(1, sizeof(*visitor));
    if (visitor == NULL) {
        abort();
    }
    visitor->fixture = fixture;
    enum tws_status status =
        tws_handshake_accept(handshake, request, visitor, &err);
    if (status == TWS_OK) {
        fixture->accepted++;
    }
    else {
        free(visitor);
    }
    return status;
}

static inline void
fixture_request(void *context, struct tws_handshake *handshake,
                const struct tws_http_head *head,
                const struct tws_handshake_request *request)
{
    struct fixture *fixture = context;
    struct tws_error err;
    CHECK(fixture->inside);
    fixture->requests++;
    if (fixture->on_request != NULL) {
        fixture->on_request(fixture, handshake, head, request);
        return;
    }
    if (request->upgrade) {
        CHECK_INT(fixture_accept(fixture, handshake, request), TWS_OK);
        return;
    }
    CHECK_INT(tws_handshake_answer(
                  handshake,
                  TWS_SPAN("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
                  &err),
              TWS_OK);
}

static inline void
fixture_refused(void *context, const struct tws_address *peer,
                const struct tws_error *err)
{
    struct fixture *fixture = context;
    CHECK(fixture->inside);
    CHECK(peer->length > 0);
    fixture->last_http_status = err->http_status;
    if (fixture->on_refused != NULL) {
        fixture->on_refused(fixture, err);
    }
    fixture->refused++;
}

static inline void
fixture_discard(void *context, void *user)
{
    struct fixture *fixture = context;
    struct visitor *visitor = user;
    CHECK(fixture->inside);
    CHECK(visitor->fixture == fixture && !visitor->opened);
    free(visitor);
    fixture->discarded++;
}

static inline void
fixture_open(void *context, struct tws_client *client)
{
    struct fixture *fixture = context;
    struct visitor *visitor = client->user;
    CHECK(fixture->inside);
    CHECK(visitor->fixture == fixture && !visitor->opened);
    visitor->opened = true;
    if (fixture->hold && fixture->held == NULL) {
        tws_client_retain(client);
        fixture->held = client;
    }
    if (fixture->on_open != NULL) {
        fixture->on_open(fixture, client);
    }
    fixture->opened++;
}

static inline enum tws_status
echo(struct tws_client *client, const struct tws_event *event)
{
    struct tws_error err;
    struct tws_span payload = {.data = (const char *)event->data,
                               .length = event->length};
    uint8_t opcode =
        event->type == TWS_EVENT_TEXT ? TWS_OPCODE_TEXT : TWS_OPCODE_BINARY;
    return tws_client_send(client, opcode, payload, 0, &err);
}

static inline void
fixture_message(void *context, struct tws_client *client,
                const struct tws_event *event)
{
    struct fixture *fixture = context;
    struct visitor *visitor = client->user;
    CHECK(fixture->inside && visitor->opened);
    CHECK(event->type == TWS_EVENT_TEXT || event->type == TWS_EVENT_BINARY);
    visitor->messages++;
    if (fixture->on_message != NULL) {
        fixture->on_message(fixture, client, event);
    }
    else {
        (void)echo(client, event); /* others may have closed it */
    }
    fixture->messages++;
}

static inline void
fixture_ping(void *context, struct tws_client *client,
             const struct tws_event *event)
{
    struct fixture *fixture = context;
    CHECK(fixture->inside && ((struct visitor *)client->user)->opened);
    CHECK_INT(event->type, TWS_EVENT_PING);
    if (fixture->on_ping != NULL) {
        fixture->on_ping(fixture, client);
    }
    fixture->pings++;
}

static inline void
fixture_pong(void *context, struct tws_client *client,
             const struct tws_event *event)
{
    struct fixture *fixture = context;
    CHECK(fixture->inside && ((struct visitor *)client->user)->opened);
    CHECK_INT(event->type, TWS_EVENT_PONG);
    if (fixture->on_pong != NULL) {
        fixture->on_pong(fixture, client);
    }
    fixture->pongs++;
}

static inline void
fixture_close(void *context, struct tws_client *client, uint16_t code,
              struct tws_span reason)
{
    struct fixture *fixture = context;
    struct visitor *visitor = client->user;
    CHECK(fixture->inside && visitor->opened);
    CHECK(reason.length < sizeof(fixture->last_reason));
    memcpy(fixture->last_reason, reason.data, reason.length);
    fixture->last_reason[reason.length] = '\0';
    fixture->last_code = code;
    if (fixture->on_close != NULL) {
        fixture->on_close(fixture, client);
    }
    free(visitor);
    fixture->closed++;
}

static inline void
fixture_pause(void *context, const struct tws_error *err)
{
    struct fixture *fixture = context;
    CHECK(fixture->inside);
    if (fixture->on_pause != NULL) {
        fixture->on_pause(fixture, err);
    }
    fixture->pauses++;
}

/* ---- the server -------------------------------------------------------- */

static inline void
fixture_init(struct fixture *fixture, enum tws_poller_kind kind)
{
    *fixture = (struct fixture){
        .kind = kind,
        .options =
            {
                .http = TWS_HTTP_LIMITS_DEFAULT,
                .message = {.size = 1 << 20, .fragments = 1000},
                .open_timeout = PATIENCE_SECONDS * 1000 * MILLISECOND,
                .close_timeout = PATIENCE_SECONDS * 1000 * MILLISECOND,
                .high_water = 256 * 1024,
            },
    };
    fixture->fds_before = count_fds();
    if (pattern[0] == '\0') {
        for (size_t i = 0; i < sizeof(pattern); i++) {
            pattern[i] = (char)('a' + i % 23);
        }
    }
}

static inline void *
fixture_main(void *argument)
{
    struct fixture *fixture = argument;
    struct tws_error err;
    fixture_enter(fixture);
    fixture->status = tws_server_run(fixture->server, &err);
    fixture_leave(fixture);
    return NULL;
}

static inline void
must(bool good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1); /* no test can go on */
    }
}

/* A listening socket and a server for it that does not run yet. */
static inline void
fixture_make(struct fixture *fixture)
{
    struct tws_error err;
    socklen_t size = sizeof(fixture->address);
    fixture->address = (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    fixture->listener =
        socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must(fixture->listener >= 0, "socket");
    if (fixture->send_room != 0) {
        must(setsockopt(fixture->listener, SOL_SOCKET, SO_SNDBUF,
                        &fixture->send_room, sizeof(fixture->send_room))
                 == 0,
             "SO_SNDBUF"); /* what is accepted inherits it */
    }
    must(bind(fixture->listener, (struct sockaddr *)&fixture->address, size)
             == 0,
         "bind");
    must(listen(fixture->listener, 512) == 0, "listen");
    must(getsockname(fixture->listener, (struct sockaddr *)&fixture->address,
                     &size)
             == 0,
         "getsockname");
    const struct tws_handlers handlers = {
        .context = fixture,
        .leave = fixture_leave,
        .enter = fixture_enter,
        .request = fixture_request,
        .refused = fixture_refused,
        .discard = fixture_discard,
        .open = fixture_open,
        .message = fixture_message,
        .ping = fixture_ping,
        .pong = fixture_pong,
        .close = fixture_close,
        .accept_paused = fixture_pause,
    };
    pthread_mutex_init(&fixture->exclusion, NULL);
    must(tws_server_new(fixture->listener, fixture->kind, &fixture->options,
                        &handlers, &fixture->server, &err)
             == TWS_OK,
         "tws_server_new");
}

static inline void
fixture_run(struct fixture *fixture)
{
    must(pthread_create(&fixture->thread, NULL, fixture_main, fixture) == 0,
         "pthread_create");
}

static inline void
fixture_start(struct fixture *fixture)
{
    fixture_make(fixture);
    fixture_run(fixture);
}

static inline void
fixture_join(struct fixture *fixture)
{
    if (!fixture->joined) {
        CHECK_INT(pthread_join(fixture->thread, NULL), 0);
        CHECK_INT(fixture->status, TWS_OK);
        fixture->joined = true;
    }
}

/* Stops where the test has not done so, and looks whether everything has
 * come to an end. The test has closed its own descriptors. */
static inline void
fixture_end(struct fixture *fixture)
{
    tws_server_stop(fixture->server, TWS_CLOSE_GOING_AWAY, TWS_SPAN("end"),
                    PATIENCE_SECONDS * 1000 * MILLISECOND);
    fixture_join(fixture);
    CHECK_INT(tws_server_count(fixture->server), 0);
    CHECK_INT(fixture->accepted, fixture->discarded + fixture->opened);
    CHECK_INT(fixture->opened, fixture->closed);
    if (fixture->held != NULL) {
        tws_client_release(fixture->held);
    }
    tws_server_free(fixture->server);
    pthread_mutex_destroy(&fixture->exclusion);
    CHECK_INT(close(fixture->listener), 0);
    CHECK_INT(count_fds(), fixture->fds_before);
}

/* ---- raw clients ------------------------------------------------------- */

#define UPGRADE_REQUEST                                                       \
    "GET /chat HTTP/1.1\r\n"                                                  \
    "Host: localhost\r\n"                                                     \
    "Upgrade: websocket\r\n"                                                  \
    "Connection: Upgrade\r\n"                                                 \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"                         \
    "Sec-WebSocket-Version: 13\r\n"                                           \
    "\r\n"

/* Its receive buffer is `room` bytes where that is not 0. Blocking, but no
 * call waits for ever. */
static inline int
dial_small(const struct fixture *fixture, int room)
{
    struct timeval limit = {.tv_sec = PATIENCE_SECONDS};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0, "socket");
    if (room != 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    must(connect(fd, (const struct sockaddr *)&fixture->address,
                 sizeof(fixture->address))
             == 0,
         "connect");
    return fd;
}

static inline int
dial(const struct fixture *fixture)
{
    return dial_small(fixture, 0);
}

/* Closes with a reset instead of an end. */
static inline void
reset_fd(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    CHECK_INT(close(fd), 0);
}

/* False where the peer does not take it. */
static inline bool
offer(int fd, const void *data, size_t length)
{
    const uint8_t *at = data;
    while (length > 0) {
        ssize_t n = send(fd, at, length, MSG_NOSIGNAL);
        if (n < 0) {
            return false;
        }
        at += n;
        length -= (size_t)n;
    }
    return true;
}

static inline void
give(int fd, const void *data, size_t length)
{
    CHECK(offer(fd, data, length));
}

static inline bool
take_bytes(int fd, void *data, size_t length)
{
    uint8_t *at = data;
    while (length > 0) {
        ssize_t n = recv(fd, at, length, 0);
        if (n <= 0) {
            return false;
        }
        at += n;
        length -= (size_t)n;
    }
    return true;
}

/* Reads away what comes; true where it ends with the end of the stream and
 * not with a reset or a time-out. */
static inline bool
read_to_end(int fd)
{
    char bytes[4096];
    ssize_t n;
    do {
        n = recv(fd, bytes, sizeof(bytes), 0);
    } while (n > 0);
    return n == 0;
}

/* Reads a head up to its empty line and not a byte further. */
static inline bool
take_head(int fd, char *head, size_t size)
{
    size_t length = 0;
    while (length + 1 < size && take_bytes(fd, head + length, 1)) {
        length++;
        head[length] = '\0';
        if (length >= 4 && memcmp(head + length - 4, "\r\n\r\n", 4) == 0) {
            return true;
        }
    }
    return false;
}

static inline void
expect_101(int fd)
{
    char head[1024];
    CHECK(take_head(fd, head, sizeof(head)));
    CHECK(strncmp(head, "HTTP/1.1 101 ", 13) == 0);
    CHECK(strstr(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") != NULL);
}

static inline int
connect_small(const struct fixture *fixture, int room)
{
    int fd = dial_small(fixture, room);
    give(fd, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    expect_101(fd);
    return fd;
}

static inline int
connect_client(const struct fixture *fixture)
{
    return connect_small(fixture, 0);
}

enum {
    TEXT = TWS_FIN | TWS_OPCODE_TEXT,
    BINARY = TWS_FIN | TWS_OPCODE_BINARY,
    CLOSE = TWS_FIN | TWS_OPCODE_CLOSE,
    PING = TWS_FIN | TWS_OPCODE_PING,
    PONG = TWS_FIN | TWS_OPCODE_PONG,
    WIRE_HEADER_MAX = 14,
};

/* Writes a masked frame with this first byte into `out` (room for the payload
 * and WIRE_HEADER_MAX bytes) and returns its length. */
static inline size_t
write_frame(uint8_t *out, unsigned first, const void *payload, size_t length)
{
    static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    size_t at = 0;
    out[at++] = (uint8_t)first;
    if (length < 126) {
        out[at++] = (uint8_t)(0x80 | length);
    }
    else if (length < 65536) {
        out[at++] = 0x80 | 126;
        out[at++] = (uint8_t)(length >> 8);
        out[at++] = (uint8_t)length;
    }
    else {
        out[at++] = 0x80 | 127;
        for (int shift = 56; shift >= 0; shift -= 8) {
            out[at++] = (uint8_t)((uint64_t)length >> shift);
        }
    }
    memcpy(out + at, key, sizeof(key));
    at += sizeof(key);
    for (size_t i = 0; i < length; i++) {
        out[at++] = ((const uint8_t *)payload)[i] ^ key[i % 4];
    }
    return at;
}

static inline void
put_frame(int fd, unsigned first, const void *payload, size_t length)
{
    uint8_t *bytes = malloc(length + WIRE_HEADER_MAX);
    must(bytes != NULL, "malloc");
    give(fd, bytes, write_frame(bytes, first, payload, length));
    free(bytes);
}

static inline void
put_text(int fd, const char *text)
{
    put_frame(fd, TEXT, text, strlen(text));
}

static inline void
put_close(int fd, unsigned code)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    put_frame(fd, CLOSE, payload, code == 0 ? 0 : 2);
}

/* Reads one frame of a server; `data` (NUL-ended) is to be freed. */
struct wire_frame {
    uint8_t first;
    size_t length;
    uint8_t *data;
};

/* Where nothing comes any more each further wait takes its full time. */
static inline void
not_too_many(void)
{
    if (harness_failures > 20) {
        fprintf(stderr, "too many failures\n");
        exit(1);
    }
}

static inline bool
take_frame(int fd, struct wire_frame *frame)
{
    uint8_t header[10];
    not_too_many();
    *frame = (struct wire_frame){0};
    if (!take_bytes(fd, header, 2)) {
        return false;
    }
    frame->first = header[0];
    uint64_t length = header[1];
    CHECK((length & 0x80) == 0); /* a server does not mask */
    if (length == 126) {
        if (!take_bytes(fd, header, 2)) {
            return false;
        }
        length = tws_load_be16(header);
    }
    else if (length == 127) {
        if (!take_bytes(fd, header, 8)) {
            return false;
        }
        length = tws_load_be64(header);
    }
    must(length < (uint64_t)1 << 30, "length of a frame");
    frame->length = (size_t)length;
    frame->data = malloc(frame->length + 1);
    must(frame->data != NULL, "malloc");
    frame->data[frame->length] = '\0';
    if (!take_bytes(fd, frame->data, frame->length)) {
        free(frame->data);
        frame->data = NULL;
        return false;
    }
    return true;
}

static inline void
expect_frame(int fd, unsigned first, const void *payload, size_t length)
{
    struct wire_frame frame;
    bool got = take_frame(fd, &frame);
    CHECK(got);
    if (got) {
        CHECK_INT(frame.first, first);
        CHECK_INT(frame.length, length);
        CHECK(frame.length == length
              && (length == 0 || memcmp(frame.data, payload, length) == 0));
    }
    free(frame.data);
}

static inline void
expect_text(int fd, const char *text)
{
    expect_frame(fd, TEXT, text, strlen(text));
}

/* The next frame is a Close with this code; 1005: without one. */
static inline void
expect_close(int fd, unsigned code)
{
    struct wire_frame frame;
    bool got = take_frame(fd, &frame);
    CHECK(got);
    if (got) {
        CHECK_INT(frame.first, CLOSE);
        CHECK_INT(frame.length >= 2 ? tws_load_be16(frame.data) : 1005, code);
    }
    free(frame.data);
}

/* The closing handshake, begun here. */
static inline void
close_politely(int fd)
{
    put_close(fd, 1000);
    expect_close(fd, 1000);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
}

/* Whether the server still does its work. */
static inline void
expect_alive(const struct fixture *fixture)
{
    int fd = connect_client(fixture);
    put_text(fd, "still there?");
    expect_text(fd, "still there?");
    close_politely(fd);
}

#endif /* TWS_TESTS_ENGINE_FIXTURE_H */
