/* Compiled in here with a clock that a test can turn, and with timers that it
 * can make fail. */
#include "engine/keepalive.h"

#include "engine/server_parts.h"

#include "engine_fixture.h"

static uint64_t our_clock;
static bool no_timer;

static uint64_t
read_clock(void)
{
    return our_clock;
}

static enum tws_status
set_a_timer(struct tws_timers *timers, struct tws_timer *timer, uint64_t at)
{
    return no_timer ? TWS_NOMEM : tws_timers_set(timers, timer, at);
}

#define tws_clock_now read_clock
#define tws_timers_set set_a_timer
#include "../../csrc/engine/keepalive.c"
#undef tws_clock_now
#undef tws_timers_set

#define SECOND (1000 * MILLISECOND)
#define INTERVAL (20 * SECOND)
#define TIMEOUT (12 * SECOND)
/* How far two looks are apart, where all goes well. */
#define LOOK (INTERVAL / LOOKS + INTERVAL / LOOKS / GRID)

/* A server that nobody drives, and a client of it. */
struct scene {
    struct tws_server *server;
    struct tws_worker *worker;
    struct tws_client *client;
    int far;            /* the peer's end */
    bool given_up;      /* as the last look said */
    const char *reason; /* for it */
    unsigned looks;
};

static void
scene_begin_with(struct scene *scene, const struct tws_server_options *options)
{
    static const struct tws_handlers handlers = {0};
    struct tws_transport transport;
    struct timeval limit = {.tv_sec = PATIENCE_SECONDS};
    struct tws_error err;
    int ends[2];
    *scene = (struct scene){0};
    our_clock = 1000 * SECOND + 12345;
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "socketpair");
    must(tws_socket_prepare(ends[0], &err) == TWS_OK, "tws_socket_prepare");
    must(setsockopt(ends[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit))
             == 0,
         "SO_RCVTIMEO");
    scene->far = ends[1];
    must(tws_server_new(-1, TWS_POLLER_BEST, options, &handlers,
                        &scene->server, &err)
             == TWS_OK,
         "tws_server_new");
    must(tws_worker_new(scene->server, &scene->worker, &err) == TWS_OK,
         "tws_worker_new");
    tws_transport_plain(&transport, ends[0]);
    scene->client = tws_client_new(scene->server, &transport);
    must(scene->client != NULL, "tws_client_new");
    tws_keepalive_begin(scene->client);
}

static struct tws_server_options
usual_options(void)
{
    return (struct tws_server_options){
        .message = {.size = 1 << 24, .fragments = 1000},
        .ping_interval = INTERVAL,
        .ping_timeout = TIMEOUT,
        .idle_timeout = UINT64_MAX,
        .high_water = 64 * 1024,
        .low_water = 16 * 1024,
        .max_threads = 1,
    };
}

static void
scene_begin(struct scene *scene)
{
    struct tws_server_options options = usual_options();
    scene_begin_with(scene, &options);
}

static void
scene_end(struct scene *scene)
{
    while (tws_pool_dequeue(&scene->server->pool) != NULL) {
        tws_client_release(scene->client); /* as it was retained for that */
    }
    CHECK_INT(scene->client->references, 1);
    tws_client_release(scene->client);
    tws_worker_free(scene->worker);
    tws_server_free(scene->server);
    CHECK_INT(close(scene->far), 0);
}

/* The next look, as the driver makes it. */
static void
look(struct scene *scene)
{
    uint64_t next = tws_timers_next(&scene->server->timers);
    CHECK(next != UINT64_MAX && next >= our_clock);
    our_clock = next;
    CHECK(tws_timers_pop(&scene->server->timers, next)
          == &scene->client->watch.timer);
    CHECK_INT(scene->client->state, TWS_CLIENT_OPEN);
    scene->given_up = !tws_keepalive_look(scene->client, &scene->reason);
    scene->looks++;
}

/* All looks up to that time; false where the client did not outlive it. */
static bool
look_until(struct scene *scene, uint64_t end)
{
    while (!scene->given_up && scene->client->state == TWS_CLIENT_OPEN
           && tws_timers_next(&scene->server->timers) <= end) {
        look(scene);
    }
    if (scene->given_up || scene->client->state != TWS_CLIENT_OPEN) {
        return false;
    }
    our_clock = end;
    return true;
}

