/* From payloads to frames, as they go over the wire. */
#include "python/websocket_parts.h"

int
tws_websocket_pack_frame(WebsocketObject *ws, uint8_t first_byte,
                         struct tws_span payload, struct tws_buffer *out)
{
    uint8_t *room;
    const uint8_t *key;
    struct tws_frame_header header = {
        .opcode = first_byte & 0x0f,
        .rsv = first_byte & TWS_RSV,
        .fin = (first_byte & TWS_FIN) != 0,
        .length = payload.length,
    };
    if (tws_websocket_draw_key(ws, header.key, &key) < 0) {
        return -1;
    }
    header.masked = key != NULL;
    if (tws_buffer_reserve(out, TWS_FRAME_HEADER_MAX + payload.length, &room)
        != TWS_OK) {
        PyErr_NoMemory();
        return -1;
    }
    size_t length = tws_frame_header_encode(&header, room);
    struct tws_piece piece = {
        .header = &header,
        .data = (uint8_t *)(uintptr_t)payload.data,
        .length = payload.length,
    };
    tws_piece_copy(&piece, room + length);
    tws_buffer_commit(out, length + payload.length);
    return 0;
}

bool
tws_cut_next(struct tws_cut *cut, uint8_t *first_byte, struct tws_span *part)
{
    if (cut->done) {
        return false;
    }
    size_t length =
        cut->payload.length < cut->size ? cut->payload.length : cut->size;
    cut->done = length == cut->payload.length;
    *part = (struct tws_span){.data = cut->payload.data, .length = length};
    *first_byte = cut->first_byte;
    if (!cut->done) {
        *first_byte &= (uint8_t)~TWS_FIN;
    }
    cut->payload.data += length;
    cut->payload.length -= length;
    /* RFC 6455 §5.4, RFC 7692 §6.1: opcode and reserved bits are of the first
     * frame. */
    cut->first_byte = (cut->first_byte & TWS_FIN) | TWS_OPCODE_CONTINUATION;
    return true;
}

int
tws_websocket_pack_cut(WebsocketObject *ws, struct tws_cut cut,
                       struct tws_buffer *out)
{
    uint8_t first_byte;
    struct tws_span part;
    while (tws_cut_next(&cut, &first_byte, &part)) {
        if (tws_websocket_pack_frame(ws, first_byte, part, out) < 0) {
            return -1;
        }
    }
    return 0;
}
