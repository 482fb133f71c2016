#include "engine/server.h"

#include "engine/server_parts.h"

#include "net/tls_context.h"
#include "net/random.h"
#include "protocol/large_blocks.h"

#include <stdlib.h>

enum { READY_A_TURN = 256 };

enum {
    CACHE_LINE = 64,
    CLIENT_FETCHED = offsetof(struct tws_client, receipts_end),
    USER_FETCHED = 3 * CACHE_LINE
};

/* How long after a thread could not be started it is tried again. */
#define SPAWN_PAUSE ((uint64_t)1000 * 1000 * 1000)

enum tws_status
tws_server_new(int listener, enum tws_poller_kind kind,
               const struct tws_server_options *options,
               const struct tws_handlers *handlers, struct tws_server **result,
               struct tws_error *err)
{
    uint32_t seed;
    struct tws_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return tws_error_nomem(err);
    }
    server->watch.kind = TWS_WATCH_LISTENER;
    server->listener = listener;
    server->options = *options;
    server->handlers = *handlers;
    server->stop_deadline = UINT64_MAX;
    server->spawn_at = UINT64_MAX;
    server->places =
        options->places != NULL ? options->places : &server->own_places;
    enum tws_status status = tws_random_bytes(&seed, sizeof(seed), err);
    if (status != TWS_OK) {
        goto no_lock;
    }
    if (pthread_mutex_init(&server->lock, NULL) != 0) {
        status = tws_error_nomem(err);
        goto no_lock;
    }
    status = tws_pool_init(&server->pool, err);
    if (status != TWS_OK) {
        goto no_pool;
    }
    status = tws_half_open_init(&server->half_open, options->max_half_open,
                                seed, err);
    if (status != TWS_OK) {
        goto no_half_open;
    }
    status = tws_poller_new(kind, &server->poller, err);
    if (status != TWS_OK) {
        goto no_poller;
    }
    *result = server;
    return TWS_OK;

no_poller:
    tws_half_open_release(&server->half_open);
no_half_open:
    tws_pool_fini(&server->pool);
no_pool:
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
    struct tws_watch *watch = tws_pool_dequeue(&server->pool);
    while (watch != NULL) { /* clients queued when nobody drove any more */
        tws_client_release((struct tws_client *)watch);
        watch = tws_pool_dequeue(&server->pool);
    }
    tws_timers_release(&server->timers);
    tws_poller_free(server->poller);
    tws_half_open_release(&server->half_open);
    tws_pool_fini(&server->pool);
    pthread_mutex_destroy(&server->lock);
    tws_tls_context_release(server->tls);
    free(server);
}

void
tws_server_set_tls(struct tws_server *server, struct tws_tls_context *context)
{
    if (context != NULL) {
        (void)tws_tls_context_retain(context);
    }
    pthread_mutex_lock(&server->lock);
    struct tws_tls_context *before = server->tls;
    server->tls = context;
    pthread_mutex_unlock(&server->lock);
    tws_tls_context_release(before);
}

/* What others asked for -------------------------------------------------- */

/* True where a stop is new. */
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
stop_accepting(struct tws_server *server)
{
    if (server->listener < 0) {
        return;
    }
    tws_accepting_stop(server);
    tws_timers_cancel(&server->timers, &server->watch.timer);
    server->listener = -1;
    if (server->handlers.stopping != NULL) {
        server->handlers.stopping(server->handlers.context);
    }
}

static void
attend_stop(struct tws_server *server)
{
    uint64_t patience;
    uint16_t code;
    char reason[TWS_CLOSE_REASON_MAX];
    size_t reason_length;
    if (!take_stop(server, &patience, &code, reason, &reason_length)) {
        return;
    }
    uint64_t deadline = tws_deadline_in(patience);
    if (deadline == UINT64_MAX) {
        deadline--; /* UINT64_MAX says that no stop was asked for */
    }
    if (server->stop_deadline == UINT64_MAX) {
        struct tws_span text = {.data = reason, .length = reason_length};
        stop_accepting(server);
        tws_handshakes_drop(server);
        tws_serving_close_all(server, code, text);
    }
    if (deadline < server->stop_deadline) {
        server->stop_deadline = deadline;
    }
}

