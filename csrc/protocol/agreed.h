/* What an opening handshake has agreed on about the frames of a connection
 * (RFC 6455 §9.1). */
#ifndef TWS_PROTOCOL_AGREED_H
#define TWS_PROTOCOL_AGREED_H

#include "protocol/compression.h"

struct tws_agreed {
    struct tws_span extensions; /* value of Sec-WebSocket-Extensions in the
                                 * server's answer; empty: no field */
    uint8_t rsv;                /* reserved bits that frames may have */
    uint16_t opcodes; /* bit i: frames may have the reserved opcode i */
    bool raw_frames;  /* extensions that are not in C: the program gets frames
                       * as they came */
    struct tws_compression *compression; /* owned by whoever has agreed; not
                                          * with `raw_frames`. NULL: none */
};

#endif /* TWS_PROTOCOL_AGREED_H */
