#include "protocol/utf8.h"

#include "guard.h"
#include "harness.h"

/* The reference works on code points (RFC 3629 §3): the bytes at hand of a
 * character leave a range of code points open, and the text is possible
 * while that range holds one that is encoded in that many bytes. */

struct verdict {
    size_t possible; /* bytes before the first impossible one */
    unsigned needed; /* continuation bytes to come after them */
};

static unsigned
character_size(uint8_t lead)
{
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xc0) {
        return 0;
    }
    if (lead < 0xe0) {
        return 2;
    }
    if (lead < 0xf0) {
        return 3;
    }
    return lead < 0xf8 ? 4 : 0;
}

static bool
is_open(uint32_t low, uint32_t high, unsigned size)
{
    static const uint32_t first[] = {0, 0, 0x80, 0x800, 0x10000};
    static const uint32_t last[] = {0, 0x7f, 0x7ff, 0xffff, 0x10ffff};
    if (low < first[size]) {
        low = first[size];
    }
    if (high > last[size]) {
        high = last[size];
    }
    if (low >= 0xd800 && low <= 0xdfff) {
        low = 0xe000;
    }
    if (high >= 0xd800 && high <= 0xdfff) {
        high = 0xd7ff;
    }
    return low <= high;
}

static struct verdict
judge(const uint8_t *data, size_t length)
{
    size_t i = 0;
    while (i < length) {
        unsigned size = character_size(data[i]);
        if (size == 0) {
            return (struct verdict){.possible = i};
        }
        uint32_t value = size == 1 ? data[i] : data[i] & (0x7fu >> size);
        for (unsigned k = 1; k <= size; k++) {
            unsigned open_bits = 6 * (size - k);
            uint32_t low = value << open_bits;
            uint32_t high = low | ((1u << open_bits) - 1);
            if (!is_open(low, high, size)) {
                return (struct verdict){.possible = i + k - 1};
            }
            if (k == size) {
                break;
            }
            if (i + k == length) {
                return (struct verdict){length, size - k};
            }
            if ((data[i + k] & 0xc0) != 0x80) {
                return (struct verdict){.possible = i + k};
            }
            value = value << 6 | (data[i + k] & 0x3f);
        }
        i += size;
    }
    return (struct verdict){.possible = length};
}

/* Compares everything there is to compare for one input. */
static void
check(const uint8_t *data, size_t length)
{
    struct verdict expected = judge(data, length);
    bool possible = expected.possible == length;
    bool whole = possible && expected.needed == 0;
    CHECK_INT(tws_utf8_valid(data, length), whole);

    struct tws_utf8 state = {0};
    size_t fed = 0;
    while (fed < length && tws_utf8_feed(&state, data + fed, 1)) {
        fed++;
    }
    CHECK_INT(fed, expected.possible);
    if (possible) {
        CHECK_INT(state.needed, expected.needed);
        CHECK_INT(tws_utf8_complete(&state), whole);
    }

    for (size_t cut = 0; cut <= length; cut++) {
        state = (struct tws_utf8){0};
        bool first = tws_utf8_feed(&state, data, cut);
        CHECK_INT(first, cut <= expected.possible);
        if (first) {
            CHECK_INT(tws_utf8_feed(&state, data + cut, length - cut),
                      possible);
        }
        if (first && possible) {
            CHECK_INT(state.needed, expected.needed);
        }
    }
}

/* The ends of every range that the grammar of RFC 3629 §4 tells apart. */
static const uint8_t borders[] = {
    0x00, 0x01, 0x7f, 0x80, 0x81, 0x8f, 0x90, 0x91, 0x9f, 0xa0, 0xa1, 0xbf,
    0xc0, 0xc1, 0xc2, 0xc3, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0,
    0xf1, 0xf3, 0xf4, 0xf5, 0xf7, 0xf8, 0xfb, 0xfc, 0xfd, 0xfe, 0xff,
};
enum { BORDERS = sizeof(borders) };

