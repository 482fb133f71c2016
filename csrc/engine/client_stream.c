#include "engine/client_parts.h"

#include <stdlib.h>

/* Where the end of a message is not known yet, as the one that it waits for
 * has not ended, its receipt counts from here. Never reached by what is
 * written. */
#define KEPT_BASE (UINT64_C(1) << 63)

enum tws_status
tws_client_begin_stream(struct tws_client *client, const void *owner,
                        struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    struct tws_client_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return tws_error_nomem(err);
    }
    stream->owner = owner;
    pthread_mutex_lock(&client->lock);
    if (client->state != TWS_CLIENT_OPEN) {
        status = TWS_EOF;
    }
    else if (client->stream != NULL) {
        status = TWS_AGAIN;
    }
    else {
        client->stream = stream;
        stream = NULL;
    }
    pthread_mutex_unlock(&client->lock);
    free(stream);
    return status;
}

enum tws_status
tws_client_send_fragment(struct tws_client *client, uint8_t opcode, bool fin,
                         const struct tws_span parts[2], struct tws_error *err)
{
    enum tws_status status = TWS_EOF;
    uint8_t header[TWS_FRAME_HEADER_MAX];
    struct tws_frame_header fields = {
        .opcode = opcode,
        .fin = fin,
        .length = parts[0].length + parts[1].length,
    };
    struct iovec vector[3] = {
        {.iov_base = header,
         .iov_len = tws_frame_header_encode(&fields, header)},
        {.iov_base = (void *)(uintptr_t)parts[0].data,
         .iov_len = parts[0].length},
        {.iov_base = (void *)(uintptr_t)parts[1].data,
         .iov_len = parts[1].length},
    };
    pthread_mutex_lock(&client->lock);
    if (client->state == TWS_CLIENT_OPEN) {
        status = tws_client_send_parts_lock_held(client, vector, 3, err);
    }
    if (status == TWS_OK) {
        tws_client_count_sent_lock_held(client, fin ? 1 : 0,
                                        (size_t)fields.length);
    }
    pthread_mutex_unlock(&client->lock);
    return status;
}

/* What waited counts as accepted from now on. */
static void
settle_receipts_lock_held(struct tws_client *client)
{
    struct tws_receipt *receipt = client->receipts;
    for (; receipt != NULL; receipt = receipt->next) {
        if (receipt->end >= KEPT_BASE) {
            receipt->end = client->accepted + (receipt->end - KEPT_BASE);
        }
    }
}

void
tws_client_end_stream(struct tws_client *client, const void *owner)
{
    struct tws_client_stream *stream = NULL;
    struct tws_error err;
    pthread_mutex_lock(&client->lock);
    if (client->stream != NULL && client->stream->owner == owner) {
        stream = client->stream;
        client->stream = NULL;
    }
    if (stream != NULL) {
        struct iovec part = {.iov_base = tws_buffer_data(&stream->behind),
                             .iov_len = tws_buffer_length(&stream->behind)};
        bool open = client->state == TWS_CLIENT_OPEN;
        atomic_store_explicit(&client->crowded, false, memory_order_relaxed);
        if (open) {
            settle_receipts_lock_held(client);
        }
        if (open && part.iov_len > 0
            && tws_client_send_parts_lock_held(client, &part, 1, &err)
                   != TWS_OK) {
            /* They were promised to whoever sent them. */
            tws_client_break_off_lock_held(client, TWS_ENDED_BY_US, 0,
                                           "out of memory for its send queue");
        }
        tws_client_wake_waiters_lock_held(client);
    }
    bool attend = client->receipts != NULL && client->cork == NULL;
    pthread_mutex_unlock(&client->lock);
    if (stream != NULL) {
        tws_buffer_release(&stream->behind);
        free(stream);
    }
    if (attend) {
        tws_server_attend(client->server, client);
    }
}

/* With a stream --------------------------------------------------------- */

enum tws_status
tws_client_keep_packed_lock_held(struct tws_client *client,
                                 struct tws_span frames, struct tws_error *err)
{
    if (client->write_failed) {
        return TWS_OK; /* the program hears of it by the client's end */
    }
    return tws_buffer_append(&client->stream->behind, frames.data,
                             frames.length)
                   == TWS_OK
               ? TWS_OK
               : tws_error_nomem(err);
}

enum tws_status
tws_client_keep_message_lock_held(struct tws_client *client, uint8_t opcode,
                                  struct tws_span payload, size_t fragment,
                                  struct tws_error *err)
{
    struct tws_buffer frames = TWS_BUFFER_EMPTY;
    enum tws_status status = TWS_OK;
    if (fragment == 0 || fragment > payload.length) {
        fragment = payload.length;
    }
    bool last = false;
    while (status == TWS_OK && !last) {
        uint8_t *room;
        size_t length = payload.length < fragment ? payload.length : fragment;
        last = length == payload.length;
        struct tws_frame_header header = {
            .opcode = opcode, .fin = last, .length = length};
        status =
            tws_buffer_reserve(&frames, TWS_FRAME_HEADER_MAX + length, &room);
        if (status != TWS_OK) {
            break;
        }
        size_t size = tws_frame_header_encode(&header, room);
        if (length > 0) {
            memcpy(room + size, payload.data, length);
            payload.data += length;
        }
        tws_buffer_commit(&frames, size + length);
        payload.length -= length;
        opcode = TWS_OPCODE_CONTINUATION;
    }
    if (status == TWS_OK) {
        struct tws_span packed = {.data =
                                      (const char *)tws_buffer_data(&frames),
                                  .length = tws_buffer_length(&frames)};
        status = tws_client_keep_packed_lock_held(client, packed, err);
    }
    else {
        status = tws_error_nomem(err);
    }
    tws_buffer_release(&frames);
    return status;
}

uint64_t
tws_client_kept_end_lock_held(const struct tws_client *client)
{
    return KEPT_BASE + tws_buffer_length(&client->stream->behind);
}
