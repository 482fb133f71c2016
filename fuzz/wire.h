/* Looks at all that an end writes, as a peer that trusts nothing: whole
 * frames of its kind, messages as the program has sent them and in their
 * order, and nothing behind a Close frame. What a message holds is one letter
 * again and again, so that only this letter has to be kept. */
#ifndef TWS_FUZZ_WIRE_H
#define TWS_FUZZ_WIRE_H

#include "input.h"
#include "protocol/close_code.h"
#include "protocol/frame.h"

#include <zlib.h>

enum { WIRE_MESSAGES = 128, WIRE_INFLATED = 1 << 16 };

struct wire_message {
    size_t length;
    uint8_t opcode;
    char letter;
    bool unfinished; /* sent in pieces, and more may come */
};

struct wire {
    enum tws_role reader;
    bool deflates; /* was agreed; the three that follow mean something then */
    bool per_frame;
    bool takeover;
    uint8_t rsv; /* bits that frames of the program may have */
    uint16_t opcodes;

    /* What is to come, the next one first. */
    struct wire_message due[WIRE_MESSAGES];
    size_t due_count;

    uint8_t partial[TWS_FRAME_HEADER_MAX];
    size_t partial_length;
    struct tws_frame_header header;
    uint64_t at; /* in its payload */
    bool in_frame;

    uint8_t opcode; /* of the unfinished message; 0: none */
    bool packed;
    size_t length;             /* of it so far */
    struct tws_buffer control; /* of the control frame, unmasked */
    struct tws_buffer frames;  /* what is to be inflated */
    z_stream zlib;
    bool inflates; /* `zlib` is there */

    unsigned messages; /* that were whole */
    unsigned pongs;
    uint16_t close_code; /* 0: no Close frame was seen; 1005: without code */
};

static inline void
wire_begin(struct wire *wire, enum tws_role reader)
{
    size_t start = offsetof(struct wire, due_count);
    memset((uint8_t *)wire + start, 0, sizeof(*wire) - start);
    wire->reader = reader;
    wire->deflates = wire->per_frame = wire->takeover = false;
    wire->rsv = 0;
    wire->opcodes = 0;
}

static inline void
wire_end(struct wire *wire)
{
    tws_buffer_release(&wire->control);
    tws_buffer_release(&wire->frames);
    if (wire->inflates) {
        require(inflateEnd(&wire->zlib) == Z_OK);
    }
}

/* The program is about to send this; false: there are too many. */
static inline bool
wire_expect(struct wire *wire, struct wire_message message)
{
    if (wire->due_count == WIRE_MESSAGES) {
        return false;
    }
    wire->due[wire->due_count] = message;
    wire->due_count++;
    return true;
}

static inline struct wire_message *
wire_last(struct wire *wire)
{
    require(wire->due_count > 0);
    return &wire->due[wire->due_count - 1];
}

/* It was not taken. */
static inline void
wire_retract(struct wire *wire)
{
    require(wire->due_count > 0);
    wire->due_count--;
}

static inline void
wire_content(struct wire *wire, const uint8_t *data, size_t length)
{
    require(wire->due_count > 0); /* or nobody has sent it */
    const struct wire_message *due = &wire->due[0];
    require(wire->opcode == due->opcode);
    require(length <= due->length - wire->length);
    wire->length += length;
    if (length > 0) {
        require(data[0] == (uint8_t)due->letter);
        require(memcmp(data, data + 1, length - 1) == 0);
    }
}

static inline void
wire_message_ends(struct wire *wire)
{
    require(wire->due_count > 0);
    require(wire->length == wire->due[0].length && !wire->due[0].unfinished);
    wire->due_count--;
    memmove(wire->due, wire->due + 1,
            wire->due_count * sizeof(struct wire_message));
    wire->opcode = 0;
    wire->length = 0;
    wire->messages++;
}

/* What was gathered makes sense now. */
static inline void
wire_inflate(struct wire *wire)
{
    static const uint8_t tail[] = {0, 0, 0xff, 0xff};
    static uint8_t out[WIRE_INFLATED];
    if (!wire->inflates) {
        require(inflateInit2(&wire->zlib, -15) == Z_OK);
        wire->inflates = true;
    }
    require(tws_buffer_append(&wire->frames, tail, sizeof(tail)) == TWS_OK);
    wire->zlib.next_in = tws_buffer_data(&wire->frames);
    wire->zlib.avail_in = (uInt)tws_buffer_length(&wire->frames);
    do {
        wire->zlib.next_out = out;
        wire->zlib.avail_out = sizeof(out);
        int result = inflate(&wire->zlib, Z_SYNC_FLUSH);
        require(result == Z_OK || result == Z_BUF_ERROR);
        wire_content(wire, out, sizeof(out) - wire->zlib.avail_out);
    } while (wire->zlib.avail_out == 0);
    require(wire->zlib.avail_in == 0);
    tws_buffer_consume(&wire->frames, tws_buffer_length(&wire->frames));
    if (!wire->takeover) {
        require(inflateReset(&wire->zlib) == Z_OK);
    }
}

