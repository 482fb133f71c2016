/* What message_type.c needs of `CloseMessage`. */
#ifndef TWS_PYTHON_CLOSE_MESSAGE_TYPE_H
#define TWS_PYTHON_CLOSE_MESSAGE_TYPE_H

#include "python/message_type.h"

/* Reads the constructor's arguments into `self`, which stays as it was where
 * that fails (-1 with an exception). */
int tws_close_message_fill(CloseMessageObject *self, PyObject *args,
                           PyObject *kwargs);

/* 0, or -1 with ValueError where `message` is a CloseMessage whose code is
 * never sent (RFC 6455 §7.4.1). */
int tws_close_message_check_sendable(struct tws_state *state,
                                     PyObject *message);

/* For two messages with the opcode of Close: false where they differ in what
 * their payloads don't tell, the code and reason of a CloseMessage that is
 * never sent. */
bool tws_close_message_same(struct tws_state *state, PyObject *a, PyObject *b);

#endif /* TWS_PYTHON_CLOSE_MESSAGE_TYPE_H */
