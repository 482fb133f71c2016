#include "engine/client.h"

#include "engine/client_parts.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

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
    client->receipts_end = &client->receipts;
    client->rules.leaves_masked = tws_server_options(server)->leaves_masked;
    atomic_init(&client->state, TWS_CLIENT_OPEN);
    atomic_init(&client->references, 1);
    return client;
}

enum tws_status
tws_client_agree(struct tws_client *client, const struct tws_agreed *agreed,
                 struct tws_error *err)
{
    client->rules.rsv = agreed->rsv;
    client->rules.opcodes = agreed->opcodes;
    client->compression = agreed->compression;
    if (agreed->raw_frames) {
        client->collector = calloc(1, sizeof(*client->collector));
        if (client->collector == NULL) {
            return tws_error_nomem(err);
        }
    }
    return TWS_OK;
}

bool
tws_client_keep_received(struct tws_client *client, struct tws_input rest)
{
    if (client->receiving == NULL) {
        client->receiving = tws_receiving_new(client);
    }
    return client->receiving != NULL
           && tws_buffer_append(&client->receiving->unread, rest.data,
                                rest.length)
                  == TWS_OK;
}

void
tws_client_forget_received(struct tws_client *client)
{
    tws_receiving_free(client->receiving);
    client->receiving = NULL;
    if (client->collector != NULL) {
        tws_frame_collector_release(client->collector);
    }
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
    int fd = client->transport.fd;
    tws_transport_release(&client->transport);
    if (fd >= 0) {
        close(fd);
    }
    tws_client_forget_received(client);
    free(client->collector);
    tws_buffer_release(&client->queue);
    if (client->stream != NULL) {
        tws_deflater_free(client->stream->deflater);
        tws_buffer_release(&client->stream->behind);
        free(client->stream);
    }
    tws_compression_free(client->compression);
    free(client->sent_reason);
    pthread_mutex_destroy(&client->lock);
    free(client);
}

/* Calls the one below, which calls back only where there is no cause yet. */
void /* NOLINTNEXTLINE(misc-no-recursion) */
tws_client_break_off_lock_held(struct tws_client *client, enum tws_ended_by by,
                               int sys_errno, const char *cause)
{
    if (client->cause == NULL) {
        client->cause = cause;
        client->cause_by = (uint8_t)by;
        client->cause_errno = sys_errno;
    }
    client->write_failed = true;
    tws_buffer_release(&client->queue);
    atomic_store_explicit(&client->congested, false, memory_order_relaxed);
    if (client->transport.fd >= 0) {
        (void)shutdown(client->transport.fd, SHUT_RDWR);
    }
    /* A paused or detached client is not read from until somebody does
     * something about it. */
    client->paused = false;
    tws_client_update_interest_lock_held(client);
    tws_client_wake_waiters_lock_held(client);
}

bool
tws_client_is_lost_lock_held(const struct tws_client *client)
{
    return client->write_failed && client->detached;
}

void
tws_client_break_off(struct tws_client *client, enum tws_ended_by by,
                     const char *cause)
{
    pthread_mutex_lock(&client->lock);
    if (client->state == TWS_CLIENT_OPEN) {
        client->state = TWS_CLIENT_CLOSING; /* what was received is void */
    }
    tws_client_break_off_lock_held(client, by, 0, cause);
    pthread_mutex_unlock(&client->lock);
}

static unsigned
wanted_events(const struct tws_client *client)
{
    bool queued =
        tws_buffer_length(&client->queue) > 0 && !client->write_failed;
    if (client->detached) {
        /* Its worker reads; only what is queued is to leave meanwhile. */
        return queued ? TWS_WRITABLE : 0;
    }
    if (client->paused) {
        /* Even with an empty queue: being writable is what ends a pause. */
        return TWS_WRITABLE;
    }
    return TWS_READABLE | (queued ? TWS_WRITABLE : 0U);
}

void /* NOLINTNEXTLINE(misc-no-recursion): see above, at most once */
tws_client_update_interest_lock_held(struct tws_client *client)
{
    unsigned events = wanted_events(client);
    if (events == client->interest || client->transport.fd < 0) {
        return;
    }
    struct tws_error err;
    if (tws_server_watch(client->server, client, client->interest, events,
                         &err)
        == TWS_OK) {
        client->interest = (uint8_t)events;
    }
    else if (client->cause == NULL) {
        /* Unwatched it would hang for ever. */
        tws_client_break_off_lock_held(client, TWS_ENDED_BY_US, err.sys_errno,
                                       "its socket could not be watched");
    }
}

/* Waiting ---------------------------------------------------------------- */

static bool
is_so_lock_held(const struct tws_client *client, enum tws_await what)
{
    switch (what) {
    case TWS_AWAIT_ROOM:
        return !client->congested || client->state != TWS_CLIENT_OPEN;
    case TWS_AWAIT_STREAM:
        return client->stream == NULL || client->state != TWS_CLIENT_OPEN;
    case TWS_AWAIT_OVER:
        break;
    }
    return client->state >= TWS_CLIENT_LINGERING;
}

bool
tws_client_await(struct tws_client *client, enum tws_await what,
                 struct tws_waiter *waiter)
{
    pthread_mutex_lock(&client->lock);
    bool wait = !is_so_lock_held(client, what);
    if (wait && !waiter->linked) {
        waiter->next = client->waiters;
        client->waiters = waiter;
        waiter->linked = true;
    }
    pthread_mutex_unlock(&client->lock);
    return wait;
}

