/* Condition variables that wait until a time of tws_clock_now(). */
#ifndef TWS_LOOP_CONDITION_H
#define TWS_LOOP_CONDITION_H

#include "protocol/status.h"

#include <pthread.h>

/* To be ended with pthread_cond_destroy(). TWS_OS on failure. */
enum tws_status tws_condition_init(pthread_cond_t *condition,
                                   struct tws_error *err);

/* Waits with `mutex` held, as pthread_cond_wait() does; UINT64_MAX: without
 * a limit. False: the deadline has passed. */
bool tws_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                        uint64_t deadline);

#endif /* TWS_LOOP_CONDITION_H */
