/* What keeps a Connection alive while its program does not receive: messages
 * are read ahead, pings answered, and a silent peer is pinged and given up
 * (RFC 6455 5.5.2). The keeper's thread does it (keeper.h).
 *
 * Who reads: the program, as long as it calls recv() now and again. The
 * keeper sees at its looks whether it did, and takes over where it did not;
 * so nothing is told to anybody for a message. Whoever reads has the
 * websocket's right to, and the one who has it puts what is read behind what
 * was read ahead: the order stays. */
#ifndef TWS_PYTHON_CONNECTION_AHEAD_H
#define TWS_PYTHON_CONNECTION_AHEAD_H

#include "python/connection_parts.h"
#include "python/keeper.h"

/* How often the keeper looks whether a program still receives, nanoseconds;
 * after one or two of them it takes over. */
#define TWS_AHEAD_TICK ((uint64_t)500 * 1000 * 1000)

struct tws_ahead_event {
    struct tws_ahead_event *next;
    struct tws_incoming in; /* owned */
    bool failed;            /* in.object is an exception */
};

struct tws_ahead {
    struct tws_kept kept; /* first; has the references */

    /* Options. Nanoseconds, UINT64_MAX: none. */
    uint64_t ping_interval;
    uint64_t ping_timeout;
    size_t max_messages; /* to read ahead; 0: none */

    PyThread_type_lock busy; /* of the keeper while it reads; recv() waits
                              * for it and has it until it has the right */

    /* What was read ahead; guarded by the Connection's blocking->lock. */
    struct tws_ahead_event *first; /* owned */
    struct tws_ahead_event *last;
    size_t messages;
    size_t others; /* payloads of pings and pongs, and exceptions */
    size_t bytes;  /* of the messages */
    atomic_bool any;

    /* The keepalive's last ping; guarded in the same way. */
    uint8_t tag[4]; /* tells its pings from the program's */
    uint32_t ping_serial;
    uint64_t ping_sent_at; /* clock; 0: none, or it was answered */

    atomic_uint calls;       /* of recv() and close() */
    atomic_bool call_wanted; /* the keeper is to be called when one ends */
    atomic_uint_fast64_t latency; /* nanoseconds; 0: not known */

    /* Of the keeper's thread. Times are of the clock. */
    bool looks;
    bool reads;
    unsigned calls_seen;
    unsigned heard_seen;
    bool attended;        /* somebody has read, at the last look */
    uint64_t heard_at;    /* when the peer was last known to be there */
    uint64_t waits_since; /* for the pong, with somebody to read it */
    uint64_t pinged_at;
    uint64_t acknowledged; /* see net/progress.h */
    uint64_t linger_until; /* 0: it does not linger */
    size_t drained;        /* bytes thrown away meanwhile */
};

/* connection_ahead.c ---------------------------------------------------- */

/* Connection._keep(ping_interval, ping_timeout, max_queue), and the check of
 * its arguments alone, for the module. */
extern const char tws_ahead_keep_doc[];
PyObject *tws_ahead_keep(PyObject *self, PyObject *args);
PyObject *tws_ahead_check(PyObject *module, PyObject *args);

/* By whoever has the right to read. Takes the event; the object is dropped
 * where too many of its kind are there. */
void tws_ahead_put(ConnectionObject *conn, struct tws_ahead_event *event);
/* No more is to be read then, so that TCP holds the peer up. */
bool tws_ahead_is_full(ConnectionObject *conn);

void tws_ahead_free(struct tws_kept *kept);
/* In a forked child. */
void tws_ahead_forget(struct tws_kept *kept);

/* connection_look.c ------------------------------------------------------ */

/* On the keeper's thread: does what is to be done; returns when to look
 * again (clock), or earlier when what is watched has come. */
uint64_t tws_ahead_look(PyObject *owner);

/* connection_keepalive.c ------------------------------------------------ */

/* A part of a look. `attended`: somebody reads, so that silence is the
 * peer's. Returns when to look again. */
uint64_t tws_ahead_keep_alive(ConnectionObject *conn, uint64_t now,
                              bool attended);

/* With the lock held: true where a pong answers one of the keepalive's
 * pings, so that it is not the program's. */
bool tws_ahead_take_pong(struct tws_ahead *ahead,
                         const struct tws_event *event);

#endif /* TWS_PYTHON_CONNECTION_AHEAD_H */
