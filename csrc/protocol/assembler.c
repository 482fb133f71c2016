#include "protocol/assembler.h"

#include "protocol/close_code.h"
#include "protocol/inflating.h"
#include "protocol/mask.h"
#include "protocol/message_stream.h"

#include <inttypes.h>

/* Reading straight into the message pays from here on. */
enum { DIRECT_MIN = 16 * 1024, DIRECT_MAX_FIRST = 64 * 1024 };

/* Compressed bytes; docs/architecture/compression.md has the figures. What is
 * skipped has no limit to the bytes that are made of it. */
enum { HEAVY_MIN = 4 * 1024, HEAVY_SKIPPED_MIN = 256 };

void
tws_assembler_release(struct tws_assembler *assembler)
{
    tws_buffer_release(&assembler->message);
    tws_buffer_release(&assembler->control);
    tws_buffer_release(&assembler->packed);
    if (assembler->compression != NULL) {
        tws_compression_stop_inflating(assembler->compression);
    }
    *assembler = (struct tws_assembler){0};
}

/* An idle connection keeps no buffer: what an event borrowed goes back. */
void
tws_assembler_settle(struct tws_assembler *assembler)
{
    if (!assembler->handed_out) {
        return;
    }
    if (assembler->opcode == 0) {
        tws_buffer_release(&assembler->message);
    }
    tws_buffer_release(&assembler->control);
    assembler->handed_out = false;
}

bool
tws_assembler_is_at_rest(const struct tws_assembler *assembler)
{
    return assembler->opcode == 0
           && !(assembler->handed_out || assembler->chunked
                || assembler->skipping || assembler->ended
                || assembler->waiting)
           && assembler->message.capacity == 0
           && assembler->control.capacity == 0
           && assembler->packed.capacity == 0;
}

static enum tws_status
not_utf8(struct tws_error *err)
{
    return tws_error_protocol(err, TWS_CLOSE_INVALID_DATA,
                              "text message is not valid UTF-8");
}

static enum tws_status
finish_control(const struct tws_frame_header *header, const uint8_t *data,
               struct tws_event *event, struct tws_error *err)
{
    size_t length = (size_t)header->length;
    struct tws_event result = {.data = data, .length = length};
    switch (header->opcode) {
    case TWS_OPCODE_CLOSE: {
        result.type = TWS_EVENT_CLOSE;
        enum tws_status status =
            tws_close_parse(data, length, &result.code, &result.reason, err);
        if (status != TWS_OK) {
            return status;
        }
        break;
    }
    case TWS_OPCODE_PING:
        result.type = TWS_EVENT_PING;
        break;
    default:
        result.type = TWS_EVENT_PONG;
        break;
    }
    *event = result;
    return TWS_OK;
}

static enum tws_status
take_control(struct tws_assembler *assembler, const struct tws_piece *piece,
             struct tws_event *event, struct tws_error *err)
{
    if (TWS_UNLIKELY(piece->header->rsv != 0)
        && assembler->compression != NULL) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "control frame with RSV1, which is for "
                                  "messages");
    }
    if (piece->first && piece->last) {
        tws_piece_copy(piece, piece->data);
        return finish_control(piece->header, piece->data, event, err);
    }
    uint8_t *room;
    enum tws_status status =
        tws_buffer_reserve(&assembler->control, piece->length, &room);
    if (status != TWS_OK) {
        return tws_error_nomem(err);
    }
    tws_piece_copy(piece, room);
    tws_buffer_commit(&assembler->control, piece->length);
    if (!piece->last) {
        return TWS_AGAIN;
    }
    assembler->handed_out = true;
    return finish_control(piece->header, tws_buffer_data(&assembler->control),
                          event, err);
}

static enum tws_status
check_fragments(const struct tws_assembler *assembler,
                const struct tws_message_limits *limits, struct tws_error *err)
{
    if (assembler->fragments >= limits->fragments) {
        return tws_error_protocol(err, TWS_CLOSE_POLICY,
                                  "message of more than %" PRIu32 " fragments",
                                  limits->fragments);
    }
    return TWS_OK;
}

