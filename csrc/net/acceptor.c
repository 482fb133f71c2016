#include "net/acceptor.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    ACCEPTS_A_TURN = 16, /* then those who wait have their turn */
    SCRATCH_SIZE = 8192,
};

struct half_open {
    struct tws_opening opening;
    struct tws_address peer;
    struct tws_buffer head; /* of an upgrade that was accepted, or that the
                             * owner is to decide on */
    struct tws_buffer note; /* the owner's, and so is `user`, or NULL */
    void *user;
    uint64_t deadline; /* UINT64_MAX: none */
    bool ready;
    bool writing; /* waits for room to write, else for bytes */
};

struct tws_acceptor {
    int listener;
    bool listener_ready;
    struct tws_acceptor_options options;
    struct half_open **peers; /* owned; the oldest first */
    struct pollfd *polled;    /* owned; those of `peers`, then the listener */
    size_t count;
    size_t turn;             /* where in `peers` the walk goes on */
    struct half_open *asked; /* in `peers`; what the owner was asked about by
                              * the last call, or NULL */
};

enum tws_status
tws_acceptor_new(int listener, const struct tws_acceptor_options *options,
                 struct tws_acceptor **acceptor, struct tws_error *err)
{
    struct tws_acceptor *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return tws_error_nomem(err);
    }
    made->listener = listener;
    made->options = *options;
    if (options->tls != NULL) {
        (void)tws_tls_context_retain(options->tls);
    }
    made->peers = calloc(options->half_open_max, sizeof(struct half_open *));
    made->polled = calloc(options->half_open_max + 1, sizeof(made->polled[0]));
    if (made->peers == NULL || made->polled == NULL) {
        tws_acceptor_free(made);
        return tws_error_nomem(err);
    }
    *acceptor = made;
    return TWS_OK;
}

static void
free_half_open(struct tws_acceptor *acceptor, struct half_open *peer)
{
    const struct tws_acceptor_options *options = &acceptor->options;
    int fd = peer->opening.transport.fd;
    tws_transport_release(&peer->opening.transport);
    if (fd >= 0) {
        close(fd);
    }
    tws_opening_release(&peer->opening);
    tws_buffer_release(&peer->head);
    tws_buffer_release(&peer->note);
    if (peer->user != NULL) {
        options->discard(options->context, peer->user);
    }
    free(peer);
}

void
tws_acceptor_free(struct tws_acceptor *acceptor)
{
    if (acceptor == NULL) {
        return;
    }
    for (size_t i = 0; i < acceptor->count; i++) {
        free_half_open(acceptor, acceptor->peers[i]);
    }
    tws_tls_context_release(acceptor->options.tls);
    free(acceptor->peers);
    free(acceptor->polled);
    free(acceptor);
}

void
tws_accepted_release(struct tws_accepted *accepted)
{
    tws_buffer_release(&accepted->head);
    tws_buffer_release(&accepted->rest);
    tws_buffer_release(&accepted->note);
}

size_t
tws_acceptor_half_open(const struct tws_acceptor *acceptor)
{
    return acceptor->count;
}

static uint64_t
later(uint64_t now, uint64_t timeout)
{
    return timeout > UINT64_MAX - now ? UINT64_MAX : now + timeout;
}

static void
remove_peer(struct tws_acceptor *acceptor, size_t index)
{
    struct half_open *peer = acceptor->peers[index];
    acceptor->count--;
    memmove(&acceptor->peers[index], &acceptor->peers[index + 1],
            (acceptor->count - index) * sizeof(struct half_open *));
    if (acceptor->turn > index) {
        acceptor->turn--;
    }
    free_half_open(acceptor, peer);
}

/* --- one handshake --- */

/* Keeps the head of an upgrade beyond the scratch: the owner makes its
 * request object of it when the 101 is out. */
static enum tws_status
keep_head(struct half_open *peer, const struct tws_http_head *head,
          struct tws_error *err)
{
    /* The head begins with its method and ends where the rest begins. */
    const char *start = head->method.data;
    const char *end = (const char *)peer->opening.rest.data;
    if (tws_buffer_append(&peer->head, start, (size_t)(end - start))
        != TWS_OK) {
        return tws_error_nomem(err);
    }
    return TWS_OK;
}

