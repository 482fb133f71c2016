#include "engine/keepalive.h"

#include "engine/server_parts.h"

enum {
    LOOKS = 4,        /* in an interval: silence is known to a quarter of it */
    GRID = 16,        /* wake-ups between two looks, however many clients */
    HEARD_MIN = 4096, /* bytes that count as being heard of within a frame:
                       * a few a second don't keep a client alive */
    PING_LENGTH = 4,
};

/* The shorter of both limits; UINT64_MAX: there is none. */
static uint64_t
interval_of(const struct tws_server_options *options)
{
    return options->ping_interval < options->idle_timeout
               ? options->ping_interval
               : options->idle_timeout;
}

static void
set_timer(struct tws_client *client, uint64_t at)
{
    struct tws_server *server = client->server;
    uint64_t step = interval_of(&server->options) / LOOKS / GRID;
    if (step > 0 && at < UINT64_MAX - step) {
        at += step - at % step;
    }
    if (tws_timers_set(&server->timers, &client->watch.timer, at) != TWS_OK) {
        tws_client_break_off(client, TWS_ENDED_BY_US,
                             "out of memory for its deadline");
    }
}

void
tws_keepalive_begin(struct tws_client *client)
{
    uint64_t interval = interval_of(&client->server->options);
    if (interval != UINT64_MAX) {
        uint64_t now = tws_clock_now();
        client->last_message = now;
        set_timer(client, now + interval / LOOKS);
    }
}

/* Has anything moved since the last look? What it sends counts, and where it
 * is not read from, what it takes. */
static bool
was_heard(struct tws_client *client)
{
    bool heard = client->heard >= HEARD_MIN;
    client->heard = 0;
    if (client->paused) {
        pthread_mutex_lock(&client->lock);
        uint64_t written = client->written;
        pthread_mutex_unlock(&client->lock);
        heard = heard || written != client->written_before;
        client->written_before = written;
    }
    return heard;
}

static void
pack_serial(uint32_t serial, char payload[PING_LENGTH])
{
    for (int i = 0; i < PING_LENGTH; i++) {
        payload[i] = (char)(serial >> (8 * i));
    }
}

static bool
awaits_pong(const struct tws_client *client)
{
    return client->ping_held
           || atomic_load_explicit(&client->ping_sent_at, memory_order_relaxed)
                  != 0;
}

static void
send_ping(struct tws_client *client, uint64_t now)
{
    struct tws_error ignored; /* one that can't be sent is not answered */
    char payload[PING_LENGTH];
    struct tws_span span = {.data = payload, .length = sizeof(payload)};
    pack_serial(++client->ping_serial, payload);
    atomic_store_explicit(&client->ping_sent_at, now, memory_order_relaxed);
    (void)tws_client_send(client, TWS_OPCODE_PING, span, 0, NULL, &ignored);
}

uint64_t
tws_keepalive_wait(struct tws_client *client, struct tws_silence *silence)
{
    const struct tws_server_options *options = &client->server->options;
    uint64_t now = tws_clock_now();
    uint64_t limit = options->ping_interval;
    if (silence->since == 0) {
        silence->since = now;
    }
    if (!silence->pinged && limit != UINT64_MAX
        && now - silence->since >= limit) {
        silence->pinged = true;
        silence->since = now;
        send_ping(client, now);
    }
    if (silence->pinged) {
        limit = options->ping_timeout;
    }
    if (now - silence->since >= limit) {
        tws_client_break_off(client, TWS_ENDED_BY_KEEPALIVE,
                             "did not answer a ping within ping_timeout");
    }
    return limit < UINT64_MAX - silence->since ? silence->since + limit
                                               : UINT64_MAX;
}

static void
ping(struct tws_client *client, uint64_t now)
{
    client->quiet = 0;
    client->ping_waits_since = now;
    /* It would only add to what a client does not take. */
    client->ping_held = client->paused;
    if (!client->ping_held) {
        send_ping(client, now);
    }
}

/* False: it was silent for too long. */
static bool
look_for_silence(struct tws_client *client, uint64_t now)
{
    const struct tws_server_options *options = &client->server->options;
    if (client->ping_held && !client->paused) {
        ping(client, now); /* it takes what it is sent again */
        return true;
    }
    if (was_heard(client)) {
        client->quiet = 0;
        client->ping_waits_since = now; /* its pong may be behind that */
        return true;
    }
    if (awaits_pong(client)) {
        return now - client->ping_waits_since < options->ping_timeout;
    }
    client->quiet++;
    if (interval_of(options) / LOOKS * client->quiet
        >= options->ping_interval / LOOKS * LOOKS) {
        ping(client, now);
    }
    return true;
}

/* When to look again. */
static uint64_t
next_look(const struct tws_client *client, uint64_t now)
{
    const struct tws_server_options *options = &client->server->options;
    uint64_t next = now + interval_of(options) / LOOKS;
    if (awaits_pong(client)
        && options->ping_timeout < next - client->ping_waits_since) {
        next = client->ping_waits_since + options->ping_timeout;
    }
    return next;
}

bool
tws_keepalive_look(struct tws_client *client, const char **reason)
{
    const struct tws_server_options *options = &client->server->options;
    uint64_t now = tws_clock_now();
    struct tws_error ignored;
    if (client->detached) {
        client->last_message = now; /* its worker does not read all the time */
        client->ping_waits_since = now;
        set_timer(client, next_look(client, now));
        return true;
    }
    if (client->compression != NULL) {
        tws_compression_look(client->compression);
    }
    if (client->heard_message || client->paused) {
        client->heard_message = false;
        client->last_message = now;
    }
    if (now - client->last_message >= options->idle_timeout) {
        (void)tws_client_close(client, TWS_CLOSE_GOING_AWAY,
                               TWS_SPAN("no message came for a long time"),
                               TWS_ENDED_BY_LIMIT, &ignored);
        return true;
    }
    if (options->ping_interval != UINT64_MAX
        && !look_for_silence(client, now)) {
        *reason = client->paused ? "took nothing of what is queued for it "
                                   "within ping_timeout"
                                 : "did not answer a ping within ping_timeout";
        return false;
    }
    set_timer(client, next_look(client, now));
    return true;
}

bool
tws_keepalive_take_pong(struct tws_client *client,
                        const struct tws_event *event)
{
    char payload[PING_LENGTH];
    uint64_t sent_at =
        atomic_load_explicit(&client->ping_sent_at, memory_order_relaxed);
    pack_serial(client->ping_serial, payload);
    if (client->ping_serial == 0 || event->length != sizeof(payload)
        || memcmp(event->data, payload, sizeof(payload)) != 0) {
        return false;
    }
    if (sent_at != 0) {
        uint64_t latency = tws_clock_now() - sent_at;
        atomic_store_explicit(&client->latency, latency == 0 ? 1 : latency,
                              memory_order_relaxed);
        atomic_store_explicit(&client->ping_sent_at, 0, memory_order_relaxed);
    }
    return true;
}
