/* Tests of the engine over TLS: the raw clients stay as they are, as a thread
 * for each encrypts what it says and decrypts what it hears. */
#ifndef TWS_TESTS_ENGINE_TLS_H
#define TWS_TESTS_ENGINE_TLS_H

#include "certificates.h"
#include "engine_fixture.h"

#include "net/tls.h"

static struct tws_tls_context *engine_server_tls;
static struct tws_tls_context *engine_client_tls;
static atomic_int crypts; /* threads that run */

struct crypt {
    int plain; /* the raw client's other end */
    struct tws_transport tls;
};

/* What one direction has in hand. */
struct carried {
    uint8_t bytes[16384];
    size_t first;
    size_t last;
    bool ended; /* its source has */
    bool told;  /* and its destination knows */
};

static inline void
end_crypts(void)
{
    tws_tls_context_release(engine_server_tls);
    tws_tls_context_release(engine_client_tls);
}

static inline struct tws_tls_context *
engine_context(const struct tws_tls_options *options)
{
    struct tws_tls_context *context = NULL;
    struct tws_error err;
    if (tws_tls_context_new(options, NULL, &context, &err) != TWS_OK) {
        fprintf(stderr, "no context: %s\n", err.reason);
        exit(1);
    }
    return context;
}

/* Once for all tests. */
static inline void
prepare_tls(void)
{
    if (engine_server_tls != NULL) {
        return;
    }
    certificates_begin();
    const struct tws_tls_identity identity = {
        .certfile =
            certificate_file(&(struct recipe){.common_name = "localhost",
                                              .names = "DNS:localhost"},
                             &authority)};
    engine_server_tls = engine_context(&(struct tws_tls_options){
        .role = TWS_SERVER, .identities = &identity, .identity_count = 1});
    engine_client_tls =
        engine_context(&(struct tws_tls_options){.role = TWS_CLIENT});
    atexit(end_crypts);
}

/* From the raw client to the server. False: the connection is broken. */
static inline bool
carry_up(struct crypt *crypt, struct carried *up)
{
    struct tws_error err;
    if (up->first == up->last && !up->ended) {
        ssize_t n =
            recv(crypt->plain, up->bytes, sizeof(up->bytes), MSG_DONTWAIT);
        up->ended = n == 0 || (n < 0 && errno != EAGAIN);
        up->first = 0;
        up->last = n > 0 ? (size_t)n : 0;
    }
    while (up->first < up->last) {
        size_t written;
        enum tws_status status =
            tws_write(&crypt->tls, up->bytes + up->first, up->last - up->first,
                      &written, &err);
        if (status != TWS_OK) {
            return status == TWS_AGAIN;
        }
        up->first += written;
    }
    if (up->ended && !up->told) {
        up->told = true;
        crypt->tls.ops->end_writing(&crypt->tls);
    }
    return true;
}

static inline bool
carry_down(struct crypt *crypt, struct carried *down)
{
    struct tws_error err;
    if (down->first == down->last && !down->ended) {
        size_t got = 0;
        enum tws_status status = tws_read(&crypt->tls, down->bytes,
                                          sizeof(down->bytes), &got, &err);
        if (status != TWS_OK && status != TWS_AGAIN && status != TWS_EOF) {
            return false;
        }
        down->ended = status == TWS_EOF;
        down->first = 0;
        down->last = status == TWS_OK ? got : 0;
    }
    while (down->first < down->last) {
        ssize_t n =
            send(crypt->plain, down->bytes + down->first,
                 down->last - down->first, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            return errno == EAGAIN;
        }
        down->first += (size_t)n;
    }
    if (down->ended && !down->told) {
        down->told = true;
        (void)shutdown(crypt->plain, SHUT_WR);
    }
    return true;
}

/* The raw client has closed its descriptor: it hears nothing any more. */
static inline bool
is_gone(const struct crypt *crypt)
{
    struct pollfd entry = {.fd = crypt->plain};
    return poll(&entry, 1, 0) == 1 && (entry.revents & POLLHUP) != 0;
}