/* The rules that a data frame's header must meet (§5.4, and our limits). */
static enum tws_status
start_frame(struct tws_assembler *assembler,
            const struct tws_message_limits *limits,
            const struct tws_frame_header *header, struct tws_error *err)
{
    if (header->opcode == TWS_OPCODE_CONTINUATION) {
        if (assembler->opcode == 0) {
            return tws_error_protocol(
                err, TWS_CLOSE_PROTOCOL_ERROR,
                "continuation frame without a message to continue");
        }
    }
    else if (assembler->opcode != 0) {
        return tws_error_protocol(
            err, TWS_CLOSE_PROTOCOL_ERROR,
            "new data frame (opcode 0x%x) inside a fragmented message, "
            "expected a continuation",
            header->opcode);
    }
    if (TWS_UNLIKELY((header->rsv | assembler->compressed) != 0)) {
        enum tws_status status =
            tws_inflating_start(assembler, limits, header, err);
        if (status != TWS_OK) {
            return status;
        }
        if (assembler->compressed) {
            /* It counts as bytes are made. */
            return assembler->chunked || assembler->skipping
                       ? TWS_OK
                       : check_fragments(assembler, limits, err);
        }
    }
    if (assembler->chunked || assembler->skipping) {
        return TWS_OK; /* these limits are for what is kept */
    }
    /* Subtracting can't overflow; adding a peer's 63-bit length could. */
    uint64_t have = tws_buffer_length(&assembler->message);
    if (have > limits->size || header->length > limits->size - have) {
        return tws_error_protocol(err, TWS_CLOSE_MESSAGE_TOOBIG,
                                  "message of at least %" PRIu64
                                  " bytes, the limit is %" PRIu64,
                                  have + header->length, limits->size);
    }
    return check_fragments(assembler, limits, err);
}

/* The common case: a message in one frame that lies whole in the input. */
static enum tws_status
take_whole(const struct tws_piece *piece, struct tws_event *event,
           struct tws_error *err)
{
    struct tws_event result = {.data = piece->data, .length = piece->length};
    if (piece->header->opcode == TWS_OPCODE_TEXT) {
        result.type = TWS_EVENT_TEXT;
        result.ascii = tws_piece_copy_ascii(piece, piece->data);
        if (!result.ascii && !tws_utf8_valid(piece->data, piece->length)) {
            return not_utf8(err);
        }
    }
    else {
        result.type = TWS_EVENT_BINARY;
        tws_piece_copy(piece, piece->data);
    }
    *event = result;
    return TWS_OK;
}

enum tws_status
tws_assembler_check_text(struct tws_assembler *assembler, const uint8_t *data,
                         size_t length, bool ascii, struct tws_error *err)
{
    if (assembler->opcode == TWS_OPCODE_TEXT) {
        assembler->ascii = assembler->ascii && ascii;
        /* ASCII can't be judged alone where a character is unfinished. */
        if ((!ascii || !tws_utf8_complete(&assembler->utf8))
            && !tws_utf8_feed(&assembler->utf8, data, length)) {
            return not_utf8(err);
        }
    }
    return TWS_OK;
}

enum tws_status
tws_assembler_check_end(const struct tws_assembler *assembler,
                        struct tws_error *err)
{
    if (assembler->opcode == TWS_OPCODE_TEXT
        && !tws_utf8_complete(&assembler->utf8)) {
        return not_utf8(err);
    }
    return TWS_OK;
}

static enum tws_status
keep(struct tws_assembler *assembler, const struct tws_piece *piece,
     struct tws_error *err)
{
    uint8_t *room;
    bool ascii = false;
    if (tws_buffer_reserve(&assembler->message, piece->length, &room)
        != TWS_OK) {
        return tws_error_nomem(err);
    }
    if (assembler->opcode == TWS_OPCODE_TEXT) {
        ascii = tws_piece_copy_ascii(piece, room);
    }
    else {
        tws_piece_copy(piece, room);
    }
    enum tws_status status =
        tws_assembler_check_text(assembler, room, piece->length, ascii, err);
    if (status == TWS_OK) {
        tws_buffer_commit(&assembler->message, piece->length);
    }
    return status;
}

