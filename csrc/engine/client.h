/* One connection of a server, from its 101 answer to its end: reads and
 * judges what the peer sends, queues and writes what is sent to it.
 *
 * Threads: one worker at a time serves a client, and it alone reads: the
 * driver, or the one whose handler has lost the role of the driver and which
 * then has the client for itself (detached) until that handler returns. Any
 * thread may send and close; `lock` keeps whole frames together. No function
 * here calls up while it holds the lock. */
#ifndef TWS_ENGINE_CLIENT_H
#define TWS_ENGINE_CLIENT_H

#include "engine/receiving.h"
#include "engine/watch.h"
#include "engine/worker.h"
#include "net/socket.h"
#include "net/tls.h"
#include "net/transport.h"
#include "protocol/agreed.h"
#include "protocol/frame_collector.h"
#include "protocol/session.h"

enum tws_client_state {
    TWS_CLIENT_OPEN,
    TWS_CLIENT_CLOSING,   /* our Close is queued; waiting for the peer's */
    TWS_CLIENT_LINGERING, /* over for the program; the peer gets what is
                           * queued and time to read it */
    TWS_CLIENT_GONE,      /* neither reads nor writes; the driver closes the
                           * descriptor */
};

/* A thread that waits for a client; see tws_client_await(). */
struct tws_waiter {
    void (*wake)(struct tws_waiter *waiter); /* with the client's lock held;
                                              * must not wait */
    struct tws_waiter *next;
    bool linked;
};

/* A message whose departure the program wants to hear of. */
struct tws_receipt {
    struct tws_receipt *next;
    uint64_t end; /* of the message, in bytes accepted for sending */
    void *user;
};

/* What each turn needs comes first, in as few lines of the processor's cache
 * as may be. */
struct tws_client {
    struct tws_watch watch; /* first: what the poller hands back */
    struct tws_transport transport;
    struct tws_server *server; /* borrowed; outlives its clients' service */
    void *user;                /* the owner's; see struct tws_handlers */

    /* Of the worker that serves it. */
    struct tws_worker *worker;         /* that one, or NULL */
    _Atomic(uintptr_t) serving_thread; /* its pthread_t; 0: none */
    struct tws_receiving *receiving;   /* owned, or the worker's; NULL: it is
                                        * not served, and has nothing
                                        * unfinished */
    struct tws_receiving_rules rules;
    struct tws_frame_collector *collector; /* owned; where the program gets
                                            * frames; NULL: messages */
    struct tws_compression *compression;   /* owned; set before it is served,
                                            * and stays; NULL: none was agreed.
                                            * Its lock is taken before ours */

    uint32_t heard; /* bytes since the last look; UINT32_MAX: a frame. The
                     * driver takes and clears it, and the next one */
    bool heard_message;

    atomic_bool paused;    /* reading waits for the queue to shrink; written
                            * under lock */
    atomic_bool congested; /* the queue is above high water */
    atomic_bool crowded;   /* so is what waits behind `stream` */
    _Atomic uint8_t state; /* enum tws_client_state; written under lock */

    /* Guarded by `lock`, up to `returned`. */
    uint8_t interest;  /* events asked of the poller; 0: not in it */
    bool write_failed; /* the next read will tell why */
    bool detached;     /* a worker that does not drive serves it; the driver
                        * reads it without the lock, as only that changes it
                        * for clients that nobody serves */
    struct tws_session session;
    pthread_mutex_t lock;
    struct tws_worker *cork;      /* who serves it: small frames gather in its
                                   * `out` */
    struct tws_buffer queue;      /* framed bytes not written yet */
    struct tws_receipt *receipts; /* in the order of sending */
    uint64_t accepted;            /* bytes, for receipts and the queue */
    uint64_t written;             /* of those, what the kernel has taken */
    struct tws_client_stream *stream;  /* owned; of a message that is sent in
                                        * pieces; NULL: none is */
    struct tws_receipt **receipts_end; /* where the next one goes */
    struct tws_waiter *waiters;
    char *sent_reason; /* owned; of our Close; NULL: none */
    const char *cause; /* static; why it was broken off; NULL: it was not */
    int cause_errno;
    uint8_t cause_by; /* enum tws_ended_by */
    bool returned;    /* the worker of a detached one is done */

