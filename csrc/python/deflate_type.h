/* `DeflateMessage`, `DeflateFrame` and `WebkitDeflateFrame`: the extensions
 * that compress (RFC 7692, draft-tyoshino-hybi-websocket-perframe-deflate-06).
 * Their base is the Python class Extension, and so the negotiation takes them
 * for what any other extension is. Of what they say after it, a connection
 * that uses exactly one of them takes the terms, and asks them no more. */
#ifndef TWS_PYTHON_DEFLATE_TYPE_H
#define TWS_PYTHON_DEFLATE_TYPE_H

#include "python/state.h"

#include "protocol/assembler.h"
#include "protocol/deflate_frame.h"
#include "protocol/permessage_deflate.h"

/* What is used where the program says nothing else; docs/compression.md has
 * the figures that speak for it. */
enum {
    TWS_DEFLATE_LEVEL = -1, /* zlib's own choice, which is 6 */
    TWS_DEFLATE_MEM_LEVEL = 5,
    TWS_DEFLATE_WINDOW_BITS = 12,
    TWS_DEFLATE_THRESHOLD = 64, /* bytes */
};

/* From so many bytes on, others may run meanwhile: below that, giving up the
 * GIL costs more than it gains. */
enum {
    TWS_DEFLATE_ALONE_MIN = 2 * 1024,
    TWS_INFLATE_ALONE_MIN = 4 * 1024,
};

typedef struct {
    PyObject_HEAD
    struct tws_state *state; /* borrowed */
    PyObject *dict;
    struct tws_deflate_pool *pool; /* a reference, which copies share */
    uint64_t max_size;             /* see tws_deflate_set_max_size() */
    bool per_frame;                /* DeflateFrame, or what derives from it */
    bool made;                     /* __init__() was called */
    bool lockable;                 /* `receiving` is there */

    /* What the program wants. */
    struct tws_deflate_settings out; /* window_bits: at most */
    size_t threshold;
    bool shared;
    struct tws_permessage_deflate asked;      /* not `per_frame` */
    struct tws_deflate_frame asked_of_frames; /* `per_frame` */

    /* What was agreed on: of a connection's instance. */
    bool agreed;
    uint8_t role; /* enum tws_role */
    struct tws_compression_terms terms;

    /* Of onsend() and onrecv(). */
    struct tws_compression *compression; /* owned; NULL until agreed. Its lock
                                          * is for onsend() */
    pthread_mutex_t receiving;           /* while inflating; of the next */
    bool amid_message;                   /* which is compressed */
    uint8_t compress;                    /* enum tws_compress of what goes
                                          * through onsend() */
} DeflateObject;

extern PyType_Spec tws_deflate_spec; /* what the others derive from */
extern PyType_Spec tws_deflate_message_spec;
extern PyType_Spec tws_deflate_frame_spec;
extern PyType_Spec tws_webkit_deflate_frame_spec;

/* -1 with SystemError where Extension has room for attributes, which would
 * lie where the fields above are. */
int tws_deflate_check_base(const struct tws_state *state);
/* Gives the three types the attributes that are those of the class, too. -1
 * with an exception. */
int tws_deflate_types_finish(struct tws_state *state);

/* What a connection needs where `extension` is exactly of one of these types,
 * and has agreed: the caller owns it. NULL without an exception where it is
 * something else; NULL with MemoryError. */
struct tws_compression *tws_deflate_agreed(struct tws_state *state,
                                           PyObject *extension,
                                           enum tws_role role);

/* Tells an instance of a connection how many bytes onrecv() may make of a
 * frame; UINT64_MAX: any number. Does nothing to other extensions. */
void tws_deflate_set_max_size(struct tws_state *state, PyObject *extension,
                              uint64_t max_size);

/* Tells it what the program says of the frames that onsend() gets until it is
 * told something else. Does nothing to other extensions. */
void tws_deflate_set_compress(struct tws_state *state, PyObject *extension,
                              enum tws_compress compress);

/* onsend() has given a frame that did not go out: what is compressed next does
 * not refer to it. Does nothing to other extensions. */
void tws_deflate_forget_sent(struct tws_state *state, PyObject *extension);

/* Notes what was agreed on. -1 with an exception. */
int tws_deflate_agree(DeflateObject *self, enum tws_role role,
                      const struct tws_compression_terms *terms);

/* deflate_arguments.c ---------------------------------------------------- */

extern const char tws_deflate_message_doc[];
extern const char tws_deflate_frame_doc[];
extern const char tws_webkit_deflate_frame_doc[];
int tws_deflate_message_init(PyObject *self, PyObject *args, PyObject *kwargs);
int tws_deflate_frame_init(PyObject *self, PyObject *args, PyObject *kwargs);

/* deflate_attributes.c --------------------------------------------------- */

extern PyMemberDef tws_deflate_members[];
extern PyGetSetDef tws_deflate_getset[];
extern PyMemberDef tws_deflate_message_members[];
extern PyGetSetDef tws_deflate_message_getset[];
extern PyGetSetDef tws_deflate_frame_getset[];
PyObject *tws_deflate_message_repr(PyObject *self);
PyObject *tws_deflate_frame_repr(PyObject *self);

/* deflate_offers.c ------------------------------------------------------- */

extern const char tws_deflate_offer_doc[];
extern const char tws_deflate_negotiate_doc[];
extern const char tws_deflate_accept_doc[];
PyObject *tws_deflate_offer(PyObject *self, PyObject *ignored);
PyObject *tws_deflate_negotiate(PyObject *self, PyObject *params);
PyObject *tws_deflate_accept(PyObject *self, PyObject *params);

/* deflate_hooks.c -------------------------------------------------------- */

extern const char tws_deflate_onsend_doc[];
extern const char tws_deflate_onrecv_doc[];
PyObject *tws_deflate_onsend(PyObject *self, PyObject *frame);
PyObject *tws_deflate_onrecv(PyObject *self, PyObject *frame);

#endif /* TWS_PYTHON_DEFLATE_TYPE_H */
