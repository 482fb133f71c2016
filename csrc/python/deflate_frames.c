#include "python/deflate_frames.h"

#include "python/deflate_type.h"
#include "python/frame_type.h"
#include "protocol/close_code.h"

#include <inttypes.h>

enum {
    ROOM_MIN = 256, /* bytes to inflate into at a time */
    ROOM_MAX = 64 * 1024,
};

static struct tws_span
payload_of(const FrameObject *frame)
{
    return (struct tws_span){
        .data = PyBytes_AS_STRING(frame->payload),
        .length = (size_t)PyBytes_GET_SIZE(frame->payload),
    };
}

static PyObject *
frame_of(struct tws_state *state, const FrameObject *like, uint8_t rsv,
         const struct tws_buffer *payload)
{
    struct tws_frame_header header = {
        .opcode = like->opcode,
        .rsv = rsv,
        .fin = like->fin,
    };
    return tws_frame_from_wire(
        state, &header,
        PyBytes_FromStringAndSize((const char *)tws_buffer_data(payload),
                                  (Py_ssize_t)tws_buffer_length(payload)));
}

/* Deflating -------------------------------------------------------------- */

enum tws_status
tws_deflate_apart(struct tws_compression *compression, struct tws_span data,
                  bool end, struct tws_buffer *out, struct tws_error *err)
{
    enum tws_status status;
    if (data.length < TWS_DEFLATE_ALONE_MIN) {
        return tws_compression_deflate(compression, data, end, out, err);
    }
    Py_BEGIN_ALLOW_THREADS
    status = tws_compression_deflate(compression, data, end, out, err);
    Py_END_ALLOW_THREADS
    return status;
}

bool
tws_deflate_takes_frame(const struct tws_compression *compression,
                        PyObject *frame)
{
    const FrameObject *self = (const FrameObject *)frame;
    if (tws_opcode_is_control(self->opcode) || (self->rsv & TWS_RSV1) != 0) {
        return false;
    }
    return compression->terms.per_frame
           || (self->fin && self->opcode != TWS_OPCODE_CONTINUATION);
}

enum tws_status
tws_deflate_frame(struct tws_state *state, struct tws_compression *compression,
                  PyObject *frame, PyObject **compressed,
                  struct tws_error *err)
{
    const FrameObject *self = (const FrameObject *)frame;
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    enum tws_status status =
        tws_deflate_apart(compression, payload_of(self), true, &out, err);
    if (status == TWS_OK) {
        *compressed = frame_of(state, self, self->rsv | TWS_RSV1, &out);
    }
    tws_buffer_release(&out);
    return status;
}

/* Inflating -------------------------------------------------------------- */

static enum tws_status
too_big(uint64_t limit, struct tws_error *err)
{
    return tws_error_protocol(err, TWS_CLOSE_MESSAGE_TOOBIG,
                              "compressed frame of more than %" PRIu64
                              " bytes when inflated, the limit is that "
                              "(max_size)",
                              limit);
}

/* How much room to ask for: some, and never more than one byte beyond the
 * limit, which tells that there is more. */
static size_t
room_for(size_t left, size_t have, uint64_t limit)
{
    size_t want = left > ROOM_MAX / 4 ? ROOM_MAX : 4 * left;
    if (want < ROOM_MIN) {
        want = ROOM_MIN;
    }
    return want <= limit - have ? want : (size_t)(limit - have) + 1;
}

/* Inflates `data`, and where `end` says so what ends a message. */
static enum tws_status
inflate(struct tws_compression *compression, struct tws_span data, bool end,
        uint64_t limit, struct tws_buffer *out, struct tws_error *err)
{
    struct tws_input input = {
        .data = (uint8_t *)(uintptr_t)data.data,
        .length = data.length,
    };
    bool ending = data.length == 0;
    while (!ending || end) {
        uint8_t *room;
        size_t got;
        size_t size = room_for(input.length, tws_buffer_length(out), limit);
        if (tws_buffer_reserve(out, size, &room) != TWS_OK) {
            return tws_error_nomem(err);
        }
        enum tws_status status =
            ending ? tws_compression_end_inflate(compression, room, size, &got,
                                                 err)
                   : tws_compression_inflate(compression, &input, room, size,
                                             &got, err);
        if (status != TWS_OK && status != TWS_AGAIN) {
            return status;
        }
        tws_buffer_commit(out, got);
        if (tws_buffer_length(out) > limit) {
            return too_big(limit, err);
        }
        if (ending && status == TWS_OK) {
            return TWS_OK;
        }
        /* Less than there was room for: that was all of it. */
        ending = ending || got < size;
    }
    return TWS_OK;
}

static enum tws_status
inflate_apart(struct tws_compression *compression, struct tws_span data,
              bool end, uint64_t limit, struct tws_buffer *out,
              struct tws_error *err)
{
    enum tws_status status;
    if (data.length < TWS_INFLATE_ALONE_MIN) {
        return inflate(compression, data, end, limit, out, err);
    }
    Py_BEGIN_ALLOW_THREADS
    status = inflate(compression, data, end, limit, out, err);
    Py_END_ALLOW_THREADS
    return status;
}

/* Where RSV1 stands, and what stands in the way of a new message. */
static enum tws_status
check_place(const struct tws_compression *compression, bool amid,
            const FrameObject *frame, struct tws_error *err)
{
    bool marked = (frame->rsv & TWS_RSV1) != 0;
    if (marked && tws_opcode_is_control(frame->opcode)) {
        return tws_error_protocol(
            err, TWS_CLOSE_PROTOCOL_ERROR,
            "RSV1 on a control frame (opcode 0x%x), which is never compressed",
            frame->opcode);
    }
    if (compression->terms.per_frame) {
        return TWS_OK;
    }
    if (marked && frame->opcode == TWS_OPCODE_CONTINUATION) {
        return tws_error_protocol(
            err, TWS_CLOSE_PROTOCOL_ERROR,
            "RSV1 on a continuation frame, expected it on the first frame of "
            "a message alone");
    }
    if (amid && frame->opcode != TWS_OPCODE_CONTINUATION) {
        return tws_error_protocol(
            err, TWS_CLOSE_PROTOCOL_ERROR,
            "new data frame (opcode 0x%x) inside a fragmented message, "
            "expected a continuation",
            frame->opcode);
    }
    return TWS_OK;
}

enum tws_status
tws_inflate_frame(struct tws_state *state, struct tws_compression *compression,
                  bool *amid, uint64_t limit, PyObject *frame,
                  PyObject **inflated, struct tws_error *err)
{
    const FrameObject *self = (const FrameObject *)frame;
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    bool per_frame = compression->terms.per_frame;
    enum tws_status status = check_place(compression, *amid, self, err);
    if (status == TWS_OK) {
        status = inflate_apart(compression, payload_of(self),
                               per_frame || self->fin, limit, &out, err);
    }
    if (status == TWS_OK) {
        *amid = !per_frame && !self->fin;
        *inflated =
            frame_of(state, self, self->rsv & (uint8_t)~TWS_RSV1, &out);
    }
    tws_buffer_release(&out);
    return status;
}
