#include "engine/client_parts.h"

#include <stdlib.h>

/* Where the end of a message is not known yet, as the one that it waits for
 * has not ended, its receipt counts from here. Never reached by what is
 * written. */
#define KEPT_BASE (UINT64_C(1) << 63)

/* Where fragments are compressed the lock of that is held: what is compressed
 * from now on is sent behind the stream, and must not refer to what the peer
 * has forgotten by then. */
static enum tws_status
set_stream(struct tws_client *client, struct tws_client_stream *stream)
{
    enum tws_status status = TWS_OK;
    pthread_mutex_lock(&client->lock);
    if (client->state != TWS_CLIENT_OPEN
        || tws_client_is_lost_lock_held(client)) {
        status = TWS_EOF;
    }
    else if (client->stream != NULL) {
        status = TWS_AGAIN;
    }
    else {
        client->stream = stream;
    }
    pthread_mutex_unlock(&client->lock);
    return status;
}

static void
free_stream(struct tws_compression *compression,
            struct tws_client_stream *stream)
{
    if (stream->deflater != NULL) {
        tws_deflate_pool_give_deflater(compression->pool, stream->deflater);
    }
    tws_buffer_release(&stream->behind);
    free(stream);
}

enum tws_status
tws_client_begin_stream(struct tws_client *client, const void *owner,
                        enum tws_compress compress, struct tws_error *err)
{
    enum tws_status status;
    struct tws_compression *compression = client->compression;
    struct tws_client_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return tws_error_nomem(err);
    }
    stream->owner = owner;
    stream->compress = compress;
    if (compression != NULL && compress != TWS_COMPRESS_NEVER) {
        stream->deflater = tws_deflate_pool_take_deflater(
            compression->pool, &compression->terms.out);
        if (stream->deflater == NULL) {
            free(stream);
            return tws_error_nomem(err);
        }
        pthread_mutex_lock(&compression->lock);
        status = set_stream(client, stream);
        if (status == TWS_OK) {
            tws_compression_forget_sent(compression);
        }
        pthread_mutex_unlock(&compression->lock);
    }
    else {
        status = set_stream(client, stream);
    }
    if (status != TWS_OK) {
        free_stream(compression, stream);
    }
    return status;
}

static enum tws_status
send_frame(struct tws_client *client, const struct tws_frame_header *fields,
           const struct tws_span parts[2], size_t payload,
           struct tws_error *err)
{
    enum tws_status status = TWS_EOF;
    uint8_t header[TWS_FRAME_HEADER_MAX];
    struct iovec vector[3] = {
        {.iov_base = header,
         .iov_len = tws_frame_header_encode(fields, header)},
        {.iov_base = (void *)(uintptr_t)parts[0].data,
         .iov_len = parts[0].length},
        {.iov_base = (void *)(uintptr_t)parts[1].data,
         .iov_len = parts[1].length},
    };
    pthread_mutex_lock(&client->lock);
    if (client->state == TWS_CLIENT_OPEN
        && !tws_client_is_lost_lock_held(client)) {
        status = tws_client_send_parts_lock_held(client, vector, 3, err);
    }
    if (status == TWS_OK) {
        tws_client_count_sent_lock_held(client, fields->fin ? 1 : 0, payload);
    }
    pthread_mutex_unlock(&client->lock);
    return status;
}

/* The parts together, as each time that something is compressed has bytes of
 * its own. */
static enum tws_status
deflate_parts(struct tws_deflater *deflater, const struct tws_span parts[2],
              bool end, struct tws_buffer *out, struct tws_error *err)
{
    struct tws_buffer both = TWS_BUFFER_EMPTY;
    struct tws_span data = parts[0].length > 0 ? parts[0] : parts[1];
    if (parts[0].length > 0 && parts[1].length > 0) {
        if (tws_buffer_append(&both, parts[0].data, parts[0].length) != TWS_OK
            || tws_buffer_append(&both, parts[1].data, parts[1].length)
                   != TWS_OK) {
            tws_buffer_release(&both);
            return tws_error_nomem(err);
        }
        data.data = (const char *)tws_buffer_data(&both);
        data.length = tws_buffer_length(&both);
    }
    enum tws_status status = tws_deflater_add(deflater, data, end, out, err);
    tws_buffer_release(&both);
    return status;
}