/* Whether the peer finds anything to read. */
static bool
is_told_anything(const struct scene *scene)
{
    char byte;
    return recv(scene->far, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

/* Reads what has come; returns how many events the program hears of. */
static unsigned
receive(struct scene *scene)
{
    struct tws_input nothing = {0};
    struct tws_event event;
    unsigned count = 0;
    tws_receiving_lend(scene->worker, scene->client);
    tws_client_cork(scene->worker, scene->client, nothing);
    while (tws_client_next(scene->worker, scene->client, &event) == TWS_OK) {
        count++;
    }
    CHECK(!scene->worker->over);
    CHECK(tws_client_uncork(scene->worker, scene->client) == NULL);
    CHECK(tws_receiving_take_back(scene->worker, scene->client));
    return count;
}

/* Until a ping has come. Returns its payload, and when it was sent. */
static uint64_t
await_ping(struct scene *scene, uint8_t payload[PING_LENGTH])
{
    struct wire_frame frame;
    while (!is_told_anything(scene) && !scene->given_up
           && scene->client->state == TWS_CLIENT_OPEN && scene->looks < 1000) {
        look(scene);
    }
    must(take_frame(scene->far, &frame), "a ping");
    CHECK_INT(frame.first, PING);
    CHECK_INT(frame.length, PING_LENGTH);
    memset(payload, 0, PING_LENGTH);
    if (frame.length == PING_LENGTH) {
        memcpy(payload, frame.data, PING_LENGTH);
    }
    free(frame.data);
    return our_clock;
}

static void
put_pong(struct scene *scene, const uint8_t payload[PING_LENGTH])
{
    put_frame(scene->far, PONG, payload, PING_LENGTH);
}

/* Silence ------------------------------------------------------------------
 */

TEST(a_silent_client_is_pinged_when_the_interval_is_over)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    scene_begin(&scene);
    uint64_t began = our_clock;
    CHECK(look_until(&scene, began + INTERVAL - 1));
    CHECK(scene.looks >= 2);
    CHECK(scene.looks <= LOOKS);
    CHECK(!is_told_anything(&scene));
    uint64_t pinged = await_ping(&scene, payload);
    CHECK(pinged >= began + INTERVAL);
    CHECK(pinged <= began + (LOOKS + 1) * LOOK);
    scene_end(&scene);
}

TEST(one_that_does_not_answer_is_given_up)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    scene_begin(&scene);
    uint64_t pinged = await_ping(&scene, payload);
    CHECK(look_until(&scene, pinged + TIMEOUT - 1));
    CHECK(!is_told_anything(&scene)); /* one ping is enough */
    CHECK(!look_until(&scene, pinged + 2 * TIMEOUT));
    CHECK(scene.given_up);
    CHECK(our_clock >= pinged + TIMEOUT);
    CHECK(our_clock <= pinged + TIMEOUT + LOOK / GRID);
    CHECK(strcmp(scene.reason, "did not answer a ping within ping_timeout")
          == 0);
    scene_end(&scene);
}

TEST(a_long_ping_timeout_is_kept_as_well)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    struct tws_server_options options = usual_options();
    options.ping_timeout = 7 * INTERVAL;
    scene_begin_with(&scene, &options);
    uint64_t pinged = await_ping(&scene, payload);
    CHECK(look_until(&scene, pinged + 7 * INTERVAL - 1));
    CHECK(!look_until(&scene, pinged + 7 * INTERVAL + LOOK / GRID));
    CHECK(scene.given_up);
    scene_end(&scene);
}

TEST(without_a_ping_timeout_nobody_is_given_up)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    struct tws_server_options options = usual_options();
    options.ping_timeout = UINT64_MAX;
    scene_begin_with(&scene, &options);
    uint64_t pinged = await_ping(&scene, payload);
    CHECK(look_until(&scene, pinged + 100 * INTERVAL));
    CHECK(!is_told_anything(&scene));
    scene_end(&scene);
}

TEST(one_that_is_heard_of_is_not_pinged)
{
    static const unsigned frames[] = {TEXT, PONG, PING};
    struct scene scene;
    for (size_t i = 0; i < TWS_ARRAY_SIZE(frames); i++) {
        scene_begin(&scene);
        for (int j = 0; j < 40; j++) {
            put_frame(scene.far, frames[i], "hi", 2);
            CHECK_INT(receive(&scene), 1);
            if (frames[i] == PING) {
                expect_frame(scene.far, PONG, "hi", 2);
            }
            CHECK(look_until(&scene, our_clock + LOOK));
            CHECK(!is_told_anything(&scene));
        }
        scene_end(&scene);
    }
}

