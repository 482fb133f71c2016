#include "engine/server_parts.h"

#include <unistd.h>

enum { ACCEPTS_A_TURN = 64 }; /* then the clients have their turn */

/* How long accepting pauses where descriptors or memory ran out. */
#define ACCEPT_PAUSE ((uint64_t)100 * 1000 * 1000)

static void
pause_accepting(struct tws_server *server, const struct tws_error *why)
{
    if (tws_timers_set(&server->timers, &server->watch.timer,
                       tws_deadline_in(ACCEPT_PAUSE))
        != TWS_OK) {
        return; /* then the listener simply stays watched */
    }
    tws_accepting_stop(server);
    server->handlers.accept_paused(server->handlers.context, why);
}

void
tws_accepting_ready(struct tws_server *server)
{
    if (!server->accepting) {
        return;
    }
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd;
        struct tws_address peer;
        struct tws_error err;
        enum tws_status status =
            tws_socket_accept(server->listener, &fd, &peer, &err);
        if (status == TWS_OK && server->handlers.replace != NULL) {
            fd = server->handlers.replace(server->handlers.context, fd);
            if (fd < 0) {
                continue;
            }
        }
        if (status == TWS_OK) {
            status = tws_handshake_begin(server, fd, &peer, &err);
        }
        if (status == TWS_AGAIN) {
            return;
        }
        if (status != TWS_OK) {
            pause_accepting(server, &err);
            return;
        }
    }
}

enum tws_status
tws_accepting_start(struct tws_server *server, struct tws_error *err)
{
    enum tws_status status = tws_poller_add(server->poller, server->listener,
                                            TWS_READABLE, &server->watch, err);
    server->accepting = status == TWS_OK;
    return status;
}

void
tws_accepting_stop(struct tws_server *server)
{
    struct tws_error ignored;
    if (server->accepting) {
        (void)tws_poller_remove(server->poller, server->listener, &ignored);
        server->accepting = false;
    }
}

void
tws_accepting_resume(struct tws_server *server)
{
    struct tws_error err;
    if (tws_accepting_start(server, &err) != TWS_OK) {
        pause_accepting(server, &err);
    }
}

bool
tws_accepting_has_place(struct tws_server *server)
{
    return atomic_load_explicit(server->places, memory_order_relaxed)
           < server->options.max_clients;
}

bool
tws_accepting_take_place(struct tws_server *server)
{
    size_t taken = atomic_load_explicit(server->places, memory_order_relaxed);
    do {
        if (taken >= server->options.max_clients) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(
        server->places, &taken, taken + 1, memory_order_relaxed,
        memory_order_relaxed));
    return true;
}

void
tws_accepting_free_place(struct tws_server *server)
{
    atomic_fetch_sub_explicit(server->places, 1, memory_order_relaxed);
}
