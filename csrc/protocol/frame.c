#include "protocol/frame.h"

#include "protocol/close_code.h"

/* Bits of the second byte, and the values of its 7 bits that announce a
 * longer length. */
enum {
    MASK_BIT = 0x80,
    LENGTH_BITS = 0x7f,
    LENGTH_16 = 126,
    LENGTH_64 = 127,
};

static enum tws_status
check_first_byte(uint8_t byte, struct tws_frame_claims claims,
                 struct tws_error *err)
{
    unsigned opcode = byte & 0x0f;
    unsigned rsv = byte & TWS_RSV;
    /* RFC 6455 §5.2: unknown opcodes and reserved bits that no extension
     * gave a meaning fail the connection. */
    if (!tws_opcode_is_known(opcode)
        && (claims.opcodes & (1U << opcode)) == 0) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "got reserved opcode 0x%x, expected 0x0 to "
                                  "0x2 or 0x8 to 0xa",
                                  opcode);
    }
    if ((rsv & ~(unsigned)claims.rsv) != 0) {
        return tws_error_protocol(
            err, TWS_CLOSE_PROTOCOL_ERROR,
            "got reserved bits rsv1=%d rsv2=%d rsv3=%d, expected only those "
            "of the agreed extensions: rsv1=%d rsv2=%d rsv3=%d",
            (rsv & TWS_RSV1) != 0, (rsv & TWS_RSV2) != 0,
            (rsv & TWS_RSV3) != 0, (claims.rsv & TWS_RSV1) != 0,
            (claims.rsv & TWS_RSV2) != 0, (claims.rsv & TWS_RSV3) != 0);
    }
    /* RFC 6455 §5.5: control frames are never fragmented. */
    if (tws_opcode_is_control(opcode) && (byte & TWS_FIN) == 0) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "got a fragmented control frame (opcode "
                                  "0x%x without FIN), expected FIN set",
                                  opcode);
    }
    return TWS_OK;
}

/* RFC 6455 §5.1: a client masks every frame, a server none. */
static enum tws_status
check_mask_bit(bool masked, enum tws_role receiver, struct tws_error *err)
{
    if (receiver == TWS_SERVER && !masked) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "got an unmasked frame from the client, "
                                  "expected a masked one");
    }
    if (receiver == TWS_CLIENT && masked) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "got a masked frame from the server, "
                                  "expected an unmasked one");
    }
    return TWS_OK;
}

/* The longer forms of the length (RFC 6455 §5.2), of which `at_hand` bytes
 * are there. The shortest form is a must, and the top bit is clear. */
static enum tws_status
read_length_16(const uint8_t *data, size_t at_hand, uint64_t *length,
               struct tws_error *err)
{
    if (at_hand < 2) {
        return TWS_AGAIN;
    }
    unsigned value = tws_load_be16(data);
    if (value < LENGTH_16) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "got length %u in 16 bits, expected the "
                                  "shortest form: 7 bits",
                                  value);
    }
    *length = value;
    return TWS_OK;
}

static enum tws_status
read_length_64(const uint8_t *data, size_t at_hand, uint64_t *length,
               struct tws_error *err)
{
    if (at_hand >= 1 && (data[0] & 0x80) != 0) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "got a 64-bit length with its top bit set, "
                                  "expected at most 2^63 - 1");
    }
    /* Six leading zeros leave a value that fits 16 bits. */
    static const uint8_t zeros[6];
    if (at_hand >= sizeof(zeros) && memcmp(data, zeros, sizeof(zeros)) == 0) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "got a length below 65536 in 64 bits, "
                                  "expected the shortest form");
    }
    if (at_hand < sizeof(uint64_t)) {
        return TWS_AGAIN;
    }
    *length = tws_load_be64(data);
    return TWS_OK;
}

/* Sets *length and how many bytes of the header come before the masking
 * key. `size` is at least 2. */
