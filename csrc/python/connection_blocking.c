/* A Connection whose calling threads read and write its websocket. */
#include "python/connection_parts.h"

#include "python/address.h"
#include "python/errors.h"
#include "python/extension_chain.h"
#include "python/message_type.h"
#include "python/websocket_parts.h"
#include "loop/timers.h"

#include <limits.h>

enum {
    COPY_MAX = 4096, /* a server's larger payloads are not copied */
};

int
tws_blocking_init(ConnectionObject *conn, WebsocketObject *ws)
{
    struct tws_address peer;
    struct tws_blocking *blocking = PyMem_Calloc(1, sizeof(*blocking));
    if (blocking == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    blocking->done = PyThread_allocate_lock();
    if (blocking->done == NULL
        || pthread_mutex_init(&blocking->lock, NULL) != 0) {
        PyErr_NoMemory();
        goto fail;
    }
    (void)PyThread_acquire_lock(blocking->done, NOWAIT_LOCK);
    tws_ending_clear(&blocking->ending);
    if (tws_websocket_peer_address(ws, &peer) < 0) {
        /* Gone already; the first recv() will tell. */
        PyErr_Clear();
    }
    else if (tws_connection_set_peer(conn, &peer) < 0) {
        pthread_mutex_destroy(&blocking->lock);
        goto fail;
    }
    blocking->assembler.compression = ws->compression;
    conn->blocking = blocking;
    conn->sock = Py_NewRef((PyObject *)ws);
    return 0;

fail:
    if (blocking->done != NULL) {
        PyThread_release_lock(blocking->done);
        PyThread_free_lock(blocking->done);
    }
    PyMem_Free(blocking);
    return -1;
}

void
tws_blocking_free(struct tws_blocking *blocking)
{
    if (blocking == NULL) {
        return;
    }
    tws_assembler_release(&blocking->assembler);
    pthread_mutex_destroy(&blocking->lock);
    if (!blocking->over) {
        PyThread_release_lock(blocking->done);
    }
    PyThread_free_lock(blocking->done);
    PyMem_Free(blocking);
}

/* Sending ---------------------------------------------------------------- */

struct tws_deadline
tws_blocking_close_deadline(ConnectionObject *conn)
{
    uint64_t timeout = websocket_of(conn)->options->close_timeout;
    return tws_deadline_after(timeout == 0 ? 1 : timeout);
}

bool
tws_blocking_may_send(ConnectionObject *conn)
{
    struct tws_blocking *blocking = conn->blocking;
    struct tws_ending ending;
    pthread_mutex_lock(&blocking->lock);
    bool over = blocking->over;
    bool open = tws_session_open(&blocking->session);
    pthread_mutex_unlock(&blocking->lock);
    if (!over && open) {
        return true;
    }
    tws_blocking_read_ending(conn, &ending);
    if (!over) {
        ending.by =
            ending.received_code != 0 ? TWS_ENDED_BY_PEER : TWS_ENDED_BY_US;
        tws_ending_set_reason(&ending, ending.sent_code,
                              TWS_SPAN("the closing handshake has begun"));
    }
    (void)tws_raise_closed_ending(conn->state, &ending);
    return false;
}

/* So that the end can tell since when it is not answered. Noted before it is
 * sent: another thread may receive the answer at once. */
static void
note_ping(ConnectionObject *conn, struct tws_span payload)
{
    struct tws_blocking *blocking = conn->blocking;
    pthread_mutex_lock(&blocking->lock);
    blocking->ping_at = tws_clock_now();
    blocking->ping_length = (uint8_t)payload.length;
    if (payload.length > 0) {
        memcpy(blocking->ping_payload, payload.data, payload.length);
    }
    pthread_mutex_unlock(&blocking->lock);
}

/* Through the websocket's own send(), so that its hooks and extensions see
 * each frame; or the message as one, where an extension wants it whole. */
static int
send_as_frames(ConnectionObject *conn, PyObject *message, size_t fragment,
               struct tws_sending *sending,
               const struct tws_deadline *deadline)
{
    WebsocketObject *ws = websocket_of(conn);
    bool whole = ws->chain != NULL ? tws_chain_joins(ws->chain)
                                   : ws->compression != NULL
                                         && !ws->compression->terms.per_frame;
    PyObject *frames = tws_connection_frames(message, whole ? 0 : fragment);
    if (frames == NULL) {
        return -1;
    }
    int result = tws_websocket_send_frames(
        ws, &PyTuple_GET_ITEM(frames, 0), PyTuple_GET_SIZE(frames),
        whole ? fragment : 0, sending, deadline);
    Py_DECREF(frames);
    return result;
}

/* A message was not sent. */
static void
forget_ping(ConnectionObject *conn, PyObject *message)
{
    if (((const MessageObject *)message)->opcode == TWS_OPCODE_PING) {
        pthread_mutex_lock(&conn->blocking->lock);
        conn->blocking->ping_at = 0;
        pthread_mutex_unlock(&conn->blocking->lock);
    }
}

static int
send_message(ConnectionObject *conn, PyObject *message, size_t fragment,
             enum tws_compress compress, const struct tws_deadline *deadline)
{
    WebsocketObject *ws = websocket_of(conn);
    uint8_t opcode;
    struct tws_span payload;
    struct tws_sending whole = {.compress = compress};
    struct tws_sending *sending = &whole;
    if (tws_message_view(conn->state, message, &opcode, &payload) < 0) {
        return -1;
    }
    if (opcode == TWS_OPCODE_CLOSE) {
        CloseMessageObject *close = (CloseMessageObject *)message;
        struct tws_deadline patience = tws_blocking_close_deadline(conn);
        struct tws_span reason = {.data = payload.data + 2,
                                  .length = payload.length - 2};
        return tws_blocking_close(conn, close->code, reason, &patience);
    }
    if (tws_opcode_is_control(opcode)) {
        fragment = 0; /* never in fragments (RFC 6455 5.5) */
        sending = NULL;
    }
    if (opcode == TWS_OPCODE_PING) {
        note_ping(conn, payload);
    }
    if (ws->send_hooks != NULL || ws->chain != NULL) {
        return send_as_frames(conn, message, fragment, sending, deadline);
    }
    struct tws_cut cut = {
        .payload = payload,
        .size = fragment == 0 ? SIZE_MAX : fragment,
        .first_byte = TWS_FIN | opcode,
    };
    if (ws->compression != NULL && sending != NULL
        && tws_compression_wants(ws->compression, payload.length, compress)) {
        return tws_websocket_send_deflated(ws, cut, sending, deadline);
    }
    if (ws->role == TWS_SERVER && cut.size >= payload.length
        && payload.length > COPY_MAX) {
        uint8_t header[TWS_FRAME_HEADER_MAX];
        struct tws_frame_header fields = {
            .opcode = opcode, .fin = true, .length = payload.length};
        struct iovec parts[2] = {
            {.iov_base = header,
             .iov_len = tws_frame_header_encode(&fields, header)},
            {.iov_base = (void *)(uintptr_t)payload.data,
             .iov_len = payload.length},
        };
        return tws_websocket_write(ws, parts, 2, sending, deadline);
    }
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    int result = tws_websocket_pack_cut(ws, cut, &out);
    if (result == 0) {
        struct iovec part = {.iov_base = tws_buffer_data(&out),
                             .iov_len = tws_buffer_length(&out)};
        result = tws_websocket_write(ws, &part, 1, sending, deadline);
    }
    tws_buffer_release(&out);
    return result;
}

int
tws_blocking_send(ConnectionObject *conn, PyObject *message, size_t fragment,
                  enum tws_compress compress,
                  const struct tws_deadline *deadline)
{
    if (!tws_blocking_may_send(conn)) {
        return -1;
    }
    int result = send_message(conn, message, fragment, compress, deadline);
    tws_ahead_note_sent(conn);
    if (result < 0) {
        forget_ping(conn, message);
        tws_blocking_judge_writing(conn);
    }
    return result;
}

/* A message in pieces ----------------------------------------------------- */

int
tws_blocking_begin_stream(ConnectionObject *conn, const void *stream,
                          const struct tws_deadline *deadline)
{
    const WebsocketObject *ws = websocket_of(conn);
    if (!tws_blocking_may_send(conn)
        || (ws->chain != NULL && tws_chain_check_pieces(ws->chain) < 0)) {
        return -1;
    }
    return tws_websocket_begin_stream(websocket_of(conn), stream, deadline);
}

static int
send_fragment_frame(ConnectionObject *conn,
                    const struct tws_fragment *fragment,
                    struct tws_sending *sending,
                    const struct tws_deadline *deadline)
{
    PyObject *frame = tws_connection_fragment_frame(conn->state, fragment);
    if (frame == NULL) {
        return -1;
    }
    int result = tws_websocket_send_frames(websocket_of(conn), &frame, 1, 0,
                                           sending, deadline);
    Py_DECREF(frame);
    return result;
}

/* Whether it is compressed here: one of a message that is, or of one that is
 * sent by frames each of which is. What hooks see is compressed behind them,
 * if it is the whole message. */
static bool
deflates_fragment(const WebsocketObject *ws, struct tws_fragment *fragment)
{
    const struct tws_compression *compression = ws->compression;
    size_t length = fragment->parts[0].length + fragment->parts[1].length;
    if (compression == NULL) {
        return false;
    }
    if (compression->terms.per_frame) {
        return ws->send_hooks == NULL
               && tws_compression_wants(compression, length,
                                        fragment->compress);
    }
    if (fragment->opcode != TWS_OPCODE_CONTINUATION) {
        /* Of a message that is larger than this, nobody knows how large. */
        fragment->deflated =
            ws->send_hooks == NULL
            && tws_compression_wants(compression,
                                     fragment->fin ? length : SIZE_MAX,
                                     fragment->compress);
    }
    return fragment->deflated;
}

static int
write_deflated_fragment(WebsocketObject *ws,
                        const struct tws_fragment *fragment,
                        struct tws_sending *sending,
                        const struct tws_deadline *deadline)
{
    uint8_t first_byte = fragment->opcode;
    if (fragment->fin) {
        first_byte |= TWS_FIN;
    }
    /* RFC 7692 §6.1: on the first frame of the message. */
    if (ws->compression->terms.per_frame
        || fragment->opcode != TWS_OPCODE_CONTINUATION) {
        first_byte |= TWS_RSV1;
    }
    return tws_websocket_send_piece_deflated(ws, first_byte, fragment->parts,
                                             sending, deadline);
}

/* From a server's end: as it is. */
static int
write_fragment(WebsocketObject *ws, const struct tws_fragment *fragment,
               struct tws_sending *sending,
               const struct tws_deadline *deadline)
{
    uint8_t header[TWS_FRAME_HEADER_MAX];
    const struct tws_span *parts = fragment->parts;
    struct tws_frame_header fields = {
        .opcode = fragment->opcode,
        .fin = fragment->fin,
        .length = parts[0].length + parts[1].length,
    };
    struct iovec vector[3] = {
        {.iov_base = header,
         .iov_len = tws_frame_header_encode(&fields, header)},
        {.iov_base = (void *)(uintptr_t)parts[0].data,
         .iov_len = parts[0].length},
        {.iov_base = (void *)(uintptr_t)parts[1].data,
         .iov_len = parts[1].length},
    };
    return tws_websocket_write(ws, vector, 3, sending, deadline);
}

/* From a client's end: masked, with a key of its own. */
static int
write_masked_fragment(WebsocketObject *ws, const struct tws_fragment *fragment,
                      struct tws_buffer *packed, struct tws_sending *sending,
                      const struct tws_deadline *deadline)
{
    uint8_t *room;
    const struct tws_span *parts = fragment->parts;
    struct tws_frame_header header = {
        .opcode = fragment->opcode,
        .fin = fragment->fin,
        .length = parts[0].length + parts[1].length,
        .masked = true,
    };
    const uint8_t *key;
    tws_buffer_consume(packed, tws_buffer_length(packed));
    if (tws_websocket_draw_key(ws, header.key, &key) < 0) {
        return -1;
    }
    if (tws_buffer_reserve(packed,
                           TWS_FRAME_HEADER_MAX + (size_t)header.length, &room)
        != TWS_OK) {
        PyErr_NoMemory();
        return -1;
    }
    size_t length = tws_frame_header_encode(&header, room);
    struct tws_piece piece = {.header = &header};
    for (int i = 0; i < 2; i++) {
        piece.data = (uint8_t *)(uintptr_t)parts[i].data;
        piece.length = parts[i].length;
        tws_piece_copy(&piece, room + length);
        length += parts[i].length;
        piece.offset += parts[i].length;
    }
    tws_buffer_commit(packed, length);
    struct iovec part = {.iov_base = room, .iov_len = length};
    return tws_websocket_write(ws, &part, 1, sending, deadline);
}

int
tws_blocking_send_fragment(ConnectionObject *conn,
                           struct tws_fragment *fragment,
                           struct tws_buffer *packed,
                           const struct tws_deadline *deadline)
{
    WebsocketObject *ws = websocket_of(conn);
    struct tws_sending sending = {.stream = fragment->stream,
                                  .compress = fragment->compress};
    int result;
    fragment->taken = false;
    if (!tws_blocking_may_send(conn)) {
        return -1;
    }
    if (deflates_fragment(ws, fragment)) {
        result = write_deflated_fragment(ws, fragment, &sending, deadline);
    }
    else if (ws->send_hooks != NULL || ws->chain != NULL) {
        result = send_fragment_frame(conn, fragment, &sending, deadline);
    }
    else if (ws->role == TWS_SERVER) {
        result = write_fragment(ws, fragment, &sending, deadline);
    }
    else {
        result =
            write_masked_fragment(ws, fragment, packed, &sending, deadline);
    }
    fragment->taken = sending.taken || result == 0;
    tws_ahead_note_sent(conn);
    if (result < 0) {
        tws_blocking_judge_writing(conn);
    }
    return result;
}

void
tws_blocking_end_stream(ConnectionObject *conn, bool unfinished)
{
    PyObject *pending = PyErr_GetRaisedException();
    if (unfinished && !tws_blocking_is_over(conn)
        && tws_blocking_send_close(conn, TWS_CLOSE_UNABLE,
                                   TWS_SPAN(TWS_UNFINISHED))
               < 0) {
        /* Nothing else must follow what is out. */
        PyErr_WriteUnraisable((PyObject *)conn);
        tws_websocket_close(websocket_of(conn));
    }
    tws_websocket_end_stream(websocket_of(conn));
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

int
tws_blocking_ping(ConnectionObject *conn, struct tws_span payload)
{
    WebsocketObject *ws = websocket_of(conn);
    struct tws_control control;
    uint8_t storage[4];
    const uint8_t *key;
    if (!tws_blocking_may_send(conn)
        || tws_websocket_draw_key(ws, storage, &key) < 0) {
        return -1;
    }
    tws_control_pack(&control, TWS_OPCODE_PING, (const uint8_t *)payload.data,
                     payload.length, key);
    note_ping(conn, payload);
    int result = tws_websocket_send_control(ws, &control);
    tws_ahead_note_sent(conn);
    return result;
}

/* Sends our Close frame, unless it is out already. */
int
tws_blocking_send_close(ConnectionObject *conn, uint16_t code,
                        struct tws_span reason)
{
    WebsocketObject *ws = websocket_of(conn);
    struct tws_control control;
    uint8_t storage[4];
    const uint8_t *key;
    if (tws_websocket_draw_key(ws, storage, &key) < 0) {
        return -1;
    }
    pthread_mutex_lock(&conn->blocking->lock);
    tws_session_close(&conn->blocking->session, code, reason, key, &control);
    if (control.length > 0) {
        tws_ending_set_sent(&conn->blocking->ending, code, reason);
    }
    pthread_mutex_unlock(&conn->blocking->lock);
    if (control.length == 0) {
        return 0;
    }
    return tws_websocket_send_control(ws, &control);
}
