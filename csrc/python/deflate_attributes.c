/* What the extensions that compress tell of themselves. */
#include "python/deflate_type.h"

#include "python/options.h"

#include <stddef.h>

static inline DeflateObject *
cast(PyObject *self)
{
    return (DeflateObject *)self;
}

static PyObject *
bits_object(uint8_t bits)
{
    switch (bits) {
    case TWS_WINDOW_BITS_NONE:
        return Py_NewRef(Py_None);
    case TWS_WINDOW_BITS_OPEN:
        return Py_NewRef(Py_True);
    default:
        return PyLong_FromLong(bits);
    }
}

/* True where it is about what this end sends. */
static bool
is_ours(const DeflateObject *self, enum tws_role sender)
{
    return self->role == sender;
}

static PyObject *
no_takeover_get(PyObject *op, void *closure)
{
    const DeflateObject *self = cast(op);
    bool of_server = closure != NULL;
    bool alone = of_server ? self->asked.server_no_context_takeover
                           : self->asked.client_no_context_takeover;
    if (self->agreed) {
        alone = is_ours(self, of_server ? TWS_SERVER : TWS_CLIENT)
                    ? !self->terms.out_takeover
                    : !self->terms.in_takeover;
    }
    return PyBool_FromLong(alone);
}

static PyObject *
window_bits_get(PyObject *op, void *closure)
{
    const DeflateObject *self = cast(op);
    bool of_server = closure != NULL;
    uint8_t bits = of_server ? self->asked.server_max_window_bits
                             : self->asked.client_max_window_bits;
    if (self->agreed) {
        bits = is_ours(self, of_server ? TWS_SERVER : TWS_CLIENT)
                   ? self->terms.out.window_bits
                   : self->terms.in_window_bits;
    }
    return bits_object(bits);
}

static PyObject *
frame_takeover_get(PyObject *op, void *closure)
{
    const DeflateObject *self = cast(op);
    if (closure != NULL) { /* the peer's wish */
        return self->agreed ? PyBool_FromLong(!self->terms.out_takeover)
                            : Py_NewRef(Py_None);
    }
    return PyBool_FromLong(self->asked_of_frames.no_context_takeover);
}

static PyObject *
frame_bits_get(PyObject *op, void *closure)
{
    const DeflateObject *self = cast(op);
    if (closure != NULL) {
        return self->agreed ? bits_object(self->terms.out.window_bits)
                            : Py_NewRef(Py_None);
    }
    return bits_object(self->agreed ? self->terms.in_window_bits
                                    : self->asked_of_frames.max_window_bits);
}

static PyObject *
threshold_get(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(cast(op)->threshold);
}

static PyObject *
max_size_get(PyObject *op, void *Py_UNUSED(closure))
{
    uint64_t size = cast(op)->max_size;
    return size == UINT64_MAX ? Py_NewRef(Py_None)
                              : PyLong_FromUnsignedLongLong(size);
}

static int
max_size_set(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    static const struct tws_size_range range = {
        .least = 0, .most = PY_SSIZE_T_MAX, .none = "no limit"};
    size_t size = 0;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "max_size can't be deleted");
        return -1;
    }
    if (tws_option_size(value, "max_size", &range, &size) < 0) {
        return -1;
    }
    cast(op)->max_size = size == SIZE_MAX ? UINT64_MAX : size;
    return 0;
}

