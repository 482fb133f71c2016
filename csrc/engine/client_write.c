/* What goes out to a client: frames gather while it is served, leave at once
 * else, and are queued where the kernel does not take them. */
#include "engine/client_parts.h"

#include <stdlib.h>

enum {
    CORK_MAX = 128 * 1024, /* gathered frames are written beyond it */
    COPY_MAX = 16 * 1024 + TWS_FRAME_HEADER_MAX, /* larger frames are sent
                                                  * without being copied */
    SHORT_MAX = 16 * 1024, /* bytes of a message that take the short way */
    OUT_KEPT = 256 * 1024, /* capacity a worker keeps for its frames */
};

/* The kernel has taken, or failed to take, what it could. */
static void
note_queue_lock_held(struct tws_client *client)
{
    const struct tws_server_options *options =
        tws_server_options(client->server);
    size_t mark = client->congested ? options->low_water : options->high_water;
    bool congested = tws_buffer_length(&client->queue) > mark;
    if (congested == client->congested) {
        return;
    }
    atomic_store_explicit(&client->congested, congested, memory_order_relaxed);
    if (!congested) {
        tws_client_wake_waiters_lock_held(client);
    }
}

static void
fail_write_lock_held(struct tws_client *client, const struct tws_error *err)
{
    tws_client_break_off_lock_held(client, TWS_ENDED_BY_NETWORK,
                                   err->sys_errno, "writing to it failed");
}

static enum tws_status
no_memory_lock_held(struct tws_client *client, struct tws_error *err)
{
    /* Part of a frame may be out: the stream can't go on. */
    tws_client_break_off_lock_held(client, TWS_ENDED_BY_US, 0,
                                   "out of memory for its send queue");
    return tws_error_nomem(err);
}

/* Writes the parts as far as the kernel takes them and queues the rest. The
 * queue is empty. */
static enum tws_status
write_or_queue_lock_held(struct tws_client *client, struct iovec *parts,
                         int count, struct tws_error *err)
{
    size_t written = 0;
    if (!client->write_failed) {
        enum tws_status status =
            tws_writev(&client->transport, parts, count, &written, err);
        if (status != TWS_OK) {
            written = 0;
        }
        if (status != TWS_OK && status != TWS_AGAIN) {
            fail_write_lock_held(client, err);
        }
    }
    if (client->write_failed) {
        return TWS_OK;
    }
    client->written += written;
    for (int i = 0; i < count; i++) {
        size_t length = parts[i].iov_len;
        size_t skip = written < length ? written : length;
        written -= skip;
        if (skip < length
            && tws_buffer_append(&client->queue,
                                 (uint8_t *)parts[i].iov_base + skip,
                                 length - skip)
                   != TWS_OK) {
            return no_memory_lock_held(client, err);
        }
    }
    if (tws_buffer_length(&client->queue) > 0) {
        note_queue_lock_held(client);
        tws_client_update_interest_lock_held(client);
    }
    return TWS_OK;
}

static void
write_queue_lock_held(struct tws_client *client)
{
    struct tws_buffer *queue = &client->queue;
    while (tws_buffer_length(queue) > 0) {
        size_t written;
        struct tws_error err;
        enum tws_status status =
            tws_write(&client->transport, tws_buffer_data(queue),
                      tws_buffer_length(queue), &written, &err);
        if (status == TWS_AGAIN) {
            break;
        }
        if (status != TWS_OK) {
            fail_write_lock_held(client, &err);
            return;
        }
        client->written += written;
        tws_buffer_consume(queue, written);
    }
    if (tws_buffer_length(queue) == 0) {
        tws_buffer_release(queue);
    }
    note_queue_lock_held(client);
    tws_client_update_interest_lock_held(client);
}

