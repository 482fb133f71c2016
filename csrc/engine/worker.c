#include "engine/worker.h"

#include "engine/receiving.h"
#include "loop/condition.h"

#include <stdlib.h>
enum tws_status
tws_worker_new(struct tws_server *server, struct tws_worker **result,
               struct tws_error *err)
{
    enum tws_status status;
    struct tws_worker *worker = calloc(1, sizeof(*worker));
    if (worker == NULL) {
        return tws_error_nomem(err);
    }
    worker->scratch = malloc(TWS_SCRATCH_SIZE);
    worker->receiving = malloc(sizeof(*worker->receiving));
    if (worker->scratch == NULL || worker->receiving == NULL) {
        status = tws_error_nomem(err);
        goto fail;
    }
    status = tws_condition_init(&worker->wake, err);
    if (status != TWS_OK) {
        goto fail;
    }
    worker->server = server;
    worker->thread = pthread_self();
    *result = worker;
    return TWS_OK;

fail:
    free(worker->receiving);
    free(worker->scratch);
    free(worker);
    return status;
}

void
tws_worker_free(struct tws_worker *worker)
{
    if (worker == NULL) {
        return;
    }
    pthread_cond_destroy(&worker->wake);
    tws_buffer_release(&worker->out);
    free(worker->receiving);
    free(worker->scratch);
    free(worker);
}

void
tws_worker_begin(struct tws_worker *worker, struct tws_client *client,
                 struct tws_input rest)
{
    worker->client = client;
    worker->reads = 0;
    worker->drained = false;
    worker->cursor = rest;
    worker->over = false;
    worker->lost = false;
}

static void
add(_Atomic uint64_t *sum, const _Atomic uint64_t *counter)
{
    tws_count(sum, atomic_load_explicit(counter, memory_order_relaxed));
}

void
tws_counters_add(struct tws_counters *sum, const struct tws_counters *counters)
{
    add(&sum->messages_in, &counters->messages_in);
    add(&sum->messages_out, &counters->messages_out);
    add(&sum->bytes_in, &counters->bytes_in);
    add(&sum->bytes_out, &counters->bytes_out);
    add(&sum->handler_time, &counters->handler_time);
}
