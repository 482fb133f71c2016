/* The general path of a server's client: the engine hands out frames, which
 * pass through the agreed extensions before they are joined to messages; what
 * is sent passes through them before the engine queues it. */
#ifndef TWS_PYTHON_SERVED_FRAMES_H
#define TWS_PYTHON_SERVED_FRAMES_H

#include "python/connection_type.h"
#include "python/extension_chain.h"

struct tws_served_frames {
    struct tws_chain *chain;        /* owned */
    struct tws_assembler assembler; /* of the thread that serves the client */
    PyThread_type_lock lock; /* held from before frames are looked at until
                              * they are queued, so that they leave in that
                              * order, and while a message in pieces begins */
    atomic_ulong sender;     /* the thread that has it, else 0 */
};

/* Takes over the chain, also where it fails. NULL with MemoryError. */
struct tws_served_frames *tws_served_frames_new(struct tws_chain *chain);
void tws_served_frames_free(struct tws_served_frames *frames); /* or NULL */

/* What messages are joined in, or come in chunks from. */
struct tws_assembler *tws_served_assembler(const ConnectionObject *conn);

/* For `lock`; waits without the GIL. NULL, or an immediate one: as long as the
 * server's send_timeout allows, but for a second at least. -1 with
 * ConcurrencyError where an extension sends what it is asked about sending;
 * TimeoutError. */
int tws_served_frames_lock(ConnectionObject *conn,
                           const struct tws_deadline *deadline);
void tws_served_frames_unlock(ConnectionObject *conn);

/* Frames that are to be sent together. */
struct tws_served_sending {
    PyObject *const *frames; /* after the hooks */
    Py_ssize_t count;
    size_t fragment; /* see tws_chain_send() */
    enum tws_compress compress;
    const void *stream; /* whose message in pieces they are of, or NULL */
    PyObject *message;  /* what they make up, if it is one to be counted and
                         * told of; or NULL */
    size_t payload;     /* bytes of that */
};
/* `deadline` NULL: as tws_served_await_stream(); an immediate one: does not
 * wait for the end of another message in pieces, BlockingIOError. -1 with an
 * exception; *status is TWS_OK, or what the engine said, with *err. */
int tws_served_frames_send(ConnectionObject *conn,
                           const struct tws_served_sending *sending,
                           const struct tws_deadline *deadline,
                           enum tws_status *status, struct tws_error *err);

/* A TWS_EVENT_FRAME. 1: *object is a Message without the hooks, or a chunk as
 * of tws_connection_chunk(); 0: more is needed; -1 with an exception, and
 * *blame tells whether the peer is not to blame: the client has been failed,
 * unless there was no memory for the object. */
int tws_served_frames_take(ConnectionObject *conn,
                           const struct tws_event *event, PyObject **object,
                           bool *blame);
/* A chunk that is at hand already; as above. */
int tws_served_frames_chunk(ConnectionObject *conn, PyObject **object);

#endif /* TWS_PYTHON_SERVED_FRAMES_H */
