/* A server whose handlers sleep while it is to stop, and one that many threads
 * look at, send to and stop. */
#include "engine_fixture.h"

static void
stop(struct fixture *fixture, uint64_t patience)
{
    tws_server_stop(fixture->server, 1001, TWS_SPAN("going"), patience);
}

/* ---- stopping while handlers sleep ------------------------------------- */

enum { SLOW = 3, QUICK = 3 };

/* Some clients of which the first few are in handlers that sleep. */
struct sleepers {
    struct fixture fixture;
    int fds[SLOW + QUICK];
    atomic_bool go;
    atomic_int begun;
};

static void
sleep_when_told(struct fixture *fixture, struct tws_client *client,
                const struct tws_event *event)
{
    struct sleepers *sleepers = fixture->context;
    if (is_text(event, "sleep")) {
        sleepers->begun++;
        fixture_block(fixture, &sleepers->go);
    }
    (void)echo(client, event);
}

static void
start_sleepers(struct sleepers *sleepers, struct way way)
{
    struct fixture *fixture = &sleepers->fixture;
    sleepers->go = false;
    sleepers->begun = 0;
    fixture_init_pool(fixture, way);
    fixture->context = sleepers;
    fixture->on_message = sleep_when_told;
    fixture_start(fixture);
    for (int i = 0; i < SLOW + QUICK; i++) {
        sleepers->fds[i] = connect_client(fixture);
        if (i < SLOW) {
            put_text(sleepers->fds[i], "sleep");
            EVENTUALLY(sleepers->begun == i + 1);
        }
    }
    EVENTUALLY(fixture->opened == SLOW + QUICK);
}

static void
end_sleepers(struct sleepers *sleepers)
{
    for (int i = 0; i < SLOW + QUICK; i++) {
        (void)read_to_end(sleepers->fds[i]);
        CHECK_INT(close(sleepers->fds[i]), 0);
    }
    fixture_join(&sleepers->fixture);
    CHECK_INT(sleepers->fixture.closed, SLOW + QUICK);
    fixture_end(&sleepers->fixture);
}

/* The loop ends without them; they find the end when they wake. */
EACH_WAY(a_stop_without_patience_leaves_those_who_sleep)
{
    static struct sleepers sleepers;
    struct fixture *fixture = &sleepers.fixture;
    start_sleepers(&sleepers, way);
    stop(fixture, 0);
    EVENTUALLY(fixture->ended == 1);
    CHECK_INT(fixture->closed, QUICK);
    CHECK_INT(tws_server_count(fixture->server), SLOW);
    sleepers.go = true;
    EVENTUALLY(fixture->closed == SLOW + QUICK);
    CHECK_INT(fixture->last_by, TWS_ENDED_BY_US);
    CHECK_INT(fixture->last_code, 1006);
    end_sleepers(&sleepers);
}

EACH_WAY(patience_ends_while_handlers_sleep)
{
    static struct sleepers sleepers;
    struct fixture *fixture = &sleepers.fixture;
    start_sleepers(&sleepers, way);
    uint64_t began = tws_clock_now();
    stop(fixture, 80 * MILLISECOND);
    for (int i = 0; i < SLOW + QUICK; i++) {
        expect_close(sleepers.fds[i], 1001); /* all are told at once */
    }
    EVENTUALLY(fixture->ended == 1);
    CHECK(milliseconds_since(began) >= 79);
    sleepers.go = true;
    end_sleepers(&sleepers);
}

/* Those that wake in time end as all the others do. */
EACH_WAY(a_patient_stop_waits_for_those_who_sleep)
{
    static struct sleepers sleepers;
    struct fixture *fixture = &sleepers.fixture;
    start_sleepers(&sleepers, way);
    stop(fixture, UINT64_MAX);
    for (int i = 0; i < SLOW + QUICK; i++) {
        expect_close(sleepers.fds[i], 1001);
        put_close(sleepers.fds[i], 1001);
    }
    EVENTUALLY(fixture->closed == QUICK);
    pause_for(20 * MILLISECOND);
    CHECK_INT(fixture->closed, QUICK);
    CHECK_INT(fixture->ended, 0);
    sleepers.go = true;
    EVENTUALLY(fixture->closed == SLOW + QUICK);
    CHECK_INT(fixture->last_code, 1001);
    for (int i = 0; i < SLOW + QUICK; i++) {
        CHECK(read_to_end(sleepers.fds[i]));
    }
    end_sleepers(&sleepers);
}

