#include "engine/server_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { ACCEPTS_A_TURN = 64 }; /* then the clients have their turn */

/* How long accepting pauses where descriptors or memory ran out. */
#define ACCEPT_PAUSE ((uint64_t)100 * 1000 * 1000)

struct tws_handshake {
    struct tws_watch watch; /* first */
    struct tws_server *server;
    struct tws_handshake *next;
    struct tws_handshake *previous;
    struct tws_opening opening;
    struct tws_address peer;
    void *user;   /* of an accepted one, until it becomes a client's */
    bool writing; /* watched for room to write, else for bytes */
};

const struct tws_address *
tws_handshake_peer(const struct tws_handshake *handshake)
{
    return &handshake->peer;
}

struct tws_span
tws_handshake_head(const struct tws_handshake *handshake,
                   const struct tws_http_head *head)
{
    /* The method is its first word, and `rest` begins where it ends. */
    const char *end = (const char *)handshake->opening.rest.data;
    return (struct tws_span){
        .data = head->method.data,
        .length = (size_t)(end - head->method.data),
    };
}

static void
unlink_handshake(struct tws_handshake *handshake)
{
    struct tws_server *server = handshake->server;
    if (handshake->previous != NULL) {
        handshake->previous->next = handshake->next;
    }
    else {
        server->handshakes = handshake->next;
    }
    if (handshake->next != NULL) {
        handshake->next->previous = handshake->previous;
    }
    tws_timers_cancel(&server->timers, &handshake->watch.timer);
    handshake->next = server->dead_handshakes;
    handshake->previous = NULL;
    server->dead_handshakes = handshake;
}

/* Ends a handshake without a client coming of it. */
static void
drop(struct tws_handshake *handshake)
{
    struct tws_server *server = handshake->server;
    struct tws_error ignored; /* the descriptor goes, whatever happens */
    int fd = handshake->opening.transport.fd;
    if (handshake->user != NULL) {
        server->handlers.discard(server->handlers.context, handshake->user);
        handshake->user = NULL;
    }
    (void)tws_poller_remove(server->poller, fd, &ignored);
    close(fd);
    handshake->opening.transport.fd = -1;
    unlink_handshake(handshake);
}

void
tws_handshakes_drop(struct tws_server *server)
{
    while (server->handshakes != NULL) {
        drop(server->handshakes);
    }
}

void
tws_handshakes_bury(struct tws_server *server)
{
    while (server->dead_handshakes != NULL) {
        struct tws_handshake *handshake = server->dead_handshakes;
        server->dead_handshakes = handshake->next;
        tws_opening_release(&handshake->opening);
        free(handshake);
    }
}

void
tws_handshake_expired(struct tws_handshake *handshake)
{
    struct tws_server *server = handshake->server;
    struct tws_error err;
    if (handshake->opening.state != TWS_OPENING_LINGERING) {
        (void)tws_error_refused(&err, 408,
                                "opening handshake not finished in time");
        server->handlers.refused(server->handlers.context, &handshake->peer,
                                 &err);
    }
    drop(handshake);
}

/* The 101 is out: what was a handshake is a client now. */
static void
become_client(struct tws_handshake *handshake)
{
    struct tws_server *server = handshake->server;
    struct tws_error err;
    struct tws_client *client =
        tws_client_new(server, &handshake->opening.transport);
    if (client == NULL) {
        drop(handshake);
        return;
    }
    client->user = handshake->user;
    client->interest = TWS_READABLE;
    if (tws_poller_modify(server->poller, client->transport.fd, TWS_READABLE,
                          client, &err)
        != TWS_OK) {
        client->transport.fd = -1; /* drop() closes it */
        tws_client_release(client);
        drop(handshake);
        return;
    }
    handshake->user = NULL;
    handshake->opening.transport.fd = -1;
    unlink_handshake(handshake);
    tws_serving_begin(server, client, handshake->opening.rest);
}

static void
decide(struct tws_handshake *handshake, const struct tws_http_head *head)
{
    struct tws_server *server = handshake->server;
    struct tws_opening *opening = &handshake->opening;
    struct tws_handshake_request request;
    struct tws_error err;
    if (tws_handshake_judge(head, &server->options.policy, &request, &err)
        == TWS_OK) {
        server->handlers.request(server->handlers.context, handshake, head,
                                 &request);
        return;
    }
    server->handlers.refused(server->handlers.context, &handshake->peer, &err);
    bool head_only = tws_span_equal(head->method, TWS_SPAN("HEAD"));
    /* Where even this fails the state stays DECIDING, and it is dropped. */
    (void)tws_opening_refuse(opening, err.http_status, err.reason, head_only,
                             &err);
}

/* Watches for what the opening waits for. */
static void
await(struct tws_handshake *handshake, bool writing)
{
    struct tws_server *server = handshake->server;
    struct tws_error err;
    if (handshake->writing == writing) {
        return;
    }
    handshake->writing = writing;
    if (tws_poller_modify(server->poller, handshake->opening.transport.fd,
                          writing ? TWS_WRITABLE : TWS_READABLE, handshake,
                          &err)
        != TWS_OK) {
        drop(handshake);
    }
}

static void
set_deadline(struct tws_handshake *handshake, uint64_t timeout)
{
    struct tws_server *server = handshake->server;
    if (tws_timers_set(&server->timers, &handshake->watch.timer,
                       tws_deadline_in(timeout))
        != TWS_OK) {
        drop(handshake); /* without a deadline it could stay for ever */
    }
}

