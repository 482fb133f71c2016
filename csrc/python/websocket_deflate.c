/* Frames that C code compresses and inflates by itself, where the only
 * extension is one of ours. Nothing of Python runs for that. */
#include "python/websocket_parts.h"

#include "python/deflate_frames.h"
#include "python/errors.h"
#include "python/frame_type.h"

/* Sending: with write_lock ------------------------------------------------ */

static int
deflate(WebsocketObject *ws, struct tws_span data, bool end,
        struct tws_buffer *out)
{
    struct tws_error err;
    if (tws_deflate_apart(ws->compression, data, end, out, &err) != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    return 0;
}

/* What has grown is better sent as it was, unless what follows may refer to
 * it: not to send it would cost that more than it costs. */
static bool
grew(const struct tws_compression *compression, struct tws_span plain,
     const struct tws_buffer *packed, enum tws_compress compress)
{
    return compress == TWS_COMPRESS_AUTO && !compression->terms.out_takeover
           && tws_buffer_length(packed) >= plain.length;
}

/* Each frame for itself. */
static int
pack_frames_apart(WebsocketObject *ws, struct tws_cut cut,
                  enum tws_compress compress, struct tws_buffer *out)
{
    struct tws_buffer packed = TWS_BUFFER_EMPTY;
    uint8_t first_byte;
    struct tws_span part;
    int result = 0;
    while (result == 0 && tws_cut_next(&cut, &first_byte, &part)) {
        if (tws_compression_wants(ws->compression, part.length, compress)) {
            tws_buffer_consume(&packed, tws_buffer_length(&packed));
            result = deflate(ws, part, true, &packed);
            if (!grew(ws->compression, part, &packed, compress)) {
                part = tws_buffer_span(&packed);
                first_byte |= TWS_RSV1;
            }
        }
        if (result == 0) {
            result = tws_websocket_pack_frame(ws, first_byte, part, out);
        }
    }
    tws_buffer_release(&packed);
    return result;
}

/* A message (or frame) that is to be sent. What was compressed already, and
 * fragments that come as such, stay as they are. */
static int
pack(WebsocketObject *ws, struct tws_cut cut, enum tws_compress compress,
     struct tws_buffer *out)
{
    struct tws_compression *compression = ws->compression;
    struct tws_buffer packed = TWS_BUFFER_EMPTY;
    uint8_t opcode = cut.first_byte & 0x0f;
    bool whole =
        (cut.first_byte & TWS_FIN) != 0 && opcode != TWS_OPCODE_CONTINUATION;
    if ((cut.first_byte & TWS_RSV1) != 0) {
        /* The peer's window is not what we know of any more. */
        tws_compression_forget_sent(compression);
        return tws_websocket_pack_cut(ws, cut, out);
    }
    if (tws_opcode_is_control(opcode)) {
        return tws_websocket_pack_cut(ws, cut, out);
    }
    if (compression->terms.per_frame) {
        return pack_frames_apart(ws, cut, compress, out);
    }
    if (!whole
        || !tws_compression_wants(compression, cut.payload.length, compress)) {
        return tws_websocket_pack_cut(ws, cut, out);
    }
    int result = deflate(ws, cut.payload, true, &packed);
    if (result == 0 && !grew(compression, cut.payload, &packed, compress)) {
        cut.payload = tws_buffer_span(&packed);
        cut.first_byte |= TWS_RSV1;
    }
    if (result == 0) {
        result = tws_websocket_pack_cut(ws, cut, out);
    }
    tws_buffer_release(&packed);
    return result;
}

static void
forget(WebsocketObject *ws)
{
    tws_compression_forget_sent(ws->compression);
}

/* Messages ---------------------------------------------------------------- */

struct message {
    WebsocketObject *ws;
    struct tws_cut cut;
    enum tws_compress compress;
};

static int
make_message(void *context, struct tws_buffer *out)
{
    const struct message *message = context;
    int result = pack(message->ws, message->cut, message->compress, out);
    if (result < 0) {
        forget(message->ws);
    }
    return result;
}

static void
message_unmade(void *context)
{
    forget(((const struct message *)context)->ws);
}

int
tws_websocket_send_deflated(WebsocketObject *ws, struct tws_cut cut,
                            struct tws_sending *sending,
                            const struct tws_deadline *deadline)
{
    struct message message = {
        .ws = ws, .cut = cut, .compress = sending->compress};
    struct tws_making making = {
        .make = make_message, .unmade = message_unmade, .context = &message};
    return tws_websocket_write_made(ws, &making, sending, deadline);
}

/* Frames ------------------------------------------------------------------ */

struct frames {
    WebsocketObject *ws;
    PyObject *frames; /* borrowed; tuple of Frame */
    size_t fragment;  /* SIZE_MAX: they are not cut */
    enum tws_compress compress;
};

static int
make_frames(void *context, struct tws_buffer *out)
{
    const struct frames *given = context;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(given->frames); i++) {
        PyObject *object = PyTuple_GET_ITEM(given->frames, i);
        const FrameObject *frame = (const FrameObject *)object;
        struct tws_cut cut = {
            .payload = {.data = PyBytes_AS_STRING(frame->payload),
                        .length = (size_t)PyBytes_GET_SIZE(frame->payload)},
            .size = given->fragment,
            .first_byte = (uint8_t)((frame->fin ? TWS_FIN : 0) | frame->rsv
                                    | frame->opcode),
        };
        if (pack(given->ws, cut, given->compress, out) < 0) {
            forget(given->ws);
            return -1;
        }
    }
    return 0;
}

