/* What an end of an open connection owes its peer: pongs for pings, an
 * answer to a Close, a Close for a broken rule, and silence afterwards
 * (RFC 6455 §5.5, §7.1). Keeps no bytes; what is to be sent is handed out. */
#ifndef TWS_PROTOCOL_SESSION_H
#define TWS_PROTOCOL_SESSION_H

#include "protocol/assembler.h"
#include "protocol/close_code.h"

/* A packed control frame. */
struct tws_control {
    size_t length; /* 0: nothing to send */
    uint8_t bytes[6 + TWS_CONTROL_PAYLOAD_MAX];
};

/* Packs a control frame; `key` is NULL for a server, which doesn't mask.
 * `length` is at most TWS_CONTROL_PAYLOAD_MAX. */
void tws_control_pack(struct tws_control *control, enum tws_opcode opcode,
                      const uint8_t *payload, size_t length,
                      const uint8_t *key);

static inline bool
tws_control_is_close(const struct tws_control *control)
{
    return control->length > 0
           && (control->bytes[0] & 0x0f) == TWS_OPCODE_CLOSE;
}

/* Both codes are 0 until their Close frame is sent or received; 1005 then
 * stands for a Close without a code. */
struct tws_session {
    uint16_t sent_code;
    uint16_t received_code;
};

static inline bool
tws_session_open(const struct tws_session *session)
{
    return session->sent_code == 0 && session->received_code == 0;
}

/* Both Close frames have passed. */
static inline bool
tws_session_finished(const struct tws_session *session)
{
    return session->sent_code != 0 && session->received_code != 0;
}

/* Takes note of an event and packs the answer it calls for into *reply
 * (length 0: none). Returns true when the event concerns the program: after
 * our Close only the peer's Close does, everything else is discarded. */
bool tws_session_take(struct tws_session *session,
                      const struct tws_event *event, const uint8_t *key,
                      struct tws_control *reply);

/* Packs our Close frame and notes it; *reply is empty where one was sent
 * before. `code` is one that may be sent, or 1005 for none. */
void tws_session_close(struct tws_session *session, uint16_t code,
                       struct tws_span reason, const uint8_t *key,
                       struct tws_control *reply);

#endif /* TWS_PROTOCOL_SESSION_H */
