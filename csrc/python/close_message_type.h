/* What message_type.c needs of `CloseMessage`. */
#ifndef TWS_PYTHON_CLOSE_MESSAGE_TYPE_H
#define TWS_PYTHON_CLOSE_MESSAGE_TYPE_H

#include "python/message_type.h"

/* Reads the constructor's arguments into `self`, which stays as it was where
 * that fails (-1 with an exception). */
int tws_close_message_fill(CloseMessageObject *self, PyObject *args,
                           PyObject *kwargs);

/* For a message with TWS_OPCODE_CLOSE, which is always a CloseMessage: 0, or
 * -1 with ValueError where its code is never sent (RFC 6455 §7.4.1). */
int tws_close_message_check_sendable(PyObject *message);

/* True where two messages with TWS_OPCODE_CLOSE hold the same. */
bool tws_close_message_same(PyObject *a, PyObject *b);

#endif /* TWS_PYTHON_CLOSE_MESSAGE_TYPE_H */