TEST(the_interval_begins_with_the_last_that_was_heard)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    scene_begin(&scene);
    CHECK(look_until(&scene, our_clock + INTERVAL - LOOK / 2));
    put_text(scene.far, "hi");
    uint64_t heard = our_clock;
    CHECK_INT(receive(&scene), 1);
    CHECK(look_until(&scene, heard + INTERVAL - 1));
    CHECK(!is_told_anything(&scene));
    CHECK(await_ping(&scene, payload) <= heard + (LOOKS + 1) * LOOK);
    scene_end(&scene);
}

TEST(what_is_heard_after_a_ping_gives_it_more_time)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    scene_begin(&scene);
    (void)await_ping(&scene, payload);
    /* Its pong may be behind what it is sending. */
    for (int i = 0; i < 20; i++) {
        CHECK(look_until(&scene, our_clock + TIMEOUT / 2));
        put_text(scene.far, "hi");
        CHECK_INT(receive(&scene), 1);
    }
    uint64_t heard = our_clock;
    CHECK(look_until(&scene, heard + TIMEOUT - 1));
    CHECK(!look_until(&scene, heard + TIMEOUT + 2 * LOOK));
    CHECK(scene.given_up);
    CHECK(!is_told_anything(&scene));
    scene_end(&scene);
}

/* Each look finds `count` bytes more of one long frame. */
static bool
outlives(size_t count)
{
    static uint8_t frame[1000000 + WIRE_HEADER_MAX];
    static const uint8_t payload[1000000];
    struct scene scene;
    scene_begin(&scene);
    (void)write_frame(frame, BINARY, payload, sizeof(payload));
    size_t at = 0;
    bool alive = true;
    uint64_t end = our_clock + 5 * (INTERVAL + TIMEOUT);
    while (alive && our_clock < end) {
        give(scene.far, frame + at, count);
        at += count;
        CHECK_INT(receive(&scene), 0);
        look(&scene);
        alive = !scene.given_up;
    }
    CHECK(is_told_anything(&scene) == !alive);
    scene_end(&scene);
    return alive;
}

TEST(a_few_bytes_of_a_frame_are_not_being_heard_of)
{
    CHECK(!outlives(0));
    CHECK(!outlives(5)); /* a byte a second */
    CHECK(!outlives(HEARD_MIN - 1));
    CHECK(outlives(HEARD_MIN));
    CHECK(outlives(3 * HEARD_MIN));
}

/* Pongs --------------------------------------------------------------------
 */

TEST(a_pong_answers_the_ping_and_tells_the_latency)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    uint8_t before[PING_LENGTH] = {0};
    scene_begin(&scene);
    CHECK_INT(scene.client->latency, 0);
    for (int i = 0; i < 10; i++) {
        uint64_t pinged = await_ping(&scene, payload);
        CHECK_INT(scene.client->ping_sent_at, pinged);
        CHECK(memcmp(payload, before, PING_LENGTH) != 0);
        memcpy(before, payload, PING_LENGTH);
        our_clock += MILLISECOND + (uint64_t)i;
        put_pong(&scene, payload);
        CHECK_INT(receive(&scene), 0); /* nothing of the program's */
        CHECK_INT(scene.client->latency, MILLISECOND + (uint64_t)i);
        CHECK_INT(scene.client->ping_sent_at, 0);
        uint64_t answered = our_clock;
        CHECK(look_until(&scene, answered + INTERVAL - 1));
        CHECK(!is_told_anything(&scene));
    }
    scene_end(&scene);
}

TEST(an_answer_within_the_clocks_grain_is_a_latency_too)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    scene_begin(&scene);
    (void)await_ping(&scene, payload);
    put_pong(&scene, payload);
    CHECK_INT(receive(&scene), 0);
    CHECK_INT(scene.client->latency, 1);
    scene_end(&scene);
}