/* A second stop, and a third, while the first waits. */
EACH_WAY(an_impatient_stop_comes_later)
{
    static struct sleepers sleepers;
    struct fixture *fixture = &sleepers.fixture;
    start_sleepers(&sleepers, way);
    stop(fixture, UINT64_MAX);
    pause_for(10 * MILLISECOND);
    stop(fixture, 0);
    EVENTUALLY(fixture->ended == 1);
    stop(fixture, 0); /* to no effect */
    sleepers.go = true;
    end_sleepers(&sleepers);
}

static void
stop_and_sleep(struct fixture *fixture, struct tws_client *client,
               const struct tws_event *event)
{
    struct sleepers *sleepers = fixture->context;
    if (is_text(event, "stop")) {
        stop(fixture, 0);
        fixture_block(fixture, &sleepers->go);
        CHECK_INT(send_text(client, "too late"), TWS_EOF);
    }
}

EACH_WAY(a_handler_stops_and_sleeps_on)
{
    static struct sleepers sleepers;
    struct fixture *fixture = &sleepers.fixture;
    sleepers.go = false;
    fixture_init_pool(fixture, way);
    fixture->context = &sleepers;
    fixture->on_message = stop_and_sleep;
    fixture_start(fixture);
    int fd = connect_client(fixture);
    int other = connect_client(fixture);
    EVENTUALLY(fixture->opened == 2);
    put_text(fd, "stop");
    EVENTUALLY(fixture->ended == 1);
    CHECK_INT(fixture->closed, 1);
    sleepers.go = true;
    fixture_join(fixture);
    CHECK_INT(fixture->closed, 2);
    CHECK_INT(close(fd), 0);
    CHECK_INT(close(other), 0);
    fixture_end(fixture);
}

static void
sleep_at_close(struct fixture *fixture, struct tws_client *client,
               const struct tws_ending *ending)
{
    struct sleepers *sleepers = fixture->context;
    (void)client;
    (void)ending;
    sleepers->begun++;
    fixture_block(fixture, &sleepers->go);
}

/* All of them at once: each takes a thread, as far as there are any. */
EACH_WAY(handlers_of_the_end_sleep)
{
    for (int patient = 0; patient < 2; patient++) {
        static struct sleepers sleepers;
        struct fixture *fixture = &sleepers.fixture;
        fixture_init_pool(fixture, way);
        sleepers.go = false;
        sleepers.begun = 0;
        fixture->context = &sleepers;
        fixture->on_close = sleep_at_close;
        fixture_start(fixture);
        for (int i = 0; i < SLOW + QUICK; i++) {
            sleepers.fds[i] = connect_client(fixture);
        }
        EVENTUALLY(fixture->opened == SLOW + QUICK);
        stop(fixture, patient == 1 ? UINT64_MAX : 0);
        for (int i = 0; patient == 1 && i < SLOW + QUICK; i++) {
            expect_close(sleepers.fds[i], 1001);
            put_close(sleepers.fds[i], 1001);
        }
        EVENTUALLY(sleepers.begun == SLOW + QUICK);
        CHECK_INT(fixture->closed, 0);
        sleepers.go = true;
        end_sleepers(&sleepers);
    }
}

/* A handler that waits for the next message learns of the stop. */
static void
read_till_the_end(struct fixture *fixture, struct tws_client *client,
                  const struct tws_event *event)
{
    struct sleepers *sleepers = fixture->context;
    struct tws_event next;
    (void)event;
    sleepers->begun++;
    CHECK_INT(fixture_next(fixture, client, &next), TWS_EOF);
}

EACH_WAY(a_stop_ends_the_wait_of_a_handler_that_reads_on)
{
    for (int patient = 0; patient < 2; patient++) {
        static struct sleepers sleepers;
        struct fixture *fixture = &sleepers.fixture;
        fixture_init_pool(fixture, way);
        sleepers.begun = 0;
        fixture->context = &sleepers;
        fixture->on_message = read_till_the_end;
        fixture_start(fixture);
        for (int i = 0; i < SLOW + QUICK; i++) {
            sleepers.fds[i] = connect_client(fixture);
            put_text(sleepers.fds[i], "read on");
            EVENTUALLY(sleepers.begun == i + 1);
        }
        fixture_await_spare(fixture);
        stop(fixture, patient == 1 ? UINT64_MAX : 0);
        for (int i = 0; patient == 1 && i < SLOW + QUICK; i++) {
            expect_close(sleepers.fds[i], 1001);
            put_close(sleepers.fds[i], 1001);
        }
        end_sleepers(&sleepers);
    }
}

