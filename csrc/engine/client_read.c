/* What comes in from a client, on the thread that serves it. */
#include "engine/client_parts.h"
#include "engine/keepalive.h"
#include "protocol/message_stream.h"

#include <stdio.h>

enum {
    READS_A_TURN = 8, /* then the other clients have their turn */

    /* What nobody wants is inflated all the same, and may be a thousand times
     * what is read: 4 MiB are enough for a turn. */
    READ_SKIPPING = 4 * 1024,
};

/* The connection is over for the program. What worker->ending does not say
 * yet is what the client's own fields tell. */
static void
conclude(struct tws_worker *worker, struct tws_client *client,
         enum tws_ended_by by, uint16_t code, struct tws_span reason)
{
    tws_ending_set_reason(&worker->ending, code, reason);
    worker->ending.by = (uint8_t)by;
    worker->over = true;
    tws_client_describe_end(client, &worker->ending);
}

/* What is queued is not written any more, so that nobody waits for room. */
static void
set_gone_lock_held(struct tws_client *client)
{
    client->write_failed = true;
    tws_buffer_release(&client->queue);
    tws_client_update_interest_lock_held(client);
    client->state = TWS_CLIENT_GONE;
    tws_client_wake_waiters_lock_held(client);
}

static void
set_state_lock_held(struct tws_client *client, enum tws_client_state state)
{
    client->state = (uint8_t)state;
    tws_client_wake_waiters_lock_held(client);
}

void
tws_client_fail(struct tws_worker *worker, struct tws_client *client,
                const struct tws_error *why)
{
    struct tws_error err;
    uint16_t code = why->close_code != 0 ? why->close_code : TWS_CLOSE_UNABLE;
    struct tws_span reason = {.data = why->reason,
                              .length = strlen(why->reason)};
    tws_ending_clear(&worker->ending);
    pthread_mutex_lock(&client->lock);
    if (tws_client_send_close_lock_held(client, code, reason, &err)
        != TWS_OK) {
        tws_client_break_off_lock_held(client, TWS_ENDED_BY_LIMIT, 0,
                                       "out of memory for its send queue");
    }
    set_state_lock_held(client, TWS_CLIENT_LINGERING);
    pthread_mutex_unlock(&client->lock);
    conclude(worker, client,
             why->close_code != 0 ? TWS_ENDED_BY_LIMIT : TWS_ENDED_BY_US, code,
             reason);
}

/* The stream ended, or reading failed; perhaps as somebody broke it off. */
static void
lose(struct tws_worker *worker, struct tws_client *client,
     enum tws_status status, const struct tws_error *why)
{
    char text[sizeof(why->reason) + 80];
    const char *reason = "peer ended the connection without a Close frame";
    struct tws_ending *ending = &worker->ending;
    enum tws_ended_by by = TWS_ENDED_BY_NETWORK;
    tws_ending_clear(ending);
    pthread_mutex_lock(&client->lock);
    if (client->cause != NULL) {
        by = (enum tws_ended_by)client->cause_by;
        reason = client->cause;
        ending->sys_errno = client->cause_errno;
    }
    else if (status == TWS_OS || status == TWS_TLS) {
        reason = why->reason;
        ending->sys_errno = why->sys_errno;
    }
    else if (client->state == TWS_CLIENT_CLOSING) {
        by = (enum tws_ended_by)client->cause_by;
        reason = "peer ended the connection without an answer to our Close "
                 "frame";
    }
    set_gone_lock_held(client);
    pthread_mutex_unlock(&client->lock);
    if (ending->sys_errno != 0) {
        char words[TWS_ERRNO_TEXT];
        (void)snprintf(text, sizeof(text), "%s: %s", reason,
                       tws_errno_text(ending->sys_errno, words));
        reason = text;
    }
    struct tws_span span = {.data = reason, .length = strlen(reason)};
    conclude(worker, client, by, TWS_CLOSE_ABNORMAL, span);
    worker->lost = true;
}

