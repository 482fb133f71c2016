/* Messages, compressed or not, received whole and then again in chunks that
 * are consumed in parts: what they hold, and what is wrong with them, must be
 * the same. The first bytes choose the terms; what follows is made into
 * frames, so that a payload is deflated where the input says so. */
#include "input.h"
#include "protocol/mask.h"
#include "protocol/message_stream.h"

enum {
    HEAD = 4,
    LONGEST = 400,
    WIRE_MAX = 128 * 1024,
    TOLD_MAX = 1 << 20,
    NOBODY = 255, /* no message is discarded */
};

/* Bits of the first byte. */
enum {
    ROLE = 0x01,
    COMPRESSED = 0x02,
    PER_FRAME = 0x04,
    TAKEOVER = 0x08,
    LIMIT = 0x30,
    CONSUME_SOME = 0x40, /* of a chunk, at a time */
    DIRECT = 0x80,       /* straight into the message, where it may be */
};

struct stream {
    uint8_t wire[WIRE_MAX];
    size_t length;
    uint8_t choice;
    struct tws_compression_terms terms;
    struct tws_message_limits limits;
    size_t step;
    unsigned discarded; /* this message is */
};

/* What came of it; a message is told at its end. */
struct outcome {
    enum tws_status status;
    uint16_t close_code;
    unsigned messages; /* begun */
    size_t begun;      /* where the message begins that is unfinished */
    size_t length;
    uint8_t told[TOLD_MAX];
};

static struct tws_deflate_pool *pool;

static void
tell(struct outcome *o, const void *data, size_t length)
{
    note_down(o->told, sizeof(o->told), &o->length, data, length);
}

/* The wire ---------------------------------------------------------------- */

static void
put(struct stream *stream, const void *data, size_t length)
{
    require(stream->length + length <= WIRE_MAX);
    if (length > 0) {
        memcpy(stream->wire + stream->length, data, length);
    }
    stream->length += length;
}

static void
put_frame(struct stream *stream, struct input *input,
          struct tws_deflater *deflater)
{
    uint8_t first = input_byte(input);
    uint8_t choice = input_byte(input);
    struct tws_span part = input_take(input, choice & 0x3f);
    struct tws_buffer payload = TWS_BUFFER_EMPTY;
    struct tws_buffer packed = TWS_BUFFER_EMPTY;
    uint8_t bytes[TWS_FRAME_HEADER_MAX];
    struct tws_error err;
    for (int i = (choice & 0x40) != 0 ? 16 : 1; i > 0; i--) {
        require(tws_buffer_append(&payload, part.data, part.length) == TWS_OK);
    }
    if ((choice & 0x80) != 0) {
        bool end = first >= 0x80 || stream->terms.per_frame;
        require(tws_deflater_add(deflater, tws_buffer_span(&payload), end,
                                 &packed, &err)
                == TWS_OK);
        if (end && !stream->terms.in_takeover) {
            tws_deflater_reset(deflater);
        }
    }
    struct tws_buffer *sent = (choice & 0x80) != 0 ? &packed : &payload;
    struct tws_frame_header header = {
        .fin = first >= 0x80,
        .rsv = first & TWS_RSV1,
        .opcode = first % 16,
        .masked = (stream->choice & ROLE) != 0,
        .key = {0x37, 0xfa, 0x21, 0x3d},
        .length = tws_buffer_length(sent),
    };
    if (tws_opcode_is_control(header.opcode) && header.length > 125) {
        header.length = 125;
    }
    put(stream, bytes, tws_frame_header_encode(&header, bytes));
    size_t start = stream->length;
    put(stream, tws_buffer_data(sent), (size_t)header.length);
    if (header.masked) {
        tws_mask(stream->wire + start, stream->wire + start,
                 (size_t)header.length, header.key, 0);
    }
    tws_buffer_release(&payload);
    tws_buffer_release(&packed);
}

static void
put_frames(struct stream *stream, struct input *input)
{
    struct tws_deflater *deflater =
        tws_deflate_pool_take_deflater(pool, &stream->terms.out);
    require(deflater != NULL);
    stream->length = 0;
    while (input->length > 0) {
        put_frame(stream, input, deflater);
    }
    tws_deflate_pool_give_deflater(pool, deflater);
}

