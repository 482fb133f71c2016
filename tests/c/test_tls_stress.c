/* Much data in pieces of any size, through sockets that take little, by one
 * thread that reads and another that writes on each end. */
#include "tls_fixture.h"

#include <openssl/err.h>
#include <pthread.h>

enum { TOTAL = 4 << 20 };

/* Numbers that look random, and are the same each time. */
static uint32_t
next(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static uint8_t pattern[TOTAL];

/* Sizes of all magnitudes up to `largest`. */
static size_t
some_size(uint32_t *state, size_t largest)
{
    uint32_t bits = next(state) % 18;
    size_t size = 1 + next(state) % (1U << bits);
    return size < largest ? size : largest;
}

struct task {
    struct tls_end *end;
    size_t total;
    size_t largest; /* piece */
    uint32_t seed;
    bool failed;
};

/* Up to four parts of what is left, some of them empty. */
static int
cut_parts(struct task *task, size_t done, struct iovec parts[static 4])
{
    size_t left = task->total - done;
    int count = (int)(1 + next(&task->seed) % 4);
    for (int i = 0; i < count; i++) {
        size_t size = some_size(&task->seed, task->largest);
        size = size < left ? size : left;
        if (i > 0 && next(&task->seed) % 8 == 0) {
            size = 0;
        }
        parts[i] = (struct iovec){.iov_base = pattern + done, .iov_len = size};
        done += size;
        left -= size;
    }
    return count;
}

static void *
write_pieces(void *argument)
{
    struct task *task = argument;
    size_t done = 0;
    struct tws_error err;
    while (done < task->total) {
        struct iovec parts[4];
        size_t size = 0;
        size_t written = 0;
        int count = cut_parts(task, done, parts);
        for (int i = 0; i < count; i++) {
            size += parts[i].iov_len;
        }
        enum tws_status status =
            tws_writev(&task->end->transport, parts, count, &written, &err);
        if (status == TWS_AGAIN) {
            wait_for(task->end->transport.fd, POLLOUT);
            continue;
        }
        if (status != TWS_OK || written == 0 || written > size) {
            fprintf(stderr, "write: %d %s\n", status, err.reason);
            task->failed = true;
            return NULL;
        }
        done += written;
    }
    return NULL;
}

static void *
read_pieces(void *argument)
{
    static _Thread_local uint8_t data[1 << 17];
    struct task *task = argument;
    size_t done = 0;
    struct tws_error err;
    while (done < task->total) {
        size_t room = some_size(&task->seed, task->largest);
        size_t got = 0;
        enum tws_status status =
            tws_read(&task->end->transport, data, room, &got, &err);
        if (status == TWS_AGAIN) {
            if (!tws_pending(&task->end->transport)) {
                wait_for(task->end->transport.fd, POLLIN);
            }
            continue;
        }
        if (status != TWS_OK || got == 0 || got > room
            || got > task->total - done
            || memcmp(data, pattern + done, got) != 0) {
            fprintf(stderr, "read after %zu: %d %s\n", done, status,
                    err.reason);
            task->failed = true;
            shutdown(task->end->transport.fd, SHUT_RDWR);
            return NULL;
        }
        done += got;
        /* What came back short has left nothing behind. After the last of it
         * the peer may have ended, and what it was told since, as that keys
         * have changed, is in the way of writing for good. */
        if (got < room && done < task->total
            && !tws_pending(&task->end->transport)) {
            wait_for(task->end->transport.fd, POLLIN | POLLOUT);
        }
    }
    return NULL;
}

static void
shrink_buffers(struct tls_pair *pair)
{
    int size = 1; /* the kernel's least */
    int fds[] = {pair->client.transport.fd, pair->server.transport.fd};
    for (int i = 0; i < 2; i++) {
        MUST(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size))
             == 0);
        MUST(setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size))
             == 0);
    }
}

/* Both directions at the same time, four threads. */
static void
exchange(struct tls_pair *pair, size_t total, size_t largest, uint32_t seed)
{
    struct task tasks[4] = {
        {.end = &pair->client, .seed = seed * 4 + 1},
        {.end = &pair->server, .seed = seed * 4 + 2},
        {.end = &pair->server, .seed = seed * 4 + 3},
        {.end = &pair->client, .seed = seed * 4 + 4},
    };
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        tasks[i].total = total;
        tasks[i].largest = largest;
        MUST(pthread_create(&threads[i], NULL,
                            i % 2 == 0 ? write_pieces : read_pieces, &tasks[i])
             == 0);
    }
    for (int i = 0; i < 4; i++) {
        MUST(pthread_join(threads[i], NULL) == 0);
        CHECK(!tasks[i].failed);
    }
}

static void
begin(void)
{
    if (server_file == NULL) {
        uint32_t state = 12345;
        fixture_begin();
        for (size_t i = 0; i < sizeof(pattern); i++) {
            pattern[i] = (uint8_t)(next(&state) >> 11);
        }
    }
}

