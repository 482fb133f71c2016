#include "protocol/frame.h"

#include "guard.h"
#include "harness.h"

enum { ANY_ROLE = -1 };

static const uint8_t key[4] = {0x11, 0xa2, 0x33, 0xf4};

struct outcome {
    enum tws_status status;
    struct tws_frame_header header;
    size_t consumed;
    struct tws_error err;
};

static struct outcome
decode(const uint8_t *data, size_t length, int role, uint8_t rsv_allowed)
{
    struct outcome o;
    struct tws_frame_claims claims = {.rsv = rsv_allowed};
    memset(&o, 0x5a, sizeof(o));
    o.status =
        role == ANY_ROLE
            ? tws_frame_header_decode_any(data, length, claims, &o.header,
                                          &o.consumed, &o.err)
            : tws_frame_header_decode(data, length, (enum tws_role)role,
                                      claims, &o.header, &o.consumed, &o.err);
    return o;
}

static bool
is_stale(const void *memory, size_t size)
{
    const uint8_t *bytes = memory;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0x5a) {
            return false;
        }
    }
    return true;
}

/* The contract of every status but OK: results and, unless the peer broke
 * the protocol, the error are left alone. */
static void
check_outcome(const struct outcome *o)
{
    if (o->status != TWS_OK) {
        CHECK(is_stale(&o->header, sizeof(o->header)));
        CHECK(is_stale(&o->consumed, sizeof(o->consumed)));
    }
    if (o->status != TWS_PROTOCOL) {
        CHECK(is_stale(&o->err, sizeof(o->err)));
    }
    else {
        CHECK_INT(o->err.status, TWS_PROTOCOL);
        CHECK_INT(o->err.close_code, 1002);
        CHECK(strstr(o->err.reason, "got ") != NULL);
        CHECK(strstr(o->err.reason, "expected ") != NULL);
        CHECK(strlen(o->err.reason) < sizeof(o->err.reason) - 1);
    }
}

/* How many bytes of the header show that it is wrong; 0 where it is not. */
static size_t
wrong_after(const uint8_t *h, int role, uint8_t rsv_allowed)
{
    static const char known[16] = {1, 1, 1, 0, 0, 0, 0, 0,
                                   1, 1, 1, 0, 0, 0, 0, 0};
    bool control = (h[0] & 0x0f) >= 8;
    bool masked = h[1] >= 0x80;
    unsigned length7 = h[1] % 0x80;
    if (!known[h[0] & 0x0f] || (h[0] & 0x70 & ~rsv_allowed) != 0
        || (control && h[0] < 0x80)) {
        return 1;
    }
    if ((role == TWS_SERVER && !masked) || (role == TWS_CLIENT && masked)
        || (control && length7 >= 126)) {
        return 2;
    }
    if (length7 == 126 && h[2] == 0 && h[3] < 126) {
        return 4;
    }
    if (length7 == 127 && h[2] >= 0x80) {
        return 3;
    }
    if (length7 == 127 && h[2] + h[3] + h[4] + h[5] + h[6] + h[7] == 0) {
        return 8;
    }
    return 0;
}

static size_t
header_size(const uint8_t *h)
{
    unsigned length7 = h[1] % 0x80;
    size_t extended = length7 == 126 ? 2 : length7 == 127 ? 8 : 0;
    return 2 + extended + (h[1] >= 0x80 ? 4 : 0);
}

