/* getaddrinfo() is replaced, so that a look-up can take its time and fail. */
#include "net/resolve.h"

#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS ((uint64_t)1000000)

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* held: names hang */
static atomic_int looked_up;                             /* names, done */
static int name_error;                                   /* EAI_*, or 0 */
static int name_errno;
static const char *const *name_answers; /* addresses; ended by NULL */
static sigset_t lookup_mask;            /* of the thread that looks up */

static struct addrinfo *
make_answer(const char *text, const char *port)
{
    struct addrinfo *answer = calloc(1, sizeof(*answer));
    struct sockaddr_in6 *sin6 = calloc(1, sizeof(*sin6));
    struct sockaddr_in *sin = (struct sockaddr_in *)sin6;
    uint16_t number = (uint16_t)strtoul(port, NULL, 10);
    answer->ai_addr = (struct sockaddr *)sin6;
    if (inet_pton(AF_INET, text, &sin->sin_addr) == 1) {
        answer->ai_family = sin->sin_family = AF_INET;
        answer->ai_addrlen = sizeof(*sin);
        sin->sin_port = htons(number);
    }
    else {
        CHECK_INT(inet_pton(AF_INET6, text, &sin6->sin6_addr), 1);
        answer->ai_family = sin6->sin6_family = AF_INET6;
        answer->ai_addrlen = sizeof(*sin6);
        sin6->sin6_port = htons(number);
    }
    return answer;
}

static int
answer_figures(const char *host, const char *port,
               const struct addrinfo *hints, struct addrinfo **answers)
{
    uint8_t address[16];
    int family = strchr(host, ':') != NULL ? AF_INET6 : AF_INET;
    if (inet_pton(family, host, address) != 1) {
        return EAI_NONAME;
    }
    if (hints->ai_family != AF_UNSPEC && hints->ai_family != family) {
        return EAI_ADDRFAMILY;
    }
    *answers = make_answer(host, port);
    return 0;
}

int
getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
            struct addrinfo **answers)
{
    CHECK_INT(hints->ai_socktype, SOCK_STREAM);
    if (host == NULL) {
        host = hints->ai_family == AF_INET6 ? "::1" : "127.0.0.1";
    }
    if ((hints->ai_flags & AI_NUMERICHOST) != 0) {
        return answer_figures(host, port, hints, answers);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &lookup_mask);
    pthread_mutex_lock(&gate);
    int error = name_error;
    if (error == 0) {
        struct addrinfo **end = answers;
        for (const char *const *text = name_answers; *text != NULL; text++) {
            *end = make_answer(*text, port);
            end = &(*end)->ai_next;
        }
    }
    pthread_mutex_unlock(&gate);
    atomic_fetch_add(&looked_up, 1);
    errno = name_errno;
    return error;
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

static struct tws_resolve *
begin(const char *host, uint16_t port, int family)
{
    struct tws_resolve *resolve = NULL;
    struct tws_error err;
    CHECK_INT(tws_resolve_begin(host, port, family, &resolve, &err), TWS_OK);
    return resolve;
}

static void
check_next(struct tws_resolve *resolve, const char *host, uint16_t port)
{
    struct tws_address address = {.length = 0};
    struct tws_error err;
    char text[INET6_ADDRSTRLEN] = "";
    int gai_error = 0;
    CHECK_INT(tws_resolve_next(resolve, &address, &gai_error, &err), TWS_OK);
    const struct sockaddr_in *sin = (struct sockaddr_in *)&address.storage;
    const struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&address.storage;
    bool is_ipv6 = address.storage.ss_family == AF_INET6;
    CHECK(inet_ntop(address.storage.ss_family,
                    is_ipv6 ? (const void *)&sin6->sin6_addr
                            : (const void *)&sin->sin_addr,
                    text, sizeof(text))
          != NULL);
    if (strcmp(text, host) != 0) {
        fprintf(stderr, "address is %s, expected %s\n", text, host);
        harness_failures++;
    }
    CHECK_INT(ntohs(is_ipv6 ? sin6->sin6_port : sin->sin_port), port);
    CHECK_INT(address.length, is_ipv6 ? sizeof(*sin6) : sizeof(*sin));
}

static void
check_end(struct tws_resolve *resolve, enum tws_status expected,
          int expected_gai)
{
    struct tws_address address;
    struct tws_error err;
    int gai_error = 0;
    CHECK_INT(tws_resolve_next(resolve, &address, &gai_error, &err), expected);
    CHECK_INT(gai_error, expected_gai);
}

static void
await(const struct tws_resolve *resolve)
{
    unsigned ready;
    struct tws_error err;
    CHECK_INT(tws_socket_wait(tws_resolve_fd(resolve), TWS_WAIT_READ,
                              5000 * MS, &ready, &err),
              TWS_OK);
}

TEST(addresses_in_figures_need_no_thread)
{
    static const struct {
        const char *host;
        int family;
        const char *expected;
    } cases[] = {
        {"192.0.2.7", AF_INET, "192.0.2.7"},
        {"2001:db8::1", AF_INET6, "2001:db8::1"},
        {"192.0.2.7", AF_UNSPEC, "192.0.2.7"},
        {"", AF_INET, "127.0.0.1"},
        {"", AF_INET6, "::1"},
    };
    int before = atomic_load(&looked_up);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct tws_resolve *resolve =
            begin(cases[i].host, 8000, cases[i].family);
        CHECK_INT(tws_resolve_fd(resolve), -1);
        CHECK_INT(tws_resolve_left(resolve), 1);
        tws_resolve_interrupt(resolve); /* nothing happens */
        check_next(resolve, cases[i].expected, 8000);
        CHECK_INT(tws_resolve_left(resolve), 0);
        check_end(resolve, TWS_EOF, 0);
        check_end(resolve, TWS_EOF, 0);
        tws_resolve_free(resolve);
    }
    CHECK_INT(atomic_load(&looked_up), before);
}

