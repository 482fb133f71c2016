#include "protocol/utf8_decode.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define WIDE 1
#include <immintrin.h>
#endif

static inline bool
begins_character(uint8_t byte)
{
    return (byte & 0xc0) != 0x80;
}

static inline void
put(void *characters, unsigned size, size_t at, uint32_t character)
{
    switch (size) {
    case 1:
        ((uint8_t *)characters)[at] = (uint8_t)character;
        break;
    case 2:
        ((uint16_t *)characters)[at] = (uint16_t)character;
        break;
    default:
        ((uint32_t *)characters)[at] = character;
        break;
    }
}

/* Returns its length. */
static inline size_t
decode_one(const uint8_t *p, uint32_t *character)
{
    uint32_t lead = p[0];
    if (lead < 0x80) {
        *character = lead;
        return 1;
    }
    if (lead < 0xe0) {
        *character = (lead & 0x1f) << 6 | (p[1] & 0x3fu);
        return 2;
    }
    if (lead < 0xf0) {
        *character =
            (lead & 0x0f) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
        return 3;
    }
    *character = (lead & 0x07) << 18 | (p[1] & 0x3fu) << 12
                 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
    return 4;
}

/* From the character that begins at `i` on, which is number `at`. */
static inline void
decode_rest(void *characters, unsigned size, size_t at, const uint8_t *data,
            size_t i, size_t length)
{
    while (i < length) {
        uint32_t character;
        i += decode_one(data + i, &character);
        put(characters, size, at++, character);
    }
}

#ifdef WIDE

/* 64 bytes at a time: one comparison tells where characters begin, and each is
 * then picked out by itself, so that no step waits for the length of the
 * character before, which texts of several alphabets make impossible to
 * predict. */
enum {
    WIDTH = 16,
    BLOCK = 4 * WIDTH,
    /* Behind a block there are four characters at least, of four bytes each:
     * so much may be read, and written, too far. */
    WIDE_MIN = BLOCK + 4 * 4,
};

/* Which bits of a character's bytes, the first one uppermost, are its number;
 * by the upper half of the first byte. No character begins with 8 to B. */
#define ONE_BYTE 0x7f000000u
#define TWO_BYTES 0x1f3f0000u
static const uint32_t payload_bits[16] = {
    ONE_BYTE,  ONE_BYTE,  ONE_BYTE,    ONE_BYTE,    ONE_BYTE, ONE_BYTE,
    ONE_BYTE,  ONE_BYTE,  0,           0,           0,        0,
    TWO_BYTES, TWO_BYTES, 0x0f3f3f00u, 0x073f3f3fu,
};

