/* `Connection`: a peer that speaks messages. It has one of two back ends: a
 * `websocket` that the calling threads read and write themselves (`blocking`,
 * connection_blocking.c), or a client of a `Server` whose loop does
 * (`client`, connection_served.c). */
#ifndef TWS_PYTHON_CONNECTION_TYPE_H
#define TWS_PYTHON_CONNECTION_TYPE_H

#include "python/blocking.h"
#include "python/websocket_type.h"

#include "engine/client.h"
#include "protocol/ending.h"
#include "protocol/session.h"

/* The state of a connection over a websocket of its own. */
struct tws_blocking {
    pthread_mutex_t lock; /* of the fields up to `told` */
    struct tws_session session;
    struct tws_ending ending; /* its Close frames as they pass, `sys_errno`
                               * once writing fails, all of it once `over` */
    uint64_t ping_at; /* when the last ping was sent, of the monotonic clock;
                       * 0: none, or it was answered */
    uint8_t ping_length;
    uint8_t ping_payload[TWS_CONTROL_PAYLOAD_MAX];
    bool over; /* the closing handshake is done or will never be */
    bool told; /* the log was told of it */
    PyThread_type_lock done;        /* held until `over` */
    struct tws_ahead *ahead;        /* a reference; NULL: it is not kept */
    struct tws_assembler assembler; /* belongs to the thread that reads */
    bool amid_frame; /* `assembler` has the beginning of the frame that is
                      * being received; so has the reader's thread */
    bool opened;     /* onopen was called */
    bool reported;   /* onclose was called */
};

/* Who wants a message in chunks (protocol/message_stream.h). */
struct tws_chunks {
    uint64_t limit;  /* bytes in the message */
    uint32_t stream; /* its number; 0: not begun */
};

typedef struct {
    PyObject_HEAD
    struct tws_state *state; /* borrowed */
    PyObject *sock; /* strong; WebsocketObject. Of a served client made when
                     * first asked for; NULL until then */
    struct tws_blocking *blocking; /* owned, or NULL */
    struct tws_client *client;     /* a reference, or NULL */
    PyObject *server;              /* strong; of a served client */
    PyObject *head;     /* strong; bytes of a served client's request head;
                         * NULL: it was not let in */
    PyObject *protocol; /* strong; str or None, of a served client */
    PyObject *bridge;   /* strong; of a served client whose TLS is an
                         * ssl.SSLContext's; else NULL */
    PyObject *username; /* strong; str of a served client that had to tell, or
                         * NULL */
    struct tws_address *peer;   /* owned, as long as its length says */
    PyObject *close_message;    /* strong; once a served client is over */
    atomic_ulong stream_thread; /* who is sending a message to a served client
                                 * in pieces, else 0 */
    PyObject *extensions;       /* strong; tuple of those agreed on, of a
                                 * served client; NULL: none */
    struct tws_served_frames *frames; /* owned; of a served client whose frames
                                       * pass through them; NULL: they don't
                                       */
    PyObject *send_hooks;             /* strong; tuple of callables, or NULL */
    PyObject *recv_hooks;
    PyObject *dict;
    PyObject *weakrefs;
} ConnectionObject;

extern PyType_Spec tws_connection_spec;

/* A Message as it is; str becomes a TextMessage, bytes-like a BinaryMessage.
 * New reference, or NULL with TypeError. */
PyObject *tws_as_message(struct tws_state *state, PyObject *given);

/* What is to be sent: a Message (str and bytes-like become one), after the
 * send hooks. New reference. */
PyObject *tws_connection_outgoing(ConnectionObject *conn, PyObject *message);
/* Runs the recv hooks; steals `message`. */
PyObject *tws_connection_incoming(ConnectionObject *conn, PyObject *message);

/* A message object for a TEXT or BINARY event; its bytes are copied. */
PyObject *tws_connection_message(struct tws_state *state,
                                 const struct tws_event *event);

/* The same for a CHUNK event: a str or bytes, which is consumed then, or None
 * for the end of the message. */
PyObject *tws_connection_chunk(struct tws_assembler *assembler,
                               const struct tws_event *event);

/* -1 with RuntimeError where somebody else has received since, and so has
 * discarded the rest of the message. */
int tws_chunks_check(const struct tws_assembler *assembler,
                     const struct tws_chunks *chunks);

/* The reason of the Close frame behind a message that can't be finished. */
#define TWS_UNFINISHED "a message was left unfinished"

/* A fragment of a message that is sent in pieces. */
struct tws_fragment {
    const void *stream;       /* which message's */
    struct tws_span parts[2]; /* its payload, one behind the other */
    enum tws_compress compress;
    uint8_t opcode;
    bool fin;
    bool deflated; /* in and out: the message is, as its first fragment says */
    bool taken;    /* out: it is under way, also where sending it has raised */
};
/* As a Frame, for hooks. */
PyObject *tws_connection_fragment_frame(struct tws_state *state,
                                        const struct tws_fragment *fragment);

/* The frames of a message, as a tuple; in one where `fragment` is 0. */
PyObject *tws_connection_frames(PyObject *message, size_t fragment);

/* Calls conn.<name>(argument), or without one where it is NULL; what it
 * raises goes to onerror. -1 with an exception that is no Exception
 * (KeyboardInterrupt, SystemExit). */