void
tws_handshake_ready(struct tws_handshake *handshake)
{
    struct tws_server *server = handshake->server;
    struct tws_opening *opening = &handshake->opening;
    struct tws_http_head head;
    struct tws_error err = {.status = TWS_OK};
    if (opening->transport.fd < 0) {
        return; /* dropped earlier in this turn */
    }
    uint8_t before = opening->state;
    enum tws_opening_step step = tws_opening_advance(
        opening, &server->options.http, server->driver.scratch,
        TWS_SCRATCH_SIZE, &head, &err);
    if (step == TWS_STEP_REQUEST) {
        decide(handshake, &head);
        step = opening->state == TWS_OPENING_DECIDING
                   ? TWS_STEP_GONE
                   : tws_opening_advance(opening, &server->options.http,
                                         server->driver.scratch,
                                         TWS_SCRATCH_SIZE, &head, &err);
    }
    else if (before == TWS_OPENING_READING && err.status != TWS_OK) {
        server->handlers.refused(server->handlers.context, &handshake->peer,
                                 &err);
    }
    if (before != TWS_OPENING_LINGERING
        && opening->state == TWS_OPENING_LINGERING && step == TWS_STEP_READ) {
        set_deadline(handshake, server->options.close_timeout);
        if (opening->transport.fd < 0) {
            return;
        }
    }
    switch (step) {
    case TWS_STEP_READ:
        await(handshake, false);
        break;
    case TWS_STEP_WRITE:
        await(handshake, true);
        break;
    case TWS_STEP_CONNECTED:
        become_client(handshake);
        break;
    case TWS_STEP_REQUEST:
    case TWS_STEP_GONE:
        drop(handshake);
        break;
    }
}

enum tws_status
tws_handshake_accept(struct tws_handshake *handshake,
                     const struct tws_handshake_request *request, void *user,
                     struct tws_error *err)
{
    enum tws_status status = tws_opening_accept(&handshake->opening, request,
                                                TWS_SPAN(""), NULL, 0, err);
    if (status == TWS_OK) {
        handshake->user = user;
    }
    return status;
}

enum tws_status
tws_handshake_answer(struct tws_handshake *handshake, struct tws_span answer,
                     struct tws_error *err)
{
    return tws_opening_answer(&handshake->opening, answer, err);
}

enum tws_status
tws_handshake_refuse(struct tws_handshake *handshake, uint16_t http_status,
                     const char *reason, bool head_only, struct tws_error *err)
{
    return tws_opening_refuse(&handshake->opening, http_status, reason,
                              head_only, err);
}

static enum tws_status
begin_handshake(struct tws_server *server, int fd,
                const struct tws_address *peer, struct tws_error *err)
{
    struct tws_handshake *handshake = calloc(1, sizeof(*handshake));
    struct tws_transport transport;
    if (handshake == NULL) {
        close(fd);
        return tws_error_nomem(err);
    }
    handshake->watch.kind = TWS_WATCH_HANDSHAKE;
    handshake->server = server;
    handshake->peer = *peer;
    tws_transport_plain(&transport, fd);
    enum tws_status status =
        tws_opening_init(&handshake->opening, &transport, TWS_SPAN(""), err);
    if (status == TWS_OK) {
        status =
            tws_poller_add(server->poller, fd, TWS_READABLE, handshake, err);
    }
    if (status != TWS_OK) {
        tws_opening_release(&handshake->opening);
        free(handshake);
        close(fd);
        return status;
    }
    handshake->next = server->handshakes;
    if (handshake->next != NULL) {
        handshake->next->previous = handshake;
    }
    server->handshakes = handshake;
    set_deadline(handshake, server->options.open_timeout);
    return TWS_OK;
}

static void
pause_accepting(struct tws_server *server, const struct tws_error *why)
{
    if (tws_timers_set(&server->timers, &server->watch.timer,
                       tws_deadline_in(ACCEPT_PAUSE))
        != TWS_OK) {
        return; /* then the listener simply stays watched */
    }
    tws_accepting_stop(server);
    server->handlers.accept_paused(server->handlers.context, why);
}

void
tws_accepting_ready(struct tws_server *server)
{
    if (!server->accepting) {
        return;
    }
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd;
        struct tws_address peer;
        struct tws_error err;
        enum tws_status status =
            tws_socket_accept(server->listener, &fd, &peer, &err);
        if (status == TWS_OK) {
            status = begin_handshake(server, fd, &peer, &err);
        }
        if (status == TWS_AGAIN) {
            return;
        }
        if (status != TWS_OK) {
            pause_accepting(server, &err);
            return;
        }
    }
}

enum tws_status
tws_accepting_start(struct tws_server *server, struct tws_error *err)
{
    enum tws_status status = tws_poller_add(server->poller, server->listener,
                                            TWS_READABLE, &server->watch, err);
    server->accepting = status == TWS_OK;
    return status;
}

void
tws_accepting_stop(struct tws_server *server)
{
    struct tws_error ignored;
    if (server->accepting) {
        (void)tws_poller_remove(server->poller, server->listener, &ignored);
        server->accepting = false;
    }
}

void
tws_accepting_resume(struct tws_server *server)
{
    struct tws_error err;
    if (tws_accepting_start(server, &err) != TWS_OK) {
        pause_accepting(server, &err);
    }
}