/* Answers a request, or leaves that to the owner; *err tells of a refusal. */
static void
decide(struct tws_acceptor *acceptor, struct half_open *peer,
       const struct tws_http_head *head, struct tws_error *err)
{
    const struct tws_acceptor_options *options = &acceptor->options;
    struct tws_handshake_request request;
    enum tws_status status =
        tws_handshake_judge(head, &options->policy, &request, err);
    if (status == TWS_OK && !request.upgrade) {
        /* RFC 9110 §15.5.22: the answer to a client that does not ask. */
        status = tws_error_refused(
            err, 426,
            "this is a WebSocket endpoint: a plain HTTP request can't be "
            "answered, expected \"Upgrade: websocket\"");
    }
    if (status == TWS_OK) {
        status = keep_head(peer, head, err);
    }
    if (status == TWS_OK && options->asks) {
        status = tws_opening_keep_rest(&peer->opening, err);
        acceptor->asked = status == TWS_OK ? peer : NULL;
        return;
    }
    if (status == TWS_OK) {
        status =
            tws_opening_accept(&peer->opening, &request, TWS_SPAN(""),
                               options->fields, options->field_count, err);
    }
    if (status == TWS_REFUSED) {
        struct tws_error ignored; /* then the state stays, see advance_one */
        bool head_only = tws_span_equal(head->method, TWS_SPAN("HEAD"));
        (void)tws_opening_refuse(&peer->opening, err->http_status, err->reason,
                                 head_only, &ignored);
    }
}

/* The 101 is out. */
static enum tws_acceptor_event
hand_over(struct tws_acceptor *acceptor, size_t index,
          struct tws_accepted *accepted)
{
    struct half_open *peer = acceptor->peers[index];
    struct tws_input rest = peer->opening.rest;
    *accepted = (struct tws_accepted){
        .transport = peer->opening.transport,
        .peer = peer->peer,
        .head = peer->head,
        .note = peer->note,
        .user = peer->user,
    };
    peer->head = TWS_BUFFER_EMPTY;
    peer->note = TWS_BUFFER_EMPTY;
    if (tws_buffer_append(&accepted->rest, rest.data, rest.length) != TWS_OK) {
        tws_accepted_release(accepted);
        remove_peer(acceptor, index);
        return TWS_ACCEPTOR_IDLE;
    }
    peer->user = NULL;
    peer->opening.transport = (struct tws_transport){.fd = -1};
    remove_peer(acceptor, index);
    return TWS_ACCEPTOR_CONNECTED;
}

/* Goes on with one peer; IDLE where there is nothing to report. */
static enum tws_acceptor_event
advance_one(struct tws_acceptor *acceptor, size_t index, uint64_t now,
            struct tws_accepted *accepted, struct tws_error *err)
{
    struct half_open *peer = acceptor->peers[index];
    struct tws_opening *opening = &peer->opening;
    const struct tws_http_limits *limits = &acceptor->options.http;
    uint8_t scratch[SCRATCH_SIZE];
    struct tws_http_head head;
    uint8_t before = opening->state;

    peer->ready = false;
    *err = (struct tws_error){.status = TWS_OK};
    enum tws_opening_step step = tws_opening_advance(
        opening, limits, scratch, sizeof(scratch), &head, err);
    if (step == TWS_STEP_REQUEST) {
        struct tws_error ignored;
        decide(acceptor, peer, &head, err);
        if (acceptor->asked != NULL) {
            return TWS_ACCEPTOR_REQUEST;
        }
        step = opening->state == TWS_OPENING_DECIDING
                   ? TWS_STEP_GONE
                   : tws_opening_advance(opening, limits, scratch,
                                         sizeof(scratch), &head, &ignored);
    }
    /* `before`: later it was reported already. */
    bool report = before <= TWS_OPENING_READING && err->status != TWS_OK;
    if (step == TWS_STEP_CONNECTED) {
        return hand_over(acceptor, index, accepted);
    }
    if (step == TWS_STEP_GONE || step == TWS_STEP_REQUEST) {
        remove_peer(acceptor, index);
    }
    else {
        peer->writing = step == TWS_STEP_WRITE;
        if (before != TWS_OPENING_LINGERING
            && opening->state == TWS_OPENING_LINGERING) {
            peer->deadline = later(now, acceptor->options.close_timeout);
        }
    }
    return report ? TWS_ACCEPTOR_REFUSED : TWS_ACCEPTOR_IDLE;
}

static enum tws_acceptor_event
expire(struct tws_acceptor *acceptor, size_t index, struct tws_error *err)
{
    uint8_t state = acceptor->peers[index]->opening.state;
    remove_peer(acceptor, index);
    if (state == TWS_OPENING_LINGERING) {
        return TWS_ACCEPTOR_IDLE;
    }
    (void)tws_error_refused(err, 408,
                            "opening handshake not finished in time");
    return TWS_ACCEPTOR_REFUSED;
}

