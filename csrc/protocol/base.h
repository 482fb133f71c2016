/* Small helpers every file of the core may use: spans, sizes, big-endian
 * words. No state, no allocation. */
#ifndef TWS_PROTOCOL_BASE_H
#define TWS_PROTOCOL_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TWS_ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#if defined(__GNUC__) || defined(__clang__)
#define TWS_LIKELY(x) __builtin_expect(!!(x), 1)
#define TWS_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define TWS_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define TWS_LIKELY(x) (x)
#define TWS_UNLIKELY(x) (x)
#define TWS_PRINTF(format, first)
#endif

/* Which end of the connection this is: decides who masks (RFC 6455 §5.1). */
enum tws_role {
    TWS_CLIENT,
    TWS_SERVER,
};

/* Text that belongs to somebody else: no terminating NUL. `data` is borrowed
 * from the buffer named by the function that made the span. */
struct tws_span {
    const char *data;
    size_t length;
};

/* A span over a string literal. */
#define TWS_SPAN(literal)                                                     \
    ((struct tws_span){.data = (literal), .length = sizeof(literal) - 1})

static inline bool
tws_span_equal(struct tws_span a, struct tws_span b)
{
    return a.length == b.length
           && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

/* Drops `length` bytes at the front; at most what is there. */
static inline void
tws_span_advance(struct tws_span *text, size_t length)
{
    text->data += length;
    text->length -= length;
}

/* ASCII case folding only: HTTP names are ASCII (RFC 9110 §5.1). */
static inline char
tws_ascii_lower(char c)
{
    if (c >= 'A' && c <= 'Z') {
        c = (char)(c | 0x20);
    }
    return c;
}

static inline bool
tws_span_equal_nocase(struct tws_span a, struct tws_span b)
{
    if (a.length != b.length) {
        return false;
    }
    for (size_t i = 0; i < a.length; i++) {
        if (tws_ascii_lower(a.data[i]) != tws_ascii_lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

static inline uint16_t
tws_load_be16(const uint8_t *p)
{
    return (uint16_t)((uint16_t)p[0] << 8 | p[1]);
}

static inline uint64_t
tws_load_be64(const uint8_t *p)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

static inline void
tws_store_be16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static inline void
tws_store_be64(uint8_t *p, uint64_t value)
{
    for (int i = 7; i >= 0; i--) {
        p[i] = (uint8_t)value;
        value >>= 8;
    }
}

#endif /* TWS_PROTOCOL_BASE_H */
