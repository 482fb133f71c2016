/* One connection of a server, from its 101 answer to its end: reads and
 * judges what the peer sends, queues and writes what is sent to it.
 *
 * Threads: the driver (the thread that turns the server's loop) alone reads.
 * Any thread may send and close; `lock` keeps whole frames together. No
 * function here calls up while it holds the lock. */
#ifndef TWS_ENGINE_CLIENT_H
#define TWS_ENGINE_CLIENT_H

#include "engine/driver.h"
#include "engine/watch.h"
#include "net/socket.h"
#include "net/transport.h"
#include "protocol/session.h"

#include <pthread.h>
#include <stdatomic.h>

struct tws_server;

enum tws_client_state {
    TWS_CLIENT_OPEN,
    TWS_CLIENT_CLOSING,   /* our Close is queued; waiting for the peer's */
    TWS_CLIENT_LINGERING, /* over for the program; the peer gets what is
                           * queued and time to read it */
    TWS_CLIENT_GONE,      /* no descriptor any more */
};

struct tws_client {
    struct tws_watch watch; /* first: what the poller hands back; driver */
    struct tws_transport transport;
    struct tws_server *server; /* borrowed; outlives its clients' service */
    void *user;                /* the owner's; see struct tws_handlers */

    /* Guarded by the server's lock while the client is in its table. */
    struct tws_client *next;
    struct tws_client *previous;
    struct tws_client *next_todo; /* of those that need a deadline */
    bool linked;                  /* in the table */
    bool in_todo;

    /* The driver's own. */
    bool shut;       /* the peer was told of the end */
    size_t lingered; /* bytes read and thrown away after the end */
    struct tws_frame_reader reader;
    struct tws_assembler assembler;
    struct tws_buffer unread; /* received but not parsed yet, while the send
                               * queue is too long */

    pthread_mutex_t lock; /* of what follows, up to the atomics */
    struct tws_session session;
    struct tws_buffer queue; /* framed bytes not written yet */
    struct tws_driver *cork; /* the driver that serves this client now:
                              * small frames gather in its `out` */
    unsigned interest;       /* events asked of the poller */
    bool write_failed;       /* the next read will tell why */
    bool paused;             /* reading waits for the queue to shrink */
    atomic_bool congested;   /* the queue is above high water */
    _Atomic uint8_t state;   /* enum tws_client_state; written under lock */
    atomic_uint references;
};

/* Takes over the descriptor of `transport`. One reference for the server.
 * NULL where there is no memory. */
struct tws_client *tws_client_new(struct tws_server *server,
                                  const struct tws_transport *transport);
void tws_client_retain(struct tws_client *client);
/* Frees it with the last reference. */
void tws_client_release(struct tws_client *client);

/* What goes out, from any thread. TWS_EOF: the connection is closing or
 * closed, nothing was queued. `payload` is copied or written before the
 * call returns. `fragment` is the most bytes a frame may hold; 0: one
 * frame. */
enum tws_status tws_client_send(struct tws_client *client, uint8_t opcode,
                                struct tws_span payload, size_t fragment,
                                struct tws_error *err);
/* The same for frames that are packed already. */
enum tws_status tws_client_send_packed(struct tws_client *client,
                                       struct tws_span frames,
                                       struct tws_error *err);
/* Begins the closing handshake; TWS_EOF where it began before. */
enum tws_status tws_client_close(struct tws_client *client, uint16_t code,
                                 struct tws_span reason,
                                 struct tws_error *err);
/* Ends the connection at once, without a closing handshake. Any thread. */
void tws_client_break_off(struct tws_client *client);
/* Bytes accepted for sending that the kernel has not taken yet. */
size_t tws_client_queued(struct tws_client *client);

/* Driver only. The next event that concerns the program; answers pings and
 * the peer's Close. TWS_AGAIN: nothing more for now. TWS_EOF: the connection
 * is over, driver->ending tells how. */
enum tws_status tws_client_next(struct tws_driver *driver,
                                struct tws_client *client,
                                struct tws_event *event);
/* Driver only. Between cork and uncork the driver serves this client: small
 * frames gather in driver->out. `rest` is what was read of it before. */
void tws_client_cork(struct tws_driver *driver, struct tws_client *client,
                     struct tws_input rest);
void tws_client_flush(struct tws_client *client);
/* Driver only: stop reading from it until its queue is shorter; or go on. */
void tws_client_pause(struct tws_client *client, bool paused);
void tws_client_uncork(struct tws_driver *driver, struct tws_client *client);

#endif /* TWS_ENGINE_CLIENT_H */
