/* What the poller and the timers hand back: the first member of everything
 * that has a descriptor or a deadline in a server's loop. */
#ifndef TWS_ENGINE_WATCH_H
#define TWS_ENGINE_WATCH_H

#include "loop/timers.h"

enum tws_watch_kind {
    TWS_WATCH_LISTENER,
    TWS_WATCH_HANDSHAKE,
    TWS_WATCH_CLIENT,
};

struct tws_watch {
    struct tws_timer timer; /* first, so that a timer leads here */
    /* Of those that wait for the driver; guarded by the pool's lock. */
    struct tws_watch *next_queued;
    uint8_t kind; /* enum tws_watch_kind */
    bool queued;  /* guarded by the pool's lock */
};

#endif /* TWS_ENGINE_WATCH_H */