static enum tws_status
finish_message(struct tws_assembler *assembler, struct tws_event *event,
               struct tws_error *err)
{
    bool text = assembler->opcode == TWS_OPCODE_TEXT;
    enum tws_status status = tws_assembler_check_end(assembler, err);
    if (status != TWS_OK) {
        return status;
    }
    *event = (struct tws_event){
        .type = text ? TWS_EVENT_TEXT : TWS_EVENT_BINARY,
        .data = tws_buffer_data(&assembler->message),
        .length = tws_buffer_length(&assembler->message),
        .ascii = text && assembler->ascii,
    };
    assembler->opcode = 0;
    assembler->fragments = 0;
    assembler->compressed_length = 0;
    assembler->handed_out = true;
    return TWS_OK;
}

enum tws_status
tws_assembler_take(struct tws_assembler *assembler,
                   const struct tws_message_limits *limits,
                   const struct tws_piece *piece, struct tws_event *event,
                   struct tws_error *err)
{
    const struct tws_frame_header *header = piece->header;
    tws_assembler_settle(assembler);
    if (tws_opcode_is_control(header->opcode)) {
        return take_control(assembler, piece, event, err);
    }
    if (piece->first) {
        enum tws_status status = start_frame(assembler, limits, header, err);
        if (status != TWS_OK) {
            return status;
        }
        if (piece->last && header->fin && assembler->opcode == 0
            && !assembler->chunked) {
            return take_whole(piece, event, err);
        }
        if (header->opcode != TWS_OPCODE_CONTINUATION) {
            assembler->opcode = header->opcode;
            assembler->utf8 = (struct tws_utf8){0};
            assembler->ascii = true;
        }
        assembler->fragments++;
    }
    if (assembler->chunked || assembler->skipping) {
        return tws_message_stream_take(assembler, piece, event, err);
    }
    enum tws_status status = TWS_OK;
    if (assembler->compressed) {
        status = tws_inflating_take(assembler, limits->size, piece, err);
    }
    else if (piece->length > 0) {
        status = keep(assembler, piece, err);
    }
    if (status != TWS_OK) {
        return status;
    }
    if (!piece->last || !header->fin) {
        return TWS_AGAIN;
    }
    return finish_message(assembler, event, err);
}

/* The usual case in few steps: a message in one masked frame, of up to 65,535
 * bytes, that lies whole in the input. Everything else, and a header that
 * breaks a rule, is TWS_AGAIN with nothing touched: the way of all frames will
 * tell.
 */
static inline enum tws_status
receive_short(const struct tws_frame_reader *reader,
              const struct tws_assembler *assembler,
              const struct tws_message_limits *limits, struct tws_input *input,
              struct tws_event *event, struct tws_error *err)
{
    uint8_t *data = input->data;
    size_t header = 6;
    if (input->length < header || reader->role != TWS_SERVER
        || (reader->in_payload | (reader->partial_length != 0)
            | (assembler->opcode != 0) | (assembler->compression != NULL))) {
        return TWS_AGAIN;
    }
    bool text = data[0] == (TWS_FIN | TWS_OPCODE_TEXT);
    size_t length = (size_t)data[1] - 0x80; /* masked (RFC 6455 §5.1) */
    if (!text && data[0] != (TWS_FIN | TWS_OPCODE_BINARY)) {
        return TWS_AGAIN;
    }
    if (length == 126) {
        header = 8;
        length = tws_load_be16(data + 2);
        if (length < 126) {
            return TWS_AGAIN;
        }
    }
    else if (length > 126) {
        return TWS_AGAIN;
    }
    if (input->length < header + length || length > limits->size
        || limits->fragments == 0) {
        return TWS_AGAIN;
    }
    const uint8_t *key = data + header - 4;
    bool masked = !text && assembler->leaves_masked;
    bool ascii = false;
    data += header;
    input->data = data + length;
    input->length -= header + length;
    if (!masked) {
        ascii = tws_mask_ascii(data, data, length, key, 0);
        if (text && !ascii && !tws_utf8_valid(data, length)) {
            return not_utf8(err);
        }
    }
    *event = (struct tws_event){
        .type = text ? TWS_EVENT_TEXT : TWS_EVENT_BINARY,
        .data = data,
        .length = length,
        .masked = masked,
        .ascii = text && ascii,
    };
    return TWS_OK;
}

