/* How a connection ended, and what is known of why: what a CloseMessage, a
 * SocketClosed and a line of the log tell of it. */
#ifndef TWS_PROTOCOL_ENDING_H
#define TWS_PROTOCOL_ENDING_H

#include "protocol/close_code.h"

/* Who ended it. */
enum tws_ended_by {
    TWS_ENDED_BY_PEER,      /* its Close frame came before ours */
    TWS_ENDED_BY_US,        /* the program closed it, or its server stopped */
    TWS_ENDED_BY_NETWORK,   /* the stream ended or failed on its own */
    TWS_ENDED_BY_LIMIT,     /* the peer broke a rule or a limit */
    TWS_ENDED_BY_KEEPALIVE, /* the peer did not answer a ping in time */
};

struct tws_ending {
    uint8_t by;    /* enum tws_ended_by */
    uint16_t code; /* what the program is told: of a Close frame, or 1006 */
    char reason[TWS_CLOSE_REASON_MAX + 1]; /* with it; ends with a NUL */
    uint8_t reason_length;

    uint16_t sent_code; /* of our Close frame; 0: none was sent; 1005: it
                         * had no code */
    char sent_reason[TWS_CLOSE_REASON_MAX + 1];
    uint16_t received_code; /* of the peer's, in the same way */
    char received_reason[TWS_CLOSE_REASON_MAX + 1];

    int sys_errno;     /* that ended the stream; 0: none */
    uint64_t unsent;   /* bytes that the kernel had not taken */
    uint64_t ping_age; /* nanoseconds since our last ping that is not
                        * answered; UINT64_MAX: none */
};

/* A zeroed struct with `ping_age` set to UINT64_MAX says nothing. */
void tws_ending_clear(struct tws_ending *ending);

/* Cuts a reason to what fits, at the beginning of a UTF-8 character. */
void tws_ending_set_reason(struct tws_ending *ending, uint16_t code,
                           struct tws_span reason);

/* Note a Close frame that was sent or has come: its code, 1005 for none, and
 * its reason, cut in the same way; a NUL in it becomes '?'. */
void tws_ending_set_sent(struct tws_ending *ending, uint16_t code,
                         struct tws_span reason);
void tws_ending_set_received(struct tws_ending *ending, uint16_t code,
                             struct tws_span reason);

/* 'peer', 'us', 'network', 'limit' or 'keepalive'. */
const char *tws_ended_by_name(enum tws_ended_by by);

enum { TWS_ENDING_LINE_MAX = 640 };

/* One line of what is known, such as "ended by the network: 1006 (Connection
 * reset by peer); sent no Close frame, received none; errno 104; 4096 bytes
 * unsent; ping not answered for 12.3 s". Characters of a reason that would
 * break the line or turn its direction become '?'. Ends with a NUL. */
void tws_ending_describe(const struct tws_ending *ending,
                         char line[TWS_ENDING_LINE_MAX]);

#endif /* TWS_PROTOCOL_ENDING_H */
