/* What connection_type.c takes from connection_methods.c. */
#ifndef TWS_PYTHON_CONNECTION_METHODS_H
#define TWS_PYTHON_CONNECTION_METHODS_H

#include "python/connection_type.h"

extern PyMethodDef tws_connection_methods[];
PyObject *tws_connection_next(PyObject *self);

/* True where the back end is there; RuntimeError where a subclass forgot to
 * call our __init__. */
bool tws_connection_ready(ConnectionObject *conn);

/* A deadline from the `timeout` argument; the socket's own where it is NULL
 * or None. -1 with TypeError or ValueError. */
int tws_connection_deadline(ConnectionObject *conn, PyObject *timeout,
                            struct tws_deadline *deadline);

/* The `compress` argument of the program: true, false, or None, which NULL
 * stands for. -1 with an exception. */
int tws_connection_compress(PyObject *given, enum tws_compress *compress);

#endif /* TWS_PYTHON_CONNECTION_METHODS_H */
