/* Whole frames for extensions, and their messages: collected from a stream
 * that comes in parts, and worked out again by a reader that has all of it.
 * The first bytes choose who reads, what is allowed and how it is cut. */
#include "input.h"
#include "protocol/frame_collector.h"

#include "protocol/close_code.h"

enum { HEAD = 3, LONGEST = 400 };

static const struct tws_message_limits limit_choices[] = {
    {.size = 0, .fragments = 2},
    {.size = 40, .fragments = 3},
    {.size = 1 << 16, .fragments = 100},
    {.size = UINT64_MAX, .fragments = UINT32_MAX},
};

struct stream {
    struct tws_span wire;
    enum tws_role role;
    struct tws_frame_claims claims;
    struct tws_message_limits limits;
    size_t step;
};

/* What came of it. */
struct outcome {
    enum tws_status status;
    uint16_t close_code;
    size_t length; /* of `told` */
    uint8_t told[8 * LONGEST];
};

static void
tell(struct outcome *o, const void *data, size_t length)
{
    note_down(o->told, sizeof(o->told), &o->length, data, length);
}

/* A frame, or a control frame by its opcode alone. */
static void
tell_frame(struct outcome *o, uint8_t first_byte, const uint8_t *data,
           size_t length)
{
    uint8_t facts[] = {'#', first_byte, (uint8_t)(length >> 8),
                       (uint8_t)length};
    tell(o, facts, sizeof(facts));
    tell(o, data, length);
}

/* The real one -------------------------------------------------------------
 */

struct collecting {
    struct tws_frame_reader reader;
    struct tws_frame_collector collector;
    struct tws_assembler assembler;
    struct tws_frame_joiner joiner;
};

static void
fail(struct outcome *o, const struct tws_error *err)
{
    require(err->status == TWS_PROTOCOL && err->reason[0] != '\0');
    o->status = TWS_PROTOCOL;
    o->close_code = err->close_code;
}

static void
join(struct collecting *c, const struct stream *stream,
     const struct tws_event *event, struct outcome *o)
{
    struct tws_error err;
    struct tws_span data = {.data = (const char *)event->data,
                            .length = event->length};
    unsigned opcode = event->first_byte & 0x0f;
    if (tws_opcode_is_control(opcode)
        || (!tws_opcode_is_known(opcode) && opcode >= 3)) {
        return; /* an extension's own */
    }
    if (tws_frame_joiner_passes(&c->joiner, event->first_byte)) {
        tell(o, "m", 1);
        return;
    }
    enum tws_status status = tws_frame_joiner_take(
        &c->joiner, &stream->limits, event->first_byte, data, &err);
    if (status == TWS_OK) {
        struct tws_buffer *payload = &c->joiner.payload;
        tell(o, "M", 1);
        tell_frame(o, c->joiner.first_byte, tws_buffer_data(payload),
                   tws_buffer_length(payload));
        tws_frame_joiner_release(&c->joiner);
    }
    else if (status != TWS_AGAIN) {
        fail(o, &err);
    }
}

static void
take_event(struct collecting *c, const struct stream *stream,
           const struct tws_event *event, struct outcome *o)
{
    switch (event->type) {
    case TWS_EVENT_FRAME:
        tell_frame(o, event->first_byte, event->data, event->length);
        join(c, stream, event, o);
        break;
    case TWS_EVENT_CLOSE:
        tell_frame(o, 0x88, event->data, event->length);
        break;
    case TWS_EVENT_PING:
        tell_frame(o, 0x89, event->data, event->length);
        break;
    default:
        require(event->type == TWS_EVENT_PONG);
        tell_frame(o, 0x8a, event->data, event->length);
        break;
    }
}

static void
give(struct collecting *c, const struct stream *stream, struct tws_span part,
     struct outcome *o)
{
    uint8_t *copy = exact_begin(part.data, part.length);
    struct tws_input input = {.data = copy, .length = part.length};
    do {
        struct tws_event event;
        struct tws_error err;
        o->status = tws_frame_collector_receive(&c->reader, &c->collector,
                                                &c->assembler, &stream->limits,
                                                &input, &event, &err);
        if (o->status == TWS_OK) {
            take_event(c, stream, &event, o);
        }
        else if (o->status != TWS_AGAIN) {
            fail(o, &err);
        }
    } while (o->status == TWS_OK);
    require(o->status == TWS_PROTOCOL || input.length == 0);
    require(c->collector.payload.capacity <= 4 * stream->wire.length + 256);
    exact_end(copy);
}

static void
collect(const struct stream *stream, struct outcome *o)
{
    struct collecting c = {.reader.in_payload = false};
    struct tws_span rest = stream->wire;
    tws_frame_reader_init(&c.reader, stream->role);
    c.reader.rsv_allowed = stream->claims.rsv;
    c.reader.opcodes_allowed = stream->claims.opcodes;
    o->status = TWS_AGAIN;
    o->length = 0;
    while (rest.length > 0 && o->status == TWS_AGAIN) {
        struct tws_span part = rest;
        part.length = part.length < stream->step ? part.length : stream->step;
        tws_span_advance(&rest, part.length);
        give(&c, stream, part, o);
    }
    tws_frame_collector_release(&c.collector);
    tws_assembler_release(&c.assembler);
    tws_frame_joiner_release(&c.joiner);
}

