/* Whether a driver looks again and again for a while before it sleeps: where
 * one peer answers within microseconds, falling asleep and being woken takes
 * both longer and more of the processor than that.
 *
 * It is tried only after many waits in a row that were short and ended by the
 * same descriptor alone: with several clients, those that become ready while
 * the driver sleeps are cheaper to serve together. In vain (the peer needs
 * this very processor, or has gone quiet) it is given up for ever longer. */
#ifndef TWS_ENGINE_SPIN_H
#define TWS_ENGINE_SPIN_H

#include "protocol/base.h"

/* Nanoseconds: about as long as it takes to sleep and to be woken. */
enum { TWS_SPIN_MAX = 50 * 1000 };

/* A zeroed struct is ready for use. */
struct tws_spin {
    const void *last;  /* what alone ended the last wait; not dereferenced */
    uint32_t streak;   /* waits in a row that were short and ended by it */
    uint32_t failures; /* spins in vain of late */
};

/* True where the next wait may be worth it. */
bool tws_spin_is_worth_it(const struct tws_spin *spin);

/* True where it may matter how long the next wait takes; */
static inline bool
tws_spin_watches(const struct tws_spin *spin)
{
    return spin->last != NULL;
}

/* and it does, now that it was ended by `data`. */
static inline bool
tws_spin_would_note(const struct tws_spin *spin, const void *data)
{
    return spin->last != NULL && spin->last == data;
}

/* A wait has ended: by `data`, or where it was not one descriptor alone, by
 * NULL. `waited` nanoseconds, which matter where the two above say so;
 * `spinning`: while it was looked again and again. */
void tws_spin_note(struct tws_spin *spin, const void *data, uint64_t waited,
                   bool spinning);
/* Nothing came in that time. */
void tws_spin_fail(struct tws_spin *spin);

#endif /* TWS_ENGINE_SPIN_H */
