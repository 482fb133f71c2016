/* From the core's `struct tws_error` to Python exceptions. */
#ifndef TWS_PYTHON_ERRORS_H
#define TWS_PYTHON_ERRORS_H

#include "python/state.h"

#include "protocol/ending.h"

/* Sets the exception that stands for `err`: ProtocolError with its close
 * code, HandshakeError with its status, MemoryError, or the OSError subclass
 * of its errno. Always returns NULL. */
PyObject *tws_raise(struct tws_state *state, const struct tws_error *err);

/* Raises SocketClosed(code, reason). Always returns NULL. */
PyObject *tws_raise_closed(struct tws_state *state, uint16_t code,
                           struct tws_span reason);

/* Raises SocketClosed with all that a CloseMessage, or what one is made of,
 * tells of the end of a connection. Always return NULL. */
PyObject *tws_raise_closed_message(struct tws_state *state, PyObject *message);
PyObject *tws_raise_closed_ending(struct tws_state *state,
                                  const struct tws_ending *ending);

#endif /* TWS_PYTHON_ERRORS_H */
