/* server.stats() */
#include "python/server_type.h"

const char tws_server_stats_doc[] =
    "stats($self, /)\n"
    "--\n"
    "\n"
    "What the server has done since it was started, as a dict:\n"
    "\n"
    "clients: open now. threads: that serve now. accepted: handshakes that "
    "made a\n"
    "client. refused: handshakes refused or broken off. messages_in,\n"
    "messages_out, bytes_in, bytes_out: text and binary messages, bytes of\n"
    "payload. handler_time: seconds spent in handlers; of quick ones an "
    "estimate\n"
    "from samples. handovers: how often a slow handler had another thread go "
    "on.\n"
    "slow_dropped: clients ended as they did not read what they were sent.\n"
    "\n"
    "Counting costs next to nothing and is always on. Any thread may call.";

static void
add(struct tws_stats *sum, const struct tws_stats *stats)
{
    sum->clients += stats->clients;
    sum->accepted += stats->accepted;
    sum->refused += stats->refused;
    sum->messages_in += stats->messages_in;
    sum->messages_out += stats->messages_out;
    sum->bytes_in += stats->bytes_in;
    sum->bytes_out += stats->bytes_out;
    sum->handler_time += stats->handler_time;
    sum->handovers += stats->handovers;
    sum->slow_dropped += stats->slow_dropped;
    sum->threads += stats->threads;
}

PyObject *
tws_server_stats_object(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    ServerObject *server = (ServerObject *)self;
    struct tws_stats stats = {.clients = 0};
    for (unsigned i = 0; i < server->loop_count; i++) {
        struct tws_stats more;
        tws_server_stats(server->loops[i].core, &more);
        add(&stats, &more);
    }
    return Py_BuildValue("{s:n,s:I,s:K,s:K,s:K,s:K,s:K,s:K,s:d,s:K,s:K}",
                         "clients", (Py_ssize_t)stats.clients, "threads",
                         stats.threads, "accepted",
                         (unsigned long long)stats.accepted, "refused",
                         (unsigned long long)stats.refused, "messages_in",
                         (unsigned long long)stats.messages_in, "messages_out",
                         (unsigned long long)stats.messages_out, "bytes_in",
                         (unsigned long long)stats.bytes_in, "bytes_out",
                         (unsigned long long)stats.bytes_out, "handler_time",
                         (double)stats.handler_time * 1e-9, "handovers",
                         (unsigned long long)stats.handovers, "slow_dropped",
                         (unsigned long long)stats.slow_dropped);
}
