/* What the parts of the server share: accepting.c sees connections up to
 * their 101, serving.c from there to their end, server.c turns the loop. All
 * of it belongs to the driver's thread, but for what `lock` guards.
 *
 * Lock order: a client's lock and the server's are never held together. */
#ifndef TWS_ENGINE_SERVER_PARTS_H
#define TWS_ENGINE_SERVER_PARTS_H

#include "engine/server.h"

struct tws_server {
    struct tws_watch watch; /* first: of the listener; its timer ends a pause
                             * of accepting */
    int listener;
    bool accepting; /* the listener is being watched */
    struct tws_server_options options;
    struct tws_handlers handlers;
    struct tws_poller *poller;
    struct tws_timers timers;
    struct tws_driver driver;
    struct tws_handshake *handshakes; /* all half-open connections */
    struct tws_client *lingering;     /* over, but not yet closed */
    struct tws_client *dead;          /* released when the turn is over, as the
                                       * poller's answer may still name them */
    struct tws_handshake *dead_handshakes;
    uint64_t now; /* the clock when the turn began */

    pthread_mutex_t lock;       /* of what follows */
    struct tws_client *clients; /* open and closing */
    size_t client_count;
    struct tws_client *todo; /* closing, without a deadline yet */
    uint64_t stop_patience;  /* meaningful once `stop_asked` */
    bool stop_asked;         /* by tws_server_stop(), not seen yet */
    uint16_t stop_code;
    size_t stop_reason_length;
    char stop_reason[TWS_CLOSE_REASON_MAX];
    atomic_bool attention; /* `todo` or `stop_asked` has news */
    atomic_bool stopping;  /* a stop was asked for, ever */
};

/* From now, not from when the turn began: handlers may have taken long since
 * then. UINT64_MAX: never. */
static inline uint64_t
tws_deadline_in(uint64_t timeout_ns)
{
    uint64_t now = tws_clock_now();
    return timeout_ns < UINT64_MAX - now ? now + timeout_ns : UINT64_MAX;
}

/* accepting.c */
enum tws_status tws_accepting_start(struct tws_server *server,
                                    struct tws_error *err);
void tws_accepting_stop(struct tws_server *server);
void tws_accepting_ready(struct tws_server *server);
void tws_accepting_resume(struct tws_server *server); /* after a pause */
void tws_handshake_ready(struct tws_handshake *handshake);
void tws_handshake_expired(struct tws_handshake *handshake);
void tws_handshakes_drop(struct tws_server *server); /* all of them */
void tws_handshakes_bury(struct tws_server *server); /* free the dead */

/* serving.c */
void tws_serving_begin(struct tws_server *server, struct tws_client *client,
                       struct tws_input rest);
void tws_serving_ready(struct tws_client *client, unsigned events);
void tws_serving_expired(struct tws_client *client);
void tws_serving_close_all(struct tws_server *server, uint16_t code,
                           struct tws_span reason);
void tws_serving_drop_all(struct tws_server *server);      /* at once */
void tws_serving_set_deadlines(struct tws_server *server); /* of `todo` */
void tws_serving_bury(struct tws_server *server); /* release the dead */

#endif /* TWS_ENGINE_SERVER_PARTS_H */
