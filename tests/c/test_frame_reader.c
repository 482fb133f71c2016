#include "protocol/frame_reader.h"

#include "guard.h"
#include "harness.h"

static const uint8_t key[4] = {0x11, 0xa2, 0x33, 0xf4};

struct frame {
    unsigned first; /* byte on the wire */
    uint64_t length;
};

static const struct frame frames[] = {
    {0x81, 5},     {0x82, 0},   {0x01, 3},     {0x89, 0}, {0x00, 0},
    {0x8a, 125},   {0x80, 126}, {0x02, 125},   {0x80, 1}, {0x81, 127},
    {0x82, 300},   {0x88, 2},   {0x82, 0},     {0x81, 0}, {0x82, 65535},
    {0x82, 65536}, {0x89, 125}, {0x81, 70000},
};

/* The first of them can be cut at every place. */
enum { SMALL = 14, ALL = TWS_ARRAY_SIZE(frames) };

static uint8_t
payload_byte(size_t frame, uint64_t position)
{
    return (uint8_t)(frame * 31 + position * 7 + position / 253);
}

static size_t
put_header(uint8_t *out, unsigned first, uint64_t length, bool masked)
{
    struct tws_frame_header header = {
        .length = length,
        .opcode = first & 0x0f,
        .rsv = first & TWS_RSV,
        .fin = (first & TWS_FIN) != 0,
        .masked = masked,
    };
    memcpy(header.key, key, sizeof(key));
    return tws_frame_header_encode(&header, out);
}

/* The frames on the wire. The caller frees them. */
static uint8_t *
new_stream(size_t count, bool masked, size_t *length)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size += TWS_FRAME_HEADER_MAX + (size_t)frames[i].length;
    }
    uint8_t *stream = malloc(size);
    if (stream == NULL) {
        abort();
    }
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        at +=
            put_header(stream + at, frames[i].first, frames[i].length, masked);
        for (uint64_t j = 0; j < frames[i].length; j++) {
            stream[at++] =
                (uint8_t)(payload_byte(i, j) ^ (masked ? key[j % 4] : 0));
        }
    }
    *length = at;
    return stream;
}

/* What came of the frames so far. */
struct progress {
    struct tws_frame_reader reader;
    size_t frame;
    uint64_t position; /* in its payload */
    bool begun;
};

/* True where the piece is what comes next. */
static bool
takes(struct progress *p, const struct tws_piece *piece)
{
    const struct frame *frame = &frames[p->frame];
    bool good = piece->header == &p->reader.header
                && piece->header->length == frame->length
                && piece->header->opcode == (frame->first & 0x0f)
                && piece->header->fin == (frame->first >= 0x80)
                && piece->first == !p->begun && piece->offset == p->position
                && piece->length <= frame->length - p->position;
    uint8_t *copy = malloc(piece->length + 1);
    if (copy == NULL || !good) {
        free(copy);
        return false;
    }
    tws_piece_copy(piece, copy);
    for (size_t i = 0; i < piece->length; i++) {
        good = good && copy[i] == payload_byte(p->frame, p->position + i);
    }
    tws_piece_copy(piece, piece->data);
    good = good && memcmp(piece->data, copy, piece->length) == 0;
    free(copy);
    p->begun = true;
    p->position += piece->length;
    good = good && piece->last == (p->position == frame->length);
    if (piece->last) {
        p->frame++;
        p->position = 0;
        p->begun = false;
    }
    return good && p->reader.in_payload == p->begun;
}

/* Gives one part of the stream, in memory of its own that ends there. */
static bool
give(struct progress *p, const uint8_t *data, size_t length, size_t count)
{
    struct guard copy = guard_copy(data, length);
    struct tws_input input = {.data = copy.data, .length = length};
    struct tws_piece piece;
    struct tws_error err;
    enum tws_status status;
    bool good = true;
    do {
        uint8_t *before = input.data;
        memset(&piece, 0x5a, sizeof(piece));
        status = tws_frame_reader_next(&p->reader, &input, &piece, &err);
        good = input.data + input.length == copy.data + length;
        if (status == TWS_OK) {
            good = good && p->frame < count && piece.data >= before
                   && piece.data + piece.length == input.data
                   && takes(p, &piece);
        }
    } while (good && status == TWS_OK);
    guard_free(&copy);
    return good && status == TWS_AGAIN && input.length == 0;
}