/* Every truncation of one header, for one receiver. */
static void
check_truncations(const uint8_t *h, int role, uint8_t rsv_allowed)
{
    size_t wrong = wrong_after(h, role, rsv_allowed);
    size_t size = header_size(h);
    for (size_t length = 0; length <= TWS_FRAME_HEADER_MAX; length++) {
        enum tws_status expected = length >= size ? TWS_OK : TWS_AGAIN;
        if (wrong != 0 && length >= wrong) {
            expected = TWS_PROTOCOL;
        }
        if (wrong != 0 && length > wrong && length < TWS_FRAME_HEADER_MAX) {
            continue;
        }
        struct outcome o = decode(h, length, role, rsv_allowed);
        CHECK_INT(o.status, expected);
        check_outcome(&o);
        if (o.status == TWS_OK) {
            CHECK_INT(o.consumed, size);
            CHECK_INT(o.header.fin, h[0] >= 0x80);
            CHECK_INT(o.header.rsv, h[0] & 0x70);
            CHECK_INT(o.header.opcode, h[0] & 0x0f);
            CHECK_INT(o.header.masked, h[1] >= 0x80);
        }
    }
}

TEST(every_first_byte)
{
    static const uint8_t seconds[] = {0, 1, 124, 125, 126, 127};
    static const uint8_t rest[][8] = {
        {0, 0, 0, 0, 0, 0, 0, 0},
        {0, 125, 0, 0, 0, 0, 0, 1},
        {0, 126, 0, 0, 0, 0, 0, 0},
        {0, 0, 0, 0, 0, 0, 0xff, 0xff},
        {0, 0, 0, 0, 0, 1, 0, 0},
        {0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
        {0x80, 0, 0, 0, 0, 0, 0, 0},
        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
    };
    static const uint8_t allowed[] = {0, TWS_RSV1, TWS_RSV2 | TWS_RSV3,
                                      TWS_RSV};
    for (unsigned first = 0; first < 256; first += harness_step(5)) {
        for (size_t i = 0; i < 2 * TWS_ARRAY_SIZE(seconds); i++) {
            for (size_t j = 0; j < TWS_ARRAY_SIZE(rest); j++) {
                uint8_t h[TWS_FRAME_HEADER_MAX] = {
                    (uint8_t)first,
                    (uint8_t)(seconds[i / 2] | (i % 2 == 1 ? 0x80 : 0)),
                };
                memcpy(h + 2, rest[j], sizeof(rest[j]));
                memcpy(h + 10, key, sizeof(key));
                for (size_t k = 0; k < TWS_ARRAY_SIZE(allowed); k++) {
                    check_truncations(h, TWS_SERVER, allowed[k]);
                    check_truncations(h, TWS_CLIENT, allowed[k]);
                    check_truncations(h, ANY_ROLE, allowed[k]);
                }
            }
        }
    }
}

/* All 65536 headers of two bytes. */
TEST(every_first_two_bytes)
{
    for (unsigned i = 0; i < 0x10000; i++) {
        uint8_t h[TWS_FRAME_HEADER_MAX] = {(uint8_t)(i >> 8), (uint8_t)i};
        memset(h + 2, 0x01, sizeof(h) - 2);
        check_truncations(h, i % 2 == 0 ? TWS_SERVER : TWS_CLIENT, 0);
    }
}

struct length_case {
    uint64_t length;
    size_t size;
    const char *wire; /* from the second byte on, unmasked */
};

static const struct length_case lengths[] = {
    {0, 2, "\x00"},
    {1, 2, "\x01"},
    {125, 2, "\x7d"},
    {126, 4, "\x7e\x00\x7e"},
    {127, 4, "\x7e\x00\x7f"},
    {255, 4, "\x7e\x00\xff"},
    {256, 4, "\x7e\x01\x00"},
    {65535, 4, "\x7e\xff\xff"},
    {65536, 10, "\x7f\x00\x00\x00\x00\x00\x01\x00\x00"},
    {UINT64_C(1) << 32, 10, "\x7f\x00\x00\x00\x01\x00\x00\x00\x00"},
    {UINT64_C(0x0123456789abcdef), 10, "\x7f\x01\x23\x45\x67\x89\xab\xcd\xef"},
    {INT64_MAX, 10, "\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"},
};

TEST(lengths_on_the_wire)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(lengths); i++) {
        const struct length_case *c = &lengths[i];
        uint8_t wire[TWS_FRAME_HEADER_MAX] = {TWS_FIN | TWS_OPCODE_BINARY};
        uint8_t out[TWS_FRAME_HEADER_MAX];
        struct tws_frame_header header = {
            .length = c->length,
            .opcode = TWS_OPCODE_BINARY,
            .fin = true,
        };
        memcpy(wire + 1, c->wire, c->size - 1);
        CHECK_INT(tws_frame_header_encode(&header, out), c->size);
        CHECK(memcmp(out, wire, c->size) == 0);
        struct outcome o = decode(wire, c->size, TWS_CLIENT, 0);
        CHECK_INT(o.status, TWS_OK);
        CHECK(o.header.length == c->length);
        CHECK_INT(o.consumed, c->size);

        header.masked = true;
        memcpy(header.key, key, sizeof(key));
        wire[1] |= 0x80;
        memcpy(wire + c->size, key, sizeof(key));
        CHECK_INT(tws_frame_header_encode(&header, out), c->size + 4);
        CHECK(memcmp(out, wire, c->size + 4) == 0);
        o = decode(wire, c->size + 4, TWS_SERVER, 0);
        CHECK_INT(o.status, TWS_OK);
        CHECK(o.header.length == c->length);
        CHECK_INT(o.consumed, c->size + 4);
        CHECK(memcmp(o.header.key, key, sizeof(key)) == 0);
    }
}

