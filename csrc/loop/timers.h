/* Deadlines: a heap of timers that live inside other structs. Setting
 * and cancelling cost O(log n). Not thread-safe. */
#ifndef TWS_LOOP_TIMERS_H
#define TWS_LOOP_TIMERS_H

#include "protocol/status.h"

/* A zeroed struct is a timer that is not set. */
struct tws_timer {
    size_t position; /* in the heap, counted from 1; 0: not set */
};

struct tws_timer_entry {
    uint64_t deadline;       /* nanoseconds of tws_clock_now() */
    struct tws_timer *timer; /* borrowed */
};

/* A zeroed struct has no timers. */
struct tws_timers {
    struct tws_timer_entry *heap; /* owned */
    size_t count;
    size_t capacity;
};

/* Nanoseconds of the monotonic clock. */
uint64_t tws_clock_now(void);

/* Frees the array; timers still set are forgotten. */
void tws_timers_release(struct tws_timers *timers);

/* Sets a timer, or moves one that is set. TWS_NOMEM leaves it as it was. */
enum tws_status tws_timers_set(struct tws_timers *timers,
                               struct tws_timer *timer, uint64_t deadline);
/* Nothing happens where it is not set. */
void tws_timers_cancel(struct tws_timers *timers, struct tws_timer *timer);

/* The next deadline, or UINT64_MAX where no timer is set. */
uint64_t tws_timers_next(const struct tws_timers *timers);

/* Takes out the earliest timer whose deadline is at or before `now`, or
 * returns NULL. */
struct tws_timer *tws_timers_pop(struct tws_timers *timers, uint64_t now);

#endif /* TWS_LOOP_TIMERS_H */
