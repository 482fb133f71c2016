/* Opcodes (RFC 6455 §5.2, §11.8). */
#ifndef TWS_PROTOCOL_OPCODE_H
#define TWS_PROTOCOL_OPCODE_H

#include "protocol/base.h"

enum tws_opcode {
    TWS_OPCODE_CONTINUATION = 0x0,
    TWS_OPCODE_TEXT = 0x1,
    TWS_OPCODE_BINARY = 0x2,
    TWS_OPCODE_CLOSE = 0x8,
    TWS_OPCODE_PING = 0x9,
    TWS_OPCODE_PONG = 0xa,
};

/* The top bit of the four marks a control frame, known or reserved. */
static inline bool
tws_opcode_is_control(unsigned opcode)
{
    return (opcode & 0x8) != 0;
}

/* False for 3-7 and 11-15, which are reserved. */
static inline bool
tws_opcode_is_known(unsigned opcode)
{
    return opcode <= TWS_OPCODE_BINARY
           || (opcode >= TWS_OPCODE_CLOSE && opcode <= TWS_OPCODE_PONG);
}

#endif /* TWS_PROTOCOL_OPCODE_H */
