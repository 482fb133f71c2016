#include "engine/client.h"

#include "engine/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READS_A_TURN = 16,    /* then the other clients have their turn */
    CORK_MAX = 64 * 1024, /* gathered frames are written beyond it */
    COPY_MAX = 16 * 1024 + TWS_FRAME_HEADER_MAX, /* larger frames are sent
                                                  * without being copied */
    OUT_KEPT = 256 * 1024, /* capacity a driver keeps for its frames */
};

struct tws_client *
tws_client_new(struct tws_server *server,
               const struct tws_transport *transport)
{
    struct tws_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return NULL;
    }
    if (pthread_mutex_init(&client->lock, NULL) != 0) {
        free(client);
        return NULL;
    }
    client->watch.kind = TWS_WATCH_CLIENT;
    client->transport = *transport;
    client->server = server;
    tws_frame_reader_init(&client->reader, TWS_SERVER);
    atomic_init(&client->state, TWS_CLIENT_OPEN);
    atomic_init(&client->references, 1);
    return client;
}

void
tws_client_retain(struct tws_client *client)
{
    atomic_fetch_add_explicit(&client->references, 1, memory_order_relaxed);
}

void
tws_client_release(struct tws_client *client)
{
    if (atomic_fetch_sub_explicit(&client->references, 1, memory_order_acq_rel)
        != 1) {
        return;
    }
    if (client->transport.fd >= 0) {
        close(client->transport.fd);
    }
    tws_assembler_release(&client->assembler);
    tws_buffer_release(&client->unread);
    tws_buffer_release(&client->queue);
    pthread_mutex_destroy(&client->lock);
    free(client);
}

/* Nothing more can be sent. Whoever reads next finds the end of the stream,
 * and so the driver learns of it. */
static void
break_off_lock_held(struct tws_client *client)
{
    client->write_failed = true;
    tws_buffer_release(&client->queue);
    client->congested = false;
    if (client->transport.fd >= 0) {
        (void)shutdown(client->transport.fd, SHUT_RDWR);
    }
}

static void
note_queue_lock_held(struct tws_client *client)
{
    size_t mark = tws_server_options(client->server)->high_water;
    if (client->congested) {
        mark /= 4; /* low water: not to pause and resume at every message */
    }
    atomic_store_explicit(&client->congested,
                          tws_buffer_length(&client->queue) > mark,
                          memory_order_relaxed);
}

/* Asks the poller for what the client needs now. */
static void
update_interest_lock_held(struct tws_client *client)
{
    unsigned events = TWS_READABLE;
    if (client->paused) {
        /* Even with an empty queue: being writable is what ends a pause. */
        events = TWS_WRITABLE;
    }
    else if (tws_buffer_length(&client->queue) > 0) {
        events |= TWS_WRITABLE;
    }
    if (events == client->interest || client->write_failed
        || client->transport.fd < 0) {
        return;
    }
    struct tws_error err;
    if (tws_server_watch(client->server, client, events, &err) == TWS_OK) {
        client->interest = events;
    }
    else {
        break_off_lock_held(client); /* unwatched it would hang for ever */
    }
}

/* Writes the parts as far as the kernel takes them and queues the rest. The
 * queue is empty. */
static enum tws_status
write_or_queue_lock_held(struct tws_client *client, struct iovec *parts,
                         int count, struct tws_error *err)
{
    size_t written = 0;
    enum tws_status status = TWS_OK;
    if (!client->write_failed) {
        status = tws_writev(&client->transport, parts, count, &written, err);
    }
    if (status == TWS_OS) {
        break_off_lock_held(client);
    }
    if (client->write_failed) {
        return TWS_OK;
    }
    if (status == TWS_AGAIN) {
        written = 0;
    }
    for (int i = 0; i < count; i++) {
        size_t length = parts[i].iov_len;
        size_t skip = written < length ? written : length;
        written -= skip;
        if (tws_buffer_append(&client->queue,
                              (uint8_t *)parts[i].iov_base + skip,
                              length - skip)
            != TWS_OK) {
            /* Part of a frame may be out: the stream can't go on. */
            break_off_lock_held(client);
            return tws_error_nomem(err);
        }
    }
    note_queue_lock_held(client);
    update_interest_lock_held(client);
    return TWS_OK;
}