static inline void
wire_control_ends(struct wire *wire)
{
    struct tws_span reason;
    struct tws_error err;
    if (wire->header.opcode == TWS_OPCODE_PONG) {
        wire->pongs++;
    }
    if (wire->header.opcode == TWS_OPCODE_CLOSE) {
        require(tws_close_parse(tws_buffer_data(&wire->control),
                                tws_buffer_length(&wire->control),
                                &wire->close_code, &reason, &err)
                == TWS_OK);
        /* All that was promised before it has gone before it. */
        require(wire->due_count == 0
                || (wire->due_count == 1 && wire->due[0].unfinished));
    }
    tws_buffer_consume(&wire->control, tws_buffer_length(&wire->control));
}

static inline void
wire_frame_begins(struct wire *wire)
{
    const struct tws_frame_header *header = &wire->header;
    wire->in_frame = true;
    wire->at = 0;
    if (tws_opcode_is_control(header->opcode)) {
        require(header->rsv == 0);
        return;
    }
    bool first = header->opcode != TWS_OPCODE_CONTINUATION;
    require(first == (wire->opcode == 0));
    if (first) {
        wire->opcode = header->opcode;
    }
    if (first || wire->per_frame) {
        wire->packed = wire->deflates && (header->rsv & TWS_RSV1) != 0;
    }
    else {
        require((header->rsv & TWS_RSV1) == 0);
    }
}

static inline void
wire_frame_ends(struct wire *wire)
{
    const struct tws_frame_header *header = &wire->header;
    wire->in_frame = false;
    if (tws_opcode_is_control(header->opcode)) {
        wire_control_ends(wire);
        return;
    }
    if (wire->packed && (header->fin || wire->per_frame)) {
        wire_inflate(wire);
    }
    if (header->fin) {
        wire_message_ends(wire);
    }
}

static inline void
wire_payload(struct wire *wire, const uint8_t *data, size_t length)
{
    static uint8_t plain[4096];
    while (length > 0) {
        size_t part = length < sizeof(plain) ? length : sizeof(plain);
        for (size_t i = 0; wire->header.masked && i < part; i++) {
            plain[i] = data[i] ^ wire->header.key[(wire->at + i) % 4];
        }
        const uint8_t *bytes = wire->header.masked ? plain : data;
        if (tws_opcode_is_control(wire->header.opcode)) {
            require(tws_buffer_append(&wire->control, bytes, part) == TWS_OK);
        }
        else if (wire->packed) {
            require(tws_buffer_append(&wire->frames, bytes, part) == TWS_OK);
        }
        else {
            wire_content(wire, bytes, part);
        }
        wire->at += part;
        data += part;
        length -= part;
    }
}

/* The next bytes that were written. */
static inline void
wire_take(struct wire *wire, const uint8_t *data, size_t length)
{
    struct tws_frame_claims claims = {
        .rsv = wire->rsv | (wire->deflates ? TWS_RSV1 : 0),
        .opcodes = wire->opcodes,
    };
    while (length > 0) {
        require(wire->close_code == 0); /* the last word (RFC 6455 §5.5.1) */
        if (!wire->in_frame) {
            struct tws_error err;
            size_t consumed;
            wire->partial[wire->partial_length] = *data++;
            wire->partial_length++;
            length--;
            enum tws_status status = tws_frame_header_decode(
                wire->partial, wire->partial_length, wire->reader, claims,
                &wire->header, &consumed, &err);
            require(status == TWS_OK || status == TWS_AGAIN);
            if (status == TWS_OK) {
                require(consumed == wire->partial_length);
                wire->partial_length = 0;
                wire_frame_begins(wire);
            }
        }
        else {
            uint64_t left = wire->header.length - wire->at;
            size_t part = length < left ? length : (size_t)left;
            wire_payload(wire, data, part);
            data += part;
            length -= part;
        }
        if (wire->in_frame && wire->at == wire->header.length) {
            wire_frame_ends(wire);
        }
    }
}

#endif /* TWS_FUZZ_WIRE_H */
