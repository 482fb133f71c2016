/* What the tests of the engine share: a server with handlers in C that runs
 * on threads of its own, and raw clients that write their frames by hand.
 * Without hooks the server accepts every upgrade and echoes.
 *
 * The handlers check what the engine promises of them: the exclusion is held,
 * those of one client do not overlap and do not outlive it, and what was
 * handed out comes back exactly once. */
#ifndef TWS_TESTS_ENGINE_FIXTURE_H
#define TWS_TESTS_ENGINE_FIXTURE_H

#include "engine/server_parts.h"

#include "poller_fixture.h"
#include "raw_client.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#define SECOND (1000 * MILLISECOND)

enum { PATIENCE_SECONDS = 20 }; /* a slow machine must not fail a test */

enum { SPAWNED_MAX = 256, POOL_THREADS = 8 };

static const struct tws_agreed NOTHING_AGREED = {
    .extensions = {.data = ""},
};

#define EVENTUALLY(condition)                                                 \
    do {                                                                      \
        uint64_t eventually_end =                                             \
            tws_clock_now() + PATIENCE_SECONDS * SECOND;                      \
        while (!(condition) && tws_clock_now() < eventually_end) {            \
            pause_for(MILLISECOND / 2);                                       \
        }                                                                     \
        CHECK(condition);                                                     \
    } while (0)

static inline uint64_t
milliseconds_since(uint64_t began)
{
    return (tws_clock_now() - began) / MILLISECOND;
}

/* How a test of several threads is run. */
struct way {
    enum tws_poller_kind kind;
    bool unlocked; /* without an exclusion, as the engine needs none */
};

