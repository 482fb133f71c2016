/* Messages to a client that are compressed: outside of its own lock, but with
 * that of its compression until they are queued, so that they leave in the
 * order in which they refer to each other (RFC 7692 7.1.1). */
#include "engine/client_parts.h"

/* Appends frames of `fragment` bytes that were compressed each by itself. */
static enum tws_status
pack_frames(struct tws_compression *compression,
            const struct tws_client_message *message, struct tws_buffer *out,
            struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    struct tws_span rest = message->payload;
    struct tws_frame_header header = {.opcode = message->opcode,
                                      .rsv = TWS_RSV1};
    struct tws_buffer data = TWS_BUFFER_EMPTY;
    while (status == TWS_OK && !header.fin) {
        uint8_t bytes[TWS_FRAME_HEADER_MAX];
        struct tws_span part = rest;
        if (part.length > message->fragment) {
            part.length = message->fragment;
        }
        rest.data += part.length;
        rest.length -= part.length;
        header.fin = rest.length == 0;
        status = tws_compression_deflate(compression, part, true, &data, err);
        if (status != TWS_OK) {
            break;
        }
        header.length = tws_buffer_length(&data);
        if (tws_buffer_append(out, bytes,
                              tws_frame_header_encode(&header, bytes))
                != TWS_OK
            || tws_buffer_append(out, tws_buffer_data(&data),
                                 tws_buffer_length(&data))
                   != TWS_OK) {
            status = tws_error_nomem(err);
        }
        tws_buffer_consume(&data, tws_buffer_length(&data));
        header.opcode = TWS_OPCODE_CONTINUATION;
    }
    tws_buffer_release(&data);
    return status;
}

/* *outgoing is what to send, lying in `out` or, where it is better sent as it
 * is, in the message. */
static enum tws_status
prepare(struct tws_compression *compression,
        const struct tws_client_message *message, struct tws_buffer *out,
        struct tws_outgoing *outgoing, struct tws_error *err)
{
    enum tws_status status;
    const struct tws_compression_terms *terms = &compression->terms;
    size_t length = message->payload.length;
    *outgoing = (struct tws_outgoing){
        .bytes = message->payload,
        .waits = true,
        .opcode = message->opcode,
        .fragment = message->fragment,
        .messages = 1,
        .payload = length,
    };
    outgoing->packed = terms->per_frame && message->fragment > 0
                       && message->fragment < length;
    status = outgoing->packed
                 ? pack_frames(compression, message, out, err)
                 : tws_compression_deflate(compression, message->payload, true,
                                           out, err);
    if (status != TWS_OK) {
        return status;
    }
    /* What grew is of use only where later messages may refer to it: not to
     * send it would cost them more than it costs. */
    if (tws_buffer_length(out) >= length && !terms->out_takeover
        && message->compress == TWS_COMPRESS_AUTO) {
        outgoing->packed = false;
        return TWS_OK;
    }
    outgoing->bytes =
        (struct tws_span){.data = (const char *)tws_buffer_data(out),
                          .length = tws_buffer_length(out)};
    outgoing->rsv = TWS_RSV1;
    if (terms->per_frame) {
        outgoing->fragment = 0; /* a frame that grew is one all the same */
    }
    return TWS_OK;
}

enum tws_status
tws_client_send_compressed(struct tws_client *client,
                           const struct tws_client_message *message,
                           struct tws_error *err)
{
    struct tws_compression *compression = client->compression;
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_outgoing outgoing;
    if (client->state != TWS_CLIENT_OPEN) {
        return TWS_EOF; /* no work for nothing */
    }
    if (!message->at_once) {
        pthread_mutex_lock(&compression->lock);
    }
    else if (pthread_mutex_trylock(&compression->lock) != 0) {
        return TWS_AGAIN;
    }
    enum tws_status status =
        prepare(compression, message, &out, &outgoing, err);
    if (status == TWS_OK) {
        status =
            tws_client_send_outgoing(client, &outgoing, message->receipt, err);
    }
    if (status != TWS_OK) {
        tws_compression_forget_sent(compression);
    }
    pthread_mutex_unlock(&compression->lock);
    tws_buffer_release(&out);
    return status;
}

/* For several clients ----------------------------------------------------- */

enum tws_status
tws_client_pack_shared(const struct tws_client *client, uint8_t opcode,
                       struct tws_span payload, struct tws_buffer *out,
                       struct tws_error *err)
{
    const struct tws_compression *compression = client->compression;
    struct tws_buffer data = TWS_BUFFER_EMPTY;
    uint8_t *room;
    struct tws_deflater *deflater = tws_deflate_pool_take_deflater(
        compression->pool, &compression->terms.out);
    if (deflater == NULL) {
        return tws_error_nomem(err);
    }
    enum tws_status status =
        tws_deflater_add(deflater, payload, true, &data, err);
    tws_deflate_pool_give_deflater(compression->pool, deflater);
    if (status == TWS_OK
        && tws_buffer_reserve(
               out, TWS_FRAME_HEADER_MAX + tws_buffer_length(&data), &room)
               != TWS_OK) {
        status = tws_error_nomem(err);
    }
    if (status == TWS_OK) {
        struct tws_frame_header header = {
            .opcode = opcode,
            .rsv = TWS_RSV1,
            .fin = true,
            .length = tws_buffer_length(&data),
        };
        tws_buffer_commit(out, tws_frame_header_encode(&header, room));
        /* Room is reserved for it. */
        status = tws_buffer_append(out, tws_buffer_data(&data),
                                   tws_buffer_length(&data));
    }
    tws_buffer_release(&data);
    return status;
}

enum tws_status
tws_client_send_shared(struct tws_client *client, struct tws_span frame,
                       size_t payload, void *receipt, struct tws_error *err)
{
    struct tws_compression *compression = client->compression;
    if (!compression->terms.out_takeover) { /* nothing refers to anything */
        return tws_client_send_packed(client, frame, TWS_STANDS_ALONE, 1,
                                      payload, receipt, err);
    }
    if (pthread_mutex_trylock(&compression->lock) != 0) {
        return TWS_AGAIN;
    }
    enum tws_status status = tws_client_send_packed(
        client, frame, TWS_STANDS_ALONE, 1, payload, receipt, err);
    if (status == TWS_OK) {
        tws_compression_forget_sent(compression);
    }
    pthread_mutex_unlock(&compression->lock);
    return status;
}

enum tws_status
tws_client_send_foreign(struct tws_client *client, struct tws_span frames,
                        enum tws_standing standing, struct tws_error *err)
{
    struct tws_compression *compression = client->compression;
    pthread_mutex_lock(&compression->lock);
    enum tws_status status =
        tws_client_send_packed(client, frames, standing, 0, 0, NULL, err);
    tws_compression_forget_sent(compression);
    pthread_mutex_unlock(&compression->lock);
    return status;
}

/* The end ----------------------------------------------------------------- */

void
tws_client_end_compression(struct tws_client *client)
{
    struct tws_compression *compression = client->compression;
    if (compression == NULL) {
        return;
    }
    tws_compression_stop_inflating(compression);
    if (pthread_mutex_trylock(&compression->lock) == 0) {
        tws_compression_stop_deflating(compression);
        pthread_mutex_unlock(&compression->lock);
    }
}
