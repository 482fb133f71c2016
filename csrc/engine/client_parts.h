/* What the parts of a client share: client.c its life, client_write.c what
 * goes out, client_read.c what comes in. */
#ifndef TWS_ENGINE_CLIENT_PARTS_H
#define TWS_ENGINE_CLIENT_PARTS_H

#include "engine/client.h"
#include "engine/server.h"

/* client.c: nothing more can be sent. Whoever reads next finds the end of the
 * stream, and so the driver learns of it. The first cause counts. */
void tws_client_break_off_lock_held(struct tws_client *client,
                                    enum tws_ended_by by, int sys_errno,
                                    const char *cause);
/* Asks the poller for what the client needs now. */
void tws_client_update_interest_lock_held(struct tws_client *client);
/* Of tws_client_await(). */
void tws_client_wake_waiters_lock_held(struct tws_client *client);

/* client_write.c */
void tws_client_flush_lock_held(struct tws_client *client);
enum tws_status
tws_client_send_control_lock_held(struct tws_client *client,
                                  const struct tws_control *control,
                                  struct tws_error *err);
/* Our Close frame, where none was sent yet. */
enum tws_status tws_client_send_close_lock_held(struct tws_client *client,
                                                uint16_t code,
                                                struct tws_span reason,
                                                struct tws_error *err);

#endif /* TWS_ENGINE_CLIENT_PARTS_H */
