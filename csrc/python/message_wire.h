/* The methods of `Message` that make frames of it. */
#ifndef TWS_PYTHON_MESSAGE_WIRE_H
#define TWS_PYTHON_MESSAGE_WIRE_H

#include "python/message_type.h"

extern const char tws_message_frame_doc[];
PyObject *tws_message_frame(PyObject *self, PyObject *args, PyObject *kwargs);

extern const char tws_message_fragment_doc[];
PyObject *tws_message_fragment(PyObject *self, PyObject *args,
                               PyObject *kwargs);

#endif /* TWS_PYTHON_MESSAGE_WIRE_H */