static void
check_error(const char *wire, size_t length, int role, const char *text)
{
    struct guard input = guard_copy(wire, length);
    struct outcome o = decode(input.data, length, role, 0);
    CHECK_INT(o.status, TWS_PROTOCOL);
    check_outcome(&o);
    CHECK(strstr(o.err.reason, text) != NULL);
    /* One byte less does not show it yet. */
    o = decode((const uint8_t *)wire, length - 1, role, 0);
    CHECK_INT(o.status, TWS_AGAIN);
    check_outcome(&o);
    guard_free(&input);
}

TEST(errors_come_with_the_first_byte_that_shows_them)
{
    check_error("\x83", 1, TWS_SERVER, "reserved opcode 0x3");
    check_error("\x8f", 1, TWS_SERVER, "reserved opcode 0xf");
    check_error("\xc1", 1, TWS_SERVER, "rsv1=1 rsv2=0 rsv3=0");
    check_error("\xa2", 1, TWS_CLIENT, "rsv1=0 rsv2=1 rsv3=0");
    check_error("\x90", 1, TWS_CLIENT, "rsv1=0 rsv2=0 rsv3=1");
    check_error("\x09", 1, TWS_SERVER, "fragmented control frame");
    check_error("\x81\x05", 2, TWS_SERVER, "unmasked frame from the client");
    check_error("\x81\x85", 2, TWS_CLIENT, "masked frame from the server");
    check_error("\x89\x7e", 2, TWS_CLIENT, "over 125 bytes");
    check_error("\x88\xff", 2, TWS_SERVER, "over 125 bytes");
    check_error("\x82\x7e\x00\x7d", 4, TWS_CLIENT, "length 125 in 16 bits");
    check_error("\x82\xfe\x00\x00", 4, TWS_SERVER, "length 0 in 16 bits");
    check_error("\x82\x7f\x80", 3, TWS_CLIENT, "top bit");
    check_error("\x82\x7f\x00\x00\x00\x00\x00\x00", 8, TWS_CLIENT,
                "below 65536 in 64 bits");
}

TEST(lengths_past_the_top)
{
    uint8_t wire[10] = {0x82, 0x7f, 0x80};
    struct outcome o = decode(wire, sizeof(wire), TWS_CLIENT, 0);
    CHECK_INT(o.status, TWS_PROTOCOL);
    CHECK(strstr(o.err.reason, "2^63") != NULL);
    memset(wire + 2, 0xff, 8);
    o = decode(wire, sizeof(wire), TWS_CLIENT, 0);
    CHECK_INT(o.status, TWS_PROTOCOL);
    wire[2] = 0x7f;
    o = decode(wire, sizeof(wire), TWS_CLIENT, 0);
    CHECK_INT(o.status, TWS_OK);
    CHECK(o.header.length == INT64_MAX);
}

