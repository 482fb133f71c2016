/* Frames on their way out: through the hooks, then packed and written behind
 * each other. */
#include "python/websocket_parts.h"

#include "python/extension_chain.h"
#include "python/frame_type.h"
#include "python/served.h"
#include "python/value.h"

PyObject *
tws_websocket_run_hooks(WebsocketObject *ws, PyObject *hooks, PyObject *frame,
                        const char *which)
{
    if (hooks == NULL) {
        return frame;
    }
    Py_INCREF(hooks); /* a hook may add another one */
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(hooks); i++) {
        PyObject *hook = PyTuple_GET_ITEM(hooks, i);
        PyObject *result = PyObject_CallOneArg(hook, frame);
        if (result != NULL
            && !PyObject_TypeCheck(result, ws->state->frame_type)) {
            PyErr_Format(PyExc_TypeError,
                         "%s hook %R returned %.200s, expected a Frame", which,
                         hook, Py_TYPE(result)->tp_name);
            Py_CLEAR(result);
        }
        Py_SETREF(frame, result);
        if (frame == NULL) {
            break;
        }
    }
    Py_DECREF(hooks);
    return frame;
}

static int
check_frame(WebsocketObject *ws, PyObject *frame)
{
    if (!PyObject_TypeCheck(frame, ws->state->frame_type)) {
        PyErr_Format(PyExc_TypeError,
                     "send() takes Frame objects, got %.200s (that of a "
                     "Connection takes messages)",
                     Py_TYPE(frame)->tp_name);
        return -1;
    }
    return tws_value_check_set(frame, ((FrameObject *)frame)->opcode);
}

/* Packs the frames behind each other, as they leave the hooks. *data: there
 * are others than control frames among them. */
static int
pack_frames(WebsocketObject *ws, PyObject *const *frames, Py_ssize_t count,
            struct tws_buffer *out, bool *data)
{
    /* RFC 6455 §5.1: the role decides about masking, not the frame. */
    enum tws_role role = (enum tws_role)ws->role;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (check_frame(ws, frames[i]) < 0) {
            return -1;
        }
        PyObject *frame = tws_websocket_run_hooks(
            ws, ws->send_hooks, Py_NewRef(frames[i]), "send");
        if (frame == NULL) {
            return -1;
        }
        int result = tws_frame_append(ws->state, frame, &role, out);
        *data =
            *data || !tws_opcode_is_control(((FrameObject *)frame)->opcode);
        Py_DECREF(frame);
        if (result < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
run_hooks_of_all(WebsocketObject *ws, PyObject *const *frames,
                 Py_ssize_t count)
{
    PyObject *hooked = PyTuple_New(count);
    if (hooked == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *frame = NULL;
        if (check_frame(ws, frames[i]) == 0) {
            frame = tws_websocket_run_hooks(ws, ws->send_hooks,
                                            Py_NewRef(frames[i]), "send");
        }
        if (frame == NULL) {
            Py_DECREF(hooked);
            return NULL;
        }
        PyTuple_SET_ITEM(hooked, i, frame);
    }
    return hooked;
}

PyObject *
tws_websocket_run_hooks_of_all(WebsocketObject *ws, PyObject *frames)
{
    if (ws == NULL || ws->send_hooks == NULL) {
        return Py_NewRef(frames);
    }
    return run_hooks_of_all(ws, &PyTuple_GET_ITEM(frames, 0),
                            PyTuple_GET_SIZE(frames));
}

static int
send_served(WebsocketObject *ws, PyObject *const *frames, Py_ssize_t count,
            const struct tws_sending *sending)
{
    PyObject *hooked = run_hooks_of_all(ws, frames, count);
    if (hooked == NULL) {
        return -1;
    }
    int result =
        tws_served_send(ws, &PyTuple_GET_ITEM(hooked, 0), count, sending);
    Py_DECREF(hooked);
    return result;
}

/* Frames on their way through the extensions, once it is their turn. */
struct passing {
    WebsocketObject *ws;
    PyObject *frames; /* borrowed; tuple, after the hooks */
    size_t fragment;
    enum tws_compress compress;
};

static int
pass_extensions(void *context, struct tws_buffer *out)
{
    const struct passing *passing = context;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(passing->frames); i++) {
        if (tws_chain_send(passing->ws->chain,
                           PyTuple_GET_ITEM(passing->frames, i),
                           passing->fragment, passing->compress,
                           (enum tws_role)passing->ws->role, out)
            < 0) {
            tws_chain_forget_sent(passing->ws->chain);
            return -1;
        }
    }
    return 0;
}

/* *data: there are others than control frames among them. */
static int
check_frames(WebsocketObject *ws, PyObject *frames, bool *data)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(frames); i++) {
        PyObject *frame = PyTuple_GET_ITEM(frames, i);
        if (check_frame(ws, frame) < 0) {
            return -1;
        }
        *data =
            *data || !tws_opcode_is_control(((FrameObject *)frame)->opcode);
    }
    return 0;
}

