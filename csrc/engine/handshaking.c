/* A connection from accept() to its 101, or to the end of a plain answer. */
#include "engine/server_parts.h"

#include "net/tls.h"

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* TLS handshakes that go a step in one turn of the loop, so that a crowd of
 * them does not hold up the clients. */
enum { SECURED_A_TURN = 4 };

struct tws_handshake {
    struct tws_watch watch; /* first */
    struct tws_server *server;
    struct tws_handshake *next;
    struct tws_handshake *previous;
    struct tws_opening opening;
    struct tws_address peer;
    struct tws_half_open_entry half_open;
    struct tws_error refusal; /* that a handler has decided on, until it is
                               * told; status TWS_OK: none */
    void *user; /* of an accepted one, until it becomes a client's */
    struct tws_agreed agreed; /* with it, but for `extensions` */
    bool placed;  /* has a place among max_clients, until a client has it */
    bool writing; /* watched for room to write, else for bytes */
    int fd;       /* the transport's; who takes the role reads it while the TLS
                   * handshake may change that one */
    bool detached; /* a worker that does not drive has it in a handler;
                    * written under the pool's lock */
    bool expired;  /* meanwhile */
    bool failed;   /* the TLS handshake did */
};

const struct tws_address *
tws_handshake_peer(const struct tws_handshake *handshake)
{
    return &handshake->peer;
}

int
tws_handshake_fd(const struct tws_handshake *handshake)
{
    return handshake->opening.transport.fd;
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

/* The end ---------------------------------------------------------------- */

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
    tws_half_open_remove(&handshake->half_open);
    tws_timers_cancel(&server->timers, &handshake->watch.timer);
    handshake->next = server->dead_handshakes;
    handshake->previous = NULL;
    server->dead_handshakes = handshake;
}

static void
free_place(struct tws_handshake *handshake)
{
    if (handshake->placed) {
        handshake->placed = false;
        tws_accepting_free_place(handshake->server);
    }
}

/* Ends a handshake without a client coming of it. */
static void
drop(struct tws_handshake *handshake)
{
    struct tws_server *server = handshake->server;
    struct tws_error ignored; /* the descriptor goes, whatever happens */
    struct tws_transport *transport = &handshake->opening.transport;
    int fd = transport->fd;
    if (handshake->detached) {
        handshake->expired = true; /* its handler still looks at it */
        return;
    }
    if (handshake->user != NULL) {
        server->handlers.discard(server->handlers.context, handshake->user);
        handshake->user = NULL;
    }
    free_place(handshake);
    tws_compression_free(handshake->agreed.compression);
    handshake->agreed.compression = NULL;
    (void)tws_poller_remove(server->poller, fd, &ignored);
    tws_transport_release(transport);
    close(fd);
    unlink_handshake(handshake);
}