static inline __m128i
load(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline uint64_t
mask_of(__m128i a, __m128i b, __m128i c, __m128i d)
{
    return (uint64_t)(uint32_t)_mm_movemask_epi8(a)
           | (uint64_t)(uint32_t)_mm_movemask_epi8(b) << WIDTH
           | (uint64_t)(uint32_t)_mm_movemask_epi8(c) << 2 * WIDTH
           | (uint64_t)(uint32_t)_mm_movemask_epi8(d) << 3 * WIDTH;
}

struct block {
    uint64_t begins;    /* where characters do, bit i for byte i */
    uint64_t not_ascii; /* likewise */
};

static inline struct block
look_at(const uint8_t *p)
{
    /* 80 to BF are the lowest as signed numbers. */
    const __m128i last = _mm_set1_epi8((char)0xbf);
    __m128i a = load(p);
    __m128i b = load(p + WIDTH);
    __m128i c = load(p + (size_t)2 * WIDTH);
    __m128i d = load(p + (size_t)3 * WIDTH);
    return (struct block){
        .begins = mask_of(_mm_cmpgt_epi8(a, last), _mm_cmpgt_epi8(b, last),
                          _mm_cmpgt_epi8(c, last), _mm_cmpgt_epi8(d, last)),
        .not_ascii = mask_of(a, b, c, d),
    };
}

static inline void
widen(void *characters, unsigned size, size_t at, const uint8_t *p)
{
    for (size_t i = 0; i < BLOCK; i++) {
        put(characters, size, at + i, p[i]);
    }
}

/* The one that begins at the lowest bit. */
__attribute__((target("bmi,bmi2,popcnt"))) static inline uint32_t
pick_one(const uint8_t *p, uint64_t begins)
{
    uint32_t bytes;
    memcpy(&bytes, p + _tzcnt_u64(begins), sizeof(bytes));
    bytes = __builtin_bswap32(bytes);
    return _pext_u32(bytes, payload_bits[bytes >> 28]);
}

/* Four by four, of which up to three may be none: what they leave behind, the
 * next ones overwrite. */
__attribute__((target("bmi,bmi2,popcnt"))) static inline void
pick_out(void *characters, unsigned size, size_t at, const uint8_t *p,
         uint64_t begins)
{
    do {
        put(characters, size, at, pick_one(p, begins));
        begins &= begins - 1;
        put(characters, size, at + 1, pick_one(p, begins));
        begins &= begins - 1;
        put(characters, size, at + 2, pick_one(p, begins));
        begins &= begins - 1;
        put(characters, size, at + 3, pick_one(p, begins));
        begins &= begins - 1;
        at += 4;
    } while (begins != 0);
}

/* All but the end. */
__attribute__((target("bmi,bmi2,popcnt"))) static inline size_t
decode_blocks_to(void *characters, unsigned size, const uint8_t *data,
                 size_t length, size_t *used)
{
    size_t i = 0;
    size_t at = 0;
    for (; length - i >= WIDE_MIN; i += BLOCK) {
        struct block block = look_at(data + i);
        if (block.not_ascii == 0) {
            widen(characters, size, at, data + i);
            at += BLOCK;
        }
        else {
            pick_out(characters, size, at, data + i, block.begins);
            at += (size_t)__builtin_popcountll(block.begins);
        }
    }
    *used = i;
    return at;
}

/* Returns how many characters; *used says how many bytes they were, up to
 * three of which may be missing of the last of them. One loop for each size.
 */
__attribute__((target("bmi,bmi2,popcnt"))) static size_t
decode_blocks(void *characters, unsigned size, const uint8_t *data,
              size_t length, size_t *used)
{
    switch (size) {
    case 1:
        return decode_blocks_to(characters, 1, data, length, used);
    case 2:
        return decode_blocks_to(characters, 2, data, length, used);
    default:
        return decode_blocks_to(characters, 4, data, length, used);
    }
}

/* Zen 1 and 2 have the instruction, but take hundreds of cycles for it. */
static bool
picks_fast(void)
{
    return __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")
           && __builtin_cpu_supports("popcnt") && !__builtin_cpu_is("znver1")
           && !__builtin_cpu_is("znver2");
}

static size_t
count_wide(const uint8_t *data, size_t length, uint8_t *highest,
           size_t *characters)
{
    __m128i top = _mm_setzero_si128();
    size_t i = 0;
    size_t count = 0;
    for (; length - i >= BLOCK; i += BLOCK) {
        const __m128i last = _mm_set1_epi8((char)0xbf);
        __m128i a = load(data + i);
        __m128i b = load(data + i + WIDTH);
        __m128i c = load(data + i + (size_t)2 * WIDTH);
        __m128i d = load(data + i + (size_t)3 * WIDTH);
        __m128i begin = _mm_add_epi8(
            _mm_add_epi8(_mm_cmpgt_epi8(a, last), _mm_cmpgt_epi8(b, last)),
            _mm_add_epi8(_mm_cmpgt_epi8(c, last), _mm_cmpgt_epi8(d, last)));
        /* Each byte is minus a count of up to 4. */
        __m128i sums = _mm_sad_epu8(_mm_sub_epi8(_mm_setzero_si128(), begin),
                                    _mm_setzero_si128());
        count += (size_t)_mm_extract_epi16(sums, 0)
                 + (size_t)_mm_extract_epi16(sums, 4);
        top = _mm_max_epu8(
            top, _mm_max_epu8(_mm_max_epu8(a, b), _mm_max_epu8(c, d)));
    }
    uint8_t tops[WIDTH];
    memcpy(tops, &top, sizeof(tops));
    for (size_t j = 0; j < WIDTH; j++) {
        *highest = tops[j] > *highest ? tops[j] : *highest;
    }
    *characters = count;
    return i;
}

#endif

size_t
tws_utf8_count(const uint8_t *data, size_t length, uint8_t *highest)
{
    size_t i = 0;
    size_t count = 0;
    uint8_t top = 0;
#ifdef WIDE
    i = count_wide(data, length, &top, &count);
#endif
    for (; i < length; i++) {
        count += begins_character(data[i]);
        top = data[i] > top ? data[i] : top;
    }
    *highest = top;
    return count;
}

void
tws_utf8_decode(void *characters, unsigned size, const uint8_t *data,
                size_t length)
{
    size_t i = 0;
    size_t at = 0;
#ifdef WIDE
    if (length >= WIDE_MIN && picks_fast()) {
        at = decode_blocks(characters, size, data, length, &i);
        while (i < length && !begins_character(data[i])) {
            i++;
        }
    }
#endif
    decode_rest(characters, size, at, data, i, length);
}
