/* `RecvStream`: the chunks of one message, as they arrive. What is handed out
 * and what is skipped is up to protocol/message_stream.h; here is who may ask
 * for it, and when. */
#include "python/connection_streams.h"

#include "python/connection_methods.h"
#include "python/connection_parts.h"
#include "python/message_type.h"
#include "python/served_frames.h"
#include "protocol/message_stream.h"

#include <inttypes.h>

typedef struct {
    PyObject_HEAD
    ConnectionObject *conn; /* strong */
    PyObject *timeout;      /* strong; seconds, or None */
    struct tws_chunks chunks;
    PyObject *message; /* strong; one that was read ahead, or NULL */
    size_t at;         /* bytes of it that were handed out */
    uint8_t opcode;    /* 0: not known yet */
    bool over;         /* the message has ended, or close() was called */
} RecvStreamObject;

static inline RecvStreamObject *
cast(PyObject *self)
{
    return (RecvStreamObject *)self;
}

int
tws_chunks_check(const struct tws_assembler *assembler,
                 const struct tws_chunks *chunks)
{
    if (tws_message_stream_is(assembler, chunks->stream)) {
        return 0;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "the rest of this message is lost, as something else was "
                    "received from the connection after recv_stream(): "
                    "iterate to the end of the message first");
    return -1;
}

PyDoc_STRVAR(
    recv_stream_doc,
    "The chunks of one message, in order: an iterator, made by\n"
    "Connection.recv_stream().\n"
    "\n"
    "Chunks are str for a text and bytes for a binary message, never empty "
    "and at\n"
    "most 64 KiB (of UTF-8, for text). What next() raises is as of\n"
    "Connection.recv(); after TimeoutError, BlockingIOError and "
    "KeyboardInterrupt\n"
    "the next call goes on, nothing is lost. SocketClosed or ProtocolError "
    "mean\n"
    "that the rest of the message will not come. RuntimeError where "
    "something else\n"
    "was received from the connection meanwhile, which discards the rest.");

/* NULL where it is not ours to look at. */
static struct tws_assembler *
assembler_of(RecvStreamObject *stream)
{
    ConnectionObject *conn = stream->conn;
    struct tws_assembler *assembler = NULL;
    if (conn->blocking != NULL) {
        assembler = &conn->blocking->assembler;
    }
    else if (conn->client != NULL && tws_client_is_served_here(conn->client)) {
        assembler = tws_served_assembler(conn);
    }
    if (assembler == NULL) {
        return NULL;
    }
    return tws_message_stream_is(assembler, stream->chunks.stream) ? assembler
                                                                   : NULL;
}

/* Nobody wants the rest. Who receives next would skip it as well, but the
 * program may not do so for long, and the keeper reads on meanwhile. */
static void
leave(RecvStreamObject *stream)
{
    ConnectionObject *conn = stream->conn;
    bool idle =
        conn->blocking == NULL
        || (conn->sock != NULL
            && !atomic_load(&((WebsocketObject *)conn->sock)->reading));
    struct tws_assembler *assembler = idle ? assembler_of(stream) : NULL;
    stream->over = true;
    if (assembler != NULL) {
        tws_message_stream_discard(assembler);
    }
}

static int
recv_stream_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(cast(self)->conn);
    Py_VISIT(cast(self)->timeout);
    Py_VISIT(cast(self)->message);
    return 0;
}

static void
recv_stream_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    leave(cast(self));
    Py_CLEAR(cast(self)->conn);
    Py_CLEAR(cast(self)->timeout);
    Py_CLEAR(cast(self)->message);
    type->tp_free(self);
    Py_DECREF(type);
}

/* With an exception: where it says that the connection has ended, what came
 * of the message before goes first, and the next call tells. */