static void
write_queue_lock_held(struct tws_client *client)
{
    struct tws_buffer *queue = &client->queue;
    while (tws_buffer_length(queue) > 0 && !client->write_failed) {
        size_t written;
        struct tws_error err;
        enum tws_status status =
            tws_write(&client->transport, tws_buffer_data(queue),
                      tws_buffer_length(queue), &written, &err);
        if (status == TWS_AGAIN) {
            break;
        }
        if (status != TWS_OK) {
            break_off_lock_held(client);
            break;
        }
        tws_buffer_consume(queue, written);
    }
    if (tws_buffer_length(queue) == 0) {
        tws_buffer_release(queue);
    }
    note_queue_lock_held(client);
    update_interest_lock_held(client);
}

static void
flush_lock_held(struct tws_client *client)
{
    struct tws_driver *driver = client->cork;
    if (tws_buffer_length(&client->queue) > 0) {
        write_queue_lock_held(client);
    }
    if (driver == NULL || tws_buffer_length(&driver->out) == 0) {
        return;
    }
    struct tws_buffer *out = &driver->out;
    struct tws_error err;
    if (tws_buffer_length(&client->queue) > 0) {
        if (tws_buffer_append(&client->queue, tws_buffer_data(out),
                              tws_buffer_length(out))
            != TWS_OK) {
            break_off_lock_held(client);
        }
        note_queue_lock_held(client);
    }
    else {
        struct iovec part = {.iov_base = tws_buffer_data(out),
                             .iov_len = tws_buffer_length(out)};
        /* A failure has marked the client; its next read ends it. */
        (void)write_or_queue_lock_held(client, &part, 1, &err);
    }
    tws_buffer_consume(out, tws_buffer_length(out));
    if (out->capacity > OUT_KEPT) {
        tws_buffer_release(out);
    }
}

/* Sends parts that make up whole frames. */
static enum tws_status
send_parts_lock_held(struct tws_client *client, struct iovec *parts, int count,
                     struct tws_error *err)
{
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        length += parts[i].iov_len;
    }
    struct tws_buffer *to = NULL;
    if (client->cork != NULL) {
        if (length > COPY_MAX
            || tws_buffer_length(&client->cork->out) > CORK_MAX) {
            flush_lock_held(client);
        }
        if (length <= COPY_MAX) {
            to = &client->cork->out;
        }
    }
    if (to == NULL && tws_buffer_length(&client->queue) > 0) {
        to = &client->queue; /* what is queued goes first */
    }
    if (to == NULL) {
        return write_or_queue_lock_held(client, parts, count, err);
    }
    uint8_t *room;
    if (client->write_failed) {
        return TWS_OK;
    }
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
    note_queue_lock_held(client);
    return TWS_OK;
}

static enum tws_status
send_frame_lock_held(struct tws_client *client, uint8_t opcode, bool fin,
                     struct tws_span payload, struct tws_error *err)
{
    uint8_t header[TWS_FRAME_HEADER_MAX];
    struct tws_frame_header fields = {
        .opcode = opcode,
        .fin = fin,
        .length = payload.length,
    };
    struct iovec parts[2] = {
        {.iov_base = header,
         .iov_len = tws_frame_header_encode(&fields, header)},
        {.iov_base = (void *)(uintptr_t)payload.data,
         .iov_len = payload.length},
    };
    return send_parts_lock_held(client, parts, 2, err);
}

enum tws_status
tws_client_send(struct tws_client *client, uint8_t opcode,
                struct tws_span payload, size_t fragment,
                struct tws_error *err)
{
    enum tws_status status = TWS_EOF;
    pthread_mutex_lock(&client->lock);
    if (client->state != TWS_CLIENT_OPEN) {
        goto done;
    }
    if (fragment == 0 || fragment > payload.length) {
        fragment = payload.length;
    }
    bool last;
    do {
        struct tws_span part = {.data = payload.data, .length = fragment};
        last = fragment == payload.length;
        status = send_frame_lock_held(client, opcode, last, part, err);
        if (status != TWS_OK && opcode == TWS_OPCODE_CONTINUATION) {
            /* Half a message is out: no other may follow it. */
            break_off_lock_held(client);
        }
        if (!last) {
            payload.data += fragment;
        }
        payload.length -= fragment;
        if (fragment > payload.length) {
            fragment = payload.length;
        }
        opcode = TWS_OPCODE_CONTINUATION;
    } while (status == TWS_OK && !last);
done:
    pthread_mutex_unlock(&client->lock);
    return status;
}

