/* poll() is replaced, so that a test can have an answer seen late; connect(),
 * so that addresses can fail in every way. */
#include "net/racing.h"

#include "names_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/syscall.h>

#define MS ((uint64_t)1000000)

static bool blind; /* poll() finds nothing */

int
poll(struct pollfd *entries, nfds_t count, int timeout)
{
    struct timespec time = {.tv_sec = timeout / 1000,
                            .tv_nsec = (timeout % 1000) * 1000000L};
    if (blind) {
        return 0;
    }
    return (int)syscall(SYS_ppoll, entries, count, timeout < 0 ? NULL : &time,
                        NULL, 0);
}

/* From SCRIPTED on, which is above what the system gives away, the port says
 * what connecting fails with; SCRIPTED itself hangs. */
enum { SCRIPTED = 61000 };
static struct black_hole *hole_of_ipv4;
static struct black_hole *hole_of_ipv6;
static char tried[128]; /* "4a6b": family and the last byte of the address */

int
connect(int fd, const struct sockaddr *address, socklen_t length)
{
    struct sockaddr_storage copy = {.ss_family = AF_UNSPEC};
    const struct sockaddr_in *sin = (const struct sockaddr_in *)&copy;
    const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)&copy;
    bool is_ipv6 = address->sa_family == AF_INET6;
    memcpy(&copy, address, length);
    size_t used = strlen(tried);
    int port = ntohs(sin->sin_port);
    if (port < SCRIPTED) {
        return (int)syscall(SYS_connect, fd, address, length);
    }
    (void)snprintf(tried + used, sizeof(tried) - used, "%c%c",
                   is_ipv6 ? '6' : '4',
                   is_ipv6 ? sin6->sin6_addr.s6_addr[15]
                           : (int)(ntohl(sin->sin_addr.s_addr) & 0xff));
    if (port > SCRIPTED) {
        errno = port - SCRIPTED;
        return -1;
    }
    const struct tws_address *hole =
        is_ipv6 ? &hole_of_ipv6->address : &hole_of_ipv4->address;
    return (int)syscall(SYS_connect, fd, &hole->storage, hole->length);
}

/* "4a" as 10.0.0.97, "6a" as 2001:db8::61. */
static struct tws_address
scripted(const char *what, int error)
{
    char text[32];
    (void)snprintf(text, sizeof(text),
                   what[0] == '6' ? "2001:db8::%x" : "10.0.0.%d", what[1]);
    return figures(text, (uint16_t)(SCRIPTED + error));
}

/* Those of a list such as "6a 4a", all with the same error. */
static void
list(struct named *many, const char *text, int error)
{
    size_t count = 0;
    for (const char *p = text; *p != '\0'; p += p[2] == '\0' ? 2 : 3) {
        many[count].name = "many.example";
        many[count].address = scripted(p, error);
        count++;
    }
    many[count].name = NULL;
    names = many;
    tried[0] = '\0';
}

/* --- a race, driven by hand --- */

struct race {
    struct tws_racing *racing;
    struct tws_wait waits[TWS_RACING_WAITS];
    size_t waiting; /* how many of them; the wake-up among them */
    uint64_t until;
    int fd;
    struct tws_error err;
};

static void
start(struct race *race, const char *host, const struct tws_source *source)
{
    struct tws_resolve *resolve;
    memset(race, 0, sizeof(*race));
    race->fd = -1;
    CHECK_INT(tws_resolve_begin(host, 1, AF_UNSPEC, &resolve, &race->err),
              TWS_OK);
    CHECK_INT(tws_racing_new(resolve, 0, &race->racing, &race->err), TWS_OK);
    if (source != NULL) {
        tws_racing_bind(race->racing, source);
    }
    CHECK(tws_racing_is_resolving(race->racing));
}

static void
stop(struct race *race)
{
    tws_racing_free(race->racing);
    if (race->fd >= 0) {
        close(race->fd);
    }
}

static enum tws_status
advance(struct race *race, uint64_t now)
{
    enum tws_status status =
        tws_racing_advance(race->racing, now, &race->fd, &race->err);
    race->waiting = tws_racing_wait(race->racing, race->waits, &race->until);
    return status;
}

