/* A server's loop: accepts, sees handshakes through, serves each client that
 * has something to say, keeps deadlines, and stops in good order.
 *
 * Any number of threads may turn it. One of them drives; where a handler
 * takes long, or is about to wait, another one goes on (engine/pool.h). */
#ifndef TWS_ENGINE_SERVER_H
#define TWS_ENGINE_SERVER_H

#include "engine/client.h"
#include "loop/poller.h"
#include "net/opening.h"

struct tws_handshake; /* a connection before its 101 */

/* Times are in nanoseconds; UINT64_MAX: no limit. */
struct tws_server_options {
    struct tws_http_limits http;
    struct tws_message_limits message;
    struct tws_handshake_policy policy; /* spans borrowed for the server's
                                         * life */
    uint64_t open_timeout;              /* whole opening handshake */
    uint64_t close_timeout;             /* closing handshake, lingering */
    uint64_t ping_interval;             /* silence before a ping */
    uint64_t ping_timeout;  /* more silence before it is given up */
    uint64_t idle_timeout;  /* without a message */
    size_t high_water;      /* send queue in bytes above which a client is
                             * not read from */
    size_t low_water;       /* and until which it then isn't */
    size_t max_clients;     /* SIZE_MAX: no limit */
    _Atomic size_t *places; /* borrowed; how many of max_clients are taken, by
                             * several servers together; NULL: by this one */
    uint32_t max_half_open; /* handshakes of one address; 0: no limit */
    unsigned max_threads;   /* at least 1 */
    bool leaves_masked;     /* tws_event.masked is understood */
};

/* What the layer above is called for, always with the exclusion held, by a
 * thread in tws_server_work(). Calls about one client do not overlap. */
struct tws_handlers {
    void *context;
    /* Give up the exclusion around a wait, and take it back. */
    void *(*leave)(void *context);
    void (*enter)(void *context, void *token);
    /* One more thread is to call tws_server_work(). False: it could not be
     * started. NULL: there is just the one. */
    bool (*spawn)(void *context);
    /* All threads but the last are inside handlers. */
    void (*exhausted)(void *context);
    /* A connection was accepted: takes over its descriptor and puts another
     * one in its place, which is returned; -1: the connection is to go. NULL:
     * it stays what it is. */
    int (*replace)(void *context, int fd);
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
    /* In place of `message`, where agreed.raw_frames was said: any frame but a
     * Close, ping or pong. What the program has joined to a message it tells
     * of with tws_client_note_message(), and what breaks a rule with
     * tws_client_fail(). */
    void (*frame)(void *context, struct tws_client *client,
                  const struct tws_event *event);
    void (*ping)(void *context, struct tws_client *client,
                 const struct tws_event *event);
    void (*pong)(void *context, struct tws_client *client,
                 const struct tws_event *event);
    /* A message that was sent with this receipt has left, or never will. */
    void (*sent)(void *context, struct tws_client *client, void *receipt);
    void (*unsent)(void *context, void *receipt);
    /* Over, exactly once for each open. */
    void (*close)(void *context, struct tws_client *client,
                  const struct tws_ending *ending);
    /* A stop has begun: the listener is not used any more and may be closed,
     * so that new peers are turned away. Once, before `ended`. NULL: nobody
     * has to know. */
    void (*stopping)(void *context);
    /* Accepting pauses, as descriptors or memory ran out. */
    void (*accept_paused)(void *context, const struct tws_error *err);
    /* The loop has ended, once; slow handlers may still run. */
    void (*ended)(void *context);
};

struct tws_server;
struct tws_tls_context;

/* Does not own `listener`, a non-blocking listening socket. */
enum tws_status tws_server_new(int listener, enum tws_poller_kind kind,
                               const struct tws_server_options *options,
                               const struct tws_handlers *handlers,
                               struct tws_server **server,
                               struct tws_error *err);
/* While no thread is in tws_server_work(). */
void tws_server_free(struct tws_server *server);

/* Serves on the calling thread until the loop has ended or the thread is not
 * needed any more. The exclusion is held before and after. TWS_OK, or what
 * made the loop itself fail; all clients are closed either way. */
enum tws_status tws_server_work(struct tws_server *server,
                                struct tws_error *err);

/* Any thread. Stops accepting, closes every client with `code` and `reason`
 * and ends the loop when all are gone or `patience_ns` is over. Called again
 * it can only shorten the wait. */
