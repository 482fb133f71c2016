#include "protocol/mask.h"

/* Words and vectors move through memcpy, which compiles to plain loads and
 * stores at any alignment. The vector type (of gcc and clang) is lowered to
 * two words where the processor has nothing wider; left to find vectors in
 * a loop of words, the compilers spill them or don't. */
typedef uint64_t vector __attribute__((vector_size(16)));

enum {
    VECTOR = sizeof(vector),
    BLOCK = 4 * VECTOR,
};

#define NOT_ASCII UINT64_C(0x8080808080808080)

static inline uint32_t
load32(const uint8_t *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

static inline void
store32(uint8_t *p, uint32_t word)
{
    memcpy(p, &word, sizeof(word));
}

static inline uint64_t
load64(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

static inline void
store64(uint8_t *p, uint64_t word)
{
    memcpy(p, &word, sizeof(word));
}

static inline vector
load_vector(const uint8_t *p)
{
    vector v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline void
store_vector(uint8_t *p, vector v)
{
    memcpy(p, &v, sizeof(v));
}

/* The key as it stands in memory `bytes` further on. */
static inline uint32_t
rotate(uint32_t key, uint64_t bytes)
{
    unsigned bits = (unsigned)(bytes % 4) * 8;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return key << bits | key >> (-bits & 31);
#else
    return key >> bits | key << (-bits & 31);
#endif
}

/* The key twice and four times over: the same in either byte order. */
static inline uint64_t
widen(uint32_t key)
{
    return (uint64_t)key << 32 | key;
}

static inline vector
widen_vector(uint32_t key)
{
    return (vector){widen(key), widen(key)};
}

/* All three below return the resulting bytes ORed together, at no particular
 * position. A piece of the end may overlap what comes before it, so it is
 * read before anything is written: masking in place masks no byte twice. */

/* Fewer than 16 bytes. */
static inline uint64_t
mask_short(uint8_t *dst, const uint8_t *src, size_t length, uint32_t key)
{
    if (length >= sizeof(uint64_t)) {
        size_t end = length - sizeof(uint64_t);
        uint64_t head = load64(src) ^ widen(key);
        uint64_t tail = load64(src + end) ^ widen(rotate(key, end));
        store64(dst, head);
        store64(dst + end, tail);
        return head | tail;
    }
    if (length >= sizeof(uint32_t)) {
        size_t end = length - sizeof(uint32_t);
        uint32_t head = load32(src) ^ key;
        uint32_t tail = load32(src + end) ^ rotate(key, end);
        store32(dst, head);
        store32(dst + end, tail);
        return head | tail;
    }
    uint8_t bytes[sizeof(key)];
    uint64_t seen = 0;
    memcpy(bytes, &key, sizeof(key));
    for (size_t i = 0; i < length; i++) {
        dst[i] = src[i] ^ bytes[i];
        seen |= dst[i];
    }
    return seen;
}

/* 16 bytes and more. */
static inline uint64_t
mask_long(uint8_t *dst, const uint8_t *src, size_t length, uint32_t key32)
{
    size_t end = length - VECTOR;
    vector tail = load_vector(src + end) ^ widen_vector(rotate(key32, end));
    vector key = widen_vector(key32);
    vector seen = tail;
    size_t i = 0;
    for (; length - i >= BLOCK; i += BLOCK) {
        vector a = load_vector(src + i) ^ key;
        vector b = load_vector(src + i + VECTOR) ^ key;
        vector c = load_vector(src + i + (size_t)2 * VECTOR) ^ key;
        vector d = load_vector(src + i + (size_t)3 * VECTOR) ^ key;
        store_vector(dst + i, a);
        store_vector(dst + i + VECTOR, b);
        store_vector(dst + i + (size_t)2 * VECTOR, c);
        store_vector(dst + i + (size_t)3 * VECTOR, d);
        seen |= (a | b) | (c | d);
    }
    for (; i < end; i += VECTOR) {
        vector v = load_vector(src + i) ^ key;
        store_vector(dst + i, v);
        seen |= v;
    }
    store_vector(dst + end, tail);
    return seen[0] | seen[1];
}

static inline uint64_t
mask(uint8_t *dst, const uint8_t *src, size_t length, const uint8_t key[4],
     uint64_t offset)
{
    uint32_t key32 = rotate(load32(key), offset);
    return length < VECTOR ? mask_short(dst, src, length, key32)
                           : mask_long(dst, src, length, key32);
}

void
tws_mask(uint8_t *dst, const uint8_t *src, size_t length, const uint8_t key[4],
         uint64_t offset)
{
    (void)mask(dst, src, length, key, offset);
}

bool
tws_mask_ascii(uint8_t *dst, const uint8_t *src, size_t length,
               const uint8_t key[4], uint64_t offset)
{
    return (mask(dst, src, length, key, offset) & NOT_ASCII) == 0;
}