static PyObject *
last_chunk(RecvStreamObject *stream)
{
    struct tws_event event;
    struct tws_assembler *assembler = assembler_of(stream);
    if (assembler != NULL
        && PyErr_ExceptionMatches(stream->conn->state->SocketClosed)
        && tws_message_stream_chunk(assembler, &event) && event.length > 0) {
        PyErr_Clear();
        return tws_connection_chunk(assembler, &event);
    }
    if (assembler != NULL
        && PyErr_ExceptionMatches(stream->conn->state->WebSocketError)
        && !PyErr_ExceptionMatches(stream->conn->state->ConcurrencyError)) {
        tws_message_stream_discard(assembler); /* a broken one */
    }
    return NULL;
}

/* Of a message that was read ahead; NULL at its end. */
static PyObject *
next_of_message(RecvStreamObject *stream)
{
    uint8_t opcode;
    struct tws_span payload;
    if (tws_message_view(stream->conn->state, stream->message, &opcode,
                         &payload)
        < 0) {
        return NULL;
    }
    const char *data = payload.data + stream->at;
    bool text = opcode == TWS_OPCODE_TEXT;
    size_t length = tws_message_stream_cut((const uint8_t *)data,
                                           payload.length - stream->at, text);
    if (length == 0) {
        stream->over = true;
        Py_CLEAR(stream->message);
        return NULL;
    }
    PyObject *chunk =
        text ? PyUnicode_DecodeUTF8(data, (Py_ssize_t)length, NULL)
             : PyBytes_FromStringAndSize(data, (Py_ssize_t)length);
    if (chunk != NULL) {
        stream->at += length;
    }
    return chunk;
}

/* Streams a message that was read ahead; steals it. */
static PyObject *
begin_message(RecvStreamObject *stream, PyObject *message)
{
    ConnectionObject *conn = stream->conn;
    struct tws_span payload;
    if (tws_message_view(conn->state, message, &stream->opcode, &payload)
        < 0) {
        Py_DECREF(message);
        return NULL;
    }
    if (payload.length > stream->chunks.limit) {
        struct tws_error err;
        struct tws_deadline patience = tws_blocking_close_deadline(conn);
        (void)tws_error_protocol(
            &err, TWS_CLOSE_MESSAGE_TOOBIG,
            "streamed message of %zu bytes, the limit is %" PRIu64,
            payload.length, stream->chunks.limit);
        Py_DECREF(message);
        (void)tws_blocking_fail(conn, &err);
        (void)tws_blocking_linger_and_close(conn, &patience);
        return NULL;
    }
    stream->message = message;
    return next_of_message(stream);
}

static PyObject *
recv_stream_next(PyObject *self)
{
    RecvStreamObject *stream = cast(self);
    ConnectionObject *conn = stream->conn;
    struct tws_deadline deadline;
    if (stream->message != NULL) {
        return next_of_message(stream);
    }
    if (stream->over || !tws_connection_ready(conn)
        || tws_connection_deadline(conn, stream->timeout, &deadline) < 0) {
        return NULL;
    }
    PyObject *chunk =
        conn->client != NULL
            ? tws_served_next(conn, &deadline, &stream->chunks)
            : tws_blocking_next(conn, &deadline, &stream->chunks);
    struct tws_assembler *assembler = assembler_of(stream);
    if (assembler != NULL && tws_message_stream_opcode(assembler) != 0) {
        stream->opcode = tws_message_stream_opcode(assembler);
    }
    if (chunk == NULL) {
        return last_chunk(stream);
    }
    if (PyObject_TypeCheck(chunk, conn->state->message_type)) {
        return begin_message(stream, chunk);
    }
    if (chunk == Py_None) {
        stream->over = true;
        if (assembler != NULL) {
            tws_message_stream_end(assembler);
        }
        Py_CLEAR(chunk);
    }
    return chunk;
}

PyDoc_STRVAR(
    close_doc,
    "close($self, /)\n"
    "--\n"
    "\n"
    "Read no further: iterating ends, and the rest of the message is\n"
    "skipped, as it is where the iterator is merely left.");

static PyObject *
recv_stream_close(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Py_CLEAR(cast(self)->message);
    leave(cast(self));
    return Py_NewRef(Py_None);
}