enum tws_status
tws_receive(struct tws_frame_reader *reader, struct tws_assembler *assembler,
            const struct tws_message_limits *limits, struct tws_input *input,
            struct tws_event *event, struct tws_error *err)
{
    struct tws_piece piece;
    enum tws_status status;
    tws_assembler_settle(assembler);
    if (TWS_UNLIKELY(assembler->chunked | assembler->waiting)) {
        status = tws_message_stream_resume(assembler, event, err);
        if (status != TWS_AGAIN) {
            return status;
        }
    }
    else {
        status = receive_short(reader, assembler, limits, input, event, err);
        if (TWS_LIKELY(status != TWS_AGAIN)) {
            return status;
        }
    }
    do {
        status = tws_frame_reader_next(reader, input, &piece, err);
        if (status == TWS_AGAIN && TWS_UNLIKELY(assembler->chunked)
            && tws_message_stream_chunk(assembler, event)) {
            return TWS_OK; /* it need not wait for what follows */
        }
        if (status != TWS_OK) {
            return status;
        }
        status = tws_assembler_take(assembler, limits, &piece, event, err);
    } while (status == TWS_AGAIN);
    return status;
}

/* What is at hand behind such a frame may be of its message as well, and is
 * taken in one go: then it matters little how small the frames are. */
static bool
leads_on(const struct tws_assembler *assembler, bool compressed, bool fin)
{
    return (!fin || assembler->skipping)
           && (compressed || assembler->compression->terms.per_frame);
}

/* Of a frame whose header begins there. */
static bool
begins_heavy(const struct tws_assembler *assembler, const uint8_t *data)
{
    uint8_t opcode = data[0] & 0x0f;
    unsigned length = data[1] & 0x7f;
    bool compressed =
        (data[0] & TWS_RSV1) != 0
        || (opcode == TWS_OPCODE_CONTINUATION && assembler->compressed);
    if (tws_opcode_is_control(opcode)) {
        return false; /* an event by itself */
    }
    if (leads_on(assembler, compressed, (data[0] & TWS_FIN) != 0)) {
        return true;
    }
    return compressed
           && (length == 127
               || (length == 126 && tws_load_be16(data + 2) >= HEAVY_MIN));
}

bool
tws_receive_is_heavy(const struct tws_frame_reader *reader,
                     const struct tws_assembler *assembler,
                     const struct tws_input *input)
{
    size_t least = assembler->skipping ? HEAVY_SKIPPED_MIN : HEAVY_MIN;
    if (assembler->waiting) {
        return true;
    }
    if (assembler->compression == NULL || input->length < least) {
        return false;
    }
    if (reader->in_payload) {
        return leads_on(assembler, assembler->compressed, reader->header.fin)
               || (assembler->compressed && reader->left >= HEAVY_MIN);
    }
    return reader->partial_length > 0 || begins_heavy(assembler, input->data);
}

bool
tws_receive_inflates_in_vain(const struct tws_assembler *assembler)
{
    return assembler->skipping
           && (assembler->compressed
               || (assembler->compression != NULL
                   && assembler->compression->terms.per_frame));
}

bool
tws_receive_room(const struct tws_frame_reader *reader,
                 struct tws_assembler *assembler, uint8_t **room, size_t *size)
{
    if (!reader->in_payload || assembler->handed_out || assembler->compressed
        || tws_opcode_is_control(reader->header.opcode)
        || reader->left < DIRECT_MIN) {
        return false;
    }
    uint64_t want = tws_buffer_length(&assembler->message);
    if (want < DIRECT_MAX_FIRST) {
        want = DIRECT_MAX_FIRST;
    }
    if (assembler->chunked) {
        want = TWS_CHUNK_MAX; /* together with an unfinished character */
        want -= tws_buffer_length(&assembler->message);
    }
    if (want > reader->left) {
        want = reader->left;
    }
    if (tws_buffer_reserve(&assembler->message, (size_t)want, room)
        != TWS_OK) {
        return false;
    }
    *size = (size_t)want;
    return true;
}

enum tws_status
tws_receive_direct(struct tws_frame_reader *reader,
                   struct tws_assembler *assembler,
                   const struct tws_message_limits *limits, uint8_t *room,
                   size_t length, struct tws_event *event,
                   struct tws_error *err)
{
    struct tws_piece piece;
    tws_frame_reader_skip(reader, room, length, &piece);
    return tws_assembler_take(assembler, limits, &piece, event, err);
}