void
tws_handshakes_drop(struct tws_server *server)
{
    struct tws_handshake *next;
    for (struct tws_handshake *handshake = server->handshakes;
         handshake != NULL; handshake = next) {
        next = handshake->next;
        drop(handshake);
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

static void
refused(struct tws_handshake *handshake, const struct tws_error *err)
{
    struct tws_server *server = handshake->server;
    if (handshake->expired) {
        return; /* was told before, while its handler looked at it */
    }
    atomic_fetch_add_explicit(&server->refused, 1, memory_order_relaxed);
    server->handlers.refused(server->handlers.context, &handshake->peer, err);
}

/* The driver's part of tws_handshake_note_refusal(). */
static void
report_refusal(struct tws_handshake *handshake)
{
    if (handshake->refusal.status != TWS_OK) {
        refused(handshake, &handshake->refusal);
        handshake->refusal.status = TWS_OK;
    }
}

void
tws_handshake_expired(struct tws_handshake *handshake)
{
    struct tws_error err;
    /* While a slow handler decides, the opening is that thread's. */
    if (handshake->detached
        || handshake->opening.state != TWS_OPENING_LINGERING) {
        (void)tws_error_refused(&err, 408,
                                "opening handshake not finished in time");
        refused(handshake, &err);
    }
    drop(handshake);
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

/* Deciding --------------------------------------------------------------- */

/* The 101 is out: what was a handshake is a client now. */
static void
become_client(struct tws_worker *worker, struct tws_handshake *handshake)
{
    struct tws_server *server = handshake->server;
    struct tws_input rest = handshake->opening.rest;
    struct tws_error err;
    struct tws_client *client =
        tws_client_new(server, &handshake->opening.transport);
    if (client == NULL) {
        drop(handshake);
        return;
    }
    client->user = handshake->user;
    client->interest = TWS_READABLE;
    enum tws_status status =
        tws_client_agree(client, &handshake->agreed, &err);
    handshake->agreed.compression = NULL; /* the client's */
    if (status != TWS_OK
        || (rest.length > 0 && !tws_client_keep_received(client, rest))
        || tws_poller_modify(server->poller, client->transport.fd,
                             TWS_READABLE, client, &err)
               != TWS_OK) {
        client->transport = (struct tws_transport){.fd = -1}; /* drop()'s */
        tws_client_release(client);
        drop(handshake);
        return;
    }
    handshake->user = NULL;
    handshake->placed = false;
    handshake->opening.transport = (struct tws_transport){.fd = -1};
    unlink_handshake(handshake);
    atomic_fetch_add_explicit(&server->accepted, 1, memory_order_relaxed);
    tws_serving_begin(worker, client);
}

static enum tws_status
refuse_for_lack_of_place(struct tws_error *err)
{
    return tws_error_refused(err, 503,
                             "the server has as many clients as it may: try "
                             "again later");
}

/* Asks the program, or refuses in its stead. */
static void
decide(struct tws_worker *worker, struct tws_handshake *handshake,
       const struct tws_http_head *head)
{
    struct tws_server *server = handshake->server;
    struct tws_opening *opening = &handshake->opening;
    struct tws_handshake_request request;
    struct tws_error err;
    enum tws_status status =
        tws_handshake_judge(head, &server->options.policy, &request, &err);
    /* It gets its place when it is accepted: whoever is refused after a slow
     * look at its password has not kept others out meanwhile. */
    if (status == TWS_OK && request.upgrade
        && !tws_accepting_has_place(server)) {
        status = refuse_for_lack_of_place(&err);
    }
    if (status == TWS_OK) {
        tws_pool_enter(&server->pool, worker, &handshake->watch);
        server->handlers.request(server->handlers.context, handshake, head,
                                 &request);
        if (tws_pool_leave(&server->pool, worker)) {
            report_refusal(handshake);
        }
        return;
    }
    refused(handshake, &err);
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

/* The TLS handshake computes for milliseconds: as a slow handler does, and
 * without the exclusion. False: another worker drives now. */
static bool
secure(struct tws_worker *worker, struct tws_handshake *handshake,
       enum tws_opening_step *step, struct tws_error *err)
{
    struct tws_server *server = handshake->server;
    struct tws_handlers *handlers = &server->handlers;
    worker->secured++;
    tws_pool_enter(&server->pool, worker, &handshake->watch);
    void *token = handlers->leave(handlers->context);
    *step = tws_opening_secure(&handshake->opening, err);
    handlers->enter(handlers->context, token);
    (void)tws_pool_leave(&server->pool, worker);
    handshake->failed = *step == TWS_STEP_GONE;
    return worker->driving;
}

/* Goes on until it has to wait, and waits for that. */
static void
advance(struct tws_worker *worker, struct tws_handshake *handshake)
{
    struct tws_server *server = handshake->server;
    struct tws_opening *opening = &handshake->opening;
    struct tws_http_head head;
    struct tws_error err = {.status = TWS_OK};
    uint8_t before = opening->state;
    enum tws_opening_step step = TWS_STEP_READ;
    if (before == TWS_OPENING_SECURING) {
        bool driving = secure(worker, handshake, &step, &err);
        if (err.status != TWS_OK) {
            refused(handshake, &err);
        }
        if (!driving) {
            tws_server_queue(server, &handshake->watch);
            return;
        }
    }
    if (opening->state != TWS_OPENING_SECURING) {
        before = opening->state;
        step = tws_opening_advance(opening, &server->options.http,
                                   worker->scratch, TWS_SCRATCH_SIZE, &head,
                                   &err);
    }
    if (step == TWS_STEP_REQUEST) {
        decide(worker, handshake, &head);
        if (!worker->driving) {
            tws_server_queue(server, &handshake->watch);
            return;
        }
        before = opening->state;
        step = before == TWS_OPENING_DECIDING
                   ? TWS_STEP_GONE
                   : tws_opening_advance(opening, &server->options.http,
                                         worker->scratch, TWS_SCRATCH_SIZE,
                                         &head, &err);
    }
    else if (before == TWS_OPENING_READING && err.status != TWS_OK) {
        refused(handshake, &err);
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
        become_client(worker, handshake);
        break;
    case TWS_STEP_REQUEST:
    case TWS_STEP_GONE:
        drop(handshake);
        break;
    }
}

void
tws_handshake_ready(struct tws_worker *worker, struct tws_handshake *handshake)
{
    /* Neither dropped nor in a handler since the poller named it. */
    if (handshake->opening.transport.fd < 0 || handshake->detached) {
        return;
    }
    if (handshake->opening.state == TWS_OPENING_SECURING
        && worker->secured >= SECURED_A_TURN) {
        return; /* the poller names it again */
    }
    advance(worker, handshake);
}

void
tws_handshake_detach(struct tws_handshake *handshake)
{
    struct tws_error ignored; /* it would be told of it, and look away */
    handshake->detached = true;
    (void)tws_poller_remove(handshake->server->poller, handshake->fd,
                            &ignored);
}

/* The slow handler has returned. */
void
tws_handshake_attend(struct tws_worker *worker,
                     struct tws_handshake *handshake)
{
    struct tws_server *server = handshake->server;
    struct tws_error err;
    handshake->detached = false;
    handshake->writing = false;
    bool watched =
        tws_poller_add(server->poller, handshake->opening.transport.fd,
                       TWS_READABLE, handshake, &err)
        == TWS_OK;
    if (!watched || handshake->expired || handshake->failed
        || server->pool.over
        || handshake->opening.state == TWS_OPENING_DECIDING) {
        drop(handshake);
    }
    else {
        report_refusal(handshake);
        advance(worker, handshake);
    }
}

enum tws_status
tws_handshake_accept(struct tws_handshake *handshake,
                     const struct tws_handshake_request *request,
                     const struct tws_agreed *agreed,
                     const struct tws_http_field *fields, size_t field_count,
                     void *user, struct tws_error *err)
{
    handshake->placed = tws_accepting_take_place(handshake->server);
    if (!handshake->placed) {
        return refuse_for_lack_of_place(err);
    }
    enum tws_status status =
        tws_opening_accept(&handshake->opening, request, agreed->extensions,
                           fields, field_count, err);
    if (status == TWS_OK) {
        handshake->user = user;
        handshake->agreed = *agreed;
        handshake->agreed.extensions = TWS_SPAN("");
    }
    else {
        free_place(handshake);
    }
    return status;
}

void
tws_handshake_note_refusal(struct tws_handshake *handshake,
                           const struct tws_error *why)
{
    handshake->refusal = *why;
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

/* The beginning ---------------------------------------------------------- */

static struct tws_handshake *
of_half_open(struct tws_half_open_entry *entry)
{
    void *start = (char *)entry - offsetof(struct tws_handshake, half_open);
    return start;
}

/* Where one address has too many, its oldest goes. */
static void
limit_half_open(struct tws_handshake *handshake)
{
    struct tws_half_open_entry *entry =
        tws_half_open_add(&handshake->server->half_open, &handshake->half_open,
                          &handshake->peer);
    struct tws_error err;
    if (entry != NULL) {
        struct tws_handshake *oldest = of_half_open(entry);
        (void)tws_error_refused(&err, 429,
                                "too many opening handshakes from one "
                                "address: the oldest is dropped");
        refused(oldest, &err);
        drop(oldest);
    }
}

/* Encrypts the transport where the server does so. */
static enum tws_status
begin_tls(struct tws_server *server, struct tws_transport *transport,
          struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    pthread_mutex_lock(&server->lock);
    struct tws_tls_context *context = server->tls;
    if (context != NULL) {
        (void)tws_tls_context_retain(context);
    }
    pthread_mutex_unlock(&server->lock);
    if (context != NULL) {
        status = tws_tls_start(transport, context, NULL, NULL, err);
        tws_tls_context_release(context);
    }
    return status;
}

enum tws_status
tws_handshake_begin(struct tws_server *server, int fd,
                    const struct tws_address *peer, struct tws_error *err)
{
    struct tws_handshake *handshake = calloc(1, sizeof(*handshake));
    struct tws_transport transport;
    if (handshake == NULL) {
        close(fd);
        return tws_error_nomem(err);
    }
    handshake->watch.kind = TWS_WATCH_HANDSHAKE;
    handshake->fd = fd;
    handshake->server = server;
    handshake->peer = *peer;
    tws_transport_plain(&transport, fd);
    enum tws_status status = begin_tls(server, &transport, err);
    if (status == TWS_OK) {
        status = tws_opening_init(&handshake->opening, &transport,
                                  TWS_SPAN(""), err);
    }
    if (status == TWS_OK) {
        status =
            tws_poller_add(server->poller, fd, TWS_READABLE, handshake, err);
    }
    if (status != TWS_OK) {
        tws_opening_release(&handshake->opening);
        free(handshake);
        tws_transport_release(&transport);
        close(fd);
        return status;
    }
    handshake->next = server->handshakes;
    if (handshake->next != NULL) {
        handshake->next->previous = handshake;
    }
    server->handshakes = handshake;
    set_deadline(handshake, server->options.open_timeout);
    if (handshake->opening.transport.fd >= 0) {
        limit_half_open(handshake);
    }
    return TWS_OK;
}
