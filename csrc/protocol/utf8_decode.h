/* From UTF-8 (RFC 3629) that is known to be valid to an array with an element
 * for each character. Nothing is checked here: utf8.h does that. */
#ifndef TWS_PROTOCOL_UTF8_DECODE_H
#define TWS_PROTOCOL_UTF8_DECODE_H

#include "protocol/base.h"

/* How many characters there are. *highest is the highest of the bytes, which
 * tells what the highest character needs: below 80 all are ASCII, below C4
 * they fit into a byte each (up to U+00FF), below F0 into two (U+FFFF), else
 * into four. */
size_t tws_utf8_count(const uint8_t *data, size_t length, uint8_t *highest);

/* Puts each character into an element of `size` bytes (1, 2 or 4, enough for
 * the highest, in the machine's order). There must be as many elements as
 * tws_utf8_count() says. */
void tws_utf8_decode(void *characters, unsigned size, const uint8_t *data,
                     size_t length);

#endif /* TWS_PROTOCOL_UTF8_DECODE_H */