/* Goes on with the peer that the owner was asked about. */
static enum tws_acceptor_event
follow_decision(struct tws_acceptor *acceptor, uint64_t now,
                struct tws_accepted *accepted, struct tws_address *who,
                struct tws_error *err)
{
    struct half_open *peer = acceptor->asked;
    size_t index = 0;
    while (acceptor->peers[index] != peer) {
        index++;
    }
    acceptor->asked = NULL;
    *who = peer->peer;
    if (peer->opening.state == TWS_OPENING_DECIDING) {
        remove_peer(acceptor, index);
        return TWS_ACCEPTOR_IDLE;
    }
    if (peer->opening.accepted && peer->deadline <= now) {
        return expire(acceptor, index, err);
    }
    return advance_one(acceptor, index, now, accepted, err);
}

/* --- all of them --- */

/* One turn over those who wait, from where the last one stopped. */
static enum tws_acceptor_event
advance_all(struct tws_acceptor *acceptor, uint64_t now,
            struct tws_accepted *accepted, struct tws_address *who,
            struct tws_error *err)
{
    while (acceptor->turn < acceptor->count) {
        size_t index = acceptor->turn++;
        struct half_open *peer = acceptor->peers[index];
        enum tws_acceptor_event event = TWS_ACCEPTOR_IDLE;
        *who = peer->peer;
        if (peer->ready) {
            event = advance_one(acceptor, index, now, accepted, err);
        }
        else if (peer->deadline <= now) {
            event = expire(acceptor, index, err);
        }
        if (event != TWS_ACCEPTOR_IDLE) {
            return event;
        }
    }
    acceptor->turn = 0;
    return TWS_ACCEPTOR_IDLE;
}

static enum tws_status
add_peer(struct tws_acceptor *acceptor, int fd,
         const struct tws_address *address, uint64_t now,
         struct tws_error *err)
{
    const struct tws_acceptor_options *options = &acceptor->options;
    struct tws_transport transport;
    enum tws_status status = TWS_OK;
    struct half_open *peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        close(fd);
        return tws_error_nomem(err);
    }
    tws_transport_plain(&transport, fd);
    if (options->tls != NULL) {
        status = tws_tls_start(&transport, options->tls, NULL, NULL, err);
    }
    if (status == TWS_OK) {
        status =
            tws_opening_init(&peer->opening, &transport, TWS_SPAN(""), err);
    }
    if (status != TWS_OK) {
        peer->opening.transport = transport;
        free_half_open(acceptor, peer);
        return status;
    }
    peer->peer = *address;
    peer->deadline = later(now, acceptor->options.open_timeout);
    peer->ready = true; /* the request has often come by now */
    acceptor->peers[acceptor->count] = peer;
    acceptor->count++;
    return TWS_OK;
}

/* Takes what waits at the listener. Where there is no room the oldest goes,
 * which is the likeliest never to finish; *who and *err tell. */
static enum tws_acceptor_event
take_connections(struct tws_acceptor *acceptor, uint64_t now,
                 struct tws_address *who, struct tws_error *err)
{
    for (int i = 0; i < ACCEPTS_A_TURN && acceptor->listener_ready; i++) {
        int fd;
        struct tws_address address;
        enum tws_status status =
            tws_socket_accept(acceptor->listener, &fd, &address, err);
        if (status == TWS_AGAIN) {
            acceptor->listener_ready = false;
            break;
        }
        if (status != TWS_OK) {
            acceptor->listener_ready = false;
            return TWS_ACCEPTOR_FAILED;
        }
        if (acceptor->options.replace != NULL) {
            fd = acceptor->options.replace(acceptor->options.context, fd);
            if (fd < 0) {
                continue;
            }
        }
        bool full = acceptor->count == acceptor->options.half_open_max;
        if (full) {
            *who = acceptor->peers[0]->peer;
            remove_peer(acceptor, 0);
        }
        status = add_peer(acceptor, fd, &address, now, err);
        if (status != TWS_OK) {
            return TWS_ACCEPTOR_FAILED;
        }
        if (full) {
            (void)tws_error_refused(err, 503,
                                    "dropped for newer connections: more "
                                    "than %zu handshakes are unfinished",
                                    acceptor->options.half_open_max);
            return TWS_ACCEPTOR_REFUSED;
        }
    }
    return TWS_ACCEPTOR_IDLE;
}

