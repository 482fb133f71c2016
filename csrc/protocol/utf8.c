#include "protocol/utf8.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define WIDE 1
#include <tmmintrin.h>
#endif

/* The validator is an automaton whose states are bit positions: the row of a
 * byte holds the next state of every state s at bits s to s + 5, so that a
 * step is one shift, without a branch that text could mispredict. ERROR is
 * 0: what a row does not mention leads there, and nothing leads out. */
enum {
    STATE_BITS = 6,
    STATE_MASK = (1 << STATE_BITS) - 1,
    ERROR = 0,
    START = 1 * STATE_BITS,    /* between two characters */
    ONE = 2 * STATE_BITS,      /* one continuation byte to come */
    TWO = 3 * STATE_BITS,      /* two */
    THREE = 4 * STATE_BITS,    /* three */
    AFTER_E0 = 5 * STATE_BITS, /* as TWO, but A0-BF: no overlong forms */
    AFTER_ED = 6 * STATE_BITS, /* as TWO, but 80-9F: no surrogates */
    AFTER_F0 = 7 * STATE_BITS, /* as THREE, but 90-BF: no overlong forms */
    AFTER_F4 = 8 * STATE_BITS, /* as THREE, but 80-8F: up to U+10FFFF */
    STATES = 9,
};

#define GO(from, to) ((uint64_t)(to) << (from))

#define CONTINUE (GO(ONE, START) | GO(TWO, ONE) | GO(THREE, TWO))
#define BYTE_00_7F GO(START, START)
#define BYTE_80_8F (CONTINUE | GO(AFTER_ED, ONE) | GO(AFTER_F4, TWO))
#define BYTE_90_9F (CONTINUE | GO(AFTER_ED, ONE) | GO(AFTER_F0, TWO))
#define BYTE_A0_BF (CONTINUE | GO(AFTER_E0, ONE) | GO(AFTER_F0, TWO))
#define LEAD_2 GO(START, ONE)
#define LEAD_3 GO(START, TWO)
#define LEAD_4 GO(START, THREE)

#define X2(row) row, row
#define X4(row) X2(row), X2(row)
#define X8(row) X4(row), X4(row)
#define X16(row) X8(row), X8(row)
#define X32(row) X16(row), X16(row)

/* RFC 3629 §4, by the value of the byte. */
static const uint64_t rows[256] = {
    /* 00-7F */ X32(BYTE_00_7F),
    X32(BYTE_00_7F),
    X32(BYTE_00_7F),
    X32(BYTE_00_7F),
    /* 80-8F */ X16(BYTE_80_8F),
    /* 90-9F */ X16(BYTE_90_9F),
    /* A0-BF */ X32(BYTE_A0_BF),
    /* C0-C1 */ X2(ERROR),
    /* C2-DF */ X2(LEAD_2),
    X4(LEAD_2),
    X8(LEAD_2),
    X16(LEAD_2),
    /* E0 */ GO(START, AFTER_E0),
    /* E1-EC */ X4(LEAD_3),
    X8(LEAD_3),
    /* ED */ GO(START, AFTER_ED),
    /* EE-EF */ X2(LEAD_3),
    /* F0 */ GO(START, AFTER_F0),
    /* F1-F3 */ LEAD_4,
    X2(LEAD_4),
    /* F4 */ GO(START, AFTER_F4),
    /* F5-FF */ ERROR,
    X2(ERROR),
    X8(ERROR),
};

/* The states as the caller keeps them, in the order of the enum. */
static const struct tws_utf8 kept[STATES] = {
    [ERROR / STATE_BITS] = {0},
    [START / STATE_BITS] = {0},
    [ONE / STATE_BITS] = {1, 0x80, 0xbf},
    [TWO / STATE_BITS] = {2, 0x80, 0xbf},
    [THREE / STATE_BITS] = {3, 0x80, 0xbf},
    [AFTER_E0 / STATE_BITS] = {2, 0xa0, 0xbf},
    [AFTER_ED / STATE_BITS] = {2, 0x80, 0x9f},
    [AFTER_F0 / STATE_BITS] = {3, 0x90, 0xbf},
    [AFTER_F4 / STATE_BITS] = {3, 0x80, 0x8f},
};

static uint64_t
resume(const struct tws_utf8 *state)
{
    if (state->needed == 0) {
        return START;
    }
    for (unsigned i = ONE / STATE_BITS; i < STATES; i++) {
        if (state->needed == kept[i].needed && state->low == kept[i].low
            && state->high == kept[i].high) {
            return (uint64_t)i * STATE_BITS;
        }
    }
    return ERROR;
}