/* What is queued now; what that queues again waits for the next turn. */
static void
attend_queue(struct tws_server *server, struct tws_worker *worker)
{
    size_t left = tws_pool_queue_length(&server->pool);
    for (; left > 0; left--) {
        struct tws_watch *watch = tws_pool_dequeue(&server->pool);
        if (watch->kind == TWS_WATCH_HANDSHAKE) {
            tws_handshake_attend(worker, (struct tws_handshake *)watch);
        }
        else {
            struct tws_client *client = (struct tws_client *)watch;
            tws_serving_attend(worker, client);
            tws_client_release(client); /* tws_server_attend() retained it */
        }
        if (!worker->driving) {
            return;
        }
    }
}

static void
attend(struct tws_server *server, struct tws_worker *worker)
{
    if (atomic_load_explicit(&server->attention, memory_order_relaxed)
        && atomic_exchange(&server->attention, false)) {
        if (atomic_exchange(&server->thread_failed, false)) {
            server->spawn_at = tws_deadline_in(SPAWN_PAUSE);
        }
        attend_stop(server);
        attend_queue(server, worker);
    }
}

/* Turning ---------------------------------------------------------------- */

static void
expire_timers(struct tws_server *server, struct tws_worker *worker)
{
    uint64_t now = tws_clock_now();
    struct tws_timer *timer = tws_timers_pop(&server->timers, now);
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
            tws_serving_expired(worker, (struct tws_client *)watch);
            break;
        }
        if (!worker->driving) {
            return;
        }
        timer = tws_timers_pop(&server->timers, now);
    }
}

static inline void
fetch(const void *memory, size_t size)
{
    for (size_t i = 0; i < size; i += CACHE_LINE) {
        __builtin_prefetch((const char *)memory + i);
    }
}

/* With a thousand clients none of them is in the processor's cache when its
 * turn comes: it is fetched while those before it are served, first the client
 * and then what the program has put there. */
static inline void
fetch_ahead(const struct tws_ready *ready, size_t left)
{
    if (left > 2) {
        fetch(ready[2].data, CLIENT_FETCHED);
    }
    if (left > 1) {
        const struct tws_client *client = ready[1].data;
        if (client->watch.kind == TWS_WATCH_CLIENT && !client->detached) {
            fetch(client->user, USER_FETCHED);
        }
    }
}

static void
serve_ready(struct tws_server *server, struct tws_worker *worker,
            const struct tws_ready *ready, size_t count)
{
    /* What is left over where the role is lost is ready still, and the next
     * driver's at once. */
    for (size_t i = 0; i < count && worker->driving; i++) {
        struct tws_watch *watch = ready[i].data;
        fetch_ahead(ready + i, count - i);
        switch (watch->kind) {
        case TWS_WATCH_LISTENER:
            tws_accepting_ready(server);
            break;
        case TWS_WATCH_HANDSHAKE:
            tws_handshake_ready(worker, (struct tws_handshake *)watch);
            break;
        default:
            tws_serving_ready(worker, (struct tws_client *)watch,
                              ready[i].events);
            break;
        }
    }
}

static void
leave(struct tws_server *server, struct tws_worker *worker)
{
    worker->token = server->handlers.leave(server->handlers.context);
}

static void
enter(struct tws_server *server, struct tws_worker *worker)
{
    server->handlers.enter(server->handlers.context, worker->token);
}

/* One thread should stand by to take over. */
static void
provide_spare(struct tws_server *server)
{
    struct tws_handlers *handlers = &server->handlers;
    unsigned max = server->options.max_threads;
    server->spawn_at = UINT64_MAX;
    if (handlers->spawn == NULL) {
        return;
    }
    if (tws_pool_wants_thread(&server->pool, max)) {
        if (!handlers->spawn(handlers->context)) {
            tws_pool_thread_failed(&server->pool);
            server->spawn_at = tws_deadline_in(SPAWN_PAUSE);
        }
    }
    else if (!server->exhausted && max > 1 && !server->pool.over
             && tws_pool_is_exhausted(&server->pool, max)) {
        server->exhausted = true;
        handlers->exhausted(handlers->context);
    }
}

