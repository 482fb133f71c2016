/* The methods of `Connection`: read their arguments and pass on to the back
 * end. */
#include "python/connection_methods.h"

#include "python/arguments.h"
#include "python/connection_ahead.h"
#include "python/connection_streams.h"
#include "python/message_type.h"

static inline ConnectionObject *
cast(PyObject *self)
{
    return (ConnectionObject *)self;
}

/* Sending ---------------------------------------------------------------- */

/* True where the back end is there; RuntimeError where a subclass forgot to
 * call our __init__. */
bool
tws_connection_ready(ConnectionObject *conn)
{
    if (TWS_LIKELY((conn->client != NULL && conn->server != NULL)
                   || (conn->blocking != NULL && conn->sock != NULL))) {
        return true;
    }
    if (conn->client != NULL || conn->blocking != NULL) {
        /* By a __del__, while the garbage collector takes it apart. */
        PyErr_SetString(PyExc_RuntimeError, "the Connection is being deleted");
        return false;
    }
    if (conn->server != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        conn->head != NULL
                            ? "the opening handshake of this client is not "
                              "done: send, receive and close in onopen() and "
                              "later; to refuse it, return a Response or "
                              "raise HandshakeError"
                            : "this client was not let in");
        return false;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "Connection.__init__(sock) was not called: call "
                    "super().__init__(sock) in the subclass");
    return false;
}

int
tws_connection_deadline(ConnectionObject *conn, PyObject *timeout,
                        struct tws_deadline *deadline)
{
    uint64_t ns = UINT64_MAX;
    if (timeout != NULL && timeout != Py_None) {
        if (tws_timeout_from_object(timeout, "timeout", &ns) < 0) {
            return -1;
        }
        *deadline = tws_deadline_after(ns == 0 ? 1 : ns);
        return 0;
    }
    if (conn->blocking != NULL) {
        ns = ((WebsocketObject *)conn->sock)->timeout;
    }
    *deadline = tws_deadline_after(ns);
    return 0;
}

PyDoc_STRVAR(
    send_doc,
    "send($self, /, message, fragment_size=None, *, compress=None,\n"
    "     timeout=None)\n"
    "--\n"
    "\n"
    "Send one message.\n"
    "\n"
    "message: a Message, or str for a text, or bytes-like for a binary "
    "message.\n"
    "fragment_size: send in frames of at most so many bytes (RFC 6455 "
    "section\n"
    "5.4); None for one frame. compress: where an extension that compresses "
    "was\n"
    "agreed on (see DeflateMessage): None leaves it to that, True compresses "
    "also\n"
    "below its threshold, False does not. timeout: seconds to wait for room\n"
    "in the send buffer, None for the websocket's own, and for a client of a\n"
    "Server the server's send_timeout, after which that client is dropped.\n"
    "\n"
    "Raises SocketClosed when the connection is closing or closed, "
    "TimeoutError\n"
    "or BlockingIOError when nothing of the message could be sent in time "
    "(once\n"
    "its first byte is out, the rest is sent before anything else), and\n"
    "UnicodeEncodeError for text with lone surrogates. ConcurrencyError in "
    "this\n"
    "thread's own block of send_stream(); other threads wait for its end. For "
    "a\n"
    "client of a Server\n"
    "it queues what does not leave at once, and waits only where more than\n"
    "max_queue bytes are queued already. Any thread may call.");

