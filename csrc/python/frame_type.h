/* `Frame` and `ControlFrame` (RFC 6455 §5). Instances never change. */
#ifndef TWS_PYTHON_FRAME_TYPE_H
#define TWS_PYTHON_FRAME_TYPE_H

#include "python/state.h"

#include "protocol/buffer.h"
#include "protocol/frame.h"

typedef struct {
    PyObject_HEAD
    PyObject *payload; /* strong; exactly bytes, unmasked */
    uint8_t opcode;    /* 0-15 */
    uint8_t rsv;       /* TWS_RSV1 | TWS_RSV2 | TWS_RSV3 */
    bool fin;
    bool has_key;
    uint8_t key[4]; /* meaningful where has_key */
} FrameObject;

extern PyType_Spec tws_frame_spec;
extern PyType_Spec tws_control_frame_spec;

/* A Frame, or a ControlFrame where header->opcode is one, for a header that
 * came from the wire and its unmasked payload. Steals `payload` (bytes),
 * also on failure. */
PyObject *tws_frame_from_wire(struct tws_state *state,
                              const struct tws_frame_header *header,
                              PyObject *payload);

/* Appends the frame's bytes to `out`: with its own key where it has one, or,
 * where `role` is not NULL, by that end's rule (a client draws a fresh key
 * from the pool, a server masks nothing). -1 with an exception. */
int tws_frame_append(struct tws_state *state, PyObject *frame,
                     const enum tws_role *role, struct tws_buffer *out);

#endif /* TWS_PYTHON_FRAME_TYPE_H */
