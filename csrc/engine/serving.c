#include "engine/server_parts.h"

#include "engine/keepalive.h"
#include "protocol/message_stream.h"

#include <stdlib.h>
#include <unistd.h>

/* Where clients are kept -------------------------------------------------- */

static void
link_client(struct tws_server *server, struct tws_client *client)
{
    pthread_mutex_lock(&server->lock);
    client->next = server->clients;
    if (client->next != NULL) {
        client->next->previous = client;
    }
    server->clients = client;
    server->client_count++;
    client->linked = true;
    pthread_mutex_unlock(&server->lock);
}

static void
unlink_from(struct tws_client **list, struct tws_client *client)
{
    if (client->previous != NULL) {
        client->previous->next = client->next;
    }
    else {
        *list = client->next;
    }
    if (client->next != NULL) {
        client->next->previous = client->previous;
    }
    client->next = client->previous = NULL;
}

static void
unlink_client(struct tws_server *server, struct tws_client *client)
{
    pthread_mutex_lock(&server->lock);
    unlink_from(&server->clients, client);
    server->client_count--;
    client->linked = false;
    tws_accepting_free_place(server);
    pthread_mutex_unlock(&server->lock);
}

static void
drop_receipts(struct tws_server *server, struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    struct tws_receipt *receipt = client->receipts;
    client->receipts = NULL;
    client->receipts_end = &client->receipts;
    pthread_mutex_unlock(&client->lock);
    while (receipt != NULL) {
        struct tws_receipt *next = receipt->next;
        server->handlers.unsent(server->handlers.context, receipt->user);
        free(receipt);
        receipt = next;
    }
}

/* The descriptor goes; the memory stays until the turn is over. */
static void
bury(struct tws_server *server, struct tws_client *client)
{
    struct tws_error ignored;
    tws_timers_cancel(&server->timers, &client->watch.timer);
    if (client->lingering) {
        client->lingering = false;
        unlink_from(&server->lingering, client);
    }
    pthread_mutex_lock(&client->lock);
    int fd = client->transport.fd;
    bool watched = client->interest != 0;
    if (client->transport.tls != NULL && !client->shut) {
        /* Or else the peer takes it for an attack (RFC 8446 §6.1). */
        client->transport.ops->end_writing(&client->transport);
    }
    tws_transport_release(&client->transport);
    client->interest = 0;
    client->write_failed = true;
    client->state = TWS_CLIENT_GONE;
    tws_buffer_release(&client->queue); /* others may hold the client long */
    if (client->stream != NULL) {
        tws_buffer_release(&client->stream->behind);
    }
    pthread_mutex_unlock(&client->lock);
    if (watched) {
        (void)tws_poller_remove(server->poller, fd, &ignored);
    }
    if (fd >= 0) {
        close(fd);
    }
    tws_client_forget_received(client);
    tws_client_end_compression(client);
    drop_receipts(server, client);
    client->next = server->dead;
    server->dead = client;
}

void
tws_serving_bury(struct tws_server *server)
{
    while (server->dead != NULL) {
        struct tws_client *client = server->dead;
        server->dead = client->next;
        client->next = NULL;
        tws_client_release(client);
    }
}

static void
set_deadline(struct tws_server *server, struct tws_client *client,
             uint64_t timeout)
{
    if (tws_timers_set(&server->timers, &client->watch.timer,
                       tws_deadline_in(timeout))
        != TWS_OK) {
        tws_client_break_off(client, TWS_ENDED_BY_US,
                             "out of memory for its deadline");
    }
}

static void
begin_close_time(struct tws_server *server, struct tws_client *client)
{
    client->close_timed = true;
    set_deadline(server, client, server->options.close_timeout);
}

/* After the end ----------------------------------------------------------- */

/* Enough for what is in flight when a client is over, large messages too;
 * more is not worth our time. */
enum { LINGER_MAX = 16 * 1024 * 1024 };

/* Reads away what a finished client still sends (see linger() in
 * net/opening.c). True: the peer has ended, too, or sends without end. */
static bool
drain(struct tws_worker *worker, struct tws_client *client)
{
    for (int i = 0; i < 4 || tws_pending(&client->transport); i++) {
        size_t got;
        struct tws_error ignored; /* any end is an end here */
        enum tws_status status = tws_read(&client->transport, worker->scratch,
                                          TWS_SCRATCH_SIZE, &got, &ignored);
        if (status == TWS_AGAIN) {
            return false;
        }
        if (status != TWS_OK) {
            return true;
        }
        client->lingered += (uint32_t)got;
        if (client->lingered > LINGER_MAX) {
            return true;
        }
    }
    return false;
}