static int
read_fragment_size(PyObject *object, size_t *fragment)
{
    *fragment = 0;
    if (object == NULL || object == Py_None) {
        return 0;
    }
    if (!PyIndex_Check(object)) {
        PyErr_Format(PyExc_TypeError,
                     "fragment_size is %.200s, expected an int of at least 1 "
                     "or None",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    Py_ssize_t size = PyNumber_AsSsize_t(object, PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred() != NULL) {
        return -1;
    }
    if (size < 1) {
        PyErr_Format(PyExc_ValueError,
                     "fragment_size is %zd, expected at least 1, or None",
                     size);
        return -1;
    }
    *fragment = (size_t)size;
    return 0;
}

int
tws_connection_compress(PyObject *given, enum tws_compress *compress)
{
    *compress = TWS_COMPRESS_AUTO;
    if (given == NULL || given == Py_None) {
        return 0;
    }
    int wanted = PyObject_IsTrue(given);
    *compress = wanted > 0 ? TWS_COMPRESS_ALWAYS : TWS_COMPRESS_NEVER;
    return wanted < 0 ? -1 : 0;
}

static PyObject *
send_with(ConnectionObject *conn, PyObject *given, PyObject *fragment_size,
          enum tws_compress compress, PyObject *timeout)
{
    size_t fragment;
    struct tws_deadline deadline = {.at = UINT64_MAX};
    bool limited = timeout != NULL && timeout != Py_None;
    if (!tws_connection_ready(conn)
        || read_fragment_size(fragment_size, &fragment) < 0) {
        return NULL;
    }
    if ((limited || conn->blocking != NULL)
        && tws_connection_deadline(conn, timeout, &deadline) < 0) {
        return NULL;
    }
    PyObject *message = tws_connection_outgoing(conn, given);
    if (message == NULL) {
        return NULL;
    }
    int result =
        conn->client != NULL
            ? tws_served_send_message(conn, message, fragment, compress,
                                      limited ? &deadline : NULL)
            : tws_blocking_send(conn, message, fragment, compress, &deadline);
    Py_DECREF(message);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
connection_send(PyObject *self, PyObject *const *args, Py_ssize_t count,
                PyObject *kwnames)
{
    if (TWS_LIKELY(count == 1 && kwnames == NULL)) {
        if (tws_served_send_short(cast(self), args[0])) {
            return Py_NewRef(Py_None);
        }
        return send_with(cast(self), args[0], NULL, TWS_COMPRESS_AUTO, NULL);
    }
    static const char *const names[] = {"message", "fragment_size", "compress",
                                        "timeout", NULL};
    PyObject *values[4] = {NULL, NULL, NULL, NULL};
    enum tws_compress compress;
    if (tws_parse_fastcall("send", args, count, kwnames, names, 1, 2, values)
            < 0
        || tws_connection_compress(values[2], &compress) < 0) {
        return NULL;
    }
    return send_with(cast(self), values[0], values[1], compress, values[3]);
}

PyDoc_STRVAR(
    send_ping_doc,
    "send_ping($self, /, payload=b'')\n"
    "--\n"
    "\n"
    "Send a ping (RFC 6455 section 5.5.2). The answer arrives as onpong().\n"
    "\n"
    "payload: at most 125 bytes, bytes-like or str (sent as UTF-8), else\n"
    "PingError. Raises SocketClosed when the connection is closing or "
    "closed.\n"
    "Never waits. Any thread may call.");

static PyObject *
connection_send_ping(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"payload", NULL};
    ConnectionObject *conn = cast(self);
    Py_buffer payload = {0};
    PyObject *result = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|s*:send_ping", names,
                                     &payload)) {
        return NULL;
    }
    if (!tws_connection_ready(conn)) {
        goto done;
    }
    if (payload.len > TWS_CONTROL_PAYLOAD_MAX) {
        PyErr_Format(conn->state->PingError,
                     "ping payload is %zd bytes, expected at most %d (RFC "
                     "6455 5.5)",
                     payload.len, TWS_CONTROL_PAYLOAD_MAX);
        goto done;
    }
    struct tws_span span = {.data = payload.buf,
                            .length = (size_t)payload.len};
    int status = conn->client != NULL ? tws_served_ping(conn, span)
                                      : tws_blocking_ping(conn, span);
    if (status == 0) {
        result = Py_NewRef(Py_None);
    }
done:
    if (payload.obj != NULL) {
        PyBuffer_Release(&payload);
    }
    return result;
}

/* Receiving -------------------------------------------------------------- */

PyDoc_STRVAR(
    recv_doc,
    "recv($self, /, timeout=None)\n"
    "--\n"
    "\n"
    "Receive the next message: a TextMessage or a BinaryMessage.\n"
    "\n"
    "timeout: seconds to wait, None for the websocket's own. Pings are "
    "answered\n"
    "and the handlers onping() and onpong() called on the way. What was read\n"
    "ahead (see twspy.connect()) comes first.\n"
    "\n"
    "Raises SocketClosed with the code and reason when the connection is "
    "over,\n"
    "ProtocolError when the peer broke a rule or a limit (it has been told "
    "and\n"
    "the connection closed), TimeoutError or BlockingIOError when no message "
    "came\n"
    "in time; nothing is lost then. ConcurrencyError when another thread is\n"
    "receiving. A client of a Server may call it inside its own handlers "
    "only.\n"
    "What recv_stream() has left of a message is skipped.");

static PyObject *
connection_recv(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    ConnectionObject *conn = cast(self);
    PyObject *timeout = NULL;
    struct tws_deadline deadline;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:recv", names, &timeout)
        || !tws_connection_ready(conn)
        || tws_connection_deadline(conn, timeout, &deadline) < 0) {
        return NULL;
    }
    return conn->client != NULL ? tws_served_recv(conn, &deadline)
                                : tws_blocking_recv(conn, &deadline);
}

PyDoc_STRVAR(
    receive_forever_doc,
    "receive_forever($self, /)\n"
    "--\n"
    "\n"
    "Call onopen(), then onmessage() for each message until the connection "
    "ends,\n"
    "then onclose() with a CloseMessage.\n"
    "\n"
    "What a handler raises goes to onerror(), and receiving goes on;\n"
    "KeyboardInterrupt and SystemExit end it. A timeout of the websocket "
    "shows as\n"
    "TimeoutError; calling again goes on. RuntimeError for a client of a "
    "Server.");