/* A test of this name that is run in each way. */
#define EACH_WAY(name)                                                        \
    static void name##_in(struct way way);                                    \
    TEST(name)                                                                \
    {                                                                         \
        for (int i = 0; i < 4 && harness_failures == 0; i++) {                \
            struct way way = {.kind = i % 2 == 0 ? TWS_POLLER_BEST            \
                                                 : TWS_POLLER_POLL,           \
                              .unlocked = i >= 2};                            \
            name##_in(way);                                                   \
            if (harness_failures > 0) {                                       \
                fprintf(stderr, "%s: failed in way %d\n", #name, i);          \
            }                                                                 \
        }                                                                     \
    }                                                                         \
    static void name##_in(struct way way)

static char pattern[1 << 20]; /* printable; fixture_init() fills it once */

struct fixture {
    struct tws_server_options options; /* may be changed before the start */
    enum tws_poller_kind kind;
    int send_room;    /* kernel's buffer of each client; 0: the default */
    void *context;    /* the test's own */
    bool hold;        /* keep a reference to the first client: `held` */
    unsigned threads; /* at most so many, as they are asked for; 0: one, and
                       * no other can be asked for */
    bool unlocked;    /* the exclusion excludes nobody */
    bool may_fail;    /* tws_server_work() may, see `status` */
    atomic_bool spawn_fails;
    int (*wrap)(const struct fixture *fixture, int fd); /* of a raw client,
                                                         * see engine_tls.h;
                                                         * NULL: it is plain */

    /* NULL: what is said above. */
    void (*on_request)(struct fixture *fixture,
                       struct tws_handshake *handshake,
                       const struct tws_http_head *head,
                       const struct tws_handshake_request *request);
    void (*on_open)(struct fixture *fixture, struct tws_client *client);
    void (*on_message)(struct fixture *fixture, struct tws_client *client,
                       const struct tws_event *event);
    void (*on_frame)(struct fixture *fixture, struct tws_client *client,
                     const struct tws_event *event);
    void (*on_ping)(struct fixture *fixture, struct tws_client *client,
                    const struct tws_event *event);
    void (*on_pong)(struct fixture *fixture, struct tws_client *client,
                    const struct tws_event *event);
    void (*on_sent)(struct fixture *fixture, struct tws_client *client,
                    void *receipt);
    void (*on_unsent)(struct fixture *fixture, void *receipt);
    void (*on_close)(struct fixture *fixture, struct tws_client *client,
                     const struct tws_ending *ending);
    void (*on_refused)(struct fixture *fixture, const struct tws_error *err);
    void (*on_accept_paused)(struct fixture *fixture,
                             const struct tws_error *err);
    void (*on_ended)(struct fixture *fixture);

    struct tws_server *server;
    int listener;
    struct sockaddr_in address;
    size_t fds_before;
    pthread_t thread; /* the first */
    bool began;
    bool joined;
    pthread_mutex_t exclusion;

    pthread_mutex_t record; /* of what follows, up to the atomics */
    pthread_t spawned[SPAWNED_MAX];
    unsigned spawned_count;
    enum tws_status status;        /* the first failure of a thread */
    struct tws_ending last_ending; /* read it when that close was counted */

    _Atomic(struct tws_client *) held;
    atomic_int requests;
    atomic_int accepted;
    atomic_int discarded;
    atomic_int opened;
    atomic_int closed;
    atomic_int refused;
    atomic_int messages;
    atomic_int frames;
    atomic_int pings;
    atomic_int pongs;
    atomic_int receipts; /* by fixture_send() */
    atomic_int sent;
    atomic_int unsent;
    atomic_int accept_pauses;
    atomic_int exhausted;
    atomic_int ended;
    atomic_int last_code;        /* of the last close */
    atomic_int last_by;          /* enum tws_ended_by */
    atomic_int last_http_status; /* of the last refusal */
};

/* What the server's `user` is here: exactly one end for each. */
struct visitor {
    struct fixture *fixture;
    atomic_bool busy; /* a handler of this client runs */
    bool opened;
    unsigned messages;
};

/* The fixture whose exclusion the thread holds. */
static _Thread_local struct fixture *inside_of;

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

/* ---- the exclusion ----------------------------------------------------- */

/* The token is the thread's own. */
static inline void *
fixture_leave(void *context)
{
    struct fixture *fixture = context;
    CHECK(inside_of == fixture);
    inside_of = NULL;
    if (!fixture->unlocked) {
        pthread_mutex_unlock(&fixture->exclusion);
    }
    return &inside_of;
}

static inline void
fixture_enter(void *context, void *token)
{
    struct fixture *fixture = context;
    if (!fixture->unlocked) {
        pthread_mutex_lock(&fixture->exclusion);
    }
    CHECK(inside_of == NULL);
    CHECK(token == &inside_of);
    inside_of = fixture;
}

/* In a handler: takes that long, as a call does that gives up the exclusion
 * but knows nothing of the engine. */
static inline void
fixture_pause(struct fixture *fixture, uint64_t ns)
{
    void *token = fixture_leave(fixture);
    pause_for(ns);
    fixture_enter(fixture, token);
}

/* The same until another thread sets *go. */
static inline void
fixture_block(struct fixture *fixture, atomic_bool *go)
{
    void *token = fixture_leave(fixture);
    EVENTUALLY(*go);
    fixture_enter(fixture, token);
}

/* In a handler: the next event of its client, as a program has it that reads
 * on by itself. */
static inline enum tws_status
fixture_next(struct fixture *fixture, struct tws_client *client,
             struct tws_event *event)
{
    struct tws_worker *worker = client->worker;
    CHECK(worker->client == client);
    for (;;) {
        enum tws_status status = tws_client_next(worker, client, event);
        if (status != TWS_AGAIN) {
            return status;
        }
        struct pollfd entry = {.fd = client->transport.fd, .events = POLLIN};
        (void)tws_server_before_wait(fixture->server);
        tws_client_flush(client);
        void *token = fixture_leave(fixture);
        CHECK_INT(poll(&entry, 1, PATIENCE_SECONDS * 1000), 1);
        fixture_enter(fixture, token);
        worker->drained = false;
        worker->reads = 0;
    }
}

/* ---- handlers ---------------------------------------------------------- */

static inline struct visitor *
visitor_begin(struct fixture *fixture, struct tws_client *client)
{
    struct visitor *visitor = client->user;
    CHECK(inside_of == fixture);
    CHECK(tws_client_is_served_here(client));
    if (visitor == NULL) {
        fprintf(stderr, "a handler was called after close\n");
        exit(1);
    }
    CHECK(visitor->fixture == fixture);
    CHECK(!atomic_exchange(&visitor->busy, true)); /* nor do they overlap */
    return visitor;
}

static inline void
visitor_end(struct fixture *fixture, struct visitor *visitor)
{
    CHECK(inside_of == fixture);
    CHECK(atomic_exchange(&visitor->busy, false));
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
    enum tws_status status = tws_handshake_accept(
        handshake, request, &NOTHING_AGREED, NULL, 0, visitor, &err);
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
    CHECK(inside_of == fixture);
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
    CHECK(inside_of == fixture);
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
    CHECK(inside_of == fixture);
    CHECK(visitor->fixture == fixture && !visitor->opened);
    free(visitor);
    fixture->discarded++;
}

static inline void
fixture_open(void *context, struct tws_client *client)
{
    struct fixture *fixture = context;
    struct visitor *visitor = visitor_begin(fixture, client);
    struct tws_client *nobody = NULL;
    CHECK(!visitor->opened);
    visitor->opened = true;
    if (fixture->hold
        && atomic_compare_exchange_strong(&fixture->held, &nobody, client)) {
        tws_client_retain(client);
    }
    if (fixture->on_open != NULL) {
        fixture->on_open(fixture, client);
    }
    visitor_end(fixture, visitor);
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
    return tws_client_send(client, opcode, payload, 0, NULL, &err);
}

/* With a receipt, which fixture_end() wants back. NULL: without. */
static inline enum tws_status
fixture_send(struct fixture *fixture, struct tws_client *client,
             const char *text, void *receipt)
{
    struct tws_error err;
    struct tws_span payload = {.data = text, .length = strlen(text)};
    if (receipt != NULL) {
        fixture->receipts++; /* it may be back before the call returns */
    }
    enum tws_status status =
        tws_client_send(client, TWS_OPCODE_TEXT, payload, 0, receipt, &err);
    if (receipt != NULL && status != TWS_OK) {
        fixture->receipts--;
    }
    return status;
}

static inline enum tws_status
send_text(struct tws_client *client, const char *text)
{
    return fixture_send(NULL, client, text, NULL);
}

/* A text of that many bytes of `pattern`. */
static inline enum tws_status
send_pattern(struct tws_client *client, size_t length)
{
    struct tws_error err;
    struct tws_span payload = {.data = pattern, .length = length};
    return tws_client_send(client, TWS_OPCODE_TEXT, payload, 0, NULL, &err);
}

static inline enum tws_status
begin_close(struct tws_client *client, uint16_t code, const char *text)
{
    struct tws_error err;
    struct tws_span reason = {.data = text, .length = strlen(text)};
    return tws_client_close(client, code, reason, TWS_ENDED_BY_US, &err);
}

static inline void
break_off(struct tws_client *client)
{
    tws_client_break_off(client, TWS_ENDED_BY_US, "broken off by a test");
}

static inline bool
is_text(const struct tws_event *event, const char *text)
{
    return event->type == TWS_EVENT_TEXT && event->length == strlen(text)
           && memcmp(event->data, text, event->length) == 0;
}

static inline void
fixture_message(void *context, struct tws_client *client,
                const struct tws_event *event)
{
    struct fixture *fixture = context;
    struct visitor *visitor = visitor_begin(fixture, client);
    CHECK(visitor->opened);
    CHECK(event->type == TWS_EVENT_TEXT || event->type == TWS_EVENT_BINARY);
    visitor->messages++;
    if (fixture->on_message != NULL) {
        fixture->on_message(fixture, client, event);
    }
    else {
        (void)echo(client, event); /* others may have closed it */
    }
    visitor_end(fixture, visitor);
    fixture->messages++;
}

static inline void
fixture_frame(void *context, struct tws_client *client,
              const struct tws_event *event)
{
    struct fixture *fixture = context;
    struct visitor *visitor = visitor_begin(fixture, client);
    CHECK(visitor->opened);
    CHECK_INT(event->type, TWS_EVENT_FRAME);
    if (fixture->on_frame != NULL) {
        fixture->on_frame(fixture, client, event);
    }
    visitor_end(fixture, visitor);
    fixture->frames++;
}

static inline void
fixture_ping(void *context, struct tws_client *client,
             const struct tws_event *event)
{
    struct fixture *fixture = context;
    struct visitor *visitor = visitor_begin(fixture, client);
    CHECK(visitor->opened);
    CHECK_INT(event->type, TWS_EVENT_PING);
    if (fixture->on_ping != NULL) {
        fixture->on_ping(fixture, client, event);
    }
    visitor_end(fixture, visitor);
    fixture->pings++;
}

static inline void
fixture_pong(void *context, struct tws_client *client,
             const struct tws_event *event)
{
    struct fixture *fixture = context;
    struct visitor *visitor = visitor_begin(fixture, client);
    CHECK(visitor->opened);
    CHECK_INT(event->type, TWS_EVENT_PONG);
    if (fixture->on_pong != NULL) {
        fixture->on_pong(fixture, client, event);
    }
    visitor_end(fixture, visitor);
    fixture->pongs++;
}

static inline void
fixture_sent(void *context, struct tws_client *client, void *receipt)
{
    struct fixture *fixture = context;
    struct visitor *visitor = visitor_begin(fixture, client);
    CHECK(visitor->opened);
    CHECK(receipt != NULL);
    if (fixture->on_sent != NULL) {
        fixture->on_sent(fixture, client, receipt);
    }
    visitor_end(fixture, visitor);
    fixture->sent++;
}

static inline void
fixture_unsent(void *context, void *receipt)
{
    struct fixture *fixture = context;
    CHECK(inside_of == fixture);
    CHECK(receipt != NULL);
    if (fixture->on_unsent != NULL) {
        fixture->on_unsent(fixture, receipt);
    }
    fixture->unsent++;
}

static inline void
fixture_close(void *context, struct tws_client *client,
              const struct tws_ending *ending)
{
    struct fixture *fixture = context;
    struct visitor *visitor = client->user;
    CHECK(inside_of == fixture);
    if (visitor == NULL) {
        fprintf(stderr, "close was called twice\n");
        exit(1);
    }
    CHECK(visitor->fixture == fixture && visitor->opened);
    CHECK(!atomic_exchange(&visitor->busy, true));
    CHECK_INT(strlen(ending->reason), ending->reason_length);
    pthread_mutex_lock(&fixture->record);
    fixture->last_ending = *ending;
    fixture->last_code = ending->code;
    fixture->last_by = ending->by;
    pthread_mutex_unlock(&fixture->record);
    if (fixture->on_close != NULL) {
        fixture->on_close(fixture, client, ending);
    }
    free(visitor);
    fixture->closed++;
}

static inline void
fixture_accept_paused(void *context, const struct tws_error *err)
{
    struct fixture *fixture = context;
    CHECK(inside_of == fixture);
    if (fixture->on_accept_paused != NULL) {
        fixture->on_accept_paused(fixture, err);
    }
    fixture->accept_pauses++;
}

static inline void
fixture_exhausted(void *context)
{
    struct fixture *fixture = context;
    CHECK(inside_of == fixture);
    fixture->exhausted++;
}

static inline void
fixture_ended(void *context)
{
    struct fixture *fixture = context;
    CHECK(inside_of == fixture);
    if (fixture->on_ended != NULL) {
        fixture->on_ended(fixture);
    }
    fixture->ended++;
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
                .open_timeout = PATIENCE_SECONDS * SECOND,
                .close_timeout = PATIENCE_SECONDS * SECOND,
                .ping_interval = UINT64_MAX,
                .ping_timeout = UINT64_MAX,
                .idle_timeout = UINT64_MAX,
                .high_water = 256 * 1024,
                .max_clients = SIZE_MAX,
            },
    };
    fixture->fds_before = count_fds();
    if (pattern[0] == '\0') {
        for (size_t i = 0; i < sizeof(pattern); i++) {
            pattern[i] = (char)('a' + i % 23);
        }
    }
}

