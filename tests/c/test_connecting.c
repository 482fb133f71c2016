#include "net/connecting.h"

#include "names_fixture.h"

#include <errno.h>
#include <sys/un.h>

#define MS ((uint64_t)1000000)

struct
try {
    struct tws_connecting connecting;
    int fd;
    struct tws_wait wait;
    uint64_t until;
    struct tws_error err;
};

static void
open_try(struct try *try, int family)
{
    memset(try, 0, sizeof(*try));
    CHECK_INT(tws_socket_open(family, 0, &try->fd, &try->err), TWS_OK);
}

static void
open_by_name(struct try *try, const char *name)
{
    struct tws_resolve *resolve;
    open_try(try, AF_INET);
    CHECK_INT(tws_resolve_begin(name, 80, AF_INET, &resolve, &try->err),
              TWS_OK);
    tws_connecting_by_name(&try->connecting, try->fd, resolve);
    CHECK(tws_connecting_is_resolving(&try->connecting));
}

static void
close_try(struct try *try)
{
    tws_connecting_release(&try->connecting);
    close(try->fd);
}

static enum tws_status
advance(struct try *try, uint64_t now, uint64_t deadline)
{
    enum tws_status status =
        tws_connecting_advance(&try->connecting, now, deadline, &try->err);
    tws_connecting_wait(&try->connecting, &try->wait, &try->until);
    return status;
}

/* Waits as the owner does, until there is a result. */
static enum tws_status
finish(struct try *try)
{
    enum tws_status status = advance(try, 0, UINT64_MAX);
    while (status == TWS_AGAIN) {
        if (tws_socket_wait_any(&try->wait, 1, 5000 * MS, &try->err)
            != TWS_OK) {
            return TWS_AGAIN;
        }
        status = advance(try, 0, UINT64_MAX);
    }
    return status;
}

static void
check_peer(const struct try *try, const struct tws_address *expected)
{
    struct tws_address peer = {.length = sizeof(peer.storage)};
    CHECK_INT(
        getpeername(try->fd, (struct sockaddr *)&peer.storage, &peer.length),
        0);
    CHECK_INT(((struct sockaddr_in *)&peer.storage)->sin_port,
              ((const struct sockaddr_in *)&expected->storage)->sin_port);
}

TEST(by_address)
{
    struct try try;
    struct tws_address address;
    int listener = listen_at(AF_INET, 4, &address);
    open_try(&try, AF_INET);
    tws_connecting_by_address(&try.connecting, try.fd, &address);
    CHECK(!tws_connecting_is_resolving(&try.connecting));
    CHECK_INT(finish(&try), TWS_OK);
    check_peer(&try, &address);
    close_try(&try);
    close(listener);
}

TEST(address_where_nobody_listens)
{
    struct try try;
    struct tws_address address = dead_end(AF_INET);
    open_try(&try, AF_INET);
    tws_connecting_by_address(&try.connecting, try.fd, &address);
    CHECK_INT(finish(&try), TWS_OS);
    CHECK_INT(try.err.sys_errno, ECONNREFUSED);
    CHECK_BYTES(try.err.reason, strlen(try.err.reason), "Connection refused");
    close_try(&try);
}

/* connect() says so at once. */
TEST(path_where_nothing_is)
{
    struct try try;
    struct tws_address address = {.length = sizeof(struct sockaddr_un)};
    struct sockaddr_un *sun = (struct sockaddr_un *)&address.storage;
    sun->sun_family = AF_UNIX;
    (void)snprintf(sun->sun_path, sizeof(sun->sun_path), "/no/such/socket");
    open_try(&try, AF_UNIX);
    tws_connecting_by_address(&try.connecting, try.fd, &address);
    CHECK_INT(finish(&try), TWS_OS);
    CHECK_INT(try.err.sys_errno, ENOENT);
    CHECK_BYTES(try.err.reason, strlen(try.err.reason),
                "No such file or directory");
    close_try(&try);
}

TEST(addresses_are_tried_in_turn)
{
    struct try try;
    struct tws_address open;
    int listener = listen_at(AF_INET, 4, &open);
    const struct named many[] = {{"many.example", dead_end(AF_INET)},
                                 {"many.example", dead_end(AF_INET)},
                                 {"many.example", open},
                                 {"many.example", dead_end(AF_INET)},
                                 {.name = NULL}};
    names = many;
    open_by_name(&try, "many.example");
    CHECK_INT(finish(&try), TWS_OK);
    CHECK(!tws_connecting_is_resolving(&try.connecting));
    check_peer(&try, &open);
    close_try(&try);
    close(listener);
}

TEST(error_of_the_last_address_counts)
{
    struct try try;
    const struct named two[] = {{"two.example", dead_end(AF_INET)},
                                {"two.example", dead_end(AF_INET)},
                                {"none.example", {.length = 0}},
                                {.name = NULL}};
    names = two;
    open_by_name(&try, "two.example");
    CHECK_INT(finish(&try), TWS_OS);
    CHECK_INT(try.err.sys_errno, ECONNREFUSED);
    CHECK(!tws_connecting_is_resolving(&try.connecting));
    close_try(&try);
    open_by_name(&try, "none.example");
    CHECK_INT(finish(&try), TWS_OS);
    CHECK_BYTES(try.err.reason, strlen(try.err.reason), "no address");
    close_try(&try);
}