TEST(a_second_answer_is_nobodys)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    scene_begin(&scene);
    (void)await_ping(&scene, payload);
    our_clock += MILLISECOND;
    put_pong(&scene, payload);
    CHECK_INT(receive(&scene), 0);
    our_clock += MILLISECOND;
    put_pong(&scene, payload);
    CHECK_INT(receive(&scene), 0);
    CHECK_INT(scene.client->latency, MILLISECOND);
    scene_end(&scene);
}

TEST(other_pongs_are_the_programs)
{
    static const uint8_t nothing[PING_LENGTH + 1] = {0};
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    uint8_t old[PING_LENGTH];
    scene_begin(&scene);
    /* Where none was sent there is no answer. */
    put_pong(&scene, nothing);
    CHECK_INT(receive(&scene), 1);
    (void)await_ping(&scene, old);
    put_pong(&scene, old);
    CHECK_INT(receive(&scene), 0);
    uint64_t latency = scene.client->latency;
    uint64_t pinged = await_ping(&scene, payload);

    put_pong(&scene, old);
    put_frame(scene.far, PONG, payload, PING_LENGTH - 1);
    put_frame(scene.far, PONG, NULL, 0);
    uint8_t longer[PING_LENGTH + 1] = {0};
    memcpy(longer, payload, PING_LENGTH);
    put_frame(scene.far, PONG, longer, sizeof(longer));
    payload[PING_LENGTH - 1] ^= 1;
    put_pong(&scene, payload);
    CHECK_INT(receive(&scene), 5);
    CHECK_INT(scene.client->ping_sent_at, pinged); /* it waits still */
    CHECK_INT(scene.client->latency, latency);
    scene_end(&scene);
}

/* Congestion ---------------------------------------------------------------
 */

/* Queues that much for it and reads no more of it, as serving does. */
static void
congest(struct scene *scene, size_t length)
{
    struct tws_error err;
    char *text = calloc(1, length);
    must(text != NULL, "calloc");
    struct tws_span span = {.data = text, .length = length};
    CHECK_INT(
        tws_client_send(scene->client, TWS_OPCODE_BINARY, span, 0, NULL, &err),
        TWS_OK);
    free(text);
    CHECK(scene->client->congested);
    tws_client_pause(scene->client, true);
}

static void
take_some(struct scene *scene, size_t length)
{
    static uint8_t bytes[64 * 1024];
    while (length > 0) {
        size_t part = length < sizeof(bytes) ? length : sizeof(bytes);
        must(take_bytes(scene->far, bytes, part), "what was queued");
        length -= part;
        tws_client_flush(scene->client);
    }
}

enum { QUEUED = 8 * 1024 * 1024, QUEUED_FRAME = QUEUED + 10 };

TEST(one_that_takes_nothing_is_given_up)
{
    struct scene scene;
    scene_begin(&scene);
    uint64_t began = our_clock;
    congest(&scene, QUEUED);
    size_t queued = tws_client_queued(scene.client);
    CHECK(look_until(&scene, began + INTERVAL + TIMEOUT - 1));
    CHECK_INT(tws_client_queued(scene.client), queued); /* no ping on top */
    CHECK_INT(scene.client->ping_sent_at, 0);
    CHECK(!look_until(&scene, began + INTERVAL + TIMEOUT + 3 * LOOK));
    CHECK(scene.given_up);
    CHECK(strcmp(scene.reason, "took nothing of what is queued for it within "
                               "ping_timeout")
          == 0);
    scene_end(&scene);
}

TEST(one_that_takes_slowly_is_kept)
{
    struct scene scene;
    scene_begin(&scene);
    congest(&scene, QUEUED);
    for (int i = 0; i < 60; i++) {
        size_t before = tws_client_queued(scene.client);
        take_some(&scene, 100 * 1024);
        CHECK(tws_client_queued(scene.client) < before);
        CHECK(look_until(&scene, our_clock + LOOK));
    }
    CHECK(scene.client->congested);
    scene_end(&scene);
}

/* One that took nothing for longer than an interval, and then everything. */
static void
recover(bool seen)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    scene_begin(&scene);
    congest(&scene, QUEUED);
    CHECK(look_until(&scene, our_clock + INTERVAL + 2 * LOOK));
    take_some(&scene, QUEUED_FRAME);
    CHECK(!is_told_anything(&scene));
    CHECK(!scene.client->congested);
    if (seen) {
        look(&scene);
    }
    tws_client_pause(scene.client, false);
    uint64_t end = our_clock + 10 * (INTERVAL + TIMEOUT);
    unsigned pings = 0;
    while (our_clock < end && !scene.given_up) {
        /* It only listens, and answers what it is asked. */
        look(&scene);
        if (is_told_anything(&scene)) {
            (void)await_ping(&scene, payload);
            put_pong(&scene, payload);
            CHECK_INT(receive(&scene), 0);
            pings++;
        }
    }
    CHECK(!scene.given_up);
    CHECK(pings >= 5);
    scene_end(&scene);
}