/* What one role must send, the other must not. */
TEST(masking_is_the_clients)
{
    static const char unmasked[] = "\x81\x05";
    static const char masked[] = "\x81\x85\x01\x02\x03\x04";
    const uint8_t *plain = (const uint8_t *)unmasked;
    const uint8_t *secret = (const uint8_t *)masked;
    CHECK_INT(decode(plain, 2, TWS_CLIENT, 0).status, TWS_OK);
    CHECK_INT(decode(plain, 2, TWS_SERVER, 0).status, TWS_PROTOCOL);
    CHECK_INT(decode(plain, 2, ANY_ROLE, 0).status, TWS_OK);
    CHECK_INT(decode(secret, 6, TWS_SERVER, 0).status, TWS_OK);
    CHECK_INT(decode(secret, 6, TWS_CLIENT, 0).status, TWS_PROTOCOL);
    CHECK_INT(decode(secret, 6, ANY_ROLE, 0).status, TWS_OK);
}

TEST(encoded_headers_read_back)
{
    static const uint8_t opcodes[] = {0, 1, 2, 8, 9, 10};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(opcodes); i++) {
        for (size_t j = 0; j < TWS_ARRAY_SIZE(lengths); j++) {
            for (unsigned bits = 0; bits < 32; bits++) {
                bool control = opcodes[i] >= 8;
                struct tws_frame_header header = {
                    .length = lengths[j].length,
                    .opcode = opcodes[i],
                    .rsv = (uint8_t)(bits << 4 & TWS_RSV),
                    .fin = control || (bits & 8) != 0,
                    .masked = (bits & 16) != 0,
                };
                if (control && header.length > 125) {
                    continue;
                }
                if (header.masked) {
                    memcpy(header.key, key, sizeof(key));
                }
                uint8_t out[TWS_FRAME_HEADER_MAX];
                size_t size = tws_frame_header_encode(&header, out);
                struct guard input = guard_copy(out, size);
                struct outcome o =
                    decode(input.data, size,
                           header.masked ? TWS_SERVER : TWS_CLIENT, TWS_RSV);
                CHECK_INT(o.status, TWS_OK);
                CHECK_INT(o.consumed, size);
                CHECK(o.header.length == header.length);
                CHECK_INT(o.header.opcode, header.opcode);
                CHECK_INT(o.header.rsv, header.rsv);
                CHECK_INT(o.header.fin, header.fin);
                CHECK_INT(o.header.masked, header.masked);
                CHECK(memcmp(o.header.key, header.key, sizeof(key)) == 0);
                guard_free(&input);
            }
        }
    }
}

/* No byte behind the input is read, whatever the header promises. */
TEST(truncated_headers_at_a_guard_page)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(lengths); i++) {
        struct tws_frame_header header = {
            .length = lengths[i].length,
            .opcode = TWS_OPCODE_TEXT,
            .fin = true,
            .masked = true,
        };
        uint8_t out[TWS_FRAME_HEADER_MAX];
        size_t size = tws_frame_header_encode(&header, out);
        for (size_t length = 0; length <= size; length++) {
            struct guard input = guard_copy(out, length);
            struct outcome o = decode(input.data, length, TWS_SERVER, 0);
            CHECK_INT(o.status, length < size ? TWS_AGAIN : TWS_OK);
            check_outcome(&o);
            guard_free(&input);
        }
    }
}

RUN(T(every_first_byte), T(every_first_two_bytes), T(lengths_on_the_wire),
    T(errors_come_with_the_first_byte_that_shows_them),
    T(lengths_past_the_top), T(masking_is_the_clients),
    T(encoded_headers_read_back), T(truncated_headers_at_a_guard_page))
