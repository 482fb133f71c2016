/* What the thread that turns a server's loop carries with it from client to
 * client: the buffer it reads into, how far it has got in it, and the frames
 * that leave together when a client's turn ends. */
#ifndef TWS_ENGINE_DRIVER_H
#define TWS_ENGINE_DRIVER_H

#include "protocol/buffer.h"
#include "protocol/frame_reader.h"

struct tws_client;

enum { TWS_SCRATCH_SIZE = 64 * 1024 };

/* How the client being served ended. */
struct tws_ending {
    bool over;
    bool lost;     /* without a closing handshake: nothing can be sent */
    bool ours;     /* it broke a rule or a limit, and we closed */
    uint16_t code; /* of the Close frame that ended it, or 1006 */
    size_t reason_length;
    char reason[sizeof(((struct tws_error *)NULL)->reason)];
};

struct tws_driver {
    uint8_t *scratch;          /* owned; TWS_SCRATCH_SIZE bytes */
    struct tws_input cursor;   /* what is not parsed of it */
    struct tws_buffer out;     /* frames of the client being served */
    struct tws_client *client; /* being served, or NULL; borrowed */
    unsigned reads;            /* of this client in this turn */
    bool drained;              /* the last read emptied the socket */
    struct tws_ending ending;  /* of `client` */
};

enum tws_status tws_driver_init(struct tws_driver *driver,
                                struct tws_error *err);
void tws_driver_release(struct tws_driver *driver);

/* Notes how the client being served ended. `reason` is cut to fit. */
void tws_driver_end(struct tws_driver *driver, uint16_t code,
                    struct tws_span reason);

#endif /* TWS_ENGINE_DRIVER_H */