/* ---- the threads ------------------------------------------------------- */

EACH_WAY(all_threads_come_back_when_the_loop_can_not_begin)
{
    struct fixture fixture;
    fixture_init_pool(&fixture, way);
    fixture.may_fail = true;
    fixture_make(&fixture);
    CHECK_INT(close(fixture.listener), 0);
    fixture_run(&fixture);
    fixture_join(&fixture);
    CHECK_INT(fixture.status, TWS_OS);
    fixture.listener = dup(0);
    fixture_end(&fixture);
}

EACH_WAY(a_thread_may_come_when_all_is_over)
{
    struct fixture fixture;
    struct tws_error err;
    fixture_init_pool(&fixture, way);
    fixture_start(&fixture);
    expect_alive(&fixture);
    stop(&fixture, 0);
    fixture_join(&fixture);
    fixture_enter(&fixture, &inside_of);
    CHECK_INT(tws_server_work(fixture.server, &err), TWS_OK);
    (void)fixture_leave(&fixture);
    CHECK_INT(fixture.ended, 1);
    fixture_end(&fixture);
}

/* ---- other threads ----------------------------------------------------- */

enum { MOST = 64 };

struct found {
    struct tws_client *clients[MOST];
    size_t count;
};

static void
visit(void *context, struct tws_client *client)
{
    struct found *found = context;
    CHECK(client->user != NULL);
    if (found->count < MOST) {
        tws_client_retain(client);
        found->clients[found->count++] = client;
    }
}

enum { PEERS = 3, VISITS = 40, LOOKERS = 3 };

struct crowd {
    struct fixture *fixture;
    atomic_bool over;
    atomic_uint seed;
};

static unsigned
next_random(unsigned *state)
{
    *state = *state * 1103515245 + 12345;
    return *state >> 16;
}

static void
use_client(struct tws_client *client, unsigned what)
{
    struct tws_error err;
    enum tws_status status = TWS_OK;
    struct tws_span payload = {.data = pattern, .length = what % 3000};
    switch (what % 16) {
    case 0:
        status = begin_close(client, 1001, "enough");
        break;
    case 1:
        break_off(client);
        break;
    case 2:
        (void)tws_client_queued(client);
        break;
    case 3:
        status = tws_client_send_packed(client, TWS_SPAN("\x81\x02ok"),
                                        TWS_STANDS_ALONE, 1, 2, NULL, &err);
        break;
    default:
        status = tws_client_send(client, TWS_OPCODE_TEXT, payload,
                                 what % 2 * 700, NULL, &err);
        break;
    }
    CHECK(status == TWS_OK || status == TWS_EOF);
}

static void *
looker_main(void *argument)
{
    struct crowd *crowd = argument;
    unsigned state = ++crowd->seed;
    while (!crowd->over) {
        struct found found = {.count = 0};
        tws_server_each(crowd->fixture->server, visit, &found);
        (void)tws_server_count(crowd->fixture->server);
        for (size_t i = 0; i < found.count; i++) {
            use_client(found.clients[i], next_random(&state));
            tws_client_release(found.clients[i]);
        }
        pause_for(next_random(&state) % 8 * MILLISECOND / 16);
    }
    return NULL;
}

/* Reads frames until something else than a message comes. */
static void
read_messages(int fd, unsigned most)
{
    struct wire_frame frame;
    while (most > 0 && take_frame(fd, &frame)) {
        uint8_t opcode = frame.first & 0x0f;
        CHECK(opcode == TWS_OPCODE_TEXT || opcode == TWS_OPCODE_CONTINUATION
              || opcode == TWS_OPCODE_CLOSE);
        free(frame.data);
        if (opcode == TWS_OPCODE_CLOSE) {
            return;
        }
        most--;
    }
}