enum tws_status
tws_client_send_packed(struct tws_client *client, struct tws_span frames,
                       struct tws_error *err)
{
    enum tws_status status = TWS_EOF;
    pthread_mutex_lock(&client->lock);
    if (client->state == TWS_CLIENT_OPEN) {
        struct iovec part = {.iov_base = (void *)(uintptr_t)frames.data,
                             .iov_len = frames.length};
        status = send_parts_lock_held(client, &part, 1, err);
    }
    pthread_mutex_unlock(&client->lock);
    return status;
}

static enum tws_status
send_control_lock_held(struct tws_client *client,
                       const struct tws_control *control,
                       struct tws_error *err)
{
    if (control->length == 0) {
        return TWS_OK;
    }
    struct iovec part = {.iov_base = (void *)(uintptr_t)control->bytes,
                         .iov_len = control->length};
    return send_parts_lock_held(client, &part, 1, err);
}

enum tws_status
tws_client_close(struct tws_client *client, uint16_t code,
                 struct tws_span reason, struct tws_error *err)
{
    enum tws_status status = TWS_EOF;
    struct tws_control control;
    pthread_mutex_lock(&client->lock);
    if (client->state == TWS_CLIENT_OPEN) {
        tws_session_close(&client->session, code, reason, NULL, &control);
        status = send_control_lock_held(client, &control, err);
        client->state = TWS_CLIENT_CLOSING;
    }
    pthread_mutex_unlock(&client->lock);
    if (status != TWS_EOF) {
        tws_server_todo(client->server, client);
    }
    return status;
}

void
tws_client_break_off(struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    break_off_lock_held(client);
    pthread_mutex_unlock(&client->lock);
}

size_t
tws_client_queued(struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    size_t length = tws_buffer_length(&client->queue);
    if (client->cork != NULL) {
        length += tws_buffer_length(&client->cork->out);
    }
    pthread_mutex_unlock(&client->lock);
    return length;
}

void
tws_client_cork(struct tws_driver *driver, struct tws_client *client,
                struct tws_input rest)
{
    driver->client = client;
    driver->reads = 0;
    driver->drained = false;
    driver->cursor = rest;
    driver->ending.over = false;
    pthread_mutex_lock(&client->lock);
    client->cork = driver;
    pthread_mutex_unlock(&client->lock);
}

void
tws_client_pause(struct tws_client *client, bool paused)
{
    pthread_mutex_lock(&client->lock);
    client->paused = paused;
    update_interest_lock_held(client);
    pthread_mutex_unlock(&client->lock);
}

void
tws_client_flush(struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    flush_lock_held(client);
    pthread_mutex_unlock(&client->lock);
}

void
tws_client_uncork(struct tws_driver *driver, struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    flush_lock_held(client);
    client->cork = NULL;
    pthread_mutex_unlock(&client->lock);
    driver->client = NULL;
}

/* A rule was broken, or memory is short: says so with a Close frame. */
static void
fail(struct tws_driver *driver, struct tws_client *client,
     const struct tws_error *why)
{
    struct tws_control control;
    struct tws_error err;
    uint16_t code = why->close_code != 0 ? why->close_code : TWS_CLOSE_UNABLE;
    struct tws_span reason = {.data = why->reason,
                              .length = strlen(why->reason)};
    pthread_mutex_lock(&client->lock);
    tws_session_close(&client->session, code, reason, NULL, &control);
    if (send_control_lock_held(client, &control, &err) != TWS_OK) {
        break_off_lock_held(client);
    }
    client->state = TWS_CLIENT_LINGERING;
    pthread_mutex_unlock(&client->lock);
    tws_driver_end(driver, code, reason);
    driver->ending.ours = true;
}