void
tws_client_give_up(struct tws_worker *worker, struct tws_client *client,
                   enum tws_ended_by by, const char *reason)
{
    struct tws_span span = {.data = reason, .length = strlen(reason)};
    struct tws_error err;
    tws_ending_clear(&worker->ending);
    pthread_mutex_lock(&client->lock);
    if (by == TWS_ENDED_BY_KEEPALIVE) {
        /* It may hear of it yet; lingering has its own limit. */
        (void)tws_client_send_close_lock_held(client, TWS_CLOSE_UNABLE, span,
                                              &err);
        set_state_lock_held(client, TWS_CLIENT_LINGERING);
        worker->lost = client->write_failed;
    }
    else {
        set_gone_lock_held(client);
        worker->lost = true;
    }
    pthread_mutex_unlock(&client->lock);
    conclude(worker, client, by, TWS_CLOSE_ABNORMAL, span);
}

/* Reads once: into the scratch, or into a large message's own memory, which
 * may complete it (TWS_OK). TWS_AGAIN with *more: look at the cursor again;
 * without: there is nothing to read now, or others have their turn. */
static enum tws_status
read_more(struct tws_worker *worker, struct tws_client *client, bool *more,
          struct tws_event *event, struct tws_error *err)
{
    uint8_t *room;
    size_t size;
    size_t got;
    *more = false;
    if (worker->drained || worker->reads >= READS_A_TURN) {
        return TWS_AGAIN;
    }
    worker->reads++;
    bool direct =
        client->collector == NULL
        && tws_receive_room(&client->receiving->reader,
                            &client->receiving->assembler, &room, &size);
    if (!direct) {
        room = worker->scratch;
        size = TWS_SCRATCH_SIZE;
        if (TWS_UNLIKELY(
                tws_receive_inflates_in_vain(&client->receiving->assembler))) {
            size = READ_SKIPPING;
            worker->reads = READS_A_TURN;
        }
    }
    enum tws_status status = tws_server_read(
        client->server, &client->transport, room, size, &got, err);
    if (status != TWS_OK) {
        return status;
    }
    *more = true;
    worker->drained = got < size;
    client->heard = got < UINT32_MAX - client->heard
                        ? client->heard + (uint32_t)got
                        : UINT32_MAX;
    if (direct) {
        return tws_receive_direct(&client->receiving->reader,
                                  &client->receiving->assembler,
                                  &tws_server_options(client->server)->message,
                                  room, got, event, err);
    }
    worker->cursor = (struct tws_input){.data = room, .length = got};
    return TWS_AGAIN;
}

static void
take_close(struct tws_worker *worker, struct tws_client *client,
           const struct tws_event *event, enum tws_ended_by by)
{
    struct tws_ending *ending = &worker->ending;
    tws_ending_clear(ending);
    tws_ending_set_reason(ending, event->code, event->reason);
    tws_ending_set_received(ending, event->code, event->reason);
    conclude(worker, client, by, event->code, event->reason);
}

/* Of a message that a handler reads in chunks; one of 0 bytes is its end. */
static bool
take_chunk(struct tws_worker *worker, struct tws_client *client,
           const struct tws_event *event)
{
    if (atomic_load_explicit(&client->state, memory_order_relaxed)
        != TWS_CLIENT_OPEN) {
        tws_message_stream_discard(&client->receiving->assembler);
        return false;
    }
    client->heard_message = true;
    tws_count(&worker->counters.messages_in, event->length == 0);
    tws_count(&worker->counters.bytes_in, event->length);
    return true;
}

