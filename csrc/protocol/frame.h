/* The frame header (RFC 6455 §5.2), decoded from and encoded into bytes.
 *
 *   0                   1                   2                   3
 *   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *  +-+-+-+-+-------+-+-------------+-------------------------------+
 *  |F|R|R|R| opcode|M| length      | 16- or 64-bit length, where   |
 *  |I|S|S|S|  (4)  |A| (7)         | the 7 bits say 126 or 127     |
 *  |N|V|V|V|       |S|             +-------------------------------+
 *  | |1|2|3|       |K|             | masking key, where MASK is set|
 *  +-+-+-+-+-------+-+-------------+-------------------------------+
 */
#ifndef TWS_PROTOCOL_FRAME_H
#define TWS_PROTOCOL_FRAME_H

#include "protocol/opcode.h"
#include "protocol/status.h"

enum {
    TWS_FRAME_HEADER_MAX = 14,     /* 2 + 8 + 4 bytes */
    TWS_CONTROL_PAYLOAD_MAX = 125, /* RFC 6455 §5.5 */
};

/* Bits of the first byte. */
enum {
    TWS_FIN = 0x80,
    TWS_RSV1 = 0x40,
    TWS_RSV2 = 0x20,
    TWS_RSV3 = 0x10,
    TWS_RSV = TWS_RSV1 | TWS_RSV2 | TWS_RSV3,
};

struct tws_frame_header {
    uint64_t length; /* of the payload, at most 2^63 - 1 */
    uint8_t opcode;
    uint8_t rsv; /* TWS_RSV1 | TWS_RSV2 | TWS_RSV3 as on the wire */
    bool fin;
    bool masked;
    uint8_t key[4]; /* meaningful where masked */
};

/* What extensions have given a meaning (RFC 6455 §9). */
struct tws_frame_claims {
    uint8_t rsv;      /* TWS_RSV1 | TWS_RSV2 | TWS_RSV3 */
    uint16_t opcodes; /* bit i: the reserved opcode i */
};

/* Decodes a header at `data`. TWS_OK: *header and *consumed (2 to 14) are
 * set. TWS_AGAIN: more than `length` bytes are needed. TWS_PROTOCOL with
 * close code 1002, as soon as the bytes at hand show it: a reserved opcode or
 * bit that is not claimed, fragmented or oversized control frame, length not
 * minimal or with its top bit set, and a mask bit that does not fit `receiver`
 * (a server takes only masked frames, a client only unmasked ones: §5.1). */
enum tws_status tws_frame_header_decode(const uint8_t *data, size_t length,
                                        enum tws_role receiver,
                                        struct tws_frame_claims claims,
                                        struct tws_frame_header *header,
                                        size_t *consumed,
                                        struct tws_error *err);

/* The same without the rule about who masks: for Frame.unpack(). */
enum tws_status tws_frame_header_decode_any(const uint8_t *data, size_t length,
                                            struct tws_frame_claims claims,
                                            struct tws_frame_header *header,
                                            size_t *consumed,
                                            struct tws_error *err);

/* Writes the header into `out` (room for TWS_FRAME_HEADER_MAX bytes), in the
 * shortest form, and returns its length. `header` is taken at its word. */
size_t tws_frame_header_encode(const struct tws_frame_header *header,
                               uint8_t *out);

#endif /* TWS_PROTOCOL_FRAME_H */