static bool
give_cut(const uint8_t *stream, size_t length, enum tws_role role,
         const size_t *cuts, size_t cut_count, size_t count)
{
    struct progress p = {.frame = 0};
    bool good = true;
    size_t at = 0;
    tws_frame_reader_init(&p.reader, role);
    for (size_t i = 0; good && i <= cut_count; i++) {
        size_t end = i < cut_count ? cuts[i] : length;
        good = give(&p, stream + at, end - at, count);
        at = end;
    }
    return good && p.frame == count && !p.begun;
}

TEST(small_frames_cut_at_every_place)
{
    for (int role = 0; role < 2; role++) {
        size_t length;
        uint8_t *stream = new_stream(SMALL, role == TWS_SERVER, &length);
        size_t *cuts = calloc(length, sizeof(*cuts));
        bool good =
            cuts != NULL
            && give_cut(stream, length, (enum tws_role)role, NULL, 0, SMALL);
        for (size_t n = 1; good && n < length; n += harness_step(3)) {
            good = give_cut(stream, length, (enum tws_role)role, &n, 1, SMALL);
        }
        for (size_t step = 1; good && step <= 16; step++) {
            size_t cut_count = 0;
            for (size_t n = step; n < length; n += step) {
                cuts[cut_count++] = n;
            }
            good = give_cut(stream, length, (enum tws_role)role, cuts,
                            cut_count, SMALL);
        }
        CHECK(good);
        free(cuts);
        free(stream);
    }
}

TEST(large_frames_cut_around_their_borders)
{
    for (int role = 0; role < 2; role++) {
        size_t length;
        uint8_t *stream = new_stream(ALL, role == TWS_SERVER, &length);
        size_t border = 0;
        bool good = true;
        for (size_t i = 0; good && i < ALL; i++) {
            uint8_t header[TWS_FRAME_HEADER_MAX];
            for (size_t n = border; good && n <= border + 16;
                 n += harness_step(3)) {
                size_t cuts[] = {n, n + 1};
                good = n + 1 > length
                       || give_cut(stream, length, (enum tws_role)role, cuts,
                                   2, ALL);
            }
            border += put_header(header, frames[i].first, frames[i].length,
                                 role == TWS_SERVER)
                      + (size_t)frames[i].length;
        }
        CHECK(good);
        CHECK_INT(border, length);
        free(stream);
    }
}

/* Header by header: each length in its form, and the first piece without a
 * byte of payload. */
TEST(the_first_piece_comes_with_the_header)
{
    static const uint64_t lengths[] = {
        0, 1, 125, 126, 65535, 65536, UINT64_C(1) << 40, INT64_MAX,
    };
    for (size_t i = 0; i < 2 * TWS_ARRAY_SIZE(lengths); i++) {
        uint64_t length = lengths[i / 2];
        bool masked = i % 2 == 1;
        uint8_t wire[TWS_FRAME_HEADER_MAX];
        size_t size = put_header(wire, 0x82, length, masked);
        for (size_t n = 0; n < size; n++) {
            struct tws_frame_reader reader;
            struct guard rest = guard_copy(wire + n, size - n);
            struct tws_input input = {.data = wire, .length = n};
            struct tws_piece piece;
            struct tws_error err;
            memset(&piece, 0x5a, sizeof(piece));
            tws_frame_reader_init(&reader, masked ? TWS_SERVER : TWS_CLIENT);
            CHECK_INT(tws_frame_reader_next(&reader, &input, &piece, &err),
                      TWS_AGAIN);
            CHECK_INT(input.length, 0);
            CHECK_INT(((uint8_t *)&piece)[0], 0x5a);
            input = (struct tws_input){.data = rest.data, .length = size - n};
            CHECK_INT(tws_frame_reader_next(&reader, &input, &piece, &err),
                      TWS_OK);
            CHECK(piece.first && piece.last == (length == 0));
            CHECK_INT(piece.length, 0);
            CHECK_INT(piece.offset, 0);
            CHECK(piece.header->length == length && reader.left == length);
            CHECK_INT(tws_frame_reader_next(&reader, &input, &piece, &err),
                      TWS_AGAIN);
            guard_free(&rest);
        }
    }
}

