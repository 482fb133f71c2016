/* `Message`, `TextMessage`, `BinaryMessage` and `CloseMessage`: what a
 * Connection sends and receives. Instances never change. */
#ifndef TWS_PYTHON_MESSAGE_TYPE_H
#define TWS_PYTHON_MESSAGE_TYPE_H

#include "python/state.h"

#include "protocol/ending.h"
#include "protocol/opcode.h"

typedef struct {
    PyObject_HEAD
    PyObject *payload; /* strong; exactly str for text, else exactly bytes */
    struct tws_state *simple; /* borrowed; of exactly a TextMessage or a
                               * BinaryMessage, else NULL */
    uint8_t opcode;
} MessageObject;

typedef struct {
    MessageObject message;     /* payload: what goes on the wire */
    PyObject *reason;          /* strong; exactly str */
    struct tws_ending *ending; /* owned; NULL in one made by a program */
    uint16_t code;
} CloseMessageObject;

extern PyType_Spec tws_message_spec;
extern PyType_Spec tws_text_message_spec;
extern PyType_Spec tws_binary_message_spec;
extern PyType_Spec tws_close_message_spec;

/* Set tp_vectorcall of the types made once a message (no slot for it exists
 * before CPython 3.14). */
void tws_message_types_finish(struct tws_state *state);

/* Gives back the memory that is kept for new messages. */
void tws_message_drop_spares(struct tws_state *state);

/* New messages of exactly TextMessage or BinaryMessage; steal `payload`
 * (str or bytes), also on failure and where it is NULL with an exception. */
PyObject *tws_text_message_make(struct tws_state *state, PyObject *payload);
PyObject *tws_binary_message_make(struct tws_state *state, PyObject *payload);

/* A CloseMessage for a code and reason (UTF-8) that came from the wire or
 * stand for none (1005, 1006). */
PyObject *tws_close_message_make(struct tws_state *state, uint16_t code,
                                 struct tws_span reason);
/* The same for the end of a connection, with all that is known of it
 * (copied). */
PyObject *tws_close_message_of_ending(struct tws_state *state,
                                      const struct tws_ending *ending);

/* The bytes a message sends, borrowed from `message`, which must stay alive.
 * -1 with an exception: not a Message, text that has no UTF-8 form, or a
 * CloseMessage whose code may not be sent. */
int tws_message_view(struct tws_state *state, PyObject *message,
                     uint8_t *opcode, struct tws_span *payload);

#endif /* TWS_PYTHON_MESSAGE_TYPE_H */
