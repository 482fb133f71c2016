#include "python/frame_wire.h"

#include "python/errors.h"
#include "python/value.h"
#include "protocol/mask.h"

int
tws_frame_draw_key(struct tws_state *state, uint8_t key[4])
{
    struct tws_error err;
    if (tws_mask_pool_take(state->mask_pool, key, &err) != TWS_OK) {
        (void)tws_raise(state, &err);
        return -1;
    }
    return 0;
}

/* --- bytes --- */

static struct tws_frame_header
header_of(const FrameObject *self)
{
    struct tws_frame_header header = {
        .length = (uint64_t)PyBytes_GET_SIZE(self->payload),
        .opcode = self->opcode,
        .rsv = self->rsv,
        .fin = self->fin,
        .masked = self->has_key,
    };
    memcpy(header.key, self->key, sizeof(header.key));
    return header;
}

static void
write_payload(const FrameObject *self, const struct tws_frame_header *header,
              uint8_t *out)
{
    const uint8_t *data = (const uint8_t *)PyBytes_AS_STRING(self->payload);
    if (header->masked) {
        tws_mask(out, data, (size_t)header->length, header->key, 0);
    }
    else {
        memcpy(out, data, (size_t)header->length);
    }
}

int
tws_frame_append(struct tws_state *state, PyObject *frame,
                 const enum tws_role *role, struct tws_buffer *out)
{
    if (!PyObject_TypeCheck(frame, state->frame_type)) {
        PyErr_Format(PyExc_TypeError, "expected a Frame, got %s",
                     Py_TYPE(frame)->tp_name);
        return -1;
    }
    const FrameObject *self = (const FrameObject *)frame;
    if (tws_value_check_set(frame, self->opcode) < 0) {
        return -1;
    }
    struct tws_frame_header header = header_of(self);
    if (role != NULL) {
        /* RFC 6455 §5.1: a client masks every frame, a server none; §5.3: a
         * key of the client's own choice is never used twice. */
        header.masked = *role == TWS_CLIENT;
        if (header.masked && tws_frame_draw_key(state, header.key) < 0) {
            return -1;
        }
    }
    uint8_t *room;
    if (tws_buffer_reserve(out, TWS_FRAME_HEADER_MAX + (size_t)header.length,
                           &room)
        != TWS_OK) {
        (void)PyErr_NoMemory();
        return -1;
    }
    size_t head = tws_frame_header_encode(&header, room);
    write_payload(self, &header, room + head);
    tws_buffer_commit(out, head + (size_t)header.length);
    return 0;
}

const char tws_frame_pack_doc[] =
    PyDoc_STR("pack($self, /)\n--\n\n"
              "The frame as bytes for the wire.\n\n"
              "The payload is masked where the frame has a "
              "masking key (RFC 6455 section 5.2).");

PyObject *
tws_frame_pack(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    const FrameObject *self = (const FrameObject *)op;
    if (tws_value_check_set(op, self->opcode) < 0) {
        return NULL;
    }
    struct tws_frame_header header = header_of(self);
    uint8_t head[TWS_FRAME_HEADER_MAX];
    size_t head_length = tws_frame_header_encode(&header, head);
    Py_ssize_t length = PyBytes_GET_SIZE(self->payload);
    if (length > PY_SSIZE_T_MAX - TWS_FRAME_HEADER_MAX) {
        return PyErr_NoMemory();
    }
    PyObject *result =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)head_length + length);
    if (result == NULL) {
        return NULL;
    }
    uint8_t *out = (uint8_t *)PyBytes_AS_STRING(result);
    memcpy(out, head, head_length);
    write_payload(self, &header, out + head_length);
    return result;
}

const char tws_frame_unpack_doc[] = PyDoc_STR(
    "unpack($type, buffer, /)\n--\n\n"
    "Read the frame at the beginning of a bytes-like object.\n\n"
    "Returns (frame, consumed): a Frame, or a ControlFrame where the opcode\n"
    "is one of a control frame, and the number of bytes it took. The result\n"
    "is (None, 0) where the buffer does not hold a whole frame. Masked and\n"
    "unmasked frames and all reserved bits are accepted.\n\n"
    "Raises ProtocolError, with the close code to send, where the bytes are\n"
    "not a frame (RFC 6455 section 5.2).");