static void
check_exchange(int version, int layers, bool small, size_t total,
               size_t largest, uint32_t seed)
{
    struct tls_pair pair;
    begin();
    struct tws_tls_context *client = client_context();
    struct tws_tls_context *server = server_context_of(server_file);
    limit_version(client, version);
    open_pair(&pair, client, server, "a.test", NULL);
    shake_well(&pair);
    for (int i = 1; i < layers; i++) {
        struct tws_error err;
        MUST(
            tws_tls_start(&pair.client.transport, client, "a.test", NULL, &err)
            == TWS_OK);
        MUST(tws_tls_start(&pair.server.transport, server, NULL, NULL, &err)
             == TWS_OK);
        pair.client.status = pair.server.status = TWS_AGAIN;
        shake_well(&pair);
    }
    if (small) {
        shrink_buffers(&pair);
    }
    exchange(&pair, total, largest, seed);
    CHECK(!pair.client.transport.tls->owed);
    CHECK(!pair.server.transport.tls->owed);
    CHECK(pair.client.transport.tls->out.memory == NULL);
    close_pair(&pair);
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

TEST(pieces_of_any_size)
{
    check_exchange(TLS1_3_VERSION, 1, false, TOTAL, 1 << 17, 1);
    check_exchange(TLS1_2_VERSION, 1, false, TOTAL, 1 << 17, 2);
}

TEST(pieces_of_any_size_through_small_sockets)
{
    check_exchange(TLS1_3_VERSION, 1, true, TOTAL, 1 << 17, 3);
    check_exchange(TLS1_2_VERSION, 1, true, TOTAL, 1 << 17, 4);
}

TEST(single_bytes)
{
    check_exchange(TLS1_3_VERSION, 1, true, 20000, 1, 5);
    check_exchange(TLS1_2_VERSION, 1, false, 20000, 1, 6);
    check_exchange(TLS1_3_VERSION, 1, true, 50000, 3, 7);
}

TEST(tls_within_tls)
{
    check_exchange(TLS1_3_VERSION, 2, false, TOTAL / 2, 1 << 17, 8);
    check_exchange(TLS1_3_VERSION, 2, true, TOTAL / 4, 1 << 17, 9);
    check_exchange(TLS1_2_VERSION, 2, true, 20000, 3, 10);
}

/* Keys change while both directions are busy. */
static void *
update_keys(void *argument)
{
    struct tws_tls *tls = argument;
    for (int i = 0; i < 40; i++) {
        pthread_mutex_lock(&tls->lock);
        ERR_clear_error();
        if (SSL_is_init_finished(tls->ssl) == 1) {
            (void)SSL_key_update(tls->ssl, i % 2 == 0
                                               ? SSL_KEY_UPDATE_REQUESTED
                                               : SSL_KEY_UPDATE_NOT_REQUESTED);
        }
        ERR_clear_error();
        pthread_mutex_unlock(&tls->lock);
        sched_yield();
    }
    return NULL;
}

TEST(keys_change_on_the_way)
{
    struct tls_pair pair;
    pthread_t threads[2];
    begin();
    struct tws_tls_context *client = client_context();
    struct tws_tls_context *server = server_context_of(server_file);
    open_pair(&pair, client, server, "a.test", NULL);
    shake_well(&pair);
    shrink_buffers(&pair);
    struct tls_end *ends[] = {&pair.client, &pair.server};
    for (int i = 0; i < 2; i++) {
        MUST(pthread_create(&threads[i], NULL, update_keys,
                            ends[i]->transport.tls)
             == 0);
    }
    exchange(&pair, TOTAL / 4, 1 << 15, 11);
    for (int i = 0; i < 2; i++) {
        MUST(pthread_join(threads[i], NULL) == 0);
    }
    close_pair(&pair);
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

/* Many threads connect with the same context, and share its sessions. */
struct caller {
    struct tws_tls_context *client;
    struct tws_tls_context *server;
    int resumed;
};

static void *
connect_often(void *argument)
{
    struct caller *caller = argument;
    for (int i = 0; i < 15; i++) {
        struct tls_pair pair;
        char peer[24];
        (void)snprintf(peer, sizeof(peer), "a.test:%d", i % 3);
        open_pair(&pair, caller->client, caller->server, "a.test", peer);
        shake_well(&pair);
        check_echo(&pair);
        caller->resumed += info_of(&pair.client).resumed;
        close_pair(&pair);
    }
    return NULL;
}

TEST(threads_share_contexts)
{
    pthread_t threads[4];
    struct caller callers[4];
    int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (int v = 0; v < 2; v++) {
        int resumed = 0;
        begin();
        struct tws_tls_context *client = client_context();
        struct tws_tls_context *server = server_context_of(server_file);
        limit_version(client, versions[v]);
        for (int i = 0; i < 4; i++) {
            callers[i] = (struct caller){.client = client, .server = server};
            MUST(pthread_create(&threads[i], NULL, connect_often, &callers[i])
                 == 0);
        }
        for (int i = 0; i < 4; i++) {
            MUST(pthread_join(threads[i], NULL) == 0);
            resumed += callers[i].resumed;
        }
        CHECK(resumed > 0);
        CHECK_INT(client->references, 1);
        CHECK_INT(server->references, 1);
        tws_tls_context_release(client);
        tws_tls_context_release(server);
    }
}

RUN(T(pieces_of_any_size), T(pieces_of_any_size_through_small_sockets),
    T(single_bytes), T(tls_within_tls), T(keys_change_on_the_way),
    T(threads_share_contexts))