static enum tws_status
send_compressed(struct tws_client *client, struct tws_deflater *deflater,
                struct tws_frame_header *header,
                const struct tws_span parts[2], struct tws_error *err)
{
    const struct tws_compression_terms *terms = &client->compression->terms;
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    size_t payload = (size_t)header->length;
    enum tws_status status = deflate_parts(
        deflater, parts, header->fin || terms->per_frame, &out, err);
    if (status == TWS_OK) {
        struct tws_span whole[2] = {
            {.data = (const char *)tws_buffer_data(&out),
             .length = tws_buffer_length(&out)},
            {.length = 0},
        };
        if (terms->per_frame && !terms->out_takeover) {
            tws_deflater_reset(deflater);
        }
        if (terms->per_frame || header->opcode != TWS_OPCODE_CONTINUATION) {
            header->rsv = TWS_RSV1;
        }
        header->length = whole[0].length;
        status = send_frame(client, header, whole, payload, err);
    }
    tws_buffer_release(&out);
    if (status == TWS_NOMEM) {
        /* What has not left can't be told from what has, any more. */
        tws_client_break_off(client, TWS_ENDED_BY_US,
                             "out of memory for a message in pieces");
    }
    return status;
}

/* Of the stream, for its next fragment; NULL: it goes as it is. A message that
 * is in one frame after all is judged by its size as any other. */
static struct tws_deflater *
find_deflater(struct tws_client *client, const struct tws_frame_header *header)
{
    struct tws_deflater *deflater = NULL;
    const struct tws_compression *compression = client->compression;
    if (compression == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&client->lock);
    const struct tws_client_stream *stream = client->stream;
    if (stream != NULL
        && (!header->fin || header->opcode == TWS_OPCODE_CONTINUATION
            || tws_compression_wants(compression, (size_t)header->length,
                                     stream->compress))) {
        deflater = stream->deflater;
    }
    pthread_mutex_unlock(&client->lock);
    return deflater;
}

enum tws_status
tws_client_send_fragment(struct tws_client *client, uint8_t opcode, bool fin,
                         const struct tws_span parts[2], struct tws_error *err)
{
    struct tws_frame_header header = {
        .opcode = opcode,
        .fin = fin,
        .length = parts[0].length + parts[1].length,
    };
    struct tws_deflater *deflater = find_deflater(client, &header);
    return deflater == NULL
               ? send_frame(client, &header, parts, (size_t)header.length, err)
               : send_compressed(client, deflater, &header, parts, err);
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
        free_stream(client->compression, stream);
    }
    if (attend) {
        tws_server_attend(client->server, client);
    }
}

/* With a stream --------------------------------------------------------- */

static enum tws_status
keep_packed(struct tws_client *client, struct tws_span frames,
            struct tws_error *err)
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

/* Appends the frames of a message. */
static enum tws_status
pack(const struct tws_outgoing *outgoing, struct tws_buffer *frames)
{
    struct tws_span payload = outgoing->bytes;
    size_t fragment = outgoing->fragment;
    struct tws_frame_header header = {.opcode = outgoing->opcode,
                                      .rsv = outgoing->rsv};
    if (fragment == 0 || fragment > payload.length) {
        fragment = payload.length;
    }
    while (!header.fin) {
        uint8_t *room;
        size_t length = payload.length < fragment ? payload.length : fragment;
        header.fin = length == payload.length;
        header.length = length;
        if (tws_buffer_reserve(frames, TWS_FRAME_HEADER_MAX + length, &room)
            != TWS_OK) {
            return TWS_NOMEM;
        }
        size_t size = tws_frame_header_encode(&header, room);
        if (length > 0) {
            memcpy(room + size, payload.data, length);
            payload.data += length;
        }
        tws_buffer_commit(frames, size + length);
        payload.length -= length;
        header.opcode = TWS_OPCODE_CONTINUATION;
        header.rsv = 0;
    }
    return TWS_OK;
}

enum tws_status
tws_client_keep_lock_held(struct tws_client *client,
                          const struct tws_outgoing *outgoing,
                          struct tws_error *err)
{
    struct tws_buffer frames = TWS_BUFFER_EMPTY;
    enum tws_status status;
    if (outgoing->packed) {
        return keep_packed(client, outgoing->bytes, err);
    }
    if (pack(outgoing, &frames) == TWS_OK) {
        struct tws_span packed = {.data =
                                      (const char *)tws_buffer_data(&frames),
                                  .length = tws_buffer_length(&frames)};
        status = keep_packed(client, packed, err);
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
