/* A thread of a server, and what it carries from client to client: the buffer
 * it reads into, how far it has got in it, and the frames that leave together
 * when a client's turn ends.
 *
 * One worker at a time is the driver: it waits for the server's descriptors
 * and serves what is ready, calling handlers as it goes. While it is inside a
 * handler the role can be taken from it (engine/pool.h); it then keeps the
 * client it serves until that handler has returned. */
#ifndef TWS_ENGINE_WORKER_H
#define TWS_ENGINE_WORKER_H

#include "protocol/buffer.h"
#include "protocol/ending.h"
#include "protocol/frame_reader.h"

#include <pthread.h>
#include <stdatomic.h>

struct tws_client;
struct tws_receiving;
struct tws_server;
struct tws_watch;

enum { TWS_SCRATCH_SIZE = 128 * 1024 };

/* What is counted without a locked instruction: one thread at a time writes
 * (what is sent to a client, with that client's lock), any may read. */
struct tws_counters {
    _Atomic uint64_t messages_in;
    _Atomic uint64_t messages_out;
    _Atomic uint64_t bytes_in;     /* payloads */
    _Atomic uint64_t bytes_out;    /* payloads */
    _Atomic uint64_t handler_time; /* nanoseconds in handlers that lost the
                                    * role */
};

/* For the thread that may write this counter. */
static inline void
tws_count(_Atomic uint64_t *counter, uint64_t amount)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + amount, memory_order_relaxed);
}

/* Adds to a sum that only the calling thread writes. */
void tws_counters_add(struct tws_counters *sum,
                      const struct tws_counters *counters);

struct tws_worker {
    struct tws_server *server; /* borrowed */
    pthread_t thread;

    /* The thread's own. */
    uint8_t *scratch;                /* owned; TWS_SCRATCH_SIZE bytes */
    struct tws_receiving *receiving; /* owned; lent to `client`, unless that
                                      * has its own */
    struct tws_input cursor;         /* what is not parsed of it */
    struct tws_client *client;       /* being served, or NULL; borrowed */
    unsigned reads;                  /* of this client in this turn */
    unsigned secured;                /* steps of TLS handshakes in this turn */
    bool drained;                    /* the last read emptied the socket */
    bool driving; /* has the role, as far as this thread knows:
                   * false at the latest when the handler in which
                   * it was lost returns */
    bool over;    /* `client` is over, as `ending` tells */
    bool lost;    /* and nothing can be sent to it any more */
    struct tws_ending ending;
    void *token; /* of the exclusion while it is given up */

    /* Of the client being served: guarded by that client's lock. */
    struct tws_buffer out;

    /* Whether it is in a handler, and in which; see engine/pool.h. */
    _Atomic uint64_t handling;
    struct tws_watch *serving; /* what the handler is about; set outside of
                                * handlers, NULL: nothing to keep */

    /* Guarded by the pool's lock. */
    struct tws_worker *next;      /* of all */
    struct tws_worker *next_idle; /* of those that wait for the role */
    pthread_cond_t wake;
    bool idle;

    uint64_t role_lost_at; /* clock; written by whoever takes the role, with
                            * the pool's lock, or by the thread itself while
                            * it does not have the role */

    struct tws_counters counters;
};

/* TWS_NOMEM on failure, *worker stays as it was. */
enum tws_status tws_worker_new(struct tws_server *server,
                               struct tws_worker **worker,
                               struct tws_error *err);
void tws_worker_free(struct tws_worker *worker);

/* Begins with a client: forgets the one before, takes `rest` as read. */
void tws_worker_begin(struct tws_worker *worker, struct tws_client *client,
                      struct tws_input rest);

#endif /* TWS_ENGINE_WORKER_H */
