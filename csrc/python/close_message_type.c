#include "python/close_message_type.h"

#include "python/value.h"
#include "protocol/frame.h"

#include <stddef.h>

/* Codes that stand for the end of a connection and are never on the wire
 * (RFC 6455 §7.4.1). */
static bool
is_local_code(long code)
{
    return code == TWS_CLOSE_NO_STATUS || code == TWS_CLOSE_ABNORMAL
           || code == TWS_CLOSE_TLS_FAILURE;
}

/* The Close frame's payload; empty for a code that is never sent. */
static PyObject *
payload_of(uint16_t code, struct tws_span reason)
{
    uint8_t bytes[TWS_CONTROL_PAYLOAD_MAX];
    size_t length = 0;
    if (!is_local_code(code)) {
        tws_close_write(code, reason, bytes, &length);
    }
    return PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)length);
}

static int
read_code(PyObject *object, uint16_t *code)
{
    if (!PyLong_Check(object)) {
        PyErr_Format(PyExc_TypeError, "code must be an int, got %s%s",
                     Py_TYPE(object)->tp_name,
                     PyUnicode_Check(object) ? " (the reason comes second)"
                                             : "");
        return -1;
    }
    int overflow = 0;
    long value = PyLong_AsLongAndOverflow(object, &overflow);
    if (overflow != 0 || value < 0 || value > UINT16_MAX
        || (!tws_close_code_on_wire((unsigned)value)
            && !is_local_code(value))) {
        PyErr_Format(PyExc_ValueError,
                     "code must be 1000 to 1003, 1005 to 1015 or 3000 to "
                     "4999, got %R",
                     object);
        return -1;
    }
    *code = (uint16_t)value;
    return 0;
}

/* The reason argument, NULL where it was left out, as an exact str. */
static PyObject *
text_of(PyObject *reason)
{
    if (reason == NULL) {
        return PyUnicode_FromStringAndSize(NULL, 0);
    }
    if (!PyUnicode_Check(reason)) {
        PyErr_Format(PyExc_TypeError, "reason must be str, got %s",
                     Py_TYPE(reason)->tp_name);
        return NULL;
    }
    return PyUnicode_FromObject(reason);
}

/* The bytes of `reason`, borrowed from it. */
static int
read_reason(PyObject *reason, uint16_t code, struct tws_span *span)
{
    Py_ssize_t length = 0;
    const char *data = PyUnicode_AsUTF8AndSize(reason, &length);
    if (data == NULL) {
        return -1;
    }
    if (length > TWS_CLOSE_REASON_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "reason is at most %d bytes of UTF-8, got %zd",
                     TWS_CLOSE_REASON_MAX, length);
        return -1;
    }
    if (code == TWS_CLOSE_NO_STATUS && length > 0) {
        PyErr_SetString(PyExc_ValueError,
                        "code 1005 stands for a Close frame without a code, "
                        "which has no reason either");
        return -1;
    }
    *span = (struct tws_span){.data = data, .length = (size_t)length};
    return 0;
}

int
tws_close_message_fill(CloseMessageObject *self, PyObject *args,
                       PyObject *kwargs)
{
    static char *names[] = {"code", "reason", NULL};
    PyObject *number = NULL, *text = NULL, *payload = NULL;
    uint16_t code = TWS_CLOSE_NORMAL;
    struct tws_span reason;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:CloseMessage", names,
                                     &number, &text)
        || (number != NULL && read_code(number, &code) < 0)) {
        return -1;
    }
    text = text_of(text);
    if (text == NULL) {
        return -1;
    }
    if (read_reason(text, code, &reason) == 0) {
        payload = payload_of(code, reason);
    }
    if (payload == NULL) {
        Py_DECREF(text);
        return -1;
    }
    Py_XSETREF(self->reason, text);
    Py_XSETREF(self->message.payload, payload);
    self->code = code;
    self->message.opcode = TWS_OPCODE_CLOSE;
    return 0;
}

PyObject *
tws_close_message_make(struct tws_state *state, uint16_t code,
                       struct tws_span reason)
{
    /* A reason that was cut short to fit may end inside a character. */
    PyObject *text =
        PyUnicode_DecodeUTF8(reason.data, (Py_ssize_t)reason.length, "ignore");
    PyObject *payload = payload_of(code, reason);
    CloseMessageObject *self = NULL;
    if (text != NULL && payload != NULL) {
        self = PyObject_New(CloseMessageObject, state->close_message_type);
    }
    if (self == NULL) {
        Py_XDECREF(text);
        Py_XDECREF(payload);
        return NULL;
    }
    self->message.payload = payload;
    self->message.simple = NULL;
    self->message.opcode = TWS_OPCODE_CLOSE;
    self->reason = text;
    self->ending = NULL;
    self->code = code;
    return (PyObject *)self;
}

int
tws_close_message_check_sendable(PyObject *message)
{
    uint16_t code = ((const CloseMessageObject *)message)->code;
    if (!is_local_code(code)) {
        return 0;
    }
    const char *why = code == TWS_CLOSE_NO_STATUS
                          ? "that a Close frame had no code"
                      : code == TWS_CLOSE_ABNORMAL
                          ? "that the connection ended without a Close frame"
                          : "that the TLS handshake failed";
    PyErr_Format(PyExc_ValueError,
                 "close code %d only tells %s: it is never sent", (int)code,
                 why);
    return -1;
}

