#include "python/message_type.h"

#include "python/close_message_type.h"
#include "python/message_wire.h"
#include "python/received_text.h"
#include "python/value.h"

#include <stddef.h>

/* --- making messages --- */

/* An exact str that has a UTF-8 form. The form stays with the str, so that
 * sending it does not encode again. */
static PyObject *
text_of(struct tws_state *state, PyObject *object)
{
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "a text message takes str, got %s%s",
                     Py_TYPE(object)->tp_name,
                     PyObject_CheckBuffer(object)
                         ? ": decode it, or use BinaryMessage"
                         : "");
        return NULL;
    }
    if (TWS_LIKELY(PyUnicode_CheckExact(object)
                   && PyUnicode_IS_COMPACT_ASCII(object))) {
        return Py_NewRef(object); /* is its own UTF-8 form */
    }
    if (tws_received_text_is(state, object)) {
        return Py_NewRef(object); /* has come from one */
    }
    PyObject *text = PyUnicode_FromObject(object);
    if (text != NULL && PyUnicode_AsUTF8AndSize(text, NULL) == NULL) {
        Py_CLEAR(text);
    }
    return text;
}

static PyObject *
binary_of(PyObject *object)
{
    if (PyUnicode_Check(object)) {
        PyErr_SetString(PyExc_TypeError,
                        "a binary message takes a bytes-like object, got "
                        "str: encode it, or use TextMessage");
        return NULL;
    }
    return tws_value_bytes(object);
}

/* The payload of a Message with any opcode. */
static PyObject *
payload_of(struct tws_state *state, PyObject *object, uint8_t opcode)
{
    if (opcode == TWS_OPCODE_TEXT && PyUnicode_Check(object)) {
        return text_of(state, object);
    }
    PyObject *bytes = tws_value_bytes(object);
    if (bytes == NULL) {
        return NULL;
    }
    if (opcode == TWS_OPCODE_TEXT) {
        PyObject *text = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(bytes),
                                              PyBytes_GET_SIZE(bytes), NULL);
        Py_DECREF(bytes);
        return text;
    }
    if (tws_value_check_length(opcode, PyBytes_GET_SIZE(bytes)) < 0) {
        Py_CLEAR(bytes);
    }
    return bytes;
}

/* The opcode of a Message, which is not one of the special kinds. */
static int
read_opcode(PyObject *object, uint8_t *opcode)
{
    /* A continuation is a part of a message, never one itself. */
    if (tws_value_opcode(object, 1, opcode) < 0) {
        return -1;
    }
    /* So that whatever has this opcode is a CloseMessageObject. */
    if (*opcode == TWS_OPCODE_CLOSE) {
        PyErr_SetString(PyExc_ValueError,
                        "a message with OPCODE_CLOSE is made by "
                        "CloseMessage(code, reason)");
        return -1;
    }
    return 0;
}

/* Reads the constructor's arguments into `self`, which stays as it was where
 * that fails. What they are follows from the object's own type, whichever
 * class's __init__ was called. */
static int
message_fill(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"opcode", "payload", NULL};
    MessageObject *self = (MessageObject *)op;
    PyObject *number, *payload;
    uint8_t opcode;

    struct tws_state *state = tws_state_of_type(Py_TYPE(op));
    if (state == NULL) {
        return -1;
    }
    if (PyObject_TypeCheck(op, state->close_message_type)) {
        return tws_close_message_fill((CloseMessageObject *)op, args, kwargs);
    }
    if (PyObject_TypeCheck(op, state->text_message_type)) {
        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:TextMessage",
                                         names + 1, &payload)) {
            return -1;
        }
        opcode = TWS_OPCODE_TEXT;
        payload = text_of(state, payload);
    }
    else if (PyObject_TypeCheck(op, state->binary_message_type)) {
        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:BinaryMessage",
                                         names + 1, &payload)) {
            return -1;
        }
        opcode = TWS_OPCODE_BINARY;
        payload = binary_of(payload);
    }
    else {
        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:Message", names,
                                         &number, &payload)
            || read_opcode(number, &opcode) < 0) {
            return -1;
        }
        payload = payload_of(state, payload, opcode);
    }
    if (payload == NULL) {
        return -1;
    }
    Py_XSETREF(self->payload, payload);
    self->opcode = opcode;
    return 0;
}

