#include "engine/server_parts.h"

#include "engine_fixture.h"

/* A server that nobody drives. */
static struct tws_server *
new_server(void)
{
    static const struct tws_handlers handlers = {0};
    static const struct tws_server_options options = {.max_threads = 9};
    struct tws_server *server;
    struct tws_error err;
    must(
        tws_server_new(-1, TWS_POLLER_BEST, &options, &handlers, &server, &err)
            == TWS_OK,
        "tws_server_new");
    return server;
}

static struct tws_worker *
join(struct tws_server *server)
{
    struct tws_worker *worker;
    struct tws_error err;
    must(tws_worker_new(server, &worker, &err) == TWS_OK, "tws_worker_new");
    tws_pool_add(&server->pool, worker);
    return worker;
}

static void
leave(struct tws_server *server, struct tws_worker *worker)
{
    (void)tws_pool_remove(&server->pool, worker);
    tws_worker_free(worker);
}

static void
count(struct tws_worker *worker, uint64_t amount)
{
    tws_count(&worker->counters.messages_in, amount);
    tws_count(&worker->counters.messages_out, amount * 10);
    tws_count(&worker->counters.bytes_in, amount * 100);
    tws_count(&worker->counters.bytes_out, amount * 1000);
    tws_count(&worker->counters.handler_time, amount * 10000);
}

static void
check_sums(struct tws_server *server, uint64_t amount, unsigned threads)
{
    struct tws_stats stats;
    memset(&stats, 0xff, sizeof(stats));
    tws_server_stats(server, &stats);
    CHECK_INT(stats.messages_in, amount);
    CHECK_INT(stats.messages_out, amount * 10);
    CHECK_INT(stats.bytes_in, amount * 100);
    CHECK_INT(stats.bytes_out, amount * 1000);
    CHECK_INT(stats.handler_time, amount * 10000);
    CHECK_INT(stats.threads, threads);
    CHECK_INT(stats.clients, 0);
    CHECK_INT(stats.accepted, 0);
    CHECK_INT(stats.refused, 0);
    CHECK_INT(stats.handovers, 0);
    CHECK_INT(stats.slow_dropped, 0);
}

TEST(a_new_server_has_counted_nothing)
{
    struct tws_server *server = new_server();
    check_sums(server, 0, 0);
    tws_server_free(server);
}

TEST(all_workers_count_those_that_have_left_too)
{
    struct tws_server *server = new_server();
    struct tws_worker *first = join(server);
    count(first, 1);
    check_sums(server, 1, 1);
    struct tws_worker *second = join(server);
    check_sums(server, 1, 2);
    count(second, 2);
    count(first, 3);
    check_sums(server, 6, 2);
    leave(server, first);
    check_sums(server, 6, 1);
    struct tws_worker *third = join(server);
    count(third, 4);
    count(second, 5);
    check_sums(server, 15, 2);
    leave(server, third);
    leave(server, second);
    check_sums(server, 15, 0);
    check_sums(server, 15, 0); /* to ask changes nothing */
    tws_server_free(server);
}

TEST(sums_need_more_than_32_bits)
{
    struct tws_server *server = new_server();
    struct tws_worker *worker = join(server);
    count(worker, (uint64_t)1 << 40);
    check_sums(server, (uint64_t)1 << 40, 1);
    leave(server, worker);
    check_sums(server, (uint64_t)1 << 40, 0);
    tws_server_free(server);
}

TEST(what_others_send_is_added)
{
    struct tws_server *server = new_server();
    struct tws_worker *worker = join(server);
    struct tws_stats stats;
    count(worker, 1);
    tws_server_count_sent(server, 3, 30);
    tws_server_count_sent(server, 0, 0);
    tws_server_count_sent(server, 1, (size_t)1 << 33);
    tws_server_stats(server, &stats);
    CHECK_INT(stats.messages_out, 10 + 4);
    CHECK_INT(stats.bytes_out, 1000 + 30 + ((uint64_t)1 << 33));
    CHECK_INT(stats.messages_in, 1);
    CHECK_INT(stats.bytes_in, 100);
    leave(server, worker);
    tws_server_free(server);
}

TEST(each_count_has_its_place)
{
    struct tws_server *server = new_server();
    struct tws_stats stats;
    struct tws_worker *worker = join(server);
    server->accepted = 1;
    server->refused = 2;
    server->client_count = 3;
    server->pool.handovers = 4;
    server->pool.sampled_time = 5;
    tws_count(&worker->counters.handler_time, 100);
    for (int i = 0; i < 6; i++) {
        tws_server_count_slow(server);
    }
    tws_server_stats(server, &stats);
    CHECK_INT(stats.accepted, 1);
    CHECK_INT(stats.refused, 2);
    CHECK_INT(stats.clients, 3);
    CHECK_INT(stats.handovers, 4);
    CHECK_INT(stats.handler_time, 105);
    CHECK_INT(stats.slow_dropped, 6);
    server->client_count = 0;
    leave(server, worker);
    tws_server_free(server);
}