static void
visit_server(const struct fixture *fixture, unsigned *state)
{
    uint8_t frames[3 * (WIRE_HEADER_MAX + 400)];
    int fd = dial(fixture);
    unsigned what = next_random(state);
    if (what % 8 == 0) {
        (void)offer(fd, UPGRADE_REQUEST, what / 8 % 100);
        goto done;
    }
    (void)offer(fd, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    char head[1024];
    if (!take_head(fd, head, sizeof(head))) {
        goto done;
    }
    size_t length = 0;
    for (unsigned i = 0; i < 3; i++) {
        length += write_frame(frames + length, TEXT, pattern,
                              next_random(state) % 400);
    }
    (void)offer(fd, frames, what % 5 == 0 ? length - 7 : length);
    read_messages(fd, next_random(state) % 30);
    if (what % 3 == 0) {
        length = write_frame(frames, CLOSE, "\x03\xe8", 2);
        (void)offer(fd, frames, length);
        read_messages(fd, 1000000);
    }
done:
    if (next_random(state) % 2 == 0) {
        reset_fd(fd);
    }
    else {
        CHECK_INT(close(fd), 0);
    }
}

static void *
peer_main(void *argument)
{
    struct crowd *crowd = argument;
    unsigned state = ++crowd->seed;
    for (int i = 0; i < VISITS; i++) {
        struct fixture *fixture = crowd->fixture;
        visit_server(fixture, &state);
        not_too_many();
    }
    return NULL;
}

/* Takes a moment now and then. */
static void
doze_and_echo(struct fixture *fixture, struct tws_client *client,
              const struct tws_event *event)
{
    if (event->length % 8 == 0) {
        fixture_pause(fixture, event->length % 5 * MILLISECOND * 5);
    }
    (void)echo(client, event);
}

static void
act_in_a_crowd(struct fixture *with)
{
    struct fixture fixture = *with;
    pthread_t peers[PEERS];
    pthread_t lookers[LOOKERS];
    struct crowd crowd = {.fixture = &fixture};
    fixture.options.high_water = 4096;
    fixture_start(&fixture);
    for (int i = 0; i < PEERS; i++) {
        must(pthread_create(&peers[i], NULL, peer_main, &crowd) == 0,
             "pthread_create");
    }
    for (int i = 0; i < LOOKERS; i++) {
        must(pthread_create(&lookers[i], NULL, looker_main, &crowd) == 0,
             "pthread_create");
    }
    for (int i = 0; i < PEERS; i++) {
        CHECK_INT(pthread_join(peers[i], NULL), 0);
    }
    crowd.over = true;
    for (int i = 0; i < LOOKERS; i++) {
        CHECK_INT(pthread_join(lookers[i], NULL), 0);
    }
    EVENTUALLY(tws_server_count(fixture.server) == 0);
    expect_alive(&fixture);
    fixture_end(&fixture);
}

BOTH_KINDS(other_threads_act_while_clients_come_and_go)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    act_in_a_crowd(&fixture);
}

EACH_WAY(they_do_while_handlers_sleep)
{
    struct fixture fixture;
    fixture_init_pool(&fixture, way);
    fixture.on_message = doze_and_echo;
    act_in_a_crowd(&fixture);
}

/* A stop while all of that goes on. */
static void
stop_a_crowd(const struct fixture *with)
{
    for (int round = 0; round < 5; round++) {
        struct fixture fixture = *with;
        pthread_t looker;
        int fds[8];
        struct crowd crowd = {.fixture = &fixture,
                              .seed = (unsigned)round * 77};
        fixture_start(&fixture);
        must(pthread_create(&looker, NULL, looker_main, &crowd) == 0,
             "pthread_create");
        for (int i = 0; i < 8; i++) {
            fds[i] = dial(&fixture);
            give(fds[i], UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
            put_text(fds[i], "in 8 ...");
        }
        pause_for((uint64_t)round * MILLISECOND / 2);
        stop(&fixture, (uint64_t)round * 20 * MILLISECOND);
        fixture_join(&fixture);
        crowd.over = true;
        CHECK_INT(pthread_join(looker, NULL), 0);
        for (int i = 0; i < 8; i++) {
            CHECK_INT(close(fds[i]), 0);
        }
        fixture_end(&fixture);
    }
}

BOTH_KINDS(a_stop_comes_while_clients_come_and_go)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    stop_a_crowd(&fixture);
}

EACH_WAY(it_comes_while_handlers_sleep)
{
    struct fixture fixture;
    fixture_init_pool(&fixture, way);
    fixture.on_message = doze_and_echo;
    stop_a_crowd(&fixture);
}

RUN(T(a_stop_without_patience_leaves_those_who_sleep),
    T(patience_ends_while_handlers_sleep),
    T(a_patient_stop_waits_for_those_who_sleep),
    T(an_impatient_stop_comes_later), T(a_handler_stops_and_sleeps_on),
    T(handlers_of_the_end_sleep),
    T(a_stop_ends_the_wait_of_a_handler_that_reads_on),
    T(all_threads_come_back_when_the_loop_can_not_begin),
    T(a_thread_may_come_when_all_is_over),
    T(other_threads_act_while_clients_come_and_go),
    T(they_do_while_handlers_sleep), T(a_stop_comes_while_clients_come_and_go),
    T(it_comes_while_handlers_sleep))