static PyObject *
connection_receive_forever(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    ConnectionObject *conn = cast(self);
    if (!tws_connection_ready(conn)) {
        return NULL;
    }
    if (conn->client != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the server receives for this client and calls its "
                        "own handlers; use client.recv() inside one of them");
        return NULL;
    }
    return tws_blocking_receive_forever(conn);
}

/* Ends quietly after a normal close; anything else is an error. */
PyObject *
tws_connection_next(PyObject *self)
{
    ConnectionObject *conn = cast(self);
    struct tws_deadline deadline;
    if (!tws_connection_ready(conn)
        || tws_connection_deadline(conn, NULL, &deadline) < 0) {
        return NULL;
    }
    PyObject *message = conn->client != NULL
                            ? tws_served_recv(conn, &deadline)
                            : tws_blocking_recv(conn, &deadline);
    if (message != NULL
        || !PyErr_ExceptionMatches(conn->state->SocketClosed)) {
        return message;
    }
    /* A served client's onclose(), which notes the code, comes later. */
    PyObject *error = PyErr_GetRaisedException();
    PyObject *code = PyObject_GetAttr(error, conn->state->str_code);
    long number = code == NULL ? -1 : PyLong_AsLong(code);
    Py_XDECREF(code);
    if (number == TWS_CLOSE_NORMAL || number == TWS_CLOSE_GOING_AWAY) {
        Py_DECREF(error);
    }
    else {
        PyErr_SetRaisedException(error); /* in place of what failed here */
    }
    return NULL;
}

/* Closing ---------------------------------------------------------------- */

PyDoc_STRVAR(
    close_doc,
    "close($self, /, code=1000, reason='', *, timeout=None)\n"
    "--\n"
    "\n"
    "Do the closing handshake (RFC 6455 section 7) and close the socket.\n"
    "\n"
    "code: 1000 to 1014 less the reserved ones, or 3000 to 4999. reason: at "
    "most\n"
    "123 bytes of UTF-8. ValueError otherwise. timeout: seconds to wait for "
    "the\n"
    "peer's answer, None for the websocket's close_timeout; when they are "
    "over\n"
    "the socket is closed without it. Messages that arrive meanwhile, or were "
    "read\n"
    "ahead, are discarded. Does nothing on a connection that is closed. Where "
    "a handler "
    "of a\n"
    "Server waits here, other clients are served. Any thread may call, also "
    "while\n"
    "another one is in recv(); a hook or signal handler inside of recv() "
    "leaves\n"
    "the peer's answer to that recv().");

static PyObject *
connection_close(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"code", "reason", "timeout", NULL};
    ConnectionObject *conn = cast(self);
    PyObject *code = NULL;
    PyObject *reason = NULL;
    PyObject *timeout = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO$O:close", names, &code,
                                     &reason, &timeout)
        || !tws_connection_ready(conn)) {
        return NULL;
    }
    /* CloseMessage checks both; what it can't send is refused by view(). */
    PyObject *message = NULL;
    PyObject *number =
        code != NULL ? Py_NewRef(code) : PyLong_FromLong(TWS_CLOSE_NORMAL);
    if (number != NULL) {
        message = PyObject_CallFunctionObjArgs(
            (PyObject *)conn->state->close_message_type, number, reason, NULL);
        Py_DECREF(number);
    }
    if (message == NULL) {
        return NULL;
    }
    PyObject *result = NULL;
    uint8_t opcode;
    struct tws_span payload;
    if (tws_message_view(conn->state, message, &opcode, &payload) < 0) {
        goto done;
    }
    uint64_t ns = tws_connection_options(conn)->close_timeout;
    if (timeout != NULL && timeout != Py_None
        && tws_timeout_from_object(timeout, "timeout", &ns) < 0) {
        goto done;
    }
    CloseMessageObject *close = (CloseMessageObject *)message;
    struct tws_span text = {.data = payload.data + 2,
                            .length = payload.length - 2};
    struct tws_deadline deadline = tws_deadline_after(ns == 0 ? 1 : ns);
    int status = conn->client != NULL
                     ? tws_served_close(conn, close->code, text, &deadline)
                     : tws_blocking_close(conn, close->code, text, &deadline);
    if (status == 0) {
        result = Py_NewRef(Py_None);
    }
done:
    Py_DECREF(message);
    return result;
}

static PyObject *
connection_enter(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return Py_NewRef(self);
}

PyDoc_STRVAR(exit_doc, "__exit__($self, type, value, traceback, /)\n"
                       "--\n"
                       "\n"
                       "close() with 1000, or with 1011 where the block ended "
                       "with an exception.");

