#include "python/extension_chain.h"

#include "python/deflate_type.h"
#include "python/errors.h"
#include "python/extension_link.h"
#include "python/frame_type.h"
#include "python/frame_wire.h"
#include "python/value.h"
#include "protocol/close_code.h"
#include "protocol/frame_collector.h"

#include <stdatomic.h>

struct tws_chain {
    struct tws_state *state; /* borrowed */
    struct tws_message_limits limits;
    struct tws_frame_joiner joiner; /* for those that work on messages */
    atomic_bool receiving;
    Py_ssize_t whole; /* so many links at the beginning do */
    Py_ssize_t count;
    struct tws_link links[];
};

/* Life -------------------------------------------------------------------- */

struct tws_chain *
tws_chain_new(struct tws_state *state, PyObject *agreed,
              const struct tws_message_limits *limits)
{
    Py_ssize_t count = PyTuple_GET_SIZE(agreed);
    struct tws_chain *chain = PyMem_Calloc(
        1, sizeof(*chain) + (size_t)count * sizeof(chain->links[0]));
    if (chain == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    chain->state = state;
    chain->limits = *limits;
    atomic_init(&chain->receiving, false);
    for (Py_ssize_t i = 0; i < count; i++) {
        struct tws_link *link = &chain->links[i];
        if (tws_link_init(state, link, PyTuple_GET_ITEM(agreed, i),
                          limits->size)
            < 0) {
            tws_chain_free(chain);
            return NULL;
        }
        chain->count++;
        chain->whole += link->whole;
    }
    return chain;
}

void
tws_chain_free(struct tws_chain *chain)
{
    if (chain == NULL) {
        return;
    }
    for (Py_ssize_t i = 0; i < chain->count; i++) {
        tws_link_fini(&chain->links[i]);
    }
    tws_frame_joiner_release(&chain->joiner);
    PyMem_Free(chain);
}

int
tws_chain_traverse(const struct tws_chain *chain, visitproc visit, void *arg)
{
    if (chain != NULL) {
        for (Py_ssize_t i = 0; i < chain->count; i++) {
            Py_VISIT(chain->links[i].extension);
        }
    }
    return 0;
}

struct tws_frame_claims
tws_chain_claims(const struct tws_chain *chain)
{
    struct tws_frame_claims all = {0};
    for (Py_ssize_t i = 0; i < chain->count; i++) {
        all.rsv |= chain->links[i].claims.rsv;
        all.opcodes |= chain->links[i].claims.opcodes;
    }
    return all;
}

bool
tws_chain_joins(const struct tws_chain *chain)
{
    return chain->whole > 0;
}

/* Both directions --------------------------------------------------------- */

static const FrameObject *
cast(PyObject *frame)
{
    return (const FrameObject *)frame;
}

/* Sending ----------------------------------------------------------------- */

static int
raise_pieces(const struct tws_link *link)
{
    PyErr_Format(PyExc_ValueError,
                 "the extension %U works on whole messages, a message can't "
                 "be sent in pieces: use Connection.send(message, "
                 "fragment_size=...)",
                 link->name);
    return -1;
}

int
tws_chain_check_pieces(const struct tws_chain *chain)
{
    for (Py_ssize_t i = 0; i < chain->whole; i++) {
        if (!chain->links[i].deflates) {
            return raise_pieces(&chain->links[i]);
        }
    }
    return 0;
}

/* One frame through the links from `first` up to `end`; steals it. */
static PyObject *
send_through(struct tws_chain *chain, PyObject *frame, Py_ssize_t first,
             Py_ssize_t end)
{
    for (Py_ssize_t i = first; frame != NULL && i < end; i++) {
        const struct tws_link *link = &chain->links[i];
        uint8_t opcode = cast(frame)->opcode;
        if (!tws_link_sees(link, opcode)) {
            continue;
        }
        if (link->whole && !link->deflates
            && (!cast(frame)->fin || opcode == TWS_OPCODE_CONTINUATION)) {
            Py_DECREF(frame);
            (void)raise_pieces(link);
            return NULL;
        }
        frame = tws_link_send(chain->state, link, frame);
    }
    return frame;
}

/* Through those that look at frames, and packs it; steals it. */
static int
send_frame(struct tws_chain *chain, PyObject *frame, enum tws_role role,
           struct tws_buffer *out)
{
    frame = send_through(chain, frame, chain->whole, chain->count);
    if (frame == NULL) {
        return -1;
    }
    int result = tws_frame_append(chain->state, frame, &role, out);
    Py_DECREF(frame);
    return result;
}

static int
send_fragments(struct tws_chain *chain, PyObject *frame, size_t fragment,
               enum tws_role role, struct tws_buffer *out)
{
    PyObject *args = Py_BuildValue("(n)", (Py_ssize_t)fragment);
    PyObject *list =
        args == NULL ? NULL : tws_frame_fragment(frame, args, NULL);
    Py_XDECREF(args);
    if (list == NULL) {
        return -1;
    }
    int result = 0;
    for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(list); i++) {
        result =
            send_frame(chain, Py_NewRef(PyList_GET_ITEM(list, i)), role, out);
    }
    Py_DECREF(list);
    return result;
}