/* Tells the peer that nothing more comes, once everything has left. False:
 * nothing more can be sent. */
static bool
shut(struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    bool failed = client->write_failed;
    if (!failed && !client->shut && tws_buffer_length(&client->queue) == 0) {
        client->shut = true;
        client->transport.ops->end_writing(&client->transport);
    }
    pthread_mutex_unlock(&client->lock);
    return !failed;
}

/* Goes on with a client that is over: the queue leaves, the peer is told that
 * nothing more comes, and gets time to read it. */
static void
advance_lingering(struct tws_worker *worker, struct tws_client *client)
{
    tws_client_flush(client);
    if (!shut(client) || drain(worker, client)) {
        bury(worker->server, client);
    }
}

/* The program was told of the end. */
static void
after_close(struct tws_worker *worker, struct tws_client *client)
{
    struct tws_server *server = worker->server;
    if (client->lost) {
        bury(server, client);
        return;
    }
    client->lingering = true;
    client->next = server->lingering;
    if (client->next != NULL) {
        client->next->previous = client;
    }
    server->lingering = client;
    set_deadline(server, client, server->options.close_timeout);
    tws_client_pause(client, false);
    advance_lingering(worker, client);
}

/* The client is over, as worker->ending tells, and so does the program hear.
 */
static void
conclude(struct tws_worker *worker, struct tws_client *client)
{
    struct tws_server *server = worker->server;
    struct tws_handlers *handlers = &server->handlers;
    unlink_client(server, client);
    client->concluded = true;
    client->lost = worker->lost;
    if (!client->lost) {
        (void)shut(client); /* the handler may take long */
    }
    tws_client_describe_end(client, &worker->ending);
    tws_pool_enter(&server->pool, worker, &client->watch);
    handlers->close(handlers->context, client, &worker->ending);
    bool driving = tws_pool_leave(&server->pool, worker);
    client->user = NULL;
    if (driving) {
        after_close(worker, client);
    }
    else {
        tws_client_give_back(client);
    }
}

/* Serving ----------------------------------------------------------------- */

/* Of one client, then the others have their turn: small messages make up many
 * handlers, each of which may be quick. */
enum {
    MESSAGES_A_TURN = 1024,
    LOOKS_A_TURN = 2, /* of the watchdog, the clock that costs nothing */
};

static bool
had_its_turn(struct tws_pool *pool, unsigned began, unsigned served)
{
    return served >= MESSAGES_A_TURN
           || atomic_load_explicit(&pool->looks, memory_order_relaxed) - began
                  >= LOOKS_A_TURN;
}

/* Keeps what was read but not parsed; `unread` is where it lies, if not in the
 * scratch. False where there is no memory to keep it: serving goes on then. */
static bool
keep_rest(struct tws_worker *worker, struct tws_client *client,
          struct tws_buffer *unread)
{
    struct tws_input *rest = &worker->cursor;
    size_t kept = tws_buffer_length(unread);
    if (rest->length == 0) {
        return true;
    }
    if (kept > 0
        && rest->data == tws_buffer_data(unread) + kept - rest->length) {
        tws_buffer_consume(unread, kept - rest->length);
        client->receiving->unread = *unread;
        *unread = TWS_BUFFER_EMPTY;
    }
    else if (!tws_client_keep_received(client, *rest)) {
        return false;
    }
    *rest = (struct tws_input){0};
    return true;
}

/* The rest of a message that the handler has read in chunks is skipped. */
static bool
leave_handler(struct tws_worker *worker, struct tws_client *client)
{
    if (TWS_UNLIKELY(client->receiving->assembler.chunked)) {
        tws_message_stream_discard(&client->receiving->assembler);
    }
    return tws_pool_leave(&worker->server->pool, worker);
}

static void
dispatch(struct tws_worker *worker, struct tws_client *client,
         const struct tws_event *event)
{
    struct tws_server *server = worker->server;
    struct tws_handlers *handlers = &server->handlers;
    tws_pool_enter(&server->pool, worker, &client->watch);
    switch (event->type) {
    case TWS_EVENT_TEXT:
    case TWS_EVENT_BINARY:
        handlers->message(handlers->context, client, event);
        break;
    case TWS_EVENT_PING:
        handlers->ping(handlers->context, client, event);
        break;
    case TWS_EVENT_PONG:
        handlers->pong(handlers->context, client, event);
        break;
    case TWS_EVENT_FRAME:
        handlers->frame(handlers->context, client, event);
        break;
    case TWS_EVENT_CHUNK: /* a handler asks for these itself */
    case TWS_EVENT_CLOSE: /* tws_client_next() keeps it */
        break;
    }
    (void)leave_handler(worker, client);
}

