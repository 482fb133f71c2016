#include "python/frame_type.h"

#include "python/errors.h"
#include "python/frame_wire.h"
#include "python/value.h"
#include "protocol/close_code.h"

#include <stddef.h>

/* --- making frames --- */

/* RFC 6455 §5.5: a control frame is never a fragment. */
static int
check_fin(uint8_t opcode, bool fin)
{
    if (!fin && tws_opcode_is_control(opcode)) {
        PyErr_SetString(PyExc_ValueError,
                        "a control frame can't be fragmented: final must be "
                        "True");
        return -1;
    }
    return 0;
}

/* Reads the masking_key argument: no bytes, or 4. */
static int
read_key(PyObject *object, uint8_t key[4], bool *has_key)
{
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    Py_ssize_t length = view.len;
    if (length == 4) {
        memcpy(key, view.buf, 4);
        *has_key = true;
    }
    PyBuffer_Release(&view);
    if (length != 0 && length != 4) {
        PyErr_Format(PyExc_ValueError,
                     "masking_key must be b'' or 4 bytes, got %zd bytes",
                     length);
        return -1;
    }
    return 0;
}

/* Reads the constructor's arguments into `self`, which stays as it was where
 * that fails. */
static int
frame_fill(FrameObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"opcode", "payload", "masking_key",
                            "mask",   "final",   "rsv1",
                            "rsv2",   "rsv3",    NULL};
    PyObject *number = NULL, *payload = NULL, *given_key = NULL;
    int mask = 0, fin = 1, rsv1 = 0, rsv2 = 0, rsv3 = 0;
    uint8_t opcode;
    uint8_t key[4] = {0};
    bool has_key = false;

    struct tws_state *state = tws_state_of_type(Py_TYPE(self));
    if (state == NULL) {
        return -1;
    }
    if (kwargs == NULL && PyTuple_GET_SIZE(args) == 2) {
        number = PyTuple_GET_ITEM(args, 0);
        payload = PyTuple_GET_ITEM(args, 1);
    }
    else if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|Oppppp:Frame",
                                          names, &number, &payload, &given_key,
                                          &mask, &fin, &rsv1, &rsv2, &rsv3)) {
        return -1;
    }
    bool only_control =
        PyObject_TypeCheck((PyObject *)self, state->control_frame_type);
    if (tws_value_opcode(number, only_control ? 8 : 0, &opcode) < 0
        || check_fin(opcode, fin != 0) < 0
        || (given_key != NULL && read_key(given_key, key, &has_key) < 0)) {
        return -1;
    }
    if (mask != 0 && !has_key) {
        if (tws_frame_draw_key(state, key) < 0) {
            return -1;
        }
        has_key = true;
    }
    payload = tws_value_bytes(payload);
    if (payload == NULL) {
        return -1;
    }
    if (tws_value_check_length(opcode, PyBytes_GET_SIZE(payload)) < 0) {
        Py_DECREF(payload);
        return -1;
    }
    Py_XSETREF(self->payload, payload);
    self->rsv =
        (uint8_t)((rsv1 != 0 ? TWS_RSV1 : 0) | (rsv2 != 0 ? TWS_RSV2 : 0)
                  | (rsv3 != 0 ? TWS_RSV3 : 0));
    self->fin = fin != 0;
    self->has_key = has_key;
    memcpy(self->key, key, sizeof(self->key));
    self->opcode = opcode;
    return 0;
}

static int
frame_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    FrameObject *self = (FrameObject *)op;
    /* A frame never changes: __new__ has set it, with these arguments. */
    return self->opcode != TWS_OPCODE_UNSET ? 0
                                            : frame_fill(self, args, kwargs);
}

static PyObject *
frame_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    FrameObject *self = (FrameObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->opcode = TWS_OPCODE_UNSET;
    int failed;
    if (tws_value_waits_for_init(type, frame_new, frame_init)) {
        self->payload = PyBytes_FromStringAndSize(NULL, 0);
        failed = self->payload == NULL;
    }
    else {
        failed = frame_fill(self, args, kwargs) < 0;
    }
    if (failed) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

PyObject *
tws_frame_from_wire(struct tws_state *state,
                    const struct tws_frame_header *header, PyObject *payload)
{
    if (payload == NULL) {
        return NULL;
    }
    FrameObject *self =
        PyObject_New(FrameObject, tws_opcode_is_control(header->opcode)
                                      ? state->control_frame_type
                                      : state->frame_type);
    if (self == NULL) {
        Py_DECREF(payload);
        return NULL;
    }
    self->payload = payload;
    self->opcode = header->opcode;
    self->rsv = header->rsv & TWS_RSV;
    self->fin = header->fin;
    self->has_key = header->masked;
    memcpy(self->key, header->key, sizeof(self->key));
    return (PyObject *)self;
}

static void
frame_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    Py_XDECREF(((FrameObject *)op)->payload);
    type->tp_free(op);
    Py_DECREF(type);
}

PyDoc_STRVAR(frame_is_fragmented_doc,
             "is_fragmented($self, /)\n--\n\n"
             "True where the frame is a part of a fragmented message.\n\n"
             "That is a frame that is not final, or a continuation.");