int
tws_chain_send(struct tws_chain *chain, PyObject *frame, size_t fragment,
               enum tws_compress compress, enum tws_role role,
               struct tws_buffer *out)
{
    for (Py_ssize_t i = 0; i < chain->count; i++) {
        if (chain->links[i].deflates) {
            tws_deflate_set_compress(chain->state, chain->links[i].extension,
                                     compress);
        }
    }
    if (!PyObject_TypeCheck(frame, chain->state->frame_type)) {
        PyErr_Format(PyExc_TypeError,
                     "send() takes Frame objects, got %.200s (that of a "
                     "Connection takes messages)",
                     Py_TYPE(frame)->tp_name);
        return -1;
    }
    if (tws_value_check_set(frame, cast(frame)->opcode) < 0) {
        return -1;
    }
    frame = send_through(chain, Py_NewRef(frame), 0, chain->whole);
    if (frame == NULL) {
        return -1;
    }
    if (fragment == 0 || tws_opcode_is_control(cast(frame)->opcode)) {
        return send_frame(chain, frame, role, out);
    }
    int result = send_fragments(chain, frame, fragment, role, out);
    Py_DECREF(frame);
    return result;
}

void
tws_chain_forget_sent(struct tws_chain *chain)
{
    PyObject *pending = PyErr_GetRaisedException();
    for (Py_ssize_t i = 0; i < chain->count; i++) {
        tws_deflate_forget_sent(chain->state, chain->links[i].extension);
    }
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

/* Receiving --------------------------------------------------------------- */

/* The pending exception is what an extension has raised. */
static void
judge_exception(struct tws_chain *chain, const struct tws_link *link,
                struct tws_chain_failure *failure)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *code = NULL;
    PyObject *text = NULL;
    const char *reason = NULL;
    long number = 0;
    if (PyErr_GivenExceptionMatches(error, chain->state->ProtocolError)) {
        code = PyObject_GetAttr(error, chain->state->str_code);
        text = PyObject_Str(error);
        number = code == NULL ? 0 : PyLong_AsLong(code);
        reason = text == NULL ? NULL : PyUnicode_AsUTF8(text);
    }
    failure->of_extension = reason == NULL || number < 0 || number > UINT16_MAX
                            || !tws_close_code_on_wire((unsigned)number);
    if (failure->of_extension) {
        const char *name = PyUnicode_AsUTF8(link->name);
        (void)tws_error_protocol(&failure->why, TWS_CLOSE_UNABLE,
                                 "extension %.60s failed",
                                 name == NULL ? "" : name);
    }
    else {
        (void)tws_error_protocol(&failure->why, (uint16_t)number, "%s",
                                 reason);
    }
    Py_XDECREF(code);
    Py_XDECREF(text);
    PyErr_SetRaisedException(error); /* instead of what was raised here */
}

static int
raise(struct tws_chain *chain, struct tws_chain_failure *failure)
{
    failure->of_extension = false;
    (void)tws_raise(chain->state, &failure->why);
    return -1;
}

/* Bits that it should have taken away (RFC 6455 §5.2). */
static int
check_bits(struct tws_chain *chain, const struct tws_link *link,
           PyObject *frame, struct tws_chain_failure *failure)
{
    unsigned left = cast(frame)->rsv;
    if (link != NULL) {
        left &= link->claims.rsv;
    }
    if (left == 0) {
        return 0;
    }
    (void)tws_error_protocol(
        &failure->why, TWS_CLOSE_PROTOCOL_ERROR,
        "got reserved bits rsv1=%d rsv2=%d rsv3=%d (opcode 0x%x), which no "
        "extension understood",
        (left & TWS_RSV1) != 0, (left & TWS_RSV2) != 0, (left & TWS_RSV3) != 0,
        cast(frame)->opcode);
    return raise(chain, failure);
}