static void
frames_unmade(void *context)
{
    forget(((const struct frames *)context)->ws);
}

int
tws_websocket_send_frames_deflated(WebsocketObject *ws, PyObject *frames,
                                   size_t fragment,
                                   struct tws_sending *sending,
                                   enum tws_compress compress,
                                   const struct tws_deadline *deadline)
{
    struct frames given = {
        .ws = ws,
        .frames = frames,
        .fragment = fragment == 0 ? SIZE_MAX : fragment,
        .compress = compress,
    };
    struct tws_making making = {
        .make = make_frames, .unmade = frames_unmade, .context = &given};
    return tws_websocket_write_made(ws, &making, sending, deadline);
}

/* A message in pieces ----------------------------------------------------- */

struct piece {
    WebsocketObject *ws;
    const struct tws_span *parts;
    uint8_t first_byte;
};

/* What is compressed at a time had better lie together: each time costs some
 * bytes. */
static int
join(const struct tws_span parts[2], struct tws_buffer *joined,
     struct tws_span *all)
{
    if (parts[0].length == 0 || parts[1].length == 0) {
        *all = parts[parts[0].length == 0];
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        if (tws_buffer_append(joined, parts[i].data, parts[i].length)
            != TWS_OK) {
            PyErr_NoMemory();
            return -1;
        }
    }
    *all = tws_buffer_span(joined);
    return 0;
}

static int
make_piece(void *context, struct tws_buffer *out)
{
    const struct piece *piece = context;
    WebsocketObject *ws = piece->ws;
    struct tws_buffer joined = TWS_BUFFER_EMPTY;
    struct tws_buffer packed = TWS_BUFFER_EMPTY;
    struct tws_span all;
    bool end =
        ws->compression->terms.per_frame || (piece->first_byte & TWS_FIN) != 0;
    int result = join(piece->parts, &joined, &all);
    if (result == 0) {
        result = deflate(ws, all, end, &packed);
    }
    if (result == 0) {
        result = tws_websocket_pack_frame(ws, piece->first_byte,
                                          tws_buffer_span(&packed), out);
    }
    tws_buffer_release(&joined);
    tws_buffer_release(&packed);
    if (result < 0) {
        forget(ws);
    }
    return result;
}

int
tws_websocket_send_piece_deflated(WebsocketObject *ws, uint8_t first_byte,
                                  const struct tws_span parts[2],
                                  struct tws_sending *sending,
                                  const struct tws_deadline *deadline)
{
    struct piece piece = {.ws = ws, .parts = parts, .first_byte = first_byte};
    /* What follows refers to it: so it can't be taken back. */
    struct tws_making making = {.make = make_piece, .context = &piece};
    return tws_websocket_write_made(ws, &making, sending, deadline);
}

/* Receiving: with the right to read --------------------------------------- */

bool
tws_websocket_is_compressed(const WebsocketObject *ws,
                            const struct tws_frame_header *header)
{
    return ws->compression != NULL
           && tws_inflate_takes(ws->amid_compressed, header->opcode,
                                header->rsv);
}

int
tws_websocket_inflate(WebsocketObject *ws, PyObject **frame)
{
    const FrameObject *received = (const FrameObject *)*frame;
    PyObject *inflated = NULL;
    struct tws_error err;
    if (!tws_inflate_takes(ws->amid_compressed, received->opcode,
                           received->rsv)) {
        return 0;
    }
    enum tws_status status =
        tws_inflate_frame(ws->state, ws->compression, &ws->amid_compressed,
                          ws->options->message.size, *frame, &inflated, &err);
    if (status == TWS_OK && inflated == NULL) {
        PyErr_Clear();
        status = tws_error_nomem(&err); /* and what it said is lost */
    }
    Py_SETREF(*frame, inflated);
    return status == TWS_OK ? 0 : tws_websocket_raise_broken(ws, &err);
}
