#include "engine/server_parts.h"

#include <unistd.h>

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
unlink_client(struct tws_server *server, struct tws_client *client)
{
    pthread_mutex_lock(&server->lock);
    if (client->previous != NULL) {
        client->previous->next = client->next;
    }
    else {
        server->clients = client->next;
    }
    if (client->next != NULL) {
        client->next->previous = client->previous;
    }
    server->client_count--;
    client->linked = false;
    if (client->in_todo) {
        struct tws_client **link = &server->todo;
        while (*link != client) {
            link = &(*link)->next_todo;
        }
        *link = client->next_todo;
        client->in_todo = false;
    }
    pthread_mutex_unlock(&server->lock);
    client->next = client->previous = NULL;
}

/* The descriptor goes; the memory stays until the turn is over. The client
 * is in none of the lists. */
static void
bury(struct tws_server *server, struct tws_client *client)
{
    struct tws_error ignored;
    tws_timers_cancel(&server->timers, &client->watch.timer);
    pthread_mutex_lock(&client->lock);
    int fd = client->transport.fd;
    client->transport.fd = -1;
    client->write_failed = true;
    client->state = TWS_CLIENT_GONE;
    tws_buffer_release(&client->queue); /* others may hold the client long */
    pthread_mutex_unlock(&client->lock);
    if (fd >= 0) {
        (void)tws_poller_remove(server->poller, fd, &ignored);
        close(fd);
    }
    tws_assembler_release(&client->assembler);
    tws_buffer_release(&client->unread);
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
unlink_lingering(struct tws_server *server, struct tws_client *client)
{
    if (client->previous != NULL) {
        client->previous->next = client->next;
    }
    else {
        server->lingering = client->next;
    }
    if (client->next != NULL) {
        client->next->previous = client->previous;
    }
    client->next = client->previous = NULL;
}

/* Tells the program that the client is over; it hears nothing after that. */
static void
report_close(struct tws_server *server, struct tws_client *client,
             uint16_t code, struct tws_span reason)
{
    unlink_client(server, client);
    server->handlers.close(server->handlers.context, client, code, reason);
    client->user = NULL;
}

static void
set_deadline(struct tws_server *server, struct tws_client *client,
             uint64_t timeout)
{
    if (tws_timers_set(&server->timers, &client->watch.timer,
                       tws_deadline_in(timeout))
        != TWS_OK) {
        tws_client_break_off(client); /* it could stay for ever */
    }
}

/* Enough for what is in flight when a client is over, large messages too;
 * more is not worth our time. */
enum { LINGER_MAX = 16 * 1024 * 1024 };

/* Reads away what a finished client still sends (see linger() in
 * net/opening.c). True: the peer has ended, too, or sends without end. */
static bool
drain(struct tws_server *server, struct tws_client *client)
{
    for (int i = 0; i < 4; i++) {
        size_t got;
        struct tws_error ignored; /* any end is an end here */
        enum tws_status status =
            tws_read(&client->transport, server->driver.scratch,
                     TWS_SCRATCH_SIZE, &got, &ignored);
        if (status == TWS_AGAIN) {
            return false;
        }
        if (status != TWS_OK) {
            return true;
        }
        client->lingered += got;
        if (client->lingered > LINGER_MAX) {
            return true;
        }
    }
    return false;
}

/* Goes on with a client that is over: the queue leaves, the peer is told that
 * nothing more comes, and gets time to read it. */
static void
advance_lingering(struct tws_server *server, struct tws_client *client)
{
    tws_client_flush(client);
    pthread_mutex_lock(&client->lock);
    bool failed = client->write_failed;
    bool flushed = tws_buffer_length(&client->queue) == 0;
    pthread_mutex_unlock(&client->lock);
    if (!failed && flushed && !client->shut) {
        client->shut = true;
        client->transport.ops->end_writing(&client->transport);
    }
    if (failed || drain(server, client)) {
        unlink_lingering(server, client);
        bury(server, client);
    }
}

/* The client is over, as driver->ending tells. */
static void
finish(struct tws_server *server, struct tws_client *client,
       const struct tws_ending *ending)
{
    struct tws_span reason = {.data = ending->reason,
                              .length = ending->reason_length};
    bool lost = ending->lost;
    report_close(server, client, ending->code, reason);
    if (lost) {
        bury(server, client);
        return;
    }
    client->next = server->lingering;
    if (client->next != NULL) {
        client->next->previous = client;
    }
    server->lingering = client;
    set_deadline(server, client, server->options.close_timeout);
    advance_lingering(server, client);
}

/* Ends a client that the peer has not ended. */
static void
give_up(struct tws_server *server, struct tws_client *client,
        struct tws_span reason)
{
    tws_driver_end(&server->driver, TWS_CLOSE_ABNORMAL, reason);
    server->driver.ending.lost = true;
    finish(server, client, &server->driver.ending);
}

/* Keeps what was read but not parsed, and reads no more, while the client
 * does not take what it is sent. False where there is no memory to keep it:
 * serving goes on then. */
static bool
pause_reading(struct tws_driver *driver, struct tws_client *client)
{
    if (driver->cursor.length > 0
        && tws_buffer_append(&client->unread, driver->cursor.data,
                             driver->cursor.length)
               != TWS_OK) {
        return false;
    }
    driver->cursor = (struct tws_input){0};
    tws_client_pause(client, true);
    return true;
}

static void
dispatch(struct tws_server *server, struct tws_client *client,
         const struct tws_event *event)
{
    struct tws_handlers *handlers = &server->handlers;
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
    case TWS_EVENT_CLOSE:
        break; /* tws_client_next() keeps it */
    }
}

