/* What leaves for the client of a server goes to the engine by these: without
 * the GIL where it takes longer than that costs, or may have to wait for
 * another thread. */
#ifndef TWS_PYTHON_SERVED_OUT_H
#define TWS_PYTHON_SERVED_OUT_H

#include "python/connection_type.h"

/* tws_client_send_message(); message->at_once is not the caller's. */
enum tws_status tws_served_out_message(struct tws_client *client,
                                       struct tws_client_message *message,
                                       struct tws_error *err);
/* tws_client_send_packed(), of what counts as no message; `marked`: the
 * program has set RSV1 itself, tws_client_send_foreign(). */
enum tws_status tws_served_out_packed(struct tws_client *client,
                                      struct tws_span frames,
                                      enum tws_standing standing, bool marked,
                                      struct tws_error *err);
/* tws_client_begin_stream() */
enum tws_status tws_served_out_begin(struct tws_client *client,
                                     const void *stream,
                                     enum tws_compress compress,
                                     struct tws_error *err);
/* tws_client_send_fragment() */
enum tws_status tws_served_out_fragment(struct tws_client *client,
                                        uint8_t opcode, bool fin,
                                        const struct tws_span parts[2],
                                        struct tws_error *err);
/* tws_client_pack_shared() */
enum tws_status tws_served_out_pack(const struct tws_client *client,
                                    uint8_t opcode, struct tws_span payload,
                                    struct tws_buffer *out,
                                    struct tws_error *err);

#endif /* TWS_PYTHON_SERVED_OUT_H */