void tws_server_stop(struct tws_server *server, uint16_t code,
                     struct tws_span reason, uint64_t patience_ns);

/* Any thread: calls visit(context, client) for every open client while the
 * table is locked; `visit` must not call up or back into the server. */
void tws_server_each(struct tws_server *server,
                     void (*visit)(void *context, struct tws_client *client),
                     void *context);
size_t tws_server_count(struct tws_server *server);

/* Any thread: connections that come from now on are encrypted with this
 * context, which is retained; NULL: they are not. */
void tws_server_set_tls(struct tws_server *server,
                        struct tws_tls_context *context);

/* Any thread that is about to wait for something: where it drives this
 * server's loop, another one goes on with that; where it may drive one of
 * several, ask all of them. False: nobody drives this loop now. */
bool tws_server_before_wait(struct tws_server *server);
/* Any thread. True once tws_server_stop() was called. */
bool tws_server_stopping(const struct tws_server *server);

/* Since the server was made. */
struct tws_stats {
    size_t clients;
    uint64_t accepted; /* handshakes that made a client */
    uint64_t refused;  /* handshakes refused or broken off */
    uint64_t messages_in;
    uint64_t messages_out;
    uint64_t bytes_in;     /* payload */
    uint64_t bytes_out;    /* payload */
    uint64_t handler_time; /* nanoseconds; of quick handlers an estimate */
    uint64_t handovers;
    uint64_t slow_dropped; /* clients that did not read what was sent */
    unsigned threads;
};
void tws_server_stats(struct tws_server *server, struct tws_stats *stats);
/* A client was closed or broken off, as it does not read. */
void tws_server_count_slow(struct tws_server *server);

/* Within handlers->request. */
const struct tws_address *
tws_handshake_peer(const struct tws_handshake *handshake);
/* What handlers->replace() has put there, or the connection's own. */
int tws_handshake_fd(const struct tws_handshake *handshake);
/* The request's head as it was received; borrowed, and to be asked for before
 * the handshake is accepted or refused. */
struct tws_span tws_handshake_head(const struct tws_handshake *handshake,
                                   const struct tws_http_head *head);
/* `agreed` is for the client's frames, and what its `extensions` holds for the
 * 101, whose further fields `fields` are. `user` moves to the client, or back
 * by `discard`, and agreed->compression with it. On failure they stay the
 * caller's, and the handshake undecided:
 * TWS_REFUSED with http_status 503 where there are max_clients by now, or with
 * 0 for a field that would break the head; TWS_NOMEM. */
enum tws_status
tws_handshake_accept(struct tws_handshake *handshake,
                     const struct tws_handshake_request *request,
                     const struct tws_agreed *agreed,
                     const struct tws_http_field *fields, size_t field_count,
                     void *user, struct tws_error *err);
enum tws_status tws_handshake_answer(struct tws_handshake *handshake,
                                     struct tws_span answer,
                                     struct tws_error *err);
enum tws_status tws_handshake_refuse(struct tws_handshake *handshake,
                                     uint16_t http_status, const char *reason,
                                     bool head_only, struct tws_error *err);
/* Beside one of the last two: it is a refusal that counts, and `refused` is
 * called for it when the handler has returned. */
void tws_handshake_note_refusal(struct tws_handshake *handshake,
                                const struct tws_error *why);

/* For the parts of a client. -------------------------------------------- */

/* The driver is to look after this client soon. Any thread. */
void tws_server_attend(struct tws_server *server, struct tws_client *client);
/* From the events `before` to `events`; 0: it is not in the poller. */
enum tws_status tws_server_watch(struct tws_server *server,
                                 struct tws_client *client, unsigned before,
                                 unsigned events, struct tws_error *err);
void tws_server_count_sent(struct tws_server *server, unsigned messages,
                           size_t bytes);
/* As tws_read(), in the driver or in a client's handler; much that is to be
 * decrypted is so without the exclusion. */
enum tws_status tws_server_read(struct tws_server *server,
                                struct tws_transport *transport, uint8_t *room,
                                size_t size, size_t *got,
                                struct tws_error *err);
/* In the driver or in a client's handler: around work that needs the exclusion
 * as little. */
void *tws_server_leave(struct tws_server *server);
void tws_server_enter(struct tws_server *server, void *token);
const struct tws_server_options *
tws_server_options(const struct tws_server *server);

#endif /* TWS_ENGINE_SERVER_H */
