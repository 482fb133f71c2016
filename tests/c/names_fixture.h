/* Replaces getaddrinfo(): a test says which addresses a name has, each with a
 * port of its own, so that on one machine one address refuses, another hangs
 * and a third answers. Addresses in figures go to the real one. */
#ifndef TWS_TESTS_NAMES_FIXTURE_H
#define TWS_TESTS_NAMES_FIXTURE_H

#include "net/socket.h"

#include "harness.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

struct named {
    const char *name; /* NULL ends the list */
    struct tws_address address;
};

static const struct named *names;
static pthread_mutex_t names_gate = PTHREAD_MUTEX_INITIALIZER; /* held: names
                                                                * hang */

static atomic_int names_answered;

static inline void
append_answer(struct addrinfo ***end, const struct tws_address *address)
{
    struct addrinfo *made = calloc(1, sizeof(*made));
    struct sockaddr_storage *storage = calloc(1, sizeof(*storage));
    *storage = address->storage;
    made->ai_addr = (struct sockaddr *)storage;
    made->ai_addrlen = address->length;
    made->ai_family = storage->ss_family;
    **end = made;
    *end = &made->ai_next;
}

/* An address in figures; length 0 where it is none. */
static inline struct tws_address
figures(const char *text, uint16_t port)
{
    struct tws_address address = {.length = 0};
    struct sockaddr_in *sin = (struct sockaddr_in *)&address.storage;
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&address.storage;
    if (inet_pton(AF_INET, text, &sin->sin_addr) == 1) {
        sin->sin_family = AF_INET;
        sin->sin_port = htons(port);
        address.length = sizeof(*sin);
    }
    else if (inet_pton(AF_INET6, text, &sin6->sin6_addr) == 1) {
        sin6->sin6_family = AF_INET6;
        sin6->sin6_port = htons(port);
        address.length = sizeof(*sin6);
    }
    return address;
}

int
getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
            struct addrinfo **answers)
{
    struct addrinfo **end = answers;
    uint16_t number = (uint16_t)strtoul(port, NULL, 10);
    bool found = false;
    *answers = NULL;
    if (host == NULL) {
        host = hints->ai_family == AF_INET6 ? "::1" : "127.0.0.1";
    }
    struct tws_address address = figures(host, number);
    if (address.length > 0) {
        if (hints->ai_family != AF_UNSPEC
            && hints->ai_family != address.storage.ss_family) {
            return EAI_ADDRFAMILY;
        }
        append_answer(&end, &address);
        return 0;
    }
    if ((hints->ai_flags & AI_NUMERICHOST) != 0) {
        return EAI_NONAME;
    }
    pthread_mutex_lock(&names_gate);
    for (const struct named *one = names; one->name != NULL; one++) {
        if (strcmp(one->name, host) != 0) {
            continue;
        }
        found = true;
        if (one->address.length > 0) {
            append_answer(&end, &one->address);
        }
    }
    pthread_mutex_unlock(&names_gate);
    names_answered++;
    return found ? 0 : EAI_NONAME;
}

void
freeaddrinfo(struct addrinfo *answers)
{
    while (answers != NULL) {
        struct addrinfo *next = answers->ai_next;
        free(answers->ai_addr);
        free(answers);
        answers = next;
    }
}

/* Until as many look-ups of names have ended: one that was left behind reads
 * the list, too. */
static inline void
await_answered(int count)
{
    while (names_answered < count) {
        usleep(1000);
    }
}

/* --- listeners --- */

/* Where a listener on the loopback interface of that family listens. */
static inline int
listen_at(int family, int backlog, struct tws_address *address)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    *address = figures(family == AF_INET6 ? "::1" : "127.0.0.1", 0);
    struct sockaddr *where = (struct sockaddr *)&address->storage;
    CHECK_INT(bind(fd, where, address->length), 0);
    CHECK_INT(listen(fd, backlog), 0);
    CHECK_INT(getsockname(fd, where, &address->length), 0);
    return fd;
}

/* Where nobody listens. The port stays bound until the program ends, so that
 * no process beside is given it, not even for a connection of its own; as a
 * source address it can be shared. */
static inline struct tws_address
dead_end(int family)
{
    static const int yes = 1;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct tws_address address =
        figures(family == AF_INET6 ? "::1" : "127.0.0.1", 0);
    struct sockaddr *where = (struct sockaddr *)&address.storage;
    CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)), 0);
    CHECK_INT(bind(fd, where, address.length), 0);
    CHECK_INT(getsockname(fd, where, &address.length), 0);
    return address;
}

/* A listener whose queue is full, so that connecting to it hangs. */
struct black_hole {
    struct tws_address address;
    int listener;
    int others[3];
};

static inline void
open_black_hole(struct black_hole *hole, int family)
{
    hole->listener = listen_at(family, 0, &hole->address);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(hole->others); i++) {
        struct tws_error err;
        hole->others[i] = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)tws_socket_connect(hole->others[i], &hole->address, &err);
    }
    usleep(20000);
}

static inline void
close_black_hole(struct black_hole *hole)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(hole->others); i++) {
        close(hole->others[i]);
    }
    close(hole->listener);
}

static inline int
accept_one(int listener)
{
    unsigned ready;
    struct tws_address peer;
    struct tws_error err;
    int fd = -1;
    CHECK_INT(tws_socket_wait(listener, TWS_WAIT_READ,
                              (uint64_t)5000 * 1000000, &ready, &err),
              TWS_OK);
    CHECK_INT(tws_socket_accept(listener, &fd, &peer, &err), TWS_OK);
    return fd;
}

#endif /* TWS_TESTS_NAMES_FIXTURE_H */