TEST(threads_count_once_they_are_there)
{
    struct tws_server *server = new_server();
    struct tws_stats stats;
    struct tws_worker *first = join(server);
    CHECK(tws_pool_wants_thread(&server->pool, 9));
    tws_server_stats(server, &stats);
    CHECK_INT(stats.threads, 1);
    struct tws_worker *second = join(server);
    tws_server_stats(server, &stats);
    CHECK_INT(stats.threads, 2);
    leave(server, first);
    leave(server, second);
    tws_server_free(server);
}

enum { THREADS = 3, LIVES = 60, COUNTS = 50 };

static void *
come_and_go(void *argument)
{
    struct tws_server *server = argument;
    for (int life = 0; life < LIVES; life++) {
        struct tws_worker *worker = join(server);
        for (int i = 0; i < COUNTS; i++) {
            count(worker, 1);
            tws_server_count_sent(server, 1, 1);
        }
        leave(server, worker);
    }
    return NULL;
}

TEST(sums_never_shrink_while_workers_come_and_go)
{
    struct tws_server *server = new_server();
    struct tws_stats before = {0};
    struct tws_stats stats;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, come_and_go, server), 0);
    }
    for (int i = 0; i < 1000; i++) {
        tws_server_stats(server, &stats);
        CHECK(stats.threads <= THREADS);
        CHECK(stats.messages_in >= before.messages_in);
        CHECK(stats.messages_out >= before.messages_out);
        CHECK(stats.bytes_in >= before.bytes_in);
        CHECK(stats.bytes_out >= before.bytes_out);
        CHECK(stats.handler_time >= before.handler_time);
        before = stats;
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    }
    tws_server_stats(server, &stats);
    CHECK_INT(stats.messages_in, THREADS * LIVES * COUNTS);
    CHECK_INT(stats.messages_out, THREADS * LIVES * COUNTS * 11);
    CHECK_INT(stats.bytes_out, THREADS * LIVES * COUNTS * 1001);
    CHECK_INT(stats.threads, 0);
    tws_server_free(server);
}

/* In a server ------------------------------------------------------------- */

static unsigned
threads_of(struct tws_server *server)
{
    struct tws_stats stats;
    tws_server_stats(server, &stats);
    return stats.threads;
}

static void
pause_where_asked(struct fixture *fixture, struct tws_client *client,
                  const struct tws_event *event)
{
    if (is_text(event, "slow")) {
        (void)tws_server_before_wait(fixture->server);
        fixture_pause(fixture, 20 * MILLISECOND);
    }
    (void)echo(client, event);
}

EACH_WAY(a_server_counts_what_comes_and_goes)
{
    struct fixture fixture;
    struct tws_stats stats;
    fixture_init_pool(&fixture, way);
    fixture.on_message = pause_where_asked;
    fixture.hold = true;
    fixture_start(&fixture);
    int refused = dial(&fixture);
    give(refused, "GARBAGE\r\n\r\n", 11);
    CHECK(read_to_end(refused));
    CHECK_INT(close(refused), 0);
    int fd = connect_client(&fixture);
    put_text(fd, "quick");
    expect_text(fd, "quick");
    put_frame(fd, PING, "not counted", 11);
    expect_frame(fd, PONG, "not counted", 11);
    EVENTUALLY(threads_of(fixture.server) == 2); /* one of them stands by */
    for (int i = 0; i < 2; i++) {
        put_text(fd, "quick");
        expect_text(fd, "quick");
    }
    tws_server_stats(fixture.server, &stats);
    CHECK_INT(stats.clients, 1);
    CHECK_INT(stats.accepted, 1);
    CHECK_INT(stats.refused, 1);
    CHECK_INT(stats.messages_in, 3);
    CHECK_INT(stats.messages_out, 3);
    CHECK_INT(stats.bytes_in, 3 * 5);
    CHECK_INT(stats.bytes_out, 3 * 5);
    CHECK_INT(stats.slow_dropped, 0);
    uint64_t before = stats.handovers;
    put_text(fd, "slow");
    expect_text(fd, "slow");
    CHECK_INT(fixture_send(&fixture, fixture.held, "other", NULL), TWS_OK);
    expect_text(fd, "other");
    close_politely(fd);
    EVENTUALLY(fixture.closed == 1);
    tws_server_stats(fixture.server, &stats);
    CHECK_INT(stats.messages_in, 3 + 1);
    CHECK_INT(stats.messages_out, 3 + 2);
    CHECK_INT(stats.bytes_in, 3 * 5 + 4);
    CHECK_INT(stats.bytes_out, 3 * 5 + 4 + 5);
    CHECK(stats.handovers > before);
    CHECK(stats.handler_time >= 20 * MILLISECOND);
    EVENTUALLY(tws_server_count(fixture.server) == 0);
    fixture_end(&fixture);
}

RUN(T(a_new_server_has_counted_nothing),
    T(all_workers_count_those_that_have_left_too),
    T(sums_need_more_than_32_bits), T(what_others_send_is_added),
    T(each_count_has_its_place), T(threads_count_once_they_are_there),
    T(sums_never_shrink_while_workers_come_and_go),
    T(a_server_counts_what_comes_and_goes))
