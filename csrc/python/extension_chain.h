/* The general path: frames on their way through agreed extensions that are
 * Python objects, or more than one. Which those are is up to
 * extensions_agreed.h; who calls this keeps the order: of frames in one
 * direction, the next is looked at only once the last has its place. */
#ifndef TWS_PYTHON_EXTENSION_CHAIN_H
#define TWS_PYTHON_EXTENSION_CHAIN_H

#include "python/state.h"

#include "protocol/assembler.h"
#include "protocol/buffer.h"
#include "protocol/compression.h"
#include "protocol/frame.h"

struct tws_chain;

/* `agreed`: tuple of extensions, the first is the first to see what is sent.
 * NULL with an exception. */
struct tws_chain *tws_chain_new(struct tws_state *state, PyObject *agreed,
                                const struct tws_message_limits *limits);
void tws_chain_free(struct tws_chain *chain); /* NULL is allowed */
/* For the garbage collector; NULL is allowed. */
int tws_chain_traverse(const struct tws_chain *chain, visitproc visit,
                       void *arg);

/* All reserved bits, and opcodes (bit i for i), that its extensions use. */
struct tws_frame_claims tws_chain_claims(const struct tws_chain *chain);

/* True where one of them works on whole messages. */
bool tws_chain_joins(const struct tws_chain *chain);

/* 0, or -1 with ValueError that names the extension where one of them works on
 * whole messages, so that no message can be sent in pieces. */
int tws_chain_check_pieces(const struct tws_chain *chain);

/* Has all extensions look at a Frame, and appends what they make of it to
 * `out`, packed by the rule of that end. `fragment`: a message is cut into
 * frames of so many bytes, once those that work on whole messages have seen
 * it; 0: it is not. `compress` is for those that compress. -1 with an
 * exception. */
int tws_chain_send(struct tws_chain *chain, PyObject *frame, size_t fragment,
                   enum tws_compress compress, enum tws_role role,
                   struct tws_buffer *out);
/* What it has made was not sent. */
void tws_chain_forget_sent(struct tws_chain *chain);

/* Why a connection can't go on. */
struct tws_chain_failure {
    struct tws_error why; /* with the close code */
    bool of_extension;    /* one has raised, and no ProtocolError */
};

/* Has them look at a received Frame, which is stolen. 1: *result is what it
 * means; 0: more frames are needed; -1 with an exception and *failure. */
int tws_chain_recv(struct tws_chain *chain, PyObject *frame, PyObject **result,
                   struct tws_chain_failure *failure);

#endif /* TWS_PYTHON_EXTENSION_CHAIN_H */
