/* What an idle connection of a server costs in memory. OpenSSL's allocations
 * are counted, so that it shows under a sanitizer, too. */
#include "tls_fixture.h"

#include <openssl/crypto.h>
#include <stdatomic.h>

enum { CONNECTIONS = 50 };

static atomic_llong live; /* bytes */

/* Each block has its size in front. */
union block {
    size_t size;
    max_align_t aligned;
};

static void *
counted_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    union block *block = malloc(sizeof(*block) + size);
    if (block == NULL) {
        return NULL;
    }
    block->size = size;
    live += (long long)size;
    return block + 1;
}

static void
counted_free(void *pointer, const char *file, int line)
{
    (void)file;
    (void)line;
    if (pointer != NULL) {
        union block *block = (union block *)pointer - 1;
        live -= (long long)block->size;
        free(block);
    }
}

static void *
counted_realloc(void *pointer, size_t size, const char *file, int line)
{
    void *made = NULL;
    if (size > 0) {
        made = counted_malloc(size, file, line);
        if (made == NULL) {
            return NULL;
        }
    }
    if (pointer != NULL && made != NULL) {
        size_t old = ((union block *)pointer - 1)->size;
        memcpy(made, pointer, old < size ? old : size);
    }
    counted_free(pointer, file, line);
    return made;
}

/* Of each, with what is not OpenSSL's. */
static long long
measure(int version, bool talks)
{
    static struct tls_end idle[CONNECTIONS];
    struct tws_tls_context *client = client_context();
    struct tws_tls_context *server = server_context_of(server_file);
    struct tls_pair pair;
    limit_version(client, version);
    /* What OpenSSL makes once is there before. */
    open_pair(&pair, client, server, "a.test", NULL);
    shake_well(&pair);
    check_echo(&pair);
    close_pair(&pair);
    long long before = live;
    for (int i = 0; i < CONNECTIONS; i++) {
        open_pair(&pair, client, server, "a.test", NULL);
        if (talks) {
            shake_well(&pair);
            check_echo(&pair);
        }
        CHECK(pair.server.transport.tls->out.memory == NULL);
        CHECK((pair.client.transport.tls->host == NULL) == talks);
        idle[i] = pair.server;
        close_end(&pair.client);
    }
    long long each =
        (live - before) / CONNECTIONS + (long long)sizeof(struct tws_tls);
    for (int i = 0; i < CONNECTIONS; i++) {
        close_end(&idle[i]);
    }
    CHECK(live <= before + 1024); /* nothing stays */
    tws_tls_context_release(client);
    tws_tls_context_release(server);
    return each;
}

/* Some 14 KiB, of which OpenSSL's own structs are 13: read and write buffers
 * would be 33 more. */
TEST(an_idle_connection_is_small)
{
    MUST(
        CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free)
        == 1);
    fixture_begin();
    long long first = measure(TLS1_2_VERSION, true);
    long long second = measure(TLS1_3_VERSION, true);
    if (first > 20000 || second > 20000) {
        fprintf(stderr, "TLS 1.2: %lld bytes, TLS 1.3: %lld\n", first, second);
        CHECK(false);
    }
}

TEST(one_that_says_nothing_is_small)
{
    CHECK(measure(TLS1_3_VERSION, false) < 20000);
}

RUN(T(an_idle_connection_is_small), T(one_that_says_nothing_is_small))
