/* Frame headers and frames, against a decoder that looks at one rule after
 * the other: whole, at every prefix, cut at every place, and byte by byte.
 * The first bytes say who reads and what extensions have claimed. */
#include "input.h"
#include "protocol/frame_reader.h"
#include "protocol/mask.h"

enum { HEAD = 3, LONGEST = 80 };

struct reading {
    enum tws_role role;
    struct tws_frame_claims claims;
    bool any; /* whoever masks */
};

/* The header as far as `length` bytes tell (RFC 6455 §5.2). */
static enum tws_status
decode(const uint8_t *data, size_t length, const struct reading *reading,
       struct tws_frame_header *header, size_t *consumed)
{
    if (length == 0) {
        return TWS_AGAIN;
    }
    header->fin = data[0] >= 0x80;
    header->rsv = data[0] & 0x70;
    header->opcode = data[0] % 16;
    bool known =
        (header->opcode <= 2) || (header->opcode >= 8 && header->opcode <= 10);
    if ((header->rsv & ~reading->claims.rsv & 0x70) != 0) {
        return TWS_PROTOCOL;
    }
    if (!known && (reading->claims.opcodes >> header->opcode) % 2 == 0) {
        return TWS_PROTOCOL;
    }
    if (header->opcode >= 8 && !header->fin) {
        return TWS_PROTOCOL;
    }
    if (length == 1) {
        return TWS_AGAIN;
    }
    header->masked = data[1] >= 0x80;
    header->length = data[1] % 128;
    if (!reading->any && header->masked != (reading->role == TWS_SERVER)) {
        return TWS_PROTOCOL;
    }
    if (header->opcode >= 8 && header->length > 125) {
        return TWS_PROTOCOL;
    }
    size_t more = header->length == 126 ? 2 : header->length == 127 ? 8 : 0;
    if (more > 0) {
        uint64_t value = 0;
        uint64_t most = 0; /* that it may come to be */
        if (more == 8 && length > 2 && data[2] >= 0x80) {
            return TWS_PROTOCOL;
        }
        for (size_t i = 0; i < more; i++) {
            value = value << 8 | (2 + i < length ? data[2 + i] : 0);
            most = most << 8 | (2 + i < length ? data[2 + i] : 0xff);
        }
        if (most < (more == 2 ? 126 : 65536)) {
            return TWS_PROTOCOL; /* not the shortest form */
        }
        if (length < 2 + more) {
            return TWS_AGAIN;
        }
        header->length = value;
    }
    *consumed = 2 + more + (header->masked ? 4 : 0);
    if (length < *consumed) {
        return TWS_AGAIN;
    }
    for (size_t i = 0; i < 4; i++) {
        header->key[i] = header->masked ? data[2 + more + i] : 0;
    }
    return TWS_OK;
}

static void
check_same(const struct tws_frame_header *a, const struct tws_frame_header *b)
{
    require(a->fin == b->fin && a->rsv == b->rsv && a->opcode == b->opcode);
    require(a->length == b->length && a->masked == b->masked);
    require(!a->masked || memcmp(a->key, b->key, 4) == 0);
}

static enum tws_status
decode_real(const uint8_t *data, size_t length, const struct reading *reading,
            struct tws_frame_header *header, size_t *consumed,
            struct tws_error *err)
{
    return reading->any ? tws_frame_header_decode_any(
               data, length, reading->claims, header, consumed, err)
                        : tws_frame_header_decode(data, length, reading->role,
                                                  reading->claims, header,
                                                  consumed, err);
}

/* The header at the front, at every prefix of it. */
static void
check_header(const uint8_t *data, size_t length, const struct reading *reading)
{
    enum tws_status before = TWS_AGAIN;
    for (size_t n = 0; n <= length && n <= TWS_FRAME_HEADER_MAX + 1; n++) {
        struct tws_frame_header expected = {0};
        struct tws_frame_header got;
        struct tws_error err = {0};
        size_t consumed = 0;
        size_t taken = 0;
        uint8_t bytes[TWS_FRAME_HEADER_MAX];
        uint8_t *copy = exact_begin(data, n);
        enum tws_status status = decode(copy, n, reading, &expected, &taken);
        enum tws_status real =
            decode_real(copy, n, reading, &got, &consumed, &err);
        exact_end(copy);
        require(before == TWS_AGAIN || real == before);
        require(real == status);
        if (real == TWS_OK) {
            require(consumed == taken);
            check_same(&got, &expected);
            require(tws_frame_header_encode(&got, bytes) == consumed);
            require(memcmp(bytes, data, consumed) == 0);
        }
        else if (real == TWS_PROTOCOL) {
            require(err.status == TWS_PROTOCOL && err.close_code == 1002);
            require(err.reason[0] != '\0');
        }
        before = real;
    }
}

/* What a reader has made of a stream. */
struct outcome {
    enum tws_status status;
    size_t frames; /* begun */
    size_t length; /* of `told` */
    uint8_t told[2 * LONGEST + 16 * LONGEST];
};