void
tws_client_forget(struct tws_client *client, struct tws_waiter *waiter)
{
    pthread_mutex_lock(&client->lock);
    if (waiter->linked) {
        struct tws_waiter **link = &client->waiters;
        while (*link != waiter) {
            link = &(*link)->next;
        }
        *link = waiter->next;
        waiter->linked = false;
    }
    pthread_mutex_unlock(&client->lock);
}

void
tws_client_wake_waiters_lock_held(struct tws_client *client)
{
    while (client->waiters != NULL) {
        struct tws_waiter *waiter = client->waiters;
        client->waiters = waiter->next;
        waiter->linked = false;
        waiter->wake(waiter); /* it may be gone when this returns */
    }
}

/* Serving ---------------------------------------------------------------- */

void
tws_client_cork(struct tws_worker *worker, struct tws_client *client,
                struct tws_input rest)
{
    tws_worker_begin(worker, client, rest);
    client->worker = worker;
    atomic_store_explicit(&client->serving_thread, (uintptr_t)worker->thread,
                          memory_order_relaxed);
    pthread_mutex_lock(&client->lock);
    client->cork = worker;
    pthread_mutex_unlock(&client->lock);
}

struct tws_receipt *
tws_client_uncork(struct tws_worker *worker, struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    tws_client_flush_lock_held(client);
    struct tws_receipt *receipt = client->receipts;
    if (TWS_UNLIKELY(receipt != NULL) && receipt->end <= client->written) {
        client->receipts = receipt->next;
        if (client->receipts == NULL) {
            client->receipts_end = &client->receipts;
        }
        pthread_mutex_unlock(&client->lock);
        return receipt;
    }
    client->cork = NULL;
    pthread_mutex_unlock(&client->lock);
    atomic_store_explicit(&client->serving_thread, 0, memory_order_relaxed);
    client->worker = NULL;
    worker->client = NULL;
    return NULL;
}

void
tws_client_pause(struct tws_client *client, bool paused)
{
    pthread_mutex_lock(&client->lock);
    client->paused = paused;
    tws_client_update_interest_lock_held(client);
    pthread_mutex_unlock(&client->lock);
}

void
tws_client_detach(struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    tws_client_flush_lock_held(client);
    client->cork = NULL;
    client->detached = true;
    tws_client_update_interest_lock_held(client);
    pthread_mutex_unlock(&client->lock);
}

void
tws_client_give_back(struct tws_client *client)
{
    /* From here on the driver may take it back, where something else has
     * queued it, and be done with it. */
    tws_client_retain(client);
    pthread_mutex_lock(&client->lock);
    client->returned = true;
    pthread_mutex_unlock(&client->lock);
    tws_server_attend(client->server, client);
    tws_client_release(client);
}

bool
tws_client_take_back(struct tws_client *client)
{
    pthread_mutex_lock(&client->lock);
    bool returned = client->returned;
    if (returned) {
        client->returned = false;
        client->detached = false;
        tws_client_update_interest_lock_held(client);
    }
    pthread_mutex_unlock(&client->lock);
    return returned;
}

/* The end ---------------------------------------------------------------- */

void
tws_client_describe_end(struct tws_client *client, struct tws_ending *ending)
{
    pthread_mutex_lock(&client->lock);
    ending->sent_code = client->session.sent_code;
    ending->received_code = client->session.received_code;
    if (client->sent_reason != NULL) {
        struct tws_span reason = {.data = client->sent_reason,
                                  .length = strlen(client->sent_reason)};
        tws_ending_set_sent(ending, client->session.sent_code, reason);
    }
    ending->unsent = client->accepted - client->written;
    pthread_mutex_unlock(&client->lock);
    uint64_t ping =
        atomic_load_explicit(&client->ping_sent_at, memory_order_relaxed);
    ending->ping_age = ping == 0 ? UINT64_MAX : tws_clock_now() - ping;
}

void
tws_client_describe_closing(struct tws_client *client,
                            struct tws_ending *ending)
{
    const char *reason = "the closing handshake has begun";
    uint16_t code = TWS_CLOSE_ABNORMAL;
    tws_ending_clear(ending);
    pthread_mutex_lock(&client->lock);
    ending->by = client->cause_by;
    ending->sys_errno = client->cause_errno;
    if (client->cause != NULL) {
        reason = client->cause;
    }
    else if (client->session.sent_code != 0) {
        code = client->session.sent_code;
    }
    pthread_mutex_unlock(&client->lock);
    struct tws_span span = {.data = reason, .length = strlen(reason)};
    tws_ending_set_reason(ending, code, span);
    tws_client_describe_end(client, ending);
}

/* Encryption ------------------------------------------------------------- */

bool
tws_client_tls_info(struct tws_client *client, struct tws_tls_info *info)
{
    pthread_mutex_lock(&client->lock);
    bool found = client->transport.tls != NULL;
    if (found) {
        tws_tls_read_info(client->transport.tls, info);
    }
    pthread_mutex_unlock(&client->lock);
    return found;
}

enum tws_status
tws_client_peer_certificate(struct tws_client *client, uint8_t **der,
                            size_t *length, struct tws_error *err)
{
    enum tws_status status = TWS_EOF;
    pthread_mutex_lock(&client->lock);
    if (client->transport.tls != NULL) {
        status =
            tws_tls_peer_certificate(client->transport.tls, der, length, err);
    }
    pthread_mutex_unlock(&client->lock);
    return status;
}
