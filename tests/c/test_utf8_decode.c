/* Texts are made of characters, so that what they must become again is known.
 * Both the wide way, where the processor has one, and the narrow one. */
#include "../../csrc/protocol/utf8_decode.c"

#include "guard.h"
#include "harness.h"

enum { MOST = 600 };

struct text {
    uint32_t characters[MOST];
    size_t count;
    uint8_t utf8[4 * MOST];
    size_t length;
    uint32_t highest;
};

static void
add(struct text *text, uint32_t c)
{
    uint8_t *p = text->utf8 + text->length;
    if (c < 0x80) {
        p[0] = (uint8_t)c;
        text->length += 1;
    }
    else if (c < 0x800) {
        p[0] = (uint8_t)(0xc0 | c >> 6);
        p[1] = (uint8_t)(0x80 | (c & 0x3f));
        text->length += 2;
    }
    else if (c < 0x10000) {
        p[0] = (uint8_t)(0xe0 | c >> 12);
        p[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        p[2] = (uint8_t)(0x80 | (c & 0x3f));
        text->length += 3;
    }
    else {
        p[0] = (uint8_t)(0xf0 | c >> 18);
        p[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
        p[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        p[3] = (uint8_t)(0x80 | (c & 0x3f));
        text->length += 4;
    }
    text->characters[text->count++] = c;
    text->highest = c > text->highest ? c : text->highest;
}

static unsigned
size_for(uint32_t highest)
{
    return highest < 0x100 ? 1 : highest < 0x10000 ? 2 : 4;
}

static uint32_t
element(const uint8_t *characters, unsigned size, size_t at)
{
    uint8_t byte;
    uint16_t two;
    uint32_t four;
    switch (size) {
    case 1:
        memcpy(&byte, characters + at, 1);
        return byte;
    case 2:
        memcpy(&two, characters + 2 * at, 2);
        return two;
    default:
        memcpy(&four, characters + 4 * at, 4);
        return four;
    }
}

/* Both arrays end where memory does. */
static bool
decodes(const struct text *text, unsigned size, bool narrow)
{
    static const uint8_t nothing[4 * MOST];
    struct guard utf8 = guard_copy(text->utf8, text->length);
    struct guard result = guard_copy(nothing, size * text->count);
    bool good = true;
    if (narrow) {
        decode_rest(result.data, size, 0, utf8.data, 0, text->length);
    }
    else {
        tws_utf8_decode(result.data, size, utf8.data, text->length);
    }
    for (size_t i = 0; i < text->count; i++) {
        good = good && element(result.data, size, i) == text->characters[i];
    }
    guard_free(&utf8);
    guard_free(&result);
    return good;
}

/* In each size that is large enough. */
static bool
is_right(const struct text *text)
{
    uint8_t highest;
    struct guard utf8 = guard_copy(text->utf8, text->length);
    bool good =
        tws_utf8_count(utf8.data, text->length, &highest) == text->count;
    guard_free(&utf8);
    good =
        good
        && (highest < 0x80   ? text->highest < 0x80
            : highest < 0xc4 ? text->highest >= 0x80 && text->highest < 0x100
            : highest < 0xf0
                ? text->highest >= 0x100 && text->highest < 0x10000
                : text->highest >= 0x10000);
    for (unsigned size = size_for(text->highest); size <= 4; size *= 2) {
        good = good && decodes(text, size, true) && decodes(text, size, false);
    }
    return good;
}

TEST(every_character)
{
    bool good = true;
    struct text text = {0};
    for (uint32_t c = 1; c <= 0x10ffff; c++) {
        if (c >= 0xd800 && c <= 0xdfff) {
            continue; /* surrogates are no characters */
        }
        add(&text, c);
        if (text.count == MOST || c == 0x10ffff || c == 0x7f || c == 0xff
            || c == 0xffff) {
            good = good && is_right(&text);
            text = (struct text){0};
        }
    }
    CHECK(good);
}

static uint32_t
next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(*state >> 33);
}

TEST(every_length_of_every_alphabet)
{
    static const uint32_t alphabets[][6] = {
        {'a', 'b', '0', ' ', 0x7f, 1},
        {'a', 'b', 'c', 'd', 0xe4, 0xff},
        {0x80, 0xff, 0xc0, 0xbf, 0xe9, 'e'},
        {0x416, 0x7ff, 0x100, ' ', 0x430, 0x80},
        {0x4e16, 0x754c, 0x20ac, 0x800, 0xffff, 0xe000},
        {'a', 0xfc, 0x416, 0x4e16, 0x1f30d, 0x10ffff},
        {0x10000, 0x1f30d, 0x10ffff, 0x1f600, 0x20000, 0xf0000},
    };
    uint64_t state = 1;
    for (size_t i = 0; i < TWS_ARRAY_SIZE(alphabets); i++) {
        bool good = true;
        for (size_t count = 0; good && count <= 300;
             count += count < 100 ? 1 : harness_step(7)) {
            struct text text = {0};
            while (text.count < count) {
                add(&text, alphabets[i][next_random(&state) % 6]);
            }
            good = is_right(&text);
        }
        CHECK(good);
    }
}

/* A character of each length at each place of a block, the rest is ASCII. */
TEST(a_character_at_every_place)
{
    static const uint32_t characters[] = {0x80, 0xff, 0x7ff, 0xffff, 0x10ffff};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(characters); i++) {
        bool good = true;
        for (size_t place = 0; good && place < 200; place++) {
            struct text text = {0};
            for (size_t at = 0; at < 200; at++) {
                add(&text,
                    at == place ? characters[i] : 'a' + (uint32_t)at % 26);
            }
            good = is_right(&text);
        }
        CHECK(good);
    }
}

RUN(T(every_character), T(every_length_of_every_alphabet),
    T(a_character_at_every_place))
