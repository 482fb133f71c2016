/* A stream of frames, its messages and what an end answers. The stream is
 * received whole, then again in parts whose sizes are its own bytes, and its
 * meaning is worked out a third time, the simple way: events, answers and
 * end must be the same. The first byte chooses who reads, what is allowed
 * and how the parts come. */
#include "input.h"
#include "protocol/session.h"

/* Bits of the first byte. */
enum {
    ROLE = 0x01,
    LIMITS = 0x06,
    DIRECT = 0x08,
    SMALL_PARTS = 0x10,
};

static const struct tws_message_limits limit_choices[] = {
    {.size = 40, .fragments = 3},
    {.size = 1 << 16, .fragments = 100},
    {.size = UINT64_MAX, .fragments = UINT32_MAX},
    {.size = 0, .fragments = 1},
};

/* Everything that came of a stream. */
struct outcome {
    struct tws_session session;
    const uint8_t *key; /* for answers; NULL for a server */
    struct tws_buffer told;
    enum tws_status status;
    struct tws_error err;
};

static void
tell(struct outcome *o, const void *data, size_t length)
{
    require(tws_buffer_append(&o->told, data, length) == TWS_OK);
}

static const struct tws_frame_claims NO_CLAIMS = {0};

/* An answer must be one frame that the peer takes. */
static void
check_reply(const struct tws_control *reply, bool masked)
{
    struct tws_frame_header header;
    struct tws_error err;
    size_t consumed;
    require(tws_frame_header_decode(reply->bytes, reply->length,
                                    masked ? TWS_SERVER : TWS_CLIENT,
                                    NO_CLAIMS, &header, &consumed, &err)
            == TWS_OK);
    require(header.fin && tws_opcode_is_control(header.opcode));
    require(consumed + header.length == reply->length);
}

static void
tell_event(struct outcome *o, const struct tws_event *event)
{
    uint64_t facts[] = {event->type, event->ascii, event->code, event->length,
                        event->reason.length};
    tell(o, facts, sizeof(facts));
    tell(o, event->data, event->length);
    tell(o, event->reason.data, event->reason.length);
    if (event->type == TWS_EVENT_TEXT) {
        require(tws_utf8_valid(event->data, event->length));
        require(tws_utf8_is_ascii(event->data, event->length) == event->ascii);
    }
    bool open = o->session.received_code == 0;
    struct tws_control reply;
    require(tws_session_take(&o->session, event, o->key, &reply) == open);
    require(reply.length <= sizeof(reply.bytes));
    if (reply.length > 0) {
        require(open);
        check_reply(&reply, o->key != NULL);
    }
    tell(o, reply.bytes, reply.length);
}

struct stream {
    const uint8_t *wire;
    size_t length;
    enum tws_role role;
    struct tws_message_limits limits;
};

static struct outcome
new_outcome(const struct stream *stream)
{
    static const uint8_t key[] = {0x37, 0xfa, 0x21, 0x3d};
    return (struct outcome){
        .key = stream->role == TWS_CLIENT ? key : NULL,
    };
}

struct receiver {
    struct tws_frame_reader reader;
    struct tws_assembler assembler;
    size_t arrived;
    bool direct;
};

/* Memory grows with what arrived and goes when nothing is unfinished. */
static void
check_memory(const struct receiver *r)
{
    const struct tws_assembler *assembler = &r->assembler;
    size_t allowed = 4 * r->arrived + 256 + (r->direct ? 2 * 65536 : 0);
    require(assembler->message.capacity <= allowed);
    require(assembler->control.capacity <= 256);
    require(assembler->opcode != 0 || assembler->message.memory == NULL);
    require((r->reader.in_payload
             && tws_opcode_is_control(r->reader.header.opcode))
            || assembler->control.memory == NULL);
}

static void
receive(struct receiver *r, const struct stream *stream, size_t length,
        struct outcome *o)
{
    uint8_t *part = exact_begin(stream->wire + r->arrived, length);
    struct tws_input input = {.data = part, .length = length};
    r->arrived += length;
    do {
        struct tws_event event;
        o->status = tws_receive(&r->reader, &r->assembler, &stream->limits,
                                &input, &event, &o->err);
        if (o->status == TWS_OK) {
            tell_event(o, &event);
        }
    } while (o->status == TWS_OK);
    if (o->status == TWS_AGAIN) {
        require(input.length == 0);
        check_memory(r);
    }
    exact_end(part);
}

