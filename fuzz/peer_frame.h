/* A frame as a peer may send it, right or wrong, from two bytes of input. */
#ifndef TWS_FUZZ_PEER_FRAME_H
#define TWS_FUZZ_PEER_FRAME_H

#include "protocol/frame.h"

#include <string.h>

/* Writes it to `bytes`, where there is room for it; its size. */
static inline size_t
peer_frame(uint8_t first, size_t length, bool masked, uint8_t choice,
           uint8_t *bytes)
{
    if ((first & 8) != 0 && length > TWS_CONTROL_PAYLOAD_MAX) {
        length = TWS_CONTROL_PAYLOAD_MAX;
    }
    struct tws_frame_header header = {
        .fin = first >= 0x80,
        .rsv = first & 0x70,
        .opcode = first % 16,
        .masked = masked, /* with a key of zeros */
        .length = length,
    };
    size_t size = tws_frame_header_encode(&header, bytes);
    memset(bytes + size, 'p', length);
    if (header.opcode == TWS_OPCODE_CLOSE && length >= 2) {
        bytes[size] = 3;
        bytes[size + 1] = (uint8_t)(0xe8 + choice % 4);
    }
    return size + length;
}

#endif