static PyObject *
frame_is_fragmented(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    const FrameObject *self = (const FrameObject *)op;
    return PyBool_FromLong(!self->fin
                           || self->opcode == TWS_OPCODE_CONTINUATION);
}

PyDoc_STRVAR(
    control_unpack_close_doc,
    "unpack_close($self, /)\n--\n\n"
    "The (code, reason) that a Close frame carries, an int and a str.\n\n"
    "An empty payload gives (1005, '').\n\n"
    "Raises ProtocolError, with the close code to answer, where the payload\n"
    "is malformed (RFC 6455 section 5.5.1), and ValueError where the frame\n"
    "is not a Close frame.");

static PyObject *
control_unpack_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    const FrameObject *self = (const FrameObject *)op;
    struct tws_state *state = tws_state_of_type(Py_TYPE(op));
    if (state == NULL) {
        return NULL;
    }
    if (self->opcode != TWS_OPCODE_CLOSE) {
        PyErr_Format(PyExc_ValueError, "not a Close frame but %s",
                     tws_value_opcode_name(self->opcode));
        return NULL;
    }
    uint16_t code;
    struct tws_span reason;
    struct tws_error err;
    if (tws_close_parse((const uint8_t *)PyBytes_AS_STRING(self->payload),
                        (size_t)PyBytes_GET_SIZE(self->payload), &code,
                        &reason, &err)
        != TWS_OK) {
        return tws_raise(state, &err);
    }
    return Py_BuildValue("(is#)", (int)code,
                         reason.length == 0 ? "" : reason.data,
                         (Py_ssize_t)reason.length);
}

/* --- as a value --- */

static PyObject *
frame_richcompare(PyObject *a, PyObject *b, int operation)
{
    /* Called with a Frame on the left, also for the reflected operation. */
    struct tws_state *state = tws_state_of_type(Py_TYPE(a));
    if (state == NULL) {
        return NULL;
    }
    if ((operation != Py_EQ && operation != Py_NE)
        || !PyObject_TypeCheck(b, state->frame_type)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    const FrameObject *x = (const FrameObject *)a;
    const FrameObject *y = (const FrameObject *)b;
    if (x->opcode != y->opcode || x->fin != y->fin || x->rsv != y->rsv) {
        return PyBool_FromLong(operation == Py_NE);
    }
    return PyObject_RichCompare(x->payload, y->payload, operation);
}

static Py_hash_t
frame_hash(PyObject *op)
{
    const FrameObject *self = (const FrameObject *)op;
    Py_hash_t hash = PyObject_Hash(self->payload);
    if (hash == -1) {
        return -1;
    }
    unsigned bits = (unsigned)self->opcode | self->rsv | (self->fin ? 128 : 0);
    hash ^= (Py_hash_t)(bits * 1000003u);
    return hash == -1 ? -2 : hash;
}

static Py_ssize_t
frame_length(PyObject *op)
{
    return PyBytes_GET_SIZE(((FrameObject *)op)->payload);
}

/* A frame without a payload is still something: `if frame:` tells it from
 * the None of unpack(). */
static int
frame_bool(PyObject *Py_UNUSED(op))
{
    return 1;
}

static PyObject *
frame_repr(PyObject *op)
{
    const FrameObject *self = (const FrameObject *)op;
    PyObject *text = NULL;
    PyObject *name = PyType_GetName(Py_TYPE(op));
    PyObject *payload = tws_value_repr(self->payload);
    if (name != NULL && payload != NULL) {
        text = PyUnicode_FromFormat("<%U %s %U%s%s%s%s%s>", name,
                                    tws_value_opcode_name(self->opcode),
                                    payload, self->fin ? "" : " final=False",
                                    (self->rsv & TWS_RSV1) != 0 ? " rsv1" : "",
                                    (self->rsv & TWS_RSV2) != 0 ? " rsv2" : "",
                                    (self->rsv & TWS_RSV3) != 0 ? " rsv3" : "",
                                    self->has_key ? " masked" : "");
    }
    Py_XDECREF(name);
    Py_XDECREF(payload);
    return text;
}

static PyObject *
flag_get(PyObject *op, void *bit)
{
    unsigned flags = ((FrameObject *)op)->rsv;
    return PyBool_FromLong((flags & (unsigned)(uintptr_t)bit) != 0);
}

static PyObject *
masking_key_get(PyObject *op, void *Py_UNUSED(closure))
{
    const FrameObject *self = (const FrameObject *)op;
    return PyBytes_FromStringAndSize((const char *)self->key,
                                     self->has_key ? 4 : 0);
}

PyDoc_STRVAR(frame_reduce_doc, "__reduce__($self, /)\n--\n\n"
                               "Support for pickle and copy.");

static PyObject *
frame_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    const FrameObject *self = (const FrameObject *)op;
    return tws_value_reduce(
        op, Py_BuildValue(
                "(iOy#NNNNN)", (int)self->opcode, self->payload,
                (const char *)self->key, (Py_ssize_t)(self->has_key ? 4 : 0),
                PyBool_FromLong(self->has_key), PyBool_FromLong(self->fin),
                PyBool_FromLong(self->rsv & TWS_RSV1),
                PyBool_FromLong(self->rsv & TWS_RSV2),
                PyBool_FromLong(self->rsv & TWS_RSV3)));
}

