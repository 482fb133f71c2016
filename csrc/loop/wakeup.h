/* A descriptor that another thread, or a signal handler, makes readable:
 * eventfd where the system has it, else a non-blocking pipe. Several
 * notifications before a drain cost one system call together. */
#ifndef TWS_LOOP_WAKEUP_H
#define TWS_LOOP_WAKEUP_H

#include "protocol/status.h"

#include <stdatomic.h>

struct tws_wakeup {
    int read_fd;         /* owned; to be waited on for readability */
    int write_fd;        /* owned; the same as read_fd with eventfd */
    atomic_bool pending; /* a notification has not been drained yet */
};

/* TWS_OS on failure, which leaves nothing to finish. */
enum tws_status tws_wakeup_init(struct tws_wakeup *wakeup,
                                struct tws_error *err);
void tws_wakeup_fini(struct tws_wakeup *wakeup);

/* Makes it readable. Any thread, and a signal handler; keeps errno. */
void tws_wakeup_notify(struct tws_wakeup *wakeup);

/* Takes the notification out once `read_fd` is readable; whatever was written
 * to memory before a notification that it took is visible after it. One
 * thread at a time. */
void tws_wakeup_drain(struct tws_wakeup *wakeup);

#endif /* TWS_LOOP_WAKEUP_H */