void
tws_client_flush_lock_held(struct tws_client *client)
{
    struct tws_worker *worker = client->cork;
    if (tws_buffer_length(&client->queue) > 0) {
        write_queue_lock_held(client);
    }
    if (worker == NULL || tws_buffer_length(&worker->out) == 0) {
        return;
    }
    struct tws_buffer *out = &worker->out;
    struct tws_error err; /* a failure has marked the client */
    if (tws_buffer_length(&client->queue) > 0) {
        if (tws_buffer_append(&client->queue, tws_buffer_data(out),
                              tws_buffer_length(out))
            != TWS_OK) {
            (void)no_memory_lock_held(client, &err);
        }
        note_queue_lock_held(client);
    }
    else {
        struct iovec part = {.iov_base = tws_buffer_data(out),
                             .iov_len = tws_buffer_length(out)};
        (void)write_or_queue_lock_held(client, &part, 1, &err);
    }
    tws_buffer_consume(out, tws_buffer_length(out));
    if (out->capacity > OUT_KEPT) {
        tws_buffer_release(out);
    }
}

void
tws_client_flush(struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    tws_client_flush_lock_held(client);
    bool attend =
        client->receipts != NULL && client->receipts->end <= client->written;
    pthread_mutex_unlock(&client->lock);
    if (attend) {
        tws_server_attend(client->server, client);
    }
}

static enum tws_status
append_lock_held(struct tws_client *client, struct tws_buffer *to,
                 const struct iovec *parts, int count, size_t length,
                 struct tws_error *err)
{
    uint8_t *room;
    if (tws_buffer_reserve(to, length, &room) != TWS_OK) {
        return tws_error_nomem(err);
    }
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len > 0) {
            memcpy(room, parts[i].iov_base, parts[i].iov_len);
        }
        room += parts[i].iov_len;
    }
    tws_buffer_commit(to, length);
    client->accepted += length;
    return TWS_OK;
}

enum tws_status
tws_client_send_parts_lock_held(struct tws_client *client, struct iovec *parts,
                                int count, struct tws_error *err)
{
    struct tws_worker *cork = client->cork;
    enum tws_status status;
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        length += parts[i].iov_len;
    }
    if (cork != NULL && length <= COPY_MAX) {
        if (tws_buffer_length(&cork->out) > CORK_MAX) {
            tws_client_flush_lock_held(client);
        }
        status =
            append_lock_held(client, &cork->out, parts, count, length, err);
        if (status == TWS_OK && !pthread_equal(cork->thread, pthread_self())) {
            /* Another thread's: it need not wait for the handler's end. */
            tws_client_flush_lock_held(client);
        }
        return status;
    }
    if (cork != NULL) {
        tws_client_flush_lock_held(client);
    }
    if (client->write_failed) {
        return TWS_OK; /* the program hears of it by the client's end */
    }
    if (tws_buffer_length(&client->queue) > 0) {
        status = append_lock_held(client, &client->queue, parts, count, length,
                                  err); /* what is queued goes first */
        if (status == TWS_OK) {
            note_queue_lock_held(client);
        }
        return status;
    }
    client->accepted += length;
    return write_or_queue_lock_held(client, parts, count, err);
}

static enum tws_status
send_frame_lock_held(struct tws_client *client,
                     const struct tws_frame_header *fields, const char *data,
                     struct tws_error *err)
{
    uint8_t header[TWS_FRAME_HEADER_MAX];
    struct iovec parts[2] = {
        {.iov_base = header,
         .iov_len = tws_frame_header_encode(fields, header)},
        {.iov_base = (void *)(uintptr_t)data,
         .iov_len = (size_t)fields->length},
    };
    return tws_client_send_parts_lock_held(client, parts, 2, err);
}

static enum tws_status
send_payload_lock_held(struct tws_client *client,
                       const struct tws_outgoing *outgoing,
                       struct tws_error *err)
{
    enum tws_status status;
    const char *data = outgoing->bytes.data;
    size_t left = outgoing->bytes.length;
    size_t fragment = outgoing->fragment;
    struct tws_frame_header header = {.opcode = outgoing->opcode,
                                      .rsv = outgoing->rsv};
    if (fragment == 0 || fragment > left) {
        fragment = left;
    }
    do {
        header.length = left < fragment ? left : fragment;
        header.fin = header.length == left;
        status = send_frame_lock_held(client, &header, data, err);
        if (status != TWS_OK && header.opcode == TWS_OPCODE_CONTINUATION) {
            /* Half a message is out: no other may follow it. */
            (void)no_memory_lock_held(client, err);
        }
        if (!header.fin) {
            data += header.length;
        }
        left -= (size_t)header.length;
        header.opcode = TWS_OPCODE_CONTINUATION;
        header.rsv = 0;
    } while (status == TWS_OK && !header.fin);
    return status;
}

