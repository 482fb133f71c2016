/* The listener: what comes is taken, until descriptors run out, and again
 * when there are some. */
#include "engine_fixture.h"

#include <sys/resource.h>

enum { REQUEST_LENGTH = sizeof(UPGRADE_REQUEST) - 1 };

/* ---- many at once ------------------------------------------------------ */

/* More than are accepted in one turn. */
BOTH_KINDS(all_that_wait_are_accepted)
{
    enum { WAITING = 200 };
    static int fds[WAITING];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    int client = connect_client(&fixture);
    pthread_mutex_lock(&fixture.exclusion); /* it accepts none yet */
    for (int i = 0; i < WAITING; i++) {
        fds[i] = dial(&fixture);
        give(fds[i], UPGRADE_REQUEST, REQUEST_LENGTH);
    }
    put_text(client, "has its turn, too");
    pthread_mutex_unlock(&fixture.exclusion);
    expect_text(client, "has its turn, too");
    for (int i = 0; i < WAITING; i++) {
        expect_101(fds[i]);
    }
    EVENTUALLY(tws_server_count(fixture.server) == WAITING + 1);
    for (int i = 0; i < WAITING; i++) {
        close_politely(fds[i]);
    }
    close_politely(client);
    CHECK_INT(fixture.accept_pauses, 0);
    fixture_end(&fixture);
}

/* ---- descriptors run out ----------------------------------------------- */

enum { CROWD = 20, FREE = 5 };

static void
check_pause(struct fixture *fixture, const struct tws_error *err)
{
    (void)fixture;
    CHECK_INT(err->status, TWS_OS);
    CHECK_INT(err->sys_errno, EMFILE);
}

/* Its accept() takes a connection over the limit and closes it: that peer is
 * lost, which the system's own never does. */
static bool
under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");
    return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

/* Leaves room for so many descriptors more. */
static struct rlimit
limit_fds(int room)
{
    struct rlimit old;
    struct rlimit limit;
    int lowest = dup(0);
    must(lowest >= 0 && close(lowest) == 0, "dup");
    must(getrlimit(RLIMIT_NOFILE, &old) == 0, "getrlimit");
    limit = old;
    limit.rlim_cur = (rlim_t)(lowest + room);
    must(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
    return old;
}

BOTH_KINDS(accepting_pauses_where_descriptors_run_out_and_goes_on)
{
    int fds[CROWD];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_accept_paused = check_pause;
    fixture_start(&fixture);
    size_t before = count_fds();
    expect_alive(&fixture);
    EVENTUALLY(count_fds() == before);
    pthread_mutex_lock(&fixture.exclusion); /* it accepts none yet */
    for (int i = 0; i < CROWD; i++) {
        fds[i] = dial(&fixture);
        give(fds[i], UPGRADE_REQUEST, REQUEST_LENGTH);
    }
    struct rlimit old = limit_fds(FREE);
    pthread_mutex_unlock(&fixture.exclusion);
    for (int i = 0; i < FREE; i++) {
        expect_101(fds[i]);
    }
    EVENTUALLY(fixture.accept_pauses >= 1);
    int pauses = fixture.accept_pauses;
    uint64_t began = tws_clock_now();
    EVENTUALLY(fixture.accept_pauses >= pauses + 2);
    CHECK(milliseconds_since(began) >= 99); /* it does not spin */
    CHECK_INT(fixture.opened, FREE + 1);
    put_text(fds[0], "still served"); /* what is there goes on */
    expect_text(fds[0], "still served");
    for (int i = 0; i < CROWD; i++) {
        char byte;
        if (i >= FREE && under_valgrind()
            && recv(fds[i], &byte, 1, MSG_PEEK) <= 0) {
            CHECK_INT(close(fds[i]), 0);
            continue;
        }
        if (i >= FREE) {
            expect_101(fds[i]);
        }
        put_text(fds[i], "hello");
        expect_text(fds[i], "hello");
        close_politely(fds[i]);
    }
    must(setrlimit(RLIMIT_NOFILE, &old) == 0, "setrlimit");
    expect_alive(&fixture);
    fixture_end(&fixture);
}

BOTH_KINDS(a_stop_ends_a_pause)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture_start(&fixture);
    pthread_mutex_lock(&fixture.exclusion);
    int fd = dial(&fixture);
    struct rlimit old = limit_fds(0);
    pthread_mutex_unlock(&fixture.exclusion);
    EVENTUALLY(fixture.accept_pauses >= 1);
    tws_server_stop(fixture.server, 1001, TWS_SPAN(""), UINT64_MAX);
    fixture_join(&fixture);
    must(setrlimit(RLIMIT_NOFILE, &old) == 0, "setrlimit");
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

/* ---- places for clients ------------------------------------------------ */

static void
expect_start(int fd, const char *start)
{
    char got[32] = "";
    size_t length = strlen(start);
    CHECK(length < sizeof(got) && take_bytes(fd, got, length));
    CHECK(memcmp(got, start, length) == 0);
}

static void
expect_503(const struct fixture *fixture)
{
    int fd = dial(fixture);
    give(fd, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    expect_start(fd, "HTTP/1.1 503 ");
    CHECK_INT(close(fd), 0);
}

BOTH_KINDS(servers_may_share_a_limit_of_clients)
{
    int fds[4];
    _Atomic size_t places = 0;
    struct fixture one;
    struct fixture other;
    fixture_init(&one, kind);
    one.options.max_clients = 4;
    one.options.places = &places;
    fixture_start(&one);
    fixture_init(&other, kind);
    other.options = one.options;
    fixture_start(&other);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++) {
            fds[i] = connect_client(i < 3 ? &one : &other);
        }
        CHECK_INT(places, 4);
        expect_503(&one);
        expect_503(&other);
        close_politely(fds[0]);
        EVENTUALLY(places == 3);
        fds[0] = connect_client(&other);
        expect_503(&one);
        for (int i = 0; i < 4; i++) {
            close_politely(fds[i]);
        }
        EVENTUALLY(places == 0);
    }
    CHECK_INT(one.refused, 6);
    CHECK_INT(other.refused, 3);
    /* Its connections would show among the descriptors of the other. */
    tws_server_stop(one.server, TWS_CLOSE_GOING_AWAY, TWS_SPAN("end"),
                    PATIENCE_SECONDS * SECOND);
    fixture_join(&one);
    fixture_end(&other);
    fixture_end(&one);
}