TEST(one_that_takes_again_is_asked_before_it_is_given_up)
{
    recover(false);
    recover(true);
}

TEST(one_that_takes_again_has_its_time_to_answer)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    scene_begin(&scene);
    congest(&scene, QUEUED);
    CHECK(look_until(&scene, our_clock + INTERVAL + TIMEOUT - 1));
    take_some(&scene, QUEUED_FRAME);
    tws_client_pause(scene.client, false);
    uint64_t pinged = await_ping(&scene, payload);
    CHECK(look_until(&scene, pinged + TIMEOUT - 1));
    CHECK(!look_until(&scene, pinged + TIMEOUT + LOOK / GRID));
    CHECK(scene.given_up);
    scene_end(&scene);
}

/* Idleness -----------------------------------------------------------------
 */

#define IDLE (50 * SECOND)

static void
expect_idle_close(struct scene *scene)
{
    CHECK_INT(scene->client->state, TWS_CLIENT_CLOSING);
    CHECK(!scene->given_up);
    CHECK_INT(scene->client->cause_by, TWS_ENDED_BY_LIMIT);
    expect_close(scene->far, TWS_CLOSE_GOING_AWAY);
    CHECK(!is_told_anything(scene));
    /* Its timer is to be the closing handshake's. */
    CHECK_INT(scene->client->watch.timer.position, 0);
}

TEST(one_that_sends_no_message_is_closed)
{
    struct scene scene;
    struct tws_server_options options = usual_options();
    options.ping_interval = UINT64_MAX;
    options.idle_timeout = IDLE;
    scene_begin_with(&scene, &options);
    uint64_t began = our_clock;
    CHECK(look_until(&scene, began + IDLE - 1));
    CHECK(!is_told_anything(&scene)); /* nor is it pinged */
    CHECK(!look_until(&scene, began + 2 * IDLE));
    CHECK(our_clock >= began + IDLE);
    CHECK(our_clock <= began + IDLE + IDLE / LOOKS + IDLE / LOOKS / GRID);
    expect_idle_close(&scene);
    scene_end(&scene);
}

TEST(messages_count_against_idleness_but_pings_do_not)
{
    struct scene scene;
    struct tws_server_options options = usual_options();
    options.idle_timeout = IDLE;
    scene_begin_with(&scene, &options);
    for (int i = 0; i < 10; i++) {
        put_text(scene.far, "hi");
        CHECK_INT(receive(&scene), 1);
        CHECK(look_until(&scene, our_clock + 2 * LOOK));
    }
    CHECK(!is_told_anything(&scene));
    uint64_t last = our_clock - 2 * LOOK;
    bool open = true;
    while (open) {
        put_frame(scene.far, PING, NULL, 0);
        put_frame(scene.far, PONG, NULL, 0);
        CHECK_INT(receive(&scene), 2);
        expect_frame(scene.far, PONG, NULL, 0);
        open = look_until(&scene, our_clock + LOOK);
    }
    CHECK(our_clock >= last + IDLE);
    CHECK(our_clock <= last + IDLE + 3 * LOOK);
    expect_idle_close(&scene);
    scene_end(&scene);
}

TEST(a_client_that_is_not_read_from_is_not_idle)
{
    struct scene scene;
    struct tws_server_options options = usual_options();
    options.ping_interval = UINT64_MAX;
    options.idle_timeout = IDLE;
    scene_begin_with(&scene, &options);
    tws_client_pause(scene.client, true);
    uint64_t end = our_clock + 10 * IDLE;
    CHECK(look_until(&scene, end));
    tws_client_pause(scene.client, false);
    CHECK(look_until(&scene, end + IDLE / 2));
    CHECK(!look_until(&scene, end + 2 * IDLE));
    expect_idle_close(&scene);
    scene_end(&scene);
}

