/* Close codes and the payload of a Close frame (RFC 6455 §5.5.1, §7.4). */
#ifndef TWS_PROTOCOL_CLOSE_CODE_H
#define TWS_PROTOCOL_CLOSE_CODE_H

#include "protocol/status.h"

enum tws_close_code {
    TWS_CLOSE_NORMAL = 1000,
    TWS_CLOSE_GOING_AWAY = 1001,
    TWS_CLOSE_PROTOCOL_ERROR = 1002,
    TWS_CLOSE_NOACCEPT_DTYPE = 1003,
    TWS_CLOSE_NO_STATUS = 1005,
    TWS_CLOSE_ABNORMAL = 1006,
    TWS_CLOSE_INVALID_DATA = 1007,
    TWS_CLOSE_POLICY = 1008,
    TWS_CLOSE_MESSAGE_TOOBIG = 1009,
    TWS_CLOSE_MISSING_EXTENSIONS = 1010,
    TWS_CLOSE_UNABLE = 1011,
    TWS_CLOSE_SERVICE_RESTART = 1012,
    TWS_CLOSE_TRY_AGAIN_LATER = 1013,
    TWS_CLOSE_BAD_GATEWAY = 1014,
    TWS_CLOSE_TLS_FAILURE = 1015,
};

/* Longest reason: a control frame's 125 bytes less the code. */
enum { TWS_CLOSE_REASON_MAX = 123 };

/* True for codes that may stand in a Close frame: 1000-1003, 1007-1014 and
 * 3000-4999. False for 1004, 1005, 1006, 1015 and everything unassigned. */
bool tws_close_code_on_wire(unsigned code);

/* Reads a Close payload of `length` bytes (unmasked). An empty one gives
 * code 1005 and an empty reason. *reason is borrowed from `data`.
 * Fails with TWS_PROTOCOL: 1002 for one byte or a code that may not be sent,
 * 1007 for a reason that is not UTF-8. */
enum tws_status tws_close_parse(const uint8_t *data, size_t length,
                                uint16_t *code, struct tws_span *reason,
                                struct tws_error *err);

/* Writes code and reason into `out` (room for 125 bytes) and their length
 * into *length. 1005 writes nothing. The reason is cut at a character's
 * border where it is longer than TWS_CLOSE_REASON_MAX. */
void tws_close_write(uint16_t code, struct tws_span reason, uint8_t *out,
                     size_t *length);

#endif /* TWS_PROTOCOL_CLOSE_CODE_H */