TEST(the_empty_text)
{
    struct tws_utf8 state = {0};
    CHECK(tws_utf8_valid(NULL, 0));
    CHECK(tws_utf8_is_ascii(NULL, 0));
    CHECK(tws_utf8_feed(&state, NULL, 0));
    CHECK(tws_utf8_complete(&state));
}

TEST(every_sequence_of_one_and_two_bytes)
{
    for (unsigned first = 0; first < 256; first++) {
        uint8_t bytes[2] = {(uint8_t)first, 0};
        check(bytes, 1);
        for (unsigned second = 0; second < 256; second++) {
            bytes[1] = (uint8_t)second;
            check(bytes, 2);
        }
    }
}

TEST(sequences_of_three_border_bytes)
{
    for (unsigned i = 0; i < BORDERS * BORDERS * BORDERS; i++) {
        uint8_t bytes[3] = {borders[i % BORDERS],
                            borders[i / BORDERS % BORDERS],
                            borders[i / BORDERS / BORDERS]};
        check(bytes, sizeof(bytes));
    }
}

TEST(sequences_of_four_border_bytes)
{
    for (unsigned i = 0; i < BORDERS * BORDERS * BORDERS * BORDERS; i++) {
        uint8_t bytes[4] = {borders[i % BORDERS],
                            borders[i / BORDERS % BORDERS],
                            borders[i / BORDERS / BORDERS % BORDERS],
                            borders[i / BORDERS / BORDERS / BORDERS]};
        check(bytes, sizeof(bytes));
    }
}

/* Long texts are looked at many bytes at a time. */
TEST(four_border_bytes_inside_a_long_text)
{
    enum { LENGTH = 100 };
    uint8_t text[LENGTH];
    memset(text, 'a', sizeof(text));
    for (unsigned i = 0; i < BORDERS * BORDERS * BORDERS * BORDERS; i++) {
        uint8_t bytes[4] = {borders[i % BORDERS],
                            borders[i / BORDERS % BORDERS],
                            borders[i / BORDERS / BORDERS % BORDERS],
                            borders[i / BORDERS / BORDERS / BORDERS]};
        size_t at = i % (LENGTH - sizeof(bytes) + 1);
        struct verdict expected = judge(bytes, sizeof(bytes));
        memcpy(text + at, bytes, sizeof(bytes));
        if (tws_utf8_valid(text, LENGTH)
            != (expected.possible == sizeof(bytes) && expected.needed == 0)) {
            CHECK_INT(i, -1);
            return;
        }
        memset(text + at, 'a', sizeof(bytes));
    }
}