PyObject *
tws_frame_unpack(PyObject *type, PyObject *object)
{
    PyObject *result = NULL;
    struct tws_frame_header header = {0};
    struct tws_error err;
    size_t consumed = 0;
    Py_buffer view;

    struct tws_state *state = tws_state_of_type((PyTypeObject *)type);
    if (state == NULL || PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    const uint8_t *data = view.buf;
    size_t length = (size_t)view.len;
    struct tws_frame_claims any_bits = {.rsv = TWS_RSV};
    enum tws_status status = tws_frame_header_decode_any(
        data, length, any_bits, &header, &consumed, &err);
    /* Memory is taken only for bytes that are there, whatever the header
     * claims. */
    if (status == TWS_AGAIN
        || (status == TWS_OK && header.length > length - consumed)) {
        result = Py_BuildValue("(Oi)", Py_None, 0);
        goto done;
    }
    if (status != TWS_OK) {
        (void)tws_raise(state, &err);
        goto done;
    }
    PyObject *payload =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)header.length);
    if (payload == NULL) {
        goto done;
    }
    uint8_t *out = (uint8_t *)PyBytes_AS_STRING(payload);
    if (header.masked) {
        tws_mask(out, data + consumed, (size_t)header.length, header.key, 0);
    }
    else {
        memcpy(out, data + consumed, (size_t)header.length);
    }
    PyObject *frame = tws_frame_from_wire(state, &header, payload);
    if (frame != NULL) {
        result = Py_BuildValue("(Nn)", frame,
                               (Py_ssize_t)(consumed + header.length));
    }
done:
    PyBuffer_Release(&view);
    return result;
}

/* --- fragments --- */

const char tws_frame_fragment_doc[] = PyDoc_STR(
    "fragment($self, /, size, mask=False)\n--\n\n"
    "Split the frame into a list of frames with at most size bytes each.\n\n"
    "The first one keeps the opcode and the reserved bits, the others are\n"
    "continuations, and the last one is final where this frame is. A payload\n"
    "that fits gives one frame. With mask, each draws its own masking key;\n"
    "without, none has one.\n\n"
    "Raises ValueError where size is less than 1 and for a control frame,\n"
    "which can't be fragmented (RFC 6455 section 5.4).");

/* Byte `start` to byte `end` of `self` as a Frame. */
static PyObject *
fragment_of(struct tws_state *state, const FrameObject *self, Py_ssize_t start,
            Py_ssize_t end, bool mask)
{
    Py_ssize_t length = PyBytes_GET_SIZE(self->payload);
    struct tws_frame_header header = {
        .opcode = start == 0 ? self->opcode : TWS_OPCODE_CONTINUATION,
        .rsv = start == 0 ? self->rsv : 0,
        .fin = end == length && self->fin,
        .masked = mask,
    };
    if (mask && tws_frame_draw_key(state, header.key) < 0) {
        return NULL;
    }
    PyObject *payload;
    if (end - start == length) {
        payload = Py_NewRef(self->payload);
    }
    else {
        payload = PyBytes_FromStringAndSize(
            PyBytes_AS_STRING(self->payload) + start, end - start);
    }
    return tws_frame_from_wire(state, &header, payload);
}

PyObject *
tws_frame_fragment(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"size", "mask", NULL};
    const FrameObject *self = (const FrameObject *)op;
    PyObject *number;
    int mask = 0;

    struct tws_state *state = tws_state_of_type(Py_TYPE(op));
    if (state == NULL
        || !PyArg_ParseTupleAndKeywords(args, kwargs, "O|p:fragment", names,
                                        &number, &mask)
        || tws_value_check_set(op, self->opcode) < 0) {
        return NULL;
    }
    if (tws_opcode_is_control(self->opcode)) {
        PyErr_SetString(PyExc_ValueError,
                        "a control frame can't be fragmented");
        return NULL;
    }
    /* Clipped to what a payload can be. */
    Py_ssize_t size = PyNumber_AsSsize_t(number, NULL);
    if (size == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (size < 1) {
        PyErr_Format(PyExc_ValueError, "size must be at least 1, got %R",
                     number);
        return NULL;
    }
    Py_ssize_t length = PyBytes_GET_SIZE(self->payload);
    Py_ssize_t count = length == 0 ? 1 : (length - 1) / size + 1;
    PyObject *list = PyList_New(count);
    if (list == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t start = i * size;
        Py_ssize_t end = length - start > size ? start + size : length;
        PyObject *frame = fragment_of(state, self, start, end, mask != 0);
        if (frame == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, i, frame);
    }
    return list;
}