/* What a wait has found. */
struct found {
    struct tws_ready ready[READY_A_TURN];
    size_t count;
    bool due; /* a deadline may be over */
};

/* Looks again and again, for as long as that is worth it. *enough: something
 * has come up, or is due. */
static enum tws_status
look_for_a_while(struct tws_server *server, uint64_t began, uint64_t until,
                 struct found *found, bool *enough, struct tws_error *err)
{
    enum tws_status status;
    uint64_t now;
    do {
        status = tws_poller_wait(server->poller, 0, found->ready, READY_A_TURN,
                                 &found->count, &found->due, err);
        if (status != TWS_OK) {
            return status;
        }
        now = tws_clock_now();
        found->due = now >= until; /* a look may say so for nothing */
        *enough =
            found->count > 0 || found->due
            || atomic_load_explicit(&server->attention, memory_order_relaxed);
    } while (!*enough && now - began < TWS_SPIN_MAX);
    if (!*enough) {
        tws_spin_fail(&server->spin);
    }
    return TWS_OK;
}

/* Waits without the exclusion. */
static enum tws_status
await_ready(struct tws_server *server, uint64_t until, struct found *found,
            struct tws_error *err)
{
    struct tws_spin *spin = &server->spin;
    enum tws_status status = TWS_OK;
    bool spins = tws_spin_is_worth_it(spin);
    bool enough = false;
    uint64_t began = tws_spin_watches(spin) ? tws_clock_now() : 0;
    if (spins) {
        status = look_for_a_while(server, began, until, found, &enough, err);
    }
    if (status == TWS_OK && !enough) {
        status =
            tws_poller_wait(server->poller, until, found->ready, READY_A_TURN,
                            &found->count, &found->due, err);
    }
    if (status == TWS_OK) {
        const void *alone = found->count == 1 ? found->ready[0].data : NULL;
        uint64_t waited =
            tws_spin_would_note(spin, alone) ? tws_clock_now() - began : 0;
        tws_spin_note(spin, alone, waited, spins);
    }
    return status;
}

/* Waits, then serves everything that is ready. */
static enum tws_status
turn(struct tws_server *server, struct tws_worker *worker,
     struct tws_error *err)
{
    struct found found;
    uint64_t until = tws_timers_next(&server->timers);
    if (server->stop_deadline < until) {
        until = server->stop_deadline;
    }
    if (server->spawn_at < until) {
        until = server->spawn_at;
    }
    worker->secured = 0;
    leave(server, worker);
    enum tws_status status = await_ready(server, until, &found, err);
    enter(server, worker);
    if (status != TWS_OK) {
        return status;
    }
    serve_ready(server, worker, found.ready, found.count);
    if (worker->driving && found.due) {
        expire_timers(server, worker);
    }
    if (worker->driving && found.due && tws_clock_now() >= server->spawn_at) {
        provide_spare(server);
    }
    if (worker->driving) {
        tws_handshakes_bury(server);
        tws_serving_bury(server);
    }
    return TWS_OK;
}

/* Everybody is gone, or time is up, or the loop has failed. */
static bool
is_done(struct tws_server *server)
{
    if (server->failure.status != TWS_OK) {
        return true;
    }
    if (server->stop_deadline == UINT64_MAX) {
        return false;
    }
    return (tws_server_count(server) == 0 && server->lingering == NULL)
           || tws_clock_now() >= server->stop_deadline;
}

/* Ends what is left. What slow handlers have still follows by way of the
 * queue. */
static void
finish(struct tws_server *server, struct tws_worker *worker)
{
    stop_accepting(server);
    tws_handshakes_drop(server);
    attend_queue(server, worker);
    if (!worker->driving) {
        return;
    }
    tws_serving_drop_all(worker);
    if (!worker->driving) {
        return;
    }
    tws_handshakes_bury(server);
    tws_serving_bury(server);
    if (!server->pool.over) {
        tws_watchdog_stop(&server->pool);
        tws_pool_end(&server->pool);
        server->handlers.ended(server->handlers.context);
    }
    tws_pool_step_down(&server->pool, worker);
}

