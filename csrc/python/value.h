/* What the immutable types (Frame, Message and theirs) share: reading their
 * arguments, and showing and pickling what they hold. */
#ifndef TWS_PYTHON_VALUE_H
#define TWS_PYTHON_VALUE_H

#include "python/state.h"

/* The opcode of an object that __new__ left open for the __init__ of a
 * subclass. Its payload is empty, and it can't be sent. */
enum { TWS_OPCODE_UNSET = 0xff };

/* True where __new__ is to leave its arguments alone: `type` has an __init__
 * of its own, which they are meant for, and hands ours what to hold. Where
 * a subclass defines __new__ as well, that one has called ours. */
static inline bool
tws_value_waits_for_init(PyTypeObject *type, newfunc our_new,
                         initproc our_init)
{
    return type->tp_new == our_new && type->tp_init != our_init;
}

/* 0, or -1 with RuntimeError where `opcode` is TWS_OPCODE_UNSET. */
int tws_value_check_set(PyObject *self, uint8_t opcode);

/* New exact bytes: a str in UTF-8, or a copy of a bytes-like object (bytes
 * themselves are shared). NULL with UnicodeEncodeError or TypeError. */
PyObject *tws_value_bytes(PyObject *object);

/* New str of UTF-8 that is known to be valid. */
PyObject *tws_value_text(const uint8_t *utf8, size_t length);

/* Reads an opcode of at least `lowest`. -1 with TypeError or ValueError. */
int tws_value_opcode(PyObject *object, uint8_t lowest, uint8_t *opcode);

/* 0, or -1 with ValueError where a control frame may not carry `length`
 * bytes (RFC 6455 §5.5). Other opcodes pass. */
int tws_value_check_length(uint8_t opcode, Py_ssize_t length);

/* "TEXT", "PING", "opcode 3". */
const char *tws_value_opcode_name(uint8_t opcode);

/* repr() of bytes or str, cut short: b'abc... ' becomes b'abc'... and its
 * whole length. */
PyObject *tws_value_repr(PyObject *payload);

/* What __reduce__ returns: (type(self), args) and, where a subclass has one,
 * its __dict__. Steals `args`, which may be NULL with an exception. */
PyObject *tws_value_reduce(PyObject *self, PyObject *args);

#endif /* TWS_PYTHON_VALUE_H */