/* Waits until something can go on, or the time is over. */
static inline bool
await_either(struct crypt *crypt, const struct carried *up,
             const struct carried *down)
{
    bool asks = up->first == up->last && !up->ended;
    bool hears = down->first == down->last && !down->ended;
    struct pollfd entries[2] = {
        {.fd = crypt->plain,
         .events = (short)((asks ? POLLIN : 0)
                           | (down->first < down->last ? POLLOUT : 0))},
        {.fd = crypt->tls.fd,
         .events = (short)((hears ? POLLIN : 0)
                           | (up->first < up->last ? POLLOUT : 0))},
    };
    if (hears && tws_pending(&crypt->tls)) {
        return true;
    }
    if (up->first < up->last) {
        entries[0].fd = -1; /* else its hang-up would wake us in vain */
    }
    if (entries[1].events == 0) {
        entries[1].fd = -1;
    }
    return poll(entries, 2, PATIENCE_SECONDS * 1000) > 0;
}

static inline bool
shake_hands(struct crypt *crypt)
{
    struct tws_error err;
    unsigned events = 0;
    enum tws_status status = tws_secure(&crypt->tls, &events, &err);
    while (status == TWS_AGAIN && !is_gone(crypt)) {
        struct pollfd entries[2] = {
            {.fd = crypt->tls.fd,
             .events = events == TWS_WAIT_WRITE ? POLLOUT : POLLIN},
            {.fd = crypt->plain},
        };
        if (poll(entries, 2, PATIENCE_SECONDS * 1000) <= 0) {
            return false;
        }
        status = tws_secure(&crypt->tls, &events, &err);
    }
    return status == TWS_OK;
}

static inline void *
crypt_main(void *argument)
{
    struct crypt *crypt = argument;
    struct carried *up = calloc(1, sizeof(*up));
    struct carried *down = calloc(1, sizeof(*down));
    must(up != NULL && down != NULL, "calloc");
    if (shake_hands(crypt)) {
        while (carry_up(crypt, up) && carry_down(crypt, down)
               && !(up->told && (down->told || is_gone(crypt)))
               && await_either(crypt, up, down)) {
        }
    }
    int fd = crypt->tls.fd;
    tws_transport_release(&crypt->tls);
    close(fd);
    close(crypt->plain);
    free(up);
    free(down);
    free(crypt);
    crypts--;
    return NULL;
}

/* fixture->wrap: `fd` is connected; what is returned is its stand-in. */
static inline int
encrypt(const struct fixture *fixture, int fd)
{
    struct timeval limit = {.tv_sec = PATIENCE_SECONDS};
    struct tws_error err;
    int ends[2];
    pthread_t thread;
    struct crypt *crypt = calloc(1, sizeof(*crypt));
    (void)fixture;
    must(crypt != NULL, "calloc");
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0,
         "socketpair");
    (void)setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    (void)setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    must(tws_socket_prepare(fd, &err) == TWS_OK, "tws_socket_prepare");
    tws_transport_plain(&crypt->tls, fd);
    crypt->plain = ends[1];
    must(tws_tls_start(&crypt->tls, engine_client_tls, "localhost", NULL, &err)
             == TWS_OK,
         "tws_tls_start");
    crypts++;
    must(pthread_create(&thread, NULL, crypt_main, crypt) == 0,
         "pthread_create");
    pthread_detach(thread);
    return ends[0];
}

/* After fixture_make(), before it runs. */
static inline void
fixture_encrypt(struct fixture *fixture)
{
    tws_server_set_tls(fixture->server, engine_server_tls);
    fixture->wrap = encrypt;
}

/* Before fixture_end(): its peers' threads have closed what they had. */
static inline void
await_crypts(void)
{
    EVENTUALLY(crypts == 0);
}

#endif /* TWS_TESTS_ENGINE_TLS_H */