/* Remembers who wants to hear when what was accepted last has left. */
static void
add_receipt_lock_held(struct tws_client *client, struct tws_receipt *receipt,
                      void *user, bool kept)
{
    *receipt = (struct tws_receipt){
        .end = kept ? tws_client_kept_end_lock_held(client) : client->accepted,
        .user = user,
    };
    *client->receipts_end = receipt;
    client->receipts_end = &receipt->next;
}

void
tws_client_count_sent_lock_held(struct tws_client *client, unsigned messages,
                                size_t bytes)
{
    if (client->cork != NULL) {
        tws_count(&client->cork->counters.messages_out, messages);
        tws_count(&client->cork->counters.bytes_out, bytes);
    }
    else {
        tws_server_count_sent(client->server, messages, bytes);
    }
}

static enum tws_status
send_outgoing_lock_held(struct tws_client *client,
                        const struct tws_outgoing *outgoing,
                        struct tws_error *err)
{
    enum tws_status status;
    if (outgoing->packed) {
        struct iovec part = {
            .iov_base = (void *)(uintptr_t)outgoing->bytes.data,
            .iov_len = outgoing->bytes.length,
        };
        status = tws_client_send_parts_lock_held(client, &part, 1, err);
    }
    else {
        status = send_payload_lock_held(client, outgoing, err);
    }
    if (status == TWS_OK && outgoing->messages > 0) {
        tws_client_count_sent_lock_held(client, outgoing->messages,
                                        outgoing->payload);
    }
    return status;
}

/* Behind the message that is being sent in pieces. */
static enum tws_status
keep_outgoing_lock_held(struct tws_client *client,
                        const struct tws_outgoing *outgoing,
                        struct tws_error *err)
{
    size_t mark = tws_server_options(client->server)->high_water;
    enum tws_status status = tws_client_keep_lock_held(client, outgoing, err);
    atomic_store_explicit(&client->crowded,
                          tws_buffer_length(&client->stream->behind) > mark,
                          memory_order_relaxed);
    if (status == TWS_OK && outgoing->messages > 0) {
        tws_client_count_sent_lock_held(client, outgoing->messages,
                                        outgoing->payload);
    }
    return status;
}

enum tws_status
tws_client_send_outgoing(struct tws_client *client,
                         const struct tws_outgoing *outgoing, void *user,
                         struct tws_error *err)
{
    struct tws_receipt *receipt = NULL;
    enum tws_status status = TWS_EOF;
    bool attend = false;
    if (user != NULL) {
        receipt = malloc(sizeof(*receipt));
        if (receipt == NULL) {
            return tws_error_nomem(err);
        }
    }
    pthread_mutex_lock(&client->lock);
    bool kept = outgoing->waits && client->stream != NULL;
    if (client->state == TWS_CLIENT_OPEN
        && !tws_client_is_lost_lock_held(client)) {
        status = kept ? keep_outgoing_lock_held(client, outgoing, err)
                      : send_outgoing_lock_held(client, outgoing, err);
    }
    if (status == TWS_OK && receipt != NULL) {
        add_receipt_lock_held(client, receipt, user, kept);
        receipt = NULL;
        attend = client->cork == NULL; /* it may have left already */
    }
    pthread_mutex_unlock(&client->lock);
    free(receipt);
    if (attend) {
        tws_server_attend(client->server, client);
    }
    return status;
}

/* A whole message with a header of 4 bytes at most. */
static void
put_frame(struct tws_buffer *out, uint8_t opcode, struct tws_span payload)
{
    uint8_t *room = out->memory + out->end;
    size_t header = 2;
    room[0] = (uint8_t)(TWS_FIN | opcode);
    room[1] = (uint8_t)payload.length;
    if (payload.length > 125) {
        header = 4;
        room[1] = 126;
        tws_store_be16(room + 2, (uint16_t)payload.length);
    }
    memcpy(room + header, payload.data, payload.length);
    out->end += header + payload.length;
}

