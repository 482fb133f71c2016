#include "protocol/inflating.h"

#include "protocol/close_code.h"
#include "protocol/message_stream.h"

#include <assert.h>
#include <inttypes.h>

enum {
    GUESS = 4,              /* how many times larger it becomes */
    ROOM_MIN = 512,         /* zlib is slow where there is less than 258 */
    ROOM_FIRST = 16 * 1024, /* whatever came: it may be less */
    SKIP_SIZE = 16 * 1024,
};

uint64_t
tws_inflating_allowance(uint64_t limit)
{
    uint64_t more = limit / 4 + 1024;
    return limit > UINT64_MAX - more ? UINT64_MAX : limit + more;
}

enum tws_status
tws_inflating_start(struct tws_assembler *assembler,
                    const struct tws_message_limits *limits,
                    const struct tws_frame_header *header,
                    struct tws_error *err)
{
    const struct tws_compression *compression = assembler->compression;
    if (compression == NULL) {
        return TWS_OK; /* the bits are none of our business */
    }
    bool marked = (header->rsv & TWS_RSV1) != 0;
    if (compression->terms.per_frame
        || header->opcode != TWS_OPCODE_CONTINUATION) {
        assembler->compressed = marked;
    }
    else if (marked) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "continuation frame with RSV1, which "
                                  "belongs to a message's first frame");
    }
    if (assembler->compressed && assembler->opcode == 0) {
        assembler->opcode = header->opcode; /* it is not taken as it lies */
    }
    if (!assembler->compressed || assembler->skipping) {
        return TWS_OK;
    }
    uint64_t most = tws_inflating_allowance(
        assembler->chunked ? assembler->limit : limits->size);
    uint64_t have = assembler->compressed_length;
    if (have > most || header->length > most - have) {
        return tws_error_protocol(err, TWS_CLOSE_MESSAGE_TOOBIG,
                                  "message of at least %" PRIu64
                                  " compressed bytes, its limit allows for "
                                  "%" PRIu64,
                                  have + header->length, most);
    }
    assembler->compressed_length += header->length;
    return TWS_OK;
}

static enum tws_status
check_text(struct tws_assembler *assembler, const uint8_t *data, size_t length,
           struct tws_error *err)
{
    bool ascii = assembler->opcode == TWS_OPCODE_TEXT
                 && tws_utf8_is_ascii(data, length);
    return tws_assembler_check_text(assembler, data, length, ascii, err);
}

/* What is to be inflated. */
struct source {
    struct tws_input input;
    bool end; /* of what was compressed at a time */
};

/* One step into `room`. *more: there may be more to come of the source. */
static enum tws_status
step(struct tws_compression *compression, struct source *source, uint8_t *room,
     size_t size, size_t *got, bool *more, struct tws_error *err)
{
    enum tws_status status;
    *got = 0;
    if (source->input.length > 0 || !source->end) {
        status = tws_compression_inflate(compression, &source->input, room,
                                         size, got, err);
        *more = source->end || source->input.length > 0 || *got == size;
        return status;
    }
    status = tws_compression_end_inflate(compression, room, size, got, err);
    *more = status == TWS_AGAIN;
    return *more ? TWS_OK : status;
}

/* Room for a step behind the message: what there is already, if that is not
 * too little, else about what is needed, or twice what there was. At most
 * `most` bytes. */
static enum tws_status
find_room(struct tws_buffer *message, size_t input, uint64_t most,
          uint8_t **room, size_t *size)
{
    size_t want = message->capacity - message->end;
    if (want < ROOM_MIN) {
        want = input < ROOM_FIRST / GUESS ? input * GUESS : ROOM_FIRST;
        want = want < ROOM_MIN ? ROOM_MIN : want;
    }
    want = want < most ? want : (size_t)most;
    if (tws_buffer_reserve(message, want, room) != TWS_OK) {
        return TWS_NOMEM;
    }
    size_t all = message->capacity - message->end;
    *size = all < most ? all : (size_t)most;
    return TWS_OK;
}

/* Appends to the message until the source is used up, or there are `full`
 * bytes (TWS_AGAIN). *left: bytes that the message may still get; TWS_PROTOCOL
 * with 1009 as soon as there is one more. */
