/* `websocket`: a stream socket that speaks frames. Shared by the files that
 * implement it (websocket_*.c) and by `Connection`, which reads and writes
 * past the frames where nobody has hooked into them.
 *
 * Threads: one reads, any number write. `write_lock` keeps frames whole;
 * `guard` protects the few fields named below for moments only, never while
 * Python code runs. */
#ifndef TWS_PYTHON_WEBSOCKET_TYPE_H
#define TWS_PYTHON_WEBSOCKET_TYPE_H

#include "python/auth_type.h"
#include "python/blocking.h"
#include "python/challenge.h"
#include "python/options.h"

#include "engine/spin.h"
#include "net/socket.h"
#include "net/transport.h"
#include "protocol/compression.h"
#include "protocol/frame_reader.h"
#include "protocol/large_blocks.h"
#include "protocol/session.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

struct tws_acceptor;
struct tws_ahead;
struct tws_chain;
struct tws_dialing;
struct tws_answering;

enum tws_phase {
    TWS_PHASE_BARE,  /* of any family: connect() will get a descriptor */
    TWS_PHASE_FRESH, /* no handshake yet */
    TWS_PHASE_LISTENING,
    TWS_PHASE_CONNECTING, /* a non-blocking connect() to be resumed */
    TWS_PHASE_OPEN,
    TWS_PHASE_CLOSED, /* no descriptor any more */
    TWS_PHASE_SERVED, /* a server's client: the engine owns the stream */
};

