#include "python/served_frames.h"

#include "python/errors.h"
#include "python/frame_type.h"
#include "python/served_wait.h"
#include "python/server_type.h"
#include "protocol/message_stream.h"

enum { LARGE_SEND = 64 * 1024 }; /* bytes worth to give up the GIL for */

/* What a method is given, also where send_timeout is 0; nanoseconds. */
#define LOCK_MIN ((uint64_t)1000 * 1000 * 1000)

/* Life -------------------------------------------------------------------- */

struct tws_served_frames *
tws_served_frames_new(struct tws_chain *chain)
{
    struct tws_served_frames *frames = PyMem_Calloc(1, sizeof(*frames));
    if (frames == NULL) {
        tws_chain_free(chain);
        PyErr_NoMemory();
        return NULL;
    }
    frames->chain = chain;
    atomic_init(&frames->sender, 0);
    frames->lock = PyThread_allocate_lock();
    if (frames->lock == NULL) {
        tws_served_frames_free(frames);
        PyErr_NoMemory();
        return NULL;
    }
    return frames;
}

void
tws_served_frames_free(struct tws_served_frames *frames)
{
    if (frames == NULL) {
        return;
    }
    tws_chain_free(frames->chain);
    tws_assembler_release(&frames->assembler);
    if (frames->lock != NULL) {
        PyThread_free_lock(frames->lock);
    }
    PyMem_Free(frames);
}

struct tws_assembler *
tws_served_assembler(const ConnectionObject *conn)
{
    return conn->frames != NULL ? &conn->frames->assembler
                                : &conn->client->receiving->assembler;
}

/* Sending ----------------------------------------------------------------- */

/* Two extensions whose onsend() sends to the other's connection would wait
 * for each other for ever. */
static int
await_lock(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    uint64_t limit = ((ServerObject *)conn->server)->limits.send_timeout;
    struct tws_deadline patience =
        tws_deadline_after(limit > LOCK_MIN ? limit : LOCK_MIN);
    (void)tws_server_before_wait_loops((ServerObject *)conn->server,
                                       conn->client->server);
    if (deadline == NULL || deadline->immediate) {
        deadline = &patience; /* it is for the time of a method */
    }
    int result = tws_lock_wait_quietly(conn->frames->lock, deadline);
    if (result == 0) {
        PyErr_SetString(PyExc_TimeoutError,
                        "send timed out: another thread is in onsend() of an "
                        "extension of the same client, and does not come out; "
                        "an onsend() should not wait, nor send to other "
                        "connections");
    }
    return result > 0 ? 0 : -1;
}

int
tws_served_frames_lock(ConnectionObject *conn,
                       const struct tws_deadline *deadline)
{
    struct tws_served_frames *frames = conn->frames;
    unsigned long self = PyThread_get_thread_ident();
    if (atomic_load(&frames->sender) == self) {
        PyErr_SetString(conn->state->ConcurrencyError,
                        "onsend() of an extension sends to its own "
                        "connection: it can only return another frame");
        return -1;
    }
    if (PyThread_acquire_lock(frames->lock, NOWAIT_LOCK) != 1
        && await_lock(conn, deadline) < 0) {
        return -1;
    }
    atomic_store(&frames->sender, self);
    return 0;
}

void
tws_served_frames_unlock(ConnectionObject *conn)
{
    atomic_store(&conn->frames->sender, 0);
    PyThread_release_lock(conn->frames->lock);
}

/* With the lock, once no other message is being sent in pieces: frames that
 * were looked at before those of such a message must not leave behind it. */
static int
lock_in_turn(ConnectionObject *conn, const void *stream,
             const struct tws_deadline *deadline)
{
    for (;;) {
        if (tws_served_frames_lock(conn, deadline) < 0) {
            return -1;
        }
        if (stream != NULL || atomic_load(&conn->stream_thread) == 0) {
            return 0;
        }
        tws_served_frames_unlock(conn);
        if (tws_served_await_stream(conn, deadline) < 0) {
            return -1;
        }
    }
}

static enum tws_status
queue(ConnectionObject *conn, const struct tws_served_sending *sending,
      const struct tws_buffer *packed, struct tws_error *err)
{
    struct tws_client *client = conn->client;
    enum tws_status status;
    enum tws_standing standing =
        sending->stream != NULL ? TWS_STANDS_WITHIN : TWS_STANDS_ALONE;
    struct tws_span bytes = {.data = (const char *)tws_buffer_data(packed),
                             .length = tws_buffer_length(packed)};
    unsigned messages = sending->message != NULL ? 1 : 0;
    PyObject *receipt = NULL;
    if (sending->message != NULL
        && ((ServerObject *)conn->server)->tells_sent) {
        receipt = Py_NewRef(sending->message);
    }
    if (bytes.length >= LARGE_SEND && client->transport.tls != NULL) {
        Py_BEGIN_ALLOW_THREADS /* encrypting it takes its time */
        status = tws_client_send_packed(client, bytes, standing, messages,
                                        sending->payload, receipt, err);
        Py_END_ALLOW_THREADS
    }
    else {
        status = tws_client_send_packed(client, bytes, standing, messages,
                                        sending->payload, receipt, err);
    }
    if (status != TWS_OK) {
        Py_XDECREF(receipt);
    }
    return status;
}