static enum tws_status
inflate(struct tws_assembler *assembler, struct source *source, size_t full,
        uint64_t limit, uint64_t *left, struct tws_error *err)
{
    struct tws_buffer *message = &assembler->message;
    bool more = true;
    while (more) {
        uint8_t *room;
        size_t size;
        size_t got;
        size_t have = tws_buffer_length(message);
        if (have >= full) {
            return TWS_AGAIN;
        }
        uint64_t most = *left == UINT64_MAX ? *left : *left + 1;
        most = most < full - have ? most : full - have;
        if (find_room(message, source->input.length, most, &room, &size)
            != TWS_OK) {
            return tws_error_nomem(err);
        }
        enum tws_status status =
            step(assembler->compression, source, room, size, &got, &more, err);
        if (status == TWS_OK && got > *left) {
            return tws_error_protocol(err, TWS_CLOSE_MESSAGE_TOOBIG,
                                      "message of more bytes than its limit "
                                      "of %" PRIu64 " when it is inflated",
                                      limit);
        }
        if (status == TWS_OK) {
            status = check_text(assembler, room, got, err);
        }
        if (status != TWS_OK) {
            return status;
        }
        tws_buffer_commit(message, got);
        *left -= got;
    }
    return TWS_OK;
}

/* The next message may refer to what nobody wants, so it is inflated, too. */
static enum tws_status
skip(struct tws_assembler *assembler, struct source *source,
     struct tws_error *err)
{
    uint8_t scratch[SKIP_SIZE];
    enum tws_status status = TWS_OK;
    bool more = true;
    while (status == TWS_OK && more) {
        size_t got;
        status = step(assembler->compression, source, scratch, sizeof(scratch),
                      &got, &more, err);
        if (status == TWS_OK) {
            status = check_text(assembler, scratch, got, err);
        }
    }
    return status;
}

/* The frame or message ends, or the connection does. */
static void
finish(struct tws_assembler *assembler, const struct source *source,
       enum tws_status status)
{
    if (status == TWS_OK) {
        assembler->compressed = !source->end;
    }
    else if (status != TWS_AGAIN) {
        tws_compression_stop_inflating(assembler->compression);
    }
}

/* Unmasks the piece where it lies. False: there is nothing to be done. */
static bool
open_source(const struct tws_assembler *assembler,
            const struct tws_piece *piece, struct source *source)
{
    tws_piece_copy(piece, piece->data);
    *source = (struct source){
        .input = {.data = piece->data, .length = piece->length},
        .end =
            piece->last
            && (piece->header->fin || assembler->compression->terms.per_frame),
    };
    return source->end || piece->length > 0;
}

enum tws_status
tws_inflating_take(struct tws_assembler *assembler, uint64_t limit,
                   const struct tws_piece *piece, struct tws_error *err)
{
    struct source source;
    enum tws_status status = TWS_OK;
    uint64_t have = tws_buffer_length(&assembler->message);
    uint64_t left = have < limit ? limit - have : 0;
    if (open_source(assembler, piece, &source)) {
        status = inflate(assembler, &source, SIZE_MAX, limit, &left, err);
        finish(assembler, &source, status);
    }
    return status;
}

/* In chunks --------------------------------------------------------------- */

static enum tws_status
inflate_chunk(struct tws_assembler *assembler, struct source *source,
              struct tws_error *err)
{
    enum tws_status status =
        assembler->skipping ? skip(assembler, source, err)
                            : inflate(assembler, source, TWS_CHUNK_MAX,
                                      assembler->limit, &assembler->room, err);
    finish(assembler, source, status);
    return status;
}

enum tws_status
tws_inflating_take_some(struct tws_assembler *assembler,
                        const struct tws_piece *piece, struct tws_error *err)
{
    struct source source;
    assert(!assembler->waiting);
    if (!open_source(assembler, piece, &source)) {
        return TWS_OK;
    }
    enum tws_status status = inflate_chunk(assembler, &source, err);
    if (status == TWS_AGAIN) {
        if (tws_buffer_append(&assembler->packed, source.input.data,
                              source.input.length)
            != TWS_OK) {
            tws_compression_stop_inflating(assembler->compression);
            return tws_error_nomem(err);
        }
        assembler->waiting = true;
        assembler->waiting_ends = source.end;
        assembler->waiting_fin = piece->last && piece->header->fin;
    }
    return status;
}

enum tws_status
tws_inflating_go_on(struct tws_assembler *assembler, struct tws_error *err)
{
    size_t length = tws_buffer_length(&assembler->packed);
    struct source source = {
        .input = {.data = tws_buffer_data(&assembler->packed),
                  .length = length},
        .end = assembler->waiting_ends,
    };
    enum tws_status status = inflate_chunk(assembler, &source, err);
    if (status == TWS_AGAIN) {
        tws_buffer_consume(&assembler->packed, length - source.input.length);
    }
    else {
        tws_buffer_release(&assembler->packed);
        assembler->waiting = false;
    }
    return status;
}