TEST(a_long_idle_time_does_not_slow_pings)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    struct tws_server_options options = usual_options();
    options.idle_timeout = 10 * INTERVAL;
    scene_begin_with(&scene, &options);
    uint64_t began = our_clock;
    uint64_t pinged = await_ping(&scene, payload);
    CHECK(pinged >= began + INTERVAL);
    CHECK(pinged <= began + (LOOKS + 1) * LOOK);
    scene_end(&scene);
}

TEST(a_short_idle_time_does_not_hurry_pings)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    struct tws_server_options options = usual_options();
    options.idle_timeout = INTERVAL / 3;
    scene_begin_with(&scene, &options);
    uint64_t began = our_clock;
    while (our_clock < began + INTERVAL - LOOK) {
        scene.client->heard_message = true; /* without being heard of */
        look(&scene);
        CHECK(!is_told_anything(&scene));
    }
    while (!is_told_anything(&scene) && our_clock < began + 2 * INTERVAL) {
        scene.client->heard_message = true;
        look(&scene);
    }
    uint64_t pinged = await_ping(&scene, payload);
    CHECK(pinged >= began + INTERVAL);
    CHECK(pinged <= began + INTERVAL + LOOK);
    scene_end(&scene);
}

/* Detached clients ---------------------------------------------------------
 */

TEST(clients_of_slow_handlers_are_left_alone)
{
    struct scene scene;
    uint8_t payload[PING_LENGTH];
    struct tws_server_options options = usual_options();
    options.idle_timeout = IDLE;
    scene_begin_with(&scene, &options);
    scene.client->detached = true;
    CHECK(look_until(&scene, our_clock + 20 * IDLE));
    CHECK(!is_told_anything(&scene));
    /* When they are back their time begins anew. */
    scene.client->detached = false;
    uint64_t back = our_clock;
    uint64_t pinged = await_ping(&scene, payload);
    CHECK(pinged >= back + INTERVAL - LOOK);
    /* Nor does it count against one that was pinged before. */
    scene.client->detached = true;
    CHECK(look_until(&scene, pinged + 20 * IDLE));
    scene.client->detached = false;
    back = our_clock;
    CHECK(look_until(&scene, back + TIMEOUT - LOOK));
    CHECK(!look_until(&scene, back + TIMEOUT + 2 * LOOK));
    CHECK(scene.given_up);
    scene_end(&scene);
}

/* Compression --------------------------------------------------------------
 */

TEST(contexts_that_are_kept_in_vain_go_back)
{
    struct scene scene;
    const struct tws_compression_terms terms = {
        .out = {.window_bits = 12, .mem_level = 5, .level = 6},
        .in_window_bits = 12,
        .out_takeover = true,
        .in_takeover = true,
    };
    struct tws_deflate_pool *pool = tws_deflate_pool_new();
    scene_begin(&scene);
    struct tws_compression *compression = tws_compression_new(&terms, pool);
    scene.client->compression = compression;
    scene.client->detached = true;
    for (int i = 0; i < 2; i++) {
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err;
        uint8_t room[16];
        size_t got;
        CHECK_INT(tws_compression_deflate(compression, TWS_SPAN("Hello"), true,
                                          &out, &err),
                  TWS_OK);
        struct tws_input input = {.data = tws_buffer_data(&out),
                                  .length = tws_buffer_length(&out)};
        CHECK_INT(tws_compression_inflate(compression, &input, room,
                                          sizeof(room), &got, &err),
                  TWS_OK);
        CHECK_INT(tws_compression_end_inflate(compression, room, sizeof(room),
                                              &got, &err),
                  TWS_OK);
        tws_buffer_release(&out);
    }
    CHECK(compression->deflater != NULL && compression->inflater != NULL);
    look(&scene); /* another thread may be reading from it */
    look(&scene);
    CHECK(compression->deflater != NULL && compression->inflater != NULL);
    scene.client->detached = false;
    look(&scene);
    CHECK(compression->deflater != NULL && compression->inflater != NULL);
    look(&scene);
    CHECK(compression->deflater == NULL && compression->inflater == NULL);
    scene_end(&scene);
    tws_deflate_pool_release(pool);
}

/* Timers -------------------------------------------------------------------
 */

