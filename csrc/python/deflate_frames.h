/* Compressing and inflating whole payloads, and frames: what `websocket` and
 * `Connection` do with the terms that were agreed on, and the extensions
 * themselves where they are asked frame by frame. */
#ifndef TWS_PYTHON_DEFLATE_FRAMES_H
#define TWS_PYTHON_DEFLATE_FRAMES_H

#include "python/state.h"

#include "protocol/compression.h"
#include "protocol/frame.h"

/* tws_compression_deflate(), without the GIL where that pays. */
enum tws_status tws_deflate_apart(struct tws_compression *compression,
                                  struct tws_span data, bool end,
                                  struct tws_buffer *out,
                                  struct tws_error *err);

/* Whether a frame that is to be sent is compressed: a whole message, or with
 * deflate-frame any data frame. One that has RSV1 already is not, nor is a
 * fragment of a message (RFC 7692 §6.1), which only its first frame could
 * mark. */
bool tws_deflate_takes_frame(const struct tws_compression *compression,
                             PyObject *frame);

/* The compressed form of such a frame: a new Frame with RSV1. With the right
 * to compress. TWS_OK with *compressed, which is NULL with an exception where
 * Python lacks memory. */
enum tws_status tws_deflate_frame(struct tws_state *state,
                                  struct tws_compression *compression,
                                  PyObject *frame, PyObject **compressed,
                                  struct tws_error *err);

/* Whether a frame that was received goes to tws_inflate_frame(). `amid`: a
 * compressed message is unfinished. */
static inline bool
tws_inflate_takes(bool amid, uint8_t opcode, uint8_t rsv)
{
    return (rsv & TWS_RSV1) != 0 || (amid && !tws_opcode_is_control(opcode));
}

/* What such a frame means: a new Frame without RSV1. `amid` as above, kept
 * from frame to frame. TWS_OK with *inflated, as above. TWS_PROTOCOL: 1002
 * where RSV1 is misplaced (RFC 7692 §6, §7.2.3), 1007 for broken data, 1009
 * where it makes more than `limit` bytes, none of which are made. */
enum tws_status tws_inflate_frame(struct tws_state *state,
                                  struct tws_compression *compression,
                                  bool *amid, uint64_t limit, PyObject *frame,
                                  PyObject **inflated, struct tws_error *err);

#endif /* TWS_PYTHON_DEFLATE_FRAMES_H */
