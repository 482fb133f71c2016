/* Cuts a stream of bytes into frames, wherever the bytes were split: hands
 * out each frame's payload in the pieces in which it arrives, so that
 * nothing is copied or kept here but an unfinished header. */
#ifndef TWS_PROTOCOL_FRAME_READER_H
#define TWS_PROTOCOL_FRAME_READER_H

#include "protocol/frame.h"

struct tws_frame_reader {
    struct tws_frame_header header; /* of the frame being read */
    uint64_t left;                  /* its payload bytes still to come */
    uint8_t partial[TWS_FRAME_HEADER_MAX]; /* unfinished header */
    uint8_t partial_length;
    bool in_payload;
    uint8_t rsv_allowed;      /* reserved bits that an extension has claimed */
    uint8_t role;             /* enum tws_role of the end that reads */
    uint16_t opcodes_allowed; /* the same of reserved opcodes, bit i for i */
};

/* A part of one frame's payload, possibly empty. */
struct tws_piece {
    const struct tws_frame_header *header; /* borrowed from the reader */
    uint8_t *data; /* as on the wire, masked where header->masked; borrowed
                    * from the input */
    size_t length;
    uint64_t offset; /* in the payload */
    bool first;      /* the header was completed with this piece */
    bool last;       /* the frame ends with this piece */
};

/* What is to be read from; the reader steps `data` forward. */
struct tws_input {
    uint8_t *data;
    size_t length;
};

void tws_frame_reader_init(struct tws_frame_reader *reader,
                           enum tws_role role);

/* Between two frames. */
static inline bool
tws_frame_reader_is_at_rest(const struct tws_frame_reader *reader)
{
    return !reader->in_payload && reader->partial_length == 0;
}

/* The next piece. The first of a frame comes as soon as its header is
 * complete, even without payload, so that limits act on the header alone.
 * TWS_AGAIN: the input is used up. TWS_PROTOCOL: see frame.h; the stream is
 * broken for good, and the reader must not be called again. */
enum tws_status tws_frame_reader_next(struct tws_frame_reader *reader,
                                      struct tws_input *input,
                                      struct tws_piece *piece,
                                      struct tws_error *err);

/* Counts `length` payload bytes (at most reader->left) that went past the
 * input straight into their place, and describes them as a piece. */
void tws_frame_reader_skip(struct tws_frame_reader *reader, uint8_t *data,
                           size_t length, struct tws_piece *piece);

/* Copies a piece's payload, unmasked, to `dst` (the same memory or one that
 * does not overlap). The second form says whether all of it is ASCII. */
void tws_piece_copy(const struct tws_piece *piece, uint8_t *dst);
bool tws_piece_copy_ascii(const struct tws_piece *piece, uint8_t *dst);

#endif /* TWS_PROTOCOL_FRAME_READER_H */