TEST(without_limits_there_is_no_timer)
{
    struct scene scene;
    struct tws_server_options options = usual_options();
    options.ping_interval = UINT64_MAX;
    scene_begin_with(&scene, &options);
    CHECK(tws_timers_next(&scene.server->timers) == UINT64_MAX);
    scene_end(&scene);
}

TEST(very_short_and_very_long_limits_are_limits)
{
    struct scene scene;
    struct tws_server_options options = usual_options();
    options.ping_interval = 1;
    scene_begin_with(&scene, &options);
    look(&scene);
    CHECK(is_told_anything(&scene));
    scene_end(&scene);
    options.ping_interval = UINT64_MAX - 1;
    scene_begin_with(&scene, &options);
    look(&scene);
    CHECK(!is_told_anything(&scene));
    scene_end(&scene);
}

TEST(without_memory_for_a_timer_the_client_is_broken_off)
{
    struct scene scene;
    scene_begin(&scene);
    no_timer = true;
    look(&scene);
    no_timer = false;
    CHECK(scene.client->cause != NULL);
    CHECK_INT(scene.client->cause_by, TWS_ENDED_BY_US);
    scene_end(&scene);
}

enum { MANY = 1000 };

TEST(many_clients_share_their_wake_ups)
{
    struct scene scene;
    struct tws_transport nowhere;
    struct tws_client *clients[MANY];
    scene_begin(&scene);
    tws_timers_cancel(&scene.server->timers, &scene.client->watch.timer);
    tws_transport_plain(&nowhere, -1);
    for (int i = 0; i < MANY; i++) {
        clients[i] = tws_client_new(scene.server, &nowhere);
        must(clients[i] != NULL, "tws_client_new");
        our_clock += INTERVAL / LOOKS / MANY; /* each at a time of its own */
        tws_keepalive_begin(clients[i]);
    }
    uint64_t end = our_clock + 2 * INTERVAL;
    unsigned looks = 0;
    unsigned wake_ups = 0;
    while (tws_timers_next(&scene.server->timers) <= end) {
        our_clock = tws_timers_next(&scene.server->timers);
        wake_ups++;
        struct tws_timer *timer =
            tws_timers_pop(&scene.server->timers, our_clock);
        while (timer != NULL) {
            struct tws_client *client = (struct tws_client *)timer;
            client->heard = UINT32_MAX;
            CHECK(tws_keepalive_look(client, &scene.reason));
            looks++;
            timer = tws_timers_pop(&scene.server->timers, our_clock);
        }
    }
    CHECK(looks >= MANY * 2 * (LOOKS - 1));
    CHECK(wake_ups <= 2 * LOOKS * GRID + 2);
    for (int i = 0; i < MANY; i++) {
        tws_timers_cancel(&scene.server->timers, &clients[i]->watch.timer);
        tws_client_release(clients[i]);
    }
    scene_end(&scene);
}

RUN(T(a_silent_client_is_pinged_when_the_interval_is_over),
    T(one_that_does_not_answer_is_given_up),
    T(a_long_ping_timeout_is_kept_as_well),
    T(without_a_ping_timeout_nobody_is_given_up),
    T(one_that_is_heard_of_is_not_pinged),
    T(the_interval_begins_with_the_last_that_was_heard),
    T(what_is_heard_after_a_ping_gives_it_more_time),
    T(a_few_bytes_of_a_frame_are_not_being_heard_of),
    T(a_pong_answers_the_ping_and_tells_the_latency),
    T(an_answer_within_the_clocks_grain_is_a_latency_too),
    T(a_second_answer_is_nobodys), T(other_pongs_are_the_programs),
    T(one_that_takes_nothing_is_given_up), T(one_that_takes_slowly_is_kept),
    T(one_that_takes_again_is_asked_before_it_is_given_up),
    T(one_that_takes_again_has_its_time_to_answer),
    T(one_that_sends_no_message_is_closed),
    T(messages_count_against_idleness_but_pings_do_not),
    T(a_client_that_is_not_read_from_is_not_idle),
    T(a_long_idle_time_does_not_slow_pings),
    T(a_short_idle_time_does_not_hurry_pings),
    T(clients_of_slow_handlers_are_left_alone),
    T(contexts_that_are_kept_in_vain_go_back),
    T(without_limits_there_is_no_timer),
    T(very_short_and_very_long_limits_are_limits),
    T(without_memory_for_a_timer_the_client_is_broken_off),
    T(many_clients_share_their_wake_ups))