static int
send_through_chain(WebsocketObject *ws, PyObject *frames, size_t fragment,
                   struct tws_sending *sending, enum tws_compress compress,
                   const struct tws_deadline *deadline)
{
    struct passing passing = {.ws = ws,
                              .frames = frames,
                              .fragment = fragment,
                              .compress = compress};
    struct tws_making making = {.make = pass_extensions, .context = &passing};
    return tws_websocket_write_made(ws, &making, sending, deadline);
}

static int
send_extended(WebsocketObject *ws, PyObject *const *frames, Py_ssize_t count,
              size_t fragment, struct tws_sending *sending,
              const struct tws_deadline *deadline)
{
    enum tws_compress compress =
        sending == NULL ? TWS_COMPRESS_AUTO : sending->compress;
    bool data = false;
    PyObject *hooked = run_hooks_of_all(ws, frames, count);
    if (hooked == NULL) {
        return -1;
    }
    int result = check_frames(ws, hooked, &data);
    if (!data) {
        sending = NULL;
    }
    if (result == 0 && ws->compression != NULL) {
        result = tws_websocket_send_frames_deflated(
            ws, hooked, fragment, sending, compress, deadline);
    }
    else if (result == 0) {
        result = send_through_chain(ws, hooked, fragment, sending, compress,
                                    deadline);
    }
    Py_DECREF(hooked);
    return result;
}

int
tws_websocket_send_frames(WebsocketObject *ws, PyObject *const *frames,
                          Py_ssize_t count, size_t fragment,
                          struct tws_sending *sending,
                          const struct tws_deadline *deadline)
{
    bool data = false;
    if (tws_websocket_check(
            ws, TWS_PHASES(TWS_PHASE_OPEN) | TWS_PHASES(TWS_PHASE_SERVED),
            "send()")
        < 0) {
        return -1;
    }
    if (ws->phase == TWS_PHASE_SERVED) {
        return send_served(ws, frames, count, sending);
    }
    if ((ws->chain != NULL || ws->compression != NULL) && count > 0) {
        return send_extended(ws, frames, count, fragment, sending, deadline);
    }
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    int result = pack_frames(ws, frames, count, &out, &data);
    if (result == 0 && count > 0) {
        struct iovec part = {.iov_base = tws_buffer_data(&out),
                             .iov_len = tws_buffer_length(&out)};
        result =
            tws_websocket_write(ws, &part, 1, data ? sending : NULL, deadline);
    }
    tws_buffer_release(&out);
    return result;
}

const char tws_websocket_send_doc[] = PyDoc_STR(
    "send($self, /, *frames)\n--\n\n"
    "Send frames, each a Frame, in one go.\n\n"
    "Each passes the send hooks first. A client masks what it sends with a\n"
    "fresh key, a server masks nothing, whatever the frame says (RFC 6455\n"
    "section 5.1).\n\n"
    "Then it passes the extensions that were agreed on. Those that compress\n"
    "take whole messages of their threshold's size (DeflateFrame: such\n"
    "frames), but leave alone what has rsv1 already.\n\n"
    "Once the system has taken the first byte, the call owns the rest:\n"
    "where the timeout passes, the rest is kept and goes out before\n"
    "anything else, with the next send() or while recv() waits, and the\n"
    "call returns. So TimeoutError and, on a non-blocking websocket,\n"
    "BlockingIOError mean that nothing was sent.\n\n"
    "Raises SocketClosed where the peer is gone, TypeError for what is not\n"
    "a Frame. Any number of threads may send at a time: the frames of one\n"
    "call stay together. While a Connection's send_stream() sends a message,\n"
    "data frames wait for its end, and raise ConcurrencyError on its own\n"
    "thread.");

PyObject *
tws_websocket_send_method(PyObject *self, PyObject *const *args,
                          Py_ssize_t count)
{
    WebsocketObject *ws = tws_websocket_of(self);
    struct tws_sending sending = {.stream = NULL};
    struct tws_deadline deadline = tws_websocket_deadline(ws);
    if (tws_websocket_send_frames(ws, args, count, 0, &sending, &deadline)
        < 0) {
        return NULL;
    }
    return Py_NewRef(Py_None);
}