/* The frame through the links below `end` down to `first`; steals it. */
static PyObject *
recv_through(struct tws_chain *chain, PyObject *frame, Py_ssize_t first,
             Py_ssize_t end, struct tws_chain_failure *failure)
{
    for (Py_ssize_t i = end - 1; i >= first; i--) {
        const struct tws_link *link = &chain->links[i];
        if (!tws_link_sees(link, cast(frame)->opcode)) {
            continue;
        }
        frame = tws_link_recv(chain->state, link, frame);
        if (frame == NULL) {
            judge_exception(chain, link, failure);
            return NULL;
        }
        if (check_bits(chain, link, frame, failure) < 0) {
            Py_DECREF(frame);
            return NULL;
        }
    }
    return frame;
}

static uint8_t
first_byte_of(const FrameObject *frame)
{
    return (uint8_t)((frame->fin ? TWS_FIN : 0) | frame->rsv | frame->opcode);
}

/* The message that has been joined, as one frame. */
static PyObject *
joined_frame(struct tws_chain *chain)
{
    struct tws_frame_joiner *joiner = &chain->joiner;
    size_t length = tws_buffer_length(&joiner->payload);
    const char *data = (const char *)tws_buffer_data(&joiner->payload);
    struct tws_frame_header header = {
        .length = length,
        .opcode = joiner->first_byte & 0x0f,
        .rsv = joiner->first_byte & TWS_RSV,
        .fin = true,
    };
    PyObject *payload =
        PyBytes_FromStringAndSize(length == 0 ? "" : data, (Py_ssize_t)length);
    tws_frame_joiner_release(joiner);
    return tws_frame_from_wire(chain->state, &header, payload);
}

/* Steals *frame, and puts the message it ends in its place. 0: there is more
 * of it to come. */
static int
join(struct tws_chain *chain, PyObject **frame,
     struct tws_chain_failure *failure)
{
    const FrameObject *part = cast(*frame);
    struct tws_span data = {
        .data = PyBytes_AS_STRING(part->payload),
        .length = (size_t)PyBytes_GET_SIZE(part->payload),
    };
    enum tws_status status =
        tws_frame_joiner_take(&chain->joiner, &chain->limits,
                              first_byte_of(part), data, &failure->why);
    Py_CLEAR(*frame);
    if (status == TWS_AGAIN) {
        return 0;
    }
    if (status != TWS_OK) {
        return raise(chain, failure);
    }
    *frame = joined_frame(chain);
    if (*frame == NULL) {
        (void)tws_error_nomem(&failure->why);
        return -1;
    }
    return 1;
}

static int
recv_frame(struct tws_chain *chain, PyObject *frame, PyObject **result,
           struct tws_chain_failure *failure)
{
    frame = recv_through(chain, frame, chain->whole, chain->count, failure);
    if (frame == NULL) {
        return -1;
    }
    uint8_t opcode = cast(frame)->opcode;
    if (chain->whole > 0 && opcode <= TWS_OPCODE_BINARY
        && !tws_frame_joiner_passes(&chain->joiner,
                                    first_byte_of(cast(frame)))) {
        int joined = join(chain, &frame, failure);
        if (joined <= 0) {
            return joined;
        }
    }
    frame = recv_through(chain, frame, 0, chain->whole, failure);
    if (frame == NULL) {
        return -1;
    }
    if (check_bits(chain, NULL, frame, failure) < 0) {
        Py_DECREF(frame);
        return -1;
    }
    *result = frame;
    return 1;
}

int
tws_chain_recv(struct tws_chain *chain, PyObject *frame, PyObject **result,
               struct tws_chain_failure *failure)
{
    *failure = (struct tws_chain_failure){.of_extension = false};
    if (atomic_exchange(&chain->receiving, true)) {
        /* An onrecv() that receives itself. */
        Py_DECREF(frame);
        (void)tws_error_protocol(&failure->why, TWS_CLOSE_UNABLE,
                                 "an extension receives from its own "
                                 "connection");
        PyErr_SetString(chain->state->ConcurrencyError,
                        "onrecv() of an extension receives from its own "
                        "connection: it can only look at the frame it is "
                        "given");
        return -1;
    }
    int received = recv_frame(chain, frame, result, failure);
    atomic_store(&chain->receiving, false);
    return received;
}