/* Until the addresses are known: the first attempts are begun then. */
static enum tws_status
advance_to_attempts(struct race *race, uint64_t now)
{
    enum tws_status status = advance(race, now);
    while (status == TWS_AGAIN && tws_racing_is_resolving(race->racing)) {
        CHECK_INT(race->until, UINT64_MAX);
        CHECK_INT(tws_socket_wait_any(race->waits, race->waiting, 5000 * MS,
                                      &race->err),
                  TWS_OK);
        status = advance(race, now);
    }
    return status;
}

/* Waits for one of the attempts. */
static enum tws_status
await(struct race *race, uint64_t now)
{
    enum tws_status status = TWS_AGAIN;
    while (status == TWS_AGAIN) {
        if (tws_socket_wait_any(race->waits, race->waiting, 5000 * MS,
                                &race->err)
            != TWS_OK) {
            return TWS_AGAIN;
        }
        status = advance(race, now);
    }
    return status;
}

/* That the race was won by a connection to that address. */
static void
check_winner(const struct race *race, const struct tws_address *expected)
{
    struct tws_address peer = {.length = sizeof(peer.storage)};
    int on = 0;
    socklen_t size = sizeof(on);
    CHECK_INT(
        getpeername(race->fd, (struct sockaddr *)&peer.storage, &peer.length),
        0);
    CHECK_INT(peer.storage.ss_family, expected->storage.ss_family);
    CHECK_INT(((struct sockaddr_in *)&peer.storage)->sin_port,
              ((const struct sockaddr_in *)&expected->storage)->sin_port);
    CHECK(fcntl(race->fd, F_GETFL) & O_NONBLOCK);
    CHECK_INT(fcntl(race->fd, F_GETFD), FD_CLOEXEC);
    CHECK_INT(getsockopt(race->fd, IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
    CHECK_INT(on, 1);
}

static void
check_reason(const struct race *race, int error, const char *reason)
{
    CHECK_INT(race->err.status, TWS_OS);
    CHECK_INT(race->err.sys_errno, error);
    if (strcmp(race->err.reason, reason) != 0) {
        fprintf(stderr, "reason is \"%s\", expected \"%s\"\n",
                race->err.reason, reason);
        harness_failures++;
    }
}

static int
count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

/* --- who wins --- */

TEST(only_address)
{
    struct race race;
    struct tws_address open;
    int listener = listen_at(AF_INET, 4, &open);
    const struct named one[] = {{"one.example", open}, {.name = NULL}};
    names = one;
    start(&race, "one.example", NULL);
    CHECK_INT(advance_to_attempts(&race, 0), TWS_AGAIN);
    CHECK_INT(race.until, UINT64_MAX); /* nobody else is to begin */
    CHECK_INT(await(&race, 0), TWS_OK);
    check_winner(&race, &open);
    stop(&race);
    close(listener);
}

TEST(address_in_figures)
{
    struct race race;
    struct tws_address open;
    struct tws_resolve *resolve;
    int listener = listen_at(AF_INET6, 4, &open);
    uint16_t port = ntohs(((struct sockaddr_in6 *)&open.storage)->sin6_port);
    memset(&race, 0, sizeof(race));
    CHECK_INT(tws_resolve_begin("::1", port, AF_UNSPEC, &resolve, &race.err),
              TWS_OK);
    CHECK_INT(tws_racing_new(resolve, IPPROTO_TCP, &race.racing, &race.err),
              TWS_OK);
    CHECK_INT(advance(&race, 0), TWS_AGAIN);
    CHECK(!tws_racing_is_resolving(race.racing));
    CHECK_INT(await(&race, 0), TWS_OK);
    check_winner(&race, &open);
    stop(&race);
    close(listener);
}

/* What fails makes room for the next at once. */
TEST(refusals_cost_no_time)
{
    struct race race;
    struct tws_address open;
    int listener = listen_at(AF_INET, 4, &open);
    const struct named many[] = {{"many.example", dead_end(AF_INET6)},
                                 {"many.example", dead_end(AF_INET)},
                                 {"many.example", dead_end(AF_INET6)},
                                 {"many.example", open},
                                 {"many.example", dead_end(AF_INET)},
                                 {.name = NULL}};
    names = many;
    start(&race, "many.example", NULL);
    enum tws_status status = advance_to_attempts(&race, 1000);
    if (status == TWS_AGAIN) {
        status = await(&race, 1000);
    }
    CHECK_INT(status, TWS_OK);
    check_winner(&race, &open);
    stop(&race);
    close(listener);
}

TEST(dead_address_costs_a_moment)
{
    struct race race;
    struct black_hole hole;
    struct tws_address open;
    int listener = listen_at(AF_INET, 4, &open);
    open_black_hole(&hole, AF_INET6);
    const struct named two[] = {
        {"two.example", hole.address}, {"two.example", open}, {.name = NULL}};
    names = two;
    int before = count_descriptors();
    start(&race, "two.example", NULL);
    CHECK_INT(advance_to_attempts(&race, 1000), TWS_AGAIN);
    CHECK_INT(race.waiting, 2);
    CHECK_INT(race.until, 1000 + 250 * MS);
    CHECK_INT(advance(&race, 1000 + 250 * MS - 1), TWS_AGAIN);
    CHECK_INT(race.waiting, 2);
    CHECK_INT(advance(&race, 1000 + 250 * MS), TWS_AGAIN);
    CHECK_INT(race.waiting, 3);
    CHECK_INT(race.until, UINT64_MAX);
    CHECK_INT(await(&race, 1000 + 250 * MS), TWS_OK);
    check_winner(&race, &open);
    CHECK_INT(race.waiting, 1); /* nothing but the wake-up is left */
    CHECK_INT(count_descriptors(),
              before + 1 + 2 + 1); /* and its resolver's */
    stop(&race);
    CHECK_INT(count_descriptors(), before);
    close_black_hole(&hole);
    close(listener);
}

/* One that fails while another hangs: the third need not wait. */
TEST(failure_brings_the_next_forward)
{
    struct race race;
    struct black_hole hole;
    struct tws_address open;
    int listener = listen_at(AF_INET6, 4, &open);
    open_black_hole(&hole, AF_INET6);
    const struct named three[] = {{"three.example", hole.address},
                                  {"three.example", dead_end(AF_INET)},
                                  {"three.example", open},
                                  {.name = NULL}};
    names = three;
    start(&race, "three.example", NULL);
    CHECK_INT(advance_to_attempts(&race, 0), TWS_AGAIN);
    enum tws_status status = advance(&race, 250 * MS);
    if (status == TWS_AGAIN) {
        status = await(&race, 250 * MS);
    }
    CHECK_INT(status, TWS_OK);
    check_winner(&race, &open);
    stop(&race);
    close_black_hole(&hole);
    close(listener);
}

TEST(older_attempt_wins_where_both_answer)
{
    struct race race;
    struct tws_address open[2];
    int listeners[2] = {listen_at(AF_INET6, 4, &open[0]),
                        listen_at(AF_INET, 4, &open[1])};
    const struct named two[] = {
        {"two.example", open[0]}, {"two.example", open[1]}, {.name = NULL}};
    names = two;
    int before = count_descriptors();
    start(&race, "two.example", NULL);
    CHECK_INT(advance_to_attempts(&race, 0), TWS_AGAIN);
    blind = true;
    CHECK_INT(advance(&race, 250 * MS), TWS_AGAIN);
    CHECK_INT(race.waiting, 3);
    blind = false;
    close(accept_one(listeners[0]));
    close(accept_one(listeners[1])); /* so both are there */
    CHECK_INT(advance(&race, 250 * MS), TWS_OK);
    check_winner(&race, &open[0]);
    stop(&race);
    CHECK_INT(count_descriptors(), before);
    close(listeners[0]);
    close(listeners[1]);
}

/* One that has failed and one that has connected, seen at the same time. */
TEST(winner_beside_a_loser)
{
    struct race race;
    struct tws_address open;
    struct tws_address peer;
    int listener = listen_at(AF_INET, 4, &open);
    int victim = listen_at(AF_INET6, 4, &peer);
    const struct named two[] = {
        {"two.example", peer}, {"two.example", open}, {.name = NULL}};
    struct linger reset = {.l_onoff = 1};
    names = two;
    start(&race, "two.example", NULL);
    CHECK_INT(advance_to_attempts(&race, 0), TWS_AGAIN);
    blind = true;
    CHECK_INT(advance(&race, 250 * MS), TWS_AGAIN);
    blind = false;
    int fd = accept_one(victim);
    CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    close(fd);
    close(accept_one(listener));
    CHECK_INT(advance(&race, 250 * MS), TWS_OK);
    check_winner(&race, &open);
    stop(&race);
    close(victim);
    close(listener);
}

/* --- the order --- */

TEST(families_by_turns)
{
    static const struct {
        const char *given;
        const char *expected;
    } cases[] = {
        {"6a 6b 6c 4a 4b", "6a4a6b4b6c"},
        {"4a 4b 6a", "4a6a4b"}, /* the system prefers IPv4 */
        {"6a 4a 4b 4c", "6a4a4b4c"},
        {"6a 4a 6b 4b", "6a4a6b4b"},
        {"4a 4b", "4a4b"},
        {"6a", "6a"},
        {"4a 6a 6b 6c 4b", "4a6a4b6b6c"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct race race;
        struct named many[8];
        list(many, cases[i].given, ECONNREFUSED);
        start(&race, "many.example", NULL);
        CHECK_INT(advance_to_attempts(&race, 0), TWS_OS);
        CHECK_INT(strcmp(tried, cases[i].expected), 0);
        stop(&race);
    }
}

/* A bound number at a time; where there are more, the oldest makes room. */
TEST(many_that_hang)
{
    struct race race;
    struct black_hole holes[2];
    struct named many[TWS_RACING_MAX + 3];
    char text[3 * TWS_RACING_MAX + 8] = "";
    open_black_hole(&holes[0], AF_INET);
    open_black_hole(&holes[1], AF_INET6);
    hole_of_ipv4 = &holes[0];
    hole_of_ipv6 = &holes[1];
    for (int i = 0; i < TWS_RACING_MAX + 2; i++) {
        (void)snprintf(text + 3 * i, 4, "4%c ", 'a' + i);
    }
    text[3 * (TWS_RACING_MAX + 2) - 1] = '\0';
    list(many, text, 0);
    int before = count_descriptors();
    start(&race, "many.example", NULL);
    CHECK_INT(advance_to_attempts(&race, 0), TWS_AGAIN);
    for (unsigned i = 1; i < TWS_RACING_MAX; i++) {
        CHECK_INT(race.waiting, i + 1);
        CHECK_INT(race.until, i * 250 * MS);
        CHECK_INT(advance(&race, i * 250 * MS), TWS_AGAIN);
    }
    CHECK_INT(race.waiting, TWS_RACING_WAITS);
    CHECK_INT(strlen(tried), 2 * TWS_RACING_MAX);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t now = (TWS_RACING_MAX + i) * 250 * MS;
        int oldest = race.waits[1].fd;
        int second = race.waits[2].fd;
        CHECK(oldest != second);
        CHECK_INT(race.until, now);
        CHECK_INT(advance(&race, now), TWS_AGAIN);
        CHECK_INT(race.waiting, TWS_RACING_WAITS);
        CHECK_INT(race.waits[1].fd, second);
    }
    CHECK_INT(strlen(tried), 2 * (TWS_RACING_MAX + 2));
    CHECK_INT(race.until, UINT64_MAX);
    CHECK_INT(advance(&race, 3600 * 1000 * MS), TWS_AGAIN);
    stop(&race);
    CHECK_INT(count_descriptors(), before);
    close_black_hole(&holes[0]);
    close_black_hole(&holes[1]);
}

TEST(endless_list)
{
    struct race race;
    struct named many[200];
    for (size_t i = 0; i < TWS_ARRAY_SIZE(many); i++) {
        many[i] = (struct named){"many.example", scripted("4a", ECONNREFUSED)};
    }
    many[TWS_ARRAY_SIZE(many) - 1].name = NULL;
    names = many;
    start(&race, "many.example", NULL);
    CHECK_INT(advance_to_attempts(&race, 0), TWS_OS);
    stop(&race);
}

/* --- why nobody won --- */

static void
check_failure(const struct named *many, const struct tws_source *source,
              int error, const char *reason)
{
    struct race race;
    names = many;
    tried[0] = '\0';
    start(&race, "many.example", source);
    CHECK_INT(advance_to_attempts(&race, 0), TWS_OS);
    check_reason(&race, error, reason);
    CHECK_INT(tws_racing_gai_error(race.racing), 0);
    stop(&race);
}

TEST(reason_names_each_address)
{
    const struct named same[] = {{"many.example", scripted("6a", 111)},
                                 {"many.example", scripted("4a", 111)},
                                 {.name = NULL}};
    const struct named differ[] = {
        {"many.example", scripted("6a", ENETUNREACH)},
        {"many.example", scripted("4a", ECONNREFUSED)},
        {"many.example", scripted("4b", ECONNREFUSED)},
        {"many.example", scripted("6b", EHOSTUNREACH)},
        {"many.example", scripted("4c", ECONNREFUSED)},
        {"many.example", scripted("4d", ECONNREFUSED)},
        {"many.example", scripted("4e", ECONNREFUSED)},
        {.name = NULL}};
    const struct named none[] = {{"many.example", {.length = 0}},
                                 {.name = NULL}};
    check_failure(same, NULL, ECONNREFUSED,
                  "Connection refused (2001:db8::61, 10.0.0.97)");
    check_failure(differ, NULL, ECONNREFUSED,
                  "Network is unreachable (2001:db8::61), "
                  "Connection refused (10.0.0.97), No route to host "
                  "(2001:db8::62), Connection refused (10.0.0.98, 10.0.0.99, "
                  "10.0.0.100...");
    check_failure(none, NULL, EADDRNOTAVAIL, "no address");
}

/* A network that this machine does not have says nothing of the server. */
TEST(most_telling_error)
{
    static const struct {
        int errors[3];
        int expected;
    } cases[] = {
        {{ECONNREFUSED, ENETUNREACH, EHOSTUNREACH}, ECONNREFUSED},
        {{ENETUNREACH, EACCES, EADDRNOTAVAIL}, EACCES},
        {{ECONNREFUSED, ETIMEDOUT, EAFNOSUPPORT}, ETIMEDOUT},
        {{ENETUNREACH, EADDRNOTAVAIL, EHOSTUNREACH}, EHOSTUNREACH},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        const int *errors = cases[i].errors;
        const struct named many[] = {
            {"many.example", scripted("4a", errors[0])},
            {"many.example", scripted("4b", errors[1])},
            {"many.example", scripted("4c", errors[2])},
            {.name = NULL}};
        struct race race;
        names = many;
        start(&race, "many.example", NULL);
        CHECK_INT(advance_to_attempts(&race, 0), TWS_OS);
        CHECK_INT(race.err.sys_errno, cases[i].expected);
        stop(&race);
    }
}

TEST(unknown_name)
{
    static const struct named nobody[] = {{.name = NULL}};
    struct race race;
    names = nobody;
    start(&race, "many.example", NULL);
    CHECK_INT(advance_to_attempts(&race, 0), TWS_REFUSED);
    CHECK_INT(tws_racing_gai_error(race.racing), EAI_NONAME);
    stop(&race);
}

/* --- the source address --- */

TEST(source_address)
{
    struct race race;
    struct tws_source source;
    struct tws_address open[2];
    struct tws_address peer;
    struct tws_error err;
    int listeners[2] = {listen_at(AF_INET6, 4, &open[0]),
                        listen_at(AF_INET, 4, &open[1])};
    const struct named two[] = {
        {"two.example", open[0]}, {"two.example", open[1]}, {.name = NULL}};
    struct tws_address own = dead_end(AF_INET);
    int fd = -1;
    unsigned ready;
    names = two;
    tws_source_any(&source, 0);
    source.ipv6.length = 0; /* so IPv4 it is */
    source.ipv4 = own;
    start(&race, "two.example", &source);
    enum tws_status status = advance_to_attempts(&race, 0);
    if (status == TWS_AGAIN) {
        CHECK_INT(race.waiting, 2);
        CHECK_INT(race.until, UINT64_MAX);
        status = await(&race, 0);
    }
    CHECK_INT(status, TWS_OK);
    check_winner(&race, &open[1]);
    CHECK_INT(
        tws_socket_wait(listeners[1], TWS_WAIT_READ, 5000 * MS, &ready, &err),
        TWS_OK);
    CHECK_INT(tws_socket_accept(listeners[1], &fd, &peer, &err), TWS_OK);
    CHECK_INT(((struct sockaddr_in *)&peer.storage)->sin_port,
              ((struct sockaddr_in *)&own.storage)->sin_port);
    close(fd);
    stop(&race);
    close(listeners[0]);
    close(listeners[1]);
}

TEST(source_address_that_does_not_fit)
{
    struct tws_source source;
    const struct named two[] = {{"many.example", scripted("6a", 1)},
                                {"many.example", scripted("6b", 1)},
                                {.name = NULL}};
    int before = count_descriptors();
    tws_source_any(&source, 0);
    source.ipv6.length = 0;
    check_failure(two, &source, EADDRNOTAVAIL,
                  "no address of the source "
                  "address's family");
    tws_source_any(&source, 0);
    source.ipv6 = figures("2001:db8::5", 0); /* of another machine */
    check_failure(two, &source, EADDRNOTAVAIL,
                  "source address: Cannot assign requested "
                  "address (2001:db8::61, 2001:db8::62)");
    const struct named both[] = {{"many.example", scripted("6a", 1)},
                                 {"many.example", scripted("4a", 99)},
                                 {.name = NULL}};
    check_failure(both, &source, EADDRNOTAVAIL,
                  "source address: Cannot assign requested "
                  "address (2001:db8::61), Cannot assign requested address "
                  "(10.0.0.97)");
    CHECK_INT(count_descriptors(), before);
}

/* --- interruption --- */

static void *
interrupt(void *racing)
{
    tws_racing_interrupt(racing);
    return NULL;
}

/* A wait that begins after it, or that has begun, comes back. */
static void
check_interruption(struct race *race)
{
    pthread_t thread;
    CHECK_INT(tws_socket_wait_any(race->waits, race->waiting, 0, &race->err),
              TWS_AGAIN);
    CHECK_INT(pthread_create(&thread, NULL, interrupt, race->racing), 0);
    CHECK_INT(tws_socket_wait_any(race->waits, race->waiting, UINT64_MAX,
                                  &race->err),
              TWS_OK);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(advance(race, 0), TWS_AGAIN);
    CHECK_INT(tws_socket_wait_any(race->waits, race->waiting, UINT64_MAX,
                                  &race->err),
              TWS_OK);
}

TEST(interrupted_while_resolving)
{
    struct race race;
    struct named many[2];
    int before = names_answered;
    list(many, "4a", ECONNREFUSED);
    pthread_mutex_lock(&names_gate);
    start(&race, "many.example", NULL);
    CHECK_INT(advance(&race, 0), TWS_AGAIN);
    CHECK_INT(race.waiting, 2);
    check_interruption(&race);
    stop(&race);
    pthread_mutex_unlock(&names_gate);
    await_answered(before + 1);
}

TEST(interrupted_while_connecting)
{
    struct race race;
    struct black_hole hole;
    open_black_hole(&hole, AF_INET);
    const struct named one[] = {{"one.example", hole.address}, {.name = NULL}};
    names = one;
    start(&race, "one.example", NULL);
    CHECK_INT(advance_to_attempts(&race, 0), TWS_AGAIN);
    check_interruption(&race);
    for (size_t i = 0; i < 100000; i++) {
        tws_racing_interrupt(race.racing); /* more than a pipe holds */
    }
    stop(&race);
    close_black_hole(&hole);
}

RUN(T(only_address), T(address_in_figures), T(refusals_cost_no_time),
    T(dead_address_costs_a_moment), T(failure_brings_the_next_forward),
    T(older_attempt_wins_where_both_answer), T(winner_beside_a_loser),
    T(families_by_turns), T(many_that_hang), T(endless_list),
    T(reason_names_each_address), T(most_telling_error), T(unknown_name),
    T(source_address), T(source_address_that_does_not_fit),
    T(interrupted_while_resolving), T(interrupted_while_connecting))