/* "DeflateMessage(name=value, ...)"; steals `values`, a tuple. */
static PyObject *
settings_repr(const DeflateObject *self, const char *const *names,
              PyObject *values)
{
    PyObject *text = NULL;
    PyObject *parts = NULL;
    PyObject *comma = NULL;
    PyObject *joined = NULL;
    PyObject *name = PyType_GetName(Py_TYPE((PyObject *)(uintptr_t)self));
    if (values == NULL || name == NULL) {
        goto done;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(values);
    parts = PyTuple_New(count);
    for (Py_ssize_t i = 0; parts != NULL && i < count; i++) {
        PyObject *part = PyUnicode_FromFormat("%s=%R", names[i],
                                              PyTuple_GET_ITEM(values, i));
        if (part == NULL) {
            goto done;
        }
        PyTuple_SET_ITEM(parts, i, part);
    }
    comma = parts == NULL ? NULL : PyUnicode_FromString(", ");
    joined = comma == NULL ? NULL : PyUnicode_Join(comma, parts);
    if (joined != NULL && self->agreed) {
        text = PyUnicode_FromFormat(
            "<%U of a %s: %U>", name,
            self->role == TWS_SERVER ? "server" : "client", joined);
    }
    else if (joined != NULL) {
        text = PyUnicode_FromFormat("%U(%U)", name, joined);
    }
done:
    Py_XDECREF(name);
    Py_XDECREF(values);
    Py_XDECREF(parts);
    Py_XDECREF(comma);
    Py_XDECREF(joined);
    return text;
}

PyObject *
tws_deflate_message_repr(PyObject *op)
{
    static const char *const names[] = {"server_no_context_takeover",
                                        "client_no_context_takeover",
                                        "server_max_window_bits",
                                        "client_max_window_bits",
                                        "level",
                                        "mem_level",
                                        "threshold",
                                        "shared"};
    const DeflateObject *self = cast(op);
    void *server = (void *)(uintptr_t)1;
    return settings_repr(
        self, names,
        Py_BuildValue("(NNNNiiNN)", no_takeover_get(op, server),
                      no_takeover_get(op, NULL), window_bits_get(op, server),
                      window_bits_get(op, NULL), (int)self->out.level,
                      (int)self->out.mem_level, threshold_get(op, NULL),
                      PyBool_FromLong(self->shared)));
}

PyObject *
tws_deflate_frame_repr(PyObject *op)
{
    static const char *const names[] = {"max_window_bits",
                                        "no_context_takeover",
                                        "level",
                                        "mem_level",
                                        "threshold",
                                        "peer_max_window_bits",
                                        "peer_no_context_takeover"};
    const DeflateObject *self = cast(op);
    void *peer = (void *)(uintptr_t)1;
    PyObject *values =
        Py_BuildValue("(NNiiN)", frame_bits_get(op, NULL),
                      frame_takeover_get(op, NULL), (int)self->out.level,
                      (int)self->out.mem_level, threshold_get(op, NULL));
    if (values != NULL && self->agreed) {
        PyObject *more = Py_BuildValue("(NN)", frame_bits_get(op, peer),
                                       frame_takeover_get(op, peer));
        PyObject *all = more == NULL ? NULL : PySequence_Concat(values, more);
        Py_XDECREF(more);
        Py_SETREF(values, all);
    }
    return settings_repr(self, names, values);
}

/* Tables ----------------------------------------------------------------- */

PyMemberDef tws_deflate_members[] = {
    {"level", T_BYTE, offsetof(DeflateObject, out.level), READONLY,
     PyDoc_STR("How hard it tries to compress: -1 (zlib's choice) to 9.")},
    {"mem_level", T_UBYTE, offsetof(DeflateObject, out.mem_level), READONLY,
     PyDoc_STR("How much memory it spends on that: 1 to 9.")},
    {"agreed", T_BOOL, offsetof(DeflateObject, agreed), READONLY,
     PyDoc_STR("True of the instance of a connection.")},
    {"__dictoffset__", T_PYSSIZET, offsetof(DeflateObject, dict), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

PyGetSetDef tws_deflate_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"threshold", threshold_get, NULL,
     PyDoc_STR("Bytes; smaller messages (or frames) are sent as they are."),
     NULL},
    {"max_size", max_size_get, max_size_set,
     PyDoc_STR("Bytes that onrecv() may make of a frame, or None: max_size of "
               "the connection."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyGetSetDef tws_deflate_message_getset[] = {
    {"server_no_context_takeover", no_takeover_get, NULL,
     PyDoc_STR("True: the server compresses each message for itself."),
     (void *)(uintptr_t)1},
    {"client_no_context_takeover", no_takeover_get, NULL,
     PyDoc_STR("True: the client compresses each message for itself."), NULL},
    {"server_max_window_bits", window_bits_get, NULL,
     PyDoc_STR("The server refers back at most 2 ** bits bytes; None: as far "
               "as it likes."),
     (void *)(uintptr_t)1},
    {"client_max_window_bits", window_bits_get, NULL,
     PyDoc_STR("The same of the client; True: as the server asks."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyMemberDef tws_deflate_message_members[] = {
    {"shared", T_BOOL, offsetof(DeflateObject, shared), READONLY,
     PyDoc_STR("True: connections keep no contexts between messages.")},
    {NULL, 0, 0, 0, NULL},
};

PyGetSetDef tws_deflate_frame_getset[] = {
    {"max_window_bits", frame_bits_get, NULL,
     PyDoc_STR("The peer refers back at most 2 ** bits bytes; None: as far as "
               "it likes."),
     NULL},
    {"no_context_takeover", frame_takeover_get, NULL,
     PyDoc_STR("True: the peer compresses each frame for itself."), NULL},
    {"peer_max_window_bits", frame_bits_get, NULL,
     PyDoc_STR("This end refers back at most 2 ** bits bytes; None before it "
               "is agreed on."),
     (void *)(uintptr_t)1},
    {"peer_no_context_takeover", frame_takeover_get, NULL,
     PyDoc_STR("True: this end compresses each frame for itself; None before "
               "it is agreed on."),
     (void *)(uintptr_t)1},
    {NULL, NULL, NULL, NULL, NULL},
};