int
tws_served_frames_send(ConnectionObject *conn,
                       const struct tws_served_sending *sending,
                       const struct tws_deadline *deadline,
                       enum tws_status *status, struct tws_error *err)
{
    struct tws_buffer packed = TWS_BUFFER_EMPTY;
    int result = 0;
    *status = TWS_OK;
    if (lock_in_turn(conn, sending->stream, deadline) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; result == 0 && i < sending->count; i++) {
        result = tws_chain_send(conn->frames->chain, sending->frames[i],
                                sending->fragment, sending->compress,
                                TWS_SERVER, &packed);
    }
    if (result == 0) {
        *status = queue(conn, sending, &packed, err);
    }
    if (result < 0 || *status != TWS_OK) {
        tws_chain_forget_sent(conn->frames->chain);
    }
    tws_served_frames_unlock(conn);
    tws_buffer_release(&packed);
    return result;
}

/* Receiving --------------------------------------------------------------- */

static PyObject *
make_frame(struct tws_state *state, const struct tws_event *event)
{
    struct tws_frame_header header = {
        .length = event->length,
        .opcode = event->first_byte & 0x0f,
        .rsv = event->first_byte & TWS_RSV,
        .fin = (event->first_byte & TWS_FIN) != 0,
    };
    PyObject *payload = PyBytes_FromStringAndSize(
        event->length == 0 ? "" : (const char *)event->data,
        (Py_ssize_t)event->length);
    return tws_frame_from_wire(state, &header, payload);
}

/* An event of the assembler. 1 or 0 as tws_served_frames_take(). */
static int
make_object(ConnectionObject *conn, const struct tws_event *event,
            PyObject **object)
{
    struct tws_assembler *assembler = &conn->frames->assembler;
    bool chunk = event->type == TWS_EVENT_CHUNK;
    if (!tws_client_note_message(conn->client,
                                 !chunk || event->length == 0 ? 1 : 0,
                                 event->length)) {
        tws_message_stream_discard(assembler); /* nothing counts any more */
        return 0;
    }
    *object = chunk ? tws_connection_chunk(assembler, event)
                    : tws_connection_message(conn->state, event);
    tws_assembler_settle(assembler);
    return *object == NULL ? -1 : 1;
}

int
tws_served_frames_chunk(ConnectionObject *conn, PyObject **object)
{
    struct tws_event event;
    return tws_message_stream_chunk(&conn->frames->assembler, &event)
               ? make_object(conn, &event, object)
               : 0;
}

/* A frame that has been through the extensions. */
static int
assemble(ConnectionObject *conn, PyObject *object, PyObject **result,
         bool *blame)
{
    const FrameObject *frame = (const FrameObject *)object;
    struct tws_event event;
    struct tws_error err;
    struct tws_frame_header header = {
        .opcode = frame->opcode,
        .fin = frame->fin,
        .length = (uint64_t)PyBytes_GET_SIZE(frame->payload),
    };
    /* Not masked, so nothing writes into the payload. */
    struct tws_piece piece = {
        .header = &header,
        .data = (uint8_t *)PyBytes_AS_STRING(frame->payload),
        .length = (size_t)header.length,
        .first = true,
        .last = true,
    };
    if (!tws_opcode_is_known(header.opcode)) {
        return 0; /* what an extension has claimed is no message */
    }
    enum tws_status status = tws_assembler_take(
        &conn->frames->assembler, &tws_connection_options(conn)->message,
        &piece, &event, &err);
    if (status == TWS_OK) {
        *blame = true;
        return make_object(conn, &event, result);
    }
    if (status == TWS_AGAIN) {
        return 0;
    }
    tws_client_fail(conn->client->worker, conn->client, &err);
    (void)tws_raise(conn->state, &err);
    return -1;
}

int
tws_served_frames_take(ConnectionObject *conn, const struct tws_event *event,
                       PyObject **object, bool *blame)
{
    struct tws_chain_failure failure;
    PyObject *meant;
    *blame = true;
    PyObject *frame = make_frame(conn->state, event);
    if (frame == NULL) {
        struct tws_error err;
        (void)tws_error_nomem(&err);
        tws_client_fail(conn->client->worker, conn->client, &err);
        return -1;
    }
    int result = tws_chain_recv(conn->frames->chain, frame, &meant, &failure);
    if (result < 0) {
        *blame = failure.of_extension;
        tws_client_fail(conn->client->worker, conn->client, &failure.why);
        return -1;
    }
    if (result == 0) {
        return 0;
    }
    *blame = false;
    result = assemble(conn, meant, object, blame);
    Py_DECREF(meant);
    return result;
}