    /* Set by the worker that tells the program of the end; read by the driver
     * once that worker is done. */
    bool concluded; /* handlers->close was called */
    bool lost;      /* nothing can be sent to it any more */

    /* Guarded by the server's lock while the client is in its table; later
     * the driver's. */
    struct tws_client *next;
    struct tws_client *previous;

    /* The driver's own. */
    _Atomic uint64_t ping_sent_at; /* clock; 0: none is unanswered */
    uint64_t ping_waits_since;     /* clock; from when its time counts */
    uint64_t last_message;   /* clock, as far as the idle limit needs it */
    uint64_t written_before; /* `written` at the last look */
    uint32_t lingered;       /* bytes read and thrown away after the end */
    uint32_t ping_serial;    /* what the last keepalive ping says */
    uint32_t quiet;          /* looks in a row that nothing was heard */
    bool ping_held;          /* the next ping waits for the end of a pause */
    bool shut;               /* the peer was told of the end */
    bool linked;             /* in the table; also under the server's lock */
    bool lingering;          /* in the list of those */
    bool close_timed;        /* the timer is the closing handshake's */

    atomic_uint references;
    _Atomic uint64_t latency; /* nanoseconds of the last ping; 0: none */
};

/* Takes over the descriptor of `transport`. One reference for the server.
 * NULL where there is no memory. */
struct tws_client *tws_client_new(struct tws_server *server,
                                  const struct tws_transport *transport);
/* Before it is served: what its handshake has agreed on; the compression is
 * its own from then on, also after a TWS_NOMEM. */
enum tws_status tws_client_agree(struct tws_client *client,
                                 const struct tws_agreed *agreed,
                                 struct tws_error *err);
/* Keeps what was received but not parsed; false without memory. */
bool tws_client_keep_received(struct tws_client *client,
                              struct tws_input rest);
/* Gives back what is kept of what was received. */
void tws_client_forget_received(struct tws_client *client);
void tws_client_retain(struct tws_client *client);
/* Frees it with the last reference. */
void tws_client_release(struct tws_client *client);

/* client_write.c: what goes out, from any thread. ----------------------- */

/* A whole message, or a control frame. */
struct tws_client_message {
    struct tws_span payload; /* copied or written before the call returns */
    size_t fragment; /* the most bytes a frame may hold; 0: one frame */
    void *receipt;   /* handlers->sent() is called with it once the
                      * message has left, or handlers->unsent() if it
                      * never will; NULL: neither; on failure it stays
                      * the caller's */
    uint8_t opcode;
    uint8_t compress; /* enum tws_compress */
    bool at_once;     /* do not wait for another thread that compresses */
};

/* TWS_EOF: the connection is closing or closed, or its handler runs on without
 * the role and writing has failed; nothing was queued. TWS_AGAIN: it would
 * have to wait, neither was it. */
enum tws_status
tws_client_send_message(struct tws_client *client,
                        const struct tws_client_message *message,
                        struct tws_error *err);
/* The usual case in few steps: a short message, from a handler of this client,
 * that leaves with the others of its turn. False: nothing was done, and
 * tws_client_send_message() will tell. */
bool tws_client_send_short(struct tws_client *client, uint8_t opcode,
                           struct tws_span payload);
/* In short; it may wait for another thread that compresses a message. */
enum tws_status tws_client_send(struct tws_client *client, uint8_t opcode,
                                struct tws_span payload, size_t fragment,
                                void *receipt, struct tws_error *err);