static int
message_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    /* A message never changes: __new__ has set it, with these arguments. */
    return ((MessageObject *)op)->opcode != TWS_OPCODE_UNSET
               ? 0
               : message_fill(op, args, kwargs);
}

static PyObject *
message_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    MessageObject *self = (MessageObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->opcode = TWS_OPCODE_UNSET;
    int failed;
    if (tws_value_waits_for_init(type, message_new, message_init)) {
        self->payload = PyBytes_FromStringAndSize(NULL, 0);
        failed = self->payload == NULL;
    }
    else {
        failed = message_fill((PyObject *)self, args, kwargs) < 0;
    }
    if (failed) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* The memory of messages that come and go with each echo is kept, a little of
 * it. */
enum { SPARES_MAX = 32 };

void
tws_message_drop_spares(struct tws_state *state)
{
    while (state->spare_messages != NULL) {
        MessageObject *spare = (MessageObject *)state->spare_messages;
        state->spare_messages = spare->payload;
        PyObject_Free(spare);
    }
}

/* True where the memory of `self` was kept. */
static inline bool
spare(MessageObject *self)
{
#ifndef Py_GIL_DISABLED
    struct tws_state *state = self->simple;
    if (state != NULL && state->spare_count < SPARES_MAX) {
        self->payload = state->spare_messages;
        state->spare_messages = (PyObject *)self;
        state->spare_count++;
        return true;
    }
#else
    (void)self;
#endif
    return false;
}

static void
message_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    MessageObject *self = (MessageObject *)op;
    Py_XDECREF(self->payload);
    if (!spare(self)) {
        type->tp_free(op);
    }
    Py_DECREF(type);
}

static inline MessageObject *
new_simple(struct tws_state *state, PyTypeObject *type)
{
#ifndef Py_GIL_DISABLED
    MessageObject *self = (MessageObject *)state->spare_messages;
    if (TWS_LIKELY(self != NULL)) {
        state->spare_messages = self->payload;
        state->spare_count--;
        return (MessageObject *)PyObject_Init((PyObject *)self, type);
    }
#else
    (void)state;
#endif
    return PyObject_New(MessageObject, type);
}

/* An object of exactly `type`, TextMessage or BinaryMessage; steals `payload`,
 * which may be NULL. */
static PyObject *
make(struct tws_state *state, PyTypeObject *type, uint8_t opcode,
     PyObject *payload)
{
    if (payload == NULL) {
        return NULL;
    }
    MessageObject *self = new_simple(state, type);
    if (self == NULL) {
        Py_DECREF(payload);
        return NULL;
    }
    self->payload = payload;
    self->opcode = opcode;
    self->simple = state;
    return (PyObject *)self;
}

PyObject *
tws_text_message_make(struct tws_state *state, PyObject *payload)
{
    return make(state, state->text_message_type, TWS_OPCODE_TEXT, payload);
}

PyObject *
tws_binary_message_make(struct tws_state *state, PyObject *payload)
{
    return make(state, state->binary_message_type, TWS_OPCODE_BINARY, payload);
}

/* Any call that is not f(payload): by way of __new__. */
static PyObject *
call_new(PyTypeObject *type, PyObject *const *args, Py_ssize_t count,
         PyObject *kwnames)
{
    PyObject *result = NULL;
    PyObject *kwargs = NULL;
    PyObject *tuple = PyTuple_New(count);
    if (tuple == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    }
    if (kwnames != NULL) {
        kwargs = PyDict_New();
        if (kwargs == NULL) {
            goto done;
        }
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++) {
            if (PyDict_SetItem(kwargs, PyTuple_GET_ITEM(kwnames, i),
                               args[count + i])
                < 0) {
                goto done;
            }
        }
    }
    result = message_new(type, tuple, kwargs);
done:
    Py_XDECREF(tuple);
    Py_XDECREF(kwargs);
    return result;
}