/* The first driver's first act. */
static void
begin(struct tws_server *server)
{
    server->begun = true;
    tws_keep_large_blocks();
    enum tws_status status = tws_accepting_start(server, &server->failure);
    if (status == TWS_OK && server->handlers.spawn != NULL) {
        status = tws_watchdog_start(&server->pool, &server->failure);
    }
    server->failure.status = status;
}

static void
drive(struct tws_server *server, struct tws_worker *worker)
{
    /* The one before may have been called away amid this. */
    atomic_store(&server->attention, true);
    provide_spare(server);
    if (!server->begun) {
        begin(server);
    }
    while (worker->driving) {
        attend(server, worker);
        if (!worker->driving) {
            return;
        }
        if (is_done(server)) {
            finish(server, worker);
            continue;
        }
        struct tws_error err;
        if (turn(server, worker, &err) != TWS_OK) {
            server->failure = err;
        }
    }
}

/* False: the thread is not needed any more. */
static bool
await_role(struct tws_server *server, struct tws_worker *worker)
{
    leave(server, worker);
    bool needed = tws_pool_await_role(&server->pool, worker);
    enter(server, worker);
    return needed;
}

static void
call_attention(struct tws_server *server)
{
    atomic_store(&server->attention, true);
    tws_poller_wake(server->poller);
}

enum tws_status
tws_server_work(struct tws_server *server, struct tws_error *err)
{
    struct tws_worker *worker;
    enum tws_status status = tws_worker_new(server, &worker, err);
    if (status != TWS_OK) {
        tws_pool_thread_failed(&server->pool);
        atomic_store(&server->thread_failed, true);
        call_attention(server);
        return status;
    }
    tws_pool_add(&server->pool, worker);
    while (await_role(server, worker)) {
        drive(server, worker);
    }
    if (tws_pool_remove(&server->pool, worker)
        && server->failure.status != TWS_OK) {
        *err = server->failure;
        status = err->status;
    }
    tws_worker_free(worker);
    return status;
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
tws_server_queue(struct tws_server *server, struct tws_watch *watch)
{
    if (tws_pool_queue(&server->pool, watch)) {
        call_attention(server);
    }
}

void
tws_server_attend(struct tws_server *server, struct tws_client *client)
{
    tws_client_retain(client);
    if (tws_pool_queue(&server->pool, &client->watch)) {
        call_attention(server);
    }
    else {
        tws_client_release(client);
    }
}

void
tws_server_detach(struct tws_server *server, struct tws_watch *watch)
{
    (void)server;
    if (watch->kind == TWS_WATCH_HANDSHAKE) {
        tws_handshake_detach((struct tws_handshake *)watch);
    }
    else {
        tws_client_detach((struct tws_client *)watch);
    }
}

/* What takes some hundred microseconds to decrypt. */
enum { LARGE_READ = 128 * 1024 };

enum tws_status
tws_server_read(struct tws_server *server, struct tws_transport *transport,
                uint8_t *room, size_t size, size_t *got, struct tws_error *err)
{
    if (TWS_LIKELY(transport->tls == NULL) || size < LARGE_READ) {
        return tws_read(transport, room, size, got, err);
    }
    void *token = tws_server_leave(server);
    enum tws_status status = tws_read(transport, room, size, got, err);
    tws_server_enter(server, token);
    return status;
}

void *
tws_server_leave(struct tws_server *server)
{
    return server->handlers.leave(server->handlers.context);
}

void
tws_server_enter(struct tws_server *server, void *token)
{
    server->handlers.enter(server->handlers.context, token);
}

enum tws_status
tws_server_watch(struct tws_server *server, struct tws_client *client,
                 unsigned before, unsigned events, struct tws_error *err)
{
    int fd = client->transport.fd;
    if (events == 0) {
        return tws_poller_remove(server->poller, fd, err);
    }
    if (before == 0) {
        return tws_poller_add(server->poller, fd, events, client, err);
    }
    return tws_poller_modify(server->poller, fd, events, client, err);
}

bool
tws_server_before_wait(struct tws_server *server)
{
    return tws_pool_before_wait(&server->pool);
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