/* True where such a message is compressed, which takes its time. */
static inline bool
tws_client_compresses(const struct tws_client *client, uint8_t opcode,
                      size_t length, enum tws_compress compress)
{
    return TWS_UNLIKELY(client->compression != NULL)
           && !tws_opcode_is_control(opcode)
           && tws_compression_wants(client->compression, length, compress);
}
/* Where frames that are packed already stand to a message in pieces. */
enum tws_standing {
    TWS_STANDS_ALONE,   /* a whole message: behind it */
    TWS_STANDS_BETWEEN, /* control frames: at once */
    TWS_STANDS_WITHIN,  /* a part of it */
};
/* The same for frames that are packed already, and count as so many messages
 * with so many bytes of payload. */
enum tws_status tws_client_send_packed(struct tws_client *client,
                                       struct tws_span frames,
                                       enum tws_standing standing,
                                       unsigned messages, size_t payload,
                                       void *receipt, struct tws_error *err);
/* Begins the closing handshake; TWS_EOF where it began before. `by` limit:
 * it broke one. */
enum tws_status tws_client_close(struct tws_client *client, uint16_t code,
                                 struct tws_span reason, enum tws_ended_by by,
                                 struct tws_error *err);
/* Writes what is queued, as far as the kernel takes it. */
void tws_client_flush(struct tws_client *client);
/* Bytes accepted for sending that the kernel has not taken yet. */
size_t tws_client_queued(struct tws_client *client);

/* client_compress.c: any thread. ------------------------------------------ */

/* Appends the frame of a message to `out`, compressed on the terms of `client`
 * but without reference to what it was sent before: clients of the same
 * terms.out.window_bits, or more, understand it as well. */
enum tws_status tws_client_pack_shared(const struct tws_client *client,
                                       uint8_t opcode, struct tws_span payload,
                                       struct tws_buffer *out,
                                       struct tws_error *err);
/* Sends it; the rest is as of tws_client_send(). TWS_AGAIN: another thread
 * compresses for this client, whose message would refer to what it can't any
 * more: send the plain form. */
enum tws_status tws_client_send_shared(struct tws_client *client,
                                       struct tws_span frame, size_t payload,
                                       void *receipt, struct tws_error *err);

/* As tws_client_send_packed(), of frames some of which the program has
 * compressed itself: what they refer to is its own business, but what is
 * compressed here later must not refer to what was before them. It may wait
 * for another thread that compresses. */
enum tws_status tws_client_send_foreign(struct tws_client *client,
                                        struct tws_span frames,
                                        enum tws_standing standing,
                                        struct tws_error *err);

/* Nothing is sent any more; others may hold the client for long. The memory of
 * both contexts goes back; that of what compresses not where another thread
 * has it, which is about to find out. */
void tws_client_end_compression(struct tws_client *client);

/* client_stream.c: a message that is sent in pieces. Whole messages wait
 * behind it, control frames pass (RFC 6455 §5.4). Any thread. ------------ */

struct tws_client_stream {
    const void *owner;             /* who sends it */
    struct tws_buffer behind;      /* frames that wait for the end of it */
    struct tws_deflater *deflater; /* owned, for its fragments, which know of
                                    * no other message; NULL: it is plain */
    enum tws_compress compress;    /* what was asked for */
};

/* TWS_AGAIN: another one has not ended; see TWS_AWAIT_STREAM. TWS_EOF: the
 * connection is closing or closed. It may wait for another thread that
 * compresses a message. */
enum tws_status tws_client_begin_stream(struct tws_client *client,
                                        const void *owner,
                                        enum tws_compress compress,
                                        struct tws_error *err);
/* One fragment, made of parts that lie apart; `fin`: the last. The status is
 * as of tws_client_send(). By one thread at a time. */
enum tws_status tws_client_send_fragment(struct tws_client *client,
                                         uint8_t opcode, bool fin,
                                         const struct tws_span parts[2],
                                         struct tws_error *err);
/* What waits is sent. After an unfinished message tws_client_close() or
 * tws_client_break_off() comes first. Does nothing where it is not `owner`'s.
 */
void tws_client_end_stream(struct tws_client *client, const void *owner);