bool
tws_close_message_same(PyObject *a, PyObject *b)
{
    const CloseMessageObject *x = (const CloseMessageObject *)a;
    const CloseMessageObject *y = (const CloseMessageObject *)b;
    return x->code == y->code && PyUnicode_Compare(x->reason, y->reason) == 0;
}

static void
close_message_dealloc(PyObject *op)
{
    CloseMessageObject *self = (CloseMessageObject *)op;
    PyTypeObject *type = Py_TYPE(op);
    Py_XDECREF(self->message.payload);
    Py_XDECREF(self->reason);
    PyMem_Free(self->ending);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
close_message_repr(PyObject *op)
{
    const CloseMessageObject *self = (const CloseMessageObject *)op;
    PyObject *text = NULL;
    PyObject *words = NULL;
    PyObject *name = PyType_GetName(Py_TYPE(op));
    if (name == NULL) {
        return NULL;
    }
    if (self->reason == NULL) {
        text = PyUnicode_FromFormat("<%U unset>", name);
        goto done;
    }
    words = PyUnicode_GetLength(self->reason) == 0
                ? PyUnicode_FromStringAndSize(NULL, 0)
                : tws_value_repr(self->reason);
    if (words == NULL) {
        goto done;
    }
    const struct tws_ending *ending = self->ending;
    text = PyUnicode_FromFormat(
        "<%U %d%s%U%s%s>", name, (int)self->code,
        PyUnicode_GetLength(words) > 0 ? " " : "", words,
        ending == NULL ? "" : ", ended by ",
        ending == NULL ? ""
                       : tws_ended_by_name((enum tws_ended_by)ending->by));
done:
    Py_DECREF(name);
    Py_XDECREF(words);
    return text;
}

PyDoc_STRVAR(close_message_reduce_doc, "__reduce__($self, /)\n--\n\n"
                                       "Support for pickle and copy.");

static PyObject *
close_message_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    const CloseMessageObject *self = (const CloseMessageObject *)op;
    if (tws_value_check_set(op, self->message.opcode) < 0) {
        return NULL;
    }
    PyObject *plain = tws_value_reduce(
        op, Py_BuildValue("(iO)", (int)self->code, self->reason));
    if (plain == NULL || self->ending == NULL) {
        return plain;
    }
    /* The state of a subclass, where there is one, is its __dict__. */
    PyObject *attributes =
        PyTuple_GET_SIZE(plain) > 2 ? PyTuple_GET_ITEM(plain, 2) : Py_None;
    PyObject *result = Py_BuildValue(
        "(OO(NO))", PyTuple_GET_ITEM(plain, 0), PyTuple_GET_ITEM(plain, 1),
        tws_close_message_facts(self->ending), attributes);
    Py_DECREF(plain);
    return result;
}

PyDoc_STRVAR(close_message_setstate_doc,
             "__setstate__($self, state, /)\n--\n\n"
             "Support for pickle and copy.");

static PyObject *
close_message_setstate(PyObject *op, PyObject *state)
{
    PyObject *attributes = state;
    PyObject *facts = NULL;
    if (PyTuple_Check(state)) {
        if (!PyArg_ParseTuple(state, "O!O:__setstate__", &PyTuple_Type, &facts,
                              &attributes)
            || tws_close_message_restore((CloseMessageObject *)op, facts)
                   < 0) {
            return NULL;
        }
    }
    if (attributes != Py_None) {
        PyObject *own = PyObject_GetAttrString(op, "__dict__");
        int result = own == NULL ? -1 : PyDict_Update(own, attributes);
        Py_XDECREF(own);
        if (result < 0) {
            return NULL;
        }
    }
    return Py_NewRef(Py_None);
}

static PyMethodDef close_message_methods[] = {
    {"__reduce__", close_message_reduce, METH_NOARGS,
     close_message_reduce_doc},
    {"__setstate__", close_message_setstate, METH_O,
     close_message_setstate_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef close_message_members[] = {
    {"code", T_USHORT, offsetof(CloseMessageObject, code), READONLY,
     PyDoc_STR("Why the connection closes: one of CLOSE_*, or 3000 to "
               "4999.")},
    {"reason", T_OBJECT_EX, offsetof(CloseMessageObject, reason), READONLY,
     PyDoc_STR("Words to the code, as str; may be empty.")},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    close_message_doc,
    "CloseMessage(code=1000, reason='')\n--\n\n"
    "The end of a connection: what a Close frame says (RFC 6455 section "
    "5.5.1).\n\n"
    "code    1000 to 1003, 1007 to 1014, or 3000 to 4999. The codes 1005,\n"
    "        1006 and 1015 can be held as well but not sent: they tell that\n"
    "        no code came, that no Close frame came, and that TLS failed.\n"
    "reason  str of at most 123 bytes in UTF-8\n\n"
    "The one that onclose() gets tells how the connection ended as well: who\n"
    "ended it, both Close frames, the system's error, what was not sent.\n"
    "Those never count where messages are compared.\n\n"
    "Raises ValueError for any other code, for a reason that is too long and\n"
    "for one with code 1005.");

static PyType_Slot close_message_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)close_message_doc},
    {Py_tp_dealloc, close_message_dealloc},
    {Py_tp_methods, close_message_methods},
    {Py_tp_members, close_message_members},
    {Py_tp_getset, tws_close_message_getset},
    {Py_tp_repr, close_message_repr},
    {0, NULL},
};

PyType_Spec tws_close_message_spec = {
    .name = "twspy.CloseMessage",
    .basicsize = sizeof(CloseMessageObject),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = close_message_slots,
};
