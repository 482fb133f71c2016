/* `SendStream`: a message that is sent in pieces. What is written gathers
 * until it fills a frame, so that many small writes do not make many system
 * calls; what is large goes out from where it lies. */
#include "python/connection_streams.h"

#include "python/connection_methods.h"
#include "protocol/buffer.h"

enum { FRAGMENT_SIZE = 64 * 1024 };

enum phase { FRESH, OPEN, CLOSED };

typedef struct {
    PyObject_HEAD
    ConnectionObject *conn; /* strong */
    PyObject *timeout;      /* strong; seconds, or None */
    size_t fragment_size;
    enum tws_compress compress;
    struct tws_buffer gathered; /* written, not sent; as a rule less than a
                                 * fragment */
    struct tws_buffer packed;   /* of a client: the frame, masked */
    _Atomic uint8_t phase;
    bool text;
    bool begun;       /* the first frame is out */
    bool deflated;    /* the message is compressed, as that says */
    atomic_bool busy; /* a call is under way, which alone uses the others */
} SendStreamObject;

static inline SendStreamObject *
cast(PyObject *self)
{
    return (SendStreamObject *)self;
}

/* Life -------------------------------------------------------------------- */

PyDoc_STRVAR(
    send_stream_doc,
    "A message that is sent in pieces, made by Connection.send_stream(): use "
    "it in\n"
    "a with statement.\n"
    "\n"
    "What raises there are the exceptions of Connection.send(). "
    "ConcurrencyError\n"
    "where two threads use it at the same time.");

static int
send_stream_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(cast(self)->conn);
    Py_VISIT(cast(self)->timeout);
    return 0;
}

/* Others may send again. */
static void
let_go(SendStreamObject *stream, bool unfinished)
{
    stream->phase = CLOSED;
    if (stream->conn->client != NULL) {
        tws_served_end_stream(stream->conn, stream, unfinished);
    }
    else {
        tws_blocking_end_stream(stream->conn, unfinished);
    }
    tws_buffer_release(&stream->gathered);
    tws_buffer_release(&stream->packed);
}

/* Left without __exit__(). */
static void
send_stream_finalize(PyObject *self)
{
    SendStreamObject *stream = cast(self);
    if (stream->phase == OPEN) {
        let_go(stream, stream->begun);
    }
}

static void
send_stream_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    Py_CLEAR(cast(self)->conn);
    Py_CLEAR(cast(self)->timeout);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Fragments --------------------------------------------------------------- */

/* Sends `gathered` and `more` as one frame. What has left is not in `gathered`
 * any more. Returns whether that is so; *result is 0, or -1 with an
 * exception. */
static bool
send_fragment(SendStreamObject *stream, size_t gathered, struct tws_span more,
              bool fin, const struct tws_deadline *deadline, int *result)
{
    ConnectionObject *conn = stream->conn;
    struct tws_fragment fragment = {
        .stream = stream,
        .parts = {{.data = (const char *)tws_buffer_data(&stream->gathered),
                   .length = gathered},
                  more},
        .opcode = stream->begun  ? TWS_OPCODE_CONTINUATION
                  : stream->text ? TWS_OPCODE_TEXT
                                 : TWS_OPCODE_BINARY,
        .compress = stream->compress,
        .fin = fin,
        .deflated = stream->deflated,
    };
    *result =
        conn->client != NULL ? tws_served_send_fragment(
            conn, &fragment, stream->timeout == Py_None ? NULL : deadline)
                             : tws_blocking_send_fragment(
                                 conn, &fragment, &stream->packed, deadline);
    if (fragment.taken) {
        stream->begun = true;
        stream->deflated = fragment.deflated;
        tws_buffer_consume(&stream->gathered, gathered);
    }
    return fragment.taken;
}

static int
send_gathered(SendStreamObject *stream, size_t length, bool fin,
              const struct tws_deadline *deadline)
{
    int result;
    struct tws_span none = {.data = NULL};
    (void)send_fragment(stream, length, none, fin, deadline, &result);
    return result;
}

/* All of what was gathered, but for less than a frame of it, or for the last
 * one where it is to be the message's. */