static size_t
encode(uint32_t value, uint8_t *out)
{
    if (value < 0x80) {
        out[0] = (uint8_t)value;
        return 1;
    }
    if (value < 0x800) {
        out[0] = (uint8_t)(0xc0 | value >> 6);
        out[1] = (uint8_t)(0x80 | (value & 0x3f));
        return 2;
    }
    if (value < 0x10000) {
        out[0] = (uint8_t)(0xe0 | value >> 12);
        out[1] = (uint8_t)(0x80 | (value >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (value & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | value >> 18);
    out[1] = (uint8_t)(0x80 | (value >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (value >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (value & 0x3f));
    return 4;
}

TEST(every_code_point)
{
    for (uint32_t value = 0; value < 0x200000; value++) {
        uint8_t bytes[4];
        size_t length = encode(value, bytes);
        bool surrogate = value >= 0xd800 && value <= 0xdfff;
        CHECK_INT(tws_utf8_valid(bytes, length),
                  value <= 0x10ffff && !surrogate);
    }
}

/* Valid and invalid alike, to be placed inside longer texts. */
static const char *const samples[] = {
    "\x7f",
    "\xc2\x80",
    "\xdf\xbf",
    "\xe0\xa0\x80",
    "\xed\x9f\xbf",
    "\xee\x80\x80",
    "\xef\xbf\xbf",
    "\xf0\x90\x80\x80",
    "\xf4\x8f\xbf\xbf",
    "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
    "\x80",
    "\xbf",
    "\xc0\xaf",
    "\xc1\xbf",
    "\xc3",
    "\xc3\xa9\xa9",
    "\xe0\x9f\xbf",
    "\xe2\x82",
    "\xe2\x28\xa1",
    "\xed\xa0\x80",
    "\xf0\x8f\xbf\xbf",
    "\xf0\x9f\x98",
    "\xf0\x9f\x98\xc3",
    "\xf4\x90\x80\x80",
    "\xf5\x80\x80\x80",
    "\xfe",
    "\xff",
};

/* At every place of a word and of a block of words, with text behind it that
 * is too short for a word or is not, so that all paths meet each sample. */
TEST(samples_inside_longer_text)
{
    static const size_t behind[] = {0, 1, 3, 7, 8, 13, 40};
    for (size_t s = 0; s < TWS_ARRAY_SIZE(samples); s++) {
        for (size_t before = 0; before <= 48; before++) {
            for (size_t b = 0; b < TWS_ARRAY_SIZE(behind); b++) {
                uint8_t text[128];
                size_t size = strlen(samples[s]);
                memset(text, 'a', sizeof(text));
                memcpy(text + before, samples[s], size);
                check(text, before + size + behind[b]);
            }
        }
    }
}

/* Pseudo-random mixtures of samples, three of four of the valid ones. */
TEST(mixed_texts)
{
    unsigned seed = 1;
    for (unsigned round = 0; round < 3000; round++) {
        uint8_t text[200];
        size_t length = 0;
        while (length < 100 + round % 60) {
            seed = seed * 1664525u + 1013904223u;
            size_t pick = (seed >> 24) % 10;
            if ((seed >> 8) % 64 == 0) {
                pick = (seed >> 16) % TWS_ARRAY_SIZE(samples);
            }
            size_t size = strlen(samples[pick]);
            memcpy(text + length, samples[pick], size);
            length += size;
            memset(text + length, 'b', seed >> 30);
            length += seed >> 30;
        }
        check(text, length);
    }
}

TEST(one_high_byte_in_ascii)
{
    uint8_t text[140];
    memset(text, 0x7f, sizeof(text));
    for (size_t length = 0; length <= sizeof(text); length++) {
        CHECK(tws_utf8_is_ascii(text, length));
        for (size_t at = 0; at < length; at++) {
            text[at] = at % 2 == 0 ? 0x80 : 0xff;
            CHECK(!tws_utf8_is_ascii(text, length));
            CHECK(!tws_utf8_valid(text, length));
            text[at] = 0x7f;
        }
    }
}

TEST(nothing_behind_the_input_is_read)
{
    for (size_t length = 0; length <= 140; length++) {
        for (size_t s = 0; s < 10; s++) {
            uint8_t text[140];
            size_t size = strlen(samples[s]);
            memset(text, 'a', sizeof(text));
            if (size <= length) {
                memcpy(text + length - size, samples[s], size);
            }
            struct guard input = guard_copy(text, length);
            struct tws_utf8 state = {0};
            CHECK(tws_utf8_valid(input.data, length));
            CHECK(tws_utf8_feed(&state, input.data, length));
            CHECK_INT(tws_utf8_is_ascii(input.data, length),
                      s == 0 || size > length);
            guard_free(&input);
        }
    }
}

RUN(T(the_empty_text), T(every_sequence_of_one_and_two_bytes),
    T(sequences_of_three_border_bytes), T(sequences_of_four_border_bytes),
    T(four_border_bytes_inside_a_long_text), T(every_code_point),
    T(samples_inside_longer_text), T(mixed_texts), T(one_high_byte_in_ascii),
    T(nothing_behind_the_input_is_read))
