/* One of the extensions that a connection has agreed on: what it has said of
 * itself, and calls of its methods, which are not believed. */
#ifndef TWS_PYTHON_EXTENSION_LINK_H
#define TWS_PYTHON_EXTENSION_LINK_H

#include "python/state.h"

#include "protocol/frame.h"

struct tws_link {
    PyObject *extension; /* strong */
    PyObject *name;      /* strong; str */
    struct tws_frame_claims claims;
    bool whole;    /* works on messages, not on frames */
    bool deflates; /* of a type in C, or a subclass of one */
};

/* Asks the extension; `max_size` is that of a message. -1 with an exception,
 * and nothing is to be released. */
int tws_link_init(struct tws_state *state, struct tws_link *link,
                  PyObject *extension, uint64_t max_size);
void tws_link_fini(struct tws_link *link);

/* Whether frames with this opcode are shown to it. */
bool tws_link_sees(const struct tws_link *link, uint8_t opcode);

/* Its onsend() or onrecv() for a Frame, which is stolen. A new reference, or
 * NULL with what it has raised, which has a note that says so, or with
 * TypeError or ValueError where it returned what can't be used. */
PyObject *tws_link_send(struct tws_state *state, const struct tws_link *link,
                        PyObject *frame);
PyObject *tws_link_recv(struct tws_state *state, const struct tws_link *link,
                        PyObject *frame);

#endif /* TWS_PYTHON_EXTENSION_LINK_H */
