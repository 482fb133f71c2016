/* Whether a peer's system still takes what is sent to it, whatever its
 * program does. */
#ifndef TWS_NET_PROGRESS_H
#define TWS_NET_PROGRESS_H

#include "protocol/status.h"

struct tws_progress {
    uint64_t acknowledged; /* bytes that the peer's system has confirmed */
    bool outstanding;      /* more than those were written */
};

/* False where the system does not tell: *progress is zeroed then. Of TCP on
 * Linux it does. */
bool tws_progress_read(int fd, struct tws_progress *progress);

#endif /* TWS_NET_PROGRESS_H */