typedef struct {
    PyObject_HEAD
    struct tws_state *state; /* borrowed */
    PyObject *socket;        /* strong; socket.socket that owns the descriptor,
                              * or NULL */
    struct tws_options *options;
    struct tws_transport transport;
    uint64_t timeout; /* nanoseconds; 0 non-blocking, UINT64_MAX blocking */
    pid_t process;    /* that has made it */
    uint8_t phase;    /* enum tws_phase */
    uint8_t role;     /* enum tws_role; from the handshake on */
    bool own_v6only;  /* the program has set IPV6_V6ONLY itself */
    atomic_bool had_large;          /* a message for protocol/large_blocks.h */
    int ip_protocol;                /* for socket(2), while `bare` */
    struct tws_challenge challenge; /* of a connect() under way */
    struct tws_http_field *fields_asked; /* owned; of its request, or NULL */

    /* Reading: belongs to the thread that set `reading`. */
    atomic_bool reading;
    bool at_end;                 /* the stream has ended */
    struct tws_spin spin;        /* while it waits for bytes */
    atomic_ulong reading_thread; /* while `reading` */
    struct tws_error *broken;    /* owned; a frame broke a rule: for good */
    bool extension_failed;       /* that was an extension's exception, which
                                  * the program has not caught yet */
    PyObject *kept; /* strong; list of frames that a recvn() had when it was
                     * interrupted, the last one first. NULL: none */
    struct tws_frame_reader reader;
    struct tws_buffer in;      /* received, not parsed */
    atomic_uint heard;         /* counts the times that bytes came */
    atomic_bool read_ahead;    /* by its Connection: nobody else may read */
    struct tws_buffer partial; /* payload of the frame being received */
    bool amid_compressed;      /* frames of a compressed message were received,
                                * and its end was not */

    /* Writing: belongs to the thread that holds `write_lock`. */
    PyThread_type_lock write_lock;
    struct tws_buffer out;  /* rest of a frame that the kernel began to take */
    bool write_failed;      /* the peer is gone: nothing more is kept */
    atomic_bool end_wanted; /* end_writing once `out` is empty */
    atomic_bool unsent;     /* `out` is not empty */
    atomic_bool shared;     /* another thread than the reading one has sent */
    atomic_ulong maker;     /* who has extensions look at frames with
                             * write_lock held, else 0 */

    /* A message that is sent in pieces; data frames of others wait. */
    PyThread_type_lock stream_lock; /* held meanwhile; NULL: never was one */
    _Atomic(const void *) stream;   /* whose it is, or NULL; set with
                                     * write_lock held */
    atomic_ulong stream_thread;     /* who has sent of it last, else 0 */

    pthread_mutex_t guard;     /* of the next six */
    struct tws_buffer control; /* packed control frames that wait for the
                                * thread that is writing */
    size_t last_pong;          /* length of the last of them, where that is a
                                * Pong; else 0 */
    bool close_queued;         /* a Close frame is among them, or was */
    bool bare;                 /* there is no descriptor yet */
    bool any_family;           /* it was made so: connect() finds one */
    bool may_ask_again;        /* connect() has made the connection itself */
    unsigned users;            /* calls that use the descriptor now */
    bool closing;              /* the last of them closes it */
    struct tws_ahead *ahead;   /* borrowed; of the Connection, or NULL */

    PyObject *templates;     /* strong; tuple of extensions that may be agreed
                              * on; NULL: none */
    PyObject *offer;         /* strong; what a connect() under way offers, see
                              * extensions_agreed.h; or NULL */
    PyObject *extensions;    /* strong; tuple of those agreed on; NULL: none */
    struct tws_chain *chain; /* owned; where frames pass through them; NULL:
                              * they don't */
    struct tws_compression *compression; /* owned; where there is one, and it
                                          * is of ours, that is what the C code
                                          * goes by instead; else NULL. To send
                                          * with it is for who holds
                                          * `write_lock` */

    PyObject *send_hooks; /* strong; tuple of callables, or NULL */
    PyObject *recv_hooks;

    /* What the handshake agreed on; strong, NULL where there is none yet. */
    PyObject *location;
    PyObject *protocol;
    PyObject *username; /* that a client has proved to a server */
    PyObject *request;
    PyObject *response;
    PyObject *remote_address; /* of an accepted one: makes it unpackable */

    AuthObject *auth; /* strong; of a server's side; NULL: it asks nobody */
    bool foreign_origin_seen;        /* of a listener: it was warned of */
    struct tws_acceptor *acceptor;   /* owned; half-open peers of a listener */
    struct tws_dialing *dialing;     /* owned; a connect() under way; set and
                                      * taken away under `guard` */
    struct tws_answering *answering; /* owned; a handshake(server=True) */
    uint64_t open_deadline;          /* of those two */
    PyObject *client;    /* strong; the Connection while served, else NULL */
    PyObject *ssl;       /* strong; SSLSettings of enable_ssl(), or NULL */
    PyObject *bridge;    /* strong; the TLS of an ssl.SSLContext, or NULL */
    PyObject *bridge_to; /* strong; str, of a client with such: who the
                          * certificate must be for */
    PyObject *bridges;   /* strong; of a listener with such: dict of those of
                          * half-open peers by descriptor */
    PyObject *dict;
    PyObject *weakrefs;
} WebsocketObject;

extern PyType_Spec tws_websocket_spec;

/* A websocket of exactly `type` with shared options and no descriptor yet;
 * its __init__ does not run. */
PyObject *tws_websocket_new_bare(struct tws_state *state, PyTypeObject *type,
                                 struct tws_options *options);

/* For Connection, on an open websocket -------------------------------- */

/* Claims the right to read: -1 with ConcurrencyError where another thread
 * has it. Also keeps the descriptor open until the matching call. */
int tws_websocket_begin_read(WebsocketObject *ws);
void tws_websocket_end_read(WebsocketObject *ws);

/* Messages are large: their memory is to be kept. */
static inline void
tws_websocket_note_large(WebsocketObject *ws)
{
    if (!atomic_load_explicit(&ws->had_large, memory_order_relaxed)) {
        atomic_store_explicit(&ws->had_large, true, memory_order_relaxed);
        tws_keep_large_blocks();
    }
}

/* Between those: appends at least one received byte to ws->in, or, where
 * `room` is not NULL, reads up to `size` bytes straight into it. Goes on
 * writing what is left of our own frames meanwhile. 1 with *got set; 0 at the
 * end of the stream; -1 with an exception (see tws_wait_for(); nothing is
 * lost). */
int tws_websocket_fill(WebsocketObject *ws, uint8_t *room, size_t size,
                       const struct tws_deadline *deadline, size_t *got);