/* Receiving --------------------------------------------------------------- */

struct receiver {
    struct tws_frame_reader reader;
    struct tws_assembler assembler;
    const struct stream *stream;
    bool in_chunks;
    bool chunked; /* a chunk of this message has come */
};

static void
begin_chunks(struct receiver *r)
{
    struct tws_error err;
    require(
        tws_message_stream_begin(&r->assembler, r->stream->limits.size, &err)
        == TWS_OK);
    r->chunked = false;
}

static void
end_message(struct receiver *r, bool text, struct outcome *o)
{
    uint8_t kind = text ? 'T' : 'B';
    if (o->messages == r->stream->discarded) {
        o->length = o->begun;
    }
    else {
        tell(o, &kind, 1);
    }
    o->begun = o->length;
    o->messages++;
}

static void
take_chunk(struct receiver *r, const struct tws_event *event,
           struct outcome *o)
{
    require(r->in_chunks && event->length <= TWS_CHUNK_MAX);
    if (o->messages == r->stream->discarded) {
        tws_message_stream_discard(&r->assembler);
        end_message(r, event->text, o);
        begin_chunks(r);
        return;
    }
    if (event->length == 0) {
        tws_message_stream_end(&r->assembler);
        end_message(r, event->text, o);
        begin_chunks(r);
        return;
    }
    bool some = (r->stream->choice & CONSUME_SOME) != 0 && !event->text;
    size_t length = some ? (event->length + 1) / 2 : event->length;
    require(!event->text || tws_utf8_valid(event->data, length));
    require(!event->ascii || tws_utf8_is_ascii(event->data, length));
    tell(o, event->data, length);
    tws_message_stream_consume(&r->assembler, length);
}

static void
take_event(struct receiver *r, const struct tws_event *event,
           struct outcome *o)
{
    switch (event->type) {
    case TWS_EVENT_TEXT:
        require(tws_utf8_valid(event->data, event->length));
        require(tws_utf8_is_ascii(event->data, event->length) == event->ascii);
        /* fall through */
    case TWS_EVENT_BINARY:
        require(!r->in_chunks && event->length <= r->stream->limits.size);
        tell(o, event->data, event->length);
        end_message(r, event->type == TWS_EVENT_TEXT, o);
        break;
    case TWS_EVENT_CHUNK:
        take_chunk(r, event, o);
        break;
    default: /* a control frame passes between them */
        require(event->type != TWS_EVENT_FRAME);
        break;
    }
}

/* Memory is of what may be kept, whatever it inflates to. */
static void
check_memory(const struct receiver *r, size_t arrived)
{
    const struct tws_assembler *assembler = &r->assembler;
    size_t most =
        4 * arrived + 2 * (size_t)r->stream->limits.size + 4 * TWS_CHUNK_MAX;
    require(assembler->message.capacity <= most);
    require(assembler->control.capacity <= 256);
    require(assembler->waiting || assembler->packed.memory == NULL);
}

static void
give(struct receiver *r, const uint8_t *data, size_t length, struct outcome *o)
{
    uint8_t *copy = exact_begin(data, length);
    struct tws_input input = {.data = copy, .length = length};
    struct tws_error err;
    do {
        struct tws_event event;
        (void)tws_receive_is_heavy(&r->reader, &r->assembler, &input);
        o->status = tws_receive(&r->reader, &r->assembler, &r->stream->limits,
                                &input, &event, &err);
        if (o->status == TWS_OK) {
            take_event(r, &event, o);
        }
    } while (o->status == TWS_OK);
    if (o->status == TWS_PROTOCOL) {
        require(err.reason[0] != '\0');
        o->close_code = err.close_code;
    }
    else {
        require(o->status == TWS_AGAIN && input.length == 0);
    }
    exact_end(copy);
}

static void
give_direct(struct receiver *r, const uint8_t *data, size_t length,
            uint8_t *room, struct outcome *o)
{
    struct tws_event event;
    struct tws_error err;
    memcpy(room, data, length);
    o->status =
        tws_receive_direct(&r->reader, &r->assembler, &r->stream->limits, room,
                           length, &event, &err);
    if (o->status == TWS_OK) {
        take_event(r, &event, o);
        o->status = TWS_AGAIN;
    }
    else if (o->status == TWS_PROTOCOL) {
        o->close_code = err.close_code;
    }
}

