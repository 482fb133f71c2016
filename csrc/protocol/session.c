#include "protocol/session.h"

#include "protocol/mask.h"

#include <assert.h>

void
tws_control_pack(struct tws_control *control, enum tws_opcode opcode,
                 const uint8_t *payload, size_t length, const uint8_t *key)
{
    assert(length <= TWS_CONTROL_PAYLOAD_MAX);
    struct tws_frame_header header = {
        .opcode = (uint8_t)opcode,
        .fin = true,
        .length = length,
        .masked = key != NULL,
    };
    if (key != NULL) {
        memcpy(header.key, key, sizeof(header.key));
    }
    size_t at = tws_frame_header_encode(&header, control->bytes);
    if (key != NULL) {
        tws_mask(control->bytes + at, payload, length, key, 0);
    }
    else if (length > 0) {
        memcpy(control->bytes + at, payload, length);
    }
    control->length = at + length;
}

bool
tws_session_take(struct tws_session *session, const struct tws_event *event,
                 const uint8_t *key, struct tws_control *reply)
{
    reply->length = 0;
    if (session->received_code != 0) {
        return false; /* nothing counts behind the peer's Close (§5.5.1) */
    }
    if (event->type == TWS_EVENT_CLOSE) {
        session->received_code = event->code;
        /* The answer echoes the code (§5.5.1). */
        tws_session_close(session, event->code, TWS_SPAN(""), key, reply);
        return true;
    }
    if (session->sent_code != 0) {
        return false;
    }
    if (event->type == TWS_EVENT_PING) {
        tws_control_pack(reply, TWS_OPCODE_PONG, event->data, event->length,
                         key);
    }
    return true;
}

void
tws_session_close(struct tws_session *session, uint16_t code,
                  struct tws_span reason, const uint8_t *key,
                  struct tws_control *reply)
{
    reply->length = 0;
    if (session->sent_code != 0) {
        return;
    }
    uint8_t payload[TWS_CONTROL_PAYLOAD_MAX];
    size_t length;
    tws_close_write(code, reason, payload, &length);
    tws_control_pack(reply, TWS_OPCODE_CLOSE, payload, length, key);
    session->sent_code = code;
}
