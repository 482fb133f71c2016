#include "net/progress.h"

#include "harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Two ends of a connection by way of the loopback device. */
static void
connect_ends(int ends[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    int small = 4096;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    /* Little fits: the accepted end inherits the size. */
    CHECK_INT(
        setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    CHECK_INT(bind(listener, (struct sockaddr *)&address, size), 0);
    CHECK_INT(listen(listener, 1), 0);
    CHECK_INT(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_INT(connect(ends[0], (struct sockaddr *)&address, size), 0);
    ends[1] = accept(listener, NULL, NULL);
    CHECK(ends[1] >= 0);
    (void)close(listener);
}

static void
rest_a_moment(void)
{
    struct timespec moment = {.tv_nsec = 1000000};
    (void)nanosleep(&moment, NULL);
}

/* Until more than `before` is acknowledged; false after some seconds. */
static bool
await_more(int fd, uint64_t before, struct tws_progress *progress)
{
    for (int i = 0; i < 5000; i++) {
        if (!tws_progress_read(fd, progress)) {
            return false;
        }
        if (progress->acknowledged > before) {
            return true;
        }
        rest_a_moment();
    }
    return false;
}

static bool
await_all(int fd, struct tws_progress *progress)
{
    for (int i = 0; i < 5000; i++) {
        if (tws_progress_read(fd, progress) && !progress->outstanding) {
            return true;
        }
        rest_a_moment();
    }
    return false;
}

TEST(what_the_peer_has_taken_is_counted)
{
    int ends[2];
    struct tws_progress before;
    struct tws_progress after;
    connect_ends(ends);
    CHECK(tws_progress_read(ends[0], &before));
    CHECK(!before.outstanding);
    CHECK_INT(send(ends[0], "12345", 5, 0), 5);
    CHECK(await_more(ends[0], before.acknowledged, &after));
    CHECK_INT(after.acknowledged - before.acknowledged, 5);
    CHECK(await_all(ends[0], &after));
    (void)close(ends[0]);
    (void)close(ends[1]);
}

TEST(a_peer_that_reads_nothing_leaves_bytes_outstanding)
{
    static char block[1 << 16];
    int ends[2];
    struct tws_progress stuck;
    struct tws_progress after;
    connect_ends(ends);
    ssize_t sent = 0;
    ssize_t more;
    do {
        more = send(ends[0], block, sizeof(block), MSG_DONTWAIT);
        sent += more > 0 ? more : 0;
    } while (more > 0);
    CHECK(tws_progress_read(ends[0], &stuck));
    CHECK(stuck.outstanding);
    CHECK(stuck.acknowledged < (uint64_t)sent);
    while (sent > 0) {
        more = recv(ends[1], block, sizeof(block), 0);
        CHECK(more > 0);
        if (more <= 0) {
            break;
        }
        sent -= more;
    }
    CHECK(await_more(ends[0], stuck.acknowledged, &after));
    CHECK(await_all(ends[0], &after));
    (void)close(ends[0]);
    (void)close(ends[1]);
}

TEST(of_other_sockets_the_system_does_not_tell)
{
    int ends[2];
    struct tws_progress progress = {.acknowledged = 1, .outstanding = true};
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    CHECK(!tws_progress_read(ends[0], &progress));
    CHECK_INT(progress.acknowledged, 0);
    CHECK(!progress.outstanding);
    (void)close(ends[0]);
    (void)close(ends[1]);
    CHECK(!tws_progress_read(-1, &progress));
}

RUN(T(what_the_peer_has_taken_is_counted),
    T(a_peer_that_reads_nothing_leaves_bytes_outstanding),
    T(of_other_sockets_the_system_does_not_tell))