static void
receive(const struct stream *stream, bool in_chunks, size_t step,
        struct outcome *o)
{
    struct receiver r = {.stream = stream, .in_chunks = in_chunks};
    struct tws_compression *compression = NULL;
    size_t at = 0;
    tws_frame_reader_init(
        &r.reader, (stream->choice & ROLE) != 0 ? TWS_SERVER : TWS_CLIENT);
    if ((stream->choice & COMPRESSED) != 0) {
        compression = tws_compression_new(&stream->terms, pool);
        require(compression != NULL);
        r.assembler.compression = compression;
    }
    r.reader.rsv_allowed = compression != NULL ? TWS_RSV1 : 0;
    o->status = TWS_AGAIN;
    o->messages = 0;
    o->begun = o->length = 0;
    if (in_chunks) {
        begin_chunks(&r);
    }
    while (at < stream->length && o->status == TWS_AGAIN) {
        size_t left = stream->length - at;
        size_t part = left < step ? left : step;
        uint8_t *room;
        size_t size;
        if ((stream->choice & DIRECT) != 0
            && tws_receive_room(&r.reader, &r.assembler, &room, &size)) {
            part = part < size ? part : size;
            give_direct(&r, stream->wire + at, part, room, o);
        }
        else {
            give(&r, stream->wire + at, part, o);
        }
        at += part;
        if (o->status == TWS_AGAIN) {
            check_memory(&r, at);
        }
    }
    if (o->status == TWS_AGAIN) {
        give(&r, NULL, 0, o);
    }
    tws_assembler_release(&r.assembler);
    tws_compression_free(compression);
}

static void
check_same(const struct stream *stream, const struct outcome *whole,
           const struct outcome *parts)
{
    bool good = whole->status == TWS_AGAIN;
    if (stream->discarded != NOBODY && !good && whole->close_code == 1009) {
        return; /* what is discarded has no limit */
    }
    require(whole->status == parts->status);
    if (!good) {
        /* Which comes first depends on how much is inflated at a time. */
        bool either =
            (stream->choice & COMPRESSED) != 0
            && (whole->close_code == 1007 || whole->close_code == 1009)
            && (parts->close_code == 1007 || parts->close_code == 1009);
        require(whole->close_code == parts->close_code || either);
    }
    require(whole->begun == parts->begun);
    require(memcmp(whole->told, parts->told, whole->begun) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t sizes[] = {0, 10, 200, 5000};
    static struct stream stream;
    static struct outcome whole;
    static struct outcome other;
    struct input input = {.data = data, .length = size};
    if (size < HEAD || size > LONGEST) {
        return 0;
    }
    if (pool == NULL) {
        pool = tws_deflate_pool_new();
        require(pool != NULL);
    }
    stream.choice = input_byte(&input);
    uint8_t step = input_byte(&input);
    uint8_t discarded = input_byte(&input);
    stream.discarded = NOBODY;
    stream.limits.size = sizes[(stream.choice & LIMIT) >> 4];
    stream.limits.fragments = UINT32_MAX;
    bool takeover = (stream.choice & TAKEOVER) != 0;
    stream.terms = (struct tws_compression_terms){
        .out = {.window_bits = 9, .mem_level = 1, .level = 1},
        .in_window_bits = 9,
        .per_frame = (stream.choice & PER_FRAME) != 0,
        .out_takeover = takeover,
        .in_takeover = takeover,
    };
    put_frames(&stream, &input);
    receive(&stream, false, SIZE_MAX, &whole);
    receive(&stream, false, step % 32 + 1U, &other);
    check_same(&stream, &whole, &other);
    receive(&stream, true, SIZE_MAX, &other);
    check_same(&stream, &whole, &other);
    receive(&stream, true, step / 8 + 1U, &other);
    check_same(&stream, &whole, &other);
    if (discarded < 4) {
        stream.discarded = discarded;
        receive(&stream, false, SIZE_MAX, &whole);
        receive(&stream, true, step + 1U, &other);
        check_same(&stream, &whole, &other);
    }
    return 0;
}
