/* deflate-frame (draft-tyoshino-hybi-websocket-perframe-deflate-06): what an
 * offer and an answer say, and what follows from them for either end. Nothing
 * here allocates.
 *
 * Either end says what it asks of the other, whose frames must keep to it;
 * nothing is said back. So an offer and an answer look the same, and each end
 * knows by what it has said itself what to expect. */
#ifndef TWS_PROTOCOL_DEFLATE_FRAME_H
#define TWS_PROTOCOL_DEFLATE_FRAME_H

#include "protocol/compression.h"
#include "protocol/deflate_params.h"

#define TWS_DEFLATE_FRAME TWS_SPAN("deflate-frame")
#define TWS_WEBKIT_DEFLATE_FRAME TWS_SPAN("x-webkit-deflate-frame")

/* The parameters of one offer, or of one answer. Zeroed: none. */
struct tws_deflate_frame {
    bool no_context_takeover;
    uint8_t max_window_bits; /* 8 to 15, or TWS_WINDOW_BITS_NONE */
};

/* Adds a parameter. TWS_REFUSED with http_status 0 where it is unknown,
 * comes twice, or has a value that it must not have: a server declines the
 * offer, a client fails the handshake. */
enum tws_status tws_deflate_frame_read(struct tws_deflate_frame *params,
                                       const struct tws_extension_param *param,
                                       struct tws_error *err);

/* The parameters as a list; returns how many there are. All text is
 * static. */
enum { TWS_DEFLATE_FRAME_PARAMS = 2 };
size_t tws_deflate_frame_list(
    const struct tws_deflate_frame *params,
    struct tws_extension_param list[TWS_DEFLATE_FRAME_PARAMS]);

/* What one end wants. */
struct tws_deflate_frame_settings {
    struct tws_deflate_settings out; /* how this end deflates; its window is
                                      * what the peer asks for, where that is
                                      * less */
    size_t threshold;                /* see struct tws_compression_terms */
    bool out_takeover;               /* where the peer does not mind */
    struct tws_deflate_frame asked;  /* of the peer: what to offer, or to
                                      * answer */
};

/* The terms of this end after the other has said `theirs`. */
struct tws_compression_terms
tws_deflate_frame_agree(const struct tws_deflate_frame_settings *settings,
                        const struct tws_deflate_frame *theirs);

#endif /* TWS_PROTOCOL_DEFLATE_FRAME_H */
