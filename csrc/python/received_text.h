/* The text that a handler is being called with, and the bytes it was made of:
 * most of it is sent somewhere, often back, and need not be encoded again
 * while they are still where they were received. */
#ifndef TWS_PYTHON_RECEIVED_TEXT_H
#define TWS_PYTHON_RECEIVED_TEXT_H

#include "python/state.h"

/* `utf8` must stay until the text is forgotten, whatever thread has the GIL
 * meanwhile. It takes the place of one that another thread's handler has. */
static inline void
tws_received_text_remember(struct tws_state *state, PyObject *text,
                           struct tws_span utf8)
{
#ifdef Py_GIL_DISABLED
    (void)state, (void)text, (void)utf8; /* nothing would guard it */
#else
    /* A reference: another str could come to lie at its address. */
    Py_XSETREF(state->received_text, Py_NewRef(text));
    state->received_utf8 = utf8;
#endif
}

static inline void
tws_received_text_forget(struct tws_state *state)
{
    Py_CLEAR(state->received_text);
}

/* Whether `text` is that one; state->received_utf8 is its UTF-8 form then,
 * until the GIL is released. */
static inline bool
tws_received_text_is(const struct tws_state *state, const PyObject *text)
{
    return state->received_text == text;
}

#endif /* TWS_PYTHON_RECEIVED_TEXT_H */
