/* The methods of `Frame` that make bytes or further frames of it. */
#ifndef TWS_PYTHON_FRAME_WIRE_H
#define TWS_PYTHON_FRAME_WIRE_H

#include "python/frame_type.h"

/* A fresh masking key from the module's pool; -1 with an exception. */
int tws_frame_draw_key(struct tws_state *state, uint8_t key[4]);

extern const char tws_frame_pack_doc[];
PyObject *tws_frame_pack(PyObject *self, PyObject *ignored);

extern const char tws_frame_unpack_doc[];
PyObject *tws_frame_unpack(PyObject *type, PyObject *buffer);

extern const char tws_frame_fragment_doc[];
PyObject *tws_frame_fragment(PyObject *self, PyObject *args, PyObject *kwargs);

#endif /* TWS_PYTHON_FRAME_WIRE_H */
