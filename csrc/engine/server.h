/* A server's loop: accepts, sees handshakes through, serves each client that
 * has something to say, keeps deadlines, and stops in good order. */
#ifndef TWS_ENGINE_SERVER_H
#define TWS_ENGINE_SERVER_H

#include "engine/client.h"
#include "loop/poller.h"
#include "net/opening.h"

struct tws_handshake; /* a connection before its 101 */

struct tws_server_options {
    struct tws_http_limits http;
    struct tws_message_limits message;
    struct tws_handshake_policy policy; /* spans borrowed for the server's
                                         * life */
    uint64_t open_timeout;  /* nanoseconds, whole opening handshake;
                             * UINT64_MAX: none, here and below */
    uint64_t close_timeout; /* nanoseconds, closing handshake, lingering */
    size_t high_water;      /* send queue in bytes above which a client is
                             * not read from */
};

/* What the layer above is called for, always on the driver's thread and with
 * the exclusion held. */
struct tws_handlers {
    void *context;
    /* Give up and take back the exclusion around a wait. */
    void (*leave)(void *context);
    void (*enter)(void *context);
    /* A well-formed request: an upgrade that the policy allows, or plain
     * HTTP. Calls tws_handshake_accept(), _answer() or _refuse(); where it
     * does none of them the connection is dropped. */
    void (*request)(void *context, struct tws_handshake *handshake,
                    const struct tws_http_head *head,
                    const struct tws_handshake_request *request);
    /* A request was refused or broke off; `err` says why. */
    void (*refused)(void *context, const struct tws_address *peer,
                    const struct tws_error *err);
    /* The peer vanished after tws_handshake_accept(): `user` comes back. */
    void (*discard)(void *context, void *user);
    /* Connected; client->user is what accept was given. */
    void (*open)(void *context, struct tws_client *client);
    void (*message)(void *context, struct tws_client *client,
                    const struct tws_event *event);
    void (*ping)(void *context, struct tws_client *client,
                 const struct tws_event *event);
    void (*pong)(void *context, struct tws_client *client,
                 const struct tws_event *event);
    /* Over, exactly once for each open. */
    void (*close)(void *context, struct tws_client *client, uint16_t code,
                  struct tws_span reason);
    /* Accepting pauses, as descriptors or memory ran out. */
    void (*accept_paused)(void *context, const struct tws_error *err);
};

struct tws_server;

/* Does not own `listener`, a non-blocking listening socket. */
enum tws_status tws_server_new(int listener, enum tws_poller_kind kind,
                               const struct tws_server_options *options,
                               const struct tws_handlers *handlers,
                               struct tws_server **server,
                               struct tws_error *err);
/* After tws_server_run() has returned, or before it was called. */
void tws_server_free(struct tws_server *server);

/* Turns the loop on the calling thread until a stop is done. TWS_OK, or what
 * made the loop itself fail; all clients are closed either way. */
enum tws_status tws_server_run(struct tws_server *server,
                               struct tws_error *err);

/* Any thread. Stops accepting, closes every client with `code` and `reason`
 * and ends the loop when all are gone or `patience_ns` is over. Called again
 * it can only shorten the wait. */
void tws_server_stop(struct tws_server *server, uint16_t code,
                     struct tws_span reason, uint64_t patience_ns);

/* Any thread. True once tws_server_stop() was called. */
bool tws_server_stopping(const struct tws_server *server);

/* Any thread: calls visit(context, client) for every open client while the
 * table is locked; `visit` must not call up or back into the server. */
void tws_server_each(struct tws_server *server,
                     void (*visit)(void *context, struct tws_client *client),
                     void *context);
size_t tws_server_count(struct tws_server *server);

/* Within handlers->request. */
const struct tws_address *
tws_handshake_peer(const struct tws_handshake *handshake);
/* The request's head as it was received; borrowed, and to be asked for before
 * the handshake is accepted or refused. */
struct tws_span tws_handshake_head(const struct tws_handshake *handshake,
                                   const struct tws_http_head *head);
/* `user` moves to the client, or back by `discard`. On failure it stays the
 * caller's. */
enum tws_status
tws_handshake_accept(struct tws_handshake *handshake,
                     const struct tws_handshake_request *request, void *user,
                     struct tws_error *err);
enum tws_status tws_handshake_answer(struct tws_handshake *handshake,
                                     struct tws_span answer,
                                     struct tws_error *err);
enum tws_status tws_handshake_refuse(struct tws_handshake *handshake,
                                     uint16_t http_status, const char *reason,
                                     bool head_only, struct tws_error *err);

/* For client.c: the driver is to set a deadline for this closing client. */
void tws_server_todo(struct tws_server *server, struct tws_client *client);
enum tws_status tws_server_watch(struct tws_server *server,
                                 struct tws_client *client, unsigned events,
                                 struct tws_error *err);
const struct tws_server_options *
tws_server_options(const struct tws_server *server);
/* The driver of the loop that runs, for calls from inside a handler. */
struct tws_driver *tws_server_driver(struct tws_server *server);

#endif /* TWS_ENGINE_SERVER_H */