/* The simple one ---------------------------------------------------------- */

struct simple {
    uint8_t message[LONGEST];
    size_t length;
    uint32_t frames; /* of the unfinished message */
    uint8_t first_byte;
};

static void
refuse(struct outcome *o, uint16_t code)
{
    o->status = TWS_PROTOCOL;
    o->close_code = code;
}

static void
join_simply(struct simple *s, const struct stream *stream, uint8_t first_byte,
            const uint8_t *data, size_t length, struct outcome *o)
{
    unsigned opcode = first_byte % 16;
    bool fin = first_byte >= 0x80;
    uint64_t limit = tws_frame_size_limit(stream->limits.size);
    if (opcode > 2) {
        return;
    }
    if ((opcode == 0) != (s->frames > 0)
        || (opcode == 0 && (first_byte & 0x70) != 0)) {
        refuse(o, 1002);
    }
    else if (s->frames == 0 && fin) {
        tell(o, "m", 1);
    }
    else if (s->length + length > limit) {
        refuse(o, 1009);
    }
    else if (s->frames == stream->limits.fragments) {
        refuse(o, 1008);
    }
    else {
        s->first_byte = s->frames == 0 ? first_byte | 0x80 : s->first_byte;
        s->frames++;
        memcpy(s->message + s->length, data, length);
        s->length += length;
        if (fin) {
            tell(o, "M", 1);
            tell_frame(o, s->first_byte, s->message, s->length);
            s->length = 0;
            s->frames = 0;
        }
    }
}

static void
take_control_simply(const struct tws_frame_header *header, const uint8_t *data,
                    struct outcome *o)
{
    uint16_t code;
    struct tws_span reason;
    struct tws_error err;
    if (header->opcode == TWS_OPCODE_CLOSE
        && tws_close_parse(data, (size_t)header->length, &code, &reason, &err)
               != TWS_OK) {
        refuse(o, err.close_code);
        return;
    }
    tell_frame(o, 0x80 | header->opcode, data, (size_t)header->length);
}

static void
collect_simply(const struct stream *stream, struct outcome *o)
{
    static struct simple s;
    const uint8_t *wire = (const uint8_t *)stream->wire.data;
    size_t at = 0;
    s.length = s.frames = 0;
    o->length = 0;
    o->status = TWS_AGAIN;
    while (o->status == TWS_AGAIN) {
        struct tws_frame_header header;
        struct tws_error err;
        uint8_t plain[LONGEST];
        size_t consumed;
        enum tws_status status = tws_frame_header_decode(
            wire + at, stream->wire.length - at, stream->role, stream->claims,
            &header, &consumed, &err);
        if (status != TWS_OK) {
            o->status = status;
            o->close_code = status == TWS_PROTOCOL ? 1002 : 0;
            return;
        }
        at += consumed;
        bool ours = header.opcode >= 8 && header.opcode <= 10;
        if (ours && header.rsv != 0) {
            refuse(o, 1002);
            return;
        }
        if (!ours
            && header.length > tws_frame_size_limit(stream->limits.size)) {
            refuse(o, 1009);
            return;
        }
        if (header.length > stream->wire.length - at) {
            return;
        }
        for (size_t i = 0; i < header.length; i++) {
            plain[i] = wire[at + i] ^ (header.masked ? header.key[i % 4] : 0);
        }
        uint8_t first_byte =
            (uint8_t)((header.fin ? 0x80 : 0) | header.rsv | header.opcode);
        at += (size_t)header.length;
        if (ours) {
            take_control_simply(&header, plain, o);
        }
        else {
            tell_frame(o, first_byte, plain, (size_t)header.length);
            join_simply(&s, stream, first_byte, plain, (size_t)header.length,
                        o);
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome expected;
    static struct outcome got;
    struct input input = {.data = data, .length = size};
    if (size < HEAD || size > LONGEST) {
        return 0;
    }
    uint8_t choice = input_byte(&input);
    struct stream stream = {
        .role = (choice & 1) != 0 ? TWS_SERVER : TWS_CLIENT,
        .claims = {.rsv = choice & 0x70,
                   .opcodes = (choice & 0x80) != 0 ? 0xf8f8 : 0},
        .limits = limit_choices[choice / 2 % 4],
    };
    uint8_t step = input_byte(&input);
    stream.wire = input_rest(&input);
    collect_simply(&stream, &expected);
    for (int i = 0; i < 3; i++) {
        stream.step = i == 0 ? SIZE_MAX : i == 1 ? 1 : step % 16 + 2U;
        collect(&stream, &got);
        require(got.status == expected.status);
        require(got.status != TWS_PROTOCOL
                || got.close_code == expected.close_code);
        require(got.length == expected.length);
        require(memcmp(got.told, expected.told, got.length) == 0);
    }
    return 0;
}