/* True where the program is to hear of the event. */
static bool
take(struct tws_worker *worker, struct tws_client *client,
     const struct tws_event *event)
{
    client->heard = UINT32_MAX;
    if (event->type <= TWS_EVENT_BINARY) {
        if (atomic_load_explicit(&client->state, memory_order_relaxed)
            != TWS_CLIENT_OPEN) {
            return false; /* we have closed, or broken off */
        }
        client->heard_message = true;
        tws_count(&worker->counters.messages_in, 1);
        tws_count(&worker->counters.bytes_in, event->length);
        return true;
    }
    if (event->type == TWS_EVENT_FRAME) {
        return atomic_load_explicit(&client->state, memory_order_relaxed)
               == TWS_CLIENT_OPEN;
    }
    if (event->type == TWS_EVENT_CHUNK) {
        return take_chunk(worker, client, event);
    }
    if (event->type == TWS_EVENT_PONG
        && tws_keepalive_take_pong(client, event)) {
        return false;
    }
    struct tws_control reply;
    struct tws_error err;
    enum tws_ended_by by = TWS_ENDED_BY_PEER;
    pthread_mutex_lock(&client->lock);
    if (client->state == TWS_CLIENT_CLOSING) {
        by = (enum tws_ended_by)client->cause_by;
        tws_message_stream_discard(
            &client->receiving->assembler); /* chunks at hand */
    }
    bool concerns = tws_session_take(&client->session, event, NULL, &reply);
    if (tws_client_send_control_lock_held(client, &reply, &err) != TWS_OK) {
        tws_client_break_off_lock_held(client, TWS_ENDED_BY_US, 0,
                                       "out of memory for its send queue");
    }
    if (event->type == TWS_EVENT_CLOSE) {
        /* At once: nothing may follow our Close (RFC 6455 5.5.1). */
        set_state_lock_held(client, TWS_CLIENT_LINGERING);
    }
    pthread_mutex_unlock(&client->lock);
    if (event->type == TWS_EVENT_CLOSE) {
        take_close(worker, client, event, by);
        return false;
    }
    return concerns;
}

void
tws_client_settle_received(struct tws_client *client)
{
    tws_assembler_settle(&client->receiving->assembler);
    if (client->collector != NULL) {
        tws_frame_collector_settle(client->collector);
    }
}

bool
tws_client_note_message(struct tws_client *client, unsigned messages,
                        size_t bytes)
{
    struct tws_worker *worker = client->worker;
    if (atomic_load_explicit(&client->state, memory_order_relaxed)
        != TWS_CLIENT_OPEN) {
        return false;
    }
    client->heard_message = true;
    tws_count(&worker->counters.messages_in, messages);
    tws_count(&worker->counters.bytes_in, bytes);
    return true;
}

/* Without the exclusion where it takes longer than that costs. */
static enum tws_status
receive(struct tws_client *client, struct tws_input *input,
        struct tws_event *event, struct tws_error *err)
{
    struct tws_frame_reader *reader = &client->receiving->reader;
    struct tws_assembler *assembler = &client->receiving->assembler;
    const struct tws_message_limits *limits =
        &tws_server_options(client->server)->message;
    if (TWS_LIKELY(client->collector == NULL && client->compression == NULL)) {
        return tws_receive(reader, assembler, limits, input, event, err);
    }
    if (client->collector != NULL) {
        return tws_frame_collector_receive(
            reader, client->collector, assembler, limits, input, event, err);
    }
    if (!tws_receive_is_heavy(reader, assembler, input)) {
        return tws_receive(reader, assembler, limits, input, event, err);
    }
    void *token = tws_server_leave(client->server);
    enum tws_status status =
        tws_receive(reader, assembler, limits, input, event, err);
    tws_server_enter(client->server, token);
    return status;
}

enum tws_status
tws_client_next(struct tws_worker *worker, struct tws_client *client,
                struct tws_event *event)
{
    struct tws_error err;
    while (!worker->over) {
        bool more = true;
        enum tws_status status = receive(client, &worker->cursor, event, &err);
        if (status == TWS_AGAIN) {
            status = read_more(worker, client, &more, event, &err);
        }
        switch (status) {
        case TWS_OK:
            if (take(worker, client, event)) {
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
            tws_client_fail(worker, client, &err);
            break;
        default:
            lose(worker, client, status, &err);
            break;
        }
    }
    return TWS_EOF;
}