/* Tells the program which of its messages have left, until the client is
 * uncorked. */
static void
uncork(struct tws_worker *worker, struct tws_client *client)
{
    struct tws_server *server = worker->server;
    struct tws_handlers *handlers = &server->handlers;
    struct tws_receipt *receipt = tws_client_uncork(worker, client);
    while (receipt != NULL) {
        tws_pool_enter(&server->pool, worker, &client->watch);
        handlers->sent(handlers->context, client, receipt->user);
        (void)leave_handler(worker, client);
        free(receipt);
        receipt = tws_client_uncork(worker, client);
    }
}

/* Its queue is too long to be served on. */
static bool
waits_for_room(struct tws_client *client)
{
    return atomic_load_explicit(&client->congested, memory_order_relaxed)
           && client->state == TWS_CLIENT_OPEN;
}

/* Calls handlers until there is nothing to read, or this was enough. True:
 * its queue became too long. */
static bool
serve_messages(struct tws_worker *worker, struct tws_client *client,
               unsigned began, unsigned *served)
{
    struct tws_event event;
    while (tws_client_next(worker, client, &event) == TWS_OK) {
        dispatch(worker, client, &event);
        if (!worker->driving) {
            worker->drained = true;
        }
        if (worker->over) {
            return false; /* found by a handler that read on */
        }
        if (waits_for_room(client)) {
            return true;
        }
        (*served)++;
        if (worker->driving
            && had_its_turn(&worker->server->pool, began, *served)) {
            return false;
        }
    }
    return false;
}

static bool
has_unread(const struct tws_client *client)
{
    return client->receiving != NULL
           && tws_buffer_length(&client->receiving->unread) > 0;
}

/* Serves what there is to read, beginning with what was kept back; replies
 * leave together. A worker that has lost the role serves what it has read
 * already, and leaves the rest to the driver. */
static void
serve(struct tws_worker *worker, struct tws_client *client, bool opening)
{
    struct tws_server *server = worker->server;
    tws_receiving_lend(worker, client);
    struct tws_buffer unread = client->receiving->unread;
    struct tws_input rest = {.data = tws_buffer_data(&unread),
                             .length = tws_buffer_length(&unread)};
    struct tws_error err;
    unsigned served = 0;
    unsigned began =
        atomic_load_explicit(&server->pool.looks, memory_order_relaxed);
    client->receiving->unread = TWS_BUFFER_EMPTY;
    tws_client_cork(worker, client, rest);
    if (opening) {
        tws_pool_enter(&server->pool, worker, &client->watch);
        server->handlers.open(server->handlers.context, client);
        worker->drained = !leave_handler(worker, client);
    }
    bool congested = serve_messages(worker, client, began, &served);
    /* Only then is the rest kept back: handlers->sent() may read on, too. */
    uncork(worker, client);
    while (!worker->over && !keep_rest(worker, client, &unread)) {
        tws_client_cork(worker, client, worker->cursor);
        congested = serve_messages(worker, client, began, &served);
        uncork(worker, client);
    }
    tws_buffer_release(&unread);
    if (!worker->over) {
        /* Where serving broke off, nobody has taken back what the last message
         * lies in. */
        tws_client_settle_received(client);
        if (!tws_receiving_take_back(worker, client)) {
            (void)tws_error_nomem(&err);
            tws_client_fail(worker, client, &err);
        }
    }
    if (worker->over) {
        tws_receiving_end(worker, client);
        conclude(worker, client);
        return;
    }
    if (congested && waits_for_room(client)) {
        tws_client_pause(client, true);
    }
    if (!worker->driving) {
        tws_client_give_back(client);
    }
    else if (!client->paused
             && (has_unread(client) || tws_pending(&client->transport))) {
        tws_server_attend(server, client);
    }
}

void
tws_serving_begin(struct tws_worker *worker, struct tws_client *client)
{
    link_client(worker->server, client);
    tws_keepalive_begin(client);
    serve(worker, client, true);
}