static int
send_full(SendStreamObject *stream, bool last,
          const struct tws_deadline *deadline)
{
    size_t keep = stream->fragment_size - (last ? 0 : 1);
    while (tws_buffer_length(&stream->gathered) > keep) {
        if (send_gathered(stream, stream->fragment_size, false, deadline)
            < 0) {
            return -1;
        }
    }
    return 0;
}

static int
gather(SendStreamObject *stream, struct tws_span data)
{
    if (data.length > 0
        && tws_buffer_append(&stream->gathered, data.data, data.length)
               != TWS_OK) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* Where -1 is TimeoutError or BlockingIOError, nothing was taken; where part
 * of it was, the stream owns the rest. */
static int
write_bytes(SendStreamObject *stream, struct tws_span data,
            const struct tws_deadline *deadline)
{
    bool accepted = false;
    int result = send_full(stream, false, deadline);
    while (result == 0
           && data.length >= stream->fragment_size
                                 - tws_buffer_length(&stream->gathered)) {
        size_t have = tws_buffer_length(&stream->gathered);
        struct tws_span part = {.data = data.data,
                                .length = stream->fragment_size - have};
        if (send_fragment(stream, have, part, false, deadline, &result)) {
            accepted = true;
            data.data += part.length;
            data.length -= part.length;
        }
    }
    if (result < 0 && !accepted) {
        return -1;
    }
    PyObject *pending = PyErr_GetRaisedException();
    bool late =
        pending != NULL && tws_deadline_is_over(deadline)
        && (PyErr_GivenExceptionMatches(pending, PyExc_TimeoutError)
            || PyErr_GivenExceptionMatches(pending, PyExc_BlockingIOError));
    result = gather(stream, data);
    if (pending != NULL && !late && result == 0) {
        PyErr_SetRaisedException(pending);
        return -1;
    }
    Py_XDECREF(pending);
    return result;
}

/* Methods ----------------------------------------------------------------- */

/* Claims the stream for a call; false: another one has it. */
static bool
claim(SendStreamObject *stream)
{
    return !atomic_exchange_explicit(&stream->busy, true,
                                     memory_order_acquire);
}

static void
leave(SendStreamObject *stream)
{
    atomic_store_explicit(&stream->busy, false, memory_order_release);
}

/* Claims the stream for a call of `what`; *deadline is when it must end. */
static int
enter(SendStreamObject *stream, const char *what,
      struct tws_deadline *deadline)
{
    if (!claim(stream)) {
        PyErr_Format(stream->conn->state->ConcurrencyError,
                     "%s while another call on the stream is under way", what);
        return -1;
    }
    if (stream->phase != OPEN) {
        PyErr_Format(PyExc_ValueError, "%s on a stream that is %s", what,
                     stream->phase == FRESH
                         ? "not open: use it in a with statement"
                         : "closed");
    }
    else if (tws_connection_ready(stream->conn)
             && tws_connection_deadline(stream->conn, stream->timeout,
                                        deadline)
                    == 0) {
        return 0;
    }
    leave(stream);
    return -1;
}

PyDoc_STRVAR(
    write_doc,
    "write($self, chunk, /)\n"
    "--\n"
    "\n"
    "Send more of the message; return the length of the chunk.\n"
    "\n"
    "chunk: str of a text message, else bytes-like; may be empty. It is sent "
    "once\n"
    "fragment_size bytes have gathered, a larger one in frames of that size. "
    "Waits\n"
    "for room as send() does. Raises TimeoutError or BlockingIOError when "
    "nothing of\n"
    "the chunk was taken in time: write it again. Once part of it is out the "
    "rest\n"
    "is kept and goes first with the next call. ValueError after the end, "
    "TypeError\n"
    "for a chunk of the other kind, UnicodeEncodeError for lone surrogates.");

static PyObject *
send_stream_write(PyObject *self, PyObject *chunk)
{
    SendStreamObject *stream = cast(self);
    Py_buffer view = {0};
    struct tws_span data;
    struct tws_deadline deadline;
    Py_ssize_t length;
    if (stream->text) {
        if (!PyUnicode_Check(chunk)) {
            return PyErr_Format(PyExc_TypeError,
                                "chunk is %.200s, expected str: the message "
                                "was begun with text=True",
                                Py_TYPE(chunk)->tp_name);
        }
        Py_ssize_t size;
        data.data = PyUnicode_AsUTF8AndSize(chunk, &size);
        if (data.data == NULL) {
            return NULL;
        }
        data.length = (size_t)size;
        length = PyUnicode_GET_LENGTH(chunk);
    }
    else {
        if (!PyObject_CheckBuffer(chunk)) {
            return PyErr_Format(PyExc_TypeError,
                                "chunk is %.200s, expected a bytes-like "
                                "object (send_stream(text=True) takes str)",
                                Py_TYPE(chunk)->tp_name);
        }
        if (PyObject_GetBuffer(chunk, &view, PyBUF_SIMPLE) < 0) {
            return NULL;
        }
        data.data = view.buf;
        data.length = (size_t)view.len;
        length = view.len;
    }
    int result = enter(stream, "write()", &deadline);
    if (result == 0) {
        result = write_bytes(stream, data, &deadline);
        leave(stream);
    }
    if (view.obj != NULL) {
        PyBuffer_Release(&view);
    }
    return result < 0 ? NULL : PyLong_FromSsize_t(length);
}

PyDoc_STRVAR(flush_doc,
             "flush($self, /)\n"
             "--\n"
             "\n"
             "Send what was written and has not filled a frame yet. Raises as "
             "write().");

static PyObject *
send_stream_flush(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    SendStreamObject *stream = cast(self);
    struct tws_deadline deadline;
    if (enter(stream, "flush()", &deadline) < 0) {
        return NULL;
    }
    int result = send_full(stream, false, &deadline);
    size_t rest = tws_buffer_length(&stream->gathered);
    if (result == 0 && rest > 0) {
        result = send_gathered(stream, rest, false, &deadline);
    }
    if (result == 0 && stream->conn->client != NULL) {
        tws_client_flush(stream->conn->client);
    }
    leave(stream);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
send_stream_enter(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    SendStreamObject *stream = cast(self);
    ConnectionObject *conn = stream->conn;
    struct tws_deadline deadline;
    bool claimed = claim(stream);
    int result = -1;
    if (!claimed || stream->phase != FRESH) {
        PyErr_SetString(PyExc_ValueError,
                        "a stream is used once: call send_stream() for each "
                        "message");
    }
    else if (tws_connection_ready(conn)
             && tws_connection_deadline(conn, stream->timeout, &deadline)
                    == 0) {
        result = conn->client != NULL
                     ? tws_served_begin_stream(
                         conn, stream, stream->compress,
                         stream->timeout == Py_None ? NULL : &deadline)
                     : tws_blocking_begin_stream(conn, stream, &deadline);
    }
    if (result == 0) {
        stream->phase = OPEN;
    }
    if (claimed) {
        leave(stream);
    }
    return result < 0 ? NULL : Py_NewRef(self);
}

PyDoc_STRVAR(
    exit_doc,
    "__exit__($self, type, value, traceback, /)\n"
    "--\n"
    "\n"
    "Send the rest, and so end the message. Where the block ended with an "
    "exception,\n"
    "or that fails, a message of which something was sent can't be taken back "
    "or go\n"
    "on: a Close frame with 1011 is sent, and close() or recv() finish. If "
    "nothing\n"
    "was sent yet it is dropped, and the connection stays as it was.");

static PyObject *
send_stream_exit(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    SendStreamObject *stream = cast(self);
    struct tws_deadline deadline;
    int result = -1;
    if (claim(stream)) {
        bool closed = stream->phase == CLOSED;
        leave(stream);
        if (closed) {
            return Py_NewRef(Py_False); /* as a file does */
        }
    }
    if (enter(stream, "__exit__()", &deadline) < 0) {
        return NULL;
    }
    bool failed = count > 0 && args[0] != Py_None;
    if (!failed && send_full(stream, true, &deadline) == 0) {
        bool out = send_fragment(stream, tws_buffer_length(&stream->gathered),
                                 (struct tws_span){.data = NULL}, true,
                                 &deadline, &result);
        let_go(stream, !out && stream->begun);
    }
    else {
        let_go(stream, stream->begun);
    }
    leave(stream);
    return failed || result == 0 ? Py_NewRef(Py_False) : NULL;
}

static PyObject *
get_closed(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(cast(self)->phase == CLOSED);
}

static PyGetSetDef send_stream_getset[] = {
    {"closed", get_closed, NULL,
     PyDoc_STR("True once the with statement was left."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef send_stream_methods[] = {
    {"write", send_stream_write, METH_O, write_doc},
    {"flush", send_stream_flush, METH_NOARGS, flush_doc},
    {"__enter__", send_stream_enter, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
     PyDoc_STR("SendStream[str] writes text, else it is what is bytes-like.")},
    {"__exit__", (PyCFunction)(void (*)(void))send_stream_exit, METH_FASTCALL,
     exit_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot send_stream_slots[] = {
    {Py_tp_doc, (void *)send_stream_doc},
    {Py_tp_dealloc, send_stream_dealloc},
    {Py_tp_finalize, send_stream_finalize},
    {Py_tp_traverse, send_stream_traverse},
    {Py_tp_methods, send_stream_methods},
    {Py_tp_getset, send_stream_getset},
    {0, NULL},
};

PyType_Spec tws_send_stream_spec = {
    .name = "twspy.SendStream",
    .basicsize = sizeof(SendStreamObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = send_stream_slots,
};

const char tws_connection_send_stream_doc[] = PyDoc_STR(
    "send_stream($self, /, text=False, *, fragment_size=65536, "
    "compress=None,\n"
    "            timeout=None)\n"
    "--\n"
    "\n"
    "Send one message in pieces, for messages larger than memory should "
    "hold:\n"
    "\n"
    "    with connection.send_stream() as out:\n"
    "        for chunk in source:\n"
    "            out.write(chunk)\n"
    "\n"
    "text: a text message, written as str; else binary, written as "
    "bytes-like.\n"
    "fragment_size: bytes in a frame; what is written gathers until it fills "
    "one,\n"
    "or until out.flush(); where the message is compressed, frames have what "
    "comes\n"
    "of that. compress: as of send(); None compresses, but for a message in "
    "one frame\n"
    "below the threshold. timeout: seconds that each call may wait for room, "
    "None\n"
    "for the websocket's own, and for a client of a Server the server's "
    "send_timeout,\n"
    "after which that client is dropped.\n"
    "\n"
    "Leaving the block ends the message. From entering it until then no "
    "other\n"
    "message may come between (RFC 6455 section 5.4): send() and "
    "send_stream() of\n"
    "other threads wait, up to their timeouts, and raise ConcurrencyError on "
    "this\n"
    "one; what is sent or broadcast to a client of a Server is queued behind "
    "the\n"
    "message, and waits or is skipped where that is more than max_queue "
    "bytes.\n"
    "Pings, pongs and the Close frame go in between. An exception in the "
    "block ends\n"
    "the connection, see __exit__() of the result. Hooks on messages do not "
    "see this\n"
    "one, and a Server's onsent() is not called for it.");

PyObject *
tws_connection_send_stream(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"text", "fragment_size", "compress", "timeout",
                            NULL};
    static const struct tws_size_range sizes = {.least = 1,
                                                .most = PY_SSIZE_T_MAX};
    ConnectionObject *conn = (ConnectionObject *)self;
    int text = 0;
    PyObject *fragment_size = NULL;
    PyObject *compress = NULL;
    PyObject *timeout = Py_None;
    enum tws_compress wanted;
    size_t size = FRAGMENT_SIZE;
    struct tws_deadline ignored;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p$OOO:send_stream", names,
                                     &text, &fragment_size, &compress,
                                     &timeout)
        || !tws_connection_ready(conn)
        || tws_connection_deadline(conn, timeout, &ignored) < 0
        || tws_option_size(fragment_size, "fragment_size", &sizes, &size) < 0
        || tws_connection_compress(compress, &wanted) < 0) {
        return NULL;
    }
    PyTypeObject *type = conn->state->send_stream_type;
    SendStreamObject *stream = (SendStreamObject *)type->tp_alloc(type, 0);
    if (stream == NULL) {
        return NULL;
    }
    stream->conn = (ConnectionObject *)Py_NewRef(self);
    stream->timeout = Py_NewRef(timeout);
    stream->fragment_size = size;
    stream->compress = wanted;
    stream->text = text != 0;
    return (PyObject *)stream;
}