TEST(figures_of_another_family_are_no_name)
{
    struct tws_resolve *resolve = begin("::1", 80, AF_INET);
    CHECK_INT(tws_resolve_fd(resolve), -1);
    check_end(resolve, TWS_REFUSED, EAI_ADDRFAMILY);
    tws_resolve_free(resolve);
}

TEST(names_are_looked_up_in_a_thread)
{
    static const char *const answers[] = {"192.0.2.1", "2001:db8::2",
                                          "192.0.2.3", NULL};
    name_answers = answers;
    pthread_mutex_lock(&gate);
    struct tws_resolve *resolve = begin("example.com", 443, AF_UNSPEC);
    unsigned ready;
    struct tws_error err;
    CHECK(tws_resolve_fd(resolve) >= 0);
    CHECK((fcntl(tws_resolve_fd(resolve), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_INT(tws_socket_wait(tws_resolve_fd(resolve), TWS_WAIT_READ, 20 * MS,
                              &ready, &err),
              TWS_AGAIN);
    check_end(resolve, TWS_AGAIN, 0);
    CHECK_INT(tws_resolve_left(resolve), 0);
    pthread_mutex_unlock(&gate);
    await(resolve);
    check_next(resolve, "192.0.2.1", 443);
    CHECK_INT(tws_resolve_fd(resolve), -1);
    CHECK_INT(tws_resolve_left(resolve), 2);
    check_next(resolve, "2001:db8::2", 443);
    check_next(resolve, "192.0.2.3", 443);
    check_end(resolve, TWS_EOF, 0);
    tws_resolve_free(resolve);
    CHECK_INT(sigismember(&lookup_mask, SIGINT), 1);
    CHECK_INT(sigismember(&lookup_mask, SIGPIPE), 1);
}

/* The child holds the other end of the pipe, so that it never ends. */
TEST(forked_child_does_not_hide_the_result)
{
    static const char *const answers[] = {"192.0.2.1", NULL};
    name_answers = answers;
    pthread_mutex_lock(&gate);
    struct tws_resolve *resolve = begin("example.com", 80, AF_INET);
    pid_t pid = fork();
    if (pid == 0) {
        (void)pause();
        _exit(0);
    }
    pthread_mutex_unlock(&gate);
    await(resolve);
    check_next(resolve, "192.0.2.1", 80);
    tws_resolve_free(resolve);
    CHECK_INT(kill(pid, SIGKILL), 0);
    CHECK_INT(waitpid(pid, NULL, 0), pid);
}

TEST(look_up_may_fail)
{
    name_error = EAI_AGAIN;
    struct tws_resolve *resolve = begin("example.com", 80, AF_INET);
    await(resolve);
    check_end(resolve, TWS_REFUSED, EAI_AGAIN);
    check_end(resolve, TWS_REFUSED, EAI_AGAIN);
    tws_resolve_free(resolve);
    name_error = EAI_SYSTEM;
    name_errno = EMFILE;
    resolve = begin("example.com", 80, AF_INET);
    await(resolve);
    struct tws_address address;
    struct tws_error err;
    int gai_error;
    CHECK_INT(tws_resolve_next(resolve, &address, &gai_error, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EMFILE);
    tws_resolve_free(resolve);
    name_error = EAI_MEMORY;
    resolve = begin("example.com", 80, AF_INET);
    await(resolve);
    check_end(resolve, TWS_NOMEM, 0);
    tws_resolve_free(resolve);
    name_error = 0;
    name_errno = 0;
}

TEST(look_up_is_left_behind)
{
    static const char *const answers[] = {"192.0.2.1", NULL};
    struct tws_resolve *left[3];
    int before = atomic_load(&looked_up);
    name_answers = answers;
    pthread_mutex_lock(&gate);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(left); i++) {
        left[i] = begin("example.com", 80, AF_INET);
    }
    for (size_t i = 0; i < TWS_ARRAY_SIZE(left); i++) {
        tws_resolve_free(left[i]); /* does not wait */
    }
    pthread_mutex_unlock(&gate);
    /* They end by themselves, also without anybody to tell. */
    while (atomic_load(&looked_up) < before + (int)TWS_ARRAY_SIZE(left)) {
        usleep(1000);
    }
    usleep(20000);
    tws_resolve_free(NULL);
}

TEST(interrupt_ends_a_wait)
{
    static const char *const answers[] = {"192.0.2.1", NULL};
    name_answers = answers;
    pthread_mutex_lock(&gate);
    struct tws_resolve *resolve = begin("example.com", 80, AF_INET);
    tws_resolve_interrupt(resolve);
    await(resolve);
    check_end(resolve, TWS_AGAIN, 0);
    pthread_mutex_unlock(&gate);
    while (tws_resolve_fd(resolve) >= 0) {
        struct tws_address address;
        struct tws_error err;
        int gai_error;
        (void)tws_resolve_next(resolve, &address, &gai_error, &err);
    }
    tws_resolve_interrupt(resolve); /* nothing happens any more */
    tws_resolve_free(resolve);
}

TEST(host_has_a_longest_length)
{
    static const char *const answers[] = {"192.0.2.1", NULL};
    char host[TWS_HOST_MAX + 2];
    struct tws_resolve *resolve = NULL;
    struct tws_error err;
    name_answers = answers;
    memset(host, 'a', sizeof(host));
    host[TWS_HOST_MAX + 1] = '\0';
    CHECK_INT(tws_resolve_begin(host, 80, AF_INET, &resolve, &err), TWS_OS);
    CHECK_INT(err.sys_errno, ENAMETOOLONG);
    host[TWS_HOST_MAX] = '\0';
    resolve = begin(host, 80, AF_INET);
    await(resolve);
    check_next(resolve, "192.0.2.1", 80);
    tws_resolve_free(resolve);
}

RUN(T(addresses_in_figures_need_no_thread),
    T(figures_of_another_family_are_no_name),
    T(names_are_looked_up_in_a_thread),
    T(forked_child_does_not_hide_the_result), T(look_up_may_fail),
    T(look_up_is_left_behind), T(interrupt_ends_a_wait),
    T(host_has_a_longest_length))