static void
receive_direct(struct receiver *r, const struct stream *stream, size_t length,
               uint8_t *room, struct outcome *o)
{
    struct tws_event event;
    memcpy(room, stream->wire + r->arrived, length);
    r->arrived += length;
    r->direct = true;
    o->status = tws_receive_direct(&r->reader, &r->assembler, &stream->limits,
                                   room, length, &event, &o->err);
    if (o->status == TWS_OK) {
        tell_event(o, &event);
        o->status = TWS_AGAIN;
    }
}

static struct outcome
receive_whole(const struct stream *stream)
{
    struct outcome o = new_outcome(stream);
    struct receiver r = {0};
    tws_frame_reader_init(&r.reader, stream->role);
    receive(&r, stream, stream->length, &o);
    tws_assembler_release(&r.assembler);
    return o;
}

static struct outcome
receive_parts(const struct stream *stream, unsigned choice)
{
    struct outcome o = new_outcome(stream);
    struct receiver r = {0};
    size_t i = 0;
    tws_frame_reader_init(&r.reader, stream->role);
    o.status = TWS_AGAIN;
    while (o.status == TWS_AGAIN && r.arrived < stream->length) {
        size_t length = stream->wire[i % stream->length];
        uint8_t *room;
        size_t size;
        i += 3;
        length = (choice & SMALL_PARTS) != 0 ? length % 4 : length;
        if (length == 0) {
            length = 1;
        }
        if (length > stream->length - r.arrived) {
            length = stream->length - r.arrived;
        }
        if ((choice & DIRECT) != 0 && i % 2 == 0
            && tws_receive_room(&r.reader, &r.assembler, &room, &size)) {
            require(size > 0 && size <= r.reader.left);
            receive_direct(&r, stream, length < size ? length : size, room,
                           &o);
        }
        else {
            receive(&r, stream, length, &o);
        }
    }
    if (o.status == TWS_AGAIN) {
        receive(&r, stream, 0, &o);
    }
    tws_assembler_release(&r.assembler);
    return o;
}

/* The third way: frame by frame, everything copied and looked at again. */
struct model {
    const struct stream *stream;
    struct tws_buffer message;
    unsigned opcode; /* of the unfinished message */
    uint32_t fragments;
};

static void
model_fails(struct outcome *o, uint16_t code)
{
    o->status = TWS_PROTOCOL;
    o->err.close_code = code;
}

/* `length` bytes of the payload are there. */
static void
model_unmask(const struct tws_frame_header *header, const uint8_t *payload,
             size_t length, struct tws_buffer *out)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t byte =
            (uint8_t)(payload[i] ^ (header->masked ? header->key[i % 4] : 0));
        require(tws_buffer_append(out, &byte, 1) == TWS_OK);
    }
}

static void
model_control(const struct tws_frame_header *header, const uint8_t *payload,
              struct outcome *o)
{
    struct tws_buffer bytes = TWS_BUFFER_EMPTY;
    struct tws_error err;
    model_unmask(header, payload, (size_t)header->length, &bytes);
    struct tws_event event = {
        .type = header->opcode == TWS_OPCODE_PING   ? TWS_EVENT_PING
                : header->opcode == TWS_OPCODE_PONG ? TWS_EVENT_PONG
                                                    : TWS_EVENT_CLOSE,
        .data = tws_buffer_data(&bytes),
        .length = (size_t)header->length,
    };
    if (header->opcode == TWS_OPCODE_CLOSE
        && tws_close_parse(event.data, event.length, &event.code,
                           &event.reason, &err)
               != TWS_OK) {
        model_fails(o, err.close_code);
    }
    else {
        tell_event(o, &event);
    }
    tws_buffer_release(&bytes);
}

