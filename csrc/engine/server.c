#include "engine/server.h"

#include "engine/server_parts.h"

#include <stdlib.h>

enum { READY_A_TURN = 256 };

enum tws_status
tws_server_new(int listener, enum tws_poller_kind kind,
               const struct tws_server_options *options,
               const struct tws_handlers *handlers, struct tws_server **result,
               struct tws_error *err)
{
    struct tws_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return tws_error_nomem(err);
    }
    enum tws_status status;
    if (pthread_mutex_init(&server->lock, NULL) != 0) {
        status = tws_error_nomem(err);
        goto no_lock;
    }
    server->watch.kind = TWS_WATCH_LISTENER;
    server->listener = listener;
    server->options = *options;
    server->handlers = *handlers;
    status = tws_driver_init(&server->driver, err);
    if (status != TWS_OK) {
        goto no_driver;
    }
    status = tws_poller_new(kind, &server->poller, err);
    if (status != TWS_OK) {
        goto no_poller;
    }
    *result = server;
    return TWS_OK;

no_poller:
    tws_driver_release(&server->driver);
no_driver:
    pthread_mutex_destroy(&server->lock);
no_lock:
    free(server);
    return status;
}

void
tws_server_free(struct tws_server *server)
{
    if (server == NULL) {
        return;
    }
    tws_timers_release(&server->timers);
    tws_poller_free(server->poller);
    tws_driver_release(&server->driver);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

/* What other threads asked for. True where a stop is new; `patience` is then
 * set. */
static bool
take_stop(struct tws_server *server, uint64_t *patience, uint16_t *code,
          char *reason, size_t *reason_length)
{
    pthread_mutex_lock(&server->lock);
    bool asked = server->stop_asked;
    server->stop_asked = false;
    if (asked) {
        *patience = server->stop_patience;
        *code = server->stop_code;
        *reason_length = server->stop_reason_length;
        memcpy(reason, server->stop_reason, server->stop_reason_length);
    }
    pthread_mutex_unlock(&server->lock);
    return asked;
}

static void
attend(struct tws_server *server, uint64_t *stop_deadline)
{
    uint64_t patience;
    uint16_t code;
    char reason[TWS_CLOSE_REASON_MAX];
    size_t reason_length;
    if (!atomic_exchange(&server->attention, false)) {
        return;
    }
    if (take_stop(server, &patience, &code, reason, &reason_length)) {
        uint64_t deadline = tws_deadline_in(patience);
        if (*stop_deadline == UINT64_MAX) {
            struct tws_span text = {.data = reason, .length = reason_length};
            tws_accepting_stop(server);
            tws_timers_cancel(&server->timers, &server->watch.timer);
            tws_handshakes_drop(server);
            tws_serving_close_all(server, code, text);
        }
        if (deadline == UINT64_MAX) {
            deadline--; /* UINT64_MAX says that no stop was asked for */
        }
        if (deadline < *stop_deadline) {
            *stop_deadline = deadline;
        }
    }
    tws_serving_set_deadlines(server);
}

static void
expire_timers(struct tws_server *server)
{
    struct tws_timer *timer = tws_timers_pop(&server->timers, server->now);
    while (timer != NULL) {
        struct tws_watch *watch = (struct tws_watch *)timer;
        switch (watch->kind) {
        case TWS_WATCH_LISTENER:
            tws_accepting_resume(server);
            break;
        case TWS_WATCH_HANDSHAKE:
            tws_handshake_expired((struct tws_handshake *)watch);
            break;
        default:
            tws_serving_expired((struct tws_client *)watch);
            break;
        }
        timer = tws_timers_pop(&server->timers, server->now);
    }
}

static void
serve_ready(struct tws_server *server, const struct tws_ready *ready,
            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tws_watch *watch = ready[i].data;
        switch (watch->kind) {
        case TWS_WATCH_LISTENER:
            tws_accepting_ready(server);
            break;
        case TWS_WATCH_HANDSHAKE:
            tws_handshake_ready((struct tws_handshake *)watch);
            break;
        default:
            tws_serving_ready((struct tws_client *)watch, ready[i].events);
            break;
        }
    }
}