/* Serves what there is to read, `rest` first; replies leave together. */
static void
serve(struct tws_server *server, struct tws_client *client,
      struct tws_input rest, bool opening)
{
    struct tws_driver *driver = &server->driver;
    struct tws_event event;
    tws_client_cork(driver, client, rest);
    if (opening) {
        server->handlers.open(server->handlers.context, client);
    }
    while (tws_client_next(driver, client, &event) == TWS_OK) {
        dispatch(server, client, &event);
        if (atomic_load_explicit(&client->congested, memory_order_relaxed)
            && !driver->ending.over /* found by a handler that read on */
            && pause_reading(driver, client)) {
            break;
        }
    }
    tws_client_uncork(driver, client);
    if (driver->ending.over) {
        finish(server, client, &driver->ending);
    }
}

/* After a pause: what was kept back is served before anything new. */
static void
resume_reading(struct tws_server *server, struct tws_client *client)
{
    struct tws_buffer unread = client->unread;
    struct tws_input rest = {.data = tws_buffer_data(&unread),
                             .length = tws_buffer_length(&unread)};
    client->unread = TWS_BUFFER_EMPTY;
    tws_client_pause(client, false);
    serve(server, client, rest, false);
    tws_buffer_release(&unread);
}

void
tws_serving_begin(struct tws_server *server, struct tws_client *client,
                  struct tws_input rest)
{
    link_client(server, client);
    serve(server, client, rest, true);
}

void
tws_serving_ready(struct tws_client *client, unsigned events)
{
    struct tws_server *server = client->server;
    uint8_t state = client->state;
    if (state == TWS_CLIENT_GONE) {
        return; /* ended earlier in this turn */
    }
    if (state == TWS_CLIENT_LINGERING) {
        advance_lingering(server, client);
        return;
    }
    if ((events & TWS_WRITABLE) != 0) {
        tws_client_flush(client);
    }
    if (!client->paused) {
        serve(server, client, (struct tws_input){0}, false);
    }
    else if ((events & TWS_HANGUP) != 0 || !client->congested) {
        /* Where the peer is gone the queue will never shrink: what it sent
         * before is still served. */
        resume_reading(server, client);
    }
}

void
tws_serving_expired(struct tws_client *client)
{
    struct tws_server *server = client->server;
    switch ((enum tws_client_state)client->state) {
    case TWS_CLIENT_CLOSING:
        give_up(server, client,
                TWS_SPAN("peer did not answer our Close frame in time"));
        break;
    case TWS_CLIENT_LINGERING:
        unlink_lingering(server, client);
        bury(server, client);
        break;
    case TWS_CLIENT_OPEN:
    case TWS_CLIENT_GONE:
        break;
    }
}

void
tws_serving_set_deadlines(struct tws_server *server)
{
    for (;;) {
        pthread_mutex_lock(&server->lock);
        struct tws_client *client = server->todo;
        if (client != NULL) {
            server->todo = client->next_todo;
            client->in_todo = false;
        }
        pthread_mutex_unlock(&server->lock);
        if (client == NULL) {
            return;
        }
        set_deadline(server, client, server->options.close_timeout);
    }
}

void
tws_serving_close_all(struct tws_server *server, uint16_t code,
                      struct tws_span reason)
{
    /* Only the driver takes clients out of the table: no lock to read it. */
    struct tws_client *next;
    for (struct tws_client *client = server->clients; client != NULL;
         client = next) {
        struct tws_error ignored; /* one that can't be told is dropped */
        next = client->next;
        (void)tws_client_close(client, code, reason, &ignored);
        if (client->paused) {
            /* What is kept back can't be answered any more, but the peer's
             * Close lies behind it. */
            resume_reading(server, client);
        }
    }
}

void
tws_serving_drop_all(struct tws_server *server)
{
    while (server->clients != NULL) {
        give_up(server, server->clients,
                TWS_SPAN("server stopped before the peer answered its Close "
                         "frame"));
    }
    while (server->lingering != NULL) {
        struct tws_client *client = server->lingering;
        unlink_lingering(server, client);
        bury(server, client);
    }
}
