#include "python/message_wire.h"

#include "python/close_message_type.h"
#include "python/frame_wire.h"
#include "python/value.h"

int
tws_message_view(struct tws_state *state, PyObject *message, uint8_t *opcode,
                 struct tws_span *payload)
{
    if (!PyObject_TypeCheck(message, state->message_type)) {
        PyErr_Format(PyExc_TypeError, "expected a Message, got %s",
                     Py_TYPE(message)->tp_name);
        return -1;
    }
    const MessageObject *self = (const MessageObject *)message;
    if (tws_value_check_set(message, self->opcode) < 0) {
        return -1;
    }
    if (self->opcode == TWS_OPCODE_TEXT) {
        Py_ssize_t length;
        const char *data = PyUnicode_AsUTF8AndSize(self->payload, &length);
        if (data == NULL) {
            return -1;
        }
        payload->data = data;
        payload->length = (size_t)length;
    }
    else {
        if (self->opcode == TWS_OPCODE_CLOSE
            && tws_close_message_check_sendable(message) < 0) {
            return -1;
        }
        payload->data = PyBytes_AS_STRING(self->payload);
        payload->length = (size_t)PyBytes_GET_SIZE(self->payload);
    }
    *opcode = self->opcode;
    return 0;
}

static PyObject *
frame_of(struct tws_state *state, PyObject *op, bool mask)
{
    struct tws_frame_header header = {.fin = true, .masked = mask};
    struct tws_span payload;
    if (tws_message_view(state, op, &header.opcode, &payload) < 0
        || (mask && tws_frame_draw_key(state, header.key) < 0)) {
        return NULL;
    }
    PyObject *bytes = ((MessageObject *)op)->payload;
    if (PyBytes_Check(bytes)) {
        Py_INCREF(bytes);
    }
    else {
        bytes = PyBytes_FromStringAndSize(payload.data,
                                          (Py_ssize_t)payload.length);
    }
    return tws_frame_from_wire(state, &header, bytes);
}

const char tws_message_frame_doc[] = PyDoc_STR(
    "frame($self, /, mask=False)\n--\n\n"
    "The message as one Frame, or ControlFrame for a control message.\n\n"
    "With mask, the frame has a random masking key.\n\n"
    "Raises ValueError for a CloseMessage whose code is never sent.");

PyObject *
tws_message_frame(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"mask", NULL};
    int mask = 0;
    struct tws_state *state = tws_state_of_type(Py_TYPE(op));
    if (state == NULL
        || !PyArg_ParseTupleAndKeywords(args, kwargs, "|p:frame", names,
                                        &mask)) {
        return NULL;
    }
    return frame_of(state, op, mask != 0);
}

const char tws_message_fragment_doc[] = PyDoc_STR(
    "fragment($self, /, size, mask=False)\n--\n\n"
    "The message as a list of frames with at most size bytes each.\n\n"
    "A text may be cut in the middle of a character. With mask, each frame\n"
    "has its own random masking key (RFC 6455 section 5.4).\n\n"
    "Raises ValueError where size is less than 1 and for a control message,\n"
    "which can't be fragmented.");

PyObject *
tws_message_fragment(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"size", "mask", NULL};
    PyObject *size;
    int mask = 0;
    struct tws_state *state = tws_state_of_type(Py_TYPE(op));
    if (state == NULL
        || !PyArg_ParseTupleAndKeywords(args, kwargs, "O|p:fragment", names,
                                        &size, &mask)) {
        return NULL;
    }
    PyObject *frame = frame_of(state, op, false);
    if (frame == NULL) {
        return NULL;
    }
    PyObject *list = PyObject_CallMethod(frame, "fragment", "Oi", size, mask);
    Py_DECREF(frame);
    return list;
}
