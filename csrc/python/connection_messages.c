/* Between a Connection's messages and what the core reads and writes, for
 * both back ends; and calling its handlers. */
#include "python/connection_type.h"

#include "python/connection_parts.h"
#include "python/errors.h"
#include "python/frame_type.h"
#include "python/message_type.h"
#include "python/spare_bytes.h"
#include "python/value.h"
#include "protocol/mask.h"
#include "protocol/message_stream.h"

static PyObject *
run_hooks(PyObject *hooks, PyObject *message, struct tws_state *state)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(hooks); i++) {
        PyObject *result =
            PyObject_CallOneArg(PyTuple_GET_ITEM(hooks, i), message);
        Py_DECREF(message);
        if (result == NULL) {
            return NULL;
        }
        message = result;
        if (!PyObject_TypeCheck(message, state->message_type)) {
            PyErr_Format(
                PyExc_TypeError, "hook %R returned %.200s, expected a Message",
                PyTuple_GET_ITEM(hooks, i), Py_TYPE(message)->tp_name);
            Py_DECREF(message);
            return NULL;
        }
    }
    return message;
}

/* What to do about it, where that is known. */
static const char *
advise(struct tws_state *state, PyObject *given)
{
    if (PyObject_TypeCheck(given, state->frame_type)) {
        return " (frames are sent with connection.sock.send())";
    }
    if (PyDict_Check(given) || PyList_Check(given)) {
        return " (json.dumps() makes a str of it)";
    }
    return "";
}

PyObject *
tws_as_message(struct tws_state *state, PyObject *given)
{
    if (PyObject_TypeCheck(given, state->message_type)) {
        return Py_NewRef(given);
    }
    if (PyUnicode_Check(given)) {
        return tws_text_message_make(state, PyUnicode_FromObject(given));
    }
    if (PyObject_CheckBuffer(given)) {
        return tws_binary_message_make(state, PyBytes_FromObject(given));
    }
    PyErr_Format(PyExc_TypeError,
                 "message is %.200s, expected a Message, str or a bytes-like "
                 "object%s",
                 Py_TYPE(given)->tp_name, advise(state, given));
    return NULL;
}

PyObject *
tws_connection_outgoing(ConnectionObject *conn, PyObject *given)
{
    PyObject *message = tws_as_message(conn->state, given);
    PyObject *hooks = conn->send_hooks;
    if (message == NULL || hooks == NULL) {
        return message;
    }
    Py_INCREF(hooks); /* a hook may add another one */
    message = run_hooks(hooks, message, conn->state);
    Py_DECREF(hooks);
    return message;
}

PyObject *
tws_connection_incoming(ConnectionObject *conn, PyObject *message)
{
    PyObject *hooks = conn->recv_hooks;
    if (message == NULL || hooks == NULL) {
        return message;
    }
    Py_INCREF(hooks);
    message = run_hooks(hooks, message, conn->state);
    Py_DECREF(hooks);
    return message;
}

static PyObject *
text_of(const struct tws_event *event)
{
    const char *data = (const char *)event->data;
    Py_ssize_t length = (Py_ssize_t)event->length;
    if (!event->ascii) {
        return tws_value_text(event->data, event->length);
    }
    PyObject *text = PyUnicode_New(length, 127);
    if (text != NULL && length > 0) {
        memcpy(PyUnicode_1BYTE_DATA(text), data, event->length);
    }
    return text;
}

static PyObject *
bytes_of(struct tws_state *state, const struct tws_event *event)
{
    PyObject *bytes = tws_spare_bytes(state, event->length);
    if (bytes == NULL) {
        return NULL;
    }
    char *room = PyBytes_AS_STRING(bytes);
    if (event->masked) {
        tws_mask((uint8_t *)room, event->data, event->length, event->data - 4,
                 0);
    }
    else if (event->length > 0) {
        memcpy(room, event->data, event->length);
    }
    return bytes;
}

PyObject *
tws_connection_message(struct tws_state *state, const struct tws_event *event)
{
    return event->type == TWS_EVENT_BINARY
               ? tws_binary_message_make(state, bytes_of(state, event))
               : tws_text_message_make(state, text_of(event));
}

PyObject *
tws_connection_chunk(struct tws_assembler *assembler,
                     const struct tws_event *event)
{
    if (event->length == 0) {
        return Py_NewRef(Py_None);
    }
    PyObject *chunk =
        event->text ? text_of(event)
                    : PyBytes_FromStringAndSize((const char *)event->data,
                                                (Py_ssize_t)event->length);
    if (chunk != NULL) {
        tws_message_stream_consume(assembler, event->length);
    }
    return chunk;
}

PyObject *
tws_connection_fragment_frame(struct tws_state *state,
                              const struct tws_fragment *fragment)
{
    const struct tws_span *parts = fragment->parts;
    size_t length = parts[0].length + parts[1].length;
    struct tws_frame_header header = {
        .opcode = fragment->opcode, .fin = fragment->fin, .length = length};
    PyObject *payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (payload == NULL) {
        return NULL;
    }
    char *room = PyBytes_AS_STRING(payload);
    for (int i = 0; i < 2; i++) {
        if (parts[i].length > 0) {
            memcpy(room, parts[i].data, parts[i].length);
        }
        room += parts[i].length;
    }
    return tws_frame_from_wire(state, &header, payload);
}

PyObject *
tws_connection_frames(PyObject *message, size_t fragment)
{
    PyObject *frames = NULL;
    if (fragment == 0) {
        PyObject *frame = PyObject_CallMethod(message, "frame", NULL);
        frames = frame == NULL ? NULL : PyTuple_Pack(1, frame);
        Py_XDECREF(frame);
        return frames;
    }
    PyObject *list =
        PyObject_CallMethod(message, "fragment", "n", (Py_ssize_t)fragment);
    frames = list == NULL ? NULL : PySequence_Tuple(list);
    Py_XDECREF(list);
    return frames;
}

int
tws_connection_call(ConnectionObject *conn, PyObject *name, PyObject *argument)
{
    PyObject *args[2] = {(PyObject *)conn, argument};
    size_t count = argument == NULL ? 1 : 2;
    PyObject *result = PyObject_VectorcallMethod(
        name, args, count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (result != NULL) {
        Py_DECREF(result);
        return 0;
    }
    return tws_connection_report(conn);
}

int
tws_connection_report(ConnectionObject *conn)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyObject *error = PyErr_GetRaisedException();
    PyObject *result = PyObject_CallMethodOneArg(
        (PyObject *)conn, conn->state->str_onerror, error);
    if (result == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_WriteUnraisable((PyObject *)conn);
    }
    Py_XDECREF(result);
    Py_DECREF(error);
    return PyErr_Occurred() != NULL ? -1 : 0;
}

int
tws_connection_set_peer(ConnectionObject *conn, const struct tws_address *peer)
{
    size_t size = offsetof(struct tws_address, storage) + peer->length;
    conn->peer = malloc(size);
    if (conn->peer == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(conn->peer, peer, size);
    return 0;
}

PyObject *
tws_connection_raise_closed(ConnectionObject *conn)
{
    if (conn->blocking == NULL) {
        return tws_raise_closed_message(conn->state, conn->close_message);
    }
    struct tws_ending ending;
    tws_blocking_read_ending(conn, &ending);
    return tws_raise_closed_ending(conn->state, &ending);
}