static PyObject *
get_opcode(PyObject *self, void *closure)
{
    (void)closure;
    uint8_t opcode = cast(self)->opcode;
    return opcode == 0 ? Py_NewRef(Py_None) : PyLong_FromLong(opcode);
}

static PyGetSetDef recv_stream_getset[] = {
    {"opcode", get_opcode, NULL,
     PyDoc_STR("OPCODE_TEXT or OPCODE_BINARY once the message has begun, "
               "from the\nfirst chunk on at the latest; None before. Never "
               "waits."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef recv_stream_methods[] = {
    {"close", recv_stream_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot recv_stream_slots[] = {
    {Py_tp_doc, (void *)recv_stream_doc},
    {Py_tp_dealloc, recv_stream_dealloc},
    {Py_tp_traverse, recv_stream_traverse},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, recv_stream_next},
    {Py_tp_methods, recv_stream_methods},
    {Py_tp_getset, recv_stream_getset},
    {0, NULL},
};

PyType_Spec tws_recv_stream_spec = {
    .name = "twspy.RecvStream",
    .basicsize = sizeof(RecvStreamObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = recv_stream_slots,
};

const char tws_connection_recv_stream_doc[] = PyDoc_STR(
    "recv_stream($self, /, timeout=None, *, max_size=None)\n"
    "--\n"
    "\n"
    "Receive the next message in chunks, as they arrive: an iterator.\n"
    "\n"
    "For messages larger than memory should hold: no more than a chunk of "
    "at most\n"
    "64 KiB is kept at a time. Its opcode tells text from binary; chunks of a "
    "text\n"
    "are str, checked to be UTF-8 as they come and never cut within a "
    "character\n"
    "(RFC 6455 section 8.1), else bytes. An empty message gives no chunk.\n"
    "\n"
    "timeout: seconds to wait for each chunk, None for the websocket's own; "
    "after\n"
    "TimeoutError the iterator goes on. max_size: bytes in the whole "
    "message, None\n"
    "for any number; the connection's own max_size, which bounds what is "
    "held in\n"
    "memory, and its limit of fragments do not apply. One that is larger ends "
    "the\n"
    "connection with 1009 and ProtocolError.\n"
    "\n"
    "The message is the first that was not received yet when iterating "
    "begins, also\n"
    "one that a recv() has timed out in the middle of. Leave the loop when "
    "you like:\n"
    "what receives next (recv(), another recv_stream(), close()) skips the "
    "rest\n"
    "without keeping it, and iterating again then raises RuntimeError.\n"
    "SocketClosed where the connection ends in the middle. Pings are "
    "answered and\n"
    "onping() and onpong() called on the way, as in recv(). Hooks on "
    "messages do\n"
    "not see this one. Where recv hooks on frames were added to the "
    "websocket, whole\n"
    "frames are kept, each of at most its max_size. A client of a Server may "
    "be\n"
    "read so inside its own handlers; what a handler leaves of the message "
    "is\n"
    "skipped when it returns.");

PyObject *
tws_connection_recv_stream(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", "max_size", NULL};
    static const struct tws_size_range sizes = {.most = PY_SSIZE_T_MAX,
                                                .none = "no limit"};
    ConnectionObject *conn = (ConnectionObject *)self;
    PyObject *timeout = Py_None;
    PyObject *max_size = NULL;
    size_t limit = SIZE_MAX;
    struct tws_deadline ignored;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:recv_stream", names,
                                     &timeout, &max_size)
        || !tws_connection_ready(conn)
        || tws_connection_deadline(conn, timeout, &ignored) < 0
        || tws_option_size(max_size, "max_size", &sizes, &limit) < 0) {
        return NULL;
    }
    PyTypeObject *type = conn->state->recv_stream_type;
    RecvStreamObject *stream = (RecvStreamObject *)type->tp_alloc(type, 0);
    if (stream == NULL) {
        return NULL;
    }
    stream->conn = (ConnectionObject *)Py_NewRef(self);
    stream->timeout = Py_NewRef(timeout);
    stream->chunks.limit = limit == SIZE_MAX ? UINT64_MAX : limit;
    return (PyObject *)stream;
}
