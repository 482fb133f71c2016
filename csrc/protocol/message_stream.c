#include "protocol/message_stream.h"

#include "protocol/close_code.h"
#include "protocol/inflating.h"

#include <assert.h>
#include <inttypes.h>

static enum tws_status
too_big(const struct tws_assembler *assembler, uint64_t more,
        struct tws_error *err)
{
    return tws_error_protocol(err, TWS_CLOSE_MESSAGE_TOOBIG,
                              "frame of %" PRIu64 " bytes in a streamed "
                              "message, which may have %" PRIu64 " more",
                              more, assembler->room);
}

enum tws_status
tws_message_stream_begin(struct tws_assembler *assembler, uint64_t limit,
                         struct tws_error *err)
{
    uint64_t have = 0;
    tws_assembler_settle(assembler);
    tws_message_stream_discard(assembler);
    if (assembler->opcode != 0 && !assembler->skipping) {
        have = tws_buffer_length(&assembler->message);
    }
    if (have > limit) {
        return tws_error_protocol(err, TWS_CLOSE_MESSAGE_TOOBIG,
                                  "streamed message of at least %" PRIu64
                                  " bytes, the limit is %" PRIu64,
                                  have, limit);
    }
    assembler->chunked = true;
    assembler->stream++;
    assembler->limit = limit;
    assembler->room = limit - have;
    return TWS_OK;
}

static bool
is_continuation(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

size_t
tws_message_stream_cut(const uint8_t *data, size_t length, bool text)
{
    size_t end = length;
    if (end > TWS_CHUNK_MAX) {
        end = TWS_CHUNK_MAX;
        while (text && is_continuation(data[end])) {
            end--;
        }
    }
    return end;
}

/* How many bytes at the end are of a character that has not come whole. */
static size_t
count_unfinished(const struct tws_assembler *assembler, const uint8_t *data,
                 size_t length)
{
    size_t end = length;
    if (assembler->opcode == TWS_OPCODE_TEXT
        && !tws_utf8_complete(&assembler->utf8)) {
        do {
            end--;
        } while (is_continuation(data[end]));
    }
    return length - end;
}

bool
tws_message_stream_chunk(const struct tws_assembler *assembler,
                         struct tws_event *event)
{
    const uint8_t *data = tws_buffer_data(&assembler->message);
    if (!assembler->chunked || assembler->skipping) {
        return false;
    }
    bool text = assembler->opcode == TWS_OPCODE_TEXT;
    size_t length = tws_buffer_length(&assembler->message);
    length -= count_unfinished(assembler, data, length);
    length = tws_message_stream_cut(data, length, text);
    if (length == 0 && !assembler->ended) {
        return false;
    }
    *event = (struct tws_event){
        .type = TWS_EVENT_CHUNK,
        .data = data,
        .length = length,
        .text = text,
        .ascii = text && assembler->ascii,
    };
    return true;
}

void
tws_message_stream_consume(struct tws_assembler *assembler, size_t length)
{
    assert(assembler->chunked && !assembler->skipping);
    tws_buffer_consume(&assembler->message, length);
}

/* The message is over. */
static void
forget(struct tws_assembler *assembler)
{
    tws_buffer_release(&assembler->message);
    assembler->opcode = 0;
    assembler->fragments = 0;
    assembler->compressed_length = 0;
    assembler->ended = false;
    assembler->skipping = false;
}

void
tws_message_stream_end(struct tws_assembler *assembler)
{
    assert(assembler->chunked && assembler->ended);
    assembler->chunked = false;
    forget(assembler);
}

void
tws_message_stream_discard(struct tws_assembler *assembler)
{
    if (!assembler->chunked) {
        return;
    }
    assembler->chunked = false;
    if (assembler->ended) {
        forget(assembler);
    }
    else if (assembler->opcode != 0) {
        /* Or the rest of another one is being skipped already. */
        assembler->skipping = true;
        tws_buffer_release(&assembler->message);
    }
}

static enum tws_status
keep(struct tws_assembler *assembler, const struct tws_piece *piece,
     struct tws_error *err)
{
    uint8_t *room;
    bool ascii = false;
    if (piece->length > assembler->room) {
        return too_big(assembler, piece->length, err);
    }
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
        assembler->room -= piece->length;
    }
    return status;
}

static enum tws_status
skip(struct tws_assembler *assembler, const struct tws_piece *piece,
     struct tws_error *err)
{
    if (assembler->opcode != TWS_OPCODE_TEXT) {
        return TWS_OK;
    }
    bool ascii = tws_piece_copy_ascii(piece, piece->data);
    return tws_assembler_check_text(assembler, piece->data, piece->length,
                                    ascii, err);
}

/* After what has come of the message; `fin`: that was all. */
static enum tws_status
advance(struct tws_assembler *assembler, bool fin, struct tws_event *event,
        struct tws_error *err)
{
    if (fin) {
        enum tws_status status = tws_assembler_check_end(assembler, err);
        if (status != TWS_OK) {
            return status;
        }
        if (assembler->skipping) {
            forget(assembler);
            return TWS_AGAIN;
        }
        assembler->ended = true;
    }
    else if (assembler->skipping
             || tws_buffer_length(&assembler->message) < TWS_CHUNK_MAX) {
        return TWS_AGAIN; /* more may be at hand */
    }
    return tws_message_stream_chunk(assembler, event) ? TWS_OK : TWS_AGAIN;
}

enum tws_status
tws_message_stream_take(struct tws_assembler *assembler,
                        const struct tws_piece *piece, struct tws_event *event,
                        struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    bool fin = piece->last && piece->header->fin;
    assert(!assembler->ended);
    if (assembler->compressed) {
        status = tws_inflating_take_some(assembler, piece, err);
        if (status == TWS_AGAIN) {
            fin = false; /* what waits goes first */
            status = TWS_OK;
        }
    }
    else if (!assembler->skipping && piece->first
             && piece->header->length > assembler->room) {
        return too_big(assembler, piece->header->length, err);
    }
    else if (piece->length > 0) {
        status = assembler->skipping ? skip(assembler, piece, err)
                                     : keep(assembler, piece, err);
    }
    return status == TWS_OK ? advance(assembler, fin, event, err) : status;
}

enum tws_status
tws_message_stream_resume(struct tws_assembler *assembler,
                          struct tws_event *event, struct tws_error *err)
{
    while (!tws_message_stream_chunk(assembler, event)) {
        if (!assembler->waiting) {
            return TWS_AGAIN;
        }
        bool fin = assembler->waiting_fin;
        enum tws_status status = tws_inflating_go_on(assembler, err);
        if (status == TWS_OK) {
            return advance(assembler, fin, event, err);
        }
        if (status != TWS_AGAIN) {
            return status;
        }
    }
    return TWS_OK;
}