bool
tws_client_send_short(struct tws_client *client, uint8_t opcode,
                      struct tws_span payload)
{
    bool done = false;
    size_t most = payload.length + 4;
    if (payload.length > SHORT_MAX || client->compression != NULL
        || !tws_client_is_served_here(client)) {
        return false;
    }
    pthread_mutex_lock(&client->lock);
    struct tws_worker *cork = client->cork;
    if (cork != NULL && client->state == TWS_CLIENT_OPEN
        && !client->write_failed && client->stream == NULL
        && cork->out.capacity - cork->out.end >= most
        && tws_buffer_length(&cork->out) <= CORK_MAX) {
        size_t before = cork->out.end;
        put_frame(&cork->out, opcode, payload);
        client->accepted += cork->out.end - before;
        tws_count(&cork->counters.messages_out, 1);
        tws_count(&cork->counters.bytes_out, payload.length);
        done = true;
    }
    pthread_mutex_unlock(&client->lock);
    return done;
}

enum tws_status
tws_client_send_message(struct tws_client *client,
                        const struct tws_client_message *message,
                        struct tws_error *err)
{
    uint8_t opcode = message->opcode;
    if (tws_client_compresses(client, opcode, message->payload.length,
                              (enum tws_compress)message->compress)) {
        return tws_client_send_compressed(client, message, err);
    }
    struct tws_outgoing outgoing = {
        .bytes = message->payload,
        .waits = !tws_opcode_is_control(opcode),
        .opcode = opcode,
        .fragment = message->fragment,
        .messages = tws_opcode_is_control(opcode) ? 0 : 1,
        .payload = message->payload.length,
    };
    return tws_client_send_outgoing(client, &outgoing, message->receipt, err);
}

enum tws_status
tws_client_send(struct tws_client *client, uint8_t opcode,
                struct tws_span payload, size_t fragment, void *receipt,
                struct tws_error *err)
{
    struct tws_client_message message = {
        .payload = payload,
        .fragment = fragment,
        .receipt = receipt,
        .opcode = opcode,
    };
    return tws_client_send_message(client, &message, err);
}

enum tws_status
tws_client_send_packed(struct tws_client *client, struct tws_span frames,
                       enum tws_standing standing, unsigned messages,
                       size_t payload, void *receipt, struct tws_error *err)
{
    struct tws_outgoing outgoing = {
        .bytes = frames,
        .packed = true,
        .waits = standing == TWS_STANDS_ALONE,
        .messages = messages,
        .payload = payload,
    };
    return tws_client_send_outgoing(client, &outgoing, receipt, err);
}

enum tws_status
tws_client_send_control_lock_held(struct tws_client *client,
                                  const struct tws_control *control,
                                  struct tws_error *err)
{
    if (control->length == 0) {
        return TWS_OK;
    }
    struct iovec part = {.iov_base = (void *)(uintptr_t)control->bytes,
                         .iov_len = control->length};
    return tws_client_send_parts_lock_held(client, &part, 1, err);
}

enum tws_status
tws_client_send_close_lock_held(struct tws_client *client, uint16_t code,
                                struct tws_span reason, struct tws_error *err)
{
    struct tws_control control;
    tws_session_close(&client->session, code, reason, NULL, &control);
    if (control.length > 4) {
        /* For whoever asks why it ended; without memory it is not said. */
        client->sent_reason =
            strndup((const char *)control.bytes + 4, control.length - 4);
    }
    return tws_client_send_control_lock_held(client, &control, err);
}

enum tws_status
tws_client_close(struct tws_client *client, uint16_t code,
                 struct tws_span reason, enum tws_ended_by by,
                 struct tws_error *err)
{
    enum tws_status status = TWS_EOF;
    pthread_mutex_lock(&client->lock);
    if (client->state == TWS_CLIENT_OPEN) {
        status = tws_client_send_close_lock_held(client, code, reason, err);
        client->state = TWS_CLIENT_CLOSING;
        client->cause_by = (uint8_t)by;
        tws_client_wake_waiters_lock_held(client);
    }
    pthread_mutex_unlock(&client->lock);
    if (status != TWS_EOF) {
        tws_server_attend(client->server, client);
    }
    return status;
}

size_t
tws_client_queued(struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    size_t length = client->write_failed
                        ? 0
                        : (size_t)(client->accepted - client->written);
    if (client->stream != NULL && !client->write_failed) {
        length += tws_buffer_length(&client->stream->behind);
    }
    pthread_mutex_unlock(&client->lock);
    return length;
}
