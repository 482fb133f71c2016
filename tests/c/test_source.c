#include "net/source.h"

#include "names_fixture.h"

#include <errno.h>

static struct tws_source
from(const char *host, uint16_t port)
{
    struct tws_source source = {.given = false};
    struct tws_resolve *resolve;
    struct tws_error err;
    int gai_error = 0;
    unsigned ready;
    CHECK_INT(tws_resolve_begin(host, port, AF_UNSPEC, &resolve, &err),
              TWS_OK);
    enum tws_status status =
        tws_source_from(&source, resolve, &gai_error, &err);
    while (status == TWS_AGAIN) {
        CHECK(!source.given);
        CHECK_INT(tws_socket_wait(tws_resolve_fd(resolve), TWS_WAIT_READ,
                                  UINT64_MAX, &ready, &err),
                  TWS_OK);
        status = tws_source_from(&source, resolve, &gai_error, &err);
    }
    CHECK_INT(status == TWS_OK, source.given);
    CHECK_INT(status == TWS_REFUSED, gai_error != 0);
    tws_resolve_free(resolve);
    return source;
}

static uint16_t
own_port(int fd, int family)
{
    struct tws_address own = {.length = sizeof(own.storage)};
    CHECK_INT(getsockname(fd, (struct sockaddr *)&own.storage, &own.length),
              0);
    CHECK_INT(own.storage.ss_family, family);
    return ntohs(((struct sockaddr_in *)&own.storage)->sin_port);
}

static enum tws_status
bind_one(const struct tws_source *source, int family, int *fd, int *error)
{
    struct tws_error err = {.sys_errno = 0};
    CHECK_INT(tws_socket_open(family, 0, fd, &err), TWS_OK);
    enum tws_status status = tws_source_bind(source, *fd, family, &err);
    *error = err.sys_errno;
    return status;
}

TEST(none_is_given)
{
    struct tws_source source = {.given = false};
    int error;
    int fd;
    CHECK(tws_source_allows(&source, AF_INET));
    CHECK(tws_source_allows(&source, AF_INET6));
    CHECK_INT(bind_one(&source, AF_INET, &fd, &error), TWS_OK);
    CHECK_INT(own_port(fd, AF_INET), 0);
    close(fd);
}

TEST(one_family)
{
    struct tws_source source = from("127.0.0.1", 0);
    int error;
    int fd;
    CHECK(tws_source_allows(&source, AF_INET));
    CHECK(!tws_source_allows(&source, AF_INET6));
    CHECK_INT(bind_one(&source, AF_INET, &fd, &error), TWS_OK);
    CHECK(own_port(fd, AF_INET) != 0);
    close(fd);
    CHECK_INT(bind_one(&source, AF_INET6, &fd, &error), TWS_OS);
    CHECK_INT(error, EADDRNOTAVAIL);
    close(fd);
    source = from("::1", 0);
    CHECK(!tws_source_allows(&source, AF_INET));
    CHECK_INT(bind_one(&source, AF_INET6, &fd, &error), TWS_OK);
    CHECK(own_port(fd, AF_INET6) != 0);
    close(fd);
}

TEST(name_of_both_families)
{
    const struct named both[] = {
        {"both.example", figures("::1", 1)},
        {"both.example", figures("2001:db8::1", 1)},
        {"both.example", figures("127.0.0.1", 1)},
        {"both.example", figures("192.0.2.1", 1)},
        {.name = NULL},
    };
    char text[TWS_HOST_TEXT];
    names = both;
    struct tws_source source = from("both.example", 1);
    tws_socket_host(&source.ipv4, text);
    CHECK_INT(strcmp(text, "127.0.0.1"), 0); /* the first of each */
    tws_socket_host(&source.ipv6, text);
    CHECK_INT(strcmp(text, "::1"), 0);
    source = from("other.example", 1);
    CHECK(!source.given);
}

/* The next attempt must be able to use the same port: side by side, and
 * soon after. */
TEST(port_is_shared)
{
    struct tws_source source;
    int error;
    int first;
    int second;
    struct tws_address address = dead_end(AF_INET);
    uint16_t port = ntohs(((struct sockaddr_in *)&address.storage)->sin_port);
    tws_source_any(&source, port);
    CHECK_INT(bind_one(&source, AF_INET, &first, &error), TWS_OK);
    CHECK_INT(own_port(first, AF_INET), port);
    CHECK_INT(bind_one(&source, AF_INET, &second, &error), TWS_OK);
    CHECK_INT(own_port(second, AF_INET), port);
    close(first);
    close(second);
    tws_source_any(&source, 0);
    CHECK_INT(bind_one(&source, AF_INET6, &first, &error), TWS_OK);
    CHECK(own_port(first, AF_INET6) != 0);
    close(first);
}

/* Where connecting has failed, the same socket is used once more. */
TEST(bound_already)
{
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(hosts); i++) {
        int family = i == 0 ? AF_INET : AF_INET6;
        struct tws_source source = from(hosts[i], 0);
        struct tws_source any;
        struct tws_error err;
        int error;
        int fd;
        tws_source_any(&any, 0);
        CHECK_INT(bind_one(&source, family, &fd, &error), TWS_OK);
        uint16_t port = own_port(fd, family);
        CHECK_INT(tws_source_bind(&source, fd, family, &err), TWS_OK);
        CHECK_INT(own_port(fd, family), port);
        CHECK_INT(tws_source_bind(&any, fd, family, &err), TWS_OS);
        CHECK_INT(err.sys_errno, EINVAL);
        source = from(hosts[i], port);
        CHECK_INT(tws_source_bind(&source, fd, family, &err), TWS_OK);
        source = from(hosts[i], (uint16_t)(port - 1));
        CHECK_INT(tws_source_bind(&source, fd, family, &err), TWS_OS);
        close(fd);
    }
}

TEST(address_of_another_machine)
{
    struct tws_source source = from("192.0.2.1", 0);
    int error;
    int fd;
    CHECK_INT(bind_one(&source, AF_INET, &fd, &error), TWS_OS);
    CHECK_INT(error, EADDRNOTAVAIL);
    close(fd);
}

RUN(T(none_is_given), T(one_family), T(name_of_both_families),
    T(port_is_shared), T(bound_already), T(address_of_another_machine))