static void
model_data(struct model *m, const struct tws_frame_header *header,
           const uint8_t *payload, size_t length, struct outcome *o)
{
    bool start = header->opcode != TWS_OPCODE_CONTINUATION;
    if (start != (m->opcode == 0)) {
        model_fails(o, TWS_CLOSE_PROTOCOL_ERROR);
        return;
    }
    m->opcode = start ? header->opcode : m->opcode;
    m->fragments++;
    /* 63 bits and the length of a fuzzer's input: no overflow. */
    if (tws_buffer_length(&m->message) + header->length
        > m->stream->limits.size) {
        model_fails(o, TWS_CLOSE_MESSAGE_TOOBIG);
        return;
    }
    if (m->fragments > m->stream->limits.fragments) {
        model_fails(o, TWS_CLOSE_POLICY);
        return;
    }
    model_unmask(header, payload, length, &m->message);
    struct tws_utf8 utf8 = {0};
    struct tws_event event = {
        .type =
            m->opcode == TWS_OPCODE_TEXT ? TWS_EVENT_TEXT : TWS_EVENT_BINARY,
        .data = tws_buffer_data(&m->message),
        .length = tws_buffer_length(&m->message),
    };
    bool done = length == header->length && header->fin;
    if (event.type == TWS_EVENT_TEXT) {
        event.ascii = tws_utf8_is_ascii(event.data, event.length);
        if (!tws_utf8_feed(&utf8, event.data, event.length)
            || (done && !tws_utf8_complete(&utf8))) {
            model_fails(o, TWS_CLOSE_INVALID_DATA);
            return;
        }
    }
    if (done) {
        tell_event(o, &event);
        tws_buffer_release(&m->message);
        m->opcode = 0;
        m->fragments = 0;
    }
}

static struct outcome
receive_model(const struct stream *stream)
{
    struct outcome o = new_outcome(stream);
    struct model m = {.stream = stream};
    size_t at = 0;
    o.status = TWS_AGAIN;
    while (o.status == TWS_AGAIN) {
        struct tws_frame_header header;
        size_t consumed;
        enum tws_status status = tws_frame_header_decode(
            stream->wire + at, stream->length - at, stream->role, NO_CLAIMS,
            &header, &consumed, &o.err);
        if (status != TWS_OK) {
            o.status = status;
            break;
        }
        at += consumed;
        size_t left = stream->length - at;
        size_t length = header.length < left ? (size_t)header.length : left;
        if (!tws_opcode_is_control(header.opcode)) {
            model_data(&m, &header, stream->wire + at, length, &o);
        }
        else if (length == header.length) {
            model_control(&header, stream->wire + at, &o);
        }
        at += length;
        if (length < header.length) {
            break;
        }
    }
    tws_buffer_release(&m.message);
    return o;
}

static void
check_same(const struct outcome *a, const struct outcome *b)
{
    size_t length = tws_buffer_length(&a->told);
    require(a->status == b->status);
    require(length == tws_buffer_length(&b->told));
    require(
        length == 0
        || memcmp(tws_buffer_data(&a->told), tws_buffer_data(&b->told), length)
               == 0);
    require(a->status != TWS_PROTOCOL
            || a->err.close_code == b->err.close_code);
    require(a->session.sent_code == b->session.sent_code);
    require(a->session.received_code == b->session.received_code);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    const struct stream stream = {
        .wire = data + 1,
        .length = size - 1,
        .role = (data[0] & ROLE) != 0 ? TWS_SERVER : TWS_CLIENT,
        .limits = limit_choices[(data[0] & LIMITS) >> 1],
    };
    struct outcome whole = receive_whole(&stream);
    struct outcome parts = receive_parts(&stream, data[0]);
    struct outcome model = receive_model(&stream);
    require(whole.status == TWS_AGAIN || whole.status == TWS_PROTOCOL);
    check_same(&whole, &parts);
    check_same(&whole, &model);
    if (whole.status == TWS_PROTOCOL) {
        require(whole.err.status == TWS_PROTOCOL);
        require(whole.err.reason[0] != '\0');
        require(strcmp(whole.err.reason, parts.err.reason) == 0);
    }
    tws_buffer_release(&whole.told);
    tws_buffer_release(&parts.told);
    tws_buffer_release(&model.told);
    return 0;
}