static PyObject *
connection_exit(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int code =
        count > 0 && args[0] != Py_None ? TWS_CLOSE_UNABLE : TWS_CLOSE_NORMAL;
    PyObject *result = PyObject_CallMethod(self, "close", "i", code);
    if (result == NULL) {
        return NULL;
    }
    Py_DECREF(result);
    return Py_NewRef(Py_False);
}

/* Hooks and handlers ----------------------------------------------------- */

PyDoc_STRVAR(
    add_hook_doc,
    "add_hook($self, /, send=None, recv=None, prepend=False)\n"
    "--\n"
    "\n"
    "Have functions look at, and change, every text and binary message.\n"
    "\n"
    "send, recv: called with a Message, return the Message to use instead (it "
    "may\n"
    "be the same). Hooks run in the order in which they were added; prepend "
    "puts\n"
    "these first. TypeError for what can't be called. What a send hook "
    "raises\n"
    "comes out of send(), what a recv hook raises out of recv() or\n"
    "receive_forever(), which may be called again; of a server's client it\n"
    "goes to onerror.");

static PyObject *
connection_add_hook(PyObject *self, PyObject *args, PyObject *kwargs)
{
    ConnectionObject *conn = cast(self);
    return tws_add_hooks(args, kwargs, &conn->send_hooks, &conn->recv_hooks);
}

PyDoc_STRVAR(onopen_doc,
             "onopen($self, /)\n"
             "--\n"
             "\n"
             "Called once when receive_forever() starts. Override it.");

static PyObject *
ignore_event(PyObject *self, PyObject *ignored)
{
    (void)self;
    (void)ignored;
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(onmessage_doc,
             "onmessage($self, message, /)\n"
             "--\n"
             "\n"
             "Called with each TextMessage or BinaryMessage. Override it.");

PyDoc_STRVAR(onclose_doc,
             "onclose($self, message, /)\n"
             "--\n"
             "\n"
             "Called once with a CloseMessage when the connection is over, "
             "after onopen()\n"
             "was. Its code is 1006 where no Close frame came. Override it.");

PyDoc_STRVAR(
    onping_doc,
    "onping($self, payload, /)\n"
    "--\n"
    "\n"
    "Called with the bytes of a ping, which has been answered. Override it.");

PyDoc_STRVAR(
    onpong_doc,
    "onpong($self, payload, /)\n"
    "--\n"
    "\n"
    "Called with the bytes of a pong, asked for or not. Override it.");

PyDoc_STRVAR(onerror_doc, "onerror($self, error, /)\n"
                          "--\n"
                          "\n"
                          "Called with an Exception that a handler raised. By "
                          "default it logs it with\n"
                          "its traceback on the logger 'twspy'.");

static PyObject *
connection_onerror(PyObject *self, PyObject *error)
{
    return PyObject_CallFunctionObjArgs(cast(self)->state->log_unhandled, self,
                                        error, NULL);
}

#define KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

PyMethodDef tws_connection_methods[] = {
    {"send", KEYWORDS(connection_send), METH_FASTCALL | METH_KEYWORDS,
     send_doc},
    {"send_stream", KEYWORDS(tws_connection_send_stream),
     METH_VARARGS | METH_KEYWORDS, tws_connection_send_stream_doc},
    {"send_ping", KEYWORDS(connection_send_ping), METH_VARARGS | METH_KEYWORDS,
     send_ping_doc},
    {"recv", KEYWORDS(connection_recv), METH_VARARGS | METH_KEYWORDS,
     recv_doc},
    {"recv_stream", KEYWORDS(tws_connection_recv_stream),
     METH_VARARGS | METH_KEYWORDS, tws_connection_recv_stream_doc},
    {"receive_forever", connection_receive_forever, METH_NOARGS,
     receive_forever_doc},
    {"close", KEYWORDS(connection_close), METH_VARARGS | METH_KEYWORDS,
     close_doc},
    {"add_hook", KEYWORDS(connection_add_hook), METH_VARARGS | METH_KEYWORDS,
     add_hook_doc},
    {"_keep", tws_ahead_keep, METH_VARARGS, tws_ahead_keep_doc},
    {"onopen", ignore_event, METH_NOARGS, onopen_doc},
    {"onmessage", ignore_event, METH_O, onmessage_doc},
    {"onclose", ignore_event, METH_O, onclose_doc},
    {"onping", ignore_event, METH_O, onping_doc},
    {"onpong", ignore_event, METH_O, onpong_doc},
    {"onerror", connection_onerror, METH_O, onerror_doc},
    {"__enter__", connection_enter, METH_NOARGS, NULL},
    {"__exit__", KEYWORDS(connection_exit), METH_FASTCALL, exit_doc},
    {NULL, NULL, 0, NULL},
};
