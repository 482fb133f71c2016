/* What the parts of the server share: accepting.c sees connections up to
 * their 101, serving.c from there to their end, server.c turns the loop.
 *
 * What no lock guards belongs to the driver. A function that calls a handler
 * may come back as a mere worker (worker->driving is false): it then touches
 * nothing any more but what it was serving.
 *
 * Lock order: the server's, the pool's, a client's. */
#ifndef TWS_ENGINE_SERVER_PARTS_H
#define TWS_ENGINE_SERVER_PARTS_H

#include "engine/half_open.h"
#include "engine/pool.h"
#include "engine/server.h"
#include "engine/spin.h"

struct tws_server {
    struct tws_watch watch; /* first: of the listener; its timer ends a pause
                             * of accepting */
    int listener;
    bool accepting;    /* the listener is being watched */
    bool begun;        /* somebody has driven */
    uint64_t spawn_at; /* when to try again to start a spare thread, which
                        * has failed; UINT64_MAX: it has not */
    bool exhausted;    /* the program knows that all threads are busy */
    struct tws_server_options options;
    struct tws_handlers handlers;
    struct tws_poller *poller;
    struct tws_timers timers;
    struct tws_pool pool;
    struct tws_half_open half_open;
    struct tws_spin spin;
    struct tws_handshake *handshakes; /* all half-open connections */
    struct tws_client *lingering;     /* over, but not yet closed */
    struct tws_client *dead;          /* released when the turn is over, as the
                                       * poller's answer may still name them */
    struct tws_handshake *dead_handshakes;
    uint64_t stop_deadline;   /* UINT64_MAX: no stop was seen */
    struct tws_error failure; /* what made the loop fail, or TWS_OK */

    pthread_mutex_t lock;        /* of what follows */
    struct tws_tls_context *tls; /* a reference; NULL: plain */
    struct tws_client *clients;  /* open and closing */
    size_t client_count;
    uint64_t stop_patience; /* meaningful once `stop_asked` */
    bool stop_asked;        /* by tws_server_stop(), not seen yet */
    uint16_t stop_code;
    size_t stop_reason_length;
    char stop_reason[TWS_CLOSE_REASON_MAX];

    atomic_bool attention;         /* `stop_asked`, or something is queued */
    atomic_bool stopping;          /* a stop was asked for, ever */
    atomic_bool thread_failed;     /* one that was to stand by could not */
    _Atomic uint64_t messages_out; /* sent by others than who serves */
    _Atomic uint64_t bytes_out;
    _Atomic uint64_t accepted;
    _Atomic uint64_t refused;
    _Atomic uint64_t slow_dropped;

    _Atomic size_t own_places;
    _Atomic size_t *places; /* that one, or shared with other servers: of
                             * clients, and handshakes that were accepted */
};

/* From now, not from when the turn began: handlers may have taken long since
 * then. UINT64_MAX: never. */
static inline uint64_t
tws_deadline_in(uint64_t timeout_ns)
{
    uint64_t now = tws_clock_now();
    return timeout_ns < UINT64_MAX - now ? now + timeout_ns : UINT64_MAX;
}

/* server.c: queues something for the driver, and wakes it. */
void tws_server_queue(struct tws_server *server, struct tws_watch *watch);
/* Whoever serves this has lost the role; with the pool's lock held. */
void tws_server_detach(struct tws_server *server, struct tws_watch *watch);

/* accepting.c */
enum tws_status tws_accepting_start(struct tws_server *server,
                                    struct tws_error *err);
void tws_accepting_stop(struct tws_server *server);
void tws_accepting_ready(struct tws_server *server);
void tws_accepting_resume(struct tws_server *server); /* after a pause */
/* For one more client. False: there are as many as there may be. */
bool tws_accepting_has_place(struct tws_server *server);
bool tws_accepting_take_place(struct tws_server *server);
void tws_accepting_free_place(struct tws_server *server);

/* handshaking.c */
enum tws_status tws_handshake_begin(struct tws_server *server, int fd,
                                    const struct tws_address *peer,
                                    struct tws_error *err);
void tws_handshake_ready(struct tws_worker *worker,
                         struct tws_handshake *handshake);
void tws_handshake_attend(struct tws_worker *worker,
                          struct tws_handshake *handshake);
void tws_handshake_expired(struct tws_handshake *handshake);
void tws_handshake_detach(struct tws_handshake *handshake);
void tws_handshakes_drop(struct tws_server *server); /* all of them */
void tws_handshakes_bury(struct tws_server *server); /* free the dead */

/* serving.c */
void tws_serving_begin(struct tws_worker *worker, struct tws_client *client);
void tws_serving_ready(struct tws_worker *worker, struct tws_client *client,
                       unsigned events);
void tws_serving_attend(struct tws_worker *worker, struct tws_client *client);
void tws_serving_expired(struct tws_worker *worker, struct tws_client *client);
void tws_serving_close_all(struct tws_server *server, uint16_t code,
                           struct tws_span reason);
/* At once; those that slow handlers have follow when these return. */
void tws_serving_drop_all(struct tws_worker *worker);
void tws_serving_bury(struct tws_server *server); /* release the dead */

#endif /* TWS_ENGINE_SERVER_PARTS_H */