/* Waits without the exclusion, then serves everything that is ready. */
static enum tws_status
turn(struct tws_server *server, uint64_t stop_deadline, struct tws_error *err)
{
    struct tws_ready ready[READY_A_TURN];
    size_t count;
    uint64_t until = tws_timers_next(&server->timers);
    if (stop_deadline < until) {
        until = stop_deadline;
    }
    uint64_t timeout = UINT64_MAX;
    if (until != UINT64_MAX) {
        server->now = tws_clock_now(); /* handlers may have taken long */
        timeout = until > server->now ? until - server->now : 0;
    }
    server->handlers.leave(server->handlers.context);
    enum tws_status status = tws_poller_wait(server->poller, timeout, ready,
                                             READY_A_TURN, &count, err);
    server->now = tws_clock_now();
    server->handlers.enter(server->handlers.context);
    if (status != TWS_OK) {
        return status;
    }
    serve_ready(server, ready, count);
    expire_timers(server);
    tws_handshakes_bury(server);
    tws_serving_bury(server);
    return TWS_OK;
}

/* Everybody is gone, or time is up. */
static bool
stop_is_done(struct tws_server *server, uint64_t stop_deadline)
{
    return stop_deadline != UINT64_MAX
           && (server->now >= stop_deadline
               || (server->clients == NULL && server->lingering == NULL));
}

enum tws_status
tws_server_run(struct tws_server *server, struct tws_error *err)
{
    uint64_t stop_deadline = UINT64_MAX;
    server->now = tws_clock_now();
    enum tws_status status = tws_accepting_start(server, err);
    while (status == TWS_OK) {
        attend(server, &stop_deadline);
        if (stop_is_done(server, stop_deadline)) {
            break;
        }
        status = turn(server, stop_deadline, err);
    }
    tws_accepting_stop(server);
    tws_timers_cancel(&server->timers, &server->watch.timer);
    tws_handshakes_drop(server);
    tws_serving_drop_all(server);
    tws_handshakes_bury(server);
    tws_serving_bury(server);
    return status;
}

static void
call_attention(struct tws_server *server)
{
    atomic_store(&server->attention, true);
    tws_poller_wake(server->poller);
}

void
tws_server_stop(struct tws_server *server, uint16_t code,
                struct tws_span reason, uint64_t patience)
{
    pthread_mutex_lock(&server->lock);
    size_t length = reason.length;
    if (length > sizeof(server->stop_reason)) {
        length = sizeof(server->stop_reason);
    }
    if (length > 0) {
        memcpy(server->stop_reason, reason.data, length);
    }
    server->stop_reason_length = length;
    server->stop_code = code;
    server->stop_patience = patience;
    server->stop_asked = true;
    pthread_mutex_unlock(&server->lock);
    atomic_store(&server->stopping, true);
    call_attention(server);
}

bool
tws_server_stopping(const struct tws_server *server)
{
    return atomic_load(&server->stopping);
}

void
tws_server_todo(struct tws_server *server, struct tws_client *client)
{
    pthread_mutex_lock(&server->lock);
    if (client->linked && !client->in_todo) {
        client->in_todo = true;
        client->next_todo = server->todo;
        server->todo = client;
    }
    pthread_mutex_unlock(&server->lock);
    call_attention(server);
}

enum tws_status
tws_server_watch(struct tws_server *server, struct tws_client *client,
                 unsigned events, struct tws_error *err)
{
    return tws_poller_modify(server->poller, client->transport.fd, events,
                             client, err);
}

void
tws_server_each(struct tws_server *server,
                void (*visit)(void *context, struct tws_client *client),
                void *context)
{
    pthread_mutex_lock(&server->lock);
    for (struct tws_client *client = server->clients; client != NULL;
         client = client->next) {
        visit(context, client);
    }
    pthread_mutex_unlock(&server->lock);
}

size_t
tws_server_count(struct tws_server *server)
{
    pthread_mutex_lock(&server->lock);
    size_t count = server->client_count;
    pthread_mutex_unlock(&server->lock);
    return count;
}

const struct tws_server_options *
tws_server_options(const struct tws_server *server)
{
    return &server->options;
}

struct tws_driver *
tws_server_driver(struct tws_server *server)
{
    return &server->driver;
}
