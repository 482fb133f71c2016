/* What message_type.c needs of `CloseMessage`, and what its files share. */
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

/* close_message_ending.c ----------------------------------------------- */

extern PyGetSetDef tws_close_message_getset[];

/* What is known of an end beside code and reason, as a tuple for pickle. */
PyObject *tws_close_message_facts(const struct tws_ending *ending);

/* Reads such a tuple into a message that knows code and reason only. -1 with
 * an exception. */
int tws_close_message_restore(CloseMessageObject *self, PyObject *facts);

#endif /* TWS_PYTHON_CLOSE_MESSAGE_TYPE_H */