static PyObject *
text_message_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                        PyObject *kwnames)
{
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    if (count != 1 || kwnames != NULL) {
        return call_new((PyTypeObject *)type, args, count, kwnames);
    }
    struct tws_state *state = PyType_GetModuleState((PyTypeObject *)type);
    return make(state, (PyTypeObject *)type, TWS_OPCODE_TEXT,
                text_of(state, args[0]));
}

static PyObject *
binary_message_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                          PyObject *kwnames)
{
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    if (count != 1 || kwnames != NULL) {
        return call_new((PyTypeObject *)type, args, count, kwnames);
    }
    return make(PyType_GetModuleState((PyTypeObject *)type),
                (PyTypeObject *)type, TWS_OPCODE_BINARY, binary_of(args[0]));
}

void
tws_message_types_finish(struct tws_state *state)
{
    state->text_message_type->tp_vectorcall = text_message_vectorcall;
    state->binary_message_type->tp_vectorcall = binary_message_vectorcall;
}

PyDoc_STRVAR(message_json_doc,
             "json($self, /, **options)\n--\n\n"
             "The payload read as JSON.\n\n"
             "The options are those of json.loads(), as are the errors: a\n"
             "payload that is not JSON raises json.JSONDecodeError, which is\n"
             "a ValueError.");

static PyObject *
message_json(PyObject *op, PyObject *args, PyObject *kwargs)
{
    PyObject *result = NULL, *function = NULL, *one = NULL;
    struct tws_state *state = tws_state_of_type(Py_TYPE(op));
    if (state == NULL || !PyArg_ParseTuple(args, ":json")) {
        return NULL;
    }
    /* Imported here, as most programs do without. */
    PyObject *json = PyImport_ImportModule("json");
    if (json == NULL) {
        goto done;
    }
    function = PyObject_GetAttr(json, state->str_loads);
    one = PyTuple_Pack(1, ((MessageObject *)op)->payload);
    if (function != NULL && one != NULL) {
        result = PyObject_Call(function, one, kwargs);
    }
done:
    Py_XDECREF(json);
    Py_XDECREF(function);
    Py_XDECREF(one);
    return result;
}

/* --- as a value --- */

static PyObject *
message_richcompare(PyObject *a, PyObject *b, int operation)
{
    struct tws_state *state = tws_state_of_type(Py_TYPE(a));
    if (state == NULL) {
        return NULL;
    }
    if ((operation != Py_EQ && operation != Py_NE)
        || !PyObject_TypeCheck(b, state->message_type)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    const MessageObject *x = (const MessageObject *)a;
    const MessageObject *y = (const MessageObject *)b;
    if (x->opcode != y->opcode
        || (x->opcode == TWS_OPCODE_CLOSE && !tws_close_message_same(a, b))) {
        return PyBool_FromLong(operation == Py_NE);
    }
    return PyObject_RichCompare(x->payload, y->payload, operation);
}

static Py_hash_t
message_hash(PyObject *op)
{
    const MessageObject *self = (const MessageObject *)op;
    Py_hash_t hash = PyObject_Hash(self->payload);
    if (hash == -1) {
        return -1;
    }
    hash ^= (Py_hash_t)(self->opcode * 1000003u);
    return hash == -1 ? -2 : hash;
}

static PyObject *
message_repr(PyObject *op)
{
    const MessageObject *self = (const MessageObject *)op;
    PyObject *text = NULL;
    PyObject *name = PyType_GetName(Py_TYPE(op));
    PyObject *payload = tws_value_repr(self->payload);
    struct tws_state *state = tws_state_of_type(Py_TYPE(op));
    if (name == NULL || payload == NULL || state == NULL) {
        goto done;
    }
    if (PyObject_TypeCheck(op, state->text_message_type)
        || PyObject_TypeCheck(op, state->binary_message_type)) {
        text = PyUnicode_FromFormat("<%U %U>", name, payload);
    }
    else {
        text = PyUnicode_FromFormat(
            "<%U %s %U>", name, tws_value_opcode_name(self->opcode), payload);
    }
done:
    Py_XDECREF(name);
    Py_XDECREF(payload);
    return text;
}

PyDoc_STRVAR(message_reduce_doc, "__reduce__($self, /)\n--\n\n"
                                 "Support for pickle and copy.");

static PyObject *
message_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    const MessageObject *self = (const MessageObject *)op;
    struct tws_state *state = tws_state_of_type(Py_TYPE(op));
    if (state == NULL) {
        return NULL;
    }
    if (PyObject_TypeCheck(op, state->text_message_type)
        || PyObject_TypeCheck(op, state->binary_message_type)) {
        return tws_value_reduce(op, PyTuple_Pack(1, self->payload));
    }
    return tws_value_reduce(
        op, Py_BuildValue("(iO)", (int)self->opcode, self->payload));
}

