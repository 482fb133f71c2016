#include "protocol/frame_reader.h"

#include "protocol/mask.h"
#include "protocol/utf8.h"

#include <assert.h>

void
tws_frame_reader_init(struct tws_frame_reader *reader, enum tws_role role)
{
    *reader = (struct tws_frame_reader){.role = (uint8_t)role};
}

static enum tws_status
decode(struct tws_frame_reader *reader, const uint8_t *data, size_t length,
       size_t *consumed, struct tws_error *err)
{
    struct tws_frame_claims claims = {
        .rsv = reader->rsv_allowed,
        .opcodes = reader->opcodes_allowed,
    };
    return tws_frame_header_decode(data, length, (enum tws_role)reader->role,
                                   claims, &reader->header, consumed, err);
}

/* A header that is not whole in the input is put together in `partial`. */
static enum tws_status
read_header(struct tws_frame_reader *reader, struct tws_input *input,
            struct tws_error *err)
{
    size_t consumed;
    enum tws_status status;
    if (TWS_LIKELY(reader->partial_length == 0)) {
        status = decode(reader, input->data, input->length, &consumed, err);
        if (TWS_LIKELY(status == TWS_OK)) {
            input->data += consumed;
            input->length -= consumed;
            return TWS_OK;
        }
        if (status != TWS_AGAIN) {
            return status;
        }
    }
    size_t had = reader->partial_length;
    size_t add = sizeof(reader->partial) - had;
    if (add > input->length) {
        add = input->length;
    }
    if (add > 0) {
        memcpy(reader->partial + had, input->data, add);
    }
    status = decode(reader, reader->partial, had + add, &consumed, err);
    if (status == TWS_OK) {
        /* What was copied beyond the header stays in the input. */
        input->data += consumed - had;
        input->length -= consumed - had;
        reader->partial_length = 0;
    }
    else if (status == TWS_AGAIN) {
        input->data += add;
        input->length -= add;
        reader->partial_length = (uint8_t)(had + add);
    }
    return status;
}

enum tws_status
tws_frame_reader_next(struct tws_frame_reader *reader, struct tws_input *input,
                      struct tws_piece *piece, struct tws_error *err)
{
    bool first = !reader->in_payload;
    if (first) {
        if (input->length == 0) {
            return TWS_AGAIN;
        }
        enum tws_status status = read_header(reader, input, err);
        if (status != TWS_OK) {
            return status;
        }
        reader->left = reader->header.length;
        reader->in_payload = true;
    }
    else if (input->length == 0) {
        return TWS_AGAIN;
    }
    size_t length = input->length;
    if (length > reader->left) {
        length = (size_t)reader->left;
    }
    uint8_t *data = input->data;
    input->data += length;
    input->length -= length;
    tws_frame_reader_skip(reader, data, length, piece);
    piece->first = first;
    return TWS_OK;
}

void
tws_frame_reader_skip(struct tws_frame_reader *reader, uint8_t *data,
                      size_t length, struct tws_piece *piece)
{
    assert(reader->in_payload && length <= reader->left);
    *piece = (struct tws_piece){
        .header = &reader->header,
        .data = data,
        .length = length,
        .offset = reader->header.length - reader->left,
        .last = length == reader->left,
    };
    reader->left -= length;
    reader->in_payload = reader->left > 0;
}

void
tws_piece_copy(const struct tws_piece *piece, uint8_t *dst)
{
    if (piece->header->masked) {
        tws_mask(dst, piece->data, piece->length, piece->header->key,
                 piece->offset);
    }
    else if (dst != piece->data && piece->length > 0) {
        memcpy(dst, piece->data, piece->length);
    }
}

bool
tws_piece_copy_ascii(const struct tws_piece *piece, uint8_t *dst)
{
    if (piece->header->masked) {
        return tws_mask_ascii(dst, piece->data, piece->length,
                              piece->header->key, piece->offset);
    }
    tws_piece_copy(piece, dst);
    return tws_utf8_is_ascii(dst, piece->length);
}