/* The first of each kind is not made a client. */
static void
refuse_in_many_ways(struct fixture *fixture, struct tws_handshake *handshake,
                    const struct tws_http_head *head,
                    const struct tws_handshake_request *request)
{
    struct tws_error err;
    (void)head;
    CHECK_INT(*fixture->options.places, 0); /* until it is accepted */
    switch ((int)fixture->requests) {
    case 1:
        CHECK_INT(tws_handshake_refuse(handshake, 403, "not you", false, &err),
                  TWS_OK);
        break;
    case 2:
        CHECK_INT(tws_handshake_answer(
                      handshake, TWS_SPAN("HTTP/1.1 418 no\r\n\r\n"), &err),
                  TWS_OK);
        break;
    case 3:
        break; /* dropped */
    default:
        CHECK_INT(fixture_accept(fixture, handshake, request), TWS_OK);
    }
}

BOTH_KINDS(who_is_refused_takes_no_place)
{
    static const char *const answers[] = {"HTTP/1.1 403 ", "HTTP/1.1 418 ",
                                          ""};
    _Atomic size_t places = 0;
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.max_clients = 1;
    fixture.options.places = &places;
    fixture.on_request = refuse_in_many_ways;
    fixture_start(&fixture);
    for (int i = 0; i < 3; i++) {
        int fd = dial(&fixture);
        give(fd, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
        /* While this is not closed: it does not linger with a place. */
        expect_start(fd, answers[i]);
        EVENTUALLY(fixture.requests == i + 1 && places == 0);
        CHECK_INT(close(fd), 0);
    }
    expect_alive(&fixture);
    EVENTUALLY(places == 0);
    fixture_end(&fixture);
}

static void
accept_when_it_is_gone(struct fixture *fixture,
                       struct tws_handshake *handshake,
                       const struct tws_http_head *head,
                       const struct tws_handshake_request *request)
{
    int *fd = fixture->context;
    (void)head;
    CHECK_INT(fixture_accept(fixture, handshake, request), TWS_OK);
    if (*fd >= 0) {
        reset_fd(*fd);
        *fd = -1;
    }
}

BOTH_KINDS(who_vanishes_before_its_101_frees_its_place)
{
    _Atomic size_t places = 0;
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.max_clients = 1;
    fixture.options.places = &places;
    fixture.on_request = accept_when_it_is_gone;
    int fd = -1;
    fixture.context = &fd;
    fixture_make(&fixture);
    fd = dial(&fixture);
    give(fd, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    fixture_run(&fixture);
    EVENTUALLY(fixture.discarded == 1);
    EVENTUALLY(places == 0);
    expect_alive(&fixture);
    EVENTUALLY(places == 0);
    fixture_end(&fixture);
}

/* The first request is decided when another one has the last place. */
static void
accept_when_full(struct fixture *fixture, struct tws_handshake *handshake,
                 const struct tws_http_head *head,
                 const struct tws_handshake_request *request)
{
    struct tws_error err;
    (void)head;
    if (fixture->requests > 1) {
        CHECK_INT(fixture_accept(fixture, handshake, request), TWS_OK);
        return;
    }
    fixture_block(fixture, fixture->context);
    CHECK_INT(fixture_accept(fixture, handshake, request), TWS_REFUSED);
    CHECK_INT(tws_handshake_refuse(handshake, 503, "full", false, &err),
              TWS_OK);
}

EACH_WAY(a_slow_decision_holds_no_place)
{
    _Atomic size_t places = 0;
    atomic_bool go = false;
    struct fixture fixture;
    fixture_init_pool(&fixture, way);
    fixture.options.max_clients = 1;
    fixture.options.places = &places;
    fixture.on_request = accept_when_full;
    fixture.context = &go;
    fixture_start(&fixture);
    int slow = dial(&fixture);
    give(slow, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
    EVENTUALLY(fixture.requests == 1);
    int fd = connect_client(&fixture);
    CHECK_INT(places, 1);
    go = true;
    expect_start(slow, "HTTP/1.1 503 ");
    CHECK_INT(places, 1);
    CHECK_INT(close(slow), 0);
    close_politely(fd);
    EVENTUALLY(places == 0);
    fixture_end(&fixture);
}

RUN(T(all_that_wait_are_accepted),
    T(accepting_pauses_where_descriptors_run_out_and_goes_on),
    T(a_stop_ends_a_pause), T(servers_may_share_a_limit_of_clients),
    T(who_is_refused_takes_no_place),
    T(who_vanishes_before_its_101_frees_its_place),
    T(a_slow_decision_holds_no_place))
