#include "loop/condition.h"

#include <time.h>

#define SECOND ((uint64_t)1000 * 1000 * 1000)

enum tws_status
tws_condition_init(pthread_cond_t *condition, struct tws_error *err)
{
    pthread_condattr_t attributes;
    int failure = pthread_condattr_init(&attributes);
    if (failure != 0) {
        return tws_error_os(err, failure, "pthread_condattr_init");
    }
    failure = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (failure == 0) {
        failure = pthread_cond_init(condition, &attributes);
    }
    (void)pthread_condattr_destroy(&attributes);
    return failure == 0 ? TWS_OK
                        : tws_error_os(err, failure, "pthread_cond_init");
}

bool
tws_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                   uint64_t deadline)
{
    if (deadline == UINT64_MAX) {
        (void)pthread_cond_wait(condition, mutex);
        return true;
    }
    struct timespec until = {
        .tv_sec = (time_t)(deadline / SECOND),
        .tv_nsec = (long)(deadline % SECOND),
    };
    return pthread_cond_timedwait(condition, mutex, &until) == 0;
}