/* With threads that take over from each other. */
static inline void
fixture_init_pool(struct fixture *fixture, struct way way)
{
    fixture_init(fixture, way.kind);
    fixture->unlocked = way.unlocked;
    fixture->threads = POOL_THREADS;
}

static inline void *
fixture_main(void *argument)
{
    struct fixture *fixture = argument;
    struct tws_error err;
    fixture_enter(fixture, &inside_of);
    enum tws_status status = tws_server_work(fixture->server, &err);
    (void)fixture_leave(fixture);
    pthread_mutex_lock(&fixture->record);
    if (fixture->status == TWS_OK) {
        fixture->status = status;
    }
    pthread_mutex_unlock(&fixture->record);
    return NULL;
}

static inline bool
fixture_spawn(void *context)
{
    struct fixture *fixture = context;
    CHECK(inside_of == fixture);
    if (fixture->spawn_fails) {
        return false;
    }
    pthread_mutex_lock(&fixture->record);
    unsigned number = fixture->spawned_count++;
    must(number < SPAWNED_MAX, "threads");
    must(pthread_create(&fixture->spawned[number], NULL, fixture_main, fixture)
             == 0,
         "pthread_create");
    pthread_mutex_unlock(&fixture->record);
    return true;
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
        .spawn = fixture->threads > 0 ? fixture_spawn : NULL,
        .exhausted = fixture_exhausted,
        .request = fixture_request,
        .refused = fixture_refused,
        .discard = fixture_discard,
        .open = fixture_open,
        .message = fixture_message,
        .frame = fixture_frame,
        .ping = fixture_ping,
        .pong = fixture_pong,
        .sent = fixture_sent,
        .unsent = fixture_unsent,
        .close = fixture_close,
        .accept_paused = fixture_accept_paused,
        .ended = fixture_ended,
    };
    fixture->options.max_threads = fixture->threads > 0 ? fixture->threads : 1;
    pthread_mutex_init(&fixture->exclusion, NULL);
    pthread_mutex_init(&fixture->record, NULL);
    must(tws_server_new(fixture->listener, fixture->kind, &fixture->options,
                        &handlers, &fixture->server, &err)
             == TWS_OK,
         "tws_server_new");
}