/* --- types --- */

static PyMethodDef frame_methods[] = {
    {"pack", tws_frame_pack, METH_NOARGS, tws_frame_pack_doc},
    {"unpack", tws_frame_unpack, METH_O | METH_CLASS, tws_frame_unpack_doc},
    {"fragment", (PyCFunction)(void (*)(void))tws_frame_fragment,
     METH_VARARGS | METH_KEYWORDS, tws_frame_fragment_doc},
    {"is_fragmented", frame_is_fragmented, METH_NOARGS,
     frame_is_fragmented_doc},
    {"__reduce__", frame_reduce, METH_NOARGS, frame_reduce_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef frame_members[] = {
    {"opcode", T_UBYTE, offsetof(FrameObject, opcode), READONLY,
     PyDoc_STR("What the frame is, 0 to 15: one of OPCODE_*.")},
    {"payload", T_OBJECT_EX, offsetof(FrameObject, payload), READONLY,
     PyDoc_STR("The content, as bytes and unmasked.")},
    {"mask", T_BOOL, offsetof(FrameObject, has_key), READONLY,
     PyDoc_STR("True where the frame has a masking key.")},
    {"final", T_BOOL, offsetof(FrameObject, fin), READONLY,
     PyDoc_STR("True where the frame ends its message.")},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef frame_getset[] = {
    {"masking_key", masking_key_get, NULL,
     PyDoc_STR("The masking key: 4 bytes, or b'' where there is none."), NULL},
    {"rsv1", flag_get, NULL, PyDoc_STR("The first reserved bit."),
     (void *)(uintptr_t)TWS_RSV1},
    {"rsv2", flag_get, NULL, PyDoc_STR("The second reserved bit."),
     (void *)(uintptr_t)TWS_RSV2},
    {"rsv3", flag_get, NULL, PyDoc_STR("The third reserved bit."),
     (void *)(uintptr_t)TWS_RSV3},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    frame_doc,
    "Frame(opcode, payload, masking_key=b'', mask=False, final=True, "
    "rsv1=False, rsv2=False, rsv3=False)\n--\n\n"
    "One frame of the WebSocket protocol (RFC 6455 section 5.2).\n\n"
    "opcode       what the frame is, 0 to 15: one of OPCODE_*\n"
    "payload      the content: str, taken in UTF-8, or a bytes-like object\n"
    "masking_key  4 bytes to mask the payload with, or b'' for none\n"
    "mask         True draws a random masking key where none is given\n"
    "final        False where the message goes on in another frame\n"
    "rsv1-rsv3    reserved bits, which belong to extensions\n\n"
    "Raises ValueError for an opcode or a masking key out of range and for a\n"
    "control frame (opcode 8 to 15) that is not final or has a payload of\n"
    "more than 125 bytes, and UnicodeEncodeError for a str that has no UTF-8\n"
    "form.\n\n"
    "A websocket has its own rule about masking: a client masks what it\n"
    "sends with a fresh key, a server masks nothing, whatever the frame\n"
    "says.\n\n"
    "Frames never change, so threads may share them. len() is the length of\n"
    "the payload in bytes. Frames are equal when opcode, payload, final and\n"
    "reserved bits are; the masking key does not count.");

static PyType_Slot frame_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)frame_doc},
    {Py_tp_new, frame_new},
    {Py_tp_init, frame_init},
    {Py_tp_dealloc, frame_dealloc},
    {Py_tp_methods, frame_methods},
    {Py_tp_members, frame_members},
    {Py_tp_getset, frame_getset},
    {Py_tp_richcompare, frame_richcompare},
    {Py_tp_hash, frame_hash},
    {Py_tp_repr, frame_repr},
    {Py_sq_length, frame_length},
    {Py_nb_bool, frame_bool},
    {0, NULL},
};

PyType_Spec tws_frame_spec = {
    .name = "twspy.Frame",
    .basicsize = sizeof(FrameObject),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = frame_slots,
};

static PyMethodDef control_methods[] = {
    {"unpack_close", control_unpack_close, METH_NOARGS,
     control_unpack_close_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    control_frame_doc,
    "ControlFrame(opcode, payload, masking_key=b'', mask=False, final=True, "
    "rsv1=False, rsv2=False, rsv3=False)\n--\n\n"
    "A Frame with a control opcode: Close, Ping or Pong (RFC 6455 section "
    "5.5).\n\n"
    "The arguments are those of Frame, with an opcode of 8 to 15. A control\n"
    "frame is always final and its payload has at most 125 bytes: anything\n"
    "else raises ValueError, and so does fragment().");

static PyType_Slot control_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)control_frame_doc},
    {Py_tp_dealloc, frame_dealloc},
    {Py_tp_methods, control_methods},
    {0, NULL},
};

PyType_Spec tws_control_frame_spec = {
    .name = "twspy.ControlFrame",
    .basicsize = sizeof(FrameObject),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = control_slots,
};
