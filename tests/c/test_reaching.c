#include "net/reaching.h"

#include "names_fixture.h"

#include <errno.h>
#include <sys/resource.h>

#define MS ((uint64_t)1000000)

struct reach {
    struct tws_reaching reaching;
    int own; /* the descriptor of the owner, -1: none */
    struct tws_wait waits[TWS_RACING_WAITS];
    size_t count;
    uint64_t until;
    struct tws_error err;
};

static enum tws_status
start(struct reach *reach, const char *host,
      const struct tws_reaching_options *options)
{
    memset(reach, 0, sizeof(*reach));
    reach->own = -1;
    if (options->family != AF_UNSPEC) {
        CHECK_INT(
            tws_socket_open(options->family, 0, &reach->own, &reach->err),
            TWS_OK);
    }
    return tws_reaching_by_name(&reach->reaching, reach->own, host, 80,
                                options, &reach->err);
}

/* Closes the one descriptor that there is, whoever has made it. */
static void
stop(struct reach *reach)
{
    int fd = reach->reaching.fd;
    CHECK(reach->own < 0 || fd == reach->own);
    tws_reaching_release(&reach->reaching);
    if (fd >= 0) {
        close(fd);
    }
}

static enum tws_status
advance(struct reach *reach)
{
    enum tws_status status =
        tws_reaching_advance(&reach->reaching, 0, UINT64_MAX, &reach->err);
    reach->count =
        tws_reaching_wait(&reach->reaching, reach->waits, &reach->until);
    return status;
}

static enum tws_status
finish(struct reach *reach)
{
    enum tws_status status = advance(reach);
    while (status == TWS_AGAIN) {
        if (tws_socket_wait_any(reach->waits, reach->count, 5000 * MS,
                                &reach->err)
            != TWS_OK) {
            return TWS_AGAIN;
        }
        status = advance(reach);
    }
    return status;
}

static bool
is_resolving(const struct reach *reach, bool own)
{
    bool is_own = !own;
    return tws_reaching_is_resolving(&reach->reaching, &is_own)
           && is_own == own;
}

/* Both ends of the connection, by their ports. */
static void
check_connection(const struct reach *reach, const struct tws_address *source,
                 const struct tws_address *target)
{
    struct tws_address own = {.length = sizeof(own.storage)};
    struct tws_address peer = {.length = sizeof(peer.storage)};
    int fd = reach->reaching.fd;
    CHECK_INT(getpeername(fd, (struct sockaddr *)&peer.storage, &peer.length),
              0);
    CHECK_INT(((struct sockaddr_in *)&peer.storage)->sin_port,
              ((const struct sockaddr_in *)&target->storage)->sin_port);
    CHECK_INT(getsockname(fd, (struct sockaddr *)&own.storage, &own.length),
              0);
    if (source != NULL) {
        CHECK_INT(((struct sockaddr_in *)&own.storage)->sin_port,
                  ((const struct sockaddr_in *)&source->storage)->sin_port);
    }
}

static uint16_t
port_of(const struct tws_address *address)
{
    return ntohs(((const struct sockaddr_in *)&address->storage)->sin_port);
}

/* --- ways --- */

TEST(with_and_without_a_descriptor)
{
    static const int families[] = {AF_INET, AF_UNSPEC};
    struct tws_address open;
    int listener = listen_at(AF_INET, 4, &open);
    const struct named one[] = {{"one.example", open}, {.name = NULL}};
    names = one;
    for (size_t i = 0; i < TWS_ARRAY_SIZE(families); i++) {
        struct reach reach;
        const struct tws_reaching_options options = {.family = families[i]};
        CHECK_INT(start(&reach, "one.example", &options), TWS_OK);
        CHECK_INT(reach.reaching.racing != NULL, families[i] == AF_UNSPEC);
        CHECK(is_resolving(&reach, false));
        CHECK_INT(finish(&reach), TWS_OK);
        CHECK(!is_resolving(&reach, false));
        check_connection(&reach, NULL, &open);
        stop(&reach);
    }
    close(listener);
}