TEST(no_input)
{
    struct tws_frame_reader reader;
    struct tws_input input = {0};
    struct tws_piece piece;
    struct tws_error err;
    memset(&err, 0x5a, sizeof(err));
    tws_frame_reader_init(&reader, TWS_CLIENT);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(tws_frame_reader_next(&reader, &input, &piece, &err),
                  TWS_AGAIN);
    }
    CHECK_INT(((uint8_t *)&err)[0], 0x5a);
    CHECK(!reader.in_payload && reader.partial_length == 0);
}

/* Bytes of `wire` up to the one that breaks a rule, given one by one and all
 * at once. */
static void
check_broken(const char *wire, size_t length, enum tws_role role)
{
    const size_t sizes[] = {1, length};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(sizes); i++) {
        struct tws_frame_reader reader;
        struct tws_piece piece;
        struct tws_error err;
        size_t at = 0;
        enum tws_status status = TWS_AGAIN;
        memset(&piece, 0x5a, sizeof(piece));
        tws_frame_reader_init(&reader, role);
        while (at < length && status == TWS_AGAIN) {
            struct guard copy = guard_copy(wire + at, sizes[i]);
            struct tws_input input = {.data = copy.data, .length = sizes[i]};
            status = tws_frame_reader_next(&reader, &input, &piece, &err);
            at += sizes[i];
            guard_free(&copy);
        }
        CHECK_INT(status, TWS_PROTOCOL);
        CHECK_INT(at, length);
        CHECK_INT(err.status, TWS_PROTOCOL);
        CHECK_INT(err.close_code, 1002);
        CHECK_INT(((uint8_t *)&piece)[0], 0x5a);
        CHECK(!reader.in_payload);
    }
}

TEST(broken_headers)
{
    check_broken("\x83", 1, TWS_CLIENT);
    check_broken("\xc1", 1, TWS_SERVER);
    check_broken("\x09", 1, TWS_CLIENT);
    check_broken("\x81\x05", 2, TWS_SERVER);
    check_broken("\x81\x85", 2, TWS_CLIENT);
    check_broken("\x8a\xfe", 2, TWS_SERVER);
    check_broken("\x82\x7e\x00\x7d", 4, TWS_CLIENT);
    check_broken("\x82\xff\x80", 3, TWS_SERVER);
    check_broken("\x82\x7f\x00\x00\x00\x00\x00\x00", 8, TWS_CLIENT);
}

TEST(reserved_bits_that_an_extension_claimed)
{
    for (unsigned bits = 0; bits < 8; bits++) {
        for (unsigned allowed = 0; allowed < 8; allowed++) {
            uint8_t wire[] = {(uint8_t)(0x81 | bits << 4), 0};
            struct tws_frame_reader reader;
            struct tws_piece piece;
            struct tws_error err;
            tws_frame_reader_init(&reader, TWS_CLIENT);
            CHECK_INT(reader.rsv_allowed, 0);
            reader.rsv_allowed = (uint8_t)(allowed << 4);
            for (size_t n = 1; n <= 2; n++) {
                struct tws_frame_reader one = reader;
                struct tws_input input = {.data = wire, .length = n};
                enum tws_status expected = n == 2 ? TWS_OK : TWS_AGAIN;
                if ((bits & ~allowed) != 0) {
                    expected = TWS_PROTOCOL;
                }
                CHECK_INT(tws_frame_reader_next(&one, &input, &piece, &err),
                          expected);
                if (expected == TWS_OK) {
                    CHECK_INT(piece.header->rsv, bits << 4);
                }
            }
        }
    }
}

TEST(reserved_opcodes_that_an_extension_claimed)
{
    for (unsigned opcode = 0; opcode < 16; opcode++) {
        for (unsigned claimed = 0; claimed < 16; claimed++) {
            uint8_t wire[] = {(uint8_t)(0x80 | opcode), 0};
            struct tws_frame_reader reader;
            struct tws_piece piece;
            struct tws_error err;
            tws_frame_reader_init(&reader, TWS_CLIENT);
            CHECK_INT(reader.opcodes_allowed, 0);
            reader.opcodes_allowed = (uint16_t)(1U << claimed);
            struct tws_input input = {.data = wire, .length = 2};
            bool known = tws_opcode_is_known(opcode) || opcode == claimed;
            CHECK_INT(tws_frame_reader_next(&reader, &input, &piece, &err),
                      known ? TWS_OK : TWS_PROTOCOL);
            if (known) {
                CHECK_INT(piece.header->opcode, opcode);
            }
        }
    }
}

