/* Messages larger than memory should hold: what recv_stream() and
 * send_stream() of a Connection give. */
#ifndef TWS_PYTHON_CONNECTION_STREAMS_H
#define TWS_PYTHON_CONNECTION_STREAMS_H

#include "python/connection_type.h"

extern PyType_Spec tws_recv_stream_spec;
extern PyType_Spec tws_send_stream_spec;

extern const char tws_connection_recv_stream_doc[];
PyObject *tws_connection_recv_stream(PyObject *self, PyObject *args,
                                     PyObject *kwargs);
extern const char tws_connection_send_stream_doc[];
PyObject *tws_connection_send_stream(PyObject *self, PyObject *args,
                                     PyObject *kwargs);

#endif /* TWS_PYTHON_CONNECTION_STREAMS_H */