static enum tws_status
read_length(const uint8_t *data, size_t size, uint64_t *length,
            size_t *key_offset, struct tws_error *err)
{
    unsigned opcode = data[0] & 0x0f;
    unsigned length7 = data[1] & LENGTH_BITS;
    /* RFC 6455 §5.5: at most 125 bytes. */
    if (tws_opcode_is_control(opcode) && length7 > TWS_CONTROL_PAYLOAD_MAX) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "got a control frame (opcode 0x%x) with a "
                                  "payload over 125 bytes, expected at most "
                                  "125",
                                  opcode);
    }
    switch (length7) {
    case LENGTH_16:
        *key_offset = 4;
        return read_length_16(data + 2, size - 2, length, err);
    case LENGTH_64:
        *key_offset = 10;
        return read_length_64(data + 2, size - 2, length, err);
    default:
        *key_offset = 2;
        *length = length7;
        return TWS_OK;
    }
}

/* Results go out at the very end: a caller's header is whole or untouched.
 * `receiver` is NULL where either mask bit will do. */
static inline enum tws_status
decode(const uint8_t *data, size_t size, const enum tws_role *receiver,
       struct tws_frame_claims claims, struct tws_frame_header *header,
       size_t *consumed, struct tws_error *err)
{
    if (size < 1) {
        return TWS_AGAIN;
    }
    enum tws_status status = check_first_byte(data[0], claims, err);
    if (status != TWS_OK) {
        return status;
    }
    if (size < 2) {
        return TWS_AGAIN;
    }
    bool masked = (data[1] & MASK_BIT) != 0;
    if (receiver != NULL) {
        status = check_mask_bit(masked, *receiver, err);
        if (status != TWS_OK) {
            return status;
        }
    }
    uint64_t length;
    size_t key_offset;
    status = read_length(data, size, &length, &key_offset, err);
    if (status != TWS_OK) {
        return status;
    }
    size_t header_size = key_offset + (masked ? sizeof(header->key) : 0);
    if (size < header_size) {
        return TWS_AGAIN;
    }
    *header = (struct tws_frame_header){
        .length = length,
        .opcode = data[0] & 0x0f,
        .rsv = data[0] & TWS_RSV,
        .fin = (data[0] & TWS_FIN) != 0,
        .masked = masked,
    };
    if (masked) {
        memcpy(header->key, data + key_offset, sizeof(header->key));
    }
    *consumed = header_size;
    return TWS_OK;
}

enum tws_status
tws_frame_header_decode(const uint8_t *data, size_t length,
                        enum tws_role receiver, struct tws_frame_claims claims,
                        struct tws_frame_header *header, size_t *consumed,
                        struct tws_error *err)
{
    return decode(data, length, &receiver, claims, header, consumed, err);
}

enum tws_status
tws_frame_header_decode_any(const uint8_t *data, size_t length,
                            struct tws_frame_claims claims,
                            struct tws_frame_header *header, size_t *consumed,
                            struct tws_error *err)
{
    return decode(data, length, NULL, claims, header, consumed, err);
}

size_t
tws_frame_header_encode(const struct tws_frame_header *header, uint8_t *out)
{
    unsigned mask_bit = header->masked ? MASK_BIT : 0;
    size_t size = 2;
    out[0] = (uint8_t)((header->fin ? TWS_FIN : 0) | (header->rsv & TWS_RSV)
                       | (header->opcode & 0x0f));
    if (header->length < LENGTH_16) {
        out[1] = (uint8_t)(mask_bit | header->length);
    }
    else if (header->length <= UINT16_MAX) {
        out[1] = (uint8_t)(mask_bit | LENGTH_16);
        tws_store_be16(out + size, (uint16_t)header->length);
        size += sizeof(uint16_t);
    }
    else {
        out[1] = (uint8_t)(mask_bit | LENGTH_64);
        tws_store_be64(out + size, header->length);
        size += sizeof(uint64_t);
    }
    if (header->masked) {
        memcpy(out + size, header->key, sizeof(header->key));
        size += sizeof(header->key);
    }
    return size;
}
