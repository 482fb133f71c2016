/* Whether a silent client is there still (RFC 6455 §5.5.2): looks at each a
 * few times in a ping interval, pings one that was not heard of for that
 * long, and gives up one that stays silent. Looks fall on a common grid, so
 * that many clients cost few wake-ups; no message costs a look at the clock.
 * Only the driver calls these, but for the last. */
#ifndef TWS_ENGINE_KEEPALIVE_H
#define TWS_ENGINE_KEEPALIVE_H

#include "engine/client.h"

/* Sets the timer of a client that is new. */
void tws_keepalive_begin(struct tws_client *client);

/* Its timer has run out. False: it is to be given up for *reason (static
 * text). */
bool tws_keepalive_look(struct tws_client *client, const char **reason);

/* Of a worker that waits for a client's bytes inside of a handler, where the
 * looks leave it alone. A zeroed struct: it begins now. */
struct tws_silence {
    uint64_t since; /* clock */
    bool pinged;
};

/* Pings, or breaks off, where it was silent for that long; returns when to
 * call again. */
uint64_t tws_keepalive_wait(struct tws_client *client,
                            struct tws_silence *silence);

/* For the worker that serves it. True where the pong answers our last ping:
 * it is not the program's. */
bool tws_keepalive_take_pong(struct tws_client *client,
                             const struct tws_event *event);

#endif /* TWS_ENGINE_KEEPALIVE_H */