/* --- types --- */

static PyMethodDef message_methods[] = {
    {"frame", (PyCFunction)(void (*)(void))tws_message_frame,
     METH_VARARGS | METH_KEYWORDS, tws_message_frame_doc},
    {"fragment", (PyCFunction)(void (*)(void))tws_message_fragment,
     METH_VARARGS | METH_KEYWORDS, tws_message_fragment_doc},
    {"json", (PyCFunction)(void (*)(void))message_json,
     METH_VARARGS | METH_KEYWORDS, message_json_doc},
    {"__reduce__", message_reduce, METH_NOARGS, message_reduce_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef message_members[] = {
    {"opcode", T_UBYTE, offsetof(MessageObject, opcode), READONLY,
     PyDoc_STR("What the message is: one of OPCODE_*.")},
    {"payload", T_OBJECT_EX, offsetof(MessageObject, payload), READONLY,
     PyDoc_STR("The content: str for text, bytes for everything else.")},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    message_doc,
    "Message(opcode, payload)\n--\n\n"
    "What a Connection sends and receives (RFC 6455 section 5.6).\n\n"
    "opcode   what the message is: one of OPCODE_*, or any of 1 to 15 but\n"
    "         OPCODE_CLOSE, which is what CloseMessage is for\n"
    "payload  the content, str or a bytes-like object. Text (OPCODE_TEXT)\n"
    "         holds str and decodes bytes from UTF-8; every other message\n"
    "         holds bytes and encodes str to UTF-8.\n\n"
    "Raises ValueError for any other opcode, for text that is not UTF-8 and\n"
    "for a control message (opcode 8 to 15) of more than 125 bytes.\n\n"
    "Most programs use TextMessage, BinaryMessage and CloseMessage. Messages\n"
    "never change, so threads may share them, and are equal when opcode and\n"
    "payload are.");

static PyType_Slot message_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)message_doc},
    {Py_tp_new, message_new},
    {Py_tp_init, message_init},
    {Py_tp_dealloc, message_dealloc},
    {Py_tp_methods, message_methods},
    {Py_tp_members, message_members},
    {Py_tp_richcompare, message_richcompare},
    {Py_tp_hash, message_hash},
    {Py_tp_repr, message_repr},
    {0, NULL},
};

PyType_Spec tws_message_spec = {
    .name = "twspy.Message",
    .basicsize = sizeof(MessageObject),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = message_slots,
};

PyDoc_STRVAR(
    text_message_doc,
    "TextMessage(payload)\n--\n\n"
    "A text message; its payload is str and travels as UTF-8.\n\n"
    "Raises TypeError for anything but str, and UnicodeEncodeError for a str\n"
    "that has no UTF-8 form (one with a lone surrogate).");

static PyType_Slot text_message_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)text_message_doc},
    {Py_tp_dealloc, message_dealloc},
    {0, NULL},
};

PyType_Spec tws_text_message_spec = {
    .name = "twspy.TextMessage",
    .basicsize = sizeof(MessageObject),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = text_message_slots,
};

PyDoc_STRVAR(
    binary_message_doc,
    "BinaryMessage(payload)\n--\n\n"
    "A binary message; its payload is bytes, copied from any bytes-like\n"
    "object.\n\n"
    "Raises TypeError for str and for anything else that is not bytes-like.");

static PyType_Slot binary_message_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)binary_message_doc},
    {Py_tp_dealloc, message_dealloc},
    {0, NULL},
};

PyType_Spec tws_binary_message_spec = {
    .name = "twspy.BinaryMessage",
    .basicsize = sizeof(MessageObject),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = binary_message_slots,
};
