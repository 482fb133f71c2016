#include "python/value.h"

#include "protocol/utf8_decode.h"

#include "protocol/frame.h"

enum { SHOWN = 32 }; /* characters or bytes of a payload in a repr */

int
tws_value_check_set(PyObject *self, uint8_t opcode)
{
    if (opcode != TWS_OPCODE_UNSET) {
        return 0;
    }
    PyErr_Format(PyExc_RuntimeError,
                 "the __init__ of %s did not call super().__init__()",
                 Py_TYPE(self)->tp_name);
    return -1;
}

PyObject *
tws_value_bytes(PyObject *object)
{
    if (PyBytes_CheckExact(object)) {
        return Py_NewRef(object);
    }
    if (PyUnicode_Check(object)) {
        return PyUnicode_AsUTF8String(object);
    }
    /* Checked first, as PyBytes_FromObject() would take a list of numbers. */
    if (PyObject_CheckBuffer(object)) {
        return PyBytes_FromObject(object);
    }
    PyErr_Format(PyExc_TypeError,
                 "payload must be str or a bytes-like object, got %s",
                 Py_TYPE(object)->tp_name);
    return NULL;
}

/* Shorter ones are as fast with CPython's decoder, which also has single
 * characters at hand. */
enum { DECODED_MIN = 32 };

PyObject *
tws_value_text(const uint8_t *utf8, size_t length)
{
    uint8_t highest;
    if (length < DECODED_MIN) {
        return PyUnicode_DecodeUTF8((const char *)utf8, (Py_ssize_t)length,
                                    NULL);
    }
    size_t characters = tws_utf8_count(utf8, length, &highest);
    /* The kind of a str has to be the smallest one that fits. */
    Py_UCS4 maximum = highest < 0x80   ? 0x7f
                      : highest < 0xc4 ? 0xff
                      : highest < 0xf0 ? 0xffff
                                       : 0x10ffff;
    PyObject *text = PyUnicode_New((Py_ssize_t)characters, maximum);
    if (text != NULL) {
        tws_utf8_decode(PyUnicode_DATA(text), (unsigned)PyUnicode_KIND(text),
                        utf8, length);
    }
    return text;
}

int
tws_value_opcode(PyObject *object, uint8_t lowest, uint8_t *opcode)
{
    if (!PyLong_Check(object)) {
        PyErr_Format(PyExc_TypeError, "opcode must be an int, got %s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    int overflow = 0;
    long value = PyLong_AsLongAndOverflow(object, &overflow);
    if (overflow != 0 || value < lowest || value > 15) {
        PyErr_Format(PyExc_ValueError, "opcode must be %d to 15, got %R",
                     (int)lowest, object);
        return -1;
    }
    *opcode = (uint8_t)value;
    return 0;
}

int
tws_value_check_length(uint8_t opcode, Py_ssize_t length)
{
    if (tws_opcode_is_control(opcode) && length > TWS_CONTROL_PAYLOAD_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "the payload of a control frame is at most %d bytes, "
                     "got %zd",
                     TWS_CONTROL_PAYLOAD_MAX, length);
        return -1;
    }
    return 0;
}

const char *
tws_value_opcode_name(uint8_t opcode)
{
    static const char *const names[] = {
        "CONTINUATION", "TEXT",      "BINARY",    "opcode 3",
        "opcode 4",     "opcode 5",  "opcode 6",  "opcode 7",
        "CLOSE",        "PING",      "PONG",      "opcode 11",
        "opcode 12",    "opcode 13", "opcode 14", "opcode 15",
    };
    return opcode < TWS_ARRAY_SIZE(names) ? names[opcode] : "unset";
}

PyObject *
tws_value_repr(PyObject *payload)
{
    bool is_text = PyUnicode_Check(payload);
    Py_ssize_t length =
        is_text ? PyUnicode_GetLength(payload) : PyBytes_GET_SIZE(payload);
    if (length <= SHOWN) {
        return PyObject_Repr(payload);
    }
    PyObject *start = PySequence_GetSlice(payload, 0, SHOWN);
    if (start == NULL) {
        return NULL;
    }
    PyObject *text = PyUnicode_FromFormat("%R... (%zd %s)", start, length,
                                          is_text ? "characters" : "bytes");
    Py_DECREF(start);
    return text;
}

PyObject *
tws_value_reduce(PyObject *self, PyObject *args)
{
    PyObject *attributes = NULL;
    PyObject *result = NULL;
    PyObject *name = NULL;
    if (args == NULL) {
        return NULL;
    }
    name = PyUnicode_FromString("__dict__");
    if (name == NULL
        || PyObject_GetOptionalAttr(self, name, &attributes) < 0) {
        goto done;
    }
    if (attributes == NULL) {
        result = PyTuple_Pack(2, Py_TYPE(self), args);
    }
    else {
        result = PyTuple_Pack(3, Py_TYPE(self), args, attributes);
    }
done:
    Py_XDECREF(name);
    Py_XDECREF(attributes);
    Py_DECREF(args);
    return result;
}