/* client.c -------------------------------------------------------------- */

/* Ends the connection at once, without a closing handshake. Any thread. The
 * first cause counts; it is static text. */
void tws_client_break_off(struct tws_client *client, enum tws_ended_by by,
                          const char *cause);

enum tws_await {
    TWS_AWAIT_ROOM, /* where its queue was above the high-water mark: until it
                     * is below the low one */
    TWS_AWAIT_STREAM, /* the end of a message that is sent in pieces */
    TWS_AWAIT_OVER,   /* the end of the closing handshake */
};
/* Any thread. False: it need not wait. Else waiter->wake() is called once
 * when it is worth another look, unless tws_client_forget() comes first; a
 * waiter that waits already may ask again. */
bool tws_client_await(struct tws_client *client, enum tws_await what,
                      struct tws_waiter *waiter);
void tws_client_forget(struct tws_client *client, struct tws_waiter *waiter);

/* True in the handlers of this client: on the thread that serves it. */
static inline bool
tws_client_is_served_here(const struct tws_client *client)
{
    return atomic_load_explicit(&client->serving_thread, memory_order_relaxed)
           == (uintptr_t)pthread_self();
}

/* What is known of the end of one that is over: completes what says who
 * ended it, and with which code. */
void tws_client_describe_end(struct tws_client *client,
                             struct tws_ending *ending);
/* All that is known of one that is closing or was broken off. */
void tws_client_describe_closing(struct tws_client *client,
                                 struct tws_ending *ending);

/* Any thread. False: it is not encrypted, or closed. */
bool tws_client_tls_info(struct tws_client *client, struct tws_tls_info *info);
/* As tws_tls_peer_certificate(). */
enum tws_status tws_client_peer_certificate(struct tws_client *client,
                                            uint8_t **der, size_t *length,
                                            struct tws_error *err);

/* Between cork and uncork the worker serves this client: small frames gather
 * in worker->out. `rest` is what was read of it before. */
void tws_client_cork(struct tws_worker *worker, struct tws_client *client,
                     struct tws_input rest);
/* Writes what has gathered. A receipt (owned by the caller then) where a
 * message has left whose sender waits to hear of it; the client is corked
 * still. NULL: there is none, and it is not. */
struct tws_receipt *tws_client_uncork(struct tws_worker *worker,
                                      struct tws_client *client);
/* Reading waits until the queue is shorter; or goes on. */
void tws_client_pause(struct tws_client *client, bool paused);
/* The worker that serves it has lost the role of the driver. With the pool's
 * lock held. */
void tws_client_detach(struct tws_client *client);
/* That worker is done with it; the driver is to be told. */
void tws_client_give_back(struct tws_client *client);
/* The driver takes it back. True where there was something to take. */
bool tws_client_take_back(struct tws_client *client);

/* client_read.c: the worker that serves it only. ------------------------ */

/* The next event that concerns the program; answers pings and the peer's
 * Close. TWS_AGAIN: nothing more for now. TWS_EOF: the connection is over,
 * worker->ending tells how. */
enum tws_status tws_client_next(struct tws_worker *worker,
                                struct tws_client *client,
                                struct tws_event *event);
/* Gives back what the last event borrowed. */
void tws_client_settle_received(struct tws_client *client);
/* Of frames, the program has made so many messages, or a part of one, with so
 * many bytes. False: the client is closing or closed, they count no more. */
bool tws_client_note_message(struct tws_client *client, unsigned messages,
                             size_t bytes);
/* A rule was broken, or memory is short: says so with a Close frame; see
 * worker->ending. */
void tws_client_fail(struct tws_worker *worker, struct tws_client *client,
                     const struct tws_error *why);
/* Ends the connection for the program, without a word to the peer beyond
 * what `by` calls for; see worker->ending. */
void tws_client_give_up(struct tws_worker *worker, struct tws_client *client,
                        enum tws_ended_by by, const char *reason);

#endif /* TWS_ENGINE_CLIENT_H */