static void
tell(struct outcome *o, const void *data, size_t length)
{
    note_down(o->told, sizeof(o->told), &o->length, data, length);
}

static void
tell_header(struct outcome *o, const struct tws_frame_header *header)
{
    uint8_t bytes[TWS_FRAME_HEADER_MAX];
    tell(o, bytes, tws_frame_header_encode(header, bytes));
    o->frames++;
}

static void
read_simply(const uint8_t *data, size_t length, const struct reading *reading,
            struct outcome *o)
{
    size_t at = 0;
    o->status = TWS_AGAIN;
    for (;;) {
        struct tws_frame_header header = {0};
        size_t consumed;
        o->status =
            decode(data + at, length - at, reading, &header, &consumed);
        if (o->status != TWS_OK) {
            return;
        }
        at += consumed;
        tell_header(o, &header);
        for (uint64_t i = 0; i < header.length; i++) {
            if (at == length) {
                o->status = TWS_AGAIN;
                return;
            }
            uint8_t byte = data[at] ^ header.key[i % 4];
            tell(o, &byte, 1);
            at++;
        }
        tell(o, "|", 1);
    }
}

static void
take_piece(struct outcome *o, const struct tws_piece *piece)
{
    uint8_t plain[LONGEST];
    uint8_t again[LONGEST];
    const struct tws_frame_header *header = piece->header;
    if (piece->first) {
        require(piece->offset == 0);
        tell_header(o, header);
    }
    require(piece->offset + piece->length <= header->length);
    require(piece->last == (piece->offset + piece->length == header->length));
    tws_piece_copy(piece, plain);
    (void)tws_piece_copy_ascii(piece, again);
    require(piece->length == 0 || memcmp(plain, again, piece->length) == 0);
    tell(o, plain, piece->length);
    if (piece->last) {
        tell(o, "|", 1);
    }
}

static void
give(struct tws_frame_reader *reader, const uint8_t *data, size_t length,
     struct outcome *o)
{
    struct tws_piece piece;
    struct tws_error err;
    uint8_t *copy = exact_begin(data, length);
    struct tws_input input = {.data = copy, .length = length};
    do {
        o->status = tws_frame_reader_next(reader, &input, &piece, &err);
        if (o->status == TWS_OK) {
            take_piece(o, &piece);
        }
    } while (o->status == TWS_OK);
    require(o->status == TWS_PROTOCOL || input.length == 0);
    exact_end(copy);
}

/* Payload bytes that go past the input. */
static void
skip(struct tws_frame_reader *reader, const uint8_t *data, size_t length,
     struct outcome *o)
{
    struct tws_piece piece;
    uint8_t *copy = exact_begin(data, length);
    tws_frame_reader_skip(reader, copy, length, &piece);
    require(piece.length == length && !piece.first);
    take_piece(o, &piece);
    o->status = TWS_AGAIN;
    exact_end(copy);
}

/* Two parts, or where `cut` is 0 each byte by itself. */
static void
check_parts(const uint8_t *data, size_t length, size_t cut,
            const struct reading *reading, const struct outcome *expected)
{
    static struct outcome o;
    struct tws_frame_reader reader;
    size_t at = 0;
    tws_frame_reader_init(&reader, reading->role);
    reader.rsv_allowed = reading->claims.rsv;
    reader.opcodes_allowed = reading->claims.opcodes;
    o.status = TWS_AGAIN;
    o.frames = o.length = 0;
    while (at < length && o.status == TWS_AGAIN) {
        size_t part = cut == 0 ? 1 : at == 0 ? cut : length - at;
        if (cut % 2 == 1 && reader.in_payload && reader.left > 0) {
            part = reader.left < part ? (size_t)reader.left : part;
            skip(&reader, data + at, part, &o);
        }
        else {
            give(&reader, data + at, part, &o);
        }
        at += part;
    }
    require(o.status == expected->status && o.frames == expected->frames);
    require(o.length == expected->length);
    require(memcmp(o.told, expected->told, o.length) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome expected;
    struct input input = {.data = data, .length = size};
    if (size < HEAD || size > LONGEST) {
        return 0;
    }
    uint8_t choice = input_byte(&input);
    unsigned opcodes = input_byte(&input);
    opcodes = opcodes << 8 | input_byte(&input);
    struct reading reading = {
        .role = (choice & 1) != 0 ? TWS_SERVER : TWS_CLIENT,
        .any = (choice & 2) != 0,
        .claims = {.rsv = choice & 0x70, .opcodes = (uint16_t)opcodes},
    };
    check_header(input.data, input.length, &reading);
    reading.any = false;
    expected.frames = expected.length = 0;
    read_simply(input.data, input.length, &reading, &expected);
    for (size_t cut = 0; cut <= input.length; cut++) {
        check_parts(input.data, input.length, cut, &reading, &expected);
    }
    return 0;
}
