#include "loop/timers.h"

#include <stdlib.h>
#include <time.h>

enum { FIRST_CAPACITY = 64 };

/* A test counts the comparisons, to know the cost without a clock. */
#ifndef TWS_TIMERS_COMPARED
#define TWS_TIMERS_COMPARED() ((void)0)
#endif

uint64_t
tws_clock_now(void)
{
    /* Cannot fail: the clock is there and the address is good. */
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void
tws_timers_release(struct tws_timers *timers)
{
    free(timers->heap);
    *timers = (struct tws_timers){0};
}

static bool
is_earlier(const struct tws_timer_entry *a, const struct tws_timer_entry *b)
{
    TWS_TIMERS_COMPARED();
    return a->deadline < b->deadline;
}

/* Positions count from 1: those below `position` are WIDTH of them, beginning
 * here. Wide, as each step writes into another timer's memory. */
enum { WIDTH = 4 };

static size_t
first_below(size_t position)
{
    return (position - 1) * WIDTH + 2;
}

static size_t
above(size_t position)
{
    return (position - 2) / WIDTH + 1;
}

static void
place(struct tws_timers *timers, const struct tws_timer_entry *entry,
      size_t position)
{
    timers->heap[position - 1] = *entry;
    entry->timer->position = position;
}

/* Puts the entry into the free position or, while those above it are later,
 * nearer to the top. */
static void
sift_up(struct tws_timers *timers, const struct tws_timer_entry *entry,
        size_t position)
{
    while (position > 1) {
        struct tws_timer_entry *up = &timers->heap[above(position) - 1];
        if (!is_earlier(entry, up)) {
            break;
        }
        place(timers, up, position);
        position = above(position);
    }
    place(timers, entry, position);
}

static void
sift_down(struct tws_timers *timers, const struct tws_timer_entry *entry,
          size_t position)
{
    while (first_below(position) <= timers->count) {
        size_t first = first_below(position);
        size_t earliest = first;
        for (size_t i = first + 1; i < first + WIDTH && i <= timers->count;
             i++) {
            if (is_earlier(&timers->heap[i - 1],
                           &timers->heap[earliest - 1])) {
                earliest = i;
            }
        }
        if (!is_earlier(&timers->heap[earliest - 1], entry)) {
            break;
        }
        place(timers, &timers->heap[earliest - 1], position);
        position = earliest;
    }
    place(timers, entry, position);
}

static void
sift(struct tws_timers *timers, const struct tws_timer_entry *entry,
     size_t position)
{
    if (position > 1
        && is_earlier(entry, &timers->heap[above(position) - 1])) {
        sift_up(timers, entry, position);
    }
    else {
        sift_down(timers, entry, position);
    }
}

static bool
grow(struct tws_timers *timers)
{
    if (timers->count < timers->capacity) {
        return true;
    }
    if (timers->capacity > SIZE_MAX / 2 / sizeof(timers->heap[0])) {
        return false;
    }
    size_t capacity =
        timers->capacity == 0 ? FIRST_CAPACITY : timers->capacity * 2;
    struct tws_timer_entry *heap =
        realloc(timers->heap, capacity * sizeof(heap[0]));
    if (heap == NULL) {
        return false;
    }
    timers->heap = heap;
    timers->capacity = capacity;
    return true;
}

enum tws_status
tws_timers_set(struct tws_timers *timers, struct tws_timer *timer,
               uint64_t deadline)
{
    struct tws_timer_entry entry = {.deadline = deadline, .timer = timer};
    if (timer->position != 0) {
        sift(timers, &entry, timer->position);
        return TWS_OK;
    }
    if (!grow(timers)) {
        return TWS_NOMEM;
    }
    timers->count++;
    sift_up(timers, &entry, timers->count);
    return TWS_OK;
}

void
tws_timers_cancel(struct tws_timers *timers, struct tws_timer *timer)
{
    size_t position = timer->position;
    if (position == 0) {
        return;
    }
    timer->position = 0;
    struct tws_timer_entry last = timers->heap[timers->count - 1];
    timers->count--;
    if (last.timer != timer) {
        sift(timers, &last, position);
    }
}

uint64_t
tws_timers_next(const struct tws_timers *timers)
{
    return timers->count == 0 ? UINT64_MAX : timers->heap[0].deadline;
}

struct tws_timer *
tws_timers_pop(struct tws_timers *timers, uint64_t now)
{
    if (timers->count == 0 || timers->heap[0].deadline > now) {
        return NULL;
    }
    struct tws_timer *timer = timers->heap[0].timer;
    tws_timers_cancel(timers, timer);
    return timer;
}