/* Who sends data frames. */
struct tws_sending {
    const void *stream; /* part of this one's message; NULL: whole messages */
    enum tws_compress compress;
    bool taken; /* out: the frames are under way, also where the call has
                 * raised */
};

/* Writes whole frames, packed. Where the kernel takes the first byte the
 * call owns the rest: should the deadline pass it is kept and sent before
 * anything else. Data frames (`sending` is not NULL) wait for the end of
 * another message that is sent in pieces. -1 with an exception, nothing
 * taken (ConcurrencyError where this thread itself sends that message); or
 * taken and a signal handler raised. */
int tws_websocket_write(WebsocketObject *ws, const struct iovec *parts,
                        int count, struct tws_sending *sending,
                        const struct tws_deadline *deadline);

/* Makes packed frames, at least one, once it is their turn to be written;
 * nobody else writes meanwhile. -1 with an exception. */
struct tws_making {
    int (*make)(void *context, struct tws_buffer *out);
    void (*unmade)(void *context); /* they were made, but not taken; or NULL */
    void *context;
};
/* The same for such frames. Where making them can't be undone (`unmade` is
 * NULL) there is room first: they are not made where the call raises because
 * of its deadline, and what was made is taken. */
int tws_websocket_write_made(WebsocketObject *ws,
                             const struct tws_making *making,
                             struct tws_sending *sending,
                             const struct tws_deadline *deadline);

/* -1 with ConcurrencyError where this thread is inside of onsend() of an
 * extension: what it sends would wait for itself. */
int tws_websocket_check_maker(WebsocketObject *ws, const char *what);

/* Begins a message in pieces, once no other is being sent; only control
 * frames come between until its end (RFC 6455 §5.4). -1 with an exception as
 * above. */
int tws_websocket_begin_stream(WebsocketObject *ws, const void *stream,
                               const struct tws_deadline *deadline);
void tws_websocket_end_stream(WebsocketObject *ws);

/* Sends a packed control frame without ever waiting: now where nobody is
 * writing, else between that thread's frames. A Pong takes the place of the
 * one before it where too many frames wait already (a peer that floods pings
 * and reads nothing); nothing does of what is sent of our own accord. -1 with
 * MemoryError. */
int tws_websocket_send_control(WebsocketObject *ws,
                               const struct tws_control *control);

/* A fresh masking key for a client, NULL for a server. -1 with an
 * exception. */
int tws_websocket_draw_key(WebsocketObject *ws, uint8_t storage[4],
                           const uint8_t **key);

/* With the right to read: receives one frame, runs extensions and the recv
 * hooks. */
PyObject *tws_websocket_next_frame(WebsocketObject *ws,
                                   const struct tws_deadline *deadline);
/* Runs the send hooks and extensions, and writes: websocket.send(*frames).
 * `fragment` is for tws_chain_send(). `sending` counts where there are data
 * frames among them. -1 with an exception. */
int tws_websocket_send_frames(WebsocketObject *ws, PyObject *const *frames,
                              Py_ssize_t count, size_t fragment,
                              struct tws_sending *sending,
                              const struct tws_deadline *deadline);

/* A tuple of frames as they leave the send hooks (NULL: there is no
 * websocket, and no hooks). New reference, or NULL with an exception. */
PyObject *tws_websocket_run_hooks_of_all(WebsocketObject *ws,
                                         PyObject *frames);

/* The addresses of the peer's own socket. -1 with
 * OSError. */
int tws_websocket_own_address(const WebsocketObject *ws,
                              struct tws_address *address);
int tws_websocket_peer_address(const WebsocketObject *ws,
                               struct tws_address *address);

/* Tells the peer that nothing more comes (TCP FIN), best effort. */
void tws_websocket_end_writing(WebsocketObject *ws);
/* Closes the descriptor; calls under way in other threads end. */
void tws_websocket_close(WebsocketObject *ws);
/* A child of the process that it was made in drops it: nothing is written, and
 * the connection is not shut down, as it is the parent's still. */
void tws_websocket_abandon(WebsocketObject *ws);

#endif /* TWS_PYTHON_WEBSOCKET_TYPE_H */
