#include "load.h"

#include <stdlib.h>
#include <string.h>

enum {
    LENGTH = 0x7f,
    INFLATED = 16 * 1024, /* bytes at a time */
};

/* Contents ---------------------------------------------------------------- */

/* Compares the next bytes of a message with what was sent. */
static void
compare(struct load *load, struct peer *peer, const uint8_t *data,
        size_t length)
{
    struct incoming *in = &peer->in;
    const uint8_t *payload =
        content_variant(load, peer, peer->received)->payload;
    uint8_t stamp[STAMP_MAX];
    size_t stamped = content_stamp(load, peer, peer->received, stamp);
    size_t at = in->compared;
    in->compared += length;
    if (in->differs || length > load->plan.size - at) {
        in->differs = true;
        return;
    }
    if (at < stamped) {
        size_t part = stamped - at < length ? stamped - at : length;
        in->differs = memcmp(data, stamp + at, part) != 0;
        data += part;
        at += part;
        length -= part;
    }
    in->differs = in->differs || memcmp(data, payload + at, length) != 0;
}

static bool
inflate_part(struct load *load, struct peer *peer, const uint8_t *data,
             size_t length)
{
    struct incoming *in = &peer->in;
    uint8_t out[INFLATED];
    if (in->inflate == NULL) {
        in->inflate = load_allocate(1, sizeof(*in->inflate));
        if (inflateInit2(in->inflate, -MAX_WBITS) != Z_OK) {
            load_fail("inflateInit2 failed");
        }
    }
    in->inflate->next_in = (z_const Bytef *)data;
    in->inflate->avail_in = (uInt)length;
    do {
        in->inflate->next_out = out;
        in->inflate->avail_out = sizeof(out);
        int result = inflate(in->inflate, Z_SYNC_FLUSH);
        if (result != Z_OK && result != Z_BUF_ERROR) {
            load_fault(load, peer, "got data that does not inflate");
            return false;
        }
        compare(load, peer, out, sizeof(out) - in->inflate->avail_out);
    } while (in->inflate->avail_out == 0);
    return true;
}

static bool
take_payload(struct load *load, struct peer *peer, const uint8_t *data,
             size_t length)
{
    struct incoming *in = &peer->in;
    if ((in->head[0] & OPCODE_CLOSE) != 0) {
        memcpy(in->control + in->control_length, data, length);
        in->control_length = (uint8_t)(in->control_length + length);
        return true;
    }
    if (in->deflated) {
        return inflate_part(load, peer, data, length);
    }
    compare(load, peer, data, length);
    return true;
}

/* Frames ------------------------------------------------------------------ */

/* The bytes of a header whose first `have` (at least two) are known. */
static size_t
header_size(const uint8_t *head)
{
    unsigned length = head[1] & LENGTH;
    return length < 126 ? 2 : length == 126 ? 4 : 10;
}

static bool
check_data_header(struct load *load, struct peer *peer)
{
    struct incoming *in = &peer->in;
    uint8_t first = in->head[0];
    uint8_t expected = in->in_message ? OPCODE_CONTINUATION : load->opcode;
    uint8_t allowed =
        load->plan.compress && !in->in_message ? FIN | RSV1 : FIN;
    if ((first & 0x0f) != expected || (first & 0xf0 & ~allowed) != 0) {
        load_fault(load, peer,
                   "got a frame that starts %02x %02x, expected opcode %x",
                   first, in->head[1], expected);
        return false;
    }
    if (!in->in_message) {
        if (peer->received == peer->sent && load->plan.mode != MODE_FANOUT) {
            load_fault(load, peer, "got a message that was not sent");
            return false;
        }
        in->in_message = true;
        in->deflated = (first & RSV1) != 0;
        in->differs = false;
        in->compared = 0;
    }
    return true;
}

/* The whole header is in head. */
static bool
begin_frame(struct load *load, struct peer *peer)
{
    struct incoming *in = &peer->in;
    size_t size = header_size(in->head);
    in->left = in->head[1] & LENGTH;
    if (size > 2) {
        in->left = 0;
        for (size_t i = 2; i < size; i++) {
            in->left = in->left << 8 | in->head[i];
        }
    }
    in->in_payload = true;
    in->control_length = 0;
    if ((in->head[0] & OPCODE_CLOSE) == 0) {
        return check_data_header(load, peer);
    }
    if ((in->head[0] & 0xf0) != FIN || (in->head[0] & 0x0f) > OPCODE_PONG
        || in->left > CONTROL_MAX || size > 2) {
        load_fault(load, peer, "got a control frame that starts %02x %02x",
                   in->head[0], in->head[1]);
        return false;
    }
    return true;
}

static bool
end_message(struct load *load, struct peer *peer)
{
    static const uint8_t tail[] = {0x00, 0x00, 0xff, 0xff};
    struct incoming *in = &peer->in;
    /* RFC 7692 section 7.2.2. */
    if (in->deflated && !inflate_part(load, peer, tail, sizeof(tail))) {
        return false;
    }
    in->in_message = false;
    if (in->differs || in->compared != load->plan.size) {
        load_fault(load, peer, "echo %u differs", (unsigned)peer->received);
    }
    else {
        load->counts.messages++;
        load->counts.deflated += in->deflated;
    }
    modes_arrived(load, peer);
    return true;
}

static bool
end_frame(struct load *load, struct peer *peer)
{
    struct incoming *in = &peer->in;
    unsigned opcode = in->head[0] & 0x0f;
    in->in_payload = false;
    in->head_length = 0;
    if (opcode == OPCODE_CLOSE) {
        if (!peer->close_sent) {
            load_fault(load, peer, "closed by the server with code %d",
                       in->control_length < 2
                           ? 1005
                           : in->control[0] << 8 | in->control[1]);
        }
        return false;
    }
    if (opcode == OPCODE_PING
        && !content_put_control(load, peer, OPCODE_PONG, in->control,
                                in->control_length)) {
        load_fault(load, peer, "too many pings to answer");
        return false;
    }
    if (opcode < OPCODE_CLOSE && (in->head[0] & FIN) != 0) {
        return end_message(load, peer);
    }
    return true;
}

bool
reading_take(struct load *load, struct peer *peer, const uint8_t *data,
             size_t length)
{
    struct incoming *in = &peer->in;
    while (length > 0 || (in->in_payload && in->left == 0)) {
        if (!in->in_payload) {
            in->head[in->head_length++] = *data++;
            length--;
            if (in->head_length >= 2
                && in->head_length == header_size(in->head)
                && !begin_frame(load, peer)) {
                return false;
            }
            continue;
        }
        size_t part = in->left < length ? (size_t)in->left : length;
        if (part > 0 && !take_payload(load, peer, data, part)) {
            return false;
        }
        data += part;
        length -= part;
        in->left -= part;
        if (in->left == 0 && !end_frame(load, peer)) {
            return false;
        }
    }
    return true;
}

void
reading_forget(struct incoming *in)
{
    if (in->inflate != NULL) {
        (void)inflateEnd(in->inflate);
        free(in->inflate);
    }
    *in = (struct incoming){0};
}
