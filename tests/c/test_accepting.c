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

RUN(T(all_that_wait_are_accepted),
    T(accepting_pauses_where_descriptors_run_out_and_goes_on),
    T(a_stop_ends_a_pause))