void
tws_serving_ready(struct tws_worker *worker, struct tws_client *client,
                  unsigned events)
{
    if (client->state == TWS_CLIENT_GONE) {
        return; /* ended earlier in this turn */
    }
    if (client->detached) {
        tws_client_flush(client); /* its worker does the rest */
        return;
    }
    if (client->state == TWS_CLIENT_LINGERING) {
        advance_lingering(worker, client);
        return;
    }
    if ((events & TWS_WRITABLE) != 0) {
        tws_client_flush(client);
    }
    if (client->paused) {
        if (client->congested && (events & TWS_HANGUP) == 0) {
            return;
        }
        /* Where the peer is gone the queue will never shrink: what it sent
         * before is still served. */
        tws_client_pause(client, false);
    }
    serve(worker, client, false);
}

/* Something has happened to a client that the driver was not serving. */
void
tws_serving_attend(struct tws_worker *worker, struct tws_client *client)
{
    struct tws_server *server = worker->server;
    bool returned = tws_client_take_back(client);
    if (client->state == TWS_CLIENT_GONE && client->transport.fd < 0) {
        return; /* buried meanwhile */
    }
    if (client->state == TWS_CLIENT_CLOSING && !client->close_timed) {
        begin_close_time(server, client);
    }
    if (client->detached) {
        return;
    }
    if (client->concluded) {
        if (returned) {
            after_close(worker, client);
        }
        return;
    }
    if (client->paused) {
        if (client->state == TWS_CLIENT_OPEN) {
            return;
        }
        /* What is kept back can't be answered any more, but the peer's Close
         * lies behind it. */
        tws_client_pause(client, false);
    }
    serve(worker, client, false);
}

static enum tws_ended_by
ended_by(struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    enum tws_ended_by by = (enum tws_ended_by)client->cause_by;
    pthread_mutex_unlock(&client->lock);
    return by;
}

void
tws_serving_expired(struct tws_worker *worker, struct tws_client *client)
{
    struct tws_server *server = worker->server;
    enum tws_ended_by by = ended_by(client);
    const char *reason = "peer did not answer our Close frame in time";
    switch ((enum tws_client_state)client->state) {
    case TWS_CLIENT_OPEN:
        if (!tws_keepalive_look(client, &reason)) {
            tws_client_give_up(worker, client, TWS_ENDED_BY_KEEPALIVE, reason);
            conclude(worker, client);
        }
        break;
    case TWS_CLIENT_CLOSING:
        if (!client->close_timed) {
            /* This was the keepalive's; the close is in the queue. */
            begin_close_time(server, client);
        }
        else if (client->detached) {
            tws_client_break_off(client, by, reason);
        }
        else {
            tws_client_give_up(worker, client, by, reason);
            conclude(worker, client);
        }
        break;
    case TWS_CLIENT_LINGERING:
        if (client->lingering) {
            bury(server, client);
        }
        break;
    case TWS_CLIENT_GONE:
        break;
    }
}

/* Stopping ---------------------------------------------------------------- */

void
tws_serving_close_all(struct tws_server *server, uint16_t code,
                      struct tws_span reason)
{
    pthread_mutex_lock(&server->lock);
    for (struct tws_client *client = server->clients; client != NULL;
         client = client->next) {
        struct tws_error ignored; /* one that can't be told is dropped */
        (void)tws_client_close(client, code, reason, TWS_ENDED_BY_US,
                               &ignored);
    }
    pthread_mutex_unlock(&server->lock);
}

static const char STOPPED[] =
    "server stopped before the peer answered its Close frame";

/* The next client that no slow handler has. */
static struct tws_client *
next_to_drop(struct tws_server *server)
{
    pthread_mutex_lock(&server->lock);
    struct tws_client *client = server->clients;
    while (client != NULL && client->detached) {
        client = client->next;
    }
    pthread_mutex_unlock(&server->lock);
    return client;
}

static void
break_off(void *context, struct tws_client *client)
{
    (void)context;
    tws_client_break_off(client, TWS_ENDED_BY_US, STOPPED);
}

void
tws_serving_drop_all(struct tws_worker *worker)
{
    struct tws_server *server = worker->server;
    struct tws_client *client = next_to_drop(server);
    while (client != NULL) {
        tws_client_give_up(worker, client, TWS_ENDED_BY_US, STOPPED);
        conclude(worker, client);
        if (!worker->driving) {
            return;
        }
        client = next_to_drop(server);
    }
    tws_server_each(server, break_off, NULL);
    while (server->lingering != NULL) {
        bury(server, server->lingering);
    }
}