static inline void
fixture_run(struct fixture *fixture)
{
    fixture->began = true;
    must(pthread_create(&fixture->thread, NULL, fixture_main, fixture) == 0,
         "pthread_create");
}

static inline void
fixture_start(struct fixture *fixture)
{
    fixture_make(fixture);
    fixture_run(fixture);
}

/* Another thread stands by to take over. */
static inline bool
fixture_has_spare(struct fixture *fixture)
{
    struct tws_pool *pool = &fixture->server->pool;
    pthread_mutex_lock(&pool->lock);
    bool has = pool->idle_count > 0;
    pthread_mutex_unlock(&pool->lock);
    return has;
}

static inline void
fixture_await_spare(struct fixture *fixture)
{
    EVENTUALLY(fixture_has_spare(fixture));
}

/* A handler has it that has lost the role of the driver. */
static inline bool
is_detached(struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    bool detached = client->detached;
    pthread_mutex_unlock(&client->lock);
    return detached;
}

/* Waits for all threads. None of them asks for another one any more when the
 * last that is known of has ended. */
static inline void
fixture_join(struct fixture *fixture)
{
    bool more = true;
    if (!fixture->began || fixture->joined) {
        return;
    }
    CHECK_INT(pthread_join(fixture->thread, NULL), 0);
    for (unsigned i = 0; more; i++) {
        pthread_t thread = fixture->thread;
        pthread_mutex_lock(&fixture->record);
        more = i < fixture->spawned_count;
        if (more) {
            thread = fixture->spawned[i];
        }
        pthread_mutex_unlock(&fixture->record);
        if (more) {
            CHECK_INT(pthread_join(thread, NULL), 0);
        }
    }
    if (!fixture->may_fail) {
        CHECK_INT(fixture->status, TWS_OK);
    }
    CHECK_INT(fixture->ended, 1);
    fixture->joined = true;
}

/* Stops where the test has not done so, and looks whether everything has
 * come to an end. The test has closed its own descriptors. */
static inline void
fixture_end(struct fixture *fixture)
{
    tws_server_stop(fixture->server, TWS_CLOSE_GOING_AWAY, TWS_SPAN("end"),
                    PATIENCE_SECONDS * SECOND);
    fixture_join(fixture);
    CHECK_INT(tws_server_count(fixture->server), 0);
    CHECK_INT(fixture->accepted, fixture->discarded + fixture->opened);
    CHECK_INT(fixture->opened, fixture->closed);
    CHECK_INT(fixture->receipts, fixture->sent + fixture->unsent);
    if (fixture->held != NULL) {
        tws_client_release(fixture->held);
    }
    tws_server_free(fixture->server);
    pthread_mutex_destroy(&fixture->exclusion);
    pthread_mutex_destroy(&fixture->record);
    CHECK_INT(close(fixture->listener), 0);
    CHECK_INT(count_fds(), fixture->fds_before);
}

/* ---- its peers --------------------------------------------------------- */

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
    return fixture->wrap == NULL ? fd : fixture->wrap(fixture, fd);
}

static inline int
dial(const struct fixture *fixture)
{
    return dial_small(fixture, 0);
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
