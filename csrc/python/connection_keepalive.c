/* Whether a silent peer is there still: the client's side of what
 * engine/keepalive.c does for a server. No message costs a look at the clock;
 * whoever reads counts, and the keeper sees at its looks whether the count
 * has moved. */
#include "python/connection_ahead.h"

#include "net/progress.h"

enum {
    LOOKS = 4, /* in an interval, where the program reads */
    GRID = 16, /* wake-ups between two looks, however many connections */
    PING_LENGTH = 8,
};

static const char unanswered[] = "did not answer a ping within ping_timeout";

static void
pack_payload(const struct tws_ahead *ahead, uint8_t payload[PING_LENGTH])
{
    memcpy(payload, ahead->tag, sizeof(ahead->tag));
    for (int i = 0; i < 4; i++) {
        payload[4 + i] = (uint8_t)(ahead->ping_serial >> (8 * i));
    }
}

bool
tws_ahead_take_pong(struct tws_ahead *ahead, const struct tws_event *event)
{
    uint8_t payload[PING_LENGTH];
    if (ahead->ping_serial == 0 || event->length != sizeof(payload)
        || memcmp(event->data, ahead->tag, sizeof(ahead->tag)) != 0) {
        return false;
    }
    pack_payload(ahead, payload);
    if (ahead->ping_sent_at != 0
        && memcmp(event->data, payload, sizeof(payload)) == 0) {
        uint64_t latency = tws_clock_now() - ahead->ping_sent_at;
        atomic_store(&ahead->latency, latency == 0 ? 1 : latency);
        ahead->ping_sent_at = 0;
    }
    return true;
}

static void
send_ping(ConnectionObject *conn, uint64_t now)
{
    struct tws_ahead *ahead = conn->blocking->ahead;
    WebsocketObject *ws = websocket_of(conn);
    struct tws_control control;
    struct tws_progress progress;
    uint8_t payload[PING_LENGTH];
    uint8_t storage[4];
    const uint8_t *key;
    if (tws_websocket_draw_key(ws, storage, &key) < 0) {
        PyErr_Clear(); /* the next look tries again */
        return;
    }
    pthread_mutex_lock(&conn->blocking->lock);
    ahead->ping_serial++;
    ahead->ping_sent_at = now;
    pack_payload(ahead, payload);
    pthread_mutex_unlock(&conn->blocking->lock);
    tws_control_pack(&control, TWS_OPCODE_PING, payload, sizeof(payload), key);
    (void)tws_progress_read(ws->transport.fd, &progress);
    ahead->acknowledged = progress.acknowledged;
    ahead->pinged_at = now;
    ahead->waits_since = now;
    if (tws_websocket_send_control(ws, &control) < 0) {
        PyErr_Clear(); /* one that can't be sent is not answered */
    }
}

/* Something of the peer's waits to be read, or its system takes what it is
 * sent: the ping may stand in a long queue. What TLS has taken from the
 * descriptor is the reader's to look at, who does. */
static bool
still_moves(ConnectionObject *conn)
{
    struct tws_ahead *ahead = conn->blocking->ahead;
    WebsocketObject *ws = websocket_of(conn);
    struct tws_error ignored;
    struct tws_progress progress;
    unsigned ready = 0;
    if (tws_socket_wait(ws->transport.fd, TWS_WAIT_READ, 0, &ready, &ignored)
        == TWS_OK) {
        return true;
    }
    if (!tws_progress_read(ws->transport.fd, &progress)) {
        return false;
    }
    bool more = progress.acknowledged > ahead->acknowledged;
    ahead->acknowledged = progress.acknowledged;
    return more && progress.outstanding;
}

/* Whoever waits for it in another thread finds it over. */
static void
give_up(ConnectionObject *conn)
{
    struct tws_span reason = TWS_SPAN(unanswered);
    if (tws_blocking_send_close(conn, TWS_CLOSE_UNABLE, reason) < 0) {
        PyErr_Clear(); /* nobody is likely to read it */
    }
    tws_blocking_set_over(conn, TWS_ENDED_BY_KEEPALIVE, TWS_CLOSE_ABNORMAL,
                          reason, 0);
    if (tws_blocking_close_stream(conn) < 0) {
        PyErr_WriteUnraisable((PyObject *)conn);
    }
}

/* On a common grid, so that many are looked at together. */
static uint64_t
on_grid(uint64_t at, uint64_t interval)
{
    uint64_t step = interval / LOOKS / GRID;
    if (step == 0 || at >= UINT64_MAX - step) {
        return at;
    }
    return at + step - at % step;
}

static uint64_t
after(uint64_t from, uint64_t interval)
{
    return interval < UINT64_MAX - from ? from + interval : UINT64_MAX;
}

uint64_t
tws_ahead_keep_alive(ConnectionObject *conn, uint64_t now, bool attended)
{
    struct tws_ahead *ahead = conn->blocking->ahead;
    unsigned heard = atomic_load(&websocket_of(conn)->heard);
    uint64_t interval = ahead->ping_interval;
    uint64_t timeout = ahead->ping_timeout;
    if (heard != ahead->heard_seen) {
        ahead->heard_seen = heard;
        ahead->heard_at = now;
        ahead->waits_since = now; /* the pong may be behind that */
    }
    if (!attended || !ahead->attended) {
        ahead->waits_since = now; /* it may have come long ago */
    }
    ahead->attended = attended;
    pthread_mutex_lock(&conn->blocking->lock);
    bool waits = ahead->ping_sent_at != 0;
    bool open =
        tws_session_open(&conn->blocking->session) && !conn->blocking->over;
    pthread_mutex_unlock(&conn->blocking->lock);
    if (!open || interval == UINT64_MAX) {
        return UINT64_MAX;
    }
    if (waits && now - ahead->waits_since >= timeout) {
        if (!still_moves(conn)) {
            give_up(conn);
            return UINT64_MAX;
        }
        ahead->waits_since = now;
    }
    /* Where nobody reads, pings go on, without an answer: they tell the peer,
     * and what is between, that this end is there. */
    bool judged = waits && attended && timeout != UINT64_MAX;
    uint64_t quiet_since = ahead->heard_at > ahead->pinged_at
                               ? ahead->heard_at
                               : ahead->pinged_at;
    if (!judged && now - quiet_since >= interval) {
        send_ping(conn, now);
        quiet_since = now;
        judged = attended && timeout != UINT64_MAX;
    }
    uint64_t next = judged ? after(ahead->waits_since, timeout)
                           : after(quiet_since, interval);
    uint64_t look = after(now, interval / LOOKS);
    return on_grid(next < look ? next : look, interval);
}