enum tws_acceptor_event
tws_acceptor_advance(struct tws_acceptor *acceptor, uint64_t now,
                     struct tws_accepted *accepted, struct tws_address *peer,
                     struct tws_error *err)
{
    enum tws_acceptor_event event = TWS_ACCEPTOR_IDLE;
    if (acceptor->asked != NULL) {
        event = follow_decision(acceptor, now, accepted, peer, err);
    }
    if (event == TWS_ACCEPTOR_IDLE) {
        event = advance_all(acceptor, now, accepted, peer, err);
    }
    if (event == TWS_ACCEPTOR_IDLE && acceptor->listener_ready) {
        event = take_connections(acceptor, now, peer, err);
        if (event == TWS_ACCEPTOR_IDLE) {
            event = advance_all(acceptor, now, accepted, peer, err);
        }
    }
    return event;
}

/* --- the owner's decision --- */

struct tws_span
tws_acceptor_request(const struct tws_acceptor *acceptor)
{
    const struct tws_buffer *head = &acceptor->asked->head;
    return (struct tws_span){
        .data = (const char *)tws_buffer_data(head),
        .length = tws_buffer_length(head),
    };
}

enum tws_status
tws_acceptor_accept(struct tws_acceptor *acceptor,
                    const struct tws_handshake_request *request,
                    struct tws_span extensions, struct tws_span note,
                    void *user, struct tws_error *err)
{
    struct half_open *peer = acceptor->asked;
    const struct tws_acceptor_options *options = &acceptor->options;
    if (tws_buffer_append(&peer->note, note.data, note.length) != TWS_OK) {
        return tws_error_nomem(err);
    }
    enum tws_status status =
        tws_opening_accept(&peer->opening, request, extensions,
                           options->fields, options->field_count, err);
    if (status == TWS_OK) {
        peer->user = user;
    }
    return status;
}

enum tws_status
tws_acceptor_answer(struct tws_acceptor *acceptor, struct tws_span answer,
                    struct tws_error *err)
{
    return tws_opening_answer(&acceptor->asked->opening, answer, err);
}

enum tws_status
tws_acceptor_answer_now(struct tws_acceptor *acceptor, uint64_t now,
                        struct tws_span answer, struct tws_error *err)
{
    struct tws_accepted none; /* as it is not accepted */
    struct tws_address peer;
    struct tws_error ignored;
    enum tws_status status = tws_acceptor_answer(acceptor, answer, err);
    if (status == TWS_OK) {
        (void)follow_decision(acceptor, now, &none, &peer, &ignored);
    }
    return status;
}

/* --- waiting --- */

/* Fills in what to poll for. Returns how long until the first deadline. */
static uint64_t
prepare_poll(struct tws_acceptor *acceptor, uint64_t now, uint64_t timeout)
{
    for (size_t i = 0; i < acceptor->count; i++) {
        const struct half_open *peer = acceptor->peers[i];
        acceptor->polled[i] = (struct pollfd){
            .fd = peer->opening.transport.fd,
            .events = peer->writing ? POLLOUT : POLLIN,
        };
        if (peer->ready) {
            timeout = 0;
        }
        else if (peer->deadline != UINT64_MAX) {
            uint64_t left = peer->deadline > now ? peer->deadline - now : 0;
            timeout = left < timeout ? left : timeout;
        }
    }
    acceptor->polled[acceptor->count] = (struct pollfd){
        .fd = acceptor->listener,
        .events = POLLIN,
    };
    return timeout;
}

enum tws_status
tws_acceptor_wait(struct tws_acceptor *acceptor, uint64_t now,
                  uint64_t timeout_ns, struct tws_error *err)
{
    uint64_t timeout = prepare_poll(acceptor, now, timeout_ns);
    int n = poll(acceptor->polled, (nfds_t)(acceptor->count + 1),
                 tws_poll_timeout(timeout));
    int saved = errno;
    if (n < 0 && saved != EINTR) {
        return tws_error_os(err, saved, "poll");
    }
    if (n <= 0) {
        return n == 0 && timeout < timeout_ns ? TWS_OK : TWS_AGAIN;
    }
    short listener = acceptor->polled[acceptor->count].revents;
    if ((listener & (POLLNVAL | POLLERR | POLLHUP)) != 0) {
        return tws_error_os(err, EBADF, "accept");
    }
    acceptor->listener_ready = (listener & POLLIN) != 0;
    for (size_t i = 0; i < acceptor->count; i++) {
        if (acceptor->polled[i].revents != 0) {
            acceptor->peers[i]->ready = true;
        }
    }
    return TWS_OK;
}
