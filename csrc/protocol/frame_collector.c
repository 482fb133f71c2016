#include "protocol/frame_collector.h"

#include "protocol/close_code.h"

#include <inttypes.h>

enum { SLACK = 1024 };

uint64_t
tws_frame_size_limit(uint64_t message_size)
{
    uint64_t more = message_size / 4 + SLACK;
    return message_size > UINT64_MAX - more ? UINT64_MAX : message_size + more;
}

static enum tws_status
too_big(struct tws_error *err, uint64_t size, uint64_t limit)
{
    return tws_error_protocol(err, TWS_CLOSE_MESSAGE_TOOBIG,
                              "frames of at least %" PRIu64
                              " bytes, the limit is %" PRIu64,
                              size, limit);
}

/* Frames ----------------------------------------------------------------- */

void
tws_frame_collector_release(struct tws_frame_collector *collector)
{
    tws_buffer_release(&collector->payload);
    *collector = (struct tws_frame_collector){.handed_out = false};
}

void
tws_frame_collector_settle(struct tws_frame_collector *collector)
{
    if (collector->handed_out) {
        tws_frame_collector_release(collector);
    }
}

static enum tws_status
finish(const struct tws_frame_header *header, const uint8_t *data,
       struct tws_event *event)
{
    *event = (struct tws_event){
        .type = TWS_EVENT_FRAME,
        .data = data,
        .length = (size_t)header->length,
        .first_byte = (uint8_t)((header->fin ? TWS_FIN : 0) | header->rsv
                                | header->opcode),
    };
    return TWS_OK;
}

static enum tws_status
collect(struct tws_frame_collector *collector,
        const struct tws_message_limits *limits, const struct tws_piece *piece,
        struct tws_event *event, struct tws_error *err)
{
    const struct tws_frame_header *header = piece->header;
    uint64_t limit = tws_frame_size_limit(limits->size);
    uint8_t *room;
    if (piece->first && header->length > limit) {
        return too_big(err, header->length, limit);
    }
    if (piece->first && piece->last) {
        tws_piece_copy(piece, piece->data);
        return finish(header, piece->data, event);
    }
    if (piece->length > 0) {
        if (tws_buffer_reserve(&collector->payload, piece->length, &room)
            != TWS_OK) {
            return tws_error_nomem(err);
        }
        tws_piece_copy(piece, room);
        tws_buffer_commit(&collector->payload, piece->length);
    }
    if (!piece->last) {
        return TWS_AGAIN;
    }
    collector->handed_out = true;
    return finish(header, tws_buffer_data(&collector->payload), event);
}

enum tws_status
tws_frame_collector_receive(struct tws_frame_reader *reader,
                            struct tws_frame_collector *collector,
                            struct tws_assembler *assembler,
                            const struct tws_message_limits *limits,
                            struct tws_input *input, struct tws_event *event,
                            struct tws_error *err)
{
    enum tws_status status;
    tws_frame_collector_settle(collector);
    tws_assembler_settle(assembler);
    do {
        struct tws_piece piece;
        status = tws_frame_reader_next(reader, input, &piece, err);
        if (status != TWS_OK) {
            return status;
        }
        unsigned opcode = piece.header->opcode;
        if (!tws_opcode_is_control(opcode) || !tws_opcode_is_known(opcode)) {
            status = collect(collector, limits, &piece, event, err);
        }
        else if (piece.header->rsv != 0) {
            /* Extensions do not look at these, so nobody understands it. */
            status = tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                        "control frame (opcode 0x%x) with "
                                        "reserved bits, expected none",
                                        opcode);
        }
        else {
            status = tws_assembler_take(assembler, limits, &piece, event, err);
        }
    } while (status == TWS_AGAIN);
    return status;
}

/* Messages ---------------------------------------------------------------- */

void
tws_frame_joiner_release(struct tws_frame_joiner *joiner)
{
    tws_buffer_release(&joiner->payload);
    *joiner = (struct tws_frame_joiner){.fragments = 0};
}

static enum tws_status
check_order(const struct tws_frame_joiner *joiner, uint8_t first_byte,
            struct tws_error *err)
{
    unsigned opcode = first_byte & 0x0f;
    if (opcode != TWS_OPCODE_CONTINUATION) {
        if (joiner->fragments == 0) {
            return TWS_OK;
        }
        return tws_error_protocol(
            err, TWS_CLOSE_PROTOCOL_ERROR,
            "new data frame (opcode 0x%x) inside a fragmented message, "
            "expected a continuation",
            opcode);
    }
    if (joiner->fragments == 0) {
        return tws_error_protocol(
            err, TWS_CLOSE_PROTOCOL_ERROR,
            "continuation frame without a message to continue");
    }
    if ((first_byte & TWS_RSV) != 0) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "continuation frame with reserved bits, "
                                  "expected them on the first frame only");
    }
    return TWS_OK;
}

enum tws_status
tws_frame_joiner_take(struct tws_frame_joiner *joiner,
                      const struct tws_message_limits *limits,
                      uint8_t first_byte, struct tws_span data,
                      struct tws_error *err)
{
    enum tws_status status = check_order(joiner, first_byte, err);
    if (status != TWS_OK) {
        return status;
    }
    uint64_t limit = tws_frame_size_limit(limits->size);
    uint64_t have = tws_buffer_length(&joiner->payload);
    if (have > limit || data.length > limit - have) {
        return too_big(err, have + data.length, limit);
    }
    if (joiner->fragments >= limits->fragments) {
        return tws_error_protocol(err, TWS_CLOSE_POLICY,
                                  "message of more than %" PRIu32 " fragments",
                                  limits->fragments);
    }
    if (data.length > 0
        && tws_buffer_append(&joiner->payload, data.data, data.length)
               != TWS_OK) {
        return tws_error_nomem(err);
    }
    if (joiner->fragments == 0) {
        joiner->first_byte = first_byte | TWS_FIN;
    }
    joiner->fragments++;
    return (first_byte & TWS_FIN) != 0 ? TWS_OK : TWS_AGAIN;
}
