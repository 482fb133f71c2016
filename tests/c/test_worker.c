/* What a thread of a server carries with it: made, begun with one client after
 * the other, counted, and let go. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Memory that runs out on demand. */
static int allocations_left = -1; /* -1: all succeed */

static void *
scarce_malloc(size_t size)
{
    if (allocations_left == 0) {
        return NULL;
    }
    if (allocations_left > 0) {
        allocations_left--;
    }
    return malloc(size);
}

static void *
scarce_calloc(size_t count, size_t size)
{
    void *memory = scarce_malloc(count * size);
    if (memory != NULL) {
        memset(memory, 0, count * size);
    }
    return memory;
}

#define malloc scarce_malloc
#define calloc scarce_calloc
#include "../../csrc/engine/worker.c"
#undef malloc
#undef calloc

#include "harness.h"

/* Only its address is looked at. */
static char server_memory;
static struct tws_server *const server = (void *)&server_memory;

static struct tws_worker *
new_worker(void)
{
    struct tws_worker *worker = NULL;
    struct tws_error err;
    CHECK_INT(tws_worker_new(server, &worker, &err), TWS_OK);
    if (worker == NULL) {
        abort();
    }
    return worker;
}

TEST(it_begins_with_scratch_and_nothing_else)
{
    struct tws_worker *worker = new_worker();
    CHECK(worker->server == server);
    CHECK(pthread_equal(worker->thread, pthread_self()));
    CHECK(worker->scratch != NULL);
    memset(worker->scratch, 0, TWS_SCRATCH_SIZE); /* all of it is there */
    CHECK_INT(worker->cursor.length, 0);
    CHECK(worker->out.memory == NULL);
    CHECK(worker->client == NULL);
    CHECK(worker->serving == NULL);
    CHECK_INT(worker->handling, 0);
    CHECK(!worker->driving && !worker->idle && !worker->over);
    CHECK_INT(pthread_cond_signal(&worker->wake), 0);
    tws_worker_free(worker);
}

TEST(nothing_stays_behind)
{
    struct tws_worker *worker = new_worker();
    CHECK_INT(tws_buffer_append(&worker->out, "frames", 6), TWS_OK);
    tws_worker_free(worker); /* the sanitizer looks for what is left */
    tws_worker_free(NULL);
}

TEST(without_memory_there_is_none)
{
    struct tws_worker *worker = NULL;
    struct tws_error err;
    for (int i = 0; i < 3; i++) {
        allocations_left = i;
        CHECK_INT(tws_worker_new(server, &worker, &err), TWS_NOMEM);
        CHECK_INT(err.status, TWS_NOMEM);
        CHECK(worker == NULL);
    }
    allocations_left = 3;
    CHECK_INT(tws_worker_new(server, &worker, &err), TWS_OK);
    allocations_left = -1;
    tws_worker_free(worker);
}

TEST(it_forgets_one_client_for_the_next)
{
    uint8_t bytes[] = "what was read before";
    char first;
    char second;
    struct tws_worker *worker = new_worker();
    struct tws_client *clients[] = {(void *)&first, (void *)&second};
    for (size_t i = 0; i < 2; i++) {
        struct tws_input rest = {.data = bytes, .length = 5 + i};
        tws_worker_begin(worker, clients[i], rest);
        CHECK(worker->client == clients[i]);
        CHECK(worker->cursor.data == bytes);
        CHECK_INT(worker->cursor.length, 5 + i);
        CHECK_INT(worker->reads, 0);
        CHECK(!worker->drained && !worker->over && !worker->lost);
        worker->reads = 7;
        worker->drained = worker->over = worker->lost = true;
    }
    tws_worker_free(worker);
}

TEST(counters_are_summed_each_by_itself)
{
    struct tws_counters sum = {.messages_in = 1,
                               .messages_out = 2,
                               .bytes_in = 3,
                               .bytes_out = 4,
                               .handler_time = 5};
    struct tws_counters more = {.messages_in = 10,
                                .messages_out = 200,
                                .bytes_in = 3000,
                                .bytes_out = UINT64_C(1) << 40,
                                .handler_time = 50000};
    tws_counters_add(&sum, &more);
    tws_counters_add(&sum, &(struct tws_counters){0});
    CHECK_INT(sum.messages_in, 11);
    CHECK_INT(sum.messages_out, 202);
    CHECK_INT(sum.bytes_in, 3003);
    CHECK_INT(sum.bytes_out, 4 + (INT64_C(1) << 40));
    CHECK_INT(sum.handler_time, 50005);
    CHECK_INT(more.messages_in, 10);
    tws_count(&sum.messages_in, 9);
    CHECK_INT(sum.messages_in, 20);
}

RUN(T(it_begins_with_scratch_and_nothing_else), T(nothing_stays_behind),
    T(without_memory_there_is_none), T(it_forgets_one_client_for_the_next),
    T(counters_are_summed_each_by_itself))
