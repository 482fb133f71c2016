/* Masking (RFC 6455 §5.3): byte i is XORed with key[(offset + i) % 4]. */
#ifndef TWS_PROTOCOL_MASK_H
#define TWS_PROTOCOL_MASK_H

#include "protocol/base.h"

/* Masks or unmasks `length` bytes of `src` into `dst`, which is the same
 * memory or does not overlap. Any alignment; never touches a byte outside
 * the ranges. `offset` is how many bytes of the same payload came before. */
void tws_mask(uint8_t *dst, const uint8_t *src, size_t length,
              const uint8_t key[4], uint64_t offset);

/* The same, and true when every resulting byte is ASCII (below 0x80). */
bool tws_mask_ascii(uint8_t *dst, const uint8_t *src, size_t length,
                    const uint8_t key[4], uint64_t offset);

#endif /* TWS_PROTOCOL_MASK_H */
