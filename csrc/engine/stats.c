#include "engine/server_parts.h"

void
tws_server_count_sent(struct tws_server *server, unsigned messages,
                      size_t bytes)
{
    atomic_fetch_add_explicit(&server->messages_out, messages,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&server->bytes_out, bytes, memory_order_relaxed);
}

void
tws_server_count_slow(struct tws_server *server)
{
    atomic_fetch_add_explicit(&server->slow_dropped, 1, memory_order_relaxed);
}

void
tws_server_stats(struct tws_server *server, struct tws_stats *stats)
{
    struct tws_pool *pool = &server->pool;
    struct tws_counters sum = {0};
    pthread_mutex_lock(&pool->lock);
    tws_counters_add(&sum, &pool->retired);
    for (const struct tws_worker *worker = pool->workers; worker != NULL;
         worker = worker->next) {
        tws_counters_add(&sum, &worker->counters);
    }
    *stats = (struct tws_stats){
        .handler_time = pool->sampled_time + sum.handler_time,
        .handovers = pool->handovers,
        .threads = pool->threads - pool->starting,
    };
    pthread_mutex_unlock(&pool->lock);
    stats->messages_in = sum.messages_in;
    stats->bytes_in = sum.bytes_in;
    stats->messages_out = sum.messages_out + server->messages_out;
    stats->bytes_out = sum.bytes_out + server->bytes_out;
    stats->accepted = server->accepted;
    stats->refused = server->refused;
    stats->slow_dropped = server->slow_dropped;
    stats->clients = tws_server_count(server);
}