TEST(unix_address)
{
    struct reach reach;
    struct tws_address address = {.length = sizeof(sa_family_t) + 8};
    address.storage.ss_family = AF_UNIX;
    (void)snprintf((char *)&address.storage + sizeof(sa_family_t) + 1, 8,
                   "%07u", (unsigned)getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_INT(
        bind(listener, (struct sockaddr *)&address.storage, address.length),
        0);
    CHECK_INT(listen(listener, 1), 0);
    memset(&reach, 0, sizeof(reach));
    CHECK_INT(tws_socket_open(AF_UNIX, 0, &reach.own, &reach.err), TWS_OK);
    tws_reaching_by_address(&reach.reaching, reach.own, &address);
    CHECK(!is_resolving(&reach, false));
    CHECK_INT(finish(&reach), TWS_OK);
    tws_reaching_interrupt(&reach.reaching); /* nothing happens */
    stop(&reach);
    close(listener);
}

TEST(source_by_name)
{
    static const int families[] = {AF_INET, AF_UNSPEC};
    struct tws_address open;
    int listener = listen_at(AF_INET, 4, &open);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(families); i++) {
        struct reach reach;
        struct tws_address own = dead_end(AF_INET);
        const struct named both[] = {
            {"one.example", open}, {"me.example", own}, {.name = NULL}};
        const struct tws_reaching_options options = {
            .family = families[i], .source_host = "me.example"};
        names = both;
        pthread_mutex_lock(&names_gate);
        CHECK_INT(start(&reach, "one.example", &options), TWS_OK);
        CHECK_INT(advance(&reach), TWS_AGAIN);
        CHECK(is_resolving(&reach, true));
        CHECK_INT(reach.count, 1);
        pthread_mutex_unlock(&names_gate);
        CHECK_INT(finish(&reach), TWS_OK);
        check_connection(&reach, &own, &open);
        stop(&reach);
    }
    close(listener);
}

TEST(source_in_figures)
{
    static const int families[] = {AF_INET, AF_UNSPEC};
    static const char *const hosts[] = {"127.0.0.1", ""};
    struct tws_address open;
    int listener = listen_at(AF_INET, 4, &open);
    const struct named one[] = {{"one.example", open}, {.name = NULL}};
    names = one;
    for (size_t i = 0; i < 4; i++) {
        struct reach reach;
        struct tws_address own = dead_end(AF_INET);
        const struct tws_reaching_options options = {
            .family = families[i / 2],
            .source_host = hosts[i % 2],
            .source_port = port_of(&own)};
        CHECK_INT(start(&reach, "one.example", &options), TWS_OK);
        CHECK_INT(finish(&reach), TWS_OK);
        check_connection(&reach, &own, &open);
        stop(&reach);
    }
    close(listener);
}

/* --- failures --- */

TEST(unknown_names)
{
    static const int families[] = {AF_INET, AF_UNSPEC};
    static const struct named one[] = {{"one.example", {.length = 0}},
                                       {.name = NULL}};
    names = one;
    for (size_t i = 0; i < TWS_ARRAY_SIZE(families); i++) {
        struct reach reach;
        struct tws_reaching_options options = {.family = families[i]};
        CHECK_INT(start(&reach, "other.example", &options), TWS_OK);
        CHECK_INT(finish(&reach), TWS_REFUSED);
        CHECK_INT(tws_reaching_gai_error(&reach.reaching), EAI_NONAME);
        CHECK(is_resolving(&reach, false));
        stop(&reach);
        int before = names_answered;
        options.source_host = "other.example";
        CHECK_INT(start(&reach, "one.example", &options), TWS_OK);
        CHECK_INT(finish(&reach), TWS_REFUSED);
        CHECK_INT(tws_reaching_gai_error(&reach.reaching), EAI_NONAME);
        CHECK(is_resolving(&reach, true));
        stop(&reach);
        await_answered(before + 2);
    }
}