TEST(name_without_an_address)
{
    static const struct named nobody[] = {{.name = NULL}};
    struct try try;
    names = nobody;
    open_by_name(&try, "other.example");
    CHECK_INT(finish(&try), TWS_REFUSED);
    CHECK_INT(try.connecting.gai_error, EAI_NONAME);
    CHECK(tws_connecting_is_resolving(&try.connecting));
    close_try(&try);
}

/* An address that does not answer has its share of the time, then the next
 * one has its turn on the same descriptor. */
TEST(address_that_hangs)
{
    struct try try;
    struct black_hole hole;
    struct tws_address open;
    int listener = listen_at(AF_INET, 4, &open);
    enum tws_status status = TWS_AGAIN;
    open_black_hole(&hole, AF_INET);
    const struct named two[] = {
        {"two.example", hole.address}, {"two.example", open}, {.name = NULL}};
    names = two;
    open_by_name(&try, "two.example");
    tws_connecting_wait(&try.connecting, &try.wait, &try.until);
    while (tws_connecting_is_resolving(&try.connecting)) {
        CHECK_INT(try.until, UINT64_MAX);
        CHECK_INT(try.wait.events, TWS_WAIT_READ);
        CHECK_INT(tws_socket_wait_any(&try.wait, 1, 5000 * MS, &try.err),
                  TWS_OK);
        status = advance(&try, 1000, 3000);
    }
    CHECK_INT(status, TWS_AGAIN);
    CHECK_INT(try.wait.fd, try.fd);
    CHECK_INT(try.wait.events, TWS_WAIT_WRITE);
    CHECK_INT(try.until, 2000);
    CHECK_INT(advance(&try, 1999, 3000), TWS_AGAIN);
    CHECK_INT(try.until, 2000);
    status = advance(&try, 2000, 3000);
    CHECK_INT(try.until, UINT64_MAX); /* the last one has all that is left */
    CHECK_INT(status == TWS_AGAIN ? finish(&try) : status, TWS_OK);
    check_peer(&try, &open);
    close_try(&try);
    close_black_hole(&hole);
    close(listener);
}

/* A Unix socket whose listener is full says EAGAIN instead of waiting. */
TEST(queue_that_is_full)
{
    struct try try;
    struct tws_address address = {.length = sizeof(sa_family_t) + 8};
    struct sockaddr_un *sun = (struct sockaddr_un *)&address.storage;
    int others[2];
    sun->sun_family = AF_UNIX; /* in the abstract name space */
    (void)snprintf(&sun->sun_path[1], 8, "%07u", (unsigned)getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_INT(bind(listener, (struct sockaddr *)sun, address.length), 0);
    CHECK_INT(listen(listener, 0), 0);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(others); i++) {
        others[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(others[i], (struct sockaddr *)sun, address.length);
    }
    open_try(&try, AF_UNIX);
    tws_connecting_by_address(&try.connecting, try.fd, &address);
    for (uint64_t now = 0; now < 100 * MS; now += 10 * MS) {
        CHECK_INT(advance(&try, now, UINT64_MAX), TWS_AGAIN);
        CHECK_INT(try.wait.fd, -1);
        CHECK_INT(try.until, now + 10 * MS);
    }
    close(accept_one(listener));
    CHECK_INT(advance(&try, 0, UINT64_MAX), TWS_OK);
    close_try(&try);
    close(others[0]);
    close(others[1]);
    close(listener);
}

/* It is bound once, also where several addresses are tried. */
TEST(source_address)
{
    struct tws_address open;
    int listener = listen_at(AF_INET, 4, &open);
    const struct named two[] = {{"two.example", dead_end(AF_INET)},
                                {"two.example", dead_end(AF_INET)},
                                {"two.example", open},
                                {.name = NULL}};
    names = two;
    for (int i = 0; i < 2; i++) {
        struct try try;
        struct tws_address own = {.length = sizeof(own.storage)};
        struct tws_address source = dead_end(AF_INET);
        in_port_t port = ((struct sockaddr_in *)&source.storage)->sin_port;
        open_by_name(&try, "two.example");
        try.connecting.source =
            (struct tws_source){.given = true, .ipv4 = source};
        if (i == 1) {
            tws_source_any(&try.connecting.source, ntohs(port));
        }
        CHECK_INT(finish(&try), TWS_OK);
        check_peer(&try, &open);
        CHECK_INT(
            getsockname(try.fd, (struct sockaddr *)&own.storage, &own.length),
            0);
        CHECK_INT(((struct sockaddr_in *)&own.storage)->sin_port, port);
        close_try(&try);
    }
    close(listener);
}

TEST(source_address_of_another_machine)
{
    struct try try;
    struct tws_address open;
    int listener = listen_at(AF_INET, 4, &open);
    const struct named one[] = {{"one.example", open}, {.name = NULL}};
    names = one;
    open_by_name(&try, "one.example");
    try.connecting.source =
        (struct tws_source){.given = true, .ipv4 = figures("192.0.2.1", 0)};
    CHECK_INT(finish(&try), TWS_OS);
    CHECK_INT(try.err.sys_errno, EADDRNOTAVAIL);
    CHECK_BYTES(try.err.reason, strlen(try.err.reason),
                "source address: Cannot assign requested address");
    close_try(&try);
    close(listener);
}

RUN(T(by_address), T(address_where_nobody_listens), T(path_where_nothing_is),
    T(addresses_are_tried_in_turn), T(error_of_the_last_address_counts),
    T(name_without_an_address), T(address_that_hangs), T(queue_that_is_full),
    T(source_address), T(source_address_of_another_machine))