int tws_connection_call(ConnectionObject *conn, PyObject *name,
                        PyObject *argument);
/* The pending exception goes to onerror; returns the same. */
int tws_connection_report(ConnectionObject *conn);

/* SocketClosed, for a connection that is over (of a served one close_message
 * is set then). NULL. */
PyObject *tws_connection_raise_closed(ConnectionObject *conn);

/* What its websocket, or its server, was configured with. */
const struct tws_options *tws_connection_options(const ConnectionObject *conn);

/* Keeps a copy of the peer's address; -1 with MemoryError. */
int tws_connection_set_peer(ConnectionObject *conn,
                            const struct tws_address *peer);

/* connection_blocking.c, connection_receive.c,
 * connection_closing.c------------------------ */

int tws_blocking_init(ConnectionObject *conn, WebsocketObject *ws);
void tws_blocking_free(struct tws_blocking *blocking);
/* -1 with an exception. `fragment` 0: one frame. */
int tws_blocking_send(ConnectionObject *conn, PyObject *message,
                      size_t fragment, enum tws_compress compress,
                      const struct tws_deadline *deadline);
/* A message in pieces: from the first to the last of these, only control
 * frames come between (see tws_websocket_begin_stream()). `packed` is a
 * buffer to work with. After an unfinished message the third ends the
 * connection with a Close frame, without waiting; keeps a pending
 * exception. */
int tws_blocking_begin_stream(ConnectionObject *conn, const void *stream,
                              const struct tws_deadline *deadline);
int tws_blocking_send_fragment(ConnectionObject *conn,
                               struct tws_fragment *fragment,
                               struct tws_buffer *packed,
                               const struct tws_deadline *deadline);
void tws_blocking_end_stream(ConnectionObject *conn, bool unfinished);
int tws_blocking_ping(ConnectionObject *conn, struct tws_span payload);
/* The next Message; SocketClosed at the end. */
PyObject *tws_blocking_recv(ConnectionObject *conn,
                            const struct tws_deadline *deadline);
/* The next Message without the hooks; or the next chunk, see
 * tws_connection_chunk(), unless that is of a message that was read ahead:
 * then all of it, as a Message. */
PyObject *tws_blocking_next(ConnectionObject *conn,
                            const struct tws_deadline *deadline,
                            struct tws_chunks *chunks);
int tws_blocking_close(ConnectionObject *conn, uint16_t code,
                       struct tws_span reason,
                       const struct tws_deadline *deadline);
PyObject *tws_blocking_receive_forever(ConnectionObject *conn);

/* connection_served.c -------------------------------------------------- */

/* A Connection for a request that a server is about to accept. */
PyObject *tws_served_new(struct tws_state *state, PyObject *server,
                         const struct tws_address *peer, struct tws_span head,
                         PyObject *protocol);
/* No client comes of it. */
void tws_served_turn_away(ConnectionObject *conn);
/* The usual case in few steps: a TextMessage or BinaryMessage that nobody but
 * the client wants to see, sent by its handler. False: nothing was done, and
 * the function below will tell. */
bool tws_served_send_short(ConnectionObject *conn, PyObject *message);
/* Waits for room in its queue. `deadline` NULL: see served_wait.h. */
int tws_served_send_message(ConnectionObject *conn, PyObject *message,
                            size_t fragment, enum tws_compress compress,
                            const struct tws_deadline *deadline);
/* Never waits for room; no CloseMessage. */
int tws_served_queue_message(ConnectionObject *conn, PyObject *message,
                             enum tws_compress compress);
/* As those of tws_blocking_*. `deadline` NULL: as above. */
int tws_served_begin_stream(ConnectionObject *conn, const void *stream,
                            enum tws_compress compress,
                            const struct tws_deadline *deadline);
int tws_served_send_fragment(ConnectionObject *conn,
                             struct tws_fragment *fragment,
                             const struct tws_deadline *deadline);
void tws_served_end_stream(ConnectionObject *conn, const void *stream,
                           bool unfinished);
int tws_served_ping(ConnectionObject *conn, struct tws_span payload);
/* SocketClosed with what is known of it, where it is closing or closed. -1. */
int tws_served_raise_closed(ConnectionObject *conn);
/* What the engine has said of something that was to be sent: 0, or -1 with an
 * exception. */
int tws_served_sent(ConnectionObject *conn, enum tws_status status,
                    const struct tws_error *err);

/* served_recv.c */
PyObject *tws_served_recv(ConnectionObject *conn,
                          const struct tws_deadline *deadline);
/* As tws_blocking_next(). */
PyObject *tws_served_next(ConnectionObject *conn,
                          const struct tws_deadline *deadline,
                          struct tws_chunks *chunks);
/* served_wait.c: does the closing handshake, or breaks off at the deadline. */
int tws_served_close(ConnectionObject *conn, uint16_t code,
                     struct tws_span reason,
                     const struct tws_deadline *deadline);

/* served_sock.c */
/* The websocket view of a served client; borrowed, made when first asked
 * for. */
PyObject *tws_served_sock(ConnectionObject *conn);

#endif /* TWS_PYTHON_CONNECTION_TYPE_H */