/* Far into a frame that no test can send: offsets past 32 bits and the place
 * of the key. */
TEST(skipping_far)
{
    uint8_t wire[TWS_FRAME_HEADER_MAX];
    uint64_t length = (UINT64_C(1) << 40) + 7;
    size_t size = put_header(wire, 0x82, length, true);
    struct tws_input input = {.data = wire, .length = size};
    struct tws_frame_reader reader;
    struct tws_piece piece;
    struct tws_error err;
    tws_frame_reader_init(&reader, TWS_SERVER);
    CHECK_INT(tws_frame_reader_next(&reader, &input, &piece, &err), TWS_OK);
    uint64_t position = 0;
    size_t step = (UINT32_C(1) << 31) + 1;
    for (int i = 0; i < 400; i++) {
        tws_frame_reader_skip(&reader, wire, step, &piece);
        CHECK(!piece.first && !piece.last);
        CHECK(piece.offset == position && piece.length == step);
        position += step;
        CHECK(reader.left == length - position);
    }
    uint8_t bytes[] = {0, 0, 0, 0, 0};
    uint8_t copy[sizeof(bytes)];
    input = (struct tws_input){.data = bytes, .length = sizeof(bytes)};
    CHECK_INT(tws_frame_reader_next(&reader, &input, &piece, &err), TWS_OK);
    CHECK(piece.offset == position && piece.header == &reader.header);
    tws_piece_copy(&piece, copy);
    for (size_t i = 0; i < sizeof(copy); i++) {
        CHECK_INT(copy[i], key[(position + i) % 4]);
    }
    tws_frame_reader_skip(&reader, NULL, 0, &piece);
    CHECK(!piece.last && piece.length == 0);
    while (reader.left > 0) {
        uint64_t left = reader.left;
        tws_frame_reader_skip(&reader, wire, left < step ? (size_t)left : step,
                              &piece);
    }
    CHECK(piece.last && !reader.in_payload);
    CHECK(piece.offset + piece.length == length);
}

/* Copies a piece both ways and looks whether both agree. */
static void
check_copy(const struct tws_frame_header *header, const uint8_t *plain,
           size_t length, uint64_t offset)
{
    struct guard data = guard_copy(plain, length);
    struct guard out = guard_copy(plain, length);
    struct tws_piece piece = {.header = header,
                              .data = data.data,
                              .length = length,
                              .offset = offset};
    bool ascii = true;
    for (size_t i = 0; i < length; i++) {
        ascii = ascii && plain[i] < 0x80;
        data.data[i] ^= header->masked ? key[(offset + i) % 4] : 0;
    }
    memset(out.data, 0, length);
    tws_piece_copy(&piece, out.data);
    CHECK(memcmp(out.data, plain, length) == 0);
    memset(out.data, 0, length);
    CHECK_INT(tws_piece_copy_ascii(&piece, out.data), ascii);
    CHECK(memcmp(out.data, plain, length) == 0);
    CHECK_INT(tws_piece_copy_ascii(&piece, data.data), ascii);
    CHECK(memcmp(data.data, plain, length) == 0);
    guard_free(&data);
    guard_free(&out);
}

TEST(copies_know_ascii)
{
    for (size_t length = 0; length < 70; length++) {
        uint8_t plain[70];
        memset(plain, 0x7f, sizeof(plain));
        for (uint64_t offset = 0; offset < 4; offset++) {
            struct tws_frame_header header = {.masked = offset % 2 == 0};
            memcpy(header.key, key, sizeof(key));
            check_copy(&header, plain, length, offset);
            header.masked = !header.masked;
            check_copy(&header, plain, length, offset);
            for (size_t i = 0; i < length; i += 1 + i / 8) {
                plain[i] = 0x80;
                check_copy(&header, plain, length, offset);
                plain[i] = 0x7f;
            }
        }
    }
}

RUN(T(small_frames_cut_at_every_place),
    T(large_frames_cut_around_their_borders),
    T(the_first_piece_comes_with_the_header), T(no_input), T(broken_headers),
    T(reserved_bits_that_an_extension_claimed),
    T(reserved_opcodes_that_an_extension_claimed), T(skipping_far),
    T(copies_know_ascii))
