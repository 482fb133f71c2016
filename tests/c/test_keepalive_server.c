/* The keepalive of a server that runs; test_keepalive.c looks at its times
 * more closely. */
#include "engine_fixture.h"

enum { PING_SIZE = 4 }; /* of the server's own pings */

#define SECOND (1000 * MILLISECOND)

static void
begin_serving(struct fixture *fixture)
{
    fixture_init(fixture, TWS_POLLER_BEST);
    fixture->options.ping_interval = 60 * MILLISECOND;
    fixture->options.ping_timeout = 80 * MILLISECOND;
}

static void
expect_ping(int fd, uint8_t payload[PING_SIZE])
{
    struct wire_frame frame;
    must(take_frame(fd, &frame), "a ping");
    CHECK_INT(frame.first, PING);
    CHECK_INT(frame.length, PING_SIZE);
    if (frame.length == PING_SIZE) {
        memcpy(payload, frame.data, PING_SIZE);
    }
    free(frame.data);
}

TEST(a_server_drops_a_client_that_does_not_answer)
{
    struct fixture fixture;
    uint8_t payload[PING_SIZE];
    begin_serving(&fixture);
    fixture_start(&fixture);
    uint64_t began = tws_clock_now();
    int fd = connect_client(&fixture);
    expect_ping(fd, payload);
    CHECK(tws_clock_now() - began >= 60 * MILLISECOND);
    expect_close(fd, TWS_CLOSE_UNABLE);
    CHECK(tws_clock_now() - began >= 140 * MILLISECOND);
    CHECK(read_to_end(fd));
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_by, TWS_ENDED_BY_KEEPALIVE);
    CHECK_INT(fixture.last_code, TWS_CLOSE_ABNORMAL);
    CHECK_INT(fixture.last_ending.sent_code, TWS_CLOSE_UNABLE);
    CHECK_INT(fixture.last_ending.received_code, 0);
    CHECK(fixture.last_ending.ping_age >= 80 * MILLISECOND);
    CHECK(fixture.last_ending.ping_age < PATIENCE_SECONDS * SECOND);
    CHECK(strcmp(fixture.last_ending.reason,
                 "did not answer a ping within ping_timeout")
          == 0);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

TEST(a_server_keeps_a_client_that_answers)
{
    struct fixture fixture;
    uint8_t payload[PING_SIZE];
    begin_serving(&fixture);
    fixture.options.ping_timeout = PATIENCE_SECONDS * SECOND;
    fixture.hold = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    for (int i = 0; i < 5; i++) {
        expect_ping(fd, payload);
        put_frame(fd, PONG, payload, PING_SIZE);
    }
    EVENTUALLY(fixture.held->latency > 0);
    CHECK(fixture.held->latency < PATIENCE_SECONDS * SECOND);
    CHECK_INT(fixture.pongs, 0);
    put_frame(fd, PONG, "mine", 4);
    EVENTUALLY(fixture.pongs == 1);
    CHECK_INT(fixture.closed, 0);
    /* Whatever pings are on their way. */
    put_close(fd, 1000);
    CHECK(read_to_end(fd));
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_by, TWS_ENDED_BY_PEER);
    CHECK_INT(fixture.pongs, 1);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

TEST(a_server_closes_an_idle_client)
{
    struct fixture fixture;
    fixture_init(&fixture, TWS_POLLER_BEST);
    fixture.options.idle_timeout = 60 * MILLISECOND;
    fixture_start(&fixture);
    uint64_t began = tws_clock_now();
    int fd = connect_client(&fixture);
    expect_close(fd, TWS_CLOSE_GOING_AWAY);
    CHECK(tws_clock_now() - began >= 60 * MILLISECOND);
    put_close(fd, 1001);
    CHECK(read_to_end(fd));
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_by, TWS_ENDED_BY_LIMIT);
    CHECK_INT(fixture.last_ending.sent_code, TWS_CLOSE_GOING_AWAY);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

static void
block_handler(struct fixture *fixture, struct tws_client *client,
              const struct tws_event *event)
{
    fixture_block(fixture, fixture->context);
    (void)echo(client, event);
}

EACH_WAY(a_server_waits_for_slow_handlers)
{
    struct fixture fixture;
    atomic_bool go = false;
    fixture_init_pool(&fixture, way);
    fixture.options.ping_interval = 20 * MILLISECOND;
    fixture.options.ping_timeout = 40 * MILLISECOND;
    fixture.options.idle_timeout = 50 * MILLISECOND;
    fixture.context = &go;
    fixture.on_message = block_handler;
    fixture_start(&fixture);
    /* All at once, so that it is not idle before. */
    int fd = dial(&fixture);
    uint8_t bytes[sizeof(UPGRADE_REQUEST) + 4 + WIRE_HEADER_MAX];
    memcpy(bytes, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    size_t length = sizeof(UPGRADE_REQUEST) - 1;
    length += write_frame(bytes + length, TEXT, "slow", 4);
    give(fd, bytes, length);
    put_close(fd, 1000);
    expect_101(fd);
    pause_for(300 * MILLISECOND);
    CHECK_INT(fixture.closed, 0);
    CHECK_INT(tws_server_count(fixture.server), 1);
    go = true;
    expect_text(fd, "slow");
    expect_close(fd, 1000);
    CHECK(read_to_end(fd));
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_by, TWS_ENDED_BY_PEER);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

RUN(T(a_server_drops_a_client_that_does_not_answer),
    T(a_server_keeps_a_client_that_answers), T(a_server_closes_an_idle_client),
    T(a_server_waits_for_slow_handlers))