TEST(nobody_listens)
{
    static const int families[] = {AF_INET, AF_UNSPEC};
    const struct named one[] = {{"one.example", dead_end(AF_INET)},
                                {.name = NULL}};
    names = one;
    for (size_t i = 0; i < TWS_ARRAY_SIZE(families); i++) {
        struct reach reach;
        const struct tws_reaching_options options = {.family = families[i]};
        CHECK_INT(start(&reach, "one.example", &options), TWS_OK);
        CHECK_INT(finish(&reach), TWS_OS);
        CHECK_INT(reach.err.sys_errno, ECONNREFUSED);
        CHECK(strncmp(reach.err.reason, "Connection refused", 18) == 0);
        CHECK_INT(reach.reaching.fd, reach.own);
        CHECK_INT(tws_reaching_gai_error(&reach.reaching), 0);
        stop(&reach);
    }
    names = NULL;
}

TEST(names_that_are_too_long)
{
    char host[TWS_HOST_MAX + 2];
    struct reach reach;
    memset(host, 'x', sizeof(host) - 1);
    host[sizeof(host) - 1] = '\0';
    const struct tws_reaching_options options = {.family = AF_UNSPEC};
    const struct tws_reaching_options source = {.family = AF_UNSPEC,
                                                .source_host = host};
    CHECK_INT(start(&reach, host, &options), TWS_OS);
    CHECK_INT(reach.err.sys_errno, ENAMETOOLONG);
    stop(&reach);
    CHECK_INT(start(&reach, "127.0.0.1", &source), TWS_OS);
    CHECK_INT(reach.err.sys_errno, ENAMETOOLONG);
    stop(&reach);
}

/* What was begun is given back at once: LeakSanitizer watches. */
TEST(no_descriptors_left)
{
    struct reach reach;
    struct rlimit before;
    const struct tws_reaching_options options = {.family = AF_UNSPEC,
                                                 .source_host = "127.0.0.1"};
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_INT(start(&reach, "127.0.0.1", &options), TWS_OS);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_INT(reach.err.sys_errno, EMFILE);
    CHECK(reach.reaching.source_resolve == NULL);
    CHECK_INT(reach.reaching.fd, -1);
}

/* --- interruption --- */

static void
check_interruption(struct reach *reach)
{
    CHECK_INT(tws_socket_wait_any(reach->waits, reach->count, 0, &reach->err),
              TWS_AGAIN);
    tws_reaching_interrupt(&reach->reaching);
    CHECK_INT(tws_socket_wait_any(reach->waits, reach->count, 0, &reach->err),
              TWS_OK);
}

TEST(interrupted_while_resolving)
{
    static const struct {
        int family;
        const char *host;
        const char *source;
        bool own;
    } cases[] = {
        {AF_INET, "one.example", NULL, false},
        {AF_UNSPEC, "one.example", NULL, false},
        {AF_INET, "127.0.0.1", "one.example", true},
        {AF_UNSPEC, "127.0.0.1", "one.example", true},
    };
    static const struct named none[] = {{.name = NULL}};
    names = none;
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct reach reach;
        int before = names_answered;
        const struct tws_reaching_options options = {
            .family = cases[i].family, .source_host = cases[i].source};
        pthread_mutex_lock(&names_gate);
        CHECK_INT(start(&reach, cases[i].host, &options), TWS_OK);
        CHECK_INT(advance(&reach), TWS_AGAIN);
        CHECK(is_resolving(&reach, cases[i].own));
        check_interruption(&reach);
        stop(&reach);
        pthread_mutex_unlock(&names_gate);
        await_answered(before + 1);
    }
}

TEST(interrupted_while_connecting)
{
    struct reach reach;
    struct black_hole hole;
    const struct tws_reaching_options options = {.family = AF_UNSPEC};
    open_black_hole(&hole, AF_INET);
    const struct named one[] = {{"one.example", hole.address}, {.name = NULL}};
    names = one;
    CHECK_INT(start(&reach, "one.example", &options), TWS_OK);
    while (is_resolving(&reach, false)) {
        CHECK_INT(advance(&reach), TWS_AGAIN);
    }
    check_interruption(&reach);
    CHECK_INT(reach.reaching.fd, -1);
    stop(&reach);
    close_black_hole(&hole);
}

RUN(T(with_and_without_a_descriptor), T(unix_address), T(source_by_name),
    T(source_in_figures), T(unknown_names), T(nobody_listens),
    T(names_that_are_too_long), T(no_descriptors_left),
    T(interrupted_while_resolving), T(interrupted_while_connecting))