enum {
    WORD = sizeof(uint64_t),
    BLOCK = 4 * WORD,
};

#define NOT_ASCII UINT64_C(0x8080808080808080)

static inline uint64_t
load64(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

static inline bool
word_is_ascii(const uint8_t *p)
{
    return (load64(p) & NOT_ASCII) == 0;
}

static inline bool
block_is_ascii(const uint8_t *p)
{
    uint64_t seen = load64(p) | load64(p + WORD) | load64(p + (size_t)2 * WORD)
                    | load64(p + (size_t)3 * WORD);
    return (seen & NOT_ASCII) == 0;
}

/* How many whole words at the front are ASCII, in bytes. */
static inline size_t
skip_ascii(const uint8_t *data, size_t length)
{
    size_t i = 0;
    while (length - i >= BLOCK && block_is_ascii(data + i)) {
        i += BLOCK;
    }
    while (length - i >= WORD && word_is_ascii(data + i)) {
        i += WORD;
    }
    return i;
}

static inline uint64_t
step(uint64_t state, uint8_t byte)
{
    return rows[byte] >> (state & STATE_MASK);
}

#ifdef WIDE

/* The same sixteen bytes at a time, where the processor has SSSE3: J. Keiser
 * and D. Lemire, "Validating UTF-8 In Less Than One Instruction Per Byte",
 * 2021. What is wrong about two bytes in a row shows in three of their four
 * halves; each table tells what a half allows to be wrong. */
enum {
    TOO_SHORT = 1 << 0, /* a lead byte or ASCII where a continuation must be */
    TOO_LONG = 1 << 1,  /* ASCII before a continuation */
    OVERLONG_3 = 1 << 2,  /* E0 80-9F */
    TOO_LARGE = 1 << 3,   /* F4 90-BF, F5-FF 90-BF */
    SURROGATE = 1 << 4,   /* ED A0-BF */
    OVERLONG_2 = 1 << 5,  /* C0-C1 80-BF */
    OVERLONG_4 = 1 << 6,  /* F0 80-8F */
    TOO_LARGE_8 = 1 << 6, /* F5-FF 80-8F */
    TWO_CONTINUATIONS = 1 << 7,
    CARRIED = TOO_SHORT | TOO_LONG | TWO_CONTINUATIONS,
    WIDTH = 16,
    WIDE_MIN = 64, /* bytes from which on it is worth it */
};

struct wide {
    __m128i previous;
    __m128i wrong;
};

__attribute__((target("ssse3"))) static inline __m128i
look_up_halves(__m128i now, __m128i before)
{
    const __m128i low_half = _mm_set1_epi8(0x0f);
    const __m128i first_high = _mm_setr_epi8(
        TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG,
        TOO_LONG, (char)TWO_CONTINUATIONS, (char)TWO_CONTINUATIONS,
        (char)TWO_CONTINUATIONS, (char)TWO_CONTINUATIONS,
        TOO_SHORT | OVERLONG_2, TOO_SHORT, TOO_SHORT | OVERLONG_3 | SURROGATE,
        TOO_SHORT | TOO_LARGE | TOO_LARGE_8 | OVERLONG_4);
    const char large = (char)(CARRIED | TOO_LARGE | TOO_LARGE_8);
    const __m128i first_low = _mm_setr_epi8(
        (char)(CARRIED | OVERLONG_3 | OVERLONG_2 | OVERLONG_4),
        (char)(CARRIED | OVERLONG_2), (char)CARRIED, (char)CARRIED,
        (char)(CARRIED | TOO_LARGE), large, large, large, large, large, large,
        large, large, (char)(large | SURROGATE), large, large);
    const char both = (char)(TOO_LONG | OVERLONG_2 | TWO_CONTINUATIONS);
    const __m128i second_high =
        _mm_setr_epi8(TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
                      TOO_SHORT, TOO_SHORT, TOO_SHORT,
                      (char)(both | OVERLONG_3 | TOO_LARGE_8 | OVERLONG_4),
                      (char)(both | OVERLONG_3 | TOO_LARGE),
                      (char)(both | SURROGATE | TOO_LARGE),
                      (char)(both | SURROGATE | TOO_LARGE), TOO_SHORT,
                      TOO_SHORT, TOO_SHORT, TOO_SHORT);
    __m128i a = _mm_shuffle_epi8(
        first_high, _mm_and_si128(_mm_srli_epi16(before, 4), low_half));
    __m128i b = _mm_shuffle_epi8(first_low, _mm_and_si128(before, low_half));
    __m128i c = _mm_shuffle_epi8(
        second_high, _mm_and_si128(_mm_srli_epi16(now, 4), low_half));
    return _mm_and_si128(_mm_and_si128(a, b), c);
}

__attribute__((target("ssse3"))) static inline void
feed_wide(struct wide *wide, __m128i now)
{
    __m128i one = _mm_alignr_epi8(now, wide->previous, WIDTH - 1);
    __m128i two = _mm_alignr_epi8(now, wide->previous, WIDTH - 2);
    __m128i three = _mm_alignr_epi8(now, wide->previous, WIDTH - 3);
    __m128i special = look_up_halves(now, one);
    /* After the lead of three two bytes before, or that of four three before,
     * a second continuation in a row must be, and nowhere else. */
    __m128i third = _mm_subs_epu8(two, _mm_set1_epi8(0xe0 - 0x80));
    __m128i fourth = _mm_subs_epu8(three, _mm_set1_epi8(0xf0 - 0x80));
    __m128i must =
        _mm_and_si128(_mm_or_si128(third, fourth), _mm_set1_epi8((char)0x80));
    wide->wrong = _mm_or_si128(wide->wrong, _mm_xor_si128(must, special));
    wide->previous = now;
}

__attribute__((target("ssse3"))) static inline __m128i
load_wide(const uint8_t *p)
{
    __m128i bytes;
    memcpy(&bytes, p, sizeof(bytes));
    return bytes;
}

/* A text that begins between two characters; one that is unfinished at its end
 * is not valid. */
__attribute__((target("ssse3"))) static bool
valid_wide(const uint8_t *data, size_t length)
{
    struct wide wide = {_mm_setzero_si128(), _mm_setzero_si128()};
    uint8_t last[WIDTH] = {0};
    size_t i = 0;
    for (; length - i >= WIDTH; i += WIDTH) {
        feed_wide(&wide, load_wide(data + i));
    }
    /* With zeros behind it, one at least. */
    memcpy(last, data + i, length - i);
    feed_wide(&wide, load_wide(last));
    return _mm_movemask_epi8(_mm_cmpeq_epi8(wide.wrong, _mm_setzero_si128()))
           == 0xffff;
}

/* How much at the front of a text that begins between two characters is valid,
 * as far as that can be told quickly: 0 or nearly all of it. */
static size_t
skip_valid(const uint8_t *data, size_t length)
{
    size_t end = length;
    if (length < WIDE_MIN || !__builtin_cpu_supports("ssse3")) {
        return 0;
    }
    /* The last character may be unfinished. */
    for (size_t back = 1; back <= 3; back++) {
        if (data[length - back] >= 0xc0) {
            end = length - back;
            break;
        }
    }
    return valid_wide(data, end) ? end : 0;
}

#else

static size_t
skip_valid(const uint8_t *data, size_t length)
{
    (void)data;
    (void)length;
    return 0;
}

#endif

bool
tws_utf8_feed(struct tws_utf8 *state, const uint8_t *data, size_t length)
{
    uint64_t at = resume(state);
    size_t i = at == START ? skip_valid(data, length) : 0;
    while (length - i >= WORD) {
        if ((at & STATE_MASK) == START) {
            i += skip_ascii(data + i, length - i);
            if (length - i < WORD) {
                break;
            }
        }
        for (size_t j = 0; j < WORD; j++) {
            at = step(at, data[i + j]);
        }
        if ((at & STATE_MASK) == ERROR) {
            return false;
        }
        i += WORD;
    }
    for (; i < length; i++) {
        at = step(at, data[i]);
    }
    *state = kept[(at & STATE_MASK) / STATE_BITS];
    return (at & STATE_MASK) != ERROR;
}

bool
tws_utf8_valid(const uint8_t *data, size_t length)
{
    struct tws_utf8 state = {0};
    return tws_utf8_feed(&state, data, length) && tws_utf8_complete(&state);
}

bool
tws_utf8_is_ascii(const uint8_t *data, size_t length)
{
    size_t i = 0;
    if (length >= WORD) {
        i = skip_ascii(data, length);
        /* A word that is left is one that is not ASCII. */
        return length - i < WORD && word_is_ascii(data + length - WORD);
    }
    uint8_t seen = 0;
    for (; i < length; i++) {
        seen |= data[i];
    }
    return seen < 0x80;
}