/* The stream ended, or reading failed. */
static void
lose(struct tws_driver *driver, struct tws_client *client,
     enum tws_status status, const struct tws_error *why)
{
    struct tws_span reason =
        TWS_SPAN("peer ended the connection without a Close frame");
    char text[sizeof(driver->ending.reason)];
    if (status == TWS_OS) {
        int length = snprintf(text, sizeof(text), "%s: %s", why->reason,
                              strerror(why->sys_errno));
        reason = (struct tws_span){.data = text, .length = (size_t)length};
    }
    pthread_mutex_lock(&client->lock);
    client->state = TWS_CLIENT_GONE;
    pthread_mutex_unlock(&client->lock);
    tws_driver_end(driver, TWS_CLOSE_ABNORMAL, reason);
    driver->ending.lost = true;
}

/* Reads once: into the scratch, or into a large message's own memory, which
 * may complete it (TWS_OK). TWS_AGAIN with *more: look at the cursor again;
 * without: there is nothing to read now, or others have their turn. */
static enum tws_status
read_more(struct tws_driver *driver, struct tws_client *client, bool *more,
          struct tws_event *event, struct tws_error *err)
{
    uint8_t *room;
    size_t size;
    size_t got;
    *more = false;
    if (driver->drained || driver->reads >= READS_A_TURN) {
        return TWS_AGAIN;
    }
    driver->reads++;
    bool direct =
        tws_receive_room(&client->reader, &client->assembler, &room, &size);
    if (!direct) {
        room = driver->scratch;
        size = TWS_SCRATCH_SIZE;
    }
    enum tws_status status =
        tws_read(&client->transport, room, size, &got, err);
    if (status != TWS_OK) {
        return status;
    }
    *more = true;
    driver->drained = got < size;
    if (direct) {
        return tws_receive_direct(&client->reader, &client->assembler,
                                  &tws_server_options(client->server)->message,
                                  room, got, event, err);
    }
    driver->cursor = (struct tws_input){.data = room, .length = got};
    return TWS_AGAIN;
}

/* True where the program is to hear of the event. */
static bool
take(struct tws_driver *driver, struct tws_client *client,
     const struct tws_event *event)
{
    if (event->type <= TWS_EVENT_BINARY
        && atomic_load_explicit(&client->state, memory_order_relaxed)
               == TWS_CLIENT_OPEN) {
        return true;
    }
    struct tws_control reply;
    struct tws_error err;
    pthread_mutex_lock(&client->lock);
    bool concerns = tws_session_take(&client->session, event, NULL, &reply);
    if (send_control_lock_held(client, &reply, &err) != TWS_OK) {
        break_off_lock_held(client);
    }
    if (event->type == TWS_EVENT_CLOSE) {
        client->state = TWS_CLIENT_LINGERING;
    }
    pthread_mutex_unlock(&client->lock);
    if (event->type == TWS_EVENT_CLOSE) {
        tws_driver_end(driver, event->code, event->reason);
        return false;
    }
    return concerns;
}

enum tws_status
tws_client_next(struct tws_driver *driver, struct tws_client *client,
                struct tws_event *event)
{
    const struct tws_message_limits *limits =
        &tws_server_options(client->server)->message;
    struct tws_error err;
    while (!driver->ending.over) {
        bool more = true;
        enum tws_status status =
            tws_receive(&client->reader, &client->assembler, limits,
                        &driver->cursor, event, &err);
        if (status == TWS_AGAIN) {
            status = read_more(driver, client, &more, event, &err);
        }
        switch (status) {
        case TWS_OK:
            if (take(driver, client, event)) {
                return TWS_OK;
            }
            break;
        case TWS_AGAIN:
            if (!more) {
                return TWS_AGAIN;
            }
            break;
        case TWS_PROTOCOL:
        case TWS_NOMEM:
            fail(driver, client, &err);
            break;
        default:
            lose(driver, client, status, &err);
            break;
        }
    }
    return TWS_EOF;
}
