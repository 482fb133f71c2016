/* Incremental UTF-8 validation (RFC 3629; RFC 6455 §8.1). Refuses overlong
 * forms, surrogates and anything above U+10FFFF, at the first byte that
 * can't be part of valid text, however the input is split. */
#ifndef TWS_PROTOCOL_UTF8_H
#define TWS_PROTOCOL_UTF8_H

#include "protocol/base.h"

/* A zeroed struct stands between two characters. */
struct tws_utf8 {
    uint8_t needed; /* continuation bytes still to come, 0-3 */
    uint8_t low;    /* lowest and highest value the next one may have, */
    uint8_t high;   /* meaningful while needed > 0 */
};

/* True while everything fed so far can be the beginning of valid text.
 * After false the state is meaningless. */
bool tws_utf8_feed(struct tws_utf8 *state, const uint8_t *data, size_t length);

/* True when the text may end here. */
static inline bool
tws_utf8_complete(const struct tws_utf8 *state)
{
    return state->needed == 0;
}

/* A whole text at once. */
bool tws_utf8_valid(const uint8_t *data, size_t length);

/* True when all bytes are below 0x80. */
bool tws_utf8_is_ascii(const uint8_t *data, size_t length);

#endif /* TWS_PROTOCOL_UTF8_H */
